//! The deletion of calls beyond the bounds, in short transactions.
//!
//! Whose calls: those of the sender that has the most of what is beyond its bound, calls or bytes, the oldest first, down to the
//! level of the next ones. So a sender displaces calls of others only as long as it has fewer than they, and its share is
//! the bound divided by the number of senders, or more where others need less. The part [`LOCAL_SHARE_DIVISOR`] of a bound is
//! taken off what this host has before the comparison: senders on the network cannot displace that, however many they are. Where
//! the store's own capture and others on this host both have calls, each has half of that part.
//!
//! Calls that are older than the bound of the age are deleted whoever sent them. What is deleted is counted by the minute of its
//! time, for the coverage of answers.
//!
//! Bounds and shares are compared in bytes of lines; how many of these the database holds in one of its own bytes follows from
//! what it has.
//!
//! A little more is deleted than has to be ([`EXPIRE_MORE_DIVISOR`]), so that the oldest block is not written again for each bundle.
//!
//! Later calls use the pages that become free; only when many are free, after a bound was lowered, some go back to the file
//! system, a few with every transaction.

use std::collections::BTreeMap;

use rusqlite::{Connection, Transaction, params};

use super::block::{Block, Head, Number, Rows, heads_behind};
use super::chunk::{self, Lines};
use super::database::{Database, count, integer};
use super::minutes;

use crate::backend::{Expired, Retention};
use crate::call::Loss;
use crate::clock::{MINUTE_MS, minute, unix_ms};
use crate::limits::{
    DATABASE_BYTES_MIN, EXPIRE_MORE_DIVISOR, EXPIRE_ROUND_BYTES, EXPIRE_ROUND_CALLS,
    LOCAL_SHARE_DIVISOR, TRANSACTION_BYTES_MAX, TRANSACTION_LINES_MAX, VACUUM_ROUND_PAGES,
};
use crate::sender::Sender;

/// Calls and the bytes of their lines.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Size {
    pub(super) calls: i64,
    pub(super) bytes: i64,
}

/// What has to be deleted for calls that were stored, round by round: until the store is within its bounds, or until more was
/// deleted than was stored. So a store whose bounds were lowered does not keep bundles waiting, and still becomes smaller with each
/// of them.
#[derive(Debug, Default)]
pub(super) struct Debt {
    stored: Size,
    deleted: Size,
    is_due: bool,
}

impl Debt {
    /// Calls were stored.
    pub(super) fn add(&mut self, size: Size) {
        self.stored.calls += size.calls;
        self.stored.bytes += size.bytes;
        self.is_due = true;
    }

    /// Whether another round is due.
    pub(super) fn is_due(&self) -> bool {
        self.is_due
    }

    /// Whether no more has to be deleted than one transaction stores.
    pub(super) fn is_small(&self) -> bool {
        let left = |stored: i64, deleted: i64| stored.saturating_sub(deleted);
        left(self.stored.calls, self.deleted.calls) <= integer(TRANSACTION_LINES_MAX)
            && left(self.stored.bytes, self.deleted.bytes) <= integer(TRANSACTION_BYTES_MAX)
    }

    /// Makes a round.
    pub(super) fn pay(
        &mut self,
        database: &mut Database,
        retention: Retention,
    ) -> anyhow::Result<()> {
        // After a round that failed the next one waits for the next bundle.
        self.is_due = false;
        let round = round(database, retention)?;
        self.deleted.calls += round.deleted.calls;
        self.deleted.bytes += round.deleted.bytes;
        let is_enough =
            self.deleted.calls > self.stored.calls && self.deleted.bytes > self.stored.bytes;
        self.is_due = round.is_beyond && !is_enough;
        if !self.is_due {
            *self = Self::default();
        }
        Ok(())
    }
}

/// What one transaction did.
#[derive(Clone, Copy, Debug)]
pub(super) struct Round {
    deleted: Size,
    /// The store is still beyond its bounds.
    is_beyond: bool,
    /// Much of the file is free, and goes back to the file system with the next rounds.
    has_space: bool,
}

impl From<Round> for Expired {
    fn from(round: Round) -> Self {
        Self {
            calls: u64::try_from(round.deleted.calls).unwrap_or_default(),
            is_more: round.is_beyond || round.has_space,
        }
    }
}

/// One transaction. It writes nothing when the bounds are kept.
pub(super) fn round(database: &mut Database, retention: Retention) -> anyhow::Result<Round> {
    database.change(|transaction, parts| {
        let lines = &mut parts.lines;
        let mut deleted = Size::default();
        let mut is_beyond = false;
        if let Some(excess) = excess(transaction, retention)? {
            deleted = delete(transaction, lines, excess)?;
            is_beyond = deleted.calls > 0 && self::excess(transaction, retention)?.is_some();
        }
        if let Some(age_max) = retention.age_max
            && !is_beyond
        {
            let oldest = unix_ms().saturating_sub(integer(age_max.as_millis()));
            let old = delete_older(transaction, lines, oldest)?;
            is_beyond = old.calls >= integer(EXPIRE_ROUND_CALLS)
                || old.bytes >= integer(EXPIRE_ROUND_BYTES);
            deleted.calls += old.calls;
            deleted.bytes += old.bytes;
        }
        let has_space = vacuum(transaction)?;
        Ok(Round {
            deleted,
            is_beyond,
            has_space,
        })
    })
}

/// What is beyond a bound.
#[derive(Clone, Copy, Debug)]
struct Excess {
    measure: Measure,
    amount: i64,
    /// What this host may have before it is compared with others.
    local_share: i64,
}

/// What a bound counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Measure {
    Calls,
    Bytes,
}

impl Measure {
    /// Its column in the table of senders.
    fn column(self) -> &'static str {
        match self {
            Self::Calls => "calls",
            Self::Bytes => "bytes",
        }
    }
}

fn excess(transaction: &Transaction<'_>, retention: Retention) -> rusqlite::Result<Option<Excess>> {
    let calls_max = integer(retention.calls_max);
    let bytes_max = integer(retention.database_bytes_max.max(DATABASE_BYTES_MIN));
    let by = |measure, amount, bound| Excess {
        measure,
        amount,
        local_share: bound / integer(LOCAL_SHARE_DIVISOR),
    };
    let calls = calls_stored(transaction)?.saturating_sub(calls_max);
    if calls > 0 {
        let calls = calls + calls_max / integer(EXPIRE_MORE_DIVISOR);
        return Ok(Some(by(Measure::Calls, calls, calls_max)));
    }
    let used = bytes_used(transaction)?;
    let bytes = used.saturating_sub(bytes_max);
    if bytes <= 0 {
        return Ok(None);
    }
    let of_lines: i64 = transaction
        .prepare_cached("SELECT coalesce(sum(bytes), 0) FROM senders")?
        .query_row([], |row| row.get(0))?;
    let ratio = (of_lines as f64 / used as f64).max(f64::MIN_POSITIVE);
    let in_lines = |bytes: i64| (bytes as f64 * ratio).ceil() as i64;
    let bytes = bytes + bytes_max / integer(EXPIRE_MORE_DIVISOR);
    let excess = by(Measure::Bytes, in_lines(bytes), in_lines(bytes_max));
    Ok(Some(excess))
}

/// Heads of the blocks in their order, read some at a time: the oldest are mostly enough, and there are many.
struct Heads<'a> {
    connection: &'a Connection,
    read: std::vec::IntoIter<Head>,
    /// Number of the last call in those that were read.
    last: u64,
}

/// Heads that are read at a time.
const HEADS_AT_ONCE: usize = 16;

impl<'a> Heads<'a> {
    fn new(connection: &'a Connection) -> Self {
        Self {
            connection,
            read: Vec::new().into_iter(),
            last: 0,
        }
    }

    fn next(&mut self) -> rusqlite::Result<Option<Head>> {
        if self.read.len() == 0 {
            let more = heads_behind(self.connection, self.last, HEADS_AT_ONCE)?;
            self.read = more.into_iter();
        }
        let next = self.read.next();
        self.last = next.as_ref().map_or(self.last, |head| head.last);
        Ok(next)
    }
}

/// Deletes the oldest calls of one sender, as many as one round may.
fn delete(
    transaction: &Transaction<'_>,
    lines: &mut Lines,
    excess: Excess,
) -> anyhow::Result<Size> {
    let Some((sender, amount)) = most(transaction, excess)? else {
        return Ok(Size::default());
    };
    let mut size = Size::default();
    let mut heads = Heads::new(transaction);
    while let Some(head) = heads.next()? {
        let extent = head.extent(Number::Sender);
        if !(extent.least..=extent.most).contains(&sender) {
            continue;
        }
        let block = Block::new(transaction, &head);
        let (of, bytes) = (
            block.numbers(Number::Sender)?,
            block.numbers(Number::LineBytes)?,
        );
        let mut rows = Vec::new();
        let mut is_enough = false;
        for row in (0..head.rows).filter(|&row| of[row] == sender) {
            rows.push(row);
            size.calls += 1;
            size.bytes += bytes[row];
            let reached = match excess.measure {
                Measure::Calls => size.calls,
                Measure::Bytes => size.bytes,
            };
            is_enough = reached >= amount || size.bytes >= integer(EXPIRE_ROUND_BYTES);
            if is_enough {
                break;
            }
        }
        remove(transaction, lines, &block, &rows, Some(EXPIRED))?;
        // A round ends behind a block, where it can, so that none is written again for a part of it.
        if is_enough || size.calls >= integer(EXPIRE_ROUND_CALLS) {
            break;
        }
    }
    count(transaction, "calls_expired", size.calls)?;
    Ok(size)
}

/// Deletes calls that were received before a time, as many as one round may. Their order is that of arrival, so they are the
/// oldest rows; after the clock was set back some stay for that much longer.
fn delete_older(
    transaction: &Transaction<'_>,
    lines: &mut Lines,
    before_ms: i64,
) -> anyhow::Result<Size> {
    let mut size = Size::default();
    let mut heads = Heads::new(transaction);
    while let Some(head) = heads.next()? {
        if head.extent(Number::Received).least >= before_ms {
            break;
        }
        let block = Block::new(transaction, &head);
        let (received, bytes) = (
            block.numbers(Number::Received)?,
            block.numbers(Number::LineBytes)?,
        );
        let mut rows = Vec::new();
        for row in 0..head.rows {
            if received[row] >= before_ms
                || size.bytes >= integer(EXPIRE_ROUND_BYTES)
                || size.calls >= integer(EXPIRE_ROUND_CALLS)
            {
                break;
            }
            rows.push(row);
            size.calls += 1;
            size.bytes += bytes[row];
        }
        remove(transaction, lines, &block, &rows, Some(EXPIRED))?;
        if rows.len() < head.rows {
            break;
        }
    }
    count(transaction, "calls_expired", size.calls)?;
    Ok(size)
}

/// The cause of calls that are missing because of the retention.
const EXPIRED: &str = "expired";

/// Deletes calls of a block, and subtracts them from the totals of their senders; they are counted under a cause, if there is
/// one. The rows are in ascending order.
pub(super) fn remove(
    transaction: &Transaction<'_>,
    lines: &mut Lines,
    block: &Block<'_>,
    rows: &[usize],
    cause: Option<&str>,
) -> anyhow::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let head: &Head = block.head;
    let numbers = |number| block.numbers(number);
    let (arrivals, times) = (numbers(Number::Arrival)?, numbers(Number::Time)?);
    let (senders, bytes) = (numbers(Number::Sender)?, numbers(Number::LineBytes)?);
    let mut of_sender = BTreeMap::<i64, Size>::new();
    let mut of_minute = BTreeMap::<i64, u64>::new();
    let mut deleted = Vec::with_capacity(rows.len());
    for &row in rows {
        let size = of_sender.entry(senders[row]).or_default();
        size.calls += 1;
        size.bytes += bytes[row];
        *of_minute.entry(minute(times[row])).or_default() += 1;
        deleted.push(head.arrival(&arrivals, row));
    }
    for (sender, size) in of_sender {
        take_from(transaction, sender, size, cause.is_some())?;
    }
    if let Some(cause) = cause {
        let losses: Vec<Loss> = of_minute
            .iter()
            .map(|(minute, &calls)| Loss {
                time_ms: minute * MINUTE_MS,
                appliance: String::new(),
                vni: None,
                cause: cause.into(),
                calls,
            })
            .collect();
        minutes::lose(transaction, &losses)?;
        let newest = rows.iter().map(|&row| times[row]).max();
        transaction
            .prepare_cached(
                "INSERT INTO counters VALUES ('expired_to_ms', ?1)
                 ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value)",
            )?
            .execute([newest])?;
    }
    let kept: Vec<usize> = (0..head.rows)
        .filter(|row| rows.binary_search(row).is_err())
        .collect();
    let mut rest = Rows::default();
    rest.extend(block, &kept)?;
    match cause {
        Some(_) => rest.keep_grams(block)?,
        None => {
            let kept = kept.iter().map(|&row| head.arrival(&arrivals, row));
            chunk::each_line(transaction, &kept.collect::<Vec<_>>(), |line| {
                rest.add_grams_of(line);
            })?;
        }
    }
    head.delete(transaction)?;
    rest.write(transaction)?;
    chunk::delete(transaction, lines, &deleted)
}

/// Subtracts deleted calls from the totals of their sender.
fn take_from(
    transaction: &Transaction<'_>,
    sender: i64,
    size: Size,
    is_expired: bool,
) -> rusqlite::Result<()> {
    let expired = if is_expired { size.calls } else { 0 };
    transaction
        .prepare_cached(
            "UPDATE senders SET calls = calls - ?2, bytes = bytes - ?3, expired = expired + ?4 WHERE id = ?1",
        )?
        .execute(params![sender, size.calls, size.bytes, expired])?;
    Ok(())
}

/// The sender that has the most, and how much of it goes: down to the level at which the excess is gone when all that have more
/// are brought down to it.
fn most(transaction: &Transaction<'_>, excess: Excess) -> rusqlite::Result<Option<(i64, i64)>> {
    let column = excess.measure.column();
    let of_this_host = "name IN (?1, ?2)";
    let mut select = transaction.prepare_cached(&format!(
        "SELECT id, {column} - iif({of_this_host},
             ?3 / (SELECT count(*) FROM senders WHERE calls > 0 AND {of_this_host}), 0) AS compared
         FROM senders WHERE calls > 0 ORDER BY compared DESC, id"
    ))?;
    let [capture, local] = [Sender::Capture, Sender::Local].map(|sender| sender.to_string());
    let senders: Vec<(i64, i64)> = select
        .query_map(params![capture, local, excess.local_share], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?
        .collect::<Result<_, _>>()?;
    let Some(&(sender, most)) = senders.first() else {
        return Ok(None);
    };
    let sizes: Vec<i64> = senders.into_iter().map(|(_, size)| size).collect();
    let amount = most - level(&sizes, excess.amount);
    Ok(Some((sender, amount.clamp(1, excess.amount))))
}

/// The level to which the largest have to come down together, so that `excess` is gone; the sizes are in descending order.
fn level(sizes: &[i64], excess: i64) -> i64 {
    let mut sum = 0;
    let mut level = 0;
    for (count, &size) in (1..).zip(sizes) {
        if count > 1 && size <= level {
            break;
        }
        sum += size;
        level = (sum - excess).div_euclid(count);
    }
    level
}

/// Gives some pages back to the file system where many are free; whether many still are.
fn vacuum(transaction: &Transaction<'_>) -> rusqlite::Result<bool> {
    let is_much = |(pages, free): (i64, i64)| free > pages / 4;
    let before = pages(transaction)?;
    if !is_much(before) {
        return Ok(false);
    }
    let mut vacuum =
        transaction.prepare_cached(&format!("PRAGMA incremental_vacuum({VACUUM_ROUND_PAGES})"))?;
    let mut rows = vacuum.query([])?;
    while rows.next()?.is_some() {}
    let after = pages(transaction)?;
    // A database that another program made may be unable to.
    Ok(is_much(after) && after.0 < before.0)
}

fn calls_stored(transaction: &Transaction<'_>) -> rusqlite::Result<i64> {
    transaction
        .prepare_cached(
            "SELECT sum(CASE name WHEN 'calls_received' THEN value WHEN 'calls_expired' THEN -value
                                  WHEN 'calls_deleted' THEN -value ELSE 0 END) FROM counters",
        )?
        .query_row([], |row| row.get(0))
}

fn bytes_used(transaction: &Transaction<'_>) -> rusqlite::Result<i64> {
    let (pages, free) = pages(transaction)?;
    let page_bytes: i64 = transaction.pragma_query_value(None, "page_size", |row| row.get(0))?;
    Ok((pages - free) * page_bytes)
}

fn pages(transaction: &Transaction<'_>) -> rusqlite::Result<(i64, i64)> {
    let pages = transaction.pragma_query_value(None, "page_count", |row| row.get(0))?;
    let free = transaction.pragma_query_value(None, "freelist_count", |row| row.get(0))?;
    Ok((pages, free))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_come_down_to_one_level() {
        for (sizes, excess, expected) in [
            (&[100][..], 30, 70),
            (&[100, 20], 30, 70),
            (&[100, 90], 30, 80),
            (&[100, 90, 10], 30, 80),
            (&[1000, 50, 30, 20], 1000, 26),
            (&[7, 7, 7], 2, 6),
            (&[20, 5, -40], 15, 5),
        ] {
            assert_eq!(level(sizes, excess), expected, "{sizes:?} {excess}");
        }
    }
}
