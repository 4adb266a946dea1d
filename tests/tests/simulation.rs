//! Seeded conversations through a simulated network into the engine, in this process. Here belongs the question whether
//! what is reported is what was said, and whether the ledger explains each difference.
//!
//! `SIMULATION_SEEDS=20000 cargo test --release -p tests simulation` runs as many seeds of each kind.

use std::collections::HashMap;
use std::env;

use anyhow::{Context as _, Result, ensure};
use bench::collect::{Row, value};
use bench::seed::Seed;
use bench::traffic::{Accidents, Conversation, Exchange, Shape, Vxlan, Wire, frames};
use tests::engine::{Reading, captured, read};
use tests::truth;

fn seeds() -> u64 {
    env::var("SIMULATION_SEEDS").map_or(150, |count| {
        count.parse().expect("SIMULATION_SEEDS is a number")
    })
}

/// A network with three conversations at once.
struct World {
    talks: Vec<(Conversation, Wire)>,
    accidents: Accidents,
    snap: usize,
}

impl World {
    fn seeded(seed: &mut Seed, accidents: Accidents) -> Self {
        let shape = Shape {
            ipv6: seed.chance(400),
            near_wrap: seed.chance(200),
            ..Shape::default()
        };
        let vlans = seed.pick(&[vec![], vec![], vec![7], vec![100, 7]]).clone();
        let vxlan = seed
            .chance(300)
            .then(|| Vxlan::new(seed.within(0..=0xff_ffff) as u32));
        let wire = Wire {
            vlans,
            mirror_cut: None,
            vxlan,
        };
        let talks = (0..3)
            .map(|_| (Conversation::seeded(seed, &shape), wire.clone()))
            .collect();
        Self {
            talks,
            accidents,
            snap: usize::MAX,
        }
    }

    fn read(&self, seed: &mut Seed) -> Reading {
        let frames = frames(&self.talks, &self.accidents, seed);
        read(frames.iter().map(|frame| captured(frame, self.snap)))
    }

    fn exchanges(&self) -> impl Iterator<Item = &Exchange> {
        self.talks.iter().flat_map(|(talk, _)| &talk.exchanges)
    }
}

#[track_caller]
fn check(
    first: u64,
    accidents: Accidents,
    change: fn(&mut World, &mut Seed),
    judge: fn(&World, Reading) -> Result<()>,
) {
    for number in first..first + seeds() {
        let mut seed = Seed::new(number);
        let mut world = World::seeded(&mut seed, accidents);
        change(&mut world, &mut seed);
        let reading = world.read(&mut seed);
        let pipelined: Vec<_> = world.talks.iter().map(|(talk, _)| talk.pipeline).collect();
        judge(&world, reading)
            .unwrap_or_else(|error| panic!("seed {number}, pipelined {pipelined:?}: {error:#}"));
    }
}

/// Everything was captured: everything is reported as it was said.
fn all_of_it(world: &World, reading: Reading) -> Result<()> {
    let rows: Vec<_> = reading.calls.into_iter().map(|(row, _)| row).collect();
    truth::check_all(world.exchanges(), &rows).with_context(|| format!("{:?}", reading.ledger))
}

/// Something was not captured: nothing is invented, nothing is paired wrongly, what is incomplete says so, and the ledger
/// knows of a loss if anything is missing or incomplete.
fn nothing_false(world: &World, reading: Reading) -> Result<()> {
    let mut said: HashMap<_, _> = world
        .exchanges()
        .map(|exchange| (exchange.number.to_string(), exchange))
        .collect();
    let mut incomplete = 0;
    for (row, notes) in &reading.calls {
        let number = number_of(row, "request_header:x-call-number")?;
        let answered = number_of(row, "response_header:x-answered-number")?;
        ensure!(
            number == answered,
            "the answer to {answered} is reported as the answer to {number}"
        );
        let exchange = said
            .remove(number)
            .with_context(|| format!("call {number} was not made, or reported twice"))?;
        let marked = notes.missing_bytes > 0 || notes.incomplete;
        incomplete += u64::from(marked);
        let difference = if marked {
            truth::difference_of_heads(exchange, row)
        } else {
            truth::difference(exchange, row)
        };
        ensure!(difference.is_none(), "{difference:?}, {notes:?}");
    }
    let ledger = reading.ledger;
    let decap = &ledger.decap;
    let cut = decap.payload_bytes_cut + decap.skipped();
    let ended_early = ledger.http.halves() + ledger.http.bodies_cut + ledger.http.heads_cut;
    let losses = ledger.flow.flow_gap_bytes + cut + ended_early;
    ensure!(
        losses > 0 || (said.is_empty() && incomplete == 0),
        "{} missing without a loss: {ledger:?}",
        said.len()
    );
    Ok(())
}

fn number_of<'a>(row: &'a Row, key: &str) -> Result<&'a str> {
    value(row, key).with_context(|| format!("no {key}: half calls are not wanted: {row:?}"))
}

#[test]
fn a_perfect_capture() {
    check(0, Accidents::none(), |_, _| (), all_of_it);
}

#[test]
fn harmless_accidents() {
    check(10_000, Accidents::harmless(), |_, _| (), all_of_it);
}

#[test]
fn directions_out_of_step() {
    let accidents = Accidents {
        skew_per_mille: 100,
        ..Accidents::none()
    };
    check(20_000, accidents, |_, _| (), all_of_it);
}

#[test]
fn losses() {
    check(
        30_000,
        Accidents {
            lose_per_mille: 5,
            ..Accidents::none()
        },
        |_, _| (),
        nothing_false,
    );
    check(
        31_000,
        Accidents {
            lose_per_mille: 100,
            ..Accidents::none()
        },
        |_, _| (),
        nothing_false,
    );
}

#[test]
fn losses_in_a_rough_network() {
    let accidents = Accidents {
        lose_per_mille: 20,
        skew_per_mille: 50,
        ..Accidents::harmless()
    };
    check(40_000, accidents, |_, _| (), nothing_false);
}

#[test]
fn mirrors_that_cut_packets() {
    let cut = |world: &mut World, seed: &mut Seed| {
        let bytes = seed.within(100..=1500);
        world
            .talks
            .iter_mut()
            .for_each(|(_, wire)| wire.mirror_cut = Some(bytes));
    };
    check(50_000, Accidents::none(), cut, nothing_false);
}

#[test]
fn captures_with_a_snap_length() {
    let cut = |world: &mut World, seed: &mut Seed| world.snap = seed.within(60..=1500);
    check(60_000, Accidents::none(), cut, nothing_false);
}

/// The capture begins in the middle of everything.
#[test]
fn midstream() {
    for number in 70_000..70_000 + seeds() {
        let mut seed = Seed::new(number);
        let world = World::seeded(&mut seed, Accidents::none());
        let frames = frames(&world.talks, &world.accidents, &mut seed);
        let begin = seed.within(1..=frames.len());
        let reading = read(
            frames[begin..]
                .iter()
                .map(|frame| captured(frame, usize::MAX)),
        );
        for (row, _) in &reading.calls {
            let number = number_of(row, "request_header:x-call-number").unwrap();
            let exchange = world
                .exchanges()
                .find(|exchange| exchange.number.to_string() == number)
                .unwrap();
            assert_eq!(truth::difference(exchange, row), None, "seed {number}");
        }
    }
}

/// The same bytes, cut anywhere, give the same line.
#[test]
fn segmentation_does_not_matter() {
    for number in 80_000..80_000 + seeds() / 3 {
        let mut seed = Seed::new(number);
        let shape = Shape {
            exchanges_max: 2,
            body_bytes_max: 200,
            ..Shape::default()
        };
        let talk = Conversation {
            mss: 8948,
            ragged: false,
            ..Conversation::seeded(&mut seed, &shape)
        };
        for mss in [1, 2, 3, 7, 64, 8948] {
            let cut = Conversation {
                mss,
                ..talk.clone()
            };
            let made = frames(&[(cut, Wire::default())], &Accidents::none(), &mut seed);
            let reading = read(made.iter().map(|frame| captured(frame, usize::MAX)));
            let rows: Vec<_> = reading.calls.into_iter().map(|(row, _)| row).collect();
            let result = truth::check_all(&talk.exchanges, &rows);
            result.unwrap_or_else(|error| {
                panic!("seed {number}, segments of {mss} bytes: {error:#}")
            });
        }
    }
}
