//! Segments of all flows in, each to its flow; flows begin, rest, and end here.
//!
//! A lookup is one probe of a hash table that holds 4-byte indices, then the flow itself. A flow that has carried no
//! payload is 136 bytes and nothing else: no consumer, no halves, so a million half-open connections or one-packet
//! scans cost 140 MB at most and are the first to go. Flows stand in one of four lines (ended, empty, one-sided, with
//! payload), ordered by when they were last put there; a busy flow is moved back at most every 1/16 of the idle time, since a
//! move touches two neighbours that are not in the cache. Eviction takes ended flows first, then empty ones, then those
//! of which only one side was ever seen (a flood of single packets must not push out connections that are silent
//! meanwhile), then the one with payload that has been silent longest, without a scan.
//!
//! Timers run on packet time alone and before the segment that brought that time, so the same packets give the same
//! calls whatever [`Table::tick`] is called with in between.

mod handshake;

use handshake::Verdict;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::hash::BuildHasher;
use std::time::Duration;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use crate::decap::{Flags, Segment};
use crate::flow::assembler::Anchor;
use crate::flow::key::Key;
use crate::flow::pool::Pool;
use crate::flow::slab::{NONE, Slab};
use crate::flow::stream::{Lent, NEVER, Stream};
use crate::flow::{Config, Consumer, Counters, Direction, FlowEnd};
use crate::limits::{CLOCK_STEP_BACK, FLOW_LINGER, NEW_FLOWS_NOTED_MAX};
use crate::time::Timestamp;

/// Which line a flow stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Over; remembered for what still arrives of it.
    Ended,
    /// No payload so far.
    Empty,
    /// Has a stream, but only one side was seen so far.
    OneSided,
    /// Has a stream, and both sides were seen.
    Payload,
}

struct Flow {
    key: Key,
    /// Of the last segment.
    last: Timestamp,
    /// When it was last put at the end of its line.
    lined_up: Timestamp,
    start: Timestamp,
    number: u64,
    prev: u32,
    next: u32,
    stream: u32,
    /// Offset 0 of both halves; after the end: what would have come next.
    originator: Anchor,
    responder: Anchor,
    /// Initial sequence number of the originator.
    isn: u32,
    /// A SYN that may begin a new connection, if the next segments say so.
    doubtful_syn: Option<(Direction, u32)>,
    vni: Option<u32>,
    encap: crate::decap::Encap,
    state: State,
    originator_is_low: bool,
    midstream: bool,
    /// An earlier part of the connection made room.
    evicted: bool,
    originator_fin: bool,
    responder_fin: bool,
}

impl Flow {
    fn direction(&self, from_low: bool) -> Direction {
        if from_low == self.originator_is_low {
            Direction::Originator
        } else {
            Direction::Responder
        }
    }

    /// It has carried payload, has not ended, and nothing about `segment` puts that in doubt.
    #[inline]
    fn takes(&self, segment: &Segment<'_>) -> bool {
        self.stream != NONE && self.doubtful_syn.is_none() && !segment.flags.has(Flags::SYN)
    }

    fn anchors(&mut self, direction: Direction) -> (&mut Anchor, &mut Anchor) {
        match direction {
            Direction::Originator => (&mut self.originator, &mut self.responder),
            Direction::Responder => (&mut self.responder, &mut self.originator),
        }
    }

    /// The SYN shows that the other side is the originator.
    fn turn_round(&mut self) {
        self.originator_is_low = !self.originator_is_low;
        std::mem::swap(&mut self.originator, &mut self.responder);
        std::mem::swap(&mut self.originator_fin, &mut self.responder_fin);
    }

    fn fin(&mut self, direction: Direction) -> &mut bool {
        match direction {
            Direction::Originator => &mut self.originator_fin,
            Direction::Responder => &mut self.responder_fin,
        }
    }
}

/// A line of flows, linked through them.
#[derive(Clone, Copy)]
struct Line {
    head: u32,
    tail: u32,
    len: usize,
}

impl Line {
    const EMPTY: Self = Self {
        head: NONE,
        tail: NONE,
        len: 0,
    };

    fn push(&mut self, flows: &mut Slab<Flow>, index: u32, now: Timestamp) {
        let tail = std::mem::replace(&mut self.tail, index);
        if let Some(flow) = flows.get_mut(index) {
            (flow.prev, flow.next, flow.lined_up) = (tail, NONE, now);
        }
        match flows.get_mut(tail) {
            Some(before) => before.next = index,
            None => self.head = index,
        }
        self.len += 1;
    }

    fn remove(&mut self, flows: &mut Slab<Flow>, index: u32) {
        let Some((prev, next)) = flows.get(index).map(|flow| (flow.prev, flow.next)) else {
            return;
        };
        match flows.get_mut(prev) {
            Some(before) => before.next = next,
            None => self.head = next,
        }
        match flows.get_mut(next) {
            Some(after) => after.prev = prev,
            None => self.tail = prev,
        }
        self.len -= 1;
    }
}

/// The flows of one shard.
pub struct Table<C> {
    config: Config,
    hasher: FixedState,
    index: HashTable<u32>,
    /// By the low bits of a hash: its high bits, and the flow found last. Believed only if that flow has the key.
    recent: Box<[(u32, u32); RECENT]>,
    flows: Slab<Flow>,
    streams: Slab<Stream<C>>,
    ended: Line,
    empty: Line,
    one_sided: Line,
    payload: Line,
    /// When streams want to be looked at. An entry that its stream no longer has as `wake` is void.
    timers: BinaryHeap<Reverse<(Timestamp, u32)>>,
    /// Streams that hold bytes, longest first. An entry that its stream no longer has as `ticket` is void.
    waiting: VecDeque<(u64, u32)>,
    tickets: u64,
    pool: Pool,
    counters: Counters,
    /// Hashes of flows that opened since they were last taken.
    openings: Vec<u64>,
    openings_hasher: Option<FixedState>,
    now: Timestamp,
    next_sweep: Timestamp,
    /// A flow with payload is moved back in its line when its place is so much too far in front.
    out_of_line_nanos: u64,
    numbers: u64,
}

/// Packet time between two looks for idle flows.
const SWEEP: Duration = Duration::from_millis(100);
/// Places for flows found last: 32 KiB. One that two flows share costs each of them a look into the index.
const RECENT: usize = 4096;
/// The share of its idle time that a flow's place in line may be too far in front.
const OUT_OF_LINE: u32 = 16;
/// Flows ended by one look, so that no packet waits long; what is left is for the next packet.
const SWEEP_FLOWS: usize = 256;
/// Evictions look at this many busy flows at most before one has to go.
const SECOND_CHANCES: usize = 8;

impl<C> Table<C> {
    /// Memory of a flow as such, with its entry in the index.
    pub const FLOW_BYTES: usize = size_of::<Flow>() + 16;

    /// What one that has carried payload takes beside, without what waits in it.
    pub const STREAM_BYTES: usize = size_of::<Stream<C>>() + 32;

    /// An empty table.
    pub fn new(config: Config) -> Self {
        let config = Config {
            flows_max: config.flows_max.clamp(1, 1 << 30),
            streams_max: config.streams_max.max(1),
            ..config
        };
        let openings_hasher = config.openings_seed.map(FixedState::with_seed);
        Self {
            hasher: FixedState::with_seed(config.hash_seed),
            index: HashTable::with_capacity(config.flows_max.min(1 << 16)),
            recent: Box::new([(0, NONE); RECENT]),
            flows: Slab::new(),
            streams: Slab::new(),
            ended: Line::EMPTY,
            empty: Line::EMPTY,
            one_sided: Line::EMPTY,
            payload: Line::EMPTY,
            timers: BinaryHeap::new(),
            waiting: VecDeque::new(),
            tickets: 0,
            pool: Pool::default(),
            counters: Counters::default(),
            openings: Vec::new(),
            openings_hasher,
            now: Timestamp::ZERO,
            next_sweep: Timestamp::ZERO,
            out_of_line_nanos: u64::try_from((config.idle / OUT_OF_LINE).as_nanos())
                .unwrap_or(u64::MAX),
            numbers: 0,
            config,
        }
    }

    /// A copy can be sampled at any time between two calls.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Flows that are open, with or without payload so far.
    pub fn flows_open(&self) -> usize {
        self.empty.len + self.one_sided.len + self.payload.len
    }

    /// Payload bytes that wait for others.
    pub fn buffered_bytes(&self) -> u64 {
        self.pool.payload()
    }

    /// Hashes of the flows that opened since the last call, at most [`NEW_FLOWS_NOTED_MAX`] of them: the same for a flow in
    /// every table with the same seed, whichever direction it saw first.
    pub fn take_openings(&mut self) -> impl Iterator<Item = u64> + '_ {
        self.openings.drain(..)
    }

    fn line(&mut self, state: State) -> (&mut Line, &mut Slab<Flow>) {
        let line = match state {
            State::Ended => &mut self.ended,
            State::Empty => &mut self.empty,
            State::OneSided => &mut self.one_sided,
            State::Payload => &mut self.payload,
        };
        (line, &mut self.flows)
    }

    fn silence(&self, state: State) -> Duration {
        match state {
            State::Ended => FLOW_LINGER,
            State::Empty => self.config.empty_idle,
            State::OneSided | State::Payload => self.config.idle,
        }
    }

    fn line_up(&mut self, index: u32, state: State) {
        let now = self.now;
        let Some(flow) = self.flows.get_mut(index) else {
            return;
        };
        let before = std::mem::replace(&mut flow.state, state);
        let (line, flows) = self.line(before);
        line.remove(flows, index);
        let (line, flows) = self.line(state);
        line.push(flows, index, now);
    }

    /// Notes activity; the line is left alone while the flow's place in it is not much too far in front.
    fn touch(&mut self, index: u32) {
        let now = self.now;
        let Some(flow) = self.flows.get_mut(index) else {
            return;
        };
        flow.last = now;
        let (state, lined_up) = (flow.state, flow.lined_up);
        if state != State::Ended && now.since(lined_up) > self.silence(state) / OUT_OF_LINE {
            self.line_up(index, state);
        }
    }

    /// The flow of a key, ended ones included.
    ///
    /// The index takes two reads after each other, far apart in memory, and 30 instructions. Flows that speak again and
    /// again are found by one read that is likely in a near cache: some 5 of 95 ns for a packet that carries no call.
    #[inline]
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
        let syn = segment.flags.has(Flags::SYN);
        // A SYN with ACK is the answer to one that was not captured (yet).
        let answer = syn && segment.flags.has(Flags::ACK);
        self.numbers += 1;
        let flow = Flow {
            key,
            last: self.now,
            lined_up: self.now,
            start: segment.time,
            number: self.numbers,
            prev: NONE,
            next: NONE,
            stream: NONE,
            originator: Anchor::UNKNOWN,
            responder: Anchor::UNKNOWN,
            isn: if answer {
                segment.ack.wrapping_sub(1)
            } else {
                segment.seq
            },
            doubtful_syn: None,
            vni: segment.network.vni,
            encap: segment.network.encap,
            state: State::Empty,
            originator_is_low: from_low != answer,
            midstream: !syn,
            evicted: false,
            originator_fin: false,
            responder_fin: false,
        };
        if let Some(hasher) = &self.openings_hasher
            && self.openings.len() < NEW_FLOWS_NOTED_MAX
        {
            self.openings.push(hasher.hash_one(key));
        }
        let index = self.flows.insert(flow);
        let (hasher, flows) = (&self.hasher, &self.flows);
        self.index.insert_unique(hash, index, |other| {
            flows
                .get(*other)
                .map_or(0, |flow| hasher.hash_one(flow.key))
        });
        self.empty.push(&mut self.flows, index, self.now);
        self.counters.flow_opened += 1;
        index
    }

    fn forget(&mut self, index: u32) {
        let Some(flow) = self.flows.get(index) else {
            return;
        };
        let (state, hash) = (flow.state, self.hasher.hash_one(flow.key));
        if let Ok(entry) = self.index.find_entry(hash, |other| *other == index) {
            entry.remove();
        }
        let (line, flows) = self.line(state);
        line.remove(flows, index);
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

    /// Packet time goes on. Small steps back are reordering and do not move the clock; a large one sets it, and what
    /// waits for a moment of the old time is looked at now.
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

    /// Enters a stream into the timers and the line of those that wait, where it must be.
    fn schedule(&mut self, index: u32) {
        let Some(stream) = self.streams.get_mut(index) else {
            return;
        };
        let deadline = stream.deadline();
        if deadline < stream.wake {
            stream.wake = deadline;
            self.timers.push(Reverse((deadline, index)));
        }
        if !stream.holds() {
            stream.ticket = 0;
        } else if stream.ticket == 0 {
            self.tickets += 1;
            stream.ticket = self.tickets;
            self.waiting.push_back((self.tickets, index));
        }
        self.compact();
    }

    /// Void entries must not pile up.
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

    fn lent<'a, S>(&'a mut self, shared: &'a mut S) -> (&'a mut Slab<Stream<C>>, Lent<'a, S>) {
        let Self {
            streams,
            counters,
            pool,
            now,
            ..
        } = self;
        (
            streams,
            Lent {
                shared,
                counters,
                pool,
                now: *now,
            },
        )
    }
}

impl<C> Table<C> {
    /// One segment. Everything that it makes known is passed to its flow's consumer before this returns.
    pub fn segment<S>(&mut self, segment: &Segment<'_>, shared: &mut S)
    where
        C: Consumer<S>,
    {
        self.counters.flow_segments += 1;
        self.counters.flow_payload_bytes += segment.payload.len() as u64;
        self.set_clock(segment.time);
        self.run_timers(shared);
        if self.now >= self.next_sweep {
            self.sweep(SWEEP_FLOWS, shared);
        }

        let (key, from_low) = Key::of(segment);
        let hash = self.hasher.hash_one(key);
        let found = self.find(&key, hash);
        // Nearly every segment is of a flow that is under way: one look at it says what is to be done.
        if let Some(index) = found
            && let Some(flow) = self.flows.get_mut(index)
            && flow.takes(segment)
        {
            flow.last = self.now;
            let (stream, direction, state) = (flow.stream, flow.direction(from_low), flow.state);
            let behind = self.now.nanos().saturating_sub(flow.lined_up.nanos());
            if behind > self.out_of_line_nanos {
                self.line_up(index, state);
            }
            return self.deliver(index, stream, direction, segment, shared);
        }
        let index = match found {
            Some(index) => match self.continues(index, from_low, segment, shared) {
                Verdict::Goes => index,
                Verdict::Dropped => return,
                Verdict::Anew => self.begin(key, hash, segment, from_low, shared),
            },
            None if segment.flags.has(Flags::RST) => {
                self.counters.flow_segments_stray += 1;
                self.counters.flow_discarded_reset_bytes += segment.payload.len() as u64;
                return;
            }
            None => self.begin(key, hash, segment, from_low, shared),
        };
        self.touch(index);
        let Some(flow) = self.flows.get(index) else {
            return;
        };
        let stream = match flow.stream {
            NONE => match self.handshake(index, from_low, segment, shared) {
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

    /// A segment of the flow `index` to its stream.
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
        let (streams, mut lent) = self.lent(shared);
        let (mut both, mut is_calm) = (false, false);
        if let Some(stream) = streams.get_mut(stream) {
            stream.segment(direction, segment, &mut lent);
            both = one_sided && stream.is_two_sided();
            is_calm = stream.is_calm();
        }
        if both {
            self.line_up(index, State::Payload);
        }
        // Of a calm stream nothing follows, and it holds no more than before.
        if !is_calm {
            self.after(stream, shared);
            self.keep_budget(shared);
        }
    }

    /// Lets go of what has been idle for too long, and ends graces that are over, at `now`.
    ///
    /// `now` is packet time: no frame stamped earlier may still be unread, or reordering that the frames would have
    /// resolved becomes loss. Call it when the rings are empty; while segments come it is not needed.
    pub fn tick<S>(&mut self, now: Timestamp, shared: &mut S)
    where
        C: Consumer<S>,
    {
        self.set_clock(now);
        self.run_timers(shared);
        self.sweep(SWEEP_FLOWS * 16, shared);
    }

    /// The capture is over: ends every flow, in the order in which they were last put into line.
    pub fn finish<S>(&mut self, now: Timestamp, shared: &mut S)
    where
        C: Consumer<S>,
    {
        self.set_clock(now);
        self.run_timers(shared);
        for state in [State::Payload, State::OneSided, State::Empty] {
            while let Some(index) = self.head(state) {
                self.end(index, FlowEnd::Shutdown, shared);
            }
        }
    }

    fn head(&mut self, state: State) -> Option<u32> {
        let head = self.line(state).0.head;
        (head != NONE).then_some(head)
    }

    /// A new flow, for which another may have to go.
    fn begin<S>(
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

    fn evict<S>(&mut self, shared: &mut S) -> bool
    where
        C: Consumer<S>,
    {
        if let Some(index) = self.head(State::Ended) {
            self.forget(index);
            return true;
        }
        self.evict_from(State::Empty, shared) || self.evict_silent(shared)
    }

    /// Ends the flow with payload that has been silent longest, one-sided ones first, for want of memory for what flows
    /// hold elsewhere; false when there is none.
    pub fn evict_silent<S>(&mut self, shared: &mut S) -> bool
    where
        C: Consumer<S>,
    {
        self.evict_from(State::OneSided, shared) || self.evict_from(State::Payload, shared)
    }

    fn evict_from<S>(&mut self, state: State, shared: &mut S) -> bool
    where
        C: Consumer<S>,
    {
        for _ in 0..SECOND_CHANCES {
            let Some(index) = self.head(state) else {
                break;
            };
            if self
                .flows
                .get(index)
                .is_none_or(|flow| flow.last <= flow.lined_up)
            {
                break;
            }
            self.line_up(index, state);
        }
        let Some(index) = self.head(state) else {
            return false;
        };
        self.end(index, FlowEnd::Evicted, shared);
        // A real connection is remembered among the ended ones, while there is room: what it still says is not new.
        match self.flows.get_mut(index) {
            Some(flow) if state == State::Payload => flow.evicted = true,
            _ => self.forget(index),
        }
        true
    }

    /// Ends a flow and remembers it for a moment.
    fn end<S>(&mut self, index: u32, end: FlowEnd, shared: &mut S)
    where
        C: Consumer<S>,
    {
        let Some(flow) = self.flows.get_mut(index) else {
            return;
        };
        let stream = std::mem::replace(&mut flow.stream, NONE);
        let (streams, mut lent) = self.lent(shared);
        if let Some(open) = streams.get_mut(stream) {
            open.flush(&mut lent);
        }
        if let Some(closed) = self.streams.remove(stream) {
            let (originator, responder) = closed.next_seqs();
            if let Some(flow) = self.flows.get_mut(index) {
                flow.originator.seq = originator;
                flow.responder.seq = responder;
            }
            closed.into_consumer().close(end, shared);
        }
        self.count_end(end);
        self.line_up(index, State::Ended);
    }

    /// What follows from a stream's last change.
    fn after<S>(&mut self, index: u32, shared: &mut S)
    where
        C: Consumer<S>,
    {
        let over = self
            .streams
            .get(index)
            .and_then(|stream| Some((stream.flow, stream.over(self.now)?)));
        match over {
            Some((flow, end)) => self.end(flow, end, shared),
            None => self.schedule(index),
        }
    }

    fn run_timers<S>(&mut self, shared: &mut S)
    where
        C: Consumer<S>,
    {
        while let Some(Reverse((wake, index))) = self.timers.peek().copied() {
            if wake > self.now {
                return;
            }
            self.timers.pop();
            let (streams, mut lent) = self.lent(shared);
            let Some(stream) = streams.get_mut(index).filter(|stream| stream.wake == wake) else {
                continue;
            };
            stream.wake = NEVER;
            stream.expire(&mut lent);
            self.after(index, shared);
        }
    }

    /// Ends up to `most` flows of each kind that have been silent for too long.
    fn sweep<S>(&mut self, most: usize, shared: &mut S)
    where
        C: Consumer<S>,
    {
        self.next_sweep = self.now.after(SWEEP);
        for state in [State::Payload, State::OneSided, State::Empty, State::Ended] {
            let silence = self.silence(state);
            let mut left = most;
            while let Some(index) = self.head(state) {
                let now = self.now;
                let Some(flow) = self.flows.get_mut(index) else {
                    break;
                };
                // Times after a clock that was set back count from now on.
                flow.lined_up = flow.lined_up.min(now);
                flow.last = flow.last.min(now);
                if now.since(flow.lined_up) <= silence {
                    break;
                }
                if left == 0 {
                    self.next_sweep = self.now;
                    break;
                }
                left -= 1;
                let active = now.since(flow.last) <= silence;
                match state {
                    State::Ended => self.forget(index),
                    _ if active => self.line_up(index, state),
                    _ => {
                        self.end(index, FlowEnd::Idle, shared);
                        self.forget(index);
                    }
                }
            }
        }
    }

    /// Those that have waited longest give up first, so that a flow which has just lost a segment is not made to pay
    /// for thousands that never fill their holes.
    fn keep_budget<S>(&mut self, shared: &mut S)
    where
        C: Consumer<S>,
    {
        while self.pool.charged() > self.config.buffered_bytes_max {
            let Some((ticket, index)) = self.waiting.pop_front() else {
                return;
            };
            let (streams, mut lent) = self.lent(shared);
            let Some(stream) = streams
                .get_mut(index)
                .filter(|stream| stream.ticket == ticket)
            else {
                continue;
            };
            stream.ticket = 0;
            stream.release(&mut lent);
            self.after(index, shared);
        }
    }
}
