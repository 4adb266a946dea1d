//! The language of rules as far as the store needs it: rules are read, and applied to the details of a call.
//!
//! The store does not depend on the engine, whose language it is; the program around both passes it in
//! ([`Opened::with_rules`](crate::Opened::with_rules)).

use std::sync::Arc;

use serde::Serialize;

/// The language of rules.
pub trait Rules: Send + Sync + std::fmt::Debug {
    /// Reads rules; no file is read.
    ///
    /// # Errors
    /// They are not valid.
    fn parse(&self, text: &str) -> Result<Box<dyn Trial>, RulesError>;
}

/// Rules that are tried.
pub trait Trial: Send {
    /// Applies them to the details of a call.
    fn apply(&mut self, details: &[(String, String)]) -> Tried;

    /// Each rule, and how often it matched.
    fn rules(&self) -> Vec<TriedRule>;
}

/// What rules do to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    /// Whether it would be sent.
    pub outcome: Outcome,
    /// What is left of each detail; none where it is removed.
    pub left: Vec<Option<String>>,
}

/// Whether a call would be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It would.
    Kept,
    /// A rule stops it.
    Stopped,
    /// The rule `sample` leaves it out.
    Sampled,
    /// Every detail is removed.
    Emptied,
}

/// A rule, and how often it matched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TriedRule {
    /// Line of the text.
    pub line: usize,
    /// As it was written.
    pub rule: String,
    /// Details, or values inside them, that it stopped, removed or changed.
    pub hits: u64,
}

/// Why rules are not valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RulesError {
    /// One sentence or two.
    pub message: String,
    /// Line of the text, from 1.
    pub line: usize,
    /// Character of the line, from 1.
    pub column: usize,
    /// The line.
    pub source: String,
}

/// What the program passes in.
pub(crate) type SharedRules = Option<Arc<dyn Rules>>;
