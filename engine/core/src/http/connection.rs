//! One flow, read by the reader of its protocol.
//!
//! Which side is the client is decided by the first start line in either direction, never by ports: a port list only
//! selects the flows that are read. A reader that recognises the end of its protocol gives the connection up, and the next
//! one starts where it stopped ([`HandOver`]).

use super::h1;
use super::h2;
use super::hand_over::HandOver;
use super::unread::Unread;
use super::websocket;
use crate::flow::{ByteInfo, Consumer, Direction, FlowEnd, FlowStart};
use crate::http::{Exchanges, Http, Protocol};

/// The reader of one flow; `D` is [`Exchanges::Draft`].
#[derive(Debug)]
pub struct Connection<D> {
    reader: Reader<D>,
}

/// By protocol.
#[derive(Debug)]
enum Reader<D> {
    Http1(h1::Connection<D>),
    Http2(h2::Connection<D>),
    WebSocket(websocket::Connection<D>),
    Unread(Unread<D>),
}

const _: () = assert!(
    size_of::<h2::Connection<[usize; 2]>>() <= size_of::<h1::Connection<[usize; 2]>>(),
    "HTTP/2 makes no flow larger"
);
const _: () = assert!(
    size_of::<websocket::Connection<[usize; 2]>>() <= size_of::<h1::Connection<[usize; 2]>>(),
    "WebSocket makes no flow larger"
);

impl<D> Reader<D> {
    /// Starts the reader of the protocol that follows.
    fn start<X: Exchanges<Draft = D>>(hand_over: HandOver<D>, shared: &mut Http<X>) -> Self {
        if matches!(hand_over.to, Protocol::Http2 | Protocol::Http2Midstream) {
            // It counts the connection once that is certain.
            return Self::Http2(h2::Connection::new(hand_over, shared));
        }
        if !hand_over.in_tunnel {
            shared.recognised(hand_over.to, &hand_over.flow, hand_over.client);
        } else if let Some(tunnels) = hand_over.to.tunnels(&mut shared.counters) {
            *tunnels += 1;
        }
        if hand_over.to == Protocol::WebSocket {
            Self::WebSocket(websocket::Connection::new(hand_over, shared))
        } else if hand_over.to.is_read() {
            Self::Http1(h1::Connection::new(hand_over, shared))
        } else {
            Self::Unread(Unread::new(hand_over))
        }
    }
}

impl<D> Connection<D> {
    /// Starts the next reader, and gives it the bytes that the one before has left: those that it had collected, then
    /// `rest` of the bytes at hand.
    #[cold]
    fn hand_over<X: Exchanges<Draft = D>>(
        &mut self,
        rest: Option<(ByteInfo, &[u8])>,
        shared: &mut Http<X>,
    ) {
        let hand_over = match &mut self.reader {
            Reader::Http1(reader) => reader.give_up(shared),
            Reader::Http2(reader) => reader.give_up(shared),
            Reader::WebSocket(_) | Reader::Unread(_) => None,
        };
        let Some(mut hand_over) = hand_over else {
            return;
        };
        let remainders = std::mem::take(&mut hand_over.remainders);
        self.reader = Reader::start(hand_over, shared);
        for mut remainder in remainders.into_iter().flatten() {
            if !remainder.bytes.is_empty() {
                self.data(remainder.place, &remainder.bytes, shared);
            }
            shared.buffers.release(&mut remainder.bytes);
        }
        if let Some((place, rest)) = rest.filter(|(_, rest)| !rest.is_empty()) {
            self.data(place, rest, shared);
        }
    }
}

impl<X: Exchanges<Draft = D>, D> Consumer<Http<X>> for Connection<D> {
    fn open(flow: &FlowStart, shared: &mut Http<X>) -> Self {
        let ports = &shared.config.ports;
        let is_wanted = ports.contains(flow.originator.port) || ports.contains(flow.responder.port);
        let protocol = if is_wanted {
            Protocol::Detecting
        } else {
            Protocol::Unwanted
        };
        Self {
            reader: Reader::start(HandOver::of_new_flow(flow, protocol), shared),
        }
    }

    fn data(&mut self, mut place: ByteInfo, bytes: &[u8], shared: &mut Http<X>) {
        match &mut self.reader {
            Reader::Http1(reader) => {
                let rest = reader.data(place, bytes, shared);
                if reader.is_over() {
                    place.offset += (bytes.len() - rest.len()) as u64;
                    self.hand_over(Some((place, rest)), shared);
                }
            }
            Reader::Http2(reader) => {
                let rest = reader.data(place, bytes, shared);
                if reader.is_over() {
                    place.offset += (bytes.len() - rest.len()) as u64;
                    self.hand_over(Some((place, rest)), shared);
                }
            }
            Reader::WebSocket(reader) => reader.data(place, bytes, shared),
            Reader::Unread(reader) => reader.data(bytes, shared),
        }
    }

    fn gap(&mut self, place: ByteInfo, len: u64, shared: &mut Http<X>) {
        match &mut self.reader {
            Reader::Http1(reader) => {
                reader.gap(place, len, shared);
                if reader.is_over() {
                    self.hand_over(None, shared);
                }
            }
            Reader::Http2(reader) => reader.gap(place, len, shared),
            Reader::WebSocket(reader) => reader.gap(place, len, shared),
            Reader::Unread(_) => {}
        }
    }

    fn cut(&mut self, place: ByteInfo, len: u64, shared: &mut Http<X>) {
        if let Reader::Http1(reader) = &mut self.reader {
            reader.read_cut_head(place.direction, shared);
        }
        self.gap(place, len, shared);
        if let Reader::Http2(reader) = &mut self.reader {
            reader.note_cut(place.direction);
        }
    }

    fn finished(&mut self, place: ByteInfo, shared: &mut Http<X>) {
        match &mut self.reader {
            Reader::Http1(reader) => {
                reader.finished(place, shared);
                if reader.is_over() {
                    self.hand_over(None, shared);
                }
            }
            Reader::Http2(reader) => reader.finished(place, shared),
            Reader::WebSocket(_) | Reader::Unread(_) => {}
        }
    }

    fn close(mut self, end: FlowEnd, shared: &mut Http<X>) {
        if let Reader::Http1(reader) = &mut self.reader {
            reader.end(end, shared);
            if reader.is_over() {
                self.hand_over(None, shared);
            }
        }
        match self.reader {
            Reader::Http1(reader) => reader.close(end, shared),
            Reader::Http2(reader) => reader.close(end, shared),
            Reader::WebSocket(reader) => reader.close(end, shared),
            Reader::Unread(reader) => reader.close(end, shared),
        }
    }

    fn ignores(&self, direction: Direction) -> bool {
        match &self.reader {
            Reader::Http1(_) => false,
            Reader::Http2(reader) => reader.ignores(direction),
            Reader::WebSocket(reader) => reader.is_over(),
            Reader::Unread(_) => true,
        }
    }
}
