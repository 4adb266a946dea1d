//! What one run of a fuzz body costs: memory, as the allocator counts it, and work, as loads from memory. Both are bounded by
//! the length of the input, and both are exact: the same input costs the same everywhere.
//!
//! Memory is that of the thread that runs the body. Loads are counted only where the code was compiled to report them, as in
//! `tests/fuzz`; elsewhere the bytes that are allocated in all stand for the work.

use std::sync::atomic::{AtomicU64, Ordering};

/// Loads so far, of all code that was compiled to report them: [`count_load`] is called for each.
static LOADS: AtomicU64 = AtomicU64::new(0);

/// Reports one load.
#[inline]
pub fn count_load() {
    LOADS.fetch_add(1, Ordering::Relaxed);
}

/// The most that a run may cost: a part whatever the input is, and a part for each of its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    /// For an input of no length.
    pub base: u64,
    /// In addition for each byte of the input.
    pub per_byte: u64,
}

impl Bound {
    /// For so many bytes of input.
    fn of(self, bytes: usize) -> u64 {
        self.base + self.per_byte * bytes as u64
    }
}

/// What a run cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// Most bytes that it held at one time.
    pub held: u64,
    /// Bytes that it allocated in all.
    pub allocated: u64,
    /// Loads from memory; 0 where they are not reported.
    pub loads: u64,
}

/// Runs `body`.
pub fn measure(body: impl FnOnce()) -> Cost {
    let before = LOADS.load(Ordering::Relaxed);
    let info = allocation_counter::measure(body);
    Cost {
        held: info.bytes_max,
        allocated: info.bytes_total,
        loads: LOADS.load(Ordering::Relaxed) - before,
    }
}

/// What a run on an input may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Of [`Cost::held`].
    pub held: Bound,
    /// Of [`Cost::allocated`] and [`Cost::loads`].
    pub work: Bound,
}

impl Limits {
    /// Panics if `cost` is more than an input of so many bytes may have.
    #[track_caller]
    pub fn check(&self, cost: Cost, bytes: usize) {
        let (held, work) = (self.held.of(bytes), self.work.of(bytes));
        assert!(
            cost.held <= held,
            "{bytes} bytes of input hold more than {held}: {cost:?}"
        );
        assert!(
            cost.allocated.max(cost.loads) <= work,
            "{bytes} bytes of input cost more work than {work}: {cost:?}"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_and_what_is_allocated_are_counted() {
        let cost = measure(|| {
            for _ in 0..10 {
                std::hint::black_box(vec![1_u8; 1000]);
            }
            count_load();
        });
        assert_eq!((cost.held, cost.allocated), (1000, 10_000));
        assert!(cost.loads >= 1);
    }

    #[test]
    #[should_panic(expected = "hold more than")]
    fn more_than_the_input_may_hold_is_a_failure() {
        let limits = Limits {
            held: Bound {
                base: 10,
                per_byte: 2,
            },
            work: Bound {
                base: 1000,
                per_byte: 0,
            },
        };
        let cost = measure(|| drop(std::hint::black_box(vec![1_u8; 31])));
        limits.check(cost, 10);
    }
}
