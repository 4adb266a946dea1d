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
use super::collectors::{Collector, Collectors};
use super::events::Event;
use super::refusal::Refusal;
use super::retry::{Action, Failure, Meaning, Outcome, Retry, Start};
use super::throttle::Throttle;
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
    /// The index of the collector that it goes to.
    pub(super) collector: usize,
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
    /// One for each collector.
    throttles: Vec<Throttle>,
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
            throttles: Vec::new(),
            report,
        }
    }

    /// A driver was opened.
    pub(super) fn opened(&self, kind: Kind) {
        self.answers.set_driver(kind);
    }

    /// Reports an event of a collector, unless the like of that one was reported a short time ago.
    fn report(&mut self, collector: usize, event: &Event, now: Instant) {
        let count = self.throttles.len().max(collector + 1);
        self.throttles.resize_with(count, Throttle::default);
        let throttle = self.throttles.get_mut(collector);
        if throttle.is_some_and(|throttle| throttle.admits(event, now)) {
            (self.report)(event);
        }
    }
}

pub(super) struct Dispatcher {
    inner: RefCell<Inner>,
}

struct Inner {
    inboxes: Vec<Inbox>,
    backlog: Backlog,
    spool: Option<Spool>,
    collectors: Collectors,
    observer: Observer,
    idle: Vec<Waker>,
    /// Who waits for the stop alone.
    until_stop: Option<Waker>,
    stopping: bool,
}

impl Dispatcher {
    pub(super) fn new(
        collectors: Collectors,
        backlog: Backlog,
        spool: Option<Spool>,
        inboxes: Vec<Inbox>,
        mut observer: Observer,
    ) -> Rc<Self> {
        if let Some(spool) = &spool {
            observer.recorder.recovered(spool.found_calls());
            observer.recorder.found_damage(spool.damage().calls);
            spool.counted(observer.recorder.counters());
        }
        observer.answers.set_places(collectors.places());
        let inner = Inner {
            inboxes,
            backlog,
            spool,
            collectors,
            observer,
            idle: Vec::new(),
            until_stop: None,
            stopping: false,
        };
        Rc::new(Self {
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
        let (collector, start) = inner.collectors.may_start(now);
        let wait = match start {
            Start::Now => match inner.backlog.start(now) {
                Some(entry) => {
                    inner.collectors.start(collector);
                    inner.observer.recorder.attempted(entry.attempts() > 1);
                    return Next::Post(Post {
                        number: entry.number(),
                        collector,
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

    /// Whether the uploader stops; the one that waits for that is woken.
    pub(super) fn stops(&self, cx: &Context<'_>) -> bool {
        let mut inner = self.inner.borrow_mut();
        inner.until_stop = Some(cx.waker().clone());
        inner.stopping
    }

    /// Whether no collector takes bundles.
    pub(super) fn is_down(&self) -> bool {
        self.inner.borrow().observer.recorder.is_down()
    }

    /// A collector does not have the path of ledgers.
    pub(super) fn takes_no_ledgers(&self, collector: usize, status: u16, now: Instant) {
        let mut inner = self.inner.borrow_mut();
        let event = Event::NoLedgers {
            collector: inner.name(collector),
            status,
        };
        inner.observer.report(collector, &event, now);
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
        let Post {
            number,
            collector,
            body,
            ..
        } = post;
        drop(body);
        let mut inner = self.inner.borrow_mut();
        inner.observer.answers.count(match outcome {
            Outcome::Status(status, _) | Outcome::Moved(status, _) => Some(*status),
            Outcome::Failed(_) => None,
        });
        let attempts = inner.backlog.attempts(number);
        match inner.collectors.next(collector, outcome, attempts, now) {
            Action::Done => {
                if let Some(entry) = inner.backlog.remove(number) {
                    let took = now.saturating_duration_since(entry.since());
                    let (calls, bytes) = (entry.calls(), entry.bytes() as u64);
                    // Before the count: who finds the calls sent finds the collector up.
                    inner.is_up(collector, now);
                    let recorder = &mut inner.observer.recorder;
                    recorder.sent(calls, bytes, took, SystemTime::now());
                    inner.settled(&entry, State::Delivered);
                    inner.give_back(entry);
                    inner.note_status(collector, outcome, now);
                }
            }
            Action::Refuse => {
                if let Some(entry) = inner.backlog.remove(number) {
                    inner.refused(collector, outcome, entry, now);
                }
            }
            Action::Divide => inner.too_large(collector, number, outcome, now),
            Action::Again(at) => {
                let is_mendable = Retry::meaning(outcome) == Meaning::Mendable;
                let behind = matches!(outcome, Outcome::Status(..)) && !is_mendable;
                inner.backlog.put_back(number, at, behind);
                inner.give_up_excess();
                if is_mendable {
                    inner.is_mendable(collector, outcome, now);
                } else if *outcome != Outcome::Failed(Failure::Stale) {
                    inner.is_down(collector, outcome, now);
                }
            }
        }
        inner.update();
        inner.wake_idle();
    }

    /// A post was not answered in the time `since` it was sent, and may still be until `at_most`.
    pub(super) fn is_silent(
        &self,
        collector: usize,
        since: Duration,
        at_most: Duration,
        now: Instant,
    ) {
        let mut inner = self.inner.borrow_mut();
        let event = Event::Silent {
            collector: inner.name(collector),
            since,
            at_most,
            calls_lost: inner.calls_lost(),
        };
        inner.in_trouble(collector, &event, now);
    }

    /// Reports an event of the uploader itself, unless the like was reported a short time ago.
    pub(super) fn report(&self, event: &Event, now: Instant) {
        self.inner.borrow_mut().observer.report(0, event, now);
    }

    /// Tries all collectors at once: certificates were read again.
    pub(super) fn try_again(&self, now: Instant) {
        let mut inner = self.inner.borrow_mut();
        inner.collectors.end_waits(now);
        inner.backlog.end_waits();
        inner.wake_idle();
    }

    /// No more bundles will come: deliver what there is, without long waits.
    pub(super) fn stop(&self, now: Instant) {
        let mut inner = self.inner.borrow_mut();
        inner.stopping = true;
        inner.collectors.shorten_waits(now);
        inner.backlog.end_waits();
        inner.wake_idle();
        if let Some(waker) = inner.until_stop.take() {
            waker.wake();
        }
    }

    /// All connections are gone, with the posts that they had started.
    pub(super) fn restart(&self) {
        let mut inner = self.inner.borrow_mut();
        inner.collectors.restart();
        inner.backlog.restart();
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
        let inner = &mut *inner;
        if let Some(spool) = &mut inner.spool {
            spool.close(inner.observer.recorder.counters());
        }
    }
}

/// What a post has shown of a collector.
impl Inner {
    fn refused(&mut self, collector: usize, outcome: &Outcome, entry: Entry, now: Instant) {
        let Some(refusal) = self.refusal(collector, outcome) else {
            return;
        };
        let refusal = Refusal {
            bytes: entry.bytes(),
            ..refusal
        };
        if let Some(spool) = &self.spool {
            spool.keep_refused(entry.content());
        }
        self.give_up(entry, DropReason::Refused);
        let calls_lost = self.calls_lost();
        let event = Event::Refused {
            refusal,
            calls_lost,
        };
        self.in_trouble(collector, &event, now);
    }

    /// The collector takes nothing until somebody corrects it or the settings; everything is kept meanwhile.
    fn is_mendable(&mut self, collector: usize, outcome: &Outcome, now: Instant) {
        let Some(refusal) = self.refusal(collector, outcome) else {
            return;
        };
        let event = Event::Kept {
            refusal,
            next_try: self.next_try(collector, now),
            instead: self.instead(now),
            calls_lost: self.calls_lost(),
        };
        self.in_trouble(collector, &event, now);
    }

    /// A bundle was taken with another status than that of a capture URL.
    fn note_status(&mut self, collector: usize, outcome: &Outcome, now: Instant) {
        if let Outcome::Status(status, _) = outcome
            && *status != 204
            && let Some(refusal) = self.refusal(collector, outcome)
        {
            let calls_lost = self.calls_lost();
            let event = Event::Odd {
                refusal,
                calls_lost,
            };
            self.observer.report(collector, &event, now);
        }
    }

    /// A bundle is divided; one line that is too large alone is lost.
    fn too_large(&mut self, collector: usize, number: u64, outcome: &Outcome, now: Instant) {
        let refusal = self.refusal(collector, outcome);
        let of_entry = |entry: &Entry| {
            refusal.clone().map(|refusal| Refusal {
                bytes: entry.bytes(),
                ..refusal
            })
        };
        if let Some(entry) = self.backlog.divide(number) {
            let event = of_entry(&entry).map(|refusal| Event::Divided { refusal });
            // The parts come to the disk before the whole is settled there.
            self.copy_to_spool(now);
            self.settled(&entry, State::Divided);
            self.give_back(entry);
            self.give_up_excess();
            if let Some(event) = event {
                self.observer.report(collector, &event, now);
            }
        } else if let Some(entry) = self.backlog.remove(number) {
            let refusal = of_entry(&entry);
            self.give_up(entry, DropReason::TooLarge);
            let Some(refusal) = refusal else { return };
            let calls_lost = self.calls_lost();
            let event = Event::TooLarge {
                refusal,
                calls_lost,
            };
            let one = self.collectors.get_mut(collector);
            // Nothing that it takes lies between this one and the last: it may be that it takes nothing.
            if one.is_some_and(Collector::found_too_large) {
                self.in_trouble(collector, &event, now);
            } else {
                self.failed(collector, &event, now);
            }
        }
    }

    /// A bundle was accepted.
    fn is_up(&mut self, collector: usize, now: Instant) {
        let one = self.collectors.get_mut(collector);
        let was_up = one.map_or(Some(true), Collector::accepted);
        // Most bundles change nothing.
        if self.observer.recorder.is_down() {
            self.observer.recorder.set_down(false);
        }
        if was_up != Some(true) {
            self.observer.answers.set_places(self.collectors.places());
        }
        if was_up == Some(false) {
            let event = Event::Up {
                collector: self.name(collector),
                calls_lost: self.calls_lost(),
            };
            self.observer.report(collector, &event, now);
        }
    }

    fn is_down(&mut self, collector: usize, outcome: &Outcome, now: Instant) {
        let failures = self.collectors.get(collector).map(Collector::failures);
        let event = Event::Down {
            collector: self.name(collector),
            cause: outcome.clone(),
            tries: failures.unwrap_or_default(),
            next_try: self.next_try(collector, now),
            bundles_max: self.backlog.bundles_max(),
            instead: self.instead(now),
            calls_lost: self.calls_lost(),
        };
        self.in_trouble(collector, &event, now);
    }

    /// A collector takes nothing, as status and log have it from now on. The sink is down when no other one takes its place.
    fn in_trouble(&mut self, collector: usize, event: &Event, now: Instant) {
        if let Some(one) = self.collectors.get_mut(collector) {
            one.failed(event.trouble());
        }
        self.observer.answers.set_places(self.collectors.places());
        self.failed(collector, event, now);
        if self.collectors.are_down() {
            self.observer.recorder.set_down(true);
        }
    }

    /// Something was not delivered, as status and log have it.
    fn failed(&mut self, collector: usize, event: &Event, now: Instant) {
        let recorder = &self.observer.recorder;
        recorder.failed(Some(event.code()), event.trouble());
        self.observer.report(collector, event, now);
    }

    /// What an answer is, if it refuses.
    fn refusal(&self, collector: usize, outcome: &Outcome) -> Option<Refusal> {
        self.collectors.get(collector)?.refusal(outcome)
    }

    /// A collector as messages name it.
    fn name(&self, collector: usize) -> String {
        let one = self.collectors.get(collector);
        one.map_or_else(String::new, |one| one.name().to_owned())
    }

    /// Until a collector is tried again.
    fn next_try(&self, collector: usize, now: Instant) -> Duration {
        let one = self.collectors.get(collector);
        one.map_or(Duration::ZERO, |one| one.next_try(now))
    }

    /// The collector that takes bundles now, where another one does not.
    fn instead(&self, now: Instant) -> Option<String> {
        self.collectors
            .instead(now)
            .map(|one| one.name().to_owned())
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
        if let Some(spool) = &self.spool {
            spool.counted(self.observer.recorder.counters());
        }
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
