//! The filter of the list, the stream, exports and the command line: a text, parsed once into a tree, matched against calls.
//!
//! `docs/filter.md` is its manual. The names are in [`names`], the grammar in `parser`, the tree in [`tree`].
//!
//! Whether a call matches is decided here, for every backend. A backend may use the tree to read less: [`Expression`] is
//! public so that it can be translated into the backend's own query language. Such a condition may let through too much, since
//! every call that passes is matched again; it must never let through too little. For a word it may search for
//! [`Word::texts`]. A backend that has columns apart from the line lets [`Filter::decide`] look at them first.

mod constant;
mod error;
pub mod names;
mod parser;
mod subject;
#[cfg(test)]
mod tests;
pub mod tree;
mod word;

use std::sync::Arc;

pub use constant::duration;
pub use error::{Error, Reason};
pub use subject::{Known, Value};
pub use tree::Expression;
pub use word::Word;

/// A parsed filter. Clones share the tree. The empty filter matches every call.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    expression: Arc<Expression>,
}

impl Filter {
    /// Parses a filter.
    ///
    /// # Errors
    /// The text is no filter.
    pub fn parse(text: &str) -> Result<Self, Error> {
        Ok(Self {
            expression: Arc::new(parser::parse(text)?),
        })
    }

    /// The tree, for a backend that translates it.
    pub fn expression(&self) -> &Expression {
        &self.expression
    }

    /// Whether every call matches, so that none has to be read.
    pub fn is_empty(&self) -> bool {
        self.expression.is_always_true()
    }

    /// Whether it compares what is only in lines with annotations.
    pub fn needs_annotations(&self) -> bool {
        self.expression
            .any_comparison(&|comparison| comparison.source.is_annotation())
    }

    /// Whether a call matches of which only the line is known.
    pub fn matches(&self, line: &str) -> bool {
        self.matches_known(&(), line)
    }

    /// Whether a call matches, as far as its columns decide that; `None` when its line is needed.
    pub fn decide(&self, known: &impl Known) -> Option<bool> {
        subject::decide(&self.expression, known)
    }

    /// Whether a call matches of which some columns are known beside the line. They win over the line.
    pub fn matches_known(&self, known: &impl Known, line: &str) -> bool {
        self.is_empty() || subject::matches(&self.expression, known, line)
    }
}
