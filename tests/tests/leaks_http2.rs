//! Canaries in HTTP/2: in header fields, trailers and bodies, sent by the header table, and on connections whose table is not
//! known. Here belongs that what the rules hide is hidden there as in HTTP/1.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use bench::traffic::http2::{
    DATA, END_HEADERS, END_STREAM, Encoder, Form, HEADERS, PREFACE, SETTINGS, frame,
};
use bench::traffic::{Conversation, Frame as Made, Side, Wire};
use engine_core::pipeline::Config;
use engine_core::rules::RuleSet;
use tests::engine::{Reader, captured};
use tests::http2::{self, Turns};
use tests::program::sniffer_ends;

use super::leaks::{CANARIES, calls_with_canaries, canary_of, promises, write_capture};

/// A message of HTTP/1 as fields and body, with what is sent as the first line.
fn parts(message: &[u8]) -> (String, Vec<(String, String)>, Vec<u8>) {
    let end = message
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .expect("a head");
    let head = String::from_utf8_lossy(&message[..end]).into_owned();
    let mut lines = head.split("\r\n").map(str::to_owned);
    let start = lines.next().expect("a start line");
    let field = |line: String| {
        let (name, value) = line.split_once(": ").expect("a field");
        (name.to_lowercase(), value.to_owned())
    };
    (
        start,
        lines.map(field).collect(),
        message[end + 4..].to_vec(),
    )
}

/// A message on a stream: its head by the table, its body, and its credentials once more as trailers.
fn message(
    id: u32,
    pseudo: &[(&str, &str)],
    fields: &[(String, String)],
    body: &[u8],
    encoder: &mut Encoder,
) -> Vec<u8> {
    let (mut head, mut trailers) = (Vec::new(), Vec::new());
    for (name, value) in pseudo {
        encoder.field(name, value, Form::Table, &mut head);
    }
    for (name, value) in fields {
        encoder.field(name, value, Form::Table, &mut head);
    }
    let is_credential = |name: &str| !name.starts_with("content-");
    for (name, value) in fields.iter().filter(|(name, _)| is_credential(name)) {
        encoder.field(name, value, Form::Table, &mut trailers);
    }
    let mut out = Vec::new();
    frame(HEADERS, END_HEADERS, id, &head, &mut out);
    if trailers.is_empty() {
        frame(DATA, END_STREAM, id, body, &mut out);
    } else {
        frame(DATA, 0, id, body, &mut out);
        frame(HEADERS, END_HEADERS | END_STREAM, id, &trailers, &mut out);
    }
    out
}

/// Two rounds of calls on one connection, with other canaries in the second, so that its names are entries of the table and
/// its values are literals. Returns also the number of frames of the first round.
fn frames() -> (Vec<Made>, usize) {
    let (mut client, mut server) = (Encoder::new(), Encoder::new());
    let mut first = PREFACE.to_vec();
    frame(SETTINGS, 0, 0, &[], &mut first);
    let mut turns = vec![(Side::Client, first)];
    let mut turns_of_first = 0;
    let mut id = 1;
    for round in 0..2 {
        for (request, response) in calls_with_canaries(|place| canary_of(round, place)) {
            let (start, fields, body) = parts(&request);
            let target = start.split(' ').nth(1).expect("a target").to_owned();
            let (authority, path) = match target.strip_prefix("http://") {
                Some(rest) => rest.split_at(rest.find('/').expect("a path")),
                None => ("api.example", target.as_str()),
            };
            let pseudo = [
                (":method", "POST"),
                (":scheme", "http"),
                (":authority", authority),
                (":path", path),
            ];
            let fields: Vec<_> = fields
                .into_iter()
                .filter(|(name, _)| name != "host")
                .collect();
            let octets = message(id, &pseudo, &fields, &body, &mut client);
            turns.push((Side::Client, octets));
            let (_, fields, body) = parts(&response);
            let octets = message(id, &[(":status", "200")], &fields, &body, &mut server);
            turns.push((Side::Server, octets));
            id += 2;
        }
        if round == 0 {
            turns_of_first = turns.len();
        }
    }
    let talk = Conversation::new(Vec::new());
    let wire = Wire::default();
    let made = |turns: &[(Side, Vec<u8>)]| -> Vec<Made> {
        let segments = talk.segments_of(turns).into_iter();
        segments
            .map(|segment| wire.frame(&talk, &segment))
            .collect()
    };
    // The segments of the end, which come behind both rounds.
    let end = made(&[]).len() - 3;
    let of_first = made(&turns[..turns_of_first]).len() - end;
    (made(&turns), of_first)
}

#[test]
fn no_canary_leaves_a_reading_of_http2() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (all, of_first) = frames();
    let whole = write_capture(folder.path(), &all)?;
    let late = folder.path().join("late");
    std::fs::create_dir(&late)?;
    let late = write_capture(&late, &all[of_first..])?;
    let read = |path: &std::path::Path, rules: &str| -> Result<String> {
        let path = path.to_str().context("a plain name")?;
        let words = ["read", path, "--rules", rules, "--annotate", "--half-calls"];
        let ended = sniffer_ends(&[&words[..], &["-o", "ndjson"]].concat(), &[])?;
        assert_eq!(ended.code()?, 0, "{rules}: {}", ended.stderr);
        Ok(ended.stdout + &ended.stderr)
    };
    let open = read(&whole, "include debug")?;
    let of_late = read(&late, "include debug")?;
    for (place, _) in CANARIES
        .iter()
        .filter(|(place, _)| *place != "user information")
    {
        for round in 0..2 {
            let canary = canary_of(round, place);
            assert!(open.contains(&canary), "without rules {canary} is there");
        }
    }
    assert_eq!(
        open.lines().filter(|line| line.starts_with("[[")).count(),
        10
    );
    // Bodies are known, and so are names of the static table; a value whose name is an entry that was not seen is not printed.
    let seen = |place| of_late.contains(&canary_of(1, place));
    assert!(seen("json") && seen("authorization"), "{of_late}");
    assert!(!seen("api key") && !seen("response header"), "{of_late}");
    assert!(of_late.contains("custom_field:unknown_fields"), "{of_late}");
    for (rules, places) in promises() {
        for path in [&whole, &late] {
            let text = read(path, rules)?;
            for place in places.iter().copied().chain(["user information"]) {
                for round in 0..2 {
                    assert!(
                        !text.contains(&canary_of(round, place)),
                        "{rules:?} lets {place} out of {path:?}: {text}"
                    );
                }
            }
        }
    }
    Ok(())
}

/// A call of which only the trailers have what a rule drops it for, on a connection with others.
fn call_with_secret_trailers(of: Side) -> Turns {
    let secret = http2::headers(END_STREAM, 3, &http2::block(&[("x-secret", "yes")]));
    let fields = [
        (":method", "POST"),
        (":authority", "h"),
        (":path", "/CANARY"),
    ];
    let (mut request, mut response) = (Vec::new(), Vec::new());
    let data = |flags| http2::frame(DATA, flags, 3, b"CANARY");
    request.push(http2::headers(0, 3, &http2::block(&fields)));
    response.push(http2::headers(0, 3, &http2::indexed(8)));
    for (side, pieces) in [(Side::Client, &mut request), (Side::Server, &mut response)] {
        if side == of {
            pieces.extend([data(0), data(0), secret.clone()]);
        } else {
            pieces.push(data(END_STREAM));
        }
    }
    let request = request.into_iter().map(|piece| (Side::Client, piece));
    let response = response.into_iter().map(|piece| (Side::Server, piece));
    let mut turns = vec![
        (Side::Client, http2::get(1, "/before")),
        (Side::Server, http2::ok(1, "before")),
    ];
    turns.extend(request.chain(response));
    for id in [5, 7] {
        turns.extend([
            (Side::Client, http2::get(id, "/after")),
            (Side::Server, http2::ok(id, "after")),
        ]);
    }
    http2::conversation(turns)
}

/// The same in gRPC-Web over HTTP/1, where the trailers end the body.
fn call_of_grpc_web() -> Turns {
    let envelope = |flag: u8, payload: &[u8]| {
        [&[flag][..], &(payload.len() as u32).to_be_bytes(), payload].concat()
    };
    let request = envelope(0, b"\x0a\x06CANARY");
    let head = format!(
        "POST /s.S/CANARY HTTP/1.1\r\nHost: h\r\nContent-Type: application/grpc-web\r\nContent-Length: {}\r\n\r\n",
        request.len()
    );
    let messages = envelope(0, b"\x0a\x06CANARY");
    let trailers = envelope(0x80, b"grpc-status: 0\r\nx-secret: yes\r\n");
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/grpc-web\r\nContent-Length: {}\r\n\r\n",
        2 * messages.len() + trailers.len()
    );
    let get = b"GET /other HTTP/1.1\r\nHost: h\r\n\r\n".to_vec();
    let other = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nother".to_vec();
    vec![
        (Side::Client, get.clone()),
        (Side::Server, other.clone()),
        (Side::Client, [head.as_bytes(), &request].concat()),
        (Side::Server, [answer.as_bytes(), &messages].concat()),
        (Side::Server, messages),
        (Side::Server, trailers[..9].to_vec()),
        (Side::Server, trailers[9..].to_vec()),
        (Side::Client, get),
        (Side::Server, other),
    ]
}

/// Whatever is lost, or not captured any more: the call that a rule drops by its trailers does not leave.
#[test]
fn no_canary_leaves_where_trailers_are_lost() {
    let mut config = Config::default();
    (config.message.half_calls, config.message.annotate) = (true, true);
    for (turns, side) in [
        (call_with_secret_trailers(Side::Server), "response"),
        (call_with_secret_trailers(Side::Client), "request"),
        (call_of_grpc_web(), "response"),
    ] {
        let talk = Conversation::new(Vec::new());
        let segments = talk.segments_of(&turns).into_iter();
        let frames: Vec<Made> = segments
            .map(|segment| Wire::default().frame(&talk, &segment))
            .collect();
        let read = |rules: &str, is_kept: &dyn Fn(usize) -> bool| {
            let mut reader = Reader::new(&config);
            reader.set_rules(Arc::new(RuleSet::parse(rules).expect("rules")));
            for (number, frame) in frames.iter().enumerate() {
                if is_kept(number) {
                    reader.feed(&captured(frame, usize::MAX));
                }
            }
            format!("{:?}", reader.finish().calls)
        };
        let rules = format!("include debug\n/{side}_header:x-secret/ stop");
        let open = read("include debug", &|_| true);
        assert!(
            open.contains("CANARY") && open.contains("x-secret"),
            "{open}"
        );
        let others = read(&rules, &|_| true);
        assert!(
            others.contains("other") || others.contains("after"),
            "{others}"
        );
        for first in 0..frames.len() {
            let text = read(&rules, &|number| number < first);
            assert!(!text.contains("CANARY"), "{side}, up to {first}: {text}");
            let text = read(&rules, &|number| number >= first);
            assert!(!text.contains("CANARY"), "{side}, from {first} on: {text}");
            for last in first..frames.len().min(first + 4) {
                let text = read(&rules, &|number| number != first && number != last);
                assert!(
                    !text.contains("CANARY"),
                    "{side}, without {first} and {last}: {text}"
                );
            }
        }
    }
}
