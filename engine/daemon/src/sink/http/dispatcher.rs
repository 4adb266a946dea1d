//! What all connections share: the backlog, the retry decisions, the counters, and what is reported about them.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use engine_core::bundle::Encoding;
use engine_sys::driver::Kind;

use super::answers::Answers;
use super::events::{Event, Refusal, Throttle};
use super::retry::{Action, Failure, Meaning, Outcome, Retry, Start};
use crate::capture_url::CaptureUrl;
use crate::limits;
use crate::sink::backlog::{Backlog, Entry};
use crate::sink::outbox::Inbox;
use crate::sink::spool::{LostBy, Report, Spool, State};
use crate::sink::stats::{DropReason, Recorder};

/// What a connection posts.
#[derive(Clone)]
pub(super) struct Post {
    /// Names the entry in the backlog.
    pub(super) number: u64,
    pub(super) body: Bytes,
    pub(super) encoding: Encoding,
    pub(super) key: u128,
    /// Attempts before this one, as far as they are known.
    pub(super) repeats: u32,
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

/// Where events go: to the counters and to the log.
pub(super) struct Observer {
    recorder: Recorder,
    answers: Arc<Answers>,
    throttle: Throttle,
    report: Box<dyn Fn(&Event) + Send>,
}

impl Observer {
    /// Writes these counters, and calls `report` for events that belong into the log.
    pub(super) fn new(
        recorder: Recorder,
        answers: Arc<Answers>,
        report: Box<dyn Fn(&Event) + Send>,
    ) -> Self {
        Self {
            recorder,
            answers,
            throttle: Throttle::default(),
            report,
        }
    }

    /// A driver was opened.
    pub(super) fn opened(&self, kind: Kind) {
        self.answers.set_driver(kind);
    }

    fn report(&mut self, event: &Event, now: Instant) {
        if self.throttle.admits(event, now) {
            (self.report)(event);
        }
    }
}

pub(super) struct Dispatcher {
    url: CaptureUrl,
    /// What all refusals have in common.
    refusal: Refusal,
    inner: RefCell<Inner>,
}

struct Inner {
    inboxes: Vec<Inbox>,
    backlog: Backlog,
    spool: Option<Spool>,
    retry: Retry,
    observer: Observer,
    idle: Vec<Waker>,
    stopping: bool,
    /// The last answer was none, or a refusal.
    is_down: bool,
    /// A line was too large, and no bundle was accepted since.
    found_too_large: bool,
}

impl Dispatcher {
    pub(super) fn new(
        url: CaptureUrl,
        refusal: Refusal,
        backlog: Backlog,
        spool: Option<Spool>,
        retry: Retry,
        inboxes: Vec<Inbox>,
        mut observer: Observer,
    ) -> Rc<Self> {
        if let Some(spool) = &spool {
            observer.recorder.recovered(spool.found_calls());
            observer.recorder.found_damage(spool.damage().calls);
        }
        let inner = Inner {
            inboxes,
            backlog,
            spool,
            retry,
            observer,
            idle: Vec::new(),
            stopping: false,
            is_down: false,
            found_too_large: false,
        };
        Rc::new(Self {
            url,
            refusal,
            inner: RefCell::new(inner),
        })
    }

    /// Moves what the shards pushed into the backlog, and sends it on its way to the spool; gives up the oldest where it does
    /// not fit.
    pub(super) fn collect(&self) {
        let mut inner = self.inner.borrow_mut();
        let now = Instant::now();
        let mut came = inner.take_reports(now);
        for shard in 0..inner.inboxes.len() {
            while let Some(lease) = inner.inboxes.get_mut(shard).and_then(Inbox::take) {
                came = true;
                inner.backlog.push(shard, lease, Instant::now());
                inner.copy_to_spool(now);
                inner.give_up_excess();
            }
        }
        inner.copy_to_spool(now);
        inner.load_from_spool();
        if came {
            inner.update();
            inner.wake_idle();
        }
    }

    /// Whether a shard has pushed something, or the spool reported something, that was not collected.
    pub(super) fn has_new(&self) -> bool {
        let inner = self.inner.borrow();
        inner.inboxes.iter().any(|inbox| !inbox.is_empty())
            || inner.spool.as_ref().is_some_and(Spool::has_reports)
    }

    /// The next thing for a connection to do; it is woken when that changes.
    pub(super) fn next(&self, now: Instant, cx: &Context<'_>) -> Next {
        let mut inner = self.inner.borrow_mut();
        let inner = &mut *inner;
        if inner.backlog.is_empty() && inner.stopping {
            return Next::End;
        }
        let started = inner.backlog.started();
        let wait = match inner.retry.may_start(started, now) {
            Start::Now => match inner.backlog.start(now) {
                Some(entry) => {
                    inner.observer.recorder.attempted(entry.attempts() > 1);
                    return Next::Post(Post {
                        number: entry.number(),
                        body: entry.body(),
                        encoding: entry.encoding(),
                        key: entry.key(),
                        repeats: entry.repeats(),
                    });
                }
                None => inner.backlog.next_start(now),
            },
            Start::At(at) if inner.backlog.next_start(now).is_some() => Some(at),
            Start::At(_) | Start::AfterOther => None,
        };
        if !inner.idle.iter().any(|waker| waker.will_wake(cx.waker())) {
            inner.idle.push(cx.waker().clone());
        }
        Next::Wait(wait)
    }

    /// A connection was made.
    pub(super) fn connected(&self) {
        self.inner.borrow().observer.answers.connected();
    }

    /// A connection was given up because an answer did not end.
    pub(super) fn answer_does_not_end(&self) {
        self.inner.borrow().observer.answers.does_not_end();
    }

    /// A post has ended.
    pub(super) fn settle(&self, post: Post, outcome: &Outcome, now: Instant) {
        // Before the bundle is given back, so that its memory can be used again.
        let Post { number, body, .. } = post;
        drop(body);
        let mut inner = self.inner.borrow_mut();
        inner.observer.answers.count(match outcome {
            Outcome::Status(status, _) | Outcome::Moved(status, _) => Some(*status),
            Outcome::Failed(_) => None,
        });
        let attempts = inner.backlog.attempts(number);
        match inner.retry.next(outcome, attempts, now) {
            Action::Done => {
                if let Some(entry) = inner.backlog.remove(number) {
                    let took = now.saturating_duration_since(entry.since());
                    let (calls, bytes) = (entry.calls(), entry.bytes() as u64);
                    // Before the count: who finds the calls sent finds the collector up.
                    self.is_up(&mut inner, now);
                    let recorder = &mut inner.observer.recorder;
                    recorder.sent(calls, bytes, took, SystemTime::now());
                    inner.settled(&entry, State::Delivered);
                    inner.give_back(entry);
                    self.note_status(&mut inner, outcome, now);
                }
            }
            Action::Refuse => {
                if let Some(entry) = inner.backlog.remove(number) {
                    self.refused(&mut inner, outcome, entry, now);
                }
            }
            Action::Divide => self.too_large(&mut inner, number, outcome, now),
            Action::Again(at) => {
                let is_mendable = Retry::meaning(outcome) == Meaning::Mendable;
                let behind = matches!(outcome, Outcome::Status(..)) && !is_mendable;
                inner.backlog.put_back(number, at, behind);
                inner.give_up_excess();
                if is_mendable {
                    self.is_mendable(&mut inner, outcome, now);
                } else if *outcome != Outcome::Failed(Failure::Stale) {
                    self.is_down(&mut inner, outcome, now);
                }
            }
        }
        inner.update();
        inner.wake_idle();
    }

    fn refused(&self, inner: &mut Inner, outcome: &Outcome, entry: Entry, now: Instant) {
        let Some(refusal) = Refusal::of(outcome, &self.refusal) else {
            return;
        };
        let refusal = Refusal {
            bytes: entry.bytes(),
            ..refusal
        };
        if let Some(spool) = &inner.spool {
            spool.keep_refused(entry.content());
        }
        inner.give_up(entry, DropReason::Refused);
        let calls_lost = inner.calls_lost();
        let event = Event::Refused {
            refusal,
            calls_lost,
        };
        inner.in_trouble(&event, now);
    }

    /// The collector takes nothing until somebody corrects it or the settings; everything is kept meanwhile.
    fn is_mendable(&self, inner: &mut Inner, outcome: &Outcome, now: Instant) {
        let Some(refusal) = Refusal::of(outcome, &self.refusal) else {
            return;
        };
        let event = Event::Kept {
            refusal,
            next_try: inner.next_try(now),
            calls_lost: inner.calls_lost(),
        };
        inner.in_trouble(&event, now);
    }

    /// A bundle was taken with another status than that of a capture URL.
    fn note_status(&self, inner: &mut Inner, outcome: &Outcome, now: Instant) {
        if let Outcome::Status(status, _) = outcome
            && *status != 204
            && let Some(refusal) = Refusal::of(outcome, &self.refusal)
        {
            let calls_lost = inner.calls_lost();
            let event = Event::Odd {
                refusal,
                calls_lost,
            };
            inner.observer.report(&event, now);
        }
    }

    /// A bundle is divided; one line that is too large alone is lost.
    fn too_large(&self, inner: &mut Inner, number: u64, outcome: &Outcome, now: Instant) {
        let refusal = |entry: &Entry| {
            Refusal::of(outcome, &self.refusal).map(|refusal| Refusal {
                bytes: entry.bytes(),
                ..refusal
            })
        };
        if let Some(entry) = inner.backlog.divide(number) {
            let event = refusal(&entry).map(|refusal| Event::Divided { refusal });
            // The parts come to the disk before the whole is settled there.
            inner.copy_to_spool(now);
            inner.settled(&entry, State::Divided);
            inner.give_back(entry);
            inner.give_up_excess();
            if let Some(event) = event {
                inner.observer.report(&event, now);
            }
        } else if let Some(entry) = inner.backlog.remove(number) {
            let refusal = refusal(&entry);
            inner.give_up(entry, DropReason::TooLarge);
            let Some(refusal) = refusal else { return };
            let calls_lost = inner.calls_lost();
            let event = Event::TooLarge {
                refusal,
                calls_lost,
            };
            // Nothing that it takes lies between this one and the last: it may be that it takes nothing.
            if std::mem::replace(&mut inner.found_too_large, true) {
                inner.in_trouble(&event, now);
            } else {
                inner.failed(&event, now);
            }
        }
    }

    /// A bundle was accepted.
    fn is_up(&self, inner: &mut Inner, now: Instant) {
        inner.found_too_large = false;
        if !std::mem::take(&mut inner.is_down) {
            return;
        }
        inner.observer.recorder.set_down(false);
        let event = Event::Up {
            collector: self.url.authority(),
            calls_lost: inner.calls_lost(),
        };
        inner.observer.report(&event, now);
    }

    /// A post was not answered in the time `since` it was sent, and may still be until `at_most`.
    pub(super) fn is_silent(&self, since: Duration, at_most: Duration, now: Instant) {
        let mut inner = self.inner.borrow_mut();
        let event = Event::Silent {
            collector: self.url.authority(),
            since,
            at_most,
            calls_lost: inner.calls_lost(),
        };
        inner.in_trouble(&event, now);
    }

    fn is_down(&self, inner: &mut Inner, outcome: &Outcome, now: Instant) {
        let event = Event::Down {
            collector: self.url.authority(),
            cause: outcome.clone(),
            tries: inner.retry.failures(),
            next_try: inner.next_try(now),
            bundles_max: inner.backlog.bundles_max(),
            calls_lost: inner.calls_lost(),
        };
        inner.in_trouble(&event, now);
    }

    /// Reports an event, unless the like was reported a short time ago.
    pub(super) fn report(&self, event: &Event, now: Instant) {
        self.inner.borrow_mut().observer.report(event, now);
    }

    /// No more bundles will come: deliver what there is, without long waits.
    pub(super) fn stop(&self, now: Instant) {
        let mut inner = self.inner.borrow_mut();
        inner.stopping = true;
        inner.retry.shorten_waits(now);
        inner.backlog.end_waits();
        inner.wake_idle();
    }

    /// All connections are gone, with the posts that they had started.
    pub(super) fn restart(&self) {
        self.inner.borrow_mut().backlog.restart();
    }

    /// Leaves everything that is left to the spool; gives it up where there is none.
    pub(super) fn close(&self) {
        self.collect();
        let mut inner = self.inner.borrow_mut();
        while let Some(entry) = inner.backlog.pop() {
            inner.leave_or_give_up(entry, DropReason::Shutdown, true);
        }
        if let Some(spool) = &mut inner.spool {
            spool.end();
        }
        inner.take_last_reports();
        inner.update();
    }
}

impl Inner {
    /// The collector takes nothing, as status and log have it from now on.
    fn in_trouble(&mut self, event: &Event, now: Instant) {
        self.is_down = true;
        self.failed(event, now);
        self.observer.recorder.set_down(true);
    }

    /// Something was not delivered, as status and log have it.
    fn failed(&mut self, event: &Event, now: Instant) {
        let recorder = &self.observer.recorder;
        recorder.failed(Some(event.code()), event.trouble());
        self.observer.report(event, now);
    }

    /// Until the collector is tried again.
    fn next_try(&self, now: Instant) -> Duration {
        let at = self.retry.not_before();
        at.map_or(Duration::ZERO, |at| at.saturating_duration_since(now))
    }

    fn calls_lost(&self) -> u64 {
        self.observer.recorder.counters().calls_dropped()
    }

    fn give_up_excess(&mut self) {
        while let Some(entry) = self.backlog.take_excess() {
            self.leave_or_give_up(entry, DropReason::QueueFull, false);
        }
    }

    fn give_up(&mut self, entry: Entry, reason: DropReason) {
        self.observer.recorder.dropped(entry.calls(), reason);
        self.settled(&entry, State::GivenUp);
        self.give_back(entry);
    }

    /// Releases the memory of a bundle that the spool has; another one is lost. `at_last`: one that was not yet written is, for
    /// there is no other moment.
    fn leave_or_give_up(&mut self, entry: Entry, reason: DropReason, at_last: bool) {
        let Some(spool) = &mut self.spool else {
            return self.give_up(entry, reason);
        };
        let ticket = match entry.ticket() {
            None if at_last => Some(spool.write_now(entry.content())),
            ticket => ticket,
        };
        let Some(ticket) = ticket else {
            return self.give_up(entry, reason);
        };
        spool.leave(ticket, entry.calls());
        self.observer.recorder.left_to_spool(entry.calls());
        self.give_back(entry);
    }

    /// What became of a bundle, for the spool.
    fn settled(&self, entry: &Entry, state: State) {
        if let (Some(spool), Some(ticket)) = (&self.spool, entry.ticket()) {
            spool.settle(ticket, state);
        }
    }

    /// Sends bundles on their way to the disk, as far as it takes them.
    fn copy_to_spool(&mut self, now: Instant) {
        let Some(spool) = &mut self.spool else { return };
        while let Some(entry) = self.backlog.first_uncopied() {
            let number = entry.number();
            let Some(ticket) = spool.write(entry.content(), now) else {
                return;
            };
            self.backlog.set_ticket(number, ticket);
        }
    }

    /// Orders bundles from the disk.
    fn load_from_spool(&mut self) {
        if let Some(spool) = &mut self.spool
            && !self.stopping
        {
            spool.load_up_to(limits::SPOOL_LOADED_MAX, self.backlog.read_back());
        }
    }

    /// Takes what the spool reports; whether there was anything.
    fn take_reports(&mut self, now: Instant) -> bool {
        let mut came = false;
        while let Some(report) = self.spool.as_mut().and_then(|spool| spool.take_report(now)) {
            came = true;
            match report {
                Report::Missing { ticket, again } => self.backlog.is_missing(ticket, again),
                Report::Loaded {
                    ticket,
                    part,
                    calls,
                    is_old,
                } => {
                    self.observer.recorder.loaded(calls);
                    let backlog = &mut self.backlog;
                    backlog.push_read_back(ticket, part, calls, is_old, now);
                    self.give_up_excess();
                }
                Report::Lost { calls, by } => self.lost_in_spool(calls, by),
            }
        }
        came
    }

    /// After the end of the spool: what it read back is on disk all the same.
    fn take_last_reports(&mut self) {
        let now = Instant::now();
        while let Some(report) = self.spool.as_mut().and_then(|spool| spool.take_report(now)) {
            if let Report::Lost { calls, by } = report {
                self.lost_in_spool(calls, by);
            }
        }
    }

    fn lost_in_spool(&mut self, calls: u64, by: LostBy) {
        let reason = match by {
            LostBy::Full => DropReason::SpoolFull,
            LostBy::Age => DropReason::SpoolAge,
            LostBy::Damage => DropReason::SpoolDamaged,
            LostBy::Discard => DropReason::Discarded,
            LostBy::Unwritten if self.stopping => DropReason::Shutdown,
            LostBy::Unwritten => DropReason::QueueFull,
        };
        self.observer.recorder.lost_in_spool(calls, reason);
    }

    fn give_back(&mut self, entry: Entry) {
        if let Some((shard, lease)) = entry.into_lease()
            && let Some(inbox) = self.inboxes.get_mut(shard)
        {
            inbox.give_back(lease);
        }
    }

    fn update(&mut self) {
        self.observer.recorder.holds(
            self.backlog.bundles(),
            self.backlog.bytes(),
            self.backlog.calls(),
            self.backlog.oldest().map(|since| since.elapsed()),
        );
        let fill = self.backlog.fill();
        for inbox in &self.inboxes {
            inbox.set_backlog(fill);
        }
    }

    fn wake_idle(&mut self) {
        for waker in self.idle.drain(..) {
            waker.wake();
        }
    }
}
