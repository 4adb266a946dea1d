//! The plain body of one POST, split into the lines that can be stored.
//!
//! A bad line is counted and does not harm its neighbours. The lines stay where they are in the body, and of each only its
//! range is held; its columns are read when it is stored. A body costs its own bytes and 8 for each line, therefore, whatever
//! its lines are.

use std::fmt;
use std::str;

use bytes::Bytes;
use flate2::Crc;
use memchr::memchr_iter;

use crate::limits::POST_LINES_MAX;
use crate::line::{self, Columns, NotALine};
use crate::sender::Sender;

/// One POST, ready to be stored.
#[derive(Debug)]
pub struct Bundle {
    text: Bytes,
    /// Length of the whole text.
    bytes: usize,
    lines: Vec<Place>,
    /// Lines that are no message.
    pub bad_lines: u64,
    /// Why the first of the bad lines is no message.
    pub reason: Option<NotALine>,
    /// `Idempotency-Key`, if the sender gave one.
    pub key: Option<String>,
    /// Checksum of the plain body.
    pub crc32: u32,
    /// Where the POST came from.
    pub sender: Sender,
    /// Its calls come from another store: their times count however long ago they were.
    pub is_imported: bool,
    /// Its sender has sent it before, and knows of no answer: `Idempotency-Retry`.
    pub is_repeated: bool,
}

/// Where a line is in the body.
#[derive(Clone, Copy, Debug)]
struct Place {
    start: u32,
    end: u32,
}

/// More lines than [`POST_LINES_MAX`], or more bytes than 32 bits can count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyLines;

impl fmt::Display for TooManyLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "more than {POST_LINES_MAX} lines; send smaller bundles")
    }
}

impl std::error::Error for TooManyLines {}

impl Bundle {
    /// Splits a body at its newlines and ignores blank lines. The last line may lack its newline.
    ///
    /// # Errors
    /// The body has too many lines; none of them is kept.
    pub fn split(text: Bytes, key: Option<String>, sender: Sender) -> Result<Self, TooManyLines> {
        u32::try_from(text.len()).map_err(|_| TooManyLines)?;
        let mut bundle = Self {
            crc32: checksum(&text),
            bytes: text.len(),
            text,
            lines: Vec::new(),
            bad_lines: 0,
            reason: None,
            key,
            sender,
            is_imported: false,
            is_repeated: false,
        };
        let mut at = 0;
        let mut lines = 0;
        let ends = memchr_iter(b'\n', &bundle.text).chain([bundle.text.len()]);
        for end in ends {
            let start = at;
            at = end + 1;
            let line = bundle.text.get(start..end).unwrap_or_default();
            if line.trim_ascii().is_empty() {
                continue;
            }
            lines += 1;
            if lines > POST_LINES_MAX {
                return Err(TooManyLines);
            }
            let checked = str::from_utf8(line)
                .map_err(|_| NotALine::Malformed)
                .and_then(line::check);
            match checked {
                Ok(()) => bundle.lines.push(Place::new(start, end)),
                Err(reason) => {
                    bundle.bad_lines += 1;
                    bundle.reason.get_or_insert(reason);
                }
            }
        }
        Ok(bundle)
    }

    /// Bytes of the plain body.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Frees the body, which has been stored in another form. From now on its lines are empty.
    pub fn forget_text(&mut self) {
        self.text = Bytes::new();
    }

    /// Number of good lines.
    pub fn calls(&self) -> usize {
        self.lines.len()
    }

    /// The good lines in the order in which they were sent, with their columns, which are read one line at a time.
    pub fn lines(&self) -> impl Iterator<Item = (&str, Columns)> {
        self.part(0, self.calls())
    }

    /// The end of a part of the good lines that begins at `from`: at most `lines_max` of them, and so many that only the last
    /// one ends past `bytes_max` bytes.
    pub fn end_of_part(&self, from: usize, lines_max: usize, bytes_max: usize) -> usize {
        let mut bytes = 0;
        let part = self.lines.iter().skip(from).take(lines_max);
        let part = part.take_while(|place| {
            let fits = bytes < bytes_max;
            bytes += place.bytes();
            fits
        });
        from + part.count()
    }

    /// The good lines from number `from` up to number `end`, as [`lines`](Self::lines).
    pub fn part(&self, from: usize, end: usize) -> impl Iterator<Item = (&str, Columns)> {
        let part = self.lines.get(from..end).unwrap_or_default();
        part.iter().map(|place| {
            let line = place.of(&self.text).trim_end_matches('\r');
            // Every line was read once when the body was split.
            (line, Columns::read(line).unwrap_or_default())
        })
    }
}

impl Place {
    /// The body is shorter than 2^32 bytes.
    fn new(start: usize, end: usize) -> Self {
        let short = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        Self {
            start: short(start),
            end: short(end),
        }
    }

    fn bytes(self) -> usize {
        (self.end - self.start) as usize
    }

    fn of(self, text: &[u8]) -> &str {
        let line = text.get(self.start as usize..self.end as usize);
        str::from_utf8(line.unwrap_or_default()).unwrap_or_default()
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

    fn split(text: impl Into<Bytes>) -> Result<Bundle, TooManyLines> {
        Bundle::split(text.into(), None, Sender::Local)
    }

    #[track_caller]
    fn check(text: &'static [u8], lines: &[&str], bad_lines: u64) {
        let bundle = split(text).expect("few lines");
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
        check(
            b"[[\"a\",\"b\"]]\r\n[[],[\"c\",1]]\r\n",
            &["[[\"a\",\"b\"]]", "[[],[\"c\",1]]"],
            0,
        );
        check(
            b"[[\"a\",\"b\"]\n[]\n{\"x\":1}\n[[\"c\",\"\xff\"]]\n[[\"d\",\"e\"]]\n[ ]",
            &["[[\"d\",\"e\"]]"],
            5,
        );
    }

    #[test]
    fn the_first_bad_line_has_its_reason() {
        let bundle = split("[[\"a\",\"b\"]]\n[]\nx\n").expect("few lines");
        assert_eq!(bundle.reason, Some(NotALine::Empty));
    }

    #[test]
    fn lines_are_bounded_by_their_number() {
        let line = "[[\"a\",\"b\"]]\n";
        let most = split(line.repeat(POST_LINES_MAX)).expect("as many as allowed");
        assert_eq!(most.calls(), POST_LINES_MAX);
        // Blank lines are none.
        split(format!("{}\n \n\n", line.repeat(POST_LINES_MAX))).expect("blank lines");
        assert!(split(line.repeat(POST_LINES_MAX + 1)).is_err());
        // Bad lines count.
        assert!(split("[]\n".repeat(POST_LINES_MAX + 1)).is_err());
        // What other loggers send: 5 MiB of short lines.
        let short = format!("[[\"a\",\"{}\"]]\n", "x".repeat(89));
        assert_eq!(short.len(), 100);
        let bundle = split(short.repeat((5 << 20) / 100)).expect("an ordinary bundle");
        assert_eq!(bundle.calls(), 52_428);
    }

    #[test]
    fn a_bundle_holds_its_text_and_eight_bytes_for_each_line() {
        assert_eq!(size_of::<Place>(), 8);
    }
}
