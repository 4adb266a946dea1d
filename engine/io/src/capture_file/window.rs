//! A sliding window over the file: as many bytes at a time as a header or packet needs, in one piece.

use std::io::{self, Cursor, ErrorKind, Read};

use super::error::Cause;

/// Bytes read at once, unless another number is given. The window grows beyond it only for a longer packet.
pub(super) const WINDOW_BYTES: usize = 256 * 1024;

/// The bytes of the file from the current block or record on.
pub(super) struct Window {
    input: Box<dyn Read>,
    buffer: Vec<u8>,
    /// Bytes that are read and not consumed: `buffer[start..end]`.
    start: usize,
    end: usize,
    /// Bytes that the caller borrows, consumed before the next packet.
    borrowed: usize,
    /// Bytes to consume before anything else is looked at, most of which are not in the window yet.
    skipped: u64,
    /// Bytes consumed from the file so far.
    position: u64,
    /// A compressed stream ended before its end: what was decoded still counts.
    cut: bool,
}

impl Window {
    pub(super) fn new(input: Box<dyn Read>, bytes: usize) -> Self {
        Self {
            input,
            buffer: vec![0; bytes],
            start: 0,
            end: 0,
            borrowed: 0,
            skipped: 0,
            position: 0,
            cut: false,
        }
    }

    /// Puts a decoder between the input and the window, which starts anew with what it decodes.
    pub(super) fn decode(
        &mut self,
        decoder: impl FnOnce(Box<dyn Read>) -> io::Result<Box<dyn Read>>,
    ) -> Result<(), Cause> {
        let read = self.buffer.get(self.start..self.end).unwrap_or_default();
        let read = Cursor::new(read.to_vec());
        let input = std::mem::replace(&mut self.input, Box::new(io::empty()));
        (self.start, self.end) = (0, 0);
        self.input = decoder(Box::new(read.chain(input))).map_err(|error| Cause::Read {
            packets: 0,
            at: 0,
            error,
        })?;
        Ok(())
    }

    /// Whether a compressed stream was found to end before its end.
    pub(super) fn is_cut(&self) -> bool {
        self.cut
    }

    /// Where the window starts in the (decompressed) file.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// The next bytes: `len`, or fewer at the end of the file.
    pub(super) fn peek(&mut self, len: usize) -> Result<&[u8], Cause> {
        if self.skipped > 0 {
            self.skip()?;
        }
        if self.end - self.start < len {
            self.fill(len)?;
        }
        let there = (self.end - self.start).min(len);
        Ok(self
            .buffer
            .get(self.start..self.start + there)
            .unwrap_or_default())
    }

    /// The next `len` bytes; `None` at the end of the file, an error if only some of them are there.
    pub(super) fn need(&mut self, len: usize) -> Result<Option<&[u8]>, Cause> {
        match self.peek(len)? {
            [] => Ok(None),
            bytes if bytes.len() < len => Err(Cause::Cut { packets: 0 }),
            bytes => Ok(Some(bytes)),
        }
    }

    /// The next `len` bytes, which must be there according to the bytes before them.
    pub(super) fn must(&mut self, len: usize) -> Result<&[u8], Cause> {
        self.need(len)?.ok_or(Cause::Cut { packets: 0 })
    }

    /// Borrows part of a block of `total` bytes in the window; [`Self::release`] consumes the block.
    pub(super) fn borrow(&mut self, start: usize, len: usize, total: usize) -> &[u8] {
        self.borrowed = total;
        let from = self.start + start;
        self.buffer.get(from..from + len).unwrap_or_default()
    }

    /// Consumes the block that was borrowed.
    pub(super) fn release(&mut self) {
        let borrowed = std::mem::take(&mut self.borrowed);
        self.consume(borrowed);
    }

    /// Consumes bytes that are in the window.
    pub(super) fn consume(&mut self, len: usize) {
        debug_assert!(
            self.start + len <= self.end,
            "only what was seen can be consumed"
        );
        self.start = (self.start + len).min(self.end);
        self.position += len as u64;
    }

    /// Consumes any number of bytes without keeping them. Those that cannot be read yet are consumed before the next
    /// look at the window.
    pub(super) fn discard(&mut self, len: u64) -> Result<(), Cause> {
        self.skipped += len;
        self.skip()
    }

    fn skip(&mut self) -> Result<(), Cause> {
        while self.skipped > 0 {
            if self.start == self.end {
                self.fill(1)?;
            }
            let there = self.end - self.start;
            if there == 0 {
                return Err(Cause::Cut { packets: 0 });
            }
            let step = usize::try_from(self.skipped).map_or(there, |left| left.min(there));
            self.consume(step);
            self.skipped -= step as u64;
        }
        Ok(())
    }

    /// Reads until `len` bytes are there or the file ends.
    fn fill(&mut self, len: usize) -> Result<(), Cause> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.buffer.len() < len {
            self.buffer.resize(len, 0);
        }
        while self.end < len {
            if self.cut {
                return if self.end == 0 {
                    Err(Cause::Cut { packets: 0 })
                } else {
                    Ok(())
                };
            }
            match self
                .input
                .read(self.buffer.get_mut(self.end..).unwrap_or_default())
            {
                Ok(0) => return Ok(()),
                Ok(count) => self.end += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => self.cut = true,
                Err(error) => {
                    return Err(Cause::Read {
                        packets: 0,
                        at: self.position,
                        error,
                    });
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives one byte at a time, as a slow pipe may.
    struct Drip(std::vec::IntoIter<u8>);

    impl Read for Drip {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            Ok(self.0.next().map_or(0, |byte| {
                buffer[0] = byte;
                1
            }))
        }
    }

    #[test]
    fn waits_for_whole_pieces() {
        let bytes: Vec<u8> = (0..=255).cycle().take(WINDOW_BYTES + 1000).collect();
        let mut window = Window::new(Box::new(Drip(bytes.clone().into_iter())), WINDOW_BYTES);
        assert_eq!(window.need(3).unwrap(), Some(&bytes[..3]));
        window.consume(2);
        assert_eq!(window.need(3).unwrap(), Some(&bytes[2..5]));
        window.discard(WINDOW_BYTES as u64).unwrap();
        assert_eq!(window.position(), WINDOW_BYTES as u64 + 2);
        window.must(4).unwrap();
        assert_eq!(
            window.borrow(1, 2, 4),
            &bytes[WINDOW_BYTES + 3..WINDOW_BYTES + 5]
        );
        window.release();
        assert!(matches!(window.need(1000), Err(Cause::Cut { .. })));
        window.discard(994).unwrap();
        assert!(matches!(window.need(1), Ok(None)));
        assert!(matches!(window.must(1), Err(Cause::Cut { .. })));
    }
}
