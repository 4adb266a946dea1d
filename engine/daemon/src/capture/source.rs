//! One shard's ring on one interface, and what it counted.

use engine_core::decap::LinkType;
use engine_sys::interfaces::Interface;
use engine_sys::packet::RxRing;

/// One captured interface.
pub struct Source {
    pub(super) name: String,
    pub(super) link: LinkType,
    /// Its ring.
    pub ring: RxRing,
    pub(super) is_gone: bool,
    /// One shard of those on an interface says what happens to it.
    pub(super) tells: bool,
    pub(super) dropped: u64,
    pub(super) seen: u64,
    pub(super) freezes: u64,
    /// After the stop: a frame came that was sent after it, so that none from before is missing.
    pub(super) is_drained: bool,
}

impl Source {
    /// `ring` is open on `interface`; `tells` is for one of the interface's rings.
    pub fn new(interface: &Interface, ring: RxRing, tells: bool) -> Self {
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
            tells,
            dropped: 0,
            seen: 0,
            freezes: 0,
            is_drained: false,
        }
    }

    /// Blocks as a share of its ring.
    pub(super) fn share(&self, blocks: usize) -> f32 {
        blocks as f32 / self.ring.blocks() as f32
    }
}
