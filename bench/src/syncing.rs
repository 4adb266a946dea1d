//! `bench syncing`: when to bring a spool's files to the disk itself, compared by what that costs while bundles are written.
//!
//! Bundles of one size are appended to pairs of files as the spool does (`docs/spool.md`): a record to the index, a stream to the
//! members, the next pair after 8 MiB, the oldest removed past a bound. Each policy differs only in its system calls. Policies
//! alternate within each round and are compared with the first one in it, so that other load on the machine affects all.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use nix::time::{ClockId, clock_gettime};

/// Bytes of a pair of files after which the next one begins.
const SEGMENT_BYTES: u64 = 8 << 20;

/// Octets of the record of a bundle, and of each of its calls.
const RECORD_BYTES: usize = 80;
const ENTRY_BYTES: usize = 48;

/// Options of `bench syncing`.
#[derive(Args)]
pub struct Options {
    /// Folder on the disk to measure; a folder in it is made and removed
    #[arg(long)]
    folder: PathBuf,
    /// Megabytes of bundles a second; 0 is as fast as possible
    #[arg(long, value_delimiter = ',', default_value = "100,200")]
    rate: Vec<f64>,
    /// Kilobytes of a bundle as it is written
    #[arg(long, default_value_t = 128)]
    bundle: usize,
    /// Calls of a bundle
    #[arg(long, default_value_t = 250)]
    calls: usize,
    /// Seconds of each policy in a round
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Rounds
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Megabytes that are kept; past them the oldest files are removed
    #[arg(long, default_value_t = 1024)]
    keep: u64,
}

/// When files are brought to the disk.
#[derive(Clone, Copy, Debug)]
enum Policy {
    /// When the kernel does it.
    Never,
    /// What is older than this, with fdatasync(2); each bundle where it is zero.
    After(Duration),
    /// Each write, by O_DSYNC.
    Always,
}

const POLICIES: [(&str, Policy); 5] = [
    ("never", Policy::Never),
    ("after 1 s", Policy::After(Duration::from_secs(1))),
    ("after 100 ms", Policy::After(Duration::from_millis(100))),
    ("each bundle", Policy::After(Duration::ZERO)),
    ("O_DSYNC", Policy::Always),
];

/// What one policy took.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    bytes: u64,
    seconds: f64,
    cpu_seconds: f64,
    syncs: u64,
    /// The longest time for which no bundle could be written.
    longest: Duration,
}

impl Cost {
    fn megabytes_per_second(&self) -> f64 {
        self.bytes as f64 * 1e-6 / self.seconds
    }

    fn cpu_seconds_per_gigabyte(&self) -> f64 {
        self.cpu_seconds / (self.bytes as f64 * 1e-9)
    }
}

/// Measures, and prints a table for each rate.
pub fn run(options: &Options) -> Result<()> {
    ensure!(options.rounds > 0 && options.bundle > 0, "nothing to write");
    let bundle = incompressible(options.bundle << 10);
    let record = vec![7; RECORD_BYTES + options.calls * ENTRY_BYTES];
    for rate in &options.rate {
        let mut costs = vec![Vec::new(); POLICIES.len()];
        for _ in 0..options.rounds {
            for ((_, policy), costs) in POLICIES.iter().zip(&mut costs) {
                let folder = options.folder.join("bench-syncing");
                fs::create_dir_all(&folder)?;
                let cost = measure(&folder, *policy, options, *rate, &bundle, &record);
                fs::remove_dir_all(&folder)?;
                // What the kernel still writes of it would be the next one's cost.
                Command::new("sync").status()?;
                costs.push(cost.context("cannot write")?);
            }
        }
        print(*rate, &costs);
    }
    Ok(())
}

fn print(rate: f64, costs: &[Vec<Cost>]) {
    println!("{rate} MB/s wanted");
    println!(
        "| policy | MB/s | CPU s per GB | as a multiple of never | syncs a second | longest stop |"
    );
    println!("| --- | --- | --- | --- | --- | --- |");
    let base: Vec<f64> = costs[0]
        .iter()
        .map(Cost::cpu_seconds_per_gigabyte)
        .collect();
    for ((name, _), costs) in POLICIES.iter().zip(costs) {
        let ratios = costs.iter().zip(&base);
        let ratios = ratios.map(|(cost, base)| cost.cpu_seconds_per_gigabyte() / base);
        let longest = costs.iter().map(|cost| cost.longest).max();
        println!(
            "| {name} | {:.0} | {:.2} | {:.2} | {:.1} | {} ms |",
            median(costs.iter().map(Cost::megabytes_per_second)),
            median(costs.iter().map(Cost::cpu_seconds_per_gigabyte)),
            median(ratios),
            median(costs.iter().map(|cost| cost.syncs as f64 / cost.seconds)),
            longest.unwrap_or_default().as_millis()
        );
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// xorshift64: what a file system that compresses cannot make smaller.
fn incompressible(length: usize) -> Vec<u8> {
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// A pair of files.
struct Pair {
    index: File,
    members: File,
    bytes: u64,
}

impl Pair {
    fn open(folder: &Path, number: u64, policy: Policy) -> io::Result<Self> {
        let open = |name: String| {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(true);
            if matches!(policy, Policy::Always) {
                options.custom_flags(libc::O_DSYNC);
            }
            options.open(folder.join(name))
        };
        Ok(Self {
            index: open(format!("{number}.index"))?,
            members: open(format!("{number}.zz"))?,
            bytes: 0,
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.members.sync_data()?;
        self.index.sync_data()
    }
}

fn measure(
    folder: &Path,
    policy: Policy,
    options: &Options,
    rate: f64,
    bundle: &[u8],
    record: &[u8],
) -> Result<Cost> {
    let mut cost = Cost::default();
    let (mut number, mut kept) = (0, VecDeque::new());
    let mut pair = Pair::open(folder, number, policy)?;
    let mut index_bytes = 0;
    let mut dirty_since: Option<Instant> = None;
    let (begun, cpu) = (Instant::now(), cpu_seconds()?);
    while begun.elapsed().as_secs_f64() < options.seconds {
        let ahead = if rate > 0.0 {
            cost.bytes as f64 * 1e-6 / rate - begun.elapsed().as_secs_f64()
        } else {
            0.0
        };
        if ahead > 0.0 {
            thread::sleep(Duration::from_secs_f64(ahead));
        }
        let stopped = Instant::now();
        if pair.bytes >= SEGMENT_BYTES {
            if let Policy::After(_) = policy {
                pair.sync()?;
                cost.syncs += 1;
                dirty_since = None;
            }
            kept.push_back(number);
            while kept.len() as u64 * SEGMENT_BYTES > options.keep << 20 {
                let oldest = kept.pop_front().unwrap_or_default();
                fs::remove_file(folder.join(format!("{oldest}.index")))?;
                fs::remove_file(folder.join(format!("{oldest}.zz")))?;
            }
            number += 1;
            index_bytes = 0;
            pair = Pair::open(folder, number, policy)?;
        }
        pair.index.write_all_at(record, index_bytes)?;
        pair.members.write_all_at(bundle, pair.bytes)?;
        index_bytes += record.len() as u64;
        pair.bytes += bundle.len() as u64;
        cost.bytes += (bundle.len() + record.len()) as u64;
        let since = *dirty_since.get_or_insert(stopped);
        let is_due = match policy {
            Policy::Never | Policy::Always => false,
            Policy::After(age) => since.elapsed() >= age,
        };
        if is_due {
            pair.sync()?;
            cost.syncs += 1;
            dirty_since = None;
        }
        cost.longest = cost.longest.max(stopped.elapsed());
    }
    cost.seconds = begun.elapsed().as_secs_f64();
    cost.cpu_seconds = cpu_seconds()? - cpu;
    Ok(cost)
}

/// Time of this thread, in user and kernel.
fn cpu_seconds() -> Result<f64> {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
    Ok(time.tv_sec() as f64 + time.tv_nsec() as f64 * 1e-9)
}
