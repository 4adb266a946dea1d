//! The rules language: which details and which calls may leave.
//!
//! [`RuleSet::parse`] reads rule text; [`RuleSet::plan`], [`RuleSet::apply`] and [`RuleSet::verdict`] decide on details
//! and calls. Source: `docs/contract.md`, section 4, with the decisions D1 to D5, and masks that reach into bodies
//! (manual: `docs/rules.md`). A set is immutable; plans, which are worth keeping between details, are kept by the caller.
//! Reads no file: whoever finds a [`file_reference`] in the text reads it.

mod advice;
mod apply;
mod ascii;
mod automaton;
mod backtrack;
mod beginnings;
mod body;
mod charset;
mod compiled;
mod counted;
mod credentials;
mod linear;
mod matches;
mod memory;
mod names;
mod parse;
mod partial;
mod path;
mod pattern;
mod prefilter;
mod presets;
mod replacement;
mod scopes;
mod searches;
mod set;
mod translate;
mod trial;
mod verb;
mod work;

pub use advice::Advice;
pub use apply::{Extent, Findings, Plan, Sampler, Scratch, Verdict, apply_all};
pub use charset::{Charset, has_wide_text};
pub use credentials::Credential;
pub use memory::Memory;
pub use parse::{Class, Error, file_reference};
pub use searches::NameWork;
pub use set::{Rule, RuleSet};
pub use verb::Verb;

#[cfg(test)]
pub(crate) mod tests;
