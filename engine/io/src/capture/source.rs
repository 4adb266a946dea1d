//! A ring of one shard, with what the kernel counted for it.

use engine_core::decap::LinkType;
use engine_sys::interfaces::Interface;
use engine_sys::packet::RxRing;

/// One shard's ring, on one interface or on all.
pub struct Source {
    pub(super) name: String,
    /// The link type of its frames; none where interfaces share the ring, and each frame has its own.
    pub(super) link: Option<LinkType>,
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
        let link = link(interface.ethernet);
        Self::open(interface.name.clone(), Some(link), ring, reports_trouble)
    }

    /// `ring` takes frames of several interfaces.
    pub fn shared(ring: RxRing) -> Self {
        Self::open("all interfaces".to_owned(), None, ring, true)
    }

    fn open(name: String, link: Option<LinkType>, ring: RxRing, reports_trouble: bool) -> Self {
        Self {
            name,
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

    /// Whether interfaces share the ring.
    pub(super) fn is_shared(&self) -> bool {
        self.link.is_none()
    }

    /// Blocks as a share of the ring.
    pub(super) fn share(&self, blocks: usize) -> f32 {
        blocks as f32 / self.ring.blocks() as f32
    }
}

/// The link type of frames with an Ethernet header, or without one.
#[inline]
pub(super) fn link(is_ethernet: bool) -> LinkType {
    if is_ethernet {
        LinkType::Ethernet
    } else {
        LinkType::RawIp
    }
}
