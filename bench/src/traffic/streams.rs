//! Exchanges in HTTP/2: several streams at once, frames of every length in any order that the RFC allows, fields with and
//! without the header table.

use std::collections::VecDeque;

use super::exchange::Exchange;
use super::http2::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, Encoder, Form, HEADERS, PADDED, PING,
    PREFACE, SETTINGS, WINDOW_UPDATE, frame,
};
use super::side::Side;
use crate::seed::Seed;

/// A field and whether it may be sent by the table.
type Field = (String, String);

/// What is left to send on a stream.
struct Sending {
    id: u32,
    /// Blocks, the last of which is the head of the message.
    heads: VecDeque<Vec<Field>>,
    body: Vec<u8>,
    has_body: bool,
}

/// The bytes that each side sends, in order: groups of `at_once` calls.
pub(super) fn turns(exchanges: &[Exchange], at_once: usize, seed: u64) -> Vec<(Side, Vec<u8>)> {
    let mut seed = Seed::new(seed);
    let (mut client, mut server) = (Encoder::new(), Encoder::new());
    let mut first = PREFACE.to_vec();
    frame(SETTINGS, 0, 0, &[0, 4, 0, 16, 0, 0], &mut first);
    let mut answer = Vec::new();
    frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100], &mut answer);
    frame(SETTINGS, ACK, 0, &[], &mut answer);
    let mut turns = vec![(Side::Client, first), (Side::Server, answer)];
    let ids = (0_u32..).map(|number| 2 * number + 1);
    let numbered: Vec<_> = ids.zip(exchanges).collect();
    for group in numbered.chunks(at_once.max(1)) {
        let requests = group.iter().map(|(id, exchange)| request(*id, exchange));
        let responses = group.iter().map(|(id, exchange)| response(*id, exchange));
        let requests = send(requests.collect(), &mut client, &mut seed);
        turns.push((Side::Client, requests));
        let responses = send(responses.collect(), &mut server, &mut seed);
        turns.push((Side::Server, responses));
    }
    turns
}

fn lower(headers: Vec<Field>) -> impl Iterator<Item = Field> {
    let framing = |(name, _): &Field| !name.eq_ignore_ascii_case("transfer-encoding");
    let lower = |(name, value): Field| (name.to_lowercase(), value.trim().to_owned());
    headers.into_iter().filter(framing).map(lower)
}

fn request(id: u32, exchange: &Exchange) -> Sending {
    let mut head = vec![
        (":method".to_owned(), exchange.method.clone()),
        (":scheme".to_owned(), "http".to_owned()),
        (":path".to_owned(), exchange.target()),
        (":authority".to_owned(), exchange.host.clone()),
    ];
    head.extend(lower(exchange.sent_request_headers()));
    let body = exchange.request_body.coded();
    Sending {
        id,
        heads: VecDeque::from([head]),
        has_body: !body.is_empty(),
        body,
    }
}

fn response(id: u32, exchange: &Exchange) -> Sending {
    let status = |status: u16| (":status".to_owned(), status.to_string());
    let interim = exchange.interim.iter().map(|code| vec![status(*code)]);
    let mut heads: VecDeque<_> = interim.collect();
    let mut head = vec![status(exchange.status)];
    head.extend(lower(exchange.sent_response_headers()));
    heads.push_back(head);
    let body = if exchange.has_response_body() {
        exchange.response_body.coded()
    } else {
        Vec::new()
    };
    Sending {
        id,
        heads,
        has_body: !body.is_empty(),
        body,
    }
}

/// All frames of some messages, in an order of which only that of the first heads is fixed.
fn send(mut messages: VecDeque<Sending>, encoder: &mut Encoder, seed: &mut Seed) -> Vec<u8> {
    let (mut out, mut open) = (Vec::new(), Vec::<Sending>::new());
    while !messages.is_empty() || !open.is_empty() {
        if seed.chance(50) {
            match seed.within(0..=2) {
                0 => frame(PING, 0, 0, b"pingping", &mut out),
                1 => frame(WINDOW_UPDATE, 0, 0, &[0, 0, 1, 0], &mut out),
                _ => frame(0xbe, 0xff, 0, b"unheard of", &mut out),
            }
        }
        let begins = !messages.is_empty() && (open.is_empty() || seed.chance(400));
        let place = if begins {
            open.extend(messages.pop_front());
            open.len() - 1
        } else {
            seed.within(0..=open.len() - 1)
        };
        let Some(message) = open.get_mut(place) else {
            break;
        };
        if let Some(fields) = message.heads.pop_front() {
            let is_last = message.heads.is_empty() && !message.has_body;
            head(message.id, is_last, &fields, encoder, seed, &mut out);
        } else {
            data(message, seed, &mut out);
        }
        if message.heads.is_empty() && !message.has_body {
            open.remove(place);
        }
    }
    out
}

/// A block in HEADERS and perhaps CONTINUATION.
fn head(
    id: u32,
    ends: bool,
    fields: &[Field],
    encoder: &mut Encoder,
    seed: &mut Seed,
    out: &mut Vec<u8>,
) {
    let mut block = Vec::new();
    for (name, value) in fields {
        // The numbers are known whatever is lost.
        let form = match seed.within(0..=5) {
            _ if name.ends_with("-number") => Form::Plain,
            0 => Form::Literal,
            1 => Form::Plain,
            _ => Form::Table,
        };
        encoder.field(name, value, form, &mut block);
    }
    let piece = if seed.chance(200) {
        seed.within(1..=block.len())
    } else {
        16_000
    };
    let count = block.len().div_ceil(piece);
    for (number, piece) in block.chunks(piece).enumerate() {
        let is_last = number + 1 == count;
        let flags = if is_last { END_HEADERS } else { 0 };
        if number > 0 {
            frame(CONTINUATION, flags, id, piece, out);
            continue;
        }
        let flags = flags | if ends { END_STREAM } else { 0 };
        if seed.chance(100) {
            frame(HEADERS, flags | PADDED, id, &padded(piece, seed), out);
        } else {
            frame(HEADERS, flags, id, piece, out);
        }
    }
}

/// Some of a body in DATA, the last of which may be empty.
fn data(message: &mut Sending, seed: &mut Seed, out: &mut Vec<u8>) {
    let most = *seed.pick(&[1, 100, 1_000, 16_000, 16_000]);
    let length = message.body.len().min(seed.within(1..=most));
    let rest = message.body.split_off(length);
    let piece = std::mem::replace(&mut message.body, rest);
    let ends = message.body.is_empty() && (piece.is_empty() || seed.chance(700));
    let flags = if ends { END_STREAM } else { 0 };
    if seed.chance(100) {
        frame(DATA, flags | PADDED, message.id, &padded(&piece, seed), out);
    } else {
        frame(DATA, flags, message.id, &piece, out);
    }
    message.has_body = !ends;
}

fn padded(payload: &[u8], seed: &mut Seed) -> Vec<u8> {
    let padding = seed.within(0..=255);
    [&[padding as u8][..], payload, &vec![0; padding]].concat()
}
