//! `POST /api/v1/query`: SQL over the newest calls of a filter and a range of time, the same over every backend.
//!
//! `{"sql": "SELECT ...", "filter": "...", "from": "...", "to": "..."}`. The calls that match are copied into a database in memory
//! that belongs to the one query, up to [`SQL_CALLS_MAX`] and for [`SQL_TIME_MAX`], as the table `calls` with a column for each field.
//! So a query can change nothing, sees nothing but calls, and never has a lock that a writer waits for. What it may do in addition is
//! bounded: an authorizer admits `SELECT` alone, and time, rows and bytes have limits. `coverage.partial` states when not all calls
//! that match were copied.
//!
//! With `"database": true` the text goes to the database itself instead, where that is one with a user for it
//! (`backend/clickhouse/select.rs`); filter and range are not for that.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::limits::Limit;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, params_from_iter};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::{Answer, Api, ApiError, fresh};
use crate::backend::{Backend, Failure};
use crate::call::{CallId, Cell, Coverage, Query, Summary};
use crate::filter::Filter;
use crate::limits::{
    LIST_CALLS_MAX, SQL_ANSWER_BYTES_MAX, SQL_BYTES_MAX, SQL_CALLS_MAX, SQL_MEMORY_MAX,
    SQL_ROWS_MAX, SQL_TIME_MAX, SQL_VALUE_BYTES_MAX,
};
use crate::parameters::{Time, range};

/// Instructions of SQLite's machine between two looks at the clock.
const INSTRUCTIONS: i32 = 10_000;

/// A query.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Request {
    sql: String,
    filter: String,
    from: Option<Time>,
    to: Option<Time>,
    database: bool,
}

/// Its answer.
#[derive(Debug, Serialize)]
pub(crate) struct Answered {
    columns: Vec<String>,
    rows: Vec<Vec<Value>>,
    /// There are more rows than an answer may have.
    truncated: bool,
    /// Calls in the table; 0 where it is the database's own.
    calls: usize,
    coverage: Coverage,
}

pub(crate) async fn query(
    State(api): State<Api>,
    request: Result<Json<Request>, JsonRejection>,
) -> Answer<Answered> {
    let Json(request) = request?;
    if request.sql.len() > SQL_BYTES_MAX {
        let text = format!("sql: a query has at most {SQL_BYTES_MAX} bytes");
        return Err(ApiError::Parameter(text));
    }
    if request.database {
        if !request.filter.is_empty() || request.from.is_some() || request.to.is_some() {
            let text = "database: filter, from and to are for a copy of the calls";
            return Err(ApiError::Parameter(text.into()));
        }
        let _permit = api.queries.clone().try_acquire_owned().map_err(busy)?;
        let selected = api.backend.select(&request.sql).await?;
        return fresh(Answered {
            columns: selected.columns,
            rows: selected.rows,
            truncated: selected.truncated,
            calls: 0,
            coverage: Coverage {
                progress: 1.0,
                ..Coverage::default()
            },
        });
    }
    let list = Query {
        filter: Filter::parse(&request.filter)?,
        before: None,
        after: None,
        range: range(request.from, request.to),
        limit: LIST_CALLS_MAX,
    };
    let _permit = api.queries.clone().try_acquire_owned().map_err(busy)?;
    let end = Instant::now() + SQL_TIME_MAX;
    let mut table = Table::new()?;
    let coverage = table.fill(&api, list, end).await?;
    let calls = table.calls;
    let run = tokio::task::spawn_blocking(move || table.run(&request.sql, end));
    let result = run
        .await
        .map_err(|error| Failure::Unavailable(error.to_string()))??;
    fresh(Answered {
        columns: result.columns,
        rows: result.rows,
        truncated: result.truncated,
        calls,
        coverage,
    })
}

fn busy(_: tokio::sync::TryAcquireError) -> ApiError {
    ApiError::Busy("another query is being answered".into())
}

/// The database of one query.
struct Table {
    connection: Connection,
    calls: usize,
}

#[derive(Debug, Default)]
struct Rows {
    columns: Vec<String>,
    rows: Vec<Vec<Value>>,
    truncated: bool,
}

fn unavailable(error: rusqlite::Error) -> ApiError {
    Failure::Unavailable(format!("the table of the query: {error}")).into()
}

impl Table {
    fn new() -> Result<Self, ApiError> {
        let make = || {
            let connection = Connection::open_in_memory()?;
            let pages = SQL_MEMORY_MAX / 4096;
            let columns: String = Summary::empty()
                .cells()
                .map(|(spec, _)| {
                    let kind = if spec.kind.is_number() {
                        "INTEGER"
                    } else {
                        "TEXT"
                    };
                    format!(", {} {kind}", spec.name)
                })
                .collect();
            connection.execute_batch(&format!(
                "PRAGMA page_size = 4096; PRAGMA max_page_count = {pages}; CREATE TABLE calls (id TEXT{columns})"
            ))?;
            Ok(Self {
                connection,
                calls: 0,
            })
        };
        make().map_err(unavailable)
    }

    /// Copies the calls that match, newest first.
    async fn fill(
        &mut self,
        api: &Api,
        mut list: Query,
        end: Instant,
    ) -> Result<Coverage, ApiError> {
        let mut coverage: Option<Coverage> = None;
        loop {
            let page = api.backend.list(list.clone()).await?;
            // The threads of the runtime serve the capture URL as well.
            let inserted = tokio::task::block_in_place(|| self.insert(&page.calls));
            let partial = match inserted {
                Ok(()) => None,
                Err(error) if error.sqlite_error_code() == Some(ErrorCode::DiskFull) => {
                    Some(format!("their texts have more than {SQL_MEMORY_MAX} bytes"))
                }
                Err(error) => return Err(unavailable(error)),
            };
            let coverage = coverage.get_or_insert(page.coverage);
            coverage.partial = partial.or_else(|| self.reason_to_end(page.next.as_ref(), end));
            if coverage.partial.is_some() || page.next.is_none() {
                let reason = coverage.partial.take();
                coverage.partial = reason
                    .map(|reason| format!("the newest {} calls that match: {reason}", self.calls));
                return Ok(coverage.clone());
            }
            list.before = page.next;
        }
    }

    fn reason_to_end(&self, next: Option<&CallId>, end: Instant) -> Option<String> {
        next?;
        if self.calls >= SQL_CALLS_MAX {
            return Some(format!("a query sees {SQL_CALLS_MAX} at most"));
        }
        // The other half is for the query itself.
        let half = end.checked_sub(SQL_TIME_MAX / 2).unwrap_or(end);
        (Instant::now() >= half).then(|| "to find the others takes too long".into())
    }

    fn insert(&mut self, calls: &[Summary]) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        let places = ", ?".repeat(Summary::empty().cells().count());
        let mut insert =
            transaction.prepare_cached(&format!("INSERT INTO calls VALUES (?{places})"))?;
        for call in calls {
            use rusqlite::types::Value::{Integer, Null, Text};
            let id = std::iter::once(Text(call.id.to_string()));
            let cells = call.cells().map(|(_, cell)| match cell {
                Cell::Number(number) => number.map_or(Null, Integer),
                Cell::Text("") => Null,
                Cell::Text(text) => Text(text.to_owned()),
            });
            insert.execute(params_from_iter(id.chain(cells)))?;
        }
        drop(insert);
        transaction.commit()?;
        self.calls += calls.len();
        Ok(())
    }

    /// Runs the query. Whatever is wrong is the query's fault.
    fn run(mut self, sql: &str, end: Instant) -> Result<Rows, ApiError> {
        self.run_within(sql, end).map_err(|error| {
            let reason = match error.sqlite_error_code() {
                Some(ErrorCode::OperationInterrupted) => {
                    format!("it takes longer than {} s", SQL_TIME_MAX.as_secs())
                }
                Some(ErrorCode::AuthorizationForStatementDenied) => {
                    "only SELECT without recursion is possible".into()
                }
                Some(ErrorCode::TooBig) => {
                    format!("a value has more than {SQL_VALUE_BYTES_MAX} bytes")
                }
                Some(ErrorCode::CannotOpen | ErrorCode::DiskFull | ErrorCode::OutOfMemory) => {
                    "it needs more memory than a query may take".into()
                }
                _ => error.to_string(),
            };
            ApiError::Parameter(format!("sql: {reason}"))
        })
    }

    fn run_within(&mut self, sql: &str, end: Instant) -> rusqlite::Result<Rows> {
        let connection = &mut self.connection;
        let bytes = i32::try_from(SQL_VALUE_BYTES_MAX).unwrap_or(i32::MAX);
        connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, bytes)?;
        connection.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 0)?;
        connection.set_limit(Limit::SQLITE_LIMIT_WORKER_THREADS, 0)?;
        connection.authorizer(Some(authorize))?;
        // Preparing is bounded by the length of the text.
        let end = end.max(Instant::now() + Duration::from_millis(1));
        connection.progress_handler(INSTRUCTIONS, Some(move || Instant::now() >= end))?;
        let mut statement = connection.prepare(sql)?;
        let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
        let mut found = statement.query([])?;
        let mut result = Rows {
            columns,
            ..Rows::default()
        };
        let mut bytes = 0;
        while let Some(row) = found.next()? {
            if result.rows.len() >= SQL_ROWS_MAX || bytes >= SQL_ANSWER_BYTES_MAX {
                result.truncated = true;
                break;
            }
            let mut values = Vec::with_capacity(result.columns.len());
            for column in 0..result.columns.len() {
                let value = json(row.get_ref(column)?);
                bytes += value.as_str().map_or(8, str::len);
                values.push(value);
            }
            result.rows.push(values);
        }
        Ok(result)
    }
}

/// Reading the table and computing are all that a query may do.
fn authorize(context: AuthContext<'_>) -> Authorization {
    match context.action {
        AuthAction::Select | AuthAction::Read { .. } => Authorization::Allow,
        AuthAction::Function { function_name }
            if !function_name.eq_ignore_ascii_case("load_extension") =>
        {
            Authorization::Allow
        }
        _ => Authorization::Deny,
    }
}

fn json(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => number.into(),
        ValueRef::Real(number) => number.into(),
        ValueRef::Text(text) => String::from_utf8_lossy(text).into(),
        ValueRef::Blob(bytes) => {
            let mut text = String::with_capacity(bytes.len() * 2);
            for byte in bytes {
                // Writing to a string cannot fail.
                let _ = write!(text, "{byte:02x}");
            }
            text.into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::Columns;

    fn table() -> Table {
        let mut table = Table::new().expect("a table");
        let calls: Vec<Summary> = (0..100)
            .map(|number| {
                let line = format!(
                    r#"[["request_method","GET"],["request_url","http://h/{number}"],["response_code","{}"]]"#,
                    200 + number % 3 * 100
                );
                let mut columns = Columns::read(&line).expect("a line");
                columns.place_in_time(number as i64, true);
                Summary::of(number.into(), columns)
            })
            .collect();
        table.insert(&calls).expect("room");
        table
    }

    fn run(sql: &str, time: Duration) -> Result<Rows, String> {
        table()
            .run(sql, Instant::now() + time)
            .map_err(|error| format!("{error:?}"))
    }

    const LONG: Duration = Duration::from_secs(600);

    #[test]
    fn selects_are_answered() {
        let sql = "SELECT status, count(*) AS calls FROM calls GROUP BY status ORDER BY 1";
        let rows = run(sql, LONG).expect("rows");
        assert_eq!(rows.columns, ["status", "calls"]);
        assert_eq!(
            serde_json::json!(rows.rows),
            serde_json::json!([[200, 34], [300, 33], [400, 33]])
        );
        let rows = run("SELECT NULL, 1.5, x'00ff', 'é'", LONG).expect("rows");
        assert_eq!(
            serde_json::json!(rows.rows),
            serde_json::json!([[null, 1.5, "00ff", "é"]])
        );
    }

    #[test]
    fn nothing_but_selects_is_possible() {
        for sql in [
            "DELETE FROM calls",
            "DROP TABLE calls",
            "INSERT INTO calls (id) VALUES ('1')",
            "CREATE TABLE x (a)",
            "ATTACH '/etc/passwd' AS p",
            "PRAGMA page_count",
            "VACUUM INTO '/tmp/x'",
            "SELECT load_extension('x')",
            "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x FROM c",
            "BEGIN",
            "",
            "SELECT 1; SELECT 2",
            "SELECT zeroblob(900000000)",
        ] {
            let refused = run(sql, LONG);
            assert!(refused.is_err(), "{sql}: {refused:?}");
        }
    }

    #[test]
    fn rows_and_time_are_bounded() {
        let rows = run("SELECT a.id FROM calls a, calls b, calls c", LONG).expect("rows");
        assert_eq!(rows.rows.len(), SQL_ROWS_MAX);
        assert!(rows.truncated);
        let sql = "SELECT count(*) FROM calls a, calls b, calls c, calls d, calls e, calls f";
        let stopped = run(sql, Duration::ZERO).expect_err("no time");
        assert!(stopped.contains("longer than"), "{stopped}");
    }
}
