//! Bytes of memory that a rule set needs, so that they can be taken from the memory limit before there is traffic.
//!
//! Compiled patterns are the same for all shards; their size is known. What searches make is kept by each shard within a bound
//! (`rules/searches.rs`): with [`Memory::searches`], ordinary patterns keep all states that they have.

use std::ops::AddAssign;

use super::pattern::Pattern;
use super::searches::NameWork;
use super::set::{Rule, RuleSet};
use crate::limits::JSON_DEPTH_MAX;

/// Bytes of memory of a rule set, or of a part of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Compiled patterns, once for all shards.
    pub compiled: usize,
    /// What is compiled for bodies without their end, once for all shards, when one needs it.
    pub beginnings: usize,
    /// What each shard needs for searches and masks so that it need not make anything twice.
    pub searches: usize,
}

impl AddAssign for Memory {
    fn add_assign(&mut self, other: Self) {
        self.compiled = self.compiled.saturating_add(other.compiled);
        self.beginnings = self.beginnings.saturating_add(other.beginnings);
        self.searches = self.searches.saturating_add(other.searches);
    }
}

/// Bytes that a mask has at each level of a body.
const STEP_BYTES: usize = 16;

impl RuleSet {
    /// The memory that the set needs.
    pub fn memory(&self) -> Memory {
        let mut sum = Memory {
            compiled: self.scopes.memory(),
            beginnings: 0,
            searches: self.scopes.states(),
        };
        let names = &mut NameWork::default();
        let bodies = ["request_body", "response_body"];
        let bodies = bodies.map(|body| self.plan_within(body, names));
        for (number, rule) in self.rules.iter().enumerate() {
            sum += self.of_rule(number, rule);
            // Only bodies are cut before the rules see them.
            if bodies.iter().any(|plan| plan.has_value_rule(number)) {
                let pattern = rule.action.pattern();
                sum.beginnings += pattern.map_or(0, Pattern::beginnings);
                sum.searches += pattern.map_or(0, Pattern::states);
            }
        }
        for name in &self.session {
            sum += Memory {
                compiled: name.memory(),
                beginnings: 0,
                searches: name.states(),
            };
        }
        sum
    }

    /// The first rule whose patterns are largest.
    pub fn largest(&self) -> Option<&Rule> {
        let rules = self.rules.iter().enumerate().rev();
        rules
            .max_by_key(|(number, rule)| self.of_rule(*number, rule).compiled)
            .map(|(_, rule)| rule)
    }

    fn of_rule(&self, number: usize, rule: &Rule) -> Memory {
        let pattern = rule.action.pattern();
        let of_scope = match self.scopes.has(number) {
            true => 0,
            false => rule.scope.states(),
        };
        let of_path = match rule.looks_inside() {
            true => STEP_BYTES * JSON_DEPTH_MAX,
            false => 0,
        };
        let of_pattern = pattern.map_or(0, Pattern::memory);
        Memory {
            compiled: rule.scope.memory().saturating_add(of_pattern),
            beginnings: 0,
            searches: of_scope + of_path + pattern.map_or(0, Pattern::states),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::apply::{Extent, Findings, Scratch};
    use super::*;

    fn set(text: &str) -> RuleSet {
        RuleSet::parse(text).unwrap()
    }

    #[test]
    fn an_ordinary_set_needs_little() {
        assert_eq!(set("# none").memory(), Memory::default());
        for preset in ["include standard", "include strict", "include private"] {
            let memory = set(preset).memory();
            assert!(
                memory.compiled + memory.searches < 4 << 20,
                "{preset}: {memory:?}"
            );
        }
        let large = "/request_body/ replace /[ab]*a[ab]{9000}c/, /x/\n";
        let both = set(&format!("/request_url/ remove\n{large}"));
        assert!(both.memory().compiled > 512 << 10, "{:?}", both.memory());
        assert_eq!(both.largest().unwrap().line, 2);
    }

    /// Values for which a pattern has to make many states.
    fn varied(bytes: usize, seed: u64) -> String {
        let mut state = seed;
        let letters = br#"ab@.-_ 0123456789":{}[]password=xyzPASS/?"#;
        let letters = (0..bytes).map(|_| {
            state = crate::mix::mix(state.wrapping_add(crate::mix::GOLDEN_GAMMA));
            char::from(letters[state as usize % letters.len()])
        });
        letters.collect()
    }

    #[test]
    fn searches_keep_what_they_may() {
        // Each has a few hundred states.
        let rule = |number: usize| {
            format!(
                "/request_body/ replace /[a-f]{{1,{number}}}[0-9]+[a-z]?[^a-z]{{1,3}}[@xyz]/, /-/\n"
            )
        };
        let rules = set(&(1..20).map(rule).collect::<String>());
        let plan = rules.plan("request_body");
        let held = |bytes_max: usize| {
            let (mut scratch, mut forgotten, mut most) = (Scratch::within(bytes_max), 0, 0);
            let mut left = Vec::new();
            for seed in 0..300 {
                let value = varied(2000, seed);
                let mut findings = Findings::default();
                let extent = [Extent::Whole, Extent::Start][seed as usize % 2];
                let result =
                    rules.apply_to(&plan, value.as_bytes(), extent, &mut findings, &mut scratch);
                left.push(result.map(<[u8]>::to_vec));
                most = most.max(scratch.searches_bytes());
                forgotten += scratch.take_forgotten();
            }
            (most, forgotten, left)
        };
        let (all, never, left) = held(usize::MAX);
        assert!(never == 0 && all > 512 << 10, "{all}");
        let (most, forgotten, also_left) = held(all / 4);
        assert!(forgotten > 1, "{forgotten}");
        // What a search adds is measured behind it.
        assert!(most <= all / 4 + (64 << 10), "{most} of {all}");
        assert_eq!(left, also_left, "ordinary calls are not in doubt for it");
    }

    /// Once states were forgotten, a call pays for those that it makes, and what it cannot pay for is hidden.
    #[test]
    fn states_are_not_made_again_and_again_for_nothing() {
        let rules = set("/request_body/ replace /[ab]*a[ab]{9}c/, /x/");
        let plan = rules.plan("request_body");
        let letters = |bytes: usize, seed: u64| -> String {
            let text = varied(bytes, seed).replace(|letter| letter != 'a' && letter != 'b', "");
            text.repeat(12) + "c"
        };
        let work = |bytes_max: usize| {
            let mut scratch = Scratch::within(bytes_max);
            let mut work = 0;
            for seed in 0..20 {
                let mut findings = Findings::default();
                let value = letters(20_000, seed);
                rules.apply(&plan, value.as_bytes(), &mut findings, &mut scratch);
                work += findings.work();
            }
            work
        };
        let (free, paid) = (work(usize::MAX), work(64 << 10));
        assert!(paid > 5 * free, "{paid} {free}");
    }
}
