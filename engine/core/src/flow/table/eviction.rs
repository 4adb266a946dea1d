//! Which flow goes when there is no space for another: ended flows first, then empty ones, those of one side, and the one
//! with payload that has been idle longest.

use super::Table;
use super::entry::State;
use crate::flow::{Consumer, FlowEnd};

/// Busy flows that an eviction moves to the end of their list at most before it takes one.
const SECOND_CHANCES: usize = 8;

impl<C> Table<C> {
    pub(super) fn evict<S>(&mut self, shared: &mut S) -> bool
    where
        C: Consumer<S>,
    {
        for state in [State::Ended, State::Copy] {
            if let Some(index) = self.lists.first(state) {
                self.forget(index);
                return true;
            }
        }
        self.evict_from(State::Empty, shared) || self.evict_idle(shared)
    }

    /// Evicts the flow with payload that has been idle longest, one-sided ones first, to free the memory that it holds
    /// here and elsewhere; false when there is none.
    pub fn evict_idle<S>(&mut self, shared: &mut S) -> bool
    where
        C: Consumer<S>,
    {
        self.evict_from(State::OneSided, shared) || self.evict_from(State::TwoSided, shared)
    }

    fn evict_from<S>(&mut self, state: State, shared: &mut S) -> bool
    where
        C: Consumer<S>,
    {
        for _ in 0..SECOND_CHANCES {
            let Some(index) = self.lists.first(state) else {
                break;
            };
            if self
                .flows
                .get(index)
                .is_none_or(|flow| flow.last <= flow.listed_at)
            {
                break;
            }
            self.move_to(index, state);
        }
        let Some(index) = self.lists.first(state) else {
            return false;
        };
        self.end(index, FlowEnd::Evicted, shared);
        // A two-sided flow stays among the ended ones as long as there is space: its further segments continue it.
        match self.flows.get_mut(index) {
            Some(flow) if state == State::TwoSided => flow.evicted = true,
            _ => self.forget(index),
        }
        true
    }
}
