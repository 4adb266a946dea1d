//! The one thread that writes: bundles in, committed rows out.
//!
//! Bundles that wait are stored in one transaction, so that many small senders cost one commit. Each sender gets its answer only
//! after the commit. The same transaction holds the idempotency key, the totals, and the deletion of the oldest calls beyond
//! the bounds; a death at any moment leaves all of it or nothing.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use anyhow::{Context, anyhow};
use rusqlite::{Connection, Transaction, params};
use tokio::sync::{mpsc, oneshot, watch};

use super::reader::newest;
use crate::backend::{Expired, Failure, Health, Retention, Stored};
use crate::bundle::Bundle;
use crate::call::Arrival;
use crate::clock::unix_ms;
use crate::limits::{
    DATABASE_BYTES_MIN, EXPIRE_ROUND_CALLS, KEYS_MAX, POSTS_AT_ONCE, TRANSACTION_BYTES_MAX,
    VACUUM_ROUND_PAGES,
};

type Answer<T> = oneshot::Sender<Result<T, Failure>>;

/// What the writing thread does next.
enum Job {
    Insert(Insert),
    Expire(Answer<Expired>),
    Close,
}

struct Insert {
    bundle: Bundle,
    answer: Answer<Stored>,
}

/// A handle to the writing thread, which ends with [`Writer::close`] or with the last handle.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    jobs: mpsc::Sender<Job>,
    arrivals: watch::Receiver<Arrival>,
    health: watch::Receiver<Health>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl Writer {
    pub(super) fn start(connection: Connection, retention: Retention) -> anyhow::Result<Self> {
        let newest = newest(&connection)?;
        let (jobs, waiting) = mpsc::channel(POSTS_AT_ONCE);
        let (arrivals_sender, arrivals) = watch::channel(newest.into());
        let (health_sender, health) = watch::channel(Health::Up);
        let writing = Writing {
            connection,
            retention,
            waiting,
            arrivals: arrivals_sender,
            health: health_sender,
        };
        let thread = thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || writing.run())
            .context("writer thread")?;
        Ok(Self {
            jobs,
            arrivals,
            health,
            thread: Arc::new(Mutex::new(Some(thread))),
        })
    }

    /// Stores a bundle and returns after the commit.
    pub(super) async fn insert(&self, bundle: Bundle) -> Result<Stored, Failure> {
        self.submit(|answer| Job::Insert(Insert { bundle, answer }))
            .await
    }

    /// Deletes some of the oldest calls beyond the bounds.
    pub(super) async fn expire(&self) -> Result<Expired, Failure> {
        self.submit(Job::Expire).await
    }

    async fn submit<T>(&self, job: impl FnOnce(Answer<T>) -> Job) -> Result<T, Failure> {
        let (sender, answer) = oneshot::channel();
        let closed = || Failure::Unavailable("the store is stopping".into());
        self.jobs.send(job(sender)).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }

    /// Commits what waits and ends the thread.
    pub(super) async fn close(&self) -> anyhow::Result<()> {
        // Without a receiver the thread has ended already.
        drop(self.jobs.send(Job::Close).await);
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(thread) = thread else {
            return Ok(());
        };
        tokio::task::spawn_blocking(move || thread.join())
            .await?
            .map_err(|_| anyhow!("the writing thread panicked"))
    }

    pub(super) fn arrivals(&self) -> watch::Receiver<Arrival> {
        self.arrivals.clone()
    }

    pub(super) fn health(&self) -> Health {
        self.health.borrow().clone()
    }
}

/// The state of the writing thread.
struct Writing {
    connection: Connection,
    retention: Retention,
    waiting: mpsc::Receiver<Job>,
    arrivals: watch::Sender<Arrival>,
    health: watch::Sender<Health>,
}

impl Writing {
    fn run(mut self) {
        let mut next = self.waiting.blocking_recv();
        while let Some(job) = next {
            let behind = match job {
                Job::Insert(first) => self.insert(first),
                Job::Expire(answer) => {
                    let expired = self.expire();
                    drop(answer.send(expired));
                    None
                }
                Job::Close => break,
            };
            next = behind.or_else(|| self.waiting.blocking_recv());
        }
        // Leaves one file instead of three. If it fails, the next start reads the log: nothing is lost.
        drop(
            self.connection
                .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())),
        );
    }

    /// Stores a bundle, together with those that wait behind it. Returns the job that ended the group.
    fn insert(&mut self, first: Insert) -> Option<Job> {
        let (group, behind) = self.group(first);
        match store(&mut self.connection, self.retention, &group) {
            Ok(done) => {
                self.health.send_replace(Health::Up);
                self.arrivals.send_replace(done.newest.into());
                answer(group, done.stored.into_iter().map(Ok));
            }
            Err(error) => {
                let failure = self.failed(&error, "the database refused the bundle");
                answer(group, std::iter::repeat(Err(failure)));
            }
        }
        behind
    }

    fn group(&mut self, first: Insert) -> (Vec<Insert>, Option<Job>) {
        let mut bytes = first.bundle.bytes();
        let mut group = vec![first];
        while bytes < TRANSACTION_BYTES_MAX {
            match self.waiting.try_recv() {
                Ok(Job::Insert(insert)) => {
                    bytes += insert.bundle.bytes();
                    group.push(insert);
                }
                Ok(other) => return (group, Some(other)),
                Err(_) => break,
            }
        }
        (group, None)
    }

    fn expire(&mut self) -> Result<Expired, Failure> {
        expire_only(&mut self.connection, self.retention)
            .map_err(|error| self.failed(&error, "old calls cannot be deleted"))
    }

    fn failed(&self, error: &rusqlite::Error, what: &str) -> Failure {
        self.health.send_replace(Health::Down(error.to_string()));
        Failure::Unavailable(format!("{what}: {error}"))
    }
}

/// A sender that went away gets no answer; its bundle is stored all the same.
fn answer(group: Vec<Insert>, results: impl Iterator<Item = Result<Stored, Failure>>) {
    for (insert, result) in group.into_iter().zip(results) {
        drop(insert.answer.send(result));
    }
}

struct Done {
    stored: Vec<Stored>,
    newest: u64,
}

fn store(
    connection: &mut Connection,
    retention: Retention,
    group: &[Insert],
) -> rusqlite::Result<Done> {
    let transaction = connection.transaction()?;
    let now = unix_ms();
    let stored = group
        .iter()
        .map(|insert| store_bundle(&transaction, &insert.bundle, now))
        .collect::<Result<_, _>>()?;
    delete_old_keys(&transaction)?;
    expire(&transaction, retention)?;
    let newest = newest(&transaction)?;
    transaction.commit()?;
    Ok(Done { stored, newest })
}

/// One round of deleting without an insert. It writes nothing when the bounds are kept.
fn expire_only(connection: &mut Connection, retention: Retention) -> rusqlite::Result<Expired> {
    let transaction = connection.transaction()?;
    let expired = expire(&transaction, retention)?;
    transaction.commit()?;
    Ok(expired)
}

fn store_bundle(
    transaction: &Transaction<'_>,
    bundle: &Bundle,
    now_ms: i64,
) -> rusqlite::Result<Stored> {
    if !insert_key(transaction, bundle, now_ms)? {
        count(transaction, "bundles_repeated", 1)?;
        return Ok(Stored::Repeated);
    }
    let mut insert = transaction.prepare_cached(
        "INSERT INTO calls (received_ms, now_ms, interval_ms, method, url, host, path, status, request_bytes, response_bytes,
                            content_type, note, line)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
    )?;
    for (line, columns) in bundle.lines() {
        insert.execute(params![
            now_ms,
            columns.now_ms,
            columns.interval_ms,
            columns.method,
            columns.url,
            columns.host,
            columns.path,
            columns.status,
            columns.request_bytes,
            columns.response_bytes,
            columns.content_type,
            columns.note,
            line,
        ])?;
    }
    count(transaction, "calls_received", integer(bundle.calls()))?;
    count(transaction, "bad_lines", integer(bundle.bad_lines))?;
    count(transaction, "bundles_received", 1)?;
    Ok(Stored::New)
}

/// Stores the bundle's key; false when it was there already.
fn insert_key(
    transaction: &Transaction<'_>,
    bundle: &Bundle,
    now_ms: i64,
) -> rusqlite::Result<bool> {
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

fn delete_old_keys(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
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

/// Deletes the oldest calls beyond the bounds. Later calls use the pages that become free; only when many are free, after a
/// bound was lowered, some go back to the file system, a few with every transaction.
fn expire(transaction: &Transaction<'_>, retention: Retention) -> rusqlite::Result<Expired> {
    let stored = calls_stored(transaction)?;
    let by_count = stored.saturating_sub(integer(retention.calls_max));
    let by_bytes = calls_in_oldest(transaction, excess_bytes(transaction, retention)?)?;
    let excess = by_count.max(by_bytes);
    let round = excess.min(integer(EXPIRE_ROUND_CALLS));
    let mut deleted = 0;
    if round > 0 {
        deleted = transaction
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
    Ok(Expired {
        calls: u64::try_from(deleted).unwrap_or(u64::MAX),
        is_more: deleted > 0 && excess >= integer(EXPIRE_ROUND_CALLS),
    })
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

/// How many of the oldest calls hold that many bytes, within one round. The line is nearly all of a row.
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
    use crate::backend::sqlite::file::open_writer;

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
            let (answer, _) = oneshot::channel();
            let insert = Insert {
                bundle: Bundle::split(Bytes::from(text), key.map(Into::into)),
                answer,
            };
            store(&mut self.connection, self.retention, &[insert])
                .expect("stores")
                .stored[0]
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
        assert_eq!(fixture.store(Some("k"), lines(2, 1)), Stored::Repeated);
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
    fn a_full_disk_is_reported_stores_nothing_and_is_survived() {
        let folder = tempfile::tempdir().expect("folder");
        let connection = open_writer(folder.path()).expect("opens");
        connection
            .pragma_update(None, "max_page_count", 20)
            .expect("bounds");
        let writer = Writer::start(connection, Retention::default()).expect("starts");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("runtime");
        let store = |key: &str, text: String| {
            runtime.block_on(writer.insert(Bundle::split(text.into(), Some(key.into()))))
        };
        let refused = store("a", lines(10, 50_000)).expect_err("no room");
        assert!(
            matches!(&refused, Failure::Unavailable(text) if text.contains("full")),
            "{refused:?}"
        );
        assert!(matches!(writer.health(), Health::Down(_)));
        let newest = || writer.arrivals().borrow().clone();
        assert_eq!(newest(), 0.into());
        assert_eq!(store("b", lines(1, 10)), Ok(Stored::New));
        assert_eq!((writer.health(), newest()), (Health::Up, 1.into()));
        runtime.block_on(writer.close()).expect("ends");
        assert!(matches!(
            store("c", lines(1, 1)),
            Err(Failure::Unavailable(_))
        ));
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
    fn old_keys_are_deleted() {
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
