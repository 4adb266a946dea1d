//! One message head in its parts, all borrowed: start line and header fields.
//!
//! Own code instead of `httparse`, because a passive reader has to read what others accepted: `httparse` refuses
//! obsolete folds and blanks before the colon in requests, odd bytes in names and targets, and lines without a colon
//! (or drops them silently). Here one bad line never costs the exchange: it is left out and counted.
//!
//! The source is RFC 9112 §2.2, §3-5; bare LF ends a line. The bounds are
//! [`HEAD_BYTES_MAX`](crate::limits::HEAD_BYTES_MAX), kept by the caller, and
//! [`HEADERS_MAX`](crate::limits::HEADERS_MAX).

use memchr::memchr;

use super::lines::{Line, Lines};
use super::start_line::{RequestLine, request_line, status_line};
use crate::http::{Header, HeaderName, Side, Version};
use crate::limits;

/// The first line of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StartLine<'a> {
    Request(RequestLine<'a>),
    Status { version: Version, status: u16 },
}

/// A head that was read; its fields are in the list given to [`parse`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head<'a> {
    pub(super) start: StartLine<'a>,
    /// Bytes up to and with the empty line.
    pub(super) length: usize,
    /// Lines that are no fields: no colon, no name, or a fold with nothing before it.
    pub(super) odd_lines: u64,
    /// Receivers may differ in what they read: a NUL is in the status line, a line break in the name of a field that
    /// determines the length of the body, or such a field behind a CR in another line.
    pub(super) is_odd: bool,
}

/// Why there is no head, or not yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The empty line has not come yet.
    Partial,
    /// The head ends after `length` bytes and has folded lines: [`unfold`] it first.
    Folded {
        /// Bytes up to and with the empty line.
        length: usize,
    },
    /// Not a start line.
    Malformed,
    /// More fields than [`limits::HEADERS_MAX`].
    TooMany,
}

/// Reads a head at the front of `bytes`; `fields` must be empty and is filled in wire order.
pub(super) fn parse<'a>(
    bytes: &'a [u8],
    side: Side,
    fields: &mut Vec<Header<'a>>,
) -> Result<Head<'a>, Fault> {
    let mut lines = Lines::new(bytes);
    let first = lines.next().ok_or(Fault::Partial)?;
    let start = start_line(first.bytes, side).ok_or(Fault::Malformed)?;
    let mut folded = false;
    let (mut odd_lines, mut is_odd) = (0, false);
    while let Some(line) = lines.next() {
        match line.bytes {
            [] if folded => return Err(Fault::Folded { length: line.next }),
            [] => {
                return Ok(Head {
                    start,
                    length: line.next,
                    odd_lines,
                    is_odd: is_odd || (lines.is_odd() && has_odd_line(bytes, side)),
                });
            }
            [b' ' | b'\t', ..] if fields.is_empty() => odd_lines += 1,
            [b' ' | b'\t', ..] => folded = true,
            _ => match field(line) {
                Some(_) if fields.len() == limits::HEADERS_MAX => return Err(Fault::TooMany),
                Some(field) => fields.push(field),
                None => {
                    odd_lines += 1;
                    is_odd |= breaks_name(line.bytes);
                }
            },
        }
    }
    Err(Fault::Partial)
}

/// Whether receivers may differ in what they read because of a NUL in the status line, or of a CR in a field line. Only heads
/// that have such a byte are looked at again.
#[cold]
fn has_odd_line(head: &[u8], side: Side) -> bool {
    let mut lines = Lines::new(head);
    let first = lines.next();
    // No NUL can be before the reason.
    let has_nul = side == Side::Response && first.is_some_and(|first| first.bytes.contains(&0));
    has_nul
        || lines
            .take_while(|line| !line.bytes.is_empty())
            .any(|line| field(line).is_some() && hides_framing(line.bytes))
}

/// Whether some receivers read a field in the line that determines the length of the body: the parser of Python's standard
/// library, and Node before 18.16.1 and 20.3.1, end a line at a CR without LF.
fn hides_framing(line: &[u8]) -> bool {
    line.split(|byte| *byte == b'\r').skip(1).any(|line| {
        let colon = memchr(b':', line);
        let name = colon
            .and_then(|colon| line.get(..colon))
            .unwrap_or_default();
        let name = Header::new(name.trim_ascii(), b"");
        name.is(HeaderName::ContentLength) || name.is(HeaderName::TransferEncoding)
    })
}

/// Whether a line without a colon is the name, or the first part of the name, of a field that determines the length of the
/// body: some receivers read on in the next line.
#[cold]
fn breaks_name(line: &[u8]) -> bool {
    const PART_BYTES_MIN: usize = "Trans".len();
    let line = line.trim_ascii();
    let begins = |name: &[u8]| {
        let both = line.len().min(name.len());
        let (line, name) = (line.get(..both), name.get(..both));
        line.zip(name)
            .is_some_and(|(line, name)| line.eq_ignore_ascii_case(name))
    };
    line.len() >= PART_BYTES_MIN && (begins(b"content-length") || begins(b"transfer-encoding"))
}

/// Copies a whole head with each obsolete fold (RFC 9112 §5.2) replaced by one blank.
///
/// Folds are rare enough that a copy costs less than fields in several pieces.
pub(super) fn unfold(head: &[u8], into: &mut Vec<u8>) {
    into.clear();
    let mut fields = 0;
    let mut first = true;
    for line in Lines::new(head) {
        match line.bytes {
            [b' ' | b'\t', ..] if fields > 0 => {
                let kept = into.trim_ascii_end().len();
                into.truncate(kept);
                into.push(b' ');
                into.extend_from_slice(line.bytes.trim_ascii());
            }
            bytes => {
                if !first {
                    into.push(b'\n');
                }
                fields += usize::from(!first && field(line).is_some());
                into.extend_from_slice(bytes);
            }
        }
        first = false;
    }
    into.push(b'\n');
}

pub(super) fn start_line(line: &[u8], side: Side) -> Option<StartLine<'_>> {
    match side {
        Side::Request => request_line(line).map(StartLine::Request),
        Side::Response => {
            status_line(line).map(|(version, status)| StartLine::Status { version, status })
        }
    }
}

/// A field line in its parts. Blanks around the name are left out, too: a peer that accepts them does the same.
#[inline(always)]
pub(super) fn field(line: Line<'_>) -> Option<Header<'_>> {
    let (name, value) = line.bytes.split_at_checked(line.colon?)?;
    let value = value.get(1..)?;
    let value = trimmed(value.strip_prefix(b" ").unwrap_or(value));
    match name {
        [b'!'..=0xff] | [b'!'..=0xff, .., b'!'..=0xff] => Some(Header::new(name, value)),
        _ => Some(Header::with_blanks(name.trim_ascii(), value))
            .filter(|field| !field.name.is_empty()),
    }
}

/// Without white space around it, which is rare.
#[inline]
fn trimmed(text: &[u8]) -> &[u8] {
    match text {
        [b'!'..=0xff, .., b'!'..=0xff] => text,
        _ => text.trim_ascii(),
    }
}

/// The state of the search for the empty line: each byte is looked at once, however a head is cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum LineState {
    /// Nothing of the current line was seen.
    #[default]
    Empty,
    /// One CR of it was seen.
    Cr,
    /// It has other bytes.
    Begun,
}

/// Bytes up to and with the empty line that ends the head, if it is in `bytes`.
pub(super) fn find_end(bytes: &[u8], state: &mut LineState) -> Option<usize> {
    let mut from = 0;
    while let Some(found) = bytes.get(from..).and_then(|rest| memchr(b'\n', rest)) {
        let line = bytes.get(from..from + found).unwrap_or_default();
        *state = advance(*state, line);
        from += found + 1;
        if *state != LineState::Begun {
            return Some(from);
        }
        *state = LineState::Empty;
    }
    *state = advance(*state, bytes.get(from..).unwrap_or_default());
    None
}

fn advance(state: LineState, bytes: &[u8]) -> LineState {
    match (state, bytes) {
        (state, []) => state,
        (LineState::Empty, b"\r") => LineState::Cr,
        _ => LineState::Begun,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields_of(fields: &[Header<'_>]) -> String {
        fields
            .iter()
            .map(|field| {
                format!(
                    "{}={};",
                    field.name.escape_ascii(),
                    field.value.escape_ascii()
                )
            })
            .collect()
    }

    #[track_caller]
    fn check(bytes: &[u8], side: Side, expected: &str) {
        let mut copy = Vec::new();
        let mut fields = Vec::new();
        let mut result = parse(bytes, side, &mut fields);
        if let Err(Fault::Folded { length }) = result {
            unfold(&bytes[..length], &mut copy);
            fields.clear();
            result = parse(&copy, side, &mut fields);
        }
        let shown = match result {
            Ok(head) => match head.start {
                StartLine::Request(line) => format!(
                    "{} {} {:?} {}odd={}",
                    line.method.escape_ascii(),
                    line.target.escape_ascii(),
                    line.version,
                    fields_of(&fields),
                    head.odd_lines
                ),
                StartLine::Status { version, status } => {
                    format!(
                        "{version:?} {status} {}odd={}",
                        fields_of(&fields),
                        head.odd_lines
                    )
                }
            },
            Err(fault) => format!("{fault:?}"),
        };
        assert_eq!(shown, expected);
    }

    #[test]
    fn heads() {
        use Side::{Request, Response};
        check(
            b"GET /a HTTP/1.1\r\nHost: h\r\n\r\nbody",
            Request,
            "GET /a Http11 Host=h;odd=0",
        );
        check(
            b"PURGE * HTTP/1.0\nA:b\n\n",
            Request,
            "PURGE * Http10 A=b;odd=0",
        );
        check(
            b"GET /a HTTP/1.1\r\nX: one\r\n two\r\n\t three \r\nY: z\r\n\r\n",
            Request,
            "GET /a Http11 X=one two three;Y=z;odd=0",
        );
        check(
            b"GET /a HTTP/1.1\r\nX:\r\n two\r\n\r\n",
            Request,
            "GET /a Http11 X=two;odd=0",
        );
        check(
            b"GET /a HTTP/1.1\r\n lost: 1\r\nX: y\r\n\r\n",
            Request,
            "GET /a Http11 X=y;odd=1",
        );
        check(
            b"GET /a HTTP/1.1\r\n lost\r\nX: y\r\n z\r\n\r\n",
            Request,
            "GET /a Http11 X=y z;odd=1",
        );
        check(
            b"GET /a HTTP/1.1\r\nno colon\r\n: v\r\nX : y\r\n\r\n",
            Request,
            "GET /a Http11 X=y;odd=2",
        );
        check(
            b"GET /\xe9 HTTP/1.1\r\nN\xff\x00: \x00\xc3\xa9\r\n\r\n",
            Request,
            r"GET /\xe9 Http11 N\xff\x00=\x00\xc3\xa9;odd=0",
        );
        check(
            b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n",
            Response,
            "Http11 200 A=b;odd=0",
        );
        check(b"HTTP/1.0 799\r\n\r\n", Response, "Http10 799 odd=0");
        check(
            b"HTTP/1.1 404 Nicht da: foo\n\n",
            Response,
            "Http11 404 odd=0",
        );
        check(b"HTTP/1.1 200 OK\r\nA: b\r\n\r", Response, "Partial");
        check(b"HTTP/1.1 20 OK\r\n\r\n", Response, "Malformed");
        check(b"GET / HTTP/2.0\r\n\r\n", Request, "GET / Http11 odd=0");
    }

    #[test]
    fn the_number_of_fields_is_bounded() {
        let head = |count: usize| {
            [
                b"GET / HTTP/1.1\r\n".to_vec(),
                b"a: b\r\n".repeat(count),
                b"\r\n".to_vec(),
            ]
            .concat()
        };
        let bytes = head(limits::HEADERS_MAX);
        let mut fields = Vec::new();
        assert!(parse(&bytes, Side::Request, &mut fields).is_ok());
        let bytes = head(limits::HEADERS_MAX + 1);
        let mut fields = Vec::new();
        assert_eq!(
            parse(&bytes, Side::Request, &mut fields),
            Err(Fault::TooMany)
        );
    }

    #[test]
    fn the_end_is_found_however_the_head_is_cut() {
        for text in [
            &b"A: b\r\n\r\nrest"[..],
            b"A: b\n\nrest",
            b"A\r\r\nB: \r\n\r\n",
            b"\r\n",
            b"\n",
            b"A\n\r\r\n\r\nX",
        ] {
            let whole = find_end(text, &mut LineState::default());
            assert!(whole.is_some());
            for cut in 0..=text.len() {
                let mut state = LineState::default();
                let (first, second) = text.split_at(cut);
                let found = find_end(first, &mut state)
                    .or_else(|| find_end(second, &mut state).map(|end| cut + end));
                assert_eq!(found, whole, "{} cut at {cut}", text.escape_ascii());
            }
        }
    }
}
