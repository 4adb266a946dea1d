//! When calls arrive, and how much of a bundle is taken.

/// Bytes of a bundle before and after inflating, at most; a larger one is answered 413.
pub(super) const BUNDLE_BYTES_MAX: usize = 256 << 20;

/// When the POST with a call came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Number of the call.
    pub number: u64,
    /// Since 1970.
    pub micros: u64,
}
