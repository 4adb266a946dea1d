//! Patterns that are compiled for the linear engine.

use std::sync::Arc;

use regex_automata::MatchKind;
use regex_automata::meta::{BuildError, Config, Regex};
use regex_automata::nfa::thompson::{NFA, WhichCaptures};

use crate::limits::{PATTERN_COMPILED_BYTES_MAX, PATTERN_STATES_BYTES_MAX};

/// A compiled pattern, or several that are searched together.
#[derive(Clone, Debug)]
pub(super) struct Compiled {
    regex: Regex,
    /// Bytes of memory that it takes.
    bytes: usize,
    /// Where a shard keeps what searches of it make: a number that no other one of the rule set has.
    pub(super) place: usize,
    /// The same for all clones, and for nothing else.
    identity: Arc<Identity>,
}

/// What distinguishes a compiled pattern from others.
#[derive(Debug)]
pub(super) struct Identity;

impl Compiled {
    /// Compiles `pattern`.
    pub(super) fn new(pattern: &str) -> Result<Self, String> {
        let engine = Config::new().nfa_size_limit(Some(PATTERN_COMPILED_BYTES_MAX));
        Self::of(&[pattern], engine)
    }

    /// Compiles `pattern` for searches without groups, in about `bytes` bytes of memory for each direction.
    pub(super) fn within(pattern: &str, bytes: usize) -> Result<Self, String> {
        let engine = Config::new()
            .nfa_size_limit(Some(bytes))
            .which_captures(WhichCaptures::Implicit)
            .onepass(false)
            .dfa(false);
        Self::of(&[pattern], engine)
    }

    /// Compiles patterns for searches that find which of them match.
    pub(super) fn all(patterns: &[&str]) -> Result<Self, String> {
        let engine = Config::new()
            .nfa_size_limit(Some(PATTERN_COMPILED_BYTES_MAX))
            .match_kind(MatchKind::All)
            .which_captures(WhichCaptures::None);
        Self::of(patterns, engine)
    }

    fn of(patterns: &[&str], engine: Config) -> Result<Self, String> {
        let engine = engine.hybrid_cache_capacity(PATTERN_STATES_BYTES_MAX);
        let regex = Regex::builder().configure(engine).build_many(patterns);
        let regex = regex.map_err(|error| reason(&error))?;
        // The search that counts has another form of it, in both directions.
        let counted = match patterns {
            [pattern] => NFA::new(pattern).map_or(PATTERN_COMPILED_BYTES_MAX, |nfa| {
                nfa.memory_usage().saturating_mul(2)
            }),
            _ => 0,
        };
        Ok(Self {
            bytes: regex.memory_usage().saturating_add(counted),
            regex,
            place: 0,
            identity: Arc::new(Identity),
        })
    }

    /// The engine.
    pub(super) fn regex(&self) -> &Regex {
        &self.regex
    }

    /// Bytes of memory that it takes, for the engine and for the search that counts, in both directions.
    pub(super) fn memory(&self) -> usize {
        self.bytes
    }

    /// What distinguishes it from others.
    pub(super) fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }
}

/// The engine's message without the lines that show the translated pattern, since that is not the text that the user
/// wrote.
fn reason(error: &BuildError) -> String {
    if let Some(bytes) = error.size_limit() {
        return format!("compiled, it takes more than {bytes} bytes of memory");
    }
    let text = match error.syntax_error() {
        Some(error) => error.to_string(),
        None => error.to_string(),
    };
    text.lines()
        .last()
        .unwrap_or_default()
        .trim_start_matches("error: ")
        .to_owned()
}
