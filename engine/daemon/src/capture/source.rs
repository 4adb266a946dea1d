//! A ring of one shard on one interface, with what the kernel counted for it.

use engine_core::decap::LinkType;
use engine_sys::interfaces::Interface;
use engine_sys::packet::RxRing;

/// One shard's ring on one interface.
pub struct Source {
    pub(super) name: String,
    pub(super) link: LinkType,
    /// Its ring.
    pub ring: RxRing,
    pub(super) is_gone: bool,
    /// Trouble of an interface is reported by one of the shards that capture on it.
    pub(super) reports_trouble: bool,
    pub(super) dropped: u64,
    pub(super) seen: u64,
    pub(super) freezes: u64,
    /// Set after the stop, once a frame arrived that is later than it: none from before is missing.
    pub(super) is_drained: bool,
}

impl Source {
    /// `ring` is open on `interface`; `reports_trouble` is true for one of the interface's rings.
    pub fn new(interface: &Interface, ring: RxRing, reports_trouble: bool) -> Self {
        let link = if interface.ethernet {
            LinkType::Ethernet
        } else {
            LinkType::RawIp
        };
        Self {
            name: interface.name.clone(),
            link,
            ring,
            is_gone: false,
            reports_trouble,
            dropped: 0,
            seen: 0,
            freezes: 0,
            is_drained: false,
        }
    }

    /// Blocks as a share of the ring.
    pub(super) fn share(&self, blocks: usize) -> f32 {
        blocks as f32 / self.ring.blocks() as f32
    }
}
