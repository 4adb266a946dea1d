//! Queries of the page: list, one call, status. Read-only connections, each query bounded in rows and time.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::Context;
use rusqlite::{Connection, OptionalExtension, Row};
use serde::Serialize;
use tokio::sync::Semaphore;

use crate::backend::sqlite::open_reader;
use crate::filter::Filter;
use crate::limits::{READERS, SEARCH_TIME_MAX};
use crate::line;

/// A call as the list shows it.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Summary {
    pub(crate) id: i64,
    pub(crate) received_ms: i64,
    pub(crate) now_ms: Option<i64>,
    pub(crate) interval_ms: Option<i64>,
    pub(crate) method: String,
    pub(crate) url: String,
    pub(crate) host: String,
    pub(crate) path: String,
    pub(crate) status: Option<i64>,
    pub(crate) request_bytes: Option<i64>,
    pub(crate) response_bytes: Option<i64>,
    pub(crate) content_type: String,
    pub(crate) note: String,
}

const SUMMARY: &str = "id, received_ms, now_ms, interval_ms, method, url, host, path, status, request_bytes, response_bytes, \
                       content_type, note";

/// One call with everything.
#[derive(Debug, Serialize)]
pub(crate) struct Call {
    #[serde(flatten)]
    pub(crate) summary: Summary,
    /// The line's details in their order.
    pub(crate) details: Vec<(String, String)>,
    /// The line as it was sent.
    pub(crate) line: String,
}

/// Which calls: ids between the two, newest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query {
    pub(crate) filter: Filter,
    /// Only ids below this one.
    pub(crate) before: Option<i64>,
    /// Only ids above this one.
    pub(crate) after: Option<i64>,
    pub(crate) limit: usize,
}

/// An answer of the list.
#[derive(Debug, Serialize)]
pub(crate) struct Page {
    /// Newest first.
    pub(crate) calls: Vec<Summary>,
    /// Ask again with `before` set to this for older ones; `None` when all were looked at.
    pub(crate) next: Option<i64>,
    /// The time for one search ran out: fewer calls than asked for does not mean that there are no more.
    pub(crate) timed_out: bool,
    /// Id of the newest call in the store when this was read, whether it matches or not; 0 without one.
    pub(crate) newest: i64,
}

/// Totals of the file.
#[derive(Debug, Serialize)]
pub(crate) struct Totals {
    /// Calls in the store.
    pub(crate) calls: i64,
    /// Pages in use, in bytes.
    pub(crate) database_bytes: i64,
    /// Counters since the file was made.
    #[serde(flatten)]
    pub(crate) counters: BTreeMap<String, i64>,
}

/// A few reading connections, opened when needed and kept.
#[derive(Clone, Debug)]
pub(crate) struct Readers {
    folder: PathBuf,
    free: Arc<Mutex<Vec<Connection>>>,
    turns: Arc<Semaphore>,
}

impl Readers {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            free: Arc::default(),
            turns: Arc::new(Semaphore::new(READERS)),
        }
    }

    /// Calls that match, newest first.
    pub(crate) async fn list(&self, query: Query) -> anyhow::Result<Page> {
        self.read(move |connection| Ok(list(connection, &query)?))
            .await
    }

    /// One call; `None` when it is not there (any more).
    pub(crate) async fn call(&self, id: i64) -> anyhow::Result<Option<Call>> {
        self.read(move |connection| call(connection, id)).await
    }

    /// Totals for the status.
    pub(crate) async fn totals(&self) -> anyhow::Result<Totals> {
        self.read(|connection| Ok(totals(connection)?)).await
    }

    async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        let turn = self.turns.clone().acquire_owned().await?;
        let readers = self.clone();
        tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let connection = readers.take().context("opening the database for reading")?;
            let answer = query(&connection);
            readers.lock().push(connection);
            answer
        })
        .await?
    }

    fn take(&self) -> rusqlite::Result<Connection> {
        let free = self.lock().pop();
        free.map_or_else(|| open_reader(&self.folder), Ok)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        // A list of connections is whole between any two of its operations.
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn list(connection: &Connection, query: &Query) -> rusqlite::Result<Page> {
    let start = Instant::now();
    // One snapshot for both statements: `newest` must not name a call that the list did not look at.
    let snapshot = connection.unchecked_transaction()?;
    let newest = snapshot.query_row("SELECT coalesce(max(id), 0) FROM calls", [], |row| {
        row.get(0)
    })?;
    let mut page = Page {
        calls: Vec::new(),
        next: None,
        timed_out: false,
        newest,
    };
    let mut select = snapshot.prepare_cached(&format!(
        "SELECT {SUMMARY}, line FROM calls WHERE id < ?1 AND id > ?2 ORDER BY id DESC"
    ))?;
    let mut rows = select.query([query.before.unwrap_or(i64::MAX), query.after.unwrap_or(0)])?;
    let mut last_seen = None;
    while let Some(row) = rows.next()? {
        if page.calls.len() >= query.limit || page.timed_out {
            page.next = last_seen;
            break;
        }
        last_seen = Some(row.get(0)?);
        // SQLite reads a long line page by page, and only when it is asked for.
        if query.filter.is_empty()
            || query
                .filter
                .matches(row.get_ref("line")?.as_str().unwrap_or_default())
        {
            page.calls.push(summary(row)?);
        }
        page.timed_out = start.elapsed() > SEARCH_TIME_MAX;
    }
    page.timed_out &= page.next.is_some();
    Ok(page)
}

fn summary(row: &Row<'_>) -> rusqlite::Result<Summary> {
    Ok(Summary {
        id: row.get("id")?,
        received_ms: row.get("received_ms")?,
        now_ms: row.get("now_ms")?,
        interval_ms: row.get("interval_ms")?,
        method: row.get("method")?,
        url: row.get("url")?,
        host: row.get("host")?,
        path: row.get("path")?,
        status: row.get("status")?,
        request_bytes: row.get("request_bytes")?,
        response_bytes: row.get("response_bytes")?,
        content_type: row.get("content_type")?,
        note: row.get("note")?,
    })
}

fn call(connection: &Connection, id: i64) -> anyhow::Result<Option<Call>> {
    let mut select =
        connection.prepare_cached(&format!("SELECT {SUMMARY}, line FROM calls WHERE id = ?1"))?;
    let found = select
        .query_row([id], |row| {
            Ok((summary(row)?, row.get::<_, String>("line")?))
        })
        .optional()?;
    let Some((summary, line)) = found else {
        return Ok(None);
    };
    let pairs = line::pairs(&line).context("a stored line")?;
    let details = pairs
        .into_iter()
        .map(|(key, value)| (key.into_owned(), value.into_owned()))
        .collect();
    Ok(Some(Call {
        summary,
        details,
        line,
    }))
}

fn totals(connection: &Connection) -> rusqlite::Result<Totals> {
    let snapshot = connection.unchecked_transaction()?;
    let mut select = snapshot.prepare_cached("SELECT name, value FROM counters")?;
    let counters: BTreeMap<String, i64> = select
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    let counter = |name: &str| counters.get(name).copied().unwrap_or_default();
    let pragma = |name: &str| snapshot.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    Ok(Totals {
        calls: counter("calls_received") - counter("calls_expired"),
        database_bytes: (pragma("page_count")? - pragma("freelist_count")?) * pragma("page_size")?,
        counters,
    })
}
