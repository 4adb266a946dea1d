//! What the spool's thread shares with other threads: counters, totals and reports.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::messages::Report;
use super::segments::Totals;

/// What the spool's thread shares with others.
#[derive(Debug, Default)]
pub(super) struct Shown {
    pub(super) totals: Mutex<Totals>,
    /// Why the last write failed; empty while they succeed.
    pub(super) trouble: Mutex<String>,
    pub(super) pending_bytes: AtomicUsize,
    pub(super) written_bytes: AtomicU64,
    pub(super) failed_writes: AtomicU64,
    pub(super) syncs: AtomicU64,
    pub(super) reports: Mutex<VecDeque<Report>>,
    pub(super) has_reports: AtomicBool,
}

impl Shown {
    pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a report for the uploader.
    pub(super) fn report(&self, report: Report) {
        Self::locked(&self.reports).push_back(report);
        self.has_reports.store(true, Ordering::Release);
    }
}
