//! The loop of the thread that watches a capture: it handles events, and logs what changes.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGUSR1};

use super::context::Context;
use super::events::Event;
use super::threads::Threads;
use crate::capture::hotplug::Hotplug;
use crate::capture::shard::Notice;
use crate::control::Response;
use crate::diagnostic::Exit;
use crate::report::log::WarningLog;
use crate::report::warnings::interface_trouble;

/// How often counters and interfaces are checked.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// Why the capture ends.
pub(super) enum Cause {
    Signal,
    Off(Sender<Response>),
    Broken,
}

/// Handles events until one of them ends the capture.
pub(super) fn watch(
    threads: &Threads,
    events: &mpsc::Receiver<Event>,
    hotplug: &mut Hotplug,
    context: Context<'_>,
) -> Cause {
    let console = context.console;
    let mut log = WarningLog::default();
    loop {
        match events.recv_timeout(WATCH_EVERY) {
            Ok(Event::Signal(SIGUSR1)) => {
                console.info(threads.reporter.status().render().trim_end());
            }
            Ok(Event::Signal(SIGHUP)) => {
                drop(threads.reload(context));
                log.rules_changed();
            }
            Ok(Event::Signal(_)) | Err(RecvTimeoutError::Disconnected) => return Cause::Signal,
            Ok(Event::Reload(reply)) => {
                log.rules_changed();
                let (exit, text) = match threads.reload(context) {
                    Ok(text) => (Exit::Done, text),
                    Err(problem) => (problem.exit(), problem.to_string()),
                };
                // A client that is gone needs no answer.
                let _ = reply.send(Response::new(exit, text));
            }
            Ok(Event::Spool(order, reply)) => {
                let text = threads.order_spools(order);
                let _ = reply.send(Response::new(Exit::Done, text));
            }
            Ok(Event::Off(reply)) => return Cause::Off(reply),
            Ok(Event::Shard(Notice::Ended)) => return Cause::Broken,
            Ok(Event::Shard(Notice::Trouble { interface, trouble })) => {
                hotplug.note_change();
                if let Some(problem) = interface_trouble(&interface, trouble) {
                    console.report(&problem);
                }
            }
            Err(RecvTimeoutError::Timeout) => {
                log.changes(&threads.reporter, console);
                threads.follow(hotplug.changes(console));
            }
        }
    }
}
