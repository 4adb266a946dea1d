//! Patterns on a value whose end is not there.
//!
//! A match may begin in the part that there is and end behind it: half a card number matches no pattern, and must not leave.
//! From a pattern another is made that matches each beginning of its matches. Where that one matches up to the end of
//! the text, a match may go on, so nothing from there on leaves. Conditions such as `\b` and `$` are left out of it, which
//! cuts off more rather than less. A backtracking pattern has no such form; its answer is not known.

use regex_automata::util::captures::Captures;

use super::linear::Open;
use super::pattern::{Answer, Pattern};
use super::replacement::{Replaced, Replacement};
use super::searches::Work;
use super::work::Spent;

impl Pattern {
    /// Whether the pattern is found in a value that begins with `start`.
    pub(super) fn test_start(&self, start: &str, work: &mut Work) -> Answer {
        let Some(linear) = self.linear() else {
            // `^.*$`, or a pattern that may look anywhere.
            let is_over = self.is_one_line() && start.contains('\n');
            return if is_over { Answer::No } else { Answer::Doubt };
        };
        // A match that ends before the end is one whatever follows.
        match linear.automaton.match_end(start, work) {
            Ok(Some(end)) if end < start.len() => return Answer::Yes,
            Ok(None) => {}
            Ok(Some(_)) | Err(Spent) => return Answer::Doubt,
        }
        let first = linear
            .beginnings
            .of(&linear.automaton)
            .filter(|found| found.is_anchored)
            .map(|found| found.first(start, work));
        match first {
            Some(Ok(first)) if first > 0 => Answer::No,
            _ => Answer::Doubt,
        }
    }

    /// Whether the pattern may match some name that begins with `start`.
    pub(super) fn may_match_start(&self, start: &str) -> bool {
        let mut work = Work::default();
        self.test_start(start, &mut work) != Answer::No
    }

    /// Replaces the matches in a value that begins with `start`, and writes the part of the result that is certain to `out`,
    /// also where it is the value itself.
    pub(super) fn replace_start(
        &self,
        start: &str,
        with: &Replacement,
        out: &mut String,
        groups: &mut Option<Captures>,
        bytes_max: usize,
        work: &mut Work,
    ) -> Replaced {
        let Some(linear) = self.linear() else {
            if self.is_one_line() && start.contains('\n') {
                out.clear();
                out.push_str(start);
                return Replaced::Same;
            }
            return if self.is_one_line() && with.is_literal() {
                self.replace(start, with, out, groups, bytes_max, work)
            } else {
                Replaced::Doubt
            };
        };
        let Some(Ok(first)) = linear
            .beginnings
            .of(&linear.automaton)
            .map(|found| found.first(start, work))
        else {
            return Replaced::Doubt;
        };
        out.clear();
        let open = Open(Some(first));
        let replaced = if linear.is_ruled_out(start) {
            Ok(Replaced::Same)
        } else {
            linear.replace(start, with, out, groups, (open, bytes_max), work)
        };
        match replaced {
            Ok(Replaced::Same) => {
                out.clear();
                out.push_str(open.before(start));
                Replaced::Same
            }
            replaced => replaced.unwrap_or_else(Replaced::from),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replaced_start(
        pattern: &Pattern,
        start: &str,
        with: &Replacement,
        out: &mut String,
    ) -> bool {
        let work = &mut Work::default();
        let most = usize::MAX;
        pattern.replace_start(start, with, out, &mut None, most, work) != Replaced::Doubt
    }

    #[track_caller]
    fn check(pattern: &str, with: &str, start: &str, expected: Option<&str>) {
        let pattern = Pattern::finding(pattern).unwrap();
        let with = Replacement::new(with, &pattern.groups());
        let mut out = String::new();
        let is_known = replaced_start(&pattern, start, &with, &mut out);
        assert_eq!(is_known.then_some(out.as_str()), expected, "{start}");
    }

    #[test]
    fn what_may_be_half_a_match_is_cut_off() {
        check("[0-9]{13,16}", "x", "a 4111111111111", Some("a x"));
        check("[0-9]{13,16}", "x", "a 411111111111", Some("a "));
        check(
            "[0-9]{13,16}",
            "x",
            "a 411111111111 b",
            Some("a 411111111111 b"),
        );
        check("[0-9]{13,16}", "x", "4111111111111111 b4", Some("x b"));
        check(
            "([0-9]{4})[0-9]{9,}",
            "$1",
            "a 41111111111111111",
            Some("a "),
        );
        check("[a-z.]+@[a-z]+", "x", "m jane.q.public@ex", Some("m x"));
        check("[a-z.]+@[a-z]+", "x", "m: jane.q.public", Some("m: "));
        check("[a-z.]+@[a-z]+", "x", "joe@h jane.q", Some("x "));
        check(r#""p":"[^"]*""#, "x", r#"{"p":"1","p":"sec"#, Some("{x,"));
        check("é+!", "x", "aéé", Some("a"));
        check("(?i)secret", "x", "a secret SEC", Some("a x "));
        check("secret$", "x", "a secret", Some("a x"));
        check(r"\bsecret\b", "x", "a secret b", Some("a x b"));
        check("(ab|a)(bc)?", "x", "1ab", Some("1x"));
        check("ab|bcd", "x", "1abc", Some("1x"));
        check("x{0}a", "-", "bab", Some("b-b"));
        check("^.*$", "x", "secret", Some("x"));
        check("^.*$", "x", "a\nb", Some("a\nb"));
        check("^.*$", "<$0>", "secret", None);
        check("(?s).*", "x", "a\nb", Some("x"));
        check("(?=s)secret", "x", "secret", None);
    }

    #[test]
    fn only_what_cannot_change_is_an_answer() {
        #[track_caller]
        fn check(pattern: &str, start: &str, expected: Answer) {
            let pattern = Pattern::finding(pattern).unwrap();
            assert_eq!(
                pattern.test_start(start, &mut Work::default()),
                expected,
                "{start}"
            );
        }
        check("secret", "a secret b", Answer::Yes);
        check("secret", "a secret", Answer::Doubt);
        check("secret", "a", Answer::Doubt);
        check("secret$", "secret", Answer::Doubt);
        check("^a.*z$", "ab", Answer::Doubt);
        check("^a.*z$", "b", Answer::No);
        check("^a.*z$", "a\n", Answer::No);
        check("(?m)^a", "b", Answer::Doubt);
        check("^.*$", "a", Answer::Doubt);
        check("^.*$", "a\n", Answer::No);
        check("(?=s)secret", "secret ", Answer::Doubt);
    }

    /// Whatever follows, the result for a part of a text is a beginning of the result for all of it, as far as a text in the
    /// place of a match that goes on allows; so nothing of a match ever leaves.
    #[test]
    fn results_for_parts_are_beginnings_of_the_whole() {
        const PATTERNS: [&str; 9] = [
            "a+b",
            "ab|bc",
            "a(b|c)*a",
            "[ab]{2,3}c",
            "(?:ab)+",
            "a.?c|b",
            "c*a",
            "(a|b)(c|a)b",
            "a[^b]*b",
        ];
        let mut state = 5_u64;
        let mut draw = |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as usize % below
        };
        let patterns = PATTERNS.map(|source| Pattern::finding(source).unwrap());
        for _ in 0..20_000 {
            let number = draw(PATTERNS.len());
            let (source, pattern) = (PATTERNS[number], &patterns[number]);
            let whole: String = (0..draw(12))
                .map(|_| ['a', 'b', 'c', 'd'][draw(4)])
                .collect();
            let cut = draw(whole.len() + 1);
            let with = Replacement::new("-", &pattern.groups());
            let (mut of_part, mut of_whole) = (String::new(), String::new());
            assert!(replaced_start(pattern, &whole[..cut], &with, &mut of_part));
            let work = &mut Work::default();
            let outcome = pattern.replace(&whole, &with, &mut of_whole, &mut None, 1000, work);
            let of_whole = if outcome == Replaced::Same {
                &whole
            } else {
                &of_whole
            };
            let certain = of_part.strip_suffix('-').unwrap_or(&of_part);
            assert!(
                of_whole.starts_with(certain),
                "{source} on {whole} cut at {cut}: {of_part}, and {of_whole}"
            );
        }
    }
}
