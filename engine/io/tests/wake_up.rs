//! The wake-up of a sink's thread, in the orders in which threads and memory may do it (loom): no bundle stays in the queue while
//! the thread sleeps, and what is taken is what was pushed. One bundle in all orders; more, and more threads, in those with a few
//! preemptions, so that a run takes seconds.
//!
//! The file of the parker is that of the program, over atomics that loom controls. The queue is a model with the orderings of
//! `rtrb` (`push`: relaxed reads of its own end, acquire of the other, release at the end). An eventfd is a flag that a wait takes.

use loom::sync::atomic::AtomicUsize;
use loom::thread;

use parker::Parker;
use sync::{Arc, AtomicBool, EventFd, Ordering};

/// What the parker uses, from loom.
mod sync {
    use std::io;

    pub(crate) use loom::sync::Arc;
    pub(crate) use loom::sync::atomic::{AtomicBool, Ordering, fence};

    /// An eventfd with one thread that waits for it.
    pub(crate) struct EventFd(loom::sync::Notify);

    impl EventFd {
        pub(crate) fn new() -> io::Result<Self> {
            Ok(Self(loom::sync::Notify::new()))
        }

        pub(crate) fn set(&self) {
            self.0.notify();
        }

        pub(crate) fn wait(&self) {
            self.0.wait();
        }
    }
}

#[expect(unreachable_pub, reason = "the program's file as it is")]
#[path = "../src/sink/parker.rs"]
mod parker;

/// Slots of the queue.
const SLOTS: usize = 2;

/// A ring of one producer and one consumer. Its slots are read and written relaxed: only the two ends order them, so a value that
/// is taken too early shows.
struct Queue {
    slots: [AtomicUsize; SLOTS],
    head: AtomicUsize,
    tail: AtomicUsize,
}

impl Queue {
    fn new() -> Self {
        Self {
            slots: [AtomicUsize::new(0), AtomicUsize::new(0)],
            head: AtomicUsize::new(0),
            tail: AtomicUsize::new(0),
        }
    }

    /// Whether there was room.
    fn push(&self, value: usize) -> bool {
        let tail = self.tail.load(Ordering::Relaxed);
        if tail - self.head.load(Ordering::Acquire) == SLOTS {
            return false;
        }
        self.slots[tail % SLOTS].store(value, Ordering::Relaxed);
        self.tail.store(tail + 1, Ordering::Release);
        true
    }

    fn pop(&self) -> Option<usize> {
        let head = self.head.load(Ordering::Relaxed);
        if head == self.tail.load(Ordering::Acquire) {
            return None;
        }
        let value = self.slots[head % SLOTS].load(Ordering::Relaxed);
        self.head.store(head + 1, Ordering::Release);
        Some(value)
    }

    fn is_empty(&self) -> bool {
        self.head.load(Ordering::Relaxed) == self.tail.load(Ordering::Acquire)
    }
}

/// How a thread sleeps and is woken: by the program's parker, or by one with a fault.
trait Wake: Send + Sync + 'static {
    fn new() -> Self;
    fn prepare(&self);
    fn awake(&self);
    fn unpark(&self);
    fn event(&self) -> Arc<EventFd>;
}

impl Wake for Parker {
    fn new() -> Self {
        Self::new().expect("no kernel is asked")
    }

    fn prepare(&self) {
        self.prepare();
    }

    fn awake(&self) {
        self.awake();
    }

    fn unpark(&self) {
        self.unpark();
    }

    fn event(&self) -> Arc<EventFd> {
        self.event()
    }
}

/// The same without the fences.
struct Unfenced {
    parked: AtomicBool,
    event: Arc<EventFd>,
}

impl Wake for Unfenced {
    fn new() -> Self {
        Self {
            parked: AtomicBool::new(false),
            event: Arc::new(EventFd::new().expect("no kernel is asked")),
        }
    }

    fn prepare(&self) {
        self.parked.store(true, Ordering::Relaxed);
    }

    fn awake(&self) {
        self.parked.store(false, Ordering::Relaxed);
    }

    fn unpark(&self) {
        if self.parked.load(Ordering::Relaxed) && self.parked.swap(false, Ordering::AcqRel) {
            self.event.set();
        }
    }

    fn event(&self) -> Arc<EventFd> {
        self.event.clone()
    }
}

/// Runs `model` in all orders, or in those with at most so many preemptions.
fn check(preemptions: Option<usize>, model: impl Fn() + Send + Sync + 'static) {
    let mut orders = loom::model::Builder::new();
    orders.preemption_bound = preemptions;
    orders.check(model);
}

/// A shard pushes `count` bundles, and the thread of a sink takes them, as `Thread::deliver` does.
fn deliver<W: Wake>(count: usize, preemptions: Option<usize>) {
    check(preemptions, move || {
        let (parker, queue) = (Arc::new(W::new()), Arc::new(Queue::new()));
        let shard = {
            let (parker, queue) = (parker.clone(), queue.clone());
            thread::spawn(move || {
                for value in 1..=count {
                    assert!(queue.push(value), "there is room for all");
                    parker.unpark();
                }
            })
        };
        let event = parker.event();
        let mut taken = 0;
        while taken < count {
            while let Some(value) = queue.pop() {
                taken += 1;
                assert_eq!(value, taken);
            }
            if taken < count {
                parker.prepare();
                if queue.is_empty() {
                    event.wait();
                }
                parker.awake();
            }
        }
        shard.join().expect("it does not panic");
    });
}

#[test]
fn no_bundle_waits_for_a_thread_that_sleeps() {
    deliver::<Parker>(1, None);
    deliver::<Parker>(SLOTS, Some(3));
}

/// loom finds the lost wake-up: both threads look before either sees what the other has written.
#[test]
#[should_panic(expected = "deadlock")]
fn without_its_fences_one_would() {
    deliver::<Unfenced>(1, None);
}

/// A task is woken by another thread, such as the one that looks up names, while the uploader's is about to sleep; and a stop is
/// ordered at the same time. The flags are not reset here: loom does not keep a store between the two halves of a swap apart.
#[test]
fn neither_a_task_nor_a_stop_is_forgotten() {
    check(Some(2), || {
        let parker = Arc::new(<Parker as Wake>::new());
        let (woken, stops) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicBool::new(false)),
        );
        let setting = |flag: &Arc<AtomicBool>| {
            let (flag, parker) = (flag.clone(), parker.clone());
            thread::spawn(move || {
                flag.store(true, Ordering::Release);
                Wake::unpark(&*parker);
            })
        };
        let threads = [setting(&woken), setting(&stops)];
        let event = Wake::event(&*parker);
        let (mut ran, mut stopped) = (false, false);
        while !(ran && stopped) {
            ran = woken.load(Ordering::Acquire);
            stopped = stops.load(Ordering::Acquire);
            if ran && stopped {
                break;
            }
            Wake::prepare(&*parker);
            let is_due = |flag: &AtomicBool, seen: bool| !seen && flag.load(Ordering::Acquire);
            if !is_due(&woken, ran) && !is_due(&stops, stopped) {
                event.wait();
            }
            Wake::awake(&*parker);
        }
        for thread in threads {
            thread.join().expect("it does not panic");
        }
    });
}
