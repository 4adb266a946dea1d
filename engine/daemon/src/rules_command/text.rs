//! Text on standard output: details on one line each.

use std::io::Write as _;

use crate::diagnostic::{Code, Diagnostic, system_words};
use crate::printer::printable;
use crate::rule_trial::Detail;

/// Characters of a value that are shown.
pub(super) const VALUE_COLUMNS: usize = 160;

/// Characters that are shown before the first difference of two values.
const CONTEXT_COLUMNS: usize = 40;

/// Writes to standard output; a closed pipe is no error.
pub(super) fn write(text: &str) -> Result<(), Diagnostic> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Diagnostic::new(
            Code::E199,
            format!("cannot write to standard output: {}", system_words(&error)),
        )),
        _ => Ok(()),
    }
}

/// A line for each detail: `-` removed, `~` changed with `>` the new value, `+` added, otherwise kept.
pub(super) fn compare(before: &[Detail], after: &[Detail]) -> Vec<String> {
    let mut lines = Vec::new();
    let mut after = after;
    let line = |mark: char, key: &str, value: &str| {
        format!("{mark} {:<32} {value}", printable(key, VALUE_COLUMNS))
            .trim_end()
            .to_owned()
    };
    for (index, (key, value)) in before.iter().enumerate() {
        let later = before.get(index + 1..).unwrap_or_default();
        // Only session fields are made by rules.
        while let Some(((added, text), rest)) = after.split_first()
            && added != key
            && !later.iter().any(|(other, _)| other == added)
        {
            lines.push(line('+', added, &cut(text, 0)));
            after = rest;
        }
        let left = after.split_first().filter(|((other, _), _)| other == key);
        match left {
            Some(((_, text), rest)) if text == value => {
                lines.push(line(' ', key, &cut(value, 0)));
                after = rest;
            }
            // What is left may be what became of a later detail of that name.
            Some(((_, text), rest))
                if !later.iter().any(|(other, old)| other == key && old == text) =>
            {
                let same = value
                    .chars()
                    .zip(text.chars())
                    .take_while(|(a, b)| a == b)
                    .count();
                lines.push(line('~', key, &cut(value, same)));
                lines.push(line('>', "", &cut(text, same)));
                after = rest;
            }
            _ => lines.push(line('-', key, &cut(value, 0))),
        }
    }
    lines.extend(
        after
            .iter()
            .map(|(key, value)| line('+', key, &cut(value, 0))),
    );
    lines
}

/// The part of a value around a difference, on one line.
pub(super) fn cut(value: &str, difference: usize) -> String {
    let skipped = match value.chars().count() > VALUE_COLUMNS {
        true => difference.saturating_sub(CONTEXT_COLUMNS),
        false => 0,
    };
    let rest: String = value.chars().skip(skipped).collect();
    let mark = if skipped > 0 { "…" } else { "" };
    format!("{mark}{}", printable(&rest, VALUE_COLUMNS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(before: &[(&str, &str)], after: &[(&str, &str)], expected: &[&str]) {
        let details = |pairs: &[(&str, &str)]| -> Vec<Detail> {
            pairs
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect()
        };
        let lines = compare(&details(before), &details(after));
        let words: Vec<String> = lines
            .iter()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        assert_eq!(words, expected);
    }

    #[test]
    fn details_are_marked() {
        check(
            &[("a", "1"), ("b", "2")],
            &[("a", "1"), ("b", "2")],
            &["a 1", "b 2"],
        );
        check(
            &[("a", "1"), ("b", "2")],
            &[("b", "3")],
            &["- a 1", "~ b 2", "> 3"],
        );
        check(&[("a", "1"), ("a", "2")], &[("a", "2")], &["- a 1", "a 2"]);
        check(
            &[("a", "1"), ("now", "2")],
            &[("a", "1"), ("s", "x"), ("now", "2")],
            &["a 1", "+ s x", "now 2"],
        );
        check(&[("a", "1")], &[], &["- a 1"]);
    }

    #[test]
    fn long_values_are_cut_to_their_difference() {
        let long = "x".repeat(500);
        let cut = cut(&format!("{long}secret"), 500);
        assert!(cut.contains("secret") && cut.chars().count() < 200, "{cut}");
    }
}
