//! `bench stages`: the time of a packet and of a call up to each stage of the engine, over frames in memory.
//!
//! The frames are those of `run`, made before each round and never repeated. Each stage runs for `--seconds`, and
//! the fastest round counts, since any disturbance makes a round slower. `bench/instructions` counts instructions instead.

use std::hint::black_box;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;

use crate::cell;
use crate::lab::thread_cpu_seconds;
use crate::load::Shape;
use crate::results::{Conditions, Results, StageTime};
use crate::stages::{NAMES, Rounds, Stage};

/// Approximate bytes of the frames of one round: those in the blocks of a ring that is read without delay.
const ROUND_BYTES: usize = 4 << 20;
/// The stage that does nothing; its row has the time that making the frames takes.
const MAKING: &str = "frames";
/// Rounds that do not count.
const WARM_UP: u32 = 2;

/// Options of `bench stages`.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Encapsulations of the traffic: plain, vxlan
    #[arg(long, value_delimiter = ',', default_value = "plain,vxlan")]
    wire: Vec<String>,
    /// Response body sizes in bytes
    #[arg(long, value_delimiter = ',', default_value = "200,2000,20000")]
    body: Vec<usize>,
    /// Seconds for each stage, including the making of frames
    #[arg(long, default_value_t = 0.5)]
    seconds: f64,
    /// Folder of the results
    #[arg(long, default_value = "bench/results/latest")]
    results: PathBuf,
}

/// Measures all stages.
pub fn run(options: &Options) -> Result<()> {
    let mut results = Results::create(&options.results, "stages")?;
    eprintln!("rows go to {}", results.path().display());
    for wire in &options.wire {
        for &body_bytes in &options.body {
            let shape = Shape {
                body_bytes,
                connections: 64,
                wire: cell::wire(wire)?,
                ..Shape::default()
            };
            let conditions = Conditions::now();
            for stage in NAMES {
                let round = fastest(stage, &shape, options.seconds)?;
                let row = StageTime {
                    wire: wire.clone(),
                    body_bytes,
                    stage: stage.to_owned(),
                    calls: round.calls,
                    frames: round.frames,
                    nanos_per_frame: round.nanos / round.frames as f64,
                    nanos_per_call: round.nanos / round.calls as f64,
                };
                results.append(&conditions, &row)?;
                eprintln!(
                    "{wire:<5} {body_bytes:>5} B up to {stage:<10} {:>8.0} ns/frame {:>9.0} ns/call",
                    row.nanos_per_frame, row.nanos_per_call
                );
            }
        }
    }
    Ok(())
}

/// The fastest round.
struct Round {
    calls: u64,
    frames: u64,
    nanos: f64,
}

fn fastest(name: &str, shape: &Shape, seconds: f64) -> Result<Round> {
    let mut stage = Stage::new(name)?;
    let calls = (ROUND_BYTES / (1000 + shape.body_bytes)) as u64;
    let mut rounds = Rounds::new(shape, calls);
    let mut best = Round {
        calls,
        frames: 0,
        nanos: f64::INFINITY,
    };
    let (mut index, start) = (0, Instant::now());
    for round in 1_u64.. {
        let making = thread_cpu_seconds();
        let batch = rounds.make();
        let before = thread_cpu_seconds();
        for frame in batch.frames(0) {
            stage.feed(index, frame);
            index += 1;
        }
        let mut nanos = (thread_cpu_seconds() - before) * 1e9;
        if name == MAKING {
            nanos = (before - making) * 1e9;
        }
        if round > u64::from(WARM_UP) && nanos < best.nanos {
            best.nanos = nanos;
            best.frames = batch.len() as u64;
        }
        if best.frames > 0 && start.elapsed() > Duration::from_secs_f64(seconds) {
            break;
        }
    }
    black_box(stage.done());
    Ok(best)
}
