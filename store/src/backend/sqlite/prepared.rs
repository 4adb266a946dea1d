//! What is computed of a large bundle before it waits for the writing thread: blocks of its calls, with their lines compressed.
//!
//! The writing thread is one, and bundles wait for each other there. Whatever does not depend on what is stored is done by the
//! threads here, several at a time: what is left for the writing thread is to put bytes into tables. The numbers of the calls,
//! and the row of their sender, are not known before and are set there.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

use super::block::{EncodedBlock, Rows};
use super::chunk::{PackedLines, Packer};
use super::minutes::Counts;
use crate::bundle::Bundle;
use crate::clock::unix_ms;
use crate::endpoint::Endpoints;
use crate::limits::{
    CHUNK_BYTES, PREPARED_MAX, PREPARED_OTHERS_MAX, TRANSACTION_OTHERS_BYTES_MAX,
    TRANSACTION_OTHERS_LINES_MAX,
};
use crate::sender::Sender;

/// Lines from which on a bundle is prepared, however short they are.
const LINES_MIN: usize = 512;

/// The units of a bundle, in the order of its lines. A small bundle has none: the writing thread stores several in one block.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    units: Vec<Unit>,
}

/// Lines next to each other that are one block: no more than others than the capture may have in a transaction, or one line.
#[derive(Debug)]
pub(super) struct Unit {
    /// Place of the first line in the bundle.
    pub(super) from: usize,
    /// The place behind the last one.
    pub(super) end: usize,
    /// Sum of the lines' lengths.
    pub(super) bytes: usize,
    pub(super) chunks: Vec<PackedLines>,
    pub(super) block: EncodedBlock,
    pub(super) counts: Counts,
}

impl Unit {
    /// Passes the lines from a place in the bundle on.
    pub(super) fn each_line(
        &self,
        from: usize,
        mut each: impl FnMut(&str) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        for chunk in &self.chunks {
            if chunk.end() <= from {
                continue;
            }
            let plain = chunk.unpack()?;
            for place in from.max(chunk.from)..chunk.end() {
                each(plain.line(place as u64).unwrap_or_default())?;
            }
        }
        Ok(())
    }
}

/// What prepares bundles: so many at a time that they do not take the machine from what captures.
#[derive(Clone, Debug)]
pub(super) struct Preparer {
    endpoints: Arc<Endpoints>,
    of_capture: Arc<Semaphore>,
    of_others: Arc<Semaphore>,
    /// Compressors that are not in use.
    idle: Arc<Mutex<Vec<Packer>>>,
}

impl Preparer {
    pub(super) fn new(endpoints: Arc<Endpoints>) -> Self {
        let permits = |number| Arc::new(Semaphore::new(number));
        Self {
            endpoints,
            of_capture: permits(PREPARED_MAX),
            of_others: permits(PREPARED_OTHERS_MAX),
            idle: Arc::default(),
        }
    }

    /// Prepares a bundle on a thread of its own, if it is large enough. Its text is not needed after that.
    pub(super) async fn prepare(&self, bundle: Bundle) -> anyhow::Result<(Bundle, Prepared)> {
        if !Prepared::is_worth_it(&bundle) {
            return Ok((bundle, Prepared::default()));
        }
        let permits = match bundle.sender {
            Sender::Capture => &self.of_capture,
            _ => &self.of_others,
        };
        let permit = Arc::clone(permits).acquire_owned().await?;
        let Self {
            endpoints, idle, ..
        } = self.clone();
        let preparing = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let idle = || idle.lock().unwrap_or_else(PoisonError::into_inner);
            let mut packer = idle().pop();
            let mut bundle = bundle;
            let prepared = Prepared::of(&mut bundle, &endpoints, &mut packer);
            idle().extend(packer);
            (bundle, prepared)
        });
        Ok(preparing.await?)
    }
}

impl Prepared {
    fn is_worth_it(bundle: &Bundle) -> bool {
        bundle.bytes() >= CHUNK_BYTES / 2 || bundle.calls() >= LINES_MIN
    }

    /// Prepares what is large enough, with a compressor that is made where there is none. Without one the writing thread does all
    /// of it, and reports what is wrong.
    pub(super) fn of(
        bundle: &mut Bundle,
        endpoints: &Endpoints,
        packer: &mut Option<Packer>,
    ) -> Self {
        if !Self::is_worth_it(bundle) {
            return Self::default();
        }
        if packer.is_none() {
            *packer = Packer::new().ok();
        }
        let units = packer
            .as_mut()
            .and_then(|packer| units(bundle, endpoints, packer));
        let Some(units) = units else {
            return Self::default();
        };
        bundle.forget_text();
        Self { units }
    }

    /// The unit that has a line of the bundle.
    pub(super) fn unit_of(&self, line: usize) -> Option<&Unit> {
        let index = self.units.partition_point(|unit| unit.end <= line);
        self.units.get(index)
    }

    /// The end of a part of the bundle that begins at `from`, and that has so many whole units as have at most so many lines and
    /// bytes, one at least if it must. A unit of which a part was stored before is a part of its own. None where nothing was
    /// prepared.
    pub(super) fn end_of_part(
        &self,
        from: usize,
        (lines_max, bytes_max): (usize, usize),
        must: bool,
    ) -> Option<usize> {
        let last = self.units.last()?;
        let Some(unit) = self.unit_of(from) else {
            return Some(last.end);
        };
        if unit.from < from {
            let fits = must || unit.end - from <= lines_max;
            return Some(if fits { unit.end } else { from });
        }
        let (mut end, mut bytes) = (from, 0);
        for unit in self.units.iter().skip_while(|unit| unit.from < from) {
            bytes += unit.bytes;
            let is_first = must && end == from;
            if !is_first && (unit.end - from > lines_max || bytes > bytes_max) {
                break;
            }
            end = unit.end;
        }
        Some(end)
    }
}

/// All lines of a bundle; none where they cannot be compressed.
fn units(bundle: &Bundle, endpoints: &Endpoints, packer: &mut Packer) -> Option<Vec<Unit>> {
    let received_ms = unix_ms();
    // Chunks of equal length, so that the last one is not a small rest that is compressed once more.
    let chunks = (bundle.bytes() + CHUNK_BYTES / 2) / CHUNK_BYTES;
    let chunk_bytes = bundle.bytes() / chunks.max(1);
    let mut units = Vec::new();
    let mut open = Open::default();
    for (index, (line, mut call)) in bundle.lines().enumerate() {
        call.place_in_time(received_ms, bundle.is_imported);
        call.endpoint = endpoints.of(&call.path);
        open.counts.add(&call);
        open.rows.push((index + 1) as u64, 0, line.len(), &call);
        open.rows.add_grams_of(line);
        open.lines.push(line);
        open.line_bytes += line.len();
        if open.line_bytes >= chunk_bytes {
            open.pack(packer, index + 1)?;
        }
        let is_full = index + 1 - open.from >= TRANSACTION_OTHERS_LINES_MAX
            || open.bytes + open.line_bytes >= TRANSACTION_OTHERS_BYTES_MAX
            || open.rows.is_full();
        if is_full {
            units.extend(open.close(packer, index + 1)?);
        }
    }
    units.extend(open.close(packer, bundle.calls())?);
    Some(units)
}

/// A unit to which lines are added.
#[derive(Default)]
struct Open<'a> {
    from: usize,
    rows: Rows,
    counts: Counts,
    chunks: Vec<PackedLines>,
    /// Bytes of the lines in these.
    bytes: usize,
    /// Lines of the next one.
    lines: Vec<&'a str>,
    line_bytes: usize,
}

impl Open<'_> {
    /// Compresses the lines that wait, of which the last one is before `end`.
    fn pack(&mut self, packer: &mut Packer, end: usize) -> Option<()> {
        if !self.lines.is_empty() {
            let from = end - self.lines.len();
            self.chunks.push(packer.pack(from, &self.lines).ok()?);
            self.bytes += self.line_bytes;
            self.line_bytes = 0;
            self.lines.clear();
        }
        Some(())
    }

    /// The unit, and room for the next one; an empty one is none.
    fn close(&mut self, packer: &mut Packer, end: usize) -> Option<Option<Unit>> {
        self.pack(packer, end)?;
        let Some(block) = std::mem::take(&mut self.rows).encode() else {
            return Some(None);
        };
        let unit = Unit {
            from: std::mem::replace(&mut self.from, end),
            end,
            bytes: std::mem::take(&mut self.bytes),
            chunks: std::mem::take(&mut self.chunks),
            block,
            counts: std::mem::take(&mut self.counts),
        };
        Some(Some(unit))
    }
}
