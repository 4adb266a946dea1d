//! The write-ahead log, and the checkpoints that keep it within its bound.
//!
//! SQLite's automatic checkpoints never wait for a query, so overlapping queries starve them. Here the writing thread makes the
//! checkpoints itself, behind the gate that holds queries back for the moment. A reader in another program, such as a user's
//! SQLite shell with an open transaction, cannot be held back: it is waited for shortly, and the log grows until it ends.
//!
//! Most of a checkpoint is copying pages and waiting for the disk, for which bundles would wait as well. So another thread copies what
//! is in the log first, while the writing thread goes on, then what has come meanwhile, and so on until that is little, which is left
//! for the writing thread. Only where that takes too long does the writing thread copy all of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::Connection;

use super::gate::Gate;
use crate::limits::{
    BUSY_WAIT, CHECKPOINT_WAIT, QUERIES_WAIT, WAL_CHECKPOINT_BYTES, WAL_COPY_BYTES, WAL_REST_BYTES,
};

/// Name of the file beside the database.
pub(super) const WAL_NAME: &str = "calls.sqlite-wal";

/// The log of the database in one folder.
#[derive(Debug)]
pub(super) struct Wal {
    path: PathBuf,
    gate: Arc<Gate>,
    /// Length that it had when it was emptied last: more than none where another program reads.
    left_bytes: u64,
    /// Length in addition to that at which the next step is due.
    next_bytes: u64,
    /// The other thread has begun to copy it.
    is_copied: bool,
    copier: Option<Copier>,
}

impl Wal {
    /// The log of the database in `folder`, whose readers pass `gate`. `copying` is a connection for the other thread.
    pub(super) fn new(folder: &Path, gate: Arc<Gate>, copying: Option<Connection>) -> Self {
        // Without it the writing thread does all of it.
        let copier =
            copying.and_then(|connection| Copier::start(connection, folder.join(WAL_NAME)).ok());
        Self {
            path: folder.join(WAL_NAME),
            gate,
            left_bytes: 0,
            next_bytes: WAL_COPY_BYTES,
            is_copied: false,
            copier,
        }
    }

    /// Empties the log if it is long enough, or has it copied. To be called between transactions.
    pub(super) fn keep_short(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let bytes = bytes(&self.path).saturating_sub(self.left_bytes);
        if bytes >= WAL_CHECKPOINT_BYTES {
            return self.empty(connection);
        }
        let Some(copier) = &self.copier else {
            return Ok(());
        };
        if bytes < self.next_bytes || !copier.has_ended() {
            return Ok(());
        }
        if !self.is_copied {
            self.is_copied = copier.begin();
            return Ok(());
        }
        if !self.empty_within(connection, Some(QUERIES_WAIT))? {
            // A query does not come to its pause. What has come by the next attempt is copied before.
            self.is_copied = false;
            self.next_bytes = bytes + WAL_REST_BYTES;
        }
        Ok(())
    }

    /// Copies the log into the database and truncates it.
    pub(super) fn empty(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        self.empty_within(connection, None).map(drop)
    }

    /// False if queries did not pause in time.
    fn empty_within(
        &mut self,
        connection: &Connection,
        most: Option<Duration>,
    ) -> rusqlite::Result<bool> {
        if let Some(copier) = &self.copier {
            // Two checkpoints at a time are impossible.
            copier.wait();
        }
        let Some(closed) = self.gate.close(most) else {
            return Ok(false);
        };
        connection.busy_timeout(CHECKPOINT_WAIT)?;
        let done = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        connection.busy_timeout(BUSY_WAIT)?;
        drop(closed);
        // Nothing is left of the log unless another program reads: then the next attempt is due when it has grown again.
        self.left_bytes = bytes(&self.path);
        self.next_bytes = WAL_COPY_BYTES;
        self.is_copied = false;
        done.map(|()| true)
    }

    /// Ends the other thread, and empties the log.
    pub(super) fn close(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        if let Some(copier) = self.copier.take() {
            copier.end();
        }
        self.empty(connection)
    }
}

/// Length of the log.
fn bytes(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |file| file.len())
}

/// Copies the log into the database until little of it is left. What cannot be copied is left for the writing thread, which reports
/// what is wrong.
fn copy(connection: &Connection, path: &Path) {
    for _ in 0..COPY_ROUNDS_MAX {
        let before = bytes(path);
        let done = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
        if done.is_err() || bytes(path).saturating_sub(before) < WAL_REST_BYTES {
            return;
        }
    }
}

/// Rounds of copying: each leaves what came while it lasted, which is less each time unless bundles come as fast as it copies.
const COPY_ROUNDS_MAX: usize = 4;

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
    fn start(connection: Connection, path: PathBuf) -> std::io::Result<Self> {
        let (orders, ordered) = channel();
        let work = Arc::<Work>::default();
        let of_thread = Arc::clone(&work);
        let thread = std::thread::Builder::new()
            .name("store-checkpoint".into())
            .spawn(move || {
                for () in ordered {
                    copy(&connection, &path);
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
