//! Buffers for bytes that cannot be delivered yet: sizes in powers of two, recycled, charged to one budget.
//!
//! What waits in them waits for bytes that may still come; [`Patience`] is how long.
//!
//! A buffer counts with its capacity, not with its content, so one-byte segments out of order are charged the memory
//! that they really take.

use std::time::Duration;

use crate::limits::{REORDER_GRACE, REORDER_SEGMENTS_MAX};

/// Smallest buffer, in bytes.
const SMALLEST: usize = 256;
/// Sizes 256 B to 64 KiB; a larger buffer (no IP packet needs one) is not recycled.
const CLASSES: usize = 9;
/// Bytes of free buffers kept per size.
const SPARE_BYTES: usize = 256 * 1024;
/// Bytes that a queued range takes in addition to its buffer.
const RANGE_BYTES: usize = 96;

/// How long bytes that the peer has acknowledged may still be captured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// Packet time.
    pub(super) grace: Duration,
    /// Segments of the flow.
    pub(super) segments: u32,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            grace: REORDER_GRACE,
            segments: REORDER_SEGMENTS_MAX,
        }
    }
}

impl Patience {
    /// Copies of segments come as late as `grace`. Its segments do not bound that: time alone does, and what waits has
    /// bounds of its own.
    pub(super) const fn for_copies(grace: Duration) -> Self {
        Self {
            grace,
            segments: u32::MAX,
        }
    }
}

/// Recycled buffers, the sums over those in use, and how long they may be in use.
#[derive(Default)]
pub(super) struct Pool {
    pub(super) patience: Patience,
    spare: [Vec<Vec<u8>>; CLASSES],
    charged: usize,
    payload: u64,
}

/// The size class that holds `len` bytes, and its size.
fn class_of(len: usize) -> (usize, usize) {
    let size = len.next_power_of_two().max(SMALLEST);
    ((size / SMALLEST).trailing_zeros() as usize, size)
}

/// What a buffer of this capacity counts against bounds.
pub(super) fn charge(buffer: &Vec<u8>) -> usize {
    buffer.capacity() + RANGE_BYTES
}

impl Pool {
    /// Bytes occupied by buffers in use.
    pub(super) fn charged(&self) -> usize {
        self.charged
    }

    /// Payload bytes in buffers in use.
    pub(super) fn payload(&self) -> u64 {
        self.payload
    }

    /// Shortens a buffer in use; returns the number of bytes dropped.
    pub(super) fn cut(&mut self, buffer: &mut Vec<u8>, keep: usize) -> u64 {
        let dropped = buffer.len().saturating_sub(keep) as u64;
        buffer.truncate(keep);
        self.payload -= dropped;
        dropped
    }

    /// A buffer with a copy of `bytes`.
    pub(super) fn copy(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut buffer = if bytes.is_empty() {
            Vec::new()
        } else {
            let (class, size) = class_of(bytes.len());
            self.spare
                .get_mut(class)
                .and_then(Vec::pop)
                .unwrap_or_else(|| Vec::with_capacity(size))
        };
        buffer.extend_from_slice(bytes);
        self.charged += charge(&buffer);
        self.payload += bytes.len() as u64;
        buffer
    }

    /// Takes a buffer back.
    pub(super) fn give(&mut self, mut buffer: Vec<u8>) {
        self.charged = self.charged.saturating_sub(charge(&buffer));
        self.payload -= buffer.len() as u64;
        let (class, size) = class_of(buffer.capacity());
        if buffer.capacity() != size {
            return;
        }
        if let Some(spare) = self.spare.get_mut(class)
            && spare.len() < SPARE_BYTES / size
        {
            buffer.clear();
            spare.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(len: usize, size: usize) {
        let mut pool = Pool::default();
        let buffer = pool.copy(&vec![1; len]);
        assert_eq!(buffer.len(), len);
        assert_eq!(pool.charged(), size + RANGE_BYTES);
        let at = buffer.as_ptr();
        pool.give(buffer);
        assert_eq!(pool.charged(), 0);
        let again = pool.copy(&vec![2; len]);
        assert_eq!(again, vec![2; len]);
        assert!(len == 0 || len > 65536 || again.as_ptr() == at, "recycled");
    }

    #[test]
    fn buffers_are_charged_by_size_and_come_back() {
        check(0, 0);
        check(1, 256);
        check(256, 256);
        check(257, 512);
        check(1460, 2048);
        check(65535, 65536);
        check(65536, 65536);
        check(100_000, 131_072);
    }
}
