//! The beginning behind an upgrade: the request is stream 1, and what the client has not sent of its body comes in HTTP/1, before
//! the preface.

use super::Connection;
use crate::flow::Direction;
use crate::http::h1::Piece;
use crate::http::h2::reading::{Input, Step};
use crate::http::h2::streams::{Part, State, Stream};
use crate::http::hand_over::BodyLeft;
use crate::http::{BodyEnd, Exchanges, Http, Side};

impl<D> Connection<D> {
    /// The request of an upgrade has become stream 1 (RFC 7540 §3.2). What is left of its body is to come before the preface, if the
    /// server has switched before it had all of it.
    pub(super) fn upgrade<X: Exchanges<Draft = D>>(
        &mut self,
        client: Direction,
        request: Option<D>,
        body_left: BodyLeft,
        shared: &mut Http<X>,
    ) {
        self.is_confirmed = true;
        shared.counters.flows_http2_upgraded += 1;
        let reading = &mut self.readings[client];
        reading.highest = 1;
        // What its HTTP2-Settings allow was not read.
        reading.table_size = u32::MAX;
        let is_open = !matches!(body_left, BodyLeft::Nothing);
        if is_open {
            reading.step = Step::UpgradedBody;
            reading.frame.stream = 1;
        }
        match body_left {
            BodyLeft::Nothing => {}
            BodyLeft::Length(left) => reading.left = left,
            BodyLeft::Chunked(chunked) => self.chunked = Some(chunked),
        }
        let server = &mut self.readings[client.reverse()];
        if !server.is_lossy {
            server.expect_frame();
        }
        if let Some(draft) = request {
            let mut stream = Stream::new(1, self.calls, draft);
            let state = if is_open { State::Open } else { State::Ended };
            stream.request = Part {
                state,
                ..Part::AWAITED
            };
            self.add_stream(stream, shared);
        }
    }

    /// Reads some of the body of the request.
    #[cold]
    pub(super) fn upgraded_body<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        input: &mut Input<'_>,
        shared: &mut Http<X>,
    ) {
        let Some(chunked) = &mut self.chunked else {
            let piece = input.take_from(&mut self.readings[direction].left);
            self.body(direction, piece, shared);
            if self.readings[direction].left == 0 {
                self.end_upgraded_body(direction, shared);
            }
            return;
        };
        let mut rest = input.bytes;
        let piece = chunked.next(&mut rest);
        input.take(input.bytes.len() - rest.len());
        match piece {
            Piece::Data(data) => self.body(direction, data, shared),
            Piece::More => {}
            Piece::End => self.end_upgraded_body(direction, shared),
            Piece::Broken => {
                shared.counters.bodies_broken += 1;
                self.cut_upgraded_body(direction, shared);
            }
        }
    }

    /// `count` bytes were never captured where the body of the request goes on; how many of them were it.
    #[cold]
    pub(super) fn upgraded_body_missing<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        count: u64,
        shared: &mut Http<X>,
    ) -> u64 {
        let Some(chunked) = &mut self.chunked else {
            let reading = &mut self.readings[direction];
            let missing = u64::from(reading.left).min(count);
            reading.left -= missing as u32;
            let is_over = reading.left == 0;
            self.body_missing(direction, missing, shared);
            if is_over {
                self.end_upgraded_body(direction, shared);
            }
            return missing;
        };
        if chunked.skip(count) {
            self.body_missing(direction, count, shared);
        } else {
            // How much of the rest was body is unknown: the rest of this chunk at least.
            let missing = chunked.remaining();
            if missing > 0 {
                self.body_missing(direction, missing, shared);
            }
            self.cut_upgraded_body(direction, shared);
        }
        count
    }

    /// The preface follows.
    fn end_upgraded_body<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        shared: &mut Http<X>,
    ) {
        self.chunked = None;
        self.readings[direction].step = Step::Preface(0);
        self.end_side(direction, 1, shared);
    }

    /// Where the body ends is not known: the first frame is looked for behind it.
    fn cut_upgraded_body<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        shared: &mut Http<X>,
    ) {
        self.chunked = None;
        self.end_part(1, Side::Request, BodyEnd::Cut, shared);
        self.end_if_over(1, shared);
        self.lose(direction, shared);
    }
}
