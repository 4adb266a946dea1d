//! From shard to uploader and back without a lock: a queue of full bundles, one of emptied buffers.
//!
//! The uploader says that it is about to sleep, looks once more, and sleeps in the kernel; a shard that finds it asleep
//! wakes it by an eventfd. So a busy uploader costs a shard one load per bundle, and an idle one a system call.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};

use engine_core::bundle::Bundle;
use engine_sys::event::EventFd;
use rtrb::{Consumer, Producer, RingBuffer};

use crate::limits;

/// The shard's end.
pub struct Outbox {
    bundles: Producer<Bundle>,
    empties: Consumer<Vec<u8>>,
    /// Calls handed over since the start; written here alone.
    handed: Arc<AtomicU64>,
    /// How full the uploader's queue is, as the bits of a share; written by the uploader alone.
    queue: Arc<AtomicU32>,
    parker: Arc<Parker>,
}

impl Outbox {
    /// Hands a bundle to the uploader; gives it back when the queue is full or the uploader has ended.
    pub fn push(&mut self, bundle: Bundle) -> Result<(), Bundle> {
        if self.bundles.is_abandoned() || self.bundles.is_full() {
            return Err(bundle);
        }
        let calls = u64::from(bundle.calls);
        // Counted before it can be taken, so that a reader never sees more delivered than handed over.
        self.handed.store(
            self.handed.load(Ordering::Relaxed) + calls,
            Ordering::Release,
        );
        let pushed = self.bundles.push(bundle);
        if let Err(rtrb::PushError::Full(bundle)) = pushed {
            self.handed.store(
                self.handed.load(Ordering::Relaxed) - calls,
                Ordering::Release,
            );
            return Err(bundle);
        }
        self.parker.unpark();
        Ok(())
    }

    /// How full the way to the collector is, 0 to 1: this queue, or the uploader's own, whichever has less room.
    pub fn fill(&self) -> f32 {
        let free = self.bundles.slots() as f32 / limits::OUTBOX_BUNDLES_MAX as f32;
        f32::from_bits(self.queue.load(Ordering::Relaxed)).max(1.0 - free)
    }

    /// A buffer whose bundle was delivered or given up.
    pub fn take_empty(&mut self) -> Option<Vec<u8>> {
        self.empties.pop().ok()
    }
}

/// The uploader's end of one outbox.
pub(super) struct Inbox {
    bundles: Consumer<Bundle>,
    empties: Producer<Vec<u8>>,
    queue: Arc<AtomicU32>,
}

impl Inbox {
    pub(super) fn take(&mut self) -> Option<Bundle> {
        self.bundles.pop().ok()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bundles.is_empty()
    }

    /// Tells the shard how full the uploader's queue is, 0 to 1.
    pub(super) fn tell_queue(&self, share: f32) {
        self.queue.store(share.to_bits(), Ordering::Relaxed);
    }

    /// Gives a buffer back; it is freed when the shard has enough.
    pub(super) fn give_back(&mut self, mut buffer: Vec<u8>) {
        buffer.clear();
        let _ = self.empties.push(buffer);
    }
}

/// The uploader's ends of all outboxes.
pub struct Inboxes {
    pub(super) inboxes: Vec<Inbox>,
    pub(super) handed: Vec<Arc<AtomicU64>>,
    pub(super) parker: Arc<Parker>,
}

/// One outbox per shard, and the other ends of all for the uploader.
pub fn outboxes(shards: usize) -> io::Result<(Vec<Outbox>, Inboxes)> {
    let parker = Arc::new(Parker {
        parked: AtomicBool::new(false),
        event: Arc::new(EventFd::new()?),
    });
    let mut outboxes = Vec::with_capacity(shards);
    let mut inboxes = Inboxes {
        inboxes: Vec::new(),
        handed: Vec::new(),
        parker: parker.clone(),
    };
    for _ in 0..shards {
        let (full, bundles) = RingBuffer::new(limits::OUTBOX_BUNDLES_MAX);
        let (empty, empties) = RingBuffer::new(limits::OUTBOX_BUNDLES_MAX);
        let handed = Arc::new(AtomicU64::new(0));
        let queue = Arc::new(AtomicU32::new(0.0_f32.to_bits()));
        outboxes.push(Outbox {
            bundles: full,
            empties,
            handed: handed.clone(),
            queue: queue.clone(),
            parker: parker.clone(),
        });
        inboxes.inboxes.push(Inbox {
            bundles,
            empties: empty,
            queue,
        });
        inboxes.handed.push(handed);
    }
    Ok((outboxes, inboxes))
}

/// Lets one thread sleep in the kernel until another has something for it.
pub(super) struct Parker {
    parked: AtomicBool,
    event: Arc<EventFd>,
}

impl Parker {
    /// What ends the sleep in the kernel.
    pub(super) fn event(&self) -> Arc<EventFd> {
        self.event.clone()
    }

    /// Says that the caller is about to sleep. It must look for work once more before it does.
    pub(super) fn prepare(&self) {
        self.parked.store(true, Ordering::Relaxed);
        // With the fence in `unpark`: either we see the work, or its maker sees that we are parked.
        fence(Ordering::SeqCst);
    }

    /// Says that the caller is awake.
    pub(super) fn awake(&self) {
        self.parked.store(false, Ordering::Relaxed);
    }

    /// Wakes the sleeper if it sleeps. What was made before is seen by it.
    pub(super) fn unpark(&self) {
        fence(Ordering::SeqCst);
        if self.parked.load(Ordering::Relaxed) && self.parked.swap(false, Ordering::AcqRel) {
            self.event.set();
        }
    }
}

#[cfg(test)]
mod tests {
    use engine_core::bundle::Encoding;

    use super::*;

    fn bundle(id: u128) -> Bundle {
        Bundle {
            body: vec![1, 2, 3],
            encoding: Encoding::Plain,
            calls: 2,
            line_bytes: 3,
            id,
            ..Bundle::default()
        }
    }

    #[test]
    fn bundles_go_there_and_buffers_come_back() {
        let (mut outboxes, mut inboxes) = outboxes(1).unwrap();
        let outbox = &mut outboxes[0];
        for id in 0..limits::OUTBOX_BUNDLES_MAX {
            outbox.push(bundle(id as u128)).unwrap();
        }
        assert_eq!(outbox.push(bundle(99)).unwrap_err().id, 99, "full");
        assert_eq!(outbox.fill(), 1.0);
        assert_eq!(
            inboxes.handed[0].load(Ordering::Relaxed),
            2 * limits::OUTBOX_BUNDLES_MAX as u64
        );
        let first = inboxes.inboxes[0].take().unwrap();
        assert_eq!(first.id, 0);
        inboxes.inboxes[0].give_back(first.body);
        assert_eq!(
            outbox
                .take_empty()
                .map(|buffer| (buffer.len(), buffer.capacity())),
            Some((0, 3))
        );
        assert_eq!(outbox.take_empty(), None);
        outbox.push(bundle(5)).unwrap();
        while inboxes.inboxes[0].take().is_some() {}
        inboxes.inboxes[0].tell_queue(0.5);
        assert_eq!(outbox.fill(), 0.5);
        drop(inboxes);
        assert!(outbox.push(bundle(6)).is_err(), "nobody takes it");
    }

    #[test]
    fn no_wake_up_is_lost() {
        let (mut outboxes, mut inboxes) = outboxes(1).unwrap();
        let mut outbox = outboxes.remove(0);
        let total = 20_000;
        let sender = std::thread::spawn(move || {
            for id in 0..total {
                let mut next = bundle(id);
                while let Err(back) = outbox.push(next) {
                    next = back;
                    std::thread::yield_now();
                }
            }
            outbox
        });
        let mut driver = engine_sys::driver::Driver::open(
            engine_sys::driver::Choice::Epoll,
            inboxes.parker.event(),
        )
        .unwrap();
        let mut expected = 0;
        while expected < total {
            while let Some(bundle) = inboxes.inboxes[0].take() {
                assert_eq!(bundle.id, expected);
                expected += 1;
            }
            inboxes.parker.prepare();
            if expected < total && inboxes.inboxes[0].is_empty() {
                let woken = driver
                    .wait(Some(std::time::Duration::from_secs(5)), &mut Vec::new())
                    .unwrap();
                assert!(woken, "slept although there was work");
            }
            inboxes.parker.awake();
        }
        sender.join().unwrap();
    }
}
