//! Here belongs what needs a database and the rules by which the writing thread stores and deletes.

use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::backend::sqlite::block::Rows;
use crate::backend::sqlite::file::{open_reader, open_writer};
use crate::backend::sqlite::query;
use crate::endpoint::Endpoints;
use crate::fields::FIELDS;
use crate::folder::Folder;
use crate::limits::{DATABASE_BYTES_MIN, EXPIRE_ROUND_CALLS, KEYS_MAX, KEYS_MIN};

fn bundle(text: impl Into<Bytes>, key: Option<&str>, sender: Sender) -> Bundle {
    Bundle::split(text.into(), key.map(Into::into), sender).expect("few lines")
}

fn insert(mut bundle: Bundle) -> Insert {
    Insert {
        prepared: Prepared::of(&mut bundle, &Endpoints::default(), &mut None),
        bundle,
        answer: oneshot::channel().0,
        lines_stored: 0,
    }
}

struct Fixture {
    database: Database,
    retention: Retention,
    _folder: tempfile::TempDir,
}

impl Fixture {
    fn new(retention: Retention) -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let (connection, _) =
            open_writer(&Folder::open(folder.path()).expect("ours")).expect("opens");
        let reader = open_reader(folder.path()).expect("opens");
        query::add_view(&connection, reader).expect("a view");
        Self {
            database: Database::new(connection, Endpoints::default()).expect("memory"),
            retention,
            _folder: folder,
        }
    }

    fn store(&mut self, key: Option<&str>, text: String) -> Stored {
        self.store_from(Sender::Local, key, text)
    }

    /// As the writing thread does.
    fn store_from(&mut self, sender: Sender, key: Option<&str>, text: String) -> Stored {
        let mut insert = insert(bundle(text, key, sender));
        let stored = self.store_part(&mut insert, Room::UNBOUNDED);
        stored.expect("there is room")
    }

    /// One transaction; nothing if a part of the bundle is left for the next one.
    fn store_part(&mut self, insert: &mut Insert, room: Room) -> Option<Stored> {
        let group = std::slice::from_mut(insert);
        let keys_age = self.retention.keys_age;
        let done = store(&mut self.database, group, room, keys_age).expect("stores");
        let mut debt = Debt::default();
        debt.add(done.size);
        while debt.is_due() {
            debt.pay(&mut self.database, self.retention)
                .expect("deletes");
        }
        merge(&mut self.database).expect("merges");
        done.stored.first().copied()
    }

    fn calls_of(&self, sender: Sender) -> i64 {
        self.number(&format!(
            "SELECT coalesce(sum(calls), 0) FROM senders WHERE name = '{sender}'"
        ))
    }

    fn number(&self, sql: &str) -> i64 {
        self.database
            .connection
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
    // Bodies that cannot be compressed by much.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ (count * body_bytes) as u64;
    let mut text = String::new();
    for _ in 0..count {
        text.push_str("[[\"request_method\",\"GET\"],[\"response_body\",\"");
        for _ in 0..body_bytes {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            text.push(char::from(b'0' + (state % 75) as u8).to_ascii_lowercase());
        }
        text.push_str("\"]]\n");
    }
    text.replace('\\', "/")
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
fn a_large_bundle_is_stored_in_parts_and_goes_on_after_a_death() {
    for key in [Some("large"), None] {
        let mut store = Fixture::new(Retention::default());
        let room = Room {
            lines: 40,
            bytes: usize::MAX,
        };
        let line =
            |n| format!("[[\"request_method\",\"GET\"],[\"request_url\",\"http://h/{n}\"]]\n");
        let text = (0..100).map(line).collect::<String>() + "no call\n";
        let large = || insert(bundle(text.clone(), key, Sender::Local));
        let mut first = large();
        assert_eq!(store.store_part(&mut first, room), None);
        assert_eq!(
            (first.lines_stored, store.counter("calls_received")),
            (40, 40)
        );
        assert_eq!(store.counter("bundles_received"), 0);
        if key.is_some() {
            // The sender had no answer and sends it again to another process.
            first = large();
        }
        assert_eq!(store.store_part(&mut first, room), None);
        assert_eq!(store.store_part(&mut first, room), Some(Stored::New));
        assert_eq!(store.counter("calls_received"), 100);
        assert_eq!(store.number("SELECT count(DISTINCT url) FROM calls"), 100);
        assert_eq!(
            (
                store.counter("bundles_received"),
                store.counter("bad_lines")
            ),
            (1, 1)
        );
        if key.is_some() {
            let again = store.store_part(&mut large(), Room::UNBOUNDED);
            assert_eq!(again, Some(Stored::Repeated));
        }
        assert_eq!(store.counter("calls_received"), 100);
        // Bytes bound a part as well, and a line that is longer than all of them is a part of its own.
        let room = Room {
            lines: usize::MAX,
            bytes: 1,
        };
        let mut next = insert(bundle(lines(3, 10), Some("bytes"), Sender::Local));
        assert_eq!(store.store_part(&mut next, room), None);
        assert_eq!(store.store_part(&mut next, room), None);
        assert_eq!(store.store_part(&mut next, room), Some(Stored::New));
    }
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
    assert_eq!(
        fixture.number("SELECT min(CAST(id AS INTEGER)) FROM calls"),
        12
    );
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
    let bytes =
        fixture.number("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size");
    assert!(bytes < 2 * integer(DATABASE_BYTES_MIN), "{bytes}");
    assert_eq!(
        fixture.number("SELECT max(CAST(id AS INTEGER)) FROM calls"),
        1500
    );
    assert!(fixture.number("SELECT count(*) FROM calls") > 100);

    fixture.retention.calls_max = 1;
    for _ in 0..20 {
        fixture.store(None, lines(1, 1));
    }
    let bytes =
        fixture.number("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size");
    assert!(
        bytes < integer(DATABASE_BYTES_MIN) / 4,
        "a lowered bound gives no pages back: {bytes}"
    );
}

/// After the bounds were lowered the file shrinks, although no bundle arrives.
#[test]
fn space_goes_back_to_the_file_system_without_bundles() {
    let mut fixture = Fixture::new(Retention::default());
    for _ in 0..10 {
        fixture.store(None, lines(50, 40_000));
    }
    let pages = |fixture: &Fixture| fixture.number("SELECT page_count FROM pragma_page_count");
    let full = pages(&fixture);
    let lowered = Retention {
        calls_max: 1,
        ..Retention::default()
    };
    let mut rounds = 0;
    while Expired::from(retention::round(&mut fixture.database, lowered).expect("deletes")).is_more
    {
        rounds += 1;
        assert!(rounds < 1000, "it never ends");
    }
    let (left, free) = (
        pages(&fixture),
        fixture.number("SELECT freelist_count FROM pragma_freelist_count"),
    );
    assert!(
        rounds > 1 && left < full / 10,
        "{rounds} rounds, {left} of {full}"
    );
    assert!(free <= left / 4, "{free} of {left} are free");
    fixture.check_balance();
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
        fixture.number("SELECT min(CAST(id AS INTEGER)) FROM calls"),
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
    age(&mut fixture, 3_600_001);
    fixture.store(None, lines(7, 1));
    assert_eq!(fixture.calls_of(host(1)), 0);
    assert_eq!(fixture.calls_of(Sender::Local), 7);
    assert_eq!(fixture.counter("calls_expired"), 25);
    fixture.check_balance();
}

/// Makes the calls that are stored look older.
fn age(fixture: &mut Fixture, by_ms: i64) {
    let connection = &fixture.database.connection;
    let heads = crate::backend::sqlite::block::heads_behind(connection, 0, 1000).expect("reads");
    let mut calls = Vec::new();
    for head in &heads {
        let block = crate::backend::sqlite::block::Block::new(connection, head);
        for row in 0..head.rows {
            let mut call = block.columns(row).expect("reads");
            call.received_ms -= by_ms;
            let number = |number| block.number(number, row).expect("reads").expect("has one");
            let sender = number(crate::backend::sqlite::block::Number::Sender);
            let bytes = number(crate::backend::sqlite::block::Number::LineBytes);
            calls.push((block.arrival(row).expect("reads"), sender, bytes, call));
        }
    }
    let aged = fixture.database.change(|transaction, _| {
        heads.iter().try_for_each(|head| head.delete(transaction))?;
        let mut rows = Rows::default();
        for (arrival, sender, bytes, call) in &calls {
            rows.push(*arrival, *sender, usize::try_from(*bytes)?, call);
        }
        rows.write(transaction)?;
        Ok(())
    });
    aged.expect("writes");
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
        fixture.number("SELECT min(CAST(id AS INTEGER)) FROM calls WHERE sender = '192.0.2.3'"),
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
    let large = fixture.calls_of(host(2));
    assert!((5..12).contains(&large), "{large}");
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
    let calls =
        |fixture: &Fixture| [Sender::Capture, Sender::Local].map(|sender| fixture.calls_of(sender));
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
        retention::round(&mut fixture.database, fixture.retention).expect("deletes");
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
    let wal = Wal::new(folder.path(), Arc::default(), None);
    let database = Database::new(connection, Endpoints::default()).expect("memory");
    let writer = Writer::start(database, lock, wal, Retention::default()).expect("starts");
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

/// Inserts a key of each of these ages, oldest first, as numbers `from` and following.
fn remember(fixture: &Fixture, from: i64, ages: &[Duration]) {
    for (id, age) in (from..).zip(ages) {
        let received = unix_ms() - integer(age.as_millis());
        let row = params![id, id.to_string(), received];
        fixture
            .database
            .connection
            .execute("INSERT INTO bundles VALUES (?1, ?2, 0, 0, ?3, 1, 0)", row)
            .expect("inserts");
    }
}

#[test]
fn keys_are_remembered_for_as_long_as_a_spool_may_keep_a_bundle() {
    let age = Duration::from_hours(30 * 24);
    let mut fixture = Fixture::new(Retention {
        keys_age: age,
        ..Retention::default()
    });
    let text = || lines(1, 1);
    assert_eq!(fixture.store(Some("kept for long"), text()), Stored::New);
    fixture
        .database
        .connection
        .execute(
            "UPDATE bundles SET received_ms = received_ms - ?1",
            [integer(age.as_millis()) - 60_000],
        )
        .expect("ages it");
    // Many more than are remembered whatever their age is.
    remember(&fixture, integer(KEYS_MIN) + 10, &[Duration::ZERO]);
    assert_eq!(fixture.store(Some("next"), text()), Stored::New);
    assert_eq!(
        fixture.store(Some("kept for long"), text()),
        Stored::Repeated
    );

    fixture
        .database
        .connection
        .execute(
            "UPDATE bundles SET received_ms = received_ms - 120000 WHERE id = 1",
            [],
        )
        .expect("ages it");
    assert_eq!(fixture.store(Some("another"), text()), Stored::New);
    assert_eq!(fixture.store(Some("kept for long"), text()), Stored::New);
    assert_eq!(fixture.counter("keys_forgotten"), 0, "it was its time");
}

#[test]
fn a_clock_that_is_set_forward_makes_few_keys_old() {
    let mut fixture = Fixture::new(Retention::default());
    let year = Duration::from_hours(365 * 24);
    remember(&fixture, 1, &[year; 50]);
    fixture.store(Some("new"), lines(1, 1));
    assert_eq!(fixture.number("SELECT count(*) FROM bundles"), 51);
}

#[test]
fn keys_are_bounded_and_those_forgotten_too_early_are_counted() {
    let mut fixture = Fixture::new(Retention::default());
    remember(&fixture, 1, &[Duration::from_secs(9); 3]);
    remember(&fixture, integer(KEYS_MAX) + 1, &[Duration::ZERO]);
    fixture.store(Some("new"), lines(1, 1));
    assert_eq!(fixture.number("SELECT min(id) FROM bundles"), 3);
    assert_eq!(fixture.counter("keys_forgotten"), 2);
    // A file of an earlier program has no such counter.
    fixture
        .database
        .connection
        .execute("DELETE FROM counters WHERE name = 'keys_forgotten'", [])
        .expect("deletes");
    fixture.store(Some("newer"), lines(1, 1));
    assert_eq!(fixture.counter("keys_forgotten"), 1);
}

/// What the documents state of a key's size.
#[test]
fn a_key_takes_few_bytes_of_the_database() {
    let mut fixture = Fixture::new(Retention::default());
    let pages = |fixture: &Fixture| {
        fixture.number("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")
    };
    let before = pages(&fixture);
    let keys = 20_000;
    let transaction = fixture.database.connection.transaction().expect("begins");
    for number in 0..keys {
        let key = format!("{:032x}", (0x1234_5678_9abc_def0_u128 << 64) + number);
        let bundle = bundle("", Some(&key), Sender::Local);
        assert!(keys::insert(&transaction, &bundle, 1, unix_ms()).expect("inserts"));
    }
    transaction.commit().expect("commits");
    let bytes = (pages(&fixture) - before) / i64::try_from(keys).expect("few");
    assert!((80..=160).contains(&bytes), "{bytes} bytes a key");
}

#[test]
fn lines_that_were_compressed_before_come_back_however_they_are_stored() {
    // Three chunks and a rest.
    let text = lines(3100, 500);
    let expected: Vec<&str> = text.lines().collect();
    for lines in [usize::MAX, 700, 1000] {
        let mut fixture = Fixture::new(Retention::default());
        let mut insert = insert(bundle(text.clone(), None, host(1)));
        let room = Room {
            lines,
            bytes: usize::MAX,
        };
        while fixture.store_part(&mut insert, room).is_none() {}
        let connection = &fixture.database.connection;
        let mut select = connection
            .prepare("SELECT line FROM calls ORDER BY CAST(id AS INTEGER)")
            .expect("SQL");
        let stored = select.query_map([], |row| row.get(0)).expect("reads");
        let stored: Vec<String> = stored.collect::<Result<_, _>>().expect("reads");
        assert!(stored == expected, "{lines}");
        fixture.check_balance();
    }
}

#[test]
fn a_bundle_of_the_capture_waits_for_one_round_of_deleting_and_others_for_all() {
    let retention = Retention {
        calls_max: 10,
        ..Retention::default()
    };
    let Fixture {
        mut database,
        _folder: folder,
        ..
    } = Fixture::new(retention);
    let mut first = insert(bundle(lines(9_000, 1), None, Sender::Local));
    let group = std::slice::from_mut(&mut first);
    let done = store(&mut database, group, Room::UNBOUNDED, retention.keys_age).expect("stores");
    let (jobs, waiting) = queue(QUEUED_MAX).expect("a queue");
    let mut debt = Debt::default();
    debt.add(done.size);
    let mut writing = Writing {
        wal: Wal::new(folder.path(), Arc::default(), None),
        database,
        _lock: tempfile::tempfile().expect("a file"),
        retention,
        debt,
        is_merge_due: true,
        is_turn_of_upkeep: false,
        waiting,
        arrivals: watch::channel(0.into()).0,
        health: watch::channel(Health::Up).0,
    };
    let send = |jobs: &Jobs<Job>, sender| {
        let job = Job::Insert(insert(bundle(lines(20, 1), None, sender)));
        let sent = futures_util::FutureExt::now_or_never(jobs.send(sender == Sender::Capture, job));
        assert_eq!(sent, Some(true));
    };
    for sender in [Sender::Local, host(1), Sender::Capture] {
        send(&jobs, sender);
    }
    // The capture sends its next bundle when the one before is stored.
    let mut jobs = Some(jobs);
    let expired = |writing: &Writing| -> i64 {
        (writing.database.connection)
            .query_row(
                "SELECT value FROM counters WHERE name = 'calls_expired'",
                [],
                |row| row.get(0),
            )
            .expect("a counter")
    };
    let most = integer(EXPIRE_ROUND_CALLS) + integer(crate::limits::BLOCK_CALLS_MAX);
    let (mut of_capture, mut of_others) = (0, 0);
    let mut before = 0;
    while let Some(job) = writing.next() {
        let Job::Insert(Insert { bundle, .. }) = &job else {
            panic!("another job");
        };
        let now = expired(&writing);
        if bundle.sender == Sender::Capture {
            assert!(now - before <= most, "{now} after {before}");
            assert!(of_capture > 0 || now == 0);
            of_capture += 1;
        } else {
            assert!(!writing.debt.is_due() && now >= 8_990, "{now}");
            of_others += 1;
        }
        before = now;
        let is_of_capture = bundle.sender == Sender::Capture;
        drop(writing.perform(job));
        match &jobs {
            Some(jobs) if of_capture < 4 && is_of_capture => send(jobs, Sender::Capture),
            Some(_) if is_of_capture => drop(jobs.take()),
            _ => {}
        }
    }
    assert_eq!(
        (of_capture, of_others),
        (4, 1),
        "others that wait share a transaction"
    );
    writing.end();
    assert_eq!(expired(&writing), 9_000 + 6 * 20 - 10);
}

fn not_prepared(bundle: Bundle) -> Insert {
    Insert {
        prepared: Prepared::default(),
        bundle,
        answer: oneshot::channel().0,
        lines_stored: 0,
    }
}

/// All that a query can see of the calls, but for the time at which they were received.
fn everything(fixture: &Fixture) -> Vec<String> {
    let fields = FIELDS.iter().map(|spec| spec.name);
    let fields: Vec<&str> = fields.filter(|name| *name != "received").collect();
    let calls = format!(
        "SELECT json_array(id, {}, facts, line) FROM calls ORDER BY CAST(id AS INTEGER)",
        fields.join(", ")
    );
    let minutes = "SELECT json_array(minute, host, endpoint, method, status, vni, hex(data)) AS row
                   FROM minutes JOIN minute_keys ON key = id ORDER BY row";
    let mut all = Vec::new();
    for sql in [&calls, minutes] {
        let mut select = fixture.database.connection.prepare(sql).expect(sql);
        let rows = select
            .query_map([], |row| row.get::<_, String>(0))
            .expect("reads");
        all.extend(rows.map(|row| row.expect("reads")));
    }
    all
}

#[test]
fn calls_are_the_same_whether_they_were_prepared_or_not() {
    let now = unix_ms();
    let text: String = (0..2500)
        .map(|n| {
            let (status, path) = (200 + n % 7 * 50, ["orders", "users", "a-b"][n % 3]);
            let more = match n % 5 {
                0 => r#",["custom_field:vni","7"],["custom_field:build","b\"1"]"#,
                1 => r#",["custom_field:request_body_bytes","99"],["response_body","\u00e9\n"]"#,
                _ => "",
            };
            let now = now - 60_000 * (n as i64 % 4);
            format!(
                r#"[["request_method","GET"],["request_url","http://h{}/{path}/{n}"],["response_code","{status}"],["now","{now}"],["interval","{n}"]{more}]"#,
                n % 11
            ) + "\n"
        })
        .collect();
    let whole = || bundle(text.clone(), Some("key"), host(1));
    let mut slow = Fixture::new(Retention::default());
    slow.store_part(&mut not_prepared(whole()), Room::UNBOUNDED);
    let expected = everything(&slow);
    assert!(expected.len() > 2500 + 4 * 11);
    for lines_before in [0, 1, 700, 2300] {
        let mut fixture = Fixture::new(Retention::default());
        if lines_before > 0 {
            // By an earlier process, which died.
            let room = Room {
                lines: lines_before,
                bytes: usize::MAX,
            };
            assert_eq!(fixture.store_part(&mut not_prepared(whole()), room), None);
        }
        let mut prepared = insert(whole());
        assert_eq!(
            prepared.bundle.lines().next().expect("lines").0,
            "",
            "it has no text any more"
        );
        let room = Room {
            lines: 2048,
            bytes: usize::MAX,
        };
        while fixture.store_part(&mut prepared, room).is_none() {}
        let found = everything(&fixture);
        assert!(found == expected, "{lines_before}");
        fixture.check_balance();
    }
}
