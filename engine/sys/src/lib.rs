//! Safe, typed access to the kernel: packet rings, interfaces, completion-style I/O, CPU pinning, privileges.
//!
//! Apart from `engine-escape` the only crate of the program with unsafe code. It is thin and has no policy: which
//! interface, how many blocks, when to retry and what people read is decided above. Nothing here depends on the engine.

pub mod cpu;
pub mod driver;
pub mod ethtool;
pub mod event;
pub mod interfaces;
pub mod memory;
pub mod packet;
pub mod process;
