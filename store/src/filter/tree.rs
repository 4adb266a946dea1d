//! The tree of a filter: what a backend translates, and what decides whether a call matches.

use regex::{Regex, RegexBuilder};

use super::error::Reason;
use super::names::Source;
use super::word::Word;
use crate::limits::FILTER_PATTERN_BYTES_MAX;

/// A node of the tree. `!=` and `!~` are the negations of `==` and `~`, and `in` is `==` with several values.
#[derive(Clone, Debug)]
pub enum Expression {
    /// Each of these matches; without any, every call does.
    And(Vec<Self>),
    /// One of these matches.
    Or(Vec<Self>),
    /// This does not match.
    Not(Box<Self>),
    /// The line contains a word.
    Word(Word),
    /// A field has a value that passes a test. A call without the field does not match.
    Compare(Comparison),
}

impl Default for Expression {
    fn default() -> Self {
        Self::And(Vec::new())
    }
}

impl Expression {
    /// Whether one of its comparisons has a property.
    pub fn any_comparison(&self, has: &dyn Fn(&Comparison) -> bool) -> bool {
        match self {
            Self::And(parts) | Self::Or(parts) => parts.iter().any(|part| part.any_comparison(has)),
            Self::Not(part) => part.any_comparison(has),
            Self::Word(_) => false,
            Self::Compare(comparison) => has(comparison),
        }
    }

    /// Whether every call matches without being looked at.
    pub fn is_always_true(&self) -> bool {
        matches!(self, Self::And(parts) if parts.is_empty())
    }
}

/// A field and what its value must be.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// What is read of the call.
    pub source: Source,
    /// What one of its values must pass.
    pub test: Test,
}

/// What a value must be.
#[derive(Clone, Debug)]
pub enum Test {
    /// One of these.
    In(Vec<Constant>),
    /// A text in which the pattern is found.
    Found(Pattern),
    /// A number in this relation to another.
    Ordered(Order, f64),
}

/// A relation between two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `>`
    Greater,
    /// `>=`
    AtLeast,
}

impl Order {
    /// Whether `left` is in this relation to `right`.
    pub fn holds(self, left: f64, right: f64) -> bool {
        match self {
            Self::Less => left < right,
            Self::AtMost => left <= right,
            Self::Greater => left > right,
            Self::AtLeast => left >= right,
        }
    }
}

/// A value in a filter.
#[derive(Clone, Debug, PartialEq)]
pub enum Constant {
    /// A number, never NaN; in milliseconds or bytes where it has a unit.
    Number(f64),
    /// A text, compared octet by octet.
    Text(String),
}

/// A regular expression that ignores case, unless it begins with `(?-i)`.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: String,
    regex: Regex,
}

impl Pattern {
    pub(super) fn new(text: &str) -> Result<Self, Reason> {
        let regex = RegexBuilder::new(text)
            .case_insensitive(true)
            .size_limit(FILTER_PATTERN_BYTES_MAX)
            .dfa_size_limit(FILTER_PATTERN_BYTES_MAX)
            .build();
        match regex {
            Ok(regex) => Ok(Self {
                text: text.to_owned(),
                regex,
            }),
            Err(regex::Error::CompiledTooBig(_)) => Err(Reason::PatternTooLarge),
            Err(error) => Err(Reason::Pattern(last_line(&error.to_string()))),
        }
    }

    /// The expression as it stands in the filter.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The text that has to occur, in upper or lower case, where the expression is nothing but a text.
    pub fn literal(&self) -> Option<&str> {
        (regex::escape(&self.text) == self.text).then_some(self.text.as_str())
    }

    /// Whether it is found in a text.
    pub fn is_found_in(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }
}

/// The sentence of a message that shows the expression above it.
fn last_line(message: &str) -> String {
    let last = message.trim_end().lines().next_back().unwrap_or_default();
    last.trim_start_matches("error:").trim().to_owned()
}
