//! What the uploader orders of the spool's thread, and what that reports.

use std::sync::Arc;

use super::content::{Content, Ticket};
use super::format::State;
use crate::sink::part::Part;
use crate::sink::stats::Counters;
use crate::status::Calls;

/// The calls of this process, with these counters of the sink.
pub type Account = Arc<dyn Fn(&Counters) -> Calls + Send + Sync>;

/// What the uploader orders.
pub(super) enum Order {
    Write(Ticket, Content),
    Settle(Ticket, State),
    /// Its memory is released; the bundle has so many calls.
    Leave(Ticket, u64),
    /// The collector refused it for good; a few such bundles are kept for diagnosis.
    KeepRefused(Content),
    /// The uploader has room for one more bundle from the disk.
    Load,
    /// What the sink has counted, everything that was ordered before this included.
    Counted(Counters),
    /// What computes the calls of this process.
    Account(Account),
    Rules(u64),
    Release,
    Discard {
        all: bool,
    },
    End,
}

/// Why calls of the spool were given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LostBy {
    /// The bound of bytes.
    Full,
    /// The bound of age.
    Age,
    /// They cannot be read.
    Damage,
    /// They could not be written, and their memory was needed.
    Unwritten,
    /// A person discarded them.
    Discard,
}

/// What the spool reports to the uploader.
#[derive(Debug)]
pub enum Report {
    /// It has no copy of this bundle: it could not be written, or was given up. `again`: it may be written later.
    Missing {
        /// The bundle.
        ticket: Ticket,
        /// Whether it is worth another try.
        again: bool,
    },
    /// A bundle was read back.
    Loaded {
        /// Its new name.
        ticket: Ticket,
        /// What is to be delivered.
        part: Part,
        /// Calls in it.
        calls: u64,
        /// It was written by an earlier process.
        is_old: bool,
    },
    /// Calls that were on disk alone are lost.
    Lost {
        /// How many.
        calls: u64,
        /// Why.
        by: LostBy,
    },
}
