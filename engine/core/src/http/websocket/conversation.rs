//! Both directions of a WebSocket, from the handshake to the end.

use super::frame::Opcode;
use super::open::Conversation;
use super::reading::{Reading, Step};
use crate::http::{BodyEnd, Exchanges, Http, MessagePart, Opening, Side};
use crate::limits::UNMASKED_BYTES_MAX;
use crate::time::Timestamp;

impl<D> Conversation<D> {
    /// What follows a handshake, whose details are in `draft`.
    pub(in crate::http) fn new<X: Exchanges<Draft = D>>(
        draft: D,
        opening: Opening,
        shared: &mut Http<X>,
    ) -> Self {
        shared.counters.exchanges_opened += 1;
        Self {
            draft,
            opening,
            request: Reading::new(),
            response: Reading::new(),
            closed_by: None,
        }
    }

    /// Reads bytes of one direction; false once the conversation is over, and [`Self::conclude`] has to follow.
    #[must_use]
    pub(in crate::http) fn data<X: Exchanges<Draft = D>>(
        &mut self,
        side: Side,
        bytes: &[u8],
        time: Timestamp,
        shared: &mut Http<X>,
    ) -> bool {
        self.reading(side).last = time;
        let mut rest = bytes;
        loop {
            let has_compression = self.opening.is_compressed;
            let reading = self.reading(side);
            match reading.step {
                Step::Over => {
                    shared.counters.bytes_ignored += rest.len() as u64;
                    return !(self.request.step == Step::Over && self.response.step == Step::Over);
                }
                Step::Header => {
                    let header = reading.header(&mut rest);
                    let begun = header.and_then(|frame| match frame {
                        Some(frame) => reading.begin(frame, side, has_compression).map(|()| true),
                        None => Ok(false),
                    });
                    match begun {
                        Ok(true) if reading.left == 0 => self.payload(side, &[], time, shared),
                        Ok(true) => {}
                        Ok(false) => return true,
                        Err(_) => {
                            shared.counters.websocket_broken += 1;
                            shared.counters.bytes_ignored += rest.len() as u64;
                            (self.request.step, self.response.step) = (Step::Over, Step::Over);
                            return false;
                        }
                    }
                }
                Step::Payload => {
                    if rest.is_empty() {
                        return true;
                    }
                    let count = usize::try_from(reading.left).unwrap_or(usize::MAX);
                    let (taken, behind) = rest.split_at_checked(count).unwrap_or((rest, &[]));
                    rest = behind;
                    self.payload(side, taken, time, shared);
                }
            }
        }
    }

    /// `count` bytes of one direction were never captured.
    pub(in crate::http) fn missing<X: Exchanges<Draft = D>>(
        &mut self,
        side: Side,
        count: u64,
        shared: &mut Http<X>,
    ) {
        let reading = self.reading(side);
        if reading.step == Step::Over || count == 0 {
            return;
        }
        let is_bridged = reading.step == Step::Payload && count <= reading.left;
        let of_message = if reading.step == Step::Payload && !reading.frame.is_control() {
            count.min(reading.left)
        } else {
            0
        };
        if let Some(open) = reading.open.as_mut().filter(|_| of_message > 0) {
            open.is_torn = true;
        }
        if is_bridged {
            reading.left -= count;
        } else {
            // Messages may be among them.
            (reading.step, reading.is_lost) = (Step::Over, true);
        }
        let is_over = reading.left == 0;
        let is_compressed = reading.open.is_some_and(|open| open.is_compressed);
        let missing = if is_bridged { of_message } else { count };
        *match side {
            Side::Request => &mut shared.counters.request_bytes_missing,
            Side::Response => &mut shared.counters.response_bytes_missing,
        } += missing;
        if missing > 0 {
            let draft = &mut self.draft;
            (shared.exchanges).message_missing(draft, side, missing, is_compressed);
        }
        if is_bridged && is_over {
            let time = self.reading(side).last;
            self.payload(side, &[], time, shared);
        }
    }

    /// Bytes of one direction were never captured, and how many is not known.
    pub(in crate::http) fn lose(&mut self, side: Side) {
        let reading = self.reading(side);
        if reading.step != Step::Over {
            (reading.step, reading.is_lost) = (Step::Over, true);
        }
    }

    /// The conversation is over. Where it `was_ended` by its peers, what was read between two messages is all that there was.
    pub(in crate::http) fn conclude<X: Exchanges<Draft = D>>(
        mut self,
        was_ended: bool,
        shared: &mut Http<X>,
    ) {
        if let Some(side) = self.closed_by {
            let code = self.reading(side).code();
            shared.exchanges.closed(&mut self.draft, side, code);
        }
        for side in [Side::Request, Side::Response] {
            let reading = self.reading(side);
            let end = if reading.is_whole() && (was_ended || reading.is_closed) {
                BodyEnd::Complete
            } else {
                BodyEnd::Cut
            };
            let last = reading.last;
            shared.counters.bodies_cut += u64::from(end == BodyEnd::Cut);
            shared.exchanges.end(&mut self.draft, side, end, last);
        }
        shared.finish(self.draft);
    }

    fn reading(&mut self, side: Side) -> &mut Reading {
        match side {
            Side::Request => &mut self.request,
            Side::Response => &mut self.response,
        }
    }

    /// The next bytes of the payload at hand.
    fn payload<X: Exchanges<Draft = D>>(
        &mut self,
        side: Side,
        bytes: &[u8],
        time: Timestamp,
        shared: &mut Http<X>,
    ) {
        if bytes.is_empty() || self.reading(side).frame.mask.is_none() {
            return self.plain(side, bytes, time, shared);
        }
        let mut unmasked = std::mem::take(&mut shared.unmasked);
        for piece in bytes.chunks(UNMASKED_BYTES_MAX) {
            let mask = self.reading(side).mask();
            unmasked.clear();
            unmasked.extend_from_slice(piece);
            for four in unmasked.chunks_mut(4) {
                for (octet, mask) in four.iter_mut().zip(mask) {
                    *octet ^= mask;
                }
            }
            self.plain(side, &unmasked, time, shared);
        }
        shared.unmasked = unmasked;
    }

    /// The same, with the mask removed.
    fn plain<X: Exchanges<Draft = D>>(
        &mut self,
        side: Side,
        bytes: &[u8],
        time: Timestamp,
        shared: &mut Http<X>,
    ) {
        let reading = match side {
            Side::Request => &mut self.request,
            Side::Response => &mut self.response,
        };
        reading.left -= bytes.len() as u64;
        let is_over = reading.left == 0;
        let frame = reading.frame;
        if is_over {
            reading.step = Step::Header;
        }
        match frame.opcode {
            Opcode::Close => {
                reading.keep_code(bytes);
                if is_over {
                    reading.is_closed = true;
                    reading.step = Step::Over;
                    self.closed_by.get_or_insert(side);
                }
            }
            Opcode::Other => {}
            Opcode::Text | Opcode::Binary | Opcode::Continuation => {
                let is_last = is_over && frame.is_final;
                let Some(open) = reading.open else { return };
                if is_last {
                    reading.open = None;
                }
                if !open.is_torn {
                    shared.counters.websocket_messages += u64::from(is_last);
                    let part = MessagePart {
                        time,
                        kind: open.kind,
                        is_compressed: open.is_compressed,
                        bytes,
                        is_last,
                    };
                    shared.exchanges.message(&mut self.draft, side, &part);
                }
            }
        }
    }
}
