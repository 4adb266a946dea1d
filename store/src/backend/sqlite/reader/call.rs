//! One call.

use anyhow::Context as _;
use rusqlite::{Connection, OptionalExtension};

use super::super::block::{Block, HEAD, Head, Number, signed};
use super::super::chunk;
use super::super::judge::{Senders, columns};
use super::super::place::Place;
use crate::call::{Call, Summary};
use crate::line::{self, Columns};

/// A row of the list.
pub(super) fn summary(place: Place, call: Columns) -> Summary {
    Summary::of(place.id(), call)
}

/// The block that has a call, and its row there.
fn find(connection: &Connection, arrival: u64) -> anyhow::Result<Option<(Head, usize)>> {
    let mut select = connection.prepare_cached(&format!(
        "SELECT {HEAD} FROM blocks WHERE first <= ?1 ORDER BY first DESC LIMIT 1"
    ))?;
    let head = select.query_row([signed(arrival)], Head::read).optional()?;
    let Some(head) = head.filter(|head| arrival <= head.last) else {
        return Ok(None);
    };
    let arrivals = Block::new(connection, &head).numbers(Number::Arrival)?;
    let row = (0..head.rows).find(|&row| head.arrival(&arrivals, row) == arrival);
    Ok(row.map(|row| (head, row)))
}

/// The place of a call in the list.
pub(super) fn place(connection: &Connection, arrival: u64) -> anyhow::Result<Option<Place>> {
    let Some((head, row)) = find(connection, arrival)? else {
        return Ok(None);
    };
    let time_ms = Block::new(connection, &head).number(Number::Time, row)?;
    Ok(time_ms.map(|time_ms| Place { time_ms, arrival }))
}

/// One call with its line.
pub(super) fn call(connection: &Connection, arrival: u64) -> anyhow::Result<Option<Call>> {
    let snapshot = connection.unchecked_transaction()?;
    let Some((head, row)) = find(&snapshot, arrival)? else {
        return Ok(None);
    };
    let block = Block::new(&snapshot, &head);
    let columns = columns(&block, &Senders::new(), row)?;
    let line = chunk::line(&snapshot, arrival)?.context("the line of a call is missing")?;
    let details = line::details(&line)
        .context("a stored line")?
        .into_iter()
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect();
    let place = Place {
        time_ms: columns.time_ms,
        arrival,
    };
    Ok(Some(Call {
        summary: summary(place, columns),
        details,
        line,
    }))
}
