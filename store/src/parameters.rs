//! Parameters of the API that several requests have.

use serde::Deserialize;

use crate::call::Range;
use crate::clock::unix_ms;
use crate::date;
use crate::filter::duration;

/// A number with a bound.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Count<const MAX: usize>(usize);

impl<const MAX: usize> Count<MAX> {
    /// The number, at least 1 and at most the bound.
    pub(crate) fn get(self) -> usize {
        self.0.clamp(1, MAX)
    }
}

impl<const MAX: usize> TryFrom<String> for Count<MAX> {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let expected = |_| format!("expected a number from 1 to {MAX}, not {text:?}");
        text.parse().map(Self).map_err(expected)
    }
}

/// Length of a point in milliseconds.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Step(pub(crate) i64);

impl TryFrom<String> for Step {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let length = duration(&text).filter(|length| *length >= 1.0);
        let unknown = || format!("expected a duration such as 1min, not {text:?}");
        length.map(|length| Self(length as i64)).ok_or_else(unknown)
    }
}

/// A time: milliseconds since 1970, a date, or how long ago.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Time(i64);

impl TryFrom<String> for Time {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        time(&text, unix_ms()).map(Self).ok_or_else(|| {
            format!(
                "expected a time such as 2026-01-31T12:00:00Z, milliseconds since 1970, or -15min for as long ago, not {text:?}"
            )
        })
    }
}

fn time(text: &str, now_ms: i64) -> Option<i64> {
    let number = match text.strip_prefix('-') {
        Some(ago) => now_ms as f64 - duration(ago)?,
        None => text
            .parse::<i64>()
            .map(|ms| ms as f64)
            .ok()
            .or_else(|| date::parse(text))?,
    };
    // The cast saturates.
    Some(number as i64)
}

/// `from` and `to`.
pub(crate) fn range(from: Option<Time>, to: Option<Time>) -> Range {
    Range {
        from_ms: from.map(|time| time.0),
        to_ms: to.map(|time| time.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_forms() {
        const NOW: i64 = 1_700_000_000_000;
        for (text, expected) in [
            ("1700000000500", Some(1_700_000_000_500)),
            ("2023-11-14T22:13:20.5Z", Some(1_700_000_000_500)),
            ("-15min", Some(NOW - 900_000)),
            ("-500", Some(NOW - 500)),
            ("-1h", Some(NOW - 3_600_000)),
            ("now", None),
            ("", None),
            ("-", None),
            ("-1x", None),
            ("--1h", None),
        ] {
            assert_eq!(time(text, NOW), expected, "{text}");
        }
    }
}
