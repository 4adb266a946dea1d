//! The process of a delegate.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::ToSocketAddrs;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use super::{encode, join};
use crate::config::bounded;
use crate::config::command_line::DelegateCommand;
use crate::descriptors;
use crate::diagnostic::{Code, Diagnostic, Exit, system_words};
use crate::sandbox::{Confinement, Plan};
use crate::signals;

/// `sniffer delegate`.
pub fn command(command: &DelegateCommand) -> Result<Exit, Diagnostic> {
    let served = match command {
        DelegateCommand::Name {
            host,
            port,
            unconfined,
        } => serve(&Plan::resolver(), *unconfined, || addresses(host, *port)),
        DelegateCommand::Rules { file, unconfined } => {
            let files = [file.clone()];
            serve(&Plan::files(&files), *unconfined, || contents(file))
        }
        DelegateCommand::Files { files, unconfined } => {
            serve(&Plan::files(files), *unconfined, || all_contents(files))
        }
        DelegateCommand::Socket { path, unconfined } => {
            serve(&Plan::connector(), *unconfined, || connect(path))
        }
    };
    served
        .map(|()| Exit::Done)
        .map_err(|error| Diagnostic::new(Code::E199, format!("a delegate failed: {error}")))
}

/// Answers until the input ends.
fn serve(
    plan: &Plan,
    is_unconfined: bool,
    answer: impl Fn() -> io::Result<Vec<u8>>,
) -> io::Result<()> {
    engine_sys::process::drop_capabilities().map_err(io::Error::other)?;
    // Refused only by kernels before 3.5 and 2.1.57.
    let _ = engine_sys::process::no_new_privileges();
    let _ = engine_sys::process::die_with_parent(libc::SIGKILL);
    // A service manager sends its signal to every process of the service; this one is needed until the capture has ended.
    signals::ignore()?;
    if !is_unconfined {
        // As far as the kernel supports it, as for the capture.
        let _ = Confinement::of(plan);
    }
    let mut questions = io::stdin().lock();
    let mut question = [0];
    while questions.read(&mut question)? == 1 {
        let mut answers = io::stdout().lock();
        answers.write_all(&encode(answer()))?;
        answers.flush()?;
    }
    Ok(())
}

/// The addresses of a host with a port, a line each.
fn addresses(host: &str, port: u16) -> io::Result<Vec<u8>> {
    let addresses = (host, port).to_socket_addrs()?;
    let lines: Vec<String> = addresses.map(|address| format!("{address}\n")).collect();
    Ok(lines.concat().into_bytes())
}

/// The contents of a file. A pipe in its place, which nobody may ever write to, would keep the capture waiting.
fn contents(file: &Path) -> io::Result<Vec<u8>> {
    let mut options = File::options();
    let file = (options.read(true).custom_flags(libc::O_NONBLOCK)).open(file)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    bounded(file)
}

/// The contents of several files. The first that cannot be read is named.
fn all_contents(files: &[PathBuf]) -> io::Result<Vec<u8>> {
    let read = |file: &PathBuf| {
        let named =
            |error| io::Error::other(format!("{}: {}", file.display(), system_words(&error)));
        contents(file).map_err(named)
    };
    let contents: io::Result<Vec<_>> = files.iter().map(read).collect();
    Ok(join(&contents?))
}

/// Sends a connection to a Unix socket over standard input.
fn connect(path: &Path) -> io::Result<Vec<u8>> {
    let connection = UnixStream::connect(path)?;
    descriptors::send(io::stdin().as_fd(), connection.as_fd())?;
    Ok(Vec::new())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::limits;

    #[test]
    fn only_a_file_of_bounded_length_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rules");
        std::fs::write(&path, "include debug").unwrap();
        assert_eq!(contents(&path).unwrap(), b"include debug");
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert_eq!(contents(&link).unwrap(), b"include debug");
        let long = File::create(&path).unwrap();
        long.set_len(limits::DELEGATE_ANSWER_BYTES_MAX as u64 + 1)
            .unwrap();
        assert!(contents(&path).is_err());
        // Opened for writing by nobody: to open it would take forever.
        let pipe = folder.path().join("pipe");
        assert!(
            Command::new("mkfifo")
                .arg(&pipe)
                .status()
                .unwrap()
                .success()
        );
        for other in [pipe.as_path(), folder.path(), Path::new("/dev/zero")] {
            assert!(contents(other).is_err(), "{}", other.display());
        }
    }
}
