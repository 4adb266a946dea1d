//! `sniffer rules check`, `test`, `explain` and `apply`: how rules are understood, and what they do to calls and to details given
//! as JSON.
//!
//! All are for authors of rules and their CI: nothing is captured and nothing is sent. The calls of `test` and `explain` come from
//! capture files or from a store.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;

use engine_core::rules::{self, RuleSet, Sampler, Verb, apply_all};
use serde::{Deserialize, Serialize};

use crate::config::command_line::RulesTestFlags;
use crate::config::settings::row;
use crate::config::{self, Rules};
use crate::diagnostic::{Code, Diagnostic, Exit, system_words};
use crate::invocation::Invocation;
use crate::report::rule_matches::by_number;

mod captures;
mod comparison;
mod explanation;
mod stored;
mod text;

use comparison::Form;
use text::write;

/// Credentials that `rules check` names; of further ones it has the number.
const CREDENTIALS_NAMED: usize = 8;

/// `sniffer rules test`.
pub fn compare(flags: &RulesTestFlags, invocation: &Invocation) -> Result<Exit, Diagnostic> {
    tested(flags, Form::Comparison, invocation)
}

/// `sniffer rules explain`.
pub fn explain(flags: &RulesTestFlags, invocation: &Invocation) -> Result<Exit, Diagnostic> {
    tested(flags, Form::Explanation, invocation)
}

fn tested(flags: &RulesTestFlags, form: Form, invocation: &Invocation) -> Result<Exit, Diagnostic> {
    let mut values = invocation.values()?;
    flags.settings.apply(&mut values);
    if flags.files.is_empty() {
        let rules = config::rules_of(&values)?;
        return stored::run(&rules, form, flags, invocation);
    }
    let reading = config::reading(&values)?;
    captures::run(reading, form, flags, invocation.console)
}

/// Parses the rules of a file, of standard input (`-`), or the text itself, and shows how they are understood. Without
/// an argument these are the rules of the environment.
pub fn check(argument: Option<&str>, invocation: &Invocation) -> Result<Exit, Diagnostic> {
    let (mut values, console) = (invocation.values()?, invocation.console);
    if let Some(argument) = argument {
        values.set(row::rules(), text_of(argument)?);
    }
    let rules = config::rules_of(&values)?;
    let mut text = meanings(&rules);
    if let Some(url) = values.given(row::url())
        && url.text.trim().starts_with("http://")
        && !rules.set.allow_http_url()
    {
        let gate = Diagnostic::new(
            Code::E041,
            format!(
                "{} is plain http, and no rule says allow_http_url: nothing would be sent",
                url.text.trim()
            ),
        );
        console.report(&gate);
        text.push_str("nothing would be sent to a plain http:// URL\n");
    }
    let advice = rules.set.advice();
    for advice in &advice {
        console.report(&Diagnostic::new(
            Code::W035,
            format!("line {}: {}", advice.line, advice.text),
        ));
    }
    if let Some(passed) = credentials_passed(&rules.set) {
        console.report(&passed);
    }
    if values.given(row::protobuf_descriptors()).is_some()
        && let Some(numbered) = by_number(&rules.set)
    {
        console.report(&numbered);
    }
    write(&text)?;
    Ok(Exit::Done)
}

/// The credentials that leave as they are, if any do.
fn credentials_passed(rules: &RuleSet) -> Option<Diagnostic> {
    let passed = rules.credentials_passed();
    let named: Vec<&str> = passed
        .iter()
        .take(CREDENTIALS_NAMED)
        .map(String::as_str)
        .collect();
    (!passed.is_empty()).then(|| {
        let more = passed.len().saturating_sub(named.len());
        let others = if more > 0 {
            format!(" and {more} others")
        } else {
            String::new()
        };
        let what = format!("credentials pass as they are: {}{others}", named.join(", "));
        Diagnostic::new(Code::W037, what).fix("include private    as a further line hides them")
    })
}

/// A file, `-`, or rule text.
fn text_of(argument: &str) -> Result<String, Diagnostic> {
    if argument == "-" {
        let mut text = String::new();
        let read = std::io::stdin().lock().read_to_string(&mut text);
        read.map_err(|error| unreadable("standard input", &error))?;
        return Ok(text);
    }
    // A rule such as `/a/stop` looks like a path; it is one if there is such a file.
    let is_text = argument.contains(char::is_whitespace)
        || argument.starts_with("file://")
        || RuleSet::parse(argument).is_ok();
    Ok(if Path::new(argument).is_file() || !is_text {
        format!("file://{argument}")
    } else {
        argument.to_owned()
    })
}

fn unreadable(what: &str, error: &std::io::Error) -> Diagnostic {
    Diagnostic::new(Code::E032, format!("{what}: {}", system_words(error)))
}

/// The set in the order in which it is applied.
fn meanings(rules: &Rules) -> String {
    let set = &rules.set;
    let mut text = format!("rules are valid: {}\n", rules.name);
    let mut line = |number: String, what: &str, source: &str| {
        text.push_str(format!("  {number:>8}  {what:<44}  {source}").trim_end());
        text.push('\n');
    };
    for rule in set.rules() {
        let number = format!("line {}", rule.line);
        line(number, &meaning(rule), &rule.shown());
    }
    if set.session_rules() > 0 {
        let what = format!("{} copy_session_field", set.session_rules());
        line(String::new(), &what, "cookies become session_field:NAME");
    }
    if let Some(percent) = set.sample() {
        line(
            String::new(),
            &format!("sample {percent}"),
            &format!("keeps {percent} % of calls"),
        );
    }
    let flags = [
        (
            set.allow_http_url(),
            "allow_http_url",
            "calls may go to a plain http:// URL",
        ),
        (
            !set.allow_http_url(),
            "no allow_http_url",
            "calls go to https:// URLs only",
        ),
        (
            set.skip_compression(),
            "skip_compression",
            "bundles are not compressed",
        ),
        (set.skip_submission(), "skip_submission", "nothing is sent"),
    ];
    for (_, what, means) in flags.iter().filter(|(holds, ..)| *holds) {
        line(String::new(), what, means);
    }
    text
}

fn meaning(rule: &rules::Rule) -> String {
    let what = match rule.verb() {
        Verb::Stop => "drops calls that have it",
        Verb::StopIf => "drops calls where it matches",
        Verb::StopIfFound => "drops calls where it contains",
        Verb::StopUnless => "drops calls unless it matches once",
        Verb::StopUnlessFound => "drops calls unless it contains once",
        Verb::Remove => "removes it",
        Verb::RemoveIf => "removes it where it matches",
        Verb::RemoveIfFound => "removes it where it contains",
        Verb::RemoveUnless => "removes it unless it matches",
        Verb::RemoveUnlessFound => "removes it unless it contains",
        Verb::Replace => "replaces what is found in it",
        other => other.name(),
    };
    let inside = if rule.looks_inside() {
        " (inside the body)"
    } else {
        ""
    };
    format!("{what}{inside}")
}

/// One line of `rules apply`.
#[derive(Deserialize)]
struct Task {
    #[serde(default)]
    rules: String,
    #[serde(default)]
    details: Vec<(String, String)>,
}

/// Why a line has no result.
#[derive(Serialize)]
struct Refusal<'a> {
    error: &'a str,
    message: String,
    line: usize,
    column: usize,
}

/// For each line of standard input, `{"rules": TEXT, "details": [[KEY, VALUE], ...]}`, one line of standard output: the
/// details that are left, `null` when the call is dropped, or an object with `error`. Ends at the end of the input.
pub fn apply() -> Result<Exit, Diagnostic> {
    let mut input = BufReader::new(std::io::stdin().lock());
    let mut output = std::io::BufWriter::new(std::io::stdout().lock());
    let mut last: Option<(String, RuleSet)> = None;
    let mut sampler = Sampler::new(1);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = input.read_until(b'\n', &mut line);
        if read.map_err(|error| unreadable("standard input", &error))? == 0 {
            break;
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        let mut answer = apply_line(&line, &mut last, &mut sampler);
        answer.push('\n');
        if output.write_all(answer.as_bytes()).is_err() {
            // A closed pipe: the reader has seen enough.
            return Ok(Exit::Done);
        }
        // A peer that waits for this answer before it sends the next line gets it.
        if input.buffer().is_empty() && output.flush().is_err() {
            return Ok(Exit::Done);
        }
    }
    // As above.
    let _ = output.flush();
    Ok(Exit::Done)
}

fn apply_line(line: &[u8], last: &mut Option<(String, RuleSet)>, sampler: &mut Sampler) -> String {
    let task: Task = match serde_json::from_slice(line) {
        Ok(task) => task,
        Err(error) => {
            let refusal = Refusal {
                error: "invalid_input",
                message: format!(
                    "not a line of this form: {{\"rules\": TEXT, \"details\": [[KEY, VALUE], ...]}}: {error}"
                ),
                line: error.line(),
                column: error.column(),
            };
            return json(&refusal);
        }
    };
    let rules = match last {
        Some((text, rules)) if *text == task.rules => rules,
        _ => match parse(&task.rules) {
            Ok(rules) => &last.insert((task.rules, rules)).1,
            Err(error) => {
                let refusal = Refusal {
                    error: error.class.name(),
                    message: error.message,
                    line: error.line,
                    column: error.column,
                };
                return json(&refusal);
            }
        },
    };
    let details: Vec<(String, Vec<u8>)> = task
        .details
        .into_iter()
        .map(|(key, value)| (key, value.into_bytes()))
        .collect();
    let left = apply_all(rules, &details, sampler).map(|left| {
        let text = |value: Vec<u8>| String::from_utf8_lossy(&value).into_owned();
        left.into_iter()
            .map(|(key, value)| (key, text(value)))
            .collect::<Vec<_>>()
    });
    json(&left)
}

/// Rule text as in the settings: it may name a file.
fn parse(text: &str) -> Result<RuleSet, rules::Error> {
    match rules::file_reference(text) {
        None => RuleSet::parse(text),
        Some(path) => match std::fs::read_to_string(path) {
            Ok(text) => RuleSet::parse(&text),
            Err(error) => Err(rules::Error::file(path, &system_words(&error))),
        },
    }
}

fn json(value: &impl Serialize) -> String {
    // Strings, numbers and lists of them always have a JSON form.
    serde_json::to_string(value).unwrap_or_default()
}
