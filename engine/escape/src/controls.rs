//! Whether a text has a control character that no text has: by SSE2, which every x86-64 processor has, or by portable code, which
//! the tests compare it with.

use crate::BLOCK_BYTES;

/// Whether a byte is a control character other than tab, LF and CR; DEL is one.
///
/// Looked for byte by byte it takes longer than to escape the text.
#[inline]
pub fn has_control(text: &[u8]) -> bool {
    let (blocks, rest) = text.as_chunks::<BLOCK_BYTES>();
    let is_suspect = |block: &&[u8; BLOCK_BYTES]| may_have(block);
    if blocks.iter().filter(is_suspect).any(|block| precise(block)) {
        return true;
    }
    // The last block overlaps the one before it.
    text.last_chunk().is_none_or(may_have) && precise(rest)
}

/// The same byte by byte.
fn precise(text: &[u8]) -> bool {
    text.iter()
        .any(|byte| matches!(byte, 0..=8 | 11 | 12 | 14..=31 | 127))
}

/// Whether a byte of the block is a control character of any kind.
#[cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "calls code that names what it is compiled for")
)]
#[inline]
fn may_have(block: &[u8; BLOCK_BYTES]) -> bool {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the function is safe but for SSE2, which every processor of this architecture has.
    return unsafe { sse2(block) };
    #[cfg(not(target_arch = "x86_64"))]
    portable(block)
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "sse2")]
fn sse2(block: &[u8; BLOCK_BYTES]) -> bool {
    use std::arch::x86_64::{
        _mm_cmpeq_epi8, _mm_min_epu8, _mm_movemask_epi8, _mm_or_si128, _mm_set_epi64x,
        _mm_set1_epi8, _mm_setzero_si128,
    };

    let mut found = _mm_setzero_si128();
    for word in block.as_chunks::<16>().0 {
        let word = u128::from_le_bytes(*word);
        let word = _mm_set_epi64x((word >> 64) as i64, word as i64);
        let is_low = _mm_cmpeq_epi8(word, _mm_min_epu8(word, _mm_set1_epi8(0x1f)));
        let is_del = _mm_cmpeq_epi8(word, _mm_set1_epi8(0x7f));
        found = _mm_or_si128(found, _mm_or_si128(is_low, is_del));
    }
    _mm_movemask_epi8(found) != 0
}

/// Eight bytes per step. A byte that is not ASCII has the high bit itself; in any other it is set by the sum where the byte is 0x20
/// or more, and by that with 1 where it is DEL.
#[cfg(any(test, not(target_arch = "x86_64")))]
fn portable(block: &[u8; BLOCK_BYTES]) -> bool {
    const HIGHS: u64 = u64::from_le_bytes([0x80; 8]);
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    let found = block.as_chunks::<8>().0.iter().fold(0, |found, word| {
        let word = u64::from_le_bytes(*word);
        let low = word & !HIGHS;
        found | (!(low + ONES * 0x60) | (low + ONES)) & !word
    });
    found & HIGHS != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_at_every_place() {
        for length in [0, 1, 63, 64, 65, 128, 150] {
            for at in 0..length {
                for byte in 0..=u8::MAX {
                    let mut text = vec![b'x'; length];
                    text[at] = byte;
                    assert_eq!(has_control(&text), precise(&text), "{byte} at {at}");
                    for block in text.as_chunks().0 {
                        let is_control = block.iter().any(|byte| matches!(byte, 0..=31 | 127));
                        assert_eq!(may_have(block), is_control, "{byte} at {at}");
                        assert_eq!(portable(block), is_control, "{byte} at {at}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_blank_hides_no_control() {
        for (text, expected) in [
            (&b"\t\r\n"[..], false),
            (b"\n\x01", true),
            (b"\t\x7f", true),
        ] {
            let text = [&[b'x'; 50], text, &[b'y'; 50]].concat();
            assert_eq!(has_control(&text), expected);
        }
    }
}
