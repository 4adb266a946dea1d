//! Bytes that are held until it is known what they are: the first ones of a direction that begin no message, up to the
//! first bytes of the other direction, what follows a CONNECT, up to its answer, and responses to requests that are held
//! ([`trial`](super::trial)). Bounded by [`limits::HELD_BYTES_MAX`].

use super::Connection;
use crate::flow::Direction;
use crate::http::h1::direction::{Input, Step};
use crate::http::{Exchanges, Http, Protocol};
use crate::limits;

impl<D> Connection<D> {
    pub(super) fn hold<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        input: &mut Input<'_>,
        shared: &mut Http<X>,
    ) {
        let reading = &mut self.readings[direction];
        let Step::Hold(dropped) = &mut reading.step else {
            return;
        };
        let collected = &mut reading.collected;
        if collected.bytes.is_empty() {
            collected.begin(input);
        }
        let length = input.bytes.len();
        let fits = *dropped == 0 && collected.bytes.len() + length <= limits::HELD_BYTES_MAX;
        if fits && shared.buffers.append(&mut collected.bytes, input.bytes) {
            shared.counters.bytes_copied += length as u64;
            input.take(usize::MAX);
        } else if self.pending.is_some_and(Protocol::is_kept) {
            self.next = self.pending;
        } else {
            *dropped += length as u64;
            let is_too_long = *dropped > limits::UNANSWERED_BYTES_MAX;
            input.take(usize::MAX);
            self.drop_held(direction, shared);
            if is_too_long {
                self.next = self.next.or(self.pending);
            }
            // Which responses there are is not known any more.
            self.end_trial(direction.reverse(), None, true, shared);
        }
    }

    /// Of what is held only the number of bytes stays known.
    pub(super) fn drop_held<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        shared: &mut Http<X>,
    ) {
        let reading = &mut self.readings[direction];
        if let Step::Hold(dropped) = &mut reading.step {
            *dropped += reading.collected.bytes.len() as u64;
            shared.buffers.release(&mut reading.collected.bytes);
        }
    }

    /// Reads what was held, if anything, from `step` on; bytes that were too many to be held are passed over.
    #[cold]
    pub(super) fn read_held<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        step: Step,
        shared: &mut Http<X>,
    ) {
        let reading = &mut self.readings[direction];
        let Step::Hold(dropped) = reading.step else {
            return;
        };
        reading.step = step;
        if dropped > 0 {
            reading.step = Step::Resync;
            shared.counters.bytes_passed_over += dropped;
            reading.lost = reading.lost.saturating_add(dropped);
            return;
        }
        let bytes = std::mem::take(&mut reading.collected.bytes);
        self.read_again(direction, bytes, shared);
    }

    /// Reads `bytes`, which were collected before it was known how. What another reader is to read of them is collected
    /// again.
    #[cold]
    pub(super) fn read_again<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        mut bytes: Vec<u8>,
        shared: &mut Http<X>,
    ) {
        let reading = &self.readings[direction];
        let position = reading.position;
        let mut input = reading.collected.input(&bytes);
        while !input.bytes.is_empty() && !self.is_over() {
            self.read(direction, &mut input, shared);
        }
        let unread = input.bytes.len();
        let reading = &mut self.readings[direction];
        reading.position = position;
        if unread > 0 && reading.collected.bytes.is_empty() {
            reading.collected.begin(&input);
            let read = bytes.len() - unread;
            shared.buffers.drop_front(&mut bytes, read);
            // No more memory is held than before.
            std::mem::swap(&mut reading.collected.bytes, &mut bytes);
        }
        shared.buffers.release(&mut bytes);
    }
}
