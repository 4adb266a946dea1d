//! CSV rows in, one Markdown page and SVG plots out.
//!
//! The page says what was measured and how far repetitions lay apart; it draws no conclusion.

mod plot;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Result;

use crate::results::{self, Conditions, Limit, Purpose, Trial};
use plot::{Plot, Series};

type Rows<T> = Vec<(T, Conditions)>;

/// Writes `report.md` and `*.svg` into `folder`, from the CSV files there.
pub fn write(folder: &Path) -> Result<()> {
    let trials: Rows<Trial> = results::read(folder, "run")?;
    let limits: Rows<Limit> = results::read(folder, "limit")?;
    let mut page = String::from("# What was measured\n\n");
    conditions(&mut page, &trials, &limits)?;
    rates(&mut page, &trials)?;
    ratios(&mut page, &trials)?;
    overload(&mut page, &trials)?;
    limit_table(&mut page, &limits)?;
    plots(&mut page, folder, &trials)?;
    fs::write(folder.join("report.md"), page)?;
    Ok(())
}

fn conditions(page: &mut String, trials: &Rows<Trial>, limits: &Rows<Limit>) -> Result<()> {
    let all = trials
        .iter()
        .map(|(_, c)| c)
        .chain(limits.iter().map(|(_, c)| c));
    let mut seen: BTreeMap<(String, String, String), (usize, f64)> = BTreeMap::new();
    for c in all {
        let key = (c.machine.clone(), c.kernel.clone(), c.commit.clone());
        let entry = seen.entry(key).or_default();
        entry.0 += 1;
        entry.1 = entry.1.max(c.load);
    }
    writeln!(
        page,
        "| machine | kernel | commit | rows | highest load average before a row |\n| --- | --- | --- | --- | --- |"
    )?;
    for ((machine, kernel, commit), (rows, load)) in seen {
        writeln!(
            page,
            "| {machine} | {kernel} | {commit} | {rows} | {load:.1} |"
        )?;
    }
    writeln!(page)?;
    Ok(())
}

/// Rows of one program in one cell of the matrix.
type Cells<'a> = BTreeMap<(String, usize, String, String, String), Vec<&'a Trial>>;

fn cells(trials: &Rows<Trial>, purpose: Purpose) -> Cells<'_> {
    let mut cells = Cells::new();
    for (trial, _) in trials.iter().filter(|(trial, _)| trial.purpose == purpose) {
        let key = (
            trial.wire.clone(),
            trial.body_bytes,
            trial.compression.clone(),
            trial.rules.clone(),
            trial.program.clone(),
        );
        cells.entry(key).or_default().push(trial);
    }
    cells
}

fn rates(page: &mut String, trials: &Rows<Trial>) -> Result<()> {
    writeln!(
        page,
        "## At the highest lossless rate, or at the rate given\n"
    )?;
    writeln!(
        page,
        "Medians; in brackets the lowest and the highest of the repetitions.\n"
    )?;
    writeln!(
        page,
        "| wire | body | compressed | rules | program | n | calls/s | delivered | CPU µs/call | peak MB, ring apart | p50/p99/p99.9 ms | line → posted B/call | wrong |"
    )?;
    writeln!(
        page,
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    )?;
    for ((wire, body, compression, rules, program), rows) in cells(trials, Purpose::Rate) {
        let of = |value: fn(&Trial) -> f64| Spread::of(rows.iter().map(|row| value(row)));
        let quantile = |value: fn(&Trial) -> Option<f64>| {
            let known: Vec<f64> = rows.iter().filter_map(|row| value(row)).collect();
            if known.is_empty() {
                "–".to_owned()
            } else {
                format!("{:.0}", Spread::of(known).median)
            }
        };
        let wrong: u64 = rows
            .iter()
            .map(|row| row.duplicates + row.mismatched + row.torn + row.broken_posts)
            .sum();
        writeln!(
            page,
            "| {wire} | {body} | {compression} | {rules} | {program} | {} | {} | {} % | {} | {} | {}/{}/{} | {:.0} → {:.0} | {wrong} |",
            rows.len(),
            of(|row| row.calls_per_second).text(0),
            of(|row| row.delivered_share * 100.0).text(3),
            of(|row| row.cpu_micros_per_call).text(2),
            of(|row| row.resident_peak_bytes.saturating_sub(row.ring_bytes) as f64 / 1e6).text(0),
            quantile(|row| row.latency_p50_millis),
            quantile(|row| row.latency_p99_millis),
            quantile(|row| row.latency_p999_millis),
            of(|row| row.line_bytes as f64 / row.calls_delivered.max(1) as f64).median,
            of(|row| row.post_bytes as f64 / row.calls_delivered.max(1) as f64).median,
        )?;
    }
    writeln!(page)?;
    Ok(())
}

/// Other programs against ours, cell by cell.
fn ratios(page: &mut String, trials: &Rows<Trial>) -> Result<()> {
    let cells = cells(trials, Purpose::Rate);
    let others: Vec<_> = cells.keys().filter(|key| key.4 != "sniffer").collect();
    if others.is_empty() {
        return Ok(());
    }
    writeln!(page, "## Others against `sniffer`\n")?;
    writeln!(
        page,
        "| wire | body | compressed | rules | program | its CPU/call ÷ ours | our calls/s ÷ its |"
    )?;
    writeln!(page, "| --- | --- | --- | --- | --- | --- | --- |")?;
    for key in others {
        let (wire, body, compression, rules, program) = key;
        let mut ours = key.clone();
        ours.4 = "sniffer".into();
        let (Some(ours), Some(theirs)) = (cells.get(&ours), cells.get(key)) else {
            continue;
        };
        let median = |rows: &[&Trial], value: fn(&Trial) -> f64| {
            Spread::of(rows.iter().map(|row| value(row))).median
        };
        let cpu = median(theirs, |row| row.cpu_micros_per_call)
            / median(ours, |row| row.cpu_micros_per_call);
        let rate =
            median(ours, |row| row.calls_per_second) / median(theirs, |row| row.calls_per_second);
        writeln!(
            page,
            "| {wire} | {body} | {compression} | {rules} | {program} | {cpu:.1} | {rate:.1} |"
        )?;
    }
    writeln!(page)?;
    Ok(())
}

fn overload(page: &mut String, trials: &Rows<Trial>) -> Result<()> {
    let cells = cells(trials, Purpose::Overload);
    if cells.is_empty() {
        return Ok(());
    }
    writeln!(page, "## Beyond it\n")?;
    writeln!(
        page,
        "`explained` are the calls that the program itself counts as seen or dropped; frames lost in the ring stand apart.\n"
    )?;
    writeln!(
        page,
        "| wire | body | compressed | rules | program | offered/s | delivered/s | delivered | dropped, counted | ring dropped frames | unaccounted |"
    )?;
    writeln!(
        page,
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    )?;
    for ((wire, body, compression, rules, program), mut rows) in cells {
        rows.sort_by(|a, b| a.calls_per_second.total_cmp(&b.calls_per_second));
        for row in rows {
            let known =
                |count: Option<u64>| count.map_or("–".to_owned(), |count| count.to_string());
            writeln!(
                page,
                "| {wire} | {body} | {compression} | {rules} | {program} | {:.0} | {:.0} | {:.2} % | {} | {} | {} |",
                row.calls_per_second,
                row.calls_delivered as f64 / row.seconds,
                row.delivered_share * 100.0,
                known(row.calls_dropped),
                known(row.ring_dropped),
                row.unaccounted
                    .map_or("–".to_owned(), |count| count.to_string()),
            )?;
        }
    }
    writeln!(page)?;
    Ok(())
}

fn limit_table(page: &mut String, limits: &Rows<Limit>) -> Result<()> {
    if limits.is_empty() {
        return Ok(());
    }
    let mut cells: BTreeMap<(String, usize, String, u64), Vec<&Limit>> = BTreeMap::new();
    for (limit, _) in limits {
        let key = (
            limit.wire.clone(),
            limit.body_bytes,
            limit.touch.clone(),
            limit.rate_asked as u64,
        );
        cells.entry(key).or_default().push(limit);
    }
    writeln!(page, "## The bare ring: what this machine can carry\n")?;
    writeln!(
        page,
        "| wire | body | reads | asked calls/s | n | calls/s | frames/s | Gbit/s | dropped | receiver ns/frame | sender ns/frame |"
    )?;
    writeln!(
        page,
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    )?;
    for ((wire, body, touch, asked), rows) in cells {
        let of = |value: fn(&Limit) -> f64| Spread::of(rows.iter().map(|row| value(row)));
        let asked = if asked == 0 {
            "flat out".to_owned()
        } else {
            asked.to_string()
        };
        writeln!(
            page,
            "| {wire} | {body} | {touch} | {asked} | {} | {} | {} | {} | {} | {} | {} |",
            rows.len(),
            of(|row| row.calls_per_second).text(0),
            of(|row| row.frames_per_second).text(0),
            of(|row| row.gbit_per_second).text(2),
            of(|row| row.dropped as f64).text(0),
            of(|row| row.receiver_nanos_per_frame).text(0),
            of(|row| row.sender_nanos_per_frame).text(0),
        )?;
    }
    writeln!(page)?;
    Ok(())
}

/// One point of a plot, if the row has it.
type Point = fn(&Trial) -> Option<(f64, f64)>;

const PLOTS: [(&str, &str, Point); 5] = [
    ("delivered", "calls delivered a second", |row| {
        Some((
            row.calls_per_second,
            row.calls_delivered as f64 / row.seconds,
        ))
    }),
    ("completeness", "delivered, %", |row| {
        Some((row.calls_per_second, row.delivered_share * 100.0))
    }),
    ("cpu", "CPU, µs a delivered call", |row| {
        (row.calls_delivered > 0).then_some((row.calls_per_second, row.cpu_micros_per_call))
    }),
    ("latency", "p99 from response to POST, ms", |row| {
        Some((row.calls_per_second, row.latency_p99_millis?))
    }),
    ("memory", "peak resident, ring apart, MB", |row| {
        let apart = row.resident_peak_bytes.saturating_sub(row.ring_bytes);
        Some((row.calls_per_second, apart as f64 / 1e6))
    }),
];

/// One plot for each wire and body and each quantity; all trials are points, probes too.
fn plots(page: &mut String, folder: &Path, trials: &Rows<Trial>) -> Result<()> {
    let mut groups: BTreeMap<(String, usize), Vec<&Trial>> = BTreeMap::new();
    for (trial, _) in trials {
        let key = (trial.wire.clone(), trial.body_bytes);
        groups.entry(key).or_default().push(trial);
    }
    for ((wire, body), rows) in groups {
        for (name, label, point) in PLOTS {
            let mut series: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
            for row in &rows {
                let compression = if row.compression == "on" {
                    ""
                } else {
                    ", plain"
                };
                let line = format!("{}, {}{compression}", row.program, row.rules);
                series.entry(line).or_default().extend(point(row));
            }
            let plot = Plot {
                title: format!("{wire}, bodies of {body} bytes"),
                x: "calls offered a second".into(),
                y: label.into(),
                series: series
                    .into_iter()
                    .map(|(name, points)| Series { name, points })
                    .collect(),
            };
            let file = format!("{name}-{wire}-{body}.svg");
            fs::write(folder.join(&file), plot.svg())?;
            writeln!(page, "![{label}: {wire}, {body} bytes]({file})")?;
        }
        writeln!(page)?;
    }
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
