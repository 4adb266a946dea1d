//! The rules language: what may leave.
//!
//! Rule text in ([`RuleSet::parse`]), a verdict per detail and per call out ([`RuleSet::plan`], [`RuleSet::apply`],
//! [`RuleSet::verdict`]). Source: section 4 of the contract with Resurface, with the decisions D1 to D5, and masks that
//! reach into bodies (manual: `docs/rules.md`). A set is immutable; what is worth keeping between details (plans per key) is kept by the caller. Reads no file: who finds
//! [`file_reference`] in the text reads it.

mod advice;
mod apply;
mod inside;
mod json;
mod need;
mod parse;
mod path;
mod pattern;
mod presets;
mod translate;
mod verb;

pub use advice::Advice;
pub use apply::{Plan, Sampler, Scratch, Tally, Verdict, apply_all};
pub use parse::{Class, Error, file_reference};
pub use verb::Verb;

use path::Path;
use pattern::{Pattern, Replacement};

/// A whole set of rules.
///
/// A clone has matching caches of its own, so each thread clones the set once and then takes no lock of another's.
#[derive(Clone, Debug, Default)]
pub struct RuleSet {
    /// In order of application.
    rules: Vec<Rule>,
    /// `copy_session_field` patterns, in text order.
    session: Vec<Pattern>,
    sample: Option<u8>,
    /// Number of `stop_unless_found` rules.
    stop_unless_found: usize,
    /// Number of `stop_unless` rules.
    stop_unless: usize,
    allow_http_url: bool,
    skip_compression: bool,
    skip_submission: bool,
}

/// One rule that looks at details.
#[derive(Clone, Debug)]
pub struct Rule {
    verb: Verb,
    scope: Pattern,
    /// Where in a body it looks, when it looks into one.
    path: Option<Path>,
    action: Action,
    /// A predefined set brought it.
    pub included: bool,
    /// Line of the text it stands on (of the include that brought it), from 1.
    pub line: usize,
    /// As written.
    pub source: Box<str>,
}

#[derive(Clone, Debug)]
enum Action {
    /// `remove` and `stop` ask for no value.
    Always,
    Test(Pattern),
    Replace {
        find: Pattern,
        with: Replacement,
    },
}

impl RuleSet {
    /// Reads rule text; blank text is the default set, which is strict. The first error refuses all of it.
    pub fn parse(text: &str) -> Result<Self, Error> {
        parse::parse(text)
    }

    /// Whether the capture URL may be plain `http:`.
    pub fn allow_http_url(&self) -> bool {
        self.allow_http_url
    }

    /// Whether bundles go out uncompressed.
    pub fn skip_compression(&self) -> bool {
        self.skip_compression
    }

    /// Whether nothing is to be built or sent.
    pub fn skip_submission(&self) -> bool {
        self.skip_submission
    }

    /// The rules that look at details, in order of application.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Calls of a hundred that the sample rule keeps.
    pub fn sample(&self) -> Option<u8> {
        self.sample
    }

    /// Number of `copy_session_field` rules.
    pub fn session_rules(&self) -> usize {
        self.session.len()
    }

    /// Whether a rule may drop a call because of what is in it.
    pub fn stops(&self) -> bool {
        self.rules
            .first()
            .is_some_and(|rule| rule.verb.rank() < Verb::Remove.rank())
    }

    fn ordered(mut self) -> Self {
        let count = |verb| self.rules.iter().filter(|rule| rule.verb == verb).count();
        self.stop_unless_found = count(Verb::StopUnlessFound);
        self.stop_unless = count(Verb::StopUnless);
        self.rules.sort_by_key(|rule| rule.verb.rank());
        self
    }
}

#[cfg(test)]
pub(crate) mod tests;
