//! Whole exchanges, driven through the writer as the HTTP parser drives it.

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
    writer: &mut Writer<Lines>,
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
    let head = RequestHead {
        method: method.as_bytes(),
        target: target.as_bytes(),
        version: request.version(),
        headers: &request.headers(),
    };
    let mut draft = writer.request(&head, &origin(now - interval));
    request
        .body
        .chunks(slice)
        .for_each(|bytes| writer.body(&mut draft, Side::Request, bytes));
    writer.end(
        &mut draft,
        Side::Request,
        request.end(),
        origin(now - interval).time,
    );
    let status = response.start.split(' ').nth(1).unwrap().parse().unwrap();
    let head = ResponseHead {
        status,
        version: response.version(),
        headers: &response.headers(),
    };
    writer.response(&mut draft, &head, &origin(now));
    response
        .body
        .chunks(slice)
        .for_each(|bytes| writer.body(&mut draft, Side::Response, bytes));
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

fn writer(rules: &str, config: Config) -> Writer<Lines> {
    Writer::new(
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
/// decode, we write one per sequence (contract 1.5).
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
            let mut writer = Writer::new(config(), Arc::clone(&rules), Lines::default());
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
fn only_line(writer: &mut Writer<Lines>) -> Vec<(String, String)> {
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
fn what_is_asked_for_is_added() {
    let (request, response) = exchange(
        "POST /a HTTP/1.1\nHost: h\nx-real-ip: proxy\nContent-Type: Application/x-www-form-urlencoded; charset=x\n\na=1&B=%32",
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
fn calls_end_in_exactly_one_box() {
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
fn request_only(writer: &mut Writer<Lines>, body: &[u8]) -> Result<Box<Draft>, Shed> {
    let flow = flow();
    let origin = Origin {
        flow: &flow,
        client_is_originator: true,
        call_index: 1,
        message: MessageId::at(0),
        time: Timestamp::ZERO,
    };
    let head = RequestHead {
        method: b"PUT",
        target: b"/half",
        version: Version::Http11,
        headers: &[],
    };
    let mut draft = writer.request(&head, &origin);
    writer.body(&mut draft, Side::Request, body);
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
fn nothing_is_told_of_a_response_that_was_anothers() {
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
    let head = ResponseHead {
        status: 401,
        version: Version::Http11,
        headers: &[Header::new(name, value)],
    };
    paired.response(&mut draft, &head, &origin);
    paired.body(&mut draft, Side::Response, b"another's");
    paired.missing(&mut draft, Side::Response, 7);
    paired.end(&mut draft, Side::Response, BodyEnd::Cut, time);
    paired.retract_response(&mut draft);
    paired.unpaired(draft, UnpairedReason::Gap);
    assert_eq!(paired.output().0[0].0, alone.output().0[0].0);
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
    let mut draft = writer.orphan_response(
        &ResponseHead {
            status: 204,
            version: Version::Http11,
            headers: &[],
        },
        &origin,
    );
    writer.end(&mut draft, Side::Response, BodyEnd::Complete, time);
    writer.unpaired(draft, UnpairedReason::Gap);
    let details = only_line(&mut writer);
    assert_eq!(value_of(&details, "response_code"), Some("204"));
    assert_eq!(value_of(&details, "now"), Some("7"));
    assert_eq!(value_of(&details, "request_method"), None);
    assert_eq!(value_of(&details, "interval"), None);
}

#[test]
fn memory_of_open_calls_is_bounded_and_what_is_cut_is_counted() {
    let mut writer = writer(
        "include debug",
        Config {
            open_bytes_max: 1 << 20,
            ..config()
        },
    );
    let drafts: Vec<_> = (0..20_000)
        .map(|_| request_only(&mut writer, &[b'x'; 900]))
        .collect();
    assert!(writer.open_bytes() < 3 << 20, "{}", writer.open_bytes());
    assert!(writer.counters().bodies_shed > 0);
    for draft in drafts {
        writer.finish(draft);
    }
    let counters = *writer.counters();
    assert!(counters.calls_shed > 0 && counters.lines_written > 0);
    assert_eq!(
        counters.calls_seen,
        counters.lines_written + counters.calls_shed
    );
    assert_eq!(writer.open_bytes(), 0);
    // Memory is there again.
    let draft = request_only(&mut writer, b"y");
    writer.finish(draft);
    assert_eq!(writer.counters().calls_shed, counters.calls_shed);
}

#[test]
fn bodies_are_cut_at_the_limit_and_say_so() {
    for rules in [
        "include debug",
        "include debug\n/response_body/ replace /nothing/, //",
    ] {
        let limited = Config {
            body_bytes_max: 10,
            annotate: true,
            ..config()
        };
        let mut writer = writer(rules, limited);
        let (request, response) = exchange(
            "GET / HTTP/1.1\nHost: h\n\n",
            "HTTP/1.1 200 OK\n\n0123456789abcdef",
        );
        play(&mut writer, &request, &response, 5, 2, 3);
        let notes = writer.output().0[0].1;
        assert_eq!((notes.response_body_bytes, notes.truncated), (16, true));
        let details = only_line(&mut writer);
        assert_eq!(value_of(&details, "response_body"), Some("0123456789"));
        assert_eq!(
            value_of(&details, "custom_field:response_body_bytes"),
            Some("16")
        );
        assert_eq!(writer.counters().bodies_limited, 1);
    }
}

/// A response of 16 bytes under a policy of 10, plain and coded: cut and marked, unless a rule has to see it.
#[track_caller]
fn check_truncated(rules: &str, truncated: bool, expected: Option<&str>) {
    for coding in ["", "gzip"] {
        let config = Config {
            annotate: true,
            ..config()
        };
        let mut writer = writer(rules, config);
        let (request, mut response) = exchange(
            "GET / HTTP/1.1\nHost: h\n\n",
            "HTTP/1.1 200 OK\n\n{\"k\":\"0123456\"}",
        );
        if coding == "gzip" {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            std::io::Write::write_all(&mut encoder, &response.body).unwrap();
            response.body = encoder.finish().unwrap();
            let header = (b"Content-Encoding".to_vec(), b"gzip".to_vec());
            response.headers.push(header);
        }
        let policy = ShedPolicy {
            truncated: ShedPolicy::CALLS,
            body_bytes_max: 10,
            ..ShedPolicy::default()
        };
        writer.set_shed_policy(policy);
        play(&mut writer, &request, &response, 5, 2, 3);
        assert_eq!(
            writer.counters().bodies_thinned,
            u64::from(truncated),
            "{rules}"
        );
        assert_eq!(writer.counters().bodies_limited, 0);
        assert_eq!(
            writer.counters().calls_stopped,
            u64::from(expected.is_none())
        );
        let Some(expected) = expected else { continue };
        assert_eq!(writer.output().0[0].1.truncated, truncated);
        let details = only_line(&mut writer);
        assert_eq!(value_of(&details, "response_body"), Some(expected));
        let full = value_of(&details, "custom_field:response_body_bytes");
        assert_eq!(full, truncated.then_some("15"));

        // What begins when the load has fallen is whole again.
        writer.output().0.clear();
        writer.set_shed_policy(ShedPolicy::default());
        play(&mut writer, &request, &response, 5, 2, 3);
        assert!(!writer.output().0[0].1.truncated);
    }
}

#[test]
fn thrift_cuts_bodies_and_evades_no_rule() {
    check_truncated("include debug", true, Some("{\"k\":\"0123"));
    check_truncated(
        "/response_body/ replace /345/, /x/",
        false,
        Some("{\"k\":\"012x6\"}"),
    );
    check_truncated("/response_body:$.k/ remove", false, Some("{}"));
    check_truncated("/response_body/ stop_if_found /6/", false, None);
    check_truncated(
        "/response_body/ stop_unless_found /6/",
        false,
        Some("{\"k\":\"0123456\"}"),
    );
}

#[test]
fn thrift_sheds_and_thins_a_share_of_the_calls_of_one_connection_and_counts_them() {
    const CALLS: u64 = 800;
    let flow = flow();
    for shed in [0, 1, 3, 64, 100, 255, ShedPolicy::CALLS] {
        let mut writer = writer("include debug", config());
        let policy = ShedPolicy {
            truncated: shed.midpoint(ShedPolicy::CALLS),
            body_bytes_max: 2,
            shed,
        };
        writer.set_shed_policy(policy);
        for call_index in 1..=CALLS {
            let origin = Origin {
                flow: &flow,
                client_is_originator: true,
                call_index,
                message: MessageId::at(0),
                time: Timestamp::ZERO,
            };
            let request = RequestHead {
                method: b"GET",
                target: b"/",
                version: Version::Http11,
                headers: &[],
            };
            let response = ResponseHead {
                status: 200,
                version: Version::Http11,
                headers: &[],
            };
            let mut draft = writer.request(&request, &origin);
            // What begins under policy stays as it began.
            writer.set_shed_policy(ShedPolicy::default());
            writer.response(&mut draft, &response, &origin);
            writer.body(&mut draft, Side::Response, b"text");
            writer.finish(draft);
            writer.set_shed_policy(policy);
        }
        let (counters, lines) = (*writer.counters(), writer.output().0.len() as u64);
        assert_eq!((writer.open_calls(), writer.open_bytes()), (0, 0));
        assert_eq!(counters.calls_seen, CALLS);
        assert_eq!(counters.calls_shed_overload + lines, CALLS);
        // Half of the bodies of those that are left are truncated.
        let expected = CALLS * u64::from(shed) / u64::from(ShedPolicy::CALLS);
        for (counted, expected) in [
            (counters.calls_shed_overload, expected),
            (counters.bodies_thinned, (CALLS - expected) / 2),
        ] {
            assert!(
                counted.abs_diff(expected) <= 2,
                "{shed}: {counted} of {CALLS}"
            );
        }
    }
}

#[test]
fn a_call_is_judged_by_the_rules_it_began_with() {
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
fn an_early_answer_and_a_hole_keep_both_bodies() {
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
        &ResponseHead {
            status: 413,
            version: Version::Http11,
            headers: &[],
        },
        &origin,
    );
    writer.missing(&mut draft, Side::Request, 5);
    writer.body(&mut draft, Side::Response, b"too much");
    writer.body(&mut draft, Side::Request, b" more");
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

/// Every place where a peer can put a secret, with a canary of its own.
fn nest_of_canaries(coding: &str) -> (Message, Message) {
    let request = "POST http://CANARYuser:CANARYpass@h/p?CANARYquery=CANARYvalue HTTP/1.1\nHost: h\n\
        Cookie: sid=CANARYcookie; CANARYname=1\nAuthorization: Bearer CANARYtoken\nX-CANARYheader: 1\n\
        User-Agent: probe\nReferer: http://x/?CANARYreferer\nTransfer-Encoding: CANARYcoding\n\
        Content-Type: application/x-www-form-urlencoded\n\nf=CANARYfield&CANARYfieldname=1";
    let response = "HTTP/1.1 200 OK\nSet-Cookie: s=CANARYset\nLocation: /?CANARYlocation\nETag: \"CANARYtag\"\n\n\
        {\"k\":\"CANARYbody\",\"b\":\"\u{fffd}CANARYlast\"}";
    let (mut request, mut response) = exchange(request, response);
    request.body = b"f=CANARYfield&CANARYfieldname=1".to_vec();
    if coding == "gzip" {
        for side in [&mut request, &mut response] {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            std::io::Write::write_all(&mut encoder, &side.body).unwrap();
            side.body = encoder.finish().unwrap();
            side.headers
                .push((b"Content-Encoding".to_vec(), b"gzip".to_vec()));
        }
    }
    (request, response)
}

/// No canary in any line, whatever the slices and whether bodies are coded, whole or cut.
#[track_caller]
fn check_hidden(rules: &str, config: &Config, hidden: &[&str]) {
    for (coding, slice, cut) in [
        ("", 1 << 20, 0),
        ("", 1, 0),
        ("", 5, 3),
        ("gzip", 1 << 20, 0),
        ("gzip", 3, 9),
    ] {
        let mut writer = writer("include debug", config.clone());
        // Buffers are reused: what an earlier call left in them must not come out under stricter rules.
        let (mut request, mut response) = nest_of_canaries(coding);
        play(&mut writer, &request, &response, 5, 2, slice);
        assert!(String::from_utf8_lossy(&writer.output().0[0].0).contains("CANARY"));
        writer.output().0.clear();
        writer.set_rules(Arc::new(RuleSet::parse(rules).unwrap()));
        for side in [&mut request, &mut response] {
            side.body.truncate(side.body.len() - cut);
            side.cut = cut > 0;
        }
        play(&mut writer, &request, &response, 5, 2, slice);
        for (line, _) in &writer.output().0 {
            let line = String::from_utf8_lossy(line).to_lowercase();
            for canary in hidden {
                let canary = format!("canary{canary}");
                assert!(!line.contains(&canary), "{rules}: {canary} in {line}");
            }
        }
    }
}

#[test]
fn no_canary_passes_a_preset_or_a_mask() {
    let everything = [""];
    let opted = Config {
        annotate: true,
        form_params: true,
        client_address: true,
        half_calls: true,
        ..config()
    };
    for config in [config(), opted] {
        check_hidden("", &config, &everything);
        check_hidden("include strict", &config, &everything);
        check_hidden("include default skip_compression", &config, &everything);
        // User information and raw framing never leave.
        check_hidden("include debug", &config, &["user", "pass", "coding"]);
        check_hidden(
            "include standard",
            &config,
            &["cookie", "name", "set", "user", "pass"],
        );
        check_hidden("/.*/ stop", &config, &everything);
        check_hidden("/response_body/ stop", &config, &everything);
        check_hidden("/.*/ remove", &config, &everything);
        check_hidden(
            "/.*/ replace /(?i)canary\\w*/, /x/\n/.*:x?-?canary.*/ remove",
            &config,
            &everything,
        );
        check_hidden(
            "/.*/ remove_if_found /(?i)canary/\n/.*:x?-?canary.*/ remove",
            &config,
            &everything,
        );
        check_hidden(
            "/.*/ remove_if /(?is).*canary.*/\n/.*:x?-?canary.*/ remove",
            &config,
            &everything,
        );
        check_hidden(
            "/.*/ remove_unless /\\d+/\n/.*:x?-?canary.*/ remove",
            &config,
            &everything,
        );
        check_hidden(
            "/.*/ remove_unless_found /^\\d+$/\n/.*:x?-?canary.*/ remove",
            &config,
            &everything,
        );
        check_hidden(
            "/.*/ replace /(?<=c)(?i)anary\\w*(?!c)|(?=C)C\\w*/, //\n/.*:x?-?canary.*/ remove",
            &config,
            &everything,
        );
        check_hidden(
            "/request_header:authorization/ stop_if_found /CANARY/",
            &config,
            &everything,
        );
        check_hidden(
            "/request_header:user-agent/ stop_unless /nobody/",
            &config,
            &everything,
        );
    }
    check_hidden("/request_body/ remove", &config(), &["field"]);
    check_hidden("/response_body/ remove", &config(), &["body", "last"]);
    check_hidden(
        "copy_session_field /.*/\n/session_field:.*|request_header:cookie/ remove",
        &config(),
        &["cookie", "name"],
    );
}

#[test]
fn half_a_secret_is_no_secret_told() {
    let card = exchange(
        "GET / HTTP/1.1\nHost: h\n\n",
        "HTTP/1.1 200 OK\n\n{\"card\":\"4111-1111-1111-1111\"}",
    );
    let (request, mut response) = card;
    response.body.truncate(20);
    response.cut = true;
    for (rules, withheld) in [
        ("/response_body/ replace /(\\d{4}-){3}\\d{4}/, /card/", true),
        ("include debug", false),
    ] {
        let mut writer = writer(rules, config());
        play(&mut writer, &request, &response, 5, 2, 3);
        assert_eq!(writer.counters().bodies_withheld, u64::from(withheld));
        assert!(writer.output().0[0].1.incomplete);
        let details = only_line(&mut writer);
        let body = if withheld {
            None
        } else {
            Some("{\"card\":\"4111-1111-1")
        };
        assert_eq!(value_of(&details, "response_body"), body);
    }
}

#[test]
fn what_a_mask_hides_in_a_body_is_no_param_and_no_cut_body_leaves() {
    const MASK: &str = "/request_body:$..card/ remove";
    let ask = |body: &str, config: Config| {
        let (request, response) = exchange(
            &format!(
                "POST / HTTP/1.1\nHost: h\nContent-Type: application/x-www-form-urlencoded\n\n{body}"
            ),
            "HTTP/1.1 200 OK\n\nok",
        );
        let mut writer = writer(MASK, config);
        play(&mut writer, &request, &response, 5, 2, 7);
        (only_line(&mut writer), *writer.counters())
    };
    let with_params = || Config {
        form_params: true,
        ..config()
    };
    let (details, counters) = ask("a=1&card=4111", with_params());
    assert_eq!(value_of(&details, "request_body"), Some("a=1"));
    assert_eq!(value_of(&details, "request_param:a"), Some("1"));
    assert_eq!(value_of(&details, "request_param:card"), None);
    assert_eq!(counters.bodies_unreadable, 0);
    for (body, config) in [
        ("card 4111", with_params()),
        (
            "a=1&card=4111",
            Config {
                body_bytes_max: 11,
                ..with_params()
            },
        ),
    ] {
        let (details, counters) = ask(body, config);
        assert_eq!(counters.bodies_unreadable, 1, "{body}");
        assert!(
            !details
                .iter()
                .any(|(key, value)| key == "request_body" || value.contains('4')),
            "{details:?}"
        );
    }
}
