//! Delivery to the consumer: what the two directions of a flow hold, in causal order.
//!
//! A segment that acknowledges bytes of the other direction waits until those are delivered, so a response never comes
//! before its request. Nothing here gives up a hole; see [`gaps`](super::gaps).

use crate::flow::assembler::{Assembler, Base, Chunk, Fin};
use crate::flow::direction::{Direction, PerDirection};
use crate::flow::pool::Pool;
use crate::flow::{Acked, ByteInfo, Consumer, Counters};
use crate::limits::REORDER_SEGMENTS_MAX;
use crate::time::Timestamp;

/// Later than any packet.
pub(in crate::flow) const NEVER: Timestamp = Timestamp::from_nanos(u64::MAX);

/// What a stream uses of its table during one call.
pub(in crate::flow) struct StreamContext<'a, S> {
    pub(in crate::flow) shared: &'a mut S,
    pub(in crate::flow) counters: &'a mut Counters,
    pub(in crate::flow) pool: &'a mut Pool,
    /// The table's clock.
    pub(in crate::flow) now: Timestamp,
}

/// A reset was seen; the flow ends when nothing is missing any more, at the latest at `until`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reset {
    pub(super) direction: Direction,
    pub(super) until: Timestamp,
    /// Its sequence number is not exactly the next one: the receiver may refuse it (RFC 5961 §3.2), so a further
    /// segment of its sender revokes it.
    pub(super) revocable: bool,
}

/// One flow that carries payload: an assembler for each direction, and the consumer of both.
pub(in crate::flow) struct Stream<C> {
    pub(super) consumer: C,
    pub(in crate::flow) assemblers: PerDirection<Assembler>,
    pub(super) reset: Option<Reset>,
    /// Until when all payload of a flow without exact bases waits for what was sent before it; zero when it is over.
    pub(super) initial_reorder_until: Timestamp,
    /// Segments seen.
    pub(super) segments: u64,
    /// Index of the flow in the table.
    pub(in crate::flow) flow: u32,
    /// When the table is going to call [`Self::expire`]; [`NEVER`] when nothing waits.
    pub(in crate::flow) wake: Timestamp,
    /// Ticket in the table's queue of streams that hold bytes, 0 when it holds none.
    pub(in crate::flow) ticket: u64,
}

impl<C> Stream<C> {
    pub(in crate::flow) fn new(
        consumer: C,
        flow: u32,
        bases: PerDirection<Base>,
        initial_reorder_until: Timestamp,
    ) -> Self {
        Self {
            consumer,
            assemblers: PerDirection {
                originator: Assembler::new(bases.originator),
                responder: Assembler::new(bases.responder),
            },
            reset: None,
            initial_reorder_until,
            segments: 0,
            flow,
            wake: NEVER,
            ticket: 0,
        }
    }

    /// Who sent a reset that was not revoked.
    pub(in crate::flow) fn reset_by(&self) -> Option<Direction> {
        self.reset.map(|reset| reset.direction)
    }

    /// The consumer, when the flow is over.
    pub(in crate::flow) fn into_consumer(self) -> C {
        self.consumer
    }

    /// Whether a direction holds ranges that wait.
    pub(in crate::flow) fn holds_ranges(&self) -> bool {
        !(self.assemblers.originator.queue.is_empty() && self.assemblers.responder.queue.is_empty())
    }

    /// Whether the initial reorder window of a flow without exact bases is open: all payload waits.
    pub(super) fn in_initial_reorder(&self) -> bool {
        self.initial_reorder_until > Timestamp::ZERO
            && self.segments < u64::from(REORDER_SEGMENTS_MAX)
    }

    /// The direction whose queue waits for the segment that was captured first.
    pub(super) fn first_queued(&self) -> Option<Direction> {
        let queued = |direction| {
            self.assemblers[direction]
                .queue
                .front()
                .map(|front| (front.number, direction))
        };
        match (queued(Direction::Originator), queued(Direction::Responder)) {
            (Some((a, _)), Some((b, _))) if b < a => Some(Direction::Responder),
            (Some((_, direction)), _) | (None, Some((_, direction))) => Some(direction),
            (None, None) => None,
        }
    }

    /// Whether what waits in `direction`, and acknowledges `ack`, must wait for the other direction.
    pub(super) fn is_held<S>(&self, direction: Direction, ack: Option<u32>) -> bool
    where
        C: Consumer<S>,
    {
        let other = &self.assemblers[direction.reverse()];
        self.in_initial_reorder()
            || (ack.is_some_and(|ack| other.is_behind(ack))
                && !self.consumer.ignores(direction.reverse()))
    }

    /// Delivers everything that need not wait any more.
    pub(super) fn drain<S>(&mut self, context: &mut StreamContext<'_, S>)
    where
        C: Consumer<S>,
    {
        if self.in_initial_reorder() {
            return;
        }
        loop {
            for direction in Direction::BOTH {
                // What waits may acknowledge the other side's FIN.
                self.deliver_fin(direction, context);
            }
            // Where acknowledgements leave the choice, the order of capture is the order of sending.
            let first = self.first_queued().unwrap_or(Direction::Originator);
            let moved = self.advance(first, false, context)
                || self.advance(first.reverse(), false, context);
            if moved {
                continue;
            }
            // Each front waits for the other: a retransmission with a newer acknowledgement does that. It was sent
            // after what it acknowledges, so it is the one that was captured later; its bytes are the older ones,
            // since the other front acknowledges them, so it goes first.
            let [originator, responder] = self.assemblers.both();
            let fronts = (originator.queue.front(), responder.queue.front());
            let (Some(from_originator), Some(from_responder)) = fronts else {
                return;
            };
            if originator.has_hole() || responder.has_hole() {
                return;
            }
            let first = if from_originator.number > from_responder.number {
                Direction::Originator
            } else {
                Direction::Responder
            };
            self.advance(first, true, context);
        }
    }

    /// Delivers the first range that waits, if no byte before it is missing and it is not held (or `force` is set).
    pub(super) fn advance<S>(
        &mut self,
        direction: Direction,
        force: bool,
        context: &mut StreamContext<'_, S>,
    ) -> bool
    where
        C: Consumer<S>,
    {
        let Some(front) = self.assemblers[direction].queue.front() else {
            return false;
        };
        if !force && self.is_held(direction, front.ack) {
            return false;
        }
        let (own, other) = self.assemblers.pair_mut(direction);
        let Some(piece) = own.pop() else {
            return false;
        };
        if self.consumer.ignores(direction) {
            context.counters.flow_skipped_bytes += piece.bytes.len() as u64;
            own.next = own.next.max(piece.end);
        } else {
            context.deliver(&mut self.consumer, own, other, direction, piece.chunk());
        }
        context.pool.give(piece.bytes);
        true
    }

    /// Delivers the FIN of a direction once everything before it has been delivered or given up.
    pub(super) fn deliver_fin<S>(
        &mut self,
        direction: Direction,
        context: &mut StreamContext<'_, S>,
    ) where
        C: Consumer<S>,
    {
        let own = &self.assemblers[direction];
        let Some(fin) = own
            .fin
            .filter(|fin| !fin.delivered && own.next >= fin.offset)
        else {
            return;
        };
        if !own.queue.is_empty() || self.is_held(direction, fin.ack) {
            return;
        }
        self.assemblers[direction].fin = Some(Fin {
            delivered: true,
            ..fin
        });
        self.consumer.finished(
            ByteInfo {
                direction,
                time: fin.time,
                offset: fin.offset,
                acked: Acked::UNKNOWN,
            },
            context.shared,
        );
    }
}

impl<S> StreamContext<'_, S> {
    /// Delivers bytes that are next, and the gap that the capture cut off behind them.
    pub(super) fn deliver<C: Consumer<S>>(
        &mut self,
        consumer: &mut C,
        own: &mut Assembler,
        other: &Assembler,
        direction: Direction,
        chunk: Chunk<'_>,
    ) {
        let len = chunk.bytes.len() as u64;
        if len > 0 {
            own.next = chunk.offset + len;
            own.progress = self.now;
            own.fin_assumed = false;
            self.counters.flow_delivered_bytes += len;
            consumer.data(
                ByteInfo {
                    direction,
                    time: chunk.time,
                    offset: chunk.offset,
                    acked: match chunk.ack {
                        Some(ack) => other.offset(ack).into(),
                        None => Acked::ABSENT,
                    },
                },
                chunk.bytes,
                self.shared,
            );
        }
        if chunk.end > own.next {
            self.counters.flow_truncated_bytes += chunk.end - own.next;
            let (info, len) = self.begin_gap(own, direction, chunk.end, chunk.time);
            consumer.cut(info, len, self.shared);
        }
    }

    /// Delivers a gap from `next` up to the offset `to`.
    pub(super) fn deliver_gap<C: Consumer<S>>(
        &mut self,
        consumer: &mut C,
        own: &mut Assembler,
        direction: Direction,
        to: u64,
        time: Timestamp,
    ) {
        let (info, len) = self.begin_gap(own, direction, to, time);
        consumer.gap(info, len, self.shared);
    }

    /// Notes a gap from `next` up to the offset `to`: its place and its length.
    fn begin_gap(
        &mut self,
        own: &mut Assembler,
        direction: Direction,
        to: u64,
        time: Timestamp,
    ) -> (ByteInfo, u64) {
        let offset = own.next;
        let len = to - offset;
        own.gaps.declare(offset..to);
        own.next = to;
        own.fin_assumed = false;
        self.counters.flow_gaps += 1;
        self.counters.flow_gap_bytes += len;
        let info = ByteInfo {
            direction,
            time,
            offset,
            acked: Acked::UNKNOWN,
        };
        (info, len)
    }
}
