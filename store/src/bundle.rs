//! The plain body of one POST, split into the lines that can be stored.
//!
//! A bad line is counted and does not harm its neighbours. The lines stay where they are in the body: nothing of them is
//! copied between decompression and insert. Their columns are read here, so that a backend with one writing thread only
//! writes on it.

use std::ops::Range;
use std::str;

use bytes::Bytes;
use flate2::Crc;

use crate::line::Columns;

/// One POST, ready to be stored.
#[derive(Debug)]
pub struct Bundle {
    text: Bytes,
    lines: Vec<(Range<usize>, Columns)>,
    /// Lines that are no message.
    pub bad_lines: u64,
    /// `Idempotency-Key`, if the sender gave one.
    pub key: Option<String>,
    /// Checksum of the plain body.
    pub crc32: u32,
}

impl Bundle {
    /// Splits a body at its newlines and ignores blank lines. The last line may lack its newline.
    pub fn split(text: Bytes, key: Option<String>) -> Self {
        let mut bundle = Self {
            crc32: checksum(&text),
            text,
            lines: Vec::new(),
            bad_lines: 0,
            key,
        };
        let mut at = 0;
        for line in bundle.text.split(|&byte| byte == b'\n') {
            let range = at..at + line.len();
            at = range.end + 1;
            let Ok(text) = str::from_utf8(line) else {
                bundle.bad_lines += 1;
                continue;
            };
            if text.trim().is_empty() {
                continue;
            }
            match Columns::read(text) {
                Ok(columns) => bundle.lines.push((range, columns)),
                Err(_) => bundle.bad_lines += 1,
            }
        }
        bundle
    }

    /// Bytes of the plain body.
    pub fn bytes(&self) -> usize {
        self.text.len()
    }

    /// Number of good lines.
    pub fn calls(&self) -> usize {
        self.lines.len()
    }

    /// The good lines in the order in which they were sent, with their columns.
    pub fn lines(&self) -> impl Iterator<Item = (&str, &Columns)> {
        self.lines.iter().map(|(range, columns)| {
            let line = self.text.get(range.clone()).unwrap_or_default();
            (
                str::from_utf8(line)
                    .unwrap_or_default()
                    .trim_end_matches('\r'),
                columns,
            )
        })
    }
}

fn checksum(text: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(text);
    crc.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &[u8], lines: &[&str], bad_lines: u64) {
        let bundle = Bundle::split(Bytes::copy_from_slice(text), None);
        assert_eq!(
            bundle.lines().map(|(line, _)| line).collect::<Vec<_>>(),
            lines
        );
        assert_eq!(bundle.bad_lines, bad_lines);
    }

    #[test]
    fn good_lines_survive_bad_ones() {
        check(b"", &[], 0);
        check(b"\n \r\n\n", &[], 0);
        check(b"[[\"a\",\"b\"]]", &["[[\"a\",\"b\"]]"], 0);
        check(b"[[\"a\",\"b\"]]\n", &["[[\"a\",\"b\"]]"], 0);
        check(b"[[\"a\",\"b\"]]\r\n[]\r\n", &["[[\"a\",\"b\"]]", "[]"], 0);
        check(
            b"[[\"a\",\"b\"]\n[]\n{\"x\":1}\n[[\"c\",\"\xff\"]]\n[ ]",
            &["[]", "[ ]"],
            3,
        );
    }
}
