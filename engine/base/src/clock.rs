//! The wall clock, on which the kernel stamps frames.

use std::time::{SystemTime, UNIX_EPOCH};

use engine_core::time::Timestamp;

/// Now.
#[inline]
pub fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_nanos(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}
