//! The stream of one flow that carries payload: the segments of both directions become calls of its consumer.
//!
//! The plain case costs four compares and no copy: the segment starts at `next`, nothing waits, and the bytes of the
//! other direction that it acknowledges were delivered. Everything else is about bytes that are missing (yet), as
//! described in [`flow`](crate::flow). In layers, each on the one before: [`delivery`] delivers what need not wait,
//! [`gaps`] gives up holes, and this file takes in segments and the passing of time.

mod delivery;
mod gaps;

use std::time::Duration;

use crate::decap::{Flags, Segment};
use crate::flow::assembler::{Assembler, Base, BaseSource, Chunk, Fin, Grace, distance};
use crate::flow::direction::Direction;
use crate::flow::{Consumer, FlowEnd};
use crate::limits::{
    HOLE_AGE_MAX, REBASE_BYTES_MAX, REORDER_GRACE, REORDER_GRACE_QUIET, RESET_DOUBT, RESET_WINDOW,
};
use crate::time::Timestamp;

use delivery::Reset;
pub(super) use delivery::{NEVER, Stream, StreamContext};

impl<C> Stream<C> {
    /// Whether segments of both directions have been captured.
    pub(super) fn is_two_sided(&self) -> bool {
        let [originator, responder] = self.assemblers.both();
        originator.base.is_captured() && responder.base.is_captured()
    }

    /// Whether nothing waits, is missing or ends: then there is nothing to settle, and no moment at which to look again.
    #[inline]
    pub(super) fn is_settled(&self) -> bool {
        self.reset.is_none()
            && self.ticket == 0
            && self.assemblers.originator.is_settled()
            && self.assemblers.responder.is_settled()
    }

    /// Whether a FIN or a reset was seen: a SYN now opens a new connection.
    pub(super) fn is_ending(&self) -> bool {
        let [originator, responder] = self.assemblers.both();
        self.reset.is_some() || originator.fin.is_some() || responder.fin.is_some()
    }

    /// How the flow ended, if it did.
    pub(super) fn ended(&self, now: Timestamp) -> Option<FlowEnd> {
        let [originator, responder] = self.assemblers.both();
        let finished = |own: &Assembler| own.fin.is_some_and(|fin| fin.delivered);
        if finished(originator) && finished(responder) {
            return Some(FlowEnd::Fin);
        }
        let reset = self.reset?;
        let waits = self.holds_ranges() || originator.lacks_acked() || responder.lacks_acked();
        (now >= reset.until || (!reset.revocable && !waits)).then_some(FlowEnd::Reset)
    }

    /// When [`Self::expire`] has something to do.
    pub(super) fn deadline(&self) -> Timestamp {
        let mut deadline = self.reset.map_or(NEVER, |reset| reset.until);
        for own in self.assemblers.both() {
            if own.has_grace() {
                deadline = deadline.min(own.grace.ends);
            }
            if let Some(overdue) = own.overdue_at(HOLE_AGE_MAX) {
                deadline = deadline.min(overdue);
                if self.in_initial_reorder() {
                    deadline = deadline.min(self.initial_reorder_until);
                }
            }
        }
        deadline
    }

    /// The sequence numbers expected next and how they are known, which the table keeps when the flow has ended.
    pub(super) fn next_bases(&self) -> [Base; 2] {
        self.assemblers.both().map(|own| Base {
            seq: own.next_seq(),
            source: own.base.source,
        })
    }

    /// The initial sequence number of the responder, if its SYN was captured.
    pub(super) fn responder_isn(&self) -> Option<u32> {
        self.assemblers.responder.base.isn()
    }
}

impl<C> Stream<C> {
    /// One segment of this flow.
    pub(super) fn segment<S>(
        &mut self,
        direction: Direction,
        segment: &Segment<'_>,
        context: &mut StreamContext<'_, S>,
    ) where
        C: Consumer<S>,
    {
        self.segments += 1;
        let span = u64::from(segment.payload_wire_len).max(segment.payload.len() as u64);
        // The SYN takes one number; data on it (RFC 7413) starts behind.
        let syn = segment.flags.has(Flags::SYN);
        let seq = if syn {
            segment.seq.wrapping_add(1)
        } else {
            segment.seq
        };
        let base = self.assemblers[direction].base;
        if syn && base.source != BaseSource::Syn {
            self.synchronize(direction, seq);
            let other = &mut self.assemblers[direction.reverse()];
            if segment.flags.has(Flags::ACK) && other.base.source == BaseSource::Acknowledgement {
                other.rebase(segment.ack, u64::MAX);
            }
        } else if !base.is_captured() && !segment.flags.has(Flags::RST) {
            self.first_segment(direction, seq, span);
        }
        let number = self.segments;
        if self.assemblers[direction].ahead(seq).is_none()
            && !self.resync(direction, segment, seq, context)
        {
            return context.discard_out_of_window(segment);
        }
        let (own, other) = self.assemblers.pair_mut(direction);
        let Some(distance) = own.ahead(seq) else {
            return context.discard_out_of_window(segment);
        };
        if segment.flags.has(Flags::ACK) {
            other.acknowledge(segment.ack, number);
            if other.uncaptured {
                self.give_up(direction.reverse(), u64::MAX, context);
            }
        }
        if segment.flags.has(Flags::RST) {
            context.counters.flow_discarded_reset_bytes += segment.payload.len() as u64;
            self.reset(direction, distance, context);
        } else {
            if self
                .reset
                .is_some_and(|reset| reset.revocable && reset.direction == direction)
            {
                self.reset = None;
                context.counters.flow_resets_ignored += 1;
            }
            if span > 0 {
                self.payload(direction, segment, seq, span, context);
            }
            if segment.flags.has(Flags::FIN) {
                self.fin(direction, segment, seq, span, context);
            }
        }
        if !self.is_settled() {
            self.settle(context);
        }
    }

    /// A segment out of window: whether it is the last of those that prove that the direction continues there.
    fn resync<S>(
        &mut self,
        direction: Direction,
        segment: &Segment<'_>,
        seq: u32,
        context: &mut StreamContext<'_, S>,
    ) -> bool
    where
        C: Consumer<S>,
    {
        if segment.flags.has(Flags::RST | Flags::SYN) || segment.payload.is_empty() {
            return false;
        }
        let Some(to) = self.assemblers[direction].resync_at(seq) else {
            return false;
        };
        self.initial_reorder_until = Timestamp::ZERO;
        while self.assemblers[direction].front().is_some() {
            self.force_front(direction, context);
        }
        self.declare_gap(direction, to, context);
        let own = &mut self.assemblers[direction];
        own.acked = own.acked.max(own.next);
        true
    }

    /// A SYN: the first byte of the direction is `seq`, unless bytes were delivered already.
    fn synchronize(&mut self, direction: Direction, seq: u32) {
        let own = &mut self.assemblers[direction];
        if !own.base.is_captured() {
            self.first_segment(direction, seq, 0);
        } else if own.base.seq != seq && !own.rebase(seq, u64::MAX) {
            return;
        }
        let own = &mut self.assemblers[direction];
        if own.base.seq == seq {
            own.base.source = BaseSource::Syn;
        }
        let [originator, responder] = self.assemblers.both();
        if originator.base.is_exact() && responder.base.is_exact() {
            self.initial_reorder_until = Timestamp::ZERO;
        }
    }

    /// The first segment captured of a direction determines its base.
    fn first_segment(&mut self, direction: Direction, seq: u32, span: u64) {
        let own = &mut self.assemblers[direction];
        own.uncaptured = false;
        own.grace = Grace::default();
        if own.next == 0 {
            let before = own.base;
            own.base.set_by_segment(seq, span > 0);
            let back = distance(before.seq, own.base.seq);
            let near = before.source == BaseSource::Acknowledgement
                && back.unsigned_abs() <= REBASE_BYTES_MAX;
            own.acked = if near {
                own.acked.saturating_add_signed(back)
            } else {
                0
            };
            return;
        }
        // Its acknowledged bytes were given up before a segment was seen; it continues from there.
        own.base.source = BaseSource::FirstSegment;
        if own.ahead(seq).is_none() {
            own.base.seq = own.base.seq.wrapping_add(seq.wrapping_sub(own.next_seq()));
            own.acked = own.next;
        }
    }

    fn payload<S>(
        &mut self,
        direction: Direction,
        segment: &Segment<'_>,
        seq: u32,
        span: u64,
        context: &mut StreamContext<'_, S>,
    ) where
        C: Consumer<S>,
    {
        let reordering = self.in_initial_reorder();
        let consumer = &mut self.consumer;
        let (own, other) = self.assemblers.pair_mut(direction);
        let len = segment.payload.len() as u64;
        if consumer.ignores(direction) {
            context.counters.flow_skipped_bytes += len;
            if let Some(end) = own.offset(seq).map(|offset| offset + span) {
                own.next = own.next.max(end);
            }
            return;
        }
        let offset = own
            .offset(seq)
            .or_else(|| own.rebase(seq, span).then_some(0));
        let Some(offset) = offset else {
            context.counters.flow_discarded_before_start_bytes += len;
            return;
        };
        let ack = segment.flags.has(Flags::ACK).then_some(segment.ack);
        let chunk = Chunk {
            offset,
            end: offset + span,
            bytes: segment.payload,
            time: segment.time,
            number: self.segments,
            ack,
        };
        let Some(chunk) = context.trim(chunk, own) else {
            return;
        };
        let in_order = chunk.offset == own.next;
        let held = reordering
            || (ack.is_some_and(|ack| other.is_behind(ack))
                && !consumer.ignores(direction.reverse()));
        if in_order && !held {
            let (now, later) = chunk.split(own.front().unwrap_or(u64::MAX));
            context.deliver(consumer, own, other, direction, now);
            if later.span() > 0 {
                context.queue(own, later);
            }
            return;
        }
        if in_order {
            context.counters.flow_segments_held += 1;
        } else {
            context.counters.flow_segments_out_of_order += 1;
        }
        context.queue(own, chunk);
    }

    fn fin<S>(
        &mut self,
        direction: Direction,
        segment: &Segment<'_>,
        seq: u32,
        span: u64,
        context: &mut StreamContext<'_, S>,
    ) {
        let own = &mut self.assemblers[direction];
        let Some(offset) = own.offset(seq).map(|offset| offset + span) else {
            return;
        };
        // The first FIN holds; one before bytes that were delivered already does not belong to this connection.
        if own.fin.is_some() || offset < own.next {
            return;
        }
        let ack = segment.flags.has(Flags::ACK).then_some(segment.ack);
        own.fin = Some(Fin {
            offset,
            time: segment.time,
            ack,
            delivered: false,
        });
        context.counters.flow_discarded_after_fin_bytes += own.truncate(offset, context.pool);
    }

    /// A reset `distance` away from the next byte expected.
    ///
    /// RFC 5961 §3.2 lets the receiver accept exactly the next number and answer others inside the window with a
    /// challenge. What the receiver has is not known here, only what both ends sent: the end of all bytes seen and the
    /// last acknowledgement are exact; other numbers near them are revocable; far ones are not of this connection and
    /// end nothing.
    fn reset<S>(
        &mut self,
        direction: Direction,
        distance: i64,
        context: &mut StreamContext<'_, S>,
    ) {
        let own = &self.assemblers[direction];
        let at = own.next.checked_add_signed(distance);
        let exact = at.is_some_and(|at| at == own.end() || at == own.next || at == own.acked);
        if !exact && distance.unsigned_abs() > RESET_WINDOW {
            context.counters.flow_resets_out_of_window += 1;
            return;
        }
        if self.reset.is_some_and(|reset| !reset.revocable) {
            return;
        }
        let wait = if exact {
            context.pool.patience.grace
        } else {
            RESET_DOUBT
        };
        self.reset = Some(Reset {
            direction,
            until: context.now.after(wait),
            revocable: !exact,
        });
    }

    /// After any change: delivers what can be delivered, gives up what exceeds its bounds, and starts the graces for
    /// acknowledged bytes that are missing.
    fn settle<S>(&mut self, context: &mut StreamContext<'_, S>)
    where
        C: Consumer<S>,
    {
        if self.holds_ranges() {
            self.drop_ignored(context);
            self.drain(context);
            self.keep_bounds(context);
        }
        for direction in Direction::BOTH {
            self.deliver_fin(direction, context);
            self.update_grace(direction, context);
        }
    }

    /// Drops what waits in a direction that the consumer ignores.
    fn drop_ignored<S>(&mut self, context: &mut StreamContext<'_, S>)
    where
        C: Consumer<S>,
    {
        for direction in Direction::BOTH {
            let own = &mut self.assemblers[direction];
            if own.queue.is_empty() || !self.consumer.ignores(direction) {
                continue;
            }
            own.next = own
                .queue
                .back()
                .map_or(own.next, |piece| piece.end.max(own.next));
            context.counters.flow_skipped_bytes += own.truncate(0, context.pool);
        }
    }
}

impl<C> Stream<C> {
    /// Ends the waits that are over at the table's time.
    pub(super) fn expire<S>(&mut self, context: &mut StreamContext<'_, S>)
    where
        C: Consumer<S>,
    {
        let now = context.now;
        self.clamp_to(now, context.pool.patience.grace);
        if now >= self.initial_reorder_until {
            self.initial_reorder_until = Timestamp::ZERO;
            self.drain(context);
        }
        for direction in Direction::BOTH {
            let own = &mut self.assemblers[direction];
            let is_over = own.has_grace() && now >= own.grace.ends;
            if is_over && !(own.base.is_captured() && own.grace.extend(context.pool.patience)) {
                self.end_grace(direction, context);
            }
            while self.assemblers[direction]
                .overdue_at(HOLE_AGE_MAX)
                .is_some_and(|overdue| now >= overdue)
            {
                context.counters.flow_holes_expired += 1;
                let own = &mut self.assemblers[direction];
                if own.is_front_unreceived() {
                    context.counters.flow_discarded_out_of_window_bytes +=
                        own.truncate(own.next, context.pool);
                } else {
                    self.force_front(direction, context);
                }
            }
        }
        self.settle(context);
    }

    /// Moves moments that lie after `now` back to it: a packet clock that was set back must not make a grace last for
    /// hours.
    fn clamp_to(&mut self, now: Timestamp, grace: Duration) {
        self.initial_reorder_until = self.initial_reorder_until.min(now.after(REORDER_GRACE));
        if let Some(reset) = &mut self.reset {
            reset.until = reset.until.min(now.after(RESET_DOUBT));
        }
        for own in self.assemblers.both_mut() {
            own.grace.ends = own
                .grace
                .ends
                .min(now.after(grace.max(REORDER_GRACE_QUIET)));
            own.progress = own.progress.min(now);
            for piece in &mut own.queue {
                piece.queued = piece.queued.min(now);
            }
        }
    }

    /// Gives up everything that waits, to free memory.
    pub(super) fn release<S>(&mut self, context: &mut StreamContext<'_, S>)
    where
        C: Consumer<S>,
    {
        context.counters.flow_holes_over_bounds += self.empty_queues(context);
        self.settle(context);
    }

    /// The flow is over: delivers what waits, with gaps where bytes are missing, the unseen tail included.
    pub(super) fn flush<S>(&mut self, context: &mut StreamContext<'_, S>)
    where
        C: Consumer<S>,
    {
        self.empty_queues(context);
        for direction in Direction::BOTH {
            self.give_up(direction, u64::MAX, context);
            let own = &self.assemblers[direction];
            if let Some(fin) = own.fin.filter(|fin| fin.offset > own.next) {
                self.declare_gap(direction, fin.offset, context);
            }
        }
        for direction in Direction::BOTH {
            self.deliver_fin(direction, context);
        }
    }

    /// Delivers everything that waits, with gaps where bytes are missing, and returns the number of those holes.
    fn empty_queues<S>(&mut self, context: &mut StreamContext<'_, S>) -> u64
    where
        C: Consumer<S>,
    {
        self.initial_reorder_until = Timestamp::ZERO;
        self.drain(context);
        let mut holes = 0;
        while let Some(direction) = self.first_queued() {
            holes += 1;
            self.force_front(direction, context);
        }
        holes
    }
}

impl<S> StreamContext<'_, S> {
    /// Counts a segment that cannot belong to this connection.
    fn discard_out_of_window(&mut self, segment: &Segment<'_>) {
        self.counters.flow_segments_out_of_window += 1;
        self.counters.flow_discarded_out_of_window_bytes += segment.payload.len() as u64;
    }

    /// Cuts off what was delivered already and what lies behind the FIN; `None` when nothing is left.
    fn trim<'c>(&mut self, chunk: Chunk<'c>, own: &mut Assembler) -> Option<Chunk<'c>> {
        let chunk = match own.fin {
            Some(fin) if chunk.end > fin.offset => {
                let (chunk, after) = chunk.split(fin.offset);
                self.counters.flow_discarded_after_fin_bytes += after.bytes.len() as u64;
                if chunk.span() == 0 {
                    return None;
                }
                chunk
            }
            _ => chunk,
        };
        if chunk.offset >= own.next {
            return Some(chunk);
        }
        let (stale, fresh) = chunk.split(own.next);
        let late = own
            .gaps
            .fill(stale.offset..stale.offset + stale.bytes.len() as u64);
        self.counters.flow_discarded_late_bytes += late;
        let known = stale.bytes.len() as u64 - late;
        if fresh.span() > 0 {
            self.counters.flow_segments_overlapping += 1;
            self.counters.flow_overlapped_bytes += known;
            Some(fresh)
        } else {
            self.counters.flow_segments_duplicate += u64::from(late == 0);
            self.counters.flow_duplicate_bytes += known;
            None
        }
    }

    /// Queues a copy.
    fn queue(&mut self, own: &mut Assembler, chunk: Chunk<'_>) {
        let len = chunk.bytes.len() as u64;
        let copied = own.insert(chunk, self.now, self.pool);
        self.counters.flow_copied_bytes += copied;
        if copied == 0 && len > 0 {
            self.counters.flow_segments_duplicate += 1;
            self.counters.flow_duplicate_bytes += len;
        } else if copied < len {
            self.counters.flow_segments_overlapping += 1;
            self.counters.flow_overlapped_bytes += len - copied;
        }
    }
}
