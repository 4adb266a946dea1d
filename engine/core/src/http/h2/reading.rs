//! One direction of an HTTP/2 connection: what its next byte belongs to, and what is known of the bytes before it.

use super::block::Block;
use super::frame::{Frame, HEADER};
use super::hpack::Decoder;
use crate::flow::ByteInfo;
use crate::time::Timestamp;

/// What the next byte of a direction belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The first bytes of the direction: the preface of a client, of which so many octets were seen, or a frame.
    Preface(usize),
    /// The header of a frame; its first bytes are in [`Reading::buffer`].
    Header,
    /// The octets of fixed meaning before the payload proper; the first ones are in [`Reading::buffer`].
    Prefix,
    /// Settings, one by one; the first bytes of one are in [`Reading::buffer`].
    Settings,
    /// A body.
    Data,
    /// The rest of the body of a request that was upgraded, which comes in HTTP/1; then the preface.
    UpgradedBody,
    /// A fragment of a header block.
    Fragment,
    /// What no reader needs.
    Skip,
    /// Padding behind the payload proper.
    Padding,
    /// Bytes that cannot be attributed: the next frame is looked for.
    Resync,
    /// Where frames begin cannot be believed any more, or the header table: nothing is read.
    Stopped,
}

/// Where the reading of one direction stands.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) step: Step,
    /// The beginning of what does not lie in one piece.
    pub(super) buffer: [u8; HEADER],
    pub(super) filled: u8,
    /// Padding of the frame at hand.
    pub(super) padding: u8,
    pub(super) frame: Frame,
    /// What is left of the frame's payload without the padding, or of its prefix.
    pub(super) left: u32,
    /// Packet time of the first byte of the frame.
    pub(super) start: Timestamp,
    /// Packet time of the last byte that was seen.
    pub(super) last: Timestamp,
    /// The header block that is not over.
    pub(super) open: Option<Box<Open>>,
    /// The highest stream that this side has opened.
    pub(super) highest: u32,
    /// Streams that may have been opened where nothing was seen: from the first to the last.
    pub(super) unseen: (u32, u32),
    /// The last stream of its peer that this side processes (GOAWAY).
    pub(super) goaway: u32,
    /// How large it allows the table of its peer to be.
    pub(super) table_size: u32,
    /// The end of a header block may come whose beginning was lost.
    pub(super) lost_block: bool,
    /// Some of its frames were lost, or its beginning.
    pub(super) is_lossy: bool,
    /// Some of its frames were cut off by a snap length or a mirror.
    pub(super) is_cut: bool,
    /// No header block was read since the frames were found again: what breaks them shows that they are none.
    pub(super) is_trial: bool,
    /// FIN, and everything before it was read.
    pub(super) is_finished: bool,
    /// Bytes passed over in search of a frame.
    pub(super) passed: u32,
    /// Bytes that may be frames, where the next frame is looked for, and when they came.
    pub(super) held: Vec<u8>,
    pub(super) held_since: Timestamp,
}

/// A header block that is not over.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) block: Block,
    pub(super) decoder: Decoder,
    pub(super) stream: u32,
    /// The stream that a PUSH_PROMISE promises.
    pub(super) promised: Option<u32>,
    pub(super) ends_stream: bool,
    pub(super) start: Timestamp,
    /// Its memory, as it was counted.
    pub(super) held: usize,
}

impl Reading {
    /// At the beginning of a connection, or in its midst.
    pub(super) fn new(is_midstream: bool) -> Self {
        Self {
            step: if is_midstream {
                Step::Resync
            } else {
                Step::Preface(0)
            },
            buffer: [0; HEADER],
            filled: 0,
            padding: 0,
            frame: Frame::NONE,
            left: 0,
            start: Timestamp::ZERO,
            last: Timestamp::ZERO,
            open: None,
            highest: 0,
            unseen: if is_midstream { (1, u32::MAX) } else { (1, 0) },
            goaway: u32::MAX,
            table_size: if is_midstream {
                u32::MAX
            } else {
                TABLE_SIZE_DEFAULT
            },
            lost_block: is_midstream,
            is_lossy: is_midstream,
            is_cut: false,
            is_trial: false,
            is_finished: false,
            passed: 0,
            held: Vec::new(),
            held_since: Timestamp::ZERO,
        }
    }

    /// Frames follow.
    pub(super) fn expect_frame(&mut self) {
        (self.step, self.filled) = (Step::Header, 0);
    }

    /// Collects `wanted` octets at most as long as a frame header, and returns them once all are there.
    #[inline]
    pub(super) fn collect(&mut self, wanted: usize, input: &mut Input<'_>) -> Option<[u8; HEADER]> {
        if self.filled == 0
            && wanted == HEADER
            && let Some(whole) = input.bytes.first_chunk()
        {
            input.take(HEADER);
            return Some(*whole);
        }
        let filled = usize::from(self.filled);
        let piece = input.take(wanted - filled);
        let places = self.buffer.iter_mut().skip(filled);
        for (place, octet) in places.zip(piece) {
            *place = *octet;
        }
        let filled = filled + piece.len();
        self.filled = (filled % wanted) as u8;
        (filled == wanted).then_some(self.buffer)
    }

    /// What is left of a frame within its prefix, without padding that is not known.
    pub(super) fn left_behind_prefix(&self) -> u32 {
        self.left + self.frame.length - self.frame.prefix()
    }

    /// This side opens a stream.
    pub(super) fn open_stream(&mut self, id: u32) {
        self.highest = id;
        if self.unseen.1 == u32::MAX {
            self.unseen.1 = id - 1;
        }
    }

    /// Frames are not seen from here on, or only after some: streams may be opened in them, and the table of the peer be allowed
    /// to grow.
    pub(super) fn lose_frames(&mut self) {
        self.table_size = u32::MAX;
        if self.unseen.0 > self.unseen.1 {
            self.unseen.0 = self.highest + 1;
        }
        self.unseen.1 = u32::MAX;
    }

    /// Whether this side may have opened a stream that was not seen.
    pub(super) fn may_have_opened(&self, id: u32) -> bool {
        (self.unseen.0..=self.unseen.1).contains(&id)
    }
}

/// The size of a table until SETTINGS allow another one (RFC 9113 §6.5.2).
const TABLE_SIZE_DEFAULT: u32 = 4096;

/// Bytes being read, with their place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Input<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) offset: u64,
    pub(super) time: Timestamp,
}

impl<'a> Input<'a> {
    pub(super) fn new(place: &ByteInfo, bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            offset: place.offset,
            time: place.time,
        }
    }

    /// Takes up to `count` bytes from the front.
    #[inline]
    pub(super) fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self
            .bytes
            .split_at_checked(count)
            .unwrap_or((self.bytes, &[]));
        self.bytes = rest;
        self.offset += taken.len() as u64;
        taken
    }

    /// Takes up to `left` bytes from the front, and subtracts them.
    #[inline]
    pub(super) fn take_from(&mut self, left: &mut u32) -> &'a [u8] {
        let taken = self.take(*left as usize);
        *left -= taken.len() as u32;
        taken
    }
}
