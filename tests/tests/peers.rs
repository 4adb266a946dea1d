//! Habits of real peers, one a test, through `sniffer read` with annotations, half calls and the ledger. Here belong RFC
//! 9112 and RFC 9293 as they are implemented in the field; random accidents are in `simulation`.

use std::fs;
use std::io::Write as _;

use anyhow::{Context as _, Result, ensure};
use bench::collect::{Row, value};
use bench::traffic::Side::{self, Client, Server};
use bench::traffic::{Conversation, Frame as Made, Segment, Wire, flags, write_pcap};
use engine_core::limits::CODING_RATIO_MAX;
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use serde_json::Value;
use tests::truth;

use crate::live_read;

const GET: &str = "GET /next HTTP/1.1\r\nHost: h\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A connection of segments written by hand: relative numbers, data starts at 1.
struct Script {
    talk: Conversation,
    segments: Vec<Segment>,
    time: u64,
}

impl Script {
    /// Without a handshake.
    fn bare() -> Self {
        let talk = Conversation::new(Vec::new());
        Self {
            time: talk.start,
            segments: Vec::new(),
            talk,
        }
    }

    fn new() -> Self {
        Self::bare()
            .then(Client, flags::SYN, 0, 0, "")
            .then(Server, flags::SYN | flags::ACK, 0, 1, "")
            .then(Client, flags::ACK, 1, 1, "")
    }

    fn server_port(mut self, port: u16) -> Self {
        self.talk.server.set_port(port);
        self
    }

    fn client_port(mut self, port: u16) -> Self {
        self.talk.client.set_port(port);
        self
    }

    fn wait(mut self, seconds: u64) -> Self {
        self.time += seconds * 1_000_000_000;
        self
    }

    fn then(
        mut self,
        side: Side,
        flags: u8,
        seq: u32,
        ack: u32,
        payload: impl AsRef<[u8]>,
    ) -> Self {
        let [client, server] = self.talk.isn;
        let (own, other) = match side {
            Client => (client, server),
            Server => (server, client),
        };
        self.time += 100_000;
        self.segments.push(Segment {
            time: self.time,
            side,
            seq: own.wrapping_add(seq),
            ack: if flags & flags::ACK == 0 {
                0
            } else {
                other.wrapping_add(ack)
            },
            flags,
            payload: payload.as_ref().to_vec(),
        });
        self
    }

    /// Adds these turns, in segments of 1000 bytes, each side acknowledging all that it has.
    fn turns(mut self, turns: &[(Side, &[u8])]) -> Self {
        let mut next = [1_u32, 1];
        for (side, bytes) in turns {
            let own = usize::from(*side == Server);
            for piece in bytes.chunks(1_000) {
                self = self.then(*side, flags::ACK, next[own], next[1 - own], piece);
                next[own] += piece.len() as u32;
            }
        }
        self
    }

    fn frames(&self) -> impl Iterator<Item = Made> + '_ {
        let wire = Wire::default();
        self.segments
            .iter()
            .map(move |segment| wire.frame(&self.talk, segment))
    }
}

const FIN: u8 = flags::FIN | flags::ACK;
const RST: u8 = flags::RST | flags::ACK;

/// What `sniffer read` makes of a file.
struct Reading {
    rows: Vec<Row>,
    ledger: Value,
}

impl Reading {
    fn of(scripts: &[Script]) -> Result<Self> {
        Self::snapped(scripts, usize::MAX)
    }

    /// Of frames that are cut at this length.
    fn snapped(scripts: &[Script], snap_length: usize) -> Result<Self> {
        let mut frames: Vec<Made> = scripts.iter().flat_map(Script::frames).collect();
        frames.sort_by_key(|frame| frame.time);
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("x.pcap");
        let mut file = Vec::new();
        write_pcap(&mut file, &frames, snap_length)?;
        fs::write(&path, &file)?;
        let (lines, status) = live_read::read(&path, &live_read::SETTINGS)?;
        let ledger = status["capture"].clone();
        ensure!(ledger["calls"]["unaccounted"] == 0, "{ledger}");
        let unaccounted = ledger["stages"]["unaccounted"].as_object();
        let mut levels = unaccounted.context("levels")?.values();
        ensure!(levels.all(|level| level == 0), "{ledger}");
        Ok(Self {
            rows: truth::rows(&lines)?,
            ledger,
        })
    }

    fn counted(&self, stage: &str, name: &str) -> u64 {
        let count = &self.ledger["stages"][stage][name];
        count
            .as_u64()
            .unwrap_or_else(|| panic!("no {stage}.{name}"))
    }

    /// Method, URL, code and the reason of a half call, for each call; `-` for what is absent.
    fn calls(&self) -> Vec<String> {
        let names = [
            "request_method",
            "request_url",
            "response_code",
            "custom_field:half",
        ];
        let words = |row: &Row| names.map(|name| value(row, name).unwrap_or("-").to_owned());
        self.rows.iter().map(|row| words(row).join(" ")).collect()
    }

    fn detail(&self, call: usize, name: &str) -> Option<&str> {
        value(&self.rows[call], name)
    }
}

#[track_caller]
fn check(script: Script, expected: &[&str]) -> Reading {
    let reading = Reading::of(&[script]).unwrap_or_else(|error| panic!("{error:#}"));
    assert_eq!(reading.calls(), expected);
    reading
}

/// One exchange with these bytes, and a plain one after it that must be unaffected.
#[track_caller]
fn check_said(request: impl AsRef<[u8]>, response: impl AsRef<[u8]>, expected: &[&str]) -> Reading {
    let turns = [
        (Client, request.as_ref()),
        (Server, response.as_ref()),
        (Client, GET.as_bytes()),
        (Server, OK.as_bytes()),
    ];
    let next = "GET http://h/next 200 -";
    let expected: Vec<&str> = expected.iter().copied().chain([next]).collect();
    check(Script::new().turns(&turns), &expected)
}

const NEXT: &str = "GET http://h/next 200 -";

#[test]
fn data_on_the_syn() {
    let length = GET.len() as u32;
    // Taken by the server, and not taken: sent again.
    let taken = Script::bare()
        .then(Client, flags::SYN, 0, 0, GET)
        .then(Server, flags::SYN | flags::ACK, 0, 1 + length, "")
        .then(Server, flags::ACK, 1, 1 + length, OK);
    check(taken, &[NEXT]);
    let refused = Script::bare()
        .then(Client, flags::SYN, 0, 0, GET)
        .then(Server, flags::SYN | flags::ACK, 0, 1, "")
        .then(Client, flags::ACK, 1, 1, GET)
        .then(Server, flags::ACK, 1, 1 + length, OK);
    check(refused, &[NEXT]);
}

#[test]
fn both_open_at_once() {
    let script = Script::bare()
        .then(Client, flags::SYN, 0, 0, "")
        .then(Server, flags::SYN, 0, 0, "")
        .then(Client, flags::SYN | flags::ACK, 0, 1, "")
        .then(Server, flags::SYN | flags::ACK, 0, 1, "")
        .turns(&[(Client, GET.as_bytes()), (Server, OK.as_bytes())]);
    let reading = check(script, &[NEXT]);
    assert_eq!(reading.detail(0, "custom_field:client_port"), Some("40000"));
}

/// A closed window: probes with the next byte that are refused and acknowledged as before, then the rest; keep-alive probes
/// before and after, with a garbage byte and without.
#[test]
fn closed_windows_and_probes() {
    let body = "a body that does not fit into the window";
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    let requested = 1 + GET.len() as u32;
    let at = 1 + head.len() as u32;
    let end = at + body.len() as u32;
    let script = Script::new()
        .then(Client, flags::ACK, 1, 1, GET)
        .then(Server, flags::ACK, 1, requested, &head)
        .then(Client, flags::ACK, requested, at, "")
        .wait(1)
        .then(Server, flags::ACK, at, requested, &body[..1])
        .then(Client, flags::ACK, requested, at, "")
        .wait(5)
        .then(Server, flags::ACK, at, requested, &body[..1])
        .then(Client, flags::ACK, requested, at, "")
        .then(Client, flags::ACK, requested, at, "")
        .then(Server, flags::ACK, at, requested, body)
        .then(Client, flags::ACK, requested, end, "")
        .wait(60)
        .then(Client, flags::ACK, requested - 1, end, "")
        .then(Server, flags::ACK, end, requested, "")
        .wait(60)
        .then(Client, flags::ACK, requested - 1, end, "X")
        .then(Server, flags::ACK, end, requested, "")
        .then(Client, flags::ACK, requested, end, GET)
        .then(Server, flags::ACK, end, requested + GET.len() as u32, OK);
    let reading = check(script, &[NEXT, NEXT]);
    assert_eq!(reading.detail(0, "response_body"), Some(body));
    assert_eq!(reading.counted("flow", "flow_gaps"), 0);
}

/// The same addresses and ports again: after an end, after a reset, and after an end that was not captured.
#[test]
fn a_tuple_is_used_again() -> Result<()> {
    let turns = [(Client, GET.as_bytes()), (Server, OK.as_bytes())];
    let (requested, answered) = (1 + GET.len() as u32, 1 + OK.len() as u32);
    let again = |number: u32, seconds: u64| {
        let mut script = Script::bare().wait(seconds);
        script.talk.isn = [1_000 + number * 70_000, 9_000 + number * 90_000];
        script
            .then(Client, flags::SYN, 0, 0, "")
            .then(Server, flags::SYN | flags::ACK, 0, 1, "")
            .then(Client, flags::ACK, 1, 1, "")
            .turns(&turns)
    };
    let scripts = [
        again(0, 0).then(Client, FIN, requested, answered, "").then(
            Server,
            FIN,
            answered,
            requested + 1,
            "",
        ),
        again(1, 1).then(Server, RST, answered, requested, ""),
        again(2, 2),
        again(3, 3),
    ];
    let reading = Reading::of(&scripts)?;
    assert_eq!(reading.calls(), [NEXT; 4]);
    let ids: std::collections::BTreeSet<_> = (0..4)
        .map(|call| reading.detail(call, "custom_field:connection_id"))
        .collect();
    assert_eq!(ids.len(), 4, "each connection has an id of its own");
    Ok(())
}

#[test]
fn long_targets_and_many_headers() {
    let target = format!("/{}", "a".repeat(64 * 1024));
    let long = format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n");
    check_said(long, OK, &[&format!("GET http://h{target} 200 -")]);
    let headers = |count: u32| -> String {
        (0..count)
            .map(|number| format!("X-{number}: {number}\r\n"))
            .collect()
    };
    let many = format!("GET /many HTTP/1.1\r\nHost: h\r\n{}\r\n", headers(1000));
    let reading = check_said(many, OK, &["GET http://h/many 200 -"]);
    assert_eq!(reading.detail(0, "request_header:x-999"), Some("999"));
    // Beyond the bounds: counted, and reading goes on.
    for head in [headers(2_100), format!("X: {}\r\n", "y".repeat(300_000))] {
        let beyond = format!("GET /beyond HTTP/1.1\r\nHost: h\r\n{head}\r\n");
        let turns = [
            (Client, beyond.as_bytes()),
            (Server, OK.as_bytes()),
            (Client, GET.as_bytes()),
            (Server, OK.as_bytes()),
            (Client, GET.as_bytes()),
            (Server, OK.as_bytes()),
        ];
        let reading = Reading::of(&[Script::new().turns(&turns)]).expect("it is read");
        assert_eq!(reading.counted("http", "heads_oversized"), 1);
        assert_eq!(reading.calls().last().map(String::as_str), Some(NEXT));
        let wrong = reading.calls().iter().any(|call| call.contains("beyond"));
        assert!(!wrong, "{:?}", reading.calls());
    }
}

#[test]
fn tunnels_are_reported_once_and_their_bytes_counted() {
    let upgrade =
        "GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
    let switched = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n";
    let connect = "CONNECT db:5432 HTTP/1.1\r\nHost: db:5432\r\n\r\n";
    let granted = "HTTP/1.1 200 Connection established\r\n\r\n";
    // Of an upgrade nothing is read; what a CONNECT opened is, if it is HTTP.
    let answer = "\x16\x03\x03\0\x7a\x02\0\0";
    let hello = "\x16\x03\x01\x02\0\x01\0\x01\x7c\x03\x03";
    let tunnel = "CONNECT http://db:5432 200 -";
    for (request, response, inside, expected) in [
        (upgrade, switched, [GET, OK], &["GET http://h/ws 101 -"][..]),
        (connect, granted, [GET, OK], &[tunnel, NEXT]),
        (connect, granted, [hello, answer], &[tunnel]),
    ] {
        let turns = [
            (Client, request.as_bytes()),
            (Server, response.as_bytes()),
            (Client, inside[0].as_bytes()),
            (Server, inside[1].as_bytes()),
        ];
        let reading = check(Script::new().turns(&turns), expected);
        assert_eq!(reading.counted("http", "flows_tunnelled"), 1);
        let is_read = expected.len() > 1;
        assert_eq!(reading.counted("http", "tunnels_http"), u64::from(is_read));
        let skipped = reading.counted("http", "bytes_tunnelled")
            + reading.counted("flow", "flow_skipped_bytes");
        let sent = if is_read {
            0
        } else {
            inside[0].len() + inside[1].len()
        };
        assert_eq!(skipped as usize, sent);
    }
    // Refused, it is a call like any other.
    let refused = "HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n";
    check_said(connect, refused, &["CONNECT http://db:5432 407 -"]);
}

#[test]
fn old_and_careless_senders() {
    let plain = "GET http://h/a 200 -";
    for request in [
        "GET /a HTTP/1.1\nhOST: h\n\n",
        "\r\n\r\n\nGET /a HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: h\r\nX-Folded: one\r\n  two\r\n\tthree\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost : h\r\n\r\n",
        "GET http://h/a HTTP/1.1\r\nHost: h\r\n\r\n",
    ] {
        let reading = check_said(request, OK, &[plain]);
        if request.contains("Folded") {
            let folded = reading.detail(0, "request_header:x-folded");
            assert_eq!(folded, Some("one two three"));
        }
    }
    check_said(
        "M-SEARCH * HTTP/1.1\r\nHost: h\r\n\r\n",
        OK,
        &["M-SEARCH http://h* 200 -"],
    );
    let answers = [
        "HTTP/1.1 799\nContent-Length: 2\n\nok",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: l\r\n\r\nHTTP/1.1 799 X\r\nContent-Length: 2\r\n\r\nok",
    ];
    for answer in answers {
        check_said(GET, answer, &["GET http://h/next 799 -"]);
    }
    // HTTP/1.0, until the close; and HTTP/0.9, whose response has no status.
    let old = Script::new()
        .turns(&[
            (Client, b"GET /old HTTP/1.0\r\n\r\n"),
            (Server, b"HTTP/1.0 200 OK\r\n\r\nuntil the end"),
        ])
        .then(Server, FIN, 33, 22, "")
        .then(Client, FIN, 22, 34, "");
    let reading = check(old, &["GET http:///old 200 -"]);
    assert_eq!(reading.detail(0, "response_body"), Some("until the end"));
    let older = Script::new()
        .turns(&[(Client, b"GET /older\r\n"), (Server, b"<html>hello</html>")])
        .then(Server, FIN, 19, 13, "");
    check(older, &["GET http:///older - closed"]);
}

/// Contradictory or malformed lengths: the call is marked, and the next one is read correctly.
#[test]
fn contradicting_lengths() {
    for fields in [
        "Content-Length: 3\r\nContent-Length: 2",
        "Content-Length: -1",
        "Content-Length: 99999999999999999999",
        "Content-Length: 4\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: gzip",
    ] {
        let body = "1\r\na\r\n0\r\n\r\n";
        let request = format!("POST /p HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\n{body}");
        let reading = check_said(request, OK, &["POST http://h/p 200 -"]);
        let marked = reading.detail(0, "custom_field:incomplete");
        assert_eq!(marked, Some("true"), "{fields}");
        // A transfer coding without chunks contradicts nothing, but its end is unknown.
        let conflicts = reading.counted("http", "framing_conflicts");
        assert_eq!(conflicts > 0, fields.contains("Length"), "{fields}");
    }
}

/// Pauses of minutes within a body, while other connections go on; ten minutes are too long.
#[test]
fn slow_bodies() -> Result<()> {
    let slow = |port: u16, pause: u64| {
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n";
        let requested = 1 + GET.len() as u32;
        let mut script = Script::new()
            .client_port(port)
            .then(Client, flags::ACK, 1, 1, GET);
        script = script.then(Server, flags::ACK, 1, requested, head);
        for piece in 0..3 {
            let at = 1 + head.len() as u32 + piece * 10;
            script = script.wait(pause);
            script = script.then(Server, flags::ACK, at, requested, "ten bytes\n");
            script = script.then(Client, flags::ACK, requested, at + 10, "");
        }
        script
    };
    let mut scripts = vec![slow(1, 240), slow(2, 590), slow(3, 620)];
    for (number, port) in (0..300).zip(100..) {
        let turns = [(Client, GET.as_bytes()), (Server, OK.as_bytes())];
        let mut busy = Script::bare().client_port(port).wait(number * 7);
        busy = busy
            .then(Client, flags::SYN, 0, 0, "")
            .then(Server, flags::SYN | flags::ACK, 0, 1, "")
            .turns(&turns);
        scripts.push(busy);
    }
    let reading = Reading::of(&scripts)?;
    let of_port = |port: &str| -> Vec<&Row> {
        let rows = reading.rows.iter();
        rows.filter(|row| value(row, "custom_field:client_port") == Some(port))
            .collect()
    };
    for port in ["1", "2"] {
        let rows = of_port(port);
        ensure!(rows.len() == 1, "{rows:?}");
        assert_eq!(
            value(rows[0], "response_body"),
            Some("ten bytes\n".repeat(3).as_str())
        );
        assert_eq!(value(rows[0], "custom_field:incomplete"), None);
    }
    // The silent one is reported as far as it was captured, and marked.
    let rows = of_port("3");
    assert_eq!(value(rows[0], "custom_field:incomplete"), Some("true"));
    assert!(reading.counted("flow", "flow_ended_idle") > 0);
    Ok(())
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text).expect("memory takes all");
    encoder.finish().expect("memory takes all")
}

fn zlib(text: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text).expect("memory takes all");
    encoder.finish().expect("memory takes all")
}

fn coded(coding: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\nContent-Length: {length}\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

#[test]
fn bodies_in_codings() {
    let text = "one two three ".repeat(500);
    let plain = text.as_bytes();
    let members = [gzip(&plain[..700]), gzip(&plain[700..])].concat();
    let stacked = gzip(&zlib(plain));
    let raw = &zlib(plain)[2..];
    for (coding, body) in [
        ("gzip", members.as_slice()),
        ("x-gzip", &gzip(plain)),
        ("deflate", &zlib(plain)),
        ("deflate", raw),
        ("deflate, gzip", &stacked),
        ("zstd", &zstd::bulk::compress(plain, 1).expect("it does")),
        ("identity", plain),
    ] {
        let reading = check_said(GET, coded(coding, body), &[NEXT]);
        assert_eq!(
            reading.detail(0, "response_body"),
            Some(text.as_str()),
            "{coding}"
        );
        assert_eq!(
            reading.detail(0, "custom_field:incomplete"),
            None,
            "{coding}"
        );
    }
    // A wrong label: nothing is invented, it is counted, and the call is reported.
    let reading = check_said(GET, coded("gzip", b"not coded at all"), &[NEXT]);
    assert_eq!(reading.detail(0, "response_body"), None);
    assert_eq!(reading.counted("message", "bodies_undecodable"), 1);
    let reading = check_said(GET, coded("sdch", plain), &[NEXT]);
    assert_eq!(reading.detail(0, "response_body"), None);
    assert_eq!(reading.counted("message", "bodies_undecodable"), 1);
}

#[test]
fn a_coded_body_that_is_cut_keeps_what_decodes() {
    let text: String = (0_u32..20_000)
        .map(|number| format!("{:x} ", number.wrapping_mul(2_654_435_761)))
        .collect();
    let whole = coded("gzip", &gzip(text.as_bytes()));
    let cut = &whole[..whole.len() / 2];
    let (requested, at) = (1 + GET.len() as u32, 1 + cut.len() as u32);
    let script = Script::new()
        .turns(&[(Client, GET.as_bytes()), (Server, cut)])
        .then(Server, FIN, at, requested, "")
        .then(Client, FIN, requested, at + 1, "");
    let reading = check(script, &[NEXT]);
    let body = reading.detail(0, "response_body").unwrap_or_default();
    assert!(
        body.len() > text.len() / 4 && text.starts_with(body),
        "{} bytes",
        body.len()
    );
    assert_eq!(reading.detail(0, "custom_field:incomplete"), Some("true"));
}

#[test]
fn bombs_are_cut_at_the_limit_and_say_how_long_they_are() {
    let bomb = vec![b'x'; 30 << 20];
    let body = gzip(&bomb);
    let twice = gzip(&body);
    for (coding, body, length, full, counter) in [
        ("gzip", &body, 1 << 20, Some("31457280"), "bodies_limited"),
        // Of nested codings no more is decoded than a multiple of what was sent, so the whole length is not known.
        (
            "gzip, gzip",
            &twice,
            twice.len() * CODING_RATIO_MAX,
            None,
            "bodies_expanded",
        ),
    ] {
        let reading = check_said(GET, coded(coding, body), &[NEXT]);
        let left = reading.detail(0, "response_body").map(str::len);
        assert_eq!(left, Some(length), "{coding}");
        let mark = reading.detail(0, "custom_field:response_body_bytes");
        assert!(
            mark.is_some() && (full.is_none() || mark == full),
            "{coding}"
        );
        assert_eq!(reading.counted("message", counter), 1);
    }
}

#[test]
fn half_calls_say_why() -> Result<()> {
    let requested = 1 + GET.len() as u32;
    let get = |port: u16| {
        Script::new()
            .client_port(port)
            .turns(&[(Client, GET.as_bytes())])
    };
    let scripts = [
        get(1).then(Server, RST, 1, requested, ""),
        get(2)
            .then(Server, FIN, 1, requested, "")
            .then(Client, FIN, requested, 2, ""),
        // The client acknowledges a response that was not captured.
        get(3)
            .then(Client, flags::ACK, requested, 500, "")
            .wait(1)
            .then(Client, flags::ACK, requested, 500, GET),
        get(4),
        // The end of the capture.
        {
            let mut late = Script::bare().client_port(5).wait(700);
            late = late.then(Client, flags::SYN, 0, 0, "");
            late = late.then(Server, flags::SYN | flags::ACK, 0, 1, "");
            late.turns(&[(Client, GET.as_bytes())])
        },
        // A response whose request was sent before the capture.
        Script::bare()
            .client_port(6)
            .turns(&[(Server, OK.as_bytes())]),
    ];
    let reading = Reading::of(&scripts)?;
    let mut reported: Vec<String> = (0..reading.rows.len())
        .map(|call| {
            let port = reading.detail(call, "custom_field:client_port");
            let half = reading.detail(call, "custom_field:half");
            let method = reading.detail(call, "request_method").unwrap_or("-");
            format!("{} {method} {}", port.unwrap_or("-"), half.unwrap_or("-"))
        })
        .collect();
    reported.sort();
    assert_eq!(
        reported,
        [
            "1 GET closed",
            "2 GET closed",
            "3 GET gap",
            "3 GET timeout",
            "4 GET timeout",
            "5 GET shutdown",
            "6 - gap",
        ]
    );
    let halves: u64 = reading.ledger["halves"]
        .as_object()
        .context("reasons")?
        .values()
        .filter_map(Value::as_u64)
        .sum();
    assert_eq!(halves, 7);
    Ok(())
}

/// Every call whose heads a snap length cuts is in the ledger: as two half calls, the request and the response.
#[test]
fn heads_cut_by_a_snap_length_are_half_calls() -> Result<()> {
    let request = format!(
        "GET /orders/7 HTTP/1.1\r\nHost: h\r\nCookie: {}\r\n\r\n",
        "c".repeat(200)
    );
    let response = format!(
        "HTTP/1.1 200 OK\r\nX: {}\r\nContent-Length: 2\r\n\r\nok",
        "x".repeat(200)
    );
    let turns: Vec<(Side, &[u8])> =
        [(Client, request.as_bytes()), (Server, response.as_bytes())].repeat(35);
    for (snap_length, target) in [(150, "http://h/orders/7"), (70, "http:///orders/7")] {
        let reading = Reading::snapped(&[Script::new().turns(&turns)], snap_length)?;
        assert_eq!(reading.ledger["halves"]["truncated"], 70, "{snap_length}");
        assert_eq!(reading.counted("http", "half_gap"), 0);
        let calls = reading.calls();
        let cut = [
            format!("GET {target} - truncated"),
            "- - 200 truncated".to_owned(),
        ];
        assert_eq!(calls[..2], cut);
        assert_eq!(calls[68..], cut);
    }
    Ok(())
}

/// Resets that the peer refuses end nothing: what follows them is read.
#[test]
fn exchanges_after_a_reset_that_is_ignored() {
    let (requested, answered) = (1 + GET.len() as u32, 1 + OK.len() as u32);
    let first = [(Client, GET.as_bytes()), (Server, OK.as_bytes())];
    for (side, seq, ack) in [
        (Client, requested, answered),
        (Server, answered, requested),
        (Server, 1, requested),
        (Client, 1, answered),
    ] {
        let script = Script::new()
            .turns(&first)
            .then(side, RST, seq, ack, "")
            .wait(1)
            .then(Client, flags::ACK, requested, answered, GET)
            .then(
                Server,
                flags::ACK,
                answered,
                requested + GET.len() as u32,
                OK,
            );
        check(script, &[NEXT, NEXT]);
    }
}

/// What cannot be read is counted by its port and named, and no calls are made of it.
#[test]
fn what_is_not_http_is_named_by_its_port() -> Result<()> {
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03GET / HTTP/1.1\r\n\r\n";
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let connection = |number: u16, port: u16, first: &[u8]| {
        Script::new()
            .client_port(number)
            .server_port(port)
            .turns(&[(Client, first), (Server, b"\x16\x03\x03\0\x7a\x02\0\0")])
    };
    let mut scripts: Vec<Script> = (1..=120)
        .map(|number| connection(number, 443, hello))
        .collect();
    scripts.extend((201..=203).map(|number| connection(number, 50_051, preface)));
    scripts.push(connection(301, 22, b"SSH-2.0-OpenSSH_9.2\r\n"));
    let ping = b"\0\0\x08\x06\0\0\0\0\0pingping";
    let late = Script::bare().client_port(40_401).server_port(8080);
    scripts.push(late.turns(&[(Client, ping), (Server, ping)]));
    let reading = Reading::of(&scripts)?;
    ensure!(reading.rows.is_empty(), "{:?}", reading.calls());
    let named: Vec<[u64; 5]> = reading.ledger["ports"]
        .as_array()
        .context("ports")?
        .iter()
        .map(|port| {
            ["port", "tls", "http2", "http2_midstream", "other"]
                .map(|key| port[key].as_u64().unwrap_or(0))
        })
        .collect();
    let mut named = named;
    named.sort_unstable();
    let expected = [
        [22, 0, 0, 0, 1],
        [443, 120, 0, 0, 0],
        [8080, 0, 0, 1, 0],
        [50_051, 0, 3, 0, 0],
    ];
    assert_eq!(named, expected);
    Ok(())
}
