//! What people and programs are shown of a running capture: status, log, warnings, and the ledger behind them.

pub mod hints;
pub mod ledger;
pub mod log;
pub mod rule_matches;
pub mod snapshot;
pub mod summary;
pub mod warnings;
