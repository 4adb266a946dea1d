//! Memory for what cannot be read by reference: heads and lines that do not lie in one piece.

use crate::limits::HEAD_SHARE_BYTES_MIN;

/// Buffers for heads and lines, shared by the flows of a shard.
#[derive(Debug)]
pub(super) struct Buffers {
    spare: Vec<Vec<u8>>,
    /// Memory of buffers in use.
    held: usize,
    /// How many are in use.
    in_use: usize,
    max: usize,
}

/// Emptied buffers kept; more are freed.
const SPARE_BUFFERS_MAX: usize = 64;
/// A larger buffer is freed instead of kept.
const SPARE_BUFFER_BYTES_MAX: usize = 64 * 1024;

impl Buffers {
    /// No buffer yet; together they may hold `max` bytes.
    pub(super) fn new(max: usize) -> Self {
        Self {
            spare: Vec::new(),
            held: 0,
            in_use: 0,
            max,
        }
    }

    /// Memory of buffers in use, in bytes.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Adds `bytes` to `buffer`. False, and nothing is added, when the shard holds too many.
    #[must_use]
    pub(super) fn append(&mut self, buffer: &mut Vec<u8>, bytes: &[u8]) -> bool {
        let before = buffer.capacity();
        let share = (self.max / 4 / self.in_use.max(1)).max(HEAD_SHARE_BYTES_MIN);
        let crowded = self.held > self.max / 2 && buffer.len() + bytes.len() > share;
        let needed = buffer.len() + bytes.len();
        // A vector that grows doubles.
        let grown = if needed > before {
            needed.max(2 * before)
        } else {
            before
        };
        if crowded || self.held + grown - before > self.max {
            return false;
        }
        if before == 0 {
            *buffer = self.spare.pop().unwrap_or_default();
            self.in_use += 1;
        }
        buffer.extend_from_slice(bytes);
        self.held += buffer.capacity() - before;
        true
    }

    /// Counts memory that is held elsewhere, after it has grown from `before` to `now` bytes. False, and nothing is counted,
    /// when the shard holds too many.
    #[must_use]
    pub(super) fn hold(&mut self, before: usize, now: usize) -> bool {
        let is_granted = self.may_hold(before, now);
        if is_granted {
            self.count(before, now);
        }
        is_granted
    }

    /// Whether memory that is held elsewhere may grow from `before` to `now` bytes.
    pub(super) fn may_hold(&self, before: usize, now: usize) -> bool {
        let share = (self.max / 4 / self.in_use.max(1)).max(HEAD_SHARE_BYTES_MIN);
        let crowded = self.held > self.max / 2 && now > share;
        now <= before || (!crowded && self.held + now - before <= self.max)
    }

    /// Counts memory that is held elsewhere, and was bounded there.
    pub(super) fn count(&mut self, before: usize, now: usize) {
        self.held = (self.held + now).saturating_sub(before);
    }

    /// Memory that was held elsewhere is freed.
    pub(super) fn let_go(&mut self, held: usize) {
        self.held = self.held.saturating_sub(held);
    }

    /// Removes the first `count` bytes of `buffer`.
    pub(super) fn drop_front(&mut self, buffer: &mut Vec<u8>, count: usize) {
        let count = count.min(buffer.len());
        buffer.drain(..count);
    }

    /// Takes the memory of `buffer` back, and leaves it empty.
    pub(super) fn release(&mut self, buffer: &mut Vec<u8>) {
        let mut buffer = std::mem::take(buffer);
        self.in_use = self
            .in_use
            .saturating_sub(usize::from(buffer.capacity() > 0));
        self.held = self.held.saturating_sub(buffer.capacity());
        buffer.clear();
        let fits = (1..=SPARE_BUFFER_BYTES_MAX).contains(&buffer.capacity());
        if fits && self.spare.len() < SPARE_BUFFERS_MAX {
            self.spare.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_go_round_and_are_bounded() {
        let mut buffers = Buffers::new(1000);
        let mut first = Vec::new();
        assert!(buffers.append(&mut first, b"some bytes"));
        buffers.drop_front(&mut first, 5);
        assert_eq!(first, b"bytes");
        assert_eq!(buffers.held(), first.capacity(), "memory counts");
        let memory = first.as_ptr();
        buffers.release(&mut first);
        assert_eq!((buffers.held(), first.capacity()), (0, 0));
        let mut second = Vec::new();
        assert!(buffers.append(&mut second, b"x"));
        assert_eq!(second.as_ptr(), memory, "the same memory again");
        let large = vec![0; 1000];
        assert!(!buffers.append(&mut second, &large), "one byte too many");
        assert_eq!(second, b"x");
    }
}
