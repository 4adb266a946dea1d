//! The frame that nearly every frame is, read in one go: Ethernet, IPv4 or IPv6 without options or extensions, TCP.
//!
//! In: a frame. Out: the segment that [`Walk`](super::walk::Walk) would find, at a third of its instructions, or nothing:
//! whatever is unusual, broken or cut within its headers is left to the walk, which alone says why a frame is skipped.

use super::walk::{PROTOCOL_TCP, believed, mapped};
use super::{Endpoint, Frame, LinkType, Network, Segment};
use crate::wire::{ethernet, ipv4, ipv6, tcp};

/// The segment of a plain frame.
#[inline]
pub(super) fn segment<'a>(frame: &Frame<'a>) -> Option<Segment<'a>> {
    if frame.link != LinkType::Ethernet {
        return None;
    }
    let (&[.., t1, t0], packet) = frame.bytes.split_first_chunk::<14>()?;
    let (src, dst, payload_len, after) = match u16::from_be_bytes([t1, t0]) {
        ethernet::IPV4 => {
            let (header, after) = ipv4::split(packet).ok()?;
            let is_usual = header.header_len == 20
                && header.protocol == PROTOCOL_TCP
                && header.fragment_offset == 0
                && !header.more_fragments;
            let payload_len = header.total_len.checked_sub(20).filter(|_| is_usual)?;
            (mapped(header.src), mapped(header.dst), payload_len, after)
        }
        ethernet::IPV6 => {
            let (header, after) = ipv6::split(packet).ok()?;
            let is_usual = header.next == PROTOCOL_TCP && header.payload_len != 0;
            let payload_len = is_usual.then_some(header.payload_len)?;
            (header.src, header.dst, payload_len, after)
        }
        _ => return None,
    };
    let bytes = after.get(..usize::from(payload_len)).unwrap_or(after);
    let (header, payload) = tcp::split(bytes).ok()?;
    Some(Segment {
        time: frame.time,
        network: Network::default(),
        src: Endpoint {
            addr: src,
            port: header.src_port,
        },
        dst: Endpoint {
            addr: dst,
            port: header.dst_port,
        },
        seq: header.seq,
        ack: header.ack,
        flags: believed(&header),
        payload,
        payload_wire_len: u32::from(payload_len.checked_sub(header.header_len)?),
    })
}
