//! The whole path of one shard: frames become lines, and every frame, byte and call ends in one bucket of the ledger.
//!
//! A shard owns one pipeline; nothing in it is shared. Time comes with each frame ([`Frame::time`]); [`Pipeline::tick`]
//! ends idle flows when no frame comes.
//!
//! ```
//! use std::sync::Arc;
//!
//! use engine_core::decap::{Frame, LinkType};
//! use engine_core::message::{Notes, Output};
//! use engine_core::pipeline::{Config, Pipeline};
//! use engine_core::rules::RuleSet;
//! use engine_core::time::Timestamp;
//!
//! /// Keeps every line.
//! #[derive(Default)]
//! struct Lines(Vec<String>);
//!
//! impl Output for Lines {
//!     fn line(&mut self, line: &[u8], _: &Notes) {
//!         self.0.push(String::from_utf8_lossy(line).into_owned());
//!     }
//! }
//!
//! /// An IPv4 packet with a TCP segment between 10.0.0.1:40000 and 10.0.0.2:80.
//! fn packet(from_client: bool, seq: u32, ack: u32, payload: &str) -> Vec<u8> {
//!     let (client, server) = ([10, 0, 0, 1], [10, 0, 0, 2]);
//!     let (src, dst) = if from_client { (client, server) } else { (server, client) };
//!     let ports = if from_client { [0x9c, 0x40, 0, 80] } else { [0, 80, 0x9c, 0x40] };
//!     let ip = [0x45, 0, 0, 40 + payload.len() as u8, 0, 0, 0, 0, 64, 6, 0, 0];
//!     let (seq, ack) = (seq.to_be_bytes(), ack.to_be_bytes());
//!     let flags = [0x50, 0x10, 0xff, 0xff, 0, 0, 0, 0];
//!     [&ip[..], &src, &dst, &ports, &seq, &ack, &flags, payload.as_bytes()].concat()
//! }
//!
//! let rules = RuleSet::parse("include debug").unwrap();
//! let mut pipeline = Pipeline::new(&Config::default(), Arc::new(rules), Lines::default());
//! let request = "GET /orders HTTP/1.1\r\nHost: shop\r\n\r\n";
//! let response = "HTTP/1.1 204 No Content\r\n\r\n";
//! let after = 1 + request.len() as u32;
//! let time = Timestamp::from_parts(1_700_000_000, 0);
//! for bytes in [packet(true, 1, 1, request), packet(false, 1, after, response)] {
//!     pipeline.feed(&Frame {
//!         time,
//!         link: LinkType::RawIp,
//!         bytes: &bytes,
//!         wire_len: bytes.len() as u32,
//!         vlan: None,
//!     });
//! }
//! pipeline.finish(time);
//!
//! assert!(pipeline.ledger().unaccounted().is_nothing());
//! let lines = &pipeline.output().0;
//! assert_eq!(lines.len(), 1);
//! assert!(lines[0].contains(r#"["response_code","204"]"#), "{}", lines[0]);
//! ```

mod compiled;

use std::sync::Arc;

pub use self::compiled::{CapturePipeline, FilePipeline, Lines, Shared};
use crate::decap::{self, Decap, Frame, Skip};
use crate::flow;
use crate::http::{self, Http, UnpairedReason};
use crate::limits;
use crate::message::{self, Drafts, LineWriter, LineWriters, Output, ShedPolicy, Writers};
use crate::rules::RuleSet;
use crate::time::Timestamp;
use crate::uploads::SenderTable;

/// Configuration of a pipeline.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Decapsulation.
    pub decap: decap::Config,
    /// Flow table.
    pub flow: flow::Config,
    /// HTTP.
    pub http: http::Config,
    /// Message writer.
    pub message: message::Config,
}

impl Config {
    /// Divides `bytes` of memory among what grows with the traffic.
    ///
    /// An eighth for flows as such, a quarter for those that carry payload, an eighth for payload out of order, an eighth
    /// for unfinished heads, a quarter for open exchanges. The last eighth is for everything that has a bound of its own:
    /// fragments, HTTP/2 header tables, reused buffers, remembered names, the current line and the current bundle.
    #[must_use]
    pub fn within(self, bytes: usize) -> Self {
        self.divided(bytes, OneSet::FLOW_BYTES, OneSet::STREAM_BYTES)
    }

    /// The same for a pipeline with several rule sets, whose flows are larger.
    #[must_use]
    pub fn within_for_several(self, bytes: usize) -> Self {
        self.divided(bytes, SeveralSets::FLOW_BYTES, SeveralSets::STREAM_BYTES)
    }

    fn divided(mut self, bytes: usize, flow_bytes: usize, stream_bytes: usize) -> Self {
        let eighth = bytes.max(limits::SHARD_MEMORY_BYTES_MIN) / 8;
        self.flow.flows_max = eighth / flow_bytes;
        self.flow.streams_max = 2 * eighth / (stream_bytes + limits::STREAM_HEAP_BYTES);
        self.flow.buffered_bytes_max = eighth;
        self.http.heads_bytes_max = eighth;
        self.http.tables_bytes_max = (eighth / 2).min(limits::HTTP2_TABLES_BYTES_MAX);
        self.message.open_bytes_max = 2 * eighth;
        self
    }
}

/// The flow table of a pipeline with one rule set, whatever its output.
type OneSet = flow::Table<http::Connection<Result<Box<message::Draft>, message::Unwritten>>>;

/// The same with several rule sets.
type SeveralSets = flow::Table<http::Connection<Drafts>>;

/// The counters of all stages, sampled together.
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
    /// What has not reached its end yet.
    pub held: Held,
}

crate::counters! {
    /// What was taken in and has not reached its end: gauges, each counted where it is held, not derived.
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
        /// Bytes of memory that the searches of rules keep.
        #[gauge]
        rules_bytes,
    }
}

crate::counters! {
    /// What is in no bucket, level by level. Anything but 0 is a bug of ours.
    pub struct Unaccounted {
        /// Frames that are neither a segment nor skipped nor a held fragment.
        #[gauge]
        frames,
        /// IP fragments neither joined nor given up nor waiting.
        #[gauge]
        fragments,
        /// Segments that decapsulation found and the flow table did not take in.
        #[gauge]
        segments,
        /// Payload bytes neither delivered nor duplicate nor skipped nor discarded nor waiting.
        #[gauge]
        payload_bytes,
        /// Flows neither ended nor open.
        #[gauge]
        flows,
        /// Exchanges neither finished nor unpaired nor open.
        #[gauge]
        exchanges,
        /// Calls, whole or half, that the parser finished and the message writer did not receive.
        #[gauge]
        calls,
        /// Calls neither written nor stopped nor sampled out nor shed.
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

    /// Payload bytes that were copied before they were escaped: they were out of order, or in a head in pieces, or in a
    /// body with a coding, or a rule had to see the whole body. Bytes that were copied twice are counted twice.
    pub fn copied_bytes(&self) -> u64 {
        self.flow.flow_copied_bytes + self.http.bytes_copied + self.message.copied_bytes
    }

    /// What the calls of another rule set leave over, of which these are the outcomes.
    pub fn unaccounted_of(&self, outcomes: &message::Counters) -> Unaccounted {
        let Unaccounted { calls, lines, .. } = Self {
            message: *outcomes,
            ..*self
        }
        .unaccounted();
        Unaccounted {
            calls,
            lines,
            ..Unaccounted::default()
        }
    }

    /// What the buckets of each level leave over. Valid at any time, not only at the end.
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
        let no_calls = message.uploads_answered + message.websocket_silent;
        let calls = http.exchanges_finished.abs_diff(no_calls) + message.calls_half;
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

/// Bytes of memory past which idle flows are evicted.
#[derive(Clone, Copy, Debug)]
struct Pressure {
    heads: usize,
    /// Of each rule set.
    exchanges: usize,
}

/// Decapsulation, flow table, HTTP, rules and line writer of one shard; where sinks have different rules, a line writer for
/// each rule set, which share everything before.
pub struct Pipeline<O: Output, W: Writers<Output = O> = LineWriter<O>> {
    /// Memory of heads and of open exchanges past which idle flows are evicted, so that busy ones need not be.
    pressure: Pressure,
    decap: Decap,
    flows: flow::Table<http::Connection<W::Draft>>,
    http: Http<W>,
}

impl<O: Output> Pipeline<O> {
    /// An empty pipeline that writes its lines to `output`.
    pub fn new(config: &Config, rules: Arc<RuleSet>, output: O) -> Self {
        let writer = LineWriter::new(config.message.clone(), rules, output);
        Self::writing(config, writer)
    }

    /// How often each rule of the newest set acted, by its number in [`RuleSet::rules`]. Empty before the first did.
    pub fn rule_matches(&self) -> &[u64] {
        self.http.exchanges.rule_matches()
    }

    /// The output that lines are written to.
    pub fn output(&mut self) -> &mut O {
        self.http.exchanges.output()
    }
}

impl<O: Output> Pipeline<O, LineWriters<O>> {
    /// An empty pipeline that writes lines under each of these rule sets to the output beside it.
    pub fn several(config: &Config, sets: Vec<(Arc<RuleSet>, O)>) -> Self {
        let writers = LineWriters::new(&config.message, sets);
        Self::writing(config, writers)
    }
}

impl<O: Output, W: Writers<Output = O>> Pipeline<O, W> {
    fn writing(config: &Config, writers: W) -> Self {
        let sets = writers.all().len().max(1);
        Self {
            pressure: Pressure {
                heads: config.http.heads_bytes_max / 8 * 5,
                exchanges: config.message.open_bytes_max / sets / 8 * 5,
            },
            decap: Decap::new(config.decap.clone()),
            flows: flow::Table::new(config.flow.clone()),
            http: Http::new(config.http.clone(), writers),
        }
    }

    /// Reads one frame. Lines that it completes go to the output before this returns.
    #[inline(always)]
    pub fn feed(&mut self, frame: &Frame<'_>) {
        // A skip is counted by decap itself, under its reason. A segment stays where decap has put it: it is not copied.
        match &self.decap.frame(frame) {
            Ok(segment) => {
                self.flows.segment(segment, &mut self.http);
                self.relieve();
            }
            Err(Skip::Quic(quic)) => self.http.quic(quic),
            Err(_) => {}
        }
    }

    /// Evicts the flows that have been idle longest while heads or open exchanges hold more than five eighths of what they
    /// may hold. Past half of it the largest are given up when they grow, past three quarters every further one.
    #[inline(always)]
    fn relieve(&mut self) {
        if !self.is_relaxed() {
            self.evict();
        }
    }

    #[cold]
    fn evict(&mut self) {
        for _ in 0..limits::EVICTIONS_PER_FRAME_MAX {
            if self.is_relaxed() || !self.flows.evict_idle(&mut self.http) {
                return;
            }
        }
    }

    /// Whether heads and open exchanges hold less.
    #[inline(always)]
    fn is_relaxed(&self) -> bool {
        let Pressure { heads, exchanges } = self.pressure;
        let mut writers = self.http.exchanges.all().iter();
        self.http.buffered_bytes() <= heads
            && writers.all(|writer| writer.open_bytes() <= exchanges)
    }

    /// Ends what has been idle for too long at `now`.
    pub fn tick(&mut self, now: Timestamp) {
        self.flows.tick(now, &mut self.http);
        for writer in self.http.exchanges.all_mut() {
            writer.tick(now);
        }
    }

    /// The capture is over: everything open is completed or given up.
    pub fn finish(&mut self, now: Timestamp) {
        self.flows.finish(now, &mut self.http);
    }

    /// Replaces the rules of the set with this number; open exchanges keep those that they started with.
    pub fn set_rules(&mut self, set: usize, rules: Arc<RuleSet>) {
        if let Some(writer) = self.http.exchanges.all_mut().get_mut(set) {
            writer.set_rules(rules);
        }
    }

    /// Sets what is shed of calls that start from now on.
    pub fn set_shed_policy(&mut self, policy: ShedPolicy) {
        for writer in self.http.exchanges.all_mut() {
            writer.set_shed_policy(policy);
        }
    }

    /// The line writer of each rule set, with its counters.
    pub fn writers(&self) -> &[LineWriter<O>] {
        self.http.exchanges.all()
    }

    /// The same, to change them.
    pub fn writers_mut(&mut self) -> &mut [LineWriter<O>] {
        self.http.exchanges.all_mut()
    }

    /// The outputs that lines are written to, by rule set.
    pub fn outputs(&mut self) -> impl Iterator<Item = &mut O> {
        let writers = self.http.exchanges.all_mut().iter_mut();
        writers.map(LineWriter::output)
    }

    /// The protocols of each server port.
    pub fn ports_seen(&self) -> &http::PortTable {
        &self.http.ports_seen
    }

    /// The pairs of networks in which the same connections were captured.
    pub fn copies_seen(&self) -> &flow::CopyTable {
        self.flows.copies_seen()
    }

    /// Flows with no wanted port, by the server's port.
    pub fn ports_unwanted(&self) -> &http::PortCounts {
        &self.http.ports_unwanted
    }

    /// The networks that mirrored frames came from, wanted or not.
    pub fn vnis_seen(&self) -> &[decap::VniSeen] {
        self.decap.vnis_seen()
    }

    /// Hashes of flows that opened ([`flow::Config::new_flows_seed`]), for comparison with other shards.
    pub fn take_new_flows(&mut self) -> impl Iterator<Item = u64> + use<'_, O, W> {
        self.flows.take_new_flows()
    }

    /// The uploads of other sniffers that were skipped, by sender: the same under every rule set.
    pub fn upload_senders(&self) -> Option<&SenderTable> {
        self.writers().first().map(LineWriter::upload_senders)
    }

    /// A copy of all counters; those of lines are of the first rule set.
    pub fn ledger(&self) -> Ledger {
        let first = self.writers().first();
        let rpc = first.map(LineWriter::rpc_counts).unwrap_or_default();
        let sum = |count: fn(&LineWriter<O>) -> usize| self.writers().iter().map(count).sum();
        let exchange_bytes: usize = sum(LineWriter::open_bytes);
        let rules_bytes: usize = sum(LineWriter::rules_bytes);
        Ledger {
            decap: *self.decap.counters(),
            flow: *self.flows.counters(),
            http: http::Counters {
                rpc_messages: rpc.messages,
                rpc_messages_undecodable: rpc.undecodable,
                stream_parts: first.map_or(0, LineWriter::stream_parts),
                ..self.http.counters
            },
            message: first.map(|first| *first.counters()).unwrap_or_default(),
            held: Held {
                fragments: self.decap.fragments_waiting(),
                flows: self.flows.flows_open() as u64,
                payload_bytes: self.flows.buffered_bytes(),
                head_bytes: self.http.buffered_bytes() as u64,
                exchanges: first.map_or(0, LineWriter::open_calls),
                exchange_bytes: exchange_bytes as u64,
                rules_bytes: rules_bytes as u64,
            },
        }
    }
}
