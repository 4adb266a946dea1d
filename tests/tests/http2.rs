//! HTTP/2 through the whole pipeline: what each kind of frame does to a line, cuts, losses, joining late, and hostile peers
//! with their neighbours. Here belongs what frames and header blocks do, and nothing of bodies in other formats.

use std::collections::BTreeSet;
use std::fs::{self, File};

use anyhow::{Result, ensure};
use bench::collect::{Row, value};
use bench::traffic::{Conversation, Frame as Made, Side, Wire, write_pcap};
use engine_core::pipeline::Config;
use tests::engine::{Reader, Reading, captured};
use tests::http2::*;
use tests::program::sniffer_ends;

use Side::{Client, Server};

/// Frames of a capture, all at one time, so that the times in lines are equal.
pub(crate) fn made(turns: &Turns) -> Vec<Made> {
    let talk = Conversation {
        mss: 8_000,
        ..Conversation::new(Vec::new())
    };
    let wire = Wire::default();
    let segments = talk.segments_of(turns).into_iter().map(|mut segment| {
        segment.time = talk.start;
        wire.frame(&talk, &segment)
    });
    segments.collect()
}

pub(crate) fn read_frames<'a>(
    frames: impl IntoIterator<Item = &'a Made>,
    config: &Config,
) -> Reading {
    let mut reader = Reader::new(config);
    for frame in frames {
        reader.feed(&captured(frame, usize::MAX));
    }
    reader.finish()
}

pub(crate) fn config() -> Config {
    let mut config = Config::default();
    config.message.half_calls = true;
    config.message.annotate = true;
    config
}

pub(crate) fn read(turns: &Turns) -> Reading {
    read_frames(&made(turns), &config())
}

pub(crate) fn rows(turns: &Turns) -> Vec<Row> {
    let calls = read(turns).calls.into_iter();
    calls.map(|(row, _)| row).collect()
}

/// One line: method, URL, status, then what `keys` ask for, then why it is a half call.
pub(crate) fn summary(row: &Row, keys: &[&str]) -> String {
    let text = |key: &str| value(row, key).unwrap_or("-").to_owned();
    let start = ["request_method", "request_url", "response_code"];
    let keys = start.iter().chain(keys).chain(&["custom_field:half"]);
    keys.map(|key| text(key)).collect::<Vec<_>>().join(" ")
}

/// One text for each call.
pub(crate) fn summaries(reading: &Reading, keys: &[&str]) -> Vec<String> {
    let calls = reading.calls.iter();
    calls.map(|(row, _)| summary(row, keys)).collect()
}

#[track_caller]
fn check(turns: Turns, keys: &[&str], expected: &[&str]) {
    let reading = read(&conversation(turns));
    assert_eq!(summaries(&reading, keys), expected);
}

#[test]
fn every_kind_of_message() {
    let rows = rows(&everything());
    let keys = [
        "request_body",
        "response_body",
        "custom_field:stream_id",
        "custom_field:reset",
        "custom_field:pushed",
    ];
    let found: Vec<_> = rows.iter().map(|row| summary(row, &keys)).collect();
    assert_eq!(
        found,
        [
            "GET http://shop:8080/orders 200 - half of the body 3 - - -",
            "GET http://shop/pushed 200 - pushed body 2 - true -",
            "POST http://shop:8080/orders 201 {\"order\":7} created 1 - - -",
            "GET http://h/gone - - - 5 CANCEL - reset",
            "POST http://shop:8080/orders 201 - - 7 - - -",
        ]
    );
    let details = rows[2]
        .iter()
        .filter(|(key, _)| key.contains("header") || key.contains("param"));
    let expected = [
        ("request_header:x-table", "kept in the table"),
        ("request_header:cookie", "a=1; b=2"),
        ("request_header:te", "trailers"),
        ("request_header:x-sum", "ffee"),
        ("request_param:v", "1"),
        ("response_header:x-served-by", "node 7"),
        ("response_header:x-check", "16f4"),
    ];
    let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(details.cloned().collect::<Vec<_>>(), expected);
}

#[test]
fn ends_of_streams() {
    let head = headers(
        0,
        1,
        &block(&[(":method", "POST"), (":authority", "h"), (":path", "/p")]),
    );
    let reset = |id, code: u32| frame(RST_STREAM, 0, id, &code.to_be_bytes());
    let keys = &[
        "response_body",
        "custom_field:incomplete",
        "custom_field:reset_by",
    ];
    // The response is whole before the request is, and the server needs no more of it (RFC 9113 §8.1).
    check(
        vec![
            (Client, head.clone()),
            (Server, [ok(1, "early"), reset(1, 0)].concat()),
        ],
        keys,
        &["POST http://h/p 200 early true - -"],
    );
    check(
        vec![(Client, get(1, "/r")), (Server, reset(1, 2))],
        keys,
        &["GET http://h/r - - true server reset"],
    );
    check(
        vec![(Client, get(1, "/r")), (Server, reset(1, 7))],
        keys,
        &["GET http://h/r - - true server refused"],
    );
    let begun = [headers(0, 1, &indexed(8)), frame(DATA, 0, 1, b"so far")].concat();
    check(
        vec![
            (Client, get(1, "/c")),
            (Server, begun.clone()),
            (Client, reset(1, 8)),
        ],
        keys,
        &["GET http://h/c 200 so far true client -"],
    );
    check(
        vec![(Client, get(1, "/c")), (Server, begun)],
        keys,
        &["GET http://h/c 200 so far true - -"],
    );
    let last = frame(GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]);
    check(
        vec![
            (Client, [get(1, "/1"), get(3, "/3")].concat()),
            (Server, [last, ok(1, "one")].concat()),
            (Client, get(5, "/5")),
        ],
        keys,
        &[
            "GET http://h/3 - - true - refused",
            "GET http://h/1 200 one - - -",
            "GET http://h/5 - - true - refused",
        ],
    );
    check(
        vec![(Client, get(1, "/alone"))],
        keys,
        &["GET http://h/alone - - true - closed"],
    );
}

#[test]
fn what_a_connect_opens_is_no_body() {
    let connect = |fields: &[(&str, &str)], id| headers(0, id, &block(fields));
    let plain = connect(&[(":method", "CONNECT"), (":authority", "db:443")], 1);
    let fields = [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":authority", "h"),
        (":path", "/chat?room=1"),
    ];
    let extended = connect(&fields, 3);
    let opened = |id| [headers(0, id, &indexed(8)), frame(DATA, 0, id, b"inside")].concat();
    let refused = headers(0, 5, &indexed(13));
    let turns = vec![
        (Client, [plain, extended, connect(&fields, 5)].concat()),
        (
            Server,
            [
                opened(1),
                opened(3),
                refused,
                frame(DATA, END_STREAM, 5, b"no"),
            ]
            .concat(),
        ),
        (Client, frame(DATA, END_STREAM, 1, b"inside")),
    ];
    let keys = &["response_body", "custom_field:connect_protocol"];
    let expected = [
        "CONNECT http://db:443 200 - - -",
        "CONNECT http://h/chat 200 - websocket -",
        "CONNECT http://h/chat 404 no websocket -",
    ];
    let reading = read(&conversation(turns.clone()));
    assert_eq!(reading.ledger.http.bytes_tunnelled, 18);
    check(turns, keys, &expected);
}

#[test]
fn the_request_of_an_upgrade_is_one_call() {
    let request = b"POST /up HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nConnection: Upgrade, HTTP2-Settings\r\n\
                    Upgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\nbody";
    let switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";
    let before = b"GET /before HTTP/1.1\r\nHost: h\r\n\r\n";
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let settings = frame(SETTINGS, 0, 0, &[]);
    let turns = vec![
        (Client, before.to_vec()),
        (Server, answer.to_vec()),
        (Client, request.to_vec()),
        (
            Server,
            [&switch[..], &settings, &ok(1, "in HTTP/2")].concat(),
        ),
        (Client, [PREFACE, &settings, &get(3, "/next")].concat()),
        (Server, ok(3, "second")),
    ];
    let keys = &["request_body", "response_body", "custom_field:call_index"];
    let found: Vec<_> = rows(&turns).iter().map(|row| summary(row, keys)).collect();
    let expected = [
        "GET http://h/before 200 - ok 1 -",
        "POST http://h/up 200 body in HTTP/2 2 -",
        "GET http://h/next 200 - second 3 -",
    ];
    assert_eq!(found, expected);
    let reading = read(&turns);
    assert_eq!(reading.ledger.http.flows_http2_upgraded, 1);
    assert_eq!(reading.ledger.http.responses_interim, 1);
}

/// The turn at `index`, cut at `places`.
fn cut(turns: &Turns, index: usize, places: impl IntoIterator<Item = usize>) -> Turns {
    let mut result = turns[..index].to_vec();
    let (side, bytes) = &turns[index];
    let mut from = 0;
    for place in places.into_iter().chain([bytes.len()]) {
        result.push((*side, bytes[from..place].to_vec()));
        from = place;
    }
    result.extend_from_slice(&turns[index + 1..]);
    result
}

#[test]
fn every_cut_gives_the_same_lines() {
    let turns = everything();
    let whole = rows(&turns);
    assert_eq!(whole.len(), 5);
    for (index, (side, bytes)) in turns.iter().enumerate() {
        for place in 1..bytes.len() {
            let cut = rows(&cut(&turns, index, [place]));
            assert_eq!(cut, whole, "turn {index} of {side:?}, cut at {place}");
        }
    }
    let mut single = turns.clone();
    for index in (0..turns.len()).rev() {
        single = cut(&single, index, 1..turns[index].1.len());
    }
    assert_eq!(rows(&single), whole, "byte by byte");
}

/// Every detail of a request or a response that is printed.
pub(crate) fn details(row: &Row) -> impl Iterator<Item = &(String, String)> {
    let is_detail = |key: &str| key.starts_with("request") || key.starts_with("response");
    row.iter().filter(move |(key, _)| is_detail(key))
}

/// Whatever is missing, each detail that is printed is one of the call with this stream.
#[track_caller]
fn check_nothing_is_wrong(found: &Reading, whole: &[Row], what: &str) -> usize {
    let stream = |row: &Row| value(row, "custom_field:stream_id").unwrap().to_owned();
    for (row, _) in &found.calls {
        let right = whole.iter().find(|other| stream(other) == stream(row));
        let right = right.unwrap_or_else(|| panic!("{what}: no such stream: {row:?}"));
        for (key, text) in details(row) {
            let is_known = match key.as_str() {
                "request_body" | "response_body" => {
                    // Bytes are missing: what is left comes in order.
                    let mut rest = value(right, key).unwrap_or_default().bytes();
                    text.bytes().all(|byte| rest.any(|other| other == byte))
                }
                // The authority may be unknown.
                "request_url" => value(right, key).is_some_and(|url| {
                    url == text
                        || text
                            .strip_prefix("http://")
                            .is_some_and(|path| url.ends_with(path))
                }),
                _ => right.contains(&(key.clone(), text.clone())),
            };
            assert!(is_known, "{what}: {key} {text:?} of {right:?}");
        }
    }
    found.calls.len()
}

/// Some calls with tables, each turn a segment.
fn long() -> Turns {
    let mut turns = Vec::new();
    for number in 0..12_u32 {
        let id = 2 * number + 1;
        let path = format!("/path/{}", number % 5);
        let fields = if number % 3 == 2 {
            [indexed(2), indexed(63), indexed(62)].concat()
        } else {
            [
                indexed(2),
                inserted(":path", &path),
                inserted(":authority", "shop"),
            ]
            .concat()
        };
        turns.push((Client, headers(END_STREAM, id, &fields)));
        let head = [indexed(8), inserted("x-number", &number.to_string())].concat();
        let body = format!("body number {number}");
        turns.push((Server, headers(0, id, &head)));
        turns.push((Server, frame(DATA, END_STREAM, id, body.as_bytes())));
    }
    conversation(turns)
}

#[test]
fn joined_late_at_every_segment() {
    for turns in [long(), everything()] {
        let whole = rows(&turns);
        let frames = made(&turns);
        let mut printed = BTreeSet::new();
        for from in 1..frames.len() {
            let reading = read_frames(&frames[from..], &config());
            printed.insert(check_nothing_is_wrong(
                &reading,
                &whole,
                &format!("from {from}"),
            ));
            let unknown = reading.ledger.http.flows_http2_midstream;
            assert!(unknown <= 1);
        }
        assert!(
            printed.contains(&whole.len()) && printed.len() > 2,
            "{printed:?}"
        );
    }
}

/// A promise has the head of a request, and comes from the server: that makes the server no client.
#[test]
fn a_capture_that_begins_with_a_promise() {
    let head = block(&[
        (":method", "GET"),
        (":authority", "h"),
        (":path", "/pushed"),
    ]);
    let promised = [&2_u32.to_be_bytes()[..], &head].concat();
    let promise = frame(PUSH_PROMISE, END_HEADERS, 1, &promised);
    let frames = made(&conversation(vec![
        (Client, get(1, "/page")),
        (Server, [promise, ok(2, "pushed"), ok(1, "page")].concat()),
        (Client, get(3, "/next")),
        (Server, ok(3, "next")),
    ]));
    let has_promise = |made: &Made| made.bytes.windows(7).any(|bytes| bytes == b"/pushed");
    let from = frames.iter().position(has_promise).unwrap();
    let reading = read_frames(&frames[from..], &config());
    let found = summaries(&reading, &["response_body", "custom_field:client_port"]);
    let with_request = found.iter().filter(|line| line.starts_with("GET"));
    assert_eq!(
        with_request.collect::<Vec<_>>(),
        [
            "GET http://h/pushed 200 pushed 40000 -",
            "GET http://h/next 200 next 40000 -",
        ]
    );
    // The response on stream 1, whose request is not there.
    assert!(
        found.len() == 3
            && found
                .iter()
                .any(|line| line.starts_with("- - 200 page 40000")),
        "{found:?}"
    );
}

#[test]
fn each_segment_lost() {
    for turns in [long(), everything()] {
        let whole = rows(&turns);
        let frames = made(&turns);
        for lost in 0..frames.len() {
            let kept = frames
                .iter()
                .enumerate()
                .filter(|(place, _)| *place != lost);
            let reading = read_frames(kept.map(|(_, frame)| frame), &config());
            check_nothing_is_wrong(&reading, &whole, &format!("without {lost}"));
        }
    }
}

#[test]
fn cut_and_lost_at_random() {
    let turns = everything();
    let whole = rows(&turns);
    let mut seed = bench::seed::Seed::new(11);
    for number in 0..400 {
        let mut pieces = turns.clone();
        for index in (0..turns.len()).rev() {
            let length = turns[index].1.len();
            let mut places: Vec<_> = (0..seed.within(0..=6))
                .map(|_| seed.within(0..=length))
                .collect();
            places.sort_unstable();
            pieces = cut(&pieces, index, places);
        }
        pieces.retain(|(_, bytes)| !bytes.is_empty());
        let frames = made(&pieces);
        let kept = frames.iter().filter(|_| !seed.chance(80));
        let kept: Vec<_> = kept.collect();
        let reading = read_frames(kept, &config());
        check_nothing_is_wrong(&reading, &whole, &format!("seed {number}"));
    }
}

/// Where a snap length or a mirror cuts heads off, that is why their calls are half, and not a gap.
#[test]
fn calls_whose_responses_were_cut_are_truncated() {
    let frames = made(&long());
    let port = &frames[0].bytes[36..38];
    let is_response = |frame: &Made| &frame.bytes[34..36] == port;
    let mut reader = Reader::new(&config());
    for frame in &frames {
        // Four bytes of a frame's header are left.
        let snap = if is_response(frame) { 58 } else { usize::MAX };
        reader.feed(&captured(frame, snap));
    }
    let reading = reader.finish();
    let http = reading.ledger.http;
    assert_eq!((http.half_truncated, http.half_gap), (12, 0), "{http:?}");
    let reasons = reading
        .calls
        .iter()
        .map(|(row, _)| value(row, "custom_field:half"));
    assert!(reasons.eq([Some("truncated"); 12]), "{:?}", reading.calls);
}

#[test]
fn a_hole_within_a_body_costs_only_those_bytes() {
    let body = "0123456789".repeat(300);
    let request = [get(1, "/holed"), get(3, "/beside")].concat();
    let head = headers(0, 1, &[indexed(8), inserted("x-t", "learnt")].concat());
    let response = [head, frame(DATA, END_STREAM, 1, body.as_bytes())].concat();
    let (first, rest) = response.split_at(200);
    let (lost, last) = rest.split_at(1000);
    let beside = headers(END_STREAM, 3, &[indexed(8), indexed(62)].concat());
    let turns = conversation(vec![
        (Client, request),
        (Server, first.to_vec()),
        (Server, lost.to_vec()),
        (Server, [last, &beside].concat()),
    ]);
    let frames = made(&turns);
    let is_lost = |frame: &&Made| !frame.bytes.ends_with(lost);
    let reading = read_frames(frames.iter().filter(is_lost), &config());
    let keys = &[
        "custom_field:missing_bytes",
        "response_header:x-t",
        "custom_field:incomplete",
    ];
    let found = summaries(&reading, keys);
    let expected = [
        "GET http://h/holed 200 1000 learnt true -",
        "GET http://h/beside 200 - learnt - -",
    ];
    assert_eq!(found, expected);
    assert_eq!(reading.ledger.http.http2_resynchronised, 0);
}

/// The head of the response was lost: what is left of it does not make a call of the request.
#[test]
fn a_response_without_its_head_is_none() {
    let turns = conversation(vec![
        (Client, get(1, "/lost")),
        (Server, headers(0, 1, &indexed(8))),
        (Server, frame(PING, 0, 0, b"pingping")),
        (Server, frame(DATA, END_STREAM, 1, b"the rest")),
        (Client, get(3, "/next")),
        (Server, ok(3, "next")),
    ]);
    let frames = made(&turns);
    let lost = headers(0, 1, &indexed(8));
    let kept = frames.iter().filter(|frame| !frame.bytes.ends_with(&lost));
    let found = summaries(&read_frames(kept, &config()), &["response_body"]);
    let expected = ["GET http://h/lost - - gap", "GET http://h/next 200 next -"];
    assert_eq!(found, expected);
}

#[test]
fn values_without_a_name_are_not_printed() {
    let known = [
        indexed(2),
        literal(":path", "/known"),
        literal(":authority", "h"),
    ]
    .concat();
    // An index from before the join with a new value: it may be the authorization.
    let secret = [integer(0x40, 6, 70), vec![6], b"SECRET".to_vec()].concat();
    let turns = vec![
        (
            Client,
            headers(END_STREAM, 101, &[known.clone(), secret].concat()),
        ),
        (Server, ok(101, "text")),
        (
            Client,
            headers(END_STREAM, 103, &[known, indexed(62)].concat()),
        ),
        (
            Server,
            [
                headers(0, 103, &indexed(70)),
                frame(DATA, END_STREAM, 103, b"\x1f\x8b\x08\0"),
            ]
            .concat(),
        ),
    ];
    let frames = made(&turns);
    let reading = read_frames(&frames[3..], &config());
    let keys = &["response_body", "custom_field:unknown_fields"];
    let found = summaries(&reading, keys);
    let expected = [
        "GET http://h/known 200 text 1 -",
        "GET http://h/known - - 2 hpack",
    ];
    assert_eq!(found, expected);
    let text = format!("{:?}", reading.calls);
    assert!(
        !text.contains("SECRET") && !text.contains("\u{8b}"),
        "{text}"
    );
    assert_eq!(reading.ledger.http.http2_fields_unknown, 3);
}

#[test]
fn what_only_looks_like_http2_is_no_call() {
    let refused = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
    let settings = frame(SETTINGS, 0, 0, &[]);
    for (client, server) in [
        (PREFACE.to_vec(), refused.to_vec()),
        (
            b"PRI * HTTP/2.0\r\nHost: h\r\n\r\n".to_vec(),
            refused.to_vec(),
        ),
        (
            b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n".to_vec(),
            settings.clone(),
        ),
        (b"rubbish".to_vec(), settings),
    ] {
        for length in [1, 5, usize::MAX] {
            let pieces = |side, bytes: &[u8]| -> Turns {
                bytes
                    .chunks(length.min(bytes.len()))
                    .map(|piece| (side, piece.to_vec()))
                    .collect()
            };
            let turns = [pieces(Client, &client), pieces(Server, &server)].concat();
            let reading = read(&turns);
            assert!(
                reading
                    .calls
                    .iter()
                    .all(|(row, _)| value(row, "request_url").is_none())
            );
            // A server of HTTP/1 that refuses the preface is read as one.
            let codes = reading.calls.iter();
            let codes: Vec<_> = codes
                .filter_map(|(row, _)| value(row, "response_code"))
                .collect();
            let expected: &[&str] = if server == refused { &["400"] } else { &[] };
            assert_eq!(codes, expected);
        }
    }
}

/// The ledger balances at the end of each reading: no exchange is forgotten.
#[test]
fn requests_that_a_server_of_http1_refuses_are_half_calls() {
    let all = [PREFACE, &frame(SETTINGS, 0, 0, &[]), &get(1, "/one")].concat();
    let open = headers(0, 3, &block(&[(":method", "POST"), (":path", "/two")]));
    let refused = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
    let turns = vec![
        (Client, [all, open].concat()),
        (Server, refused.to_vec()),
        (Client, b"GET /again HTTP/1.1\r\nHost: h\r\n\r\n".to_vec()),
        (
            Server,
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec(),
        ),
    ];
    let found = summaries(&read(&turns), &[]);
    let expected = [
        "GET http://h/one - closed",
        "POST http:///two - closed",
        "- - 400 gap",
        "GET http://h/again 200 -",
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_promise_whose_response_came_first_is_an_exchange_of_its_own() {
    let promise = [
        &100_u32.to_be_bytes()[..],
        &block(&[
            (":method", "GET"),
            (":authority", "h"),
            (":path", "/pushed"),
        ]),
    ]
    .concat();
    let turns = conversation(vec![
        (Client, get(1, "/one")),
        (Server, ok(1, "one")),
        (Client, get(3, "/three")),
        (
            Server,
            [headers(0, 100, &indexed(8)), ok(3, "three")].concat(),
        ),
        (
            Server,
            [
                frame(PUSH_PROMISE, END_HEADERS, 3, &promise),
                ok(100, "two"),
            ]
            .concat(),
        ),
    ]);
    // Joined late: the response may be one whose request was not seen.
    let frames = made(&turns);
    for from in [0, 3, 5] {
        let reading = read_frames(&frames[from..], &config());
        let found = summaries(&reading, &["response_body"]);
        assert!(
            found.contains(&"GET http://h/pushed 200 two -".to_owned()),
            "{found:?}"
        );
    }
}

#[test]
fn a_preface_behind_a_preamble_and_behind_the_server() {
    let all = [PREFACE, &frame(SETTINGS, 0, 0, &[]), &get(1, "/x")].concat();
    let v1 = [&b"PROXY TCP4 10.0.0.1 10.0.0.2 4000 80\r\n"[..], &all].concat();
    let mut v2 =
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x0a\0\0\x01\x0a\0\0\x02\x0f\xa0\0\x50".to_vec();
    v2.extend_from_slice(&all);
    let answer = [frame(SETTINGS, 0, 0, &[]), ok(1, "found")].concat();
    for (client, server_first) in [(v1, false), (v2, false), (all, true)] {
        for length in [1, 13, usize::MAX] {
            let mut turns: Turns = Vec::new();
            let (first, rest) = answer.split_at(9);
            if server_first {
                turns.push((Server, first.to_vec()));
            }
            turns.extend(
                client
                    .chunks(length.min(client.len()))
                    .map(|piece| (Client, piece.to_vec())),
            );
            turns.push((
                Server,
                if server_first {
                    rest.to_vec()
                } else {
                    answer.clone()
                },
            ));
            let found: Vec<_> = rows(&turns)
                .iter()
                .map(|row| summary(row, &["response_body"]))
                .collect();
            assert_eq!(
                found,
                ["GET http://h/x 200 found -"],
                "pieces of {length}, server first: {server_first}"
            );
        }
    }
}

/// Programs that read the ledger find each counter under this name.
#[test]
fn counters_of_the_ledger() -> Result<()> {
    let mut turns = everything();
    // Behind GOAWAY.
    turns.push((Client, get(9, "/refused")));
    let folder = tempfile::tempdir()?;
    let capture = folder.path().join("traffic.pcap");
    let ledger = folder.path().join("ledger");
    write_pcap(&mut File::create(&capture)?, &made(&turns), usize::MAX)?;
    let [capture, file] = [&capture, &ledger].map(|path| path.to_str().expect("a plain name"));
    let ended = sniffer_ends(&["read", capture, "--ports", "all", "--ledger", file], &[])?;
    ensure!(ended.code()? == 0, "{}", ended.stderr);
    let ledger: serde_json::Value = serde_json::from_slice(&fs::read(&ledger)?)?;
    let http = &ledger["capture"]["stages"]["http"];
    for (name, expected) in [
        ("flows_http2", 1),
        ("flows_http2_upgraded", 0),
        ("flows_http2_midstream", 0),
        ("http2_frames_unknown", 1),
        ("http2_frames_malformed", 0),
        ("http2_blocks_broken", 0),
        ("http2_fields_unknown", 0),
        ("http2_table_entries_forgotten", 0),
        ("http2_tables_shed", 0),
        ("http2_messages_malformed", 0),
        ("http2_streams_reset", 1),
        ("http2_streams_refused", 1),
        ("http2_streams_evicted", 0),
        ("http2_pushes", 1),
        ("http2_goaways", 1),
        ("http2_resynchronised", 0),
        ("rpc_messages", 0),
        ("rpc_messages_undecodable", 0),
        ("websocket_connections", 0),
        ("websocket_messages", 0),
        ("websocket_broken", 0),
        ("stream_parts", 0),
    ] {
        ensure!(http[name] == expected, "{name} is {}", http[name]);
    }
    let octets = turns.iter().map(|(_, octets)| &octets[..]);
    ensure!(http["http2_frames"] == frames_in(octets), "{http}");
    let halves = &ledger["capture"]["halves"];
    for (name, expected) in [("reset", 1), ("refused", 1), ("hpack", 0), ("oversized", 0)] {
        ensure!(halves[name] == expected, "{name} is {}", halves[name]);
    }
    Ok(())
}

/// How many frames these turns consist of.
fn frames_in<'a>(turns: impl Iterator<Item = &'a [u8]>) -> usize {
    let mut count = 0;
    for turn in turns {
        let mut rest = turn.strip_prefix(PREFACE).unwrap_or(turn);
        while let Some((&[a, b, c, ..], behind)) = rest.split_first_chunk::<9>() {
            let length = u32::from_be_bytes([0, a, b, c]);
            rest = &behind[length as usize..];
            count += 1;
        }
    }
    count
}
