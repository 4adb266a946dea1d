//! Where the reading of one direction stands.

use super::chunked::Chunked;
use super::framing::Framing;
use super::head::LineState;
use crate::flow::{Acked, ByteInfo};
use crate::time::Timestamp;

/// What the next byte of a half belongs to.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// A message starts here, perhaps after empty lines.
    Start,
    /// A head that did not lie in one piece; it is in [`HalfReader::buffer`].
    Head,
    /// A body with so many bytes to come, at least one.
    Length(u64),
    /// A chunked body.
    Chunked(Chunked),
    /// A body that only the close ends.
    UntilClose,
    /// A body that may not be there, for the request is not known and may have been a HEAD: the next bytes tell. Those
    /// seen so far are in [`HalfReader::buffer`].
    Orphan(Framing),
    /// Unknown ground: look for a message start. The unfinished line is in [`HalfReader::buffer`].
    Hunt,
    /// What follows a CONNECT before it was answered: the tunnel's, or nothing.
    Hold,
}

/// One direction of a connection.
#[derive(Debug)]
pub(super) struct HalfReader {
    pub(super) step: Step,
    /// The head so far, or the unfinished line of a hunt.
    pub(super) buffer: Vec<u8>,
    /// Of `buffer`: its first line is known to start a message.
    pub(super) line_checked: bool,
    /// Of `buffer`: where the search for the empty line stands.
    pub(super) end_state: LineState,
    /// Offset of the first byte of `buffer` in the half.
    pub(super) offset: u64,
    /// Packet time of the first byte of `buffer`.
    pub(super) time: Timestamp,
    /// What the segment of the first byte of `buffer` acknowledged of the other half.
    pub(super) acked: Acked,
    /// Of an unfinished line: where the last segment begins that acknowledged something else, and what. At the line's
    /// begin as long as there is none.
    pub(super) newer: (u64, Acked),
    /// Every byte before this offset was told, or told as lost.
    pub(super) told: u64,
    /// Packet time of the last byte that was seen.
    pub(super) last: Timestamp,
    /// Bytes lost or passed over since the last message that was read.
    pub(super) lost: u64,
    /// Some of `lost` were never captured.
    pub(super) gapped: bool,
    /// Of the requests: what was lost and not answered by a response that was seen.
    pub(super) unanswered: Unanswered,
    /// Bytes of the current message are missing, or its lengths contradict each other.
    pub(super) damaged: bool,
    /// The head being read lacks its end.
    pub(super) unfinished: bool,
    /// FIN, and everything before it was read.
    pub(super) finished: bool,
}

impl HalfReader {
    /// At a message start, or on unknown ground with `lost` bytes before it.
    pub(super) fn new(lost: u64) -> Self {
        Self {
            step: if lost == 0 { Step::Start } else { Step::Hunt },
            buffer: Vec::new(),
            line_checked: false,
            end_state: LineState::Empty,
            offset: 0,
            time: Timestamp::ZERO,
            acked: Acked::UNKNOWN,
            newer: (0, Acked::UNKNOWN),
            told: 0,
            last: Timestamp::ZERO,
            lost,
            gapped: lost > 0,
            unanswered: Unanswered::Nothing,
            damaged: false,
            unfinished: false,
            finished: false,
        }
    }

    /// Between messages, as far as anybody can tell.
    pub(super) fn at_boundary(&self) -> bool {
        matches!(self.step, Step::Start | Step::Hunt | Step::Hold)
    }

    /// Collects from `input` on: a head or an unfinished line.
    pub(super) fn mark(&mut self, input: &Input<'_>) {
        self.line_checked = false;
        self.end_state = LineState::Empty;
        self.offset = input.offset;
        self.time = input.time;
        self.acked = input.acked;
        self.newer = (input.offset, input.acked);
    }

    /// Goes on collecting an unfinished line from `input`.
    pub(super) fn mark_newer(&mut self, input: &Input<'_>) {
        if input.acked != self.newer.1 {
            self.newer = (input.offset, input.acked);
        }
    }

    /// The buffered line starts a message: what follows it up to the empty line is its head.
    pub(super) fn line_is_start(&mut self) {
        self.step = Step::Head;
        self.line_checked = true;
        self.end_state = if self.buffer.ends_with(b"\n") {
            LineState::Empty
        } else {
            LineState::Begun
        };
    }
}

/// A loss among the requests. Whatever request its bytes belong to, its response comes after them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unanswered {
    Nothing,
    /// Perhaps only the end of a request that is known.
    End,
    /// The loss began at a message start or within a head: a whole request is among it.
    Message,
}

/// Bytes being read, with their place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Input<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) offset: u64,
    pub(super) time: Timestamp,
    pub(super) acked: Acked,
}

/// Where a head starts, and the time of the bytes at hand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start {
    pub(super) offset: u64,
    pub(super) time: Timestamp,
    /// What the segment of its first byte acknowledged of the other half.
    pub(super) acked: Acked,
    pub(super) now: Timestamp,
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

    /// Takes up to `count` bytes from the begin.
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
}
