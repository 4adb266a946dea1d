//! The ledger of a sniffer: where its calls went, which it posts once a minute to `/ledger` beside the capture URL.
//!
//! Its numbers are sums since the sniffer started, so that a post that is lost, sent twice or late does no harm: what the store
//! counts is by how much a number has grown since the one before.
//!
//! Those of all sniffers that post to a store, summed by appliance, are its [`Fleet`]: what every call of it became.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::limits::{LEDGER_CAUSES_MAX, LEDGER_SENDERS_SHOWN, LEDGER_TEXT_BYTES_MAX};

/// What is posted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// The machine that captures: the detail `host` of its lines.
    pub appliance: String,
    /// One for each start of a sniffer.
    pub run: String,
    /// Sums since that start.
    pub calls: Calls,
    /// What was captured, and what was not, before there were calls.
    #[serde(default)]
    pub capture: Capture,
}

/// Packets and bytes at the rings of a sniffer, and the calls of which only one side is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Capture {
    /// Frames that were read.
    pub packets: u64,
    /// Frames that the kernel dropped because a ring was full.
    pub packets_dropped: u64,
    /// Payload bytes of connections that were captured.
    pub captured_bytes: u64,
    /// Payload bytes that were sent and not captured.
    pub missing_bytes: u64,
    /// Half calls, for whatever reason.
    pub half_calls: u64,
}

impl Capture {
    fn add(&mut self, other: Self) {
        for (sum, more) in [
            (&mut self.packets, other.packets),
            (&mut self.packets_dropped, other.packets_dropped),
            (&mut self.captured_bytes, other.captured_bytes),
            (&mut self.missing_bytes, other.missing_bytes),
            (&mut self.half_calls, other.half_calls),
        ] {
            *sum = sum.saturating_add(more);
        }
    }
}

/// Where the calls of a sniffer went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Calls {
    /// Captured.
    pub seen: u64,
    /// Lines of calls that go on, beside that of the call.
    pub stream_parts: u64,
    /// Left in the spool by a sniffer before.
    pub recovered: u64,
    /// Taken by the store.
    pub sent: u64,
    /// Not sent because of a rule.
    pub stopped: u64,
    /// Not sent because of the rule `sample`.
    pub sampled: u64,
    /// Lost, by cause.
    pub dropped: BTreeMap<String, u64>,
    /// On disk, to be sent later.
    pub spooled: u64,
    /// On their way.
    pub in_flight: u64,
}

impl Calls {
    /// What its buckets do not explain: anything but 0 is a bug of the sniffer, or a ledger that is made up.
    pub fn unaccounted(&self) -> i64 {
        let sum = |numbers: &[u64]| {
            numbers
                .iter()
                .fold(0, |sum: u64, one| sum.saturating_add(*one))
        };
        let dropped = self.dropped.values().copied().collect::<Vec<_>>();
        let came = sum(&[self.seen, self.stream_parts, self.recovered]);
        let went = [
            self.sent,
            self.stopped,
            self.sampled,
            self.spooled,
            self.in_flight,
        ];
        let went = sum(&went).saturating_add(sum(&dropped));
        came.cast_signed().saturating_sub(went.cast_signed())
    }

    fn add(&mut self, other: &Self) {
        for (sum, more) in [
            (&mut self.seen, other.seen),
            (&mut self.stream_parts, other.stream_parts),
            (&mut self.recovered, other.recovered),
            (&mut self.sent, other.sent),
            (&mut self.stopped, other.stopped),
            (&mut self.sampled, other.sampled),
            (&mut self.spooled, other.spooled),
            (&mut self.in_flight, other.in_flight),
        ] {
            *sum = sum.saturating_add(more);
        }
        for (cause, &more) in &other.dropped {
            let sum = self.dropped.entry(cause.clone()).or_default();
            *sum = sum.saturating_add(more);
        }
    }
}

/// The last ledger of a run, as a store keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Posted {
    /// Who posted it, as [`Sender`](crate::sender::Sender) is displayed.
    pub sender: String,
    /// When it arrived, in Unix milliseconds.
    pub updated_ms: i64,
    /// What was posted.
    pub ledger: Ledger,
}

/// The ledgers of all sniffers that post to a store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Fleet {
    /// By name.
    pub appliances: Vec<Appliance>,
    /// Their sum.
    pub total: Sum,
}

/// The ledgers of one appliance, of each of its runs the last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Appliance {
    /// The detail `host` of its lines.
    pub appliance: String,
    /// Where they came from, at most [`LEDGER_SENDERS_SHOWN`], the newest first.
    pub senders: Vec<String>,
    /// Starts of a sniffer that are counted here.
    pub runs: u64,
    /// When the last one arrived, in Unix milliseconds.
    pub updated_ms: i64,
    /// The sum of its runs.
    #[serde(flatten)]
    pub sum: Sum,
}

/// A sum of ledgers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sum {
    /// Where calls went.
    pub calls: Calls,
    /// What [`Calls::unaccounted`] computes of them.
    pub unaccounted: i64,
    /// What was captured.
    pub capture: Capture,
}

impl Sum {
    fn add(&mut self, calls: &Calls, capture: Capture) {
        self.calls.add(calls);
        self.capture.add(capture);
        self.unaccounted = self.calls.unaccounted();
    }
}

impl Fleet {
    /// Sums up the last ledger of each run, in any order.
    pub fn of(mut posted: Vec<Posted>) -> Self {
        posted.sort_by_key(|posted| std::cmp::Reverse(posted.updated_ms));
        let mut by_name = BTreeMap::<String, Appliance>::new();
        let mut total = Sum::default();
        for Posted {
            sender,
            updated_ms,
            ledger,
        } in posted
        {
            let appliance = by_name.entry(ledger.appliance).or_default();
            appliance.runs += 1;
            appliance.updated_ms = appliance.updated_ms.max(updated_ms);
            appliance.sum.add(&ledger.calls, ledger.capture);
            total.add(&ledger.calls, ledger.capture);
            let is_known = appliance.senders.contains(&sender);
            if !is_known && appliance.senders.len() < LEDGER_SENDERS_SHOWN {
                appliance.senders.push(sender);
            }
        }
        let named = by_name.into_iter().map(|(name, mut appliance)| {
            appliance.appliance = name;
            appliance
        });
        Self {
            appliances: named.collect(),
            total,
        }
    }
}

/// A cause that the store itself has.
const EXPIRED: &str = "expired";

impl Ledger {
    /// Reads the body of a post.
    ///
    /// # Errors
    /// A sentence that states what is wrong with it.
    pub fn read(body: &[u8]) -> Result<Self, String> {
        let ledger: Self =
            serde_json::from_slice(body).map_err(|error| format!("not a ledger: {error}"))?;
        ledger.check()?;
        Ok(ledger)
    }

    fn check(&self) -> Result<(), String> {
        let is_name = |text: &str| {
            (1..=LEDGER_TEXT_BYTES_MAX).contains(&text.len())
                && text
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
        };
        if self.appliance.len() > LEDGER_TEXT_BYTES_MAX {
            return Err(format!("appliance: at most {LEDGER_TEXT_BYTES_MAX} bytes"));
        }
        if !is_name(&self.run) {
            return Err(format!(
                "run: 1 to {LEDGER_TEXT_BYTES_MAX} letters, digits or one of - _ ."
            ));
        }
        if self.calls.dropped.len() > LEDGER_CAUSES_MAX {
            return Err(format!("dropped: at most {LEDGER_CAUSES_MAX} causes"));
        }
        for (cause, &calls) in &self.calls.dropped {
            if !is_name(cause) || cause == EXPIRED || i64::try_from(calls).is_err() {
                return Err(format!(
                    "dropped: {cause:?} is no cause, or its number is none"
                ));
            }
        }
        Ok(())
    }

    /// Takes the place of one that was posted before, or after, by the same sniffer; by how much the losses have grown.
    pub fn replace(&mut self, before: Self) -> BTreeMap<String, u64> {
        let mut grown = BTreeMap::new();
        for (cause, &calls) in &self.calls.dropped {
            let known = before.calls.dropped.get(cause).copied().unwrap_or_default();
            if calls > known {
                grown.insert(cause.clone(), calls - known);
            }
        }
        let is_late = before.calls.seen > self.calls.seen;
        let mut dropped = before.calls.dropped.clone();
        for (cause, &calls) in &self.calls.dropped {
            let known = dropped.entry(cause.clone()).or_default();
            *known = calls.max(*known);
        }
        if is_late {
            self.calls = before.calls;
            self.capture = before.capture;
        }
        self.calls.dropped = dropped;
        grown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(seen: u64, dropped: &[(&str, u64)]) -> Ledger {
        let dropped = dropped.iter();
        Ledger {
            appliance: "node".into(),
            run: "1".into(),
            calls: Calls {
                seen,
                dropped: dropped
                    .map(|(cause, calls)| ((*cause).into(), *calls))
                    .collect(),
                ..Calls::default()
            },
            capture: Capture::default(),
        }
    }

    #[test]
    fn a_fleet_balances_as_its_appliances_do() {
        let posted = |sender: &str, appliance: &str, run: &str, updated_ms, seen, sent| Posted {
            sender: sender.into(),
            updated_ms,
            ledger: Ledger {
                appliance: appliance.into(),
                run: run.into(),
                calls: Calls {
                    sent,
                    ..ledger(seen, &[("refused", 2)]).calls
                },
                capture: Capture {
                    captured_bytes: 100,
                    missing_bytes: 1,
                    ..Capture::default()
                },
            },
        };
        let fleet = Fleet::of(vec![
            posted("10.0.0.1", "b", "1", 5, 10, 8),
            posted("10.0.0.2", "a", "1", 6, 20, 17),
            posted("10.0.0.3", "b", "2", 7, 5, 3),
        ]);
        let names: Vec<_> = fleet
            .appliances
            .iter()
            .map(|one| one.appliance.as_str())
            .collect();
        assert_eq!(names, ["a", "b"]);
        let [a, b] = &fleet.appliances[..] else {
            panic!("two appliances")
        };
        assert_eq!((a.runs, a.sum.unaccounted), (1, 1));
        assert_eq!((b.runs, b.updated_ms, b.sum.unaccounted), (2, 7, 0));
        assert_eq!(b.senders, ["10.0.0.3", "10.0.0.1"]);
        let total = &fleet.total;
        assert_eq!((total.calls.seen, total.calls.sent), (35, 28));
        assert_eq!((total.calls.dropped["refused"], total.unaccounted), (6, 1));
        assert_eq!(total.capture.captured_bytes, 300);
    }

    #[test]
    fn numbers_that_are_made_up_do_not_overflow() {
        let calls = Calls {
            seen: u64::MAX,
            recovered: u64::MAX,
            sent: 1,
            ..Calls::default()
        };
        let mut sum = Sum::default();
        for _ in 0..3 {
            sum.add(
                &calls,
                Capture {
                    packets: u64::MAX,
                    ..Capture::default()
                },
            );
        }
        assert_eq!((sum.calls.seen, sum.capture.packets), (u64::MAX, u64::MAX));
    }

    #[track_caller]
    fn check(before: &Ledger, now: &Ledger, grown: &[(&str, u64)], then: &Ledger) {
        let mut replaced = now.clone();
        let found = replaced.replace(before.clone());
        let expected = grown.iter().map(|(cause, calls)| ((*cause).into(), *calls));
        assert_eq!(found, expected.collect());
        assert_eq!(&replaced, then);
    }

    #[test]
    fn losses_count_once_however_often_and_late_they_are_posted() {
        let first = ledger(10, &[("refused", 2)]);
        let second = ledger(20, &[("refused", 2), ("queue_full", 5)]);
        check(&Ledger::default(), &first, &[("refused", 2)], &first);
        check(&first, &second, &[("queue_full", 5)], &second);
        check(&second, &second, &[], &second);
        check(&second, &first, &[], &second);
    }

    #[test]
    fn what_is_posted_is_checked() {
        let read = |text: &str| Ledger::read(text.as_bytes());
        let good = r#"{"appliance":"node é","run":"a-1","calls":{"seen":7,"dropped":{"refused":2},"new":1}}"#;
        let ledger = read(good).expect("a ledger");
        assert_eq!((ledger.calls.seen, ledger.calls.dropped["refused"]), (7, 2));
        for (bad, word) in [
            ("", "not a ledger"),
            ("[]", "not a ledger"),
            (r#"{"appliance":"a","run":"","calls":{}}"#, "run"),
            (r#"{"appliance":"a","run":"x y","calls":{}}"#, "run"),
            (
                r#"{"appliance":"a","run":"x","calls":{"seen":-1}}"#,
                "not a ledger",
            ),
            (
                r#"{"appliance":"a","run":"x","calls":{"dropped":{"expired":1}}}"#,
                "dropped",
            ),
            (
                r#"{"appliance":"a","run":"x","calls":{"dropped":{"<b>":1}}}"#,
                "dropped",
            ),
            (
                r#"{"appliance":"a","run":"x","calls":{"dropped":{"x":18446744073709551615}}}"#,
                "dropped",
            ),
        ] {
            let error = read(bad).expect_err(bad);
            assert!(error.contains(word), "{bad}: {error}");
        }
        let long = "x".repeat(LEDGER_TEXT_BYTES_MAX + 1);
        let bad = format!(r#"{{"appliance":"{long}","run":"x","calls":{{}}}}"#);
        assert!(read(&bad).expect_err("too long").contains("appliance"));
        let many: Vec<String> = (0..=LEDGER_CAUSES_MAX)
            .map(|n| format!("\"c{n}\":1"))
            .collect();
        let bad = format!(
            r#"{{"appliance":"a","run":"x","calls":{{"dropped":{{{}}}}}}}"#,
            many.join(",")
        );
        assert!(read(&bad).expect_err("too many").contains("causes"));
    }
}
