//! Frames from an interface: a TPACKET_V3 receive ring on a packet socket.
//!
//! [`RxRing::open`] binds a ring to one interface, [`Waiter::wait`] sleeps until one of several rings has a block,
//! [`RxRing::next_block`] leases it, [`Block::frames`] iterates over its frames. Dropping the block returns it to the
//! kernel. Several rings can share the frames of an interface ([`open_group`]), or of several ([`open_shared_group`]).
//!
//! Source: Linux v6.12, `Documentation/networking/packet_mmap.rst`, `net/packet/af_packet.c`; packet(7).

mod block;
mod bpf;
mod dissect;
mod expression;
mod fanout;
mod filter;
mod frames;
mod prefetch;
mod ring;
mod socket;
mod wait;
mod wire;

pub use block::{Frames, RingFrame};
pub use bpf::{AssembleError, INSTRUCTIONS_MAX, Instruction};
pub use expression::{Ends, Expression, ExpressionError};
pub use fanout::{
    Group, GroupOptions, RINGS_MAX, Reserve, SELF_TEST_VNI, SelfTest, Steering, open_group,
    open_shared_group, self_test,
};
pub use filter::{FrameFilter, Member};
pub use ring::{Block, RingOptions, RxRing, Statistics};
pub use socket::{OpenError, Trouble};
pub use wait::{Waiter, Woken};
