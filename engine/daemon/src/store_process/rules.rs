//! The rules language for the page of the store: rules that are tried on stored calls.

use std::sync::Arc;

use engine_core::rules::{Error, RuleSet, Verdict, file_reference};
use store::limits::{TRIAL_COMPILED_BYTES_MAX, TRIAL_STATES_BYTES_MAX};
use store::rules::{Outcome, Rules, RulesError, Trial, Tried, TriedRule};

use crate::rule_trial;

/// The language of this program.
#[derive(Debug)]
pub(super) struct Language;

impl Rules for Language {
    fn parse(&self, text: &str) -> Result<Box<dyn Trial>, RulesError> {
        // Whoever has the token of the page must not read files of this machine by it.
        if file_reference(text.trim_start()).is_some() {
            return Err(refused(Error::file("", &"the page reads no file")));
        }
        let rules = RuleSet::parse_within(text, TRIAL_COMPILED_BYTES_MAX).map_err(refused)?;
        let trial = rule_trial::Trial::within(Arc::new(rules), TRIAL_STATES_BYTES_MAX);
        Ok(Box::new(Trying(trial)))
    }
}

fn refused(error: Error) -> RulesError {
    RulesError {
        message: error.message,
        line: error.line,
        column: error.column,
        source: error.source,
    }
}

struct Trying(rule_trial::Trial);

impl Trial for Trying {
    fn apply(&mut self, details: &[(String, String)]) -> Tried {
        let rule_trial::Tried { verdict, left } = self.0.apply(details);
        let outcome = match verdict {
            Verdict::Kept => Outcome::Kept,
            Verdict::Sampled => Outcome::Sampled,
            Verdict::Emptied => Outcome::Emptied,
            Verdict::Stopped => Outcome::Stopped,
        };
        Tried { outcome, left }
    }

    fn rules(&self) -> Vec<TriedRule> {
        let rules = self.0.rules().rules().iter().zip(self.0.matches());
        let tried = rules.map(|(rule, hits)| TriedRule {
            line: rule.line,
            rule: rule.shown(),
            hits,
        });
        tried.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn details(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        let pairs = pairs.iter();
        pairs
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn rules_do_to_a_stored_call_what_they_do_to_a_captured_one() {
        let rules = "/request_header:cookie/ remove\n/request_body/ replace /[0-9]{4}/, /x/\n/request_url/ stop_if /.*health.*/";
        let mut trial = Language.parse(rules).unwrap();
        let mut apply = |url: &str| {
            let call = details(&[
                ("request_url", url),
                ("request_header:cookie", "a=1"),
                ("request_body", "pin 1234"),
                ("custom_field:connection_id", "1234"),
                ("host", "1234"),
            ]);
            trial.apply(&call)
        };
        let kept = apply("http://shop/");
        assert_eq!(kept.outcome, Outcome::Kept);
        let left: Vec<Option<&str>> = kept.left.iter().map(Option::as_deref).collect();
        let expected = [
            Some("http://shop/"),
            None,
            Some("pin x"),
            Some("1234"),
            Some("1234"),
        ];
        assert_eq!(left, expected);
        assert_eq!(apply("http://shop/health").outcome, Outcome::Stopped);
        let mut rules: Vec<(usize, u64)> = trial
            .rules()
            .iter()
            .map(|rule| (rule.line, rule.hits))
            .collect();
        rules.sort_unstable();
        assert_eq!(rules, [(1, 2), (2, 2), (3, 1)]);
    }

    #[test]
    fn rules_that_need_much_memory_are_refused() {
        let rules: String = (0..200)
            .map(|number| format!("/request_body/ remove_if_found /{number}\\pL{{30}}/\n"))
            .collect();
        let error = Language.parse(&rules).err().unwrap();
        assert!(error.message.contains("8 MiB"), "{error:?}");
    }

    #[test]
    fn an_error_has_its_place_and_no_file_is_read() {
        let error = Language.parse("# one\n/a/ remvoe").err().unwrap();
        assert_eq!((error.line, error.source.as_str()), (2, "/a/ remvoe"));
        for text in ["file:///etc/passwd", "  file:///etc/passwd"] {
            let error = Language.parse(text).err().unwrap();
            assert!(error.message.contains("reads no file"), "{error:?}");
        }
    }
}
