//! The closed bundles that wait for a sink: bounded in number and bytes, and what is given up is always the oldest.
//!
//! A bundle whose delivery has started stays here until it is settled, so stopping or losing a connection loses none. An
//! [`Entry`] hides where its bytes are: in memory shared with other sinks ([`Lease`]), or in a [`Part`], which is some lines
//! of a bundle that the collector found too large, or a bundle that was read back from the spool. With a spool each entry has
//! a [`Ticket`] as soon as it is on its way to the disk; where there is more than the bounds allow, such entries only lose
//! their memory. What names a bundle to the collector is its own key, never its number here, which ends with this process.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;
use engine_core::bundle::Encoding;

use super::part::{Part, Whole};
use super::shared::Lease;
use super::spool::{Content, Ticket};

/// Where the bytes of an entry are.
#[derive(Debug)]
enum Source {
    /// A bundle of this shard.
    Bundle(usize, Lease),
    Part(Part),
}

impl Source {
    fn as_whole(&self) -> Whole<'_> {
        match self {
            Self::Bundle(_, lease) => Whole::of(lease.bundle()),
            Self::Part(part) => part.as_whole(),
        }
    }

    /// For the thread of the spool.
    fn content(&self) -> Content {
        match self {
            Self::Bundle(_, lease) => Content::Bundle(lease.hold()),
            Self::Part(part) => Content::Part(part.clone()),
        }
    }
}

/// What the spool has of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Copied {
    /// Nothing yet.
    No,
    /// It is there or on its way.
    As(Ticket),
    /// Nothing, and it is not to be written again: the bound of the spool was reached.
    Never,
}

/// A bundle, or a part of one, that waits, or whose delivery has started.
#[derive(Debug)]
pub struct Entry {
    number: u64,
    source: Source,
    since: Instant,
    attempts: u32,
    not_before: Option<Instant>,
    is_started: bool,
    copied: Copied,
    /// It was read back from the disk, and may have been posted before.
    is_read_back: bool,
    /// Its attempts in earlier processes are not known.
    is_old: bool,
    calls: u64,
}

impl Entry {
    /// In the order of arrival; names the entry.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The bytes to deliver, without a copy.
    pub fn body(&self) -> Bytes {
        match &self.source {
            Source::Bundle(_, lease) => lease.body(),
            Source::Part(part) => part.body(),
        }
    }

    /// Their number.
    pub fn bytes(&self) -> usize {
        self.source.as_whole().body.len()
    }

    /// Memory that it takes: what the bound counts.
    fn memory_bytes(&self) -> usize {
        match &self.source {
            Source::Bundle(_, lease) => lease.bundle().memory_bytes(),
            Source::Part(part) => part.memory_bytes(),
        }
    }

    /// The lines before encoding, where this process has made them.
    pub fn lines(&self) -> Option<&[u8]> {
        match &self.source {
            Source::Bundle(_, lease) => lease.bundle().plain_lines(),
            Source::Part(_) => None,
        }
    }

    /// How they are encoded.
    pub fn encoding(&self) -> Encoding {
        self.source.as_whole().encoding
    }

    /// The same for every attempt, and in every process.
    pub fn key(&self) -> u128 {
        self.source.as_whole().key
    }

    /// Calls in it.
    pub fn calls(&self) -> u64 {
        self.calls
    }

    /// What it is called in the spool, if it is there.
    pub fn ticket(&self) -> Option<Ticket> {
        match self.copied {
            Copied::As(ticket) => Some(ticket),
            Copied::No | Copied::Never => None,
        }
    }

    /// What the spool writes.
    pub fn content(&self) -> Content {
        self.source.content()
    }

    /// Attempts before the present one, as far as they are known: at least one for a bundle of an earlier process.
    pub fn repeats(&self) -> u32 {
        self.attempts.saturating_sub(1) + u32::from(self.is_old)
    }

    /// When it came.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// Deliveries started so far.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// The shard that made the bundle, and the hold on it that is to be given back there. A part has none.
    pub fn into_lease(self) -> Option<(usize, Lease)> {
        match self.source {
            Source::Bundle(shard, lease) => Some((shard, lease)),
            Source::Part(_) => None,
        }
    }
}

/// The backlog of one sink.
#[derive(Debug)]
pub struct Backlog {
    entries: VecDeque<Entry>,
    bundles_max: usize,
    bytes_max: usize,
    bytes: usize,
    calls: u64,
    next: u64,
}

impl Backlog {
    /// An empty one that holds at least one bundle, however large.
    pub fn new(bundles_max: usize, bytes_max: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            bundles_max: bundles_max.max(1),
            bytes_max,
            bytes: 0,
            calls: 0,
            next: 0,
        }
    }

    /// Bundles that it holds at most.
    pub fn bundles_max(&self) -> usize {
        self.bundles_max
    }

    /// Adds a bundle of this shard. The bounds are kept by [`Self::take_excess`].
    pub fn push(&mut self, shard: usize, lease: Lease, now: Instant) {
        let calls = u64::from(lease.bundle().calls);
        self.insert(self.entries.len(), Source::Bundle(shard, lease), calls, now);
    }

    /// Adds a bundle that was read back. Those of the shards are delivered before it.
    pub fn push_read_back(
        &mut self,
        ticket: Ticket,
        part: Part,
        calls: u64,
        is_old: bool,
        now: Instant,
    ) {
        self.insert(self.entries.len(), Source::Part(part), calls, now);
        if let Some(entry) = self.entries.back_mut() {
            entry.copied = Copied::As(ticket);
            entry.is_read_back = true;
            entry.is_old = is_old;
        }
    }

    fn insert(&mut self, index: usize, source: Source, calls: u64, since: Instant) {
        let entry = Entry {
            number: self.next,
            source,
            since,
            attempts: 0,
            not_before: None,
            is_started: false,
            copied: Copied::No,
            is_read_back: false,
            is_old: false,
            calls,
        };
        self.bytes += entry.memory_bytes();
        self.calls += entry.calls();
        self.entries.insert(index, entry);
        self.next += 1;
    }

    /// Puts two halves of this entry in its place, and takes it out. It stays, and there is no result, where it cannot be
    /// divided.
    pub fn divide(&mut self, number: u64) -> Option<Entry> {
        let index = self.position(number)?;
        let entry = self.entries.get(index)?;
        let halves = entry.source.as_whole().halves()?;
        let since = entry.since;
        let divided = self.remove(number)?;
        for half in halves.into_iter().rev() {
            let calls = half.as_whole().index.len() as u64;
            self.insert(index, Source::Part(half), calls, since);
            if let Some(half) = self.entries.get_mut(index) {
                half.is_old = divided.is_old;
            }
        }
        Some(divided)
    }

    /// The entry with this number, while it is here.
    pub fn entry(&self, number: u64) -> Option<&Entry> {
        self.entries.get(self.position(number)?)
    }

    fn position(&self, number: u64) -> Option<usize> {
        self.entries.iter().position(|entry| entry.number == number)
    }

    /// The oldest bundle whose delivery has not started, while there is more than the bounds allow: one that the spool has,
    /// if there is one. The newest always stays.
    pub fn take_excess(&mut self) -> Option<Entry> {
        if self.entries.len() <= self.bundles_max && self.bytes <= self.bytes_max {
            return None;
        }
        let newest = self.next.checked_sub(1)?;
        let waiting = self
            .entries
            .iter()
            .filter(|entry| !entry.is_started && entry.number != newest);
        let oldest = waiting.min_by_key(|entry| (entry.ticket().is_none(), entry.number))?;
        self.remove(oldest.number)
    }

    /// The oldest entry of which the spool has nothing and may have a copy.
    pub fn first_uncopied(&self) -> Option<&Entry> {
        let mut entries = self.entries.iter();
        entries.find(|entry| entry.copied == Copied::No)
    }

    /// It is on its way to the spool.
    pub fn set_ticket(&mut self, number: u64, ticket: Ticket) {
        if let Some(index) = self.position(number)
            && let Some(entry) = self.entries.get_mut(index)
        {
            entry.copied = Copied::As(ticket);
        }
    }

    /// The spool has no copy of this bundle. `again`: it may be written later.
    pub fn is_missing(&mut self, ticket: Ticket, again: bool) {
        let mut entries = self.entries.iter_mut();
        if let Some(entry) = entries.find(|entry| entry.ticket() == Some(ticket)) {
            entry.copied = if again { Copied::No } else { Copied::Never };
        }
    }

    /// Bundles here that were read back.
    pub fn read_back(&self) -> usize {
        let entries = self.entries.iter();
        entries.filter(|entry| entry.is_read_back).count()
    }

    /// Starts the next delivery that may start now; the entry stays here, marked. What was read back comes last.
    pub fn start(&mut self, now: Instant) -> Option<&Entry> {
        let may_start =
            |entry: &&mut Entry| !entry.is_started && entry.not_before.is_none_or(|at| at <= now);
        let entries = self.entries.iter_mut().filter(may_start);
        let entry = entries.min_by_key(|entry| entry.is_read_back)?;
        entry.is_started = true;
        entry.attempts += 1;
        Some(entry)
    }

    /// When the first waiting bundle may be delivered; `None` if none waits.
    pub fn next_start(&self, now: Instant) -> Option<Instant> {
        self.entries
            .iter()
            .filter(|entry| !entry.is_started)
            .map(|entry| entry.not_before.unwrap_or(now))
            .min()
    }

    /// A delivery has failed: the bundle waits again, `behind` the others if the fault may be its own.
    pub fn put_back(&mut self, number: u64, not_before: Instant, behind: bool) {
        let Some(index) = self.position(number) else {
            return;
        };
        if let Some(entry) = self.entries.get_mut(index) {
            entry.is_started = false;
            entry.not_before = Some(not_before);
        }
        if behind && let Some(entry) = self.entries.remove(index) {
            self.entries.push_back(entry);
        }
    }

    /// Every delivery has ended without an answer, and every bundle may be delivered at once.
    pub fn restart(&mut self) {
        for entry in &mut self.entries {
            entry.is_started = false;
            entry.not_before = None;
        }
    }

    /// No bundle waits for its time any longer.
    pub fn end_waits(&mut self) {
        for entry in &mut self.entries {
            entry.not_before = None;
        }
    }

    /// Takes this bundle out.
    pub fn remove(&mut self, number: u64) -> Option<Entry> {
        let index = self.position(number)?;
        let entry = self.entries.remove(index)?;
        self.bytes -= entry.memory_bytes();
        self.calls -= entry.calls();
        Some(entry)
    }

    /// Takes the first bundle out.
    pub fn pop(&mut self) -> Option<Entry> {
        let number = self.entries.front()?.number;
        self.remove(number)
    }

    /// Deliveries of this bundle started so far.
    pub fn attempts(&self, number: u64) -> u32 {
        self.entries
            .iter()
            .find(|entry| entry.number == number)
            .map_or(0, |entry| entry.attempts)
    }

    /// Bundles whose delivery has started.
    pub fn started(&self) -> usize {
        self.entries.iter().filter(|entry| entry.is_started).count()
    }

    /// Whether nothing is left to deliver.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How full it is, 0 to 1: by number or by bytes, whichever has less room.
    pub fn fill(&self) -> f32 {
        let bundles = self.entries.len() as f32 / self.bundles_max as f32;
        let bytes = self.bytes as f32 / self.bytes_max.max(1) as f32;
        bundles.max(bytes).min(1.0)
    }

    /// Bundles in it.
    pub fn bundles(&self) -> u64 {
        self.entries.len() as u64
    }

    /// Memory that they take, in bytes: bodies, lines that are kept, and indexes.
    pub fn bytes(&self) -> u64 {
        self.bytes as u64
    }

    /// Calls in them.
    pub fn calls(&self) -> u64 {
        self.calls
    }

    /// When the oldest came.
    pub fn oldest(&self) -> Option<Instant> {
        self.entries.iter().map(|entry| entry.since).min()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use engine_core::bundle::Bundle;

    use super::*;
    use crate::sink::shared::Pool;

    fn lease(length: usize) -> Lease {
        let bundle = Bundle {
            body: vec![0; length],
            calls: 1,
            ..Bundle::default()
        };
        let mut leases = Pool::default().share(bundle, 1);
        leases.next().unwrap()
    }

    fn backlog(bundles_max: usize, bytes_max: usize, bodies: &[usize]) -> Backlog {
        let mut backlog = Backlog::new(bundles_max, bytes_max);
        for &length in bodies {
            backlog.push(0, lease(length), Instant::now());
        }
        backlog
    }

    /// Pushes bodies of these lengths, starts `started` of them, and gives up exactly `given_up`.
    #[track_caller]
    fn check(bounds: (usize, usize), bodies: &[usize], started: usize, given_up: &[u64]) {
        let mut backlog = backlog(bounds.0, bounds.1, bodies);
        for _ in 0..started {
            assert!(backlog.start(Instant::now()).is_some());
        }
        let mut seen = Vec::new();
        while let Some(entry) = backlog.take_excess() {
            seen.push(entry.number);
        }
        assert_eq!(seen, given_up);
        assert_eq!(backlog.bundles() as usize, bodies.len() - given_up.len());
        assert_eq!(backlog.calls(), backlog.bundles());
        let fill = backlog.fill();
        assert!((0.0..=1.0).contains(&fill) && (fill > 0.0) == (backlog.bundles() > 0));
    }

    #[test]
    fn the_oldest_is_given_up() {
        check((3, 1000), &[1, 1, 1], 0, &[]);
        check((3, 1000), &[1, 1, 1, 1, 1], 0, &[0, 1]);
        check((3, 1000), &[1, 1, 1, 1, 1], 1, &[1, 2]);
        check((9, 100), &[60, 60, 60], 0, &[0, 1]);
        check((9, 100), &[500], 0, &[]);
        check((1, 100), &[1, 1], 1, &[]);
        check((0, 0), &[1, 1], 0, &[0]);
    }

    #[test]
    fn a_bad_bundle_goes_behind_and_stays_the_oldest() {
        let mut backlog = backlog(2, 1000, &[1, 2, 3]);
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let first = backlog.start(now).unwrap().number;
        backlog.put_back(first, later, true);
        assert_eq!(backlog.next_start(now), Some(now));
        assert_eq!(backlog.start(now).unwrap().number, 1);
        assert_eq!(backlog.start(now).unwrap().number, 2);
        assert!(backlog.start(now).is_none());
        assert_eq!(backlog.next_start(now), Some(later));
        assert_eq!(backlog.started(), 2);
        assert_eq!(backlog.take_excess().map(|entry| entry.number), Some(0));
        backlog.restart();
        assert_eq!(backlog.started(), 0);
        assert_eq!(backlog.pop().map(|entry| entry.attempts), Some(1));
    }

    #[test]
    fn an_unreachable_collector_keeps_the_order() {
        let mut backlog = backlog(9, 1000, &[1, 2]);
        let now = Instant::now();
        backlog.start(now);
        backlog.put_back(0, now, false);
        assert_eq!(
            backlog
                .start(now)
                .map(|entry| (entry.number, entry.attempts)),
            Some((0, 2))
        );
    }
}
