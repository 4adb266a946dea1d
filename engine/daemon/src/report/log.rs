//! The log of a running capture: each warning once, when it starts to hold.

use std::time::{Duration, Instant};

use super::reporter::Reporter;
use super::warnings::{
    cannot_keep_up, flows_are_split, markers_refused, queue_was_full, ring_was_full,
};
use crate::diagnostic::{Code, Console, Diagnostic};
use crate::status;

/// At most one line in this time on each number that grows, such as that of frames dropped in a ring. It doubles while the number
/// goes on growing, so that a night without a destination is some twenty lines.
const GROWTH_EVERY: Duration = Duration::from_secs(60);

/// It becomes no longer than this.
const GROWTH_EVERY_MAX: Duration = Duration::from_secs(3600);

/// What was logged last, so that nothing is logged twice. Sinks report their events themselves.
#[derive(Default)]
pub struct WarningLog {
    hints: Vec<Code>,
    ring_drops: Growth,
    flows_apart: Growth,
    overload: OverloadLog,
    spool: Vec<Code>,
    queue_full: Growth,
    networks: Vec<u32>,
    senders: Vec<String>,
    markers_refused: bool,
}

impl WarningLog {
    /// The rules were replaced: warnings about the old ones may be logged again.
    pub fn rules_changed(&mut self) {
        let is_of_rules =
            |code: &Code| matches!(code, Code::W033 | Code::W034 | Code::W037 | Code::W038);
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
        let now = Instant::now();
        let shard = &stages.shard;
        // The first of them also where the destination is up.
        let growths = [
            (
                &mut self.queue_full,
                reporter.queue_full(),
                queue_was_full as fn(u64) -> _,
            ),
            (&mut self.ring_drops, shard.ring_dropped_full, ring_was_full),
            (
                &mut self.flows_apart,
                shard.flows_other_shard,
                flows_are_split,
            ),
        ];
        for (growth, total, problem) in growths {
            if let Some(more) = growth.news(total, now) {
                console.report(&problem(more));
            }
        }
        self.spool(&reporter.spool_troubles(), console);
        self.uploads(&reporter.uploads(), console);
        if let Some(first) = self.networks(&reporter.networks_read()) {
            console.info(first);
        }
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
    /// Reports each trouble of the spool when it begins.
    fn spool(&mut self, troubles: &[Diagnostic], console: Console) {
        self.spool
            .retain(|code| troubles.iter().any(|trouble| trouble.code == *code));
        for trouble in troubles {
            if !self.spool.contains(&trouble.code) {
                self.spool.push(trouble.code);
                console.report(trouble);
            }
        }
    }

    /// Names each network of which packets are read, once: whoever has set up a mirror waits for them. There are at most
    /// [`VNIS_SEEN_MAX`](engine_core::limits::VNIS_SEEN_MAX) of them.
    fn networks(&mut self, read: &[u32]) -> Option<String> {
        let known = &mut self.networks;
        let new: Vec<_> = read
            .iter()
            .filter(|vni| !known.contains(vni))
            .copied()
            .collect();
        known.extend(&new);
        let names: Vec<_> = new.iter().map(ToString::to_string).collect();
        (!names.is_empty()).then(|| format!("first packets of VNI {}", names.join(", ")))
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

/// A number that is logged when it has grown, and seldom.
#[derive(Debug, Default)]
struct Growth {
    logged: u64,
    last: Option<Logged>,
}

/// The last line on a number.
#[derive(Clone, Copy, Debug)]
struct Logged {
    at: Instant,
    /// No other line before this time has passed.
    wait: Duration,
}

impl Growth {
    /// By how much the number has grown since it was logged, if that is to be logged now.
    fn news(&mut self, total: u64, now: Instant) -> Option<u64> {
        let more = total.checked_sub(self.logged).filter(|more| *more > 0)?;
        let wait = match self.last {
            Some(last) if now < last.at + last.wait => return None,
            // It has gone on, or it grows again soon.
            Some(last) if now < last.at + 2 * last.wait => (2 * last.wait).min(GROWTH_EVERY_MAX),
            _ => GROWTH_EVERY,
        };
        self.logged = total;
        self.last = Some(Logged { at: now, wait });
        Some(more)
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
    fn what_grows_is_logged_at_once_and_then_ever_more_seldom() {
        let start = Instant::now();
        let mut growth = Growth::default();
        for (second, total, expected) in [
            (0, 0, None),
            (1, 5, Some(5)),
            (2, 9, None),
            (61, 9, Some(4)),
            // Two minutes from now on.
            (180, 10, None),
            (181, 10, Some(1)),
            // It was calm for longer.
            (661, 10, None),
            (662, 11, Some(1)),
            (722, 12, Some(1)),
        ] {
            let now = start + Duration::from_secs(second);
            assert_eq!(growth.news(total, now), expected, "{second}");
        }
        let mut lines = 0;
        for second in 1000..1000 + 12 * 3600 {
            let now = start + Duration::from_secs(second);
            lines += u64::from(growth.news(second, now).is_some());
        }
        assert_eq!(lines, 17, "in twelve hours");
    }

    #[test]
    fn a_network_is_named_once() {
        let mut log = WarningLog::default();
        let checks: [(&[u32], Option<&str>); 5] = [
            (&[], None),
            (&[123], Some("first packets of VNI 123")),
            (&[123], None),
            (&[123, 9, 7], Some("first packets of VNI 9, 7")),
            (&[7, 9, 123], None),
        ];
        for (read, expected) in checks {
            assert_eq!(log.networks(read).as_deref(), expected, "{read:?}");
        }
    }

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
