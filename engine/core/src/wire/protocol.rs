//! IP protocol numbers, as assigned by IANA (Protocol Numbers).

/// IPv4 in IP, RFC 2003.
pub const IPV4: u8 = 4;
/// TCP.
pub const TCP: u8 = 6;
/// UDP.
pub const UDP: u8 = 17;
/// IPv6 in IP, RFC 2473.
pub const IPV6: u8 = 41;
/// GRE, RFC 2784.
pub const GRE: u8 = 47;
/// Ethernet in IP, RFC 3378: two bytes, then a frame.
pub const ETHERIP: u8 = 97;
/// MPLS in IP, RFC 4023.
pub const MPLS: u8 = 137;
