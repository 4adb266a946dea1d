//! The scopes of all rules in one search of a key.
//!
//! A peer may send a new name with each detail, and for each the scopes are tested. One automaton for all linear ones makes
//! that cost a search, not one for each rule.

use regex_automata::{PatternID, PatternSet};

use super::automaton::is_short;
use super::compiled::Compiled;
use super::pattern::{Answer, Pattern};
use super::searches::NameWork;
use crate::limits::SCOPES_STATES_BYTES_MIN;

/// Fewest scopes that are searched together.
const SCOPES_MIN: usize = 4;

/// The scopes of a rule set, in the order of its rules.
#[derive(Clone, Debug, Default)]
pub(super) struct Scopes {
    set: Option<Compiled>,
    /// For each rule its number in the set, if it is there.
    places: Box<[Option<usize>]>,
}

impl Scopes {
    pub(super) fn new<'p>(scopes: impl Iterator<Item = &'p Pattern>) -> Self {
        let mut texts = Vec::new();
        let places = scopes.map(|scope| {
            texts.push(scope.linear_text().filter(|text| is_short(text))?);
            Some(texts.len() - 1)
        });
        let places = places.collect();
        let set = (texts.len() >= SCOPES_MIN)
            .then(|| Compiled::all(&texts).ok())
            .flatten();
        Self { set, places }
    }

    /// Gives its automaton a place of its own, which is `next`.
    pub(super) fn place(&mut self, next: &mut usize) {
        if let Some(set) = &mut self.set {
            set.place = *next;
            *next += 1;
        }
    }

    /// Bytes of memory that it takes, compiled.
    pub(super) fn memory(&self) -> usize {
        self.set.as_ref().map_or(0, Compiled::memory)
    }

    /// Bytes of memory that a shard needs for its searches, at least.
    pub(super) fn states(&self) -> usize {
        self.set.as_ref().map_or(0, |_| SCOPES_STATES_BYTES_MIN)
    }

    /// Whether the scope of rule number `rule` is searched with the others.
    pub(super) fn has(&self, rule: usize) -> bool {
        self.set.is_some() && self.places.get(rule).is_some_and(Option::is_some)
    }

    /// Searches a key.
    pub(super) fn search<'k>(&self, key: &'k str, work: &mut NameWork) -> Found<'k> {
        Found {
            key,
            matches: self.set.as_ref().map(|set| work.patterns(set, key)),
        }
    }

    /// Whether the scope of rule number `rule` matches the key that was searched.
    pub(super) fn answer(
        &self,
        rule: usize,
        scope: &Pattern,
        found: &Found<'_>,
        work: &mut NameWork,
    ) -> Answer {
        let place = self.places.get(rule).copied().flatten();
        match found.matches.as_ref().zip(place) {
            Some((matches, place)) if has(matches, place) => Answer::Yes,
            Some(_) => Answer::No,
            None => scope.test_name(found.key, work),
        }
    }
}

fn has(matches: &PatternSet, place: usize) -> bool {
    PatternID::new(place).is_ok_and(|place| matches.contains(place))
}

/// What was found of a key.
pub(super) struct Found<'k> {
    key: &'k str,
    matches: Option<PatternSet>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_search_answers_as_each_scope_does() {
        let scopes = [
            "request_body",
            ".*",
            "request_header:(?!a).*",
            "a|b",
            "(request|response)_header:x-.*",
            "request_param:[0-9]{2,}",
            "(?i)REQUEST_BODY",
            "request_param:.*a[a-z]{500}",
        ]
        .map(|text| Pattern::matching(text).unwrap());
        let all = Scopes::new(scopes.iter());
        // Without any text of one line, look-around, and many places.
        assert_eq!(all.set.as_ref().unwrap().regex().pattern_len(), 5);
        for key in [
            "request_body",
            "request_header:x-a",
            "request_header:a",
            "request_param:77",
            "a:b",
            "b\na",
        ] {
            let work = &mut NameWork::default();
            let found = all.search(key, work);
            for (number, scope) in scopes.iter().enumerate() {
                let expected = scope.test_name(key, work);
                assert_eq!(
                    all.answer(number, scope, &found, work),
                    expected,
                    "{key} {}",
                    scope.source()
                );
            }
        }
    }
}
