//! The start lines of HTTP/1.x, and where in the middle of a direction the next one is.
//!
//! ```text
//! request-line = method SP request-target SP version            RFC 9112 §3
//! status-line  = version SP 3DIGIT [ SP reason ]                 RFC 9112 §4, reason and its blank may be missing
//! version      = "HTTP/" DIGIT "." DIGIT                         RFC 9112 §2.3
//! simple       = method SP "/..."                                HTTP/0.9
//! ```
//!
//! A method is any token (RFC 9110 §9.1 has no bound). A version other than 1.x does not make a message another protocol's:
//! servers answer such requests (with 505 or as if they were 1.x), and so they do requests whose version is misspelt (with
//! 400). A NUL in a status line ends its number as a blank does: clients accept that.

use memchr::memmem;

use crate::http::{Side, Version};

/// A request line in its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) struct RequestLine<'a> {
    pub(in crate::http) method: &'a [u8],
    pub(in crate::http) target: &'a [u8],
    pub(in crate::http) version: Version,
}

/// Bytes of a misspelt version behind `HTTP/`.
const VERSION_BYTES_MAX: usize = 8;

/// Methods that are accepted in the middle of a line during resynchronisation (RFC 9110, 5789, 4918, 3253 and 10008's QUERY).
const KNOWN_METHODS: [&[u8]; 21] = [
    b"GET",
    b"POST",
    b"PUT",
    b"DELETE",
    b"HEAD",
    b"OPTIONS",
    b"PATCH",
    b"CONNECT",
    b"TRACE",
    b"QUERY",
    b"PROPFIND",
    b"PROPPATCH",
    b"MKCOL",
    b"COPY",
    b"MOVE",
    b"LOCK",
    b"UNLOCK",
    b"REPORT",
    b"SEARCH",
    b"M-SEARCH",
    b"PURGE",
];

/// Blanks that are taken for one between version and status.
pub(in crate::http) const STATUS_BLANKS_MAX: usize = 16;

/// Splits a request line; `line` is without its LF.
///
/// The target is what stands between the first and the last blank, so that a target with blanks in it, which clients
/// do send, is kept as sent. `METHOD HTTP/1.1` has its version for a target: the line names nothing else.
pub(in crate::http) fn request_line(line: &[u8]) -> Option<RequestLine<'_>> {
    usual_request_line(line).or_else(|| any_request_line(line))
}

/// The form that nearly all have, recognised by both its ends: a fifth of the work of [`any_request_line`], with the same
/// result.
#[inline]
fn usual_request_line(line: &[u8]) -> Option<RequestLine<'_>> {
    let (line, version) = line.split_last_chunk()?;
    let version = match version {
        b" HTTP/1.1" => Version::Http11,
        b" HTTP/1.0" => Version::Http10,
        _ => return None,
    };
    let method_bytes = match line {
        [b'G', b'E', b'T', b' ', ..] | [b'P', b'U', b'T', b' ', ..] => 3,
        [b'P', b'O', b'S', b'T', b' ', ..] | [b'H', b'E', b'A', b'D', b' ', ..] => 4,
        [b'P', b'A', b'T', b'C', b'H', b' ', ..] => 5,
        [b'D', b'E', b'L', b'E', b'T', b'E', b' ', ..] => 6,
        [b'O', b'P', b'T', b'I', b'O', b'N', b'S', b' ', ..] => 7,
        _ => return None,
    };
    let (method, target) = line.split_at_checked(method_bytes)?;
    match target.get(1..)? {
        target @ ([b'!'..=0xff] | [b'!'..=0xff, .., b'!'..=0xff]) => Some(RequestLine {
            method,
            target,
            version,
        }),
        _ => None,
    }
}

/// Any form, byte by byte.
fn any_request_line(line: &[u8]) -> Option<RequestLine<'_>> {
    let line = trim_blanks_end(line);
    // It begins what a client of HTTP/2 sends first, and is no request (RFC 9113 §3.4).
    if line == b"PRI * HTTP/2.0" {
        return None;
    }
    let method_end = line.iter().copied().position(is_blank)?;
    let (method, rest) = line.split_at_checked(method_end)?;
    let blanks = rest.iter().copied().take_while(|&byte| is_blank(byte));
    let rest = rest.get(blanks.count()..)?;
    if method.is_empty() || !method.iter().copied().all(is_token) {
        return None;
    }
    let (target, last) = match rest.iter().copied().rposition(is_blank) {
        Some(blank) => (trim_blanks_end(rest.get(..blank)?), rest.get(blank + 1..)?),
        None => (rest, rest),
    };
    match any_version(last) {
        Some(version) if !target.is_empty() => Some(RequestLine {
            method,
            target,
            version,
        }),
        _ if is_simple(method, rest) => Some(RequestLine {
            method,
            target: rest,
            version: Version::Http09,
        }),
        _ => None,
    }
}

/// Splits a status line into version and status; `line` may go on after it.
pub(in crate::http) fn status_line(line: &[u8]) -> Option<(Version, u16)> {
    match line {
        // As nearly all are; [`any_status_line`] has the same result.
        &[
            b'H',
            b'T',
            b'T',
            b'P',
            b'/',
            b'1',
            b'.',
            minor @ b'0'..=b'9',
            b' ',
            a @ b'0'..=b'9',
            b @ b'0'..=b'9',
            c @ b'0'..=b'9',
            b' ',
            ..,
        ] => Some((version_of(minor), status_of(a, b, c))),
        _ => any_status_line(line),
    }
}

fn status_of(a: u8, b: u8, c: u8) -> u16 {
    let digit = |byte: u8| u16::from(byte - b'0');
    digit(a) * 100 + digit(b) * 10 + digit(c)
}

fn any_status_line(line: &[u8]) -> Option<(Version, u16)> {
    let rest = line.strip_prefix(b"HTTP/")?;
    let (&[major, dot, minor], rest) = rest.split_first_chunk()?;
    let (blanks, rest) = split_blanks(rest);
    let &[a, b, c] = rest.first_chunk()?;
    let blank = (1..=STATUS_BLANKS_MAX).contains(&blanks);
    let ends = matches!(rest.get(3), None | Some(b' ' | b'\t' | b'\r' | b'\n' | 0));
    if !blank || !ends || ![a, b, c].iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some((version_as_1x(&[major, dot, minor])?, status_of(a, b, c)))
}

/// Finds where a message starts in `line`, which ends with its LF; `wanted` leaves out the other side's messages.
///
/// Stricter than [`request_line`], since anything may stand here: a target without blanks, and at the front of the line any
/// token with a target that looks like one; behind other bytes (the end of a body without a line break) only a known
/// method. The last such place counts: targets have no blanks, so it is the one nearest to the version.
pub(in crate::http) fn find_start(line: &[u8], wanted: Option<Side>) -> Option<(usize, Side)> {
    if wanted != Some(Side::Request)
        && let Some(place) = find_response(line)
    {
        return Some((place, Side::Response));
    }
    if wanted == Some(Side::Response) {
        return None;
    }
    find_request(line).map(|place| (place, Side::Request))
}

fn find_response(line: &[u8]) -> Option<usize> {
    memmem::find_iter(line, b"HTTP/1.")
        .find(|&place| line.get(place..).and_then(status_line).is_some())
}

fn find_request(line: &[u8]) -> Option<usize> {
    let whole = line.trim_ascii_end();
    let version_at = whole.iter().rposition(|&byte| byte == b' ')?;
    if !is_version(whole.get(version_at + 1..)?) {
        return None;
    }
    let target_at = whole
        .get(..version_at)?
        .iter()
        .rposition(|&byte| byte == b' ')?
        + 1;
    let target = whole.get(target_at..version_at)?;
    let before = whole.get(..target_at - 1)?;
    if KNOWN_METHODS.contains(&before) {
        return Some(0);
    }
    if !target.starts_with(b"/") && target != b"*" && memmem::find(target, b"://").is_none() {
        return None;
    }
    let known = KNOWN_METHODS
        .iter()
        .filter(|method| before.ends_with(method))
        .map(|method| method.len())
        .max();
    match known {
        Some(length) => Some(before.len() - length),
        None if before.is_empty() => None,
        None if is_end_of_method(before) => None,
        None => before.iter().copied().all(is_token).then_some(0),
    }
}

/// Whether it is a method of the registry.
pub(in crate::http) fn is_known_method(name: &[u8]) -> bool {
    KNOWN_METHODS.contains(&name)
}

/// Whether it is only the end of a known method, and so no method: `ELETE`, of which a loss or a wrong length took the rest.
pub(in crate::http) fn is_end_of_method(name: &[u8]) -> bool {
    !KNOWN_METHODS.contains(&name) && KNOWN_METHODS.iter().any(|method| method.ends_with(name))
}

/// The number of blanks at the front, and what follows them.
pub(in crate::http) fn split_blanks(bytes: &[u8]) -> (usize, &[u8]) {
    let blanks = bytes
        .iter()
        .take_while(|byte| matches!(byte, b' ' | b'\t'))
        .count();
    (blanks, bytes.get(blanks..).unwrap_or_default())
}

/// The version of a request line, where its place shows that it is meant to be one.
fn any_version(text: &[u8]) -> Option<Version> {
    const NAME: &[u8] = b"HTTP/";
    let (name, number) = text.split_at_checked(NAME.len())?;
    let looks_so = (1..=VERSION_BYTES_MAX).contains(&number.len())
        && number
            .iter()
            .all(|byte| byte.is_ascii_digit() || *byte == b'.');
    if !name.eq_ignore_ascii_case(NAME) || !looks_so {
        return None;
    }
    Some(version_as_1x(number).unwrap_or(Version::Http10))
}

/// The version as a peer of 1.x has to take it: a higher major version for the highest 1.x, a lower one for 1.0.
fn version_as_1x(number: &[u8]) -> Option<Version> {
    match number {
        [b'0', b'.', b'0'..=b'9'] => Some(Version::Http10),
        [b'1', b'.', minor @ b'0'..=b'9'] => Some(version_of(*minor)),
        [b'2'..=b'9', b'.', b'0'..=b'9'] => Some(Version::Http11),
        _ => None,
    }
}

/// The version 1.x, of the digit for x.
const fn version_of(minor: u8) -> Version {
    if minor == b'0' {
        Version::Http10
    } else {
        Version::Http11
    }
}

/// Whether this is the version of a start line that is looked for where anything may stand.
fn is_version(text: &[u8]) -> bool {
    matches!(
        text,
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'0'..=b'9']
    )
}

/// HTTP/0.9 has only GET; scanners send other methods without a version too.
fn is_simple(method: &[u8], target: &[u8]) -> bool {
    target.starts_with(b"/") && KNOWN_METHODS.contains(&method) && !target.contains(&b' ')
}

/// What may separate the words of a request line: a blank, or what a lenient server may take for one (RFC 9112 §3).
pub(in crate::http) const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | 0x0b | 0x0c | b'\r')
}

fn trim_blanks_end(text: &[u8]) -> &[u8] {
    let end = text
        .iter()
        .copied()
        .rposition(|byte| !is_blank(byte) && byte != b'\n');
    end.and_then(|last| text.get(..=last)).unwrap_or_default()
}

/// `tchar` of RFC 9110 §5.6.2.
pub(in crate::http) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_start(line: &[u8], wanted: Option<Side>, expected: Option<(usize, Side)>) {
        assert_eq!(
            find_start(line, wanted),
            expected,
            "{}",
            line.escape_ascii()
        );
    }

    #[test]
    fn starts_within_a_line() {
        use Side::{Request, Response};
        check_start(b"GET / HTTP/1.1\r\n", None, Some((0, Request)));
        check_start(b"Weird /x HTTP/1.0\n", Some(Request), Some((0, Request)));
        check_start(
            b"{\"a\":1}POST /next?a=1 HTTP/1.1\r\n",
            None,
            Some((7, Request)),
        );
        check_start(b"endGET /next HTTP/1.1\r\n", None, Some((3, Request)));
        check_start(
            b"words before GET / HTTP/1.1\r\n",
            None,
            Some((13, Request)),
        );
        check_start(b"these are words HTTP/1.1\r\n", None, None);
        check_start(b"PRI * HTTP/2.0\r\n", Some(Request), None);
        check_start(b"\"GET /x HTTP/1.1\" 200 5\n", None, None);
        check_start(b"ELETE / HTTP/1.1\r\n", None, None);
        check_start(b"GET / HTTP/1.1\r\n", Some(Response), None);
        check_start(b"tailHTTP/1.1 204\r\n", None, Some((4, Response)));
        check_start(
            b"HTTP/1.1 20x HTTP/1.0 404 Gone\r\n",
            Some(Response),
            Some((13, Response)),
        );
        check_start(b"HTTP/1.1 200 OK\r\n", Some(Request), None);
    }

    /// The usual form gives what reading byte by byte gives.
    #[track_caller]
    fn check_usual(line: &[u8], is_usual: bool) {
        let usual = usual_request_line(line);
        assert_eq!(usual.is_some(), is_usual, "{}", line.escape_ascii());
        if is_usual {
            assert_eq!(usual, any_request_line(line), "{}", line.escape_ascii());
        }
        assert_eq!(
            status_line(line),
            any_status_line(line),
            "{}",
            line.escape_ascii()
        );
    }

    #[test]
    fn usual_start_lines() {
        for method in ["GET", "PUT", "POST", "HEAD", "PATCH", "DELETE", "OPTIONS"] {
            for target in ["/", "*", "/a b", "/a\tHTTP/1.0", "http://a/\u{e9}"] {
                check_usual(format!("{method} {target} HTTP/1.1").as_bytes(), true);
                check_usual(format!("{method} {target} HTTP/1.0").as_bytes(), true);
                check_usual(format!("{method} {target} HTTP/1.2").as_bytes(), false);
                check_usual(format!("{method}  {target} HTTP/1.1").as_bytes(), false);
                check_usual(format!("{method} {target}  HTTP/1.1").as_bytes(), false);
                check_usual(format!("{method} {target} HTTP/1.1 ").as_bytes(), false);
            }
            check_usual(format!("{method} HTTP/1.1").as_bytes(), false);
            check_usual(format!("{method}  HTTP/1.1").as_bytes(), false);
        }
        check_usual(b"CONNECT a:1 HTTP/1.1", false);
        for status in [
            "200 OK", "200", "200 ", "2000", "20x", "099 a", "200\tOK", " 200 OK",
        ] {
            for version in ["1.0", "1.1", "1.9", "2.0", "1.x"] {
                check_usual(format!("HTTP/{version} {status}").as_bytes(), false);
            }
        }
    }
}
