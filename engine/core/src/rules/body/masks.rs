//! The state of masks inside a body: which rules select a value, and what they do with it.

use super::super::matches::PerRule;
use super::super::names;
use super::super::path::{Child, Path, Progress};
use super::super::pattern::Answer;
use super::super::replacement::Replaced;
use super::super::set::{Action, Rule};
use super::super::verb::Verb;

/// The body cannot be parsed, or a mask reached its step limit: nothing of the body may leave.
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

/// The state of one mask: number of the rule, and how many steps of its path lead to the present value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    mask: usize,
    progress: Progress,
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
    pub(in crate::rules) fn shrink_to(&mut self, bytes: usize) {
        self.out.clear();
        self.out.shrink_to(bytes);
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
            progress: 0,
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
        };
        (masks, active, out)
    }

    /// The steps of the member `name` of an object, by each name that a common reader has for it.
    pub(super) fn enter_member(&mut self, around: Active, name: &str) -> Active {
        let member = self.enter(around, Child::Member(name));
        let bare = names::bare(name);
        if bare.len() == name.len() {
            return member;
        }
        let other = self.enter(around, Child::Member(bare));
        Active {
            from: member.from,
            to: other.to,
        }
    }

    /// The steps of a value inside the one with the steps `around`. The caller returns them with [`Self::leave`].
    pub(super) fn enter(&mut self, around: Active, child: Child<'_>) -> Active {
        let from = self.steps.len();
        for index in around.from..around.to {
            let Some(&Step { mask, progress }) = self.steps.get(index) else {
                continue;
            };
            let Some((rule, path)) = self
                .rules
                .get(mask)
                .and_then(|rule| Some((rule, rule.path.as_ref()?)))
            else {
                continue;
            };
            let steps = &mut *self.steps;
            let mut add = |progress| {
                let step = Step { mask, progress };
                if !steps.iter().skip(from).any(|other| *other == step) {
                    steps.push(step);
                }
            };
            // A replacement of an object or a list is one of all values in it.
            if path.is_done(progress) && rule.verb == Verb::Replace {
                add(progress);
            }
            path.step(progress, child, add);
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
                path.is_some_and(|path| path.is_done(step.progress))
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
                    let answer = param.test(text);
                    match rule.verb {
                        Verb::RemoveUnless | Verb::RemoveUnlessFound => answer != Answer::Yes,
                        _ => answer != Answer::No,
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
            match find.replace(input, with, self.to, groups) {
                Replaced::Same => continue,
                Replaced::Changed => std::mem::swap(self.from, self.to),
                Replaced::StepLimit => return Err(Unreadable),
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
        let name = name.to_lowercase();
        let mut found = self.field_steps(around, &name, Vec::new());
        let bare = names::bare(&name);
        if bare.len() != name.len() {
            found = self.field_steps(around, bare, found);
        }
        if let Some(other) = names::underscored(bare) {
            found = self.field_steps(around, &other, found);
        }
        self.push(found)
    }

    /// Adds to `found` the steps of a field with just this name.
    fn field_steps(&mut self, around: Active, name: &str, mut found: Vec<Step>) -> Vec<Step> {
        let whole = self.enter(around, Child::Member(name));
        found.extend_from_slice(self.steps_of(whole));
        self.leave(whole);
        if !name.contains(['[', '.']) {
            return found;
        }
        let mut active = self.push(self.steps_of(around).to_vec());
        for part in name.split(['[', ']', '.']).map(names::bare) {
            if part.is_empty() {
                continue;
            }
            let member = self.enter(active, Child::Member(part));
            if let Ok(index) = part.parse() {
                self.enter(active, Child::Element(index));
            }
            // The steps of one part take the place of those of the part before.
            let next = self.steps.split_off(member.from);
            self.leave(active);
            active = self.push(next);
        }
        found.extend_from_slice(self.steps_of(active));
        self.leave(active);
        found
    }

    fn steps_of(&self, active: Active) -> &[Step] {
        self.steps.get(active.from..active.to).unwrap_or_default()
    }

    fn push(&mut self, steps: Vec<Step>) -> Active {
        let from = self.steps.len();
        self.steps.extend(steps);
        Active {
            from,
            to: self.steps.len(),
        }
    }

    /// Whether a mask may select something inside the value.
    pub(super) fn reaches_inside(&self, active: Active) -> bool {
        let mut paths = self.paths(active);
        paths.any(|(path, progress)| !path.is_done(progress))
    }

    /// Whether a mask may select an element of the value.
    pub(super) fn reaches_elements(&self, active: Active) -> bool {
        let mut paths = self.paths(active);
        paths.any(|(path, progress)| path.reaches_elements(progress))
    }

    /// Whether a rule whose path has a name selects the value itself.
    pub(super) fn is_selected_by_name(&self, active: Active) -> bool {
        let mut paths = self.paths(active);
        paths.any(|(path, progress)| path.is_done(progress) && path.has_name())
    }

    fn paths(&self, active: Active) -> impl Iterator<Item = (&Path, Progress)> {
        self.steps_of(active).iter().filter_map(|step| {
            let rule = self.rules.get(step.mask)?;
            Some((rule.path.as_ref()?, step.progress))
        })
    }
}
