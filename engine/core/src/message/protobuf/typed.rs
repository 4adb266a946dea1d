//! Protobuf with a schema, as canonical JSON: names for numbers, types for wire types.
//!
//! Source: the JSON mapping of protobuf. Fields that the schema does not have, or that are sent in another wire type, keep
//! their number for a name, so nothing that was sent is missing. Fields without a value on the wire are left out. Of a field
//! that comes twice and is no list the last value counts, and messages are merged; of equal keys of a map each is written.
//!
//! Bound: as without a schema.

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};

use super::values::{Out, base64, default, packed, wire_of};
use super::wire::{Field, Wire};
use super::{JsonWriter, well_known};
use crate::limits::PROTOBUF_DEPTH_MAX;
use crate::ndjson;

impl JsonWriter {
    /// As [`Self::write`], for a message of this type.
    pub fn write_typed(
        &mut self,
        kind: &MessageDescriptor,
        message: &[u8],
        is_cut: bool,
        bytes_max: usize,
        text: &mut Vec<u8>,
    ) {
        self.fields.clear();
        let mut out = Out { text, bytes_max };
        self.message(kind, message, is_cut, 0, &mut out);
    }

    /// A message of this type, or a string if the bytes are none.
    pub(super) fn message(
        &mut self,
        kind: &MessageDescriptor,
        bytes: &[u8],
        is_cut: bool,
        depth: usize,
        out: &mut Out<'_>,
    ) {
        let start = self.fields.len();
        if depth >= PROTOBUF_DEPTH_MAX || !self.scan(bytes, is_cut) {
            out.string(bytes);
        } else if !well_known::write(self, kind, bytes, start, depth, out) {
            out.push(b"{");
            self.members(kind, bytes, start, depth, true, out);
            out.push(b"}");
        }
        self.fields.truncate(start);
    }

    /// The members of the level whose fields are those from `start` on.
    pub(super) fn members(
        &mut self,
        kind: &MessageDescriptor,
        bytes: &[u8],
        start: usize,
        depth: usize,
        mut is_first: bool,
        out: &mut Out<'_>,
    ) {
        let end = self.fields.len();
        let mut at = start;
        while let Some(first) = self.fields.get(at).copied().filter(|_| at < end) {
            if out.is_full() {
                break;
            }
            let same = self.fields.get(at..end).unwrap_or_default().iter();
            let count = same
                .take_while(|field| field.number == first.number)
                .count();
            if !std::mem::take(&mut is_first) {
                out.push(b",");
            }
            let known = kind.get_field(first.number);
            match known.filter(|known| self.fits(known, at, count)) {
                Some(known) => {
                    out.string(known.json_name().as_bytes());
                    out.push(b":");
                    self.member(&known, bytes, at, count, depth, out);
                }
                None => self.unknown(bytes, at, count, depth, out),
            }
            at += count;
        }
    }

    /// Whether all fields with one number have a wire type that the schema allows.
    fn fits(&self, known: &FieldDescriptor, at: usize, count: usize) -> bool {
        let wire = wire_of(&known.kind());
        let fields = self.fields.get(at..at + count).unwrap_or_default();
        !known.is_group()
            && fields.iter().all(|field| match field.wire {
                Wire::Delimited | Wire::Beginning => {
                    wire == Wire::Delimited || (known.is_list() && wire != Wire::Delimited)
                }
                sent => sent == wire,
            })
    }

    fn unknown(&mut self, bytes: &[u8], at: usize, count: usize, depth: usize, out: &mut Out<'_>) {
        let number = self.fields.get(at).map_or(0, |field| field.number);
        out.push(b"\"");
        ndjson::decimal(number.into(), out.text);
        out.push(if count > 1 { b"\":[" } else { b"\":" });
        for index in at..at + count {
            if index > at {
                out.push(b",");
            }
            if let Some(field) = self.fields.get(index).copied() {
                self.untyped(field, bytes, depth, out.bytes_max, out.text);
            }
        }
        if count > 1 {
            out.push(b"]");
        }
    }

    pub(super) fn member(
        &mut self,
        known: &FieldDescriptor,
        bytes: &[u8],
        at: usize,
        count: usize,
        depth: usize,
        out: &mut Out<'_>,
    ) {
        let kind = known.kind();
        if let (true, Kind::Message(entry)) = (known.is_map(), &kind) {
            return self.map(entry, bytes, at, count, depth, out);
        }
        if known.is_list() {
            out.push(b"[");
            let mut is_first = true;
            for index in at..at + count {
                let Some(field) = self.fields.get(index).copied().filter(|_| !out.is_full()) else {
                    break;
                };
                let mut rest = field.of(bytes);
                let is_packed = field.is_delimited() && wire_of(&kind) != Wire::Delimited;
                while !is_packed || !rest.is_empty() {
                    if !std::mem::take(&mut is_first) {
                        out.push(b",");
                    }
                    if !is_packed {
                        self.scalar(&kind, field, rest, depth, out);
                        break;
                    }
                    if !packed(&kind, &mut rest, out) {
                        out.push(b"null");
                        break;
                    }
                }
            }
            return out.push(b"]");
        }
        if let (Kind::Message(inner), 2..) = (&kind, count) {
            // Messages that are sent in parts are those whose bytes are joined.
            let fields = self.fields.get(at..at + count).unwrap_or_default();
            let joined: Vec<u8> = fields
                .iter()
                .flat_map(|field| field.of(bytes).to_vec())
                .collect();
            return self.message(inner, &joined, true, depth + 1, out);
        }
        if let Some(last) = self.fields.get(at + count - 1).copied() {
            self.scalar(&kind, last, last.of(bytes), depth, out);
        }
    }

    fn map(
        &mut self,
        entry: &MessageDescriptor,
        bytes: &[u8],
        at: usize,
        count: usize,
        depth: usize,
        out: &mut Out<'_>,
    ) {
        let (key_kind, value_kind) = (
            entry.map_entry_key_field().kind(),
            entry.map_entry_value_field().kind(),
        );
        out.push(b"{");
        for index in at..at + count {
            let Some(field) = self.fields.get(index).copied().filter(|_| !out.is_full()) else {
                break;
            };
            if index > at {
                out.push(b",");
            }
            let inside = field.of(bytes);
            let start = self.fields.len();
            self.scan(inside, field.wire == Wire::Beginning);
            let key = self.last(start, 1, &key_kind);
            let value = self.last(start, 2, &value_kind);
            match key {
                Some(key) if wire_of(&key_kind) == Wire::Delimited => out.string(key.of(inside)),
                key => {
                    // Numbers are strings where they are keys; those of 64 bits are strings anyway.
                    let before = out.text.len();
                    match key {
                        Some(key) => self.scalar(&key_kind, key, key.of(inside), depth, out),
                        None => default(&key_kind, out),
                    }
                    if out.text.get(before) != Some(&b'"') {
                        out.text.insert(before, b'"');
                        out.push(b"\"");
                    }
                }
            }
            out.push(b":");
            match value {
                Some(value) => self.scalar(&value_kind, value, value.of(inside), depth, out),
                None => default(&value_kind, out),
            }
            self.fields.truncate(start);
        }
        out.push(b"}");
    }

    /// The last field with this number in the level from `start` on.
    pub(super) fn last(&self, start: usize, number: u32, kind: &Kind) -> Option<Field> {
        let level = self.fields.get(start..).unwrap_or_default();
        let is = |field: &&Field| {
            let wire = if field.is_delimited() {
                Wire::Delimited
            } else {
                field.wire
            };
            field.number == number && wire == wire_of(kind)
        };
        level.iter().rfind(is).copied()
    }

    /// One value.
    pub(super) fn scalar(
        &mut self,
        kind: &Kind,
        field: Field,
        mut value: &[u8],
        depth: usize,
        out: &mut Out<'_>,
    ) {
        match kind {
            Kind::Message(inner) => {
                let is_cut = field.wire == Wire::Beginning;
                self.message(inner, value, is_cut, depth + 1, out);
            }
            Kind::String => out.string(value),
            Kind::Bytes => base64(value, out),
            _ => {
                packed(kind, &mut value, out);
            }
        }
    }
}
