//! The one thread that writes: bundles in, committed rows out.
//!
//! Bundles that wait are stored in one transaction, so that many small senders cost one commit. Each sender gets its answer only
//! after the commit. The same transaction holds the idempotency key and the totals; a death at any moment leaves all of it or
//! nothing. Calls beyond the bounds are deleted in short transactions of their own (`retention`), after the senders have their
//! answers.

use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use anyhow::{Context, anyhow};
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use tokio::sync::{mpsc, oneshot, watch};

use super::reader::newest;
use super::retention::{self, Size, count, integer};
use super::wal::Wal;
use crate::backend::{Expired, Failure, Health, Retention, Stored};
use crate::bundle::Bundle;
use crate::call::Arrival;
use crate::clock::unix_ms;
use crate::limits::{
    KEYS_MAX, POST_THREADS, SENDERS_MAX, TRANSACTION_BYTES_MAX, TRANSACTION_LINES_MAX,
};
use crate::sender::Sender;

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
    /// `lock` is held until the thread has closed the database.
    pub(super) fn start(
        connection: Connection,
        lock: File,
        wal: Wal,
        retention: Retention,
    ) -> anyhow::Result<Self> {
        let newest = newest(&connection)?;
        let (jobs, waiting) = mpsc::channel(POST_THREADS);
        let (arrivals_sender, arrivals) = watch::channel(newest.into());
        let (health_sender, health) = watch::channel(Health::Up);
        let writing = Writing {
            connection,
            _lock: lock,
            wal,
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

    pub(super) fn health(&self) -> watch::Receiver<Health> {
        self.health.clone()
    }
}

/// The state of the writing thread.
struct Writing {
    // Fields drop in this order: the lock is given up after the database is closed.
    connection: Connection,
    _lock: File,
    wal: Wal,
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
            // What it could not copy stays in the log, and the next transaction fails if the disk is full.
            drop(self.wal.keep_short(&self.connection));
            next = behind.or_else(|| self.waiting.blocking_recv());
        }
        // Leaves one file instead of three. If it fails, the next start reads the log: nothing is lost.
        drop(self.wal.empty(&self.connection));
    }

    /// Stores a bundle, together with those that wait behind it. Returns the job that ended the group.
    fn insert(&mut self, first: Insert) -> Option<Job> {
        let (group, behind) = self.group(first);
        match store(&mut self.connection, &group) {
            Ok(done) => {
                self.health.send_replace(Health::Up);
                self.arrivals.send_replace(done.newest.into());
                answer(group, done.stored.into_iter().map(Ok));
                let kept = retention::keep(&mut self.connection, self.retention, done.size);
                if let Err(error) = kept {
                    self.failed(&error, "old calls cannot be deleted");
                }
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
        let mut lines = first.bundle.calls();
        let mut group = vec![first];
        while bytes < TRANSACTION_BYTES_MAX && lines < TRANSACTION_LINES_MAX {
            match self.waiting.try_recv() {
                Ok(Job::Insert(insert)) => {
                    bytes += insert.bundle.bytes();
                    lines += insert.bundle.calls();
                    group.push(insert);
                }
                Ok(other) => return (group, Some(other)),
                Err(_) => break,
            }
        }
        (group, None)
    }

    fn expire(&mut self) -> Result<Expired, Failure> {
        retention::round(&mut self.connection, self.retention)
            .map(|(expired, _)| expired)
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
    size: Size,
}

fn store(connection: &mut Connection, group: &[Insert]) -> rusqlite::Result<Done> {
    let transaction = connection.transaction()?;
    let now = unix_ms();
    let mut size = Size::default();
    let stored = group
        .iter()
        .map(|insert| store_bundle(&transaction, &insert.bundle, now, &mut size))
        .collect::<Result<_, _>>()?;
    delete_old_keys(&transaction)?;
    let newest = newest(&transaction)?;
    transaction.commit()?;
    Ok(Done {
        stored,
        newest,
        size,
    })
}

fn store_bundle(
    transaction: &Transaction<'_>,
    bundle: &Bundle,
    now_ms: i64,
    size: &mut Size,
) -> rusqlite::Result<Stored> {
    if !insert_key(transaction, bundle, now_ms)? {
        count(transaction, "bundles_repeated", 1)?;
        return Ok(Stored::Repeated);
    }
    let sender = sender(transaction, bundle.sender)?;
    let mut insert = transaction.prepare_cached(
        "INSERT INTO calls (sender, received_ms, now_ms, interval_ms, method, url, host, path, status, request_bytes,
                            response_bytes, content_type, note, line)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
    )?;
    let mut stored = Size::default();
    for (line, columns) in bundle.lines() {
        stored.calls += 1;
        stored.bytes += integer(line.len());
        insert.execute(params![
            sender,
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
    transaction
        .prepare_cached(
            "UPDATE senders SET calls = calls + ?2, bytes = bytes + ?3, received = received + ?2 WHERE id = ?1",
        )?
        .execute(params![sender, stored.calls, stored.bytes])?;
    size.calls += stored.calls;
    size.bytes += stored.bytes;
    count(transaction, "calls_received", stored.calls)?;
    count(transaction, "bad_lines", integer(bundle.bad_lines))?;
    count(transaction, "bundles_received", 1)?;
    Ok(Stored::New)
}

/// The row of a sender, new when it has none. Past [`SENDERS_MAX`] one without calls is forgotten for it, or else it shares the
/// row of all others.
fn sender(transaction: &Transaction<'_>, sender: Sender) -> rusqlite::Result<i64> {
    let name = sender.to_string();
    if let Some(row) = sender_row(transaction, &name)? {
        return Ok(row);
    }
    let known: i64 = transaction.query_row("SELECT count(*) FROM senders", [], |row| row.get(0))?;
    let is_full = known >= integer(SENDERS_MAX)
        && transaction.execute("DELETE FROM senders WHERE calls = 0", [])? == 0;
    let name = if is_full && !sender.is_of_this_host() {
        "other"
    } else {
        &name
    };
    transaction.execute(
        "INSERT OR IGNORE INTO senders (name, calls, bytes, received, expired) VALUES (?1, 0, 0, 0, 0)",
        [name],
    )?;
    let row = sender_row(transaction, name)?;
    row.ok_or(rusqlite::Error::QueryReturnedNoRows)
}

fn sender_row(transaction: &Transaction<'_>, name: &str) -> rusqlite::Result<Option<i64>> {
    transaction
        .prepare_cached("SELECT id FROM senders WHERE name = ?1")?
        .query_row([name], |row| row.get(0))
        .optional()
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::backend::sqlite::file::open_writer;
    use crate::folder::Folder;
    use crate::limits::{DATABASE_BYTES_MIN, EXPIRE_ROUND_CALLS};

    fn bundle(text: impl Into<Bytes>, key: Option<&str>, sender: Sender) -> Bundle {
        Bundle::split(text.into(), key.map(Into::into), sender).expect("few lines")
    }

    struct Fixture {
        connection: Connection,
        retention: Retention,
        _folder: tempfile::TempDir,
    }

    impl Fixture {
        fn new(retention: Retention) -> Self {
            let folder = tempfile::tempdir().expect("folder");
            Self {
                connection: open_writer(&Folder::open(folder.path()).expect("ours"))
                    .expect("opens")
                    .0,
                retention,
                _folder: folder,
            }
        }

        fn store(&mut self, key: Option<&str>, text: String) -> Stored {
            self.store_from(Sender::Local, key, text)
        }

        /// As the writing thread does.
        fn store_from(&mut self, sender: Sender, key: Option<&str>, text: String) -> Stored {
            let (answer, _) = oneshot::channel();
            let bundle = bundle(text, key, sender);
            let done = store(&mut self.connection, &[Insert { bundle, answer }]).expect("stores");
            retention::keep(&mut self.connection, self.retention, done.size).expect("deletes");
            done.stored[0]
        }

        fn calls_of(&self, sender: Sender) -> i64 {
            self.number(&format!(
                "SELECT coalesce(sum(calls), 0) FROM senders WHERE name = '{sender}'"
            ))
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
            for (stored, counted) in [
                ("count(*)", "sum(calls)"),
                ("sum(octet_length(line))", "sum(bytes)"),
            ] {
                assert_eq!(
                    self.number(&format!("SELECT {stored} FROM calls")),
                    self.number(&format!("SELECT {counted} FROM senders"))
                );
            }
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

    #[test]
    fn one_large_bundle_is_back_within_the_bounds_in_several_rounds() {
        let mut fixture = Fixture::new(Retention {
            calls_max: 10,
            ..Retention::default()
        });
        let rounds = 3;
        let many = usize::try_from(EXPIRE_ROUND_CALLS * rounds).expect("few");
        fixture.store(None, lines(many, 1));
        assert_eq!(fixture.number("SELECT count(*) FROM calls"), 10);
        assert_eq!(
            fixture.number("SELECT min(id) FROM calls"),
            integer(many) - 9
        );
        fixture.check_balance();
    }

    #[test]
    fn calls_past_the_age_are_deleted_whoever_sent_them() {
        let mut fixture = Fixture::new(Retention {
            age_max: Some(Duration::from_secs(3600)),
            ..Retention::default()
        });
        fixture.store_from(host(1), None, lines(20, 1));
        fixture.store(None, lines(5, 1));
        fixture
            .connection
            .execute("UPDATE calls SET received_ms = received_ms - 3600001", [])
            .expect("ages them");
        fixture.store(None, lines(7, 1));
        assert_eq!(fixture.calls_of(host(1)), 0);
        assert_eq!(fixture.calls_of(Sender::Local), 7);
        assert_eq!(fixture.counter("calls_expired"), 25);
        fixture.check_balance();
    }

    fn host(number: u8) -> Sender {
        Sender::of([192, 0, 2, number].into())
    }

    #[test]
    fn who_sends_the_most_displaces_its_own_calls() {
        let mut fixture = Fixture::new(Retention {
            calls_max: 100,
            ..Retention::default()
        });
        fixture.store_from(host(1), None, lines(20, 1));
        fixture.store_from(host(2), None, lines(30, 1));
        for _ in 0..50 {
            fixture.store_from(host(3), None, lines(40, 1));
        }
        let calls = [1, 2, 3].map(|number| fixture.calls_of(host(number)));
        assert_eq!(calls, [20, 30, 50]);
        fixture.check_balance();
        // The newest of a sender stay.
        assert_eq!(
            fixture.number("SELECT min(id) FROM calls WHERE sender = 3"),
            2001
        );

        // A further one takes from those that have more than it, down to one level.
        fixture.store_from(host(4), None, lines(1000, 1));
        let calls = [1, 2, 3, 4].map(|number| fixture.calls_of(host(number)));
        assert_eq!(calls, [20, 27, 27, 26]);
        fixture.check_balance();
    }

    #[test]
    fn bytes_are_shared_as_calls_are() {
        let mut fixture = Fixture::new(Retention {
            database_bytes_max: DATABASE_BYTES_MIN,
            ..Retention::default()
        });
        fixture.store_from(host(1), None, lines(10, 50_000));
        for _ in 0..40 {
            fixture.store_from(host(2), None, lines(1, 500_000));
        }
        assert_eq!(fixture.calls_of(host(1)), 10);
        assert!((3..8).contains(&fixture.calls_of(host(2))));
        fixture.check_balance();
    }

    #[test]
    fn the_network_cannot_displace_the_share_of_this_host() {
        let mut fixture = Fixture::new(Retention {
            calls_max: 100,
            ..Retention::default()
        });
        fixture.store(None, lines(100, 1));
        for number in 1..=80 {
            fixture.store_from(host(number), None, lines(20, 1));
        }
        let local = fixture.calls_of(Sender::Local);
        assert!((50..=51).contains(&local), "{local}");
        assert_eq!(fixture.number("SELECT count(*) FROM calls"), 100);
        fixture.check_balance();
    }

    #[test]
    fn others_on_this_host_cannot_displace_what_the_capture_stored() {
        let mut fixture = Fixture::new(Retention {
            calls_max: 100,
            ..Retention::default()
        });
        fixture.store_from(Sender::Capture, None, lines(100, 1));
        for _ in 0..10 {
            fixture.store_from(Sender::Local, None, lines(100, 1));
        }
        let calls = |fixture: &Fixture| {
            [Sender::Capture, Sender::Local].map(|sender| fixture.calls_of(sender))
        };
        assert_eq!(calls(&fixture), [50, 50]);
        for number in 1..=80 {
            fixture.store_from(host(number), None, lines(20, 1));
        }
        let left = calls(&fixture);
        assert!(
            left.iter().all(|calls| (25..=26).contains(calls)),
            "{left:?}"
        );
        fixture.check_balance();
    }

    #[test]
    fn senders_are_bounded_and_those_without_calls_are_forgotten() {
        let mut fixture = Fixture::new(Retention::default());
        let from = |number: u64| {
            let [.., a, b] = number.to_be_bytes();
            Sender::of([10, 0, a, b].into())
        };
        for number in 0..SENDERS_MAX + 5 {
            fixture.store_from(from(number), None, lines(1, 1));
        }
        let senders = |fixture: &Fixture| fixture.number("SELECT count(*) FROM senders");
        assert_eq!(senders(&fixture), integer(SENDERS_MAX + 1));
        assert_eq!(
            fixture.number("SELECT calls FROM senders WHERE name = 'other'"),
            5
        );
        fixture.store(None, lines(1, 1));
        assert_eq!(fixture.calls_of(Sender::Local), 1);
        fixture.retention.calls_max = 1;
        for _ in 0..300 {
            retention::round(&mut fixture.connection, fixture.retention).expect("deletes");
        }
        fixture.store_from(host(1), None, lines(1, 1));
        assert_eq!(fixture.calls_of(host(1)), 1);
        assert!(senders(&fixture) <= 3, "{}", senders(&fixture));
        fixture.check_balance();
    }

    /// The file system being full looks the same to SQLite as a file that may not grow.
    #[test]
    fn a_full_disk_is_reported_stores_nothing_and_is_survived() {
        let folder = tempfile::tempdir().expect("folder");
        let (connection, lock) =
            open_writer(&Folder::open(folder.path()).expect("ours")).expect("opens");
        connection
            .pragma_update(None, "max_page_count", 20)
            .expect("bounds");
        let wal = Wal::new(folder.path(), Arc::default());
        let writer = Writer::start(connection, lock, wal, Retention::default()).expect("starts");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("runtime");
        let store = |key: &str, text: String| {
            runtime.block_on(writer.insert(bundle(text, Some(key), Sender::Local)))
        };
        let refused = store("a", lines(10, 50_000)).expect_err("no room");
        assert!(
            matches!(&refused, Failure::Unavailable(text) if text.contains("full")),
            "{refused:?}"
        );
        let health = || writer.health().borrow().clone();
        assert!(matches!(health(), Health::Down(_)));
        let newest = || writer.arrivals().borrow().clone();
        assert_eq!(newest(), 0.into());
        assert_eq!(store("b", lines(1, 10)), Ok(Stored::New));
        assert_eq!((health(), newest()), (Health::Up, 1.into()));
        runtime.block_on(writer.close()).expect("ends");
        assert!(matches!(
            store("c", lines(1, 1)),
            Err(Failure::Unavailable(_))
        ));
        let (connection, _lock) =
            open_writer(&Folder::open(folder.path()).expect("ours")).expect("opens");
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
