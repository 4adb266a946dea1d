//! Bodies of one connection, handed on by reference, up to the end of their message.

use super::Connection;
use crate::flow::Direction;
use crate::http::detect::{self, Verdict};
use crate::http::h1::chunked::{Chunked, Piece};
use crate::http::h1::direction::{Input, Step};
use crate::http::h1::framing::Framing;
use crate::http::{BodyEnd, Exchanges, Http, Side};
use crate::time::Timestamp;

impl<D> Connection<D> {
    pub(super) fn begin_body<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        framing: Framing,
        now: Timestamp,
        shared: &mut Http<X>,
    ) {
        let half = self.half_mut(direction);
        match framing {
            Framing::Length(0) => self.end_message(direction, now, shared),
            Framing::Length(length) => half.step = Step::Length(length),
            Framing::Chunked => half.step = Step::Chunked(Chunked::new()),
            Framing::UntilClose => half.step = Step::UntilClose,
            Framing::Unknown => {
                half.damaged = true;
                self.end_message(direction, now, shared);
                self.half_mut(direction).step = Step::Hunt;
            }
        }
    }

    pub(super) fn body<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        input: &mut Input<'_>,
        shared: &mut Http<X>,
    ) {
        let half = self.half_mut(direction);
        let (data, over) = match &mut half.step {
            Step::Length(remaining) => {
                let data = input.take(usize::try_from(*remaining).unwrap_or(usize::MAX));
                *remaining -= data.len() as u64;
                (data, *remaining == 0)
            }
            Step::Chunked(chunked) => {
                let mut rest = input.bytes;
                let piece = chunked.next(&mut rest);
                input.set_rest(rest);
                match piece {
                    Piece::Data(data) => (data, false),
                    Piece::More => return,
                    Piece::End => (&[][..], true),
                    Piece::Broken => return self.broken(direction, input.time, shared),
                }
            }
            _ => (input.take(usize::MAX), false),
        };
        half.told = input.offset;
        if !data.is_empty() {
            match self.side(direction) {
                Some(Side::Response) => self.pairing.response_body(data, shared),
                _ => self.pairing.request_body(data, shared),
            }
        }
        if over {
            self.end_message(direction, input.time, shared);
        }
    }

    /// Collects the first bytes after an orphan's head until they are a status line or not: a HEAD's response has a
    /// length and no body.
    pub(super) fn orphan_body<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        input: &mut Input<'_>,
        shared: &mut Http<X>,
    ) {
        let half = self.half_mut(direction);
        if half.buffer.is_empty() {
            half.mark(input);
        }
        let missing = detect::STATUS_BYTES.saturating_sub(half.buffer.len());
        let piece = input.take(missing.min(input.bytes.len()));
        if !shared.buffers.append(&mut half.buffer, piece) {
            shared.counters.heads_shed += 1;
            return self.settle_orphan(direction, input.time, shared);
        }
        match detect::classify(&half.buffer) {
            Verdict::Response => self.orphan_without_body(direction, input.time, shared),
            Verdict::Partial
                if half.buffer.starts_with(b"H") && half.buffer.len() < detect::STATUS_BYTES => {}
            _ => self.settle_orphan(direction, input.time, shared),
        }
    }

    /// The orphan had no body: what was collected, if anything, begins the next head.
    pub(super) fn orphan_without_body<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        now: Timestamp,
        shared: &mut Http<X>,
    ) {
        let half = self.half_mut(direction);
        let told = half.told;
        if !half.buffer.is_empty() {
            half.told = half.offset;
        }
        self.end_message(direction, now, shared);
        let half = self.half_mut(direction);
        half.told = told;
        if !half.buffer.is_empty() {
            half.line_is_start();
        }
    }

    /// The orphan has a body, as far as anybody can tell; what was collected is its begin.
    pub(super) fn settle_orphan<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        now: Timestamp,
        shared: &mut Http<X>,
    ) {
        let half = self.half_mut(direction);
        let Step::Orphan(framing) = half.step else {
            return;
        };
        let mut buffer = std::mem::take(&mut half.buffer);
        let mut input = Input {
            bytes: &buffer,
            offset: half.offset,
            time: half.time,
            acked: half.acked,
        };
        self.begin_body(direction, framing, now, shared);
        while !input.bytes.is_empty() {
            self.read(direction, &mut input, shared);
        }
        shared.buffers.release(&mut buffer);
    }

    /// A client that takes turns sends a request: it has read the response before, so that had no body to wait for.
    pub(super) fn settle_turn<X: Exchanges<Draft = D>>(
        &mut self,
        server: Direction,
        now: Timestamp,
        shared: &mut Http<X>,
    ) {
        if self.pairing.pipelines() {
            return;
        }
        match self.half(server).step {
            Step::Orphan(_) => self.orphan_without_body(server, now, shared),
            Step::UntilClose => {
                // Neither length nor close: what there was is kept, and marked.
                self.half_mut(server).damaged = true;
                self.end_message(server, now, shared);
            }
            _ => {}
        }
    }

    pub(super) fn broken<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        now: Timestamp,
        shared: &mut Http<X>,
    ) {
        shared.counters.bodies_broken += 1;
        self.half_mut(direction).damaged = true;
        self.end_message(direction, now, shared);
        self.half_mut(direction).step = Step::Hunt;
    }

    pub(super) fn body_missing<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        missing: u64,
        shared: &mut Http<X>,
    ) {
        match self.side(direction) {
            Some(Side::Response) => self.pairing.response_missing(missing, shared),
            _ => self.pairing.request_missing(missing, shared),
        }
    }

    /// The current message is over; the next one starts here.
    pub(super) fn end_message<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        now: Timestamp,
        shared: &mut Http<X>,
    ) {
        let half = self.half_mut(direction);
        half.step = Step::Start;
        let end = if std::mem::take(&mut half.damaged) {
            BodyEnd::Cut
        } else {
            BodyEnd::Complete
        };
        shared.counters.bodies_cut += u64::from(end == BodyEnd::Cut);
        let told = half.told;
        match self.side(direction) {
            Some(Side::Response) => self.pairing.response_end(end, told, now, shared),
            _ => self.pairing.request_end(end, now, shared),
        }
    }

    /// The half is over: `whole` if it ended as it should, so that a body until the close is complete.
    pub(super) fn end_half<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        whole: bool,
        now: Timestamp,
        shared: &mut Http<X>,
    ) {
        if self.client == Some(direction) {
            self.read_simple_request(now, shared);
        }
        if whole {
            self.read_unfinished_head(direction, now, shared);
        }
        self.settle_orphan(direction, now, shared);
        let half = self.half_mut(direction);
        half.finished |= whole;
        match half.step {
            Step::UntilClose => {
                half.damaged |= !whole;
                self.end_message(direction, now, shared);
            }
            Step::Length(_) | Step::Chunked(_) => {
                half.damaged = true;
                self.end_message(direction, now, shared);
            }
            Step::Head | Step::Hunt => {
                self.head_cut(direction, shared);
                self.lose(direction, 0, shared);
            }
            Step::Start | Step::Hold | Step::Orphan(_) => {}
        }
    }
}
