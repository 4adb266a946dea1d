//! The seam between the store and the database that keeps its calls.
//!
//! The capture URL, the API and the stream call [`Backend`] and nothing else of a database. An implementation is a folder
//! beneath this module and a variant of [`any::AnyBackend`]; `tests/store/conformance.rs` holds what each of them must do.

pub mod any;
#[cfg(feature = "clickhouse")]
pub mod clickhouse;
pub mod sqlite;

use std::fmt;
use std::future::Future;
use std::time::Duration;

use tokio::sync::watch;

use crate::bundle::Bundle;
use crate::call::{
    Arrival, Arrived, Call, CallId, DeleteQuery, Deleted, LossesAt, LossesQuery, Page, Query,
    Stats, StatsQuery, Top, TopQuery, Totals,
};
use crate::filter::Filter;
use crate::ledger::{Ledger, Posted};
use crate::limits;
use crate::sender::Sender;

/// A database of calls. Clones are handles to the same one.
pub trait Backend: Clone + Send + Sync + 'static {
    /// Stores a bundle. Returns once all of it would survive the death of this process, so that the sender may be answered with
    /// 204.
    ///
    /// Of a bundle with the key and the bytes of an earlier one nothing is stored again, whether the earlier one was stored whole
    /// or, since the process died or the disk was full, up to some line.
    fn insert(&self, bundle: Bundle) -> impl Future<Output = Result<Stored, Failure>> + Send;

    /// Calls that match, newest first by the time of the call, those of the same millisecond by arrival; within
    /// [`limits::SEARCH_TIME_MAX`].
    fn list(&self, query: Query) -> impl Future<Output = Result<Page, Failure>> + Send;

    /// One call; `None` when it is not there, or not any more.
    fn call(&self, id: CallId) -> impl Future<Output = Result<Option<Call>, Failure>> + Send;

    /// Calls by their ids, in the order of these; `None` for one that is not there, or not any more. Of many, or long ones, the
    /// answer has those of the first ids, one at least.
    fn calls(
        &self,
        ids: Vec<CallId>,
    ) -> impl Future<Output = Result<Vec<Option<Call>>, Failure>> + Send;

    /// Calls that arrived after a place and match, for the live list.
    fn arrived(
        &self,
        after: Arrival,
        filter: Filter,
    ) -> impl Future<Output = Result<Arrived, Failure>> + Send;

    /// Statistics of the calls that match, within [`limits::SEARCH_TIME_MAX`]; past it the answer has what was counted, with
    /// [`Coverage::partial`](crate::call::Coverage::partial).
    fn stats(&self, query: StatsQuery) -> impl Future<Output = Result<Stats, Failure>> + Send;

    /// The most frequent values of a field, within the same bound.
    fn top(&self, query: TopQuery) -> impl Future<Output = Result<Top, Failure>> + Send;

    /// Deletes calls that match, one short round of it; the columns and the lines are gone from the database when it returns,
    /// the counts of the statistics stay.
    fn delete(&self, query: DeleteQuery) -> impl Future<Output = Result<Deleted, Failure>> + Send;

    /// Takes the ledger of a sniffer. What it lost since the ledger of the same run before is counted as lost now, for the coverage.
    fn record_ledger(
        &self,
        sender: Sender,
        ledger: Ledger,
    ) -> impl Future<Output = Result<(), Failure>> + Send;

    /// The last ledger of each run of a sniffer, at most [`limits::LEDGERS_MAX`].
    fn ledgers(&self) -> impl Future<Output = Result<Vec<Posted>, Failure>> + Send;

    /// Calls that were lost, in the order of their values and times, those of each value and point summed up.
    fn losses(
        &self,
        query: LossesQuery,
    ) -> impl Future<Output = Result<Vec<LossesAt>, Failure>> + Send;

    /// Totals for the status.
    fn totals(&self) -> impl Future<Output = Result<Totals, Failure>> + Send;

    /// Deletes some calls beyond the retention: the oldest of the sender that has the most (`docs/limits.md`).
    fn expire(&self) -> impl Future<Output = Result<Expired, Failure>> + Send;

    /// Commits the bundles that were accepted and closes the database. Later inserts fail, through any handle.
    ///
    /// # Errors
    /// A thread of the backend panicked.
    fn close(&self) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// The place behind the newest call, and a way to wait for the next.
    fn arrivals(&self) -> watch::Receiver<Arrival>;

    /// Whether this kind of backend could have written the place.
    fn recognises(&self, place: &Arrival) -> bool;

    /// Whether bundles can be stored now, and a way to wait for a change.
    fn health(&self) -> watch::Receiver<Health>;
}

/// Rows that a statement of a user has selected.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selected {
    /// Names of the columns.
    pub columns: Vec<String>,
    /// The rows.
    pub rows: Vec<Vec<serde_json::Value>>,
    /// There are more than [`limits::SQL_ROWS_MAX`].
    pub truncated: bool,
}

/// Result of storing a bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// Its calls are new.
    New,
    /// The same key with the same bytes was stored before.
    Repeated,
}

/// Why a backend did not do what was requested. The sentence is for the log of whoever sent the request, and for the page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The request is at fault and would fail again: 4xx.
    Invalid(String),
    /// The store is at fault; the same request may succeed later: 503 with `Retry-After`.
    Unavailable(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(text) | Self::Unavailable(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Failure {}

/// Whether bundles can be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// The last attempt succeeded, or there was none.
    Up,
    /// The last attempt failed, with the reason.
    Down(String),
}

/// Result of one round of deleting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expired {
    /// Calls deleted.
    pub calls: u64,
    /// Another round is due: the store is still beyond its retention, or has much space to give back.
    pub is_more: bool,
}

/// How much is kept; past one of the bounds the oldest calls are deleted and counted: past a number those of the sender that has
/// the most first, past the age those of all senders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Number of calls.
    pub calls_max: u64,
    /// Bytes of the database in use, at least [`limits::DATABASE_BYTES_MIN`].
    pub database_bytes_max: u64,
    /// Time since a call was received.
    pub age_max: Option<Duration>,
    /// Time for which the key of a bundle is remembered, at least as long as its sender may keep it and send it again; see
    /// [`limits::KEYS_MAX`].
    pub keys_age: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            calls_max: limits::CALLS_MAX,
            database_bytes_max: limits::DATABASE_BYTES_MAX,
            age_max: None,
            keys_age: limits::KEYS_AGE,
        }
    }
}
