//! The one thread that writes: bundles in, committed rows out.
//!
//! Bundles that wait are stored in one transaction, so that many small senders cost one commit. Each sender gets its answer only
//! after the commit. The same transaction holds the idempotency key, with the number of lines that are stored under it, and the
//! totals. A large bundle of another sender is stored in several transactions, between which the capture has its turns; after a
//! death between two of them the repeated bundle goes on where the earlier one ended. Calls beyond the bounds are deleted in short
//! transactions of their own (`retention`), after the senders have their answers: all that have to be before the next bundle of
//! others, and one transaction of them before the next bundle of the capture.
//!
//! Each transaction writes its calls as blocks and chunks, however few they are; the small ones that are last are merged behind it.
//! Large bundles have become blocks before they wait here (`prepared`).

use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, anyhow};
use rusqlite::{OptionalExtension, Transaction, params};
use tokio::sync::{oneshot, watch};

use super::database::{Database, Parts, count, integer, merge, newest};
use super::deletion;
use super::keys;
use super::ledgers;
use super::prepared::{Prepared, Preparer};
use super::queue::{Jobs, Queue, queue};
use super::retention::{self, Debt, Size};
use super::wal::Wal;
use crate::backend::{Expired, Failure, Health, Retention, Stored};
use crate::bundle::Bundle;
use crate::call::{Arrival, DeleteQuery, Deleted};
use crate::clock::unix_ms;
use crate::ledger::Ledger;
use crate::limits::{
    QUEUED_MAX, SENDERS_MAX, TRANSACTION_BYTES_MAX, TRANSACTION_LINES_MAX,
    TRANSACTION_OTHERS_BYTES_MAX, TRANSACTION_OTHERS_LINES_MAX,
};
use crate::line::Columns;
use crate::sender::Sender;

type Answer<T> = oneshot::Sender<Result<T, Failure>>;

/// What the writing thread does next.
enum Job {
    Insert(Insert),
    Expire(Answer<Expired>),
    Delete(DeleteQuery, Answer<Deleted>),
    Ledger(Sender, Ledger, Answer<()>),
    Close,
}

struct Insert {
    bundle: Bundle,
    prepared: Prepared,
    answer: Answer<Stored>,
    /// Lines of it that earlier transactions have stored.
    lines_stored: usize,
}

/// A handle to the writing thread, which ends with [`Writer::close`] or with the last handle.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    jobs: Jobs<Job>,
    preparer: Preparer,
    arrivals: watch::Receiver<Arrival>,
    health: watch::Receiver<Health>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl Writer {
    /// `lock` is held until the thread has closed the database.
    pub(super) fn start(
        database: Database,
        lock: File,
        wal: Wal,
        retention: Retention,
    ) -> anyhow::Result<Self> {
        let newest = newest(&database.connection)?;
        let preparer = Preparer::new(Arc::clone(&database.parts.endpoints));
        let (jobs, waiting) = queue(QUEUED_MAX)?;
        let (arrivals_sender, arrivals) = watch::channel(newest.into());
        let (health_sender, health) = watch::channel(Health::Up);
        let writing = Writing {
            database,
            _lock: lock,
            wal,
            retention,
            debt: Debt::default(),
            is_merge_due: false,
            is_turn_of_upkeep: false,
            waiting,
            arrivals: arrivals_sender,
            health: health_sender,
        };
        let thread = thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || writing.run())
            .context("writer thread")?;
        Ok(Self {
            jobs,
            preparer,
            arrivals,
            health,
            thread: Arc::new(Mutex::new(Some(thread))),
        })
    }

    /// Stores a bundle and returns after the commit.
    pub(super) async fn insert(&self, bundle: Bundle) -> Result<Stored, Failure> {
        let is_of_capture = bundle.sender == Sender::Capture;
        let (bundle, prepared) = self
            .preparer
            .prepare(bundle)
            .await
            .map_err(|error| Failure::Unavailable(error.to_string()))?;
        self.submit(is_of_capture, |answer| {
            Job::Insert(Insert {
                bundle,
                prepared,
                answer,
                lines_stored: 0,
            })
        })
        .await
    }

    /// Deletes some of the oldest calls beyond the bounds.
    pub(super) async fn expire(&self) -> Result<Expired, Failure> {
        self.submit(false, Job::Expire).await
    }

    /// Deletes calls that match.
    pub(super) async fn delete(&self, query: DeleteQuery) -> Result<Deleted, Failure> {
        self.submit(false, |answer| Job::Delete(query, answer))
            .await
    }

    /// Takes the ledger of a sniffer.
    pub(super) async fn record_ledger(
        &self,
        sender: Sender,
        ledger: Ledger,
    ) -> Result<(), Failure> {
        self.submit(sender == Sender::Capture, |answer| {
            Job::Ledger(sender, ledger, answer)
        })
        .await
    }

    async fn submit<T>(
        &self,
        is_of_capture: bool,
        job: impl FnOnce(Answer<T>) -> Job,
    ) -> Result<T, Failure> {
        let (sender, answer) = oneshot::channel();
        let closed = || Failure::Unavailable("the store is stopping".into());
        if !self.jobs.send(is_of_capture, job(sender)).await {
            return Err(closed());
        }
        answer.await.map_err(|_| closed())?
    }

    /// Commits what waits and ends the thread.
    pub(super) async fn close(&self) -> anyhow::Result<()> {
        // Without a receiver the thread has ended already.
        self.jobs.send(false, Job::Close).await;
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(thread) = thread else {
            return Ok(());
        };
        tokio::task::spawn_blocking(move || thread.join())
            .await?
            .map_err(|_| anyhow!("the writing thread panicked"))
    }

    pub(super) fn arrivals(&self) -> watch::Receiver<Arrival> {
        self.arrivals.clone()
    }

    pub(super) fn health(&self) -> watch::Receiver<Health> {
        self.health.clone()
    }
}

/// The state of the writing thread.
struct Writing {
    // Fields drop in this order: the lock is given up after the database is closed.
    database: Database,
    _lock: File,
    wal: Wal,
    retention: Retention,
    /// Calls to delete for those that were stored.
    debt: Debt,
    /// There may be small blocks to merge.
    is_merge_due: bool,
    /// Of deleting and merging; the capture had its turn before.
    is_turn_of_upkeep: bool,
    waiting: Queue<Job>,
    arrivals: watch::Sender<Arrival>,
    health: watch::Sender<Health>,
}

impl Writing {
    fn run(mut self) {
        while let Some(job) = self.next() {
            let mut next = Some(job);
            while let Some(job) = next.take() {
                if let Job::Close = job {
                    self.end();
                    return;
                }
                next = self.perform(job);
                // What it could not copy stays in the log, and the next transaction fails if the disk is full.
                drop(self.wal.keep_short(&self.database.connection));
            }
        }
        self.end();
    }

    /// The next job, once nothing has to be deleted or merged before it. For a job of others that is all there is to do; for one of
    /// the capture one transaction of it at most, as long as not much has to be deleted.
    fn next(&mut self) -> Option<Job> {
        while self.debt.is_due() || self.is_merge_due {
            if !self.is_turn_of_upkeep
                && self.debt.is_small()
                && let Some(job) = self.waiting.more(true)
            {
                self.is_turn_of_upkeep = true;
                return Some(job);
            }
            self.is_turn_of_upkeep = false;
            if self.debt.is_due() {
                self.delete_round();
            } else {
                self.is_merge_due = false;
                if let Err(error) = merge(&mut self.database) {
                    self.failed(&error, "small blocks cannot be merged");
                }
            }
            drop(self.wal.keep_short(&self.database.connection));
        }
        self.waiting.next()
    }

    /// Does what a job is. Returns the job that ended a group of bundles.
    fn perform(&mut self, job: Job) -> Option<Job> {
        match job {
            Job::Insert(first) => return self.insert(first),
            Job::Expire(answer) => {
                let expired = self.expire();
                drop(answer.send(expired));
            }
            Job::Delete(query, answer) => {
                let deleted = self.delete(&query);
                drop(answer.send(deleted));
            }
            Job::Ledger(sender, ledger, answer) => {
                let recorded = self.record(sender, ledger);
                drop(answer.send(recorded));
            }
            Job::Close => {}
        }
        None
    }

    /// Stores what the capture has sent before the end, and closes the log.
    fn end(&mut self) {
        while let Some(job) = self.waiting.more(true) {
            drop(self.perform(job));
        }
        while self.debt.is_due() {
            self.delete_round();
        }
        // Leaves one file instead of three. If it fails, the next start reads the log: nothing is lost.
        drop(self.wal.close(&self.database.connection));
    }

    fn delete_round(&mut self) {
        if let Err(error) = self.debt.pay(&mut self.database, self.retention) {
            self.failed(&error, "old calls cannot be deleted");
        }
    }

    /// Stores a bundle, or a part of it, together with those that wait behind it. Returns the job that ended the group.
    fn insert(&mut self, first: Insert) -> Option<Job> {
        let (mut group, room, behind) = self.group(first);
        match store(
            &mut self.database,
            &mut group,
            room,
            self.retention.keys_age,
        ) {
            Ok(done) => {
                self.health.send_replace(Health::Up);
                self.arrivals.send_replace(done.newest.into());
                // Only the last one can be unfinished.
                if done.stored.len() < group.len()
                    && let Some(unfinished) = group.pop()
                {
                    self.waiting.go_on_later(Job::Insert(unfinished));
                }
                answer(group, done.stored.into_iter().map(Ok));
                self.debt.add(done.size);
                self.is_merge_due = true;
            }
            Err(error) => {
                let failure = self.failed(&error, "the database refused the bundle");
                answer(group, std::iter::repeat(Err(failure)));
            }
        }
        behind
    }

    /// What waits behind it on the same side, and how much of it is stored in one transaction. That of others is less, since the
    /// capture waits for it.
    fn group(&mut self, first: Insert) -> (Vec<Insert>, Room, Option<Job>) {
        let is_of_capture = first.bundle.sender == Sender::Capture;
        let (bytes_max, lines_max) = if is_of_capture {
            (TRANSACTION_BYTES_MAX, TRANSACTION_LINES_MAX)
        } else {
            (TRANSACTION_OTHERS_BYTES_MAX, TRANSACTION_OTHERS_LINES_MAX)
        };
        let room = if is_of_capture {
            Room::UNBOUNDED
        } else {
            Room {
                lines: lines_max,
                bytes: bytes_max,
            }
        };
        let mut bytes = first.bundle.bytes();
        let mut lines = first.bundle.calls() - first.lines_stored;
        let mut group = vec![first];
        while bytes < bytes_max && lines < lines_max {
            match self.waiting.more(is_of_capture) {
                Some(Job::Insert(insert)) => {
                    bytes += insert.bundle.bytes();
                    lines += insert.bundle.calls();
                    group.push(insert);
                }
                Some(other) => return (group, room, Some(other)),
                None => break,
            }
        }
        (group, room, None)
    }

    fn expire(&mut self) -> Result<Expired, Failure> {
        retention::round(&mut self.database, self.retention)
            .map(Expired::from)
            .map_err(|error| self.failed(&error, "old calls cannot be deleted"))
    }

    fn delete(&mut self, query: &DeleteQuery) -> Result<Deleted, Failure> {
        let deleted = deletion::round(&mut self.database, query);
        let deleted = deleted.map_err(|error| self.failed(&error, "calls cannot be deleted"))?;
        if deleted.calls > 0 {
            // Nothing of them is left in the log either.
            drop(self.wal.empty(&self.database.connection));
        }
        Ok(deleted)
    }

    fn record(&mut self, sender: Sender, ledger: Ledger) -> Result<(), Failure> {
        let recorded = self
            .database
            .change(|transaction, _| ledgers::record(transaction, sender, ledger, unix_ms()));
        recorded.map_err(|error| self.failed(&error, "the ledger cannot be stored"))
    }

    fn failed(&self, error: &anyhow::Error, what: &str) -> Failure {
        self.health.send_replace(Health::Down(error.to_string()));
        Failure::Unavailable(format!("{what}: {error}"))
    }
}

/// A sender that went away gets no answer; its bundle is stored all the same.
fn answer(group: Vec<Insert>, results: impl Iterator<Item = Result<Stored, Failure>>) {
    for (insert, result) in group.into_iter().zip(results) {
        drop(insert.answer.send(result));
    }
}

/// How much one transaction may still store.
#[derive(Clone, Copy, Debug)]
struct Room {
    lines: usize,
    bytes: usize,
}

impl Room {
    const UNBOUNDED: Self = Self {
        lines: usize::MAX,
        bytes: usize::MAX,
    };
}

struct Done {
    /// For each bundle that is stored whole.
    stored: Vec<Stored>,
    newest: u64,
    size: Size,
}

fn store(
    database: &mut Database,
    group: &mut [Insert],
    mut room: Room,
    keys_age: Duration,
) -> anyhow::Result<Done> {
    let now = unix_ms();
    let (done, lines_stored) = database.change(|transaction, parts| {
        let mut size = Size::default();
        let mut stored = Vec::with_capacity(group.len());
        let mut lines_stored = 0;
        for insert in group.iter() {
            let part = store_part(
                (transaction, &mut *parts),
                insert,
                &mut room,
                now,
                &mut size,
            )?;
            lines_stored = part.end;
            stored.extend(part.stored);
        }
        parts.write(transaction)?;
        keys::forget(transaction, keys_age, now)?;
        let newest = parts.newest;
        let done = Done {
            stored,
            newest,
            size,
        };
        Ok((done, lines_stored))
    })?;
    if let Some(last) = group.last_mut() {
        last.lines_stored = lines_stored;
    }
    Ok(done)
}

/// What a transaction stored of a bundle.
struct Part {
    /// Lines of the bundle that are stored now.
    end: usize,
    /// For the last part.
    stored: Option<Stored>,
}

/// Stores as many lines of a bundle as there is room for.
fn store_part(
    (transaction, parts): (&Transaction<'_>, &mut Parts),
    insert: &Insert,
    room: &mut Room,
    now_ms: i64,
    size: &mut Size,
) -> anyhow::Result<Part> {
    let bundle = &insert.bundle;
    // Without a part of its first bundle a transaction would have nothing.
    let must = size.calls == 0;
    let end_of = |from| {
        let of_units = (insert.prepared).end_of_part(from, (room.lines, room.bytes), must);
        of_units.unwrap_or_else(|| bundle.end_of_part(from, room.lines, room.bytes))
    };
    let mut from = insert.lines_stored;
    let mut end = end_of(from);
    if from > 0 {
        keys::set_lines(transaction, bundle, end)?;
    } else if !keys::insert(transaction, bundle, end, now_ms)? {
        from = keys::lines(transaction, bundle)?;
        if from >= bundle.calls() {
            count(transaction, "bundles_repeated", 1)?;
            let stored = Some(Stored::Repeated);
            return Ok(Part { end: from, stored });
        }
        end = end_of(from);
        keys::set_lines(transaction, bundle, end)?;
    }
    let stored = insert_lines((transaction, parts), insert, (from, end), now_ms)?;
    room.lines = room.lines.saturating_sub(end - from);
    room.bytes = room
        .bytes
        .saturating_sub(usize::try_from(stored.bytes).unwrap_or_default());
    size.calls += stored.calls;
    size.bytes += stored.bytes;
    count(transaction, "calls_received", stored.calls)?;
    if end < bundle.calls() {
        return Ok(Part { end, stored: None });
    }
    count(transaction, "bad_lines", integer(bundle.bad_lines))?;
    count(transaction, "bundles_received", 1)?;
    Ok(Part {
        end,
        stored: Some(Stored::New),
    })
}

fn insert_lines(
    (transaction, parts): (&Transaction<'_>, &mut Parts),
    insert: &Insert,
    (from, end): (usize, usize),
    now_ms: i64,
) -> anyhow::Result<Size> {
    let Insert {
        bundle, prepared, ..
    } = insert;
    let sender = sender(transaction, bundle.sender)?;
    let mut stored = Size::default();
    let mut push = |parts: &mut Parts, line: &str, mut columns: Columns| {
        stored.calls += 1;
        stored.bytes += integer(line.len());
        columns.place_in_time(now_ms, bundle.is_imported);
        parts.push(transaction, (sender, line), columns)
    };
    let mut at = from;
    let mut of_units = Size::default();
    while at < end {
        let Some(unit) = prepared.unit_of(at) else {
            for (line, columns) in bundle.part(at, end) {
                push(parts, line, columns)?;
            }
            break;
        };
        if unit.from == at {
            of_units.calls += integer(unit.end - unit.from);
            of_units.bytes += integer(unit.bytes);
            parts.push_unit(transaction, sender, unit)?;
        } else {
            // An earlier process has stored the beginning of it.
            unit.each_line(at, |line| {
                push(parts, line, Columns::read(line).unwrap_or_default())
            })?;
        }
        at = unit.end;
    }
    stored.calls += of_units.calls;
    stored.bytes += of_units.bytes;
    transaction
        .prepare_cached(
            "UPDATE senders SET calls = calls + ?2, bytes = bytes + ?3, received = received + ?2 WHERE id = ?1",
        )?
        .execute(params![sender, stored.calls, stored.bytes])?;
    Ok(stored)
}

/// The row of a sender, new when it has none. Past [`SENDERS_MAX`] one without calls is forgotten for it, or else it shares the
/// row of all others.
fn sender(transaction: &Transaction<'_>, sender: Sender) -> rusqlite::Result<i64> {
    let name = sender.to_string();
    if let Some(row) = sender_row(transaction, &name)? {
        return Ok(row);
    }
    let known: i64 = transaction.query_row("SELECT count(*) FROM senders", [], |row| row.get(0))?;
    let is_full = known >= integer(SENDERS_MAX)
        && transaction.execute("DELETE FROM senders WHERE calls = 0", [])? == 0;
    let name = if is_full && !sender.is_of_this_host() {
        "other"
    } else {
        &name
    };
    transaction.execute(
        "INSERT OR IGNORE INTO senders (name, calls, bytes, received, expired) VALUES (?1, 0, 0, 0, 0)",
        [name],
    )?;
    let row = sender_row(transaction, name)?;
    row.ok_or(rusqlite::Error::QueryReturnedNoRows)
}

fn sender_row(transaction: &Transaction<'_>, name: &str) -> rusqlite::Result<Option<i64>> {
    transaction
        .prepare_cached("SELECT id FROM senders WHERE name = ?1")?
        .query_row([name], |row| row.get(0))
        .optional()
}

#[cfg(test)]
mod tests;
