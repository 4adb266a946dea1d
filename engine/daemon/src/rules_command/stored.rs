//! The newest calls of a store before and after the rules.
//!
//! A stored call is one after the rules that were in force, so nothing is shown that these have hidden.

use std::sync::Arc;

use engine_core::rules::Verdict;

use super::comparison::{Comparison, Form, Outcomes};
use crate::config::command_line::RulesTestFlags;
use crate::config::{Rules, filter};
use crate::diagnostic::{Diagnostic, Exit};
use crate::invocation::Invocation;
use crate::rule_trial::{Detail, Trial, is_added_later};
use crate::store_client::{link, note_coverage};

/// Calls that are tried.
const CALLS: &str = "100";

/// Tries the rules on the newest calls that match.
pub(super) fn run(
    rules: &Rules,
    form: Form,
    flags: &RulesTestFlags,
    invocation: &Invocation,
) -> Result<Exit, Diagnostic> {
    let text = flags.filter.as_deref().unwrap_or_default();
    filter(text)?;
    let link = link(&flags.store, invocation)?;
    let list = link.get("calls", &[("filter", text), ("limit", CALLS)])?;
    let mut trial = Trial::new(Arc::clone(&rules.set));
    let mut comparison = Comparison::new(rules, form, flags.calls);
    let (mut stopped, mut emptied, mut sampled) = (0, 0, 0);
    for summary in list["calls"].as_array().into_iter().flatten() {
        let id = summary["id"].as_str().unwrap_or_default();
        let call = link.get(&format!("calls/{id}"), &[])?;
        let mut before: Vec<Detail> =
            serde_json::from_value(call["details"].clone()).unwrap_or_default();
        before.retain(|(key, _)| !is_added_later(key));
        let tried = trial.apply(&before);
        let keys = before.iter().map(|(key, _)| key.clone());
        let left = keys.zip(tried.left);
        let left: Vec<Detail> = left
            .filter_map(|(key, value)| Some((key, value.filter(|value| !value.is_empty())?)))
            .collect();
        match tried.verdict {
            Verdict::Kept => {}
            Verdict::Stopped => stopped += 1,
            Verdict::Emptied => emptied += 1,
            Verdict::Sampled => sampled += 1,
        }
        let after = (tried.verdict == Verdict::Kept).then_some(left.as_slice());
        comparison.show(&before, after, &trial.matches());
    }
    let outcomes = Outcomes {
        stopped,
        emptied,
        sampled,
    };
    comparison.finish(&outcomes, "")?;
    note_coverage(&list["coverage"], invocation);
    Ok(Exit::Done)
}
