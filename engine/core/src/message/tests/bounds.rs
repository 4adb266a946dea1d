//! What a line may have, in the unit of its cost: bytes of text, and details. What is cut is marked and counted.

use super::*;
use crate::limits::{
    BODY_TEXT_BYTES_MIN, BODY_TEXT_FACTOR, CODED_BYTES_MIN, CODING_RATIO_MAX, FIELDS_BYTES_MAX,
    HEADERS_MAX, LINE_DETAILS_MAX,
};

/// The longest line with bodies of the default limit: both bodies, fields of the request and of the session at their bounds, and
/// heads of control characters. A store takes it in one POST.
const LINE_BYTES_MAX: usize = 15 << 20;

fn annotated() -> Config {
    Config {
        annotate: true,
        ..config()
    }
}

/// Bytes of the text of a body in the only line, and its mark.
fn body_text(writer: &mut LineWriter<Lines>) -> (usize, Option<String>) {
    let line = writer.output().0[0].0.clone();
    let details = only_line(writer);
    let value = value_of(&details, "response_body").unwrap_or_default();
    let mut text = Vec::new();
    ndjson::escape(value.as_bytes(), &mut text);
    assert!(memchr::memmem::find(&line, &text).is_some());
    let mark = value_of(&details, "custom_field:response_body_bytes");
    (text.len(), mark.map(str::to_owned))
}

/// A body of `bytes` octets: cut exactly where its text reaches the bound, however it came and whatever reads it.
#[track_caller]
fn check_text(body: &[u8], is_cut: bool) {
    const LIMIT: usize = 20_000;
    let most = LIMIT * BODY_TEXT_FACTOR + BODY_TEXT_BYTES_MIN;
    for rules in [
        "include debug",
        "include debug\n/response_body/ replace /nothing/, //",
    ] {
        for slice in [7, 1400, body.len()] {
            let mut writer = writer(
                rules,
                Config {
                    body_bytes_max: LIMIT,
                    ..annotated()
                },
            );
            let (request, mut response) =
                exchange("GET / HTTP/1.1\nHost: h\n\n", "HTTP/1.1 200 OK\n\n");
            response.body = body.to_vec();
            play(&mut writer, &request, &response, 5, 2, slice);
            let (text, mark) = body_text(&mut writer);
            assert_eq!(
                (writer.counters().bodies_limited, mark.is_some()),
                (u64::from(is_cut), is_cut),
                "{rules} {slice}"
            );
            if is_cut {
                assert_eq!(mark, Some(body.len().to_string()));
                assert!(text <= most && text > most - 32, "{text} of {most}");
            }
        }
    }
}

#[test]
fn the_text_of_a_body_is_bounded_not_only_the_body() {
    check_text(&[0; 20_000], true);
    check_text(&[0xff; 20_000], false);
    check_text(&[0; 10_000], false);
    check_text(&b"\"\n".repeat(10_000), false);
    check_text("\u{e9}".repeat(10_000).as_bytes(), false);
}

/// A response body in these codings, the last one outermost: what is in the line, and the counter.
#[track_caller]
fn check_ratio(body: &[u8], codings: usize, expected: usize) {
    let mut coded = body.to_vec();
    for _ in 0..codings {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
        std::io::Write::write_all(&mut encoder, &coded).unwrap();
        coded = encoder.finish().unwrap();
    }
    let mut writer = writer("include debug", annotated());
    let (request, mut response) = exchange("GET / HTTP/1.1\nHost: h\n\n", "HTTP/1.1 200 OK\n\n");
    let names = vec!["deflate"; codings].join(", ").into_bytes();
    response.headers.push((b"Content-Encoding".to_vec(), names));
    response.body = coded;
    play(&mut writer, &request, &response, 5, 2, 1400);
    let details = only_line(&mut writer);
    let left = value_of(&details, "response_body").unwrap_or_default();
    assert_eq!(left.len(), expected);
    let is_cut = expected < body.len();
    assert_eq!(writer.counters().bodies_expanded, u64::from(is_cut));
    assert_eq!(writer.counters().bodies_limited, 0);
    let mark = value_of(&details, "custom_field:response_body_bytes");
    assert_eq!(mark.is_some(), is_cut);
}

#[test]
fn a_few_bytes_do_not_become_a_large_line() {
    let bomb = vec![b'x'; 1 << 20];
    check_ratio(&bomb, 3, CODED_BYTES_MIN * CODING_RATIO_MAX);
    let list: Vec<u8> = (0..30_000)
        .flat_map(|n| format!("{{\"id\":{n},\"ok\":true}},").into_bytes())
        .collect();
    check_ratio(&list, 1, list.len());
    check_ratio(&list, 2, list.len());
}

/// Fields in the query, in a form and in cookies, with two rules that copy these (`debug` has one); so many of the fields of both kinds together
/// are left out as do not fit, and marked.
#[track_caller]
fn check_fields(query: &str, form: &str, cookies: &str, total: usize, all_fit: bool) -> usize {
    let mut writer = writer(
        "include debug\ncopy_session_field /a.*/",
        Config {
            form_params: true,
            client_address: true,
            ..annotated()
        },
    );
    let mut headers: String = (0..HEADERS_MAX - 4).map(|n| format!("h{n}: v\n")).collect();
    headers.push_str(&format!("Cookie: {cookies}\nHost: h\n"));
    let request = format!(
        "POST /?{query} HTTP/1.1\n{headers}Content-Type: application/x-www-form-urlencoded\nContent-Length: {}\n\n{form}",
        form.len()
    );
    let response = format!("HTTP/1.1 200 OK\n{headers}\nbody");
    let (request, response) = exchange(&request, &response);
    play(&mut writer, &request, &response, 5, 2, 1400);
    let notes = writer.output().0[0].1;
    let length = writer.output().0[0].0.len();
    assert!(length < LINE_BYTES_MAX, "{length}");
    let details = only_line(&mut writer);
    assert!(details.len() <= LINE_DETAILS_MAX, "{}", details.len());
    let is_field =
        |key: &str| key.starts_with("request_param:") || key.starts_with("session_field:");
    let fields = details.iter().filter(|(key, _)| is_field(key)).count();
    let left_out = total - fields;
    assert_eq!(left_out == 0, all_fit, "{fields} of {total}");
    let mark = value_of(&details, "custom_field:fields_left_out").map(str::to_owned);
    assert_eq!(mark, (!all_fit).then(|| left_out.to_string()));
    assert_eq!(writer.counters().fields_limited, left_out as u64);
    assert_eq!(notes.truncated, !all_fit);
    // Whatever is left out, the rest of the call is there.
    for key in [
        "request_method",
        "response_code",
        "response_body",
        "now",
        "host",
    ] {
        assert!(value_of(&details, key).is_some(), "{key}");
    }
    details.len()
}

#[test]
fn a_line_has_no_more_details_than_a_receiver_takes() {
    let pairs = |count: usize, between: &str| vec!["a=b"; count].join(between);
    check_fields(
        &pairs(100, "&"),
        &pairs(100, "&"),
        &pairs(100, "; "),
        400,
        true,
    );
    let details = check_fields(&pairs(20_000, "&"), "", "", 20_000, false);
    assert!(details > LINE_DETAILS_MAX - 64, "{details}");
    check_fields("", &pairs(20_000, "&"), "", 20_000, false);
    check_fields("", "", &pairs(20_000, "; "), 40_000, false);
}

#[test]
fn fields_are_bounded_in_bytes_too() {
    let form = |value: &str| format!("a={value}&b=2");
    check_fields("", &form(&"%00".repeat(330_000)), "", 2, true);
    check_fields("", &form(&"\u{1}".repeat(400_000)), "", 2, false);
    // A long value that is text fits, as a body of its length does.
    check_fields("", &form(&"x".repeat(1_000_000)), "", 2, true);
    let cookie = format!("a={}", "x".repeat(1 << 20));
    assert!(2 * cookie.len() > FIELDS_BYTES_MAX);
    check_fields("", "", &[&cookie[..]; 2].join("; "), 4, false);
}
