//! One child process of the supervisor: the same program with another command.
//!
//! Its standard input is a socket that closes when the supervisor ends, its standard output carries lines for the
//! supervisor, and its standard error is passed on; the last part of it is kept to show why the child failed.
//!
//! A child reads what strangers sent, and one of them may have taken it over; so what it writes is bounded, and nothing of it
//! but colours has an effect on a terminal.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::harmless::Harmless;
use super::options::Options;
use crate::config::environment;
use crate::diagnostic::{Code, Diagnostic, system_words};
use crate::limits::{CHILD_LINE_BYTES_MAX, CHILD_LINES_MAX};

/// Bytes kept of the end of its standard error.
const ERROR_TAIL_BYTES: usize = 4096;

/// Lines of its standard output that were not taken yet.
type Lines = Mutex<VecDeque<String>>;

pub(super) struct Child {
    process: std::process::Child,
    /// The other end of its standard input.
    input: UnixStream,
    started: Instant,
    lines: Arc<Lines>,
    error_tail: Arc<Mutex<Vec<u8>>>,
    readers: Vec<JoinHandle<()>>,
    ended: Option<i32>,
    ran: Duration,
}

impl Child {
    /// Starts this program with `arguments`, supervised. Its settings are its environment.
    pub(super) fn start(
        name: &str,
        arguments: &[&str],
        options: &Options,
    ) -> Result<Self, Diagnostic> {
        let failed = |error: std::io::Error| {
            Diagnostic::new(
                Code::E199,
                format!("cannot start {name}: {}", system_words(&error)),
            )
        };
        let program = std::env::current_exe().map_err(failed)?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .arg("--supervised")
            .arg("--control")
            .arg(&options.control);
        command.args(options.console.flags());
        for (variable, _) in std::env::vars_os() {
            if variable.to_str().is_some_and(environment::is_ours) {
                command.env_remove(variable);
            }
        }
        command.envs(options.values.variables());
        let (input, its_input) = UnixStream::pair().map_err(failed)?;
        // A process group of its own: Ctrl-C on the terminal reaches the supervisor alone, which ends the children in order.
        command
            .process_group(0)
            .stdin(Stdio::from(OwnedFd::from(its_input)))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut process = command.spawn().map_err(failed)?;
        let lines = Arc::<Lines>::default();
        let error_tail = Arc::new(Mutex::new(Vec::new()));
        let mut readers = Vec::new();
        if let Some(output) = process.stdout.take() {
            let lines = Arc::clone(&lines);
            readers.push(std::thread::spawn(move || keep_lines(output, &lines)));
        }
        if let Some(errors) = process.stderr.take() {
            let tail = Arc::clone(&error_tail);
            readers.push(std::thread::spawn(move || pass_on(errors, &tail)));
        }
        Ok(Self {
            process,
            input,
            started: Instant::now(),
            lines,
            error_tail,
            readers,
            ended: None,
            ran: Duration::ZERO,
        })
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// How long it has run, or ran.
    pub(super) fn ran(&self) -> Duration {
        if self.ended.is_some() {
            self.ran
        } else {
            self.started.elapsed()
        }
    }

    /// Its exit code once it has ended, a signal as a negative number.
    pub(super) fn ended(&mut self) -> Option<i32> {
        if self.ended.is_none() {
            let status = self.process.try_wait().ok().flatten()?;
            self.ran = self.started.elapsed();
            self.ended = Some(
                status
                    .code()
                    .unwrap_or_else(|| -status.signal().unwrap_or(0)),
            );
            // Its pipes are closed now, so both readers end after the last output.
            for reader in self.readers.drain(..) {
                let _ = reader.join();
            }
        }
        self.ended
    }

    /// The other end of its standard input.
    pub(super) fn input(&self) -> std::io::Result<UnixStream> {
        self.input.try_clone()
    }

    /// Ends its standard input, so that it delivers and ends. What it passes on to us still comes.
    pub(super) fn ask_to_end(&mut self) {
        let _ = self.input.shutdown(Shutdown::Write);
    }

    /// Sends it the signal of a second one: it does not wait for its destination any longer.
    pub(super) fn hurry(&self) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        // Before its end was seen, the number is of no other process.
        if let Some(pid) = pid.filter(|_| self.ended.is_none()) {
            let _ = kill_process(pid, Signal::INT);
        }
    }

    /// Ends it at once.
    pub(super) fn kill(&mut self) {
        let _ = self.process.kill();
    }

    /// The next line of its standard output.
    pub(super) fn take_line(&self) -> Option<String> {
        locked(&self.lines).pop_front()
    }

    /// The end of its standard error, without colours.
    pub(super) fn error_tail(&self) -> String {
        let tail = self
            .error_tail
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&tail).into_owned();
        let mut plain = String::with_capacity(text.len());
        let mut rest = text.as_str();
        while let Some((before, after)) = rest.split_once("\x1b[") {
            plain.push_str(before);
            rest = after.split_once('m').map_or("", |(_, rest)| rest);
        }
        plain.push_str(rest);
        plain.trim_end().to_owned()
    }
}

fn locked(lines: &Lines) -> MutexGuard<'_, VecDeque<String>> {
    lines.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps the newest lines: each is a state, and replaces the ones before. A line that is too long is kept in pieces, which are no
/// report.
fn keep_lines(output: impl Read, lines: &Lines) {
    let mut output = BufReader::new(output);
    loop {
        let mut line = Vec::new();
        let read = (&mut output)
            .take(CHILD_LINE_BYTES_MAX)
            .read_until(b'\n', &mut line);
        if !read.is_ok_and(|bytes| bytes > 0) {
            return;
        }
        let line = String::from_utf8_lossy(line.trim_ascii_end()).into_owned();
        let mut lines = locked(lines);
        if lines.len() >= CHILD_LINES_MAX {
            lines.pop_front();
        }
        lines.push_back(line);
    }
}

fn pass_on(mut errors: impl Read, error_tail: &Mutex<Vec<u8>>) {
    let mut buffer = [0; 4096];
    let mut filter = Harmless::default();
    while let Ok(read @ 1..) = errors.read(&mut buffer) {
        let bytes = &filter.pass(&buffer[..read])[..];
        let _ = std::io::stderr().lock().write_all(bytes);
        let mut tail = error_tail.lock().unwrap_or_else(PoisonError::into_inner);
        tail.extend_from_slice(bytes);
        let surplus = tail.len().saturating_sub(ERROR_TAIL_BYTES);
        tail.drain(..surplus);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_lines_are_kept_and_none_is_long() {
        let lines = Lines::default();
        let text: String = (0..CHILD_LINES_MAX + 3).map(|n| format!("{n}\n")).collect();
        keep_lines(text.as_bytes(), &lines);
        let kept = locked(&lines);
        assert_eq!((kept.len(), kept[0].as_str()), (CHILD_LINES_MAX, "3"));
        drop(kept);
        let long = vec![b'x'; 2 * CHILD_LINE_BYTES_MAX as usize];
        keep_lines(&long[..], &lines);
        let most = locked(&lines).iter().map(String::len).max();
        assert_eq!(most, Some(CHILD_LINE_BYTES_MAX as usize));
    }
}
