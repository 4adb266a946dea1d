//! The engine cut off behind each of its stages, for benches and instruction counts: what a stage costs is the
//! difference to the one before.
//!
//! In: frames of [`crate::load`]. Out: a number that depends on the work, so that none of it is optimised away.

use std::sync::Arc;

use anyhow::{Result, bail};
use engine_core::bundle::{self, Bundler, Compression};
use engine_core::decap::{self, Decap, Frame, LinkType};
use engine_core::flow::{self, ByteInfo, Consumer, Direction, FlowEnd, FlowStart};
use engine_core::http::{
    self, BodyEnd, Exchanges, Http, Origin, RequestHead, ResponseHead, Side, UnpairedReason,
};
use engine_core::message::{Notes, Output, ShedPolicy};
use engine_core::pipeline::{Config, Pipeline};
use engine_core::rules::RuleSet;
use engine_core::time::Timestamp;

use crate::cell;
use crate::load::{EPOCH, FIRST_NUMBER, Load, Shape};
use crate::tx::Batch;

/// Names that [`Stage::new`] knows, each with all the work of those before it but for the rule sets, which are
/// alternatives: `debug` to `realistic` end with the finished line, `bundle` and `deflate` go on after `debug`. `bodiless`
/// is `realistic` without its rules on bodies: it has to cost what no rules cost. `shed` is `debug` of which as many calls as
/// can be are only counted.
pub const NAMES: [&str; 12] = [
    "frames",
    "decap",
    "flow",
    "http",
    "shed",
    "debug",
    "bundle",
    "deflate",
    "standard",
    "strict",
    "bodiless",
    "realistic",
];

/// The engine up to some stage.
#[allow(
    clippy::large_enum_variant,
    reason = "there is one of it, and the engine has it in place, too"
)]
pub enum Stage {
    /// Nothing: what making the frames costs.
    Frames(u64),
    /// Frame to segment.
    Decap(Decap, u64),
    /// Segment to ordered bytes.
    Flow(Decap, flow::Table<Ignore>, u64),
    /// Bytes to exchanges.
    Http(Decap, flow::Table<http::Connection<()>>, Http<Ignore>),
    /// Exchanges to lines.
    Lines(Pipeline<Count>),
    /// Lines to bundles.
    Bundles(Pipeline<Bundler>, u64),
}

/// Counts finished lines.
#[derive(Default)]
pub struct Count(u64);

impl Output for Count {
    fn line(&mut self, line: &[u8], _notes: &Notes) {
        self.0 += line.len() as u64;
    }
}

/// Takes everything and does nothing.
pub struct Ignore;

impl Stage {
    /// The stage of that name.
    pub fn new(name: &str) -> Result<Self> {
        let decap = || Decap::new(decap::Config::default());
        Ok(match name {
            "frames" => Self::Frames(0),
            "decap" => Self::Decap(decap(), 0),
            "flow" => Self::Flow(decap(), flow::Table::new(flow::Config::default()), 0),
            "http" => {
                let table = flow::Table::new(flow::Config::default());
                Self::Http(decap(), table, Http::new(http::Config::default(), Ignore))
            }
            "bundle" => Self::bundles(Compression::Off)?,
            "deflate" => Self::bundles(Compression::Fast)?,
            "shed" => {
                let mut pipeline =
                    Pipeline::new(&Config::default(), rules("debug")?, Count::default());
                pipeline.set_shed_policy(ShedPolicy {
                    shed: ShedPolicy::CALLS - 1,
                    ..ShedPolicy::default()
                });
                Self::Lines(pipeline)
            }
            "debug" | "standard" | "strict" | "bodiless" | "realistic" => Self::Lines(
                Pipeline::new(&Config::default(), rules(name)?, Count::default()),
            ),
            _ => bail!("{name} is no stage: {}", NAMES.join(", ")),
        })
    }

    fn bundles(compression: Compression) -> Result<Self> {
        let bundler = Bundler::new(bundle::Config {
            compression,
            ..bundle::Config::default()
        });
        let pipeline = Pipeline::new(&Config::default(), rules("debug")?, bundler);
        Ok(Self::Bundles(pipeline, 0))
    }

    /// The next frame, the `index`-th.
    #[inline]
    pub fn feed(&mut self, index: u64, bytes: &[u8]) {
        let frame = Frame {
            time: Timestamp::from_nanos(EPOCH + index * 1000),
            link: LinkType::Ethernet,
            bytes,
            wire_len: bytes.len() as u32,
            vlan: None,
        };
        match self {
            Self::Frames(sum) => *sum += bytes.len() as u64,
            Self::Decap(decap, sum) => {
                if let Ok(segment) = decap.frame(&frame) {
                    *sum += segment.payload.len() as u64;
                }
            }
            Self::Flow(decap, table, sum) => {
                if let Ok(segment) = decap.frame(&frame) {
                    table.segment(&segment, sum);
                }
            }
            Self::Http(decap, table, http) => {
                if let Ok(segment) = decap.frame(&frame) {
                    table.segment(&segment, http);
                }
            }
            Self::Lines(pipeline) => pipeline.feed(&frame),
            Self::Bundles(pipeline, sum) => {
                pipeline.feed(&frame);
                while let Some(bundle) = pipeline.output().pop() {
                    *sum += bundle.body.len() as u64;
                    pipeline.output().recycle(bundle);
                }
            }
        }
    }

    /// What was done: bytes, and exchanges at [`Self::Http`] and where they are shed.
    pub fn done(&mut self) -> u64 {
        match self {
            Self::Frames(sum) | Self::Decap(_, sum) | Self::Flow(_, _, sum) => *sum,
            Self::Http(_, _, http) => http.counters.exchanges_finished,
            Self::Lines(pipeline) => {
                let shed = pipeline.ledger().message.calls_shed_overload;
                pipeline.output().0 + shed
            }
            Self::Bundles(_, sum) => *sum,
        }
    }
}

/// Frames of steady traffic, round by round, on connections that stay open. Never the same twice: a flow table knows what
/// it has seen, and a repeated frame costs next to nothing.
pub struct Rounds {
    load: Load,
    batch: Batch,
    /// Of one round.
    calls: u64,
    /// At the end of the last round.
    calls_in_all: u64,
}

impl Rounds {
    /// Rounds of so many calls each.
    pub fn new(shape: &Shape, calls: u64) -> Self {
        Self {
            load: Load::new(shape.clone(), FIRST_NUMBER, 8 * FIRST_NUMBER),
            batch: Batch::default(),
            calls,
            calls_in_all: 0,
        }
    }

    /// Makes the next round.
    pub fn make(&mut self) -> &Batch {
        self.calls_in_all += self.calls;
        self.load.pause_after(self.calls_in_all);
        self.batch.clear();
        while self.batch.add(|out| self.load.next_frame(out)) {}
        &self.batch
    }
}

fn rules(name: &str) -> Result<Arc<RuleSet>> {
    let text = cell::rules(name, true)?;
    match RuleSet::parse(&text) {
        Ok(rules) => Ok(Arc::new(rules)),
        Err(error) => bail!("rule set {name}: {error:?}"),
    }
}

impl Consumer<u64> for Ignore {
    fn open(_: &FlowStart, _: &mut u64) -> Self {
        Self
    }
    fn data(&mut self, _: ByteInfo, bytes: &[u8], sum: &mut u64) {
        *sum += bytes.len() as u64;
    }
    fn gap(&mut self, _: ByteInfo, _: u64, _: &mut u64) {}
    fn finished(&mut self, _: ByteInfo, _: &mut u64) {}
    fn close(self, _: FlowEnd, _: &mut u64) {}
    fn ignores(&self, _: Direction) -> bool {
        false
    }
}

impl Exchanges for Ignore {
    type Draft = ();
    fn request(&mut self, _: &RequestHead<'_>, _: &Origin<'_>) {}
    fn orphan_response(&mut self, _: &ResponseHead<'_>, _: &Origin<'_>) {}
    fn response(&mut self, _: &mut (), _: &ResponseHead<'_>, _: &Origin<'_>) {}
    fn body(&mut self, _: &mut (), _: Side, _: &[u8]) {}
    fn missing(&mut self, _: &mut (), _: Side, _: u64) {}
    fn end(&mut self, _: &mut (), _: Side, _: BodyEnd, _: Timestamp) {}
    fn retract_response(&mut self, _: &mut ()) {}
    fn finish(&mut self, (): ()) {}
    fn unpaired(&mut self, (): (), _: UnpairedReason) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stage_does_its_work() {
        for name in NAMES {
            let mut stage = Stage::new(name).unwrap();
            let shape = Shape {
                connections: 4,
                ..Shape::default()
            };
            let mut load = Load::new(shape, FIRST_NUMBER, 300);
            let (mut frame, mut index) = (Vec::new(), 0);
            while load.next_frame(&mut frame) {
                stage.feed(index, &frame);
                frame.clear();
                index += 1;
            }
            let done = stage.done();
            assert!(done >= 300, "{name}: {done}");
            if name == "http" {
                assert_eq!(done, 300);
            }
        }
    }

    #[test]
    fn every_round_is_new_to_the_engine() {
        let mut stage = Stage::new("http").unwrap();
        let shape = Shape {
            connections: 4,
            ..Shape::default()
        };
        let mut rounds = Rounds::new(&shape, 50);
        let mut index = 0;
        for round in 1..=5 {
            for frame in rounds.make().frames(0) {
                stage.feed(index, frame);
                index += 1;
            }
            assert_eq!(stage.done(), 50 * round);
        }
    }

    /// What is in order is escaped from where the kernel put it. The first set is without rules on bodies, the second
    /// removes them, the third has to see them whole.
    #[test]
    fn few_bytes_are_copied_before_they_are_escaped() {
        for (name, copies) in [("debug", false), ("strict", false), ("standard", true)] {
            for body_bytes in [200, 2000, 20_000] {
                let mut stage = Stage::new(name).unwrap();
                let shape = Shape {
                    connections: 50,
                    body_bytes,
                    ..Shape::default()
                };
                let mut load = Load::new(shape, FIRST_NUMBER, 1000);
                let (mut frame, mut index) = (Vec::new(), 0);
                while load.next_frame(&mut frame) {
                    stage.feed(index, &frame);
                    frame.clear();
                    index += 1;
                }
                let Stage::Lines(pipeline) = stage else {
                    panic!("{name} ends with lines")
                };
                let ledger = pipeline.ledger();
                let (copied, taken) = (ledger.copied_bytes(), ledger.flow.flow_payload_bytes);
                assert!(taken > 1000 * body_bytes as u64);
                assert_eq!(
                    copied * 100 >= taken * 3,
                    copies,
                    "{name}, {body_bytes}: {copied} of {taken} bytes"
                );
            }
        }
    }
}
