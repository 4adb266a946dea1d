//! Calls before and after the rules, as text, and how often each rule matched.

use std::fmt::Write as _;
use std::sync::Arc;

use engine_core::rules::{Rule, RuleSet};

use super::explanation::Explanation;
use super::text::{VALUE_COLUMNS, compare, write};
use crate::config::Rules;
use crate::diagnostic::Diagnostic;
use crate::printer::printable;
use crate::quantity::{plural, thousands};
use crate::rule_trial::Detail;

/// What is shown of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Each detail before and after.
    Comparison,
    /// What each rule does.
    Explanation,
}

/// Why calls are not kept.
pub(super) struct Outcomes {
    pub(super) stopped: u64,
    pub(super) emptied: u64,
    pub(super) sampled: u64,
}

/// Shows calls, and counts them.
pub(super) struct Comparison {
    rules: Arc<RuleSet>,
    name: String,
    /// Instead of the details.
    explanation: Option<Explanation>,
    /// Matches per rule as of the last call.
    hits: Vec<u64>,
    dropped: u64,
    calls: u64,
    shown_max: u64,
}

impl Comparison {
    /// At most `shown_max` calls are shown; all are counted.
    pub(super) fn new(rules: &Rules, form: Form, shown_max: Option<u64>) -> Self {
        Self {
            rules: Arc::clone(&rules.set),
            name: rules.name.clone(),
            explanation: (form == Form::Explanation).then(|| Explanation::new(&rules.set)),
            hits: Vec::new(),
            dropped: 0,
            calls: 0,
            shown_max: shown_max.unwrap_or(u64::MAX),
        }
    }

    /// Shows a call; `matches` are those of each rule so far.
    pub(super) fn show(&mut self, before: &[Detail], after: Option<&[Detail]>, matches: &[u64]) {
        self.calls += 1;
        self.dropped += u64::from(after.is_none());
        let acted = self.acted(matches);
        if self.calls > self.shown_max {
            return;
        }
        let text = self.call(before, after, &acted);
        // A closed pipe ends nothing: the hits are still counted.
        let _ = write(&text);
    }

    /// Shows what became of all calls, `more` behind it, and how often each rule matched.
    pub(super) fn finish(&self, outcomes: &Outcomes, more: &str) -> Result<(), Diagnostic> {
        let mut text = format!(
            "{}: {} kept, {} stopped, {} with nothing left, {} sampled out\n{more}",
            plural(self.calls, "call"),
            thousands(self.calls - self.dropped),
            thousands(outcomes.stopped),
            thousands(outcomes.emptied),
            thousands(outcomes.sampled),
        );
        let _ = writeln!(text, "\n{:>10}  hits per rule of {}", "", self.name);
        for (index, rule) in self.rules.rules().iter().enumerate() {
            let count = self.hits.get(index).copied().unwrap_or(0);
            let _ = writeln!(
                text,
                "{:>10}  line {}: {}",
                thousands(count),
                rule.line,
                rule.shown()
            );
        }
        write(&text)
    }

    /// The rules that matched since the last call: `line 2 ×3`.
    fn acted(&mut self, matches: &[u64]) -> Vec<String> {
        self.hits.resize(matches.len(), 0);
        let acted = |(rule, (now, then)): (&Rule, (&u64, &u64))| {
            (now > then).then(|| match now - then {
                1 => format!("line {}", rule.line),
                count => format!("line {} ×{count}", rule.line),
            })
        };
        let rules = self.rules.rules().iter();
        let acted = rules
            .zip(matches.iter().zip(&self.hits))
            .filter_map(acted)
            .collect();
        self.hits = matches.to_vec();
        acted
    }

    fn call(&mut self, before: &[Detail], after: Option<&[Detail]>, acted: &[String]) -> String {
        let value = |key: &str| {
            let detail = before.iter().find(|(other, _)| other == key);
            detail.map_or("-", |(_, value)| value.as_str())
        };
        let mut text = format!(
            "call {}  {} {}  {}",
            self.calls,
            printable(value("request_method"), 20),
            printable(value("request_url"), VALUE_COLUMNS),
            printable(value("response_code"), 3),
        );
        if after.is_none() {
            text.push_str("  DROPPED");
        }
        if !acted.is_empty() && self.explanation.is_none() {
            let _ = write!(text, "  ({})", acted.join(", "));
        }
        text.push('\n');
        let lines = match &mut self.explanation {
            Some(explanation) => explanation.lines(before, after),
            None => after
                .map(|after| compare(before, after))
                .unwrap_or_default(),
        };
        for line in lines {
            let _ = writeln!(text, "  {line}");
        }
        text.push('\n');
        text
    }
}
