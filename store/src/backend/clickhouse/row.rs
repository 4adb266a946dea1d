//! A call as a row of the table: one list of columns for the schema, for inserting and for the comparison with what a server has.
//!
//! Numbers that a call may lack are kept with -1 for none, and one that is below 0 is kept one lower: no column is `Nullable`,
//! which would cost a file each. Of the URL the table has what stands before the path.

use bytes::Bytes;

use super::binary::{Malformed, Reader, put_length, put_text};
use crate::call::{Call, CallId, Measures, Summary};
use crate::histogram::slot;
use crate::line::{self, Columns};

/// What is compressed how where the server can choose.
const SORTED: &str = "Delta(8), ZSTD(1)";
const PLAIN: &str = "ZSTD(1)";
/// The lines are nearly all of a table: a thirteenth less of them for some microseconds a call. Higher levels cost several times
/// that and save less (`docs/scale-out.md`).
const LINES: &str = "ZSTD(3)";

/// A column of the table of calls.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) kind: &'static str,
    pub(super) codec: &'static str,
}

const fn column(name: &'static str, kind: &'static str, codec: &'static str) -> Column {
    Column { name, kind, codec }
}

/// A text that few calls have each of.
pub(super) const FEW: &str = "LowCardinality(String)";

/// All columns in the order in which they are sent.
pub(super) const COLUMNS: [Column; 39] = [
    column("time", "Int64", SORTED),
    column("bundle", "UInt64", PLAIN),
    column("line_no", "UInt32", PLAIN),
    column("received", "Int64", SORTED),
    column("now_ms", "Int64", SORTED),
    column("took", "Int64", PLAIN),
    column("first_byte", "Int64", PLAIN),
    column("status", "Int64", PLAIN),
    column("request_bytes", "Int64", PLAIN),
    column("response_bytes", "Int64", PLAIN),
    column("vni", "Int64", PLAIN),
    column("client_port", "Int64", PLAIN),
    column("server_port", "Int64", PLAIN),
    column("marks", "UInt8", PLAIN),
    column("method", FEW, PLAIN),
    column("host", FEW, PLAIN),
    column("path", "String", PLAIN),
    column("origin", FEW, PLAIN),
    column("endpoint", FEW, PLAIN),
    column("operation", FEW, PLAIN),
    column("operation_kind", FEW, PLAIN),
    column("content_type", FEW, PLAIN),
    column("protocol", FEW, PLAIN),
    column("client", "String", PLAIN),
    column("server", "String", PLAIN),
    column("appliance", FEW, PLAIN),
    column("sender", FEW, PLAIN),
    column("connection", "String", PLAIN),
    column("note", "String", PLAIN),
    column("fact_names", "Array(String)", PLAIN),
    column("fact_values", "Array(String)", PLAIN),
    column("line", "String", LINES),
    // For the statistics: where a number is in its histogram, -1 for none, and the first digit of the status.
    column("took_slot", "Int16", PLAIN),
    column("first_byte_slot", "Int16", PLAIN),
    column("size_slot", "Int16", PLAIN),
    column("class", "Int16", PLAIN),
    // For the sums: on the first line of a bundle.
    column("bundles", "UInt8", PLAIN),
    column("bad_lines", "UInt32", PLAIN),
    column("line_bytes", "UInt32", PLAIN),
];

/// Columns of a row of the list, but for annotations and line.
pub(super) const LISTED: usize = 29;

/// Not all annotations are in the columns.
pub(super) const MARK_FACTS_CUT: u8 = 1;
/// A rule or a bound has left something out.
const MARK_MASKED: u8 = 2;
/// A text of a column is the beginning of a longer one.
pub(super) const MARK_TEXT_CUT: u8 = 4;

/// What is added to the coverage for a row.
pub(super) const MASKED: &str = "bitAnd(marks, 2) != 0";

/// Which call: the same in every store and after every attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Identity {
    pub(super) time_ms: i64,
    pub(super) bundle: u64,
    pub(super) line_no: u32,
}

impl Identity {
    /// As an id, in base 36.
    pub(super) fn id(self) -> CallId {
        let numbers = [
            self.time_ms.unsigned_abs(),
            self.bundle,
            self.line_no.into(),
        ];
        let text = numbers.map(base36).join("-");
        // Its letters, digits and hyphens are those of ids.
        CallId::try_from(text).unwrap_or_else(|_| 0.into())
    }

    /// Reads what [`id`](Self::id) has written, and nothing else.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-').map(number36);
        let mut next = || parts.next().flatten();
        let identity = Self {
            time_ms: i64::try_from(next()?).ok()?,
            bundle: next()?,
            line_no: u32::try_from(next()?).ok()?,
        };
        parts.next().is_none().then_some(identity)
    }
}

/// A number in base 36, in lower case.
pub(super) fn base36(mut number: u64) -> String {
    let mut digits = Vec::new();
    loop {
        let digit = u32::try_from(number % 36).unwrap_or_default();
        digits.extend(char::from_digit(digit, 36));
        number /= 36;
        if number == 0 {
            return digits.into_iter().rev().collect();
        }
    }
}

/// What [`base36`] has written, and nothing else.
pub(super) fn number36(text: &str) -> Option<u64> {
    let number = u64::from_str_radix(text, 36).ok()?;
    (base36(number) == text).then_some(number)
}

/// A number that a call may lack, as the table has it.
pub(super) fn kept(number: Option<i64>) -> i64 {
    match number {
        None => -1,
        Some(number) if number < 0 => number.saturating_sub(1),
        Some(number) => number,
    }
}

/// What [`kept`] was given.
pub(super) fn taken(number: i64) -> Option<i64> {
    match number {
        -1 => None,
        number if number < 0 => Some(number + 1),
        number => Some(number),
    }
}

fn short(number: Option<i64>) -> i16 {
    number.map_or(-1, |number| i16::try_from(slot(number)).unwrap_or(-1))
}

/// Appends a call. `bad_lines` are those of its bundle, if it is the first of it.
pub(super) fn put(bytes: &mut Vec<u8>, at: Identity, call: &Columns, line: &str, bad_lines: u64) {
    let mut number = |number: i64| bytes.extend(number.to_le_bytes());
    number(at.time_ms);
    number(at.bundle as i64);
    bytes.extend(at.line_no.to_le_bytes());
    for number in [
        call.received_ms,
        kept(call.now_ms),
        kept(call.interval_ms),
        kept(call.first_byte_ms),
        kept(call.status),
        kept(call.request_bytes),
        kept(call.response_bytes),
        kept(call.vni),
        kept(call.client_port),
        kept(call.server_port),
    ] {
        bytes.extend(number.to_le_bytes());
    }
    let (_, path) = line::split_url(&call.url);
    let origin = call.url.strip_suffix(path).unwrap_or_default();
    let texts = [
        call.method.as_str(),
        &call.host,
        &call.path,
        origin,
        &call.endpoint,
        &call.operation,
        &call.operation_kind,
        &call.content_type,
        &call.protocol,
        &call.client,
        &call.server,
        &call.appliance,
        &call.sender,
        &call.connection,
        &call.note,
    ];
    let mut marks = 0;
    for (is_marked, mark) in [
        (call.are_facts_cut, MARK_FACTS_CUT),
        (call.is_masked(), MARK_MASKED),
        (
            texts.iter().any(|text| line::is_cut(text)) || line::is_cut(&call.url),
            MARK_TEXT_CUT,
        ),
    ] {
        marks |= if is_marked { mark } else { 0 };
    }
    bytes.push(marks);
    for text in texts {
        put_text(bytes, text);
    }
    put_length(bytes, call.facts.len());
    for (name, _) in &call.facts {
        put_text(bytes, name);
    }
    put_length(bytes, call.facts.len());
    for (_, value) in &call.facts {
        put_text(bytes, value);
    }
    put_text(bytes, line);
    for slot in [call.interval_ms, call.first_byte_ms, call.response_bytes] {
        bytes.extend(short(slot).to_le_bytes());
    }
    let class = call.status.map_or(0, Measures::class);
    bytes.extend(i16::try_from(class).unwrap_or_default().to_le_bytes());
    let is_first = at.line_no == 0;
    bytes.push(is_first.into());
    let bad_lines = if is_first { bad_lines } else { 0 };
    for number in [bad_lines, line.len() as u64] {
        bytes.extend(u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes());
    }
}

/// A row that was read.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) at: Identity,
    pub(super) columns: Columns,
    /// Empty where it was not requested.
    pub(super) line: String,
}

/// The names of the columns of a row that is read, with these expressions for the last ones.
pub(super) fn selected(with_facts: bool, line: &str) -> String {
    let listed = COLUMNS[..LISTED].iter().map(|column| column.name);
    let facts = if with_facts {
        ["fact_names", "fact_values"]
    } else {
        ["emptyArrayString()"; 2]
    };
    let names: Vec<_> = listed.chain(facts).chain([line]).collect();
    names.join(", ")
}

impl Row {
    /// Reads what [`selected`] names.
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let at = Identity {
            time_ms: reader.i64()?,
            bundle: reader.u64()?,
            line_no: reader.u32()?,
        };
        let mut columns = Columns {
            time_ms: at.time_ms,
            received_ms: reader.i64()?,
            ..Columns::default()
        };
        for number in [
            &mut columns.now_ms,
            &mut columns.interval_ms,
            &mut columns.first_byte_ms,
            &mut columns.status,
            &mut columns.request_bytes,
            &mut columns.response_bytes,
            &mut columns.vni,
            &mut columns.client_port,
            &mut columns.server_port,
        ] {
            *number = taken(reader.i64()?);
        }
        columns.are_facts_cut = reader.u8()? & MARK_FACTS_CUT != 0;
        let mut origin = String::new();
        for text in [
            &mut columns.method,
            &mut columns.host,
            &mut columns.path,
            &mut origin,
            &mut columns.endpoint,
            &mut columns.operation,
            &mut columns.operation_kind,
            &mut columns.content_type,
            &mut columns.protocol,
            &mut columns.client,
            &mut columns.server,
            &mut columns.appliance,
            &mut columns.sender,
            &mut columns.connection,
            &mut columns.note,
        ] {
            *text = reader.text()?;
        }
        columns.url = line::first_bytes(&(origin + &columns.path));
        let names = reader.texts()?;
        let values = reader.texts()?;
        if names.len() != values.len() {
            return Err(Malformed);
        }
        columns.facts = names.into_iter().zip(values).collect();
        Ok(Self {
            at,
            columns,
            line: reader.text()?,
        })
    }

    /// All rows of an answer.
    pub(super) fn read_all(answer: &Bytes) -> Result<Vec<Self>, Malformed> {
        let mut reader = Reader(answer);
        let mut rows = Vec::new();
        while reader.has_more() {
            rows.push(Self::read(&mut reader)?);
        }
        Ok(rows)
    }

    /// As a row of the list.
    pub(super) fn summary(self) -> Summary {
        Summary::of(self.at.id(), self.columns)
    }

    /// As a call, of which the line was read.
    pub(super) fn call(self) -> Call {
        let details = line::details(&self.line).unwrap_or_default();
        let details = details.into_iter();
        Call {
            details: details
                .map(|(name, value)| (name.into_owned(), value.into_owned()))
                .collect(),
            line: self.line,
            summary: Summary::of(self.at.id(), self.columns),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_they_are_written() {
        for identity in [
            Identity {
                time_ms: 0,
                bundle: 0,
                line_no: 0,
            },
            Identity {
                time_ms: 1_700_000_000_123,
                bundle: u64::MAX,
                line_no: 65_535,
            },
            Identity {
                time_ms: i64::MAX,
                bundle: 1,
                line_no: u32::MAX,
            },
        ] {
            assert_eq!(Identity::parse(identity.id().as_str()), Some(identity));
        }
        for text in [
            "no-such_id",
            "1",
            "1-2",
            "1-2-3-4",
            "-1",
            "_",
            "01-2-3",
            "A-2-3",
            "1--3",
            "+1-2-3",
        ] {
            assert_eq!(Identity::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_row_comes_back_as_it_was() {
        let long = "x".repeat(3000);
        for url in [
            "http://h.example/a?b=1",
            "/only/path",
            "",
            "h",
            &format!("http://h/{long}"),
            &format!("{long}/x"),
        ] {
            let line = format!(
                r#"[["request_method","GET"],["request_url","{url}"],["response_code","-5"],["interval","12"],["custom_field:a","1"],["custom_field:masked","2"]]"#
            );
            let mut columns = Columns::read(&line).expect("a line");
            columns.place_in_time(1_700_000_000_000, false);
            let at = Identity {
                time_ms: columns.time_ms,
                bundle: 7,
                line_no: 0,
            };
            let mut bytes = Vec::new();
            put(&mut bytes, at, &columns, &line, 3);
            let row = Row::read(&mut Reader(&bytes)).expect("a row");
            assert_eq!((row.at, row.columns, row.line), (at, columns, line));
        }
    }

    #[test]
    fn numbers_that_are_missing_are_kept_apart() {
        for number in [
            None,
            Some(0),
            Some(-1),
            Some(-2),
            Some(i64::MAX),
            Some(i64::MIN + 1),
        ] {
            assert_eq!(taken(kept(number)), number);
        }
    }
}
