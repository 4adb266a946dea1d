//! The result of decapsulation: one TCP segment with the end points and the network that it belongs to.

use super::network::Network;
use crate::time::Timestamp;
use crate::wire::tcp;

/// One inner TCP segment, borrowed from the frame (or from the fragment store).
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// Time of the frame that completed it.
    pub time: Timestamp,
    /// The network its addresses belong to.
    pub network: Network,
    /// Sender.
    pub src: Endpoint,
    /// Receiver.
    pub dst: Endpoint,
    /// Sequence number of the first payload byte (of the SYN if that is set).
    pub seq: u32,
    /// Acknowledgement number; meaningful with [`Flags::ACK`].
    pub ack: u32,
    /// Flags.
    pub flags: Flags,
    /// The payload bytes that were captured.
    pub payload: &'a [u8],
    /// Length of the payload on the wire by the IP header; more than `payload.len()` when a mirror or a snap
    /// length cut the packet. Ethernet padding is never part of it.
    pub payload_wire_len: u32,
}

/// An address, IPv4 as `::ffff:a.b.c.d`, and a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// The address in network order; IPv4 is mapped (RFC 4291 §2.5.5.2).
    pub addr: [u8; 16],
    /// The TCP port.
    pub port: u16,
}

/// TCP flag bits (RFC 9293 §3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub u8);

impl Flags {
    /// No more data from sender.
    pub const FIN: u8 = 0x01;
    /// Synchronize sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// The acknowledgement number is valid.
    pub const ACK: u8 = 0x10;

    /// Whether any of `bits` is set.
    pub const fn has(self, bits: u8) -> bool {
        self.0 & bits != 0
    }
}

/// The flags, without ACK where its number is 0: tools that make captures from text and packets by hand leave it so, and
/// one valid number in 2^32 is no loss.
#[inline]
pub(super) fn effective_flags(header: &tcp::Header) -> Flags {
    if header.ack == 0 && header.flags & Flags::SYN == 0 {
        return Flags(header.flags & !Flags::ACK);
    }
    Flags(header.flags)
}

/// An IPv4 address as an IPv6 address, RFC 4291 §2.5.5.2.
#[inline]
pub(super) fn mapped(address: [u8; 4]) -> [u8; 16] {
    // As one number: put together byte by byte it would go through memory, and be waited for there.
    (0xffff_0000_0000 | u128::from(u32::from_be_bytes(address))).to_be_bytes()
}
