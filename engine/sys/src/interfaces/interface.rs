//! What is known of an interface.

use std::net::IpAddr;

/// What kind of device a link is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkKind {
    /// Hardware, or a driver that names no kind.
    Plain,
    /// A bridge; its ports have it as [`Interface::master`].
    Bridge,
    /// A bond; its ports have it as [`Interface::master`].
    Bond,
    /// One end of a veth pair.
    Veth,
    /// A VLAN of another link.
    Vlan,
    /// A VXLAN end point: the kernel decapsulates.
    Vxlan {
        /// Its network; none when it takes all (`external`).
        vni: Option<u32>,
        /// The UDP port it listens on.
        port: u16,
    },
    /// Any other kind, by the kernel's name.
    Other(String),
}

/// One network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name, at most 15 bytes.
    pub name: String,
    /// Its index in this namespace.
    pub index: u32,
    /// Switched on (`IFF_UP`).
    pub up: bool,
    /// Switched on and connected (`IFF_LOWER_UP`, which is exact: `IFF_RUNNING` follows the state of operation, which the
    /// kernel brings up to date within a second, net/core/link_watch.c).
    pub carrier: bool,
    /// Loopback: each frame passes it twice, outgoing and incoming.
    pub loopback: bool,
    /// Whether its frames start with an Ethernet header. They do not on tun, wireguard or ipip links.
    pub ethernet: bool,
    /// Largest packet, in bytes, without the link-layer header.
    pub mtu: u32,
    /// Its addresses, in the kernel's order.
    pub addresses: Vec<IpAddr>,
    /// Its kind.
    pub kind: LinkKind,
    /// Index of the bridge, bond or VRF it is a port of.
    pub master: Option<u32>,
}

/// What follows a datagram of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Another one.
    More,
    /// Nothing: the answer is complete.
    Done,
}
