//! Fuzz bodies: any bytes in, a panic out if something is wrong. Run on the saved corpus in every test run, and by
//! a fuzzer with the same functions.
//!
//! What must hold for every input is asserted here: ledgers balance, nothing claims bytes that were not there.

use bench::traffic::{Conversation, Frame as Made, Side, Wire};
use engine_core::decap::{Config, Decap, Frame, LinkType};
use engine_core::rules::{RuleSet, Sampler, apply_all};
use engine_core::time::Timestamp;

use crate::engine;

/// A fuzz body and the name of its folder in the corpus.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: &[Target] = &[
    ("decap", decap),
    ("http1", http1),
    ("pipeline", pipeline),
    ("rules", rules),
];

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

/// Every frame ends in one box, and no segment is longer than what carried it.
pub fn decap(input: &[u8]) {
    let mut decap = Decap::new(Config::default());
    for frame in frames(input) {
        if let Ok(segment) = decap.frame(&frame) {
            assert!(segment.payload.len() <= segment.payload_wire_len as usize);
        }
        assert_eq!(decap.counters().unaccounted(), 0);
    }
}

/// Whatever comes in: lines are JSON and all ledgers balance ([`engine::read`] asserts both).
pub fn pipeline(input: &[u8]) {
    engine::read(frames(input));
}

/// What client and server say, in turns that a length begins (two octets, the highest bit for the server), spoken in one
/// flawless connection.
pub fn http1(mut input: &[u8]) {
    let mut turns = Vec::new();
    while let Some((&[high, low], rest)) = input.split_first_chunk() {
        let side = if high & 0x80 == 0 {
            Side::Client
        } else {
            Side::Server
        };
        let length = usize::from(u16::from_be_bytes([high & 0x7f, low]));
        let (said, rest) = rest.split_at(rest.len().min(length));
        turns.push((side, said.to_vec()));
        input = rest;
    }
    let talk = Conversation::new(Vec::new());
    let wire = Wire::default();
    let made: Vec<_> = talk
        .segments_of(&turns)
        .iter()
        .map(|segment| wire.frame(&talk, segment))
        .collect();
    engine::read(made.iter().map(|frame| engine::captured(frame, usize::MAX)));
}

/// Text that parses can be applied to any detail; what is left has no empty value.
pub fn rules(input: &[u8]) {
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
