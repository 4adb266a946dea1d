//! The engine in this process: frames in, rows and ledger out, as `sniffer read` does it but without a file between.

use std::sync::Arc;

use bench::collect::Row;
use bench::traffic::Frame as Made;
use engine_core::decap::{Frame, LinkType};
use engine_core::message::{Notes, Output};
use engine_core::pipeline::{Config, Ledger, Pipeline};
use engine_core::rules::RuleSet;
use engine_core::time::Timestamp;

/// What came out.
pub struct Reading {
    /// Calls in the order in which they were written, each with what is known beside it.
    pub calls: Vec<(Row, Notes)>,
    /// All counters, after the end.
    pub ledger: Ledger,
}

#[derive(Default)]
struct Lines(Vec<(Row, Notes)>);

impl Output for Lines {
    fn line(&mut self, line: &[u8], notes: &Notes) {
        let row = simd_json::from_slice(&mut line.to_vec());
        let text = String::from_utf8_lossy(line);
        self.0.push((
            row.unwrap_or_else(|error| panic!("no array of pairs ({error}): {text}")),
            *notes,
        ));
    }
}

/// A made frame as a ring would give it, cut to `snap` bytes.
pub fn captured(made: &Made, snap: usize) -> Frame<'_> {
    Frame {
        time: Timestamp::from_nanos(made.time),
        link: LinkType::Ethernet,
        bytes: &made.bytes[..made.bytes.len().min(snap)],
        wire_len: made.bytes.len() as u32,
        vlan: None,
    }
}

/// Reads `frames` to their end with rules that keep everything. Panics if a line is no JSON or a ledger does not balance.
pub fn read<'a>(frames: impl IntoIterator<Item = Frame<'a>>) -> Reading {
    let rules = RuleSet::parse("include debug").expect("a preset parses");
    let mut pipeline = Pipeline::new(&Config::default(), Arc::new(rules), Lines::default());
    let mut last = Timestamp::ZERO;
    for frame in frames {
        last = last.max(frame.time);
        pipeline.feed(&frame);
    }
    pipeline.finish(last);
    let ledger = pipeline.ledger();
    let calls = std::mem::take(&mut pipeline.output().0);
    check_balance(&ledger, calls.len() as u64);
    Reading { calls, ledger }
}

/// After the end every frame, payload byte and call is in exactly one box.
#[track_caller]
fn check_balance(ledger: &Ledger, lines: u64) {
    let Ledger {
        decap,
        flow,
        http,
        message,
        ..
    } = ledger;
    assert_eq!(decap.unaccounted(), 0, "frames: {decap:?}");
    assert_eq!(decap.segments, flow.flow_segments, "segments: {flow:?}");
    assert_eq!(
        decap.payload_bytes, flow.flow_payload_bytes,
        "payload: {flow:?}"
    );
    let boxes = flow.flow_delivered_bytes
        + flow.flow_duplicate_bytes
        + flow.flow_overlapped_bytes
        + flow.flow_skipped_bytes
        + flow.flow_discarded_late_bytes
        + flow.flow_discarded_after_fin_bytes
        + flow.flow_discarded_after_end_bytes
        + flow.flow_discarded_out_of_window_bytes
        + flow.flow_discarded_reset_bytes;
    assert_eq!(flow.flow_payload_bytes, boxes, "payload: {flow:?}");
    assert_eq!(
        http.exchanges_opened,
        http.exchanges_finished + http.halves(),
        "exchanges: {http:?}"
    );
    assert_eq!(
        http.exchanges_finished, message.calls_seen,
        "calls: {message:?}"
    );
    let ended =
        message.lines_written + message.calls_stopped + message.calls_sampled + message.calls_shed;
    assert_eq!(message.calls_seen, ended, "calls: {message:?}");
    assert_eq!(message.lines_written, lines, "lines: {message:?}");
}
