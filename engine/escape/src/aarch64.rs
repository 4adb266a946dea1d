//! 16 bytes a step with NEON, which every aarch64 has. See the crate's page for the way it goes.
#![expect(unsafe_code, reason = "declares memory written")]

use std::arch::aarch64::{
    uint8x16_t, vaddv_u8, vandq_u8, vbslq_u8, vceqq_u8, vcltq_u8, vcombine_u8, vcreate_u8,
    vdup_n_u8, vdupq_n_u8, vget_high_u8, vget_low_u8, vgetq_lane_u64, vmaxvq_u8, vorrq_u8,
    vqtbl1q_u8, vreinterpretq_u64_u8,
};

use crate::free::{Free, STEP_BYTES, reserve, settle};
use crate::short::load;
use crate::steps::steps;
use crate::tables::{LETTERS, SHORT, SPREAD};
use crate::{PIECE_BYTES, VALUE_BYTES, portable};

type Vector = uint8x16_t;

steps!(#[target_feature(enable = "neon")]);

impl Step {
    #[inline]
    #[target_feature(enable = "neon")]
    fn new(text: Vector) -> Self {
        let is_short = vceqq_u8(text, looked_up(&SHORT, text));
        let is_control = vcltq_u8(text, vdupq_n_u8(0x20));
        Self {
            text,
            is_short,
            short: mask(is_short),
            special: mask(vorrq_u8(is_short, is_control)),
        }
    }

    /// Its two halves with backslashes where they belong, and the length of each.
    #[inline]
    #[target_feature(enable = "neon")]
    fn spread(&self) -> [([u8; STEP_BYTES], usize); 2] {
        let text = vbslq_u8(self.is_short, looked_up(&LETTERS, self.text), self.text);
        let backslashes = vdup_n_u8(b'\\');
        let low = vcombine_u8(vget_low_u8(text), backslashes);
        let high = vcombine_u8(vget_high_u8(text), backslashes);
        [
            spread(low, self.short as u8),
            spread(high, (self.short >> 8) as u8),
        ]
    }
}

/// For each byte the entry of `table` at its low four bits.
#[inline]
#[target_feature(enable = "neon")]
fn looked_up(table: &[u8; 16], text: Vector) -> Vector {
    vqtbl1q_u8(vector(table), vandq_u8(text, vdupq_n_u8(15)))
}

/// Eight bytes with a backslash before each of those in `mask`, and the length of that; behind them in `half` are
/// backslashes.
#[inline]
#[target_feature(enable = "neon")]
fn spread(half: Vector, mask: u8) -> ([u8; STEP_BYTES], usize) {
    let places = SPREAD.get(usize::from(mask)).unwrap_or(&[0; 16]);
    let spread = vqtbl1q_u8(half, vector(places));
    (bytes(spread), 8 + mask.count_ones() as usize)
}

/// A bit for each byte that is all ones.
#[inline]
#[target_feature(enable = "neon")]
fn mask(vector_of_ones: Vector) -> u32 {
    const BITS: [u8; 16] = [1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128];
    let bits = vandq_u8(vector_of_ones, vector(&BITS));
    u32::from(vaddv_u8(vget_low_u8(bits))) | u32::from(vaddv_u8(vget_high_u8(bits))) << 8
}

/// Up to 16 bytes; behind them zeros.
#[inline]
#[target_feature(enable = "neon")]
fn vector(bytes: &[u8]) -> Vector {
    let [low, high] = load(bytes);
    vcombine_u8(vcreate_u8(low), vcreate_u8(high))
}

#[inline]
#[target_feature(enable = "neon")]
fn bytes(vector: Vector) -> [u8; STEP_BYTES] {
    let words = vreinterpretq_u64_u8(vector);
    let (low, high) = (vgetq_lane_u64::<0>(words), vgetq_lane_u64::<1>(words));
    (u128::from(high) << 64 | u128::from(low)).to_le_bytes()
}

#[inline]
#[target_feature(enable = "neon")]
fn either(one: Vector, two: Vector) -> Vector {
    vorrq_u8(one, two)
}

#[inline]
#[target_feature(enable = "neon")]
fn is_ascii_text(vector: Vector) -> bool {
    vmaxvq_u8(vector) < 0x80
}
