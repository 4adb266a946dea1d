//! What the first bytes of a direction are.
//!
//! Nothing here keeps bytes: where they are too few for an answer it is [`Detected::Partial`], and the caller collects.

use memchr::memchr;

use crate::http::h1::start_line::{
    STATUS_BLANKS_MAX, is_blank, is_token, request_line, split_blanks,
};
use crate::http::{Protocol, Version};

/// What the first bytes of a direction are, after leading empty lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Detected {
    /// Too few for an answer; so far they may begin an HTTP message.
    Partial,
    /// A request line with a version.
    Request,
    /// A request line without a version: HTTP/0.9, unless more lines follow.
    Simple,
    /// A status line.
    Response,
    /// Another protocol that is known by its first bytes.
    Protocol(Protocol),
    /// Something that HTTP may follow: a PROXY protocol header (v1 or v2), or a SOCKS request (RFC 1928, SOCKS4).
    Preamble,
    /// None of these.
    Unknown,
}

/// Openings of a fixed text, and what they show.
const OPENINGS: [(&[u8], Detected); 3] = [
    // The connection preface of HTTP/2 (RFC 9113 §3.4).
    (b"PRI * HTTP/2.0", Detected::Protocol(Protocol::Http2)),
    (b"PROXY ", Detected::Preamble),
    // Of the PROXY v2 signature `\r\n\r\n\0\r\nQUIT\n`, what is left when leading empty lines were skipped.
    (b"\0\r\nQUIT\n", Detected::Preamble),
];

/// Recognises `bytes`, the first of a direction without leading empty lines.
pub(super) fn classify(bytes: &[u8]) -> Detected {
    for (opening, detected) in OPENINGS {
        if bytes.starts_with(opening) {
            return detected;
        }
        if opening.starts_with(bytes) {
            return Detected::Partial;
        }
    }
    if let Some(detected) = settings_start(bytes) {
        return detected;
    }
    match bytes {
        [0x14..=0x17] | [0x14..=0x17, 3] => Detected::Partial,
        // A TLS record, or an SSLv2 hello.
        [0x14..=0x17, 3, 0..=4, ..] | [0x80..=0xff, _, 1, 3, 0..=4, ..] => {
            Detected::Protocol(Protocol::Tls)
        }
        [0x80..=0xff] | [0x80..=0xff, _] | [0x80..=0xff, _, 1] | [0x80..=0xff, _, 1, 3] => {
            Detected::Partial
        }
        [4 | 5] => Detected::Partial,
        [4, 1, ..] | [5, 1..=8, ..] => Detected::Preamble,
        [b'H', b'T', b'T', b'P', b'/', ..] => response_start(bytes),
        _ => request_start(bytes),
    }
}

/// The settings that a server of HTTP/2 sends first (RFC 9113 §3.4), perhaps before it has seen the preface.
fn settings_start(bytes: &[u8]) -> Option<Detected> {
    const LENGTH_MAX: u8 = 0x40;
    const KIND_TO_STREAM: [u8; 6] = [4, 0, 0, 0, 0, 0];
    let (&first, rest) = bytes.split_first()?;
    let (length, behind) = rest.split_at_checked(2).unwrap_or((rest, &[]));
    let fits = behind
        .iter()
        .zip(KIND_TO_STREAM)
        .all(|(byte, expected)| *byte == expected);
    if first != 0 || length.first().is_some_and(|high| *high >= LENGTH_MAX) || !fits {
        return None;
    }
    if behind.len() < KIND_TO_STREAM.len() {
        return Some(Detected::Partial);
    }
    let &[high, low] = length.first_chunk()?;
    let is_whole = u16::from_be_bytes([high, low]).is_multiple_of(6);
    is_whole.then_some(Detected::Protocol(Protocol::Http2))
}

/// Bytes that decide whether they begin a response, unless it has more blanks than one before its status.
pub(super) const STATUS_BYTES: usize = b"HTTP/1.1 200 ".len();

fn response_start(bytes: &[u8]) -> Detected {
    const VERSION: &[u8] = b"HTTP/0.0";
    const STATUS: &[u8] = b"000 ";
    let version = bytes.get(..VERSION.len()).unwrap_or(bytes);
    let (blanks, status) = split_blanks(bytes.get(VERSION.len()..).unwrap_or_default());
    let fits = |(&byte, &template): (&u8, &u8)| match template {
        b'0' => byte.is_ascii_digit(),
        b' ' => matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | 0),
        _ => byte == template,
    };
    let known = version.iter().zip(VERSION).all(fits) && status.iter().zip(STATUS).all(fits);
    if !known || blanks > STATUS_BLANKS_MAX || (blanks == 0 && !status.is_empty()) {
        Detected::Unknown
    } else if status.len() < STATUS.len() {
        Detected::Partial
    } else {
        Detected::Response
    }
}

/// Bytes of the leading lines that have nothing but white space: some servers skip them as they skip empty ones.
#[cold]
pub(super) fn blank_lines(bytes: &[u8]) -> usize {
    let white = bytes.iter().copied().take_while(|&byte| is_white(byte));
    let white = bytes.get(..white.count()).unwrap_or_default();
    memchr::memrchr(b'\n', white).map_or(0, |end| end + 1)
}

const fn is_white(byte: u8) -> bool {
    is_blank(byte) || byte == b'\n'
}

fn request_start(bytes: &[u8]) -> Detected {
    let Some(method) = bytes.iter().position(|&byte| !is_token(byte)) else {
        return Detected::Partial;
    };
    if method == 0 && bytes.iter().copied().all(is_white) {
        return Detected::Partial;
    }
    if method == 0 || !bytes.get(method).copied().is_some_and(is_blank) {
        return Detected::Unknown;
    }
    match memchr(b'\n', bytes) {
        Some(end) => match request_line(bytes.get(..end).unwrap_or(bytes)) {
            Some(line) if line.version == Version::Http09 => Detected::Simple,
            Some(_) => Detected::Request,
            None => Detected::Unknown,
        },
        None => Detected::Partial,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], expected: Detected) {
        assert_eq!(classify(bytes), expected, "{}", bytes.escape_ascii());
        if !matches!(expected, Detected::Unknown) {
            for cut in 0..bytes.len() {
                let early = classify(&bytes[..cut]);
                assert!(
                    [Detected::Partial, expected].contains(&early),
                    "{early:?} after {cut} bytes"
                );
            }
        }
    }

    #[test]
    fn first_bytes() {
        check(b"GET / HTTP/1.1\r\n", Detected::Request);
        check(b"x-any_Token! \xff HTTP/1.0\n", Detected::Request);
        check(b"GET /a b HTTP/1.1\r\n", Detected::Request);
        check(b"OPTIONS HTTP/1.1\r\n", Detected::Request);
        check(b"GET / HTTP/2.0\r\n", Detected::Request);
        check(b"GET / HTTP/1\r\n", Detected::Request);
        check(b"GET / http/1.1\r\n", Detected::Request);
        check(b"GET\x0b/\x0cHTTP/1.1\r\n", Detected::Request);
        check(b"GET /\rHTTP/1.1\r\n", Detected::Request);
        check(b"GET / FOO/1.1\r\n", Detected::Unknown);
        check(b"GET / HTTP/one\r\n", Detected::Unknown);
        check(b"GET /\r\n", Detected::Simple);
        check(b"HTTP/1.1 200 OK\r\n", Detected::Response);
        check(b"HTTP/1.0 599\r", Detected::Response);
        check(b"HTTP/1.1 999\n", Detected::Response);
        check(b"HTTP/1.1  200 OK", Detected::Response);
        check(b"HTTP/2.0 200 OK", Detected::Response);
        check(b"HTTP/1.1200 OK", Detected::Unknown);
        check(b"HTTP/1.1 200\0OK\r\n", Detected::Response);
        check(
            b"\x16\x03\x01\x02\x00\x01",
            Detected::Protocol(Protocol::Tls),
        );
        check(b"\x80\x2e\x01\x03\x01", Detected::Protocol(Protocol::Tls));
        check(
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            Detected::Protocol(Protocol::Http2),
        );
        check(
            b"\0\0\x06\x04\0\0\0\0\0\0\x03",
            Detected::Protocol(Protocol::Http2),
        );
        check(b"\0\0\x05\x04\0\0\0\0\0", Detected::Unknown);
        check(b"\0\0\x06\x05\0\0\0\0\0", Detected::Unknown);
        check(b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n", Detected::Preamble);
        check(b"\0\r\nQUIT\n\x21", Detected::Preamble);
        check(b"\x05\x01\x00", Detected::Preamble);
        check(b"\x04\x01\x00\x50\x01\x02\x03\x04\x00", Detected::Preamble);
        check(b"GET key\r\n", Detected::Unknown);
        check(b"HTTP/2 200\r\n", Detected::Unknown);
        check(b"HTTP/1.1 2x0 OK\r\n", Detected::Unknown);
        check(b"SSH-2.0-OpenSSH_9.2\r\n", Detected::Unknown);
        check(b"220 mail.example ESMTP\r\n", Detected::Unknown);
        check(b"OPTIONS rtsp://h/ RTSP/1.0\r\n", Detected::Unknown);
        check(&[b'A'; 70], Detected::Partial);
        check(b" \t\r\n \x0b", Detected::Partial);
        check(
            format!("{} / HTTP/1.1\r\n", "M".repeat(5000)).as_bytes(),
            Detected::Request,
        );
    }
}
