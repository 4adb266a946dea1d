//! One flow's ordered bytes in, calls to [`Exchanges`] out.
//!
//! Which side is the client is decided by the first start line in either direction, never by ports: a port list only
//! says which flows are wanted. A half whose beginning was not seen, or that lost bytes between messages, looks for the
//! next start line; bytes passed over are counted. A loss within a body of known length only subtracts from it.
//!
//! Nothing is copied but heads and lines that do not lie in one piece; see [`half`](super::half).

use memchr::{memchr, memmem, memrchr};

use super::chunked::{Chunked, Piece};
use super::detect::{self, Side, Verdict};
use super::framing::{Fields, Framing};
use super::half::{HalfReader, Input, Step, Unanswered};
use super::head::{self, Fault, Head, StartLine};
use super::pairing::{Before, Lost, Method, Pairing, Responses};
use super::{BodyEnd, Exchanges, Half, Header, Http, Origin, RequestHead, ResponseHead, Speech};
use crate::flow::{Consumer, Direction, FlowEnd, FlowStart, Place};
use crate::limits;
use crate::time::Timestamp;

/// The shortest message there is, `GET / HTTP/1.1` or `HTTP/1.1 200` with two line ends of one byte: a shorter loss
/// between messages has not swallowed one.
const MESSAGE_BYTES_MIN: u64 = 14;

/// Up to here an unfinished start line is judged with every byte, beyond only when its line is there.
const START_BYTES_JUDGED: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Reading,
    /// Not HTTP, or not wanted.
    Ignored,
    /// After 101, or 2xx to CONNECT.
    Tunnel,
}

/// The HTTP reader of one flow; `D` is [`Exchanges::Draft`].
#[derive(Debug)]
pub struct Connection<D> {
    start: FlowStart,
    phase: Phase,
    /// Known since the first start line.
    client: Option<Direction>,
    /// The first bytes of both halves have to be messages, if the flow speaks HTTP.
    from_start: bool,
    originator: HalfReader,
    responder: HalfReader,
    pairing: Pairing<D>,
}

impl<X: Exchanges<Draft = D>, D> Consumer<Http<X>> for Connection<D> {
    fn open(start: &FlowStart, shared: &mut Http<X>) -> Self {
        let ports = &shared.config.ports;
        let wanted = ports.contains(start.originator.port) || ports.contains(start.responder.port);
        shared.counters.flows_unwanted += u64::from(!wanted);
        // Whatever was before the first byte of a capture in the middle counts as a lost message.
        let lost = if start.midstream {
            MESSAGE_BYTES_MIN
        } else {
            0
        };
        Self {
            start: *start,
            phase: if wanted {
                Phase::Reading
            } else {
                Phase::Ignored
            },
            client: None,
            from_start: !start.midstream,
            originator: HalfReader::new(lost),
            responder: HalfReader::new(lost),
            pairing: Pairing::new(),
        }
    }

    fn data(&mut self, place: Place, bytes: &[u8], shared: &mut Http<X>) {
        let direction = place.direction;
        let mut input = Input::new(&place, bytes);
        if self.client == Some(other(direction)) && self.phase == Phase::Reading {
            self.read_simple_request(place.time, shared);
        }
        while !input.bytes.is_empty() {
            self.read(direction, &mut input, shared);
        }
    }

    fn gap(&mut self, place: Place, len: u64, shared: &mut Http<X>) {
        if self.phase != Phase::Reading || len == 0 {
            return;
        }
        let direction = place.direction;
        self.from_start = false;
        self.settle_orphan(direction, place.time, shared);
        let half = self.half_mut(direction);
        // What is missing of the body, whether the body is over with it, and what is lost beside it.
        let (missing, over, beyond) = match &mut half.step {
            Step::Length(remaining) => {
                let missing = len.min(*remaining);
                *remaining -= missing;
                (missing, *remaining == 0, len - missing)
            }
            Step::Chunked(chunked) => {
                if chunked.skip(len) {
                    (len, false, 0)
                } else {
                    // How much of the rest was body nobody knows: the rest of this chunk at least.
                    (chunked.remaining(), true, len)
                }
            }
            Step::UntilClose => (len, false, 0),
            Step::Start | Step::Head | Step::Hunt | Step::Hold | Step::Orphan(_) => (0, false, len),
        };
        let in_body = missing > 0 || over;
        half.damaged |= in_body;
        let of_unknown_end = matches!(half.step, Step::Chunked(_));
        if missing > 0 {
            self.body_missing(direction, missing, shared);
        }
        if over {
            self.end_message(direction, place.time, shared);
        }
        if beyond > 0 {
            self.head_cut(direction, shared);
            let half = self.half_mut(direction);
            half.gapped = true;
            if matches!(half.step, Step::Start | Step::Head) && !of_unknown_end {
                half.unanswered = Unanswered::Message;
            } else if half.unanswered == Unanswered::Nothing {
                half.unanswered = Unanswered::End;
            }
            self.lose(direction, beyond, shared);
        }
    }

    fn finished(&mut self, place: Place, shared: &mut Http<X>) {
        if self.phase == Phase::Reading {
            self.end_half(place.direction, true, place.time, shared);
        }
    }

    fn close(mut self, end: FlowEnd, time: Timestamp, shared: &mut Http<X>) {
        if self.phase == Phase::Reading {
            for direction in [Direction::Originator, Direction::Responder] {
                self.end_half(direction, end == FlowEnd::Fin, time, shared);
            }
        }
        let server = self.client.map(|client| self.half(other(client)));
        let why = match end {
            _ if server.is_some_and(|server| server.gapped) => Half::Gap,
            _ if server.is_some_and(|server| server.finished) => Half::Closed,
            FlowEnd::Fin | FlowEnd::Reset | FlowEnd::Reused => Half::Closed,
            FlowEnd::Idle => Half::Timeout,
            FlowEnd::Evicted => Half::Evicted,
            FlowEnd::Shutdown => Half::Shutdown,
        };
        self.pairing.close(why, time, shared);
        self.release_buffers(shared);
    }

    fn ignores(&self, _direction: Direction) -> bool {
        self.phase != Phase::Reading
    }
}

const fn other(direction: Direction) -> Direction {
    match direction {
        Direction::Originator => Direction::Responder,
        Direction::Responder => Direction::Originator,
    }
}

impl<D> Connection<D> {
    fn half(&self, direction: Direction) -> &HalfReader {
        match direction {
            Direction::Originator => &self.originator,
            Direction::Responder => &self.responder,
        }
    }

    fn half_mut(&mut self, direction: Direction) -> &mut HalfReader {
        match direction {
            Direction::Originator => &mut self.originator,
            Direction::Responder => &mut self.responder,
        }
    }

    /// What `direction` carries, once that is known.
    fn side(&self, direction: Direction) -> Option<Side> {
        let client = self.client?;
        Some(if client == direction {
            Side::Request
        } else {
            Side::Response
        })
    }

    /// The port that a table of ports should name: the responder's, or the lower one if who began is not known.
    fn server_port(&self) -> u16 {
        match self.client {
            Some(Direction::Responder) => self.start.originator.port,
            None if self.start.midstream => {
                self.start.originator.port.min(self.start.responder.port)
            }
            _ => self.start.responder.port,
        }
    }

    /// Reads some of `input`, or finds out what it is.
    fn read<X: Exchanges<Draft = D>>(&mut self, direction: Direction, input: &mut Input<'_>, shared: &mut Http<X>) {
        match (self.phase, &self.half(direction).step) {
            (Phase::Ignored, _) => shared.counters.bytes_ignored += input.take(usize::MAX).len() as u64,
            (Phase::Tunnel, _) | (_, Step::Hold) => {
                shared.counters.bytes_tunnelled += input.take(usize::MAX).len() as u64;
            }
            (_, Step::Start) => self.start(direction, input, shared),
            (_, Step::Head) => self.collect(direction, input, shared),
            (_, Step::Hunt) => self.hunt(direction, input, shared),
            (_, Step::Orphan(_)) => self.orphan_body(direction, input, shared),
            (_, Step::Length(_) | Step::Chunked(_) | Step::UntilClose) => self.body(direction, input, shared),
        }
    }

    // Between messages.

    /// At a message start: reads the head in place if all of it is there.
    fn start<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        input: &mut Input<'_>,
        shared: &mut Http<X>,
    ) {
        let empty = input
            .bytes
            .iter()
            .take_while(|byte| matches!(byte, b'\r' | b'\n'))
            .count();
        input.take(empty);
        if input.bytes.is_empty() {
            return;
        }
        let Some(side) = self.side(direction) else {
            return self.first_bytes(direction, input, shared);
        };
        let (bytes, offset, time) = (input.bytes, input.offset, input.time);
        match self.read_head(
            direction,
            side,
            bytes,
            Start {
                offset,
                time,
                now: time,
            },
            shared,
        ) {
            Ok(length) => {
                input.take(length);
            }
            Err(Fault::Partial | Fault::Folded { .. }) => self.collect_from(direction, input),
            Err(Fault::Malformed) => {
                shared.counters.heads_malformed += 1;
                self.half_mut(direction).step = Step::Hunt;
            }
            Err(Fault::TooMany) => {
                shared.counters.heads_oversized += 1;
                let line = memchr(b'\n', input.bytes).map_or(input.bytes.len(), |end| end + 1);
                self.pass_over(direction, input.take(line).len(), shared);
                self.half_mut(direction).step = Step::Hunt;
            }
        }
    }

    /// The first bytes of a flow whose sides are not known.
    fn first_bytes<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        input: &mut Input<'_>,
        shared: &mut Http<X>,
    ) {
        match detect::classify(input.bytes) {
            Verdict::Partial => self.collect_from(direction, input),
            verdict => self.judged(direction, verdict, shared),
        }
    }

    /// Acts on what the first bytes of a half are.
    fn judged<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        verdict: Verdict,
        shared: &mut Http<X>,
    ) {
        match verdict {
            Verdict::Partial => {}
            Verdict::Request | Verdict::Simple => self.set_client(direction, shared),
            Verdict::Response => self.set_client(other(direction), shared),
            Verdict::Tls => self.ignore(Speech::Tls, shared),
            Verdict::Http2 => self.ignore(Speech::Http2, shared),
            Verdict::Other if self.from_start && shared.config.ports.is_any() => {
                self.ignore(Speech::Other, shared)
            }
            Verdict::Preamble | Verdict::Other => {
                // Of either side: its answer to a preamble is no message either.
                self.from_start = false;
                self.half_mut(direction).step = Step::Hunt;
            }
        }
    }

    fn set_client<X: Exchanges<Draft = D>>(&mut self, client: Direction, shared: &mut Http<X>) {
        if self.client.is_none() {
            self.client = Some(client);
            shared.counters.flows_http += 1;
            shared.ports_seen.record(self.server_port(), Speech::Http);
        }
    }

    fn ignore<X: Exchanges<Draft = D>>(&mut self, speech: Speech, shared: &mut Http<X>) {
        let counters = &mut shared.counters;
        let cell = match speech {
            Speech::Tls => &mut counters.flows_tls,
            Speech::Http2 => &mut counters.flows_http2,
            Speech::Http | Speech::Other => &mut counters.flows_other,
        };
        *cell += 1;
        shared.ports_seen.record(self.server_port(), speech);
        shared.counters.bytes_ignored += (self.originator.buffer.len() + self.responder.buffer.len()) as u64;
        self.phase = Phase::Ignored;
        self.release_buffers(shared);
    }

    fn release_buffers<X: Exchanges<Draft = D>>(&mut self, shared: &mut Http<X>) {
        shared.buffers.release(&mut self.originator.buffer);
        shared.buffers.release(&mut self.responder.buffer);
    }

    // Heads.

    fn collect_from(&mut self, direction: Direction, input: &Input<'_>) {
        let half = self.half_mut(direction);
        half.step = Step::Head;
        half.mark(input);
    }

    /// Adds to a head that does not lie in one piece: first its start line, then the rest up to the empty line.
    fn collect<X: Exchanges<Draft = D>>(
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
    fn check_line<X: Exchanges<Draft = D>>(&mut self, direction: Direction, shared: &mut Http<X>) {
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
    fn read_collected<X: Exchanges<Draft = D>>(
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
    fn read_simple_request<X: Exchanges<Draft = D>>(
        &mut self,
        now: Timestamp,
        shared: &mut Http<X>,
    ) {
        let Some(client) = self.client else { return };
        let half = self.half_mut(client);
        let one_line = || memchr(b'\n', &half.buffer).is_some_and(|end| end + 1 == half.buffer.len());
        let waits = matches!(half.step, Step::Head) && half.line_checked && one_line();
        let simple = waits && detect::classify(&half.buffer) == Verdict::Simple;
        if simple && shared.buffers.append(&mut half.buffer, b"\n") {
            self.read_collected(client, now, shared);
        }
    }

    /// Reads a head from the begin of `bytes` and acts on it; its length.
    fn read_head<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        side: Side,
        bytes: &[u8],
        start: Start,
        shared: &mut Http<X>,
    ) -> Result<usize, Fault> {
        let mut fields = emptied(std::mem::take(&mut shared.fields));
        let result = match head::parse(bytes, side, &mut fields) {
            Ok(head) => {
                self.act_on_head(direction, &head, &fields, start, shared);
                Ok(head.length)
            }
            Err(Fault::Folded { length }) => {
                let mut unfolded = std::mem::take(&mut shared.unfolded);
                head::unfold(bytes.get(..length).unwrap_or(bytes), &mut unfolded);
                let mut fields = Vec::new();
                let result = head::parse(&unfolded, side, &mut fields).map(|head| {
                    self.act_on_head(direction, &head, &fields, start, shared);
                    length
                });
                shared.unfolded = unfolded;
                result
            }
            Err(fault) => Err(fault),
        };
        shared.fields = emptied(fields);
        result
    }

    fn act_on_head<X: Exchanges<Draft = D>>(
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

    fn request_head<X: Exchanges<Draft = D>>(
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
        let before = Before { lost: self.message_found(direction, shared), unanswered };
        let server = self.half(other(direction));
        let responses = Responses {
            lost: server.lost >= MESSAGE_BYTES_MIN,
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
            // What was lost of the responses until now was before this request.
            let server = self.half_mut(other(direction));
            (server.lost, server.gapped) = (0, false);
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

    fn response_head<X: Exchanges<Draft = D>>(
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
        let requests = self.half(other(direction)).lost >= MESSAGE_BYTES_MIN;
        let lost = Lost { requests, responses: self.message_found(direction, shared) };
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

    fn origin<'a>(&self, flow: &'a FlowStart, start: Start) -> Origin<'a> {
        Origin {
            flow,
            client_is_originator: self.client != Some(Direction::Responder),
            call_index: 0,
            offset: start.offset,
            time: start.time,
        }
    }

    /// A message was found; says whether others may have been lost before it.
    fn message_found<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        shared: &mut Http<X>,
    ) -> bool {
        let half = self.half_mut(direction);
        half.damaged = false;
        half.gapped = false;
        half.unanswered = Unanswered::Nothing;
        let lost = std::mem::take(&mut half.lost);
        shared.counters.resynchronised += u64::from(lost > 0);
        lost >= MESSAGE_BYTES_MIN
    }

    fn note_conflict<X: Exchanges<Draft = D>>(
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
    fn tunnel<X: Exchanges<Draft = D>>(&mut self, now: Timestamp, shared: &mut Http<X>) {
        shared.counters.flows_tunnelled += 1;
        self.pairing.request_end(BodyEnd::Cut, now, shared);
        self.phase = Phase::Tunnel;
        self.release_buffers(shared);
    }

    /// More requests wait than anybody would send.
    fn overflow<X: Exchanges<Draft = D>>(&mut self, now: Timestamp, shared: &mut Http<X>) {
        shared.counters.flows_overflowed += 1;
        self.phase = Phase::Ignored;
        self.pairing.close(Half::Evicted, now, shared);
        self.release_buffers(shared);
    }

    // Bodies.

    fn begin_body<X: Exchanges<Draft = D>>(
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

    fn body<X: Exchanges<Draft = D>>(
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
    fn orphan_body<X: Exchanges<Draft = D>>(
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
            Verdict::Partial if half.buffer.starts_with(b"H") && half.buffer.len() < detect::STATUS_BYTES => {}
            _ => self.settle_orphan(direction, input.time, shared),
        }
    }

    /// The orphan had no body: what was collected, if anything, begins the next head.
    fn orphan_without_body<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        now: Timestamp,
        shared: &mut Http<X>,
    ) {
        self.end_message(direction, now, shared);
        let half = self.half_mut(direction);
        if !half.buffer.is_empty() {
            half.line_is_start();
        }
    }

    /// The orphan has a body, as far as anybody can tell; what was collected is its begin.
    fn settle_orphan<X: Exchanges<Draft = D>>(&mut self, direction: Direction, now: Timestamp, shared: &mut Http<X>) {
        let half = self.half_mut(direction);
        let Step::Orphan(framing) = half.step else { return };
        let mut buffer = std::mem::take(&mut half.buffer);
        let mut input = Input { bytes: &buffer, offset: half.offset, time: half.time };
        self.begin_body(direction, framing, now, shared);
        while !input.bytes.is_empty() {
            self.read(direction, &mut input, shared);
        }
        shared.buffers.release(&mut buffer);
    }

    /// A client that takes turns sends a request: it has read the response before, so that had no body to wait for.
    fn settle_turn<X: Exchanges<Draft = D>>(&mut self, server: Direction, now: Timestamp, shared: &mut Http<X>) {
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

    fn broken<X: Exchanges<Draft = D>>(
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

    fn body_missing<X: Exchanges<Draft = D>>(
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
    fn end_message<X: Exchanges<Draft = D>>(
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
        match self.side(direction) {
            Some(Side::Response) => self.pairing.response_end(end, now, shared),
            _ => self.pairing.request_end(end, now, shared),
        }
    }

    /// The half is over: `whole` if it ended as it should, so that a body until the close is complete.
    fn end_half<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        whole: bool,
        now: Timestamp,
        shared: &mut Http<X>,
    ) {
        if self.client == Some(direction) {
            self.read_simple_request(now, shared);
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

    // Unknown ground.

    /// Bytes are lost between messages or within a head: goes on at the next start line.
    fn lose<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        len: u64,
        shared: &mut Http<X>,
    ) {
        let half = self.half_mut(direction);
        half.step = Step::Hunt;
        half.lost = half.lost.saturating_add(len);
        let passed = half.buffer.len();
        shared.buffers.release(&mut half.buffer);
        self.pass_over(direction, passed, shared);
        if let Some(client) = self.client
            && matches!(self.half(client).step, Step::Hold)
        {
            // The answer to the CONNECT may be among what was lost.
            self.half_mut(client).step = Step::Hunt;
        }
    }

    fn head_cut<X: Exchanges<Draft = D>>(&mut self, direction: Direction, shared: &mut Http<X>) {
        shared.counters.heads_cut += u64::from(matches!(self.half(direction).step, Step::Head));
    }

    fn pass_over<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        len: usize,
        shared: &mut Http<X>,
    ) {
        shared.counters.bytes_hunted += len as u64;
        let half = self.half_mut(direction);
        half.lost = half.lost.saturating_add(len as u64);
    }

    /// Looks for the next start line. Lines end with LF, so all that has to be kept is one unfinished line.
    fn hunt<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        input: &mut Input<'_>,
        shared: &mut Http<X>,
    ) {
        if !self.half(direction).buffer.is_empty() {
            return self.finish_line(direction, input, shared);
        }
        if let Some((place, side)) = find_in(input.bytes, self.side(direction)) {
            self.pass_over(direction, input.take(place).len(), shared);
            self.half_mut(direction).step = Step::Start;
            return self.set_client(
                if side == Side::Request {
                    direction
                } else {
                    other(direction)
                },
                shared,
            );
        }
        let unfinished = memrchr(b'\n', input.bytes).map_or(0, |end| end + 1);
        self.pass_over(direction, input.take(unfinished).len(), shared);
        self.half_mut(direction).mark(input);
        self.keep_line(direction, input.take(usize::MAX), shared);
        self.give_up_hunting(shared);
    }

    /// Adds to the unfinished line, and looks at it when it is finished.
    fn finish_line<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        input: &mut Input<'_>,
        shared: &mut Http<X>,
    ) {
        let end = memchr(b'\n', input.bytes).map(|end| end + 1);
        let piece = input.take(end.unwrap_or(usize::MAX));
        self.keep_line(direction, piece, shared);
        if end.is_some() {
            self.hunt_in_buffer(direction, Some((piece.len(), input.time)), shared);
        }
        self.give_up_hunting(shared);
    }

    fn keep_line<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        bytes: &[u8],
        shared: &mut Http<X>,
    ) {
        let half = self.half_mut(direction);
        if !shared.buffers.append(&mut half.buffer, bytes) {
            shared.counters.heads_shed += 1;
            return self.lose(direction, bytes.len() as u64, shared);
        }
        let length = half.buffer.len();
        if length > limits::HUNT_LINE_BYTES_MAX {
            let dropped = length - limits::HUNT_TAIL_BYTES;
            shared.buffers.drop_front(&mut half.buffer, dropped);
            half.offset += dropped as u64;
            self.pass_over(direction, dropped, shared);
        }
    }

    /// Looks at the buffered line; `newest` says how many of its last bytes came when.
    fn hunt_in_buffer<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        newest: Option<(usize, Timestamp)>,
        shared: &mut Http<X>,
    ) {
        let want = self.side(direction);
        let half = self.half_mut(direction);
        if !half.buffer.ends_with(b"\n") {
            return;
        }
        let Some((place, side)) = detect::find_start(&half.buffer, want) else {
            let passed = half.buffer.len();
            shared.buffers.release(&mut half.buffer);
            return self.pass_over(direction, passed, shared);
        };
        if let Some((_, time)) = newest.filter(|&(length, _)| place + length >= half.buffer.len()) {
            half.time = time;
        }
        shared.buffers.drop_front(&mut half.buffer, place);
        half.offset += place as u64;
        half.line_is_start();
        self.pass_over(direction, place, shared);
        self.set_client(
            if side == Side::Request {
                direction
            } else {
                other(direction)
            },
            shared,
        );
    }

    /// A flow whose beginning was not seen is not HTTP if both sides have shown enough without a start line.
    fn give_up_hunting<X: Exchanges<Draft = D>>(&mut self, shared: &mut Http<X>) {
        let shown = |half: &HalfReader| half.lost + half.buffer.len() as u64;
        let least = shown(&self.originator).min(shown(&self.responder));
        if self.client.is_none() && least >= limits::HUNT_GIVE_UP_BYTES {
            self.ignore(Speech::Other, shared);
        }
    }
}

/// Where a head starts, and the time of the bytes at hand.
#[derive(Clone, Copy, Debug)]
struct Start {
    offset: u64,
    time: Timestamp,
    now: Timestamp,
}

/// The first message start in the finished lines of `bytes`.
fn find_in(bytes: &[u8], want: Option<Side>) -> Option<(usize, Side)> {
    let mut from = 0;
    while let Some(version) = memmem::find(bytes.get(from..)?, b"HTTP/1.").map(|place| from + place)
    {
        let begin = memrchr(b'\n', bytes.get(from..version)?).map_or(from, |end| from + end + 1);
        let end = version + memchr(b'\n', bytes.get(version..)?)? + 1;
        if let Some((place, side)) = detect::find_start(bytes.get(begin..end)?, want) {
            return Some((begin + place, side));
        }
        from = end;
    }
    None
}

/// The same memory as a list for other lifetimes: collecting in place keeps the allocation.
fn emptied<'a>(mut fields: Vec<Header<'_>>) -> Vec<Header<'a>> {
    fields.clear();
    fields
        .into_iter()
        .map(|_| Header {
            name: &[],
            value: &[],
        })
        .collect()
}
