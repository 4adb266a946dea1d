//! Seeds of hash tables, samples and identifiers, and the key of the marker of uploads.

use std::sync::Arc;

use engine_core::uploads::Identity;

use crate::clock;
use crate::diagnostic::{Code, Diagnostic};

/// Eight random bytes of the kernel, or the clock where it has none.
pub fn seed() -> u64 {
    getrandom::u64().unwrap_or_else(|_| clock::now().nanos())
}

/// Who this process is among sniffers, under the name of its host. The key has to be secret, so the clock is no substitute.
///
/// # Errors
///
/// The kernel has no random numbers.
pub fn identity(host: &str) -> Result<Arc<Identity>, Diagnostic> {
    let mut key = [0; 16];
    getrandom::fill(&mut key)
        .map_err(|error| Diagnostic::new(Code::E199, format!("no random numbers: {error}")))?;
    Ok(Arc::new(Identity::new(seed(), key, host)))
}
