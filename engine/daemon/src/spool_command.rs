//! `sniffer spool`: what waits on disk, and what a person does with it.
//!
//! `status` and `export` only read, and may do so while a sniffer uses the folder. `drain` and `discard` are orders for the
//! running sniffer; where none runs, this process takes the folder and does it itself.

use std::fmt::Write as _;
use std::io::{self, BufWriter, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use engine_sys::process;

use crate::config::command_line::{SpoolCommand, SpoolFlags};
use crate::config::settings::row;
use crate::config::{self, Capture, Destination, Spooling};
use crate::control::{self, Request, Unreachable};
use crate::counters::{OutletCounters, RuleSetCounters};
use crate::diagnostic::{Code, Diagnostic, Exit, printable, system_words};
use crate::invocation::Invocation;
use crate::quantity::{bytes, plural, thousands};
use crate::random;
use crate::report::ledger::calls;
use crate::sandbox::{Confinement, Plan};
use crate::signals;
use crate::sink::spool::{self, Overview};
use crate::sink::stats::{Counters, Snapshot};
use crate::sink::{Sinks, Spooled, spool_config};
use crate::status::{Calls, State};
use crate::stdout::{print, print_json};

/// Time for an order to the running sniffer.
const ORDER_TIMEOUT: Duration = Duration::from_secs(10);

/// How often `drain` looks whether all is delivered, and how often it reports that.
const CHECK_EVERY: Duration = Duration::from_millis(100);
const REPORT_EVERY: Duration = Duration::from_secs(5);

/// `sniffer spool`.
pub fn command(command: &SpoolCommand, invocation: &Invocation) -> Result<Exit, Diagnostic> {
    match command {
        SpoolCommand::Status { flags, json } => {
            let config = without_destination(flags, invocation)?;
            let mut exit = Exit::Done;
            for (sink, spool) in spools(&config)? {
                exit = status(&sink, &spool, *json || invocation.json)?;
            }
            Ok(exit)
        }
        SpoolCommand::Export(flags) => {
            let spools = spools(&without_destination(flags, invocation)?)?;
            let folders = spools.into_iter().map(|(_, spool)| spool.folder);
            let folders: Vec<PathBuf> = folders.collect();
            export(&folders)
        }
        SpoolCommand::Drain(flags) => {
            let mut config = capture(flags, invocation).map_err(needs_destination)?;
            // The others have no spool.
            (config.sinks).retain(|sink| matches!(sink.destination, Destination::Url(_)));
            match order(Request::Drain, invocation)? {
                Some(exit) => Ok(exit),
                None => drain(&config, invocation),
            }
        }
        SpoolCommand::Discard { flags, all } => {
            let config = without_destination(flags, invocation)?;
            match order(Request::Discard { all: *all }, invocation)? {
                Some(exit) => Ok(exit),
                None => discard(&config, *all),
            }
        }
    }
}

/// The error for settings without a destination says what a drain needs.
fn needs_destination(problem: Diagnostic) -> Diagnostic {
    if problem.code != Code::E039 {
        return problem;
    }
    Diagnostic::new(Code::E039, "USAGE_LOGGERS_URL is not set, so there is nowhere to deliver to")
        .fix("sniffer spool drain --url https://HOST/message    with the settings of the sniffer that filled the spool\n\
              sniffer spool export    prints the calls instead")
}

fn capture(flags: &SpoolFlags, invocation: &Invocation) -> Result<Capture, Diagnostic> {
    let mut values = invocation.values()?;
    flags.settings.apply(&mut values);
    config::spool_where_there_is_a_place(&mut values);
    config::capture(&values, false)
}

/// The same for a command that delivers nothing, and so needs no capture URL.
fn without_destination(flags: &SpoolFlags, invocation: &Invocation) -> Result<Capture, Diagnostic> {
    let mut values = invocation.values()?;
    flags.settings.apply(&mut values);
    values.set(row::no_send(), "true");
    config::spool_where_there_is_a_place(&mut values);
    config::capture(&values, false)
}

fn folder(config: &Capture) -> Result<PathBuf, Diagnostic> {
    let folder = config.settings.spool.folder().ok().flatten();
    folder.ok_or_else(|| {
        let why = match config.settings.spool {
            Spooling::Off => "SNIFFER_SPOOL is off",
            _ => "SNIFFER_SPOOL names no folder",
        };
        Diagnostic::new(Code::E055, format!("there is no spool: {why}"))
            .fix("--spool DIR    the folder of the sniffer")
    })
}

/// The name and the spool of each sink that has one. That of the capture URL is there even if nothing was ever written to it.
fn spools(config: &Capture) -> Result<Vec<(String, spool::Config)>, Diagnostic> {
    let first = folder(config)?;
    let spools = config
        .sinks
        .iter()
        .filter_map(|sink| Some((sink.name.clone(), spool_config(config, sink)?)));
    let mut spools: Vec<_> = spools.collect();
    spools.retain(|(_, spool)| spool.folder == first || spool.folder.is_dir());
    Ok(spools)
}

fn unreadable(folder: &Path, error: &io::Error) -> Diagnostic {
    let what = format!("the spool {}: {}", folder.display(), system_words(error));
    Diagnostic::new(Code::E055, what)
}

/// Passes an order on to the sniffer that runs; none where no capture runs.
fn order(request: Request, invocation: &Invocation) -> Result<Option<Exit>, Diagnostic> {
    let control = &invocation.control;
    match control::send(control, Request::Status, ORDER_TIMEOUT) {
        Ok(response)
            if response.status.as_ref().is_some_and(|status| {
                status.state == State::Running
                    && status.capture.as_ref().is_some_and(|capture| {
                        let sinks = capture.each_sink();
                        sinks.iter().any(|sink| sink.output.spool.is_some())
                    })
            }) => {}
        Ok(_) | Err(Unreachable::NotRunning) => return Ok(None),
        Err(Unreachable::Error(problem)) => return Err(problem),
    }
    match control::send(control, request, ORDER_TIMEOUT) {
        Ok(response) => {
            print(&format!("{}\n", printable(response.text.trim_end())));
            Ok(Some(Exit::from_code(response.exit)))
        }
        Err(Unreachable::Error(problem)) => Err(problem),
        Err(Unreachable::NotRunning) => Ok(None),
    }
}

fn status(sink: &str, spool: &spool::Config, json: bool) -> Result<Exit, Diagnostic> {
    let folder = &spool.folder;
    let found = spool::overview(folder).map_err(|error| unreadable(folder, &error))?;
    let (segments, aside) = found;
    let rules = spool.rules;
    let is_held =
        |segment: &Overview| segment.rules != rules && !segment.is_released && segment.bundles > 0;
    let holder = spool::holder(folder);
    if json {
        let rows = segments.iter().map(|segment| {
            serde_json::json!({
                "number": segment.number,
                "rules": format!("{:016x}", segment.rules),
                "held": is_held(segment),
                "bundles": segment.bundles,
                "calls": segment.calls,
                "bytes": segment.bytes,
                "damaged_calls": segment.damage.calls,
                "unknown_calls": segment.damage.unknown,
            })
        });
        print_json(&serde_json::json!({
            "sink": sink,
            "folder": folder.display().to_string(),
            "pid": holder,
            "rules": format!("{rules:016x}"),
            "segments": rows.collect::<Vec<_>>(),
            "files_aside": aside,
        }));
        return Ok(Exit::Done);
    }
    let calls: u64 = segments.iter().map(|segment| segment.calls).sum();
    let size: u64 = segments.iter().map(|segment| segment.bytes).sum();
    let mut text = format!(
        "{}: {} not delivered, {} in {}{}\n",
        folder.display(),
        plural(calls, "call"),
        bytes(size),
        plural(segments.len() as u64, "spool segment"),
        holder.map_or_else(String::new, |pid| format!(", used by pid {pid}")),
    );
    for segment in &segments {
        let held = match (is_held(segment), segment.is_released) {
            (true, _) => format!(", held: made under the rules {:016x}", segment.rules),
            (_, true) => ", released".to_owned(),
            _ => String::new(),
        };
        let damage = match segment.damage.calls + segment.damage.unknown {
            0 => String::new(),
            calls => format!(", {} damaged", plural(calls, "call")),
        };
        let _ = writeln!(
            text,
            "  {:010}  {}, {}{held}{damage}",
            segment.number,
            plural(segment.calls, "call"),
            bytes(segment.bytes)
        );
    }
    if aside > 0 {
        let _ = writeln!(
            text,
            "  {} of damaged spool segments kept aside",
            plural(aside as u64, "file")
        );
    }
    print(&printable(&text));
    Ok(Exit::Done)
}

/// The lines that wait, as NDJSON.
fn export(folders: &[PathBuf]) -> Result<Exit, Diagnostic> {
    Confinement::of(&Plan::reader(folders, false));
    let mut out = BufWriter::new(io::stdout().lock());
    let mut failed = None;
    let mut damaged = 0;
    for folder in folders {
        let found = spool::each_line(folder, |line, _| {
            let written = out.write_all(line).and_then(|()| out.write_all(b"\n"));
            failed = written.err();
            failed.is_none()
        });
        damaged += found.map_err(|error| unreadable(folder, &error))?;
        if failed.is_some() {
            break;
        }
    }
    let flushed = out.flush();
    match failed.or(flushed.err()) {
        Some(error) if error.kind() != ErrorKind::BrokenPipe => Err(Diagnostic::new(
            Code::E199,
            format!("cannot write to standard output: {}", system_words(&error)),
        )),
        Some(_) => Ok(Exit::Done),
        None if damaged > 0 => Ok(Exit::Incomplete),
        None => Ok(Exit::Done),
    }
}

/// Gives up what is held, or everything, where no sniffer runs.
fn discard(config: &Capture, all: bool) -> Result<Exit, Diagnostic> {
    let mut calls = 0;
    for (_, spool) in spools(config)? {
        let folder = spool.folder.clone();
        let opened = spool::open(spool).map_err(|why| why.diagnostic(&folder))?;
        calls += opened.discard(all);
    }
    print(&format!("{} discarded\n", plural(calls, "call")));
    Ok(Exit::Done)
}

fn no_destination(folder: &Path) -> Diagnostic {
    let what = format!("the spool {} has no destination", folder.display());
    Diagnostic::new(Code::E055, what).fix("--url https://HOST/message")
}

/// Delivers everything that waits, where no sniffer runs.
fn drain(config: &Capture, invocation: &Invocation) -> Result<Exit, Diagnostic> {
    let console = invocation.console;
    let folder = folder(config)?;
    if config.sinks.is_empty() {
        return Err(no_destination(&folder));
    }
    let bug = |what: &str, error: &dyn std::fmt::Display| {
        Diagnostic::new(Code::E199, format!("{what}: {error}"))
    };
    let mut sinks = Sinks::of(config, &random::identity(&config.host)?);
    sinks.prepare()?;
    process::drop_capabilities().map_err(|error| bug("cannot give up capabilities", &error))?;
    let mut plan = Plan::capture(&invocation.control);
    sinks.plan(&mut plan);
    let is_confined = !config.settings.no_sandbox;
    let files = is_confined.then(|| plan.confine_files());
    let stop = signals::stop_flag().map_err(|error| bug("cannot watch signals", &error))?;
    let started = sinks.start(0, config.rule_sets.len(), console);
    let (_, running) = started.map_err(|error| bug("cannot start a sink", &error))?;
    running.plan_calls(&mut plan);
    if let Some(files) = files {
        Confinement::after(files, &plan);
    }
    for Spooled { view: spool, .. } in running.spools() {
        spool.account(Arc::new(of_drain));
        spool.release();
    }
    let monitors = running.monitors();
    let left = || -> u64 {
        let counts = monitors.iter().map(|(_, monitor)| monitor.snapshot());
        counts
            .map(|sink| sink.counters.calls_spooled + sink.calls_in_flight)
            .sum()
    };
    let mut reported = Instant::now();
    while left() > 0 && !stop.load(Ordering::Relaxed) {
        std::thread::sleep(CHECK_EVERY);
        if reported.elapsed() >= REPORT_EVERY {
            reported = Instant::now();
            console.info(format_args!("{} left", plural(left(), "call")));
        }
    }
    running.stop(Instant::now() + config.settings.flush_timeout);
    let (mut sent, mut rest) = (0, 0);
    for sink in monitors.iter().map(|(_, monitor)| monitor.snapshot()) {
        sent += sink.counters.calls_sent;
        rest += sink.counters.calls_spooled + sink.counters.calls_dropped();
    }
    print(&format!(
        "{} delivered, {} not\n",
        plural(sent, "call"),
        thousands(rest)
    ));
    Ok(if rest == 0 {
        Exit::Done
    } else {
        Exit::Incomplete
    })
}

/// The calls of a process that captures nothing.
fn of_drain(counters: &Counters) -> Calls {
    let sink = Snapshot {
        counters: *counters,
        ..Snapshot::default()
    };
    calls(
        &RuleSetCounters::default(),
        &OutletCounters::default(),
        &sink,
    )
}
