//! Child processes that are always ended, with their output.

use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long to wait for anything that should be quick: many times what it takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Lines that a process has written so far.
#[derive(Clone, Default)]
struct Lines(Arc<(Mutex<Vec<String>>, Condvar)>);

impl Lines {
    fn follow(&self, stream: impl Read + Send + 'static) -> JoinHandle<()> {
        let lines = self.clone();
        thread::spawn(move || {
            let mut reader = BufReader::new(stream);
            let mut line = Vec::new();
            while reader
                .read_until(b'\n', &mut line)
                .is_ok_and(|length| length > 0)
            {
                let (kept, changed) = &*lines.0;
                kept.lock()
                    .unwrap()
                    .push(String::from_utf8_lossy(&line).into_owned());
                changed.notify_all();
                line.clear();
            }
        })
    }

    fn text(&self) -> String {
        self.0.0.lock().unwrap().concat()
    }

    fn wait(&self, part: &str, patience: Duration) -> bool {
        let (kept, changed) = &*self.0;
        let missing = |lines: &mut Vec<String>| !lines.iter().any(|line| line.contains(part));
        let guard = kept.lock().unwrap();
        !changed
            .wait_timeout_while(guard, patience, missing)
            .unwrap()
            .1
            .timed_out()
    }
}

/// How a process ended, and its output.
#[derive(Debug)]
pub struct Ended {
    /// Its exit status.
    pub status: ExitStatus,
    /// All of its standard output.
    pub stdout: String,
    /// All of its standard error.
    pub stderr: String,
}

impl Ended {
    /// The exit code; an error if a signal ended it.
    pub fn code(&self) -> Result<i32> {
        self.status
            .code()
            .with_context(|| format!("ended by a signal: {self:?}"))
    }
}

/// A running process; killed when dropped.
pub struct Running {
    child: Child,
    stdout: Lines,
    stderr: Lines,
    readers: Vec<JoinHandle<()>>,
}

impl Running {
    /// Starts it with its output kept and nothing to read.
    pub fn start(command: &mut Command) -> Result<Self> {
        Self::start_fed(command, Stdio::null())
    }

    /// Starts it with its output kept and this input.
    pub fn start_fed(command: &mut Command, input: Stdio) -> Result<Self> {
        command
            .stdin(input)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        let (stdout, stderr) = (Lines::default(), Lines::default());
        let readers = vec![
            stdout.follow(child.stdout.take().context("stdout is piped")?),
            stderr.follow(child.stderr.take().context("stderr is piped")?),
        ];
        Ok(Self {
            child,
            stdout,
            stderr,
            readers,
        })
    }

    /// Waits until a line with `part` is on standard error.
    pub fn wait_for_log(&mut self, part: &str, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if self.stderr.wait(part, Duration::from_millis(100)) {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!(
                    "ended ({status}) before it logged {part:?}: {}{}",
                    self.stderr.text(),
                    self.stdout.text()
                );
            }
        }
        bail!(
            "did not log {part:?} within {patience:?}: {}",
            self.stderr.text()
        );
    }

    /// Its standard output so far.
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// Its standard error so far.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(Pid::from_raw(self.child.id() as i32), signal)
            .with_context(|| format!("cannot send {signal}"))
    }

    /// Waits for its end.
    pub fn end(mut self, patience: Duration) -> Result<Ended> {
        let deadline = Instant::now() + patience;
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            if Instant::now() > deadline {
                bail!("still runs after {patience:?}: {}", self.stderr.text());
            }
            thread::sleep(Duration::from_millis(10));
        };
        for reader in self.readers.drain(..) {
            // A grandchild may hold the stream open; then what has been read is what there is.
            while !reader.is_finished() && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(5));
            }
        }
        Ok(Ended {
            status,
            stdout: self.stdout.text(),
            stderr: self.stderr.text(),
        })
    }

    /// Sends SIGTERM and waits for its end.
    pub fn terminate(self, patience: Duration) -> Result<Ended> {
        self.signal(Signal::SIGTERM)?;
        self.end(patience)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Nothing is left to do about a child that cannot be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command to its end; an error unless it succeeds.
pub fn run(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("cannot start {command:?} (installed?)"))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!(
            "{command:?}: {}: {stdout}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(stdout)
}

/// Repeats `attempt` until it succeeds; the last error if it does not in time.
pub fn eventually<T>(patience: Duration, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + patience;
    loop {
        match attempt() {
            Ok(answer) => return Ok(answer),
            Err(error) if Instant::now() > deadline => {
                return Err(error.context(format!("for {patience:?}")));
            }
            Err(_) => thread::sleep(Duration::from_millis(50)),
        }
    }
}
