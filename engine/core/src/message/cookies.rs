//! Cookies of a request (RFC 6265 §4.2.1), as the reference logger parses them (`docs/contract.md`,
//! section 1.7).
//!
//! Left out, as there: pairs whose name is no token, and whose value has a byte that no cookie may have.

use crate::http::{Header, HeaderName};

/// Name and value of every cookie, in order; a value in double quotes without them.
pub(super) fn all<'a>(headers: &'a [Header<'a>]) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
    headers
        .iter()
        .filter(|header| header.is(HeaderName::Cookie))
        .flat_map(|header| header.value.split(|b| *b == b';'))
        .filter_map(pair)
}

#[inline]
fn pair(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let text = text.trim_ascii();
    let (name, value) = text.split_at_checked(memchr::memchr(b'=', text).unwrap_or(text.len()))?;
    let value = value.strip_prefix(b"=").unwrap_or_default();
    let value = match value {
        [b'"', inner @ .., b'"'] => inner,
        value => value,
    };
    (!name.is_empty() && are_all(TOKEN, name) && are_all(OCTET, value)).then_some((name, value))
}

/// Whether all bytes are of a class. Nearly all texts are, so none is left early.
#[inline]
fn are_all(class: u8, text: &[u8]) -> bool {
    let class_of = |byte: &u8| CLASSES.get(usize::from(*byte)).copied().unwrap_or_default();
    text.iter()
        .fold(class, |so_far, byte| so_far & class_of(byte))
        != 0
}

const TOKEN: u8 = 1;
const OCTET: u8 = 2;

/// Where each byte is allowed: in a name (RFC 9110 §5.6.2), a value (RFC 6265 §4.1.1, and blanks as the reference has them).
static CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0_u8;
    while byte < 0x7f {
        let is_token = byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
            );
        let is_octet = matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b';' | b'\\');
        #[expect(
            clippy::indexing_slicing,
            reason = "a byte always has its place in a table of 256"
        )]
        {
            classes[byte as usize] = (is_token as u8 * TOKEN) | (is_octet as u8 * OCTET);
        }
        byte += 1;
    }
    classes
};

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(lines: &[&str], expected: &[(&str, &str)]) {
        let headers: Vec<_> = lines
            .iter()
            .map(|line| Header::new(b"Cookie", line.as_bytes()))
            .collect();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let found: Vec<_> = all(&headers)
            .map(|(name, value)| (text(name), text(value)))
            .collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn classes_are_those_of_the_standards() {
        for byte in 0..=255_u8 {
            let class = CLASSES[usize::from(byte)];
            let token = byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
            let octet = (b' '..=b'~').contains(&byte) && !b"\";\\".contains(&byte);
            assert_eq!(
                (class & TOKEN != 0, class & OCTET != 0),
                (token, octet),
                "{byte}"
            );
        }
    }

    #[test]
    fn bad_names_and_values_are_left_out() {
        check(
            &[
                "SID=abc; empty=; quoted=\"q v\"; a=b=c",
                "x=1;; bad name=2; y=\\; z=é; \"=3; c; d=\"",
            ],
            &[
                ("SID", "abc"),
                ("empty", ""),
                ("quoted", "q v"),
                ("a", "b=c"),
                ("x", "1"),
                ("c", ""),
            ],
        );
    }
}
