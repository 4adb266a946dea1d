//! The list, the live list, and calls by their ids.

use std::collections::HashMap;
use std::time::Instant;

use super::reader::{Partial, Reader};
use super::row::{Identity, Row, selected};
use super::scan::{Scan, is_late, matches};
use super::sql::{Condition, within};
use crate::backend::Failure;
use crate::call::{Arrival, Arrived, Call, CallId, Page, Query};
use crate::filter::Filter;
use crate::limits::{CLICKHOUSE_QUERY_TIME_MAX, EXPORT_CHUNK_BYTES, LIST_BYTES_MAX};

/// Calls with their lines that one statement reads.
const CALLS_AT_ONCE: usize = 32;

/// What an id is of.
pub(super) fn identity(id: &CallId) -> Result<Identity, Failure> {
    Identity::parse(id.as_str()).ok_or_else(|| {
        Failure::Invalid(format!(
            "{id} is not an id of this store: its ids have a time, a bundle and a line"
        ))
    })
}

impl Reader {
    pub(super) async fn list(&self, query: Query) -> Result<Page, Failure> {
        let before = query.before.as_ref().map(identity).transpose()?;
        let after = query.after.as_ref().map(identity).transpose()?;
        let start = Instant::now();
        let newest = self.tail.newest();
        let mut partial = Partial::default();
        let days = self.days(&mut partial).await?;
        let mut coverage = self.coverage(query.range, &days, &mut partial).await?;
        let mut scan = Scan::new(query.filter, query.range, (before, after), days);
        let mut found: Vec<Row> = Vec::new();
        let mut timed_out = false;
        while !scan.is_done() && found.len() <= query.limit {
            if is_late(start) {
                timed_out = true;
                break;
            }
            let wanted = query.limit + 1 - found.len();
            found.extend(scan.next(self, wanted, &mut partial).await?);
        }
        let mut calls = Vec::new();
        let mut bytes = 0;
        let mut next = timed_out.then(|| scan.place());
        let mut last = None;
        for row in found {
            if calls.len() >= query.limit || bytes >= LIST_BYTES_MAX {
                next = last;
                timed_out = false;
                break;
            }
            last = Some(row.at);
            let call = row.summary();
            bytes += call.text_bytes();
            calls.push(call);
        }
        if timed_out {
            coverage.progress = scan.progress();
            partial
                .0
                .get_or_insert("the time for one search ran out".into());
        }
        coverage.partial = partial.0;
        Ok(Page {
            calls,
            next: next.map(Identity::id),
            timed_out,
            newest,
            coverage,
        })
    }

    pub(super) async fn call(&self, id: CallId) -> Result<Option<Call>, Failure> {
        Ok(self.calls(vec![id]).await?.into_iter().flatten().next())
    }

    pub(super) async fn calls(&self, ids: Vec<CallId>) -> Result<Vec<Option<Call>>, Failure> {
        let places = ids.iter().map(identity).collect::<Result<Vec<_>, _>>()?;
        let mut calls = Vec::new();
        let mut bytes = 0;
        // Those of an export are neighbours, whose lines are as long as those before.
        let mut at_once = 1;
        while let (true, Some(rest)) = (bytes < EXPORT_CHUNK_BYTES, places.get(calls.len()..))
            && !rest.is_empty()
        {
            let wanted = &rest[..at_once.min(rest.len())];
            let mut rows = self.rows(wanted).await?;
            for at in wanted {
                if bytes >= EXPORT_CHUNK_BYTES {
                    break;
                }
                let call = rows.remove(at).map(Row::call);
                bytes += call.as_ref().map_or(0, |call| call.line.len());
                calls.push(call);
            }
            at_once = CALLS_AT_ONCE;
        }
        Ok(calls)
    }

    async fn rows(&self, places: &[Identity]) -> Result<HashMap<Identity, Row>, Failure> {
        let times = places.iter().map(|at| at.time_ms);
        let (Some(first), Some(last)) = (times.clone().min(), times.max()) else {
            return Ok(HashMap::new());
        };
        let all: Vec<_> = places
            .iter()
            .map(|at| {
                format!(
                    "(time = {} AND bundle = {} AND line_no = {})",
                    at.time_ms, at.bundle, at.line_no
                )
            })
            .collect();
        let sql = format!(
            "SELECT {} FROM calls PREWHERE {} AND ({}) FORMAT RowBinary",
            selected(false, "line"),
            within(Some(first), Some(last.saturating_add(1))),
            all.join(" OR ")
        );
        let answer = self
            .ask(&sql, CLICKHOUSE_QUERY_TIME_MAX, &mut Partial::default())
            .await?;
        let rows = Row::read_all(&answer)?.into_iter();
        Ok(rows.map(|row| (row.at, row)).collect())
    }

    pub(super) async fn arrived(&self, after: Arrival, filter: Filter) -> Result<Arrived, Failure> {
        let Some(behind) = self.tail.behind(&after) else {
            return Err(Failure::Invalid(format!(
                "{after} is not a place in the stream of this store"
            )));
        };
        let mut arrived = Arrived {
            newest: behind.newest,
            calls: None,
            count: behind.count,
        };
        let Some(bundles) = behind.bundles else {
            return Ok(arrived);
        };
        let (Some(first), Some(last)) = (
            bundles.iter().map(|of| of.first_ms).min(),
            bundles.iter().map(|of| of.last_ms).max(),
        ) else {
            arrived.calls = Some(Vec::new());
            return Ok(arrived);
        };
        let condition = Condition::of(&filter);
        let numbers: Vec<_> = bundles.iter().map(|of| of.bundle.to_string()).collect();
        let sql = format!(
            "SELECT {} FROM calls PREWHERE {} AND bundle IN ({}) WHERE {} FORMAT RowBinary",
            selected(!condition.is_exact, &condition.line()),
            within(Some(first), Some(last.saturating_add(1))),
            numbers.join(", "),
            condition.sql
        );
        let mut partial = Partial::default();
        let answer = self
            .ask(&sql, CLICKHOUSE_QUERY_TIME_MAX, &mut partial)
            .await?;
        let order: HashMap<u64, usize> = bundles
            .iter()
            .enumerate()
            .map(|(index, of)| (of.bundle, index))
            .collect();
        let mut rows = Row::read_all(&answer)?;
        rows.retain(|row| condition.is_exact || matches(&filter, row));
        rows.sort_by_key(|row| {
            let place = (order.get(&row.at.bundle), row.at.line_no);
            std::cmp::Reverse((place.0.copied(), place.1))
        });
        rows.dedup_by_key(|row| row.at);
        let calls: Vec<_> = rows.into_iter().map(Row::summary).collect();
        let bytes: usize = calls.iter().map(crate::call::Summary::text_bytes).sum();
        if bytes <= LIST_BYTES_MAX {
            arrived.calls = Some(calls);
        }
        Ok(arrived)
    }
}
