//! Scripts: the frames of the opening of a connection, of one call and of the closing, as templates in order.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::bytes::Bytes;
use super::call::exchange;
use super::grpc;
use super::http2;
use super::shape::{CLIENT_NET, Protocol, Shape, VARIANTS};
use super::template::{Place, Template};
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

pub(super) fn opening(conversation: &Conversation, shape: &Shape) -> Script {
    let mut builder = Builder::new(conversation, &shape.wire);
    builder.push(Side::Client, flags::SYN, &[]);
    builder.push(Side::Server, flags::SYN | flags::ACK, &[]);
    builder.push(Side::Client, flags::ACK, &[]);
    if matches!(shape.protocol, Protocol::Http2(_)) {
        for (side, bytes) in http2::opening() {
            builder.push(side, flags::ACK | flags::PSH, &bytes);
        }
    }
    builder.script()
}

pub(super) fn closing(conversation: &Conversation, wire: &Wire) -> Script {
    let mut builder = Builder::new(conversation, wire);
    builder.push(Side::Client, flags::FIN | flags::ACK, &[]);
    builder.push(Side::Server, flags::FIN | flags::ACK, &[]);
    builder.push(Side::Client, flags::ACK, &[]);
    builder.script()
}

/// The scripts of first calls on a connection, if they differ from later ones, and of all others. Together each set has
/// all [`VARIANTS`] of bodies as often.
pub(super) fn calls(conversation: &Conversation, shape: &Shape) -> (Vec<Script>, Vec<Script>) {
    let mut seed = Seed::new(shape.seed);
    let exchanges: Vec<_> = (0..VARIANTS)
        .map(|_| exchange(&mut seed, shape.body_bytes))
        .collect();
    let Protocol::Http2(protocol) = shape.protocol else {
        let scripts = exchanges.iter().map(|exchange| {
            let of_grpc = shape.protocol.is_grpc();
            let of_grpc = of_grpc.then(|| grpc::over_http1(exchange));
            let exchange = of_grpc.as_ref().unwrap_or(exchange);
            let request = [exchange.request_head(), exchange.request_body_wire()];
            let request = Bytes::of_http1(request.concat());
            let response = Bytes::of_http1(exchange.response_wire());
            call(conversation, shape, request, response)
        });
        return (Vec::new(), scripts.collect());
    };
    let at_once = protocol.streams as usize;
    // The first number of scripts with which the bodies begin anew.
    let scripts = (1..=VARIANTS).find(|scripts| (scripts * at_once).is_multiple_of(VARIANTS));
    let mut peers = http2::Peers::new(protocol);
    let set = |peers: &http2::Peers| {
        let scripts = (0..scripts.unwrap_or(VARIANTS)).map(|script| {
            let mut peers = peers.clone();
            let exchanges = exchanges.iter().cycle().skip(script * at_once);
            let [request, response] = peers.calls(exchanges.take(at_once));
            call(conversation, shape, request, response)
        });
        scripts.collect()
    };
    let firsts = set(&peers);
    if !protocol.table {
        return (Vec::new(), firsts);
    }
    // What the tables have after the first calls is the same whatever these are.
    peers.calls(exchanges.iter().take(at_once));
    (firsts, set(&peers))
}

fn call(
    conversation: &Conversation,
    shape: &Shape,
    mut request: Bytes,
    mut response: Bytes,
) -> Script {
    if shape.opaque {
        // From random numbers of its own, so that everything else is the same as with calls.
        let mut seed = Seed::new(shape.seed);
        for bytes in [&mut request, &mut response] {
            encrypt(&mut bytes.octets, &mut seed);
            bytes.places.clear();
        }
    }
    let mut builder = Builder::new(conversation, &shape.wire);
    for (piece, places) in request.segments() {
        builder.push_call(Side::Client, piece, &places);
    }
    for (index, (piece, places)) in response.segments().enumerate() {
        builder.push_call(Side::Server, piece, &places);
        if index % 2 == 1 {
            builder.push(Side::Client, flags::ACK, &[]);
        }
    }
    builder.script()
}

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
        self.push_segment(side, flags, payload, &[]);
    }

    fn push_call(&mut self, side: Side, payload: &[u8], places: &[Place]) {
        self.push_segment(side, flags::ACK | flags::PSH, payload, places);
    }

    fn push_segment(&mut self, side: Side, flags: u8, payload: &[u8], places: &[Place]) {
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
            places,
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
