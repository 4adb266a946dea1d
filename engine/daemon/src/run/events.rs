//! What the thread that watches a capture waits for: signals, requests of the control socket, notices of shards.

use std::sync::mpsc::{self, Sender};

use super::context::bug;
use crate::capture::shard::Notice;
use crate::control::{Request, Response};
use crate::diagnostic::{Diagnostic, Exit};
use crate::metrics::Page;
use crate::report::reporter::Reporter;
use crate::signals;

/// What the watching thread waits for.
pub enum Event {
    /// SIGTERM, SIGINT, SIGHUP, SIGUSR1.
    Signal(i32),
    /// `sniffer rules reload`.
    Reload(Sender<Response>),
    /// `sniffer off`.
    Off(Sender<Response>),
    /// `sniffer spool drain` and `discard`, and the answer to it.
    Spool(SpoolOrder, Sender<Response>),
    /// From a shard.
    Shard(Notice),
}

/// What a person orders of the spools.
#[derive(Clone, Copy, Debug)]
pub enum SpoolOrder {
    /// What is held is delivered.
    Drain,
    /// What is held, or everything, is given up.
    Discard {
        /// Everything.
        all: bool,
    },
}

/// Signals become events from now on.
pub(super) fn watch_signals(events: Sender<Event>) -> Result<(), Diagnostic> {
    signals::watch(events, Event::Signal).map_err(|error| bug("cannot watch signals", &error))
}

/// Answers a request of the control socket; what changes the capture is answered by the watching thread.
pub(super) fn answer(reporter: &Reporter, events: &Sender<Event>, request: Request) -> Response {
    match request {
        Request::Status => Response {
            status: Some(reporter.status()),
            ..Response::default()
        },
        Request::Metrics => Response::new(Exit::Done, reporter.page(Page::Metrics).text),
        Request::Packets(wanted) => reporter.packets(&wanted),
        Request::On => Response::new(Exit::Done, "sniffer: ERROR (already started)"),
        Request::Off => forward(events, Event::Off),
        Request::Reload => forward(events, Event::Reload),
        Request::Drain => forward(events, |reply| Event::Spool(SpoolOrder::Drain, reply)),
        Request::Discard { all } => forward(events, |reply| {
            Event::Spool(SpoolOrder::Discard { all }, reply)
        }),
        Request::Page => Response::new(
            Exit::NotRunning,
            "a capture without an embedded store runs here, and has no page",
        ),
    }
}

/// Passes the request on to the watching thread. When that thread is gone, so is the capture.
fn forward(events: &Sender<Event>, event: impl FnOnce(Sender<Response>) -> Event) -> Response {
    let (reply, answer) = mpsc::channel();
    let gone = || Response::new(Exit::Done, "sniffer: stopped");
    if events.send(event(reply)).is_err() {
        return gone();
    }
    answer.recv().unwrap_or_else(|_| gone())
}
