//! The finalizer of splitmix64: every bit of the input changes about half of the bits of the output.
//!
//! Source: G. L. Steele, D. Lea and C. H. Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014. A
//! bijection, so different inputs never collide. Neither secret nor for anything that must not be guessed.

/// 2^64 divided by the golden ratio, odd. The multiples of it are spread evenly over 64 bits; added to a state again and
/// again and mixed each time, it gives splitmix64, a generator whose seed gives the same numbers everywhere.
pub const GOLDEN_GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// Mixes the bits of `z`.
#[inline]
pub const fn mix(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first numbers of the reference implementation with seed 1234567.
    #[test]
    fn known_numbers() {
        let mut state = 1_234_567_u64;
        let numbers = [(); 3].map(|()| {
            state = state.wrapping_add(GOLDEN_GAMMA);
            mix(state)
        });
        let expected = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
        ];
        assert_eq!(numbers, expected);
    }
}
