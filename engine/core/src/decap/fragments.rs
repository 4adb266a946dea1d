//! IP fragments, put together in any order, with duplicates and overlaps: RFC 791 §3.2, RFC 8200 §4.5.
//!
//! Held fragments are copied. What is held is bounded in datagrams, in bytes, in pieces of a datagram and in packet
//! time; the oldest datagram is evicted for a new one. Each fragment that is stored ends in exactly one of the counters
//! joined, expired, evicted, or still waits: [`Fragments::waiting`].
//!
//! Where fragments overlap the first bytes win. Receivers differ (Linux and RFC 5722 drop the datagram, others take
//! the last), and one that drops it gets the same bytes again, which reassembly then recognises as a retransmission.

use std::collections::VecDeque;
use std::time::Duration;

use crate::limits::{
    CLOCK_STEP_BACK, FRAGMENT_BYTES_MAX, FRAGMENT_DATAGRAMS_MAX, FRAGMENT_PIECES_MAX,
    FRAGMENT_WAIT_SECONDS,
};
use crate::time::Timestamp;

use super::counters::Counters;

/// Bytes of the largest payload that fragments can make: their offsets and lengths reach no further.
const PAYLOAD_BYTES_MAX: u32 = 65_535;

const WAIT: Duration = Duration::from_secs(FRAGMENT_WAIT_SECONDS);

/// What fragments of one datagram have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    /// Tunnels on the way to it.
    pub(super) network: u64,
    /// Sender.
    pub(super) src: [u8; 16],
    /// Receiver.
    pub(super) dst: [u8; 16],
    /// Identification.
    pub(super) identification: u32,
    /// IPv4's protocol; 0 for IPv6, where it is no part of the key.
    pub(super) protocol: u8,
}

/// One fragment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece<'b> {
    /// Its position in the payload.
    pub(super) offset: u32,
    /// Further fragments follow.
    pub(super) more: bool,
    /// Protocol of the payload, by this fragment.
    pub(super) next: u8,
    /// Its captured bytes.
    pub(super) bytes: &'b [u8],
    /// Its length on the wire, not less.
    pub(super) wire_len: usize,
}

/// What became of a fragment.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Added {
    /// It waits for the others.
    Held,
    /// It was the last one missing.
    Complete(Payload),
    /// All its bytes had arrived already.
    Duplicate,
    /// It contradicts itself or the others, or its datagram has too many pieces.
    Refused,
}

/// A payload whose fragments have all arrived.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Payload {
    /// The captured bytes, up to the first that a truncated fragment left out.
    pub(super) bytes: Vec<u8>,
    /// Length on the wire.
    pub(super) wire_len: usize,
    /// Its protocol, by the first fragment.
    pub(super) next: u8,
}

/// The datagrams that wait for fragments, oldest first.
#[derive(Debug, Default)]
pub(super) struct Fragments {
    datagrams: VecDeque<Datagram>,
    bytes: usize,
}

impl Fragments {
    /// Takes in one fragment, and drops datagrams that have waited too long at `now`.
    pub(super) fn add(
        &mut self,
        key: Key,
        piece: Piece<'_>,
        now: Timestamp,
        counters: &mut Counters,
    ) -> Added {
        self.expire(now, counters);
        counters.fragments += 1;
        let added = self.place(key, piece, now, counters);
        match &added {
            Added::Held | Added::Complete(_) => counters.fragments_stored += 1,
            Added::Duplicate => counters.fragments_duplicate += 1,
            Added::Refused => counters.fragments_refused += 1,
        }
        added
    }

    fn place(
        &mut self,
        key: Key,
        piece: Piece<'_>,
        now: Timestamp,
        counters: &mut Counters,
    ) -> Added {
        let Some(span) = Span::of(&piece) else {
            return Added::Refused;
        };
        let at = self
            .datagrams
            .iter()
            .position(|datagram| datagram.key == key);
        let at = at.unwrap_or_else(|| {
            self.datagrams.push_back(Datagram::new(key, now));
            self.datagrams.len() - 1
        });
        let Some(datagram) = self.datagrams.get_mut(at) else {
            return Added::Refused;
        };
        let before = datagram.buffer.len();
        let added = datagram.add(span, &piece, counters);
        self.bytes += datagram.buffer.len() - before;
        match added {
            Added::Held if datagram.is_complete() => self.complete(at, counters),
            Added::Refused if datagram.spans.is_empty() => {
                self.remove(at);
                Added::Refused
            }
            _ => {
                self.keep_bounds(counters);
                added
            }
        }
    }

    fn complete(&mut self, at: usize, counters: &mut Counters) -> Added {
        let Some(datagram) = self.remove(at) else {
            return Added::Refused;
        };
        counters.fragments_joined += datagram.stored;
        counters.datagrams_joined += 1;
        Added::Complete(datagram.into_payload())
    }

    fn keep_bounds(&mut self, counters: &mut Counters) {
        while self.datagrams.len() > FRAGMENT_DATAGRAMS_MAX || self.bytes > FRAGMENT_BYTES_MAX {
            let Some(oldest) = self.remove(0) else { return };
            counters.fragments_evicted += oldest.stored;
        }
    }

    fn expire(&mut self, now: Timestamp, counters: &mut Counters) {
        // One from before the clock was set back has no age that could be known.
        let is_over = |oldest: &Datagram| {
            now.since(oldest.since) > WAIT || oldest.since.since(now) > CLOCK_STEP_BACK
        };
        while self.datagrams.front().is_some_and(is_over) {
            let Some(oldest) = self.remove(0) else { return };
            counters.fragments_expired += oldest.stored;
        }
    }

    fn remove(&mut self, at: usize) -> Option<Datagram> {
        let removed = self.datagrams.remove(at)?;
        self.bytes -= removed.buffer.len();
        Some(removed)
    }

    /// Fragments that are stored now.
    pub(super) fn waiting(&self) -> u64 {
        self.datagrams.iter().map(|datagram| datagram.stored).sum()
    }
}

/// A range of a payload, captured up to `captured`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    start: u32,
    end: u32,
    captured: u32,
}

impl Span {
    /// The range of a fragment, if it is valid: all but the last have a multiple of eight bytes.
    fn of(piece: &Piece<'_>) -> Option<Self> {
        let len = u32::try_from(piece.wire_len).ok()?;
        let end = piece.offset.checked_add(len)?;
        let fits = len > 0 && end <= PAYLOAD_BYTES_MAX && !(piece.more && len % 8 != 0);
        let captured = piece.offset + u32::try_from(piece.bytes.len()).ok()?.min(len);
        fits.then_some(Self {
            start: piece.offset,
            end,
            captured,
        })
    }
}

#[derive(Debug)]
struct Datagram {
    key: Key,
    since: Timestamp,
    /// Protocol of the payload, once the first fragment has arrived.
    next: u8,
    /// Payload length, once the last fragment has arrived.
    len: Option<u32>,
    /// The ranges that have arrived: sorted, without overlaps.
    spans: Vec<Span>,
    buffer: Vec<u8>,
    stored: u64,
}

impl Datagram {
    fn new(key: Key, since: Timestamp) -> Self {
        Self {
            key,
            since,
            next: 0,
            len: None,
            spans: Vec::new(),
            buffer: Vec::new(),
            stored: 0,
        }
    }

    fn add(&mut self, span: Span, piece: &Piece<'_>, counters: &mut Counters) -> Added {
        if self.contradicts(span, piece.more) || self.spans.len() >= FRAGMENT_PIECES_MAX {
            return Added::Refused;
        }
        let free = self.free(span);
        let is_last_new = !piece.more && self.len.is_none();
        if is_last_new {
            self.len = Some(span.end);
        }
        if free.is_empty() && !is_last_new {
            return Added::Duplicate;
        }
        let new_bytes: u32 = free.iter().map(|part| part.end - part.start).sum();
        counters.fragments_overlapping += u64::from(new_bytes < span.end - span.start);
        for part in free {
            self.fill(part, piece);
        }
        if piece.offset == 0 {
            self.next = piece.next;
        }
        self.stored += 1;
        Added::Held
    }

    /// Whether a fragment reaches past the end of the last one, or has another end.
    fn contradicts(&self, span: Span, more: bool) -> bool {
        let reach = self.spans.last().map_or(0, |last| last.end);
        match self.len {
            Some(len) => span.end > len || (!more && span.end != len),
            None => !more && span.end < reach,
        }
    }

    /// The parts of `span` that nothing covers yet, in order.
    fn free(&self, span: Span) -> Vec<Span> {
        let mut free = Vec::new();
        let mut start = span.start;
        for there in &self.spans {
            if there.start >= span.end {
                break;
            }
            if there.start > start {
                free.push(Span {
                    start,
                    end: there.start,
                    captured: span.captured.clamp(start, there.start),
                });
            }
            start = start.max(there.end);
        }
        if start < span.end {
            free.push(Span {
                start,
                end: span.end,
                captured: span.captured.clamp(start, span.end),
            });
        }
        free
    }

    fn fill(&mut self, part: Span, piece: &Piece<'_>) {
        let [start, captured] = [part.start, part.captured].map(|offset| offset as usize);
        let skipped = start - piece.offset as usize;
        if self.buffer.len() < captured {
            self.buffer.resize(captured, 0);
        }
        let source = piece.bytes.get(skipped..).unwrap_or_default();
        if let Some(target) = self.buffer.get_mut(start..captured) {
            for (to, from) in target.iter_mut().zip(source) {
                *to = *from;
            }
        }
        let at = self.spans.partition_point(|there| there.start < part.start);
        self.spans.insert(at, part);
    }

    fn is_complete(&self) -> bool {
        let covered: u32 = self.spans.iter().map(|span| span.end - span.start).sum();
        self.len == Some(covered)
    }

    fn into_payload(mut self) -> Payload {
        let cut = self.spans.iter().find(|span| span.captured < span.end);
        if let Some(cut) = cut {
            self.buffer.truncate(cut.captured as usize);
        }
        let wire_len = self.len.unwrap_or_default() as usize;
        Payload {
            bytes: self.buffer,
            wire_len,
            next: self.next,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = Key {
        network: 0,
        src: [1; 16],
        dst: [2; 16],
        identification: 7,
        protocol: 6,
    };

    fn piece(bytes: &[u8], offset: u32, more: bool) -> Piece<'_> {
        Piece {
            offset,
            more,
            next: 6,
            bytes,
            wire_len: bytes.len(),
        }
    }

    fn payload(bytes: &[u8]) -> Added {
        Added::Complete(Payload {
            bytes: bytes.to_vec(),
            wire_len: bytes.len(),
            next: 6,
        })
    }

    /// Adds fragments of one datagram and compares what became of the last one.
    #[track_caller]
    fn check(pieces: &[Piece<'_>], expected: Added) -> Counters {
        let mut fragments = Fragments::default();
        let mut counters = Counters::default();
        let mut last = Added::Held;
        for piece in pieces {
            last = fragments.add(KEY, *piece, Timestamp::ZERO, &mut counters);
        }
        assert_eq!(last, expected);
        assert_balanced(&fragments, &counters);
        counters
    }

    #[track_caller]
    fn assert_balanced(fragments: &Fragments, c: &Counters) {
        assert_eq!(
            c.fragments,
            c.fragments_stored + c.fragments_duplicate + c.fragments_refused
        );
        let ended = c.fragments_joined + c.fragments_expired + c.fragments_evicted;
        assert_eq!(c.fragments_stored, ended + fragments.waiting());
        let bytes: usize = fragments
            .datagrams
            .iter()
            .map(|datagram| datagram.buffer.len())
            .sum();
        assert_eq!(fragments.bytes, bytes);
    }

    const A: &[u8] = b"aaaaaaaa";
    const B: &[u8] = b"bbbbbbbb";
    const C: &[u8] = b"ccc";

    #[test]
    fn any_order() {
        let [a, b, c] = [piece(A, 0, true), piece(B, 8, true), piece(C, 16, false)];
        for order in [[a, b, c], [c, b, a], [b, a, c], [c, a, b]] {
            check(&order, payload(b"aaaaaaaabbbbbbbbccc"));
        }
        check(&[a, c], Added::Held);
        check(&[b, c], Added::Held);
    }

    #[test]
    fn first_bytes_win() {
        let counters = check(
            &[
                piece(A, 8, true),
                piece(&[b'x'; 24], 0, true),
                piece(C, 24, false),
            ],
            payload(b"xxxxxxxxaaaaaaaaxxxxxxxxccc"),
        );
        assert_eq!(counters.fragments_overlapping, 1);
    }

    #[test]
    fn duplicates_and_contradictions() {
        check(&[piece(A, 0, true), piece(B, 0, true)], Added::Duplicate);
        check(&[piece(C, 16, false), piece(B, 24, true)], Added::Refused);
        check(&[piece(C, 16, false), piece(B, 16, false)], Added::Refused);
        check(&[piece(B, 16, true), piece(A, 0, false)], Added::Refused);
        check(&[piece(C, 0, true)], Added::Refused);
        check(&[piece(&[], 8, false)], Added::Refused);
        check(&[piece(B, 65_528, false)], Added::Refused);
    }

    #[test]
    fn a_cut_fragment_cuts_the_payload_and_keeps_its_length() {
        let cut = Piece {
            wire_len: 8,
            ..piece(b"bb", 8, true)
        };
        let expected = Payload {
            bytes: b"aaaaaaaabb".to_vec(),
            wire_len: 19,
            next: 6,
        };
        check(
            &[piece(A, 0, true), cut, piece(C, 16, false)],
            Added::Complete(expected),
        );
    }

    #[test]
    fn other_datagrams_stay_apart() {
        let mut fragments = Fragments::default();
        let mut counters = Counters::default();
        let other = Key { network: 1, ..KEY };
        fragments.add(KEY, piece(A, 0, true), Timestamp::ZERO, &mut counters);
        let added = fragments.add(other, piece(C, 8, false), Timestamp::ZERO, &mut counters);
        assert_eq!((added, fragments.waiting()), (Added::Held, 2));
    }

    #[test]
    fn waits_no_longer_than_the_bound() {
        let mut fragments = Fragments::default();
        let mut counters = Counters::default();
        fragments.add(KEY, piece(A, 0, true), Timestamp::ZERO, &mut counters);
        let late = Timestamp::ZERO.after(WAIT + Duration::from_nanos(1));
        assert_eq!(
            fragments.add(KEY, piece(C, 8, false), late, &mut counters),
            Added::Held
        );
        assert_eq!((counters.fragments_expired, fragments.waiting()), (1, 1));
        assert_balanced(&fragments, &counters);
        // The clock is set back.
        fragments.add(KEY, piece(A, 0, true), late, &mut counters);
        let (early, other) = (Timestamp::ZERO, Key { network: 1, ..KEY });
        let long_after = early.after(CLOCK_STEP_BACK * 2);
        fragments.add(other, piece(A, 0, true), long_after, &mut counters);
        let held = fragments.waiting();
        fragments.add(KEY, piece(C, 8, false), early, &mut counters);
        assert!(
            fragments.waiting() <= held,
            "what is from before it is gone"
        );
        assert_balanced(&fragments, &counters);
    }

    #[test]
    fn the_oldest_is_evicted() {
        let mut fragments = Fragments::default();
        let mut counters = Counters::default();
        for identification in 0..FRAGMENT_DATAGRAMS_MAX as u32 + 5 {
            fragments.add(
                Key {
                    identification,
                    ..KEY
                },
                piece(A, 0, true),
                Timestamp::ZERO,
                &mut counters,
            );
        }
        assert_eq!(counters.fragments_evicted, 5);
        for identification in 0..200 {
            let far = piece(A, 65_520, true);
            fragments.add(
                Key {
                    identification,
                    protocol: 17,
                    ..KEY
                },
                far,
                Timestamp::ZERO,
                &mut counters,
            );
            assert!(fragments.bytes <= FRAGMENT_BYTES_MAX);
        }
        assert_balanced(&fragments, &counters);
    }

    #[test]
    fn pieces_are_bounded() {
        let mut fragments = Fragments::default();
        let mut counters = Counters::default();
        for number in 0..FRAGMENT_PIECES_MAX as u32 + 9 {
            fragments.add(
                KEY,
                piece(A, number * 16, true),
                Timestamp::ZERO,
                &mut counters,
            );
        }
        assert_eq!(counters.fragments_refused, 9);
        assert_balanced(&fragments, &counters);
    }

    /// Any cut into fragments, in any order, with repeats, gives the payload back.
    #[test]
    fn random_cuts_come_together() {
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = |below: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random % below as u64) as usize
        };
        for _ in 0..500 {
            let whole: Vec<u8> = (0..1 + next(400)).map(|_| next(256) as u8).collect();
            let mut pieces = Vec::new();
            let mut start = 0;
            while start < whole.len() {
                let end = (start + 8 * (1 + next(9))).min(whole.len());
                pieces.push(piece(&whole[start..end], start as u32, end < whole.len()));
                start = end;
            }
            for at in (1..pieces.len()).rev() {
                pieces.swap(at, next(at + 1));
            }
            let repeated: Vec<_> = pieces
                .iter()
                .enumerate()
                .flat_map(|(at, piece)| [*piece; 2].into_iter().take(1 + at % 2))
                .collect();
            let mut fragments = Fragments::default();
            let mut counters = Counters::default();
            let complete = repeated.iter().find_map(|piece| {
                let added = fragments.add(KEY, *piece, Timestamp::ZERO, &mut counters);
                matches!(added, Added::Complete(_)).then_some(added)
            });
            assert_eq!(complete, Some(payload(&whole)));
            assert_balanced(&fragments, &counters);
        }
    }
}
