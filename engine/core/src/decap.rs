//! Frame in, inner TCP segment out, or the reason why not.
//!
//! A frame is walked header by header: link, tags, IP, tunnels, up to TCP. The captured bytes are borrowed; only IP
//! fragments are copied. Bounds: [`DECAP_DEPTH_MAX`] encapsulations, [`LAYERS_MAX`] headers, and those of `fragments`.
//!
//! Two lengths go along: the bytes at hand, and the bytes on the wire. An IP header sets the second to what it says,
//! also when that is more than came: a mirror cuts packets to its own MTU and leaves the inner length as it was, so the
//! difference is exactly what is missing, and what lies after the length is Ethernet padding or a checksum, never
//! payload. A length of 0 is a packet that no network card has cut yet (TSO, GSO, BIG TCP); the frame's length counts.
//!
//! No checksum is verified: offload leaves them unset on the sender, and a truncated packet cannot have a right one.

mod fragments;
mod plain;
#[cfg(test)]
mod tests;
mod vni;
mod walk;

use fragments::Fragments;
use vni::VniTable;
pub use vni::{VniError, VniFilter, VniSeen};
use walk::{OTHER_UDP_PORTS, Walk};

use crate::counters;
use crate::limits::FRAGMENT_NESTING_MAX;
#[cfg(doc)]
use crate::limits::{DECAP_DEPTH_MAX, LAYERS_MAX};
use crate::time::Timestamp;

/// Walks frames to their TCP segments; owned by one shard.
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
    /// A walker that has seen nothing.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            counters: Counters::default(),
            fragments: Fragments::default(),
            joined: Default::default(),
            vnis: VniTable::new(),
        }
    }

    /// One frame's segment, or why it has none; either is counted.
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

    /// What became of all frames so far.
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

/// Which encapsulations are undone, and whose traffic is wanted.
#[derive(Clone, Debug)]
pub struct Config {
    /// UDP ports that carry VXLAN. Default 4789 (RFC 7348 §8); Linux devices without a setting use 8472.
    pub vxlan_ports: Vec<u16>,
    /// UDP ports that carry GENEVE. Default 6081 (RFC 8926 §3.3).
    pub geneve_ports: Vec<u16>,
    /// Networks to read. It tests the outermost VXLAN header, since that is the mirror's own (one inside it belongs to
    /// the mirrored host's overlay), or the outermost GENEVE header where there is no VXLAN. Traffic with neither
    /// is not its business.
    pub vnis: VniFilter,
    /// Skip segments that came out of no tunnel: on a mirror appliance they are its own traffic. Default off.
    pub only_tunnelled: bool,
    /// Undo tunnels. Off when a kernel's tunnel link is captured beside its carrier, so that nothing is read twice.
    /// Default on.
    pub decapsulate: bool,
}

impl Config {
    /// The UDP ports behind which a tunnel is looked for. For a kernel filter: no other datagram has a segment in it.
    pub fn udp_ports(&self) -> Vec<u16> {
        let ports = self.vxlan_ports.iter().chain(&self.geneve_ports);
        ports.chain(&OTHER_UDP_PORTS).copied().collect()
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            vxlan_ports: vec![4789],
            geneve_ports: vec![6081],
            vnis: VniFilter::default(),
            only_tunnelled: false,
            decapsulate: true,
        }
    }
}

/// Why a frame gave no segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// A link type that we do not read.
    LinkType,
    /// No IP: ARP, spanning tree, control protocols of the link.
    NotIp,
    /// IP, but no TCP and no tunnel: DNS, QUIC, ICMP, IPsec.
    NotTcp,
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
    /// No tunnel around it, and [`Config::only_tunnelled`] asks for one.
    NotTunnelled,
    /// In a tunnel, and [`Config::decapsulate`] is off.
    Encapsulated,
    /// An IP fragment that waits for the others.
    FragmentHeld,
    /// An IP fragment whose bytes were there already.
    FragmentDuplicate,
    /// An IP fragment that contradicts itself or the others, or has too many of them.
    FragmentRefused,
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

counters! {
    /// What became of frames; `frames` is the sum of `segments`, of everything `skipped_*`, and of `held_fragments`.
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
        /// Frames with more nested headers than are undone.
        skipped_too_deep,
        /// VXLAN frames without the flag that says there is a VNI.
        skipped_no_vni,
        /// Frames of a VNI that is not in the list.
        skipped_vni_unwanted,
        /// Frames outside of any tunnel where only tunnelled traffic is wanted.
        skipped_not_tunnelled,
        /// Frames in a tunnel where tunnels are left alone.
        skipped_encapsulated,
        /// Frames with an IP fragment whose bytes were there already.
        skipped_fragment_duplicate,
        /// Frames with an IP fragment that fits nothing.
        skipped_fragment_refused,
        /// Frames with an IP fragment that was kept for its datagram and did not complete it.
        held_fragments,
        /// Segments whose payload was cut by a mirror or a snap length.
        segments_cut,
        /// Payload bytes at hand in segments.
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
        /// Fragments whose bytes were there already.
        fragments_duplicate,
        /// Fragments that fit nothing.
        fragments_refused,
        /// Fragments that became part of a whole datagram.
        fragments_joined,
        /// Fragments whose datagram waited too long.
        fragments_expired,
        /// Fragments whose datagram made room for another.
        fragments_evicted,
        /// Fragments that covered, in part, bytes that were there.
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

    /// Frames in no box of the ledger. Anything but 0 is a bug.
    pub fn unaccounted(&self) -> u64 {
        self.frames
            .abs_diff(self.segments + self.skipped() + self.held_fragments)
    }

    #[inline]
    fn count_segment(&mut self, payload_len: usize, payload_wire_len: u32) {
        let cut = u64::from(payload_wire_len).saturating_sub(payload_len as u64);
        self.segments += 1;
        self.segments_cut += u64::from(cut > 0);
        self.payload_bytes += payload_len as u64;
        self.payload_bytes_cut += cut;
    }

    fn count_skip(&mut self, skip: Skip) {
        let cell = match skip {
            Skip::LinkType => &mut self.skipped_link_type,
            Skip::NotIp => &mut self.skipped_not_ip,
            Skip::NotTcp => &mut self.skipped_not_tcp,
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
            Skip::NotTunnelled => &mut self.skipped_not_tunnelled,
            Skip::Encapsulated => &mut self.skipped_encapsulated,
            Skip::FragmentHeld => &mut self.held_fragments,
            Skip::FragmentDuplicate => &mut self.skipped_fragment_duplicate,
            Skip::FragmentRefused => &mut self.skipped_fragment_refused,
        };
        *cell += 1;
    }
}

/// How the first bytes of a frame are to be read (the link layer, LINKTYPE_* of the capture file formats).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkType {
    /// Ethernet II or 802.3 (LINKTYPE_ETHERNET, 1).
    Ethernet,
    /// IPv4 or IPv6 without a link header (LINKTYPE_RAW 101 and 12/14, LINKTYPE_IPV4 228, LINKTYPE_IPV6 229).
    RawIp,
    /// Linux cooked capture v1 (LINKTYPE_LINUX_SLL, 113).
    LinuxSll,
    /// Linux cooked capture v2 (LINKTYPE_LINUX_SLL2, 276).
    LinuxSll2,
    /// BSD loopback, host byte order of the capturing machine (LINKTYPE_NULL 0) or network order (LINKTYPE_LOOP 108).
    Null,
    /// PPP with or without HDLC framing (LINKTYPE_PPP 9, LINKTYPE_PPP_HDLC 50), or Cisco HDLC (LINKTYPE_C_HDLC 104).
    Ppp,
    /// PPPoE from its own header on (LINKTYPE_PPP_ETHER, 51).
    Pppoe,
    /// Linux netfilter log (LINKTYPE_NFLOG, 239).
    Nflog,
    /// 802.11 with a radiotap header (LINKTYPE_IEEE802_11_RADIOTAP, 127): monitor mode.
    Radiotap,
    /// 802.11 without one (LINKTYPE_IEEE802_11, 105).
    Wifi,
    /// FDDI (LINKTYPE_FDDI, 10).
    Fddi,
    /// IP over InfiniBand (LINKTYPE_IPOIB, 242).
    Ipoib,
    /// Not one that we read; the LINKTYPE number.
    Other(u32),
}

/// One frame as a packet ring or a capture file gives it.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// When the kernel saw it.
    pub time: Timestamp,
    /// How to read `bytes`.
    pub link: LinkType,
    /// The captured bytes, from the link header on.
    pub bytes: &'a [u8],
    /// Length on the wire; more than `bytes.len()` when the capture cut it.
    pub wire_len: u32,
    /// The VLAN tag (TCI) that the kernel took out of the frame, if it did.
    pub vlan: Option<u16>,
}

/// An address, IPv4 as `::ffff:a.b.c.d`, and a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// The address in network order; IPv4 is mapped (RFC 4291 §2.5.5.2).
    pub addr: [u8; 16],
    /// The TCP port.
    pub port: u16,
}

/// Which network an address belongs to: equal addresses under two VNIs are different hosts.
///
/// A hash of all tunnel identifiers on the way (kind and VNI or key, in order), 0 for the plain network, with the
/// innermost identifier kept readable for annotations. Both directions of a flow must come to the same id, so only
/// what both carry goes in:
///
/// - VXLAN and GENEVE VNIs, GRE keys, ERSPAN sessions, backbone service identifiers (802.1ah). Of a key around
///   Ethernet only what is no flow's (the low byte of NVGRE) and no direction's (a bit of VMware's mirrors).
/// - Not the addresses of tunnels: the two hosts of a flow are mirrored from different ones.
/// - Not the presence of a tunnel without identifier (GRE without key, IP in IP, ERSPAN I): load balancers tunnel the
///   requests and let the responses go plainly.
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

/// An encapsulation that was undone.
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

/// TCP flag bits (RFC 9293 §3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub u8);

impl Flags {
    /// No more data from sender.
    pub const FIN: u8 = 0x01;
    /// Synchronize sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// The acknowledgement number is valid.
    pub const ACK: u8 = 0x10;

    /// Whether any of `bits` is set.
    pub const fn has(self, bits: u8) -> bool {
        self.0 & bits != 0
    }
}

/// One inner TCP segment, borrowed from the frame (or from the fragment store).
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// Time of the frame that completed it.
    pub time: Timestamp,
    /// The network its addresses belong to.
    pub network: Network,
    /// Sender.
    pub src: Endpoint,
    /// Receiver.
    pub dst: Endpoint,
    /// Sequence number of the first payload byte (of the SYN if that is set).
    pub seq: u32,
    /// Acknowledgement number; meaningful with [`Flags::ACK`].
    pub ack: u32,
    /// Flags.
    pub flags: Flags,
    /// The payload bytes at hand.
    pub payload: &'a [u8],
    /// How long the payload was on the wire by the IP header; more than `payload.len()` when a mirror or a snap
    /// length cut the packet. Ethernet padding is never part of it.
    pub payload_wire_len: u32,
}
