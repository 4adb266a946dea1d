//! The database as the writing thread has it: transactions, and what they put into tables.

use std::sync::Arc;

use rusqlite::{Connection, Transaction, params};

use super::block::{Rows, signed, unsigned};
use super::chunk::Lines;
use super::merge;
use super::minutes::Minutes;
use super::prepared::Unit;
use crate::endpoint::Endpoints;
use crate::line::Columns;

/// The database, and what is kept in memory between two transactions.
#[derive(Debug)]
pub(super) struct Database {
    pub(super) connection: Connection,
    pub(super) parts: Parts,
}

/// What puts calls into tables.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) lines: Lines,
    rows: Rows,
    minutes: Minutes,
    pub(super) endpoints: Arc<Endpoints>,
    /// Number of the newest call.
    pub(super) newest: u64,
}

impl Database {
    pub(super) fn new(connection: Connection, endpoints: Endpoints) -> anyhow::Result<Self> {
        let newest = newest(&connection)?;
        Ok(Self {
            connection,
            parts: Parts {
                lines: Lines::new()?,
                rows: Rows::default(),
                minutes: Minutes::default(),
                endpoints: Arc::new(endpoints),
                newest,
            },
        })
    }

    /// Runs a transaction. What it has put into memory is forgotten if it fails.
    pub(super) fn change<T>(
        &mut self,
        change: impl FnOnce(&Transaction<'_>, &mut Parts) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let Self { connection, parts } = self;
        let before = parts.newest;
        let transaction = connection.transaction()?;
        let changed = change(&transaction, parts).and_then(|changed| {
            transaction.commit()?;
            Ok(changed)
        });
        if changed.is_err() {
            parts.newest = before;
            parts.rows = Rows::default();
            parts.lines.forget();
            parts.minutes.forget();
        }
        changed
    }
}

/// Merges the small blocks that are last, if it is time to.
pub(super) fn merge(database: &mut Database) -> anyhow::Result<()> {
    if !merge::may_be_due(&database.connection)? {
        return Ok(());
    }
    database.change(|transaction, parts| merge::last(transaction, &mut parts.lines))
}

impl Parts {
    /// Adds a call with a number of its own.
    pub(super) fn push(
        &mut self,
        transaction: &Transaction<'_>,
        (sender, line): (i64, &str),
        mut call: Columns,
    ) -> anyhow::Result<()> {
        self.newest += 1;
        self.lines.push(transaction, self.newest, line)?;
        call.endpoint = self.endpoints.of(&call.path);
        self.minutes.add(transaction, &call)?;
        self.rows.add_grams_of(line);
        self.rows.push(self.newest, sender, line.len(), &call);
        if self.rows.is_full() {
            self.rows.write(transaction)?;
        }
        Ok(())
    }

    /// Adds calls that were prepared, as a block of their own.
    pub(super) fn push_unit(
        &mut self,
        transaction: &Transaction<'_>,
        sender: i64,
        unit: &Unit,
    ) -> anyhow::Result<()> {
        self.rows.write(transaction)?;
        let first = self.newest + 1;
        for chunk in &unit.chunks {
            let first = first + (chunk.from - unit.from) as u64;
            self.lines.push_packed(transaction, first, chunk)?;
        }
        unit.block.insert_as(transaction, first, sender)?;
        self.minutes.add_counts(transaction, &unit.counts)?;
        self.newest += (unit.end - unit.from) as u64;
        Ok(())
    }

    /// Writes what was added.
    pub(super) fn write(&mut self, transaction: &Transaction<'_>) -> anyhow::Result<()> {
        self.rows.write(transaction)?;
        self.lines.write(transaction)?;
        self.minutes.write(transaction)?;
        transaction
            .prepare_cached("UPDATE counters SET value = ?1 WHERE name = 'newest'")?
            .execute([signed(self.newest)])?;
        Ok(())
    }

    /// The next call has the number behind this one, which is larger than those of all calls that are stored.
    pub(super) fn continue_behind(&mut self, newest: u64) {
        self.newest = newest;
    }
}

/// The number of the newest call ever stored, in the order of arrival; 0 before the first one.
pub(super) fn newest(connection: &Connection) -> rusqlite::Result<u64> {
    connection
        .prepare_cached("SELECT value FROM counters WHERE name = 'newest'")?
        .query_row([], |row| Ok(unsigned(row.get(0)?)))
}

/// Adds to a total.
pub(super) fn count(transaction: &Transaction<'_>, name: &str, by: i64) -> rusqlite::Result<()> {
    if by != 0 {
        // A file that an earlier program made may lack a counter that was added later.
        transaction
            .prepare_cached(
                "INSERT INTO counters VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
            )?
            .execute(params![name, by])?;
    }
    Ok(())
}

/// A number as SQLite has it.
pub(super) fn integer(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}
