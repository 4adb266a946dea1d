//! A conversation: the TCP segments of one connection that carries exchanges, with handshake, data in segments of the MSS,
//! acknowledgements and close.
//!
//! Source: RFC 9293. Both endpoints follow it; the faults of the network are those of [`super::Accidents`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::exchange::{Exchange, Framing};
use super::side::Side;
use super::streams;
use crate::seed::Seed;

/// TCP flag bits (RFC 9293 §3.1).
#[allow(missing_docs)]
pub mod flags {
    pub const FIN: u8 = 0x01;
    pub const SYN: u8 = 0x02;
    pub const RST: u8 = 0x04;
    pub const PSH: u8 = 0x08;
    pub const ACK: u8 = 0x10;
}

/// One TCP segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Nanoseconds since the epoch.
    pub time: u64,
    /// Who sends it.
    pub side: Side,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Of [`flags`].
    pub flags: u8,
    /// Data.
    pub payload: Vec<u8>,
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// FIN from both.
    Fin,
    /// RST from the server after the last response was acknowledged.
    Reset,
    /// The connection does not end within the capture.
    Open,
}

/// A connection and the exchanges on it.
#[derive(Clone, Debug)]
pub struct Conversation {
    /// The end that opens the connection.
    pub client: SocketAddr,
    /// The other end, of the same address family.
    pub server: SocketAddr,
    /// In the order in which they are sent.
    pub exchanges: Vec<Exchange>,
    /// Requests that are sent before the first response; 1 is no pipelining.
    pub pipeline: usize,
    /// The most payload bytes of a segment.
    pub mss: usize,
    /// Whether segments have any size up to the MSS.
    pub ragged: bool,
    /// Number of segments after which the peer acknowledges.
    pub ack_every: usize,
    /// First sequence numbers of client and server.
    pub isn: [u32; 2],
    /// Time of the SYN in nanoseconds since the epoch.
    pub start: u64,
    /// How it ends.
    pub close: Close,
    /// Seed of segment sizes and pauses, and of how frames are sent.
    pub seed: u64,
    /// In HTTP/2 with prior knowledge: requests in flight are streams at once.
    pub http2: bool,
}

/// Bounds of [`Conversation::seeded`].
#[derive(Clone, Debug)]
pub struct Shape {
    /// The most exchanges of one conversation.
    pub exchanges_max: usize,
    /// The most bytes of a body.
    pub body_bytes_max: usize,
    /// IPv6 instead of IPv4.
    pub ipv6: bool,
    /// Several requests in flight.
    pub pipelining: bool,
    /// First sequence numbers so high that they wrap within the conversation.
    pub near_wrap: bool,
    /// The server's port.
    pub port: u16,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            exchanges_max: 6,
            body_bytes_max: 40_000,
            ipv6: false,
            pipelining: true,
            near_wrap: false,
            port: 80,
        }
    }
}

/// 2026-01-01T00:00:00Z: a fixed date, so that lines made from the traffic are always the same.
const EPOCH: u64 = 1_767_225_600_000_000_000;

impl Conversation {
    /// `exchanges` between two fixed hosts, with simple defaults.
    pub fn new(exchanges: Vec<Exchange>) -> Self {
        Self {
            client: SocketAddr::from((Ipv4Addr::new(10, 1, 0, 2), 40_000)),
            server: SocketAddr::from((Ipv4Addr::new(10, 1, 0, 1), 80)),
            exchanges,
            pipeline: 1,
            mss: 1448,
            ragged: false,
            ack_every: 2,
            isn: [1000, 2000],
            start: EPOCH,
            close: Close::Fin,
            seed: 0,
            http2: false,
        }
    }

    /// A conversation of any kind within `shape`. No two conversations of one [`Seed`] have the same addresses and ports,
    /// and no two of their exchanges the same number.
    pub fn seeded(seed: &mut Seed, shape: &Shape) -> Self {
        let unique = seed.next_u64();
        let count = seed.within(1..=shape.exchanges_max);
        let exchanges = (0..count).map(|n| {
            Exchange::seeded(
                seed,
                (unique << 10) + n as u64,
                shape.body_bytes_max,
                n + 1 == count,
            )
        });
        let exchanges = exchanges.collect();
        let [a, b, c, d, e, f, ..] = unique.to_be_bytes();
        let (client, server): (IpAddr, IpAddr) = if shape.ipv6 {
            let net = [0xfd, 0, a, b, c, d, e, f];
            let address = |host: u8| {
                let mut octets = [0; 16];
                octets[..8].copy_from_slice(&net);
                octets[15] = host;
                IpAddr::from(Ipv6Addr::from(octets))
            };
            (address(2), address(1))
        } else {
            (
                Ipv4Addr::new(10, a, b, c).into(),
                Ipv4Addr::new(172, 16 + d % 16, e, f).into(),
            )
        };
        let isn = if shape.near_wrap {
            [
                u32::MAX - seed.within(0..=2000) as u32,
                u32::MAX - seed.within(0..=20_000) as u32,
            ]
        } else {
            [seed.next_u64() as u32, seed.next_u64() as u32]
        };
        Self {
            client: SocketAddr::new(client, seed.within(20_000..=60_000) as u16),
            server: SocketAddr::new(server, shape.port),
            exchanges,
            pipeline: if shape.pipelining && seed.chance(250) {
                seed.within(2..=4)
            } else {
                1
            },
            mss: *seed.pick(&[1448, 1448, 1428, 536, 8948, 100]),
            ragged: seed.chance(300),
            ack_every: seed.within(1..=10),
            isn,
            start: EPOCH + seed.within(0..=2_000_000_000) as u64,
            close: *seed.pick(&[
                Close::Fin,
                Close::Fin,
                Close::Fin,
                Close::Reset,
                Close::Open,
            ]),
            seed: seed.next_u64(),
            http2: false,
        }
        .consistent()
    }

    /// A body that ends with the connection needs an orderly end.
    fn consistent(mut self) -> Self {
        if self.ends_with_close() {
            self.close = Close::Fin;
        }
        self
    }

    fn ends_with_close(&self) -> bool {
        self.exchanges
            .last()
            .is_some_and(|last| last.response_body.framing == Framing::Close)
    }

    /// The bytes that each side sends, in order.
    pub fn turns(&self) -> Vec<(Side, Vec<u8>)> {
        if self.http2 {
            return streams::turns(&self.exchanges, self.pipeline, self.seed);
        }
        let mut turns = Vec::new();
        for group in self.exchanges.chunks(self.pipeline.max(1)) {
            let mut requests = Vec::new();
            let mut responses = Vec::new();
            for exchange in group {
                requests.extend(exchange.request_head());
                if group.len() == 1 && exchange.interim.contains(&100) {
                    turns.push((Side::Client, std::mem::take(&mut requests)));
                    turns.push((Side::Server, Exchange::interim_head(100)));
                }
                requests.extend(exchange.request_body_wire());
                let pending = exchange
                    .interim
                    .iter()
                    .filter(|status| group.len() > 1 || **status != 100);
                responses.extend(pending.flat_map(|status| Exchange::interim_head(*status)));
                responses.extend(exchange.response_wire());
            }
            turns.push((Side::Client, requests));
            turns.push((Side::Server, responses));
        }
        turns.retain(|(_, bytes)| !bytes.is_empty());
        turns
    }

    /// The whole connection as a capture without accidents has it.
    pub fn segments(&self) -> Vec<Segment> {
        self.segments_of(&self.turns())
    }

    /// The same with the given bytes instead of those of the exchanges.
    pub fn segments_of(&self, turns: &[(Side, Vec<u8>)]) -> Vec<Segment> {
        let mut builder = Builder::new(self);
        builder.handshake();
        for (side, bytes) in turns {
            builder.pause();
            builder.write(*side, bytes, self);
        }
        match self.close {
            Close::Fin => {
                let first = if self.ends_with_close() {
                    Side::Server
                } else {
                    Side::Client
                };
                builder.fin(first);
            }
            Close::Reset => builder.push(Side::Server, flags::RST | flags::ACK, &[]),
            Close::Open => {}
        }
        builder.segments
    }
}

/// The state of the connection while its segments are built.
struct Builder {
    segments: Vec<Segment>,
    next: [u32; 2],
    time: u64,
    seed: Seed,
}

impl Builder {
    fn new(conversation: &Conversation) -> Self {
        Self {
            segments: Vec::new(),
            next: conversation.isn,
            time: conversation.start,
            seed: Seed::new(conversation.seed),
        }
    }

    fn push(&mut self, side: Side, flags: u8, payload: &[u8]) {
        let [client, server] = self.next;
        let (seq, ack) = match side {
            Side::Client => (client, server),
            Side::Server => (server, client),
        };
        let ack = if flags & flags::ACK == 0 { 0 } else { ack };
        self.segments.push(Segment {
            time: self.time,
            side,
            seq,
            ack,
            flags,
            payload: payload.to_vec(),
        });
        let occupies = payload.len() as u32 + u32::from(flags & (flags::SYN | flags::FIN) != 0);
        let index = usize::from(side == Side::Server);
        self.next[index] = self.next[index].wrapping_add(occupies);
        self.time += self.seed.within(1_000..=100_000) as u64;
    }

    fn pause(&mut self) {
        self.time += self.seed.within(100_000..=3_000_000) as u64;
    }

    fn handshake(&mut self) {
        self.push(Side::Client, flags::SYN, &[]);
        self.push(Side::Server, flags::SYN | flags::ACK, &[]);
        self.push(Side::Client, flags::ACK, &[]);
    }

    fn write(&mut self, side: Side, mut bytes: &[u8], conversation: &Conversation) {
        let mut unacknowledged = 0;
        while !bytes.is_empty() {
            let full = conversation.mss.min(bytes.len());
            let size = if conversation.ragged {
                self.seed.within(1..=full)
            } else {
                full
            };
            let (piece, rest) = bytes.split_at(size);
            let push = if rest.is_empty() { flags::PSH } else { 0 };
            self.push(side, flags::ACK | push, piece);
            bytes = rest;
            unacknowledged += 1;
            if unacknowledged == conversation.ack_every || bytes.is_empty() {
                self.push(side.other(), flags::ACK, &[]);
                unacknowledged = 0;
            }
        }
    }

    fn fin(&mut self, first: Side) {
        self.push(first, flags::FIN | flags::ACK, &[]);
        self.push(first.other(), flags::FIN | flags::ACK, &[]);
        self.push(first, flags::ACK, &[]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A slow, obvious reader: the payloads of one side, in order.
    fn sent(segments: &[Segment], side: Side) -> Vec<u8> {
        segments
            .iter()
            .filter(|s| s.side == side)
            .flat_map(|s| s.payload.clone())
            .collect()
    }

    #[test]
    fn all_bytes_are_in_segments() {
        for seed in 0..50 {
            let conversation = Conversation::seeded(&mut Seed::new(seed), &Shape::default());
            let segments = conversation.segments();
            let requests = conversation
                .exchanges
                .iter()
                .flat_map(|e| [e.request_head(), e.request_body_wire()].concat());
            assert_eq!(
                sent(&segments, Side::Client),
                requests.collect::<Vec<_>>(),
                "seed {seed}"
            );
            for exchange in &conversation.exchanges {
                let responses = sent(&segments, Side::Server);
                let wire = exchange.response_wire();
                assert!(
                    responses.windows(wire.len()).any(|w| w == wire),
                    "seed {seed}"
                );
            }
            assert!(
                segments.iter().all(|s| s.payload.len() <= conversation.mss),
                "seed {seed}"
            );
            assert!(segments.is_sorted_by_key(|s| s.time), "seed {seed}");
        }
    }

    #[test]
    fn sequence_numbers_count_bytes_and_wrap() {
        let shape = Shape {
            near_wrap: true,
            ..Shape::default()
        };
        let mut wrapped = 0;
        for seed in 0..50 {
            let conversation = Conversation::seeded(&mut Seed::new(seed), &shape);
            let segments = conversation.segments();
            for (index, side) in [Side::Client, Side::Server].into_iter().enumerate() {
                let mut expected = conversation.isn[index];
                for segment in segments.iter().filter(|s| s.side == side) {
                    assert_eq!(segment.seq, expected, "seed {seed}");
                    let control = u32::from(segment.flags & (flags::SYN | flags::FIN) != 0);
                    expected = expected.wrapping_add(segment.payload.len() as u32 + control);
                }
                wrapped += usize::from(expected < conversation.isn[index]);
            }
        }
        assert!(wrapped > 10, "{wrapped}");
    }
}
