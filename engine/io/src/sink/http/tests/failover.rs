//! Several URLs of one destination.

use super::*;
use crate::sink::stats::UrlState;

/// An address at which nothing listens.
fn nowhere() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

fn places(snapshot: &Snapshot) -> Vec<UrlState> {
    detail(snapshot).places
}

#[test]
fn the_next_url_takes_over_with_the_same_keys_until_the_first_is_back() {
    both(|driver| {
        let first = nowhere();
        let second = Server::start(ok);
        let urls = format!("http://{first}/message {}", url(&second));
        let mut bed = Bed::new(driver, &urls, |_| {});
        for id in 1..=20 {
            bed.push(id, b"small", 1);
        }
        let snapshot = bed.wait("delivered", |snapshot| snapshot.counters.calls_sent == 20);
        assert!(!snapshot.down, "one of them takes bundles");
        let [one, other] = places(&snapshot).try_into().unwrap();
        assert_eq!((one.up, other.up), (Some(false), Some(true)));
        assert!(one.error.contains("refused"), "{one:?}");
        assert_eq!(other.url, url(&second));
        let mut keys: Vec<String> = (second.received().iter())
            .map(|request| request.key().to_owned())
            .collect();
        keys.sort();
        let expected: Vec<String> = (1..=20).map(|id| format!("{id:032x}")).collect();
        assert_eq!(keys, expected, "each once, under its own key");
        let tried = second.received();
        let again = tried
            .iter()
            .filter(|request| request.headers.contains_key("idempotency-retry"));
        assert!(again.count() > 0, "a bundle that the first was tried with");
        assert_eq!(bed.codes(), ["W042"]);
        let text = bed.events.lock().unwrap()[0].to_string();
        assert!(
            text.contains(&format!("sending to {}", second.address)),
            "{text}"
        );

        let back = Server::on(TcpListener::bind(first).unwrap(), None, ok);
        let mut id = 20;
        while back.received().is_empty() {
            id += 1;
            bed.push(id, b"small", 1);
            bed.wait("delivered", |snapshot| {
                snapshot.counters.calls_sent == id as u64
            });
        }
        let before = second.received().len();
        for _ in 0..20 {
            id += 1;
            bed.push(id, b"small", 1);
        }
        let report = bed.stop(PATIENCE);
        assert_eq!(report.counters.calls_sent, id as u64);
        assert_eq!(second.received().len(), before, "all go to the first again");
        assert!(places(&report).iter().all(|place| place.up == Some(true)));
        assert_eq!(bed.codes(), ["W042", "W042"], "and that it is up again");
    });
}

#[test]
fn every_fault_that_may_pass_leads_to_the_next_url() {
    for line in [
        "503 Service Unavailable",
        "429 Too Many Requests",
        "401 Unauthorized",
    ] {
        let first = Server::start(move |_| Answer::Status(line));
        let second = Server::start(ok);
        let urls = format!("{} {}", url(&first), url(&second));
        let mut bed = Bed::new(Choice::Auto, &urls, |_| {});
        bed.push(1, b"x", 1);
        bed.wait("delivered", |snapshot| snapshot.counters.calls_sent == 1);
        assert_eq!(
            (first.received().len(), second.received().len()),
            (1, 1),
            "{line}"
        );
        bed.stop(PATIENCE);
    }
    // One that is refused for good is refused by the store behind all of them.
    let first = Server::start(|_| Answer::Status("400 Bad Request"));
    let second = Server::start(ok);
    let urls = format!("{} {}", url(&first), url(&second));
    let mut bed = Bed::new(Choice::Auto, &urls, |_| {});
    bed.push(1, b"x", 1);
    bed.wait("refused", |snapshot| {
        snapshot.counters.calls_dropped_refused == 1
    });
    assert!(second.received().is_empty());
    bed.stop(PATIENCE);
}

#[test]
fn the_sink_is_down_when_all_urls_are() {
    let (first, second) = (nowhere(), nowhere());
    let urls = format!("http://{first}/message http://{second}/message");
    let mut bed = Bed::new(Choice::Auto, &urls, |_| {});
    bed.push(1, b"x", 1);
    let snapshot = bed.wait("down", |snapshot| snapshot.down);
    assert!(
        places(&snapshot)
            .iter()
            .all(|place| place.up == Some(false))
    );
    assert_eq!(bed.codes(), ["W042", "W042"], "once for each");
    // The second alone comes to life.
    let server = Server::on(TcpListener::bind(second).unwrap(), None, ok);
    let snapshot = bed.wait("up", |snapshot| snapshot.counters.calls_sent == 1);
    assert!(!snapshot.down);
    assert_eq!(server.received()[0].key(), format!("{:032x}", 1));
    bed.stop(PATIENCE);
}
