//! What the cases share: a backend with an empty database, and calls for it.

use bytes::Bytes;
use store::backend::{Backend, Retention, Stored};
use store::bundle::Bundle;
use store::call::{Page, Query, Summary};
use store::sender::Sender;

use crate::client::line;

/// A backend with an empty database, which is deleted with it.
pub(super) trait Fixture {
    type Backend: Backend;

    fn start(retention: Retention) -> Self;

    fn backend(&self) -> &Self::Backend;
}

/// The line of a call whose path is a number, younger than those with smaller numbers.
pub(super) fn numbered(number: usize) -> String {
    line(&[
        ("request_method", "GET"),
        ("request_url", &format!("http://shop.example/{number}")),
        ("response_code", "200"),
        ("now", &(1_700_000_000_000 + number).to_string()),
    ])
}

pub(super) fn bundle(key: Option<&str>, text: impl Into<Bytes>) -> Bundle {
    Bundle::split(text.into(), key.map(Into::into), Sender::Local).expect("few lines")
}

pub(super) async fn insert(backend: &impl Backend, numbers: impl Iterator<Item = usize>) {
    let text: String = numbers.map(numbered).collect();
    let stored = backend.insert(bundle(None, text)).await;
    assert_eq!(stored, Ok(Stored::New));
}

pub(super) async fn list(backend: &impl Backend, query: Query) -> Page {
    backend.list(query).await.expect("a page")
}

pub(super) fn first(limit: usize) -> Query {
    Query {
        limit,
        ..Query::default()
    }
}

pub(super) fn paths(calls: &[Summary]) -> Vec<usize> {
    let numbers = calls.iter().map(|call| call.path.trim_matches('/').parse());
    numbers.collect::<Result<_, _>>().expect("numbered calls")
}

/// Texts that mean something to a database, a query language, a browser or a terminal.
pub(super) const HOSTILE: [&str; 18] = [
    "' OR 1=1 --",
    "'); DROP TABLE calls; --",
    "\" OR \"\"=\"",
    "%",
    "_",
    "*",
    "a\\b",
    "\\'; SELECT 1",
    "?1 $1 :name @name {x:String}",
    "`calls`",
    "[a-z]+(",
    "\0\u{1}\u{7f}",
    "\r\n\t",
    "</script><script>alert(1)</script>",
    "\u{1b}[2J",
    "\u{202e}txt.exe",
    "Straße \u{17f} \u{212a} İ é 🦀",
    "x\u{301}\u{feff}",
];

/// A call that was so many seconds ago.
pub(super) fn timed(number: usize, seconds_ago: i64, details: &[(&str, &str)]) -> String {
    let now = (now_ms() - seconds_ago * 1000).to_string();
    let url = format!("http://shop.example/{number}");
    let mut all = vec![
        (
            "request_method",
            if number.is_multiple_of(3) {
                "POST"
            } else {
                "GET"
            },
        ),
        ("request_url", url.as_str()),
    ];
    all.extend_from_slice(details);
    all.push(("now", now.as_str()));
    line(&all)
}

pub(super) fn now_ms() -> i64 {
    let since = std::time::UNIX_EPOCH.elapsed().expect("after 1970");
    i64::try_from(since.as_millis()).expect("before the end")
}

pub(super) async fn store(backend: &impl Backend, text: String) {
    let stored = backend.insert(bundle(None, text)).await;
    assert_eq!(stored, Ok(Stored::New));
}
