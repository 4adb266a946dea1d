//! HTTP/2 as its peers send it (RFC 9113, RFC 7541): frames, and header blocks with the table that an encoder keeps.

use std::collections::VecDeque;

/// What a client sends first.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Types of frames.
pub const DATA: u8 = 0;
/// A head or trailers.
pub const HEADERS: u8 = 1;
/// Pairs of a setting and its value.
pub const SETTINGS: u8 = 4;
/// Eight octets.
pub const PING: u8 = 6;
/// More bytes that the peer may send.
pub const WINDOW_UPDATE: u8 = 8;

/// The rest of a block.
pub const CONTINUATION: u8 = 9;

/// Flags: the side of the stream is over.
pub const END_STREAM: u8 = 1;
/// The settings of the peer are in force.
pub const ACK: u8 = 1;
/// The block is over.
pub const END_HEADERS: u8 = 4;
/// The payload begins with the length of its padding.
pub const PADDED: u8 = 8;

/// The longest frame unless the peer has set another length.
pub const FRAME_BYTES_MAX: usize = 16_384;

/// Octets of a frame's header, and where the number of its stream stands in it.
pub const FRAME_HEADER: usize = 9;
/// Where the number of the stream stands in the header.
pub const STREAM_AT: usize = 5;

/// One frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8], out: &mut Vec<u8>) {
    let [_, high, middle, low] = (payload.len() as u32).to_be_bytes();
    out.extend_from_slice(&[high, middle, low, kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// How a field is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// By the table, into which it is inserted if it is not there.
    Table,
    /// As a literal that changes nothing.
    Literal,
    /// The same without the Huffman code, so that digits in it can be overwritten.
    Plain,
}

/// The entries of the static table that are used here (RFC 7541, Appendix A).
const STATIC: [(usize, &str, &str); 33] = [
    (1, ":authority", ""),
    (2, ":method", "GET"),
    (3, ":method", "POST"),
    (4, ":path", "/"),
    (6, ":scheme", "http"),
    (8, ":status", "200"),
    (9, ":status", "204"),
    (10, ":status", "206"),
    (11, ":status", "304"),
    (12, ":status", "400"),
    (13, ":status", "404"),
    (14, ":status", "500"),
    (17, "accept-language", ""),
    (19, "accept", ""),
    (21, "age", ""),
    (22, "allow", ""),
    (23, "authorization", ""),
    (24, "cache-control", ""),
    (26, "content-encoding", ""),
    (28, "content-length", ""),
    (31, "content-type", ""),
    (32, "cookie", ""),
    (33, "date", ""),
    (34, "etag", ""),
    (35, "expect", ""),
    (45, "link", ""),
    (46, "location", ""),
    (51, "referer", ""),
    (54, "server", ""),
    (55, "set-cookie", ""),
    (58, "user-agent", ""),
    (59, "vary", ""),
    (61, "www-authenticate", ""),
];

/// Entries of the static table.
const STATIC_ENTRIES: usize = 61;

/// An encoder of header blocks with its table.
#[derive(Clone, Debug)]
pub struct Encoder {
    /// The newest one first.
    entries: VecDeque<(String, String)>,
    size: usize,
    size_max: usize,
}

impl Encoder {
    /// One with an empty table of the default size.
    pub fn new() -> Self {
        Self {
            entries: VecDeque::new(),
            size: 0,
            size_max: 4096,
        }
    }

    /// Appends a field to a block.
    pub fn field(&mut self, name: &str, value: &str, form: Form, out: &mut Vec<u8>) {
        let of_static = STATIC
            .iter()
            .find(|(_, other, known)| *other == name && *known == value);
        if let Some((index, ..)) = of_static {
            return integer(0x80, 7, *index, out);
        }
        let known = |(other, known): &(String, String)| other == name && known == value;
        if form == Form::Table
            && let Some(place) = self.entries.iter().position(known)
        {
            return integer(0x80, 7, STATIC_ENTRIES + 1 + place, out);
        }
        let name_at = STATIC.iter().find(|(_, other, _)| *other == name);
        let name_at = name_at.map(|(index, ..)| *index).or_else(|| {
            let place = self.entries.iter().position(|(other, _)| other == name)?;
            (form == Form::Table).then_some(STATIC_ENTRIES + 1 + place)
        });
        let (first, prefix) = match form {
            Form::Table => (0x40, 6),
            Form::Literal | Form::Plain => (0x00, 4),
        };
        integer(first, prefix, name_at.unwrap_or(0), out);
        if name_at.is_none() {
            string(name, true, out);
        }
        string(value, form != Form::Plain, out);
        if form == Form::Table {
            self.insert(name, value);
        }
    }

    fn insert(&mut self, name: &str, value: &str) {
        let size = |name: &str, value: &str| name.len() + value.len() + 32;
        self.entries.push_front((name.into(), value.into()));
        self.size += size(name, value);
        while self.size > self.size_max {
            let Some((name, value)) = self.entries.pop_back() else {
                break;
            };
            self.size -= size(&name, &value);
        }
    }
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

/// An integer with a prefix of so many bits.
fn integer(first: u8, prefix: u32, value: usize, out: &mut Vec<u8>) {
    let most = (1 << prefix) - 1;
    if value < most {
        return out.push(first | value as u8);
    }
    out.push(first | most as u8);
    let mut rest = value - most;
    while rest >= 128 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// A string, with the Huffman code if it may be used and if that is shorter.
fn string(text: &str, may_code: bool, out: &mut Vec<u8>) {
    match huffman(text).filter(|coded| may_code && coded.len() < text.len()) {
        Some(coded) => {
            integer(0x80, 7, coded.len(), out);
            out.extend_from_slice(&coded);
        }
        None => {
            integer(0, 7, text.len(), out);
            out.extend_from_slice(text.as_bytes());
        }
    }
}

/// Length in bits of the codes of the octets from the blank to the tilde (RFC 7541, Appendix B). The code is canonical, and
/// of all other octets only NUL has a code as short as the longest of those that are used.
#[rustfmt::skip]
const LENGTHS: [u32; 95] = [
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13,
];

/// The code of NUL, the first one of its length.
const NUL_BITS: u32 = 13;

/// Longer codes are not used: octets that are not listed have some of their length.
const BITS_MAX: u32 = 15;

/// Text in the Huffman code; nothing if an octet of it has a code that is not known here.
fn huffman(text: &str) -> Option<Vec<u8>> {
    const CODES: [(u32, u32); LENGTHS.len()] = codes();
    let (mut coded, mut bits, mut count) = (Vec::new(), 0_u64, 0);
    for octet in text.bytes() {
        let (code, length) = *CODES.get(usize::from(octet.checked_sub(b' ')?))?;
        if length == 0 {
            return None;
        }
        bits = bits << length | u64::from(code);
        count += length;
        while count >= 8 {
            count -= 8;
            coded.push((bits >> count) as u8);
        }
    }
    if count > 0 {
        coded.push((bits << (8 - count)) as u8 | (0xff >> count));
    }
    Some(coded)
}

/// Code and length of each octet; no length where it is not known.
const fn codes() -> [(u32, u32); LENGTHS.len()] {
    let mut codes = [(0, 0); LENGTHS.len()];
    let (mut next, mut length) = (0, 1);
    while length <= BITS_MAX {
        next <<= 1;
        if length == NUL_BITS {
            next += 1;
        }
        let mut place = 0;
        while place < LENGTHS.len() {
            if LENGTHS[place] == length {
                codes[place] = (next, length);
                next += 1;
            }
            place += 1;
        }
        length += 1;
    }
    codes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The requests of RFC 7541, Appendix C.4, and a text of C.6.
    #[test]
    fn blocks_of_the_rfc() {
        let mut encoder = Encoder::new();
        let mut block = |fields: &[(&str, &str)]| {
            let mut out = Vec::new();
            for (name, value) in fields {
                encoder.field(name, value, Form::Table, &mut out);
            }
            out
        };
        let first = [
            (":method", "GET"),
            (":scheme", "http"),
            (":path", "/"),
            (":authority", "www.example.com"),
        ];
        assert_eq!(
            block(&first),
            b"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff"
        );
        let second = [&first[..], &[("cache-control", "no-cache")]].concat();
        assert_eq!(
            block(&second),
            b"\x82\x86\x84\xbe\x58\x86\xa8\xeb\x10\x64\x9c\xbf"
        );
        assert_eq!(huffman("@").unwrap(), b"\xff\xd7");
        assert_eq!(
            huffman("Mon, 21 Oct 2013 20:13:21 GMT").unwrap(),
            b"\xd0\x7a\xbe\x94\x10\x54\xd4\x44\xa8\x20\x05\x95\x04\x0b\x81\x66\xe0\x82\xa6\x2d\x1b\xff"
        );
    }
}
