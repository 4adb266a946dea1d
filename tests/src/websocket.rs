//! WebSocket for tests: frames as octets, a peer that compresses, and seeded messages with the lists that a reader has to find.

use bench::seed::Seed;
use bench::traffic::Side;
use flate2::{Compress, Compression, FlushCompress};

use crate::http2::{self, Turns};

/// Opcodes.
pub const CONTINUATION: u8 = 0;
/// A message of UTF-8.
pub const TEXT: u8 = 1;
/// A message of any bytes.
pub const BINARY: u8 = 2;
/// The end.
pub const CLOSE: u8 = 8;
/// Asks for a pong.
pub const PING: u8 = 9;

/// The last frame of its message.
pub const FIN: u8 = 0x80;
/// The message is compressed.
pub const COMPRESSED: u8 = 0x40;

/// One frame of this side; `first` is the opcode with its flags.
pub fn frame(side: Side, first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x12, 0x9a, 0x00, 0xf7];
    let is_masked = side == Side::Client;
    let bit = if is_masked { 0x80 } else { 0 };
    let mut octets = vec![first];
    match payload.len() {
        length @ 0..=125 => octets.push(bit | length as u8),
        length @ 126..=0xffff => {
            octets.push(bit | 126);
            octets.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            octets.push(bit | 127);
            octets.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    if is_masked {
        octets.extend_from_slice(&mask);
        let masked = payload.iter().zip(mask.iter().cycle());
        octets.extend(masked.map(|(octet, mask)| octet ^ mask));
    } else {
        octets.extend_from_slice(payload);
    }
    octets
}

/// A message in one frame.
pub fn text(side: Side, text: &str) -> Vec<u8> {
    frame(side, FIN | TEXT, text.as_bytes())
}

/// A Close frame with a code.
pub fn close(side: Side, code: u16) -> Vec<u8> {
    frame(side, FIN | CLOSE, &code.to_be_bytes())
}

/// Both heads of a handshake over HTTP/1, with what the server has agreed to.
pub fn handshake(path: &str, extensions: &str) -> Turns {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    );
    let extensions = match extensions {
        "" => String::new(),
        agreed => format!("Sec-WebSocket-Extensions: {agreed}\r\n"),
    };
    let response = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n{extensions}\r\n"
    );
    vec![
        (Side::Client, request.into_bytes()),
        (Side::Server, response.into_bytes()),
    ]
}

/// The same on stream 1 of HTTP/2.
pub fn handshake_on_stream(path: &str, extensions: &str) -> Turns {
    let fields = [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "http"),
        (":authority", "h"),
        (":path", path),
        ("sec-websocket-version", "13"),
    ];
    let mut answer = http2::indexed(8);
    if !extensions.is_empty() {
        answer.extend(http2::literal("sec-websocket-extensions", extensions));
    }
    http2::conversation(vec![
        (Side::Client, http2::headers(0, 1, &http2::block(&fields))),
        (Side::Server, http2::headers(0, 1, &answer)),
    ])
}

/// Compresses messages, with or without the context of those before.
pub struct Deflater {
    compress: Compress,
    has_context: bool,
}

impl Deflater {
    /// One that has sent nothing.
    pub fn new(has_context: bool) -> Self {
        Self {
            compress: Compress::new(Compression::default(), false),
            has_context,
        }
    }

    /// The payload of the next message.
    pub fn message(&mut self, text: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(text.len() + 1000);
        let compressed = self
            .compress
            .compress_vec(text, &mut out, FlushCompress::Sync);
        compressed.expect("there is room");
        if !self.has_context {
            self.compress.reset();
        }
        out.truncate(out.len() - 4);
        out
    }
}

/// A seeded conversation.
pub struct Chat {
    /// What the server agreed to.
    pub extensions: &'static str,
    /// Bytes of both sides behind the handshake.
    pub turns: Turns,
    /// The messages of the client and of the server, each as an element of its list.
    pub elements: [Vec<String>; 2],
}

impl Chat {
    /// Messages of all kinds and lengths, whole and in fragments with control frames between them.
    pub fn seeded(seed: &mut Seed) -> Self {
        let (extensions, contexts) = *seed.pick(&[
            ("", [false; 2]),
            ("permessage-deflate", [true; 2]),
            (
                "permessage-deflate; server_no_context_takeover",
                [true, false],
            ),
            (
                "permessage-deflate; client_no_context_takeover; client_max_window_bits=15",
                [false, true],
            ),
        ]);
        let mut deflaters = contexts.map(Deflater::new);
        let mut elements = [Vec::new(), Vec::new()];
        let mut turns = Vec::new();
        for number in 0..seed.within(0..=25) {
            let side = *seed.pick(&[Side::Client, Side::Server]);
            let index = usize::from(side == Side::Server);
            let (opcode, bytes, element) = message(number, seed);
            elements[index].push(element);
            let is_compressed = !extensions.is_empty() && seed.chance(700);
            let (first, payload) = if is_compressed {
                (opcode | COMPRESSED, deflaters[index].message(&bytes))
            } else {
                (opcode, bytes)
            };
            turns.push((side, frames(side, first, &payload, seed)));
        }
        if seed.chance(700) {
            let side = *seed.pick(&[Side::Client, Side::Server]);
            turns.push((side, close(side, 1000)));
            if seed.chance(800) {
                turns.push((side.other(), close(side.other(), 1000)));
            }
        }
        Self {
            extensions,
            turns,
            elements,
        }
    }

    /// The list of each side; nothing where it has sent no message.
    pub fn lists(&self) -> [Option<String>; 2] {
        let list = |elements: &Vec<String>| {
            (!elements.is_empty()).then(|| format!("[{}]", elements.join(",")))
        };
        [list(&self.elements[0]), list(&self.elements[1])]
    }

    /// The whole connection, over HTTP/1.
    pub fn over_http1(&self, path: &str) -> Turns {
        let mut turns = handshake(path, self.extensions);
        turns.extend(self.turns.iter().cloned());
        turns
    }

    /// The same on a stream of HTTP/2, in DATA frames that do not care where a message begins.
    pub fn over_http2(&self, path: &str, seed: &mut Seed) -> Turns {
        let mut turns = handshake_on_stream(path, self.extensions);
        for (side, bytes) in &self.turns {
            let mut rest = &bytes[..];
            let mut frames = Vec::new();
            while !rest.is_empty() {
                let (piece, behind) = rest.split_at(seed.within(1..=rest.len().min(5000)));
                rest = behind;
                if seed.chance(200) {
                    let padded = [&[3][..], piece, &[0; 3]].concat();
                    frames.extend(http2::frame(http2::DATA, http2::PADDED, 1, &padded));
                } else {
                    frames.extend(http2::frame(http2::DATA, 0, 1, piece));
                }
            }
            turns.push((*side, frames));
        }
        for side in [Side::Client, Side::Server] {
            turns.push((side, http2::frame(http2::DATA, http2::END_STREAM, 1, b"")));
        }
        turns
    }
}

/// A message: its opcode, its bytes, and the element that it has to become. The number makes each of them different.
fn message(number: usize, seed: &mut Seed) -> (u8, Vec<u8>, String) {
    let length = match seed.within(0..=5) {
        0 => 0,
        1 => seed.within(120..=130),
        2 => seed.within(60_000..=70_000),
        _ => seed.within(1..=600),
    };
    let word = format!("{number}:{}", "word ".repeat(length / 5));
    match seed.within(0..=2) {
        0 => {
            let text = format!("{{\"k\": [{number}, \"{word}\"]}}");
            (TEXT, text.clone().into_bytes(), text)
        }
        1 => {
            let text = format!("{word} \"\u{e9}\"\n");
            let element = serde_json::to_string(&text).expect("a string");
            (TEXT, text.into_bytes(), element)
        }
        _ => {
            let bytes = [word.as_bytes(), &[0xff, b'!']].concat();
            let element = serde_json::to_string(&String::from_utf8_lossy(&bytes));
            (BINARY, bytes, element.expect("a string"))
        }
    }
}

/// The frames of a message.
fn frames(side: Side, first: u8, payload: &[u8], seed: &mut Seed) -> Vec<u8> {
    let count = if seed.chance(600) {
        1
    } else {
        seed.within(2..=4)
    };
    let mut octets = Vec::new();
    let mut rest = payload;
    for index in 0..count {
        let is_last = index + 1 == count;
        let length = if is_last {
            rest.len()
        } else {
            seed.within(0..=rest.len())
        };
        let (piece, behind) = rest.split_at(length);
        rest = behind;
        let opcode = if index == 0 { first } else { CONTINUATION };
        let flag = if is_last { FIN } else { 0 };
        octets.extend(frame(side, opcode | flag, piece));
        if seed.chance(300) {
            let ping = seed.bytes(seed.clone().within(0..=125));
            octets.extend(frame(side, FIN | PING, &ping));
        }
    }
    octets
}
