//! The plots: one file for each encapsulation and body size, with a panel for each quantity. Probes are included.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Result;

use super::plot::{Dash, Figure, Mark, Panel, Scale, Series};
use super::session::{Cell, Session};
use super::targets;
use crate::results::Trial;
use crate::tx::SenderKind;

/// A value of a row, if the row has it.
type Value = fn(&Trial) -> Option<f64>;

/// Title, scale, and the lines of each cell.
type Quantity = (&'static str, Scale, &'static [(Dash, Value)]);

const PANELS: [Quantity; 5] = [
    (
        "calls delivered a second",
        Scale::Linear,
        &[(Dash::Solid, |row| {
            Some(row.calls_delivered as f64 / row.seconds)
        })],
    ),
    (
        "delivered, % of calls",
        Scale::Linear,
        &[(Dash::Solid, |row| Some(row.delivered_share * 100.0))],
    ),
    (
        "CPU, µs per delivered call",
        Scale::Linear,
        &[(Dash::Solid, |row| {
            (row.calls_delivered > 0).then_some(row.cpu_micros_per_call)
        })],
    ),
    (
        "last packet to POST, ms: p50 –, p99 - -, p99.9 · ·",
        Scale::Logarithmic,
        &[
            (Dash::Solid, |row| row.latency_p50_millis),
            (Dash::Dashed, |row| row.latency_p99_millis),
            (Dash::Dotted, |row| row.latency_p999_millis),
        ],
    ),
    (
        "peak memory without the ring, MB",
        Scale::Linear,
        &[(Dash::Solid, |row| {
            Some(row.memory_without_ring() as f64 / 1e6)
        })],
    ),
];

/// Writes the files, and links to them from the page.
pub(super) fn write(page: &mut String, folder: &Path, session: &Session) -> Result<()> {
    let mut groups: BTreeMap<(String, usize), BTreeMap<Cell, Vec<&Trial>>> = BTreeMap::new();
    for (trial, _) in &session.trials {
        let cell = Cell::of(trial);
        let group = groups
            .entry((cell.wire.clone(), cell.body_bytes))
            .or_default();
        group.entry(cell).or_default().push(trial);
    }
    if !groups.is_empty() {
        writeln!(page, "## Plots\n")?;
    }
    for ((wire, body_bytes), cells) in groups {
        let figure = Figure {
            title: format!("{wire}, bodies of {body_bytes} bytes"),
            x: "calls offered a second".into(),
            names: cells.keys().map(name).collect(),
            marks: marks(session, &wire, body_bytes),
            panels: PANELS
                .iter()
                .map(|(title, scale, lines)| Panel {
                    title: (*title).to_owned(),
                    scale: *scale,
                    series: series(&cells, lines),
                })
                .collect(),
        };
        let file = format!("{wire}-{body_bytes}.svg");
        fs::write(folder.join(&file), figure.svg())?;
        writeln!(page, "![{}]({file})\n", figure.title)?;
    }
    Ok(())
}

fn name(cell: &Cell) -> String {
    let mut name = format!("{}, {}", cell.program, cell.rules);
    if !cell.is_compressed {
        name.push_str(", uncompressed");
    }
    if cell.traffic != "steady" {
        name.push_str(&format!(", {}", cell.traffic));
    }
    if cell.sender != SenderKind::Messages.name() {
        name.push_str(&format!(", {}", cell.sender));
    }
    if cell.shards != 1 {
        name.push_str(&format!(", {} shards", cell.shards));
    }
    if cell.has_much_memory() {
        name.push_str(&format!(", limit {} MB", cell.memory_limit_bytes >> 20));
    }
    name
}

/// One colour for each cell.
fn series(cells: &BTreeMap<Cell, Vec<&Trial>>, lines: &[(Dash, Value)]) -> Vec<Series> {
    let mut series = Vec::new();
    for (colour, rows) in cells.values().enumerate() {
        for (dash, value) in lines {
            let points = rows
                .iter()
                .filter_map(|row| Some((row.calls_per_second, value(row)?)));
            series.push(Series {
                colour,
                dash: *dash,
                points: points.collect(),
            });
        }
    }
    series
}

/// Rates that the plot is compared with.
fn marks(session: &Session, wire: &str, body_bytes: usize) -> Vec<Mark> {
    let bare = session.bare_ring(wire, body_bytes, SenderKind::Messages);
    let marks = [
        ("bare ring", bare.map(|rate| rate.median)),
        (
            "network-sniffer 1.x",
            targets::predecessor_rate(wire, body_bytes),
        ),
    ];
    let known = marks.into_iter().filter_map(|(name, x)| {
        Some(Mark {
            name: name.into(),
            x: x?,
        })
    });
    known.collect()
}
