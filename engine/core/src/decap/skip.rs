//! Why a frame has no segment.

#[cfg(doc)]
use super::config::Config;
#[cfg(doc)]
use crate::limits::{DECAP_DEPTH_MAX, LAYERS_MAX};
use crate::wire::Broken;

/// Why a frame has no segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// A link type that is not read.
    LinkType,
    /// No IP: ARP, spanning tree, control protocols of the link.
    NotIp,
    /// IP, but no TCP and no tunnel: DNS, ICMP, IPsec.
    NotTcp,
    /// QUIC (RFC 9000), which HTTP/3 runs over.
    Quic(Quic),
    /// The captured bytes end within a header.
    Truncated(Layer),
    /// A header contradicts itself.
    Malformed(Layer),
    /// More encapsulations than [`DECAP_DEPTH_MAX`], or headers than [`LAYERS_MAX`].
    TooDeep,
    /// VXLAN without the I flag: no network identifier (RFC 7348 §5).
    NoVni,
    /// A network that [`Config::vnis`] refuses.
    VniUnwanted,
    /// In a tunnel from a host that is not one of [`Config::mirrors`].
    MirrorUnwanted,
    /// A connection of the sniffer itself, see [`Config::self_traffic`].
    SelfTraffic,
    /// No tunnel around it, and [`Config::only_tunnelled`] is on.
    NotTunnelled,
    /// In a tunnel that is not one of [`Config::encaps`].
    Encapsulated,
    /// An IP fragment that waits for the others.
    FragmentHeld,
    /// An IP fragment whose bytes had arrived already.
    FragmentDuplicate,
    /// An IP fragment that contradicts itself or the others, or has too many of them.
    FragmentRefused,
}

/// A datagram of QUIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quic {
    /// Bytes of UDP payload, those that were cut off included.
    pub bytes: u32,
    /// A number of the addresses and ports, if a client opens a connection with it.
    pub opens: Option<u64>,
}

/// Where in a frame a header is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// Link header, tags, labels, PPP.
    Link,
    /// IPv4, IPv6, extension headers.
    Ip,
    /// TCP, UDP.
    Transport,
    /// VXLAN, GENEVE, GRE and the like.
    Tunnel,
}

/// The reason for a header in `layer` that cannot be read.
pub(super) fn at(layer: Layer) -> impl Fn(Broken) -> Skip {
    move |broken| match broken {
        Broken::Truncated => Skip::Truncated(layer),
        Broken::Malformed => Skip::Malformed(layer),
    }
}
