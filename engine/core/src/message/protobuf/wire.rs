//! The fields of a message of protobuf as they are encoded.

use crate::ndjson;

/// One field of a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    pub(super) number: u32,
    /// Where in its level a field with this number first appears.
    pub(super) first: u32,
    /// Its value in its level: a length-delimited one without its length.
    pub(super) start: u32,
    pub(super) end: u32,
    pub(super) wire: Wire,
}

/// How a value is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    Varint,
    Fixed64,
    Delimited,
    /// A delimited value of which only the beginning is there.
    Beginning,
    Fixed32,
}

/// Writes a string, as much of it as fits.
pub(super) fn string(value: &[u8], is_utf8: bool, bytes_max: usize, out: &mut Vec<u8>) {
    // A few bytes more show that there is more.
    let room = bytes_max
        .saturating_add(2 * ndjson::GROWTH_MAX)
        .saturating_sub(out.len());
    ndjson::enclose_within(b"\"", (value, is_utf8), b"\"", room, out);
}

/// Why there is no whole field.
pub(super) enum Ended {
    /// What there is breaks the encoding.
    Broken,
    /// The bytes end within it; of a delimited value some may be there.
    Within(Option<Field>),
}

/// Takes the next field from a level of `whole` bytes.
pub(super) fn field(rest: &mut &[u8], whole: u32) -> Result<Field, Ended> {
    let at = |rest: &[u8]| whole - rest.len() as u32;
    let first = at(rest);
    let tag = u32::try_from(varint(rest)?).map_err(|_| Ended::Broken)?;
    let number = tag >> 3;
    if number == 0 {
        return Err(Ended::Broken);
    }
    let mut start = at(rest);
    let wire = match tag & 7 {
        0 => {
            varint(rest)?;
            Wire::Varint
        }
        1 => {
            *rest = rest.get(8..).ok_or(Ended::Within(None))?;
            Wire::Fixed64
        }
        2 => {
            let length = varint(rest)?;
            start = at(rest);
            let inside = usize::try_from(length).ok().and_then(|len| rest.get(len..));
            *rest = inside.ok_or(Ended::Within(Some(Field {
                number,
                first,
                start,
                end: whole,
                wire: Wire::Beginning,
            })))?;
            Wire::Delimited
        }
        5 => {
            *rest = rest.get(4..).ok_or(Ended::Within(None))?;
            Wire::Fixed32
        }
        // Groups are read by no encoder since 2008; 6 and 7 are no wire types.
        _ => return Err(Ended::Broken),
    };
    Ok(Field {
        number,
        first,
        start,
        end: at(rest),
        wire,
    })
}

/// Takes a number of at most ten octets and 64 bits.
pub(super) fn varint(rest: &mut &[u8]) -> Result<u64, Ended> {
    let mut number = 0;
    for (index, octet) in rest.iter().take(VARINT_BYTES_MAX).enumerate() {
        let bits = u64::from(octet & 0x7f);
        if index == VARINT_BYTES_MAX - 1 && bits > 1 {
            return Err(Ended::Broken);
        }
        number |= bits << (7 * index);
        if octet & 0x80 == 0 {
            *rest = rest.get(index + 1..).unwrap_or_default();
            return Ok(number);
        }
    }
    Err(if rest.len() < VARINT_BYTES_MAX {
        Ended::Within(None)
    } else {
        Ended::Broken
    })
}

/// Octets of the longest number.
const VARINT_BYTES_MAX: usize = 10;

impl Field {
    /// Its value in its level.
    pub(super) fn of(self, level: &[u8]) -> &[u8] {
        level
            .get(self.start as usize..self.end as usize)
            .unwrap_or_default()
    }

    pub(super) fn is_delimited(self) -> bool {
        matches!(self.wire, Wire::Delimited | Wire::Beginning)
    }
}
