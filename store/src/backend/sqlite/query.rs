//! A connection on which SQL of a user reads the calls as a table.
//!
//! The view `calls` has a row for each call: `id`, one column for each field of [`crate::fields`], `facts` as a JSON object, and
//! `line`, which is read and unpacked only where a query names it. Behind it is a function that unpacks a block, on a connection
//! of its own: when the writer has merged or deleted a block since the query began, the query fails and can be made again.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use rusqlite::functions::FunctionFlags;
use rusqlite::{Connection, OptionalExtension};
use serde_json::{Value, json};

use super::block::{Block, HEAD, Head, unsigned};
use super::judge::{Senders, columns, senders};
use super::place::Place;
use super::{chunk, file};
use crate::fields::FIELDS;
use crate::line::Columns;

/// Opens a connection that cannot write, with the view `calls`.
///
/// # Errors
/// The database cannot be read.
pub fn open(folder: &Path) -> anyhow::Result<Connection> {
    let connection = file::open_reader(folder)?;
    // A temporary view counts as something that is written.
    connection.pragma_update(None, "query_only", false)?;
    add_view(&connection, file::open_reader(folder)?)?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

/// Adds the view to a connection; `other` reads the blocks.
pub(super) fn add_view(connection: &Connection, other: Connection) -> anyhow::Result<()> {
    let other = Arc::new(Mutex::new(other));
    let of_lines = Arc::clone(&other);
    let flags = FunctionFlags::SQLITE_UTF8;
    connection.create_scalar_function("block_rows", 1, flags, move |context| {
        let id: i64 = context.get(0)?;
        let other = other.lock().unwrap_or_else(PoisonError::into_inner);
        rows(&other, id).map_err(failed)
    })?;
    connection.create_scalar_function("call_line", 1, flags, move |context| {
        let arrival: i64 = context.get(0)?;
        let other = of_lines.lock().unwrap_or_else(PoisonError::into_inner);
        chunk::line(&other, unsigned(arrival)).map_err(failed)
    })?;
    let columns: String = (2..)
        .zip(&FIELDS)
        .map(|(index, spec)| format!(", call.value ->> {index} AS {}", spec.name))
        .collect();
    let facts = FIELDS.len() + 2;
    connection.execute_batch(&format!(
        "CREATE TEMP VIEW calls AS SELECT call.value ->> 0 AS id{columns}, call.value -> {facts} AS facts,
         call_line(call.value ->> 1) AS line FROM blocks, json_each(block_rows(blocks.id)) AS call"
    ))?;
    Ok(())
}

fn failed(error: anyhow::Error) -> rusqlite::Error {
    rusqlite::Error::UserFunctionError(format!("{error:#}").into())
}

/// The calls of a block as JSON: for each one its id, its number, its fields, its facts.
fn rows(connection: &Connection, id: i64) -> anyhow::Result<String> {
    let snapshot = connection.unchecked_transaction()?;
    let mut select =
        snapshot.prepare_cached(&format!("SELECT {HEAD} FROM blocks WHERE id = ?1"))?;
    let head = select
        .query_row([id], Head::read)
        .optional()?
        .context("calls were moved or deleted since the query began; it can be made again")?;
    let senders: Senders = senders(&snapshot)?;
    let block = Block::new(&snapshot, &head);
    let rows = (0..head.rows).map(|row| {
        let columns = columns(&block, &senders, row)?;
        Ok(call(&columns, block.arrival(row)?))
    });
    let rows = rows.collect::<anyhow::Result<Vec<Value>>>()?;
    Ok(Value::Array(rows).to_string())
}

fn call(columns: &Columns, arrival: u64) -> Value {
    let place = Place {
        time_ms: columns.time_ms,
        arrival,
    };
    let mut call = vec![json!(place.id()), json!(arrival)];
    call.extend(FIELDS.iter().map(|spec| match columns.text(spec.field) {
        _ if spec.kind.is_number() => json!(columns.number(spec.field)),
        "" => Value::Null,
        text => json!(text),
    }));
    let facts = columns.facts.iter();
    call.push(Value::Object(
        facts
            .map(|(name, value)| (name.clone(), json!(value)))
            .collect(),
    ));
    Value::Array(call)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::sqlite::Opened;
    use crate::backend::{Backend, Retention};
    use crate::bundle::Bundle;
    use crate::sender::Sender;

    #[tokio::test]
    async fn sql_reads_calls_as_a_table_and_writes_nothing() {
        let folder = tempfile::tempdir().expect("folder");
        let opened = Opened::new(folder.path()).expect("opens");
        let backend = opened.start(Retention::default()).expect("starts");
        let line = r#"[["request_method","GET"],["request_url","http://h/7"],["response_code","200"],["custom_field:tries","3"]]"#;
        let bundle = Bundle::split(line.into(), None, Sender::Local).expect("short");
        backend.insert(bundle).await.expect("stores");
        let connection = open(folder.path()).expect("opens");
        let row: (String, i64, String, String, String) = connection
            .query_row(
                "SELECT url, status, endpoint, facts ->> 'tries', line FROM calls WHERE host = 'h'",
                [],
                |row| {
                    Ok((
                        row.get(0)?,
                        row.get(1)?,
                        row.get(2)?,
                        row.get(3)?,
                        row.get(4)?,
                    ))
                },
            )
            .expect("reads");
        assert_eq!(
            row,
            (
                "http://h/7".into(),
                200,
                "/*".into(),
                "3".into(),
                line.into()
            )
        );
        for sql in [
            "DELETE FROM blocks",
            "CREATE TABLE x (y)",
            "CREATE TEMP TABLE x (y)",
        ] {
            assert!(connection.execute(sql, []).is_err(), "{sql}");
        }
        backend.close().await.expect("closes");
    }
}
