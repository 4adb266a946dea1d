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
fn what_a_coding_hides_is_counted_once_it_is_undone() {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(b"data: a\n\ndata: b\n\n").unwrap();
    let body = encoder.finish().unwrap();
    let headers = [EVENTS, ("content-encoding", "gzip")];
    let found = annotations(&headers, &[&body], BodyEnd::Complete);
    check(&found, &[("sse_events", Some("2")), ("first_event", None)]);
}

#[test]
fn other_bodies_have_no_messages() {
    let headers = [("content-type", "text/plain")];
    let found = annotations(&headers, &[b"data: a\n\n"], BodyEnd::Complete);
    check(&found, &[("sse_events", None), ("stream_end", None)]);
}
