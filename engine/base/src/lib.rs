//! What all commands of `sniffer` stand on: settings, messages, counters, status, the control socket, confinement.
//!
//! Nothing here runs for each packet or each call, so the crate is compiled for a short build, not for speed. What a capture
//! thread calls in passing is marked `#[inline]`, and is compiled where it is used. The modules form a ladder: each uses only
//! modules beneath it, in the order of `ARCHITECTURE.md`.

pub mod capture_url;
pub mod clock;
pub mod config;
pub mod control;
pub mod counters;
pub mod delegate;
pub mod descriptors;
pub mod diagnostic;
pub mod invocation;
pub mod limits;
pub mod pipeline;
pub mod process;
pub mod quantity;
pub mod random;
pub mod sandbox;
pub mod signals;
pub mod status;
pub mod stdout;
pub mod supervised;
