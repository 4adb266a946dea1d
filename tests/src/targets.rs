//! Fuzz bodies: functions that take any bytes and panic if something is wrong. Every test run applies them to the saved
//! corpus; a fuzzer runs the same functions.
//!
//! Invariants of every input are asserted here: ledgers balance, no result has bytes that were not in the input, and no run holds
//! more memory or does more work than its input may cost ([`TARGETS`]).

mod collector;
mod http2;
mod kernel;
mod masks;
mod protobuf;
mod reload;
mod store;
mod turns;
mod websocket;

use std::io::{Cursor, Read as _};

use bench::traffic::{Conversation, Frame as Made, Side};
use engine_core::bundle::deflate::Encoder;
use engine_core::decap::{Config, Decap, Endpoint, Flags, Frame, LinkType, Network, Segment};
use engine_core::flow::{self, ByteInfo, Consumer, Direction, FlowEnd, FlowStart, Table};
use engine_core::limits::BODY_BYTES_MAX;
use engine_core::ndjson;
use engine_core::rules::{RuleSet, Sampler, apply_all};
use engine_core::time::Timestamp;
use engine_sys::packet::Frames;
use sniffer::capture_file::CaptureFile;

use crate::engine;
use crate::meter::{self, Bound, Cost, Limits};
use collector::{answers, control};
use http2::{h2, hpack};
use kernel::netlink;
use masks::masks;
use protobuf::protobuf;
use reload::reload;
use store::{store_bundle, store_filter};
use turns::{conversation, frames_of};
use websocket::websocket;

/// A fuzz body, under the name of its folder in the corpus.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name.
    pub name: &'static str,
    body: fn(&[u8]),
    limits: Limits,
}

const fn target(name: &'static str, body: fn(&[u8]), held: [u64; 2], work: [u64; 2]) -> Target {
    const fn bound([base, per_byte]: [u64; 2]) -> Bound {
        Bound { base, per_byte }
    }
    Target {
        name,
        body,
        limits: Limits {
            held: bound(held),
            work: bound(work),
        },
    }
}

const MIB: u64 = 1 << 20;

/// All of them: bytes that a run may hold, and its work, each for any input and for each byte of it. The numbers are some four
/// times what was seen; a pipeline has 1.5 MiB of tables and buffers before its first frame.
pub const TARGETS: &[Target] = &[
    target("answers", answers, [MIB, 64], [4 * MIB, 4000]),
    target("assembler", assembler, [4 * MIB, 500], [16 * MIB, 20_000]),
    target("block", block, [MIB, 16], [MIB, 1000]),
    // A few bytes of a coding become as many as `CODING_RATIO_MAX` times 64 allow, and Brotli takes its window.
    target("bodies", bodies, [32 * MIB, 4000], [256 * MIB, 100_000]),
    target("capture", capture, [8 * MIB, 64], [16 * MIB, 2000]),
    target("control", control, [MIB, 200], [4 * MIB, 4000]),
    target("decap", decap, [8 * MIB, 100], [16 * MIB, 5000]),
    // Its operations copy up to 1 MiB.
    target("deflate", deflate, [16 * MIB, 64], [256 * MIB, 20_000]),
    target("escape", escape, [MIB, 100], [MIB, 1000]),
    target("h2", h2, [16 * MIB, 1000], [64 * MIB, 20_000]),
    target("hpack", hpack, [16 * MIB, 1000], [64 * MIB, 20_000]),
    target("http1", http1, [16 * MIB, 1000], [64 * MIB, 20_000]),
    target("masks", masks, [MIB, 1000], [16 * MIB, 100_000]),
    target("netlink", netlink, [MIB, 500], [MIB, 5000]),
    target("pipeline", pipeline, [16 * MIB, 1000], [64 * MIB, 20_000]),
    target("protobuf", protobuf, [MIB, 500], [MIB, 20_000]),
    target("reload", reload, [32 * MIB, 2000], [128 * MIB, 50_000]),
    target("rules", rules, [64 * MIB, 20_000], [512 * MIB, 1_000_000]),
    target(
        "store_bundle",
        store_bundle,
        [8 * MIB, 100],
        [64 * MIB, 5000],
    ),
    target(
        "store_filter",
        store_filter,
        [8 * MIB, 10_000],
        [64 * MIB, 100_000],
    ),
    // A byte of a compressed message becomes a thousand at most.
    target(
        "websocket",
        websocket,
        [16 * MIB, 10_000],
        [64 * MIB, 200_000],
    ),
];

impl Target {
    /// Runs it on an input.
    ///
    /// # Panics
    ///
    /// Something is wrong, or costs more than it may.
    #[track_caller]
    pub fn run(&self, input: &[u8]) -> Cost {
        let cost = meter::measure(|| (self.body)(input));
        self.limits.check(cost, input.len());
        cost
    }
}

/// Runs the target `name` on an input, for a fuzzer.
///
/// # Panics
///
/// As [`Target::run`] does, or where there is no such target.
pub fn run(name: &str, input: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    target.expect("a target").run(input);
}

/// Frames as the targets read them: link type, length (two octets), time since the one before in units of 4 µs, bytes.
/// A frame that the input cuts is a frame that the capture cut.
fn frames(mut input: &[u8]) -> impl Iterator<Item = Frame<'_>> {
    let mut time = 1_767_225_600_000_000_000_u64;
    std::iter::from_fn(move || {
        let (&[link, low, high, step], rest) = input.split_first_chunk()?;
        let wire_len = u16::from_le_bytes([low, high]);
        let (bytes, rest) = rest.split_at(rest.len().min(usize::from(wire_len)));
        input = rest;
        time += u64::from(step) * 4_000;
        Some(Frame {
            time: Timestamp::from_nanos(time),
            link: link_type(link),
            bytes,
            wire_len: u32::from(wire_len),
            vlan: None,
        })
    })
}

fn link_type(number: u8) -> LinkType {
    match number {
        0 => LinkType::Ethernet,
        1 => LinkType::RawIp,
        2 => LinkType::LinuxSll,
        3 => LinkType::LinuxSll2,
        4 => LinkType::Null,
        5 => LinkType::Ppp,
        6 => LinkType::Pppoe,
        7 => LinkType::Nflog,
        other => LinkType::Other(u32::from(other)),
    }
}

/// Made frames in the form that the targets read.
pub fn input_of(made: &[Made]) -> Vec<u8> {
    let mut input = Vec::new();
    let mut last = made.first().map_or(0, |frame| frame.time);
    for frame in made {
        let length = u16::try_from(frame.bytes.len()).expect("made frames are short");
        let step = (frame.time - last) / 4_000;
        last = frame.time;
        input.push(0);
        input.extend_from_slice(&length.to_le_bytes());
        input.push(u8::try_from(step).unwrap_or(u8::MAX));
        input.extend_from_slice(&frame.bytes);
    }
    input
}

/// Every frame ends in one bucket, and no segment is longer than its frame.
fn decap(input: &[u8]) {
    let mut decap = Decap::new(Config::default());
    for frame in frames(input) {
        if let Ok(segment) = decap.frame(&frame) {
            assert!(segment.payload.len() <= segment.payload_wire_len as usize);
        }
        assert_eq!(decap.counters().unaccounted(), 0);
    }
}

/// Whatever comes in: lines are JSON and all ledgers balance ([`engine::read`] asserts both).
fn pipeline(input: &[u8]) {
    engine::read(frames(input));
}

/// Turns of client and server, each after its length (two octets, the highest bit for the server), on one flawless
/// connection.
fn http1(input: &[u8]) {
    let made = conversation(input);
    engine::read(made.iter().map(|frame| engine::captured(frame, usize::MAX)));
}

/// Text that parses can be applied to any detail; what is left has no empty value.
fn rules(input: &[u8]) {
    let cut = input
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(input.len());
    let (text, value) = input.split_at(cut);
    let Ok(rules) = RuleSet::parse(&String::from_utf8_lossy(text)) else {
        return;
    };
    let details = [
        "request_url",
        "request_header:cookie",
        "request_body",
        "response_body",
    ];
    let details: Vec<_> = details
        .iter()
        .map(|key| ((*key).to_owned(), value.to_vec()))
        .collect();
    if let Some(left) = apply_all(&rules, &details, &mut Sampler::new(1)) {
        assert!(left.len() <= details.len());
        assert!(left.iter().all(|(_, value)| !value.is_empty()));
    }
}

/// A block of a packet ring after its status word: no frame lies outside of it, and the walk ends.
fn block(input: &[u8]) {
    let mut walk = Frames::new(input);
    let mut count = 0;
    for frame in walk.by_ref() {
        let inside = input.as_ptr_range();
        let bytes = frame.bytes.as_ptr_range();
        assert!(inside.start <= bytes.start && bytes.end <= inside.end);
        count += 1;
    }
    assert!(count <= input.len());
    assert_eq!(walk.next(), None, "the end stays the end");
}

/// A capture file of any format: it ends, by its end or by an error, and gives no packet that is longer than the file
/// may hold.
fn capture(input: &[u8]) {
    let Ok(mut file) = CaptureFile::from_reader("input", Cursor::new(input.to_vec())) else {
        return;
    };
    while let Ok(Some(frame)) = file.next() {
        assert!(frame.bytes.len() <= sniffer::limits::CAPTURE_PACKET_BYTES_MAX);
    }
    assert!(matches!(file.next(), Ok(None)), "the end stays the end");
    assert!(file.packets_cut() <= file.packets());
}

/// A text, cut by its first octet into slices: the JSON string reads as the text with its wrong bytes replaced, however
/// it came.
fn escape(input: &[u8]) {
    let Some((&slice, text)) = input.split_first() else {
        return;
    };
    let mut whole = b"\"".to_vec();
    ndjson::escape(text, &mut whole);
    whole.push(b'"');
    let read: String = serde_json::from_slice(&whole).expect("a JSON string");
    assert_eq!(read, String::from_utf8_lossy(text));
    let (mut tail, mut parts) = (ndjson::Tail::default(), b"\"".to_vec());
    for part in text.chunks(usize::from(slice) + 1) {
        ndjson::escape_part(&mut tail, part, &mut parts);
    }
    ndjson::escape_end(&mut tail, &mut parts);
    parts.push(b'"');
    assert_eq!(whole, parts);
}

/// Segments in operations of eight octets: flow and side, flags, sequence number in tens relative to where its side
/// stands, acknowledgement likewise, length, bytes cut, milliseconds. Every byte is the low octet of its sequence number,
/// so bytes that are put together wrongly show.
fn assembler(input: &[u8]) {
    let config = flow::Config {
        flows_max: 3,
        buffered_bytes_max: 20_000,
        ..flow::Config::default()
    };
    let mut table: Table<Recorder> = Table::new(config);
    let mut stands = [[1_000_u32, u32::MAX - 2_000]; 4];
    let mut now = 1_767_225_600_000_000_000_u64;
    let mut bytes = Vec::new();
    for operation in input.chunks_exact(8) {
        let &[who, flags, seq, ack, low, high, cut, millis] = operation else {
            return;
        };
        let (flow, side) = (usize::from(who & 3), usize::from(who >> 7));
        now += u64::from(millis) * 1_000_000;
        let relative =
            |stand: u32, by: u8| stand.wrapping_add_signed(i32::from(by.cast_signed()) * 10);
        let (seq, ack) = (
            relative(stands[flow][side], seq),
            relative(stands[flow][1 - side], ack),
        );
        let wire_len = u32::from(u16::from_le_bytes([low, high]) % 4_000);
        let first = if flags & Flags::SYN == 0 {
            seq
        } else {
            seq.wrapping_add(1)
        };
        bytes.clear();
        bytes.extend(
            (0..wire_len.saturating_sub(u32::from(cut) / 16)).map(|n| first.wrapping_add(n) as u8),
        );
        if millis & 1 == 0 {
            stands[flow][side] = first.wrapping_add(wire_len);
        }
        let endpoint = |side: usize| Endpoint {
            addr: [side as u8; 16],
            port: 80 + flow as u16,
        };
        let segment = Segment {
            time: Timestamp::from_nanos(now),
            network: Network::default(),
            src: endpoint(side),
            dst: endpoint(1 - side),
            seq,
            ack,
            flags: Flags(flags),
            payload: &bytes,
            payload_wire_len: wire_len,
        };
        table.segment(&segment, &mut ());
        check_flows(&table);
    }
    table.finish(Timestamp::from_nanos(now), &mut ());
    check_flows(&table);
    assert_eq!((table.flows_open(), table.buffered_bytes()), (0, 0));
}

fn check_flows(table: &Table<Recorder>) {
    let counters = table.counters();
    let payload = counters.settled_bytes() + table.buffered_bytes();
    assert_eq!(counters.flow_payload_bytes, payload, "{counters:?}");
    assert_eq!(
        counters.flow_opened,
        counters.ended() + table.flows_open() as u64
    );
}

/// Asserts that what a flow passes on is one stream without hole or overlap.
struct Recorder {
    next: [u64; 2],
    finished: [bool; 2],
    ignores: bool,
}

impl Recorder {
    fn advance(&mut self, place: ByteInfo, len: u64) {
        let side = usize::from(place.direction == Direction::Responder);
        assert!(!self.finished[side], "bytes behind the end");
        assert_eq!(self.next[side], place.offset);
        self.next[side] += len;
    }
}

impl Consumer<()> for Recorder {
    fn open(start: &FlowStart, (): &mut ()) -> Self {
        Self {
            next: [0; 2],
            finished: [false; 2],
            // The consumer ignores one flow in four after its first bytes.
            ignores: start.responder.port == 83 || start.originator.port == 83,
        }
    }

    fn data(&mut self, place: ByteInfo, bytes: &[u8], (): &mut ()) {
        assert!(!bytes.is_empty());
        assert!(
            bytes
                .windows(2)
                .all(|pair| pair[1] == pair[0].wrapping_add(1))
        );
        if !self.ignores {
            self.advance(place, bytes.len() as u64);
        }
    }

    fn gap(&mut self, place: ByteInfo, len: u64, (): &mut ()) {
        assert!(len > 0);
        if !self.ignores {
            self.advance(place, len);
        }
    }

    fn finished(&mut self, place: ByteInfo, (): &mut ()) {
        let side = usize::from(place.direction == Direction::Responder);
        assert!(
            !std::mem::replace(&mut self.finished[side], true),
            "it ends once"
        );
    }

    fn close(self, _end: FlowEnd, (): &mut ()) {}

    fn ignores(&self, _direction: Direction) -> bool {
        self.ignores
    }
}

/// A response with the codings that the first octet names (two of them by its halves), in the framing and the segments
/// that the second and third name: the decoded body stays within the limit.
fn bodies(input: &[u8]) {
    let Some((&[codings, framing, mss], body)) = input.split_first_chunk() else {
        return;
    };
    let names = [
        "identity", "gzip", "deflate", "br", "zstd", "x-gzip", "zlib", "lzma",
    ];
    let name = |number: u8| names[usize::from(number & 7)];
    let mut response = format!(
        "HTTP/1.1 200 OK\r\nContent-Encoding: {}, {}\r\n",
        name(codings),
        name(codings >> 4)
    )
    .into_bytes();
    match framing % 3 {
        0 => {
            response
                .extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
        }
        1 => response.extend_from_slice(b"Connection: close\r\n\r\n"),
        _ => response.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n"),
    }
    if framing % 6 == 2 {
        for chunk in body.chunks(usize::from(framing) + 1) {
            response.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            response.extend_from_slice(chunk);
            response.extend_from_slice(b"\r\n");
        }
        response.extend_from_slice(b"0\r\n\r\n");
    } else {
        response.extend_from_slice(body);
    }
    let talk = Conversation {
        mss: usize::from(mss) * 8 + 1,
        ..Conversation::new(Vec::new())
    };
    let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec();
    let made = frames_of(&talk, &[(Side::Client, request), (Side::Server, response)]);
    let reading = engine::read(made.iter().map(|frame| engine::captured(frame, usize::MAX)));
    for (row, _) in &reading.calls {
        let body = bench::collect::value(row, "response_body").unwrap_or_default();
        // An octet that is no text becomes three.
        assert!(body.len() <= 3 * BODY_BYTES_MAX);
    }
}

/// Bytes and copies of earlier ones in operations: an octet below 128 is followed by as many bytes and one; another
/// copies, its lowest bits and the next octet are the length, the two behind them how far back. What is made of them
/// is in the encoder's stream again, and the stream is hardly longer.
fn deflate(mut input: &[u8]) {
    const BYTES_MAX: usize = 1 << 20;
    let mut bytes = Vec::new();
    while let Some((&[operation], rest)) = input.split_first_chunk() {
        if operation < 128 {
            let (fresh, rest) = rest.split_at(rest.len().min(usize::from(operation) + 1));
            bytes.extend_from_slice(fresh);
            input = rest;
            continue;
        }
        let Some((&[low, far_high, far_low], rest)) = rest.split_first_chunk() else {
            break;
        };
        input = rest;
        let length = usize::from(operation & 127) << 8 | usize::from(low);
        let far = usize::from(u16::from_be_bytes([far_high, far_low])) + 1;
        if far > bytes.len() || bytes.len() + length > BYTES_MAX {
            continue;
        }
        for at in bytes.len() - far..bytes.len() - far + length {
            bytes.push(bytes[at]);
        }
    }
    let mut stream = Vec::new();
    Encoder::default().zlib(&bytes, &mut stream);
    assert!(stream.len() <= bytes.len() + bytes.len() / 3000 + 11);
    let mut again = Vec::new();
    flate2::read::ZlibDecoder::new(&stream[..])
        .read_to_end(&mut again)
        .expect("it is a zlib stream");
    assert!(again == bytes, "{} bytes", bytes.len());
}
