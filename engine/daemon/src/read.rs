//! `sniffer read`: the calls of capture files, on standard output. The files go through the same pipeline as live packets.
//!
//! It needs no privilege and no network. All files are one timeline in the order of packet time, so a capture that was
//! rotated while it ran, or that has a file for each direction, gives the calls that one file would have given. A pipe from
//! a running capture is read as it comes. Standard output carries only data; messages go to standard error.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use engine_core::bundle::CallFlags;
use engine_core::message::{Notes, Output as _};
use engine_core::pipeline::{FilePipeline, Shared};
use engine_core::time::Timestamp;

use crate::config::command_line::{Form, ReadFlags};
use crate::config::settings::Settings;
use crate::config::{self, Reading};
use crate::counters::{RuleSetCounters, Stages};
use crate::diagnostic::{Code, Console, Diagnostic, Exit, system_words};
use crate::invocation::Invocation;
use crate::pipeline;
use crate::printer::{LedgerFile, Printer, Style};
use crate::quantity::plural;
use crate::reader::Reader;
use crate::report::copies::captured_twice;
use crate::report::faults::faults;
use crate::report::rule_matches::RuleMatches;
use crate::sandbox::{Confinement, Plan};
use crate::signals;
use crate::sink::spool;
use crate::status::{Copies, Port};
use crate::timeline::{self, Timeline};
use summary::Outcome;

mod summary;

/// How files are read, and what is written.
#[derive(Debug)]
struct Options {
    /// Files and folders, `-` for standard input.
    paths: Vec<PathBuf>,
    /// Whether the files may grow.
    follow: bool,
    /// The pipeline's settings.
    reading: Reading,
    /// How calls are printed.
    style: Style,
    /// Anything incomplete makes the exit code 8.
    strict: bool,
    /// Where the ledger is written.
    ledger: Option<LedgerFile>,
    /// Where notices and problems are written.
    console: Console,
}

/// `sniffer read`.
pub fn command(flags: ReadFlags, invocation: &Invocation) -> Result<Exit, Diagnostic> {
    let mut values = invocation.values()?;
    flags.settings.apply(&mut values);
    let mut reading = config::reading(&values)?;
    let filter = config::filter(flags.filter.as_deref().unwrap_or_default())?;
    // What a filter compares has to be there.
    reading.settings.annotate |= filter.needs_annotations();
    let ledger = flags.ledger.as_deref().map(LedgerFile::open).transpose()?;
    let paths: Vec<PathBuf> = flags.from.into_iter().chain(flags.files).collect();
    confine(&paths, flags.follow, &reading.settings, invocation.console);
    let are_spools = paths.iter().all(|path| spool::is_spool(path));
    let read = if are_spools { read_spools } else { run };
    read(&Options {
        style: Style {
            form: if flags.json || invocation.json {
                Some(Form::Ndjson)
            } else {
                flags.output
            },
            colour: invocation.flags.color,
            calls_max: flags.calls.unwrap_or(u64::MAX),
            body_bytes_max: reading.settings.body_bytes_max,
            filter,
        },
        reading,
        paths,
        follow: flags.follow,
        strict: flags.strict,
        ledger,
        console: invocation.console,
    })
}

/// Confines the process before it reads files that may be hostile. The result is not reported: a filter in a pipe is
/// silent as long as all is well.
pub(crate) fn confine(paths: &[PathBuf], follow: bool, settings: &Settings, console: Console) {
    if settings.no_sandbox {
        console.info(format_args!("sandbox: {}", Confinement::Unwanted));
    } else {
        Confinement::of(&Plan::reader(paths, follow));
    }
}

/// Prints what waits in spools. Such folders are read without other files: their calls were captured and have no packets.
fn read_spools(options: &Options) -> Result<Exit, Diagnostic> {
    let mut printer = Printer::new(&options.style);
    let mut unreadable = 0;
    for folder in &options.paths {
        let read = spool::each_line(folder, |line, entry| {
            let flag = |flag| entry.flags.contains(flag);
            let notes = Notes {
                exchange_id: entry.exchange_id,
                started_nanos: entry.started_nanos,
                ended_nanos: entry.ended_nanos,
                status: entry.status,
                unpaired: flag(CallFlags::UNPAIRED),
                incomplete: flag(CallFlags::INCOMPLETE),
                truncated: flag(CallFlags::TRUNCATED),
                shed: flag(CallFlags::SHED),
                ..Notes::default()
            };
            printer.starts_at(Timestamp::from_nanos(entry.started_nanos));
            printer.line(line, &notes);
            !printer.has_enough()
        });
        unreadable += read.map_err(|error| {
            let what = format!("{}: {}", folder.display(), system_words(&error));
            Diagnostic::new(Code::E080, what)
        })?;
    }
    printer.flush();
    let calls = plural(printer.calls, "call");
    let damaged = match unreadable {
        0 => String::new(),
        calls => format!(", {} that cannot be read", plural(calls, "call")),
    };
    options
        .console
        .info(format!("{calls} in the spool{damaged}"));
    Ok(if unreadable > 0 {
        Exit::Incomplete
    } else {
        Exit::Done
    })
}

/// Reads all files. One that cannot be read is reported, and the others are read all the same.
fn run(options: &Options) -> Result<Exit, Diagnostic> {
    let console = options.console;
    // Without the flag a signal would end the process at once, which loses no more than the summary.
    let stop = signals::stop_flag().unwrap_or_else(|_| Arc::new(AtomicBool::new(false)));
    let files = timeline::files::files(&options.paths, options.follow)?;
    let rules = Arc::clone(&options.reading.rules.set);
    let config = pipeline::of_files(&options.reading)?;
    let printer = Rc::new(RefCell::new(Printer::new(&options.style)));
    let pipeline = FilePipeline::new(&config, rules, Rc::clone(&printer) as Shared<'_>);
    let mut reader = Reader::new(pipeline, printer);
    let mut timeline = Timeline::new(&timeline::Reading {
        paths: &options.paths,
        files: &files,
        follow: options.follow,
        stop,
        console,
    });
    reader.read(&mut timeline);
    timeline.close_all();
    finish(reader, options, &timeline)
}

/// Ends the pipeline, writes the ledger and reports what is missing.
fn finish(
    mut reader: Reader<'_>,
    options: &Options,
    timeline: &Timeline,
) -> Result<Exit, Diagnostic> {
    reader.pipeline.finish(reader.now);
    let ledger = reader.pipeline.ledger();
    let stages = Stages::new(&ledger, &reader.packets);
    let has_schemas = options.reading.settings.protobuf_descriptors.is_some();
    let rules = RuleMatches::new(&options.reading.rules, 1, &RuleSetCounters::default())
        .with_schemas(has_schemas);
    rules.cells()[0].store(reader.pipeline.rule_matches());
    let ports = Port::all(reader.pipeline.ports_seen());
    let unwanted = reader.pipeline.ports_unwanted().clone();
    let copies = Copies::all(reader.pipeline.copies_seen());
    let mut printer = reader.printer.borrow_mut();
    let outcome = Outcome {
        stages: &stages,
        ports: &ports,
        unwanted: &unwanted,
        copies: &copies,
        settings: &options.reading.settings,
        printed: printer.calls,
        not_matching: printer.calls_not_matching,
        beyond: printer.calls_beyond,
    };
    let paths = options.paths.iter();
    let paths = paths.map(|path| path.display().to_string()).collect();
    let status = summary::status(&outcome, paths, &rules);
    let mut line = serde_json::to_vec(&status).unwrap_or_default();
    line.push(b'\n');
    printer.write_ledger(&line, options.ledger.as_ref())?;
    printer.flush();
    if let Some(error) = printer.error.take() {
        return Err(Diagnostic::new(
            Code::E199,
            format!("cannot write to standard output: {}", system_words(&error)),
        ));
    }
    let (incomplete, is_closed) = (printer.incomplete, printer.is_closed);
    let shed = stages.message.calls_shed;
    let unaccounted = status
        .capture
        .as_ref()
        .map_or(0, |capture| capture.calls.unaccounted);
    let findings = timeline.findings();
    let (console, cut) = (options.console, findings.cut + findings.snapped);
    // Where nothing could be read, the errors before are all that there is to report.
    if findings.unreadable == 0 || stages.shard.frames_read > 0 {
        let why = summary::diagnosis(&outcome);
        let faults = if why.is_some() {
            Vec::new()
        } else {
            faults(&stages)
        };
        let twice = captured_twice(&stages, &copies);
        // Packets that a file's snap length cut were reported with the files.
        let is_reported = |problem: &Diagnostic| {
            problem.code == Code::W069 && findings.snapped_packets >= stages.decap.segments_cut
        };
        let problems = why.into_iter().chain(twice).chain(faults);
        for problem in problems.filter(|problem| !is_reported(problem)) {
            console.report(&problem);
        }
        console.info(summary::summary(&outcome, unaccounted));
    }
    let half: u64 = stages.http.unpaired_total();
    Ok(if is_closed {
        Exit::Done
    } else if findings.unreadable > 0 {
        Exit::Source
    } else if unaccounted != 0 || !ledger.unaccounted().is_nothing() {
        Exit::Bug
    } else if options.strict && (incomplete + half + shed + cut > 0) {
        let parts = [
            (incomplete, plural(incomplete, "incomplete call")),
            (half, plural(half, "half call")),
            (shed, plural(shed, "call") + " given up"),
            (cut, plural(cut, "file") + " with cut packets or a cut end"),
        ];
        let parts: Vec<_> = (parts.into_iter().filter(|(count, _)| *count > 0))
            .map(|(_, words)| words)
            .collect();
        let text = parts.join(", ");
        console.report(&Diagnostic::new(Code::E120, text));
        Exit::Incomplete
    } else {
        Exit::Done
    })
}
