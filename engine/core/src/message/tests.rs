//! Whole exchanges, driven through the writer as the HTTP parser drives it.

mod bounds;
mod facts;
mod rpc;
mod schemas;
mod secrets;
mod shed;
mod streams;
mod tails;

use std::io::Read as _;
use std::sync::Arc;

use serde_json::Value;

use super::*;
use crate::decap::{Endpoint, Network};
use crate::flow::FlowStart;
use crate::http::{
    BodyEnd, Exchanges as _, Header, MessageId, Origin, RequestHead, ResponseHead, Side,
    UnpairedReason, Version,
};
use crate::ndjson;
use crate::rules::RuleSet;
use crate::time::Timestamp;

/// Keeps the lines.
#[derive(Default)]
struct Lines(Vec<(Vec<u8>, Notes)>);

impl Output for Lines {
    fn line(&mut self, line: &[u8], notes: &Notes) {
        self.0.push((line.to_vec(), *notes));
    }
}

fn endpoint(last: u8, port: u16) -> Endpoint {
    Endpoint {
        addr: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, last],
        port,
    }
}

fn flow() -> FlowStart {
    FlowStart {
        network: Network {
            id: 5,
            vni: Some(42),
            encap: crate::decap::Encap::Vxlan,
        },
        originator: endpoint(1, 5000),
        responder: endpoint(2, 80),
        midstream: false,
        evicted: false,
        originator_seq: 7,
        time: Timestamp::ZERO,
        number: 1,
    }
}

/// One message as the parser would pass it on: head, then body with its transfer coding undone.
struct Message {
    start: String,
    headers: Vec<(Vec<u8>, Vec<u8>)>,
    body: Vec<u8>,
    cut: bool,
}

impl Message {
    fn headers(&self) -> Vec<Header<'_>> {
        self.headers
            .iter()
            .map(|(name, value)| Header::new(name, value))
            .collect()
    }

    fn header(&self, name: &str) -> Option<&[u8]> {
        let found = self
            .headers
            .iter()
            .find(|header| header.0.eq_ignore_ascii_case(name.as_bytes()));
        found.map(|header| &*header.1)
    }

    fn version(&self) -> Version {
        if self.start.contains("HTTP/1.0") {
            Version::Http10
        } else {
            Version::Http11
        }
    }

    /// A splitter for tests: good enough for heads that are not broken.
    fn read(bytes: &[u8], bodyless: bool) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let ends = [(&b"\r\n\r\n"[..], 4), (b"\n\n", 2)];
        let (end, gap) = ends
            .iter()
            .find_map(|(mark, gap)| Some((memchr::memmem::find(bytes, mark)?, *gap)))
            .expect("a whole head");
        let mut lines = bytes[..end]
            .split(|b| *b == b'\n')
            .map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let start = text(lines.next().unwrap());
        let mut headers: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        for line in lines {
            if line.starts_with(b" ") || line.starts_with(b"\t") {
                let value = &mut headers.last_mut().unwrap().1;
                value.push(b' ');
                value.extend_from_slice(line.trim_ascii());
            } else {
                let colon = memchr::memchr(b':', line).unwrap();
                headers.push((
                    line[..colon].to_vec(),
                    line[colon + 1..].trim_ascii().to_vec(),
                ));
            }
        }
        let mut side = Self {
            start,
            headers,
            body: Vec::new(),
            cut: false,
        };
        let rest = &bytes[end + gap..];
        if bodyless {
        } else if side.header("transfer-encoding").is_some() {
            side.unchunk(rest);
        } else {
            // Only a response may be ended by the close of its connection.
            let unknown = if side.start.starts_with("HTTP/") {
                rest.len()
            } else {
                0
            };
            let length = side.header("content-length").map_or(unknown, |text| {
                std::str::from_utf8(text).unwrap().parse().unwrap()
            });
            side.cut = rest.len() < length;
            side.body = rest[..length.min(rest.len())].to_vec();
        }
        side
    }

    fn unchunk(&mut self, mut rest: &[u8]) {
        loop {
            let Ok(httparse::Status::Complete((skip, size))) = httparse::parse_chunk_size(rest)
            else {
                self.cut = true;
                return;
            };
            rest = &rest[skip..];
            let size = size as usize;
            if size == 0 {
                return;
            }
            self.body.extend_from_slice(&rest[..size.min(rest.len())]);
            if rest.len() < size + 2 {
                self.cut = true;
                return;
            }
            rest = &rest[size + 2..];
        }
    }

    fn end(&self) -> BodyEnd {
        if self.cut {
            BodyEnd::Cut
        } else {
            BodyEnd::Complete
        }
    }
}

/// Plays one exchange with bodies in slices of `slice` bytes.
fn play(
    writer: &mut LineWriter<Lines>,
    request: &Message,
    response: &Message,
    now: u64,
    interval: u64,
    slice: usize,
) {
    let flow = flow();
    let origin = |millis: u64| Origin {
        flow: &flow,
        client_is_originator: true,
        call_index: 1,
        message: MessageId::at(0),
        time: Timestamp::from_nanos(millis * 1_000_000),
    };
    let mut words = request.start.split(' ');
    let (method, target) = (words.next().unwrap(), words.next().unwrap());
    let headers = request.headers();
    let head = RequestHead::new(
        method.as_bytes(),
        target.as_bytes(),
        request.version(),
        &headers,
    );
    let mut draft = writer.request(&head, &origin(now - interval));
    request
        .body
        .chunks(slice)
        .for_each(|bytes| writer.body(&mut draft, Side::Request, bytes, Timestamp::ZERO));
    writer.end(
        &mut draft,
        Side::Request,
        request.end(),
        origin(now - interval).time,
    );
    let status = response.start.split(' ').nth(1).unwrap().parse().unwrap();
    let headers = response.headers();
    let head = ResponseHead::new(status, response.version(), &headers);
    writer.response(&mut draft, &head, &origin(now));
    response
        .body
        .chunks(slice)
        .for_each(|bytes| writer.body(&mut draft, Side::Response, bytes, Timestamp::ZERO));
    writer.end(&mut draft, Side::Response, response.end(), origin(now).time);
    writer.finish(draft);
}

fn read_exchange(request: &[u8], response: &[u8]) -> (Message, Message) {
    let request = Message::read(request, false);
    let status: u16 = String::from_utf8_lossy(response)
        .split(' ')
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    let bodyless = request.start.starts_with("HEAD") || matches!(status, 100..=199 | 204 | 304);
    let bodyless = bodyless || request.start.starts_with("CONNECT");
    (request, Message::read(response, bodyless))
}

fn config() -> Config {
    Config {
        host: "oracle-host".to_owned(),
        ..Config::default()
    }
}

fn writer(rules: &str, config: Config) -> LineWriter<Lines> {
    LineWriter::new(
        config,
        Arc::new(RuleSet::parse(rules).unwrap()),
        Lines::default(),
    )
}

fn pairs(line: &[u8]) -> Vec<(String, String)> {
    let pairs: Vec<[String; 2]> = serde_json::from_slice(line).unwrap_or_else(|error| {
        panic!("{error}: {}", String::from_utf8_lossy(line));
    });
    pairs.into_iter().map(|[key, value]| (key, value)).collect()
}

fn base64(text: &str) -> Vec<u8> {
    let digit = |c: u8| match c {
        b'A'..=b'Z' => c - b'A',
        b'a'..=b'z' => c - b'a' + 26,
        b'0'..=b'9' => c - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let mut out = Vec::new();
    for group in text.trim_end_matches('=').as_bytes().chunks(4) {
        let bits = group
            .iter()
            .fold(0u32, |bits, c| bits << 6 | u32::from(digit(*c)))
            << (6 * (4 - group.len()));
        out.extend_from_slice(&bits.to_be_bytes()[1..group.len()]);
    }
    out
}

fn bytes_of(vector: &Value, side: &str) -> Vec<u8> {
    if let Some(text) = vector.get(format!("{side}_b64")) {
        return base64(text.as_str().unwrap());
    }
    let packed = base64(vector[format!("{side}_zlib_b64")].as_str().unwrap());
    let mut out = Vec::new();
    flate2::read::ZlibDecoder::new(&packed[..])
        .read_to_end(&mut out)
        .unwrap();
    out
}

/// Names of a kind sorted, values of one name as they came, like the vectors.
fn sorted(details: Vec<(String, String)>) -> Vec<(String, String)> {
    let kind = |key: &str| key.split_once(':').map_or(key, |(kind, _)| kind).to_owned();
    let mut left = details;
    let mut out = Vec::new();
    while let Some(first) = left.first() {
        let first = kind(&first.0);
        let (mut same, rest): (Vec<_>, Vec<_>) =
            left.into_iter().partition(|(key, _)| kind(key) == first);
        // Session fields stand in the order of rules and cookies.
        if first != "session_field" {
            same.sort_by(|a, b| a.0.cmp(&b.0));
        }
        out.extend(same);
        left = rest;
    }
    out
}

/// Whether our details are the expected ones; a long expected value is given as its length and ends.
fn agree(ours: &[(String, String)], expected: &Value, prefix: bool) -> bool {
    let expected = expected.as_array().unwrap();
    ours.len() == expected.len()
        && ours.iter().zip(expected).all(|((key, value), expected)| {
            key == expected[0].as_str().unwrap()
                && match &expected[1] {
                    Value::String(text) if prefix && key == "response_body" => {
                        text.starts_with(value.as_str()) && value.chars().count() >= 1000
                    }
                    Value::String(text) => replaced_once(value) == replaced_once(text),
                    long => {
                        value.chars().count() as u64 == long["chars"].as_u64().unwrap()
                            && value.starts_with(long["starts"].as_str().unwrap())
                            && value.ends_with(long["ends"].as_str().unwrap())
                    }
                }
        })
}

/// The text with each run of replacement characters as one: the reference logger writes one per byte that does not
/// decode, we write one per sequence (`docs/contract.md`, section 1.5).
fn replaced_once(text: &str) -> String {
    let mut once: Vec<char> = text.chars().collect();
    once.dedup_by(|a, b| *a == '\u{fffd}' && *b == '\u{fffd}');
    once.into_iter().collect()
}

#[test]
fn messages_are_those_of_the_reference_logger_with_our_differences() {
    let mut wrong = Vec::new();
    for vector in crate::rules::tests::vectors("message-vectors.json") {
        let Ok(rules) = RuleSet::parse(vector["rules"].as_str().unwrap()) else {
            assert_eq!(vector["rejected_at"], "rules");
            continue;
        };
        // What the HTTP parser refuses never comes here; but a path that go cannot decode does (M14).
        let name = vector["name"].as_str().unwrap();
        if vector.get("rejected_at").is_some() && name != "bad/request-bad-path-escape" {
            continue;
        }
        let (request, response) = read_exchange(
            &bytes_of(&vector, "request"),
            &bytes_of(&vector, "response"),
        );
        let rules = Arc::new(rules);
        let (now, interval) = (
            vector["now_ms"].as_u64().unwrap(),
            vector["interval_ms"].as_u64().unwrap(),
        );
        for slice in [1 << 20, 7, 1] {
            let mut writer = LineWriter::new(config(), Arc::clone(&rules), Lines::default());
            play(&mut writer, &request, &response, now, interval, slice);
            let lines = &writer.output().0;
            let ours = lines.first().map(|(line, _)| sorted(pairs(line)));
            let expected = vector.get("recommended").unwrap_or(&vector["expected"]);
            let prefix = vector.get("recommended_prefix_of").is_some();
            let right = match &ours {
                None => expected.is_null(),
                Some(ours) if name == "bad/request-bad-path-escape" => ours.contains(&(
                    "request_url".to_owned(),
                    "http://api.example/a%zz".to_owned(),
                )),
                Some(ours) => !expected.is_null() && agree(ours, expected, prefix),
            };
            if !right {
                wrong.push(format!(
                    "{name} in slices of {slice}\n  ours     {ours:?}\n  expected {expected}"
                ));
                break;
            }
            if response.body.len() > 10_000 {
                break;
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} wrong\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// An exchange from text; bodies end with the text.
fn exchange(request: &str, response: &str) -> (Message, Message) {
    let with_length = |text: &str| {
        let (head, body) = text.split_once("\n\n").unwrap();
        format!("{head}\nContent-Length: {}\n\n{body}", body.len())
    };
    read_exchange(
        with_length(request).as_bytes(),
        with_length(response).as_bytes(),
    )
}

fn plain_exchange() -> (Message, Message) {
    exchange(
        "POST /a?q=1 HTTP/1.1\nHost: h\n\nasked",
        "HTTP/1.1 200 OK\n\nanswered",
    )
}

/// The details of the only line, without those that every line has.
#[track_caller]
fn only_line(writer: &mut LineWriter<Lines>) -> Vec<(String, String)> {
    let lines = &writer.output().0;
    assert_eq!(lines.len(), 1);
    pairs(&lines[0].0)
}

fn value_of<'a>(details: &'a [(String, String)], key: &str) -> Option<&'a str> {
    details
        .iter()
        .find(|(other, _)| other == key)
        .map(|(_, value)| value.as_str())
}

#[test]
fn details_stand_in_the_order_of_the_table_and_of_the_wire() {
    let (request, response) = exchange(
        "POST /a?z=1&b=2 HTTP/1.1\nX-Z: 1\nHost: h\nCookie: s=1\nX-A: 2\n\nasked",
        "HTTP/1.1 201 Created\nX-Y: 1\nX-B: 2\n\nanswered",
    );
    let mut writer = writer("include debug", config());
    play(&mut writer, &request, &response, 5, 2, 3);
    let keys: Vec<_> = only_line(&mut writer)
        .into_iter()
        .map(|(key, _)| key)
        .collect();
    let expected = [
        "request_method",
        "request_url",
        "response_code",
        "request_body",
        "request_header:x-z",
        "request_header:cookie",
        "request_header:x-a",
        "request_header:content-length",
        "request_param:z",
        "request_param:b",
        "response_header:x-y",
        "response_header:x-b",
        "response_header:content-length",
        "response_body",
        "session_field:s",
        "now",
        "interval",
        "host",
    ];
    assert_eq!(keys, expected);
}

#[test]
fn what_is_configured_is_added() {
    let (request, response) = exchange(
        "POST /a HTTP/1.1\nHost: h\nx-real-ip: proxy\nContent-Type: Application/x-www-form-urlencoded; charset=utf-8\n\na=1&B=%32",
        "HTTP/1.1 200 OK\n\n",
    );
    let opted = Config {
        annotate: true,
        form_params: true,
        client_address: true,
        realip_header: Some("X-Real-IP".to_owned()),
        ..config()
    };
    let mut writer = writer(
        "include debug\n/custom_field:.*|request_body/ remove",
        opted,
    );
    play(&mut writer, &request, &response, 5, 2, 4);
    let details = only_line(&mut writer);
    for (key, value) in [
        ("request_header:x-real-ip", Some("10.0.0.1")),
        ("request_header:x-forwarded-for", Some("10.0.0.1")),
        ("request_param:a", Some("1")),
        ("request_param:b", Some("2")),
        ("request_body", None),
        ("custom_field:client_address", Some("10.0.0.1")),
        ("custom_field:client_port", Some("5000")),
        ("custom_field:server_address", Some("10.0.0.2")),
        ("custom_field:vni", Some("42")),
        ("custom_field:encapsulation", Some("vxlan")),
        ("custom_field:call_index", Some("1")),
        ("custom_field:response_started", Some("5000000")),
        ("custom_field:incomplete", None),
        ("host", Some("oracle-host")),
    ] {
        assert_eq!(value_of(&details, key), value, "{key}");
    }
    assert_eq!(
        value_of(&details, "custom_field:exchange_id")
            .unwrap()
            .len(),
        32
    );
}

#[test]
fn the_address_of_the_client_replaces_all_lines_of_its_header() {
    let (request, response) = exchange(
        "GET /a HTTP/1.1\nHost: h\nX-Real-IP: one\nx-real-ip: two\nX-Real-Ip\u{b}: three\n\n",
        "HTTP/1.1 200 OK\n\n",
    );
    let opted = Config {
        realip_header: Some("X-Real-IP".to_owned()),
        ..config()
    };
    let mut writer = writer("include debug", opted);
    play(&mut writer, &request, &response, 5, 2, 4);
    let values: Vec<_> = only_line(&mut writer)
        .into_iter()
        .filter(|(key, _)| key.contains("real-ip"))
        .map(|(_, value)| value)
        .collect();
    assert_eq!(values, ["10.0.0.1"]);
}

#[test]
fn ids_depend_on_place_and_not_on_time() {
    let (request, response) = plain_exchange();
    let id = |now| {
        let mut writer = writer(
            "include debug",
            Config {
                annotate: true,
                ..config()
            },
        );
        play(&mut writer, &request, &response, now, 1, 9);
        value_of(&only_line(&mut writer), "custom_field:exchange_id")
            .unwrap()
            .to_owned()
    };
    assert_eq!(id(10), id(99));
}

#[test]
fn calls_end_in_exactly_one_bucket() {
    let (request, response) = plain_exchange();
    let rules =
        "include debug\nsample 50\n/request_param:q/ stop_if /2/\n/.*/ remove_if_found /nothing/";
    let mut writer = writer(rules, config());
    let stopped = exchange("GET /?q=2 HTTP/1.1\nHost: h\n\n", "HTTP/1.1 200 OK\n\n");
    for number in 0..200 {
        let (request, response) = if number % 4 == 0 {
            (&stopped.0, &stopped.1)
        } else {
            (&request, &response)
        };
        play(&mut writer, request, response, 5, 2, 3);
    }
    let counters = *writer.counters();
    assert_eq!((counters.calls_seen, counters.calls_stopped), (200, 50));
    assert!(
        counters.lines_written > 40 && counters.calls_sampled > 40,
        "{counters:?}"
    );
    assert_eq!(
        counters.calls_seen,
        counters.lines_written + counters.calls_stopped + counters.calls_sampled
    );
    assert_eq!((writer.open_bytes(), writer.open_calls()), (0, 0));

    let mut writer = self::writer("/.*/ remove", config());
    play(&mut writer, &request, &response, 5, 2, 3);
    assert_eq!(
        (
            writer.counters().calls_stopped,
            writer.counters().calls_emptied
        ),
        (1, 1)
    );
    assert_eq!(writer.counters().copied_bytes, 0);
}

/// Opens a request and answers nothing.
fn request_only(writer: &mut LineWriter<Lines>, body: &[u8]) -> Result<Box<Draft>, Unwritten> {
    let flow = flow();
    let origin = Origin {
        flow: &flow,
        client_is_originator: true,
        call_index: 1,
        message: MessageId::at(0),
        time: Timestamp::ZERO,
    };
    let head = RequestHead::new(b"PUT", b"/half", Version::Http11, &[]);
    let mut draft = writer.request(&head, &origin);
    writer.body(&mut draft, Side::Request, body, Timestamp::ZERO);
    draft
}

#[test]
fn half_calls_are_counted_and_written_on_demand() {
    for half_calls in [false, true] {
        let mut writer = writer(
            "include debug",
            Config {
                half_calls,
                annotate: true,
                ..config()
            },
        );
        let draft = request_only(&mut writer, b"text");
        writer.unpaired(draft, UnpairedReason::Closed);
        assert_eq!(writer.counters().half_closed, 1);
        assert_eq!(writer.counters().calls_seen, u64::from(half_calls));
        if half_calls {
            assert!(writer.output().0[0].1.unpaired);
            let details = only_line(&mut writer);
            assert_eq!(value_of(&details, "request_body"), Some("text"));
            assert_eq!(value_of(&details, "response_code"), None);
            assert_eq!(value_of(&details, "custom_field:half"), Some("closed"));
        }
    }
}

#[test]
fn a_response_that_was_anothers_is_a_half_call_of_its_own() {
    let config = Config {
        half_calls: true,
        annotate: true,
        ..config()
    };
    let mut alone = writer("include debug", config.clone());
    let draft = request_only(&mut alone, b"text");
    alone.unpaired(draft, UnpairedReason::Gap);
    let mut paired = writer("include debug", config);
    let mut draft = request_only(&mut paired, b"text");
    let flow = flow();
    let time = Timestamp::from_nanos(9_000_000);
    let origin = Origin {
        flow: &flow,
        client_is_originator: true,
        call_index: 1,
        message: MessageId::at(100),
        time,
    };
    let (name, value) = (&b"x-of-another"[..], &b"secret"[..]);
    let headers = [Header::new(name, value)];
    let head = ResponseHead::new(401, Version::Http11, &headers);
    paired.response(&mut draft, &head, &origin);
    paired.body(&mut draft, Side::Response, b"another's", Timestamp::ZERO);
    paired.missing(&mut draft, Side::Response, 7);
    paired.end(&mut draft, Side::Response, BodyEnd::Cut, time);
    let response = paired.split_response(&mut draft, 2);
    paired.unpaired(draft, UnpairedReason::Gap);
    paired.unpaired(response, UnpairedReason::Gap);
    assert_eq!(paired.open_calls(), 0);
    assert_eq!(paired.output().0[0].0, alone.output().0[0].0);
    let details = pairs(&paired.output().0[1].0);
    assert_eq!(value_of(&details, "response_code"), Some("401"));
    assert_eq!(
        value_of(&details, "response_header:x-of-another"),
        Some("secret")
    );
    assert_eq!(value_of(&details, "response_body"), Some("another's"));
    assert_eq!(value_of(&details, "request_method"), None);
    assert_eq!(value_of(&details, "custom_field:call_index"), Some("2"));
}

/// A response that was taken for the one of a request, and then given back.
fn split(rules: &str) -> LineWriter<Lines> {
    let mut writer = writer(
        rules,
        Config {
            half_calls: true,
            ..config()
        },
    );
    let mut draft = request_only(&mut writer, b"text");
    let flow = flow();
    let origin = Origin {
        flow: &flow,
        client_is_originator: true,
        call_index: 1,
        message: MessageId::at(100),
        time: Timestamp::from_nanos(9_000_000),
    };
    let headers = [Header::new(b"x-secret", b"value")];
    let head = ResponseHead::new(401, Version::Http11, &headers);
    writer.response(&mut draft, &head, &origin);
    let response = writer.split_response(&mut draft, 2);
    writer.unpaired(draft, UnpairedReason::Gap);
    writer.unpaired(response, UnpairedReason::Gap);
    writer
}

#[test]
fn what_rules_found_in_a_response_does_not_count_for_a_request_that_was_not_its_own() {
    for rule in [
        "/response_code/ stop_unless /401/",
        "/response_header:x-secret/ stop_unless_found /value/",
        "/request_method/ stop_unless /POST/",
    ] {
        let mut writer = split(rule);
        assert_eq!(writer.counters().calls_stopped, 2, "{rule}");
        assert!(writer.output().0.is_empty(), "{rule}");
    }
    // The rules left something of the response only, or of the request only.
    for rule in [
        "/request_.*/ remove\n/now/ remove",
        "/response_.*/ remove\n/now/ remove",
    ] {
        let mut writer = split(rule);
        assert_eq!(writer.counters().calls_emptied, 1, "{rule}");
        assert_eq!(writer.output().0.len(), 1, "{rule}");
    }
}

#[test]
fn an_orphan_response_is_a_half_call_without_a_request() {
    let mut writer = writer(
        "include debug",
        Config {
            half_calls: true,
            ..config()
        },
    );
    let flow = flow();
    let time = Timestamp::from_nanos(7_000_000);
    let origin = Origin {
        flow: &flow,
        client_is_originator: false,
        call_index: 1,
        message: MessageId::at(0),
        time,
    };
    let mut draft = writer.orphan_response(&ResponseHead::new(204, Version::Http11, &[]), &origin);
    writer.end(&mut draft, Side::Response, BodyEnd::Complete, time);
    writer.unpaired(draft, UnpairedReason::Gap);
    let details = only_line(&mut writer);
    assert_eq!(value_of(&details, "response_code"), Some("204"));
    assert_eq!(value_of(&details, "now"), Some("7"));
    assert_eq!(value_of(&details, "request_method"), None);
    assert_eq!(value_of(&details, "interval"), None);
}

#[test]
fn the_rules_at_its_start_apply_to_a_call() {
    let mut writer = writer("/request_body/ stop_unless_found /text/", config());
    let mut open = request_only(&mut writer, b"text");
    writer.end(&mut open, Side::Request, BodyEnd::Complete, Timestamp::ZERO);
    writer.set_rules(Arc::new(RuleSet::parse("/.*/ stop").unwrap()));
    let late = request_only(&mut writer, b"text");
    writer.finish(open);
    writer.finish(late);
    let details = only_line(&mut writer);
    assert_eq!(value_of(&details, "request_body"), Some("text"));
    assert_eq!(writer.open_calls(), 0);
}

#[test]
fn an_early_answer_and_a_gap_keep_both_bodies() {
    let mut writer = writer("include debug", config());
    let flow = flow();
    let origin = Origin {
        flow: &flow,
        client_is_originator: true,
        call_index: 1,
        message: MessageId::at(0),
        time: Timestamp::ZERO,
    };
    let mut draft = request_only(&mut writer, "sent \u{20ac}".as_bytes().split_at(6).0);
    writer.response(
        &mut draft,
        &ResponseHead::new(413, Version::Http11, &[]),
        &origin,
    );
    writer.missing(&mut draft, Side::Request, 5);
    writer.body(&mut draft, Side::Response, b"too much", Timestamp::ZERO);
    writer.body(&mut draft, Side::Request, b" more", Timestamp::ZERO);
    writer.end(&mut draft, Side::Request, BodyEnd::Cut, Timestamp::ZERO);
    writer.end(
        &mut draft,
        Side::Response,
        BodyEnd::Complete,
        Timestamp::ZERO,
    );
    writer.finish(draft);
    let notes = writer.output().0[0].1;
    assert_eq!((notes.missing_bytes, notes.incomplete), (5, true));
    let details = only_line(&mut writer);
    assert_eq!(
        value_of(&details, "request_body"),
        Some("sent \u{fffd} more")
    );
    assert_eq!(value_of(&details, "response_body"), Some("too much"));
}
