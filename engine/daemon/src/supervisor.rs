//! The all-in-one: store and capture as two processes under one that only supervises them.
//!
//! The page or a query can never harm the capture, and a crash of either process costs one restart. The children end
//! whenever the supervisor ends, since their standard input is a pipe from it. On SIGTERM the capture ends first, so that
//! it can still deliver, and then the store. The supervisor itself reads neither packets nor calls.

use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use engine_sys::process;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};

use crate::config;
use crate::config::command_line::AllInOneFlags;
use crate::config::setting::ALL_IN_ONE;
use crate::config::settings::{Settings, row};
use crate::config::values::Values;
use crate::control::{self, Request, Response, Server};
use crate::descriptors;
use crate::diagnostic::{Code, Diagnostic, Exit, printable};
use crate::invocation::Invocation;
use crate::limits::PACKETS_FILE_WAIT;
use crate::process::container;
use crate::quantity::plural;
use crate::signals;
use crate::status::{self, InFlight, Killed, State, Status, Stopped};
use crate::store_process::{StoreReport, page_from_elsewhere, page_shown};
use child::Child;
pub use options::Options;
use restart::Restart;
use to_store::ToStore;

mod answers;
mod child;
mod from_store;
mod harmless;
mod options;
mod restart;
mod to_store;

/// How often the children are checked while no event arrives.
const TEND_EVERY: Duration = Duration::from_millis(50);

/// How long after its start a capture may take to answer before it is killed.
const START_TIMEOUT: Duration = Duration::from_secs(15);

/// How much longer than its flush timeout a child may take to end.
const END_TIMEOUT: Duration = Duration::from_secs(5);

enum Event {
    Signal(i32),
    Request(Request, Sender<Response>),
}

/// `sniffer all-in-one`.
pub fn command(flags: &AllInOneFlags, invocation: &Invocation) -> Result<Exit, Diagnostic> {
    let mut values = invocation.values()?;
    flags.settings.apply(&mut values);
    run(Options {
        on: Settings::check(&values, ALL_IN_ONE)?.autostart,
        values,
        control: invocation.control.clone(),
        console: invocation.console,
        is_demo: false,
    })
}

/// Runs until SIGTERM or SIGINT.
pub fn run(options: Options) -> Result<Exit, Diagnostic> {
    // Bad settings are reported now and not at the first `sniffer on`.
    let settings = Settings::check(&options.values, ALL_IN_ONE)?;
    let token = config::page_token(&settings)?;
    config::packets_of_page(&settings, &token)?;
    check_capture(&options.values, &settings)?;
    let server = Server::bind(&options.control)?;
    let (sender, events) = mpsc::channel();
    let (requests, of_store) = (sender.clone(), sender.clone());
    let serving = server
        .serve(move |request| forward(&requests, request))
        .map_err(no_thread)?;
    signals::watch(sender, Event::Signal).map_err(no_thread)?;

    let is_demo = options.is_demo;
    if let (Some(warning), false) = (config::open_page(&settings, &token), is_demo) {
        options.console.report(&warning);
    }
    let post_token = config::post_token(&settings)?;
    if let Some(warning) = config::open_posts(&settings, post_token.as_ref()) {
        options.console.report(&warning);
    }
    let mut supervisor = Supervisor::new(options, settings, of_store);
    supervisor.start_store();
    let exit = loop {
        match events.recv_timeout(TEND_EVERY) {
            Ok(Event::Signal(SIGUSR1)) => supervisor
                .options
                .console
                .info(printable(supervisor.status().render().trim_end())),
            Ok(Event::Signal(SIGHUP)) => drop(supervisor.reload()),
            Ok(Event::Signal(_)) | Err(RecvTimeoutError::Disconnected) => {
                break supervisor.end(&events);
            }
            Ok(Event::Request(request, reply)) => supervisor.answer(request, reply),
            Err(RecvTimeoutError::Timeout) => {}
        }
        if let Some(fatal) = supervisor.tend() {
            supervisor.end(&events);
            break fatal;
        }
    };
    // Nothing answers what still waits to be handled; the answers that were given are sent before the end.
    drop(events);
    drop(serving);
    Ok(exit)
}

/// A control client's request, answered by the supervisor's loop.
fn forward(events: &Sender<Event>, request: Request) -> Response {
    let (reply, answer) = mpsc::channel();
    let gone = || Response::new(Exit::Unknown, "sniffer: ERROR (the supervisor is ending)");
    if events.send(Event::Request(request, reply)).is_err() {
        return gone();
    }
    answer.recv().unwrap_or_else(|_| gone())
}

fn no_thread(error: std::io::Error) -> Diagnostic {
    Diagnostic::new(
        Code::E199,
        format!("cannot watch signals and control socket: {error}"),
    )
}

/// Checks the settings of the capture, with the store's own URL when none is given.
fn check_capture(values: &Values, settings: &Settings) -> Result<(), Diagnostic> {
    let mut values = values.clone();
    let embedded = !values.has(row::url());
    if embedded {
        values.set(row::url(), "http://localhost/message");
    }
    config::capture(&values, embedded || is_own_store(&values, settings)).map(drop)
}

/// Whether the configured URL is that of the embedded store, as in the environment files of network-sniffer 1.x.
fn is_own_store(values: &Values, settings: &Settings) -> bool {
    let Some(url) = values.given(row::url()) else {
        return true;
    };
    let port = settings.store.port();
    let own =
        ["localhost", "127.0.0.1", "[::1]"].map(|host| format!("http://{host}:{port}/message"));
    own.iter().any(|own| own == url.text.trim())
}

/// The state of the capture process.
enum Capture {
    Off(Stopped, Instant),
    Starting {
        child: Child,
        replies: Vec<Sender<Response>>,
    },
    On {
        child: Child,
    },
    Stopping {
        child: Child,
        by: &'static str,
        deadline: Instant,
        replies: Vec<Sender<Response>>,
    },
}

/// Why a capture ended.
enum End {
    /// It was stopped, by a user or a signal.
    Stopped(&'static str),
    /// It ended by itself, while it started or later.
    Died { was_on: bool },
}

struct Supervisor {
    options: Options,
    settings: Settings,
    /// Where requests of the store go.
    requests: Sender<Event>,
    store: Option<Child>,
    to_store: ToStore,
    report: Option<StoreReport>,
    /// Why the store cannot store calls now.
    store_problem: Option<String>,
    store_restart: Restart,
    capture: Capture,
    capture_restart: Restart,
    /// Capture is to be started as soon as the store is ready.
    wanted: bool,
    /// The final status of the last capture.
    last: Option<status::Capture>,
    /// Seconds that it captured, by its own count.
    last_seconds: Option<u64>,
    /// The calls in flight of the present capture as it printed them last, and when that was.
    in_flight: Option<(u64, Instant)>,
    /// Captures that were killed.
    killed: Killed,
    exit: Exit,
}

impl Supervisor {
    fn new(options: Options, settings: Settings, requests: Sender<Event>) -> Self {
        Self {
            wanted: options.on,
            options,
            settings,
            requests,
            store: None,
            to_store: ToStore::default(),
            report: None,
            store_problem: None,
            store_restart: Restart::default(),
            capture: Capture::Off(Stopped::default(), Instant::now()),
            capture_restart: Restart::default(),
            last: None,
            last_seconds: None,
            in_flight: None,
            killed: Killed::default(),
            exit: Exit::Done,
        }
    }

    fn start_store(&mut self) {
        match Child::start("store", &["store"], &self.options) {
            Ok(child) => {
                let input = child.input().ok();
                // The first connection that a store gets is this one; without it the page shows no capture.
                if let Some(input) = &input {
                    let _ = self.link(input);
                }
                self.to_store.set(input);
                self.store = Some(child);
            }
            Err(problem) => {
                self.options.console.report(&problem);
                self.store_restart.later();
            }
        }
    }

    /// Gives the store the link over which it sends its requests.
    fn link(&self, store: &UnixStream) -> std::io::Result<()> {
        let (ours, theirs) = UnixStream::pair()?;
        let (answering, passing) = (self.requests.clone(), self.requests.clone());
        let pass = move |request| {
            // Nobody waits for the answer.
            let (reply, _) = mpsc::channel();
            drop(passing.send(Event::Request(request, reply)));
        };
        // The capture answers this itself, so that the supervisor's loop does not wait for a file.
        let control = capture_control(&self.options.control);
        let packets = move |wanted| {
            control::send(&control, Request::Packets(wanted), PACKETS_FILE_WAIT)
                .unwrap_or_else(|_| Response::new(Exit::NotRunning, "no capture is running"))
        };
        let status = move |request| forward(&answering, request);
        from_store::serve(ours, status, pass, packets)?;
        descriptors::send(store.as_fd(), theirs.as_fd())?;
        Ok(())
    }

    /// Checks on both children; returns an exit code if the supervisor has to end.
    fn tend(&mut self) -> Option<Exit> {
        if process::is_first() {
            process::forget_other_children(&self.children());
        }
        let fatal = self.tend_store();
        self.tend_capture();
        if self.wanted
            && self.report.is_some()
            && matches!(self.capture, Capture::Off(..))
            && self.capture_restart.is_due()
        {
            self.start_capture(Vec::new());
        }
        fatal
    }

    /// The processes that it started.
    fn children(&self) -> Vec<u32> {
        let capture = match &self.capture {
            Capture::Off(..) => None,
            Capture::Starting { child, .. }
            | Capture::On { child }
            | Capture::Stopping { child, .. } => Some(child),
        };
        self.store.iter().chain(capture).map(Child::pid).collect()
    }

    fn tend_store(&mut self) -> Option<Exit> {
        let Some(child) = &mut self.store else {
            if self.report.as_ref().is_none_or(StoreReport::is_ours) && self.store_restart.is_due()
            {
                self.start_store();
            }
            return None;
        };
        let ended = child.ended();
        let ran = child.ran();
        let report = child
            .take_line()
            .and_then(|line| serde_json::from_str::<StoreReport>(&line).ok());
        let report = report.filter(|report| report.is_plausible(&self.settings));
        match report {
            Some(StoreReport::Health { problem }) => self.store_problem = problem,
            Some(report) => {
                if self.report.is_none() {
                    self.announce(&report);
                }
                self.report = Some(report);
                self.store_problem = None;
            }
            None => {}
        }
        let ended = ended?;
        self.store = None;
        self.to_store.set(None);
        match &self.report {
            Some(report) if !report.is_ours() => None,
            None if ended == Exit::Usage as i32 => Some(Exit::Usage),
            _ => {
                self.store_restart.after(ran);
                self.options.console.report(&Diagnostic::new(
                    Code::W102,
                    "the store ended by itself; starting it again",
                ));
                None
            }
        }
    }

    fn announce(&self, report: &StoreReport) {
        let console = self.options.console;
        match report {
            StoreReport::Ready {
                capture_url,
                page_url,
                page_link,
                backend: _,
            } => {
                let port = capture_url.rsplit(':').next().unwrap_or(capture_url);
                let how = format!("`{}` prints the link that opens it", typed_on_host("sniffer page"));
                let page = page_shown(&self.settings, page_url, page_link, &how);
                let elsewhere = page_from_elsewhere(self.settings.ui);
                console.info(format!("store ready on :{port}, page on {page}{elsewhere}"));
            }
            StoreReport::Health { .. } => {}
            StoreReport::Taken { url, by } => console.report(
                &Diagnostic::new(
                    Code::W100,
                    format!(
                        "{by}: it answers as a capture URL, so calls go there, to {url}, and there is no page"
                    ),
                )
                .fix("SNIFFER_STORE=:7711 SNIFFER_UI=127.0.0.1:7710    run a store and a page in addition"),
            ),
        }
        if !self.options.on {
            console.info(format!(
                "sniffer is off. Turn it on: {}",
                typed_on_host("sniffer on")
            ));
        }
    }

    fn start_capture(&mut self, replies: Vec<Sender<Response>>) {
        self.wanted = true;
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
        let mut arguments = vec!["run"];
        if !own_ports.is_empty() {
            arguments.extend(["--own-ports", own_ports.as_str()]);
        }
        // And so is what the store sends to its database.
        let backend = self.report.as_ref().map_or(&[][..], StoreReport::backend);
        let backend: Vec<_> = backend.iter().map(ToString::to_string).collect();
        let backend = backend.join(",");
        if !backend.is_empty() {
            arguments.extend(["--own-addresses", backend.as_str()]);
        }
        let Killed { captures, calls } = self.killed;
        let killed = [captures, calls].map(|count| count.to_string());
        arguments.extend([
            "--killed-captures",
            &killed[0],
            "--killed-calls",
            &killed[1],
        ]);
        self.in_flight = None;
        self.last = None;
        self.last_seconds = None;
        if embedded {
            arguments.push("--embedded-store");
            if !options.values.has(row::annotate()) {
                options.values.set(row::annotate(), "true");
            }
        }
        let started = Child::start("capture", &arguments, &options).and_then(|child| {
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

    fn tend_capture(&mut self) {
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

    fn stop_capture(&mut self, by: &'static str, reply: Option<Sender<Response>>) {
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

    /// Ends the capture first, so that it can deliver, then the store. At a second signal the capture leaves to its spool what it
    /// has and ends; a third one or the deadline kills it.
    fn end(mut self, events: &mpsc::Receiver<Event>) -> Exit {
        let mut is_hurried = false;
        self.stop_capture("signal", None);
        while !matches!(self.capture, Capture::Off(..)) {
            match events.recv_timeout(TEND_EVERY) {
                Ok(Event::Signal(SIGTERM | SIGINT)) => {
                    if let Capture::Stopping {
                        child, deadline, ..
                    } = &mut self.capture
                    {
                        child.hurry();
                        let more = if is_hurried {
                            Duration::ZERO
                        } else {
                            END_TIMEOUT
                        };
                        *deadline = Instant::now() + more;
                        is_hurried = true;
                    }
                }
                Ok(Event::Request(request @ Request::Status, reply)) => self.answer(request, reply),
                Ok(Event::Request(_, reply)) => respond(
                    vec![reply],
                    &Response::new(Exit::Unknown, "sniffer: ERROR (ending)"),
                ),
                _ => {}
            }
            self.tend_capture();
        }
        // A capture that was killed could not remove its control socket.
        let _ = std::fs::remove_file(capture_control(&self.options.control));
        if let Some(mut store) = self.store.take() {
            store.ask_to_end();
            let deadline = Instant::now() + END_TIMEOUT;
            while store.ended().is_none() {
                if Instant::now() > deadline {
                    store.kill();
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        self.exit
    }
}

/// A command as it is typed on the host, whether this runs in a container or not.
fn typed_on_host(command: &str) -> String {
    container().map_or_else(|| command.to_owned(), |kind| kind.exec(command))
}

/// Why a capture ended by itself, from the last error that it reported: `capture could not start: ... [E010]`. Empty if it
/// reported none.
fn died(was_on: bool, errors: &str) -> String {
    let error = errors
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix("error[")?.split_once("]: "));
    let before = if was_on {
        "capture ended"
    } else {
        "capture could not start"
    };
    error.map_or_else(String::new, |(code, what)| {
        format!("{before}: {what} [{code}]")
    })
}

/// The control socket of the capture process, in the folder of the supervisor's.
fn capture_control(control: &Path) -> PathBuf {
    let mut name = control.as_os_str().to_owned();
    name.push(".capture");
    PathBuf::from(name)
}

fn ask_capture(control: &Path) -> Option<Status> {
    control::send(
        &capture_control(control),
        Request::Status,
        Duration::from_secs(2),
    )
    .ok()?
    .status
}

/// Sends a response to all that wait. A client that went away does not need it.
fn respond(replies: Vec<Sender<Response>>, response: &Response) {
    for reply in replies {
        let _ = reply.send(response.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_of_a_capture_that_died_is_its_last_error() {
        let errors = "warning[W021]: dmy0 is down\nerror[E010]: may not open a packet socket\n  fix: run as root\n";
        assert_eq!(
            died(false, errors),
            "capture could not start: may not open a packet socket [E010]"
        );
        assert_eq!(
            died(true, errors),
            "capture ended: may not open a packet socket [E010]"
        );
        assert_eq!(died(true, "killed"), "");
    }
}
