//! Calls in one SQLite file.
//!
//! One thread writes (`writer`), a few connections read (`reader`). Calls have numbers in their order of arrival. They are kept in
//! blocks, column by column (`block`), and their lines in chunks, compressed (`chunk`): a query on any column reads little, and
//! there is no index that every insert would change. What is counted by the minute is in `minutes`.
//!
//! An id has the number of the call and its time, which together are its place in the list.

mod block;
mod chunk;
mod damaged;
mod database;
mod deletion;
pub(crate) mod dump;
mod file;
mod gate;
mod grams;
mod heads;
mod judge;
mod keys;
mod ledgers;
mod lock;
mod merge;
mod migration;
mod minutes;
mod place;
mod prepared;
pub mod query;
mod queue;
mod reader;
mod retention;
mod room;
mod wal;
mod writer;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use rusqlite::Connection;
use tokio::sync::watch;

use super::{Backend, Expired, Failure, Health, Retention, Stored};
use crate::bundle::Bundle;
use crate::call::{
    Arrival, Arrived, Call, CallId, DeleteQuery, Deleted, LossesAt, LossesQuery, Page, Query,
    Stats, StatsQuery, Top, TopQuery, Totals,
};
use crate::endpoint::Endpoints;
use crate::filter::Filter;
use crate::folder::Folder;
use crate::ledger::{Ledger, Posted};
use crate::limits::ENDPOINTS_FILE_BYTES_MAX;
use crate::sender::Sender;

use database::Database;
pub(crate) use file::FILE_NAMES;
use gate::Gate;
use place::{Id, Place, Places, number};
use reader::Readers;
use wal::Wal;
use writer::Writer;

/// A SQLite file that is open for writing.
#[derive(Debug)]
pub struct Opened {
    folder: PathBuf,
    connection: Connection,
    lock: File,
    endpoints: Endpoints,
}

/// Name of the user's templates of endpoints in the data folder.
const ENDPOINTS_NAME: &str = "endpoints.txt";

impl Opened {
    /// Opens `calls.sqlite` in the folder; makes both where they are missing.
    ///
    /// # Errors
    /// The folder or the file cannot be used, another store uses it, or another version of this program wrote the file.
    pub fn new(folder: &Path) -> anyhow::Result<Self> {
        let folder = Folder::open(folder)?;
        let (connection, lock) = file::open_writer(&folder)?;
        let templates = folder.path().join(ENDPOINTS_NAME);
        let endpoints = match std::fs::read_to_string(&templates) {
            Ok(text) if text.len() > ENDPOINTS_FILE_BYTES_MAX => {
                anyhow::bail!(
                    "{}: more than {ENDPOINTS_FILE_BYTES_MAX} bytes",
                    templates.display()
                )
            }
            Ok(text) => Endpoints::new(&text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Endpoints::default(),
            Err(error) => {
                return Err(error).with_context(|| templates.display().to_string());
            }
        };
        Ok(Self {
            folder: folder.path().to_owned(),
            connection,
            lock,
            endpoints,
        })
    }

    /// Moves the calls of an earlier version, and starts the writing thread.
    ///
    /// # Errors
    /// The thread cannot be started, or the file cannot be read.
    pub fn start(self, retention: Retention) -> anyhow::Result<Sqlite> {
        let gate = Arc::<Gate>::default();
        let copying = file::open_checkpointer(&self.folder).ok();
        let mut wal = Wal::new(&self.folder, Arc::clone(&gate), copying);
        let mut database = Database::new(self.connection, self.endpoints)?;
        migration::finish(&mut database, &mut wal)?;
        Ok(Sqlite {
            writer: Writer::start(database, self.lock, wal, retention)?,
            readers: Readers::new(self.folder, gate),
        })
    }
}

/// Calls in a SQLite file.
#[derive(Clone, Debug)]
pub struct Sqlite {
    writer: Writer,
    readers: Readers,
}

impl Backend for Sqlite {
    async fn insert(&self, bundle: Bundle) -> Result<Stored, Failure> {
        self.writer.insert(bundle).await
    }

    async fn list(&self, query: Query) -> Result<Page, Failure> {
        let places = Places {
            before: self.place(query.before.as_ref()).await?,
            after: self.place(query.after.as_ref()).await?,
        };
        self.readers.list(query, places).await
    }

    async fn call(&self, id: CallId) -> Result<Option<Call>, Failure> {
        let id = Id::parse(&id).ok_or_else(|| not_ours(&id))?;
        self.readers.call(id.arrival).await
    }

    async fn calls(&self, ids: Vec<CallId>) -> Result<Vec<Option<Call>>, Failure> {
        let arrival = |id: &CallId| {
            Id::parse(id)
                .map(|id| id.arrival)
                .ok_or_else(|| not_ours(id))
        };
        let arrivals = ids.iter().map(arrival).collect::<Result<_, _>>()?;
        self.readers.calls(arrivals).await
    }

    async fn arrived(&self, after: Arrival, filter: Filter) -> Result<Arrived, Failure> {
        let after = number(after.as_str()).ok_or_else(|| not_ours(&after))?;
        self.readers.arrived(after, filter).await
    }

    async fn stats(&self, query: StatsQuery) -> Result<Stats, Failure> {
        self.readers.stats(query).await
    }

    async fn top(&self, query: TopQuery) -> Result<Top, Failure> {
        self.readers.top(query).await
    }

    async fn delete(&self, query: DeleteQuery) -> Result<Deleted, Failure> {
        self.writer.delete(query).await
    }

    async fn record_ledger(&self, sender: Sender, ledger: Ledger) -> Result<(), Failure> {
        self.writer.record_ledger(sender, ledger).await
    }

    async fn ledgers(&self) -> Result<Vec<Posted>, Failure> {
        self.readers.ledgers().await
    }

    async fn losses(&self, query: LossesQuery) -> Result<Vec<LossesAt>, Failure> {
        self.readers.losses(query).await
    }

    async fn totals(&self) -> Result<Totals, Failure> {
        self.readers.totals().await
    }

    async fn expire(&self) -> Result<Expired, Failure> {
        self.writer.expire().await
    }

    async fn close(&self) -> anyhow::Result<()> {
        self.writer.close().await
    }

    fn arrivals(&self) -> watch::Receiver<Arrival> {
        self.writer.arrivals()
    }

    fn recognises(&self, place: &Arrival) -> bool {
        number(place.as_str()).is_some()
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.writer.health()
    }
}

impl Sqlite {
    /// The place that an id is of. One of an earlier version has no time: that of its call counts, and where that was deleted, the
    /// place is behind the oldest.
    async fn place(&self, id: Option<&CallId>) -> Result<Option<Place>, Failure> {
        let Some(id) = id else { return Ok(None) };
        let Id { arrival, time_ms } = Id::parse(id).ok_or_else(|| not_ours(id))?;
        if let Some(time_ms) = time_ms {
            return Ok(Some(Place { time_ms, arrival }));
        }
        let found = self.readers.place(arrival).await?;
        Ok(Some(found.unwrap_or(Place {
            time_ms: 0,
            arrival,
        })))
    }
}

fn not_ours(text: &impl std::fmt::Display) -> Failure {
    Failure::Invalid(format!(
        "{text} is not an id of this store: its ids are pairs of numbers"
    ))
}
