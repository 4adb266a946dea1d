//! Frames of one direction: where each begins and ends, and which part of it the next byte belongs to.

use super::Connection;
use crate::flow::Direction;
use crate::http::h2::frame::{END_HEADERS, END_STREAM, Fault, Frame, HEADER, Kind};
use crate::http::h2::reading::{Input, Step};
use crate::http::{Exchanges, Http, Protocol};

/// What a client sends first (RFC 9113 §3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Octets of one setting (§6.5.1).
const SETTING: usize = 6;

impl<D> Connection<D> {
    /// Reads some of `input`.
    #[inline]
    pub(super) fn read<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        input: &mut Input<'_>,
        shared: &mut Http<X>,
    ) {
        let reading = &mut self.readings[direction];
        match reading.step {
            Step::Header => self.frame_header(direction, input, shared),
            Step::Data => {
                let piece = input.take_from(&mut reading.left);
                self.body(direction, piece, shared);
                self.end_payload(direction, shared);
            }
            Step::Fragment => {
                let piece = input.take_from(&mut reading.left);
                self.fragment(direction, piece, shared);
                self.end_payload(direction, shared);
            }
            Step::Skip => {
                input.take_from(&mut reading.left);
                self.end_payload(direction, shared);
            }
            Step::Padding => {
                let taken = input.take(usize::from(reading.padding)).len();
                reading.padding -= taken as u8;
                self.end_padding(direction, shared);
            }
            Step::UpgradedBody => self.upgraded_body(direction, input, shared),
            Step::Prefix => self.prefix(direction, input, shared),
            Step::Settings => self.settings(direction, input, shared),
            Step::Preface(seen) => self.preface(direction, seen, input, shared),
            Step::Resync => self.resync(direction, input, shared),
            Step::Stopped => {
                shared.counters.bytes_ignored += input.take(usize::MAX).len() as u64;
            }
        }
    }

    /// The first bytes of a direction.
    #[cold]
    fn preface<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        seen: usize,
        input: &mut Input<'_>,
        shared: &mut Http<X>,
    ) {
        let reading = &mut self.readings[direction];
        let is_first = seen == 0 && input.bytes.first() != PREFACE.first();
        if is_first && self.client != Some(direction) {
            // No first frame may be so long that its header begins with this byte (RFC 9113 §4.2), and a status line
            // of HTTP/1 does: the server refuses the preface.
            if self.client.is_some() && input.bytes.first() == Some(&b'H') {
                self.next = Some(Protocol::Http1);
                return;
            }
            return reading.expect_frame();
        }
        let expected = PREFACE.get(seen..).unwrap_or_default();
        let count = expected.len().min(input.bytes.len());
        let equal = (input.bytes.iter().zip(expected))
            .take_while(|(byte, expected)| byte == expected)
            .count();
        if equal < count && self.is_confirmed {
            return self.stop(direction, shared);
        }
        if equal < count {
            // Only its first line looked like a preface: what it is shows in the answer. Without that line, so that it
            // is not recognised once more.
            input.take(equal);
            self.next = Some(Protocol::Detecting);
            return;
        }
        input.take(count);
        reading.step = Step::Preface(seen + count);
        if count == expected.len() {
            reading.expect_frame();
            self.client = Some(direction);
            self.confirm(shared);
        }
    }

    /// The header of a frame, in one piece or in several.
    #[inline]
    fn frame_header<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        input: &mut Input<'_>,
        shared: &mut Http<X>,
    ) {
        let reading = &mut self.readings[direction];
        if reading.filled == 0 {
            reading.start = input.time;
        }
        let Some(header) = reading.collect(HEADER, input) else {
            return;
        };
        let frame = Frame::parse(&header);
        self.begin_frame(direction, frame, shared);
    }

    fn begin_frame<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        frame: Frame,
        shared: &mut Http<X>,
    ) {
        shared.counters.http2_frames += 1;
        let kind = frame.kind();
        let reading = &mut self.readings[direction];
        (reading.frame, reading.padding, reading.left) = (frame, 0, frame.prefix());
        let expected = reading.open.as_ref().map(|open| open.stream);
        let is_next = match (kind, expected) {
            (Kind::Continuation, expected) => expected == Some(frame.stream),
            (_, expected) => expected.is_none(),
        };
        if !is_next {
            // Nothing may come between the fragments of a block (§6.10).
            if expected.is_some() || !reading.lost_block {
                return self.stop(direction, shared);
            }
            (reading.step, reading.left) = (Step::Skip, frame.length);
            return self.end_payload(direction, shared);
        }
        match frame.fault() {
            Some(Fault::Length) => return self.stop(direction, shared),
            Some(Fault::Stream) => {
                if !self.is_confirmed {
                    return self.stop(direction, shared);
                }
                shared.counters.http2_frames_malformed += 1;
            }
            None => {}
        }
        shared.counters.http2_frames_unknown += u64::from(kind == Kind::Unknown);
        if matches!(kind, Kind::Headers | Kind::PushPromise) {
            self.begin_block(direction, frame, shared);
        }
        let reading = &mut self.readings[direction];
        reading.step = Step::Prefix;
        if reading.left == 0 {
            self.end_prefix(direction, shared);
        }
    }

    /// The octets of fixed meaning at the front of a payload.
    fn prefix<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        input: &mut Input<'_>,
        shared: &mut Http<X>,
    ) {
        let reading = &mut self.readings[direction];
        let (wanted, before) = (reading.frame.prefix() as usize, input.offset);
        let whole = reading.collect(wanted, input);
        reading.left -= (input.offset - before) as u32;
        if let Some(octets) = whole {
            self.act_on_prefix(direction, &octets, shared);
        }
    }

    fn settings<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        input: &mut Input<'_>,
        shared: &mut Http<X>,
    ) {
        let reading = &mut self.readings[direction];
        let before = input.offset;
        let whole = reading.collect(SETTING, input);
        reading.left -= (input.offset - before) as u32;
        if let Some(octets) = whole {
            self.setting(direction, &octets);
        }
        self.end_payload(direction, shared);
    }

    fn act_on_prefix<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        octets: &[u8; HEADER],
        shared: &mut Http<X>,
    ) {
        let reading = &mut self.readings[direction];
        let frame = reading.frame;
        let (mut rest, padding) = (&octets[..], octets.first().copied().unwrap_or_default());
        if frame.is_padded() {
            reading.padding = padding;
            rest = rest.get(1..).unwrap_or_default();
        }
        let number = |at: usize| {
            let octets = rest.get(at..).and_then(|rest| rest.first_chunk());
            octets.map_or(0, |octets| u32::from_be_bytes(*octets))
        };
        match frame.kind() {
            Kind::PushPromise => {
                let promised = number(0) & 0x7fff_ffff;
                if let Some(open) = &mut reading.open {
                    open.promised = Some(promised);
                }
            }
            Kind::Reset => self.reset(direction, frame.stream, number(0), shared),
            Kind::GoAway => self.go_away(direction, number(0) & 0x7fff_ffff, shared),
            _ => {}
        }
        self.end_prefix(direction, shared);
    }

    /// The payload proper follows.
    fn end_prefix<X: Exchanges<Draft = D>>(&mut self, direction: Direction, shared: &mut Http<X>) {
        let reading = &mut self.readings[direction];
        let frame = reading.frame;
        let payload = frame.length - frame.prefix();
        let payload = payload.checked_sub(u32::from(reading.padding));
        // As much padding as payload, or more (§6.1).
        let Some(payload) = payload else {
            return self.stop(direction, shared);
        };
        reading.left = payload;
        reading.step = match frame.kind() {
            Kind::Data => Step::Data,
            Kind::Settings => Step::Settings,
            _ if frame.has_block() => Step::Fragment,
            _ => Step::Skip,
        };
        self.end_payload(direction, shared);
    }

    /// Goes on behind the payload, if it is over.
    #[inline]
    pub(super) fn end_payload<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        shared: &mut Http<X>,
    ) {
        let reading = &mut self.readings[direction];
        if reading.left > 0 || reading.step == Step::Stopped {
            return;
        }
        if reading.padding > 0 {
            reading.step = Step::Padding;
        } else {
            self.end_frame(direction, shared);
        }
    }

    pub(super) fn end_padding<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        shared: &mut Http<X>,
    ) {
        if self.readings[direction].padding == 0 {
            self.end_frame(direction, shared);
        }
    }

    fn end_frame<X: Exchanges<Draft = D>>(&mut self, direction: Direction, shared: &mut Http<X>) {
        let reading = &mut self.readings[direction];
        reading.expect_frame();
        let frame = reading.frame;
        match frame.kind() {
            Kind::Data if frame.has(END_STREAM) => self.end_side(direction, frame.stream, shared),
            _ if frame.has_block() && frame.has(END_HEADERS) => {
                reading.lost_block = false;
                self.end_block(direction, shared);
            }
            _ => {}
        }
    }

    /// Where the next frame of a direction begins cannot be believed, or what its header table has.
    #[cold]
    pub(super) fn stop<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        shared: &mut Http<X>,
    ) {
        if !self.is_confirmed {
            self.next = Some(Protocol::Other);
            return;
        }
        if self.readings[direction].is_trial {
            return self.lose(direction, shared);
        }
        shared.counters.http2_frames_malformed += 1;
        self.stop_reading(direction, shared);
    }
}
