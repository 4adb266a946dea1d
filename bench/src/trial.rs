//! One measurement: a sniffer in a namespace of its own, steady traffic at one rate, a collector that checks every line.
//!
//! Order: start, warm up, drain, then the measured traffic, drain, read the counters, stop. CPU and the ledger are
//! differences between the two drains, so neither start nor warm-up is in them; the peak of memory is the process' own.
//! Bounds: the traffic by its calls, each drain by [`DRAIN_MAX`].

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::collect::Collector;
use crate::lab::{Lab, Running, SOURCE, TAP, pin, run};
use crate::load::{self, FIRST_NUMBER, Load};
use crate::pour::{Poured, pour};
use crate::results::{Purpose, Trial};
use crate::traffic::Wire;
use crate::tx::PacketSender;

/// Longest wait for the last POST.
pub const DRAIN_MAX: Duration = Duration::from_secs(30);
/// No POST for so long: the drain is over. More than the age at which a sniffer closes a bundle.
const QUIET: Duration = Duration::from_millis(1500);
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

/// What does not change between the rates of one cell of the matrix.
#[derive(Clone, Debug)]
pub struct Cell {
    /// Traffic, but for the number of connections when `rate` chooses it.
    pub shape: load::Shape,
    /// `plain` or `vxlan`, for the results.
    pub wire: String,
    /// Bundles are compressed.
    pub compression: bool,
    /// Name of the rule set, for the results.
    pub rules: String,
    /// Its text.
    pub rules_text: String,
}

/// How to measure.
#[derive(Clone, Debug)]
pub struct Method {
    /// Length of the measured traffic.
    pub seconds: f64,
    /// Length of the warm-up.
    pub warm_up: f64,
    /// CPU of the sender, which also pays for the kernel's way to the tap.
    pub sender_cpu: Option<usize>,
    /// CPUs of sniffer and collector, as taskset(1) takes them.
    pub engine_cpus: Option<String>,
    /// CPU of the collector.
    pub collector_cpu: Option<usize>,
    /// Priority of the sniffer, as nice(1) takes it.
    pub nice: i32,
    /// Bytes of one ring.
    pub ring: String,
    /// Further arguments of `sniffer run`.
    pub arguments: Vec<String>,
    /// Bytes of POSTs that are checked only after the traffic.
    pub postpone_bytes: usize,
}

/// The text of a named rule set; `realistic` has fifty rules.
pub fn rules(name: &str, compression: bool) -> Result<String> {
    let mut text = match name {
        "debug" | "standard" | "strict" => format!("allow_http_url\ninclude {name}\n"),
        "realistic" => include_str!("../rules/realistic.txt").to_owned(),
        path => fs::read_to_string(path).with_context(|| {
            format!("{path} is no rule set: debug, standard, strict, realistic or a file")
        })?,
    };
    if !compression {
        text.push_str("skip_compression\n");
    }
    Ok(text)
}

/// Connections that hold the calls of 20 ms, 512 at most.
fn connections(rate: f64) -> usize {
    ((rate * 0.02) as usize).clamp(1, 512)
}

/// A sniffer that captures.
struct Subject<'a> {
    process: Running,
    program: &'a Program,
    folder: PathBuf,
}

impl<'a> Subject<'a> {
    fn start(
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

    fn said(&self) -> String {
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

    /// Its own account of itself; nothing from other programs.
    fn ledger(&self) -> Result<Option<Ledger>> {
        let Program::Sniffer(path) = self.program else {
            return Ok(None);
        };
        let mut command = Command::new(path);
        command.args(["status", "--json", "--control"]);
        let text = run(command.arg(self.folder.join("control")))?;
        Ledger::read(&text).map(Some)
    }
}

/// The sniffer's counters of calls and frames.
#[derive(Clone, Debug, Default)]
struct Ledger {
    seen: u64,
    sent: u64,
    stopped: u64,
    dropped: u64,
    in_flight: u64,
    unaccounted: i64,
    ring_dropped: u64,
    ring_bytes: u64,
    reasons: String,
}

impl Ledger {
    fn read(text: &str) -> Result<Self> {
        let status: Value =
            serde_json::from_str(text).with_context(|| format!("no JSON: {text}"))?;
        let capture = &status["capture"];
        let (calls, packets) = (&capture["calls"], &capture["packets"]);
        let count = |value: &Value| value.as_u64().unwrap_or(0);
        let dropped = calls["dropped"].as_object().context("calls.dropped")?;
        let reasons = dropped.iter().filter(|(_, calls)| count(calls) > 0);
        Ok(Self {
            seen: count(&calls["seen"]),
            sent: count(&calls["sent"]),
            stopped: count(&calls["stopped"]),
            dropped: dropped.values().map(count).sum(),
            in_flight: count(&calls["in_flight"]),
            unaccounted: calls["unaccounted"].as_i64().context("calls.unaccounted")?,
            ring_dropped: count(&packets["dropped"]),
            ring_bytes: count(&capture["ring_bytes"]),
            reasons: reasons
                .map(|(reason, calls)| format!("{reason} {calls}"))
                .collect::<Vec<_>>()
                .join("; "),
        })
    }
}

/// Measures `program` in `cell` at `rate` calls a second; `rate` 0 is as fast as the sender can.
pub fn measure(
    program: &Program,
    cell: &Cell,
    method: &Method,
    rate: f64,
    purpose: Purpose,
    repetition: u32,
) -> Result<Trial> {
    let lab = Lab::new()?;
    let collector = lab.tap.inside(|| -> Result<Collector> {
        if let Some(cpu) = method.collector_cpu {
            pin(cpu)?;
        }
        Collector::postponing(TcpListener::bind("127.0.0.1:7701")?, method.postpone_bytes)
    })?;
    let mut cell = cell.clone();
    if cell.shape.connections == 0 {
        cell.shape.connections = if rate > 0.0 { connections(rate) } else { 512 };
    }
    let mut subject = Subject::start(&lab, program, &cell, method, &collector.url())?;

    let known_rate = if rate > 0.0 { rate } else { 20_000.0 };
    let calls = |seconds: f64| (known_rate * seconds).ceil() as u64;
    let warm_up = calls(method.warm_up);
    send(&lab, &cell, method, rate, FIRST_NUMBER, warm_up)?;
    drain(&collector, &subject)?;
    collector.take();
    let ledger_before = subject.ledger()?;
    let usage_before = subject.process.usage()?;
    let (arrived_before, tap_dropped_before) = lab.arrived()?;

    let sent = send(
        &lab,
        &cell,
        method,
        rate,
        FIRST_NUMBER + warm_up,
        calls(method.seconds),
    )?;
    let drain_seconds = drain(&collector, &subject)?;
    ensure!(subject.process.runs(), "it has ended: {}", subject.said());
    let usage = subject.process.usage()?;
    let ledger = subject.ledger()?;
    let (arrived, tap_dropped) = lab.arrived()?;
    let said = subject.said();
    let Subject {
        process, folder, ..
    } = subject;
    process.terminate(START_MAX).with_context(|| said)?;
    let (tally, latencies) = collector.take();
    if let Some(complaint) = collector.complaints().first() {
        eprintln!("broken bundle: {complaint}");
    }
    // Left behind only if something went wrong before this line.
    let _ = fs::remove_dir_all(folder);

    let offered = calls(method.seconds);
    let delivered = tally.lines - tally.duplicates.min(tally.lines);
    let cpu_seconds = usage.cpu_seconds - usage_before.cpu_seconds;
    let change = |of: fn(&Ledger) -> u64| {
        let (now, before) = (ledger.as_ref()?, ledger_before.as_ref()?);
        Some(of(now).saturating_sub(of(before)))
    };
    Ok(Trial {
        program: program.name().to_owned(),
        purpose,
        repetition,
        wire: cell.wire.clone(),
        body_bytes: cell.shape.body_bytes,
        compression: if cell.compression { "on" } else { "off" }.into(),
        rules: cell.rules.clone(),
        connections: cell.shape.connections,
        rate_asked: rate,
        calls_offered: offered,
        seconds: sent.seconds,
        calls_per_second: offered as f64 / sent.seconds,
        frames: sent.frames,
        frames_per_second: sent.frames as f64 / sent.seconds,
        gbit_per_second: sent.bytes as f64 * 8e-9 / sent.seconds,
        calls_delivered: delivered,
        delivered_share: delivered as f64 / offered as f64,
        duplicates: tally.duplicates,
        mismatched: tally.mismatched,
        torn: tally.torn,
        broken_posts: tally.broken,
        cpu_seconds,
        cpu_micros_per_call: cpu_seconds * 1e6 / delivered.max(1) as f64,
        sender_cpu_seconds: sent.cpu_seconds,
        resident_peak_bytes: usage.resident_peak_bytes,
        ring_bytes: ledger.as_ref().map_or(0, |ledger| ledger.ring_bytes),
        latency_p50_millis: latencies.millis(500),
        latency_p99_millis: latencies.millis(990),
        latency_p999_millis: latencies.millis(999),
        drain_seconds,
        line_bytes: tally.line_bytes,
        post_bytes: tally.wire_bytes,
        posts: tally.accepted,
        tap_frames: arrived - arrived_before,
        tap_dropped: tap_dropped - tap_dropped_before,
        ring_dropped: change(|ledger| ledger.ring_dropped),
        calls_seen: change(|ledger| ledger.seen),
        calls_sent: change(|ledger| ledger.sent),
        calls_stopped: change(|ledger| ledger.stopped),
        calls_dropped: change(|ledger| ledger.dropped),
        calls_in_flight: ledger.as_ref().map(|ledger| ledger.in_flight),
        unaccounted: ledger.as_ref().map(|ledger| ledger.unaccounted),
        dropped_reasons: ledger.map_or_else(String::new, |ledger| ledger.reasons),
    })
}

/// Sends `calls` calls into the cable.
fn send(
    lab: &Lab,
    cell: &Cell,
    method: &Method,
    rate: f64,
    first: u64,
    calls: u64,
) -> Result<Poured> {
    let mut load = Load::new(cell.shape.clone(), first, calls);
    let per_call =
        load.frames_per_call() as f64 + 6.0 / cell.shape.calls_per_connection.max(1) as f64;
    lab.source.inside(|| {
        if let Some(cpu) = method.sender_cpu {
            pin(cpu)?;
        }
        let sender = PacketSender::open(SOURCE)?;
        let frames_rate = (rate > 0.0).then_some(rate * per_call);
        pour(&sender, frames_rate, |out| load.next_frame(out))
    })
}

/// Waits for the last POST, and returns how long after the call it came.
fn drain(collector: &Collector, subject: &Subject<'_>) -> Result<f64> {
    let start = Instant::now();
    let mut posts = collector.tally().posts;
    let mut changed = start;
    while start.elapsed() < DRAIN_MAX {
        thread::sleep(Duration::from_millis(50));
        let now = collector.tally().posts;
        if now != posts {
            (posts, changed) = (now, Instant::now());
        }
        if changed.elapsed() > QUIET && subject.ledger()?.is_none_or(|ledger| ledger.in_flight == 0)
        {
            break;
        }
    }
    Ok(changed.duration_since(start).as_secs_f64())
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

/// `plain` or `vxlan`.
pub fn wire(name: &str) -> Result<Wire> {
    match name {
        "plain" => Ok(Wire::default()),
        "vxlan" => Ok(load::mirrored(123)),
        _ => bail!("{name} is no wire: plain or vxlan"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_rule_sets_parse() {
        for name in ["debug", "standard", "strict", "realistic"] {
            for compression in [true, false] {
                let text = rules(name, compression).unwrap();
                let set = engine_core::rules::RuleSet::parse(&text)
                    .unwrap_or_else(|error| panic!("{name}: {error:?}"));
                assert_eq!(set.skip_compression(), !compression, "{name}");
                assert!(set.allow_http_url(), "{name}");
            }
        }
    }

    #[test]
    fn the_realistic_set_has_fifty_rules() {
        let text = rules("realistic", true).unwrap();
        let rules = text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        assert_eq!(rules.count(), 50);
    }
}
