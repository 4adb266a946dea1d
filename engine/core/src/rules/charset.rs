//! Character sets that a content type names, as far as it matters to rules: whether ASCII is in them what it is in UTF-8.
//!
//! Bodies are read as UTF-8. In a set such as UTF-16, UTF-7 or EBCDIC other bytes stand for the same letters, so that no
//! rule finds them, and in Shift JIS the second byte of a letter can be a backslash or a bracket. What is not known here
//! counts as such a set.

use super::ascii::find_ignoring_case;

/// What a content type says of the bytes of a text, the more doubtful ones last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Charset {
    /// Each byte below 128 is the ASCII character, or nothing is said.
    #[default]
    Ascii,
    /// Letters of several bytes may have ASCII characters in them.
    Mixed,
    /// Rules cannot read it.
    Foreign,
}

impl Charset {
    /// The one that the value of a content type names; of several the most doubtful.
    pub fn of_type(value: &[u8]) -> Self {
        let mut charset = Self::Ascii;
        // Most types have no parameter, and so no label.
        if is_common(value) || memchr::memchr2(b'=', b'*', value).is_none() {
            return charset;
        }
        let mut rest = value;
        while let Some(at) = find_ignoring_case(rest, b"charset") {
            rest = rest.get(at + b"charset".len()..).unwrap_or_default();
            charset = charset.max(Self::named(label(rest)));
        }
        charset
    }

    fn named(label: &[u8]) -> Self {
        const ASCII: [&str; 15] = [
            "ansix34",
            "ascii",
            "cp125",
            "euc",
            "iso8859",
            "koi8",
            "l1",
            "latin",
            "mac",
            "tis620",
            "unicode11utf8",
            "usascii",
            "utf8",
            "windows125",
            "windows874",
        ];
        const MIXED: [&str; 11] = [
            "big5",
            "cp932",
            "cp936",
            "cp949",
            "cp950",
            "gb",
            "mskanji",
            "shiftjis",
            "sjis",
            "windows31j",
            "windows949",
        ];
        if label.eq_ignore_ascii_case(b"utf-8") {
            return Self::Ascii;
        }
        // More letters than the longest of the names has decide nothing.
        let mut letters = [0; 16];
        let mut filled = 0;
        let alphanumeric = label.iter().filter(|byte| byte.is_ascii_alphanumeric());
        for (to, from) in letters.iter_mut().zip(alphanumeric) {
            *to = from.to_ascii_lowercase();
            filled += 1;
        }
        let label = letters.get(..filled).unwrap_or_default();
        let is_one = |names: &[&str]| names.iter().any(|name| label.starts_with(name.as_bytes()));
        if label.is_empty() || is_one(&ASCII) {
            Self::Ascii
        } else if is_one(&MIXED) {
            Self::Mixed
        } else {
            Self::Foreign
        }
    }
}

/// Whether the type is one of those that most bodies have, as they are mostly written. All of them are ASCII.
#[inline]
fn is_common(value: &[u8]) -> bool {
    matches!(
        value,
        b"application/json"
            | b"application/json; charset=utf-8"
            | b"application/json; charset=UTF-8"
            | b"application/json;charset=utf-8"
            | b"application/json;charset=UTF-8"
            | b"application/x-www-form-urlencoded"
            | b"text/html; charset=utf-8"
            | b"text/html; charset=UTF-8"
            | b"text/html;charset=UTF-8"
            | b"text/plain; charset=utf-8"
    )
}

/// The label behind the word `charset`. One in the form of RFC 2231 (`charset*=`) is none that is known.
fn label(text: &[u8]) -> &[u8] {
    let text = text.trim_ascii_start();
    let Some(text) = text.strip_prefix(b"=") else {
        return if text.starts_with(b"*") {
            b"*extended"
        } else {
            b""
        };
    };
    let text = text.trim_ascii_start();
    let text = text.strip_prefix(b"\"").unwrap_or(text);
    let end = text.iter().position(|byte| b";,\"".contains(byte));
    text.get(..end.unwrap_or(text.len())).unwrap_or_default()
}

/// Whether a text has four letters of ASCII in a row in UTF-16 or UTF-32, whatever it is labelled.
pub fn has_wide_text(bytes: &[u8]) -> bool {
    const LETTERS: usize = 4;
    let is_wide = |start: usize, step: usize| {
        let letters = bytes.get(start..).unwrap_or_default();
        let letters = letters.chunks_exact(step).take(LETTERS);
        let mut seen = 0;
        letters
            .inspect(|_| seen += 1)
            .all(|letter| matches!(letter, [b' '..=b'~', zeros @ ..] if zeros.iter().all(|byte| *byte == 0)))
            && seen == LETTERS
    };
    let mut from = 0;
    while let Some(zero) = bytes.get(from..).and_then(|rest| memchr::memchr(0, rest)) {
        let zero = from + zero;
        if zero > 0 && (is_wide(zero - 1, 2) || is_wide(zero - 1, 4)) {
            return true;
        }
        from = zero + 1;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(value: &str, expected: Charset) {
        assert_eq!(Charset::of_type(value.as_bytes()), expected, "{value}");
    }

    #[test]
    fn labels_as_they_are_sent() {
        for value in [
            "",
            "text/html",
            "application/json; charset=utf-8",
            "application/json;charset=UTF-8",
            "application/json;CHARSET=\"UTF8\"; x=y",
            "text/plain; charset=ISO-8859-1",
            "text/plain; charset = windows-1252",
            "text/plain; charset=",
            "text/plain; charset=us-ascii",
            "text/plain; charset=euc-kr",
        ] {
            check(value, Charset::Ascii);
        }
        for value in [
            "text/plain; charset=Shift_JIS",
            "x/y; charset=gbk; charset=utf-8",
        ] {
            check(value, Charset::Mixed);
        }
        for value in [
            "application/json; charset=utf-16",
            "application/json; charset=utf-8; charset=utf-7",
            "application/json; charset=UTF-16LE",
            "application/json; charset=utf-8; charset=utf-32",
            "text/html; charset='ucs-2'",
            "text/html; charset=utf-7",
            "application/x-www-form-urlencoded; charset=IBM037",
            "text/html; charset=iso-2022-jp",
            "text/html; charset*=us-ascii''utf-16",
            "text/html; charset=x-unknown",
        ] {
            check(value, Charset::Foreign);
        }
    }

    #[test]
    fn wide_text_is_found_in_either_order_and_anywhere() {
        let wide = |text: &str, before: usize, behind: usize| -> Vec<u8> {
            let letter = |byte: u8| [vec![0; before], vec![byte], vec![0; behind]].concat();
            text.bytes().flat_map(letter).collect()
        };
        for (before, behind) in [(0, 1), (1, 0), (0, 3), (3, 0)] {
            let text = wide("41111", before, behind);
            assert!(has_wide_text(&text), "{before} {behind}");
            assert!(has_wide_text(&[b"abc\0\x01".as_slice(), &text].concat()));
            assert!(!has_wide_text(&wide("411", before, behind)));
        }
        for text in [
            b"".as_slice(),
            b"4111111",
            b"\0\0\0\0",
            b"a\0bc\0de\0f",
            b"\x01\0\x02\0\x03\0\x04\0\x05\0",
        ] {
            assert!(!has_wide_text(text), "{text:?}");
        }
    }
}
