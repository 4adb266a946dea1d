//! The URL and the query parameters of a request target. RFC 9112 §3.2; `docs/contract.md`, section 1.3 with M1, M13 and
//! M14.
//!
//! Nothing is decoded but the parameters: the path leaves as it was sent, well-formed or not.

/// Appends the URL of a request: no query, and no user information. A target that is not absolute gets `scheme`. Whether
/// the host has bytes that no `host[:port]` has.
pub(super) fn write(
    scheme: &str,
    method: &[u8],
    target: &[u8],
    host: &[u8],
    out: &mut Vec<u8>,
) -> bool {
    let is_odd = is_odd(host);
    let path = before_query(target);
    if let Some((scheme, rest)) = absolute(path) {
        let authority_len = memchr::memchr(b'/', rest).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at_checked(authority_len).unwrap_or_default();
        for part in [scheme, b"://", without_user(authority), rest] {
            out.extend_from_slice(part);
        }
        return is_odd;
    }
    out.extend_from_slice(scheme.as_bytes());
    out.extend_from_slice(b"://");
    let is_path = path.starts_with(b"/");
    // The target of CONNECT is the authority itself.
    if method != b"CONNECT" || is_path {
        out.extend_from_slice(if is_odd { odd_authority(host) } else { host });
        if !is_path && path != b"*" {
            out.push(b'/');
        }
    }
    // Of another form some receivers read a user in front of an `@`.
    out.extend_from_slice(if is_path { path } else { without_user(path) });
    is_odd
}

/// What is behind the last `@`.
fn without_user(authority: &[u8]) -> &[u8] {
    memchr::memrchr(b'@', authority)
        .and_then(|at| authority.get(at + 1..))
        .unwrap_or(authority)
}

/// Whether something in a Host field is not of `host[:port]`.
#[inline]
fn is_odd(host: &[u8]) -> bool {
    // Without an early end the comparison is vectorised.
    host.iter().fold(false, |is_odd, byte| {
        is_odd | matches!(byte, 0..=b' ' | 0x7f | b'/' | b'?' | b'#' | b'\\' | b'@')
    })
}

/// What of such a field is `host[:port]`, so that nothing of it lengthens the path and no user information leaves.
#[cold]
fn odd_authority(host: &[u8]) -> &[u8] {
    let until =
        |text: &[u8], is_end: fn(&u8) -> bool| text.iter().position(is_end).unwrap_or(text.len());
    // A user name or a password may have any of the bytes at which a host name ends.
    let authority = host.get(..until(host, |byte| b"/?#\\".contains(byte)));
    let host = authority
        .filter(|part| part.contains(&b'@'))
        .unwrap_or(host);
    let host = without_user(host);
    let end = until(host, |byte| {
        byte.is_ascii_control() || b"/?#\\ ".contains(byte)
    });
    host.get(..end).unwrap_or(host)
}

/// The query of a target, without its question mark.
pub(super) fn query(target: &[u8]) -> &[u8] {
    target
        .get(before_query(target).len() + 1..)
        .unwrap_or_default()
}

fn before_query(target: &[u8]) -> &[u8] {
    memchr::memchr(b'?', target)
        .and_then(|at| target.get(..at))
        .unwrap_or(target)
}

/// Splits `scheme://rest`; the scheme is as RFC 3986 §3.1 has it.
fn absolute(target: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = memchr::memchr(b':', target)?;
    let (scheme, rest) = target.split_at_checked(colon)?;
    let valid = scheme.first().is_some_and(u8::is_ascii_alphabetic)
        && scheme
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(b));
    Some((scheme, rest.strip_prefix(b"://")?)).filter(|_| valid)
}

/// Calls `each` with name (lower-case) and value of every pair of a query or form text that decodes, in order, and with the
/// pair as it was sent where it has a semicolon. `name` and `value` are buffers to be reused.
pub(super) fn pairs(
    text: &[u8],
    name: &mut Vec<u8>,
    value: &mut Vec<u8>,
    mut each: impl FnMut(&[u8], &[u8], Option<&[u8]>),
) {
    let has_semicolon = memchr::memchr(b';', text).is_some();
    split(text, b'&', name, value, |name, value, pair| {
        let parts = Some(pair).filter(|pair| has_semicolon && pair.contains(&b';'));
        each(name, value, parts);
    });
}

/// Calls `each` with the pairs of a pair that has semicolons, as readers have them that split there, too.
pub(super) fn parts(pair: &[u8], each: &mut dyn FnMut(&[u8], &[u8])) {
    let (name, value) = (&mut Vec::new(), &mut Vec::new());
    split(pair, b';', name, value, |name, value, _| each(name, value));
}

fn split(
    text: &[u8],
    separator: u8,
    name: &mut Vec<u8>,
    value: &mut Vec<u8>,
    mut each: impl FnMut(&[u8], &[u8], &[u8]),
) {
    for pair in text
        .split(|b| *b == separator)
        .filter(|pair| !pair.is_empty())
    {
        let equals = memchr::memchr(b'=', pair).unwrap_or(pair.len());
        let (key, rest) = pair.split_at_checked(equals).unwrap_or_default();
        let rest = rest.get(1..).unwrap_or_default();
        if is_decoded(pair) && is_lower(key) {
            each(key, rest, pair);
        } else if decode(key, name) && decode(rest, value) {
            lower(name);
            each(name, value, pair);
        }
    }
}

/// Whether there is nothing to decode, as in most pairs.
fn is_decoded(pair: &[u8]) -> bool {
    memchr::memchr2(b'+', b'%', pair).is_none()
}

/// Whether [`lower`] would leave this name as it is.
fn is_lower(name: &[u8]) -> bool {
    name.iter()
        .all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase())
}

/// Undoes `+` and `%XX`; false when an escape is broken.
fn decode(text: &[u8], out: &mut Vec<u8>) -> bool {
    out.clear();
    let plain = memchr::memchr2(b'+', b'%', text).unwrap_or(text.len());
    let (plain, text) = text.split_at_checked(plain).unwrap_or_default();
    out.extend_from_slice(plain);
    let mut bytes = text.iter();
    while let Some(&byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => match (bytes.next().and_then(hex), bytes.next().and_then(hex)) {
                (Some(high), Some(low)) => high << 4 | low,
                _ => return false,
            },
            _ => byte,
        });
    }
    true
}

fn hex(digit: &u8) -> Option<u8> {
    char::from(*digit)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

/// Lower-cases a name: ASCII in place, others by character.
pub(super) fn lower(name: &mut Vec<u8>) {
    name.make_ascii_lowercase();
    if name.is_ascii() {
        return;
    }
    // Rare enough to allocate. Bytes that are not UTF-8 stay, and are replaced where the key is made.
    if let Ok(text) = std::str::from_utf8(name) {
        *name = text
            .chars()
            .flat_map(char::to_lowercase)
            .collect::<String>()
            .into_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(method: &str, target: &str, expected: &str) {
        let mut out = Vec::new();
        write(
            "http",
            method.as_bytes(),
            target.as_bytes(),
            b"h:81",
            &mut out,
        );
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[track_caller]
    fn check_pairs(text: &str, expected: &[(&str, &str)]) {
        let mut found = Vec::new();
        let text_of = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        pairs(
            text.as_bytes(),
            &mut Vec::new(),
            &mut Vec::new(),
            |name, value, _| found.push((text_of(name), text_of(value))),
        );
        let expected: Vec<_> = expected
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn every_form_of_target() {
        check(
            "GET",
            "/a%20b/%zz;v=2#x?q=1?2",
            "http://h:81/a%20b/%zz;v=2#x",
        );
        check("GET", "//evil/a?b", "http://h:81//evil/a");
        check("OPTIONS", "*", "http://h:81*");
        check("CONNECT", "db:443", "http://db:443");
        check("CONNECT", "user:p@ss@db:443", "http://db:443");
        check("GET", "user:pass@other/p", "http://h:81/other/p");
        check(
            "GET",
            "odd scheme://user:pass@other/p",
            "http://h:81/other/p",
        );
        check("GET", "/p/@user", "http://h:81/p/@user");
        check(
            "GET",
            "https://user:p@ss@other:82/p?q#f",
            "https://other:82/p",
        );
        check("GET", "http://other", "http://other");
        check("GET", "/http://x", "http://h:81/http://x");
        check("GET", "odd?x", "http://h:81/odd");
    }

    #[test]
    fn a_host_that_is_none_does_not_change_the_path() {
        for (host, expected) in [
            ("h", "http://h/stock"),
            ("[::1]:80", "http://[::1]:80/stock"),
            ("h\u{e9}", "http://h\u{e9}/stock"),
            ("h/admin", "http://h/stock"),
            ("h:80/admin?x#y", "http://h:80/stock"),
            ("h?x", "http://h/stock"),
            ("h#x", "http://h/stock"),
            ("h\\admin", "http://h/stock"),
            ("h, other/x", "http://h,/stock"),
            ("user:secret@h/x@y", "http://h/stock"),
            ("user:secret@h", "http://h/stock"),
            ("user:a secret@h", "http://h/stock"),
            ("user:a/b?c@h", "http://h/stock"),
            ("/admin", "http:///stock"),
            ("", "http:///stock"),
        ] {
            let mut out = Vec::new();
            write("http", b"GET", b"/stock", host.as_bytes(), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    #[test]
    fn pairs_that_do_not_decode_are_left_out() {
        check_pairs(
            "A=1&b=%zz&%4=x&c=+%2B&&flag&=v&a=b=c;d",
            &[
                ("a", "1"),
                ("c", " +"),
                ("flag", ""),
                ("", "v"),
                ("a", "b=c;d"),
            ],
        );
        check_pairs("%C3%89=%C3%89", &[("é", "É")]);
        assert_eq!(query(b"/a?b?c"), b"b?c");
        assert_eq!(query(b"/a"), b"");
    }
}
