//! Bodies: DATA passed on by reference, with what is missing of it.

use super::Connection;
use crate::flow::Direction;
use crate::http::h2::frame::Kind;
use crate::http::h2::streams::{State, Stream};
use crate::http::{Exchanges, Http, Side};
use crate::time::Timestamp;

impl<D> Connection<D> {
    /// The next bytes of a DATA frame.
    #[inline]
    pub(super) fn body<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        bytes: &[u8],
        shared: &mut Http<X>,
    ) {
        let side = self.side(direction);
        let reading = &self.readings[direction];
        let (id, time) = (reading.frame.stream, reading.last);
        let Some((side, stream)) = side.zip(self.streams.get(id)) else {
            shared.counters.bytes_ignored += bytes.len() as u64;
            return;
        };
        if stream.is_connect {
            return tunnelled(stream, side, bytes, time, shared);
        }
        let is_head = stream.is_head && side == Side::Response;
        let part = stream.part(side);
        part.received += bytes.len() as u64;
        let is_open = part.state == State::Open && !is_head;
        match &mut stream.draft {
            Some(draft) if is_open => {
                if !bytes.is_empty() {
                    shared.exchanges.body(draft, side, bytes, time);
                }
            }
            _ => shared.counters.bytes_ignored += bytes.len() as u64,
        }
    }

    /// `count` bytes of a DATA frame were never captured.
    #[cold]
    pub(super) fn body_missing<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        count: u64,
        shared: &mut Http<X>,
    ) {
        let side = self.side(direction);
        let id = self.readings[direction].frame.stream;
        let Some((side, stream)) = side.zip(self.streams.get(id)) else {
            return;
        };
        let (is_connect, is_head) = (stream.is_connect, stream.is_head);
        if let Some(websocket) = &mut stream.websocket {
            websocket.missing(side, count, shared);
        }
        let part = stream.part(side);
        part.is_damaged = true;
        let is_body =
            part.state == State::Open && !is_connect && !(is_head && side == Side::Response);
        if let Some(draft) = stream.draft.as_mut().filter(|_| is_body) {
            *match side {
                Side::Request => &mut shared.counters.request_bytes_missing,
                Side::Response => &mut shared.counters.response_bytes_missing,
            } += count;
            shared.exchanges.missing(draft, side, count);
        }
    }

    /// How much of the frame at hand is body cannot be known.
    pub(super) fn damage_frame(&mut self, direction: Direction) {
        let frame = self.readings[direction].frame;
        let side = self.side(direction).filter(|_| frame.kind() == Kind::Data);
        if let Some((side, stream)) = side.zip(self.streams.get(frame.stream)) {
            stream.part(side).is_damaged = true;
            if let Some(websocket) = &mut stream.websocket {
                websocket.lose(side);
            }
        }
    }
}

/// Bytes of what a CONNECT has opened, or will open.
#[cold]
fn tunnelled<X: Exchanges>(
    stream: &mut Stream<X::Draft>,
    side: Side,
    bytes: &[u8],
    time: Timestamp,
    shared: &mut Http<X>,
) {
    let Some(websocket) = &mut stream.websocket else {
        shared.counters.bytes_tunnelled += bytes.len() as u64;
        // A frame that comes before the answer is not read.
        stream.part(side).is_damaged |= !bytes.is_empty();
        return;
    };
    if !websocket.data(side, bytes, time, shared)
        && let Some(websocket) = stream.websocket.take()
    {
        websocket.conclude(true, shared);
    }
}
