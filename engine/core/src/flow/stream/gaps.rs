//! Holes that are given up: what forces them, in which order, and what then can be passed on.
//!
//! A hole goes when its bounds are reached, when it is proven and its grace is over, when it is too old, or when the flow
//! ends. Which of several goes first decides what is told before what, so the one that was sent first goes first.

use super::{BOTH, Lent, Stream};
use crate::flow::assembler::Proof;
use crate::flow::{Consumer, Direction};
use crate::limits::{
    DIRECTION_BUFFERED_BYTES_MAX, DIRECTION_BUFFERED_SEGMENTS_MAX, HOLE_AGE_MAX, REORDER_GRACE,
    RESET_DOUBT,
};
use crate::time::Timestamp;

impl<C> Stream<C> {
    /// Keeps both queues within the bounds of a half, oldest hole first.
    pub(super) fn relieve<S>(&mut self, lent: &mut Lent<'_, S>)
    where
        C: Consumer<S>,
    {
        for direction in BOTH {
            while self.half(direction).charged > DIRECTION_BUFFERED_BYTES_MAX
                || self.half(direction).queue.len() > DIRECTION_BUFFERED_SEGMENTS_MAX
            {
                lent.counters.flow_holes_over_bounds += 1;
                if !self.force(direction, lent) {
                    break;
                }
            }
        }
    }

    /// Removes what holds up the first range that waits in `direction`, and passes on what then can be.
    pub(super) fn force<S>(&mut self, direction: Direction, lent: &mut Lent<'_, S>) -> bool
    where
        C: Consumer<S>,
    {
        let half = self.half(direction);
        let Some(front) = half.queue.front() else {
            return false;
        };
        let (offset, ack, next) = (front.offset, front.ack, half.next);
        let needed = ack.filter(|ack| self.half(direction.reverse()).is_behind(*ack));
        if let Some(needed) = needed.and_then(|ack| self.half(direction.reverse()).offset(ack)) {
            self.give_up(direction.reverse(), needed, lent);
        }
        if offset > next {
            self.lose(direction, offset, lent);
        }
        self.advance(direction, true, lent);
        self.drain(lent);
        true
    }

    /// Whether what is missing of a half was sent after something that the other half still lacks.
    ///
    /// The first range behind the hole tells it by what it acknowledges. If both halves' first ranges acknowledge
    /// missing bytes, the range that was sent first counts: the other one acknowledges it. Where nothing is queued,
    /// the other half tells it, if it waits behind a hole without acknowledging anything that is missing here.
    fn comes_later<S>(&self, direction: Direction) -> bool
    where
        C: Consumer<S>,
    {
        let reverse = direction.reverse();
        let held = |direction| {
            let front = self.half(direction).queue.front();
            front.is_some_and(|front| self.is_held(direction, front.ack))
        };
        // Whether the first range of one direction acknowledges the first range of the other.
        let acknowledges = |one: Direction| {
            let other = self.half(one.reverse());
            let acked = self
                .half(one)
                .queue
                .front()
                .and_then(|front| other.offset(front.ack?));
            acked
                .zip(other.front())
                .is_some_and(|(acked, front)| acked > front)
        };
        if self.half(direction).queue.is_empty() {
            return self.half(reverse).has_hole() && !held(reverse);
        }
        held(direction) && (!held(reverse) || (acknowledges(reverse) && !acknowledges(direction)))
    }

    /// Declares everything before `to` a gap, except what waits in the queue.
    pub(super) fn give_up<S>(&mut self, direction: Direction, to: u64, lent: &mut Lent<'_, S>)
    where
        C: Consumer<S>,
    {
        loop {
            let half = self.half(direction);
            let to = to.min(half.acked_data());
            if half.next >= to || self.comes_later(direction) {
                return;
            }
            match half.front() {
                Some(front) if front <= half.next => {
                    if !self.advance(direction, false, lent) {
                        return;
                    }
                }
                Some(front) => self.lose(direction, front.min(to), lent),
                None if half.fin.is_none() && half.acked == half.next + 1 => {
                    self.half_mut(direction).fin_lost = true;
                    return;
                }
                None => self.lose(direction, to, lent),
            }
        }
    }

    /// Tells a gap up to `to`, in steps: what waits in the other half for a part of it is told in between.
    pub(super) fn lose<S>(&mut self, direction: Direction, to: u64, lent: &mut Lent<'_, S>)
    where
        C: Consumer<S>,
    {
        loop {
            let waits = match self.half(direction.reverse()) {
                other if other.has_hole() => None,
                other => other.queue.front().and_then(|front| front.ack),
            };
            let (consumer, half, _) = split!(self, direction);
            if half.next >= to {
                return;
            }
            let waits = waits.and_then(|ack| half.offset(ack));
            let stop = waits
                .filter(|stop| *stop > half.next)
                .map_or(to, |stop| stop.min(to));
            lent.gap(consumer, half, direction, stop, lent.now);
            if stop < to {
                self.drain(lent);
            }
        }
    }

    /// The grace of a proven loss is over.
    pub(super) fn proof_due<S>(&mut self, direction: Direction, lent: &mut Lent<'_, S>)
    where
        C: Consumer<S>,
    {
        let half = self.half_mut(direction);
        half.blind = !half.anchor.seen();
        let mark = half.proof.mark;
        self.give_up(direction, mark, lent);
        self.drain(lent);
        let half = self.half_mut(direction);
        // What is left was acknowledged later, or stands behind a segment that waits for the other half.
        half.proof = if half.lacks() {
            Proof {
                mark: half.acked_data(),
                since: lent.now,
                segments: 0,
            }
        } else {
            Proof::default()
        };
    }

    /// Ends graces that are over at `lent.now`.
    pub(in crate::flow) fn expire<S>(&mut self, lent: &mut Lent<'_, S>)
    where
        C: Consumer<S>,
    {
        let now = lent.now;
        self.clamp(now);
        if now >= self.hold_until {
            self.hold_until = Timestamp::ZERO;
            self.drain(lent);
        }
        for direction in BOTH {
            let half = self.half(direction);
            if half.proof.mark > half.next && now >= half.proof.since.after(REORDER_GRACE) {
                self.proof_due(direction, lent);
            }
            while self
                .half(direction)
                .stuck_at(HOLE_AGE_MAX)
                .is_some_and(|stuck| now >= stuck)
            {
                lent.counters.flow_holes_expired += 1;
                if self.half(direction).is_refused() {
                    let half = self.half_mut(direction);
                    lent.counters.flow_discarded_out_of_window_bytes +=
                        half.truncate(half.next, lent.pool);
                } else {
                    self.force(direction, lent);
                }
            }
        }
        self.settle(lent);
    }

    /// A packet clock that was set back must not make a grace last for hours.
    fn clamp(&mut self, now: Timestamp) {
        self.hold_until = self.hold_until.min(now.after(REORDER_GRACE));
        if let Some(reset) = &mut self.reset {
            reset.until = reset.until.min(now.after(RESET_DOUBT));
        }
        for half in [&mut self.originator, &mut self.responder] {
            half.proof.since = half.proof.since.min(now);
            half.progress = half.progress.min(now);
            for piece in &mut half.queue {
                piece.queued = piece.queued.min(now);
            }
        }
    }

    /// Gives up everything that waits: memory is short.
    pub(in crate::flow) fn release<S>(&mut self, lent: &mut Lent<'_, S>)
    where
        C: Consumer<S>,
    {
        self.hold_until = Timestamp::ZERO;
        self.drain(lent);
        while let Some(direction) = self.first_queued() {
            lent.counters.flow_holes_over_bounds += 1;
            self.force(direction, lent);
        }
        self.settle(lent);
    }

    /// The flow is over: passes on what waits, with gaps where bytes are missing, the unseen tail included.
    pub(in crate::flow) fn flush<S>(&mut self, lent: &mut Lent<'_, S>)
    where
        C: Consumer<S>,
    {
        self.hold_until = Timestamp::ZERO;
        self.drain(lent);
        while let Some(direction) = self.first_queued() {
            self.force(direction, lent);
        }
        for direction in BOTH {
            self.give_up(direction, u64::MAX, lent);
            let half = self.half(direction);
            if let Some(fin) = half.fin.filter(|fin| fin.offset > half.next) {
                self.lose(direction, fin.offset, lent);
            }
        }
        for direction in BOTH {
            self.tell_fin(direction, lent);
        }
    }

    /// The half whose queue was held up first.
    pub(super) fn first_queued(&self) -> Option<Direction> {
        let queued = |direction| {
            self.half(direction)
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
}
