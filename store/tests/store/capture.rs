//! The capture URL: codings, faults, keys, browsers.

use std::io::{BufReader, Write};

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use store::BindError;
use store::limits::{LEDGER_BYTES_MAX, POST_BYTES_MAX};
use store::token::Secret;

use crate::client::{Running, connect, free_ports, line, read_head, request};

const NDJSON: &str = "Content-Type: application/ndjson; charset=UTF-8\r\n";

fn zlib(text: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text).expect("memory");
    encoder.finish().expect("memory")
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text).expect("memory");
    encoder.finish().expect("memory")
}

fn call(path: &str) -> String {
    line(&[
        ("request_method", "GET"),
        ("request_url", &format!("http://shop.example{path}")),
        ("response_code", "200"),
        ("now", "1700000000000"),
        ("interval", "12"),
    ])
}

#[track_caller]
fn check(store: &Running, headers: &str, body: &[u8], status: u16, word: &str) {
    let answer = store.post_with(headers, body);
    assert_eq!(answer.status, status, "{}", answer.text());
    assert!(
        answer.text().contains(word),
        "{:?} does not contain {word:?}",
        answer.text()
    );
}

#[test]
fn every_coding_ends_in_rows() {
    let store = Running::start();
    check(&store, NDJSON, call("/plain").as_bytes(), 204, "");
    check(
        &store,
        "Content-Type: application/json; charset=UTF-8\r\n",
        call("/json").trim_end().as_bytes(),
        204,
        "",
    );
    check(
        &store,
        &format!("{NDJSON}Content-Encoding: deflated\r\n"),
        &zlib(call("/deflated").as_bytes()),
        204,
        "",
    );
    check(
        &store,
        &format!("{NDJSON}Content-Encoding: deflate\r\n"),
        &zlib(call("/deflate").as_bytes()),
        204,
        "",
    );
    check(
        &store,
        &format!("{NDJSON}Content-Encoding: gzip\r\n"),
        &gzip(call("/gzip").as_bytes()),
        204,
        "",
    );
    check(
        &store,
        &format!("{NDJSON}Content-Encoding: identity\r\n"),
        call("/identity").as_bytes(),
        204,
        "",
    );
    let list = store.json("/api/v1/calls");
    let paths: Vec<_> = list["calls"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|call| call["path"].as_str())
        .collect();
    let expected = [
        "/identity",
        "/gzip",
        "/deflate",
        "/deflated",
        "/json",
        "/plain",
    ]
    .map(Some);
    assert_eq!(paths, expected);
}

#[test]
fn faults_are_answered_and_store_nothing() {
    let store = Running::start_with(|config| config.post_bytes_max = 1 << 20);
    check(&store, NDJSON, b"", 400, "none of the 0 lines");
    check(&store, NDJSON, b"hello\n{}\n", 400, "none of the 2 lines");
    check(
        &store,
        &format!("{NDJSON}Content-Encoding: deflated\r\n"),
        b"no zlib",
        400,
        "deflated",
    );
    check(
        &store,
        &format!("{NDJSON}Content-Encoding: zstd\r\n"),
        b"x",
        400,
        "zstd",
    );
    check(
        &store,
        &format!("{NDJSON}Idempotency-Key: {}\r\n", "k".repeat(256)),
        b"x",
        400,
        "255",
    );
    check(
        &store,
        NDJSON,
        call(&"x".repeat(2 << 20)).as_bytes(),
        413,
        "1048576 bytes",
    );
    // A bomb: well within the bound until it is decompressed to 16 MiB.
    let bomb = zlib(&vec![b' '; 16 << 20]);
    assert!(bomb.len() < 1 << 19, "{}", bomb.len());
    check(
        &store,
        &format!("{NDJSON}Content-Encoding: deflated\r\n"),
        &bomb,
        413,
        "1048576 bytes",
    );
    check(
        &store,
        &format!("{NDJSON}Content-Encoding: gzip\r\n"),
        &gzip(&vec![b' '; 16 << 20]),
        413,
        "1048576 bytes",
    );
    assert_eq!(
        request(store.ready.capture, "GET", "/message", "", b"").status,
        405
    );
    assert_eq!(
        request(store.ready.capture, "POST", "/", NDJSON, b"").status,
        404
    );
    let status = store.json("/api/v1/status");
    assert_eq!(
        (&status["calls"], &status["posts_refused"]),
        (&0.into(), &8.into())
    );
    check(&store, NDJSON, call("/after").as_bytes(), 204, "");
}

#[test]
fn lines_and_details_are_bounded_by_their_number() {
    let store = Running::start();
    let deflated = format!("{NDJSON}Content-Encoding: deflated\r\n");
    // 16 MB of the shortest lines in 16 kB.
    let bomb = zlib("[]\n".repeat(16_000_000 / 3).as_bytes());
    check(&store, &deflated, &bomb, 413, "more than 65536 lines");
    check(&store, NDJSON, b"[]\n", 400, "it has no [key, value] pair");
    let members = format!("[[]{}]\n", ",[]".repeat(1_000_000));
    let bomb = zlib(members.as_bytes());
    check(&store, &deflated, &bomb, 400, "more than 16384 details");
    // The neighbours of such a line are stored.
    let mixed = format!("{}{members}[]\n", call("/good"));
    check(&store, NDJSON, mixed.as_bytes(), 204, "");
    let status = store.json("/api/v1/status");
    assert_eq!(
        (&status["calls"], &status["bad_lines"]),
        (&1.into(), &2.into())
    );
    // What other loggers send: 5 MiB of lines of 100 bytes.
    let short = format!("[[\"a\",\"{}\"]]\n", "x".repeat(89));
    let ordinary = short.repeat((5 << 20) / short.len());
    check(&store, &deflated, &zlib(ordinary.as_bytes()), 204, "");
    assert_eq!(store.json("/api/v1/status")["calls"], 52_429);
}

#[test]
fn a_body_without_a_length_is_bounded_too() {
    let store = Running::start_with(|config| config.post_bytes_max = 1 << 16);
    let mut stream = connect(store.ready.capture);
    let head = format!(
        "POST /message HTTP/1.1\r\nHost: x\r\n{NDJSON}Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).expect("sends");
    let chunk = format!("1000\r\n{}\r\n", " ".repeat(0x1000));
    for _ in 0..32 {
        if stream.write_all(chunk.as_bytes()).is_err() {
            break;
        }
    }
    let (status, _) = read_head(&mut BufReader::new(stream));
    assert_eq!(status, 413);
}

#[test]
fn a_bad_line_does_not_harm_its_neighbours() {
    let store = Running::start();
    let body = [
        call("/1").as_bytes(),
        b"{\"not\":\"a line\"}\n\xff\xfe\n",
        call("/2").as_bytes(),
    ]
    .concat();
    check(&store, NDJSON, &body, 204, "");
    let status = store.json("/api/v1/status");
    assert_eq!(
        (&status["calls"], &status["bad_lines"]),
        (&2.into(), &2.into())
    );
}

#[test]
fn a_bundle_sent_twice_is_kept_once() {
    let mut store = Running::start();
    let headers = format!("{NDJSON}Idempotency-Key: 5f0c-1\r\n");
    let body = [call("/1"), call("/2")].concat();
    check(&store, &headers, body.as_bytes(), 204, "");
    check(&store, &headers, body.as_bytes(), 204, "");
    // The retry may be compressed otherwise.
    check(
        &store,
        &format!("{headers}Content-Encoding: deflated\r\n"),
        &zlib(body.as_bytes()),
        204,
        "",
    );
    let status = store.json("/api/v1/status");
    assert_eq!(
        (&status["calls"], &status["bundles_repeated"]),
        (&2.into(), &2.into())
    );

    // After a restart too: the answer to the first may have been lost with the process.
    store.stop();
    let data = store.folder.path().to_owned();
    let again = Running::start_with(|config| config.location = store::Location::Sqlite(data));
    check(&again, &headers, body.as_bytes(), 204, "");
    assert_eq!(again.json("/api/v1/status")["calls"], 2);
}

#[test]
fn web_pages_cannot_post() {
    let store = Running::start();
    let body = call("/forged");
    for content_type in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
    ] {
        check(
            &store,
            &format!("Content-Type: {content_type}\r\n"),
            body.as_bytes(),
            415,
            "application/ndjson",
        );
    }
    check(&store, "", body.as_bytes(), 415, "application/ndjson");
    check(
        &store,
        &format!("{NDJSON}Origin: http://evil.example\r\n"),
        body.as_bytes(),
        403,
        "web pages",
    );
    let preflight = "Origin: http://evil.example\r\nAccess-Control-Request-Method: POST\r\n";
    let answer = request(store.ready.capture, "OPTIONS", "/message", preflight, b"");
    assert_eq!(answer.status, 405);
    assert_eq!(answer.header("access-control-allow-origin"), "");
    assert_eq!(store.json("/api/v1/status")["calls"], 0);
}

#[test]
fn the_largest_body_is_stored_in_every_form() {
    let store = Running::start();
    let empty = line(&[("request_url", "http://h/"), ("request_body", "")]);
    let body = "x y ".repeat(POST_BYTES_MAX / 4);
    let body = line(&[
        ("request_url", "http://h/"),
        ("request_body", &body[..POST_BYTES_MAX - empty.len()]),
    ]);
    assert_eq!(body.len(), POST_BYTES_MAX);
    assert_eq!(store.post(body.as_bytes()).status, 204);
    let deflated = zlib(body.as_bytes());
    let headers = format!("{NDJSON}Content-Encoding: deflate\r\n");
    check(&store, &headers, &deflated, 204, "");
    let mut stream = connect(store.ready.capture);
    let head =
        format!("POST /message HTTP/1.1\r\nHost: h\r\n{NDJSON}Transfer-Encoding: chunked\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("sends");
    for piece in body.as_bytes().chunks(1_000_003) {
        let size = format!("{:x}\r\n", piece.len());
        stream.write_all(size.as_bytes()).expect("sends");
        stream.write_all(piece).expect("sends");
        stream.write_all(b"\r\n").expect("sends");
    }
    stream.write_all(b"0\r\n\r\n").expect("sends");
    assert_eq!(read_head(&mut BufReader::new(stream)).0, 204);
    assert_eq!(store.json("/api/v1/status")["calls"], 3);
}

#[test]
fn saturation_is_reported() {
    let store = Running::start();
    let answer = request(store.ready.capture, "GET", "/saturated", "", b"");
    assert_eq!((answer.status, answer.text().as_str()), (200, "false\n"));
}

#[test]
fn many_senders_at_once_lose_nothing() {
    let store = Running::start();
    std::thread::scope(|scope| {
        for sender in 0..20 {
            let store = &store;
            scope.spawn(move || {
                for bundle in 0..10 {
                    let body: String = (0..5)
                        .map(|call_| call(&format!("/{sender}/{bundle}/{call_}")))
                        .collect();
                    assert_eq!(store.post(body.as_bytes()).status, 204);
                }
            });
        }
    });
    let list = store.json("/api/v1/calls?limit=1000");
    let calls = list["calls"].as_array().expect("a list");
    let paths: std::collections::HashSet<_> =
        calls.iter().map(|call| call["path"].as_str()).collect();
    assert_eq!((calls.len(), paths.len()), (1000, 1000));
}

#[test]
fn a_taken_port_names_the_process_and_leaves_the_database_alone() {
    let store = Running::start();
    let folder = tempfile::tempdir().expect("folder");
    let mut config = free_ports(folder.path());
    config.capture = store.ready.capture;
    let error = store::run_until(
        config,
        |_| panic!("it is not ready"),
        std::future::pending(),
    )
    .expect_err("taken");
    let bind = error.downcast_ref::<BindError>().expect("a bind error");
    assert!(bind.is_taken());
    assert_eq!(
        bind.holder.as_ref().map(|holder| holder.pid),
        Some(std::process::id())
    );
    assert_eq!(std::fs::read_dir(folder.path()).expect("folder").count(), 0);
}

#[test]
fn both_families_reach_the_default_address() {
    let store = Running::start_with(|config| config.capture = "[::]:0".parse().expect("address"));
    let port = store.ready.capture.port();
    let v4 = request(([127, 0, 0, 1], port).into(), "GET", "/saturated", "", b"");
    assert_eq!(v4.status, 200);
    if store.ready.capture.is_ipv6() {
        let v6 = request(
            (std::net::Ipv6Addr::LOCALHOST, port).into(),
            "GET",
            "/saturated",
            "",
            b"",
        );
        assert_eq!(v6.status, 200);
    }
    assert_eq!(
        store.ready.capture_url(),
        format!("http://localhost:{port}/message")
    );
}

#[test]
fn what_a_sniffer_lost_is_in_the_coverage() {
    let store = Running::start();
    let post = |headers: &str, body: &str, status: u16, word: &str| {
        let answer = request(
            store.ready.capture,
            "POST",
            "/ledger",
            headers,
            body.as_bytes(),
        );
        assert_eq!(answer.status, status, "{}", answer.text());
        assert!(answer.text().contains(word), "{}", answer.text());
    };
    let json = "Content-Type: application/json\r\n";
    let ledger = |refused: u64| {
        format!(
            r#"{{"appliance":"node","run":"17","calls":{{"seen":9,"dropped":{{"refused":{refused}}}}}}}"#
        )
    };
    for refused in [3, 3, 7] {
        post(json, &ledger(refused), 204, "");
    }
    post(json, "{}", 400, "not a ledger");
    post("Content-Type: text/plain\r\n", &ledger(8), 415, "");
    post(
        &format!("{json}Origin: http://elsewhere.example\r\n"),
        &ledger(8),
        403,
        "",
    );
    post(json, &"x".repeat(LEDGER_BYTES_MAX + 1), 413, "");
    let coverage = &store.json("/api/v1/calls")["coverage"];
    assert_eq!(coverage["lost"]["refused"], 7);
    assert_eq!(coverage["seen"], 7);
    let fleet = store.json("/api/v1/appliances");
    assert_eq!(fleet["appliances"][0]["appliance"], "node");
    assert_eq!(fleet["appliances"][0]["senders"][0], "local");
    assert_eq!(fleet["total"]["calls"]["dropped"]["refused"], 7);
    assert_eq!(fleet["total"]["unaccounted"], 2);
}

#[test]
fn posts_need_the_token_where_there_is_one() {
    let store = Running::start_with(|config| config.post_token = Secret::token("correct-horse"));
    let post = |path: &str, headers: &str, body: &str| {
        let headers = format!("Content-Type: application/json\r\n{headers}");
        let capture = store.ready.capture;
        request(capture, "POST", path, &headers, body.as_bytes())
    };
    let line = r#"[["request_method","GET"],["request_url","http://a/"]]"#;
    let ledger = r#"{"appliance":"node","run":"17","calls":{"seen":9}}"#;
    for (path, body) in [("/message", line), ("/ledger", ledger)] {
        for header in [
            "",
            "Authorization: Bearer correct-horsf\r\n",
            "Authorization: Basic correct-horse\r\n",
            "Authorization: Bearer\r\n",
            "Cookie: store_token_7701=correct-horse\r\n",
        ] {
            let answer = post(path, header, body);
            assert_eq!(answer.status, 401, "{path} {header}");
            assert!(answer.text().contains("--header"), "{}", answer.text());
            assert!(!answer.text().contains("correct-horse"));
        }
        let good = "Authorization: Bearer correct-horse\r\n";
        assert_eq!(post(path, good, body).status, 204, "{path}");
    }
    assert_eq!(store.json("/api/v1/status")["calls_received"], 1);
    assert_eq!(store.json("/api/v1/status")["posts_refused"], 10);
    let fleet = store.json("/api/v1/appliances");
    assert_eq!(fleet["total"]["calls"]["seen"], 9);
}
