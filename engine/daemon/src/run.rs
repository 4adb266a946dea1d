//! `sniffer run`: a capture from start to stop.
//!
//! The start opens rings, gives up capabilities, starts shards and uploader, and confines the process. This thread then
//! only watches the others. On SIGTERM the capture ends, the rings are drained, open exchanges are completed or given up,
//! bundles are delivered within the flush timeout, and the ledger is printed: anything that was not delivered is in it and
//! makes the exit code 8.

use std::cell::RefCell;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;

use engine_core::decap::SelfTraffic;
use engine_sys::packet::SelfTest;
use engine_sys::process;

use crate::capture::hotplug::Hotplug;
use crate::capture::interfaces::{self, Choice};
use crate::capture::rings::{Opened, Opener};
use crate::capture::self_traffic;
use crate::config::command_line::RunFlags;
use crate::config::{self, Capture, Destination};
use crate::control::{Response, Server};
use crate::delegate::Delegate;
use crate::diagnostic::{Console, Diagnostic, Exit};
use crate::invocation::Invocation;
use crate::metrics::Endpoint;
use crate::pipeline::RulesShare;
use crate::random;
use crate::report::in_flight::Publication;
use crate::report::reporter::Reporter;
use crate::report::warnings;
use crate::sandbox::Plan;
use crate::sink::Sinks;
use crate::status::{Calls, Killed};
use crate::stdout::print_json;
use crate::supervised;
use context::{Context, bug};
use events::{answer, watch_signals};
use threads::{Ended, Setup, Threads};
use watch::{Cause, watch};

pub mod context;
pub mod events;
mod threads;
mod watch;

/// `sniffer run`.
pub fn command(flags: &RunFlags, invocation: &Invocation) -> Result<Exit, Diagnostic> {
    let mut values = invocation.values()?;
    flags.settings.apply(&mut values);
    if flags.supervised {
        config::spool_where_there_is_a_place(&mut values);
    }
    let config = config::capture(&values, flags.embedded_store)?;
    config::packets(&config.settings)?;
    let is_confined = !config.settings.no_sandbox;
    let read_rules = rules_reader(config::rules_files(&values), is_confined)?;
    let shards = config.settings.shards;
    let rules_share = RulesShare::of(&config.settings, &config.rule_sets, shards)?;
    let reload = || {
        let rule_sets = config::rules_again(&values, flags.embedded_store, &read_rules)?;
        rules_share.check(&rule_sets)?;
        Ok(rule_sets)
    };
    let context = Context {
        control: &invocation.control,
        own_ports: &flags.own_ports,
        own_addresses: &flags.own_addresses,
        reload: &reload,
        is_supervised: flags.supervised,
        killed: Killed {
            captures: flags.killed_captures,
            calls: flags.killed_calls,
        },
        console: invocation.console,
    };
    run(config, rules_share, context)
}

/// Captures until SIGTERM, SIGINT or `sniffer off`.
fn run(config: Capture, rules_share: RulesShare, context: Context<'_>) -> Result<Exit, Diagnostic> {
    let console = context.console;
    process::raise_capability();
    let choice = choose(&config)?;
    console.report_all(&choice.notices);
    let metrics = Endpoint::open(config.settings.metrics.as_ref())?;
    let server = Server::bind(context.control)?;
    let identity = random::identity(&config.host)?;
    let mut sinks = config.sinks.iter();
    let posts = sinks.any(|sink| matches!(sink.destination, Destination::Url(_)));
    if let (true, Err(warning)) = (posts, config.settings.spool.folder()) {
        console.report(&warning);
    }
    if let Some(warning) = config::plain_token(&config.sinks) {
        console.report(&warning);
    }
    let mut sinks = Sinks::of(&config, &identity);
    sinks.prepare()?;
    let mut others = sinks.endpoints();
    others.extend(context.own_addresses);
    let endpoints = self_traffic::endpoints(others, context.own_ports, metrics.address());
    let mut opener = Opener::new(&config, &choice, &endpoints);
    let opened = open_all(&mut opener, &choice, console)?;
    let mut hotplug = Hotplug::new(&config, &choice, opener)?;
    process::drop_capabilities().map_err(|error| bug("cannot give up capabilities", &error))?;
    // Refused only by kernels before 3.5.
    let _ = process::no_new_privileges();
    let mut plan = Plan::capture(context.control);
    sinks.plan(&mut plan);
    let is_confined = !config.settings.no_sandbox;
    let files = is_confined.then(|| plan.confine_files());

    let needs_output = config.settings.require_output;
    let (sender, events) = mpsc::channel();
    watch_signals(sender.clone())?;
    if context.is_supervised {
        supervised::end_with_supervisor();
    }
    let threads = Threads::start(Setup {
        config,
        rules_share,
        choice: &choice,
        opened,
        self_traffic: &SelfTraffic::new(endpoints),
        identity: &identity,
        sinks,
        events: sender.clone(),
        metrics: &metrics,
        killed: context.killed,
        console,
    })?;
    let for_control = Arc::clone(&threads.reporter);
    let serving = server
        .serve(move |request| answer(&for_control, &sender, request))
        .map_err(|error| bug("cannot serve the control socket", &error))?;
    console.info(&threads.reporter.sentence);
    serve_metrics(metrics, &threads.reporter)?;
    let publication = (context.is_supervised)
        .then(|| Publication::start(Arc::clone(&threads.reporter)))
        .transpose()
        .map_err(|error| bug("cannot publish the calls in flight", &error))?;
    let confinement = threads.confine(plan, files);
    // As the first process of a container it gets the children of others, and waits for none of its own.
    if process::is_first() {
        let _ = process::forget_children();
    }
    if !confinement.is_full() {
        console.info(format_args!("sandbox: {confinement}"));
    }

    let cause = watch(&threads, &events, &mut hotplug, context);
    let Ended { reporter, panicked } = threads.stop(&events, context.is_supervised);
    if let Some(publication) = publication {
        publication.end();
    }
    let status = reporter.status();
    let capture = status.capture.clone().unwrap_or_default();
    let summary = capture.summary(status.uptime_seconds);
    console.info(&summary);
    if context.is_supervised {
        print_json(&status);
    }
    let is_whole = |calls: &Calls| {
        calls.dropped_total() == 0 && calls.in_flight == 0 && calls.unaccounted == 0
    };
    let exit = if panicked {
        Exit::Bug
    } else if needs_output
        && capture
            .sinks
            .iter()
            .any(|sink| sink.output.up == Some(false))
    {
        Exit::Destination
    } else if !capture.sinks.iter().all(|sink| is_whole(&sink.calls)) || capture.packets.dropped > 0
    {
        Exit::Incomplete
    } else {
        Exit::Done
    };
    if let Cause::Off(reply) = cause {
        // A client that is gone needs no answer.
        let _ = reply.send(Response::new(exit, format!("sniffer: stopped\n{summary}")));
    }
    // Nothing answers what still waits to be handled; the answers that were given are sent before the end.
    drop(events);
    drop(serving);
    Ok(exit)
}

/// Reads the files of the rules again, each in a process that may open it.
fn rules_reader(
    files: Vec<PathBuf>,
    is_confined: bool,
) -> Result<impl Fn(&str) -> io::Result<String>, Diagnostic> {
    let mut delegates = Vec::new();
    for file in files {
        let delegate = Delegate::for_rules(&file, is_confined).map_err(|error| {
            bug(
                "cannot start the process that reads the rules again",
                &error,
            )
        })?;
        delegates.push((file, RefCell::new(delegate)));
    }
    Ok(move |path: &str| {
        let mut known = delegates.iter();
        let Some((_, delegate)) = known.find(|(file, _)| file == Path::new(path)) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let found = delegate.borrow_mut().ask();
        let text = found.map_err(|error| match Delegate::has_ended(&error) {
            true => io::Error::other("the process that reads it has ended; restart the sniffer"),
            false => error,
        })?;
        String::from_utf8(text).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    })
}

fn serve_metrics(metrics: Endpoint, reporter: &Arc<Reporter>) -> Result<(), Diagnostic> {
    match metrics {
        // A taken port is a warning of the status as long as the capture runs, and logged as all of them are.
        Endpoint::Off | Endpoint::Taken(_) => Ok(()),
        Endpoint::At(server) => {
            let reporter = Arc::clone(reporter);
            server
                .serve(move |page| reporter.page(page))
                .map_err(|error| bug("cannot serve metrics", &error))
        }
    }
}

/// The interfaces to capture on, by the settings and what this machine has.
fn choose(config: &Capture) -> Result<Choice, Diagnostic> {
    let all = interfaces::list()?;
    interfaces::choose(&config.settings.interfaces, config.settings.mode, &all)
}

/// Opens the rings. If one cannot be opened, nothing is captured: a part that is silently missing is worse.
fn open_all(
    opener: &mut Opener,
    choice: &Choice,
    console: Console,
) -> Result<Vec<Opened>, Diagnostic> {
    if let SelfTest::Failed {
        flows,
        apart,
        rings,
    } = opener.self_test()
    {
        console.report(&warnings::steering_fails(flows, apart, rings));
    }
    opener.open_all(&choice.interfaces)
}
