//! The shape of steady traffic.

use crate::traffic::Wire;

/// Number of different bodies, which calls use one after the other.
pub const VARIANTS: usize = 256;

/// The last 32 bits of the first client address, of IPv4 and of IPv6; the lower 22 of them number the clients.
pub(super) const CLIENT_NET: u32 = 0x0a40_0000;

/// The shape of steady traffic.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Bytes of a response body.
    pub body_bytes: usize,
    /// Connections open at a time.
    pub connections: usize,
    /// Calls on one connection.
    pub calls_per_connection: u64,
    /// Server port.
    pub port: u16,
    /// IPv6 instead of IPv4; in a tunnel, of the inner packets.
    pub ipv6: bool,
    /// VLAN tags and tunnel.
    pub wire: Wire,
    /// Seed of the contents of calls.
    pub seed: u64,
    /// Packets of the same lengths that carry no call, but what looks like TLS records. They carry no numbers.
    pub opaque: bool,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            body_bytes: 2000,
            connections: 512,
            calls_per_connection: 100,
            port: 80,
            ipv6: false,
            wire: Wire::default(),
            seed: 1,
            opaque: false,
        }
    }
}
