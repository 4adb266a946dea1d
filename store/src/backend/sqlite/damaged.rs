//! The error of bytes in the database that are not what was written.

/// A part of a block whose bytes are not what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Damaged;

impl std::fmt::Display for Damaged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a block of the database is damaged")
    }
}

impl std::error::Error for Damaged {}
