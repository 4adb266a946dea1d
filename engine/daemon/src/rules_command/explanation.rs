//! Which rule does what to a call: each rule by itself, in the order in which rules are applied.

use std::sync::Arc;

use engine_core::rules::{Rule, RuleSet, Verb, Verdict};

use super::text::cut;
use crate::printer::printable;
use crate::rule_trial::{Detail, Trial};

/// Characters of a key that are shown.
const KEY_COLUMNS: usize = 80;

/// The rules of a set, one by one.
pub(super) struct Explanation(Vec<Single>);

/// A rule set of one rule.
struct Single {
    line: usize,
    verb: Verb,
    trial: Trial,
}

impl Explanation {
    pub(super) fn new(rules: &RuleSet) -> Self {
        let single = |rule: &Rule| {
            let alone = RuleSet::parse(rule.source());
            // A rule of a set is a valid set by itself.
            debug_assert!(alone.is_ok(), "{}", rule.source());
            Some(Single {
                line: rule.line,
                verb: rule.verb(),
                trial: Trial::new(Arc::new(alone.ok()?)),
            })
        };
        Self(rules.rules().iter().filter_map(single).collect())
    }

    /// A line for each detail and each rule that does something to it, beside what all rules left.
    pub(super) fn lines(&mut self, before: &[Detail], after: Option<&[Detail]>) -> Vec<String> {
        let (mut stops, mut lines) = (Vec::new(), Vec::new());
        let mut left = before.to_vec();
        for rule in &mut self.0 {
            if rule.is_stop() {
                stops.extend(rule.stops(before));
            } else {
                left = rule.left_of(left, &mut lines);
            }
        }
        if !stops.is_empty() {
            return stops;
        }
        left.retain(|(_, value)| !value.is_empty());
        let Some(after) = after else {
            lines.push(if left.is_empty() {
                "nothing is left of it".to_owned()
            } else {
                "left out: by `sample`, or since a rule asks about what was not captured".to_owned()
            });
            return lines;
        };
        // Only these are made by rules.
        let is_made = |(key, _): &&Detail| {
            key.starts_with("session_field:") && !before.iter().any(|(other, _)| other == key)
        };
        for (key, value) in after.iter().filter(is_made) {
            lines.push(line("", "adds", key, value));
        }
        if !after.iter().filter(|detail| !is_made(detail)).eq(&left) {
            lines.push(
                "what is left differs from that: a piece was not captured, or a body could not be read"
                    .to_owned(),
            );
        }
        if lines.is_empty() {
            lines.push("no rule does anything to it".to_owned());
        }
        lines
    }
}

impl Single {
    fn is_stop(&self) -> bool {
        matches!(
            self.verb,
            Verb::Stop
                | Verb::StopIf
                | Verb::StopIfFound
                | Verb::StopUnless
                | Verb::StopUnlessFound
        )
    }

    /// Why it stops the call, if it does.
    fn stops(&mut self, details: &[Detail]) -> Vec<String> {
        let number = format!("line {}", self.line);
        if self.trial.apply(details).verdict != Verdict::Stopped {
            return Vec::new();
        }
        if matches!(self.verb, Verb::StopUnless | Verb::StopUnlessFound) {
            return vec![line(&number, "stops", "no detail is as it asks", "")];
        }
        let details = details.iter();
        let matching = details.filter(|detail| {
            let alone = std::slice::from_ref(*detail);
            self.trial.apply(alone).verdict == Verdict::Stopped
        });
        matching
            .map(|(key, value)| line(&number, "stops", key, value))
            .collect()
    }

    /// What it leaves of details, with a line for each that it removes or changes.
    fn left_of(&mut self, details: Vec<Detail>, lines: &mut Vec<String>) -> Vec<Detail> {
        let number = format!("line {}", self.line);
        let left = self.trial.apply(&details).left;
        let mut kept = Vec::with_capacity(details.len());
        for ((key, value), left) in details.into_iter().zip(left) {
            match left {
                None => lines.push(line(&number, "removes", &key, &value)),
                Some(text) => {
                    if text != value {
                        let same = value.chars().zip(text.chars());
                        let same = same.take_while(|(a, b)| a == b).count();
                        lines.push(line_at(&number, "changes", &key, &value, same));
                        lines.push(line_at("", "into", "", &text, same));
                    }
                    kept.push((key, text));
                }
            }
        }
        kept
    }
}

fn line(rule: &str, action: &str, key: &str, value: &str) -> String {
    line_at(rule, action, key, value, 0)
}

/// The value is shown around a difference.
fn line_at(rule: &str, action: &str, key: &str, value: &str, difference: usize) -> String {
    let key = printable(key, KEY_COLUMNS);
    let value = cut(value, difference);
    format!("{rule:<9} {action:<8} {key:<32} {value}")
        .trim_end()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: [(&str, &str); 4] = [
        ("request_url", "http://shop/pay"),
        ("request_header:cookie", "a=1"),
        ("request_body", r#"{"card": "4111", "pin": "77"}"#),
        ("response_code", "201"),
    ];

    fn details(pairs: &[(&str, &str)]) -> Vec<Detail> {
        let pairs = pairs.iter();
        pairs
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn explained(rules: &str, after: Option<&[(&str, &str)]>) -> Vec<String> {
        let rules = RuleSet::parse(rules).unwrap();
        let after = after.map(details);
        let lines = Explanation::new(&rules).lines(&details(&CALL), after.as_deref());
        let words = |line: &String| line.split_whitespace().collect::<Vec<_>>().join(" ");
        lines.iter().map(words).collect()
    }

    #[test]
    fn each_rule_is_beside_what_it_does() {
        let rules = "/request_body/ replace /[0-9]{4}/, /#/\n/request_body:$.pin/ remove\n/.*cookie/ remove";
        let left = r##"{"card": "#"}"##;
        let after = [CALL[0], ("request_body", left), CALL[3]];
        let lines = explained(rules, Some(&after));
        let expected = [
            "line 3 removes request_header:cookie a=1",
            r#"line 2 changes request_body {"card": "4111", "pin": "77"}"#,
            r#"into {"card": "4111"}"#,
            r#"line 1 changes request_body {"card": "4111"}"#,
            r##"into {"card": "#"}"##,
        ];
        assert_eq!(lines.len(), expected.len(), "{lines:#?}");
        for expected in expected {
            assert!(
                lines.iter().any(|line| line == expected),
                "{expected}: {lines:#?}"
            );
        }
    }

    #[test]
    fn a_stopped_call_has_the_rules_that_stop_it() {
        let rules = "/request_url/ stop_if_found /pay/\n/.*cookie/ remove\n/response_code/ stop_unless /200/";
        let expected = [
            "line 1 stops request_url http://shop/pay",
            "line 3 stops no detail is as it asks",
        ];
        assert_eq!(explained(rules, None), expected);
    }

    #[test]
    fn what_no_rule_does_is_stated() {
        assert_eq!(
            explained("/x/ remove", Some(&CALL)),
            ["no rule does anything to it"]
        );
        assert_eq!(
            explained("/.*/ remove", None).last().unwrap(),
            "nothing is left of it"
        );
        let withheld = explained("/x/ remove", Some(&CALL[..2]));
        assert!(withheld[0].contains("could not be read"), "{withheld:?}");
        let made = [&CALL[..], &[("session_field:a", "1")]].concat();
        assert_eq!(
            explained("/x/ remove", Some(&made)),
            ["adds session_field:a 1"]
        );
    }

    #[test]
    fn every_rule_of_the_predefined_sets_stands_by_itself() {
        for set in ["default", "standard", "strict", "debug", "private"] {
            let rules = RuleSet::parse(&format!("include {set}")).unwrap();
            assert_eq!(
                Explanation::new(&rules).0.len(),
                rules.rules().len(),
                "{set}"
            );
        }
    }
}
