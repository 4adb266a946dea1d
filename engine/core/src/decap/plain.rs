//! The usual frame, read in one go: Ethernet, IPv4 or IPv6 without options or extensions, TCP; also inside of VXLAN in
//! such a frame.
//!
//! Finds the segment that [`Walk`](super::walk::Walk) would find, at a third of its instructions, or nothing: a frame
//! that is unusual, unwanted, malformed or cut within its headers is left to the walk, which alone decides why a frame
//! is skipped.

use super::config::Config;
use super::frame::{Frame, LinkType};
use super::network::{Encap, Network, chain};
use super::segment::{Endpoint, Segment, effective_flags, mapped};
use crate::time::Timestamp;
use crate::wire::vxlan::Inner;
use crate::wire::{ethernet, ipv4, ipv6, protocol, tcp, udp, vxlan};

/// The fields of a plain frame.
///
/// As numbers, not bytes, and made into a [`Segment`] at its final place: if it were built earlier, it would be copied
/// right after it was written, in wider pieces than it was written in, and a processor waits for those.
pub(super) struct Plain<'a> {
    /// Its VNI, if any, is that of a VXLAN header.
    pub(super) network: Network,
    src: u128,
    dst: u128,
    header: tcp::Header,
    pub(super) payload: &'a [u8],
    pub(super) payload_wire_len: u16,
}

/// The payload of a usual IP header.
struct Packet<'a> {
    src: u128,
    dst: u128,
    protocol: u8,
    /// As long as by the header, or as far as it was captured.
    payload: &'a [u8],
    payload_len: u16,
}

/// Reads a plain frame.
#[inline]
pub(super) fn read<'a>(frame: &Frame<'a>, config: &Config) -> Option<Plain<'a>> {
    if frame.link != LinkType::Ethernet {
        return None;
    }
    let outer = packet(frame.bytes)?;
    let (network, packet) = match outer.protocol {
        protocol::TCP if !config.only_tunnelled => (Network::default(), outer),
        protocol::UDP => tunnelled(&outer, config)?,
        _ => return None,
    };
    let (header, payload) = tcp::split(packet.payload).ok()?;
    let own = &config.self_traffic;
    if own.has_port(header.src_port, header.dst_port)
        && network.encap == Encap::Plain
        && own.has(
            endpoint(packet.src, header.src_port),
            endpoint(packet.dst, header.dst_port),
        )
    {
        return None;
    }
    Some(Plain {
        network,
        src: packet.src,
        dst: packet.dst,
        header,
        payload,
        payload_wire_len: packet.payload_len.checked_sub(header.header_len)?,
    })
}

impl<'a> Plain<'a> {
    /// The segment.
    #[inline]
    pub(super) fn segment(self, time: Timestamp) -> Segment<'a> {
        Segment {
            time,
            network: self.network,
            src: endpoint(self.src, self.header.src_port),
            dst: endpoint(self.dst, self.header.dst_port),
            seq: self.header.seq,
            ack: self.header.ack,
            flags: effective_flags(&self.header),
            payload: self.payload,
            payload_wire_len: u32::from(self.payload_wire_len),
        }
    }
}

#[inline]
fn endpoint(addr: u128, port: u16) -> Endpoint {
    Endpoint {
        addr: addr.to_be_bytes(),
        port,
    }
}

/// The TCP packet in the VXLAN in a datagram.
#[inline]
fn tunnelled<'a>(outer: &Packet<'a>, config: &Config) -> Option<(Network, Packet<'a>)> {
    let (header, payload) = udp::split(outer.payload).ok()?;
    let port = header.dst_port;
    let is_wanted = port != vxlan::PORT_GPE
        && config.vxlan_ports.contains(&port)
        && config.encaps.has(Encap::Vxlan)
        && config.mirrors.wants(outer.src);
    if !is_wanted {
        return None;
    }
    let (header, frame) = vxlan::split(payload).ok()?;
    let vni = header.vni.filter(|vni| config.vnis.wants(*vni))?;
    if header.inner != Inner::Ethernet {
        return None;
    }
    let network = Network {
        id: chain(0, Encap::Vxlan, vni),
        vni: Some(vni),
        encap: Encap::Vxlan,
    };
    let inner = packet(frame)?;
    (inner.protocol == protocol::TCP).then_some((network, inner))
}

#[inline]
fn packet(frame: &[u8]) -> Option<Packet<'_>> {
    let (&[.., t1, t0], packet) = frame.split_first_chunk::<14>()?;
    let (src, dst, protocol, payload_len, after) = match u16::from_be_bytes([t1, t0]) {
        ethernet::IPV4 => {
            let (header, after) = ipv4::split(packet).ok()?;
            let is_whole = header.fragment_offset == 0 && !header.more_fragments;
            if !is_whole || header.header_len != 20 {
                return None;
            }
            // Without a length, on frames that no card has cut yet, there is nothing to subtract from.
            let len = header.total_len.checked_sub(20)?;
            let (src, dst) = (mapped(header.src), mapped(header.dst));
            (src, dst, header.protocol, len, after)
        }
        ethernet::IPV6 => {
            let (header, after) = ipv6::split(packet).ok()?;
            if header.payload_len == 0 {
                return None;
            }
            let (src, dst) = (header.src, header.dst);
            (src, dst, header.next, header.payload_len, after)
        }
        _ => return None,
    };
    Some(Packet {
        src: u128::from_be_bytes(src),
        dst: u128::from_be_bytes(dst),
        protocol,
        payload: after.get(..usize::from(payload_len)).unwrap_or(after),
        payload_len,
    })
}
