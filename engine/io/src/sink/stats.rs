//! What became of the calls that were given to a sink: counters that the sink's thread writes and any thread reads.
//!
//! Every sink has the same ones. What only its kind has to show (the codes of an HTTP server) is a [`Detail`], rendered by
//! the sink itself.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::column::Column;
use super::spool;
use crate::diagnostic::Code;

/// Why calls were given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// The collector refused their bundle.
    Refused,
    /// The collector found the line of one call alone too large.
    TooLarge,
    /// The backlog was full and their bundle the oldest.
    QueueFull,
    /// The time to stop was over.
    Shutdown,
    /// The bound of the spool was reached and their bundle the oldest.
    SpoolFull,
    /// Their bundle was in the spool for longer than it may be.
    SpoolAge,
    /// Their bundle in the spool cannot be read.
    SpoolDamaged,
    /// A person discarded what was in the spool.
    Discarded,
    /// Nobody reads what the sink writes, and nobody will.
    Closed,
}

engine_core::counters! {
    /// What a sink did with the bundles that it took from the shards, and what it holds of them.
    pub struct Counters {
        /// Calls that the collector acknowledged.
        calls_sent,
        /// Calls in bundles that the collector refused.
        calls_dropped_refused,
        /// Calls whose line the collector found too large, alone in its POST.
        calls_dropped_too_large,
        /// Calls in bundles that were given up because the backlog was full.
        calls_dropped_queue_full,
        /// Calls in bundles that could not be delivered before the sink stopped.
        calls_dropped_shutdown,
        /// Calls in bundles that were given up because the spool was full.
        calls_dropped_spool_full,
        /// Calls in bundles that were in the spool for longer than they may be.
        calls_dropped_spool_age,
        /// Calls in bundles of the spool that cannot be read.
        calls_dropped_spool_damaged,
        /// Calls in bundles of the spool that a person discarded.
        calls_dropped_discarded,
        /// Calls in bundles for a sink whose other end is closed for good.
        calls_dropped_closed,
        /// Calls that earlier processes left in the spool.
        calls_recovered,
        /// Calls whose bundle is in the spool alone, and not in memory.
        #[gauge]
        calls_spooled,
        /// Calls in the backlog, those whose delivery has started included.
        #[gauge]
        calls_queued,
        /// Bundles in the backlog.
        #[gauge]
        bundles_queued,
        /// Bytes of their bodies.
        #[gauge]
        bytes_queued,
        /// Bundles that the collector acknowledged.
        bundles_sent,
        /// Bytes of their bodies.
        bytes_sent,
        /// Deliveries that were started.
        attempts,
        /// Deliveries that repeated an earlier one.
        retries,
    }
}

/// A sink's counters. Each cell has one writer, so a reader sees it whole.
#[derive(Debug)]
pub struct Stats {
    /// What the shards count, by shard.
    columns: Vec<Arc<Column>>,
    /// In the order of [`Counters::FIELDS`].
    cells: [AtomicU64; Counters::FIELDS.len()],
    /// By [`Times::EDGES`], and those beyond.
    delivery: [AtomicU64; Times::EDGES.len() + 1],
    delivery_micros: AtomicU64,
    /// Milliseconds since 1970; 0 is never.
    last_success: AtomicU64,
    /// Milliseconds since 1970 at which the oldest bundle came; 0 when there is none.
    oldest: AtomicU64,
    down: AtomicBool,
    down_since: Mutex<Option<Instant>>,
    /// What the last failure was, and the code that explains it.
    last_error: Mutex<(Option<Code>, String)>,
}

/// A copy of all counters of one sink.
///
/// `calls_pushed + calls_recovered = calls_sent + calls_dropped() + calls_spooled + calls_in_flight`, exactly, at any time.
/// With what the shards hold of it, that is the sink's column of the ledger.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// The sink's name in the settings.
    pub name: String,
    /// Where it delivers to, or why it does not.
    pub place: String,
    /// Calls that the shards gave to the sink.
    pub calls_pushed: u64,
    /// Calls that the shards shed because the way to the sink was full.
    pub calls_shed: u64,
    /// Calls that the shards counted and discarded.
    pub calls_withheld: u64,
    /// Calls on their way to the sink's thread, in the backlog and in delivery.
    pub calls_in_flight: u64,
    /// What the sink's thread counted.
    pub counters: Counters,
    /// How long bundles took from their arrival at the sink to their acknowledgement.
    pub delivery: Times,
    /// When the oldest bundle of the backlog came.
    pub oldest: Option<SystemTime>,
    /// When the last bundle was acknowledged.
    pub last_success: Option<SystemTime>,
    /// The last attempt failed, and none has succeeded since.
    pub down: bool,
    /// For how long that is so.
    pub down_for: Duration,
    /// What the last failure was; empty before the first.
    pub last_error: String,
    /// The code that explains it.
    pub last_error_code: Option<Code>,
    /// What only this kind of sink has; none for one that delivers nothing.
    pub detail: Option<Detail>,
    /// Its spool; none where it has none.
    pub spool: Option<spool::Snapshot>,
}

/// What only one kind of sink has to show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Detail {
    /// Status code of the last answer; 0 before the first, and where answers have none.
    pub last_code: u16,
    /// How it does its I/O, with the reason in brackets where that is not the best way.
    pub transport: String,
    /// Where it delivers to, in the order in which that is tried, where there are several places.
    pub places: Vec<UrlState>,
    /// Metrics of this kind.
    pub metrics: Vec<Metric>,
}

/// One of several places that a sink delivers to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UrlState {
    /// Its URL, without secrets.
    pub url: String,
    /// Whether it took the last bundle that was sent to it; none before the first.
    pub up: Option<bool>,
    /// Why it did not; empty while it does.
    pub error: String,
}

/// A metric of one kind of sink. Its name ends in `_total`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Its whole name.
    pub name: &'static str,
    /// What one unit is.
    pub help: &'static str,
    /// The label by which its samples differ; empty for a metric of one sample.
    pub label: &'static str,
    /// By value of the label.
    pub samples: Vec<(&'static str, u64)>,
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

impl Counters {
    /// Calls given up by the sink's thread, for whatever reason.
    pub fn calls_dropped(&self) -> u64 {
        self.calls_dropped_refused
            + self.calls_dropped_too_large
            + self.calls_dropped_queue_full
            + self.calls_dropped_shutdown
            + self.calls_dropped_spool_full
            + self.calls_dropped_spool_age
            + self.calls_dropped_spool_damaged
            + self.calls_dropped_discarded
            + self.calls_dropped_closed
    }
}

impl Stats {
    /// All zero, with what the shards count.
    pub fn new(columns: Vec<Arc<Column>>) -> Self {
        Self {
            columns,
            cells: std::array::from_fn(|_| AtomicU64::new(0)),
            delivery: std::array::from_fn(|_| AtomicU64::new(0)),
            delivery_micros: AtomicU64::new(0),
            last_success: AtomicU64::new(0),
            oldest: AtomicU64::new(0),
            down: AtomicBool::new(false),
            down_since: Mutex::new(None),
            last_error: Mutex::default(),
        }
    }

    /// A copy of all counters that adds up.
    pub fn snapshot(&self, name: &str, place: &str) -> Snapshot {
        // What left is read before what came, so what is between is never negative.
        let mut cells = self.cells.iter().map(|cell| cell.load(Ordering::Acquire));
        let counters = Counters::from_values(&mut cells);
        let sum = |count: fn(&Column) -> u64| self.columns.iter().map(|column| count(column)).sum();
        let calls_pushed: u64 = sum(Column::calls_pushed);
        let left = counters.calls_sent + counters.calls_dropped() + counters.calls_spooled;
        // Before the error: who finds the collector down finds why.
        let down = self.down.load(Ordering::Acquire);
        let (last_error_code, last_error) = self
            .last_error
            .lock()
            .map(|error| error.clone())
            .unwrap_or_default();
        Snapshot {
            name: name.to_owned(),
            place: place.to_owned(),
            calls_pushed,
            calls_shed: sum(Column::calls_shed),
            calls_withheld: sum(Column::calls_withheld),
            calls_in_flight: (calls_pushed + counters.calls_recovered).saturating_sub(left),
            counters,
            delivery: Times {
                counts: std::array::from_fn(|index| self.delivery[index].load(Ordering::Relaxed)),
                total: Duration::from_micros(self.delivery_micros.load(Ordering::Relaxed)),
            },
            oldest: at(self.oldest.load(Ordering::Relaxed)),
            last_success: at(self.last_success.load(Ordering::Relaxed)),
            down,
            down_for: self
                .down_since
                .lock()
                .ok()
                .and_then(|since| Some(since.as_ref()?.elapsed()))
                .unwrap_or_default(),
            last_error,
            last_error_code,
            detail: None,
            spool: None,
        }
    }
}

/// The writing end of [`Stats`]: one for each sink, on its thread.
#[derive(Debug)]
pub struct Recorder {
    counters: Counters,
    stats: Arc<Stats>,
}

impl Recorder {
    /// The only one for these.
    pub fn new(stats: Arc<Stats>) -> Self {
        Self {
            counters: Counters::default(),
            stats,
        }
    }

    /// What was recorded so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// A bundle was acknowledged, this long after it came.
    pub fn sent(&mut self, calls: u64, bytes: u64, took: Duration, now: SystemTime) {
        self.counters.bundles_sent += 1;
        self.counters.bytes_sent += bytes;
        self.counters.calls_sent += calls;
        self.stats
            .last_success
            .store(milliseconds(now), Ordering::Relaxed);
        let seconds = took.as_secs_f64();
        let place = Times::EDGES.partition_point(|edge| *edge < seconds);
        if let Some(count) = self.stats.delivery.get(place) {
            add(count, 1);
        }
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        add(&self.stats.delivery_micros, micros);
        self.publish();
    }

    /// Calls were given up.
    pub fn dropped(&mut self, calls: u64, reason: DropReason) {
        let counter = match reason {
            DropReason::Refused => &mut self.counters.calls_dropped_refused,
            DropReason::TooLarge => &mut self.counters.calls_dropped_too_large,
            DropReason::QueueFull => &mut self.counters.calls_dropped_queue_full,
            DropReason::Shutdown => &mut self.counters.calls_dropped_shutdown,
            DropReason::SpoolFull => &mut self.counters.calls_dropped_spool_full,
            DropReason::SpoolAge => &mut self.counters.calls_dropped_spool_age,
            DropReason::SpoolDamaged => &mut self.counters.calls_dropped_spool_damaged,
            DropReason::Discarded => &mut self.counters.calls_dropped_discarded,
            DropReason::Closed => &mut self.counters.calls_dropped_closed,
        };
        *counter += calls;
        self.publish();
    }

    /// Calls of earlier processes are in the spool.
    pub fn recovered(&mut self, calls: u64) {
        self.counters.calls_recovered += calls;
        self.counters.calls_spooled += calls;
        self.publish();
    }

    /// Calls of earlier processes that the spool cannot read.
    pub fn found_damage(&mut self, calls: u64) {
        self.counters.calls_recovered += calls;
        self.dropped(calls, DropReason::SpoolDamaged);
    }

    /// The memory of calls was released; the spool has them.
    pub fn left_to_spool(&mut self, calls: u64) {
        self.counters.calls_spooled += calls;
        self.publish();
    }

    /// Calls of the spool are in memory again.
    pub fn loaded(&mut self, calls: u64) {
        self.counters.calls_spooled = self.counters.calls_spooled.saturating_sub(calls);
        self.publish();
    }

    /// Calls that only the spool had were given up.
    pub fn lost_in_spool(&mut self, calls: u64, reason: DropReason) {
        self.counters.calls_spooled = self.counters.calls_spooled.saturating_sub(calls);
        self.dropped(calls, reason);
    }

    /// A delivery was started.
    pub fn attempted(&mut self, again: bool) {
        self.counters.attempts += 1;
        self.counters.retries += u64::from(again);
        self.publish();
    }

    /// What is in the backlog now, and the age of its oldest bundle.
    pub fn holds(&mut self, bundles: u64, bytes: u64, calls: u64, oldest: Option<Duration>) {
        self.counters.bundles_queued = bundles;
        self.counters.bytes_queued = bytes;
        self.counters.calls_queued = calls;
        let since = oldest.map_or(0, |age| milliseconds(SystemTime::now() - age));
        self.stats.oldest.store(since, Ordering::Relaxed);
        self.publish();
    }

    /// What went wrong last, and the code that explains it.
    pub fn failed(&self, code: Option<Code>, error: String) {
        if let Ok(mut last) = self.stats.last_error.lock() {
            *last = (code, error);
        }
    }

    /// Whether the collector takes nothing, as it was set last.
    pub fn is_down(&self) -> bool {
        self.stats.down.load(Ordering::Relaxed)
    }

    /// Whether the collector takes nothing now; why it does not is set [before](Self::failed).
    pub fn set_down(&self, down: bool) {
        self.stats.down.store(down, Ordering::Release);
        if let Ok(mut since) = self.stats.down_since.lock() {
            *since = down.then(|| since.unwrap_or_else(Instant::now));
        }
    }

    fn publish(&self) {
        for (cell, value) in self.stats.cells.iter().zip(self.counters.values()) {
            cell.store(value, Ordering::Release);
        }
    }
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

/// Adds to a counter that no other thread writes.
fn add(counter: &AtomicU64, more: u64) {
    counter.store(counter.load(Ordering::Relaxed) + more, Ordering::Release);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorder() -> (Recorder, Arc<Stats>) {
        let stats = Arc::new(Stats::new(Vec::new()));
        (Recorder::new(stats.clone()), stats)
    }

    #[track_caller]
    fn check(times: &[u64], expected: &[(usize, u64)]) {
        let (mut recorder, stats) = recorder();
        for &time in times {
            recorder.sent(1, 10, Duration::from_millis(time), SystemTime::now());
        }
        let snapshot = stats.snapshot("default", "nowhere");
        let count = times.len() as u64;
        assert_eq!(
            (snapshot.counters.calls_sent, snapshot.counters.bytes_sent),
            (count, 10 * count)
        );
        let delivery = snapshot.delivery;
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
    fn downtime_is_counted_from_its_start() {
        let (recorder, stats) = recorder();
        let down_for = || stats.snapshot("default", "nowhere").down_for;
        assert_eq!(down_for(), Duration::ZERO);
        recorder.set_down(true);
        std::thread::sleep(Duration::from_millis(5));
        recorder.set_down(true);
        assert!(down_for() >= Duration::from_millis(5));
        recorder.set_down(false);
        assert_eq!(down_for(), Duration::ZERO);
    }
}
