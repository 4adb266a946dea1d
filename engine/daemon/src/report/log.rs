//! What a capture says while it runs: each thing once, when it changes.

use std::time::{Duration, Instant};

use engine_sys::packet::Trouble;

use super::snapshot::View;
use super::warnings::{cannot_keep_up, ring_was_full};
use crate::diagnostic::{Code, Console, Diagnostic};
use crate::status;

/// What was said last, so that nothing is said twice. Sinks report for themselves.
#[derive(Default)]
pub struct Said {
    hints: Vec<Code>,
    ring_drops: u64,
    ring_drops_at: Option<Instant>,
    overload: Announced,
}

impl Said {
    /// Other rules: what was said of the old ones may be said of these.
    pub fn rules_changed(&mut self) {
        let is_of_rules = |code: &Code| matches!(code, Code::W033 | Code::W034);
        self.hints.retain(|code| !is_of_rules(code));
    }

    /// Says what is new.
    pub fn changes(&mut self, view: &View, console: Console) {
        let stages = view.stages();
        for hint in view.hints(&stages) {
            if !self.hints.contains(&hint.code) {
                self.hints.push(hint.code);
                console.report(&hint);
            }
        }
        let drops = stages.shard.ring_dropped_full;
        let is_quiet = self
            .ring_drops_at
            .is_some_and(|at| at.elapsed() < Duration::from_secs(60));
        if drops > self.ring_drops && !is_quiet {
            console.report(&ring_was_full(drops - self.ring_drops));
            (self.ring_drops, self.ring_drops_at) = (drops, Some(Instant::now()));
        }
        let overload = status::Overload::of(&stages);
        match self.overload.change(&overload, Instant::now()) {
            Some(Change::Begins) => console.report(&cannot_keep_up(&overload)),
            Some(Change::Ends) => console.info(format!("keeping up again: {}", overload.counted())),
            None => {}
        }
    }
}

/// That an interface is gone says whoever looks for its return.
pub fn interface_trouble(name: &str, trouble: Trouble) -> Option<Diagnostic> {
    let what = match trouble {
        Trouble::InterfaceDown => format!("{name} went down; capturing on it again once it is up"),
        Trouble::InterfaceGone => return None,
        Trouble::Other(errno) => format!("{name}: {}", std::io::Error::from_raw_os_error(errno)),
    };
    Some(Diagnostic::new(Code::W021, what))
}

/// At most one line in so much time, so that a load which comes and goes does not fill the log.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// What there is to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// More is given up than was said last.
    Begins,
    /// Nothing is given up any longer.
    Ends,
}

/// What was said last of what all shards give up.
#[derive(Debug, Default)]
pub struct Announced {
    step: status::Step,
    /// What was given up until then: more of it means that something began and ended between two looks.
    counted: u64,
    at: Option<Instant>,
}

impl Announced {
    /// What is to be said now.
    pub fn change(&mut self, overload: &status::Overload, now: Instant) -> Option<Change> {
        if (self.at).is_some_and(|at| now.duration_since(at) < SAY_EVERY) {
            return None;
        }
        let counted = overload.bundles_plain + overload.bodies_thinned + overload.calls_shed;
        let change = if overload.step > self.step {
            Change::Begins
        } else if overload.step == status::Step::None
            && (self.step > overload.step || counted > self.counted)
        {
            Change::Ends
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
    fn begins_and_ends_are_said_once_and_seldom() {
        use status::Step::{BodiesThinned, CallsShed, CompressionOff, None as Nothing};
        let start = Instant::now();
        let mut announced = Announced::default();
        let looks = [
            (0, Nothing, 0, None),
            (1, CompressionOff, 0, Some(Change::Begins)),
            (2, CallsShed, 5, None),
            (12, CallsShed, 90, Some(Change::Begins)),
            (23, BodiesThinned, 99, None),
            (24, Nothing, 99, Some(Change::Ends)),
            (25, CompressionOff, 99, None),
            (40, Nothing, 100, Some(Change::Ends)),
            (60, Nothing, 100, None),
        ];
        for (second, step, calls_shed, expected) in looks {
            let overload = status::Overload {
                step,
                calls_shed,
                ..status::Overload::default()
            };
            let now = start + Duration::from_secs(second);
            assert_eq!(announced.change(&overload, now), expected, "{second}");
        }
    }
}
