//! What is kept for each rule of a set while details go through it.

use regex::CaptureLocations;

/// What is kept for each rule, by its number.
#[derive(Debug, Default)]
pub(super) struct PerRule {
    /// Where the groups of its pattern matched.
    pub(super) groups: Vec<Option<CaptureLocations>>,
    /// Details (or values in them) that it stopped, removed or changed; of a `stop_unless` rule those that matched.
    pub(super) hits: Vec<u64>,
}

impl PerRule {
    pub(super) fn resize(&mut self, rules: usize) {
        if self.hits.len() == rules {
            return;
        }
        self.groups.resize(rules, None);
        self.hits.resize(rules, 0);
    }

    pub(super) fn hit(&mut self, rule: usize) {
        if let Some(hits) = self.hits.get_mut(rule) {
            *hits += 1;
        }
    }
}
