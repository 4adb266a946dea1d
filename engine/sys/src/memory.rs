//! The allocator of this process, mimalloc, and what it does with memory that was freed.
#![expect(unsafe_code, reason = "mimalloc has no safe interface for its options")]

use std::ffi::{c_int, c_long};

// Linked by this, also where another allocator is in use.
use libmimalloc_sys as _;

/// `mi_option_purge_delay` of mimalloc.h.
const PURGE_DELAY: c_int = 15;

unsafe extern "C" {
    fn mi_option_set(option: c_int, value: c_long);
}

/// From now on whole pages that are freed go back to the kernel after so many milliseconds, at once if that is 0, instead of
/// after a second. That costs time where they are needed again soon, and is for a process whose need comes and goes.
pub fn give_back_after(milliseconds: u16) {
    // SAFETY: sets an atomic integer in the allocator's own table, of which the option is a valid index; at any time, in any thread.
    unsafe { mi_option_set(PURGE_DELAY, c_long::from(milliseconds)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    unsafe extern "C" {
        fn mi_option_get(option: c_int) -> c_long;
    }

    fn gives_back_after() -> c_long {
        // SAFETY: reads the integer that is set above.
        unsafe { mi_option_get(PURGE_DELAY) }
    }

    #[test]
    fn the_option_is_the_one_of_purging() {
        // No other option has this value to begin with.
        assert_eq!(gives_back_after(), 1000);
        give_back_after(7);
        assert_eq!(gives_back_after(), 7);
    }
}
