//! The LRU lists: one for each [`State`], in the order in which flows were last moved to the end, linked through the
//! flows.
//!
//! A move touches two neighbours that are not in the cache, so a busy flow is not moved for each of its segments: the
//! table moves it when its place is out of date by [`REQUEUE_FRACTION`] of its idle time, and an eviction looks at
//! [`Flow::last`] before it trusts the order.

use std::time::Duration;

use super::entry::{Flow, State};
use crate::flow::slab::{NONE, Slab};
use crate::time::Timestamp;

/// A flow's place in its list may be out of date by its idle time divided by this.
const REQUEUE_FRACTION: u32 = 16;

/// How long after its last move a flow with this idle time is moved again.
pub(super) fn requeue_after(idle: Duration) -> Duration {
    idle / REQUEUE_FRACTION
}

/// A doubly linked list.
#[derive(Clone, Copy)]
struct List {
    head: u32,
    tail: u32,
    len: usize,
}

impl List {
    const EMPTY: Self = Self {
        head: NONE,
        tail: NONE,
        len: 0,
    };

    fn push(&mut self, flows: &mut Slab<Flow>, index: u32, now: Timestamp) {
        let tail = std::mem::replace(&mut self.tail, index);
        if let Some(flow) = flows.get_mut(index) {
            (flow.prev, flow.next, flow.listed_at) = (tail, NONE, now);
        }
        match flows.get_mut(tail) {
            Some(before) => before.next = index,
            None => self.head = index,
        }
        self.len += 1;
    }

    fn remove(&mut self, flows: &mut Slab<Flow>, index: u32) {
        let Some((prev, next)) = flows.get(index).map(|flow| (flow.prev, flow.next)) else {
            return;
        };
        match flows.get_mut(prev) {
            Some(before) => before.next = next,
            None => self.head = next,
        }
        match flows.get_mut(next) {
            Some(after) => after.prev = prev,
            None => self.tail = prev,
        }
        self.len -= 1;
    }
}

/// All flows of a table. Each is in the list of its state.
pub(super) struct Lists {
    ended: List,
    empty: List,
    one_sided: List,
    two_sided: List,
    copies: List,
}

impl Lists {
    pub(super) const EMPTY: Self = Self {
        ended: List::EMPTY,
        empty: List::EMPTY,
        one_sided: List::EMPTY,
        two_sided: List::EMPTY,
        copies: List::EMPTY,
    };

    const fn of(&mut self, state: State) -> &mut List {
        match state {
            State::Ended => &mut self.ended,
            State::Empty => &mut self.empty,
            State::OneSided => &mut self.one_sided,
            State::TwoSided => &mut self.two_sided,
            State::Copy => &mut self.copies,
        }
    }

    /// Flows that have not ended, copies of others left out.
    pub(super) const fn open(&self) -> usize {
        self.empty.len + self.one_sided.len + self.two_sided.len
    }

    /// The flow moved longest ago.
    pub(super) fn first(&mut self, state: State) -> Option<u32> {
        let head = self.of(state).head;
        (head != NONE).then_some(head)
    }

    /// Appends a new flow to the list of its state.
    pub(super) fn push(&mut self, flows: &mut Slab<Flow>, index: u32, now: Timestamp) {
        if let Some(state) = flows.get(index).map(|flow| flow.state) {
            self.of(state).push(flows, index, now);
        }
    }

    /// Changes the state of a flow, and moves it to the end of that list.
    pub(super) fn move_to(
        &mut self,
        state: State,
        flows: &mut Slab<Flow>,
        index: u32,
        now: Timestamp,
    ) {
        let Some(flow) = flows.get_mut(index) else {
            return;
        };
        let before = std::mem::replace(&mut flow.state, state);
        self.of(before).remove(flows, index);
        self.of(state).push(flows, index, now);
    }

    /// Takes a flow out of its list, before it is forgotten.
    pub(super) fn remove(&mut self, flows: &mut Slab<Flow>, index: u32) {
        if let Some(state) = flows.get(index).map(|flow| flow.state) {
            self.of(state).remove(flows, index);
        }
    }
}
