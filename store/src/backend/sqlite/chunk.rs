//! The lines of calls, some dozens compressed together.
//!
//! Chunks hold lines in the order of arrival. A line that is deleted is taken out of its chunk, which is compressed anew; a chunk
//! without lines is deleted.

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::block::{signed, unsigned};
use super::damaged::Damaged;
use crate::histogram::{put, take};
use crate::limits::{CHUNK_BYTES, POST_BYTES_MAX};

/// The default of zstd; `bench store` has other levels beside it.
const LEVEL: i32 = 3;

/// Bytes of a chunk at most: one that is nearly full, and the longest line.
const TEXT_BYTES_MAX: usize = CHUNK_BYTES + POST_BYTES_MAX;

/// Bytes of lines up to which room for them is kept.
const KEPT_BYTES_MAX: usize = 2 * CHUNK_BYTES;

/// Lines that wait to be compressed.
#[derive(Debug)]
pub(super) struct Lines {
    first: u64,
    /// Length of each line and 1; 0 where the number has no line.
    lengths: Vec<u64>,
    text: String,
    packer: Packer,
}

/// What compresses lines.
pub(super) struct Packer {
    compressor: zstd::bulk::Compressor<'static>,
    /// Lines one behind the other, and what becomes of them; kept for the next ones.
    text: String,
    packed: Vec<u8>,
}

impl std::fmt::Debug for Packer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packer").finish_non_exhaustive()
    }
}

/// Lines of a bundle, compressed before their numbers are known.
#[derive(Debug)]
pub(super) struct PackedLines {
    /// Place of the first one in the bundle.
    pub(super) from: usize,
    rows: usize,
    bytes: usize,
    data: Vec<u8>,
}

impl PackedLines {
    /// The place behind the last one.
    pub(super) fn end(&self) -> usize {
        self.from + self.rows
    }

    /// The lines, which have their places in the bundle as numbers.
    pub(super) fn unpack(&self) -> Result<Chunk, Damaged> {
        let packed = Packed {
            first: self.from as u64,
            rows: self.rows as u64,
            bytes: self.bytes,
            data: self.data.clone(),
        };
        packed.unpack()
    }
}

impl Packer {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self {
            compressor: zstd::bulk::Compressor::new(LEVEL)?,
            text: String::new(),
            packed: Vec::new(),
        })
    }

    /// Lines of a bundle, of which the first has the place `from`.
    pub(super) fn pack(&mut self, from: usize, lines: &[&str]) -> std::io::Result<PackedLines> {
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        text.extend(lines.iter().copied());
        let lengths = lines.iter().map(|line| line.len() as u64 + 1);
        let data = self.data(lengths, &text);
        let bytes = text.len();
        if bytes <= KEPT_BYTES_MAX {
            self.text = text;
        }
        Ok(PackedLines {
            from,
            rows: lines.len(),
            bytes,
            data: data?,
        })
    }

    fn data(
        &mut self,
        lengths: impl ExactSizeIterator<Item = u64>,
        text: &str,
    ) -> std::io::Result<Vec<u8>> {
        self.packed.clear();
        self.packed.reserve(zstd::compress_bound(text.len()));
        self.compressor
            .compress_to_buffer(text.as_bytes(), &mut self.packed)?;
        let mut data = Vec::with_capacity(self.packed.len() + 3 * (lengths.len() + 1));
        put(&mut data, lengths.len() as u64);
        for length in lengths {
            put(&mut data, length);
        }
        data.extend_from_slice(&self.packed);
        if text.len() > KEPT_BYTES_MAX {
            self.packed = Vec::new();
        }
        Ok(data)
    }
}

impl Lines {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self {
            first: 0,
            lengths: Vec::new(),
            text: String::new(),
            packer: Packer::new()?,
        })
    }

    /// Adds a line, which arrived after those that are there, and writes a chunk when it is full.
    pub(super) fn push(
        &mut self,
        transaction: &Transaction<'_>,
        arrival: u64,
        line: &str,
    ) -> rusqlite::Result<()> {
        self.add(arrival, line);
        if self.text.len() >= CHUNK_BYTES {
            self.write(transaction)?;
        }
        Ok(())
    }

    /// Writes lines that were compressed before, which arrived after those that are there; `first` is the number of the first one.
    pub(super) fn push_packed(
        &mut self,
        transaction: &Transaction<'_>,
        first: u64,
        lines: &PackedLines,
    ) -> rusqlite::Result<()> {
        self.write(transaction)?;
        insert(transaction, first, (lines.rows, lines.bytes), &lines.data)
    }

    fn add(&mut self, arrival: u64, line: &str) {
        if self.lengths.is_empty() {
            self.first = arrival;
        }
        let missing = arrival.saturating_sub(self.first + self.lengths.len() as u64);
        self.lengths.extend((0..missing).map(|_| 0));
        self.lengths.push(line.len() as u64 + 1);
        self.text.push_str(line);
    }

    /// Writes what waits, and forgets it.
    pub(super) fn write(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        if self.lengths.is_empty() {
            return Ok(());
        }
        let data = self
            .packer
            .data(self.lengths.iter().copied(), &self.text)
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
        let sizes = (self.lengths.len(), self.text.len());
        insert(transaction, self.first, sizes, &data)?;
        self.forget();
        Ok(())
    }

    /// After a transaction failed.
    pub(super) fn forget(&mut self) {
        self.lengths.clear();
        self.text.clear();
        self.text.shrink_to(KEPT_BYTES_MAX);
    }
}

/// A chunk with so many lines and bytes of lines.
fn insert(
    transaction: &Transaction<'_>,
    first: u64,
    (rows, bytes): (usize, usize),
    data: &[u8],
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("INSERT INTO lines (first, rows, bytes, data) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![
            signed(first),
            signed(rows as u64),
            signed(bytes as u64),
            data
        ])?;
    Ok(())
}

/// A chunk as it is stored.
#[derive(Clone, Debug)]
pub(super) struct Packed {
    /// Number of its first line in the order of arrival.
    pub(super) first: u64,
    /// Numbers that it covers.
    pub(super) rows: u64,
    bytes: usize,
    data: Vec<u8>,
}

/// What unpacks chunks.
pub(super) type Unpacker = zstd::bulk::Decompressor<'static>;

pub(super) fn unpacker() -> Result<Unpacker, Damaged> {
    Unpacker::new().map_err(|_| Damaged)
}

/// A chunk that can be read.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    first: u64,
    /// Start and end of each line.
    places: Vec<(u32, u32)>,
    /// All lines, one behind the other.
    pub(super) text: String,
}

impl Packed {
    fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            first: unsigned(row.get(0)?),
            rows: unsigned(row.get(1)?),
            bytes: usize::try_from(row.get::<_, i64>(2)?).unwrap_or(usize::MAX),
            data: row.get(3)?,
        })
    }

    /// The chunk that covers a number.
    pub(super) fn of(connection: &Connection, arrival: u64) -> rusqlite::Result<Option<Self>> {
        let mut select = connection.prepare_cached(
            "SELECT first, rows, bytes, data FROM lines WHERE first <= ?1 ORDER BY first DESC LIMIT 1",
        )?;
        let found = select.query_row([signed(arrival)], Self::read).optional()?;
        Ok(found.filter(|chunk| arrival < chunk.end()))
    }

    /// First number, the one behind the last, and bytes of the lines of the chunks that cover some number from `first` to `last`,
    /// in their order.
    pub(super) fn places(
        connection: &Connection,
        first: u64,
        last: u64,
    ) -> rusqlite::Result<Vec<(u64, u64, usize)>> {
        let mut select = connection.prepare_cached(
            "SELECT first, rows, bytes FROM lines
             WHERE first >= coalesce((SELECT max(first) FROM lines WHERE first <= ?1), 0) AND first <= ?2 ORDER BY first",
        )?;
        let places = select.query_map([signed(first), signed(last)], |row| {
            let first = unsigned(row.get(0)?);
            let bytes = usize::try_from(row.get::<_, i64>(2)?).unwrap_or(usize::MAX);
            Ok((first, first.saturating_add(unsigned(row.get(1)?)), bytes))
        })?;
        places.collect()
    }

    pub(super) fn end(&self) -> u64 {
        self.first.saturating_add(self.rows)
    }

    pub(super) fn unpack(&self) -> Result<Chunk, Damaged> {
        self.unpack_with(&mut unpacker()?)
    }

    /// As [`unpack`](Self::unpack), with something that is made once for many.
    pub(super) fn unpack_with(&self, unpacker: &mut Unpacker) -> Result<Chunk, Damaged> {
        let mut data = self.data.as_slice();
        let rows = take(&mut data);
        if rows != self.rows || self.bytes > TEXT_BYTES_MAX || rows > self.data.len() as u64 {
            return Err(Damaged);
        }
        let mut places = Vec::with_capacity(self.rows as usize);
        let mut at = 0u32;
        for _ in 0..rows {
            let length = take(&mut data).saturating_sub(1);
            let end = u32::try_from(length)
                .ok()
                .and_then(|length| at.checked_add(length))
                .ok_or(Damaged)?;
            places.push((at, end));
            at = end;
        }
        let text = unpacker.decompress(data, self.bytes).map_err(|_| Damaged)?;
        let text = String::from_utf8(text).map_err(|_| Damaged)?;
        if at as usize != text.len() {
            return Err(Damaged);
        }
        Ok(Chunk {
            first: self.first,
            places,
            text,
        })
    }
}

impl Chunk {
    /// Whether the number of a call is one of its numbers.
    pub(super) fn covers(&self, arrival: u64) -> bool {
        let index = arrival.checked_sub(self.first);
        index.is_some_and(|index| index < self.places.len() as u64)
    }

    /// The line with a number; none where it was deleted.
    pub(super) fn line(&self, arrival: u64) -> Option<&str> {
        let index = usize::try_from(arrival.checked_sub(self.first)?).ok()?;
        let &(start, end) = self.places.get(index)?;
        let line = self.text.get(start as usize..end as usize)?;
        (!line.is_empty()).then_some(line)
    }
}

/// The line of one call.
pub(super) fn line(connection: &Connection, arrival: u64) -> anyhow::Result<Option<String>> {
    let Some(chunk) = Packed::of(connection, arrival)? else {
        return Ok(None);
    };
    Ok(chunk.unpack()?.line(arrival).map(str::to_owned))
}

/// Passes the lines of some calls on, whose numbers are in ascending order.
pub(super) fn each_line(
    connection: &Connection,
    arrivals: &[u64],
    mut each: impl FnMut(&str),
) -> anyhow::Result<()> {
    let mut chunk = Chunk::default();
    for &arrival in arrivals {
        if !chunk.covers(arrival) {
            chunk = match Packed::of(connection, arrival)? {
                Some(packed) => packed.unpack()?,
                None => continue,
            };
        }
        if let Some(line) = chunk.line(arrival) {
            each(line);
        }
    }
    Ok(())
}

/// Deletes lines, whose numbers are in ascending order.
pub(super) fn delete(
    transaction: &Transaction<'_>,
    lines: &mut Lines,
    arrivals: &[u64],
) -> anyhow::Result<()> {
    let mut rest = arrivals;
    while let Some(&first) = rest.first() {
        let place = Packed::places(transaction, first, first)?.pop();
        let Some((start, end, _)) = place.filter(|(_, end, _)| first < *end) else {
            rest = &rest[1..];
            continue;
        };
        let (deleted, others) = rest.split_at(rest.partition_point(|&arrival| arrival < end));
        rest = others;
        // One that is deleted whole is not read.
        let chunk = if deleted.len() as u64 == end - start {
            None
        } else {
            Packed::of(transaction, first)?
        };
        transaction
            .prepare_cached("DELETE FROM lines WHERE first = ?1")?
            .execute([signed(start)])?;
        let Some(chunk) = chunk else { continue };
        let plain = chunk.unpack()?;
        for arrival in chunk.first..chunk.end() {
            if deleted.binary_search(&arrival).is_err()
                && let Some(line) = plain.line(arrival)
            {
                lines.add(arrival, line);
            }
        }
        lines.write(transaction)?;
    }
    Ok(())
}

/// Puts the small chunks among those from `first` on together.
pub(super) fn merge(
    transaction: &Transaction<'_>,
    lines: &mut Lines,
    first: u64,
) -> anyhow::Result<()> {
    let mut select = transaction
        .prepare_cached("SELECT first, rows, bytes FROM lines WHERE first >= ?1 ORDER BY first")?;
    let chunks: Vec<(u64, u64, usize)> = select
        .query_map([signed(first)], |row| {
            let bytes = usize::try_from(row.get::<_, i64>(2)?).unwrap_or(usize::MAX);
            Ok((unsigned(row.get(0)?), unsigned(row.get(1)?), bytes))
        })?
        .collect::<Result<_, _>>()?;
    let mut small = Vec::new();
    let mut sum = 0;
    let mut end = 0;
    for (first, rows, bytes) in chunks {
        let is_small = bytes < CHUNK_BYTES / 2;
        // Numbers between two chunks whose lines were deleted have a place in the chunk.
        let is_near = first.saturating_sub(end) <= GAP_MAX;
        if !is_small || !is_near || sum >= CHUNK_BYTES {
            put_together(transaction, lines, &small)?;
            small.clear();
            sum = 0;
        }
        if is_small {
            small.push(first);
            sum += bytes;
            end = first + rows;
        }
    }
    put_together(transaction, lines, &small)
}

/// Numbers without a line that a chunk may begin to cover when chunks are put together.
const GAP_MAX: u64 = 4_096;

fn put_together(
    transaction: &Transaction<'_>,
    lines: &mut Lines,
    firsts: &[u64],
) -> anyhow::Result<()> {
    if firsts.len() < 2 {
        return Ok(());
    }
    for &first in firsts {
        let Some(chunk) = Packed::of(transaction, first)? else {
            continue;
        };
        transaction
            .prepare_cached("DELETE FROM lines WHERE first = ?1")?
            .execute([signed(chunk.first)])?;
        let plain = chunk.unpack()?;
        for arrival in chunk.first..chunk.end() {
            if let Some(line) = plain.line(arrival) {
                lines.add(arrival, line);
            }
        }
    }
    Ok(lines.write(transaction)?)
}
