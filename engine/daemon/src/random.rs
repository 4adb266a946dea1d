//! Seeds of hash tables, samples and identifiers.

use crate::clock;

/// Eight bytes of the kernel's randomness; the clock where there is none.
pub fn seed() -> u64 {
    use std::io::Read;
    let mut bytes = [0; 8];
    match std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes)) {
        Ok(()) => u64::from_ne_bytes(bytes),
        Err(_) => clock::now().nanos(),
    }
}
