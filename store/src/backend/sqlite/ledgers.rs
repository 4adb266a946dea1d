//! The last ledger of each run of a sniffer, with which the next one is compared.
//!
//! A sender on the network can make up runs, but it has a bounded number of them, and displaces its own oldest first.

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::database::integer;
use super::minutes;
use crate::call::Loss;
use crate::ledger::{Ledger, Posted};
use crate::limits::{LEDGERS_MAX, LEDGERS_SENDER_MAX};
use crate::sender::Sender;

/// The table, which a file of the same schema may lack.
pub(super) const TABLE: &str = include_str!("ledgers.sql");

/// Takes a ledger, and counts what was lost since the one before as lost now.
pub(super) fn record(
    transaction: &Transaction<'_>,
    sender: Sender,
    mut ledger: Ledger,
    now_ms: i64,
) -> anyhow::Result<()> {
    let sender = sender.to_string();
    let before: Option<String> = transaction
        .prepare_cached(
            "SELECT data FROM ledgers WHERE sender = ?1 AND appliance = ?2 AND run = ?3",
        )?
        .query_row(params![sender, ledger.appliance, ledger.run], |row| {
            row.get(0)
        })
        .optional()?;
    let before = before.and_then(|text| serde_json::from_str(&text).ok());
    let losses: Vec<Loss> = ledger
        .replace(before.unwrap_or_default())
        .into_iter()
        .map(|(cause, calls)| Loss {
            time_ms: now_ms,
            appliance: ledger.appliance.clone(),
            vni: None,
            cause,
            calls,
        })
        .collect();
    minutes::lose(transaction, &losses)?;
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO ledgers (sender, appliance, run, updated_ms, data) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![
            sender,
            ledger.appliance,
            ledger.run,
            now_ms,
            serde_json::to_string(&ledger)?
        ])?;
    transaction
        .prepare_cached(
            "DELETE FROM ledgers WHERE sender = ?1 AND (appliance, run) IN (
                 SELECT appliance, run FROM ledgers WHERE sender = ?1 ORDER BY updated_ms DESC LIMIT -1 OFFSET ?2)",
        )?
        .execute(params![sender, integer(LEDGERS_SENDER_MAX)])?;
    transaction
        .prepare_cached(
            "DELETE FROM ledgers WHERE (sender, appliance, run) IN (
                 SELECT sender, appliance, run FROM ledgers ORDER BY updated_ms DESC LIMIT -1 OFFSET ?1)",
        )?
        .execute([integer(LEDGERS_MAX)])?;
    Ok(())
}

/// All that are kept, the newest first.
pub(super) fn all(connection: &Connection) -> anyhow::Result<Vec<Posted>> {
    let mut select = connection
        .prepare_cached("SELECT sender, updated_ms, data FROM ledgers ORDER BY updated_ms DESC")?;
    let mut rows = select.query([])?;
    let mut all = Vec::new();
    while let Some(row) = rows.next()? {
        // What another version wrote in a form that cannot be read is replaced by the next post.
        if let Ok(ledger) = serde_json::from_str(row.get_ref(2)?.as_str().unwrap_or_default()) {
            all.push(Posted {
                sender: row.get(0)?,
                updated_ms: row.get(1)?,
                ledger,
            });
        }
    }
    Ok(all)
}
