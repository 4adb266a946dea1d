//! Calls with their lines.

use anyhow::Context as _;
use rusqlite::{Connection, OptionalExtension};

use super::super::block::{Block, HEAD, Head, Number, signed};
use super::super::chunk::{Chunk, Packed};
use super::super::place::Place;
use crate::call::{Call, Summary};
use crate::limits::EXPORT_CHUNK_BYTES;
use crate::line::{self, Columns};

/// A row of the list.
pub(super) fn summary(place: Place, call: Columns) -> Summary {
    Summary::of(place.id(), call)
}

/// The block that has a call.
fn find(connection: &Connection, arrival: u64) -> rusqlite::Result<Option<Head>> {
    let mut select = connection.prepare_cached(&format!(
        "SELECT {HEAD} FROM blocks WHERE first <= ?1 ORDER BY first DESC LIMIT 1"
    ))?;
    let head = select.query_row([signed(arrival)], Head::read).optional()?;
    Ok(head.filter(|head| arrival <= head.last))
}

/// The row of a call in a block that may have it.
fn row_of(block: &Block<'_>, arrival: u64) -> anyhow::Result<Option<usize>> {
    let head = block.head;
    let arrivals = block.numbers(Number::Arrival)?;
    // A row has at least the number of the first and its own place.
    let end = usize::try_from(arrival.saturating_sub(head.first)).unwrap_or(usize::MAX);
    let mut rows = (0..head.rows.min(end.saturating_add(1))).rev();
    let row = rows.find(|&row| head.arrival(&arrivals, row) <= arrival);
    Ok(row.filter(|&row| head.arrival(&arrivals, row) == arrival))
}

/// The place of a call in the list.
pub(super) fn place(connection: &Connection, arrival: u64) -> anyhow::Result<Option<Place>> {
    let Some(head) = find(connection, arrival)? else {
        return Ok(None);
    };
    let block = Block::new(connection, &head);
    let Some(row) = row_of(&block, arrival)? else {
        return Ok(None);
    };
    let time_ms = block.number(Number::Time, row)?;
    Ok(time_ms.map(|time_ms| Place { time_ms, arrival }))
}

/// One call with its line.
pub(super) fn call(connection: &Connection, arrival: u64) -> anyhow::Result<Option<Call>> {
    Ok(calls(connection, &[arrival])?.into_iter().flatten().next())
}

/// Calls with their lines; none for one that is not there. Those beyond [`EXPORT_CHUNK_BYTES`] are left out, but not the first.
///
/// Neighbours are in the same block and the same chunk, each of which is read once.
pub(super) fn calls(
    connection: &Connection,
    arrivals: &[u64],
) -> anyhow::Result<Vec<Option<Call>>> {
    let snapshot = connection.unchecked_transaction()?;
    let mut chunk = Chunk::default();
    let mut calls = Vec::with_capacity(arrivals.len());
    let mut bytes = 0;
    while let Some(&first) = arrivals.get(calls.len())
        && bytes < EXPORT_CHUNK_BYTES
    {
        let Some(head) = find(&snapshot, first)? else {
            calls.push(None);
            continue;
        };
        let block = Block::new(&snapshot, &head);
        while let Some(&arrival) = arrivals.get(calls.len())
            && (head.first..=head.last).contains(&arrival)
            && (bytes < EXPORT_CHUNK_BYTES || calls.is_empty())
        {
            let Some(row) = row_of(&block, arrival)? else {
                calls.push(None);
                continue;
            };
            if !chunk.covers(arrival) {
                let packed = Packed::of(&snapshot, arrival)?;
                chunk = packed.context("the line of a call is missing")?.unpack()?;
            }
            let line = chunk
                .line(arrival)
                .context("the line of a call is missing")?;
            let details = line::details(line)
                .context("a stored line")?
                .into_iter()
                .map(|(name, value)| (name.into_owned(), value.into_owned()))
                .collect();
            let columns = block.listed(row)?;
            let place = Place {
                time_ms: columns.time_ms,
                arrival,
            };
            bytes += line.len();
            calls.push(Some(Call {
                summary: summary(place, columns),
                details,
                line: line.to_owned(),
            }));
        }
    }
    Ok(calls)
}
