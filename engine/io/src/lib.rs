//! Where packets come from and where calls go: rings and the shards that read them, files of packets in the order of time, and the sinks that take
//! bundles.
//!
//! The threads of a capture run through this crate, so it is compiled for speed. The modules form a ladder: each uses only
//! modules beneath it, in the order of `ARCHITECTURE.md`.

use engine_base::{
    capture_url, clock, config, control, counters, delegate, diagnostic, limits, pipeline, process,
    quantity, random, sandbox, status, stdout, supervised,
};

pub mod capture;
pub mod capture_file;
pub mod printer;
pub mod reader;
pub mod sink;
pub mod timeline;
