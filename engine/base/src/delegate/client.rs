//! A delegate as the capture sees it, which starts it.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};

use super::{decode, split};
use crate::config::environment;
use crate::descriptors;
use crate::limits;

/// A delegate. It ends when this is dropped.
#[derive(Debug)]
pub struct Delegate {
    /// A pipe, or a socket where descriptors come back.
    questions: File,
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
        let arguments = [host.as_ref(), port.as_ref()];
        Self::start("name", &arguments, is_confined, false)
    }

    /// One that reads the rules in `file`. It confines itself if `is_confined`.
    ///
    /// # Errors
    ///
    /// The program cannot be started.
    pub fn for_rules(file: &Path, is_confined: bool) -> io::Result<Self> {
        Self::start("rules", &[file.as_ref()], is_confined, false)
    }

    /// One that reads these files of certificates and keys. It confines itself if `is_confined`.
    ///
    /// # Errors
    ///
    /// The program cannot be started.
    pub fn for_files(files: &[PathBuf], is_confined: bool) -> io::Result<Self> {
        let files: Vec<&OsStr> = files.iter().map(AsRef::as_ref).collect();
        Self::start("files", &files, is_confined, false)
    }

    /// One that connects to the Unix socket at `path`. It confines itself if `is_confined`.
    ///
    /// # Errors
    ///
    /// The program cannot be started.
    pub fn for_socket(path: &Path, is_confined: bool) -> io::Result<Self> {
        Self::start("socket", &[path.as_ref()], is_confined, true)
    }

    /// Must be called on a thread that lives as long as the process does: the delegate ends with it.
    fn start(
        what: &str,
        arguments: &[&OsStr],
        is_confined: bool,
        passes_sockets: bool,
    ) -> io::Result<Self> {
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
        let (input, questions) = if passes_sockets {
            let (ours, theirs) = UnixStream::pair()?;
            (
                Stdio::from(OwnedFd::from(theirs)),
                Some(OwnedFd::from(ours)),
            )
        } else {
            (Stdio::piped(), None)
        };
        let mut process = command
            .process_group(0)
            .stdin(input)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let questions = questions.or_else(|| process.stdin.take().map(OwnedFd::from));
        match (questions, process.stdout.take()) {
            (Some(questions), Some(answers)) => Ok(Self {
                questions: questions.into(),
                answers,
            }),
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

    /// The contents of the files, in the order in which it was given them. Waits for them.
    ///
    /// # Errors
    ///
    /// One of them cannot be read; or as of [`Self::ask`].
    pub fn files(&mut self) -> io::Result<Vec<Vec<u8>>> {
        split(&self.ask()?)
    }

    /// A connection to its Unix socket. Waits for it.
    ///
    /// # Errors
    ///
    /// Nothing accepts one; or as of [`Self::ask`].
    pub fn connect(&mut self) -> io::Result<OwnedFd> {
        self.ask()?;
        let passed = descriptors::receive(self.questions.as_fd())?;
        passed.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// The descriptor over which connections come.
    pub fn descriptor(&self) -> RawFd {
        self.questions.as_raw_fd()
    }

    /// Whether an error says that the delegate has ended.
    pub fn has_ended(error: &io::Error) -> bool {
        matches!(
            error.kind(),
            io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof
        )
    }
}
