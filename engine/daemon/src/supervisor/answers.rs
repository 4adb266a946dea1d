//! What the supervisor answers to requests of the control socket.

use std::sync::mpsc::Sender;
use std::time::Duration;

use super::capture::{Capture, ask_capture, capture_control};
use super::child::Child;
use super::{Supervisor, respond};
use crate::control::{self, Request, Response};
use crate::diagnostic::Exit;
use crate::status::{self, State, Status, Stopped};
use crate::store_process::{StoreReport, cannot_store};

impl Supervisor {
    pub(super) fn answer(&mut self, request: Request, reply: Sender<Response>) {
        match request {
            Request::Status => {
                let status = self.status();
                let exit = if status.state == State::Running {
                    Exit::Done
                } else {
                    Exit::NotRunning
                };
                respond(
                    vec![reply],
                    &Response {
                        exit: exit as u8,
                        status: Some(status),
                        ..Response::default()
                    },
                );
            }
            Request::On => match &mut self.capture {
                Capture::Off(..) => self.start_capture(vec![reply]),
                Capture::Starting { replies, .. } => replies.push(reply),
                Capture::On { .. } => respond(
                    vec![reply],
                    &Response::new(Exit::Done, "sniffer: ERROR (already started)"),
                ),
                Capture::Stopping { .. } => respond(
                    vec![reply],
                    &Response::new(Exit::Done, "sniffer: ERROR (still stopping)"),
                ),
            },
            Request::Off => self.stop_capture("user", Some(reply)),
            Request::Reload => respond(vec![reply], &self.reload()),
            Request::Drain | Request::Discard { .. } | Request::Metrics | Request::Packets(_) => {
                respond(vec![reply], &self.pass_on(request));
            }
            Request::Page => respond(vec![reply], &self.page()),
        }
    }

    /// The link that opens the page. Who reaches the control socket may have it.
    fn page(&self) -> Response {
        match &self.report {
            Some(StoreReport::Ready { page_link, .. }) => {
                Response::new(Exit::Done, page_link.reveal())
            }
            Some(StoreReport::Taken { by, .. }) => Response::new(
                Exit::NotRunning,
                format!("calls go to the store of another program: {by}"),
            ),
            Some(StoreReport::Health { .. }) | None => {
                Response::new(Exit::NotRunning, "the store is not ready yet")
            }
        }
    }

    /// Passes the request on to the capture; one that is started later reads the rules anyway.
    pub(super) fn reload(&self) -> Response {
        let control = capture_control(&self.options.control);
        let nothing = || {
            Response::new(
                Exit::Done,
                "sniffer: not capturing; the rules are read at the next start",
            )
        };
        control::send(&control, Request::Reload, Duration::from_secs(10))
            .unwrap_or_else(|_| nothing())
    }

    /// Passes the request on to the capture.
    fn pass_on(&self, request: Request) -> Response {
        let control = capture_control(&self.options.control);
        let nothing = || Response::new(Exit::NotRunning, "sniffer: not capturing");
        control::send(&control, request, Duration::from_secs(10)).unwrap_or_else(|_| nothing())
    }

    pub(super) fn status(&self) -> Status {
        let mut status = match &self.capture {
            Capture::On { child }
            | Capture::Starting { child, .. }
            | Capture::Stopping { child, .. } => {
                let stopping = matches!(self.capture, Capture::Stopping { .. });
                let mut status = ask_capture(&self.options.control).unwrap_or_else(|| Status {
                    pid: child.pid(),
                    ..status::empty()
                });
                if stopping {
                    status.state = State::Stopping;
                }
                status
            }
            Capture::Off(stopped, since) => {
                let stopped = Stopped {
                    seconds: since.elapsed().as_secs(),
                    ..stopped.clone()
                };
                Status {
                    capture: self.last.clone(),
                    stopped: Some(stopped),
                    ..status::empty()
                }
            }
        };
        status.killed = self.killed;
        status.store = self.report.as_ref().map(|report| status::Store {
            url: report.url().to_owned(),
            page: report.page().to_owned(),
            pid: self.store.as_ref().map_or(0, Child::pid),
            other: match report {
                StoreReport::Taken { by, .. } => by.clone(),
                _ => String::new(),
            },
            restarts: self.store_restart.count,
        });
        if let Some(reason) = &self.store_problem {
            let data = self.settings.data.display().to_string();
            status
                .warnings
                .push(status::Warning::new(&cannot_store(reason, &data)));
        }
        status
    }
}
