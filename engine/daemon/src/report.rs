//! What people and programs see of a running capture: status, log, warnings, and the ledger from which they are made.

pub mod copies;
pub mod faults;
pub mod hints;
pub mod in_flight;
pub mod ledger;
pub mod log;
pub mod posted_ledger;
pub mod reporter;
pub mod rule_matches;
pub mod summary;
pub mod warnings;
