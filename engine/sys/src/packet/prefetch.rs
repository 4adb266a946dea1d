//! Bytes that are about to be read, brought nearer to the processor that will.
//!
//! Frames lie where another core has written them, so the first read of each line of a block waits for that core's cache:
//! some 100 ns. Asking for the next frames while one is worked on hides most of it.
#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "the hint takes a pointer")
)]

/// Bytes of one line of the cache.
const LINE_BYTES: usize = 64;

/// So far ahead of the frame at hand: two frames of calls, seven without payload. More does not fit into what a core can
/// wait for at a time.
const AHEAD_BYTES: usize = 1024;

/// The part of a block that was prefetched already.
#[derive(Clone, Debug, Default)]
pub(super) struct Prefetch {
    until: usize,
}

impl Prefetch {
    /// The next frame begins at `at` of `block`.
    #[inline]
    pub(super) fn look_ahead(&mut self, block: &[u8], at: usize) {
        let until = at.saturating_add(AHEAD_BYTES).min(block.len());
        let from = self.until.max(at);
        let lines = block.get(from..until).unwrap_or_default();
        lines.iter().step_by(LINE_BYTES).for_each(ask_for);
        self.until = self.until.max(until);
    }
}

/// Begins to load the line that `byte` is in. Elsewhere than on x86-64 nothing is done: the language has no such
/// instruction yet.
#[inline]
fn ask_for(byte: &u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint that reads nothing for the program and cannot fault; the address is that of a reference.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(byte).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = byte;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Any offset is valid: nothing outside of the block is prefetched.
    #[test]
    fn no_place_is_wrong() {
        let block = vec![0; 5000];
        let mut prefetch = Prefetch::default();
        for (at, until) in [
            (0, 1024),
            (100, 1124),
            (50, 1124),
            (3000, 4024),
            (4500, 5000),
            (4999, 5000),
            (5000, 5000),
            (usize::MAX, 5000),
        ] {
            prefetch.look_ahead(&block, at);
            assert_eq!(prefetch.until, until);
        }
    }
}
