//! Queries on read-only connections, each query bounded in rows and time.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::Context;
use rusqlite::{Connection, OptionalExtension, Row};
use tokio::sync::Semaphore;

use super::file::open_reader;
use super::gate::Gate;
use crate::backend::Failure;
use crate::call::{Arrived, Call, Page, SenderTotals, Summary, Totals};
use crate::filter::Filter;
use crate::limits::{LIST_BYTES_MAX, READERS, SEARCH_TIME_MAX, SENDERS_SHOWN, STREAM_BEHIND_MAX};
use crate::line;

/// Columns of a row of the list, in the order of [`summary`].
const SUMMARY: &str = "id, received_ms, now_ms, interval_ms, method, url, host, path, status, request_bytes, response_bytes, \
                       content_type, note";

/// Index of the line when it is selected behind [`SUMMARY`].
const LINE: usize = 13;

/// The number of the newest row ever inserted; 0 before the first one.
pub(super) fn newest(connection: &Connection) -> rusqlite::Result<u64> {
    connection
        .prepare_cached("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'calls'")?
        .query_row([], |row| unsigned(row, 0))
}

/// A number that is never negative; SQLite has signed ones only.
fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    Ok(u64::try_from(row.get::<_, i64>(column)?).unwrap_or_default())
}

/// Which rows to examine, newest first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rows {
    pub(super) below: Option<u64>,
    pub(super) above: Option<u64>,
    /// Rows in the answer, at most.
    pub(super) limit: u64,
}

/// A few reading connections, opened when needed and kept.
#[derive(Clone, Debug)]
pub(super) struct Readers {
    folder: PathBuf,
    idle: Arc<Mutex<Vec<Connection>>>,
    permits: Arc<Semaphore>,
    gate: Arc<Gate>,
}

impl Readers {
    pub(super) fn new(folder: PathBuf, gate: Arc<Gate>) -> Self {
        Self {
            folder,
            idle: Arc::default(),
            permits: Arc::new(Semaphore::new(READERS)),
            gate,
        }
    }

    pub(super) async fn list(&self, rows: Rows, filter: Filter) -> Result<Page, Failure> {
        self.read(move |connection, gate| Ok(list(connection, gate, rows, &filter)?))
            .await
    }

    pub(super) async fn call(&self, row: u64) -> Result<Option<Call>, Failure> {
        self.read(move |connection, gate| {
            let _inside = gate.enter();
            call(connection, row)
        })
        .await
    }

    pub(super) async fn arrived(&self, after: u64, filter: Filter) -> Result<Arrived, Failure> {
        self.read(move |connection, gate| Ok(arrived(connection, gate, after, &filter)?))
            .await
    }

    pub(super) async fn totals(&self) -> Result<Totals, Failure> {
        self.read(|connection, gate| {
            let _inside = gate.enter();
            Ok(totals(connection)?)
        })
        .await
    }

    /// Runs a query on a thread of its own as soon as a connection is free. Whatever fails is the store's fault: a request that
    /// cannot be served was refused before.
    async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection, &Gate) -> anyhow::Result<T> + Send + 'static,
    ) -> Result<T, Failure> {
        let readers = self.clone();
        let answer = async move {
            let permit = readers.permits.clone().acquire_owned().await?;
            tokio::task::spawn_blocking(move || {
                let _permit = permit;
                let connection = readers
                    .connection()
                    .context("opening the database for reading")?;
                let answer = query(&connection, &readers.gate);
                readers.idle().push(connection);
                answer
            })
            .await?
        };
        answer
            .await
            .map_err(|error| Failure::Unavailable(format!("{error:#}")))
    }

    fn connection(&self) -> rusqlite::Result<Connection> {
        let idle = self.idle().pop();
        idle.map_or_else(|| open_reader(&self.folder), Ok)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        // A list of connections is whole between any two of its operations.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The number as SQLite has it; rows have no larger ones.
fn signed(number: u64) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

fn list(
    connection: &Connection,
    gate: &Gate,
    rows: Rows,
    filter: &Filter,
) -> rusqlite::Result<Page> {
    let mut search = Search::new(rows, filter);
    let newest = {
        let _inside = gate.enter();
        // One snapshot for both statements: `newest` must not lie behind a call that the list did not examine.
        let snapshot = connection.unchecked_transaction()?;
        let newest = newest(&snapshot)?;
        search.examine(&snapshot, gate)?;
        newest
    };
    search.finish(connection, gate, newest)
}

/// A walk over the rows, newest first, until the page is full, in calls or in bytes, or the time is over. It pauses for each
/// checkpoint and goes on in a new snapshot: rows are only added above those that it examines.
///
/// No part of the filter becomes a condition in SQL. Tried for words: `LIKE` took 63 to 230 ms for 40 000 lines of 1460 B
/// (depending on how often the first letter occurs), `instr` 220 to 460 ms, this loop 150 ms with either kind of word.
struct Search<'a> {
    rows: Rows,
    filter: &'a Filter,
    start: Instant,
    calls: Vec<Summary>,
    bytes: usize,
    /// The row that was examined last.
    last: Option<u64>,
    /// Rows are left.
    is_more: bool,
    timed_out: bool,
    /// All rows were examined, or the page or the time ended.
    is_done: bool,
}

impl<'a> Search<'a> {
    fn new(rows: Rows, filter: &'a Filter) -> Self {
        Self {
            rows,
            filter,
            start: Instant::now(),
            calls: Vec::new(),
            bytes: 0,
            last: None,
            is_more: false,
            timed_out: false,
            is_done: false,
        }
    }

    /// Examines rows until the search is done, or a checkpoint waits.
    fn examine(&mut self, connection: &Connection, gate: &Gate) -> rusqlite::Result<()> {
        let mut select = connection.prepare_cached(&format!(
            "SELECT {SUMMARY}, line FROM calls WHERE id < ?1 AND id > ?2 ORDER BY id DESC"
        ))?;
        let below = self.last.or(self.rows.below).unwrap_or(u64::MAX);
        let bounds = [below, self.rows.above.unwrap_or(0)];
        let mut found = select.query(bounds.map(signed))?;
        while let Some(row) = found.next()? {
            let is_full =
                self.calls.len() as u64 >= self.rows.limit || self.bytes >= LIST_BYTES_MAX;
            if is_full || self.timed_out {
                self.is_more = true;
                break;
            }
            self.last = Some(unsigned(row, 0)?);
            // SQLite reads a long line page by page, and only when the column is read.
            let is_match = self.filter.is_empty()
                || self
                    .filter
                    .matches(row.get_ref(LINE)?.as_str().unwrap_or_default());
            if is_match {
                let summary = summary(row)?;
                self.bytes += summary.text_bytes();
                self.calls.push(summary);
            }
            self.timed_out = self.start.elapsed() > SEARCH_TIME_MAX;
            if gate.is_closing() {
                return Ok(());
            }
        }
        self.is_done = true;
        Ok(())
    }

    /// Continues after each checkpoint, until the search is done.
    fn finish(
        mut self,
        connection: &Connection,
        gate: &Gate,
        newest: u64,
    ) -> rusqlite::Result<Page> {
        while !self.is_done {
            let _inside = gate.enter();
            self.examine(connection, gate)?;
        }
        Ok(Page {
            next: self.last.filter(|_| self.is_more).map(u64::into),
            timed_out: self.timed_out && self.is_more,
            calls: self.calls,
            newest: newest.into(),
        })
    }
}

fn summary(row: &Row<'_>) -> rusqlite::Result<Summary> {
    Ok(Summary {
        id: unsigned(row, 0)?.into(),
        received_ms: row.get(1)?,
        now_ms: row.get(2)?,
        interval_ms: row.get(3)?,
        method: row.get(4)?,
        url: row.get(5)?,
        host: row.get(6)?,
        path: row.get(7)?,
        status: row.get(8)?,
        request_bytes: row.get(9)?,
        response_bytes: row.get(10)?,
        content_type: row.get(11)?,
        note: row.get(12)?,
    })
}

fn arrived(
    connection: &Connection,
    gate: &Gate,
    after: u64,
    filter: &Filter,
) -> rusqlite::Result<Arrived> {
    let newest = {
        let _inside = gate.enter();
        newest(connection)?
    };
    let mut arrived = Arrived {
        newest: newest.into(),
        calls: None,
        // A place ahead of the newest call was written by another database.
        count: newest.checked_sub(after),
    };
    if let Some(count) = arrived.count
        && count <= STREAM_BEHIND_MAX
    {
        let rows = Rows {
            below: Some(newest.saturating_add(1)),
            above: Some(after),
            limit: count,
        };
        let page = Search::new(rows, filter).finish(connection, gate, newest)?;
        arrived.calls = page.next.is_none().then_some(page.calls);
    }
    Ok(arrived)
}

fn call(connection: &Connection, row: u64) -> anyhow::Result<Option<Call>> {
    let mut select =
        connection.prepare_cached(&format!("SELECT {SUMMARY}, line FROM calls WHERE id = ?1"))?;
    let found = select
        .query_row([signed(row)], |row| {
            Ok((summary(row)?, row.get::<_, String>(LINE)?))
        })
        .optional()?;
    let Some((summary, line)) = found else {
        return Ok(None);
    };
    let details = line::details(&line)
        .context("a stored line")?
        .into_iter()
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect();
    Ok(Some(Call {
        summary,
        details,
        line,
    }))
}

fn totals(connection: &Connection) -> rusqlite::Result<Totals> {
    let snapshot = connection.unchecked_transaction()?;
    let pragma = |name: &str| snapshot.pragma_query_value(None, name, |row| unsigned(row, 0));
    let pages = pragma("page_count")?.saturating_sub(pragma("freelist_count")?);
    let mut totals = Totals {
        database_bytes: pages * pragma("page_size")?,
        ..Totals::default()
    };
    let mut select = snapshot.prepare_cached("SELECT name, value FROM counters")?;
    let mut counters = select.query([])?;
    while let Some(row) = counters.next()? {
        let value = unsigned(row, 1)?;
        match row.get_ref(0)?.as_str().unwrap_or_default() {
            "since_ms" => totals.since_ms = signed(value),
            "calls_received" => totals.calls_received = value,
            "calls_expired" => totals.calls_expired = value,
            "bundles_received" => totals.bundles_received = value,
            "bundles_repeated" => totals.bundles_repeated = value,
            "bad_lines" => totals.bad_lines = value,
            _ => {}
        }
    }
    totals.calls = totals.calls_received.saturating_sub(totals.calls_expired);
    let mut select = snapshot.prepare_cached(
        "SELECT name, calls, bytes, expired FROM senders ORDER BY calls DESC, id LIMIT ?1",
    )?;
    let senders = select.query_map([signed(SENDERS_SHOWN)], |row| {
        Ok(SenderTotals {
            sender: row.get(0)?,
            calls: unsigned(row, 1)?,
            bytes: unsigned(row, 2)?,
            expired: unsigned(row, 3)?,
        })
    })?;
    totals.senders = senders.collect::<Result<_, _>>()?;
    Ok(totals)
}
