//! The database as the writing thread has it: transactions, and what they put into tables.

use rusqlite::{Connection, Transaction, params};

use super::block::{Rows, signed, unsigned};
use super::chunk::Lines;
use super::grams::Grams;
use super::merge;
use super::minutes::Minutes;
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
    endpoints: Endpoints,
    /// Number of the newest call.
    pub(super) newest: u64,
    /// The grams of the bundle whose calls come are among those of the rows.
    has_prepared_grams: bool,
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
                endpoints,
                newest,
                has_prepared_grams: false,
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

impl Parts {
    /// Adds a call with a number of its own.
    pub(super) fn push(
        &mut self,
        transaction: &Transaction<'_>,
        (sender, line): (i64, &str),
        call: Columns,
    ) -> anyhow::Result<()> {
        self.lines.push(transaction, self.newest + 1, line)?;
        self.rows.add_grams_of(line);
        self.push_columns(transaction, (sender, line.len()), call)
    }

    /// Adds a call whose line is added apart, with the grams of it and of others.
    pub(super) fn push_prepared(
        &mut self,
        transaction: &Transaction<'_>,
        (sender, line_bytes): (i64, usize),
        call: Columns,
        grams: &Grams,
    ) -> anyhow::Result<()> {
        // Calls of the same bundle, which are next to each other, have the same.
        if self.rows.len() == 0 || !self.has_prepared_grams {
            self.rows.merge_grams(grams);
            self.has_prepared_grams = true;
        }
        self.push_columns(transaction, (sender, line_bytes), call)
    }

    /// The next calls are of another bundle.
    pub(super) fn begin_bundle(&mut self) {
        self.has_prepared_grams = false;
    }

    fn push_columns(
        &mut self,
        transaction: &Transaction<'_>,
        (sender, line_bytes): (i64, usize),
        mut call: Columns,
    ) -> anyhow::Result<()> {
        self.newest += 1;
        call.endpoint = self.endpoints.of(&call.path);
        self.minutes.add(transaction, &call)?;
        self.rows.push(self.newest, sender, line_bytes, &call);
        if self.rows.is_full() {
            self.rows.write(transaction)?;
        }
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
        merge::last(transaction, &mut self.lines)
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
