//! Compiled patterns of rules, with the meaning that Go's `regexp` (RE2) gives their text.
//!
//! Source: `docs/contract.md`, sections 4.3 and 4.7. The text is translated for the engine that executes it: crate
//! `regex`, linear in the value, or, for what Go refuses and the other loggers support (D4), a backtracking one with a
//! step limit.
//!
//! Patterns match text: the caller has replaced the invalid bytes of a value that is not UTF-8, as the line will have
//! them. A pattern over bytes would not match `.` on them, and so let a secret next to one pass.

use regex::CaptureLocations;

use super::prefilter::Prefilter;
use super::translate::{Dialect, translate};
use crate::limits::{BACKTRACK_STEPS_MAX, PATTERN_COMPILED_BYTES_MAX};

/// A compiled scope or parameter.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    engine: Engine,
    /// As it was written.
    source: Box<str>,
}

#[derive(Clone, Debug)]
enum Engine {
    /// `^.*$`: any text of one line. By far the commonest pattern of `copy_session_field`.
    OneLine,
    /// Linear in the length of the value. Executed only when the prefilter admits the value.
    Linear(Box<Linear>),
    /// May reach its step limit.
    Backtracking(Box<fancy_regex::Regex>),
}

#[derive(Clone, Debug)]
struct Linear {
    regex: regex::Regex,
    prefilter: Prefilter,
    /// The effect of the pattern with `$1`, if that is only to cut the value.
    cut: Option<Cut>,
}

/// The result of testing a value against a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Yes,
    No,
    /// The step limit was reached first. The caller must decide for what hides more.
    StepLimit,
}

impl Answer {
    /// Whether one of two texts matches.
    pub(super) fn or_else(self, other: impl FnOnce() -> Self) -> Self {
        match self {
            Self::Yes => self,
            Self::No => other(),
            Self::StepLimit => match other() {
                Self::Yes => Self::Yes,
                _ => self,
            },
        }
    }
}

/// What became of a value under `replace`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Replaced {
    /// No match: the value stays, nothing was written.
    Same,
    /// The new value was written.
    Changed,
    /// The step limit was reached: the value must not leave.
    StepLimit,
}

impl Pattern {
    /// A match pattern: anchored at both ends by text, so that `a|b` means "starts with a, or ends with b" (`docs/contract.md`,
    /// section 4.7).
    pub(super) fn matching(text: &str) -> Result<Self, String> {
        if matches!(text, "*" | "+" | "?") {
            return Err(format!("`{text}` repeats nothing; any text is `.*`"));
        }
        let start = if text.starts_with('^') { "" } else { "^" };
        let end = if text.ends_with('$') { "" } else { "$" };
        let built = Self::finding(&format!("{start}{text}{end}"))?;
        Ok(Self {
            source: text.into(),
            ..built
        })
    }

    /// A find pattern: as written.
    pub(super) fn finding(text: &str) -> Result<Self, String> {
        if text == "^.*$" {
            return Ok(Self {
                engine: Engine::OneLine,
                source: text.into(),
            });
        }
        let translated = translate(text, Dialect::Linear)?;
        let engine = if translated.backtracks {
            let pattern = translate(text, Dialect::Backtracking)?.text;
            let built = fancy_regex::RegexBuilder::new(&pattern)
                .backtrack_limit(BACKTRACK_STEPS_MAX)
                .delegate_size_limit(PATTERN_COMPILED_BYTES_MAX)
                .build();
            Engine::Backtracking(Box::new(built.map_err(|error| error.to_string())?))
        } else {
            let built = regex::RegexBuilder::new(&translated.text)
                .size_limit(PATTERN_COMPILED_BYTES_MAX)
                .build();
            Engine::Linear(Box::new(Linear {
                regex: built.map_err(|error| reason(&error))?,
                prefilter: Prefilter::of(&translated.text),
                cut: Cut::of(text),
            }))
        };
        Ok(Self {
            engine,
            source: text.into(),
        })
    }

    /// Its text.
    pub(super) fn source(&self) -> &str {
        &self.source
    }

    /// Whether the pattern is found in `value`.
    pub(super) fn test(&self, value: &str) -> Answer {
        let found = match &self.engine {
            Engine::OneLine => memchr::memchr(b'\n', value.as_bytes()).is_none(),
            Engine::Linear(linear) => {
                linear.prefilter.may_match(value.as_bytes()) && linear.regex.is_match(value)
            }
            Engine::Backtracking(regex) => match regex.is_match(value) {
                Ok(found) => found,
                Err(_) => return Answer::StepLimit,
            },
        };
        if found { Answer::Yes } else { Answer::No }
    }

    /// Replaces every non-overlapping match in `value` and writes the result to `out`, which is cleared first. `groups` is
    /// memory that this pattern reuses from call to call.
    pub(super) fn replace(
        &self,
        value: &str,
        with: &Replacement,
        out: &mut String,
        groups: &mut Option<CaptureLocations>,
    ) -> Replaced {
        out.clear();
        match &self.engine {
            Engine::OneLine => {
                if memchr::memchr(b'\n', value.as_bytes()).is_some() {
                    return Replaced::Same;
                }
                with.expand(out, |group| (group == 0).then_some(value));
                Replaced::Changed
            }
            Engine::Linear(linear) => linear.replace(value, with, out, groups),
            Engine::Backtracking(regex) => {
                let mut splice = Splice::new(value, out);
                for groups in regex.captures_iter(value) {
                    let Ok(groups) = groups else {
                        return Replaced::StepLimit;
                    };
                    let Some(found) = groups.get(0) else { continue };
                    with.expand(splice.over(found.range()), |group| {
                        groups.get(group).map(|text| text.as_str())
                    });
                }
                splice.finish()
            }
        }
    }

    /// The names of the groups, and how many there are, the whole match included.
    fn groups(&self) -> Groups<'_> {
        match &self.engine {
            Engine::OneLine => Groups {
                count: 1,
                names: Vec::new(),
            },
            Engine::Linear(linear) => Groups {
                count: linear.regex.captures_len(),
                names: linear.regex.capture_names().collect(),
            },
            Engine::Backtracking(regex) => Groups {
                count: regex.captures_len(),
                names: regex.capture_names().collect(),
            },
        }
    }
}

impl Linear {
    fn replace(
        &self,
        value: &str,
        with: &Replacement,
        out: &mut String,
        groups: &mut Option<CaptureLocations>,
    ) -> Replaced {
        if !self.prefilter.may_match(value.as_bytes()) {
            return Replaced::Same;
        }
        if let Some(cut) = self.cut.as_ref().filter(|_| with.is_first_group())
            && let Some(replaced) = cut.replace(value, out)
        {
            return replaced;
        }
        if with.is_literal() {
            let mut splice = Splice::new(value, out);
            for found in self.regex.find_iter(value) {
                with.expand(splice.over(found.range()), |_| None);
            }
            return splice.finish();
        }
        let groups = groups.get_or_insert_with(|| self.regex.capture_locations());
        replace_groups(&self.regex, groups, value, with, out)
    }
}

/// The pattern `([^?;]+).*`, for any such characters: with `$1` it keeps what is before them. The strict set applies it to
/// every URL, where finding groups costs more than everything else that is done with the URL.
#[derive(Clone, Debug)]
struct Cut {
    stops: Box<[u8]>,
}

impl Cut {
    fn of(pattern: &str) -> Option<Self> {
        let class = pattern.strip_prefix("([^")?.strip_suffix("]+).*")?;
        let mut stops = Vec::new();
        let mut bytes = class.bytes();
        while let Some(byte) = bytes.next() {
            // In a class these stand for themselves, with and without a backslash.
            match if byte == b'\\' { bytes.next()? } else { byte } {
                byte @ (b'?' | b';' | b'#' | b'=' | b'/' | b':' | b',' | b'@' | b'!' | b'$') => {
                    stops.push(byte);
                }
                _ => return None,
            }
        }
        (!stops.is_empty()).then(|| Self {
            stops: stops.into(),
        })
    }

    /// The effect of the pattern with `$1`; none when that is more than one cut, since `.` stops at the end of a line.
    fn replace(&self, value: &str, out: &mut String) -> Option<Replaced> {
        let bytes = value.as_bytes();
        if memchr::memchr(b'\n', bytes).is_some() {
            return None;
        }
        let is_stop = |byte: &u8| self.stops.contains(byte);
        let Some(start) = bytes.iter().position(|byte| !is_stop(byte)) else {
            return Some(Replaced::Same);
        };
        let kept = bytes.iter().skip(start).position(is_stop);
        // A stop is ASCII, so it is a character's first byte.
        out.push_str(
            kept.and_then(|kept| value.get(..start + kept))
                .unwrap_or(value),
        );
        Some(Replaced::Changed)
    }
}

/// The same as `captures_iter`, without its allocation for each match: an empty match right after a match does not count.
fn replace_groups(
    regex: &regex::Regex,
    groups: &mut CaptureLocations,
    value: &str,
    with: &Replacement,
    out: &mut String,
) -> Replaced {
    let mut splice = Splice::new(value, out);
    let (mut at, mut last_end) = (0, None);
    while let Some(found) = regex.captures_read_at(groups, value, at) {
        let found = found.range();
        if !(found.is_empty() && last_end == Some(found.end)) {
            with.expand(splice.over(found.clone()), |group| {
                groups
                    .get(group)
                    .and_then(|(start, end)| value.get(start..end))
            });
            last_end = Some(found.end);
        }
        at = found.end;
        if found.is_empty() {
            let Some(next) = value.get(at..).and_then(|rest| rest.chars().next()) else {
                break;
            };
            at += next.len_utf8();
        }
    }
    splice.finish()
}

struct Groups<'a> {
    count: usize,
    names: Vec<Option<&'a str>>,
}

/// Copies a value with its matches replaced.
struct Splice<'v, 'o> {
    value: &'v str,
    out: &'o mut String,
    from: usize,
    changed: bool,
}

impl<'v, 'o> Splice<'v, 'o> {
    fn new(value: &'v str, out: &'o mut String) -> Self {
        Self {
            value,
            out,
            from: 0,
            changed: false,
        }
    }

    /// Copies the text before a match; the caller writes the replacement.
    fn over(&mut self, found: std::ops::Range<usize>) -> &mut String {
        // Matches come in order and end on character boundaries, so the range exists.
        self.out
            .push_str(self.value.get(self.from..found.start).unwrap_or_default());
        self.from = found.end;
        self.changed = true;
        self.out
    }

    fn finish(self) -> Replaced {
        if !self.changed {
            return Replaced::Same;
        }
        self.out
            .push_str(self.value.get(self.from..).unwrap_or_default());
        Replaced::Changed
    }
}

/// The engine's message without the lines that show the translated pattern, since that is not the text that the user
/// wrote.
fn reason(error: &regex::Error) -> String {
    let text = error.to_string();
    text.lines()
        .last()
        .unwrap_or_default()
        .trim_start_matches("error: ")
        .to_owned()
}

/// The replacement expression of a `replace` rule, in Go's forms and `\1`..`\9` (D3).
#[derive(Clone, Debug)]
pub(super) struct Replacement {
    parts: Vec<Part>,
}

#[derive(Clone, Debug)]
enum Part {
    Text(String),
    /// 0 is the whole match.
    Group(usize),
}

impl Replacement {
    /// Reads `text` for the groups of `pattern`. Every text is valid: what is no reference is itself, and a reference
    /// to a group that does not exist is empty, as in Go.
    pub(super) fn new(text: &str, pattern: &Pattern) -> Self {
        let groups = pattern.groups();
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(position) = rest.find(['$', '\\']) {
            let (before, after) = rest.split_at(position);
            plain.push_str(before);
            let (part, len) = reference(after, &groups);
            match part {
                Some(Part::Text(text)) => plain.push_str(&text),
                Some(group) => {
                    if !plain.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut plain)));
                    }
                    parts.push(group);
                }
                None => {}
            }
            rest = after.get(len..).unwrap_or_default();
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Self { parts }
    }

    fn is_literal(&self) -> bool {
        self.parts.iter().all(|part| matches!(part, Part::Text(_)))
    }

    /// Whether it is `$1`.
    fn is_first_group(&self) -> bool {
        matches!(self.parts.as_slice(), [Part::Group(1)])
    }

    fn expand<'t>(&self, out: &mut String, group: impl Fn(usize) -> Option<&'t str>) {
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Group(number) => out.push_str(group(*number).unwrap_or_default()),
            }
        }
    }
}

/// The reference at the start of `text`, which begins with `$` or `\`, and how many bytes it takes.
fn reference(text: &str, groups: &Groups<'_>) -> (Option<Part>, usize) {
    let mut chars = text.chars();
    let sign = chars.next().unwrap_or_default();
    let Some(next) = chars.next() else {
        return (Some(Part::Text(sign.to_string())), 1);
    };
    if sign == '\\' {
        return match next.to_digit(10) {
            // Only groups that exist: `\7` is text where there are two groups, as it is in Go.
            Some(number) if number > 0 && (number as usize) < groups.count => {
                (Some(Part::Group(number as usize)), 2)
            }
            // Two backslashes are text, both of them, and start no reference.
            _ if next == '\\' => (Some(Part::Text("\\\\".to_owned())), 2),
            _ => (Some(Part::Text("\\".to_owned())), 1),
        };
    }
    match next {
        '$' => (Some(Part::Text("$".to_owned())), 2),
        '{' => braced(text, groups),
        '0'..='9' => numbered(text, groups),
        _ if next.is_alphabetic() || next == '_' => {
            let name = chars_of_name(text.get(1..).unwrap_or_default());
            (named(&name, groups), 1 + name.len())
        }
        _ => (Some(Part::Text("$".to_owned())), 1),
    }
}

fn chars_of_name(text: &str) -> String {
    text.chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect()
}

fn named(name: &str, groups: &Groups<'_>) -> Option<Part> {
    groups
        .names
        .iter()
        .position(|other| *other == Some(name))
        .map(Part::Group)
}

/// `${1}` and `${name}`. Without a closing brace, or with anything but a name inside, the `$` is text.
fn braced(text: &str, groups: &Groups<'_>) -> (Option<Part>, usize) {
    let inner = text.get(2..).unwrap_or_default();
    let name = chars_of_name(inner);
    if name.is_empty() || !inner.get(name.len()..).unwrap_or_default().starts_with('}') {
        return (Some(Part::Text("$".to_owned())), 1);
    }
    let part = match name.parse::<usize>() {
        Ok(number) => (number < groups.count).then_some(Part::Group(number)),
        Err(_) => named(&name, groups),
    };
    (part, name.len() + 3)
}

/// `$1`: the first digit is always the reference; more digits belong to it as long as such a group exists (D3).
fn numbered(text: &str, groups: &Groups<'_>) -> (Option<Part>, usize) {
    let mut digits = text
        .chars()
        .skip(1)
        .map_while(|c| c.to_digit(10))
        .map(|digit| digit as usize);
    let mut number = digits.next().unwrap_or_default();
    let mut len = 2;
    for digit in digits {
        let longer = number * 10 + digit;
        if longer >= groups.count {
            break;
        }
        number = longer;
        len += 1;
    }
    ((number < groups.count).then_some(Part::Group(number)), len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, yes: &[&str], no: &[&str]) {
        let pattern =
            Pattern::finding(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
        for value in yes {
            assert_eq!(pattern.test(value), Answer::Yes, "{value}");
        }
        for value in no {
            assert_eq!(pattern.test(value), Answer::No, "{value}");
        }
    }

    #[track_caller]
    fn refused(pattern: &str) {
        assert!(Pattern::finding(pattern).is_err(), "{pattern}");
    }

    #[track_caller]
    fn replaces(pattern: &str, with: &str, value: &str, expected: &str) {
        let pattern = Pattern::finding(pattern).unwrap();
        let with = Replacement::new(with, &pattern);
        let mut out = String::new();
        let outcome = pattern.replace(value, &with, &mut out, &mut None);
        let result = if outcome == Replaced::Same {
            value
        } else {
            &out
        };
        assert_eq!(result, expected);
    }

    #[test]
    fn classes_are_ascii() {
        check(r"^\w$", &["a", "_", "7"], &["é", "-"]);
        check(r"^\d$", &["7"], &["٧"]);
        check(r"^\s$", &[" ", "\t", "\u{c}"], &["\u{b}", "\u{a0}"]);
        check(r"^[\W\d]$", &["é", "5", "-"], &["a", "_"]);
        check(r"caf\b", &["café", "caf"], &["cafe"]);
        check(r"^[[:alpha:]-]+$", &["a-b"], &["1"]);
    }

    #[test]
    fn punctuation_means_itself() {
        check(r#"{"k":"#, &[r#"{"k":1}"#], &["k"]);
        check(r"^a{,2}$", &["a{,2}"], &["aa"]);
        check(r"^a{02}$", &["a{02}"], &["aa"]);
        check(r"[+--]", &[","], &["x"]);
        check(r"^[a&&b~~[+--]+$", &["&", "~", "[", "b", ","], &["x"]);
        check(r"^[]a]$", &["]", "a"], &["b"]);
        check(r"^[^]a]$", &["b"], &["]"]);
        check(r"\<b\>", &["<b>"], &["b"]);
        check(r"^\Qa.b[\E+$", &["a.b[["], &["axb["]);
        check(r"^\101\x42\x{43}$", &["ABC"], &[]);
        check(r"^\_\-\#$", &["_-#"], &[]);
        check(r"^\p{^Greek}\pL$", &["aé"], &["αa"]);
    }

    #[test]
    fn a_backtracking_engine_takes_what_the_linear_one_lacks() {
        check(r"foo(?=bar)", &["foobar"], &["foo"]);
        check(r"(?<=id=)\d+", &["id=5"], &["5"]);
        check(r"(?<!x)b\b", &["ab"], &["xb", "bc"]);
        check(r"(a|b)\1", &["aa", "bb"], &["ab"]);
        check(r"a++b", &["aab"], &["b"]);
        check(r"^a++a$", &[], &["aaa"]);
        check(r"(?>a+)b[\d{]", &["aab{"], &["aab"]);
    }

    #[test]
    fn what_go_refuses_is_refused() {
        for pattern in [
            "*", "a**", "a{2}{3}", "(", "[a", "[z-a]", "a{3,2}", r"\j", r"a\", "(?x)a", "(?#x)",
            "?", "(?i", r"[\b]",
        ] {
            refused(pattern);
        }
    }

    #[test]
    fn anchors_are_added_as_text() {
        let scope = Pattern::matching("cat|bi|dog").unwrap();
        for (value, answer) in [
            ("cat food", Answer::Yes),
            ("big", Answer::Yes),
            ("hotdog", Answer::Yes),
            ("dogs", Answer::No),
        ] {
            assert_eq!(scope.test(value), answer, "{value}");
        }
        assert_eq!(Pattern::matching(".*").unwrap().test("a\nb"), Answer::No);
        assert!(Pattern::matching("+").is_err());
    }

    #[test]
    fn references_follow_go_and_the_others() {
        replaces(r"id=(\d+)", "$1x$10${1}$0", "id=7", "7x707id=7");
        replaces(r"id=(?P<n>\d+)", "$n!${n}", "id=7", "7!7");
        replaces(r"id=(\d+)", r"\1\2\\1\n$", "id=7", r"7\2\\1\n$");
        replaces(r"id=(\d+)", "<$9>$&$$1${x", "id=7", "<>$&$1${x");
        replaces(r"a(b)?", "<$1>", "ab a", "<b> <>");
        replaces("x*", "-", "axxb", "-a-b-");
        replaces("^$", "blank", "", "blank");
        replaces(r"\B", "-", "éa", "-éa");
        replaces("(?<=a)b", "$0$0", "abab", "abbabb");
    }

    #[test]
    fn a_cut_is_what_the_pattern_says() {
        let cut = Pattern::finding(r"([^\?;]+).*").unwrap();
        assert!(matches!(&cut.engine, Engine::Linear(linear) if linear.cut.is_some()));
        let twin = Pattern::finding(r"([^\?;]{1,}).*").unwrap();
        assert!(matches!(&twin.engine, Engine::Linear(linear) if linear.cut.is_none()));
        let with = Replacement::new("$1", &cut);
        for number in 0..6_usize.pow(5) {
            let digits = (0..5).map(|place| number / 6_usize.pow(place) % 6);
            let value: String = digits
                .map(|digit| ["a", "?", ";", "é", "\n", ""][digit])
                .collect();
            let (mut one, mut other) = (String::new(), String::new());
            assert_eq!(
                cut.replace(&value, &with, &mut one, &mut None),
                twin.replace(&value, &with, &mut other, &mut None),
                "{value:?}"
            );
            assert_eq!(one, other, "{value:?}");
        }
        for pattern in [
            "([^]+).*",
            "([^a]+).*",
            "([^?]+)x.*",
            "([^?]*).*",
            r"([^\d]+).*",
        ] {
            assert!(Cut::of(pattern).is_none(), "{pattern}");
        }
    }

    #[test]
    fn a_pattern_that_explodes_is_in_doubt() {
        let pattern = Pattern::finding(r"(a|aa)+\1$(?!b)").unwrap();
        let value = "a".repeat(64) + "c";
        assert_eq!(pattern.test(&value), Answer::StepLimit);
        let mut out = String::new();
        let with = Replacement::new("", &pattern);
        assert_eq!(
            pattern.replace(&value, &with, &mut out, &mut None),
            Replaced::StepLimit
        );
    }
}
