//! Compiled patterns of rules, with the meaning that Go's `regexp` (RE2) gives their text.
//!
//! Source: `docs/contract.md`, sections 4.3 and 4.7. The text is translated for the engine that executes it: crate
//! `regex`, linear in the value, or, for what Go refuses and the other loggers support (D4), a backtracking one with a
//! step limit.
//!
//! Patterns match text: the caller has replaced the invalid bytes of a value that is not UTF-8, as the line will have
//! them. A pattern over bytes would not match `.` on them, and so let a secret next to one pass.

use regex::CaptureLocations;

use super::linear::Linear;
use super::replacement::{Groups, Replaced, Replacement, Splice};
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
            Engine::Linear(Box::new(Linear::new(&translated.text, text)?))
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
    pub(super) fn groups(&self) -> Groups<'_> {
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
        let with = Replacement::new(with, &pattern.groups());
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
        let with = Replacement::new("$1", &cut.groups());
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
    }

    #[test]
    fn a_pattern_that_explodes_is_in_doubt() {
        let pattern = Pattern::finding(r"(a|aa)+\1$(?!b)").unwrap();
        let value = "a".repeat(64) + "c";
        assert_eq!(pattern.test(&value), Answer::StepLimit);
        let mut out = String::new();
        let with = Replacement::new("", &pattern.groups());
        assert_eq!(
            pattern.replace(&value, &with, &mut out, &mut None),
            Replaced::StepLimit
        );
    }
}
