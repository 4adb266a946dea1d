//! The log of a running capture: each warning once, when it starts to hold.

use std::time::{Duration, Instant};

use super::reporter::Reporter;
use super::warnings::{cannot_keep_up, markers_refused, queue_was_full, ring_was_full};
use crate::diagnostic::{Code, Console};
use crate::status;

/// At most one line on frames dropped in a ring in this time.
const RING_DROPS_EVERY: Duration = Duration::from_secs(60);

/// At most one line on a full queue in this time.
const QUEUE_FULL_EVERY: Duration = Duration::from_secs(10);

/// What was logged last, so that nothing is logged twice. Sinks report their events themselves.
#[derive(Default)]
pub struct WarningLog {
    hints: Vec<Code>,
    ring_drops: u64,
    ring_drops_at: Option<Instant>,
    overload: OverloadLog,
    queue_full: u64,
    queue_full_at: Option<Instant>,
    senders: Vec<String>,
    markers_refused: bool,
}

impl WarningLog {
    /// The rules were replaced: warnings about the old ones may be logged again.
    pub fn rules_changed(&mut self) {
        let is_of_rules = |code: &Code| matches!(code, Code::W033 | Code::W034);
        self.hints.retain(|code| !is_of_rules(code));
    }

    /// Logs what has changed since the last call.
    pub fn changes(&mut self, reporter: &Reporter, console: Console) {
        let stages = reporter.stages();
        for hint in reporter.hints(&stages) {
            if !self.hints.contains(&hint.code) {
                self.hints.push(hint.code);
                console.report(&hint);
            }
        }
        let drops = stages.shard.ring_dropped_full;
        let is_recent = self
            .ring_drops_at
            .is_some_and(|at| at.elapsed() < RING_DROPS_EVERY);
        if drops > self.ring_drops && !is_recent {
            console.report(&ring_was_full(drops - self.ring_drops));
            (self.ring_drops, self.ring_drops_at) = (drops, Some(Instant::now()));
        }
        self.queue(reporter.queue_full(), console);
        self.uploads(&reporter.uploads(), console);
        let overload = status::Overload::of(&stages);
        match self.overload.change(&overload, Instant::now()) {
            Some(Change::More) => console.report(&cannot_keep_up(&overload)),
            Some(Change::Nothing) => {
                console.info(format!("keeping up again: {}", overload.counted()));
            }
            None => {}
        }
    }
}

impl WarningLog {
    /// Reports calls that were dropped because the queue was full, which also a destination that is up may cause.
    fn queue(&mut self, calls: u64, console: Console) {
        let is_recent = (self.queue_full_at).is_some_and(|at| at.elapsed() < QUEUE_FULL_EVERY);
        if calls > self.queue_full && !is_recent {
            console.report(&queue_was_full(calls));
            (self.queue_full, self.queue_full_at) = (calls, Some(Instant::now()));
        }
    }

    /// Names each sniffer whose uploads are skipped, once.
    fn uploads(&mut self, uploads: &status::Uploads, console: Console) {
        for sender in uploads.senders.keys() {
            if !self.senders.contains(sender) {
                console.info(format!(
                    "skipping the uploads of another sniffer, {sender}; --include-uploads would read them as calls"
                ));
                self.senders.push(sender.clone());
            }
        }
        if let Some(problem) = markers_refused(uploads)
            && !std::mem::replace(&mut self.markers_refused, true)
        {
            console.report(&problem);
        }
    }
}

/// At most one line on overload in this time, so that a load which comes and goes does not fill the log.
const OVERLOAD_EVERY: Duration = Duration::from_secs(10);

/// What is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// More is left out than was logged last.
    More,
    /// Nothing is left out any longer.
    Nothing,
}

/// What was logged last of what all shards leave out.
#[derive(Debug, Default)]
pub struct OverloadLog {
    step: status::Step,
    /// What had been left out until then: more of it means that overload started and ended between two checks.
    counted: u64,
    at: Option<Instant>,
}

impl OverloadLog {
    /// The change to log now.
    pub fn change(&mut self, overload: &status::Overload, now: Instant) -> Option<Change> {
        if (self.at).is_some_and(|at| now.duration_since(at) < OVERLOAD_EVERY) {
            return None;
        }
        let counted = overload.bundles_plain + overload.bodies_truncated + overload.calls_shed;
        let change = if overload.step > self.step {
            Change::More
        } else if overload.step == status::Step::None
            && (self.step > overload.step || counted > self.counted)
        {
            Change::Nothing
        } else {
            return None;
        };
        *self = Self {
            step: overload.step,
            counted,
            at: Some(now),
        };
        Some(change)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_and_end_of_overload_are_logged_once_and_seldom() {
        use status::Step::{BodiesTruncated, CallsShed, CompressionOff, None as Nothing};
        let start = Instant::now();
        let mut log = OverloadLog::default();
        let checks = [
            (0, Nothing, 0, None),
            (1, CompressionOff, 0, Some(Change::More)),
            (2, CallsShed, 5, None),
            (12, CallsShed, 90, Some(Change::More)),
            (23, BodiesTruncated, 99, None),
            (24, Nothing, 99, Some(Change::Nothing)),
            (25, CompressionOff, 99, None),
            (40, Nothing, 100, Some(Change::Nothing)),
            (60, Nothing, 100, None),
        ];
        for (second, step, calls_shed, expected) in checks {
            let overload = status::Overload {
                step,
                calls_shed,
                ..status::Overload::default()
            };
            let now = start + Duration::from_secs(second);
            assert_eq!(log.change(&overload, now), expected, "{second}");
        }
    }
}
