//! Tests from outside: one binary, one module for each way into the program.
//!
//! `cargo test -p tests` runs all of it; the modules that make network namespaces need root (`tests/run` sees to that).

mod all_in_one;
mod annotations;
mod baseline;
mod bounds;
mod browser;
mod call_index;
mod chaos;
mod check;
mod cli;
mod clients;
mod copies;
mod corpus;
mod delivery;
mod fanout;
mod fuzz_bodies;
mod golden;
mod http2;
mod http2_hostile;
mod leaks;
mod leaks_http2;
mod limits;
mod live_read;
mod masks;
mod metrics;
mod mistakes;
mod netns;
mod overload;
mod peers;
mod read_inputs;
mod read_truth;
mod restarts;
mod rules;
mod sandbox;
mod senders;
mod simulation;
mod splitting;
mod spool;
mod stalling;
mod store_client;
mod tidy;
mod uploads;
mod ways;
mod websocket;
mod wrappings;
