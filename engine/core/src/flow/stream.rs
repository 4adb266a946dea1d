//! Both directions of one flow that carries payload: segments in, the consumer's calls out, in causal order.
//!
//! The plain case costs four compares and no copy: the segment begins at `next`, nothing waits, and what it
//! acknowledges of the other half was passed on. Everything else is about what is not there (yet):
//!
//! * A **hole** may still fill: a mirror reorders, or the network lost the segment and it will be sent again.
//! * The other side's acknowledgement past a hole **proves** that the capture missed the bytes, for the receiver has
//!   them and nobody will send them again. Only reordering by the mirror can still bring them, and that takes
//!   milliseconds: after [`REORDER_GRACE`] of packet time or [`REORDER_SEGMENTS_MAX`] segments of this flow,
//!   whichever is first, they are a **gap**. Zeek and Suricata skip such a hole at once, which on a mirror that
//!   reorders (network load balancers say that they do) loses bytes that arrive a moment later; waiting for a time-out
//!   instead holds up everything behind the hole for minutes.
//! * A hole without proof becomes a gap when nothing moves for [`HOLE_AGE_MAX`], or when the half holds too much behind
//!   it. If the receiver has spoken since and still lacks the hole, what lies behind it was never in its window (a
//!   forged or foreign segment) and is discarded instead.
//! * **Causal order**: a segment that acknowledges bytes of the other half that were not passed on yet waits for them
//!   under the same grace, so a response is never told before its request. At a midstream beginning nobody knows what
//!   else was sent just before; then all payload waits until one grace after the flow's first segment, and only then
//!   is put into order. A half that lets a grace for acknowledged bytes pass without being seen is **blind**: the
//!   traffic is one-sided, and from then on its acknowledged bytes are gaps at once and hold up nothing.

use crate::decap::{Flags, Segment};
use crate::flow::assembler::{Anchor, Chunk, Fin, Half, Known, Proof, distance};
use crate::flow::pool::Pool;
use crate::flow::{Acked, Consumer, Counters, Direction, FlowEnd, Place};
use crate::limits::{
    HOLE_AGE_MAX, REBASE_BYTES_MAX, REORDER_GRACE, REORDER_SEGMENTS_MAX, RESET_DOUBT, RESET_WINDOW,
};
use crate::time::Timestamp;

/// What the table lends a stream for one call.
pub(super) struct Lent<'a, S> {
    pub(super) shared: &'a mut S,
    pub(super) counters: &'a mut Counters,
    pub(super) pool: &'a mut Pool,
    /// The table's clock.
    pub(super) now: Timestamp,
}

/// A reset was seen; the flow ends when nothing is missing any more, at the latest at `until`.
#[derive(Clone, Copy, Debug)]
struct Reset {
    direction: Direction,
    until: Timestamp,
    /// Its sequence number is not exactly the next one: the receiver may refuse it (RFC 5961 §3.2), so a further
    /// segment of its sender revokes it.
    doubtful: bool,
}

/// Both halves and the consumer of one flow.
pub(super) struct Stream<C> {
    consumer: C,
    originator: Half,
    responder: Half,
    reset: Option<Reset>,
    /// Until when the first payload of a midstream flow waits for the other half.
    hold_until: Timestamp,
    /// Segments seen.
    segments: u64,
    /// Index of the flow in the table.
    pub(super) flow: u32,
    /// When the table is going to call [`Self::expire`]; `NEVER` when nothing waits.
    pub(super) wake: Timestamp,
    /// Ticket in the table's line of streams that hold bytes, 0 when it holds none.
    pub(super) ticket: u64,
}

/// Later than any packet.
pub(super) const NEVER: Timestamp = Timestamp::from_nanos(u64::MAX);

impl Direction {
    /// The other direction.
    pub const fn reverse(self) -> Self {
        match self {
            Self::Originator => Self::Responder,
            Self::Responder => Self::Originator,
        }
    }
}

/// Consumer, sending half and other half, borrowed apart.
macro_rules! split {
    ($stream:expr, $direction:expr) => {
        match $direction {
            Direction::Originator => (
                &mut $stream.consumer,
                &mut $stream.originator,
                &mut $stream.responder,
            ),
            Direction::Responder => (
                &mut $stream.consumer,
                &mut $stream.responder,
                &mut $stream.originator,
            ),
        }
    };
}

// Behind the macro that it uses.
mod gaps;

const BOTH: [Direction; 2] = [Direction::Originator, Direction::Responder];

impl<C> Stream<C> {
    pub(super) fn new(
        consumer: C,
        flow: u32,
        originator: Anchor,
        responder: Anchor,
        hold_until: Timestamp,
    ) -> Self {
        Self {
            consumer,
            originator: Half::new(originator),
            responder: Half::new(responder),
            reset: None,
            hold_until,
            segments: 0,
            flow,
            wake: NEVER,
            ticket: 0,
        }
    }

    pub(super) fn half(&self, direction: Direction) -> &Half {
        match direction {
            Direction::Originator => &self.originator,
            Direction::Responder => &self.responder,
        }
    }

    pub(super) fn half_mut(&mut self, direction: Direction) -> &mut Half {
        match direction {
            Direction::Originator => &mut self.originator,
            Direction::Responder => &mut self.responder,
        }
    }

    /// Both sides have been captured.
    pub(super) fn is_two_sided(&self) -> bool {
        self.originator.anchor.seen() && self.responder.anchor.seen()
    }

    /// Either half holds bytes.
    pub(super) fn holds(&self) -> bool {
        !(self.originator.queue.is_empty() && self.responder.queue.is_empty())
    }

    /// Nothing waits, is missing or ends: there is nothing to settle, and no moment at which to look again.
    #[inline]
    pub(super) fn is_calm(&self) -> bool {
        self.reset.is_none()
            && self.ticket == 0
            && self.originator.is_calm()
            && self.responder.is_calm()
    }

    /// Either side is finishing: a SYN now begins a new connection.
    pub(super) fn is_ending(&self) -> bool {
        self.reset.is_some() || self.originator.fin.is_some() || self.responder.fin.is_some()
    }

    /// The consumer, when the flow is over.
    pub(super) fn into_consumer(self) -> C {
        self.consumer
    }

    /// How the flow ended, if it did.
    pub(super) fn over(&self, now: Timestamp) -> Option<FlowEnd> {
        let told = |half: &Half| half.fin.is_some_and(|fin| fin.told);
        if told(&self.originator) && told(&self.responder) {
            return Some(FlowEnd::Fin);
        }
        let reset = self.reset?;
        let waits = self.holds() || self.originator.lacks() || self.responder.lacks();
        (now >= reset.until || (!reset.doubtful && !waits)).then_some(FlowEnd::Reset)
    }

    /// When [`Self::expire`] has something to do.
    pub(super) fn deadline(&self) -> Timestamp {
        let mut deadline = self.reset.map_or(NEVER, |reset| reset.until);
        for half in [&self.originator, &self.responder] {
            if half.proof.mark > half.next {
                deadline = deadline.min(half.proof.since.after(REORDER_GRACE));
            }
            if let Some(stuck) = half.stuck_at(HOLE_AGE_MAX) {
                deadline = deadline.min(stuck);
                if self.gathers() {
                    deadline = deadline.min(self.hold_until);
                }
            }
        }
        deadline
    }

    /// The grace of a midstream beginning is not over.
    fn gathers(&self) -> bool {
        self.hold_until > Timestamp::ZERO && self.segments < u64::from(REORDER_SEGMENTS_MAX)
    }
}

impl<C> Stream<C> {
    /// One segment of this flow.
    pub(super) fn segment<S>(
        &mut self,
        direction: Direction,
        segment: &Segment<'_>,
        lent: &mut Lent<'_, S>,
    ) where
        C: Consumer<S>,
    {
        self.segments += 1;
        let span = u64::from(segment.payload_wire_len).max(segment.payload.len() as u64);
        // The SYN takes one number; data on it (RFC 7413) begins behind.
        let syn = segment.flags.has(Flags::SYN);
        let seq = if syn {
            segment.seq.wrapping_add(1)
        } else {
            segment.seq
        };
        let anchor = self.half(direction).anchor;
        if syn && anchor.known != Known::Syn {
            self.synchronize(direction, seq);
            let other = self.half_mut(direction.reverse());
            if segment.flags.has(Flags::ACK) && other.anchor.known == Known::Hint {
                other.rebase(segment.ack, u64::MAX);
            }
        } else if !anchor.seen() && !segment.flags.has(Flags::RST) {
            self.first(direction, seq, span);
        }
        let number = self.segments;
        if self.half(direction).ahead(seq).is_none() && !self.resync(direction, segment, seq, lent)
        {
            return lent.refuse(segment);
        }
        let (_, own, other) = split!(self, direction);
        let Some(distance) = own.ahead(seq) else {
            return lent.refuse(segment);
        };
        if segment.flags.has(Flags::ACK) {
            other.acknowledge(segment.ack, number);
            if other.blind {
                self.give_up(direction.reverse(), u64::MAX, lent);
            }
        }
        if segment.flags.has(Flags::RST) {
            lent.counters.flow_discarded_reset_bytes += segment.payload.len() as u64;
            self.reset(direction, distance, lent);
        } else {
            if self
                .reset
                .is_some_and(|reset| reset.doubtful && reset.direction == direction)
            {
                self.reset = None;
                lent.counters.flow_resets_ignored += 1;
            }
            if span > 0 {
                self.payload(direction, segment, seq, span, lent);
            }
            if segment.flags.has(Flags::FIN) {
                self.fin(direction, segment, seq, span, lent);
            }
        }
        if !self.is_calm() {
            self.settle(lent);
        }
    }

    /// Whether a segment out of every window is the last proof that the half goes on there.
    fn resync<S>(
        &mut self,
        direction: Direction,
        segment: &Segment<'_>,
        seq: u32,
        lent: &mut Lent<'_, S>,
    ) -> bool
    where
        C: Consumer<S>,
    {
        if segment.flags.has(Flags::RST | Flags::SYN) || segment.payload.is_empty() {
            return false;
        }
        let Some(to) = self.half_mut(direction).stray(seq) else {
            return false;
        };
        self.hold_until = Timestamp::ZERO;
        while self.half(direction).front().is_some() {
            self.force(direction, lent);
        }
        self.lose(direction, to, lent);
        let half = self.half_mut(direction);
        half.acked = half.acked.max(half.next);
        true
    }

    /// A SYN: the half's first byte is `seq`, unless bytes were passed on already.
    fn synchronize(&mut self, direction: Direction, seq: u32) {
        let half = self.half_mut(direction);
        if !half.anchor.seen() {
            self.first(direction, seq, 0);
        } else if half.anchor.seq != seq && !half.rebase(seq, u64::MAX) {
            return;
        }
        let half = self.half_mut(direction);
        if half.anchor.seq == seq {
            half.anchor.known = Known::Syn;
        }
        if self.originator.anchor.exact() && self.responder.anchor.exact() {
            self.hold_until = Timestamp::ZERO;
        }
    }

    /// The first segment of a half places its offset 0.
    fn first(&mut self, direction: Direction, seq: u32, span: u64) {
        let half = self.half_mut(direction);
        half.blind = false;
        half.proof = Proof::default();
        if half.next == 0 {
            let hint = half.anchor;
            half.anchor.first(seq, span > 0);
            let back = distance(hint.seq, half.anchor.seq);
            let near = hint.known == Known::Hint && back.unsigned_abs() <= REBASE_BYTES_MAX;
            half.acked = if near {
                half.acked.saturating_add_signed(back)
            } else {
                0
            };
            return;
        }
        // Its acknowledged bytes were given up before it was seen; what comes now goes on from there.
        half.anchor.known = Known::Seen;
        if half.ahead(seq).is_none() {
            half.anchor.seq = half
                .anchor
                .seq
                .wrapping_add(seq.wrapping_sub(half.next_seq()));
            half.acked = half.next;
        }
    }

    fn payload<S>(
        &mut self,
        direction: Direction,
        segment: &Segment<'_>,
        seq: u32,
        span: u64,
        lent: &mut Lent<'_, S>,
    ) where
        C: Consumer<S>,
    {
        let gathers = self.gathers();
        let (consumer, own, other) = split!(self, direction);
        let len = segment.payload.len() as u64;
        if consumer.ignores(direction) {
            lent.counters.flow_skipped_bytes += len;
            if let Some(end) = own.offset(seq).map(|offset| offset + span) {
                own.next = own.next.max(end);
            }
            return;
        }
        let offset = own
            .offset(seq)
            .or_else(|| own.rebase(seq, span).then_some(0));
        let Some(offset) = offset else {
            // Before the first byte seen: sent before the capture began.
            lent.counters.flow_segments_duplicate += 1;
            lent.counters.flow_duplicate_bytes += len;
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
        let Some(chunk) = lent.trim(chunk, own) else {
            return;
        };
        let in_order = chunk.offset == own.next;
        let held = gathers
            || (ack.is_some_and(|ack| other.is_behind(ack))
                && !consumer.ignores(direction.reverse()));
        if in_order && !held {
            let (now, later) = chunk.split(own.front().unwrap_or(u64::MAX));
            lent.pass(consumer, own, other, direction, now);
            if later.span() > 0 {
                lent.queue(own, later);
            }
            return;
        }
        if in_order {
            lent.counters.flow_segments_held += 1;
        } else {
            lent.counters.flow_segments_out_of_order += 1;
        }
        lent.queue(own, chunk);
    }

    fn fin<S>(
        &mut self,
        direction: Direction,
        segment: &Segment<'_>,
        seq: u32,
        span: u64,
        lent: &mut Lent<'_, S>,
    ) {
        let own = self.half_mut(direction);
        let Some(offset) = own.offset(seq).map(|offset| offset + span) else {
            return;
        };
        // The first FIN holds; one before bytes that were passed on already is not of this connection's data.
        if own.fin.is_some() || offset < own.next {
            return;
        }
        let ack = segment.flags.has(Flags::ACK).then_some(segment.ack);
        own.fin = Some(Fin {
            offset,
            time: segment.time,
            ack,
            told: false,
        });
        lent.counters.flow_discarded_after_fin_bytes += own.truncate(offset, lent.pool);
    }

    /// A reset `distance` away from the next byte expected.
    ///
    /// RFC 5961 §3.2 lets the receiver accept exactly the next number and answer others inside the window with a
    /// challenge. We do not know what the receiver has, only what both sides said: the end of all bytes seen and the
    /// last acknowledgement are exact; others near are doubtful; far ones are not of this connection and kill nothing.
    fn reset<S>(&mut self, direction: Direction, distance: i64, lent: &mut Lent<'_, S>) {
        let own = self.half(direction);
        let at = own.next.checked_add_signed(distance);
        let exact = at.is_some_and(|at| at == own.end() || at == own.next || at == own.acked);
        if !exact && distance.unsigned_abs() > RESET_WINDOW {
            lent.counters.flow_resets_out_of_window += 1;
            return;
        }
        if self.reset.is_some_and(|reset| !reset.doubtful) {
            return;
        }
        let wait = if exact { REORDER_GRACE } else { RESET_DOUBT };
        self.reset = Some(Reset {
            direction,
            until: lent.now.after(wait),
            doubtful: !exact,
        });
    }

    /// After any change: passes on what can be, gives up what exceeds its bounds, notes what is proven missing.
    fn settle<S>(&mut self, lent: &mut Lent<'_, S>)
    where
        C: Consumer<S>,
    {
        if self.holds() {
            self.drop_ignored(lent);
            self.drain(lent);
            self.relieve(lent);
        }
        for direction in BOTH {
            self.tell_fin(direction, lent);
            self.watch(direction, lent);
        }
    }

    /// Nobody needs what waits in a direction that is ignored.
    fn drop_ignored<S>(&mut self, lent: &mut Lent<'_, S>)
    where
        C: Consumer<S>,
    {
        for direction in BOTH {
            let (consumer, half, _) = split!(self, direction);
            if half.queue.is_empty() || !consumer.ignores(direction) {
                continue;
            }
            half.next = half
                .queue
                .back()
                .map_or(half.next, |piece| piece.end.max(half.next));
            lent.counters.flow_skipped_bytes += half.truncate(0, lent.pool);
        }
    }

    /// Starts or stops the grace of a half's proven loss.
    fn watch<S>(&mut self, direction: Direction, lent: &mut Lent<'_, S>)
    where
        C: Consumer<S>,
    {
        let (consumer, half, _) = split!(self, direction);
        if !half.lacks() {
            half.proof.mark = 0;
            return;
        }
        if consumer.ignores(direction) {
            half.next = half.acked_data();
            half.proof.mark = 0;
            return;
        }
        if half.proof.mark <= half.next {
            half.proof = Proof {
                mark: half.acked_data(),
                since: lent.now,
                segments: 0,
            };
            return;
        }
        half.proof.segments += 1;
        if half.proof.segments >= REORDER_SEGMENTS_MAX {
            self.proof_due(direction, lent);
        }
    }

    /// Whether what waits in `direction` must wait for the other half.
    fn is_held<S>(&self, direction: Direction, ack: Option<u32>) -> bool
    where
        C: Consumer<S>,
    {
        let other = self.half(direction.reverse());
        self.gathers()
            || (ack.is_some_and(|ack| other.is_behind(ack))
                && !self.consumer.ignores(direction.reverse()))
    }

    /// Passes on everything that waits for nothing any more.
    fn drain<S>(&mut self, lent: &mut Lent<'_, S>)
    where
        C: Consumer<S>,
    {
        if self.gathers() {
            return;
        }
        loop {
            for direction in BOTH {
                // What waits may acknowledge the other side's FIN.
                self.tell_fin(direction, lent);
            }
            // Where acknowledgements leave the choice, the order of capture is the order of sending.
            let first = self.first_queued().unwrap_or(Direction::Originator);
            let moved =
                self.advance(first, false, lent) || self.advance(first.reverse(), false, lent);
            if moved {
                continue;
            }
            // Each front waits for the other: a retransmission with a newer acknowledgement does that. It was sent
            // after what it acknowledges, so it is the one that was captured later; its bytes are the older ones,
            // since the other front acknowledges them, so it goes first.
            let fronts = (self.originator.queue.front(), self.responder.queue.front());
            let (Some(from_originator), Some(from_responder)) = fronts else {
                return;
            };
            if self.originator.has_hole() || self.responder.has_hole() {
                return;
            }
            let first = if from_originator.number > from_responder.number {
                Direction::Originator
            } else {
                Direction::Responder
            };
            self.advance(first, true, lent);
        }
    }

    /// Passes on the first range that waits, if it may go.
    fn advance<S>(&mut self, direction: Direction, force: bool, lent: &mut Lent<'_, S>) -> bool
    where
        C: Consumer<S>,
    {
        let Some(front) = self.half(direction).queue.front() else {
            return false;
        };
        if !force && self.is_held(direction, front.ack) {
            return false;
        }
        let (consumer, own, other) = split!(self, direction);
        let Some(piece) = own.pop() else {
            return false;
        };
        if consumer.ignores(direction) {
            lent.counters.flow_skipped_bytes += piece.bytes.len() as u64;
            own.next = own.next.max(piece.end);
        } else {
            lent.pass(consumer, own, other, direction, piece.chunk());
        }
        lent.pool.give(piece.bytes);
        true
    }

    fn tell_fin<S>(&mut self, direction: Direction, lent: &mut Lent<'_, S>)
    where
        C: Consumer<S>,
    {
        let half = self.half(direction);
        let Some(fin) = half.fin.filter(|fin| !fin.told && half.next >= fin.offset) else {
            return;
        };
        if !half.queue.is_empty() || self.is_held(direction, fin.ack) {
            return;
        }
        let (consumer, own, _) = split!(self, direction);
        own.fin = Some(Fin { told: true, ..fin });
        consumer.finished(
            Place {
                direction,
                time: fin.time,
                offset: fin.offset,
                acked: Acked::UNKNOWN,
            },
            lent.shared,
        );
    }

    /// How long both halves are, for the tombstone.
    pub(super) fn next_seqs(&self) -> (u32, u32) {
        (self.originator.next_seq(), self.responder.next_seq())
    }
}

impl<S> Lent<'_, S> {
    /// No segment of this connection can look like that.
    fn refuse(&mut self, segment: &Segment<'_>) {
        self.counters.flow_segments_out_of_window += 1;
        self.counters.flow_discarded_out_of_window_bytes += segment.payload.len() as u64;
    }

    /// Cuts off what was passed on already and what lies behind the FIN; `None` when nothing is left.
    fn trim<'c>(&mut self, chunk: Chunk<'c>, own: &Half) -> Option<Chunk<'c>> {
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
        let late = stale
            .split(own.lost.end)
            .0
            .split(own.lost.start)
            .1
            .bytes
            .len() as u64;
        self.counters.flow_discarded_late_bytes += late;
        let known = stale.bytes.len() as u64 - late;
        if fresh.span() > 0 {
            self.counters.flow_segments_overlapping += 1;
            self.counters.flow_overlapped_bytes += known;
            Some(fresh)
        } else {
            self.counters.flow_segments_duplicate += 1;
            self.counters.flow_duplicate_bytes += known;
            None
        }
    }

    /// Queues a copy.
    fn queue(&mut self, own: &mut Half, chunk: Chunk<'_>) {
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

    /// Passes on bytes that are next, and tells what the capture cut off behind them.
    fn pass<C: Consumer<S>>(
        &mut self,
        consumer: &mut C,
        own: &mut Half,
        other: &Half,
        direction: Direction,
        chunk: Chunk<'_>,
    ) {
        let len = chunk.bytes.len() as u64;
        if len > 0 {
            own.next = chunk.offset + len;
            own.progress = self.now;
            own.fin_lost = false;
            self.counters.flow_delivered_bytes += len;
            consumer.data(
                Place {
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
            self.gap(consumer, own, direction, chunk.end, chunk.time);
        }
    }

    fn gap<C: Consumer<S>>(
        &mut self,
        consumer: &mut C,
        own: &mut Half,
        direction: Direction,
        to: u64,
        time: Timestamp,
    ) {
        let offset = own.next;
        let len = to - offset;
        own.lost = offset..to;
        own.next = to;
        own.fin_lost = false;
        self.counters.flow_gaps += 1;
        self.counters.flow_gap_bytes += len;
        consumer.gap(
            Place {
                direction,
                time,
                offset,
                acked: Acked::UNKNOWN,
            },
            len,
            self.shared,
        );
    }
}
