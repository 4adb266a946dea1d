//! Networks: whose addresses a segment has, by the encapsulations that were removed around it.

use crate::mix::{GOLDEN_GAMMA, mix};

/// Which network an address belongs to: equal addresses under two VNIs are different hosts.
///
/// The id is a hash of all tunnel identifiers on the way (kind and VNI or key, in order), 0 for the plain network; the
/// innermost identifier is kept readable for annotations. Both directions of a flow must have the same id, so only
/// what both carry goes in:
///
/// - VXLAN and GENEVE VNIs, GRE keys, ERSPAN sessions, backbone service identifiers (802.1ah). Of a key around
///   Ethernet not the parts that differ by flow (the low byte of NVGRE) or by direction (a bit of VMware's mirrors).
/// - Not the addresses of tunnels: the two hosts of a flow are mirrored from different ones.
/// - Not the presence of a tunnel without identifier (GRE without key, IP in IP, ERSPAN I): load balancers tunnel the
///   requests and not the responses.
/// - Not numbers that each direction chooses for itself: MPLS labels, GTP endpoints, L2TP sessions, PPTP calls.
/// - Not VLAN tags: mirrors and trunk ports often tag one direction only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Network {
    /// Distinguishes networks in the flow key; equal only for the same chain of tunnel identifiers.
    pub id: u64,
    /// The innermost VNI, GRE key or ERSPAN session, where there is one.
    pub vni: Option<u32>,
    /// The innermost encapsulation.
    pub encap: Encap,
}

/// An encapsulation that was removed.
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

impl Encap {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 7] = [
        Self::Plain,
        Self::Vxlan,
        Self::Geneve,
        Self::Gre,
        Self::Erspan,
        Self::IpIp,
        Self::Other,
    ];

    /// What annotations call it; nothing where nothing was removed.
    pub const fn label(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Vxlan => Some("vxlan"),
            Self::Geneve => Some("geneve"),
            Self::Gre => Some("gre"),
            Self::Erspan => Some("erspan"),
            Self::IpIp => Some("ipip"),
            Self::Other => Some("other"),
        }
    }
}

/// Adds an identifier to a chain of them; the order counts. The finalizer is that of splitmix64, a bijection: two
/// chains of one identifier never collide.
#[inline]
pub(super) fn chain(id: u64, encap: Encap, identifier: u32) -> u64 {
    let tagged = (encap as u64 + 1) << 32 | u64::from(identifier);
    mix(id.rotate_left(23).wrapping_add(GOLDEN_GAMMA) ^ tagged)
}
