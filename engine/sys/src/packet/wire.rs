//! Numbers of the headers that programs in the kernel dissect. Captured frames are dissected by the engine, not here.

/// EtherType of IPv4.
pub(super) const IPV4: u32 = 0x0800;
/// EtherType of IPv6.
pub(super) const IPV6: u32 = 0x86dd;
/// EtherTypes of VLAN tags: 802.1Q, 802.1ad, and the older QinQ.
pub(super) const TAGS: [u32; 3] = [0x8100, 0x88a8, 0x9100];
/// The protocol type of GENEVE for an Ethernet frame (RFC 8926 §3.4).
pub(super) const TRANSPARENT_ETHERNET: u32 = 0x6558;
/// More fragments follow, or this is not the first: in the IPv4 header at 6 (RFC 791 §3.1).
pub(super) const FRAGMENT_BITS: u32 = 0x3fff;
/// Bytes of an IPv6 header without extensions (RFC 8200 §3).
pub(super) const IPV6_HEADER_BYTES: u32 = 40;
/// IP protocol number of TCP.
pub(super) const PROTOCOL_TCP: u32 = 6;
/// IP protocol number of UDP.
pub(super) const PROTOCOL_UDP: u32 = 17;
