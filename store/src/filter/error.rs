//! What is wrong with a filter, where, and what was probably meant.

use std::fmt;

use crate::fields::Kind;
use crate::limits::{
    FILTER_BYTES_MAX, FILTER_DEPTH_MAX, FILTER_PATTERN_BYTES_MAX, FILTER_PATTERNS_MAX,
    FILTER_TERMS_MAX,
};

/// Why a text is no filter, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// Offset of the error in bytes.
    pub position: usize,
    /// Offset behind what is wrong.
    pub end: usize,
    /// What is wrong there.
    pub reason: Reason,
}

/// What is wrong with a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It is longer than [`FILTER_BYTES_MAX`].
    TooLong,
    /// Its parentheses and `not`s are nested deeper than [`FILTER_DEPTH_MAX`].
    TooDeep,
    /// It has more words and values than [`FILTER_TERMS_MAX`].
    TooManyTerms,
    /// It has more patterns than [`FILTER_PATTERNS_MAX`].
    TooManyPatterns,
    /// A name before an operator is no field.
    NoSuchField {
        /// The name.
        name: String,
        /// The field that was probably meant.
        guess: Option<String>,
    },
    /// Characters that look like an operator, and the one that was probably meant.
    NoSuchOperator {
        /// The characters.
        found: &'static str,
        /// The operator.
        guess: &'static str,
    },
    /// An operator has no field before it.
    NoField,
    /// A value is missing behind an operator, in a list, or there is a parenthesis instead.
    NoValue,
    /// A word, a comparison or a parenthesis is missing.
    NoTerm,
    /// A list is not separated by commas or not closed.
    NoEndOfList,
    /// A quotation mark is not closed.
    OpenQuote,
    /// A parenthesis is not closed.
    OpenParenthesis,
    /// A parenthesis was not opened.
    CloseParenthesis,
    /// The value for a field of this kind is none.
    NotOfKind {
        /// The kind.
        kind: Kind,
        /// A value that is probably meant.
        guess: Option<String>,
    },
    /// `~` with a number.
    NumberHasNoPattern,
    /// `<`, `>` and their like with a text.
    TextHasNoOrder,
    /// A pattern is no regular expression, with the reason.
    Pattern(String),
    /// A pattern is larger than [`FILTER_PATTERN_BYTES_MAX`] when compiled.
    PatternTooLarge,
}

impl Error {
    /// What was probably meant instead of the text from `position` to `end`.
    pub fn guess(&self) -> Option<&str> {
        match &self.reason {
            Reason::NoSuchField { guess, .. } | Reason::NotOfKind { guess, .. } => guess.as_deref(),
            Reason::NoSuchOperator { guess, .. } => Some(guess),
            _ => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reason {
            Reason::TooLong => write!(f, "a filter has at most {FILTER_BYTES_MAX} bytes"),
            Reason::TooDeep => write!(
                f,
                "parentheses and not may be nested {FILTER_DEPTH_MAX} deep"
            ),
            Reason::TooManyTerms => {
                write!(f, "a filter has at most {FILTER_TERMS_MAX} words and values")
            }
            Reason::TooManyPatterns => {
                write!(f, "a filter has at most {FILTER_PATTERNS_MAX} patterns")
            }
            Reason::NoSuchField { name, .. } => write!(f, "there is no field {name:?}"),
            Reason::NoSuchOperator { found, .. } => write!(
                f,
                "{found} is no operator; text that has it needs quotation marks"
            ),
            Reason::NoField => f.write_str("the name of a field is missing before the operator"),
            Reason::NoValue => f.write_str("a value is missing here"),
            Reason::NoTerm => f.write_str("a word or a comparison is missing here"),
            Reason::NoEndOfList => f.write_str("a list has commas between its values and ends with )"),
            Reason::OpenQuote => f.write_str("this quotation mark is not closed"),
            Reason::OpenParenthesis => f.write_str("this parenthesis is not closed"),
            Reason::CloseParenthesis => f.write_str("this parenthesis was not opened"),
            Reason::NotOfKind { kind, .. } => f.write_str(match kind {
                Kind::Number | Kind::Text => "a number is expected, such as 500",
                Kind::Duration => "a duration is expected, such as 250ms, 1.5s or 2min",
                Kind::Bytes => "a number of bytes is expected, such as 512, 10kB or 1MiB",
                Kind::Time => {
                    "a time is expected, such as 2026-01-31, 2026-01-31T12:00:00Z or milliseconds since 1970"
                }
            }),
            Reason::NumberHasNoPattern => {
                f.write_str("this field is a number: compare it with == != < > <= >= or in")
            }
            Reason::TextHasNoOrder => {
                f.write_str("this field is text: compare it with == != ~ !~ or in")
            }
            Reason::Pattern(reason) => write!(f, "this is no regular expression: {reason}"),
            Reason::PatternTooLarge => write!(
                f,
                "this regular expression needs more than {FILTER_PATTERN_BYTES_MAX} bytes"
            ),
        }?;
        match self.guess() {
            Some(guess) => write!(f, "; did you mean {guess}?"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}
