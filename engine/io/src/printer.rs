//! The output of `sniffer read`: finished lines on standard output, as NDJSON or as rows of a table, then the ledger.

mod table;

use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, IsTerminal, StdoutLock, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use engine_core::message::{Notes, Output};
use engine_core::time::Timestamp;
use store::filter::Filter;
use table::Table;
pub use table::printable;

use crate::config::command_line::Form;
use crate::diagnostic::{Code, Colour, Diagnostic, system_words, wants_colour};

/// Bytes collected before they are written: calls come faster than a system call each.
const STDOUT_BYTES: usize = 256 * 1024;

/// Age of collected lines at which they are written although there may be more: how late a call is shown at most.
const COLLECTED_MAX: Duration = Duration::from_millis(500);

/// Where the ledger is written. It is opened first, since the process may create no file once it reads packets.
#[derive(Debug)]
pub enum LedgerFile {
    /// Standard output, after the calls.
    Stdout,
    /// A file of its own.
    File(File, PathBuf),
}

impl LedgerFile {
    /// `-` is standard output.
    pub fn open(path: &Path) -> Result<Self, Diagnostic> {
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

/// How calls are printed.
#[derive(Clone, Debug)]
pub struct Style {
    /// Table or NDJSON; if not given, it depends on what standard output is.
    pub form: Option<Form>,
    /// When to colour the table.
    pub colour: Colour,
    /// Calls that are printed at most.
    pub calls_max: u64,
    /// The limit of bodies, which the table shows.
    pub body_bytes_max: usize,
    /// The calls that are printed.
    pub filter: Filter,
}

/// Prints finished lines.
pub struct Printer<'a> {
    out: BufWriter<StdoutLock<'a>>,
    table: Option<Table>,
    /// On a terminal each row is shown at once.
    is_terminal: bool,
    /// When the first of the lines that are not written yet was finished.
    collected_since: Option<Instant>,
    calls_max: u64,
    filter: Filter,
    /// Calls printed.
    pub calls: u64,
    /// Calls finished after the last one that is printed.
    pub calls_beyond: u64,
    /// Calls that the filter left out.
    pub calls_not_matching: u64,
    /// Calls of which something is missing.
    pub incomplete: u64,
    /// Standard output is closed, or failed.
    pub is_closed: bool,
    /// Why it failed.
    pub error: Option<io::Error>,
}

impl Printer<'_> {
    /// A printer on standard output; a table starts with its head.
    pub fn new(style: &Style) -> Self {
        let stdout = io::stdout();
        let is_terminal = stdout.is_terminal();
        let form = style.form.unwrap_or(if is_terminal {
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
                style.body_bytes_max,
                wants_colour(style.colour, is_terminal),
            )
        });
        let mut printer = Self {
            out: BufWriter::with_capacity(STDOUT_BYTES, stdout.lock()),
            table,
            is_terminal,
            collected_since: None,
            calls_max: style.calls_max,
            filter: style.filter.clone(),
            calls: 0,
            calls_beyond: 0,
            calls_not_matching: 0,
            incomplete: 0,
            is_closed: false,
            error: None,
        };
        if let Some(head) = printer.table.as_ref().map(Table::head) {
            printer.write(head.as_bytes());
        }
        printer
    }

    /// Whether nothing more is to be printed: all calls wanted are, or standard output is closed.
    pub fn has_enough(&self) -> bool {
        self.is_closed || self.calls >= self.calls_max
    }

    /// The time of a packet: the table counts from the first one.
    pub fn starts_at(&mut self, time: Timestamp) {
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

    /// Writes the ledger where it is wanted.
    pub fn write_ledger(
        &mut self,
        line: &[u8],
        file: Option<&LedgerFile>,
    ) -> Result<(), Diagnostic> {
        match file {
            None => {}
            Some(LedgerFile::Stdout) => self.write(line),
            Some(LedgerFile::File(file, path)) => {
                let mut file = file;
                file.write_all(line)
                    .map_err(|error| unwritten(path, &error))?;
            }
        }
        Ok(())
    }

    /// Writes what is collected.
    pub fn flush(&mut self) {
        self.collected_since = None;
        if !self.is_closed {
            let flushed = self.out.flush();
            self.check(flushed);
        }
    }

    /// Writes what has been collected for long.
    pub fn flush_old(&mut self) {
        if self
            .collected_since
            .is_some_and(|since| since.elapsed() >= COLLECTED_MAX)
        {
            self.flush();
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
        if self.calls >= self.calls_max {
            self.calls_beyond += 1;
            return;
        }
        let matches =
            |line: &[u8]| std::str::from_utf8(line).is_ok_and(|line| self.filter.matches(line));
        if !self.filter.is_empty() && !matches(line) {
            self.calls_not_matching += 1;
            return;
        }
        self.calls += 1;
        self.incomplete +=
            u64::from((notes.incomplete || notes.missing_bytes > 0) && !notes.unpaired);
        match &mut self.table {
            Some(table) => {
                let row = table.row(line, notes);
                self.write(row.as_bytes());
            }
            None => {
                self.write(line);
                self.write(b"\n");
            }
        }
        if self.is_terminal {
            self.flush();
        } else if self.collected_since.is_none() {
            self.collected_since = Some(Instant::now());
        }
    }
}
