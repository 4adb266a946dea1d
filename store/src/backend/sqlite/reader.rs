//! Queries on read-only connections, each query bounded in rows and time.

mod call;
mod coverage;
mod list;
mod statistics;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context;
use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::block::{signed, unsigned};
use super::file::open_reader;
use super::gate::Gate;
use super::heads::Heads;
use super::ledgers;
use super::place::{Place, Places};
use crate::backend::Failure;
use crate::call::{
    Arrived, Call, LossesAt, LossesQuery, Page, Query, SenderTotals, Stats, StatsQuery, Top,
    TopQuery, Totals,
};
use crate::filter::Filter;
use crate::ledger::Posted;
use crate::limits::{READERS, SENDERS_SHOWN};

/// A few reading connections, opened when needed and kept.
#[derive(Clone, Debug)]
pub(super) struct Readers {
    folder: PathBuf,
    idle: Arc<Mutex<Vec<Connection>>>,
    permits: Arc<Semaphore>,
    gate: Arc<Gate>,
    heads: Arc<Heads>,
}

impl Readers {
    pub(super) fn new(folder: PathBuf, gate: Arc<Gate>) -> Self {
        Self {
            folder,
            idle: Arc::default(),
            permits: Arc::new(Semaphore::new(READERS)),
            gate,
            heads: Arc::default(),
        }
    }

    pub(super) async fn list(&self, query: Query, places: Places) -> Result<Page, Failure> {
        let heads = Arc::clone(&self.heads);
        self.read(move |connection, gate| list::list(connection, gate, &heads, query, places))
            .await
    }

    /// Calls by their numbers, as many of the first ones as one answer may have.
    pub(super) async fn calls(&self, arrivals: Vec<u64>) -> Result<Vec<Option<Call>>, Failure> {
        self.read(move |connection, gate| {
            let _inside = gate.enter();
            call::calls(connection, &arrivals)
        })
        .await
    }

    pub(super) async fn call(&self, arrival: u64) -> Result<Option<Call>, Failure> {
        self.read(move |connection, gate| {
            let _inside = gate.enter();
            call::call(connection, arrival)
        })
        .await
    }

    pub(super) async fn place(&self, arrival: u64) -> Result<Option<Place>, Failure> {
        self.read(move |connection, gate| {
            let _inside = gate.enter();
            call::place(connection, arrival)
        })
        .await
    }

    pub(super) async fn arrived(&self, after: u64, filter: Filter) -> Result<Arrived, Failure> {
        self.read(move |connection, gate| list::arrived(connection, gate, after, &filter))
            .await
    }

    pub(super) async fn stats(&self, query: StatsQuery) -> Result<Stats, Failure> {
        let heads = Arc::clone(&self.heads);
        self.read_in_two(move |connection, helper, gate| {
            statistics::stats(connection, helper, (gate, &heads), &query)
        })
        .await
    }

    pub(super) async fn top(&self, query: TopQuery) -> Result<Top, Failure> {
        let heads = Arc::clone(&self.heads);
        self.read_in_two(move |connection, helper, gate| {
            statistics::top(connection, helper, (gate, &heads), &query)
        })
        .await
    }

    pub(super) async fn ledgers(&self) -> Result<Vec<Posted>, Failure> {
        self.read(|connection, gate| {
            let _inside = gate.enter();
            ledgers::all(connection)
        })
        .await
    }

    pub(super) async fn losses(&self, query: LossesQuery) -> Result<Vec<LossesAt>, Failure> {
        self.read(move |connection, gate| {
            let _inside = gate.enter();
            Ok(coverage::losses(connection, query)?)
        })
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

    /// Runs a query that has another connection for a second thread.
    async fn read_in_two<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection, &mut Connection, &Gate) -> anyhow::Result<T> + Send + 'static,
    ) -> Result<T, Failure> {
        let readers = self.clone();
        self.read(move |connection, gate| {
            let mut helper = readers.connection()?;
            let answer = query(connection, &mut helper, gate);
            readers.idle().push(helper);
            answer
        })
        .await
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
            "keys_forgotten" => totals.keys_forgotten = value,
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
