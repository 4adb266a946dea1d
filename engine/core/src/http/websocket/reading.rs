//! One direction of a conversation: what its next byte belongs to.

use super::frame::{Broken, Frame, HEADER_MAX, HEADER_START, Opcode, header_length};
use crate::http::{MessageKind, Side};
use crate::time::Timestamp;

/// What the next byte of a direction belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The header of a frame; its first octets are in [`Reading::buffer`].
    Header,
    /// The payload of a frame.
    Payload,
    /// Nothing is read any more: a Close frame was the last one, or where frames begin is not known.
    Over,
}

/// A message of which some frames were read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Open {
    pub(super) kind: MessageKind,
    pub(super) is_compressed: bool,
    /// Some of its bytes were never captured.
    pub(super) is_torn: bool,
}

/// Where the reading of one direction stands.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) step: Step,
    buffer: [u8; HEADER_MAX],
    filled: u8,
    /// The frame at hand.
    pub(super) frame: Frame,
    /// What is left of its payload.
    pub(super) left: u64,
    /// The message that is not over.
    pub(super) open: Option<Open>,
    /// The first octets of the payload of a Close frame.
    code: [u8; 2],
    code_filled: u8,
    /// A Close frame was read.
    pub(super) is_closed: bool,
    /// Bytes of it are missing that no frame bridges.
    pub(super) is_lost: bool,
    /// Packet time of the last byte.
    pub(super) last: Timestamp,
}

const NO_FRAME: Frame = Frame {
    opcode: Opcode::Other,
    is_final: true,
    is_compressed: false,
    mask: None,
    length: 0,
};

impl Reading {
    pub(super) fn new() -> Self {
        Self {
            step: Step::Header,
            buffer: [0; HEADER_MAX],
            filled: 0,
            frame: NO_FRAME,
            left: 0,
            open: None,
            code: [0; 2],
            code_filled: 0,
            is_closed: false,
            is_lost: false,
            last: Timestamp::ZERO,
        }
    }

    /// Takes octets of a header; the frame, once it is complete.
    pub(super) fn header(&mut self, rest: &mut &[u8]) -> Result<Option<Frame>, Broken> {
        loop {
            let filled = usize::from(self.filled);
            let wanted = match self.buffer.first_chunk::<HEADER_START>() {
                Some(start) if filled >= HEADER_START => header_length(*start),
                _ => HEADER_START,
            };
            if filled >= HEADER_START && filled == wanted {
                self.filled = 0;
                return Frame::parse(self.buffer.get(..wanted).unwrap_or_default()).map(Some);
            }
            let count = (wanted - filled).min(rest.len());
            if count == 0 {
                return Ok(None);
            }
            let (taken, behind) = rest.split_at_checked(count).unwrap_or((rest, &[]));
            let places = self.buffer.iter_mut().skip(filled);
            for (place, octet) in places.zip(taken) {
                *place = *octet;
            }
            self.filled += taken.len() as u8;
            *rest = behind;
        }
    }

    /// A frame begins.
    pub(super) fn begin(
        &mut self,
        frame: Frame,
        side: Side,
        has_compression: bool,
    ) -> Result<(), Broken> {
        // Clients mask, servers do not (RFC 6455 §5.1).
        if frame.mask.is_some() != (side == Side::Request)
            || (frame.is_compressed && !has_compression)
        {
            return Err(Broken);
        }
        match frame.opcode {
            Opcode::Text | Opcode::Binary if self.open.is_none() => {
                let kind = if frame.opcode == Opcode::Text {
                    MessageKind::Text
                } else {
                    MessageKind::Binary
                };
                self.open = Some(Open {
                    kind,
                    is_compressed: frame.is_compressed,
                    is_torn: false,
                });
            }
            Opcode::Continuation if self.open.is_some() => {}
            Opcode::Close | Opcode::Other => {}
            Opcode::Text | Opcode::Binary | Opcode::Continuation => return Err(Broken),
        }
        (self.frame, self.left, self.step) = (frame, frame.length, Step::Payload);
        self.code_filled = 0;
        Ok(())
    }

    /// The octets of the mask, from the one for the next byte of the payload.
    pub(super) fn mask(&self) -> [u8; 4] {
        let mut mask = self.frame.mask.unwrap_or_default();
        mask.rotate_left(((self.frame.length - self.left) % 4) as usize);
        mask
    }

    /// Keeps the code of a Close frame, of which these are the next bytes, with the mask removed.
    pub(super) fn keep_code(&mut self, bytes: &[u8]) {
        let places = self.code.iter_mut().skip(usize::from(self.code_filled));
        let mut kept = 0;
        for (place, octet) in places.zip(bytes) {
            *place = *octet;
            kept += 1;
        }
        self.code_filled += kept;
    }

    /// The code of the Close frame, if it was seen and there is one.
    pub(super) fn code(&self) -> Option<u16> {
        (usize::from(self.code_filled) == self.code.len()).then(|| u16::from_be_bytes(self.code))
    }

    /// Whether nothing of a message or a frame is missing here.
    pub(super) fn is_whole(&self) -> bool {
        let is_between = self.step == Step::Header && self.filled == 0 && self.open.is_none();
        (is_between || self.is_closed) && !self.is_lost
    }
}
