//! Floods of every kind that takes memory, together with well-behaved connections: memory stays within the limit,
//! evictions are counted, and the calls of the well-behaved connections are complete. Here belongs what grows with the
//! traffic.
//!
//! `BOUNDS_SIZE=50` makes every flood fifty times as large: a million flows, a thousand bodies of 1 MiB at once; with
//! 500 there are ten thousand. `BOUNDS_LIMIT_MIB=512` is a larger memory limit; few floods reach it, so evictions are not
//! required then.

use std::io::{BufWriter, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{env, fs, thread};

use bench::collect::{Row, value};
use bench::seed::Seed;
use bench::traffic::{
    Close, Conversation, Exchange, Frame as Made, Segment, Shape, Side, Wire, flags, write_pcap,
};
use engine_core::limits::RULES_SHARE_DIVISOR;
use engine_core::pipeline::{Config, Ledger};
use tests::engine::{Reader, Reading, captured};
use tests::program::sniffer_path;
use tests::truth;

/// The smallest limit, in MiB, so that floods of the default size are far beyond it.
const LIMIT_MIB: u32 = 16;

fn number_from(variable: &str) -> Option<u32> {
    let text = env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable} is a number")),
    )
}

fn size() -> u32 {
    number_from("BOUNDS_SIZE").unwrap_or(1)
}

fn limit() -> usize {
    (number_from("BOUNDS_LIMIT_MIB").unwrap_or(LIMIT_MIB) as usize) << 20
}

/// One frame of a flood by its number; none at its end.
type Flood = fn(u32) -> Option<Made>;

fn connection(number: u32) -> Conversation {
    let [_, a, b, c] = number.to_be_bytes();
    Conversation {
        client: SocketAddr::from((Ipv4Addr::new(100, a, b, c), 1_024)),
        ..Conversation::new(Vec::new())
    }
}

fn frame(connection_number: u32, side: Side, flags: u8, offset: u32, payload: Vec<u8>) -> Made {
    let segment = Segment {
        time: 0,
        side,
        seq: 1_000_u32.wrapping_add(offset),
        ack: if flags & flags::ACK == 0 { 0 } else { 1_001 },
        flags,
        payload,
    };
    Wire::default().frame(&connection(connection_number), &segment)
}

fn half_open(number: u32) -> Option<Made> {
    (number < 20_000 * size()).then(|| frame(number, Side::Client, flags::SYN, 0, Vec::new()))
}

fn one_packet(number: u32) -> Option<Made> {
    let request = b"GET /flood HTTP/1.1\r\nHost: flood\r\n\r\n".to_vec();
    (number < 20_000 * size()).then(|| frame(number, Side::Client, flags::ACK, 1, request))
}

/// Requests with bodies of 1 MiB that all come at once, 8 KiB at a time.
fn large_bodies(number: u32) -> Option<Made> {
    const PIECE: u32 = 8 << 10;
    let connections = 20 * size();
    let (round, which) = (number / connections, number % connections);
    let head = b"POST /flood HTTP/1.1\r\nHost: flood\r\nContent-Length: 1048576\r\n\r\n".to_vec();
    let offset = 1 + head.len() as u32 + (round.max(1) - 1) * PIECE;
    match round {
        0 => {
            let at = 1;
            Some(frame(which, Side::Client, flags::ACK, at, head))
        }
        1..=128 => Some(frame(
            which,
            Side::Client,
            flags::ACK,
            offset,
            vec![b'x'; PIECE as usize],
        )),
        _ => None,
    }
}

/// Endless header lines on 200 connections.
fn endless_headers(number: u32) -> Option<Made> {
    let line = format!("X-Flood: {}\r\n", "y".repeat(1_000)).into_bytes();
    let (round, which) = (number / 200, number % 200);
    let start = b"GET /flood HTTP/1.1\r\n".to_vec();
    let offset = 1 + start.len() as u32 + (round.max(1) - 1) * line.len() as u32;
    match round {
        0 => Some(frame(which, Side::Client, flags::ACK, 1, start)),
        _ if round < 50 * size() => Some(frame(which, Side::Client, flags::ACK, offset, line)),
        _ => None,
    }
}

/// Endless chunks of one byte on 10 connections.
fn endless_chunks(number: u32) -> Option<Made> {
    let head =
        b"POST /flood HTTP/1.1\r\nHost: flood\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    let chunks = b"1\r\nz\r\n".repeat(200);
    let (round, which) = (number / 10, number % 10);
    let offset = 1 + head.len() as u32 + (round.max(1) - 1) * chunks.len() as u32;
    match round {
        0 => Some(frame(which, Side::Client, flags::ACK, 1, head)),
        _ if round < 200 * size() => Some(frame(which, Side::Client, flags::ACK, offset, chunks)),
        _ => None,
    }
}

/// Bytes after a hole that is never filled, on 200 connections; every second byte of the sequence is missing, so that
/// ranges cannot be merged.
fn endless_out_of_order(number: u32) -> Option<Made> {
    let (round, which) = (number / 200, number % 200);
    match round {
        0 => Some(frame(
            which,
            Side::Client,
            flags::ACK,
            1,
            b"GET /flo".to_vec(),
        )),
        _ if round < 100 * size() => Some(frame(
            which,
            Side::Client,
            flags::ACK,
            100 + round * 2,
            vec![b'o'],
        )),
        _ => None,
    }
}

/// Well-behaved connections, whose segments are spread over the frames of a flood.
struct Background {
    talks: Vec<Conversation>,
    segments: Vec<Made>,
}

impl Background {
    fn new() -> Self {
        let mut seed = Seed::new(7);
        let shape = Shape {
            exchanges_max: 4,
            body_bytes_max: 3_000,
            ..Shape::default()
        };
        let good = (0..20).map(|_| Conversation {
            mss: 1448,
            ragged: false,
            close: Close::Fin,
            ..Conversation::seeded(&mut seed, &shape)
        });
        let talks: Vec<Conversation> = good.collect();
        let wire = Wire::default();
        let segments = talks.iter().flat_map(|talk| {
            let frames = talk.segments().into_iter();
            frames
                .map(|segment| wire.frame(talk, &segment))
                .collect::<Vec<_>>()
        });
        let segments = segments.collect();
        Self { talks, segments }
    }

    /// The flood and the segments spread over it, all within a few seconds.
    fn mixed(&self, flood: Flood, mut give: impl FnMut(Made)) {
        let frames = (0..).take_while(|number| flood(*number).is_some()).count();
        let every = (frames / self.segments.len()).max(1);
        let mut good = self.segments.iter();
        let mut time = 1_767_225_600_000_000_000;
        let mut next = |made: Made| {
            time += 5_000;
            give(Made { time, ..made });
        };
        for (number, made) in (0..).map_while(flood).enumerate() {
            next(made);
            if number % every == 0
                && let Some(segment) = good.next()
            {
                next(segment.clone());
            }
        }
        good.cloned().for_each(next);
    }

    /// All calls of the well-behaved connections are reported as they were sent.
    #[track_caller]
    fn check(&self, name: &str, rows: Vec<Row>) {
        let is_good = |row: &Row| value(row, "request_header:x-call-number").is_some();
        let rows: Vec<Row> = rows.into_iter().filter(is_good).collect();
        let exchanges = self.talks.iter().flat_map(|talk| &talk.exchanges);
        truth::check_all(exchanges, &rows).unwrap_or_else(|error| panic!("{name}: {error:#}"));
    }
}

/// `counted` selects the counters of the ledger that must not be zero.
#[track_caller]
fn check(name: &str, flood: Flood, counted: fn(&Ledger) -> u64) {
    let background = Background::new();
    let mut reader = Reader::new(&Config::default().within(limit()));
    let mut most = 0;
    let mut fed = 0_u32;
    background.mixed(flood, |made| {
        reader.feed(&captured(&made, usize::MAX));
        fed += 1;
        if fed.is_multiple_of(64) {
            let held = reader.ledger().held;
            most = most.max(held.payload_bytes + held.head_bytes + held.exchange_bytes);
        }
    });
    let ledger = reader.ledger();
    assert!(most <= limit() as u64 / 2, "{name}: {most} bytes held");
    println!(
        "{name}: {fed} frames, {most} bytes held, {}",
        reasons(&ledger)
    );
    let reached = limit() > (LIMIT_MIB as usize) << 20 || counted(&ledger) > 0;
    assert!(reached, "{name}: nothing counted: {ledger:?}");
    let reading = reader.finish();
    background.check(
        name,
        reading.calls.into_iter().map(|(row, _)| row).collect(),
    );
    check_process(name, &background, flood);
}

/// Evictions by reason.
fn reasons(ledger: &Ledger) -> String {
    let Ledger {
        flow,
        http,
        message,
        ..
    } = ledger;
    let named = [
        ("flows evicted", flow.flow_ended_evicted),
        ("halves evicted", http.half_evicted),
        ("holes over bounds", flow.flow_holes_over_bounds),
        ("heads oversized", http.heads_oversized),
        ("heads shed", http.heads_shed),
        ("bodies limited", message.bodies_limited),
        ("bodies shed", message.bodies_shed),
        ("calls shed", message.calls_shed),
    ];
    let named = named.into_iter().filter(|(_, count)| *count > 0);
    let named: Vec<_> = named
        .map(|(name, count)| format!("{count} {name}"))
        .collect();
    named.join(", ")
}

/// The same through the program, with its memory as the kernel reports it: the limit is for what grows with the traffic, beyond the
/// buffers that the first call needs.
#[track_caller]
fn check_process(name: &str, background: &Background, flood: Flood) {
    let (small, _) = run(|give| AllOpen { number: 1 }.frames(give));
    let (most, rows) = run(|give| background.mixed(flood, give));
    println!(
        "{name}: {} KiB, after one call {} KiB",
        most >> 10,
        small >> 10
    );
    assert!(
        most <= small + limit(),
        "{name}: {} KiB, after one call {} KiB",
        most >> 10,
        small >> 10
    );
    background.check(name, rows);
}

/// Largest resident memory of `sniffer read` on these frames, in bytes, and its calls.
fn run(frames: impl FnOnce(&mut dyn FnMut(Made))) -> (usize, Vec<Row>) {
    let mut child = Command::new(sniffer_path())
        .args(["read", "-", "--ports", "all", "--rules", "include debug"])
        .args(["--memory-limit", &limit().to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let status = format!("/proc/{}/status", child.id());
    let watch = thread::spawn(move || {
        let mut most = 0;
        while let Some(now) = fs::read_to_string(&status)
            .ok()
            .and_then(|text| anonymous(&text))
        {
            most = now.max(most);
            thread::sleep(Duration::from_millis(5));
        }
        most
    });
    let mut stdout = child.stdout.take().expect("it is piped");
    let lines = thread::spawn(move || {
        let mut lines = String::new();
        stdout.read_to_string(&mut lines).map(|_| lines)
    });
    let mut stdin = BufWriter::new(child.stdin.take().expect("it is piped"));
    // The header of a file without packets, then one record after the other.
    write_pcap(&mut stdin, &[], usize::MAX).expect("it reads");
    let mut record = Vec::new();
    frames(&mut |made| {
        record.clear();
        write_pcap(&mut record, &[made], usize::MAX).expect("memory takes all");
        stdin
            .write_all(&record[FILE_HEADER_BYTES..])
            .expect("it reads");
    });
    stdin.flush().expect("it reads");
    // An idle process would have ended before it is measured.
    thread::sleep(Duration::from_millis(200));
    drop(stdin);
    let ended = child.wait_with_output().expect("it ends");
    let lines = lines.join().expect("no panic").expect("it writes text");
    assert!(
        ended.status.success(),
        "{}: {}",
        ended.status,
        String::from_utf8_lossy(&ended.stderr)
    );
    (
        watch.join().expect("no panic"),
        truth::rows(&lines).expect("lines are JSON"),
    )
}

const FILE_HEADER_BYTES: usize = 24;

/// `RssAnon` in bytes: not `VmHWM`, which also counts the pages of the program's file that were touched.
fn anonymous(status: &str) -> Option<usize> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kib: usize = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kib << 10)
}

/// Calls that are all open before the first is answered.
struct AllOpen {
    number: u32,
}

impl AllOpen {
    fn frames(&self, mut give: impl FnMut(Made)) {
        let mut time = 1_767_225_600_000_000_000;
        let answer = "an answer ".repeat(20);
        // The handshake and the request; then the rest.
        for part in [0..4, 4..usize::MAX] {
            for which in 0..self.number {
                let talk = Conversation {
                    client: connection(which).client,
                    ..Conversation::new(vec![Exchange::get(which.into(), "/open", &answer)])
                };
                let segments = talk.segments();
                for segment in &segments[part.start..part.end.min(segments.len())] {
                    time += 5_000;
                    let made = Wire::default().frame(&talk, segment);
                    give(Made { time, ..made });
                }
            }
        }
    }
}

/// More calls are open at the same time than there is memory for: each is reported whole or counted as evicted, and so is
/// its response that comes later; none is counted as lost in the capture.
#[test]
fn calls_that_are_all_open_at_once() {
    let calls = AllOpen {
        number: 3_000 * size(),
    };
    // As the program divides it: an eighth is the uploader's, and a sixteenth that of the rules, which need less.
    let of_shard = limit() / 8 * 7 - limit() / RULES_SHARE_DIVISOR;
    let config = Config::default().within(of_shard);
    let mut reader = Reader::new(&config);
    let mut most = 0;
    calls.frames(|made| {
        reader.feed(&captured(&made, usize::MAX));
        most = most.max(reader.ledger().held.exchange_bytes);
    });
    let Reading {
        ledger,
        calls: reported,
    } = reader.finish();
    let http = ledger.http;
    let evicted = u64::from(calls.number) - reported.len() as u64;
    println!(
        "{} calls open at once: {} reported, {evicted} evicted, {most} bytes in open exchanges",
        calls.number,
        reported.len()
    );
    let answers = http.half_evicted + http.half_gap - evicted;
    assert_eq!(
        (http.unpaired_total(), answers),
        (evicted + answers, http.orphans),
        "{http:?}"
    );
    // Evicted connections are remembered, as long as there is memory for that.
    assert!(
        http.half_gap == 0 || evicted > config.flow.flows_max as u64,
        "{http:?}"
    );
    assert!(limit() > (LIMIT_MIB as usize) << 20 || evicted > 0);
    let (small, _) = run(|give| AllOpen { number: 1 }.frames(give));
    let (most, rows) = run(|give| calls.frames(give));
    println!(
        "resident: {} KiB, after one call {} KiB",
        most >> 10,
        small >> 10
    );
    assert!(
        most <= small + limit(),
        "{most} bytes, after one call {small}"
    );
    assert_eq!(rows.len(), reported.len());
}

#[test]
fn half_open_flows() {
    check("half-open flows", half_open, |ledger| {
        ledger.flow.flow_ended_evicted
    });
}

#[test]
fn one_packet_flows() {
    check("one-packet flows", one_packet, |ledger| {
        ledger.http.half_evicted
    });
}

#[test]
fn concurrent_large_bodies() {
    check("bodies of 1 MiB", large_bodies, |ledger| {
        ledger.flow.flow_ended_evicted + ledger.message.bodies_shed
    });
}

#[test]
fn headers_without_end() {
    check("endless headers", endless_headers, |ledger| {
        ledger.http.heads_oversized + ledger.http.heads_shed + ledger.flow.flow_ended_evicted
    });
}

#[test]
fn chunks_of_one_byte_without_end() {
    check("endless chunks", endless_chunks, |ledger| {
        ledger.message.bodies_limited
            + ledger.message.bodies_shed
            + ledger.http.unpaired_total()
            + ledger.held.exchanges
    });
}

#[test]
fn out_of_order_without_end() {
    check("endless out of order", endless_out_of_order, |ledger| {
        ledger.flow.flow_holes_over_bounds + ledger.flow.flow_holes_expired + ledger.flow.flow_gaps
    });
}
