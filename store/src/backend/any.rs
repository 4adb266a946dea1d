//! The backend in use, one of those that are listed here.

use std::net::SocketAddr;
use std::path::PathBuf;

use tokio::sync::watch;

#[cfg(feature = "clickhouse")]
use super::clickhouse::{self, ClickHouse, Target};
use super::sqlite::{self, Sqlite};
use super::{Backend, Expired, Failure, Health, Retention, Selected, Stored};
use crate::bundle::Bundle;
use crate::call::{
    Arrival, Arrived, Call, CallId, DeleteQuery, Deleted, LossesAt, LossesQuery, Page, Query,
    Stats, StatsQuery, Top, TopQuery, Totals,
};
use crate::filter::Filter;
use crate::ledger::{Ledger, Posted};
use crate::sender::Sender;

/// Where the calls are kept, and so by which backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A SQLite file in this folder, which is made with mode 0700 when it is missing.
    Sqlite(PathBuf),
    /// A ClickHouse.
    #[cfg(feature = "clickhouse")]
    ClickHouse(Target),
}

impl Location {
    /// The names of the files in its folder.
    pub fn files(&self) -> &'static [&'static str] {
        match self {
            Self::Sqlite(_) => &sqlite::FILE_NAMES,
            #[cfg(feature = "clickhouse")]
            Self::ClickHouse(_) => &[],
        }
    }

    /// Opens the database. No thread is started.
    ///
    /// # Errors
    /// The database cannot be used; the message names it.
    pub fn open(&self) -> anyhow::Result<Opened> {
        Ok(match self {
            Self::Sqlite(folder) => Opened::Sqlite(sqlite::Opened::new(folder)?),
            #[cfg(feature = "clickhouse")]
            Self::ClickHouse(target) => Opened::ClickHouse(clickhouse::Opened::new(target)?),
        })
    }
}

/// A database that is open and ready.
#[derive(Debug)]
pub enum Opened {
    /// See [`Location::Sqlite`].
    Sqlite(sqlite::Opened),
    /// See [`Location::ClickHouse`].
    #[cfg(feature = "clickhouse")]
    ClickHouse(clickhouse::Opened),
}

impl Opened {
    /// The addresses that it connects to; none where it has files.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        match self {
            Self::Sqlite(_) => Vec::new(),
            #[cfg(feature = "clickhouse")]
            Self::ClickHouse(opened) => opened.addresses(),
        }
    }

    /// Starts the threads of the backend.
    ///
    /// # Errors
    /// A thread cannot be started, or the database cannot be read.
    pub fn start(self, retention: Retention) -> anyhow::Result<AnyBackend> {
        Ok(match self {
            Self::Sqlite(opened) => AnyBackend::Sqlite(opened.start(retention)?),
            #[cfg(feature = "clickhouse")]
            Self::ClickHouse(opened) => AnyBackend::ClickHouse(opened.start(retention)?),
        })
    }
}

/// One of the backends.
#[derive(Clone, Debug)]
pub enum AnyBackend {
    /// See [`Location::Sqlite`].
    Sqlite(Sqlite),
    /// See [`Location::ClickHouse`].
    #[cfg(feature = "clickhouse")]
    ClickHouse(ClickHouse),
}

/// The same operation on whichever backend it is.
macro_rules! each {
    ($any:ident, $backend:ident => $call:expr) => {
        match $any {
            Self::Sqlite($backend) => $call,
            #[cfg(feature = "clickhouse")]
            Self::ClickHouse($backend) => $call,
        }
    };
}

impl AnyBackend {
    /// The rows of a statement of a user over the tables themselves, where the backend is a database of its own.
    ///
    /// # Errors
    /// It is none, or the statement is not possible.
    pub async fn select(&self, sql: &str) -> Result<Selected, Failure> {
        match self {
            #[cfg(feature = "clickhouse")]
            Self::ClickHouse(backend) => backend.select(sql).await,
            Self::Sqlite(_) => {
                let text = "database: the calls of this store are in a file of its own";
                Err(Failure::Invalid(text.into()))
            }
        }
    }
}

impl Backend for AnyBackend {
    async fn insert(&self, bundle: Bundle) -> Result<Stored, Failure> {
        each!(self, backend => backend.insert(bundle).await)
    }

    async fn list(&self, query: Query) -> Result<Page, Failure> {
        each!(self, backend => backend.list(query).await)
    }

    async fn call(&self, id: CallId) -> Result<Option<Call>, Failure> {
        each!(self, backend => backend.call(id).await)
    }

    async fn calls(&self, ids: Vec<CallId>) -> Result<Vec<Option<Call>>, Failure> {
        each!(self, backend => backend.calls(ids).await)
    }

    async fn arrived(&self, after: Arrival, filter: Filter) -> Result<Arrived, Failure> {
        each!(self, backend => backend.arrived(after, filter).await)
    }

    async fn stats(&self, query: StatsQuery) -> Result<Stats, Failure> {
        each!(self, backend => backend.stats(query).await)
    }

    async fn top(&self, query: TopQuery) -> Result<Top, Failure> {
        each!(self, backend => backend.top(query).await)
    }

    async fn delete(&self, query: DeleteQuery) -> Result<Deleted, Failure> {
        each!(self, backend => backend.delete(query).await)
    }

    async fn record_ledger(&self, sender: Sender, ledger: Ledger) -> Result<(), Failure> {
        each!(self, backend => backend.record_ledger(sender, ledger).await)
    }

    async fn ledgers(&self) -> Result<Vec<Posted>, Failure> {
        each!(self, backend => backend.ledgers().await)
    }

    async fn losses(&self, query: LossesQuery) -> Result<Vec<LossesAt>, Failure> {
        each!(self, backend => backend.losses(query).await)
    }

    async fn totals(&self) -> Result<Totals, Failure> {
        each!(self, backend => backend.totals().await)
    }

    async fn expire(&self) -> Result<Expired, Failure> {
        each!(self, backend => backend.expire().await)
    }

    async fn close(&self) -> anyhow::Result<()> {
        each!(self, backend => backend.close().await)
    }

    fn arrivals(&self) -> watch::Receiver<Arrival> {
        each!(self, backend => backend.arrivals())
    }

    fn recognises(&self, place: &Arrival) -> bool {
        each!(self, backend => backend.recognises(place))
    }

    fn health(&self) -> watch::Receiver<Health> {
        each!(self, backend => backend.health())
    }
}
