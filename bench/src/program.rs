//! The program that is measured, pinned in its namespace, and the ledger that it reports.
//!
//! `sniffer` reports when it captures, and what became of every call. Of other programs we have only what they post and
//! the resources that they use. The files of a program are in a temporary folder; its process ends when it is dropped.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::cell::{Cell, Method};
use crate::lab::{Lab, RunningProcess, TAP, Usage, run};

/// The longest wait for a sniffer to log that it captures.
const START_MAX: Duration = Duration::from_secs(20);
/// The wait for other programs, which do not report when they capture.
const START_OTHER: Duration = Duration::from_secs(3);

/// A program to measure.
#[derive(Clone, Debug)]
pub enum Program {
    /// `sniffer` of this project, at this path.
    Sniffer(PathBuf),
    /// Another program that captures on `$INTERFACE` and posts to `$URL`.
    Other {
        /// Its name in the results.
        name: String,
        /// The shell command that starts it.
        command: String,
    },
}

impl Program {
    /// The name in the results.
    pub fn name(&self) -> &str {
        match self {
            Self::Sniffer(_) => "sniffer",
            Self::Other { name, .. } => name,
        }
    }
}

/// A program that captures.
#[derive(Debug)]
pub struct RunningProgram<'a> {
    process: RunningProcess,
    program: &'a Program,
    folder: PathBuf,
}

impl<'a> RunningProgram<'a> {
    /// Starts the program at the tap of `lab`, and waits until it captures.
    pub fn start(
        lab: &Lab,
        program: &'a Program,
        cell: &Cell,
        method: &Method,
        url: &str,
    ) -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("bench-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let rules = folder.join("rules.txt");
        fs::write(&rules, &cell.rules_text)?;
        let mut words = vec!["nice".to_owned(), format!("--adjustment={}", method.nice)];
        if let Some(cpus) = &method.engine_cpus {
            words.extend(["taskset".into(), "--cpu-list".into(), cpus.clone()]);
        }
        match program {
            Program::Sniffer(path) => {
                words.extend([path.display().to_string(), "run".into()]);
                words.extend([
                    "--control".into(),
                    folder.join("control").display().to_string(),
                ]);
                words.extend(["--interface".into(), TAP.into(), "--url".into(), url.into()]);
                words.extend(["--rules".into(), format!("file://{}", rules.display())]);
                words.extend(["--ring-size".into(), method.ring.clone()]);
                // By default bundles for a collector on loopback are not compressed.
                let compression = if cell.compression { "on" } else { "off" };
                words.extend(["--compression".into(), compression.into()]);
                if cell.shape.wire.vxlan.is_some() {
                    words.extend(["--engine".into(), "vxlan".into()]);
                }
                words.extend(method.arguments.iter().cloned());
            }
            Program::Other { command, .. } => {
                words.extend(["sh".into(), "-c".into(), format!("exec {command}")]);
            }
        }
        let mut command = lab.tap.command(&words);
        command.envs([
            ("URL", url),
            ("INTERFACE", TAP),
            ("WIRE", &cell.wire),
            ("RULES", &cell.rules_text),
        ]);
        command.env("PORT", cell.shape.port.to_string());
        let log = File::create(folder.join("log"))?;
        let mut running = Self {
            process: RunningProcess::start(&mut command, log)?,
            program,
            folder,
        };
        running.wait_until_it_captures()?;
        Ok(running)
    }

    /// Its standard output and standard error so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    fn wait_until_it_captures(&mut self) -> Result<()> {
        if matches!(self.program, Program::Other { .. }) {
            thread::sleep(START_OTHER);
            ensure!(
                self.process.is_running(),
                "the program has ended: {}",
                self.log()
            );
            return Ok(());
        }
        let deadline = Instant::now() + START_MAX;
        while !self.log().contains("capturing") {
            ensure!(
                self.process.is_running(),
                "the program has ended: {}",
                self.log()
            );
            ensure!(
                Instant::now() < deadline,
                "the program does not capture: {}",
                self.log()
            );
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// The resources that it has used so far, or an error if it has ended.
    pub fn usage(&mut self) -> Result<Usage> {
        ensure!(
            self.process.is_running(),
            "the program has ended: {}",
            self.log()
        );
        self.process.usage()
    }

    /// Kills it and deletes its files. Its ledger must be read before.
    pub fn stop(self) {
        drop(self.process);
        // At worst the files are left behind.
        let _ = fs::remove_dir_all(self.folder);
    }

    /// The ledger that it reports; none for other programs.
    pub fn ledger(&self) -> Result<Option<Ledger>> {
        let Program::Sniffer(path) = self.program else {
            return Ok(None);
        };
        let mut command = Command::new(path);
        command.args(["status", "--json", "--control"]);
        let text = run(command.arg(self.folder.join("control")))?;
        Ledger::read(&text).map(Some)
    }
}

/// The counters of calls and frames of the sniffer since its start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Completed calls.
    pub seen: u64,
    /// Acknowledged by the collector.
    pub sent: u64,
    /// Not delivered because a rule stopped them.
    pub stopped: u64,
    /// Lost, for any reason.
    pub dropped: u64,
    /// The part of `dropped` that was shed because a shard could not keep up.
    pub shed: u64,
    /// Bodies that were truncated because a shard could not keep up.
    pub bodies_truncated: u64,
    /// Bundles that should have been compressed and were not, because a shard could not keep up.
    pub bundles_plain: u64,
    /// Whether a shard sheds load at present.
    pub is_shedding: bool,
    /// Not delivered yet.
    pub in_flight: u64,
    /// Calls that no other counter explains.
    pub unaccounted: i64,
    /// Unpaired calls: requests without a response and responses without a request.
    pub halves: u64,
    /// Frames that were read from the rings.
    pub frames: u64,
    /// Frames that did not fit into the ring.
    pub ring_dropped: u64,
    /// Bytes of all rings.
    pub ring_bytes: u64,
    /// The bound for the memory of flows, open calls and bundles, in bytes.
    pub memory_limit_bytes: u64,
    /// Capture threads.
    pub shards: u64,
    /// How flows are distributed among the shards.
    pub steering: String,
    /// The reasons for dropped calls, with the count of each.
    pub reasons: String,
}

impl Ledger {
    fn read(text: &str) -> Result<Self> {
        let status: Value =
            serde_json::from_str(text).with_context(|| format!("not JSON: {text}"))?;
        let capture = &status["capture"];
        let (calls, packets) = (&capture["calls"], &capture["packets"]);
        let overload = &capture["overload"];
        let count = |value: &Value| value.as_u64().unwrap_or(0);
        let sum = |value: &Value| -> u64 {
            let counts = value.as_object();
            counts.map_or(0, |counts| counts.values().map(count).sum())
        };
        let dropped = calls["dropped"].as_object().context("calls.dropped")?;
        let reasons = dropped.iter().filter(|(_, calls)| count(calls) > 0);
        Ok(Self {
            seen: count(&calls["seen"]),
            sent: count(&calls["sent"]),
            stopped: count(&calls["stopped"]),
            dropped: sum(&calls["dropped"]),
            shed: count(&overload["calls_shed"]),
            bodies_truncated: count(&overload["bodies_truncated"]),
            bundles_plain: count(&overload["bundles_plain"]),
            is_shedding: overload["step"].as_str().is_some_and(|step| step != "none"),
            in_flight: count(&calls["in_flight"]),
            unaccounted: calls["unaccounted"].as_i64().context("calls.unaccounted")?,
            halves: sum(&capture["halves"]),
            frames: count(&packets["received"]),
            ring_dropped: count(&packets["dropped"]),
            ring_bytes: count(&capture["ring_bytes"]),
            memory_limit_bytes: count(&capture["memory_limit_bytes"]),
            shards: count(&capture["shards"]),
            steering: capture["steering"].as_str().unwrap_or_default().to_owned(),
            reasons: reasons
                .map(|(reason, calls)| format!("{reason} {calls}"))
                .collect::<Vec<_>>()
                .join("; "),
        })
    }
}

/// The path of the `sniffer` that was built into the same folder as this program.
pub fn sniffer_beside() -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name("sniffer");
    if !Path::is_file(&path) {
        bail!(
            "{} does not exist: run cargo build --release -p sniffer, or give a path with --sniffer",
            path.display()
        );
    }
    Ok(path)
}
