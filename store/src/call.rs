//! Calls as every backend answers them, and the queries for them.
//!
//! Ids and places are opaque: each backend writes them as it needs (SQLite as its row number in digits), and nothing
//! outside of it may compute with them. Their alphabet is the one that needs no escaping in a URL, in an attribute of a page and
//! in a server-sent event.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::filter::Filter;
use crate::limits::ID_BYTES_MAX;

/// A text that cannot be an id or a place of any backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAnId;

impl fmt::Display for NotAnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "an id has 1 to {ID_BYTES_MAX} letters, digits, hyphens or underscores"
        )
    }
}

impl std::error::Error for NotAnId {}

macro_rules! opaque {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name(String);

        impl $name {
            /// The text, for the backend that wrote it and for output.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<u64> for $name {
            fn from(number: u64) -> Self {
                Self(number.to_string())
            }
        }

        impl TryFrom<String> for $name {
            type Error = NotAnId;

            fn try_from(text: String) -> Result<Self, NotAnId> {
                if is_id(&text) { Ok(Self(text)) } else { Err(NotAnId) }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

opaque! {
    /// Names one call, and the place of that call in the list, also after the call was deleted.
    CallId
}

opaque! {
    /// A place in the order in which calls arrived: behind the last one that had arrived when it was written.
    Arrival
}

fn is_id(text: &str) -> bool {
    (1..=ID_BYTES_MAX).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

/// A call as a row of the list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Its id.
    pub id: CallId,
    /// Unix time at which the store received it, in milliseconds.
    pub received_ms: i64,
    /// As [`Columns::now_ms`](crate::line::Columns::now_ms).
    pub now_ms: Option<i64>,
    /// As [`Columns::interval_ms`](crate::line::Columns::interval_ms).
    pub interval_ms: Option<i64>,
    /// Request method.
    pub method: String,
    /// The URL as it stands in the line.
    pub url: String,
    /// As [`Columns::host`](crate::line::Columns::host).
    pub host: String,
    /// What follows the authority in the URL.
    pub path: String,
    /// Status code of the response.
    pub status: Option<i64>,
    /// Length of the logged request body in bytes.
    pub request_bytes: Option<i64>,
    /// Length of the logged response body in bytes.
    pub response_bytes: Option<i64>,
    /// Media type of the response.
    pub content_type: String,
    /// As [`Columns::note`](crate::line::Columns::note).
    pub note: String,
}

impl Summary {
    /// Bytes of its texts, which are what a row may have many of.
    pub fn text_bytes(&self) -> usize {
        let texts = [
            &self.method,
            &self.url,
            &self.host,
            &self.path,
            &self.content_type,
            &self.note,
        ];
        texts.iter().map(|text| text.len()).sum()
    }
}

/// One call with everything that is known about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Call {
    /// Its row of the list.
    #[serde(flatten)]
    pub summary: Summary,
    /// The details of the line, in their order.
    pub details: Vec<(String, String)>,
    /// The line as it was sent.
    pub line: String,
}

/// A query for calls between two places of the list, newest first.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// Only calls that match.
    pub filter: Filter,
    /// Only calls older than this one.
    pub before: Option<CallId>,
    /// Only calls newer than this one.
    pub after: Option<CallId>,
    /// Calls in the answer, at most.
    pub limit: usize,
}

/// The answer to a [`Query`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Page {
    /// Newest first.
    pub calls: Vec<Summary>,
    /// A query with `before` set to this continues with older calls; `None` when all were examined. An answer may have fewer
    /// calls than the limit, see [`LIST_BYTES_MAX`](crate::limits::LIST_BYTES_MAX).
    pub next: Option<CallId>,
    /// The time for one search ran out: fewer calls than the limit does not mean that there are no more.
    pub timed_out: bool,
    /// Behind the newest call that the answer takes into account, whether it matches or not.
    pub newest: Arrival,
}

/// Calls that arrived after a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrived {
    /// Behind the last call that was examined; the next query starts here.
    pub newest: Arrival,
    /// Those that match, newest first. `None` when more than [`STREAM_BEHIND_MAX`](crate::limits::STREAM_BEHIND_MAX)
    /// arrived, when examining them took too long, or when the place is not one of this store: the list has to be fetched again.
    pub calls: Option<Vec<Summary>>,
    /// How many arrived, whether they match or not; `None` when that is unknown.
    pub count: Option<u64>,
}

/// Totals of the store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Calls in the store.
    pub calls: u64,
    /// Bytes that the database occupies.
    pub database_bytes: u64,
    /// Unix time at which counting began, in milliseconds.
    pub since_ms: i64,
    /// Calls stored: `calls` and `calls_expired`.
    pub calls_received: u64,
    /// Calls deleted to stay within the retention.
    pub calls_expired: u64,
    /// Bundles stored.
    pub bundles_received: u64,
    /// Bundles that were stored already, with the same key and the same bytes.
    pub bundles_repeated: u64,
    /// Lines of stored bundles that are no message.
    pub bad_lines: u64,
    /// Who has the calls, the largest first, at most [`SENDERS_SHOWN`](crate::limits::SENDERS_SHOWN).
    pub senders: Vec<SenderTotals>,
}

/// The calls of one sender.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SenderTotals {
    /// As [`Sender`](crate::sender::Sender) is displayed.
    pub sender: String,
    /// Its calls in the store.
    pub calls: u64,
    /// Bytes of their lines.
    pub bytes: u64,
    /// Calls of it that were deleted to stay within the retention.
    pub expired: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: bool) {
        assert_eq!(
            CallId::try_from(text.to_owned()).is_ok(),
            expected,
            "{text:?}"
        );
    }

    #[test]
    fn an_id_needs_no_escaping_anywhere() {
        check("25", true);
        check("m3k9-00a_Z", true);
        check(&"x".repeat(ID_BYTES_MAX), true);
        check(&"x".repeat(ID_BYTES_MAX + 1), false);
        for text in [
            "", " 1", "a b", "a/b", "..", "a&b", "a\nb", "é", "<b>", "\0",
        ] {
            check(text, false);
        }
        assert_eq!(CallId::from(u64::MAX).as_str(), "18446744073709551615");
    }

    #[test]
    fn ids_are_strings_in_json() {
        let id: CallId = serde_json::from_str("\"25\"").expect("an id");
        assert_eq!(serde_json::to_string(&id).expect("JSON"), "\"25\"");
        assert!(serde_json::from_str::<CallId>("25").is_err());
    }
}
