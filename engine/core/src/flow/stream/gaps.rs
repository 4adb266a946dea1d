//! Holes that are given up: when a hole becomes a gap, and in which order several do.
//!
//! A hole becomes a gap when its bounds are reached, when the peer has acknowledged its bytes and the grace for them is
//! over, when it is too old, or when the flow ends. Which of several holes goes first decides in which order the bytes
//! around them are delivered, so the one that was sent first goes first.

use super::delivery::{Stream, StreamContext};
use crate::flow::Consumer;
use crate::flow::assembler::Grace;
use crate::flow::direction::Direction;
use crate::limits::{DIRECTION_BUFFERED_BYTES_MAX, DIRECTION_BUFFERED_SEGMENTS_MAX};

impl<C> Stream<C> {
    /// Keeps both queues within the bounds of a direction, oldest hole first.
    pub(super) fn keep_bounds<S>(&mut self, context: &mut StreamContext<'_, S>)
    where
        C: Consumer<S>,
    {
        for direction in Direction::BOTH {
            while self.assemblers[direction].charged > DIRECTION_BUFFERED_BYTES_MAX
                || self.assemblers[direction].queue.len() > DIRECTION_BUFFERED_SEGMENTS_MAX
            {
                context.counters.flow_holes_over_bounds += 1;
                if !self.force_front(direction, context) {
                    break;
                }
            }
        }
    }

    /// Gives up what the first range that waits in `direction` waits for, and delivers what that sets free.
    pub(super) fn force_front<S>(
        &mut self,
        direction: Direction,
        context: &mut StreamContext<'_, S>,
    ) -> bool
    where
        C: Consumer<S>,
    {
        let (own, other) = self.assemblers.pair_mut(direction);
        let Some(front) = own.queue.front() else {
            return false;
        };
        let (offset, ack, next) = (front.offset, front.ack, own.next);
        let needed = ack
            .filter(|ack| other.is_behind(*ack))
            .and_then(|ack| other.offset(ack));
        if let Some(needed) = needed {
            self.give_up(direction.reverse(), needed, context);
        }
        if offset > next {
            self.declare_gap(direction, offset, context);
        }
        self.advance(direction, true, context);
        self.drain(context);
        true
    }

    /// Whether what is missing of a direction was sent after something that the other direction still lacks.
    ///
    /// The acknowledgement of the first range behind the hole shows it. If the first ranges of both directions
    /// acknowledge missing bytes, the range that was sent first counts: the other one acknowledges it. Where nothing is
    /// queued, the other direction shows it, if it waits behind a hole without acknowledging anything that is missing
    /// here.
    fn was_sent_later<S>(&self, direction: Direction) -> bool
    where
        C: Consumer<S>,
    {
        let reverse = direction.reverse();
        let held = |direction: Direction| {
            let front = self.assemblers[direction].queue.front();
            front.is_some_and(|front| self.is_held(direction, front.ack))
        };
        // Whether the first range of one direction acknowledges the first range of the other.
        let acknowledges = |one: Direction| {
            let other = &self.assemblers[one.reverse()];
            let acked = self.assemblers[one]
                .queue
                .front()
                .and_then(|front| other.offset(front.ack?));
            acked
                .zip(other.front())
                .is_some_and(|(acked, front)| acked > front)
        };
        if self.assemblers[direction].queue.is_empty() {
            return self.assemblers[reverse].has_hole() && !held(reverse);
        }
        held(direction) && (!held(reverse) || (acknowledges(reverse) && !acknowledges(direction)))
    }

    /// Declares everything before `to` that the peer has acknowledged a gap, except what waits in the queue.
    pub(super) fn give_up<S>(
        &mut self,
        direction: Direction,
        to: u64,
        context: &mut StreamContext<'_, S>,
    ) where
        C: Consumer<S>,
    {
        loop {
            let own = &self.assemblers[direction];
            let to = to.min(own.acked_data());
            if own.next >= to || self.was_sent_later(direction) {
                return;
            }
            match own.front() {
                Some(front) if front <= own.next => {
                    if !self.advance(direction, false, context) {
                        return;
                    }
                }
                Some(front) => self.declare_gap(direction, front.min(to), context),
                None if own.fin.is_none() && own.acked == own.next + 1 => {
                    self.assemblers[direction].fin_assumed = true;
                    return;
                }
                None => self.declare_gap(direction, to, context),
            }
        }
    }

    /// Declares a gap up to `to`, in steps: what waits in the other direction for a part of it is delivered in between.
    pub(super) fn declare_gap<S>(
        &mut self,
        direction: Direction,
        to: u64,
        context: &mut StreamContext<'_, S>,
    ) where
        C: Consumer<S>,
    {
        loop {
            let (own, other) = self.assemblers.pair_mut(direction);
            if own.next >= to {
                return;
            }
            let waits = if other.has_hole() {
                None
            } else {
                other.queue.front().and_then(|front| front.ack)
            };
            let stop = waits
                .and_then(|ack| own.offset(ack))
                .filter(|stop| *stop > own.next)
                .map_or(to, |stop| stop.min(to));
            context.deliver_gap(&mut self.consumer, own, direction, stop, context.now);
            if stop < to {
                self.drain(context);
            }
        }
    }

    /// Starts, continues or ends the grace for acknowledged bytes that are missing.
    pub(super) fn update_grace<S>(
        &mut self,
        direction: Direction,
        context: &mut StreamContext<'_, S>,
    ) where
        C: Consumer<S>,
    {
        let own = &mut self.assemblers[direction];
        if !own.lacks_acked() {
            own.grace.until_offset = 0;
            return;
        }
        if self.consumer.ignores(direction) {
            own.next = own.acked_data();
            own.grace.until_offset = 0;
            return;
        }
        if !own.has_grace() {
            own.grace = Grace::start(own.acked_data(), context.now, context.pool.patience);
            return;
        }
        own.grace.segments_left -= 1;
        if own.grace.segments_left == 0 {
            self.end_grace(direction, context);
        }
    }

    /// The grace for acknowledged bytes is over: those still missing become a gap.
    pub(super) fn end_grace<S>(&mut self, direction: Direction, context: &mut StreamContext<'_, S>)
    where
        C: Consumer<S>,
    {
        let own = &mut self.assemblers[direction];
        own.uncaptured = !own.base.is_captured();
        let until_offset = own.grace.until_offset;
        self.give_up(direction, until_offset, context);
        self.drain(context);
        let own = &mut self.assemblers[direction];
        // What is left was acknowledged later, or stands behind a segment that waits for the other direction.
        own.grace = if own.lacks_acked() {
            Grace::start(own.acked_data(), context.now, context.pool.patience)
        } else {
            Grace::default()
        };
    }
}
