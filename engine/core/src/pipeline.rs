//! One worker's whole path: frames in, lines out, with every frame, byte and call in one box of the ledger.
//!
//! A shard owns one pipeline; nothing in it is shared. Time comes with each frame ([`Frame::time`]); [`Pipeline::tick`]
//! lets idle flows end when no frame comes.

use std::sync::Arc;

use crate::decap::{self, Decap, Frame};
use crate::flow;
use crate::http::{self, Http, UnpairedReason};
use crate::limits;
use crate::message::{self, Output, ShedPolicy, Writer};
use crate::rules::RuleSet;
use crate::time::Timestamp;

/// What a pipeline is told once.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Encapsulations.
    pub decap: decap::Config,
    /// Flow table.
    pub flow: flow::Config,
    /// Ports.
    pub http: http::Config,
    /// Message.
    pub message: message::Config,
}

impl Config {
    /// Divides `bytes` of memory among what grows with the traffic.
    ///
    /// An eighth for flows as such, a quarter for those that carry payload, an eighth for payload out of order, an eighth
    /// for unfinished heads, a quarter for open exchanges. The last eighth is for what has a bound of its own: fragments,
    /// reused buffers, remembered names, the line and the bundle in the making.
    #[must_use]
    pub fn within(mut self, bytes: usize) -> Self {
        let eighth = bytes.max(limits::SHARD_MEMORY_BYTES_MIN) / 8;
        self.flow.flows_max = eighth / Flows::FLOW_BYTES;
        self.flow.streams_max = 2 * eighth / (Flows::STREAM_BYTES + limits::STREAM_HEAP_BYTES);
        self.flow.buffered_bytes_max = eighth;
        self.http.heads_bytes_max = eighth;
        self.message.open_bytes_max = 2 * eighth;
        self
    }
}

/// What a flow table of the engine holds, whatever lines are written to.
type Flows = flow::Table<http::Connection<Result<Box<message::Draft>, message::Shed>>>;

/// Counters of all stages, sampled together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ledger {
    /// Frames to segments.
    pub decap: decap::Counters,
    /// Segments to ordered bytes.
    pub flow: flow::Counters,
    /// Bytes to exchanges.
    pub http: http::Counters,
    /// Exchanges to lines.
    pub message: message::Counters,
    /// What is on its way now.
    pub held: Held,
}

crate::counters! {
    /// What was taken in and has not reached its end: gauges, each counted where the thing is, not derived.
    pub struct Held {
        /// IP fragments that wait for the rest of their datagram.
        #[gauge]
        fragments,
        /// Flows open, with or without payload.
        #[gauge]
        flows,
        /// Payload bytes that wait for others before them.
        #[gauge]
        payload_bytes,
        /// Bytes of unfinished heads and lines.
        #[gauge]
        head_bytes,
        /// Exchanges open.
        #[gauge]
        exchanges,
        /// Bytes of memory that open exchanges hold.
        #[gauge]
        exchange_bytes,
    }
}

crate::counters! {
    /// What is in no box, level by level. Anything but 0 is a bug of ours.
    pub struct Unaccounted {
        /// Frames that are neither a segment nor skipped nor a held fragment.
        #[gauge]
        frames,
        /// IP fragments neither joined nor given up nor waiting.
        #[gauge]
        fragments,
        /// Segments that decapsulation found and the flow table did not take.
        #[gauge]
        segments,
        /// Payload bytes neither delivered nor known already nor skipped nor discarded nor waiting.
        #[gauge]
        payload_bytes,
        /// Flows neither ended nor open.
        #[gauge]
        flows,
        /// Exchanges neither finished nor half nor open.
        #[gauge]
        exchanges,
        /// Calls that the parser finished and the message writer did not see, and half calls the same.
        #[gauge]
        calls,
        /// Calls neither written nor stopped nor sampled out nor shed for whatever reason.
        #[gauge]
        lines,
    }
}

impl Unaccounted {
    /// Whether every level balances.
    pub fn is_nothing(&self) -> bool {
        self.values().all(|value| value == 0)
    }
}

impl Ledger {
    /// Adds another shard's counters to these.
    pub fn add(&mut self, other: &Self) {
        self.decap.add(&other.decap);
        self.flow.add(&other.flow);
        self.http.add(&other.http);
        self.message.add(&other.message);
        self.held.add(&other.held);
    }

    /// Payload bytes that were copied before they were escaped: they came out of order, or in a head in pieces, or in a
    /// body with a coding, or a rule had to see the whole. Bytes that needed it twice are counted twice.
    pub fn copied_bytes(&self) -> u64 {
        self.flow.flow_copied_bytes + self.http.bytes_copied + self.message.copied_bytes
    }

    /// What the boxes of each level leave over. True at any time, not only at the end.
    pub fn unaccounted(&self) -> Unaccounted {
        let Self {
            decap,
            flow,
            http,
            message,
            held,
        } = self;
        let fragments = decap.fragments_joined + decap.fragments_expired + decap.fragments_evicted;
        let seen_fragments =
            decap.fragments_stored + decap.fragments_duplicate + decap.fragments_refused;
        let unpaired = UnpairedReason::ALL.into_iter();
        let unpaired: u64 = unpaired
            .map(|reason| {
                http.unpaired_for(reason)
                    .abs_diff(message.unpaired_for(reason))
            })
            .sum();
        let calls = http.exchanges_finished + message.calls_half;
        let ended = message.lines_written
            + message.calls_stopped
            + message.calls_sampled
            + message.calls_shed
            + message.calls_shed_overload;
        Unaccounted {
            frames: decap.unaccounted(),
            fragments: decap.fragments.abs_diff(seen_fragments)
                + decap.fragments_stored.abs_diff(fragments + held.fragments),
            segments: decap.segments.abs_diff(flow.flow_segments),
            payload_bytes: decap.payload_bytes.abs_diff(flow.flow_payload_bytes)
                + flow
                    .flow_payload_bytes
                    .abs_diff(flow.settled_bytes() + held.payload_bytes),
            flows: flow.flow_opened.abs_diff(flow.ended() + held.flows),
            exchanges: http
                .exchanges_opened
                .abs_diff(http.exchanges_finished + http.unpaired_total() + held.exchanges),
            calls: message.calls_seen.abs_diff(calls) + unpaired,
            lines: message.calls_seen.abs_diff(ended),
        }
    }
}

type Connection<O> = http::Connection<<Writer<O> as http::Exchanges>::Draft>;

/// Decap, flow table, HTTP, rules and line writer of one shard.
pub struct Pipeline<O: Output> {
    /// Memory of heads and of open exchanges past which silent flows make room, so that those which speak need not.
    pressure: (usize, usize),
    decap: Decap,
    flows: flow::Table<Connection<O>>,
    http: Http<Writer<O>>,
}

impl<O: Output> Pipeline<O> {
    /// An empty pipeline that writes its lines to `output`.
    pub fn new(config: &Config, rules: Arc<RuleSet>, output: O) -> Self {
        let writer = Writer::new(config.message.clone(), rules, output);
        Self {
            pressure: (
                config.http.heads_bytes_max / 8 * 5,
                config.message.open_bytes_max / 8 * 5,
            ),
            decap: Decap::new(config.decap.clone()),
            flows: flow::Table::new(config.flow.clone()),
            http: Http::new(config.http.clone(), writer),
        }
    }

    /// One frame. Lines that it completes go to the output before this returns.
    pub fn feed(&mut self, frame: &Frame<'_>) {
        // A skip is counted by decap itself, under its reason. A segment stays where decap has put it.
        if let Ok(segment) = &self.decap.frame(frame) {
            self.flows.segment(segment, &mut self.http);
            self.relieve();
        }
    }

    /// Lets go of the flows that have been silent longest while heads or open exchanges hold too much: at five eighths of
    /// what they may hold. Past half of it the largest have to go when they grow, past three quarters whoever comes next.
    fn relieve(&mut self) {
        let (heads, exchanges) = self.pressure;
        for _ in 0..limits::EVICTIONS_PER_FRAME_MAX {
            let relaxed = self.http.buffered_bytes() <= heads
                && self.http.exchanges.open_bytes() <= exchanges;
            if relaxed || !self.flows.evict_idle(&mut self.http) {
                return;
            }
        }
    }

    /// Lets go of what has been idle for too long at `now`.
    pub fn tick(&mut self, now: Timestamp) {
        self.flows.tick(now, &mut self.http);
    }

    /// The capture is over: everything open is completed or given up.
    pub fn finish(&mut self, now: Timestamp) {
        self.flows.finish(now, &mut self.http);
    }

    /// Swaps the rules; exchanges that are open keep what they have already let through the old ones.
    pub fn set_rules(&mut self, rules: Arc<RuleSet>) {
        self.http.exchanges.set_rules(rules);
    }

    /// What calls that begin from now on go without.
    pub fn set_shed_policy(&mut self, policy: ShedPolicy) {
        self.http.exchanges.set_shed_policy(policy);
    }

    /// How often each rule of the newest set acted, by its number in [`RuleSet::rules`]. Empty before the first did.
    pub fn rule_matches(&self) -> &[u64] {
        self.http.exchanges.rule_matches()
    }

    /// What each server port speaks.
    pub fn ports_seen(&self) -> &http::PortTable {
        &self.http.ports_seen
    }

    /// Hashes of flows that opened ([`flow::Config::new_flows_seed`]), for comparison with other shards.
    pub fn take_new_flows(&mut self) -> impl Iterator<Item = u64> + '_ {
        self.flows.take_new_flows()
    }

    /// Where lines go.
    pub fn output(&mut self) -> &mut O {
        self.http.exchanges.output()
    }

    /// A copy of all counters.
    pub fn ledger(&self) -> Ledger {
        Ledger {
            decap: *self.decap.counters(),
            flow: *self.flows.counters(),
            http: self.http.counters,
            message: *self.http.exchanges.counters(),
            held: Held {
                fragments: self.decap.fragments_waiting(),
                flows: self.flows.flows_open() as u64,
                payload_bytes: self.flows.buffered_bytes(),
                head_bytes: self.http.buffered_bytes() as u64,
                exchanges: self.http.exchanges.open_calls(),
                exchange_bytes: self.http.exchanges.open_bytes() as u64,
            },
        }
    }
}
