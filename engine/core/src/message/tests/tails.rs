//! Bodies whose end is kept behind the limit (`--body-tail`), and bodies that are decoded as they come.

use super::*;
use crate::limits::BODY_TAIL_BYTES_MAX;

const LIMIT: usize = 1000;
const TAIL: usize = 100;

fn with_tail() -> Config {
    Config {
        body_bytes_max: LIMIT,
        body_tail_bytes: TAIL,
        ..config()
    }
}

/// A body of numbered events; its last one has a canary.
fn events(bytes: usize) -> Vec<u8> {
    let last = b"data: {\"usage\":\"CANARY\"}\n\n";
    let mut body = Vec::new();
    for number in 0.. {
        let event = format!("data: {{\"delta\":\"{number:05}\"}}\n\n");
        if body.len() + event.len() + last.len() > bytes {
            break;
        }
        body.extend_from_slice(event.as_bytes());
    }
    body.extend_from_slice(last);
    body
}

fn coded(body: &[u8], coding: &str) -> Vec<u8> {
    use std::io::Write as _;
    match coding {
        "gzip" => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Default::default());
            encoder.write_all(body).unwrap();
            encoder.finish().unwrap()
        }
        "deflate" => {
            let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), Default::default());
            encoder.write_all(body).unwrap();
            encoder.finish().unwrap()
        }
        "zstd" => zstd::bulk::compress(body, 3).unwrap(),
        "br" => {
            let mut out = Vec::new();
            let params = brotli::enc::BrotliEncoderParams {
                quality: 2,
                ..Default::default()
            };
            brotli::BrotliCompress(&mut &body[..], &mut out, &params).unwrap();
            out
        }
        _ => body.to_vec(),
    }
}

const CODINGS: [&str; 5] = ["", "gzip", "deflate", "zstd", "br"];

/// The details of a call with this response, in slices of `slice` bytes.
fn read(
    rules: &str,
    config: &Config,
    (content_type, coding): (&str, &str),
    body: &[u8],
    slice: usize,
) -> (Vec<(String, String)>, Counters) {
    let mut writer = writer(rules, config.clone());
    let (request, mut response) = exchange("GET / HTTP/1.1\nHost: h\n\n", "HTTP/1.1 200 OK\n\n");
    let content_type = content_type.as_bytes().to_vec();
    response
        .headers
        .push((b"Content-Type".to_vec(), content_type));
    if !coding.is_empty() {
        let coding = coding.as_bytes().to_vec();
        response
            .headers
            .push((b"Content-Encoding".to_vec(), coding));
    }
    response.body = coded(body, coding);
    play(&mut writer, &request, &response, 5, 2, slice);
    assert_eq!((writer.open_calls(), writer.open_bytes()), (0, 0));
    let lines = &writer.output().0;
    let details = lines
        .first()
        .map(|(line, _)| pairs(line))
        .unwrap_or_default();
    (details, *writer.counters())
}

/// What the line has of a body of which the end is kept.
fn expected(body: &[u8]) -> (String, Option<String>) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let left_out = body.len().saturating_sub(LIMIT + TAIL);
    if left_out == 0 {
        return (text(body), None);
    }
    let mark = format!("\n[{left_out} bytes left out]\n");
    let (start, end) = (&body[..LIMIT], &body[body.len() - TAIL..]);
    (text(start) + &mark + &text(end), Some(left_out.to_string()))
}

#[test]
fn the_beginning_and_the_end_of_a_body_are_kept() {
    for bytes in [
        50,
        LIMIT - 30,
        LIMIT,
        LIMIT + 50,
        LIMIT + TAIL,
        LIMIT + TAIL + 1,
        5_000,
    ] {
        let mut body = events(bytes.max(100));
        // The exact length counts.
        body.extend(std::iter::repeat_n(b' ', bytes.saturating_sub(body.len())));
        let (text, left_out) = expected(&body);
        for content_type in ["text/event-stream", "text/plain", "application/json"] {
            for coding in CODINGS {
                for slice in [7, 99, 1 << 20] {
                    let name = format!("{bytes} {content_type} {coding} {slice}");
                    let kind = (content_type, coding);
                    let (details, counters) =
                        read("include debug", &with_tail(), kind, &body, slice);
                    assert_eq!(value_of(&details, "response_body"), Some(&*text), "{name}");
                    let mark = value_of(&details, "custom_field:response_body_left_out");
                    assert_eq!(mark, left_out.as_deref(), "{name}");
                    let is_cut = u64::from(left_out.is_some());
                    let left_out: u64 = left_out.as_ref().map_or(0, |text| text.parse().unwrap());
                    assert_eq!(
                        (
                            counters.bodies_with_tail,
                            counters.tail_left_out_bytes,
                            counters.bodies_limited
                        ),
                        (is_cut, left_out, is_cut),
                        "{name}"
                    );
                }
            }
        }
    }
}

#[test]
fn operations_are_found_in_bodies_whose_end_is_kept() {
    let config = Config {
        annotate: true,
        ..with_tail()
    };
    for length in [10, 500, 5_000] {
        let filler = "€".repeat(length);
        let body =
            format!("{{\"jsonrpc\":\"2.0\",\"method\":\"ask\",\"x\":\"{filler}\",\"end\":1}}");
        let mut writer = writer("include debug", config.clone());
        let (mut request, response) = exchange(
            "POST / HTTP/1.1\nHost: h\nContent-Type: application/json\n\n",
            "HTTP/1.1 200 OK\n\n",
        );
        request.body = body.clone().into_bytes();
        play(&mut writer, &request, &response, 5, 2, 300);
        let details = only_line(&mut writer);
        let text = value_of(&details, "request_body").unwrap();
        assert!(text.ends_with("€\",\"end\":1}"), "{text}");
        let is_whole = body.len() <= LIMIT + TAIL;
        assert_eq!(text == body, is_whole, "{length}");
        let left_out = value_of(&details, "custom_field:request_body_left_out");
        assert_eq!(left_out.is_some(), !is_whole);
        let mark = value_of(&details, "custom_field:request_body_bytes");
        assert_eq!(mark.is_some(), !is_whole, "{length}");
    }
}

#[test]
fn no_end_leaves_of_a_body_that_a_rule_has_to_see() {
    let body = events(5_000);
    for rules in [
        "/response_body/ remove",
        "/response_body/ replace /CANARY/, /x/",
        "/response_body/ replace /nothing/, /x/",
        "/response_body/ remove_if_found /CANARY/",
        "/response_body/ remove_if /.*CANARY.*/",
        "/response_body/ remove_unless_found /delta/",
        "/response_body/ stop_if_found /CANARY/",
        "/response_body/ stop_if /(?s).*CANARY.*/",
        "/response_body/ stop",
        "/response_body:$..usage/ remove",
        "/response_body:$..usage/ replace /CANARY/, /x/",
        "/response_body:$..delta/ remove",
        "/.*/ remove_if_found /CANARY/",
        "/.*/ replace /C.*Y/, /x/",
        "include strict\n/response_body/ remove",
        "/.*/ stop_if_found /CANARY/",
    ] {
        for content_type in ["text/event-stream", "application/json"] {
            for coding in CODINGS {
                for slice in [7, 1 << 20] {
                    let rules = format!("include debug\n{rules}");
                    let kind = (content_type, coding);
                    let (details, counters) = read(&rules, &with_tail(), kind, &body, slice);
                    let all = format!("{details:?}");
                    assert!(!all.contains("CANARY"), "{rules} {kind:?}: {all}");
                    assert!(!all.contains("left_out") && !all.contains("left out"));
                    assert_eq!(counters.bodies_with_tail, 0, "{rules}");
                }
            }
        }
    }
}

#[test]
fn a_body_that_cannot_be_decoded_counts_as_found() {
    let config = Config {
        annotate: true,
        ..with_tail()
    };
    for coding in ["gzip", "deflate", "zstd", "br"] {
        for content_type in ["text/event-stream", "text/plain"] {
            let mut writer = writer(
                "include debug\n/response_body/ stop_if_found /CANARY/",
                config.clone(),
            );
            let (request, mut response) =
                exchange("GET / HTTP/1.1\nHost: h\n\n", "HTTP/1.1 200 OK\n\n");
            for (name, value) in [("Content-Type", content_type), ("Content-Encoding", coding)] {
                let header = (name.as_bytes().to_vec(), value.as_bytes().to_vec());
                response.headers.push(header);
            }
            response.body = b"\xff\xff\xff is not coded CANARY".to_vec();
            play(&mut writer, &request, &response, 5, 2, 4);
            assert_eq!(
                writer.counters().calls_stopped,
                1,
                "{coding} {content_type}"
            );
            assert_eq!(writer.counters().bodies_undecodable, 1);
            writer.set_rules(Arc::new(RuleSet::parse("include debug").unwrap()));
            play(&mut writer, &request, &response, 5, 2, 4);
            let details = only_line(&mut writer);
            assert_eq!(value_of(&details, "response_body"), None);
        }
    }
}

#[test]
fn bytes_that_are_missing_are_in_the_hole() {
    let mut writer = writer("include debug", with_tail());
    let flow = flow();
    let origin = Origin {
        flow: &flow,
        client_is_originator: true,
        call_index: 1,
        message: MessageId::at(0),
        time: Timestamp::ZERO,
    };
    let head = RequestHead::new(b"GET", b"/", Version::Http11, &[]);
    let mut draft = writer.request(&head, &origin);
    let head = ResponseHead::new(200, Version::Http11, &[]);
    writer.response(&mut draft, &head, &origin);
    let side = Side::Response;
    writer.body(&mut draft, side, &[b'a'; LIMIT + 30], Timestamp::ZERO);
    writer.missing(&mut draft, side, 70);
    writer.body(&mut draft, side, b"the end", Timestamp::ZERO);
    writer.end(&mut draft, side, BodyEnd::Complete, Timestamp::ZERO);
    writer.finish(draft);
    let details = only_line(&mut writer);
    let text = value_of(&details, "response_body").unwrap();
    assert!(
        text.ends_with("aaa\n[100 bytes left out]\nthe end"),
        "{text}"
    );
}

#[test]
fn ends_are_memory_of_open_calls() {
    let config = Config {
        body_tail_bytes: BODY_TAIL_BYTES_MAX,
        open_bytes_max: 1 << 20,
        ..with_tail()
    };
    let mut writer = writer("include debug", config);
    let flow = flow();
    let origin = Origin {
        flow: &flow,
        client_is_originator: true,
        call_index: 1,
        message: MessageId::at(0),
        time: Timestamp::ZERO,
    };
    let mut drafts = Vec::new();
    for _ in 0..100 {
        let head = RequestHead::new(b"GET", b"/", Version::Http11, &[]);
        let mut draft = writer.request(&head, &origin);
        let head = ResponseHead::new(200, Version::Http11, &[]);
        writer.response(&mut draft, &head, &origin);
        for _ in 0..100 {
            writer.body(&mut draft, Side::Response, &[b'x'; 1000], Timestamp::ZERO);
        }
        drafts.push(draft);
        assert!(writer.open_bytes() <= 1 << 20);
    }
    for mut draft in drafts {
        writer.end(
            &mut draft,
            Side::Response,
            BodyEnd::Complete,
            Timestamp::ZERO,
        );
        writer.finish(draft);
    }
    let counters = *writer.counters();
    assert!(counters.bodies_shed > 0 && counters.bodies_with_tail > 0);
    assert_eq!(
        counters.bodies_shed + counters.bodies_with_tail + counters.calls_shed,
        100
    );
    assert_eq!(writer.open_bytes(), 0);
}
