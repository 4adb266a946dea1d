//! The ledgers of sniffers and what they have lost, for the answers about all of them.

use super::binary::Reader as Binary;
use super::reader::{Partial, Reader};
use crate::backend::Failure;
use crate::call::{LossesAt, LossesBy, LossesQuery};
use crate::clock::MINUTE_MS;
use crate::ledger::Posted;
use crate::limits::{CLICKHOUSE_QUERY_TIME_MAX, LEDGERS_MAX};

impl Reader {
    /// The last ledger of each run.
    pub(super) async fn ledgers(&self) -> Result<Vec<Posted>, Failure> {
        let sql = format!(
            "SELECT sender, max(updated_ms) AS updated, argMax(data, updated_ms) FROM ledgers GROUP BY sender, appliance, run
             ORDER BY updated DESC LIMIT {LEDGERS_MAX} FORMAT RowBinary"
        );
        let answer = self.whole(&sql).await?;
        let mut reader = Binary(&answer);
        let mut all = Vec::new();
        while reader.has_more() {
            let (sender, updated_ms, data) = (reader.text()?, reader.i64()?, reader.text()?);
            if let Ok(ledger) = serde_json::from_str(&data) {
                all.push(Posted {
                    sender,
                    updated_ms,
                    ledger,
                });
            }
        }
        Ok(all)
    }

    /// The losses of a range by their values and points.
    pub(super) async fn losses(&self, query: LossesQuery) -> Result<Vec<LossesAt>, Failure> {
        let value = match query.by {
            LossesBy::Cause => "cause",
            LossesBy::Appliance => "appliance",
            LossesBy::Vni => "if(vni < 0, '', toString(vni))",
        };
        let (first, last) = query.range.minutes();
        let step = (query.step_ms / MINUTE_MS).max(1);
        // What was deleted on request is no loss.
        let sql = format!(
            "SELECT {value} AS value, toInt64(intDiv(minute, {step})) AS point, sum(calls) FROM losses
             WHERE minute >= {first} AND minute <= {last} AND NOT startsWith(cause, '#')
             GROUP BY value, point ORDER BY value, point FORMAT RowBinary"
        );
        let answer = self.whole(&sql).await?;
        let mut reader = Binary(&answer);
        let mut all = Vec::new();
        while reader.has_more() {
            let (value, point, calls) = (reader.text()?, reader.i64()?, reader.u64()?);
            all.push(LossesAt {
                value,
                time_ms: point.saturating_mul(step).saturating_mul(MINUTE_MS),
                calls,
            });
        }
        Ok(all)
    }

    /// An answer of all shards, since a sum of some would be a false one.
    async fn whole(&self, sql: &str) -> Result<bytes::Bytes, Failure> {
        let mut partial = Partial::default();
        let answer = self
            .ask(sql, CLICKHOUSE_QUERY_TIME_MAX, &mut partial)
            .await?;
        match partial.0 {
            Some(reason) => Err(Failure::Unavailable(reason)),
            None => Ok(answer),
        }
    }
}
