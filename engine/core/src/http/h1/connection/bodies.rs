//! Bodies of one connection, passed on by reference, up to the end of their message.

use memchr::memchr;

use super::Connection;
use crate::flow::Direction;
use crate::http::detect::{self, Detected};
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
        let reading = &mut self.readings[direction];
        match framing {
            Framing::Length(0) => self.end_message(direction, now, shared),
            Framing::Length(length) => reading.step = Step::Length(length),
            Framing::Chunked => reading.step = Step::Chunked(Chunked::new()),
            Framing::UntilClose => reading.step = Step::UntilClose,
            Framing::Unknown if !self.pairing.is_pipelined() => {
                // Up to the next turn, so that no byte is lost.
                (reading.damaged, reading.doubtful) = (true, true);
                reading.step = Step::UntilClose;
            }
            Framing::Unknown => {
                reading.damaged = true;
                self.end_message(direction, now, shared);
                self.readings[direction].step = Step::Resync;
            }
        }
    }

    pub(super) fn body<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        input: &mut Input<'_>,
        shared: &mut Http<X>,
    ) {
        let reading = &mut self.readings[direction];
        let (data, is_over) = match &mut reading.step {
            Step::Length(remaining) => {
                let data = input.take(usize::try_from(*remaining).unwrap_or(usize::MAX));
                *remaining -= data.len() as u64;
                (data, *remaining == 0)
            }
            Step::Chunked(chunked) => {
                let mut rest = input.bytes;
                let piece = chunked.next(&mut rest);
                if chunked.is_at_first_size() {
                    reading.step = Step::FirstSize;
                    return;
                }
                let is_odd = chunked.is_odd();
                input.set_rest(rest);
                match piece {
                    Piece::Data(data) => (data, false),
                    Piece::More => return,
                    Piece::End if is_odd => {
                        self.doubt(direction, shared);
                        (&[][..], true)
                    }
                    Piece::End => (&[][..], true),
                    Piece::Broken => return self.broken(direction, input.time, shared),
                }
            }
            _ => (input.take(usize::MAX), false),
        };
        self.readings[direction].position = input.offset;
        if !data.is_empty() {
            match self.side(direction) {
                Some(Side::Response) => self.pairing.response_body(data, input.time, shared),
                _ => self.pairing.request_body(data, input.time, shared),
            }
        }
        if is_over {
            self.end_message(direction, input.time, shared);
        }
    }

    /// The length of the current message cannot be believed.
    #[cold]
    fn doubt<X: Exchanges<Draft = D>>(&mut self, direction: Direction, shared: &mut Http<X>) {
        shared.counters.framing_conflicts += 1;
        let server = self.readings[direction.reverse()].position;
        let reading = &mut self.readings[direction];
        (reading.damaged, reading.doubtful) = (true, true);
        if self.client == Some(direction) {
            self.doubtful_until = self.doubtful_until.max(server + 1);
        }
    }

    /// Collects the size of the first chunk where it does not lie in one piece, or is none: then its bytes are a body
    /// without chunks.
    #[cold]
    pub(super) fn collect_first_size<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        input: &mut Input<'_>,
        shared: &mut Http<X>,
    ) {
        let reading = &mut self.readings[direction];
        let collected = &mut reading.collected;
        if collected.bytes.is_empty() {
            collected.begin(input);
        }
        let end = memchr(b'\n', input.bytes).map_or(usize::MAX, |end| end + 1);
        let piece = input.take(end);
        let is_kept = shared.buffers.append(&mut collected.bytes, piece);
        shared.counters.bytes_copied += piece.len() as u64;
        reading.position = input.offset;
        let (mut chunked, mut rest) = (Chunked::new(), &collected.bytes[..]);
        let is_broken = chunked.next(&mut rest) == Piece::Broken || !is_kept;
        if is_broken || !chunked.is_at_first_size() {
            self.read_first_size(direction, is_broken, shared);
        }
    }

    fn read_first_size<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        is_broken: bool,
        shared: &mut Http<X>,
    ) {
        let reading = &mut self.readings[direction];
        let bytes = std::mem::take(&mut reading.collected.bytes);
        let time = reading.collected.time;
        if is_broken {
            shared.counters.bodies_broken += 1;
            self.doubt(direction, shared);
            self.begin_body(direction, Framing::Unknown, time, shared);
        } else {
            self.readings[direction].step = Step::Chunked(Chunked::new());
        }
        self.read_again(direction, bytes, shared);
    }

    /// The chunked coding of a body broke.
    fn broken<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        now: Timestamp,
        shared: &mut Http<X>,
    ) {
        shared.counters.bodies_broken += 1;
        self.readings[direction].damaged = true;
        self.end_message(direction, now, shared);
        self.readings[direction].step = Step::Resync;
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
        let reading = &mut self.readings[direction];
        reading.step = Step::Start;
        let end = if !std::mem::take(&mut reading.damaged) {
            BodyEnd::Complete
        } else if std::mem::take(&mut reading.doubtful) {
            BodyEnd::Doubtful
        } else {
            BodyEnd::Cut
        };
        shared.counters.bodies_cut += u64::from(end != BodyEnd::Complete);
        let position = reading.position;
        match self.side(direction) {
            Some(Side::Response) => self.pairing.response_end(end, position, now, shared),
            _ => self.pairing.request_end(end, now, shared),
        }
    }

    /// The direction is over: `whole` if it ended as it should, so that a body until the close is complete.
    pub(super) fn end_direction<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        whole: bool,
        now: Timestamp,
        shared: &mut Http<X>,
    ) {
        if self.client == Some(direction) {
            self.read_simple_request(now, shared);
        } else {
            self.end_await_of_switch(direction, shared);
        }
        if whole {
            self.read_unfinished_head(direction, now, shared);
        }
        self.read_orphan_body(direction, now, shared);
        let reading = &mut self.readings[direction];
        reading.finished |= whole;
        match reading.step {
            Step::UntilClose => {
                reading.damaged |= !whole;
                self.end_message(direction, now, shared);
            }
            Step::Length(_) | Step::Chunked(_) | Step::FirstSize => {
                shared.buffers.release(&mut reading.collected.bytes);
                reading.damaged = true;
                self.end_message(direction, now, shared);
            }
            Step::Head(_) | Step::Resync => {
                self.count_cut_head(direction, shared);
                self.lose(direction, 0, shared);
            }
            Step::Trial(_) if self.client != Some(direction) => {
                self.end_trial(direction, None, false, shared);
            }
            // The responses to what is held of the requests may still come.
            Step::Trial(_) | Step::Start | Step::Hold(_) | Step::Orphan(_) => {}
        }
    }
}

/// Bodies of responses without a request, and of responses that only the client's next request ends.
impl<D> Connection<D> {
    /// Collects the first bytes after an orphan's head until they are a status line or not: a HEAD's response has a
    /// length and no body.
    pub(super) fn collect_orphan_body<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        input: &mut Input<'_>,
        shared: &mut Http<X>,
    ) {
        let collected = &mut self.readings[direction].collected;
        if collected.bytes.is_empty() {
            collected.begin(input);
        }
        let missing = detect::STATUS_BYTES.saturating_sub(collected.bytes.len());
        let piece = input.take(missing.min(input.bytes.len()));
        if !shared.buffers.append(&mut collected.bytes, piece) {
            shared.counters.heads_shed += 1;
            return self.read_orphan_body(direction, input.time, shared);
        }
        match detect::classify(&collected.bytes) {
            Detected::Response => self.end_orphan_without_body(direction, input.time, shared),
            Detected::Partial
                if collected.bytes.starts_with(b"H")
                    && collected.bytes.len() < detect::STATUS_BYTES => {}
            _ => self.read_orphan_body(direction, input.time, shared),
        }
    }

    /// The orphan had no body: what was collected, if anything, begins the next head.
    fn end_orphan_without_body<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        now: Timestamp,
        shared: &mut Http<X>,
    ) {
        let reading = &mut self.readings[direction];
        let position = reading.position;
        if !reading.collected.bytes.is_empty() {
            reading.position = reading.collected.offset;
        }
        self.end_message(direction, now, shared);
        let reading = &mut self.readings[direction];
        reading.position = position;
        if !reading.collected.bytes.is_empty() {
            reading.read_as_head();
        }
    }

    /// The orphan has a body, as far as can be known; what was collected is its first part.
    pub(super) fn read_orphan_body<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        now: Timestamp,
        shared: &mut Http<X>,
    ) {
        let reading = &mut self.readings[direction];
        let Step::Orphan(framing) = reading.step else {
            return;
        };
        let bytes = std::mem::take(&mut reading.collected.bytes);
        self.begin_body(direction, framing, now, shared);
        self.read_again(direction, bytes, shared);
    }

    /// A client that does not pipeline sends a request: it has read the response before, so that had no body to wait for.
    pub(super) fn end_alternating_response<X: Exchanges<Draft = D>>(
        &mut self,
        server: Direction,
        now: Timestamp,
        shared: &mut Http<X>,
    ) {
        if self.pairing.is_pipelined() {
            return;
        }
        match self.readings[server].step {
            Step::Orphan(_) => self.end_orphan_without_body(server, now, shared),
            Step::Trial(_) => self.end_trial(server, None, false, shared),
            Step::Hold(_) => self.end_await_of_switch(server, shared),
            Step::UntilClose => {
                // Neither length nor close: what there was is kept, and marked.
                self.readings[server].damaged = true;
                self.end_message(server, now, shared);
            }
            _ => {}
        }
    }
}
