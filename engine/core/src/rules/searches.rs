//! What the searches of a shard keep from one value to the next: the states of the automata that they have made.
//!
//! The linear engine makes a state when a search first needs it, which takes as long as a hundred bytes of text or more, so each
//! shard keeps those of each pattern. Their memory is measured while it grows; past its bound all states are forgotten, and
//! counted. From then on, what searches make is taken from the budget of the call as well, so that nobody can have the same
//! states made again and again for nothing.

use std::ops::{Deref, DerefMut, Range};
use std::sync::Arc;

use regex_automata::meta::{Cache, Regex};
use regex_automata::util::captures::Captures;
use regex_automata::{Input, Match, PatternSet};

use super::compiled::{Compiled, Identity};
use super::work::Budget;
use crate::limits::{
    NAME_WORK_BYTES_FREE, NAMES_WORK_BYTES_MAX, RULES_STATES_BYTES, STATES_MEASURED_BYTES,
};

/// The budget of a call, with what searches keep.
#[derive(Debug, Default)]
pub(super) struct Work {
    pub(super) budget: Budget,
    /// Bytes that searches have made and that are to be taken from a budget.
    made: usize,
    searches: Searches,
}

/// What searches keep.
#[derive(Debug)]
struct Searches {
    /// By the place of what is compiled.
    kept: Vec<Option<Box<Kept>>>,
    bytes: usize,
    bytes_max: usize,
    /// How often all was forgotten, until it is counted.
    forgotten: u64,
    /// It was forgotten before, so that what is made is taken from a budget.
    is_charged: bool,
}

/// What the searches of one [`Compiled`] keep.
#[derive(Debug)]
struct Kept {
    of: Arc<Identity>,
    cache: Cache,
    bytes: usize,
    /// Bytes that were searched since it was measured.
    unmeasured: usize,
}

/// Bytes of memory for each that a cache reports: vectors grow by doubling.
const ALLOCATED: usize = 2;

/// Bytes that a search counts as in addition to those that it reads: a state at each end.
const ENDS: usize = 32;

impl Default for Searches {
    fn default() -> Self {
        Self {
            kept: Vec::new(),
            bytes: 0,
            bytes_max: RULES_STATES_BYTES,
            forgotten: 0,
            is_charged: false,
        }
    }
}

impl Deref for Work {
    type Target = Budget;

    fn deref(&self) -> &Budget {
        &self.budget
    }
}

impl DerefMut for Work {
    fn deref_mut(&mut self) -> &mut Budget {
        &mut self.budget
    }
}

impl Work {
    /// With at most `bytes` bytes of memory for what searches keep.
    pub(super) fn within(bytes: usize) -> Self {
        let mut work = Self::default();
        work.searches.bytes_max = bytes;
        work
    }

    /// Forgets what searches keep, and sets another bound.
    pub(super) fn narrow_to(&mut self, bytes: usize) {
        self.searches.forget();
        self.searches.bytes_max = bytes;
    }

    /// Bytes that searches have made, and that no budget has paid for yet.
    #[inline]
    pub(super) fn take_made(&mut self) -> usize {
        std::mem::take(&mut self.made)
    }

    /// Takes what searches have made from the budget. Where that is not enough, the next pattern finds that nothing is left.
    #[inline]
    pub(super) fn settle(&mut self) {
        if self.made > 0 {
            let made = self.take_made();
            let _ = self.budget.spend(made);
        }
    }

    /// Bytes of memory that searches keep.
    pub(super) fn bytes(&self) -> usize {
        self.searches.bytes
    }

    /// How often the states were forgotten since this was called.
    pub(super) fn take_forgotten(&mut self) -> u64 {
        let counted = &mut self.searches.forgotten;
        std::mem::take(counted)
    }

    /// Whether `compiled` matches somewhere in `value`.
    pub(super) fn is_match(&mut self, compiled: &Compiled, value: &str) -> bool {
        let input = Input::new(value).earliest(true);
        self.search(compiled, |regex, cache| {
            (regex.is_match_with(cache, &input), value.len())
        })
    }

    /// The end of some match from `at` on, the first at which there is one.
    pub(super) fn first_end(
        &mut self,
        compiled: &Compiled,
        value: &str,
        at: usize,
    ) -> Option<usize> {
        let input = Input::new(value).range(at..).earliest(true);
        self.search(compiled, |regex, cache| {
            let end = regex.search_half_with(cache, &input);
            let end = end.map(|end| end.offset());
            (end, end.unwrap_or(value.len()) - at)
        })
    }

    /// The leftmost match in `input`.
    #[inline]
    pub(super) fn find(&mut self, compiled: &Compiled, input: &Input<'_>) -> Option<Match> {
        self.search(compiled, |regex, cache| {
            let found = regex.search_with(cache, input);
            let end = found.map_or(input.end(), |found| found.end());
            (found, end.saturating_sub(input.start()))
        })
    }

    /// The leftmost match from `at` on.
    pub(super) fn find_at(
        &mut self,
        compiled: &Compiled,
        value: &str,
        at: usize,
    ) -> Option<Range<usize>> {
        let found = self.find(compiled, &Input::new(value).range(at..));
        found.map(|found| found.range())
    }

    /// The leftmost match from `at` on, with its groups.
    pub(super) fn groups_at(
        &mut self,
        compiled: &Compiled,
        value: &str,
        at: usize,
        groups: &mut Captures,
    ) -> Option<Range<usize>> {
        let input = Input::new(value).range(at..);
        self.search(compiled, |regex, cache| {
            regex.search_captures_with(cache, &input, groups);
            let found = groups.get_match().map(|found| found.range());
            let end = found.as_ref().map_or(value.len(), |found| found.end);
            (found, end - at)
        })
    }

    /// Of several patterns that are compiled together, those that match somewhere in `value`.
    pub(super) fn patterns(&mut self, compiled: &Compiled, value: &str) -> PatternSet {
        let mut patterns = PatternSet::new(compiled.regex().pattern_len());
        let input = Input::new(value);
        self.search(compiled, |regex, cache| {
            regex.which_overlapping_matches_with(cache, &input, &mut patterns);
            ((), value.len())
        });
        patterns
    }

    /// A search, which returns also how many bytes it may have read.
    #[inline]
    fn search<T>(
        &mut self,
        compiled: &Compiled,
        search: impl FnOnce(&Regex, &mut Cache) -> (T, usize),
    ) -> T {
        let kept = self.searches.of(compiled);
        let (found, bytes) = search(compiled.regex(), &mut kept.cache);
        kept.unmeasured += bytes + ENDS;
        if kept.unmeasured >= STATES_MEASURED_BYTES {
            self.measure(compiled.place);
        }
        found
    }

    #[cold]
    fn measure(&mut self, place: usize) {
        let searches = &mut self.searches;
        let Some(Some(kept)) = searches.kept.get_mut(place) else {
            return;
        };
        let before = std::mem::replace(&mut kept.bytes, kept.cache.memory_usage() * ALLOCATED);
        kept.unmeasured = 0;
        let grown = kept.bytes.saturating_sub(before);
        searches.bytes = searches.bytes - before + kept.bytes;
        if searches.is_charged {
            self.made = self.made.saturating_add(grown);
        }
        if searches.bytes > searches.bytes_max {
            searches.forgotten += 1;
            searches.forget();
        }
    }
}

impl Searches {
    /// What is kept for `compiled`.
    #[inline]
    fn of(&mut self, compiled: &Compiled) -> &mut Kept {
        let place = compiled.place;
        let known = self.kept.get(place).and_then(Option::as_ref);
        if !known.is_some_and(|kept| Arc::ptr_eq(&kept.of, compiled.identity())) {
            self.make(compiled);
        }
        #[expect(clippy::indexing_slicing, reason = "it was found, or put, there")]
        let kept = &mut self.kept[place];
        kept.get_or_insert_with(|| Box::new(Kept::new(compiled)))
    }

    /// Puts an empty cache in the place of `compiled`.
    #[cold]
    fn make(&mut self, compiled: &Compiled) {
        let kept = Kept::new(compiled);
        if self.bytes.saturating_add(kept.bytes) > self.bytes_max && self.bytes > 0 {
            self.forgotten += 1;
            self.forget();
        }
        if self.kept.len() <= compiled.place {
            self.kept.resize_with(compiled.place + 1, || None);
        }
        if let Some(place) = self.kept.get_mut(compiled.place) {
            self.bytes += kept.bytes;
            let before = place.replace(Box::new(kept));
            self.bytes -= before.map_or(0, |before| before.bytes);
        }
    }

    fn forget(&mut self) {
        self.is_charged |= self.bytes > 0;
        self.kept = Vec::new();
        self.bytes = 0;
    }
}

impl Kept {
    fn new(compiled: &Compiled) -> Self {
        let cache = compiled.regex().create_cache();
        Self {
            of: Arc::clone(compiled.identity()),
            bytes: cache.memory_usage() * ALLOCATED,
            cache,
            unmeasured: 0,
        }
    }
}

/// What is left of the work on the names of the details of one message, with what the searches of names keep.
#[derive(Debug)]
pub struct NameWork {
    left: Budget,
    work: Work,
}

impl Default for NameWork {
    fn default() -> Self {
        Self::within(RULES_STATES_BYTES)
    }
}

impl NameWork {
    /// With at most `bytes` bytes of memory for what searches keep.
    pub fn within(bytes: usize) -> Self {
        Self {
            left: Budget::only(NAMES_WORK_BYTES_MAX),
            work: Work::within(bytes),
        }
    }

    /// The work of the next message.
    #[inline]
    pub fn renew(&mut self) {
        self.left = Budget::only(NAMES_WORK_BYTES_MAX);
    }

    /// Forgets what searches keep, and sets another bound.
    pub fn narrow_to(&mut self, bytes: usize) {
        self.work.narrow_to(bytes);
    }

    /// Bytes of memory that searches keep.
    pub fn bytes(&self) -> usize {
        self.work.bytes()
    }

    /// How often what searches keep was forgotten since this was called.
    pub fn take_forgotten(&mut self) -> u64 {
        self.work.take_forgotten()
    }

    /// Whether nothing is left: then what the rules do with a name says nothing of another message.
    pub fn is_spent(&self) -> bool {
        self.left.is_spent()
    }

    /// A search for all scopes together, which is as long as the name whatever they are.
    pub(super) fn patterns(&mut self, compiled: &Compiled, name: &str) -> PatternSet {
        let found = self.work.patterns(compiled, name);
        self.settle();
        found
    }

    /// Tests a name of `bytes` bytes, for which there is a budget of its own.
    pub(super) fn on_name<T>(&mut self, bytes: usize, test: impl FnOnce(&mut Work) -> T) -> T {
        let mut own = Budget::only(NAME_WORK_BYTES_FREE);
        own.grant(bytes, 1);
        let own = own.at_most(self.left);
        let before = own.left();
        self.work.budget = own;
        let result = test(&mut self.work);
        let spent = before - self.work.budget.left();
        self.spend(spent);
        self.settle();
        result
    }

    /// What searches make is taken from the work of the message, not from that of the name: what a rule does with the name, which
    /// is remembered, does not depend on it.
    fn settle(&mut self) {
        let made = self.work.take_made();
        self.spend(made);
    }

    fn spend(&mut self, bytes: usize) {
        if self.left.spend(bytes).is_err() {
            self.left = Budget::only(0);
        }
    }
}
