//! Bundles that were answered with 204 survive `kill -9` of the store.
//!
//! The store runs in a process of its own: this test binary again, with an environment variable that makes it one. It is
//! killed while several senders post; the file is then opened and must hold every call whose bundle was acknowledged, each
//! once, and no part of a bundle.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::client::{PATIENCE, Running, free_ports, line};

const DATA: &str = "STORE_TEST_DATA";
const LINES_A_BUNDLE: usize = 7;

/// Not a test: the process that the test kills.
#[test]
#[ignore = "started by acknowledged_bundles_survive_a_kill"]
fn victim() {
    let Ok(data) = std::env::var(DATA) else {
        return;
    };
    let config = free_ports(data.as_ref());
    store::run_until(
        config,
        |ready| println!("ready {}", ready.capture),
        std::future::pending(),
    )
    .expect("runs");
}

#[test]
fn acknowledged_bundles_survive_a_kill() {
    for round in 0..3 {
        let folder = tempfile::tempdir().expect("folder");
        let acknowledged =
            post_until_killed(folder.path(), Duration::from_millis(150 + 200 * round));
        assert!(
            !acknowledged.is_empty(),
            "the test killed before the first answer"
        );
        let store = Running::start_with(|config| {
            config.location = store::Location::Sqlite(folder.path().into());
        });
        let stored = stored_bundles(&store);
        for bundle in &acknowledged {
            assert_eq!(
                stored.get(bundle),
                Some(&LINES_A_BUNDLE),
                "bundle {bundle} was acknowledged"
            );
        }
        assert!(
            stored.values().all(|&lines| lines == LINES_A_BUNDLE),
            "a part of a bundle, or one twice: {stored:?}"
        );
    }
}

/// Names of the bundles that were answered with 204.
fn post_until_killed(data: &std::path::Path, after: Duration) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().expect("a path"))
        .args(["--exact", "durability::victim", "--ignored", "--nocapture"])
        .env(DATA, data)
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let output = BufReader::new(child.stdout.take().expect("piped"));
    let ready = output.lines().map_while(Result::ok).find_map(|line| {
        let (_, address) = line.split_once("ready ")?;
        address.parse::<SocketAddr>().ok()
    });
    let address = ready.expect("the store prints where it listens");

    let acknowledged = Mutex::new(Vec::new());
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let name = format!("/bundle/{}", next.fetch_add(1, Ordering::Relaxed));
                    match post(address, &name) {
                        Some(204) => acknowledged.lock().expect("whole").push(name),
                        _ => return,
                    }
                }
            });
        }
        let since = Instant::now();
        while acknowledged.lock().expect("whole").is_empty() && since.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(after);
        child.kill().expect("SIGKILL");
        child.wait().expect("ends");
    });
    acknowledged.into_inner().expect("whole")
}

/// Status of the answer; `None` once the store is dead.
fn post(to: SocketAddr, name: &str) -> Option<u16> {
    use std::io::{Read, Write};
    let body = line(&[
        ("request_method", "GET"),
        ("request_url", &format!("http://h{name}")),
    ])
    .repeat(LINES_A_BUNDLE);
    let mut stream = std::net::TcpStream::connect(to).ok()?;
    let head = "POST /message HTTP/1.1\r\nHost: h\r\nContent-Type: application/ndjson\r\nConnection: close";
    write!(
        stream,
        "{head}\r\nIdempotency-Key: {name}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split(' ').nth(1)?.parse().ok()
}

fn stored_bundles(store: &Running) -> HashMap<String, usize> {
    let mut bundles = HashMap::new();
    let mut path = "/api/v1/calls?limit=1000".to_owned();
    loop {
        let list = store.json(&path);
        for call in list["calls"].as_array().expect("a list") {
            *bundles
                .entry(call["path"].as_str().expect("a path").to_owned())
                .or_default() += 1;
        }
        let Some(next) = list["next"].as_str() else {
            return bundles;
        };
        path = format!("/api/v1/calls?limit=1000&before={next}");
    }
}

/// Queries that overlap without a pause starve SQLite's own checkpoints.
#[test]
fn the_log_stays_within_its_bound_while_pages_read() {
    let mut store = Running::start();
    let log = store.folder.path().join("calls.sqlite-wal");
    let line = format!(
        "[[\"request_method\",\"GET\"],[\"response_body\",\"{}\"]]\n",
        "x".repeat(3000)
    );
    let bundle = line.repeat(500);
    let ended = AtomicUsize::new(0);
    let mut largest = 0;
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while ended.load(Ordering::Relaxed) == 0 {
                    assert_eq!(store.get("/api/v1/calls?filter=absent").status, 200);
                }
            });
        }
        for _ in 0..40 {
            assert_eq!(store.post(bundle.as_bytes()).status, 204);
            largest = largest.max(std::fs::metadata(&log).map_or(0, |file| file.len()));
        }
        ended.store(1, Ordering::Relaxed);
    });
    assert!(
        largest > 1 << 20,
        "{largest}: the test does not see the log"
    );
    // 60 MB were posted. One transaction, of a bundle or two, may follow the length that a checkpoint is due at.
    let bound = store::limits::WAL_CHECKPOINT_BYTES + 8 * bundle.len() as u64;
    assert!(largest < bound, "{largest}");
    assert_eq!(store.json("/api/v1/status")["calls"], 20_000);
    store.stop();
    assert_eq!(std::fs::metadata(&log).map_or(0, |file| file.len()), 0);
}
