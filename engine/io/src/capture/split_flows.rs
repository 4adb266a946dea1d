//! Detection of split flows: flows whose two directions reach different shards.
//!
//! Each shard has a flow table of its own, so a split flow opens in two of them. Shards write each new flow into one table
//! that they share; the second shard finds the mark of the first. That is one exchange of a word for each flow, none for a
//! packet, and no lock. The table is small: a newer flow replaces an older one, and a flow that opened with
//! thousands of others in one round may not be noted ([`NEW_FLOWS_NOTED_MAX`](engine_core::limits::NEW_FLOWS_NOTED_MAX)). So every
//! flow that is counted was split, and steady splitting is noticed; it is no count of every flow.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use engine_sys::packet::RINGS_MAX;

/// Flows remembered, at 8 bytes each. The other direction opens its flow a round trip later, or a block later where shards
/// are not equally busy: at a million new flows a second the table still covers 65 ms.
const SLOTS: usize = 1 << 16;

/// Low bits of a slot, which hold the number of the shard; the others are those of the flow's hash.
const SHARD_BITS: u64 = 0xff;

const _: () = assert!(RINGS_MAX <= SHARD_BITS as usize + 1);

/// The table of new flows, written by all shards.
#[derive(Debug)]
pub struct NewFlows {
    slots: Box<[AtomicU64]>,
}

impl Default for NewFlows {
    fn default() -> Self {
        Self {
            slots: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(),
        }
    }
}

impl NewFlows {
    /// Notes that a flow with this hash opened in this shard; true if it was noted for another shard before.
    fn is_split(&self, shard: usize, hash: u64) -> bool {
        let mine = (hash & !SHARD_BITS) | (shard as u64 & SHARD_BITS);
        let Some(slot) = self.slots.get(hash as usize % SLOTS) else {
            return false;
        };
        // Relaxed: no other data depends on the word. An exchange, so that of two shards at the same moment one sees the
        // other.
        let before = slot.swap(mine, Ordering::Relaxed);
        // An empty slot looks like hash 0 in shard 0, which is the mark of one flow in 2^56.
        let differs = before ^ mine;
        differs != 0 && differs & !SHARD_BITS == 0
    }
}

/// One shard's access to the table.
#[derive(Clone, Debug)]
pub struct Detector {
    /// The table.
    pub table: Arc<NewFlows>,
    /// The shard's number.
    pub shard: usize,
}

impl Detector {
    /// How many of these new flows another shard noted before.
    pub fn count_split(&self, new_flows: impl Iterator<Item = u64>) -> u64 {
        new_flows
            .filter(|hash| self.table.is_split(self.shard, *hash))
            .count() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(new_flows: &[(usize, u64)], expected: &[bool]) {
        let table = NewFlows::default();
        let seen: Vec<bool> = new_flows
            .iter()
            .map(|&(shard, hash)| table.is_split(shard, hash))
            .collect();
        assert_eq!(seen, expected);
    }

    #[test]
    fn the_second_shard_notices_the_first() {
        let flow = 0x1234_5678_9abc_def0;
        check(&[(0, flow), (1, flow)], &[false, true]);
        check(&[(3, flow), (3, flow)], &[false, false]);
        check(&[(255, flow), (0, flow), (0, flow)], &[false, true, false]);
        // Another flow in the same slot is not a split one; it replaces the first.
        let neighbour = flow ^ 1 << 40;
        check(
            &[(0, flow), (1, neighbour), (1, flow)],
            &[false, false, false],
        );
    }

    #[test]
    fn shards_that_race_see_each_flow_once() {
        const FLOWS: u64 = 50_000;
        let table = Arc::new(NewFlows::default());
        // One flow a slot: none displaces another.
        let hashes = || (1..=FLOWS).map(|flow| flow | flow << 32);
        let counts: Vec<u64> = std::thread::scope(|scope| {
            let shards: Vec<_> = (0..2)
                .map(|shard| {
                    let detector = Detector {
                        table: Arc::clone(&table),
                        shard,
                    };
                    scope.spawn(move || detector.count_split(hashes()))
                })
                .collect();
            shards
                .into_iter()
                .map(|shard| shard.join().unwrap())
                .collect()
        });
        assert_eq!(counts.iter().sum::<u64>(), FLOWS, "{counts:?}");
    }
}
