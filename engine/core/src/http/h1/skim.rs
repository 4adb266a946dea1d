//! The parts of a head that are needed of a call that is only counted: start line, length, and the fields that frame its body.
//!
//! The result is that of [`head::parse`] without the other fields, and what is odd in other lines is not looked for. What is unusual
//! (a fold, white space before a name, a great many lines) is left to it. Only the first byte of a line is read and, where
//! that may begin a field that frames, one more: splitting each line took twice the instructions.

use memchr::memchr;

use super::head::{self, Fault, Head};
use super::lines::{Line, LineFeeds};
use crate::http::{Header, HeaderName, Side};
use crate::limits;

/// Reads a head at the front of `bytes`; `fields` must be empty and is filled in wire order.
pub(super) fn parse<'a>(
    bytes: &'a [u8],
    side: Side,
    fields: &mut Vec<Header<'a>>,
) -> Result<Head<'a>, Fault> {
    match skim(bytes, side, fields)? {
        Some(head) => Ok(head),
        None => {
            fields.clear();
            head::parse(bytes, side, fields)
        }
    }
}

/// Nothing where the head is unusual.
fn skim<'a>(
    bytes: &'a [u8],
    side: Side,
    fields: &mut Vec<Header<'a>>,
) -> Result<Option<Head<'a>>, Fault> {
    let mut feeds = LineFeeds::new(bytes);
    let mut feed = feeds.next().ok_or(Fault::Partial)?;
    let first = without_end(bytes, 0, feed);
    let start = head::start_line(first, side).ok_or(Fault::Malformed)?;
    for _ in 0..=limits::HEADERS_MAX {
        let from = feed + 1;
        let is_like = |at: usize, lower: u8| {
            let byte = bytes.get(from + at);
            byte.is_some_and(|byte| byte.to_ascii_lowercase() == lower)
        };
        let may_frame = match bytes.get(from).ok_or(Fault::Partial)? {
            // "Content-Length", "Transfer-Encoding".
            b'c' | b'C' => is_like(8, b'l'),
            b't' | b'T' => is_like(9, b'e'),
            b'!'.. => false,
            _ => {
                return Ok(empty(bytes, from).map(|length| Head {
                    start,
                    length,
                    odd_lines: 0,
                    is_odd: false,
                }));
            }
        };
        feed = feeds.next().ok_or(Fault::Partial)?;
        if may_frame {
            let bytes = without_end(bytes, from, feed);
            let line = Line {
                bytes,
                colon: memchr(b':', bytes),
                next: feed + 1,
            };
            fields.extend(head::field(line).filter(frames));
        }
    }
    Ok(None)
}

/// The end of the empty line that begins at `from`.
fn empty(bytes: &[u8], from: usize) -> Option<usize> {
    match bytes.get(from..)? {
        [b'\n', ..] => Some(from + 1),
        [b'\r', b'\n', ..] => Some(from + 2),
        _ => None,
    }
}

/// A line from where it begins up to its LF, without CRLF or LF.
fn without_end(bytes: &[u8], from: usize, feed: usize) -> &[u8] {
    let line = bytes.get(from..feed).unwrap_or_default();
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Whether a field determines the length of the body.
fn frames(field: &Header<'_>) -> bool {
    matches!(
        field.known(),
        Some(HeaderName::ContentLength | HeaderName::TransferEncoding)
    )
}

#[cfg(test)]
mod tests {
    use super::super::framing::Fields;
    use super::*;
    use crate::http::Version;

    /// Skimmed, a head is what it is when it is read.
    #[track_caller]
    fn check(bytes: &[u8], side: Side) {
        let (mut skimmed, mut read) = (Vec::new(), Vec::new());
        let (ours, theirs) = (
            parse(bytes, side, &mut skimmed),
            head::parse(bytes, side, &mut read),
        );
        let without_odd = theirs.map(|head| Head {
            odd_lines: ours.map_or(0, |head| head.odd_lines),
            is_odd: ours.is_ok_and(|head| head.is_odd),
            ..head
        });
        assert_eq!(ours, without_odd, "{}", bytes.escape_ascii());
        if ours.is_ok() {
            let fields = |list: &[Header<'_>]| Fields::read(list, Version::Http11);
            assert_eq!(fields(&skimmed), fields(&read));
        }
    }

    #[test]
    fn skimming_finds_what_reading_does() {
        let request = |fields: &str| format!("GET / HTTP/1.1\r\n{fields}\r\nrest").into_bytes();
        for fields in [
            "",
            "Host: a\r\n",
            "Content-Length: 5\r\nCookie: a\r\ntransfer-encoding : chunked\r\n",
            "content-length:5\r\nContent-Length: 6\r\nContent-Length-Not: 7\r\n",
            "\tfold\r\nContent-Length: 5\r\n",
            "Content-Length:\r\n 5\r\nHost: a\r\n",
            "\x0cContent-Length: 5\r\n",
            "no colon\r\nTransfer-Encoding\r\nContent-Length 5\r\n",
            ": no name\r\nT: e\nC: l\n",
            "c\nC:      l\nTransfer-\nT:       e\ntransfer-ENCODING: gzip\nCONTENT-LENGTH\x0c: 7\n",
            "Host: a\r\n\rContent-Length: 5\r\n",
            "Host: a\r\n\r\r\nContent-Length: 5\r\n",
        ] {
            let bytes = request(fields);
            for length in 0..=bytes.len() {
                check(&bytes[..length], Side::Request);
                check(&bytes[..length], Side::Response);
            }
        }
        check(b"HTTP/1.1 200 OK\nContent-Length: 1\n\n", Side::Response);
        for lines in [
            limits::HEADERS_MAX - 1,
            limits::HEADERS_MAX,
            limits::HEADERS_MAX + 1,
        ] {
            check(&request(&"a: b\r\n".repeat(lines)), Side::Request);
            check(&request(&"odd\r\n".repeat(lines)), Side::Request);
        }
    }
}
