//! The table of what was measured.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;

use super::options::Options;

/// Processor time that this process has taken.
pub(super) fn cpu() -> Duration {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else {
        return Duration::ZERO;
    };
    let microseconds =
        usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Duration::from_micros(microseconds.unsigned_abs())
}

/// Processor time that the threads with this name have taken; the kernel keeps 15 bytes of a name.
pub(super) fn cpu_of_threads(name: &str) -> Duration {
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else {
        return Duration::ZERO;
    };
    let of_thread = |thread: std::fs::DirEntry| {
        let read = |file: &str| std::fs::read_to_string(thread.path().join(file)).ok();
        let is_meant = read("comm")?.trim_end() == name;
        let nanoseconds = read("schedstat")?.split(' ').next()?.parse().ok()?;
        is_meant.then(|| Duration::from_nanos(nanoseconds))
    };
    threads.flatten().filter_map(of_thread).sum()
}

/// A mark behind a figure that misses what it must be.
pub(super) fn missed(is_missed: bool) -> &'static str {
    if is_missed { " **missed**" } else { "" }
}

/// The table of queries.
pub(super) struct Report<'a> {
    options: &'a Options,
    folder: &'a Path,
    rows: usize,
    missed: usize,
}

impl<'a> Report<'a> {
    /// Begins the table.
    pub(super) fn new(options: &'a Options, folder: &'a Path) -> Self {
        println!(
            "| query | p50 | p95 | must be | processor time | cold | answer |\n| --- | --- | --- | --- | --- | --- | --- |"
        );
        Self {
            options,
            folder,
            rows: 0,
            missed: 0,
        }
    }

    /// A row. The first repetition is apart: before it the pages of the file are given up.
    pub(super) fn row(
        &mut self,
        name: &str,
        most: Duration,
        mut query: impl FnMut() -> Result<String>,
    ) -> Result<()> {
        let only = self.options.only.as_deref().unwrap_or_default();
        if !name.contains(only) {
            return Ok(());
        }
        forget(self.folder)?;
        let start = Instant::now();
        let mut answer = query()?;
        let cold = start.elapsed();
        let mut times = Vec::new();
        let mut budget = Duration::from_secs(20).saturating_sub(cold);
        let before = cpu();
        for _ in 0..self.options.repetitions.max(1) {
            let start = Instant::now();
            answer = query()?;
            times.push(start.elapsed());
            budget = budget.saturating_sub(start.elapsed());
            if budget.is_zero() {
                break;
            }
        }
        let busy = (cpu() - before) / times.len() as u32;
        times.sort_unstable();
        let at = |part: f64| times[((times.len() - 1) as f64 * part).round() as usize];
        let is_missed = at(0.95) > most;
        println!(
            "| {name} | {:.1?} | {:.1?}{} | {most:?} | {busy:.1?} | {cold:.1?} | {answer} |",
            at(0.5),
            at(0.95),
            missed(is_missed)
        );
        self.rows += 1;
        self.missed += usize::from(is_missed);
        Ok(())
    }

    /// Ends the table.
    pub(super) fn end(&self) {
        println!(
            "\n{} of {} queries are within what they must be.",
            self.rows - self.missed,
            self.rows
        );
    }
}

/// Lets the kernel give up what it has of the files in memory.
fn forget(folder: &Path) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let file = File::open(entry?.path())?;
        file.sync_all()?;
        posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
    }
    Ok(())
}
