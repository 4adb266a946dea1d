//! The spool: the part of a sink's backlog that lies on disk, in the format of `docs/spool.md`.
//!
//! ```text
//! uploader ── orders ──▶ thread "spool" ── segments: NNNN.zz, NNNN.index
//!    ▲                        │
//!    └─────── reports ────────┘  a bundle that was read back, one that could not be written, one that was given up
//! ```
//!
//! Each closed bundle is on its way to the disk before its first POST, and stays in memory as well as long as there is room.
//! Where there is none, its memory is released and the disk has its only copy. Bundles come back oldest first, no faster
//! than the set rate; what was captured just now is delivered before them. A bundle that was settled is marked by one octet,
//! and files in which nothing waits are removed or emptied.
//!
//! The shards have no part in it, and the uploader never waits for the disk: what the disk does not take at once stays in
//! memory, as without a spool.

mod content;
mod format;
mod lifetime;
mod members;
mod messages;
mod reader;
mod segment;
mod segments;
mod shown;
mod snapshot;
mod spooler;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::Instant;

pub use self::content::{Content, Ticket};
pub use self::format::State;
pub use self::lifetime::Lifetime;
pub use self::messages::{Account, LostBy, Report};
pub use self::reader::{Overview, each_line, is_spool, overview};
pub use self::segment::Damage;
pub use self::segments::{Bounds, Totals, Unusable, holder};
pub use self::snapshot::Snapshot;

use self::lifetime::Ledger;
use self::messages::Order;
use self::segments::Segments;
use self::shown::Shown;
use self::spooler::{Clock, Spooler};
use super::parker::Parker;
use super::stats::Counters;
use crate::limits;
use crate::status::Calls;

/// Where the spool is, and what bounds it.
#[derive(Clone, Debug)]
pub struct Config {
    /// The folder.
    pub folder: PathBuf,
    /// Bytes and age.
    pub bounds: Bounds,
    /// Bytes of bundles that are read back in a second.
    pub bytes_per_second: u64,
    /// The fingerprint of the rules.
    pub rules: u64,
}

/// A spool whose folder is open and checked, before its thread runs.
pub struct Opened {
    segments: Segments,
    ledger: Ledger,
    config: Config,
    clock: Clock,
    damage: Damage,
}

/// Opens the folder for this process alone, and finds what earlier ones left.
///
/// # Errors
///
/// Another process has it, or it cannot be written.
pub fn open(config: Config) -> Result<Opened, Unusable> {
    let clock = Clock::default();
    let opened = Segments::open(&config.folder, config.bounds, config.rules);
    let (segments, damage) = opened?;
    let waiting = segments.totals().calls + damage.calls;
    let now = clock.milliseconds(Instant::now());
    Ok(Opened {
        ledger: Ledger::open(segments.folder(), waiting, now),
        segments,
        config,
        clock,
        damage,
    })
}

impl Opened {
    /// What is on disk.
    pub fn totals(&self) -> Totals {
        self.segments.totals()
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.config.folder
    }

    /// Gives up what is held because of other rules, or everything. Returns the number of calls in it.
    pub fn discard(mut self, all: bool) -> u64 {
        let given_up = self.segments.discard(all);
        self.segments.close();
        let calls = given_up.iter().map(|bundle| bundle.calls).sum();
        self.ledger.add(&Calls {
            dropped: [
                ("discarded".to_owned(), calls),
                ("spool_damaged".to_owned(), self.damage.calls),
            ]
            .into(),
            ..Calls::default()
        });
        calls
    }

    /// Starts its thread, which wakes the owner of `parker` for each report.
    ///
    /// # Errors
    ///
    /// The kernel refuses the thread.
    pub fn start(self, parker: Arc<Parker>) -> io::Result<Spool> {
        let totals = self.segments.totals();
        let shown = Arc::new(Shown::default());
        *Shown::locked(&shown.totals) = totals;
        let (orders, received) = channel();
        let folder = self.config.folder.display().to_string();
        let before = self.ledger.before();
        let spooler = Spooler::new(
            self.segments,
            self.ledger,
            self.config.bytes_per_second,
            self.clock,
            shown.clone(),
            parker,
        );
        let thread = std::thread::Builder::new()
            .name("spool".to_owned())
            .spawn(move || spooler.run(&received))?;
        Ok(Spool {
            orders,
            shown,
            folder,
            found_calls: totals.calls,
            damage: self.damage,
            before,
            next: 0,
            wanted: 0,
            not_before: None,
            thread: Some(thread),
            ended: None,
        })
    }
}

/// The uploader's end.
#[derive(Debug)]
pub struct Spool {
    orders: Sender<Order>,
    shown: Arc<Shown>,
    folder: String,
    found_calls: u64,
    damage: Damage,
    before: Lifetime,
    next: u64,
    /// Bundles that were ordered from the disk and have not come.
    wanted: usize,
    /// The last write failed, and none is tried before this time.
    not_before: Option<Instant>,
    thread: Option<JoinHandle<Spooler>>,
    /// What the thread has left.
    ended: Option<Spooler>,
}

impl Spool {
    /// Calls that earlier processes left.
    pub fn found_calls(&self) -> u64 {
        self.found_calls
    }

    /// What was damaged when it was opened.
    pub fn damage(&self) -> Damage {
        self.damage
    }

    /// What other threads may read of it.
    pub fn view(&self) -> View {
        View {
            shown: self.shown.clone(),
            folder: self.folder.clone(),
            damage: self.damage,
            before: self.before,
            orders: self.orders.clone(),
        }
    }

    /// Sends a bundle on its way to the disk; none where the disk does not take more now.
    pub fn write(&mut self, content: Content, now: Instant) -> Option<Ticket> {
        let pending = self.shown.pending_bytes.load(Ordering::Relaxed);
        let is_failing = self.not_before.is_some_and(|at| at > now);
        if pending > limits::SPOOL_PENDING_BYTES_MAX || is_failing {
            return None;
        }
        Some(self.write_now(content))
    }

    /// The same, whatever is on its way already.
    pub fn write_now(&mut self, content: Content) -> Ticket {
        let ticket = Ticket::new(self.next);
        self.next += 1;
        let bytes = content.memory_bytes();
        self.shown.pending_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.order(Order::Write(ticket, content));
        ticket
    }

    /// What became of a bundle.
    pub fn settle(&self, ticket: Ticket, state: State) {
        self.order(Order::Settle(ticket, state));
    }

    /// A bundle was refused for good. The first ones are kept for diagnosis.
    pub fn keep_refused(&self, content: Content) {
        self.order(Order::KeepRefused(content));
    }

    /// The memory of a bundle with so many calls is released.
    pub fn leave(&self, ticket: Ticket, calls: u64) {
        self.order(Order::Leave(ticket, calls));
    }

    /// Keeps this number of bundles of the disk in memory or on their way; `loaded` are there.
    pub fn load_up_to(&mut self, most: usize, loaded: usize) {
        while self.wanted + loaded < most {
            self.wanted += 1;
            self.order(Order::Load);
        }
    }

    /// Whether there is a report.
    pub fn has_reports(&self) -> bool {
        self.shown.has_reports.load(Ordering::Acquire)
    }

    /// The oldest report.
    pub fn take_report(&mut self, now: Instant) -> Option<Report> {
        if !self.has_reports() {
            return None;
        }
        let report = {
            let mut reports = Shown::locked(&self.shown.reports);
            let report = reports.pop_front();
            self.shown
                .has_reports
                .store(!reports.is_empty(), Ordering::Release);
            report?
        };
        match report {
            Report::Loaded { .. } => self.wanted = self.wanted.saturating_sub(1),
            Report::Missing { again: true, .. } => {
                self.not_before = Some(now + limits::SPOOL_RETRY_AFTER);
            }
            Report::Missing { .. } | Report::Lost { .. } => {}
        }
        Some(report)
    }

    /// The sink has counted this, with everything that was ordered so far.
    pub fn counted(&self, counters: &Counters) {
        self.order(Order::Counted(*counters));
    }

    /// Returns when everything that was ordered is done and on the disk itself. Reports can still be taken.
    pub fn end(&mut self) {
        self.order(Order::End);
        if let Some(thread) = self.thread.take() {
            // A panic there was reported by its own thread.
            self.ended = thread.join().ok();
        }
    }

    /// Leaves the folder to other processes after the end, with what the sink has counted.
    pub fn close(&mut self, counters: &Counters) {
        if let Some(spooler) = self.ended.take() {
            spooler.close(counters);
        }
    }

    fn order(&self, order: Order) {
        // A thread that has ended reads no orders: what they name stays as it is on disk.
        let _ = self.orders.send(order);
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.end();
        }
    }
}

/// The spool as other threads see it.
#[derive(Clone, Debug)]
pub struct View {
    shown: Arc<Shown>,
    folder: String,
    damage: Damage,
    before: Lifetime,
    orders: Sender<Order>,
}

impl View {
    /// A copy of what is shown.
    pub fn snapshot(&self) -> Snapshot {
        let shown = &self.shown;
        Snapshot {
            folder: self.folder.clone(),
            totals: *Shown::locked(&shown.totals),
            trouble: Shown::locked(&shown.trouble).clone(),
            written_bytes: shown.written_bytes.load(Ordering::Relaxed),
            failed_writes: shown.failed_writes.load(Ordering::Relaxed),
            syncs: shown.syncs.load(Ordering::Relaxed),
            damage: self.damage,
            before: self.before,
        }
    }

    /// The totals have the calls of this process from now on.
    pub fn account(&self, account: Account) {
        let _ = self.orders.send(Order::Account(account));
    }

    /// Bundles that come from now on were made under these rules.
    pub fn set_rules(&self, rules: u64) {
        let _ = self.orders.send(Order::Rules(rules));
    }

    /// What is held because of other rules is delivered.
    pub fn release(&self) {
        let _ = self.orders.send(Order::Release);
    }

    /// What is held, or everything on disk, is given up.
    pub fn discard(&self, all: bool) {
        let _ = self.orders.send(Order::Discard { all });
    }
}
