//! Responses that are streams of messages: what is counted of them, and when.

use super::*;

/// The annotations of a response that comes in these parts, one each millisecond.
fn annotations(headers: &[(&str, &str)], parts: &[&[u8]], end: BodyEnd) -> Vec<(String, String)> {
    let config = Config {
        annotate: true,
        body_bytes_max: 20,
        ..config()
    };
    let mut writer = writer("include debug", config);
    let flow = flow();
    let at = |millis: u64| Timestamp::from_nanos(millis * 1_000_000);
    let origin = |millis: u64| Origin {
        flow: &flow,
        client_is_originator: true,
        call_index: 1,
        message: MessageId::at(0),
        time: at(millis),
    };
    let head = RequestHead::new(b"GET", b"/stream", Version::Http11, &[]);
    let mut draft = writer.request(&head, &origin(1));
    writer.end(&mut draft, Side::Request, BodyEnd::Complete, at(1));
    let headers: Vec<_> = headers
        .iter()
        .map(|(name, value)| Header::new(name.as_bytes(), value.as_bytes()))
        .collect();
    let head = ResponseHead::new(200, Version::Http11, &headers);
    writer.response(&mut draft, &head, &origin(2));
    let mut millis = 10;
    for part in parts {
        if part.is_empty() {
            writer.missing(&mut draft, Side::Response, 5);
        } else {
            writer.body(&mut draft, Side::Response, part, at(millis));
        }
        millis += 1;
    }
    writer.end(&mut draft, Side::Response, end, at(millis));
    writer.finish(draft);
    pairs(&writer.output().0[0].0)
}

#[track_caller]
fn check(found: &[(String, String)], expected: &[(&str, Option<&str>)]) {
    for (name, value) in expected {
        let key = format!("custom_field:{name}");
        let found = found.iter().find(|(other, _)| *other == key);
        assert_eq!(found.map(|(_, value)| value.as_str()), *value, "{name}");
    }
}

const EVENTS: (&str, &str) = ("content-type", "text/event-stream");

#[test]
fn events_behind_the_body_limit_count() {
    let parts = [
        &b"data: first\n\nda"[..],
        b"ta: second\n",
        b"\ndata: [DONE]\n\n",
    ];
    let found = annotations(&[EVENTS], &parts, BodyEnd::Complete);
    check(
        &found,
        &[
            ("sse_events", Some("3")),
            ("first_event", Some("10000000")),
            ("last_event", Some("12000000")),
            ("stream_end", Some("done")),
            ("response_body_bytes", Some("41")),
        ],
    );
    let body = found.iter().find(|(key, _)| key == "response_body");
    assert_eq!(body.unwrap().1, "data: first\n\ndata: s");
}

#[test]
fn a_stream_that_ends_early_is_cut() {
    let found = annotations(&[EVENTS], &[b"data: a\n\ndata"], BodyEnd::Cut);
    check(
        &found,
        &[("sse_events", Some("1")), ("stream_end", Some("cut"))],
    );
    let found = annotations(&[EVENTS], &[b"data: [DONE]\n\n"], BodyEnd::Cut);
    check(&found, &[("stream_end", Some("done"))]);
    let found = annotations(&[EVENTS], &[b"event: error\ndata: {}\n\n"], BodyEnd::Cut);
    check(&found, &[("stream_end", Some("error"))]);
}

#[test]
fn an_event_with_a_hole_does_not_count() {
    let parts = [&b"data: a\n\ndata: b"[..], b"", b"\n\ndata: c\n\n"];
    let found = annotations(&[EVENTS], &parts, BodyEnd::Complete);
    check(
        &found,
        &[("sse_events", Some("2")), ("missing_bytes", Some("5"))],
    );
}

#[test]
fn documents_on_lines_count() {
    let headers = [("content-type", "application/x-ndjson; charset=utf-8")];
    let found = annotations(&headers, &[b"{}\n{}", b"\n[1]"], BodyEnd::Complete);
    check(
        &found,
        &[
            ("ndjson_lines", Some("3")),
            ("first_event", Some("10000000")),
            ("last_event", Some("12000000")),
            ("stream_end", Some("done")),
        ],
    );
}

#[test]
fn events_of_coded_streams_have_their_times() {
    for coding in ["gzip", "deflate", "zstd", "br"] {
        let parts = coded_parts(&["data: a\n\n", "data: b\n\n", "data: [DONE]\n\n"], coding);
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        let headers = [EVENTS, ("content-encoding", coding)];
        let found = annotations(&headers, &parts, BodyEnd::Complete);
        check(
            &found,
            &[
                ("sse_events", Some("3")),
                ("first_event", Some("10000000")),
                ("last_event", Some("12000000")),
                ("stream_end", Some("done")),
            ],
        );
        let body = found.iter().find(|(key, _)| key == "response_body");
        assert_eq!(body.unwrap().1, "data: a\n\ndata: b\n\nda", "{coding}");
        // Nothing behind a hole can be decoded.
        let lost = [parts[0], b"", parts[2]];
        let found = annotations(&headers, &lost, BodyEnd::Complete);
        check(&found, &[("sse_events", Some("1"))]);
    }
}

/// What a server sends that compresses these texts and flushes after each, and the end of the coding.
fn coded_parts(texts: &[&str], coding: &str) -> Vec<Vec<u8>> {
    use std::io::Write as _;
    let mut parts = Vec::new();
    let mut sent = 0;
    let mut note = |all: &[u8]| {
        parts.push(all[sent..].to_vec());
        sent = all.len();
    };
    macro_rules! parts_of {
        ($encoder:expr, $inside:ident) => {{
            let mut encoder = $encoder;
            for text in texts {
                encoder.write_all(text.as_bytes()).unwrap();
                encoder.flush().unwrap();
                note(encoder.$inside());
            }
            encoder
        }};
    }
    let level = flate2::Compression::default();
    let all = match coding {
        "gzip" => parts_of!(flate2::write::GzEncoder::new(Vec::new(), level), get_ref)
            .finish()
            .unwrap(),
        "deflate" => parts_of!(flate2::write::ZlibEncoder::new(Vec::new(), level), get_ref)
            .finish()
            .unwrap(),
        "zstd" => parts_of!(zstd::stream::Encoder::new(Vec::new(), 3).unwrap(), get_ref)
            .finish()
            .unwrap(),
        _ => parts_of!(
            brotli::CompressorWriter::new(Vec::new(), 4096, 5, 22),
            get_ref
        )
        .into_inner(),
    };
    note(&all);
    parts
}

#[test]
fn a_coded_stream_is_written_in_parts() {
    for coding in ["gzip", "deflate", "zstd", "br"] {
        let sent = coded_parts(&["data: a\n\ndata: b", "\n\n", "data: c\n\n"], coding);
        let mut stream = InParts::coded("include debug", "text/event-stream", coding);
        for (part, seconds) in sent.iter().zip([3, 13, 25, 26]) {
            let draft = &mut stream.draft;
            stream.writer.body(draft, Side::Response, part, at(seconds));
        }
        let (lines, counters, parts) = stream.finish(27);
        assert_eq!(
            lines,
            [
                ["question", "data: a\n\n", "1", "-"],
                ["-", "data: b\n\n", "2", "-"],
                ["-", "data: c\n\n", "3", "true"],
            ],
            "{coding}"
        );
        assert_eq!((counters.lines_written, parts), (1, 2), "{coding}");
    }
}

#[test]
fn decoders_of_open_streams_are_bounded() {
    let config = Config {
        annotate: true,
        open_bytes_max: 4 << 20,
        ..config()
    };
    let mut writer = writer("include debug", config);
    let flow = flow();
    let origin = Origin {
        flow: &flow,
        client_is_originator: true,
        call_index: 1,
        message: MessageId::at(0),
        time: at(1),
    };
    let noise: String = (0..50_000_u32)
        .map(|n| format!("data: {:x}\n\n", n.wrapping_mul(2_654_435_761)))
        .collect();
    let coded = coded_parts(&[&noise], "zstd").concat();
    let headers = [
        Header::new(b"content-type", b"text/event-stream"),
        Header::new(b"content-encoding", b"zstd"),
    ];
    let mut drafts = Vec::new();
    for _ in 0..40 {
        let head = RequestHead::new(b"GET", b"/", Version::Http11, &[]);
        let mut draft = writer.request(&head, &origin);
        let head = ResponseHead::new(200, Version::Http11, &headers);
        writer.response(&mut draft, &head, &origin);
        for slice in coded.chunks(1400) {
            writer.body(&mut draft, Side::Response, slice, at(2));
            assert!(writer.open_bytes() <= 4 << 20, "{}", writer.open_bytes());
        }
        drafts.push(draft);
    }
    for mut draft in drafts {
        writer.end(&mut draft, Side::Response, BodyEnd::Complete, at(3));
        writer.finish(draft);
    }
    let counters = *writer.counters();
    assert!(counters.bodies_shed > 0);
    assert_eq!(
        counters.calls_seen,
        counters.lines_written + counters.calls_shed
    );
    assert_eq!(writer.open_bytes(), 0);
}

#[test]
fn other_bodies_have_no_messages() {
    let headers = [("content-type", "text/plain")];
    let found = annotations(&headers, &[b"data: a\n\n"], BodyEnd::Complete);
    check(&found, &[("sse_events", None), ("stream_end", None)]);
}

/// A stream that is written in parts of ten seconds, with the times in seconds.
struct InParts {
    writer: LineWriter<Lines>,
    draft: Result<Box<Draft>, Unwritten>,
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_parts(seconds, 0)
}

impl InParts {
    fn new(rules: &str, content_type: &str) -> Self {
        Self::coded(rules, content_type, "")
    }

    fn coded(rules: &str, content_type: &str, coding: &str) -> Self {
        let config = Config {
            stream_parts: Some(Duration::from_secs(10)),
            websocket: true,
            ..config()
        };
        let mut writer = writer(rules, config);
        let flow = flow();
        let origin = |seconds: u64| Origin {
            flow: &flow,
            client_is_originator: true,
            call_index: 1,
            message: MessageId::at(0),
            time: at(seconds),
        };
        let header = Header::new(b"content-type", content_type.as_bytes());
        let is_rpc = content_type == "application/grpc";
        let (headers, body) = if is_rpc {
            (vec![header], &b"\0\0\0\0\x05\n\x03ask"[..])
        } else {
            (Vec::new(), &b"question"[..])
        };
        let head = RequestHead::new(b"POST", b"/stream", Version::Http11, &headers);
        let mut draft = writer.request(&head, &origin(1));
        writer.body(&mut draft, Side::Request, body, at(1));
        writer.end(&mut draft, Side::Request, BodyEnd::Complete, at(1));
        let headers = [header, Header::new(b"content-encoding", coding.as_bytes())];
        let head = ResponseHead::new(200, Version::Http11, &headers);
        writer.response(&mut draft, &head, &origin(2));
        Self { writer, draft }
    }

    fn body(&mut self, text: &str, seconds: u64) {
        let bytes = text.as_bytes();
        let draft = &mut self.draft;
        self.writer.body(draft, Side::Response, bytes, at(seconds));
    }

    /// The lines so far: request body, response body, part, whether it is the last.
    fn lines(&mut self) -> Vec<[String; 4]> {
        let keys = [
            "request_body",
            "response_body",
            "custom_field:stream_part",
            "custom_field:stream_part_last",
        ];
        let lines = self.writer.output().0.iter();
        let lines = lines.map(|(line, _)| {
            let pairs = pairs(line);
            keys.map(|key| {
                let mut found = pairs.iter().filter(|(other, _)| other == key);
                found.next().map_or("-", |(_, value)| value).to_owned()
            })
        });
        lines.collect()
    }

    fn finish(mut self, seconds: u64) -> (Vec<[String; 4]>, Counters, u64) {
        let (writer, end) = (&mut self.writer, BodyEnd::Complete);
        writer.end(&mut self.draft, Side::Response, end, at(seconds));
        let draft = std::mem::replace(&mut self.draft, Err(Unwritten::Memory));
        self.writer.finish(draft);
        assert_eq!(self.writer.open_calls(), 0);
        assert_eq!(self.writer.open_bytes(), 0);
        let lines = self.lines();
        (lines, *self.writer.counters(), self.writer.stream_parts())
    }
}

#[test]
fn a_stream_is_written_in_parts_that_end_between_messages() {
    let mut stream = InParts::new("include debug", "text/event-stream");
    stream.body("data: a\n\ndata: \u{e9}", 3);
    stream.body("\u{e9}\n\ndata: c", 11);
    assert_eq!(stream.lines().len(), 0, "not due");
    stream.body("\n\n", 12);
    let first = ["question", "data: a\n\ndata: \u{e9}\u{e9}\n\n", "1", "-"];
    assert_eq!(stream.lines(), [first]);
    stream.writer.tick(at(21));
    assert_eq!(stream.lines().len(), 1, "not due");
    stream.writer.tick(at(22));
    let second = ["-", "data: c\n\n", "2", "-"];
    assert_eq!(stream.lines(), [first, second]);
    let lines = stream.writer.output().0.iter();
    let ended: Vec<_> = lines
        .map(|(_, notes)| notes.ended_nanos / 1_000_000_000)
        .collect();
    assert_eq!(ended, [11, 12], "with the last message of each");
    stream.writer.tick(at(100));
    assert_eq!(stream.lines().len(), 2, "nothing has come");
    stream.body("data: d", 101);
    let (lines, counters, parts) = stream.finish(102);
    assert_eq!(lines, [first, second, ["-", "data: d", "3", "true"]]);
    assert_eq!(
        (counters.calls_seen, counters.lines_written, parts),
        (1, 1, 2)
    );
}

#[test]
fn a_clock_that_was_set_back_delays_no_part() {
    let mut stream = InParts::new("include debug", "text/event-stream");
    stream.body("data: a\n\n", 3);
    stream.writer.tick(at(90_002));
    let first = ["question", "data: a\n\n", "1", "-"];
    assert_eq!(stream.lines(), [first]);
    // The next part would be due at 90 012.
    stream.writer.tick(at(5));
    stream.body("data: b\n\n", 6);
    stream.writer.tick(at(14));
    assert_eq!(stream.lines().len(), 1, "not due");
    stream.writer.tick(at(15));
    let second = ["-", "data: b\n\n", "2", "-"];
    assert_eq!(stream.lines(), [first, second]);
}

#[test]
fn a_short_stream_is_one_line() {
    let mut stream = InParts::new("include debug", "text/event-stream");
    stream.body("data: a\n\n", 3);
    let (lines, counters, parts) = stream.finish(4);
    assert_eq!(lines, [["question", "data: a\n\n", "-", "-"]]);
    assert_eq!((counters.lines_written, parts), (1, 0));
    let mut plain = InParts::new("include debug", "text/plain");
    plain.body("data: a\n\n", 3);
    plain.body("data: b\n\n", 300);
    let (lines, ..) = plain.finish(301);
    assert_eq!(lines, [["question", "data: a\n\ndata: b\n\n", "-", "-"]]);
}

#[test]
fn rules_apply_to_each_part_and_a_stop_to_all_behind_it() {
    let rules = "include debug\n/response_body:$..card/ remove";
    let mut stream = InParts::new(rules, "text/event-stream");
    stream.body("data: {\"card\":1}\n\ndata: {\"car", 3);
    stream.body("d\":2}\n\n", 13);
    let (lines, ..) = stream.finish(14);
    assert_eq!(
        lines,
        [
            ["question", "data: {}\n\n", "1", "-"],
            ["-", "data: {}\n\n", "2", "true"],
        ]
    );
    let rules = "include debug\n/response_body/ stop_if_found /secret/";
    let mut stream = InParts::new(rules, "application/x-ndjson");
    stream.body("{}\n", 3);
    stream.body("\"secret\"\n", 13);
    stream.body("{}\n", 25);
    stream.body("{}\n", 35);
    let (lines, counters, parts) = stream.finish(36);
    assert_eq!(lines, [["question", "{}\n", "1", "-"]]);
    assert_eq!(
        (counters.calls_stopped, counters.lines_written, parts),
        (1, 0, 1)
    );
}

#[test]
fn messages_of_a_websocket_are_written_in_parts() {
    use crate::http::{MessageKind, MessagePart, Opening};
    let mut stream = InParts::new("include debug", "text/plain");
    let (writer, handshake) = (&mut stream.writer, &stream.draft);
    let mut draft = writer.conversation(handshake, Opening::default()).unwrap();
    let mut send = |side, text: &str, is_last, seconds| {
        let part = MessagePart {
            time: at(seconds),
            kind: MessageKind::Text,
            is_compressed: false,
            bytes: text.as_bytes(),
            is_last,
        };
        stream.writer.message(&mut draft, side, &part);
    };
    send(Side::Request, "hi", true, 3);
    send(Side::Response, "begun", false, 4);
    send(Side::Response, " and ended", true, 14);
    send(Side::Request, "bye", true, 15);
    let writer = &mut stream.writer;
    for side in [Side::Request, Side::Response] {
        writer.end(&mut draft, side, BodyEnd::Complete, at(16));
    }
    writer.finish(draft);
    let (lines, counters, parts) = stream.finish(17);
    assert_eq!(
        lines,
        [
            ["[\"hi\"]", "-", "1", "-"],
            ["[\"bye\"]", "[\"begun and ended\"]", "2", "true"],
            ["question", "-", "-", "-"],
        ]
    );
    assert_eq!(
        (counters.websocket, counters.lines_written, parts),
        (1, 2, 1)
    );
}

#[test]
fn calls_of_grpc_are_written_in_parts() {
    let mut stream = InParts::new("include debug", "application/grpc");
    let envelope = |text: &str| {
        let mut bytes = vec![0];
        bytes.extend_from_slice(&(text.len() as u32 + 2).to_be_bytes());
        bytes.extend_from_slice(&[0x0a, text.len() as u8]);
        bytes.extend_from_slice(text.as_bytes());
        String::from_utf8(bytes).unwrap()
    };
    let (first, second) = (envelope("one"), envelope("two"));
    let (begun, rest) = second.split_at(6);
    stream.body(&format!("{first}{begun}"), 3);
    stream.body(rest, 13);
    stream.body(&envelope("three"), 25);
    let (lines, counters, parts) = stream.finish(26);
    assert_eq!(
        lines,
        [
            ["[{\"1\":\"ask\"}]", "[{\"1\":\"one\"}]", "1", "-"],
            ["-", "[{\"1\":\"two\"}]", "2", "-"],
            ["-", "[{\"1\":\"three\"}]", "3", "true"],
        ]
    );
    assert_eq!((counters.lines_written, parts), (1, 2));
}
