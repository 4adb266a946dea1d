//! A linear search that counts its work: the bytes that it looks at, and the states that it makes.
//!
//! The automaton is executed byte by byte, which takes two to three times as long as the engine's own loop. It is used where
//! many matches in one value make the count matter, and where a pattern has more states than an engine keeps
//! (`rules/automaton.rs`).

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use regex_automata::hybrid::LazyStateID;
use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::hybrid::regex::{self, Regex};
use regex_automata::util::{start, syntax};
use regex_automata::{Anchored, Input};

use super::work::{Budget, Spent};
use crate::limits::{PATTERN_COUNTING_BYTES_MAX, PATTERN_STATES_BYTES_MAX};

/// Bytes that making a state stands for, however small it is.
const STATE: usize = 128;

/// Bytes that making a state stands for, for each byte of it; a place of the pattern takes one or two.
const STATE_BYTE: usize = 2;

/// A pattern compiled for this.
#[derive(Debug)]
pub(super) struct Counted {
    regex: Regex,
}

/// Searches with one cache of states.
pub(super) struct Searcher<'r> {
    regex: &'r Regex,
    cache: regex::Cache,
    making: Making,
}

impl Counted {
    /// Compiles a pattern of the linear engine; none where an automaton cannot have it.
    pub(super) fn new(pattern: &str) -> Option<Arc<Self>> {
        let config = DFA::config()
            .cache_capacity(PATTERN_STATES_BYTES_MAX)
            .skip_cache_capacity_check(true);
        let regex = Regex::builder()
            .syntax(syntax::Config::new())
            .dfa(config)
            .build(pattern)
            .ok()?;
        Some(Arc::new(Self { regex }))
    }

    pub(super) fn searcher(&self) -> Searcher<'_> {
        Searcher {
            cache: self.regex.create_cache(),
            regex: &self.regex,
            making: Making::default(),
        }
    }

    /// Bytes of the widest state, if all states that there are fit into [`PATTERN_STATES_BYTES_MAX`].
    pub(super) fn widest(&self) -> Option<usize> {
        let mut budget = Budget::only(PATTERN_COUNTING_BYTES_MAX);
        let mut making = Making::default();
        let (forward, reverse) = (self.regex.forward(), self.regex.reverse());
        for (dfa, anchored) in [(forward, Anchored::No), (reverse, Anchored::Yes)] {
            let mut cache = dfa.create_cache();
            let (mut seen, mut todo) = (HashSet::new(), Vec::new());
            // What may stand before a search, as far as it makes a difference.
            for behind in [None, Some(b'\n'), Some(b'\r'), Some(b'a'), Some(b' ')] {
                let config = start::Config::new().anchored(anchored).look_behind(behind);
                let state = dfa.start_state(&mut cache, &config).ok()?;
                if seen.insert(state) {
                    todo.push(state);
                }
            }
            while let Some(state) = todo.pop() {
                for unit in dfa.byte_classes().representatives(..) {
                    let next = match unit.as_u8() {
                        Some(byte) => making
                            .next(dfa, &mut cache, state, byte, &mut budget)
                            .ok()?,
                        None => dfa.next_eoi_state(&mut cache, state).ok()?,
                    };
                    if cache.clear_count() > 0 || next.is_quit() {
                        return None;
                    }
                    if !next.is_dead() && seen.insert(next) {
                        todo.push(next);
                    }
                }
            }
        }
        Some(making.widest)
    }
}

/// Transitions of automata, with the states that they make.
#[derive(Debug, Default)]
struct Making {
    /// Bytes of the widest state that was made.
    widest: usize,
}

impl Making {
    /// The next state. One that has to be computed is taken from the budget.
    #[inline]
    fn next(
        &mut self,
        dfa: &DFA,
        cache: &mut Cache,
        state: LazyStateID,
        byte: u8,
        budget: &mut Budget,
    ) -> Result<LazyStateID, Spent> {
        if state.is_tagged() {
            // Whether the state behind a match is known is not reported; what it may cost was taken with the match.
            let (before, clears) = (cache.memory_usage(), cache.clear_count());
            let next = dfa.next_state(cache, state, byte).map_err(|_| Spent)?;
            if (cache.memory_usage(), cache.clear_count()) != (before, clears) {
                self.made(dfa, cache, next, before, budget)?;
            }
            return Ok(next);
        }
        let next = dfa.next_state_untagged(cache, state, byte);
        if next.is_unknown() {
            let before = cache.memory_usage();
            let next = dfa.next_state(cache, state, byte).map_err(|_| Spent)?;
            self.made(dfa, cache, next, before, budget)?;
            return Ok(next);
        }
        Ok(next)
    }

    #[cold]
    fn made(
        &mut self,
        dfa: &DFA,
        cache: &Cache,
        next: LazyStateID,
        before: usize,
        budget: &mut Budget,
    ) -> Result<(), Spent> {
        let classes = dfa.byte_classes().alphabet_len();
        let row = classes.next_power_of_two() * size_of::<LazyStateID>();
        let grown = cache.memory_usage().saturating_sub(before);
        self.widest = self.widest.max(grown.saturating_sub(row));
        let cost = STATE.saturating_add(self.widest.saturating_mul(STATE_BYTE));
        let followers = if next.is_match() && grown > 0 {
            classes
        } else {
            0
        };
        budget.spend(cost.saturating_mul(1 + followers))
    }
}

impl Searcher<'_> {
    /// Bytes of the widest state that the searches made.
    pub(super) fn widest(&self) -> usize {
        self.making.widest
    }

    /// The leftmost match from `at` on.
    pub(super) fn next(
        &mut self,
        text: &str,
        mut at: usize,
        budget: &mut Budget,
    ) -> Result<Option<Range<usize>>, Spent> {
        loop {
            let Some(end) = self.end(text, at, budget)? else {
                return Ok(None);
            };
            budget.spend(end - at)?;
            let start = self.start(text, at..end, budget)?;
            if start == end && !text.is_char_boundary(end) {
                at = end + 1;
                continue;
            }
            return Ok(Some(start..end));
        }
    }

    /// The end of the leftmost match from `at` on.
    fn end(&mut self, text: &str, at: usize, budget: &mut Budget) -> Result<Option<usize>, Spent> {
        let (dfa, cache) = (self.regex.forward(), self.cache.as_parts_mut().0);
        let input = Input::new(text).range(at..);
        let mut state = dfa.start_state_forward(cache, &input).map_err(|_| Spent)?;
        let mut end = None;
        for (read, byte) in text.bytes().skip(at).enumerate() {
            if read >= budget.left() {
                break;
            }
            state = self.making.next(dfa, cache, state, byte, budget)?;
            if !state.is_tagged() {
                continue;
            }
            if state.is_match() {
                // A match is reported one byte late.
                end = Some(at + read);
            } else if state.is_dead() {
                budget.spend(read + 1)?;
                return Ok(end);
            } else if state.is_quit() {
                return Err(Spent);
            }
        }
        budget.spend(text.len() - at + 1)?;
        state = dfa.next_eoi_state(cache, state).map_err(|_| Spent)?;
        Ok(if state.is_match() {
            Some(text.len())
        } else {
            end
        })
    }

    /// Where the match begins that ends where `span` ends.
    fn start(
        &mut self,
        text: &str,
        span: Range<usize>,
        budget: &mut Budget,
    ) -> Result<usize, Spent> {
        let (dfa, cache) = (self.regex.reverse(), self.cache.as_parts_mut().1);
        let input = Input::new(text).span(span.clone()).anchored(Anchored::Yes);
        let mut state = dfa.start_state_reverse(cache, &input).map_err(|_| Spent)?;
        let mut start = span.end;
        let before = text.as_bytes().get(..span.end).unwrap_or_default();
        for (read, byte) in before.iter().rev().enumerate() {
            // The byte before the span is looked at, since a match is reported one byte late.
            if read > span.len() {
                return Ok(start);
            }
            state = self.making.next(dfa, cache, state, *byte, budget)?;
            if !state.is_tagged() {
                continue;
            }
            if state.is_match() {
                start = span.end - read;
            } else if state.is_dead() {
                return Ok(start);
            } else if state.is_quit() {
                return Err(Spent);
            }
        }
        if span.start == 0 {
            state = dfa.next_eoi_state(cache, state).map_err(|_| Spent)?;
            if state.is_match() {
                start = 0;
            }
        }
        Ok(start)
    }
}
