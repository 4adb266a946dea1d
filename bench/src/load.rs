//! Steady traffic: numbered calls on many keep-alive connections, with the frames of all connections interleaved.
//!
//! Each frame is a copy of a template into which the call number, ports, addresses and sequence numbers are written, so
//! that one core makes millions of frames a second and no two calls are alike. All inner checksums are correct
//! (RFC 1624 arithmetic); the outer UDP checksum is zero, as mirrors send it (RFC 7348 §5). Memory is bounded by
//! [`VARIANTS`] bodies and one small record for each connection. With more than [`CONCURRENT_CALLS_MAX`] connections,
//! the connections that have a call in progress change from call to call.
//!
//! A call has the shape that earlier measurements used, so that results compare: a GET with about 330 bytes of head, a
//! 200 with about 270 and a JSON body, segments of 1448 bytes, and one acknowledgement for two segments of a response.
//! A connection carries [`Shape::calls_per_connection`] calls, then ends with FIN and starts again from a new client
//! port.

use std::collections::VecDeque;

use crate::traffic::{Vxlan, Wire};
use connection::{Connection, Phase};
use script::Script;
use shape::CLIENT_NET;

mod bytes;
mod call;
mod connection;
mod grpc;
mod http2;
mod script;
mod shape;
mod template;

pub use call::{BODY_END, bodies, exchange};
pub use shape::{Http2, Protocol, Shape, VARIANTS};

/// The most connections that have a call in progress at a time; the others are open and idle.
pub const CONCURRENT_CALLS_MAX: usize = 512;

/// The first call number; all call numbers have ten digits.
pub const FIRST_NUMBER: u64 = 1_000_000_000;

/// Time stamp of the first frame of a capture file: 2026-01-01T00:00:00Z, in nanoseconds.
pub const EPOCH: u64 = 1_767_225_600_000_000_000;

const ISN: u32 = 1000;

/// Client ports of one client address.
const PORTS: u64 = 32_768;

/// A generator of steady traffic.
pub struct Load {
    shape: Shape,
    opening: Script,
    closing: Script,
    /// First calls of a connection, where they differ from later ones.
    firsts: Vec<Script>,
    calls: Vec<Script>,
    connections: Vec<Connection>,
    /// Connections that may send, whose frames alternate.
    active: Vec<usize>,
    /// Index in `active` of the connection that sends next.
    next_active: usize,
    /// Open connections between two calls; the one that has been idle longest comes first.
    idle: VecDeque<usize>,
    /// Connections that are not closed for good.
    open: usize,
    opened: u64,
    first_number: u64,
    next_number: u64,
    end_number: u64,
    completed_call: Option<u64>,
    /// Calls with this number or a higher one do not start before the next [`Load::pause_after`].
    pause_at: u64,
}

impl Load {
    /// Traffic of `calls` calls, numbered from `first`, which is [`FIRST_NUMBER`] or more.
    pub fn new(shape: Shape, first: u64, calls: u64) -> Self {
        assert!(first >= FIRST_NUMBER && first + calls <= 10 * FIRST_NUMBER);
        let conversation = script::conversation(&shape);
        let at_once = shape.protocol.at_once();
        assert!(first.is_multiple_of(at_once) && calls.is_multiple_of(at_once));
        let (firsts, scripts) = script::calls(&conversation, &shape);
        let mut load = Self {
            opening: script::opening(&conversation, &shape),
            firsts,
            closing: script::closing(&conversation, &shape.wire),
            calls: scripts,
            connections: Vec::new(),
            active: Vec::new(),
            next_active: 0,
            idle: VecDeque::new(),
            open: 0,
            // Traffic that starts at another number must not reuse the same connections.
            opened: first - FIRST_NUMBER,
            first_number: first,
            next_number: first,
            end_number: first + calls,
            completed_call: None,
            pause_at: u64::MAX,
            shape,
        };
        for index in 0..load.shape.connections.max(1) as u64 {
            let mut connection = load.connect();
            // The first connections end at different times, as those of traffic that has run for a while do.
            connection.calls_left = 1 + index % load.shape.calls_per_connection.max(1);
            load.connections.push(connection);
        }
        load.open = load.connections.len();
        let active = load.open.min(CONCURRENT_CALLS_MAX);
        load.active = (0..active).collect();
        load.idle = (active..load.open).collect();
        load
    }

    /// Pauses the traffic once `calls` calls in total have been completed: there is then no next frame, and the
    /// connections stay open. Another call of this function ends the pause.
    pub fn pause_after(&mut self, calls: u64) {
        self.pause_at = self.first_number + calls;
    }

    /// Calls started so far.
    pub fn calls_started(&self) -> u64 {
        self.next_number - self.first_number
    }

    /// Number of the call whose response ended with the last frame, if one did; of several at once the last one.
    pub fn completed_call(&self) -> Option<u64> {
        self.completed_call
    }

    /// Frames of one call, without the opening and closing of its connection.
    pub fn frames_per_call(&self) -> usize {
        let frames = self.calls.first().map_or(0, |script| script.frames.len());
        frames.div_ceil(self.shape.protocol.at_once() as usize)
    }

    /// Frames of one call, including its share of the opening and closing of its connection.
    pub fn frames_per_call_overall(&self) -> f64 {
        let around = self.opening.frames.len() + self.closing.frames.len();
        self.frames_per_call() as f64
            + around as f64 / self.shape.calls_per_connection.max(1) as f64
    }

    /// Appends the next frame to `out`. Returns false during a pause, and at the end of the traffic, when all calls are
    /// completed and all connections closed.
    pub fn next_frame(&mut self, out: &mut Vec<u8>) -> bool {
        self.completed_call = None;
        let mut paused = 0;
        while self.open > 0 && paused <= self.connections.len() {
            let place = self.next_active;
            self.next_active = (place + 1) % self.active.len();
            let index = self.active[place];
            let connection = &self.connections[index];
            if connection.phase == Phase::Closed {
                continue;
            }
            if connection.phase == Phase::Calling && connection.frame == 0 {
                if self.next_number >= self.pause_at {
                    paused += 1;
                    self.replace_active(place);
                    continue;
                }
                if !self.start_call(index) {
                    continue;
                }
            }
            self.write(index, out);
            self.completed_call = self.completed_call_of(index);
            if self.advance(index) {
                self.replace_active(place);
            }
            return true;
        }
        false
    }

    /// Replaces an active connection by the one that has been idle longest.
    fn replace_active(&mut self, place: usize) {
        let index = self.active[place];
        if self.connections[index].phase != Phase::Closed {
            self.idle.push_back(index);
        }
        if let Some(next) = self.idle.pop_front() {
            self.active[place] = next;
        }
    }

    /// Starts the next call on the connection; false if there is none left, and the connection closes instead.
    fn start_call(&mut self, index: usize) -> bool {
        let connection = &mut self.connections[index];
        if self.next_number == self.end_number {
            connection.phase = Phase::Closing;
            return false;
        }
        connection.number = self.next_number;
        let at_once = self.shape.protocol.at_once();
        connection.variant = (self.next_number / at_once % self.calls.len() as u64) as usize;
        self.next_number += at_once;
        true
    }

    fn write(&self, index: usize, out: &mut Vec<u8>) {
        let connection = &self.connections[index];
        let script = self.script(connection);
        script.frames[connection.frame].write(connection, out);
    }

    fn completed_call_of(&self, index: usize) -> Option<u64> {
        let connection = &self.connections[index];
        let is_end = connection.phase == Phase::Calling
            && connection.frame == self.script(connection).response_end;
        is_end.then_some(connection.number + self.shape.protocol.at_once() - 1)
    }

    fn script(&self, connection: &Connection) -> &Script {
        match connection.phase {
            Phase::Opening => &self.opening,
            Phase::Calling if connection.streams == 0 && !self.firsts.is_empty() => {
                &self.firsts[connection.variant % self.firsts.len()]
            }
            Phase::Calling => &self.calls[connection.variant],
            Phase::Closing | Phase::Closed => &self.closing,
        }
    }

    /// Moves the connection to its next frame. Returns whether it is between two calls, or closed for good.
    fn advance(&mut self, index: usize) -> bool {
        let script = self.script(&self.connections[index]);
        let (frames, sequence) = (script.frames.len(), script.sequence_bytes);
        let is_done = self.next_number == self.end_number;
        let connection = &mut self.connections[index];
        connection.frame += 1;
        if connection.frame < frames {
            return false;
        }
        connection.frame = 0;
        for (next, bytes) in connection.next.iter_mut().zip(sequence) {
            *next = next.wrapping_add(bytes);
        }
        match connection.phase {
            Phase::Opening => connection.phase = Phase::Calling,
            Phase::Calling => {
                let at_once = self.shape.protocol.at_once();
                connection.calls_left = connection.calls_left.saturating_sub(at_once);
                connection.streams += at_once;
                if connection.calls_left == 0 || is_done {
                    connection.phase = Phase::Closing;
                }
            }
            Phase::Closing if is_done => {
                connection.phase = Phase::Closed;
                self.open -= 1;
            }
            Phase::Closing | Phase::Closed => self.connections[index] = self.connect(),
        }
        // A connection that has ended is replaced at once, so that the number of open connections stays the same.
        matches!(
            self.connections[index].phase,
            Phase::Calling | Phase::Closed
        )
    }

    fn connect(&mut self) -> Connection {
        let id = self.opened;
        self.opened += 1;
        Connection {
            phase: Phase::Opening,
            frame: 0,
            variant: 0,
            number: 0,
            streams: 0,
            calls_left: self.shape.calls_per_connection.max(1),
            address: CLIENT_NET | ((id / PORTS) as u32 & 0x003f_ffff),
            port: (16_384 + id % PORTS) as u16,
            next: [ISN.wrapping_add((id as u32).wrapping_mul(2_654_435_761)); 2],
        }
    }
}

/// The wire of traffic that is mirrored in VXLAN, with network `vni`, between two fixed hosts.
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

    use super::template::{fold, positions, sum};
    use super::*;
    use crate::seed::Seed;
    use crate::traffic::flags;

    #[derive(Default)]
    struct Lines(Vec<Vec<(String, String)>>);

    impl Output for Lines {
        fn line(&mut self, line: &[u8], _notes: &Notes) {
            self.0.push(serde_json::from_slice(line).unwrap());
        }
    }

    /// The first number of the calls of a test.
    fn first(shape: &Shape) -> u64 {
        FIRST_NUMBER + 7 * shape.protocol.at_once()
    }

    fn frames(shape: &Shape, calls: u64) -> Vec<Vec<u8>> {
        let mut load = Load::new(shape.clone(), first(shape), calls);
        let mut frames = Vec::new();
        let mut frame = Vec::new();
        while load.next_frame(&mut frame) {
            frames.push(std::mem::take(&mut frame));
        }
        assert_eq!(load.calls_started(), calls);
        frames
    }

    fn pipeline() -> Pipeline<Lines> {
        let rules = RuleSet::parse("include debug").unwrap();
        Pipeline::new(&Config::default(), Arc::new(rules), Lines::default())
    }

    /// A frame as a ring delivers it, `nanos` nanoseconds after the start.
    fn captured(bytes: &[u8], nanos: u64) -> decap::Frame<'_> {
        decap::Frame {
            time: Timestamp::from_nanos(EPOCH + nanos),
            link: decap::LinkType::Ethernet,
            bytes,
            wire_len: bytes.len() as u32,
            vlan: None,
        }
    }

    /// The engine must report each call once, complete and with its own response.
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
            let number = number.parse::<u64>().unwrap();
            if shape.protocol.is_grpc() {
                assert!(value("response_body").contains("complete"), "{row:?}");
                assert_eq!(value("response_header:grpc-status"), "0");
            } else {
                assert_eq!(value("response_body").len(), shape.body_bytes);
                assert!(value("response_body").ends_with(BODY_END));
                let body = &bodies[number as usize % VARIANTS];
                assert!(value("response_body") == body, "body of {number}");
            }
            assert!(numbers.insert(number), "{number} twice");
        }
        let expected = first(shape)..first(shape) + calls;
        assert!(numbers.into_iter().eq(expected));
    }

    #[test]
    fn the_engine_reports_every_call_of_other_protocols() {
        for protocol in [
            "h2c",
            "h2c-literal",
            "h2c-10",
            "h2c-100",
            "h2c-100-literal",
            "grpc",
            "grpc-10",
            "http1-grpc",
        ] {
            let bodies: &[usize] = match protocol {
                "h2c" | "h2c-10" | "grpc" | "http1-grpc" => &[200, 20_000],
                _ => &[200],
            };
            for &body_bytes in bodies {
                let shape = Shape {
                    body_bytes,
                    protocol: protocol.parse().unwrap(),
                    connections: 9,
                    ..Shape::default()
                };
                check(&shape, 600);
            }
        }
    }

    /// The lines of the calls, each with its details in the order of their names and without its times.
    fn sorted_lines(protocol: &str) -> Vec<Vec<(String, String)>> {
        let shape = Shape {
            body_bytes: 2000,
            protocol: protocol.parse().unwrap(),
            connections: 9,
            ..Shape::default()
        };
        let mut pipeline = pipeline();
        for (index, bytes) in frames(&shape, 300).iter().enumerate() {
            pipeline.feed(&captured(bytes, index as u64 * 1000));
        }
        let mut lines = std::mem::take(&mut pipeline.output().0);
        for line in &mut lines {
            line.retain(|(name, _)| !matches!(name.as_str(), "now" | "interval"));
            line.sort();
        }
        lines.sort();
        lines
    }

    /// What the two versions of HTTP are compared with differs in nothing but the version.
    #[test]
    fn calls_of_grpc_have_the_same_details_in_both_versions() {
        let (one, two) = (sorted_lines("http1-grpc"), sorted_lines("grpc"));
        assert_eq!((one.len(), two.len()), (300, 300));
        for (one, two) in one.iter().zip(&two) {
            assert_eq!(one, two);
        }
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

    /// A ring whose reader sleeps loses runs of consecutive frames. Which calls are lost does not matter here, only that
    /// no request is paired with the response of another.
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
            let value = |row: &[(String, String)], key: &str| {
                let found = row.iter().find(|(name, _)| name == key);
                found.map(|(_, value)| value.clone())
            };
            let mispaired = rows.iter().filter(|row| {
                value(row, "request_header:x-call-number")
                    != value(row, "response_header:x-answered-number")
            });
            wrong.push((window, number, rows.len(), mispaired.count()));
        }
        assert!(
            wrong.iter().all(|(_, _, _, count)| *count == 0),
            "(window, seed, lines, wrong): {wrong:?}"
        );
    }

    /// Checksums computed as a receiver does, over all bytes, without the arithmetic of templates.
    #[test]
    fn checksums_verify_and_connections_differ() {
        for (body_bytes, protocol) in [(200, "http1"), (2000, "http1"), (200, "h2c")] {
            let shape = Shape {
                body_bytes,
                protocol: protocol.parse().unwrap(),
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
        let (mut bytes, mut completed) = (Vec::new(), Vec::new());
        for calls in [100, 250] {
            load.pause_after(calls);
            while load.next_frame(&mut bytes) {
                completed.extend(load.completed_call());
            }
            assert_eq!(load.calls_started(), calls);
            assert_eq!((completed.len() as u64, load.open), (calls, 7));
        }
        completed.sort_unstable();
        assert!(completed.into_iter().eq(FIRST_NUMBER..FIRST_NUMBER + 250));
    }

    #[test]
    fn many_connections_are_open_and_few_have_a_call() {
        let shape = Shape {
            body_bytes: 200,
            connections: 3000,
            ..Shape::default()
        };
        let mut load = Load::new(shape.clone(), FIRST_NUMBER, 10_000);
        load.pause_after(5000);
        let mut bytes = Vec::new();
        let (mut started, mut completed, mut most) = (0, 0, 0);
        while load.next_frame(&mut bytes) {
            started = load.calls_started();
            completed += u64::from(load.completed_call().is_some());
            most = most.max(started - completed);
        }
        assert_eq!((started, completed, load.open), (5000, 5000, 3000));
        // From now on they stay open, except for those that are being replaced: at most one for each active place.
        load.pause_after(8000);
        let mut fewest = usize::MAX;
        while load.next_frame(&mut bytes) {
            let connections = load.connections.iter();
            let open = connections.filter(|one| one.phase == Phase::Calling);
            fewest = fewest.min(open.count());
        }
        assert!(fewest >= 3000 - CONCURRENT_CALLS_MAX, "{fewest} open");
        assert!(
            load.connections
                .iter()
                .all(|one| one.phase == Phase::Calling)
        );
        assert!(most <= CONCURRENT_CALLS_MAX as u64, "{most} open calls");
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
        let bytes = frames(&opaque, 600).concat();
        assert!(positions(&bytes, "HTTP/1.1").is_empty());
    }

    #[test]
    fn a_call_has_the_frames_of_earlier_measurements() {
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
