//! The harness that tests and measurements share: seeded traffic with known truth, a sender, and a collector.
//!
//! - [`traffic`]: exchanges → segments → frames → capture file, with loss, reordering and duplicates.
//! - [`load`]: steady, numbered traffic, made faster than any program can read it.
//! - [`send`], [`pacer`], [`tx`]: send frames on a real interface, at a given rate or as fast as one core can.
//! - [`collect`]: the collector behind the capture URL.
//! - [`lab`], [`program`], [`cell`], [`trial`]: namespaces, the program that is measured, and one measurement.
//! - [`search`], [`matrix`]: the highest lossless rate, and all cells of a matrix.
//! - [`limit`], [`packets`], [`reading`]: the bare ring, packets without calls, capture files.
//! - [`stages`], [`budget`]: the engine up to each stage, for benchmarks and instruction counts, and its time.
//! - [`encoders`]: encoders of bundles, compared on lines of that traffic.
//! - [`storage`]: the database of the store, by itself.
//! - [`results`], [`report`]: CSV rows, and the tables and plots made from them.
//! - [`seed`]: random numbers.

pub mod budget;
pub mod cell;
pub mod collect;
pub mod encoders;
pub mod lab;
pub mod limit;
pub mod load;
pub mod matrix;
pub mod pacer;
pub mod packets;
pub mod program;
pub mod reading;
pub mod report;
pub mod results;
pub mod search;
pub mod seed;
pub mod send;
pub mod stages;
pub mod storage;
pub mod syncing;
pub mod traffic;
pub mod trial;
pub mod tx;
