//! The harness that tests and measurements share: seeded traffic with known truth, a sender, and a collector.
//!
//! - [`traffic`]: exchanges → segments → frames → capture file, with the accidents of a network on the way.
//! - [`send`]: frames onto a real interface.
//! - [`collect`]: the other end of the capture URL.
//! - [`seed`]: where all chance comes from.

pub mod collect;
pub mod seed;
pub mod send;
pub mod traffic;
