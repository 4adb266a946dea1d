//! Calls as every backend answers them, and the queries for them.
//!
//! Ids and places are opaque: each backend writes them as it needs, and nothing
//! outside of it may compute with them. Their alphabet is the one that needs no escaping in a URL, in an attribute of a page and
//! in a server-sent event.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::clock::minute;
use crate::fields::{FIELDS, Field, Spec};
use crate::filter::Filter;
use crate::histogram::Histogram;
use crate::limits::ID_BYTES_MAX;
use crate::line::Columns;

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

impl CallId {
    /// The id that has two numbers, with a hyphen between them.
    pub(crate) fn of_parts(first: u64, second: u64) -> Self {
        Self(format!("{first}-{second}"))
    }
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
    /// As [`Columns::time_ms`](crate::line::Columns::time_ms): the list is in this order.
    pub time_ms: i64,
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
    /// As [`Columns::first_byte_ms`](crate::line::Columns::first_byte_ms).
    pub first_byte_ms: Option<i64>,
    /// The path with ids as `*`.
    pub endpoint: String,
    /// What the call asks for where the URL does not show it.
    pub operation: String,
    /// As [`Columns::protocol`](crate::line::Columns::protocol).
    pub protocol: String,
    /// Innermost number of a virtual network.
    pub vni: Option<i64>,
    /// Address of the client.
    pub client: String,
    /// Address of the server.
    pub server: String,
    /// The machine that captured the call.
    pub appliance: String,
}

impl Summary {
    /// The row of a call.
    pub fn of(id: CallId, call: Columns) -> Self {
        Self {
            id,
            time_ms: call.time_ms,
            received_ms: call.received_ms,
            now_ms: call.now_ms,
            interval_ms: call.interval_ms,
            method: call.method,
            url: call.url,
            host: call.host,
            path: call.path,
            status: call.status,
            request_bytes: call.request_bytes,
            response_bytes: call.response_bytes,
            content_type: call.content_type,
            note: call.note,
            first_byte_ms: call.first_byte_ms,
            endpoint: call.endpoint,
            operation: call.operation,
            protocol: call.protocol,
            vni: call.vni,
            client: call.client,
            server: call.server,
            appliance: call.appliance,
        }
    }

    /// The fields that a row has, in their order, with their values.
    pub fn cells(&self) -> impl Iterator<Item = (&'static Spec, Cell<'_>)> {
        FIELDS.iter().filter_map(|spec| {
            let number = |number| Some((spec, Cell::Number(number)));
            let text = |text| Some((spec, Cell::Text(text)));
            match spec.field {
                Field::Time => number(Some(self.time_ms)),
                Field::Received => number(Some(self.received_ms)),
                Field::Took => number(self.interval_ms),
                Field::FirstByte => number(self.first_byte_ms),
                Field::Method => text(&self.method),
                Field::Host => text(&self.host),
                Field::Path => text(&self.path),
                Field::Url => text(&self.url),
                Field::Endpoint => text(&self.endpoint),
                Field::Operation => text(&self.operation),
                Field::Status => number(self.status),
                Field::RequestBytes => number(self.request_bytes),
                Field::ResponseBytes => number(self.response_bytes),
                Field::ContentType => text(&self.content_type),
                Field::Protocol => text(&self.protocol),
                Field::Vni => number(self.vni),
                Field::Client => text(&self.client),
                Field::Server => text(&self.server),
                Field::Appliance => text(&self.appliance),
                Field::Note => text(&self.note),
                Field::OperationKind
                | Field::ClientPort
                | Field::ServerPort
                | Field::Sender
                | Field::Connection => None,
            }
        })
    }

    /// A row without any value, for the names of its fields.
    pub(crate) fn empty() -> Self {
        Self::of(0.into(), Columns::default())
    }

    /// Bytes of its texts, which are what a row may have many of.
    pub fn text_bytes(&self) -> usize {
        let bytes = self.cells().map(|(_, cell)| match cell {
            Cell::Text(text) => text.len(),
            Cell::Number(_) => 0,
        });
        bytes.sum()
    }
}

/// A value of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell<'a> {
    /// A number, if the call has one.
    Number(Option<i64>),
    /// A text, which is empty where the call has none.
    Text(&'a str),
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

/// A range of the time of calls, in Unix milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Range {
    /// Its beginning, inclusive; none for the oldest call.
    pub from_ms: Option<i64>,
    /// Its end, exclusive; none for the newest call.
    pub to_ms: Option<i64>,
}

impl Range {
    /// Whether a time lies in it.
    pub fn contains(&self, time_ms: i64) -> bool {
        self.from_ms.is_none_or(|from| time_ms >= from) && self.to_ms.is_none_or(|to| time_ms < to)
    }

    /// Whether some time from `first` to `last`, both inclusive, may lie in it.
    pub fn overlaps(&self, first_ms: i64, last_ms: i64) -> bool {
        self.from_ms.is_none_or(|from| last_ms >= from) && self.to_ms.is_none_or(|to| first_ms < to)
    }

    /// The first and the last minute that have a part of it; those of an end that is open are beyond all.
    pub fn minutes(&self) -> (i64, i64) {
        let first = self.from_ms.map_or(i64::MIN / 2, minute);
        let last = |to: i64| minute(to.saturating_sub(1));
        (first, self.to_ms.map_or(i64::MAX / 2, last))
    }

    /// Whether all times from `first` to `last`, both inclusive, lie in it.
    pub fn covers(&self, first_ms: i64, last_ms: i64) -> bool {
        self.contains(first_ms) && self.contains(last_ms)
    }
}

/// A query for calls between two places of the list, newest first: by the time of the call, then by arrival.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// Only calls that match.
    pub filter: Filter,
    /// Only calls older than this one, in the order of the list.
    pub before: Option<CallId>,
    /// Only calls newer than this one, in the order of the list.
    pub after: Option<CallId>,
    /// Only calls of this time.
    pub range: Range,
    /// Calls in the answer, at most.
    pub limit: usize,
}

/// The answer to a [`Query`].
#[derive(Clone, Debug, PartialEq, Serialize)]
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
    /// What the answer is based on.
    pub coverage: Coverage,
}

/// What an answer is based on: which calls were there to be counted, and which were not.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Coverage {
    /// The range that was asked for.
    #[serde(flatten)]
    pub range: Range,
    /// Time of the oldest call in the store; none in an empty one. What is older was deleted, or never here.
    pub held_from_ms: Option<i64>,
    /// Calls that were captured in the range, as far as that was reported: those that are kept and those that were lost.
    pub seen: u64,
    /// Calls in the store of this range, whether they match or not. Where only a part of a block of them lies in the range, the
    /// part is estimated from the time that both have in common.
    pub kept: u64,
    /// Calls that are missing in the range, by cause. `expired` are those that the retention deleted.
    pub lost: BTreeMap<String, u64>,
    /// Kept calls of this range in which a rule or a bound has left something out, as their annotations report it.
    pub masked: u64,
    /// Why the answer may lack calls that are there.
    pub partial: Option<String>,
    /// The part of the range that was examined, from 0 to 1.
    pub progress: f64,
}

/// A query for statistics of the calls of a range.
#[derive(Clone, Debug)]
pub struct StatsQuery {
    /// Only calls that match.
    pub filter: Filter,
    /// Only calls of this time.
    pub range: Range,
    /// Milliseconds of one point of the series; where there would be more than
    /// [`SERIES_POINTS_MAX`](crate::limits::SERIES_POINTS_MAX) it is enlarged.
    pub step_ms: i64,
    /// What the groups are of; none for the sum alone.
    pub by: Option<Field>,
    /// Groups in the answer, those with the most calls; the others are summed up in one.
    pub groups_max: usize,
}

/// The answer to a [`StatsQuery`].
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Stats {
    /// Milliseconds of a point.
    pub step_ms: i64,
    /// Time at which the first point begins.
    pub start_ms: i64,
    /// Points without calls at the end are left out.
    pub series: Vec<Point>,
    /// All calls of the range that match.
    pub total: Measures,
    /// The largest groups first.
    pub groups: Vec<Group>,
    /// What is in none of [`groups`](Self::groups).
    pub other: Measures,
    /// What the answer is based on.
    pub coverage: Coverage,
}

/// A group of a [`Stats`].
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Group {
    /// The value that its calls have in common.
    pub value: String,
    /// They.
    #[serde(flatten)]
    pub measures: Measures,
}

/// One point of a series.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Point {
    /// Calls by the first digit of their status; index 0 has those without one, and those beyond 599.
    pub classes: [u64; 6],
    /// Their time.
    pub took: Histogram,
}

/// Sums over calls.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Measures {
    /// Number of calls.
    pub calls: u64,
    /// As [`Point::classes`].
    pub classes: [u64; 6],
    /// Sum of the request bodies' lengths.
    pub request_bytes: u64,
    /// Sum of the response bodies' lengths.
    pub response_bytes: u64,
    /// Milliseconds from request to response.
    pub took: Histogram,
    /// Milliseconds to the first byte.
    pub first_byte: Histogram,
    /// Bytes of a response body.
    pub sizes: Histogram,
}

impl Measures {
    /// The index of a status in [`classes`](Self::classes).
    pub fn class(status: i64) -> usize {
        match status {
            100..=599 => (status / 100).unsigned_abs() as usize,
            _ => 0,
        }
    }

    /// Adds other calls.
    pub fn merge(&mut self, other: &Self) {
        self.calls += other.calls;
        for (class, more) in self.classes.iter_mut().zip(other.classes) {
            *class += more;
        }
        self.request_bytes += other.request_bytes;
        self.response_bytes += other.response_bytes;
        self.took.merge(&other.took);
        self.first_byte.merge(&other.first_byte);
        self.sizes.merge(&other.sizes);
    }
}

/// A query for the most frequent values of a field.
#[derive(Clone, Debug)]
pub struct TopQuery {
    /// Only calls that match.
    pub filter: Filter,
    /// Only calls of this time.
    pub range: Range,
    /// The field.
    pub field: Field,
    /// Values in the answer, at most.
    pub limit: usize,
}

/// The answer to a [`TopQuery`].
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Top {
    /// Values and the number of calls that have them, the most frequent first. Calls without the field have the empty value.
    pub values: Vec<(String, u64)>,
    /// Calls with any other value.
    pub other: u64,
    /// What the answer is based on.
    pub coverage: Coverage,
}

/// Which calls to delete.
#[derive(Clone, Debug)]
pub struct DeleteQuery {
    /// Only calls that match.
    pub filter: Filter,
    /// Only calls of this time.
    pub range: Range,
    /// Where the round before ended, [`Deleted::next`].
    pub after: Option<Arrival>,
}

/// What one round of deleting did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deleted {
    /// Calls deleted.
    pub calls: u64,
    /// Where the next round goes on; none when all calls that had arrived were examined.
    pub next: Option<Arrival>,
}

/// Calls that were lost before they reached the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// When, in Unix milliseconds.
    pub time_ms: i64,
    /// The machine that lost them.
    pub appliance: String,
    /// In which virtual network, where that is known.
    pub vni: Option<i64>,
    /// Why; a name of the ledger.
    pub cause: String,
    /// How many.
    pub calls: u64,
}

/// A query for the calls that were lost over the time.
#[derive(Clone, Copy, Debug)]
pub struct LossesQuery {
    /// Only losses of this time.
    pub range: Range,
    /// Milliseconds of one point, a number of minutes; a point begins at a multiple of it.
    pub step_ms: i64,
    /// What is distinguished.
    pub by: LossesBy,
}

/// What is distinguished in the losses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LossesBy {
    /// Why: a name of the ledger, or `expired`.
    #[default]
    Cause,
    /// Which machine lost them.
    Appliance,
    /// In which virtual network.
    Vni,
}

/// Losses of one point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LossesAt {
    /// What they have in common; empty where that is not known.
    pub value: String,
    /// Time at which the point begins.
    pub time_ms: i64,
    /// How many.
    pub calls: u64,
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
    /// Calls stored: `calls`, `calls_expired` and `calls_deleted`.
    pub calls_received: u64,
    /// Calls deleted to stay within the retention.
    pub calls_expired: u64,
    /// Calls deleted on request.
    pub calls_deleted: u64,
    /// Bundles stored.
    pub bundles_received: u64,
    /// Bundles that were stored already, with the same key and the same bytes.
    pub bundles_repeated: u64,
    /// Keys that were forgotten before their time because there were too many: such a bundle would be stored again.
    pub keys_forgotten: u64,
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
