//! The frame of a segment as it is on the wire: TCP, IPv4 or IPv6, VLAN tags, Ethernet, and an optional VXLAN or GENEVE
//! tunnel.
//!
//! Sources: RFC 9293, 791, 8200, IEEE 802.1Q, RFC 7348, 8926. All checksums are correct. The outer UDP source port depends
//! on the direction, as with real mirrors, so the outer headers of the two directions of a flow do not form one flow.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use engine_core::wire::{geneve, vxlan};

use super::conversation::{Conversation, Segment, flags};
use super::side::Side;

/// One frame as captured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Nanoseconds since the epoch.
    pub time: u64,
    /// From the Ethernet header on.
    pub bytes: Vec<u8>,
}

/// The encapsulation of segments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wire {
    /// VLAN identifiers around the IP packet, outermost first; with two the outer tag is a service tag (802.1ad).
    pub vlans: Vec<u16>,
    /// Bytes to which a mirror cuts the inner frame; its headers keep the full length.
    pub mirror_cut: Option<usize>,
    /// The tunnel around the inner frame.
    pub vxlan: Option<Vxlan>,
}

/// The tunnel of a mirror.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vxlan {
    /// Network identifier, 24 bits.
    pub vni: u32,
    /// The sender of the mirrored frames.
    pub from: IpAddr,
    /// Their receiver, of the same address family.
    pub to: IpAddr,
    /// UDP destination port.
    pub port: u16,
    /// Whether it is GENEVE (RFC 8926) instead, with an option of eight bytes such as load balancers send.
    pub geneve: bool,
}

/// RFC 8926 §3.4: two words of options, Ethernet inside.
const GENEVE: [u8; 4] = [0x02, 0, 0x65, 0x58];
/// RFC 8926 §3.5: class of one cloud's load balancers, type 1, one word of data.
const GENEVE_OPTION: [u8; 8] = [0x01, 0x08, 0x01, 0x01, 0, 0, 0, 7];

impl Vxlan {
    /// Between two fixed hosts, on the standard port.
    pub fn new(vni: u32) -> Self {
        let (from, to) = (
            Ipv4Addr::new(192, 168, 9, 1).into(),
            Ipv4Addr::new(192, 168, 9, 2).into(),
        );
        Self {
            vni,
            from,
            to,
            port: vxlan::PORT,
            geneve: false,
        }
    }

    /// GENEVE between the same hosts, on its standard port.
    pub fn geneve(vni: u32) -> Self {
        Self {
            port: geneve::PORT,
            geneve: true,
            ..Self::new(vni)
        }
    }

    /// Bytes between the outer IP header and the inner frame.
    pub(crate) fn header_bytes(&self) -> usize {
        8 + 8 + if self.geneve { GENEVE_OPTION.len() } else { 0 }
    }
}

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_VLAN: u16 = 0x8100;
const ETHERTYPE_SERVICE_VLAN: u16 = 0x88a8;
const PROTOCOL_TCP: u8 = 6;
const PROTOCOL_UDP: u8 = 17;

impl Wire {
    /// `segment` of `conversation` as a frame.
    pub fn frame(&self, conversation: &Conversation, segment: &Segment) -> Frame {
        let (from, to) = match segment.side {
            Side::Client => (conversation.client, conversation.server),
            Side::Server => (conversation.server, conversation.client),
        };
        let packet = ip(from.ip(), to.ip(), PROTOCOL_TCP, &tcp(from, to, segment));
        let mut bytes = ethernet(segment.side, &self.vlans, to.ip(), &packet);
        if let Some(cut) = self.mirror_cut {
            bytes.truncate(cut);
        }
        if let Some(tunnel) = &self.vxlan {
            bytes = tunnel.wrap(segment.side, conversation.client.port(), &bytes);
        }
        Frame {
            time: segment.time,
            bytes,
        }
    }
}

impl Vxlan {
    /// A frame of `side` in the tunnel; `entropy` and the side determine the outer source port.
    pub fn wrap(&self, side: Side, entropy: u16, inner: &[u8]) -> Vec<u8> {
        // VXLAN: the I flag and the VNI; all other bits are reserved.
        let start = if self.geneve { GENEVE } else { [0x08, 0, 0, 0] };
        let mut payload = start.to_vec();
        payload.extend_from_slice(&(self.vni << 8).to_be_bytes());
        if self.geneve {
            payload.extend_from_slice(&GENEVE_OPTION);
        }
        payload.extend_from_slice(inner);
        let source_port = 49_152 | (entropy ^ if side == Side::Client { 0x155 } else { 0x2aa });
        let datagram = udp(
            SocketAddr::new(self.from, source_port),
            SocketAddr::new(self.to, self.port),
            &payload,
        );
        ethernet(
            Side::Client,
            &[],
            self.to,
            &ip(self.from, self.to, PROTOCOL_UDP, &datagram),
        )
    }
}

fn ethernet(side: Side, vlans: &[u16], to: IpAddr, packet: &[u8]) -> Vec<u8> {
    let (client, server) = ([2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 1]);
    let (destination, source) = if side == Side::Client {
        (server, client)
    } else {
        (client, server)
    };
    let mut frame = [destination, source].concat();
    for (index, vlan) in vlans.iter().enumerate() {
        let is_service_tag = index + 1 < vlans.len();
        let tpid = if is_service_tag {
            ETHERTYPE_SERVICE_VLAN
        } else {
            ETHERTYPE_VLAN
        };
        frame.extend_from_slice(&tpid.to_be_bytes());
        frame.extend_from_slice(&vlan.to_be_bytes());
    }
    let ethertype = if to.is_ipv4() {
        ETHERTYPE_IPV4
    } else {
        ETHERTYPE_IPV6
    };
    frame.extend_from_slice(&ethertype.to_be_bytes());
    frame.extend_from_slice(packet);
    // Short frames are padded on the wire; what follows the IP packet is not payload.
    frame.resize(frame.len().max(60), 0);
    frame
}

fn ip(from: IpAddr, to: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let total =
                u16::try_from(20 + payload.len()).expect("an IPv4 packet has at most 65 535 bytes");
            let mut header = vec![0x45, 0];
            header.extend_from_slice(&total.to_be_bytes());
            // No identification, don't fragment, 64 hops, checksum to come.
            header.extend_from_slice(&[0, 0, 0x40, 0, 64, protocol, 0, 0]);
            header.extend_from_slice(&from.octets());
            header.extend_from_slice(&to.octets());
            let checksum = checksum(&[&header]);
            header[10..12].copy_from_slice(&checksum.to_be_bytes());
            header
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let length =
                u16::try_from(payload.len()).expect("an IPv6 payload has at most 65 535 bytes");
            let mut header = vec![0x60, 0, 0, 0];
            header.extend_from_slice(&length.to_be_bytes());
            header.extend_from_slice(&[protocol, 64]);
            header.extend_from_slice(&from.octets());
            header.extend_from_slice(&to.octets());
            header
        }
        _ => panic!("{from} and {to} are of different families"),
    };
    packet.extend_from_slice(payload);
    packet
}

fn tcp(from: SocketAddr, to: SocketAddr, segment: &Segment) -> Vec<u8> {
    // The MSS option on SYNs, and no other.
    let options: &[u8] = if segment.flags & flags::SYN == 0 {
        &[]
    } else {
        &[2, 4, 0x05, 0xb4]
    };
    let header_words = (20 + options.len()) / 4;
    let mut bytes = Vec::with_capacity(header_words * 4 + segment.payload.len());
    bytes.extend_from_slice(&from.port().to_be_bytes());
    bytes.extend_from_slice(&to.port().to_be_bytes());
    bytes.extend_from_slice(&segment.seq.to_be_bytes());
    bytes.extend_from_slice(&segment.ack.to_be_bytes());
    bytes.extend_from_slice(&[
        (header_words as u8) << 4,
        segment.flags,
        0xff,
        0xff,
        0,
        0,
        0,
        0,
    ]);
    bytes.extend_from_slice(options);
    bytes.extend_from_slice(&segment.payload);
    let checksum = transport_checksum(from.ip(), to.ip(), PROTOCOL_TCP, &bytes);
    bytes[16..18].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

fn udp(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + payload.len()).expect("a datagram has at most 65 535 bytes");
    let mut bytes = Vec::with_capacity(usize::from(length));
    bytes.extend_from_slice(&from.port().to_be_bytes());
    bytes.extend_from_slice(&to.port().to_be_bytes());
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(&[0, 0]);
    bytes.extend_from_slice(payload);
    // Zero means "none", so a sum of zero is sent as its other form (RFC 768).
    let checksum = match transport_checksum(from.ip(), to.ip(), PROTOCOL_UDP, &bytes) {
        0 => 0xffff,
        sum => sum,
    };
    bytes[6..8].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

/// Over the pseudo header (RFC 9293 §3.1, RFC 8200 §8.1) and the bytes.
fn transport_checksum(from: IpAddr, to: IpAddr, protocol: u8, bytes: &[u8]) -> u16 {
    let length = bytes.len() as u32;
    let tail = [&length.to_be_bytes()[..], &[0, 0, 0, protocol]].concat();
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            checksum(&[&from.octets(), &to.octets(), &tail, bytes])
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            checksum(&[&from.octets(), &to.octets(), &tail, bytes])
        }
        _ => panic!("{from} and {to} are of different families"),
    }
}

/// RFC 1071. Every part but the last must have an even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum: u64 = 0;
    for part in parts {
        for pair in part.chunks(2) {
            let low = pair.get(1).copied().unwrap_or(0);
            sum += u64::from(u16::from_be_bytes([pair[0], low]));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::super::exchange::Exchange;
    use super::*;
    use crate::traffic::Shape;

    #[test]
    fn the_example_of_the_checksum_rfc() {
        // RFC 1071 §3.
        assert_eq!(
            !checksum(&[&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]]),
            0xddf2
        );
    }

    #[test]
    fn a_syn_in_hex() {
        let conversation = Conversation::new(vec![Exchange::get(1, "/", "x")]);
        let frame = Wire {
            vlans: vec![5, 6],
            ..Wire::default()
        }
        .frame(&conversation, &conversation.segments()[0]);
        let hex: String = frame
            .bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let expected = "02000000000102000000000288a800058100000608004500002c00004000400626c80a0100020a010001\
                        9c400050000003e8000000006002ffff";
        assert_eq!(&hex[..expected.len()], expected);
    }

    /// The sum over all bytes including the checksum is zero.
    #[test]
    fn checksums_of_both_families_verify() {
        for ipv6 in [false, true] {
            let mut seed = crate::seed::Seed::new(4);
            let conversation = Conversation::seeded(
                &mut seed,
                &Shape {
                    ipv6,
                    ..Shape::default()
                },
            );
            for segment in conversation.segments() {
                let (from, to) = match segment.side {
                    Side::Client => (conversation.client, conversation.server),
                    Side::Server => (conversation.server, conversation.client),
                };
                let bytes = tcp(from, to, &segment);
                assert_eq!(
                    transport_checksum(from.ip(), to.ip(), PROTOCOL_TCP, &bytes),
                    0
                );
            }
        }
    }

    #[test]
    fn directions_differ_in_the_outer_source_port() {
        let conversation = Conversation::new(vec![Exchange::get(1, "/", "x")]);
        let wire = Wire {
            vxlan: Some(Vxlan::new(77)),
            ..Wire::default()
        };
        let segments = conversation.segments();
        let [syn, syn_ack] = [0, 1].map(|n| wire.frame(&conversation, &segments[n]).bytes);
        assert_ne!(syn[34..36], syn_ack[34..36]);
        assert_eq!(syn[36..38], 4789_u16.to_be_bytes());
        assert_eq!(syn[42..50], [8, 0, 0, 0, 0, 0, 77, 0]);
    }
}
