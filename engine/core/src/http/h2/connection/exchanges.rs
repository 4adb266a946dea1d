//! Exchanges on their streams: from heads to what is reported, and how each ends.
//!
//! | a stream | left by |
//! | --- | --- |
//! | none | HEADERS of the client on a new odd id, PUSH_PROMISE, HEADERS of the server where the request may be lost → open |
//! | open | END_STREAM of both sides, RST_STREAM, GOAWAY below its id, a 2xx to CONNECT, the end of the connection, eviction |
//! | tunnel (CONNECT) | END_STREAM of both sides, RST_STREAM, the end of the connection |

use super::Connection;
use crate::flow::Direction;
use crate::http::h2::block::{Block, Pseudo};
use crate::http::h2::reading::{Open, Step};
use crate::http::h2::streams::{Part, State, Stream};
use crate::http::header::emptied;
use crate::http::websocket;
use crate::http::{
    BodyEnd, Exchanges, Header, Http, MessageId, Origin, RequestHead, ResponseHead, Side,
    UnpairedReason, Version,
};
use crate::limits::HTTP2_STREAMS_MAX;
use crate::time::Timestamp;

impl<D> Connection<D> {
    /// A block is read: the head of a message, its trailers, or a promise.
    pub(super) fn message<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        open: &Open,
        shared: &mut Http<X>,
    ) {
        let Some(side) = self.side(direction) else {
            return;
        };
        match (side, open.promised) {
            (Side::Request, None) => self.request_block(direction, open, shared),
            (Side::Response, None) => self.response_block(direction, open, shared),
            (Side::Response, Some(promised)) => self.promise(direction, promised, open, shared),
            (Side::Request, Some(_)) => shared.counters.http2_frames_malformed += 1,
        }
        if open.ends_stream {
            self.end_side(direction, open.stream, shared);
        }
        self.settle_streams(shared);
    }

    /// Where a message was seen.
    pub(super) fn origin(&self, id: u32, call_index: u64, start: Timestamp) -> Origin<'_> {
        Origin {
            flow: &self.flow,
            client_is_originator: self.client != Some(Direction::Responder),
            call_index,
            message: MessageId::on_stream(id),
            time: start,
        }
    }

    fn request_block<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        open: &Open,
        shared: &mut Http<X>,
    ) {
        let id = open.stream;
        if let Some(stream) = self.streams.get(id) {
            return match stream.request.state {
                State::Open => self.trailers(Side::Request, open, shared),
                State::Ended => shared.counters.http2_messages_malformed += 1,
                State::Awaited => {}
            };
        }
        let reading = &mut self.readings[direction];
        let has_method = open.block.pseudo(Pseudo::Method).is_some();
        if id.is_multiple_of(2) || id <= reading.highest {
            // Trailers of a stream that is over may come late; a head may not.
            shared.counters.http2_messages_malformed += u64::from(has_method && !reading.is_lossy);
            return;
        }
        let may_be_trailers = reading.is_lossy && reading.may_have_opened(id);
        if may_be_trailers && !open.block.has_pseudo() && open.block.unknown == 0 {
            return;
        }
        reading.open_stream(id);
        self.open_exchange(id, open, false, shared);
        let server = &self.readings[direction.reverse()];
        if id > server.goaway
            && let Some(stream) = self.streams.remove(id)
        {
            shared.counters.http2_streams_refused += 1;
            self.conclude(stream, UnpairedReason::Refused, shared);
        }
    }

    fn response_block<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        open: &Open,
        shared: &mut Http<X>,
    ) {
        let (id, block) = (open.stream, &open.block);
        let status = block.status();
        if let Some(stream) = self.streams.get(id) {
            match (stream.response.state, status) {
                (State::Awaited, Some(100 | 102..=199)) => shared.counters.responses_interim += 1,
                (State::Awaited, None)
                    if block.pseudo(Pseudo::Status).is_none() && block.hidden() == 0 =>
                {
                    // No head: the trailers of one that was lost.
                    let is_lossy = self.readings[direction].is_lossy;
                    shared.counters.http2_messages_malformed += u64::from(!is_lossy);
                }
                (State::Awaited, _) => self.response_head(open, shared),
                (State::Open, None) => self.trailers(Side::Response, open, shared),
                (State::Open, Some(_)) | (State::Ended, _) => {
                    shared.counters.http2_messages_malformed += 1;
                }
            }
            return;
        }
        let opener = if id.is_multiple_of(2) {
            direction
        } else {
            direction.reverse()
        };
        let may_be_head = status.is_some_and(|status| !matches!(status, 100 | 102..=199))
            || (block.unknown > 0 && !open.ends_stream);
        if id > 0 && may_be_head && self.readings[opener].may_have_opened(id) {
            self.open_orphan(id, open, shared);
        }
    }

    /// A request that the server makes for the client (RFC 9113 §8.4).
    fn promise<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        promised: u32,
        open: &Open,
        shared: &mut Http<X>,
    ) {
        shared.counters.http2_pushes += 1;
        let reading = &mut self.readings[direction];
        if promised == 0 || !promised.is_multiple_of(2) || promised <= reading.highest {
            shared.counters.http2_messages_malformed += 1;
            return;
        }
        reading.open_stream(promised);
        self.open_exchange(promised, open, true, shared);
        self.end_part(promised, Side::Request, BodyEnd::Complete, shared);
    }

    /// Begins an exchange with the head of its request.
    fn open_exchange<X: Exchanges<Draft = D>>(
        &mut self,
        id: u32,
        open: &Open,
        is_pushed: bool,
        shared: &mut Http<X>,
    ) {
        self.admit_stream(shared);
        self.calls += 1;
        shared.counters.requests += 1;
        shared.counters.exchanges_opened += 1;
        let block = &open.block;
        let text = |pseudo| block.pseudo(pseudo).unwrap_or_default();
        let method = text(Pseudo::Method);
        let is_connect = method == b"CONNECT";
        let target = match block.pseudo(Pseudo::Path) {
            None if is_connect => text(Pseudo::Authority),
            None => b"",
            // Without an octet it is not the same as one that is unknown.
            Some(b"") => b"/",
            Some(path) => path,
        };
        let origin = self.origin(id, self.calls, open.start);
        let draft = with_headers(block, Side::Request, shared, |headers, shared| {
            let head = RequestHead {
                method,
                target,
                version: Version::Http2,
                headers,
                unknown_fields: block.hidden(),
                protocol: block.pseudo(Pseudo::Protocol),
                is_pushed,
            };
            shared.exchanges.request(&head, &origin)
        });
        let mut stream = Stream::new(id, self.calls, draft);
        stream.request = Part {
            state: State::Open,
            declared: block.content_length(),
            ..Part::AWAITED
        };
        let is_unknown = block.unknown > 0 && (method.is_empty() || target.is_empty());
        stream.unpaired = unpaired_reason(block, is_unknown);
        (stream.is_connect, stream.is_head) = (is_connect, method == b"HEAD");
        stream.is_websocket = is_connect
            && block
                .pseudo(Pseudo::Protocol)
                .is_some_and(|protocol| protocol.eq_ignore_ascii_case(b"websocket"));
        stream.is_pushed = is_pushed;
        self.add_stream(stream, shared);
    }

    /// Begins an exchange with the head of a response whose request was not seen.
    fn open_orphan<X: Exchanges<Draft = D>>(&mut self, id: u32, open: &Open, shared: &mut Http<X>) {
        self.admit_stream(shared);
        self.calls += 1;
        shared.counters.responses += 1;
        shared.counters.exchanges_opened += 1;
        shared.counters.orphans += 1;
        let block = &open.block;
        let origin = self.origin(id, self.calls, open.start);
        let draft = with_headers(block, Side::Response, shared, |headers, shared| {
            let head = response_of(block, headers);
            shared.exchanges.orphan_response(&head, &origin)
        });
        let mut stream = Stream::new(id, self.calls, draft);
        stream.response = Part {
            state: State::Open,
            declared: block.content_length(),
            ..Part::AWAITED
        };
        stream.unpaired = Some(self.loss(Side::Request));
        self.add_stream(stream, shared);
    }

    fn response_head<X: Exchanges<Draft = D>>(&mut self, open: &Open, shared: &mut Http<X>) {
        shared.counters.responses += 1;
        let (id, block) = (open.stream, &open.block);
        let Some(stream) = self.streams.get(id) else {
            return;
        };
        let origin = Origin {
            flow: &self.flow,
            client_is_originator: self.client != Some(Direction::Responder),
            call_index: stream.call_index,
            message: MessageId::on_stream(id),
            time: open.start,
        };
        let status = block.status().unwrap_or_default();
        stream.response = Part {
            state: State::Open,
            declared: block.content_length(),
            is_damaged: stream.response.is_damaged,
            ..Part::AWAITED
        };
        stream.is_answered = true;
        stream.is_head |= matches!(status, 204 | 304);
        let is_unknown = block.unknown > 0 && block.pseudo(Pseudo::Status).is_none();
        stream.unpaired = stream.unpaired.or(unpaired_reason(block, is_unknown));
        if let Some(draft) = &mut stream.draft {
            with_headers(block, Side::Response, shared, |headers, shared| {
                let head = response_of(block, headers);
                shared.exchanges.response(draft, &head, &origin);
            });
        }
        if stream.is_connect && matches!(status, 200..=299) {
            self.open_websocket(id, block, shared);
            self.open_tunnel(id, shared);
        } else {
            stream.is_connect = false;
        }
    }

    /// What follows on the stream may be a WebSocket of which the messages are to be read: they are an exchange of their own.
    fn open_websocket<X: Exchanges<Draft = D>>(
        &mut self,
        id: u32,
        block: &Block,
        shared: &mut Http<X>,
    ) {
        let stream = self.streams.get(id);
        let Some(stream) = stream.filter(|stream| stream.is_websocket && stream.unpaired.is_none())
        else {
            return;
        };
        let Some(draft) = &stream.draft else { return };
        let opening = with_headers(block, Side::Response, shared, |headers, _| {
            websocket::opening_of(headers)
        });
        if let Some(draft) = shared.exchanges.conversation(draft, opening) {
            shared.counters.websocket_connections += 1;
            let mut websocket = websocket::Conversation::new(draft, opening, shared);
            if stream.request.is_damaged {
                websocket.lose(Side::Request);
            }
            stream.websocket = Some(Box::new(websocket));
        }
    }

    /// What follows on the stream is a tunnel: the exchange is over.
    fn open_tunnel<X: Exchanges<Draft = D>>(&mut self, id: u32, shared: &mut Http<X>) {
        for side in [Side::Request, Side::Response] {
            self.end_part(id, side, BodyEnd::Complete, shared);
        }
        let Some(stream) = self.streams.get(id) else {
            return;
        };
        let draft = stream.draft.take();
        let unpaired = stream.unpaired;
        // Both sides stay open as a tunnel.
        stream.request.state = State::Open;
        stream.response.state = State::Open;
        match (draft, unpaired) {
            (Some(draft), Some(reason)) => shared.unpaired(draft, reason),
            (Some(draft), None) => shared.finish(draft),
            (None, _) => {}
        }
    }

    fn trailers<X: Exchanges<Draft = D>>(&mut self, side: Side, open: &Open, shared: &mut Http<X>) {
        let block = &open.block;
        shared.counters.http2_messages_malformed += u64::from(block.has_pseudo());
        if !open.ends_stream {
            // Behind trailers nothing follows (RFC 9113 §8.1), so there is one block of them.
            shared.counters.http2_messages_malformed += 1;
            return;
        }
        let Some(stream) = self.streams.get(open.stream) else {
            return;
        };
        // What was not kept of them is missing as it is of a head.
        stream.unpaired = stream.unpaired.or(unpaired_reason(block, false));
        if let Some(draft) = &mut stream.draft {
            with_headers(block, Side::Response, shared, |headers, shared| {
                shared
                    .exchanges
                    .trailers(draft, side, headers, block.hidden());
            });
        }
    }

    /// END_STREAM of the side that `direction` carries.
    pub(super) fn end_side<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        id: u32,
        shared: &mut Http<X>,
    ) {
        let Some(side) = self.side(direction) else {
            return;
        };
        let Some(stream) = self.streams.get(id) else {
            return;
        };
        let is_head = stream.is_head && side == Side::Response;
        let is_tunnel = stream.draft.is_none();
        let part = *stream.part(side);
        if part.state == State::Open && !is_tunnel {
            let lies = part
                .declared
                .is_some_and(|declared| declared != part.received);
            let is_whole = !part.is_damaged || (part.declared.is_some() && !lies);
            let is_malformed = lies && !is_head && !part.is_damaged;
            shared.counters.http2_messages_malformed += u64::from(is_malformed);
            let end = if is_whole {
                BodyEnd::Complete
            } else {
                BodyEnd::Cut
            };
            self.end_part(id, side, end, shared);
        } else {
            stream.part(side).state = State::Ended;
        }
        self.end_if_over(id, shared);
    }

    /// Concludes the exchange on a stream, if nothing more can come of it.
    pub(super) fn end_if_over<X: Exchanges<Draft = D>>(&mut self, id: u32, shared: &mut Http<X>) {
        let server = self.direction(Side::Response);
        let is_unanswered = self.readings[server].step == Step::Stopped;
        let is_over = |stream: &Stream<D>| {
            stream.is_over() || (is_unanswered && stream.request.state == State::Ended)
        };
        if self.streams.get(id).is_some_and(|stream| is_over(stream))
            && let Some(stream) = self.streams.remove(id)
        {
            self.conclude(stream, self.loss(Side::Response), shared);
            self.settle_streams(shared);
        }
    }

    /// One side of a stream is over, if it was open.
    pub(super) fn end_part<X: Exchanges<Draft = D>>(
        &mut self,
        id: u32,
        side: Side,
        end: BodyEnd,
        shared: &mut Http<X>,
    ) {
        let times = [side, Side::Response].map(|side| self.readings[self.direction(side)].last);
        if let Some(stream) = self.streams.get(id) {
            // The server has sent both sides of what it pushes.
            let [own, of_server] = times;
            let time = if stream.is_pushed { of_server } else { own };
            end_part(stream, side, end, time, shared);
        }
    }

    /// A stream that was removed ends; `reason` holds if its response did not come.
    pub(super) fn conclude<X: Exchanges<Draft = D>>(
        &mut self,
        mut stream: Stream<D>,
        reason: UnpairedReason,
        shared: &mut Http<X>,
    ) {
        for side in [Side::Request, Side::Response] {
            if stream.part(side).state != State::Ended {
                self.cut_part(&mut stream, side, reason, shared);
            }
        }
        if let Some(websocket) = stream.websocket {
            let was_given_up = matches!(
                reason,
                UnpairedReason::Evicted | UnpairedReason::Shutdown | UnpairedReason::Timeout
            );
            websocket.conclude(!was_given_up, shared);
        }
        let Some(draft) = stream.draft else { return };
        match stream.unpaired {
            Some(reason) => shared.unpaired(draft, reason),
            None if stream.is_answered => shared.finish(draft),
            None => shared.unpaired(draft, reason),
        }
    }

    /// One side of a stream has not ended, and nothing more of it will be read: its trailers are not known if they were lost, or if
    /// `reason` lets them come later, and no more is its head.
    #[cold]
    fn cut_part<X: Exchanges<Draft = D>>(
        &self,
        stream: &mut Stream<D>,
        side: Side,
        reason: UnpairedReason,
        shared: &mut Http<X>,
    ) {
        let part = *stream.part(side);
        let may_follow = part.state == State::Open && !reason.is_final();
        if let Some(draft) = &mut stream.draft
            && (part.lost_frames || may_follow)
        {
            shared.exchanges.fields_lost(draft, side);
        }
        let time = self.readings[self.direction(side)].last;
        end_part(stream, side, BodyEnd::Cut, time, shared);
    }

    /// All open streams end.
    pub(super) fn end_all<X: Exchanges<Draft = D>>(
        &mut self,
        reason: UnpairedReason,
        shared: &mut Http<X>,
    ) {
        let mut streams = std::mem::take(&mut self.streams);
        for stream in streams.drain() {
            self.conclude(stream, reason, shared);
        }
        self.streams = streams;
        self.settle_streams(shared);
    }

    /// Evicts the stream that has been silent longest, if there are too many or too little memory for one more.
    fn admit_stream<X: Exchanges<Draft = D>>(&mut self, shared: &mut Http<X>) {
        let is_granted = !self.streams.is_full()
            || self.streams.len() == 0
            || shared
                .buffers
                .may_hold(self.held, self.streams.memory_grown());
        if is_granted && self.streams.len() < HTTP2_STREAMS_MAX {
            return;
        }
        if let Some(stream) = self.streams.oldest().and_then(|id| self.streams.remove(id)) {
            shared.counters.http2_streams_evicted += 1;
            self.conclude(stream, UnpairedReason::Evicted, shared);
        }
    }

    /// Every stream that begins, so that none is forgotten where its id is used again.
    pub(super) fn add_stream<X: Exchanges<Draft = D>>(
        &mut self,
        stream: Stream<D>,
        shared: &mut Http<X>,
    ) {
        if !self.streams.has_memory() {
            self.streams = shared.h2.take_streams();
        }
        if let Some(before) = self.streams.insert(stream) {
            self.conclude(before, UnpairedReason::Gap, shared);
        }
        self.count_streams(shared);
    }

    /// Counts the memory of the streams after they have grown.
    fn count_streams<X: Exchanges<Draft = D>>(&mut self, shared: &mut Http<X>) {
        let memory = self.streams.memory();
        if memory != self.held {
            shared.buffers.count(self.held, memory);
            self.held = memory;
        }
    }

    /// A connection without open streams holds no memory for them, for there may be 100 000 of such.
    pub(super) fn settle_streams<X: Exchanges<Draft = D>>(&mut self, shared: &mut Http<X>) {
        if self.streams.len() == 0 && self.held > 0 {
            shared.h2.recycle_streams(&mut self.streams);
            shared.buffers.let_go(std::mem::take(&mut self.held));
        }
    }
}

/// One side of a stream is over, if it was open.
fn end_part<X: Exchanges>(
    stream: &mut Stream<X::Draft>,
    side: Side,
    end: BodyEnd,
    time: Timestamp,
    shared: &mut Http<X>,
) {
    let part = stream.part(side);
    if part.state != State::Open {
        return;
    }
    part.state = State::Ended;
    if let Some(draft) = &mut stream.draft {
        shared.counters.bodies_cut += u64::from(end == BodyEnd::Cut);
        shared.exchanges.end(draft, side, end, time);
    }
}

/// Why a call with this head is a half call in any case.
fn unpaired_reason(block: &Block, is_unknown: bool) -> Option<UnpairedReason> {
    if block.is_oversized {
        Some(UnpairedReason::Oversized)
    } else if block.is_shed {
        Some(UnpairedReason::Evicted)
    } else {
        is_unknown.then_some(UnpairedReason::Hpack)
    }
}

fn response_of<'a>(block: &Block, headers: &'a [Header<'a>]) -> ResponseHead<'a> {
    ResponseHead {
        status: block.status().unwrap_or_default(),
        version: Version::Http2,
        headers,
        unknown_fields: block.hidden(),
    }
}

/// Calls `act` with the headers of a block, in memory that all heads use.
fn with_headers<X: Exchanges, R>(
    block: &Block,
    side: Side,
    shared: &mut Http<X>,
    act: impl FnOnce(&[Header<'_>], &mut Http<X>) -> R,
) -> R {
    let mut cookies = std::mem::take(&mut shared.h2.cookies);
    let mut headers = emptied(std::mem::take(&mut shared.h2.headers));
    block.join_cookies(&mut cookies);
    block.headers(side == Side::Request, &cookies, &mut headers);
    let result = act(&headers, shared);
    shared.h2.headers = emptied(headers);
    shared.h2.cookies = cookies;
    result
}
