//! Rules on the details of calls that are at hand, such as those of a store: no packets, no session fields.

use std::sync::Arc;

use engine_core::rules::{Findings, NameWork, RuleSet, Sampler, Scratch, Verdict};

/// Bytes of a buffer that one long value leaves for the next call.
const SCRATCH_BYTES: usize = 1 << 20;

/// A detail: key and value.
pub type Detail = (String, String);

/// Rules that are tried.
pub struct Trial {
    rules: Arc<RuleSet>,
    sampler: Sampler,
    scratch: Scratch,
    names: NameWork,
}

/// What rules do to a call.
#[derive(Debug, PartialEq, Eq)]
pub struct Tried {
    /// Whether it would be sent.
    pub verdict: Verdict,
    /// What is left of each detail; none where it is removed.
    pub left: Vec<Option<String>>,
}

impl Trial {
    /// Rules of this machine's user.
    pub fn new(rules: Arc<RuleSet>) -> Self {
        Self::with(rules, Scratch::default(), NameWork::default())
    }

    /// Rules of somebody else, whose states may take this number of bytes.
    pub fn within(rules: Arc<RuleSet>, states_bytes_max: usize) -> Self {
        let of_names = states_bytes_max / 4;
        let scratch = Scratch::within(states_bytes_max - of_names);
        Self::with(rules, scratch, NameWork::within(of_names))
    }

    fn with(rules: Arc<RuleSet>, scratch: Scratch, names: NameWork) -> Self {
        Self {
            rules,
            sampler: Sampler::new(1),
            scratch,
            names,
        }
    }

    /// The rules.
    pub fn rules(&self) -> &RuleSet {
        &self.rules
    }

    /// Applies them to the details of a call.
    pub fn apply(&mut self, details: &[Detail]) -> Tried {
        let mut findings = Findings::default();
        let sampled_out = self.rules.samples_out(&mut self.sampler);
        self.names.renew();
        let mut left = Vec::with_capacity(details.len());
        for (key, value) in details {
            if is_added_later(key) {
                left.push(Some(value.clone()));
                continue;
            }
            let plan = self.rules.plan_within(key, &mut self.names);
            let kept = self
                .rules
                .apply(&plan, value.as_bytes(), &mut findings, &mut self.scratch);
            left.push(kept.map(|kept| String::from_utf8_lossy(kept).into_owned()));
        }
        self.scratch.shrink_to(SCRATCH_BYTES);
        let verdict = self.rules.verdict(&findings, sampled_out);
        Tried { verdict, left }
    }

    /// How often each rule matched, in the order of the rules.
    pub fn matches(&self) -> Vec<u64> {
        let matches = self.scratch.matches();
        let rules = 0..self.rules.rules().len();
        rules
            .map(|index| matches.get(index).copied().unwrap_or(0))
            .collect()
    }
}

/// Whether the sniffer adds this detail after the rules.
pub fn is_added_later(key: &str) -> bool {
    key.starts_with("custom_field:") || key == "host"
}
