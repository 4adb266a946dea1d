//! The columns of a block in memory and as bytes.
//!
//! Numbers have the width that their range in the block needs, none where all are equal. Texts are places in a dictionary of the
//! block's own, which is compressed where that makes it shorter. Nothing that the bytes hold can make reading panic: a column
//! that is damaged is an error.

use std::collections::HashMap;

use super::super::damaged::Damaged;
use crate::histogram::{put, take};

/// What stands for a number that a call does not have.
pub(crate) const NONE: i64 = i64::MIN;

/// Bytes of a dictionary below which compression is not tried.
const COMPRESSED_MIN: usize = 256;

/// Compression of dictionaries: they are read by every filter on their column.
const LEVEL: i32 = 1;

/// Bytes of the dictionary of one column at most: each text has at most 1 KiB and a mark, and a block some thousand of them.
const DICTIONARY_BYTES_MAX: usize = 64 << 20;

/// Least and largest number of a column, and whether a call has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) least: i64,
    pub(crate) most: i64,
    pub(crate) has_none: bool,
}

impl Extent {
    pub(crate) fn of(numbers: &[i64]) -> Self {
        let mut extent = Self {
            least: i64::MAX,
            most: NONE,
            has_none: false,
        };
        for &number in numbers {
            if number == NONE {
                extent.has_none = true;
            } else {
                extent.least = extent.least.min(number);
                extent.most = extent.most.max(number);
            }
        }
        extent
    }

    /// Whether no call has a number.
    pub(crate) fn is_empty(&self) -> bool {
        self.most < self.least
    }
}

/// Numbers as bytes: the width of each, then 0 for none, or the number's distance from the least one and 1.
pub(crate) fn encode_numbers(numbers: &[i64], extent: Extent) -> Vec<u8> {
    let code = |number: i64| {
        if number == NONE {
            0
        } else {
            number.wrapping_sub(extent.least) as u64 + 1
        }
    };
    let is_constant = extent.is_empty() || (extent.least == extent.most && !extent.has_none);
    let largest = if extent.is_empty() {
        0
    } else {
        code(extent.most)
    };
    let width = if is_constant { 0 } else { width_of(largest) };
    let mut bytes = vec![width as u8];
    bytes.extend_from_slice(&extent.least.to_le_bytes());
    if width == 0 {
        bytes.push(u8::from(!extent.is_empty()));
    }
    encode_codes(
        &mut bytes,
        width,
        numbers.iter().map(|&number| code(number)),
    );
    bytes
}

/// Reads what [`encode_numbers`] has written.
pub(crate) fn decode_numbers(bytes: &[u8], rows: usize) -> Result<Vec<i64>, Damaged> {
    let (&width, rest) = bytes.split_first().ok_or(Damaged)?;
    let (least, rest) = rest.split_first_chunk::<8>().ok_or(Damaged)?;
    let least = i64::from_le_bytes(*least);
    let number = |code: u64| {
        if code == 0 {
            NONE
        } else {
            least.wrapping_add((code - 1) as i64)
        }
    };
    if width == 0 {
        let code = *rest.first().ok_or(Damaged)?;
        return Ok(vec![number(u64::from(code.min(1))); rows]);
    }
    decode_codes(rest, width, rows, number)
}

fn width_of(largest: u64) -> usize {
    match largest {
        0..=0xff => 1,
        0x100..=0xffff => 2,
        0x1_0000..=0xffff_ffff => 4,
        _ => 8,
    }
}

fn encode_codes(bytes: &mut Vec<u8>, width: usize, codes: impl Iterator<Item = u64>) {
    if width > 0 {
        for code in codes {
            let code = code.to_le_bytes();
            bytes.extend_from_slice(&code[..width]);
        }
    }
}

fn decode_codes<T>(
    bytes: &[u8],
    width: u8,
    rows: usize,
    of: impl Fn(u64) -> T,
) -> Result<Vec<T>, Damaged> {
    let width = usize::from(width);
    let bytes = rows
        .checked_mul(width)
        .and_then(|length| bytes.get(..length))
        .ok_or(Damaged)?;
    // The length of each is known, so that the compiler makes vector instructions of the loops.
    Ok(match width {
        1 => bytes.iter().map(|&byte| of(u64::from(byte))).collect(),
        2 => chunks(bytes, |chunk| of(u64::from(u16::from_le_bytes(chunk)))),
        4 => chunks(bytes, |chunk| of(u64::from(u32::from_le_bytes(chunk)))),
        8 => chunks(bytes, |chunk| of(u64::from_le_bytes(chunk))),
        _ => return Err(Damaged),
    })
}

fn chunks<const N: usize, T>(bytes: &[u8], of: impl Fn([u8; N]) -> T) -> Vec<T> {
    let (chunks, _) = bytes.as_chunks::<N>();
    chunks.iter().map(|&chunk| of(chunk)).collect()
}

/// A column of texts: the place of each row's text in a dictionary.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Texts {
    pub(crate) codes: Vec<u32>,
    text: String,
    /// Where each text of the dictionary ends.
    ends: Vec<u32>,
}

impl Texts {
    /// The text of a row; empty where there is none.
    pub(crate) fn get(&self, row: usize) -> &str {
        self.codes
            .get(row)
            .map_or("", |&code| self.word(code as usize))
    }

    /// The texts of the dictionary.
    pub(crate) fn words(&self) -> impl Iterator<Item = &str> {
        (0..self.ends.len()).map(|code| self.word(code))
    }

    /// The texts of the dictionary one behind the other.
    pub(crate) fn all_words(&self) -> &str {
        &self.text
    }

    /// Number of texts in the dictionary.
    pub(crate) fn word_count(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn word(&self, code: usize) -> &str {
        let start = match code.checked_sub(1) {
            Some(before) => self.ends.get(before).copied().unwrap_or_default(),
            None => 0,
        };
        let end = self.ends.get(code).copied().unwrap_or_default();
        self.text
            .get(start as usize..end as usize)
            .unwrap_or_default()
    }

    /// As bytes: the dictionary, then the places.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut lengths = Vec::with_capacity(self.ends.len());
        let mut start = 0;
        for &end in &self.ends {
            put(&mut lengths, u64::from(end - start));
            start = end;
        }
        lengths.extend_from_slice(self.text.as_bytes());
        let compressed = (lengths.len() >= COMPRESSED_MIN)
            .then(|| zstd::bulk::compress(&lengths, LEVEL).ok())
            .flatten()
            .filter(|compressed| compressed.len() < lengths.len());
        let mut bytes = Vec::with_capacity(lengths.len() + self.codes.len() * 2);
        put(&mut bytes, self.ends.len() as u64);
        put(&mut bytes, lengths.len() as u64);
        put(
            &mut bytes,
            compressed
                .as_ref()
                .map_or(0, |compressed| compressed.len() as u64),
        );
        bytes.extend_from_slice(compressed.as_ref().unwrap_or(&lengths));
        let width = match self.ends.len() {
            0 | 1 => 0,
            words => width_of(words as u64 - 1),
        };
        bytes.push(width as u8);
        encode_codes(
            &mut bytes,
            width,
            self.codes.iter().map(|&code| u64::from(code)),
        );
        bytes
    }

    /// Reads what [`encode`](Self::encode) has written.
    pub(crate) fn decode(mut bytes: &[u8], rows: usize) -> Result<Self, Damaged> {
        let [words, plain, compressed] =
            [(); 3].map(|()| usize::try_from(take(&mut bytes)).unwrap_or(usize::MAX));
        let stored = if compressed > 0 { compressed } else { plain };
        let (stored, rest) = bytes.split_at_checked(stored).ok_or(Damaged)?;
        if plain > DICTIONARY_BYTES_MAX || words > plain {
            return Err(Damaged);
        }
        let unpacked;
        let mut dictionary = stored;
        if compressed > 0 {
            unpacked = zstd::bulk::decompress(stored, plain).map_err(|_| Damaged)?;
            dictionary = &unpacked;
        }
        let mut ends = Vec::with_capacity(words);
        let mut end = 0u32;
        for _ in 0..words {
            let length = u32::try_from(take(&mut dictionary)).map_err(|_| Damaged)?;
            end = end.checked_add(length).ok_or(Damaged)?;
            ends.push(end);
        }
        let text = std::str::from_utf8(dictionary).map_err(|_| Damaged)?;
        if ends.last().copied().unwrap_or_default() as usize != text.len() {
            return Err(Damaged);
        }
        let (&width, rest) = rest.split_first().ok_or(Damaged)?;
        let codes = match width {
            0 => vec![0; rows],
            _ => decode_codes(rest, width, rows, |code| code as u32)?,
        };
        Ok(Self {
            codes,
            text: text.to_owned(),
            ends,
        })
    }
}

/// A column of texts that grows.
#[derive(Clone, Debug, Default)]
pub(crate) struct TextsBuilder {
    texts: Texts,
    known: HashMap<Box<str>, u32>,
}

impl TextsBuilder {
    /// One with so many rows without a text.
    pub(crate) fn of_none(rows: usize) -> Self {
        let mut builder = Self::default();
        if rows > 0 {
            builder.push("");
            builder.texts.codes.resize(rows, 0);
        }
        builder
    }

    /// Adds the text of the next row.
    pub(crate) fn push(&mut self, text: &str) {
        // Neighbours often have the same text, which is compared faster than it is looked up.
        let last = self.texts.codes.last().copied();
        let code = match last.filter(|&code| self.texts.word(code as usize) == text) {
            Some(code) => code,
            None => match self.known.get(text) {
                Some(&code) => code,
                None => self.learn(text),
            },
        };
        self.texts.codes.push(code);
    }

    fn learn(&mut self, text: &str) -> u32 {
        let code = self.known.len() as u32;
        self.known.insert(text.into(), code);
        self.texts.text.push_str(text);
        self.texts.ends.push(self.texts.text.len() as u32);
        code
    }

    /// Adds rows of another column.
    pub(crate) fn extend(&mut self, other: &Texts, rows: impl Iterator<Item = usize>) {
        let mut codes = vec![u32::MAX; other.word_count()];
        for row in rows {
            let Some(known) = other
                .codes
                .get(row)
                .and_then(|&code| codes.get_mut(code as usize))
            else {
                self.push("");
                continue;
            };
            if *known == u32::MAX {
                let text = other.get(row);
                *known = match self.known.get(text) {
                    Some(&code) => code,
                    None => self.learn(text),
                };
            }
            self.texts.codes.push(*known);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.texts.codes.len()
    }

    /// Bytes of the dictionary.
    pub(crate) fn text_bytes(&self) -> usize {
        self.texts.text.len()
    }

    pub(crate) fn texts(&self) -> &Texts {
        &self.texts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(numbers: &[i64], bytes_max: usize) {
        let bytes = encode_numbers(numbers, Extent::of(numbers));
        assert_eq!(decode_numbers(&bytes, numbers.len()), Ok(numbers.to_vec()));
        assert!(bytes.len() <= bytes_max, "{numbers:?}: {}", bytes.len());
    }

    #[test]
    fn numbers_come_back() {
        check(&[], 10);
        check(&[7; 100], 10);
        check(&[NONE; 100], 10);
        check(&[NONE, 7, NONE], 12);
        check(&[-1, 250, 100], 12);
        check(&[200, 404, 599], 15);
        check(&[1, 1 << 40], 25);
        check(&[i64::MIN + 1, i64::MAX, NONE], 33);
    }

    #[test]
    fn texts_come_back() {
        let mut builder = TextsBuilder::of_none(2);
        let long = "é".repeat(400);
        for text in ["GET", "", "GET", "PUT", &long, "\0"] {
            builder.push(text);
        }
        let mut other = TextsBuilder::default();
        other.extend(builder.texts(), [7, 2, 3].into_iter());
        assert_eq!(
            [0, 1, 2].map(|row| other.texts().get(row)),
            ["\0", "GET", ""]
        );
        let bytes = builder.texts().encode();
        assert_eq!(
            Texts::decode(&bytes, builder.len()).as_ref(),
            Ok(builder.texts())
        );
        let empty = Texts::default().encode();
        assert_eq!(Texts::decode(&empty, 0), Ok(Texts::default()));
    }

    #[test]
    fn damaged_bytes_are_an_error_or_some_column() {
        let mut builder = TextsBuilder::default();
        for number in 0..200 {
            builder.push(&format!("text {number}"));
        }
        let texts = builder.texts().encode();
        let numbers = encode_numbers(&[1, 500, NONE], Extent::of(&[1, 500, NONE]));
        for at in 0..texts.len() {
            let mut damaged = texts.clone();
            damaged[at] ^= 0xff;
            if let Ok(column) = Texts::decode(&damaged, 200) {
                (0..200).for_each(|row| drop(column.get(row).to_owned()));
            }
            drop(Texts::decode(&texts[..at], 200));
        }
        for at in 0..numbers.len() {
            assert!(decode_numbers(&numbers[..at], 3).is_err(), "{at}");
        }
    }
}
