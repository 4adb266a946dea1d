//! The state of a spool, for status and metrics.

use super::lifetime::Lifetime;
use super::segment::Damage;
use super::segments::Totals;

/// A copy of what the spool's thread shares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Where it is.
    pub folder: String,
    /// What is on disk.
    pub totals: Totals,
    /// Why bundles cannot be written now; empty while they can.
    pub trouble: String,
    /// Bytes that were written, indexes included.
    pub written_bytes: u64,
    /// Writes that failed.
    pub failed_writes: u64,
    /// Times that files were synced.
    pub syncs: u64,
    /// What was damaged when it was opened.
    pub damage: Damage,
    /// The totals of earlier processes, with those that this one found.
    pub before: Lifetime,
}
