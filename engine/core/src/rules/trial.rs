//! Trials of a pattern: values for which it may need the square of their length.
//!
//! Each repetition without an upper bound gets values in which what it repeats is repeated, and the work on a longer value
//! is compared with that on a shorter one. The work is counted, not timed, so the result is always the same. A pattern that
//! passes may still be slow on a value that is not tried.

use fancy_regex::Expr;
use regex_syntax::hir::{Class, Hir, HirKind};

use super::backtrack::text_of;
use super::pattern::{Answer, Pattern};
use super::replacement::{Replaced, Replacement};
use super::searches::Work;
use super::translate::{Dialect, translate};

/// Bytes of the shorter and of the longer value for a linear pattern, whose work is counted exactly in long values only, and
/// for another.
const BYTES: [(usize, usize); 2] = [(500, 2000), (100, 400)];

/// The work on the longer value from which on it is not linear: four times the length may need four times the work, and
/// what is counted once is in both.
const RATIO: u64 = 8;

/// The work when the answer is not known.
const IN_DOUBT: u64 = u64::MAX;

/// Repetitions of one pattern that are tried.
const REPETITIONS_MAX: usize = 16;

/// The repetition that makes `pattern`, with the text `source`, need the square of the length of some value, and the
/// beginning of such a value. `replaces`: all matches are searched for, not only the first.
pub(super) fn quadratic(
    pattern: &Pattern,
    source: &str,
    replaces: bool,
) -> Option<(String, String)> {
    let text = translate(source, Dialect::Backtracking).ok()?.text;
    let tree = Expr::parse_tree(&text).ok()?.expr;
    let (mut repetitions, mut looks) = (Vec::new(), Vec::new());
    collect(&tree, &mut repetitions, &mut looks);
    // What has to be somewhere in the text, in lines of its own.
    let required: String = looks
        .iter()
        .filter_map(|look| Some(sample_of(look)? + "\n"))
        .collect();
    let whole = sample_of(&tree).unwrap_or_default();
    repetitions.truncate(REPETITIONS_MAX);
    let [linear, other] = BYTES;
    let (fewer, more) = if pattern.is_linear() { linear } else { other };
    for repetition in repetitions {
        let Expr::Repeat { child, .. } = repetition else {
            continue;
        };
        let Some(unit) = sample_of(child).filter(|unit| !unit.is_empty()) else {
            continue;
        };
        for head in ["", &required, &whole, &format!("{required}{whole}")] {
            for tail in ["", "\n", &whole] {
                let value =
                    |bytes: usize| head.to_owned() + &unit.repeat(bytes / unit.len()) + tail;
                let (short, long) = (value(fewer), value(more));
                let least = work(pattern, &short, replaces).max(short.len() as u64);
                let most = work(pattern, &long, replaces);
                if most == IN_DOUBT || most > least.saturating_mul(RATIO) {
                    let blamed = written(repetition).unwrap_or_else(|| source.to_owned());
                    let beginning = short.chars().take(12).collect();
                    return Some((blamed, beginning));
                }
            }
        }
    }
    None
}

/// The work on one value, in bytes.
fn work(pattern: &Pattern, value: &str, replaces: bool) -> u64 {
    let mut work = Work::default();
    work.grant(value.len(), 1);
    let doubt = if replaces {
        let with = Replacement::new("", &pattern.groups());
        let (mut out, mut groups) = (String::new(), None);
        let replaced = pattern.replace(value, &with, &mut out, &mut groups, value.len(), &mut work);
        replaced == Replaced::Doubt
    } else {
        pattern.test(value, &mut work) == Answer::Doubt
    };
    if doubt { IN_DOUBT } else { work.spent() }
}

/// The repetitions without an upper bound, and what is inside the look-arounds.
fn collect<'t>(tree: &'t Expr, repetitions: &mut Vec<&'t Expr>, looks: &mut Vec<&'t Expr>) {
    match tree {
        Expr::Repeat { hi: usize::MAX, .. } => repetitions.push(tree),
        Expr::LookAround(inside, _) => looks.push(inside),
        _ => {}
    }
    for child in tree.children_iter() {
        collect(child, repetitions, looks);
    }
}

/// A repetition as it may be written.
fn written(tree: &Expr) -> Option<String> {
    text_of(tree)
}

/// A text that the expression matches, apart from its look-around.
fn sample_of(tree: &Expr) -> Option<String> {
    let hir = regex_syntax::parse(&text_of(tree)?).ok()?;
    let mut out = String::new();
    sample(&hir, &mut out);
    Some(out)
}

fn sample(hir: &Hir, out: &mut String) {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => {}
        HirKind::Literal(literal) => out.push_str(&String::from_utf8_lossy(&literal.0)),
        HirKind::Class(class) => out.push(letter_of(class)),
        HirKind::Repetition(repeated) => {
            for _ in 0..repeated.min.min(64) {
                sample(&repeated.sub, out);
            }
        }
        HirKind::Capture(group) => sample(&group.sub, out),
        HirKind::Concat(parts) => parts.iter().for_each(|part| sample(part, out)),
        HirKind::Alternation(branches) => {
            if let Some(branch) = branches.first() {
                sample(branch, out);
            }
        }
    }
}

/// A letter of the class, an ordinary one if there is one.
fn letter_of(class: &Class) -> char {
    let ranges: Vec<(char, char)> = match class {
        Class::Unicode(class) => class
            .iter()
            .map(|range| (range.start(), range.end()))
            .collect(),
        Class::Bytes(class) => class
            .iter()
            .map(|range| (char::from(range.start()), char::from(range.end())))
            .collect(),
    };
    let has = |letter: &char| {
        ranges
            .iter()
            .any(|(from, to)| (from..=to).contains(&letter))
    };
    let usual = ['a', '1', 'A', ' ', '-', '"'].into_iter().find(has);
    usual
        .or_else(|| ranges.first().map(|(from, _)| *from))
        .unwrap_or('a')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(source: &str, replaces: bool, expected: Option<&str>) {
        let pattern = Pattern::finding(source).unwrap();
        let found = quadratic(&pattern, source, replaces);
        assert_eq!(
            found.as_ref().map(|(blamed, _)| blamed.as_str()),
            expected,
            "{source}"
        );
    }

    #[test]
    fn what_needs_the_square_is_found() {
        check("[0-9]+-[0-9]+|[0-9]", true, Some("[0-9]+"));
        check("(?!x)a+(?=b)", false, Some("a+"));
        check("(?=.*password)(?=.*secret)", false, Some(".*"));
        check("a.*z|a", true, Some(".*"));
        check(r"(a*)\1(?=b)", false, Some("a*"));
        check("^(?:(?!x)a+)+(?=b)$", false, Some("(?:a+)+"));
    }

    #[test]
    fn ordinary_patterns_are_not_blamed() {
        for source in [
            "password",
            "[0-9]+",
            r#""password":\s*"[^"]*""#,
            r"[a-zA-Z0-9.!#$%&*+/=?^_`{|}~-]+@[a-zA-Z0-9-]+(?:\.[a-zA-Z0-9-]+)",
            r"[0-9.\-/]{9,}",
            r"eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+",
            r"(?<!\d)\d{13,16}(?!\d)",
            r"[\w.+-]+@(?!example\.com)[\w.-]+",
            "^(?!.*test).*$",
            r#""(?:(?!").)*""#,
            "-----BEGIN [A-Z ]+-----[^-]+-----END [A-Z ]+-----",
            r"<[^>]*>",
            "",
        ] {
            check(source, true, None);
            check(source, false, None);
        }
    }
}
