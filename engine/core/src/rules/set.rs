//! A set of rules in memory, as the parser makes it and the application uses it.

use std::hash::Hasher as _;

use siphasher::sip::SipHasher24;

use super::path::Path;
use super::pattern::Pattern;
use super::replacement::Replacement;
use super::scopes::Scopes;
use super::verb::Verb;

/// A whole set of rules.
///
/// What searches keep is not in it, but in the [`Scratch`](super::Scratch) and the [`NameWork`](super::NameWork) of each thread.
#[derive(Clone, Debug, Default)]
pub struct RuleSet {
    /// In order of application.
    pub(super) rules: Vec<Rule>,
    pub(super) scopes: Scopes,
    /// `copy_session_field` patterns, in text order.
    pub(super) session: Vec<Pattern>,
    pub(super) sample: Option<u8>,
    /// Number of `stop_unless_found` rules.
    pub(super) stop_unless_found: usize,
    /// Number of `stop_unless` rules.
    pub(super) stop_unless: usize,
    pub(super) allow_http_url: bool,
    pub(super) skip_compression: bool,
    pub(super) skip_submission: bool,
}

/// One rule that looks at details.
#[derive(Clone, Debug)]
pub struct Rule {
    pub(super) verb: Verb,
    pub(super) scope: Pattern,
    /// Where in a body it looks, when it looks into one.
    pub(super) path: Option<Path>,
    pub(super) action: Action,
    /// It comes from a predefined set.
    pub included: bool,
    /// Line of the text it stands on (of the include that brought it), from 1.
    pub line: usize,
    /// As written.
    pub source: Box<str>,
}

#[derive(Clone, Debug)]
pub(super) enum Action {
    /// `remove` and `stop` test no value.
    Always,
    Test(Pattern),
    Replace {
        find: Pattern,
        with: Replacement,
    },
}

impl Action {
    /// Its pattern.
    pub(super) fn pattern(&self) -> Option<&Pattern> {
        match self {
            Self::Always => None,
            Self::Test(pattern) | Self::Replace { find: pattern, .. } => Some(pattern),
        }
    }
}

impl RuleSet {
    /// Whether the capture URL may be plain `http:`.
    pub fn allow_http_url(&self) -> bool {
        self.allow_http_url
    }

    /// Whether bundles go out uncompressed.
    pub fn skip_compression(&self) -> bool {
        self.skip_compression
    }

    /// Whether nothing is built or sent.
    pub fn skip_submission(&self) -> bool {
        self.skip_submission
    }

    /// The rules that look at details, in order of application.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// A number that differs where the lines that the rules make may differ: of the rules in their order, as they were
    /// written, and of the options that change lines. It is the same in every process.
    pub fn fingerprint(&self) -> u64 {
        // The key is no secret: nobody gains by two sets with one number.
        let mut hasher = SipHasher24::new();
        for rule in &self.rules {
            hasher.write(rule.verb.name().as_bytes());
            hasher.write(&[0]);
            hasher.write(rule.source.as_bytes());
            hasher.write(&[0]);
        }
        for pattern in &self.session {
            hasher.write(&[1]);
            hasher.write(pattern.source().as_bytes());
        }
        hasher.write(&[2, self.sample.unwrap_or(0)]);
        // 0 stands for rules that are not known.
        hasher.finish().max(1)
    }

    /// Per cent of the calls that the sample rule keeps.
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

    /// Whether a rule may drop a call because of a detail whose key begins with `prefix`.
    pub fn may_stop_for(&self, prefix: &str) -> bool {
        let mut stops = self.rules.iter();
        stops.any(|rule| {
            rule.verb.rank() < Verb::Remove.rank() && rule.scope.may_match_behind(prefix)
        })
    }

    pub(super) fn ordered(mut self) -> Self {
        let count = |verb| self.rules.iter().filter(|rule| rule.verb == verb).count();
        self.stop_unless_found = count(Verb::StopUnlessFound);
        self.stop_unless = count(Verb::StopUnless);
        self.rules.sort_by_key(|rule| rule.verb.rank());
        self.scopes = Scopes::new(self.rules.iter().map(|rule| &rule.scope));
        let mut next = 0;
        self.scopes.place(&mut next);
        for rule in &mut self.rules {
            rule.scope.place(&mut next);
            if let Action::Test(pattern) | Action::Replace { find: pattern, .. } = &mut rule.action
            {
                pattern.place(&mut next);
            }
        }
        for name in &mut self.session {
            name.place(&mut next);
        }
        self
    }
}

impl Rule {
    /// Its verb.
    pub fn verb(&self) -> Verb {
        self.verb
    }

    /// Whether its path has the number of a field, as messages of protobuf have it without a schema.
    pub fn looks_for_number(&self) -> bool {
        self.path.as_ref().is_some_and(Path::has_number)
    }

    /// Its text, of which a rule set of this rule alone can be made.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Its text for people; that of a predefined set ends where it becomes long.
    pub fn shown(&self) -> String {
        const CHARACTERS: usize = 120;
        let mut text: String = self.source.chars().take(CHARACTERS).collect();
        if !self.included || text.len() == self.source.len() {
            return self.source.to_string();
        }
        text.push('…');
        text
    }

    /// Whether it looks into bodies by a path.
    pub fn looks_inside(&self) -> bool {
        self.path.is_some()
    }

    pub(super) fn test(&self) -> Option<(&Self, &Pattern)> {
        match &self.action {
            Action::Test(param) => Some((self, param)),
            _ => None,
        }
    }
}
