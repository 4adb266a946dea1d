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
    /// The encrypted connection could not be set up, or the certificate of either end is not accepted.
    Tls(String),
    /// The proxy made no connection: its status, 0 without one, and what that means.
    Proxy(u16, String),
    /// The connection ended before the answer.
    Lost(String),
    /// A kept connection had been closed by the other end: that is usual, and no sign of a fault of the collector.
    Stale,
}

/// What an outcome means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The bundle was taken.
    Taken,
    /// It will be another one later.
    Passing,
    /// It stands until a person changes the collector or the settings.
    Mendable,
    /// The bundle will never be accepted at its size.
    TooLarge,
    /// The bundle will never be accepted.
    Final,
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
    /// The same after an answer that somebody has to correct.
    longest_refused: Duration,
    /// The same on request of the collector.
    longest_asked: Duration,
    /// Bundles are given up at such an answer.
    drops_refused: bool,
}

impl Retry {
    /// A collector about which nothing bad is known. `seed` spreads the retries of several sniffers over time.
    pub(super) fn new(seed: u64, drops_refused: bool) -> Self {
        Self {
            failures: 0,
            not_before: None,
            random: seed | 1,
            longest: limits::UPLOAD_BACK_OFF_MAX,
            longest_refused: limits::UPLOAD_REFUSED_WAIT_MAX,
            longest_asked: limits::UPLOAD_RETRY_AFTER_MAX,
            drops_refused,
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
        let asked = match outcome {
            Outcome::Status(_, asked) => asked.unwrap_or_default(),
            Outcome::Moved(..) | Outcome::Failed(_) => Duration::ZERO,
        };
        match Self::meaning(outcome) {
            Meaning::Passing if *outcome == Outcome::Failed(Failure::Stale) => Action::Again(now),
            Meaning::Passing => {
                let collector = self.fail(asked, now);
                let wait = match outcome {
                    Outcome::Failed(_) => Duration::ZERO,
                    // The fault may be that of the bundle.
                    _ => self.back_off(tries).max(asked.min(self.longest_asked)),
                };
                Action::Again(collector.max(now + wait))
            }
            Meaning::Mendable if !self.drops_refused => Action::Again(self.fail_slowly(now)),
            // It answers, so it is up; if it refuses, then only this bundle.
            meaning => {
                self.failures = 0;
                self.not_before = None;
                match meaning {
                    Meaning::Taken => Action::Done,
                    Meaning::TooLarge => Action::Divide,
                    Meaning::Passing | Meaning::Mendable | Meaning::Final => Action::Refuse,
                }
            }
        }
    }

    /// What an outcome means.
    pub(super) fn meaning(outcome: &Outcome) -> Meaning {
        match outcome {
            Outcome::Status(200..=299, _) => Meaning::Taken,
            Outcome::Status(408 | 425 | 429 | 500..=599, _) => Meaning::Passing,
            Outcome::Status(401 | 403 | 404 | 405 | 407, _) => Meaning::Mendable,
            Outcome::Status(413, _) => Meaning::TooLarge,
            Outcome::Status(..) | Outcome::Moved(..) => Meaning::Final,
            Outcome::Failed(_) => Meaning::Passing,
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
        self.longest_refused = limits::UPLOAD_BACK_OFF_STOPPING;
        self.longest_asked = limits::UPLOAD_BACK_OFF_STOPPING;
        self.end_wait(now);
    }

    /// Ends the present wait.
    pub(super) fn end_wait(&mut self, now: Instant) {
        self.not_before = self.not_before.map(|at| at.min(now));
    }

    fn fail(&mut self, asked: Duration, now: Instant) -> Instant {
        self.failures = self.failures.saturating_add(1);
        let wait = self
            .back_off(self.failures)
            .max(asked.min(self.longest_asked));
        let at = now + wait;
        self.not_before = Some(at);
        at
    }

    fn fail_slowly(&mut self, now: Instant) -> Instant {
        self.failures = self.failures.saturating_add(1);
        let bounds = (limits::UPLOAD_REFUSED_WAIT_MIN, self.longest_refused);
        let at = now + self.wait_after(self.failures, bounds);
        self.not_before = Some(at);
        at
    }

    /// The wait after this many failures: it doubles with each, and a random share of up to half is taken off.
    fn back_off(&mut self, failures: u32) -> Duration {
        self.wait_after(failures, (limits::UPLOAD_BACK_OFF_MIN, self.longest))
    }

    fn wait_after(&mut self, failures: u32, (first, longest): (Duration, Duration)) -> Duration {
        let doublings = failures.saturating_sub(1).min(16);
        let full = (first * (1 << doublings)).min(longest);
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
    fn each_status_has_one_meaning() {
        let now = Instant::now();
        for number in 100..=999 {
            let passes = matches!(number, 408 | 425 | 429) || (500..600).contains(&number);
            let is_correctable = matches!(number, 401 | 403 | 404 | 405 | 407);
            for drops_refused in [false, true] {
                let mut retry = Retry::new(7, drops_refused);
                let action = retry.next(&status(number), 1, now);
                let again = passes || is_correctable && !drops_refused;
                let expected = match number {
                    200..=299 => Action::Done,
                    413 => Action::Divide,
                    _ if again => action,
                    _ => Action::Refuse,
                };
                assert_eq!(action, expected, "{number}");
                assert_eq!(matches!(action, Action::Again(_)), again, "{number}");
                assert_eq!(retry.failures() > 0, again);
            }
        }
    }

    #[test]
    fn what_somebody_has_to_mend_is_tried_slowly() {
        let now = Instant::now();
        let mut retry = Retry::new(1, false);
        for tries in 1..20 {
            let full = (limits::UPLOAD_REFUSED_WAIT_MIN * (1 << (tries - 1).min(16)))
                .min(limits::UPLOAD_REFUSED_WAIT_MAX);
            let Action::Again(at) = retry.next(&status(401), tries, now) else {
                panic!("kept")
            };
            assert!(at >= now + full / 2 && at <= now + full, "{tries}");
            assert_eq!(
                retry.may_start(0, now),
                Start::At(at),
                "and nothing else either"
            );
        }
        retry.shorten_waits(now);
        let Action::Again(at) = retry.next(&status(401), 20, now) else {
            panic!("kept")
        };
        assert!(at <= now + limits::UPLOAD_BACK_OFF_STOPPING);
    }

    #[test]
    fn waits_double_up_to_a_bound_and_differ() {
        let now = Instant::now();
        let (mut one, mut other) = (Retry::new(1, false), Retry::new(2, false));
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
            Retry::new(1, false).next(&asked(9), 1, now),
            Action::Again(now + Duration::from_secs(9))
        );
        assert_eq!(
            Retry::new(1, false).next(&asked(9999), 1, now),
            Action::Again(now + limits::UPLOAD_RETRY_AFTER_MAX)
        );
    }

    #[test]
    fn a_stale_connection_is_no_failure() {
        let now = Instant::now();
        let mut retry = Retry::new(1, false);
        assert_eq!(
            retry.next(&Outcome::Failed(Failure::Stale), 1, now),
            Action::Again(now)
        );
        assert_eq!((retry.failures(), retry.may_start(1, now)), (0, Start::Now));
    }

    #[test]
    fn stopping_shortens_the_waits() {
        let now = Instant::now();
        let mut retry = Retry::new(1, false);
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
