//! What to do after a post: a state machine without clock or I/O.
//!
//! A collector that fails is left alone for a time that doubles with each failure, and is then tried with one bundle
//! before the others follow. A bundle that the collector answers with an error waits likewise, so one bad bundle does
//! not hold up the rest.

use std::time::{Duration, Instant};

use crate::limits;

/// How a post ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The collector answered, perhaps with the wait that it requests.
    Status(u16, Option<Duration>),
    /// It named another place, with this status.
    Moved(u16, String),
    /// It did not.
    Failed(Failure),
}

/// Why there was no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The host name has no address.
    Resolve(String),
    /// No connection could be made.
    Connect(String),
    /// A connection, or an answer, took too long.
    TimedOut(&'static str),
    /// The encrypted connection could not be set up.
    Tls(String),
    /// The connection ended before the answer.
    Lost(String),
    /// A kept connection had been closed by the other end: that is usual, and no sign of a fault of the collector.
    Stale,
}

/// What to do with the bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// It is delivered.
    Done,
    /// It will never be accepted.
    Refuse,
    /// It will not be accepted at its size.
    Divide,
    /// Post it again, not before this time.
    Again(Instant),
}

/// Whether a post may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// Now.
    Now,
    /// At this time.
    At(Instant),
    /// When the post that has started has ended.
    AfterOther,
}

/// Back-off for one collector.
#[derive(Clone, Debug)]
pub(super) struct Retry {
    failures: u32,
    not_before: Option<Instant>,
    random: u64,
    /// No wait is longer; lowered while stopping.
    longest: Duration,
}

impl Retry {
    /// A collector about which nothing bad is known. `seed` spreads the retries of several sniffers over time.
    pub(super) fn new(seed: u64) -> Self {
        Self {
            failures: 0,
            not_before: None,
            random: seed | 1,
            longest: limits::UPLOAD_BACK_OFF_MAX,
        }
    }

    /// Posts that failed since the last that did not.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// When the collector will be tried again, if it is left alone.
    pub(super) fn not_before(&self) -> Option<Instant> {
        self.not_before
    }

    /// Decides about a bundle after its `tries`-th post (from 1).
    pub(super) fn next(&mut self, outcome: &Outcome, tries: u32, now: Instant) -> Action {
        match outcome {
            Outcome::Status(204, _) => {
                self.failures = 0;
                self.not_before = None;
                Action::Done
            }
            Outcome::Status(_, asked) if Self::is_worth_another_try(outcome) => {
                let collector = self.fail(*asked, now);
                let wait = self
                    .back_off(tries)
                    .max(asked.unwrap_or_default().min(self.longest));
                Action::Again(collector.max(now + wait))
            }
            // It answers, so it is up; it refuses only this bundle.
            Outcome::Status(..) | Outcome::Moved(..) => {
                self.failures = 0;
                self.not_before = None;
                match outcome {
                    Outcome::Status(413, _) => Action::Divide,
                    _ => Action::Refuse,
                }
            }
            Outcome::Failed(Failure::Stale) => Action::Again(now),
            Outcome::Failed(_) => Action::Again(self.fail(None, now)),
        }
    }

    /// Whether an outcome may be another one later.
    pub(super) fn is_worth_another_try(outcome: &Outcome) -> bool {
        match outcome {
            Outcome::Status(status, _) => matches!(status, 408 | 429 | 500..=599),
            Outcome::Moved(..) => false,
            Outcome::Failed(_) => true,
        }
    }

    /// Whether another post may start while `under_way` are.
    pub(super) fn may_start(&self, under_way: usize, now: Instant) -> Start {
        match self.not_before {
            None => Start::Now,
            Some(_) if under_way > 0 => Start::AfterOther,
            Some(at) if at > now => Start::At(at),
            Some(_) => Start::Now,
        }
    }

    /// From now on tries often: there is little time left.
    pub(super) fn shorten_waits(&mut self, now: Instant) {
        self.longest = limits::UPLOAD_BACK_OFF_STOPPING;
        self.not_before = self.not_before.map(|at| at.min(now));
    }

    fn fail(&mut self, asked: Option<Duration>, now: Instant) -> Instant {
        self.failures = self.failures.saturating_add(1);
        let wait = self
            .back_off(self.failures)
            .max(asked.unwrap_or_default().min(self.longest));
        let at = now + wait;
        self.not_before = Some(at);
        at
    }

    /// The wait after this many failures: it doubles with each, and a random share of up to half is taken off.
    fn back_off(&mut self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(16);
        let full = (limits::UPLOAD_BACK_OFF_MIN * (1 << doublings)).min(self.longest);
        // xorshift64: it only has to differ between sniffers.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        full / 2 + full / 2 * (self.random % 1024) as u32 / 1024
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(status: u16) -> Outcome {
        Outcome::Status(status, None)
    }

    fn failed() -> Outcome {
        Outcome::Failed(Failure::Connect("refused".to_owned()))
    }

    #[test]
    fn only_204_is_success_and_some_are_worth_another_try() {
        let now = Instant::now();
        for number in 100..=999 {
            let mut retry = Retry::new(7);
            let action = retry.next(&status(number), 1, now);
            let again = matches!(action, Action::Again(_));
            assert_eq!(action == Action::Done, number == 204, "{number}");
            assert_eq!(action == Action::Divide, number == 413, "{number}");
            assert_eq!(
                again,
                matches!(number, 408 | 429) || (500..600).contains(&number),
                "{number}"
            );
            assert_eq!(retry.failures() > 0, again);
        }
    }

    #[test]
    fn waits_double_up_to_a_bound_and_differ() {
        let now = Instant::now();
        let (mut one, mut other) = (Retry::new(1), Retry::new(2));
        let mut differ = 0;
        for tries in 1..40 {
            let full = (limits::UPLOAD_BACK_OFF_MIN * (1 << (tries - 1).min(16)))
                .min(limits::UPLOAD_BACK_OFF_MAX);
            let (Action::Again(at), Action::Again(at_other)) = (
                one.next(&failed(), tries, now),
                other.next(&failed(), tries, now),
            ) else {
                panic!("a failed connection is retried")
            };
            assert!(at >= now + full / 2 && at <= now + full, "{tries}");
            differ += usize::from(at != at_other);
            assert_eq!(one.may_start(0, now), Start::At(at));
            assert_eq!(one.may_start(0, at), Start::Now);
            assert_eq!(
                one.may_start(1, at),
                Start::AfterOther,
                "one bundle tries, the others wait"
            );
        }
        assert!(differ > 30);
        assert_eq!(one.next(&status(204), 40, now), Action::Done);
        assert_eq!((one.failures(), one.may_start(1, now)), (0, Start::Now));
    }

    #[test]
    fn the_collector_may_ask_for_more_time_but_not_for_ever() {
        let now = Instant::now();
        let asked = |seconds| Outcome::Status(429, Some(Duration::from_secs(seconds)));
        assert_eq!(
            Retry::new(1).next(&asked(9), 1, now),
            Action::Again(now + Duration::from_secs(9))
        );
        assert_eq!(
            Retry::new(1).next(&asked(9999), 1, now),
            Action::Again(now + limits::UPLOAD_BACK_OFF_MAX)
        );
    }

    #[test]
    fn a_stale_connection_is_no_failure() {
        let now = Instant::now();
        let mut retry = Retry::new(1);
        assert_eq!(
            retry.next(&Outcome::Failed(Failure::Stale), 1, now),
            Action::Again(now)
        );
        assert_eq!((retry.failures(), retry.may_start(1, now)), (0, Start::Now));
    }

    #[test]
    fn stopping_shortens_the_waits() {
        let now = Instant::now();
        let mut retry = Retry::new(1);
        for tries in 1..20 {
            retry.next(&failed(), tries, now);
        }
        retry.shorten_waits(now);
        assert_eq!(retry.may_start(0, now), Start::Now);
        let Action::Again(at) = retry.next(&failed(), 20, now) else {
            panic!("retried")
        };
        assert!(at <= now + limits::UPLOAD_BACK_OFF_STOPPING);
    }
}
