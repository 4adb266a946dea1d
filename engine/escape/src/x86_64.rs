//! 16 bytes a step with SSE4.2. See the crate's page for the way it goes.
#![expect(unsafe_code, reason = "declares memory written")]

use std::arch::x86_64::{
    __m128i, _mm_blendv_epi8, _mm_cmpeq_epi8, _mm_cvtsi128_si64, _mm_extract_epi64, _mm_min_epu8,
    _mm_movemask_epi8, _mm_or_si128, _mm_set_epi64x, _mm_set1_epi8, _mm_shuffle_epi8,
    _mm_unpackhi_epi64, _mm_unpacklo_epi64,
};

use crate::free::{Free, STEP_BYTES, reserve, settle};
use crate::short::load;
use crate::steps::steps;
use crate::tables::{LETTERS, SHORT, SPREAD};
use crate::{PIECE_BYTES, VALUE_BYTES, portable};

type Vector = __m128i;

steps!(#[target_feature(enable = "sse4.2,popcnt")]);

impl Step {
    #[inline]
    #[target_feature(enable = "sse4.2,popcnt")]
    fn new(text: Vector) -> Self {
        let is_short = _mm_cmpeq_epi8(text, _mm_shuffle_epi8(vector(&SHORT), text));
        let is_control = _mm_cmpeq_epi8(text, _mm_min_epu8(text, _mm_set1_epi8(0x1f)));
        Self {
            text,
            is_short,
            short: _mm_movemask_epi8(is_short).cast_unsigned(),
            special: _mm_movemask_epi8(_mm_or_si128(is_short, is_control)).cast_unsigned(),
        }
    }

    /// Its two halves with backslashes where they belong, and the length of each.
    #[inline]
    #[target_feature(enable = "sse4.2,popcnt")]
    fn spread(&self) -> [([u8; STEP_BYTES], usize); 2] {
        let letters = _mm_shuffle_epi8(vector(&LETTERS), self.text);
        let text = _mm_blendv_epi8(self.text, letters, self.is_short);
        let backslashes = _mm_set1_epi8(b'\\'.cast_signed());
        let low = _mm_unpacklo_epi64(text, backslashes);
        let high = _mm_unpackhi_epi64(text, backslashes);
        [
            spread(low, self.short as u8),
            spread(high, (self.short >> 8) as u8),
        ]
    }
}

/// Eight bytes with a backslash before each of those in `mask`, and the length of that; behind them in `half` are
/// backslashes.
#[inline]
#[target_feature(enable = "sse4.2,popcnt")]
fn spread(half: Vector, mask: u8) -> ([u8; STEP_BYTES], usize) {
    let places = SPREAD.get(usize::from(mask)).unwrap_or(&[0; 16]);
    let spread = _mm_shuffle_epi8(half, vector(places));
    (bytes(spread), 8 + mask.count_ones() as usize)
}

/// Up to 16 bytes; behind them zeros.
#[inline]
#[target_feature(enable = "sse4.2")]
fn vector(bytes: &[u8]) -> Vector {
    let [low, high] = load(bytes);
    _mm_set_epi64x(high.cast_signed(), low.cast_signed())
}

#[inline]
#[target_feature(enable = "sse4.2")]
fn bytes(vector: Vector) -> [u8; STEP_BYTES] {
    let low = _mm_cvtsi128_si64(vector).cast_unsigned();
    let high = _mm_extract_epi64::<1>(vector).cast_unsigned();
    (u128::from(high) << 64 | u128::from(low)).to_le_bytes()
}

#[inline]
#[target_feature(enable = "sse4.2")]
fn either(one: Vector, two: Vector) -> Vector {
    _mm_or_si128(one, two)
}

#[inline]
#[target_feature(enable = "sse4.2")]
fn is_ascii_text(vector: Vector) -> bool {
    _mm_movemask_epi8(vector) == 0
}
