//! How often each kind of event is reported.

use std::time::{Duration, Instant};

use super::events::Event;
use crate::diagnostic::Code;

/// The same message is repeated at most this often,
const AGAIN_AFTER: Duration = Duration::from_secs(60);

/// or this often while the lost calls double.
const LOSSES_AFTER: Duration = Duration::from_secs(10);

/// Troubles that are reported as they begin, however soon after the one before; one more for each [`AGAIN_AFTER`]. A collector
/// that refuses each second bundle must not fill the log.
const TROUBLES_AT_ONCE: u32 = 10;

/// What was reported last under one code.
#[derive(Debug)]
struct Reported {
    code: Code,
    at: Instant,
    calls_lost: u64,
}

/// Admits each kind of event when things change, and then once in a while.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    reported: Vec<Reported>,
    /// A trouble was reported, and not that it is over.
    down: bool,
    /// Of [`TROUBLES_AT_ONCE`], those that were reported.
    troubles: u32,
    /// When `troubles` was last lowered, or raised from none.
    lowered: Option<Instant>,
}

impl Throttle {
    /// Whether to report it now.
    pub(super) fn admits(&mut self, event: &Event, now: Instant) -> bool {
        let is_down = match event {
            Event::Up { .. } => {
                // What was wrong may be reported at once if it comes back.
                self.reported.retain(|reported| reported.code == Code::W050);
                return std::mem::take(&mut self.down);
            }
            // At most one of each collector.
            Event::NoLedgers { .. } => return true,
            Event::Divided { .. }
            | Event::Odd { .. }
            | Event::Fallback { .. }
            | Event::DriverFailed { .. } => false,
            Event::Down { .. }
            | Event::Silent { .. }
            | Event::Refused { .. }
            | Event::Kept { .. }
            | Event::TooLarge { .. } => true,
        };
        let next = Reported {
            code: event.code(),
            at: now,
            calls_lost: event.calls_lost(),
        };
        let mut reported = self.reported.iter_mut();
        match reported.find(|reported| reported.code == next.code) {
            Some(last) => {
                let age = now.saturating_duration_since(last.at);
                let doubled = next.calls_lost > 2 * last.calls_lost;
                let is_due = age >= AGAIN_AFTER || (doubled && age >= LOSSES_AFTER);
                if is_due {
                    *last = next;
                }
                is_due
            }
            None => {
                let may_begin = self.may_begin(now);
                if may_begin {
                    self.reported.push(next);
                    self.down |= is_down;
                }
                may_begin
            }
        }
    }

    /// Whether a trouble that begins is reported.
    fn may_begin(&mut self, now: Instant) -> bool {
        while let Some(lowered) = self.lowered.filter(|_| self.troubles > 0)
            && now.saturating_duration_since(lowered) >= AGAIN_AFTER
        {
            self.troubles -= 1;
            self.lowered = Some(lowered + AGAIN_AFTER);
        }
        if self.troubles >= TROUBLES_AT_ONCE {
            return false;
        }
        if self.troubles == 0 {
            self.lowered = Some(now);
        }
        self.troubles += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::events::tests::{down, refused};
    use super::super::refusal::tests::refusal;
    use super::super::retry::Outcome;
    use super::*;

    #[test]
    fn reported_on_change_and_then_once_in_a_while() {
        let mut throttle = Throttle::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let (down, up) = (
            down(Outcome::Status(503, None)),
            Event::Up {
                collector: "x:1".to_owned(),
                calls_lost: 0,
            },
        );
        assert!(!throttle.admits(&up, at(0)), "it was never down");
        assert!(throttle.admits(&down, at(0)));
        assert!(!throttle.admits(&down, at(59)));
        assert!(throttle.admits(&refused(403), at(59)));
        assert!(throttle.admits(&down, at(60)));
        assert!(throttle.admits(&up, at(61)));
        assert!(!throttle.admits(&up, at(61)));
        assert!(throttle.admits(&down, at(62)));
        // Losses that double are reported sooner.
        let more = Event::Refused {
            refusal: refusal("http://x:80/message", 403),
            calls_lost: 11,
        };
        assert!(throttle.admits(&refused(403), at(63)));
        assert!(!throttle.admits(&refused(403), at(80)));
        assert!(throttle.admits(&more, at(80)));
        assert!(!throttle.admits(&more, at(90)));
    }

    #[test]
    fn a_collector_that_refuses_each_second_bundle_does_not_fill_the_log() {
        let (mut throttle, start) = (Throttle::default(), Instant::now());
        let up = Event::Up {
            collector: "x:1".to_owned(),
            calls_lost: 0,
        };
        let mut lines = Vec::new();
        for milliseconds in (0..600_000).step_by(10) {
            let now = start + Duration::from_millis(milliseconds);
            lines.extend([refused(400), up.clone()].map(|event| throttle.admits(&event, now)));
        }
        let admitted = lines.iter().filter(|is_admitted| **is_admitted).count();
        assert_eq!(admitted, 2 * (10 + 9), "each that began, and its end");
        // Once it is refused for good, that is reported soon, and so is its end.
        let soon = (0..=60).find(|second| {
            let now = start + Duration::from_secs(600 + second);
            throttle.admits(&refused(400), now)
        });
        assert!(soon.is_some());
        assert!(throttle.admits(&up, start + Duration::from_secs(700)));
    }
}
