//! Sleeping until one of several rings has a block, or an event needs the thread.
#![expect(unsafe_code, reason = "poll(2) has no safe interface in std")]

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use libc::{POLLERR, POLLHUP, POLLIN, POLLNVAL, nfds_t, pollfd};

use super::ring::RxRing;
use crate::event::EventFd;

/// Why a wait ended; all false: the time was over, or a signal came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Woken {
    /// At least one ring has a block.
    pub blocks: bool,
    /// At least one ring has trouble: [`RxRing::trouble`] of each shows which.
    pub trouble: bool,
    /// The event was set; it is reset now.
    pub event: bool,
}

/// Waits on rings; keeps its list, so a wait allocates nothing once it has run.
#[derive(Debug, Default)]
pub struct Waiter {
    polled: Vec<pollfd>,
}

impl Waiter {
    /// A waiter with an empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sleeps until a ring has a block or trouble, `event` is set, or `timeout` is over.
    ///
    /// A ring whose interface was deleted reports trouble once; leave it out of later waits.
    pub fn wait<'ring>(
        &mut self,
        rings: impl IntoIterator<Item = &'ring RxRing>,
        event: &EventFd,
        timeout: Duration,
    ) -> io::Result<Woken> {
        self.polled.clear();
        self.polled.push(pollfd {
            fd: event.as_fd().as_raw_fd(),
            events: POLLIN,
            revents: 0,
        });
        // POLLERR is always reported.
        let fds = rings.into_iter().map(|ring| pollfd {
            fd: ring.as_fd().as_raw_fd(),
            events: POLLIN,
            revents: 0,
        });
        self.polled.extend(fds);

        let timeout = i32::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX);
        // SAFETY: the pointer and the count are those of a vector that outlives the call; `event` and the rings are
        // borrowed, so the descriptors stay open.
        let ready = unsafe {
            libc::poll(
                self.polled.as_mut_ptr(),
                self.polled.len() as nfds_t,
                timeout,
            )
        };
        if ready < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::Interrupted {
                Ok(Woken::default())
            } else {
                Err(error)
            };
        }

        let Some((first, rings)) = self.polled.split_first() else {
            return Ok(Woken::default());
        };
        let woken = Woken {
            blocks: rings.iter().any(|polled| polled.revents & POLLIN != 0),
            trouble: rings
                .iter()
                .any(|polled| polled.revents & (POLLERR | POLLHUP | POLLNVAL) != 0),
            event: first.revents & POLLIN != 0,
        };
        if woken.event {
            event.reset();
        }
        Ok(woken)
    }
}
