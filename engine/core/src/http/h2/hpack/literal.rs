//! Representations of fields (RFC 7541 §6), located in the bytes of a block: where each begins and ends, nothing decoded.

use super::broken::Broken;
use super::huffman::Huffman;
use super::integer;
use super::strings::Decoded;
use super::table::{Found, TableMut};
use super::walk::Walk;

/// What the next bytes of a block are.
#[derive(Debug)]
pub(super) enum Located<'a> {
    /// A dynamic table size update, and its length.
    Size(u32, usize),
    /// An indexed field, and its length.
    Indexed(u32, usize),
    /// A literal field, and its length.
    Literal(Literal<'a>, usize),
    /// The bytes end within it; so many are needed to read further.
    Partial(usize),
    /// A literal field that is too long to be kept, and the length of what was read of it.
    Long(Box<Walk>, usize),
}

/// A literal field.
#[derive(Clone, Copy, Debug)]
pub(super) struct Literal<'a> {
    /// It becomes an entry of the table.
    pub(super) inserts: bool,
    pub(super) name: Name<'a>,
    pub(super) value: Text<'a>,
}

/// The name of a literal field.
#[derive(Clone, Copy, Debug)]
pub(super) enum Name<'a> {
    Index(u32),
    Text(Text<'a>),
}

/// A string as it was sent (RFC 7541 §5.2).
#[derive(Clone, Copy, Debug)]
pub(super) struct Text<'a> {
    pub(super) octets: &'a [u8],
    pub(super) is_huffman: bool,
}

/// What is known of a string at the front of some bytes.
enum Part<'a> {
    Whole(Text<'a>, usize),
    Partial(usize),
    /// Longer than it may be: its length, whether it is coded, and the length of that length.
    Long(u32, bool, usize),
}

/// Locates the representation at the front of `bytes`, whose strings together may have `length_max` octets.
#[inline]
pub(super) fn locate<'a>(
    bytes: &'a [u8],
    length_max: usize,
    table: &TableMut<'_>,
) -> Result<Located<'a>, Broken> {
    let Some(&first) = bytes.first() else {
        return Ok(Located::Partial(1));
    };
    let prefix = match first {
        0x80.. => 7,
        0x40..=0x7f => 6,
        0x20..=0x3f => 5,
        _ => 4,
    };
    let Some((number, length)) = integer::read(bytes, prefix)? else {
        return Ok(Located::Partial(bytes.len() + 1));
    };
    match prefix {
        7 => Ok(Located::Indexed(number, length)),
        5 => Ok(Located::Size(number, length)),
        _ => literal(bytes, prefix == 6, number, length, length_max, table),
    }
}

fn literal<'a>(
    bytes: &'a [u8],
    inserts: bool,
    index: u32,
    mut read: usize,
    mut length_max: usize,
    table: &TableMut<'_>,
) -> Result<Located<'a>, Broken> {
    let mut name = Name::Index(index);
    if index == 0 {
        match text(bytes, read, length_max)? {
            Part::Whole(text, end) => {
                length_max -= text.octets.len();
                (name, read) = (Name::Text(text), end);
            }
            Part::Partial(needed) => return Ok(Located::Partial(needed)),
            Part::Long(length, is_huffman, read) => {
                let walk = Walk::of_name(inserts, length, is_huffman);
                return Ok(Located::Long(Box::new(walk), read));
            }
        }
    }
    match text(bytes, read, length_max)? {
        Part::Whole(value, end) => {
            let literal = Literal {
                inserts,
                name,
                value,
            };
            Ok(Located::Literal(literal, end))
        }
        Part::Partial(needed) => Ok(Located::Partial(needed)),
        Part::Long(length, is_huffman, read) => {
            let name = match name {
                Name::Text(text) => Some(text.decoded_length()?),
                Name::Index(index) => match table.entry(index)? {
                    Found::Known(name, _) => Some(name.len() as u64),
                    _ => None,
                },
            };
            let walk = Walk::of_value(inserts, name, length, is_huffman);
            Ok(Located::Long(Box::new(walk), read))
        }
    }
}

/// The string that begins at `start`.
#[inline]
fn text(bytes: &[u8], start: usize, length_max: usize) -> Result<Part<'_>, Broken> {
    let rest = bytes.get(start..).unwrap_or_default();
    let Some((length, read)) = integer::read(rest, 7)? else {
        return Ok(Part::Partial(bytes.len() + 1));
    };
    let is_huffman = rest.first().is_some_and(|first| first & 0x80 != 0);
    let start = start + read;
    let length = match usize::try_from(length) {
        Ok(length) if length <= length_max => length,
        _ => return Ok(Part::Long(length, is_huffman, start)),
    };
    let end = start + length;
    Ok(match bytes.get(start..end) {
        Some(octets) => Part::Whole(Text { octets, is_huffman }, end),
        None => Part::Partial(end),
    })
}

impl<'a> Text<'a> {
    /// The string, decoded if it has to be.
    #[inline]
    pub(super) fn decoded(self, strings: &'a mut Decoded) -> Result<&'a [u8], Broken> {
        if self.is_huffman {
            strings.text(self.octets)
        } else {
            Ok(self.octets)
        }
    }

    /// The length of the string after decoding.
    fn decoded_length(self) -> Result<u64, Broken> {
        if !self.is_huffman {
            return Ok(self.octets.len() as u64);
        }
        let (mut huffman, mut length) = (Huffman::default(), 0);
        huffman.push(self.octets, |_| length += 1)?;
        huffman.end()?;
        Ok(length)
    }
}
