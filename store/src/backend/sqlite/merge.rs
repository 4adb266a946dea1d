//! Merging of small blocks, so that those of single calls become few.
//!
//! What is merged are the last blocks, in three steps: those below 64 calls, below 512, below a whole block, each once there are
//! many of the kind, or enough for the next. So a call is written four times at most, and only where bundles are small.

use rusqlite::Transaction;

use super::block::{Block, HEAD, Head, Rows};
use super::chunk::{self, Lines};
use crate::limits::{BLOCK_CALLS_MAX, BLOCKS_SMALL_MAX};

/// Sizes below which blocks are merged.
const STEPS: [usize; 3] = [BLOCK_CALLS_MAX / 64, BLOCK_CALLS_MAX / 8, BLOCK_CALLS_MAX];

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
        let small = heads.iter().take_while(|head| head.rows < step).count();
        let run = &heads[..small];
        let calls: usize = run.iter().map(|head| head.rows).sum();
        if run.len() >= 2 && (run.len() >= BLOCKS_SMALL_MAX * 2 || calls >= step) {
            return merge(transaction, lines, run);
        }
    }
    Ok(())
}

/// Merges blocks, of which the last comes first.
fn merge(transaction: &Transaction<'_>, lines: &mut Lines, run: &[Head]) -> anyhow::Result<()> {
    let mut rows = Rows::default();
    for head in run.iter().rev() {
        let block = Block::new(transaction, head);
        let mut from = 0;
        while from < head.rows {
            let end = head.rows.min(from + BLOCK_CALLS_MAX - rows.len());
            rows.extend(&block, &(from..end).collect::<Vec<_>>())?;
            from = end;
            if rows.len() >= BLOCK_CALLS_MAX {
                rows.write(transaction)?;
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
