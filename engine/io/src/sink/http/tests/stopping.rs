//! What becomes of bundles when the sink stops.

use super::*;

#[test]
fn what_was_handed_over_before_the_stop_is_delivered() {
    let server = Server::start(ok);
    for round in 0..200 {
        let mut bed = Bed::new(Choice::Auto, &url(&server), |_| {});
        for id in 0..round % 4 {
            bed.push(id, b"x", 1);
        }
        assert_eq!(bed.stop(PATIENCE).counters.calls_dropped(), 0);
    }
}

#[test]
fn stopping_delivers_what_is_left() {
    both(|driver| {
        let server = Server::start(ok);
        let mut bed = Bed::new(driver, &url(&server), |_| {});
        for id in 0..100 {
            bed.push(id, b"the rest", 10);
        }
        let report = bed.stop(PATIENCE);
        assert_eq!(
            (report.counters.calls_sent, report.counters.calls_dropped()),
            (1000, 0)
        );
        let mut keys: Vec<_> = server
            .received()
            .iter()
            .map(|request| request.key().to_owned())
            .collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), 100, "each once");
    });
}

#[test]
fn stopping_ends_at_its_deadline() {
    both(|driver| {
        let server = Server::start(|_| Answer::Stall);
        let mut bed = Bed::new(driver, &url(&server), |_| {});
        for id in 0..10 {
            bed.push(id, b"x", 1);
        }
        bed.wait("under way", |snapshot| snapshot.counters.attempts == 2);
        let start = Instant::now();
        let report = bed.stop(Duration::from_millis(200));
        assert!(
            start.elapsed() >= Duration::from_millis(200)
                // Not the time that an answer may take.
                && start.elapsed() < Duration::from_secs(20)
        );
        assert_eq!(
            (
                report.counters.calls_sent,
                report.counters.calls_dropped_shutdown
            ),
            (0, 10)
        );
        drop(server);
    });
}

#[test]
fn a_restarting_collector_gets_the_rest_while_we_stop() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let mut bed = Bed::new(Choice::Auto, &format!("http://{address}/message"), |_| {});
    bed.push(1, b"x", 1);
    bed.wait("down", |snapshot| snapshot.down);
    let back = thread::spawn(move || {
        thread::sleep(Duration::from_millis(300));
        Server::on(TcpListener::bind(address).unwrap(), None, ok)
    });
    let report = bed.stop(PATIENCE);
    assert_eq!(
        (report.counters.calls_sent, report.counters.calls_dropped()),
        (1, 0)
    );
    drop(back.join().unwrap());
}
