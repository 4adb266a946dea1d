//! Memory of the HTTP/1 readers of a shard that is used again.

use std::collections::VecDeque;

use super::queue::Exchange;
use crate::http::Header;

/// What all HTTP/1 connections of a shard share; `D` is [`Exchanges::Draft`](crate::http::Exchanges::Draft).
#[derive(Debug)]
pub(in crate::http) struct Scratch<D> {
    /// Emptied between heads; only its memory stays.
    pub(super) fields: Vec<Header<'static>>,
    /// A head without its folds.
    pub(super) unfolded: Vec<u8>,
    /// Emptied queues of connections that wait for nothing.
    queues: Vec<VecDeque<Exchange<D>>>,
}

/// Emptied queues kept; more are freed with their connection.
const SPARE_QUEUES_MAX: usize = 256;
/// A longer queue stays with its connection.
const SPARE_QUEUE_LENGTH_MAX: usize = 16;

impl<D> Scratch<D> {
    /// Memory for the exchanges of a connection that has its first one.
    pub(super) fn take_queue(&mut self, queue: &mut VecDeque<Exchange<D>>) {
        let spare = self.queues.pop().unwrap_or_default();
        let none = std::mem::replace(queue, spare);
        if none.capacity() == 0 {
            // It has nothing to free, and this is done for each call: to drop it takes fifty instructions.
            std::mem::forget(none);
        }
    }

    /// Takes back the memory of an empty queue: an idle connection holds none, for there may be a million of them.
    pub(super) fn recycle(&mut self, queue: &mut VecDeque<Exchange<D>>) {
        if (1..=SPARE_QUEUE_LENGTH_MAX).contains(&queue.capacity())
            && self.queues.len() < SPARE_QUEUES_MAX
        {
            self.queues.push(std::mem::take(queue));
        }
    }
}

impl<D> Default for Scratch<D> {
    fn default() -> Self {
        Self {
            fields: Vec::new(),
            unfolded: Vec::new(),
            queues: Vec::new(),
        }
    }
}
