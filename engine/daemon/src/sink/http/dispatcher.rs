//! What all connections share: the queue, the retry decisions, the counters, and what is said about them.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use engine_core::bundle::Encoding;

use crate::capture_url::CaptureUrl;

use super::event::{Announcer, Event};
use super::outbox::Inbox;
use super::queue::{Job, Queue};
use super::retry::{Action, Failure, Outcome, Retry, Start};
use super::stats::{DropReason, Stats};

/// What a connection posts.
#[derive(Clone)]
pub(super) struct Post {
    /// Names the job in the queue.
    pub(super) number: u64,
    pub(super) body: Bytes,
    pub(super) encoding: Encoding,
    pub(super) id: u128,
}

/// What a connection should do.
pub(super) enum Next {
    /// Post this.
    Post(Post),
    /// Nothing before this time, or before being woken.
    Wait(Option<Instant>),
    /// Everything is delivered or given up, and the uploader stops.
    End,
}

pub(super) struct Dispatcher {
    url: CaptureUrl,
    bundles_max: usize,
    stats: Arc<Stats>,
    inner: RefCell<Inner>,
}

struct Inner {
    inboxes: Vec<Inbox>,
    queue: Queue,
    retry: Retry,
    announcer: Announcer,
    say: Box<dyn Fn(&Event) + Send>,
    idle: Vec<Waker>,
    stopping: bool,
}

impl Dispatcher {
    pub(super) fn new(
        url: CaptureUrl,
        bounds: (usize, usize),
        seed: u64,
        inboxes: Vec<Inbox>,
        stats: Arc<Stats>,
        say: Box<dyn Fn(&Event) + Send>,
    ) -> Rc<Self> {
        let inner = Inner {
            inboxes,
            queue: Queue::new(bounds.0, bounds.1),
            retry: Retry::new(seed),
            announcer: Announcer::default(),
            say,
            idle: Vec::new(),
            stopping: false,
        };
        Rc::new(Self {
            url,
            bundles_max: bounds.0,
            stats,
            inner: RefCell::new(inner),
        })
    }

    /// Moves what the shards handed over into the queue; gives up the oldest where it does not fit.
    pub(super) fn collect(&self) {
        let mut inner = self.inner.borrow_mut();
        let mut came = false;
        for shard in 0..inner.inboxes.len() {
            while let Some(bundle) = inner.inboxes.get_mut(shard).and_then(Inbox::take) {
                came = true;
                inner.queue.push(shard, bundle, Instant::now());
                while let Some(job) = inner.queue.take_excess() {
                    inner.give_up(&self.stats, job, DropReason::QueueFull);
                }
            }
        }
        if came {
            inner.update(&self.stats);
            inner.wake_idle();
        }
    }

    /// Whether a shard has handed something over that was not collected.
    pub(super) fn has_mail(&self) -> bool {
        self.inner
            .borrow()
            .inboxes
            .iter()
            .any(|inbox| !inbox.is_empty())
    }

    /// The next thing for a connection to do; it is woken when that changes.
    pub(super) fn next(&self, now: Instant, cx: &Context<'_>) -> Next {
        let mut inner = self.inner.borrow_mut();
        if inner.queue.is_empty() && inner.stopping {
            return Next::End;
        }
        let under_way = inner.queue.under_way();
        let wait = match inner.retry.may_start(under_way, now) {
            Start::Now => match inner.queue.start(now) {
                Some(job) => {
                    self.stats.posted(job.tries > 1);
                    let Job {
                        number,
                        body,
                        encoding,
                        id,
                        ..
                    } = job;
                    return Next::Post(Post {
                        number: *number,
                        body: body.clone(),
                        encoding: *encoding,
                        id: *id,
                    });
                }
                None => inner.queue.next_start(now),
            },
            Start::At(at) if inner.queue.next_start(now).is_some() => Some(at),
            Start::At(_) | Start::AfterOther => None,
        };
        if !inner.idle.iter().any(|waker| waker.will_wake(cx.waker())) {
            inner.idle.push(cx.waker().clone());
        }
        Next::Wait(wait)
    }

    /// A connection was made.
    pub(super) fn connected(&self) {
        self.stats.connected();
    }

    /// A post has ended.
    pub(super) fn settle(&self, post: Post, outcome: &Outcome, now: Instant) {
        // Given back to the queue's own, so that its buffer can be used again.
        let Post { number, body, .. } = post;
        drop(body);
        let mut inner = self.inner.borrow_mut();
        self.stats.answered(match outcome {
            Outcome::Status(status, _) => Some(*status),
            Outcome::Failed(_) => None,
        });
        let was_down = inner.retry.failures() > 0;
        let tries = inner.queue.tries(number);
        match inner.retry.next(outcome, tries, now) {
            Action::Done => {
                if let Some(job) = inner.queue.remove(number) {
                    self.stats.took(now.saturating_duration_since(job.came));
                    self.stats
                        .sent(job.calls, job.body.len() as u64, SystemTime::now());
                    inner.give_back(job);
                }
            }
            Action::Refuse => {
                if let Some(job) = inner.queue.remove(number) {
                    self.refused(&mut inner, outcome, job, now);
                }
            }
            Action::Again(at) => {
                let behind = matches!(outcome, Outcome::Status(..));
                inner.queue.put_back(number, at, behind);
                while let Some(job) = inner.queue.take_excess() {
                    inner.give_up(&self.stats, job, DropReason::QueueFull);
                }
                if *outcome != Outcome::Failed(Failure::Stale) {
                    self.is_down(&mut inner, outcome, now);
                }
            }
        }
        if was_down && inner.retry.failures() == 0 {
            self.stats.set_down(false);
            let event = Event::Up {
                collector: self.url.authority(),
                calls_lost: self.stats.snapshot().calls_dropped(),
            };
            inner.say(&event, now);
        }
        inner.update(&self.stats);
        inner.wake_idle();
    }

    fn refused(&self, inner: &mut Inner, outcome: &Outcome, job: Job, now: Instant) {
        let Outcome::Status(status, _) = *outcome else {
            return;
        };
        let event = Event::Refused {
            url: self.url.to_string(),
            status,
            calls: job.calls,
            bytes: job.body.len(),
        };
        self.stats.failed(outcome.to_string());
        inner.give_up(&self.stats, job, DropReason::Refused);
        inner.say(&event, now);
    }

    fn is_down(&self, inner: &mut Inner, outcome: &Outcome, now: Instant) {
        self.stats.set_down(true);
        self.stats.failed(outcome.to_string());
        let next_try = inner
            .retry
            .not_before()
            .map(|at| at.saturating_duration_since(now));
        let event = Event::Down {
            collector: self.url.authority(),
            cause: outcome.clone(),
            tries: inner.retry.failures(),
            next_try: next_try.unwrap_or_default(),
            bundles_max: self.bundles_max,
            calls_lost: self.stats.snapshot().calls_dropped(),
        };
        inner.say(&event, now);
    }

    /// Says something, if it is time for it.
    pub(super) fn say(&self, event: &Event, now: Instant) {
        self.inner.borrow_mut().say(event, now);
    }

    /// No more bundles will come: deliver what there is, without long waits.
    pub(super) fn stop(&self, now: Instant) {
        let mut inner = self.inner.borrow_mut();
        inner.stopping = true;
        inner.retry.hurry(now);
        inner.queue.hurry();
        inner.wake_idle();
    }

    /// All connections are gone, with the posts that were under way.
    pub(super) fn restart(&self) {
        self.inner.borrow_mut().queue.restart();
    }

    /// Gives up everything that is left.
    pub(super) fn close(&self) {
        self.collect();
        let mut inner = self.inner.borrow_mut();
        while let Some(job) = inner.queue.pop() {
            inner.give_up(&self.stats, job, DropReason::Shutdown);
        }
        inner.update(&self.stats);
    }
}

impl Inner {
    fn give_up(&mut self, stats: &Stats, job: Job, reason: DropReason) {
        stats.dropped(job.calls, reason);
        self.give_back(job);
    }

    /// Gives the buffer back to the shard, unless a connection that failed still holds on to it.
    fn give_back(&mut self, job: Job) {
        if job.body.is_unique()
            && let Some(inbox) = self.inboxes.get_mut(job.shard)
        {
            inbox.give_back(Vec::from(job.body));
        }
    }

    fn update(&self, stats: &Stats) {
        stats.holds(
            self.queue.bundles(),
            self.queue.bytes(),
            self.queue.calls(),
            self.queue.oldest().map(|came| came.elapsed()),
        );
        let fill = self.queue.fill();
        for inbox in &self.inboxes {
            inbox.tell_queue(fill);
        }
    }

    fn wake_idle(&mut self) {
        for waker in self.idle.drain(..) {
            waker.wake();
        }
    }

    fn say(&mut self, event: &Event, now: Instant) {
        if self.announcer.lets_through(event, now) {
            (self.say)(event);
        }
    }
}
