//! A recording by tcpdump during a capture: the same frames, with the same times to the nanosecond.
//!
//! The kernel gives a frame one time stamp for all packet sockets only while some socket has `SO_TIMESTAMPNS` set;
//! otherwise each socket reads the clock for itself, some microseconds apart. So such a socket is held open.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use bench::traffic::Frame;

use crate::network::Namespace;
use crate::process::{PATIENCE, Running, eventually};

/// `SO_TIMESTAMPNS` (asm-generic/socket.h); receives nothing.
const STAMPS: &str = "
import socket, sys, time
stamped = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
stamped.setsockopt(socket.SOL_SOCKET, 35, 1)
print('stamps', file=sys.stderr, flush=True)
time.sleep(600)
";

/// tcpdump on one interface; ended when dropped.
pub struct Recorder {
    file: PathBuf,
    tcpdump: Running,
    _stamps: Running,
}

impl Recorder {
    /// Records whole frames of `interface` into `file` from now on.
    pub fn start(namespace: &Namespace, interface: &str, file: &Path) -> Result<Self> {
        let mut python = namespace.command("python3");
        let mut stamps = Running::start(python.args(["-c", STAMPS]))?;
        stamps.wait_for_log("stamps", PATIENCE).context("python3")?;
        let mut command = namespace.command("tcpdump");
        command.args([
            "-i", interface, "-n", "-s", "0", "-B", "65536", "-Z", "root",
        ]);
        // Each frame at once, so that none is left in a block of the kernel's at the end.
        command.args(["--immediate-mode", "-U", "--time-stamp-precision=nano"]);
        command.arg("-w").arg(file);
        let mut tcpdump = Running::start(&mut command).context("apt-get install tcpdump")?;
        tcpdump.wait_for_log("listening on", PATIENCE)?;
        Ok(Self {
            file: file.to_owned(),
            tcpdump,
            _stamps: stamps,
        })
    }

    /// Ends the recording once it has the last frame that was sent.
    pub fn stop(self, last: &Frame) -> Result<()> {
        eventually(PATIENCE, || {
            let recorded = std::fs::read(&self.file)?;
            // After it there are only announcements of the interfaces.
            let end = &recorded[recorded.len().saturating_sub(1 << 16)..];
            let mut frames = end.windows(last.bytes.len());
            ensure!(
                frames.any(|frame| frame == last.bytes),
                "the last frame is not among {} bytes",
                recorded.len()
            );
            Ok(())
        })?;
        let ended = self.tcpdump.terminate(PATIENCE)?;
        ensure!(
            ended.stderr.contains("\n0 packets dropped by kernel"),
            "{}",
            ended.stderr
        );
        Ok(())
    }
}
