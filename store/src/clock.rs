//! The time of day, as the store writes it down.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds of a minute, by which calls and losses are counted.
pub(crate) const MINUTE_MS: i64 = 60_000;

/// The minute, counted since 1970, that a time lies in.
pub(crate) fn minute(time_ms: i64) -> i64 {
    time_ms.div_euclid(MINUTE_MS)
}

/// Unix time in milliseconds.
pub(crate) fn unix_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
