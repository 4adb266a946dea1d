//! From a pattern, one that matches each beginning of its matches, for values whose end is not there (`rules/partial.rs`).
//!
//! Conditions such as `\b` and `$` are left out of it, so that it matches more rather than less.

use std::sync::{Arc, OnceLock};

use regex_syntax::hir::{Hir, HirKind, Look, Repetition};

use super::automaton::Automaton;
use super::compiled::Compiled;
use super::searches::Work;
use super::work::Spent;
use crate::limits::PATTERN_COMPILED_BYTES_MAX;

/// The beginnings of the matches of a pattern. Made when a value first needs it; most never do.
#[derive(Clone, Debug, Default)]
pub(super) struct Beginnings {
    found: Arc<OnceLock<Option<Found>>>,
    /// Where a shard keeps what searches of it make.
    pub(super) place: usize,
}

/// The pattern of the beginnings.
#[derive(Clone, Debug)]
pub(super) struct Found {
    automaton: Automaton,
    /// A match begins where the value does.
    pub(super) is_anchored: bool,
}

impl Beginnings {
    /// Those of `pattern`, which is always the same; none where they take too much memory.
    pub(super) fn of(&self, pattern: &Automaton) -> Option<&Found> {
        let found = || Found::new(pattern, self.place);
        self.found.get_or_init(found).as_ref()
    }
}

/// Bytes of memory in each direction that they take at most: as many as the pattern has itself.
pub(super) fn bytes_of(pattern: &Automaton) -> usize {
    const LEAST: usize = 16 * 1024;
    (pattern.compiled.memory()).clamp(LEAST, PATTERN_COMPILED_BYTES_MAX)
}

impl Found {
    fn new(pattern: &Automaton, place: usize) -> Option<Self> {
        let hir = regex_syntax::parse(pattern.text()).ok()?;
        let is_anchored = hir.properties().look_set_prefix().contains(Look::Start);
        let all = Hir::concat(vec![beginnings(&hir), Hir::look(Look::End)]);
        let text = all.to_string();
        let mut compiled = Compiled::within(&text, bytes_of(pattern)).ok()?;
        compiled.place = place;
        let automaton = Automaton::of(compiled, &text);
        Some(Self {
            automaton,
            is_anchored,
        })
    }

    /// The first place at which a match may begin that goes on behind the end of `text`; its length if there is none.
    pub(super) fn first(&self, text: &str, work: &mut Work) -> Result<usize, Spent> {
        let found = self.automaton.find(text, work)?;
        Ok(found.map_or(text.len(), |found| found.start))
    }
}

/// A pattern for each beginning of what `hir` matches, all of it included.
fn beginnings(hir: &Hir) -> Hir {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => Hir::empty(),
        HirKind::Literal(literal) => {
            // The bytes of one character are not divided: texts end with whole characters.
            let text = String::from_utf8_lossy(&literal.0);
            text.chars().rev().fold(Hir::empty(), |rest, letter| {
                let mut bytes = [0; 4];
                let letter = Hir::literal(letter.encode_utf8(&mut bytes).as_bytes());
                optional(Hir::concat(vec![letter, rest]))
            })
        }
        HirKind::Class(_) => optional(hir.clone()),
        HirKind::Capture(group) => beginnings(&group.sub),
        HirKind::Repetition(repeated) => {
            let before = Hir::repetition(Repetition {
                min: 0,
                max: repeated.max.map(|most| most.saturating_sub(1)),
                greedy: true,
                sub: Box::new(without_looks(&repeated.sub)),
            });
            match repeated.max {
                Some(0) => Hir::empty(),
                _ => Hir::concat(vec![before, beginnings(&repeated.sub)]),
            }
        }
        HirKind::Concat(parts) => parts.iter().rev().fold(Hir::empty(), |rest, part| {
            let whole = Hir::concat(vec![without_looks(part), rest]);
            Hir::alternation(vec![whole, beginnings(part)])
        }),
        HirKind::Alternation(branches) => {
            Hir::alternation(branches.iter().map(beginnings).collect())
        }
    }
}

fn optional(sub: Hir) -> Hir {
    Hir::repetition(Repetition {
        min: 0,
        max: Some(1),
        greedy: true,
        sub: Box::new(sub),
    })
}

/// The pattern without conditions.
fn without_looks(hir: &Hir) -> Hir {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => Hir::empty(),
        HirKind::Literal(_) | HirKind::Class(_) => hir.clone(),
        HirKind::Capture(group) => without_looks(&group.sub),
        HirKind::Repetition(repeated) => Hir::repetition(Repetition {
            sub: Box::new(without_looks(&repeated.sub)),
            ..repeated.clone()
        }),
        HirKind::Concat(parts) => Hir::concat(parts.iter().map(without_looks).collect()),
        HirKind::Alternation(branches) => {
            Hir::alternation(branches.iter().map(without_looks).collect())
        }
    }
}
