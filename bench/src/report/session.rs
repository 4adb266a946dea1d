//! The rows of a folder of results, by cell.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::Result;
use engine_core::limits::MEMORY_BYTES_MAX;

use super::statistics::{Spread, table};
use crate::encoders::Row as Encoded;
use crate::results::{Conditions, Limit, Packets, Purpose, Reading, StageTime, Trial};
use crate::tx::SenderKind;

/// Rows of one kind, with their conditions.
pub(super) type Rows<T> = Vec<(T, Conditions)>;

/// All rows of a folder.
#[derive(Default)]
pub(super) struct Session {
    pub(super) trials: Rows<Trial>,
    pub(super) limits: Rows<Limit>,
    pub(super) packets: Rows<Packets>,
    pub(super) readings: Rows<Reading>,
    pub(super) stages: Rows<StageTime>,
    pub(super) encoders: Rows<Encoded>,
}

impl Session {
    pub(super) fn all_conditions(&self) -> impl Iterator<Item = &Conditions> {
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

    pub(super) fn conditions(&self, page: &mut String) -> Result<()> {
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
            "\nMedians, with the lowest and the highest of the repetitions in brackets. Trials themselves cause a load of about \
             1 to 2; a higher one is due to other programs.{}\n",
            self.when_checked()
        )?;
        Ok(())
    }

    /// When the collector checked the POSTs.
    pub(super) fn when_checked(&self) -> String {
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
                " The collector stored all {posts} POSTs, and checked every line of them after the traffic of the trial."
            ),
            early => format!(
                " The collector checked {early} of {posts} POSTs as they arrived, on the sniffer's CPU, the others after the \
                 traffic of the trial."
            ),
        }
    }

    pub(super) fn commands(&self, page: &mut String) -> Result<()> {
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

    /// The trials of one purpose, by cell.
    pub(super) fn cells(&self, purpose: Purpose) -> BTreeMap<Cell, Vec<&Trial>> {
        let mut cells: BTreeMap<Cell, Vec<&Trial>> = BTreeMap::new();
        for (trial, _) in self.trials.iter().filter(|(row, _)| row.purpose == purpose) {
            cells.entry(Cell::of(trial)).or_default().push(trial);
        }
        cells
    }

    /// The trials at given rates, by cell and rate in calls a second.
    pub(super) fn given(&self) -> BTreeMap<(Cell, u64), Vec<&Trial>> {
        let mut cells: BTreeMap<_, Vec<&Trial>> = BTreeMap::new();
        for (trial, _) in &self.trials {
            if trial.purpose == Purpose::Given {
                let key = (Cell::of(trial), trial.rate_asked.round() as u64);
                cells.entry(key).or_default().push(trial);
            }
        }
        cells
    }

    /// Calls a second that the bare ring received when frames were sent as fast as possible.
    pub(super) fn bare_ring(
        &self,
        wire: &str,
        body_bytes: usize,
        sender: SenderKind,
    ) -> Option<Spread> {
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
pub(super) struct Cell {
    pub(super) wire: String,
    pub(super) body_bytes: usize,
    /// Whether bundles are compressed.
    pub(super) is_compressed: bool,
    pub(super) rules: String,
    pub(super) traffic: String,
    pub(super) sender: &'static str,
    pub(super) shards: u64,
    /// 0 if it is not known.
    pub(super) memory_limit_bytes: u64,
    pub(super) program: String,
}

impl Cell {
    pub(super) fn of(trial: &Trial) -> Self {
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

    /// Whether it has the traffic and settings of the targets: all details, one shard, few connections.
    pub(super) fn is_plain_matrix(&self) -> bool {
        self.rules == "debug" && self.is_ordinary()
    }

    /// `plain 200 B compressed`.
    pub(super) fn name(&self) -> String {
        let how = if self.is_compressed {
            "compressed"
        } else {
            "uncompressed"
        };
        format!("{} {} B {how}", self.wire, self.body_bytes)
    }

    /// Whether its memory limit exceeds the default on every machine.
    pub(super) fn has_much_memory(&self) -> bool {
        self.memory_limit_bytes > MEMORY_BYTES_MAX as u64
    }

    /// Whether it compares with the measurements of version 1.x: one shard, few connections, `sendmmsg`.
    pub(super) fn is_ordinary(&self) -> bool {
        self.traffic == "steady"
            && self.sender == SenderKind::Messages.name()
            && self.shards == 1
            && !self.has_much_memory()
            && self.program == "sniffer"
    }

    /// Its columns in a table.
    pub(super) fn columns(&self) -> String {
        let compressed = if self.is_compressed { "on" } else { "off" };
        let mut traffic = self.traffic.clone();
        if self.sender != SenderKind::Messages.name() {
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

/// The names of [`Cell::columns`].
pub(super) const CELL: [&str; 6] = ["wire", "body", "compressed", "rules", "traffic", "program"];
