//! Connections of which a capture has every packet twice: both ends are mirrored, there are two mirror sessions, or a
//! packet passes two interfaces of a router.
//!
//! A copy has the same addresses and ports and the same sequence numbers on both sides. Within one network (the same
//! tunnel, or another interface of this host) both copies are one flow, so the second copy of each byte is a duplicate; a
//! SYN that comes again shows that, and how late copies are: a hole then waits that long for its copy. In another network
//! the copy is a flow of its own, since equal addresses under two VNIs are different hosts. It is compared with the flows
//! that have its addresses and ports elsewhere when it opens, and is counted; with
//! [`Config::fold_copies`](crate::flow::Config::fold_copies) its segments go to the other flow instead. Whatever changes
//! addresses, ports or sequence numbers on the way (NAT, a proxy, a firewall that chooses other initial numbers) makes two
//! connections that nothing here connects.
//!
//! Flows are compared only when they open, and only once a second network was seen: a segment of an open flow costs nothing
//! more. Bounds: one index entry for each flow, and [`COPY_PLACES_MAX`](crate::limits::COPY_PLACES_MAX) pairs of networks by name.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use super::entry::{Flow, State};
use crate::decap::{Flags, Network, Segment};
use crate::flow::assembler::{Assembler, Base, BaseSource, distance};
use crate::flow::copy_table::{CopyTable, Place};
use crate::flow::direction::{Direction, PerDirection};
use crate::flow::key::Key;
use crate::flow::pool::Patience;
use crate::flow::slab::Slab;
use crate::flow::stream::Stream;
use crate::limits::{COPY_DELAY_KNOWN, COPY_DELAY_MAX, COPY_DISTANCE_MAX, REORDER_GRACE};
use crate::time::Timestamp;

/// What a table knows of copies.
#[derive(Default)]
pub(super) struct Copies {
    /// The one network of all flows so far.
    only: Option<u64>,
    /// Flows of several networks were seen: all flows are in `twins`.
    several: bool,
    /// All flows by addresses and ports alone.
    twins: HashTable<u32>,
    places: CopyTable,
    /// Until when the delay of copies that was seen holds.
    known_until: Timestamp,
}

impl Copies {
    /// Whether a flow of this network may be the copy of another one.
    #[inline]
    pub(super) fn concerns(&self, network: u64) -> bool {
        self.several || self.only != Some(network)
    }

    /// Notes the network of a new flow; whether it is the second one, so that the flows have to be entered.
    pub(super) fn note(&mut self, network: u64) -> bool {
        if self.only.is_none() {
            self.only = Some(network);
            return false;
        }
        !std::mem::replace(&mut self.several, true)
    }

    /// Whether flows are entered in `twins`.
    #[inline]
    pub(super) fn is_active(&self) -> bool {
        self.several
    }

    /// The pairs of networks with copies.
    pub(super) fn places(&self) -> &CopyTable {
        &self.places
    }

    /// Enters a flow by its addresses and ports alone.
    pub(super) fn enter(&mut self, index: u32, flows: &Slab<Flow>, hasher: &FixedState) {
        let hash_of = |index: &u32| {
            flows
                .get(*index)
                .map_or(0, |flow| hasher.hash_one(flow.key.without_network()))
        };
        self.twins.insert_unique(hash_of(&index), index, hash_of);
    }

    /// Takes a flow out that is forgotten.
    pub(super) fn leave(&mut self, index: u32, key: &Key, hasher: &FixedState) {
        let hash = hasher.hash_one(key.without_network());
        if let Ok(entry) = self.twins.find_entry(hash, |other| *other == index) {
            entry.remove();
        }
    }

    /// The flow that is the same connection as a new one of this key, in another network.
    pub(super) fn find<C>(
        &self,
        view: &View<'_, C>,
        key: &Key,
        segment: &Segment<'_>,
        from_low: bool,
    ) -> Option<(u32, Likeness)> {
        let hash = view.hasher.hash_one(key.without_network());
        let is_it = |index: &u32| {
            let flow = view.flows.get(*index);
            flow.is_some_and(|flow| is_apart(flow, key))
                && view.likeness(*index, segment, from_low) != Likeness::None
        };
        let twin = *self.twins.find(hash, is_it)?;
        Some((twin, view.likeness(twin, segment, from_low)))
    }

    /// Counts a connection that was captured in two networks.
    pub(super) fn count(&mut self, one: &Network, other: &Network) {
        let places = [one, other].map(|network| Place {
            encap: network.encap,
            vni: network.vni,
        });
        self.places.count(places, 1);
    }

    /// A SYN [came again](is_syn_again): whether it is a copy in the same network. Holes then wait for copies that are as
    /// late. A SYN that is sent again comes later, and was not answered.
    #[cold]
    pub(super) fn syn_again(
        &mut self,
        flow: &Flow,
        segment: &Segment<'_>,
        now: Timestamp,
        patience: &mut Patience,
    ) -> bool {
        let delay = segment.time.since(flow.start);
        if delay > COPY_DELAY_MAX && flow.state == State::Empty {
            return false;
        }
        // The usual grace covers copies that are hardly late.
        if delay <= COPY_DELAY_MAX && delay > REORDER_GRACE / 2 {
            let grace = REORDER_GRACE + delay;
            let is_known = now <= self.known_until;
            if !is_known || grace > patience.grace {
                *patience = Patience::for_copies(grace);
            }
            self.known_until = now.after(COPY_DELAY_KNOWN);
        }
        segment.network.id == flow.key.network()
    }

    /// Forgets a delay that was last seen long ago.
    pub(super) fn forget_delay(&mut self, now: Timestamp, patience: &mut Patience) {
        if self.known_until > Timestamp::ZERO && now > self.known_until {
            self.known_until = Timestamp::ZERO;
            *patience = Patience::default();
        }
    }
}

/// Whether a segment is the SYN of a flow whose SYN was captured before.
#[inline]
pub(super) fn is_syn_again<C>(
    flow: &Flow,
    stream: Option<&Stream<C>>,
    segment: &Segment<'_>,
) -> bool {
    if !segment.flags.has(Flags::SYN) || segment.flags.has(Flags::ACK) {
        return false;
    }
    let base = stream.map_or(flow.bases.originator, |stream| {
        stream.assemblers.originator.base
    });
    base.source == BaseSource::Syn && flow.is_opened_by(segment.seq)
}

/// The numbers of a flow: initial ones where they are known, and what is expected next.
struct Numbers {
    /// The responder's initial number, if its SYN was captured.
    responder: Option<u32>,
    next: PerDirection<Option<u32>>,
}

impl Numbers {
    fn of<C>(flow: &Flow, stream: Option<&Stream<C>>) -> Self {
        let known = |base: Base| (base.source != BaseSource::Unknown).then_some(base.seq);
        let Some(stream) = stream else {
            let responder = match flow.state {
                State::Ended => flow.responder_isn(),
                _ => flow.bases.responder.isn(),
            };
            return Self {
                responder,
                next: PerDirection {
                    originator: known(flow.bases.originator),
                    responder: known(flow.bases.responder),
                },
            };
        };
        let next = |one: &Assembler| known(one.base).map(|_| one.next_seq());
        let [originator, responder] = stream.assemblers.both();
        Self {
            responder: stream.responder_isn(),
            next: PerDirection {
                originator: next(originator),
                responder: next(responder),
            },
        }
    }
}

/// What a segment in another network shows of a flow with the same addresses and ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Likeness {
    /// It is another connection.
    None,
    /// The originator's number is the same; the responder's is not known yet.
    OneSide,
    /// The numbers of both sides are the same.
    BothSides,
}

/// The flows of a table, for comparison.
pub(super) struct View<'a, C> {
    pub(super) flows: &'a Slab<Flow>,
    pub(super) streams: &'a Slab<Stream<C>>,
    pub(super) hasher: &'a FixedState,
}

impl<C> View<'_, C> {
    /// What a segment shows of the flow `index`, which has its addresses and ports in another network.
    pub(super) fn likeness(&self, index: u32, segment: &Segment<'_>, from_low: bool) -> Likeness {
        let Some(flow) = self.flows.get(index) else {
            return Likeness::None;
        };
        let numbers = Numbers::of(flow, self.streams.get(flow.stream));
        let direction = flow.direction(from_low);
        if segment.flags.has(Flags::SYN) {
            let isn = if segment.flags.has(Flags::ACK) {
                segment.ack.wrapping_sub(1)
            } else {
                segment.seq
            };
            return match (direction, segment.flags.has(Flags::ACK), numbers.responder) {
                _ if !flow.is_opened_by(isn) => Likeness::None,
                (Direction::Originator, false, _) | (Direction::Responder, true, None) => {
                    Likeness::OneSide
                }
                (Direction::Responder, true, Some(isn)) if isn == segment.seq => {
                    Likeness::BothSides
                }
                _ => Likeness::None,
            };
        }
        let is_near = |number: u32, next: Option<u32>| {
            next.is_some_and(|next| distance(number, next).unsigned_abs() <= COPY_DISTANCE_MAX)
        };
        let is_same = segment.flags.has(Flags::ACK)
            && is_near(segment.seq, numbers.next[direction])
            && is_near(segment.ack, numbers.next[direction.reverse()]);
        if is_same {
            Likeness::BothSides
        } else {
            Likeness::None
        }
    }

    /// Whether a flow is still the one that was found for a copy with this key, and that has this initial number.
    pub(super) fn is_twin(&self, index: u32, key: &Key, isn: u32) -> bool {
        let flow = self.flows.get(index);
        flow.is_some_and(|flow| flow.isn == isn && is_apart(flow, key))
    }
}

/// Whether a flow has the addresses and ports of a key in another network, and is not itself a copy.
fn is_apart(flow: &Flow, key: &Key) -> bool {
    flow.state != State::Copy
        && flow.key.network() != key.network()
        && flow.key.without_network() == key.without_network()
}
