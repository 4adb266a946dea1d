//! A template: a frame that is built once, and into which the call number, ports, addresses and sequence numbers of each
//! call are written.
//!
//! Checksums are updated from sums over the parts that do not change (RFC 1624).

use std::net::IpAddr;

use super::connection::Connection;
use crate::traffic::{Conversation, Segment, Side, Wire, flags};

/// A frame and the offsets of its variable parts.
pub(super) struct Template {
    bytes: Vec<u8>,
    side: Side,
    /// Offset of the TCP header.
    tcp: usize,
    /// Offset of the last four bytes of the client's address.
    client: usize,
    /// Offset of the IPv4 header, whose checksum covers that address.
    ipv4: Option<usize>,
    /// Offset of the outer UDP source port.
    outer_port: Option<usize>,
    /// Offsets of call numbers, and which of the calls at once each is of.
    digits: Vec<(usize, u64)>,
    /// Offsets of numbers of streams, and which of the calls at once each is of.
    streams: Vec<(usize, u64)>,
    /// Sequence numbers used before it in the script: those of its own side, and of the other side.
    before: [u32; 2],
    /// Sum over the pseudo header and the segment with all variable parts zero.
    tcp_sum: u32,
    /// The same over the IPv4 header.
    ip_sum: u32,
}

impl Template {
    pub(super) fn new(
        conversation: &Conversation,
        wire: &Wire,
        segment: &Segment,
        before: [u32; 2],
        places: &[Place],
    ) -> Self {
        let bytes = wire.frame(conversation, segment).bytes;
        // The mirror may have cut the payload, but not the headers: all offsets count from the start of the frame.
        let outer = wire.vxlan.map_or(0, |tunnel| {
            14 + ip_header(tunnel.to) + tunnel.header_bytes()
        });
        let ip = outer + 14 + 4 * wire.vlans.len();
        let header = ip_header(conversation.client.ip());
        let client = match (segment.side, header) {
            (Side::Client, 20) => ip + 12,
            (Side::Server, 20) => ip + 16,
            (Side::Client, _) => ip + 8 + 12,
            (Side::Server, _) => ip + 24 + 12,
        };
        let payload = ip + header + tcp_header(segment.flags);
        let of_kind = |is_stream: bool| {
            let width = if is_stream { STREAM } else { DIGITS };
            let of_kind = places.iter().filter(|place| place.is_stream == is_stream);
            let offsets = of_kind.map(|place| (payload + place.at, place.call));
            // The mirror may have cut it off.
            let is_there = |(at, _): &(usize, u64)| at + width <= bytes.len();
            offsets.filter(is_there).collect::<Vec<_>>()
        };
        let mut template = Self {
            side: segment.side,
            tcp: ip + header,
            client,
            ipv4: (header == 20).then_some(ip),
            outer_port: wire.vxlan.map(|tunnel| outer - tunnel.header_bytes()),
            digits: of_kind(false),
            streams: of_kind(true),
            before,
            tcp_sum: 0,
            ip_sum: 0,
            bytes,
        };
        template.clear();
        let tcp_length = tcp_header(segment.flags) + segment.payload.len();
        // The checksum covers what the mirror has cut off, too: the sender computed it over the whole segment.
        let mut whole = wire_without_cut(wire).frame(conversation, segment).bytes;
        std::mem::swap(&mut template.bytes, &mut whole);
        template.clear();
        let addresses = if header == 20 {
            ip + 12..ip + 20
        } else {
            ip + 8..ip + 40
        };
        template.tcp_sum = sum(&template.bytes[addresses])
            + 6
            + tcp_length as u32
            + sum(&template.bytes[template.tcp..template.tcp + tcp_length]);
        template.ip_sum = template
            .ipv4
            .map_or(0, |ip| sum(&template.bytes[ip..ip + 20]));
        std::mem::swap(&mut template.bytes, &mut whole);
        template
    }

    /// Zeroes all variable parts.
    fn clear(&mut self) {
        let (tcp, client_port) = (self.tcp, self.client_port());
        self.bytes[client_port..client_port + 2].fill(0);
        self.bytes[tcp + 4..tcp + 12].fill(0);
        self.bytes[tcp + 16..tcp + 18].fill(0);
        let client = self.client;
        self.bytes[client..client + 4].fill(0);
        if let Some(ip) = self.ipv4 {
            self.bytes[ip + 10..ip + 12].fill(0);
        }
        if let Some(port) = self.outer_port {
            self.bytes[port..port + 2].fill(0);
            self.bytes[port + 6..port + 8].fill(0);
        }
        for &(start, _) in &self.digits {
            self.bytes[start..start + DIGITS].fill(0);
        }
        for &(start, _) in &self.streams {
            self.bytes[start..start + STREAM].fill(0);
        }
    }

    fn client_port(&self) -> usize {
        self.tcp + if self.side == Side::Client { 0 } else { 2 }
    }

    pub(super) fn write(&self, connection: &Connection, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        let frame = &mut out[start..];
        let [client, server] = connection.next;
        let [own, other] = self.before;
        let (seq, ack) = match self.side {
            Side::Client => (client.wrapping_add(own), server.wrapping_add(other)),
            Side::Server => (server.wrapping_add(own), client.wrapping_add(other)),
        };
        // A SYN acknowledges nothing; its template carries no ACK flag.
        let ack = if frame[self.tcp + 13] & flags::ACK == 0 {
            0
        } else {
            ack
        };
        put(frame, self.client_port(), &connection.port.to_be_bytes());
        put(frame, self.tcp + 4, &seq.to_be_bytes());
        put(frame, self.tcp + 8, &ack.to_be_bytes());
        put(frame, self.client, &connection.address.to_be_bytes());
        let address = sum_of_words(connection.address);
        let mut changed = self.tcp_sum
            + u32::from(connection.port)
            + sum_of_words(seq)
            + sum_of_words(ack)
            + address;
        let sum_at = |start: usize, bytes: &[u8]| {
            let even = sum(bytes);
            if (start - self.tcp) % 2 == 1 {
                u32::from(fold(even).swap_bytes())
            } else {
                even
            }
        };
        for &(start, call) in &self.digits {
            let digits = digits(connection.number + call);
            put(frame, start, &digits);
            changed += sum_at(start, &digits);
        }
        for &(start, call) in &self.streams {
            let id = (2 * (connection.streams + call) + 1) as u32;
            put(frame, start, &id.to_be_bytes());
            changed += sum_at(start, &id.to_be_bytes());
        }
        put(frame, self.tcp + 16, &(!fold(changed)).to_be_bytes());
        if let Some(ip) = self.ipv4 {
            put(
                frame,
                ip + 10,
                &(!fold(self.ip_sum + address)).to_be_bytes(),
            );
        }
        if let Some(port) = self.outer_port {
            // The outer ports of the two directions differ: mirrors hash the addresses and ports of a packet
            // in the order in which they are.
            let entropy = u32::from(connection.port) ^ connection.address.rotate_left(7);
            let mixed = entropy.wrapping_mul(if self.side == Side::Client {
                0x9e37_79b1
            } else {
                0x85eb_ca77
            });
            put(frame, port, &(49_152 | (mixed >> 18) as u16).to_be_bytes());
        }
    }
}

/// Bytes of a call number, and of the number of a stream.
pub(super) const DIGITS: usize = 10;
pub(super) const STREAM: usize = 4;

/// A variable part of a payload.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Offset in the payload.
    pub(super) at: usize,
    /// Which of the calls at once it is of.
    pub(super) call: u64,
    /// The number of a stream; otherwise a call number.
    pub(super) is_stream: bool,
}

impl Place {
    /// Where it ends.
    pub(super) const fn end(self) -> usize {
        self.at + if self.is_stream { STREAM } else { DIGITS }
    }
}

fn tcp_header(of: u8) -> usize {
    20 + usize::from(of & flags::SYN != 0) * 4
}

fn wire_without_cut(wire: &Wire) -> Wire {
    Wire {
        mirror_cut: None,
        ..wire.clone()
    }
}

fn ip_header(address: IpAddr) -> usize {
    if address.is_ipv4() { 20 } else { 40 }
}

fn put(frame: &mut [u8], at: usize, bytes: &[u8]) {
    frame[at..at + bytes.len()].copy_from_slice(bytes);
}

/// Where the call number stands in a payload.
pub(super) fn positions(bytes: &[u8], needle: &str) -> Vec<usize> {
    let found = bytes.windows(needle.len()).enumerate();
    found
        .filter(|(_, window)| *window == needle.as_bytes())
        .map(|(position, _)| position)
        .collect()
}

fn digits(mut number: u64) -> [u8; DIGITS] {
    let mut digits = [b'0'; DIGITS];
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
    digits
}

/// Sum of the 16-bit words of `bytes`, not folded; an odd last byte is the high byte of a word.
pub(super) fn sum(bytes: &[u8]) -> u32 {
    bytes
        .chunks(2)
        .map(|pair| {
            u32::from(u16::from_be_bytes([
                pair[0],
                pair.get(1).copied().unwrap_or(0),
            ]))
        })
        .sum()
}

fn sum_of_words(word: u32) -> u32 {
    (word >> 16) + (word & 0xffff)
}

pub(super) fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    sum as u16
}
