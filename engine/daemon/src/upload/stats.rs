//! What became of the calls that were handed over. Written by the uploader alone, read by anybody.

use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Why calls were given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// The collector refused their bundle.
    Refused,
    /// The queue was full and their bundle the oldest.
    QueueFull,
    /// The time to stop was over.
    Shutdown,
}

/// The uploader's counters. Each has one writer, so a reader sees it whole.
#[derive(Debug, Default)]
pub struct Stats {
    /// By outbox: calls handed over.
    handed: Vec<Arc<AtomicU64>>,
    calls_sent: AtomicU64,
    calls_dropped_refused: AtomicU64,
    calls_dropped_queue_full: AtomicU64,
    calls_dropped_shutdown: AtomicU64,
    bundles_sent: AtomicU64,
    bytes_sent: AtomicU64,
    posts: AtomicU64,
    retries: AtomicU64,
    connects: AtomicU64,
    bundles_queued: AtomicU64,
    bytes_queued: AtomicU64,
    calls_queued: AtomicU64,
    last_status: AtomicU16,
    /// Milliseconds since 1970; 0 is never.
    last_success: AtomicU64,
    down: AtomicBool,
    last_error: Mutex<String>,
    driver: OnceLock<String>,
}

/// A copy of the counters.
///
/// `calls_handed = calls_sent + calls_dropped() + calls_in_flight`, exactly, at any time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Calls that the shards put into their outboxes.
    pub calls_handed: u64,
    /// Calls that the collector acknowledged.
    pub calls_sent: u64,
    /// Calls in bundles that the collector refused.
    pub calls_dropped_refused: u64,
    /// Calls in bundles that were given up because the queue was full.
    pub calls_dropped_queue_full: u64,
    /// Calls in bundles that could not be delivered before the uploader stopped.
    pub calls_dropped_shutdown: u64,
    /// Calls in outboxes, in the queue and on their way.
    pub calls_in_flight: u64,
    /// Calls that the uploader holds, in its queue and on their way: a part of `calls_in_flight`.
    pub calls_queued: u64,
    /// Bundles that the uploader holds, in its queue and on their way.
    pub bundles_queued: u64,
    /// Bytes of their bodies.
    pub bytes_queued: u64,
    /// Bundles that the collector acknowledged.
    pub bundles_sent: u64,
    /// Bytes of their bodies.
    pub bytes_sent: u64,
    /// Requests that were started.
    pub posts: u64,
    /// Requests that repeated an earlier one.
    pub retries: u64,
    /// Connections that were made.
    pub connects: u64,
    /// Status of the last answer; 0 before the first.
    pub last_status: u16,
    /// When the last bundle was acknowledged.
    pub last_success: Option<SystemTime>,
    /// The last attempt failed, and none has succeeded since.
    pub down: bool,
    /// What the last failure was; empty before the first.
    pub last_error: String,
    /// `io_uring`, or `epoll` with the reason.
    pub driver: String,
}

impl Snapshot {
    /// Calls given up, for whatever reason.
    pub fn calls_dropped(&self) -> u64 {
        self.calls_dropped_refused + self.calls_dropped_queue_full + self.calls_dropped_shutdown
    }
}

impl Stats {
    pub(super) fn new(handed: Vec<Arc<AtomicU64>>) -> Self {
        Self {
            handed,
            ..Self::default()
        }
    }

    /// A copy of all counters that adds up.
    pub fn snapshot(&self) -> Snapshot {
        // What left is read before what came, so what is between is never negative.
        let mut snapshot = Snapshot {
            calls_sent: self.calls_sent.load(Ordering::Acquire),
            calls_dropped_refused: self.calls_dropped_refused.load(Ordering::Acquire),
            calls_dropped_queue_full: self.calls_dropped_queue_full.load(Ordering::Acquire),
            calls_dropped_shutdown: self.calls_dropped_shutdown.load(Ordering::Acquire),
            ..Snapshot::default()
        };
        let left = snapshot.calls_sent + snapshot.calls_dropped();
        snapshot.calls_handed = self
            .handed
            .iter()
            .map(|handed| handed.load(Ordering::Acquire))
            .sum();
        snapshot.calls_in_flight = snapshot.calls_handed.saturating_sub(left);
        let milliseconds = self.last_success.load(Ordering::Relaxed);
        Snapshot {
            calls_queued: self.calls_queued.load(Ordering::Relaxed),
            bundles_queued: self.bundles_queued.load(Ordering::Relaxed),
            bytes_queued: self.bytes_queued.load(Ordering::Relaxed),
            bundles_sent: self.bundles_sent.load(Ordering::Relaxed),
            bytes_sent: self.bytes_sent.load(Ordering::Relaxed),
            posts: self.posts.load(Ordering::Relaxed),
            retries: self.retries.load(Ordering::Relaxed),
            connects: self.connects.load(Ordering::Relaxed),
            last_status: self.last_status.load(Ordering::Relaxed),
            last_success: (milliseconds > 0)
                .then(|| UNIX_EPOCH + Duration::from_millis(milliseconds)),
            down: self.down.load(Ordering::Relaxed),
            last_error: self
                .last_error
                .lock()
                .map(|error| error.clone())
                .unwrap_or_default(),
            driver: self.driver.get().cloned().unwrap_or_default(),
            ..snapshot
        }
    }

    pub(super) fn sent(&self, calls: u64, bytes: u64, now: SystemTime) {
        add(&self.bundles_sent, 1);
        add(&self.bytes_sent, bytes);
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.last_success.store(
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
            Ordering::Relaxed,
        );
        add(&self.calls_sent, calls);
    }

    pub(super) fn dropped(&self, calls: u64, reason: DropReason) {
        let counter = match reason {
            DropReason::Refused => &self.calls_dropped_refused,
            DropReason::QueueFull => &self.calls_dropped_queue_full,
            DropReason::Shutdown => &self.calls_dropped_shutdown,
        };
        add(counter, calls);
    }

    pub(super) fn posted(&self, again: bool) {
        add(&self.posts, 1);
        add(&self.retries, u64::from(again));
    }

    pub(super) fn connected(&self) {
        add(&self.connects, 1);
    }

    pub(super) fn holds(&self, bundles: u64, bytes: u64, calls: u64) {
        self.bundles_queued.store(bundles, Ordering::Relaxed);
        self.bytes_queued.store(bytes, Ordering::Relaxed);
        self.calls_queued.store(calls, Ordering::Relaxed);
    }

    pub(super) fn answered(&self, status: u16) {
        self.last_status.store(status, Ordering::Relaxed);
    }

    pub(super) fn failed(&self, error: String) {
        if let Ok(mut last) = self.last_error.lock() {
            *last = error;
        }
    }

    pub(super) fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::Relaxed);
    }

    pub(super) fn set_driver(&self, driver: String) {
        // The first one stays: it is opened once.
        let _ = self.driver.set(driver);
    }
}

/// Adds to a counter that nobody else writes.
fn add(counter: &AtomicU64, more: u64) {
    counter.store(counter.load(Ordering::Relaxed) + more, Ordering::Release);
}
