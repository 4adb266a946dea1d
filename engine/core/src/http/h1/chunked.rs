//! The chunked transfer coding, undone by reference however the input is cut.
//!
//! ```text
//! chunk    = 1*HEXDIG [ ";" extensions ] CRLF data CRLF      RFC 9112 §7.1
//! last     = 1*"0" [ ";" extensions ] CRLF  *( trailer CRLF )  CRLF
//! ```
//!
//! Bare LF ends a line, blanks around the size are ignored. A size with a plus sign, with `0x`, or with other white space
//! before or behind it is read as some clients do, and is odd: receivers differ. A size beyond `i64::MAX`, an extension or trailer
//! part beyond its bound, or anything else in place of a size or of the line end after the data is [`Piece::Broken`].

use memchr::memchr;

use super::head::{LineState, find_end};
use crate::limits;

/// The decoder of one body.
#[derive(Clone, Debug)]
pub(in crate::http) struct Chunked {
    state: State,
    /// Of the chunk: as far as it was read in `Size`, still to come in `Data`.
    size: u64,
    /// Bytes of the current size line or of the trailers so far.
    line: usize,
    /// The first chunk has not begun.
    is_first: bool,
    is_odd: bool,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Before the first digit of a size.
    SizeStart,
    Size,
    /// After the size, up to LF.
    Extension,
    Data,
    DataEnd,
    DataEndLf,
    Trailers(LineState),
}

/// The next part of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) enum Piece<'a> {
    /// Body bytes.
    Data(&'a [u8]),
    /// The input is used up.
    More,
    /// The body is over; the input is what follows it.
    End,
    /// Not chunked coding; the input begins with the byte that is wrong.
    Broken,
}

impl Chunked {
    pub(super) fn new() -> Self {
        Self {
            state: State::SizeStart,
            size: 0,
            line: 0,
            is_first: true,
            is_odd: false,
        }
    }

    /// Whether receivers may differ in the sizes.
    pub(super) fn is_odd(&self) -> bool {
        self.is_odd
    }

    /// Whether the size of the first chunk is not complete.
    pub(super) fn is_at_first_size(&self) -> bool {
        self.is_first
    }

    /// Takes the next piece from the front of `input`.
    pub(in crate::http) fn next<'a>(&mut self, input: &mut &'a [u8]) -> Piece<'a> {
        while let Some((&byte, rest)) = input.split_first() {
            match self.state {
                State::Data => return Piece::Data(self.data(input)),
                State::Extension => match self.extension(input) {
                    Ok(()) => continue,
                    Err(piece) => return piece,
                },
                State::Trailers(state) => return self.trailers(state, input),
                State::SizeStart | State::Size => {
                    if !self.size_byte(byte) {
                        return Piece::Broken;
                    }
                }
                State::DataEnd if byte == b'\r' => self.state = State::DataEndLf,
                State::DataEnd | State::DataEndLf if byte == b'\n' => self.state = State::SizeStart,
                State::DataEnd | State::DataEndLf => return Piece::Broken,
            }
            *input = rest;
        }
        Piece::More
    }

    /// Skips `len` missing bytes if all of them were data of the current chunk, so that the framing is still known.
    pub(in crate::http) fn skip(&mut self, len: u64) -> bool {
        if !matches!(self.state, State::Data) || len > self.size {
            return false;
        }
        self.size -= len;
        if self.size == 0 {
            self.state = State::DataEnd;
        }
        true
    }

    /// Data bytes of the current chunk that are still to come.
    pub(in crate::http) fn remaining(&self) -> u64 {
        if matches!(self.state, State::Data) {
            self.size
        } else {
            0
        }
    }

    fn data<'a>(&mut self, input: &mut &'a [u8]) -> &'a [u8] {
        let length = usize::try_from(self.size)
            .unwrap_or(usize::MAX)
            .min(input.len());
        let (data, rest) = input.split_at_checked(length).unwrap_or((input, &[]));
        *input = rest;
        self.size -= data.len() as u64;
        if self.size == 0 {
            self.state = State::DataEnd;
        }
        data
    }

    /// Takes one byte of a size line; false if it does not belong there.
    fn size_byte(&mut self, byte: u8) -> bool {
        self.line += 1;
        let started = matches!(self.state, State::Size);
        match (byte, char::from(byte).to_digit(16)) {
            (_, Some(digit)) => {
                self.state = State::Size;
                self.size = self
                    .size
                    .saturating_mul(16)
                    .saturating_add(u64::from(digit));
                self.size <= i64::MAX as u64 && self.line <= limits::CHUNK_LINE_BYTES_MAX
            }
            (b' ' | b'\t', None) if !started => self.line <= limits::CHUNK_LINE_BYTES_MAX,
            (b' ' | b'\t' | b';' | b'\r', None) if started => {
                self.state = State::Extension;
                true
            }
            (b'\n', None) if started => {
                self.size_line_ended();
                true
            }
            _ => self.odd_size_byte(byte, started),
        }
    }

    /// Takes a byte of a size line that the grammar does not allow there and that some clients accept.
    #[cold]
    fn odd_size_byte(&mut self, byte: u8, started: bool) -> bool {
        self.is_odd = true;
        match byte {
            b'+' if !started => {}
            0x0b | 0x0c if !started => {}
            0x0b | 0x0c => self.state = State::Extension,
            // Of `0x5`.
            b'x' | b'X' if started && self.size == 0 => self.state = State::SizeStart,
            _ => return false,
        }
        self.line <= limits::CHUNK_LINE_BYTES_MAX
    }

    /// Skips an extension and its LF.
    fn extension<'a>(&mut self, input: &mut &'a [u8]) -> Result<(), Piece<'a>> {
        let end = memchr(b'\n', input);
        let taken = end.map_or(input.len(), |end| end + 1);
        self.line += taken;
        if self.line > limits::CHUNK_LINE_BYTES_MAX {
            return Err(Piece::Broken);
        }
        *input = input.get(taken..).unwrap_or_default();
        if end.is_none() {
            return Err(Piece::More);
        }
        self.size_line_ended();
        Ok(())
    }

    fn size_line_ended(&mut self) {
        self.line = 0;
        self.is_first = false;
        self.state = if self.size == 0 {
            State::Trailers(LineState::Empty)
        } else {
            State::Data
        };
    }

    /// Skips trailer fields up to the empty line.
    fn trailers<'a>(&mut self, mut state: LineState, input: &mut &'a [u8]) -> Piece<'a> {
        let end = find_end(input, &mut state);
        let taken = end.unwrap_or(input.len());
        self.line += taken;
        if self.line > limits::HEAD_BYTES_MAX {
            return Piece::Broken;
        }
        self.state = State::Trailers(state);
        *input = input.get(taken..).unwrap_or_default();
        if end.is_some() {
            Piece::End
        } else {
            Piece::More
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes `text` cut into pieces of `step` bytes: the body, how it ended, and what was left.
    fn decode(text: &[u8], step: usize) -> (Vec<u8>, &'static str, Vec<u8>) {
        let mut decoder = Chunked::new();
        let mut body = Vec::new();
        let mut at = 0;
        for mut input in text.chunks(step) {
            at += input.len();
            loop {
                match decoder.next(&mut input) {
                    Piece::Data(data) => body.extend_from_slice(data),
                    Piece::More => break,
                    Piece::End => return (body, "end", [input, &text[at..]].concat()),
                    Piece::Broken => return (body, "broken", [input, &text[at..]].concat()),
                }
            }
        }
        (body, "more", Vec::new())
    }

    #[track_caller]
    fn check(text: &[u8], body: &str, how: &str, left: &str) {
        for step in 1..=text.len() {
            let (got, end, rest) = decode(text, step);
            assert_eq!(
                (
                    String::from_utf8_lossy(&got).as_ref(),
                    end,
                    String::from_utf8_lossy(&rest).as_ref()
                ),
                (body, how, left),
                "pieces of {step} bytes"
            );
        }
    }

    #[test]
    fn bodies_at_every_cut() {
        check(b"5\r\nalpha\r\n0\r\n\r\nHTTP", "alpha", "end", "HTTP");
        check(b"5;ext=\"1\"\r\nalpha\r\n00;x\r\n\r\n", "alpha", "end", "");
        check(
            b" 00000000000000000000005 \r\nalpha\r\n0\r\n\r\n",
            "alpha",
            "end",
            "",
        );
        check(b"A\nalphaalpha\n0\n\nx", "alphaalpha", "end", "x");
        check(
            b"7\r\n0\r\n\r\nab\r\n0\r\nX-Sum: 5\r\nY: 6\r\n\r\nGET",
            "0\r\n\r\nab",
            "end",
            "GET",
        );
        check(b"2\r\nab\r\n", "ab", "more", "");
        check(b"2\r\nabc\r\n", "ab", "broken", "c\r\n");
        check(b"g\r\n", "", "broken", "g\r\n");
        check(b"\r\n", "", "broken", "\r\n");
        check(b"-1\r\n", "", "broken", "-1\r\n");
        check(
            b"+2\r\nab\r\n\x0b1\x0c\r\nc\r\n0x0\r\n\r\nX",
            "abc",
            "end",
            "X",
        );
        check(b"1x\r\na", "", "broken", "x\r\na");
        check(b"7fffffffffffffff\r\nab", "ab", "more", "");
        check(b"8000000000000000\r\nab", "", "broken", "0\r\nab");
    }

    #[test]
    fn bounds() {
        let extension = [
            b"5;".to_vec(),
            vec![b'x'; limits::CHUNK_LINE_BYTES_MAX],
            b"\r\nalpha".to_vec(),
        ]
        .concat();
        assert_eq!(decode(&extension, 1000).1, "broken");
        let trailers = [
            b"0\r\n".to_vec(),
            b"a: b\r\n".repeat(limits::HEAD_BYTES_MAX / 6 + 1),
        ]
        .concat();
        assert_eq!(decode(&trailers, 1000).1, "broken");
        let zeros = vec![b'0'; limits::CHUNK_LINE_BYTES_MAX + 1];
        assert_eq!(decode(&zeros, 1000).1, "broken");
    }

    #[test]
    fn a_loss_within_a_chunk_keeps_the_framing() {
        let mut decoder = Chunked::new();
        let mut input = &b"a\r\n012"[..];
        assert_eq!(decoder.next(&mut input), Piece::Data(b"012"));
        assert!(!decoder.skip(8), "more than the chunk has");
        assert!(decoder.skip(7));
        let mut input = &b"\r\n0\r\n\r\n"[..];
        assert_eq!(decoder.next(&mut input), Piece::End);
    }
}
