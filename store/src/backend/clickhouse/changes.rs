//! What is deleted, by a filter and beyond the retention, and the ledgers of sniffers.
//!
//! Whole days are dropped as partitions. A part of one is deleted by a mutation, for which the server writes the day again, so the
//! bound of calls is exceeded by a twentieth before that. Every store may do so, and no two do harm. What is deleted is counted by
//! the minute of its time, for the coverage of answers.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::binary::Reader as Binary;
use super::client::Error;
use super::list::identity;
use super::reader::{DAY_MS, Day, Partial, Reader};
use super::row::Identity;
use super::scan::{Scan, is_late};
use super::sql::{Condition, literal, within};
use crate::backend::{Expired, Failure, Retention};
use crate::call::{Arrival, CallId, DeleteQuery, Deleted, SenderTotals, Totals};
use crate::clock::{MINUTE_MS, minute, unix_ms};
use crate::ledger::Ledger;
use crate::limits::{
    CLICKHOUSE_DELETE_ROWS_MAX, CLICKHOUSE_INSERT_TIME_MAX, CLICKHOUSE_MUTATION_WAIT,
    CLICKHOUSE_QUERY_TIME_MAX, SENDERS_SHOWN,
};
use crate::sender::Sender;

/// Under this name the losses have what was deleted on request, which is no loss.
pub(super) const DELETED: &str = "#deleted";

/// And under this one what the retention deleted.
pub(super) const EXPIRED: &str = "expired";

/// Part of the bound by which it is exceeded before calls of a day are deleted.
const SLACK_DIVISOR: u64 = 20;

/// Pause between two looks at a mutation.
const MUTATION_PAUSE: Duration = Duration::from_millis(50);

fn order(
    Identity {
        time_ms,
        bundle,
        line_no,
    }: Identity,
) -> String {
    format!(
        "(time < {time_ms} OR (time = {time_ms} AND (bundle < {bundle} OR (bundle = {bundle} AND line_no <= {line_no}))))"
    )
}

impl Reader {
    pub(super) async fn delete(&self, query: DeleteQuery) -> Result<Deleted, Failure> {
        let mut partial = Partial::default();
        let before = match &query.after {
            Some(place) => {
                let id = CallId::try_from(place.as_str().to_owned());
                let id = id.map_err(|error| Failure::Invalid(error.to_string()))?;
                Some(identity(&id)?)
            }
            None => None,
        };
        let condition = Condition::of(&query.filter);
        let days = self.days(&mut partial).await?;
        let (deleted, next) = if condition.is_exact {
            let range = within(query.range.from_ms, query.range.to_ms);
            let filter = format!("{range} AND ({})", condition.sql);
            (self.delete_where(&filter, DELETED).await?, None)
        } else {
            let start = Instant::now();
            let mut scan = Scan::new(query.filter, query.range, (before, None), days);
            let mut found = Vec::new();
            while !scan.is_done() && !is_late(start) && found.len() < CLICKHOUSE_DELETE_ROWS_MAX {
                let rows = scan
                    .next(self, CLICKHOUSE_DELETE_ROWS_MAX, &mut partial)
                    .await?;
                found.extend(rows.into_iter().map(|row| row.at));
            }
            let next = (!scan.is_done()).then(|| scan.place());
            let mut deleted = 0;
            if let (Some(last), Some(first)) = (found.first(), found.last()) {
                let all: Vec<_> = found
                    .iter()
                    .map(|at| format!("({}, {}, {})", at.time_ms, at.bundle, at.line_no))
                    .collect();
                let range = within(Some(first.time_ms), Some(last.time_ms.saturating_add(1)));
                let filter = format!(
                    "{range} AND (time, bundle, line_no) IN ({})",
                    all.join(", ")
                );
                deleted = self.delete_where(&filter, DELETED).await?;
            }
            (deleted, next)
        };
        if let Some(reason) = partial.0 {
            return Err(Failure::Unavailable(reason));
        }
        let next = next.map(|place| Arrival::try_from(place.id().to_string()));
        Ok(Deleted {
            calls: deleted,
            next: next.and_then(Result::ok),
        })
    }

    /// Counts the calls of a condition as missing, and deletes them; how many. They are gone when this returns.
    async fn delete_where(&self, condition: &str, cause: &str) -> Result<u64, Failure> {
        let sql = format!("SELECT count() FROM calls WHERE {condition} FORMAT RowBinary");
        let mut partial = Partial::default();
        let answer = self
            .ask(&sql, CLICKHOUSE_QUERY_TIME_MAX, &mut partial)
            .await?;
        let calls = Binary(&answer).u64()?;
        if calls == 0 {
            return Ok(0);
        }
        self.count_as(condition, cause).await?;
        let names = &self.names;
        let statement = format!(
            "ALTER TABLE {}{} DELETE WHERE {condition}",
            names.local("calls"),
            names.everywhere()
        );
        self.change(statement).await?;
        let undone = format!(
            "SELECT count() FROM {} WHERE database = {} AND table = {} AND NOT is_done FORMAT RowBinary",
            names.system("mutations"),
            literal(&names.database),
            literal(&names.local("calls"))
        );
        let end = Instant::now() + CLICKHOUSE_MUTATION_WAIT;
        loop {
            let answer = self
                .ask(&undone, CLICKHOUSE_QUERY_TIME_MAX, &mut partial)
                .await?;
            if Binary(&answer).u64()? == 0 {
                self.forget_held();
                return Ok(calls);
            }
            if Instant::now() >= end {
                return Err(Failure::Unavailable(
                    "the server is still deleting; try again later".into(),
                ));
            }
            sleep(MUTATION_PAUSE).await;
        }
    }

    async fn count_as(&self, condition: &str, cause: &str) -> Result<(), Failure> {
        let statement = format!(
            "INSERT INTO losses (minute, cause, appliance, sender, vni, calls)
             SELECT intDiv(time, {MINUTE_MS}) AS m, {} AS c, appliance AS a, sender AS s, toInt64(-1) AS v, count() AS n
             FROM calls WHERE {condition} GROUP BY m, a, s",
            literal(cause)
        );
        self.change(statement).await
    }

    async fn change(&self, statement: String) -> Result<(), Failure> {
        let mut settings = vec![("distributed_ddl_task_timeout", "10")];
        if self.names.cluster.is_some() {
            settings.push(("insert_distributed_sync", "1"));
        }
        let changed = self
            .client
            .write(
                None,
                statement.into(),
                &settings,
                CLICKHOUSE_INSERT_TIME_MAX * 2,
            )
            .await;
        match changed {
            Ok(_) => Ok(()),
            // Servers that are away do it when they return.
            Err(Error::Server(159, _)) if self.names.cluster.is_some() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn drop_day(&self, day: Day) -> Result<u64, Failure> {
        let from = day.number.saturating_mul(DAY_MS);
        self.count_as(
            &within(Some(from), Some(from.saturating_add(DAY_MS))),
            EXPIRED,
        )
        .await?;
        let names = &self.names;
        let statement = format!(
            "ALTER TABLE {}{} DROP PARTITION {}",
            names.local("calls"),
            names.everywhere(),
            day.number
        );
        self.change(statement).await?;
        self.forget_held();
        Ok(day.calls)
    }

    pub(super) async fn expire(&self, retention: Retention) -> Result<Expired, Failure> {
        let mut partial = Partial::default();
        let days = self.days(&mut partial).await?;
        let nothing = Expired {
            calls: 0,
            is_more: false,
        };
        // Not all calls are known.
        let (Some(&oldest), None) = (days.first(), &partial.0) else {
            return Ok(nothing);
        };
        let some = |calls| Expired {
            calls,
            is_more: true,
        };
        if let Some(age) = retention.age_max {
            let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
            let end = (oldest.number + 1).saturating_mul(DAY_MS);
            if end <= unix_ms().saturating_sub(age) {
                return Ok(some(self.drop_day(oldest).await?));
            }
        }
        let calls: u64 = days.iter().map(|day| day.calls).sum();
        let bytes: u64 = days.iter().map(|day| day.bytes).sum();
        let excess = calls.saturating_sub(retention.calls_max);
        // The part of the oldest day that the bytes beyond the bound take.
        let bytes_excess = bytes.saturating_sub(retention.database_bytes_max);
        let of_bytes = bytes_excess.saturating_mul(oldest.calls) / oldest.bytes.max(1);
        let is_beyond = |excess: u64, bound: u64| excess > 0 && excess >= bound / SLACK_DIVISOR;
        let excess = match (
            is_beyond(excess, retention.calls_max),
            is_beyond(bytes_excess, retention.database_bytes_max),
        ) {
            (false, false) => return Ok(nothing),
            (true, false) => excess,
            (false, true) => of_bytes,
            (true, true) => excess.max(of_bytes),
        };
        if excess == 0 {
            return Ok(nothing);
        }
        if excess >= oldest.calls {
            return Ok(some(self.drop_day(oldest).await?));
        }
        let from = oldest.number.saturating_mul(DAY_MS);
        let of_day = within(Some(from), Some(from.saturating_add(DAY_MS)));
        let sql = format!(
            "SELECT time, bundle, line_no FROM calls PREWHERE {of_day} ORDER BY time, bundle, line_no LIMIT 1 OFFSET {} FORMAT RowBinary",
            excess - 1
        );
        let answer = self
            .ask(&sql, CLICKHOUSE_MUTATION_WAIT, &mut partial)
            .await?;
        let mut reader = Binary(&answer);
        let last = Identity {
            time_ms: reader.i64()?,
            bundle: reader.u64()?,
            line_no: reader.u32()?,
        };
        let condition = format!("{of_day} AND {}", order(last));
        Ok(some(self.delete_where(&condition, EXPIRED).await?))
    }

    /// Takes a ledger; the last one of the same run is compared with it.
    pub(super) async fn record_ledger(
        &self,
        sender: Sender,
        mut ledger: Ledger,
    ) -> Result<(), Failure> {
        let now_ms = unix_ms();
        let sender = sender.to_string();
        let of = format!(
            "sender = {} AND appliance = {} AND run = {}",
            literal(&sender),
            literal(&ledger.appliance),
            literal(&ledger.run)
        );
        let sql = format!(
            "SELECT data FROM ledgers WHERE {of} ORDER BY updated_ms DESC LIMIT 1 FORMAT RowBinary"
        );
        let mut partial = Partial::default();
        let answer = self
            .ask(&sql, CLICKHOUSE_QUERY_TIME_MAX, &mut partial)
            .await?;
        if let Some(reason) = partial.0 {
            // Losses of a run of which not all is known would count again.
            return Err(Failure::Unavailable(reason));
        }
        let mut reader = Binary(&answer);
        let before = match reader.has_more() {
            true => serde_json::from_str(&reader.text()?).ok(),
            false => None,
        };
        let grown = ledger.replace(before.unwrap_or_default());
        let data = serde_json::to_string(&ledger)
            .map_err(|error| Failure::Unavailable(error.to_string()))?;
        let mut rows: Vec<_> = grown
            .iter()
            .map(|(cause, calls)| {
                format!(
                    "({}, {}, {}, {}, -1, {calls})",
                    minute(now_ms),
                    literal(cause),
                    literal(&ledger.appliance),
                    literal(&sender)
                )
            })
            .collect();
        let statement = format!(
            "INSERT INTO ledgers (sender, appliance, run, updated_ms, data) VALUES ({}, {}, {}, {now_ms}, {})",
            literal(&sender),
            literal(&ledger.appliance),
            literal(&ledger.run),
            literal(&data)
        );
        if !rows.is_empty() {
            rows.sort();
            let losses = format!(
                "INSERT INTO losses (minute, cause, appliance, sender, vni, calls) VALUES {}",
                rows.join(", ")
            );
            self.change(losses).await?;
        }
        self.change(statement).await
    }

    pub(super) async fn totals(&self) -> Result<Totals, Failure> {
        let mut partial = Partial::default();
        let names = &self.names;
        let days = self.days(&mut partial).await?;
        let sql = format!(
            "SELECT what, number FROM (
                 SELECT cause AS what, sum(calls) AS number FROM losses WHERE cause IN ({}, {}) GROUP BY cause
                 UNION ALL SELECT '#bundles' AS what, sum(bundles_sum) AS number FROM minutes
                 UNION ALL SELECT '#bad' AS what, sum(bad_lines_sum) AS number FROM minutes
                 UNION ALL SELECT '#bytes' AS what, toUInt64(sum(bytes_on_disk)) AS number FROM {} WHERE active AND database = {}
             ) FORMAT RowBinary",
            literal(DELETED),
            literal(EXPIRED),
            names.system("parts"),
            literal(&names.database)
        );
        let senders = format!(
            "SELECT sender, count(), sum(toUInt64(line_bytes)) FROM calls GROUP BY sender ORDER BY count() DESC, sender LIMIT {SENDERS_SHOWN} FORMAT RowBinary"
        );
        let expired = format!(
            "SELECT sender, sum(calls) FROM losses WHERE cause = {} GROUP BY sender ORDER BY sum(calls) DESC, sender LIMIT {SENDERS_SHOWN} FORMAT RowBinary",
            literal(EXPIRED)
        );
        let mut others = [Partial::default(), Partial::default()];
        let [of_senders, of_expired] = &mut others;
        let (numbers, senders, expired) = tokio::join!(
            self.ask(&sql, CLICKHOUSE_QUERY_TIME_MAX, &mut partial),
            self.ask(&senders, CLICKHOUSE_QUERY_TIME_MAX, of_senders),
            self.ask(&expired, CLICKHOUSE_QUERY_TIME_MAX, of_expired),
        );
        let (numbers, senders, expired) = (numbers?, senders?, expired?);
        let mut totals = Totals {
            calls: days.iter().map(|day| day.calls).sum(),
            ..Totals::default()
        };
        let mut reader = Binary(&numbers);
        while reader.has_more() {
            let (what, number) = (reader.text()?, reader.u64()?);
            match what.as_str() {
                DELETED => totals.calls_deleted = number,
                EXPIRED => totals.calls_expired = number,
                "#bundles" => totals.bundles_received = number,
                "#bad" => totals.bad_lines = number,
                _ => totals.database_bytes = number,
            }
        }
        totals.calls_received = totals.calls + totals.calls_expired + totals.calls_deleted;
        let mut reader = Binary(&senders);
        while reader.has_more() {
            totals.senders.push(SenderTotals {
                sender: reader.text()?,
                calls: reader.u64()?,
                bytes: reader.u64()?,
                expired: 0,
            });
        }
        let mut reader = Binary(&expired);
        while reader.has_more() {
            let (sender, expired) = (reader.text()?, reader.u64()?);
            let mut known = totals.senders.iter_mut();
            if let Some(of) = known.find(|of| of.sender == sender) {
                of.expired = expired;
            } else if (totals.senders.len() as u64) < SENDERS_SHOWN {
                // All of its calls are gone.
                totals.senders.push(SenderTotals {
                    sender,
                    calls: 0,
                    bytes: 0,
                    expired,
                });
            }
        }
        Ok(totals)
    }
}
