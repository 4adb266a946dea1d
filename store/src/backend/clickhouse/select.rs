//! SQL of a user over the tables themselves: `POST /api/v1/query` with `"database": true`.
//!
//! It is sent as a user of its own, who may only read (`reader=` in the address; `readonly` is 2), and is none of 18.16. What that user may
//! see is up to its rights. A text is refused before it is sent unless it is one SELECT of known form: without the functions that stand for
//! tables elsewhere (files, other hosts), of which the server has the list, without settings, by which it could lift its bounds, without
//! a format, a comment or the tables of the server itself.

use std::collections::HashSet;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use serde::Deserialize;
use serde_json::Value;

use super::address::Address;
use super::binary::Reader as Binary;
use super::client::{Client, Error, Password};
use super::dialect::Dialect;
use crate::backend::{Failure, Selected};
use crate::limits::{
    CLICKHOUSE_QUERY_MEMORY_MAX, CLICKHOUSE_QUERY_TIME_MAX, SQL_ROWS_MAX, SQL_TIME_MAX,
};

/// Words that a statement must not have.
const WORDS_REFUSED: [&str; 5] = ["settings", "format", "into", "system", "information_schema"];

/// What answers such statements.
#[derive(Clone, Debug)]
pub(super) struct Selects {
    client: Client,
    table_functions: Arc<HashSet<String>>,
}

/// An answer in the format `JSONCompact`.
#[derive(Debug, Deserialize)]
struct Answer {
    meta: Vec<Column>,
    data: Vec<Vec<Value>>,
}

#[derive(Debug, Deserialize)]
struct Column {
    name: String,
}

impl Selects {
    /// As the reader that the address names, if it does.
    ///
    /// # Errors
    /// The reader may write, or the server has no such user.
    pub(super) async fn new(
        address: &Address,
        password: &Password,
        dialect: Dialect,
    ) -> anyhow::Result<Option<Self>> {
        let Some(reader) = &address.reader else {
            return Ok(None);
        };
        ensure!(
            dialect == Dialect::Modern,
            "reader={reader}: ClickHouse 18.16 has no rights by which SQL of users could be confined"
        );
        let address = Address {
            user: reader.clone(),
            ..address.clone()
        };
        let client = Client::new(&address, password, true)?;
        let ask = |sql: &str| {
            let sql = format!("{sql} FORMAT RowBinary");
            client.read(sql, &[], CLICKHOUSE_QUERY_TIME_MAX)
        };
        let context = || format!("reader={reader}");
        let readonly = ask("SELECT value FROM system.settings WHERE name = 'readonly'").await;
        let readonly = Binary(&readonly.with_context(context)?).text()?;
        ensure!(
            readonly == "2",
            "reader={reader}: its profile needs readonly = 2, and has {readonly}"
        );
        let names = ask("SELECT lower(name) FROM system.table_functions").await;
        let names = names.with_context(context)?;
        let mut names = Binary(&names);
        let mut table_functions = HashSet::new();
        while names.has_more() {
            table_functions.insert(names.text()?);
        }
        ensure!(
            !table_functions.is_empty(),
            "reader={reader}: no list of table functions"
        );
        Ok(Some(Self {
            // The connections of this runtime end with it.
            client: Client::new(&address, password, true)?,
            table_functions: Arc::new(table_functions),
        }))
    }

    /// The rows of a statement.
    pub(super) async fn select(&self, sql: &str) -> Result<Selected, Failure> {
        let invalid = |text: &str| Failure::Invalid(format!("sql: {text}"));
        check(sql, &self.table_functions).map_err(|reason| invalid(&reason))?;
        let seconds = SQL_TIME_MAX.as_secs().to_string();
        let memory = CLICKHOUSE_QUERY_MEMORY_MAX.to_string();
        let rows = (SQL_ROWS_MAX + 1).to_string();
        let settings = [
            ("default_format", "JSONCompact"),
            ("max_execution_time", seconds.as_str()),
            ("max_memory_usage", &memory),
            ("max_result_rows", &rows),
            ("result_overflow_mode", "break"),
            ("output_format_json_quote_64bit_integers", "0"),
        ];
        let answer = self
            .client
            .read(sql.to_owned(), &settings, SQL_TIME_MAX)
            .await;
        let answer = match answer {
            Err(Error::Server(code, text)) if !matches!(code, 202 | 209 | 210 | 279 | 516) => {
                return Err(invalid(&text));
            }
            Err(Error::TooLarge) => return Err(invalid("its answer is too long")),
            answer => answer?,
        };
        let answer: Answer = serde_json::from_slice(&answer)
            .map_err(|error| Failure::Unavailable(format!("the answer of ClickHouse: {error}")))?;
        let mut selected = Selected {
            columns: answer.meta.into_iter().map(|column| column.name).collect(),
            truncated: answer.data.len() > SQL_ROWS_MAX,
            rows: answer.data,
        };
        selected.rows.truncate(SQL_ROWS_MAX);
        Ok(selected)
    }
}

/// A part of a statement, as far as that matters.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    /// A word, or a name in quotation marks, in lower case.
    Word(String),
    Mark(char),
}

fn check(sql: &str, table_functions: &HashSet<String>) -> Result<(), String> {
    let tokens = tokens(sql)?;
    match tokens.first() {
        Some(Token::Word(first)) if matches!(first.as_str(), "select" | "with") => {}
        _ => return Err("only SELECT is possible".into()),
    }
    for (index, token) in tokens.iter().enumerate() {
        let Token::Word(word) = token else {
            continue;
        };
        if WORDS_REFUSED.contains(&word.as_str()) {
            return Err(format!("a query has no {word}"));
        }
        let is_call = tokens.get(index + 1) == Some(&Token::Mark('('));
        if is_call && table_functions.contains(word) {
            return Err(format!(
                "the function {word} is not possible: it may read what is no call"
            ));
        }
    }
    Ok(())
}

/// All parts but constants. What could be read in another way by the server is refused: comments, and texts in dollar signs.
fn tokens(sql: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = sql.chars().peekable();
    while let Some(c) = rest.next() {
        let next = rest.peek().copied();
        match (c, next) {
            ('-', Some('-')) | ('/', Some('*')) | ('#' | '$' | ';', _) => {
                return Err("comments, dollar signs and semicolons are not possible".into());
            }
            ('\'' | '"' | '`', _) => {
                let mut name = String::new();
                loop {
                    match rest.next() {
                        None => return Err("a quotation mark is missing".into()),
                        // In a name it could stand for any character.
                        Some('\\') if c != '\'' => {
                            return Err("a name has no backslash".into());
                        }
                        Some('\\') => drop(rest.next()),
                        Some(end) if end == c => {
                            // Two of them stand for one.
                            if rest.next_if_eq(&c).is_none() {
                                break;
                            }
                            name.push(c);
                        }
                        Some(other) => name.push(other),
                    }
                }
                if c != '\'' {
                    tokens.push(Token::Word(name.to_lowercase()));
                }
            }
            (c, _) if c.is_alphanumeric() || c == '_' => {
                let mut word = String::from(c);
                while let Some(more) = rest.next_if(|c| c.is_alphanumeric() || *c == '_') {
                    word.push(more);
                }
                tokens.push(Token::Word(word.to_lowercase()));
            }
            (c, _) if c.is_whitespace() => {}
            (c, _) => tokens.push(Token::Mark(c)),
        }
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn is_possible(sql: &str) -> bool {
        let functions = ["url", "file", "remote", "format", "numbers"];
        check(sql, &functions.map(str::to_owned).into()).is_ok()
    }

    #[test]
    fn selects_are_possible() {
        for sql in [
            "SELECT count() FROM calls",
            "with 1 as x select x",
            "SELECT 'url(1); -- it''s \\' #' AS a, `host` FROM calls WHERE path LIKE '%file(%'",
            "SELECT url, file FROM calls",
            "SELECT quantile(0.9)(took), if(1, 2, 3) FROM calls GROUP BY (host, method)",
            "SELECT - 1 - -1 / 2",
        ] {
            assert!(is_possible(sql), "{sql}");
        }
    }

    #[test]
    fn what_reads_elsewhere_or_lifts_a_bound_is_refused() {
        for sql in [
            "SELECT * FROM url('http://h/', CSV, 'a String')",
            "SELECT * FROM URL\n\t('http://h/')",
            "SELECT * FROM `url`('http://h/')",
            "SELECT * FROM \"File\" ('/etc/passwd')",
            "SELECT (SELECT count() FROM remote('h', system, one))",
            "SELECT * FROM u/**/rl('x')",
            "SELECT * FROM url--\n('x')",
            "SELECT 1 # x",
            "SELECT $$a$$",
            "SELECT 1; DROP TABLE calls",
            "SELECT 1 SETTINGS max_execution_time = 0",
            "SELECT 1 FORMAT CSV",
            "SELECT 1 INTO OUTFILE '/x'",
            "SELECT * FROM system.processes",
            "SELECT * FROM `system`.one",
            "SELECT * FROM \"INFORMATION_SCHEMA\".tables",
            "INSERT INTO calls VALUES (1)",
            "DROP TABLE calls",
            "(SELECT 1)",
            "",
            "SELECT 'a",
            "SELECT 'a\\'",
            "SELECT `a",
            "SELECT * FROM `\\x75rl`('http://h/')",
        ] {
            assert!(!is_possible(sql), "{sql}");
        }
    }
}
