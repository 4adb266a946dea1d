//! Heads of one connection: from where they start to what they mean for pairing and for the body after them.
//!
//! A head that lies in one slice is read there; another is collected, its start line first, so that what is no start
//! line is given up before its end is looked for. Bounded by [`limits::HEAD_BYTES_MAX`] and by what the shard may hold.

use memchr::memchr;

use super::{Connection, Phase, other};
use crate::flow::{Acked, Direction, FlowStart};
use crate::http::detect::{self, Verdict};
use crate::http::h1::direction::{Input, Start, Step, Unanswered};
use crate::http::h1::framing::{Fields, Framing};
use crate::http::h1::head::{self, Fault, Head, StartLine};
use crate::http::h1::pairing::{Before, Lost, Responses};
use crate::http::h1::queue::Method;
use crate::http::h1::skim;
use crate::http::{
    BodyEnd, Exchanges, Half, Header, Http, Origin, RequestHead, ResponseHead, Side,
};
use crate::limits::{self, MESSAGE_BYTES_MIN};
use crate::time::Timestamp;

/// Up to here an unfinished start line is judged with every byte, beyond only when its line is there.
const START_BYTES_JUDGED: usize = 64;

/// What a FIN takes of the sequence numbers.
const FIN: u64 = 1;

impl<D> Connection<D> {
    pub(super) fn collect_from(&mut self, direction: Direction, input: &Input<'_>) {
        let half = self.half_mut(direction);
        half.step = Step::Head;
        half.mark(input);
    }

    /// Adds to a head that does not lie in one piece: first its start line, then the rest up to the empty line.
    pub(super) fn collect<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        input: &mut Input<'_>,
        shared: &mut Http<X>,
    ) {
        let half = self.half_mut(direction);
        let end = if half.line_checked {
            head::find_end(input.bytes, &mut half.end_state)
        } else {
            memchr(b'\n', input.bytes).map(|end| end + 1)
        };
        let now = input.time;
        let piece = input.take(end.unwrap_or(usize::MAX));
        if !shared.buffers.append(&mut half.buffer, piece) {
            shared.counters.heads_shed += 1;
            return self.lose(direction, piece.len() as u64, shared);
        }
        shared.counters.bytes_copied += piece.len() as u64;
        let (checked, length) = (half.line_checked, half.buffer.len());
        if length > limits::HEAD_BYTES_MAX {
            shared.counters.heads_oversized += 1;
            self.lose(direction, 0, shared);
        } else if checked && end.is_some() {
            self.read_collected(direction, now, shared);
        } else if !checked && (end.is_some() || length <= START_BYTES_JUDGED) {
            self.check_line(direction, shared);
        }
    }

    /// Judges the collected begin of a start line.
    pub(super) fn check_line<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        shared: &mut Http<X>,
    ) {
        let verdict = detect::classify(&self.half(direction).buffer);
        let fits = match (verdict, self.side(direction)) {
            (Verdict::Partial, _) => return,
            (_, None) => {
                self.judged(direction, verdict, shared);
                self.client.is_some()
            }
            (Verdict::Request | Verdict::Simple, Some(side)) => side == Side::Request,
            (Verdict::Response, Some(side)) => side == Side::Response,
            _ => false,
        };
        if self.phase != Phase::Reading {
            return;
        }
        if fits {
            return self.half_mut(direction).line_is_start();
        }
        shared.counters.heads_malformed += 1;
        self.half_mut(direction).step = Step::Hunt;
        self.hunt_in_buffer(direction, None, shared);
    }

    /// Reads the head in the buffer, which is all there.
    pub(super) fn read_collected<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        now: Timestamp,
        shared: &mut Http<X>,
    ) {
        let Some(side) = self.side(direction) else {
            return;
        };
        let half = self.half_mut(direction);
        let start = Start {
            offset: half.offset,
            time: half.time,
            acked: half.acked,
            now,
        };
        let mut buffer = std::mem::take(&mut half.buffer);
        half.step = Step::Start;
        let result = self.read_head(direction, side, &buffer, start, shared);
        let length = buffer.len();
        shared.buffers.release(&mut buffer);
        match result {
            Ok(_) => return,
            Err(Fault::TooMany) => shared.counters.heads_oversized += 1,
            Err(_) => shared.counters.heads_malformed += 1,
        }
        self.half_mut(direction).step = Step::Hunt;
        self.pass_over(direction, length, shared);
    }

    /// The server speaks after a line without a version and nothing else: HTTP/0.9 has no more to its requests.
    pub(super) fn read_simple_request<X: Exchanges<Draft = D>>(
        &mut self,
        now: Timestamp,
        shared: &mut Http<X>,
    ) {
        let Some(client) = self.client else { return };
        let half = self.half_mut(client);
        let one_line =
            || memchr(b'\n', &half.buffer).is_some_and(|end| end + 1 == half.buffer.len());
        let waits = matches!(half.step, Step::Head) && half.line_checked && one_line();
        let simple = waits && detect::classify(&half.buffer) == Verdict::Simple;
        if simple && shared.buffers.append(&mut half.buffer, b"\n") {
            self.read_collected(client, now, shared);
        }
    }

    /// No more of a head will come, or its answer is there: one that has all its lines but the empty one is read, and
    /// marked. One that ends within a line is cut, and nobody knows what else it said.
    pub(super) fn read_unfinished_head<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        now: Timestamp,
        shared: &mut Http<X>,
    ) {
        let half = self.half_mut(direction);
        let whole_lines = half.line_checked && half.buffer.ends_with(b"\n");
        let end = half.offset + half.buffer.len() as u64;
        if !matches!(half.step, Step::Head)
            || !whole_lines
            || !shared.buffers.append(&mut half.buffer, b"\n")
        {
            return;
        }
        shared.counters.heads_cut += 1;
        half.unfinished = true;
        self.read_collected(direction, now, shared);
        let half = self.half_mut(direction);
        half.unfinished = false;
        half.told = half.told.min(end);
    }

    /// A server answers a head that is not over: it waited too long for the rest (408), or has seen enough (431).
    fn read_answered_head<X: Exchanges<Draft = D>>(
        &mut self,
        client: Direction,
        acked: Acked,
        now: Timestamp,
        shared: &mut Http<X>,
    ) {
        let half = self.half(client);
        let begun = matches!(half.step, Step::Head) && acked.at_least() > half.offset;
        if !begun || self.pairing.waits() {
            return;
        }
        self.read_unfinished_head(client, now, shared);
        if matches!(self.half(client).step, Step::Length(_) | Step::Chunked(_)) {
            self.half_mut(client).damaged = true;
            self.end_message(client, now, shared);
        }
    }

    /// Reads a head from the begin of `bytes` and acts on it; its length.
    pub(super) fn read_head<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        side: Side,
        bytes: &[u8],
        start: Start,
        shared: &mut Http<X>,
    ) -> Result<usize, Fault> {
        let mut fields = emptied(std::mem::take(&mut shared.h1.fields));
        let parse = if self.is_shed(direction, side, start, shared) {
            skim::parse
        } else {
            head::parse
        };
        let result = match parse(bytes, side, &mut fields) {
            Ok(head) => {
                self.half_mut(direction).told = start.offset + head.length as u64;
                self.act_on_head(direction, &head, &fields, start, shared);
                Ok(head.length)
            }
            Err(Fault::Folded { length }) => {
                let mut unfolded = std::mem::take(&mut shared.h1.unfolded);
                head::unfold(bytes.get(..length).unwrap_or(bytes), &mut unfolded);
                let mut fields = Vec::new();
                self.half_mut(direction).told = start.offset + length as u64;
                let result = head::parse(&unfolded, side, &mut fields).map(|head| {
                    self.act_on_head(direction, &head, &fields, start, shared);
                    length
                });
                shared.h1.unfolded = unfolded;
                result
            }
            Err(fault) => Err(fault),
        };
        shared.h1.fields = emptied(fields);
        result
    }

    /// Whether the head that begins is one of a call that is only counted. Of a response it is not asked where losses leave
    /// in doubt whose it is.
    fn is_shed<X: Exchanges<Draft = D>>(
        &self,
        direction: Direction,
        side: Side,
        start: Start,
        shared: &Http<X>,
    ) -> bool {
        match side {
            Side::Request => {
                let origin = Origin {
                    call_index: self.pairing.next_index(),
                    ..self.origin(&self.start, start)
                };
                shared.exchanges.sheds(&origin)
            }
            Side::Response => {
                let is_shed = |draft: &D| shared.exchanges.is_shed(draft);
                self.half(direction).lost == 0 && self.pairing.answers_next(is_shed)
            }
        }
    }

    pub(super) fn act_on_head<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        head: &Head<'_>,
        fields: &[Header<'_>],
        start: Start,
        shared: &mut Http<X>,
    ) {
        shared.counters.header_lines_odd += head.odd_lines;
        match head.start {
            StartLine::Request(line) => {
                let minor = line.minor.unwrap_or(0);
                let head = RequestHead {
                    method: line.method,
                    target: line.target,
                    minor,
                    headers: fields,
                };
                self.request_head(direction, &head, start, shared);
            }
            StartLine::Status { minor, status } => {
                let head = ResponseHead {
                    status,
                    minor,
                    headers: fields,
                };
                self.response_head(direction, &head, start, shared);
            }
        }
    }

    pub(super) fn request_head<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        head: &RequestHead<'_>,
        start: Start,
        shared: &mut Http<X>,
    ) {
        shared.counters.requests += 1;
        self.settle_turn(other(direction), start.now, shared);
        let responses_lost = self.half(other(direction)).lost >= MESSAGE_BYTES_MIN;
        let unanswered = self.half(direction).unanswered != Unanswered::Nothing && !responses_lost;
        let before = Before {
            lost: self.message_found(direction, shared),
            unanswered,
        };
        let server = self.half(other(direction));
        // A segment that is read late may acknowledge what was not read yet.
        let acked = match start.acked {
            Acked::ABSENT => server.told,
            known => known.at_least().min(server.told),
        };
        let responses = Responses {
            acked,
            lost: server.lost,
            gapped: server.gapped,
            lost_after: server.told - acked,
            at_boundary: server.at_boundary(),
        };
        let flow = self.start;
        let origin = self.origin(&flow, start);
        if !self
            .pairing
            .open_request(head, origin, before, responses, shared)
        {
            return self.overflow(start.now, shared);
        }
        if !self.pairing.pipelines() {
            // What was lost of the responses until now was before this request, but for what it does not acknowledge.
            let from = self.pairing.awaited_from();
            let server = self.half_mut(other(direction));
            server.lost = server.lost.min(server.told.saturating_sub(from));
            server.gapped &= server.lost > 0;
        }
        let fields = Fields::read(head.headers);
        self.note_conflict(direction, &fields, shared);
        if head.method == b"CONNECT" {
            self.end_message(direction, start.now, shared);
            self.half_mut(direction).step = Step::Hold;
        } else {
            self.begin_body(direction, fields.of_request(), start.now, shared);
        }
    }

    pub(super) fn response_head<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        head: &ResponseHead<'_>,
        start: Start,
        shared: &mut Http<X>,
    ) {
        if matches!(head.status, 100..=199) && head.status != 101 {
            shared.counters.responses_interim += 1;
            self.half_mut(direction).step = Step::Start;
            return;
        }
        shared.counters.responses += 1;
        self.read_answered_head(other(direction), start.acked, start.now, shared);
        let lost = Lost {
            requests: self.requests_unread(other(direction), start.acked),
            responses: self.half(direction).lost,
            acked: start.acked.at_most(),
        };
        self.message_found(direction, shared);
        let flow = self.start;
        let origin = self.origin(&flow, start);
        let method = self.pairing.open_response(head, origin, lost, shared);
        let fields = Fields::read(head.headers);
        if head.status == 101 || (method == Method::Connect && matches!(head.status, 200..=299)) {
            self.end_message(direction, start.now, shared);
            return self.tunnel(start.now, shared);
        }
        let client = self.half_mut(other(direction));
        // The response of a known request answers the loss of its end, but no lost request.
        if method == Method::Unknown || client.unanswered == Unanswered::End {
            client.unanswered = Unanswered::Nothing;
        }
        if matches!(client.step, Step::Hold) {
            // The tunnel was refused: the client goes on with requests.
            client.step = if method == Method::Connect {
                Step::Start
            } else {
                Step::Hunt
            };
        }
        if method == Method::Head || matches!(head.status, 204 | 304) {
            return self.end_message(direction, start.now, shared);
        }
        self.note_conflict(direction, &fields, shared);
        let framing = fields.of_response();
        if method == Method::Unknown && !matches!(framing, Framing::Length(0) | Framing::Unknown) {
            self.half_mut(direction).step = Step::Orphan(framing);
        } else {
            self.begin_body(direction, framing, start.now, shared);
        }
    }

    /// Whether the server may have had requests behind the last one that was read, when it acknowledged `acked`: they
    /// were lost, or their heads are not complete (the rest of one can be lost without anybody telling: a single byte at
    /// the end is taken for a FIN), or they were not told yet.
    fn requests_unread(&self, client: Direction, acked: Acked) -> bool {
        let half = self.half(client);
        let begun = matches!(half.step, Step::Head) && acked.at_most() > half.offset;
        let untold = acked.at_least() > half.told + FIN;
        half.lost >= MESSAGE_BYTES_MIN || begun || untold
    }

    pub(super) fn origin<'a>(&self, flow: &'a FlowStart, start: Start) -> Origin<'a> {
        Origin {
            flow,
            client_is_originator: self.client != Some(Direction::Responder),
            call_index: 0,
            offset: start.offset,
            time: start.time,
        }
    }

    /// A message was found; says whether others may have been lost before it.
    pub(super) fn message_found<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        shared: &mut Http<X>,
    ) -> bool {
        let half = self.half_mut(direction);
        half.damaged = half.unfinished;
        half.gapped = false;
        half.unanswered = Unanswered::Nothing;
        let lost = std::mem::take(&mut half.lost);
        shared.counters.resynchronised += u64::from(lost > 0);
        lost >= MESSAGE_BYTES_MIN
    }

    pub(super) fn note_conflict<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        fields: &Fields,
        shared: &mut Http<X>,
    ) {
        if fields.conflict() {
            shared.counters.framing_conflicts += 1;
            self.half_mut(direction).damaged = true;
        }
    }

    /// The rest of both directions is not HTTP.
    pub(super) fn tunnel<X: Exchanges<Draft = D>>(&mut self, now: Timestamp, shared: &mut Http<X>) {
        shared.counters.flows_tunnelled += 1;
        self.pairing.request_end(BodyEnd::Cut, now, shared);
        self.phase = Phase::Tunnel;
        self.release_buffers(shared);
    }

    /// More requests wait than anybody would send.
    pub(super) fn overflow<X: Exchanges<Draft = D>>(
        &mut self,
        now: Timestamp,
        shared: &mut Http<X>,
    ) {
        shared.counters.flows_overflowed += 1;
        self.phase = Phase::Ignored;
        self.pairing.close(Half::Evicted, true, now, shared);
        self.release_buffers(shared);
    }
}

/// The same memory as a list for other lifetimes: collecting in place keeps the allocation.
fn emptied<'a>(mut fields: Vec<Header<'_>>) -> Vec<Header<'a>> {
    fields.clear();
    fields.into_iter().map(|_| Header::new(&[], &[])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_fields_keeps_its_memory() {
        let name = b"a".to_vec();
        let fields = vec![Header::new(&name, &[]); 100];
        let memory = fields.as_ptr().cast::<u8>();
        let (capacity, again) = (fields.capacity(), emptied(fields));
        assert_eq!(
            (again.len(), again.capacity(), again.as_ptr().cast::<u8>()),
            (0, capacity, memory)
        );
    }
}
