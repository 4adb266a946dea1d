//! What became of the calls that were handed over. Written by the uploader alone, read by anybody.

use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

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
    /// By [`Snapshot::CLASSES`].
    answers: [AtomicU64; Snapshot::CLASSES.len()],
    /// By [`Times::EDGES`], and those beyond.
    delivery: [AtomicU64; Times::EDGES.len() + 1],
    delivery_micros: AtomicU64,
    last_status: AtomicU16,
    /// Milliseconds since 1970; 0 is never.
    last_success: AtomicU64,
    /// Milliseconds since 1970 at which the oldest bundle came; 0 when there is none.
    oldest: AtomicU64,
    down: AtomicBool,
    down_since: Mutex<Option<Instant>>,
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
    /// Requests that ended, by the class of their answer: [`Self::CLASSES`].
    pub answers: [u64; Self::CLASSES.len()],
    /// How long bundles took from their arrival here to their acknowledgement.
    pub delivery: Times,
    /// When the oldest bundle came that the uploader holds.
    pub oldest: Option<SystemTime>,
    /// Status of the last answer; 0 before the first.
    pub last_status: u16,
    /// When the last bundle was acknowledged.
    pub last_success: Option<SystemTime>,
    /// The last attempt failed, and none has succeeded since.
    pub down: bool,
    /// For how long that is so.
    pub down_for: Duration,
    /// What the last failure was; empty before the first.
    pub last_error: String,
    /// `io_uring`, or `epoll` with the reason.
    pub driver: String,
}

/// How often something took how long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// How many took no longer than the edge of that number and longer than the one before; the last, longer than all.
    pub counts: [u64; Self::EDGES.len() + 1],
    /// All together.
    pub total: Duration,
}

impl Times {
    /// In seconds.
    pub const EDGES: [f64; 12] = [
        0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
    ];
}

impl Snapshot {
    /// Classes of answers; `none` when there was none.
    pub const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

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
        Snapshot {
            calls_queued: self.calls_queued.load(Ordering::Relaxed),
            bundles_queued: self.bundles_queued.load(Ordering::Relaxed),
            bytes_queued: self.bytes_queued.load(Ordering::Relaxed),
            bundles_sent: self.bundles_sent.load(Ordering::Relaxed),
            bytes_sent: self.bytes_sent.load(Ordering::Relaxed),
            posts: self.posts.load(Ordering::Relaxed),
            retries: self.retries.load(Ordering::Relaxed),
            connects: self.connects.load(Ordering::Relaxed),
            answers: each(&self.answers),
            delivery: Times {
                counts: each(&self.delivery),
                total: Duration::from_micros(self.delivery_micros.load(Ordering::Relaxed)),
            },
            oldest: at(self.oldest.load(Ordering::Relaxed)),
            last_status: self.last_status.load(Ordering::Relaxed),
            last_success: at(self.last_success.load(Ordering::Relaxed)),
            down: self.down.load(Ordering::Relaxed),
            down_for: self
                .down_since
                .lock()
                .ok()
                .and_then(|since| Some(since.as_ref()?.elapsed()))
                .unwrap_or_default(),
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
        self.last_success
            .store(milliseconds(now), Ordering::Relaxed);
        add(&self.calls_sent, calls);
    }

    /// A bundle was acknowledged so long after it came.
    pub(super) fn took(&self, time: Duration) {
        let seconds = time.as_secs_f64();
        let place = Times::EDGES.partition_point(|edge| *edge < seconds);
        if let Some(count) = self.delivery.get(place) {
            add(count, 1);
        }
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        add(&self.delivery_micros, micros);
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

    pub(super) fn holds(&self, bundles: u64, bytes: u64, calls: u64, oldest: Option<Duration>) {
        let since = oldest.map_or(0, |age| milliseconds(SystemTime::now() - age));
        self.oldest.store(since, Ordering::Relaxed);
        self.bundles_queued.store(bundles, Ordering::Relaxed);
        self.bytes_queued.store(bytes, Ordering::Relaxed);
        self.calls_queued.store(calls, Ordering::Relaxed);
    }

    /// A request ended with this answer, or with none.
    pub(super) fn answered(&self, status: Option<u16>) {
        let class = usize::from(status.unwrap_or(0) / 100);
        if let Some(count) = self.answers.get(class) {
            add(count, 1);
        }
        if let Some(status) = status {
            self.last_status.store(status, Ordering::Relaxed);
        }
    }

    pub(super) fn failed(&self, error: String) {
        if let Ok(mut last) = self.last_error.lock() {
            *last = error;
        }
    }

    pub(super) fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::Relaxed);
        if let Ok(mut since) = self.down_since.lock() {
            *since = down.then(|| since.unwrap_or_else(Instant::now));
        }
    }

    pub(super) fn set_driver(&self, driver: String) {
        // The first one stays: it is opened once.
        let _ = self.driver.set(driver);
    }
}

fn each<const N: usize>(counters: &[AtomicU64; N]) -> [u64; N] {
    std::array::from_fn(|index| counters[index].load(Ordering::Relaxed))
}

/// Since 1970.
fn milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// 0 is never.
fn at(milliseconds: u64) -> Option<SystemTime> {
    (milliseconds > 0).then(|| UNIX_EPOCH + Duration::from_millis(milliseconds))
}

/// Adds to a counter that nobody else writes.
fn add(counter: &AtomicU64, more: u64) {
    counter.store(counter.load(Ordering::Relaxed) + more, Ordering::Release);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(times: &[u64], expected: &[(usize, u64)]) {
        let stats = Stats::default();
        for &time in times {
            stats.took(Duration::from_millis(time));
        }
        let delivery = stats.snapshot().delivery;
        let filled: Vec<(usize, u64)> = (delivery.counts.into_iter().enumerate())
            .filter(|(_, count)| *count > 0)
            .collect();
        assert_eq!(filled, expected);
        assert_eq!(delivery.total, Duration::from_millis(times.iter().sum()));
    }

    #[test]
    fn times_are_counted_up_to_their_edge() {
        check(&[], &[]);
        check(&[0, 10, 11], &[(0, 2), (1, 1)]);
        check(&[60_000, 60_001], &[(11, 1), (12, 1)]);
    }

    #[test]
    fn answers_are_counted_by_class_and_downtime_from_its_beginning() {
        let stats = Stats::default();
        for status in [None, Some(204), Some(200), Some(503), Some(999)] {
            stats.answered(status);
        }
        let snapshot = stats.snapshot();
        assert_eq!(snapshot.answers, [1, 0, 2, 0, 0, 1]);
        assert_eq!(
            (snapshot.last_status, snapshot.down_for),
            (999, Duration::ZERO)
        );
        stats.set_down(true);
        std::thread::sleep(Duration::from_millis(5));
        stats.set_down(true);
        assert!(stats.snapshot().down_for >= Duration::from_millis(5));
        stats.set_down(false);
        assert_eq!(stats.snapshot().down_for, Duration::ZERO);
    }
}
