//! The store through its sockets (what a logger sends, what a browser reads, what a killed process leaves behind) and its
//! backends through their trait.

mod api;
mod capture;
mod client;
mod conformance;
mod durability;
mod losses;
mod metrics;
mod page;
mod passed;
mod program;
mod schema;
mod select;
mod server;
mod stalling;
mod stream;
mod words;
