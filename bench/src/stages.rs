//! The engine up to each of its stages, for benchmarks and instruction counts: the cost of a stage is the difference to
//! the stage before it.
//!
//! The frames are those of [`crate::load`]. Each stage computes a number that depends on its work, so that the compiler
//! cannot remove it.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use engine_core::bundle::{self, Bundler, Compression};
use engine_core::decap::{self, Decap, Frame, LinkType};
use engine_core::flow::{self, ByteInfo, Consumer, Direction, FlowEnd, FlowStart};
use engine_core::http::{
    self, BodyEnd, Exchanges, Header, Http, Origin, RequestHead, ResponseHead, Side, UnpairedReason,
};
use engine_core::message::{Notes, Output, ShedPolicy};
use engine_core::pipeline::{CapturePipeline, Config, Pipeline};
use engine_core::rules::RuleSet;
use engine_core::time::Timestamp;

use crate::cell;
use crate::load::{EPOCH, FIRST_NUMBER, Load, Protocol, Shape};
use crate::tx::Batch;

/// What a program of `bench/instructions` counts, and its traffic: `WHAT WIRE BODY_BYTES CALLS [PROTOCOL]` of the command line.
///
/// # Errors
/// A word is missing, or cannot be read.
pub fn from_command_line() -> Result<(String, Load)> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [what, wire, body_bytes, calls, protocol @ ..] = words.as_slice() else {
        bail!("expected: WHAT WIRE BODY_BYTES CALLS [PROTOCOL]");
    };
    let protocol = protocol
        .first()
        .map_or(Ok(Protocol::Http1), |text| text.parse());
    let shape = Shape {
        body_bytes: body_bytes.parse().context("BODY_BYTES")?,
        wire: cell::wire(wire)?,
        connections: 64,
        protocol: protocol.map_err(anyhow::Error::msg)?,
        ..Shape::default()
    };
    let load = Load::new(shape, FIRST_NUMBER, calls.parse().context("CALLS")?);
    Ok((what.clone(), load))
}

/// The names that [`Stage::new`] accepts. Each stage includes the work of those before it, except that the rule sets are
/// alternatives: `debug`, `standard`, `strict`, `bodiless` and `realistic` end with the finished line, `bundle` and
/// `deflate` continue after `debug`. `bodiless` is `realistic` without its rules for bodies, and should cost no more than
/// `debug`. `shed` is `debug` while as many calls as possible are shed; `sets` is `deflate` for two rule sets at once, and
/// `sets-plain` is `bundle` for two.
pub const NAMES: [&str; 14] = [
    "frames",
    "decap",
    "flow",
    "http",
    "shed",
    "debug",
    "bundle",
    "deflate",
    "sets",
    "sets-plain",
    "standard",
    "strict",
    "bodiless",
    "realistic",
];

/// The engine up to one stage.
#[allow(
    clippy::large_enum_variant,
    reason = "there is only one, and the engine does not box it either"
)]
pub enum Stage {
    /// No stage: the cost of making the frames.
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
    Bundles(CapturePipeline, u64),
}

/// Counts finished lines.
#[derive(Default)]
pub struct Count(u64);

impl Output for Count {
    fn line(&mut self, line: &[u8], _notes: &Notes) {
        self.0 += line.len() as u64;
    }
}

/// A consumer that ignores everything.
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
            "bundle" => Self::bundles(Compression::Off, 1)?,
            "deflate" => Self::bundles(Compression::Fast, 1)?,
            "sets" => Self::bundles(Compression::Fast, 2)?,
            "sets-plain" => Self::bundles(Compression::Off, 2)?,
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
            _ => bail!("{name} is not a stage: {}", NAMES.join(", ")),
        })
    }

    fn bundles(compression: Compression, rule_sets: usize) -> Result<Self> {
        Ok(Self::Bundles(capture(compression, rule_sets)?, 0))
    }

    /// Feeds the next frame, which has this index.
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
                for bundler in pipeline.bundlers() {
                    while let Some(bundle) = bundler.pop() {
                        *sum += bundle.body.len() as u64;
                        bundler.recycle(bundle);
                    }
                }
            }
        }
    }

    /// The work done: bytes, or exchanges with [`Self::Http`] and for those that were shed.
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

/// Frames of steady traffic in rounds, on connections that stay open. No frame is repeated, since a flow table drops
/// repeated segments at almost no cost.
pub struct Rounds {
    load: Load,
    batch: Batch,
    /// Calls of one round.
    calls: u64,
    /// Calls up to the end of the last round.
    calls_total: u64,
}

impl Rounds {
    /// Rounds of `calls` calls each.
    pub fn new(shape: &Shape, calls: u64) -> Self {
        Self {
            load: Load::new(shape.clone(), FIRST_NUMBER, 8 * FIRST_NUMBER),
            batch: Batch::default(),
            calls,
            calls_total: 0,
        }
    }

    /// Makes the next round.
    pub fn make(&mut self) -> &Batch {
        self.calls_total += self.calls;
        self.load.pause_after(self.calls_total);
        self.batch.clear();
        while self.batch.add(|out| self.load.next_frame(out)) {}
        &self.batch
    }
}

/// A pipeline up to closed bundles under so many rule sets, as a shard has it.
pub fn capture(compression: Compression, rule_sets: usize) -> Result<CapturePipeline> {
    let mut sets = Vec::new();
    for _ in 0..rule_sets {
        let bundler = Bundler::new(bundle::Config {
            compression,
            ..bundle::Config::default()
        });
        sets.push((rules("debug")?, bundler));
    }
    Ok(CapturePipeline::new(&Config::default(), sets))
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
    fn body(&mut self, _: &mut (), _: Side, _: &[u8], _: Timestamp) {}
    fn trailers(&mut self, _: &mut (), _: Side, _: &[Header<'_>], _: u32) {}
    fn reset(&mut self, _: &mut (), _: Side, _: u32) {}
    fn missing(&mut self, _: &mut (), _: Side, _: u64) {}
    fn end(&mut self, _: &mut (), _: Side, _: BodyEnd, _: Timestamp) {}
    fn split_response(&mut self, _: &mut (), _: u64) {}
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

    /// Bytes in order are escaped straight from the ring. The first rule set has no rules for bodies, the second removes
    /// them, the third needs them complete.
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
