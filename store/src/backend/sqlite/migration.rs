//! Rewriting of a file of schema 2, which had a row for each call, into blocks.
//!
//! The old table is renamed in one transaction with the new tables. Its calls are moved in order, some thousand in one
//! transaction, before the store is ready; a process that dies in between goes on where it was. Numbers, times of arrival and
//! senders stay. A `now` that could not be is the time of arrival, as for a new call. The old table is dropped in the end, and its
//! room is used by later calls, or goes back to the file system.

use anyhow::Context as _;
use rusqlite::{Connection, OptionalExtension, params};

use super::block::{signed, unsigned};
use super::database::{Database, newest};
use super::ledgers;
use super::wal::Wal;

use crate::limits::BLOCK_CALLS_MAX;
use crate::line::Columns;

/// Makes the new tables, and puts the old one aside.
pub(super) fn start(connection: &Connection, version: i64) -> anyhow::Result<()> {
    let transaction = connection.unchecked_transaction()?;
    transaction.execute_batch(
        "ALTER TABLE calls RENAME TO old_calls; DROP INDEX IF EXISTS calls_of_sender",
    )?;
    transaction.execute_batch(include_str!("calls.sql"))?;
    transaction.execute_batch(ledgers::TABLE)?;
    transaction.execute(
        "UPDATE counters SET value = coalesce((SELECT max(seq) FROM sqlite_sequence WHERE name = 'old_calls'), 0)
         WHERE name = 'newest'",
        [],
    )?;
    transaction.pragma_update(None, "user_version", version)?;
    Ok(transaction.commit()?)
}

/// Moves what is left of the old table.
pub(super) fn finish(database: &mut Database, wal: &mut Wal) -> anyhow::Result<()> {
    let is_there = database
        .connection
        .query_row(
            "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'old_calls'",
            [],
            |_| Ok(()),
        )
        .optional()?
        .is_some();
    if !is_there {
        return Ok(());
    }
    while move_some(database).context("moving the calls of an earlier version")? {
        wal.keep_short(&database.connection)?;
    }
    database.change(|transaction, _| Ok(transaction.execute_batch("DROP TABLE old_calls")?))?;
    Ok(wal.empty(&database.connection)?)
}

/// One transaction; false when nothing is left. Each call keeps its number, all of which are below that of the newest.
fn move_some(database: &mut Database) -> anyhow::Result<bool> {
    let last_number = newest(&database.connection)?;
    database.change(|transaction, parts| {
        let mut select = transaction.prepare_cached(
            "SELECT id, sender, received_ms, line FROM old_calls ORDER BY id LIMIT ?1",
        )?;
        let mut rows = select.query([signed(BLOCK_CALLS_MAX as u64)])?;
        let mut last = None;
        while let Some(row) = rows.next()? {
            let id: i64 = row.get(0)?;
            let line = row.get_ref(3)?.as_str().unwrap_or_default();
            let mut columns = Columns::read(line).unwrap_or_default();
            columns.place_in_time(row.get(2)?, false);
            parts.continue_behind(unsigned(id).saturating_sub(1));
            parts.push(transaction, (row.get(1)?, line), columns)?;
            last = Some(id);
        }
        let Some(last) = last else { return Ok(false) };
        parts.continue_behind(last_number);
        parts.write(transaction)?;
        transaction
            .prepare_cached("DELETE FROM old_calls WHERE id <= ?1")?
            .execute(params![last])?;
        Ok(true)
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::backend::sqlite::Opened;
    use crate::backend::{Backend, Retention};
    use crate::call::Query;

    fn line(number: i64, now_ms: i64) -> String {
        format!(
            r#"[["request_method","GET"],["request_url","http://shop.example/orders/{number}"],["response_code","200"],["response_body","word{number}"],["now","{now_ms}"],["custom_field:vni","7"]]"#
        )
    }

    /// A file as the program of schema 2 left it: calls 4 to 9003, since the first three were deleted.
    fn old_file(folder: &Path, received_ms: i64) {
        let connection = Connection::open(folder.join("calls.sqlite")).expect("opens");
        connection
            .pragma_update(None, "auto_vacuum", "INCREMENTAL")
            .expect("before the tables");
        connection
            .execute_batch(include_str!("migration/schema2.sql"))
            .expect("the old schema");
        let mut insert = connection
            .prepare(
                "INSERT INTO calls VALUES (?1, ?2, ?3, NULL, NULL, 'GET', 'u', 'h', 'p', 200, NULL, NULL, '', '', ?4)",
            )
            .expect("SQL");
        connection.execute_batch("BEGIN").expect("begins");
        for id in 4..=9003 {
            let sender = 1 + id % 2;
            let line = line(id, received_ms - id);
            insert
                .execute(params![id, sender, received_ms, line])
                .expect("inserts");
        }
        connection
            .execute_batch(
                "INSERT INTO senders SELECT 1, 'capture', 4500, sum(octet_length(line)), 4502, 2 FROM calls WHERE sender = 1;
                 INSERT INTO senders SELECT 2, 'local', 4500, sum(octet_length(line)), 4501, 1 FROM calls WHERE sender = 2;
                 UPDATE counters SET value = 9003 WHERE name = 'calls_received';
                 UPDATE counters SET value = 3 WHERE name = 'calls_expired';
                 INSERT INTO bundles (key, crc32, bytes, received_ms, lines, bad_lines) VALUES ('k', 1, 2, 3, 4, 5);
                 COMMIT; PRAGMA user_version = 2;",
            )
            .expect("totals");
    }

    #[tokio::test]
    async fn a_file_of_schema_2_is_rewritten_and_keeps_everything() {
        let folder = tempfile::tempdir().expect("folder");
        let received_ms = crate::clock::unix_ms() - 3_600_000;
        old_file(folder.path(), received_ms);
        for start in 0..2 {
            if start == 0 {
                // A process that dies in between: one transaction was made.
                let opened = Opened::new(folder.path()).expect("opens");
                let mut database =
                    Database::new(opened.connection, opened.endpoints).expect("memory");
                assert!(move_some(&mut database).expect("moves"));
            }
            let opened = Opened::new(folder.path()).expect("opens");
            let backend = opened.start(Retention::default()).expect("starts");
            let totals = backend.totals().await.expect("totals");
            assert_eq!(
                (totals.calls, totals.calls_received, totals.calls_expired),
                (9000, 9003, 3)
            );
            let lines: u64 = totals.senders.iter().map(|sender| sender.bytes).sum();
            let expected: usize = (4..=9003).map(|id| line(id, received_ms - id).len()).sum();
            assert_eq!(lines, expected as u64);
            let mut query = Query {
                limit: 1000,
                ..Query::default()
            };
            let mut found = Vec::new();
            loop {
                let page = backend.list(query.clone()).await.expect("a page");
                found.extend(page.calls);
                let Some(next) = page.next else { break };
                query.before = Some(next);
            }
            // The time of each was before that of the one before it.
            let ids: Vec<String> = found.iter().map(|call| call.id.to_string()).collect();
            let expected = (4..=9003).map(|id| format!("{id}-{}", received_ms - id));
            assert_eq!(ids, expected.collect::<Vec<_>>());
            assert_eq!(found[0].endpoint, "/orders/*");
            assert_eq!(found[0].vni, Some(7));
            // An id of the earlier version.
            let call = backend.call(4711.into()).await.expect("answers");
            assert_eq!(call.expect("the call").line, line(4711, received_ms - 4711));
            assert_eq!(backend.arrivals().borrow().as_str(), "9003");
            backend.close().await.expect("closes");
        }
        let connection = Connection::open(folder.path().join("calls.sqlite")).expect("opens");
        let left: i64 = connection
            .query_row(
                "SELECT count(*) FROM sqlite_schema WHERE name IN ('old_calls', 'calls', 'calls_of_sender')",
                [],
                |row| row.get(0),
            )
            .expect("reads");
        let keys: i64 = connection
            .query_row("SELECT count(*) FROM bundles", [], |row| row.get(0))
            .expect("reads");
        assert_eq!((left, keys), (0, 1));
    }
}
