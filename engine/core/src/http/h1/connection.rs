//! The reader of one HTTP/1 connection, RFC 9112.
//!
//! It also reads a flow whose protocol is not known yet: the first start line in either direction makes it HTTP/1 and shows
//! which side is the client; bytes that [`detect`] recognises as something else end the reading. A direction whose
//! beginning was not seen, or that lost bytes between messages, looks for the next start line, and bytes passed over are
//! counted ([`resync`]). A gap within a body of known length only subtracts from it.
//!
//! A 101 changes the protocol of both directions. Where it may be among lost bytes, the client's next bytes show it ([`switch`]).
//!
//! Nothing is copied except heads and lines that do not lie in one piece ([`Collected`](super::direction::Collected)).

mod bodies;
mod cut;
mod heads;
mod held;
mod resync;
mod switch;
mod trial;

use memchr::memchr;

use super::asked::Asked;
use super::direction::{Input, Reading, Step, Unanswered};
use super::head::Fault;
use super::pairing::Pairing;
use crate::flow::{ByteInfo, Direction, FlowEnd, FlowStart, PerDirection};
use crate::http::detect::{self, Detected};
use crate::http::h2::Chain;
use crate::http::hand_over::HandOver;
use crate::http::{Exchanges, Http, Opening, Protocol, Side, UnpairedReason};

/// Reads one HTTP/1 connection; `D` is [`Exchanges::Draft`].
#[derive(Debug)]
pub(in crate::http) struct Connection<D> {
    flow: FlowStart,
    /// What follows, once this reader has to give the connection up.
    next: Option<Protocol>,
    /// What a handshake of WebSocket has opened, if that follows.
    opened: Option<Box<(D, Opening)>>,
    /// What the last request that asks for another protocol asks for.
    asked: Option<Box<Asked>>,
    /// The server has changed the protocol in bytes that were lost.
    has_lost_switch: bool,
    /// Known since the first start line.
    client: Option<Direction>,
    /// The first bytes of both directions have to be messages, if this is HTTP.
    from_start: bool,
    /// What the first bytes of one direction are, which is held until the other one has shown its first bytes: a server
    /// answers in HTTP also what is no request.
    pending: Option<Protocol>,
    /// The connection is what a CONNECT opened.
    in_tunnel: bool,
    /// A request that acknowledges less of the responses may lie within the body of one whose length cannot be believed.
    doubtful_until: u64,
    /// What is read was held because of a length that cannot be believed.
    in_trial: bool,
    /// Frames of HTTP/2 that a flow which is not known yet may consist of.
    frames: PerDirection<Chain>,
    readings: PerDirection<Reading>,
    pairing: Pairing<D>,
}

/// What [`Connection`](crate::http::Connection) calls.
impl<D> Connection<D> {
    /// Takes over a connection on which no start line was seen.
    pub(in crate::http) fn new<X: Exchanges<Draft = D>>(
        hand_over: HandOver<D>,
        shared: &mut Http<X>,
    ) -> Self {
        for draft in hand_over.waiting {
            // Their response would have to come in the protocol before.
            shared.unpaired(draft, UnpairedReason::Closed);
        }
        let flow = hand_over.flow;
        // Of a tunnel the first byte is seen.
        let seen = FlowStart {
            midstream: flow.midstream && !hand_over.in_tunnel,
            ..flow
        };
        Self {
            flow,
            next: None,
            opened: None,
            asked: None,
            has_lost_switch: false,
            client: None,
            from_start: !seen.midstream,
            pending: None,
            doubtful_until: 0,
            in_trial: false,
            frames: PerDirection::default(),
            in_tunnel: hand_over.in_tunnel,
            readings: PerDirection {
                originator: Reading::new(seen.midstream),
                responder: Reading::new(seen.midstream),
            },
            pairing: Pairing::new(&seen, hand_over.calls),
        }
    }

    /// Reads bytes of one direction, and returns those that are not of this protocol: if any, the reading is over.
    pub(in crate::http) fn data<'a, X: Exchanges<Draft = D>>(
        &mut self,
        place: ByteInfo,
        bytes: &'a [u8],
        shared: &mut Http<X>,
    ) -> &'a [u8] {
        let direction = place.direction;
        let mut input = Input::new(&place, bytes);
        if self.client == Some(direction.reverse()) {
            self.read_simple_request(place.time, shared);
        }
        while !input.bytes.is_empty() && self.next.is_none() {
            self.read(direction, &mut input, shared);
        }
        let reading = &mut self.readings[direction];
        (reading.position, reading.last) = (input.offset, place.time);
        input.bytes
    }

    /// `len` bytes of one direction were never captured.
    pub(in crate::http) fn gap<X: Exchanges<Draft = D>>(
        &mut self,
        place: ByteInfo,
        len: u64,
        shared: &mut Http<X>,
    ) {
        if len == 0 {
            return;
        }
        let direction = place.direction;
        for direction in Direction::BOTH {
            self.end_trial(direction, None, true, shared);
        }
        self.from_start = false;
        if self.pending.is_some() {
            self.next = self.pending;
            return;
        }
        // When a gap is declared depends on what else comes and on the clock; when the message was last seen does not.
        let last = self.readings[direction].last;
        self.read_orphan_body(direction, last, shared);
        let reading = &mut self.readings[direction];
        // What is missing of the body, whether the body is over with it, and what is missing behind it.
        let (missing, is_over, beyond) = match &mut reading.step {
            Step::Length(remaining) => {
                let missing = len.min(*remaining);
                *remaining -= missing;
                (missing, *remaining == 0, len - missing)
            }
            Step::Chunked(chunked) => {
                if chunked.skip(len) {
                    (len, false, 0)
                } else {
                    // How much of the rest was body is unknown: the rest of this chunk at least.
                    (chunked.remaining(), true, len)
                }
            }
            // How much of the rest was body is unknown.
            Step::FirstSize => (0, true, len),
            Step::UntilClose => (len, false, 0),
            Step::Start
            | Step::Head(_)
            | Step::Resync
            | Step::Hold(_)
            | Step::Orphan(_)
            | Step::Trial(_) => (0, false, len),
        };
        reading.position = place.offset + (len - beyond);
        reading.damaged |= missing > 0 || is_over;
        let of_unknown_end = matches!(reading.step, Step::Chunked(_) | Step::FirstSize);
        if missing > 0 {
            self.body_missing(direction, missing, shared);
        }
        if is_over {
            self.end_message(direction, last, shared);
        }
        self.readings[direction].position = place.offset + len;
        if beyond > 0 {
            self.count_cut_head(direction, shared);
            let reading = &mut self.readings[direction];
            reading.gapped = true;
            if matches!(reading.step, Step::Start | Step::Head(_)) && !of_unknown_end {
                reading.unanswered = Unanswered::Message;
            } else if reading.unanswered == Unanswered::Nothing {
                reading.unanswered = Unanswered::End;
            }
            self.lose(direction, beyond, shared);
            self.await_switch(direction, shared);
        }
    }

    /// FIN of one direction.
    pub(in crate::http) fn finished<X: Exchanges<Draft = D>>(
        &mut self,
        place: ByteInfo,
        shared: &mut Http<X>,
    ) {
        self.end_direction(place.direction, true, place.time, shared);
    }

    /// Neither direction goes on. What is open ended with its last byte: the time of the end may be the clock's, not a
    /// packet's.
    pub(in crate::http) fn end<X: Exchanges<Draft = D>>(
        &mut self,
        end: FlowEnd,
        shared: &mut Http<X>,
    ) {
        if let Some(client) = self.client {
            self.end_trial(client.reverse(), None, false, shared);
            self.end_trial(client, None, false, shared);
        }
        for direction in Direction::BOTH {
            let last = self.readings[direction].last;
            self.end_direction(direction, end == FlowEnd::Fin, last, shared);
        }
        if self.pending.is_some() {
            self.next = self.pending;
        } else if let Some(client) = self.client
            && matches!(self.readings[client].step, Step::Hold(_))
        {
            // Whether they are bytes of a tunnel will not be known.
            self.lose(client, 0, shared);
        }
    }

    /// The flow is over.
    pub(in crate::http) fn close<X: Exchanges<Draft = D>>(
        mut self,
        end: FlowEnd,
        shared: &mut Http<X>,
    ) {
        let server = self.client.map(|client| &self.readings[client.reverse()]);
        let reason = match server {
            Some(server) if server.gapped => UnpairedReason::Gap,
            Some(server) if server.finished => UnpairedReason::Closed,
            _ => end.into(),
        };
        let lost = server.is_some_and(Reading::may_have_lost_message);
        let [originator, responder] = self.readings.both();
        let last = originator.last.max(responder.last);
        self.pairing.close(reason, lost, last, shared);
        for reading in self.readings.both_mut() {
            shared.buffers.release(&mut reading.collected.bytes);
        }
    }

    /// Whether what follows is not of this protocol.
    pub(in crate::http) fn is_over(&self) -> bool {
        self.next.is_some()
    }

    /// Leaves the connection to the next reader; nothing if there is none.
    pub(in crate::http) fn give_up<X: Exchanges<Draft = D>>(
        &mut self,
        shared: &mut Http<X>,
    ) -> Option<HandOver<D>> {
        let to = self.next?;
        let in_tunnel = to == Protocol::Detecting || self.in_tunnel;
        for reading in self.readings.both_mut() {
            if let Step::Hold(dropped) = reading.step {
                let unread = if in_tunnel { Protocol::Tunnel } else { to };
                *unread.bytes(&mut shared.counters) += dropped;
            }
        }
        let remainders =
            Direction::BOTH.map(|direction| self.readings[direction].collected.give_up(direction));
        let body_left = self.upgraded_body_left(to);
        let is_new = self.client.is_none();
        let is_lost = is_new || self.has_lost_switch;
        let lost = PerDirection {
            originator: is_lost && self.readings.originator.gapped,
            responder: is_lost && self.readings.responder.gapped,
        };
        let mut waiting = self.pairing.give_up(shared);
        if self.has_lost_switch {
            // The answers of those before the last one are lost, and that of a handshake.
            let left = usize::from(to == Protocol::Http2);
            for draft in waiting.drain(..waiting.len().saturating_sub(left)) {
                shared.unpaired(draft, UnpairedReason::Gap);
            }
        }
        let mut opening = Opening::default();
        if let Some(opened) = self.opened.take() {
            // Nothing on the connection is an answer to requests that still wait.
            for draft in waiting.drain(..) {
                shared.unpaired(draft, UnpairedReason::Closed);
            }
            waiting.push(opened.0);
            opening = opened.1;
        }
        Some(HandOver {
            flow: self.flow,
            to,
            client: self.client,
            in_tunnel,
            calls: self.pairing.calls(),
            waiting,
            opening,
            body_left,
            lost,
            remainders,
        })
    }
}

impl<D> Connection<D> {
    /// What `direction` carries, once that is known.
    fn side(&self, direction: Direction) -> Option<Side> {
        let client = self.client?;
        Some(if client == direction {
            Side::Request
        } else {
            Side::Response
        })
    }

    /// Reads some of `input`, or recognises what it is.
    fn read<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        input: &mut Input<'_>,
        shared: &mut Http<X>,
    ) {
        match &self.readings[direction].step {
            Step::Hold(_) => self.hold(direction, input, shared),
            Step::Start => self.start(direction, input, shared),
            Step::Head(_) => self.collect(direction, input, shared),
            Step::Resync => self.resync(direction, input, shared),
            Step::Orphan(_) => self.collect_orphan_body(direction, input, shared),
            Step::Trial(_) => self.hold_body(direction, input, shared),
            Step::FirstSize => self.collect_first_size(direction, input, shared),
            Step::Length(_) | Step::Chunked(_) | Step::UntilClose => {
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
        if side == Side::Response && self.may_answer_held(direction) {
            self.readings[direction].step = Step::Hold(0);
            return;
        }
        match self.read_head(direction, side, input.bytes, input.start(), shared) {
            Ok(length) => {
                input.take(length);
            }
            Err(Fault::Partial | Fault::Folded { .. }) => self.collect_from(direction, input),
            Err(Fault::Malformed) if detect::blank_lines(input.bytes) > 0 => {
                input.take(detect::blank_lines(input.bytes));
            }
            Err(Fault::Malformed) if self.has_switched(direction, input.bytes, shared) => {}
            Err(Fault::Malformed) => {
                shared.counters.heads_malformed += 1;
                self.leave_head(direction, Unanswered::End);
                self.readings[direction].step = Step::Resync;
            }
            Err(Fault::TooMany) => {
                shared.counters.heads_oversized += 1;
                self.leave_head(direction, Unanswered::Message);
                let line = memchr(b'\n', input.bytes).map_or(input.bytes.len(), |end| end + 1);
                self.pass_over(direction, input.take(line).len(), shared);
                self.readings[direction].step = Step::Resync;
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
            Detected::Partial => self.collect_from(direction, input),
            Detected::Unknown if detect::blank_lines(input.bytes) > 0 => {
                input.take(detect::blank_lines(input.bytes));
            }
            detected => self.recognise(direction, detected, shared),
        }
    }

    /// Acts on what the first bytes of a direction are.
    fn recognise<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        detected: Detected,
        shared: &mut Http<X>,
    ) {
        match detected {
            Detected::Partial => {}
            Detected::Request | Detected::Simple => self.set_client(direction, shared),
            Detected::Response => self.set_client(direction.reverse(), shared),
            // Frames may follow at once, each at its own time, so nothing is held.
            Detected::Protocol(Protocol::Http2) => self.next = Some(Protocol::Http2),
            Detected::Protocol(protocol) => self.wait_for_other(direction, protocol),
            Detected::Unknown
                if self.in_tunnel || (self.from_start && shared.config.ports.is_any()) =>
            {
                self.wait_for_other(direction, Protocol::Other);
            }
            Detected::Preamble | Detected::Unknown => {
                // In both directions: the answer to a preamble is no message either.
                self.from_start = false;
                let reading = &mut self.readings[direction];
                reading.step = Step::Resync;
                if detected == Detected::Unknown && direction == Direction::Originator {
                    reading.miss_message(Unanswered::End);
                }
            }
        }
        if self.client.is_some() && self.pending.take().is_some() {
            let held = direction.reverse();
            self.readings[held].miss_message(Unanswered::End);
            self.read_held(held, Step::Resync, shared);
        }
    }

    /// The first bytes of `direction` are of this protocol, unless the other direction begins with a message: a client's
    /// are held until the server's are seen, and name the protocol if those are no message. A server sends first only where
    /// it has no request to wait for, so that its bytes decide, except in a tunnel, where the answer to the CONNECT may have
    /// been followed by a body.
    fn wait_for_other(&mut self, direction: Direction, protocol: Protocol) {
        let may_wait = self.from_start && (direction == Direction::Originator || self.in_tunnel);
        match self.pending {
            None if may_wait => {
                self.pending = Some(protocol);
                self.readings[direction].step = Step::Hold(0);
            }
            Some(first) if direction == Direction::Responder => self.next = Some(first),
            _ => self.next = Some(protocol),
        }
    }

    fn set_client<X: Exchanges<Draft = D>>(&mut self, client: Direction, shared: &mut Http<X>) {
        if self.client.is_none() {
            self.client = Some(client);
            if self.in_tunnel {
                shared.counters.tunnels_http += 1;
            } else {
                shared.recognised(Protocol::Http1, &self.flow, self.client);
            }
        }
    }
}
