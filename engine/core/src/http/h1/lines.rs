//! The lines of a head, each with the place of its first colon.
//!
//! Ends of lines and colons are found together, 64 bytes at a time, as bits of two words, so that the step from one to the next
//! needs no search. A search for each line's end and another for its colon (`memchr`) took twice the instructions, since
//! lines of heads are shorter than what pays for starting such a search. The bits are those of all bytes up to CR, and of what is not
//! ASCII: one comparison finds them, and a CR that ends no line, or a NUL, is noted for nothing. Never reads past the bytes.

use engine_escape::{BLOCK_BYTES, marks, marks_up_to_cr};

/// A line without its CRLF or LF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    pub(super) bytes: &'a [u8],
    /// Where in `bytes` its first colon is.
    pub(super) colon: Option<usize>,
    /// Where in all bytes the next line begins.
    pub(super) next: usize,
}

/// The lines of some bytes that end with an LF.
pub(super) struct Lines<'a> {
    bytes: &'a [u8],
    /// Where the next line begins.
    start: usize,
    /// Where its first colon is, if that lies before the block.
    colon: Option<usize>,
    /// Where the block begins that the bits belong to; the bits of what was passed are cleared.
    base: usize,
    /// Bytes that may end a line.
    stops: u64,
    colons: u64,
    /// Before the end of the last line there was a NUL, or a CR without LF.
    is_odd: bool,
}

impl<'a> Lines<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        let mut lines = Self {
            bytes,
            start: 0,
            colon: None,
            base: 0,
            stops: 0,
            colons: 0,
            is_odd: false,
        };
        lines.look();
        lines
    }

    /// Whether the lines so far have a NUL, or a CR that some receivers take for the end of a line.
    #[inline]
    pub(super) fn is_odd(&self) -> bool {
        self.is_odd
    }

    /// Reads the block at `base`; false behind the last.
    #[inline]
    fn look(&mut self) -> bool {
        let is_there;
        ((self.stops, self.colons), is_there) =
            find(self.bytes, self.base, |block| marks_up_to_cr(block, b':'));
        is_there
    }

    /// Goes on to the next block with a byte that may end a line; false if there is none.
    #[inline]
    fn advance(&mut self) -> bool {
        while self.stops == 0 {
            if self.colons != 0 {
                let first = self.base + self.colons.trailing_zeros() as usize;
                self.colon.get_or_insert(first);
            }
            self.base += BLOCK_BYTES;
            if !self.look() {
                return false;
            }
            // The LF of a CR that was the last byte of the block before.
            self.stops &= !u64::from(self.start > self.base);
        }
        true
    }

    /// Looks at a byte that is no CRLF: whether it ends a line.
    #[cold]
    fn ends_line(&mut self, at: usize) -> bool {
        match self.bytes.get(at) {
            Some(b'\n') => return true,
            // What follows the last byte is not known yet.
            Some(b'\r') => self.is_odd |= at + 1 < self.bytes.len(),
            Some(0) => self.is_odd = true,
            _ => {}
        }
        false
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = Line<'a>;

    #[inline(always)]
    fn next(&mut self) -> Option<Line<'a>> {
        let (at, passed, next) = loop {
            if self.stops == 0 && !self.advance() {
                return None;
            }
            let at = self.base + self.stops.trailing_zeros() as usize;
            let passed = self.stops ^ (self.stops - 1);
            self.stops &= !passed;
            if self.bytes.get(at..).and_then(|rest| rest.first_chunk()) == Some(b"\r\n") {
                // The next bit is that of the LF, unless that is in the next block.
                self.stops &= self.stops.wrapping_sub(1);
                break (at, passed, at + 2);
            }
            if self.ends_line(at) {
                break (at, passed, at + 1);
            }
        };
        let colons = self.colons & passed;
        self.colons &= !passed;
        let colon = match self.colon.take() {
            None if colons != 0 => Some(self.base + colons.trailing_zeros() as usize),
            before => before,
        };
        let start = std::mem::replace(&mut self.start, next);
        Some(Line {
            bytes: self.bytes.get(start..at)?,
            colon: colon.map(|colon| colon - start),
            next,
        })
    }
}

/// What `marks` finds in the block at `base`, and whether there is one.
#[inline(always)]
fn find(
    bytes: &[u8],
    base: usize,
    marks: impl Fn(&[u8; BLOCK_BYTES]) -> (u64, u64),
) -> ((u64, u64), bool) {
    let rest = bytes.get(base..).unwrap_or_default();
    if let Some(block) = rest.first_chunk() {
        return (marks(block), true);
    }
    // The padding is none of what is looked for.
    let mut block = [b' '; BLOCK_BYTES];
    if let Some(front) = block.get_mut(..rest.len()) {
        front.copy_from_slice(rest);
    }
    (marks(&block), !rest.is_empty())
}

/// The places of all line feeds in some bytes, found 64 bytes at a time.
pub(super) struct LineFeeds<'a> {
    bytes: &'a [u8],
    /// Where the block begins that the bits belong to; the bits of what was passed are cleared.
    base: usize,
    bits: u64,
}

impl<'a> LineFeeds<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        let mut feeds = Self {
            bytes,
            base: 0,
            bits: 0,
        };
        feeds.look();
        feeds
    }

    /// Reads the block at `base`; false behind the last.
    #[inline]
    fn look(&mut self) -> bool {
        // Both bytes are the same, so the second word of bits costs nothing.
        let is_there;
        ((self.bits, _), is_there) =
            find(self.bytes, self.base, |block| marks(block, b'\n', b'\n'));
        is_there
    }
}

impl Iterator for LineFeeds<'_> {
    type Item = usize;

    #[inline(always)]
    fn next(&mut self) -> Option<usize> {
        while self.bits == 0 {
            self.base += BLOCK_BYTES;
            if !self.look() {
                return None;
            }
        }
        let bit = self.bits.trailing_zeros();
        self.bits &= self.bits - 1;
        Some(self.base + bit as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The slow, obvious twin; with each line, whether there was an odd byte in it or before.
    fn naive(bytes: &[u8]) -> Vec<(Line<'_>, bool)> {
        let (mut next, mut is_odd) = (0, false);
        let ended = bytes.split_inclusive(|byte| *byte == b'\n');
        ended
            .filter_map(|line| {
                next += line.len();
                let line = line.strip_suffix(b"\n")?;
                let bytes = line.strip_suffix(b"\r").unwrap_or(line);
                is_odd |= bytes.contains(&b'\r') || bytes.contains(&0);
                let line = Line {
                    bytes,
                    colon: line.iter().position(|byte| *byte == b':'),
                    next,
                };
                Some((line, is_odd))
            })
            .collect()
    }

    #[track_caller]
    fn check(bytes: &[u8]) {
        let (mut lines, mut found) = (Lines::new(bytes), Vec::new());
        while let Some(line) = lines.next() {
            found.push((line, lines.is_odd()));
        }
        assert_eq!(found, naive(bytes), "{}", bytes.escape_ascii());
        let feeds: Vec<_> = LineFeeds::new(bytes).map(|feed| feed + 1).collect();
        let ends: Vec<_> = found.iter().map(|(line, _)| line.next).collect();
        assert_eq!(feeds, ends, "{}", bytes.escape_ascii());
    }

    #[test]
    fn lines_and_colons_at_every_place() {
        check(b"");
        check(b"\n");
        check(b"GET / HTTP/1.1\r\nHost: h:80\r\n\r\nbody: \nof");
        for length in 0..200 {
            for at in 0..length {
                for ends in [
                    b"\n:", b":\n", b"\n\n", b"::", b"\r\n", b"\r:", b"\0\r", b"\xff:",
                ] {
                    let mut bytes = vec![b'x'; length];
                    [bytes[at], bytes[length - 1]] = *ends;
                    check(&bytes);
                    bytes.push(b'\n');
                    check(&bytes);
                    bytes.insert(length, b'\r');
                    check(&bytes);
                }
            }
        }
    }

    #[test]
    fn random_bytes() {
        let mut state = 1_u64;
        for _ in 0..5000 {
            let bytes: Vec<u8> = (0..state % 300)
                .map(|_| {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    match state >> 60 {
                        0 => b'\n',
                        1 => b':',
                        2 => b'\r',
                        3 => 0,
                        4..8 => (state >> 30) as u8,
                        _ => b'a',
                    }
                })
                .collect();
            check(&bytes);
            state = state.wrapping_add(77);
        }
    }
}
