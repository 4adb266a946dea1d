//! How connections open: decisions on segments with a SYN, before any payload, and after the end of a flow.
//!
//! RFC 9293 §3.5 as an observer sees it, with the caution of RFC 5961: a SYN into an open connection may be forged, so
//! it has to be confirmed by what follows. Nothing here changes the table; it carries out what is decided.

use std::time::Duration;

use super::entry::{Flow, PendingSyn, State};
use crate::decap::{Flags, Segment};
use crate::flow::assembler::{Base, BaseSource, distance};
use crate::flow::direction::Direction;
use crate::flow::stream::Stream;
use crate::flow::{Counters, FlowEnd};
use crate::limits::{REBASE_BYTES_MAX, SEQUENCE_JUMP_MAX, SYN_REUSE_SILENCE};
use crate::time::Timestamp;

/// Sequence numbers between the expected one and that of a segment that is taken for the open connection's, although a
/// pending SYN has the number before it.
const CONFIRMATION_DISTANCE: u64 = 1 << 16;

/// When a segment is admitted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// The table's clock.
    pub(super) now: Timestamp,
    /// How late a segment may be captured.
    pub(super) grace: Duration,
}

/// What a segment is to the flow that has its addresses and ports.
pub(super) enum Admission {
    /// One of its segments.
    Accepted,
    /// Counted, nothing else.
    Discarded,
    /// Of a flow that has ended, from `ahead` of the byte that would have come next.
    AfterEnd { ahead: i64 },
    /// The continuation of a flow that was evicted, or of one that goes on after a reset.
    Resumed {
        /// Its sender goes on, so the reset counts as ignored.
        reset_ignored: bool,
    },
    /// The first of a new connection; the flow is over.
    NewConnection,
}

/// Whether a segment belongs to `flow`, which was found for it, and whose stream is `stream`.
pub(super) fn admit<C>(
    flow: &mut Flow,
    stream: Option<&Stream<C>>,
    direction: Direction,
    segment: &Segment<'_>,
    moment: Moment,
    counters: &mut Counters,
) -> Admission {
    if flow.state == State::Ended {
        return after_end(flow, direction, segment);
    }
    if segment.flags.has(Flags::SYN) {
        return syn(flow, stream, direction, segment, moment, counters);
    }
    match flow.pending_syn {
        Some(pending) => confirm(pending, stream, direction, segment),
        None => Admission::Accepted,
    }
}

fn after_end(flow: &Flow, direction: Direction, segment: &Segment<'_>) -> Admission {
    let is_syn = segment.flags.has(Flags::SYN);
    if is_syn && !is_known_syn(flow, direction, segment) {
        return Admission::NewConnection;
    }
    let is_reset = segment.flags.has(Flags::RST);
    let evicted = flow.evicted && !is_reset;
    let own = flow.bases[direction];
    // The SYN takes one number; data on it starts behind.
    let ahead = distance(segment.seq.wrapping_add(u32::from(is_syn)), own.seq);
    let is_next = ahead == 0 && segment.payload_wire_len > 0 && !is_reset && !is_syn;
    if let Some(sender) = flow.reset_by.filter(|_| is_next) {
        // Who resets a connection sends nothing more on it: the reset was forged, or its peer had a reason to refuse it.
        let reset_ignored = sender == direction;
        // A request that comes after a reset may have its answer.
        if reset_ignored || direction == Direction::Originator {
            return Admission::Resumed { reset_ignored };
        }
    }
    if evicted
        && (own.source == BaseSource::Unknown || ahead + i64::from(segment.payload_wire_len) > 0)
    {
        return Admission::Resumed {
            reset_ignored: false,
        };
    }
    Admission::AfterEnd { ahead }
}

/// Whether a SYN, or the answer to one, has the numbers of a flow that has ended: then it is the same packet captured once
/// more, however late. A number of 0 proves nothing: tools that make packets by hand leave it so.
fn is_known_syn(flow: &Flow, direction: Direction, segment: &Segment<'_>) -> bool {
    match (direction, segment.flags.has(Flags::ACK)) {
        (Direction::Originator, false) => segment.seq != 0 && flow.is_opened_by(segment.seq),
        (Direction::Responder, true) => {
            flow.is_opened_by(segment.ack.wrapping_sub(1))
                && flow.responder_isn().is_none_or(|isn| isn == segment.seq)
        }
        _ => false,
    }
}

/// A SYN within a flow that has not ended.
fn syn<C>(
    flow: &mut Flow,
    stream: Option<&Stream<C>>,
    direction: Direction,
    segment: &Segment<'_>,
    moment: Moment,
    counters: &mut Counters,
) -> Admission {
    let late = segment.time.since(flow.start) <= moment.grace;
    let (own, ending) = match stream {
        Some(stream) => (stream.assemblers[direction].base, stream.is_ending()),
        None => (
            flow.bases[direction],
            flow.fins.originator || flow.fins.responder,
        ),
    };
    // One that was captured late, behind data of its own connection, opens nothing.
    let behind = distance(own.seq, segment.seq.wrapping_add(1));
    let same = match own.source {
        BaseSource::Syn => behind == 0,
        BaseSource::Unknown => true,
        BaseSource::Acknowledgement | BaseSource::FirstSegment => {
            behind == 0 || (late && behind.unsigned_abs() <= REBASE_BYTES_MAX)
        }
    };
    if same && !ending {
        return Admission::Accepted;
    }
    if own.source != BaseSource::Unknown && behind == 0 {
        return Admission::Accepted;
    }
    let confirmed = segment.flags.has(Flags::ACK)
        && flow.pending_syn.is_some_and(|pending| {
            pending.direction != direction && segment.ack == pending.isn.wrapping_add(1)
        });
    if confirmed || ending || stream.is_none() || moment.now.since(flow.last) > SYN_REUSE_SILENCE {
        return Admission::NewConnection;
    }
    // Anyone can forge a SYN into an open connection, and its receiver would answer with a challenge (RFC 5961 §4):
    // what follows it decides.
    counters.flow_syns_doubtful += 1;
    counters.flow_discarded_out_of_window_bytes += segment.payload.len() as u64;
    flow.pending_syn = Some(PendingSyn {
        direction,
        isn: segment.seq,
    });
    Admission::Discarded
}

/// Whether data follows a pending SYN: then the connection before it is over.
fn confirm<C>(
    pending: PendingSyn,
    stream: Option<&Stream<C>>,
    direction: Direction,
    segment: &Segment<'_>,
) -> Admission {
    if direction != pending.direction
        || segment.seq != pending.isn.wrapping_add(1)
        || segment.flags.has(Flags::RST)
    {
        return Admission::Accepted;
    }
    let fits = stream.is_some_and(|stream| {
        stream.assemblers[direction]
            .ahead(segment.seq)
            .is_some_and(|distance| distance.unsigned_abs() <= CONFIRMATION_DISTANCE)
    });
    if fits {
        Admission::Accepted
    } else {
        Admission::NewConnection
    }
}

/// What follows from a segment of a flow that has carried no payload so far.
pub(super) enum Progress {
    /// Nothing yet.
    Empty,
    /// It carries payload, or shows that payload was missed: the flow needs its stream.
    Payload,
    /// The flow is over.
    Ended(FlowEnd),
}

/// Takes in a segment of a flow that has carried no payload so far.
pub(super) fn advance(
    flow: &mut Flow,
    from_low: bool,
    segment: &Segment<'_>,
    counters: &mut Counters,
) -> Progress {
    let direction = flow.direction(from_low);
    let flags = segment.flags;
    if flags.has(Flags::RST) {
        counters.flow_discarded_reset_bytes += segment.payload.len() as u64;
        if resets(flow, direction, segment) {
            return Progress::Ended(FlowEnd::Reset);
        }
        counters.flow_resets_out_of_window += 1;
        return Progress::Empty;
    }
    let payload = segment.payload_wire_len > 0 || !segment.payload.is_empty();
    let late_syn = flow.midstream && flags.has(Flags::SYN);
    if late_syn && flags.has(Flags::ACK) == (direction == Direction::Originator) {
        flow.swap_ends();
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
    let (own, other) = flow.bases.pair_mut(direction);
    if flags.has(Flags::SYN) {
        own.set_by_syn(segment.seq);
        // It acknowledges nothing but the other SYN, whatever was acknowledged by segments captured before.
        if flags.has(Flags::ACK) && other.source == BaseSource::Acknowledgement {
            *other = Base::UNKNOWN;
        }
    } else {
        own.set_by_segment(segment.seq, payload);
    }
    if flags.has(Flags::ACK) {
        other.set_by_ack(segment.ack);
    }
    // Bytes that were not captured show in the numbers: more than the one that a FIN, captured or not, explains.
    let window = 0..=SEQUENCE_JUMP_MAX.cast_signed();
    let sent = distance(segment.seq, own.seq);
    let acked = distance(segment.ack, other.seq);
    let fin = flags.has(Flags::FIN);
    let missing = (fin && sent > 0 && window.contains(&sent))
        || (flags.has(Flags::ACK) && acked > 1 && window.contains(&acked));
    if payload || missing {
        return Progress::Payload;
    }
    flow.fins[direction] |= fin;
    if flow.fins.originator && flow.fins.responder {
        return Progress::Ended(FlowEnd::Fin);
    }
    Progress::Empty
}

/// Whether a reset ends a flow that has carried no payload: its number must be the next one, or it must acknowledge
/// the SYN that it refuses.
fn resets(flow: &Flow, direction: Direction, segment: &Segment<'_>) -> bool {
    let fin = i64::from(flow.fins[direction]);
    let (own, other) = (flow.bases[direction], flow.bases[direction.reverse()]);
    let next = own.source == BaseSource::Unknown
        || (0..=1 + fin).contains(&distance(segment.seq, own.seq));
    let refuses = segment.flags.has(Flags::ACK)
        && other.source == BaseSource::Syn
        && segment.ack == other.seq;
    next || refuses
}
