//! What answers are based on.

use rusqlite::Connection;

use super::super::block::{Block, Head, MARK_MASKED, Number, unsigned};
use super::super::heads::Heads;
use crate::call::{Coverage, LossesAt, LossesBy, LossesQuery, Range};
use crate::clock::MINUTE_MS;

/// What an answer about a range is based on, as far as that does not depend on the query.
pub(super) fn coverage(
    connection: &Connection,
    heads: &Heads,
    range: Range,
) -> anyhow::Result<Coverage> {
    let heads = heads.of(connection, range)?;
    let mut coverage = Coverage {
        range,
        progress: 1.0,
        ..Coverage::default()
    };
    for head in &heads {
        let part = part_in(head, range);
        coverage.kept += part;
        if head.extent(Number::Marks).most >= MARK_MASKED && part > 0 {
            let block = Block::new(connection, head);
            let (marks, times) = (block.numbers(Number::Marks)?, block.numbers(Number::Time)?);
            let masked = marks
                .iter()
                .zip(&*times)
                .filter(|(mark, time)| **mark & MARK_MASKED != 0 && range.contains(**time));
            coverage.masked += masked.count() as u64;
        }
    }
    coverage.held_from_ms = connection
        .prepare_cached("SELECT min(oldest_ms) FROM blocks")?
        .query_row([], |row| row.get(0))?;
    let mut select = connection.prepare_cached(
        "SELECT cause, sum(calls) FROM losses WHERE minute >= ?1 AND minute <= ?2 GROUP BY cause",
    )?;
    let losses = select.query_map(<[i64; 2]>::from(range.minutes()), |row| {
        Ok((row.get(0)?, unsigned(row.get(1)?)))
    })?;
    coverage.lost = losses.collect::<Result<_, _>>()?;
    coverage.seen = coverage.kept + coverage.lost.values().sum::<u64>();
    Ok(coverage)
}

/// How many calls of a block are in a range, where it has some outside: estimated, as if they were spread evenly.
fn part_in(head: &Head, range: Range) -> u64 {
    let (oldest, newest) = (head.oldest_ms(), head.newest_ms());
    if range.covers(oldest, newest) {
        return head.rows as u64;
    }
    let from = range.from_ms.unwrap_or(oldest).max(oldest);
    let to = range
        .to_ms
        .map_or(newest, |to| to.saturating_sub(1))
        .min(newest);
    let all = (newest - oldest + 1).max(1) as f64;
    let part = (to.saturating_sub(from).saturating_add(1)).max(0) as f64 / all;
    (head.rows as f64 * part).round() as u64
}

/// The losses of a range by their values and points.
pub(super) fn losses(
    connection: &Connection,
    query: LossesQuery,
) -> rusqlite::Result<Vec<LossesAt>> {
    let value = match query.by {
        LossesBy::Cause => "cause",
        LossesBy::Appliance => "appliance",
        LossesBy::Vni => "iif(vni < 0, '', vni)",
    };
    let mut select = connection.prepare_cached(&format!(
        "SELECT CAST({value} AS TEXT) AS value, minute / ?3 AS point, sum(calls) FROM losses
         WHERE minute >= ?1 AND minute <= ?2 GROUP BY value, point ORDER BY value, point"
    ))?;
    let (first, last) = query.range.minutes();
    let step = (query.step_ms / MINUTE_MS).max(1);
    let rows = select.query_map([first, last, step], |row| {
        let point: i64 = row.get(1)?;
        Ok(LossesAt {
            value: row.get(0)?,
            time_ms: point.saturating_mul(step).saturating_mul(MINUTE_MS),
            calls: unsigned(row.get(2)?),
        })
    })?;
    rows.collect()
}
