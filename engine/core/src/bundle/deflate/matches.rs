//! The match finder: bytes become tokens, and a repetition of bytes in the last 32 KiB becomes a match.
//!
//! The plain algorithm: a table has, for each hash of the next bytes, the position where they occurred last. If the bytes
//! there are the same, the longest common run becomes one match, and the search continues after it; if not, one byte
//! becomes a literal. The deviations, each measured on bundles of lines of 1, 3 and 25 kB (time of the whole encoder,
//! libdeflate level 1 = 1):
//!
//! 1. Seven bytes are hashed, not three or four: lines are full of short common strings (`"],["`), and the last
//!    position of a longer string is nearly always in the line before, where the match continues. Fewer and longer matches
//!    are smaller and faster: 6 to 9 % of size against four bytes. Eight bytes are worse than seven.
//! 2. One position for each hash, no chain, no second candidate, no lazy search.
//! 3. Only the first two positions of a match enter the table; the rest is found by its start. With all of them the output
//!    is 1 % smaller and the encoder a fifth slower.
//! 4. Positions are kept modulo 65 536. One that is farther away looks like a wrong one nearer by, and is compared like any
//!    other. So the table is half as large and stays in the first-level cache.
//! 5. The first [`NEAR`] bytes at both positions are compared at once without a branch on where they differ: the length of
//!    a match is random, and a misprediction costs as much as all the work on it. Against a loop: a tenth.
//! 6. Tokens are counted as they are made, while the processor waits for memory. Against a separate pass: 5 %.
//!
//! Tried and dropped: the distance of the previous match as a second candidate (no gain), four positions at once without
//! branches (slower: the processor no longer runs ahead of the loads), two parts of the input alternately (faster only for
//! long lines, and larger), matches extended to the left (0.2 % of size, slower).

use super::token::{Counts, DISTANCE_MAX, LENGTH_MAX, LENGTH_MIN, Token};

/// Tokens of a block. Fewer waste headers, more adapt later: 0.1 % of size either way by a factor of two.
const TOKENS_MAX: usize = 16 * 1024;

/// Bytes that are compared at once. Where fewer are left in the input, all are literals.
const NEAR: usize = 40;

/// The search ends while there is still space for each of the last bytes as a literal.
const SEARCHED_MAX: usize = TOKENS_MAX - NEAR;

const HASH_BITS: u32 = 14;
const HASHED_BYTES: u32 = 7;

/// The tokens of a block.
pub(super) struct Block<'a> {
    pub(super) tokens: &'a [Token],
    pub(super) counts: &'a Counts,
}

/// Finds matches and holds the tokens of one block.
pub(super) struct Finder {
    /// Modulo 65 536, the last position whose next bytes have that hash; 0 if none.
    places: Box<[u16; 1 << HASH_BITS]>,
    tokens: Box<[Token; TOKENS_MAX]>,
    counts: Counts,
}

impl Default for Finder {
    fn default() -> Self {
        Self {
            places: Box::new([0; 1 << HASH_BITS]),
            tokens: Box::new([Token::default(); TOKENS_MAX]),
            counts: Counts::default(),
        }
    }
}

impl Finder {
    /// Prepares for a new input.
    pub(super) fn forget(&mut self) {
        self.places.fill(0);
    }

    /// The block that starts at `start`, and its end in `input`. Blocks are contiguous; matches may lie in earlier ones.
    pub(super) fn block(&mut self, input: &[u8], start: usize) -> (Block<'_>, usize) {
        self.counts = Counts::default();
        let (mut count, mut place) = self.search(input, start);
        if count < SEARCHED_MAX {
            // The search ended because fewer than `NEAR` bytes are left, and there is space for that many.
            let rest = input.get(place..).unwrap_or_default();
            for (token, byte) in self.tokens.iter_mut().skip(count).zip(rest) {
                *token = Token::literal(*byte);
                self.counts.add_literal(*byte);
                count += 1;
                place += 1;
            }
        }
        let block = Block {
            tokens: self.tokens.get(..count).unwrap_or_default(),
            counts: &self.counts,
        };
        (block, place)
    }

    /// Makes tokens until there are [`SEARCHED_MAX`] or more, or fewer than [`NEAR`] bytes are left; returns their number, and
    /// the position.
    #[expect(
        clippy::indexing_slicing,
        reason = "hashes have HASH_BITS, and count is below SEARCHED_MAX where a token is written"
    )]
    #[inline(never)]
    fn search(&mut self, input: &[u8], start: usize) -> (usize, usize) {
        let places = &mut *self.places;
        let tokens = &mut *self.tokens;
        let counts = &mut self.counts;
        let (mut count, mut place) = (0, start);
        while count < SEARCHED_MAX {
            let Some(here) = near(input, place) else {
                break;
            };
            let next = word(here, 0);
            let last = &mut places[hash(next)];
            let distance = usize::from((place as u16).wrapping_sub(*last));
            *last = place as u16;
            // Never below 0: positions in the table were passed in this input, or are its start.
            let Some(there) = near(input, place.saturating_sub(distance)) else {
                break;
            };
            let differs = word(there, 0) ^ next;
            if differs as u32 != 0 || distance.wrapping_sub(1) >= DISTANCE_MAX {
                tokens[count] = Token::literal(next as u8);
                counts.add_literal(next as u8);
                count += 1;
                place += 1;
                continue;
            }
            places[hash(next >> 8)] = (place + 1) as u16;
            let length = if differs == 0 {
                8 + same_behind_first_word(here, there)
            } else {
                (differs.trailing_zeros() / 8) as usize
            };
            if length == NEAR {
                let made = long(input, place, distance, &mut tokens[count..], counts);
                count += made.0;
                place += made.1;
                continue;
            }
            let token = Token::found(length, distance);
            tokens[count] = token;
            counts.add_match(token);
            count += 1;
            place += length;
        }
        (count, place)
    }
}

/// Makes a match of [`NEAR`] bytes or more at `place`, with the tokens that it needs and that there is space for; returns
/// their number, and their bytes. Not inlined, so that the loop above keeps its registers.
#[inline(never)]
fn long(
    input: &[u8],
    place: usize,
    distance: usize,
    tokens: &mut [Token],
    counts: &mut Counts,
) -> (usize, usize) {
    let here = input.get(place..).unwrap_or_default();
    let there = input.get(place - distance..).unwrap_or_default();
    let length = same(here, there);
    let (mut count, mut left) = (0, length);
    for place in tokens {
        let length = match left {
            0 => break,
            1..=LENGTH_MAX => left,
            // The rest must not be too short for a match.
            _ => LENGTH_MAX.min(left - LENGTH_MIN),
        };
        let token = Token::found(length, distance);
        *place = token;
        counts.add_match(token);
        count += 1;
        left -= length;
    }
    (count, length - left)
}

/// The length of the common start.
fn same(here: &[u8], there: &[u8]) -> usize {
    let (here_words, here_rest) = here.as_chunks::<8>();
    let (there_words, _) = there.as_chunks::<8>();
    let mut count = 0;
    for (here, there) in here_words.iter().zip(there_words) {
        let differs = u64::from_le_bytes(*here) ^ u64::from_le_bytes(*there);
        if differs != 0 {
            return count + (differs.trailing_zeros() / 8) as usize;
        }
        count += 8;
    }
    let there_rest = there.get(count..).unwrap_or_default();
    let rest = here_rest.iter().zip(there_rest);
    count + rest.take_while(|(here, there)| here == there).count()
}

/// The length of the common start of the words after the first.
#[inline(always)]
fn same_behind_first_word(here: &[u8; NEAR], there: &[u8; NEAR]) -> usize {
    let differs = |at: usize| word(here, at) ^ word(there, at);
    let (first, second, third, fourth) = (differs(1), differs(2), differs(3), differs(4));
    // Selected by conditional moves, not by branches.
    let (front_bits, front) = if first != 0 { (0, first) } else { (64, second) };
    let (back_bits, back) = if third != 0 {
        (128, third)
    } else {
        (192, fourth)
    };
    let (bits, differs) = if first | second != 0 {
        (front_bits, front)
    } else {
        (back_bits, back)
    };
    ((bits + differs.trailing_zeros()) / 8) as usize
}

#[inline(always)]
fn near(input: &[u8], place: usize) -> Option<&[u8; NEAR]> {
    input.get(place..)?.first_chunk()
}

#[inline(always)]
#[expect(
    clippy::indexing_slicing,
    reason = "called with constants below NEAR / 8"
)]
fn word(bytes: &[u8; NEAR], at: usize) -> u64 {
    u64::from_le_bytes(bytes.as_chunks().0[at])
}

/// The hash of the lowest [`HASHED_BYTES`]: the multiplier is that of xxHash, and the high bits are the best ones.
#[inline(always)]
fn hash(word: u64) -> usize {
    let hashed = word << (64 - 8 * HASHED_BYTES);
    (hashed.wrapping_mul(0x9e37_79b1_85eb_ca87) >> (64 - HASH_BITS)) as usize
}
