//! One flow's ordered bytes in, calls to [`Exchanges`] out.
//!
//! Which side is the client is decided by the first start line in either direction, never by ports: a port list only
//! says which flows are wanted. A half whose beginning was not seen, or that lost bytes between messages, looks for the
//! next start line; bytes passed over are counted. A loss within a body of known length only subtracts from it.
//!
//! Nothing is copied but heads and lines that do not lie in one piece; see [`direction`](super::direction).

mod bodies;
mod heads;
mod resync;

use memchr::memchr;

use super::direction::{HalfReader, Input, Start, Step, Unanswered};
use super::head::Fault;
use super::pairing::Pairing;
use crate::flow::{ByteInfo, Consumer, Direction, FlowEnd, FlowStart};
use crate::http::detect::{self, Verdict};
use crate::http::{Exchanges, Half, Http, Side, Speech};
use crate::limits::MESSAGE_BYTES_MIN;

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
            pairing: Pairing::new(start.midstream, start.evicted),
        }
    }

    fn data(&mut self, place: ByteInfo, bytes: &[u8], shared: &mut Http<X>) {
        let direction = place.direction;
        let mut input = Input::new(&place, bytes);
        if self.client == Some(other(direction)) && self.phase == Phase::Reading {
            self.read_simple_request(place.time, shared);
        }
        while !input.bytes.is_empty() {
            self.read(direction, &mut input, shared);
        }
        let half = self.half_mut(direction);
        (half.told, half.last) = (input.offset, place.time);
    }

    fn gap(&mut self, place: ByteInfo, len: u64, shared: &mut Http<X>) {
        if self.phase != Phase::Reading || len == 0 {
            return;
        }
        let direction = place.direction;
        self.from_start = false;
        // When a loss is declared depends on what else comes and on the clock; when the message was last seen does not.
        let last = self.half(direction).last;
        self.settle_orphan(direction, last, shared);
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
        half.told = place.offset + (len - beyond);
        let in_body = missing > 0 || over;
        half.damaged |= in_body;
        let of_unknown_end = matches!(half.step, Step::Chunked(_));
        if missing > 0 {
            self.body_missing(direction, missing, shared);
        }
        if over {
            self.end_message(direction, last, shared);
        }
        self.half_mut(direction).told = place.offset + len;
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

    fn finished(&mut self, place: ByteInfo, shared: &mut Http<X>) {
        if self.phase == Phase::Reading {
            self.end_half(place.direction, true, place.time, shared);
        }
    }

    /// What is still open ended with its last byte: the time of the end may be the clock's, not a packet's.
    fn close(mut self, end: FlowEnd, shared: &mut Http<X>) {
        if self.phase == Phase::Reading {
            for direction in [Direction::Originator, Direction::Responder] {
                let last = self.half(direction).last;
                self.end_half(direction, end == FlowEnd::Fin, last, shared);
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
        let lost = server.is_some_and(|server| server.lost >= MESSAGE_BYTES_MIN);
        let last = self.originator.last.max(self.responder.last);
        self.pairing.close(why, lost, last, shared);
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
    fn read<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        input: &mut Input<'_>,
        shared: &mut Http<X>,
    ) {
        match (self.phase, &self.half(direction).step) {
            (Phase::Ignored, _) => {
                shared.counters.bytes_ignored += input.take(usize::MAX).len() as u64;
            }
            (Phase::Tunnel, _) | (_, Step::Hold) => {
                shared.counters.bytes_tunnelled += input.take(usize::MAX).len() as u64;
            }
            (_, Step::Start) => self.start(direction, input, shared),
            (_, Step::Head) => self.collect(direction, input, shared),
            (_, Step::Hunt) => self.hunt(direction, input, shared),
            (_, Step::Orphan(_)) => self.orphan_body(direction, input, shared),
            (_, Step::Length(_) | Step::Chunked(_) | Step::UntilClose) => {
                self.body(direction, input, shared);
            }
        }
    }

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
        let start = Start {
            offset: input.offset,
            time: input.time,
            acked: input.acked,
            now: input.time,
        };
        match self.read_head(direction, side, input.bytes, start, shared) {
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
                self.ignore(Speech::Other, shared);
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
        shared.counters.bytes_ignored +=
            (self.originator.buffer.len() + self.responder.buffer.len()) as u64;
        self.phase = Phase::Ignored;
        self.release_buffers(shared);
    }

    fn release_buffers<X: Exchanges<Draft = D>>(&mut self, shared: &mut Http<X>) {
        shared.buffers.release(&mut self.originator.buffer);
        shared.buffers.release(&mut self.responder.buffer);
    }
}
