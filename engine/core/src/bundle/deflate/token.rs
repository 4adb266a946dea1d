//! A literal or a match in 32 bits, in a layout in which counting and writing need no branch (RFC 1951 §3.2.5).
//!
//! ```text
//!  31                      14 13         9 8                     0
//! +--------------------------+------------+-----------------------+
//! | extra bits of distance   | distance   | 0..=255: a literal    |
//! | (13 are used at most)    | code, or   | 256..=511: length + 253 |
//! |                          | NONE       |                       |
//! +--------------------------+------------+-----------------------+
//! ```
//!
//! A length and its extra bits stay one number: a table of 512 entries has the code of each followed by its extra bits.

/// Longest match.
pub(super) const LENGTH_MAX: usize = 258;
/// Shortest match.
pub(super) const LENGTH_MIN: usize = 3;
/// Farthest match.
pub(super) const DISTANCE_MAX: usize = 32 * 1024;

/// Values of the field for literals and lengths.
pub(super) const FIRSTS: usize = 512;
/// Values of the field for distance codes: 30 codes, one that is unused, and [`NONE`].
pub(super) const DISTANCES: usize = 32;

/// Stands for the distance code of a literal; it is written with no bits.
const NONE: u32 = 31;

/// See the figure above.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Token(u32);

impl Token {
    #[inline(always)]
    pub(super) fn literal(byte: u8) -> Self {
        Self(NONE << 9 | u32::from(byte))
    }

    /// `length` from [`LENGTH_MIN`] to [`LENGTH_MAX`], `distance` from 1 to [`DISTANCE_MAX`].
    ///
    /// From distance 3 on there are two codes for each power of two: two without extra bits for 3 and 4, two with one extra
    /// bit from 5 and 7 on, and so on; the extra bits are those of the distance less 1 below its two leading bits.
    #[inline(always)]
    pub(super) fn found(length: usize, distance: usize) -> Self {
        let before = (distance - 1) as u32;
        let extra_bits = (before | 2).ilog2() - 1;
        let code = 2 * extra_bits + (before >> extra_bits);
        let extra = before & ((1 << extra_bits) - 1);
        let first = (length - LENGTH_MIN) as u32 + 256;
        Self(extra << 14 | code << 9 | first)
    }

    /// The literal, or 253 more than the length.
    #[inline(always)]
    pub(super) fn first(self) -> usize {
        (self.0 & 511) as usize
    }

    /// The distance code.
    #[inline(always)]
    pub(super) fn distance(self) -> usize {
        (self.0 >> 9 & 31) as usize
    }

    /// The extra bits of the distance.
    #[inline(always)]
    pub(super) fn extra(self) -> u64 {
        u64::from(self.0 >> 14)
    }
}

/// The counts of literals or lengths, and of distance codes.
pub(super) struct Counts {
    pub(super) firsts: [u32; FIRSTS],
    /// Of matches only.
    pub(super) distances: [u32; DISTANCES],
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            firsts: [0; FIRSTS],
            distances: [0; DISTANCES],
        }
    }
}

#[expect(
    clippy::indexing_slicing,
    reason = "the fields of a token have as many values as the tables entries"
)]
impl Counts {
    #[inline(always)]
    pub(super) fn add_literal(&mut self, byte: u8) {
        self.firsts[usize::from(byte)] += 1;
    }

    #[inline(always)]
    pub(super) fn add_match(&mut self, token: Token) {
        self.firsts[token.first()] += 1;
        self.distances[token.distance()] += 1;
    }
}

/// Extra bits of a distance code.
pub(super) fn distance_extra_bits(code: usize) -> u32 {
    (code / 2).saturating_sub(1) as u32
}

/// Code (from 257 on), number of extra bits, and extra bits of a length.
pub(super) fn length_code(length: usize) -> (usize, u32, u32) {
    let above = length - LENGTH_MIN;
    if length == LENGTH_MAX {
        return (285, 0, 0);
    }
    // As with distances, but four codes for each power of two; the first eight have no extra bits.
    let extra_bits = (above | 4).ilog2() - 2;
    let code = 257 + 4 * extra_bits as usize + (above >> extra_bits);
    (code, extra_bits, (above & ((1 << extra_bits) - 1)) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tables of RFC 1951 §3.2.5: the first length or distance of each code, and its extra bits.
    const LENGTHS: [(usize, u32); 29] = [
        (3, 0),
        (4, 0),
        (5, 0),
        (6, 0),
        (7, 0),
        (8, 0),
        (9, 0),
        (10, 0),
        (11, 1),
        (13, 1),
        (15, 1),
        (17, 1),
        (19, 2),
        (23, 2),
        (27, 2),
        (31, 2),
        (35, 3),
        (43, 3),
        (51, 3),
        (59, 3),
        (67, 4),
        (83, 4),
        (99, 4),
        (115, 4),
        (131, 5),
        (163, 5),
        (195, 5),
        (227, 5),
        (258, 0),
    ];
    const FARS: [(usize, u32); 30] = [
        (1, 0),
        (2, 0),
        (3, 0),
        (4, 0),
        (5, 1),
        (7, 1),
        (9, 2),
        (13, 2),
        (17, 3),
        (25, 3),
        (33, 4),
        (49, 4),
        (65, 5),
        (97, 5),
        (129, 6),
        (193, 6),
        (257, 7),
        (385, 7),
        (513, 8),
        (769, 8),
        (1025, 9),
        (1537, 9),
        (2049, 10),
        (3073, 10),
        (4097, 11),
        (6145, 11),
        (8193, 12),
        (12289, 12),
        (16385, 13),
        (24577, 13),
    ];

    fn look_up(table: &[(usize, u32)], value: usize) -> (usize, u32, usize) {
        let code = table
            .iter()
            .rposition(|(first, _)| *first <= value)
            .unwrap();
        (code, table[code].1, value - table[code].0)
    }

    #[test]
    fn lengths_are_those_of_the_rfc() {
        for length in LENGTH_MIN..=LENGTH_MAX {
            let (code, extra_bits, extra) = look_up(&LENGTHS, length);
            assert_eq!(
                length_code(length),
                (257 + code, extra_bits, extra as u32),
                "{length}"
            );
            assert_eq!(Token::found(length, 1).first(), length + 253);
        }
    }

    #[test]
    fn distances_are_those_of_the_rfc() {
        for distance in 1..=DISTANCE_MAX {
            let (code, extra_bits, extra) = look_up(&FARS, distance);
            let token = Token::found(3, distance);
            assert_eq!(
                (token.distance(), token.extra()),
                (code, extra as u64),
                "{distance}"
            );
            assert_eq!(distance_extra_bits(code), extra_bits);
        }
    }
}
