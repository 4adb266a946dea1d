//! Frames that end exchanges or change the connection: RST_STREAM, GOAWAY, SETTINGS.

use super::Connection;
use crate::flow::Direction;
use crate::http::h2::frame::{HEADER, NO_ERROR};
use crate::http::h2::streams::State;
use crate::http::{BodyEnd, Exchanges, Http, Side, UnpairedReason};

/// SETTINGS_HEADER_TABLE_SIZE (RFC 9113 §6.5.2).
const HEADER_TABLE_SIZE: u16 = 1;

/// An error code (RFC 9113 §7).
const REFUSED_STREAM: u32 = 7;

impl<D> Connection<D> {
    /// Acts on one setting.
    pub(super) fn setting(&mut self, direction: Direction, octets: &[u8; HEADER]) {
        let reading = &mut self.readings[direction];
        let &[high, low, a, b, c, d, ..] = octets;
        if u16::from_be_bytes([high, low]) == HEADER_TABLE_SIZE {
            // A larger size that was allowed before may still be in use.
            reading.table_size = reading.table_size.max(u32::from_be_bytes([a, b, c, d]));
        }
    }

    /// A stream is reset by the side that `direction` carries.
    pub(super) fn reset<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        id: u32,
        code: u32,
        shared: &mut Http<X>,
    ) {
        let Some(side) = self.side(direction) else {
            return;
        };
        let Some(mut stream) = self.streams.remove(id) else {
            return;
        };
        shared.counters.http2_streams_reset += 1;
        let is_refused = code == REFUSED_STREAM && !stream.is_pushed;
        let reason = if is_refused {
            UnpairedReason::Refused
        } else {
            UnpairedReason::Reset
        };
        if code != NO_ERROR
            && let Some(draft) = &mut stream.draft
        {
            shared.exchanges.reset(draft, side, code);
        }
        shared.counters.http2_streams_refused += u64::from(is_refused && stream.draft.is_some());
        self.conclude(stream, reason, shared);
        self.settle_streams(shared);
    }

    /// The side that `direction` carries processes no stream of its peer beyond `last`.
    pub(super) fn go_away<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        last: u32,
        shared: &mut Http<X>,
    ) {
        shared.counters.http2_goaways += 1;
        let reading = &mut self.readings[direction];
        reading.goaway = reading.goaway.min(last);
        let last = reading.goaway;
        let Some(side) = self.side(direction) else {
            return;
        };
        // Streams of the client are odd.
        let parity = u32::from(side == Side::Response);
        while let Some(id) = self.streams.first_above(last, parity) {
            if let Some(stream) = self.streams.remove(id) {
                shared.counters.http2_streams_refused += u64::from(stream.draft.is_some());
                self.conclude(stream, UnpairedReason::Refused, shared);
            }
        }
        self.settle_streams(shared);
    }

    /// The client sends no more: what it has not ended is cut.
    pub(super) fn end_requests<X: Exchanges<Draft = D>>(&mut self, shared: &mut Http<X>) {
        let open: Vec<_> = self.streams.ids().collect();
        for id in open {
            let stream = self.streams.get(id);
            if let Some(stream) = stream.filter(|stream| stream.request.state == State::Open) {
                if let Some(draft) = stream.draft.as_mut().filter(|_| stream.request.lost_frames) {
                    shared.exchanges.fields_lost(draft, Side::Request);
                }
                self.end_part(id, Side::Request, BodyEnd::Cut, shared);
                self.end_if_over(id, shared);
            }
        }
    }
}
