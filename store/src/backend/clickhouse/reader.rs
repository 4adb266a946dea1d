//! What all queries have in common: the connection, bounds, and what is known of the days that have calls.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::binary::Reader as Binary;
use super::client::{Client, Error, Settings};
use super::schema::Names;
use super::sql::{literal, within};
use super::tail::Tail;
use crate::backend::Failure;
use crate::call::{Coverage, Range};
use crate::clock::minute;
use crate::limits::{
    CLICKHOUSE_HELD_AGE, CLICKHOUSE_QUERY_MEMORY_MAX, CLICKHOUSE_QUERY_TIME_MAX,
    CLICKHOUSE_REPLICA_DELAY_MAX,
};

/// Bytes of a statement: lists of bundles are long.
pub(super) const QUERY_BYTES: &str = "4194304";

/// Milliseconds of a day, by which the table is divided.
pub(super) const DAY_MS: i64 = 86_400_000;

/// What answers queries. Clones are handles to the same one.
#[derive(Clone, Debug)]
pub(super) struct Reader {
    pub(super) client: Client,
    pub(super) names: Arc<Names>,
    pub(super) tail: Tail,
    pub(super) shards: usize,
    held: Arc<Mutex<Option<(Instant, i64)>>>,
}

/// A day that has calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Day {
    /// Since 1970.
    pub(super) number: i64,
    pub(super) calls: u64,
    pub(super) bytes: u64,
}

/// An answer, and why it may lack something.
#[derive(Clone, Debug, Default)]
pub(super) struct Partial(pub(super) Option<String>);

fn numbers(answer: &[u8]) -> Vec<u32> {
    let mut reader = Binary(answer);
    std::iter::from_fn(|| reader.u32().ok()).collect()
}

/// States that some shards do not answer.
fn named(missing: Vec<u32>, shards: usize) -> String {
    let names: Vec<_> = missing.iter().map(u32::to_string).collect();
    match names.as_slice() {
        // One that has come back meanwhile.
        [] => format!("not all of the {shards} shards answer"),
        [one] => format!("shard {one} of {shards} does not answer"),
        all => format!("shards {} of {shards} do not answer", all.join(", ")),
    }
}

impl Reader {
    pub(super) fn new(client: Client, names: Names, tail: Tail, shards: usize) -> Self {
        Self {
            client,
            names: Arc::new(names),
            tail,
            shards,
            held: Arc::default(),
        }
    }

    /// The answer to a query within its bounds. Where a shard has no replica that answers, it is that of the others.
    pub(super) async fn ask(
        &self,
        sql: &str,
        time: Duration,
        partial: &mut Partial,
    ) -> Result<Bytes, Error> {
        let seconds = time.as_secs().max(1).to_string();
        let memory = CLICKHOUSE_QUERY_MEMORY_MAX.to_string();
        let mut settings = vec![
            ("max_execution_time", seconds.as_str()),
            ("max_memory_usage", &memory),
            ("max_query_size", QUERY_BYTES),
        ];
        // The server looks at its clock between blocks.
        let wait = time + Duration::from_secs(2);
        let Some(cluster) = &self.names.cluster else {
            return self.client.read(sql.to_owned(), &settings, wait).await;
        };
        let delay = CLICKHOUSE_REPLICA_DELAY_MAX.as_secs().to_string();
        settings.push(("max_replica_delay_for_distributed_queries", &delay));
        if partial.0.is_some() {
            settings.push(("skip_unavailable_shards", "1"));
        }
        match self.client.read(sql.to_owned(), &settings, wait).await {
            Err(error) if error.is_of_missing_shard() => {
                settings.push(("skip_unavailable_shards", "1"));
                partial.0 = Some(self.missing(cluster, &error, &settings).await);
                self.client.read(sql.to_owned(), &settings, wait).await
            }
            answer => answer,
        }
    }

    /// Which shards do not answer: those that are not among the ones that do, or, of a server that has no numbers for these, the one
    /// with a replica that the error names.
    async fn missing(&self, cluster: &str, error: &Error, settings: Settings<'_>) -> String {
        let answering = format!(
            "SELECT DISTINCT _shard_num FROM cluster({}, system, one) FORMAT RowBinary",
            literal(cluster)
        );
        let wait = CLICKHOUSE_QUERY_TIME_MAX;
        let answering = self.client.read(answering, settings, wait).await;
        if let Ok(answering) = answering {
            let answering: HashSet<_> = numbers(&answering).into_iter().collect();
            let all = (1..).take(self.shards);
            return named(
                all.filter(|one| !answering.contains(one)).collect(),
                self.shards,
            );
        }
        let text = error.to_string();
        let replicas = format!(
            "SELECT shard_num FROM system.clusters WHERE cluster = {cluster} AND
             (position({text}, concat('(', host_name, ':', toString(port), ')')) > 0
              OR position({text}, concat('(', host_address, ':', toString(port), ')')) > 0)
             GROUP BY shard_num ORDER BY shard_num FORMAT RowBinary",
            cluster = literal(cluster),
            text = literal(&text),
        );
        let found = self.client.read(replicas, settings, wait).await;
        named(numbers(&found.unwrap_or_default()), self.shards)
    }

    /// The days that have calls, the oldest first.
    pub(super) async fn days(&self, partial: &mut Partial) -> Result<Vec<Day>, Failure> {
        let names = &self.names;
        let sql = format!(
            "SELECT partition, toUInt64(sum(rows)), toUInt64(sum(bytes_on_disk)) FROM {} WHERE active AND database = {} AND table = {}
             GROUP BY partition FORMAT RowBinary",
            names.system("parts"),
            literal(&names.database),
            literal(&names.local("calls"))
        );
        let answer = self.ask(&sql, CLICKHOUSE_QUERY_TIME_MAX, partial).await?;
        let mut reader = Binary(&answer);
        let mut days = Vec::new();
        while reader.has_more() {
            let (number, calls, bytes) = (reader.text()?, reader.u64()?, reader.u64()?);
            if let (Ok(number), true) = (number.parse(), calls > 0) {
                days.push(Day {
                    number,
                    calls,
                    bytes,
                });
            }
        }
        days.sort_unstable_by_key(|day| day.number);
        Ok(days)
    }

    /// Forgets when the oldest call was.
    pub(super) fn forget_held(&self) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Time of the oldest call.
    pub(super) async fn held_from(
        &self,
        days: &[Day],
        partial: &mut Partial,
    ) -> Result<Option<i64>, Failure> {
        let Some(oldest) = days.first() else {
            return Ok(None);
        };
        let known = *self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((since, held)) = known
            && since.elapsed() < CLICKHOUSE_HELD_AGE
        {
            return Ok(Some(held));
        }
        let from = oldest.number.saturating_mul(DAY_MS);
        let sql = format!(
            "SELECT min(time) FROM calls PREWHERE {} FORMAT RowBinary",
            within(Some(from), Some(from.saturating_add(DAY_MS)))
        );
        let answer = self.ask(&sql, CLICKHOUSE_QUERY_TIME_MAX, partial).await?;
        let held = Binary(&answer).i64()?;
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), held));
        Ok(Some(held))
    }

    /// What an answer about a range is based on. Calls in which something is left out are counted by the minute.
    pub(super) async fn coverage(
        &self,
        range: Range,
        days: &[Day],
        partial: &mut Partial,
    ) -> Result<Coverage, Failure> {
        let held_from_ms = self.held_from(days, partial).await?;
        let mut minutes = String::new();
        if let Some(from) = range.from_ms {
            minutes += &format!(" AND minute >= {}", minute(from));
        }
        if let Some(to) = range.to_ms {
            minutes += &format!(" AND minute <= {}", minute(to.saturating_sub(1)));
        }
        let kept = match range {
            Range {
                from_ms: None,
                to_ms: None,
            } => {
                let calls: u64 = days.iter().map(|day| day.calls).sum();
                format!("toUInt64({calls}) AS number")
            }
            range => format!(
                "count() AS number FROM calls PREWHERE {}",
                within(range.from_ms, range.to_ms)
            ),
        };
        let held = minute(held_from_ms.unwrap_or(i64::MAX));
        let sql = format!(
            "SELECT what, number FROM (
                 SELECT '#kept' AS what, {kept}
                 UNION ALL SELECT '#masked' AS what, sum(masked_sum) AS number FROM minutes WHERE minute >= {held}{minutes}
                 UNION ALL SELECT cause AS what, sum(calls) AS number FROM losses WHERE 1{minutes} GROUP BY cause
             ) FORMAT RowBinary"
        );
        let answer = self.ask(&sql, CLICKHOUSE_QUERY_TIME_MAX, partial).await?;
        let mut coverage = Coverage {
            range,
            held_from_ms,
            progress: 1.0,
            ..Coverage::default()
        };
        let mut reader = Binary(&answer);
        while reader.has_more() {
            let (what, number) = (reader.text()?, reader.u64()?);
            match what.as_str() {
                "#kept" => coverage.kept = number,
                "#masked" => coverage.masked = number.min(coverage.kept.max(number)),
                cause if cause.starts_with('#') => {}
                _ => drop(coverage.lost.insert(what, number)),
            }
        }
        coverage.seen = coverage.kept + coverage.lost.values().sum::<u64>();
        Ok(coverage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_that_do_not_answer_are_named() {
        for (missing, expected) in [
            (vec![2], "shard 2 of 3 does not answer"),
            (vec![1, 3], "shards 1, 3 of 3 do not answer"),
            (vec![], "not all of the 3 shards answer"),
        ] {
            assert_eq!(named(missing, 3), expected);
        }
        assert_eq!(numbers(&[1, 0, 0, 0, 3, 0, 0, 0]), [1, 3]);
    }
}
