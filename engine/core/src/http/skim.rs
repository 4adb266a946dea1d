//! A head in, its start line, its length, and the fields that frame its body out: what is left to know of a call that is
//! only counted.
//!
//! The result is that of [`head::parse`] but for the other fields, and for lines without a colon, which are not counted. What
//! is unusual (a fold, white space before a name, a great many lines) is left to it. Two thirds of what a head costs are its
//! fields.

use super::head::{self, Fault, Head};
use super::lines::Lines;
use super::{Header, Known, Side};
use crate::limits;

/// Reads a head from the begin of `bytes`; `fields` must be empty and is filled in wire order.
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

/// Nothing where it is in doubt.
fn skim<'a>(
    bytes: &'a [u8],
    side: Side,
    fields: &mut Vec<Header<'a>>,
) -> Result<Option<Head<'a>>, Fault> {
    let mut lines = Lines::new(bytes);
    let first = lines.next().ok_or(Fault::Partial)?;
    let start = head::start_line(first.bytes, side).ok_or(Fault::Malformed)?;
    for (number, line) in lines.enumerate() {
        match line.bytes {
            _ if number == limits::HEADERS_MAX => return Ok(None),
            [] => {
                return Ok(Some(Head {
                    start,
                    length: line.next,
                    odd_lines: 0,
                }));
            }
            [..=b' ', ..] => return Ok(None),
            [b'c' | b'C' | b't' | b'T', ..] => fields.extend(head::field(line).filter(frames)),
            _ => {}
        }
    }
    Err(Fault::Partial)
}

/// Whether a field says how long the body is.
fn frames(field: &Header<'_>) -> bool {
    matches!(
        field.known(),
        Some(Known::ContentLength | Known::TransferEncoding)
    )
}

#[cfg(test)]
mod tests {
    use super::super::framing::Fields;
    use super::*;

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
            ..head
        });
        assert_eq!(ours, without_odd, "{}", bytes.escape_ascii());
        if ours.is_ok() {
            assert_eq!(Fields::read(&skimmed), Fields::read(&read));
        }
    }

    #[test]
    fn skimming_tells_what_reading_does() {
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
