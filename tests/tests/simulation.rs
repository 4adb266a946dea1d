//! Seeded conversations through a simulated network into the engine, in this process. Here belongs the question whether
//! reports equal what was sent, and whether the ledger explains each difference.
//!
//! `SIMULATION_SEEDS=20000 cargo test --release -p tests --test integration simulation::` runs as many seeds of each kind,
//! `SIMULATION_ONLY=41572` this seed alone, in the kind that it belongs to. Every seed that was ever read wrongly is in the
//! list of its kind and runs each time.

use std::collections::HashMap;
use std::env;

use anyhow::{Context as _, Result, ensure};
use bench::collect::{Row, value};
use bench::seed::Seed;
use bench::traffic::{
    Accidents, Conversation, Exchange, Frame, Framing, Shape, Vxlan, Wire, frames,
};
use engine_core::message::ShedPolicy;
use engine_core::pipeline::Config;
use tests::engine::{Reader, Reading, captured, read};
use tests::truth;

fn number_from(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable} is a number")),
    )
}

/// Seeds of one kind: a run of them from `first` on, and those that were read wrongly once.
struct Seeds {
    first: u64,
    once_wrong: &'static [u64],
}

impl Seeds {
    const fn from(first: u64) -> Self {
        Self {
            first,
            once_wrong: &[],
        }
    }

    const fn and(self, once_wrong: &'static [u64]) -> Self {
        Self { once_wrong, ..self }
    }

    /// Runs `one` for each and lists all that fail.
    #[track_caller]
    fn run(&self, one: impl Fn(u64) -> Result<Totals>) {
        let Self { first, once_wrong } = *self;
        let numbers: Vec<u64> = match number_from("SIMULATION_ONLY") {
            Some(only) => (first..first + 10_000)
                .filter(|number| *number == only)
                .collect(),
            None => (first..first + number_from("SIMULATION_SEEDS").unwrap_or(150))
                .chain(once_wrong.iter().copied())
                .collect(),
        };
        let (mut made, mut reported) = (0, 0);
        let mut wrong = Vec::new();
        for number in &numbers {
            match one(*number) {
                Ok(totals) => (made, reported) = (made + totals.made, reported + totals.reported),
                Err(error) => wrong.push(format!("seed {number}: {error:#}")),
            }
        }
        println!(
            "{first}: {} seeds, {made} calls, {reported} reported",
            numbers.len()
        );
        assert!(
            wrong.is_empty(),
            "{} seeds are read wrongly:\n{}",
            wrong.len(),
            wrong.join("\n")
        );
    }
}

/// Calls of one world.
struct Totals {
    made: usize,
    reported: usize,
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

    fn judged(&self, reading: Reading, judge: fn(&Self, Reading) -> Result<()>) -> Result<Totals> {
        let totals = Totals {
            made: self.exchanges().count(),
            reported: reading.calls.len(),
        };
        let pipelined: Vec<_> = self.talks.iter().map(|(talk, _)| talk.pipeline).collect();
        judge(self, reading).with_context(|| format!("pipelined {pipelined:?}"))?;
        Ok(totals)
    }

    fn exchanges(&self) -> impl Iterator<Item = &Exchange> {
        self.talks.iter().flat_map(|(talk, _)| &talk.exchanges)
    }
}

#[track_caller]
fn check(
    seeds: &Seeds,
    accidents: Accidents,
    change: fn(&mut World, &mut Seed),
    judge: fn(&World, Reading) -> Result<()>,
) {
    seeds.run(|number| {
        let mut seed = Seed::new(number);
        let mut world = World::seeded(&mut seed, accidents);
        change(&mut world, &mut seed);
        let reading = world.read(&mut seed);
        world.judged(reading, judge)
    });
}

/// Everything was captured: everything is reported as it was sent.
fn all_of_it(world: &World, reading: Reading) -> Result<()> {
    let rows: Vec<_> = reading.calls.into_iter().map(|(row, _)| row).collect();
    truth::check_all(world.exchanges(), &rows).with_context(|| format!("{:?}", reading.ledger))
}

/// Something was not captured: nothing is invented, nothing is paired wrongly, what is incomplete is marked, and the ledger
/// has a loss if anything is missing or incomplete.
fn nothing_false(world: &World, reading: Reading) -> Result<()> {
    let mut made: HashMap<_, _> = world
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
        let exchange = made
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
    let ended_early = ledger.http.unpaired_total() + ledger.http.bodies_cut + ledger.http.heads_cut;
    let losses = ledger.flow.flow_gap_bytes + cut + ended_early;
    ensure!(
        losses > 0 || (made.is_empty() && incomplete == 0),
        "{} missing without a loss: {ledger:?}",
        made.len()
    );
    Ok(())
}

fn number_of<'a>(row: &'a Row, key: &str) -> Result<&'a str> {
    value(row, key).with_context(|| format!("no {key}: half calls are off: {row:?}"))
}

#[test]
fn a_perfect_capture() {
    check(&Seeds::from(0), Accidents::none(), |_, _| (), all_of_it);
}

#[test]
fn harmless_accidents() {
    check(
        &Seeds::from(10_000),
        Accidents::harmless(),
        |_, _| (),
        all_of_it,
    );
}

#[test]
fn directions_out_of_step() {
    let accidents = Accidents {
        skew_per_mille: 100,
        ..Accidents::none()
    };
    check(&Seeds::from(20_000), accidents, |_, _| (), all_of_it);
}

#[test]
fn losses() {
    check(
        &Seeds::from(30_000),
        Accidents {
            lose_per_mille: 5,
            ..Accidents::none()
        },
        |_, _| (),
        nothing_false,
    );
    check(
        &Seeds::from(31_000).and(&[31_530, 31_703, 32_415, 32_621, 33_288]),
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
    check(
        &Seeds::from(40_000).and(&[41_572, 49_183]),
        accidents,
        |_, _| (),
        nothing_false,
    );
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
    check(
        &Seeds::from(50_000).and(&[51_206, 51_570]),
        Accidents::none(),
        cut,
        nothing_false,
    );
}

#[test]
fn captures_with_a_snap_length() {
    let cut = |world: &mut World, seed: &mut Seed| world.snap = seed.within(60..=1500);
    check(&Seeds::from(60_000), Accidents::none(), cut, nothing_false);
}

/// Clients that pipeline, and the capture starts with the last of several requests.
const MIDSTREAM_ONCE_WRONG: [u64; 29] = [
    70_227, 70_449, 70_491, 70_494, 70_638, 70_875, 70_902, 70_970, 71_079, 71_122, 71_149, 71_161,
    71_339, 71_475, 71_553, 71_654, 71_657, 71_707, 71_742, 71_809, 71_888, 71_955, 72_095, 72_125,
    72_331, 72_337, 72_428, 72_494, 72_501,
];

/// The capture starts in the middle of everything.
#[test]
fn midstream() {
    Seeds::from(70_000)
        .and(&MIDSTREAM_ONCE_WRONG)
        .run(|number| {
            let mut seed = Seed::new(number);
            let world = World::seeded(&mut seed, Accidents::none());
            let frames = frames(&world.talks, &world.accidents, &mut seed);
            let start = seed.within(1..=frames.len());
            let reading = read(
                frames[start..]
                    .iter()
                    .map(|frame| captured(frame, usize::MAX)),
            );
            world.judged(reading, whole_or_nothing)
        });
}

/// What is reported equals what was sent.
fn whole_or_nothing(world: &World, reading: Reading) -> Result<()> {
    for (row, _) in &reading.calls {
        let number = number_of(row, "request_header:x-call-number")?;
        let exchange = world
            .exchanges()
            .find(|exchange| exchange.number.to_string() == number)
            .context("this call was never made")?;
        let difference = truth::difference(exchange, row);
        ensure!(difference.is_none(), "{difference:?}");
    }
    Ok(())
}

/// Only the framing of shed calls is read: that changes neither the others nor how connections are read, whatever is lost.
#[test]
fn shed_calls_change_no_other() {
    Seeds::from(90_000).run(|number| {
        let mut seed = Seed::new(number);
        let accidents = Accidents {
            lose_per_mille: seed.within(0..=50) as u32,
            skew_per_mille: seed.within(0..=50) as u32,
            ..Accidents::harmless()
        };
        let world = World::seeded(&mut seed, accidents);
        let frames = frames(&world.talks, &world.accidents, &mut seed);
        let start = seed.within(0..=frames.len() / 4);
        let read = |shed| read_shedding(&Config::default(), &frames[start..], shed);
        let (whole, mut some) = (read(0), read(ShedPolicy::CALLS / 2));
        // Skimmed heads do not count lines without a colon.
        some.ledger.http.header_lines_odd = whole.ledger.http.header_lines_odd;
        ensure!(
            format!("{:?}", some.ledger.http) == format!("{:?}", whole.ledger.http),
            "{:?}, with all calls {:?}",
            some.ledger.http,
            whole.ledger.http
        );
        let (left, all) = (some.ledger.message, whole.ledger.message);
        ensure!(left.calls_seen == all.calls_seen, "{left:?}, of {all:?}");
        let mut rows = whole.calls.iter().map(|(row, _)| row);
        for (row, _) in &some.calls {
            ensure!(rows.any(|other| other == row), "{row:?}");
        }
        Ok(Totals {
            made: whole.calls.len(),
            reported: some.calls.len(),
        })
    });
}

/// The same conversations in HTTP/2, with streams at once, and without a response that only the end of the connection ends.
fn in_http2(world: &mut World, seed: &mut Seed) {
    for (talk, _) in &mut world.talks {
        talk.http2 = true;
        talk.pipeline = seed.within(1..=4);
        // A name that is sent by the table may not be known.
        for exchange in &mut talk.exchanges {
            for body in [&mut exchange.request_body, &mut exchange.response_body] {
                if body.framing == Framing::Close {
                    body.framing = Framing::Chunked(100);
                }
            }
        }
    }
}

/// Something was not captured of HTTP/2: as [`nothing_false`], and a detail whose name or value is not known is left out.
fn nothing_false_of_streams(world: &World, reading: Reading) -> Result<()> {
    let mut made: HashMap<_, _> = world
        .exchanges()
        .map(|exchange| (exchange.number.to_string(), exchange))
        .collect();
    for (row, notes) in &reading.calls {
        let number = number_of(row, "request_header:x-call-number")?;
        let answered = number_of(row, "response_header:x-answered-number")?;
        ensure!(
            number == answered,
            "the answer to {answered} is reported as the answer to {number}"
        );
        let exchange = made
            .remove(number)
            .with_context(|| format!("call {number} was not made, or reported twice"))?;
        let marked = notes.missing_bytes > 0 || notes.incomplete;
        let difference = if marked {
            truth::difference_of_heads(exchange, row)
        } else {
            truth::difference(exchange, row)
        };
        if value(row, "custom_field:unknown_fields").is_none() {
            ensure!(difference.is_none(), "{difference:?}, {notes:?}");
            continue;
        }
        let sent = exchange.details();
        for (name, text) in row {
            let is_exchange = name.starts_with("request") || name.starts_with("response");
            let may_be_cut = marked && name.ends_with("_body");
            let is_sent = sent.contains(&(name.clone(), text.clone()));
            // The authority may be unknown.
            let is_path = name == "request_url" && *text == format!("http://{}", exchange.path);
            ensure!(
                !is_exchange || is_sent || may_be_cut || is_path,
                "{name} = {text:.200} was not sent: {notes:?}"
            );
        }
    }
    let http = &reading.ledger.http;
    ensure!(
        http.http2_frames_malformed + http.http2_blocks_broken == 0,
        "{http:?}"
    );
    Ok(())
}

/// What is read of `frames` where this share of the calls is shed.
fn read_shedding(config: &Config, frames: &[Frame], shed: u16) -> Reading {
    let mut reader = Reader::new(config);
    reader.set_shed_policy(ShedPolicy {
        shed,
        ..ShedPolicy::default()
    });
    for frame in frames {
        reader.feed(&captured(frame, usize::MAX));
    }
    reader.finish()
}

fn annotated() -> Config {
    let mut config = Config::default();
    config.message.annotate = true;
    config
}

#[track_caller]
fn check_streams(
    seeds: &Seeds,
    accidents: Accidents,
    change: fn(&mut World, &mut Seed),
    judge: fn(&World, Reading) -> Result<()>,
) {
    seeds.run(|number| {
        let mut seed = Seed::new(number);
        let mut world = World::seeded(&mut seed, accidents);
        in_http2(&mut world, &mut seed);
        change(&mut world, &mut seed);
        let frames = frames(&world.talks, &world.accidents, &mut seed);
        let mut reader = Reader::new(&annotated());
        for frame in &frames {
            reader.feed(&captured(frame, world.snap));
        }
        world.judged(reader.finish(), judge)
    });
}

#[test]
fn streams_in_a_perfect_and_in_a_harmless_world() {
    let skewed = Accidents {
        skew_per_mille: 100,
        ..Accidents::none()
    };
    for (first, accidents) in [
        (100_000, Accidents::none()),
        (110_000, Accidents::harmless()),
        (120_000, skewed),
    ] {
        check_streams(&Seeds::from(first), accidents, |_, _| (), all_of_it);
    }
}

#[test]
fn streams_with_losses() {
    for (first, lose_per_mille) in [(130_000, 5), (131_000, 100)] {
        let accidents = Accidents {
            lose_per_mille,
            ..Accidents::none()
        };
        let judge = nothing_false_of_streams;
        check_streams(&Seeds::from(first), accidents, |_, _| (), judge);
    }
    let rough = Accidents {
        lose_per_mille: 20,
        skew_per_mille: 50,
        ..Accidents::harmless()
    };
    let judge = nothing_false_of_streams;
    check_streams(&Seeds::from(140_000), rough, |_, _| (), judge);
}

#[test]
fn streams_that_are_cut() {
    let mirror = |world: &mut World, seed: &mut Seed| {
        let bytes = seed.within(100..=1500);
        let wires = world.talks.iter_mut().map(|(_, wire)| wire);
        wires.for_each(|wire| wire.mirror_cut = Some(bytes));
    };
    let judge = nothing_false_of_streams;
    check_streams(&Seeds::from(150_000), Accidents::none(), mirror, judge);
    let snap = |world: &mut World, seed: &mut Seed| world.snap = seed.within(60..=1500);
    check_streams(&Seeds::from(160_000), Accidents::none(), snap, judge);
}

#[test]
fn streams_joined_late() {
    Seeds::from(170_000).run(|number| {
        let mut seed = Seed::new(number);
        let mut world = World::seeded(&mut seed, Accidents::none());
        in_http2(&mut world, &mut seed);
        let frames = frames(&world.talks, &world.accidents, &mut seed);
        let start = seed.within(1..=frames.len());
        let mut reader = Reader::new(&annotated());
        for frame in &frames[start..] {
            reader.feed(&captured(frame, usize::MAX));
        }
        world.judged(reader.finish(), nothing_false_of_streams)
    });
}

/// Streams of which nothing but the framing is read feed the tables like all others.
#[test]
fn streams_that_are_shed_change_no_other() {
    Seeds::from(190_000).run(|number| {
        let mut seed = Seed::new(number);
        let accidents = Accidents {
            lose_per_mille: seed.within(0..=50) as u32,
            ..Accidents::harmless()
        };
        let mut world = World::seeded(&mut seed, accidents);
        in_http2(&mut world, &mut seed);
        let frames = frames(&world.talks, &world.accidents, &mut seed);
        let read = |shed| read_shedding(&annotated(), &frames, shed);
        let (whole, mut some) = (read(0), read(ShedPolicy::CALLS / 2));
        // Skimmed heads are not looked at for what is malformed.
        some.ledger.http.http2_messages_malformed = whole.ledger.http.http2_messages_malformed;
        ensure!(
            format!("{:?}", some.ledger.http) == format!("{:?}", whole.ledger.http),
            "{:?}, with all calls {:?}",
            some.ledger.http,
            whole.ledger.http
        );
        let mut rows = whole.calls.iter().map(|(row, _)| row);
        for (row, _) in &some.calls {
            ensure!(rows.any(|other| other == row), "{row:?}");
        }
        Ok(Totals {
            made: whole.calls.len(),
            reported: some.calls.len(),
        })
    });
}

/// The same bytes, cut anywhere, give the same line.
#[test]
fn segmentation_does_not_matter() {
    Seeds::from(80_000).run(|number| {
        let mut seed = Seed::new(number);
        let shape = Shape {
            exchanges_max: 2,
            body_bytes_max: 200,
            ..Shape::default()
        };
        let mut talk = Conversation {
            mss: 8948,
            ragged: false,
            ..Conversation::seeded(&mut seed, &shape)
        };
        if number % 2 == 1 {
            let mut world = World {
                talks: vec![(talk, Wire::default())],
                accidents: Accidents::none(),
                snap: usize::MAX,
            };
            in_http2(&mut world, &mut seed);
            (talk, _) = world.talks.remove(0);
        }
        for mss in [1, 2, 3, 7, 64, 8948] {
            let cut = Conversation {
                mss,
                ..talk.clone()
            };
            let made = frames(&[(cut, Wire::default())], &Accidents::none(), &mut seed);
            let reading = read(made.iter().map(|frame| captured(frame, usize::MAX)));
            let rows: Vec<_> = reading.calls.into_iter().map(|(row, _)| row).collect();
            truth::check_all(&talk.exchanges, &rows)
                .with_context(|| format!("segments of {mss} bytes"))?;
        }
        let made = talk.exchanges.len();
        Ok(Totals {
            made,
            reported: made,
        })
    });
}
