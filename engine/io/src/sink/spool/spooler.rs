//! The thread of the spool: carries out orders one after the other, reads bundles back, syncs, and keeps the bounds.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use engine_core::bundle::Encoding;

use super::content::{Content, Ticket};
use super::format::State;
use super::lifetime::Ledger;
use super::messages::{Account, LostBy, Order, Report};
use super::segment::Stored;
use super::segments::{GivenUp, Place, Segments};
use super::shown::Shown;
use crate::diagnostic::system_words;
use crate::limits;
use crate::sink::parker::Parker;
use crate::sink::part::Part;
use crate::sink::stats::Counters;

/// How often the calls that the shards have counted are written to the ledger: after a kill, later ones are in no total.
const LEDGER_EVERY: Duration = limits::IN_FLIGHT_EVERY;

/// The wall clock of the start, and the time since: a clock that is set while the process runs makes no bundle old.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    wall: Duration,
    since: Instant,
}

impl Default for Clock {
    fn default() -> Self {
        Self {
            wall: (SystemTime::now().duration_since(UNIX_EPOCH)).unwrap_or_default(),
            since: Instant::now(),
        }
    }
}

impl Clock {
    /// Milliseconds since 1970.
    pub(super) fn milliseconds(&self, now: Instant) -> u64 {
        let time = self.wall + now.saturating_duration_since(self.since);
        u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
    }
}

/// What the thread owns.
pub(super) struct Spooler {
    segments: Segments,
    ledger: Ledger,
    /// What the sink has counted, as of the last order.
    counters: Counters,
    /// None before the calls of this process can be computed.
    account: Option<Account>,
    clock: Clock,
    shown: Arc<Shown>,
    parker: Arc<Parker>,
    /// Bundles that are in memory as well.
    places: HashMap<Ticket, Place>,
    next_read_back: u64,
    /// Bundles that the uploader has ordered from the disk.
    wanted: usize,
    pace: Pace,
    /// The first bundle that is not synced was written then.
    dirty_since: Option<Instant>,
    /// Writes fail since, and none is tried before this time.
    retry_at: Option<Instant>,
    /// Rules that are in use, and when no bundle comes any longer that has lines of the old ones.
    new_rules: Option<(u64, Instant)>,
    /// Segments before this number are those of earlier processes.
    first_of_ours: u64,
}

impl fmt::Debug for Spooler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spooler").finish_non_exhaustive()
    }
}

/// When the next bundle may be read back.
#[derive(Debug)]
struct Pace {
    bytes_per_second: u64,
    not_before: Option<Instant>,
}

impl Pace {
    fn is_due(&self, now: Instant) -> bool {
        self.not_before.is_none_or(|at| at <= now)
    }

    fn took(&mut self, bytes: usize, now: Instant) {
        let seconds = bytes as f64 / self.bytes_per_second.max(1) as f64;
        self.not_before = Some(now + Duration::from_secs_f64(seconds.min(3600.0)));
    }
}

impl Spooler {
    pub(super) fn new(
        segments: Segments,
        ledger: Ledger,
        bytes_per_second: u64,
        clock: Clock,
        shown: Arc<Shown>,
        parker: Arc<Parker>,
    ) -> Self {
        Self {
            first_of_ours: segments.first_of_this_process(),
            segments,
            ledger,
            counters: Counters::default(),
            account: None,
            clock,
            shown,
            parker,
            places: HashMap::new(),
            next_read_back: 0,
            wanted: 0,
            pace: Pace {
                bytes_per_second,
                not_before: None,
            },
            dirty_since: None,
            retry_at: None,
            new_rules: None,
        }
    }

    /// Carries out orders until it is ordered to end, or nobody can order any longer. What it returns keeps the folder from other
    /// processes until it is closed.
    pub(super) fn run(mut self, orders: &Receiver<Order>) -> Self {
        let mut is_ending = false;
        while !is_ending {
            let first = orders.recv_timeout(self.next_due(Instant::now()));
            let mut next = match first {
                Ok(order) => Some(order),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => Some(Order::End),
            };
            while let Some(order) = next {
                is_ending |= matches!(order, Order::End);
                self.carry_out(order, Instant::now());
                next = orders.try_recv().ok().filter(|_| !is_ending);
            }
            let now = Instant::now();
            if let Some((rules, _)) = self.new_rules.take_if(|(_, at)| *at <= now) {
                self.segments.set_rules(rules);
            }
            self.keep_bounds(0, now);
            if !is_ending {
                self.load(now);
                self.sync_if_due(now);
            }
            self.segments.empty_last();
            self.add_to_ledger();
            self.show();
            if self.shown.has_reports.load(Ordering::Relaxed) {
                self.parker.unpark();
            }
        }
        if let Err(error) = self.segments.sync() {
            self.failed(&error, Instant::now());
        }
        self.segments.close();
        self.show();
        self.parker.unpark();
        self
    }

    /// Writes the last sums to the ledger, and leaves the folder to other processes.
    pub(super) fn close(mut self, counters: &Counters) {
        self.counters = *counters;
        self.add_to_ledger();
        // The next process finds the difference, should a power loss follow.
        let _ = self.ledger.sync();
    }

    fn add_to_ledger(&mut self) {
        if let Some(account) = &self.account {
            self.ledger.add(&account(&self.counters));
        }
    }

    /// How long nothing has to be done without an order.
    fn next_due(&mut self, now: Instant) -> Duration {
        let sync = self
            .dirty_since
            .map(|since| since + limits::SPOOL_SYNC_AFTER);
        let load = (self.wanted > 0 && self.segments.next_on_disk().is_some())
            .then(|| self.pace.not_before.unwrap_or(now));
        let rules = self.new_rules.map(|(_, at)| at);
        let due = [sync, load, rules].into_iter().flatten().min();
        let due = due.map_or(LEDGER_EVERY, |at| at.saturating_duration_since(now));
        due.min(LEDGER_EVERY)
    }

    fn carry_out(&mut self, order: Order, now: Instant) {
        match order {
            Order::Write(ticket, content) => {
                let bytes = content.memory_bytes();
                self.write(ticket, &content, now);
                drop(content);
                self.shown.pending_bytes.fetch_sub(bytes, Ordering::Relaxed);
            }
            Order::Settle(ticket, state) => {
                if let Some(place) = self.places.remove(&ticket) {
                    self.settle(place, state, now);
                }
            }
            Order::Leave(ticket, calls) => match self.places.remove(&ticket) {
                Some(place) => self.segments.leave(place),
                None => self.lost(calls, LostBy::Unwritten),
            },
            Order::KeepRefused(content) => {
                // Where it cannot be written, there is one example less.
                let _ = self.segments.keep_refused(&content);
            }
            Order::Load => self.wanted += 1,
            Order::Counted(counters) => self.counters = counters,
            Order::Account(account) => self.account = Some(account),
            Order::Rules(rules) => {
                self.new_rules = Some((rules, now + limits::SPOOL_RULES_AFTER));
            }
            Order::Release => {
                if let Err(error) = self.segments.release() {
                    self.failed(&error, now);
                }
            }
            Order::Discard { all } => {
                let given_up = self.segments.discard(all);
                self.give_up(&given_up, LostBy::Discard);
            }
            Order::End => {}
        }
    }

    fn write(&mut self, ticket: Ticket, content: &Content, now: Instant) {
        if self.retry_at.is_some_and(|at| at > now) {
            return self.missing(ticket, true);
        }
        self.keep_bounds(content.memory_bytes() as u64, now);
        let written = self
            .segments
            .append(content, ticket, self.clock.milliseconds(now));
        match written {
            Ok((place, bytes)) => {
                self.places.insert(ticket, place);
                self.dirty_since.get_or_insert(now);
                self.shown.written_bytes.fetch_add(bytes, Ordering::Relaxed);
                if self.retry_at.take().is_some() {
                    Shown::locked(&self.shown.trouble).clear();
                }
            }
            Err(error) => {
                self.failed(&error, now);
                self.missing(ticket, true);
            }
        }
    }

    fn settle(&mut self, place: Place, state: State, now: Instant) {
        if let Err(error) = self.segments.settle(place, state) {
            self.failed(&error, now);
        }
    }

    /// Reads back the bundles that were ordered, no faster than the rate.
    fn load(&mut self, now: Instant) {
        while self.wanted > 0 && self.pace.is_due(now) {
            let Some(place) = self.segments.next_on_disk() else {
                return;
            };
            let ticket = Ticket::read_back(self.next_read_back);
            let calls = self.segments.calls(place);
            let part = self.segments.load(place, ticket).and_then(part_of);
            let Some(part) = part else {
                let _ = self.segments.give_up_damaged(place);
                self.lost(calls, LostBy::Damage);
                continue;
            };
            self.next_read_back += 1;
            self.wanted -= 1;
            self.places.insert(ticket, place);
            self.pace.took(part.body().len(), now);
            self.shown.report(Report::Loaded {
                ticket,
                part,
                calls,
                is_old: place.is_before(self.first_of_ours),
            });
        }
    }

    /// A bundle that was delivered within a second never has to reach the disk itself.
    fn sync_if_due(&mut self, now: Instant) {
        let is_due = |since: Instant| since + limits::SPOOL_SYNC_AFTER <= now;
        if !self.dirty_since.is_some_and(is_due) {
            return;
        }
        self.dirty_since = None;
        if self.segments.is_dirty() {
            self.shown.syncs.fetch_add(1, Ordering::Relaxed);
            if let Err(error) = self.segments.sync() {
                self.failed(&error, now);
            }
        }
    }

    fn keep_bounds(&mut self, more: u64, now: Instant) {
        let time = self.clock.milliseconds(now);
        while let Some((given_up, is_old)) = self.segments.take_excess(more, time) {
            let by = if is_old { LostBy::Age } else { LostBy::Full };
            self.give_up(&given_up, by);
        }
    }

    fn give_up(&mut self, given_up: &[GivenUp], by: LostBy) {
        let mut calls = 0;
        for bundle in given_up {
            match bundle.ticket {
                // It is in memory, and goes on from there.
                Some(ticket) => {
                    self.places.remove(&ticket);
                    self.missing(ticket, false);
                }
                None => calls += bundle.calls,
            }
        }
        self.lost(calls, by);
    }

    fn missing(&self, ticket: Ticket, again: bool) {
        self.shown.report(Report::Missing { ticket, again });
    }

    fn lost(&self, calls: u64, by: LostBy) {
        if calls > 0 {
            self.shown.report(Report::Lost { calls, by });
        }
    }

    fn failed(&mut self, error: &io::Error, now: Instant) {
        self.retry_at = Some(now + limits::SPOOL_RETRY_AFTER);
        self.shown.failed_writes.fetch_add(1, Ordering::Relaxed);
        *Shown::locked(&self.shown.trouble) = system_words(error);
    }

    fn show(&self) {
        *Shown::locked(&self.shown.totals) = self.segments.totals();
    }
}

/// A bundle of the disk as the uploader delivers it.
pub(super) fn part_of(stored: Stored) -> Option<Part> {
    let record = stored.record;
    if !record.is_plain {
        return Some(Part::new(
            stored.member.into(),
            Encoding::Deflated,
            stored.index,
            record.key,
        ));
    }
    let lines = stored.lines()?;
    Some(Part::new(
        lines.into(),
        Encoding::Plain,
        stored.index,
        record.key,
    ))
}
