//! The shape of steady traffic.

use crate::traffic::Wire;

/// Different bodies, one after the other.
pub const VARIANTS: usize = 256;

/// Networks of clients: the lower half of an IPv4 address, and all of the last 32 bits of an IPv6 address, are chosen.
pub(super) const CLIENT_NET: u32 = 0x0a40_0000;

/// What to make.
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
    /// IPv6 inside.
    pub ipv6: bool,
    /// Tags and tunnel.
    pub wire: Wire,
    /// Decides bodies and first ports.
    pub seed: u64,
    /// Packets of the same lengths that carry no call: bytes as TLS has them. Nothing in them is numbered.
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
