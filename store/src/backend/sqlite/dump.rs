//! The calls of a file in the order of their arrival, for another store. A store may write to the file meanwhile.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension};

use super::block::{Block, HEAD, Head, Number, signed};
use super::chunk::{Chunk, Packed};
use super::file;

/// A file that is being read.
#[derive(Debug)]
pub(crate) struct Dump {
    connection: Connection,
    /// Calls up to this number were read.
    behind: u64,
}

impl Dump {
    /// Opens the file in this folder, behind the call with this number.
    pub(crate) fn open(folder: &Path, behind: u64) -> anyhow::Result<Self> {
        Ok(Self {
            connection: file::open_reader(folder)?,
            behind,
        })
    }

    /// The number of the last call that was read.
    pub(crate) fn behind(&self) -> u64 {
        self.behind
    }

    /// Passes the calls of the next block on, each with its time; false behind the last one.
    pub(crate) fn next(
        &mut self,
        mut each: impl FnMut(i64, &str) -> anyhow::Result<()>,
    ) -> anyhow::Result<bool> {
        let snapshot = self.connection.unchecked_transaction()?;
        // Blocks may have been merged since the one before was read, so that one of them begins before the place and ends behind it.
        let head = snapshot
            .prepare_cached(&format!(
                "SELECT {HEAD} FROM blocks WHERE last > ?1 ORDER BY first LIMIT 1"
            ))?
            .query_row([signed(self.behind)], Head::read)
            .optional()?;
        let Some(head) = head else {
            return Ok(false);
        };
        let block = Block::new(&snapshot, &head);
        let times = block.numbers(Number::Time)?;
        let mut chunk = Chunk::default();
        for (row, &time_ms) in times.iter().enumerate() {
            let arrival = block.arrival(row)?;
            if arrival <= self.behind {
                continue;
            }
            if !chunk.covers(arrival)
                && let Some(packed) = Packed::of(&snapshot, arrival)?
            {
                chunk = packed.unpack()?;
            }
            if let Some(line) = chunk.line(arrival) {
                each(time_ms, line)?;
            }
            self.behind = arrival;
        }
        Ok(true)
    }
}
