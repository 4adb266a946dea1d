//! CSV rows in, one Markdown page and SVG plots out.
//!
//! The page says what was measured, how far repetitions lay apart, and which targets are met: the verdicts are computed
//! from the rows in `targets`, nobody writes them. A folder holds what belongs together: one commit, one machine.

mod budget;
mod figure;
mod plot;
mod tables;
mod targets;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Result;
use engine_core::limits::MEMORY_BYTES_MAX;

use crate::encoders::Row as Encoded;
use crate::results::{self, Conditions, Limit, Packets, Purpose, Reading, StageTime, Trial};
use crate::tx::Way;

/// Rows of one kind, with their conditions.
type Rows<T> = Vec<(T, Conditions)>;

/// All rows of a folder.
#[derive(Default)]
struct Session {
    trials: Rows<Trial>,
    limits: Rows<Limit>,
    packets: Rows<Packets>,
    readings: Rows<Reading>,
    stages: Rows<StageTime>,
    encoders: Rows<Encoded>,
}

/// Writes `report.md` and `*.svg` into `folder`, from the CSV files there.
pub fn write(folder: &Path) -> Result<()> {
    let session = Session {
        trials: trials(folder)?,
        limits: results::read(folder, "limit")?,
        packets: results::read(folder, "packets")?,
        readings: results::read(folder, "read")?,
        stages: results::read(folder, "stages")?,
        encoders: results::read(folder, "encoders")?,
    };
    let mut page = String::from("# What was measured\n\n");
    session.conditions(&mut page)?;
    targets::write(&mut page, &session)?;
    tables::write(&mut page, &session)?;
    budget::write(&mut page, &session)?;
    instructions(&mut page, folder)?;
    figure::write(&mut page, folder, &session)?;
    session.commands(&mut page)?;
    fs::write(folder.join("report.md"), page)?;
    Ok(())
}

fn trials(folder: &Path) -> Result<Rows<Trial>> {
    let mut trials: Rows<Trial> = results::read(folder, "run")?;
    for (trial, conditions) in &mut trials {
        // The oldest files do not tell these apart: what was searched and what was given are no repetitions of each other.
        if trial.purpose == Purpose::Rate && conditions.command.contains(" --rate ") {
            trial.purpose = Purpose::Given;
        }
    }
    Ok(trials)
}

impl Session {
    fn all_conditions(&self) -> impl Iterator<Item = &Conditions> {
        fn of<T>(rows: &Rows<T>) -> impl Iterator<Item = &Conditions> {
            rows.iter().map(|(_, conditions)| conditions)
        }
        (of(&self.limits)
            .chain(of(&self.trials))
            .chain(of(&self.packets)))
        .chain(of(&self.readings))
        .chain(of(&self.stages))
        .chain(of(&self.encoders))
    }

    fn conditions(&self, page: &mut String) -> Result<()> {
        let mut seen: BTreeMap<(&str, &str, &str), Vec<f64>> = BTreeMap::new();
        for c in self.all_conditions() {
            let key = (c.machine.as_str(), c.kernel.as_str(), c.commit.as_str());
            seen.entry(key).or_default().push(c.load);
        }
        let head = [
            "machine",
            "kernel",
            "commit",
            "rows",
            "load average before a row",
        ];
        table(page, &head)?;
        for ((machine, kernel, commit), loads) in seen {
            let rows = loads.len();
            let load = Spread::of(loads).text(1);
            writeln!(
                page,
                "| {machine} | {kernel} | {commit} | {rows} | {load} |"
            )?;
        }
        writeln!(
            page,
            "\nMedians; in brackets the lowest and the highest of the repetitions. Trials leave a load of about 1 to 2 \
             behind them; more was somebody else's.{}\n",
            self.checking()
        )?;
        Ok(())
    }

    /// When the collector looked at what it got.
    fn checking(&self) -> String {
        let known = self.trials.iter().filter_map(|(trial, _)| {
            let after = trial.posts_checked_after?;
            Some((trial.posts, after))
        });
        let (posts, after) = known.fold((0, 0), |(posts, after), (all, kept)| {
            (posts + all, after + kept)
        });
        match posts.saturating_sub(after) {
            _ if posts == 0 => String::new(),
            0 => format!(
                " The collector answered at once, kept all {posts} POSTs as they came, and checked every line of them after \
                 the traffic of its trial."
            ),
            early => format!(
                " The collector checked {early} of {posts} POSTs as they came, on the sniffer's CPU, the others after the \
                 traffic of their trial."
            ),
        }
    }

    fn commands(&self, page: &mut String) -> Result<()> {
        let mut commands: Vec<&str> = Vec::new();
        for conditions in self.all_conditions() {
            if !commands.contains(&conditions.command.as_str()) {
                commands.push(&conditions.command);
            }
        }
        writeln!(page, "## Commands\n\n```")?;
        for command in commands {
            writeln!(page, "{command}")?;
        }
        writeln!(page, "```")?;
        Ok(())
    }

    /// Trials by cell, those of one purpose.
    fn cells(&self, purpose: Purpose) -> BTreeMap<Cell, Vec<&Trial>> {
        let mut cells: BTreeMap<Cell, Vec<&Trial>> = BTreeMap::new();
        for (trial, _) in self.trials.iter().filter(|(row, _)| row.purpose == purpose) {
            cells.entry(Cell::of(trial)).or_default().push(trial);
        }
        cells
    }

    /// Trials at rates that were given, by cell and rate in calls a second.
    fn given(&self) -> BTreeMap<(Cell, u64), Vec<&Trial>> {
        let mut cells: BTreeMap<_, Vec<&Trial>> = BTreeMap::new();
        for (trial, _) in &self.trials {
            if trial.purpose == Purpose::Given {
                let key = (Cell::of(trial), trial.rate_asked.round() as u64);
                cells.entry(key).or_default().push(trial);
            }
        }
        cells
    }

    /// Calls a second of the bare ring, flat out.
    fn bare_ring(&self, wire: &str, body_bytes: usize, sender: Way) -> Option<Spread> {
        let rows = self.limits.iter().map(|(limit, _)| limit);
        let rows = rows.filter(|limit| {
            limit.wire == wire
                && limit.body_bytes == body_bytes
                && limit.sender == sender
                && limit.touch == "headers"
                && limit.rate_asked == 0.0
                && limit.calls_offered > 0
        });
        let rates: Vec<f64> = rows
            .map(|limit| limit.calls_per_second * limit.received as f64 / limit.frames as f64)
            .collect();
        (!rates.is_empty()).then(|| Spread::of(rates))
    }
}

/// What the rows of one cell have in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Cell {
    wire: String,
    body_bytes: usize,
    /// `off` before `on` would come first by name; `true` is compressed.
    is_compressed: bool,
    rules: String,
    traffic: String,
    sender: &'static str,
    shards: u64,
    /// 0 if that is not known.
    memory_limit_bytes: u64,
    program: String,
}

impl Cell {
    fn of(trial: &Trial) -> Self {
        Self {
            wire: trial.wire.clone(),
            body_bytes: trial.body_bytes,
            is_compressed: trial.compression == "on",
            rules: trial.rules.clone(),
            traffic: trial.traffic.clone(),
            sender: trial.sender.name(),
            shards: trial.shards.unwrap_or(1),
            memory_limit_bytes: trial.memory_limit_bytes,
            program: trial.program.clone(),
        }
    }

    /// The traffic and settings that the targets speak of: everything is logged, one shard, few connections.
    fn is_plain_matrix(&self) -> bool {
        self.rules == "debug" && self.is_ordinary()
    }

    /// `plain 200 B compressed`.
    fn name(&self) -> String {
        let how = if self.is_compressed {
            "compressed"
        } else {
            "uncompressed"
        };
        format!("{} {} B {how}", self.wire, self.body_bytes)
    }

    /// More memory than any machine gives a sniffer that is not told otherwise.
    fn has_much_memory(&self) -> bool {
        self.memory_limit_bytes > MEMORY_BYTES_MAX as u64
    }

    /// As they were measured elsewhere: one shard, few connections, `sendmmsg`.
    fn is_ordinary(&self) -> bool {
        self.traffic == "steady"
            && self.sender == Way::Messages.name()
            && self.shards == 1
            && !self.has_much_memory()
            && self.program == "sniffer"
    }

    /// Columns of a table.
    fn columns(&self) -> String {
        let compressed = if self.is_compressed { "on" } else { "off" };
        let mut traffic = self.traffic.clone();
        if self.sender != Way::Messages.name() {
            traffic.push_str(&format!(", {}", self.sender));
        }
        if self.shards != 1 {
            traffic.push_str(&format!(", {} shards", self.shards));
        }
        if self.has_much_memory() {
            traffic.push_str(&format!(", limit {} MB", self.memory_limit_bytes >> 20));
        }
        format!(
            "{} | {} | {compressed} | {} | {traffic} | {}",
            self.wire, self.body_bytes, self.rules, self.program
        )
    }
}

/// Names of [`Cell::columns`].
const CELL: [&str; 6] = ["wire", "body", "compressed", "rules", "traffic", "program"];

/// What `bench/instructions` wrote into the folder, as it is.
fn instructions(page: &mut String, folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("instructions") && name.ends_with(".txt") {
            let text = fs::read_to_string(entry.path())?;
            writeln!(
                page,
                "## Instructions by stage\n\n```\n{}\n```\n",
                text.trim_end()
            )?;
        }
    }
    Ok(())
}

/// Head of a table.
fn table(page: &mut String, names: &[&str]) -> Result<()> {
    writeln!(page, "| {} |", names.join(" | "))?;
    writeln!(page, "|{}", " --- |".repeat(names.len()))?;
    Ok(())
}

/// Median and ends of some numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The middle one, or the mean of the two in the middle.
    pub median: f64,
    /// The lowest.
    pub low: f64,
    /// The highest.
    pub high: f64,
}

impl Spread {
    /// All zero without numbers.
    pub fn of(numbers: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = numbers.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (Some(&low), Some(&high)) = (sorted.first(), sorted.last()) else {
            return Self {
                median: 0.0,
                low: 0.0,
                high: 0.0,
            };
        };
        let median = f64::midpoint(sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
        Self { median, low, high }
    }

    /// `median (low–high)`, or one number if they are all the same.
    pub fn text(self, digits: usize) -> String {
        let number = |value: f64| format!("{value:.digits$}");
        let [median, low, high] = [self.median, self.low, self.high].map(number);
        if low == high {
            median
        } else {
            format!("{median} ({low}–{high})")
        }
    }
}

/// Whether more than half of the repetitions lost nothing and gave nothing up.
fn is_lossless(rows: &[&Trial]) -> bool {
    2 * lossless(rows) > rows.len()
}

fn lossless(rows: &[&Trial]) -> usize {
    rows.iter().filter(|row| row.is_lossless(LOSSLESS)).count()
}

/// Share that other programs must deliver.
const LOSSLESS: f64 = 0.999;

/// The median of one quantity over some rows.
fn median(rows: &[&Trial], value: impl Fn(&Trial) -> f64) -> f64 {
    Spread::of(rows.iter().map(|row| value(row))).median
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        let odd = Spread::of([3.0, 1.0, 2.0]);
        assert_eq!((odd.median, odd.low, odd.high), (2.0, 1.0, 3.0));
        assert_eq!(Spread::of([4.0, 1.0]).median, 2.5);
        assert_eq!(Spread::of([4.0, 1.0]).text(1), "2.5 (1.0–4.0)");
        assert_eq!(Spread::of([7.0, 7.0]).text(0), "7");
        assert_eq!(Spread::of([]).median, 0.0);
    }
}
