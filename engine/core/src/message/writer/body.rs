//! Bytes of bodies in, the detail of a body written or withheld.
//!
//! Contract 1.6. Three ways ([`Mode`]): counted only, escaped as they come, or collected until the end. Bounded per body
//! by `body_bytes_max` and over all by three quarters of `open_bytes_max` (the rest is for heads, without which a call is
//! lost as a whole); past half of it the largest are given up when they grow, so that the others stay whole. A body with a piece missing is kept (M4), except where a rule has to see its value: half a card
//! number matches no mask, so such a body is withheld and counted, as the reference logger leaves it out too.

use super::super::draft::{Body, Draft, Mode};
use super::super::keys::{CLOSING, Kind};
use super::super::{Output, Shed, url};
use super::pen::{Pen, judge};
use super::{Work, Writer};
use crate::http::{BodyEnd, Side};
use crate::limits::{BODY_SHARE_BYTES_MIN, CODED_OVERHEAD_BYTES};
use crate::ndjson;
use crate::time::Timestamp;

fn kind_of(side: Side) -> Kind {
    match side {
        Side::Request => Kind::RequestBody,
        Side::Response => Kind::ResponseBody,
    }
}

impl Draft {
    fn body(&mut self, side: Side) -> &mut Body {
        match side {
            Side::Request => &mut self.request_body,
            Side::Response => &mut self.response_body,
        }
    }
}

impl<O: Output> Writer<O> {
    pub(super) fn add_to_body(
        &mut self,
        draft: &mut Result<Box<Draft>, Shed>,
        side: Side,
        bytes: &[u8],
    ) {
        self.counters.payload_bytes += bytes.len() as u64;
        let Ok(draft) = draft else { return };
        let (stopped, rules) = (draft.findings.is_stopped(), draft.rules);
        let body = draft.body(side);
        body.len += bytes.len() as u64;
        if body.mode == Mode::Counted || body.sealed || stopped || bytes.is_empty() {
            return;
        }
        if self.crowded(body.taken + bytes.len()) {
            body.give_up();
            self.counters.bodies_shed += 1;
            return self.account(draft);
        }
        let taken = self.bounded(body, bytes);
        if body.mode == Mode::Collected {
            self.counters.copied_bytes += taken.len() as u64;
            body.bytes.extend_from_slice(taken);
        } else {
            if body.bytes.is_empty()
                && let Some(ruled) = judge(&mut self.ruled, &mut self.retired, rules)
            {
                body.bytes
                    .extend_from_slice(ruled.key(kind_of(side), b"").opening());
            }
            ndjson::escape_part(&mut body.tail, taken, &mut body.bytes);
        }
        body.taken += taken.len();
        self.account(draft);
    }

    /// Whether memory is short and a body of `wanted` bytes takes more than its share.
    fn crowded(&self, wanted: usize) -> bool {
        let share = self.config.open_bytes_max / 4 / usize::try_from(self.open).unwrap_or(1).max(1);
        self.held > self.config.open_bytes_max / 2 && wanted > share.max(BODY_SHARE_BYTES_MIN)
    }

    /// So much of `bytes` as may be taken in; seals the body when that is not all.
    fn bounded<'b>(&mut self, body: &mut Body, bytes: &'b [u8]) -> &'b [u8] {
        let room = (self.config.open_bytes_max / 4 * 3).saturating_sub(self.held);
        let overhead = if body.codings.is_identity() {
            0
        } else {
            CODED_OVERHEAD_BYTES
        };
        let wanted = (body.bytes_max + overhead).saturating_sub(body.taken);
        let Some(taken) = bytes
            .get(..wanted.min(room))
            .filter(|taken| taken.len() < bytes.len())
        else {
            return bytes;
        };
        body.sealed = true;
        body.limited = true;
        body.shed = room < wanted || body.bytes_max < self.config.body_bytes_max;
        if room < wanted {
            body.holed = true;
            self.counters.bodies_shed += 1;
        } else {
            *self.cut_counter(body) += 1;
        }
        taken
    }

    /// Where a body that was cut at its limit is counted.
    fn cut_counter(&mut self, body: &Body) -> &mut u64 {
        if body.bytes_max < self.config.body_bytes_max {
            &mut self.counters.bodies_thinned
        } else {
            &mut self.counters.bodies_limited
        }
    }

    pub(super) fn add_missing(
        &mut self,
        draft: &mut Result<Box<Draft>, Shed>,
        side: Side,
        missing: u64,
    ) {
        let Ok(draft) = draft else { return };
        let body = draft.body(side);
        body.missing = body.missing.saturating_add(missing);
        body.len = body.len.saturating_add(missing);
        body.holed = true;
        // No decoder goes on behind a hole; text does.
        body.sealed |= !body.codings.is_identity();
        if body.mode == Mode::Streamed {
            ndjson::escape_end(&mut body.tail, &mut body.bytes);
        }
    }

    pub(super) fn end_message(
        &mut self,
        draft: &mut Result<Box<Draft>, Shed>,
        side: Side,
        end: BodyEnd,
        time: Timestamp,
    ) {
        let Ok(draft) = draft else { return };
        let times = match side {
            Side::Request => &mut draft.request_times,
            Side::Response => &mut draft.response_times,
        };
        if let Some(times) = times {
            times.last = time;
        }
        self.end_body(draft, side, end);
    }

    /// Completes the detail of a body, once.
    pub(super) fn end_body(&mut self, draft: &mut Draft, side: Side, end: BodyEnd) {
        let body = draft.body(side);
        if std::mem::replace(&mut body.over, true) {
            return;
        }
        let cut = end == BodyEnd::Cut;
        body.holed |= cut;
        draft.incomplete |= cut;
        let body = draft.body(side);
        match body.mode {
            _ if body.len == 0 => {}
            Mode::Streamed => {
                if body.taken > 0 {
                    ndjson::escape_end(&mut body.tail, &mut body.bytes);
                    body.bytes.extend_from_slice(CLOSING);
                    draft.findings.plain(false);
                } else {
                    // The opening may stand there, of a body that could not be taken in.
                    body.bytes.clear();
                }
            }
            Mode::Collected => self.end_collected(draft, side),
            Mode::Counted if body.codings.is_unknown() => self.counters.bodies_undecodable += 1,
            Mode::Counted => {
                // There is a body, and no rule wants to know what it says: one that drops the call for having a body
                // acts here.
                let Some(ruled) = judge(&mut self.ruled, &mut self.retired, draft.rules) else {
                    return;
                };
                let mut pen = Pen {
                    ruled,
                    findings: &mut draft.findings,
                    muted: true,
                };
                pen.write(kind_of(side), b"", b"any", &mut Vec::new());
            }
        }
        self.account(draft);
    }

    /// Undoes the codings of a body that was collected, and lets it through its rules.
    fn end_collected(&mut self, draft: &mut Draft, side: Side) {
        self.counters.bodies_collected += 1;
        // The detail is written into another buffer than the one it is read from; the two change places.
        let spare = std::mem::take(&mut self.work.spare);
        let mut content = std::mem::replace(&mut draft.body(side).bytes, spare);
        self.decode(draft.body(side), &mut content);
        if !content.is_empty() {
            self.write_collected(draft, side, &content);
        }
        content.clear();
        self.work.spare = content;
    }

    fn decode(&mut self, body: &mut Body, content: &mut Vec<u8>) {
        if body.codings.is_identity() || content.is_empty() {
            return;
        }
        let limit = body.bytes_max;
        let Some(decoded) =
            self.work
                .decoders
                .undo(&body.codings, content, !body.holed && !body.sealed, limit)
        else {
            content.clear();
            self.counters.bodies_undecodable += 1;
            return;
        };
        let cut = decoded.full_len > content.len() as u64 && !body.limited;
        *self.cut_counter(body) += u64::from(cut);
        body.limited |= cut;
        body.shed |= cut && limit < self.config.body_bytes_max;
        body.holed |= decoded.broken;
        body.len = decoded.full_len;
    }

    fn write_collected(&mut self, draft: &mut Draft, side: Side, content: &[u8]) {
        let Some(ruled) = judge(&mut self.ruled, &mut self.retired, draft.rules) else {
            return;
        };
        let Work { name, value, .. } = &mut self.work;
        let Draft {
            findings,
            sampled_out,
            request,
            request_body,
            response_body,
            ..
        } = draft;
        let body = match side {
            Side::Request => request_body,
            Side::Response => response_body,
        };
        let plan = &ruled.key(kind_of(side), b"").plan;
        let withheld = body.holed && plan.needs_value();
        let unreadable = body.limited && plan.looks_inside() && !withheld;
        self.counters.bodies_withheld += u64::from(withheld);
        self.counters.bodies_unreadable += u64::from(unreadable);
        let withheld = withheld || unreadable;
        // Stop rules look at what there is even so.
        let mut pen = Pen {
            ruled,
            findings,
            muted: *sampled_out || withheld,
        };
        let unreadable_before = pen.findings.unreadable;
        pen.write(kind_of(side), b"", content, &mut body.bytes);
        if withheld {
            // It is counted already.
            pen.findings.unreadable = unreadable_before;
        }
        if body.is_form && !body.holed {
            // What a mask hides in the body is no param either.
            let Some(content) = pen.unmasked(kind_of(side), content).filter(|_| !unreadable) else {
                return;
            };
            pen.muted = *sampled_out;
            url::pairs(&content, name, value, |name, value| {
                pen.write(Kind::RequestParam, name, value, request);
            });
        }
    }
}
