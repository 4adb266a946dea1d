//! Whether a request is a statement that a store sends to its ClickHouse, which is marked as an upload is: a sniffer that takes it for
//! a call delivers that, and the store sends the next statement for it.
//!
//! Source: `docs/contract.md`, section 2.1. Only what a store sends is accepted: to the root, with the user in a header, as octets that
//! begin with a statement, or with a row of the table of calls whose statement is in the target.

use crate::http::{HeaderName, RequestHead};

/// Where the statement is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Statement {
    /// It is the body.
    Body,
    /// It is in the target, and the body has the calls.
    Target,
}

/// Bytes of a body that decide: a time, the number of a bundle and that of a line.
pub(super) const DECIDING_BYTES: usize = 20;

/// How statements begin.
const BEGINNINGS: [&[u8]; 4] = [b"SELECT ", b"INSERT INTO ", b"ALTER TABLE ", b"CREATE "];

/// The statement of calls, as it is in the target.
const CALLS: &[u8] = b"&query=INSERT%20INTO%20calls%20%28time%2C%20bundle%2C%20line_no%2C";

impl Statement {
    /// By the head of a `POST`; none if it is not that of a statement.
    pub(super) fn of(head: &RequestHead<'_>) -> Option<Self> {
        let is_octets = HeaderName::ContentType
            .find(head.headers)
            .is_some_and(|value| value.eq_ignore_ascii_case(b"application/octet-stream"));
        let has_user = head
            .headers
            .iter()
            .any(|header| header.name.eq_ignore_ascii_case(b"x-clickhouse-user"));
        let is_plain = HeaderName::ContentEncoding.find(head.headers).is_none();
        if !is_octets || !has_user || !is_plain || !head.target.starts_with(b"/?") {
            return None;
        }
        let mut places = head.target.windows(CALLS.len());
        if places.any(|place| place == CALLS) {
            return Some(Self::Target);
        }
        Some(Self::Body)
    }

    /// Whether a body that begins so has what the head has announced.
    pub(super) fn begins(self, body: &[u8]) -> bool {
        match self {
            Self::Body => BEGINNINGS
                .iter()
                .any(|beginning| body.starts_with(beginning)),
            // A time within the next millennia, and the first line of a bundle.
            Self::Target => [6..8, 16..DECIDING_BYTES].into_iter().all(|place| {
                let bytes = body.get(place);
                bytes.is_some_and(|bytes| bytes.iter().all(|byte| *byte == 0))
            }),
        }
    }
}
