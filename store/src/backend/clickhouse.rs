//! Calls in a ClickHouse, one server or a cluster, of which any number of stores may be in front: a store keeps nothing itself.
//!
//! ```text
//! insert → writer (groups for each shard) ─┐
//!                                          ├─ client (HTTP, RowBinary) → calls, minutes, losses, ledgers
//! list, stats → scan, statistics ← reader ─┘                              (schema)
//! ```
//!
//! An id has a call's time, bundle and line: its place in the list, the same in every store. SQL narrows, and what it lets through
//! is examined again, see `sql.rs`. `docs/scale-out.md` is the manual.

mod address;
mod binary;
mod changes;
mod client;
mod committed;
mod dialect;
mod ledgers;
mod list;
mod reader;
mod row;
mod scan;
mod schema;
mod select;
mod sql;
mod statistics;
mod sums;
mod tail;
mod writer;

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use tokio::sync::watch;

use super::{Backend, Expired, Failure, Health, Retention, Selected, Stored};
use crate::bundle::Bundle;
use crate::call::{
    Arrival, Arrived, Call, CallId, DeleteQuery, Deleted, LossesAt, LossesQuery, Page, Query,
    Stats, StatsQuery, Top, TopQuery, Totals,
};
use crate::endpoint::Endpoints;
use crate::filter::Filter;
use crate::ledger::{Ledger, Posted};
use crate::sender::Sender;

pub use address::{Address, NotAnAddress};
pub use client::Password;
pub use schema::{Migrated, NeedsMigration};

use binary::Reader as Binary;
use client::Client;
use dialect::Dialect;
use reader::Reader;
use schema::Names;
use select::Selects;
use tail::Tail;
use writer::Writer;

/// A ClickHouse and how to reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its address.
    pub address: Address,
    /// The password of its user.
    pub password: Password,
    /// The password of the reader, if the address names one.
    pub reader_password: Password,
}

impl Target {
    /// The statements that make the tables, for an administrator.
    ///
    /// # Errors
    /// The server cannot be reached, or is not supported.
    pub fn plan(&self) -> anyhow::Result<Vec<String>> {
        apart(|| schema::plan(&self.address, &self.password))
    }

    /// Makes the tables that are missing.
    ///
    /// # Errors
    /// The server cannot be reached, is not supported, or refuses a statement.
    pub fn migrate(&self) -> anyhow::Result<Migrated> {
        apart(|| schema::migrate(&self.address, &self.password))
    }
}

/// Runs something to its end on a thread and a runtime of its own, whether the caller has one or not.
fn apart<T: Send, F: Future<Output = anyhow::Result<T>>>(
    run: impl FnOnce() -> F + Send,
) -> anyhow::Result<T> {
    thread::scope(|scope| {
        let running = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .context("starting a thread for ClickHouse")?;
            runtime.block_on(run())
        });
        running
            .join()
            .unwrap_or_else(|_| Err(anyhow!("the thread for ClickHouse panicked")))
    })
}

/// A ClickHouse whose tables are those that are needed.
#[derive(Debug)]
pub struct Opened {
    client: Client,
    names: Names,
    dialect: Dialect,
    shards: Vec<u32>,
    since_ms: i64,
    selects: Option<Selects>,
}

impl Opened {
    /// Compares the tables with what is needed. Names are looked up now and not again.
    ///
    /// # Errors
    /// The server cannot be reached or is not supported, or its tables are others ([`NeedsMigration`], by `downcast_ref`).
    pub fn new(target: &Target) -> anyhow::Result<Self> {
        let Target {
            address,
            password,
            reader_password,
        } = target;
        let names = Names::of(address);
        let (dialect, shards, since_ms, selects) = apart(|| async {
            let anywhere = Client::new(address, password, false)?;
            let dialect = schema::dialect(&anywhere).await?;
            let since_ms = schema::compare(&anywhere, &names, dialect).await?;
            let shards = shards(&anywhere, &names).await?;
            let selects = Selects::new(address, reader_password, dialect).await?;
            Ok((dialect, shards, since_ms, selects))
        })
        .with_context(|| address.to_string())?;
        Ok(Self {
            client: Client::new(address, password, true)?,
            names,
            dialect,
            shards,
            since_ms,
            selects,
        })
    }

    /// All addresses that the store connects to.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.client.addresses().collect()
    }

    /// Starts the tasks; inside of a runtime.
    ///
    /// # Errors
    /// There is no random number.
    pub fn start(self, retention: Retention) -> anyhow::Result<ClickHouse> {
        let tail = Tail::new(getrandom::u64()?);
        let (closing, closed) = watch::channel(false);
        drop(tokio::spawn(tail.clone().poll(self.client.clone(), closed)));
        let writer = Writer::start(
            &self.client,
            self.dialect,
            &self.names,
            &self.shards,
            Endpoints::default(),
            &tail,
        );
        Ok(ClickHouse {
            writer,
            reader: Reader::new(self.client, self.names, tail, self.shards.len()),
            closing,
            retention,
            since_ms: self.since_ms,
            selects: self.selects,
        })
    }
}

/// The weights of the shards, in their order; none without a cluster.
async fn shards(client: &Client, names: &Names) -> anyhow::Result<Vec<u32>> {
    let Some(cluster) = &names.cluster else {
        return Ok(Vec::new());
    };
    let sql = format!(
        "SELECT shard_num, any(shard_weight) FROM system.clusters WHERE cluster = {} GROUP BY shard_num ORDER BY shard_num FORMAT RowBinary",
        sql::literal(cluster)
    );
    let answer = client.read(sql, &[], Duration::from_secs(10)).await?;
    let mut reader = Binary(&answer);
    let mut weights = Vec::new();
    while reader.has_more() {
        reader.u32()?;
        weights.push(reader.u32()?);
    }
    anyhow::ensure!(!weights.is_empty(), "the server knows no cluster {cluster}");
    Ok(weights)
}

/// Calls in a ClickHouse.
#[derive(Clone, Debug)]
pub struct ClickHouse {
    writer: Writer,
    reader: Reader,
    closing: watch::Sender<bool>,
    retention: Retention,
    since_ms: i64,
    selects: Option<Selects>,
}

impl ClickHouse {
    /// The rows of a statement of a user over the tables themselves.
    ///
    /// # Errors
    /// There is no reader for such statements, or the statement is not possible.
    pub async fn select(&self, sql: &str) -> Result<Selected, Failure> {
        let Some(selects) = &self.selects else {
            let text = "database: the address of the store's ClickHouse names no reader=";
            return Err(Failure::Invalid(text.into()));
        };
        selects.select(sql).await
    }
}

impl Backend for ClickHouse {
    async fn insert(&self, bundle: Bundle) -> Result<Stored, Failure> {
        self.writer.insert(bundle).await
    }

    async fn list(&self, query: Query) -> Result<Page, Failure> {
        self.reader.list(query).await
    }

    async fn call(&self, id: CallId) -> Result<Option<Call>, Failure> {
        self.reader.call(id).await
    }

    async fn calls(&self, ids: Vec<CallId>) -> Result<Vec<Option<Call>>, Failure> {
        self.reader.calls(ids).await
    }

    async fn arrived(&self, after: Arrival, filter: Filter) -> Result<Arrived, Failure> {
        self.reader.arrived(after, filter).await
    }

    async fn stats(&self, query: StatsQuery) -> Result<Stats, Failure> {
        self.reader.stats(query).await
    }

    async fn top(&self, query: TopQuery) -> Result<Top, Failure> {
        self.reader.top(query).await
    }

    async fn delete(&self, query: DeleteQuery) -> Result<Deleted, Failure> {
        self.reader.delete(query).await
    }

    async fn record_ledger(&self, sender: Sender, ledger: Ledger) -> Result<(), Failure> {
        self.reader.record_ledger(sender, ledger).await
    }

    async fn ledgers(&self) -> Result<Vec<Posted>, Failure> {
        self.reader.ledgers().await
    }

    async fn losses(&self, query: LossesQuery) -> Result<Vec<LossesAt>, Failure> {
        self.reader.losses(query).await
    }

    async fn totals(&self) -> Result<Totals, Failure> {
        let totals = self.reader.totals().await?;
        Ok(Totals {
            since_ms: self.since_ms,
            bundles_repeated: self.writer.repeated(),
            ..totals
        })
    }

    async fn expire(&self) -> Result<Expired, Failure> {
        self.reader.expire(self.retention).await
    }

    async fn close(&self) -> anyhow::Result<()> {
        self.writer.close().await?;
        self.closing.send_replace(true);
        Ok(())
    }

    fn arrivals(&self) -> watch::Receiver<Arrival> {
        self.reader.tail.subscribe()
    }

    fn recognises(&self, place: &Arrival) -> bool {
        Tail::recognises(place)
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.writer.health()
    }
}
