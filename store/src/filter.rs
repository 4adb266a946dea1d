//! The filter of the list and the stream: a text, parsed once into a tree, matched against lines.
//!
//! ```text
//! filter = *( word / white space )        ; every word must occur in the call
//! ```
//!
//! A word is searched for as it is written, in upper and lower case, so `%`, `_`, `.*` and quotes stand for themselves. It is
//! searched for in the line as it was sent, which holds method, URL, status, headers and bodies. Time stamps are left out,
//! since their digits would match any status code sooner or later, and only long words match the ids of exchange and connection.
//! In a line the text of a body is JSON-escaped, so a word with a quote or a backslash is also searched for in its escaped form.
//!
//! Whether a call matches is decided here, for every backend. A backend may use the tree to read less: [`Expression`] is
//! public so that it can be translated into the backend's own query language. Such a condition may let through too much, since
//! every line that passes is matched again; it must never let through too little. For a word it may search for
//! [`Word::texts`].

use std::fmt;
use std::sync::Arc;

use regex::{Regex, RegexBuilder};

use crate::limits::FILTER_BYTES_MAX;

/// A parsed filter. Clones share the tree. The empty filter matches every call.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    expression: Arc<Expression>,
}

/// A node of the tree.
#[derive(Clone, Debug)]
pub enum Expression {
    /// Each of these matches; without any, every line does.
    And(Vec<Self>),
    /// The line contains a word.
    Word(Word),
}

/// A word that is searched for.
#[derive(Clone, Debug)]
pub struct Word {
    text: String,
    /// The text as a JSON string contains it, when that differs.
    escaped: Option<String>,
    pattern: Regex,
    /// Long enough to be part of an id on purpose.
    is_long: bool,
}

/// Why a text is no filter, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error {
    /// Offset of the error in bytes.
    pub position: usize,
    /// What is wrong at that offset.
    pub reason: Reason,
}

/// What is wrong with a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It is longer than [`FILTER_BYTES_MAX`].
    TooLong,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason {
            Reason::TooLong => write!(f, "a filter has at most {FILTER_BYTES_MAX} bytes"),
        }
    }
}

impl std::error::Error for Error {}

impl Filter {
    /// Parses a filter.
    ///
    /// # Errors
    /// The text is no filter.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let too_long = |position| Error {
            position,
            reason: Reason::TooLong,
        };
        if text.len() > FILTER_BYTES_MAX {
            return Err(too_long(text.floor_char_boundary(FILTER_BYTES_MAX)));
        }
        let words = words(text).map(|(position, text)| {
            let word = Word::new(text).map_err(|_| too_long(position))?;
            Ok(Expression::Word(word))
        });
        let expression = Expression::And(words.collect::<Result<_, _>>()?);
        Ok(Self {
            expression: Arc::new(expression),
        })
    }

    /// The tree, for a backend that translates it.
    pub fn expression(&self) -> &Expression {
        &self.expression
    }

    /// Whether every line matches, so that none has to be read.
    pub fn is_empty(&self) -> bool {
        self.expression.is_always_true()
    }

    /// Whether a line matches.
    pub fn matches(&self, line: &str) -> bool {
        self.is_empty() || self.expression.matches(&Searched::new(line))
    }
}

impl Expression {
    fn is_always_true(&self) -> bool {
        match self {
            Self::And(parts) => parts.iter().all(Self::is_always_true),
            Self::Word(_) => false,
        }
    }

    fn matches(&self, line: &Searched<'_>) -> bool {
        match self {
            Self::And(parts) => parts.iter().all(|part| part.matches(line)),
            Self::Word(word) => word.occurs_in(line),
        }
    }
}

impl Default for Expression {
    fn default() -> Self {
        Self::And(Vec::new())
    }
}

/// A line in two parts: what stands before its `now` detail, and the interval, the annotations and the host of the logger
/// behind it.
struct Searched<'a> {
    before: &'a str,
    behind: &'a str,
}

impl<'a> Searched<'a> {
    /// Inside a value the quotes would be escaped, so this finds no look-alike.
    fn new(line: &'a str) -> Self {
        const NOW: &str = r#"["now",""#;
        let (before, rest) = line.rsplit_once(NOW).unwrap_or((line, ""));
        let behind = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        Self { before, behind }
    }
}

/// Characters from which on a word is searched for in ids.
const ID_WORD_CHARS: usize = 8;

impl Word {
    fn new(text: &str) -> Result<Self, regex::Error> {
        let escaped = json_escaped(text);
        let escaped = (escaped != text).then_some(escaped);
        let pattern = match &escaped {
            Some(escaped) => format!("{}|{}", regex::escape(text), regex::escape(escaped)),
            None => regex::escape(text),
        };
        Ok(Self {
            text: text.to_owned(),
            escaped,
            pattern: RegexBuilder::new(&pattern).case_insensitive(true).build()?,
            is_long: text.chars().count() >= ID_WORD_CHARS,
        })
    }

    /// Texts of which every line that matches contains at least one, when cases are ignored as in Unicode's simple case
    /// folding. A line that contains one need not match.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.text.as_str()).chain(self.escaped.as_deref())
    }

    fn occurs_in(&self, line: &Searched<'_>) -> bool {
        self.pattern.is_match(line.before)
            || line
                .behind
                .split("],[")
                .any(|detail| self.occurs_in_detail(detail))
    }

    fn occurs_in_detail(&self, detail: &str) -> bool {
        let name = detail
            .strip_prefix("\"custom_field:")
            .and_then(|rest| rest.split('"').next());
        match name {
            Some(name) if name.ends_with("_started") || name.ends_with("_ended") => false,
            Some("exchange_id" | "connection_id") if !self.is_long => false,
            _ => self.pattern.is_match(detail),
        }
    }
}

/// The words of a text with their offsets in bytes.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let start = text.as_ptr().addr();
    text.split_whitespace()
        .map(move |word| (word.as_ptr().addr() - start, word))
}

fn json_escaped(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .unwrap_or(&quoted)
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"[["request_method","POST"],["request_url","http://Shop.example/v1/a_b"],["response_code","201"],["response_body","{\"rate\":\"5%\",\"Straße\":\"a\\b\"} .*"],["now","1700000000500"],["interval","12"],["custom_field:exchange_id","0503abcdef"],["custom_field:vni","77"],["custom_field:request_started","1700000000502000000"],["host","box"]]"#;

    #[track_caller]
    fn check(filter: &str, expected: bool) {
        assert_eq!(
            Filter::parse(filter).expect("short").matches(LINE),
            expected,
            "{filter}"
        );
    }

    #[test]
    fn words_are_plain_text() {
        for filter in [
            "",
            "  ",
            "post",
            "POST 201",
            "shop.EXAMPLE/v1",
            "a_b",
            "5%",
            ".*",
            "STRASSE",
            "straße",
            "box",
        ] {
            check(filter, filter != "STRASSE");
        }
        for filter in [
            "get",
            "post 404",
            "a%b",
            "axb",
            "%",
            "_",
            "o.t",
            "[a-z]+",
            "(",
            "'",
            "' or 1=1 --",
        ] {
            check(filter, matches!(filter, "%" | "_"));
        }
    }

    #[test]
    fn quotes_and_backslashes_are_found_escaped() {
        check(r#""rate":"5%""#, true);
        check(r"a\b", true);
        check(r#"["request_method","POST"]"#, true);
        check(r#""rate":"6%""#, false);
    }

    #[test]
    fn the_time_stamp_is_no_text() {
        check("500", false);
        check("1700000000500", false);
        check("502", false);
        check("12", true);
        check("77", true);
    }

    #[test]
    fn only_long_words_match_ids() {
        check("503", false);
        check("0503ABCDEF", true);
    }

    #[test]
    fn texts_let_through_whatever_matches() {
        for filter in [
            "POST shop.example",
            r#""rate":"5%""#,
            r"a\b",
            "straße",
            "0503ABCDEF",
            "500",
        ] {
            let filter = Filter::parse(filter).expect("short");
            let Expression::And(parts) = filter.expression() else {
                panic!("a filter is a conjunction");
            };
            let folded = LINE.to_lowercase();
            let is_let_through = parts.iter().all(|part| match part {
                Expression::And(_) => panic!("a word is no conjunction"),
                Expression::Word(word) => word
                    .texts()
                    .any(|text| folded.contains(&text.to_lowercase())),
            });
            assert!(is_let_through, "{filter:?}");
        }
    }

    #[test]
    fn words_have_their_offsets() {
        let found: Vec<_> = words(" é\u{3000}b  c").collect();
        assert_eq!(found, [(1, "é"), (6, "b"), (9, "c")]);
        assert_eq!(words("  ").count(), 0);
    }

    #[test]
    fn an_error_has_its_position() {
        let long = "x".repeat(FILTER_BYTES_MAX + 1);
        let error = Filter::parse(&long).expect_err("too long");
        assert_eq!(
            error,
            Error {
                position: FILTER_BYTES_MAX,
                reason: Reason::TooLong
            }
        );
        assert_eq!(error.to_string(), "a filter has at most 1024 bytes");
        assert!(Filter::parse(&"é".repeat(FILTER_BYTES_MAX / 2)).is_ok());
    }
}
