//! From a shard to the thread of a sink and back without a lock: a ring of full bundles, one of emptied ones.
//!
//! The ring only bridges the time that the thread needs to wake. Where it is full, the bundle waits at the shard; where
//! too many wait there, the oldest is shed. So a sink that does not keep up costs its own calls, and never holds up the
//! shard or another sink. What the thread does with a bundle that does not go out at once is its backlog.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::counters::OutletCounters;
use crate::limits;
use rtrb::{Consumer, Producer, RingBuffer};

use super::column::Column;
use super::parker::Parker;
use super::shared::{Empty, Lease, Pool};

/// Bundles that wait at a shard for room in the ring; one more sheds the oldest.
const WAITING_MAX: usize = 16;

/// The shard's end.
pub struct Outbox {
    waiting: VecDeque<Lease>,
    bundles: Producer<Lease>,
    empties: Consumer<Empty>,
    counters: OutletCounters,
    column: Arc<Column>,
    /// How full the sink's backlog is, as the bits of a share; written by the sink alone.
    backlog: Arc<AtomicU32>,
    parker: Arc<Parker>,
}

impl Outbox {
    /// Takes a bundle for the sink; it goes out with the next [`Self::send`].
    pub fn push(&mut self, lease: Lease) {
        self.waiting.push_back(lease);
    }

    /// Moves what waits to the sink as far as there is room, sheds the oldest where too many wait, and takes emptied
    /// bundles back.
    pub fn send(&mut self, pool: &mut Pool) {
        while let Some(lease) = self.waiting.pop_front() {
            if let Err(lease) = self.try_send(lease) {
                self.waiting.push_front(lease);
                break;
            }
        }
        self.shed_above(WAITING_MAX, pool);
        while let Ok(empty) = self.empties.pop() {
            pool.put(empty);
        }
    }

    /// Sheds the oldest of the bundles that wait here until `most` are left.
    pub fn shed_above(&mut self, most: usize, pool: &mut Pool) {
        while self.waiting.len() > most
            && let Some(lease) = self.waiting.pop_front()
        {
            self.counters.calls_shed_queue_full += u64::from(lease.bundle().calls);
            self.column.set_shed(self.counters.calls_shed_queue_full);
            if let Some(empty) = lease.release() {
                pool.put(empty);
            }
        }
    }

    /// Whether no bundle waits here.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// How full the way to the sink is, 0 to 1: what waits here, the ring, or the sink's backlog, whichever has least
    /// room.
    pub fn fill(&self) -> f32 {
        let waiting = self.waiting.len() as f32 / WAITING_MAX as f32;
        let free = self.bundles.slots() as f32 / limits::OUTBOX_BUNDLES_MAX as f32;
        let backlog = f32::from_bits(self.backlog.load(Ordering::Relaxed));
        waiting.max(1.0 - free).max(backlog)
    }

    /// What was done so far, and what waits.
    pub fn counters(&self) -> OutletCounters {
        let waiting = self.waiting.iter();
        OutletCounters {
            calls_waiting: waiting.map(|lease| u64::from(lease.bundle().calls)).sum(),
            ..self.counters
        }
    }

    /// Gives the bundle back when the ring is full or the sink has ended.
    fn try_send(&mut self, lease: Lease) -> Result<(), Lease> {
        if self.bundles.is_abandoned() || self.bundles.is_full() {
            return Err(lease);
        }
        let before = self.counters.calls_pushed;
        let after = before + u64::from(lease.bundle().calls);
        // Counted before it can be taken, so that a reader never sees more delivered than pushed.
        self.column.set_pushed(after);
        if let Err(rtrb::PushError::Full(lease)) = self.bundles.push(lease) {
            self.column.set_pushed(before);
            return Err(lease);
        }
        self.counters.calls_pushed = after;
        self.counters.bundles_pushed += 1;
        self.parker.unpark();
        Ok(())
    }
}

/// The sink's end of one outbox.
pub struct Inbox {
    bundles: Consumer<Lease>,
    empties: Producer<Empty>,
    backlog: Arc<AtomicU32>,
}

impl Inbox {
    /// The oldest bundle.
    pub fn take(&mut self) -> Option<Lease> {
        self.bundles.pop().ok()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.bundles.is_empty()
    }

    /// Reports to the shard how full the sink's backlog is, 0 to 1.
    pub fn set_backlog(&self, share: f32) {
        self.backlog.store(share.to_bits(), Ordering::Relaxed);
    }

    /// Releases a bundle of this shard; if no other sink holds it, it goes back there. It is freed where too many do.
    pub fn give_back(&mut self, lease: Lease) {
        if let Some(empty) = lease.release() {
            let _ = self.empties.push(empty);
        }
    }
}

/// The sink's ends of all outboxes.
pub struct Inboxes {
    /// By shard.
    pub inboxes: Vec<Inbox>,
    /// What the shards count, by shard.
    pub columns: Vec<Arc<Column>>,
    /// Wakes the sink's thread.
    pub parker: Arc<Parker>,
}

/// An outbox for each shard, and the other ends of all for one sink.
pub fn outboxes(shards: usize) -> io::Result<(Vec<Outbox>, Inboxes)> {
    let parker = Arc::new(Parker::new()?);
    let mut outboxes = Vec::with_capacity(shards);
    let mut inboxes = Inboxes {
        inboxes: Vec::new(),
        columns: Vec::new(),
        parker: parker.clone(),
    };
    for _ in 0..shards {
        let (full, bundles) = RingBuffer::new(limits::OUTBOX_BUNDLES_MAX);
        let (empty, empties) = RingBuffer::new(limits::OUTBOX_BUNDLES_MAX);
        let column = Arc::<Column>::default();
        let backlog = Arc::new(AtomicU32::new(0.0_f32.to_bits()));
        outboxes.push(Outbox {
            waiting: VecDeque::with_capacity(WAITING_MAX + 1),
            bundles: full,
            empties,
            counters: OutletCounters::default(),
            column: column.clone(),
            backlog: backlog.clone(),
            parker: parker.clone(),
        });
        inboxes.inboxes.push(Inbox {
            bundles,
            empties: empty,
            backlog,
        });
        inboxes.columns.push(column);
    }
    Ok((outboxes, inboxes))
}

#[cfg(test)]
mod tests {
    use engine_core::bundle::Bundle;

    use super::*;

    fn push(outbox: &mut Outbox, pool: &mut Pool, id: u128) {
        let bundle = Bundle {
            body: vec![1, 2, 3],
            calls: 2,
            line_bytes: 3,
            id,
            ..Bundle::default()
        };
        for lease in pool.share(bundle, 1) {
            outbox.push(lease);
        }
        outbox.send(pool);
    }

    #[test]
    fn bundles_go_there_and_buffers_come_back() {
        let (mut outboxes, mut inboxes) = outboxes(1).unwrap();
        let (outbox, mut pool) = (&mut outboxes[0], Pool::default());
        for id in 0..limits::OUTBOX_BUNDLES_MAX {
            push(outbox, &mut pool, id as u128);
        }
        assert!(outbox.is_empty());
        assert_eq!(outbox.fill(), 1.0, "the ring is full");
        assert_eq!(
            inboxes.columns[0].calls_pushed(),
            2 * limits::OUTBOX_BUNDLES_MAX as u64
        );
        let first = inboxes.inboxes[0].take().unwrap();
        assert_eq!(first.bundle().id, 0);
        inboxes.inboxes[0].give_back(first);
        outbox.send(&mut pool);
        let empty = pool.take().map(|bundle| bundle.body);
        assert_eq!(
            empty.map(|body| (body.len(), body.capacity())),
            Some((0, 3))
        );
        assert!(pool.take().is_none());
        push(outbox, &mut pool, 5);
        while inboxes.inboxes[0].take().is_some() {}
        inboxes.inboxes[0].set_backlog(0.5);
        assert_eq!(outbox.fill(), 0.5);
    }

    #[test]
    fn what_a_sink_does_not_take_waits_and_the_oldest_is_shed() {
        let (mut outboxes, inboxes) = outboxes(1).unwrap();
        let (outbox, mut pool) = (&mut outboxes[0], Pool::default());
        drop(inboxes.inboxes);
        for id in 0..WAITING_MAX + 3 {
            push(outbox, &mut pool, id as u128);
        }
        let counters = outbox.counters();
        assert_eq!(counters.calls_pushed, 0, "nobody takes it");
        assert_eq!(counters.calls_waiting, 2 * WAITING_MAX as u64);
        assert_eq!(counters.calls_shed_queue_full, 6);
        assert_eq!(inboxes.columns[0].calls_shed(), 6);
        assert_eq!(outbox.fill(), 1.0);
        outbox.shed_above(0, &mut pool);
        assert!(outbox.is_empty());
        assert_eq!(outbox.counters().calls_waiting, 0);
    }

    #[test]
    fn no_wake_up_is_lost() {
        let (mut outboxes, mut inboxes) = outboxes(1).unwrap();
        let mut outbox = outboxes.remove(0);
        let total = 20_000;
        let sender = std::thread::spawn(move || {
            let mut pool = Pool::default();
            for id in 0..total {
                push(&mut outbox, &mut pool, id);
                while !outbox.is_empty() {
                    std::thread::yield_now();
                    outbox.send(&mut pool);
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
            while let Some(lease) = inboxes.inboxes[0].take() {
                assert_eq!(lease.bundle().id, expected);
                expected += 1;
                inboxes.inboxes[0].give_back(lease);
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
