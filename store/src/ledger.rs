//! The ledger of a sniffer: where its calls went, which it posts once a minute to `/ledger` beside the capture URL.
//!
//! Its numbers are sums since the sniffer started, so that a post that is lost, sent twice or late does no harm: what the store
//! counts is by how much a number has grown since the one before.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::limits::{LEDGER_CAUSES_MAX, LEDGER_TEXT_BYTES_MAX};

/// What is posted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// The machine that captures: the detail `host` of its lines.
    pub appliance: String,
    /// One for each start of a sniffer.
    pub run: String,
    /// Sums since that start.
    pub calls: Calls,
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
        }
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
