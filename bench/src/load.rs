//! Steady traffic without end: numbered calls on many keep-alive connections, frames of all of them interleaved.
//!
//! In: a [`Shape`]. Out: frames, one after the other, that are made by writing number, ports, addresses and sequence
//! numbers into ready frames, so that one core can make millions a second and no two calls are alike. All inner
//! checksums are right (RFC 1624 arithmetic); the outer UDP checksum is zero, as mirrors send it (RFC 7348 §5). Memory
//! is bounded by [`VARIANTS`] bodies and one small record for each connection. Beyond [`LANES_MAX`] connections, those with a
//! call in progress change from call to call.
//!
//! The shape is that of the measurements this project compares itself with: a GET with some 330 bytes of head, a 200
//! with some 270 and a JSON body, segments of 1448 bytes, one acknowledgement for two segments of a response, and
//! [`Shape::calls_per_connection`] calls until FIN and a new client port.

use std::collections::VecDeque;

use crate::seed::Seed;
use crate::traffic::{Vxlan, Wire};
use connection::{Connection, Phase};
use script::Script;
use shape::CLIENT_NET;

mod call;
mod connection;
mod script;
mod shape;
mod template;

pub use call::{BODY_END, bodies, exchange};
pub use shape::{Shape, VARIANTS};

/// Connections with a call open at a time, at most; the others are open and silent, as most are.
pub const LANES_MAX: usize = 512;

/// Numbers of calls have ten digits: this is the first.
pub const FIRST_NUMBER: u64 = 1_000_000_000;

/// Time of the first frame in a file: 2026-01-01T00:00:00Z, in nanoseconds.
pub const EPOCH: u64 = 1_767_225_600_000_000_000;

const ISN: u32 = 1000;

const PORTS: u64 = 32_768;

/// The traffic.
pub struct Load {
    shape: Shape,
    opening: Script,
    closing: Script,
    calls: Vec<Script>,
    connections: Vec<Connection>,
    /// Connections with a call in progress, whose frames alternate.
    lanes: Vec<usize>,
    turn: usize,
    /// Open connections between two calls, longest first.
    idle: VecDeque<usize>,
    /// Connections that are not over.
    open: usize,
    opened: u64,
    first_number: u64,
    next_number: u64,
    end_number: u64,
    answered: Option<u64>,
    /// No call from this number on begins for now.
    held: u64,
}

impl Load {
    /// `calls` calls numbered from `first`, which is [`FIRST_NUMBER`] or more.
    pub fn new(shape: Shape, first: u64, calls: u64) -> Self {
        assert!(first >= FIRST_NUMBER && first + calls <= 10 * FIRST_NUMBER);
        let talk = script::talk(&shape);
        let mut seed = Seed::new(shape.seed);
        let scripts = (0..VARIANTS)
            .map(|_| script::call(&talk, &shape, &mut seed))
            .collect();
        let mut load = Self {
            opening: script::opening(&talk, &shape.wire),
            closing: script::closing(&talk, &shape.wire),
            calls: scripts,
            connections: Vec::new(),
            lanes: Vec::new(),
            turn: 0,
            idle: VecDeque::new(),
            open: 0,
            // Traffic with other numbers must not look like the same connections again.
            opened: first - FIRST_NUMBER,
            first_number: first,
            next_number: first,
            end_number: first + calls,
            answered: None,
            held: u64::MAX,
            shape,
        };
        for index in 0..load.shape.connections.max(1) as u64 {
            let mut connection = load.connect();
            // The first connections end at different times, as they do after a while anyway.
            connection.calls_left = 1 + index % load.shape.calls_per_connection.max(1);
            load.connections.push(connection);
        }
        load.open = load.connections.len();
        let lanes = load.open.min(LANES_MAX);
        load.lanes = (0..lanes).collect();
        load.idle = (lanes..load.open).collect();
        load
    }

    /// Makes a pause after `calls` calls in all: they are finished, then there is no next frame, and their connections
    /// stay open. A later pause ends this one.
    pub fn hold_after(&mut self, calls: u64) {
        self.held = self.first_number + calls;
    }

    /// Calls begun so far.
    pub fn calls_begun(&self) -> u64 {
        self.next_number - self.first_number
    }

    /// Number of the call whose response ended with the frame just made, if one did.
    pub fn answered(&self) -> Option<u64> {
        self.answered
    }

    /// Frames of one call, without opening and closing.
    pub fn frames_per_call(&self) -> usize {
        self.calls.first().map_or(0, |script| script.frames.len())
    }

    /// Frames of one call with its share of opening and closing.
    pub fn frames_per_call_in_all(&self) -> f64 {
        let around = self.opening.frames.len() + self.closing.frames.len();
        self.frames_per_call() as f64
            + around as f64 / self.shape.calls_per_connection.max(1) as f64
    }

    /// Appends the next frame to `out`. False in a pause, and at the end: all calls are made and all connections closed.
    pub fn next_frame(&mut self, out: &mut Vec<u8>) -> bool {
        self.answered = None;
        let mut silent = 0;
        while self.open > 0 && silent <= self.connections.len() {
            let lane = self.turn;
            self.turn = (lane + 1) % self.lanes.len();
            let index = self.lanes[lane];
            let connection = &self.connections[index];
            if connection.phase == Phase::Over {
                continue;
            }
            if connection.phase == Phase::Calling && connection.frame == 0 {
                if self.next_number == self.held {
                    silent += 1;
                    self.pass_on(lane);
                    continue;
                }
                if !self.begin_call(index) {
                    continue;
                }
            }
            self.write(index, out);
            self.answered = self.ends_an_answer(index);
            if self.advance(index) {
                self.pass_on(lane);
            }
            return true;
        }
        false
    }

    /// Lets the connection that has been idle longest have the lane.
    fn pass_on(&mut self, lane: usize) {
        let index = self.lanes[lane];
        if self.connections[index].phase != Phase::Over {
            self.idle.push_back(index);
        }
        if let Some(next) = self.idle.pop_front() {
            self.lanes[lane] = next;
        }
    }

    /// Gives the connection its next number; false if there is none and it closes instead.
    fn begin_call(&mut self, index: usize) -> bool {
        let connection = &mut self.connections[index];
        if self.next_number == self.end_number {
            connection.phase = Phase::Closing;
            return false;
        }
        connection.number = self.next_number;
        connection.variant = (self.next_number % VARIANTS as u64) as usize;
        self.next_number += 1;
        true
    }

    fn write(&self, index: usize, out: &mut Vec<u8>) {
        let connection = &self.connections[index];
        let script = self.script(connection);
        script.frames[connection.frame].write(connection, out);
    }

    fn ends_an_answer(&self, index: usize) -> Option<u64> {
        let connection = &self.connections[index];
        let is_end = connection.phase == Phase::Calling
            && connection.frame == self.script(connection).answer;
        is_end.then_some(connection.number)
    }

    fn script(&self, connection: &Connection) -> &Script {
        match connection.phase {
            Phase::Opening => &self.opening,
            Phase::Calling => &self.calls[connection.variant],
            Phase::Closing | Phase::Over => &self.closing,
        }
    }

    /// Whether the connection has come to a place where it may rest.
    fn advance(&mut self, index: usize) -> bool {
        let script = self.script(&self.connections[index]);
        let (frames, moves) = (script.frames.len(), script.moves);
        let is_done = self.next_number == self.end_number;
        let connection = &mut self.connections[index];
        connection.frame += 1;
        if connection.frame < frames {
            return false;
        }
        connection.frame = 0;
        for (next, moved) in connection.next.iter_mut().zip(moves) {
            *next = next.wrapping_add(moved);
        }
        match connection.phase {
            Phase::Opening => connection.phase = Phase::Calling,
            Phase::Calling => {
                connection.calls_left -= 1;
                if connection.calls_left == 0 || is_done {
                    connection.phase = Phase::Closing;
                }
            }
            Phase::Closing if is_done => {
                connection.phase = Phase::Over;
                self.open -= 1;
            }
            Phase::Closing | Phase::Over => self.connections[index] = self.connect(),
        }
        // A connection that has ended makes way for its successor at once, so that as many are open as were asked for.
        matches!(self.connections[index].phase, Phase::Calling | Phase::Over)
    }

    fn connect(&mut self) -> Connection {
        let id = self.opened;
        self.opened += 1;
        Connection {
            phase: Phase::Opening,
            frame: 0,
            variant: 0,
            number: 0,
            calls_left: self.shape.calls_per_connection.max(1),
            address: CLIENT_NET | ((id / PORTS) as u32 & 0x003f_ffff),
            port: (16_384 + id % PORTS) as u16,
            next: [ISN.wrapping_add((id as u32).wrapping_mul(2_654_435_761)); 2],
        }
    }
}

/// VXLAN with network `vni` between two fixed hosts, as [`Shape::wire`].
pub fn mirrored(vni: u32) -> Wire {
    Wire {
        vxlan: Some(Vxlan::new(vni)),
        ..Wire::default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashSet};
    use std::sync::Arc;

    use engine_core::decap;
    use engine_core::message::{Notes, Output};
    use engine_core::pipeline::{Config, Pipeline};
    use engine_core::rules::RuleSet;
    use engine_core::time::Timestamp;

    use super::template::{fold, places, sum};
    use super::*;
    use crate::traffic::flags;

    #[derive(Default)]
    struct Lines(Vec<Vec<(String, String)>>);

    impl Output for Lines {
        fn line(&mut self, line: &[u8], _notes: &Notes) {
            self.0.push(serde_json::from_slice(line).unwrap());
        }
    }

    fn frames(shape: &Shape, calls: u64) -> Vec<Vec<u8>> {
        let mut load = Load::new(shape.clone(), FIRST_NUMBER + 7, calls);
        let mut frames = Vec::new();
        let mut frame = Vec::new();
        while load.next_frame(&mut frame) {
            frames.push(std::mem::take(&mut frame));
        }
        assert_eq!(load.calls_begun(), calls);
        frames
    }

    fn pipeline() -> Pipeline<Lines> {
        let rules = RuleSet::parse("include debug").unwrap();
        Pipeline::new(&Config::default(), Arc::new(rules), Lines::default())
    }

    /// A frame as a ring gives it, so many nanoseconds after the start.
    fn captured(bytes: &[u8], nanos: u64) -> decap::Frame<'_> {
        decap::Frame {
            time: Timestamp::from_nanos(EPOCH + nanos),
            link: decap::LinkType::Ethernet,
            bytes,
            wire_len: bytes.len() as u32,
            vlan: None,
        }
    }

    /// The engine must report each call once, whole and with its own answer.
    #[track_caller]
    fn check(shape: &Shape, calls: u64) {
        let mut pipeline = pipeline();
        for (index, bytes) in frames(shape, calls).iter().enumerate() {
            pipeline.feed(&captured(bytes, index as u64 * 1000));
        }
        let ledger = pipeline.ledger();
        assert_eq!(
            ledger.http.unpaired_total() + ledger.held.exchanges,
            0,
            "{ledger:?}"
        );
        assert_eq!(ledger.flow.flow_gaps, 0, "{ledger:?}");
        assert_eq!(
            ledger.flow.flow_opened, ledger.flow.flow_ended_fin,
            "{ledger:?}"
        );
        let bodies = bodies(shape);
        let mut numbers = BTreeSet::new();
        for row in &pipeline.output().0 {
            let value = |key: &str| &row.iter().find(|(name, _)| name == key).unwrap().1;
            let number = value("request_header:x-call-number");
            assert_eq!(number, value("response_header:x-answered-number"));
            assert!(
                value("request_url").ends_with(&format!("/n{number}")),
                "{row:?}"
            );
            assert_eq!(value("response_body").len(), shape.body_bytes);
            assert!(value("response_body").ends_with(BODY_END));
            let number = number.parse::<u64>().unwrap();
            let body = &bodies[number as usize % VARIANTS];
            assert!(value("response_body") == body, "body of {number}");
            assert!(numbers.insert(number), "{number} twice");
        }
        let expected = FIRST_NUMBER + 7..FIRST_NUMBER + 7 + calls;
        assert!(numbers.into_iter().eq(expected));
    }

    #[test]
    fn the_engine_reports_every_call() {
        let geneve = Wire {
            vxlan: Some(Vxlan::geneve(9)),
            ..Wire::default()
        };
        for body_bytes in [200, 2000, 20_000] {
            for wire in [Wire::default(), mirrored(7), geneve.clone()] {
                for ipv6 in [false, true] {
                    let shape = Shape {
                        body_bytes,
                        ipv6,
                        wire: wire.clone(),
                        connections: 9,
                        ..Shape::default()
                    };
                    check(&shape, 300);
                }
            }
        }
    }

    /// What a ring loses when its reader sleeps: all frames of a while. Which calls are lost does not matter here, only
    /// that none gets another's answer.
    #[test]
    fn windows_of_loss_pair_no_call_wrongly() {
        let shape = Shape {
            body_bytes: 200,
            connections: 60,
            ..Shape::default()
        };
        let mut wrong = Vec::new();
        for (window, number) in [1, 3, 10, 40, 100, 400, 1500, 4000]
            .into_iter()
            .flat_map(|window| (0..2).map(move |number| (window, number)))
        {
            let made = frames(&shape, 1500);
            let mut seed = Seed::new(number);
            let mut lost = vec![false; made.len()];
            for _ in 0..made.len() / window / 4 + 1 {
                let from = seed.within(0..=made.len() - 1);
                let until = (from + seed.within(1..=window)).min(made.len());
                lost[from..until].fill(true);
            }
            let kept = made.iter().enumerate().filter(|(index, _)| !lost[*index]);
            let mut pipeline = pipeline();
            for (index, bytes) in kept {
                pipeline.feed(&captured(bytes, index as u64 * 100_000));
            }
            pipeline.finish(Timestamp::from_nanos(EPOCH + 10_000_000_000));
            let rows = &pipeline.output().0;
            let said = |row: &[(String, String)], key: &str| {
                let found = row.iter().find(|(name, _)| name == key);
                found.map(|(_, value)| value.clone())
            };
            let mispaired = rows.iter().filter(|row| {
                said(row, "request_header:x-call-number")
                    != said(row, "response_header:x-answered-number")
            });
            wrong.push((window, number, rows.len(), mispaired.count()));
        }
        assert!(
            wrong.iter().all(|(_, _, _, count)| *count == 0),
            "(window, seed, lines, wrong): {wrong:?}"
        );
    }

    /// Sums as a receiver does, over everything, without the arithmetic of templates.
    #[test]
    fn checksums_verify_and_connections_differ() {
        for body_bytes in [200, 2000] {
            let shape = Shape {
                body_bytes,
                connections: 3,
                calls_per_connection: 5,
                ..Shape::default()
            };
            let mut connections = HashSet::new();
            for frame in frames(&shape, 200) {
                assert_eq!(fold(sum(&frame[14..34])), 0xffff, "IPv4 header");
                let total = usize::from(u16::from_be_bytes([frame[16], frame[17]]));
                let segment = &frame[34..14 + total];
                let pseudo = sum(&frame[26..34]) + 6 + segment.len() as u32;
                assert_eq!(fold(pseudo + sum(segment)), 0xffff, "TCP");
                if segment[13] == flags::SYN {
                    assert!(connections.insert(frame[26..36].to_vec()));
                }
            }
            assert!(connections.len() >= 40, "{}", connections.len());
        }
    }

    #[test]
    fn a_pause_finishes_calls_and_keeps_connections() {
        let shape = Shape {
            connections: 7,
            ..Shape::default()
        };
        let mut load = Load::new(shape, FIRST_NUMBER, 1000);
        let (mut bytes, mut answered) = (Vec::new(), Vec::new());
        for calls in [100, 250] {
            load.hold_after(calls);
            while load.next_frame(&mut bytes) {
                answered.extend(load.answered());
            }
            assert_eq!(load.calls_begun(), calls);
            assert_eq!((answered.len() as u64, load.open), (calls, 7));
        }
        answered.sort_unstable();
        assert!(answered.into_iter().eq(FIRST_NUMBER..FIRST_NUMBER + 250));
    }

    #[test]
    fn many_connections_are_open_and_few_have_a_call() {
        let shape = Shape {
            body_bytes: 200,
            connections: 3000,
            ..Shape::default()
        };
        let mut load = Load::new(shape.clone(), FIRST_NUMBER, 10_000);
        load.hold_after(5000);
        let mut bytes = Vec::new();
        let (mut begun, mut answered, mut most) = (0, 0, 0);
        while load.next_frame(&mut bytes) {
            begun = load.calls_begun();
            answered += u64::from(load.answered().is_some());
            most = most.max(begun - answered);
        }
        assert_eq!((begun, answered, load.open), (5000, 5000, 3000));
        // From now on they stay open, but for the one in each lane that makes way for another.
        load.hold_after(8000);
        let mut fewest = usize::MAX;
        while load.next_frame(&mut bytes) {
            let connections = load.connections.iter();
            let open = connections.filter(|one| one.phase == Phase::Calling);
            fewest = fewest.min(open.count());
        }
        assert!(fewest >= 3000 - LANES_MAX, "{fewest} open");
        assert!(
            load.connections
                .iter()
                .all(|one| one.phase == Phase::Calling)
        );
        assert!(most <= LANES_MAX as u64, "{most} open calls");
        check(&shape, 10_000);
    }

    #[test]
    fn opaque_traffic_has_the_same_lengths_and_no_call() {
        let shape = Shape::default();
        let opaque = Shape {
            opaque: true,
            ..shape.clone()
        };
        let lengths = |shape| -> Vec<usize> { frames(shape, 600).iter().map(Vec::len).collect() };
        assert!(lengths(&shape) == lengths(&opaque));
        let said = frames(&opaque, 600).concat();
        assert!(places(&said, "HTTP/1.1").is_empty());
    }

    #[test]
    fn frames_of_a_call_are_those_that_others_were_measured_with() {
        for (body_bytes, expected) in [(200, 2), (2000, 4), (20_000, 22)] {
            let shape = Shape {
                body_bytes,
                ..Shape::default()
            };
            assert_eq!(
                Load::new(shape, FIRST_NUMBER, 1).frames_per_call(),
                expected,
                "{body_bytes}"
            );
        }
    }

    #[test]
    fn directions_differ_in_the_outer_source_port() {
        let shape = Shape {
            wire: mirrored(7),
            connections: 50,
            ..Shape::default()
        };
        let made = frames(&shape, 50);
        let different = made
            .iter()
            .map(|frame| [frame[34], frame[35]])
            .collect::<HashSet<_>>();
        assert!(different.len() > 90, "{}", different.len());
    }
}
