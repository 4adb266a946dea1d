//! A delegate as the capture sees it, which starts it.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};

use super::decode;
use crate::config::environment;
use crate::limits;

/// A delegate. It ends when this is dropped.
#[derive(Debug)]
pub struct Delegate {
    questions: ChildStdin,
    answers: ChildStdout,
}

impl Delegate {
    /// One that looks up `host`, in order to connect to `port`. It confines itself if `is_confined`.
    ///
    /// # Errors
    ///
    /// The program cannot be started.
    pub fn for_name(host: &str, port: u16, is_confined: bool) -> io::Result<Self> {
        let port = port.to_string();
        Self::start("name", &[host.as_ref(), port.as_ref()], is_confined)
    }

    /// One that reads the rules in `file`. It confines itself if `is_confined`.
    ///
    /// # Errors
    ///
    /// The program cannot be started.
    pub fn for_rules(file: &Path, is_confined: bool) -> io::Result<Self> {
        Self::start("rules", &[file.as_ref()], is_confined)
    }

    /// Must be called on a thread that lives as long as the process does: the delegate ends with it.
    fn start(what: &str, arguments: &[&OsStr], is_confined: bool) -> io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["delegate", what]);
        if !is_confined {
            command.arg("--unconfined");
        }
        command.arg("--").args(arguments);
        // It needs no setting, and some are secret.
        for (variable, _) in std::env::vars_os() {
            if variable.to_str().is_some_and(environment::is_ours) {
                command.env_remove(variable);
            }
        }
        // Its own process group: Ctrl-C ends the capture, which still needs it to deliver. And none of our descriptors: who
        // waits for the end of our standard error does not wait for it.
        let mut process = command
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        match (process.stdin.take(), process.stdout.take()) {
            (Some(questions), Some(answers)) => Ok(Self { questions, answers }),
            _ => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// What it finds now. Waits for that.
    ///
    /// # Errors
    ///
    /// It finds nothing; or it has ended ([`Self::has_ended`]), and cannot be started again.
    pub fn ask(&mut self) -> io::Result<Vec<u8>> {
        self.questions.write_all(b"?")?;
        decode(&mut self.answers, limits::DELEGATE_ANSWER_BYTES_MAX)
    }

    /// Whether an error says that the delegate has ended.
    pub fn has_ended(error: &io::Error) -> bool {
        matches!(
            error.kind(),
            io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof
        )
    }
}
