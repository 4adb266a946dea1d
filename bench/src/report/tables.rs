//! The rows as tables, with the median and the range of repetitions.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::Result;

use super::session::{CELL, Cell, Session};
use super::statistics::{Spread, lossless, median, table};
use crate::results::{Limit, Purpose, Trial};

/// Appends all tables that have rows.
pub(super) fn write(page: &mut String, session: &Session) -> Result<()> {
    found(page, session)?;
    given(page, session)?;
    others(page, session)?;
    overload(page, session)?;
    limits(page, session)?;
    packets(page, session)?;
    readings(page, session)?;
    encoders(page, session)
}

fn found(page: &mut String, session: &Session) -> Result<()> {
    let cells = session.cells(Purpose::Rate);
    if cells.is_empty() {
        return Ok(());
    }
    writeln!(page, "## At the highest lossless rate\n")?;
    writeln!(
        page,
        "A search found these rates; in it a rate has failed when two trials in a row are not lossless. Lossless: the \
         number of repetitions that lost nothing, shed no call, truncated no body and sent no bundle uncompressed that \
         should have been compressed. Latency is the time from the last packet of a response to the POST with its call; \
         bundles wait up to a second by design. Busy: CPU time of sniffer, collector and sender as a share of the time of \
         the traffic. Wrong: calls that are duplicated, mispaired, torn or in a broken POST.\n"
    )?;
    table(page, &[CELL.as_slice(), &RATES].concat())?;
    for (cell, rows) in cells {
        rates(page, session, &cell, &rows)?;
    }
    writeln!(page)?;
    Ok(())
}

fn given(page: &mut String, session: &Session) -> Result<()> {
    let cells = session.given();
    if cells.is_empty() {
        return Ok(());
    }
    writeln!(page, "## At given rates\n")?;
    table(page, &[CELL.as_slice(), &RATES].concat())?;
    for ((cell, _), rows) in cells {
        rates(page, session, &cell, &rows)?;
    }
    writeln!(page)?;
    Ok(())
}

/// Columns of [`rates`].
const RATES: [&str; 11] = [
    "lossless",
    "calls/s",
    "of the bare ring",
    "delivered",
    "CPU µs/call",
    "MB without the ring",
    "p50/p99/p99.9 ms",
    "line → posted B/call",
    "busy %",
    "truncated",
    "wrong",
];

fn rates(page: &mut String, session: &Session, cell: &Cell, rows: &[&Trial]) -> Result<()> {
    let of = |value: fn(&Trial) -> f64| Spread::of(rows.iter().map(|row| value(row)));
    let quantile = |value: fn(&Trial) -> Option<f64>| {
        let known: Vec<f64> = rows.iter().filter_map(|row| value(row)).collect();
        if known.is_empty() {
            "–".to_owned()
        } else {
            format!("{:.0}", Spread::of(known).median)
        }
    };
    let sender = rows.first().map(|row| row.sender).unwrap_or_default();
    let rate = of(|row| row.calls_per_second);
    let bare = session.bare_ring(&cell.wire, cell.body_bytes, sender);
    let share = bare.map_or("–".to_owned(), |bare| {
        format!("{:.0} %", rate.median / bare.median * 100.0)
    });
    let busy = |value: fn(&Trial) -> f64| median(rows, |row| value(row) / row.seconds * 100.0);
    let sum = |value: fn(&Trial) -> u64| rows.iter().map(|row| value(row)).sum::<u64>();
    writeln!(
        page,
        "| {} | {} of {} | {} | {share} | {} % | {} | {} | {}/{}/{} | {:.0} → {:.0} | {:.0}, {:.0}, {:.0} | {} | {} |",
        cell.columns(),
        lossless(rows),
        rows.len(),
        rate.text(0),
        of(|row| row.delivered_share * 100.0).text(3),
        of(|row| row.cpu_micros_per_call).text(2),
        of(|row| row.memory_without_ring() as f64 / 1e6).text(0),
        quantile(|row| row.latency_p50_millis),
        quantile(|row| row.latency_p99_millis),
        quantile(|row| row.latency_p999_millis),
        of(|row| row.line_bytes as f64 / row.calls_delivered.max(1) as f64).median,
        of(|row| row.post_bytes as f64 / row.calls_delivered.max(1) as f64).median,
        busy(|row| row.cpu_seconds),
        busy(|row| row.collector_cpu_seconds),
        busy(|row| row.sender_cpu_seconds),
        sum(|row| row.truncated),
        sum(Trial::wrong),
    )?;
    Ok(())
}

/// Other programs compared with `sniffer`, for each cell.
fn others(page: &mut String, session: &Session) -> Result<()> {
    let cells = session.cells(Purpose::Rate);
    let others: Vec<_> = cells
        .iter()
        .filter(|(cell, _)| cell.program != "sniffer")
        .collect();
    if others.is_empty() {
        return Ok(());
    }
    writeln!(page, "## Other programs compared with `sniffer`\n")?;
    let names = ["its CPU/call ÷ sniffer's", "sniffer's calls/s ÷ its"];
    table(page, &[CELL.as_slice(), &names].concat())?;
    for (cell, theirs) in others {
        let mut ours = cell.clone();
        ours.program = "sniffer".into();
        let Some(ours) = cells.get(&ours) else {
            continue;
        };
        let cpu = median(theirs, |row| row.cpu_micros_per_call)
            / median(ours, |row| row.cpu_micros_per_call);
        let rate =
            median(ours, |row| row.calls_per_second) / median(theirs, |row| row.calls_per_second);
        writeln!(page, "| {} | {cpu:.1} | {rate:.1} |", cell.columns())?;
    }
    writeln!(page)?;
    Ok(())
}

fn overload(page: &mut String, session: &Session) -> Result<()> {
    let cells = session.cells(Purpose::Overload);
    if cells.is_empty() {
        return Ok(());
    }
    writeln!(page, "## Above the highest lossless rate\n")?;
    writeln!(
        page,
        "Dropped are the calls that the program itself counts as dropped, with its reasons; frames dropped in the ring are \
         a column of their own. Truncated are calls that were delivered with only the start of their body.\n"
    )?;
    let names = [
        "offered/s",
        "delivered/s",
        "delivered",
        "truncated",
        "bundles uncompressed",
        "dropped calls",
        "frames dropped in the ring",
        "unaccounted",
        "MB without the ring",
        "drain s",
    ];
    table(page, &[CELL.as_slice(), &names].concat())?;
    for (cell, mut rows) in cells {
        rows.sort_by(|a, b| a.calls_per_second.total_cmp(&b.calls_per_second));
        for row in rows {
            let known = |count: Option<String>| count.unwrap_or_else(|| "–".to_owned());
            let dropped = row.calls_dropped.map(|calls| match calls {
                0 => "0".to_owned(),
                _ => format!("{calls} ({})", row.dropped_reasons),
            });
            writeln!(
                page,
                "| {} | {:.0} | {:.0} | {:.2} % | {} | {} | {} | {} | {} | {:.0} | {:.1} |",
                cell.columns(),
                row.calls_per_second,
                row.calls_delivered as f64 / row.seconds,
                row.delivered_share * 100.0,
                row.truncated,
                known(row.bundles_plain.map(|bundles| bundles.to_string())),
                known(dropped),
                known(row.ring_dropped.map(|frames| frames.to_string())),
                known(row.unaccounted.map(|calls| calls.to_string())),
                row.memory_without_ring() as f64 / 1e6,
                row.drain_seconds,
            )?;
        }
    }
    writeln!(page)?;
    Ok(())
}

fn limits(page: &mut String, session: &Session) -> Result<()> {
    if session.limits.is_empty() {
        return Ok(());
    }
    let mut cells: BTreeMap<(&str, usize, &str, &str, u64), Vec<&Limit>> = BTreeMap::new();
    for (limit, _) in &session.limits {
        let key = (
            limit.wire.as_str(),
            limit.body_bytes,
            limit.sender.name(),
            limit.touch.as_str(),
            limit.rate_asked as u64,
        );
        cells.entry(key).or_default().push(limit);
    }
    writeln!(page, "## The bare ring: the upper limit on this machine\n")?;
    let names = [
        "wire",
        "body",
        "sender",
        "reads",
        "requested calls/s",
        "n",
        "calls/s",
        "frames/s",
        "Gbit/s",
        "dropped",
        "receiver ns/frame",
        "sender ns/frame",
    ];
    table(page, &names)?;
    for ((wire, body, sender, touch, asked), rows) in cells {
        let of = |value: fn(&Limit) -> f64| Spread::of(rows.iter().map(|row| value(row)));
        let asked = match asked {
            0 => "unlimited".to_owned(),
            _ => asked.to_string(),
        };
        writeln!(
            page,
            "| {wire} | {body} | {sender} | {touch} | {asked} | {} | {} | {} | {} | {} | {} | {} |",
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

fn packets(page: &mut String, session: &Session) -> Result<()> {
    if session.packets.is_empty() {
        return Ok(());
    }
    writeln!(page, "## Packets that carry no call\n")?;
    let names = [
        "wire",
        "body",
        "sender",
        "frames/s",
        "Gbit/s",
        "read",
        "dropped",
        "ns/frame",
        "of them user",
        "sender ns/frame",
        "MB without the ring",
    ];
    table(page, &names)?;
    for (row, _) in &session.packets {
        writeln!(
            page,
            "| {} | {} | {} | {:.0} | {:.2} | {} of {} | {} | {:.0} | {:.0} | {:.0} | {:.0} |",
            row.wire,
            row.body_bytes,
            row.sender.name(),
            row.frames_per_second,
            row.gbit_per_second,
            row.received,
            row.frames,
            row.dropped,
            row.cpu_nanos_per_frame,
            row.user_nanos_per_frame,
            row.sender_nanos_per_frame,
            row.memory_beside_ring_bytes as f64 / 1e6,
        )?;
    }
    writeln!(page)?;
    Ok(())
}

fn readings(page: &mut String, session: &Session) -> Result<()> {
    if session.readings.is_empty() {
        return Ok(());
    }
    writeln!(page, "## Reading capture files\n")?;
    let names = [
        "program",
        "body",
        "calls",
        "file MB",
        "found",
        "CPU µs/call",
        "seconds",
        "peak MB",
        "version",
    ];
    table(page, &names)?;
    for (row, _) in &session.readings {
        writeln!(
            page,
            "| {} | {} | {} | {:.0} | {} | {:.2} | {:.2} | {:.0} | {} |",
            row.program,
            row.body_bytes,
            row.calls,
            row.file_bytes as f64 / 1e6,
            row.found,
            row.cpu_micros_per_call,
            row.wall_seconds,
            row.resident_peak_bytes as f64 / 1e6,
            row.version,
        )?;
    }
    writeln!(page)?;
    Ok(())
}

fn encoders(page: &mut String, session: &Session) -> Result<()> {
    if session.encoders.is_empty() {
        return Ok(());
    }
    writeln!(page, "## Encoders of bundles\n")?;
    writeln!(
        page,
        "On the lines of this traffic, by CPU time; `fast` is the default for bundles. Encoders alternate within a round: \
         the last column is the median over the rounds.\n"
    )?;
    table(
        page,
        &[
            "lines",
            "bytes a line",
            "encoder",
            "ratio",
            "MB/s",
            "times libdeflate 1",
        ],
    )?;
    for (row, _) in &session.encoders {
        writeln!(
            page,
            "| {} | {} | {} | {:.2} | {:.0} ({:.0}-{:.0}) | {} |",
            row.lines,
            row.line_bytes,
            row.encoder,
            row.ratio,
            row.megabytes_per_second,
            row.megabytes_per_second_least,
            row.megabytes_per_second_most,
            row.times_libdeflate_1
                .map_or(String::new(), |times| format!("{times:.2}")),
        )?;
    }
    writeln!(page)?;
    Ok(())
}
