//! What is written to the spool, and its name there.

use crate::sink::part::{Part, Whole};
use crate::sink::shared::Hold;

/// Names a bundle to the spool as long as it is in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket(u64);

/// Tickets of bundles that were read back have this bit.
const READ_BACK: u64 = 1 << 63;

impl Ticket {
    /// Of a bundle that goes to the disk.
    pub(super) fn new(number: u64) -> Self {
        Self(number)
    }

    /// Of one that came back.
    pub(super) fn read_back(number: u64) -> Self {
        Self(READ_BACK | number)
    }
}

/// What is to be written.
#[derive(Debug)]
pub enum Content {
    /// A bundle of a shard.
    Bundle(Hold),
    /// A part of one.
    Part(Part),
}

impl Content {
    /// As what is written.
    pub(super) fn as_whole(&self) -> Whole<'_> {
        match self {
            Self::Bundle(hold) => Whole::of(hold.bundle()),
            Self::Part(part) => part.as_whole(),
        }
    }

    /// Calls in it.
    pub(super) fn calls(&self) -> u32 {
        match self {
            Self::Bundle(hold) => hold.bundle().calls,
            Self::Part(part) => u32::try_from(part.as_whole().index.len()).unwrap_or(u32::MAX),
        }
    }

    /// Bytes of its lines before encoding.
    pub(super) fn line_bytes(&self) -> usize {
        match self {
            Self::Bundle(hold) => usize::try_from(hold.bundle().line_bytes).unwrap_or(usize::MAX),
            Self::Part(part) => part.as_whole().line_bytes(),
        }
    }

    /// Memory that it keeps from being used again.
    pub(super) fn memory_bytes(&self) -> usize {
        match self {
            Self::Bundle(hold) => hold.bundle().memory_bytes(),
            Self::Part(part) => part.memory_bytes(),
        }
    }
}
