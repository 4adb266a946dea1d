//! The loop of the thread that watches a capture: it answers events, and logs what changes.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGUSR1};

use super::context::Context;
use super::events::Event;
use super::threads::Threads;
use crate::capture::hotplug::Follower;
use crate::capture::shard::Notice;
use crate::control::Response;
use crate::diagnostic::Exit;
use crate::report::log::{Said, interface_trouble};
use crate::status::State;

/// How often the watcher looks at destination and rings.
const WATCH_EVERY: Duration = Duration::from_secs(1);

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
            Ok(Event::Shard(Notice::Ended)) => return Cause::Broken,
            Ok(Event::Shard(Notice::Trouble { interface, trouble })) => {
                follower.note();
                if let Some(problem) = interface_trouble(&interface, trouble) {
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
