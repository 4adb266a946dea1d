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

const BODIES_AND_WHAT_IS_MISSING: [&str; 4] = [
    "request_body",
    "response_body",
    "custom_field:missing_bytes",
    "custom_field:incomplete",
];

/// What a client sends first in HTTP/2, with a request.
fn first_of_client() -> Vec<u8> {
    [PREFACE, &frame(SETTINGS, 0, 0, &[]), &get(3, "/next")].concat()
}

/// The server switches behind `beginning`, and answers once the client has sent `rest`.
fn switched_early(beginning: &[u8], rest: &[&[u8]]) -> Turns {
    let switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";
    let settings = frame(SETTINGS, 0, 0, &[]);
    let mut turns = vec![
        (Client, beginning.to_vec()),
        (Server, [&switch[..], &settings].concat()),
    ];
    turns.extend(rest.iter().map(|piece| (Client, piece.to_vec())));
    turns.push((Server, [ok(1, "first"), ok(3, "second")].concat()));
    turns
}

/// The server switches as soon as it has the head, and the client first sends the rest of its request.
#[test]
fn an_upgrade_in_the_midst_of_a_body() {
    let head = b"POST /up HTTP/1.1\r\nHost: h\r\nContent-Length: 30\r\nConnection: Upgrade, HTTP2-Settings\r\n\
                 Upgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n0123456789";
    let next = first_of_client();
    let turns = |rest: &[&[u8]]| switched_early(head, rest);
    let keys = &BODIES_AND_WHAT_IS_MISSING;
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

/// The same, with a body in chunks, of which trailers are the end.
#[test]
fn an_upgrade_in_the_midst_of_a_chunked_body() {
    let head = b"POST /up HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nConnection: Upgrade, HTTP2-Settings\r\n\
                 Upgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n";
    let next = first_of_client();
    let body = b"a\r\n0123456789\r\n14\r\nabcdefghijklmnopqrst\r\n0\r\nx-sum: 1\r\n\r\n";
    let turns = |before: usize, rest: &[&[u8]]| {
        switched_early(&[&head[..], &body[..before]].concat(), rest)
    };
    let keys = &BODIES_AND_WHAT_IS_MISSING;
    let expected = [
        "POST http://h/up 200 0123456789abcdefghijklmnopqrst first - - -",
        "GET http://h/next 200 - second - - -",
    ];
    for before in 0..body.len() {
        let rest = [&body[before..], &next].concat();
        for at in [1, body.len() - before, rest.len() - 1] {
            let found = summaries(&read(&turns(before, &[&rest[..at], &rest[at..]])), keys);
            assert_eq!(found, expected, "{before} bytes, then {at}");
        }
        assert_eq!(summaries(&read(&turns(before, &[&rest])), keys), expected);
    }
    // A loss within a chunk is bridged; behind another one the frames are found again.
    let (first, second) = (&b"abcdefghij"[..], &b"klmnopqrst\r\n0\r\n\r\n"[..]);
    let before = "a\r\n0123456789\r\n14\r\n".len();
    let lossy = turns(before, &[first, second, &next]);
    let found = summaries(&without(&lossy, &[first]), keys);
    let expected = [
        "POST http://h/up 200 0123456789klmnopqrst first 10 true -",
        "GET http://h/next 200 - second - - -",
    ];
    assert_eq!(found, expected);
    let further = [get(5, "/a"), get(7, "/b"), get(9, "/c")].concat();
    let mut lossy = turns(before, &[first, second, &next]);
    lossy.insert(lossy.len() - 1, (Client, further));
    lossy.push((Server, [ok(5, "a"), ok(7, "b"), ok(9, "c")].concat()));
    let found = summaries(&without(&lossy, &[second]), keys);
    let expected = [
        "POST http://h/up 200 0123456789abcdefghij first 10 true -",
        "GET http://h/next 200 - second - - -",
        "GET http://h/a 200 - a - - -",
        "GET http://h/b 200 - b - - -",
        "GET http://h/c 200 - c - - -",
    ];
    assert_eq!(found, expected);
}

/// The answer to an upgrade is lost, with what the server has sent behind it or without: what follows is read all the same.
#[test]
fn an_upgrade_whose_answer_was_lost() {
    let head =
        b"GET /up HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
                 HTTP2-Settings: AAMAAABk\r\n\r\n"
            .to_vec();
    let switch =
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n".to_vec();
    let settings = frame(SETTINGS, 0, 0, &[]);
    let with_settings = [&switch[..], &settings].concat();
    let preface = [PREFACE, &settings].concat();
    let keys = &["response_body"];
    let later = [
        (Client, get(3, "/a")),
        (Server, ok(3, "a")),
        (Client, get(5, "/b")),
        (Server, ok(5, "b")),
    ];
    let expected = [
        "GET http://h/up 200 first -",
        "GET http://h/a 200 a -",
        "GET http://h/b 200 b -",
    ];
    // The response comes behind the preface of the client, or before it, and the settings with the answer, or behind it.
    let orders: [&[(Side, Vec<u8>)]; 4] = [
        &[
            (Server, with_settings.clone()),
            (Client, preface.clone()),
            (Server, ok(1, "first")),
        ],
        &[
            (Server, switch.clone()),
            (Server, settings.clone()),
            (Client, preface.clone()),
            (Server, ok(1, "first")),
        ],
        &[
            (Server, switch.clone()),
            (Server, [settings.clone(), ok(1, "first")].concat()),
            (Client, preface.clone()),
        ],
        &[
            (Server, switch.clone()),
            (Server, [settings.clone(), ok(1, "first")].concat()),
            (Client, preface[..9].to_vec()),
            (Client, preface[9..].to_vec()),
        ],
    ];
    for (number, order) in orders.iter().enumerate() {
        let turns: Turns = [&[(Client, head.clone())], *order, &later].concat();
        assert_eq!(summaries(&read(&turns), keys), expected, "{number}, whole");
        let lost = if number == 0 { &with_settings } else { &switch };
        let reading = without(&turns, &[lost]);
        assert_eq!(summaries(&reading, keys), expected, "{number}");
        assert_eq!(reading.ledger.http.flows_http2_upgraded, 1);
    }
    // A request that asks for nothing else, a preface behind an answer that was read, and another request: HTTP/1.
    let plain = b"GET /up HTTP/1.1\r\nHost: h\r\n\r\n".to_vec();
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\n".to_vec();
    let whole = [&answer[..], &[b'x'; 200]].concat();
    let next = b"GET /next HTTP/1.1\r\nHost: h\r\n\r\n".to_vec();
    let turns = vec![
        (Client, head.clone()),
        (Server, answer.clone()),
        (Server, vec![b'x'; 200]),
        (Client, next.clone()),
        (Server, whole.clone()),
    ];
    let found = summaries(&without(&turns, &[&answer]), &[]);
    assert_eq!(found, ["GET http://h/up - gap", "GET http://h/next 200 -"]);
    let turns = vec![
        (Client, plain),
        (Server, whole.clone()),
        (Client, preface.clone()),
    ];
    let reading = without(&turns, &[&whole]);
    assert_eq!(reading.ledger.http.flows_http2_upgraded, 0);
    let turns = vec![(Client, head), (Server, whole.clone()), (Client, preface)];
    assert_eq!(read(&turns).ledger.http.flows_http2_upgraded, 0);
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

/// What is read of a connection, of which segments are lost, under rules.
fn under_without(rules: &str, turns: &Turns, lost: &[&[u8]]) -> Vec<String> {
    let mut reader = Reader::new(&config());
    reader.set_rules(Arc::new(RuleSet::parse(rules).expect("rules")));
    for frame in &made(turns) {
        if !lost.iter().any(|lost| frame.bytes.ends_with(lost)) {
            reader.feed(&captured(frame, usize::MAX));
        }
    }
    summaries(&reader.finish(), &[])
}

/// Trailers that were lost, or that may have been, pass no rule which asks for a header of theirs.
#[test]
fn trailers_that_were_lost_pass_no_rule() {
    let secret = block(&[("x-secret", "yes"), ("grpc-status", "0")]);
    let of_response = headers(END_STREAM, 1, &secret);
    let of_request = headers(END_STREAM, 3, &secret);
    let fields = [(":method", "POST"), (":authority", "h"), (":path", "/up")];
    let turns = conversation(vec![
        (Client, get(1, "/one")),
        (Server, headers(0, 1, &indexed(8))),
        (Server, frame(DATA, 0, 1, b"body")),
        (Server, of_response.clone()),
        (Client, headers(0, 3, &block(&fields))),
        (Client, frame(DATA, 0, 3, b"body")),
        (Client, of_request.clone()),
        (Server, ok(3, "done")),
        (Client, get(5, "/two")),
        (Server, ok(5, "two")),
        (Client, get(7, "/three")),
        (Server, headers(0, 7, &indexed(8))),
        (Server, frame(DATA, 0, 7, b"part")),
    ]);
    let (one, up, two) = (
        "GET http://h/one 200 -",
        "POST http://h/up 200 -",
        "GET http://h/two 200 -",
    );
    let three = "GET http://h/three 200 -";
    let sorted = |rules: &str, lost: &[&[u8]]| {
        let mut found = under_without(rules, &turns, lost);
        found.sort();
        found
    };
    let of_client = "include debug\n/request_header:x-secret/ stop";
    let of_server = "include debug\n/response_header:x-secret/ stop";
    let other = "include debug\n/response_code/ stop_if /500/";
    // Whole, the trailers are what the rules see. The last call is reset by its connection: nothing was lost of it.
    assert_eq!(sorted("include debug", &[]), [one, three, two, up]);
    assert_eq!(sorted(of_client, &[]), [one, three, two]);
    assert_eq!(sorted(of_server, &[]), [three, two, up]);
    // The frames of the server that follow are found again, and the last answer is not over: it may have lost some.
    let lost = &[&of_response[..]];
    assert_eq!(sorted("include debug", lost).len(), 4);
    let found = sorted(of_server, lost);
    assert!(
        found.contains(&two.to_owned()) && !found.contains(&one.to_owned()),
        "{found:?}"
    );
    assert_eq!(sorted(of_client, lost).len(), 3, "of the server alone");
    let lost = &[&of_request[..]];
    assert_eq!(sorted("include debug", lost).len(), 4);
    let found = sorted(of_client, lost);
    assert!(
        found.contains(&two.to_owned()) && !found.contains(&up.to_owned()),
        "{found:?}"
    );
    // Rules that do not ask for headers let the calls pass.
    for lost in [&of_response, &of_request] {
        assert_eq!(sorted(other, &[&lost[..]]).len(), 4);
    }
}

/// Of a half call one side is not known, and a rule may ask for it.
#[test]
fn halves_that_were_lost_pass_no_rule() {
    let request = get(1, "/secret");
    let response = ok(1, "body");
    let turns = conversation(vec![
        (Client, request.clone()),
        (Server, response.clone()),
        (Client, get(3, "/next")),
        (Server, ok(3, "next")),
    ]);
    let next = "GET http://h/next 200 -";
    let url = "include debug\n/request_url/ stop_if_found /secret/";
    let code = "include debug\n/response_code/ stop_if /4../";
    let lost_request = |rules: &str| under_without(rules, &turns, &[&request]);
    let lost_response = |rules: &str| under_without(rules, &turns, &[&response]);
    assert_eq!(lost_request("include debug"), ["- - 200 gap", next]);
    assert_eq!(lost_request(code), ["- - 200 gap", next]);
    assert_eq!(lost_request(url), [next]);
    assert_eq!(lost_response("include debug").len(), 2);
    assert_eq!(lost_response(code), [next]);
    // A stream that was reset has no response.
    let reset = frame(RST_STREAM, 0, 1, &8_u32.to_be_bytes());
    let turns = conversation(vec![(Client, get(1, "/one")), (Server, reset)]);
    assert_eq!(under(code, &turns), ["GET http://h/one - reset"]);
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
