//! One detail in, what may leave of it out; and, once all are through, whether the call may.
//!
//! Contract 4.4. Every verb but the drop verdict is a matter of one detail, so rules meet a detail once, as soon as it is
//! read: stop rules and the tests of remove rules see the original value, then replacements run in text order. What
//! stop rules found is kept in a [`Tally`] per call. A pattern that ran out of steps never lets anything out: a stop
//! rule stops, a remove rule removes, a replace rule removes the value.

use std::borrow::Cow;

use super::body::{self, Unreadable};
use super::matches::PerRule;
use super::pattern::{Answer, Pattern, Replaced};
use super::set::{Action, Rule, RuleSet};
use super::verb::Verb;

/// What the rules do with every detail of one key. Made once per key and kept by the caller.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    stop: bool,
    remove: bool,
    /// Rules with a test of the value, in order of application.
    tests: Box<[usize]>,
    /// Replace rules, in text order; empty when the detail is removed anyway.
    replaces: Box<[usize]>,
    /// Rules that look into the value by a path, in order of application; empty when the detail is removed anyway.
    masks: Box<[usize]>,
    /// Rules that act on the detail whatever its value is.
    always: Box<[usize]>,
    /// Scopes that ran out of steps on the key.
    doubts: u32,
}

impl Plan {
    /// Whether a rule has to see the value: a body without that is never collected.
    pub fn needs_value(&self) -> bool {
        !self.tests.is_empty() || !self.replaces.is_empty() || self.looks_inside()
    }

    /// Whether a rule looks into the value by a path: a value that is cut cannot leave.
    pub fn looks_inside(&self) -> bool {
        !self.masks.is_empty()
    }

    /// Whether no value can leave: a rule removes the detail, or drops the call, whatever the value is.
    pub fn hides_all(&self) -> bool {
        self.remove || self.stop
    }

    /// Whether the value leaves as it is.
    pub fn is_plain(&self) -> bool {
        !self.hides_all() && !self.needs_value()
    }
}

/// What the rules have found in one call so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    stopped: bool,
    /// Hits of all `stop_unless_found` rules together.
    found: usize,
    /// Hits of all `stop_unless` rules together.
    matched: usize,
    kept: usize,
    /// Patterns that ran out of steps.
    pub doubts: u32,
    /// Values that were removed because a rule had to look into them and could not read them.
    pub unreadable: u32,
}

impl Tally {
    /// Whether the call will be dropped whatever comes: nothing more of it has to be kept.
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// A detail whose plan is plain: it leaves unless it is empty.
    pub fn plain(&mut self, empty: bool) {
        self.kept += usize::from(!empty);
    }
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It leaves.
    Kept,
    /// A stop rule dropped it.
    Stopped,
    /// The sample rule dropped it.
    Sampled,
    /// The rules left nothing of it.
    Emptied,
}

/// Memory that [`RuleSet::apply`] reuses. It serves one rule set.
#[derive(Debug, Default)]
pub struct Scratch {
    rules: PerRule,
    body: body::Memory,
    text: String,
    from: String,
    to: String,
}

impl Scratch {
    /// How often each rule of [`RuleSet::rules`] acted. Empty before the first did.
    pub fn hits(&self) -> &[u64] {
        &self.rules.hits
    }

    /// Gives memory back that one long value took.
    pub fn shrink_to(&mut self, bytes: usize) {
        self.text.clear();
        self.from.clear();
        self.to.clear();
        self.text.shrink_to(bytes);
        self.from.shrink_to(bytes);
        self.to.shrink_to(bytes);
        self.body.shrink_to(bytes);
    }
}

/// Draws for the sample rule: splitmix64, so that a seed gives the same calls again.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sampler {
    state: u64,
}

impl Sampler {
    /// From any seed.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// 0 to 99.
    fn draw(&mut self) -> u8 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        u8::try_from((mixed ^ (mixed >> 31)) % 100).unwrap_or_default()
    }
}

impl RuleSet {
    /// What the rules do with details called `key`.
    pub fn plan(&self, key: &str) -> Plan {
        let mut plan = Plan::default();
        let (mut tests, mut replaces) = (Vec::new(), Vec::new());
        let (mut masks, mut always) = (Vec::new(), Vec::new());
        for (index, rule) in self.rules.iter().enumerate() {
            let answer = rule.scope.test(key);
            if answer == Answer::No {
                continue;
            }
            plan.doubts += u32::from(answer == Answer::Doubt);
            if rule.path.is_some() {
                masks.push(index);
                continue;
            }
            match (&rule.action, rule.verb) {
                (_, Verb::StopUnless | Verb::StopUnlessFound) if answer == Answer::Doubt => {
                    plan.stop = true;
                }
                (Action::Replace { .. }, _) if answer == Answer::Doubt => plan.remove = true,
                (Action::Always, Verb::Stop) => {
                    plan.stop = true;
                    always.push(index);
                }
                (Action::Always, _) => {
                    plan.remove = true;
                    always.push(index);
                }
                (Action::Test(_), _) => tests.push(index),
                (Action::Replace { .. }, _) => replaces.push(index),
            }
        }
        if plan.remove {
            replaces.clear();
            masks.clear();
            tests.retain(|index| {
                self.rules
                    .get(*index)
                    .is_some_and(|rule| rule.verb.rank() < Verb::Remove.rank())
            });
        }
        Plan {
            tests: tests.into(),
            replaces: replaces.into(),
            masks: masks.into(),
            always: always.into(),
            ..plan
        }
    }

    /// Lets one detail through its plan: what is left of the value, or nothing.
    pub fn apply<'a>(
        &self,
        plan: &Plan,
        value: &'a [u8],
        tally: &mut Tally,
        scratch: &'a mut Scratch,
    ) -> Option<&'a [u8]> {
        tally.stopped |= plan.stop;
        tally.doubts += plan.doubts;
        let mut left = Some(value);
        let Scratch {
            rules,
            body,
            text,
            from,
            to,
        } = scratch;
        rules.resize(self.rules.len());
        for index in &plan.always {
            rules.hit(*index);
        }
        if plan.needs_value() {
            let value = as_text(value, text);
            let removed = self.tests_remove(plan, value, tally, rules) || plan.remove;
            let replaced = if removed {
                None
            } else {
                self.replaced(plan, value, tally, rules, from, to)
            };
            left = match replaced {
                Some(text) if plan.looks_inside() => self.masked(plan, text, tally, rules, body),
                replaced => replaced.map(str::as_bytes),
            };
        }
        if plan.hides_all() || tally.stopped {
            return None;
        }
        let left = left.filter(|value| !value.is_empty())?;
        tally.kept += 1;
        Some(left)
    }

    /// Runs the tests on the original value; whether a remove rule takes the detail.
    fn tests_remove(
        &self,
        plan: &Plan,
        value: &str,
        tally: &mut Tally,
        per_rule: &mut PerRule,
    ) -> bool {
        let mut removed = false;
        for index in &plan.tests {
            let Some((rule, param)) = self.rules.get(*index).and_then(Rule::test) else {
                continue;
            };
            let answer = param.test(value);
            tally.doubts += u32::from(answer == Answer::Doubt);
            let yes_or_doubt = answer != Answer::No;
            let no_or_doubt = answer != Answer::Yes;
            let acts = match rule.verb {
                Verb::RemoveUnless | Verb::RemoveUnlessFound => no_or_doubt,
                _ => yes_or_doubt,
            };
            if acts {
                per_rule.hit(*index);
            }
            match rule.verb {
                Verb::StopIf | Verb::StopIfFound => tally.stopped |= yes_or_doubt,
                Verb::StopUnless | Verb::StopUnlessFound if answer == Answer::Doubt => {
                    tally.stopped = true;
                }
                Verb::StopUnless => tally.matched += usize::from(yes_or_doubt),
                Verb::StopUnlessFound => tally.found += usize::from(yes_or_doubt),
                Verb::RemoveUnless | Verb::RemoveUnlessFound => removed |= no_or_doubt,
                _ => removed |= yes_or_doubt,
            }
        }
        removed
    }

    fn replaced<'a>(
        &self,
        plan: &Plan,
        value: &'a str,
        tally: &mut Tally,
        per_rule: &mut PerRule,
        from: &'a mut String,
        to: &mut String,
    ) -> Option<&'a str> {
        let mut changed = false;
        for index in &plan.replaces {
            let Some((rule, groups)) =
                (self.rules.get(*index)).zip(per_rule.groups.get_mut(*index))
            else {
                continue;
            };
            let Action::Replace { find, with } = &rule.action else {
                continue;
            };
            let input = if changed { from.as_str() } else { value };
            match find.replace(input, with, to, groups) {
                Replaced::Same => {}
                Replaced::Changed => {
                    std::mem::swap(from, to);
                    changed = true;
                    per_rule.hit(*index);
                }
                Replaced::Doubt => {
                    tally.doubts += 1;
                    return None;
                }
            }
        }
        Some(if changed { from.as_str() } else { value })
    }

    /// What the rules that look into a value leave of it, no other rule asked; nothing when they cannot read it.
    pub fn masks<'a>(&self, plan: &Plan, value: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        if !plan.looks_inside() {
            return Some(Cow::Borrowed(value));
        }
        let mut scratch = Scratch::default();
        let Scratch {
            rules,
            body,
            text,
            ..
        } = &mut scratch;
        rules.resize(self.rules.len());
        let text = as_text(value, text);
        let left = self.masked(plan, text, &mut Tally::default(), rules, body);
        left.map(|left| Cow::Owned(left.to_vec()))
    }

    /// What the masks of `plan` leave of `text`; nothing when they cannot read it.
    fn masked<'a>(
        &self,
        plan: &Plan,
        text: &'a str,
        tally: &mut Tally,
        per_rule: &mut PerRule,
        memory: &'a mut body::Memory,
    ) -> Option<&'a [u8]> {
        match body::hide(text, &self.rules, &plan.masks, per_rule, memory) {
            Ok(true) => Some(&memory.out),
            Ok(false) => Some(text.as_bytes()),
            Err(Unreadable) => {
                tally.unreadable += 1;
                None
            }
        }
    }

    /// What becomes of the call, once all its details went through [`Self::apply`].
    pub fn verdict(&self, tally: &Tally, sampled_out: bool) -> Verdict {
        if tally.stopped
            || tally.found != self.stop_unless_found
            || tally.matched != self.stop_unless
        {
            Verdict::Stopped
        } else if sampled_out {
            Verdict::Sampled
        } else if tally.kept == 0 {
            Verdict::Emptied
        } else {
            Verdict::Kept
        }
    }

    /// Whether the sample rule, if there is one, drops this call. Stopped calls are drawn for too: the outcome of the
    /// others is the same, and a call that is drawn out early need not be written.
    pub fn draws_out(&self, sampler: &mut Sampler) -> bool {
        self.sample.is_some_and(|percent| sampler.draw() >= percent)
    }

    /// Whether session rule number `rule` copies the cookie `name` (lower-case). In doubt it does not.
    pub fn copies_cookie(&self, rule: usize, name: &str) -> bool {
        self.session
            .get(rule)
            .is_some_and(|pattern: &Pattern| pattern.test(name) == Answer::Yes)
    }
}

/// `value` as text: every byte that is not UTF-8 becomes one U+FFFD, as it will be in the line and as Go's `regexp`
/// sees it.
fn as_text<'a>(value: &'a [u8], text: &'a mut String) -> &'a str {
    if let Ok(value) = simdutf8::basic::from_utf8(value) {
        return value;
    }
    text.clear();
    for chunk in value.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    text
}

/// Lets the details of one call through `rules`: what is left of them, or nothing when the call is dropped.
pub fn apply_all(
    rules: &RuleSet,
    details: &[(String, Vec<u8>)],
    sampler: &mut Sampler,
) -> Option<Vec<(String, Vec<u8>)>> {
    let (mut tally, mut scratch) = (Tally::default(), Scratch::default());
    let sampled_out = rules.draws_out(sampler);
    let mut left = Vec::new();
    for (key, value) in details {
        if let Some(value) = rules.apply(&rules.plan(key), value, &mut tally, &mut scratch) {
            left.push((key.clone(), value.to_vec()));
        }
    }
    (rules.verdict(&tally, sampled_out) == Verdict::Kept).then_some(left)
}
