//! `sniffer read`: the calls of capture files, on standard output. The files go through the same pipeline as live packets.
//!
//! It needs no privilege and no network. Several files are one timeline, in the order given, so a capture that was rotated
//! while it ran gives the calls that one file would have given. Standard output carries only data; messages go to standard
//! error.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, IsTerminal, StdoutLock, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use engine_core::message::{Notes, Output};
use engine_core::pipeline::{Pipeline, Unaccounted};
use engine_core::time::Timestamp;

use crate::capture_file::CaptureFile;
use crate::config::command_line::{Form, ReadFlags};
use crate::config::settings::Settings;
use crate::config::{self, Reading};
use crate::counters::{ShardCounters, Stages};
use crate::diagnostic::{Code, Console, Diagnostic, Exit, system_words, wants_colour};
use crate::invocation::Invocation;
use crate::pipeline::pipeline_config;
use crate::quantity::{plural, thousands};
use crate::report::ledger::{calls, unpaired};
use crate::report::rule_matches::RuleMatches;
use crate::sandbox::{Confinement, Plan};
use crate::status::{self, PORTS_SHOWN, Port, Status};
use table::Table;

pub(crate) mod table;

/// Bytes collected before they are written: calls come faster than a system call each.
const STDOUT_BYTES: usize = 256 * 1024;

/// Packet time between two checks for idle flows.
const TICK: Duration = Duration::from_millis(100);

/// Names in a folder that are read; a file named on the command line may be called anything.
const SUFFIXES: [&str; 5] = ["pcap", "pcapng", "cap", "dmp", "pcap0"];

/// How files are read, and what is written.
#[derive(Debug)]
struct Options {
    /// Files and folders, `-` for standard input.
    files: Vec<PathBuf>,
    /// The pipeline's settings.
    reading: Reading,
    /// Table or NDJSON; if not given, it depends on what standard output is.
    form: Option<Form>,
    /// Anything incomplete makes the exit code 8.
    strict: bool,
    /// Where the ledger is written.
    ledger: Option<LedgerFile>,
    /// Where notices and problems are written.
    console: Console,
    /// When to colour the table.
    colour: crate::diagnostic::Colour,
}

/// Where the ledger is written. It is opened first, since the process may create no file once it reads packets.
#[derive(Debug)]
enum LedgerFile {
    /// Standard output, after the calls.
    Stdout,
    /// A file of its own.
    File(File, PathBuf),
}

impl LedgerFile {
    /// `-` is standard output.
    fn open(path: &Path) -> Result<Self, Diagnostic> {
        if path == Path::new("-") {
            return Ok(Self::Stdout);
        }
        let made = File::create(path).map_err(|error| unwritten(path, &error))?;
        Ok(Self::File(made, path.to_owned()))
    }
}

fn unwritten(path: &Path, error: &io::Error) -> Diagnostic {
    let words = system_words(error);
    Diagnostic::new(Code::E121, format!("{}: {words}", path.display()))
}

/// `sniffer read`.
pub fn command(flags: ReadFlags, invocation: &Invocation) -> Result<Exit, Diagnostic> {
    let mut values = invocation.values()?;
    flags.settings.apply(&mut values);
    let reading = config::reading(&values)?;
    let ledger = flags.ledger.as_deref().map(LedgerFile::open).transpose()?;
    confine(&flags.files, &reading.settings, invocation.console);
    run(&Options {
        reading,
        form: if flags.json || invocation.json {
            Some(Form::Ndjson)
        } else {
            flags.output
        },
        files: flags.files,
        strict: flags.strict,
        ledger,
        console: invocation.console,
        colour: invocation.flags.color,
    })
}

/// Confines the process before it reads files that may be hostile. The result is not reported: a filter in a pipe is
/// silent as long as all is well.
pub(crate) fn confine(files: &[PathBuf], settings: &Settings, console: Console) {
    if settings.no_sandbox {
        console.info(format_args!("sandbox: {}", Confinement::Unwanted));
    } else {
        Confinement::of(&Plan::reader(files));
    }
}

/// Reads all files. One that cannot be read is reported, and the others are read all the same.
fn run(options: &Options) -> Result<Exit, Diagnostic> {
    let console = options.console;
    let files = files(&options.files)?;
    let config = pipeline_config(&options.reading.settings, &options.reading.host, &[], 1);
    let rules = Arc::clone(&options.reading.rules.set);
    let mut reader = Reader {
        pipeline: Pipeline::new(&config, rules, Printer::new(options)),
        console,
        now: Timestamp::ZERO,
        next_tick: Timestamp::ZERO,
        packets: ShardCounters::default(),
        unreadable: 0,
        cut: 0,
    };
    for file in &files {
        reader.read(file);
        if reader.pipeline.output().is_closed {
            break;
        }
    }
    reader.finish(options)
}

/// The files to read, those of folders in the order of their names.
pub(crate) fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Diagnostic> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let mut inside = Vec::new();
        collect(path, &mut inside).map_err(|error| {
            Diagnostic::new(
                Code::E080,
                format!("{}: {}", path.display(), system_words(&error)),
            )
        })?;
        if inside.is_empty() {
            return Err(Diagnostic::new(
                Code::E080,
                format!("{}: no capture file in this folder", path.display()),
            )
            .cause(format!(
                "looked for names that end in .{}, also with .gz or .zst behind",
                SUFFIXES[..4].join(", .")
            )));
        }
        inside.sort();
        files.extend(inside);
    }
    Ok(files)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        // Links are not followed: a folder may lead back to itself.
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), files)?;
        } else if is_capture_name(&entry.path()) {
            files.push(entry.path());
        }
    }
    Ok(())
}

fn is_capture_name(path: &Path) -> bool {
    let suffix = |path: &Path| {
        path.extension()
            .and_then(OsStr::to_str)
            .map(str::to_ascii_lowercase)
    };
    let plain = match suffix(path).as_deref() {
        Some("gz" | "zst") => path.with_extension(""),
        _ => path.to_owned(),
    };
    suffix(&plain).is_some_and(|suffix| SUFFIXES.contains(&suffix.as_str()))
}

struct Reader<'a> {
    pipeline: Pipeline<Printer<'a>>,
    console: Console,
    now: Timestamp,
    next_tick: Timestamp,
    packets: ShardCounters,
    /// Files that could not be opened, or not read to their end.
    unreadable: u64,
    /// Files that end early, and files with packets cut by a snap length.
    cut: u64,
}

impl Reader<'_> {
    fn read(&mut self, path: &Path) {
        let name = path.to_string_lossy();
        match CaptureFile::open(&name) {
            Ok(file) => self.read_packets(file),
            Err(error) => self.failed(&error),
        }
    }

    fn read_packets(&mut self, mut file: CaptureFile) {
        loop {
            match file.next() {
                Ok(Some(frame)) => {
                    let time = frame.time;
                    self.pipeline.output().starts_at(time);
                    self.packets.frames_read += 1;
                    self.packets.frames_read_bytes += frame.bytes.len() as u64;
                    self.pipeline.feed(&frame);
                    self.now = self.now.max(time);
                    if self.now >= self.next_tick {
                        self.pipeline.tick(self.now);
                        self.next_tick = self.now.after(TICK);
                    }
                    if self.pipeline.output().is_closed {
                        return;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    self.failed(&error);
                    break;
                }
            }
        }
        if file.packets_cut() > 0 {
            self.cut += 1;
            self.console.report(
                &Diagnostic::new(
                    Code::W081,
                    format!(
                        "{} packets were cut when captured; bodies may be missing",
                        thousands(file.packets_cut())
                    ),
                )
                .fix("capture with tcpdump -s 0"),
            );
        }
    }

    fn failed(&mut self, error: &crate::capture_file::Error) {
        if error.is_cut() {
            self.cut += 1;
            self.console
                .report(&Diagnostic::new(Code::W080, error.to_string()));
        } else {
            self.unreadable += 1;
            self.console
                .report(&Diagnostic::new(Code::E080, error.to_string()));
        }
    }

    fn finish(mut self, options: &Options) -> Result<Exit, Diagnostic> {
        self.pipeline.finish(self.now);
        let ledger = self.pipeline.ledger();
        let stages = Stages::new(&ledger, &self.packets);
        let rules = RuleMatches::new(&options.reading.rules, 1, &Stages::default());
        rules.cells()[0].store(self.pipeline.rule_matches());
        let ports = Port::all(self.pipeline.ports_seen());
        let printer = self.pipeline.output();
        let status = status(&stages, &ports, printer.calls, &rules, options);
        printer.write_ledger(&status, options.ledger.as_ref())?;
        printer.flush();
        if let Some(error) = printer.error.take() {
            return Err(Diagnostic::new(
                Code::E199,
                format!("cannot write to standard output: {}", system_words(&error)),
            ));
        }
        let (calls, incomplete, is_closed) = (printer.calls, printer.incomplete, printer.is_closed);
        let shed = stages.message.calls_shed;
        let unaccounted = status
            .capture
            .map_or(0, |capture| capture.calls.unaccounted);
        self.console
            .info(summary(&stages, &ports, calls, unaccounted));
        let half: u64 = stages.http.unpaired_total();
        Ok(if is_closed {
            Exit::Done
        } else if self.unreadable > 0 {
            Exit::Source
        } else if unaccounted != 0 || !ledger.unaccounted().is_nothing() {
            Exit::Bug
        } else if options.strict && (incomplete + half + shed + self.cut > 0) {
            let text = format!(
                "{} incomplete, {half} half, {shed} given up, {} with cut packets or a cut end",
                plural(incomplete, "call"),
                plural(self.cut, "file")
            );
            self.console.report(&Diagnostic::new(Code::E120, text));
            Exit::Incomplete
        } else {
            Exit::Done
        })
    }
}

/// The ledger in the form of a live capture's, so that the same program reads both. `sent` is what was printed.
fn status(
    stages: &Stages,
    ports: &[Port],
    printed: u64,
    rules: &RuleMatches,
    options: &Options,
) -> Status {
    let mut calls = calls(stages, None);
    calls.sent = printed;
    let settings = &options.reading.settings;
    let capture = status::Capture {
        interfaces: options
            .files
            .iter()
            .map(|file| file.display().to_string())
            .collect(),
        reads: settings.ports.text.clone(),
        shards: 1,
        calls: calls.balanced(),
        halves: unpaired(stages),
        ports: ports.to_vec(),
        packets: status::Packets {
            received: stages.shard.frames_read,
            bytes: stages.shard.frames_read_bytes,
            ..status::Packets::default()
        },
        output: status::Output {
            url: "standard output".to_owned(),
            ..status::Output::default()
        },
        rules: rules.name.clone(),
        rule_hits: rules.matches(),
        memory_limit_bytes: settings.memory_bytes as u64,
        stages: stages.by_name(),
        ..status::Capture::default()
    };
    Status {
        capture: Some(capture),
        ..status::empty()
    }
}

/// `3 calls, 0 half calls. Packets: 412 read, 3 not TCP. Ledger balances.`
fn summary(stages: &Stages, ports: &[Port], calls: u64, unaccounted: i64) -> String {
    let half: u64 = stages.http.unpaired_total();
    let mut text = format!("{}, {}", plural(calls, "call"), plural(half, "half call"));
    for (count, what) in [
        (stages.message.calls_stopped, "stopped by rules"),
        (stages.message.calls_sampled, "sampled out"),
        (stages.message.calls_shed, "given up for lack of memory"),
    ] {
        if count > 0 {
            text.push_str(&format!(", {} {what}", thousands(count)));
        }
    }
    let packets = thousands(stages.shard.frames_read);
    text.push_str(&format!(". Packets: {packets} read"));
    let mut skipped: Vec<_> = stages.decap.skipped_by_reason().collect();
    skipped.sort_unstable();
    for (reason, count) in skipped.into_iter().filter(|(_, count)| *count > 0) {
        let reason = reason.replace('_', " ");
        text.push_str(&format!(", {} {reason}", thousands(count)));
    }
    for protocol in status::unread_protocols() {
        let count = protocol.count(&stages.http);
        let named = ports.iter().filter(|port| port.count(protocol) > 0);
        let named: Vec<String> = named
            .take(PORTS_SHOWN)
            .map(|port| format!(":{}", port.port))
            .collect();
        if count > 0 {
            let connections = if count == 1 {
                "connection"
            } else {
                "connections"
            };
            text.push_str(&format!(
                "; {} {} {connections} on {} not readable",
                thousands(count),
                protocol.label(),
                named.join(", ")
            ));
        }
    }
    let levels = Unaccounted::FIELDS.iter().zip(stages.unaccounted.values());
    let mut levels = levels.filter(|(_, count)| *count > 0).peekable();
    match unaccounted {
        0 if levels.peek().is_some() => {
            text.push_str(". Ledger does NOT balance:");
            for (level, count) in levels {
                text.push_str(&format!(" {count} {}", level.name.replace('_', " ")));
            }
            text.push_str(" unaccounted.");
        }
        0 => text.push_str(". Ledger balances."),
        rest => text.push_str(&format!(
            ". Ledger does NOT balance: {rest} calls unaccounted."
        )),
    }
    text
}

/// Prints finished lines.
struct Printer<'a> {
    out: BufWriter<StdoutLock<'a>>,
    table: Option<Table>,
    /// On a terminal each row is shown at once.
    is_terminal: bool,
    calls: u64,
    incomplete: u64,
    /// Standard output is closed, or failed.
    is_closed: bool,
    error: Option<io::Error>,
}

impl Printer<'_> {
    fn new(options: &Options) -> Self {
        let stdout = io::stdout();
        let is_terminal = stdout.is_terminal();
        let form = options.form.unwrap_or(if is_terminal {
            Form::Table
        } else {
            Form::Ndjson
        });
        let columns = std::env::var("COLUMNS")
            .ok()
            .and_then(|columns| columns.parse().ok())
            .unwrap_or(120);
        let table = (form == Form::Table).then(|| {
            Table::new(
                columns,
                options.reading.settings.body_bytes_max,
                wants_colour(options.colour, is_terminal),
            )
        });
        let mut printer = Self {
            out: BufWriter::with_capacity(STDOUT_BYTES, stdout.lock()),
            table,
            is_terminal,
            calls: 0,
            incomplete: 0,
            is_closed: false,
            error: None,
        };
        if let Some(head) = printer.table.as_ref().map(Table::head) {
            printer.write(head.as_bytes());
        }
        printer
    }

    fn starts_at(&mut self, time: Timestamp) {
        if let Some(table) = &mut self.table {
            table.starts_at(time);
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        if !self.is_closed {
            let written = self.out.write_all(bytes);
            self.check(written);
        }
    }

    fn write_ledger(
        &mut self,
        status: &Status,
        file: Option<&LedgerFile>,
    ) -> Result<(), Diagnostic> {
        let mut line = serde_json::to_vec(status).unwrap_or_default();
        line.push(b'\n');
        match file {
            None => {}
            Some(LedgerFile::Stdout) => self.write(&line),
            Some(LedgerFile::File(file, path)) => {
                let mut file = file;
                file.write_all(&line)
                    .map_err(|error| unwritten(path, &error))?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) {
        if !self.is_closed {
            let flushed = self.out.flush();
            self.check(flushed);
        }
    }

    /// A closed pipe (`| head`) is an end, not an error.
    fn check(&mut self, result: io::Result<()>) {
        if let Err(error) = result {
            self.is_closed = true;
            self.error = Some(error).filter(|error| error.kind() != ErrorKind::BrokenPipe);
        }
    }
}

impl Output for Printer<'_> {
    fn line(&mut self, line: &[u8], notes: &Notes) {
        self.calls += 1;
        self.incomplete +=
            u64::from((notes.incomplete || notes.missing_bytes > 0) && !notes.unpaired);
        match &mut self.table {
            Some(table) => {
                let row = table.row(line, notes);
                self.write(row.as_bytes());
                if self.is_terminal {
                    self.flush();
                }
            }
            None => {
                self.write(line);
                self.write(b"\n");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_read_in_order_and_only_captures_of_them() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "b.pcap",
            "a.pcapng.gz",
            "c.pcap.zst",
            "notes.txt",
            "d.gz",
            "E.CAP",
        ] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        std::fs::create_dir(folder.path().join("deep")).unwrap();
        std::fs::write(folder.path().join("deep/f.pcap"), "").unwrap();
        let found = files(&[folder.path().to_owned(), PathBuf::from("-")]).unwrap();
        let names: Vec<&str> = found
            .iter()
            .map(|path| path.file_name().unwrap().to_str().unwrap())
            .collect();
        assert_eq!(
            names,
            [
                "E.CAP",
                "a.pcapng.gz",
                "b.pcap",
                "c.pcap.zst",
                "f.pcap",
                "-"
            ]
        );
    }

    #[test]
    fn an_empty_folder_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(
            files(&[folder.path().to_owned()]).unwrap_err().code,
            Code::E080
        );
    }
}
