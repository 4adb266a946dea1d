//! Storage addressed by small indices, which recycles its slots and never moves a value.
//!
//! It grows by chunks. A `Vec` that doubles would copy 100 MB in the middle of a packet when it holds a million
//! flows, and need twice the memory meanwhile.

const CHUNK: usize = 1024;

/// The index of no value.
pub(super) const NONE: u32 = u32::MAX;

enum Slot<T> {
    Used(T),
    /// The next free slot.
    Free(u32),
}

/// Values addressed by index.
pub(super) struct Slab<T> {
    chunks: Vec<Vec<Slot<T>>>,
    free: u32,
    len: usize,
}

impl<T> Slab<T> {
    pub(super) fn new() -> Self {
        Self {
            chunks: Vec::new(),
            free: NONE,
            len: 0,
        }
    }

    /// Number of values.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    fn slot(&mut self, index: u32) -> Option<&mut Slot<T>> {
        let index = index as usize;
        self.chunks.get_mut(index / CHUNK)?.get_mut(index % CHUNK)
    }

    pub(super) fn get(&self, index: u32) -> Option<&T> {
        let index = index as usize;
        match self.chunks.get(index / CHUNK)?.get(index % CHUNK)? {
            Slot::Used(value) => Some(value),
            Slot::Free(_) => None,
        }
    }

    pub(super) fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        match self.slot(index)? {
            Slot::Used(value) => Some(value),
            Slot::Free(_) => None,
        }
    }

    /// Stores a value; the index is [`NONE`] (and the value dropped) only with 2^32 - 1 values inside.
    pub(super) fn insert(&mut self, value: T) -> u32 {
        let reused = self.free;
        if let Some(slot) = self.slot(reused) {
            let Slot::Free(next) = std::mem::replace(slot, Slot::Used(value)) else {
                return NONE;
            };
            self.free = next;
            self.len += 1;
            return reused;
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let before = (self.chunks.len() - 1) * CHUNK;
        let Some(chunk) = self.chunks.last_mut() else {
            return NONE;
        };
        let index = u32::try_from(before + chunk.len()).unwrap_or(NONE);
        if index == NONE {
            return NONE;
        }
        chunk.push(Slot::Used(value));
        self.len += 1;
        index
    }

    /// Removes a value; its index may be used for another.
    pub(super) fn remove(&mut self, index: u32) -> Option<T> {
        let free = self.free;
        let slot = self.slot(index)?;
        if matches!(slot, Slot::Free(_)) {
            return None;
        }
        let Slot::Used(value) = std::mem::replace(slot, Slot::Free(free)) else {
            return None;
        };
        self.free = index;
        self.len -= 1;
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_are_recycled_and_values_stay() {
        let mut slab = Slab::new();
        let all: Vec<u32> = (0..3000).map(|n| slab.insert(n)).collect();
        assert_eq!(slab.len(), 3000);
        assert_eq!(slab.remove(1500), Some(1500));
        assert_eq!(slab.remove(1500), None);
        assert_eq!(slab.get(1500), None);
        assert_eq!(slab.insert(9), 1500);
        assert_eq!(slab.get(2999), Some(&2999));
        assert_eq!(all.last(), Some(&2999));
        assert_eq!(slab.get_mut(NONE), None);
        assert_eq!(slab.insert(1), 3000);
    }
}
