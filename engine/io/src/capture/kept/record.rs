//! The records in chunks of kept packets: a header of [`HEADER_BYTES`], then the bytes of the frame.

use std::sync::Arc;

use engine_core::decap::{Frame, LinkType};

/// A chunk of records.
pub(super) type Chunk = Arc<Vec<u8>>;

/// What stands before the bytes of a frame in a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) nanos: u64,
    pub(super) wire_len: u32,
    pub(super) len: u32,
    pub(super) vlan: Option<u16>,
    pub(super) is_ethernet: bool,
}

/// Bytes of it.
pub(super) const HEADER_BYTES: usize = 20;

/// Bits of the octet behind the tag.
const HAS_VLAN: u8 = 1;
const IS_ETHERNET: u8 = 2;

impl Header {
    #[inline]
    pub(super) fn of(frame: &Frame<'_>) -> Self {
        Self {
            nanos: frame.time.nanos(),
            wire_len: frame.wire_len,
            len: frame.bytes.len() as u32,
            vlan: frame.vlan,
            // A ring has these two alone.
            is_ethernet: frame.link == LinkType::Ethernet,
        }
    }

    #[inline]
    pub(super) fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&self.nanos.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.wire_len.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.len.to_le_bytes());
        bytes[16..18].copy_from_slice(&self.vlan.unwrap_or(0).to_le_bytes());
        bytes[18] =
            (u8::from(self.vlan.is_some()) * HAS_VLAN) | (u8::from(self.is_ethernet) * IS_ETHERNET);
        bytes
    }

    fn from_bytes(bytes: &[u8; HEADER_BYTES]) -> Self {
        let word = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let vlan = u16::from_le_bytes([bytes[16], bytes[17]]);
        Self {
            nanos: u64::from(word(0)) | (u64::from(word(4)) << 32),
            wire_len: word(8),
            len: word(12),
            vlan: (bytes[18] & HAS_VLAN != 0).then_some(vlan),
            is_ethernet: bytes[18] & IS_ETHERNET != 0,
        }
    }

    /// The record at a place of a chunk: its header, and the bytes of its frame. None behind the last.
    pub(super) fn read(chunk: &[u8], at: usize) -> Option<(Self, &[u8])> {
        let (header, rest) = chunk.get(at..)?.split_first_chunk()?;
        let header = Self::from_bytes(header);
        Some((header, rest.get(..header.len as usize)?))
    }
}
