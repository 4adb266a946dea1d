//! Compiled patterns of rules, with the meaning that Go's `regexp` (RE2) gives their text.
//!
//! Source: `docs/contract.md`, sections 4.3 and 4.7. The text is translated for the engine that executes it: crate
//! `regex`, or, for what Go refuses and the other loggers support (D4), a backtracking one. Both take what they look at
//! from the budget of the call (`rules/work.rs`).
//!
//! Patterns match text: the caller has replaced the invalid bytes of a value that is not UTF-8, as the line will have
//! them. A pattern over bytes would not match `.` on them, and so let a secret next to one pass.

use regex_automata::Anchored;
use regex_automata::hybrid::dfa::DFA;
use regex_automata::util::captures::Captures;
use regex_automata::util::start;

use super::backtrack::Backtracking;
use super::beginnings::bytes_of;
use super::linear::{Linear, Open};
use super::replacement::{Groups, Replaced, Replacement, Splice};
use super::searches::{NameWork, Work};
use super::translate::{Dialect, translate};
use super::work::Spent;
use crate::limits::PATTERN_STATES_BYTES_MIN;

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
    /// A search reads each byte a bounded number of times. Executed only when the prefilter admits the value.
    Linear(Box<Linear>),
    /// With look-around, or what else the linear engine lacks.
    Backtracking(Box<Backtracking>),
}

/// The result of testing a value against a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Yes,
    No,
    /// The work that is allowed was done before the answer was known. The caller must decide for what hides more.
    Doubt,
}

impl Answer {
    /// Whether one of two texts matches.
    pub(super) fn or_else(self, other: impl FnOnce() -> Self) -> Self {
        match self {
            Self::Yes => self,
            Self::No => other(),
            Self::Doubt => match other() {
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
            Engine::Backtracking(Box::new(Backtracking::new(&pattern)?))
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

    /// The pattern as the linear engine has it, if that executes it.
    pub(super) fn linear_text(&self) -> Option<&str> {
        match &self.engine {
            Engine::Linear(linear) => Some(linear.automaton.text()),
            _ => None,
        }
    }

    /// Bytes of memory that it takes, compiled.
    pub(super) fn memory(&self) -> usize {
        match &self.engine {
            Engine::OneLine => 0,
            Engine::Linear(linear) => linear.automaton.compiled.memory(),
            Engine::Backtracking(pattern) => pattern.memory(),
        }
    }

    /// Bytes of memory that a shard needs for its searches, at least: an ordinary pattern has all its states in them.
    pub(super) fn states(&self) -> usize {
        match &self.engine {
            Engine::OneLine => 0,
            Engine::Linear(_) => PATTERN_STATES_BYTES_MIN,
            Engine::Backtracking(pattern) => pattern.states(),
        }
    }

    /// Bytes of memory that its beginnings take at most.
    pub(super) fn beginnings(&self) -> usize {
        match &self.engine {
            Engine::Linear(linear) => 2 * bytes_of(&linear.automaton),
            _ => 0,
        }
    }

    /// Gives its automata places of their own, from `next` on.
    pub(super) fn place(&mut self, next: &mut usize) {
        match &mut self.engine {
            Engine::OneLine => {}
            Engine::Linear(linear) => linear.place(next),
            Engine::Backtracking(pattern) => pattern.place(next),
        }
    }

    /// Whether its automaton has more states than are kept.
    pub(super) fn has_many_states(&self) -> bool {
        self.linear()
            .is_some_and(|linear| linear.automaton.has_many_states())
    }

    /// Whether each search reads each byte a bounded number of times.
    pub(super) fn is_linear(&self) -> bool {
        !matches!(self.engine, Engine::Backtracking(_))
    }

    /// The pattern in the linear engine, if that executes it.
    pub(super) fn linear(&self) -> Option<&Linear> {
        match &self.engine {
            Engine::Linear(linear) => Some(linear),
            _ => None,
        }
    }

    /// Whether it is `^.*$`.
    pub(super) fn is_one_line(&self) -> bool {
        matches!(self.engine, Engine::OneLine)
    }

    /// Whether it may be found in some text that begins with `prefix`. In doubt it may.
    pub(super) fn may_match_behind(&self, prefix: &str) -> bool {
        let Engine::Linear(linear) = &self.engine else {
            return true;
        };
        let Ok(dfa) = DFA::new(linear.automaton.text()) else {
            return true;
        };
        let mut cache = dfa.create_cache();
        let start = start::Config::new().anchored(Anchored::No);
        let Ok(mut state) = dfa.start_state(&mut cache, &start) else {
            return true;
        };
        for byte in prefix.bytes() {
            match dfa.next_state(&mut cache, state, byte) {
                Ok(next) if next.is_dead() => return false,
                Ok(next) if next.is_tagged() && !next.is_start() => return true,
                Ok(next) => state = next,
                Err(_) => return true,
            }
        }
        true
    }

    /// Whether the prefilter of the pattern shows that it is not found in `value`. That is the answer for most patterns and
    /// values, so code with many patterns checks it before anything else.
    #[inline]
    pub(super) fn is_ruled_out(&self, value: &str) -> bool {
        match &self.engine {
            Engine::OneLine => false,
            Engine::Linear(linear) => linear.is_ruled_out(value),
            Engine::Backtracking(pattern) => !pattern.may_match(value),
        }
    }

    /// Whether the pattern is found in `value`.
    pub(super) fn test(&self, value: &str, work: &mut Work) -> Answer {
        if self.is_ruled_out(value) {
            return Answer::No;
        }
        self.search(value, work)
    }

    /// As [`Self::test`], of a value that is not ruled out.
    pub(super) fn search(&self, value: &str, work: &mut Work) -> Answer {
        let found = match &self.engine {
            Engine::OneLine => Ok(memchr::memchr(b'\n', value.as_bytes()).is_none()),
            Engine::Linear(linear) => linear.search(value, work),
            Engine::Backtracking(pattern) => {
                let found = pattern.find(value, 0, work);
                found.map(|found| found.is_some())
            }
        };
        match found {
            Ok(true) => Answer::Yes,
            Ok(false) => Answer::No,
            Err(Spent) => Answer::Doubt,
        }
    }

    /// Whether the pattern is found in the name of a detail.
    pub(super) fn test_name(&self, name: &str, work: &mut NameWork) -> Answer {
        work.on_name(name.len(), |work| self.test(name, work))
    }

    /// Replaces every non-overlapping match in `value` and writes the result, of at most `bytes_max` bytes, to `out`, which
    /// is cleared first. `groups` is memory that this pattern reuses from call to call.
    pub(super) fn replace(
        &self,
        value: &str,
        with: &Replacement,
        out: &mut String,
        groups: &mut Option<Captures>,
        bytes_max: usize,
        work: &mut Work,
    ) -> Replaced {
        if self.is_ruled_out(value) {
            return Replaced::Same;
        }
        self.replace_found(value, with, out, groups, bytes_max, work)
    }

    /// As [`Self::replace`], of a value that is not ruled out.
    pub(super) fn replace_found(
        &self,
        value: &str,
        with: &Replacement,
        out: &mut String,
        groups: &mut Option<Captures>,
        bytes_max: usize,
        work: &mut Work,
    ) -> Replaced {
        out.clear();
        let replaced = match &self.engine {
            Engine::OneLine => {
                if memchr::memchr(b'\n', value.as_bytes()).is_some() {
                    return Replaced::Same;
                }
                let mut splice = Splice::new(value, out, bytes_max);
                let whole = |group| (group == 0).then_some(value);
                splice
                    .put(0..value.len(), with, whole)
                    .and_then(|()| splice.finish(work))
            }
            Engine::Linear(linear) => {
                linear.replace(value, with, out, groups, (Open(None), bytes_max), work)
            }
            Engine::Backtracking(pattern) => {
                let splice = Splice::new(value, out, bytes_max);
                replace_backtracking(pattern, value, with, splice, work)
            }
        };
        replaced.unwrap_or_else(Replaced::from)
    }

    /// The names of the groups, and how many there are, the whole match included.
    pub(super) fn groups(&self) -> Groups<'_> {
        match &self.engine {
            Engine::OneLine => Groups {
                count: 1,
                names: Vec::new(),
            },
            Engine::Linear(linear) => Groups {
                count: linear.automaton.compiled.regex().captures_len(),
                names: linear.automaton.group_names().collect(),
            },
            Engine::Backtracking(pattern) => Groups {
                count: pattern.groups(),
                names: pattern.names().collect(),
            },
        }
    }
}

fn replace_backtracking(
    pattern: &Backtracking,
    value: &str,
    with: &Replacement,
    mut splice: Splice<'_, '_>,
    work: &mut Work,
) -> Result<Replaced, Spent> {
    let (mut at, mut last_end) = (0, None);
    while at <= value.len()
        && let Some(groups) = pattern.find(value, at, work)?
    {
        let found = groups.whole();
        // An empty match right after a match does not count.
        if !(found.is_empty() && last_end == Some(found.end)) {
            splice.put(found.clone(), with, |group| value.get(groups.get(group)?))?;
            last_end = Some(found.end);
        }
        at = found.end;
        if found.is_empty() {
            let letter = value.get(at..).and_then(|rest| rest.chars().next());
            at += letter.map_or(1, char::len_utf8);
        }
    }
    splice.finish(work)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, yes: &[&str], no: &[&str]) {
        let pattern =
            Pattern::finding(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
        for value in yes {
            assert_eq!(
                pattern.test_name(value, &mut NameWork::default()),
                Answer::Yes,
                "{value}"
            );
        }
        for value in no {
            assert_eq!(
                pattern.test_name(value, &mut NameWork::default()),
                Answer::No,
                "{value}"
            );
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
        let outcome = pattern.replaced(value, &with, &mut out);
        let result = if outcome == Replaced::Same {
            value
        } else {
            &out
        };
        assert_eq!(result, expected);
    }

    impl Pattern {
        fn replaced(&self, value: &str, with: &Replacement, out: &mut String) -> Replaced {
            self.replace(value, with, out, &mut None, 1000, &mut Work::default())
        }
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
            assert_eq!(
                scope.test_name(value, &mut NameWork::default()),
                answer,
                "{value}"
            );
        }
        assert_eq!(
            Pattern::matching(".*")
                .unwrap()
                .test_name("a\nb", &mut NameWork::default()),
            Answer::No
        );
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
                cut.replaced(&value, &with, &mut one),
                twin.replaced(&value, &with, &mut other),
                "{value:?}"
            );
            assert_eq!(one, other, "{value:?}");
        }
    }

    /// Work of a test and of a replacement by nothing, in bytes, and whether the answers are known. A pattern of look-arounds
    /// alone is only tested.
    fn work(pattern: &str, value: &str) -> (u64, bool) {
        let pattern = Pattern::finding(pattern).unwrap();
        let (mut test, mut replace) = (Work::default(), Work::default());
        test.grant(value.len(), 1);
        replace.grant(value.len(), 1);
        let answer = pattern.test(value, &mut test);
        if pattern.source().starts_with("(?=") {
            return (test.spent(), answer != Answer::Doubt);
        }
        let with = Replacement::new("", &pattern.groups());
        let mut out = String::new();
        let replaced =
            pattern.replace(value, &with, &mut out, &mut None, value.len(), &mut replace);
        let known = answer != Answer::Doubt && replaced != Replaced::Doubt;
        (test.spent().max(replace.spent()), known)
    }

    #[test]
    fn a_pattern_that_explodes_is_in_doubt() {
        for (pattern, value) in [
            (r"(a|aa)+\1$(?!b)", "a".repeat(64) + "c"),
            ("^(?:(?!x)a+)+(?=b)$", "a".repeat(29)),
            ("(?!x)a+(?=b)", "a".repeat(200_000)),
            (
                "(?=.*password)(?=.*secret)",
                "secret\n".to_owned() + &"password ".repeat(20_000),
            ),
            ("[0-9]+-[0-9]+|[0-9]", "1".repeat(200_000)),
            ("[ab]*a[ab]{60}c", random_letters(200_000)),
            (r"(a*)\1(?=b)", "a".repeat(5000)),
        ] {
            assert!(!work(pattern, &value).1, "{pattern}");
        }
    }

    /// The letters a and b, so that each state of a pattern is new.
    fn random_letters(bytes: usize) -> String {
        let mut state = 7_u64;
        (0..bytes)
            .map(|_| {
                state = crate::mix::mix(state.wrapping_add(crate::mix::GOLDEN_GAMMA));
                if state & 1 == 0 { 'a' } else { 'b' }
            })
            .collect()
    }

    /// Patterns as they are written, on values as they are sent.
    #[test]
    fn ordinary_values_are_never_in_doubt() {
        use std::fmt::Write as _;
        let (mut json, mut digits, mut mails) = (String::new(), String::new(), String::new());
        let mut number = 0;
        while json.len() < 1 << 20 {
            number += 1;
            let _ = write!(
                json,
                r#"{{"id":{number},"name":"Customer {number}","city":"Town {}","password":"p{number}","note":"nothing to see, order {} shipped"}},"#,
                number % 97,
                number * 7,
            );
            let _ = write!(digits, "{} 4111 1111 1111 {number:04}, ", number * 77_777);
            let _ = write!(mails, "jane.q.{number}@mail{number}.example.com; ");
        }
        let secret = json.clone() + "secret";
        for pattern in [
            "(?=.*password)(?=.*secret)",
            "^(?!.*test).*$",
            r"(?<!\d)\d{13,16}(?!\d)",
            r"[\w.+-]+@(?!example\.com)[\w.-]+",
            r#""(?!xxx)[^"]*secret""#,
            "(?!x).*password",
            r#"(?<="password":")[^"]*"#,
            r#""password":"(?:(?!").)*""#,
            r"\b\w+(?=@)",
            r"[0-9]{4}[ -]?[0-9]{4}[ -]?[0-9]{4}[ -]?[0-9]{4}",
            r"\b(\d[ -]?){13,16}\b",
            r"[a-zA-Z0-9.!#$%&*+/=?^_`{|}~-]+@[a-zA-Z0-9-]+(?:\.[a-zA-Z0-9-]+)",
            r#""password":\s*"([^"]*)""#,
            "[0-9]+",
            ".",
            "",
        ] {
            for value in [&json, &secret, &digits, &mails] {
                let (work, known) = work(pattern, value);
                let ratio = work as f64 / value.len() as f64;
                assert!(known, "{pattern} in {}: {ratio:.1}", &value[..30]);
            }
        }
    }

    #[test]
    fn a_replacement_grows_within_bounds() {
        for (pattern, with) in [
            ("a", "bbbb"),
            ("(a)", "$1$1$1$1"),
            ("a(?!b)", "$0$0$0$0"),
            ("^.*$", "$0$0"),
        ] {
            let pattern = Pattern::finding(pattern).unwrap();
            let with = Replacement::new(with, &pattern.groups());
            for (bytes_max, expected) in [(4000, Replaced::Changed), (1999, Replaced::Doubt)] {
                let (value, mut out) = ("a".repeat(1000), String::new());
                let replaced = pattern.replace(
                    &value,
                    &with,
                    &mut out,
                    &mut None,
                    bytes_max,
                    &mut Work::default(),
                );
                assert_eq!(replaced, expected);
                assert!(out.len() <= bytes_max);
            }
        }
    }
}
