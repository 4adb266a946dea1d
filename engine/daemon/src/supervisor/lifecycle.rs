//! The life of a capture process: what it is started with, that it runs, that it ends, and what is known of its calls then.

use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use super::capture::{Capture, End, ask_capture, capture_control, died, is_own_store};
use super::child::Child;
use super::options::Options;
use super::{END_TIMEOUT, Supervisor, no_thread, respond};
use crate::config;
use crate::config::settings::row;
use crate::control::Response;
use crate::diagnostic::{Code, Diagnostic, Exit};
use crate::quantity::plural;
use crate::status::{InFlight, Killed, State, Status, Stopped};
use crate::store_process::StoreReport;

/// How long after its start a capture may take to answer before it is killed.
const START_TIMEOUT: Duration = Duration::from_secs(15);

impl Supervisor {
    pub(super) fn start_capture(&mut self, replies: Vec<Sender<Response>>) {
        self.wanted = true;
        let (arguments, options) = self.capture_arguments();
        let words: Vec<_> = arguments.iter().map(String::as_str).collect();
        self.in_flight = None;
        self.last = None;
        self.last_seconds = None;
        let started = Child::start("capture", &words, &options).and_then(|child| {
            let serving = child.input().and_then(|input| self.to_store.serve(input));
            serving.map_err(no_thread)?;
            Ok(child)
        });
        match started {
            Ok(child) => self.capture = Capture::Starting { child, replies },
            Err(problem) => {
                self.wanted = false;
                self.options.console.report(&problem);
                respond(
                    replies,
                    &Response::new(
                        problem.exit(),
                        format!("sniffer: ERROR (spawn error)\n{problem}"),
                    ),
                );
            }
        }
    }

    /// What a capture is started with: the settings, with the URL of the store if it is to have that, and what only the supervisor
    /// knows.
    fn capture_arguments(&self) -> (Vec<String>, Options) {
        let mut options = self.options.clone();
        let own_url = match &self.report {
            Some(StoreReport::Ready { capture_url, .. }) => Some(capture_url.clone()),
            _ => None,
        };
        let embedded = own_url.is_some() && is_own_store(&options.values, &self.settings);
        let url = match &self.report {
            Some(StoreReport::Taken { url, .. }) => Some(url.clone()),
            _ => own_url,
        };
        let has_url = options.values.has(row::url());
        if matches!(self.report, Some(StoreReport::Taken { .. })) && !has_url {
            // The store that was found is on this machine.
            config::allow_plain_http(&mut options.values);
        }
        if let (Some(url), true) = (url, embedded || !has_url) {
            options.values.set(row::url(), url);
        }
        options.control = capture_control(&options.control);
        options.values.remove(row::ui_token());
        options.values.remove(row::store_password());
        options.values.remove(row::store_reader_password());
        // Requests to the page and the store are self traffic: to show them would cause more of them.
        let own_ports = self
            .report
            .as_ref()
            .map(StoreReport::ports)
            .unwrap_or_default();
        let mut arguments = vec!["run".to_owned()];
        if !own_ports.is_empty() {
            arguments.extend(["--own-ports".to_owned(), own_ports]);
        }
        // And so is what the store sends to its database.
        let backend = self.report.as_ref().map_or(&[][..], StoreReport::backend);
        let backend: Vec<_> = backend.iter().map(ToString::to_string).collect();
        let backend = backend.join(",");
        if !backend.is_empty() {
            arguments.extend(["--own-addresses".to_owned(), backend]);
        }
        let Killed { captures, calls } = self.killed;
        for (option, count) in [("--killed-captures", captures), ("--killed-calls", calls)] {
            arguments.extend([option.to_owned(), count.to_string()]);
        }
        if embedded {
            arguments.push("--embedded-store".to_owned());
            if !options.values.has(row::annotate()) {
                options.values.set(row::annotate(), "true");
            }
        }
        (arguments, options)
    }

    /// Takes what the capture has printed: the number of its calls in flight, or its final status.
    fn take_lines(&mut self, child: &Child) {
        while let Some(line) = child.take_line() {
            if let Ok(InFlight { in_flight }) = serde_json::from_str(&line) {
                self.in_flight = Some((in_flight, Instant::now()));
            } else if let Ok(status) = serde_json::from_str::<Status>(&line) {
                self.last = status.capture;
                self.last_seconds = Some(status.uptime_seconds);
            }
        }
    }

    pub(super) fn tend_capture(&mut self) {
        let off = || Capture::Off(Stopped::default(), Instant::now());
        let capture = std::mem::replace(&mut self.capture, off());
        if let Capture::Starting { child, .. }
        | Capture::On { child }
        | Capture::Stopping { child, .. } = &capture
        {
            self.take_lines(child);
        }
        self.capture = match capture {
            Capture::Starting { mut child, replies } => match child.ended() {
                Some(code) => self.capture_ended(child, code, End::Died { was_on: false }, replies),
                None => match ask_capture(&self.options.control) {
                    Some(status) if status.state == State::Running => {
                        let sentence = status
                            .capture
                            .map(|capture| capture.sentence)
                            .unwrap_or_default();
                        respond(
                            replies,
                            &Response::new(Exit::Done, format!("sniffer: started\n{sentence}")),
                        );
                        Capture::On { child }
                    }
                    _ if child.ran() > START_TIMEOUT => {
                        child.kill();
                        Capture::Starting { child, replies }
                    }
                    _ => Capture::Starting { child, replies },
                },
            },
            Capture::On { mut child } => match child.ended() {
                Some(code) => {
                    self.capture_ended(child, code, End::Died { was_on: true }, Vec::new())
                }
                None => Capture::On { child },
            },
            Capture::Stopping {
                mut child,
                by,
                deadline,
                replies,
            } => match child.ended() {
                Some(code) => self.capture_ended(child, code, End::Stopped(by), replies),
                None => {
                    if Instant::now() > deadline {
                        child.kill();
                    }
                    Capture::Stopping {
                        child,
                        by,
                        deadline,
                        replies,
                    }
                }
            },
            off @ Capture::Off(..) => off,
        };
    }

    fn capture_ended(
        &mut self,
        child: Child,
        code: i32,
        end: End,
        replies: Vec<Sender<Response>>,
    ) -> Capture {
        // The last ones: it had ended before.
        self.take_lines(&child);
        let lost = self.note_killed(code, &end);
        let errors = child.error_tail();
        let summary = self
            .last
            .as_ref()
            .map(|capture| {
                let seconds = self.last_seconds;
                capture.summary(seconds.unwrap_or_else(|| child.ran().as_secs()))
            })
            .unwrap_or_default();
        let mut reason = String::new();
        let (by, again) = match end {
            End::Stopped(by) => {
                let exit = if code == Exit::Incomplete as i32 {
                    Exit::Incomplete
                } else {
                    Exit::Done
                };
                self.exit = exit;
                respond(
                    replies,
                    &Response::new(exit, format!("sniffer: stopped\n{summary}")),
                );
                (by.to_owned(), false)
            }
            End::Died { was_on } => {
                self.exit = Exit::from_code(u8::try_from(code).unwrap_or(1));
                let text = format!("sniffer: ERROR (spawn error)\n{errors}");
                respond(
                    replies,
                    &Response {
                        exit: u8::try_from(code).unwrap_or(1),
                        text,
                        ..Response::default()
                    },
                );
                let by = if code >= 0 {
                    format!("exit code {code}")
                } else {
                    format!("signal {}", -code)
                };
                reason = died(was_on, &errors);
                // A restart would not solve a problem of the settings or of the machine.
                (by, was_on && ![2, 5, 6].contains(&code))
            }
        };
        self.wanted = again;
        if again {
            self.capture_restart.after(child.ran());
            self.options.console.report(&Diagnostic::new(
                Code::W102,
                format!("capture ended by itself ({by}){lost}; starting it again"),
            ));
        } else if !lost.is_empty() {
            let what = format!("capture was ended ({by}){lost}");
            self.options
                .console
                .report(&Diagnostic::new(Code::W102, what));
        }
        let stopped = Stopped {
            by,
            seconds: 0,
            reason,
        };
        Capture::Off(stopped, Instant::now())
    }

    /// Counts a capture that ran and that a signal ended without a final status, and describes what is known of its calls.
    fn note_killed(&mut self, code: i32, end: &End) -> String {
        let has_run = !matches!(end, End::Died { was_on: false });
        if code >= 0 || self.last.is_some() || !has_run {
            return String::new();
        }
        self.killed.captures += 1;
        // Nothing was printed as long as there was none.
        let Some((calls, at)) = self.in_flight else {
            return " with no call in flight".to_owned();
        };
        self.killed.calls += calls;
        let calls = plural(calls, "call");
        let ago = at.elapsed().as_secs_f32();
        format!(
            " with {calls} in flight, as of {ago:.1} s before: lost, but for those that were delivered after that"
        )
    }

    pub(super) fn stop_capture(&mut self, by: &'static str, reply: Option<Sender<Response>>) {
        self.wanted = false;
        let off = Capture::Off(Stopped::default(), Instant::now());
        self.capture = match std::mem::replace(&mut self.capture, off) {
            Capture::Starting {
                mut child,
                replies: mut waiting,
            } => {
                child.ask_to_end();
                respond(
                    std::mem::take(&mut waiting),
                    &Response::new(Exit::Done, "sniffer: ERROR (stopped while starting)"),
                );
                Capture::Stopping {
                    child,
                    by,
                    deadline: self.deadline(),
                    replies: reply.into_iter().collect(),
                }
            }
            Capture::On { mut child } => {
                child.ask_to_end();
                Capture::Stopping {
                    child,
                    by,
                    deadline: self.deadline(),
                    replies: reply.into_iter().collect(),
                }
            }
            Capture::Stopping {
                child,
                by,
                deadline,
                mut replies,
            } => {
                replies.extend(reply);
                Capture::Stopping {
                    child,
                    by,
                    deadline,
                    replies,
                }
            }
            off @ Capture::Off(..) => {
                respond(
                    reply.into_iter().collect(),
                    &Response::new(Exit::Done, "sniffer: ERROR (not running)"),
                );
                off
            }
        };
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.settings.flush_timeout + END_TIMEOUT
    }
}
