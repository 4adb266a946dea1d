//! What is decapsulated, and whose traffic is wanted.

use super::self_traffic::SelfTraffic;
use super::tunnels::{EncapSet, MirrorSources};
use super::vni::VniFilter;
use crate::wire::{geneve, vxlan};

/// Which encapsulations are removed, and whose traffic is wanted.
#[derive(Clone, Debug)]
pub struct Config {
    /// UDP ports that carry VXLAN. Default [`vxlan::PORT`]; Linux devices without a setting use 8472.
    pub vxlan_ports: Vec<u16>,
    /// UDP ports that carry GENEVE. Default [`geneve::PORT`].
    pub geneve_ports: Vec<u16>,
    /// Networks to read, by the VNI of the outermost VXLAN header, since that is the mirror's own (one inside it belongs to
    /// the mirrored host's overlay), or by that of the outermost GENEVE header where there is no VXLAN. Traffic with
    /// neither is read.
    pub vnis: VniFilter,
    /// Skip segments that were in no tunnel: on a mirror appliance they are its own traffic. Default off.
    pub only_tunnelled: bool,
    /// Skip the sniffer's own connections, outside of any tunnel. Default none.
    pub self_traffic: SelfTraffic,
    /// The encapsulations that are removed. Default all.
    pub encaps: EncapSet,
    /// The hosts whose tunnels are removed, by the source address of the outermost packet. Default everybody.
    pub mirrors: MirrorSources,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            vxlan_ports: vec![vxlan::PORT],
            geneve_ports: vec![geneve::PORT],
            vnis: VniFilter::default(),
            only_tunnelled: false,
            self_traffic: SelfTraffic::default(),
            encaps: EncapSet::ALL,
            mirrors: MirrorSources::default(),
        }
    }
}
