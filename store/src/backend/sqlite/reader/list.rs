//! The list and the live list.
//!
//! Blocks are examined in the order of their newest call. A call is in its place once no block is left that may have a newer one,
//! so a page is complete after few blocks, and blocks of late calls, which overlap others, cost no more than being looked at.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use rusqlite::Connection;

use super::super::block::{Block, HEAD, Head, Number, signed};
use super::super::database::newest;
use super::super::gate::Gate;
use super::super::heads::Heads;
use super::super::judge::{Senders, Verdict, judge, search, senders};
use super::super::place::{Place, Places};
use super::call::summary;
use super::coverage::coverage;
use crate::call::{Arrived, Page, Query, Range, Summary};
use crate::filter::Filter;
use crate::limits::{LIST_BYTES_MAX, SEARCH_TIME_MAX, STREAM_BEHIND_MAX};

pub(super) fn list(
    connection: &Connection,
    gate: &Gate,
    heads: &Heads,
    query: Query,
    places: Places,
) -> anyhow::Result<Page> {
    let mut search = Listing {
        filter: query.filter,
        range: query.range,
        places,
        limit: query.limit,
        start: Instant::now(),
        rows_left: 0,
        rows_examined: 0,
        found: Vec::new(),
    };
    let mut answer = None;
    loop {
        let _inside = gate.enter();
        // One snapshot for all statements: `newest` must not lie behind a call that the list did not examine.
        let snapshot = connection.unchecked_transaction()?;
        let newest = match answer {
            Some(first) => first,
            None => newest(&snapshot)?,
        };
        let end = search.examine(&snapshot, gate, heads)?;
        if let End::Paused = end {
            // Blocks may be merged meanwhile, and calls may arrive, but none are listed behind `newest`.
            answer = Some(newest);
            continue;
        }
        let mut coverage = coverage(&snapshot, heads, query.range)?;
        let (calls, next) = search.page(end);
        let timed_out = matches!(end, End::TimedOut(_));
        coverage.progress = search.progress(end);
        if timed_out {
            coverage.partial = Some("the time for one search ran out".into());
        }
        return Ok(Page {
            calls,
            next: next.map(Place::id),
            timed_out,
            newest: newest.into(),
            coverage,
        });
    }
}

/// How a round of examining ended.
#[derive(Clone, Copy, Debug)]
enum End {
    /// The page is full, or there is nothing left.
    Done,
    /// A checkpoint waits.
    Paused,
    /// All calls from here on were examined.
    TimedOut(Place),
}

struct Found {
    place: Place,
    block: usize,
    row: usize,
}

struct Listing {
    filter: Filter,
    range: Range,
    places: Places,
    limit: usize,
    start: Instant,
    rows_left: u64,
    rows_examined: u64,
    /// Calls of the present snapshot, newest first.
    found: Vec<(Place, Summary)>,
}

impl Listing {
    fn examine(
        &mut self,
        connection: &Connection,
        gate: &Gate,
        heads: &Heads,
    ) -> anyhow::Result<End> {
        let senders = senders(connection)?;
        let mut range = self.range;
        if let Some(before) = self.places.before {
            let to = before.time_ms.saturating_add(1);
            range.to_ms = Some(range.to_ms.map_or(to, |end| end.min(to)));
        }
        if let Some(after) = self.places.after {
            let from = after.time_ms;
            range.from_ms = Some(range.from_ms.map_or(from, |start| start.max(from)));
        }
        let mut heads = heads.of(connection, range)?;
        heads.sort_unstable_by_key(|head| Reverse((head.newest_ms(), head.last)));
        self.rows_left = heads.iter().map(|head| head.rows as u64).sum();
        let wanted = self.limit + 1;
        let mut found: Vec<Found> = Vec::new();
        let mut end = End::Done;
        for (index, head) in heads.iter().enumerate() {
            // Nothing in this block or behind it is newer than this.
            let bound = Place {
                time_ms: head.newest_ms(),
                arrival: u64::MAX,
            };
            let is_full = |found: &[Found], wanted: usize| {
                let last = wanted.checked_sub(1).and_then(|last| found.get(last));
                last.is_some_and(|last| last.place > bound)
            };
            let wanted = wanted.saturating_sub(self.found.len());
            if wanted == 0 || is_full(&found, wanted) {
                break;
            }
            let is_late = self.start.elapsed() > SEARCH_TIME_MAX;
            if index > 0 && (is_late || gate.is_closing()) {
                found.retain(|found| found.place > bound);
                let rest = Place {
                    time_ms: bound.time_ms.saturating_add(1),
                    arrival: 0,
                };
                self.places.before = Some(self.places.before.map_or(rest, |old| old.min(rest)));
                end = if is_late {
                    End::TimedOut(rest)
                } else {
                    End::Paused
                };
                break;
            }
            let block = Block::new(connection, head);
            self.add_matching(connection, &block, &senders, index, &mut found)?;
            found.sort_unstable_by_key(|found| Reverse(found.place));
            found.truncate(wanted);
            self.rows_left = self.rows_left.saturating_sub(head.rows as u64);
            self.rows_examined += head.rows as u64;
        }
        self.keep(connection, &heads, found)?;
        Ok(end)
    }

    fn add_matching(
        &self,
        connection: &Connection,
        block: &Block<'_>,
        senders: &Senders,
        index: usize,
        found: &mut Vec<Found>,
    ) -> anyhow::Result<()> {
        let verdicts = judge(block, senders, self.filter.expression())?;
        if verdicts.is_no() {
            return Ok(());
        }
        let times = block.numbers(Number::Time)?;
        let arrivals = block.numbers(Number::Arrival)?;
        let mut unknown = Vec::new();
        let place = |row: usize| Place {
            time_ms: times.get(row).copied().unwrap_or_default(),
            arrival: block.head.arrival(&arrivals, row),
        };
        for row in 0..block.rows() {
            let verdict = verdicts.of(row);
            if verdict == Verdict::No {
                continue;
            }
            let place = place(row);
            if !self.places.contain(place) || !self.range.contains(place.time_ms) {
                continue;
            }
            if verdict == Verdict::Unknown {
                unknown.push(row);
            } else {
                found.push(Found {
                    place,
                    block: index,
                    row,
                });
            }
        }
        for row in search(connection, block, senders, &self.filter, &unknown)? {
            found.push(Found {
                place: place(row),
                block: index,
                row,
            });
        }
        Ok(())
    }

    /// Reads the columns of what was found, which are of this snapshot.
    fn keep(
        &mut self,
        connection: &Connection,
        heads: &[Arc<Head>],
        found: Vec<Found>,
    ) -> anyhow::Result<()> {
        let mut of_block = BTreeMap::<usize, Vec<(Place, usize)>>::new();
        for Found { place, block, row } in found {
            of_block.entry(block).or_default().push((place, row));
        }
        let mut calls = Vec::new();
        for (index, rows) in of_block {
            let block = Block::new(connection, &heads[index]);
            for (place, row) in rows {
                calls.push((place, summary(place, block.listed(row)?)));
            }
        }
        calls.sort_unstable_by_key(|(place, _)| Reverse(*place));
        self.found.extend(calls);
        Ok(())
    }

    /// The calls of the page and where the next one begins.
    fn page(&mut self, end: End) -> (Vec<Summary>, Option<Place>) {
        let mut calls = Vec::new();
        let mut bytes = 0;
        let mut last = None;
        for (place, call) in self.found.drain(..) {
            if calls.len() >= self.limit || bytes >= LIST_BYTES_MAX {
                return (calls, last);
            }
            bytes += call.text_bytes();
            calls.push(call);
            last = Some(place);
        }
        let next = match end {
            End::TimedOut(rest) => Some(rest),
            End::Done | End::Paused => None,
        };
        (calls, next)
    }

    /// The part of the calls that was examined. A page that is full needs no more.
    fn progress(&self, end: End) -> f64 {
        let all = self.rows_examined + self.rows_left;
        match end {
            End::TimedOut(_) if all > 0 => self.rows_examined as f64 / all as f64,
            _ => 1.0,
        }
    }
}

pub(super) fn arrived(
    connection: &Connection,
    gate: &Gate,
    after: u64,
    filter: &Filter,
) -> anyhow::Result<Arrived> {
    let _inside = gate.enter();
    let snapshot = connection.unchecked_transaction()?;
    let newest = newest(&snapshot)?;
    let mut arrived = Arrived {
        newest: newest.into(),
        calls: None,
        // A place ahead of the newest call was written by another database.
        count: newest.checked_sub(after),
    };
    if arrived.count.is_none_or(|count| count > STREAM_BEHIND_MAX) {
        return Ok(arrived);
    }
    let mut select = snapshot.prepare_cached(&format!(
        "SELECT {HEAD} FROM blocks WHERE last > ?1 ORDER BY first DESC"
    ))?;
    let heads: Vec<Head> = select
        .query_map([signed(after)], Head::read)?
        .collect::<Result<_, _>>()?;
    let senders = senders(&snapshot)?;
    let start = Instant::now();
    let mut calls = Vec::new();
    let mut bytes = 0;
    for head in &heads {
        let block = Block::new(&snapshot, head);
        let verdicts = judge(&block, &senders, filter.expression())?;
        let arrivals = block.numbers(Number::Arrival)?;
        let is_new = |row: usize| head.arrival(&arrivals, row) > after;
        let of = |wanted| {
            let rows = (0..block.rows()).filter(move |&row| is_new(row));
            let verdicts = &verdicts;
            rows.filter(move |&row| verdicts.of(row) == wanted)
        };
        let mut rows = search(
            &snapshot,
            &block,
            &senders,
            filter,
            &of(Verdict::Unknown).collect::<Vec<_>>(),
        )?;
        rows.extend(of(Verdict::Yes));
        rows.sort_unstable();
        for row in rows.into_iter().rev() {
            let columns = block.listed(row)?;
            let place = Place {
                time_ms: columns.time_ms,
                arrival: head.arrival(&arrivals, row),
            };
            let call = summary(place, columns);
            bytes += call.text_bytes();
            calls.push(call);
            if bytes > LIST_BYTES_MAX || start.elapsed() > SEARCH_TIME_MAX {
                return Ok(arrived);
            }
        }
    }
    arrived.calls = Some(calls);
    Ok(arrived)
}
