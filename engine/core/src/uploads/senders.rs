//! The names of other sniffers, and how many uploads of each were skipped.

use std::fmt;

use crate::limits::{UPLOAD_SENDER_BYTES_MAX, UPLOAD_SENDERS_NAMED_MAX};

const WORDS: usize = UPLOAD_SENDER_BYTES_MAX / size_of::<u64>();

/// The name of a sniffer, as it stands in its marker: letters, digits, `.`, `_` and `-`, at most
/// [`UPLOAD_SENDER_BYTES_MAX`] bytes. A stranger may have written it, so nothing else of it reaches a log or a metric.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Sender([u8; UPLOAD_SENDER_BYTES_MAX]);

impl Sender {
    /// The name without what it may not have.
    pub fn new(name: &[u8]) -> Self {
        let mut bytes = [0; UPLOAD_SENDER_BYTES_MAX];
        let name = if name.is_empty() { b"unknown" } else { name };
        for (byte, given) in bytes.iter_mut().zip(name) {
            *byte = match given {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-' => *given,
                _ => b'_',
            };
        }
        Self(bytes)
    }

    /// It as text.
    pub fn as_str(&self) -> &str {
        let used = self.0.iter().position(|byte| *byte == 0);
        let used = self.0.get(..used.unwrap_or(self.0.len()));
        std::str::from_utf8(used.unwrap_or_default()).unwrap_or_default()
    }

    /// It as numbers, for memory that is shared between threads.
    pub fn words(&self) -> [u64; WORDS] {
        let (words, _) = self.0.as_chunks();
        let mut numbers = [0; WORDS];
        for (number, word) in numbers.iter_mut().zip(words) {
            *number = u64::from_le_bytes(*word);
        }
        numbers
    }

    /// What [`Self::words`] gave.
    pub fn from_words(words: [u64; WORDS]) -> Self {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let used = bytes.iter().position(|byte| *byte == 0);
        Self::new(bytes.get(..used.unwrap_or(bytes.len())).unwrap_or_default())
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The uploads of one sniffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenderUploads {
    /// Its name.
    pub sender: Sender,
    /// How many were skipped.
    pub uploads: u64,
}

/// Skipped uploads of other sniffers by their name, for the first names seen.
#[derive(Clone, Debug, Default)]
pub struct SenderTable {
    rows: Vec<SenderUploads>,
}

impl SenderTable {
    /// The rows, in the order in which their senders were first seen.
    pub fn rows(&self) -> &[SenderUploads] {
        &self.rows
    }

    /// Adds another shard's table to this one.
    pub fn add(&mut self, other: &Self) {
        self.extend(other.rows.iter().copied());
    }

    /// An upload was skipped.
    pub fn record(&mut self, sender: Sender) {
        self.extend([SenderUploads { sender, uploads: 1 }]);
    }
}

impl Extend<SenderUploads> for SenderTable {
    /// Adds rows of other tables. Past [`UPLOAD_SENDERS_NAMED_MAX`] names, further ones are in the sum only.
    fn extend<I: IntoIterator<Item = SenderUploads>>(&mut self, rows: I) {
        for theirs in rows {
            let is_full = self.rows.len() >= UPLOAD_SENDERS_NAMED_MAX;
            let mut known = self.rows.iter_mut();
            match known.find(|row| row.sender == theirs.sender) {
                Some(row) => row.uploads += theirs.uploads,
                None if is_full => {}
                None => self.rows.push(theirs),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_only_harmless_characters() {
        for (given, expected) in [
            ("web-3.example", "web-3.example"),
            ("", "unknown"),
            ("a b\n\"c\u{1b}", "a_b__c_"),
            (&"x".repeat(99), &"x".repeat(UPLOAD_SENDER_BYTES_MAX)),
        ] {
            let sender = Sender::new(given.as_bytes());
            assert_eq!(sender.as_str(), expected);
            assert_eq!(Sender::from_words(sender.words()), sender);
        }
    }

    #[test]
    fn the_table_is_bounded_and_adds_up() {
        let mut table = SenderTable::default();
        for number in 0..UPLOAD_SENDERS_NAMED_MAX + 3 {
            let sender = Sender::new(number.to_string().as_bytes());
            table.record(sender);
            table.record(sender);
        }
        let mut sum = SenderTable::default();
        sum.record(Sender::new(b"1"));
        sum.add(&table);
        assert_eq!(sum.rows().len(), UPLOAD_SENDERS_NAMED_MAX);
        assert_eq!(sum.rows()[0].uploads, 3);
    }
}
