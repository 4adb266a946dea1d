//! An eventfd: one thread wakes another that waits in the kernel.
#![expect(unsafe_code, reason = "eventfd(2) has no safe interface in std")]

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

/// A flag that a wait in the kernel can see. Set from any thread; waited for by one.
#[derive(Debug)]
pub struct EventFd(File);

impl EventFd {
    /// A flag that is not set.
    pub fn new() -> io::Result<Self> {
        // SAFETY: takes no pointers.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call succeeded, so `fd` is open and nobody else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self(File::from(fd)))
    }

    /// Sets the flag. Setting it twice is setting it once.
    pub fn set(&self) {
        // The only failure is a counter that is full, which is a flag that is set.
        let _ = (&self.0).write(&1_u64.to_ne_bytes());
    }

    /// Resets the flag; returns whether it was set.
    pub fn reset(&self) -> bool {
        let mut count = [0; 8];
        matches!((&self.0).read(&mut count), Ok(8))
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_twice_is_set_once() {
        let event = EventFd::new().unwrap();
        assert!(!event.reset());
        event.set();
        event.set();
        assert!(event.reset());
        assert!(!event.reset());
    }
}
