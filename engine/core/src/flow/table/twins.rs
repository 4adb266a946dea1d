//! Flows of several networks: which flow a segment of another network belongs to, and which connections were captured twice.

use std::hash::BuildHasher;

use super::Table;
use super::copies::{Likeness, View};
use super::entry::{Flow, State};
use crate::decap::{Flags, Segment};
use crate::flow::key::Key;
use crate::flow::slab::NONE;

impl<C> Table<C> {
    /// The flow of a segment whose network is not the only one: that of its key, or, with [`Config::fold_copies`], the one
    /// that is the same connection in another network.
    #[cold]
    pub(super) fn of_connection(
        &mut self,
        found: Option<u32>,
        key: &Key,
        segment: &Segment<'_>,
        from_low: bool,
    ) -> Option<u32> {
        if self.copies.note(key.network()) {
            for other in &self.index {
                self.copies.enter(*other, &self.flows, &self.hasher);
            }
        }
        if !self.copies.is_active() {
            return found;
        }
        if let Some(index) = found {
            let flow = self.flows.get_mut(index)?;
            let (twin, is_copy) = (flow.twin, flow.state == State::Copy);
            let is_answer = segment.flags.has(Flags::SYN) && segment.flags.has(Flags::ACK);
            if twin == NONE || !(is_copy || is_answer) {
                return found;
            }
            flow.twin = if is_copy { twin } else { NONE };
            let isn = flow.isn;
            let view = self.view();
            let is_same = view.is_twin(twin, key, isn)
                && (!is_answer || view.likeness(twin, segment, from_low) != Likeness::None);
            if !is_copy {
                if is_same {
                    self.count_copy(twin, segment);
                }
                return found;
            }
            if is_same {
                self.touch(index);
                return Some(twin);
            }
            // The other flow is over, or the responder has chosen another number: this one is a connection of its own.
            self.forget(index);
        }
        if !self.config.fold_copies || segment.flags.has(Flags::RST) {
            return None;
        }
        let (twin, _) = self.copies.find(&self.view(), key, segment, from_low)?;
        self.insert_copy(key, segment, from_low, twin)
            .then_some(twin)
    }

    /// Compares a new flow with those of the same addresses and ports in other networks, and enters it among them.
    #[cold]
    pub(super) fn compare(&mut self, index: u32, segment: &Segment<'_>, from_low: bool) {
        let Some(key) = self.flows.get(index).map(|flow| flow.key) else {
            return;
        };
        match self.copies.find(&self.view(), &key, segment, from_low) {
            Some((twin, Likeness::BothSides)) => self.count_copy(twin, segment),
            // The answer decides.
            Some((twin, _)) => {
                if let Some(flow) = self.flows.get_mut(index) {
                    flow.twin = twin;
                }
            }
            None => {}
        }
        self.copies.enter(index, &self.flows, &self.hasher);
    }

    fn count_copy(&mut self, twin: u32, segment: &Segment<'_>) {
        let Some(flow) = self.flows.get(twin) else {
            return;
        };
        self.copies.count(&flow.network(), &segment.network);
        if self.config.fold_copies {
            self.counters.flow_copies_folded += 1;
        } else {
            self.counters.flow_copies_kept += 1;
        }
    }

    /// The flows, for comparison.
    fn view(&self) -> View<'_, C> {
        View {
            flows: &self.flows,
            streams: &self.streams,
            hasher: &self.hasher,
        }
    }

    /// Enters a flow whose segments go to `twin`; not where the table is full.
    fn insert_copy(&mut self, key: &Key, segment: &Segment<'_>, from_low: bool, twin: u32) -> bool {
        let Some(isn) = self.flows.get(twin).map(|flow| flow.isn) else {
            return false;
        };
        if self.flows.len() >= self.config.flows_max {
            return false;
        }
        let mut flow = Flow::opened_by(segment, *key, from_low, 0, self.now);
        (flow.state, flow.twin, flow.isn) = (State::Copy, twin, isn);
        let index = self.add(flow, self.hasher.hash_one(key));
        self.copies.enter(index, &self.flows, &self.hasher);
        self.count_copy(twin, segment);
        true
    }
}
