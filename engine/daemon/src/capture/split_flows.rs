//! Do both directions of a flow come to the same shard? Openings of flows in, those that another shard saw too out.
//!
//! Each shard has a flow table of its own, so a flow whose directions part opens in two of them. Shards write each opening
//! into one table that they share: the one that comes second finds the first one's mark. That is one exchange of a word per
//! flow, none per packet, and no lock. The table is small and forgets: a newer flow takes an older one's place, and a flow
//! that opened with thousands of others in one turn may not be noted
//! ([`NEW_FLOWS_NOTED_MAX`](engine_core::limits::NEW_FLOWS_NOTED_MAX)). So what is counted did part, and what parts all the
//! time is seen; it is no count of every flow.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use engine_sys::packet::RINGS_MAX;

/// Flows remembered, of which each takes 8 bytes. The other direction opens its flow a round trip later, or a block later
/// where shards are not equally busy: at a million new flows a second the table still goes back 65 ms.
const SLOTS: usize = 1 << 16;

/// Low bits of a slot that name the shard; the others are those of the flow's hash.
const SHARD_BITS: u64 = 0xff;

const _: () = assert!(RINGS_MAX <= SHARD_BITS as usize + 1);

/// The table. All shards write.
#[derive(Debug)]
pub struct Crossings {
    slots: Box<[AtomicU64]>,
}

impl Default for Crossings {
    fn default() -> Self {
        Self {
            slots: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(),
        }
    }
}

impl Crossings {
    /// Notes that a flow with this hash opened in this shard. True when it was noted for another one before.
    pub fn opened(&self, shard: usize, hash: u64) -> bool {
        let mine = (hash & !SHARD_BITS) | (shard as u64 & SHARD_BITS);
        let Some(slot) = self.slots.get(hash as usize % SLOTS) else {
            return false;
        };
        // Relaxed: the word is all there is. An exchange, so that of two shards at the same moment one sees the other.
        let before = slot.swap(mine, Ordering::Relaxed);
        // An empty slot is the mark of hash 0 in shard 0, which one flow in 2^56 is taken for.
        let differs = before ^ mine;
        differs != 0 && differs & !SHARD_BITS == 0
    }
}

/// One shard's way to the table.
#[derive(Clone, Debug)]
pub struct Witness {
    /// The table.
    pub crossings: Arc<Crossings>,
    /// The shard's number.
    pub shard: usize,
}

impl Witness {
    /// How many of these flows another shard saw before.
    pub fn count(&self, openings: impl Iterator<Item = u64>) -> u64 {
        openings
            .filter(|hash| self.crossings.opened(self.shard, *hash))
            .count() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(openings: &[(usize, u64)], expected: &[bool]) {
        let crossings = Crossings::default();
        let seen: Vec<bool> = openings
            .iter()
            .map(|&(shard, hash)| crossings.opened(shard, hash))
            .collect();
        assert_eq!(seen, expected);
    }

    #[test]
    fn the_second_shard_notices_the_first() {
        let flow = 0x1234_5678_9abc_def0;
        check(&[(0, flow), (1, flow)], &[false, true]);
        check(&[(3, flow), (3, flow)], &[false, false]);
        check(&[(255, flow), (0, flow), (0, flow)], &[false, true, false]);
        // Another flow in the same slot is another flow, and takes the place.
        let neighbour = flow ^ 1 << 40;
        check(
            &[(0, flow), (1, neighbour), (1, flow)],
            &[false, false, false],
        );
    }

    #[test]
    fn shards_that_race_see_each_flow_once() {
        const FLOWS: u64 = 50_000;
        let crossings = Arc::new(Crossings::default());
        // One flow a slot: none displaces another.
        let hashes = || (1..=FLOWS).map(|flow| flow | flow << 32);
        let counts: Vec<u64> = std::thread::scope(|scope| {
            let shards: Vec<_> = (0..2)
                .map(|shard| {
                    let witness = Witness {
                        crossings: Arc::clone(&crossings),
                        shard,
                    };
                    scope.spawn(move || witness.count(hashes()))
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
