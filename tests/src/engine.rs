//! The engine in this process: frames in, rows and ledger out, as `sniffer read` does it but without a file between.

use std::sync::{Arc, LazyLock};

use bench::collect::Row;
use bench::traffic::Frame as Made;
use engine_core::decap::{Frame, LinkType};
use engine_core::message::{Notes, Output, ShedPolicy};
use engine_core::pipeline::{Config, Held, Ledger, Pipeline};
use engine_core::rules::RuleSet;
use engine_core::time::Timestamp;

/// What came out.
pub struct Reading {
    /// Calls in the order in which they were written, each with its notes.
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

/// A made frame as a ring would deliver it, cut to `snap` bytes.
pub fn captured(made: &Made, snap: usize) -> Frame<'_> {
    Frame {
        time: Timestamp::from_nanos(made.time),
        link: LinkType::Ethernet,
        bytes: &made.bytes[..made.bytes.len().min(snap)],
        wire_len: made.bytes.len() as u32,
        vlan: None,
    }
}

/// Frames between two checks of the ledger.
const MOMENT: u64 = 7;

/// Parsed once: a fuzz body reads thousands of small inputs a second.
static DEBUG_RULES: LazyLock<Arc<RuleSet>> =
    LazyLock::new(|| Arc::new(RuleSet::parse("include debug").expect("a preset parses")));

/// A pipeline with rules that keep everything, and its lines.
pub struct Reader {
    pipeline: Pipeline<Lines>,
    last: Timestamp,
    fed: u64,
}

impl Reader {
    /// One that has read nothing.
    pub fn new(config: &Config) -> Self {
        Self {
            pipeline: Pipeline::new(config, DEBUG_RULES.clone(), Lines::default()),
            last: Timestamp::ZERO,
            fed: 0,
        }
    }

    /// The rules of calls that start from now on.
    pub fn set_rules(&mut self, rules: Arc<RuleSet>) {
        self.pipeline.set_rules(0, rules);
    }

    /// The shed policy of calls that start from now on.
    pub fn set_shed_policy(&mut self, policy: ShedPolicy) {
        self.pipeline.set_shed_policy(policy);
    }

    /// Panics if the ledger does not balance, which is checked now and then.
    pub fn feed(&mut self, frame: &Frame<'_>) {
        self.last = self.last.max(frame.time);
        self.pipeline.feed(frame);
        self.fed += 1;
        if self.fed.is_multiple_of(MOMENT) {
            let unaccounted = self.pipeline.ledger().unaccounted();
            assert!(
                unaccounted.is_nothing(),
                "{unaccounted:?} after {} frames",
                self.fed
            );
        }
    }

    /// The clock goes on to `nanos` since the epoch.
    pub fn tick(&mut self, nanos: u64) {
        self.pipeline.tick(Timestamp::from_nanos(nanos));
    }

    /// All counters as they are now.
    pub fn ledger(&self) -> Ledger {
        self.pipeline.ledger()
    }

    /// The end of the capture.
    pub fn finish(mut self) -> Reading {
        self.pipeline.finish(self.last);
        let ledger = self.pipeline.ledger();
        let calls = std::mem::take(&mut self.pipeline.output().0);
        check_balance(&ledger, calls.len() as u64);
        Reading { calls, ledger }
    }
}

/// Reads `frames` to their end with rules that keep everything. Panics if a line is no JSON, or if the ledger
/// does not balance at the end or on the way.
pub fn read<'a>(frames: impl IntoIterator<Item = Frame<'a>>) -> Reading {
    let mut reader = Reader::new(&Config::default());
    for frame in frames {
        reader.feed(&frame);
    }
    reader.finish()
}

/// After the end every frame, payload byte and call is in exactly one bucket, and nothing is in flight.
#[track_caller]
fn check_balance(ledger: &Ledger, lines: u64) {
    let unaccounted = ledger.unaccounted();
    assert!(unaccounted.is_nothing(), "{unaccounted:?} of {ledger:?}");
    let held = Held {
        // Fragments only expire by time, and what searches of rules keep serves the next call.
        fragments: 0,
        rules_bytes: 0,
        ..ledger.held
    };
    assert_eq!(held, Held::default(), "held after the end");
    let written = ledger.message.lines_written + ledger.http.stream_parts;
    assert_eq!(written, lines, "{ledger:?}");
}
