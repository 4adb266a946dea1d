//! Segments in, ordered bytes per direction out.
//!
//! [`Table`] finds the flow of each segment and passes its payload to the flow's [`Consumer`] in order, by reference
//! wherever nothing is missing before it. TCP is RFC 9293 as an onlooker sees it: nothing can be asked for again, so
//! what does not come is declared a gap with its length, and each payload byte ends in one box of [`Counters`].
//! Bounds: flows, buffered bytes, graces ([`crate::limits`]). It never looks into the bytes, asks no clock, and
//! believes no checksum (mirrors and offloads break them).

mod assembler;
mod key;
mod pool;
mod slab;
mod stream;
mod table;

#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::counters;
use crate::decap::{Endpoint, Network};
use crate::limits;
use crate::time::Timestamp;

pub use table::Table;

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
    /// An earlier part of the connection was seen and made room.
    pub evicted: bool,
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
    /// What the segment that carried the first of them acknowledged: of several copies, the one that was used.
    pub acked: Acked,
}

/// How much of the other half a segment acknowledged: its sender had received everything before this offset there.
/// Unknown without a number that fits, and of losses; absent where the segment had none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acked(u64);

impl Acked {
    /// Nothing was said.
    pub const UNKNOWN: Self = Self(u64::MAX);

    /// The segment had no acknowledgement, as in captures made by hand: the order of capture is all there is.
    pub const ABSENT: Self = Self(u64::MAX - 1);

    /// So much was received for certain: nothing if that is not known.
    pub const fn at_least(self) -> u64 {
        match self {
            Self::UNKNOWN | Self::ABSENT => 0,
            Self(offset) => offset,
        }
    }

    /// No more had been received in order: `u64::MAX` if that is not known.
    pub const fn at_most(self) -> u64 {
        match self {
            Self::ABSENT => u64::MAX,
            Self(offset) => offset,
        }
    }
}

impl From<Option<u64>> for Acked {
    fn from(offset: Option<u64>) -> Self {
        offset.map_or(Self::UNKNOWN, Self)
    }
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
    fn close(self, end: FlowEnd, shared: &mut Shared);
    /// Nobody needs further bytes of this flow: it is not HTTP, or its ports are not wanted. The table then skips
    /// (and counts) its payload without ordering it.
    fn ignores(&self, direction: Direction) -> bool;
}

/// Bounds of a [`Table`] that a user may want to change.
#[derive(Clone, Debug)]
pub struct Config {
    /// Flows known at a time, ended ones that are remembered for a moment included. 136 bytes each, and a consumer
    /// with two halves for each that has carried payload.
    pub flows_max: usize,
    /// Of these, flows that have carried payload; [`Table::STREAM_BYTES`] each.
    pub streams_max: usize,
    /// Bytes that buffers of waiting payload may occupy.
    pub buffered_bytes_max: usize,
    /// Silence after which a flow ends.
    pub idle: Duration,
    /// Silence after which a flow that has carried no payload ends.
    pub empty_idle: Duration,
    /// Makes the hash of flow keys unpredictable to those who choose addresses and ports. Any number; the same packets
    /// give the same calls with every seed.
    pub hash_seed: u64,
    /// Note the flows that open ([`Table::take_openings`]), hashed with this seed; tables that shall be compared have the
    /// same. Nothing is noted without.
    pub openings_seed: Option<u64>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            flows_max: limits::FLOWS_MAX,
            streams_max: limits::STREAMS_MAX,
            buffered_bytes_max: limits::FLOW_BUFFERED_BYTES_MAX,
            idle: limits::FLOW_IDLE,
            empty_idle: limits::FLOW_EMPTY_IDLE,
            hash_seed: 0,
            openings_seed: None,
        }
    }
}

counters! {
    /// The flow stage's part of the ledger.
    ///
    /// Bytes balance at any time: `payload = delivered + duplicate + overlapped + skipped + discarded_* + buffered`
    /// (the last is [`Table::buffered_bytes`]). Gap bytes are beside it: they never came in.
    pub struct Counters {
        /// TCP segments taken.
        flow_segments,
        /// Resets without a flow.
        flow_segments_stray,
        /// Segments of a flow that has ended already.
        flow_segments_after_end,
        /// Segments whose sequence number lies outside every possible window of their flow.
        flow_segments_out_of_window,
        /// Segments that brought no new byte: retransmitted, or captured twice.
        flow_segments_duplicate,
        /// Segments that brought new bytes and known ones.
        flow_segments_overlapping,
        /// Segments that came before bytes that precede them.
        flow_segments_out_of_order,
        /// Segments that waited for bytes of the other direction that they acknowledge.
        flow_segments_held,
        /// Payload bytes taken.
        flow_payload_bytes,
        /// Payload bytes passed on in order.
        flow_delivered_bytes,
        /// Payload bytes that were known already.
        flow_duplicate_bytes,
        /// Known payload bytes in segments that also brought new ones; the first copy won.
        flow_overlapped_bytes,
        /// Payload bytes that nobody needed.
        flow_skipped_bytes,
        /// Payload bytes that came after they had been declared a gap.
        flow_discarded_late_bytes,
        /// Payload bytes behind the sender's FIN.
        flow_discarded_after_fin_bytes,
        /// Payload bytes of flows that had ended.
        flow_discarded_after_end_bytes,
        /// Payload bytes outside every possible window.
        flow_discarded_out_of_window_bytes,
        /// Payload bytes in resets (a reason in words, RFC 9293 section 3.10.7.4) and in segments without a flow.
        flow_discarded_reset_bytes,
        /// Gaps told.
        flow_gaps,
        /// Bytes that were sent but never captured.
        flow_gap_bytes,
        /// Those of them that a mirror or a snap length cut off.
        flow_truncated_bytes,
        /// Payload bytes copied because they could not be passed on at once.
        flow_copied_bytes,
        /// Waits ended because a queue or all queues were full.
        flow_holes_over_bounds,
        /// Holes given up for their age.
        flow_holes_expired,
        /// Resets revoked by further segments of their sender.
        flow_resets_ignored,
        /// Resets that cannot be of the connection.
        flow_resets_out_of_window,
        /// SYNs within a living connection that no later segment confirmed at once.
        flow_syns_doubtful,
        /// Flows seen.
        flow_opened,
        /// Flows that carried payload.
        flow_opened_payload,
        /// Those of them whose beginning was not captured.
        flow_opened_midstream,
        /// Flows ended by FIN of both sides.
        flow_ended_fin,
        /// Flows ended by a reset.
        flow_ended_reset,
        /// Flows ended by silence.
        flow_ended_idle,
        /// Flows ended to make room.
        flow_ended_evicted,
        /// Flows ended by a new connection with the same addresses and ports.
        flow_ended_reused,
        /// Flows ended by the end of the capture.
        flow_ended_shutdown,
    }
}

impl Counters {
    /// Flows ended, for whatever reason.
    pub fn ended(&self) -> u64 {
        self.flow_ended_fin
            + self.flow_ended_reset
            + self.flow_ended_idle
            + self.flow_ended_evicted
            + self.flow_ended_reused
            + self.flow_ended_shutdown
    }

    /// Payload bytes that have reached their box: all but those that wait.
    pub fn settled_bytes(&self) -> u64 {
        self.flow_delivered_bytes
            + self.flow_duplicate_bytes
            + self.flow_overlapped_bytes
            + self.flow_skipped_bytes
            + self.flow_discarded_late_bytes
            + self.flow_discarded_after_fin_bytes
            + self.flow_discarded_after_end_bytes
            + self.flow_discarded_out_of_window_bytes
            + self.flow_discarded_reset_bytes
    }
}
