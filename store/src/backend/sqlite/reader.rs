//! Queries on read-only connections, each query bounded in rows and time.

mod list;
mod statistics;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context;
use rusqlite::{Connection, OptionalExtension};
use tokio::sync::Semaphore;

use super::block::{Block, HEAD, Head, Number, signed, unsigned};
use super::file::open_reader;
use super::gate::Gate;
use super::judge::{Senders, columns};
use super::{Place, chunk};
use crate::backend::Failure;
use crate::call::{
    Arrived, Call, Coverage, Page, Query, Range, SenderTotals, Stats, StatsQuery, Summary, Top,
    TopQuery, Totals,
};
use crate::filter::Filter;
use crate::limits::{READERS, SENDERS_SHOWN};
use crate::line::{self, Columns};
pub(super) use list::Places;
pub(super) use statistics::class;

/// The number of the newest call ever stored, in the order of arrival; 0 before the first one.
pub(super) fn newest(connection: &Connection) -> rusqlite::Result<u64> {
    connection
        .prepare_cached("SELECT value FROM counters WHERE name = 'newest'")?
        .query_row([], |row| Ok(unsigned(row.get(0)?)))
}

/// Heads of all blocks, the oldest first.
pub(super) fn heads(connection: &Connection) -> rusqlite::Result<Vec<Head>> {
    let mut select =
        connection.prepare_cached(&format!("SELECT {HEAD} FROM blocks ORDER BY first"))?;
    select.query_map([], Head::read)?.collect()
}

/// Heads of the blocks that have a call of a range.
pub(super) fn heads_in(connection: &Connection, range: Range) -> rusqlite::Result<Vec<Head>> {
    let mut select = connection.prepare_cached(&format!(
        "SELECT {HEAD} FROM blocks WHERE newest_ms >= ?1 AND oldest_ms < ?2"
    ))?;
    let to = range.to_ms.unwrap_or(i64::MAX);
    let heads = select.query_map([range.from_ms.unwrap_or(i64::MIN), to], Head::read)?;
    heads.collect()
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

    pub(super) async fn list(&self, query: Query, places: Places) -> Result<Page, Failure> {
        self.read(move |connection, gate| list::list(connection, gate, query, places))
            .await
    }

    pub(super) async fn call(&self, arrival: u64) -> Result<Option<Call>, Failure> {
        self.read(move |connection, gate| {
            let _inside = gate.enter();
            call(connection, arrival)
        })
        .await
    }

    pub(super) async fn place(&self, arrival: u64) -> Result<Option<Place>, Failure> {
        self.read(move |connection, gate| {
            let _inside = gate.enter();
            place(connection, arrival)
        })
        .await
    }

    pub(super) async fn arrived(&self, after: u64, filter: Filter) -> Result<Arrived, Failure> {
        self.read(move |connection, gate| list::arrived(connection, gate, after, &filter))
            .await
    }

    pub(super) async fn stats(&self, query: StatsQuery) -> Result<Stats, Failure> {
        self.read(move |connection, gate| statistics::stats(connection, gate, &query))
            .await
    }

    pub(super) async fn top(&self, query: TopQuery) -> Result<Top, Failure> {
        self.read(move |connection, gate| statistics::top(connection, gate, &query))
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

fn summary(place: Place, call: Columns) -> Summary {
    Summary {
        id: place.id(),
        time_ms: call.time_ms,
        received_ms: call.received_ms,
        now_ms: call.now_ms,
        interval_ms: call.interval_ms,
        method: call.method,
        url: call.url,
        host: call.host,
        path: call.path,
        status: call.status,
        request_bytes: call.request_bytes,
        response_bytes: call.response_bytes,
        content_type: call.content_type,
        note: call.note,
        first_byte_ms: call.first_byte_ms,
        endpoint: call.endpoint,
        operation: call.operation,
        protocol: call.protocol,
        vni: call.vni,
        client: call.client,
        server: call.server,
        appliance: call.appliance,
    }
}

/// The block that has a call, and its row there.
fn find(connection: &Connection, arrival: u64) -> anyhow::Result<Option<(Head, usize)>> {
    let mut select = connection.prepare_cached(&format!(
        "SELECT {HEAD} FROM blocks WHERE first <= ?1 ORDER BY first DESC LIMIT 1"
    ))?;
    let head = select.query_row([signed(arrival)], Head::read).optional()?;
    let Some(head) = head.filter(|head| arrival <= head.last) else {
        return Ok(None);
    };
    let arrivals = Block::new(connection, &head).numbers(Number::Arrival)?;
    let row = (0..head.rows).find(|&row| head.arrival(&arrivals, row) == arrival);
    Ok(row.map(|row| (head, row)))
}

/// The place of a call in the list.
fn place(connection: &Connection, arrival: u64) -> anyhow::Result<Option<Place>> {
    let Some((head, row)) = find(connection, arrival)? else {
        return Ok(None);
    };
    let time_ms = Block::new(connection, &head).number(Number::Time, row)?;
    Ok(time_ms.map(|time_ms| Place { time_ms, arrival }))
}

fn call(connection: &Connection, arrival: u64) -> anyhow::Result<Option<Call>> {
    let snapshot = connection.unchecked_transaction()?;
    let Some((head, row)) = find(&snapshot, arrival)? else {
        return Ok(None);
    };
    let block = Block::new(&snapshot, &head);
    let columns = columns(&block, &Senders::new(), row)?;
    let line = chunk::line(&snapshot, arrival)?.context("the line of a call is missing")?;
    let details = line::details(&line)
        .context("a stored line")?
        .into_iter()
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect();
    let place = Place {
        time_ms: columns.time_ms,
        arrival,
    };
    Ok(Some(Call {
        summary: summary(place, columns),
        details,
        line,
    }))
}

/// What an answer about a range is based on, as far as that does not depend on the query.
fn coverage(connection: &Connection, range: Range) -> anyhow::Result<Coverage> {
    let heads = heads_in(connection, range)?;
    let mut coverage = Coverage {
        range,
        progress: 1.0,
        ..Coverage::default()
    };
    for head in &heads {
        let part = part_in(head, range);
        coverage.kept += part;
        if head.extent(Number::Marks).most >= super::block::MARK_MASKED && part > 0 {
            let block = Block::new(connection, head);
            let (marks, times) = (block.numbers(Number::Marks)?, block.numbers(Number::Time)?);
            let masked = marks.iter().zip(&*times).filter(|(mark, time)| {
                **mark & super::block::MARK_MASKED != 0 && range.contains(**time)
            });
            coverage.masked += masked.count() as u64;
        }
    }
    coverage.held_from_ms = connection
        .prepare_cached("SELECT min(oldest_ms) FROM blocks")?
        .query_row([], |row| row.get(0))?;
    let minute = |time_ms: i64| time_ms.div_euclid(60_000);
    let mut select = connection.prepare_cached(
        "SELECT cause, sum(calls) FROM losses WHERE minute >= ?1 AND minute <= ?2 GROUP BY cause",
    )?;
    let bounds = [
        minute(range.from_ms.unwrap_or(i64::MIN)),
        minute(range.to_ms.map_or(i64::MAX, |to| to.saturating_sub(1))),
    ];
    let losses = select.query_map(bounds, |row| Ok((row.get(0)?, unsigned(row.get(1)?))))?;
    coverage.lost = losses.collect::<Result<_, _>>()?;
    coverage.seen = coverage.kept + coverage.lost.values().sum::<u64>();
    Ok(coverage)
}

/// How many calls of a block are in a range, where it has some outside: estimated, as if they were spread evenly.
fn part_in(head: &Head, range: Range) -> u64 {
    let (oldest, newest) = (head.oldest_ms(), head.newest_ms());
    if range.covers(oldest, newest) {
        return head.rows as u64;
    }
    let from = range.from_ms.unwrap_or(oldest).max(oldest);
    let to = range
        .to_ms
        .map_or(newest, |to| to.saturating_sub(1))
        .min(newest);
    let all = (newest - oldest + 1).max(1) as f64;
    let part = (to.saturating_sub(from).saturating_add(1)).max(0) as f64 / all;
    (head.rows as f64 * part).round() as u64
}

fn totals(connection: &Connection) -> rusqlite::Result<Totals> {
    let snapshot = connection.unchecked_transaction()?;
    let pragma =
        |name: &str| snapshot.pragma_query_value(None, name, |row| Ok(unsigned(row.get(0)?)));
    let pages = pragma("page_count")?.saturating_sub(pragma("freelist_count")?);
    let mut totals = Totals {
        database_bytes: pages * pragma("page_size")?,
        ..Totals::default()
    };
    let mut select = snapshot.prepare_cached("SELECT name, value FROM counters")?;
    let mut counters = select.query([])?;
    while let Some(row) = counters.next()? {
        let value = unsigned(row.get(1)?);
        match row.get_ref(0)?.as_str().unwrap_or_default() {
            "since_ms" => totals.since_ms = signed(value),
            "calls_received" => totals.calls_received = value,
            "calls_expired" => totals.calls_expired = value,
            "calls_deleted" => totals.calls_deleted = value,
            "bundles_received" => totals.bundles_received = value,
            "bundles_repeated" => totals.bundles_repeated = value,
            "bad_lines" => totals.bad_lines = value,
            _ => {}
        }
    }
    let gone = totals.calls_expired + totals.calls_deleted;
    totals.calls = totals.calls_received.saturating_sub(gone);
    let mut select = snapshot.prepare_cached(
        "SELECT name, calls, bytes, expired FROM senders ORDER BY calls DESC, id LIMIT ?1",
    )?;
    let senders = select.query_map([signed(SENDERS_SHOWN)], |row| {
        Ok(SenderTotals {
            sender: row.get(0)?,
            calls: unsigned(row.get(1)?),
            bytes: unsigned(row.get(2)?),
            expired: unsigned(row.get(3)?),
        })
    })?;
    totals.senders = senders.collect::<Result<_, _>>()?;
    Ok(totals)
}
