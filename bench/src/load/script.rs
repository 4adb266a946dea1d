//! Scripts: the frames of the opening of a connection, of one call and of the closing, as templates in order.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::call::exchange;
use super::shape::{CLIENT_NET, Shape};
use super::template::Template;
use crate::seed::Seed;
use crate::traffic::{Conversation, Segment, Side, Wire, flags};

/// Frames in order.
pub(super) struct Script {
    pub(super) frames: Vec<Template>,
    /// Sequence numbers that client and server use up.
    pub(super) sequence_bytes: [u32; 2],
    /// Index of the last frame with payload from the server.
    pub(super) response_end: usize,
}

pub(super) fn conversation(shape: &Shape) -> Conversation {
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

pub(super) fn opening(conversation: &Conversation, wire: &Wire) -> Script {
    let mut builder = Builder::new(conversation, wire);
    builder.push(Side::Client, flags::SYN, &[]);
    builder.push(Side::Server, flags::SYN | flags::ACK, &[]);
    builder.push(Side::Client, flags::ACK, &[]);
    builder.script()
}

pub(super) fn closing(conversation: &Conversation, wire: &Wire) -> Script {
    let mut builder = Builder::new(conversation, wire);
    builder.push(Side::Client, flags::FIN | flags::ACK, &[]);
    builder.push(Side::Server, flags::FIN | flags::ACK, &[]);
    builder.push(Side::Client, flags::ACK, &[]);
    builder.script()
}

pub(super) fn call(conversation: &Conversation, shape: &Shape, seed: &mut Seed) -> Script {
    let exchange = exchange(seed, shape.body_bytes);
    let (mut request, mut response) = (exchange.request_head(), exchange.response_wire());
    if shape.opaque {
        // From random numbers of its own, so that everything else is the same as with calls.
        let mut seed = Seed::new(shape.seed);
        encrypt(&mut request, &mut seed);
        encrypt(&mut response, &mut seed);
    }
    let mut builder = Builder::new(conversation, &shape.wire);
    for piece in request.chunks(MSS) {
        builder.push(Side::Client, flags::ACK | flags::PSH, piece);
    }
    for (index, piece) in response.chunks(MSS).enumerate() {
        builder.push(Side::Server, flags::ACK | flags::PSH, piece);
        if index % 2 == 1 {
            builder.push(Side::Client, flags::ACK, &[]);
        }
    }
    builder.script()
}

const MSS: usize = 1448;

/// Replaces bytes by what looks like TLS application data (RFC 8446 §5.1) of the same length.
fn encrypt(bytes: &mut [u8], seed: &mut Seed) {
    let length = bytes.len().saturating_sub(5) as u16;
    let [high, low] = length.to_be_bytes();
    let head = [23, 3, 3, high, low];
    for (index, byte) in bytes.iter_mut().enumerate() {
        let random = seed.within(0..=255) as u8;
        *byte = head.get(index).copied().unwrap_or(random);
    }
}

/// Builds the frames of a script and counts the sequence numbers that each side uses.
struct Builder<'a> {
    conversation: &'a Conversation,
    wire: &'a Wire,
    frames: Vec<Template>,
    sent: [u32; 2],
    response_end: usize,
}

impl<'a> Builder<'a> {
    fn new(conversation: &'a Conversation, wire: &'a Wire) -> Self {
        Self {
            conversation,
            wire,
            frames: Vec::new(),
            sent: [0; 2],
            response_end: 0,
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
        let [client, server] = self.sent;
        let before = match side {
            Side::Client => [client, server],
            Side::Server => [server, client],
        };
        self.frames.push(Template::new(
            self.conversation,
            self.wire,
            &segment,
            before,
        ));
        if side == Side::Server && !payload.is_empty() {
            self.response_end = self.frames.len() - 1;
        }
        let occupies = payload.len() as u32 + u32::from(flags & (flags::SYN | flags::FIN) != 0);
        self.sent[usize::from(side == Side::Server)] += occupies;
    }

    fn script(self) -> Script {
        Script {
            frames: self.frames,
            sequence_bytes: self.sent,
            response_end: self.response_end,
        }
    }
}
