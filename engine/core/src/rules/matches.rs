//! What is kept for each rule of a set while details go through it.

use regex_automata::util::captures::Captures;

use super::searches::Work;

/// What is kept for each rule, by its number.
#[derive(Debug, Default)]
pub(super) struct PerRule {
    /// Where the groups of its pattern matched.
    pub(super) groups: Vec<Option<Captures>>,
    /// Details (or values in them) that it stopped, removed or changed; for a `stop_unless` rule those that matched.
    pub(super) matches: Vec<u64>,
    /// What is left of the budget of the call, and what searches keep.
    pub(super) work: Work,
    /// Answers that were not known when it was spent, while masks were applied.
    pub(super) doubts: u32,
    /// Bytes by which the present value may still become longer.
    pub(super) growth: usize,
}

impl PerRule {
    #[inline]
    pub(super) fn resize(&mut self, rules: usize) {
        if self.matches.len() != rules {
            self.resize_once(rules);
        }
    }

    #[cold]
    fn resize_once(&mut self, rules: usize) {
        self.groups.resize(rules, None);
        self.matches.resize(rules, 0);
    }

    #[inline]
    pub(super) fn matched(&mut self, rule: usize) {
        if let Some(matches) = self.matches.get_mut(rule) {
            *matches += 1;
        }
    }
}
