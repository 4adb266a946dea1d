//! A zlib encoder (RFC 1950, RFC 1951), as fast as possible at a useful ratio.
//!
//! Made for bundles: half a megabyte of lines that resemble each other. `matches` turns bytes into tokens (literals, and
//! matches in the last 32 KiB), `huffman` assigns codes to the tokens of a block by their frequency, `bits` writes them. A
//! block that its codes would not make smaller is stored, so the output is longer than the input by at most 5 bytes for
//! each block of 16 384 bytes or more, and 6. Everything is allocated once.
//!
//! Not supported: fixed codes (they help only bodies of a few hundred bytes), lazy matching, dictionaries, levels. For
//! smaller output at several times the cost there is libdeflate.
//!
//! ```
//! use engine_core::bundle::deflate::Encoder;
//!
//! let lines = "[[\"request_method\",\"GET\"]]\n".repeat(1000);
//! let mut encoder = Encoder::default();
//! let mut stream = Vec::new();
//! encoder.zlib(lines.as_bytes(), &mut stream);
//! assert!(stream.len() * 50 < lines.len());
//!
//! let mut again = String::new();
//! std::io::Read::read_to_string(&mut flate2::read::ZlibDecoder::new(&stream[..]), &mut again)?;
//! assert_eq!(again, lines);
//! # Ok::<(), std::io::Error>(())
//! ```

mod bits;
mod huffman;
mod matches;
mod token;

use bits::BitWriter;
use huffman::Tables;
use matches::{Block, Finder};

/// CMF and FLG of a stream with a window of 32 KiB that was compressed by the fastest algorithm.
const HEADER: [u8; 2] = [0x78, 0x01];

/// Most bytes of one stored block.
const STORED_BYTES_MAX: usize = 0xffff;

/// The types of a block, after the bit that marks the last one: stored, or with its own codes.
const STORED: u64 = 0;
const DYNAMIC: u64 = 2;

/// Compresses any number of buffers; takes about 120 KiB.
#[derive(Default)]
pub struct Encoder {
    finder: Finder,
    tables: Tables,
    writer: BitWriter,
}

impl Encoder {
    /// Appends `input` as a zlib stream. It does not depend on earlier inputs: equal inputs give equal streams.
    pub fn zlib(&mut self, input: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(&HEADER);
        self.finder.forget();
        let mut rest = 0;
        loop {
            let (tokens, end) = self.finder.block(input, rest);
            let bytes = input.get(rest..end).unwrap_or_default();
            let is_last = end == input.len();
            let (tables, writer) = (&mut self.tables, &mut self.writer);
            block(&tokens, bytes, is_last, tables, writer, out);
            rest = end;
            if is_last {
                break;
            }
        }
        self.writer.align(out);
        out.extend_from_slice(&simd_adler32::adler32(&input).to_be_bytes());
    }
}

/// Writes a block with its own codes, or stores `bytes`, the input of the block, if that is shorter.
fn block(
    block: &Block<'_>,
    bytes: &[u8],
    is_last: bool,
    tables: &mut Tables,
    writer: &mut BitWriter,
    out: &mut Vec<u8>,
) {
    let coded_bits = tables.build(block.counts);
    let pieces = bytes.len().div_ceil(STORED_BYTES_MAX).max(1);
    if coded_bits >= 8 * (bytes.len() + 4 * pieces) {
        return store(bytes, is_last, writer, out);
    }
    writer.put(u64::from(is_last) | DYNAMIC << 1, 3, out);
    for &(value, bits) in tables.header() {
        writer.put(value.into(), bits.into(), out);
    }
    writer.tokens(block.tokens, tables, out);
    let end = tables.end_of_block();
    writer.put(end.bits.into(), end.length, out);
}

fn store(bytes: &[u8], is_last: bool, writer: &mut BitWriter, out: &mut Vec<u8>) {
    let mut rest = bytes;
    loop {
        let (piece, after) = rest.split_at(rest.len().min(STORED_BYTES_MAX));
        rest = after;
        let ends = is_last && rest.is_empty();
        writer.put(u64::from(ends) | STORED << 1, 3, out);
        writer.align(out);
        let length = piece.len() as u16;
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&(!length).to_le_bytes());
        out.extend_from_slice(piece);
        if rest.is_empty() {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
