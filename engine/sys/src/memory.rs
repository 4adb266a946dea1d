//! Memory of this process: what its allocator, mimalloc, does with what was freed, and huge pages.
#![expect(
    unsafe_code,
    reason = "mimalloc has no safe interface for its options, and prctl(2) none in std"
)]

use std::ffi::{c_int, c_long, c_ulong};
use std::io;

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

/// From now on this process, and those that it starts, get no transparent huge pages (prctl(2), `PR_SET_THP_DISABLE`).
///
/// The allocator asks for them, and the kernel then makes whole ones of areas of which most was given back: memory that nobody uses.
/// They save time where much memory is looked at all the time.
pub fn without_huge_pages() -> io::Result<()> {
    let (on, unused): (c_ulong, c_ulong) = (1, 0);
    // SAFETY: PR_SET_THP_DISABLE takes integers and touches no memory.
    let result = unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, on, unused, unused, unused) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
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
