//! The live stream: order, resuming, filter, falling behind, the end.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::client::{Running, connect, line, read_head};

/// An open stream, read on demand.
struct Events {
    reader: BufReader<TcpStream>,
    /// The part of the chunked body that was read and is not a whole event yet.
    text: String,
}

#[derive(Debug, PartialEq, Eq)]
struct Event {
    name: String,
    id: i64,
    data: Value,
}

impl Events {
    fn open(store: &Running, query: &str, headers: &str) -> Self {
        let mut stream = connect(store.ready.page);
        let headers = store.authorization() + headers;
        let head =
            format!("GET /api/v1/stream{query} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
        stream.write_all(head.as_bytes()).expect("sends");
        let mut reader = BufReader::new(stream);
        let (status, headers) = read_head(&mut reader);
        assert_eq!(status, 200);
        assert!(
            headers.contains(&("content-type".into(), "text/event-stream".into())),
            "{headers:?}"
        );
        let mut events = Self {
            reader,
            text: String::new(),
        };
        // A comment comes at once, without which Firefox does not regard the stream as open.
        events.read_chunk().expect("the first bytes");
        assert_eq!(events.text.trim_end(), ":");
        events
    }

    /// The next event; `None` when the store ends the stream.
    fn next(&mut self) -> Option<Event> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| {
                    event
                        .lines()
                        .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
                };
                let read = field("event").map(|name| Event {
                    name: name.to_owned(),
                    id: field("id").and_then(|id| id.parse().ok()).expect("an id"),
                    data: serde_json::from_str(field("data").expect("data")).expect("JSON"),
                });
                self.text = rest.to_owned();
                match read {
                    Some(event) => return Some(event),
                    None => continue,
                }
            }
            self.read_chunk()?;
        }
    }

    fn read_chunk(&mut self) -> Option<()> {
        let mut size = String::new();
        self.reader.read_line(&mut size).ok()?;
        let size = usize::from_str_radix(size.trim_end(), 16)
            .ok()
            .filter(|&size| size > 0)?;
        let mut chunk = vec![0; size + 2];
        std::io::Read::read_exact(&mut self.reader, &mut chunk).ok()?;
        self.text
            .push_str(std::str::from_utf8(&chunk[..size]).expect("UTF-8"));
        Some(())
    }

    /// Ids of all calls up to this one.
    fn ids_until(&mut self, last: i64) -> Vec<i64> {
        let mut ids = Vec::new();
        while ids.last() != Some(&last) {
            let event = self.next().expect("an event");
            assert_eq!(event.name, "calls");
            let calls = event.data["calls"].as_array().expect("a list");
            ids.extend(calls.iter().rev().map(|call| {
                let id = call["id"].as_str().expect("a text");
                let (number, _) = id.split_once('-').expect("number and time");
                number.parse::<i64>().expect("digits")
            }));
        }
        ids
    }
}

fn post(store: &Running, method: &str, calls: usize) {
    let body = line(&[("request_method", method), ("request_url", "http://h/")]).repeat(calls);
    assert_eq!(store.post(body.as_bytes()).status, 204);
}

#[test]
fn new_calls_come_in_order_and_none_twice() {
    let store = Running::start();
    post(&store, "GET", 3);
    let mut events = Events::open(&store, "", "");
    for _ in 0..20 {
        post(&store, "GET", 2);
    }
    assert_eq!(events.ids_until(43), (4..=43).collect::<Vec<_>>());
}

#[test]
fn a_stream_continues_where_the_reader_was() {
    let store = Running::start();
    post(&store, "GET", 10);
    assert_eq!(
        Events::open(&store, "?after=7", "").ids_until(10),
        [8, 9, 10]
    );
    assert_eq!(
        Events::open(&store, "?after=2", "Last-Event-ID: 8\r\n").ids_until(10),
        [9, 10]
    );
}

#[test]
fn only_calls_that_match_come() {
    let store = Running::start();
    let mut events = Events::open(&store, "?filter=post", "");
    post(&store, "GET", 1);
    post(&store, "POST", 1);
    post(&store, "GET", 1);
    post(&store, "POST", 1);
    assert_eq!(events.ids_until(4), [2, 4]);
}

#[test]
fn a_reader_that_is_far_behind_has_to_fetch_the_list() {
    let store = Running::start();
    post(&store, "GET", 1500);
    let event = Events::open(&store, "?after=1", "")
        .next()
        .expect("an event");
    assert_eq!(
        (event.name.as_str(), event.id, &event.data),
        (
            "lagged",
            1500,
            &json!({ "newest": "1500", "arrived": 1499 })
        )
    );
    // So has one whose last call was of another database.
    let event = Events::open(&store, "", "Last-Event-ID: 9999\r\n")
        .next()
        .expect("an event");
    assert_eq!((event.name.as_str(), event.id), ("lagged", 1500));
    assert_eq!(event.data["arrived"], Value::Null);
}

#[test]
fn a_stop_ends_open_streams_at_once() {
    let mut store = Running::start();
    let mut events = Events::open(&store, "", "");
    let start = std::time::Instant::now();
    store.stop();
    assert_eq!(events.next(), None);
    assert!(
        start.elapsed() < store::limits::STOP_WAIT,
        "{:?}",
        start.elapsed()
    );
}
