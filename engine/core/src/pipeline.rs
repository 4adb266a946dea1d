//! One worker's whole path: frames in, lines out, with every frame, byte and call in one box of the ledger.
//!
//! A shard owns one pipeline; nothing in it is shared. Time comes with each frame ([`Frame::time`]); [`Pipeline::tick`]
//! lets idle flows end when no frame comes.

use std::sync::Arc;

use crate::decap::{self, Decap, Frame};
use crate::flow;
use crate::http::{self, Http};
use crate::message::{self, Output, Writer};
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
}

impl Ledger {
    /// Adds another shard's counters to these.
    pub fn add(&mut self, other: &Self) {
        self.decap.add(&other.decap);
        self.flow.add(&other.flow);
        self.http.add(&other.http);
        self.message.add(&other.message);
    }
}

type Connection<O> = http::Connection<<Writer<O> as http::Exchanges>::Draft>;

/// Decap, flow table, HTTP, rules and line writer of one shard.
pub struct Pipeline<O: Output> {
    decap: Decap,
    flows: flow::Table<Connection<O>>,
    http: Http<Writer<O>>,
}

impl<O: Output> Pipeline<O> {
    /// An empty pipeline that writes its lines to `output`.
    pub fn new(config: &Config, rules: Arc<RuleSet>, output: O) -> Self {
        let writer = Writer::new(config.message.clone(), rules, output);
        Self {
            decap: Decap::new(config.decap.clone()),
            flows: flow::Table::new(config.flow.clone()),
            http: Http::new(config.http.clone(), writer),
        }
    }

    /// One frame. Lines that it completes go to the output before this returns.
    pub fn feed(&mut self, frame: &Frame<'_>) {
        // A skip is counted by decap itself, under its reason.
        if let Ok(segment) = self.decap.frame(frame) {
            self.flows.segment(&segment, &mut self.http);
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

    /// How often each rule of the newest set acted, by its number in [`RuleSet::rules`]. Empty before the first did.
    pub fn rule_hits(&self) -> &[u64] {
        self.http.exchanges.rule_hits()
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
        }
    }
}
