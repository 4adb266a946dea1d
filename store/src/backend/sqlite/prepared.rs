//! What is computed of a bundle before it waits for the writing thread: its lines compressed, and their grams.
//!
//! The writing thread is one, and bundles wait for each other there. Whatever does not depend on what is stored is done by the
//! threads that split bodies, several at a time.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

use super::chunk::{PackedLines, Packer};
use super::grams::Grams;
use crate::bundle::Bundle;
use crate::limits::{CHUNK_BYTES, PREPARED_MAX};
use crate::sender::Sender;

/// Chunks of lines, and their grams. The lines of a small bundle, and a small rest, are left to the writing thread, which compresses
/// those of several bundles together.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    /// In the order of the lines.
    chunks: Vec<PackedLines>,
    /// Of the lines of all chunks.
    pub(super) grams: Grams,
}

/// What prepares bundles: so many at a time that they do not take the machine from what captures.
#[derive(Clone, Debug)]
pub(super) struct Preparer {
    of_capture: Arc<Semaphore>,
    of_others: Arc<Semaphore>,
    /// Compressors that are not in use.
    idle: Arc<Mutex<Vec<Packer>>>,
}

impl Default for Preparer {
    fn default() -> Self {
        let permits = || Arc::new(Semaphore::new(PREPARED_MAX));
        Self {
            of_capture: permits(),
            of_others: permits(),
            idle: Arc::default(),
        }
    }
}

impl Preparer {
    /// Prepares a bundle on a thread of its own.
    pub(super) async fn prepare(&self, bundle: Bundle) -> anyhow::Result<(Bundle, Prepared)> {
        let permits = match bundle.sender {
            Sender::Capture => &self.of_capture,
            _ => &self.of_others,
        };
        let permit = Arc::clone(permits).acquire_owned().await?;
        let idle = Arc::clone(&self.idle);
        let preparing = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let idle = || idle.lock().unwrap_or_else(PoisonError::into_inner);
            let mut packer = idle().pop();
            let prepared = Prepared::of(&bundle, &mut packer);
            idle().extend(packer);
            (bundle, prepared)
        });
        Ok(preparing.await?)
    }
}

impl Prepared {
    /// Prepares what is large enough, with a compressor that is made where there is none.
    pub(super) fn of(bundle: &Bundle, packer: &mut Option<Packer>) -> Self {
        let mut prepared = Self::default();
        if bundle.bytes() < CHUNK_BYTES / 2 {
            return prepared;
        }
        if packer.is_none() {
            *packer = Packer::new().ok();
        }
        // Without a compressor the writing thread does it, and reports what is wrong.
        let Some(packer) = packer else {
            return prepared;
        };
        let mut from = 0;
        let mut lines = Vec::new();
        let mut bytes = 0;
        for line in bundle.texts(0, bundle.calls()) {
            bytes += line.len();
            lines.push(line);
            if bytes >= CHUNK_BYTES {
                if !prepared.pack(packer, from, &lines) {
                    return prepared;
                }
                from += lines.len();
                lines.clear();
                bytes = 0;
            }
        }
        if bytes >= CHUNK_BYTES / 2 {
            prepared.pack(packer, from, &lines);
        }
        prepared
    }

    fn pack(&mut self, packer: &mut Packer, from: usize, lines: &[&str]) -> bool {
        let Ok(chunk) = packer.pack(from, lines) else {
            return false;
        };
        lines.iter().for_each(|line| self.grams.add(line));
        self.chunks.push(chunk);
        true
    }

    /// The chunk that has a line of the bundle, if all its lines are in a part of it.
    pub(super) fn chunk_of(
        &self,
        line: usize,
        (from, end): (usize, usize),
    ) -> Option<&PackedLines> {
        let index = self.chunks.partition_point(|chunk| chunk.end() <= line);
        let chunk = self.chunks.get(index)?;
        (chunk.from <= line && chunk.from >= from && chunk.end() <= end).then_some(chunk)
    }
}
