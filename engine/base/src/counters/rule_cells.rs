//! How often each rule matched in one shard: plain stores by the shard, read by anybody.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Matches per rule of one shard, by the number of the rule in its set.
#[derive(Clone, Debug, Default)]
pub struct RuleCells(Arc<[AtomicU64]>);

impl RuleCells {
    /// For this many rules.
    pub fn new(rules: usize) -> Self {
        Self((0..rules).map(|_| AtomicU64::new(0)).collect())
    }

    /// Publishes what the owning shard has counted.
    #[inline]
    pub fn store(&self, matches: &[u64]) {
        for (cell, count) in self.0.iter().zip(matches) {
            cell.store(*count, Ordering::Relaxed);
        }
    }

    /// The count of one rule; nothing if there is no such rule.
    pub fn get(&self, rule: usize) -> Option<u64> {
        self.0.get(rule).map(|cell| cell.load(Ordering::Relaxed))
    }
}
