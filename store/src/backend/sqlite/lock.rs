//! The lock of a data folder: one store at a time.
//!
//! SQLite itself would let two stores write to one file. Their pages would each announce only the calls of its own process, and
//! each would delete calls by its own bounds. The lock is advisory and ends with the process, however that ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, bail};

/// Name of the file in the data folder. It holds the process id of the store.
pub(super) const LOCK_NAME: &str = "calls.lock";

/// Locks the folder for as long as the returned file is open.
///
/// # Errors
/// Another store has it; the message has its process id.
pub(super) fn lock(folder: &Path) -> anyhow::Result<File> {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(folder.join(LOCK_NAME))
        .context(LOCK_NAME)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut owner = String::new();
            let read = file.read_to_string(&mut owner);
            let owner = owner.trim();
            if read.is_ok() && owner.parse::<u32>().is_ok() {
                bail!("another store uses this folder: pid {owner}");
            }
            bail!("another store uses this folder");
        }
        // Some network file systems have no locks; one store without a lock is better than none.
        Err(TryLockError::Error(_)) => return Ok(file),
    }
    file.set_len(0).context(LOCK_NAME)?;
    write!(file, "{}", std::process::id()).context(LOCK_NAME)?;
    Ok(file)
}
