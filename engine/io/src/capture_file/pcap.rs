//! The pcap format, draft-ietf-opsawg-pcap: both byte orders, microseconds, nanoseconds, and Kuznetzov's variant.
//!
//! ```text
//! file:   magic 4 | major 2 | minor 2 | zone 4 | precision 4 | snap length 4 | link type 4
//! packet: seconds 4 | fraction 4 | captured length 4 | length 4 | (variant: 8 more) | bytes
//! ```

use engine_core::decap::LinkType;
use engine_core::time::Timestamp;

use super::error::Cause;
use super::record::{Record, link_type, packet_len};
use super::window::Window;

const FILE_HEADER_BYTES: usize = 24;
const MAGIC_MICRO: u32 = 0xa1b2_c3d4;
const MAGIC_NANO: u32 = 0xa1b2_3c4d;
/// Alexey Kuznetzov's: eight more bytes (interface, protocol, packet type) in each packet header.
const MAGIC_MODIFIED: u32 = 0xa1b2_cd34;
const VERSION_MAJOR: u16 = 2;
/// The link type is in the low 16 bits of its field; above it is the length of the frame check sequence.
const LINK_TYPE: u32 = 0xffff;

/// What the file header determines for every packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    big_endian: bool,
    /// Nanoseconds of one unit of the fraction.
    unit: u64,
    /// Bytes of a packet header.
    packet_header: usize,
    link: LinkType,
}

impl Header {
    /// Reads the file header; `None` when these are not the first bytes of one.
    pub(super) fn read(window: &mut Window) -> Result<Option<Self>, Cause> {
        let Some(&magic) = window.peek(4)?.first_chunk() else {
            return Ok(None);
        };
        let known = [
            (MAGIC_MICRO, 1000, 16),
            (MAGIC_NANO, 1, 16),
            (MAGIC_MODIFIED, 1000, 24),
        ];
        let matching = |big_endian: bool| {
            let number = if big_endian {
                u32::from_be_bytes(magic)
            } else {
                u32::from_le_bytes(magic)
            };
            known
                .into_iter()
                .find(|(known, ..)| *known == number)
                .map(|(_, unit, header)| (big_endian, unit, header))
        };
        let Some((big_endian, unit, packet_header)) = matching(false).or_else(|| matching(true))
        else {
            return Ok(None);
        };
        let link = Self::read_fields(window.must(FILE_HEADER_BYTES)?, big_endian)?;
        window.consume(FILE_HEADER_BYTES);
        Ok(Some(Self {
            big_endian,
            unit,
            packet_header,
            link,
        }))
    }

    fn read_fields(bytes: &[u8], big_endian: bool) -> Result<LinkType, Cause> {
        let [_, _, _, _, j1, j0, n1, n0, .., t3, t2, t1, t0] = bytes else {
            return Err(Cause::Cut { packets: 0 });
        };
        let u16_in_order = |bytes| {
            if big_endian {
                u16::from_be_bytes(bytes)
            } else {
                u16::from_le_bytes(bytes)
            }
        };
        let (major, minor) = (u16_in_order([*j1, *j0]), u16_in_order([*n1, *n0]));
        let network = in_order(u32::from_be_bytes([*t3, *t2, *t1, *t0]), big_endian);
        if major != VERSION_MAJOR {
            return Err(Cause::Version { major, minor });
        }
        match link_type(network & LINK_TYPE) {
            LinkType::Other(number) => Err(Cause::LinkType {
                format: "pcap",
                number,
            }),
            link => Ok(link),
        }
    }

    pub(super) fn next(&mut self, window: &mut Window) -> Result<Option<Record>, Cause> {
        let position = window.position();
        let Some(header) = window.need(self.packet_header)? else {
            return Ok(None);
        };
        let Some(
            &[
                s0,
                s1,
                s2,
                s3,
                f0,
                f1,
                f2,
                f3,
                c0,
                c1,
                c2,
                c3,
                l0,
                l1,
                l2,
                l3,
            ],
        ) = header.first_chunk()
        else {
            return Err(Cause::Cut { packets: 0 });
        };
        let number = |bytes| in_order(u32::from_be_bytes(bytes), self.big_endian);
        let captured = number([c0, c1, c2, c3]);
        let len = packet_len(captured).map_err(|cause| cause.located(position))?;
        let nanos = u64::from(number([f0, f1, f2, f3])) * self.unit;
        let seconds = u64::from(number([s0, s1, s2, s3]));
        let total = self.packet_header + len;
        window.must(total)?;
        Ok(Some(Record {
            time: Some(Timestamp::from_nanos(
                (seconds * 1_000_000_000).saturating_add(nanos),
            )),
            link: self.link,
            start: self.packet_header,
            len,
            wire_len: number([l0, l1, l2, l3]).max(captured),
            total,
        }))
    }
}

/// A number that was read in network order.
fn in_order(number: u32, big_endian: bool) -> u32 {
    if big_endian {
        number
    } else {
        number.swap_bytes()
    }
}
