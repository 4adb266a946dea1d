//! Packet time: nanoseconds since the Unix epoch, as the kernel or the capture file stamped the frame.
//!
//! `engine-core` never reads a clock. Time is an argument everywhere, so the same packets give the same lines.

use std::time::Duration;

/// A moment on the packet clock, in nanoseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The epoch: the time of a frame without a time stamp.
    pub const ZERO: Self = Self(0);

    /// From seconds and nanoseconds, saturating.
    pub const fn from_parts(seconds: u64, nanos: u32) -> Self {
        Self(
            seconds
                .saturating_mul(1_000_000_000)
                .saturating_add(nanos as u64),
        )
    }

    /// From nanoseconds since the epoch.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the epoch.
    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// Whole milliseconds since the epoch, truncated.
    pub const fn millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// Time since `earlier`; zero when the packet clock went backwards.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// This moment less `span`, saturating.
    pub fn before(self, span: Duration) -> Self {
        Self(
            self.0
                .saturating_sub(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)),
        )
    }

    /// This moment plus `span`, saturating.
    pub fn after(self, span: Duration) -> Self {
        Self(
            self.0
                .saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_goes_back_gives_zero() {
        let early = Timestamp::from_parts(10, 5);
        let late = Timestamp::from_parts(11, 0);
        assert_eq!(late.since(early), Duration::from_nanos(999_999_995));
        assert_eq!(early.since(late), Duration::ZERO);
        assert_eq!(early.millis(), 10_000);
    }
}
