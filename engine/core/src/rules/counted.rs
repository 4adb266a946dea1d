//! A linear search that counts the bytes that it looks at.
//!
//! The automaton is executed byte by byte, which takes two to three times as long as the engine's own loop. It is used only
//! where many matches in one value make the count matter (`rules/linear.rs`).

use std::ops::Range;
use std::sync::Arc;

use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::hybrid::regex::{self, Regex};
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input};

use super::work::{Budget, Spent};

/// Bytes of states that a search may keep; past it they are computed again.
const CACHE_BYTES: usize = 512 * 1024;

/// A pattern compiled for this.
#[derive(Debug)]
pub(super) struct Counted {
    regex: Regex,
}

/// Searches with one cache of states.
pub(super) struct Searcher<'r> {
    regex: &'r Regex,
    cache: regex::Cache,
}

impl Counted {
    /// Compiles a pattern of the linear engine; none where its states take too much memory.
    pub(super) fn new(pattern: &str) -> Option<Arc<Self>> {
        let config = DFA::config()
            .cache_capacity(CACHE_BYTES)
            .minimum_cache_clear_count(Some(8))
            .minimum_bytes_per_state(Some(10));
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
        }
    }
}

impl Searcher<'_> {
    /// The leftmost match from `at` on. Where the states exceed the cache again and again, the answer is not known either.
    pub(super) fn next(
        &mut self,
        text: &str,
        mut at: usize,
        budget: &mut Budget,
    ) -> Result<Option<Range<usize>>, Spent> {
        let (forward, reverse) = self.cache.as_parts_mut();
        loop {
            let Some(end) = end(self.regex.forward(), forward, text, at, budget)? else {
                return Ok(None);
            };
            let input = Input::new(text).span(at..end).anchored(Anchored::Yes);
            budget.spend(end - at)?;
            let start = self.regex.reverse().try_search_rev(reverse, &input);
            let start = start
                .map_err(|_| Spent)?
                .map_or(end, |start| start.offset());
            if start == end && !text.is_char_boundary(end) {
                at = end + 1;
                continue;
            }
            return Ok(Some(start..end));
        }
    }
}

/// The end of the leftmost match from `at` on.
fn end(
    dfa: &DFA,
    cache: &mut Cache,
    text: &str,
    at: usize,
    budget: &mut Budget,
) -> Result<Option<usize>, Spent> {
    let input = Input::new(text).range(at..);
    let mut state = dfa.start_state_forward(cache, &input).map_err(|_| Spent)?;
    let mut end = None;
    let readable = budget.left();
    for (read, byte) in text.bytes().skip(at).enumerate() {
        if read >= readable {
            break;
        }
        state = dfa.next_state(cache, state, byte).map_err(|_| Spent)?;
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
