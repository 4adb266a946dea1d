//! Application of a rule set: to each detail, then to the call as a whole.
//!
//! Source: `docs/contract.md`, section 4.4. Every verb but the drop verdict concerns one detail, so the rules are applied
//! to a detail once, as soon as it is read: stop rules and the tests of remove rules see the original value, then
//! replacements run in text order. What stop rules found is kept in [`Findings`], one for each call, with the budget of
//! work of the call. A pattern whose answer is not known when the budget is spent never lets anything out: a stop rule
//! stops, a remove rule removes, a replace rule removes the value.

use std::borrow::Cow;

use super::body::{self, Unreadable};
use super::matches::PerRule;
use super::names::other_keys;
use super::pattern::{Answer, Pattern};
use super::replacement::Replaced;
use super::searches::{NameWork, Work};
use super::set::{Action, Rule, RuleSet};
use super::verb::Verb;
use super::work::Budget;
use crate::limits::REPLACED_GROWTH_BYTES_MAX;
use crate::mix::{GOLDEN_GAMMA, mix};

/// What the rules do with every detail of one key. Computed once for each key and kept by the caller.
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
    /// Scopes whose answer on the key is not known.
    doubts: u32,
}

impl Plan {
    /// Bytes of memory that it has of its own.
    pub fn memory(&self) -> usize {
        let rules = [&self.tests, &self.replaces, &self.masks, &self.always];
        rules.iter().map(|rules| size_of_val(&***rules)).sum()
    }

    /// Whether a rule needs the value: a body that no rule needs is never collected.
    pub fn needs_value(&self) -> bool {
        !self.tests.is_empty() || !self.replaces.is_empty() || self.looks_inside()
    }

    /// Whether a rule looks into the value by a path: a truncated value then never leaves.
    pub fn looks_inside(&self) -> bool {
        !self.masks.is_empty()
    }

    /// Whether rule number `rule` tests or replaces the value.
    pub(super) fn has_value_rule(&self, rule: usize) -> bool {
        self.tests.contains(&rule) || self.replaces.contains(&rule)
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
pub struct Findings {
    stopped: bool,
    /// Matches of all `stop_unless_found` rules together.
    found: usize,
    /// Matches of all `stop_unless` rules together.
    matched: usize,
    kept: usize,
    /// Patterns whose answer is not known, since the budget of work was spent.
    pub doubts: u32,
    /// Answers that are not known because a value was not there as a whole.
    pub unseen: u32,
    /// Values that were removed because a rule looks into them and they could not be parsed.
    pub unreadable: u32,
    budget: Budget,
}

impl Findings {
    /// Whether the call will be dropped whatever follows: nothing more of it need be kept.
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// A rule asks for a detail that is not known: the call is dropped.
    pub fn doubt(&mut self) {
        self.stopped = true;
        self.doubts += 1;
    }

    /// What holds for a part of the call alone, of which `kept` details are left. Whose matches the `stop_unless` rules
    /// counted is not known, so none counts, and such rules drop the part; events that were counted stay with the whole.
    pub fn of_part(&self, kept: usize) -> Self {
        Self {
            stopped: self.stopped,
            kept,
            budget: self.budget,
            ..Self::default()
        }
    }

    /// Drops the call, because it may have a detail that a rule drops it for.
    pub fn stop(&mut self) {
        self.stopped = true;
        self.unseen += 1;
    }

    /// Counts an answer that is not known: because the budget is spent (`of_work`), or the value is not there as a whole.
    #[cold]
    fn count_doubt(&mut self, of_work: bool) {
        let counter = if of_work {
            &mut self.doubts
        } else {
            &mut self.unseen
        };
        *counter += 1;
    }

    /// Takes over what was found in another reading of a detail, which began with [`Self::of_part`]: that a rule drops the
    /// call, doubts, and what is left of the budget.
    pub fn also(&mut self, other: &Self) {
        self.stopped |= other.stopped;
        self.budget = other.budget;
        self.doubts += other.doubts;
        self.unseen += other.unseen;
        self.unreadable += other.unreadable;
    }

    /// Details that the rules have left so far.
    pub fn kept(&self) -> usize {
        self.kept
    }

    /// The last of them is not in the line, which has no room for it.
    pub fn left_out(&mut self) {
        self.kept = self.kept.saturating_sub(1);
    }

    /// What the rules have looked at, in bytes.
    #[cfg(test)]
    pub(super) fn work(&self) -> u64 {
        self.budget.spent()
    }

    /// Counts a detail whose plan is plain: it leaves unless it is empty.
    pub fn plain(&mut self, empty: bool) {
        self.kept += usize::from(!empty);
    }
}

/// How much of a value there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// All of it.
    Whole,
    /// Its beginning.
    Start,
    /// Some of it, with pieces missing anywhere, or nothing that could be read.
    Torn,
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
    /// With at most `bytes` bytes of memory for what searches keep.
    pub fn within(bytes: usize) -> Self {
        let mut scratch = Self::default();
        scratch.rules.work = Work::within(bytes);
        scratch
    }

    /// Forgets what searches keep, and sets another bound.
    pub fn narrow_to(&mut self, bytes: usize) {
        self.rules.work.narrow_to(bytes);
    }

    /// Bytes of memory that searches keep.
    pub fn searches_bytes(&self) -> usize {
        self.rules.work.bytes()
    }

    /// How often what searches keep was forgotten since this was called.
    pub fn take_forgotten(&mut self) -> u64 {
        self.rules.work.take_forgotten()
    }

    /// How often each rule of [`RuleSet::rules`] acted. Empty before the first did.
    pub fn matches(&self) -> &[u64] {
        &self.rules.matches
    }

    /// Whether a long value took more than `bytes` bytes of memory for one of the buffers.
    pub fn exceeds(&self, bytes: usize) -> bool {
        let texts = [&self.text, &self.from, &self.to];
        texts.iter().any(|text| text.capacity() > bytes) || self.body.exceeds(bytes)
    }

    /// Frees the memory that one long value took.
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

/// The random numbers of the sample rule: splitmix64, so that a seed selects the same calls again.
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
        self.state = self.state.wrapping_add(GOLDEN_GAMMA);
        u8::try_from(mix(self.state) % 100).unwrap_or_default()
    }
}

impl RuleSet {
    /// What the rules do with details called `key`: those for that name, and for one that a common reader has instead.
    pub fn plan(&self, key: &str) -> Plan {
        self.plan_within(key, &mut NameWork::default())
    }

    /// As [`Self::plan`], with what is left of the work on the names of its message.
    pub fn plan_within(&self, key: &str, work: &mut NameWork) -> Plan {
        let mut plan = Plan::default();
        let (mut tests, mut replaces) = (Vec::new(), Vec::new());
        let (mut masks, mut always) = (Vec::new(), Vec::new());
        let others = other_keys(key);
        let others: Vec<_> = others
            .iter()
            .map(|other| self.scopes.search(other, work))
            .collect();
        let key = self.scopes.search(key, work);
        for (index, rule) in self.rules.iter().enumerate() {
            let mut answer = |found| self.scopes.answer(index, &rule.scope, found, work);
            let first = answer(&key);
            let answer = others
                .iter()
                .fold(first, |so_far, other| so_far.or_else(|| answer(other)));
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

    /// Applies a plan to one detail: what is left of the value, or nothing.
    pub fn apply<'a>(
        &self,
        plan: &Plan,
        value: &'a [u8],
        findings: &mut Findings,
        scratch: &'a mut Scratch,
    ) -> Option<&'a [u8]> {
        if plan.needs_value() {
            return self.apply_to_value(plan, value, Extent::Whole, findings, scratch);
        }
        self.apply_to_any(plan, value, findings, scratch)
    }

    /// Applies a plan to what there is of a detail. Where the rest could change what a rule does, a stop rule stops and a
    /// remove rule removes; what may be the beginning of a match does not leave, nor does a value that is [`Extent::Torn`] or
    /// that a rule looks into, unless no rule needs it.
    pub fn apply_to<'a>(
        &self,
        plan: &Plan,
        value: &'a [u8],
        extent: Extent,
        findings: &mut Findings,
        scratch: &'a mut Scratch,
    ) -> Option<&'a [u8]> {
        if plan.needs_value() {
            return self.apply_to_value(plan, value, extent, findings, scratch);
        }
        self.apply_to_any(plan, value, findings, scratch)
    }

    /// As [`Self::apply`] with a plan that hides all and does not need the value.
    #[inline]
    pub fn hide(&self, plan: &Plan, findings: &mut Findings, scratch: &mut Scratch) {
        findings.stopped |= plan.stop;
        findings.doubts += plan.doubts;
        scratch.rules.resize(self.rules.len());
        for index in &plan.always {
            scratch.rules.matched(*index);
        }
    }

    /// Applies a plan that is the same for all values.
    #[inline]
    fn apply_to_any<'a>(
        &self,
        plan: &Plan,
        value: &'a [u8],
        findings: &mut Findings,
        scratch: &mut Scratch,
    ) -> Option<&'a [u8]> {
        self.hide(plan, findings, scratch);
        if plan.hides_all() || findings.stopped || value.is_empty() {
            return None;
        }
        findings.kept += 1;
        Some(value)
    }

    /// Applies a plan that needs the value. Most values are there as a whole, so there is a version for them.
    #[inline(always)]
    fn apply_to_value<'a>(
        &self,
        plan: &Plan,
        value: &'a [u8],
        extent: Extent,
        findings: &mut Findings,
        scratch: &'a mut Scratch,
    ) -> Option<&'a [u8]> {
        findings.stopped |= plan.stop;
        findings.doubts += plan.doubts;
        let Scratch {
            rules,
            body,
            text,
            from,
            to,
        } = scratch;
        rules.resize(self.rules.len());
        for index in &plan.always {
            rules.matched(*index);
        }
        rules.work.budget = findings.budget;
        let value = as_text(value, text);
        let removed = self.tests_remove(plan, value, extent, findings, rules) || plan.remove;
        let replaced = match extent {
            _ if removed => None,
            Extent::Whole => self.replaced(plan, value, findings, rules, from, to),
            Extent::Start if !plan.looks_inside() => {
                self.replaced_start(plan, value, findings, rules, from, to)
            }
            Extent::Start | Extent::Torn => None,
        };
        let left = match replaced {
            Some(text) if plan.looks_inside() => self.masked(plan, text, findings, rules, body),
            replaced => replaced.map(str::as_bytes),
        };
        rules.work.settle();
        findings.budget = rules.work.budget;
        if plan.hides_all() || findings.stopped {
            return None;
        }
        let left = left.filter(|value| !value.is_empty())?;
        findings.kept += 1;
        Some(left)
    }

    /// Runs the tests on the original value; true when a remove rule removes the detail.
    #[inline(always)]
    fn tests_remove(
        &self,
        plan: &Plan,
        value: &str,
        extent: Extent,
        findings: &mut Findings,
        per_rule: &mut PerRule,
    ) -> bool {
        let mut removed = false;
        per_rule.work.grant(value.len(), plan.tests.len());
        for index in &plan.tests {
            let Some((rule, param)) = self.rules.get(*index).and_then(Rule::test) else {
                continue;
            };
            let work = &mut per_rule.work;
            let answer = match extent {
                Extent::Whole if param.is_ruled_out(value) => Answer::No,
                Extent::Whole => param.search(value, work),
                Extent::Start => param.test_start(value, work),
                Extent::Torn => Answer::Doubt,
            };
            if answer == Answer::No && !rule.verb.acts_without_match() {
                continue;
            }
            if answer == Answer::Doubt {
                findings.count_doubt(extent == Extent::Whole);
            }
            let yes_or_doubt = answer != Answer::No;
            let no_or_doubt = answer != Answer::Yes;
            let acts = if rule.verb.acts_without_match() {
                no_or_doubt
            } else {
                yes_or_doubt
            };
            if acts {
                per_rule.matched(*index);
            }
            match rule.verb {
                Verb::StopIf | Verb::StopIfFound => findings.stopped |= yes_or_doubt,
                Verb::StopUnless | Verb::StopUnlessFound if answer == Answer::Doubt => {
                    findings.stopped = true;
                }
                Verb::StopUnless => findings.matched += usize::from(yes_or_doubt),
                Verb::StopUnlessFound => findings.found += usize::from(yes_or_doubt),
                Verb::RemoveUnless | Verb::RemoveUnlessFound => removed |= no_or_doubt,
                _ => removed |= yes_or_doubt,
            }
        }
        removed
    }

    #[inline(always)]
    fn replaced<'a>(
        &self,
        plan: &Plan,
        value: &'a str,
        findings: &mut Findings,
        per_rule: &mut PerRule,
        from: &'a mut String,
        to: &mut String,
    ) -> Option<&'a str> {
        let mut changed = false;
        let bytes_max = value.len().saturating_add(REPLACED_GROWTH_BYTES_MAX);
        per_rule.work.grant(value.len(), plan.replaces.len());
        for index in &plan.replaces {
            let Some(Action::Replace { find, with }) =
                self.rules.get(*index).map(|rule| &rule.action)
            else {
                continue;
            };
            let input = if changed { from.as_str() } else { value };
            if find.is_ruled_out(input) {
                continue;
            }
            let Some(groups) = per_rule.groups.get_mut(*index) else {
                continue;
            };
            let work = &mut per_rule.work;
            match find.replace_found(input, with, to, groups, bytes_max, work) {
                Replaced::Same => {}
                Replaced::Changed => {
                    std::mem::swap(from, to);
                    changed = true;
                    per_rule.matched(*index);
                }
                Replaced::Doubt => {
                    findings.doubts += 1;
                    return None;
                }
            }
        }
        Some(if changed { from.as_str() } else { value })
    }

    /// As [`Self::replaced`], for a value that begins with `start`.
    fn replaced_start<'a>(
        &self,
        plan: &Plan,
        start: &'a str,
        findings: &mut Findings,
        per_rule: &mut PerRule,
        from: &'a mut String,
        to: &mut String,
    ) -> Option<&'a str> {
        let mut changed = false;
        let bytes_max = start.len().saturating_add(REPLACED_GROWTH_BYTES_MAX);
        per_rule.work.grant(start.len(), plan.replaces.len());
        for index in &plan.replaces {
            let (Some(rule), Some(groups)) =
                (self.rules.get(*index), per_rule.groups.get_mut(*index))
            else {
                continue;
            };
            let Action::Replace { find, with } = &rule.action else {
                continue;
            };
            let input = if changed { from.as_str() } else { start };
            let work = &mut per_rule.work;
            if find.replace_start(input, with, to, groups, bytes_max, work) == Replaced::Doubt {
                findings.count_doubt(work.left() == 0);
                return None;
            }
            if input != to.as_str() {
                std::mem::swap(from, to);
                changed = true;
                per_rule.matched(*index);
            }
        }
        Some(if changed { from.as_str() } else { start })
    }

    /// Whether a rule may drop a call because of a detail whose key begins with `prefix`.
    pub fn may_stop(&self, prefix: &str) -> bool {
        let stops = self
            .rules
            .iter()
            .take_while(|rule| rule.verb.rank() < Verb::Remove.rank());
        let mut scopes = stops.map(|rule| &rule.scope);
        scopes.any(|scope| scope.may_match_start(prefix))
    }

    /// What the rules that look into a value leave of it, without any other rule; nothing when it cannot be parsed. No match
    /// is counted.
    pub fn masks<'a>(
        &self,
        plan: &Plan,
        value: &'a [u8],
        findings: &mut Findings,
        scratch: &mut Scratch,
    ) -> Option<Cow<'a, [u8]>> {
        if !plan.looks_inside() {
            return Some(Cow::Borrowed(value));
        }
        let mut own = Scratch::default();
        let Scratch {
            rules, body, text, ..
        } = &mut own;
        rules.resize(self.rules.len());
        std::mem::swap(&mut rules.work, &mut scratch.rules.work);
        rules.work.budget = findings.budget;
        let text = as_text(value, text);
        let left = self.masked(plan, text, &mut Findings::default(), rules, body);
        rules.work.settle();
        findings.budget = rules.work.budget;
        std::mem::swap(&mut rules.work, &mut scratch.rules.work);
        left.map(|left| Cow::Owned(left.to_vec()))
    }

    /// What the masks of `plan` leave of `text`; nothing when it cannot be parsed.
    fn masked<'a>(
        &self,
        plan: &Plan,
        text: &'a str,
        findings: &mut Findings,
        per_rule: &mut PerRule,
        memory: &'a mut body::Memory,
    ) -> Option<&'a [u8]> {
        per_rule.growth = REPLACED_GROWTH_BYTES_MAX;
        let looks = text.len().saturating_mul(plan.masks.len());
        per_rule.work.grant(looks, 1);
        let masked = body::mask(text, &self.rules, &plan.masks, per_rule, memory);
        findings.doubts += std::mem::take(&mut per_rule.doubts);
        match masked {
            Ok(true) => Some(&memory.out),
            Ok(false) => Some(text.as_bytes()),
            Err(Unreadable) => {
                findings.unreadable += 1;
                None
            }
        }
    }

    /// The verdict on a call, once [`Self::apply`] has seen all its details.
    pub fn verdict(&self, findings: &Findings, sampled_out: bool) -> Verdict {
        if findings.stopped
            || findings.found != self.stop_unless_found
            || findings.matched != self.stop_unless
        {
            Verdict::Stopped
        } else if sampled_out {
            Verdict::Sampled
        } else if findings.kept == 0 {
            Verdict::Emptied
        } else {
            Verdict::Kept
        }
    }

    /// Whether the sample rule, if there is one, drops this call. Stopped calls are sampled, too: the outcome for the
    /// others is the same, and a call that is sampled out early need not be written.
    pub fn samples_out(&self, sampler: &mut Sampler) -> bool {
        self.sample.is_some_and(|percent| sampler.draw() >= percent)
    }

    /// Whether session rule number `rule` copies the cookie `name` (lower-case). When the answer is not known it does not.
    pub fn copies_cookie(&self, rule: usize, name: &str, work: &mut NameWork) -> bool {
        self.session
            .get(rule)
            .is_some_and(|pattern: &Pattern| pattern.test_name(name, work) == Answer::Yes)
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

/// Applies `rules` to the details of one call: what is left of them, or nothing when the call is dropped.
///
/// The message writer applies a set detail by detail as it reads them; this is the same in one call.
///
/// ```
/// use engine_core::rules::{RuleSet, Sampler, apply_all};
///
/// let rules = RuleSet::parse(
///     "/request_header:cookie/ remove\n\
///      /request_body:$..card/ replace /[0-9]/, /*/\n\
///      /request_url/ stop_if /.*health.*/",
/// )?;
/// let call = |url: &str| {
///     [
///         ("request_url", url),
///         ("request_header:cookie", "sid=1"),
///         ("request_body", r#"{"card": 41, "id": 7}"#),
///     ]
///     .map(|(key, value)| (key.to_owned(), value.as_bytes().to_vec()))
/// };
/// let sampler = &mut Sampler::new(1);
///
/// let left = apply_all(&rules, &call("http://shop/orders"), sampler).expect("it is kept");
/// assert_eq!(left.len(), 2, "the cookie is removed");
/// assert_eq!(left[1].1, br#"{"card": "**", "id": 7}"#);
/// assert!(apply_all(&rules, &call("http://shop/health"), sampler).is_none(), "it is stopped");
/// # Ok::<(), engine_core::rules::Error>(())
/// ```
pub fn apply_all(
    rules: &RuleSet,
    details: &[(String, Vec<u8>)],
    sampler: &mut Sampler,
) -> Option<Vec<(String, Vec<u8>)>> {
    let (mut findings, mut scratch) = (Findings::default(), Scratch::default());
    let mut names = NameWork::default();
    let sampled_out = rules.samples_out(sampler);
    let mut left = Vec::new();
    for (key, value) in details {
        let plan = rules.plan_within(key, &mut names);
        if let Some(value) = rules.apply(&plan, value, &mut findings, &mut scratch) {
            left.push((key.clone(), value.to_vec()));
        }
    }
    (rules.verdict(&findings, sampled_out) == Verdict::Kept).then_some(left)
}
