//! A part of a bundle that the collector found too large: some of its lines, with their index and a key of its own. A bundle
//! that was read from the spool is one with all lines.
//!
//! `docs/contract.md`, section 2. A bundle is halved by the number of its lines, a half again, and so on down to one line, so
//! that one line which is too large costs its own call and no other. What a part is depends on its bundle alone: an attempt
//! that is repeated has the same lines under the same key. It takes the memory of its bytes; what it is made from is held
//! only meanwhile.

use std::io::Read as _;

use bytes::Bytes;
use engine_core::bundle::deflate::Encoder;
use engine_core::bundle::{Bundle, CallEntry, Encoding};
use flate2::read::ZlibDecoder;

/// Bits of a key in which a bundle has its number: enough for a million bundles a second for twelve days, of each shard.
const NUMBER_BITS: u32 = 40;

/// Bits of a key above the number in which a part has its place among the halves; a bundle itself has zero there.
const PLACE_MASK: u128 = (1 << (u64::BITS - NUMBER_BITS)) - 1;

/// Some lines of a bundle.
#[derive(Clone, Debug)]
pub struct Part {
    body: Bytes,
    encoding: Encoding,
    index: Vec<CallEntry>,
    key: u128,
}

/// What is divided: a bundle, or a part of one.
#[derive(Clone, Copy, Debug)]
pub struct Whole<'a> {
    /// The lines, encoded.
    pub body: &'a [u8],
    /// How.
    pub encoding: Encoding,
    /// One entry for each line.
    pub index: &'a [CallEntry],
    /// Its key.
    pub key: u128,
}

impl<'a> Whole<'a> {
    /// A bundle.
    pub fn of(bundle: &'a Bundle) -> Self {
        Self {
            body: &bundle.body,
            encoding: bundle.encoding,
            index: &bundle.index,
            key: bundle.id,
        }
    }

    /// Bytes of its lines before encoding.
    pub fn line_bytes(&self) -> usize {
        let last = self.index.last();
        last.map_or(0, |last| last.offset as usize + last.length as usize + 1)
    }

    /// Its two halves; none where there is only one line, or where the index is not that of the lines.
    pub fn halves(&self) -> Option<[Part; 2]> {
        let lines = self.lines()?;
        let place = (self.key >> NUMBER_BITS & PLACE_MASK).max(1) << 1;
        if self.index.len() < 2 || place > PLACE_MASK {
            return None;
        }
        let (first, second) = self.index.split_at_checked(self.index.len().div_ceil(2))?;
        let half = |index: &[CallEntry], side: u128| {
            let start = index.first()?.offset;
            let last = index.last()?;
            let end = last.offset as usize + last.length as usize + 1;
            let lines = lines.get(start as usize..end)?;
            let moved = |entry: &CallEntry| CallEntry {
                offset: entry.offset - start,
                ..*entry
            };
            Some(Part {
                body: encode(lines, self.encoding).into(),
                encoding: self.encoding,
                index: index.iter().map(moved).collect(),
                key: self.key & !(PLACE_MASK << NUMBER_BITS) | (place | side) << NUMBER_BITS,
            })
        };
        Some([half(first, 0)?, half(second, 1)?])
    }

    /// The lines before encoding.
    fn lines(&self) -> Option<Vec<u8>> {
        if self.encoding == Encoding::Plain {
            return Some(self.body.to_vec());
        }
        let length = self.line_bytes();
        let mut lines = Vec::with_capacity(length);
        let mut text = ZlibDecoder::new(self.body).take(length as u64);
        text.read_to_end(&mut lines).ok()?;
        Some(lines)
    }
}

fn encode(lines: &[u8], encoding: Encoding) -> Vec<u8> {
    match encoding {
        Encoding::Plain => lines.to_vec(),
        Encoding::Deflated => {
            let mut stream = Vec::new();
            Encoder::default().zlib(lines, &mut stream);
            stream.shrink_to_fit();
            stream
        }
    }
}

impl Part {
    /// A bundle that was read from the spool.
    pub fn new(body: Bytes, encoding: Encoding, index: Vec<CallEntry>, key: u128) -> Self {
        Self {
            body,
            encoding,
            index,
            key,
        }
    }

    /// As what is divided.
    pub fn as_whole(&self) -> Whole<'_> {
        Whole {
            body: &self.body,
            encoding: self.encoding,
            index: &self.index,
            key: self.key,
        }
    }

    /// The bytes to deliver.
    pub fn body(&self) -> Bytes {
        self.body.clone()
    }

    /// Memory that it takes, in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.body.len() + size_of_val(self.index.as_slice())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use engine_core::bundle::{Bundler, Compression, Config};
    use engine_core::message::{Notes, Output as _};

    use super::*;

    fn bundle(lines: &[String], compression: Compression) -> Bundle {
        let mut bundler = Bundler::new(Config {
            compression,
            id_seed: 0xabcd,
            ..Config::default()
        });
        for (number, line) in lines.iter().enumerate() {
            let notes = Notes {
                exchange_id: number as u128,
                ..Notes::default()
            };
            bundler.line(line.as_bytes(), &notes);
        }
        bundler.close();
        bundler.pop().unwrap()
    }

    /// All parts down to single lines, in order; each has the lines that its index names.
    fn leaves(whole: &Whole<'_>, keys: &mut HashSet<u128>, out: &mut Vec<(u128, Vec<u8>)>) {
        assert!(keys.insert(whole.key), "no two have one key");
        let lines = whole.lines().unwrap();
        let mut end = 0;
        for entry in whole.index {
            assert_eq!(entry.offset as usize, end);
            end += entry.length as usize + 1;
            assert_eq!(lines[end - 1], b'\n');
        }
        assert_eq!(lines.len(), end);
        match whole.halves() {
            Some(halves) => {
                for half in &halves {
                    leaves(&half.as_whole(), keys, out);
                }
            }
            None => out.push((whole.index[0].exchange_id, lines)),
        }
    }

    #[track_caller]
    fn check(count: usize, compression: Compression) {
        let lines: Vec<String> = (0..count)
            .map(|n| format!("[{}]", "x".repeat(n * 37 % 500)))
            .collect();
        let bundle = bundle(&lines, compression);
        let whole = Whole::of(&bundle);
        let (mut keys, mut found) = (HashSet::new(), Vec::new());
        leaves(&whole, &mut keys, &mut found);
        let expected = lines.iter().enumerate();
        let expected: Vec<_> = expected
            .map(|(number, line)| (number as u128, format!("{line}\n").into_bytes()))
            .collect();
        assert!(found == expected);
        // The same again: an attempt that is repeated has the same key.
        let (mut again, mut found_again) = (HashSet::new(), Vec::new());
        leaves(&whole, &mut again, &mut found_again);
        assert!(again == keys && found_again == found);
        let of_bundle = bundle.id & ((1 << NUMBER_BITS) - 1) | bundle.id >> u64::BITS << u64::BITS;
        let root = keys.iter().map(|key| key & !(PLACE_MASK << NUMBER_BITS));
        assert!(root.into_iter().all(|root| root == of_bundle));
    }

    #[test]
    fn a_bundle_is_halved_down_to_its_lines() {
        for count in [1, 2, 3, 7, 64, 1000] {
            check(count, Compression::Off);
            check(count, Compression::Fast);
        }
    }

    #[test]
    fn the_largest_bundle_is_divided_down_to_its_lines() {
        let most = engine_core::limits::BUNDLE_CALLS_MAX as u128;
        let depth = most.next_power_of_two().ilog2();
        assert!(((1 << (depth + 1)) - 1) <= PLACE_MASK);
    }

    #[test]
    fn what_has_no_index_is_not_divided() {
        let whole = Whole {
            body: b"lines",
            encoding: Encoding::Deflated,
            index: &[],
            key: 7,
        };
        assert!(whole.halves().is_none());
        let entries = [CallEntry {
            length: 9,
            ..CallEntry::default()
        }; 2];
        let whole = Whole {
            body: b"short",
            encoding: Encoding::Plain,
            index: &entries,
            key: 7,
        };
        assert!(
            whole.halves().is_none(),
            "the index is not that of the lines"
        );
    }
}
