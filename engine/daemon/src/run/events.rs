//! What happens to a running capture: signals, the control socket's clients, and troubles, all answered by one thread.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::Duration;

use engine_sys::packet::Trouble;
use signal_hook::consts::{SIGHUP, SIGUSR1};

use super::context::{Context, bug};
use super::threads::Threads;
use crate::capture::hotplug::Follower;
use crate::control::{Request, Response};
use crate::diagnostic::{Diagnostic, Exit};
use crate::report::log::{Said, interface_trouble};
use crate::report::snapshot::View;
use crate::signals;
use crate::status::State;

/// How often the watcher looks at destination and rings.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// What happens to the watching thread.
pub enum Event {
    /// SIGTERM, SIGINT, SIGHUP, SIGUSR1.
    Signal(i32),
    /// A client wants the rules read again.
    Reload(Sender<Response>),
    /// `sniffer off`.
    Off(Sender<Response>),
    /// A shard's interface has a problem.
    Trouble(String, Trouble),
    /// A shard ended before it was told to.
    ShardEnded,
}

/// Why the capture ends.
pub(super) enum Cause {
    Signal,
    Off(Sender<Response>),
    Broken,
}

/// Until somebody wants an end: says what changes, once each time.
pub(super) fn watch(
    threads: &Threads,
    events: &mpsc::Receiver<Event>,
    follower: &mut Follower,
    context: Context<'_>,
) -> Cause {
    let console = context.console;
    let mut said = Said::default();
    loop {
        match events.recv_timeout(WATCH_EVERY) {
            Ok(Event::Signal(SIGUSR1)) => {
                console.info(threads.view.status(State::Running).render().trim_end());
            }
            Ok(Event::Signal(SIGHUP)) => {
                drop(threads.reload(context));
                said.rules_changed();
            }
            Ok(Event::Signal(_)) | Err(RecvTimeoutError::Disconnected) => return Cause::Signal,
            Ok(Event::Reload(reply)) => {
                said.rules_changed();
                let (exit, text) = match threads.reload(context) {
                    Ok(said) => (Exit::Done, said),
                    Err(problem) => (problem.exit(), problem.to_string()),
                };
                // A client that went away does not need its answer.
                let _ = reply.send(Response::new(exit, text));
            }
            Ok(Event::Off(reply)) => return Cause::Off(reply),
            Ok(Event::ShardEnded) => return Cause::Broken,
            Ok(Event::Trouble(name, trouble)) => {
                follower.note();
                if let Some(problem) = interface_trouble(&name, trouble) {
                    console.report(&problem);
                }
            }
            Err(RecvTimeoutError::Timeout) => {
                said.changes(&threads.view, console);
                for opened in follower.look(console) {
                    threads.add(opened);
                }
            }
        }
    }
}

pub(super) fn watch_signals(events: Sender<Event>) -> Result<(), Diagnostic> {
    signals::watch(events, Event::Signal).map_err(|error| bug("cannot watch signals", &error))
}

pub(super) fn answer(view: &View, events: &Sender<Event>, request: Request) -> Response {
    match request {
        Request::Status => Response {
            status: Some(view.status(State::Running)),
            ..Response::default()
        },
        Request::On => Response::new(Exit::Done, "sniffer: ERROR (already started)"),
        Request::Off => forward(events, Event::Off),
        Request::Reload => forward(events, Event::Reload),
    }
}

/// Has the watching thread answer. When it is gone, so is the capture.
fn forward(events: &Sender<Event>, event: impl FnOnce(Sender<Response>) -> Event) -> Response {
    let (reply, answer) = mpsc::channel();
    let gone = || Response::new(Exit::Done, "sniffer: stopped");
    if events.send(event(reply)).is_err() {
        return gone();
    }
    answer.recv().unwrap_or_else(|_| gone())
}
