//! The frames of a connection's opening, of one call and of its closing, as rows of templates.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::call::exchange;
use super::shape::{CLIENT_NET, Shape};
use super::template::Template;
use crate::seed::Seed;
use crate::traffic::{Conversation, Segment, Side, Wire, flags};

/// A row of frames, and how far it moves the sequence numbers of client and server.
pub(super) struct Script {
    pub(super) frames: Vec<Template>,
    pub(super) moves: [u32; 2],
    /// The last frame in which the server says something.
    pub(super) answer: usize,
}

pub(super) fn talk(shape: &Shape) -> Conversation {
    let server: IpAddr = if shape.ipv6 {
        Ipv6Addr::new(0xfd00, 0x77, 0, 0, 0, 0, 0, 1).into()
    } else {
        Ipv4Addr::new(10, 1, 0, 1).into()
    };
    let client: IpAddr = if shape.ipv6 {
        Ipv6Addr::new(0xfd00, 0x77, 0, 0, 0, 1, 0, 0).into()
    } else {
        Ipv4Addr::from(CLIENT_NET).into()
    };
    Conversation {
        client: SocketAddr::new(client, 1),
        server: SocketAddr::new(server, shape.port),
        ..Conversation::new(Vec::new())
    }
}

pub(super) fn opening(talk: &Conversation, wire: &Wire) -> Script {
    let mut writer = Writer::new(talk, wire);
    writer.push(Side::Client, flags::SYN, &[]);
    writer.push(Side::Server, flags::SYN | flags::ACK, &[]);
    writer.push(Side::Client, flags::ACK, &[]);
    writer.script()
}

pub(super) fn closing(talk: &Conversation, wire: &Wire) -> Script {
    let mut writer = Writer::new(talk, wire);
    writer.push(Side::Client, flags::FIN | flags::ACK, &[]);
    writer.push(Side::Server, flags::FIN | flags::ACK, &[]);
    writer.push(Side::Client, flags::ACK, &[]);
    writer.script()
}

pub(super) fn call(talk: &Conversation, shape: &Shape, seed: &mut Seed) -> Script {
    let exchange = exchange(seed, shape.body_bytes);
    let (mut request, mut response) = (exchange.request_head(), exchange.response_wire());
    if shape.opaque {
        // By chance of its own, so that everything else is as with calls.
        let mut seed = Seed::new(shape.seed);
        seal(&mut request, &mut seed);
        seal(&mut response, &mut seed);
    }
    let mut writer = Writer::new(talk, &shape.wire);
    for piece in request.chunks(MSS) {
        writer.push(Side::Client, flags::ACK | flags::PSH, piece);
    }
    for (index, piece) in response.chunks(MSS).enumerate() {
        writer.push(Side::Server, flags::ACK | flags::PSH, piece);
        if index % 2 == 1 {
            writer.push(Side::Client, flags::ACK, &[]);
        }
    }
    writer.script()
}

const MSS: usize = 1448;

/// Turns bytes into TLS application data (RFC 8446 §5.1) of the same length.
fn seal(bytes: &mut [u8], seed: &mut Seed) {
    let length = bytes.len().saturating_sub(5) as u16;
    let [high, low] = length.to_be_bytes();
    let head = [23, 3, 3, high, low];
    for (index, byte) in bytes.iter_mut().enumerate() {
        let random = seed.within(0..=255) as u8;
        *byte = head.get(index).copied().unwrap_or(random);
    }
}

/// Collects the frames of a script while it counts what each side has said.
struct Writer<'a> {
    talk: &'a Conversation,
    wire: &'a Wire,
    frames: Vec<Template>,
    said: [u32; 2],
    answer: usize,
}

impl<'a> Writer<'a> {
    fn new(talk: &'a Conversation, wire: &'a Wire) -> Self {
        Self {
            talk,
            wire,
            frames: Vec::new(),
            said: [0; 2],
            answer: 0,
        }
    }

    fn push(&mut self, side: Side, flags: u8, payload: &[u8]) {
        let segment = Segment {
            time: 0,
            side,
            seq: 0,
            ack: 0,
            flags,
            payload: payload.to_vec(),
        };
        let [client, server] = self.said;
        let before = match side {
            Side::Client => [client, server],
            Side::Server => [server, client],
        };
        self.frames
            .push(Template::new(self.talk, self.wire, &segment, before));
        if side == Side::Server && !payload.is_empty() {
            self.answer = self.frames.len() - 1;
        }
        let occupies = payload.len() as u32 + u32::from(flags & (flags::SYN | flags::FIN) != 0);
        self.said[usize::from(side == Side::Server)] += occupies;
    }

    fn script(self) -> Script {
        Script {
            frames: self.frames,
            moves: self.said,
            answer: self.answer,
        }
    }
}
