//! What the kernel offers, typed and safe: packet rings, interfaces, completion-style I/O, CPU pinning, privileges.
//!
//! The only crate with unsafe code. It is thin and has no policy: which interface, how many blocks, when to retry and
//! what to say to a person is decided above. Nothing here knows the engine.

pub mod cpu;
pub mod driver;
pub mod ethtool;
pub mod event;
pub mod interfaces;
pub mod packet;
pub mod process;
