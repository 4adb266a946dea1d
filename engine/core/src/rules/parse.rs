//! The parser of rule text. An error has its place and its fix.
//!
//! Source: `docs/contract.md`, sections 4.1 to 4.3 and 4.6. The grammar of a line is kept as the regular expressions that
//! the reference loggers use, because greedy matching is part of the contract: an expression extends to the last
//! separator with which the line still parses.

use std::fmt;

use regex::{Captures, Regex};

use super::path::{self, Path};
use super::pattern::Pattern;
use super::presets;
use super::replacement::Replacement;
use super::set::{Action, Rule, RuleSet};
use super::verb::{Form, Verb};
use crate::limits::{RULES_COMPILED_BYTES_MAX, RULES_MAX};

/// Why rule text is refused (`docs/contract.md`, section 4.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A line is not a rule.
    InvalidRule,
    /// An expression is not a pattern.
    InvalidRegex,
    /// A separator inside an expression has no backslash.
    UnescapedSeparator,
    /// An expression does not end with the separator that it began with.
    InvalidExpression,
    /// A percentage outside 1 to 99.
    InvalidSample,
    /// More than one sample rule.
    MultipleSample,
    /// The file that the text names cannot be read.
    File,
}

impl Class {
    /// As the contract names it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::InvalidRule => "invalid_rule",
            Self::InvalidRegex => "invalid_regex",
            Self::UnescapedSeparator => "unescaped_separator",
            Self::InvalidExpression => "invalid_expression",
            Self::InvalidSample => "invalid_sample",
            Self::MultipleSample => "multiple_sample",
            Self::File => "file",
        }
    }
}

/// Why rule text was refused. One error refuses the whole set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The kind.
    pub class: Class,
    /// Line of the text, from 1.
    pub line: usize,
    /// Character of the line, from 1.
    pub column: usize,
    /// What is wrong and how to put it right; one sentence or two.
    pub message: String,
    /// The line itself, for a display with a caret under `column`.
    pub source: String,
}

impl Error {
    /// The file that `file://` names cannot be read; `why` is the system's reason.
    pub fn file(path: &str, why: &dyn fmt::Display) -> Self {
        Self {
            class: Class::File,
            line: 1,
            column: 1,
            message: format!("failed to load rules: {path}: {why}"),
            source: format!("file://{path}"),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} (line {}, column {})",
            self.message, self.line, self.column
        )
    }
}

impl std::error::Error for Error {}

/// The path, if the text is only a reference to a file: `file://` at its very start, the rest trimmed.
pub fn file_reference(text: &str) -> Option<&str> {
    text.strip_prefix("file://").map(str::trim)
}

/// White space of the rules language: ASCII, without the vertical tab.
const SPACE: [char; 5] = [' ', '\t', '\n', '\r', '\x0C'];

impl RuleSet {
    /// Reads rule text; blank text is the default set, which is strict. The first error refuses all of it.
    pub fn parse(text: &str) -> Result<Self, Error> {
        Self::parse_within(text, RULES_COMPILED_BYTES_MAX)
    }

    /// As [`Self::parse`], with at most `bytes` bytes of memory for the compiled patterns.
    pub fn parse_within(text: &str, bytes: usize) -> Result<Self, Error> {
        let mut parser = Parser {
            bytes_max: bytes,
            ..Parser::default()
        };
        if text.trim().is_empty() {
            parser.preset(presets::STRICT, 1)?;
        }
        for (index, line) in text.split('\n').enumerate() {
            parser.line(line.strip_suffix('\r').unwrap_or(line), index + 1)?;
        }
        Ok(parser.set.ordered())
    }
}

#[derive(Default)]
struct Parser {
    set: RuleSet,
    /// Compiled when a line first needs it: most texts use few verbs.
    grammar: [Option<Regex>; Verb::ALL.len()],
    /// Bytes of memory of the patterns so far.
    bytes: usize,
    bytes_max: usize,
}

/// A refusal before its line is known: class, byte offset in the text that was read, message.
struct Refusal(Class, usize, String);

impl Refusal {
    /// Of `line`, the text that was read being what is behind its first `from` bytes.
    fn at(self, line: &str, from: usize, number: usize) -> Error {
        let Self(class, offset, message) = self;
        let before = line.get(..from + offset);
        Error {
            class,
            line: number,
            column: before.map_or(0, |before| before.chars().count()) + 1,
            message,
            source: line.to_owned(),
        }
    }
}

impl Parser {
    fn preset(&mut self, lines: &str, number: usize) -> Result<(), Error> {
        let from = self.set.rules.len();
        for line in lines.lines() {
            self.line(line, number)?;
        }
        let included = self.set.rules.iter_mut().skip(from);
        included.for_each(|rule| rule.included = true);
        Ok(())
    }

    /// Parses `line`, which may begin with any number of includes.
    fn line(&mut self, line: &str, number: usize) -> Result<(), Error> {
        let mut from = 0;
        loop {
            let text = line.get(from..).unwrap_or_default();
            let content = text.trim_start_matches(SPACE);
            if content.is_empty() || content.starts_with('#') {
                return Ok(());
            }
            let Some((lines, rest)) = include(content) else {
                return self
                    .rule(text, number)
                    .map_err(|refusal| refusal.at(line, from, number));
            };
            self.preset(lines, number)?;
            from = line.len() - rest.len();
        }
    }

    fn rule(&mut self, line: &str, number: usize) -> Result<(), Refusal> {
        for (verb, grammar) in Verb::ALL.into_iter().zip(&mut self.grammar) {
            if !line.contains(verb.name()) {
                continue;
            }
            let grammar = grammar.get_or_insert_with(|| shape(verb));
            if let Some(groups) = grammar.captures(line) {
                self.bytes += build(&mut self.set, verb, &groups, line, number)?;
                if self.set.rules.len() + self.set.session.len() > RULES_MAX {
                    let message = format!("there are more than {RULES_MAX} rules");
                    return Err(Refusal(Class::InvalidRule, 0, message));
                }
                if self.bytes > self.bytes_max {
                    let mib = self.bytes_max >> 20;
                    let message = format!(
                        "the patterns up to here take more than {mib} MiB of memory: give their repetitions smaller bounds"
                    );
                    return Err(Refusal(Class::InvalidRegex, 0, message));
                }
                return Ok(());
            }
        }
        Err(not_a_rule(line))
    }
}

/// The lines of the set that `content` includes, and the rest of its line (D2: `include NAME`, then white space or the
/// end).
fn include(content: &str) -> Option<(&'static str, &str)> {
    let rest = content.strip_prefix("include ")?;
    let end = rest.find(SPACE).unwrap_or(rest.len());
    let (name, rest) = rest.split_at_checked(end)?;
    Some((presets::named(name)?, rest))
}

/// The grammar of one verb's lines (`docs/contract.md`, section 4.2).
fn shape(verb: Verb) -> Regex {
    const S: &str = r"[ \t\n\x0C\r]";
    const E: &str = "([~!%|/].+[~!%|/])";
    let name = verb.name();
    let body = match verb.form() {
        Form::Flag => name.to_owned(),
        Form::Session => format!("{name}{S}+{E}"),
        Form::One => format!("{E}{S}*{name}"),
        Form::Two => format!("{E}{S}*{name}{S}+{E}"),
        Form::Replace => format!("{E}{S}*{name}{S}+{E},{S}+([~!%|/].*[~!%|/])"),
        Form::Sample => format!("{name}{S}+([0-9]+)"),
    };
    #[expect(
        clippy::expect_used,
        reason = "sixteen constant patterns; a test compiles each"
    )]
    Regex::new(&format!("^{S}*{body}{S}*(?:#.*)?$")).expect("the grammar compiles")
}

/// Adds what a line is to the set; the bytes of memory that its patterns take.
fn build(
    set: &mut RuleSet,
    verb: Verb,
    groups: &Captures<'_>,
    line: &str,
    number: usize,
) -> Result<usize, Refusal> {
    let mut bytes = 0;
    match verb.form() {
        Form::Flag => set_flag(set, verb),
        Form::Sample => {
            let percent = sample(groups)?;
            if set.sample.is_some() {
                let message =
                    "multiple sample rules: one applies to all calls, so keep one".to_owned();
                return Err(Refusal(Class::MultipleSample, start(groups, 1), message));
            }
            set.sample = Some(percent);
        }
        Form::Session => {
            let name = pattern(groups, 1, false)?;
            bytes = name.memory();
            set.session.push(name);
        }
        Form::One | Form::Two | Form::Replace => {
            let (scope, path) = scope(verb, groups)?;
            let action = action(verb, groups)?;
            let pattern = action.pattern().map_or(0, Pattern::memory);
            bytes = scope.memory().saturating_add(pattern);
            set.rules.push(Rule {
                verb,
                scope,
                path,
                action,
                included: false,
                line: number,
                source: line.trim_matches(SPACE).into(),
            });
        }
    }
    Ok(bytes)
}

fn set_flag(set: &mut RuleSet, verb: Verb) {
    match verb {
        Verb::AllowHttpUrl => set.allow_http_url = true,
        Verb::SkipCompression => set.skip_compression = true,
        _ => set.skip_submission = true,
    }
}

/// The scope of a rule, and the path behind it if there is one.
fn scope(verb: Verb, groups: &Captures<'_>) -> Result<(Pattern, Option<Path>), Refusal> {
    let text = expression(groups, 1, false)?;
    let refuse = |offset: usize, why: String| {
        let message = format!("invalid path in a scope: {why}");
        Refusal(
            Class::InvalidExpression,
            start(groups, 1) + 1 + offset,
            message,
        )
    };
    match path::split(&text) {
        Ok(None) => Ok((pattern(groups, 1, false)?, None)),
        Ok(Some((body, path))) if verb.rank() >= Verb::Remove.rank() => {
            let body = Pattern::matching(&format!("({body})")).map_err(|why| refuse(0, why))?;
            Ok((body, Some(path)))
        }
        Ok(Some(_)) => Err(refuse(
            0,
            format!(
                "a path goes with remove and replace rules; {} takes whole details",
                verb.name()
            ),
        )),
        Err((offset, why)) => Err(refuse(offset, why)),
    }
}

fn action(verb: Verb, groups: &Captures<'_>) -> Result<Action, Refusal> {
    Ok(match verb.form() {
        Form::Two => Action::Test(pattern(groups, 2, verb.finds())?),
        Form::Replace => {
            let find = pattern(groups, 2, true)?;
            let with = Replacement::new(&expression(groups, 3, true)?, &find.groups());
            Action::Replace { find, with }
        }
        _ => Action::Always,
    })
}

fn start(groups: &Captures<'_>, group: usize) -> usize {
    groups.get(group).map_or(0, |found| found.start())
}

fn sample(groups: &Captures<'_>) -> Result<u8, Refusal> {
    let digits = groups.get(1).map_or("", |found| found.as_str());
    match digits.parse::<u8>() {
        Ok(percent @ 1..=99) => Ok(percent),
        _ => {
            let message = format!("invalid sample percent: {digits}; it is a number from 1 to 99");
            Err(Refusal(Class::InvalidSample, start(groups, 1), message))
        }
    }
}

fn pattern(groups: &Captures<'_>, group: usize, finds: bool) -> Result<Pattern, Refusal> {
    let text = expression(groups, group, false)?;
    let built = if finds {
        Pattern::finding(&text)
    } else {
        Pattern::matching(&text)
    };
    built.map_err(|why| {
        let written = groups.get(group).map_or("", |found| found.as_str());
        Refusal(
            Class::InvalidRegex,
            start(groups, group),
            format!("invalid regex ({written}): {why}"),
        )
    })
}

/// The text between the separators of an expression, with its escaped separators unescaped (`docs/contract.md`,
/// section 4.3).
fn expression(groups: &Captures<'_>, group: usize, may_be_empty: bool) -> Result<String, Refusal> {
    let Some(found) = groups.get(group) else {
        return Ok(String::new());
    };
    let text = found.as_str();
    let mut inner = text.chars();
    let separator = inner.next().unwrap_or_default();
    if inner.next_back() != Some(separator) || (inner.as_str().is_empty() && !may_be_empty) {
        let message = format!(
            "invalid expression ({text}): it begins with {separator} and has to end with it"
        );
        return Err(Refusal(Class::InvalidExpression, found.start(), message));
    }
    let inner = inner.as_str();
    let bare = inner.match_indices(separator).map(|(at, _)| at).find(|at| {
        !inner
            .get(..*at)
            .is_some_and(|before| before.ends_with('\\'))
    });
    if let Some(at) = bare {
        let message = format!(
            "unescaped separator ({separator}): write \\{separator} inside {text}, or use another separator (one of ~ ! % | /)"
        );
        return Err(Refusal(
            Class::UnescapedSeparator,
            found.start() + separator.len_utf8() + at,
            message,
        ));
    }
    Ok(inner.replace(&format!("\\{separator}"), &separator.to_string()))
}

/// Why the line matches no verb, as far as that can be determined.
fn not_a_rule(line: &str) -> Refusal {
    let content = line.trim_start_matches(SPACE);
    let offset = line.len() - content.len();
    let refuse = |offset, message: String| {
        Refusal(
            Class::InvalidRule,
            offset,
            format!("invalid rule: {message}"),
        )
    };
    if content.starts_with("file://") {
        return refuse(
            offset,
            "file:// has to be the very start of the whole text".to_owned(),
        );
    }
    if content.starts_with("include") {
        let message = "the sets are `include default`, `include strict`, `include standard`, `include debug` and `include private`";
        return refuse(offset, message.to_owned());
    }
    if content.starts_with(|c: char| c.is_whitespace() || c == '\u{feff}') {
        let message = "it begins with a blank that is not ASCII (a byte order mark or no-break space); remove it";
        return refuse(offset, message.to_owned());
    }
    let words = || content.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    if let Some(verb) = Verb::ALL
        .into_iter()
        .rev()
        .find(|verb| words().any(|word| word == verb.name()))
    {
        let at = content.rfind(verb.name()).unwrap_or_default();
        return refuse(
            offset + at,
            format!("{} is written {}", verb.name(), usage(verb)),
        );
    }
    if let Some(verb) = Verb::ALL
        .into_iter()
        .find(|verb| words().any(|word| word.eq_ignore_ascii_case(verb.name())))
    {
        return refuse(offset, format!("verbs are lower-case: {}", verb.name()));
    }
    let names: Vec<_> = Verb::ALL.into_iter().map(Verb::name).collect();
    refuse(
        offset,
        format!("no verb is in it; the verbs are {}", names.join(", ")),
    )
}

fn usage(verb: Verb) -> String {
    let name = verb.name();
    match verb.form() {
        Form::Flag => format!("`{name}`, alone on its line"),
        Form::Session => format!("`{name} /NAME/`"),
        Form::One => format!("`/SCOPE/ {name}`"),
        Form::Two => format!("`/SCOPE/ {name} /TEXT/`"),
        Form::Replace => {
            format!("`/SCOPE/ {name} /TEXT/, /NEW TEXT/`, with the comma and a blank behind it")
        }
        Form::Sample => format!("`{name} 10`: a whole number from 1 to 99"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, class: Class, line: usize, column: usize) {
        let error = RuleSet::parse(text).expect_err("it is refused");
        assert_eq!(
            (error.class, error.line, error.column),
            (class, line, column),
            "{error}"
        );
    }

    #[test]
    fn errors_name_their_place() {
        check(
            "allow_http_url\n  /a/b/ remove",
            Class::UnescapedSeparator,
            2,
            5,
        );
        check("/é/ remove_if /(/", Class::InvalidRegex, 1, 15);
        check("include debug /a! stop", Class::InvalidExpression, 1, 15);
        check("# x\r\nsample 100", Class::InvalidSample, 2, 8);
        check("sample 99999999999", Class::InvalidSample, 1, 8);
        check("sample 1\nsample 2", Class::MultipleSample, 2, 8);
        check("  /a/ REMOVE", Class::InvalidRule, 1, 3);
        check("/a/ replace /b/ /c/", Class::InvalidRule, 1, 5);
        check("include paranoid", Class::InvalidRule, 1, 1);
        check("\nfile:///etc/rules", Class::InvalidRule, 2, 1);
    }

    #[test]
    fn the_grammar_compiles() {
        for verb in Verb::ALL {
            shape(verb);
        }
    }

    #[test]
    fn a_file_is_named_only_at_the_very_start() {
        assert_eq!(file_reference("file:// /etc/rules \n"), Some("/etc/rules"));
        assert_eq!(file_reference(" file:///etc/rules"), None);
    }

    #[test]
    fn flags_and_samples_are_kept() {
        let set = RuleSet::parse("include debug sample 5\nskip_compression # x\nskip_submission")
            .unwrap();
        assert!(set.allow_http_url() && set.skip_compression() && set.skip_submission());
        assert_eq!(
            (set.sample, set.session.len(), set.rules().len()),
            (Some(5), 1, 0)
        );
        let set = RuleSet::parse(" \n\t").unwrap();
        assert!(!set.allow_http_url());
        assert_eq!(set.rules().len(), 2);
        assert_eq!(RuleSet::parse("# nothing").unwrap().rules().len(), 0);
    }
}
