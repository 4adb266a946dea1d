//! One frame's way through its headers, whatever they are.
//!
//! Each step reads one header, moves past it and returns what comes next. The order of steps is data, not calls, so
//! that nesting costs no stack and has one bound.

use std::hash::BuildHasher as _;
use std::slice::IterMut;

use foldhash::fast::FixedState;

use super::config::Config;
use super::counters::Counters;
use super::fragments::{Added, Fragments, Key, Piece};
use super::frame::{Frame, LinkType};
use super::network::{Encap, Network, chain};
use super::segment::{Endpoint, Segment, effective_flags, mapped};
use super::skip::{Layer, Quic, Skip, at};
use super::tunnel::{Format, Next, Tunnel};
use crate::limits::{DECAP_DEPTH_MAX, LAYERS_MAX, PACKET_BYTES_MAX};
use crate::time::Timestamp;
use crate::wire::vxlan::Inner;
use crate::wire::{
    Split, erspan, ethernet, fddi, geneve, gre, ipoib, ipv4, ipv6, loopback, mpls, nflog, nsh, ppp,
    protocol, sll, tcp, udp, vxlan, wifi,
};

/// GRE protocol numbers that are no EtherTypes.
const GRE_ERSPAN_I_II: u16 = 0x88be;
const GRE_ERSPAN_III: u16 = 0x22eb;
const GRE_WCCP: u16 = 0x883e;

/// From here on the upper 24 bits of a GRE key around Ethernet frames are an NVGRE subnet (RFC 7637 §3.2 reserves the
/// lower subnets) and the low byte differs by flow; smaller keys are what people number gretap links with.
const NVGRE_KEY_MIN: u32 = 0x0010_0000;

/// VMware's switches, which mirror frames in GRE, set this bit of the key on the frames of one direction only.
const KEY_DIRECTION: u32 = 0x0200_0000;

/// Where the walk is in the frame.
#[derive(Debug)]
pub(super) struct Walk<'a, 'w> {
    config: &'w Config,
    counters: &'w mut Counters,
    fragments: &'w mut Fragments,
    joined: IterMut<'a, Vec<u8>>,
    time: Timestamp,
    link: LinkType,
    /// The captured bytes from the next header on, no more than `wire_len`.
    bytes: &'a [u8],
    /// The same on the wire.
    wire_len: usize,
    /// The last header gave `wire_len`, and gave it for the whole packet.
    is_wire_len_whole: bool,
    /// Addresses of the innermost IP header so far.
    src: [u8; 16],
    dst: [u8; 16],
    network: Network,
    depth: usize,
    vxlan_vni: Option<u32>,
    geneve_vni: Option<u32>,
}

impl<'a, 'w> Walk<'a, 'w> {
    #[inline]
    pub(super) fn new(
        frame: &Frame<'a>,
        config: &'w Config,
        counters: &'w mut Counters,
        fragments: &'w mut Fragments,
        joined: IterMut<'a, Vec<u8>>,
    ) -> Self {
        Self {
            config,
            counters,
            fragments,
            joined,
            time: frame.time,
            link: frame.link,
            bytes: frame.bytes,
            wire_len: (frame.wire_len as usize).max(frame.bytes.len()),
            is_wire_len_whole: false,
            src: [0; 16],
            dst: [0; 16],
            network: Network::default(),
            depth: 0,
            vxlan_vni: None,
            geneve_vni: None,
        }
    }

    /// Reads headers up to the TCP segment.
    #[inline]
    pub(super) fn run(&mut self) -> Result<Segment<'a>, Skip> {
        let mut next = self.link()?;
        for _ in 0..LAYERS_MAX {
            next = match next {
                Next::Protocol(protocol::TCP) => return self.tcp(),
                Next::Protocol(protocol::UDP) => self.udp()?,
                Next::Protocol(protocol) => self.protocol(protocol)?,
                Next::Ethernet => self.ethernet()?,
                Next::EtherType(ether_type) => self.ether_type(ether_type)?,
                Next::Ip => self.ip()?,
                Next::Gre => self.gre()?,
                Next::Mpls => self.mpls()?,
                Next::Nsh => self.nsh()?,
                Next::Ppp => self.ppp()?,
            };
        }
        Err(Skip::TooDeep)
    }

    /// The VNI that the filter tests, where the frame has one.
    #[inline]
    pub(super) fn mirrored(&self) -> Option<u32> {
        self.vxlan_vni.or(self.geneve_vni)
    }

    fn link(&mut self) -> Result<Next, Skip> {
        match self.link {
            LinkType::Ethernet => Ok(Next::Ethernet),
            LinkType::RawIp => Ok(Next::Ip),
            LinkType::LinuxSll => self.after_type(sll::split(self.bytes)),
            LinkType::LinuxSll2 => self.after_type(sll::split_v2(self.bytes)),
            LinkType::Ppp => self.after_type(ppp::split_serial(self.bytes)),
            LinkType::Radiotap => self.after_type(wifi::split_radiotap(self.bytes)),
            LinkType::Wifi => self.after_type(wifi::split(self.bytes)),
            LinkType::Fddi => self.after_type(fddi::split(self.bytes)),
            LinkType::Ipoib => self.after_type(ipoib::split(self.bytes)),
            LinkType::Pppoe => Ok(Next::EtherType(ethernet::PPPOE)),
            LinkType::Null => {
                let (is_ip, after) = loopback::split(self.bytes).map_err(at(Layer::Link))?;
                self.advance(after);
                if is_ip {
                    Ok(Next::Ip)
                } else {
                    Err(Skip::NotIp)
                }
            }
            LinkType::Nflog => {
                let inner = nflog::inner(self.bytes).map_err(at(Layer::Link))?;
                self.replace(inner, inner.len());
                Ok(Next::Ip)
            }
            LinkType::Other(_) => Err(Skip::LinkType),
        }
    }

    #[inline]
    fn ethernet(&mut self) -> Result<Next, Skip> {
        let (header, after) = ethernet::split(self.bytes).map_err(at(Layer::Link))?;
        self.advance(after);
        header.ether_type.map(Next::EtherType).ok_or(Skip::NotIp)
    }

    #[inline]
    fn ether_type(&mut self, ether_type: u16) -> Result<Next, Skip> {
        match ether_type {
            ethernet::IPV4 => self.ipv4(),
            ethernet::IPV6 => self.ipv6(),
            ethernet::VLAN | ethernet::QINQ | ethernet::QINQ_OLD | ethernet::QINQ_OLDER => {
                self.tag(4)
            }
            ethernet::VN_TAG | ethernet::HSR => self.tag(6),
            ethernet::E_TAG | ethernet::CISCO_METADATA => self.tag(8),
            ethernet::MACSEC => self.after_type(ethernet::split_macsec(self.bytes)),
            ethernet::MPLS | ethernet::MPLS_UPSTREAM => Ok(Next::Mpls),
            ethernet::NSH => Ok(Next::Nsh),
            ethernet::PPP => Ok(Next::Ppp),
            ethernet::BRIDGED => Ok(Next::Ethernet),
            ethernet::PPPOE => self.pppoe(),
            ethernet::BACKBONE => self.backbone(),
            ethernet::FABRIC_PATH => {
                let after = self.bytes.get(2..).ok_or(Skip::Truncated(Layer::Link))?;
                self.advance(after);
                Ok(Next::Ethernet)
            }
            ethernet::TRILL => {
                let inner = ethernet::trill_inner(self.bytes).map_err(at(Layer::Link))?;
                self.advance(inner);
                Ok(Next::Ethernet)
            }
            length if length <= ethernet::LENGTH_MAX => {
                // An 802.3 frame behind a tag has its length where the type would be.
                let (header, after) = ethernet::split_llc(self.bytes);
                self.advance(after);
                header.ether_type.map(Next::EtherType).ok_or(Skip::NotIp)
            }
            _ => Err(Skip::NotIp),
        }
    }

    fn tag(&mut self, tag_bytes: usize) -> Result<Next, Skip> {
        let (ether_type, after) =
            ethernet::split_tag(self.bytes, tag_bytes).map_err(at(Layer::Link))?;
        self.advance(after);
        Ok(Next::EtherType(ether_type))
    }

    /// A mirror that cuts a packet leaves this length as it was, so unlike the lengths around it, it bounds the IP length:
    /// some concentrators count the padding of short frames into the latter.
    fn pppoe(&mut self) -> Result<Next, Skip> {
        let (len, after) = ppp::split_pppoe(self.bytes).map_err(at(Layer::Link))?;
        self.advance(after);
        self.limit(usize::from(len));
        self.is_wire_len_whole = true;
        Ok(Next::Ppp)
    }

    fn backbone(&mut self) -> Result<Next, Skip> {
        let Some((&[_, i2, i1, i0], after)) = self.bytes.split_first_chunk() else {
            return Err(Skip::Truncated(Layer::Tunnel));
        };
        self.enter(Encap::Other, Some(u32::from_be_bytes([0, i2, i1, i0])))?;
        self.advance(after);
        Ok(Next::Ethernet)
    }

    fn mpls(&mut self) -> Result<Next, Skip> {
        let (inner, after) = mpls::split(self.bytes).map_err(at(Layer::Link))?;
        self.advance(after);
        Ok(match inner {
            mpls::Inner::Ip => Next::Ip,
            mpls::Inner::Ethernet => Next::Ethernet,
        })
    }

    fn ppp(&mut self) -> Result<Next, Skip> {
        self.after_type(ppp::split(self.bytes))
    }

    fn nsh(&mut self) -> Result<Next, Skip> {
        let (inner, after) = nsh::split(self.bytes).map_err(at(Layer::Tunnel))?;
        self.advance(after);
        Ok(by_inner(inner))
    }

    fn ip(&mut self) -> Result<Next, Skip> {
        match self.bytes.first().map(|first| first >> 4) {
            Some(4) => self.ipv4(),
            Some(6) => self.ipv6(),
            Some(_) => Err(Skip::Malformed(Layer::Ip)),
            None => Err(Skip::Truncated(Layer::Ip)),
        }
    }

    #[inline]
    fn ipv4(&mut self) -> Result<Next, Skip> {
        let (header, after) = ipv4::split(self.bytes).map_err(at(Layer::Ip))?;
        let routed = (header.header_len > 20)
            .then(|| self.bytes.get(..usize::from(header.header_len)))
            .flatten()
            .and_then(ipv4::final_destination);
        self.advance(after);
        if header.total_len != 0 {
            let payload_len = header.total_len.checked_sub(header.header_len);
            self.limit_by_ip(usize::from(payload_len.ok_or(Skip::Malformed(Layer::Ip))?));
        }
        self.src = mapped(header.src);
        self.dst = mapped(routed.unwrap_or(header.dst));
        if header.fragment_offset != 0 || header.more_fragments {
            return self.fragment_v4(&header);
        }
        Ok(Next::Protocol(header.protocol))
    }

    #[inline]
    fn ipv6(&mut self) -> Result<Next, Skip> {
        let (header, after) = ipv6::split(self.bytes).map_err(at(Layer::Ip))?;
        self.advance(after);
        if header.payload_len != 0 {
            self.limit_by_ip(usize::from(header.payload_len));
        } else if header.next == ipv6::HOP_BY_HOP {
            self.limit_by_jumbo_option()?;
        }
        self.src = header.src;
        self.dst = header.dst;
        Ok(Next::Protocol(header.next))
    }

    /// RFC 2675 §2: the option holds the length from the hop-by-hop header on.
    fn limit_by_jumbo_option(&mut self) -> Result<(), Skip> {
        let (_, header, _) =
            ipv6::split_extension(ipv6::HOP_BY_HOP, self.bytes).map_err(at(Layer::Ip))?;
        if let Some(len) = ipv6::jumbo_len(header) {
            self.limit(len as usize);
        }
        Ok(())
    }

    fn protocol(&mut self, protocol: u8) -> Result<Next, Skip> {
        match protocol {
            protocol::IPV4 | protocol::IPV6 => {
                self.enter(Encap::IpIp, None)?;
                Ok(Next::Ip)
            }
            protocol::GRE => Ok(Next::Gre),
            protocol::MPLS => {
                self.enter(Encap::Other, None)?;
                Ok(Next::Mpls)
            }
            protocol::ETHERIP => {
                self.enter(Encap::Other, None)?;
                let after = self.bytes.get(2..).ok_or(Skip::Truncated(Layer::Tunnel))?;
                self.advance(after);
                Ok(Next::Ethernet)
            }
            ipv6::FRAGMENT => self.fragment_v6(),
            ipv6::HOP_BY_HOP
            | ipv6::ROUTING
            | ipv6::DESTINATION
            | ipv6::AUTHENTICATION
            | ipv6::MOBILITY
            | ipv6::HIP
            | ipv6::SHIM6 => self.extension(protocol),
            _ => Err(Skip::NotTcp),
        }
    }

    fn extension(&mut self, kind: u8) -> Result<Next, Skip> {
        let (next, header, after) =
            ipv6::split_extension(kind, self.bytes).map_err(at(Layer::Ip))?;
        if kind == ipv6::ROUTING
            && let Some(destination) = ipv6::final_destination(header)
        {
            self.dst = destination;
        }
        self.advance(after);
        Ok(Next::Protocol(next))
    }

    fn fragment_v4(&mut self, header: &ipv4::Header) -> Result<Next, Skip> {
        let key = self.key(u32::from(header.identification), header.protocol);
        self.fragment(
            key,
            header.fragment_offset,
            header.more_fragments,
            header.protocol,
        )
    }

    fn fragment_v6(&mut self) -> Result<Next, Skip> {
        let (header, after) = ipv6::split_fragment(self.bytes).map_err(at(Layer::Ip))?;
        self.advance(after);
        // An atomic fragment (RFC 6946) is whole.
        if header.offset == 0 && !header.more {
            return Ok(Next::Protocol(header.next));
        }
        let key = self.key(header.identification, 0);
        self.fragment(key, header.offset, header.more, header.next)
    }

    fn key(&self, identification: u32, protocol: u8) -> Key {
        Key {
            network: self.network.id,
            src: self.src,
            dst: self.dst,
            identification,
            protocol,
        }
    }

    fn fragment(&mut self, key: Key, offset: u32, more: bool, next: u8) -> Result<Next, Skip> {
        if !may_hold_tcp(next) {
            return Err(Skip::NotTcp);
        }
        let piece = Piece {
            offset,
            more,
            next,
            bytes: self.bytes,
            wire_len: self.wire_len,
        };
        let payload = match self.fragments.add(key, piece, self.time, self.counters) {
            Added::Complete(payload) => payload,
            Added::Held => return Err(Skip::FragmentHeld),
            Added::Duplicate => return Err(Skip::FragmentDuplicate),
            Added::Refused => return Err(Skip::FragmentRefused),
        };
        let slot = self.joined.next().ok_or(Skip::TooDeep)?;
        *slot = payload.bytes;
        self.replace(slot, payload.wire_len);
        Ok(Next::Protocol(payload.next))
    }

    fn gre(&mut self) -> Result<Next, Skip> {
        let (header, after) = gre::split(self.bytes).map_err(at(Layer::Tunnel))?;
        match header.protocol {
            GRE_ERSPAN_I_II if !header.sequenced => {
                self.enter(Encap::Erspan, None)?;
                self.advance(after);
                Ok(Next::Ethernet)
            }
            GRE_ERSPAN_I_II | GRE_ERSPAN_III => {
                self.advance(after);
                self.erspan()
            }
            protocol => {
                self.enter(
                    Encap::Gre,
                    header.key.map(|key| network_of_key(protocol, key)),
                )?;
                self.advance(after);
                if protocol == GRE_WCCP {
                    self.wccp()
                } else {
                    Ok(Next::EtherType(protocol))
                }
            }
        }
    }

    fn erspan(&mut self) -> Result<Next, Skip> {
        let (header, after) = erspan::split(self.bytes).map_err(at(Layer::Tunnel))?;
        self.enter(Encap::Erspan, Some(header.session))?;
        self.advance(after);
        Ok(if header.ip { Next::Ip } else { Next::Ethernet })
    }

    /// WCCP version 2 has four bytes before the redirected packet, version 1 none.
    fn wccp(&mut self) -> Result<Next, Skip> {
        if self
            .bytes
            .first()
            .is_some_and(|first| !matches!(first >> 4, 4 | 6))
        {
            let after = self.bytes.get(4..).ok_or(Skip::Truncated(Layer::Tunnel))?;
            self.advance(after);
        }
        Ok(Next::Ip)
    }

    #[inline]
    fn udp(&mut self) -> Result<Next, Skip> {
        let (header, payload) = udp::split(self.bytes).map_err(at(Layer::Transport))?;
        let Some(tunnel) = Tunnel::of(header, self.config) else {
            return Err(self.without_tunnel(header, payload));
        };
        match tunnel.format {
            Format::Vxlan => {
                self.advance(payload);
                self.vxlan()
            }
            Format::Geneve => {
                self.advance(payload);
                self.geneve()
            }
            Format::Probable(split) => {
                let (next, inner) = split(payload).map_err(|_| Skip::NotTcp)?;
                self.enter(tunnel.encap, None)?;
                self.advance(inner);
                Ok(next)
            }
        }
    }

    /// A datagram that is no tunnel: QUIC is recognised by its fixed bit (RFC 9000 §17.2), and a client that opens a
    /// connection by an Initial packet of version 1 or 2 (RFC 9369 §3.2).
    #[cold]
    fn without_tunnel(&self, header: udp::Header, payload: &[u8]) -> Skip {
        const PORT: u16 = 443;
        const FIXED_BIT: u8 = 0x40;
        let ports = (header.src_port, header.dst_port);
        let is_quic = (ports.0 == PORT || ports.1 == PORT)
            && payload.first().is_some_and(|first| first & FIXED_BIT != 0);
        if !is_quic {
            return Skip::NotTcp;
        }
        let is_initial = match payload {
            [0xd0..=0xdf, 0x6b, 0x33, 0x43, 0xcf, ..] => true,
            [0xc0..=0xcf, version @ ..] => {
                !matches!(version, [0, 0, 0, 0, ..]) && version.len() > 4
            }
            _ => false,
        };
        let cut = self.wire_len.saturating_sub(self.bytes.len());
        let bytes = u32::try_from(payload.len() + cut).unwrap_or(u32::MAX);
        let hasher = FixedState::with_seed(0);
        let opens =
            (is_initial && ports.1 == PORT).then(|| hasher.hash_one((self.src, self.dst, ports)));
        Skip::Quic(Quic { bytes, opens })
    }

    #[inline]
    fn vxlan(&mut self) -> Result<Next, Skip> {
        self.admit(Encap::Vxlan)?;
        let (header, after) = vxlan::split(self.bytes).map_err(at(Layer::Tunnel))?;
        let vni = header.vni.ok_or(Skip::NoVni)?;
        if self.vxlan_vni.is_none() {
            self.vxlan_vni = Some(vni);
            if !self.config.vnis.wants(vni) {
                return Err(Skip::VniUnwanted);
            }
        }
        self.enter(Encap::Vxlan, Some(vni))?;
        self.advance(after);
        Ok(by_inner(header.inner))
    }

    fn geneve(&mut self) -> Result<Next, Skip> {
        self.admit(Encap::Geneve)?;
        let (header, after) = geneve::split(self.bytes).map_err(at(Layer::Tunnel))?;
        self.enter(Encap::Geneve, Some(header.vni))?;
        self.geneve_vni = self.geneve_vni.or(Some(header.vni));
        self.advance(after);
        Ok(Next::EtherType(header.protocol))
    }

    #[inline]
    fn tcp(&mut self) -> Result<Segment<'a>, Skip> {
        let (header, payload) = tcp::split(self.bytes).map_err(at(Layer::Transport))?;
        let src = Endpoint {
            addr: self.src,
            port: header.src_port,
        };
        let dst = Endpoint {
            addr: self.dst,
            port: header.dst_port,
        };
        if self.network.encap == Encap::Plain {
            let own = &self.config.self_traffic;
            if own.has_port(src.port, dst.port) && own.has(src, dst) {
                return Err(Skip::SelfTraffic);
            }
            if self.config.only_tunnelled {
                return Err(Skip::NotTunnelled);
            }
        }
        if let (None, Some(vni)) = (self.vxlan_vni, self.geneve_vni)
            && !self.config.vnis.wants(vni)
        {
            return Err(Skip::VniUnwanted);
        }
        let payload_wire_len = self.wire_len.checked_sub(usize::from(header.header_len));
        let payload_wire_len = payload_wire_len.filter(|len| *len <= PACKET_BYTES_MAX);
        Ok(Segment {
            time: self.time,
            network: self.network,
            src,
            dst,
            seq: header.seq,
            ack: header.ack,
            flags: effective_flags(&header),
            payload,
            payload_wire_len: payload_wire_len.ok_or(Skip::Malformed(Layer::Transport))? as u32,
        })
    }

    /// Whether an encapsulation here is to be removed. Known before its header is read, so that nothing in it is counted as
    /// if it had been sent by a mirror.
    #[inline]
    fn admit(&self, encap: Encap) -> Result<(), Skip> {
        if !self.config.encaps.has(encap) {
            return Err(Skip::Encapsulated);
        }
        if self.depth == 0 && !self.config.mirrors.wants(u128::from_be_bytes(self.src)) {
            return Err(Skip::MirrorUnwanted);
        }
        Ok(())
    }

    /// Enters an encapsulation. An identifier makes its content a network of its own, see [`Network`].
    #[inline]
    fn enter(&mut self, encap: Encap, identifier: Option<u32>) -> Result<(), Skip> {
        self.admit(encap)?;
        self.depth += 1;
        if self.depth > DECAP_DEPTH_MAX {
            return Err(Skip::TooDeep);
        }
        self.counters.count_removed(encap);
        self.network.encap = encap;
        if let Some(identifier) = identifier {
            self.network.vni = Some(identifier);
            self.network.id = chain(self.network.id, encap, identifier);
        }
        Ok(())
    }

    fn after_type(&mut self, split: Split<'a, Option<u16>>) -> Result<Next, Skip> {
        let (ether_type, after) = split.map_err(at(Layer::Link))?;
        self.advance(after);
        ether_type.map(Next::EtherType).ok_or(Skip::NotIp)
    }

    /// Continues at `after`, which is the end of `bytes`.
    #[inline]
    fn advance(&mut self, after: &'a [u8]) {
        self.wire_len -= self.bytes.len() - after.len();
        self.bytes = after;
    }

    /// What follows is `len` bytes on the wire: fewer than were captured (the rest is padding), or more (they are missing).
    #[inline]
    fn limit(&mut self, len: usize) {
        self.wire_len = len;
        self.bytes = self.bytes.get(..len).unwrap_or(self.bytes);
    }

    #[inline]
    fn limit_by_ip(&mut self, len: usize) {
        let is_whole = std::mem::take(&mut self.is_wire_len_whole);
        self.limit(if is_whole {
            len.min(self.wire_len)
        } else {
            len
        });
    }

    fn replace(&mut self, bytes: &'a [u8], wire_len: usize) {
        self.bytes = bytes;
        self.wire_len = wire_len;
    }
}

fn by_inner(inner: Inner) -> Next {
    match inner {
        Inner::Ethernet => Next::Ethernet,
        Inner::Ip => Next::Ip,
        Inner::Nsh => Next::Nsh,
        Inner::Mpls => Next::Mpls,
    }
}

/// Whether TCP may be inside of a payload: fragments of others are not held.
fn may_hold_tcp(protocol: u8) -> bool {
    matches!(
        protocol,
        protocol::TCP
            | protocol::UDP
            | protocol::IPV4
            | protocol::IPV6
            | protocol::GRE
            | protocol::ETHERIP
            | protocol::MPLS
            | ipv6::AUTHENTICATION
            | ipv6::DESTINATION
            | ipv6::ROUTING
    )
}

/// The part of a GRE key that both directions of a flow share. Two networks that differ only in the bits left out become
/// one, which matters only if they use the same addresses and ports as well; a flow whose directions are taken for two
/// flows always matters.
fn network_of_key(protocol: u16, key: u32) -> u32 {
    match key & !KEY_DIRECTION {
        _ if protocol != ethernet::BRIDGED => key,
        nvgre if nvgre >= NVGRE_KEY_MIN => nvgre & !0xff,
        link => link,
    }
}
