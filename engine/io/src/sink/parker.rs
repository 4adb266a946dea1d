//! How one thread sleeps in the kernel until another has something for it, without a lock and without a lost wake-up.
//!
//! The sleeper announces that it is about to sleep, looks for work once more, and sleeps; a thread that made work and
//! finds it asleep wakes it by an eventfd. So a busy sleeper costs the other one load, and an idle one a system call.
//!
//! `engine/io/tests/wake_up.rs` takes this file through all orders in which threads and memory may do that.

use std::io;

use super::sync::{Arc, AtomicBool, EventFd, Ordering, fence};

/// Lets one thread sleep until others have something for it.
pub struct Parker {
    parked: AtomicBool,
    event: Arc<EventFd>,
}

impl Parker {
    /// For a thread that is awake.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            parked: AtomicBool::new(false),
            event: Arc::new(EventFd::new()?),
        })
    }

    /// What ends the sleep in the kernel.
    pub fn event(&self) -> Arc<EventFd> {
        self.event.clone()
    }

    /// Announces that the caller is about to sleep. It must look for work once more before it does.
    pub fn prepare(&self) {
        // All changes of the flag read what they change: so they have one order, whatever a processor or a compiler does.
        self.parked.swap(true, Ordering::AcqRel);
        // With the fence in `unpark`: either we see the work, or its maker sees that we are parked.
        fence(Ordering::SeqCst);
    }

    /// Announces that the caller is awake.
    pub fn awake(&self) {
        self.parked.swap(false, Ordering::AcqRel);
    }

    /// Wakes the sleeper if it sleeps; it sees what was made before.
    pub fn unpark(&self) {
        fence(Ordering::SeqCst);
        if self.parked.load(Ordering::Relaxed) && self.parked.swap(false, Ordering::AcqRel) {
            self.event.set();
        }
    }
}
