//! The flow stage as a whole. Here belongs what needs a table and a consumer: scripts of packets, simulated
//! conversations, and bounds. After every segment the ledger must balance.

use super::*;
use crate::decap::{Flags, Segment};
use crate::time::Timestamp;

/// What the consumer of one flow received.
#[derive(Debug)]
struct Record {
    start: FlowStart,
    /// In the order of the calls.
    events: Vec<Event>,
    end: Option<FlowEnd>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Event {
    Data(Direction, u64, Vec<u8>),
    Gap(Direction, u64, u64),
    Finished(Direction, u64),
}

/// What all flows of a test share.
#[derive(Default)]
struct Tape {
    records: Vec<Record>,
    ignored: Vec<Direction>,
}

/// Writes down what it receives, into the record of this number.
struct Recorder {
    record: usize,
    ignored: Vec<Direction>,
}

impl Recorder {
    fn note(&self, tape: &mut Tape, event: Event) {
        tape.records[self.record].events.push(event);
    }
}

impl Consumer<Tape> for Recorder {
    fn open(start: &FlowStart, tape: &mut Tape) -> Self {
        tape.records.push(Record {
            start: *start,
            events: Vec::new(),
            end: None,
        });
        Self {
            record: tape.records.len() - 1,
            ignored: tape.ignored.clone(),
        }
    }

    fn data(&mut self, info: ByteInfo, bytes: &[u8], tape: &mut Tape) {
        assert!(!bytes.is_empty());
        self.note(
            tape,
            Event::Data(info.direction, info.offset, bytes.to_vec()),
        );
    }

    fn gap(&mut self, info: ByteInfo, len: u64, tape: &mut Tape) {
        assert!(len > 0);
        self.note(tape, Event::Gap(info.direction, info.offset, len));
    }

    fn finished(&mut self, info: ByteInfo, tape: &mut Tape) {
        self.note(tape, Event::Finished(info.direction, info.offset));
    }

    fn close(self, end: FlowEnd, tape: &mut Tape) {
        assert_eq!(
            tape.records[self.record].end.replace(end),
            None,
            "closed once"
        );
    }

    fn ignores(&self, direction: Direction) -> bool {
        self.ignored.contains(&direction)
    }
}

#[track_caller]
fn assert_balanced(table: &Table<Recorder>) {
    let c = table.counters();
    let out = c.flow_delivered_bytes
        + c.flow_duplicate_bytes
        + c.flow_overlapped_bytes
        + c.flow_skipped_bytes
        + c.flow_discarded_before_start_bytes
        + c.flow_discarded_late_bytes
        + c.flow_discarded_after_fin_bytes
        + c.flow_discarded_after_end_bytes
        + c.flow_discarded_out_of_window_bytes
        + c.flow_discarded_reset_bytes;
    assert_eq!(c.flow_payload_bytes, out + table.buffered_bytes(), "{c:?}");
    let ended = c.flow_ended_fin
        + c.flow_ended_reset
        + c.flow_ended_idle
        + c.flow_ended_evicted
        + c.flow_ended_reused
        + c.flow_ended_shutdown;
    assert_eq!(c.flow_opened, ended + table.flows_open() as u64, "{c:?}");
}

const CLIENT: Endpoint = Endpoint {
    addr: [10; 16],
    port: 40000,
};
const SERVER: Endpoint = Endpoint {
    addr: [9; 16],
    port: 80,
};

/// One captured segment of a test.
#[derive(Clone, Debug)]
struct Shot {
    micros: u64,
    from_client: bool,
    flags: u8,
    seq: u32,
    ack: u32,
    bytes: Vec<u8>,
    /// Bytes cut off by the mirror.
    cut: u32,
}

impl Shot {
    fn segment(&self) -> Segment<'_> {
        let (src, dst) = if self.from_client {
            (CLIENT, SERVER)
        } else {
            (SERVER, CLIENT)
        };
        Segment {
            time: Timestamp::from_parts(1_000_000, 0).after(Duration::from_micros(self.micros)),
            network: Network::default(),
            src,
            dst,
            seq: self.seq,
            ack: self.ack,
            flags: Flags(self.flags),
            payload: &self.bytes,
            payload_wire_len: u32::try_from(self.bytes.len()).unwrap() + self.cut,
        }
    }
}
mod bounds;
mod copies;
mod scripts;
mod world;
