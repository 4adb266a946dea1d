//! Patterns that the linear engine lacks: look-around, back-references, atomic groups.
//!
//! The search is our own, because it has to count its work: each instruction and each character that it looks at is taken
//! from the budget of the call, where an engine that passes parts of a pattern to a linear one counts one step for a
//! scan of the whole rest. `fancy-regex` parses the patterns, refuses those that it cannot compile, and is the slow twin in
//! tests.
//!
//! Three shortcuts keep ordinary values cheap. Literals that each match contains, and those that its look-aheads require,
//! are searched first. The pattern without its look-around goes to the linear engine, which finds where a match may begin.
//! And where a match begins with an open run of characters and the search fails, it is not repeated at each character of
//! the run.

mod program;

use std::ops::Range;

use fancy_regex::Expr;

use self::program::{Instruction, Place, Program};
use super::automaton::Automaton;
use super::prefilter::Prefilter;
use super::searches::Work;
use super::work::{INSTRUCTION, Spent};
use crate::limits::{BACKTRACK_PLACES_MAX, PATTERN_COMPILED_BYTES_MAX, PATTERN_STATES_BYTES_MIN};

/// A compiled pattern.
#[derive(Clone, Debug)]
pub(super) struct Backtracking {
    program: Program,
    names: Box<[Option<Box<str>>]>,
    /// The pattern without look-around, unless it matches everywhere.
    relaxed: Option<Relaxed>,
    /// Each admits every text with a match.
    prefilters: Box<[Prefilter]>,
}

#[derive(Clone, Debug)]
struct Relaxed {
    automaton: Automaton,
    /// Most bytes of its match.
    bytes_max: Option<usize>,
}

/// The groups of a match.
pub(super) struct Groups(Vec<usize>);

impl Groups {
    /// The place of a group, 0 being the whole match.
    pub(super) fn get(&self, number: usize) -> Option<Range<usize>> {
        let (start, end) = (self.0.get(2 * number)?, self.0.get(2 * number + 1)?);
        (*end != UNSET && start <= end).then_some(*start..*end)
    }

    /// The place of the match.
    pub(super) fn whole(&self) -> Range<usize> {
        self.get(0).unwrap_or_default()
    }
}

/// A slot that holds no position.
const UNSET: usize = usize::MAX;

impl Backtracking {
    /// Compiles a pattern in the syntax of `fancy-regex`.
    pub(super) fn new(pattern: &str) -> Result<Self, String> {
        fancy_regex::RegexBuilder::new(pattern)
            .delegate_size_limit(PATTERN_COMPILED_BYTES_MAX)
            .build()
            .map_err(|error| error.to_string())?;
        let tree = Expr::parse_tree(pattern).map_err(|error| error.to_string())?;
        let program = Program::new(&tree.expr)?;
        let mut names = vec![None; program.groups];
        for (name, number) in &tree.named_groups {
            for number in number {
                if let Some(place) = names.get_mut(*number) {
                    *place = Some(name.as_str().into());
                }
            }
        }
        let mut looks = vec![&tree.expr];
        program::required(&tree.expr, &mut looks);
        let prefilters = looks.into_iter().filter_map(|tree| {
            let prefilter = Prefilter::of(&text_of(tree)?);
            (!matches!(prefilter, Prefilter::None)).then_some(prefilter)
        });
        Ok(Self {
            prefilters: prefilters.collect(),
            relaxed: text_of(&tree.expr).and_then(|text| Relaxed::new(&text)),
            names: names.into(),
            program,
        })
    }

    /// How many groups there are, the whole match included.
    pub(super) fn groups(&self) -> usize {
        self.program.groups
    }

    /// The names of the groups.
    pub(super) fn names(&self) -> impl Iterator<Item = Option<&str>> {
        self.names.iter().map(Option::as_deref)
    }

    /// Bytes of memory that it takes.
    pub(super) fn memory(&self) -> usize {
        let relaxed = self.relaxed.as_ref();
        let relaxed = relaxed.map_or(0, |relaxed| relaxed.automaton.compiled.memory());
        relaxed.saturating_add(self.program.memory())
    }

    /// Bytes of memory that a shard needs for its searches, at least.
    pub(super) fn states(&self) -> usize {
        self.relaxed
            .as_ref()
            .map_or(0, |_| PATTERN_STATES_BYTES_MIN)
    }

    /// Gives its automaton a place of its own, which is `next`.
    pub(super) fn place(&mut self, next: &mut usize) {
        if let Some(relaxed) = &mut self.relaxed {
            relaxed.automaton.compiled.place = *next;
            *next += 1;
        }
    }

    /// Whether `text` may contain a match. False is certain.
    pub(super) fn may_match(&self, text: &str) -> bool {
        let admits = |prefilter: &Prefilter| prefilter.may_match(text.as_bytes());
        self.prefilters.iter().all(admits)
    }

    /// The first match that starts at `from` or later.
    pub(super) fn find(
        &self,
        text: &str,
        from: usize,
        work: &mut Work,
    ) -> Result<Option<Groups>, Spent> {
        let program = &self.program;
        let mut search = Search {
            instructions: &program.instructions,
            text,
            work,
            places: Vec::new(),
            slots: vec![UNSET; program.slots],
        };
        // Up to here the relaxed pattern has said that there may be a match.
        let mut promised = None;
        let mut at = from;
        while at <= text.len() {
            if let Some(relaxed) = &self.relaxed
                && promised.is_none_or(|promised| at > promised)
            {
                match relaxed.next(text, at, search.work)? {
                    None => return Ok(None),
                    Some(start) => (at, promised) = (start.at, Some(start.promised)),
                }
            }
            if let Some(end) = search.at(at)? {
                let mut slots = search.slots;
                if let Some([start, whole_end]) = slots.first_chunk_mut() {
                    (*start, *whole_end) = (at, end);
                }
                return Ok(Some(Groups(slots)));
            }
            if program.at_start {
                return Ok(None);
            }
            if let Some(set) = &program.leading {
                let mut bytes = 0;
                while let Some(more) = set.matches(text, at + bytes) {
                    bytes += more;
                }
                search.work.spend(bytes)?;
                at += bytes;
            }
            at += text
                .get(at..)
                .and_then(|rest| rest.chars().next())
                .map_or(1, char::len_utf8);
        }
        Ok(None)
    }
}

/// The pattern of the linear engine that matches wherever the tree does.
pub(super) fn text_of(tree: &Expr) -> Option<String> {
    let mut text = String::new();
    program::relaxed(tree)?.to_str(&mut text, 0);
    Some(text)
}

/// Where a match may begin.
struct Start {
    at: usize,
    /// Further starts need not be looked for up to here: each is tried.
    promised: usize,
}

impl Relaxed {
    fn new(pattern: &str) -> Option<Self> {
        let properties = regex_syntax::parse(pattern).ok()?.properties().clone();
        // One that matches the empty text matches everywhere.
        properties.minimum_len().filter(|least| *least > 0)?;
        Some(Self {
            automaton: Automaton::new(pattern).ok()?,
            bytes_max: properties.maximum_len(),
        })
    }

    /// The first place from `at` on where a match may begin.
    fn next(&self, text: &str, at: usize, work: &mut Work) -> Result<Option<Start>, Spent> {
        if self.automaton.has_many_states() {
            // To look for a start would cost more than to try each.
            work.spend(INSTRUCTION)?;
            return Ok(Some(Start { at, promised: at }));
        }
        let rest = text.len() - at;
        if let Some(bytes_max) = self.bytes_max {
            // A match cannot be longer, so what the engine looks at beyond its start is bounded.
            let found = work.find_at(&self.automaton.compiled, text, at);
            let found = found.map(|found| found.start);
            let before = found.map_or(rest, |start| start - at);
            work.spend(before.saturating_add(bytes_max).min(rest) + INSTRUCTION)?;
            return Ok(found.map(|start| Start {
                at: start,
                promised: start,
            }));
        }
        // The engine stops at the first end of a match. Where that match begins is not known, so all starts are tried.
        let end = work.first_end(&self.automaton.compiled, text, at);
        work.spend(end.map_or(rest, |end| end - at) + INSTRUCTION)?;
        Ok(end.map(|promised| Start { at, promised }))
    }
}

/// One search in one text.
struct Search<'p, 'b> {
    instructions: &'p [Instruction],
    text: &'p str,
    work: &'b mut Work,
    places: Vec<Return>,
    slots: Vec<usize>,
}

/// Where the search returns to when it fails, or what it then restores.
#[derive(Clone, Copy)]
enum Return {
    To {
        next: usize,
        at: usize,
    },
    /// The end of a run, one character earlier, but not before `least`.
    Shorter {
        next: usize,
        at: usize,
        least: usize,
    },
    /// The end of a run, one character later; `run` is the instruction.
    Longer {
        run: usize,
        at: usize,
        left: usize,
    },
    Slot {
        slot: usize,
        value: usize,
    },
}

const _: () = assert!(size_of::<Return>() <= 32);

impl Search<'_, '_> {
    /// The end of the match that starts at `start`.
    fn at(&mut self, start: usize) -> Result<Option<usize>, Spent> {
        self.places.clear();
        self.slots.fill(UNSET);
        self.run(0, start, None)
    }

    fn push(&mut self, place: Return) -> Result<(), Spent> {
        if self.places.len() >= BACKTRACK_PLACES_MAX {
            return Err(Spent);
        }
        self.places.push(place);
        Ok(())
    }

    fn save(&mut self, slot: usize, value: usize) -> Result<(), Spent> {
        if let Some(kept) = self.slots.get_mut(slot) {
            let value = std::mem::replace(kept, value);
            self.push(Return::Slot { slot, value })?;
        }
        Ok(())
    }

    /// Executes from instruction `next` on to a [`Instruction::Match`], which must be at `must_end` if that is given. Places
    /// to return to stay on the stack behind those that were there; after a failure only the latter do.
    fn run(
        &mut self,
        mut next: usize,
        mut at: usize,
        must_end: Option<usize>,
    ) -> Result<Option<usize>, Spent> {
        let bottom = self.places.len();
        let instructions = self.instructions;
        loop {
            self.work.spend(INSTRUCTION)?;
            let Some(instruction) = instructions.get(next) else {
                return Ok(None);
            };
            if matches!(instruction, Instruction::Match) && must_end.is_none_or(|end| end == at) {
                return Ok(Some(at));
            }
            let step = self.step(instruction, next, at)?;
            let Some(step) = step.or_else(|| self.back(bottom)) else {
                return Ok(None);
            };
            (next, at) = step;
        }
    }

    /// One instruction: what comes next, or nothing when it fails.
    fn step(
        &mut self,
        instruction: &Instruction,
        place: usize,
        at: usize,
    ) -> Result<Option<(usize, usize)>, Spent> {
        let next = place + 1;
        let if_so = |so: bool| so.then_some((next, at));
        Ok(match instruction {
            Instruction::Match | Instruction::Fail => None,
            Instruction::One(set) => set.matches(self.text, at).map(|bytes| (next, at + bytes)),
            Instruction::Text(text) => {
                let rest = self.text.as_bytes().get(at..).unwrap_or_default();
                rest.starts_with(text.as_bytes())
                    .then_some((next, at + text.len()))
            }
            Instruction::At(place) => if_so(self.is_at(*place, at)),
            Instruction::Split(first, second) => {
                self.push(Return::To { next: *second, at })?;
                Some((*first, at))
            }
            Instruction::Jump(to) => Some((*to, at)),
            Instruction::Save(slot) => {
                self.save(*slot, at)?;
                Some((next, at))
            }
            Instruction::Run { least, most, .. } => {
                self.characters(instruction, place, at, *least, *most)?
            }
            Instruction::Ahead {
                negative,
                next: behind,
            } => {
                let found = self.part(next, at, None, !negative)?;
                (found.is_some() != *negative).then_some((*behind, at))
            }
            Instruction::Behind {
                negative,
                least,
                most,
                next: behind,
            } => {
                let found = self.part_before(next, at, *least..=*most, !negative)?;
                (found != *negative).then_some((*behind, at))
            }
            Instruction::Atomic { next: behind } => {
                self.part(next, at, None, true)?.map(|end| (*behind, end))
            }
            Instruction::Again { slot, to } => {
                let moved = self.slots.get(*slot) != Some(&at);
                Some((if moved { *to } else { next }, at))
            }
            Instruction::Group { number, folded } => self
                .same(*number, *folded, at)?
                .map(|bytes| (next, at + bytes)),
            Instruction::IfGroup { number, otherwise } => {
                let is_set = self
                    .slots
                    .get(2 * number + 1)
                    .is_some_and(|end| *end != UNSET);
                Some((if is_set { next } else { *otherwise }, at))
            }
        })
    }

    fn is_at(&self, place: Place, at: usize) -> bool {
        let bytes = self.text.as_bytes();
        match place {
            Place::TextStart => at == 0,
            Place::TextEnd => at == bytes.len(),
            Place::LineStart => at == 0 || bytes.get(at - 1) == Some(&b'\n'),
            Place::LineEnd => at == bytes.len() || bytes.get(at) == Some(&b'\n'),
        }
    }

    /// A run of at least `least` characters; `place` is its instruction.
    fn characters(
        &mut self,
        instruction: &Instruction,
        place: usize,
        at: usize,
        least: usize,
        most: usize,
    ) -> Result<Option<(usize, usize)>, Spent> {
        let Instruction::Run { set, greedy, .. } = instruction else {
            return Ok(None);
        };
        let (mut end, mut count, mut shortest) = (at, 0, at);
        let wanted = if *greedy { most } else { least };
        while count < wanted
            && let Some(bytes) = set.matches(self.text, end)
        {
            end += bytes;
            count += 1;
            if count == least {
                shortest = end;
            }
        }
        self.work.spend(end - at)?;
        if count < least {
            return Ok(None);
        }
        let next = place + 1;
        if *greedy && end > shortest {
            self.push(Return::Shorter {
                next,
                at: end,
                least: shortest,
            })?;
        } else if !*greedy && most > least {
            self.push(Return::Longer {
                run: place,
                at: end,
                left: most - least,
            })?;
        }
        Ok(Some((next, end)))
    }

    /// The place to return to, down to `bottom`.
    fn back(&mut self, bottom: usize) -> Option<(usize, usize)> {
        while self.places.len() > bottom {
            match self.places.pop()? {
                Return::To { next, at } => return Some((next, at)),
                Return::Shorter { next, at, least } => {
                    let mut at = at - 1;
                    while !self.text.is_char_boundary(at) {
                        at -= 1;
                    }
                    if at > least {
                        // There is room: one was taken off.
                        self.places.push(Return::Shorter { next, at, least });
                    }
                    return Some((next, at));
                }
                Return::Longer { run, at, left } => {
                    let Some(Instruction::Run { set, .. }) = self.instructions.get(run) else {
                        continue;
                    };
                    let Some(bytes) = set.matches(self.text, at) else {
                        continue;
                    };
                    let at = at + bytes;
                    if left > 1 {
                        let left = if left == usize::MAX { left } else { left - 1 };
                        self.places.push(Return::Longer { run, at, left });
                    }
                    return Some((run + 1, at));
                }
                Return::Slot { slot, value } => {
                    if let Some(kept) = self.slots.get_mut(slot) {
                        *kept = value;
                    }
                }
            }
        }
        None
    }

    /// The end of the first match of a part of the program. Its groups stay set if `keep`.
    fn part(
        &mut self,
        first: usize,
        at: usize,
        must_end: Option<usize>,
        keep: bool,
    ) -> Result<Option<usize>, Spent> {
        let bottom = self.places.len();
        let found = self.run(first, at, must_end)?;
        self.work.spend(self.places.len().saturating_sub(bottom))?;
        if keep {
            // No other match of the part is tried; what it changed is restored when the search returns beyond it.
            let mut kept = bottom;
            for index in bottom..self.places.len() {
                if let Some(place @ Return::Slot { .. }) = self.places.get(index).copied()
                    && let Some(free) = self.places.get_mut(kept)
                {
                    *free = place;
                    kept += 1;
                }
            }
            self.places.truncate(kept);
        } else {
            while self.places.len() > bottom {
                if let Some(Return::Slot { slot, value }) = self.places.pop()
                    && let Some(kept) = self.slots.get_mut(slot)
                {
                    *kept = value;
                }
            }
        }
        Ok(found)
    }

    /// Whether a part of the program matches and ends at `end`, with so many characters.
    fn part_before(
        &mut self,
        first: usize,
        end: usize,
        characters: std::ops::RangeInclusive<usize>,
        keep: bool,
    ) -> Result<bool, Spent> {
        let mut start = end;
        for count in 0..=*characters.end() {
            if count >= *characters.start() && self.part(first, start, Some(end), keep)?.is_some() {
                return Ok(true);
            }
            if start == 0 {
                break;
            }
            self.work.spend(1)?;
            start -= 1;
            while !self.text.is_char_boundary(start) {
                start -= 1;
            }
        }
        Ok(false)
    }

    /// How many bytes at `at` are the same text as that of a group.
    fn same(&mut self, number: usize, folded: bool, at: usize) -> Result<Option<usize>, Spent> {
        let slots = (self.slots.get(2 * number), self.slots.get(2 * number + 1));
        let (Some(&start), Some(&end)) = slots else {
            return Ok(None);
        };
        let Some(wanted) = self.text.get(start..end).filter(|_| end != UNSET) else {
            return Ok(None);
        };
        self.work.spend(if folded {
            8 * wanted.len()
        } else {
            wanted.len() / 8
        })?;
        let Some(rest) = self.text.get(at..) else {
            return Ok(None);
        };
        if !folded {
            return Ok(rest.starts_with(wanted).then_some(wanted.len()));
        }
        let mut letters = rest.chars();
        for letter in wanted.chars() {
            let is_same =
                |other: char| other == letter || other.to_lowercase().eq(letter.to_lowercase());
            if !letters.next().is_some_and(is_same) {
                return Ok(None);
            }
        }
        Ok(Some(rest.len() - letters.as_str().len()))
    }
}

#[cfg(test)]
mod tests;
