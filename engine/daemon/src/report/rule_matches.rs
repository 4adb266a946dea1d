//! What the rules do in a running capture: matches per rule over all shards, and warnings when a mask matches nothing,
//! everything is dropped, or credentials pass.
//!
//! The shards publish counts by plain stores, as they do their other counters. A reload makes new cells, so counts always
//! belong to the rules that are shown with them.

use std::collections::BTreeSet;
use std::sync::Arc;

use engine_core::rules::{Rule, RuleSet};

use crate::config::Rules;
use crate::counters::{RuleCells, RuleSetCounters};
use crate::diagnostic::{Code, Diagnostic};
use crate::quantity::{plural, thousands};
use crate::status::RuleHits;

/// Calls after which a mask that matched nothing gets a warning.
const CALLS_UNTIL_IDLE: u64 = 10_000;

/// Calls after which rules that drop all of them get a warning.
const CALLS_UNTIL_DROPPED: u64 = 500;

/// The rules in use, and what they have done since then.
#[derive(Debug)]
pub struct RuleMatches {
    /// The rules in one short line.
    pub name: String,
    set: Arc<RuleSet>,
    shards: Vec<RuleCells>,
    /// Calls seen, stopped and emptied under earlier rules.
    before: [u64; 3],
    /// Names of credentials that passed under earlier rules.
    passed_before: [u64; 3],
    /// Messages of protobuf are read by a schema, if it has their types.
    pub has_schemas: bool,
}

impl RuleMatches {
    /// For rules that are in use from now on, on this number of shards; `counters` is what was counted before.
    pub fn new(rules: &Rules, shards: usize, counters: &RuleSetCounters) -> Self {
        let count = rules.set.rules().len();
        Self {
            name: rules.name.clone(),
            set: Arc::clone(&rules.set),
            shards: (0..shards).map(|_| RuleCells::new(count)).collect(),
            before: calls(counters),
            passed_before: passed(counters),
            has_schemas: false,
        }
    }

    /// The same where messages of protobuf may be read by a schema.
    pub fn with_schemas(self, has_schemas: bool) -> Self {
        Self {
            has_schemas,
            ..self
        }
    }

    /// Where each shard publishes its counts.
    pub fn cells(&self) -> &[RuleCells] {
        &self.shards
    }

    /// Each rule with its matches, in the order of their lines.
    pub fn matches(&self) -> Vec<RuleHits> {
        let count = |index: usize| {
            let counts = self.shards.iter().filter_map(|shard| shard.get(index));
            counts.sum()
        };
        let rules = self.set.rules().iter().enumerate();
        let mut hits: Vec<RuleHits> = rules
            .map(|(index, rule)| RuleHits {
                line: rule.line as u64,
                rule: rule.shown(),
                verb: rule.verb().name().to_owned(),
                hits: count(index),
            })
            .collect();
        hits.sort_by_key(|rule| rule.line);
        hits
    }

    /// The warnings that hold now.
    pub fn warnings(&self, counters: &RuleSetCounters) -> Vec<Diagnostic> {
        let now = calls(counters);
        let [seen, stopped, emptied] =
            std::array::from_fn(|index| now[index].saturating_sub(self.before[index]));
        let mut warnings: Vec<Diagnostic> = self.credentials(counters).into_iter().collect();
        warnings.extend(by_number(&self.set).filter(|_| self.has_schemas));
        if seen >= CALLS_UNTIL_DROPPED && stopped >= seen {
            warnings.push(self.all_dropped(seen, emptied >= seen));
        }
        let idle: Vec<String> = if seen >= CALLS_UNTIL_IDLE && stopped < seen {
            self.idle().map(|line| line.to_string()).collect()
        } else {
            Vec::new()
        };
        if let Some((first, rest)) = idle.split_first() {
            let (rules, lines) = if rest.is_empty() {
                ("the mask", format!("line {first}"))
            } else {
                ("the masks", format!("lines {}", idle.join(", ")))
            };
            let what = format!(
                "{rules} on {lines} of the rules matched nothing in {} calls",
                thousands(seen)
            );
            warnings.push(
                Diagnostic::new(Code::W033, what)
                    .fix("sniffer rules check    and, with packets:  sniffer rules test CAPTURE"),
            );
        }
        warnings
    }

    /// Credentials that calls have carried and the rules let through as they are.
    pub fn credentials(&self, counters: &RuleSetCounters) -> Option<Diagnostic> {
        let now = passed(counters);
        let names = ["header", "cookie", "parameter"];
        let kinds = names.iter().enumerate().filter_map(|(index, name)| {
            let count = now[index].saturating_sub(self.passed_before[index]);
            (count > 0).then(|| plural(count, name))
        });
        let kinds: Vec<String> = kinds.collect();
        (!kinds.is_empty()).then(|| {
            let what = format!(
                "calls carry credentials, and the rules let them pass as they are: the values of {}",
                kinds.join(", ")
            );
            Diagnostic::new(Code::W037, what).fix(
                "include private    as a further line of the rules hides them; sniffer rules check names them",
            )
        })
    }

    /// Lines of masks that matched nothing, without those of predefined sets, which often match nothing.
    fn idle(&self) -> impl Iterator<Item = usize> {
        let has_matched = |index: usize| {
            let mut counts = self.shards.iter().filter_map(|shard| shard.get(index));
            counts.any(|count| count > 0)
        };
        let rules = self.set.rules().iter().enumerate();
        let mut idle: Vec<usize> = rules
            .filter(|(index, rule)| rule.verb().is_mask() && !rule.included && !has_matched(*index))
            .map(|(_, rule)| rule.line)
            .collect();
        idle.sort_unstable();
        idle.dedup();
        idle.into_iter()
    }

    fn all_dropped(&self, seen: u64, is_emptied: bool) -> Diagnostic {
        let stops = |rule: &Rule| !rule.verb().is_mask();
        let most = (self.matches().into_iter())
            .zip(self.sorted())
            .filter(|(_, rule)| stops(rule))
            .max_by_key(|(hits, _)| hits.hits);
        let why = match most {
            _ if is_emptied => "the masks left nothing of them".to_owned(),
            Some((hits, _)) if hits.hits >= seen => format!("stopped by line {}", hits.line),
            _ => "stopped by the stop_unless rules, which count their matches together".to_owned(),
        };
        let what = format!(
            "100 % of {} calls were dropped by the rules: {why}",
            thousands(seen)
        );
        Diagnostic::new(Code::W034, what).fix("sniffer rules test CAPTURE")
    }

    /// The rules in the order of [`Self::matches`].
    fn sorted(&self) -> Vec<&Rule> {
        let mut rules: Vec<&Rule> = self.set.rules().iter().collect();
        rules.sort_by_key(|rule| rule.line);
        rules
    }
}

/// The rules whose paths lead to numbers of fields of protobuf, if there are any: they match nothing in a message that is read by
/// a schema, which has names.
pub fn by_number(set: &RuleSet) -> Option<Diagnostic> {
    let numbered = set.rules().iter().filter(|rule| rule.looks_for_number());
    let lines: BTreeSet<usize> = numbered.map(|rule| rule.line).collect();
    let shown: Vec<String> = lines.iter().map(usize::to_string).collect();
    let (rules, which, look) = match shown.as_slice() {
        [] => return None,
        [line] => ("the rule", format!("line {line}"), "looks"),
        lines => ("the rules", format!("lines {}", lines.join(", ")), "look"),
    };
    let what = format!(
        "{rules} on {which} {look} for fields by number, and messages of which --protobuf-descriptors has the types have names: \
         nothing in them matches"
    );
    Some(Diagnostic::new(Code::W038, what).fix(
        "a further rule for the name of the field, such as /request_body:$..cardNumber/ remove",
    ))
}

fn calls(counters: &RuleSetCounters) -> [u64; 3] {
    let message = &counters.message;
    [
        message.calls_seen,
        message.calls_stopped,
        message.calls_emptied,
    ]
}

/// Names of credentials that passed: of headers, of cookies, of params.
fn passed(counters: &RuleSetCounters) -> [u64; 3] {
    let message = &counters.message;
    [
        message.credentials_headers,
        message.credentials_cookies,
        message.credentials_params,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stages(seen: u64, stopped: u64, emptied: u64) -> RuleSetCounters {
        let mut stages = RuleSetCounters::default();
        stages.message.calls_seen = seen;
        stages.message.calls_stopped = stopped;
        stages.message.calls_emptied = emptied;
        stages
    }

    /// `hits` in the order of application, on two shards.
    #[track_caller]
    fn check(rules: &str, hits: &[u64], now: RuleSetCounters, expected: &[(Code, &str)]) {
        let rules = Rules {
            set: Arc::new(RuleSet::parse(rules).unwrap()),
            name: "x".into(),
        };
        let watch = RuleMatches::new(&rules, 2, &stages(7, 7, 0));
        watch.cells()[1].store(hits);
        let warnings = watch.warnings(&now);
        assert_eq!(warnings.len(), expected.len(), "{warnings:?}");
        for (warning, (code, words)) in warnings.iter().zip(expected) {
            assert!(
                warning.code == *code && warning.what.contains(words),
                "{warning:?}"
            );
        }
        assert_eq!(
            watch.matches().iter().map(|rule| rule.hits).sum::<u64>(),
            hits.iter().sum::<u64>()
        );
    }

    #[test]
    fn idle_masks_get_a_warning_after_many_calls() {
        let rules = "/request_body/ remove\n/request_header:x/ remove\n/a/ stop";
        check(rules, &[0, 5, 0], stages(10_006, 7, 0), &[]);
        check(
            rules,
            &[0, 5, 0],
            stages(10_007, 7, 0),
            &[(Code::W033, "line 2")],
        );
        check(
            rules,
            &[0, 0, 0],
            stages(10_007, 7, 0),
            &[(Code::W033, "lines 1, 2")],
        );
        check("include standard", &[0, 0, 0], stages(10_007, 7, 0), &[]);
    }

    #[test]
    fn credentials_that_pass_get_a_warning() {
        let mut stages = stages(8, 7, 0);
        (
            stages.message.credentials_headers,
            stages.message.credentials_params,
        ) = (2, 1);
        let expected = "the values of 2 headers, 1 parameter";
        check("include debug", &[], stages, &[(Code::W037, expected)]);
        // What passed before a reload is over.
        let rules = Rules {
            set: Arc::new(RuleSet::parse("include private").unwrap()),
            name: "x".into(),
        };
        assert_eq!(
            RuleMatches::new(&rules, 1, &stages).credentials(&stages),
            None
        );
    }

    #[test]
    fn rules_by_number_get_a_warning_where_there_are_schemas() {
        let rules = Rules {
            set: Arc::new(
                RuleSet::parse(
                    "include debug\n/request_body:$.5.1/ remove\n/response_body:$..(a|3)/ replace /x/, /y/\n\
                     /request_body:$[1].card2/ remove\n/request_header:5/ remove",
                )
                .unwrap(),
            ),
            name: "x".into(),
        };
        let now = stages(7, 7, 0);
        let watch = RuleMatches::new(&rules, 1, &now);
        assert!(watch.warnings(&now).is_empty());
        let warnings = watch.with_schemas(true).warnings(&now);
        let [warning] = warnings.as_slice() else {
            panic!("{warnings:?}");
        };
        assert_eq!(warning.code, Code::W038);
        assert!(warning.what.contains("lines 2, 3 look"), "{warning:?}");
    }

    #[test]
    fn rules_that_drop_everything_get_a_warning() {
        let rules = "/now/ stop\n/request_body/ remove";
        check(rules, &[499, 0], stages(506, 506, 0), &[]);
        check(
            rules,
            &[500, 0],
            stages(507, 507, 0),
            &[(Code::W034, "line 1")],
        );
        check(
            rules,
            &[0, 500],
            stages(507, 507, 500),
            &[(Code::W034, "left nothing")],
        );
        check(
            "/now/ stop_unless /x/",
            &[0],
            stages(507, 507, 0),
            &[(Code::W034, "stop_unless")],
        );
    }
}
