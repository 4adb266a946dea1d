//! The assembler of one direction: 32-bit sequence numbers become 64-bit offsets, and ranges that cannot be delivered
//! yet wait in a sorted queue.
//!
//! Sequence arithmetic is RFC 9293 §3.4. Of several copies of a byte the first one captured wins, as in Zeek and in
//! Wireshark. Nothing here calls a consumer or depends on the other direction.

use std::collections::VecDeque;
use std::time::Duration;

use crate::flow::gap_list::Gaps;
use crate::flow::pool::{Patience, Pool, charge};
use crate::limits::{
    REBASE_BYTES_MAX, REORDER_GRACE_QUIET, REORDER_SEGMENTS_MIN, RESYNC_SEGMENTS, SEQUENCE_JUMP_MAX,
};
use crate::time::Timestamp;

/// What the sequence number of offset 0 was taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BaseSource {
    /// Nothing yet; the number has no meaning.
    Unknown,
    /// An acknowledgement of the peer: the first byte that was not acknowledged yet.
    Acknowledgement,
    /// The first segment captured of this direction; its start was not captured.
    FirstSegment,
    /// The SYN of this direction.
    Syn,
}

/// The sequence number that offset 0 of a direction stands for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Base {
    pub(super) seq: u32,
    pub(super) source: BaseSource,
}

impl Base {
    pub(super) const UNKNOWN: Self = Self {
        seq: 0,
        source: BaseSource::Unknown,
    };

    /// Whether a segment of this direction was captured, not only acknowledgements of it.
    #[inline]
    pub(super) fn is_captured(self) -> bool {
        matches!(self.source, BaseSource::FirstSegment | BaseSource::Syn)
    }

    /// Whether offset 0 is the start of the connection or a byte that the peer expects next: no byte can precede it.
    pub(super) fn is_exact(self) -> bool {
        matches!(self.source, BaseSource::Acknowledgement | BaseSource::Syn)
    }

    /// The initial sequence number, if the SYN of this direction was captured.
    pub(super) fn isn(self) -> Option<u32> {
        (self.source == BaseSource::Syn).then(|| self.seq.wrapping_sub(1))
    }

    /// The SYN of this direction has the number `isn`.
    pub(super) fn set_by_syn(&mut self, isn: u32) {
        *self = Self {
            seq: isn.wrapping_add(1),
            source: BaseSource::Syn,
        };
    }

    /// The peer expects `ack` next.
    #[inline]
    pub(super) fn set_by_ack(&mut self, ack: u32) {
        if self.source == BaseSource::Unknown {
            *self = Self {
                seq: ack,
                source: BaseSource::Acknowledgement,
            };
        }
    }

    /// The first segment of this direction, which is no SYN.
    ///
    /// An acknowledgement that was captured before is the better source: bytes between it and a later `seq` were sent
    /// and may still arrive. A payload that starts before it was captured after its acknowledgement. A number too far
    /// from it belongs to another connection, and the segment takes precedence.
    pub(super) fn set_by_segment(&mut self, seq: u32, payload: bool) {
        let before = distance(self.seq, seq);
        match self.source {
            BaseSource::Unknown => self.seq = seq,
            BaseSource::Acknowledgement if before.unsigned_abs() > REBASE_BYTES_MAX => {
                self.seq = seq;
            }
            BaseSource::Acknowledgement if payload && before > 0 => self.seq = seq,
            BaseSource::Acknowledgement => {}
            BaseSource::FirstSegment | BaseSource::Syn => return,
        }
        self.source = BaseSource::FirstSegment;
    }
}

/// How far `later` is after `earlier`, negative when it is before.
#[inline]
pub(super) fn distance(later: u32, earlier: u32) -> i64 {
    i64::from(later.wrapping_sub(earlier).cast_signed())
}

/// A run of sequence space from one segment: `bytes`, then what the capture cut off, up to `end`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunk<'a> {
    pub(super) offset: u64,
    pub(super) end: u64,
    pub(super) bytes: &'a [u8],
    pub(super) time: Timestamp,
    /// Number of the segment in its flow: the order of capture, which time stamps alone do not give.
    pub(super) number: u64,
    /// The segment's acknowledgement of the other direction.
    pub(super) ack: Option<u32>,
}

impl<'a> Chunk<'a> {
    /// Splits before `at` (clamped to the chunk).
    pub(super) fn split(self, at: u64) -> (Self, Self) {
        let at = at.clamp(self.offset, self.end);
        let bytes = usize::try_from(at - self.offset)
            .unwrap_or(usize::MAX)
            .min(self.bytes.len());
        let (left, right) = self
            .bytes
            .split_at_checked(bytes)
            .unwrap_or((self.bytes, &[]));
        (
            Self {
                end: at,
                bytes: left,
                ..self
            },
            Self {
                offset: at,
                bytes: right,
                ..self
            },
        )
    }

    /// Length in sequence space.
    pub(super) fn span(&self) -> u64 {
        self.end - self.offset
    }
}

/// A range that waits: its bytes, or (without bytes) a range that the capture cut off.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) offset: u64,
    pub(super) end: u64,
    pub(super) bytes: Vec<u8>,
    pub(super) time: Timestamp,
    /// When it was queued, on the table's clock.
    pub(super) queued: Timestamp,
    /// Number of its segment in the flow.
    pub(super) number: u64,
    pub(super) ack: Option<u32>,
}

impl Piece {
    pub(super) fn chunk(&self) -> Chunk<'_> {
        let Self {
            offset,
            end,
            time,
            number,
            ack,
            ..
        } = *self;
        Chunk {
            offset,
            end,
            bytes: &self.bytes,
            time,
            number,
            ack,
        }
    }
}

/// The end of a direction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fin {
    pub(super) offset: u64,
    pub(super) time: Timestamp,
    pub(super) ack: Option<u32>,
    /// Whether the consumer has received it.
    pub(super) delivered: bool,
}

/// The grace for bytes that the peer has acknowledged and the capture has not shown.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Grace {
    /// It covers the missing bytes before this offset. No grace runs while this is not above `next`.
    pub(super) until_offset: u64,
    /// When it ends.
    pub(super) ends: Timestamp,
    /// Segments of the flow after which it ends before.
    pub(super) segments_left: u32,
    /// It is the longer one of a quiet flow.
    is_extended: bool,
}

impl Grace {
    /// A grace that starts `now`.
    pub(super) fn start(until_offset: u64, now: Timestamp, patience: Patience) -> Self {
        Self {
            until_offset,
            ends: now.after(patience.grace),
            segments_left: patience.segments,
            is_extended: false,
        }
    }

    /// Its time is over; whether it goes on, since too few segments of the flow have come to bring what is missing.
    pub(super) fn extend(&mut self, patience: Patience) -> bool {
        let seen = patience.segments.saturating_sub(self.segments_left);
        let left = REORDER_SEGMENTS_MIN.saturating_sub(seen);
        let rest = REORDER_GRACE_QUIET.saturating_sub(patience.grace);
        if self.is_extended || left == 0 || rest.is_zero() {
            return false;
        }
        self.is_extended = true;
        self.ends = self.ends.after(rest);
        self.segments_left = left;
        true
    }
}

/// Segments in a row that are out of window but near each other.
#[derive(Clone, Copy, Debug, Default)]
struct OutOfWindow {
    segments: u8,
    /// Sequence number of the last one.
    last: u32,
}

/// One direction of a flow.
///
/// Invariants:
///
/// * `next` never decreases (except that `rebase` counts all offsets anew while it is 0): everything before it was
///   delivered, skipped or declared a gap.
/// * The ranges of `queue` are sorted by offset and do not overlap; each has all of its bytes or none. They start at or
///   after `next`, or behind it only for the moment until they are delivered.
/// * `charged` and `queued_bytes` are the sums over `queue`.
/// * Nothing in `queue` lies behind `fin`.
#[derive(Debug)]
pub(super) struct Assembler {
    pub(super) base: Base,
    /// The offset expected next.
    pub(super) next: u64,
    /// The peer has acknowledged everything before this offset; the number that acknowledges a FIN is one past it.
    pub(super) acked: u64,
    /// An acknowledgement was seen: bytes before offset 0 are acknowledged.
    acked_known: bool,
    pub(super) fin: Option<Fin>,
    pub(super) grace: Grace,
    /// Exactly one acknowledged byte is missing at the end, and its grace is over: it is taken for a FIN that was not
    /// captured.
    pub(super) fin_assumed: bool,
    /// A grace passed in which no segment of this direction was captured: the traffic is one-sided, and nothing waits
    /// for this direction.
    pub(super) uncaptured: bool,
    /// When bytes were last delivered, on the table's clock.
    pub(super) progress: Timestamp,
    /// Number of the last segment that acknowledged something of this direction.
    pub(super) acked_by: u64,
    out_of_window: OutOfWindow,
    /// The gaps whose bytes are late if they still arrive.
    pub(super) gaps: Gaps,
    pub(super) queue: VecDeque<Piece>,
    /// Memory that the queue occupies, in bytes.
    pub(super) charged: usize,
    /// Payload bytes in the queue.
    pub(super) queued_bytes: u64,
}

impl Assembler {
    pub(super) fn new(base: Base) -> Self {
        Self {
            base,
            next: 0,
            acked: 0,
            acked_known: base.source == BaseSource::Acknowledgement,
            fin: None,
            grace: Grace::default(),
            fin_assumed: false,
            uncaptured: false,
            progress: Timestamp::ZERO,
            acked_by: 0,
            out_of_window: OutOfWindow::default(),
            gaps: Gaps::default(),
            queue: VecDeque::new(),
            charged: 0,
            queued_bytes: 0,
        }
    }

    /// Distance of a sequence number from `next`, or `None` when no segment of this connection can have it.
    #[inline]
    pub(super) fn ahead(&self, seq: u32) -> Option<i64> {
        let distance = distance(seq, self.next_seq());
        (distance.unsigned_abs() <= SEQUENCE_JUMP_MAX).then_some(distance)
    }

    /// The offset of a sequence number; `None` when it is out of window or before offset 0.
    #[inline]
    pub(super) fn offset(&self, seq: u32) -> Option<u64> {
        self.next.checked_add_signed(self.ahead(seq)?)
    }

    /// The sequence number of `next`.
    #[inline]
    pub(super) fn next_seq(&self) -> u32 {
        // Offsets wrap together with sequence numbers, so the low 32 bits of `next` are all that is needed.
        self.base
            .seq
            .wrapping_add((self.next & u64::from(u32::MAX)) as u32)
    }

    /// Moves offset 0 back to `seq`, if nothing was delivered yet and it is not far.
    ///
    /// This repairs a midstream start that was captured out of order. One byte just before the start is a keep-alive
    /// probe (RFC 9293 §3.8.4), not data.
    pub(super) fn rebase(&mut self, seq: u32, span: u64) -> bool {
        let back = distance(self.base.seq, seq);
        let probe = back == 1 && span <= 1 && self.queue.is_empty();
        if self.next > 0
            || self.base.source == BaseSource::Syn
            || back <= 0
            || probe
            || self.fin.is_some_and(|fin| fin.delivered)
        {
            return false;
        }
        let back = back.unsigned_abs();
        if back > REBASE_BYTES_MAX {
            return false;
        }
        self.base.seq = seq;
        if self.acked_known {
            self.acked += back;
        }
        if self.grace.until_offset > 0 {
            self.grace.until_offset += back;
        }
        if let Some(fin) = &mut self.fin {
            fin.offset += back;
        }
        for piece in &mut self.queue {
            piece.offset += back;
            piece.end += back;
        }
        true
    }

    /// Takes in an acknowledgement of the peer.
    #[inline]
    pub(super) fn acknowledge(&mut self, ack: u32, number: u64) {
        self.base.set_by_ack(ack);
        if let Some(offset) = self.offset(ack) {
            self.acked_by = number;
            self.acked = self.acked.max(offset);
            self.acked_known = true;
        }
    }

    /// Counts a segment that is out of window at `seq`. Returns the offset at which the direction continues, once as
    /// many segments in a row as prove it lie near each other.
    pub(super) fn resync_at(&mut self, seq: u32) -> Option<u64> {
        let OutOfWindow { segments, last } = self.out_of_window;
        let near = distance(seq, last).unsigned_abs() <= SEQUENCE_JUMP_MAX;
        let segments = if near { segments + 1 } else { 1 };
        let proven = segments >= RESYNC_SEGMENTS;
        self.out_of_window = OutOfWindow {
            segments: if proven { 0 } else { segments },
            last: seq,
        };
        proven.then(|| {
            self.end()
                .max(self.next + u64::from(seq.wrapping_sub(self.next_seq())))
        })
    }

    /// The end of acknowledged data: without the number that acknowledges a FIN.
    pub(super) fn acked_data(&self) -> u64 {
        match self.fin {
            Some(fin) => self.acked.min(fin.offset),
            None => self.acked,
        }
    }

    /// Whether bytes are missing that the peer has acknowledged.
    pub(super) fn lacks_acked(&self) -> bool {
        let acked = self.acked_data();
        acked > self.next && !(self.fin_assumed && acked == self.next + 1 && self.queue.is_empty())
    }

    /// Whether there is no hole, nothing waits, and no end was announced.
    #[inline]
    pub(super) fn is_settled(&self) -> bool {
        self.acked <= self.next
            && self.grace.until_offset == 0
            && self.fin.is_none()
            && self.queue.is_empty()
    }

    /// Whether a grace for acknowledged bytes runs.
    pub(super) fn has_grace(&self) -> bool {
        self.grace.until_offset > self.next
    }

    /// Whether an acknowledgement covers bytes that have not been delivered yet.
    ///
    /// Only numbers within the window (see [`Self::acknowledge`]) count, so a direction that something waits for lacks
    /// acknowledged bytes, and the grace for them bounds the wait.
    pub(super) fn is_behind(&self, ack: u32) -> bool {
        self.lacks_acked()
            && self
                .offset(ack)
                .is_some_and(|offset| offset > self.next && offset <= self.acked)
    }

    /// End of everything known of this direction, the FIN included.
    pub(super) fn end(&self) -> u64 {
        let end = self
            .queue
            .back()
            .map_or(self.next, |piece| piece.end.max(self.next));
        match self.fin {
            Some(fin) => end.max(fin.offset + 1),
            None => end,
        }
    }

    /// Offset of the first range that waits.
    pub(super) fn front(&self) -> Option<u64> {
        self.queue.front().map(|piece| piece.offset)
    }

    /// Sets a FIN at `offset` that was seen before the first payload of either direction.
    pub(super) fn end_at(&mut self, offset: u64, time: Timestamp) {
        self.fin = Some(Fin {
            offset,
            time,
            ack: None,
            delivered: false,
        });
    }

    /// Whether a range waits behind missing bytes.
    pub(super) fn has_hole(&self) -> bool {
        self.front().is_some_and(|front| front > self.next)
    }

    /// Takes the first range if nothing is missing before it.
    pub(super) fn pop(&mut self) -> Option<Piece> {
        let piece = self.queue.pop_front_if(|piece| piece.offset <= self.next)?;
        self.charged = self.charged.saturating_sub(charge(&piece.bytes));
        self.queued_bytes -= piece.bytes.len() as u64;
        Some(piece)
    }

    /// When the first range will have waited for `age` since it was queued or bytes before it were delivered.
    pub(super) fn overdue_at(&self, age: Duration) -> Option<Timestamp> {
        let front = self.queue.front()?;
        Some(front.queued.max(self.progress).after(age))
    }

    /// Whether the peer has sent acknowledgements since the first range was captured and still lacks the bytes before it:
    /// the range was never in its window.
    pub(super) fn is_front_unreceived(&self) -> bool {
        self.has_hole()
            && !self.lacks_acked()
            && self
                .queue
                .front()
                .is_some_and(|front| self.acked_by > front.number)
    }

    /// Drops what waits beyond `end`; returns its payload bytes.
    pub(super) fn truncate(&mut self, end: u64, pool: &mut Pool) -> u64 {
        let mut dropped = 0;
        while let Some(mut piece) = self.queue.pop_back_if(|piece| piece.end > end) {
            let keep = usize::try_from(end.saturating_sub(piece.offset)).unwrap_or(usize::MAX);
            let cut = pool.cut(&mut piece.bytes, keep);
            dropped += cut;
            self.queued_bytes -= cut;
            if piece.offset < end {
                piece.end = end;
                self.queue.push_back(piece);
                break;
            }
            self.charged = self.charged.saturating_sub(charge(&piece.bytes));
            pool.give(piece.bytes);
        }
        dropped
    }

    /// Queues a copy of what is not queued yet; returns the number of bytes copied.
    pub(super) fn insert(&mut self, chunk: Chunk<'_>, now: Timestamp, pool: &mut Pool) -> u64 {
        let before = self.queued_bytes;
        let have = chunk.offset + chunk.bytes.len() as u64;
        // Bytes and what was cut off behind them become separate ranges: each piece is all there or all missing.
        let (bytes, cut) = chunk.split(have);
        for part in [bytes, cut] {
            self.insert_uniform(part, now, pool);
        }
        self.queued_bytes - before
    }

    fn insert_uniform(&mut self, mut rest: Chunk<'_>, now: Timestamp, pool: &mut Pool) {
        let mut at = match self.queue.back() {
            Some(back) if back.end > rest.offset => {
                self.queue.partition_point(|piece| piece.end <= rest.offset)
            }
            _ => self.queue.len(),
        };
        while rest.span() > 0 {
            let (taken_from, taken_to) = match self.queue.get(at) {
                Some(piece) => (piece.offset, piece.end),
                None => (u64::MAX, u64::MAX),
            };
            let (free, behind) = rest.split(taken_from);
            if free.span() > 0 {
                let bytes = pool.copy(free.bytes);
                self.charged += charge(&bytes);
                self.queued_bytes += bytes.len() as u64;
                let Chunk {
                    offset,
                    end,
                    time,
                    number,
                    ack,
                    ..
                } = free;
                self.queue.insert(
                    at,
                    Piece {
                        offset,
                        end,
                        bytes,
                        time,
                        queued: now,
                        number,
                        ack,
                    },
                );
                at += 1;
            }
            rest = behind.split(taken_to).1;
            at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use super::*;

    /// The queue as `5..8 abc, 8..10 cut`.
    impl fmt::Display for Assembler {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            for (at, piece) in self.queue.iter().enumerate() {
                let text = match piece.bytes.as_slice() {
                    b"" => "cut".into(),
                    bytes => String::from_utf8_lossy(bytes),
                };
                let comma = if at == 0 { "" } else { ", " };
                write!(f, "{comma}{}..{} {text}", piece.offset, piece.end)?;
            }
            Ok(())
        }
    }

    fn assembler(seq: u32) -> Assembler {
        Assembler::new(Base {
            seq,
            source: BaseSource::Syn,
        })
    }

    fn chunk(offset: u64, bytes: &[u8], cut: u64) -> Chunk<'_> {
        Chunk {
            offset,
            end: offset + bytes.len() as u64 + cut,
            bytes,
            time: Timestamp::ZERO,
            number: 0,
            ack: None,
        }
    }

    #[track_caller]
    fn check(chunks: &[(u64, &str, u64)], expected: &str) {
        let (mut assembler, mut pool) = (assembler(0), Pool::default());
        let mut copied = 0;
        for (offset, bytes, cut) in chunks {
            copied += assembler.insert(
                chunk(*offset, bytes.as_bytes(), *cut),
                Timestamp::ZERO,
                &mut pool,
            );
        }
        assert_eq!(assembler.to_string(), expected);
        assert_eq!(copied, assembler.queued_bytes);
        assert_eq!(assembler.charged, pool.charged());
    }

    #[test]
    fn first_bytes_win_and_ranges_stay_sorted() {
        check(&[(5, "abc", 0), (10, "def", 0)], "5..8 abc, 10..13 def");
        check(&[(10, "def", 0), (5, "abc", 0)], "5..8 abc, 10..13 def");
        check(&[(5, "abc", 0), (5, "XYZ", 0)], "5..8 abc");
        check(
            &[(5, "abc", 0), (4, "VWXYZ", 0)],
            "4..5 V, 5..8 abc, 8..9 Z",
        );
        check(
            &[(2, "a", 0), (6, "b", 0), (0, "01234567", 0)],
            "0..2 01, 2..3 a, 3..6 345, 6..7 b, 7..8 7",
        );
    }

    #[test]
    fn cut_off_bytes_are_ranges_without_bytes() {
        check(&[(5, "ab", 3)], "5..7 ab, 7..10 cut");
        check(
            &[(8, "x", 0), (5, "ab", 4)],
            "5..7 ab, 7..8 cut, 8..9 x, 9..11 cut",
        );
    }

    /// The obvious twin: a map from offset to byte, the first one wins.
    #[test]
    fn random_ranges_queue_as_in_a_map_of_bytes() {
        let mut state = 1_u64;
        let mut below = |end: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % end
        };
        for _ in 0..2000 {
            let (mut assembler, mut pool) = (assembler(0), Pool::default());
            let mut twin = std::collections::BTreeMap::new();
            for step in 0..1 + below(30) {
                let (offset, len, cut) = (below(60), below(20), below(3) / 2 * below(9));
                let bytes: Vec<u8> = (0..len).map(|at| (step * 31 + at) as u8).collect();
                let given = chunk(offset, &bytes, cut);
                let copied = assembler.insert(given, Timestamp::ZERO, &mut pool);
                let before = twin.values().flatten().count() as u64;
                for at in given.offset..given.end {
                    let byte = bytes.get((at - offset) as usize).copied();
                    twin.entry(at).or_insert(byte);
                }
                assert_eq!(before + copied, twin.values().flatten().count() as u64);
                if below(4) == 0 {
                    assembler.next = below(60);
                    while let Some(piece) = assembler.pop() {
                        assert!(
                            piece.bytes.is_empty()
                                || piece.bytes.len() as u64 == piece.end - piece.offset
                        );
                        assembler.next = assembler.next.max(piece.end);
                        for at in piece.offset..piece.end {
                            let byte = piece.bytes.get((at - piece.offset) as usize).copied();
                            assert_eq!(twin.remove(&at), Some(byte));
                        }
                        pool.give(piece.bytes);
                    }
                }
                if below(9) == 0 {
                    let end = below(80);
                    let dropped = assembler.truncate(end, &mut pool);
                    let behind = twin.split_off(&end);
                    assert_eq!(dropped, behind.values().flatten().count() as u64);
                }
                let queued = assembler
                    .queue
                    .iter()
                    .map(|piece| piece.end - piece.offset)
                    .sum::<u64>();
                assert_eq!(queued, twin.len() as u64);
                assert!(
                    assembler
                        .queue
                        .iter()
                        .zip(assembler.queue.iter().skip(1))
                        .all(|(a, b)| a.end <= b.offset)
                );
                assert_eq!(
                    (assembler.charged, assembler.queued_bytes),
                    (pool.charged(), pool.payload())
                );
            }
        }
    }

    #[test]
    fn offsets_follow_the_wrap() {
        let mut assembler = assembler(u32::MAX - 9);
        assert_eq!(assembler.offset(u32::MAX - 9), Some(0));
        assert_eq!(assembler.offset(5), Some(15));
        assert_eq!(assembler.offset(u32::MAX - 10), None);
        assembler.next = (1 << 33) + 20;
        assert_eq!(assembler.offset(assembler.next_seq()), Some(assembler.next));
        assert_eq!(
            assembler.offset(assembler.next_seq().wrapping_sub(7)),
            Some(assembler.next - 7)
        );
        assert_eq!(
            assembler.offset(assembler.next_seq().wrapping_add(1 << 31)),
            None
        );
    }

    #[test]
    fn what_lies_behind_the_end_is_dropped() {
        let (mut assembler, mut pool) = (assembler(0), Pool::default());
        assembler.insert(chunk(5, b"abcdef", 0), Timestamp::ZERO, &mut pool);
        assembler.insert(chunk(20, b"xyz", 0), Timestamp::ZERO, &mut pool);
        assert_eq!(pool.payload(), 9);
        assert_eq!(assembler.truncate(8, &mut pool), 6);
        assert_eq!(assembler.to_string(), "5..8 abc");
        assert_eq!(
            (assembler.charged, assembler.queued_bytes),
            (pool.charged(), pool.payload())
        );
    }

    #[track_caller]
    fn check_first(acked: Option<u32>, seq: u32, payload: bool, expected: u32) {
        let mut base = Base::UNKNOWN;
        if let Some(ack) = acked {
            base.set_by_ack(ack);
        }
        base.set_by_segment(seq, payload);
        assert_eq!(
            (base.seq, base.source),
            (expected, BaseSource::FirstSegment)
        );
    }

    #[test]
    fn the_first_segment_is_read_in_the_light_of_the_acknowledgement() {
        check_first(None, 700, true, 700);
        check_first(Some(500), 700, true, 500);
        check_first(Some(500), 300, true, 300);
        check_first(Some(500), 300, false, 500);
        check_first(Some(100), u32::MAX - 99, true, u32::MAX - 99);
        check_first(Some(500), 1 << 30, true, 1 << 30);
    }
}
