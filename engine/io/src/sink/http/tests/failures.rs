//! Collectors that refuse, fail, stall, break connections or are not there.

use engine_core::bundle::{self, Bundler, Compression};
use engine_core::message::{Notes, Output as _};

use super::*;
use crate::diagnostic::Code;

#[test]
fn whatever_the_collector_does_the_sums_hold() {
    both(|driver| {
        let server = Server::start(|request| match (request.number * 7919) % 31 {
            0 => Answer::Status("503 Service Unavailable"),
            1 => Answer::Close,
            2 | 3 => Answer::Status("400 Bad Request"),
            4..10 => Answer::AndClose("204 No Content"),
            _ => ok(request),
        });
        let mut bed = Bed::new(driver, &url(&server), |_| {});
        for id in 0..120 {
            bed.push(
                id,
                &vec![id as u8; (id as usize * 997) % 50_000],
                id as u32 + 1,
            );
        }
        let report = bed.stop(PATIENCE);
        assert!(
            report.counters.calls_dropped_refused > 0 && report.counters.retries > 0,
            "{report:?}"
        );
        assert_eq!(
            report.counters.calls_dropped(),
            report.counters.calls_dropped_refused
        );
        for request in server.received() {
            let id = u128::from_str_radix(request.key(), 16).unwrap();
            assert!(
                request.body.len() == (id as usize * 997) % 50_000
                    && request.body.iter().all(|&b| b == id as u8)
            );
        }
    });
}

#[test]
fn an_unwell_collector_gets_the_same_bundle_again() {
    both(|driver| {
        for status in [
            "503 Service Unavailable",
            "500 Oops",
            "429 Too Many Requests",
            "425 Too Early",
            "408 Request Timeout",
        ] {
            let server = Server::start(move |request| {
                Answer::Status(if request.number == 0 {
                    status
                } else {
                    "204 No Content"
                })
            });
            let mut bed = Bed::new(driver, &url(&server), |_| {});
            bed.push(77, b"again", 5);
            let snapshot = bed.wait("sent", |snapshot| snapshot.counters.calls_sent == 5);
            assert_eq!(
                (
                    snapshot.down,
                    snapshot.counters.attempts,
                    snapshot.counters.retries
                ),
                (false, 2, 1)
            );
            let received = server.received();
            assert_eq!(received.len(), 2);
            assert_eq!(received[0].key(), received[1].key());
            assert_eq!(received[0].body, received[1].body);
            assert_eq!(
                received[0].connection, received[1].connection,
                "kept across the error"
            );
            bed.stop(PATIENCE);
            assert_eq!(bed.codes(), ["W045", "W042"]);
        }
    });
}

#[test]
fn one_bad_bundle_does_not_hold_up_the_rest() {
    let server = Server::start(|request| {
        Answer::Status(if request.body == b"bad" {
            "500 Oops"
        } else {
            "204 No Content"
        })
    });
    let mut bed = Bed::new(Choice::Auto, &url(&server), |_| {});
    bed.push(0, b"bad", 1);
    for id in 1..10 {
        bed.push(id, b"good", 1);
    }
    let snapshot = bed.wait("the good ones", |snapshot| {
        snapshot.counters.calls_sent == 9
    });
    assert_eq!(snapshot.calls_in_flight, 1);
    let report = bed.stop(Duration::from_millis(100));
    assert_eq!(
        (
            report.counters.calls_sent,
            report.counters.calls_dropped_shutdown
        ),
        (9, 1)
    );
}

/// Interim answers, with and without fields.
#[test]
fn an_answer_without_an_end_costs_a_connection() {
    for part in [
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n",
    ] {
        both(|driver| {
            let server = Server::start(move |request| match request.number {
                0 => Answer::Forever(part),
                _ => ok(request),
            });
            let mut bed = Bed::new(driver, &url(&server), |_| {});
            bed.push(1, b"again", 2);
            let snapshot = bed.wait("sent", |snapshot| snapshot.counters.calls_sent == 2);
            let counters = &snapshot.counters;
            assert_eq!((counters.attempts, counters.retries), (2, 1));
            let endless = metric(&snapshot, "sniffer_output_endless_answers_total");
            assert_eq!(endless, 1);
            bed.stop(PATIENCE);
            let events = bed.events.lock().unwrap();
            let first = events[0].to_string();
            assert!(first.contains("its answer does not end"), "{first}");
        });
    }
}

#[test]
fn nobody_listens_and_then_somebody_does() {
    both(|driver| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let mut bed = Bed::new(driver, &format!("http://{address}/message"), |_| {});
        bed.push(1, b"kept", 2);
        let snapshot = bed.wait("down", |snapshot| snapshot.down);
        assert_eq!(
            (snapshot.calls_in_flight, snapshot.last_error.as_str()),
            (2, "refused")
        );
        let server = Server::on(TcpListener::bind(address).unwrap(), None, ok);
        let snapshot = bed.wait("sent", |snapshot| snapshot.counters.calls_sent == 2);
        assert!(!snapshot.down && snapshot.counters.retries > 0);
        assert_eq!(server.received().len(), 1);
        bed.stop(PATIENCE);
        assert_eq!(bed.codes(), ["W042", "W042"]);
        let events = bed.events.lock().unwrap();
        assert!(
            events[0]
                .to_string()
                .contains("refused (1 try); keeping up to 128 bundles"),
            "{}",
            events[0]
        );
        assert!(
            events[1].to_string().contains("takes calls again"),
            "{}",
            events[1]
        );
    });
}

#[test]
fn a_refused_bundle_is_counted_and_not_sent_again() {
    both(|driver| {
        for (line, code) in [
            ("400 Bad Request", "W044"),
            ("403 Forbidden", "W043"),
            ("302 Found", "W044"),
        ] {
            let server = Server::start(move |request| {
                Answer::Status(if request.number == 0 {
                    line
                } else {
                    "204 No Content"
                })
            });
            let mut bed = Bed::new(driver, &url(&server), |config| config.drops_refused = true);
            bed.push(1, b"refused", 4);
            let snapshot = bed.wait("refused", |snapshot| {
                snapshot.counters.calls_dropped_refused == 4
            });
            assert_eq!(snapshot.counters.attempts, 1);
            bed.wait("down", |snapshot| snapshot.down);
            bed.push(2, b"taken", 1);
            let report = bed.stop(PATIENCE);
            assert_eq!(
                (
                    report.counters.calls_sent,
                    report.counters.calls_dropped_refused,
                    report.counters.retries
                ),
                (1, 4, 0)
            );
            assert_eq!(
                bed.codes(),
                [code, "W042"],
                "{line}: refused, then up again"
            );
        }
    });
}

/// A bundle of these lines, as the shard makes it.
fn bundle_of(id: u64, lines: &[Vec<u8>], compression: Compression) -> Bundle {
    let mut bundler = Bundler::new(bundle::Config {
        compression,
        id_seed: id,
        bytes: 16 << 20,
        ..bundle::Config::default()
    });
    for line in lines {
        bundler.line(line, &Notes::default());
    }
    bundler.close();
    bundler.pop().unwrap()
}

/// The lines of a request.
fn lines_of(request: &Received) -> Vec<Vec<u8>> {
    let mut text = Vec::new();
    if request.headers.contains_key("content-encoding") {
        let mut stream = flate2::read::ZlibDecoder::new(&request.body[..]);
        stream.read_to_end(&mut text).unwrap();
    } else {
        text.clone_from(&request.body);
    }
    let lines = text.split_inclusive(|byte| *byte == b'\n');
    lines
        .map(|line| line.strip_suffix(b"\n").unwrap().to_vec())
        .collect()
}

/// The lines of 413 answers come again in parts, until each is accepted or alone; what was accepted came once.
#[test]
fn of_a_bundle_that_is_too_large_only_the_line_is_lost_that_is_too_large_alone() {
    const MOST: usize = 10_000;
    for compression in [Compression::Off, Compression::Fast] {
        both(|driver| {
            let is_large =
                |request: &Received| lines_of(request).iter().map(Vec::len).sum::<usize>() > MOST;
            let server = Server::start(move |request| {
                Answer::Status(match request.number % 7 {
                    // An answer that is lost in between: the part comes again under its key.
                    3 => "503 Service Unavailable",
                    _ if is_large(request) => "413 Content Too Large",
                    _ => "204 No Content",
                })
            });
            let mut bed = Bed::new(driver, &url(&server), |_| {});
            let small = |n: usize| format!("[\"small {n}\"]").into_bytes();
            let mut lines: Vec<Vec<u8>> = (0..41).map(small).collect();
            lines[17] = vec![b'x'; MOST + 1];
            lines[30] = vec![b'y'; MOST - 1];
            bed.push_bundle(bundle_of(1, &lines, compression));
            bed.push_bundle(bundle_of(2, &[small(100)], compression));
            // The parts come in any order, the one that is lost may be the last.
            bed.wait("all but one", |snapshot| {
                snapshot.counters.calls_sent == 41 && snapshot.counters.calls_dropped() == 1
            });
            bed.push_bundle(bundle_of(3, &[small(101)], compression));
            let snapshot = bed.wait("one more", |snapshot| snapshot.counters.calls_sent == 42);
            assert_eq!(snapshot.counters.calls_dropped(), 1);
            assert_eq!(snapshot.counters.calls_dropped_too_large, 1);
            assert!(!snapshot.down, "it takes all others");
            bed.stop(PATIENCE);
            let codes = bed.codes();
            assert!(
                codes.contains(&"W045") && codes.contains(&"W049"),
                "{codes:?}"
            );
            let mut accepted = HashMap::new();
            for request in server.received() {
                if request.number % 7 != 3 && !is_large(&request) {
                    let earlier = accepted.insert(request.key().to_owned(), lines_of(&request));
                    assert_eq!(earlier, None, "accepted once");
                }
            }
            let mut delivered: Vec<_> = accepted.into_values().flatten().collect();
            let mut expected = lines.clone();
            expected.remove(17);
            expected.push(small(100));
            expected.push(small(101));
            delivered.sort();
            expected.sort();
            assert!(delivered == expected);
        });
    }
}

#[test]
fn a_collector_that_finds_everything_too_large_is_down() {
    let server = Server::start(|_| Answer::Status("413 Content Too Large"));
    let mut bed = Bed::new(Choice::Auto, &url(&server), |_| {});
    let lines = vec![b"[]".to_vec(); 8];
    bed.push_bundle(bundle_of(1, &lines, Compression::Off));
    let snapshot = bed.wait("down", |snapshot| snapshot.down);
    assert_eq!(snapshot.last_error_code.map(Code::name), Some("W049"));
    let report = bed.stop(PATIENCE);
    assert_eq!(report.counters.calls_dropped_too_large, 8);
    // Each half of each half, down to the lines.
    assert_eq!(report.counters.attempts, 15);
}

#[test]
fn a_long_answer_is_not_read_to_its_end() {
    let server = Server::start(|request| {
        if request.number == 0 {
            Answer::Long(10 << 20)
        } else {
            ok(request)
        }
    });
    let mut bed = Bed::new(Choice::Auto, &url(&server), |config| config.connections = 1);
    bed.push(1, b"first", 1);
    bed.push(2, b"second", 1);
    let report = bed.stop(PATIENCE);
    assert_eq!(
        (
            report.counters.calls_sent,
            report.counters.calls_dropped_refused,
            connects(&report)
        ),
        (1, 1, 2)
    );
}

#[test]
fn an_answer_whose_body_stalls_counts_all_the_same() {
    let server = Server::start(|request| {
        if request.number == 0 {
            Answer::HeadOnly("400 Bad Request")
        } else {
            ok(request)
        }
    });
    let mut bed = Bed::new(Choice::Auto, &url(&server), |config| config.connections = 1);
    bed.push(1, b"first", 1);
    bed.push(2, b"second", 1);
    let report = bed.stop(PATIENCE);
    assert_eq!(
        (
            report.counters.calls_sent,
            report.counters.calls_dropped_refused
        ),
        (1, 1)
    );
    assert_eq!((connects(&report), report.counters.retries), (2, 0));
}

#[test]
fn a_stalled_collector_is_given_up_and_tried_again() {
    both(|driver| {
        let server = Server::start(|request| {
            if request.number == 0 {
                Answer::Stall
            } else {
                ok(request)
            }
        });
        let mut bed = Bed::new(driver, &url(&server), |config| {
            config.answer_max = Duration::from_millis(100);
        });
        bed.push(9, b"slow", 1);
        let snapshot = bed.wait("sent", |snapshot| snapshot.counters.calls_sent == 1);
        assert_eq!((snapshot.counters.retries, connects(&snapshot)), (1, 2));
        assert_eq!(snapshot.last_error, "timed out waiting for the answer");
        let received = server.received();
        assert_eq!(received[0].key(), received[1].key());
        bed.stop(PATIENCE);
    });
}

#[test]
fn a_collector_that_is_silent_is_reported_before_it_is_given_up() {
    both(|driver| {
        let server = Server::start(|request| {
            if request.number == 0 {
                Answer::Stall
            } else {
                ok(request)
            }
        });
        let mut bed = Bed::new(driver, &url(&server), |config| {
            config.silence_max = Duration::from_millis(50);
            config.answer_max = Duration::from_millis(500);
        });
        bed.push(9, b"slow", 1);
        let snapshot = bed.wait("silent", |snapshot| snapshot.down);
        assert_eq!(
            snapshot.last_error,
            "has taken a bundle and not answered for 50 ms"
        );
        let snapshot = bed.wait("sent", |snapshot| snapshot.counters.calls_sent == 1);
        assert!(!snapshot.down);
        bed.stop(PATIENCE);
        assert_eq!(bed.codes(), ["W042", "W042"], "silent, and up again");
    });
}

#[test]
fn a_refusal_is_a_state_until_a_bundle_is_accepted() {
    let is_mended = Arc::new(AtomicBool::new(false));
    let server = {
        let is_mended = is_mended.clone();
        Server::start(move |request| match is_mended.load(Ordering::Relaxed) {
            true => ok(request),
            false => Answer::Status("401 Unauthorized"),
        })
    };
    let mut bed = Bed::new(Choice::Auto, &url(&server), |_| {});
    bed.push(1, b"a", 3);
    bed.wait("refused", |snapshot| snapshot.down);
    bed.push(2, b"b", 4);
    let snapshot = bed.wait("kept", |snapshot| snapshot.counters.calls_queued == 7);
    assert_eq!(snapshot.last_error_code, Some(Code::W043));
    assert!(snapshot.down && snapshot.last_error.contains("it requires credentials"));
    is_mended.store(true, Ordering::Relaxed);
    let snapshot = bed.wait("sent", |snapshot| snapshot.counters.calls_sent == 7);
    assert_eq!(
        (snapshot.down, snapshot.counters.calls_dropped()),
        (false, 0)
    );
    bed.stop(PATIENCE);
    assert_eq!(bed.codes(), ["W043", "W042"]);
}

#[test]
fn another_success_than_204_counts_and_is_noted() {
    let server = Server::start(|_| Answer::Status("200 OK"));
    let mut bed = Bed::new(Choice::Auto, &url(&server), |_| {});
    for id in 0..5 {
        bed.push(id, b"x", 1);
    }
    let report = bed.stop(PATIENCE);
    assert_eq!((report.counters.calls_sent, report.down), (5, false));
    assert_eq!(bed.codes(), ["W044"], "once");
}

#[test]
fn an_address_that_does_not_answer_times_out() {
    both(|driver| {
        // A full backlog: the kernel lets further connections wait.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut waiting = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(20)) {
            waiting.push(stream);
            assert!(waiting.len() < 10_000);
        }
        let mut bed = Bed::new(driver, &format!("http://{address}/"), |config| {
            config.connect_max = Duration::from_millis(50);
        });
        bed.push(1, b"x", 1);
        let snapshot = bed.wait("down", |snapshot| snapshot.down);
        assert_eq!(snapshot.last_error, "timed out connecting");
        let report = bed.stop(Duration::from_millis(50));
        assert_eq!(report.counters.calls_dropped_shutdown, 1);
    });
}

#[test]
fn a_connection_that_was_closed_while_idle_is_no_failure() {
    both(|driver| {
        for answer in ["204 No Content", "204 No Content\r\nConnection: close"] {
            let server = Server::start(move |_| Answer::AndClose(answer));
            let mut bed = Bed::new(driver, &url(&server), |config| config.connections = 1);
            for id in 0..20 {
                bed.push(id, b"x", 1);
                bed.wait("sent", |snapshot| snapshot.calls_in_flight == 0);
            }
            let report = bed.stop(PATIENCE);
            assert_eq!((report.counters.calls_sent, connects(&report)), (20, 20));
            assert_eq!(bed.codes(), [""; 0], "nothing worth a message");
        }
    });
}

#[test]
fn a_connection_that_breaks_is_tried_again() {
    both(|driver| {
        let server = Server::start(|request| {
            if request.number == 0 {
                Answer::Close
            } else {
                ok(request)
            }
        });
        let mut bed = Bed::new(driver, &url(&server), |_| {});
        bed.push(1, b"x", 1);
        let report = bed.stop(PATIENCE);
        assert_eq!(
            (report.counters.calls_sent, report.counters.retries),
            (1, 1)
        );
        assert!(
            report.last_error.starts_with("broke the connection"),
            "{}",
            report.last_error
        );
    });
}

#[test]
fn a_full_queue_gives_up_the_oldest() {
    both(|driver| {
        let up = Arc::new(AtomicBool::new(false));
        let switch = up.clone();
        let server = Server::start(move |request| {
            if switch.load(Ordering::Relaxed) {
                ok(request)
            } else {
                Answer::Status("503 Service Unavailable")
            }
        });
        let mut bed = Bed::new(driver, &url(&server), |config| config.backlog_bundles = 3);
        bed.push(0, b"x", 1);
        bed.wait("down", |snapshot| snapshot.down);
        for id in 1..10 {
            bed.push(id, b"x", 1 << id);
        }
        let snapshot = bed.wait("given up", |snapshot| {
            snapshot.counters.calls_queued == snapshot.calls_in_flight
        });
        assert_eq!(
            snapshot.counters.calls_dropped_queue_full,
            (1 << 7) - 1,
            "bundles 0 to 6"
        );
        assert_eq!(
            (
                snapshot.counters.bundles_queued,
                snapshot.counters.bytes_queued
            ),
            (3, 3)
        );
        up.store(true, Ordering::Relaxed);
        let report = bed.stop(PATIENCE);
        assert_eq!(
            (report.counters.calls_sent, report.counters.calls_dropped()),
            ((7 << 7), (1 << 7) - 1)
        );
    });
}
