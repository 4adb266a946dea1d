//! Connections of HTTP/2 whose beginning is not as usual: lost, long ago, in frames of other lengths than the default, or an upgrade
//! in the midst of a body; and what of a head or of trailers was not kept. Here belongs what a reader may still say of such calls.

use std::sync::Arc;

use bench::collect::value;
use bench::traffic::{Frame as Made, Side};
use engine_core::limits::HEAD_BYTES_MAX;
use engine_core::rules::RuleSet;
use tests::engine::{Reader, Reading, captured};
use tests::http2::*;

use super::http2::{config, made, read, read_frames, summaries};

use Side::{Client, Server};

/// What is read without the segments that end with one of `lost`.
fn without(turns: &Turns, lost: &[&[u8]]) -> Reading {
    let frames = made(turns);
    let is_lost = |frame: &&Made| lost.iter().any(|lost| frame.bytes.ends_with(lost));
    assert_eq!(frames.iter().filter(is_lost).count(), lost.len());
    let kept = frames.iter().filter(|frame| !is_lost(frame));
    read_frames(kept, &config())
}

/// What is read under rules.
fn under(rules: &str, turns: &Turns) -> Vec<String> {
    let mut reader = Reader::new(&config());
    reader.set_rules(Arc::new(RuleSet::parse(rules).expect("rules")));
    for frame in &made(turns) {
        reader.feed(&captured(frame, usize::MAX));
    }
    summaries(&reader.finish(), &[])
}

/// The SYN was captured, and the preface was not, nor the first call: what follows is read as of a connection joined late.
#[test]
fn the_first_segments_were_lost() {
    let settings = frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100]);
    let fields = [
        indexed(2),
        inserted(":path", "/one"),
        inserted(":authority", "shop"),
        inserted("x-key", "of the first call"),
    ]
    .concat();
    let first = [PREFACE, &settings, &headers(END_STREAM, 1, &fields)].concat();
    let second = [
        indexed(2),
        literal(":path", "/two"),
        indexed(63),
        indexed(62),
    ]
    .concat();
    let second = headers(END_STREAM, 3, &second);
    let third = [
        indexed(2),
        inserted(":path", "/three"),
        literal(":authority", "shop"),
    ]
    .concat();
    let third = headers(END_STREAM, 5, &third);
    let fourth = headers(
        END_STREAM,
        7,
        &[indexed(2), indexed(62), literal(":authority", "shop")].concat(),
    );
    let of_server = [settings, ok(1, "one")].concat();
    let turns = vec![
        (Client, first.clone()),
        (Server, of_server.clone()),
        (Client, second),
        (Server, ok(3, "two")),
        (Client, third),
        (Server, ok(5, "three")),
        (Client, fourth),
        (Server, ok(7, "four")),
    ];
    let keys = &["response_body", "custom_field:unknown_fields"];
    let reading = without(&turns, &[&first]);
    assert_eq!(
        summaries(&reading, keys),
        [
            "- - 200 one - gap",
            "GET http:///two 200 two 2 -",
            "GET http://shop/three 200 three - -",
            "GET http://shop/three 200 four - -",
        ]
    );
    assert_eq!(reading.ledger.http.http2_blocks_broken, 0);
    // And the first of the server.
    let reading = without(&turns, &[&first, &of_server]);
    let expected = [
        "GET http:///two 200 two 2 -",
        "GET http://shop/three 200 three - -",
        "GET http://shop/three 200 four - -",
    ];
    assert_eq!(summaries(&reading, keys), expected);
    assert_eq!(reading.ledger.http.flows_http2_midstream, 1);
    // Those of the server alone: its table is not known, that of the client is.
    let reading = without(&turns, &[&of_server]);
    let found = summaries(&reading, keys);
    assert!(
        found.contains(&"GET http://shop/two 200 two - -".to_owned()) && found.len() == 4,
        "{found:?}"
    );
}

/// A connection is used for as many calls as there are ids.
#[test]
fn joined_late_after_millions_of_calls() {
    let mut turns = Vec::new();
    for number in 0..4 {
        let id = 0x7fff_fff1 + 2 * number;
        turns.push((Client, get(id, &format!("/{number}"))));
        turns.push((Server, ok(id, "text")));
    }
    let frames = made(&turns);
    let found = summaries(&read_frames(&frames[3..], &config()), &["response_body"]);
    // It is recognised by the first response, whose request is not read before.
    let expected = [1, 2, 3].map(|number| format!("GET http://h/{number} 200 text -"));
    assert_eq!(found[0], "- - 200 text gap");
    assert_eq!(found[1..4], expected);
}

/// Peers that have allowed it use DATA frames of any length.
#[test]
fn joined_late_with_long_frames() {
    let long = "long ".repeat(20_000);
    let mut turns = Vec::new();
    for id in [201, 203, 205] {
        let fields = [(":method", "POST"), (":authority", "h"), (":path", "/up")];
        let head = headers(0, id, &block(&fields));
        let body = frame(DATA, END_STREAM, id, long.as_bytes());
        turns.push((Client, [head, body].concat()));
        turns.push((Server, ok(id, &long)));
    }
    let frames = made(&turns);
    let reading = read_frames(&frames[3..], &config());
    let found: Vec<_> = reading
        .calls
        .iter()
        .map(|(row, _)| ["request_body", "response_body"].map(|key| value(row, key).map(str::len)))
        .collect();
    assert_eq!(found, [[Some(long.len()); 2]; 3]);
}

/// The server switches as soon as it has the head, and the client first sends the rest of its request.
#[test]
fn an_upgrade_in_the_midst_of_a_body() {
    let head = b"POST /up HTTP/1.1\r\nHost: h\r\nContent-Length: 30\r\nConnection: Upgrade, HTTP2-Settings\r\n\
                 Upgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n0123456789";
    let switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";
    let settings = frame(SETTINGS, 0, 0, &[]);
    let next = [PREFACE, &settings, &get(3, "/next")].concat();
    let turns = |rest: &[&[u8]]| -> Turns {
        let mut turns = vec![
            (Client, head.to_vec()),
            (Server, [&switch[..], &settings].concat()),
        ];
        turns.extend(rest.iter().map(|piece| (Client, piece.to_vec())));
        turns.push((Server, [ok(1, "first"), ok(3, "second")].concat()));
        turns
    };
    let keys = &[
        "request_body",
        "response_body",
        "custom_field:missing_bytes",
        "custom_field:incomplete",
    ];
    let together = [&b"abcdefghijklmnopqrst"[..], &next].concat();
    let expected = [
        "POST http://h/up 200 0123456789abcdefghijklmnopqrst first - - -",
        "GET http://h/next 200 - second - - -",
    ];
    for rest in [
        &[&b"abcdefghijkl"[..], b"mnopqrst", &next][..],
        &[&together[..]],
        &[&together[..30], &together[30..]],
    ] {
        assert_eq!(summaries(&read(&turns(rest)), keys), expected);
    }
    let rest = [&b"abcdefghijkl"[..], b"mnopqrst", &next];
    let found = summaries(&without(&turns(&rest), &[b"abcdefghijkl"]), keys);
    let expected = [
        "POST http://h/up 200 0123456789mnopqrst first 12 true -",
        "GET http://h/next 200 - second - - -",
    ];
    assert_eq!(found, expected);
}

/// A server of HTTP/1 refuses the preface: that is no call, whatever was before it.
#[test]
fn a_preface_behind_calls_of_http1() {
    let preface = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n").into_bytes();
    let answer =
        |status: &str| format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").into_bytes();
    for length in [1, 20, usize::MAX] {
        let mut turns = vec![(Client, get("/a")), (Server, answer("200 OK"))];
        let pieces = preface.chunks(length.min(preface.len()));
        turns.extend(pieces.map(|piece| (Client, piece.to_vec())));
        turns.push((Server, answer("400 Bad Request")));
        turns.push((Client, get("/b")));
        turns.push((Server, answer("204 No Content")));
        let expected = [
            "GET http://h/a 200 -",
            "- - 400 gap",
            "GET http://h/b 204 -",
        ];
        assert_eq!(
            summaries(&read(&turns), &[]),
            expected,
            "pieces of {length}"
        );
    }
}

/// What is not kept of a list that is too long is not known, and a rule may ask for it.
#[test]
fn lists_that_are_too_long_pass_no_rule() {
    let value = "v".repeat(60_000);
    let long: Vec<u8> = (0..=HEAD_BYTES_MAX / value.len())
        .flat_map(|_| literal("x-long", &value))
        .collect();
    let secret = [long, literal("x-secret", "yes")].concat();
    let request = block(&[(":method", "GET"), (":authority", "h"), (":path", "/head")]);
    let of_head = conversation(vec![
        (
            Client,
            headers(END_STREAM, 1, &[request, secret.clone()].concat()),
        ),
        (Server, ok(1, "text")),
    ]);
    let of_trailers = conversation(vec![
        (Client, get(1, "/trailers")),
        (
            Server,
            [headers(0, 1, &indexed(8)), headers(END_STREAM, 1, &secret)].concat(),
        ),
    ]);
    for (turns, expected) in [
        (&of_head, "GET http://h/head 200 oversized"),
        (&of_trailers, "GET http://h/trailers 200 oversized"),
    ] {
        assert_eq!(under("include debug", turns), [expected]);
        let rules = "include debug\n/re.*_header:x-secret/ stop";
        assert_eq!(under(rules, turns), [""; 0], "{expected}");
    }
}

/// Trailers without their head are no response.
#[test]
fn trailers_whose_head_was_lost() {
    let head = headers(0, 1, &indexed(8));
    let trailers = headers(END_STREAM, 1, &block(&[("grpc-status", "0")]));
    let turns = conversation(vec![
        (Client, get(1, "/one")),
        (Server, head.clone()),
        (Server, frame(DATA, 0, 1, b"body")),
        (Server, trailers),
        (Client, get(3, "/two")),
        (Server, ok(3, "two")),
    ]);
    let reading = without(&turns, &[&head]);
    let keys = &["response_body", "response_header:grpc-status"];
    let expected = ["GET http://h/one - - - gap", "GET http://h/two 200 two - -"];
    assert_eq!(summaries(&reading, keys), expected);
    assert_eq!(reading.ledger.http.http2_messages_malformed, 0);
}

/// A stream that was reset is over, though the code was not captured.
#[test]
fn a_reset_without_its_code() {
    let reset = frame(RST_STREAM, 0, 1, &8_u32.to_be_bytes());
    let code = [&reset[9..], &frame(PING, 0, 0, b"pingping")].concat();
    let turns = conversation(vec![
        (Client, get(1, "/one")),
        (Server, reset[..9].to_vec()),
        (Server, code.clone()),
        (Client, get(3, "/two")),
        (Server, ok(3, "two")),
    ]);
    let reading = without(&turns, &[&code]);
    let found = summaries(&reading, &["response_body", "custom_field:reset"]);
    let expected = [
        "GET http://h/one - - - reset",
        "GET http://h/two 200 two - -",
    ];
    assert_eq!(found, expected);
}

/// What was not seen of the settings may have allowed the table that a block sets.
#[test]
fn sizes_of_tables() {
    let larger = frame(SETTINGS, 0, 0, &[0, 1, 0, 1, 0, 0]);
    let malformed = |sizes: &[usize], lost: &[&[u8]]| {
        let sizes = sizes.iter().flat_map(|size| integer(0x20, 5, *size));
        let fields = [(":method", "GET"), (":authority", "h"), (":path", "/")];
        let fields: Vec<_> = sizes.chain(block(&fields)).collect();
        let turns = conversation(vec![
            (Server, larger.clone()),
            (Client, headers(END_STREAM, 1, &fields)),
            (Server, ok(1, "text")),
        ]);
        let reading = without(&turns, lost);
        assert_eq!(reading.ledger.http.responses, 1);
        reading.ledger.http.http2_messages_malformed
    };
    assert_eq!(malformed(&[65_536], &[]), 0);
    assert_eq!(malformed(&[65_537], &[]), 1);
    assert_eq!(malformed(&[65_537], &[&larger]), 0);
    assert_eq!(malformed(&[0, 4096], &[]), 0);
    assert_eq!(malformed(&[0, 64, 4096], &[]), 1);
}
