//! Drafts that the writer keeps itself, each in a place of its own, with the times at which a part of each is due.
//!
//! Bound: as many as there are open exchanges, and a few entries of times more.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use super::draft::{Draft, Parts};
use crate::limits::CLOCK_STEP_BACK;
use crate::time::Timestamp;

/// Drafts that the writer keeps.
#[derive(Debug, Default)]
pub(super) struct Kept {
    places: Vec<Option<Box<Draft>>>,
    pub(super) free: Vec<u32>,
    /// One entry for each of them, at the time of a part that is due, or of one that was.
    pub(super) due: BinaryHeap<Reverse<Due>>,
    /// Drafts so far.
    serial: u64,
    /// The latest time of a tick, unless the clock was set back since.
    now: Timestamp,
    /// Lines written before the last one of an exchange.
    pub(super) written: u64,
}

/// When a part is due, of which draft and in which place.
type Due = (Timestamp, u64, u32);

/// Entries of drafts that are gone, beside as many as there are drafts, before they are removed together.
const STALE_MAX: usize = 64;

impl Kept {
    pub(super) fn insert(&mut self, mut draft: Box<Draft>, due: Timestamp) -> u32 {
        self.serial += 1;
        draft.parts = Some(Parts::new(due, self.serial));
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            self.places.len() as u32 - 1
        });
        self.put(place, draft);
        self.due.push(Reverse((due, self.serial, place)));
        let drafts = self.places.len() - self.free.len();
        if self.due.len() > 2 * drafts + STALE_MAX {
            let places = &self.places;
            self.due.retain(|Reverse((_, serial, place))| {
                let draft = places.get(*place as usize).and_then(Option::as_ref);
                draft.is_some_and(|draft| draft.parts.is_some_and(|parts| parts.serial == *serial))
            });
        }
        place
    }

    /// Sets the time. Once the clock was set back, the next part of each draft is due at most `every` later: otherwise it would
    /// wait until the clock is where it was.
    pub(super) fn set_clock(&mut self, now: Timestamp, every: Duration) {
        if now >= self.now {
            self.now = now;
        } else if self.now.since(now) > CLOCK_STEP_BACK {
            self.now = now;
            let latest = now.after(every);
            let mut entries = std::mem::take(&mut self.due).into_vec();
            for Reverse((due, serial, place)) in &mut entries {
                *due = latest.min(*due);
                let draft = self
                    .places
                    .get_mut(*place as usize)
                    .and_then(Option::as_mut);
                let parts = draft.and_then(|draft| draft.parts.as_mut());
                if let Some(parts) = parts.filter(|parts| parts.serial == *serial) {
                    parts.due = latest.min(parts.due);
                }
            }
            self.due = entries.into();
        }
    }

    pub(super) fn put(&mut self, place: u32, draft: Box<Draft>) {
        if let Some(empty) = self.places.get_mut(place as usize) {
            *empty = Some(draft);
        }
    }

    pub(super) fn take(&mut self, place: u32) -> Option<Box<Draft>> {
        self.places.get_mut(place as usize)?.take()
    }
}
