//! The sender of a bundle or of a request, as far as fairness is concerned: the peer address of its connection.
//!
//! The address is the one thing about a sender that the sender cannot choose; the detail `host` of a line is text of its own.
//! Everything on this host is one sender, but for the capture to which the store belongs; and so is an IPv6 network of 64 bits, since one host has all of its addresses.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// Who sends, for the division of what is bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sender {
    /// The capture of the same all-in-one, whose connections no other process can make.
    Capture,
    /// Any other process on this host.
    Local,
    /// A host with this IPv4 address.
    V4(std::net::Ipv4Addr),
    /// A network with this IPv6 prefix of 64 bits.
    V6(Ipv6Addr),
}

impl Sender {
    /// The sender behind a peer address.
    pub fn of(peer: IpAddr) -> Self {
        match peer.to_canonical() {
            peer if peer.is_loopback() => Self::Local,
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => {
                Self::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)))
            }
        }
    }
}

impl Sender {
    /// Whether it is a process on this host.
    pub fn is_of_this_host(self) -> bool {
        matches!(self, Self::Capture | Self::Local)
    }
}

impl fmt::Display for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Capture => f.write_str("capture"),
            Self::Local => f.write_str("local"),
            Self::V4(address) => write!(f, "{address}"),
            Self::V6(prefix) => write!(f, "{prefix}/64"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(peer: &str, expected: &str) {
        let sender = Sender::of(peer.parse().expect("an address"));
        assert_eq!(sender.to_string(), expected, "{peer}");
    }

    #[test]
    fn a_host_is_one_sender() {
        check("127.0.0.1", "local");
        check("127.9.9.9", "local");
        check("::1", "local");
        check("::ffff:127.0.0.1", "local");
        check("192.0.2.7", "192.0.2.7");
        check("::ffff:192.0.2.7", "192.0.2.7");
        check("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64");
        check("2001:db8:1:2::9", "2001:db8:1:2::/64");
    }
}
