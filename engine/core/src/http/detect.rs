//! The first bytes of a half in, what they speak out; and, in the middle of a half, where the next message starts.
//!
//! ```text
//! request-line = method SP request-target SP version            RFC 9112 §3
//! status-line  = version SP 3DIGIT [ SP reason ]                 RFC 9112 §4, reason and its blank may be missing
//! version      = "HTTP/" DIGIT "." DIGIT                         RFC 9112 §2.3
//! simple       = method SP "/..."                                HTTP/0.9
//! ```
//!
//! A version other than 1.x does not make a message another protocol's: servers answer such requests (with 505 or as if
//! they were 1.x), and so they do requests whose version is misspelt (with 400).
//!
//! Nothing here keeps bytes: a start line that is not all there is [`Verdict::Partial`], and the caller collects.

use memchr::memchr;

use crate::http::h1::start_line::{
    METHOD_BYTES_MAX, RequestLine, STATUS_BLANKS_MAX, is_blank, is_token, request_line,
    split_blanks,
};

/// What the first bytes of a half are, after leading empty lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Too few to say; so far they may begin an HTTP message.
    Partial,
    /// A request line with a version.
    Request,
    /// A request line without a version: HTTP/0.9, unless more lines follow.
    Simple,
    /// A status line.
    Response,
    /// A TLS record or an SSLv2 hello.
    Tls,
    /// The HTTP/2 connection preface.
    Http2,
    /// Something that HTTP may follow: a PROXY protocol header (v1 or v2), or a SOCKS request (RFC 1928, SOCKS4).
    Preamble,
    /// Nothing that we know.
    Other,
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0";
const PROXY_V1: &[u8] = b"PROXY ";
/// Of the v2 signature `\r\n\r\n\0\r\nQUIT\n`, what is left when leading empty lines were skipped.
const PROXY_V2: &[u8] = b"\0\r\nQUIT\n";

/// Says what `bytes`, the first of a half without leading empty lines, speak.
pub(super) fn classify(bytes: &[u8]) -> Verdict {
    for (known, verdict) in [
        (PREFACE, Verdict::Http2),
        (PROXY_V1, Verdict::Preamble),
        (PROXY_V2, Verdict::Preamble),
    ] {
        if bytes.starts_with(known) {
            return verdict;
        }
    }
    match bytes {
        [] | [0x14..=0x17] | [0x14..=0x17, 3] => Verdict::Partial,
        [0x14..=0x17, 3, 0..=4, ..] | [0x80..=0xff, _, 1, 3, 0..=4, ..] => Verdict::Tls,
        [0x80..=0xff] | [0x80..=0xff, _] | [0x80..=0xff, _, 1] | [0x80..=0xff, _, 1, 3] => {
            Verdict::Partial
        }
        [4 | 5] => Verdict::Partial,
        [4, 1, ..] | [5, 1..=8, ..] => Verdict::Preamble,
        _ if PROXY_V2.starts_with(bytes) => Verdict::Partial,
        [b'H', b'T', b'T', b'P', b'/', ..] => response_start(bytes),
        _ => request_start(bytes),
    }
}

/// So many bytes decide whether they begin a response, unless it has more blanks than one before its status.
pub(super) const STATUS_BYTES: usize = b"HTTP/1.1 200 ".len();

fn response_start(bytes: &[u8]) -> Verdict {
    const VERSION: &[u8] = b"HTTP/0.0";
    const STATUS: &[u8] = b"000 ";
    let version = bytes.get(..VERSION.len()).unwrap_or(bytes);
    let (blanks, status) = split_blanks(bytes.get(VERSION.len()..).unwrap_or_default());
    let fits = |(&byte, &template): (&u8, &u8)| match template {
        b'0' => byte.is_ascii_digit(),
        b' ' => matches!(byte, b' ' | b'\t' | b'\r' | b'\n'),
        _ => byte == template,
    };
    let known = version.iter().zip(VERSION).all(fits) && status.iter().zip(STATUS).all(fits);
    if !known || blanks > STATUS_BLANKS_MAX || (blanks == 0 && !status.is_empty()) {
        Verdict::Other
    } else if status.len() < STATUS.len() {
        Verdict::Partial
    } else {
        Verdict::Response
    }
}

fn request_start(bytes: &[u8]) -> Verdict {
    let head = bytes.get(..METHOD_BYTES_MAX + 1).unwrap_or(bytes);
    let Some(method) = head.iter().position(|&byte| !is_token(byte)) else {
        return if head.len() > METHOD_BYTES_MAX {
            Verdict::Other
        } else {
            Verdict::Partial
        };
    };
    if method == 0 || !head.get(method).copied().is_some_and(is_blank) {
        return Verdict::Other;
    }
    match memchr(b'\n', bytes) {
        Some(end) => match request_line(bytes.get(..end).unwrap_or(bytes)) {
            Some(RequestLine { minor: Some(_), .. }) => Verdict::Request,
            Some(_) => Verdict::Simple,
            None => Verdict::Other,
        },
        None => Verdict::Partial,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], expected: Verdict) {
        assert_eq!(classify(bytes), expected, "{}", bytes.escape_ascii());
        if !matches!(expected, Verdict::Other) {
            for cut in 0..bytes.len() {
                let early = classify(&bytes[..cut]);
                assert!(
                    [Verdict::Partial, expected].contains(&early),
                    "{early:?} after {cut} bytes"
                );
            }
        }
    }

    #[test]
    fn first_bytes() {
        check(b"GET / HTTP/1.1\r\n", Verdict::Request);
        check(b"x-any_Token! \xff HTTP/1.0\n", Verdict::Request);
        check(b"GET /a b HTTP/1.1\r\n", Verdict::Request);
        check(b"OPTIONS HTTP/1.1\r\n", Verdict::Request);
        check(b"GET / HTTP/2.0\r\n", Verdict::Request);
        check(b"GET / HTTP/1\r\n", Verdict::Request);
        check(b"GET / http/1.1\r\n", Verdict::Request);
        check(b"GET\x0b/\x0cHTTP/1.1\r\n", Verdict::Request);
        check(b"GET /\rHTTP/1.1\r\n", Verdict::Request);
        check(b"GET / FOO/1.1\r\n", Verdict::Other);
        check(b"GET / HTTP/one\r\n", Verdict::Other);
        check(b"GET /\r\n", Verdict::Simple);
        check(b"HTTP/1.1 200 OK\r\n", Verdict::Response);
        check(b"HTTP/1.0 599\r", Verdict::Response);
        check(b"HTTP/1.1 999\n", Verdict::Response);
        check(b"HTTP/1.1  200 OK", Verdict::Response);
        check(b"HTTP/2.0 200 OK", Verdict::Response);
        check(b"HTTP/1.1200 OK", Verdict::Other);
        check(b"\x16\x03\x01\x02\x00\x01", Verdict::Tls);
        check(b"\x80\x2e\x01\x03\x01", Verdict::Tls);
        check(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Verdict::Http2);
        check(b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n", Verdict::Preamble);
        check(b"\0\r\nQUIT\n\x21", Verdict::Preamble);
        check(b"\x05\x01\x00", Verdict::Preamble);
        check(b"\x04\x01\x00\x50\x01\x02\x03\x04\x00", Verdict::Preamble);
        check(b"GET key\r\n", Verdict::Other);
        check(b"HTTP/2 200\r\n", Verdict::Other);
        check(b"HTTP/1.1 2x0 OK\r\n", Verdict::Other);
        check(b"SSH-2.0-OpenSSH_9.2\r\n", Verdict::Other);
        check(b"220 mail.example ESMTP\r\n", Verdict::Other);
        check(b"OPTIONS rtsp://h/ RTSP/1.0\r\n", Verdict::Other);
        check(&[b'A'; 70], Verdict::Other);
    }
}
