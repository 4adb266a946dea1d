//! One direction's sequence space: raw 32-bit numbers in, 64-bit offsets out, and the ranges that wait.
//!
//! Sequence arithmetic is RFC 9293 §3.4. The queue is sorted and its ranges never overlap: the first bytes seen for
//! an offset win, as in Zeek and in Wireshark. Nothing here calls a consumer or knows the other half.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use crate::flow::pool::{Pool, charge};
use crate::limits::{REBASE_BYTES_MAX, RESYNC_SEGMENTS, SEQUENCE_JUMP_MAX};
use crate::time::Timestamp;

/// How the position of offset 0 is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// Not at all.
    No,
    /// From the other side's acknowledgement: the next byte not yet acknowledged.
    Hint,
    /// From the first segment seen of this half, its beginning was not captured.
    Seen,
    /// From its SYN.
    Syn,
}

/// Where a half's offset 0 lies in its sequence space.
#[derive(Clone, Copy, Debug)]
pub(super) struct Anchor {
    /// Sequence number of offset 0.
    pub(super) seq: u32,
    pub(super) known: Known,
}

impl Anchor {
    pub(super) const UNKNOWN: Self = Self {
        seq: 0,
        known: Known::No,
    };

    /// Whether this half itself has sent a segment that was captured.
    #[inline]
    pub(super) fn seen(self) -> bool {
        matches!(self.known, Known::Seen | Known::Syn)
    }

    /// Offset 0 is where the connection begins, or where the other side said that it goes on: no byte can come before.
    pub(super) fn exact(self) -> bool {
        matches!(self.known, Known::Hint | Known::Syn)
    }

    /// The SYN of this half occupies `isn`.
    pub(super) fn syn(&mut self, isn: u32) {
        *self = Self {
            seq: isn.wrapping_add(1),
            known: Known::Syn,
        };
    }

    /// The other side expects `ack` next.
    #[inline]
    pub(super) fn hint(&mut self, ack: u32) {
        if self.known == Known::No {
            *self = Self {
                seq: ack,
                known: Known::Hint,
            };
        }
    }

    /// The first segment of this half without SYN.
    ///
    /// An acknowledgement seen before says more than the segment does: bytes between it and a later `seq` were sent
    /// and may still come. A payload that begins before it was captured after its acknowledgement. Numbers too far
    /// from the hint belong to another connection, and the segment is believed.
    pub(super) fn first(&mut self, seq: u32, payload: bool) {
        let before = distance(self.seq, seq);
        match self.known {
            Known::No => self.seq = seq,
            Known::Hint if before.unsigned_abs() > REBASE_BYTES_MAX => self.seq = seq,
            Known::Hint if payload && before > 0 => self.seq = seq,
            Known::Hint => {}
            Known::Seen | Known::Syn => return,
        }
        self.known = Known::Seen;
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
    /// Number of the segment in its flow: the order of capture, also where clocks do not tell it.
    pub(super) number: u64,
    /// What the segment acknowledged of the other half.
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

/// A range that waits: bytes at hand, or (with no bytes) bytes that the capture cut off.
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

/// The end of a half.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fin {
    pub(super) offset: u64,
    pub(super) time: Timestamp,
    pub(super) ack: Option<u32>,
    /// The consumer knows.
    pub(super) told: bool,
}

/// Acknowledged bytes that were not captured: what is missing, and since when that is known.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Proof {
    /// The other side has everything before this offset. Nothing is proven while it is not above `next`.
    pub(super) mark: u64,
    pub(super) since: Timestamp,
    /// Segments of the flow seen since.
    pub(super) segments: u32,
}

#[derive(Debug)]
pub(super) struct Half {
    pub(super) anchor: Anchor,
    /// Everything before it was delivered, skipped or given up.
    pub(super) next: u64,
    /// The other side has acknowledged everything before it (capped at the FIN, if that is known).
    pub(super) acked: u64,
    /// An acknowledgement was seen: bytes before offset 0 are acknowledged.
    acked_known: bool,
    pub(super) fin: Option<Fin>,
    pub(super) proof: Proof,
    /// Exactly one acknowledged byte is missing at the end and grace has passed: taken for a FIN not captured.
    pub(super) fin_lost: bool,
    /// This half was acknowledged but never captured within the grace: traffic is one-sided, do not wait for it.
    pub(super) blind: bool,
    /// When bytes were last passed on, on the table's clock.
    pub(super) progress: Timestamp,
    /// Number of the last segment that acknowledged something of this half.
    pub(super) heard: u64,
    /// Segments in a row that are too far from `next` but near each other, and where the last one lies.
    strays: (u8, u32),
    /// The gap declared last; bytes that come for it now come too late.
    pub(super) lost: Range<u64>,
    pub(super) queue: VecDeque<Piece>,
    /// What the queue occupies.
    pub(super) charged: usize,
    /// Payload bytes in the queue.
    pub(super) queued_bytes: u64,
}

impl Half {
    pub(super) fn new(anchor: Anchor) -> Self {
        Self {
            anchor,
            next: 0,
            acked: 0,
            acked_known: anchor.known == Known::Hint,
            fin: None,
            proof: Proof::default(),
            fin_lost: false,
            blind: false,
            progress: Timestamp::ZERO,
            heard: 0,
            strays: (0, 0),
            lost: 0..0,
            queue: VecDeque::new(),
            charged: 0,
            queued_bytes: 0,
        }
    }

    /// Distance of a sequence number from `next`, or `None` when no segment of this connection can have it.
    #[inline]
    pub(super) fn ahead(&self, seq: u32) -> Option<i64> {
        // Offsets wrap together with sequence numbers, so the low half of `next` is all that is needed.
        let next = self
            .anchor
            .seq
            .wrapping_add((self.next & u64::from(u32::MAX)) as u32);
        let distance = distance(seq, next);
        (distance.unsigned_abs() <= SEQUENCE_JUMP_MAX).then_some(distance)
    }

    /// The offset of a sequence number; `None` when it is out of the window or before the beginning.
    #[inline]
    pub(super) fn offset(&self, seq: u32) -> Option<u64> {
        self.next.checked_add_signed(self.ahead(seq)?)
    }

    /// The raw sequence number of `next`.
    pub(super) fn next_seq(&self) -> u32 {
        self.anchor
            .seq
            .wrapping_add((self.next & u64::from(u32::MAX)) as u32)
    }

    /// Moves offset 0 back to `seq`, if nothing was passed on yet and it is not far.
    ///
    /// This repairs a midstream beginning out of order. One byte just before the beginning is a keep-alive probe
    /// (RFC 9293 §3.8.4), not data.
    pub(super) fn rebase(&mut self, seq: u32, span: u64) -> bool {
        let back = distance(self.anchor.seq, seq);
        let probe = back == 1 && span <= 1 && self.queue.is_empty();
        if self.next > 0
            || self.anchor.known == Known::Syn
            || back <= 0
            || probe
            || self.fin.is_some_and(|fin| fin.told)
        {
            return false;
        }
        let back = back.unsigned_abs();
        if back > REBASE_BYTES_MAX {
            return false;
        }
        self.anchor.seq = seq;
        if self.acked_known {
            self.acked += back;
        }
        if self.proof.mark > 0 {
            self.proof.mark += back;
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

    /// Notes what the other side has acknowledged.
    #[inline]
    pub(super) fn acknowledge(&mut self, ack: u32, number: u64) {
        self.anchor.hint(ack);
        if let Some(offset) = self.offset(ack) {
            self.heard = number;
            self.acked = self.acked.max(offset);
            self.acked_known = true;
        }
    }

    /// A segment lies at `seq`, too far from `next`: how far `next` must go if the half is to go on there.
    pub(super) fn stray(&mut self, seq: u32) -> Option<u64> {
        let (count, last) = self.strays;
        let near = distance(seq, last).unsigned_abs() <= SEQUENCE_JUMP_MAX;
        self.strays = (if near { count + 1 } else { 1 }, seq);
        if self.strays.0 < RESYNC_SEGMENTS {
            return None;
        }
        self.strays = (0, seq);
        Some(
            self.end()
                .max(self.next + u64::from(seq.wrapping_sub(self.next_seq()))),
        )
    }

    /// Acknowledged data ends here: the number that acknowledges a FIN is one past it.
    pub(super) fn acked_data(&self) -> u64 {
        match self.fin {
            Some(fin) => self.acked.min(fin.offset),
            None => self.acked,
        }
    }

    /// Acknowledged bytes are missing.
    pub(super) fn lacks(&self) -> bool {
        let acked = self.acked_data();
        acked > self.next && !(self.fin_lost && acked == self.next + 1 && self.queue.is_empty())
    }

    /// Nothing waits or is missing, and the end is not in sight.
    #[inline]
    pub(super) fn is_calm(&self) -> bool {
        self.acked <= self.next
            && self.proof.mark == 0
            && self.fin.is_none()
            && self.queue.is_empty()
    }

    /// Whether an acknowledgement covers bytes that have not been passed on yet.
    ///
    /// Only numbers that were believed (see [`Self::acknowledge`]) count, so whatever waits for this half finds it
    /// lacking bytes, and the grace for them bounds the wait.
    pub(super) fn is_behind(&self, ack: u32) -> bool {
        self.lacks()
            && self
                .offset(ack)
                .is_some_and(|offset| offset > self.next && offset <= self.acked)
    }

    /// End of everything known of this half, the FIN included.
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

    /// A FIN at `offset` was seen before the first payload of either side.
    pub(super) fn end_at(&mut self, offset: u64, time: Timestamp) {
        self.fin = Some(Fin {
            offset,
            time,
            ack: None,
            told: false,
        });
    }

    /// A range waits behind bytes that are missing.
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

    /// When the first range has waited for `age` without progress before it.
    pub(super) fn stuck_at(&self, age: Duration) -> Option<Timestamp> {
        let front = self.queue.front()?;
        Some(front.queued.max(self.progress).after(age))
    }

    /// The receiver has spoken since the first range was captured, and has not received even what precedes it.
    pub(super) fn is_refused(&self) -> bool {
        self.has_hole()
            && !self.lacks()
            && self
                .queue
                .front()
                .is_some_and(|front| self.heard > front.number)
    }

    /// Drops what waits beyond `end` and says how many bytes that was.
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

    /// Queues a copy of what is not queued yet; says how many bytes it copied.
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
    use super::*;

    fn half(seq: u32) -> Half {
        Half::new(Anchor {
            seq,
            known: Known::Syn,
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

    fn show(half: &Half) -> Vec<(u64, u64, String)> {
        half.queue
            .iter()
            .map(|piece| {
                (
                    piece.offset,
                    piece.end,
                    String::from_utf8_lossy(&piece.bytes).into_owned(),
                )
            })
            .collect()
    }

    #[track_caller]
    fn check(chunks: &[(u64, &str, u64)], expected: &[(u64, u64, &str)]) {
        let (mut half, mut pool) = (half(0), Pool::default());
        let mut copied = 0;
        for (offset, bytes, cut) in chunks {
            copied += half.insert(
                chunk(*offset, bytes.as_bytes(), *cut),
                Timestamp::ZERO,
                &mut pool,
            );
        }
        let expected: Vec<_> = expected
            .iter()
            .map(|(from, to, text)| (*from, *to, (*text).to_owned()))
            .collect();
        assert_eq!(show(&half), expected);
        assert_eq!(copied, half.queued_bytes);
        assert_eq!(half.charged, pool.charged());
    }

    #[test]
    fn first_bytes_win_and_ranges_stay_sorted() {
        check(
            &[(5, "abc", 0), (10, "def", 0)],
            &[(5, 8, "abc"), (10, 13, "def")],
        );
        check(
            &[(10, "def", 0), (5, "abc", 0)],
            &[(5, 8, "abc"), (10, 13, "def")],
        );
        check(&[(5, "abc", 0), (5, "XYZ", 0)], &[(5, 8, "abc")]);
        check(
            &[(5, "abc", 0), (4, "VWXYZ", 0)],
            &[(4, 5, "V"), (5, 8, "abc"), (8, 9, "Z")],
        );
        check(
            &[(2, "a", 0), (6, "b", 0), (0, "01234567", 0)],
            &[
                (0, 2, "01"),
                (2, 3, "a"),
                (3, 6, "345"),
                (6, 7, "b"),
                (7, 8, "7"),
            ],
        );
    }

    #[test]
    fn cut_off_bytes_are_ranges_without_bytes() {
        check(&[(5, "ab", 3)], &[(5, 7, "ab"), (7, 10, "")]);
        check(
            &[(8, "x", 0), (5, "ab", 4)],
            &[(5, 7, "ab"), (7, 8, ""), (8, 9, "x"), (9, 11, "")],
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
            let (mut half, mut pool) = (half(0), Pool::default());
            let mut twin = std::collections::BTreeMap::new();
            for step in 0..1 + below(30) {
                let (offset, len, cut) = (below(60), below(20), below(3) / 2 * below(9));
                let bytes: Vec<u8> = (0..len).map(|at| (step * 31 + at) as u8).collect();
                let given = chunk(offset, &bytes, cut);
                let copied = half.insert(given, Timestamp::ZERO, &mut pool);
                let before = twin.values().flatten().count() as u64;
                for at in given.offset..given.end {
                    let byte = bytes.get((at - offset) as usize).copied();
                    twin.entry(at).or_insert(byte);
                }
                assert_eq!(before + copied, twin.values().flatten().count() as u64);
                if below(4) == 0 {
                    half.next = below(60);
                    while let Some(piece) = half.pop() {
                        assert!(
                            piece.bytes.is_empty()
                                || piece.bytes.len() as u64 == piece.end - piece.offset
                        );
                        half.next = half.next.max(piece.end);
                        for at in piece.offset..piece.end {
                            let byte = piece.bytes.get((at - piece.offset) as usize).copied();
                            assert_eq!(twin.remove(&at), Some(byte));
                        }
                        pool.give(piece.bytes);
                    }
                }
                if below(9) == 0 {
                    let end = below(80);
                    let dropped = half.truncate(end, &mut pool);
                    let behind = twin.split_off(&end);
                    assert_eq!(dropped, behind.values().flatten().count() as u64);
                }
                let queued = half
                    .queue
                    .iter()
                    .map(|piece| piece.end - piece.offset)
                    .sum::<u64>();
                assert_eq!(queued, twin.len() as u64);
                assert!(
                    half.queue
                        .iter()
                        .zip(half.queue.iter().skip(1))
                        .all(|(a, b)| a.end <= b.offset)
                );
                assert_eq!(
                    (half.charged, half.queued_bytes),
                    (pool.charged(), pool.payload())
                );
            }
        }
    }

    #[test]
    fn offsets_follow_the_wrap() {
        let mut half = half(u32::MAX - 9);
        assert_eq!(half.offset(u32::MAX - 9), Some(0));
        assert_eq!(half.offset(5), Some(15));
        assert_eq!(half.offset(u32::MAX - 10), None);
        half.next = (1 << 33) + 20;
        assert_eq!(half.offset(half.next_seq()), Some(half.next));
        assert_eq!(
            half.offset(half.next_seq().wrapping_sub(7)),
            Some(half.next - 7)
        );
        assert_eq!(half.offset(half.next_seq().wrapping_add(1 << 31)), None);
    }

    #[test]
    fn what_lies_behind_the_end_is_dropped() {
        let (mut half, mut pool) = (half(0), Pool::default());
        half.insert(chunk(5, b"abcdef", 0), Timestamp::ZERO, &mut pool);
        half.insert(chunk(20, b"xyz", 0), Timestamp::ZERO, &mut pool);
        assert_eq!(pool.payload(), 9);
        assert_eq!(half.truncate(8, &mut pool), 6);
        assert_eq!(show(&half), [(5, 8, "abc".to_owned())]);
        assert_eq!(
            (half.charged, half.queued_bytes),
            (pool.charged(), pool.payload())
        );
    }

    #[track_caller]
    fn check_first(hint: Option<u32>, seq: u32, payload: bool, expected: u32) {
        let mut anchor = Anchor::UNKNOWN;
        if let Some(ack) = hint {
            anchor.hint(ack);
        }
        anchor.first(seq, payload);
        assert_eq!((anchor.seq, anchor.known), (expected, Known::Seen));
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
