//! Calls in the order of the list, read window by window of their time from the newest on.
//!
//! The first window is as long as a bucket of the table, each further one twice as long as the one before while that is fast, and
//! days without calls are left out: a page of frequent calls reads a bucket, a search goes on until its time is over. What SQL has
//! let through is examined here, with the line where the columns do not decide.

use std::time::{Duration, Instant};

use super::client::Error;
use super::reader::{DAY_MS, Day, Partial, Reader};
use super::row::{Identity, Row, selected};
use super::sql::{BUCKET_MS, Condition, within};
use crate::backend::Failure;
use crate::call::Range;
use crate::clock::unix_ms;
use crate::filter::Filter;
use crate::limits::{CLICKHOUSE_BATCH_ROWS, CLICKHOUSE_QUERY_TIME_MAX, SEARCH_TIME_MAX};

/// A window that took less is followed by a longer one.
const FAST: Duration = Duration::from_millis(500);

/// A walk over calls.
#[derive(Debug)]
pub(super) struct Scan {
    filter: Filter,
    condition: Condition,
    days: Vec<Day>,
    /// Only calls older than this one.
    before: Option<Identity>,
    /// Only calls newer than this one.
    after: Option<Identity>,
    /// No call before this.
    from_ms: i64,
    /// Calls from here on were examined; none before the first window.
    to_ms: Option<i64>,
    /// Where the walk began.
    top_ms: i64,
    width_ms: i64,
    batch: usize,
    is_done: bool,
    last: Option<Identity>,
}

impl Scan {
    pub(super) fn new(
        filter: Filter,
        range: Range,
        (before, after): (Option<Identity>, Option<Identity>),
        days: Vec<Day>,
    ) -> Self {
        let mut to_ms = range.to_ms;
        if let Some(before) = before {
            let end = before.time_ms.saturating_add(1);
            to_ms = Some(to_ms.map_or(end, |to| to.min(end)));
        }
        let oldest = days
            .first()
            .map_or(0, |day| day.number.saturating_mul(DAY_MS));
        let from_ms = range.from_ms.unwrap_or(0).max(oldest);
        let from_ms = from_ms.max(after.map_or(0, |after| after.time_ms)).max(0);
        let condition = Condition::of(&filter);
        let top_ms = to_ms.unwrap_or_else(unix_ms);
        Self {
            is_done: days.is_empty() || to_ms.is_some_and(|to| to <= from_ms),
            filter,
            condition,
            days,
            before,
            after,
            from_ms,
            to_ms,
            top_ms,
            width_ms: BUCKET_MS,
            batch: CLICKHOUSE_BATCH_ROWS,
            last: None,
        }
    }

    /// Whether all calls were examined.
    pub(super) fn is_done(&self) -> bool {
        self.is_done
    }

    /// The part of the time that was examined.
    pub(super) fn progress(&self) -> f64 {
        let all = (self.top_ms - self.from_ms).max(1) as f64;
        let rest = (self.to_ms.unwrap_or(self.top_ms) - self.from_ms).max(0) as f64;
        if self.is_done {
            1.0
        } else {
            (1.0 - rest / all).clamp(0.0, 1.0)
        }
    }

    /// Where another walk goes on: all calls that are newer were examined.
    pub(super) fn place(&self) -> Identity {
        let edge = Identity {
            time_ms: self.to_ms.unwrap_or(i64::MAX),
            bundle: 0,
            line_no: 0,
        };
        self.before.map_or(edge, |before| before.min(edge))
    }

    /// The oldest time that the next window has.
    fn window(&self) -> i64 {
        let end = self.to_ms.unwrap_or_else(unix_ms);
        // The newest day that has calls before the end.
        let newest = self
            .days
            .iter()
            .rev()
            .find(|day| day.number.saturating_mul(DAY_MS) < end);
        let end = newest.map_or(end, |day| end.min((day.number + 1).saturating_mul(DAY_MS)));
        end.saturating_sub(self.width_ms).max(self.from_ms)
    }

    /// The calls of the next window that match, newest first, of which about `wanted` are needed; a part of them where there are
    /// more, then the next call goes on in the same window.
    pub(super) async fn next(
        &mut self,
        reader: &Reader,
        wanted: usize,
        partial: &mut Partial,
    ) -> Result<Vec<Row>, Failure> {
        loop {
            let from_ms = self.window();
            let limit = match self.condition.is_exact {
                true => wanted.max(1),
                false => wanted.max(self.batch),
            };
            let limit = limit.min(self.batch.max(1));
            let start = Instant::now();
            let answer = reader
                .ask(
                    &self.sql(from_ms, limit),
                    CLICKHOUSE_QUERY_TIME_MAX,
                    partial,
                )
                .await;
            let answer = match answer {
                Ok(answer) => answer,
                Err(Error::TooLarge) if self.batch > 1 => {
                    self.batch = (limit / 4).max(1);
                    continue;
                }
                Err(error) if error.is_time_out() && self.width_ms > BUCKET_MS => {
                    self.width_ms = BUCKET_MS;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let rows = Row::read_all(&answer)?;
            let is_full = rows.len() >= limit;
            if is_full {
                self.before = rows.last().map(|row| row.at);
                self.to_ms = self.before.map(|before| before.time_ms.saturating_add(1));
            } else {
                self.to_ms = Some(from_ms);
                self.is_done = from_ms <= self.from_ms;
                if start.elapsed() < FAST {
                    self.width_ms = self.width_ms.saturating_mul(2);
                }
            }
            // One that is there twice until parts are merged has the same place.
            let mut matching = Vec::with_capacity(rows.len());
            for row in rows {
                let is_new = self.last.replace(row.at) != Some(row.at);
                if is_new && (self.condition.is_exact || matches(&self.filter, &row)) {
                    matching.push(row);
                }
            }
            return Ok(matching);
        }
    }

    fn sql(&self, from_ms: i64, limit: usize) -> String {
        let line = self.condition.line();
        let mut places = String::new();
        if let Some(Identity {
            time_ms,
            bundle,
            line_no,
        }) = self.before
        {
            places += &format!(
                " AND (time < {time_ms} OR (time = {time_ms} AND (bundle < {bundle} OR (bundle = {bundle} AND line_no < {line_no}))))"
            );
        }
        if let Some(Identity {
            time_ms,
            bundle,
            line_no,
        }) = self.after
        {
            places += &format!(
                " AND (time > {time_ms} OR (time = {time_ms} AND (bundle > {bundle} OR (bundle = {bundle} AND line_no > {line_no}))))"
            );
        }
        // All of it in PREWHERE: the other columns, the lines above all, are read only where a call matches.
        format!(
            "SELECT {} FROM calls PREWHERE {}{places} AND ({}) ORDER BY time DESC, bundle DESC, line_no DESC LIMIT {limit} FORMAT RowBinary",
            selected(!self.condition.is_exact, &line),
            within(Some(from_ms), self.to_ms),
            self.condition.sql
        )
    }
}

/// Whether a call matches, of which the line was read where it may be needed.
pub(super) fn matches(filter: &Filter, row: &Row) -> bool {
    filter
        .decide(&row.columns)
        .unwrap_or_else(|| filter.matches_known(&row.columns, &row.line))
}

/// Whether a search has to end.
pub(super) fn is_late(start: Instant) -> bool {
    start.elapsed() > SEARCH_TIME_MAX
}
