//! epoll: which sockets have become ready.
//!
//! A socket is entered once, for both directions and edge-triggered: it is reported when it becomes ready, not as long as it is.
//! So nothing is set before a wait. Whoever has found that a socket is not ready for an operation learns of the change, since that
//! comes after the attempt. Source: epoll(7), "Level-triggered and edge-triggered".
#![expect(unsafe_code, reason = "epoll has no safe interface in std")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

/// Events that one wait reports; further ones are reported by the next.
const EVENTS_MAX: usize = 64;

/// Descriptors that are watched.
#[derive(Debug)]
pub(super) struct ReadySet(OwnedFd);

/// What a wait reports.
pub(super) struct Events {
    events: Box<[libc::epoll_event]>,
    count: usize,
}

/// What a descriptor has become ready for; its end and its errors are found by reading and by writing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ready {
    pub(super) fd: RawFd,
    pub(super) readable: bool,
    pub(super) writable: bool,
}

impl ReadySet {
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: takes no pointers.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call succeeded, so `fd` is open and nobody else owns it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Reports when `fd` becomes readable or writable, each time once. To be taken out before it is closed.
    pub(super) fn add_stream(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        let both = libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET;
        self.control(libc::EPOLL_CTL_ADD, fd, both)
    }

    /// Reports `fd` as long as it is readable.
    pub(super) fn add_event(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, libc::EPOLLIN)
    }

    pub(super) fn remove(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd, 0)
    }

    fn control(
        &self,
        action: libc::c_int,
        fd: BorrowedFd<'_>,
        events: libc::c_int,
    ) -> io::Result<()> {
        let fd = fd.as_raw_fd();
        let mut event = libc::epoll_event {
            events: events.cast_unsigned(),
            u64: u64::from(fd.cast_unsigned()),
        };
        // SAFETY: the pointer is that of `event`, which outlives the call; the kernel keeps a copy.
        let done = unsafe { libc::epoll_ctl(self.0.as_raw_fd(), action, fd, &raw mut event) };
        if done < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// Waits until something is ready or `timeout` is over.
    ///
    /// An interrupted wait goes on with the rest of the time. That is not only a signal: work that the kernel does in this thread for an
    /// io_uring that was closed interrupts a wait too (`task_work_add` with `TWA_SIGNAL`, io_uring/io_uring.c).
    pub(super) fn wait(&self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        let begun = Instant::now();
        let mut rest = timeout;
        loop {
            match self.wait_once(events, rest) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    rest = timeout.map(|timeout| timeout.saturating_sub(begun.elapsed()));
                }
                result => return result,
            }
        }
    }

    fn wait_once(&self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        // Milliseconds, rounded up: a timer that is not over yet would be waited for again and again.
        let millis = timeout.map_or(-1, |timeout| {
            i32::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX)
        });
        events.count = 0;
        // SAFETY: the pointer and the length are those of `events.events`, which outlives the call.
        let found = unsafe {
            libc::epoll_wait(
                self.0.as_raw_fd(),
                events.events.as_mut_ptr(),
                events.events.len() as libc::c_int,
                millis,
            )
        };
        events.count = usize::try_from(found).map_err(|_| io::Error::last_os_error())?;
        Ok(())
    }
}

impl Events {
    pub(super) fn new() -> Self {
        Self {
            events: vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS_MAX].into(),
            count: 0,
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Ready> {
        let events = self.events.iter().take(self.count);
        events.map(|event| {
            let (events, key) = (event.events, event.u64);
            let has = |flags: libc::c_int| events & flags.cast_unsigned() != 0;
            let is_over = has(libc::EPOLLHUP | libc::EPOLLERR);
            Ready {
                fd: key as RawFd,
                readable: is_over || has(libc::EPOLLIN | libc::EPOLLRDHUP),
                writable: is_over || has(libc::EPOLLOUT),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::fd::AsFd as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_change_is_reported_once() {
        let (mut here, mut there) = UnixStream::pair().unwrap();
        let (set, mut events) = (ReadySet::new().unwrap(), Events::new());
        set.add_stream(here.as_fd()).unwrap();
        let mut found = |timeout: u64| -> Vec<(bool, bool)> {
            set.wait(&mut events, Some(Duration::from_micros(timeout)))
                .unwrap();
            let found = events.iter().map(|ready| (ready.readable, ready.writable));
            found.collect()
        };
        assert_eq!(found(1), [(false, true)], "as it was entered");
        assert_eq!(found(1), []);
        there.write_all(b"a").unwrap();
        assert_eq!(found(1_000_000), [(true, true)]);
        assert_eq!(found(1), [], "it was reported");
        there.write_all(b"b").unwrap();
        assert_eq!(found(1_000_000), [(true, true)], "something new");
        assert_eq!(here.read(&mut [0; 8]).unwrap(), 2);
        drop(there);
        assert!(found(1_000_000)[0].0, "the end");
        set.remove(here.as_fd()).unwrap();
        assert_eq!(found(1), []);
    }
}
