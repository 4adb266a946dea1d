//! A detail in, its rules asked, and what is left of it written into the buffer that it belongs to.

use std::borrow::Cow;

use super::super::content::Codings;
use super::super::draft::{Body, Mode};
use super::super::keys::{CLOSING, Key, Keys, Kind};
use crate::http::Header;
use crate::ndjson;
use crate::rules::{Findings, RuleSet, Scratch};

/// A rule set and what is remembered of it.
pub(super) struct Ruled {
    pub(super) id: u64,
    pub(super) rules: RuleSet,
    pub(super) keys: Keys,
    pub(super) scratch: Scratch,
    /// Open exchanges that it judges.
    pub(super) open: u64,
}

impl Ruled {
    pub(super) fn new(id: u64, rules: &RuleSet) -> Self {
        Self {
            id,
            rules: rules.clone(),
            keys: Keys::default(),
            scratch: Scratch::default(),
            open: 0,
        }
    }

    pub(super) fn key(&mut self, kind: Kind, name: &[u8]) -> &Key {
        self.keys.get(&self.rules, kind, name)
    }
}

/// The set that judges an exchange; none when it was retired too long ago.
pub(super) fn judge<'a>(
    current: &'a mut Ruled,
    retired: &'a mut [Ruled],
    id: u64,
) -> Option<&'a mut Ruled> {
    if current.id == id {
        Some(current)
    } else {
        retired.iter_mut().find(|ruled| ruled.id == id)
    }
}

/// Lets details through the rules and writes what is left.
pub(super) struct Pen<'a> {
    pub(super) ruled: &'a mut Ruled,
    pub(super) findings: &'a mut Findings,
    /// The call is drawn out: it is only judged.
    pub(super) muted: bool,
}

impl Pen<'_> {
    /// Whether nothing that comes can change what becomes of the call.
    pub(super) fn is_done(&self) -> bool {
        self.findings.is_stopped() || (self.muted && !self.ruled.rules.stops())
    }

    pub(super) fn write(&mut self, kind: Kind, name: &[u8], value: &[u8], out: &mut Vec<u8>) {
        if self.is_done() {
            return;
        }
        let Ruled {
            rules,
            keys,
            scratch,
            ..
        } = &mut *self.ruled;
        let key = keys.get(rules, kind, name);
        if key.is_plain {
            self.findings.plain(value.is_empty());
            if !value.is_empty() && !self.muted {
                key.write(value, out);
            }
            return;
        }
        let left = rules.apply(&key.plan, value, self.findings, scratch);
        if let Some(left) = left.filter(|left| !left.is_empty() && !self.muted) {
            ndjson::enclose(key.opening(), left, CLOSING, out);
        }
    }

    /// What the masks that look into a body leave of it; nothing when they cannot read it.
    pub(super) fn unmasked<'v>(&mut self, kind: Kind, body: &'v [u8]) -> Option<Cow<'v, [u8]>> {
        let Ruled { rules, keys, .. } = &mut *self.ruled;
        rules.masks(&keys.get(rules, kind, b"").plan, body)
    }

    /// Decides what is done with the bytes of a body, and forgets what an earlier one left. Of the two limits the second
    /// holds where it evades no rule: a cut body could pass a rule that would have stopped it.
    pub(super) fn begin_body(
        &mut self,
        kind: Kind,
        body: &mut Body,
        headers: &[Header<'_>],
        is_form: bool,
        (whole_bytes_max, thin_bytes_max): (usize, usize),
    ) {
        body.codings = Codings::read(headers);
        body.is_form = is_form;
        let (done, muted) = (self.is_done(), self.muted);
        let plan = &self.ruled.key(kind, b"").plan;
        body.bytes_max = if is_form || plan.needs_value() {
            whole_bytes_max
        } else {
            thin_bytes_max
        };
        let unseen = (plan.hides_all() || muted) && !plan.needs_value() && !is_form;
        body.mode = if done || unseen || body.codings.is_unknown() {
            Mode::Counted
        } else if is_form || plan.needs_value() || !body.codings.is_identity() {
            Mode::Collected
        } else {
            Mode::Streamed
        };
    }
}
