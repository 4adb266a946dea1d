//! Who is measured: the program in its namespace, pinned, and its own account of itself.
//!
//! A program of this project says when it captures and what became of every call; of others we know what they post and
//! what they use. Its files lie in a folder of their own; the process ends when dropped.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::cell::{Cell, Method};
use crate::lab::{Lab, Running, TAP, Usage, run};

/// Longest wait for a sniffer to say that it captures.
const START_MAX: Duration = Duration::from_secs(20);
/// A program that says nothing we know gets so long to start.
const START_OTHER: Duration = Duration::from_secs(3);

/// Who is measured.
#[derive(Clone, Debug)]
pub enum Program {
    /// This project's program, at this path.
    Sniffer(PathBuf),
    /// A shell command that captures on `$INTERFACE` and posts to `$URL`, with its name for the results.
    Other {
        /// For the results.
        name: String,
        /// For `sh -c`.
        command: String,
    },
}

impl Program {
    /// For the results.
    pub fn name(&self) -> &str {
        match self {
            Self::Sniffer(_) => "sniffer",
            Self::Other { name, .. } => name,
        }
    }
}

/// A sniffer that captures.
#[derive(Debug)]
pub struct Subject<'a> {
    process: Running,
    program: &'a Program,
    folder: PathBuf,
}

impl<'a> Subject<'a> {
    /// Starts it at the tap of `lab`, and waits until it captures.
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
                // The collector is on loopback, where nothing would be compressed.
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
        let mut subject = Self {
            process: Running::start(&mut command, log)?,
            program,
            folder,
        };
        subject.wait_until_it_captures()?;
        Ok(subject)
    }

    /// What it wrote to standard output and standard error.
    pub fn said(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    fn wait_until_it_captures(&mut self) -> Result<()> {
        if matches!(self.program, Program::Other { .. }) {
            thread::sleep(START_OTHER);
            ensure!(self.process.runs(), "it has ended: {}", self.said());
            return Ok(());
        }
        let deadline = Instant::now() + START_MAX;
        while !self.said().contains("capturing") {
            ensure!(self.process.runs(), "it has ended: {}", self.said());
            ensure!(
                Instant::now() < deadline,
                "it does not capture: {}",
                self.said()
            );
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// What it has used; an error if it has ended.
    pub fn usage(&mut self) -> Result<Usage> {
        ensure!(self.process.runs(), "it has ended: {}", self.said());
        self.process.usage()
    }

    /// Ends it at once and forgets its files. What it still had to say about the traffic was asked before.
    pub fn stop(self) {
        drop(self.process);
        // Left behind at worst.
        let _ = fs::remove_dir_all(self.folder);
    }

    /// Its own account of itself; nothing from other programs.
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

/// The sniffer's counters of calls and frames, since its start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Complete calls.
    pub seen: u64,
    /// Acknowledged by the collector.
    pub sent: u64,
    /// Kept back by rules.
    pub stopped: u64,
    /// Lost, whatever the reason.
    pub dropped: u64,
    /// Of these, not written because the program could not keep up.
    pub shed: u64,
    /// Bodies that were cut because the program could not keep up.
    pub bodies_thinned: u64,
    /// Bundles that were sent without the compression that they should have.
    pub bundles_plain: u64,
    /// It gives something up at this moment, because it could not keep up a moment ago.
    pub is_strained: bool,
    /// On their way.
    pub in_flight: u64,
    /// What nothing explains.
    pub unaccounted: i64,
    /// Requests without response and responses without request.
    pub halves: u64,
    /// Frames that were handed to the pipeline.
    pub frames: u64,
    /// Frames that did not fit into the ring.
    pub ring_dropped: u64,
    /// Bytes of all rings.
    pub ring_bytes: u64,
    /// Bytes that flows, open calls and bundles may take.
    pub memory_limit_bytes: u64,
    /// Capture threads.
    pub shards: u64,
    /// How a flow finds its shard.
    pub steering: String,
    /// Why calls were dropped, and how many.
    pub reasons: String,
}

impl Ledger {
    fn read(text: &str) -> Result<Self> {
        let status: Value =
            serde_json::from_str(text).with_context(|| format!("no JSON: {text}"))?;
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
            bodies_thinned: count(&overload["bodies_thinned"]),
            bundles_plain: count(&overload["bundles_plain"]),
            is_strained: overload["step"].as_str().is_some_and(|step| step != "none"),
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

/// The built `sniffer` beside this program.
pub fn sniffer_beside() -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name("sniffer");
    if !Path::is_file(&path) {
        bail!(
            "{} is not there: cargo build --release -p sniffer, or name it with --sniffer",
            path.display()
        );
    }
    Ok(path)
}
