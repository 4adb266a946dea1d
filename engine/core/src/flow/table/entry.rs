//! What the table keeps of a flow, with or without payload.

use std::num::NonZeroU32;

use crate::decap::{Encap, Flags, Network, Segment};
use crate::flow::FlowStart;
use crate::flow::assembler::Base;
use crate::flow::direction::{Direction, PerDirection};
use crate::flow::key::Key;
use crate::flow::slab::NONE;
use crate::time::Timestamp;

/// Which LRU list a flow is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Over; kept for what still arrives of it.
    Ended,
    /// No payload so far.
    Empty,
    /// Has a stream, but only one direction was captured so far.
    OneSided,
    /// Has a stream, and both directions were captured.
    TwoSided,
    /// The same connection as [`Flow::twin`], captured in another network: its segments go there.
    Copy,
}

/// A SYN within a flow that has not ended: it opens a new connection if the next segments confirm it.
#[derive(Clone, Copy, Debug)]
pub(super) struct PendingSyn {
    pub(super) direction: Direction,
    pub(super) isn: u32,
}

/// A flow.
pub(super) struct Flow {
    pub(super) key: Key,
    /// When its last segment was captured.
    pub(super) last: Timestamp,
    /// When it was last moved to the end of its LRU list.
    pub(super) listed_at: Timestamp,
    pub(super) start: Timestamp,
    pub(super) number: u64,
    /// Neighbours in the LRU list.
    pub(super) prev: u32,
    pub(super) next: u32,
    /// Index of its stream, [`NONE`] without one.
    pub(super) stream: u32,
    /// Before the stream is opened: the bases so far. After the end: what would have come next.
    pub(super) bases: PerDirection<Base>,
    /// Initial sequence number of the originator.
    pub(super) isn: u32,
    /// After the end: the responder's initial number, if it is known.
    pub(super) pending_syn: Option<PendingSyn>,
    /// The flow that is the same connection in another network, or may be; [`NONE`] without one.
    pub(super) twin: u32,
    /// The innermost VNI and 1, if it has one. The last GRE key of all is not kept: the flow has no byte left for it.
    vni: Option<NonZeroU32>,
    encap: Encap,
    pub(super) state: State,
    pub(super) originator_is_low: bool,
    pub(super) midstream: bool,
    /// An earlier part of the connection was evicted.
    pub(super) evicted: bool,
    /// Who sent the reset that ended it.
    pub(super) reset_by: Option<Direction>,
    /// Whether a FIN was seen before any payload.
    pub(super) fins: PerDirection<bool>,
}

/// A million flows without payload must stay affordable.
const _: () = assert!(size_of::<Flow>() <= 136);

impl Flow {
    /// A flow without payload, opened by `segment` at `now`.
    pub(super) fn opened_by(
        segment: &Segment<'_>,
        key: Key,
        from_low: bool,
        number: u64,
        now: Timestamp,
    ) -> Self {
        let syn = segment.flags.has(Flags::SYN);
        // A SYN with ACK is the answer to one that was not captured (yet).
        let answer = syn && segment.flags.has(Flags::ACK);
        Self {
            key,
            last: now,
            listed_at: now,
            start: segment.time,
            number,
            prev: NONE,
            next: NONE,
            stream: NONE,
            bases: PerDirection {
                originator: Base::UNKNOWN,
                responder: Base::UNKNOWN,
            },
            isn: if answer {
                segment.ack.wrapping_sub(1)
            } else {
                segment.seq
            },
            pending_syn: None,
            twin: NONE,
            vni: segment.network.vni.and_then(|vni| {
                let next = vni.wrapping_add(1);
                NonZeroU32::new(next)
            }),
            encap: segment.network.encap,
            state: State::Empty,
            originator_is_low: from_low != answer,
            midstream: !syn,
            evicted: false,
            reset_by: None,
            fins: PerDirection::default(),
        }
    }

    /// The direction of a segment by which end sent it.
    pub(super) fn direction(&self, from_low: bool) -> Direction {
        if from_low == self.originator_is_low {
            Direction::Originator
        } else {
            Direction::Responder
        }
    }

    /// Whether it has carried payload, has not ended, and `segment` cannot change that.
    #[inline]
    pub(super) fn continues(&self, segment: &Segment<'_>) -> bool {
        self.stream != NONE && self.pending_syn.is_none() && !segment.flags.has(Flags::SYN)
    }

    /// The network that its addresses belong to.
    pub(super) fn network(&self) -> Network {
        Network {
            id: self.key.network(),
            vni: self.vni.map(|next| next.get() - 1),
            encap: self.encap,
        }
    }

    /// Whether a SYN of the originator with this number opened it. Where that was not captured, the first segment has the
    /// number behind it.
    pub(super) fn is_opened_by(&self, isn: u32) -> bool {
        let first = if self.midstream {
            isn.wrapping_add(1)
        } else {
            isn
        };
        self.isn == first
    }

    /// Of a flow that has ended: the responder's initial number, if its SYN was captured.
    pub(super) fn responder_isn(&self) -> Option<u32> {
        let pending = self.pending_syn?;
        (self.state == State::Ended && pending.direction == Direction::Responder)
            .then_some(pending.isn)
    }

    /// Notes the responder's initial number at the end.
    pub(super) fn note_responder_isn(&mut self, isn: Option<u32>) {
        self.pending_syn = isn.map(|isn| PendingSyn {
            direction: Direction::Responder,
            isn,
        });
    }

    /// The SYN shows that the other end is the originator.
    pub(super) fn swap_ends(&mut self) {
        self.originator_is_low = !self.originator_is_low;
        self.bases.swap();
        self.fins.swap();
    }

    /// An evicted flow, or one whose peer ignored the reset, continues with `segment`, midstream and as the flow `number`.
    pub(super) fn resume(&mut self, segment: &Segment<'_>, number: u64) {
        (self.start, self.number, self.isn) = (segment.time, number, segment.seq);
        self.bases = PerDirection {
            originator: Base::UNKNOWN,
            responder: Base::UNKNOWN,
        };
        self.fins = PerDirection::default();
        self.pending_syn = None;
        self.reset_by = None;
        self.midstream = true;
    }

    /// What the consumer receives when the first payload opens the stream.
    pub(super) fn describe(&self) -> FlowStart {
        let (low, high) = self.key.endpoints();
        let (originator, responder) = if self.originator_is_low {
            (low, high)
        } else {
            (high, low)
        };
        FlowStart {
            network: self.network(),
            originator,
            responder,
            midstream: self.midstream,
            evicted: self.evicted,
            originator_seq: if self.midstream {
                self.bases.originator.seq
            } else {
                self.isn
            },
            time: self.start,
            number: self.number,
        }
    }
}
