//! Calls as peers of HTTP/2 send them: the heads of all calls at once, then pieces of their bodies in turns.

use super::bytes::Bytes;
use super::call::{COOKIE, PLACEHOLDER};
use super::grpc;
use super::shape::Http2;
use super::template::{Place, positions};
use crate::traffic::http2::{
    ACK, DATA, END_HEADERS, END_STREAM, Encoder, FRAME_BYTES_MAX, FRAME_HEADER, Form, HEADERS,
    PREFACE, SETTINGS, STREAM_AT, WINDOW_UPDATE, frame,
};
use crate::traffic::{Exchange, Side};

/// What both sides send before the first call.
pub(super) fn opening() -> [(Side, Vec<u8>); 3] {
    let mut client = PREFACE.to_vec();
    frame(
        SETTINGS,
        0,
        0,
        &[0, 2, 0, 0, 0, 0, 0, 4, 0, 96, 0, 0],
        &mut client,
    );
    frame(WINDOW_UPDATE, 0, 0, &[0, 96, 0, 0], &mut client);
    let mut server = Vec::new();
    frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 128], &mut server);
    frame(SETTINGS, ACK, 0, &[], &mut server);
    let mut acknowledged = Vec::new();
    frame(SETTINGS, ACK, 0, &[], &mut acknowledged);
    [
        (Side::Client, client),
        (Side::Server, server),
        (Side::Client, acknowledged),
    ]
}

/// Both sides of a connection with their tables.
#[derive(Clone)]
pub(super) struct Peers {
    protocol: Http2,
    client: Encoder,
    server: Encoder,
}

/// Headers of which every call has another value: nothing is gained by inserting them.
const OF_ONE_CALL: [&str; 7] = [
    "x-request-id",
    "etag",
    "content-length",
    "x-call-number",
    "x-answered-number",
    ":path",
    "grpc-status",
];

impl Peers {
    pub(super) fn new(protocol: Http2) -> Self {
        Self {
            protocol,
            client: Encoder::new(),
            server: Encoder::new(),
        }
    }

    /// Calls at once: what the client sends, and the server.
    pub(super) fn calls<'a>(
        &mut self,
        exchanges: impl Iterator<Item = &'a Exchange>,
    ) -> [Bytes; 2] {
        let (mut requests, mut responses) = (Bytes::default(), Bytes::default());
        let mut bodies = Vec::new();
        for (call, exchange) in (0..).zip(exchanges) {
            self.request(call, exchange, &mut requests);
            let block = self.response_head(exchange);
            add(&mut responses, call, HEADERS, END_HEADERS, &block);
            let plain = &exchange.response_body.plain;
            bodies.push((call, self.body(plain)));
        }
        // Halves of small bodies, whole frames of large ones.
        let pieces = |body: &[u8]| body.len().div_ceil(2).clamp(1, FRAME_BYTES_MAX);
        for turn in 0.. {
            let mut is_over = true;
            for (call, body) in &bodies {
                let piece = match bodies.len() {
                    1 => FRAME_BYTES_MAX,
                    _ => pieces(body),
                };
                let Some(payload) = body.chunks(piece).nth(turn) else {
                    continue;
                };
                is_over = false;
                let is_last = (turn + 1) * piece >= body.len();
                let flags = if is_last && !self.protocol.is_grpc {
                    END_STREAM
                } else {
                    0
                };
                add(&mut responses, *call, DATA, flags, payload);
                if is_last && self.protocol.is_grpc {
                    let mut trailers = Vec::new();
                    field(&mut self.server, true, "grpc-status", "0", &mut trailers);
                    let flags = END_HEADERS | END_STREAM;
                    add(&mut responses, *call, HEADERS, flags, &trailers);
                }
            }
            if is_over {
                break;
            }
        }
        [requests, responses]
    }

    fn request(&mut self, call: u64, exchange: &Exchange, requests: &mut Bytes) {
        let Http2 { table, is_grpc, .. } = self.protocol;
        let query: Vec<_> = exchange
            .query
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let path = format!("{}?{}", exchange.path, query.join("&"));
        let mut block = Vec::new();
        let mut add_field = |name: &str, value: &str| {
            field(&mut self.client, table, name, value, &mut block);
        };
        add_field(":method", if is_grpc { "POST" } else { "GET" });
        add_field(":scheme", "http");
        add_field(":path", &path);
        add_field(":authority", &exchange.host);
        add_field("x-call-number", &exchange.number.to_string());
        for (name, value) in &exchange.request_headers {
            // A client has the same cookie in all calls.
            let is_cookie = table && name == "Cookie";
            let value = if is_cookie { COOKIE } else { value };
            add_field(&name.to_lowercase(), value);
        }
        if is_grpc {
            add_field("content-type", grpc::TYPE);
            add_field("te", "trailers");
        }
        let flags = END_HEADERS | if is_grpc { 0 } else { END_STREAM };
        add(requests, call, HEADERS, flags, &block);
        if is_grpc {
            let payload = self.body(grpc::REQUEST);
            add(requests, call, DATA, END_STREAM, &payload);
        }
    }

    fn response_head(&mut self, exchange: &Exchange) -> Vec<u8> {
        let Http2 { table, is_grpc, .. } = self.protocol;
        let mut block = Vec::new();
        let mut add_field = |name: &str, value: &str| {
            field(&mut self.server, table, name, value, &mut block);
        };
        add_field(":status", "200");
        add_field("x-answered-number", &exchange.number.to_string());
        for (name, value) in &exchange.response_headers {
            let is_type = is_grpc && name == "Content-Type";
            let value = if is_type { grpc::TYPE } else { value };
            add_field(&name.to_lowercase(), value);
        }
        if !is_grpc {
            let length = exchange.response_body.plain.len();
            add_field("content-length", &length.to_string());
        }
        block
    }

    /// A body as it is, or as the first field of a message of gRPC.
    fn body(&self, plain: &[u8]) -> Vec<u8> {
        if self.protocol.is_grpc {
            grpc::message(plain)
        } else {
            plain.to_vec()
        }
    }
}

fn field(encoder: &mut Encoder, table: bool, name: &str, value: &str, block: &mut Vec<u8>) {
    let form = if value.contains(&PLACEHOLDER.to_string()) {
        Form::Plain
    } else if table && !OF_ONE_CALL.contains(&name) {
        Form::Table
    } else {
        Form::Literal
    };
    encoder.field(name, value, form, block);
}

/// Adds a frame of a call.
fn add(to: &mut Bytes, call: u64, kind: u8, flags: u8, payload: &[u8]) {
    let at = to.octets.len();
    frame(kind, flags, 0, payload, &mut to.octets);
    to.places.push(Place {
        at: at + STREAM_AT,
        call,
        is_stream: true,
    });
    let numbers = positions(payload, &PLACEHOLDER.to_string());
    to.places.extend(numbers.into_iter().map(|number| Place {
        at: at + FRAME_HEADER + number,
        call,
        is_stream: false,
    }));
}
