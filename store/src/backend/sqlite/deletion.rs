//! Deletion of calls that match a filter: a person's data, those of a host.
//!
//! A round examines some blocks and is one transaction. Whoever asked goes on until all blocks that were there are examined.
//! What is deleted is overwritten in the file, and the log is emptied behind it. The counts by the minute stay: they have hosts
//! and endpoints, but no values of a call.

use super::block::{Block, HEAD, Head, Number, signed};
use super::database::{Database, count, integer};
use super::judge::{Verdict, judge, search, senders};
use super::place::number;
use super::retention;
use crate::call::{DeleteQuery, Deleted};
use crate::limits::DELETE_ROUND_BLOCKS;

/// One round.
pub(super) fn round(database: &mut Database, query: &DeleteQuery) -> anyhow::Result<Deleted> {
    let after = match &query.after {
        Some(place) => number(place.as_str()).unwrap_or_default(),
        None => 0,
    };
    database
        .connection
        .pragma_update(None, "secure_delete", true)?;
    let deleted = database.change(|transaction, parts| {
        let mut select = transaction.prepare_cached(&format!(
            "SELECT {HEAD} FROM blocks WHERE last > ?1 ORDER BY first LIMIT {DELETE_ROUND_BLOCKS}"
        ))?;
        let heads: Vec<Head> = select
            .query_map([signed(after)], Head::read)?
            .collect::<Result<_, _>>()?;
        let senders = senders(transaction)?;
        let mut calls = 0;
        for head in &heads {
            let block = Block::new(transaction, head);
            let verdicts = judge(&block, &senders, query.filter.expression())?;
            if verdicts.is_no() {
                continue;
            }
            let times = block.numbers(Number::Time)?;
            let arrivals = block.numbers(Number::Arrival)?;
            let of = |wanted| -> Vec<usize> {
                (0..head.rows)
                    .filter(|&row| verdicts.of(row) == wanted)
                    .filter(|&row| query.range.contains(times[row]))
                    .filter(|&row| head.arrival(&arrivals, row) > after)
                    .collect()
            };
            let unknown = of(Verdict::Unknown);
            let mut rows = search(transaction, &block, &senders, &query.filter, &unknown)?;
            rows.extend(of(Verdict::Yes));
            rows.sort_unstable();
            retention::remove(transaction, &mut parts.lines, &block, &rows, None)?;
            calls += rows.len();
        }
        count(transaction, "calls_deleted", integer(calls))?;
        let next = (heads.len() >= DELETE_ROUND_BLOCKS)
            .then(|| heads.last().map(|head| head.last.into()))
            .flatten();
        Ok(Deleted {
            calls: calls as u64,
            next,
        })
    });
    database
        .connection
        .pragma_update(None, "secure_delete", false)?;
    deleted
}
