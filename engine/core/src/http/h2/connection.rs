//! The reader of one HTTP/2 connection, RFC 9113.
//!
//! Each direction is read frame by frame, its header blocks as their bytes come, its bodies by reference. Nothing is
//! collected but what of a head does not lie in one piece. Of a connection that is joined late, or that lost a frame, what
//! is not known stays unknown ([`hpack`](super::hpack)), and the next frame is looked for ([`resync`]).
//!
//! A peer that breaks the framing or the header table ends the reading of its direction; the other direction goes on.

mod bodies;
mod control;
mod exchanges;
mod frames;
mod heads;
mod resync;
mod upgrade;

use super::frame::{Kind, NO_ERROR};
use super::reading::{Input, Reading, Step};
use super::streams::Streams;
use super::tables::Key;
use crate::flow::{ByteInfo, Direction, FlowEnd, FlowStart, PerDirection};
use crate::http::h1::Chunked;
use crate::http::hand_over::{BodyLeft, HandOver};
use crate::http::{Exchanges, Http, Opening, Protocol, Side, UnpairedReason};

/// Reads one HTTP/2 connection; `D` is [`Exchanges::Draft`].
#[derive(Debug)]
pub(in crate::http) struct Connection<D> {
    flow: FlowStart,
    /// Known since the preface, or since a head.
    client: Option<Direction>,
    /// It is not HTTP/2: what follows.
    next: Option<Protocol>,
    /// The connection is what a CONNECT opened.
    in_tunnel: bool,
    /// Its beginning was not seen.
    is_midstream: bool,
    /// It is certain that it is HTTP/2.
    is_confirmed: bool,
    /// Exchanges begun.
    calls: u64,
    readings: PerDirection<Reading>,
    streams: Streams<D>,
    /// Memory of the streams, as it was counted.
    held: usize,
    tables: Option<Key>,
    /// The chunked body of the request of an upgrade, as long as it is not over.
    chunked: Option<Box<Chunked>>,
}

/// What [`Connection`](crate::http::Connection) calls.
impl<D> Connection<D> {
    /// Takes over a connection: at its preface, in its midst, or, where the client is known, behind the answer to an
    /// upgrade, whose request waits.
    pub(in crate::http) fn new<X: Exchanges<Draft = D>>(
        hand_over: HandOver<D>,
        shared: &mut Http<X>,
    ) -> Self {
        let is_midstream = hand_over.to == Protocol::Http2Midstream;
        let mut connection = Self {
            flow: hand_over.flow,
            client: hand_over.client,
            next: None,
            in_tunnel: hand_over.in_tunnel,
            is_midstream,
            is_confirmed: false,
            calls: hand_over.calls,
            readings: PerDirection {
                originator: Reading::new(is_midstream || hand_over.lost.originator),
                responder: Reading::new(is_midstream || hand_over.lost.responder),
            },
            streams: Streams::default(),
            held: 0,
            tables: None,
            chunked: None,
        };
        let mut waiting = hand_over.waiting.into_iter();
        if let Some(client) = connection.client {
            connection.upgrade(client, waiting.next(), hand_over.body_left, shared);
        }
        for draft in waiting {
            // Their response would have to come in the protocol before.
            shared.unpaired(draft, UnpairedReason::Closed);
        }
        connection
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
        self.readings[direction].last = place.time;
        while !input.bytes.is_empty() && self.next.is_none() {
            self.read(direction, &mut input, shared);
        }
        if self.readings[direction].open.is_some() {
            self.count_open_block(direction, shared);
        }
        input.bytes
    }

    /// `len` bytes of one direction were never captured.
    pub(in crate::http) fn gap<X: Exchanges<Draft = D>>(
        &mut self,
        place: ByteInfo,
        len: u64,
        shared: &mut Http<X>,
    ) {
        let direction = place.direction;
        let mut len = len;
        while len > 0 && self.next.is_none() {
            let reading = &mut self.readings[direction];
            match reading.step {
                Step::Data | Step::Skip => {
                    let missing = u64::from(reading.left).min(len);
                    reading.left -= missing as u32;
                    len -= missing;
                    if reading.step == Step::Data {
                        self.body_missing(direction, missing, shared);
                    }
                    self.end_payload(direction, shared);
                }
                Step::Padding => {
                    let missing = u64::from(reading.padding).min(len);
                    reading.padding -= missing as u8;
                    len -= missing;
                    self.end_padding(direction, shared);
                }
                Step::Settings => {
                    // The size of a table may be among them.
                    (reading.step, reading.table_size) = (Step::Skip, u32::MAX);
                }
                Step::UpgradedBody => len -= self.upgraded_body_missing(direction, len, shared),
                // Where the padding begins, or what the codes are, is lost with it.
                Step::Prefix if !reading.frame.has_block() => {
                    let frame = reading.frame;
                    reading.left = reading.left_behind_prefix();
                    reading.step = Step::Skip;
                    self.damage_frame(direction);
                    if frame.kind() == Kind::Reset {
                        // Whatever its code is, the stream is over.
                        self.reset(direction, frame.stream, NO_ERROR, shared);
                    }
                }
                Step::Stopped => len = 0,
                Step::Preface(_) | Step::Header | Step::Prefix | Step::Fragment | Step::Resync => {
                    len = 0;
                    self.lose(direction, shared);
                }
            }
        }
    }

    /// FIN of one direction.
    pub(in crate::http) fn finished<X: Exchanges<Draft = D>>(
        &mut self,
        place: ByteInfo,
        shared: &mut Http<X>,
    ) {
        self.readings[place.direction].is_finished = true;
        match self.side(place.direction) {
            Some(Side::Request) => self.end_requests(shared),
            Some(Side::Response) => self.end_all(self.reason(UnpairedReason::Closed), shared),
            None => {}
        }
    }

    /// The flow is over.
    pub(in crate::http) fn close<X: Exchanges<Draft = D>>(
        mut self,
        end: FlowEnd,
        shared: &mut Http<X>,
    ) {
        let server = self.client.map(|client| &self.readings[client.reverse()]);
        let is_finished = server.is_some_and(|server| server.is_finished);
        let reason = if is_finished {
            UnpairedReason::Closed
        } else {
            end.into()
        };
        self.end_all(self.reason(reason), shared);
        self.release(shared);
        if !self.is_confirmed && !self.in_tunnel {
            shared.recognised(Protocol::Other, &self.flow, None);
        }
    }

    /// What was missing last was cut off by a snap length or a mirror.
    #[cold]
    pub(in crate::http) fn note_cut(&mut self, direction: Direction) {
        let reading = &mut self.readings[direction];
        reading.is_cut |= reading.step == Step::Resync;
    }

    /// Whether what follows is not of this protocol.
    pub(in crate::http) fn is_over(&self) -> bool {
        self.next.is_some()
    }

    /// Whether further bytes of this direction are not needed.
    pub(in crate::http) fn ignores(&self, direction: Direction) -> bool {
        self.readings[direction].step == Step::Stopped
    }

    /// Leaves the connection to the next reader; nothing if there is none.
    pub(in crate::http) fn give_up<X: Exchanges<Draft = D>>(
        &mut self,
        shared: &mut Http<X>,
    ) -> Option<HandOver<D>> {
        let to = self.next?;
        // A client may have sent requests before the server refuses the protocol: none of them is answered in it.
        self.end_all(UnpairedReason::Closed, shared);
        self.release(shared);
        Some(HandOver {
            flow: self.flow,
            to,
            client: self.client,
            in_tunnel: self.in_tunnel,
            calls: self.calls,
            waiting: Vec::new(),
            opening: Opening::default(),
            body_left: BodyLeft::Nothing,
            lost: PerDirection::default(),
            remainders: [None, None],
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

    /// The direction of a side; the originator's requests as long as that is not known.
    fn direction(&self, side: Side) -> Direction {
        let client = self.client.unwrap_or(Direction::Originator);
        match side {
            Side::Request => client,
            Side::Response => client.reverse(),
        }
    }

    /// Why a response that does not come is missing: bytes that were not read explain it before all else.
    fn reason(&self, otherwise: UnpairedReason) -> UnpairedReason {
        let server = &self.readings[self.direction(Side::Response)];
        let is_lossy = server.is_lossy && !self.is_midstream;
        if is_lossy || server.step == Step::Stopped {
            self.loss(Side::Response)
        } else {
            otherwise
        }
    }

    /// Why a message of this side is missing whose frames were lost.
    fn loss(&self, side: Side) -> UnpairedReason {
        if self.readings[self.direction(side)].is_cut {
            UnpairedReason::Truncated
        } else {
            UnpairedReason::Gap
        }
    }

    /// It is HTTP/2.
    fn confirm<X: Exchanges<Draft = D>>(&mut self, shared: &mut Http<X>) {
        if std::mem::replace(&mut self.is_confirmed, true) {
            return;
        }
        if self.in_tunnel {
            shared.counters.tunnels_http2 += 1;
        } else if self.is_midstream {
            shared.counters.flows_http2 += 1;
            shared.recognised(Protocol::Http2Midstream, &self.flow, self.client);
        } else {
            shared.recognised(Protocol::Http2, &self.flow, self.client);
        }
    }

    /// Frees the memory that is counted elsewhere.
    fn release<X: Exchanges<Draft = D>>(&mut self, shared: &mut Http<X>) {
        for reading in self.readings.both_mut() {
            shared.counters.bytes_passed_over += reading.held.len() as u64;
            shared.buffers.release(&mut reading.held);
            if let Some(open) = reading.open.take() {
                shared.buffers.let_go(open.held);
                shared.h2.recycle(open);
            }
        }
        if let Some(key) = self.tables.take() {
            shared.h2.tables.close(key);
        }
        shared.buffers.let_go(std::mem::take(&mut self.held));
    }
}
