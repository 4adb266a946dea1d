//! JSON text of one line: any bytes in, the inside of a JSON string out.
//!
//! RFC 8259 §7. `"`, `\` and controls below 0x20 are escaped; DEL, `<`, `>`, `&` and non-ASCII stay as they are. Every
//! byte that is not part of valid UTF-8 becomes one U+FFFD, as the reference logger writes it (contract 1.5). The
//! output is valid JSON whatever the input is.

/// Appends the JSON string text of `bytes`.
pub fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    let mut tail = Tail::default();
    escape_part(&mut tail, bytes, out);
    escape_end(&mut tail, out);
}

/// The first bytes of a character whose rest has not come yet.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tail {
    bytes: [u8; 4],
    len: usize,
}

impl Tail {
    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    fn push(&mut self, byte: u8) {
        if let Some(free) = self.bytes.get_mut(self.len) {
            *free = byte;
            self.len += 1;
        }
    }
}

/// Appends the next part of a value that comes in slices. A character cut between two of them comes out whole.
pub fn escape_part(tail: &mut Tail, mut bytes: &[u8], out: &mut Vec<u8>) {
    while let (1.., Some((&next, rest))) = (tail.len, bytes.split_first()) {
        let before = tail.len;
        tail.push(next);
        match std::str::from_utf8(tail.bytes()) {
            Ok(_) => {
                out.extend_from_slice(tail.bytes());
                tail.len = 0;
                bytes = rest;
            }
            Err(error) if error.error_len().is_none() => bytes = rest,
            // `next` does not continue the character: it is looked at afresh below.
            Err(_) => {
                replace(before, out);
                tail.len = 0;
            }
        }
    }
    loop {
        let Err(error) = std::str::from_utf8(bytes) else {
            return escape_text(bytes, out);
        };
        let Some((valid, rest)) = bytes.split_at_checked(error.valid_up_to()) else {
            return;
        };
        escape_text(valid, out);
        let Some(wrong) = error.error_len() else {
            rest.iter().for_each(|byte| tail.push(*byte));
            return;
        };
        replace(wrong, out);
        bytes = rest.get(wrong..).unwrap_or_default();
    }
}

/// Ends a value that came in slices: what never became a character is replaced.
pub fn escape_end(tail: &mut Tail, out: &mut Vec<u8>) {
    replace(std::mem::take(tail).len, out);
}

fn replace(count: usize, out: &mut Vec<u8>) {
    for _ in 0..count {
        out.extend_from_slice("\u{fffd}".as_bytes());
    }
}

/// Escapes valid UTF-8: copies runs of plain bytes whole.
fn escape_text(mut text: &[u8], out: &mut Vec<u8>) {
    loop {
        let Some((plain, rest)) = text.split_at_checked(plain_len(text)) else {
            return;
        };
        out.extend_from_slice(plain);
        let Some((&special, rest)) = rest.split_first() else {
            return;
        };
        match special {
            b'"' => out.extend_from_slice(br#"\""#),
            b'\\' => out.extend_from_slice(br"\\"),
            b'\n' => out.extend_from_slice(br"\n"),
            b'\r' => out.extend_from_slice(br"\r"),
            b'\t' => out.extend_from_slice(br"\t"),
            control => {
                let digit = |value: u8| {
                    if value < 10 {
                        b'0' + value
                    } else {
                        b'a' + value - 10
                    }
                };
                out.extend_from_slice(&[
                    b'\\',
                    b'u',
                    b'0',
                    b'0',
                    digit(control >> 4),
                    digit(control & 15),
                ]);
            }
        }
        text = rest;
    }
}

/// Length of the longest prefix that needs no escape.
///
/// Eight bytes at a time: each of the three tests sets the high bit of a byte that hits. A borrow may also set bits
/// above a hit, never below, so the lowest one is exact.
fn plain_len(text: &[u8]) -> usize {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGHS: u64 = u64::from_le_bytes([0x80; 8]);
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word;
    let (words, rest) = text.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let controls = word.wrapping_sub(ONES * 0x20) & !word;
        let quotes = zeros(word ^ (ONES * b'"' as u64));
        let backslashes = zeros(word ^ (ONES * b'\\' as u64));
        let hits = (controls | quotes | backslashes) & HIGHS;
        if hits != 0 {
            return index * 8 + hits.trailing_zeros() as usize / 8;
        }
    }
    let special = |byte: &u8| *byte < 0x20 || *byte == b'"' || *byte == b'\\';
    words.len() * 8 + rest.iter().position(special).unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The slow obvious twin.
    fn naive(bytes: &[u8]) -> String {
        let mut out = String::new();
        for chunk in bytes.utf8_chunks() {
            for c in chunk.valid().chars() {
                match c {
                    '"' => out.push_str("\\\""),
                    '\\' => out.push_str("\\\\"),
                    '\n' => out.push_str("\\n"),
                    '\r' => out.push_str("\\r"),
                    '\t' => out.push_str("\\t"),
                    c if c < ' ' => out.push_str(&format!("\\u{:04x}", c as u32)),
                    c => out.push(c),
                }
            }
            chunk.invalid().iter().for_each(|_| out.push('\u{fffd}'));
        }
        out
    }

    #[track_caller]
    fn check(bytes: &[u8]) {
        let expected = naive(bytes);
        let mut whole = Vec::new();
        escape(bytes, &mut whole);
        assert_eq!(String::from_utf8(whole).unwrap(), expected, "{bytes:x?}");
        for cut in 0..=bytes.len() {
            let (mut tail, mut parts) = (Tail::default(), Vec::new());
            escape_part(&mut tail, &bytes[..cut], &mut parts);
            escape_part(&mut tail, &[], &mut parts);
            escape_part(&mut tail, &bytes[cut..], &mut parts);
            escape_end(&mut tail, &mut parts);
            assert_eq!(
                String::from_utf8(parts).unwrap(),
                expected,
                "{bytes:x?} cut at {cut}"
            );
        }
        let quoted = format!("\"{expected}\"");
        let read: String = serde_json::from_str(&quoted).unwrap();
        let lossy: String = bytes
            .utf8_chunks()
            .flat_map(|chunk| {
                chunk
                    .valid()
                    .chars()
                    .chain(chunk.invalid().iter().map(|_| '\u{fffd}'))
            })
            .collect();
        assert_eq!(read, lossy);
    }

    #[test]
    fn known_texts() {
        check(b"");
        check(b"plain text that is longer than eight bytes");
        check("a\0b\x01c\x07\x1b\x7f\tf\ng\r\"\\\u{2028}\u{85}<&>".as_bytes());
        check("😀 Zoë ok 😀".as_bytes());
        check(b"\xf0\x9f\x98a\xc3(\xed\xa0\x80z\xff\xfe\xe2\x82");
        check(b"\xf0\x9f\xf0\x9f\x98\x80\xc3\xc3\xa9");
    }

    #[test]
    fn random_texts() {
        const PARTS: [&[u8]; 12] = [
            b"abcdefgh",
            b"\"",
            b"\\",
            b"\x1f",
            b" ",
            b"\xc3\xa9",
            b"\xe2\x82\xac",
            b"\xf0\x9f\x98\x80",
            b"\xf0",
            b"\x9f\x98",
            b"\xff",
            b"\x7f",
        ];
        let mut state = 7u64;
        for _ in 0..2_000 {
            let mut bytes = Vec::new();
            for _ in 0..state % 13 {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                bytes.extend_from_slice(PARTS[(state >> 33) as usize % PARTS.len()]);
            }
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(99)
                >> 1;
            check(&bytes);
        }
    }
}
