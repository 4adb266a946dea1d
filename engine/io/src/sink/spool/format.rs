//! What the index of a spool segment has on disk: a header, and a record for each bundle. `docs/spool.md` describes it.
//!
//! All numbers are little-endian. What changes after it was written (a state, a release) is one octet behind the checksum, so
//! that one write of one octet changes it and nothing can tear. A state that is none of those below counts as waiting: a
//! bundle that is sent twice is better than one that is lost.

use engine_core::bundle::CallEntry;
use flate2::Crc;

/// Octets of the header of an index.
pub(super) const HEADER_BYTES: usize = 64;

/// Octets of a record before the entries of its calls.
pub(super) const RECORD_BYTES: usize = 80;

/// Octets of one entry.
pub(super) const ENTRY_BYTES: usize = size_of::<CallEntry>();

/// Where the octet that releases a segment is in the header.
pub(super) const RELEASED_AT: u64 = 60;

/// Where the state is in a record.
pub(super) const STATE_AT: u64 = 76;

/// The octet of a released segment.
pub(super) const RELEASED: u8 = 0xff;

const HEADER_MAGIC: [u8; 8] = *b"SNSPOOL1";

/// What the header of every version begins with; its version is one digit behind it.
const HEADER_FAMILY: &[u8] = b"SNSPOOL";

/// What a record begins with; it is looked for behind damage.
pub(super) const RECORD_MAGIC: [u8; 8] = *b"SNBUNDLE";

/// The bundle was not compressed when it came.
const PLAIN: u32 = 1;

/// What became of a bundle, as one octet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is still to be delivered.
    Waiting,
    /// The collector acknowledged it.
    Delivered,
    /// It was given up and counted.
    GivenUp,
    /// It was divided; its parts are records of their own.
    Divided,
}

impl State {
    /// Any two differ in four bits at least.
    pub(super) fn octet(self) -> u8 {
        match self {
            Self::Waiting => 0x00,
            Self::Delivered => 0xff,
            Self::GivenUp => 0xf0,
            Self::Divided => 0x0f,
        }
    }

    fn of(octet: u8) -> Self {
        let settled = [Self::Delivered, Self::GivenUp, Self::Divided];
        settled
            .into_iter()
            .find(|state| state.octet() == octet)
            .unwrap_or(Self::Waiting)
    }
}

/// The header of an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// The number of the segment, which its name has, too.
    pub(super) number: u64,
    /// The fingerprint of the rules under which its lines were made; 0 is unknown.
    pub(super) rules: u64,
    /// Milliseconds since 1970 at which it was begun.
    pub(super) created: u64,
    /// It is delivered although the rules have changed.
    pub(super) is_released: bool,
}

impl Header {
    pub(super) fn octets(&self) -> [u8; HEADER_BYTES] {
        let mut octets = [0; HEADER_BYTES];
        octets[..8].copy_from_slice(&HEADER_MAGIC);
        octets[8..16].copy_from_slice(&self.number.to_le_bytes());
        octets[16..24].copy_from_slice(&self.rules.to_le_bytes());
        octets[24..32].copy_from_slice(&self.created.to_le_bytes());
        let check = crc(&octets[..56]);
        octets[56..60].copy_from_slice(&check.to_le_bytes());
        octets[RELEASED_AT as usize] = if self.is_released { RELEASED } else { 0 };
        octets
    }

    /// Whether a later version of this program wrote it.
    pub(super) fn is_of_later_version(octets: &[u8]) -> bool {
        let version = octets.strip_prefix(HEADER_FAMILY);
        version
            .and_then(<[u8]>::first)
            .is_some_and(|digit| (b'2'..=b'9').contains(digit))
    }

    pub(super) fn read(octets: &[u8]) -> Option<Self> {
        let octets: &[u8; HEADER_BYTES] = octets.first_chunk()?;
        let is_whole = octets[..8] == HEADER_MAGIC && crc(&octets[..56]) == u32_at(octets, 56)?;
        is_whole.then_some(())?;
        Some(Self {
            number: u64_at(octets, 8)?,
            rules: u64_at(octets, 16)?,
            created: u64_at(octets, 24)?,
            is_released: octets[RELEASED_AT as usize] == RELEASED,
        })
    }
}

/// The record of a bundle, without the entries of its calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// The `Idempotency-Key`.
    pub(super) key: u128,
    /// Milliseconds since 1970 at which it was written.
    pub(super) written: u64,
    /// Where its member starts in the segment.
    pub(super) offset: u64,
    /// Bytes of the member.
    pub(super) length: u32,
    /// Bytes of the lines in it.
    pub(super) line_bytes: u32,
    /// Calls in it.
    pub(super) calls: u32,
    /// Entries behind the record.
    pub(super) entries: u32,
    /// Checksum of the entries.
    pub(super) entries_crc: u32,
    /// Checksum of the member.
    pub(super) member_crc: u32,
    /// The bundle was not compressed, and is delivered so.
    pub(super) is_plain: bool,
    /// What became of it.
    pub(super) state: State,
}

impl Record {
    pub(super) fn octets(&self) -> [u8; RECORD_BYTES] {
        let mut octets = [0; RECORD_BYTES];
        octets[..8].copy_from_slice(&RECORD_MAGIC);
        octets[8..24].copy_from_slice(&self.key.to_le_bytes());
        octets[24..32].copy_from_slice(&self.written.to_le_bytes());
        octets[32..40].copy_from_slice(&self.offset.to_le_bytes());
        let flags = if self.is_plain { PLAIN } else { 0 };
        let numbers = [
            self.length,
            self.line_bytes,
            self.calls,
            self.entries,
            self.entries_crc,
            self.member_crc,
            flags,
        ];
        for (place, number) in octets[40..68].chunks_exact_mut(4).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        let check = crc(&octets[..72]);
        octets[72..76].copy_from_slice(&check.to_le_bytes());
        octets[STATE_AT as usize] = self.state.octet();
        octets
    }

    pub(super) fn read(octets: &[u8]) -> Option<Self> {
        let octets: &[u8; RECORD_BYTES] = octets.first_chunk()?;
        let is_whole = octets[..8] == RECORD_MAGIC && crc(&octets[..72]) == u32_at(octets, 72)?;
        is_whole.then_some(())?;
        Some(Self {
            key: u128::from_le_bytes(*octets.get(8..24)?.first_chunk()?),
            written: u64_at(octets, 24)?,
            offset: u64_at(octets, 32)?,
            length: u32_at(octets, 40)?,
            line_bytes: u32_at(octets, 44)?,
            calls: u32_at(octets, 48)?,
            entries: u32_at(octets, 52)?,
            entries_crc: u32_at(octets, 56)?,
            member_crc: u32_at(octets, 60)?,
            is_plain: u32_at(octets, 64)? & PLAIN != 0,
            state: State::of(octets[STATE_AT as usize]),
        })
    }

    /// Octets of the record with its entries.
    pub(super) fn bytes(&self) -> u64 {
        RECORD_BYTES as u64 + u64::from(self.entries) * ENTRY_BYTES as u64
    }

    /// Where its member ends in the segment.
    pub(super) fn end(&self) -> u64 {
        self.offset.saturating_add(u64::from(self.length))
    }
}

/// The entries of calls as a file has them.
pub(super) fn entries(index: &[CallEntry]) -> Vec<u8> {
    let mut octets = Vec::with_capacity(index.len() * ENTRY_BYTES);
    for entry in index {
        octets.extend_from_slice(&entry.octets());
    }
    octets
}

/// The other way.
pub(super) fn read_entries(octets: &[u8]) -> Vec<CallEntry> {
    let (entries, _) = octets.as_chunks();
    entries.iter().map(CallEntry::from_octets).collect()
}

pub(super) fn crc(octets: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(octets);
    crc.sum()
}

fn u32_at(octets: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*octets.get(at..)?.first_chunk()?))
}

fn u64_at(octets: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*octets.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            key: 0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10,
            written: 1_700_000_000_123,
            offset: 77,
            length: 1234,
            line_bytes: 5678,
            calls: 9,
            entries: 9,
            entries_crc: 0xdead_beef,
            member_crc: 0x1234_5678,
            is_plain: true,
            state: State::Waiting,
        }
    }

    #[test]
    fn what_is_written_is_read() {
        for is_released in [false, true] {
            let header = Header {
                number: 3,
                rules: u64::MAX - 1,
                created: 17,
                is_released,
            };
            assert_eq!(Header::read(&header.octets()), Some(header));
        }
        for state in [
            State::Waiting,
            State::Delivered,
            State::GivenUp,
            State::Divided,
        ] {
            for is_plain in [false, true] {
                let record = Record {
                    state,
                    is_plain,
                    ..record()
                };
                assert_eq!(Record::read(&record.octets()), Some(record));
            }
        }
    }

    #[test]
    fn a_flipped_bit_is_noticed_or_makes_it_wait() {
        let whole = Record {
            state: State::Delivered,
            ..record()
        };
        for bit in 0..8 * RECORD_BYTES {
            let mut octets = whole.octets();
            octets[bit / 8] ^= 1 << (bit % 8);
            match Record::read(&octets) {
                None => assert!(bit / 8 < STATE_AT as usize),
                Some(read) if bit / 8 == STATE_AT as usize => {
                    assert_eq!(read.state, State::Waiting, "sent again, never lost");
                }
                Some(read) => assert!(bit / 8 > STATE_AT as usize && read == whole),
            }
        }
        let header = Header {
            number: 1,
            rules: 2,
            created: 3,
            is_released: true,
        };
        for bit in 0..8 * HEADER_BYTES {
            let mut octets = header.octets();
            octets[bit / 8] ^= 1 << (bit % 8);
            let read = Header::read(&octets);
            match bit / 8 {
                60 => assert!(!read.unwrap().is_released, "held, never released by chance"),
                61.. => assert_eq!(read, Some(header)),
                _ => assert_eq!(read, None),
            }
        }
    }

    #[test]
    fn entries_are_those_of_the_index() {
        let entry = CallEntry {
            exchange_id: 5,
            started_nanos: 6,
            ended_nanos: 7,
            offset: 8,
            length: 9,
            status: 200,
            ..CallEntry::default()
        };
        let octets = entries(&[entry, CallEntry::default()]);
        assert_eq!(octets.len(), 2 * ENTRY_BYTES);
        assert_eq!(read_entries(&octets), [entry, CallEntry::default()]);
    }
}
