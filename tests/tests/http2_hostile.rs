//! Peers of HTTP/2 that break the protocol or flood it: what each costs, and that its neighbours are whole. Here belongs what a
//! reader has to outlive that cannot close the connection.

use bench::collect::{Row, value};
use bench::traffic::Side;
use engine_core::limits::HTTP2_STREAMS_MAX;
use engine_core::pipeline::Config;
use tests::engine::{Reader, Reading, captured};
use tests::http2::*;
use tests::meter;

use super::http2::{details, made, read, summaries};

use Side::{Client, Server};

/// A neighbour on the same connection, whole before and after, unless the direction ends.
#[track_caller]
fn hostile(name: &str, client: Vec<u8>, goes_on: bool) -> Reading {
    let turns = conversation(vec![
        (Client, get(1, "/before")),
        (Server, ok(1, "one")),
        (Client, client),
        (Client, get(9_999, "/after")),
        (Server, ok(9_999, "two")),
    ]);
    let reading = read(&turns);
    let is_whole = |row: &Row, path: &str| {
        value(row, "request_url") == Some(path) && value(row, "response_code") == Some("200")
    };
    let has = |path: &str| reading.calls.iter().any(|(row, _)| is_whole(row, path));
    assert!(has("http://h/before"), "{name}");
    assert_eq!(has("http://h/after"), goes_on, "{name}");
    reading
}

#[test]
fn hostile_frames_cost_their_direction_and_no_more() {
    let open = frame(HEADERS, 0, 3, &indexed(2));
    for (name, octets) in [
        (
            "DATA between fragments",
            [open.clone(), frame(DATA, 0, 3, b"x")].concat(),
        ),
        (
            "another stream's fragment",
            [open.clone(), frame(CONTINUATION, 4, 5, b"")].concat(),
        ),
        (
            "a fragment of nothing",
            frame(CONTINUATION, END_HEADERS, 3, b""),
        ),
        (
            "padding as long as the frame",
            frame(DATA, PADDED, 3, b"\x05abcd"),
        ),
        ("padding without a length", frame(DATA, PADDED, 3, b"")),
        ("a short reset", frame(RST_STREAM, 0, 3, b"abc")),
        ("a long ping", frame(PING, 0, 0, b"123456789")),
        ("half a setting", frame(SETTINGS, 0, 0, b"abcde")),
        (
            "a promise without a stream",
            frame(PUSH_PROMISE, END_HEADERS, 3, b"abc"),
        ),
    ] {
        let reading = hostile(name, octets, false);
        assert_eq!(reading.ledger.http.http2_frames_malformed, 1, "{name}");
    }
    for (name, broken) in [
        ("index 0", &b"\x80"[..]),
        ("no such entry", b"\xfe"),
        ("the block ends within a field", b"\x00\x05ab"),
        ("EOS", b"\x00\x84\xff\xff\xff\xff\x00"),
        ("an integer without an end", b"\x7f\xff\xff\xff\xff\xff\xff"),
    ] {
        let reading = hostile(name, headers(END_STREAM, 3, broken), false);
        assert_eq!(reading.ledger.http.http2_blocks_broken, 1, "{name}");
    }
    for (name, octets) in [
        ("HEADERS on no stream", headers(END_STREAM, 0, &indexed(2))),
        (
            "an even stream",
            headers(END_STREAM, 4, &[indexed(2), indexed(4)].concat()),
        ),
        ("a stream again", get(1, "/again")),
        ("SETTINGS on a stream", frame(SETTINGS, 0, 3, &[0; 6])),
        ("a reset of no stream", frame(RST_STREAM, 0, 0, &[0; 4])),
        ("a stream of zeros", frame(0x42, 0, 0, &[0; 1000])),
        ("empty fragments", {
            let mut flood = open;
            (0..2_000).for_each(|_| flood.extend(frame(CONTINUATION, 0, 3, b"")));
            flood.extend(frame(CONTINUATION, END_HEADERS, 3, b""));
            flood
        }),
        (
            "empty DATA",
            (0..2_000).flat_map(|_| frame(DATA, 0, 3, b"")).collect(),
        ),
        ("table sizes", {
            let sizes = integer(0x20, 5, 1 << 30).repeat(1_000);
            headers(END_STREAM, 3, &[sizes, indexed(2)].concat())
        }),
    ] {
        let reading = hostile(name, octets, true);
        assert_eq!(reading.ledger.http.http2_blocks_broken, 0, "{name}");
    }
}

#[test]
fn a_block_that_grows_without_end_is_not_kept() {
    let value = "B".repeat(4_000);
    let mut bomb = vec![headers(
        END_STREAM,
        3,
        &[
            indexed(2),
            literal(":path", "/fill"),
            inserted("x-bomb", &value),
        ]
        .concat(),
    )];
    bomb.push(headers(
        END_STREAM,
        5,
        &[
            indexed(2),
            literal(":path", "/bomb"),
            indexed(62).repeat(16_000),
        ]
        .concat(),
    ));
    let reading = hostile("a bomb", bomb.concat(), true);
    let http = reading.ledger.http;
    assert_eq!(
        (http.heads_oversized, http.half_oversized),
        (1, 1),
        "{http:?}"
    );
    let longest = reading
        .calls
        .iter()
        .map(|(row, _)| details(row).map(|(_, value)| value.len()).sum::<usize>());
    assert!(longest.max() < Some(300_000));
}

#[test]
fn rapid_resets_are_half_calls_and_leave_nothing() {
    let flood = (0..3_000_u32).flat_map(|number| {
        let id = 2 * number + 3;
        [
            get(id, "/r"),
            frame(RST_STREAM, 0, id, &8_u32.to_be_bytes()),
        ]
        .concat()
    });
    let reading = hostile("rapid resets", flood.collect(), true);
    assert_eq!(reading.ledger.http.half_reset, 3_000);
    assert_eq!(reading.ledger.http.http2_streams_reset, 3_000);
}

#[test]
fn streams_are_bounded() {
    let flood = (0..HTTP2_STREAMS_MAX as u32 + 5).flat_map(|number| get(2 * number + 1, "/s"));
    let turns = conversation(vec![
        (Client, flood.collect()),
        (Server, ok(8_001, "of the newest")),
    ]);
    let reading = read(&turns);
    let http = reading.ledger.http;
    assert_eq!((http.http2_streams_evicted, http.half_evicted), (5, 5));
    assert_eq!(http.exchanges_finished, 1);
}

/// Floods of what changes nothing, or only the connection: each costs no more than its bytes.
#[test]
fn floods_of_small_frames_leave_the_neighbours_whole() {
    let repeated = |frame: Vec<u8>| frame.repeat(2_000);
    let post = headers(0, 3, &block(&[(":method", "POST"), (":path", "/slow")]));
    let priority = |id: u32| frame(2, 0, id, &[0, 0, 0, 1, 16]);
    for (name, octets) in [
        ("pings", repeated(frame(PING, 0, 0, b"pingping"))),
        (
            "settings",
            repeated(frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0])),
        ),
        (
            "acknowledged settings",
            repeated(frame(SETTINGS, 1, 0, b"")),
        ),
        ("windows", repeated(frame(8, 0, 3, &[0, 0, 0, 1]))),
        (
            "resets of no stream",
            repeated(frame(RST_STREAM, 0, 7, &[0; 4])),
        ),
        ("going away", repeated(frame(GOAWAY, 0, 0, &[0; 8]))),
        (
            "priorities",
            (0..2_000).flat_map(|id| priority(2 * id + 1)).collect(),
        ),
        (
            "a dribble of a body",
            [post.clone(), frame(DATA, 0, 3, b"x").repeat(2_000)].concat(),
        ),
        (
            "padding only",
            [post, frame(DATA, PADDED, 3, b"\x02\0\0").repeat(2_000)].concat(),
        ),
        (
            "a table of 4 GiB",
            frame(SETTINGS, 0, 0, &[0, 1, 0xff, 0xff, 0xff, 0xff]),
        ),
        (
            "fields without a name",
            headers(
                END_STREAM,
                3,
                &[indexed(2), indexed(4), literal("", "").repeat(2_000)].concat(),
            ),
        ),
    ] {
        let reading = hostile(name, octets, true);
        let http = reading.ledger.http;
        assert_eq!(
            http.http2_blocks_broken + http.http2_frames_malformed,
            0,
            "{name}"
        );
    }
}

/// The server resets what the client lets it reset (CVE-2025-8671).
#[test]
fn resets_by_the_server_are_half_calls_and_leave_nothing() {
    let ids = || (0..1_000_u32).map(|number| 2 * number + 1);
    let requests = ids().flat_map(|id| get(id, "/r")).collect();
    let resets = ids().flat_map(|id| frame(RST_STREAM, 0, id, &1_u32.to_be_bytes()));
    let turns = conversation(vec![
        (Client, requests),
        (Server, resets.collect()),
        (Client, get(9_999, "/after")),
        (Server, ok(9_999, "two")),
    ]);
    let reading = read(&turns);
    assert_eq!(reading.ledger.http.half_reset, 1_000);
    let last = summaries(&reading, &["response_body"]).pop();
    assert_eq!(last.as_deref(), Some("GET http://h/after 200 two -"));
}

/// What would end a line or a string elsewhere is text of one JSON string.
#[test]
fn values_of_any_octets_make_no_further_detail() {
    let odd = "a\r\nx-made: 1\0\"],[\"request_header:y\",\"2";
    let head = block(&[
        (":method", "GET"),
        (":authority", "h"),
        (":path", "/odd\r\n"),
        ("x-odd", odd),
        ("x\r\n\"odd", "name"),
    ]);
    let turns = conversation(vec![
        (Client, headers(END_STREAM, 1, &head)),
        (Server, ok(1, "fine")),
    ]);
    let reading = read(&turns);
    let [(row, _)] = reading.calls.as_slice() else {
        panic!("one call: {:?}", reading.calls);
    };
    assert_eq!(value(row, "request_header:x-odd"), Some(odd));
    let headers = details(row).filter(|(name, _)| name.starts_with("request_header:"));
    assert_eq!(headers.count(), 2, "{row:?}");
    assert_eq!(value(row, "response_body"), Some("fine"));
}

/// A table beyond our bound, and one that shrinks and grows within a block, keep later calls exact or mark them.
#[test]
fn a_table_larger_than_ours_is_known_as_far_as_it_is_kept() {
    let value_of = "v".repeat(8_000);
    let mut fill = integer(0x20, 5, 1 << 30);
    fill.extend(
        [
            indexed(2),
            literal(":path", "/fill"),
            literal(":authority", "h"),
        ]
        .concat(),
    );
    for number in 0..12 {
        fill.extend(inserted(&format!("x-{number}"), &value_of));
    }
    let ask = |index: usize| {
        [
            indexed(2),
            literal(":path", "/asks"),
            literal(":authority", "h"),
            indexed(index),
        ]
        .concat()
    };
    // A block over a frame's length comes in fragments.
    let (first, rest) = fill.split_at(16_000);
    let mut request = frame(HEADERS, END_STREAM, 1, first);
    let pieces: Vec<_> = rest.chunks(16_000).collect();
    for (place, piece) in pieces.iter().enumerate() {
        let flags = if place + 1 == pieces.len() {
            END_HEADERS
        } else {
            0
        };
        request.extend(frame(CONTINUATION, flags, 1, piece));
    }
    let turns = conversation(vec![
        (Client, request),
        (Server, ok(1, "one")),
        (Client, headers(END_STREAM, 3, &ask(62))),
        (Server, ok(3, "newest")),
        (Client, headers(END_STREAM, 5, &ask(73))),
        (Server, ok(5, "oldest")),
    ]);
    let reading = read(&turns);
    let keys = &["response_body", "custom_field:unknown_fields"];
    let found = summaries(&reading, keys);
    assert_eq!(
        found,
        [
            "GET http://h/fill 200 one - -",
            "GET http://h/asks 200 newest - -",
            "GET http://h/asks 200 oldest 1 -",
        ]
    );
    assert!(reading.ledger.http.http2_table_entries_forgotten > 0);
}

/// Streams that only one side may open, opened by the other or without end: malformed, or bounded as all streams are.
#[test]
fn floods_of_streams_leave_the_neighbours_whole() {
    let even = (0..3_000_u32).flat_map(|number| get(2 * number + 4, "/even"));
    let reading = hostile("even ids", even.collect(), true);
    let http = reading.ledger.http;
    assert_eq!(http.http2_messages_malformed, 3_000);
    assert_eq!(http.exchanges_opened, 2, "none of them is a call");
    let promise = |number: u32| {
        let mut payload = (2 * number + 2).to_be_bytes().to_vec();
        payload.extend(block(&[
            (":method", "GET"),
            (":authority", "h"),
            (":path", "/p"),
        ]));
        frame(PUSH_PROMISE, END_HEADERS, 1, &payload)
    };
    let of_client = (0..3_000).flat_map(promise).collect();
    let reading = hostile("promises of the client", of_client, true);
    assert_eq!(reading.ledger.http.http2_frames_malformed, 3_000);
    assert_eq!(reading.ledger.http.exchanges_opened, 2);
    let many = HTTP2_STREAMS_MAX as u32 + 1_000;
    let turns = conversation(vec![
        (Client, get(1, "/before")),
        (Server, (0..many).flat_map(promise).collect()),
        (Server, ok(1, "one")),
        (Client, get(3, "/after")),
        (Server, ok(3, "two")),
        (Server, ok(2 * many, "of the newest promise")),
    ]);
    let reading = read(&turns);
    let http = reading.ledger.http;
    assert_eq!(http.http2_pushes, u64::from(many));
    // The oldest call is evicted before the promises that came behind it.
    assert_eq!(
        http.http2_streams_evicted,
        u64::from(many) + 1 - HTTP2_STREAMS_MAX as u64
    );
    let found = summaries(&reading, &["response_body"]);
    assert!(found.contains(&"GET http://h/after 200 two -".to_owned()));
    assert!(found.contains(&"GET http://h/p 200 of the newest promise -".to_owned()));
}

/// Its name, who sends it, how many frames show what it costs, and the frame with a number.
type Flood<'a> = (&'a str, Side, u32, &'a dyn Fn(u32) -> Vec<u8>);

/// What a flood costs does not depend on how long it is: ten times as many frames take no more memory at any time, and next to
/// nothing is allocated for each of them.
#[test]
fn floods_hold_no_memory() {
    let code = |code: u32| code.to_be_bytes();
    let even = |number: u32| get(2 * number + 4, "/even");
    let promise = |number: u32| {
        let mut payload = (2 * number + 2).to_be_bytes().to_vec();
        payload.extend(block(&[
            (":method", "GET"),
            (":authority", "h"),
            (":path", "/p"),
        ]));
        frame(PUSH_PROMISE, END_HEADERS, 1, &payload)
    };
    let reset = |number: u32| {
        let id = 2 * number + 3;
        [get(id, "/r"), frame(RST_STREAM, 0, id, &code(8))].concat()
    };
    let open = frame(HEADERS, 0, 3, &indexed(2));
    let kinds: [Flood<'_>; 9] = [
        ("pings", Client, 1_000, &|_| frame(PING, 0, 0, b"pingping")),
        ("settings", Client, 1_000, &|number| {
            frame(SETTINGS, 0, 0, &[&[0, 1][..], &code(number)].concat())
        }),
        ("resets of no stream", Client, 1_000, &|number| {
            frame(RST_STREAM, 0, 2 * number + 3, &code(8))
        }),
        ("rapid resets", Client, 1_000, &reset),
        ("even ids", Client, 1_000, &even),
        ("unknown frames", Client, 1_000, &|number| {
            frame(0x42, 0, number, b"unknown")
        }),
        ("fragments", Client, 1_000, &|number| {
            if number == 0 {
                open.clone()
            } else {
                frame(CONTINUATION, 0, 3, &indexed(2))
            }
        }),
        ("going away", Server, 1_000, &|_| {
            frame(GOAWAY, 0, 0, &[0x7f; 8])
        }),
        (
            "promises",
            Server,
            HTTP2_STREAMS_MAX as u32 + 1_000,
            &promise,
        ),
    ];
    for (name, side, count, kind) in kinds {
        let cost = |count: u32| {
            let flood = (0..count).flat_map(kind).collect();
            let frames = made(&conversation(vec![(side, flood)]));
            let frames: Vec<_> = frames
                .iter()
                .map(|made| captured(made, usize::MAX))
                .collect();
            meter::measure(|| {
                let mut reader = Reader::new(&Config::default());
                for frame in &frames {
                    reader.feed(frame);
                }
                reader.finish();
            })
        };
        let (short, long) = (cost(count), cost(10 * count));
        assert!(
            long.held <= short.held + (64 << 10),
            "{name}: {short:?} {long:?}"
        );
        let for_each = (long.allocated - short.allocated) / u64::from(9 * count);
        assert!(for_each <= 8, "{name}: {for_each} bytes allocated for each");
    }
}
