//! HTTP/2 for tests: frames and header blocks as octets, and a conversation with what a reader has to find in it.

use bench::traffic::Side;

/// What a client sends first.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Flags of frames.
pub const END_STREAM: u8 = 1;
/// The block is over.
pub const END_HEADERS: u8 = 4;
/// The payload begins with the length of its padding.
pub const PADDED: u8 = 8;
/// The payload begins with a priority.
pub const PRIORITY: u8 = 0x20;

/// Types of frames.
pub const DATA: u8 = 0;
/// A head or trailers.
pub const HEADERS: u8 = 1;
/// An error code.
pub const RST_STREAM: u8 = 3;
/// Pairs of a setting and its value.
pub const SETTINGS: u8 = 4;
/// A promised stream and the head of its request.
pub const PUSH_PROMISE: u8 = 5;
/// Eight octets.
pub const PING: u8 = 6;
/// The last stream and an error code.
pub const GOAWAY: u8 = 7;
/// The rest of a block.
pub const CONTINUATION: u8 = 9;

/// Turns of a conversation.
pub type Turns = Vec<(Side, Vec<u8>)>;

/// One frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, high, middle, low] = (payload.len() as u32).to_be_bytes();
    let mut octets = vec![high, middle, low, kind, flags];
    octets.extend_from_slice(&stream.to_be_bytes());
    octets.extend_from_slice(payload);
    octets
}

/// A string without the Huffman code.
fn string(text: &str) -> Vec<u8> {
    let mut octets = integer(0, 7, text.len());
    octets.extend_from_slice(text.as_bytes());
    octets
}

/// An integer with a prefix of so many bits.
pub fn integer(first: u8, prefix: u32, value: usize) -> Vec<u8> {
    let most = (1 << prefix) - 1;
    if value < most {
        return vec![first | value as u8];
    }
    let mut octets = vec![first | most as u8];
    let mut rest = value - most;
    while rest >= 128 {
        octets.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    octets.push(rest as u8);
    octets
}

/// A field that becomes an entry of the table.
pub fn inserted(name: &str, value: &str) -> Vec<u8> {
    [vec![0x40], string(name), string(value)].concat()
}

/// A field that does not.
pub fn literal(name: &str, value: &str) -> Vec<u8> {
    [vec![0x00], string(name), string(value)].concat()
}

/// A field that is an entry of a table.
pub fn indexed(index: usize) -> Vec<u8> {
    integer(0x80, 7, index)
}

/// A block of literal fields.
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let fields = fields.iter().map(|(name, value)| literal(name, value));
    fields.collect::<Vec<_>>().concat()
}

/// HEADERS with a whole block.
pub fn headers(flags: u8, stream: u32, block: &[u8]) -> Vec<u8> {
    frame(HEADERS, flags | END_HEADERS, stream, block)
}

/// The head of a GET.
pub fn get(stream: u32, path: &str) -> Vec<u8> {
    let fields = [(":method", "GET"), (":authority", "h"), (":path", path)];
    headers(END_STREAM, stream, &block(&fields))
}

/// A response with a body.
pub fn ok(stream: u32, body: &str) -> Vec<u8> {
    let head = headers(0, stream, &indexed(8));
    [head, frame(DATA, END_STREAM, stream, body.as_bytes())].concat()
}

/// Both prefaces, and then `turns`.
pub fn conversation(turns: Turns) -> Turns {
    let settings = frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100]);
    let mut all = vec![
        (Side::Client, [PREFACE, &settings].concat()),
        (Side::Server, settings),
    ];
    all.extend(turns);
    all
}

/// Every kind of frame and of message: two calls at a time, a table that both use, padding, fragments, trailers, a push,
/// a reset.
pub fn everything() -> Turns {
    use Side::{Client, Server};
    let post = [
        inserted(":method", "POST"),
        inserted(":path", "/orders?v=1"),
        inserted(":authority", "shop:8080"),
        inserted("x-table", "kept in the table"),
        literal("cookie", "a=1"),
        literal("te", "trailers"),
        literal("cookie", "b=2"),
    ]
    .concat();
    let (first, rest) = post.split_at(11);
    let (second, third) = rest.split_at(20);
    let padded = [&[5][..], &[0, 0, 0, 0, 16], first, &[0; 5]].concat();
    let request = [
        frame(HEADERS, PADDED | PRIORITY, 1, &padded),
        frame(CONTINUATION, 0, 1, second),
        frame(CONTINUATION, END_HEADERS, 1, third),
        frame(DATA, PADDED, 1, b"\x03{\"order\":\0\0\0"),
        frame(PING, 0, 0, b"pingping"),
        // By the table: the path, the authority and x-table of the first one.
        headers(
            END_STREAM,
            3,
            &[indexed(2), indexed(64), indexed(63), indexed(62)].concat(),
        ),
        frame(0x63, 0xff, 3, b"unheard of"),
        frame(DATA, 0, 1, b"7}"),
        headers(END_STREAM, 1, &block(&[("x-sum", "ffee")])),
    ]
    .concat();
    let response = [
        headers(0, 1, &block(&[(":status", "103"), ("link", "early")])),
        headers(
            0,
            3,
            &[indexed(8), inserted("x-served-by", "node 7")].concat(),
        ),
        frame(DATA, 0, 3, b"half of "),
        headers(0, 1, &[inserted(":status", "201"), indexed(63)].concat()),
        frame(DATA, 0, 1, b"created"),
        frame(
            PUSH_PROMISE,
            END_HEADERS,
            3,
            &[
                &2_u32.to_be_bytes()[..],
                &block(&[
                    (":method", "GET"),
                    (":authority", "shop"),
                    (":path", "/pushed"),
                ]),
            ]
            .concat(),
        ),
        frame(DATA, PADDED | END_STREAM, 3, b"\x02the body\0\0"),
        ok(2, "pushed body"),
        headers(END_STREAM, 1, &block(&[("x-check", "16f4")])),
    ]
    .concat();
    conversation(vec![
        (Client, request),
        (Server, response),
        (Client, get(5, "/gone")),
        (Client, frame(RST_STREAM, 0, 5, &8_u32.to_be_bytes())),
        (
            Client,
            headers(
                END_STREAM,
                7,
                &[indexed(65), indexed(64), indexed(63)].concat(),
            ),
        ),
        (
            Server,
            headers(END_STREAM, 7, &[indexed(62), indexed(63)].concat()),
        ),
        (Server, frame(GOAWAY, 0, 0, &[0, 0, 0, 7, 0, 0, 0, 0])),
    ])
}
