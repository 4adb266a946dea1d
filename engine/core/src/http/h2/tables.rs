//! The header tables of all HTTP/2 connections of a shard, with a bound on their memory.
//!
//! Only what is filled counts, so that idle connections keep their tables. Beyond the bound the tables of the connection
//! that has been silent longest are forgotten: what refers to them later is unknown.

use super::hpack::{Memory, Table};
use crate::flow::{Direction, PerDirection};

/// Tables of each direction of closed connections whose memory is kept within the bound; more are freed.
const SPARE_TABLES_MAX: usize = 256;

/// No table.
const NONE: u32 = u32::MAX;

/// Places that are allocated at once: a vector that doubles would copy all of them, and have as many that are not used.
const CHUNK: usize = 256;

/// Tables by the number of their connection, linked in the order of their last use. Those that were forgotten are linked again with
/// their next use, so that each is walked over once.
#[derive(Debug)]
pub(super) struct Tables {
    slots: Slots,
    free: Vec<u32>,
    /// Memory of closed ones, which counts as held; requests fill tables more than responses do.
    spare: PerDirection<Vec<Memory>>,
    oldest: u32,
    newest: u32,
    /// Memory of all of them.
    held: usize,
    max: usize,
}

#[derive(Debug)]
struct Slot {
    tables: PerDirection<Table>,
    memory: usize,
    before: u32,
    after: u32,
    is_linked: bool,
}

/// Places by number, which never move.
#[derive(Debug, Default)]
struct Slots {
    chunks: Vec<Vec<Slot>>,
    len: usize,
}

impl Slots {
    fn get_mut(&mut self, index: u32) -> Option<&mut Slot> {
        let index = index as usize;
        self.chunks.get_mut(index / CHUNK)?.get_mut(index % CHUNK)
    }

    fn push(&mut self, slot: Slot) {
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        if let Some(chunk) = self.chunks.last_mut() {
            chunk.push(slot);
            self.len += 1;
        }
    }

    #[cfg(test)]
    fn iter(&self) -> impl Iterator<Item = &Slot> {
        self.chunks.iter().flatten()
    }
}

/// The tables of a connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Key(u32);

impl Tables {
    pub(super) fn new(max: usize) -> Self {
        Self {
            slots: Slots::default(),
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
        self.held
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
        let index = self.free.pop().unwrap_or(self.slots.len as u32);
        match self.slots.get_mut(index) {
            Some(place) => *place = slot,
            None => {
                self.slots.push(slot);
                // Each may be closed, and nothing is allocated then.
                let open = self.slots.len;
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
    pub(super) fn get(&mut self, key: &Key, direction: Direction) -> Option<&mut Table> {
        let slot = self.slots.get_mut(key.0)?;
        Some(&mut slot.tables[direction])
    }

    /// Counts what a connection's tables hold after a block, and returns how many other connections lost theirs for it.
    pub(super) fn settle(&mut self, key: &Key) -> u64 {
        self.count(key.0);
        if self.newest != key.0 {
            self.unlink(key.0);
            self.link(key.0);
        }
        if self.held > self.max {
            self.free_spare();
        }
        let mut shed = 0;
        let mut index = self.oldest;
        while self.held > self.max && index != NONE {
            let Some(slot) = self.slots.get_mut(index) else {
                break;
            };
            let next = slot.after;
            if slot.memory > size_of::<Slot>() {
                slot.tables.both_mut().into_iter().for_each(Table::forget);
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
            self.held -= slot.memory;
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
                let memory = table.into_memory();
                let Some(memory) = memory.filter(|_| spare.len() < SPARE_TABLES_MAX) else {
                    continue;
                };
                if self.held + memory.bytes() <= self.max {
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
    }

    fn count(&mut self, index: u32) {
        if let Some(slot) = self.slots.get_mut(index) {
            let tables: usize = slot.tables.both().into_iter().map(Table::memory).sum();
            let memory = size_of::<Slot>() + tables;
            self.held = self.held + memory - slot.memory;
            slot.memory = memory;
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

    /// Inserts a field of some hundred bytes.
    fn fill(tables: &mut Tables, key: &Key) -> u64 {
        let mut field = b"\x40\x01n\x7f\x80\x01".to_vec();
        field.extend_from_slice(&[b'v'; 255]);
        let table = tables.get(key, Direction::Originator).unwrap();
        let (mut decoder, mut block) = (Decoder::default(), Block::default());
        decoder
            .fragment(&field, table, &mut Strings::default(), &mut block)
            .unwrap();
        decoder.end().unwrap();
        tables.settle(key)
    }

    #[test]
    fn the_connection_that_is_silent_longest_loses_its_tables() {
        let whole = PerDirection {
            originator: true,
            responder: true,
        };
        let mut tables = Tables::new(3 * size_of::<Slot>() + 1000);
        let keys = [(); 3].map(|()| tables.open(whole));
        assert_eq!(
            keys.iter().map(|key| fill(&mut tables, key)).sum::<u64>(),
            0
        );
        assert_eq!(fill(&mut tables, &keys[0]), 1, "the second is oldest");
        let memory =
            |tables: &mut Tables, key| tables.get(key, Direction::Originator).unwrap().memory();
        assert_eq!(memory(&mut tables, &keys[1]), 0);
        assert!(memory(&mut tables, &keys[2]) > 0);
        assert!(tables.held() <= tables.max);
        for key in keys {
            tables.close(key);
        }
        tables.free_spare();
        assert_eq!(
            (tables.held(), tables.oldest, tables.newest),
            (0, NONE, NONE)
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
        let open = open + (tables.slots.len - tables.free.len()) * size_of::<Slot>();
        let spare = tables.spare.both().into_iter().flatten();
        open + spare.map(Memory::bytes).sum::<usize>()
    }

    #[test]
    fn memory_of_closed_tables_is_within_the_bound() {
        let whole = PerDirection {
            originator: true,
            responder: true,
        };
        let mut tables = Tables::new(50 * (size_of::<Slot>() + 800));
        let mut open = Vec::new();
        for number in 0..2_000_u32 {
            let key = tables.open(whole);
            fill(&mut tables, &key);
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
