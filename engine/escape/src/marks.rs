//! The positions of some byte values among 64 bytes: by SSE2, which every x86-64 processor has, or by portable code, which
//! the tests compare it with.

/// Bytes of one step.
pub const BLOCK_BYTES: usize = 64;

/// A bit for each byte of `block` that is `one`, and a bit for each that is `other`; the first byte's is the lowest.
#[inline]
pub fn marks(block: &[u8; BLOCK_BYTES], one: u8, other: u8) -> (u64, u64) {
    find::<false>(block, one, other)
}

/// The same with a bit for each byte that is a control up to CR, or not ASCII, instead of one value: among them are all that may
/// end a line, for the cost of one value.
#[inline]
pub fn marks_up_to_cr(block: &[u8; BLOCK_BYTES], other: u8) -> (u64, u64) {
    find::<true>(block, b'\r' + 1, other)
}

/// With `BELOW` the first bits are those of bytes below `one`, where both are signed.
#[cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "calls code that names what it is compiled for")
)]
#[inline]
fn find<const BELOW: bool>(block: &[u8; BLOCK_BYTES], one: u8, other: u8) -> (u64, u64) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the function is safe but for SSE2, which every processor of this architecture has.
    return unsafe { sse2::<BELOW>(block, one, other) };
    #[cfg(not(target_arch = "x86_64"))]
    portable::<BELOW>(block, one, other)
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "sse2")]
fn sse2<const BELOW: bool>(block: &[u8; BLOCK_BYTES], one: u8, other: u8) -> (u64, u64) {
    use std::arch::x86_64::{
        _mm_cmpeq_epi8, _mm_cmpgt_epi8, _mm_movemask_epi8, _mm_set_epi64x, _mm_set1_epi8,
    };

    let (one, other) = (_mm_set1_epi8(one as i8), _mm_set1_epi8(other as i8));
    let (mut ones, mut others) = (0, 0);
    let (words, _) = block.as_chunks::<16>();
    for word in words.iter().rev() {
        let word = u128::from_le_bytes(*word);
        let word = _mm_set_epi64x((word >> 64) as i64, word as i64);
        let bits = |found| u64::from(_mm_movemask_epi8(found).cast_unsigned());
        let found = if BELOW {
            _mm_cmpgt_epi8(one, word)
        } else {
            _mm_cmpeq_epi8(word, one)
        };
        ones = ones << 16 | bits(found);
        others = others << 16 | bits(_mm_cmpeq_epi8(word, other));
    }
    (ones, others)
}

/// Eight bytes per step: where a byte is the one looked for, the difference is zero, and adding 0x7f to its low seven bits does
/// not carry into the high one. Where it is below `one`, adding what is missing from there to 0x80 does not. A product then
/// gathers the eight high bits.
#[cfg(any(test, not(target_arch = "x86_64")))]
fn portable<const BELOW: bool>(block: &[u8; BLOCK_BYTES], one: u8, other: u8) -> (u64, u64) {
    const LOWS: u64 = u64::from_le_bytes([0x7f; 8]);
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    let gathered = |high: u64| ((high & !LOWS) >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56;
    let (mut ones, mut others) = (0, 0);
    let (words, _) = block.as_chunks::<8>();
    for word in words.iter().rev() {
        let word = u64::from_le_bytes(*word);
        let equal = |byte: u8| {
            let difference = word ^ (ONES * u64::from(byte));
            gathered(!(((difference & LOWS) + LOWS) | difference))
        };
        let found = if BELOW {
            let missing = ONES * u64::from(0x80 - one);
            gathered(word | !((word & LOWS) + missing))
        } else {
            equal(one)
        };
        ones = ones << 8 | found;
        others = others << 8 | equal(other);
    }
    (ones, others)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The slow obvious twin.
    fn naive(block: &[u8; BLOCK_BYTES], is_wanted: impl Fn(u8) -> bool) -> u64 {
        let bits = block.iter().enumerate();
        bits.map(|(at, byte)| u64::from(is_wanted(*byte)) << at)
            .sum()
    }

    #[track_caller]
    fn check(block: &[u8; BLOCK_BYTES], one: u8, other: u8) {
        let others = naive(block, |byte| byte == other);
        let expected = (naive(block, |byte| byte == one), others);
        assert_eq!(marks(block, one, other), expected, "{block:x?}");
        assert_eq!(portable::<false>(block, one, other), expected, "{block:x?}");
        let stops = naive(block, |byte| byte <= b'\r' || !byte.is_ascii());
        let expected = (stops, others);
        assert_eq!(marks_up_to_cr(block, other), expected, "{block:x?}");
        let found = portable::<true>(block, b'\r' + 1, other);
        assert_eq!(found, expected, "{block:x?}");
    }

    #[test]
    fn every_byte_at_every_place() {
        for at in 0..BLOCK_BYTES {
            for byte in 0..=u8::MAX {
                let mut block = [b'x'; BLOCK_BYTES];
                block[at] = byte;
                check(&block, b'\n', b':');
                check(&block, byte, byte ^ 0x80);
                check(&block, byte.wrapping_add(1), byte.wrapping_sub(1));
            }
        }
    }

    #[test]
    fn random_blocks() {
        let mut state = 5_u64;
        for _ in 0..20_000 {
            let mut block = [0; BLOCK_BYTES];
            for byte in &mut block {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                *byte = (state >> 61) as u8 * 0x11;
            }
            check(&block, 0x11, (state >> 40) as u8);
        }
    }
}
