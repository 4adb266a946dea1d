//! What the shards count for one sink: their part of its column of the ledger.

use std::sync::atomic::{AtomicU64, Ordering};

/// The part of [`OutletCounters`](crate::counters::OutletCounters) that any thread may read. One shard writes.
#[derive(Debug, Default)]
pub struct Column {
    calls_pushed: AtomicU64,
    calls_shed: AtomicU64,
    calls_withheld: AtomicU64,
}

impl Column {
    /// Calls in bundles that were given to the sink.
    pub fn calls_pushed(&self) -> u64 {
        self.calls_pushed.load(Ordering::Acquire)
    }

    /// Calls in bundles that were shed because the way to the sink was full.
    pub fn calls_shed(&self) -> u64 {
        self.calls_shed.load(Ordering::Acquire)
    }

    /// Calls that were counted and discarded.
    pub fn calls_withheld(&self) -> u64 {
        self.calls_withheld.load(Ordering::Acquire)
    }

    /// Sets the calls that were pushed.
    pub fn set_pushed(&self, calls: u64) {
        self.calls_pushed.store(calls, Ordering::Release);
    }

    /// Sets the calls that were shed.
    pub fn set_shed(&self, calls: u64) {
        self.calls_shed.store(calls, Ordering::Release);
    }

    /// Sets the calls that were withheld.
    pub fn set_withheld(&self, calls: u64) {
        self.calls_withheld.store(calls, Ordering::Release);
    }
}
