//! The one thread that writes: bundles in, committed rows out.
//!
//! Bundles that wait are stored in one transaction, so that many small senders cost one commit. Each learns its outcome only
//! after the commit. In the same transaction go the idempotency key, the totals, and the deletion of the oldest calls beyond
//! the bounds; a death at any moment leaves all of it or nothing.

use std::thread;

use anyhow::Context;
use rusqlite::{Connection, Transaction, params};
use tokio::sync::{mpsc, oneshot, watch};

use crate::Retention;
use crate::bundle::Bundle;
use crate::limits::{
    DATABASE_BYTES_MIN, EXPIRE_ROUND_CALLS, KEYS_MAX, POSTS_AT_ONCE, TRANSACTION_BYTES_MAX,
    VACUUM_ROUND_PAGES,
};

/// What became of a bundle; given after the commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    /// Its calls are new rows.
    New,
    /// The same key and the same bytes were stored before.
    Again,
}

/// The database refused the transaction; nothing of the bundle is stored. The text is for the sender and the status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused(pub(crate) String);

type Outcome = Result<Stored, Refused>;

struct Job {
    bundle: Bundle,
    outcome: oneshot::Sender<Outcome>,
}

/// Hands bundles to the writing thread.
#[derive(Clone, Debug)]
pub(crate) struct Writer {
    jobs: mpsc::Sender<Job>,
    newest: watch::Receiver<i64>,
    failure: watch::Receiver<Option<String>>,
}

impl Writer {
    /// Starts the thread. It ends once every `Writer` is gone and the last bundle is committed; join it to know.
    pub(crate) fn start(
        connection: Connection,
        retention: Retention,
    ) -> anyhow::Result<(Self, thread::JoinHandle<()>)> {
        let (jobs, waiting) = mpsc::channel(POSTS_AT_ONCE);
        let last = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'calls'";
        let (newest_sender, newest) =
            watch::channel(connection.query_row(last, [], |row| row.get(0))?);
        let (failure_sender, failure) = watch::channel(None);
        let mut desk = Desk {
            connection,
            retention,
            waiting,
            newest: newest_sender,
            failure: failure_sender,
        };
        let thread = thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || desk.work())
            .context("writer thread")?;
        Ok((
            Self {
                jobs,
                newest,
                failure,
            },
            thread,
        ))
    }

    /// Stores a bundle and returns after the commit.
    pub(crate) async fn store(&self, bundle: Bundle) -> Outcome {
        let (outcome, answer) = oneshot::channel();
        let gone = || Refused("the store is stopping".into());
        self.jobs
            .send(Job { bundle, outcome })
            .await
            .map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// Id of the newest call, and a way to wait for the next.
    pub(crate) fn newest(&self) -> watch::Receiver<i64> {
        self.newest.clone()
    }

    /// Why the last transaction failed; `None` after one that did not.
    pub(crate) fn failure(&self) -> Option<String> {
        self.failure.borrow().clone()
    }
}

struct Desk {
    connection: Connection,
    retention: Retention,
    waiting: mpsc::Receiver<Job>,
    newest: watch::Sender<i64>,
    failure: watch::Sender<Option<String>>,
}

impl Desk {
    fn work(&mut self) {
        while let Some(first) = self.waiting.blocking_recv() {
            let group = self.group(first);
            match store(&mut self.connection, self.retention, &group) {
                Ok(done) => {
                    self.failure.send_replace(None);
                    self.newest.send_replace(done.newest);
                    answer(group, done.outcomes.into_iter().map(Ok));
                }
                Err(error) => {
                    let refused = Refused(format!("the database refused the bundle: {error}"));
                    self.failure.send_replace(Some(error.to_string()));
                    answer(group, std::iter::repeat(Err(refused)));
                }
            }
        }
        // Leaves one file behind instead of three. When it cannot, the next start reads the log: nothing is lost.
        drop(
            self.connection
                .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())),
        );
    }

    fn group(&mut self, first: Job) -> Vec<Job> {
        let mut bytes = first.bundle.bytes();
        let mut group = vec![first];
        while bytes < TRANSACTION_BYTES_MAX {
            let Ok(job) = self.waiting.try_recv() else {
                break;
            };
            bytes += job.bundle.bytes();
            group.push(job);
        }
        group
    }
}

/// A sender that went away does not hear it; its bundle is stored all the same.
fn answer(group: Vec<Job>, outcomes: impl Iterator<Item = Outcome>) {
    for (job, outcome) in group.into_iter().zip(outcomes) {
        drop(job.outcome.send(outcome));
    }
}

struct Done {
    outcomes: Vec<Stored>,
    newest: i64,
}

fn store(
    connection: &mut Connection,
    retention: Retention,
    group: &[Job],
) -> rusqlite::Result<Done> {
    let transaction = connection.transaction()?;
    let now = crate::unix_ms();
    let outcomes = group
        .iter()
        .map(|job| store_bundle(&transaction, &job.bundle, now))
        .collect::<Result<_, _>>()?;
    forget_old_keys(&transaction)?;
    expire(&transaction, retention)?;
    let newest = transaction.query_row(
        "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'calls'",
        [],
        |row| row.get(0),
    )?;
    transaction.commit()?;
    Ok(Done { outcomes, newest })
}

fn store_bundle(
    transaction: &Transaction<'_>,
    bundle: &Bundle,
    now_ms: i64,
) -> rusqlite::Result<Stored> {
    if !remember(transaction, bundle, now_ms)? {
        count(transaction, "bundles_repeated", 1)?;
        return Ok(Stored::Again);
    }
    let mut insert = transaction.prepare_cached(
        "INSERT INTO calls (received_ms, now_ms, interval_ms, method, url, host, path, status, request_bytes, response_bytes,
                            content_type, note, line)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
    )?;
    for (line, message) in bundle.lines() {
        insert.execute(params![
            now_ms,
            message.now_ms,
            message.interval_ms,
            message.method,
            message.url,
            message.host,
            message.path,
            message.status,
            message.request_bytes,
            message.response_bytes,
            message.content_type,
            message.note,
            line,
        ])?;
    }
    count(transaction, "calls_received", integer(bundle.calls()))?;
    count(transaction, "bad_lines", integer(bundle.bad_lines))?;
    count(transaction, "bundles_received", 1)?;
    Ok(Stored::New)
}

/// Takes down the bundle's key; false when it was there already.
fn remember(transaction: &Transaction<'_>, bundle: &Bundle, now_ms: i64) -> rusqlite::Result<bool> {
    let Some(key) = &bundle.key else {
        return Ok(true);
    };
    let mut insert = transaction.prepare_cached(
        "INSERT OR IGNORE INTO bundles (key, crc32, bytes, received_ms, lines, bad_lines) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    let bytes = integer(bundle.bytes());
    let rows = insert.execute(params![
        key,
        bundle.crc32,
        bytes,
        now_ms,
        integer(bundle.calls()),
        integer(bundle.bad_lines)
    ])?;
    Ok(rows == 1)
}

fn forget_old_keys(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("DELETE FROM bundles WHERE id <= (SELECT max(id) FROM bundles) - ?1")?
        .execute([integer(KEYS_MAX)])?;
    Ok(())
}

fn count(transaction: &Transaction<'_>, name: &str, by: i64) -> rusqlite::Result<()> {
    if by != 0 {
        transaction
            .prepare_cached("UPDATE counters SET value = value + ?2 WHERE name = ?1")?
            .execute(params![name, by])?;
    }
    Ok(())
}

/// Deletes the oldest calls beyond the bounds. Freed pages take the next calls; only when many are free, after a bound was
/// lowered, do some go back to the file system, a few with every transaction.
fn expire(transaction: &Transaction<'_>, retention: Retention) -> rusqlite::Result<()> {
    let stored = calls_stored(transaction)?;
    let by_count = stored.saturating_sub(integer(retention.calls_max));
    let by_bytes = calls_in_oldest(transaction, excess_bytes(transaction, retention)?)?;
    let round = by_count.max(by_bytes).min(integer(EXPIRE_ROUND_CALLS));
    if round > 0 {
        let deleted = transaction
            .prepare_cached(
                "DELETE FROM calls WHERE id IN (SELECT id FROM calls ORDER BY id LIMIT ?1)",
            )?
            .execute([round])?;
        count(transaction, "calls_expired", integer(deleted))?;
    }
    let (pages, free) = pages(transaction)?;
    if free > pages / 4 {
        let mut vacuum = transaction
            .prepare_cached(&format!("PRAGMA incremental_vacuum({VACUUM_ROUND_PAGES})"))?;
        let mut rows = vacuum.query([])?;
        while rows.next()?.is_some() {}
    }
    Ok(())
}

fn calls_stored(transaction: &Transaction<'_>) -> rusqlite::Result<i64> {
    transaction
        .prepare_cached(
            "SELECT sum(CASE name WHEN 'calls_received' THEN value WHEN 'calls_expired' THEN -value ELSE 0 END) FROM counters",
        )?
        .query_row([], |row| row.get(0))
}

fn excess_bytes(transaction: &Transaction<'_>, retention: Retention) -> rusqlite::Result<i64> {
    let (pages, free) = pages(transaction)?;
    let page_bytes: i64 = transaction.pragma_query_value(None, "page_size", |row| row.get(0))?;
    let used = (pages - free) * page_bytes;
    Ok(used.saturating_sub(integer(
        retention.database_bytes_max.max(DATABASE_BYTES_MIN),
    )))
}

fn pages(transaction: &Transaction<'_>) -> rusqlite::Result<(i64, i64)> {
    let pages = transaction.pragma_query_value(None, "page_count", |row| row.get(0))?;
    let free = transaction.pragma_query_value(None, "freelist_count", |row| row.get(0))?;
    Ok((pages, free))
}

/// How many of the oldest calls hold that many bytes. The line is nearly all of a row.
fn calls_in_oldest(transaction: &Transaction<'_>, bytes: i64) -> rusqlite::Result<i64> {
    if bytes <= 0 {
        return Ok(0);
    }
    let mut oldest =
        transaction.prepare_cached("SELECT octet_length(line) FROM calls ORDER BY id LIMIT ?1")?;
    let mut rows = oldest.query([integer(EXPIRE_ROUND_CALLS)])?;
    let (mut calls, mut sum) = (0, 0);
    while sum < bytes {
        let Some(row) = rows.next()? else { break };
        sum += row.get::<_, i64>(0)?;
        calls += 1;
    }
    Ok(calls)
}

fn integer(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::backend::sqlite::open_writer;

    struct Fixture {
        connection: Connection,
        retention: Retention,
        _folder: tempfile::TempDir,
    }

    impl Fixture {
        fn new(retention: Retention) -> Self {
            let folder = tempfile::tempdir().expect("folder");
            Self {
                connection: open_writer(folder.path()).expect("opens"),
                retention,
                _folder: folder,
            }
        }

        fn store(&mut self, key: Option<&str>, text: String) -> Stored {
            let (outcome, _) = oneshot::channel();
            let job = Job {
                bundle: Bundle::split(Bytes::from(text), key.map(Into::into)),
                outcome,
            };
            store(&mut self.connection, self.retention, &[job])
                .expect("stores")
                .outcomes[0]
        }

        fn number(&self, sql: &str) -> i64 {
            self.connection
                .query_row(sql, [], |row| row.get(0))
                .expect(sql)
        }

        fn counter(&self, name: &str) -> i64 {
            self.number(&format!("SELECT value FROM counters WHERE name = '{name}'"))
        }

        #[track_caller]
        fn check_balance(&self) {
            let stored = self.number("SELECT count(*) FROM calls");
            assert_eq!(
                stored,
                self.counter("calls_received") - self.counter("calls_expired")
            );
        }
    }

    fn lines(count: usize, body_bytes: usize) -> String {
        format!(
            "[[\"request_method\",\"GET\"],[\"response_body\",\"{}\"]]\n",
            "x".repeat(body_bytes)
        )
        .repeat(count)
    }

    #[test]
    fn a_key_counts_once_and_only_with_the_same_bytes() {
        let mut fixture = Fixture::new(Retention::default());
        assert_eq!(fixture.store(Some("k"), lines(2, 1)), Stored::New);
        assert_eq!(fixture.store(Some("k"), lines(2, 1)), Stored::Again);
        assert_eq!(fixture.store(Some("k"), lines(3, 1)), Stored::New);
        assert_eq!(fixture.store(None, lines(1, 1)), Stored::New);
        assert_eq!(fixture.store(None, lines(1, 1)), Stored::New);
        assert_eq!(fixture.number("SELECT count(*) FROM calls"), 7);
        assert_eq!(fixture.counter("bundles_repeated"), 1);
        assert_eq!(fixture.counter("bundles_received"), 4);
        fixture.check_balance();
    }

    #[test]
    fn keeps_the_newest_within_the_count() {
        let mut fixture = Fixture::new(Retention {
            calls_max: 10,
            ..Retention::default()
        });
        for _ in 0..7 {
            fixture.store(None, lines(3, 1));
        }
        assert_eq!(fixture.number("SELECT count(*) FROM calls"), 10);
        assert_eq!(fixture.number("SELECT min(id) FROM calls"), 12);
        fixture.check_balance();
    }

    #[test]
    fn keeps_the_newest_within_the_bytes_and_the_file_stays_small() {
        let mut fixture = Fixture::new(Retention {
            database_bytes_max: DATABASE_BYTES_MIN,
            ..Retention::default()
        });
        for _ in 0..30 {
            fixture.store(None, lines(50, 20_000));
            fixture.check_balance();
        }
        let bytes = fixture
            .number("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size");
        assert!(bytes < 2 * integer(DATABASE_BYTES_MIN), "{bytes}");
        assert_eq!(fixture.number("SELECT max(id) FROM calls"), 1500);
        assert!(fixture.number("SELECT count(*) FROM calls") > 100);

        fixture.retention.calls_max = 1;
        for _ in 0..20 {
            fixture.store(None, lines(1, 1));
        }
        let bytes = fixture
            .number("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size");
        assert!(
            bytes < integer(DATABASE_BYTES_MIN) / 4,
            "a lowered bound gives no pages back: {bytes}"
        );
    }

    /// The file system being full looks the same to SQLite as a file that may not grow.
    #[test]
    fn a_full_disk_is_told_and_stores_nothing_and_passes() {
        let folder = tempfile::tempdir().expect("folder");
        let connection = open_writer(folder.path()).expect("opens");
        connection
            .pragma_update(None, "max_page_count", 20)
            .expect("bounds");
        let (writer, thread) = Writer::start(connection, Retention::default()).expect("starts");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("runtime");
        let store = |key: &str, text: String| {
            runtime.block_on(writer.store(Bundle::split(text.into(), Some(key.into()))))
        };
        let refused = store("a", lines(10, 50_000)).expect_err("no room");
        assert!(refused.0.contains("full"), "{refused:?}");
        assert!(writer.failure().is_some());
        assert_eq!(*writer.newest().borrow(), 0);
        assert_eq!(store("b", lines(1, 10)), Ok(Stored::New));
        assert_eq!((writer.failure(), *writer.newest().borrow()), (None, 1));
        drop(writer);
        thread.join().expect("ends");
        let connection = open_writer(folder.path()).expect("opens");
        let keys: String = connection
            .query_row("SELECT group_concat(key) FROM bundles", [], |row| {
                row.get(0)
            })
            .expect("reads");
        assert_eq!(
            keys, "b",
            "the key of a refused bundle must not be remembered"
        );
    }

    #[test]
    fn old_keys_are_forgotten() {
        let mut fixture = Fixture::new(Retention::default());
        fixture.store(Some("old"), lines(1, 1));
        let far = integer(KEYS_MAX) + 10;
        fixture
            .connection
            .execute(
                "UPDATE sqlite_sequence SET seq = ?1 WHERE name = 'bundles'",
                [far],
            )
            .expect("moves");
        fixture.store(Some("new"), lines(1, 1));
        assert_eq!(fixture.number("SELECT count(*) FROM bundles"), 1);
    }
}
