//! The time of a packet and of a call in each stage, and the limit of each cell.
//!
//! The times of stages are measured over frames in memory (`bench stages`), without kernel, ring and cold memory; the CPU
//! times of threads of a running sniffer come from `/proc`. The table shows both, with their difference in a line of its
//! own.

use std::fmt::Write as _;

use anyhow::Result;

use super::session::{Cell, Session};
use super::statistics::{LOSSLESS, Spread, median, table};
use crate::results::{Purpose, StageTime, Trial};
use crate::tx::SenderKind;

/// Encapsulation and body size of traffic.
type Traffic = (String, usize);

/// The stages in order, each with its label in the table.
const STEPS: [(&str, &str); 6] = [
    ("decap", "decap"),
    ("flow", "flow: reassembly"),
    ("http", "http: messages"),
    ("debug", "message, escape, line"),
    ("bundle", "bundle of lines"),
    ("deflate", "deflate, where compressed"),
];

/// Rule sets that are compared with `debug`.
const RULES: [&str; 4] = ["standard", "strict", "bodiless", "realistic"];

/// Appends the table, if stages were measured, and the limit of each cell.
pub(super) fn write(page: &mut String, session: &Session) -> Result<()> {
    let mut wires: Vec<&str> = Vec::new();
    for (row, _) in &session.stages {
        if !wires.contains(&row.wire.as_str()) {
            wires.push(&row.wire);
        }
    }
    if !wires.is_empty() {
        writeln!(page, "## The budget\n")?;
        writeln!(
            page,
            "Nanoseconds for a packet and for a call. Stages: frames in memory, without kernel and ring, the fastest of many \
             rounds. Each line is the difference to the stage before it; that of a rule set is the difference to a line \
             without rules. Live: CPU time of threads at the highest lossless rate, from /proc, medians. The CPU time of the \
             sender includes the kernel's path to the tap and the copy into the ring, and is not part of the sniffer's.\n"
        )?;
    }
    for wire in wires {
        budget(page, session, wire)?;
    }
    limits(page, session)
}

fn budget(page: &mut String, session: &Session, wire: &str) -> Result<()> {
    let mut all: Vec<Traffic> = Vec::new();
    for (row, _) in session.stages.iter().filter(|(row, _)| row.wire == wire) {
        if !all.contains(&(row.wire.clone(), row.body_bytes)) {
            all.push((row.wire.clone(), row.body_bytes));
        }
    }
    let mut names = vec![wire.to_owned()];
    for (_, body_bytes) in &all {
        names.extend([format!("{body_bytes} B: packet"), "call".to_owned()]);
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    table(page, &names)?;
    let mut line = |name: &str, of: &dyn Fn(&Traffic) -> Option<Cost>| -> Result<()> {
        let costs: Vec<Option<Cost>> = all.iter().map(of).collect();
        if costs.iter().all(Option::is_none) {
            return Ok(());
        }
        write!(page, "| {name} |")?;
        for cost in costs {
            match cost {
                Some(cost) => write!(page, " {:.0} | {:.0} |", cost.packet, cost.call)?,
                None => write!(page, " – | – |")?,
            }
        }
        writeln!(page)?;
        Ok(())
    };
    line("bare ring, headers read", &|traffic| {
        ring_walk(session, traffic)
    })?;
    let mut before = None;
    for (stage, name) in STEPS {
        line(name, &|traffic| step(session, traffic, stage, before))?;
        before = Some(stage);
    }
    for (name, stage) in [
        ("**stages, uncompressed**", "bundle"),
        ("**stages, compressed**", "deflate"),
    ] {
        line(name, &|traffic| step(session, traffic, stage, None))?;
    }
    for rules in RULES {
        line(
            &format!("rules `{rules}`: difference to none"),
            &|traffic| step(session, traffic, rules, Some("debug")),
        )?;
    }
    for (is_compressed, how, last) in [
        (false, "uncompressed", "bundle"),
        (true, "compressed", "deflate"),
    ] {
        let live = |traffic: &Traffic, value: fn(&Trial) -> Option<f64>| {
            live(session, traffic, is_compressed, value)
        };
        line(&format!("live, {how}: capture thread"), &|traffic| {
            live(traffic, |row| row.shard_cpu_seconds)
        })?;
        line(
            &format!("of it ring, waiting, cold memory: minus the stages, {how}"),
            &|traffic| {
                let all = live(traffic, |row| row.shard_cpu_seconds)?;
                Some(all.minus(step(session, traffic, last, None)?))
            },
        )?;
        line(
            &format!("live, {how}: uploader, including the kernel"),
            &|traffic| live(traffic, |row| row.uploader_cpu_seconds),
        )?;
        line(
            &format!("live, {how}: collector, on the same core"),
            &|traffic| live(traffic, |row| Some(row.collector_cpu_seconds)),
        )?;
        line(&format!("live, {how}: sender's core"), &|traffic| {
            live(traffic, |row| Some(row.sender_cpu_seconds))
        })?;
    }
    line("of the sender's core: making the frames", &|traffic| {
        step(session, traffic, "frames", None)
    })?;
    line(
        "of the sender's core: kernel's path to the tap, copy into the ring",
        &|traffic| {
            let all = live(session, traffic, true, |row| Some(row.sender_cpu_seconds))?;
            Some(all.minus(step(session, traffic, "frames", None)?))
        },
    )?;
    writeln!(page)?;
    Ok(())
}

/// In nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Cost {
    packet: f64,
    call: f64,
}

impl Cost {
    fn minus(self, other: Self) -> Self {
        Self {
            packet: self.packet - other.packet,
            call: self.call - other.call,
        }
    }
}

fn stage<'a>(
    session: &'a Session,
    (wire, body_bytes): &Traffic,
    name: &str,
) -> Option<&'a StageTime> {
    let mut rows = session.stages.iter().map(|(row, _)| row);
    rows.find(|row| row.stage == name && row.wire == *wire && row.body_bytes == *body_bytes)
}

/// The difference of a stage to the one `before`, or its own cost without that.
fn step(session: &Session, traffic: &Traffic, name: &str, before: Option<&str>) -> Option<Cost> {
    let cost = |name| {
        let row = stage(session, traffic, name)?;
        Some(Cost {
            packet: row.nanos_per_frame,
            call: row.nanos_per_call,
        })
    };
    let all = cost(name)?;
    match before {
        Some(before) => Some(all.minus(cost(before)?)),
        None => Some(all),
    }
}

fn ring_walk(session: &Session, traffic: &Traffic) -> Option<Cost> {
    let (wire, body_bytes) = traffic;
    let rows = session.limits.iter().map(|(row, _)| row).filter(|row| {
        row.wire == *wire
            && row.body_bytes == *body_bytes
            && row.sender == SenderKind::Messages
            && row.touch == "headers"
            // Rows of packets without calls have no calls.
            && row.calls_offered > 0
    });
    let rows: Vec<_> = rows.collect();
    let packet = Spread::of(rows.iter().map(|row| row.receiver_nanos_per_frame)).median;
    let frames = Spread::of(
        rows.iter()
            .map(|row| row.frames as f64 / row.calls_offered as f64),
    );
    (!rows.is_empty()).then_some(Cost {
        packet,
        call: packet * frames.median,
    })
}

/// CPU time of one of the threads during the traffic, at the highest lossless rate.
fn live(
    session: &Session,
    (wire, body_bytes): &Traffic,
    is_compressed: bool,
    value: fn(&Trial) -> Option<f64>,
) -> Option<Cost> {
    let cells = session.cells(Purpose::Rate);
    let (_, rows) = cells.iter().find(|(cell, _)| {
        cell.is_plain_matrix()
            && cell.wire == *wire
            && cell.body_bytes == *body_bytes
            && cell.is_compressed == is_compressed
    })?;
    rows.iter().all(|row| value(row).is_some()).then(|| {
        let nanos = |row: &Trial| value(row).unwrap_or(0.0) * 1e9;
        Cost {
            packet: median(rows, |row| nanos(row) / row.frames.max(1) as f64),
            call: median(rows, |row| nanos(row) / row.calls_offered.max(1) as f64),
        }
    })
}

/// Which core was the limit in each cell of the matrix, and what was lost at the next higher rate.
fn limits(page: &mut String, session: &Session) -> Result<()> {
    let cells = session.cells(Purpose::Rate);
    let cells: Vec<_> = cells
        .iter()
        .filter(|(cell, _)| cell.is_plain_matrix())
        .collect();
    if cells.is_empty() {
        return Ok(());
    }
    writeln!(page, "## What limits\n")?;
    for (cell, rows) in cells {
        let share = |value: fn(&Trial) -> f64| median(rows, |row| value(row) / row.seconds * 100.0);
        let sniffer = share(|row| row.cpu_seconds);
        let collector = share(|row| row.collector_cpu_seconds);
        let sender = share(|row| row.sender_cpu_seconds);
        let rate = median(rows, |row| row.calls_per_second);
        let what = if sniffer + collector >= FULL {
            format!("the sniffer's core is full{}", costliest(session, cell))
        } else if sender >= FULL {
            "the sender's core is full".to_owned()
        } else {
            "no core is full".to_owned()
        };
        writeln!(
            page,
            "- {}, {rate:.0} calls/s: {what} (sniffer {sniffer:.0} %, collector {collector:.0} %, sender {sender:.0} %). {}",
            cell.name(),
            next(session, cell, rate)
        )?;
    }
    writeln!(page)?;
    Ok(())
}

/// A core that is used to this percentage counts as full; the rest goes to wake-ups and short disturbances.
const FULL: f64 = 90.0;

/// The most expensive stage, with its share of the time of all stages.
fn costliest(session: &Session, cell: &Cell) -> String {
    let traffic = (cell.wire.clone(), cell.body_bytes);
    let last = if cell.is_compressed {
        "deflate"
    } else {
        "bundle"
    };
    let Some(all) = step(session, &traffic, last, None) else {
        return String::new();
    };
    let mut before = None;
    let mut costliest = ("", 0.0);
    for (name, text) in STEPS {
        if let Some(cost) = step(session, &traffic, name, before)
            && cost.call > costliest.1
        {
            costliest = (text, cost.call);
        }
        before = Some(name);
        if name == last {
            break;
        }
    }
    format!(
        ", and the most expensive stage is {}, with {:.0} % of all stages",
        costliest.0,
        costliest.1 / all.call * 100.0
    )
}

/// What was lost at the lowest rate above `rate` that was not lossless.
fn next(session: &Session, cell: &Cell, rate: f64) -> String {
    let failed = (session.trials.iter().map(|(trial, _)| trial))
        .filter(|trial| {
            trial.purpose == Purpose::Probe
                && Cell::of(trial) == *cell
                && trial.calls_per_second > rate * 1.01
                && !trial.is_lossless(LOSSLESS)
        })
        .min_by(|a, b| a.calls_per_second.total_cmp(&b.calls_per_second));
    let Some(trial) = failed else {
        return "No higher rate failed.".into();
    };
    let counts = [
        (trial.ring_dropped, "frames dropped by the ring"),
        (trial.bundles_plain, "bundles sent uncompressed"),
        (trial.bodies_truncated, "bodies truncated"),
        (trial.calls_dropped, "calls shed or dropped"),
        (trial.halves, "half calls"),
    ];
    let lost: Vec<String> = (counts.into_iter())
        .filter_map(|(count, what)| {
            let count = count.filter(|count| *count > 0)?;
            Some(format!("{count} {what}"))
        })
        .collect();
    let lost = if lost.is_empty() {
        format!("{:.3} % delivered", trial.delivered_share * 100.0)
    } else {
        lost.join(", ")
    };
    format!(
        "At {:.0}: {lost}, with the sniffer at {:.0} % of its core.",
        trial.calls_per_second,
        trial.cpu_seconds / trial.seconds * 100.0
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::Conditions;

    fn session() -> Session {
        let nanos = [
            ("frames", 50.0),
            ("decap", 10.0),
            ("flow", 60.0),
            ("http", 400.0),
            ("debug", 900.0),
            ("standard", 1000.0),
            ("bundle", 1000.0),
            ("deflate", 3000.0),
        ];
        let stages = nanos.map(|(stage, nanos_per_call)| StageTime {
            wire: "plain".into(),
            body_bytes: 200,
            stage: stage.into(),
            calls: 10,
            frames: 20,
            nanos_per_frame: nanos_per_call / 2.0,
            nanos_per_call,
        });
        Session {
            stages: stages.map(|row| (row, Conditions::default())).into(),
            ..Session::default()
        }
    }

    #[track_caller]
    fn check(session: &Session, expected: &str) {
        let mut page = String::new();
        write(&mut page, session).unwrap();
        assert!(page.contains(expected), "{expected} in {page}");
        // Values that were not measured have no line.
        assert!(!page.contains("| live"), "{page}");
    }

    #[test]
    fn a_line_is_the_difference_to_the_stage_before() {
        let session = session();
        check(&session, "| decap | 5 | 10 |");
        check(&session, "| message, escape, line | 250 | 500 |");
        check(&session, "| deflate, where compressed | 1000 | 2000 |");
        check(&session, "| **stages, uncompressed** | 500 | 1000 |");
        check(&session, "| **stages, compressed** | 1500 | 3000 |");
        check(
            &session,
            "| rules `standard`: difference to none | 50 | 100 |",
        );
        check(
            &session,
            "| of the sender's core: making the frames | 25 | 50 |",
        );
    }

    #[test]
    fn the_most_expensive_stage_is_named() {
        let cell = Cell {
            wire: "plain".into(),
            body_bytes: 200,
            is_compressed: true,
            rules: "debug".into(),
            traffic: "steady".into(),
            sender: SenderKind::Messages.name(),
            shards: 1,
            memory_limit_bytes: 0,
            program: "sniffer".into(),
        };
        let costliest = costliest(&session(), &cell);
        assert!(
            costliest.contains("deflate, where compressed, with 67 %"),
            "{costliest}"
        );
    }
}
