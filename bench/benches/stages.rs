//! Benchmarks of every stage over the same seeded traffic, and of the two most expensive steps alone: escape and deflate.
//!
//! `cargo bench -p bench` or `cargo bench -p bench -- http`. On a shared machine use `bench/instructions` instead.

use std::hint::black_box;
use std::time::{Duration, Instant};

use bench::cell;
use bench::load::{Shape, exchange};
use bench::seed::Seed;
use bench::stages::{NAMES, Rounds, Stage};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use engine_core::bundle::{Bundler, Config};
use engine_core::message::{Notes, Output as _};
use engine_core::ndjson::escape;

/// Calls of one iteration.
const CALLS: u64 = 500;

/// Calls a second of the engine up to each stage.
fn stages(criterion: &mut Criterion) {
    for wire in ["plain", "vxlan"] {
        for body_bytes in [200, 2000, 20_000] {
            let shape = Shape {
                body_bytes,
                connections: 64,
                wire: cell::wire(wire).expect("a wire"),
                ..Shape::default()
            };
            let mut group = criterion.benchmark_group(format!("{wire}-{body_bytes}"));
            group.throughput(Throughput::Elements(CALLS));
            group.measurement_time(Duration::from_secs(2));
            for name in NAMES.into_iter().filter(|name| *name != "frames") {
                // All iterations share one engine, since its connections stay open across them.
                let mut stage = Stage::new(name).expect("a stage");
                let mut rounds = Rounds::new(&shape, CALLS);
                let mut index = 0;
                group.bench_function(name, |bencher| {
                    bencher.iter_custom(|iterations| {
                        let mut taken = Duration::ZERO;
                        for _ in 0..iterations {
                            let frames = rounds.make();
                            let start = Instant::now();
                            for frame in frames.frames(0) {
                                stage.feed(index, frame);
                                index += 1;
                            }
                            taken += start.elapsed();
                        }
                        taken
                    });
                });
                black_box(stage.done());
            }
        }
    }
}

/// Bytes a second of the steps above that work on bodies.
fn bytes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("bytes");
    group.measurement_time(Duration::from_secs(2));
    for body_bytes in [200, 2000, 20_000] {
        let body = exchange(&mut Seed::new(1), body_bytes).response_body.plain;
        group.throughput(Throughput::Bytes(body.len() as u64));
        let mut out = Vec::with_capacity(2 * body.len());
        group.bench_function(BenchmarkId::new("escape", body_bytes), |bencher| {
            bencher.iter(|| {
                out.clear();
                escape(black_box(&body), &mut out);
                out.len()
            });
        });
        let mut line = Vec::new();
        escape(&body, &mut line);
        let lines = (512 << 10) / line.len();
        let mut bundler = Bundler::new(Config::default());
        group.throughput(Throughput::Bytes((lines * line.len()) as u64));
        group.bench_function(BenchmarkId::new("deflate", body_bytes), |bencher| {
            bencher.iter(|| {
                for _ in 0..lines {
                    bundler.line(&line, &Notes::default());
                }
                bundler.close();
                while let Some(bundle) = bundler.pop() {
                    bundler.recycle(bundle);
                }
            });
        });
    }
}

criterion_group!(benches, stages, bytes);
criterion_main!(benches);
