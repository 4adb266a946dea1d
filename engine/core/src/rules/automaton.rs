//! The automaton of a linear pattern, so that the work for a byte has a bound.
//!
//! The linear engine makes the states of an automaton when a search first needs them, and keeps them. Where it can keep all
//! that there are, a byte costs a step, about a nanosecond. Some patterns have more: in `[ab]*a[ab]{500}c` each `a` may be the
//! one before the 500, so a state is a set of counts, and a body that is made for it needs a new state for each byte, which
//! takes as long as the set is large. The engine does not report that. So the states of a pattern with such repetitions are
//! counted when a value first needs them; where they are too many, searches are those of `rules/counted.rs`, which take each state from the budget.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use regex_automata::nfa::thompson;
use regex_syntax::hir::{Hir, HirKind};

use super::counted::Counted;
use super::work::{Budget, Spent};
use crate::limits::{PATTERN_COMPILED_BYTES_MAX, PATTERN_STATES_BYTES_MAX};

/// A compiled pattern of the linear engine.
#[derive(Clone, Debug)]
pub(super) struct Automaton {
    regex: regex::Regex,
    /// The same for all clones.
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    states: OnceLock<States>,
    /// Compiled when a value first needs it.
    counted: OnceLock<Option<Arc<Counted>>>,
}

#[derive(Clone, Copy, Debug)]
enum States {
    /// All are kept.
    Few {
        /// Bytes of the widest.
        widest: usize,
    },
    Many,
}

impl Automaton {
    /// Compiles `pattern`.
    pub(super) fn new(pattern: &str) -> Result<Self, regex::Error> {
        let regex = regex::RegexBuilder::new(pattern)
            .size_limit(PATTERN_COMPILED_BYTES_MAX)
            .dfa_size_limit(PATTERN_STATES_BYTES_MAX)
            .build()?;
        Ok(Self {
            regex,
            shared: Arc::default(),
        })
    }

    /// The engine. Before it is executed on a value, [`Self::many`] is looked at, and the value's bytes are taken from the budget.
    pub(super) fn regex(&self) -> &regex::Regex {
        &self.regex
    }

    /// Its text.
    pub(super) fn text(&self) -> &str {
        self.regex.as_str()
    }

    /// Bytes of memory that the pattern takes, compiled for searches in both directions.
    pub(super) fn memory(&self) -> usize {
        let compiled = thompson::NFA::new(self.text());
        compiled.map_or(PATTERN_COMPILED_BYTES_MAX, |nfa| {
            nfa.memory_usage().saturating_mul(2)
        })
    }

    fn states(&self) -> States {
        *self.shared.states.get_or_init(|| {
            if is_short(self.text()) {
                return States::Few { widest: 0 };
            }
            let counted = Counted::new(self.text());
            let widest = counted.as_ref().and_then(|counted| counted.widest());
            widest.map_or_else(
                || {
                    let _ = self.shared.counted.set(counted);
                    States::Many
                },
                |widest| States::Few { widest },
            )
        })
    }

    /// The search that counts the states it makes, if the pattern has more than an engine keeps.
    #[inline]
    pub(super) fn many(&self) -> Option<&Counted> {
        match self.states() {
            States::Few { .. } => None,
            States::Many => self.counted(),
        }
    }

    /// Whether it has more states than an engine keeps.
    pub(super) fn has_many_states(&self) -> bool {
        matches!(self.states(), States::Many)
    }

    /// The search that counts; none where an automaton cannot have the pattern.
    pub(super) fn counted(&self) -> Option<&Counted> {
        let counted = self
            .shared
            .counted
            .get_or_init(|| Counted::new(self.text()));
        counted.as_deref()
    }

    /// Bytes that finding the groups of a match stands for, for each byte of the match: the engine for groups follows
    /// each place of a state.
    pub(super) fn group_bytes(&self) -> usize {
        /// Bytes of a state of an ordinary pattern, whose groups take about as long as the match.
        const ORDINARY: usize = 32;
        match self.states() {
            States::Few { widest } => 1 + widest / ORDINARY,
            States::Many => 1,
        }
    }

    /// Whether the pattern is found in `value`.
    #[inline]
    pub(super) fn is_match(&self, value: &str, budget: &mut Budget) -> Result<bool, Spent> {
        match self.many() {
            None => {
                budget.spend(value.len())?;
                Ok(self.regex.is_match(value))
            }
            Some(counted) => Ok(counted.searcher().next(value, 0, budget)?.is_some()),
        }
    }

    /// A match in `value`: the end of one that ends before the end of `value`, if there is one.
    pub(super) fn match_end(
        &self,
        value: &str,
        budget: &mut Budget,
    ) -> Result<Option<usize>, Spent> {
        match self.many() {
            None => {
                budget.spend(value.len())?;
                Ok(self.regex.shortest_match(value))
            }
            Some(counted) => {
                let found = counted.searcher().next(value, 0, budget)?;
                Ok(found.map(|found| found.end))
            }
        }
    }

    /// The first match in `value`.
    pub(super) fn find(
        &self,
        value: &str,
        budget: &mut Budget,
    ) -> Result<Option<Range<usize>>, Spent> {
        match self.many() {
            None => {
                budget.spend(value.len())?;
                Ok(self.regex.find(value).map(|found| found.range()))
            }
            Some(counted) => counted.searcher().next(value, 0, budget),
        }
    }
}

/// Whether counted repetitions add few places to the pattern: then no set of places is large, and the states need not be
/// counted.
pub(super) fn is_short(pattern: &str) -> bool {
    /// Places that they may add.
    const REPEATED_MAX: usize = 64;
    regex_syntax::parse(pattern).is_ok_and(|hir| places(&hir) <= REPEATED_MAX)
}

/// Places of a pattern that are there because of counted repetitions.
fn places(hir: &Hir) -> usize {
    match hir.kind() {
        HirKind::Repetition(repeated) => {
            let most = repeated.max.unwrap_or(repeated.min).max(repeated.min);
            let most = usize::try_from(most).unwrap_or(usize::MAX);
            let more = if most > 1 { most } else { 0 };
            // Once for both: a second walk at each level would double the work with each.
            let inner = places(&repeated.sub);
            more.saturating_mul(inner.saturating_add(1)).max(inner)
        }
        HirKind::Capture(group) => places(&group.sub),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => parts
            .iter()
            .fold(0, |sum, part| sum.saturating_add(places(part))),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::is_short;

    /// The walk over a pattern takes each level once: two visits a level would not end here.
    #[test]
    fn nested_repetitions_are_walked_once() {
        let nested =
            |repeat: &str| format!("{}a{}", "(".repeat(60), format!("{repeat})").repeat(60));
        assert!(is_short(&nested("*")));
        assert!(is_short(&nested("+")));
        assert!(!is_short("(?:(?:a{9}){9}){9}"));
    }
}
