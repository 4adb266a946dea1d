//! Without vector instructions: plain blocks are found by a loop that the compiler may turn into vector code, the others
//! take eight bytes per step. Also the one definition of how each byte is written.

/// See [`crate::escape`].
pub(crate) fn escape(mut text: &[u8], out: &mut Vec<u8>) -> bool {
    const DENSE_BYTES: usize = 64;
    let is_ascii = text.is_ascii();
    while !text.is_empty() {
        let (blocks, _) = text.as_chunks::<32>();
        let plain = blocks.iter().take_while(|block| is_plain(block)).count() * 32;
        let (copied, rest) = text.split_at_checked(plain).unwrap_or_default();
        out.extend_from_slice(copied);
        let (escaped, rest) = rest.split_at_checked(DENSE_BYTES).unwrap_or((rest, &[]));
        dense(escaped, out);
        text = rest;
    }
    is_ascii
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

/// For every byte; the plain ones are themselves.
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
/// the capacity is reserved once, and every store has a known length.
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

/// The high bit of every byte that needs an escape. Each test finds bytes that are zero; adding 0x7f to the low seven
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
