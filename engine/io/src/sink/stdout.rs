//! The sink `stdout:`, which writes lines to standard output for a program behind a pipe.
//!
//! Standard output may be shared with other processes, so its flags stay as they are: a pipe or a terminal is opened a second time,
//! without blocking, and a socket gets no more at once than it has room for. A pipe whose reader has ended is closed for good,
//! as the reader of a shell's pipe does not come back; what would be written from then on is counted as `closed`.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::time::Instant;

use engine_core::bundle::Compression;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;

use super::kind::{Sink, Started};
use super::stats::Detail;
use super::writing::{self, Config, Target, Write};
use crate::diagnostic::{Code, Console, Diagnostic, system_words};

/// Where lines go, in words.
const PLACE: &str = "standard output";

/// What a pipe that is ready takes without blocking.
const PIPE_BYTES: usize = 4096;

/// Bytes of one write otherwise, so that new bundles are taken in between.
const WRITE_BYTES: usize = 64 << 10;

/// The sink.
pub struct Stdout {
    name: String,
    bundles_max: usize,
    bytes_max: usize,
    out: Option<Out>,
}

impl Stdout {
    /// The sink `name`, with at most so many bundles and bytes that wait.
    pub fn new(name: String, bundles_max: usize, bytes_max: usize) -> Self {
        Self {
            name,
            bundles_max,
            bytes_max,
            out: None,
        }
    }
}

impl Sink for Stdout {
    fn compression(&self) -> Compression {
        Compression::Off
    }

    fn needs_lines(&self) -> bool {
        true
    }

    fn prepare(&mut self) -> Result<(), Diagnostic> {
        let opened = Out::of(io::stdout().as_fd());
        self.out = Some(opened.map_err(|error| {
            let what = format!("{PLACE}: {}", system_words(&error));
            Diagnostic::new(Code::E199, what)
        })?);
        Ok(())
    }

    fn start(self: Box<Self>, shards: usize, console: Console) -> io::Result<Started> {
        let out = match self.out {
            Some(out) => out,
            None => Out::of(io::stdout().as_fd())?,
        };
        let config = Config {
            name: self.name,
            place: PLACE.to_owned(),
            description: format!("writing to {PLACE}"),
            code: Code::W058,
            bundles_max: self.bundles_max,
            bytes_max: self.bytes_max,
        };
        let detail = || Detail {
            transport: "pipe".to_owned(),
            ..Detail::default()
        };
        writing::start(config, out, detail, shards, console)
    }
}

/// What is written to.
pub(super) struct Out {
    file: File,
    /// Bytes of one write.
    step: usize,
    /// Whether a write may block although less than `step` is written.
    waits: bool,
    /// Bytes of the present lines that are written.
    written: usize,
}

impl Out {
    /// Opens standard output, or whatever stands for it in a test.
    pub(super) fn of(fd: BorrowedFd<'_>) -> io::Result<Self> {
        let file = File::from(fd.try_clone_to_owned()?);
        let kind = file.metadata()?.file_type();
        let again = (kind.is_fifo() || kind.is_char_device()).then(|| {
            let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
            let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
            let mut options = OpenOptions::new();
            options.write(true).custom_flags(flags).open(path)
        });
        Ok(match again {
            // With flags of its own.
            Some(Ok(file)) => Self::with(file, WRITE_BYTES, false),
            None if kind.is_file() => Self::with(file, WRITE_BYTES, false),
            _ => Self::with(file, PIPE_BYTES, true),
        })
    }

    fn with(file: File, step: usize, waits: bool) -> Self {
        Self {
            file,
            step,
            waits,
            written: 0,
        }
    }

    /// Whether a write would not block.
    fn is_ready(&self) -> bool {
        let mut fds = [PollFd::from_borrowed_fd(self.file.as_fd(), PollFlags::OUT)];
        let at_once = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        poll(&mut fds, Some(&at_once)).is_ok_and(|ready| ready > 0)
    }
}

impl Target for Out {
    fn write(&mut self, lines: &[u8], _calls: u64, _now: Instant) -> Write {
        while let Some(rest) = lines.get(self.written..)
            && !rest.is_empty()
        {
            if self.waits && !self.is_ready() {
                return Write::Blocked;
            }
            let piece = rest.get(..self.step).unwrap_or(rest);
            match self.file.write(piece) {
                Ok(count) => self.written += count,
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock => return Write::Blocked,
                    io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
                        return Write::Closed("its reader has closed it".to_owned());
                    }
                    _ => return Write::Failed(system_words(&error).to_string()),
                },
            }
        }
        self.written = 0;
        Write::Done
    }

    fn blocked_on(&self) -> Option<BorrowedFd<'_>> {
        Some(self.file.as_fd())
    }
}
