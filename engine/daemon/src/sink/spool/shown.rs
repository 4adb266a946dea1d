//! What the spool's thread shares with other threads: counters, totals and reports.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::messages::Report;
use super::segment::Damage;
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

/// A copy of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Where it is.
    pub folder: String,
    /// What is on disk.
    pub totals: Totals,
    /// Why bundles cannot be written now; empty while they can.
    pub trouble: String,
    /// Bytes that were written, indexes included.
    pub written_bytes: u64,
    /// Writes that failed.
    pub failed_writes: u64,
    /// Times that files were synced.
    pub syncs: u64,
    /// What was damaged when it was opened.
    pub damage: Damage,
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
