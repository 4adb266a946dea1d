//! One direction of a connection: what its next byte belongs to, and what is known of the bytes before it.

use super::chunked::Chunked;
use super::framing::Framing;
use super::head::LineState;
use crate::flow::{Acked, ByteInfo, Direction};
use crate::http::hand_over::Remainder;
use crate::limits::MESSAGE_BYTES_MIN;
use crate::time::Timestamp;

/// What the next byte of a direction belongs to.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// A message starts here, perhaps after empty lines.
    Start,
    /// A head that did not lie in one piece; it is in [`Reading::collected`].
    Head(HeadPart),
    /// A body with this many bytes to come, at least one.
    Length(u64),
    /// A chunked body.
    Chunked(Chunked),
    /// A chunked body that begins with an unfinished size, or with none: its first bytes are in [`Reading::collected`].
    FirstSize,
    /// A body that only the close ends.
    UntilClose,
    /// A body whose length cannot be believed, with the framings that it may have; it is in [`Reading::collected`] up to the
    /// next turn.
    Trial(Vec<Framing>),
    /// A body that may not exist, since the request is not known and may have been a HEAD: the next bytes decide. Those
    /// seen so far are in [`Reading::collected`].
    Orphan(Framing),
    /// Bytes that cannot be attributed: the next start line is looked for. The unfinished line is in
    /// [`Reading::collected`].
    Resync,
    /// Bytes of which it is not known yet what they are; they are in [`Reading::collected`]. What follows a CONNECT that is
    /// not answered: bytes of the tunnel, or requests. What begins no message, until the other direction has shown its
    /// first bytes. Counts those that were too many to be held.
    Hold(u64),
}

/// Which part of a collected head the next byte belongs to.
#[derive(Clone, Copy, Debug)]
pub(super) enum HeadPart {
    /// The first line, which may turn out to start no message.
    StartLine,
    /// The lines behind it, up to the empty one; with the state of the search for that.
    Fields(LineState),
}

/// Where the reading of one direction stands.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) step: Step,
    pub(super) collected: Collected,
    /// Bytes missing or passed over since the last message that was read.
    pub(super) lost: u64,
    /// Some of [`lost`](Self::lost) were never captured.
    pub(super) gapped: bool,
    /// Of requests only: what was lost and no response that was seen has answered.
    pub(super) unanswered: Unanswered,
    /// All bytes before this offset were read, or reported as a gap.
    pub(super) position: u64,
    /// Packet time of the last byte that was seen.
    pub(super) last: Timestamp,
    /// Bytes of the current message are missing, or its lengths contradict each other.
    pub(super) damaged: bool,
    /// It is damaged because its lengths, or those of a message before it, cannot be believed.
    pub(super) doubtful: bool,
    /// The head being read lacks its end.
    pub(super) unfinished: bool,
    /// FIN, and everything before it was read.
    pub(super) finished: bool,
}

impl Reading {
    /// At the start of a message; in the middle of a connection (`midstream`) before the first start line, as if a message
    /// had been lost.
    pub(super) fn new(midstream: bool) -> Self {
        Self {
            step: if midstream { Step::Resync } else { Step::Start },
            collected: Collected::new(),
            lost: if midstream { MESSAGE_BYTES_MIN } else { 0 },
            gapped: midstream,
            unanswered: Unanswered::Nothing,
            position: 0,
            last: Timestamp::ZERO,
            damaged: false,
            doubtful: false,
            unfinished: false,
            finished: false,
        }
    }

    /// Between messages, as far as can be known.
    pub(super) fn at_boundary(&self) -> bool {
        matches!(self.step, Step::Start | Step::Resync | Step::Hold(_))
    }

    /// The collected line starts a message: what follows it up to the empty line is its head.
    pub(super) fn read_as_head(&mut self) {
        let state = if self.collected.bytes.ends_with(b"\n") {
            LineState::Empty
        } else {
            LineState::Begun
        };
        self.step = Step::Head(HeadPart::Fields(state));
    }

    /// Bytes that were seen, or are passed over, may have been a request that was not read.
    pub(super) fn miss_message(&mut self, unanswered: Unanswered) {
        self.unanswered = unanswered;
        self.lost = self.lost.max(MESSAGE_BYTES_MIN);
    }

    /// Whether a whole message may be among what was lost.
    pub(super) fn may_have_lost_message(&self) -> bool {
        self.lost >= MESSAGE_BYTES_MIN
    }

    /// Whether a head is collected whose start line is complete.
    pub(super) fn is_in_fields(&self) -> bool {
        matches!(self.step, Step::Head(HeadPart::Fields(_)))
    }
}

/// A loss among the requests. Whatever request its bytes belong to, its response comes after them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unanswered {
    Nothing,
    /// Perhaps only the end of a request that is known.
    End,
    /// The loss began at a message start or within a head, so a whole request is part of it.
    Message,
}

/// Bytes that could not be read in place: the head so far, an unfinished line, or the first bytes of a body.
#[derive(Debug)]
pub(super) struct Collected {
    pub(super) bytes: Vec<u8>,
    /// Offset of their first byte in the direction.
    pub(super) offset: u64,
    /// Packet time of their first byte.
    pub(super) time: Timestamp,
    /// What the segment of their first byte acknowledged of the other direction.
    pub(super) acked: Acked,
    /// Of an unfinished line: where the last segment begins that acknowledged something else, and what. Where the line
    /// begins as long as there is none.
    pub(super) newer: (u64, Acked),
}

impl Collected {
    /// `bytes`, which were taken out of it, as input.
    pub(super) fn input<'a>(&self, bytes: &'a [u8]) -> Input<'a> {
        Input {
            bytes,
            offset: self.offset,
            time: self.time,
            acked: self.acked,
        }
    }

    fn new() -> Self {
        Self {
            bytes: Vec::new(),
            offset: 0,
            time: Timestamp::ZERO,
            acked: Acked::UNKNOWN,
            newer: (0, Acked::UNKNOWN),
        }
    }

    /// Collects from `input` on.
    pub(super) fn begin(&mut self, input: &Input<'_>) {
        self.offset = input.offset;
        self.time = input.time;
        self.acked = input.acked;
        self.newer = (input.offset, input.acked);
    }

    /// Goes on with an unfinished line from `input`.
    pub(super) fn go_on(&mut self, input: &Input<'_>) {
        if input.acked != self.newer.1 {
            self.newer = (input.offset, input.acked);
        }
    }

    /// Where the head begins that is collected.
    pub(super) fn start(&self, now: Timestamp) -> Start {
        Start {
            offset: self.offset,
            time: self.time,
            acked: self.acked,
            now,
        }
    }

    /// Gives the bytes up, with their place.
    pub(super) fn give_up(&mut self, direction: Direction) -> Option<Remainder> {
        let bytes = std::mem::take(&mut self.bytes);
        let place = ByteInfo {
            direction,
            time: self.time,
            offset: self.offset,
            acked: self.acked,
        };
        // An empty buffer that holds memory is given back, too.
        (bytes.capacity() > 0).then_some(Remainder { place, bytes })
    }
}

/// Where a head starts, and the time of the bytes at hand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start {
    pub(super) offset: u64,
    pub(super) time: Timestamp,
    /// What the segment of its first byte acknowledged of the other direction.
    pub(super) acked: Acked,
    pub(super) now: Timestamp,
}

/// Bytes being read, with their place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Input<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) offset: u64,
    pub(super) time: Timestamp,
    pub(super) acked: Acked,
}

impl<'a> Input<'a> {
    pub(super) fn new(place: &ByteInfo, bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            offset: place.offset,
            time: place.time,
            acked: place.acked,
        }
    }

    /// Takes up to `count` bytes from the front.
    pub(super) fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self
            .bytes
            .split_at_checked(count)
            .unwrap_or((self.bytes, &[]));
        self.bytes = rest;
        self.offset += taken.len() as u64;
        taken
    }

    /// Goes on with what is left of `rest`, a tail of the bytes at hand.
    pub(super) fn set_rest(&mut self, rest: &'a [u8]) {
        self.offset += (self.bytes.len() - rest.len()) as u64;
        self.bytes = rest;
    }

    /// Where a head starts that begins here.
    pub(super) fn start(&self) -> Start {
        Start {
            offset: self.offset,
            time: self.time,
            acked: self.acked,
            now: self.time,
        }
    }
}
