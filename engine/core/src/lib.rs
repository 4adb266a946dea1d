//! The engine: frames are decapsulated, segments reassembled, HTTP exchanges paired, rules applied, NDJSON lines bundled.
//!
//! Nothing here does I/O, reads a clock, starts a thread, takes a lock or is unsafe. Time comes in with each frame.
//! A module uses only what stands to its left:
//!
//! `wire → decap → flow → http → uploads → rules → ndjson → message → bundle`, with [`pipeline`] on top and
//! [`limits`], [`time`], [`ledger`], [`mix`], [`reader`] beneath.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    warn(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic
    )
)]

pub mod bundle;
pub mod decap;
pub mod flow;
pub mod http;
pub mod ledger;
pub mod limits;
pub mod message;
pub mod mix;
pub mod ndjson;
pub mod pipeline;
pub mod reader;
pub mod rules;
pub mod time;
pub mod uploads;
pub mod wire;
