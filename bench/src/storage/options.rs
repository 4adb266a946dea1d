//! What to measure, and how much.

use std::path::PathBuf;

use clap::Args;

/// What to measure.
#[derive(Args)]
pub struct Options {
    /// Calls to store
    #[arg(long, default_value_t = 5_000_000)]
    pub(super) calls: u64,
    /// Calls in a bundle
    #[arg(long, default_value_t = 250)]
    pub(super) bundle: u64,
    /// Bytes of a line, about
    #[arg(long, default_value_t = 2_000)]
    pub(super) line: usize,
    /// Repetitions of each query
    #[arg(long, default_value_t = 20)]
    pub(super) repetitions: usize,
    /// Data folder; one that has calls is read as it is. Without it a new one is made and deleted
    #[arg(long)]
    pub(super) data: Option<PathBuf>,
    /// Only queries whose name has this text
    #[arg(long)]
    pub(super) only: Option<String>,
    /// Seconds for which the waits of bundles are measured, while old calls are deleted; 0 for none
    #[arg(long, default_value_t = 0)]
    pub(super) waits: u64,
    /// A ClickHouse (clickhouse://USER@HOST:8123/DATABASE), whose password is in SNIFFER_STORE_PASSWORD, instead of a file
    #[arg(long)]
    pub(super) backend: Option<String>,
    /// Bundles on their way at a time: two from a sniffer, more from a fleet
    #[arg(long, default_value_t = 2)]
    pub(super) posts: usize,
    /// Seed of the lines
    #[arg(long, default_value_t = 1)]
    pub(super) seed: u64,
}

/// Milliseconds of a day.
pub(super) const DAY_MS: u64 = 24 * 3600 * 1000;
