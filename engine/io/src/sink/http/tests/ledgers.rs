//! Ledgers beside the bundles: who gets them, when the last one comes, and who gets no further one.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

const OFTEN: Duration = Duration::from_millis(20);

/// A bed that posts ledgers with a number, and that number.
fn posting(driver: Choice, url: &str) -> (Bed, Arc<AtomicU64>) {
    let bed = Bed::new(driver, url, |config| config.ledger_every = Some(OFTEN));
    let number = Arc::new(AtomicU64::new(0));
    let source = Arc::clone(&number);
    let uploader = bed.uploader.as_ref().unwrap();
    uploader.post_ledgers(Arc::new(move || {
        Some(format!("ledger {}", source.load(Ordering::Relaxed)))
    }));
    (bed, number)
}

fn ledgers(server: &Server) -> Vec<String> {
    let received = server.received().into_iter();
    let ledgers = received.filter(|request| request.start == "POST /ledger HTTP/1.1");
    ledgers
        .map(|request| String::from_utf8(request.body).unwrap())
        .collect()
}

#[test]
fn the_last_ledger_comes_behind_the_last_bundle() {
    both(|driver| {
        let server = Server::start(ok);
        let (mut bed, number) = posting(driver, &url(&server));
        let start = Instant::now();
        while ledgers(&server).len() < 3 {
            assert!(start.elapsed() < PATIENCE, "no ledgers");
            thread::sleep(Duration::from_millis(2));
        }
        number.store(7, Ordering::Relaxed);
        bed.push(1, b"x", 1);
        let report = bed.stop(PATIENCE);
        assert_eq!(report.counters.calls_sent, 1);
        let received = server.received();
        let last = received.last().unwrap();
        assert_eq!(last.start, "POST /ledger HTTP/1.1");
        assert_eq!(last.body, b"ledger 7");
        assert!(!last.headers.contains_key("idempotency-key"));
        assert!(bed.events.lock().unwrap().is_empty());
    });
}

#[test]
fn a_collector_without_the_path_gets_calls_alone_and_one_line() {
    for status in ["404 Not Found", "405 Method Not Allowed"] {
        let server = Server::start(move |request| match request.start.contains("/ledger") {
            true => Answer::Status(status),
            false => ok(request),
        });
        let (mut bed, _) = posting(Choice::Auto, &url(&server));
        let start = Instant::now();
        while bed.events.lock().unwrap().is_empty() {
            assert!(start.elapsed() < PATIENCE, "it is not reported");
            thread::sleep(Duration::from_millis(2));
        }
        bed.push(1, b"x", 1);
        let sent = |snapshot: &Snapshot| snapshot.counters.calls_sent == 1;
        let snapshot = bed.wait("the call", sent);
        assert!(!snapshot.down && snapshot.last_error.is_empty());
        bed.stop(PATIENCE);
        assert_eq!(ledgers(&server).len(), 1);
        let events = bed.events.lock().unwrap();
        assert_eq!(events.len(), 1, "{events:?}");
        assert!(events[0].to_string().contains(&status[..3]), "{events:?}");
    }
}

#[test]
fn a_ledger_goes_to_the_first_collector_that_takes_it() {
    let without = Server::start(|request| match request.start.contains("/ledger") {
        true => Answer::Close,
        false => ok(request),
    });
    let with = Server::start(ok);
    let urls = format!("{} {}", url(&without), url(&with));
    let (mut bed, _) = posting(Choice::Auto, &urls);
    let start = Instant::now();
    while ledgers(&with).len() < 2 {
        assert!(start.elapsed() < PATIENCE, "no ledgers");
        thread::sleep(Duration::from_millis(2));
    }
    bed.stop(PATIENCE);
}

#[test]
fn without_the_setting_there_are_none() {
    let server = Server::start(ok);
    let mut bed = Bed::new(Choice::Auto, &url(&server), |_| {});
    let uploader = bed.uploader.as_ref().unwrap();
    uploader.post_ledgers(Arc::new(|| Some("ledger".to_owned())));
    bed.push(1, b"x", 1);
    bed.stop(PATIENCE);
    assert_eq!(server.received().len(), 1);
}

#[test]
fn a_collector_that_does_not_answer_a_ledger_does_not_keep_the_end_up() {
    let server = Server::start(|request| match request.start.contains("/ledger") {
        true => Answer::Stall,
        false => ok(request),
    });
    let (mut bed, _) = posting(Choice::Auto, &url(&server));
    bed.push(1, b"x", 1);
    let report = bed.stop(PATIENCE);
    assert_eq!(report.counters.calls_sent, 1);
}
