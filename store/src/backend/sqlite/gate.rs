//! The gate between the queries and the checkpoints of the write-ahead log.
//!
//! SQLite empties the log only at a moment at which no query reads from it. Where queries overlap without a pause, that moment
//! never comes by itself, and the log grows for as long as bundles arrive. So the writing thread closes the gate: new queries
//! wait, long ones pause at their next row, and after the checkpoint all go on.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Queries pass it together, a checkpoint alone.
#[derive(Debug, Default)]
pub(super) struct Gate {
    lock: RwLock<()>,
    is_closing: AtomicBool,
}

impl Gate {
    /// Waits until the gate is open. No checkpoint happens while the guard lives.
    pub(super) fn enter(&self) -> RwLockReadGuard<'_, ()> {
        self.lock.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a checkpoint waits for the queries that are inside.
    pub(super) fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Relaxed)
    }

    /// Waits until no query is inside. None enters while the guard lives.
    pub(super) fn close(&self) -> RwLockWriteGuard<'_, ()> {
        self.is_closing.store(true, Ordering::Relaxed);
        let closed = self.lock.write().unwrap_or_else(PoisonError::into_inner);
        self.is_closing.store(false, Ordering::Relaxed);
        closed
    }
}
