//! The program of a backtracking search, compiled from the syntax tree of a pattern.
//!
//! The tree is that of `fancy-regex`, whose parser decides what a pattern means. Compiled is what rules can contain
//! (`rules/translate.rs`): look-around, atomic groups, back-references and conditions on groups or look-around. Counted
//! repetitions are written out, so the size of a program is bounded by `BACKTRACK_INSTRUCTIONS_MAX`.

use fancy_regex::{Assertion, Expr, LookAround};
use regex_syntax::hir::{Class, Hir, HirKind};

use crate::limits::BACKTRACK_INSTRUCTIONS_MAX;

/// A pattern as instructions.
#[derive(Clone, Debug)]
pub(in crate::rules) struct Program {
    pub(super) instructions: Box<[Instruction]>,
    /// Positions that a search keeps: two for each group, the whole match included, and those of loops.
    pub(super) slots: usize,
    /// Groups, the whole match included.
    pub(in crate::rules) groups: usize,
    /// It matches nowhere but at the start of the text.
    pub(super) at_start: bool,
    /// Each match begins with a run of these characters that has no upper bound, and nothing behind it depends on where
    /// the run began: where a search fails, it fails at the other characters of the run, too.
    pub(super) leading: Option<Set>,
}

#[derive(Clone, Debug)]
pub(super) enum Instruction {
    /// The end of the program, or of the part inside a look-around or an atomic group.
    Match,
    /// One character of a set.
    One(Set),
    Text(Box<str>),
    At(Place),
    /// Continues at the first one, and at the second one if that fails.
    Split(usize, usize),
    Jump(usize),
    Save(usize),
    /// As many characters of a set as there are, or as few as are needed.
    Run {
        set: Set,
        least: usize,
        most: usize,
        greedy: bool,
    },
    /// The part behind it matches here (or does not); then continues at `next`.
    Ahead {
        negative: bool,
        next: usize,
    },
    /// The part behind it matches and ends here (or does not), having so many characters.
    Behind {
        negative: bool,
        least: usize,
        most: usize,
        next: usize,
    },
    /// The first match of the part behind it, and no other; then continues at `next`.
    Atomic {
        next: usize,
    },
    /// Jumps unless nothing was read since the position was saved: an empty round ends a loop.
    Again {
        slot: usize,
        to: usize,
    },
    /// The text of a group.
    Group {
        number: usize,
        folded: bool,
    },
    /// Continues if the group matched, else at the other place.
    IfGroup {
        number: usize,
        otherwise: usize,
    },
    Fail,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    TextStart,
    TextEnd,
    LineStart,
    LineEnd,
}

/// A set of characters.
#[derive(Clone, Debug)]
pub(super) struct Set {
    ascii: u128,
    /// The others, in order.
    ranges: Box<[(char, char)]>,
}

impl Set {
    fn of(ranges: impl IntoIterator<Item = (char, char)>) -> Self {
        let (mut ascii, mut others) = (0, Vec::new());
        for (from, to) in ranges {
            for letter in u32::from(from)..=u32::from(to).min(127) {
                ascii |= 1 << letter;
            }
            if !to.is_ascii() {
                others.push((from.max('\u{80}'), to));
            }
        }
        others.sort_unstable();
        Self {
            ascii,
            ranges: others.into(),
        }
    }

    /// How many bytes the character at `at` has, if it is in the set.
    #[inline]
    pub(super) fn matches(&self, text: &str, at: usize) -> Option<usize> {
        let byte = *text.as_bytes().get(at)?;
        if byte < 128 {
            return (self.ascii >> byte & 1 == 1).then_some(1);
        }
        let letter = text.get(at..)?.chars().next()?;
        let after = self.ranges.partition_point(|(from, _)| *from <= letter);
        let (_, to) = self.ranges.get(after.checked_sub(1)?)?;
        (letter <= *to).then(|| letter.len_utf8())
    }
}

impl Program {
    /// Bytes of memory that it takes, sets of characters apart.
    pub(in crate::rules) fn memory(&self) -> usize {
        size_of_val(&*self.instructions)
    }

    /// Compiles a whole pattern.
    pub(super) fn new(tree: &Expr) -> Result<Self, String> {
        let groups = 1 + count_groups(tree);
        let mut compiler = Compiler {
            instructions: Vec::new(),
            slots: 2 * groups,
            group: 1,
        };
        compiler.expression(tree)?;
        compiler.add(Instruction::Match)?;
        let instructions = compiler.instructions;
        let depends = instructions.iter().any(|instruction| {
            matches!(
                instruction,
                Instruction::Group { .. } | Instruction::IfGroup { .. }
            )
        });
        let first = instructions
            .iter()
            .find(|instruction| !matches!(instruction, Instruction::Save(_)));
        let leading = match first {
            Some(Instruction::Run {
                set,
                most: usize::MAX,
                ..
            }) if !depends => Some(set.clone()),
            _ => None,
        };
        Ok(Self {
            at_start: matches!(first, Some(Instruction::At(Place::TextStart))),
            leading,
            instructions: instructions.into(),
            slots: compiler.slots,
            groups,
        })
    }
}

struct Compiler {
    instructions: Vec<Instruction>,
    slots: usize,
    /// Number of the next group.
    group: usize,
}

impl Compiler {
    fn add(&mut self, instruction: Instruction) -> Result<usize, String> {
        let place = self.instructions.len();
        if place >= BACKTRACK_INSTRUCTIONS_MAX {
            return Err("the compiled pattern is too large".to_owned());
        }
        self.instructions.push(instruction);
        Ok(place)
    }

    fn here(&self) -> usize {
        self.instructions.len()
    }

    fn set(&mut self, place: usize, instruction: Instruction) {
        if let Some(earlier) = self.instructions.get_mut(place) {
            *earlier = instruction;
        }
    }

    /// A split between what follows and a later place, which [`Self::close`] sets.
    fn open(&mut self) -> Result<usize, String> {
        self.add(Instruction::Fail)
    }

    /// The split at `place` tries what follows it first, or last, and this place as the other one.
    fn close(&mut self, place: usize, greedy: bool) {
        let (inside, behind) = (place + 1, self.here());
        let split = if greedy {
            Instruction::Split(inside, behind)
        } else {
            Instruction::Split(behind, inside)
        };
        self.set(place, split);
    }

    fn expression(&mut self, tree: &Expr) -> Result<(), String> {
        match tree {
            Expr::Empty => {}
            Expr::Concat(parts) => {
                for part in parts {
                    self.expression(part)?;
                }
            }
            Expr::Alt(branches) => self.alternatives(branches)?,
            Expr::Group(inside) => {
                let number = self.group;
                self.group += 1;
                self.add(Instruction::Save(2 * number))?;
                self.expression(inside)?;
                self.add(Instruction::Save(2 * number + 1))?;
            }
            Expr::Repeat {
                child,
                lo,
                hi,
                greedy,
            } => self.repeat(child, *lo, *hi, *greedy)?,
            Expr::LookAround(inside, kind) => self.look(inside, *kind)?,
            Expr::AtomicGroup(inside) => {
                let place = self.open()?;
                self.expression(inside)?;
                self.add(Instruction::Match)?;
                let next = self.here();
                self.set(place, Instruction::Atomic { next });
            }
            Expr::Backref { group, casei } => {
                self.add(Instruction::Group {
                    number: *group,
                    folded: *casei,
                })?;
            }
            Expr::BackrefExistsCondition {
                group,
                relative_recursion_level: None,
            } => self.condition(*group, &Expr::Empty, None)?,
            Expr::Conditional {
                condition,
                true_branch,
                false_branch,
            } => self.conditional(condition, true_branch, false_branch)?,
            Expr::Assertion(assertion) => {
                let place = match assertion {
                    Assertion::StartText => Place::TextStart,
                    Assertion::EndText => Place::TextEnd,
                    Assertion::StartLine { crlf: false } => Place::LineStart,
                    Assertion::EndLine { crlf: false } => Place::LineEnd,
                    other => return Err(unsupported(other)),
                };
                self.add(Instruction::At(place))?;
            }
            Expr::Any { .. } | Expr::Delegate { .. } | Expr::Literal { .. } => {
                let hir = leaf(tree)?;
                self.characters(&hir)?;
            }
            other => return Err(unsupported(other)),
        }
        Ok(())
    }

    fn characters(&mut self, hir: &Hir) -> Result<(), String> {
        match hir.kind() {
            HirKind::Empty => {}
            HirKind::Literal(literal) => {
                let text = std::str::from_utf8(&literal.0).map_err(|error| error.to_string())?;
                self.add(Instruction::Text(text.into()))?;
            }
            HirKind::Class(_) => {
                let set = set_of(hir).ok_or_else(|| unsupported(hir))?;
                self.add(Instruction::One(set))?;
            }
            HirKind::Concat(parts) => {
                for part in parts {
                    self.characters(part)?;
                }
            }
            other => return Err(unsupported(other)),
        }
        Ok(())
    }

    fn alternatives(&mut self, branches: &[Expr]) -> Result<(), String> {
        let mut ends = Vec::new();
        for (number, branch) in branches.iter().enumerate() {
            if number + 1 == branches.len() {
                self.expression(branch)?;
                break;
            }
            let split = self.open()?;
            self.expression(branch)?;
            ends.push(self.open()?);
            self.close(split, true);
        }
        let behind = self.here();
        for end in ends {
            self.set(end, Instruction::Jump(behind));
        }
        Ok(())
    }

    fn repeat(&mut self, child: &Expr, lo: usize, hi: usize, greedy: bool) -> Result<(), String> {
        let single = leaf(child).ok().and_then(|hir| set_of(&hir));
        if let Some(set) = single {
            self.add(Instruction::Run {
                set,
                least: lo,
                most: hi,
                greedy,
            })?;
            return Ok(());
        }
        let group = self.group;
        for _ in 0..lo {
            self.group = group;
            self.expression(child)?;
        }
        self.group = group;
        if hi == usize::MAX {
            let slot = self.slots;
            let empty = lengths(child).0 == 0;
            self.slots += usize::from(empty);
            let split = self.open()?;
            if empty {
                self.add(Instruction::Save(slot))?;
            }
            self.expression(child)?;
            self.add(if empty {
                Instruction::Again { slot, to: split }
            } else {
                Instruction::Jump(split)
            })?;
            self.close(split, greedy);
        } else {
            let mut splits = Vec::new();
            for _ in lo..hi {
                splits.push(self.open()?);
                self.group = group;
                self.expression(child)?;
            }
            for split in splits {
                self.close(split, greedy);
            }
        }
        self.group = group + count_groups(child);
        Ok(())
    }

    fn look(&mut self, inside: &Expr, kind: LookAround) -> Result<(), String> {
        let place = self.open()?;
        self.expression(inside)?;
        self.add(Instruction::Match)?;
        let next = self.here();
        let negative = matches!(kind, LookAround::LookAheadNeg | LookAround::LookBehindNeg);
        let look = match kind {
            LookAround::LookAhead | LookAround::LookAheadNeg => {
                Instruction::Ahead { negative, next }
            }
            LookAround::LookBehind | LookAround::LookBehindNeg => {
                let (least, most) = lengths(inside);
                Instruction::Behind {
                    negative,
                    least,
                    most: most.unwrap_or(usize::MAX),
                    next,
                }
            }
        };
        self.set(place, look);
        Ok(())
    }

    fn conditional(&mut self, condition: &Expr, yes: &Expr, no: &Expr) -> Result<(), String> {
        match condition {
            Expr::BackrefExistsCondition {
                group,
                relative_recursion_level: None,
            } => self.condition(*group, yes, Some(no)),
            // The same as `(?=x)yes|(?!x)no`.
            Expr::LookAround(inside, kind) => {
                let opposite = match kind {
                    LookAround::LookAhead => LookAround::LookAheadNeg,
                    LookAround::LookAheadNeg => LookAround::LookAhead,
                    LookAround::LookBehind => LookAround::LookBehindNeg,
                    LookAround::LookBehindNeg => LookAround::LookBehind,
                };
                let split = self.open()?;
                let group = self.group;
                self.look(inside, *kind)?;
                self.expression(yes)?;
                let end = self.open()?;
                self.close(split, true);
                let behind_yes = std::mem::replace(&mut self.group, group);
                self.look(inside, opposite)?;
                self.group = behind_yes;
                self.expression(no)?;
                let behind = self.here();
                self.set(end, Instruction::Jump(behind));
                Ok(())
            }
            other => Err(unsupported(other)),
        }
    }

    /// What follows a group that matched, and what follows one that did not; without the latter the search fails there.
    fn condition(&mut self, number: usize, yes: &Expr, no: Option<&Expr>) -> Result<(), String> {
        let place = self.open()?;
        self.expression(yes)?;
        let end = self.open()?;
        let otherwise = self.here();
        self.set(place, Instruction::IfGroup { number, otherwise });
        match no {
            Some(no) => self.expression(no)?,
            None => {
                self.add(Instruction::Fail)?;
            }
        }
        let behind = self.here();
        self.set(end, Instruction::Jump(behind));
        Ok(())
    }
}

fn unsupported(what: &dyn std::fmt::Debug) -> String {
    format!("{what:?} is not supported")
}

/// The characters of an expression without parts.
fn leaf(tree: &Expr) -> Result<Hir, String> {
    let pattern = match tree {
        Expr::Any { newline: true, .. } => "(?s:.)".to_owned(),
        Expr::Any { crlf: false, .. } => "(?-s:.)".to_owned(),
        Expr::Delegate { inner, casei } if *casei => format!("(?i:{inner})"),
        Expr::Delegate { inner, .. } => inner.clone(),
        Expr::Literal { val, casei } if *casei => format!("(?i:{})", regex_syntax::escape(val)),
        Expr::Literal { val, .. } => regex_syntax::escape(val),
        other => return Err(unsupported(other)),
    };
    regex_syntax::parse(&pattern).map_err(|error| error.to_string())
}

/// The set of characters that `hir` is one of.
fn set_of(hir: &Hir) -> Option<Set> {
    match hir.kind() {
        HirKind::Class(Class::Unicode(class)) => Some(Set::of(
            class
                .iter()
                .map(|range| (range.start(), range.end()))
                .collect::<Vec<_>>(),
        )),
        HirKind::Class(Class::Bytes(class)) if class.is_ascii() => Some(Set::of(
            class
                .iter()
                .map(|range| (char::from(range.start()), char::from(range.end())))
                .collect::<Vec<_>>(),
        )),
        HirKind::Literal(literal) => {
            let mut letters = std::str::from_utf8(&literal.0).ok()?.chars();
            let letter = letters.next()?;
            letters
                .next()
                .is_none()
                .then(|| Set::of([(letter, letter)]))
        }
        _ => None,
    }
}

fn count_groups(tree: &Expr) -> usize {
    let inside: usize = tree.children_iter().map(count_groups).sum();
    inside + usize::from(matches!(tree, Expr::Group(_)))
}

/// Fewest and most characters of a match.
fn lengths(tree: &Expr) -> (usize, Option<usize>) {
    let either = |(least, most): (usize, Option<usize>), (less, more): (usize, Option<usize>)| {
        (
            least.min(less),
            most.zip(more).map(|(most, more)| most.max(more)),
        )
    };
    match tree {
        Expr::Any { .. } | Expr::Delegate { .. } => (1, Some(1)),
        Expr::Literal { val, .. } => {
            let letters = val.chars().count();
            (letters, Some(letters))
        }
        Expr::Concat(parts) => parts.iter().map(lengths).fold(
            (0, Some(0)),
            |(least, most), (least_more, most_more)| {
                (
                    least.saturating_add(least_more),
                    most.zip(most_more)
                        .and_then(|(most, more)| most.checked_add(more)),
                )
            },
        ),
        Expr::Alt(branches) => branches
            .iter()
            .map(lengths)
            .reduce(either)
            .unwrap_or((0, Some(0))),
        Expr::Group(inside) => lengths(inside),
        Expr::AtomicGroup(inside) => lengths(inside),
        Expr::Repeat { child, lo, hi, .. } => {
            let (least, most) = lengths(child);
            let most = match most {
                Some(0) => Some(0),
                _ if *hi == usize::MAX => None,
                most => most.and_then(|most| most.checked_mul(*hi)),
            };
            (least.saturating_mul(*lo), most)
        }
        Expr::Conditional {
            true_branch,
            false_branch,
            ..
        } => either(lengths(true_branch), lengths(false_branch)),
        Expr::Backref { .. } => (0, None),
        _ => (0, Some(0)),
    }
}

/// What a match of the tree consists of without look-around and conditions: a pattern of the linear engine that matches
/// wherever the tree does, and elsewhere.
pub(super) fn relaxed(tree: &Expr) -> Option<Expr> {
    let all = |parts: &[Expr]| parts.iter().map(relaxed).collect::<Option<Vec<_>>>();
    Some(match tree {
        Expr::Empty
        | Expr::Any { .. }
        | Expr::Assertion(_)
        | Expr::Delegate { .. }
        | Expr::Literal { .. } => tree.clone(),
        Expr::Concat(parts) => Expr::Concat(all(parts)?),
        Expr::Alt(branches) => Expr::Alt(all(branches)?),
        Expr::Group(inside) => relaxed(inside)?,
        Expr::AtomicGroup(inside) => relaxed(inside)?,
        Expr::LookAround(..) | Expr::BackrefExistsCondition { .. } => Expr::Empty,
        Expr::Conditional {
            true_branch,
            false_branch,
            ..
        } => Expr::Alt(vec![relaxed(true_branch)?, relaxed(false_branch)?]),
        Expr::Repeat {
            child,
            lo,
            hi,
            greedy,
        } => match relaxed(child)? {
            Expr::Empty | Expr::Assertion(_) => Expr::Empty,
            child => Expr::Repeat {
                child: Box::new(child),
                lo: *lo,
                hi: *hi,
                greedy: *greedy,
            },
        },
        // Any text.
        Expr::Backref { .. } => Expr::Repeat {
            child: Box::new(Expr::Any {
                newline: true,
                crlf: false,
            }),
            lo: 0,
            hi: usize::MAX,
            greedy: true,
        },
        _ => return None,
    })
}

/// What the positive look-arounds require that each match has: expressions that match somewhere in the text.
pub(super) fn required<'t>(tree: &'t Expr, found: &mut Vec<&'t Expr>) {
    match tree {
        Expr::Concat(parts) => parts.iter().for_each(|part| required(part, found)),
        Expr::Group(inside) => required(inside, found),
        Expr::AtomicGroup(inside) => required(inside, found),
        Expr::Repeat { child, lo, .. } if *lo > 0 => required(child, found),
        Expr::LookAround(inside, LookAround::LookAhead | LookAround::LookBehind) => {
            found.push(inside);
            required(inside, found);
        }
        _ => {}
    }
}
