//! Bodies whose length cannot be believed: what follows the head is held until a turn of the conversation shows how the peer
//! read it.
//!
//! Receivers differ in what they make of two lengths, of `xchunked` or of a blank before a colon, so there are several
//! candidates ([`Fields::candidates`](crate::http::h1::framing::Fields::candidates)). A request's turn is the client's next
//! bytes after the response, or the end: of the candidates, the one holds whose messages end where the held bytes end and are
//! as many as the responses, which are held as well from the second one on. A response's turn is the next request, or the
//! end. Where no candidate holds, all that is held is the body. Whatever holds, the messages are marked.
//!
//! At most [`limits::HELD_BYTES_MAX`] are held; with more, the first candidate holds that nothing has refuted.

use super::Connection;
use crate::flow::{Acked, Direction};
use crate::http::h1::direction::{Input, Step};
use crate::http::h1::framing::Framing;
use crate::http::h1::walk::{body_end, may_go_on, requests_behind, responses_in};
use crate::http::{Exchanges, Http};
use crate::limits;

impl<D> Connection<D> {
    /// Holds bytes behind a head whose length cannot be believed.
    #[cold]
    pub(super) fn hold_body<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        input: &mut Input<'_>,
        shared: &mut Http<X>,
    ) {
        if self.is_turn(direction, input) {
            return self.end_trial(direction, None, false, shared);
        }
        let reading = &mut self.readings[direction];
        let collected = &mut reading.collected;
        if collected.bytes.is_empty() {
            collected.begin(input);
        }
        let piece = input.take(limits::HELD_BYTES_MAX - collected.bytes.len());
        let is_kept = shared.buffers.append(&mut collected.bytes, piece);
        shared.counters.bytes_copied += piece.len() as u64;
        reading.position = input.offset;
        let bytes = &collected.bytes;
        let Step::Trial(candidates) = &reading.step else {
            return;
        };
        // Chunks up to the last one are no accident, and a client that does not pipeline cannot be waited for.
        let is_chunked = self.client == Some(direction.reverse())
            && candidates.first() == Some(&Framing::Chunked)
            && !self.pairing.waits()
            && body_end(bytes, Framing::Chunked).is_some();
        if is_chunked {
            self.end_trial(direction, Some(Framing::Chunked), false, shared);
        } else if !is_kept || bytes.len() >= limits::HELD_BYTES_MAX {
            self.end_trial(direction, None, true, shared);
        }
    }

    /// Whether the client has seen the response before it sent these bytes.
    fn is_turn(&self, direction: Direction, input: &Input<'_>) -> bool {
        if self.client != Some(direction) {
            return false;
        }
        let Some(answered) = self.pairing.early_answer() else {
            return false;
        };
        let server = &self.readings[direction.reverse()];
        input.acked == Acked::ABSENT || input.acked.at_least().min(server.position) >= answered
    }

    /// Whether what `server` sends next may answer a request that is held.
    #[inline]
    pub(super) fn may_answer_held(&self, server: Direction) -> bool {
        matches!(self.readings[server.reverse()].step, Step::Trial(_))
            && self.pairing.early_answer().is_some()
    }

    /// The response begins: the body of the request is over, if it can only have ended here.
    #[cold]
    pub(super) fn end_answered_trial<X: Exchanges<Draft = D>>(
        &mut self,
        client: Direction,
        shared: &mut Http<X>,
    ) {
        let reading = &self.readings[client];
        let Step::Trial(candidates) = &reading.step else {
            return;
        };
        let bytes = &reading.collected.bytes;
        let whole = candidates.iter();
        let mut whole = whole.filter_map(|framing| requests_behind(bytes, *framing));
        let is_certain =
            whole.next().is_some_and(|behind| behind.is_empty()) && whole.next().is_none();
        if !bytes.is_empty() && is_certain {
            self.end_trial(client, None, false, shared);
        }
    }

    /// Reads what was held under the candidate that is `known` to hold, or is found to; `goes_on`: more of the body may follow.
    #[cold]
    pub(super) fn end_trial<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        known: Option<Framing>,
        goes_on: bool,
        shared: &mut Http<X>,
    ) {
        let reading = &mut self.readings[direction];
        let Step::Trial(candidates) = &mut reading.step else {
            return;
        };
        let candidates = std::mem::take(candidates);
        let bytes = std::mem::take(&mut reading.collected.bytes);
        let time = reading.collected.time;
        let is_request = self.client == Some(direction);
        let holds = if is_request {
            self.answered_request(direction, &candidates, &bytes)
        } else {
            self.whole_response(&candidates, &bytes)
        };
        if is_request && holds.is_some() {
            // Responses have shown where each request ends.
            self.doubtful_until = 0;
        }
        let unanswered = self.pairing.early_answer().is_none();
        let framing = known
            .or(holds)
            .or_else(|| {
                self.whole_request(&candidates, &bytes)
                    .filter(|_| is_request)
            })
            .or_else(|| {
                let mut candidates = candidates.iter().copied().filter(|_| goes_on);
                candidates.find(|framing| may_go_on(&bytes, *framing))
            })
            .unwrap_or(if goes_on && unanswered {
                Framing::UntilClose
            } else {
                Framing::Length(bytes.len() as u64)
            });
        self.in_trial = true;
        self.begin_body(direction, framing, time, shared);
        self.read_again(direction, bytes, shared);
        self.in_trial = false;
        if is_request {
            self.read_held(direction.reverse(), Step::Start, shared);
        }
    }

    /// The candidate under which each held request has its response.
    fn answered_request(
        &self,
        client: Direction,
        candidates: &[Framing],
        bytes: &[u8],
    ) -> Option<Framing> {
        self.pairing.early_answer()?;
        let server = &self.readings[client.reverse()];
        let responses: &[u8] = match server.step {
            Step::Hold(0) => &server.collected.bytes,
            Step::Hold(_) => return None,
            _ => &[],
        };
        let mut candidates = candidates.iter().copied();
        candidates.find(|framing| {
            let behind = requests_behind(bytes, *framing);
            behind.is_some_and(|methods| responses_in(responses, &methods) == Some(methods.len()))
        })
    }

    /// The candidate under which the held bytes are one request, else whole requests.
    fn whole_request(&self, candidates: &[Framing], bytes: &[u8]) -> Option<Framing> {
        let behind = |framing: &Framing| requests_behind(bytes, *framing);
        let alone = |framing: &&Framing| behind(framing).is_some_and(|behind| behind.is_empty());
        let any = |framing: &&Framing| behind(framing).is_some();
        let found = candidates.iter().find(alone);
        found.or_else(|| candidates.iter().find(any)).copied()
    }

    /// The candidate under which the held bytes are whole responses, no more than are awaited.
    fn whole_response(&self, candidates: &[Framing], bytes: &[u8]) -> Option<Framing> {
        let waiting = self.pairing.waiting();
        let mut candidates = candidates.iter().copied();
        candidates.find(|framing| {
            let rest = body_end(bytes, *framing).and_then(|end| bytes.get(end..));
            *framing != Framing::UntilClose
                && rest.is_some_and(|rest| responses_in(rest, &waiting).is_some())
        })
    }
}
