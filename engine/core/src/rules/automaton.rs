//! The automaton of a linear pattern, so that the work for a byte has a bound.
//!
//! The linear engine makes the states of an automaton when a search first needs them, and keeps them. Where it can keep all
//! that there are, a byte costs a step, about a nanosecond. Some patterns have more: in `[ab]*a[ab]{500}c` each `a` may be the
//! one before the 500, so a state is a set of counts, and a body that is made for it needs a new state for each byte, which
//! takes as long as the set is large. The engine does not report that. So the states of a pattern with counted repetitions, or
//! with a long run of classes, are counted when a value first needs them; where they are too many, searches are those of `rules/counted.rs`, which take each state from the budget.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use regex_automata::PatternID;
use regex_syntax::hir::{Class, Hir, HirKind, Repetition};

use super::compiled::Compiled;
use super::counted::Counted;
use super::searches::Work;
use super::work::Spent;

/// A compiled pattern of the linear engine.
#[derive(Clone, Debug)]
pub(super) struct Automaton {
    pub(super) compiled: Compiled,
    text: Box<str>,
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
    /// More than are kept, but in ordinary values hardly ever.
    Slow {
        /// Places that a byte may have to be compared with.
        places: usize,
    },
    Many,
}

/// Bytes of the longest value for which a pattern with too many states is left to the engine, which then costs each of its places a
/// byte; the other search begins with making states.
const SLOW_BYTES_MAX: usize = 4096;

impl Automaton {
    /// Compiles `pattern`.
    pub(super) fn new(pattern: &str) -> Result<Self, String> {
        Ok(Self::of(Compiled::new(pattern)?, pattern))
    }

    /// What `pattern` was compiled to. Before the engine is executed on a value, [`Self::many`] is looked at, and the value's bytes
    /// are taken from the budget.
    pub(super) fn of(compiled: Compiled, pattern: &str) -> Self {
        Self {
            compiled,
            text: pattern.into(),
            shared: Arc::default(),
        }
    }

    /// Its text.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The names of the groups, that of the whole match included.
    pub(super) fn group_names(&self) -> impl Iterator<Item = Option<&str>> {
        self.compiled
            .regex()
            .group_info()
            .pattern_names(PatternID::ZERO)
    }

    fn states(&self) -> States {
        *self.shared.states.get_or_init(|| {
            let form = Form::of(self.text());
            if form == Form::Short {
                return States::Few { widest: 0 };
            }
            let counted = Counted::new(self.text());
            let widest = counted.as_ref().and_then(|counted| counted.widest());
            widest.map_or_else(
                || {
                    let _ = self.shared.counted.set(counted);
                    match form {
                        Form::LongRun { places } => States::Slow { places },
                        _ => States::Many,
                    }
                },
                |widest| States::Few { widest },
            )
        })
    }

    /// The search that counts the states it makes, if the pattern has more than an engine keeps; for a value of `bytes` bytes.
    #[inline]
    pub(super) fn many(&self, bytes: usize) -> Option<&Counted> {
        match self.states() {
            States::Few { .. } => None,
            States::Slow { .. } if bytes <= SLOW_BYTES_MAX => None,
            States::Slow { .. } | States::Many => self.counted(),
        }
    }

    /// Bytes that a search of the engine in a value of `bytes` bytes stands for.
    #[inline]
    pub(super) fn cost(&self, bytes: usize) -> usize {
        match self.states() {
            States::Slow { places } if bytes <= SLOW_BYTES_MAX => bytes.saturating_mul(places),
            _ => bytes,
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
            States::Slow { places } => places,
            States::Many => 1,
        }
    }

    /// Whether the pattern is found in `value`.
    #[inline]
    pub(super) fn is_match(&self, value: &str, work: &mut Work) -> Result<bool, Spent> {
        match self.many(value.len()) {
            None => {
                work.spend(self.cost(value.len()))?;
                Ok(work.is_match(&self.compiled, value))
            }
            Some(counted) => Ok(counted.searcher().next(value, 0, work)?.is_some()),
        }
    }

    /// A match in `value`: the end of one that ends before the end of `value`, if there is one.
    pub(super) fn match_end(&self, value: &str, work: &mut Work) -> Result<Option<usize>, Spent> {
        match self.many(value.len()) {
            None => {
                work.spend(self.cost(value.len()))?;
                Ok(work.first_end(&self.compiled, value, 0))
            }
            Some(counted) => {
                let found = counted.searcher().next(value, 0, work)?;
                Ok(found.map(|found| found.end))
            }
        }
    }

    /// The first match in `value`.
    pub(super) fn find(&self, value: &str, work: &mut Work) -> Result<Option<Range<usize>>, Spent> {
        match self.many(value.len()) {
            None => {
                work.spend(self.cost(value.len()))?;
                Ok(work.find_at(&self.compiled, value, 0))
            }
            Some(counted) => counted.searcher().next(value, 0, work),
        }
    }
}

/// How a pattern is written, as far as that shows how many states it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// No set of places is large.
    Short,
    /// Counted repetitions add few places, but so many classes follow each other that there may be many sets of them.
    LongRun {
        places: usize,
    },
    Long,
}

impl Form {
    fn of(pattern: &str) -> Self {
        /// Classes in a row: where each of them may be the next place or not, there are as many states as subsets, 1 024.
        const RUN_MAX: usize = 10;
        let Ok(hir) = regex_syntax::parse(pattern) else {
            return Self::Long;
        };
        let run = Run::of(&hir).longest;
        match places(&hir) <= REPEATED_MAX {
            true if run <= RUN_MAX => Self::Short,
            true => Self::LongRun { places: run },
            false => Self::Long,
        }
    }
}

/// Places that counted repetitions add to a short pattern at most.
const REPEATED_MAX: usize = 64;

/// Whether counted repetitions add few places to the pattern: then no set of places is large.
pub(super) fn is_short(pattern: &str) -> bool {
    regex_syntax::parse(pattern).is_ok_and(|hir| places(&hir) <= REPEATED_MAX)
}

/// Places of a pattern that are there because of counted repetitions.
fn places(hir: &Hir) -> usize {
    match hir.kind() {
        HirKind::Repetition(repeated) => {
            let most = most(repeated);
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

/// Most repetitions that have places of their own.
fn most(repeated: &Repetition) -> usize {
    let most = repeated.max.unwrap_or(repeated.min).max(repeated.min);
    usize::try_from(most).unwrap_or(usize::MAX)
}

/// Classes in a row.
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    longest: usize,
    /// Of those, the ones at the start and at the end.
    start: usize,
    end: usize,
    /// There is nothing else, or nothing else has to be there.
    is_whole: bool,
}

impl Run {
    /// Of a class or of nothing.
    fn whole(classes: usize) -> Self {
        Self {
            longest: classes,
            start: classes,
            end: classes,
            is_whole: true,
        }
    }

    fn of(hir: &Hir) -> Self {
        match hir.kind() {
            HirKind::Empty | HirKind::Look(_) => Self::whole(0),
            HirKind::Literal(_) => Self::default(),
            HirKind::Class(class) if is_one_letter(class) => Self::default(),
            HirKind::Class(_) => Self::whole(1),
            HirKind::Capture(group) => Self::of(&group.sub),
            HirKind::Repetition(repeated) => {
                let inner = Self::of(&repeated.sub);
                let most = most(repeated).max(1);
                if inner.is_whole {
                    return Self::whole(inner.longest.saturating_mul(most));
                }
                let both = if most > 1 {
                    inner.end.saturating_add(inner.start)
                } else {
                    0
                };
                Self {
                    longest: inner.longest.max(both),
                    is_whole: repeated.min == 0,
                    ..inner
                }
            }
            HirKind::Concat(parts) => parts
                .iter()
                .map(Self::of)
                .fold(Self::whole(0), Self::followed_by),
            HirKind::Alternation(branches) => {
                let mut branches = branches.iter().map(Self::of);
                let first = branches.next().unwrap_or_default();
                branches.fold(first, |one, other| Self {
                    longest: one.longest.max(other.longest),
                    start: one.start.max(other.start),
                    end: one.end.max(other.end),
                    is_whole: one.is_whole || other.is_whole,
                })
            }
        }
    }

    fn followed_by(self, next: Self) -> Self {
        let joined = self.end.saturating_add(next.start);
        let through = |is_whole: bool, whole: usize, own: usize| {
            if is_whole { whole.max(own) } else { own }
        };
        Self {
            longest: self.longest.max(next.longest).max(joined),
            start: through(self.is_whole, joined, self.start),
            end: through(next.is_whole, joined, next.end),
            is_whole: self.is_whole && next.is_whole,
        }
    }
}

/// Whether a class is one letter without regard to case, so that it is as certain as a literal.
fn is_one_letter(class: &Class) -> bool {
    let fold = |letter: char| letter.to_uppercase().flat_map(char::to_lowercase).next();
    let mut letters = match class {
        Class::Unicode(class) => class
            .iter()
            .flat_map(|range| {
                // Of a wide range two letters show enough.
                [range.start(), range.end()]
            })
            .collect::<Vec<_>>(),
        Class::Bytes(class) => {
            let ranges = class.iter().flat_map(|range| [range.start(), range.end()]);
            ranges.map(char::from).collect()
        }
    };
    let first = letters.pop().and_then(fold);
    letters.into_iter().all(|letter| fold(letter) == first)
}

#[cfg(test)]
mod tests {
    use super::{Automaton, SLOW_BYTES_MAX, is_short};

    #[test]
    fn many_states_are_noticed_however_they_are_written() {
        let repeated = "[ab]*a[ab]{40}c".to_owned();
        let written_out = format!("[ab]*a{}c", "[ab]".repeat(40));
        for pattern in [repeated, written_out] {
            let automaton = Automaton::new(&pattern).unwrap();
            assert!(automaton.many(SLOW_BYTES_MAX + 1).is_some(), "{pattern}");
            assert!(automaton.many(10).is_none() && automaton.cost(10) >= 400);
        }
        for pattern in [
            r"[0-9]{4}[ -]?[0-9]{4}[ -]?[0-9]{4}[ -]?[0-9]{4}",
            r"[a-zA-Z0-9.!#$%&*+/=?^_`{|}~-]+@[a-zA-Z0-9-]+(?:\.[a-zA-Z0-9-]+)",
            "(?i)password|passwort|secret|token|api[-_]?key",
            r"\b[0-9]{3}-[0-9]{2}-[0-9]{4}\b",
        ] {
            let automaton = Automaton::new(pattern).unwrap();
            assert!(automaton.many(usize::MAX).is_none(), "{pattern}");
            assert_eq!(automaton.cost(10), 10);
        }
    }

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
