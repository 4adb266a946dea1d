//! Queries on read-only connections, each query bounded in rows and time.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::Context;
use rusqlite::{Connection, OptionalExtension, Row};
use tokio::sync::Semaphore;

use super::file::open_reader;
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
}

impl Readers {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            idle: Arc::default(),
            permits: Arc::new(Semaphore::new(READERS)),
        }
    }

    pub(super) async fn list(&self, rows: Rows, filter: Filter) -> Result<Page, Failure> {
        self.read(move |connection| Ok(list(connection, rows, &filter)?))
            .await
    }

    pub(super) async fn call(&self, row: u64) -> Result<Option<Call>, Failure> {
        self.read(move |connection| call(connection, row)).await
    }

    pub(super) async fn arrived(&self, after: u64, filter: Filter) -> Result<Arrived, Failure> {
        self.read(move |connection| Ok(arrived(connection, after, &filter)?))
            .await
    }

    pub(super) async fn totals(&self) -> Result<Totals, Failure> {
        self.read(|connection| Ok(totals(connection)?)).await
    }

    /// Runs a query on a thread of its own as soon as a connection is free. Whatever fails is the store's fault: a request that
    /// cannot be served was refused before.
    async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> anyhow::Result<T> + Send + 'static,
    ) -> Result<T, Failure> {
        let readers = self.clone();
        let answer = async move {
            let permit = readers.permits.clone().acquire_owned().await?;
            tokio::task::spawn_blocking(move || {
                let _permit = permit;
                let connection = readers
                    .connection()
                    .context("opening the database for reading")?;
                let answer = query(&connection);
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

fn list(connection: &Connection, rows: Rows, filter: &Filter) -> rusqlite::Result<Page> {
    // One snapshot for both statements: `newest` must not lie behind a call that the list did not examine.
    let snapshot = connection.unchecked_transaction()?;
    let newest = newest(&snapshot)?;
    search(&snapshot, rows, filter, newest)
}

/// Examines rows until the page is full, in calls or in bytes, or the time is over.
///
/// No part of the filter becomes a condition in SQL. Tried for words: `LIKE` took 63 to 230 ms for 40 000 lines of 1460 B
/// (depending on how often the first letter occurs), `instr` 220 to 460 ms, this loop 150 ms with either kind of word.
fn search(
    connection: &Connection,
    rows: Rows,
    filter: &Filter,
    newest: u64,
) -> rusqlite::Result<Page> {
    let start = Instant::now();
    let mut page = Page {
        calls: Vec::new(),
        next: None,
        timed_out: false,
        newest: newest.into(),
    };
    let mut select = connection.prepare_cached(&format!(
        "SELECT {SUMMARY}, line FROM calls WHERE id < ?1 AND id > ?2 ORDER BY id DESC"
    ))?;
    let bounds = [rows.below.unwrap_or(u64::MAX), rows.above.unwrap_or(0)];
    let mut found = select.query(bounds.map(signed))?;
    let mut last_seen = None;
    let mut bytes = 0;
    while let Some(row) = found.next()? {
        let is_full = page.calls.len() as u64 >= rows.limit || bytes >= LIST_BYTES_MAX;
        if is_full || page.timed_out {
            page.next = last_seen.map(u64::into);
            break;
        }
        last_seen = Some(unsigned(row, 0)?);
        // SQLite reads a long line page by page, and only when the column is read.
        if filter.is_empty() || filter.matches(row.get_ref(LINE)?.as_str().unwrap_or_default()) {
            let summary = summary(row)?;
            bytes += summary.text_bytes();
            page.calls.push(summary);
        }
        page.timed_out = start.elapsed() > SEARCH_TIME_MAX;
    }
    page.timed_out &= page.next.is_some();
    Ok(page)
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

fn arrived(connection: &Connection, after: u64, filter: &Filter) -> rusqlite::Result<Arrived> {
    let snapshot = connection.unchecked_transaction()?;
    let newest = newest(&snapshot)?;
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
            below: None,
            above: Some(after),
            limit: count,
        };
        let page = search(&snapshot, rows, filter, newest)?;
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
