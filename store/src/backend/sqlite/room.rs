//! Bytes of lines that all searches of this process hold at a time.
//!
//! A search takes room for the lines of a batch before it reads them, and gives it back behind them. It holds nothing else for
//! which another search waits, so each gets its turn.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::limits::SEARCH_BYTES_MAX;

/// The room of all searches.
pub(super) static SEARCHES: Room = Room::new(SEARCH_BYTES_MAX);

/// An amount of bytes for which threads wait.
#[derive(Debug)]
pub(super) struct Room {
    all: usize,
    taken: Mutex<usize>,
    freed: Condvar,
}

/// Bytes that are taken, free again when dropped.
#[derive(Debug)]
pub(super) struct Taken<'a> {
    room: &'a Room,
    bytes: usize,
}

impl Room {
    const fn new(bytes: usize) -> Self {
        Self {
            all: bytes,
            taken: Mutex::new(0),
            freed: Condvar::new(),
        }
    }

    /// Waits until so many bytes are free. What is more than all of them waits for all of them.
    pub(super) fn take(&self, bytes: usize) -> Taken<'_> {
        let bytes = bytes.min(self.all);
        let is_full = |taken: &mut usize| *taken > self.all - bytes;
        let waited = self.freed.wait_while(self.taken(), is_full);
        *waited.unwrap_or_else(PoisonError::into_inner) += bytes;
        Taken { room: self, bytes }
    }

    fn taken(&self) -> MutexGuard<'_, usize> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        *self.room.taken() -= self.bytes;
        self.room.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn no_more_is_taken_than_there_is_and_everybody_gets_a_turn() {
        let room = Room::new(100);
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let (room, now, most) = (&room, &now, &most);
                scope.spawn(move || {
                    for round in 0..200 {
                        let bytes = 1 + (thread * 37 + round * 13) % 150;
                        let taken = room.take(bytes);
                        let held = now.fetch_add(taken.bytes, Ordering::Relaxed) + taken.bytes;
                        most.fetch_max(held, Ordering::Relaxed);
                        std::thread::yield_now();
                        now.fetch_sub(taken.bytes, Ordering::Relaxed);
                    }
                });
            }
        });
        let most = most.into_inner();
        assert!((1..=100).contains(&most), "{most}");
        assert_eq!(*room.taken(), 0);
    }
}
