//! The rules: found in the setting or in the file that it names, parsed, and named in one short line.

use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

use engine_core::rules::{self, RuleSet, Verb};

use super::guess::guess;
use super::settings::{RULES, row};
use super::value::Value;
use super::values::Values;
use crate::diagnostic::{Code, Diagnostic, system_words};
use crate::limits::DELEGATE_ANSWER_BYTES_MAX;
use crate::process::is_in_container;

/// The rules, and their name for people.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Parsed.
    pub set: Arc<RuleSet>,
    /// The text in one short line.
    pub name: String,
}

/// How the contents of the file with this path are had.
pub type ReadFile<'a> = &'a dyn Fn(&str) -> io::Result<String>;

/// From the file itself, which may be a pipe: the program is only starting.
pub(super) fn read_file(path: &str) -> io::Result<String> {
    let bytes = bounded(File::open(path)?)?;
    String::from_utf8(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "not UTF-8"))
}

/// What can be read, if it is not too much.
pub fn bounded(from: impl Read) -> io::Result<Vec<u8>> {
    let most = DELEGATE_ANSWER_BYTES_MAX;
    let mut bytes = Vec::new();
    from.take(most as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > most {
        return Err(io::Error::other("too large"));
    }
    Ok(bytes)
}

/// The rules in a value, or those of `default` when there is none.
pub(super) fn rules(
    value: Option<&Value>,
    default: &str,
    read: ReadFile<'_>,
) -> Result<Rules, Diagnostic> {
    let text = value
        .map_or(default, |value| value.text.as_str())
        .to_owned();
    let (text, place) = match rules::file_reference(&text) {
        Some(path) => (read_rules(path, read)?, format!("{path} ")),
        None => (text, String::new()),
    };
    if let Some(value) = value
        && let Some(problem) = path_without_scheme(value)
    {
        return Err(problem);
    }
    let set = RuleSet::parse(&text).map_err(|error| bad_rule(&error, &place))?;
    Ok(Rules {
        set: Arc::new(set),
        name: rules_name(&text, &place),
    })
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
    rules(values.given(row::rules()), RULES, &read_file)
}

/// A path where rules are expected: `/etc/rules.txt`, without `file://`. A rule that starts with a separator has blanks.
fn path_without_scheme(value: &Value) -> Option<Diagnostic> {
    let text = value.text.trim();
    let is_path =
        !text.contains(char::is_whitespace) && (text.starts_with('/') || text.starts_with("./"));
    is_path.then(|| {
        let path = std::fs::canonicalize(text).unwrap_or_else(|_| text.into());
        Diagnostic::new(
            Code::E030,
            format!(
                "{}: this is the path of a file, not a rule",
                value.written()
            ),
        )
        .fix(value.written_with(&format!("file://{}", path.display())))
    })
}

fn read_rules(path: &str, read: ReadFile<'_>) -> Result<String, Diagnostic> {
    read(path).map_err(|error| {
        let is_missing = error.kind() == io::ErrorKind::NotFound;
        let (hint, fix) = match (is_missing, is_in_container()) {
            (true, true) => (
                " (as seen inside the container; is it mounted?)",
                format!("docker run -v /HOST/PATH:{path}:ro ..."),
            ),
            (true, false) => (
                "",
                format!("ls -l {path}    and give its full path: file:///PATH"),
            ),
            (false, _) => ("", format!("ls -l {path}    shows who may read it")),
        };
        Diagnostic::new(
            Code::E032,
            format!("file://{path}: {}{hint}", system_words(&error)),
        )
        .fix(fix)
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
    let fix = match error.class {
        rules::Class::MultipleSample => "keep one `sample` line",
        rules::Class::InvalidSample => {
            "sample 10    keeps 10 % of the calls; any number from 1 to 99"
        }
        rules::Class::InvalidRegex => "correct the expression; `sniffer rules check FILE` tries it",
        rules::Class::UnescapedSeparator => {
            "put a backslash before the separator inside the expression, or use another one: ~ ! % | /"
        }
        rules::Class::InvalidExpression => {
            "end the expression with the separator that it starts with; two expressions need a comma between them"
        }
        rules::Class::File => "sniffer help E030    shows the forms of rules",
        rules::Class::InvalidRule => match meant_word(&error.source) {
            Some((word, meant)) => {
                &format!("{meant} in place of {word}; `sniffer help E030` shows the forms of rules")
            }
            None => "sniffer help E030    shows the forms of rules",
        },
    };
    Diagnostic::new(code, what)
        .cause(format!("{}\n{caret}^", error.source))
        .fix(fix)
}

/// A word of the line that is nearly a verb or `include`, and what is probably meant by it.
fn meant_word(line: &str) -> Option<(&str, &'static str)> {
    let known = || Verb::ALL.into_iter().map(Verb::name).chain(["include"]);
    let mut words = line.split_whitespace();
    words.find_map(|word| {
        let meant = guess(&word.to_ascii_lowercase(), known())?;
        (meant != word).then_some((word, meant))
    })
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

    #[track_caller]
    fn check_fix(rules: &str, code: Code, fix: &str) {
        let problem = capture(&values(&[URL, ("USAGE_LOGGERS_RULES", rules)]), false).unwrap_err();
        assert_eq!(problem.code, code, "{}", problem.what);
        let given = problem.fix.unwrap();
        assert!(given.contains(fix), "{rules}: {given}");
    }

    #[test]
    fn the_fix_fits_the_mistake() {
        check_fix("/a/ remoove", Code::E030, "remove in place of remoove; ");
        check_fix("inclde debug", Code::E030, "include in place of inclde; ");
        check_fix(
            "/request_body/ replac !a!",
            Code::E030,
            "replace in place of replac; ",
        );
        check_fix("/a/ Stop", Code::E030, "stop in place of Stop; ");
        check_fix("/a/ mask", Code::E030, "sniffer help E030 ");
        check_fix("sample 500", Code::E030, "sample 10 ");
        check_fix("sample 10\\nsample 20", Code::E031, "keep one");
        check_fix("/a[/ remove", Code::E030, "correct the expression");
        check_fix(
            "file:///no/such/rules.txt",
            Code::E032,
            "/no/such/rules.txt",
        );
        check_fix(
            "/no/such/rules.txt",
            Code::E030,
            "USAGE_LOGGERS_RULES=file:///no/such/rules.txt",
        );
    }
}
