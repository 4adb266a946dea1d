//! What arrives at a collector that takes everything.

use std::path::Path;

use super::*;

#[test]
fn a_bundle_is_posted_as_the_contract_says() {
    both(|driver| {
        let server = Server::start(ok);
        let mut bed = Bed::new(driver, &url(&server), |config| {
            config.headers.push((
                HeaderName::from_static("authorization"),
                HeaderValue::from_static("Bearer x"),
            ));
        });
        bed.push(0xabc, b"zlib bytes", 3);
        let snapshot = bed.wait("sent", |snapshot| snapshot.counters.calls_sent == 3);
        assert_eq!(
            (
                detail(&snapshot).last_code,
                snapshot.down,
                snapshot.counters.attempts
            ),
            (204, false, 1)
        );
        assert!(snapshot.last_success.is_some());
        assert_eq!(
            detail(&snapshot).transport,
            if driver == Choice::Uring {
                "io_uring"
            } else {
                "epoll"
            }
        );
        let received = server.received();
        let [request] = &received[..] else {
            panic!("{received:?}")
        };
        assert_eq!(
            (request.start.as_str(), &request.body[..]),
            ("POST /message HTTP/1.1", &b"zlib bytes"[..])
        );
        let mut headers: Vec<_> = request
            .headers
            .iter()
            .map(|(name, value)| (&name[..], &value[..]))
            .collect();
        headers.sort_unstable();
        assert_eq!(
            headers,
            [
                ("authorization", "Bearer x"),
                ("content-encoding", "deflated"),
                ("content-length", "10"),
                ("content-type", "application/ndjson; charset=UTF-8"),
                ("host", &server.address.to_string()[..]),
                ("idempotency-key", "00000000000000000000000000000abc"),
                ("user-agent", "Resurface/3.3.2 (sniffer)"),
            ]
        );
        let start = Instant::now();
        let mut empty = None;
        while empty.is_none() && start.elapsed() < PATIENCE {
            bed.outbox.send(&mut bed.pool);
            empty = bed.pool.take();
        }
        let empty = empty.expect("the buffer comes back").body;
        assert!(empty.is_empty() && empty.capacity() >= 10);
        assert_eq!(bed.stop(PATIENCE).counters.calls_sent, 3);
        assert_eq!(bed.codes(), [""; 0]);
    });
}

#[test]
fn plain_lines_have_no_content_encoding() {
    let server = Server::start(ok);
    let mut bed = Bed::new(Choice::Auto, &url(&server), |_| {});
    bed.push_bundle(Bundle {
        body: b"[]\n".to_vec(),
        encoding: Encoding::Plain,
        calls: 1,
        line_bytes: 3,
        id: 1,
        ..Bundle::default()
    });
    bed.stop(PATIENCE);
    assert!(
        !server.received()[0]
            .headers
            .contains_key("content-encoding")
    );
}

#[test]
fn connections_are_kept() {
    both(|driver| {
        let server = Server::start(ok);
        let mut bed = Bed::new(driver, &url(&server), |_| {});
        for id in 0..50 {
            bed.push(id, b"x", 1);
            bed.wait("sent", |snapshot| snapshot.calls_in_flight == 0);
        }
        let report = bed.stop(PATIENCE);
        assert_eq!(
            (
                report.counters.calls_sent,
                report.counters.attempts,
                report.counters.retries
            ),
            (50, 50, 0)
        );
        assert!(connects(&report) <= 2, "{report:?}");
        assert_eq!(server.received().len(), 50);
    });
}

#[test]
fn several_posts_are_under_way() {
    both(|driver| {
        let barrier = Arc::new(Barrier::new(2));
        let server = Server::start(move |_| Answer::Together(barrier.clone()));
        let mut bed = Bed::new(driver, &url(&server), |_| {});
        let body = vec![7; 300_000];
        for id in 0..40 {
            bed.push(id, &body, 1);
        }
        // None is answered before the next has arrived.
        let report = bed.stop(PATIENCE);
        assert_eq!((report.counters.calls_sent, connects(&report)), (40, 2));
    });
}

#[test]
fn a_huge_bundle_arrives_whole() {
    both(|driver| {
        let server = Server::start(ok);
        let mut bed = Bed::new(driver, &url(&server), |_| {});
        let body: Vec<u8> = (0..5_u32 << 20)
            .map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        bed.push(1, &body, 1000);
        assert_eq!(bed.stop(PATIENCE).counters.calls_sent, 1000);
        assert!(server.received()[0].body == body);
    });
}

#[test]
fn a_host_name_is_looked_up_and_its_addresses_are_tried() {
    both(|driver| {
        // `localhost` is ::1 and 127.0.0.1 on most systems; the server listens on the latter alone.
        let server = Server::start(ok);
        let mut bed = Bed::new(
            driver,
            &format!("http://localhost:{}/message", server.address.port()),
            |_| {},
        );
        bed.push(1, b"x", 1);
        assert_eq!(bed.stop(PATIENCE).counters.calls_sent, 1);
        assert_eq!(
            server.received()[0].headers["host"],
            format!("localhost:{}", server.address.port())
        );

        let mut bed = Bed::new(driver, "http://no-such-host.invalid/", |_| {});
        bed.push(1, b"x", 1);
        let snapshot = bed.wait("down", |snapshot| snapshot.down);
        assert!(
            snapshot.last_error.starts_with("has no address")
                || snapshot.last_error.starts_with("timed out")
        );
        assert_eq!(bed.stop(Duration::ZERO).counters.calls_dropped_shutdown, 1);
    });
}

#[test]
fn an_ipv6_collector_is_reached() {
    both(|driver| {
        let server = Server::on(TcpListener::bind("[::1]:0").unwrap(), None, ok);
        let mut bed = Bed::new(driver, &url(&server), |_| {});
        bed.push(1, b"x", 1);
        assert_eq!(bed.stop(PATIENCE).counters.calls_sent, 1);
    });
}

#[test]
fn a_plan_holds_what_the_url_needs_and_no_more() {
    let check = |urls: &str, proxy: Option<&str>, ports: &[u16]| {
        let urls = CaptureUrls::parse(urls).unwrap();
        let before = Plan::capture(Path::new("/run/s/control"));
        let mut plan = before.clone();
        let mut sink = Http::new("default".to_owned(), urls.clone(), &Proxies::default());
        let proxy = proxy.map(|proxy| CaptureUrl::parse_proxy(proxy).unwrap());
        let routes = urls.into_iter().map(|url| Route::new(url, proxy.clone()));
        sink.config.routes = routes.collect();
        sink.plan(&mut plan);
        assert_eq!(plan.connect, ports);
        plan.connect.clear();
        assert_eq!(plan, before);
    };
    check("http://10.0.0.1:7701/message", None, &[7701]);
    check("http://lake.example/message", None, &[80]);
    check("https://lake.example/message", None, &[443]);
    check("http://a/ https://b/ http://c:81/", None, &[80, 443, 81]);
    check("https://lake.example/message", Some("proxy:3128"), &[3128]);
    // The process that connects to it passes connections on.
    check("unix:///run/collector.sock", None, &[]);
}

#[test]
fn a_probe_posts_an_empty_bundle() {
    let server = Server::start(ok);
    let mut config = Config::new(vec![Route::new(
        CaptureUrl::parse(&url(&server)).unwrap(),
        None,
    )]);
    config.headers = vec![(
        HeaderName::from_static("x-token"),
        HeaderValue::from_static("t"),
    )];
    let found = probe::probe(&config, &config.routes[0]);
    let text = format!("{} answered an empty bundle with 204", config.routes[0].url);
    assert_eq!((found.text, found.problem), (text, None));
    let received = server.received();
    assert_eq!((received.len(), received[0].body.len()), (1, 0));
    assert_eq!(received[0].headers["x-token"], "t");
    drop(server);
    let found = probe::probe(&config, &config.routes[0]);
    assert!(found.text.ends_with("[W042]"), "{}", found.text);
    assert!(found.problem.is_some());
}

#[test]
fn a_probe_reports_what_calls_would_meet() {
    for (line, expected) in [
        ("401 Unauthorized", "it requires credentials"),
        ("404 Not Found", "nothing takes calls there"),
        ("200 OK", "may be another kind of server"),
        (
            "302 Found\r\nLocation: http://y/m?token=1",
            "fix: --url http://y/m [W044]",
        ),
        (
            "400 Bad Request\r\nX: sent to HTTPS port",
            "does the port expect https://?",
        ),
        ("503 Busy", "answered 503 [W045]"),
    ] {
        let server = Server::start(move |_| Answer::Status(line));
        let config = Config::new(vec![Route::new(
            CaptureUrl::parse(&url(&server)).unwrap(),
            None,
        )]);
        let found = probe::probe(&config, &config.routes[0]);
        assert!(found.text.contains(expected), "{line}: {}", found.text);
        assert!(found.problem.is_some(), "{line}");
    }
}

#[test]
fn headers_and_the_url_s_password_are_in_each_post() {
    let server = Server::start(ok);
    let url = url(&server).replace("http://", "http://me:p%40w@");
    let mut bed = Bed::new(Choice::Auto, &url, |config| {
        config.headers = vec![(
            HeaderName::from_static("x-token"),
            HeaderValue::from_static("t"),
        )];
    });
    bed.push(1, b"a", 1);
    let report = bed.stop(PATIENCE);
    assert_eq!(report.counters.calls_sent, 1);
    assert!(!format!("{report:?}").contains("p@w"));
    let received = server.received();
    assert_eq!(received[0].headers["authorization"], "Basic bWU6cEB3");
    assert_eq!(received[0].headers["x-token"], "t");
}
