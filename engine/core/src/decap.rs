//! Frame in, inner TCP segment out, or the reason why not.

use crate::time::Timestamp;

/// How the first bytes of a frame are to be read (the link layer, LINKTYPE_* of the capture file formats).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkType {
    /// Ethernet II or 802.3 (LINKTYPE_ETHERNET, 1).
    Ethernet,
    /// IPv4 or IPv6 without a link header (LINKTYPE_RAW 101 and 12/14, LINKTYPE_IPV4 228, LINKTYPE_IPV6 229).
    RawIp,
    /// Linux cooked capture v1 (LINKTYPE_LINUX_SLL, 113).
    LinuxSll,
    /// Linux cooked capture v2 (LINKTYPE_LINUX_SLL2, 276).
    LinuxSll2,
    /// BSD loopback, host byte order of the capturing machine (LINKTYPE_NULL 0) or network order (LINKTYPE_LOOP 108).
    Null,
    /// PPP with or without HDLC framing (LINKTYPE_PPP 9, LINKTYPE_PPP_HDLC 50), PPPoE (51).
    Ppp,
    /// Not one that we read; the LINKTYPE number.
    Other(u32),
}

/// One frame as a packet ring or a capture file gives it.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// When the kernel saw it.
    pub time: Timestamp,
    /// How to read `bytes`.
    pub link: LinkType,
    /// The captured bytes, from the link header on.
    pub bytes: &'a [u8],
    /// Length on the wire; more than `bytes.len()` when the capture cut it.
    pub wire_len: u32,
    /// The VLAN tag (TCI) that the kernel took out of the frame, if it did.
    pub vlan: Option<u16>,
}

/// An address, IPv4 as `::ffff:a.b.c.d`, and a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// The address in network order; IPv4 is mapped (RFC 4291 §2.5.5.2).
    pub addr: [u8; 16],
    /// The TCP port.
    pub port: u16,
}

/// Which network an address belongs to: equal addresses under two VNIs are different hosts.
///
/// A hash of all tunnel identifiers on the way (kind and VNI or key), 0 for the plain network, with the innermost
/// identifier kept readable for annotations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Network {
    /// Distinguishes networks in the flow key; equal only for the same chain of tunnel identifiers.
    pub id: u64,
    /// The innermost VNI, GRE key or ERSPAN session, where there is one.
    pub vni: Option<u32>,
    /// The innermost encapsulation.
    pub encap: Encap,
}

/// An encapsulation that was undone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Encap {
    /// None: the frame itself carried the segment.
    #[default]
    Plain,
    /// VXLAN or VXLAN-GPE.
    Vxlan,
    /// GENEVE.
    Geneve,
    /// GRE, NVGRE, TEB.
    Gre,
    /// ERSPAN I, II or III.
    Erspan,
    /// IP in IP, 6in4, 4in6.
    IpIp,
    /// Any other.
    Other,
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
    /// The payload bytes at hand.
    pub payload: &'a [u8],
    /// How long the payload was on the wire by the IP header; more than `payload.len()` when a mirror or a snap
    /// length cut the packet. Ethernet padding is never part of it.
    pub payload_wire_len: u32,
}
