//! The all-in-one: store and capture as two processes under one that only supervises them.
//!
//! The page or a query can never harm the capture, and a crash of either process costs one restart. The children end
//! whenever the supervisor ends, since their standard input is a pipe from it. On SIGTERM the capture ends first, so that
//! it can still deliver, and then the store. The supervisor itself reads neither packets nor calls.

use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
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
use crate::signals;
use crate::status::{self, Killed, Stopped};
use crate::store_process::{StoreReport, page_from_elsewhere, page_shown};
use capture::{Capture, capture_control, is_own_store};
use child::Child;
pub use options::Options;
use restart::Restart;
use to_store::ToStore;

mod answers;
mod capture;
mod child;
mod from_store;
mod harmless;
mod lifecycle;
mod options;
mod restart;
mod to_store;

/// How often the children are checked while no event arrives.
const TEND_EVERY: Duration = Duration::from_millis(50);

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

/// Sends a response to all that wait. A client that went away does not need it.
fn respond(replies: Vec<Sender<Response>>, response: &Response) {
    for reply in replies {
        let _ = reply.send(response.clone());
    }
}
