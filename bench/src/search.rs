//! The search for the highest lossless rate: upwards by a factor until a rate fails, then by bisection between the highest
//! lossless and the lowest lossy rate.
//!
//! The trial is a closure, so that the search is tested without a network. Bound: `STEPS_MAX` trials.

use anyhow::Result;

/// Factor between rates while the search goes upwards.
const UP: f64 = 1.4;
/// The most trials.
const STEPS_MAX: u32 = 30;
/// A rate has failed after this many trials in a row that lose something or in which the sender cannot keep the rate.
/// A single failure may be due to other load on the machine, or on the host of a virtual machine.
const FAILURES_MAX: u32 = 2;

/// The outcome of one trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing was lost.
    Lossless,
    /// Something was lost.
    Lossy,
    /// Nothing was lost, but the sender could not keep the rate, so that higher rates cannot be measured.
    SenderLimited,
}

/// The result of a search.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    /// The highest lossless rate; 0 if even the lowest rate that was tried lost something.
    pub rate: f64,
    /// Whether the sender was the limit, not the program that was measured.
    pub sender_limited: bool,
}

/// Searches from `start` until a lossless and a lossy rate differ by no more than the factor `precision`, or until `end` is
/// lossless.
pub fn highest_lossless(
    start: f64,
    end: f64,
    precision: f64,
    mut trial: impl FnMut(f64) -> Result<Outcome>,
) -> Result<Found> {
    let (mut lossless, mut lossy) = (0.0, f64::INFINITY);
    let mut rate = start.min(end);
    let mut failures = 0;
    for _ in 0..STEPS_MAX {
        match trial(rate)? {
            Outcome::Lossless => lossless = rate,
            Outcome::Lossy | Outcome::SenderLimited if failures + 1 < FAILURES_MAX => {
                failures += 1;
                continue;
            }
            Outcome::Lossy => lossy = rate,
            Outcome::SenderLimited => {
                return Ok(Found {
                    rate,
                    sender_limited: true,
                });
            }
        }
        failures = 0;
        rate = if lossy.is_infinite() {
            if lossless >= end {
                break;
            }
            (lossless * UP).min(end)
        } else if lossless == 0.0 {
            lossy / UP
        } else if lossy / lossless <= precision {
            break;
        } else {
            (lossless * lossy).sqrt()
        };
        if rate < 1.0 {
            break;
        }
    }
    Ok(Found {
        rate: lossless,
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
                Outcome::Lossless
            } else {
                Outcome::Lossy
            })
        });
        let found = found.unwrap();
        assert!(expected.contains(&found.rate), "{found:?}");
        assert!(!found.sender_limited);
    }

    #[test]
    fn it_converges_from_above_and_below() {
        check(1000.0, 40_000.0, 38_000.0..=40_000.0);
        check(90_000.0, 40_000.0, 38_000.0..=40_000.0);
        check(100.0, 0.5, 0.0..=0.0);
    }

    #[test]
    fn it_stops_at_the_limit_of_the_sender() {
        let found = highest_lossless(1000.0, f64::INFINITY, 1.05, |rate| {
            Ok(if rate < 5000.0 {
                Outcome::Lossless
            } else {
                Outcome::SenderLimited
            })
        });
        assert!(found.unwrap().sender_limited);
    }

    #[test]
    fn it_stops_at_the_given_end() {
        let mut trials = 0;
        let found = highest_lossless(50_000.0, 8000.0, 1.05, |rate| {
            trials += 1;
            assert_eq!(rate, 8000.0);
            Ok(Outcome::Lossless)
        });
        assert_eq!((found.unwrap().rate, trials), (8000.0, 1));
    }

    #[test]
    fn a_single_loss_does_not_end_the_search() {
        let mut trials = 0;
        let found = highest_lossless(1000.0, f64::INFINITY, 1.05, |rate| {
            trials += 1;
            Ok(if trials == 3 || rate > 40_000.0 {
                Outcome::Lossy
            } else {
                Outcome::Lossless
            })
        });
        assert!(found.unwrap().rate > 38_000.0);
    }

    #[test]
    fn a_single_slow_trial_of_the_sender_does_not_end_the_search() {
        let mut trials = 0;
        let found = highest_lossless(1000.0, f64::INFINITY, 1.05, |rate| {
            trials += 1;
            Ok(match rate {
                _ if trials == 2 => Outcome::SenderLimited,
                _ if rate > 40_000.0 => Outcome::Lossy,
                _ => Outcome::Lossless,
            })
        });
        assert!(found.unwrap().rate > 38_000.0);
    }
}
