//! Bodies: their detail is written, or withheld.
//!
//! Source: `docs/contract.md`, section 1.6. A body is treated in one of three ways ([`Mode`]): only counted, escaped as it
//! is received, or collected until its end. Its text in the line is bounded by [`BodyState::text_bytes_max`], which is checked
//! while it is written. Memory is bounded for each body by `body_bytes_max` and for all by three
//! quarters of `open_bytes_max` (the rest is for heads, without which the whole call is lost); above half of it, the
//! largest bodies are given up when they grow, so that the others stay whole. A body with a piece missing is kept (M4),
//! except where a rule needs its value: a part of a card number matches no mask, so such a body is withheld and counted;
//! the reference logger leaves it out, too. Of a body that is cut at the limit what may be a part of a match is cut off.
//! What a rule would drop a call for counts as found where it may be in what was not read.

use super::super::draft::{Body, BodyState, Draft, Mode};
use super::super::facts::Details;
use super::super::keys::{CLOSING, Kind};
use super::super::rpc::System;
use super::super::text::is_text;
use super::super::{Config, Counters, Output, Unwritten, derive, url};
use super::coded::miss_extra;
use super::filter::{RuleFilter, set_of};
use super::{LineWriter, Work};
use crate::http::{BodyEnd, Side};
use crate::limits::{BODY_SHARE_BYTES_MIN, CODED_OVERHEAD_BYTES};
use crate::ndjson;
use crate::rules::{Charset, Extent, has_wide_text};
use crate::time::Timestamp;
use crate::uploads::End;

pub(super) fn kind_of(side: Side) -> Kind {
    match side {
        Side::Request => Kind::RequestBody,
        Side::Response => Kind::ResponseBody,
    }
}

impl Draft {
    pub(super) fn body(&mut self, side: Side) -> &mut Body {
        match side {
            Side::Request => &mut self.request_body,
            Side::Response => &mut self.response_body,
        }
    }
}

/// The counter of a body that is truncated at its limit.
fn truncation_counter<'a>(config: &Config, counters: &'a mut Counters, body: &Body) -> &'a mut u64 {
    if body.state.bytes_max < config.body_bytes_max {
        &mut counters.bodies_truncated
    } else {
        &mut counters.bodies_limited
    }
}

/// No more of a body's text fits into its line.
#[cold]
fn cut_text(config: &Config, counters: &mut Counters, body: &mut Body) {
    if body.tail().is_some() {
        // It is truncated if something is left out before its end.
    } else if !body.state.truncated {
        *truncation_counter(config, counters, body) += 1;
        body.state.shed |= body.state.bytes_max < config.body_bytes_max;
    }
    (body.state.sealed, body.state.truncated) = (true, true);
}

/// Passes the bytes of a body to its observer.
#[cold]
fn observe(body: &mut Body, bytes: &[u8], time: Timestamp) {
    // What a coding hides is found once it is undone.
    if !body.state.codings.is_identity() || body.state.may_be_coded {
        return;
    }
    let Some(observer) = &mut body.observer else {
        return;
    };
    let mut rest = bytes;
    while observer.next(time, &mut rest).is_some() {}
}

impl<O: Output> LineWriter<O> {
    #[inline(never)]
    pub(super) fn add_to_body(
        &mut self,
        draft: &mut Result<Box<Draft>, Unwritten>,
        side: Side,
        bytes: &[u8],
        time: Timestamp,
    ) {
        let Ok(open) = draft else { return };
        if open.upload.is_some() && side == Side::Request {
            self.add_to_upload(draft, bytes);
        }
        let Ok(draft) = draft else { return };
        if draft.body(side).extra.is_some() && self.add_decoded(draft, side, bytes, time) {
            return;
        }
        self.add_plain(draft, side, bytes, time);
    }

    /// Adds bytes of a body without codings, or with those that are undone at its end.
    #[inline]
    pub(super) fn add_plain(
        &mut self,
        draft: &mut Draft,
        side: Side,
        bytes: &[u8],
        time: Timestamp,
    ) {
        if draft.body(side).observer.is_some() {
            self.write_due_part(draft, time);
            if draft.body(side).takes_messages() {
                return self.add_rpc_messages(draft, side, bytes, time);
            }
            if draft.parts.is_some() && draft.body(side).state.codings.is_identity() {
                return self.add_pieces(draft, side, bytes, time);
            }
            observe(draft.body(side), bytes, time);
        }
        self.add_text(draft, side, bytes);
    }

    /// Adds bytes to the text of a body.
    pub(super) fn add_text(&mut self, draft: &mut Draft, side: Side, bytes: &[u8]) {
        let (stopped, rules) = (draft.state.findings.is_stopped(), draft.state.rule_set);
        let body = draft.body(side);
        body.state.len += bytes.len() as u64;
        if body.state.mode == Mode::Counted || body.state.sealed || stopped || bytes.is_empty() {
            if body.state.sealed && !stopped && body.extra.is_some() {
                self.add_to_tail(draft, side, bytes);
            }
            return;
        }
        if self.exceeds_share(body.state.taken + bytes.len()) {
            body.give_up();
            self.counters.bodies_shed += 1;
            return self.account(draft);
        }
        let taken = self.admit(body, bytes);
        let mut used = taken.len();
        let capacity = body.bytes.capacity();
        if body.state.mode == Mode::Collected {
            self.counters.copied_bytes += taken.len() as u64;
            body.bytes.extend_from_slice(taken);
        } else {
            if body.bytes.is_empty()
                && let Some(set) = set_of(&mut self.set, &mut self.retired, rules)
            {
                body.bytes
                    .extend_from_slice(set.key(kind_of(side), b"").opening());
            }
            let room = (body.state.text_bytes_max()).saturating_sub(body.bytes.len());
            used = ndjson::escape_within(&mut body.state.tail, taken, room, &mut body.bytes);
            if used < taken.len() {
                cut_text(&self.config, &mut self.counters, body);
            }
        }
        body.state.taken += taken.len();
        if body.state.sealed && body.extra.is_some() {
            let rest = bytes.get(used..).unwrap_or_default();
            return self.add_to_tail(draft, side, rest);
        }
        if body.bytes.capacity() != capacity {
            self.account(draft);
        }
    }

    /// Counts a body that is truncated.
    pub(super) fn count_truncation(&mut self, body: &mut Body) {
        *truncation_counter(&self.config, &mut self.counters, body) += 1;
        body.state.shed |= body.state.bytes_max < self.config.body_bytes_max;
    }

    /// Whether memory is short and a body of `wanted` bytes takes more than its share.
    pub(super) fn exceeds_share(&self, wanted: usize) -> bool {
        let share = self.config.open_bytes_max / 4 / usize::try_from(self.open).unwrap_or(1).max(1);
        self.held > self.config.open_bytes_max / 2 && wanted > share.max(BODY_SHARE_BYTES_MIN)
    }

    /// The part of `bytes` that the bounds admit; seals the body when that is not all.
    fn admit<'b>(&mut self, body: &mut Body, bytes: &'b [u8]) -> &'b [u8] {
        let room = (self.config.open_bytes_max / 4 * 3).saturating_sub(self.held);
        let overhead = if body.state.codings.is_identity() {
            0
        } else {
            CODED_OVERHEAD_BYTES
        };
        let wanted =
            (body.state.bytes_seen_max().saturating_add(overhead)).saturating_sub(body.state.taken);
        let Some(taken) = bytes
            .get(..wanted.min(room))
            .filter(|taken| taken.len() < bytes.len())
        else {
            return bytes;
        };
        body.state.sealed = true;
        body.state.truncated = true;
        body.state.shed = room < wanted || body.state.bytes_max < self.config.body_bytes_max;
        if room < wanted {
            body.state.has_gap = true;
            self.counters.bodies_shed += 1;
            body.drop_tail();
        } else if body.tail().is_none() {
            *truncation_counter(&self.config, &mut self.counters, body) += 1;
        }
        taken
    }

    pub(super) fn add_missing(
        &mut self,
        draft: &mut Result<Box<Draft>, Unwritten>,
        side: Side,
        missing: u64,
    ) {
        self.end_upload(draft, side, End::Cut);
        let Ok(draft) = draft else { return };
        let body = draft.body(side);
        if let Some(observer) = &mut body.observer {
            observer.missing(missing);
        }
        body.state.missing = body.state.missing.saturating_add(missing);
        body.state.len = body.state.len.saturating_add(missing);
        body.state.has_gap = true;
        if body.extra.is_some() {
            miss_extra(body, missing);
        }
        // No decoder continues after a gap; text does.
        body.state.sealed |= !body.state.codings.is_identity();
        if body.state.mode == Mode::Streamed {
            ndjson::escape_end(&mut body.state.tail, &mut body.bytes);
        }
    }

    pub(super) fn end_message(
        &mut self,
        draft: &mut Result<Box<Draft>, Unwritten>,
        side: Side,
        end: BodyEnd,
        time: Timestamp,
    ) {
        let of_upload = match end {
            BodyEnd::Complete | BodyEnd::Doubtful => End::Complete,
            BodyEnd::Cut => End::Cut,
        };
        self.end_upload(draft, side, of_upload);
        let Ok(draft) = draft else { return };
        let times = match side {
            Side::Request => &mut draft.state.request_times,
            Side::Response => &mut draft.state.response_times,
        };
        if let Some(times) = times {
            times.last = time;
        }
        if let Some(observer) = &mut draft.body(side).observer {
            observer.end(end, time);
        }
        if side == Side::Request && draft.may_be_shown_by_response() {
            draft.request_body.state.waits = Some(end);
            return;
        }
        self.end_body(draft, side, end);
    }

    /// Completes the detail of a body, once.
    pub(super) fn end_body(&mut self, draft: &mut Draft, side: Side, end: BodyEnd) {
        let body = draft.body(side);
        if body.state.over {
            return;
        }
        if draft.conversation.is_some() {
            self.end_messages(draft, side);
            self.account(draft);
        }
        if draft.body(side).takes_messages() {
            self.end_rpc_messages(draft, side);
        }
        if draft.body(side).extra.is_some() {
            self.end_decoding(draft, side);
        }
        let body = draft.body(side);
        let end = body.state.waits.take().unwrap_or(end);
        body.state.over = true;
        let cut = end != BodyEnd::Complete;
        body.state.has_gap |= cut;
        draft.state.incomplete |= cut;
        draft.state.doubtful |= end == BodyEnd::Doubtful;
        let body = draft.body(side);
        match body.state.mode {
            _ if body.state.len == 0 => return,
            Mode::Streamed => {
                let capacity = body.bytes.capacity();
                if body.state.taken > 0 {
                    if body.extra.is_some() {
                        self.write_tail(draft.body(side));
                    }
                    let body = draft.body(side);
                    ndjson::escape_end(&mut body.state.tail, &mut body.bytes);
                    body.bytes.extend_from_slice(CLOSING);
                    draft.state.findings.plain(false);
                } else {
                    // The opening may be there, of a body of which nothing was admitted.
                    body.bytes.clear();
                }
                if draft.body(side).bytes.capacity() == capacity {
                    return;
                }
            }
            Mode::Collected => self.end_collected(draft, side),
            Mode::Counted if body.state.codings.is_unknown() => {
                self.counters.bodies_undecodable += 1;
                self.miss_body(draft, side);
            }
            Mode::Counted => {
                // There is a body, and no rule needs its value: one that drops the call because it has a body applies
                // here.
                let Some(set) = set_of(&mut self.set, &mut self.retired, draft.state.rule_set)
                else {
                    return;
                };
                let mut filter = RuleFilter {
                    set,
                    findings: &mut draft.state.findings,
                    only_tests: true,
                };
                filter.write(kind_of(side), b"", b"any", &mut Vec::new());
                return;
            }
        }
        self.account(draft);
    }

    /// Applies the rules to a body that could not be read: what it may have drops the call.
    #[cold]
    fn miss_body(&mut self, draft: &mut Draft, side: Side) {
        let Some(set) = set_of(&mut self.set, &mut self.retired, draft.state.rule_set) else {
            return;
        };
        let is_form = draft.body(side).state.is_form;
        let mut filter = RuleFilter {
            set,
            findings: &mut draft.state.findings,
            only_tests: true,
        };
        filter.write_body(
            kind_of(side),
            (b"", true),
            Extent::Torn,
            (0, 0),
            &mut Vec::new(),
        );
        if is_form {
            filter.miss_params();
        }
    }

    /// Decodes a body that was collected, and applies its rules.
    fn end_collected(&mut self, draft: &mut Draft, side: Side) {
        self.counters.bodies_collected += 1;
        // The detail is written into another buffer than the one it is read from; the two change places.
        let spare = std::mem::take(&mut self.work.spare);
        let mut content = std::mem::replace(&mut draft.body(side).bytes, spare);
        let body = draft.body(side);
        self.decode(body, &mut content);
        if body.state.may_be_coded && !is_text(&content, true) {
            // A coding that is not known: nothing of it leaves.
            content.clear();
            self.counters.bodies_undecodable += 1;
        }
        if body.messages.is_some() {
            self.read_collected_messages(draft, side, &mut content);
        }
        let body = draft.body(side);
        if body.extra.is_some() {
            self.join_tail(body, &mut content);
        }
        // Only the beginning is there where the bounds cut more than what may leave.
        let is_start = body.state.truncated;
        if content.len() > body.state.bytes_max && !is_start {
            *truncation_counter(&self.config, &mut self.counters, body) += 1;
            body.state.truncated = true;
            body.state.shed |= body.state.bytes_max < self.config.body_bytes_max;
        }
        if content.is_empty() {
            let is_without_messages = body.messages.is_some() && body.state.len == 0;
            if !is_without_messages {
                self.miss_body(draft, side);
            }
        } else {
            self.write_collected(draft, side, &content, is_start);
        }
        content.clear();
        self.work.spare = content;
    }

    fn decode(&mut self, body: &mut Body, content: &mut Vec<u8>) {
        if body.state.codings.is_identity() || content.is_empty() {
            return;
        }
        let limit = body.state.bytes_seen_max();
        let Some(decoded) = self.work.decoders.undo(
            &body.state.codings,
            content,
            !body.state.has_gap && !body.state.sealed,
            limit,
        ) else {
            content.clear();
            self.counters.bodies_undecodable += 1;
            return;
        };
        if decoded.expanded {
            self.counters.bodies_expanded += 1;
        } else if decoded.limited && !body.state.truncated {
            *truncation_counter(&self.config, &mut self.counters, body) += 1;
            body.state.shed |= body.state.bytes_max < self.config.body_bytes_max;
        }
        body.state.truncated |= decoded.limited || decoded.expanded;
        body.state.has_gap |= decoded.broken;
        body.state.len = decoded.full_len;
        if let Some(observer) = body.observer.as_mut().filter(|_| body.messages.is_none()) {
            observer.read_decoded(content);
        }
    }

    /// Applies its rules to a body; `is_start` when there is more of it.
    fn write_collected(&mut self, draft: &mut Draft, side: Side, content: &[u8], is_start: bool) {
        if side == Side::Response && draft.state.rpc == Some(System::Connect) {
            derive::connect_error(draft, content);
        }
        if draft.state.may_have_operation || draft.state.operation.is_some() {
            let has_errors = derive::of_body(draft, side, content);
            let is_first = has_errors && !draft.state.has_errors;
            self.counters.calls_application_errors += u64::from(is_first);
            draft.state.has_errors |= has_errors;
        }
        let Some(set) = set_of(&mut self.set, &mut self.retired, draft.state.rule_set) else {
            return;
        };
        let Work { name, value, .. } = &mut self.work;
        let Draft {
            state,
            request,
            request_body,
            response_body,
            ..
        } = draft;
        let body = match side {
            Side::Request => request_body,
            Side::Response => response_body,
        };
        let BodyState {
            charset,
            bytes_max,
            has_gap,
            truncated,
            ..
        } = body.state;
        let plan = &set.key(kind_of(side), b"").plan;
        let (needs_value, looks_inside) = (plan.needs_value(), plan.looks_inside());
        let is_foreign = (needs_value || body.state.is_form)
            && (charset == Charset::Foreign || has_wide_text(content));
        let withheld = has_gap && needs_value;
        let unreadable = !withheld
            && ((is_foreign && needs_value)
                || (looks_inside && (truncated || charset != Charset::Ascii)));
        self.counters.bodies_withheld += u64::from(withheld);
        self.counters.bodies_unreadable += u64::from(unreadable);
        let withheld = withheld || unreadable;
        let extent = if has_gap || is_foreign {
            Extent::Torn
        } else if is_start {
            Extent::Start
        } else {
            Extent::Whole
        };
        let mut filter = RuleFilter {
            set,
            findings: &mut state.findings,
            only_tests: state.sampled_out || withheld,
        };
        let unreadable_before = filter.findings.unreadable;
        let most = if truncated { bytes_max } else { usize::MAX };
        let bounds = (most, body.state.text_bytes_max());
        let detail = (
            content,
            body.messages
                .as_ref()
                .is_some_and(|messages| messages.are_text()),
        );
        let written = filter.write_body(kind_of(side), detail, extent, bounds, &mut body.bytes);
        if written.is_changed || withheld {
            state.changed = state.changed.and(Details::body(side));
        }
        if written.is_cut {
            cut_text(&self.config, &mut self.counters, body);
        }
        if withheld {
            // It is counted already.
            filter.findings.unreadable = unreadable_before;
        }
        if !body.state.is_form {
            if body.extra.is_some() && written.bytes > 0 {
                let rest = content.len().saturating_sub(written.bytes);
                self.write_tail_behind(draft.body(side), rest);
            }
            return;
        }
        if has_gap || is_foreign || truncated {
            filter.miss_params();
        }
        if has_gap || is_foreign || unreadable {
            return;
        }
        // What a mask hides in the body must not become a param, either.
        let Some(content) = filter.unmasked(kind_of(side), content) else {
            return;
        };
        // The limit may have divided the last field.
        let fields = if truncated {
            let start = content.get(..bytes_max.min(content.len()));
            let start = start.unwrap_or_default();
            let end = memchr::memrchr(b'&', start).unwrap_or_default();
            start.get(..end).unwrap_or_default()
        } else {
            &content
        };
        filter.only_tests = state.sampled_out;
        let mut left_out = 0;
        url::pairs(fields, name, value, |name, value, parts| {
            left_out += u32::from(!filter.write_param(name, value, parts, request));
        });
        state.fields_left_out += left_out;
        self.counters.fields_limited += u64::from(left_out);
    }
}
