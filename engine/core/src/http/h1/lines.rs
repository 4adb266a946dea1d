//! The lines of a head, each with the place of its first colon.
//!
//! Line feeds and colons are found together, 64 bytes at a time, as bits of two words, so that the step from one to the next
//! needs no search. A search for each line's end and another for its colon (`memchr`) took twice the instructions, since
//! lines of heads are shorter than what pays for starting such a search. Never reads past the bytes.

use engine_escape::{BLOCK_BYTES, marks};

/// A line without its CRLF or LF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    pub(super) bytes: &'a [u8],
    /// Where in `bytes` its first colon is.
    pub(super) colon: Option<usize>,
    /// It has another one.
    pub(super) has_more_colons: bool,
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
    /// It has another one before the block.
    has_more_colons: bool,
    /// Where the block begins that the bits belong to; the bits of what was passed are cleared.
    base: usize,
    feeds: u64,
    colons: u64,
}

impl<'a> Lines<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        let mut lines = Self {
            bytes,
            start: 0,
            colon: None,
            has_more_colons: false,
            base: 0,
            feeds: 0,
            colons: 0,
        };
        lines.look();
        lines
    }

    /// Reads the block at `base`; false behind the last.
    #[inline]
    fn look(&mut self) -> bool {
        let is_there;
        ((self.feeds, self.colons), is_there) = find(self.bytes, self.base, b':');
        is_there
    }

    /// Goes on to the next block with an LF; false if there is none.
    #[inline]
    fn advance(&mut self) -> bool {
        while self.feeds == 0 {
            if self.colons != 0 {
                self.has_more_colons |= self.colon.is_some() || has_several(self.colons);
                let first = self.base + self.colons.trailing_zeros() as usize;
                self.colon.get_or_insert(first);
            }
            self.base += BLOCK_BYTES;
            if !self.look() {
                return false;
            }
        }
        true
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = Line<'a>;

    #[inline(always)]
    fn next(&mut self) -> Option<Line<'a>> {
        if self.feeds == 0 && !self.advance() {
            return None;
        }
        let bit = self.feeds.trailing_zeros();
        let line_bits = self.feeds ^ (self.feeds - 1);
        let colons = self.colons & line_bits;
        let (colon, has_more_colons) = match self.colon.take() {
            None if colons != 0 => {
                let first = self.base + colons.trailing_zeros() as usize;
                (Some(first), has_several(colons))
            }
            before => (
                before,
                std::mem::take(&mut self.has_more_colons) || colons != 0,
            ),
        };
        self.feeds &= !line_bits;
        self.colons &= !line_bits;
        let start = self.start;
        let next = self.base + bit as usize + 1;
        self.start = next;
        let line = self.bytes.get(start..next - 1)?;
        Some(Line {
            bytes: line.strip_suffix(b"\r").unwrap_or(line),
            colon: colon.map(|colon| colon - start),
            has_more_colons,
            next,
        })
    }
}

#[inline(always)]
fn has_several(bits: u64) -> bool {
    bits & bits.wrapping_sub(1) != 0
}

/// The bits of LFs and of `other` in the block at `base`, and whether there is one.
#[inline(always)]
fn find(bytes: &[u8], base: usize, other: u8) -> ((u64, u64), bool) {
    let rest = bytes.get(base..).unwrap_or_default();
    if let Some(block) = rest.first_chunk() {
        return (marks(block, b'\n', other), true);
    }
    // The padding is neither.
    let mut block = [0; BLOCK_BYTES];
    if let Some(front) = block.get_mut(..rest.len()) {
        front.copy_from_slice(rest);
    }
    (marks(&block, b'\n', other), !rest.is_empty())
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
        ((self.bits, _), is_there) = find(self.bytes, self.base, b'\n');
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

    /// The slow, obvious twin.
    fn naive(bytes: &[u8]) -> Vec<Line<'_>> {
        let mut next = 0;
        let ended = bytes.split_inclusive(|byte| *byte == b'\n');
        ended
            .filter_map(|line| {
                next += line.len();
                let line = line.strip_suffix(b"\n")?;
                let bytes = line.strip_suffix(b"\r").unwrap_or(line);
                let mut colons = (0..).zip(line).filter(|(_, byte)| **byte == b':');
                let colon = colons.next().map(|(at, _)| at);
                Some(Line {
                    bytes,
                    colon,
                    has_more_colons: colons.next().is_some(),
                    next,
                })
            })
            .collect()
    }

    #[track_caller]
    fn check(bytes: &[u8]) {
        let lines: Vec<_> = Lines::new(bytes).collect();
        assert_eq!(lines, naive(bytes), "{}", bytes.escape_ascii());
        let feeds: Vec<_> = LineFeeds::new(bytes).map(|feed| feed + 1).collect();
        let ends: Vec<_> = lines.iter().map(|line| line.next).collect();
        assert_eq!(feeds, ends, "{}", bytes.escape_ascii());
    }

    #[test]
    fn lines_and_colons_at_every_place() {
        check(b"");
        check(b"\n");
        check(b"GET / HTTP/1.1\r\nHost: h:80\r\n\r\nbody: \nof");
        for length in 0..200 {
            for at in 0..length {
                for (one, other) in [(b"\n", b":"), (b":", b"\n"), (b"\n", b"\n"), (b":", b":")] {
                    let mut bytes = vec![b'x'; length];
                    bytes[at] = one[0];
                    bytes[length - 1] = other[0];
                    check(&bytes);
                    bytes.push(b'\n');
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
                        3..8 => (state >> 30) as u8,
                        _ => b'a',
                    }
                })
                .collect();
            check(&bytes);
            state = state.wrapping_add(77);
        }
    }
}
