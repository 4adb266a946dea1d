//! One line of a bundle, read into the columns that lists and filters need (`docs/contract.md`, sections 1.1 and 1.8).
//!
//! A line is a JSON array of `[name, value]` pairs, the details. As in the reference database, a member that is not a pair is
//! skipped and unknown names are kept as they are; the first of a repeated name fills the column. A text that is not a JSON
//! array of arrays, that has no pair at all or too many members is refused as a whole. The line itself is never changed: it is
//! stored as it was sent. A column has as much of its text as a row of a list shows.

mod member;

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Deserializer, SeqAccess, Visitor};

use member::{Member, Scalar};

use crate::fields::Field;
use crate::limits::{
    COLUMN_BYTES_MAX, FACT_BYTES_MAX, FACTS_MAX, LINE_DETAILS_MAX, NOTE_CHARS_MAX, NOW_AHEAD_MAX,
    NOW_BEHIND_MAX,
};

/// What a line fills columns with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Columns {
    /// When the call was, in Unix milliseconds: `now`, or the arrival where a line has none or one that cannot be; see
    /// [`place_in_time`](Self::place_in_time). 0 until the store has set it.
    pub time_ms: i64,
    /// When the store received it, in Unix milliseconds. 0 until the store has set it.
    pub received_ms: i64,
    /// `now`: Unix time of the response's first packet, in milliseconds. A rule may have removed it.
    pub now_ms: Option<i64>,
    /// `interval`: request to response, in milliseconds.
    pub interval_ms: Option<i64>,
    /// From the end of the request to the first byte of the response, in milliseconds, at least one.
    pub first_byte_ms: Option<i64>,
    /// `request_method`.
    pub method: String,
    /// `request_url`.
    pub url: String,
    /// Authority of the URL without user info; the `host` header where the URL has none.
    pub host: String,
    /// What follows the authority in the URL.
    pub path: String,
    /// `response_code`.
    pub status: Option<i64>,
    /// Length of the logged request body in bytes; `None` without one.
    pub request_bytes: Option<i64>,
    /// Length of the logged response body in bytes; `None` without one.
    pub response_bytes: Option<i64>,
    /// Media type of the response, without its parameters.
    pub content_type: String,
    /// Remarks for the list: truncated bodies, missing bytes, the network.
    pub note: String,
    /// The path with ids as `*`. Empty until the store has set it.
    pub endpoint: String,
    /// The annotation `operation`.
    pub operation: String,
    /// The annotation `operation_kind`.
    pub operation_kind: String,
    /// `http/` and the annotation `http_version`, or `websocket`.
    pub protocol: String,
    /// The annotation `vni`.
    pub vni: Option<i64>,
    /// The annotation `client_address`.
    pub client: String,
    /// The annotation `client_port`.
    pub client_port: Option<i64>,
    /// The annotation `server_address`.
    pub server: String,
    /// The annotation `server_port`.
    pub server_port: Option<i64>,
    /// The detail `host`: the machine that captured the call.
    pub appliance: String,
    /// Who posted it. Empty until the store has set it.
    pub sender: String,
    /// The annotation `connection_id`.
    pub connection: String,
    /// Name and value of the other annotations, at most [`FACTS_MAX`] of them, each cut to [`FACT_BYTES_MAX`] bytes.
    pub facts: Vec<(String, String)>,
    /// Not all annotations are in [`facts`](Self::facts), or not all of one.
    pub are_facts_cut: bool,
}

/// Name and value of one detail.
pub type Detail<'a> = (Cow<'a, str>, Cow<'a, str>);

impl Columns {
    /// Reads a line.
    ///
    /// # Errors
    /// The text is no line.
    pub fn read(line: &str) -> Result<Self, NotALine> {
        let mut columns = Self::default();
        let mut host_header = String::new();
        let mut times = Times::default();
        each_detail(line, |name, value| {
            let name = name.text();
            match name.strip_prefix("custom_field:") {
                Some(annotation) => columns.annotate(annotation, &value.text(), &mut times),
                None => columns.fill(&name, value, &mut host_header),
            }
        })?;
        columns.first_byte_ms = times.first_byte_ms();
        let (host, path) = split_url(&columns.url);
        columns.host = first_bytes(if host.is_empty() { &host_header } else { host });
        columns.path = first_bytes(path);
        columns.url = first_bytes(&columns.url);
        Ok(columns)
    }

    fn fill(&mut self, name: &str, value: Scalar<'_>, host_header: &mut String) {
        match name {
            "request_method" => first(&mut self.method, &value.text()),
            "request_url" if self.url.is_empty() => self.url = value.text().into_owned(),
            "response_code" if self.status.is_none() => {
                self.status = value.text().trim().parse().ok();
            }
            "now" if self.now_ms.is_none() => self.now_ms = value.text().trim().parse().ok(),
            "interval" | "interval_millis" if self.interval_ms.is_none() => {
                self.interval_ms = milliseconds(&value.text());
            }
            "request_body" if self.request_bytes.is_none() => {
                self.request_bytes = i64::try_from(value.length()).ok();
            }
            "response_body" if self.response_bytes.is_none() => {
                self.response_bytes = i64::try_from(value.length()).ok();
            }
            "request_header:host" => first(host_header, &value.text()),
            "response_header:content-type" if self.content_type.is_empty() => {
                self.content_type = media_type(&value.text());
            }
            "host" => first(&mut self.appliance, &value.text()),
            _ => {}
        }
    }

    fn annotate(&mut self, name: &str, value: &str, times: &mut Times) {
        note(&mut self.note, name, value);
        let number = |column: &mut Option<i64>| {
            if column.is_none() {
                *column = value.parse().ok();
            }
        };
        match name {
            "vni" => number(&mut self.vni),
            "client_port" => number(&mut self.client_port),
            "server_port" => number(&mut self.server_port),
            "client_address" => first(&mut self.client, value),
            "server_address" => first(&mut self.server, value),
            "connection_id" => first(&mut self.connection, value),
            "operation" => first(&mut self.operation, value),
            "operation_kind" => first(&mut self.operation_kind, value),
            "http_version" if self.protocol.is_empty() => {
                self.protocol = first_bytes(&format!("http/{value}"));
            }
            "stream" if value == "websocket" => self.protocol = value.into(),
            "request_ended" => times.request_ended = value.parse().ok(),
            "response_started" => times.response_started = value.parse().ok(),
            _ if APART.contains(&name) => {}
            _ => self.fact(name, value),
        }
    }

    fn fact(&mut self, name: &str, value: &str) {
        if self.facts.iter().any(|(known, _)| known == name) {
            return;
        }
        if self.facts.len() >= FACTS_MAX || name.len() > FACT_BYTES_MAX {
            self.are_facts_cut = true;
            return;
        }
        let end = value.floor_char_boundary(FACT_BYTES_MAX);
        self.are_facts_cut |= end < value.len();
        let value = value.get(..end).unwrap_or_default();
        self.facts.push((name.into(), value.into()));
    }

    /// Sets when the call was. A `now` that is further from the arrival than a clock or a spool can put it would be the oldest or
    /// newest call for ever: the arrival counts instead, with a note. Where calls are moved from another store, `now` counts.
    pub fn place_in_time(&mut self, received_ms: i64, is_imported: bool) {
        self.received_ms = received_ms;
        self.time_ms = received_ms;
        let Some(now_ms) = self.now_ms else { return };
        let oldest = received_ms.saturating_sub(milliseconds_of(NOW_BEHIND_MAX));
        let newest = received_ms.saturating_add(milliseconds_of(NOW_AHEAD_MAX));
        if (oldest..=newest).contains(&now_ms) || (is_imported && now_ms >= 0) {
            self.time_ms = now_ms;
        } else {
            remark_on(&mut self.note, "time of arrival");
        }
    }

    /// The number of a field; none where the call has none, or the field holds a text.
    pub fn number(&self, field: Field) -> Option<i64> {
        match field {
            Field::Time => Some(self.time_ms),
            Field::Received => Some(self.received_ms),
            Field::Took => self.interval_ms,
            Field::FirstByte => self.first_byte_ms,
            Field::Status => self.status,
            Field::RequestBytes => self.request_bytes,
            Field::ResponseBytes => self.response_bytes,
            Field::Vni => self.vni,
            Field::ClientPort => self.client_port,
            Field::ServerPort => self.server_port,
            _ => None,
        }
    }

    /// The text of a field; empty where the call has none, or the field holds a number.
    pub fn text(&self, field: Field) -> &str {
        match field {
            Field::Method => &self.method,
            Field::Host => &self.host,
            Field::Path => &self.path,
            Field::Url => &self.url,
            Field::Endpoint => &self.endpoint,
            Field::Operation => &self.operation,
            Field::OperationKind => &self.operation_kind,
            Field::ContentType => &self.content_type,
            Field::Protocol => &self.protocol,
            Field::Client => &self.client,
            Field::Server => &self.server,
            Field::Appliance => &self.appliance,
            Field::Sender => &self.sender,
            Field::Connection => &self.connection,
            Field::Note => &self.note,
            _ => "",
        }
    }

    /// Whether a rule or a bound has left something of the call out, as its facts report it.
    pub(crate) fn is_masked(&self) -> bool {
        let mut names = self.facts.iter().map(|(name, _)| name.as_str());
        names.any(|name| FACTS_OF_MASKED.contains(&name))
    }

    /// The value of a fact.
    pub fn fact_of(&self, name: &str) -> Option<&str> {
        let fact = self.facts.iter().find(|(known, _)| known == name);
        fact.map(|(_, value)| value.as_str())
    }
}

/// Annotations that are no [`facts`](Columns::facts): they have fields of their own, or no two calls have the same, so that a
/// column of them would be as long as the details in the lines.
pub const APART: [&str; 15] = [
    "vni",
    "client_port",
    "server_port",
    "client_address",
    "server_address",
    "connection_id",
    "operation",
    "operation_kind",
    "http_version",
    "stream",
    "exchange_id",
    "request_started",
    "request_ended",
    "response_started",
    "response_ended",
];

/// Facts that say that something of the call is missing: cut at a bound, or replaced.
const FACTS_OF_MASKED: [&str; 4] = [
    "request_body_bytes",
    "response_body_bytes",
    "fields_left_out",
    "masked",
];

/// Packet times of a call in nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
struct Times {
    request_ended: Option<i64>,
    response_started: Option<i64>,
}

impl Times {
    fn first_byte_ms(self) -> Option<i64> {
        let waited = self.response_started?.checked_sub(self.request_ended?)?;
        Some((waited / 1_000_000).max(1))
    }
}

fn milliseconds_of(time: std::time::Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// Why a text is no line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotALine {
    /// It is not a JSON array of arrays.
    Malformed,
    /// It has no detail that is a pair.
    Empty,
    /// It has more members than [`LINE_DETAILS_MAX`].
    TooManyDetails,
}

impl fmt::Display for NotALine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => f.write_str("it is not a JSON array of [key, value] pairs"),
            Self::Empty => f.write_str("it has no [key, value] pair"),
            Self::TooManyDetails => write!(f, "it has more than {LINE_DETAILS_MAX} details"),
        }
    }
}

impl std::error::Error for NotALine {}

/// Whether a text is a line. Nothing is kept of it, and hardly anything allocated.
///
/// # Errors
/// It is none.
pub fn check(line: &str) -> Result<(), NotALine> {
    each_detail(line, |_, _| {})
}

/// The details of a line in their order; members that are no pair are left out.
///
/// # Errors
/// The text is no line.
pub fn details(line: &str) -> Result<Vec<Detail<'_>>, NotALine> {
    let mut details = Vec::new();
    each_detail(line, |name, value| {
        details.push((name.text(), value.text()));
    })?;
    Ok(details)
}

/// Passes the details of a line on, one after the other.
fn each_detail<'a>(
    line: &'a str,
    mut detail: impl FnMut(Scalar<'a>, Scalar<'a>),
) -> Result<(), NotALine> {
    let (mut members, mut pairs) = (0, 0);
    let on_member = |member: Member<'a>| {
        members += 1;
        if members > LINE_DETAILS_MAX {
            return false;
        }
        if let Some((name, value)) = member.0 {
            pairs += 1;
            detail(name, value);
        }
        true
    };
    let mut text = serde_json::Deserializer::from_str(line);
    let read = text
        .deserialize_seq(Members(on_member))
        .and_then(|()| text.end());
    if members > LINE_DETAILS_MAX {
        return Err(NotALine::TooManyDetails);
    }
    read.map_err(|_| NotALine::Malformed)?;
    if pairs == 0 {
        return Err(NotALine::Empty);
    }
    Ok(())
}

/// The members of a line's array, for as long as the function that gets them returns true.
struct Members<F>(F);

impl<'de, F: FnMut(Member<'de>) -> bool> Visitor<'de> for Members<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of [name, value] pairs")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut members: A) -> Result<(), A::Error> {
        while let Some(member) = members.next_element()? {
            if !(self.0)(member) {
                return Err(de::Error::custom("too many members"));
            }
        }
        Ok(())
    }
}

fn first(column: &mut String, value: &str) {
    if column.is_empty() {
        *column = first_bytes(value);
    }
}

/// What a column of the list keeps of a text: all of it, or as much as [`COLUMN_BYTES_MAX`] and a mark.
pub(crate) fn first_bytes(text: &str) -> String {
    if text.len() <= COLUMN_BYTES_MAX {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(COLUMN_BYTES_MAX);
    format!("{}…", text.get(..end).unwrap_or_default())
}

/// Whether a text of a column may be the beginning of a longer one.
pub(crate) fn is_cut(column: &str) -> bool {
    column.len() > COLUMN_BYTES_MAX - '…'.len_utf8() && column.ends_with('…')
}

/// Some loggers write fractions; anything below one millisecond counts as one, as in the reference database.
pub(crate) fn milliseconds(text: &str) -> Option<i64> {
    let value: f64 = text.trim().parse().ok()?;
    // The cast saturates, and NaN and infinity are excluded.
    value.is_finite().then(|| (value as i64).max(1))
}

fn media_type(value: &str) -> String {
    let media_type = value.split(';').next().unwrap_or_default().trim();
    first_bytes(media_type).to_ascii_lowercase()
}

/// What the list shows of an annotation; nothing of most.
fn remark(name: &str, value: &str) -> Option<String> {
    match name {
        "vni" => Some(format!("VNI {value}")),
        "half" => Some(format!("half call: {value}")),
        "incomplete" => Some("incomplete".into()),
        "missing_bytes" => Some(format!("{value} B missing")),
        "fields_left_out" => Some(format!("{value} fields left out")),
        "request_body_bytes" => Some(format!("request cut, was {value} B")),
        "response_body_bytes" => Some(format!("response cut, was {value} B")),
        _ => None,
    }
}

fn note(note: &mut String, name: &str, value: &str) {
    if let Some(remark) = remark(name, value) {
        remark_on(note, &remark);
    }
}

fn remark_on(note: &mut String, remark: &str) {
    let free = NOTE_CHARS_MAX.saturating_sub(note.chars().count());
    let separator = if note.is_empty() { "" } else { ", " };
    note.extend(separator.chars().chain(remark.chars()).take(free));
}

/// Authority without user info, and everything from the path on.
pub(crate) fn split_url(url: &str) -> (&str, &str) {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let at = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(at);
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    (host, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, expected: Columns) {
        assert_eq!(Columns::read(line).expect("a line"), expected);
    }

    #[track_caller]
    fn check_refused(line: &str) {
        assert!(Columns::read(line).is_err(), "{line} is read as a line");
    }

    #[test]
    fn fills_every_column() {
        check(
            r#"[["request_method","POST"],["request_url","http://u:p@shop.example:8000/v1/pay"],["response_code","201"],
            ["request_body","{\"a\":1}"],["request_header:host","other"],["response_header:content-type","Application/JSON; charset=utf-8"],
            ["response_body","é"],["now","1700000000123"],["interval","12.9"],["custom_field:vni","7"],["custom_field:client_port","9"],["custom_field:missing_bytes","12"],["host","logger"]]"#,
            Columns {
                now_ms: Some(1_700_000_000_123),
                interval_ms: Some(12),
                method: "POST".into(),
                url: "http://u:p@shop.example:8000/v1/pay".into(),
                host: "shop.example:8000".into(),
                path: "/v1/pay".into(),
                status: Some(201),
                request_bytes: Some(7),
                response_bytes: Some(2),
                content_type: "application/json".into(),
                note: "VNI 7, 12 B missing".into(),
                vni: Some(7),
                client_port: Some(9),
                appliance: "logger".into(),
                facts: vec![("missing_bytes".into(), "12".into())],
                ..Columns::default()
            },
        );
    }

    #[test]
    fn the_first_of_a_repeated_name_counts_and_the_host_header_replaces_a_missing_host() {
        check(
            r#"[["request_method","GET"],["request_method","PUT"],["request_url","http:///p?q"],["request_header:host","h"]]"#,
            Columns {
                method: "GET".into(),
                url: "http:///p?q".into(),
                host: "h".into(),
                path: "/p?q".into(),
                ..Columns::default()
            },
        );
    }

    #[test]
    fn members_that_are_no_pair_are_skipped() {
        check(
            r#"[[],["a"],["a","b","c"],[1,{"x":[2]}],[["n"],null],["now",1700000000000],["interval","0.2"]]"#,
            Columns {
                now_ms: Some(1_700_000_000_000),
                interval_ms: Some(1),
                ..Columns::default()
            },
        );
    }

    #[test]
    fn a_line_without_a_pair_or_with_too_many_members_is_refused() {
        for line in ["[]", "[[]]", r#"[["a"],["a","b","c"],[["n"],null]]"#] {
            assert_eq!(Columns::read(line), Err(NotALine::Empty), "{line}");
            assert_eq!(super::check(line), Err(NotALine::Empty), "{line}");
        }
        let most = |member: &str, count: usize| {
            let members = vec![member; count].join(",");
            super::check(&format!("[{members}]"))
        };
        assert_eq!(most(r#"["a","b"]"#, LINE_DETAILS_MAX), Ok(()));
        for member in [r#"["a","b"]"#, "[]"] {
            let refused = most(member, LINE_DETAILS_MAX + 1);
            assert_eq!(refused, Err(NotALine::TooManyDetails), "{member}");
        }
    }

    #[test]
    fn a_long_text_is_cut_and_marked() {
        let url = format!("http://h/{}", "é".repeat(COLUMN_BYTES_MAX));
        let line = serde_json::json!([["request_url", url], ["request_method", "x".repeat(9999)]]);
        let columns = Columns::read(&line.to_string()).expect("a line");
        for (column, text) in [(&columns.url, "http://h/é"), (&columns.path, "/é")] {
            assert!(
                column.starts_with(text) && column.ends_with("é…"),
                "{column}"
            );
        }
        for column in [&columns.url, &columns.path, &columns.method] {
            let bytes = COLUMN_BYTES_MAX + '…'.len_utf8();
            assert!((bytes - 1..=bytes).contains(&column.len()), "{column}");
        }
        assert_eq!(columns.host, "h");
    }

    #[test]
    fn columns_of_malformed_numbers_stay_empty() {
        check(
            r#"[["response_code","abc"],["now","soon"],["interval","NaN"]]"#,
            Columns::default(),
        );
    }

    #[test]
    fn texts_that_are_no_line_are_refused() {
        for line in [
            "",
            "{}",
            "1",
            "null",
            "[1]",
            "[[\"a\",\"b\"]",
            "[[\"a\",\"b\"]] x",
            "[{\"a\":1}]",
            "[\"a\"]",
        ] {
            check_refused(line);
        }
        check_refused(&"[".repeat(100_000));
    }
}
