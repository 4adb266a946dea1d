//! `sniffer run`: rings open, capabilities gone, shards reading, one uploader delivering, until told to stop.
//!
//! This thread only starts, watches and stops the others. On SIGTERM the capture ends, the rings are drained, what is
//! open is completed or given up, bundles are delivered within the flush timeout, and the ledger is printed: what was
//! not delivered is said and makes the exit code 8.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::time::Duration;

use engine_sys::interfaces;
use engine_sys::packet::{SelfTest, Trouble};
use engine_sys::process;

use crate::config::{Capture, Destination, Rules};
use crate::control::{Response, Server};
use crate::diagnostic::{Code, Diagnostic, Exit, Talk};
use crate::metrics::Endpoint;
use crate::sandbox::Plan;
use crate::sink::http::Roots;
use crate::status::{State, Status};
use crate::supervised;
use choice::Choice;
use follow::Follower;
use own_upload::OwnUpload;
use rings::{Opened, Opener};
use running::{Ended, Running};
use view::View;
use watch::{Cause, answer, watch, watch_signals};

pub mod choice;
pub mod crossings;
pub mod follow;
pub mod hints;
pub mod overload;
pub mod own_upload;
mod pipeline;
pub mod published;
pub mod rings;
pub mod rule_watch;
mod running;
mod said;
mod sentence;
pub mod shard;
pub mod view;
mod watch;

pub use pipeline::pipeline_config;

/// What a run is told beside its settings.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    /// Control socket.
    pub control: &'a Path,
    /// Ports of this machine whose connections are our own and not read.
    pub own_ports: &'a [u16],
    /// A supervisor started us: end with it, and tell it the final status on standard output.
    pub is_supervised: bool,
    /// Reads the settings again for their rules: what a rules file says now.
    pub reload: &'a dyn Fn() -> Result<Rules, Diagnostic>,
    /// The file that the rules are in.
    pub rules_file: Option<&'a Path>,
    /// Confine this process once its rings are open.
    pub sandbox: bool,
    /// How to talk.
    pub talk: Talk,
}

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

/// Captures until SIGTERM, SIGINT or `sniffer off`.
pub fn run(config: Capture, place: Place<'_>) -> Result<Exit, Diagnostic> {
    let talk = place.talk;
    let choice = choose(&config)?;
    talk.show_all(&choice.notices);
    let metrics = Endpoint::open(config.metrics.as_ref())?;
    let server = Server::bind(place.control)?;
    let own = own_upload::endpoints(&config.destination, place.own_ports, metrics.address());
    let mut opener = Opener::new(&config, &choice, &own);
    let opened = open_all(&mut opener, &choice, talk)?;
    let own = OwnUpload::new(own);
    let mut follower = Follower::new(&config, &choice, opener)?;
    process::drop_capabilities().map_err(|error| bug("cannot give up capabilities", &error))?;
    // Refused only by kernels before 3.5.
    let _ = process::no_new_privileges();
    let roots = match &config.destination {
        Destination::Url(url) if url.is_https() => Roots::of_system(),
        _ => Roots::System,
    };
    let plan = Plan::capture(&config, place.rules_file, place.control);
    let files = place.sandbox.then(|| plan.confine_files());

    let (sender, events) = mpsc::channel();
    watch_signals(sender.clone())?;
    if place.is_supervised {
        supervised::end_with_supervisor();
    }
    let running = Running::start(
        config,
        &choice,
        opened,
        (&own, roots),
        sender.clone(),
        &metrics,
        talk,
    )?;
    let for_control = Arc::clone(&running.view);
    let serving = server
        .serve(move |request| answer(&for_control, &sender, request))
        .map_err(|error| bug("cannot serve the control socket", &error))?;
    talk.say(&running.view.sentence);
    serve_metrics(metrics, &running.view, talk)?;
    talk.say(format_args!("sandbox: {}", running.confine(plan, files)));

    let cause = watch(&running, &events, &mut follower, place);
    let Ended { view, panicked } = running.stop();
    let status = view.status(State::Stopped);
    let capture = status.capture.clone().unwrap_or_default();
    let summary = capture.summary(view.started.elapsed().as_secs());
    talk.say(&summary);
    if place.is_supervised {
        print_status(&status);
    }
    let exit = match (panicked, &capture.calls) {
        (true, _) => Exit::Bug,
        (false, calls)
            if calls.dropped_total() > 0 || calls.in_flight > 0 || calls.unaccounted != 0 =>
        {
            Exit::Incomplete
        }
        _ => Exit::Done,
    };
    if let Cause::Off(reply) = cause {
        // A client that went away does not need its answer; the pause lets the one that waits have it.
        let _ = reply.send(Response::say(exit, format!("sniffer: stopped\n{summary}")));
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(serving);
    Ok(exit)
}

fn serve_metrics(metrics: Endpoint, view: &Arc<View>, talk: Talk) -> Result<(), Diagnostic> {
    match metrics {
        Endpoint::Off => Ok(()),
        Endpoint::Taken(problem) => {
            talk.show(&problem);
            Ok(())
        }
        Endpoint::At(server) => {
            let view = Arc::clone(view);
            server
                .serve(move |page| view.page(page))
                .map_err(|error| bug("cannot serve metrics", &error))
        }
    }
}

fn bug(what: &str, error: &impl std::fmt::Display) -> Diagnostic {
    Diagnostic::new(Code::E199, format!("{what}: {error}"))
}

fn print_status(status: &Status) {
    use std::io::Write;
    if let Ok(mut line) = serde_json::to_vec(status) {
        line.push(b'\n');
        let _ = std::io::stdout().lock().write_all(&line);
    }
}

/// The interfaces that settings and machine lead to.
fn choose(config: &Capture) -> Result<Choice, Diagnostic> {
    let all = interfaces::list().map_err(|error| {
        Diagnostic::new(Code::E090, format!("cannot list interfaces: {error}"))
            .cause("rtnetlink(7) refused")
    })?;
    choice::choose(&config.interfaces, config.engine, &all)
}

/// Rings for each interface. Nothing is captured if one of them cannot be: a part that is silently missing is worse.
fn open_all(opener: &mut Opener, choice: &Choice, talk: Talk) -> Result<Vec<Opened>, Diagnostic> {
    if let SelfTest::Failed {
        flows,
        apart,
        rings,
    } = opener.self_test()
    {
        talk.show(&Diagnostic::new(
            Code::W073,
            format!("steering: of {flows} flows tried, {apart} had their directions on different shards, {rings} shards got any"),
        ));
    }
    choice
        .interfaces
        .iter()
        .map(|interface| opener.open(interface))
        .collect()
}

/// The value of a line of `/proc/self/status`.
fn proc_status(label: &str) -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix(label))
        .map_or("?".to_owned(), |value| value.trim().to_owned())
}
