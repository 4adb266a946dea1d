//! The header tables of all HTTP/2 connections of a shard, with a bound on their memory.
//!
//! Only what is filled counts, so that idle connections keep their tables, and what several of them have counts once. Beyond the
//! bound the tables of the connection that has been silent longest are forgotten: what refers to them later is unknown.

use super::hpack::{Entries, Memory, Table, TableMut};
use super::places::Places;
use crate::flow::{Direction, PerDirection};

/// Tables of each direction of closed connections whose memory is kept within the bound; more are freed.
const SPARE_TABLES_MAX: usize = 256;

/// No table.
const NONE: u32 = u32::MAX;

/// Tables by the number of their connection, linked in the order of their last use. Those that were forgotten are linked again with
/// their next use, so that each is walked over once.
#[derive(Debug)]
pub(super) struct Tables {
    slots: Places<Slot>,
    entries: Entries,
    free: Vec<u32>,
    /// Memory of closed ones, which counts as held; requests fill tables more than responses do.
    spare: PerDirection<Vec<Memory>>,
    oldest: u32,
    newest: u32,
    /// Memory of all of them, without that of the entries.
    held: usize,
    max: usize,
}

#[derive(Debug)]
struct Slot {
    tables: PerDirection<Table>,
    memory: u32,
    before: u32,
    after: u32,
    is_linked: bool,
}

/// The tables of a connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Key(u32);

impl Tables {
    pub(super) fn new(max: usize) -> Self {
        Self {
            slots: Places::default(),
            entries: Entries::default(),
            free: Vec::new(),
            spare: PerDirection {
                originator: Vec::new(),
                responder: Vec::new(),
            },
            oldest: NONE,
            newest: NONE,
            held: 0,
            max,
        }
    }

    /// Memory of all tables, in bytes.
    pub(super) fn held(&self) -> usize {
        self.held + self.entries.memory()
    }

    /// Tables for a connection, of which the first bytes were seen or not.
    pub(super) fn open(&mut self, is_whole: PerDirection<bool>) -> Key {
        let (spare, held) = (&mut self.spare, &mut self.held);
        let mut table = |direction| {
            let memory: Memory = spare[direction].pop().unwrap_or_default();
            *held -= memory.bytes();
            Table::in_memory(is_whole[direction], memory)
        };
        let slot = Slot {
            tables: PerDirection {
                originator: table(Direction::Originator),
                responder: table(Direction::Responder),
            },
            memory: 0,
            before: NONE,
            after: NONE,
            is_linked: false,
        };
        let index = self.free.pop().unwrap_or(self.slots.len() as u32);
        match self.slots.get_mut(index) {
            Some(place) => *place = slot,
            None => {
                self.slots.push(slot);
                // Each may be closed, and nothing is allocated then.
                let open = self.slots.len();
                self.free.reserve(open - self.free.len());
                for spare in self.spare.both_mut() {
                    let most = open.min(SPARE_TABLES_MAX);
                    spare.reserve(most.saturating_sub(spare.len()));
                }
            }
        }
        self.count(index);
        self.link(index);
        Key(index)
    }

    /// The table of one direction.
    pub(super) fn get(&mut self, key: &Key, direction: Direction) -> Option<TableMut<'_>> {
        let slot = self.slots.get_mut(key.0)?;
        Some(slot.tables[direction].with(&mut self.entries))
    }

    /// Counts what a connection's tables hold after a block, and returns how many other connections lost theirs for it.
    pub(super) fn settle(&mut self, key: &Key) -> u64 {
        self.count(key.0);
        if self.newest != key.0 {
            self.unlink(key.0);
            self.link(key.0);
        }
        if self.held() > self.max {
            self.shed()
        } else {
            0
        }
    }

    /// Forgets the tables of connections that have been silent longest, and returns of how many.
    #[cold]
    fn shed(&mut self) -> u64 {
        self.free_spare();
        let mut shed = 0;
        let mut index = self.oldest;
        while self.held() > self.max && index != NONE {
            let Some(slot) = self.slots.get_mut(index) else {
                break;
            };
            let next = slot.after;
            if slot.memory as usize > size_of::<Slot>() {
                for table in slot.tables.both_mut() {
                    table.with(&mut self.entries).forget();
                }
                self.entries.free_spare();
                shed += 1;
            }
            self.count(index);
            self.unlink(index);
            index = next;
        }
        shed
    }

    pub(super) fn close(&mut self, key: Key) {
        self.unlink(key.0);
        if let Some(slot) = self.slots.get_mut(key.0) {
            self.held -= slot.memory as usize;
            let closed = Slot {
                tables: PerDirection {
                    originator: Table::new(false),
                    responder: Table::new(false),
                },
                memory: 0,
                before: NONE,
                after: NONE,
                is_linked: false,
            };
            let PerDirection {
                originator,
                responder,
            } = std::mem::replace(slot, closed).tables;
            for (table, spare) in [originator, responder]
                .into_iter()
                .zip(self.spare.both_mut())
            {
                let memory = table.close(&mut self.entries);
                let Some(memory) = memory.filter(|_| spare.len() < SPARE_TABLES_MAX) else {
                    continue;
                };
                if self.held + self.entries.memory() + memory.bytes() <= self.max {
                    self.held += memory.bytes();
                    spare.push(memory);
                }
            }
        }
        self.free.push(key.0);
    }

    /// Frees the memory of closed ones: what connections have in use comes first.
    #[cold]
    fn free_spare(&mut self) {
        for spare in self.spare.both_mut() {
            for memory in spare.drain(..) {
                self.held -= memory.bytes();
            }
        }
        self.entries.free_spare();
    }

    fn count(&mut self, index: u32) {
        if let Some(slot) = self.slots.get_mut(index) {
            let tables: usize = slot.tables.both().into_iter().map(Table::memory).sum();
            let memory = size_of::<Slot>() + tables;
            self.held = self.held + memory - slot.memory as usize;
            // A table is bounded far below 2^32 bytes.
            slot.memory = memory as u32;
        }
    }

    fn link(&mut self, index: u32) {
        let before = std::mem::replace(&mut self.newest, index);
        if let Some(slot) = self.slots.get_mut(index) {
            (slot.before, slot.after) = (before, NONE);
            slot.is_linked = true;
        }
        match self.slots.get_mut(before) {
            Some(before) => before.after = index,
            None => self.oldest = index,
        }
    }

    fn unlink(&mut self, index: u32) {
        let Some(slot) = self.slots.get_mut(index) else {
            return;
        };
        if !std::mem::take(&mut slot.is_linked) {
            return;
        }
        let (before, after) = (slot.before, slot.after);
        match self.slots.get_mut(before) {
            Some(slot) => slot.after = after,
            None => self.oldest = after,
        }
        match self.slots.get_mut(after) {
            Some(slot) => slot.before = before,
            None => self.newest = before,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::h2::block::Block;
    use crate::http::h2::hpack::{Decoder, Strings};

    /// Inserts a field of some hundred bytes, which no other connection has.
    fn fill(tables: &mut Tables, key: &Key, number: u32) -> u64 {
        let mut field = b"\x40\x01n\x7f\x80\x01".to_vec();
        field.extend_from_slice(&number.to_be_bytes());
        field.extend_from_slice(&[b'v'; 251]);
        let mut table = tables.get(key, Direction::Originator).unwrap();
        let (mut decoder, mut block) = (Decoder::default(), Block::default());
        decoder
            .fragment(&field, &mut table, &mut Strings::default(), &mut block)
            .unwrap();
        decoder.end().unwrap();
        tables.settle(key)
    }

    const WHOLE: PerDirection<bool> = PerDirection {
        originator: true,
        responder: true,
    };

    #[test]
    fn the_connection_that_is_silent_longest_loses_its_tables() {
        let mut tables = Tables::new(3 * size_of::<Slot>() + 1100);
        let keys = [(); 3].map(|()| tables.open(WHOLE));
        let numbered = keys.iter().zip(0..);
        let shed = numbered.map(|(key, number)| fill(&mut tables, key, number));
        assert_eq!(shed.sum::<u64>(), 0);
        assert_eq!(fill(&mut tables, &keys[0], 3), 1, "the second is oldest");
        let mut memory = |key: &Key| {
            let slot = tables.slots.get_mut(key.0).unwrap();
            slot.tables.originator.memory()
        };
        assert_eq!(memory(&keys[1]), 0);
        assert!(memory(&keys[2]) > 0);
        assert!(tables.held() <= tables.max);
        assert_eq!(tables.entries.counted().1, 3, "its entry is gone");
        for key in keys {
            tables.close(key);
        }
        tables.free_spare();
        assert_eq!((tables.held, tables.oldest, tables.newest), (0, NONE, NONE));
        assert_eq!(tables.entries.counted().1, 0);
    }

    #[test]
    fn what_connections_have_in_common_is_held_once() {
        let mut tables = Tables::new(1 << 20);
        let first = tables.open(WHOLE);
        fill(&mut tables, &first, 1);
        let before = tables.held();
        for _ in 0..1_000 {
            let key = tables.open(WHOLE);
            fill(&mut tables, &key, 1);
        }
        let each = (tables.held() - before) / 1_000;
        assert_eq!(each, size_of::<Slot>() + 4 * size_of::<u32>());
        assert_eq!(
            tables.entries.counted(),
            (tables.entries.memory(), 1, 1_001)
        );
    }

    /// Memory of all tables, open and closed.
    fn memory(tables: &Tables) -> usize {
        let slots = tables.slots.iter();
        let of_tables = |slot: &Slot| -> usize {
            let tables = slot.tables.both().into_iter().map(Table::memory);
            tables.sum()
        };
        let open = slots.map(of_tables).sum::<usize>();
        let open = open + (tables.slots.len() - tables.free.len()) * size_of::<Slot>();
        let spare = tables.spare.both().into_iter().flatten();
        open + spare.map(Memory::bytes).sum::<usize>() + tables.entries.counted().0
    }

    #[test]
    fn memory_of_closed_tables_is_within_the_bound() {
        let mut tables = Tables::new(50 * (size_of::<Slot>() + 800));
        let mut open = Vec::new();
        for number in 0..2_000_u32 {
            let key = tables.open(WHOLE);
            fill(&mut tables, &key, number);
            open.push(key);
            // Some stay open for long, and all of them are closed now and then.
            let kept = if number % 500 == 499 { 0 } else { 40 };
            while open.len() > kept {
                let at = number as usize * 7 % open.len();
                tables.close(open.swap_remove(at));
            }
            assert_eq!(tables.held(), memory(&tables));
            assert!(tables.held() <= tables.max, "{}", tables.held());
            let spare: usize = tables.spare.both().into_iter().map(Vec::len).sum();
            assert!(kept > 0 || spare > 0, "memory is used again");
        }
    }
}
