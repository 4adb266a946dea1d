//! Single values of protobuf with a type, as canonical JSON.

use prost_reflect::{EnumDescriptor, Kind};

use super::wire::{Ended, Wire, string, varint};

/// Where text goes, and up to how many bytes of it.
pub(super) struct Out<'a> {
    pub(super) text: &'a mut Vec<u8>,
    pub(super) bytes_max: usize,
}

impl Out<'_> {
    pub(super) fn is_full(&self) -> bool {
        self.text.len() >= self.bytes_max
    }

    pub(super) fn push(&mut self, text: &[u8]) {
        self.text.extend_from_slice(text);
    }

    pub(super) fn string(&mut self, value: &[u8]) {
        string(value, false, self.bytes_max, self.text);
    }
}

/// How a value of this type is sent alone.
pub(super) fn wire_of(kind: &Kind) -> Wire {
    match kind {
        Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => Wire::Fixed64,
        Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => Wire::Fixed32,
        Kind::String | Kind::Bytes | Kind::Message(_) => Wire::Delimited,
        Kind::Int32
        | Kind::Int64
        | Kind::Uint32
        | Kind::Uint64
        | Kind::Sint32
        | Kind::Sint64
        | Kind::Bool
        | Kind::Enum(_) => Wire::Varint,
    }
}

/// Writes the number that `rest` begins with; whether there was one.
pub(super) fn packed(kind: &Kind, rest: &mut &[u8], out: &mut Out<'_>) -> bool {
    let number = match wire_of(kind) {
        Wire::Varint => varint(rest),
        Wire::Fixed64 => match rest.split_first_chunk() {
            Some((octets, behind)) => {
                *rest = behind;
                Ok(u64::from_le_bytes(*octets))
            }
            None => Err(Ended::Broken),
        },
        _ => match rest.split_first_chunk() {
            Some((octets, behind)) => {
                *rest = behind;
                Ok(u32::from_le_bytes(*octets).into())
            }
            None => Err(Ended::Broken),
        },
    };
    let Ok(number) = number else {
        return false;
    };
    let low = number as u32;
    let text = match kind {
        Kind::Double => float(
            f64::from_bits(number),
            &format!("{:?}", f64::from_bits(number)),
        ),
        Kind::Float => {
            let value = f32::from_bits(low);
            float(value.into(), &format!("{value:?}"))
        }
        Kind::Int32 | Kind::Sfixed32 => (low as i32).to_string(),
        Kind::Uint32 | Kind::Fixed32 => low.to_string(),
        Kind::Sint32 => ((low >> 1) as i32 ^ -((low & 1) as i32)).to_string(),
        Kind::Int64 | Kind::Sfixed64 => format!("\"{}\"", number as i64),
        Kind::Sint64 => format!("\"{}\"", (number >> 1) as i64 ^ -((number & 1) as i64)),
        Kind::Bool => (number != 0).to_string(),
        Kind::Enum(kind) => return enumeration(kind, low as i32, out),
        _ => format!("\"{number}\""),
    };
    out.push(text.as_bytes());
    true
}

fn enumeration(kind: &EnumDescriptor, number: i32, out: &mut Out<'_>) -> bool {
    if kind.full_name() == "google.protobuf.NullValue" {
        out.push(b"null");
        return true;
    }
    match kind.get_value(number) {
        Some(value) => out.string(value.name().as_bytes()),
        None => out.push(number.to_string().as_bytes()),
    }
    true
}

/// JSON has no word for what is no number.
fn float(value: f64, text: &str) -> String {
    if value.is_nan() {
        "\"NaN\"".to_owned()
    } else if value.is_infinite() {
        let sign = if value < 0.0 { "-" } else { "" };
        format!("\"{sign}Infinity\"")
    } else {
        text.to_owned()
    }
}

/// The value of a field that was not sent.
pub(super) fn default(kind: &Kind, out: &mut Out<'_>) {
    match kind {
        Kind::Message(_) => out.push(b"{}"),
        Kind::String | Kind::Bytes => out.push(b"\"\""),
        kind => {
            packed(kind, &mut &[0; 8][..], out);
        }
    }
}

pub(super) fn base64(value: &[u8], out: &mut Out<'_>) {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    // What is left out here would be past the limit.
    let room = out
        .bytes_max
        .saturating_add(12)
        .saturating_sub(out.text.len());
    let value = value.get(..room).unwrap_or(value);
    out.push(b"\"");
    for group in value.chunks(3) {
        let octet = |at: usize| u32::from(group.get(at).copied().unwrap_or_default());
        let bits = octet(0) << 16 | octet(1) << 8 | octet(2);
        for at in 0..4 {
            let letter = LETTERS.get((bits >> (18 - 6 * at) & 63) as usize);
            let letter = letter.filter(|_| at as usize <= group.len());
            out.text.push(letter.copied().unwrap_or(b'='));
        }
    }
    out.push(b"\"");
}
