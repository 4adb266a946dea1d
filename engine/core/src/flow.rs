//! Passive reassembly: TCP segments become ordered bytes of each direction.
//!
//! [`Table`] finds the flow of each segment and delivers its payload to the flow's [`Consumer`] in order, by reference
//! wherever nothing is missing before it. TCP is RFC 9293 as an observer sees it: nothing can be requested again, so
//! bytes that do not arrive become a gap with their length, and each payload byte ends in one bucket of [`Counters`].
//! Flows, buffered bytes and waits are bounded ([`crate::limits`]). The bytes are never interpreted, no clock is read,
//! and checksums are not verified (mirrors and offloads break them).
//!
//! # Missing bytes
//!
//! A receiver waits for a missing segment until it is sent again. An observer cannot: the segment may have reached the
//! receiver, and then it is not sent again.
//!
//! * A **hole** may still fill: a mirror reorders, or the network lost the segment and it will be sent again.
//! * An acknowledgement of the peer past the hole **proves** that the capture missed the bytes, for the receiver has them
//!   and they will not be sent again. Only reordering by the mirror can still bring them, and that takes milliseconds:
//!   after a **grace** of [`REORDER_GRACE`] of packet time or [`REORDER_SEGMENTS_MAX`] segments of this flow, whichever
//!   is first, they are a **gap**. In a quiet flow, packets that change places are farther apart in time: as long as fewer
//!   than [`REORDER_SEGMENTS_MIN`] segments of it have come, the grace is [`REORDER_GRACE_QUIET`]. Zeek and Suricata skip such a hole at once, which on a mirror that reorders (network
//!   load balancers document that they do) loses bytes that arrive a moment later; waiting for a time-out instead holds
//!   up everything behind the hole for minutes.
//! * A hole without this proof becomes a gap when nothing is delivered for [`HOLE_AGE_MAX`], or when too much waits
//!   behind it. If the peer has sent acknowledgements since and still lacks the hole, the bytes behind it were never in
//!   its window (a forged or foreign segment) and are discarded instead.
//! * **Causal order**: a segment that acknowledges bytes of the other direction which were not delivered yet waits for
//!   them under the same grace, so a response never comes before its request. In a flow whose start was not captured it
//!   is not known what else was sent just before; then all payload waits in an **initial reorder window**, until one
//!   grace after the flow's first segment, and only then is put into order. A direction that lets a grace for
//!   acknowledged bytes pass without one captured segment is **uncaptured**: the traffic is one-sided, and from then on
//!   its acknowledged bytes are gaps at once and nothing waits for them.
//!
//! # States
//!
//! | what | state | entered by | left by |
//! | --- | --- | --- | --- |
//! | flow | empty | its first segment | payload, or numbers that show missed payload → one-sided or two-sided; FIN of both, RST, [`Config::empty_idle`], eviction → ended |
//! | | one-sided | payload, while the other direction was not captured | a segment of the other direction → two-sided; as two-sided → ended |
//! | | two-sided | segments of both directions | FIN of both delivered, reset, [`Config::idle`], eviction, a new connection → ended |
//! | | ended | see above; it has no stream any more | [`FLOW_LINGER`], eviction → forgotten; a SYN → forgotten, and a new flow; if it was evicted, a further segment, and if it was reset, the next bytes of the originator or of the sender of the reset → empty, midstream |
//! | base of a direction | unknown | the first segment of the flow | an acknowledgement by the peer, a segment, a SYN |
//! | | acknowledgement | the peer's first acknowledgement | a segment: first segment, with the earlier of both numbers; a SYN |
//! | | first segment | a segment without SYN | a late SYN; moved back for earlier bytes while nothing is delivered |
//! | | SYN | a SYN | never |
//! | bytes of a direction | next | all before them are delivered, skipped or a gap | delivered at once; or held |
//! | | held | they acknowledge undelivered bytes of the other direction, or the initial reorder window is open | those are delivered or a gap; the window closes |
//! | | behind a hole | a byte before them is missing | the hole fills or becomes a gap; discarded if they were never in the window |
//! | hole | open | a segment or an acknowledgement past missing bytes | it fills; [`HOLE_AGE_MAX`], bounds, the end of the flow → gap |
//! | | in its grace | the peer acknowledged bytes of it | it fills; the grace ends → gap |
//! | reset | none | | RST within [`RESET_WINDOW`] |
//! | | exact | RST whose number is expected | nothing is missing, or one grace → ended |
//! | | revocable | RST with another number | a further segment of its sender → none; [`RESET_DOUBT`] → ended |
//! | copy in another network | copy | [`Config::fold_copies`], and the numbers of a flow with its addresses and ports | another responder's number → a flow of its own; [`Config::idle`], eviction, the end of the other flow → forgotten |
//! | SYN in an open flow | pending | a SYN with another number | data behind it, or the answer to it → a new flow |
//!
//! [`REORDER_GRACE`]: crate::limits::REORDER_GRACE
//! [`REORDER_GRACE_QUIET`]: crate::limits::REORDER_GRACE_QUIET
//! [`REORDER_SEGMENTS_MIN`]: crate::limits::REORDER_SEGMENTS_MIN
//! [`REORDER_SEGMENTS_MAX`]: crate::limits::REORDER_SEGMENTS_MAX
//! [`HOLE_AGE_MAX`]: crate::limits::HOLE_AGE_MAX
//! [`FLOW_LINGER`]: crate::limits::FLOW_LINGER
//! [`RESET_WINDOW`]: crate::limits::RESET_WINDOW
//! [`RESET_DOUBT`]: crate::limits::RESET_DOUBT

mod assembler;
mod copy_table;
mod direction;
mod gap_list;
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

pub use copy_table::{CopiedPlaces, CopyTable, Place};
pub use direction::{Direction, PerDirection};
pub use table::Table;

/// What is known of a flow when its first payload byte arrives.
#[derive(Clone, Copy, Debug)]
pub struct FlowStart {
    /// The network its addresses belong to.
    pub network: Network,
    /// Who sent the SYN, or the first segment seen.
    pub originator: Endpoint,
    /// The other end.
    pub responder: Endpoint,
    /// No SYN was captured: the flow starts in the middle of its connection.
    pub midstream: bool,
    /// An earlier part of the connection was captured, as a flow that was evicted.
    pub evicted: bool,
    /// Initial sequence number of the originator (that of its first byte when midstream): part of exchange ids.
    pub originator_seq: u32,
    /// When the first segment was seen.
    pub time: Timestamp,
    /// Number of this flow in the shard, from 1.
    pub number: u64,
}

/// Why a flow ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowEnd {
    /// Both ends sent FIN, and all bytes before were delivered or given up.
    Fin,
    /// A reset.
    Reset,
    /// Nothing was seen for the idle time.
    Idle,
    /// It was evicted to free memory.
    Evicted,
    /// A new connection with the same addresses and ports was opened.
    Reused,
    /// The capture ended.
    Shutdown,
}

/// The time and the position of delivered bytes, of a gap or of a FIN.
#[derive(Clone, Copy, Debug)]
pub struct ByteInfo {
    /// The direction they belong to.
    pub direction: Direction,
    /// Packet time of the segment that carried the first of them.
    pub time: Timestamp,
    /// Offset of the first of them in the direction, from 0 at its first byte.
    pub offset: u64,
    /// What the segment that carried the first of them acknowledged: of several copies, the one that was used.
    pub acked: Acked,
}

/// How much of the other direction a segment acknowledged: its sender had received everything before this offset there.
/// Unknown without a number in the window, and of gaps; absent where the segment has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acked(u64);

impl Acked {
    /// Not known.
    pub const UNKNOWN: Self = Self(u64::MAX);

    /// The segment had no acknowledgement, as in captures made by hand: the order of capture is all there is.
    pub const ABSENT: Self = Self(u64::MAX - 1);

    /// The offset before which everything was received for certain: 0 if that is not known.
    pub const fn at_least(self) -> u64 {
        match self {
            Self::UNKNOWN | Self::ABSENT => 0,
            Self(offset) => offset,
        }
    }

    /// The offset from which on nothing was received in order: `u64::MAX` if that is not known.
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
/// `Shared` is what all flows of a shard share (rules, buffers, counters), borrowed for each call.
pub trait Consumer<Shared>: Sized {
    /// The first payload of a flow is about to be delivered. Called before anything else.
    fn open(start: &FlowStart, shared: &mut Shared) -> Self;
    /// The next bytes of one direction, in order. Borrowed from the ring wherever possible; valid for the call only.
    fn data(&mut self, info: ByteInfo, bytes: &[u8], shared: &mut Shared);
    /// `len` bytes of one direction were never captured; what follows comes after them.
    fn gap(&mut self, info: ByteInfo, len: u64, shared: &mut Shared);
    /// The same, where a mirror or a snap length cut off the end of a segment.
    fn cut(&mut self, info: ByteInfo, len: u64, shared: &mut Shared) {
        self.gap(info, len, shared);
    }
    /// A direction is finished: its FIN was captured, and all bytes before it were delivered or given up.
    fn finished(&mut self, info: ByteInfo, shared: &mut Shared);
    /// The flow is over. Called last, once.
    fn close(self, end: FlowEnd, shared: &mut Shared);
    /// Whether further bytes of this direction are not needed: the flow is not HTTP, or its ports are not wanted. The
    /// table then skips (and counts) its payload without ordering it.
    fn ignores(&self, direction: Direction) -> bool;
}

/// Bounds of a [`Table`] that a user may want to change.
#[derive(Clone, Debug)]
pub struct Config {
    /// Flows in the table at a time, including ended ones that stay for a moment; [`Table::FLOW_BYTES`] each.
    pub flows_max: usize,
    /// Of these, flows that have carried payload; [`Table::STREAM_BYTES`] more each.
    pub streams_max: usize,
    /// Bytes that buffers of waiting payload may occupy.
    pub buffered_bytes_max: usize,
    /// Silence after which a flow ends.
    pub idle: Duration,
    /// Silence after which a flow that has carried no payload ends.
    pub empty_idle: Duration,
    /// Makes the hash of flow keys unpredictable to those who choose addresses and ports. Any number: the same packets
    /// give the same calls with every seed.
    pub hash_seed: u64,
    /// Notes new flows ([`Table::take_new_flows`]), hashed with this seed: the same for all tables that are compared.
    /// Without one nothing is noted.
    pub new_flows_seed: Option<u64>,
    /// Copies of a connection that were captured in another network go to one flow; otherwise they are counted and read.
    pub fold_copies: bool,
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
            new_flows_seed: None,
            fold_copies: false,
        }
    }
}

counters! {
    /// The flow stage's part of the ledger.
    ///
    /// Bytes balance at any time: `payload = delivered + duplicate + overlapped + skipped + discarded_* + buffered`
    /// (the last is [`Table::buffered_bytes`]). Gap bytes are not part of it: they never arrived.
    pub struct Counters {
        /// TCP segments taken in.
        flow_segments,
        /// Resets without a flow.
        flow_segments_stray,
        /// Segments of a flow that had ended.
        flow_segments_after_end,
        /// Segments whose sequence number lies outside every possible window of their flow.
        flow_segments_out_of_window,
        /// Segments that brought no new byte: retransmitted, or captured twice.
        flow_segments_duplicate,
        /// Segments that brought new bytes and known ones.
        flow_segments_overlapping,
        /// Segments that arrived before bytes that precede them.
        flow_segments_out_of_order,
        /// Segments that waited for bytes of the other direction that they acknowledge.
        flow_segments_held,
        /// Payload bytes taken in.
        flow_payload_bytes,
        /// Payload bytes delivered in order.
        flow_delivered_bytes,
        /// Payload bytes that were known already.
        flow_duplicate_bytes,
        /// Known payload bytes in segments that also brought new ones; the first copy won.
        flow_overlapped_bytes,
        /// Payload bytes that the consumer did not need.
        flow_skipped_bytes,
        /// Payload bytes before the first byte that was seen of their direction, which was delivered already.
        flow_discarded_before_start_bytes,
        /// Payload bytes that arrived after they had been declared a gap.
        flow_discarded_late_bytes,
        /// Payload bytes behind the sender's FIN.
        flow_discarded_after_fin_bytes,
        /// Payload bytes of flows that had ended.
        flow_discarded_after_end_bytes,
        /// Payload bytes outside every possible window.
        flow_discarded_out_of_window_bytes,
        /// Payload bytes in resets (a reason in words, RFC 9293 section 3.10.7.4), also in those without a flow.
        flow_discarded_reset_bytes,
        /// Gaps delivered.
        flow_gaps,
        /// Bytes declared a gap: sent, and not captured in time. Those that arrived afterwards are `flow_discarded_late_bytes`.
        flow_gap_bytes,
        /// Those of them that a mirror or a snap length cut off.
        flow_truncated_bytes,
        /// Payload bytes copied because they could not be delivered at once.
        flow_copied_bytes,
        /// Waits ended because a queue or all queues were full.
        flow_holes_over_bounds,
        /// Holes given up for their age.
        flow_holes_expired,
        /// Resets revoked by further segments of their sender, also after they ended the flow: it goes on.
        flow_resets_ignored,
        /// Resets outside every possible window of their flow.
        flow_resets_out_of_window,
        /// SYNs within an open connection that wait to be confirmed by later segments.
        flow_syns_doubtful,
        /// Flows opened.
        flow_opened,
        /// Flows that carried payload.
        flow_opened_payload,
        /// Those of them whose start was not captured.
        flow_opened_midstream,
        /// Connections of which a further copy was captured in the same network, by the number of such copies. Their bytes
        /// are duplicates.
        flow_copies,
        /// Connections that were captured in another network as well, and read twice.
        flow_copies_kept,
        /// Connections that were captured in another network as well, and read once.
        flow_copies_folded,
        /// Flows ended by FIN of both ends.
        flow_ended_fin,
        /// Flows ended by a reset.
        flow_ended_reset,
        /// Flows ended because they were idle for too long.
        flow_ended_idle,
        /// Flows evicted to free memory.
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

    /// Bytes that were sent but never captured.
    pub fn missing_bytes(&self) -> u64 {
        self.flow_gap_bytes
            .saturating_sub(self.flow_discarded_late_bytes)
    }

    /// Payload bytes that have reached their bucket: all but those that wait.
    pub fn settled_bytes(&self) -> u64 {
        self.flow_delivered_bytes
            + self.flow_duplicate_bytes
            + self.flow_overlapped_bytes
            + self.flow_skipped_bytes
            + self.flow_discarded_before_start_bytes
            + self.flow_discarded_late_bytes
            + self.flow_discarded_after_fin_bytes
            + self.flow_discarded_after_end_bytes
            + self.flow_discarded_out_of_window_bytes
            + self.flow_discarded_reset_bytes
    }
}
