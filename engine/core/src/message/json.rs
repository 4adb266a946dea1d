//! JSON documents (RFC 8259): whether a text is one, and the members of an object.
//!
//! Nothing is built and nothing recurses: a value is walked over with one bit for each level. Bound: [`JSON_DEPTH_MAX`] levels;
//! a deeper value counts as none.

use std::borrow::Cow;

use crate::limits::JSON_DEPTH_MAX;

/// Bits for the levels of a value.
type Levels = u128;

const _: () = assert!(JSON_DEPTH_MAX <= Levels::BITS as usize);

/// Whether a text is one JSON value.
pub(super) fn is_json(text: &[u8]) -> bool {
    let mut walk = Walk { text, at: 0 };
    walk.blanks();
    walk.value().is_some()
        && {
            walk.blanks();
            walk.at == text.len()
        }
        && simdutf8::basic::from_utf8(text).is_ok()
}

/// Whether a text is one object or list, perhaps with white space around, so that it can stand within a larger text as it is.
pub(super) fn is_object_or_list(text: &[u8]) -> bool {
    matches!(text.trim_ascii_start().first(), Some(b'{' | b'[')) && is_json(text)
}

/// The members of the object that a text begins with, in order, each as its name and the text of its value; as far as they are
/// there.
pub(super) fn members(text: &[u8]) -> Members<'_> {
    let mut walk = Walk { text, at: 0 };
    walk.blanks();
    let is_over = !walk.takes(b'{');
    Members {
        walk,
        is_over,
        is_first: true,
    }
}

/// The elements of the list that a text begins with, likewise.
pub(super) fn elements(text: &[u8]) -> Elements<'_> {
    let mut walk = Walk { text, at: 0 };
    walk.blanks();
    let is_over = !walk.takes(b'[');
    Elements {
        walk,
        is_over,
        is_first: true,
    }
}

/// The text of a string; nothing if a value is none.
pub(super) fn string(value: &[u8]) -> Option<Cow<'_, str>> {
    let inside = value.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    let text = str::from_utf8(inside).ok()?;
    if memchr::memchr(b'\\', inside).is_none() {
        return Some(Cow::Borrowed(text));
    }
    let mut out = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        if letter != '\\' {
            out.push(letter);
            continue;
        }
        match letters.next()? {
            'n' => out.push('\n'),
            'r' => out.push('\r'),
            't' => out.push('\t'),
            'b' => out.push('\u{8}'),
            'f' => out.push('\u{c}'),
            'u' => {
                let mut unit = || {
                    let digits: String = letters.by_ref().take(4).collect();
                    u16::from_str_radix(&digits, 16).ok()
                };
                let first = unit()?;
                // Of a pair the second half follows in the same form; alone, it is no character.
                out.push(char::from_u32(first.into()).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            other => out.push(other),
        }
    }
    Some(Cow::Owned(out))
}

/// See [`members`].
#[derive(Debug)]
pub(super) struct Members<'a> {
    walk: Walk<'a>,
    is_over: bool,
    is_first: bool,
}

impl<'a> Iterator for Members<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let member = self.walk.separator(self.is_first).and_then(|()| {
            let name = self.walk.string()?;
            self.walk.blanks();
            self.walk.takes(b':').then_some(())?;
            self.walk.blanks();
            let value = self.walk.value()?;
            let inside = name.get(1..name.len().saturating_sub(1))?;
            Some((inside, value))
        });
        self.is_first = false;
        self.is_over = member.is_none();
        member
    }
}

/// See [`elements`].
#[derive(Debug)]
pub(super) struct Elements<'a> {
    walk: Walk<'a>,
    is_over: bool,
    is_first: bool,
}

impl<'a> Iterator for Elements<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let separator = self.walk.separator(self.is_first);
        let element = separator.and_then(|()| self.walk.value());
        self.is_first = false;
        self.is_over = element.is_none();
        element
    }
}

#[derive(Clone, Copy, Debug)]
struct Walk<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Walk<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn blanks(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn takes(&mut self, byte: u8) -> bool {
        let is_there = self.peek() == Some(byte);
        self.at += usize::from(is_there);
        is_there
    }

    fn since(&self, start: usize) -> Option<&'a [u8]> {
        self.text.get(start..self.at)
    }

    /// Before a member or an element: a comma, unless it is the first.
    fn separator(&mut self, is_first: bool) -> Option<()> {
        self.blanks();
        (is_first || self.takes(b',')).then_some(())?;
        self.blanks();
        Some(())
    }

    /// Takes one value, of any kind.
    fn value(&mut self) -> Option<&'a [u8]> {
        let start = self.at;
        // A bit of each open level, the innermost last: whether it is an object.
        let (mut levels, mut depth): (Levels, usize) = (0, 0);
        loop {
            // At the beginning of a value.
            match self.peek()? {
                open @ (b'{' | b'[') => {
                    self.at += 1;
                    depth += 1;
                    if depth > JSON_DEPTH_MAX {
                        return None;
                    }
                    levels = levels << 1 | Levels::from(open == b'{');
                    self.blanks();
                    let close = if open == b'{' { b'}' } else { b']' };
                    if self.takes(close) {
                        (levels, depth) = (levels >> 1, depth - 1);
                    } else {
                        self.name(levels)?;
                        continue;
                    }
                }
                b'"' => {
                    self.string()?;
                }
                _ => self.bare()?,
            }
            // Behind a value.
            loop {
                if depth == 0 {
                    return self.since(start);
                }
                self.blanks();
                let is_object = levels & 1 == 1;
                if self.takes(b',') {
                    self.blanks();
                    self.name(levels)?;
                    break;
                }
                if !self.takes(if is_object { b'}' } else { b']' }) {
                    return None;
                }
                (levels, depth) = (levels >> 1, depth - 1);
            }
        }
    }

    /// The name of a member with its colon, where the innermost level is an object.
    fn name(&mut self, levels: Levels) -> Option<()> {
        if levels & 1 == 1 {
            self.string()?;
            self.blanks();
            self.takes(b':').then_some(())?;
            self.blanks();
        }
        Some(())
    }

    fn string(&mut self) -> Option<&'a [u8]> {
        let start = self.at;
        self.takes(b'"').then_some(())?;
        loop {
            match self.peek()? {
                b'"' => {
                    self.at += 1;
                    return self.since(start);
                }
                b'\\' => {
                    let escape = *self.text.get(self.at + 1)?;
                    self.at += 2;
                    if escape == b'u' {
                        let digits = self.text.get(self.at..self.at + 4)?;
                        let is_hex = digits.iter().all(u8::is_ascii_hexdigit);
                        is_hex.then_some(())?;
                        self.at += 4;
                    } else if !b"\"\\/bfnrt".contains(&escape) {
                        return None;
                    }
                }
                0..0x20 => return None,
                _ => self.at += 1,
            }
        }
    }

    /// A number, `true`, `false` or `null`.
    fn bare(&mut self) -> Option<()> {
        let start = self.at;
        while let Some(b'a'..=b'z' | b'0'..=b'9' | b'-' | b'+' | b'.' | b'E') = self.peek() {
            self.at += 1;
        }
        let word = self.since(start)?;
        (matches!(word, b"true" | b"false" | b"null") || is_number(word)).then_some(())
    }
}

fn is_number(text: &[u8]) -> bool {
    let text = text.strip_prefix(b"-").unwrap_or(text);
    let digits = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let whole = digits(text);
    if whole == 0 || (whole > 1 && text.starts_with(b"0")) {
        return false;
    }
    let mut rest = text.get(whole..).unwrap_or_default();
    if let Some(fraction) = rest.strip_prefix(b".") {
        let count = digits(fraction);
        if count == 0 {
            return false;
        }
        rest = fraction.get(count..).unwrap_or_default();
    }
    if let [b'e' | b'E', exponent @ ..] = rest {
        let exponent = match exponent {
            [b'+' | b'-', digits @ ..] => digits,
            digits => digits,
        };
        let count = digits(exponent);
        return count > 0 && count == exponent.len();
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[track_caller]
    fn check(text: &[u8]) {
        let value = serde_json::from_slice::<Value>(text);
        let expected = value.is_ok_and(|value| value.is_object() || value.is_array());
        assert_eq!(is_object_or_list(text), expected, "{}", text.escape_ascii());
    }

    #[test]
    fn texts_that_a_library_reads() {
        const TEXTS: [&str; 26] = [
            "{}",
            "[]",
            " {\"a\" : [1, -2.5e+3 ,{\"b\":null}], \"c\":\"\\u00e9\\n\"}\r\n",
            "[true,false,0,-0,1e9]",
            "\"text\"",
            "1",
            "",
            "{",
            "[1,]",
            "{\"a\"}",
            "{\"a\":}",
            "{a:1}",
            "[01]",
            "[1.]",
            "[.5]",
            "[+1]",
            "[-]",
            "[1e]",
            "[\"\\x\"]",
            "[\"\\u12g4\"]",
            "[\"\t\"]",
            "[}",
            "{]",
            "{} {}",
            "[1 2]",
            "[tru]",
        ];
        for text in TEXTS {
            check(text.as_bytes());
            for cut in 0..text.len() {
                check(&text.as_bytes()[..cut]);
            }
        }
        check(b"[\"\xff\"]");
    }

    #[test]
    fn depth_is_bounded() {
        let deep = |depth: usize| [vec![b'['; depth], vec![b']'; depth]].concat();
        assert!(is_object_or_list(&deep(JSON_DEPTH_MAX)));
        assert!(!is_object_or_list(&deep(JSON_DEPTH_MAX + 1)));
    }

    #[test]
    fn random_texts() {
        const PARTS: [&str; 12] = [
            "{", "}", "[", "]", ",", ":", "\"a\"", "1", "-2", "null", " ", "\"\\\"\"",
        ];
        let mut state = 9u64;
        for _ in 0..20_000 {
            let mut text = String::new();
            for _ in 0..2 + state % 9 {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                text.push_str(PARTS[(state >> 33) as usize % PARTS.len()]);
            }
            check(text.as_bytes());
        }
    }

    #[test]
    fn what_is_json_is_what_a_library_reads() {
        for text in [
            "",
            " ",
            "{}",
            " [ ] ",
            "[1,2]",
            "[1,]",
            "{\"a\":1}",
            "{\"a\":1,}",
            "{\"a\" : [ {} , null ] }",
            "{a:1}",
            "\"a\\u00e4\\n\"",
            "\"a\\x\"",
            "\"\\u12\"",
            "\"\n\"",
            "1",
            "-0.5e+7",
            "01",
            "1.",
            "-",
            "+1",
            "tru",
            "true",
            "truefalse",
            "nulls",
            "[1 2]",
            "{\"a\"}",
            "{} {}",
            "[[[[]]]]",
            "[}",
            "\"a",
            "1e",
            "1E5",
            "[\"\u{e4}\"]",
        ] {
            let library = serde_json::from_str::<Value>(text).is_ok();
            assert_eq!(is_json(text.as_bytes()), library, "{text:?}");
        }
        assert!(!is_json(b"\"\xff\""));
        let deep = "[".repeat(JSON_DEPTH_MAX) + &"]".repeat(JSON_DEPTH_MAX);
        assert!(is_json(deep.as_bytes()));
        assert!(!is_json(format!("[{deep}]").as_bytes()));
        assert!(!is_json("[".repeat(1_000_000).as_bytes()));
    }

    #[test]
    fn members_as_far_as_they_are_there() {
        let text = br#" { "a" : 1, "b":{"c":[1,"}"]} ,"d":"x\"y", "e":[1"#;
        let found: Vec<_> = members(text).collect();
        let expected: [(&[u8], &[u8]); 3] = [
            (b"a", b"1"),
            (b"b", br#"{"c":[1,"}"]}"#),
            (b"d", br#""x\"y""#),
        ];
        assert_eq!(found, expected);
        assert_eq!(string(found[2].1).as_deref(), Some("x\"y"));
        assert_eq!(members(b"[1]").count(), 0);
        let found: Vec<_> = elements(b"[ {} , 2 ,\"x\", ").collect();
        assert_eq!(found, [&b"{}"[..], b"2", b"\"x\""]);
    }

    #[test]
    fn strings() {
        let text = string(br#""a\u00e4\n\/\ud834\"""#);
        assert_eq!(text.as_deref(), Some("a\u{e4}\n/\u{fffd}\""));
        assert_eq!(string(b"1"), None);
    }
}
