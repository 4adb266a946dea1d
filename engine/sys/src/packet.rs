//! Frames from an interface: a TPACKET_V3 receive ring on a packet socket.
//!
//! [`RxRing::open`] binds a ring to one interface, [`Waiter::wait`] sleeps until one of several rings has a block,
//! [`RxRing::next_block`] leases it, [`Block::frames`] walks it. Dropping the block gives it back to the kernel.
//!
//! Source: Linux `Documentation/networking/packet_mmap.rst`, `net/packet/af_packet.c` (v6.12), packet(7).

mod block;
mod filter;
mod ring;
mod socket;
mod wait;

pub use block::{Frames, RingFrame};
pub use filter::{FILTER_INSTRUCTIONS_MAX, Instruction};
pub use ring::{Block, RingOptions, RxRing, Statistics};
pub use socket::{OpenError, Trouble};
pub use wait::{Waiter, Woken};
