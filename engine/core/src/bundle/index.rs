//! The index of a bundle: one entry for each call, made while its line is written.
//!
//! A sink that splits a bundle, a spool or an export finds the line, the identity, the time and the completeness of each
//! call here and parses no line. An entry is plain data without pointers: pushing one costs a shard a copy of 48 bytes.
//!
//! In a file an entry is 48 octets, each field little-endian, in the order in which they lie in memory:
//!
//! ```text
//!  octet  length  field
//!      0      16  exchange_id
//!     16       8  started_nanos
//!     24       8  ended_nanos
//!     32       4  offset
//!     36       4  length
//!     40       2  status
//!     42       2  flags
//!     44       4  zero
//! ```
//!
//! The index is not part of the lines, and the rules do not see it: it holds no value of a detail but the response code,
//! and that only where the line has it, too. Identity and times stay on the host unless a sink sends them.

use crate::message::Notes;

/// What a bundle's index holds of one call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct CallEntry {
    /// The value of the annotation `exchange_id`, which is this number in hexadecimal digits.
    pub exchange_id: u128,
    /// Packet time of the first byte of the request, or of the response where there is no request; nanoseconds since the
    /// epoch.
    pub started_nanos: u64,
    /// Packet time of the last byte of the response, or of the request where there is no response.
    pub ended_nanos: u64,
    /// Where the line starts in the bundle's lines before encoding, in bytes.
    pub offset: u32,
    /// Bytes of the line without its newline.
    pub length: u32,
    /// The response code; 0 where there is no response, or where the rules removed or changed the code.
    pub status: u16,
    /// What is known of the call beyond that.
    pub flags: CallFlags,
}

const _: () = assert!(size_of::<CallEntry>() == 48, "the documented layout");

impl CallEntry {
    /// The entry of a line of `length` bytes at `offset`. Both are far below 4 GiB ([`super::LINES_BYTES_MAX`]).
    #[inline]
    pub(super) fn new(offset: usize, length: usize, notes: &Notes) -> Self {
        Self {
            exchange_id: notes.exchange_id,
            started_nanos: notes.started_nanos,
            ended_nanos: notes.ended_nanos,
            offset: u32::try_from(offset).unwrap_or(u32::MAX),
            length: u32::try_from(length).unwrap_or(u32::MAX),
            status: notes.status,
            flags: CallFlags::new(notes),
        }
    }

    /// The entry as a file has it.
    pub fn octets(&self) -> [u8; size_of::<Self>()] {
        let mut octets = [0; size_of::<Self>()];
        let fields = (self.exchange_id.to_le_bytes().into_iter())
            .chain(self.started_nanos.to_le_bytes())
            .chain(self.ended_nanos.to_le_bytes())
            .chain(self.offset.to_le_bytes())
            .chain(self.length.to_le_bytes())
            .chain(self.status.to_le_bytes())
            .chain(self.flags.0.to_le_bytes());
        for (place, octet) in octets.iter_mut().zip(fields) {
            *place = octet;
        }
        octets
    }

    /// The entry that a file has.
    pub fn from_octets(octets: &[u8; size_of::<Self>()]) -> Self {
        let field = |from: usize, length: usize| {
            let octets = octets.iter().skip(from).take(length).rev();
            octets.fold(0, |value, octet| value << 8 | u128::from(*octet))
        };
        Self {
            exchange_id: field(0, 16),
            started_nanos: field(16, 8) as u64,
            ended_nanos: field(24, 8) as u64,
            offset: field(32, 4) as u32,
            length: field(36, 4) as u32,
            status: field(40, 2) as u16,
            flags: CallFlags(field(42, 2) as u16),
        }
    }

    /// The line of the call, in the bundle's lines before encoding.
    pub fn line<'a>(&self, lines: &'a [u8]) -> Option<&'a [u8]> {
        lines
            .get(self.offset as usize..)?
            .get(..self.length as usize)
    }
}

/// Properties of a call, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct CallFlags(u16);

impl CallFlags {
    /// Only the request or only the response is known: a half call.
    pub const UNPAIRED: Self = Self(1);
    /// A message ended before its framing was complete.
    pub const INCOMPLETE: Self = Self(1 << 1);
    /// Bytes of a body were never captured.
    pub const MISSING: Self = Self(1 << 2);
    /// A body was truncated, or fields were left out, at one of our bounds.
    pub const TRUNCATED: Self = Self(1 << 3);
    /// A body was given up, in whole or in part, because memory was short or the shard could not keep up.
    pub const SHED: Self = Self(1 << 4);

    fn new(notes: &Notes) -> Self {
        let bit = |is_set: bool, flag: Self| Self(u16::from(is_set) * flag.0);
        bit(notes.unpaired, Self::UNPAIRED)
            | bit(notes.incomplete, Self::INCOMPLETE)
            | bit(notes.missing_bytes > 0, Self::MISSING)
            | bit(notes.truncated, Self::TRUNCATED)
            | bit(notes.shed, Self::SHED)
    }

    /// The bits, as the index of a file has them.
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// Whether all bits of `flags` are set.
    pub const fn contains(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }
}

impl std::ops::BitOr for CallFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_each_field_where_it_is_documented() {
        let entry = CallEntry {
            exchange_id: 0x0f0e_0d0c_0b0a_0908_0706_0504_0302_0100,
            started_nanos: 0x1716_1514_1312_1110,
            ended_nanos: 0x1f1e_1d1c_1b1a_1918,
            offset: 0x2322_2120,
            length: 0x2726_2524,
            status: 0x2928,
            flags: CallFlags(0x2b2a),
        };
        let octets = entry.octets();
        let expected: Vec<u8> = (0..44).chain([0; 4]).collect();
        assert_eq!(octets[..], expected);
        assert_eq!(CallEntry::from_octets(&octets), entry);
    }

    #[test]
    fn each_property_has_a_bit() {
        let notes = Notes::default();
        for (notes, expected) in [
            (notes, 0),
            (
                Notes {
                    unpaired: true,
                    ..notes
                },
                1,
            ),
            (
                Notes {
                    incomplete: true,
                    ..notes
                },
                2,
            ),
            (
                Notes {
                    missing_bytes: 7,
                    ..notes
                },
                4,
            ),
            (
                Notes {
                    truncated: true,
                    ..notes
                },
                8,
            ),
            (
                Notes {
                    truncated: true,
                    shed: true,
                    ..notes
                },
                24,
            ),
        ] {
            let flags = CallFlags::new(&notes);
            assert_eq!(flags.bits(), expected);
            assert_eq!(flags.contains(CallFlags::SHED), notes.shed);
        }
    }
}
