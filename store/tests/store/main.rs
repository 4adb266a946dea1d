//! The store through its sockets: what a logger sends, what a browser reads, what a killed process leaves behind.

mod capture;
mod client;
mod durability;
mod page;
mod stream;
