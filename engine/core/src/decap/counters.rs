//! The ledger of decapsulation: every frame is a segment, a held fragment or skipped for one reason.

use super::network::Encap;
use super::skip::{Layer, Skip};
use crate::counters;

counters! {
    /// What became of frames: `frames` is the sum of `segments`, of everything `skipped_*`, and of `held_fragments`.
    pub struct Counters {
        /// Frames in.
        frames,
        /// Frames that gave a TCP segment.
        segments,
        /// Frames of a link type that is not read.
        skipped_link_type,
        /// Frames without IP: ARP, spanning tree and the like.
        skipped_not_ip,
        /// Frames with IP but neither TCP nor a tunnel.
        skipped_not_tcp,
        /// Frames with QUIC on UDP port 443.
        skipped_quic,
        /// Frames cut within the link header.
        skipped_truncated_link,
        /// Frames cut within an IP header.
        skipped_truncated_ip,
        /// Frames cut within the TCP or UDP header.
        skipped_truncated_transport,
        /// Frames cut within a tunnel header.
        skipped_truncated_tunnel,
        /// Frames with a broken link header.
        skipped_malformed_link,
        /// Frames with a broken IP header.
        skipped_malformed_ip,
        /// Frames with a broken TCP header.
        skipped_malformed_transport,
        /// Frames with a broken tunnel header.
        skipped_malformed_tunnel,
        /// Frames with more nested headers than are removed.
        skipped_too_deep,
        /// VXLAN frames without the flag for a VNI.
        skipped_no_vni,
        /// Frames of a VNI that is not in the list.
        skipped_vni_unwanted,
        /// Frames in tunnels from hosts whose tunnels are not read.
        skipped_mirror_unwanted,
        /// Frames of the sniffer's own connections.
        skipped_self_traffic,
        /// Frames outside of any tunnel where only tunnelled traffic is wanted.
        skipped_not_tunnelled,
        /// Frames in a tunnel where tunnels are not removed.
        skipped_encapsulated,
        /// Frames with an IP fragment whose bytes had arrived already.
        skipped_fragment_duplicate,
        /// Frames with an IP fragment that contradicts itself or the others of its datagram.
        skipped_fragment_refused,
        /// Frames with an IP fragment that was kept for its datagram and did not complete it.
        held_fragments,
        /// Segments whose payload was cut by a mirror or a snap length.
        segments_cut,
        /// Payload bytes captured in segments.
        payload_bytes,
        /// Payload bytes that the cut segments lack.
        payload_bytes_cut,
        /// VXLAN headers removed.
        undone_vxlan,
        /// GENEVE headers removed.
        undone_geneve,
        /// GRE headers removed.
        undone_gre,
        /// ERSPAN headers removed.
        undone_erspan,
        /// IP headers around IP removed.
        undone_ip_in_ip,
        /// Headers of other tunnels removed.
        undone_other,
        /// Frames of VNIs beyond those that are counted one by one.
        vni_frames_untracked,
        /// IP fragments, also those inside of tunnels: stored, duplicate or refused.
        fragments,
        /// Fragments stored: joined, expired, evicted, or waiting.
        fragments_stored,
        /// Fragments whose bytes had arrived already.
        fragments_duplicate,
        /// Fragments that contradict themselves or the others of their datagram.
        fragments_refused,
        /// Fragments that became part of a complete datagram.
        fragments_joined,
        /// Fragments whose datagram waited too long.
        fragments_expired,
        /// Fragments whose datagram was evicted for another.
        fragments_evicted,
        /// Fragments some of whose bytes had arrived already.
        fragments_overlapping,
        /// Datagrams put together from fragments.
        datagrams_joined,
    }
}

impl Counters {
    /// Frames skipped, for whatever reason; held fragments are not among them.
    pub fn skipped(&self) -> u64 {
        self.skipped_by_reason().map(|(_, count)| count).sum()
    }

    /// Frames skipped, for each reason.
    pub fn skipped_by_reason(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
        let named = Self::FIELDS.iter().zip(self.values());
        named.filter_map(|(field, count)| Some((field.name.strip_prefix("skipped_")?, count)))
    }

    /// Frames in no bucket of the ledger. Anything but 0 is a bug.
    pub fn unaccounted(&self) -> u64 {
        self.frames
            .abs_diff(self.segments + self.skipped() + self.held_fragments)
    }

    #[inline]
    pub(super) fn count_segment(&mut self, payload_len: usize, payload_wire_len: u32) {
        let cut = u64::from(payload_wire_len).saturating_sub(payload_len as u64);
        self.segments += 1;
        self.segments_cut += u64::from(cut > 0);
        self.payload_bytes += payload_len as u64;
        self.payload_bytes_cut += cut;
    }

    /// Counts an encapsulation that was removed.
    #[inline]
    pub(super) fn count_removed(&mut self, encap: Encap) {
        *match encap {
            Encap::Vxlan => &mut self.undone_vxlan,
            Encap::Geneve => &mut self.undone_geneve,
            Encap::Gre => &mut self.undone_gre,
            Encap::Erspan => &mut self.undone_erspan,
            Encap::IpIp => &mut self.undone_ip_in_ip,
            Encap::Plain | Encap::Other => &mut self.undone_other,
        } += 1;
    }

    pub(super) fn count_skip(&mut self, skip: Skip) {
        let cell = match skip {
            Skip::LinkType => &mut self.skipped_link_type,
            Skip::NotIp => &mut self.skipped_not_ip,
            Skip::NotTcp => &mut self.skipped_not_tcp,
            Skip::Quic(_) => &mut self.skipped_quic,
            Skip::Truncated(Layer::Link) => &mut self.skipped_truncated_link,
            Skip::Truncated(Layer::Ip) => &mut self.skipped_truncated_ip,
            Skip::Truncated(Layer::Transport) => &mut self.skipped_truncated_transport,
            Skip::Truncated(Layer::Tunnel) => &mut self.skipped_truncated_tunnel,
            Skip::Malformed(Layer::Link) => &mut self.skipped_malformed_link,
            Skip::Malformed(Layer::Ip) => &mut self.skipped_malformed_ip,
            Skip::Malformed(Layer::Transport) => &mut self.skipped_malformed_transport,
            Skip::Malformed(Layer::Tunnel) => &mut self.skipped_malformed_tunnel,
            Skip::TooDeep => &mut self.skipped_too_deep,
            Skip::NoVni => &mut self.skipped_no_vni,
            Skip::VniUnwanted => &mut self.skipped_vni_unwanted,
            Skip::MirrorUnwanted => &mut self.skipped_mirror_unwanted,
            Skip::SelfTraffic => &mut self.skipped_self_traffic,
            Skip::NotTunnelled => &mut self.skipped_not_tunnelled,
            Skip::Encapsulated => &mut self.skipped_encapsulated,
            Skip::FragmentHeld => &mut self.held_fragments,
            Skip::FragmentDuplicate => &mut self.skipped_fragment_duplicate,
            Skip::FragmentRefused => &mut self.skipped_fragment_refused,
        };
        *cell += 1;
    }
}
