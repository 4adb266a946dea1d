//! The gate between the queries and the checkpoints of the write-ahead log.
//!
//! SQLite empties the log only at a moment at which no query reads from it. Where queries overlap without a pause, that moment
//! never comes by itself, and the log grows for as long as bundles arrive. So the writing thread closes the gate: new queries
//! wait, long ones pause at their next block, and after the checkpoint all go on. Bundles wait as well meanwhile, so the writing
//! thread gives up soon where a query does not come to its pause, and tries again later.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Queries pass it together, a checkpoint alone.
#[derive(Debug, Default)]
pub(super) struct Gate {
    inside: Mutex<Inside>,
    moved: Condvar,
    is_closing: AtomicBool,
}

/// Who is inside.
#[derive(Debug, Default)]
struct Inside {
    queries: usize,
    /// A checkpoint is, or waits for the queries.
    is_closed: bool,
}

/// No checkpoint happens while it lives.
#[derive(Debug)]
pub(super) struct Entered<'a>(&'a Gate);

/// No query is inside while it lives.
#[derive(Debug)]
pub(super) struct Closed<'a>(&'a Gate);

impl Gate {
    /// Waits until the gate is open.
    pub(super) fn enter(&self) -> Entered<'_> {
        let waited = self
            .moved
            .wait_while(self.inside(), |inside| inside.is_closed);
        waited.unwrap_or_else(PoisonError::into_inner).queries += 1;
        Entered(self)
    }

    /// Whether a checkpoint waits for the queries that are inside.
    pub(super) fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Relaxed)
    }

    /// Waits until no query is inside; none enters any more. After some time, if there is a bound to it, it is given up.
    pub(super) fn close(&self, most: Option<Duration>) -> Option<Closed<'_>> {
        let mut inside = self.inside();
        inside.is_closed = true;
        self.is_closing.store(true, Ordering::Relaxed);
        // Opens the gate again when it is dropped.
        let closed = Closed(self);
        let is_busy = |inside: &mut Inside| inside.queries > 0;
        let is_empty = match most {
            None => {
                let waited = self.moved.wait_while(inside, is_busy);
                drop(waited.unwrap_or_else(PoisonError::into_inner));
                true
            }
            Some(most) => {
                let waited = self.moved.wait_timeout_while(inside, most, is_busy);
                let (inside, _) = waited.unwrap_or_else(PoisonError::into_inner);
                inside.queries == 0
            }
        };
        self.is_closing.store(false, Ordering::Relaxed);
        is_empty.then_some(closed)
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        // Whole between any two of the operations here.
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.0.inside().queries -= 1;
        self.0.moved.notify_all();
    }
}

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        self.0.inside().is_closed = false;
        self.0.moved.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn a_checkpoint_is_alone_and_queries_are_together() {
        let gate = Gate::default();
        let first = gate.enter();
        let second = gate.enter();
        assert!(gate.close(Some(Duration::ZERO)).is_none());
        assert!(!gate.is_closing());
        drop(first);
        // It was given up, so the gate is open.
        drop(gate.enter());
        drop(second);
        assert!(gate.close(Some(Duration::ZERO)).is_some());
        assert!(gate.close(None).is_some());
        drop(gate.enter());
    }

    #[test]
    fn queries_that_overlap_pause_for_a_checkpoint() {
        let gate = Gate::default();
        let (inside, ended) = (AtomicUsize::new(0), AtomicBool::new(false));
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while !ended.load(Ordering::Relaxed) {
                        let _entered = gate.enter();
                        inside.fetch_add(1, Ordering::Relaxed);
                        while !gate.is_closing() && !ended.load(Ordering::Relaxed) {
                            std::thread::yield_now();
                        }
                        inside.fetch_sub(1, Ordering::Relaxed);
                    }
                });
            }
            for _ in 0..50 {
                let closed = gate.close(None);
                assert!(closed.is_some());
                assert_eq!(inside.load(Ordering::Relaxed), 0);
            }
            ended.store(true, Ordering::Relaxed);
        });
    }
}
