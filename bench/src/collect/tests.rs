//! Tests of the collector: counts, faults on command, and POSTs that are checked later.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpStream};

use flate2::Compression;
use flate2::write::ZlibEncoder;

use super::*;
use crate::load::{BODY_END, FIRST_NUMBER};

/// Sends one POST and returns the status of the response, or 0 if the connection was dropped.
fn post(collector: &Collector, headers: &str, body: &[u8]) -> u16 {
    post_keep_alive(collector, &format!("Connection: close\r\n{headers}"), body)
}

/// The same on a persistent connection, as the sniffer uses.
fn post_keep_alive(collector: &Collector, headers: &str, body: &[u8]) -> u16 {
    let mut stream = TcpStream::connect(collector.address()).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    let head = format!(
        "POST /message HTTP/1.1\r\nHost: x\r\nContent-Type: application/ndjson; \
         charset=UTF-8\r\nContent-Length: {}\r\n{headers}\r\n",
        body.len()
    );
    let _ = stream.write_all(&[head.as_bytes(), body].concat());
    let mut answer = String::new();
    let _ = BufReader::new(stream).read_line(&mut answer);
    answer
        .split(' ')
        .nth(1)
        .map_or(0, |status| status.parse().unwrap())
}

fn collector() -> Collector {
    Collector::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap()
}

#[test]
fn lines_are_kept_once_and_counted() {
    let collector = collector();
    let lines = b"[[\"request_header:x-call-number\",\"1\"],[\"a\",\"\\u20ac\"]]\n[[\"request_header:x-call-number\",\"1\"]]";
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(lines).unwrap();
    let body = encoder.finish().unwrap();
    let headers = "Content-Encoding: deflated\r\nIdempotency-Key: k\r\n";
    assert_eq!(post(&collector, headers, &body), 204);
    assert_eq!(post(&collector, headers, &body), 204);
    let counts = collector.counts();
    assert_eq!((counts.posts, counts.accepted, counts.repeated), (2, 1, 1));
    assert_eq!((counts.lines, counts.duplicates), (2, 1));
    assert_eq!(value(&collector.rows()[0], "a"), Some("€"));
}

#[test]
fn what_breaks_the_contract_is_refused() {
    let collector = collector();
    for body in [
        &b"{\"a\":1}\n"[..],
        b"[[\"a\"]]\n",
        b"[[\"a\",\"b\"]",
        b"\n",
    ] {
        assert_eq!(
            post(&collector, "", body),
            400,
            "{}",
            String::from_utf8_lossy(body)
        );
    }
    assert_eq!(
        post(
            &collector,
            "Content-Encoding: deflated\r\n",
            b"[[\"a\",\"b\"]]\n"
        ),
        400
    );
    assert_eq!(
        post(
            &collector,
            "Content-Encoding: gzip\r\n",
            b"[[\"a\",\"b\"]]\n"
        ),
        400
    );
    assert_eq!(
        (collector.counts().broken, collector.counts().lines),
        (6, 0)
    );
    assert_eq!(collector.errors().len(), 6);
}

#[test]
fn faults_are_injected_on_command() {
    let collector = collector();
    let line = b"[[\"a\",\"b\"]]\n";
    for (behaviour, status, lines) in [
        (Behaviour::Refuse(503), 503, 0),
        (Behaviour::Reset, 0, 0),
        (Behaviour::Lie, 503, 1),
        (Behaviour::Accept, 204, 2),
    ] {
        collector.set_behaviour(behaviour);
        assert_eq!(post(&collector, "", line), status, "{behaviour:?}");
        assert_eq!(collector.counts().lines, lines, "{behaviour:?}");
    }
}

/// POSTs that are checked at once and POSTs that are checked later give the same counts; only the answers to broken
/// ones differ.
#[test]
fn stored_posts_are_checked_like_others() {
    let line = |number: u64, answered: u64, body: &str| {
        format!(
            "[[\"request_url\",\"http://x/n{number}\"],[\"request_header:x-call-number\",\"{number}\"],\
             [\"response_header:x-answered-number\",\"{answered}\"],[\"response_body\",{body:?}]]\n"
        )
    };
    let whole = format!("{{\"a\":1,{BODY_END}");
    let bodies: Vec<String> = [&whole, "other"].map(ToString::to_string).into();
    let first = FIRST_NUMBER;
    let posts = [
        (
            "",
            line(first, first, &whole) + &line(first + 2, first + 2, "{\"a\""),
        ),
        (
            "",
            line(first + 4, first + 5, &whole) + &line(first, first, &whole),
        ),
        ("", line(first + 6, first + 6, "{\"b\"")),
        ("Idempotency-Key: k\r\n", line(first + 8, first + 8, &whole)),
        ("Idempotency-Key: k\r\n", line(first + 8, first + 8, &whole)),
        (
            "Content-Encoding: gzip\r\n",
            line(first + 10, first + 10, &whole),
        ),
        ("", "[[\"a\"]]\n".to_owned()),
    ];
    let send = |post_buffer: Option<PostBuffer>| {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let is_stored = post_buffer.is_some();
        let collector = Collector::start(listener, false, post_buffer, bodies.clone()).unwrap();
        for (headers, body) in &posts {
            let status = post_keep_alive(&collector, headers, body.as_bytes());
            assert!(status == 204 || !is_stored, "{status} for {body}");
        }
        let (counts, arrivals) = collector.take_counts();
        assert_eq!(collector.errors().len(), 2);
        assert_eq!(counts.checked_after, if is_stored { 7 } else { 0 });
        let numbers: Vec<u64> = arrivals.iter().map(|arrival| arrival.number).collect();
        let counts = Counts {
            checked_after: 0,
            ..counts
        };
        (counts, numbers)
    };
    let at_once = send(None);
    let expected = Counts {
        posts: 7,
        accepted: 4,
        repeated: 1,
        broken: 2,
        lines: 6,
        duplicates: 1,
        mismatched: 1,
        truncated: 1,
        torn: 1,
        plain: 4,
        ..at_once.0
    };
    assert_eq!(at_once.0, expected);
    assert_eq!(send(Some(PostBuffer::new(64 << 20))), at_once);
}

#[test]
fn a_full_buffer_refuses_and_counts() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let collector = Collector::check_later(listener, PostBuffer::new(0), Vec::new()).unwrap();
    assert_eq!(post_keep_alive(&collector, "", b"[[\"a\",\"b\"]]\n"), 507);
    let (counts, _) = collector.take_counts();
    assert_eq!((counts.posts, counts.buffer_full, counts.lines), (1, 1, 0));
}

#[test]
fn faults_are_injected_with_a_buffer_too() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let collector =
        Collector::check_later(listener, PostBuffer::new(64 << 20), Vec::new()).unwrap();
    let line = b"[[\"request_header:x-call-number\",\"1\"]]\n";
    collector.set_behaviour(Behaviour::Lie);
    assert_eq!(post_keep_alive(&collector, "", line), 503);
    collector.set_behaviour(Behaviour::Refuse(401));
    assert_eq!(post_keep_alive(&collector, "", line), 401);
    collector.set_behaviour(Behaviour::Accept);
    assert_eq!(post_keep_alive(&collector, "", line), 204);
    collector.check_stored();
    let counts = collector.counts();
    assert_eq!((counts.lines, counts.duplicates, counts.faults), (2, 1, 2));
}

#[test]
fn a_stall_ends_with_the_behaviour() {
    let collector = collector();
    collector.set_behaviour(Behaviour::Stall);
    thread::scope(|scope| {
        let poster = scope.spawn(|| post(&collector, "", b"[[\"a\",\"b\"]]\n"));
        assert!(collector.wait(Duration::from_secs(5), |counts| counts.posts == 1));
        collector.set_behaviour(Behaviour::Accept);
        assert_eq!(poster.join().unwrap(), 0);
    });
    assert_eq!(collector.counts().faults, 1);
}
