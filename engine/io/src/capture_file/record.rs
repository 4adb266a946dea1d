//! A packet as the formats find it, and the numbers that they share.

use engine_core::decap::LinkType;
use engine_core::time::Timestamp;

use super::error::Cause;
use crate::limits::CAPTURE_PACKET_BYTES_MAX;

/// A packet within the window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    pub(super) time: Option<Timestamp>,
    pub(super) link: LinkType,
    /// The range of its bytes in the block or record at the start of the window.
    pub(super) start: usize,
    pub(super) len: usize,
    pub(super) wire_len: u32,
    /// Bytes of that block or record.
    pub(super) total: usize,
}

/// The link layer of a LINKTYPE number (tcpdump.org/linktypes), if it is one that is read.
pub(super) fn link_type(number: u32) -> LinkType {
    match number {
        0 | 108 => LinkType::Null,
        1 => LinkType::Ethernet,
        9 | 50 | 104 => LinkType::Ppp,
        10 => LinkType::Fddi,
        51 => LinkType::Pppoe,
        105 => LinkType::Wifi,
        127 => LinkType::Radiotap,
        242 => LinkType::Ipoib,
        12 | 14 | 101 | 228 | 229 => LinkType::RawIp,
        113 => LinkType::LinuxSll,
        239 => LinkType::Nflog,
        276 => LinkType::LinuxSll2,
        other => LinkType::Other(other),
    }
}

/// A length of captured bytes, if a packet can have it.
pub(super) fn packet_len(len: u32) -> Result<usize, Cause> {
    match usize::try_from(len) {
        Ok(short) if short <= CAPTURE_PACKET_BYTES_MAX => Ok(short),
        _ => Err(Cause::PacketTooLong {
            packets: 0,
            at: 0,
            len,
        }),
    }
}
