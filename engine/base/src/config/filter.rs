//! A filter of the command line, and the problem of one that cannot be read, with a mark under the place.

use store::filter::{Error, Filter};

use crate::diagnostic::{Code, Diagnostic, printable};

/// Parses a filter.
pub fn filter(text: &str) -> Result<Filter, Diagnostic> {
    Filter::parse(text).map_err(|error| problem(text, &error))
}

fn problem(text: &str, error: &Error) -> Diagnostic {
    let before = text.get(..error.position).unwrap_or_default();
    let wrong = text.get(error.position..error.end).unwrap_or_default();
    // One line, in which each character has one column.
    let line = printable(text).replace(['\n', '\t'], " ");
    let blanks = " ".repeat(before.chars().count());
    let marks = "^".repeat(wrong.chars().count().max(1));
    let problem = Diagnostic::new(Code::E130, format!("filter: {error}"))
        .cause(format!("{line}\n{blanks}{marks}"));
    match error.guess() {
        Some(guess) => {
            let rest = text.get(error.end..).unwrap_or_default();
            problem.fix(printable(&format!("{before}{guess}{rest}")))
        }
        None => problem.fix("sniffer help E130    shows the language"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_is_marked_and_the_fix_can_be_pasted() {
        let problem = filter("é statsu>=500").expect_err("a misspelt field");
        assert_eq!(
            problem.render(false),
            "error[E130]: filter: there is no field \"statsu\"; did you mean status?\n  \
             cause: é statsu>=500\n           ^^^^^^\n  fix: é status>=500\n"
        );
        let problem = filter("a\x1b[31m and").expect_err("nothing follows");
        assert!(!problem.render(false).contains('\x1b'));
    }
}
