//! The write-ahead log, and the checkpoints that keep it within its bound.
//!
//! SQLite's automatic checkpoints never wait for a query, so overlapping queries starve them. Here the writing thread makes the
//! checkpoints itself, behind the gate that holds queries back for the moment. A reader in another program, such as a user's
//! SQLite shell with an open transaction, cannot be held back: it is waited for shortly, and the log grows until it ends.
//!
//! Most of a checkpoint is copying pages and waiting for the disk, for which bundles would wait as well. So another thread copies what
//! is in the log first, while the writing thread goes on; what has come meanwhile is left for the writing thread, and is little. Only
//! where that takes too long does the writing thread copy all of it.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use rusqlite::Connection;

use super::gate::Gate;
use crate::limits::{BUSY_WAIT, CHECKPOINT_WAIT, WAL_CHECKPOINT_BYTES, WAL_COPY_BYTES};

/// Name of the file beside the database.
pub(super) const WAL_NAME: &str = "calls.sqlite-wal";

/// The log of the database in one folder.
#[derive(Debug)]
pub(super) struct Wal {
    path: PathBuf,
    gate: Arc<Gate>,
    /// Length of the file at which it is emptied, whatever was copied.
    due_bytes: u64,
    /// Its length when the other thread began to copy; none if it has not since the log was emptied.
    copied_bytes: Option<u64>,
    copier: Option<Copier>,
}

impl Wal {
    /// The log of the database in `folder`, whose readers pass `gate`. `copying` is a connection for the other thread.
    pub(super) fn new(folder: &Path, gate: Arc<Gate>, copying: Option<Connection>) -> Self {
        Self {
            path: folder.join(WAL_NAME),
            gate,
            due_bytes: WAL_CHECKPOINT_BYTES,
            copied_bytes: None,
            // Without it the writing thread does all of it.
            copier: copying.and_then(|connection| Copier::start(connection).ok()),
        }
    }

    /// Empties the log if it is long enough, or has it copied. To be called between transactions.
    pub(super) fn keep_short(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let bytes = self.bytes();
        if bytes >= self.due_bytes {
            return self.empty(connection);
        }
        let Some(copier) = &self.copier else {
            return Ok(());
        };
        let start_bytes = self.due_bytes - (WAL_CHECKPOINT_BYTES - WAL_COPY_BYTES);
        match self.copied_bytes {
            None if bytes >= start_bytes => {
                if copier.begin() {
                    self.copied_bytes = Some(bytes);
                }
                Ok(())
            }
            Some(_) if copier.has_ended() => self.empty(connection),
            _ => Ok(()),
        }
    }

    /// Copies the log into the database and truncates it.
    pub(super) fn empty(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        if let Some(copier) = &self.copier {
            // Two checkpoints at a time are impossible.
            copier.wait();
        }
        let closed = self.gate.close();
        connection.busy_timeout(CHECKPOINT_WAIT)?;
        let done = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        connection.busy_timeout(BUSY_WAIT)?;
        drop(closed);
        // Nothing is left of the log unless another program reads: then the next attempt is due when it has grown again.
        self.due_bytes = self.bytes() + WAL_CHECKPOINT_BYTES;
        self.copied_bytes = None;
        done
    }

    /// Ends the other thread, and empties the log.
    pub(super) fn close(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        if let Some(copier) = self.copier.take() {
            copier.end();
        }
        self.empty(connection)
    }

    fn bytes(&self) -> u64 {
        std::fs::metadata(&self.path).map_or(0, |file| file.len())
    }
}

/// The thread that copies, with a connection of its own.
#[derive(Debug)]
struct Copier {
    orders: Sender<()>,
    work: Arc<Work>,
    thread: JoinHandle<()>,
}

/// Whether the thread copies, and a way to wait for its end.
#[derive(Debug, Default)]
struct Work {
    is_busy: Mutex<bool>,
    ended: Condvar,
}

impl Work {
    fn is_busy(&self) -> MutexGuard<'_, bool> {
        self.is_busy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Copier {
    fn start(connection: Connection) -> std::io::Result<Self> {
        let (orders, ordered) = channel();
        let work = Arc::<Work>::default();
        let of_thread = Arc::clone(&work);
        let thread = std::thread::Builder::new()
            .name("store-checkpoint".into())
            .spawn(move || {
                for () in ordered {
                    // What it cannot copy is left for the writing thread, which reports what is wrong.
                    drop(connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())));
                    *of_thread.is_busy() = false;
                    of_thread.ended.notify_all();
                }
            })?;
        Ok(Self {
            orders,
            work,
            thread,
        })
    }

    /// Lets it copy what is in the log; false if it has not ended yet.
    fn begin(&self) -> bool {
        let mut is_busy = self.work.is_busy();
        if *is_busy {
            return false;
        }
        *is_busy = self.orders.send(()).is_ok();
        *is_busy
    }

    fn has_ended(&self) -> bool {
        !*self.work.is_busy()
    }

    /// Returns once it does not copy.
    fn wait(&self) {
        let mut is_busy = self.work.is_busy();
        while *is_busy {
            let woken = self.work.ended.wait(is_busy);
            is_busy = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn end(self) {
        drop(self.orders);
        // A panic there was reported by its own thread.
        drop(self.thread.join());
    }
}
