//! The pcapng format, draft-ietf-opsawg-pcapng: sections of either byte order, each with interfaces of its own link
//! type, time resolution and time offset; enhanced, simple and obsolete packet blocks. Other blocks are skipped.
//!
//! ```text
//! block:     type 4 | total length 4 | body | total length 4
//! section:   0A0D0D0A, body: byte order 1A2B3C4D | major 2 | minor 2 | section length 8 | options
//! interface: 1, body: link type 2 | reserved 2 | snap length 4 | options
//! obsolete:  2, body: interface 2 | drops 2 | time 8 | captured length 4 | length 4 | bytes | options
//! simple:    3, body: length 4 | bytes
//! enhanced:  6, body: interface 4 | time 8 | captured length 4 | length 4 | bytes | options
//! option:    code 2 | length 2 | value, padded to 4
//! ```

use engine_core::decap::LinkType;
use engine_core::reader::Reader;
use engine_core::time::Timestamp;

use super::error::Cause;
use super::record::{Record, link_type, packet_len};
use super::window::Window;
use crate::limits::{CAPTURE_INTERFACES_MAX, CAPTURE_PACKET_BYTES_MAX};

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const OBSOLETE_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;

const BYTE_ORDER: u32 = 0x1a2b_3c4d;
/// Type, and total length before and after the body.
const BLOCK_FRAME_BYTES: usize = 12;
/// Type, total length, byte order.
const SECTION_START_BYTES: usize = 12;
/// Bytes of a block that has to be in memory at once: a packet with a body of options.
const BLOCK_BYTES_MAX: usize = CAPTURE_PACKET_BYTES_MAX + (64 << 10);

const OPTION_END: u16 = 0;
const OPTION_TIME_RESOLUTION: u16 = 9;
const OPTION_TIME_OFFSET: u16 = 14;
/// In a time resolution: the rest is a power of two, not of ten.
const POWER_OF_TWO: u8 = 0x80;

/// Whether the window begins with a section header.
pub(super) fn is_section(window: &mut Window) -> Result<bool, Cause> {
    let start = window.peek(SECTION_START_BYTES)?;
    Ok(byte_order(start).is_some())
}

/// The byte order that a section header gives: whether it is big-endian.
fn byte_order(start: &[u8]) -> Option<bool> {
    let mut reader = Reader::new(start);
    let (kind, _, order) = (reader.u32()?, reader.u32()?, reader.u32()?);
    match order {
        _ if kind != SECTION => None,
        BYTE_ORDER => Some(true),
        order if order.swap_bytes() == BYTE_ORDER => Some(false),
        _ => None,
    }
}

/// The section that is being read.
#[derive(Debug, Default)]
pub(super) struct Section {
    order: Order,
    interfaces: Vec<Interface>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Order {
    big_endian: bool,
}

#[derive(Clone, Copy, Debug)]
struct Interface {
    link: LinkType,
    /// The snap length, which bounds the captured length of a simple packet: it has no field for it. 0 is no limit.
    snap_len: u32,
    clock: Clock,
}

/// How an interface's ticks become time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Clock {
    /// The option: ticks a second as a negative power of ten, or of two with [`POWER_OF_TWO`].
    resolution: u8,
    /// Seconds to add.
    offset: i64,
}

impl Default for Clock {
    fn default() -> Self {
        Self {
            resolution: 6,
            offset: 0,
        }
    }
}

impl Section {
    /// The next packet; other blocks before it are skipped.
    pub(super) fn next(&mut self, window: &mut Window) -> Result<Option<Record>, Cause> {
        loop {
            let position = window.position();
            let Some(start) = window.need(8)? else {
                return Ok(None);
            };
            let kind = self.order.u32(&mut Reader::new(start)).unwrap_or_default();
            let found = match kind {
                SECTION => self.begin(window).map(|()| None),
                INTERFACE => self.describe(window).map(|()| None),
                ENHANCED_PACKET | OBSOLETE_PACKET | SIMPLE_PACKET => {
                    self.packet(kind, window).map(Some)
                }
                _ => self.pass_over(window).map(|()| None),
            };
            if let Some(record) = found.map_err(|cause| cause.located(position))? {
                return Ok(Some(record));
            }
        }
    }

    fn begin(&mut self, window: &mut Window) -> Result<(), Cause> {
        let big_endian = byte_order(window.must(SECTION_START_BYTES)?)
            .ok_or(damaged("section without byte order"))?;
        self.order = Order { big_endian };
        self.interfaces.clear();
        self.pass_over(window)
    }

    fn pass_over(&self, window: &mut Window) -> Result<(), Cause> {
        let total = self.block_len(window)?;
        window.discard(u64::from(total))
    }

    fn describe(&mut self, window: &mut Window) -> Result<(), Cause> {
        let total = self.whole_block(window)?;
        let order = self.order;
        let interface = order
            .interface(body(window.must(total)?))
            .ok_or(damaged("interface block too short"))?;
        if self.interfaces.len() >= CAPTURE_INTERFACES_MAX {
            return Err(damaged("more interfaces than any capture has"));
        }
        self.interfaces.push(interface);
        window.consume(total);
        Ok(())
    }

    fn packet(&self, kind: u32, window: &mut Window) -> Result<Record, Cause> {
        let total = self.whole_block(window)?;
        let fields = self
            .order
            .packet(kind, body(window.must(total)?))
            .ok_or(damaged("packet block too short"))?;
        let Some(interface) = self.interfaces.get(fields.interface) else {
            return Err(damaged("packet of an interface that was not described"));
        };
        let snap_len = if interface.snap_len == 0 {
            u32::MAX
        } else {
            interface.snap_len
        };
        let len = packet_len(fields.captured.unwrap_or(fields.wire_len.min(snap_len)))?;
        let room = total - BLOCK_FRAME_BYTES - fields.bytes;
        // A simple packet is at most as long as its block; any other packet that is longer than its block is an error.
        if len > room && fields.captured.is_some() {
            return Err(damaged("packet longer than its block"));
        }
        let len = len.min(room);
        Ok(Record {
            time: fields.ticks.map(|ticks| interface.clock.time(ticks)),
            link: interface.link,
            start: 8 + fields.bytes,
            len,
            wire_len: fields.wire_len.max(len as u32),
            total,
        })
    }

    /// The total length of the block at the start of the window.
    fn block_len(&self, window: &mut Window) -> Result<u32, Cause> {
        let mut start = Reader::new(window.must(8)?);
        let len = self
            .order
            .u32(&mut start)
            .and_then(|_| self.order.u32(&mut start))
            .unwrap_or_default();
        if (len as usize) < BLOCK_FRAME_BYTES || !len.is_multiple_of(4) {
            return Err(damaged("block with a length that none can have"));
        }
        Ok(len)
    }

    /// The total length of the block at the start of the window, which is then in the window as a whole.
    fn whole_block(&self, window: &mut Window) -> Result<usize, Cause> {
        let len = self.block_len(window)?;
        let total = len as usize;
        if total > BLOCK_BYTES_MAX {
            return Err(Cause::PacketTooLong {
                packets: 0,
                at: 0,
                len,
            });
        }
        let block = window.must(total)?;
        let end = block
            .last_chunk()
            .map(|bytes| self.order.of(u32::from_be_bytes(*bytes)));
        if end != Some(len) {
            return Err(damaged(
                "block that ends with another length than it begins with",
            ));
        }
        Ok(total)
    }
}

/// The fields before the bytes of a packet.
struct PacketFields {
    interface: usize,
    ticks: Option<u64>,
    captured: Option<u32>,
    wire_len: u32,
    /// Bytes of these fields.
    bytes: usize,
}

impl Order {
    /// A number that was read in network order.
    fn of(self, number: u32) -> u32 {
        if self.big_endian {
            number
        } else {
            number.swap_bytes()
        }
    }

    fn u16(self, reader: &mut Reader<'_>) -> Option<u16> {
        reader.u16().map(|number| {
            if self.big_endian {
                number
            } else {
                number.swap_bytes()
            }
        })
    }

    fn u32(self, reader: &mut Reader<'_>) -> Option<u32> {
        reader.u32().map(|number| self.of(number))
    }

    fn interface(self, body: &[u8]) -> Option<Interface> {
        let mut reader = Reader::new(body);
        let (link, _) = (self.u16(&mut reader)?, self.u16(&mut reader)?);
        let snap_len = self.u32(&mut reader)?;
        Some(Interface {
            link: link_type(u32::from(link)),
            snap_len,
            clock: self.clock(reader),
        })
    }

    /// The clock options. A damaged list is read up to the damage.
    fn clock(self, mut options: Reader<'_>) -> Clock {
        let mut clock = Clock::default();
        while let Some((code, mut value)) = self.option(&mut options) {
            match code {
                OPTION_END => break,
                OPTION_TIME_RESOLUTION => clock.resolution = value.u8().unwrap_or(clock.resolution),
                OPTION_TIME_OFFSET => {
                    let (Some(first), Some(second)) = (self.u32(&mut value), self.u32(&mut value))
                    else {
                        break;
                    };
                    let [high, low] = if self.big_endian {
                        [first, second]
                    } else {
                        [second, first]
                    };
                    clock.offset = (u64::from(high) << 32 | u64::from(low)).cast_signed();
                }
                _ => {}
            }
        }
        clock
    }

    fn option<'a>(self, options: &mut Reader<'a>) -> Option<(u16, Reader<'a>)> {
        let (code, len) = (self.u16(options)?, self.u16(options)?);
        let value = options.sub(usize::from(len))?;
        // The padding of the last option is missing in some files.
        options.take(usize::from(len).next_multiple_of(4) - usize::from(len));
        Some((code, value))
    }

    fn packet(self, kind: u32, body: &[u8]) -> Option<PacketFields> {
        let mut reader = Reader::new(body);
        if kind == SIMPLE_PACKET {
            let wire_len = self.u32(&mut reader)?;
            return Some(PacketFields {
                interface: 0,
                ticks: None,
                captured: None,
                wire_len,
                bytes: 4,
            });
        }
        let interface = if kind == OBSOLETE_PACKET {
            let (interface, _) = (self.u16(&mut reader)?, self.u16(&mut reader)?);
            usize::from(interface)
        } else {
            self.u32(&mut reader)? as usize
        };
        let (high, low) = (self.u32(&mut reader)?, self.u32(&mut reader)?);
        let (captured, wire_len) = (self.u32(&mut reader)?, self.u32(&mut reader)?);
        let ticks = Some(u64::from(high) << 32 | u64::from(low));
        Some(PacketFields {
            interface,
            ticks,
            captured: Some(captured),
            wire_len,
            bytes: 20,
        })
    }
}

impl Clock {
    fn time(self, ticks: u64) -> Timestamp {
        let ticks = u128::from(ticks);
        let power = u32::from(self.resolution & !POWER_OF_TWO);
        let nanos = if self.resolution & POWER_OF_TWO != 0 {
            (ticks * 1_000_000_000) >> power
        } else if power <= 9 {
            ticks * 10_u128.pow(9 - power)
        } else {
            // 10^39 does not fit, and such ticks are far below a nanosecond.
            10_u128
                .checked_pow(power - 9)
                .map_or(0, |divisor| ticks / divisor)
        };
        let offset = i128::from(self.offset) * 1_000_000_000;
        let total = i128::try_from(nanos)
            .unwrap_or(i128::MAX)
            .saturating_add(offset);
        Timestamp::from_nanos(u64::try_from(total.max(0)).unwrap_or(u64::MAX))
    }
}

/// The bytes of a whole block between its two lengths.
fn body(block: &[u8]) -> &[u8] {
    block
        .get(8..block.len().saturating_sub(4))
        .unwrap_or_default()
}

fn damaged(what: &'static str) -> Cause {
    Cause::Damaged {
        packets: 0,
        at: 0,
        what,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(resolution: u8, offset: i64, ticks: u64, expected_nanos: u64) {
        assert_eq!(
            Clock { resolution, offset }.time(ticks),
            Timestamp::from_nanos(expected_nanos)
        );
    }

    #[test]
    fn clocks() {
        check(6, 0, 1_000_001, 1_000_001_000);
        check(9, 0, 7, 7);
        check(0, 0, 7, 7_000_000_000);
        check(12, 0, 7_999, 7);
        check(127, 0, u64::MAX, 0);
        check(POWER_OF_TWO | 10, 0, 512, 500_000_000);
        check(POWER_OF_TWO | 127, 0, u64::MAX, 0);
        check(9, -1, 1_500_000_000, 500_000_000);
        check(9, -10, 1_500_000_000, 0);
        check(6, i64::MAX, 0, u64::MAX);
        check(0, 0, u64::MAX, u64::MAX);
    }
}
