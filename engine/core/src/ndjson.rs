//! JSON text of one line: any bytes in, the inside of a JSON string out.
//!
//! RFC 8259 §7. `"`, `\` and controls below 0x20 are escaped; DEL, `<`, `>`, `&` and non-ASCII stay as they are. Every
//! longest run that begins a character and does not end one becomes one U+FFFD (Unicode 3.9, best practice; what
//! `String::from_utf8_lossy` does). The reference logger writes one per byte (contract 1.5 allows both). The output is
//! valid JSON whatever the input is.

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
                replace(out);
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
        replace(out);
        bytes = rest.get(wrong..).unwrap_or_default();
    }
}

/// Ends a value that came in slices: what never became a character is replaced.
pub fn escape_end(tail: &mut Tail, out: &mut Vec<u8>) {
    if std::mem::take(tail).len > 0 {
        replace(out);
    }
}

fn replace(out: &mut Vec<u8>) {
    out.extend_from_slice("\u{fffd}".as_bytes());
}

/// Escapes valid UTF-8.
///
/// Plain blocks are found 32 bytes at a time (a loop that the compiler turns into vector code) and copied whole; around a
/// special byte [`dense`] takes over for a little. On a JSON body with a special byte in every four this is a third
/// faster than copying run by run, with a call for each; on plain text the blocks are.
fn escape_text(mut text: &[u8], out: &mut Vec<u8>) {
    const DENSE_BYTES: usize = 64;
    while !text.is_empty() {
        let (blocks, _) = text.as_chunks::<32>();
        let plain = blocks.iter().take_while(|block| is_plain(block)).count() * 32;
        let (copied, rest) = text.split_at_checked(plain).unwrap_or_default();
        out.extend_from_slice(copied);
        let (escaped, rest) = rest.split_at_checked(DENSE_BYTES).unwrap_or((rest, &[]));
        dense(escaped, out);
        text = rest;
    }
}

fn is_plain(block: &[u8; 32]) -> bool {
    let special = |byte: &u8| (*byte < 0x20) | (*byte == b'"') | (*byte == b'\\');
    !block.iter().fold(false, |any, byte| any | special(byte))
}

/// How a byte is written: its text in the low bytes of a word, and the length of that.
struct Escape {
    text: u64,
    len: u8,
}

/// For every byte that can stand in UTF-8; the plain ones are themselves.
#[expect(
    clippy::indexing_slicing,
    reason = "evaluated by the compiler, which refuses a wrong index"
)]
static ESCAPES: [Escape; 256] = {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut table = [const { Escape { text: 0, len: 1 } }; 256];
    let mut byte = 0;
    while byte < 256 {
        let short = match byte as u8 {
            b'"' => b'"',
            b'\\' => b'\\',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            _ => 0,
        };
        table[byte] = if short != 0 {
            Escape {
                text: u64::from_le_bytes([b'\\', short, 0, 0, 0, 0, 0, 0]),
                len: 2,
            }
        } else if byte < 0x20 {
            let text = [
                b'\\',
                b'u',
                b'0',
                b'0',
                HEX[byte >> 4],
                HEX[byte & 15],
                0,
                0,
            ];
            Escape {
                text: u64::from_le_bytes(text),
                len: 6,
            }
        } else {
            Escape {
                text: byte as u64,
                len: 1,
            }
        };
        byte += 1;
    }
    table
};

/// Escapes a short text with many special bytes.
///
/// Everything is written as whole words, of which only the first bytes count: the next word overwrites the others. So
/// the room is made once, and no store has a length that is not known.
fn dense(text: &[u8], out: &mut Vec<u8>) {
    let mut at = out.len();
    out.resize(at + text.len() * 6 + 8, 0);
    let mut put = |at: usize, word: u64| {
        if let Some(place) = out.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
            *place = word.to_le_bytes();
        }
    };
    let (words, rest) = text.as_chunks::<8>();
    for word in words {
        let (mut word, mut left) = (u64::from_le_bytes(*word), 8);
        let mut hits = specials(word);
        while hits != 0 {
            let plain = hits.trailing_zeros() / 8;
            put(at, word);
            at += plain as usize;
            let escape = escape_of((word >> (8 * plain)) as u8);
            put(at, escape.text);
            at += usize::from(escape.len);
            let done = 8 * (plain + 1);
            word = word.checked_shr(done).unwrap_or_default();
            hits = hits.checked_shr(done).unwrap_or_default();
            left -= plain as usize + 1;
        }
        put(at, word);
        at += left;
    }
    for byte in rest {
        let escape = escape_of(*byte);
        put(at, escape.text);
        at += usize::from(escape.len);
    }
    out.truncate(at);
}

#[expect(
    clippy::indexing_slicing,
    reason = "a byte always has its place in a table of 256"
)]
fn escape_of(byte: u8) -> &'static Escape {
    &ESCAPES[usize::from(byte)]
}

/// The high bit of every byte that needs an escape. Each test asks for bytes that are zero; adding 0x7f to the low seven
/// bits carries into the high bit exactly where they are not, and never into the next byte.
fn specials(word: u64) -> u64 {
    const LOWS: u64 = u64::from_le_bytes([0x7f; 8]);
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    let not_zero = |word: u64| ((word & LOWS) + LOWS) | word;
    let not_control = not_zero(word & (ONES * 0xe0));
    let not_quote = not_zero(word ^ (ONES * b'"' as u64));
    let not_backslash = not_zero(word ^ (ONES * b'\\' as u64));
    !(not_control & not_quote & not_backslash) & !LOWS
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
            if !chunk.invalid().is_empty() {
                out.push('\u{fffd}');
            }
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
        assert_eq!(read, String::from_utf8_lossy(bytes));
    }

    #[test]
    fn known_texts() {
        check(b"");
        check(b"plain text that is longer than eight bytes");
        check(
            &b"and longer than a block, with \"quotes\" at the end of it \"\"\\ \x01 and more"
                .repeat(5),
        );
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
