//! Whether a text is one JSON object or list (RFC 8259), so that it can stand within a larger text as it is.
//!
//! Strict, since what is put together of it must be JSON for every reader. One pass without recursion; bounded by
//! `JSON_DEPTH_MAX`, as the masks that look into it are.

use crate::limits::JSON_DEPTH_MAX;

/// Whether `text` is one object or list, perhaps with white space around.
pub(super) fn is_object_or_list(text: &[u8]) -> bool {
    let text = text.trim_ascii_start();
    if !matches!(text.first(), Some(b'{' | b'[')) || std::str::from_utf8(text).is_err() {
        return false;
    }
    let mut reader = Reader { rest: text };
    reader.document().is_some() && reader.blanks().is_none()
}

/// The levels that are open: a bit for each, 1 for an object.
#[derive(Default)]
struct Levels {
    bits: u128,
    depth: usize,
}

const _: () = assert!(JSON_DEPTH_MAX <= u128::BITS as usize);

impl Levels {
    fn open(&mut self, is_object: bool) -> Option<()> {
        self.depth += 1;
        self.bits = self.bits << 1 | u128::from(is_object);
        (self.depth <= JSON_DEPTH_MAX).then_some(())
    }

    fn close(&mut self, is_object: bool) -> Option<()> {
        let fits = self.in_object() == is_object;
        self.depth = self.depth.checked_sub(1)?;
        self.bits >>= 1;
        fits.then_some(())
    }

    fn in_object(&self) -> bool {
        self.bits & 1 == 1
    }
}

struct Reader<'t> {
    rest: &'t [u8],
}

impl Reader<'_> {
    /// The next byte that is no white space, still there.
    fn blanks(&mut self) -> Option<u8> {
        let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
        while let Some((first, rest)) = self.rest.split_first()
            && is_blank(first)
        {
            self.rest = rest;
        }
        self.rest.first().copied()
    }

    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn token(&mut self, byte: u8) -> Option<()> {
        self.blanks()?;
        (self.next()? == byte).then_some(())
    }

    /// One value; nothing if it is none.
    fn document(&mut self) -> Option<()> {
        let mut levels = Levels::default();
        loop {
            // A value begins.
            match self.blanks()? {
                opening @ (b'{' | b'[') => {
                    self.next();
                    let is_object = opening == b'{';
                    levels.open(is_object)?;
                    let closing = if is_object { b'}' } else { b']' };
                    if self.blanks()? != closing {
                        if is_object {
                            self.name()?;
                        }
                        continue;
                    }
                }
                b'"' => self.string()?,
                b't' => self.word(b"true")?,
                b'f' => self.word(b"false")?,
                b'n' => self.word(b"null")?,
                _ => self.number()?,
            }
            // It is over, and perhaps the levels around it.
            loop {
                if levels.depth == 0 {
                    return Some(());
                }
                self.blanks()?;
                match self.next()? {
                    b',' => {
                        if levels.in_object() {
                            self.name()?;
                        }
                        break;
                    }
                    b'}' => levels.close(true)?,
                    b']' => levels.close(false)?,
                    _ => return None,
                }
            }
        }
    }

    fn name(&mut self) -> Option<()> {
        self.blanks()?;
        self.string()?;
        self.token(b':')
    }

    fn string(&mut self) -> Option<()> {
        if self.next()? != b'"' {
            return None;
        }
        loop {
            match self.next()? {
                b'"' => return Some(()),
                b'\\' => match self.next()? {
                    b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {}
                    b'u' => {
                        let (digits, rest) = self.rest.split_first_chunk::<4>()?;
                        if !digits.iter().all(u8::is_ascii_hexdigit) {
                            return None;
                        }
                        self.rest = rest;
                    }
                    _ => return None,
                },
                0..=0x1f => return None,
                _ => {}
            }
        }
    }

    fn word(&mut self, word: &[u8]) -> Option<()> {
        self.rest = self.rest.strip_prefix(word)?;
        Some(())
    }

    fn number(&mut self) -> Option<()> {
        self.rest = self.rest.strip_prefix(b"-").unwrap_or(self.rest);
        match self.rest.strip_prefix(b"0") {
            Some(rest) => self.rest = rest,
            None => self.digits()?,
        }
        if let Some(rest) = self.rest.strip_prefix(b".") {
            self.rest = rest;
            self.digits()?;
        }
        if let [b'e' | b'E', rest @ ..] = self.rest {
            self.rest = match rest {
                [b'+' | b'-', rest @ ..] => rest,
                rest => rest,
            };
            self.digits()?;
        }
        Some(())
    }

    fn digits(&mut self) -> Option<()> {
        let count = self.rest.iter().take_while(|byte| byte.is_ascii_digit());
        let (digits, rest) = self.rest.split_at_checked(count.count())?;
        self.rest = rest;
        (!digits.is_empty()).then_some(())
    }
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
}
