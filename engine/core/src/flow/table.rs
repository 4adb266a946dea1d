//! The table of one shard's flows: finds the flow of each segment; flows open, expire, are evicted and end here.
//!
//! A lookup is one probe of a hash table that holds 4-byte indices, then the flow itself. A flow that has carried no
//! payload is 136 bytes and nothing else: no consumer, no assemblers, so a million half-open connections or one-packet
//! scans cost 140 MB at most and are the first to be evicted. Each flow is in one of four LRU lists by its state.
//! Eviction takes ended flows first, then empty ones, then those of which only one direction was captured (a flood of
//! single packets must not evict connections that are idle meanwhile), then the one with payload that has been idle
//! longest, without a scan.
//!
//! Timers run on packet time alone and before the segment that brought that time, so the same packets give the same
//! calls whatever [`Table::tick`] is called with in between.

mod copies;
mod ended;
mod entry;
mod eviction;
mod handshake;
mod lru;
mod twins;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::hash::BuildHasher;
use std::time::Duration;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use crate::decap::{Flags, Segment};
use crate::flow::copy_table::CopyTable;
use crate::flow::direction::{Direction, PerDirection};
use crate::flow::key::Key;
use crate::flow::pool::Pool;
use crate::flow::slab::{NONE, Slab};
use crate::flow::stream::{NEVER, Stream, StreamContext};
use crate::flow::{Config, Consumer, Counters, FlowEnd};
use crate::limits::{CLOCK_STEP_BACK, FLOW_LINGER, NEW_FLOWS_NOTED_MAX, REORDER_GRACE};
use crate::time::Timestamp;

use copies::Copies;
use ended::EndedFlows;
use entry::{Flow, State};
use handshake::{Admission, Moment, Progress};
use lru::Lists;

/// The flows of one shard.
pub struct Table<C> {
    config: Config,
    hasher: FixedState,
    index: HashTable<u32>,
    /// By the low bits of a hash: its high bits, and the flow found last. Valid only if that flow has the key.
    recent: Box<[(u32, u32); RECENT]>,
    flows: Slab<Flow>,
    streams: Slab<Stream<C>>,
    lists: Lists,
    /// When streams have something to do. An entry that its stream no longer has as `wake` is void.
    timers: BinaryHeap<Reverse<(Timestamp, u32)>>,
    /// Streams that hold ranges, those that have held some for longest first. An entry that its stream no longer has as
    /// `ticket` is void.
    waiting: VecDeque<(u64, u32)>,
    /// The ticket given out last.
    tickets: u64,
    pool: Pool,
    copies: Copies,
    ended: EndedFlows,
    counters: Counters,
    /// Hashes of flows that opened since [`Table::take_new_flows`] was last called.
    new_flows: Vec<u64>,
    new_flows_hasher: Option<FixedState>,
    now: Timestamp,
    next_sweep: Timestamp,
    /// [`lru::requeue_after`] for flows with payload.
    requeue_nanos: u64,
    /// The number of the flow opened last.
    numbers: u64,
}

/// Packet time between two sweeps for idle flows.
const SWEEP: Duration = Duration::from_millis(100);
/// Places for flows found last: 32 KiB. One that two flows share costs each of them a look into the index.
const RECENT: usize = 4096;
/// Flows of each state that one sweep ends at most, so that no packet waits long; the rest is left to the next packet.
const SWEEP_FLOWS: usize = 256;

impl<C> Table<C> {
    /// Memory of a flow as such, with its entry in the index.
    pub const FLOW_BYTES: usize = size_of::<Flow>() + 16;

    /// Memory of a flow's stream in addition, without the ranges that wait in it.
    pub const STREAM_BYTES: usize = size_of::<Stream<C>>() + 32;

    /// An empty table.
    pub fn new(config: Config) -> Self {
        let config = Config {
            flows_max: config.flows_max.clamp(1, 1 << 30),
            streams_max: config.streams_max.max(1),
            ..config
        };
        let new_flows_hasher = config.new_flows_seed.map(FixedState::with_seed);
        Self {
            hasher: FixedState::with_seed(config.hash_seed),
            index: HashTable::with_capacity(config.flows_max.min(1 << 16)),
            recent: Box::new([(0, NONE); RECENT]),
            flows: Slab::new(),
            streams: Slab::new(),
            lists: Lists::EMPTY,
            timers: BinaryHeap::new(),
            waiting: VecDeque::new(),
            tickets: 0,
            pool: Pool::default(),
            copies: Copies::default(),
            ended: EndedFlows::default(),
            counters: Counters::default(),
            new_flows: Vec::new(),
            new_flows_hasher,
            now: Timestamp::ZERO,
            next_sweep: Timestamp::ZERO,
            requeue_nanos: u64::try_from(lru::requeue_after(config.idle).as_nanos())
                .unwrap_or(u64::MAX),
            numbers: 0,
            config,
        }
    }

    /// The counters; they balance between any two calls.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Flows that are open, with or without payload so far.
    pub fn flows_open(&self) -> usize {
        self.lists.open()
    }

    /// The pairs of networks in which the same connections were captured.
    pub fn copies_seen(&self) -> &CopyTable {
        self.copies.places()
    }

    /// Payload bytes that wait for bytes before them.
    pub fn buffered_bytes(&self) -> u64 {
        self.pool.payload()
    }

    /// Hashes of the flows that opened since the last call, at most [`NEW_FLOWS_NOTED_MAX`] of them: the same for a flow in
    /// every table with the same seed, whichever direction it saw first.
    pub fn take_new_flows(&mut self) -> impl Iterator<Item = u64> + '_ {
        self.new_flows.drain(..)
    }

    /// The silence after which a flow in this state is over or forgotten.
    fn idle_max(&self, state: State) -> Duration {
        match state {
            State::Ended => FLOW_LINGER,
            State::Empty => self.config.empty_idle,
            State::OneSided | State::TwoSided | State::Copy => self.config.idle,
        }
    }

    fn move_to(&mut self, index: u32, state: State) {
        self.lists.move_to(state, &mut self.flows, index, self.now);
    }

    /// Notes activity of a flow, and moves it in its list if its place is out of date.
    fn touch(&mut self, index: u32) {
        let now = self.now;
        let Some(flow) = self.flows.get_mut(index) else {
            return;
        };
        flow.last = now;
        let (state, listed_at) = (flow.state, flow.listed_at);
        if state != State::Ended && now.since(listed_at) > lru::requeue_after(self.idle_max(state))
        {
            self.move_to(index, state);
        }
    }

    /// The flow of a key, ended ones included.
    ///
    /// The index takes two reads after each other, far apart in memory, and 30 instructions. Busy flows are found by one
    /// read that is likely in a near cache; it saves some 5 of 95 ns for a packet that carries no call.
    #[inline(always)]
    fn find(&mut self, key: &Key, hash: u64) -> Option<u32> {
        let flows = &self.flows;
        let is_it = |index: &u32| flows.get(*index).is_some_and(|flow| flow.key == *key);
        let tag = (hash >> 32) as u32;
        let recent = self.recent.get_mut(hash as usize % RECENT);
        if let Some((seen, index)) = recent.as_deref()
            && *seen == tag
            && is_it(index)
        {
            return Some(*index);
        }
        let found = self.index.find(hash, is_it).copied()?;
        if let Some(recent) = recent {
            *recent = (tag, found);
        }
        Some(found)
    }

    fn insert(&mut self, key: Key, hash: u64, segment: &Segment<'_>, from_low: bool) -> u32 {
        self.numbers += 1;
        let flow = Flow::opened_by(segment, key, from_low, self.numbers, self.now);
        if let Some(hasher) = &self.new_flows_hasher
            && self.new_flows.len() < NEW_FLOWS_NOTED_MAX
        {
            self.new_flows.push(hasher.hash_one(key));
        }
        let index = self.add(flow, hash);
        self.counters.flow_opened += 1;
        if self.copies.is_active() {
            self.compare(index, segment, from_low);
        }
        index
    }

    /// Adds a flow to the index and to the list of its state.
    fn add(&mut self, flow: Flow, hash: u64) -> u32 {
        let index = self.flows.insert(flow);
        let (hasher, flows) = (&self.hasher, &self.flows);
        self.index.insert_unique(hash, index, |other| {
            flows
                .get(*other)
                .map_or(0, |flow| hasher.hash_one(flow.key))
        });
        self.lists.push(&mut self.flows, index, self.now);
        index
    }

    fn forget(&mut self, index: u32) {
        let Some(flow) = self.flows.get(index) else {
            return;
        };
        let key = flow.key;
        let hash = self.hasher.hash_one(key);
        if let Ok(entry) = self.index.find_entry(hash, |other| *other == index) {
            entry.remove();
        }
        if self.copies.is_active() {
            self.copies.leave(index, &key, &self.hasher);
        }
        self.ended.forget(index);
        self.lists.remove(&mut self.flows, index);
        self.flows.remove(index);
    }

    fn count_end(&mut self, end: FlowEnd) {
        let cell = match end {
            FlowEnd::Fin => &mut self.counters.flow_ended_fin,
            FlowEnd::Reset => &mut self.counters.flow_ended_reset,
            FlowEnd::Idle => &mut self.counters.flow_ended_idle,
            FlowEnd::Evicted => &mut self.counters.flow_ended_evicted,
            FlowEnd::Reused => &mut self.counters.flow_ended_reused,
            FlowEnd::Shutdown => &mut self.counters.flow_ended_shutdown,
        };
        *cell += 1;
    }

    /// Sets packet time. Small steps back are reordering and do not move the clock; a large one sets it, and what waits
    /// for a moment of the old time is due now.
    #[inline]
    fn set_clock(&mut self, time: Timestamp) {
        if time >= self.now {
            self.now = time;
        } else {
            self.set_clock_back(time);
        }
    }

    fn set_clock_back(&mut self, time: Timestamp) {
        if self.now.since(time) <= CLOCK_STEP_BACK {
            return;
        }
        self.now = time;
        self.next_sweep = time;
        let mut timers = std::mem::take(&mut self.timers).into_vec();
        timers.retain_mut(
            |Reverse((wake, index))| match self.streams.get_mut(*index) {
                Some(stream) if stream.wake == *wake => {
                    stream.wake = stream.wake.min(time);
                    *wake = stream.wake;
                    true
                }
                _ => false,
            },
        );
        self.timers = timers.into();
    }

    /// Enters a stream into the timers and the queue of those that wait, as its state requires.
    fn schedule(&mut self, index: u32) {
        let Some(stream) = self.streams.get_mut(index) else {
            return;
        };
        let deadline = stream.deadline();
        if deadline < stream.wake {
            stream.wake = deadline;
            self.timers.push(Reverse((deadline, index)));
        }
        if !stream.holds_ranges() {
            stream.ticket = 0;
        } else if stream.ticket == 0 {
            self.tickets += 1;
            stream.ticket = self.tickets;
            self.waiting.push_back((self.tickets, index));
        }
        self.compact();
    }

    /// Removes void entries once they are the majority.
    fn compact(&mut self) {
        let most = 1024 + 2 * self.streams.len();
        let streams = &self.streams;
        if self.timers.len() > most {
            self.timers.retain(|Reverse((wake, index))| {
                streams
                    .get(*index)
                    .is_some_and(|stream| stream.wake == *wake)
            });
        }
        if self.waiting.len() > most {
            self.waiting.retain(|(ticket, index)| {
                streams
                    .get(*index)
                    .is_some_and(|stream| stream.ticket == *ticket)
            });
        }
    }

    /// The streams, and what they use of the table.
    fn streams<'a, S>(
        &'a mut self,
        shared: &'a mut S,
    ) -> (&'a mut Slab<Stream<C>>, StreamContext<'a, S>) {
        let Self {
            streams,
            counters,
            pool,
            now,
            ..
        } = self;
        (
            streams,
            StreamContext {
                shared,
                counters,
                pool,
                now: *now,
            },
        )
    }
}

impl<C> Table<C> {
    /// Takes in one segment. The consumer of its flow receives everything that follows from it before this returns.
    #[inline(always)]
    pub fn segment<S>(&mut self, segment: &Segment<'_>, shared: &mut S)
    where
        C: Consumer<S>,
    {
        self.counters.flow_segments += 1;
        self.counters.flow_payload_bytes += segment.payload.len() as u64;
        self.set_clock(segment.time);
        if self.is_timer_due() {
            self.run_timers(shared);
        }
        if self.now >= self.next_sweep {
            self.sweep(SWEEP_FLOWS, shared);
        }

        let (key, from_low) = Key::of(segment);
        let hash = self.hasher.hash_one(key);
        let found = self.find(&key, hash);
        // Nearly every segment is of a flow that has a stream: one look at it decides.
        if let Some(index) = found
            && let Some(flow) = self.flows.get_mut(index)
            && flow.continues(segment)
        {
            flow.last = self.now;
            let (stream, direction, state) = (flow.stream, flow.direction(from_low), flow.state);
            let behind = self.now.nanos().saturating_sub(flow.listed_at.nanos());
            if behind > self.requeue_nanos {
                self.move_to(index, state);
            }
            return self.deliver(index, stream, direction, segment, shared);
        }
        self.unusual((found, key, hash), from_low, segment, shared);
    }

    /// A segment that is not of a flow with a stream, or changes what such a flow is.
    #[inline(never)]
    fn unusual<S>(
        &mut self,
        (found, key, hash): (Option<u32>, Key, u64),
        from_low: bool,
        segment: &Segment<'_>,
        shared: &mut S,
    ) where
        C: Consumer<S>,
    {
        let found = if self.copies.concerns(key.network()) {
            self.of_connection(found, &key, segment, from_low)
        } else {
            found
        };
        let index = match found {
            Some(index) => match self.admit(index, from_low, segment) {
                Admission::Accepted => index,
                Admission::Discarded => return,
                Admission::AfterEnd { ahead } => {
                    return self.count_after_end(index, from_low, segment, ahead);
                }
                Admission::Resumed { reset_ignored } => {
                    self.counters.flow_resets_ignored += u64::from(reset_ignored);
                    self.resume(index, segment);
                    index
                }
                Admission::NewConnection => {
                    self.replace(index, shared);
                    self.open(key, hash, segment, from_low, shared)
                }
            },
            None if segment.flags.has(Flags::RST) => {
                self.counters.flow_segments_stray += 1;
                self.counters.flow_discarded_reset_bytes += segment.payload.len() as u64;
                return;
            }
            None => self.open(key, hash, segment, from_low, shared),
        };
        self.touch(index);
        let Some(flow) = self.flows.get(index) else {
            return;
        };
        let stream = match flow.stream {
            NONE => match self.advance(index, from_low, segment, shared) {
                Some(stream) => stream,
                None => return,
            },
            stream => stream,
        };
        let Some(flow) = self.flows.get(index) else {
            return;
        };
        let direction = flow.direction(from_low);
        self.deliver(index, stream, direction, segment, shared);
    }

    /// Delivers a segment of the flow `index` to its stream.
    #[inline]
    fn deliver<S>(
        &mut self,
        index: u32,
        stream: u32,
        direction: Direction,
        segment: &Segment<'_>,
        shared: &mut S,
    ) where
        C: Consumer<S>,
    {
        let one_sided = self
            .flows
            .get(index)
            .is_some_and(|flow| flow.state == State::OneSided);
        let (streams, mut context) = self.streams(shared);
        let (mut both, mut is_settled) = (false, false);
        if let Some(stream) = streams.get_mut(stream) {
            stream.segment(direction, segment, &mut context);
            both = one_sided && stream.is_two_sided();
            is_settled = stream.is_settled();
        }
        if both {
            self.move_to(index, State::TwoSided);
        }
        // Nothing follows from a settled stream, and it holds no more than before.
        if !is_settled {
            self.follow_up(stream, shared);
            self.keep_budget(shared);
        }
    }

    /// Ends flows that have been idle for too long, and graces that are over, at `now`.
    ///
    /// `now` is packet time: no frame stamped earlier may still be unread, or reordering that the frames would have
    /// resolved becomes a gap. Call it when the rings are empty; while segments arrive it is not needed.
    pub fn tick<S>(&mut self, now: Timestamp, shared: &mut S)
    where
        C: Consumer<S>,
    {
        self.set_clock(now);
        self.run_timers(shared);
        self.sweep(SWEEP_FLOWS * 16, shared);
    }

    /// The capture is over: ends every flow, in the order of the LRU lists.
    pub fn finish<S>(&mut self, now: Timestamp, shared: &mut S)
    where
        C: Consumer<S>,
    {
        self.set_clock(now);
        self.run_timers(shared);
        for state in [State::TwoSided, State::OneSided, State::Empty] {
            while let Some(index) = self.lists.first(state) {
                self.end(index, FlowEnd::Shutdown, shared);
            }
        }
    }

    /// Whether a segment belongs to the flow that was found for it.
    fn admit(&mut self, index: u32, from_low: bool, segment: &Segment<'_>) -> Admission {
        let Some(flow) = self.flows.get_mut(index) else {
            return Admission::Discarded;
        };
        let stream = self.streams.get(flow.stream);
        let direction = flow.direction(from_low);
        let (now, grace) = (self.now, self.pool.patience.grace);
        let moment = Moment { now, grace };
        let is_syn_again = copies::is_syn_again(flow, stream, segment);
        let admission =
            handshake::admit(flow, stream, direction, segment, moment, &mut self.counters);
        if is_syn_again && !matches!(admission, Admission::NewConnection) {
            let patience = &mut self.pool.patience;
            let is_copy = self.copies.syn_again(flow, segment, self.now, patience);
            self.counters.flow_copies += u64::from(is_copy);
        }
        admission
    }

    /// Counts a segment of a flow that has ended, from `ahead` of the byte that would have come next.
    #[cold]
    fn count_after_end(&mut self, index: u32, from_low: bool, segment: &Segment<'_>, ahead: i64) {
        let Some(flow) = self.flows.get(index) else {
            return;
        };
        let len = segment.payload.len() as u64;
        let repeated = self.ended.sort(index, flow.direction(from_low), ahead, len);
        self.counters.flow_segments_after_end += 1;
        self.counters.flow_duplicate_bytes += repeated.duplicate;
        self.counters.flow_discarded_late_bytes += repeated.late;
        self.counters.flow_discarded_before_start_bytes += repeated.before_start;
        self.counters.flow_discarded_after_end_bytes += repeated.after_end;
    }

    /// A flow that was evicted, or whose peer ignored the reset, continues midstream.
    fn resume(&mut self, index: u32, segment: &Segment<'_>) {
        self.numbers += 1;
        self.ended.forget(index);
        self.move_to(index, State::Empty);
        self.counters.flow_opened += 1;
        if let Some(flow) = self.flows.get_mut(index) {
            flow.resume(segment, self.numbers);
        }
    }

    /// A new connection with the addresses and ports of a flow ends it, if it has not ended already.
    fn replace<S>(&mut self, index: u32, shared: &mut S)
    where
        C: Consumer<S>,
    {
        let open = self
            .flows
            .get(index)
            .is_some_and(|flow| flow.state != State::Ended);
        if open {
            self.end(index, FlowEnd::Reused, shared);
        }
        self.forget(index);
    }

    /// Opens a new flow, for which another may have to be evicted.
    fn open<S>(
        &mut self,
        key: Key,
        hash: u64,
        segment: &Segment<'_>,
        from_low: bool,
        shared: &mut S,
    ) -> u32
    where
        C: Consumer<S>,
    {
        while self.flows.len() >= self.config.flows_max && self.evict(shared) {}
        self.insert(key, hash, segment, from_low)
    }

    /// A segment of a flow that has carried no payload so far; the stream, if this one opens it.
    fn advance<S>(
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
        match handshake::advance(flow, from_low, segment, &mut self.counters) {
            Progress::Empty => None,
            Progress::Payload => Some(self.open_stream(index, shared)),
            Progress::Ended(end) => {
                self.end(index, end, shared);
                None
            }
        }
    }

    /// The first payload: now the flow gets its stream and its consumer.
    fn open_stream<S>(&mut self, index: u32, shared: &mut S) -> u32
    where
        C: Consumer<S>,
    {
        while self.streams.len() >= self.config.streams_max && self.evict_idle(shared) {}
        let Some(flow) = self.flows.get(index) else {
            return NONE;
        };
        let (start, bases, fins) = (flow.describe(), flow.bases, flow.fins);
        let grace = flow.start.after(REORDER_GRACE);
        let exact = bases.originator.is_exact() && bases.responder.is_exact();
        let initial_reorder_until = if !exact && grace > self.now {
            grace
        } else {
            Timestamp::ZERO
        };
        let consumer = C::open(&start, shared);
        let mut stream = Stream::new(consumer, index, bases, initial_reorder_until);
        for direction in Direction::BOTH {
            if fins[direction] {
                stream.assemblers[direction].end_at(0, start.time);
            }
        }
        let stream = self.streams.insert(stream);
        if let Some(flow) = self.flows.get_mut(index) {
            flow.stream = stream;
        }
        self.counters.flow_opened_payload += 1;
        self.counters.flow_opened_midstream += u64::from(start.midstream);
        let two_sided = bases.originator.is_captured() && bases.responder.is_captured();
        let state = if two_sided {
            State::TwoSided
        } else {
            State::OneSided
        };
        self.move_to(index, state);
        stream
    }

    /// Ends a flow. It stays in the table for [`FLOW_LINGER`].
    fn end<S>(&mut self, index: u32, end: FlowEnd, shared: &mut S)
    where
        C: Consumer<S>,
    {
        let Some(flow) = self.flows.get_mut(index) else {
            return;
        };
        let stream = std::mem::replace(&mut flow.stream, NONE);
        let (streams, mut context) = self.streams(shared);
        if let Some(open) = streams.get_mut(stream) {
            open.flush(&mut context);
        }
        let mut closed = self.streams.remove(stream);
        if let Some(closed) = &mut closed {
            self.ended.keep(index, &mut closed.assemblers);
        }
        if let Some(flow) = self.flows.get_mut(index) {
            let isn = match &closed {
                Some(closed) => closed.responder_isn(),
                None => flow.bases.responder.isn(),
            };
            flow.note_responder_isn(isn);
        }
        if let Some(closed) = closed {
            let [originator, responder] = closed.next_bases();
            if let Some(flow) = self.flows.get_mut(index) {
                flow.bases = PerDirection {
                    originator,
                    responder,
                };
                flow.reset_by = closed.reset_by();
            }
            closed.into_consumer().close(end, shared);
        }
        self.count_end(end);
        self.move_to(index, State::Ended);
    }

    /// Does what follows from a stream's last change.
    fn follow_up<S>(&mut self, index: u32, shared: &mut S)
    where
        C: Consumer<S>,
    {
        let ended = self
            .streams
            .get(index)
            .and_then(|stream| Some((stream.flow, stream.ended(self.now)?)));
        match ended {
            Some((flow, end)) => self.end(flow, end, shared),
            None => self.schedule(index),
        }
    }

    #[inline(always)]
    fn is_timer_due(&self) -> bool {
        let first = self.timers.peek();
        first.is_some_and(|Reverse((wake, _))| *wake <= self.now)
    }

    #[inline(never)]
    fn run_timers<S>(&mut self, shared: &mut S)
    where
        C: Consumer<S>,
    {
        while let Some(Reverse((wake, index))) = self.timers.peek().copied() {
            if wake > self.now {
                return;
            }
            self.timers.pop();
            let (streams, mut context) = self.streams(shared);
            let Some(stream) = streams.get_mut(index).filter(|stream| stream.wake == wake) else {
                continue;
            };
            stream.wake = NEVER;
            stream.expire(&mut context);
            self.follow_up(index, shared);
        }
    }

    /// Ends up to `most` flows of each state that have been idle for too long.
    fn sweep<S>(&mut self, most: usize, shared: &mut S)
    where
        C: Consumer<S>,
    {
        self.next_sweep = self.now.after(SWEEP);
        self.copies.forget_delay(self.now, &mut self.pool.patience);
        let states = [
            State::TwoSided,
            State::OneSided,
            State::Empty,
            State::Ended,
            State::Copy,
        ];
        for state in states {
            let idle_max = self.idle_max(state);
            let mut left = most;
            while let Some(index) = self.lists.first(state) {
                let now = self.now;
                let Some(flow) = self.flows.get_mut(index) else {
                    break;
                };
                // Times after a clock that was set back count from now on.
                flow.listed_at = flow.listed_at.min(now);
                flow.last = flow.last.min(now);
                if now.since(flow.listed_at) <= idle_max {
                    break;
                }
                if left == 0 {
                    self.next_sweep = self.now;
                    break;
                }
                left -= 1;
                let active = now.since(flow.last) <= idle_max;
                match state {
                    State::Ended => self.forget(index),
                    _ if active => self.move_to(index, state),
                    State::Copy => self.forget(index),
                    _ => {
                        self.end(index, FlowEnd::Idle, shared);
                        self.forget(index);
                    }
                }
            }
        }
    }

    /// Keeps waiting ranges within their memory. Streams that have waited longest give up first, so that a flow which
    /// lacks a segment for a moment does not pay for thousands that never fill their holes.
    fn keep_budget<S>(&mut self, shared: &mut S)
    where
        C: Consumer<S>,
    {
        while self.pool.charged() > self.config.buffered_bytes_max {
            let Some((ticket, index)) = self.waiting.pop_front() else {
                return;
            };
            let (streams, mut context) = self.streams(shared);
            let Some(stream) = streams
                .get_mut(index)
                .filter(|stream| stream.ticket == ticket)
            else {
                continue;
            };
            stream.ticket = 0;
            stream.release(&mut context);
            self.follow_up(index, shared);
        }
    }
}
