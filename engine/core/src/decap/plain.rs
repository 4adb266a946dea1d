//! The frame that nearly every frame is, read in one go: Ethernet, IPv4 or IPv6 without options or extensions, TCP; also
//! inside of VXLAN in such a frame.
//!
//! In: a frame. Out: the segment that [`Walk`](super::walk::Walk) would find, at a third of its instructions, or nothing:
//! whatever is unusual, unwanted, broken or cut within its headers is left to the walk, which alone says why a frame is
//! skipped.

use super::walk::{PORT_VXLAN_GPE, PROTOCOL_TCP, PROTOCOL_UDP, believed, chain, mapped};
use super::{Config, Encap, Endpoint, Frame, LinkType, Network, Segment};
use crate::time::Timestamp;
use crate::wire::vxlan::Inner;
use crate::wire::{ethernet, ipv4, ipv6, tcp, udp, vxlan};

/// What an IP header that is not unusual says of its payload.
struct Packet<'a> {
    src: [u8; 16],
    dst: [u8; 16],
    protocol: u8,
    /// As long as the header says, or as far as the capture goes.
    payload: &'a [u8],
    payload_len: u16,
}

/// The segment of a plain frame. Its network has a VNI only if that of a VXLAN header.
#[inline]
pub(super) fn segment<'a>(frame: &Frame<'a>, config: &Config) -> Option<Segment<'a>> {
    if frame.link != LinkType::Ethernet {
        return None;
    }
    let packet = packet(frame.bytes)?;
    match packet.protocol {
        PROTOCOL_TCP if !config.only_tunnelled => packet.segment(frame.time, Network::default()),
        PROTOCOL_UDP => inner_segment(frame.time, packet.payload, config),
        _ => None,
    }
}

fn inner_segment<'a>(time: Timestamp, datagram: &'a [u8], config: &Config) -> Option<Segment<'a>> {
    let (header, payload) = udp::split(datagram).ok()?;
    let port = header.dst_port;
    if port == PORT_VXLAN_GPE || !config.vxlan_ports.contains(&port) || !config.decapsulate {
        return None;
    }
    let (header, frame) = vxlan::split(payload).ok()?;
    let vni = header.vni.filter(|vni| config.vnis.wants(*vni))?;
    let inner = (header.inner == Inner::Ethernet).then(|| packet(frame))??;
    let network = Network {
        id: chain(0, Encap::Vxlan, vni),
        vni: Some(vni),
        encap: Encap::Vxlan,
    };
    (inner.protocol == PROTOCOL_TCP)
        .then(|| inner.segment(time, network))
        .flatten()
}

#[inline]
fn packet(frame: &[u8]) -> Option<Packet<'_>> {
    let (&[.., t1, t0], packet) = frame.split_first_chunk::<14>()?;
    let (src, dst, protocol, payload_len, after) = match u16::from_be_bytes([t1, t0]) {
        ethernet::IPV4 => {
            let (header, after) = ipv4::split(packet).ok()?;
            let is_whole = header.fragment_offset == 0 && !header.more_fragments;
            // Without a length, on frames that no card has cut yet, there is nothing to subtract from.
            let len = header.total_len.checked_sub(20)?;
            let (src, dst) = (mapped(header.src), mapped(header.dst));
            (is_whole && header.header_len == 20).then_some((
                src,
                dst,
                header.protocol,
                len,
                after,
            ))?
        }
        ethernet::IPV6 => {
            let (header, after) = ipv6::split(packet).ok()?;
            let len = header.payload_len;
            (len != 0).then_some((header.src, header.dst, header.next, len, after))?
        }
        _ => return None,
    };
    Some(Packet {
        src,
        dst,
        protocol,
        payload: after.get(..usize::from(payload_len)).unwrap_or(after),
        payload_len,
    })
}

impl<'a> Packet<'a> {
    #[inline]
    fn segment(self, time: Timestamp, network: Network) -> Option<Segment<'a>> {
        let (header, payload) = tcp::split(self.payload).ok()?;
        let payload_wire_len = self.payload_len.checked_sub(header.header_len)?;
        Some(Segment {
            time,
            network,
            src: Endpoint {
                addr: self.src,
                port: header.src_port,
            },
            dst: Endpoint {
                addr: self.dst,
                port: header.dst_port,
            },
            seq: header.seq,
            ack: header.ack,
            flags: believed(&header),
            payload,
            payload_wire_len: u32::from(payload_wire_len),
        })
    }
}
