//! Protobuf without a schema, as JSON text with field numbers for names.
//!
//! Source: the encoding of protobuf (its wire types) and `docs/grpc.md`. A message becomes an object whose keys
//! are field numbers in the order in which each first appears; a number that comes again makes its value a list. What the
//! encoding does not say cannot be known: a length-delimited value is a string if it is text, else a message if it reads as one
//! from end to end, else a string with U+FFFD; and a negative number is a large one.
//!
//! Bound: each level is scanned once before it is written, so the work is bytes times depth, and the depth is at most
//! [`PROTOBUF_DEPTH_MAX`]. The fields of the levels that are open take memory in proportion to the message. Text past a limit
//! is not written.

mod typed;
mod values;
mod well_known;
mod wire;

use super::text::is_text;
use crate::limits::PROTOBUF_DEPTH_MAX;
use crate::ndjson;
use wire::{Ended, Field, Wire, field, string, varint};

/// The largest number that all readers of JSON read exactly.
const EXACT_MAX: u64 = (1 << 53) - 1;

/// Writes messages; the memory for their fields is kept from one to the next.
#[derive(Debug, Default)]
pub struct JsonWriter {
    /// Of all levels that are open, the outermost first.
    fields: Vec<Field>,
}

impl JsonWriter {
    /// Appends a message as JSON text. No more is begun once `out` has `bytes_max` bytes. Of a message that `is_cut` only the
    /// beginning is there: what is complete in it is written.
    pub fn write(&mut self, message: &[u8], is_cut: bool, bytes_max: usize, out: &mut Vec<u8>) {
        self.fields.clear();
        self.value(message, is_cut, 0, bytes_max, out);
    }

    /// Bytes of memory that it keeps.
    pub fn memory(&self) -> usize {
        self.fields.capacity() * size_of::<Field>()
    }

    /// Frees the memory that one long message took.
    pub fn shrink_to(&mut self, bytes: usize) {
        self.fields.clear();
        self.fields.shrink_to(bytes / size_of::<Field>());
    }

    /// A message, or a string if it is none.
    fn value(
        &mut self,
        bytes: &[u8],
        is_cut: bool,
        depth: usize,
        bytes_max: usize,
        out: &mut Vec<u8>,
    ) {
        let start = self.fields.len();
        if depth < PROTOBUF_DEPTH_MAX && self.scan(bytes, is_cut) {
            self.level(bytes, start, depth, bytes_max, out);
        } else {
            string(bytes, false, bytes_max, out);
        }
        self.fields.truncate(start);
    }

    /// Finds the fields of one level; none are left if it is not a message.
    fn scan(&mut self, bytes: &[u8], is_cut: bool) -> bool {
        let start = self.fields.len();
        let is_message = self.scan_fields(bytes, is_cut).is_some();
        if !is_message {
            self.fields.truncate(start);
        }
        is_message
    }

    fn scan_fields(&mut self, bytes: &[u8], is_cut: bool) -> Option<()> {
        // No message has 4 GiB (the encoding itself ends at 2).
        let whole = u32::try_from(bytes.len()).ok()?;
        let start = self.fields.len();
        let mut rest = bytes;
        let mut is_sorted = true;
        let mut last = 0;
        while !rest.is_empty() {
            let field = match field(&mut rest, whole) {
                Ok(field) => field,
                Err(Ended::Within(beginning)) if is_cut => {
                    rest = &[];
                    match beginning {
                        Some(field) => field,
                        None => break,
                    }
                }
                Err(_) => return None,
            };
            is_sorted &= field.number >= last;
            last = field.number;
            self.fields.push(field);
        }
        if !is_sorted {
            self.group(start);
        }
        Some(())
    }

    /// Brings together fields with the same number, in the order of their first ones. Encoders write fields in the order of
    /// their numbers, so they usually are.
    #[cold]
    fn group(&mut self, start: usize) {
        let fields = self.fields.get_mut(start..).unwrap_or_default();
        fields.sort_unstable_by_key(|field| (field.number, field.start));
        let (mut number, mut first) = (0, 0);
        for field in &mut *fields {
            if field.number != number {
                (number, first) = (field.number, field.start);
            }
            field.first = first;
        }
        fields.sort_unstable_by_key(|field| (field.first, field.start));
    }

    /// Writes one level, whose fields are those from `start` on.
    fn level(
        &mut self,
        bytes: &[u8],
        start: usize,
        depth: usize,
        bytes_max: usize,
        out: &mut Vec<u8>,
    ) {
        let end = self.fields.len();
        out.push(b'{');
        // Field 0 is none.
        let mut number = 0;
        let mut is_list = false;
        for at in start..end {
            let Some(&field) = self.fields.get(at) else {
                break;
            };
            if out.len() >= bytes_max {
                break;
            }
            if field.number == number {
                out.push(b',');
            } else {
                if is_list {
                    out.push(b']');
                }
                out.extend_from_slice(if number == 0 { b"\"" } else { b",\"" });
                number = field.number;
                ndjson::decimal(number.into(), out);
                out.extend_from_slice(b"\":");
                let next = self.fields.get(at + 1).filter(|_| at + 1 < end);
                is_list = next.is_some_and(|next| next.number == number);
                if is_list {
                    out.push(b'[');
                }
            }
            self.untyped(field, bytes, depth, bytes_max, out);
        }
        if is_list {
            out.push(b']');
        }
        out.push(b'}');
    }

    /// Writes one value of a level.
    fn untyped(
        &mut self,
        field: Field,
        level: &[u8],
        depth: usize,
        bytes_max: usize,
        out: &mut Vec<u8>,
    ) {
        let value = field.of(level);
        match field.wire {
            Wire::Varint => varint_text(value, out),
            Wire::Fixed64 | Wire::Fixed32 => hex(value, out),
            Wire::Delimited if is_text(value, false) => string(value, true, bytes_max, out),
            Wire::Beginning if is_text(value, true) => string(value, false, bytes_max, out),
            Wire::Delimited | Wire::Beginning => {
                let is_cut = field.wire == Wire::Beginning;
                self.value(value, is_cut, depth + 1, bytes_max, out);
            }
        }
    }
}

fn varint_text(mut value: &[u8], out: &mut Vec<u8>) {
    let number = varint(&mut value).unwrap_or_default();
    if number <= EXACT_MAX {
        ndjson::decimal(number, out);
    } else {
        out.push(b'"');
        ndjson::decimal(number, out);
        out.push(b'"');
    }
}

/// The hexadecimal text of a number that is sent with its lowest octet first.
fn hex(value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"\"0x");
    for octet in value.iter().rev() {
        out.extend_from_slice(&[hex_digit(octet >> 4), hex_digit(octet & 15)]);
    }
    out.push(b'"');
}

fn hex_digit(number: u8) -> u8 {
    if number < 10 {
        b'0' + number
    } else {
        b'a' + number - 10
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::rules::tests::vectors;

    fn text(message: &[u8], is_cut: bool, bytes_max: usize) -> String {
        let mut out = Vec::new();
        JsonWriter::default().write(message, is_cut, bytes_max, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[track_caller]
    fn check(message: &[u8], expected: &str) {
        assert_eq!(text(message, false, usize::MAX), expected);
    }

    #[test]
    fn vectors_of_the_contract() {
        for vector in vectors("protobuf-vectors.json") {
            let hex = vector["message"].as_str().unwrap();
            let octet = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
            let message: Vec<u8> = (0..hex.len()).step_by(2).map(octet).collect();
            check(&message, vector["text"].as_str().unwrap());
        }
    }

    /// A message in a message, so many times.
    fn nested(levels: usize) -> Vec<u8> {
        let mut message = vec![8, 1];
        for _ in 1..levels {
            let mut outer = vec![0x0a];
            let mut length = message.len();
            while length > 0x7f {
                outer.push(length as u8 | 0x80);
                length >>= 7;
            }
            outer.push(length as u8);
            outer.append(&mut message);
            message = outer;
        }
        message
    }

    #[test]
    fn nesting_is_bounded() {
        let deepest = text(&nested(PROTOBUF_DEPTH_MAX), false, usize::MAX);
        assert_eq!(deepest.matches('{').count(), PROTOBUF_DEPTH_MAX);
        let deeper = text(&nested(PROTOBUF_DEPTH_MAX + 1), false, usize::MAX);
        assert_eq!(deeper.matches('{').count(), PROTOBUF_DEPTH_MAX);
        assert!(deeper.contains(r#"{"1":"\u0008\u0001"}"#));
        let hostile = text(&nested(10_000), false, usize::MAX);
        assert_eq!(hostile.matches("{\"1\":").count(), PROTOBUF_DEPTH_MAX);
    }

    #[test]
    fn what_there_is_of_a_message_that_is_cut() {
        let message = b"\x0a\x03abc\x12\x06\x0a\x04wxyz\x18\x01\x0a\x02de";
        let whole = r#"{"1":["abc","de"],"2":{"1":"wxyz"},"3":1}"#;
        assert_eq!(text(message, false, usize::MAX), whole);
        for (bytes, expected) in [
            (0, "{}"),
            (1, "{}"),
            (3, r#"{"1":"a"}"#),
            (5, r#"{"1":"abc"}"#),
            (11, r#"{"1":"abc","2":{"1":"wx"}}"#),
            (13, r#"{"1":"abc","2":{"1":"wxyz"}}"#),
            (14, r#"{"1":"abc","2":{"1":"wxyz"}}"#),
            (19, whole),
        ] {
            assert_eq!(text(&message[..bytes], true, usize::MAX), expected);
        }
        assert_eq!(
            text(b"\x0a\x05\xc3", true, usize::MAX),
            "{\"1\":\"\u{fffd}\"}"
        );
        assert_eq!(text(b"\x07", true, usize::MAX), r#""\u0007""#);
    }

    #[test]
    fn text_past_the_limit_is_not_written() {
        let message = [8, 1].repeat(10_000);
        let out = text(&message, false, 1000);
        assert!((1000..1010).contains(&out.len()), "{}", out.len());
        let out = text(&[0xff; 10_000], false, 1000);
        assert!((1000..1020).contains(&out.len()), "{}", out.len());
    }

    #[test]
    fn many_numbers_in_any_order() {
        let mut message = Vec::new();
        for number in (1..=15).rev().chain(1..=15) {
            message.extend([number << 3, number]);
        }
        let text = text(&message, false, usize::MAX);
        let value: Value = serde_json::from_str(&text).unwrap();
        assert!(text.starts_with(r#"{"15":[15,15],"14":[14,14],"#));
        assert_eq!(value.as_object().unwrap().len(), 15);
    }
}
