//! The write-ahead log, and the checkpoints that keep it within its bound.
//!
//! SQLite's automatic checkpoints never wait for a query, so overlapping queries starve them. Here the writing thread makes the
//! checkpoints itself, behind the gate that holds queries back for the moment. A reader in another program, such as a user's
//! SQLite shell with an open transaction, cannot be held back: it is waited for shortly, and the log grows until it ends.

use std::path::PathBuf;
use std::sync::Arc;

use rusqlite::Connection;

use super::gate::Gate;
use crate::limits::{BUSY_WAIT, CHECKPOINT_WAIT, WAL_CHECKPOINT_BYTES};

/// Name of the file beside the database.
pub(super) const WAL_NAME: &str = "calls.sqlite-wal";

/// The log of the database in one folder.
#[derive(Debug)]
pub(super) struct Wal {
    path: PathBuf,
    gate: Arc<Gate>,
    /// Length of the file at which the next checkpoint is due.
    due_bytes: u64,
}

impl Wal {
    /// The log of the database in `folder`, whose readers pass `gate`.
    pub(super) fn new(folder: &std::path::Path, gate: Arc<Gate>) -> Self {
        Self {
            path: folder.join(WAL_NAME),
            gate,
            due_bytes: WAL_CHECKPOINT_BYTES,
        }
    }

    /// Empties the log if it is long enough. To be called between transactions.
    pub(super) fn keep_short(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        if self.bytes() < self.due_bytes {
            return Ok(());
        }
        self.empty(connection)
    }

    /// Copies the log into the database and truncates it.
    pub(super) fn empty(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let closed = self.gate.close();
        connection.busy_timeout(CHECKPOINT_WAIT)?;
        let done = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        connection.busy_timeout(BUSY_WAIT)?;
        drop(closed);
        // Nothing is left of the log unless another program reads: then the next attempt is due when it has grown again.
        self.due_bytes = self.bytes() + WAL_CHECKPOINT_BYTES;
        done
    }

    fn bytes(&self) -> u64 {
        std::fs::metadata(&self.path).map_or(0, |file| file.len())
    }
}
