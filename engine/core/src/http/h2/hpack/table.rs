//! The dynamic table of one direction (RFC 7541 §2.3.2 and §4), and what is known of it.
//!
//! A table that was seen from its beginning is **whole**: it has exactly the entries that the encoder has, and an index
//! beyond them is broken. Of any other table only the entries inserted since are known. Indices count from the newest entry,
//! so those are exact, and an index beyond them is unknown. Evictions need not be followed then: an encoder refers to no
//! entry that it has evicted.
//!
//! Bound: [`HTTP2_TABLE_BYTES_MAX`], whatever the peers have agreed on; beyond it the oldest entries are forgotten.

use std::collections::VecDeque;

use super::broken::Broken;
use super::entries::{Entries, UNKNOWN};
use super::static_table;
use crate::limits::HTTP2_TABLE_BYTES_MAX;

/// What an entry counts beside its name and value (RFC 7541 §4.1).
const ENTRY_OVERHEAD: u64 = 32;

/// The size of a table until the encoder sets another one (RFC 9113 §6.5.2).
const SIZE_DEFAULT: u32 = 4096;

/// The dynamic table of one direction: numbers of entries, which the tables of a shard share.
#[derive(Debug)]
pub(in crate::http::h2) struct Table {
    /// Oldest first.
    numbers: VecDeque<u32>,
    /// Sum of the entries as the RFC counts it, bounded by our own bound.
    size: u32,
    /// What the encoder has set.
    size_max: u32,
    /// Entries forgotten at our own bound, since they were last taken.
    forgotten: u32,
    /// It was seen from its beginning, and nothing of it was forgotten.
    is_whole: bool,
}

/// A table with the entries that it refers to.
#[derive(Debug)]
pub(in crate::http::h2) struct TableMut<'a> {
    table: &'a mut Table,
    entries: &'a mut Entries,
}

/// Memory of a table that is no longer used.
#[derive(Debug, Default)]
pub(in crate::http::h2) struct Memory(VecDeque<u32>);

impl Memory {
    /// How much it is.
    pub(in crate::http::h2) fn bytes(&self) -> usize {
        self.0.capacity() * size_of::<u32>()
    }
}

/// Entries for which a table grows at least.
const ENTRIES_MORE: usize = 4;

/// More memory than this is freed: an idle connection would hold what a busy one has needed.
const MEMORY_BYTES_MAX: usize = 512;

/// What an index stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found<'a> {
    Known(&'a [u8], &'a [u8]),
    Unknown,
    /// There is no such entry.
    Nothing,
}

impl Table {
    /// A table that is empty, or of which nothing is known.
    pub(in crate::http::h2) fn new(is_whole: bool) -> Self {
        Self::in_memory(is_whole, Memory::default())
    }

    /// The same in the memory of one that is no longer used.
    pub(in crate::http::h2) fn in_memory(is_whole: bool, memory: Memory) -> Self {
        Self {
            numbers: memory.0,
            size: 0,
            size_max: SIZE_DEFAULT,
            forgotten: 0,
            is_whole,
        }
    }

    /// Memory that it holds without that of its entries, in bytes.
    pub(in crate::http::h2) fn memory(&self) -> usize {
        self.numbers.capacity() * size_of::<u32>()
    }

    /// With the entries that it refers to, which are always the same.
    #[inline]
    pub(in crate::http::h2) fn with<'a>(&'a mut self, entries: &'a mut Entries) -> TableMut<'a> {
        TableMut {
            table: self,
            entries,
        }
    }

    /// It is not used any more: its memory for another one, if that is worth it.
    pub(in crate::http::h2) fn close(mut self, entries: &mut Entries) -> Option<Memory> {
        self.with(entries).clear();
        let is_kept = (1..=MEMORY_BYTES_MAX).contains(&self.memory());
        is_kept.then_some(Memory(self.numbers))
    }
}

impl TableMut<'_> {
    /// Nothing of it is known from here on; its memory is freed.
    pub(in crate::http::h2) fn forget(&mut self) {
        self.clear();
        *self.table = Table {
            size_max: self.table.size_max,
            forgotten: self.table.forgotten,
            ..Table::new(false)
        };
    }

    /// Removes all entries.
    fn clear(&mut self) {
        for number in self.table.numbers.drain(..) {
            self.entries.remove(number);
        }
        self.table.size = 0;
    }

    /// Entries forgotten at our own bound since the last call.
    pub(in crate::http::h2) fn take_forgotten(&mut self) -> u32 {
        std::mem::take(&mut self.table.forgotten)
    }

    /// The entry with this index, in the static table or in this one (RFC 7541 §2.3.3).
    #[inline]
    pub(super) fn entry(&self, index: u32) -> Result<Found<'_>, Broken> {
        let found = match index.checked_sub(static_table::LENGTH + 1) {
            Some(index) => self.get(index),
            None => match static_table::entry(index) {
                Some((name, value)) => Found::Known(name, value),
                None => Found::Nothing,
            },
        };
        match found {
            Found::Nothing => Err(Broken),
            found => Ok(found),
        }
    }

    /// The entry with this index, from 0 for the newest one.
    #[inline]
    pub(super) fn get(&self, index: u32) -> Found<'_> {
        let numbers = &self.table.numbers;
        let place = numbers.len().checked_sub(1).and_then(|newest| {
            let index = usize::try_from(index).ok()?;
            newest.checked_sub(index)
        });
        let number = place.and_then(|place| numbers.get(place));
        match number.map(|number| self.entries.get(*number)) {
            Some(Some((name, value))) => Found::Known(name, value),
            None if self.table.is_whole => Found::Nothing,
            _ => Found::Unknown,
        }
    }

    /// Sets the size, as the encoder says it (RFC 7541 §6.3).
    pub(super) fn resize(&mut self, size_max: u32) {
        self.table.size_max = size_max;
        self.evict(u64::from(size_max));
    }

    /// Inserts an entry.
    pub(super) fn insert(&mut self, name: &[u8], value: &[u8]) {
        let length = (name.len() + value.len()) as u64;
        let lengths = (u16::try_from(name.len()), u16::try_from(value.len()));
        let (Ok(name_length), Ok(value_length)) = lengths else {
            return self.insert_unknown(Some(length));
        };
        if self.admit(length) {
            let lengths = (name_length, value_length);
            let number = self.entries.add(name, value, lengths);
            self.push(number, length);
        }
    }

    /// Inserts an entry of which nothing is kept; `length` is that of its name and value, if it is known.
    pub(super) fn insert_unknown(&mut self, length: Option<u64>) {
        // Where its length is not known, neither is what it evicts.
        self.table.is_whole &= length.is_some();
        if self.admit(length.unwrap_or_default()) {
            // What it evicts later on is not followed.
            self.table.is_whole = false;
            self.push(UNKNOWN, 0);
        }
    }

    fn push(&mut self, number: u32, length: u64) {
        let Table { numbers, size, .. } = &mut *self.table;
        *size += (length + ENTRY_OVERHEAD) as u32;
        if numbers.len() == numbers.capacity() {
            // Few, since there may be a table for each of 100 000 idle connections.
            numbers.reserve_exact((numbers.len() / 4).max(ENTRIES_MORE));
        }
        numbers.push_back(number);
    }

    /// Removes what has to leave for an entry of this length; whether the entry can be kept.
    fn admit(&mut self, length: u64) -> bool {
        let size = length + ENTRY_OVERHEAD;
        if self.table.is_whole {
            let Some(rest) = u64::from(self.table.size_max).checked_sub(size) else {
                // A larger entry than the table empties it (RFC 7541 §4.4).
                self.evict(0);
                return false;
            };
            self.evict(rest);
        }
        let Some(rest) = (HTTP2_TABLE_BYTES_MAX as u64).checked_sub(size) else {
            self.table.forgotten += self.known() + 1;
            self.forget();
            return false;
        };
        while u64::from(self.table.size) > rest {
            self.table.forgotten += 1;
            self.table.is_whole = false;
            self.remove_oldest();
        }
        true
    }

    fn known(&self) -> u32 {
        u32::try_from(self.table.numbers.len()).unwrap_or(u32::MAX)
    }

    /// Removes the oldest entries until the others have `size`; what a table has that is not whole is not known.
    fn evict(&mut self, size: u64) {
        while self.table.is_whole && u64::from(self.table.size) > size {
            self.remove_oldest();
        }
    }

    fn remove_oldest(&mut self) {
        let Some(number) = self.table.numbers.pop_front() else {
            self.table.size = 0;
            return;
        };
        // One of which nothing is known counts its overhead alone.
        let size = self.entries.length(number) as u64 + ENTRY_OVERHEAD;
        self.table.size = self.table.size.saturating_sub(size as u32);
        self.entries.remove(number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(table: &TableMut<'_>) -> Vec<String> {
        let text = |found| match found {
            Found::Known(name, _) => Some(String::from_utf8_lossy(name).into_owned()),
            Found::Unknown => Some("?".to_owned()),
            Found::Nothing => None,
        };
        (0..8).map_while(|index| text(table.get(index))).collect()
    }

    #[test]
    fn entries_leave_at_the_size_that_the_encoder_has_set() {
        let (mut table, mut entries) = (Table::new(true), Entries::default());
        let mut table = table.with(&mut entries);
        table.resize(3 * 34);
        for name in ["a", "b", "c", "d"] {
            table.insert(name.as_bytes(), b"1");
        }
        assert_eq!(names(&table), ["d", "c", "b"]);
        table.resize(2 * 34 - 1);
        assert_eq!(names(&table), ["d"]);
        table.resize(200);
        table.insert(b"e", b"");
        assert_eq!(names(&table), ["e", "d"]);
        table.insert(b"too", &[b'x'; 200]);
        assert_eq!(names(&table), [""; 0]);
        table.insert(b"f", b"");
        assert_eq!(names(&table), ["f"]);
    }

    #[test]
    fn of_a_table_joined_late_the_newest_are_known() {
        let (mut table, mut entries) = (Table::new(false), Entries::default());
        let mut table = table.with(&mut entries);
        assert_eq!(table.get(0), Found::Unknown);
        table.insert(b"a", b"1");
        table.insert_unknown(None);
        table.insert(b"b", b"2");
        assert_eq!(table.get(0), Found::Known(b"b", b"2"));
        assert_eq!(table.get(1), Found::Unknown);
        assert_eq!(table.get(2), Found::Known(b"a", b"1"));
        assert_eq!(table.get(3), Found::Unknown);
        table.forget();
        assert_eq!(table.get(0), Found::Unknown);
        assert_eq!(table.table.memory(), 0);
        assert_eq!(table.entries.counted().1, 0, "no entry is left behind");
    }

    #[test]
    fn beyond_our_bound_the_oldest_are_unknown() {
        let (mut table, mut entries) = (Table::new(true), Entries::default());
        let mut table = table.with(&mut entries);
        table.resize(1 << 30);
        let value = vec![b'v'; 10_000];
        for number in 0..10_u8 {
            table.insert(&[b'0' + number], &value);
        }
        assert_eq!(names(&table)[..7], ["9", "8", "7", "6", "5", "4", "?"]);
        assert_eq!(table.take_forgotten(), 4);
        let (memory, used, _) = table.entries.counted();
        assert_eq!((memory, used), (table.entries.memory(), 6));
        assert!(memory <= 3 * HTTP2_TABLE_BYTES_MAX, "{memory}");
        table.insert(b"large", &vec![0; HTTP2_TABLE_BYTES_MAX]);
        assert_eq!((table.take_forgotten(), table.get(0)), (7, Found::Unknown));
        table.insert(b"x", b"");
        assert_eq!(table.get(0), Found::Known(b"x", b""));
        assert_eq!(table.get(1), Found::Unknown);
        assert_eq!(table.entries.counted().1, 1);
    }

    #[test]
    fn tables_share_their_entries() {
        let (mut one, mut other) = (Table::new(true), Table::new(true));
        let mut entries = Entries::default();
        for table in [&mut one, &mut other] {
            let mut table = table.with(&mut entries);
            table.insert(b"user-agent", b"grpc-go");
            table.insert(b"te", b"trailers");
            table.insert(b"te", b"trailers");
        }
        other.with(&mut entries).insert(b"own", b"1");
        assert_eq!(entries.counted(), (entries.memory(), 3, 7));
        assert!(one.close(&mut entries).is_some());
        assert_eq!(
            names(&other.with(&mut entries)),
            ["own", "te", "te", "user-agent"]
        );
        other.with(&mut entries).resize(0);
        assert_eq!(entries.counted().1, 0);
    }
}
