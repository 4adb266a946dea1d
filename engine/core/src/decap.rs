//! Decapsulation: removes link headers, tags and tunnels from a frame, down to its innermost TCP segment.
//!
//! A frame is read header by header: link, tags, IP, tunnels, up to TCP. The captured bytes are borrowed; only IP
//! fragments are copied. Bounds: [`DECAP_DEPTH_MAX`] encapsulations, [`LAYERS_MAX`] headers, and those of `fragments`.
//!
//! Two lengths are kept for what remains: the captured length, and the wire length. An IP header sets the second, also
//! when it claims more than was captured: a mirror cuts packets to its own MTU and leaves the inner length as it was, so
//! the difference is exactly what is missing, and what lies after the length is Ethernet padding or a checksum, never
//! payload. A length of 0 is a packet that no network card has cut yet (TSO, GSO, BIG TCP); the frame's length counts.
//!
//! No checksum is verified: offload leaves them unset on the sender, and a truncated packet cannot have a right one.
//!
//! ```
//! use engine_core::decap::{Config, Decap, Frame, LinkType, Skip};
//! use engine_core::time::Timestamp;
//!
//! // An IPv4 header, then a TCP header without payload: the SYN of 10.0.0.1:40000 to 10.0.0.2:80.
//! let mut packet = vec![0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
//! packet.extend([0x9c, 0x40, 0, 80, 0, 0, 0, 7, 0, 0, 0, 0, 0x50, 0x02, 0, 0, 0, 0, 0, 0]);
//!
//! fn frame(bytes: &[u8]) -> Frame<'_> {
//!     Frame {
//!         time: Timestamp::ZERO,
//!         link: LinkType::RawIp,
//!         bytes,
//!         wire_len: 40,
//!         vlan: None,
//!     }
//! }
//!
//! let mut decap = Decap::new(Config::default());
//! let segment = decap.frame(&frame(&packet)).unwrap();
//! assert_eq!((segment.src.port, segment.dst.port, segment.seq), (40_000, 80, 7));
//!
//! packet[9] = 1; // ICMP
//! assert_eq!(decap.frame(&frame(&packet)).unwrap_err(), Skip::NotTcp);
//! assert_eq!(decap.counters().skipped_not_tcp, 1);
//! ```

mod config;
mod counters;
mod fragments;
mod frame;
mod network;
mod plain;
mod segment;
mod self_traffic;
mod skip;
#[cfg(test)]
mod tests;
mod tunnel;
mod tunnels;
mod vni;
mod walk;

use crate::limits::FRAGMENT_NESTING_MAX;
#[cfg(doc)]
use crate::limits::{DECAP_DEPTH_MAX, LAYERS_MAX};

pub use config::Config;
pub use counters::Counters;
use fragments::Fragments;
pub use frame::{Frame, LinkType};
pub use network::{Encap, Network};
pub use segment::{Endpoint, Flags, Segment};
pub use self_traffic::SelfTraffic;
pub use skip::{Layer, Quic, Skip};
pub use tunnels::{EncapSet, MirrorSourceError, MirrorSources};
use vni::VniTable;
pub use vni::{VniError, VniFilter, VniSeen};
use walk::Walk;

/// Finds the TCP segments of frames; owned by one shard.
#[derive(Debug)]
pub struct Decap {
    config: Config,
    counters: Counters,
    fragments: Fragments,
    /// Payloads that the current frame completed; its segment may borrow from them.
    joined: [Vec<u8>; FRAGMENT_NESTING_MAX],
    vnis: VniTable,
}

impl Decap {
    /// A decapsulation without frames so far.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            counters: Counters::default(),
            fragments: Fragments::default(),
            joined: Default::default(),
            vnis: VniTable::new(),
        }
    }

    /// The segment of a frame, or why it has none; either is counted.
    #[inline]
    pub fn frame<'a>(&'a mut self, frame: &Frame<'a>) -> Result<Segment<'a>, Skip> {
        let Some(plain) = plain::read(frame, &self.config) else {
            return self.walk(frame);
        };
        self.counters.frames += 1;
        if let Some(vni) = plain.network.vni {
            self.counters.undone_vxlan += 1;
            let is_tracked = self.vnis.note(vni, &self.config.vnis);
            self.counters.vni_frames_untracked += u64::from(!is_tracked);
        }
        self.counters
            .count_segment(plain.payload.len(), plain.payload_wire_len.into());
        Ok(plain.segment(frame.time))
    }

    fn walk<'a>(&'a mut self, frame: &Frame<'a>) -> Result<Segment<'a>, Skip> {
        let Self {
            config,
            counters,
            fragments,
            joined,
            vnis,
        } = self;
        let mut walk = Walk::new(frame, config, counters, fragments, joined.iter_mut());
        let result = walk.run();
        let mirrored = walk.mirrored();
        counters.frames += 1;
        if let Some(vni) = mirrored
            && !vnis.note(vni, &config.vnis)
        {
            counters.vni_frames_untracked += 1;
        }
        match &result {
            Ok(segment) => {
                counters.count_segment(segment.payload.len(), segment.payload_wire_len);
            }
            Err(skip) => counters.count_skip(*skip),
        }
        result
    }

    /// The counters of all frames so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The networks that mirrored frames came from, wanted or not, in order of appearance; at most
    /// [`VNIS_SEEN_MAX`](crate::limits::VNIS_SEEN_MAX).
    pub fn vnis_seen(&self) -> &[VniSeen] {
        self.vnis.seen()
    }

    /// IP fragments that wait for the rest of their datagram.
    pub fn fragments_waiting(&self) -> u64 {
        self.fragments.waiting()
    }
}
