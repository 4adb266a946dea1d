//! Merging of small blocks, so that those of single calls become few.
//!
//! What is merged are the last blocks, in two steps: those below 64 calls, and those below a whole block, each once there are many
//! of the kind, or enough for the next. So a call of a large bundle is written twice, and one of a small bundle a few times.

use rusqlite::{Connection, Transaction};

use super::block::{Block, HEAD, Head, Number, Rows};
use super::chunk::{self, Lines};
use crate::limits::{BLOCK_CALLS_MAX, BLOCK_LINES_BYTES, BLOCK_TEXT_BYTES, BLOCKS_SMALL_MAX};

/// Sizes below which blocks are merged.
const STEPS: [usize; 2] = [BLOCK_CALLS_MAX / 64, BLOCK_CALLS_MAX];

/// Calls that are merged before the text is measured.
const MERGED_AT_ONCE: usize = 512;

/// Merges the last blocks where it is time to.
pub(super) fn last(transaction: &Transaction<'_>, lines: &mut Lines) -> anyhow::Result<()> {
    let mut select = transaction.prepare_cached(&format!(
        "SELECT {HEAD} FROM blocks ORDER BY first DESC LIMIT {}",
        BLOCKS_SMALL_MAX * STEPS.len()
    ))?;
    let heads: Vec<Head> = select
        .query_map([], Head::read)?
        .collect::<Result<_, _>>()?;
    for step in STEPS.into_iter().rev() {
        let is_small = |head: &&Head| head.rows < step && !is_heavy(head);
        let small = heads.iter().take_while(is_small).count();
        let run = &heads[..small];
        let calls: usize = run.iter().map(|head| head.rows).sum();
        if is_due(run.len(), calls, step) {
            return merge(transaction, lines, run);
        }
    }
    Ok(())
}

/// Whether there are enough small blocks, if none of them is heavy: their heads need not be read where not.
pub(super) fn may_be_due(connection: &Connection) -> rusqlite::Result<bool> {
    let mut select = connection.prepare_cached(&format!(
        "SELECT rows FROM blocks ORDER BY first DESC LIMIT {}",
        BLOCKS_SMALL_MAX * STEPS.len()
    ))?;
    let sizes: Vec<usize> = select
        .query_map([], |row| row.get::<_, i64>(0))?
        .map(|rows| rows.map(|rows| usize::try_from(rows).unwrap_or_default()))
        .collect::<Result<_, _>>()?;
    Ok(STEPS.into_iter().any(|step| {
        let small = sizes.iter().take_while(|&&rows| rows < step);
        let (blocks, calls) =
            small.fold((0, 0), |(blocks, calls), rows| (blocks + 1, calls + rows));
        is_due(blocks, calls, step)
    }))
}

/// Whether so many blocks below a size are merged.
fn is_due(blocks: usize, calls: usize, step: usize) -> bool {
    blocks >= 2 && (blocks >= BLOCKS_SMALL_MAX * 2 || calls >= step)
}

/// Whether a block of few calls is not small: it is full of text, or its lines may be long. Merging would end at it.
fn is_heavy(head: &Head) -> bool {
    let longest = u64::try_from(head.extent(Number::LineBytes).most).unwrap_or_default();
    head.text_bytes >= BLOCK_TEXT_BYTES / 2
        || longest.saturating_mul(head.rows as u64) >= BLOCK_LINES_BYTES / 2
}

/// Merges blocks, of which the last comes first.
fn merge(transaction: &Transaction<'_>, lines: &mut Lines, run: &[Head]) -> anyhow::Result<()> {
    let mut rows = Rows::default();
    for head in run.iter().rev() {
        let block = Block::new(transaction, head);
        let mut from = 0;
        rows.add_grams(&block)?;
        while from < head.rows {
            let room = BLOCK_CALLS_MAX - rows.len();
            let end = head.rows.min(from + room.min(MERGED_AT_ONCE));
            rows.extend(&block, &(from..end).collect::<Vec<_>>())?;
            from = end;
            if rows.is_full() {
                rows.write(transaction)?;
                if from < head.rows {
                    rows.add_grams(&block)?;
                }
            }
        }
        head.delete(transaction)?;
    }
    rows.write(transaction)?;
    match run.last() {
        Some(oldest) => chunk::merge(transaction, lines, oldest.first),
        None => Ok(()),
    }
}
