//! The state of masks inside a body: which rules select a value, and what they do with it.

use super::super::matches::PerRule;
use super::super::names;
use super::super::path::{Child, Path, Reached};
use super::super::pattern::Answer;
use super::super::replacement::Replaced;
use super::super::set::{Action, Rule};
use super::super::verb::Verb;
use super::super::work::PATH_STEP;
use crate::limits::FIELD_PARTS_MAX;

/// The body cannot be parsed, or the budget of work is spent: nothing of the body may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::rules) struct Unreadable;

/// What becomes of a value in a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It stays as it was sent.
    Stays,
    /// Its new text is in [`Masks::text`].
    Changed,
    Removed,
}

/// The state of one mask: number of the rule, and how far its path leads to the present value, in every way that there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    mask: usize,
    reached: Reached,
}

/// The active steps of one value: a range of [`Masks::steps`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Active {
    from: usize,
    to: usize,
}

impl Active {
    pub(super) fn is_empty(self) -> bool {
        self.from == self.to
    }
}

/// Memory that is reused from body to body.
#[derive(Debug, Default)]
pub(in crate::rules) struct Memory {
    pub(in crate::rules) out: Vec<u8>,
    steps: Vec<Step>,
    from: String,
    to: String,
}

impl Memory {
    /// Whether one of the buffers has more than `bytes` bytes.
    pub(in crate::rules) fn exceeds(&self, bytes: usize) -> bool {
        let buffers = [
            self.out.capacity(),
            self.steps.capacity() * size_of::<Step>(),
            self.from.capacity(),
            self.to.capacity(),
        ];
        buffers.iter().any(|capacity| *capacity > bytes)
    }

    pub(in crate::rules) fn shrink_to(&mut self, bytes: usize) {
        self.out.clear();
        self.out.shrink_to(bytes);
        self.steps.clear();
        self.steps.shrink_to(bytes / size_of::<Step>());
        for text in [&mut self.from, &mut self.to] {
            text.clear();
            text.shrink_to(bytes);
        }
    }
}

/// The masks of one body with their state.
pub(super) struct Masks<'a> {
    rules: &'a [Rule],
    per_rule: &'a mut PerRule,
    steps: &'a mut Vec<Step>,
    from: &'a mut String,
    to: &'a mut String,
    /// The budget of work was spent, or a name has too many parts: nothing of the body may leave.
    gave_up: bool,
}

impl<'a> Masks<'a> {
    /// The rules numbered `masks`, their steps at the outermost value of a body, and the buffer for what they leave.
    pub(super) fn new(
        rules: &'a [Rule],
        masks: &[usize],
        per_rule: &'a mut PerRule,
        memory: &'a mut Memory,
    ) -> (Self, Active, &'a mut Vec<u8>) {
        let Memory {
            out,
            steps,
            from,
            to,
        } = memory;
        out.clear();
        steps.clear();
        steps.extend(masks.iter().map(|mask| Step {
            mask: *mask,
            reached: Reached::START,
        }));
        let active = Active {
            from: 0,
            to: steps.len(),
        };
        let masks = Self {
            rules,
            per_rule,
            steps,
            from,
            to,
            gave_up: false,
        };
        (masks, active, out)
    }

    /// Whether what was found is not all that there is: the rest was not looked at.
    pub(super) fn gave_up(&self) -> bool {
        self.gave_up
    }

    /// The steps of the member `name` of an object, by each name that a common reader has for it.
    pub(super) fn enter_member(&mut self, around: Active, name: &str) -> Active {
        let bare = names::bare(name);
        let squeezed = names::squeezed(bare);
        let other = squeezed.as_deref().unwrap_or(bare);
        let other = (other.len() != name.len()).then_some(Child::Member(other));
        self.enter_as(around, [Some(Child::Member(name)), other])
    }

    /// The steps of a value inside the one with the steps `around`. The caller returns them with [`Self::leave`].
    pub(super) fn enter(&mut self, around: Active, child: Child<'_>) -> Active {
        self.enter_as(around, [Some(child), None])
    }

    /// The same for a value that is either of two children.
    fn enter_as(&mut self, around: Active, children: [Option<Child<'_>>; 2]) -> Active {
        let from = self.steps.len();
        for index in around.from..around.to {
            let Some(&Step { mask, reached }) = self.steps.get(index) else {
                continue;
            };
            let Some((rule, path)) = self
                .rules
                .get(mask)
                .and_then(|rule| Some((rule, rule.path.as_ref()?)))
            else {
                continue;
            };
            let spent = self.per_rule.work.spend(reached.ways() * PATH_STEP);
            if spent.is_err() {
                self.per_rule.doubts += u32::from(!self.gave_up);
                self.gave_up = true;
                break;
            }
            // A replacement of an object or a list is one of all values in it.
            let mut inside = if rule.verb == Verb::Replace {
                path.done(reached)
            } else {
                Reached::NOTHING
            };
            for child in children.into_iter().flatten() {
                path.step(reached, child, &mut inside);
            }
            if inside != Reached::NOTHING {
                self.steps.push(Step {
                    mask,
                    reached: inside,
                });
            }
        }
        Active {
            from,
            to: self.steps.len(),
        }
    }

    /// Forgets the steps of a value that is over.
    pub(super) fn leave(&mut self, value: Active) {
        self.steps.truncate(value.from);
    }

    /// The rules that select the value itself, in order of application.
    fn selected(&self, active: Active) -> impl Iterator<Item = usize> + use<> {
        let steps = self.steps.get(active.from..active.to).unwrap_or_default();
        let mut selected: Vec<usize> = steps
            .iter()
            .filter(|step| {
                let path = self
                    .rules
                    .get(step.mask)
                    .and_then(|rule| rule.path.as_ref());
                path.is_some_and(|path| path.done(step.reached) != Reached::NOTHING)
            })
            .map(|step| step.mask)
            .collect();
        selected.sort_unstable();
        selected.dedup();
        selected.into_iter()
    }

    /// Whether a rule selects the value itself.
    pub(super) fn is_selected(&self, active: Active) -> bool {
        !active.is_empty() && self.selected(active).next().is_some()
    }

    /// Whether a rule removes a value with this text.
    pub(super) fn removes(&mut self, active: Active, text: &str) -> bool {
        let mut removed = false;
        for mask in self.selected(active) {
            let Some(rule) = self.rules.get(mask) else {
                continue;
            };
            let takes = match &rule.action {
                Action::Always => true,
                Action::Replace { .. } => false,
                Action::Test(param) => {
                    let answer = param.test(text, &mut self.per_rule.work);
                    self.per_rule.doubts += u32::from(answer == Answer::Doubt);
                    if rule.verb.acts_without_match() {
                        answer != Answer::Yes
                    } else {
                        answer != Answer::No
                    }
                }
            };
            if takes {
                self.per_rule.matched(mask);
            }
            removed |= takes;
        }
        removed
    }

    /// Applies the rules to a scalar: a JSON value that holds no others, or a form field.
    pub(super) fn apply(&mut self, active: Active, text: &str) -> Result<Fate, Unreadable> {
        if self.removes(active, text) {
            return Ok(Fate::Removed);
        }
        let mut changed = false;
        for mask in self.selected(active) {
            let Some((rule, groups)) = self.rules.get(mask).zip(self.per_rule.groups.get_mut(mask))
            else {
                continue;
            };
            let Action::Replace { find, with } = &rule.action else {
                continue;
            };
            let input = if changed { self.from.as_str() } else { text };
            let bytes_max = input.len().saturating_add(self.per_rule.growth);
            let work = &mut self.per_rule.work;
            match find.replace(input, with, self.to, groups, bytes_max, work) {
                Replaced::Same => continue,
                Replaced::Changed => {
                    let grown = self.to.len().saturating_sub(input.len());
                    self.per_rule.growth = self.per_rule.growth.saturating_sub(grown);
                    std::mem::swap(self.from, self.to);
                }
                Replaced::Doubt => {
                    self.per_rule.doubts += 1;
                    return Err(Unreadable);
                }
            }
            changed = true;
            self.per_rule.matched(mask);
        }
        Ok(if changed { Fate::Changed } else { Fate::Stays })
    }

    /// The new text of the last value that was changed.
    pub(super) fn text(&self) -> &str {
        self.from
    }

    /// The steps of the field `name`, by each name that a common reader has for it: by the whole of it, and by its parts in
    /// brackets as names of nested members.
    pub(super) fn enter_field(&mut self, around: Active, name: &str) -> Active {
        let name = names::folded(name);
        let mut found = self.field_steps(around, &name, Vec::new());
        let bare = names::bare(&name);
        if bare.len() != name.len() {
            found = self.field_steps(around, bare, found);
        }
        let others = [names::squeezed(bare), names::underscored(bare)];
        for other in others.iter().flatten() {
            found = self.field_steps(around, other, found);
        }
        self.push(found)
    }

    /// Adds to `found` the steps of a field with just this name.
    fn field_steps(&mut self, around: Active, name: &str, mut found: Vec<Step>) -> Vec<Step> {
        let whole = self.enter(around, Child::Member(name));
        found.extend_from_slice(self.steps_of(whole));
        self.leave(whole);
        if !name.contains(['[', ']', '.']) {
            return found;
        }
        let mut level = self.push(self.steps_of(around).to_vec());
        let parts = name.split(['[', ']', '.']).map(names::bare);
        let mut parts = parts.filter(|part| !part.is_empty());
        for part in parts.by_ref().take(FIELD_PARTS_MAX) {
            let element = part.parse().ok().map(Child::Element);
            let inside = self.enter_as(level, [Some(Child::Member(part)), element]);
            // The steps of one part take the place of those of the part before.
            self.steps.drain(level.from..inside.from);
            level.to = self.steps.len();
        }
        self.gave_up |= parts.next().is_some();
        found.extend_from_slice(self.steps_of(level));
        self.leave(level);
        found
    }

    fn steps_of(&self, active: Active) -> &[Step] {
        self.steps.get(active.from..active.to).unwrap_or_default()
    }

    /// Makes `steps` those of the innermost value, each mask once.
    fn push(&mut self, mut steps: Vec<Step>) -> Active {
        steps.sort_unstable_by_key(|step| step.mask);
        steps.dedup_by(|step, before| {
            let same = step.mask == before.mask;
            if same {
                before.reached = before.reached.and(step.reached);
            }
            same
        });
        let from = self.steps.len();
        self.steps.extend(steps);
        Active {
            from,
            to: self.steps.len(),
        }
    }

    /// The steps of the masks that may select something inside the value and do not select all of it. The caller returns
    /// them with [`Self::leave`].
    pub(super) fn enter_inside(&mut self, active: Active) -> Active {
        let all: Vec<usize> = self.selected(active).collect();
        let steps = self.steps_of(active).iter();
        let inside = steps.filter(|step| !all.contains(&step.mask)).copied();
        let inside = inside.collect();
        self.push(inside)
    }

    /// Whether a mask may select something inside the value.
    pub(super) fn reaches_inside(&self, active: Active) -> bool {
        let mut paths = self.paths(active);
        paths.any(|(path, reached)| path.done(reached) != reached)
    }

    /// Whether a mask may select an element of the value.
    pub(super) fn reaches_elements(&self, active: Active) -> bool {
        let mut paths = self.paths(active);
        paths.any(|(path, reached)| path.reaches_elements(reached))
    }

    /// Whether a rule whose path has a name selects the value itself.
    pub(super) fn is_selected_by_name(&self, active: Active) -> bool {
        let mut paths = self.paths(active);
        paths.any(|(path, reached)| path.done(reached) != Reached::NOTHING && path.has_name())
    }

    fn paths(&self, active: Active) -> impl Iterator<Item = (&Path, Reached)> {
        self.steps_of(active).iter().filter_map(|step| {
            let rule = self.rules.get(step.mask)?;
            Some((rule.path.as_ref()?, step.reached))
        })
    }
}
