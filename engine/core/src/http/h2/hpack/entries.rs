//! The entries of all header tables of a shard: each name with its value is kept once, however many tables have it.
//!
//! The channels of a program send the same fields but for a few, so thousands of idle tables need little more than a number for
//! each entry. An entry is found by its hash when it is inserted, and counts in how many tables it is.
//!
//! Memory: [`Entries::memory`] is all of it, once; the bound is that of the tables ([`HTTP2_TABLES_BYTES_MAX`]). What removed
//! entries held is used for others, up to [`SPARE_BYTES_MAX`].
//!
//! [`HTTP2_TABLES_BYTES_MAX`]: crate::limits::HTTP2_TABLES_BYTES_MAX

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use crate::http::h2::places::Places;

/// No entry: one of which nothing is known.
pub(super) const UNKNOWN: u32 = u32::MAX;

/// Memory of removed entries that is kept for others.
const SPARE_BYTES_MAX: usize = 64 * 1024;

/// Up to here the sizes of memory are multiples of [`STEP`].
const FINE_BYTES: usize = 512;

const STEP: usize = 32;

/// Sizes between two powers of two above.
const COARSE: usize = 8;

/// Sizes up to 64 KiB.
const CLASSES: usize = FINE_BYTES / STEP + COARSE * 7;

/// The list of places without memory.
const WITHOUT: usize = CLASSES;

/// All entries.
#[derive(Debug)]
pub(in crate::http::h2) struct Entries {
    places: Places<Entry>,
    /// Numbers of entries.
    index: HashTable<u32>,
    hasher: RandomState,
    /// The first of the free places, by what memory they have.
    free: [u32; CLASSES + 1],
    /// Memory of the bytes of all places.
    bytes: usize,
    /// The part of it that is not used.
    spare: usize,
}

#[derive(Debug)]
struct Entry {
    /// The name and the value behind it, in memory of one of the sizes.
    bytes: Box<[u8]>,
    hash: u32,
    /// Tables that have it; 0 in a free place.
    tables: u32,
    /// The next free place.
    next: u32,
    name: u16,
    value: u16,
}

impl Default for Entries {
    fn default() -> Self {
        Self {
            places: Places::default(),
            index: HashTable::new(),
            hasher: RandomState::default(),
            free: [UNKNOWN; CLASSES + 1],
            bytes: 0,
            spare: 0,
        }
    }
}

impl Entries {
    /// Memory of all of it, in bytes.
    pub(in crate::http::h2) fn memory(&self) -> usize {
        self.bytes + self.places.len() * size_of::<Entry>() + self.index.allocation_size()
    }

    /// The name and the value.
    #[inline]
    pub(super) fn get(&self, number: u32) -> Option<(&[u8], &[u8])> {
        let entry = self.places.get(number)?;
        Some((entry.name()?, entry.value()?))
    }

    /// How long name and value are together; nothing of one that is not known.
    #[inline]
    pub(super) fn length(&self, number: u32) -> usize {
        self.places.get(number).map_or(0, Entry::length)
    }

    /// The number of this entry, which one more table has.
    #[inline]
    pub(super) fn add(&mut self, name: &[u8], value: &[u8], lengths: (u16, u16)) -> u32 {
        let hash = self.hash(name, value);
        let Self { places, index, .. } = self;
        let is = |number: &u32| {
            let entry = places.get(*number);
            entry.is_some_and(|entry| entry.hash == hash && entry.is(name, value))
        };
        if let Some(&number) = index.find(spread(hash), is)
            && let Some(entry) = places.get_mut(number)
        {
            entry.tables += 1;
            return number;
        }
        self.add_new(name, value, lengths, hash)
    }

    #[inline(never)]
    fn add_new(
        &mut self,
        name: &[u8],
        value: &[u8],
        (name_length, value_length): (u16, u16),
        hash: u32,
    ) -> u32 {
        let length = name.len() + value.len();
        let (class, size) = class_of(length);
        let number = self
            .take(class)
            .or_else(|| self.take(WITHOUT))
            .unwrap_or_else(|| self.places.push(Entry::new()));
        let Some(entry) = self.places.get_mut(number) else {
            return UNKNOWN;
        };
        if entry.bytes.is_empty() {
            entry.bytes = vec![0; size].into_boxed_slice();
            self.bytes += size;
        } else {
            self.spare -= size;
        }
        (entry.hash, entry.tables) = (hash, 1);
        (entry.name, entry.value) = (name_length, value_length);
        if let Some((front, behind)) = entry.bytes.split_at_mut_checked(name.len())
            && let Some(behind) = behind.get_mut(..value.len())
        {
            front.copy_from_slice(name);
            behind.copy_from_slice(value);
        }
        let places = &self.places;
        let hash_of = |number: &u32| spread(places.get(*number).map_or(0, |entry| entry.hash));
        self.index.insert_unique(spread(hash), number, hash_of);
        number
    }

    /// A table has the entry no longer.
    #[inline]
    pub(super) fn remove(&mut self, number: u32) {
        let Some(entry) = self.places.get_mut(number) else {
            return;
        };
        entry.tables = entry.tables.saturating_sub(1);
        if entry.tables == 0 {
            self.free(number);
        }
    }

    /// No table has it.
    #[inline(never)]
    fn free(&mut self, number: u32) {
        let Some(entry) = self.places.get_mut(number) else {
            return;
        };
        let found = self
            .index
            .find_entry(spread(entry.hash), |other| *other == number);
        if let Ok(found) = found {
            found.remove();
        }
        let (mut class, size) = class_of(entry.length());
        if self.spare + size <= SPARE_BYTES_MAX {
            self.spare += size;
        } else {
            entry.bytes = Box::default();
            self.bytes -= size;
            class = WITHOUT;
        }
        if let Some(first) = self.free.get_mut(class) {
            entry.next = std::mem::replace(first, number);
        }
    }

    /// Frees the memory of removed entries.
    #[cold]
    pub(in crate::http::h2) fn free_spare(&mut self) {
        for class in 0..CLASSES {
            while let Some(number) = self.take(class) {
                let Some(entry) = self.places.get_mut(number) else {
                    break;
                };
                self.bytes -= entry.bytes.len();
                self.spare -= entry.bytes.len();
                entry.bytes = Box::default();
                if let Some(first) = self.free.get_mut(WITHOUT) {
                    entry.next = std::mem::replace(first, number);
                }
            }
        }
    }

    /// A free place with memory of this class.
    #[inline]
    fn take(&mut self, class: usize) -> Option<u32> {
        let first = self.free.get_mut(class)?;
        let number = *first;
        *first = self.places.get(number)?.next;
        Some(number)
    }

    #[inline]
    fn hash(&self, name: &[u8], value: &[u8]) -> u32 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(name);
        hasher.write(value);
        hasher.write_usize(name.len());
        (hasher.finish() >> 32) as u32
    }

    /// What [`Self::memory`] has to be, counted anew, with the number of entries in use and the sum of the tables that they have.
    #[cfg(test)]
    pub(in crate::http::h2) fn counted(&self) -> (usize, usize, usize) {
        let entries = || self.places.iter();
        let bytes: usize = entries().map(|entry| entry.bytes.len()).sum();
        let places = self.places.len() * size_of::<Entry>();
        let used = entries().filter(|entry| entry.tables > 0).count();
        assert_eq!(used, self.index.len());
        let spare = entries().filter(|entry| entry.tables == 0);
        let spare: usize = spare.map(|entry| entry.bytes.len()).sum();
        assert_eq!(spare, self.spare);
        let tables = entries().map(|entry| entry.tables as usize).sum();
        (bytes + places + self.index.allocation_size(), used, tables)
    }
}

impl Entry {
    fn new() -> Self {
        Self {
            bytes: Box::default(),
            hash: 0,
            tables: 0,
            next: UNKNOWN,
            name: 0,
            value: 0,
        }
    }

    #[inline]
    fn name(&self) -> Option<&[u8]> {
        self.bytes.get(..usize::from(self.name))
    }

    #[inline]
    fn value(&self) -> Option<&[u8]> {
        self.bytes.get(usize::from(self.name)..self.length())
    }

    #[inline]
    fn length(&self) -> usize {
        usize::from(self.name) + usize::from(self.value)
    }

    #[inline]
    fn is(&self, name: &[u8], value: &[u8]) -> bool {
        self.name() == Some(name) && self.value() == Some(value)
    }
}

/// The hash as the index takes it, which reads the highest and the lowest bits.
#[inline]
fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

/// The class and the size of memory for `length` bytes: at most 31 more, and an eighth above [`FINE_BYTES`].
#[inline]
fn class_of(length: usize) -> (usize, usize) {
    let length = length.max(1);
    if length <= FINE_BYTES {
        let size = length.next_multiple_of(STEP);
        return (size / STEP - 1, size);
    }
    let octave = (length - 1).ilog2();
    let from = 1 << octave;
    let step = from / COARSE;
    let steps = (length - from).div_ceil(step);
    let before = (octave - FINE_BYTES.ilog2()) as usize * COARSE;
    let class = FINE_BYTES / STEP + before + steps - 1;
    (class.min(WITHOUT - 1), from + steps * step)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(entries: &mut Entries, name: &[u8], value: &[u8]) -> u32 {
        let lengths = (name.len() as u16, value.len() as u16);
        entries.add(name, value, lengths)
    }

    #[test]
    fn sizes_are_little_more_than_what_is_needed() {
        let mut before = (0, 32);
        for length in 0..=65_536 {
            let (class, size) = class_of(length);
            assert!(size >= length && class < CLASSES);
            assert!(
                size <= length.max(1) + 31 || size * 8 <= length * 9 + 8,
                "{length}"
            );
            assert_eq!(
                class == before.0,
                size == before.1,
                "{length}: one size in a class"
            );
            before = (class, size);
        }
    }

    #[test]
    fn an_entry_is_kept_once_and_as_long_as_a_table_has_it() {
        let mut entries = Entries::default();
        let first = add(&mut entries, b"name", b"value");
        assert_eq!(add(&mut entries, b"name", b"value"), first);
        let others = [
            add(&mut entries, b"name", b"values"),
            add(&mut entries, b"namev", b"alue"),
            add(&mut entries, b"", b""),
        ];
        assert!(!others.contains(&first));
        assert_eq!(entries.counted(), (entries.memory(), 4, 5));
        entries.remove(first);
        assert_eq!(entries.get(first), Some((&b"name"[..], &b"value"[..])));
        entries.remove(first);
        assert_eq!(entries.counted(), (entries.memory(), 3, 3));
        let memory = entries.memory();
        assert_eq!(
            add(&mut entries, b"other", b"field"),
            first,
            "its memory is used again"
        );
        assert_eq!(entries.memory(), memory);
        assert_eq!(entries.get(others[1]), Some((&b"namev"[..], &b"alue"[..])));
        entries.remove(UNKNOWN);
        assert_eq!(entries.get(UNKNOWN), None);
    }

    #[test]
    fn memory_of_removed_entries_is_bounded_and_freed() {
        let mut entries = Entries::default();
        for round in 0..3 {
            let numbers: Vec<_> = (0..2_000_usize)
                .map(|number| {
                    let value = vec![round; number * 7 % 3000];
                    add(&mut entries, number.to_string().as_bytes(), &value)
                })
                .collect();
            assert_eq!(entries.counted(), (entries.memory(), 2_000, 2_000));
            for number in numbers {
                entries.remove(number);
            }
            assert_eq!(entries.counted(), (entries.memory(), 0, 0));
            assert!(entries.spare <= SPARE_BYTES_MAX && entries.bytes == entries.spare);
        }
        assert_eq!(entries.places.len(), 2_000, "places are used again");
        entries.free_spare();
        assert_eq!((entries.bytes, entries.spare), (0, 0));
        assert_eq!(entries.counted().0, entries.memory());
    }
}
