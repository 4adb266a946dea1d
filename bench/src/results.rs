//! Results: measurements as rows of CSV files, one file for each run. Each row includes machine, kernel, commit and
//! command, so that it can be understood by itself.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::tx::SenderKind;

/// The conditions of a measurement.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Conditions {
    /// Seconds since the epoch.
    pub measured: u64,
    /// CPU model and number of CPUs.
    pub machine: String,
    /// Kernel release.
    pub kernel: String,
    /// Commit of the repository, with `+` if files differed from it.
    pub commit: String,
    /// Command line of the bench.
    pub command: String,
    /// One-minute load average before the measurement; more than a few tenths means that other programs ran.
    pub load: f64,
}

impl Conditions {
    /// The present conditions.
    pub fn now() -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpuinfo
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let cpus = std::thread::available_parallelism().map_or(0, usize::from);
        let model = model.map_or("unknown CPU", |(_, name)| name);
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let first = load.split(' ').next().and_then(|word| word.parse().ok());
        Self {
            measured: seconds_since_epoch(),
            machine: format!("{model}, {cpus} CPUs"),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")
                .unwrap_or_default()
                .trim()
                .to_owned(),
            commit: commit(),
            command: command(std::env::args()),
            load: first.unwrap_or(0.0),
        }
    }
}

/// The command line without what is specific to a machine: the folder of the program, and that of the results.
fn command(words: impl IntoIterator<Item = String>) -> String {
    let mut words = words.into_iter();
    let program = words.next().unwrap_or_default();
    let program = Path::new(&program).file_name().unwrap_or_default();
    let mut command = program.to_string_lossy().into_owned();
    while let Some(word) = words.next() {
        if word == "--results" {
            words.next();
        } else {
            command.push(' ');
            command.push_str(&word);
        }
    }
    command
}

/// Seconds since the epoch.
pub fn seconds_since_epoch() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        output.status.success().then_some(text)
    };
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else {
        return "unknown".into();
    };
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]).unwrap_or_default();
    format!("{commit}{}", if changed.is_empty() { "" } else { "+" })
}

/// The purpose of a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// A step of a search.
    Probe,
    /// A repetition at the rate that a search found. In the oldest files also a repetition at a given rate.
    Rate,
    /// A repetition at a given rate.
    Given,
    /// A repetition at a multiple of the rate that a search found.
    Overload,
}

/// One trial of a program.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each column is explained in bench/README.md")]
pub struct Trial {
    pub program: String,
    pub purpose: Purpose,
    pub repetition: u32,
    /// The oldest files lack the columns that have a default.
    #[serde(default = "steady")]
    pub traffic: String,
    #[serde(default)]
    pub sender: SenderKind,
    pub wire: String,
    pub body_bytes: usize,
    pub compression: String,
    pub rules: String,
    pub connections: usize,
    #[serde(default)]
    pub calls_per_connection: u64,
    pub rate_asked: f64,
    pub calls_offered: u64,
    pub seconds: f64,
    pub calls_per_second: f64,
    pub frames: u64,
    pub frames_per_second: f64,
    pub gbit_per_second: f64,
    pub calls_delivered: u64,
    pub delivered_share: f64,
    pub duplicates: u64,
    pub mismatched: u64,
    pub torn: u64,
    #[serde(default)]
    pub truncated: u64,
    pub broken_posts: u64,
    pub cpu_seconds: f64,
    pub cpu_micros_per_call: f64,
    #[serde(default)]
    pub user_seconds: f64,
    #[serde(default)]
    pub shard_cpu_seconds: Option<f64>,
    #[serde(default)]
    pub uploader_cpu_seconds: Option<f64>,
    #[serde(default)]
    pub collector_cpu_seconds: f64,
    pub sender_cpu_seconds: f64,
    pub resident_peak_bytes: u64,
    pub ring_bytes: u64,
    #[serde(default)]
    pub memory_limit_bytes: u64,
    pub latency_p50_millis: Option<f64>,
    pub latency_p99_millis: Option<f64>,
    pub latency_p999_millis: Option<f64>,
    pub drain_seconds: f64,
    pub line_bytes: u64,
    pub post_bytes: u64,
    pub posts: u64,
    #[serde(default)]
    pub posts_plain: u64,
    #[serde(default)]
    pub posts_checked_after: Option<u64>,
    pub tap_frames: Option<u64>,
    pub tap_dropped: Option<u64>,
    pub ring_dropped: Option<u64>,
    pub calls_seen: Option<u64>,
    pub calls_sent: Option<u64>,
    pub calls_stopped: Option<u64>,
    pub calls_dropped: Option<u64>,
    #[serde(default)]
    pub bodies_truncated: Option<u64>,
    #[serde(default)]
    pub bundles_plain: Option<u64>,
    #[serde(default)]
    pub calls_shed: Option<u64>,
    pub calls_in_flight: Option<u64>,
    pub unaccounted: Option<i64>,
    pub dropped_reasons: String,
    #[serde(default)]
    pub halves: Option<u64>,
    #[serde(default)]
    pub shards: Option<u64>,
    #[serde(default)]
    pub steering: String,
}

fn steady() -> String {
    "steady".into()
}

impl Trial {
    /// Peak of memory without the rings.
    pub fn memory_without_ring(&self) -> u64 {
        self.resident_peak_bytes.saturating_sub(self.ring_bytes)
    }

    /// Calls that must not be: twice, mispaired, torn, or in a broken POST. Truncated bodies are counted apart.
    pub fn wrong(&self) -> u64 {
        self.duplicates + self.mismatched + self.torn + self.broken_posts
    }

    /// Whether this share was delivered, and nothing wrong. Of programs that account for their calls more is required:
    /// every call and every frame, no body truncated, no bundle plain that should have been compressed.
    pub fn is_lossless(&self, share: f64) -> bool {
        let is_zero = |count: Option<u64>| count.is_none_or(|count| count == 0);
        let has_ledger = self.calls_seen.is_some();
        let is_whole = is_zero(self.ring_dropped)
            && is_zero(self.calls_dropped)
            && is_zero(self.calls_shed)
            && is_zero(self.bodies_truncated)
            && is_zero(self.bundles_plain)
            && (self.compression == "off" || self.posts_plain == 0)
            && self.calls_delivered >= self.calls_offered;
        self.wrong() == 0 && self.delivered_share >= share && (is_whole || !has_ledger)
    }
}

/// Traffic without calls into a sniffer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each column is explained in bench/README.md")]
pub struct Packets {
    pub purpose: Purpose,
    pub repetition: u32,
    pub sender: SenderKind,
    pub wire: String,
    pub body_bytes: usize,
    pub frames_asked: f64,
    pub frames: u64,
    pub seconds: f64,
    pub frames_per_second: f64,
    pub gbit_per_second: f64,
    pub received: u64,
    pub dropped: u64,
    pub cpu_nanos_per_frame: f64,
    pub user_nanos_per_frame: f64,
    pub sender_nanos_per_frame: f64,
    pub memory_beside_ring_bytes: u64,
}

/// One program over a capture file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each column is explained in bench/README.md")]
pub struct Reading {
    pub program: String,
    pub version: String,
    pub repetition: u32,
    pub body_bytes: usize,
    pub calls: u64,
    pub file_bytes: u64,
    pub found: u64,
    pub cpu_seconds: f64,
    pub wall_seconds: f64,
    pub cpu_micros_per_call: f64,
    pub resident_peak_bytes: u64,
}

/// The engine cut off behind a stage, over frames in memory.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each column is explained in bench/README.md")]
pub struct StageTime {
    pub wire: String,
    pub body_bytes: usize,
    pub stage: String,
    pub calls: u64,
    pub frames: u64,
    pub nanos_per_frame: f64,
    pub nanos_per_call: f64,
}

/// One run of the bare receiver.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each column is explained in bench/README.md")]
pub struct Limit {
    pub repetition: u32,
    #[serde(default)]
    pub sender: SenderKind,
    pub wire: String,
    pub body_bytes: usize,
    pub touch: String,
    pub rate_asked: f64,
    pub seconds: f64,
    pub calls_offered: u64,
    pub calls_per_second: f64,
    pub frames: u64,
    pub frames_per_second: f64,
    pub gbit_per_second: f64,
    pub received: u64,
    pub dropped: u64,
    pub receiver_nanos_per_frame: f64,
    pub sender_nanos_per_frame: f64,
}

/// A CSV file that grows: rows are on disk as soon as they are there.
pub struct Results {
    writer: csv::Writer<File>,
    path: PathBuf,
}

impl Results {
    /// A new file `KIND-SECONDS.csv` in `folder`.
    pub fn create(folder: &Path, kind: &str) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let name = |seconds| folder.join(format!("{kind}-{seconds}.csv"));
        let open = |path: &Path| {
            let mut options = OpenOptions::new();
            options.create_new(true).write(true).open(path)
        };
        let mut seconds = seconds_since_epoch();
        // Two short measurements may begin in one second.
        while name(seconds).exists() {
            seconds += 1;
        }
        let path = name(seconds);
        let file = open(&path).with_context(|| path.display().to_string())?;
        Ok(Self {
            writer: csv::WriterBuilder::new()
                .has_headers(false)
                .from_writer(file),
            path,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends a row; the first brings the names of the columns.
    pub fn append<T: Serialize>(&mut self, conditions: &Conditions, row: &T) -> Result<()> {
        let row = columns(row)?;
        let conditions = columns(conditions)?;
        let all = row.into_iter().chain(conditions);
        let (names, values): (Vec<_>, Vec<_>) = all.unzip();
        if self.writer.get_ref().metadata()?.len() == 0 {
            self.writer.write_record(&names)?;
        }
        self.writer.write_record(&values)?;
        Ok(self.writer.flush()?)
    }
}

/// Names and values of a flat structure, in its order.
fn columns<T: Serialize>(row: &T) -> Result<Vec<(String, String)>> {
    let mut text = csv::Writer::from_writer(Vec::new());
    text.serialize(row)?;
    let text = text.into_inner().context("writing to memory cannot fail")?;
    let mut reader = csv::Reader::from_reader(text.as_slice());
    let names = reader.headers()?.clone();
    let values = reader.records().next().context("a row was written")??;
    let pairs = names.iter().zip(values.iter());
    Ok(pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect())
}

/// All rows of the files `KIND-*.csv` in `folder`, with their conditions, in the order of the files' names.
pub fn read<T: DeserializeOwned>(folder: &Path, kind: &str) -> Result<Vec<(T, Conditions)>> {
    let mut paths: Vec<_> = fs::read_dir(folder)
        .with_context(|| folder.display().to_string())?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| name.starts_with(&format!("{kind}-")) && name.ends_with(".csv"))
        })
        .collect();
    paths.sort();
    let mut rows = Vec::new();
    for path in paths {
        let mut reader =
            csv::Reader::from_path(&path).with_context(|| path.display().to_string())?;
        let names = reader.headers()?.clone();
        for record in reader.records() {
            let record = record?;
            let row = record.deserialize(Some(&names));
            let conditions = record.deserialize(Some(&names));
            rows.push((
                row.with_context(|| path.display().to_string())?,
                conditions?,
            ));
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_has_no_places() {
        let words = "/a/b/bench run --results /c/d --rate 5 -- --shards 2";
        assert_eq!(
            command(words.split(' ').map(ToOwned::to_owned)),
            "bench run --rate 5 -- --shards 2"
        );
    }

    #[test]
    fn whatever_is_given_up_is_a_loss() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("results/2026-11-23-bf182f5");
        let rows: Vec<(Trial, Conditions)> = read(&folder, "run").unwrap();
        let whole = (rows.into_iter().map(|(trial, _)| trial))
            .find(|trial| trial.is_lossless(0.999) && trial.compression == "on");
        let whole = whole.unwrap();
        let check = |spoil: fn(&mut Trial), expected: bool| {
            let mut trial = whole.clone();
            spoil(&mut trial);
            assert_eq!(trial.is_lossless(0.999), expected, "{trial:?}");
        };
        check(|trial| trial.bodies_truncated = Some(1), false);
        check(|trial| trial.bundles_plain = Some(1), false);
        check(|trial| trial.posts_plain = 1, false);
        check(|trial| trial.calls_shed = Some(1), false);
        check(|trial| trial.calls_dropped = Some(1), false);
        check(|trial| trial.ring_dropped = Some(1), false);
        check(|trial| trial.torn = 1, false);
        check(|trial| trial.calls_delivered -= 1, false);
        // Other programs do not report what became of one call in a thousand.
        check(
            |trial| (trial.calls_seen, trial.calls_delivered) = (None, 1),
            true,
        );
    }

    #[test]
    fn rows_come_back_as_they_were() {
        let folder = std::env::temp_dir().join(format!("bench-results-{}", std::process::id()));
        let limit = Limit {
            repetition: 2,
            sender: SenderKind::Live,
            wire: "vxlan, \"quoted\"".into(),
            body_bytes: 200,
            touch: "headers".into(),
            rate_asked: 0.0,
            seconds: 1.5,
            calls_offered: 3,
            calls_per_second: 2.0,
            frames: 6,
            frames_per_second: 4.0,
            gbit_per_second: 0.5,
            received: 6,
            dropped: 0,
            receiver_nanos_per_frame: 31.5,
            sender_nanos_per_frame: 900.0,
        };
        let mut results = Results::create(&folder, "limit").unwrap();
        for _ in 0..2 {
            results.append(&Conditions::now(), &limit).unwrap();
        }
        let rows: Vec<(Limit, Conditions)> = read(&folder, "limit").unwrap();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[1].0.wire, limit.wire);
        assert_eq!(rows[1].0.receiver_nanos_per_frame, 31.5);
        assert!(rows[0].1.command.contains("bench"));
    }
}
