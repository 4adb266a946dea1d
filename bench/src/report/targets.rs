//! Targets, each with the measured value and the verdict that follows from it.
//!
//! The figures of network-sniffer 1.x, the predecessor, were measured on another 2-core machine (both cores, CPU of its
//! process, 23 Nov 2026); of a range, the end that is harder to beat is used. All other values are of this folder.

use std::fmt::Write as _;

use anyhow::Result;

use super::session::{Cell, Session};
use super::statistics::{Spread, is_lossless, median, table};
use crate::results::{Purpose, Trial};
use crate::tx::SenderKind;

/// Figures of network-sniffer 1.x for one kind of traffic.
struct Predecessor {
    wire: &'static str,
    body_bytes: usize,
    cpu_micros_per_call: f64,
    lossless_per_second: f64,
    /// Calls a second of the bare ring on the machine on which it was measured.
    bare_ring_per_second: f64,
}

const fn predecessor(
    wire: &'static str,
    body_bytes: usize,
    cpu_micros_per_call: f64,
    lossless_per_second: f64,
    bare_ring_per_second: f64,
) -> Predecessor {
    Predecessor {
        wire,
        body_bytes,
        cpu_micros_per_call,
        lossless_per_second,
        bare_ring_per_second,
    }
}

const PREDECESSOR: [Predecessor; 6] = [
    predecessor("plain", 200, 38.0, 24_000.0, 223_000.0),
    predecessor("plain", 2000, 94.0, 14_500.0, 109_000.0),
    predecessor("plain", 20_000, 600.0, 2_400.0, 19_500.0),
    predecessor("vxlan", 200, 116.0, 7_000.0, 106_000.0),
    predecessor("vxlan", 2000, 220.0, 3_000.0, 42_600.0),
    predecessor("vxlan", 20_000, 1500.0, 470.0, 9_650.0),
];

const MEMORY_WITHOUT_RING_MAX: f64 = 128e6;
/// Calls delivered above the highest lossless rate, as a share of that rate. Not less, within the noise of repetitions.
const OVERLOAD_SHARE_MIN: f64 = 0.9;

/// The highest lossless rate of network-sniffer 1.x.
pub(super) fn predecessor_rate(wire: &str, body_bytes: usize) -> Option<f64> {
    let row = PREDECESSOR
        .iter()
        .find(|row| row.wire == wire && row.body_bytes == body_bytes);
    row.map(|row| row.lossless_per_second)
}

/// One line of the table of targets.
struct Verdict {
    what: String,
    measured: String,
    before: String,
    ratio: String,
    target: String,
    is_met: bool,
}

/// Appends the table of all targets that have rows.
pub(super) fn write(page: &mut String, session: &Session) -> Result<()> {
    let verdicts = verdicts(session);
    if verdicts.is_empty() {
        return Ok(());
    }
    let met = verdicts.iter().filter(|verdict| verdict.is_met).count();
    writeln!(page, "## Targets: {met} of {} met\n", verdicts.len())?;
    let names = [
        "what",
        "measured",
        "network-sniffer 1.x, or reference",
        "ratio",
        "target",
        "met",
    ];
    table(page, &names)?;
    for verdict in &verdicts {
        writeln!(
            page,
            "| {} | {} | {} | {} | {} | {} |",
            verdict.what,
            verdict.measured,
            verdict.before,
            verdict.ratio,
            verdict.target,
            if verdict.is_met { "met" } else { "**not met**" }
        )?;
    }
    writeln!(page)?;
    Ok(())
}

fn verdicts(session: &Session) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    matrix(session, &mut verdicts);
    overload(session, &mut verdicts);
    correctness(session, &mut verdicts);
    headers_only(session, &mut verdicts);
    packets(session, &mut verdicts);
    reading(session, &mut verdicts);
    connections(session, &mut verdicts);
    shards(session, &mut verdicts);
    verdicts
}

/// CPU time of a call, highest lossless rate and share of the bare ring, for each cell of the matrix.
fn matrix(session: &Session, verdicts: &mut Vec<Verdict>) {
    for (cell, rows) in session.cells(Purpose::Rate) {
        let before = PREDECESSOR
            .iter()
            .find(|row| row.wire == cell.wire && row.body_bytes == cell.body_bytes);
        let Some(before) = before.filter(|_| cell.is_plain_matrix()) else {
            continue;
        };
        let name = cell.name();
        let factor = match (cell.wire.as_str(), cell.is_compressed) {
            ("plain", true) => 10.0,
            ("plain", false) => 20.0,
            (_, true) => 25.0,
            (_, false) => 40.0,
        };
        let is_lossless = is_lossless(&rows);
        let cpu = Spread::of(rows.iter().map(|row| row.cpu_micros_per_call));
        let ratio = before.cpu_micros_per_call / cpu.median;
        verdicts.push(Verdict {
            what: format!("{name}: CPU per call"),
            measured: format!("{} µs", cpu.text(2)),
            before: format!("{} µs", before.cpu_micros_per_call),
            ratio: format!("1/{ratio:.1}"),
            target: format!("1/{factor}"),
            // A trial that sheds load does less work.
            is_met: is_lossless && ratio >= factor,
        });
        let rate = Spread::of(rows.iter().map(|row| row.calls_per_second));
        let ratio = rate.median / before.lossless_per_second;
        verdicts.push(Verdict {
            what: format!("{name}: highest lossless rate"),
            measured: format!("{} calls/s", rate.text(0)),
            before: format!("{} calls/s", before.lossless_per_second),
            ratio: format!("{ratio:.1}"),
            target: "5".into(),
            is_met: is_lossless && ratio >= 5.0,
        });
        let share_min = if cell.is_compressed { 0.5 } else { 0.9 };
        let here = session.bare_ring(&cell.wire, cell.body_bytes, SenderKind::Messages);
        let rings = [
            (here.map(|bare| bare.median), "bare ring with this sender"),
            (
                Some(before.bare_ring_per_second),
                "bare ring of the 1.x machine",
            ),
        ];
        for (bare, of) in rings {
            let Some(bare) = bare else {
                continue;
            };
            let share = rate.median / bare;
            verdicts.push(Verdict {
                what: format!("{name}: share of the {of}"),
                measured: format!("{:.0} calls/s", rate.median),
                before: format!("{bare:.0} calls/s"),
                ratio: format!("{:.0} %", share * 100.0),
                target: format!("{:.0} %", share_min * 100.0),
                is_met: is_lossless && share >= share_min,
            });
        }
    }
}

/// Delivery above the highest lossless rate.
fn overload(session: &Session, verdicts: &mut Vec<Verdict>) {
    let at = session.cells(Purpose::Rate);
    for (cell, rows) in session.cells(Purpose::Overload) {
        let Some(at) = at.get(&cell).filter(|_| cell.is_plain_matrix()) else {
            continue;
        };
        let delivered = |row: &Trial| row.calls_delivered as f64 / row.seconds;
        let best = median(at, delivered);
        let worst = rows
            .iter()
            .map(|row| delivered(row))
            .fold(f64::INFINITY, f64::min);
        let most = rows
            .iter()
            .map(|row| row.calls_per_second)
            .fold(0.0, f64::max);
        let truncated = median(&rows, |row| {
            row.truncated as f64 / row.calls_delivered.max(1) as f64 * 100.0
        });
        let truncated = match truncated {
            0.0 => String::new(),
            share => format!(", {share:.0} % of them truncated"),
        };
        verdicts.push(Verdict {
            what: format!("{}: delivered above its highest lossless rate", cell.name()),
            measured: format!("{worst:.0} calls/s of {most:.0}{truncated}"),
            before: format!("{best:.0} calls/s at that rate"),
            ratio: format!("{:.0} %", worst / best * 100.0),
            target: format!("{:.0} %", OVERLOAD_SHARE_MIN * 100.0),
            is_met: worst >= OVERLOAD_SHARE_MIN * best,
        });
    }
}

/// Memory, ledger and wrong calls, over all trials of `sniffer`.
fn correctness(session: &Session, verdicts: &mut Vec<Verdict>) {
    let ours: Vec<&Trial> = (session.trials.iter().map(|(trial, _)| trial))
        .filter(|trial| trial.program == "sniffer" && trial.traffic == "steady")
        .collect();
    if ours.is_empty() {
        return;
    }
    let total = ours.len();
    let most = ours
        .iter()
        .map(|row| row.memory_without_ring())
        .max()
        .unwrap_or(0) as f64;
    verdicts.push(Verdict {
        what: format!("memory without the ring, highest of {total} trials"),
        measured: format!("{:.0} MB", most / 1e6),
        before: "300 to 2600 MB".into(),
        ratio: format!("1/{:.1}", 300e6 / most),
        target: format!("{:.0} MB", MEMORY_WITHOUT_RING_MAX / 1e6),
        is_met: most <= MEMORY_WITHOUT_RING_MAX,
    });
    let count = |is: fn(&Trial) -> bool| ours.iter().filter(|row| is(row)).count();
    let unbalanced = count(|row| row.unaccounted != Some(0));
    let disagree = count(|row| row.calls_sent != Some(row.calls_delivered));
    verdicts.push(Verdict {
        what: "trials whose ledger does not balance, or disagrees with the collector".into(),
        measured: format!("{unbalanced}, {disagree} of {total}"),
        before: "no ledger".into(),
        ratio: "–".into(),
        target: "0".into(),
        is_met: unbalanced + disagree == 0,
    });
    let truncated: u64 = ours.iter().map(|row| row.truncated).sum();
    let wrong: u64 = ours.iter().map(|row| row.wrong()).sum();
    let lossy = count(|row| row.wrong() > 0 && row.ring_dropped.is_some_and(|frames| frames > 0));
    verdicts.push(Verdict {
        what: "calls duplicated, mispaired or torn, in all trials".into(),
        measured: format!(
            "{wrong}; {lossy} of the trials with any lost frames in the ring; {truncated} more were truncated and counted as such"
        ),
        before: "0".into(),
        ratio: "–".into(),
        target: "0".into(),
        is_met: wrong == 0,
    });
}

/// Calls of which only headers are kept, at 80 % of the rate of the bare ring.
fn headers_only(session: &Session, verdicts: &mut Vec<Verdict>) {
    for (cell, rows) in session.cells(Purpose::Rate) {
        let sender = rows.first().map_or(SenderKind::Messages, |row| row.sender);
        let bare = session.bare_ring(&cell.wire, cell.body_bytes, sender);
        let Some(bare) = bare.filter(|_| cell.rules == "headers" && cell.traffic == "steady")
        else {
            continue;
        };
        let rate = median(&rows, |row| row.calls_per_second);
        let share = median(&rows, |row| row.delivered_share);
        verdicts.push(Verdict {
            what: format!(
                "{} {} B, headers only, by {}: lossless",
                cell.wire, cell.body_bytes, cell.sender
            ),
            measured: format!("{rate:.0} calls/s, {:.3} % delivered", share * 100.0),
            before: format!("{:.0} calls/s in the bare ring", bare.median),
            ratio: format!("{:.0} %", rate / bare.median * 100.0),
            target: "80 %, 0 dropped".into(),
            // The requested rate was 80 % of another median; the sender may be one point below it.
            is_met: rate >= 0.79 * bare.median && is_lossless(&rows),
        });
    }
}

/// Packets without calls.
fn packets(session: &Session, verdicts: &mut Vec<Verdict>) {
    let mut kinds: Vec<(String, SenderKind)> = Vec::new();
    for (row, _) in &session.packets {
        let kind = (format!("{} {} B", row.wire, row.body_bytes), row.sender);
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    for (name, sender) in kinds {
        let rows: Vec<_> = (session.packets.iter().map(|(row, _)| row))
            .filter(|row| {
                format!("{} {} B", row.wire, row.body_bytes) == name && row.sender == sender
            })
            .collect();
        let user = Spread::of(rows.iter().map(|row| row.user_nanos_per_frame));
        let all = Spread::of(rows.iter().map(|row| row.cpu_nanos_per_frame));
        let rate = Spread::of(rows.iter().map(|row| row.frames_per_second));
        let dropped = Spread::of(rows.iter().map(|row| row.dropped as f64)).median;
        let by = sender.name();
        verdicts.push(Verdict {
            what: format!("{name}, no calls, by {by}: user space per packet"),
            measured: format!("{} ns; {} with the kernel", user.text(0), all.text(0)),
            before: "30 to 100 ns: bare ring, headers read".into(),
            ratio: "–".into(),
            target: "100 ns".into(),
            is_met: user.median < 100.0,
        });
        verdicts.push(Verdict {
            what: format!("{name}, no calls, by {by}: lossless at 80 % of the bare ring"),
            measured: format!("{} packets/s, {dropped:.0} dropped", rate.text(0)),
            before: "–".into(),
            ratio: "–".into(),
            target: "0 dropped".into(),
            is_met: dropped == 0.0,
        });
    }
}

/// Capture files.
fn reading(session: &Session, verdicts: &mut Vec<Verdict>) {
    let micros = |program: &str, body_bytes: usize| {
        let rows = session.readings.iter().map(|(row, _)| row);
        let of: Vec<f64> = rows
            .filter(|row| row.program == program && row.body_bytes == body_bytes)
            .map(|row| row.cpu_micros_per_call)
            .collect();
        (!of.is_empty()).then(|| Spread::of(of))
    };
    let mut bodies: Vec<usize> = session
        .readings
        .iter()
        .map(|(row, _)| row.body_bytes)
        .collect();
    bodies.dedup();
    for body_bytes in bodies {
        let Some(ours) = micros("sniffer", body_bytes) else {
            continue;
        };
        for (program, factor, elsewhere) in [("httpry", 1.0, 7.0), ("tshark", 30.0, 64.0)] {
            let here = micros(program, body_bytes);
            let place = if here.is_some() { "here" } else { "elsewhere" };
            let theirs = here.unwrap_or(Spread::of([elsewhere]));
            let ratio = theirs.median / ours.median;
            verdicts.push(Verdict {
                what: format!("read {body_bytes} B, headers only, against {program}"),
                measured: format!("{} µs per call", ours.text(2)),
                before: format!("{} µs per call {place}", theirs.text(2)),
                ratio: format!("{ratio:.1}"),
                target: format!("{factor}"),
                is_met: ratio > factor,
            });
        }
    }
}

/// Many connections, and many new ones, compared with few in the same run.
fn connections(session: &Session, verdicts: &mut Vec<Verdict>) {
    let cells = session.cells(Purpose::Rate);
    for (cell, rows) in &cells {
        let few = Cell {
            traffic: "steady".into(),
            ..cell.clone()
        };
        let Some(few) = cells.get(&few).filter(|_| cell.traffic != "steady") else {
            continue;
        };
        let rate = |rows: &[&Trial]| median(rows, |row| row.calls_per_second);
        let ratio = rate(rows) / rate(few);
        let first = rows.first();
        let connections = first.map_or(0, |row| row.connections);
        let flows = median(rows, |row| {
            row.calls_per_second * 60.0 / row.calls_per_connection.max(1) as f64
        });
        let memory = median(rows, |row| row.memory_without_ring() as f64);
        let limit = cell.memory_limit_bytes as f64;
        let target = match cell.memory_limit_bytes {
            0 => "70 %, within the memory limit, which is not known".to_owned(),
            _ => format!("70 %, within the memory limit of {:.0} MB", limit / 1e6),
        };
        verdicts.push(Verdict {
            what: format!(
                "{}, {connections} connections, {:.2} M new ones a minute",
                cell.name(),
                flows / 1e6
            ),
            measured: format!(
                "{:.0} calls/s, {:.0} MB without the ring",
                rate(rows),
                memory / 1e6
            ),
            before: format!("{:.0} calls/s with few", rate(few)),
            ratio: format!("{:.0} %", ratio * 100.0),
            target,
            is_met: is_lossless(rows) && ratio >= 0.7 && memory <= limit,
        });
    }
}

/// Several shards with mirrored traffic, whose directions have different outer ports.
fn shards(session: &Session, verdicts: &mut Vec<Verdict>) {
    for ((cell, _), rows) in session.given() {
        if cell.shards < 2 || cell.wire != "vxlan" {
            continue;
        }
        let halves: u64 = rows.iter().filter_map(|row| row.halves).sum();
        let calls: u64 = rows.iter().map(|row| row.calls_delivered).sum();
        let offered: u64 = rows.iter().map(|row| row.calls_offered).sum();
        let steering = rows.first().map_or("", |row| row.steering.as_str());
        verdicts.push(Verdict {
            what: format!(
                "{} shards, VXLAN: both directions on one ({steering})",
                cell.shards
            ),
            measured: format!("{calls} of {offered} calls complete, {halves} half calls"),
            before: "25 % by the hash of outer headers".into(),
            ratio: format!("{:.3} %", calls as f64 / offered.max(1) as f64 * 100.0),
            target: "100 %".into(),
            is_met: halves == 0 && calls == offered,
        });
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::results;

    /// The oldest rows, without the columns that were added later.
    fn first_session() -> Session {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("results/2026-11-23-bf182f5");
        Session {
            trials: results::read(&folder, "run").unwrap(),
            ..Session::default()
        }
    }

    #[track_caller]
    fn check(what: &str, expected: (&str, bool)) {
        let verdicts = verdicts(&first_session());
        let verdict = verdicts.iter().find(|verdict| verdict.what == what);
        let verdict = verdict.unwrap_or_else(|| panic!("no verdict on {what}"));
        assert_eq!((verdict.ratio.as_str(), verdict.is_met), expected, "{what}");
    }

    #[test]
    fn verdicts_follow_from_the_rows() {
        check("plain 200 B compressed: CPU per call", ("1/5.4", false));
        check("vxlan 2000 B uncompressed: CPU per call", ("1/20.6", false));
        check(
            "vxlan 2000 B compressed: highest lossless rate",
            ("3.3", false),
        );
        check(
            "memory without the ring, highest of 11 trials",
            ("1/6.6", true),
        );
        check(
            "calls duplicated, mispaired or torn, in all trials",
            ("–", true),
        );
    }

    #[test]
    fn a_rate_that_is_five_times_higher_is_met() {
        let mut session = first_session();
        for (trial, _) in &mut session.trials {
            trial.calls_per_second *= 5.0;
        }
        let what = "vxlan 2000 B compressed: highest lossless rate";
        let met = |session: &Session| {
            let verdicts = verdicts(session);
            verdicts
                .iter()
                .any(|verdict| verdict.what == what && verdict.is_met)
        };
        assert!(met(&session));
        // It is not met if something was lost.
        for (trial, _) in &mut session.trials {
            trial.delivered_share = 0.99;
        }
        assert!(!met(&session));
    }
}
