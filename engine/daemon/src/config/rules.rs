//! The rules: found in the setting or in the file that it names, parsed, and named in one short line.

use std::path::PathBuf;
use std::sync::Arc;

use engine_core::rules::{self, RuleSet};

use super::settings::{RULES, row};
use super::value::Value;
use super::values::Values;
use crate::diagnostic::{Code, Diagnostic, system_words};

/// The rules, and their name for people.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Parsed.
    pub set: Arc<RuleSet>,
    /// The text in one short line.
    pub name: String,
}

/// The rules in a value, or those of `default` when there is none.
pub(super) fn rules(value: Option<&Value>, default: &str) -> Result<Rules, Diagnostic> {
    let text = value
        .map_or(default, |value| value.text.as_str())
        .to_owned();
    let (text, place) = match rules::file_reference(&text) {
        Some(path) => (read_rules(path)?, format!("{path} ")),
        None => (text, String::new()),
    };
    let set = RuleSet::parse(&text).map_err(|error| bad_rule(&error, &place))?;
    Ok(Rules {
        set: Arc::new(set),
        name: rules_name(&text, &place),
    })
}

/// The file that the rules are in, if they are in one.
pub fn rules_file(values: &Values) -> Option<PathBuf> {
    let value = values.given(row::rules())?;
    rules::file_reference(&value.text).map(PathBuf::from)
}

/// Adds the rule that allows plain http to the rules that were given, or to the usual ones; those in a file stay as they
/// are.
pub fn allow_plain_http(values: &mut Values) {
    let given = values.given(row::rules()).map(|value| value.text.clone());
    let text = given.unwrap_or_else(|| RULES.to_owned());
    if rules::file_reference(&text).is_none() {
        values.set(row::rules(), format!("{text}\nallow_http_url"));
    }
}

/// The rules of `sniffer rules check`.
pub fn rules_of(values: &Values) -> Result<Rules, Diagnostic> {
    rules(values.given(row::rules()), RULES)
}

fn read_rules(path: &str) -> Result<String, Diagnostic> {
    std::fs::read_to_string(path).map_err(|error| {
        let hint = if error.kind() == std::io::ErrorKind::NotFound {
            " (as seen inside the container; is it mounted?)"
        } else {
            ""
        };
        Diagnostic::new(
            Code::E032,
            format!("file://{path}: {}{hint}", system_words(&error)),
        )
        .fix(format!("docker run -v /HOST/PATH:{path}:ro ..."))
    })
}

fn bad_rule(error: &rules::Error, place: &str) -> Diagnostic {
    let code = if error.class == rules::Class::MultipleSample {
        Code::E031
    } else {
        Code::E030
    };
    let what = format!(
        "{place}rules line {}, column {}: {}",
        error.line, error.column, error.message
    );
    let caret = " ".repeat(error.column.saturating_sub(1));
    Diagnostic::new(code, what).cause(format!("{}\n{caret}^", error.source)).fix(
        "verbs: remove remove_if remove_if_found remove_unless remove_unless_found replace stop stop_if stop_if_found\n\
         stop_unless stop_unless_found; `sniffer help E030` shows the forms",
    )
}

/// The first line that is no comment, and how many there are.
fn rules_name(text: &str, place: &str) -> String {
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    let more = |count: usize| {
        if count > 0 {
            format!(" + {count} more")
        } else {
            String::new()
        }
    };
    match lines.split_first() {
        None => RULES.to_owned(),
        Some((first, rest)) if first.chars().count() <= 60 => {
            format!("{place}{first}{}", more(rest.len()))
        }
        Some((_, rest)) => format!("{place}{} lines", rest.len() + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::capture;
    use crate::config::tests::{URL, values};

    #[test]
    fn a_bad_rule_is_shown_with_its_place() {
        let problem = capture(
            &values(&[URL, ("USAGE_LOGGERS_RULES", "include debug\\n/a/ remoove")]),
            false,
        )
        .unwrap_err();
        assert_eq!(problem.code, Code::E030);
        assert!(
            problem.what.starts_with("rules line 2, column "),
            "{}",
            problem.what
        );
        assert!(problem.cause.unwrap().starts_with("/a/ remoove\n"));
    }
}
