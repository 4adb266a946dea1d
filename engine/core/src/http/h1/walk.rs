//! Messages in bytes that are held, counted without being reported: whether one reading of a body fits what follows it.
//!
//! Bounded by the bytes that may be held ([`HELD_BYTES_MAX`](crate::limits::HELD_BYTES_MAX)).

use super::chunked::{Chunked, Piece};
use super::framing::{Fields, Framing};
use super::head::{self, Fault, Head, StartLine};
use super::queue::Method;
use super::start_line::is_end_of_method;
use crate::http::{Header, Side};

/// The end of a body that begins at the front of `bytes`, if it is there.
pub(super) fn body_end(bytes: &[u8], framing: Framing) -> Option<usize> {
    match framing {
        Framing::Length(length) => usize::try_from(length)
            .ok()
            .filter(|length| *length <= bytes.len()),
        Framing::UntilClose => Some(bytes.len()),
        Framing::Unknown => None,
        Framing::Chunked => {
            let (mut chunked, mut rest) = (Chunked::new(), bytes);
            loop {
                match chunked.next(&mut rest) {
                    Piece::Data(_) => {}
                    Piece::End => return Some(bytes.len() - rest.len()),
                    Piece::More | Piece::Broken => return None,
                }
            }
        }
    }
}

/// Whether the body may still come: nothing in `bytes` contradicts this framing.
pub(super) fn may_go_on(bytes: &[u8], framing: Framing) -> bool {
    match framing {
        Framing::Length(length) => length > bytes.len() as u64,
        Framing::UntilClose => true,
        Framing::Unknown => false,
        Framing::Chunked => {
            let (mut chunked, mut rest) = (Chunked::new(), bytes);
            while matches!(chunked.next(&mut rest), Piece::Data(_)) {}
            rest.is_empty()
        }
    }
}

/// The methods of the requests behind a body, if the last of them ends where `bytes` end.
pub(super) fn requests_behind(bytes: &[u8], framing: Framing) -> Option<Vec<Method>> {
    let mut rest = bytes.get(body_end(bytes, framing)?..)?;
    let mut methods = Vec::new();
    while let Some((head, fields)) = next_head(&mut rest, Side::Request)? {
        let StartLine::Request(line) = head.start else {
            return None;
        };
        let read = Fields::read(&fields, line.version);
        let method = Method::of(line.method);
        if read.conflict() || method == Method::Connect || is_end_of_method(line.method) {
            return None;
        }
        methods.push(method);
        rest = rest.get(body_end(rest, read.of_request())?..)?;
    }
    Some(methods)
}

/// The number of final responses in `bytes` to requests of these methods, if the last of them ends where `bytes` end.
pub(super) fn responses_in(bytes: &[u8], methods: &[Method]) -> Option<usize> {
    let mut rest = bytes;
    let mut answered = 0;
    while let Some((head, fields)) = next_head(&mut rest, Side::Response)? {
        let StartLine::Status { status, version } = head.start else {
            return None;
        };
        if matches!(status, 100..=199) {
            continue;
        }
        let method = *methods.get(answered)?;
        answered += 1;
        if method == Method::Head || matches!(status, 204 | 304) {
            continue;
        }
        let read = Fields::read(&fields, version);
        rest = rest.get(body_end(rest, read.of_response())?..)?;
    }
    Some(answered)
}

/// Takes a head, after empty lines, from the front of `rest`; nothing in it if no more bytes are there, and nothing at all
/// if they begin no head, or an unfinished one.
fn next_head<'a>(rest: &mut &'a [u8], side: Side) -> Option<Option<(Head<'a>, Vec<Header<'a>>)>> {
    let empty = rest
        .iter()
        .take_while(|byte| matches!(byte, b'\r' | b'\n'))
        .count();
    *rest = rest.get(empty..)?;
    if rest.is_empty() {
        // A line break at the end is rather a part of the body before.
        return (empty == 0).then_some(None);
    }
    let mut fields = Vec::new();
    match head::parse(rest, side, &mut fields) {
        Ok(head) => {
            *rest = rest.get(head.length..)?;
            Some(Some((head, fields)))
        }
        Err(Fault::Partial | Fault::Folded { .. } | Fault::Malformed | Fault::TooMany) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_end_where_their_framing_says() {
        let chunks = b"1\r\na\r\n0\r\n\r\nGET";
        assert_eq!(body_end(chunks, Framing::Chunked), Some(11));
        assert_eq!(body_end(chunks, Framing::Length(14)), Some(14));
        assert_eq!(body_end(chunks, Framing::Length(15)), None);
        assert_eq!(body_end(chunks, Framing::UntilClose), Some(14));
        assert_eq!(body_end(b"rubbish", Framing::Chunked), None);
        assert!(may_go_on(&chunks[..7], Framing::Chunked));
        assert!(!may_go_on(chunks, Framing::Chunked));
        assert!(!may_go_on(b"rubbish", Framing::Chunked));
        assert!(may_go_on(b"rubbish", Framing::Length(8)));
    }

    #[test]
    fn messages_are_counted_if_they_end_with_the_bytes() {
        use Method::{Head, Other};
        let requests =
            b"ab\r\nHEAD / HTTP/1.1\r\n\r\nPOST / HTTP/1.1\r\nContent-Length: 1\r\n\r\nx";
        let behind = |bytes, length| requests_behind(bytes, Framing::Length(length));
        assert_eq!(behind(requests, 2), Some(vec![Head, Other]));
        assert_eq!(behind(requests, 3), Some(vec![Head, Other]));
        assert_eq!(behind(requests, 1), None);
        assert_eq!(behind(&requests[..30], 2), None, "a head that is not over");
        assert_eq!(behind(requests, requests.len() as u64), Some(Vec::new()));
        let responses = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nHTTP/1.1 100 C\r\n\r\nHTTP/1.1 204 N\r\n\r\n";
        assert_eq!(responses_in(responses, &[Head, Other]), Some(2));
        assert_eq!(responses_in(responses, &[Other, Other]), None);
        assert_eq!(responses_in(responses, &[Head]), None);
        assert_eq!(responses_in(b"", &[]), Some(0));
    }
}
