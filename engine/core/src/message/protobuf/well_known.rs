//! The types of `google.protobuf` that have a form of their own in canonical JSON.

use prost_reflect::{Kind, MessageDescriptor};

use super::JsonWriter;
use super::values::{Out, base64, default};
use super::wire::{Field, varint};

/// Writes the level whose fields are those from `start` on, if its type is one of them; whether it is.
pub(super) fn write(
    writer: &mut JsonWriter,
    kind: &MessageDescriptor,
    bytes: &[u8],
    start: usize,
    depth: usize,
    out: &mut Out<'_>,
) -> bool {
    let Some(name) = kind.full_name().strip_prefix("google.protobuf.") else {
        return false;
    };
    match name {
        "Timestamp" | "Duration" => {
            let seconds = number(writer, bytes, start, 1) as i64;
            let nanos = number(writer, bytes, start, 2) as i32;
            let text = if name == "Timestamp" {
                timestamp(seconds, nanos)
            } else {
                duration(seconds, nanos)
            };
            let Some(text) = text else {
                return false;
            };
            out.string(text.as_bytes());
        }
        "FieldMask" => {
            let fields = level(writer, start)
                .iter()
                .filter(|field| field.number == 1);
            let paths = fields.map(|field| camel(field.of(bytes)));
            let paths: Vec<_> = paths.collect();
            out.string(paths.join(",").as_bytes());
        }
        "Struct" => {
            let Some(fields) = kind.get_field(1) else {
                return false;
            };
            let (at, count) = place(writer, start, 1);
            writer.member(&fields, bytes, at, count, depth, out);
        }
        "ListValue" => {
            let Some(values) = kind.get_field(1) else {
                return false;
            };
            let (at, count) = place(writer, start, 1);
            writer.member(&values, bytes, at, count, depth, out);
        }
        "Value" => {
            let last = level(writer, start).iter().max_by_key(|field| field.start);
            let Some(last) = last.copied() else {
                out.push(b"null");
                return true;
            };
            match kind.get_field(last.number) {
                Some(known) if writer.last(start, last.number, &known.kind()).is_some() => {
                    writer.scalar(&known.kind(), last, last.of(bytes), depth, out);
                }
                _ => return false,
            }
        }
        "Any" => return any(writer, kind, bytes, start, depth, out),
        _ if name.ends_with("Value") => {
            let Some(known) = kind.get_field(1) else {
                return false;
            };
            match writer.last(start, 1, &known.kind()) {
                Some(value) => writer.scalar(&known.kind(), value, value.of(bytes), depth, out),
                None => default(&known.kind(), out),
            }
        }
        _ => return false,
    }
    true
}

/// A message of another type, with the name of its type.
fn any(
    writer: &mut JsonWriter,
    kind: &MessageDescriptor,
    bytes: &[u8],
    start: usize,
    depth: usize,
    out: &mut Out<'_>,
) -> bool {
    let Some(url) = writer.last(start, 1, &Kind::String) else {
        return false;
    };
    let value = writer.last(start, 2, &Kind::Bytes);
    let value = value.map(|value| value.of(bytes)).unwrap_or_default();
    let url = url.of(bytes);
    out.push(b"{\"@type\":");
    out.string(url);
    let name = url.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let inner = str::from_utf8(name).ok();
    let inner = inner.and_then(|name| kind.parent_pool().get_message_by_name(name));
    let Some(inner) = inner else {
        out.push(b",\"value\":");
        base64(value, out);
        out.push(b"}");
        return true;
    };
    let is_plain = !inner.full_name().starts_with("google.protobuf.");
    let inside = writer.fields.len();
    if is_plain && writer.scan(value, false) {
        writer.members(&inner, value, inside, depth + 1, false, out);
        writer.fields.truncate(inside);
    } else {
        out.push(b",\"value\":");
        writer.message(&inner, value, false, depth + 1, out);
    }
    out.push(b"}");
    true
}

/// The fields from `start` on.
fn level(writer: &JsonWriter, start: usize) -> &[Field] {
    writer.fields.get(start..).unwrap_or_default()
}

/// Where the fields with this number begin, and how many they are.
fn place(writer: &JsonWriter, start: usize, number: u32) -> (usize, usize) {
    let level = level(writer, start);
    let is = |field: &&Field| field.number == number;
    let first = level
        .iter()
        .position(|field| is(&field))
        .unwrap_or_default();
    (start + first, level.iter().filter(is).count())
}

fn number(writer: &JsonWriter, bytes: &[u8], start: usize, number: u32) -> u64 {
    let field = writer.last(start, number, &Kind::Int64);
    let value = field.map(|field| field.of(bytes)).unwrap_or_default();
    varint(&mut { value }).unwrap_or_default()
}

/// RFC 3339, in UTC.
fn timestamp(seconds: i64, nanos: i32) -> Option<String> {
    const FIRST: i64 = -62_135_596_800;
    const LAST: i64 = 253_402_300_799;
    if !(FIRST..=LAST).contains(&seconds) || !(0..1_000_000_000).contains(&nanos) {
        return None;
    }
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days since 0000-03-01, by eras of 400 years.
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + i64::from(month <= 2);
    let (hour, minute) = (second / 3_600, second / 60 % 60);
    Some(format!(
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}{}Z",
        second % 60,
        fraction(nanos.unsigned_abs())
    ))
}

fn duration(seconds: i64, nanos: i32) -> Option<String> {
    let fits = nanos.unsigned_abs() < 1_000_000_000
        && seconds.unsigned_abs() <= 315_576_000_000
        && (seconds == 0 || nanos == 0 || (seconds < 0) == (nanos < 0));
    let sign = if seconds < 0 || nanos < 0 { "-" } else { "" };
    let fraction = fraction(nanos.unsigned_abs());
    fits.then(|| format!("{sign}{}{fraction}s", seconds.unsigned_abs()))
}

/// None, three, six or nine digits.
fn fraction(nanos: u32) -> String {
    if nanos == 0 {
        String::new()
    } else if nanos.is_multiple_of(1_000_000) {
        format!(".{:03}", nanos / 1_000_000)
    } else if nanos.is_multiple_of(1_000) {
        format!(".{:06}", nanos / 1_000)
    } else {
        format!(".{nanos:09}")
    }
}

/// A path whose names are written as in JSON.
fn camel(path: &[u8]) -> String {
    let path = String::from_utf8_lossy(path);
    let mut out = String::with_capacity(path.len());
    let mut is_upper = false;
    for letter in path.chars() {
        if letter == '_' {
            is_upper = true;
        } else if std::mem::take(&mut is_upper) {
            out.push(letter.to_ascii_uppercase());
        } else {
            out.push(letter);
        }
    }
    out
}
