//! The rules language: what may leave.
//!
//! Rule text in ([`RuleSet::parse`]), a verdict per detail and per call out ([`RuleSet::plan`], [`RuleSet::apply`],
//! [`RuleSet::verdict`]). Source: section 4 of the contract with Resurface, with the decisions D1 to D5, and masks that
//! reach into bodies (manual: `docs/rules.md`). A set is immutable; what is worth keeping between details (plans per key) is kept by the caller. Reads no file: who finds
//! [`file_reference`] in the text reads it.

mod advice;
mod apply;
mod body;
mod matches;
mod parse;
mod path;
mod pattern;
mod prefilter;
mod presets;
mod set;
mod translate;
mod verb;

pub use advice::Advice;
pub use apply::{Plan, Sampler, Scratch, Tally, Verdict, apply_all};
pub use parse::{Class, Error, file_reference};
pub use set::{Rule, RuleSet};
pub use verb::Verb;

#[cfg(test)]
pub(crate) mod tests;
