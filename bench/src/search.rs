//! The highest rate without loss: up by factors until it fails, then between the last good and the first bad.
//!
//! The trial is a closure, so the search is tested without a network. Bound: `STEPS_MAX` trials.

use anyhow::Result;

/// Factor between rates on the way up.
const UP: f64 = 1.4;
/// Trials at most.
const STEPS_MAX: u32 = 30;
/// Trials in a row at one rate that must lose something, or in which the sender could not keep it, before that is believed:
/// others may have been at work, if only on the machine below this one.
const DOUBTS_MAX: u32 = 2;

/// What one trial showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing was lost.
    Lossless,
    /// Something was lost.
    Lossy,
    /// Nothing was lost, but the sender could not keep the rate: this is the end of what can be shown here.
    SenderLimited,
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    /// The highest rate without loss; 0 if even the lowest tried one lost something.
    pub rate: f64,
    /// The sender was the limit, not the one who was measured.
    pub sender_limited: bool,
}

/// Searches from `start` until two rates that differ by the factor `precision` have different verdicts, or until `end`
/// is lossless.
pub fn highest_lossless(
    start: f64,
    end: f64,
    precision: f64,
    mut trial: impl FnMut(f64) -> Result<Verdict>,
) -> Result<Found> {
    let (mut good, mut bad) = (0.0, f64::INFINITY);
    let mut rate = start.min(end);
    let mut doubts = 0;
    for _ in 0..STEPS_MAX {
        match trial(rate)? {
            Verdict::Lossless => good = rate,
            Verdict::Lossy | Verdict::SenderLimited if doubts + 1 < DOUBTS_MAX => {
                doubts += 1;
                continue;
            }
            Verdict::Lossy => bad = rate,
            Verdict::SenderLimited => {
                return Ok(Found {
                    rate,
                    sender_limited: true,
                });
            }
        }
        doubts = 0;
        rate = match (good > 0.0, bad.is_finite()) {
            (_, false) if good >= end => break,
            (_, false) => (good * UP).min(end),
            (false, true) => bad / UP,
            (true, true) if bad / good <= precision => break,
            (true, true) => (good * bad).sqrt(),
        };
        if rate < 1.0 {
            break;
        }
    }
    Ok(Found {
        rate: good,
        sender_limited: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(start: f64, limit: f64, expected: std::ops::RangeInclusive<f64>) {
        let found = highest_lossless(start, f64::INFINITY, 1.05, |rate| {
            Ok(if rate <= limit {
                Verdict::Lossless
            } else {
                Verdict::Lossy
            })
        });
        let found = found.unwrap();
        assert!(expected.contains(&found.rate), "{found:?}");
        assert!(!found.sender_limited);
    }

    #[test]
    fn it_comes_close_from_above_and_below() {
        check(1000.0, 40_000.0, 38_000.0..=40_000.0);
        check(90_000.0, 40_000.0, 38_000.0..=40_000.0);
        check(100.0, 0.5, 0.0..=0.0);
    }

    #[test]
    fn it_stops_where_the_sender_stops() {
        let found = highest_lossless(1000.0, f64::INFINITY, 1.05, |rate| {
            Ok(if rate < 5000.0 {
                Verdict::Lossless
            } else {
                Verdict::SenderLimited
            })
        });
        assert!(found.unwrap().sender_limited);
    }

    #[test]
    fn it_stops_at_the_end_that_was_given() {
        let mut trials = 0;
        let found = highest_lossless(50_000.0, 8000.0, 1.05, |rate| {
            trials += 1;
            assert_eq!(rate, 8000.0);
            Ok(Verdict::Lossless)
        });
        assert_eq!((found.unwrap().rate, trials), (8000.0, 1));
    }

    #[test]
    fn one_loss_that_does_not_repeat_ends_nothing() {
        let mut trials = 0;
        let found = highest_lossless(1000.0, f64::INFINITY, 1.05, |rate| {
            trials += 1;
            Ok(if trials == 3 || rate > 40_000.0 {
                Verdict::Lossy
            } else {
                Verdict::Lossless
            })
        });
        assert!(found.unwrap().rate > 38_000.0);
    }

    #[test]
    fn one_slow_moment_of_the_sender_ends_nothing() {
        let mut trials = 0;
        let found = highest_lossless(1000.0, f64::INFINITY, 1.05, |rate| {
            trials += 1;
            Ok(match rate {
                _ if trials == 2 => Verdict::SenderLimited,
                _ if rate > 40_000.0 => Verdict::Lossy,
                _ => Verdict::Lossless,
            })
        });
        assert!(found.unwrap().rate > 38_000.0);
    }
}
