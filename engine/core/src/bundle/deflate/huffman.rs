//! Huffman codes for the tokens of one block, from their counts, and the header that describes the codes (RFC 1951 §3.2.2,
//! §3.2.7).
//!
//! Where a code would be longer than the format allows, lengths are adjusted by the usual heuristic, which costs bits only
//! for symbols that hardly occur.

use super::token::{
    Counts, DISTANCES, FIRSTS, LENGTH_MAX, LENGTH_MIN, distance_extra_bits, length_code,
};

/// Literals, the end of the block, and lengths.
const LITERALS_AND_LENGTHS: usize = 286;
const END_OF_BLOCK: usize = 256;
/// Distance codes.
const DISTANCE_CODES: usize = 30;
/// Symbols of the run-length encoding of code lengths.
const RUN_SYMBOLS: usize = 19;

/// Longest code, and longest code for a symbol of code lengths.
const CODE_BITS_MAX: usize = 15;
const RUN_CODE_BITS_MAX: usize = 7;

/// The order of the lengths of the codes for code lengths.
const ORDER: [usize; RUN_SYMBOLS] = [
    16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15,
];

/// The bits of a symbol, and 2 to the power of their number. Four words: the address of an entry is then one shift, which
/// saves a tenth of the bit writer's time.
#[derive(Clone, Copy, Default)]
#[repr(align(16))]
pub(super) struct Code {
    /// The code, its first bit lowest, followed by the extra bits of a length.
    pub(super) bits: u32,
    /// Number of all bits, including extra bits that are not in `bits`.
    pub(super) length: u32,
    /// 2 to the power of the number of bits that are in `bits`.
    pub(super) power: u32,
}

/// The codes for the tokens of one block.
pub(super) struct Tables {
    /// By literal or length.
    pub(super) firsts: [Code; FIRSTS],
    /// By distance code; the entry for no distance has no bits.
    pub(super) distances: [Code; DISTANCES],
    end_of_block: Code,
    /// Values and their numbers of bits, without the three bits before every block.
    header: Vec<(u16, u8)>,
    /// Code lengths in run-length encoding: symbol, number of extra bits, extra bits.
    runs: Vec<(u8, u8, u8)>,
}

impl Default for Tables {
    fn default() -> Self {
        let runs_max = LITERALS_AND_LENGTHS + DISTANCE_CODES;
        Self {
            firsts: [Code {
                power: 1,
                ..Code::default()
            }; FIRSTS],
            distances: [Code {
                power: 1,
                ..Code::default()
            }; DISTANCES],
            end_of_block: Code::default(),
            header: Vec::with_capacity(3 + RUN_SYMBOLS + 2 * runs_max),
            runs: Vec::with_capacity(runs_max),
        }
    }
}

impl Tables {
    /// Computes the codes for tokens with these counts; returns the number of bits of header, tokens and end.
    pub(super) fn build(&mut self, counts: &Counts) -> usize {
        let lengths = lengths(&counts.literals_and_lengths(), CODE_BITS_MAX);
        let distance_lengths = lengths_of_distances(counts);
        self.fill(&lengths, &distance_lengths);
        self.describe(&lengths, &distance_lengths);
        let firsts = counts.firsts.iter().zip(&self.firsts);
        let distances = counts.distances.iter().zip(&self.distances);
        let header: usize = self.header.iter().map(|(_, bits)| usize::from(*bits)).sum();
        let coded: usize = firsts
            .chain(distances)
            .map(|(count, code)| *count as usize * code.length as usize)
            .sum();
        header + coded + self.end_of_block.length as usize
    }

    /// The description of the codes.
    pub(super) fn header(&self) -> &[(u16, u8)] {
        &self.header
    }

    /// The code for the end of the block.
    pub(super) fn end_of_block(&self) -> Code {
        self.end_of_block
    }

    fn fill(
        &mut self,
        lengths: &[u8; LITERALS_AND_LENGTHS],
        distance_lengths: &[u8; DISTANCE_CODES],
    ) {
        let codes = codes(lengths);
        let (literals, found) = self.firsts.split_at_mut(END_OF_BLOCK);
        literals.copy_from_slice(codes.get(..END_OF_BLOCK).unwrap_or_default());
        self.end_of_block = codes.get(END_OF_BLOCK).copied().unwrap_or_default();
        for (entry, length) in found.iter_mut().zip(LENGTH_MIN..=LENGTH_MAX) {
            let (symbol, extra_bits, extra) = length_code(length);
            let code = codes.get(symbol).copied().unwrap_or_default();
            *entry = Code {
                bits: code.bits | extra << code.length,
                length: code.length + extra_bits,
                power: code.power << extra_bits,
            };
        }
        for (symbol, (entry, code)) in self
            .distances
            .iter_mut()
            .zip(self::codes(distance_lengths))
            .enumerate()
        {
            *entry = Code {
                length: code.length + distance_extra_bits(symbol),
                ..code
            };
        }
    }

    /// The header: how many lengths follow, then the codes for code lengths, then the lengths (RFC 1951 §3.2.7).
    fn describe(
        &mut self,
        lengths: &[u8; LITERALS_AND_LENGTHS],
        distance_lengths: &[u8; DISTANCE_CODES],
    ) {
        let lengths = without_trailing_zeros(lengths, END_OF_BLOCK + 1);
        let distance_lengths = without_trailing_zeros(distance_lengths, 1);
        self.runs.clear();
        run_length_encode(
            &mut lengths.iter().chain(distance_lengths).copied(),
            &mut self.runs,
        );
        let mut counts = [0; RUN_SYMBOLS];
        for (symbol, _, _) in &self.runs {
            if let Some(count) = counts.get_mut(usize::from(*symbol)) {
                *count += 1;
            }
        }
        let run_lengths = self::lengths(&counts, RUN_CODE_BITS_MAX);
        let run_codes = codes(&run_lengths);
        let ordered = ORDER.map(|symbol| run_lengths.get(symbol).copied().unwrap_or_default());
        let ordered = without_trailing_zeros(&ordered, 4);
        self.header.clear();
        self.header.extend([
            ((lengths.len() - 257) as u16, 5),
            ((distance_lengths.len() - 1) as u16, 5),
            ((ordered.len() - 4) as u16, 4),
        ]);
        self.header
            .extend(ordered.iter().map(|length| (u16::from(*length), 3)));
        for (symbol, extra_bits, extra) in &self.runs {
            let code = run_codes
                .get(usize::from(*symbol))
                .copied()
                .unwrap_or_default();
            self.header.push((code.bits as u16, code.length as u8));
            if *extra_bits > 0 {
                self.header.push((u16::from(*extra), *extra_bits));
            }
        }
    }
}

impl Counts {
    /// The counts by symbol, with one end of block.
    fn literals_and_lengths(&self) -> [u32; LITERALS_AND_LENGTHS] {
        let mut counts = [0; LITERALS_AND_LENGTHS];
        let (literals, found) = self.firsts.split_at(END_OF_BLOCK);
        for (count, literal) in counts.iter_mut().zip(literals) {
            *count = *literal;
        }
        let symbols = (LENGTH_MIN..=LENGTH_MAX).map(|length| length_code(length).0);
        for (symbol, more) in symbols.zip(found) {
            if let Some(count) = counts.get_mut(symbol) {
                *count += more;
            }
        }
        if let Some(count) = counts.get_mut(END_OF_BLOCK) {
            *count = 1;
        }
        counts
    }
}

fn lengths_of_distances(counts: &Counts) -> [u8; DISTANCE_CODES] {
    let mut distances = [0; DISTANCE_CODES];
    for (distance, count) in distances.iter_mut().zip(counts.distances) {
        *distance = count;
    }
    lengths(&distances, CODE_BITS_MAX)
}

fn without_trailing_zeros(lengths: &[u8], at_least: usize) -> &[u8] {
    let used = lengths.iter().rposition(|length| *length > 0);
    let count = used.map_or(0, |last| last + 1).max(at_least);
    lengths.get(..count).unwrap_or(lengths)
}

/// Run-length encoding of code lengths: 16 is 3 to 6 times the one before, 17 and 18 are 3 to 10 and 11 to 138
/// zeros.
fn run_length_encode(lengths: &mut dyn Iterator<Item = u8>, runs: &mut Vec<(u8, u8, u8)>) {
    let mut lengths = lengths.peekable();
    while let Some(length) = lengths.next() {
        let mut run = 1;
        while run < 138 && lengths.next_if_eq(&length).is_some() {
            run += 1;
        }
        if length > 0 {
            runs.push((length, 0, 0));
            run -= 1;
        }
        while run >= 3 {
            let (symbol, extra_bits, least, most) = match (length, run) {
                (1.., _) => (16, 2, 3, 6),
                (0, ..=10) => (17, 3, 3, 10),
                (0, _) => (18, 7, 11, 138),
            };
            let taken = most.min(run);
            runs.push((symbol, extra_bits, taken - least));
            run -= taken;
        }
        for _ in 0..run {
            runs.push((length, 0, 0));
        }
    }
}

/// Codes of these lengths, in the order of the symbols (RFC 1951 §3.2.2).
fn codes<const N: usize>(lengths: &[u8; N]) -> [Code; N] {
    let mut counts = [0_u16; CODE_BITS_MAX + 1];
    for length in lengths {
        if let Some(count) = counts.get_mut(usize::from(*length)) {
            *count += 1;
        }
    }
    let mut next = [0_u16; CODE_BITS_MAX + 1];
    let mut code = 0;
    for (length, (next, count)) in next.iter_mut().zip(counts).enumerate() {
        *next = code;
        code = if length == 0 { 0 } else { (code + count) << 1 };
    }
    lengths.map(|length| {
        let mut bits = 0;
        if length > 0
            && let Some(next) = next.get_mut(usize::from(length))
        {
            bits = next.reverse_bits() >> (16 - u16::from(length));
            *next += 1;
        }
        Code {
            bits: bits.into(),
            length: length.into(),
            power: 1 << length,
        }
    })
}

/// Lengths of Huffman codes for symbols with these counts, `bits_max` at most; 0 for one that does not occur. At least two
/// symbols get a code, as some decoders require.
#[expect(
    clippy::indexing_slicing,
    reason = "`leaf` and `node` are compared with the number of each, parents are numbers of nodes, lengths are bounded by bits_max"
)]
fn lengths<const N: usize>(counts: &[u32; N], bits_max: usize) -> [u8; N] {
    let mut lengths = [0; N];
    let mut leaves = [(0, 0); N];
    let mut used = 0;
    for (symbol, count) in counts.iter().enumerate() {
        if *count > 0 {
            leaves[used] = (*count, symbol);
            used += 1;
        }
    }
    if used < 2 {
        let only = if used == 1 { leaves[0].1 } else { 0 };
        lengths[only] = 1;
        lengths[usize::from(only == 0)] = 1;
        return lengths;
    }
    let leaves = &mut leaves[..used];
    leaves.sort_unstable();

    // Huffman's algorithm: the two lightest nodes are joined until one is left. Leaves are sorted, and so are the inner
    // nodes, since each is at least as heavy as the one before it.
    let mut weights = [0; N];
    let mut parents_of_leaves = [0; N];
    let mut parents = [0; N];
    let (mut leaf, mut node) = (0, 0);
    for made in 0..used - 1 {
        for _ in 0..2 {
            if leaf < used && (node == made || leaves[leaf].0 <= weights[node]) {
                weights[made] += leaves[leaf].0;
                parents_of_leaves[leaf] = made;
                leaf += 1;
            } else {
                weights[made] += weights[node];
                parents[node] = made;
                node += 1;
            }
        }
    }
    let mut depths = [0; N];
    for node in (0..used - 2).rev() {
        depths[node] = depths[parents[node]] + 1;
    }
    let mut of_length = [0_u32; CODE_BITS_MAX + 1];
    for parent in &parents_of_leaves[..used] {
        of_length[bits_max.min(depths[*parent] + 1)] += 1;
    }
    limit_lengths(&mut of_length, bits_max);

    // The rarest symbols get the longest codes.
    let mut leaves = leaves.iter();
    for length in (1..=bits_max).rev() {
        for (_, symbol) in leaves.by_ref().take(of_length[length] as usize) {
            lengths[*symbol] = length as u8;
        }
    }
    lengths
}

/// Restores a valid code after lengths were cut to `bits_max`: a shorter code becomes longer by one bit and is the sibling
/// of one of the longest.
#[expect(clippy::indexing_slicing, reason = "lengths are from 1 to bits_max")]
fn limit_lengths(of_length: &mut [u32; CODE_BITS_MAX + 1], bits_max: usize) {
    let taken = |length: usize, count: u32| count << (bits_max - length);
    let mut sum: u32 = (1..=bits_max)
        .map(|length| taken(length, of_length[length]))
        .sum();
    while sum > 1 << bits_max {
        let Some(shorter) = (1..bits_max).rev().find(|length| of_length[*length] > 0) else {
            return;
        };
        of_length[bits_max] -= 1;
        of_length[shorter] -= 1;
        of_length[shorter + 1] += 2;
        sum -= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;

    use super::*;

    /// Fewest bits of a text whose symbols have these counts: the sum of the weights of all inner nodes.
    fn fewest_bits(counts: &[u32]) -> u64 {
        let counts = counts.iter().filter(|count| **count > 0);
        let mut heap: BinaryHeap<_> = counts.map(|count| Reverse(u64::from(*count))).collect();
        let mut bits = 0;
        while let (Some(Reverse(one)), Some(Reverse(other))) = (heap.pop(), heap.pop()) {
            bits += one + other;
            heap.push(Reverse(one + other));
        }
        bits
    }

    #[track_caller]
    fn check<const N: usize>(counts: &[u32; N], bits_max: usize) {
        let lengths = lengths(counts, bits_max);
        let room: u32 = lengths
            .iter()
            .filter(|length| **length > 0)
            .map(|length| 1 << (15 - length))
            .sum();
        assert_eq!(room, 1 << 15, "complete: {lengths:?}");
        let bits = |lengths: &[u8; N]| -> u64 {
            counts
                .iter()
                .zip(lengths)
                .map(|(count, length)| u64::from(*count) * u64::from(*length))
                .sum()
        };
        let longest = usize::from(*lengths.iter().max().unwrap());
        assert!(longest <= bits_max);
        assert!(
            counts
                .iter()
                .zip(&lengths)
                .all(|(count, length)| *count == 0 || *length > 0)
        );
        let best = fewest_bits(counts);
        if counts.iter().filter(|count| **count > 0).count() < 2 || longest < bits_max {
            assert_eq!(
                bits(&lengths),
                best.max(u64::from(counts.iter().sum::<u32>()))
            );
        } else {
            assert!(
                bits(&lengths) >= best && bits(&lengths) <= best + best / 7,
                "{} {best}",
                bits(&lengths)
            );
        }
    }

    #[test]
    fn codes_are_as_short_as_they_can_be() {
        check(&[0; 30], 15);
        check(&[0, 0, 7], 15);
        check(&[9, 0, 0], 15);
        check(&[1, 1], 15);
        check(&[1; 286], 15);
        check(&[1; 19], 7);
        let mut state = 1_u64;
        for round in 0..2000 {
            let counts: [u32; 286] = std::array::from_fn(|_| {
                state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                let random = (state >> 33) as u32;
                (random & 0xffff) >> ((random >> 16) % (2 + round % 20))
            });
            check(&counts, 15);
        }
    }

    #[test]
    fn codes_that_would_be_too_long_are_cut() {
        let mut fibonacci = [1_u32; 24];
        for at in 2..24 {
            fibonacci[at] = fibonacci[at - 1] + fibonacci[at - 2];
        }
        check(&fibonacci, 15);
        check(&std::array::from_fn::<_, 19, _>(|at| fibonacci[at]), 7);
    }

    #[track_caller]
    fn check_runs(lengths: &[u8], expected: &[(u8, u8, u8)]) {
        let mut runs = Vec::new();
        run_length_encode(&mut lengths.iter().copied(), &mut runs);
        assert_eq!(runs, expected);
        let mut again: Vec<u8> = Vec::new();
        for (symbol, _, extra) in runs {
            let (length, times) = match symbol {
                16 => (*again.last().unwrap(), extra + 3),
                17 => (0, extra + 3),
                18 => (0, extra + 11),
                length => (length, 1),
            };
            again.extend(std::iter::repeat_n(length, times.into()));
        }
        assert_eq!(again, lengths);
    }

    #[test]
    fn repetitions_are_encoded_as_runs() {
        check_runs(
            &[5, 5, 0, 0, 7],
            &[(5, 0, 0), (5, 0, 0), (0, 0, 0), (0, 0, 0), (7, 0, 0)],
        );
        check_runs(&[5; 4], &[(5, 0, 0), (16, 2, 0)]);
        check_runs(&[5; 11], &[(5, 0, 0), (16, 2, 3), (16, 2, 1)]);
        check_runs(&[0; 10], &[(17, 3, 7)]);
        check_runs(&[0; 11], &[(18, 7, 0)]);
        check_runs(&[0; 140], &[(18, 7, 127), (0, 0, 0), (0, 0, 0)]);
        check_runs(&[0; 142], &[(18, 7, 127), (17, 3, 1)]);
    }
}
