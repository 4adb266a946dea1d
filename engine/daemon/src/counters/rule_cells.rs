//! How often each rule matched in one shard: plain stores by the shard, read by anybody.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Hits per rule of one shard, by the number of the rule in its set.
#[derive(Clone, Debug, Default)]
pub struct HitCells(Arc<[AtomicU64]>);

impl HitCells {
    /// For so many rules.
    pub fn new(rules: usize) -> Self {
        Self((0..rules).map(|_| AtomicU64::new(0)).collect())
    }

    /// Publishes what a shard has counted.
    pub fn store(&self, hits: &[u64]) {
        for (cell, hits) in self.0.iter().zip(hits) {
            cell.store(*hits, Ordering::Relaxed);
        }
    }

    /// The count of one rule; nothing if there is no such rule.
    pub fn get(&self, rule: usize) -> Option<u64> {
        self.0.get(rule).map(|cell| cell.load(Ordering::Relaxed))
    }
}
