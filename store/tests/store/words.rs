//! Words and ids in many calls: those that are there are found, wherever blocks and chunks begin, end and were merged; others are not.

use std::fmt::Write as _;

use store::backend::sqlite::{Opened, Sqlite};
use store::backend::{Backend, Retention, Stored};
use store::bundle::Bundle;
use store::call::{DeleteQuery, Query, Range, StatsQuery};
use store::filter::Filter;
use store::sender::Sender;

use crate::client::line;

/// Pseudo-random hexadecimal digits.
struct Ids(u64);

impl Ids {
    fn next(&mut self, digits: usize) -> String {
        let mut text = String::new();
        while text.len() < digits {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            write!(text, "{:016x}", self.0).expect("memory");
        }
        text.truncate(digits);
        text
    }
}

/// A call with ids of its own, of which the first is returned.
fn call(ids: &mut Ids, number: usize, now_ms: i64) -> (String, String) {
    let id = ids.next(32);
    let mut body = String::new();
    while body.len() < 1500 {
        body.push_str(&ids.next(16));
        body.push(' ');
    }
    let text = line(&[
        ("request_method", "GET"),
        ("request_url", &format!("http://shop.example/{number}")),
        ("request_header:x-trace", &id),
        ("response_code", "200"),
        ("response_body", &body),
        ("now", &now_ms.to_string()),
    ]);
    (text, id)
}

async fn found(backend: &Sqlite, word: &str) -> Vec<String> {
    let filter = Filter::parse(&format!("\"{word}\"")).expect("a word");
    let query = Query {
        filter: filter.clone(),
        limit: 10,
        ..Query::default()
    };
    let page = backend.list(query).await.expect("a page");
    assert!(!page.timed_out);
    let stats = StatsQuery {
        filter,
        range: Range::default(),
        step_ms: 1000,
        by: None,
        groups_max: 1,
    };
    let stats = backend.stats(stats).await.expect("statistics");
    assert_eq!(stats.total.calls, page.calls.len() as u64);
    page.calls.into_iter().map(|call| call.path).collect()
}

#[tokio::test]
async fn every_word_is_found_in_the_calls_that_have_it_and_in_no_other() {
    let folder = tempfile::tempdir().expect("folder");
    let opened = Opened::new(folder.path()).expect("opens");
    let backend = opened.start(Retention::default()).expect("starts");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now_ms = now.expect("a time").as_millis() as i64;
    let mut ids = Ids(0x9e37_79b9_7f4a_7c15);
    let mut known = Vec::new();
    // Bundles that are compressed before they wait, with a rest; single calls between them; and those of a sender that are stored
    // in parts.
    let sizes = [700, 1, 1, 350, 30, 1, 1300, 180, 1];
    for (index, size) in sizes.into_iter().enumerate() {
        let mut text = String::new();
        for _ in 0..size {
            let number = known.len();
            let (line, id) = call(&mut ids, number, now_ms - 5000 + number as i64);
            text.push_str(&line);
            known.push(id);
        }
        let sender = match index % 3 {
            0 => Sender::of([192, 0, 2, 1].into()),
            _ => Sender::Capture,
        };
        let bundle = Bundle::split(text.into(), None, sender).expect("few lines");
        assert_eq!(backend.insert(bundle).await, Ok(Stored::New));
    }
    let some = |step: usize| known.iter().enumerate().step_by(step);
    for (number, id) in some(211) {
        let expected = vec![format!("/{number}")];
        for word in [id.as_str(), &id[7..], &id[..12], &id.to_uppercase()] {
            assert_eq!(found(&backend, word).await, expected, "{word}");
        }
    }
    for word in [&ids.next(32), &ids.next(16), "quokkaless", "shop.example/x"] {
        assert_eq!(found(&backend, word).await, Vec::<String>::new(), "{word}");
    }
    // Deletion makes the sets of the blocks that it changes anew.
    let gone = Filter::parse("path ~ \"7$\"").expect("a filter");
    let mut after = None;
    loop {
        let query = DeleteQuery {
            filter: gone.clone(),
            range: Range::default(),
            after,
        };
        after = backend.delete(query).await.expect("deletes").next;
        if after.is_none() {
            break;
        }
    }
    for (number, id) in some(97) {
        let expected = match number % 10 {
            7 => Vec::new(),
            _ => vec![format!("/{number}")],
        };
        assert_eq!(found(&backend, id).await, expected, "{number}");
    }
    // Calls with their lines, many at a time.
    let page = Query {
        limit: 1000,
        ..Query::default()
    };
    let page = backend.list(page).await.expect("a page").calls;
    let mut rest = &page[..];
    while !rest.is_empty() {
        let wanted = rest.iter().map(|call| call.id.clone()).collect();
        let calls = backend.calls(wanted).await.expect("calls");
        assert!(!calls.is_empty());
        for (call, listed) in calls.iter().zip(rest) {
            let call = call.as_ref().expect("the call");
            assert_eq!(&call.summary, listed);
            let number: usize = call.summary.path[1..].parse().expect("a number");
            assert!(call.line.contains(&known[number]));
        }
        rest = &rest[calls.len()..];
    }
    backend.close().await.expect("closes");
}
