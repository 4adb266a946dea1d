//! Seeds of hash tables, samples and identifiers.

use crate::clock;

/// Eight random bytes of the kernel, or the clock where it has none.
pub fn seed() -> u64 {
    getrandom::u64().unwrap_or_else(|_| clock::now().nanos())
}
