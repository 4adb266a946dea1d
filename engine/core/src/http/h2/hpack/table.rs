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
use super::static_table;
use crate::limits::HTTP2_TABLE_BYTES_MAX;

/// What an entry counts beside its name and value (RFC 7541 §4.1).
const ENTRY_OVERHEAD: u64 = 32;

/// The size of a table until the encoder sets another one (RFC 9113 §6.5.2).
const SIZE_DEFAULT: u32 = 4096;

/// The dynamic table of one direction.
#[derive(Debug)]
pub(in crate::http::h2) struct Table {
    /// Names and values of the entries, oldest first, behind what is left of removed ones.
    bytes: Vec<u8>,
    /// Where the bytes of the oldest entry begin.
    front: usize,
    /// The number of the first byte, of all that were ever inserted.
    base: u32,
    /// Oldest first.
    entries: VecDeque<Entry>,
    /// Sum of the entries as the RFC counts it.
    size: u64,
    /// What the encoder has set.
    size_max: u32,
    /// It was seen from its beginning, and nothing of it was forgotten.
    is_whole: bool,
    /// Entries forgotten at our own bound, since they were last taken.
    forgotten: u32,
}

/// Memory of a table that is no longer used.
#[derive(Debug, Default)]
pub(in crate::http::h2) struct Memory {
    bytes: Vec<u8>,
    entries: VecDeque<Entry>,
}

impl Memory {
    /// How much it is.
    pub(in crate::http::h2) fn bytes(&self) -> usize {
        self.bytes.capacity() + self.entries.capacity() * size_of::<Entry>()
    }
}

/// Entries for which a table grows at least.
const ENTRIES_MORE: usize = 4;

/// More memory than this is freed: an idle connection would hold what a busy one has needed.
const MEMORY_BYTES_MAX: usize = 4096;

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// The number of its first byte.
    start: u32,
    name: u16,
    value: u16,
    /// Its name was no index beyond what is known: without a name the value is of no use.
    is_known: bool,
}

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
        Self {
            bytes: Vec::new(),
            front: 0,
            base: 0,
            entries: VecDeque::new(),
            size: 0,
            size_max: SIZE_DEFAULT,
            is_whole,
            forgotten: 0,
        }
    }

    /// The same in the memory of one that is no longer used.
    pub(in crate::http::h2) fn in_memory(is_whole: bool, memory: Memory) -> Self {
        Self {
            bytes: memory.bytes,
            entries: memory.entries,
            ..Self::new(is_whole)
        }
    }

    /// Its memory for another one, if that is worth it.
    pub(in crate::http::h2) fn into_memory(self) -> Option<Memory> {
        let is_kept = (1..=MEMORY_BYTES_MAX).contains(&self.memory());
        let Self {
            mut bytes,
            mut entries,
            ..
        } = self;
        bytes.clear();
        entries.clear();
        is_kept.then_some(Memory { bytes, entries })
    }

    /// Nothing of it is known from here on; its memory is freed.
    pub(in crate::http::h2) fn forget(&mut self) {
        *self = Self {
            size_max: self.size_max,
            forgotten: self.forgotten,
            ..Self::new(false)
        };
    }

    /// Memory that it holds, in bytes.
    pub(in crate::http::h2) fn memory(&self) -> usize {
        self.bytes.capacity() + self.entries.capacity() * size_of::<Entry>()
    }

    /// Entries forgotten at our own bound since the last call.
    pub(in crate::http::h2) fn take_forgotten(&mut self) -> u32 {
        std::mem::take(&mut self.forgotten)
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
        let newest = self.entries.len().checked_sub(1);
        let place = usize::try_from(index)
            .ok()
            .and_then(|index| newest?.checked_sub(index));
        match place {
            Some(place) => self.at(place),
            None if self.is_whole => Found::Nothing,
            None => Found::Unknown,
        }
    }

    fn at(&self, place: usize) -> Found<'_> {
        let Some(entry) = self.entries.get(place).filter(|entry| entry.is_known) else {
            return Found::Unknown;
        };
        let start = entry.start.wrapping_sub(self.base) as usize;
        let name_end = start + usize::from(entry.name);
        let value_end = name_end + usize::from(entry.value);
        match (
            self.bytes.get(start..name_end),
            self.bytes.get(name_end..value_end),
        ) {
            (Some(name), Some(value)) => Found::Known(name, value),
            _ => Found::Unknown,
        }
    }

    /// Sets the size, as the encoder says it (RFC 7541 §6.3).
    pub(super) fn resize(&mut self, size_max: u32) {
        self.size_max = size_max;
        self.evict(u64::from(size_max));
    }

    /// Inserts an entry.
    pub(super) fn insert(&mut self, name: &[u8], value: &[u8]) {
        let length = (name.len() + value.len()) as u64;
        let lengths = (u16::try_from(name.len()), u16::try_from(value.len()));
        let (Ok(name_length), Ok(value_length)) = lengths else {
            return self.insert_unknown(Some(length));
        };
        if !self.admit(length) {
            return;
        }
        self.reserve(name.len() + value.len());
        self.push(name_length, value_length, true);
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(value);
    }

    /// Inserts an entry of which nothing is kept; `length` is that of its name and value, if it is known.
    pub(super) fn insert_unknown(&mut self, length: Option<u64>) {
        // Where its length is not known, neither is what it evicts.
        self.is_whole &= length.is_some();
        if self.admit(length.unwrap_or_default()) {
            // What it evicts later on is not followed.
            self.is_whole = false;
            self.push(0, 0, false);
        }
    }

    fn push(&mut self, name: u16, value: u16, is_known: bool) {
        let entry = Entry {
            start: self.base.wrapping_add(self.bytes.len() as u32),
            name,
            value,
            is_known,
        };
        self.size += entry.size();
        if self.entries.len() == self.entries.capacity() {
            // As few as that, for the same reason as in `reserve`.
            let more = (self.entries.len() / 4).max(ENTRIES_MORE);
            self.entries.reserve_exact(more);
        }
        self.entries.push_back(entry);
    }

    /// Removes what has to leave for an entry of this length; whether the entry can be kept.
    fn admit(&mut self, length: u64) -> bool {
        let size = length + ENTRY_OVERHEAD;
        if self.is_whole {
            let Some(rest) = u64::from(self.size_max).checked_sub(size) else {
                // A larger entry than the table empties it (RFC 7541 §4.4).
                self.evict(0);
                return false;
            };
            self.evict(rest);
        }
        let Some(rest) = (HTTP2_TABLE_BYTES_MAX as u64).checked_sub(size) else {
            self.forgotten += self.known() + 1;
            self.forget();
            return false;
        };
        while self.size > rest {
            self.forgotten += 1;
            self.is_whole = false;
            self.remove_oldest();
        }
        true
    }

    fn known(&self) -> u32 {
        u32::try_from(self.entries.len()).unwrap_or(u32::MAX)
    }

    /// Removes the oldest entries until the others have `size`; what a table has that is not whole is not known.
    fn evict(&mut self, size: u64) {
        while self.is_whole && self.size > size {
            self.remove_oldest();
        }
    }

    fn remove_oldest(&mut self) {
        let Some(entry) = self.entries.pop_front() else {
            self.size = 0;
            return;
        };
        self.size = self.size.saturating_sub(entry.size());
        self.front += usize::from(entry.name) + usize::from(entry.value);
        if self.entries.is_empty() {
            self.drop_front();
        }
    }

    fn drop_front(&mut self) {
        self.bytes.drain(..self.front.min(self.bytes.len()));
        self.base = self.base.wrapping_add(self.front as u32);
        self.front = 0;
    }

    /// Finds space for `count` bytes: that of removed entries, unless they are few.
    fn reserve(&mut self, count: usize) {
        if self.bytes.len() + count <= self.bytes.capacity() {
            return;
        }
        if self.front * 4 >= self.bytes.len() {
            self.drop_front();
        }
        let live = self.bytes.len();
        if live + count > self.bytes.capacity() {
            // Small, since there may be a table for each of 100 000 idle connections.
            self.bytes.reserve_exact(count + live / 4);
        }
    }
}

impl Entry {
    /// One of which nothing is known counts its overhead alone.
    fn size(self) -> u64 {
        u64::from(self.name) + u64::from(self.value) + ENTRY_OVERHEAD
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(table: &Table) -> Vec<String> {
        let text = |found| match found {
            Found::Known(name, _) => Some(String::from_utf8_lossy(name).into_owned()),
            Found::Unknown => Some("?".to_owned()),
            Found::Nothing => None,
        };
        (0..8).map_while(|index| text(table.get(index))).collect()
    }

    #[test]
    fn entries_leave_at_the_size_that_the_encoder_has_set() {
        let mut table = Table::new(true);
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
        let mut table = Table::new(false);
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
        assert_eq!(table.memory(), 0);
    }

    #[test]
    fn beyond_our_bound_the_oldest_are_unknown() {
        let mut table = Table::new(true);
        table.resize(1 << 30);
        let value = vec![b'v'; 10_000];
        for number in 0..10_u8 {
            table.insert(&[b'0' + number], &value);
        }
        assert_eq!(names(&table)[..7], ["9", "8", "7", "6", "5", "4", "?"]);
        assert_eq!(table.take_forgotten(), 4);
        assert!(
            table.memory() <= 2 * HTTP2_TABLE_BYTES_MAX,
            "{}",
            table.memory()
        );
        table.insert(b"large", &vec![0; HTTP2_TABLE_BYTES_MAX]);
        assert_eq!((table.take_forgotten(), table.get(0)), (7, Found::Unknown));
        table.insert(b"x", b"");
        assert_eq!(table.get(0), Found::Known(b"x", b""));
        assert_eq!(table.get(1), Found::Unknown);
    }
}
