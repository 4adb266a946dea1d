//! The heads of blocks that queries have read, kept for the next query.
//!
//! A block never changes, and its number is never used again, so a head that was read once is right for as long as the block is there.
//! Which blocks there are, a query reads from its own snapshot.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;

use super::block::{HEAD, Head};
use crate::call::Range;
use crate::limits::HEADS_BYTES_MAX;

/// Heads of the blocks that were read.
#[derive(Debug, Default)]
pub(super) struct Heads(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    /// By the numbers of their blocks.
    heads: HashMap<i64, Arc<Head>>,
    bytes: usize,
}

impl Heads {
    /// Heads of the blocks that have a call of a range.
    pub(super) fn of(
        &self,
        connection: &Connection,
        range: Range,
    ) -> rusqlite::Result<Vec<Arc<Head>>> {
        let mut select = connection
            .prepare_cached("SELECT id FROM blocks WHERE newest_ms >= ?1 AND oldest_ms < ?2")?;
        let to = range.to_ms.unwrap_or(i64::MAX);
        let ids = select
            .query_map([range.from_ms.unwrap_or(i64::MIN), to], |row| row.get(0))?
            .collect::<rusqlite::Result<Vec<i64>>>()?;
        let known: Vec<Option<Arc<Head>>> = {
            let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            ids.iter().map(|id| kept.heads.get(id).cloned()).collect()
        };
        let mut select =
            connection.prepare_cached(&format!("SELECT {HEAD} FROM blocks WHERE id = ?1"))?;
        let mut read = Vec::new();
        let mut all = Vec::with_capacity(ids.len());
        for (id, known) in ids.into_iter().zip(known) {
            let head = match known {
                Some(head) => head,
                None => {
                    let head = Arc::new(select.query_row([id], Head::read)?);
                    read.push(Arc::clone(&head));
                    head
                }
            };
            all.push(head);
        }
        self.keep(read);
        Ok(all)
    }

    fn keep(&self, read: Vec<Arc<Head>>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for head in read {
            let bytes = head.bytes();
            if kept.bytes + bytes > HEADS_BYTES_MAX {
                // Which of them are still there is not known; those that are, are read again.
                *kept = Kept::default();
            }
            // Two queries may have read the same one.
            if kept.heads.insert(head.id, head).is_none() {
                kept.bytes += bytes;
            }
        }
    }
}
