//! Whole exchanges, driven through the writer as the HTTP parser drives it.

use std::io::Read as _;
use std::sync::Arc;

use serde_json::Value;

use super::*;
use crate::decap::{Endpoint, Network};
use crate::flow::FlowStart;
use crate::http::{BodyEnd, Exchanges as _, Header, Origin, RequestHead, ResponseHead};
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
        originator_seq: 7,
        time: Timestamp::ZERO,
        number: 1,
    }
}

/// One side as the parser would hand it on: head, then body with its transfer coding undone.
struct Side {
    start: String,
    headers: Vec<(Vec<u8>, Vec<u8>)>,
    body: Vec<u8>,
    cut: bool,
}

impl Side {
    fn headers(&self) -> Vec<Header<'_>> {
        self.headers
            .iter()
            .map(|(name, value)| Header { name, value })
            .collect()
    }

    fn header(&self, name: &str) -> Option<&[u8]> {
        let found = self
            .headers
            .iter()
            .find(|header| header.0.eq_ignore_ascii_case(name.as_bytes()));
        found.map(|header| &*header.1)
    }

    fn minor(&self) -> u8 {
        u8::from(!self.start.contains("HTTP/1.0"))
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
    request: &Side,
    response: &Side,
    now: u64,
    interval: u64,
    slice: usize,
) {
    let flow = flow();
    let origin = |millis: u64| Origin {
        flow: &flow,
        client_is_originator: true,
        call_index: 1,
        offset: 0,
        time: Timestamp::from_nanos(millis * 1_000_000),
    };
    let mut words = request.start.split(' ');
    let (method, target) = (words.next().unwrap(), words.next().unwrap());
    let head = RequestHead {
        method: method.as_bytes(),
        target: target.as_bytes(),
        minor: request.minor(),
        headers: &request.headers(),
    };
    let mut draft = writer.request(&head, &origin(now - interval));
    request
        .body
        .chunks(slice)
        .for_each(|bytes| writer.request_body(&mut draft, bytes));
    writer.request_end(&mut draft, request.end(), origin(now - interval).time);
    let status = response.start.split(' ').nth(1).unwrap().parse().unwrap();
    let head = ResponseHead {
        status,
        minor: response.minor(),
        headers: &response.headers(),
    };
    writer.response(&mut draft, &head, &origin(now));
    response
        .body
        .chunks(slice)
        .for_each(|bytes| writer.response_body(&mut draft, bytes));
    writer.response_end(&mut draft, response.end(), origin(now).time);
    writer.finish(draft);
}

fn read_exchange(request: &[u8], response: &[u8]) -> (Side, Side) {
    let request = Side::read(request, false);
    let status: u16 = String::from_utf8_lossy(response)
        .split(' ')
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    let bodyless = request.start.starts_with("HEAD") || matches!(status, 100..=199 | 204 | 304);
    let bodyless = bodyless || request.start.starts_with("CONNECT");
    (request, Side::read(response, bodyless))
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
                    Value::String(text) => value == text,
                    long => {
                        value.chars().count() as u64 == long["chars"].as_u64().unwrap()
                            && value.starts_with(long["starts"].as_str().unwrap())
                            && value.ends_with(long["ends"].as_str().unwrap())
                    }
                }
        })
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
