//! Peers that stall: they keep nobody else out.

use std::io::{BufReader, Write};
use std::net::TcpStream;

use store::limits::CONNECTIONS_MAX;

use crate::client::{Running, connect, line, read_head, request};

const HEAD: &str = "POST /message HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";

/// Connections that have each sent the same and go no further.
fn stalled(to: std::net::SocketAddr, count: usize, sent: &str) -> Vec<TcpStream> {
    let connections = (0..count).map(|_| {
        let mut stream = connect(to);
        stream.write_all(sent.as_bytes()).expect("sends");
        stream
    });
    connections.collect()
}

#[track_caller]
fn check_honest(store: &Running) {
    let answer = store.post(line(&[("request_url", "http://h/")]).as_bytes());
    assert_eq!(answer.status, 204, "{}", answer.text());
}

#[test]
fn half_sent_bodies_keep_nobody_waiting() {
    let store = Running::start();
    let sent = format!("{HEAD}Content-Length: 1000\r\n\r\n[");
    let stalled = stalled(store.ready.capture, 100, &sent);
    check_honest(&store);
    // A sender that stalls is given up, with the reason.
    let answer = stalled.into_iter().next().map(BufReader::new);
    let (status, _) = read_head(&mut answer.expect("one"));
    assert_eq!(status, 408);
    check_honest(&store);
}

#[test]
fn half_sent_heads_keep_nobody_waiting() {
    let store = Running::start();
    let _stalled = stalled(store.ready.capture, CONNECTIONS_MAX + 50, &HEAD[..40]);
    for _ in 0..3 {
        check_honest(&store);
    }
    let _page = stalled_pages(&store);
    let status = store.json("/api/v1/status");
    assert!(
        status["connections_closed"].as_u64() >= Some(100),
        "{status}"
    );
    assert_eq!(status["connections_refused"], 0);
}

fn stalled_pages(store: &Running) -> Vec<TcpStream> {
    stalled(store.ready.page, CONNECTIONS_MAX + 50, "GET / HTT")
}

#[test]
fn a_stream_keeps_its_place() {
    let store = Running::start();
    let mut stream = connect(store.ready.page);
    let head = format!(
        "GET /api/v1/stream HTTP/1.1\r\nHost: {}\r\n{}\r\n",
        store.ready.page,
        store.authorization()
    );
    stream.write_all(head.as_bytes()).expect("sends");
    let mut events = BufReader::new(stream);
    assert_eq!(read_head(&mut events).0, 200);
    let _page = stalled_pages(&store);
    check_honest(&store);
    let mut event = String::new();
    while !event.contains("event: calls") {
        event.clear();
        let read = std::io::BufRead::read_line(&mut events, &mut event);
        assert_ne!(read.expect("the stream is open"), 0, "the stream has ended");
    }
}

#[test]
fn a_head_is_bounded() {
    let store = Running::start();
    let headers = format!("X: {}\r\n", "x".repeat(200_000));
    let answer = request(store.ready.capture, "GET", "/saturated", &headers, b"");
    assert_eq!(answer.status, 431);
}

#[test]
fn a_large_body_that_comes_in_pieces_is_stored() {
    let store = Running::start();
    let body = line(&[
        ("request_url", "http://h/"),
        ("request_body", &"x".repeat(3 << 20)),
    ]);
    let mut stream = connect(store.ready.capture);
    let head = format!(
        "{HEAD}Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).expect("sends");
    for piece in body.as_bytes().chunks(100_000) {
        stream.write_all(piece).expect("sends");
    }
    assert_eq!(read_head(&mut BufReader::new(stream)).0, 204);
}
