//! Bodies that are decoded as they come, and the ends of bodies behind their limit.

use super::super::Output;
use super::super::content::Stop;
use super::super::draft::{Body, Draft, Mode};
use super::super::keys::CLOSING;
use super::LineWriter;
use crate::http::Side;
use crate::ndjson::Tail;
use crate::time::Timestamp;

/// Bytes of the body are missing: no decoder goes on behind them.
#[cold]
pub(super) fn miss_extra(body: &mut Body, missing: u64) {
    let is_sealed = body.state.sealed;
    let Some(extra) = &mut body.extra else { return };
    if let Some(decoder) = &mut extra.decoder {
        decoder.stop(Stop::Broken);
    }
    if let Some(tail) = extra.tail.as_mut().filter(|_| is_sealed) {
        tail.missing(missing);
    }
}

impl<O: Output> LineWriter<O> {
    /// Undoes the codings of the next bytes, if that is done as they come; whether it is.
    #[cold]
    pub(super) fn add_decoded(
        &mut self,
        draft: &mut Draft,
        side: Side,
        bytes: &[u8],
        time: Timestamp,
    ) -> bool {
        let extra = draft.body(side).extra.as_mut();
        let Some(mut decoder) = extra.and_then(|extra| extra.decoder.take()) else {
            return false;
        };
        let mut space = std::mem::take(&mut self.work.space);
        let result = decoder.feed(bytes, &mut space, |piece| {
            self.counters.copied_bytes += piece.len() as u64;
            self.add_plain(draft, side, piece, time);
        });
        self.work.space = space;
        if let Some(extra) = &mut draft.body(side).extra {
            extra.decoder = Some(decoder);
        }
        self.account(draft);
        let is_short = self.held > self.config.open_bytes_max / 4 * 3;
        match result {
            Err(stop) => self.stop_decoding(draft, side, stop),
            Ok(()) if is_short => self.stop_decoding(draft, side, Stop::Memory),
            Ok(()) => {}
        }
        true
    }

    /// Nothing more of a body is decoded.
    #[cold]
    fn stop_decoding(&mut self, draft: &mut Draft, side: Side, stop: Stop) {
        let body = draft.body(side);
        let Some(decoder) = body.decoder() else {
            return;
        };
        if stop == Stop::Memory && (decoder.is_stopped() || decoder.is_complete()) {
            return;
        }
        decoder.stop(stop);
        match stop {
            Stop::Broken => {}
            Stop::Expanded => {
                self.counters.bodies_expanded += 1;
                (body.state.sealed, body.state.truncated) = (true, true);
                body.drop_tail();
            }
            Stop::Memory => {
                self.counters.bodies_shed += 1;
                (body.state.sealed, body.state.truncated) = (true, true);
                (body.state.has_gap, body.state.shed) = (true, true);
                body.drop_tail();
            }
        }
        self.account(draft);
    }

    /// No further byte of a body comes: what its codings have not come to the end of is missing.
    #[cold]
    pub(super) fn end_decoding(&mut self, draft: &mut Draft, side: Side) {
        let body = draft.body(side);
        let Some(extra) = &mut body.extra else { return };
        let Some(decoder) = extra.decoder.take() else {
            return;
        };
        body.state.has_gap |= decoder.is_cut();
        if decoder.has_failed() {
            // It is as one of which the coding is not known.
            body.state.len = body.state.len.max(1);
            body.state.codings = body.state.codings.undecodable();
            body.state.mode = Mode::Counted;
            body.bytes.clear();
        }
    }

    /// Keeps bytes behind the limit of a body.
    #[cold]
    pub(super) fn add_to_tail(&mut self, draft: &mut Draft, side: Side, bytes: &[u8]) {
        let is_short = self.held > self.config.open_bytes_max / 4 * 3;
        let body = draft.body(side);
        if is_short && body.tail().is_some() {
            body.drop_tail();
            (body.state.truncated, body.state.shed) = (true, true);
            self.counters.bodies_shed += 1;
        }
        if let Some(tail) = body.tail() {
            tail.push(bytes);
        }
        self.account(draft);
    }

    /// Appends the end of a body to its beginning.
    #[cold]
    pub(super) fn write_tail(&mut self, body: &mut Body) {
        let Some(mut tail) = body.extra.as_mut().and_then(|extra| extra.tail.take()) else {
            return;
        };
        if tail.is_empty() {
            return;
        }
        tail.write(&mut body.state.tail, &mut body.bytes);
        let left_out = tail.left_out;
        body.state.left_out = left_out;
        body.state.truncated = left_out > 0;
        if left_out > 0 {
            self.counters.bodies_with_tail += 1;
            self.counters.tail_left_out_bytes += left_out;
            self.count_truncation(body);
        }
    }

    /// The same for a body that was collected, with `rest` of what was collected not in the text.
    #[cold]
    pub(super) fn write_tail_behind(&mut self, body: &mut Body, rest: usize) {
        let Some(tail) = body.tail().filter(|tail| !tail.is_empty()) else {
            return;
        };
        tail.leave_out_before(rest);
        if body.bytes.ends_with(CLOSING) {
            body.bytes.truncate(body.bytes.len() - CLOSING.len());
            body.state.tail = Tail::default();
            self.write_tail(body);
            body.bytes.extend_from_slice(CLOSING);
        }
    }

    /// Joins the end of a body that was collected to its beginning where nothing is left out.
    #[cold]
    pub(super) fn join_tail(&mut self, body: &mut Body, content: &mut Vec<u8>) {
        let Some(end) = body.tail().and_then(|tail| tail.whole()) else {
            return;
        };
        content.extend_from_slice(end);
        body.state.bytes_max += content.len().saturating_sub(body.state.bytes_max);
        body.state.truncated = false;
        body.drop_tail();
    }
}
