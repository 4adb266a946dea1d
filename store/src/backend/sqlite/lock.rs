//! The lock of a data folder: one store at a time.
//!
//! SQLite itself would let two stores write to one file. Their pages would each announce only the calls of its own process, and
//! each would delete calls by its own bounds. The lock is advisory and ends with the process, however that ends.

use std::fs::{File, TryLockError};
use std::io::{Read, Write};

use anyhow::{Context, bail};

use crate::folder::Folder;

/// Name of the file in the data folder. It holds the process id of the store.
pub(super) const LOCK_NAME: &str = "calls.lock";

/// Locks the folder for as long as the returned file is open.
///
/// # Errors
/// Another store has it; the message has its process id.
pub(super) fn lock(folder: &Folder) -> anyhow::Result<File> {
    let mut file = folder.file(LOCK_NAME)?.file;
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
