//! The uploader with a spool: nothing is lost while the collector is away, or when the process ends.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::sync::Condvar;

use engine_core::bundle::{self, Bundler, Compression};
use engine_core::message::{Notes, Output as _};
use tempfile::TempDir;

use super::*;
use crate::limits;
use crate::sink::spool::Bounds;

fn opened(folder: &Path) -> Option<spool::Opened> {
    let opened = spool::open(spool::Config {
        folder: folder.to_owned(),
        bounds: Bounds {
            bytes: 1 << 30,
            age: Duration::from_secs(1 << 30),
        },
        bytes_per_second: 1 << 40,
        rules: 7,
    });
    Some(opened.unwrap())
}

/// Where nobody listens.
fn nowhere() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}/message", listener.local_addr().unwrap())
}

fn body(id: u128) -> Vec<u8> {
    vec![id as u8; 100 + id as usize]
}

/// A spool in which bundles of two calls wait.
fn filled(bundles: u128) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut bed = Bed::with_spool(Choice::Auto, &nowhere(), opened(folder.path()), |config| {
        config.backlog_bundles = 8;
    });
    for id in 0..bundles {
        bed.push(id, &body(id), 2);
    }
    let report = bed.stop(Duration::from_millis(50));
    let counters = report.counters;
    assert_eq!(counters.calls_dropped(), 0, "{report:?}");
    assert_eq!(u128::from(counters.calls_spooled), 2 * bundles);
    folder
}

fn ids(received: &[Received]) -> Vec<u128> {
    let keys = received.iter().map(Received::key);
    keys.map(|key| u128::from_str_radix(key, 16).unwrap())
        .collect()
}

#[test]
fn what_a_collector_does_not_take_is_delivered_by_the_next_process() {
    both(|driver| {
        let folder = filled(100);
        let server = Server::start(ok);
        let mut bed = Bed::with_spool(driver, &url(&server), opened(folder.path()), |config| {
            config.connections = 1;
        });
        let snapshot = bed.snapshot();
        assert_eq!(snapshot.counters.calls_recovered, 200);
        bed.wait("all sent", |snapshot| snapshot.counters.calls_sent == 200);
        let report = bed.stop(PATIENCE);
        assert_eq!(
            (report.counters.calls_spooled, report.counters.retries),
            (0, 0)
        );
        let received = server.received();
        assert_eq!(
            ids(&received),
            (0..100).collect::<Vec<_>>(),
            "each once, in order"
        );
        for (id, request) in (0..).zip(&received) {
            assert!(request.body == body(id), "{id}");
            assert_eq!(request.headers["idempotency-retry"], "1");
        }
        let left = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(left, 2, "only the lock and the ledger");
    });
}

#[test]
fn what_is_captured_now_is_delivered_before_what_was_kept() {
    let folder = filled(20);
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let server = {
        let gate = gate.clone();
        Server::start(move |request| {
            let (open, opened) = &*gate;
            if request.number == 0 {
                let is_open = open.lock().unwrap();
                drop(opened.wait_while(is_open, |is_open| !*is_open).unwrap());
            }
            ok(request)
        })
    };
    let mut bed = Bed::with_spool(
        Choice::Auto,
        &url(&server),
        opened(folder.path()),
        |config| {
            config.connections = 1;
        },
    );
    bed.wait("the first is under way", |snapshot| {
        snapshot.counters.attempts == 1
    });
    bed.push(1000, b"live", 1);
    // One that was kept is under way, and one that is read ahead.
    bed.wait("it is there", |snapshot| {
        snapshot.counters.bundles_queued == 3
    });
    *gate.0.lock().unwrap() = true;
    gate.1.notify_all();
    bed.wait("all sent", |snapshot| snapshot.counters.calls_sent == 41);
    assert_eq!(ids(&server.received())[..3], [0, 1000, 1]);
    let received = server.received();
    assert!(!received[1].headers.contains_key("idempotency-retry"));
    bed.stop(PATIENCE);
}

/// A process that is killed while the collector stalls leaves what it was posting.
#[test]
fn what_is_under_way_is_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(|_| Answer::Stall);
    let mut bed = Bed::with_spool(Choice::Auto, &url(&server), opened(folder.path()), |_| {});
    for id in 0..10 {
        bed.push(id, &body(id), 1);
    }
    bed.wait("under way", |snapshot| snapshot.counters.attempts == 2);
    let spooled = |snapshot: &Snapshot| snapshot.spool.as_ref().unwrap().totals.calls == 10;
    bed.wait("on disk", spooled);
    // As a kill leaves it: nothing is closed or synced.
    let killed = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(folder.path()).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, killed.path().join(path.file_name().unwrap())).unwrap();
    }
    bed.stop(Duration::ZERO);
    drop(server);
    let server = Server::start(ok);
    let mut bed = Bed::with_spool(Choice::Auto, &url(&server), opened(killed.path()), |_| {});
    bed.wait("all sent", |snapshot| snapshot.counters.calls_sent == 10);
    bed.stop(PATIENCE);
    let received: HashSet<u128> = ids(&server.received()).into_iter().collect();
    assert_eq!(received, (0..10).collect());
}

#[test]
fn an_outage_takes_no_more_memory_than_without_a_spool() {
    let folder = tempfile::tempdir().unwrap();
    let mut bed = Bed::with_spool(Choice::Auto, &nowhere(), opened(folder.path()), |config| {
        config.backlog_bundles = 1000;
        config.backlog_bytes = 100_000;
    });
    for id in 0..300 {
        bed.push(id, &[7; 5000], 3);
        let counters = bed.snapshot().counters;
        assert!(counters.bytes_queued <= 100_000, "{counters:?}");
    }
    let counters = bed.stop(Duration::ZERO).counters;
    assert_eq!((counters.calls_spooled, counters.calls_dropped()), (900, 0));
}

fn two_lines() -> Bundle {
    let mut bundler = Bundler::new(bundle::Config {
        compression: Compression::Fast,
        id_seed: 9,
        ..bundle::Config::default()
    });
    for line in ["[\"one\"]", "[\"two\"]"] {
        bundler.line(line.as_bytes(), &Notes::default());
    }
    bundler.close();
    bundler.pop().unwrap()
}

/// The parts of a bundle that is too large are kept as they are: the next process sends the same under the same keys.
#[test]
fn parts_of_a_bundle_are_kept_with_their_keys() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(|request| match request.number {
        0 => Answer::Status("413 Content Too Large"),
        _ => Answer::Stall,
    });
    let mut bed = Bed::with_spool(Choice::Auto, &url(&server), opened(folder.path()), |_| {});
    bed.push_bundle(two_lines());
    // That a part is being posted does not mean yet that the server has it.
    bed.wait("both parts received", |_| server.received().len() == 3);
    let counters = bed.stop(Duration::ZERO).counters;
    assert_eq!((counters.calls_spooled, counters.calls_dropped()), (2, 0));
    let posted: HashSet<u128> = ids(&server.received()[1..]).into_iter().collect();
    drop(server);
    let server = Server::start(ok);
    let mut bed = Bed::with_spool(Choice::Auto, &url(&server), opened(folder.path()), |_| {});
    bed.wait("all sent", |snapshot| snapshot.counters.calls_sent == 2);
    bed.stop(PATIENCE);
    let again: HashSet<u128> = ids(&server.received()).into_iter().collect();
    assert_eq!((again.len(), again), (2, posted));
}

#[test]
fn what_is_refused_does_not_come_again() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(|_| Answer::Status("400 Bad Request"));
    let mut bed = Bed::with_spool(Choice::Auto, &url(&server), opened(folder.path()), |_| {});
    let bundles = limits::SPOOL_REFUSED_MAX as u64 + 3;
    for id in 0..bundles {
        bed.push(id.into(), &body(id.into()), 4);
    }
    bed.wait("refused", |snapshot| {
        snapshot.counters.calls_dropped_refused == 4 * bundles
    });
    assert_eq!(bed.stop(PATIENCE).counters.calls_spooled, 0);
    let kept = fs::read_dir(folder.path()).unwrap().filter(|entry| {
        let name = entry.as_ref().unwrap().file_name();
        name.to_str().unwrap().starts_with("refused-")
    });
    assert_eq!(
        kept.count(),
        limits::SPOOL_REFUSED_MAX,
        "a few, for diagnosis"
    );
    let first = fs::read(folder.path().join(format!("refused-{:032x}.zz", 0)));
    assert_eq!(first.unwrap(), body(0));
    let totals = opened(folder.path()).unwrap().totals();
    assert_eq!(totals.calls, 0);
}
