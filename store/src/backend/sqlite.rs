//! Calls in one SQLite file that any SQLite tool can read.
//!
//! One thread writes (`writer`), a few connections read (`reader`). Ids are row numbers in order of arrival, so a call's id
//! and the place behind it in the order of arrival are the same number.

mod file;
mod gate;
mod lock;
mod queue;
mod reader;
mod retention;
mod wal;
mod writer;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::Connection;
use tokio::sync::watch;

use super::{Backend, Expired, Failure, Health, Retention, Stored};
use crate::bundle::Bundle;
use crate::call::{Arrival, Arrived, Call, CallId, Page, Query, Totals};
use crate::filter::Filter;
use crate::folder::Folder;

pub(crate) use file::FILE_NAMES;
use gate::Gate;
use reader::{Readers, Rows};
use wal::Wal;
use writer::Writer;

/// A SQLite file that is open for writing.
#[derive(Debug)]
pub struct Opened {
    folder: PathBuf,
    connection: Connection,
    lock: File,
}

impl Opened {
    /// Opens `calls.sqlite` in the folder; makes both where they are missing.
    ///
    /// # Errors
    /// The folder or the file cannot be used, another store uses it, or another version of this program wrote the file.
    pub fn new(folder: &Path) -> anyhow::Result<Self> {
        let folder = Folder::open(folder)?;
        let (connection, lock) = file::open_writer(&folder)?;
        Ok(Self {
            folder: folder.path().to_owned(),
            connection,
            lock,
        })
    }

    /// Starts the writing thread.
    ///
    /// # Errors
    /// The thread cannot be started, or the file cannot be read.
    pub fn start(self, retention: Retention) -> anyhow::Result<Sqlite> {
        let gate = Arc::<Gate>::default();
        let wal = Wal::new(&self.folder, Arc::clone(&gate));
        Ok(Sqlite {
            writer: Writer::start(self.connection, self.lock, wal, retention)?,
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
        let rows = Rows {
            below: query.before.as_ref().map(row).transpose()?,
            above: query.after.as_ref().map(row).transpose()?,
            limit: query.limit as u64,
        };
        self.readers.list(rows, query.filter).await
    }

    async fn call(&self, id: CallId) -> Result<Option<Call>, Failure> {
        self.readers.call(row(&id)?).await
    }

    async fn arrived(&self, after: Arrival, filter: Filter) -> Result<Arrived, Failure> {
        let after = number(after.as_str()).ok_or_else(|| not_ours(&after))?;
        self.readers.arrived(after, filter).await
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

/// The row of a call.
fn row(id: &CallId) -> Result<u64, Failure> {
    number(id.as_str()).ok_or_else(|| not_ours(id))
}

fn number(text: &str) -> Option<u64> {
    text.parse().ok()
}

fn not_ours(text: &impl std::fmt::Display) -> Failure {
    Failure::Invalid(format!(
        "{text} is not an id of this store: its ids are numbers"
    ))
}
