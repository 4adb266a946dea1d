//! The spare capacity of a vector, written in words of 16 bytes of which only the first count.
#![expect(
    unsafe_code,
    reason = "declares memory written, so that it need not be cleared first"
)]

use std::mem::MaybeUninit;

/// Bytes of one step.
pub(crate) const STEP_BYTES: usize = 16;

/// Most steps that are written at a time.
const STEPS: usize = 2;

/// Bytes that these may become and overwrite: a power of two, so that the compiler can prove every index valid.
const WINDOW_BYTES: usize = 128;

/// The free memory of one vector.
pub(crate) struct Free<'o> {
    bytes: &'o mut [MaybeUninit<u8>],
    /// How many of its bytes count. Each of them was written: only [`Self::put`] and [`Self::copy`] advance it.
    written: usize,
}

/// Reserves capacity for `bytes` more bytes and the excess of the last word.
#[inline]
pub(crate) fn reserve(out: &mut Vec<u8>, bytes: usize) {
    out.reserve(bytes + WINDOW_BYTES);
}

/// How many bytes after a vector's end were written.
#[must_use]
pub(crate) struct Written(usize);

impl<'o> Free<'o> {
    /// The spare capacity of `out`, which [`reserve`] made.
    #[inline]
    pub(crate) fn behind(out: &'o mut Vec<u8>) -> Self {
        Self {
            bytes: out.spare_capacity_mut(),
            written: 0,
        }
    }

    /// Writes `bytes` as they are.
    #[inline]
    pub(crate) fn copy(&mut self, bytes: &[u8]) {
        let free = self.bytes.get_mut(self.written..);
        let Some(place) = free.and_then(|free| free.get_mut(..bytes.len())) else {
            debug_assert!(false, "no room was made");
            return;
        };
        place.write_copy_of_slice(bytes);
        self.written += bytes.len();
    }

    /// Writes words one after the other; the first `count` bytes of each, at most 16, are text. No more words than two
    /// steps have.
    #[inline(always)]
    pub(crate) fn put<const WORDS: usize>(&mut self, words: [([u8; STEP_BYTES], usize); WORDS]) {
        const { assert!(WORDS <= 2 * STEPS && 2 * STEPS * STEP_BYTES + STEP_BYTES <= WINDOW_BYTES) };
        let free = self.bytes.get_mut(self.written..);
        let Some(window) = free.and_then(|free| free.first_chunk_mut::<WINDOW_BYTES>()) else {
            debug_assert!(false, "no room was made");
            return;
        };
        let mut at = 0;
        for (word, count) in words {
            if let Some(place) = window.get_mut(at..at + STEP_BYTES) {
                place.write_copy_of_slice(&word);
                at += count.min(STEP_BYTES);
            }
        }
        self.written += at;
    }

    /// Discards the last `count` bytes.
    #[inline]
    pub(crate) fn take_back(&mut self, count: usize) {
        self.written = self.written.saturating_sub(count);
    }

    /// How much was written.
    pub(crate) fn written(self) -> Written {
        Written(self.written)
    }
}

/// Extends `out` by what was written.
///
/// # Safety
///
/// `written` comes from a [`Free`] behind `out`, which was not changed since.
#[inline]
pub(crate) unsafe fn settle(out: &mut Vec<u8>, written: Written) {
    let len = out.len() + written.0;
    // SAFETY: `put` found place for all 16 bytes of a word within the capacity and advanced over no more than these, and
    // `copy` advanced over what it wrote, so all bytes up to `len` are initialised and within the capacity. The caller guarantees that they are of this vector.
    unsafe { out.set_len(len) };
}
