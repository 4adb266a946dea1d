//! The bit writer: bits are packed from the lowest of each byte on (RFC 1951 §3.1.1).
//!
//! After the search this is the most expensive part. Every token, literal or match, takes the same path: the code of a
//! literal is followed by a distance code of no bits. Two changes made it fast, in time per token: two tokens for each
//! store of eight bytes (2.1 to 1.7 ns); codes shifted by multiplication with a power of two from the table, since a shift
//! by a variable count is three operations where the compiler must not assume newer instructions (1.7 to 1.3 ns).

use super::huffman::Tables;
use super::token::Token;

/// Bytes that are collected before they are appended to the output, which then needs neither to be zeroed first nor to
/// be checked for capacity at every token.
const CHUNK: usize = 8 * 1024;

/// A token has 48 bits at most: two codes of 15 bits, 5 and 13 extra bits.
const TOKENS_OF_CHUNK: usize = 1024;

const _: () = assert!(TOKENS_OF_CHUNK * 6 + 8 < CHUNK);

/// Between calls it holds fewer than eight bits that are not written yet.
pub(super) struct BitWriter {
    bits: u64,
    count: u32,
    chunk: Box<[u8; CHUNK + 8]>,
}

impl Default for BitWriter {
    fn default() -> Self {
        Self {
            bits: 0,
            count: 0,
            chunk: Box::new([0; CHUNK + 8]),
        }
    }
}

impl BitWriter {
    /// Appends the lowest `count` bits of `bits`, 48 at most; the others are 0.
    pub(super) fn put(&mut self, bits: u64, count: u32, out: &mut Vec<u8>) {
        self.bits |= bits << self.count;
        self.count += count;
        while self.count >= 8 {
            out.push(self.bits as u8);
            self.bits >>= 8;
            self.count -= 8;
        }
    }

    /// Fills the last byte with zeros.
    pub(super) fn align(&mut self, out: &mut Vec<u8>) {
        self.put(0, self.count.wrapping_neg() % 8, out);
    }

    /// Appends the codes of `tokens`. As part of its caller it would have fewer registers.
    #[inline(never)]
    pub(super) fn tokens(&mut self, tokens: &[Token], tables: &Tables, out: &mut Vec<u8>) {
        let mut chunk = Chunk {
            bits: self.bits,
            count: self.count,
            bytes: &mut self.chunk,
            length: 0,
        };
        for group in tokens.chunks(TOKENS_OF_CHUNK) {
            let (pairs, odd) = group.as_chunks();
            for [first, second] in pairs {
                let (first, first_count) = code(*first, tables);
                let (second, second_count) = code(*second, tables);
                chunk.add(first, first_count);
                if chunk.count + second_count >= 64 {
                    chunk.flush();
                }
                chunk.add(second, second_count);
                chunk.flush();
            }
            for token in odd {
                let (bits, count) = code(*token, tables);
                chunk.add(bits, count);
                chunk.flush();
            }
            out.extend_from_slice(chunk.bytes.get(..chunk.length).unwrap_or_default());
            chunk.length = 0;
        }
        (self.bits, self.count) = (chunk.bits, chunk.count);
    }
}

/// Bits and their number: the literal or length with its extra bits, then the distance with its own.
#[inline(always)]
#[expect(
    clippy::indexing_slicing,
    reason = "the fields of a token have as many values as the tables entries"
)]
fn code(token: Token, tables: &Tables) -> (u64, u32) {
    let first = &tables.firsts[token.first()];
    let distance = &tables.distances[token.distance()];
    let behind = u64::from(distance.bits) + token.extra() * u64::from(distance.power);
    (
        u64::from(first.bits) + behind * u64::from(first.power),
        first.length + distance.length,
    )
}

struct Chunk<'a> {
    bits: u64,
    count: u32,
    bytes: &'a mut [u8; CHUNK + 8],
    length: usize,
}

impl Chunk<'_> {
    #[inline(always)]
    fn add(&mut self, bits: u64, count: u32) {
        self.bits |= bits << self.count;
        self.count += count;
    }

    /// Leaves fewer than eight bits; there were fewer than 64.
    #[inline(always)]
    #[expect(
        clippy::indexing_slicing,
        reason = "the mask keeps the index below CHUNK, and it changes nothing: see TOKENS_OF_CHUNK"
    )]
    fn flush(&mut self) {
        let place = &mut self.bytes[self.length & (CHUNK - 1)..];
        if let Some(place) = place.first_chunk_mut() {
            *place = self.bits.to_le_bytes();
        }
        self.length += (self.count >> 3) as usize;
        self.bits >>= self.count & !7;
        self.count &= 7;
    }
}
