//! How connections begin: segments in that carry a SYN, that come before any payload, or after the end; out comes whose
//! they are.
//!
//! RFC 9293 §3.5 as an onlooker sees it, with the doubts of RFC 5961: a SYN into a living connection may be forged, so
//! it has to be confirmed by what follows.

use crate::decap::{Flags, Network, Segment};
use crate::flow::assembler::{Anchor, Known, distance};
use crate::flow::slab::NONE;
use crate::flow::stream::Stream;
use crate::flow::{Consumer, Direction, FlowEnd, FlowStart};
use crate::limits::{
    REBASE_BYTES_MAX, REORDER_GRACE, SEQUENCE_JUMP_MAX, SYN_DUPLICATE_AGE, SYN_REUSE_SILENCE,
};
use crate::time::Timestamp;

use super::{Flow, State, Table};

/// What a segment is to the flow that has its addresses and ports.
pub(super) enum Verdict {
    /// One of its segments.
    Goes,
    /// Counted, nothing else.
    Dropped,
    /// The first of a new connection; the old one is gone.
    Anew,
}

impl<C> Table<C> {
    /// Whether a segment belongs to the flow that was found.
    pub(super) fn continues<S>(
        &mut self,
        index: u32,
        from_low: bool,
        segment: &Segment<'_>,
        shared: &mut S,
    ) -> Verdict
    where
        C: Consumer<S>,
    {
        let Some(flow) = self.flows.get_mut(index) else {
            return Verdict::Dropped;
        };
        let direction = flow.direction(from_low);
        if flow.state == State::Ended {
            return self.after_end(index, direction, segment);
        }
        if segment.flags.has(Flags::SYN) {
            return self.syn(index, direction, segment, shared);
        }
        match flow.doubtful_syn {
            Some(syn) => self.confirm(index, direction, syn, segment, shared),
            None => Verdict::Goes,
        }
    }

    fn after_end(&mut self, index: u32, direction: Direction, segment: &Segment<'_>) -> Verdict {
        let Some(flow) = self.flows.get_mut(index) else {
            return Verdict::Dropped;
        };
        let answer = segment.flags.has(Flags::ACK);
        let same_isn = match (direction, answer) {
            (Direction::Originator, false) => flow.isn == segment.seq,
            (Direction::Responder, true) => flow.isn == segment.ack.wrapping_sub(1),
            _ => false,
        };
        let copy = same_isn && segment.time.since(flow.start) <= SYN_DUPLICATE_AGE;
        if segment.flags.has(Flags::SYN) && !copy {
            self.forget(index);
            return Verdict::Anew;
        }
        let evicted = flow.evicted && !segment.flags.has(Flags::RST);
        let (own, _) = flow.anchors(direction);
        let ahead = distance(segment.seq, own.seq);
        if evicted && (own.known == Known::No || ahead + i64::from(segment.payload_wire_len) > 0) {
            self.resume(index, segment);
            return Verdict::Goes;
        }
        let known = ahead < 0;
        let len = segment.payload.len() as u64;
        self.counters.flow_segments_after_end += 1;
        if known {
            self.counters.flow_duplicate_bytes += len;
        } else {
            self.counters.flow_discarded_after_end_bytes += len;
        }
        Verdict::Dropped
    }

    /// A flow that made room goes on: picked up midstream.
    fn resume(&mut self, index: u32, segment: &Segment<'_>) {
        self.numbers += 1;
        let number = self.numbers;
        self.line_up(index, State::Empty);
        self.counters.flow_opened += 1;
        if let Some(flow) = self.flows.get_mut(index) {
            (flow.start, flow.number, flow.isn) = (segment.time, number, segment.seq);
            (flow.originator, flow.responder) = (Anchor::UNKNOWN, Anchor::UNKNOWN);
            (flow.originator_fin, flow.responder_fin) = (false, false);
            flow.doubtful_syn = None;
            flow.midstream = true;
        }
    }

    /// A SYN within a flow that has not ended.
    fn syn<S>(
        &mut self,
        index: u32,
        direction: Direction,
        segment: &Segment<'_>,
        shared: &mut S,
    ) -> Verdict
    where
        C: Consumer<S>,
    {
        let now = self.now;
        let Some(flow) = self.flows.get_mut(index) else {
            return Verdict::Dropped;
        };
        let doubtful = flow.doubtful_syn;
        let (stream, last) = (flow.stream, flow.last);
        let late = segment.time.since(flow.start) <= REORDER_GRACE;
        let stream = self.streams.get(stream);
        let (own, ending) = match stream {
            Some(stream) => (stream.half(direction).anchor, stream.is_ending()),
            None => (
                *flow.anchors(direction).0,
                flow.originator_fin || flow.responder_fin,
            ),
        };
        // One that was captured late, behind data of its own connection, says nothing new.
        let behind = distance(own.seq, segment.seq.wrapping_add(1));
        let same = match own.known {
            Known::Syn => behind == 0,
            Known::No => true,
            Known::Hint | Known::Seen => late && behind.unsigned_abs() <= REBASE_BYTES_MAX,
        };
        if same && !ending {
            return Verdict::Goes;
        }
        if own.known == Known::Syn && behind == 0 {
            return Verdict::Goes;
        }
        let confirmed = segment.flags.has(Flags::ACK)
            && doubtful
                .is_some_and(|(from, isn)| from != direction && segment.ack == isn.wrapping_add(1));
        if confirmed || ending || stream.is_none() || now.since(last) > SYN_REUSE_SILENCE {
            self.end(index, FlowEnd::Reused, shared);
            self.forget(index);
            return Verdict::Anew;
        }
        // Anyone can forge a SYN into a living connection, and its receiver would answer with a challenge
        // (RFC 5961 §4): wait for what it brings.
        self.counters.flow_syns_doubtful += 1;
        self.counters.flow_discarded_out_of_window_bytes += segment.payload.len() as u64;
        if let Some(flow) = self.flows.get_mut(index) {
            flow.doubtful_syn = Some((direction, segment.seq));
        }
        Verdict::Dropped
    }

    /// Whether data follows a doubtful SYN: then the connection before it is over.
    fn confirm<S>(
        &mut self,
        index: u32,
        direction: Direction,
        (from, isn): (Direction, u32),
        segment: &Segment<'_>,
        shared: &mut S,
    ) -> Verdict
    where
        C: Consumer<S>,
    {
        if direction != from || segment.seq != isn.wrapping_add(1) || segment.flags.has(Flags::RST)
        {
            return Verdict::Goes;
        }
        let stream = self.flows.get(index).map_or(NONE, |flow| flow.stream);
        let fits = self.streams.get(stream).is_some_and(|stream| {
            stream
                .half(direction)
                .ahead(segment.seq)
                .is_some_and(|distance| distance.unsigned_abs() <= 1 << 16)
        });
        if fits {
            return Verdict::Goes;
        }
        self.end(index, FlowEnd::Reused, shared);
        self.forget(index);
        Verdict::Anew
    }

    /// A segment of a flow that has carried no payload so far; the stream, if this one does.
    pub(super) fn handshake<S>(
        &mut self,
        index: u32,
        from_low: bool,
        segment: &Segment<'_>,
        shared: &mut S,
    ) -> Option<u32>
    where
        C: Consumer<S>,
    {
        let flow = self.flows.get_mut(index)?;
        let direction = flow.direction(from_low);
        let flags = segment.flags;
        if flags.has(Flags::RST) {
            self.counters.flow_discarded_reset_bytes += segment.payload.len() as u64;
            if resets(flow, direction, segment) {
                self.end(index, FlowEnd::Reset, shared);
            } else {
                self.counters.flow_resets_out_of_window += 1;
            }
            return None;
        }
        let payload = segment.payload_wire_len > 0 || !segment.payload.is_empty();
        let late_syn = flow.midstream && flags.has(Flags::SYN);
        if late_syn && flags.has(Flags::ACK) == (direction == Direction::Originator) {
            flow.turn_round();
        }
        let direction = flow.direction(from_low);
        if late_syn {
            flow.midstream = false;
            flow.isn = if flags.has(Flags::ACK) {
                segment.ack.wrapping_sub(1)
            } else {
                segment.seq
            };
        }
        let (own, other) = flow.anchors(direction);
        if flags.has(Flags::SYN) {
            own.syn(segment.seq);
            // It acknowledges nothing but the other SYN, whatever was acknowledged by segments captured before.
            if flags.has(Flags::ACK) && other.known == Known::Hint {
                *other = Anchor::UNKNOWN;
            }
        } else {
            own.first(segment.seq, payload);
        }
        if flags.has(Flags::ACK) {
            other.hint(segment.ack);
        }
        // Bytes that were never captured show in the numbers: one more than the FIN or a lost FIN explains.
        let window = 0..=SEQUENCE_JUMP_MAX.cast_signed();
        let sent = distance(segment.seq, own.seq);
        let acked = distance(segment.ack, other.seq);
        let fin = flags.has(Flags::FIN);
        let missing = (fin && sent > 0 && window.contains(&sent))
            || (flags.has(Flags::ACK) && acked > 1 && window.contains(&acked));
        if payload || missing {
            return Some(self.open(index, shared));
        }
        *flow.fin(direction) |= fin;
        if flow.originator_fin && flow.responder_fin {
            self.end(index, FlowEnd::Fin, shared);
        }
        None
    }

    /// The first payload: now the flow gets its consumer.
    fn open<S>(&mut self, index: u32, shared: &mut S) -> u32
    where
        C: Consumer<S>,
    {
        while self.streams.len() >= self.config.streams_max && self.evict_silent(shared) {}
        let Some(flow) = self.flows.get(index) else {
            return NONE;
        };
        let (low, high) = flow.key.endpoints();
        let (originator, responder) = if flow.originator_is_low {
            (low, high)
        } else {
            (high, low)
        };
        let start = FlowStart {
            network: Network {
                id: flow.key.network(),
                vni: flow.vni,
                encap: flow.encap,
            },
            originator,
            responder,
            midstream: flow.midstream,
            evicted: flow.evicted,
            originator_seq: if flow.midstream {
                flow.originator.seq
            } else {
                flow.isn
            },
            time: flow.start,
            number: flow.number,
        };
        let grace = flow.start.after(REORDER_GRACE);
        let exact = flow.originator.exact() && flow.responder.exact();
        let hold_until = if !exact && grace > self.now {
            grace
        } else {
            Timestamp::ZERO
        };
        let anchors = (flow.originator, flow.responder);
        let fins = [
            (Direction::Originator, flow.originator_fin),
            (Direction::Responder, flow.responder_fin),
        ];
        let consumer = C::open(&start, shared);
        let mut stream = Stream::new(consumer, index, anchors.0, anchors.1, hold_until);
        for (direction, _) in fins.into_iter().filter(|(_, fin)| *fin) {
            stream.half_mut(direction).end_at(0, start.time);
        }
        let stream = self.streams.insert(stream);
        if let Some(flow) = self.flows.get_mut(index) {
            flow.stream = stream;
        }
        self.counters.flow_opened_payload += 1;
        self.counters.flow_opened_midstream += u64::from(start.midstream);
        let state = if anchors.0.seen() && anchors.1.seen() {
            State::Payload
        } else {
            State::OneSided
        };
        self.line_up(index, state);
        stream
    }
}

/// Whether a reset ends a flow that has carried no payload: its number must be the next one, or it must acknowledge
/// the SYN that it refuses.
fn resets(flow: &mut Flow, direction: Direction, segment: &Segment<'_>) -> bool {
    let fin = i64::from(*flow.fin(direction));
    let (own, other) = flow.anchors(direction);
    let next = own.known == Known::No || (0..=1 + fin).contains(&distance(segment.seq, own.seq));
    let refuses =
        segment.flags.has(Flags::ACK) && other.known == Known::Syn && segment.ack == other.seq;
    next || refuses
}
