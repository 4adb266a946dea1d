//! The keys of bundles that are stored already, so that one that is sent again is kept once.
//!
//! A sniffer keeps a bundle in its spool until it was acknowledged, and may send it again days after the store took it, where the
//! answer was lost. So keys are remembered by time, and only past a number of them are the oldest forgotten earlier, counted.

use std::borrow::Cow;
use std::time::Duration;

use flate2::Crc;
use rusqlite::{Transaction, params};

use super::database::{count, integer};
use crate::bundle::Bundle;
use crate::limits::{KEY_BYTES_KEPT, KEYS_MAX, KEYS_MIN, KEYS_ROUND};

/// Stores the bundle's key, of which `lines` are about to be stored; false when it was there already.
pub(super) fn insert(
    transaction: &Transaction<'_>,
    bundle: &Bundle,
    lines: usize,
    now_ms: i64,
) -> rusqlite::Result<bool> {
    let Some(key) = &bundle.key else {
        return Ok(true);
    };
    let mut insert = transaction.prepare_cached(
        "INSERT OR IGNORE INTO bundles (key, crc32, bytes, received_ms, lines, bad_lines) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    let bytes = integer(bundle.bytes());
    let rows = insert.execute(params![
        kept(key),
        bundle.crc32,
        bytes,
        now_ms,
        integer(lines),
        integer(bundle.bad_lines)
    ])?;
    Ok(rows == 1)
}

/// How many lines are stored under the bundle's key.
pub(super) fn lines(transaction: &Transaction<'_>, bundle: &Bundle) -> rusqlite::Result<usize> {
    let mut select = transaction
        .prepare_cached("SELECT lines FROM bundles WHERE key = ?1 AND crc32 = ?2 AND bytes = ?3")?;
    let key = bundle.key.as_deref().map(kept);
    let key = params![key, bundle.crc32, integer(bundle.bytes())];
    let lines: i64 = select.query_row(key, |row| row.get(0))?;
    Ok(usize::try_from(lines).unwrap_or_default())
}

/// Sets how many lines are stored under the bundle's key.
pub(super) fn set_lines(
    transaction: &Transaction<'_>,
    bundle: &Bundle,
    lines: usize,
) -> rusqlite::Result<()> {
    let mut update = transaction.prepare_cached(
        "UPDATE bundles SET lines = ?4 WHERE key = ?1 AND crc32 = ?2 AND bytes = ?3",
    )?;
    update.execute(params![
        bundle.key.as_deref().map(kept),
        bundle.crc32,
        integer(bundle.bytes()),
        integer(lines)
    ])?;
    Ok(())
}

/// Forgets keys that are too old, and the oldest where there are too many.
pub(super) fn forget(
    transaction: &Transaction<'_>,
    age: Duration,
    now_ms: i64,
) -> rusqlite::Result<()> {
    // Row numbers are in order of arrival, so no search is needed for the oldest ones.
    let mut oldest = transaction.prepare_cached(
        "DELETE FROM bundles WHERE id IN (
             SELECT id FROM (SELECT id, received_ms FROM bundles ORDER BY id LIMIT ?1)
             WHERE id <= (SELECT max(id) FROM bundles) - ?2 AND received_ms < ?3)",
    )?;
    let before = now_ms.saturating_sub(integer(age.as_millis()));
    oldest.execute([integer(KEYS_ROUND), integer(KEYS_MIN), before])?;
    let many = oldest.execute([integer(KEYS_ROUND), integer(KEYS_MAX), i64::MAX])?;
    count(transaction, "keys_forgotten", integer(many))
}

/// What is remembered of a key.
fn kept(key: &str) -> Cow<'_, str> {
    if key.len() <= KEY_BYTES_KEPT {
        return Cow::Borrowed(key);
    }
    let mut crc = Crc::new();
    crc.update(key.as_bytes());
    let start = key.floor_char_boundary(KEY_BYTES_KEPT - 9);
    let start = key.get(..start).unwrap_or_default();
    Cow::Owned(format!("{start}-{:08x}", crc.sum()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_key_is_shortened_and_stays_its_own() {
        let short = "k".repeat(KEY_BYTES_KEPT);
        assert_eq!(kept(&short), short);
        let long = [format!("{short}1"), format!("{short}2"), "é".repeat(100)];
        for (index, key) in long.iter().enumerate() {
            let text = kept(key);
            assert!(text.len() <= KEY_BYTES_KEPT, "{text}");
            for other in &long[index + 1..] {
                assert_ne!(text, kept(other));
            }
        }
    }
}
