//! Segments in, ordered bytes per direction out.

use crate::decap::{Endpoint, Network};
use crate::time::Timestamp;

/// One direction of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the originator: it sent the SYN, or the first segment seen.
    Originator,
    /// From the responder.
    Responder,
}

/// What is known of a flow when its first payload byte arrives.
#[derive(Clone, Copy, Debug)]
pub struct FlowStart {
    /// The network its addresses belong to.
    pub network: Network,
    /// Who sent the SYN, or the first segment seen.
    pub originator: Endpoint,
    /// The other side.
    pub responder: Endpoint,
    /// No SYN was seen: the capture began in the middle.
    pub midstream: bool,
    /// Initial sequence number of the originator (of its first seen byte when midstream): part of exchange ids.
    pub originator_seq: u32,
    /// When the first segment was seen.
    pub time: Timestamp,
    /// Number of this flow in the shard, from 1.
    pub number: u64,
}

/// Why a flow ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowEnd {
    /// Both sides sent FIN (and all bytes before it were delivered or given up).
    Fin,
    /// A reset.
    Reset,
    /// Nothing was seen for the idle time.
    Idle,
    /// It made room for a newer flow, or memory ran short.
    Evicted,
    /// A new connection with the same addresses and ports began.
    Reused,
    /// The capture ended.
    Shutdown,
}

/// Where the time and the place of delivered bytes are told.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Which side sent them.
    pub direction: Direction,
    /// Packet time of the segment that carried the first of them.
    pub time: Timestamp,
    /// Offset of the first of them in the half, from 0 at the first byte seen.
    pub offset: u64,
}

/// Reads the ordered bytes of one flow: HTTP in the engine, a recorder in tests.
///
/// `Shared` is what all flows of a shard share (rules, buffers, counters); it is lent for the call.
pub trait Consumer<Shared>: Sized {
    /// A flow begins. Called before anything else.
    fn open(start: &FlowStart, shared: &mut Shared) -> Self;
    /// The next bytes of one direction, in order. Borrowed from the ring wherever possible; valid for the call only.
    fn data(&mut self, place: Place, bytes: &[u8], shared: &mut Shared);
    /// `len` bytes of one direction were never captured; what follows comes after them.
    fn gap(&mut self, place: Place, len: u64, shared: &mut Shared);
    /// This direction is finished (FIN, all bytes before it delivered or given up).
    fn finished(&mut self, place: Place, shared: &mut Shared);
    /// The flow is over. Called last, once.
    fn close(self, end: FlowEnd, time: Timestamp, shared: &mut Shared);
    /// Nobody needs further bytes of this flow: it is not HTTP, or its ports are not wanted. The table then skips
    /// (and counts) its payload without ordering it.
    fn ignores(&self, direction: Direction) -> bool;
}
