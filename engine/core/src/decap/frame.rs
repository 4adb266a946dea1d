//! A frame as a packet ring or a capture file delivers it.

use crate::time::Timestamp;

/// The format of the outermost header of a frame (LINKTYPE_* of the capture file formats).
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
    /// PPP with or without HDLC framing (LINKTYPE_PPP 9, LINKTYPE_PPP_HDLC 50), or Cisco HDLC (LINKTYPE_C_HDLC 104).
    Ppp,
    /// PPPoE from its own header on (LINKTYPE_PPP_ETHER, 51).
    Pppoe,
    /// Linux netfilter log (LINKTYPE_NFLOG, 239).
    Nflog,
    /// 802.11 with a radiotap header (LINKTYPE_IEEE802_11_RADIOTAP, 127): monitor mode.
    Radiotap,
    /// 802.11 without a radiotap header (LINKTYPE_IEEE802_11, 105).
    Wifi,
    /// FDDI (LINKTYPE_FDDI, 10).
    Fddi,
    /// IP over InfiniBand (LINKTYPE_IPOIB, 242).
    Ipoib,
    /// A link type that is not read; the LINKTYPE number.
    Other(u32),
}

/// One frame.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// When it was captured.
    pub time: Timestamp,
    /// The format of `bytes`.
    pub link: LinkType,
    /// The captured bytes, from the link header on.
    pub bytes: &'a [u8],
    /// Length on the wire; more than `bytes.len()` when the capture cut it.
    pub wire_len: u32,
    /// The VLAN tag (TCI) that the kernel removed from the frame, if it did.
    pub vlan: Option<u16>,
}
