//! The harness that tests and measurements share: seeded traffic with known truth, a sender, and a collector.
//!
//! - [`traffic`]: exchanges → segments → frames → capture file, with the accidents of a network on the way.
//! - [`load`]: steady, numbered traffic without end, made faster than anything can read it.
//! - [`send`], [`pacer`], [`tx`]: frames onto a real interface, exactly or as fast as one core can.
//! - [`collect`]: the other end of the capture URL.
//! - [`lab`], [`program`], [`trial`]: namespaces, the program that is measured, one measurement.
//! - [`search`], [`matrix`]: the highest lossless rate, and all cells of a matrix.
//! - [`limit`], [`packets`], [`reading`]: a bare ring, packets without calls, capture files.
//! - [`stages`], [`budget`]: the engine cut off behind each stage, for benches and instruction counts, and by time.
//! - [`encoders`]: encoders of bundles, compared on lines of that traffic.
//! - [`results`], [`report`]: CSV rows, and tables and plots made from them.
//! - [`seed`]: where all chance comes from.

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
pub mod traffic;
pub mod trial;
pub mod tx;
