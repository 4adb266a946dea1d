//! The thread of a sink that writes lines to something that is already there: a folder, standard output.
//!
//! Bundles go from the shards into a [`Backlog`] of its own bound, and from there one after the other to a [`Target`]. One that
//! cannot be written now stays the first in line; what does not fit behind it is given up and counted as `queue_full`. So a full
//! disk, or a reader that does not read, costs calls of this sink and holds up neither a shard nor another sink. The thread never
//! waits in a write: it sleeps until a shard has something, the target takes more, or a second is over.

use std::fmt;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::backlog::{Backlog, Entry};
use super::kind::{Monitor, Running, Started};
use super::outbox::{Inbox, Inboxes, outboxes};
use super::outlet::Outlet;
use super::parker::Parker;
use super::stats::{Detail, DropReason, Recorder, Snapshot, Stats};
use crate::diagnostic::{Code, Console, Diagnostic};

/// Longest sleep, and the pause after a write that failed.
const PAUSE: Duration = Duration::from_secs(1);

/// What became of a write.
#[derive(Debug)]
pub enum Write {
    /// All of it is written.
    Done,
    /// The rest is to be written once the target takes more: the same lines again, of which it knows how many it has.
    Blocked,
    /// Nothing of it is written, for this reason; later it may be.
    Failed(String),
    /// It will never take anything again.
    Closed(String),
}

/// Where lines are written.
pub trait Target: Send + 'static {
    /// Writes the lines of a bundle with this number of calls.
    fn write(&mut self, lines: &[u8], calls: u64, now: Instant) -> Write;

    /// What becomes writable when it takes more; none where it never blocks.
    fn blocked_on(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Does what is due without a line. A failure is reported.
    ///
    /// # Errors
    ///
    /// Why it cannot be done now.
    fn tick(&mut self, _now: Instant) -> Result<(), String> {
        Ok(())
    }

    /// Nothing comes any longer.
    ///
    /// # Errors
    ///
    /// Why the end cannot be written.
    fn close(&mut self) -> Result<(), String> {
        Ok(())
    }
}

/// What a sink of this kind is called, and what bounds its backlog.
pub struct Config {
    /// In the settings.
    pub name: String,
    /// Where it writes to.
    pub place: String,
    /// What it does, for the sentence at the start.
    pub description: String,
    /// The warning that a write failed.
    pub code: Code,
    /// Bundles that wait at most.
    pub bundles_max: usize,
    /// Bytes of memory that they take at most.
    pub bytes_max: usize,
}

/// Starts the thread.
///
/// # Errors
///
/// The kernel gives no thread.
pub fn start(
    config: Config,
    target: impl Target,
    detail: impl Fn() -> Detail + Send + Sync + 'static,
    shards: usize,
    console: Console,
) -> io::Result<Started> {
    let (outboxes, inboxes) = outboxes(shards)?;
    let stats = Arc::new(Stats::new(inboxes.columns.clone()));
    let stop = Arc::<Mutex<Option<Instant>>>::default();
    let Inboxes {
        inboxes, parker, ..
    } = inboxes;
    let thread = Thread {
        backlog: Backlog::new(config.bundles_max, config.bytes_max),
        recorder: Recorder::new(Arc::clone(&stats)),
        current: None,
        state: State::Up,
        inboxes,
        place: config.place.clone(),
        code: config.code,
        console,
        target,
        stop: Arc::clone(&stop),
        parker: Arc::clone(&parker),
    };
    let thread = thread::Builder::new()
        .name(format!("sink-{}", config.name).chars().take(15).collect())
        .spawn(move || thread.run())?;
    let monitor = Arc::new(Counts {
        stats,
        name: config.name,
        place: config.place,
        detail: Box::new(detail),
    });
    Ok(Started {
        outlets: outboxes.into_iter().map(Outlet::Outbox).collect(),
        running: Box::new(WritingSink {
            monitor,
            description: config.description,
            stop,
            parker,
            thread,
        }),
    })
}

/// The sink while it runs.
struct WritingSink {
    monitor: Arc<Counts>,
    description: String,
    stop: Arc<Mutex<Option<Instant>>>,
    parker: Arc<Parker>,
    thread: JoinHandle<()>,
}

impl Running for WritingSink {
    fn monitor(&self) -> Arc<dyn Monitor> {
        self.monitor.clone()
    }

    fn description(&self) -> String {
        self.description.clone()
    }

    fn begin_stop(&mut self, deadline: Instant) {
        *self.stop.lock().unwrap_or_else(PoisonError::into_inner) = Some(deadline);
        self.parker.unpark();
    }

    fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    fn wait(self: Box<Self>) {
        // A panic there was reported by its own thread.
        let _ = self.thread.join();
    }
}

/// What the thread and the shards counted.
struct Counts {
    stats: Arc<Stats>,
    name: String,
    place: String,
    detail: Box<dyn Fn() -> Detail + Send + Sync>,
}

impl Monitor for Counts {
    fn snapshot(&self) -> Snapshot {
        let mut snapshot = self.stats.snapshot(&self.name, &self.place);
        snapshot.detail = Some((self.detail)());
        snapshot
    }
}

/// Whether the target takes lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Up,
    /// The last write failed; the next is tried at this time.
    Down(Instant),
    /// It will never take one again.
    Closed,
}

struct Thread<T> {
    backlog: Backlog,
    recorder: Recorder,
    /// The entry of the backlog of which a part is written, or whose write failed.
    current: Option<u64>,
    state: State,
    inboxes: Vec<Inbox>,
    place: String,
    code: Code,
    console: Console,
    target: T,
    stop: Arc<Mutex<Option<Instant>>>,
    parker: Arc<Parker>,
}

impl<T: Target> Thread<T> {
    fn run(mut self) {
        loop {
            // Before the inboxes are read: what was pushed before the stop is written.
            let stop_at = *self.stop.lock().unwrap_or_else(PoisonError::into_inner);
            let is_blocked = self.write_all();
            if let Err(why) = self.target.tick(Instant::now()) {
                self.failed(why);
            }
            self.publish();
            let is_over = |at: Instant| self.backlog.is_empty() || at <= Instant::now();
            if stop_at.is_some_and(is_over) {
                break;
            }
            self.sleep(is_blocked, stop_at);
        }
        while let Some(entry) = self.backlog.pop() {
            self.recorder.dropped(entry.calls(), DropReason::Shutdown);
            self.give_back(entry.into_lease());
        }
        if let Err(why) = self.target.close() {
            self.failed(why);
        }
        self.publish();
    }

    /// Writes what there is, as far as the target takes it; true if it will take more later.
    fn write_all(&mut self) -> bool {
        loop {
            self.collect();
            let now = Instant::now();
            if matches!(self.state, State::Down(until) if until > now) {
                return false;
            }
            let next = match self.current {
                Some(number) => Some(number),
                None => self.backlog.start(now).map(Entry::number),
            };
            let Some(number) = next else {
                return false;
            };
            self.current = Some(number);
            let Some(entry) = self.backlog.entry(number) else {
                self.current = None;
                continue;
            };
            let calls = entry.calls();
            // Every bundle of a shard with such a sink has its lines.
            let lines = entry.lines().unwrap_or_default();
            self.recorder
                .attempted(matches!(self.state, State::Down(_)));
            match self.target.write(lines, calls, now) {
                Write::Done => self.done(number, now),
                Write::Blocked => return true,
                Write::Failed(why) => self.failed(why),
                Write::Closed(why) => self.closed(why),
            }
        }
    }

    fn done(&mut self, number: u64, now: Instant) {
        self.current = None;
        let Some(entry) = self.backlog.remove(number) else {
            return;
        };
        let took = now.saturating_duration_since(entry.since());
        let bytes = entry.lines().map_or(0, <[u8]>::len) as u64;
        (self.recorder).sent(entry.calls(), bytes, took, SystemTime::now());
        self.give_back(entry.into_lease());
        if matches!(self.state, State::Down(_)) {
            self.state = State::Up;
            self.recorder.set_down(false);
            let lost = self.recorder.counters().calls_dropped();
            (self.console).info(format_args!(
                "{}: writing again, {lost} calls dropped",
                self.place
            ));
        }
    }

    /// A write failed, or what is due without one. It is reported when it begins.
    fn failed(&mut self, why: String) {
        let is_new = self.state == State::Up;
        if self.state != State::Closed {
            self.state = State::Down(Instant::now() + PAUSE);
        }
        if is_new {
            self.report(&format_args!(
                "{}: {why}; bundles wait in memory",
                self.place
            ));
        }
        self.recorder.failed(Some(self.code), why);
        self.recorder.set_down(true);
    }

    fn closed(&mut self, why: String) {
        self.state = State::Closed;
        self.current = None;
        self.report(&format_args!(
            "{}: {why}; its calls are dropped from now on",
            self.place
        ));
        self.recorder.failed(Some(self.code), why);
        self.recorder.set_down(true);
    }

    fn report(&self, what: &dyn fmt::Display) {
        let problem = Diagnostic::new(self.code, what.to_string());
        self.console.report(&problem);
    }

    /// Takes what the shards have pushed, and gives up what is beyond the bound.
    fn collect(&mut self) {
        let now = Instant::now();
        for (shard, inbox) in self.inboxes.iter_mut().enumerate() {
            while let Some(lease) = inbox.take() {
                self.backlog.push(shard, lease, now);
            }
        }
        if self.state == State::Closed {
            while let Some(entry) = self.backlog.pop() {
                self.recorder.dropped(entry.calls(), DropReason::Closed);
                self.give_back(entry.into_lease());
            }
        }
        while let Some(entry) = self.backlog.take_excess() {
            self.recorder.dropped(entry.calls(), DropReason::QueueFull);
            self.give_back(entry.into_lease());
        }
    }

    fn give_back(&mut self, lease: Option<(usize, super::shared::Lease)>) {
        if let Some((shard, lease)) = lease
            && let Some(inbox) = self.inboxes.get_mut(shard)
        {
            inbox.give_back(lease);
        }
    }

    fn publish(&mut self) {
        let backlog = &self.backlog;
        for inbox in &self.inboxes {
            inbox.set_backlog(backlog.fill());
        }
        let oldest = backlog.oldest().map(|since| since.elapsed());
        (self.recorder).holds(backlog.bundles(), backlog.bytes(), backlog.calls(), oldest);
    }

    /// Until a shard pushes something, the target takes more, or a second is over.
    fn sleep(&self, is_blocked: bool, stop_at: Option<Instant>) {
        self.parker.prepare();
        let has_order = *self.stop.lock().unwrap_or_else(PoisonError::into_inner) != stop_at;
        if self.inboxes.iter().all(Inbox::is_empty) && !has_order {
            let event = self.parker.event();
            let target = self.target.blocked_on().filter(|_| is_blocked);
            let mut fds = vec![PollFd::from_borrowed_fd(event.as_fd(), PollFlags::IN)];
            fds.extend(target.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::OUT)));
            let until_stop = stop_at.map(|at| at.saturating_duration_since(Instant::now()));
            let pause = until_stop.map_or(PAUSE, |rest| rest.min(PAUSE));
            let pause = Timespec {
                tv_sec: pause.as_secs().cast_signed(),
                tv_nsec: pause.subsec_nanos().into(),
            };
            // It fails only for a signal or for lack of memory; then the loop goes round once more.
            let _ = poll(&mut fds, Some(&pause));
            event.reset();
        }
        self.parker.awake();
    }
}
