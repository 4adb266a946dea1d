//! The controller with a shard and its ring, both simulated.

use super::*;

/// What a call costs, as shares of a whole one: `parse` for every call, `body` for one that is left whole, `deflate` where
/// it is compressed, `send` where it is not, and what is left for every written one.
#[derive(Clone, Copy, Debug)]
struct Costs {
    parse: f32,
    body: f32,
    deflate: f32,
    send: f32,
}

/// Short bodies, next to nothing for what is shed.
const SHORT: Costs = Costs {
    parse: 0.04,
    body: 0.0,
    deflate: 0.35,
    send: 0.45,
};

/// As they are, and compression is what takes the time.
const ALONE: Costs = Costs {
    send: 0.05,
    ..SHORT
};

/// Bodies are most of a call.
const LONG: Costs = Costs {
    parse: 0.05,
    body: 0.6,
    deflate: 0.0,
    send: 0.0,
};

impl Costs {
    fn of(&self, overload: &Overload) -> f32 {
        let rest = 1.0 - self.parse - self.body - self.deflate;
        let encode = if overload.is_plain() {
            self.send
        } else {
            self.deflate
        };
        let policy = overload.shed_policy();
        let with = |without: u16| 1.0 - f32::from(without) / f32::from(ShedPolicy::CALLS);
        self.parse + with(policy.shed) * (rest + encode + self.body * with(policy.truncated))
    }

    /// Share of its capacity that a shard can deliver of so much more, when calls are all that is given up, and compression.
    fn best(&self, load: f32, is_plain: bool) -> f32 {
        let saved = if is_plain {
            self.deflate - self.send
        } else {
            0.0
        };
        ((1.0 - load * self.parse) / (1.0 - self.parse - saved)).min(load)
    }
}

/// Blocks of the simulated ring.
const BLOCKS: f32 = 256.0;

/// Share of the time for which somebody else has the processor, some milliseconds at once.
const AWAY: f32 = 0.2;

/// A shard of which a whole call takes one unit of time.
struct Plant {
    overload: Overload,
    costs: Costs,
    now: Instant,
    /// Calls that the ring holds.
    ring_calls: f32,
    /// Calls in it.
    waiting: f32,
    /// Read since the last look.
    read: f32,
    lost: bool,
    queue: f32,
    seed: u64,
    /// Milliseconds for which the shard goes on waiting for its processor.
    away: u64,
    steps: Vec<Step>,
}

/// What came of some seconds: calls as shares of what the shard can do at its best.
#[derive(Clone, Copy, Debug, Default)]
struct Outcome {
    written: f32,
    lost: f32,
    ring_max: f32,
    changes: u64,
}

impl Plant {
    /// `ring_millis` is the time in which the shard reads a full ring with all calls written.
    fn new(compression: Compression, costs: Costs, ring_millis: f32) -> Self {
        let now = Instant::now();
        Self {
            overload: Overload::new(compression, now),
            costs,
            now,
            ring_calls: ring_millis * 0.001 * (1.0 - AWAY),
            waiting: 0.0,
            read: 0.0,
            lost: false,
            queue: 0.0,
            seed: 7,
            away: 0,
            steps: vec![Step::Nothing],
        }
    }

    fn random(&mut self, below: u64) -> u64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        (self.seed >> 8) % below
    }

    /// Offers `load` times what it can do when nothing is gone without, for `seconds`, by the millisecond.
    fn offer(&mut self, load: f32, seconds: f32) -> Outcome {
        const STEP: f32 = 0.001;
        let mut outcome = Outcome::default();
        let changes = self.overload.changes();
        for _ in 0..(seconds / STEP) as u32 {
            self.now += Duration::from_secs_f32(STEP);
            self.waiting += load * (1.0 - AWAY) * STEP;
            let lost = (self.waiting - self.ring_calls).max(0.0);
            self.waiting -= lost;
            self.lost |= lost > 0.0;
            outcome.lost += lost / (1.0 - AWAY);
            outcome.ring_max = outcome.ring_max.max(self.waiting / self.ring_calls);
            if self.away > 0 {
                self.away -= 1;
                continue;
            }
            let able = STEP / self.costs.of(&self.overload);
            let done = self.waiting.min(able);
            self.waiting -= done;
            self.read += done;
            let shed = f32::from(self.overload.shed_policy().shed) / f32::from(ShedPolicy::CALLS);
            outcome.written += done * (1.0 - shed) / (1.0 - AWAY);
            self.look(STEP * (1.0 - done / able));
            // Of 12 milliseconds, the processor is taken for 3 after one.
            if self.random(12) == 0 {
                self.away = 1 + self.random(5);
            }
        }
        outcome.written /= seconds;
        outcome.changes = self.overload.changes() - changes;
        outcome
    }

    fn look(&mut self, slept: f32) {
        let waiting = self.waiting / self.ring_calls * BLOCKS;
        let blocks = waiting.floor() / BLOCKS;
        let load = Load {
            ring: blocks,
            waiting: blocks,
            read: std::mem::take(&mut self.read) / self.ring_calls,
            lost: std::mem::take(&mut self.lost),
            queue: self.queue,
            slept: Duration::from_secs_f32(slept),
        };
        self.overload.update(load, self.now);
        if self.steps.last() != Some(&self.overload.step()) {
            self.steps.push(self.overload.step());
        }
    }
}

/// Times in which the shard reads a full ring with all calls written.
const RINGS_MILLIS: [f32; 3] = [100.0, 200.0, 2000.0];

/// Whatever the load and the ring, a second of it is enough for the shares to settle: from then on at least nine tenths of
/// what is possible are delivered, nothing is lost, and what is shown hardly changes. Nothing is given up any longer when the
/// load has fallen. `plain`: compression stays off.
#[track_caller]
fn check(compression: Compression, costs: Costs, load: f32, plain: bool) {
    for ring_millis in RINGS_MILLIS {
        let mut plant = Plant::new(compression, costs, ring_millis);
        plant.offer(0.3, 2.0);
        assert_eq!(plant.overload.step(), Step::Nothing);
        let settling = plant.offer(load, 1.0);
        let settled = plant.offer(load, 30.0);
        let is_plain = plant.overload.is_plain();
        let best = costs.best(load, is_plain);
        let case = format!(
            "load {load}, ring {ring_millis} ms, {costs:?}: of {best:.2} {settled:.3?}, in the first second {settling:.3?}, {:?}",
            plant.steps
        );
        eprintln!("{case}");
        assert!(settled.written >= best * 0.9, "{case}");
        assert!(settled.lost == 0.0, "{case}");
        assert!(settled.changes <= 8, "{case}");
        assert_eq!(is_plain, plain, "{case}");
        plant.offer(0.3, 5.0);
        assert_eq!(plant.overload.step(), Step::Nothing, "{case}");
        assert_eq!(plant.overload.shed_policy(), ShedPolicy::default());
        assert_eq!(plant.overload.compression(), compression);
    }
}

#[test]
fn past_the_limit_the_rate_stays_flat() {
    for load in [1.05, 1.2, 2.0, 4.0] {
        for costs in [SHORT, ALONE, LONG] {
            check(Compression::Off, costs, load, false);
        }
    }
}

#[test]
fn compression_stays_off_only_where_that_helps() {
    for load in [1.2, 2.0] {
        check(Compression::Fast, SHORT, load, false);
        check(Compression::Fast, ALONE, load, true);
    }
}

#[test]
fn up_to_the_limit_nothing_is_given_up() {
    for ring_millis in RINGS_MILLIS {
        let mut plant = Plant::new(Compression::Fast, SHORT, ring_millis);
        for load in [0.1, 0.5, 0.9, 0.1, 0.9] {
            plant.offer(load, 10.0);
            assert_eq!(plant.steps, [Step::Nothing], "{load}, {ring_millis} ms");
        }
    }
}

#[test]
fn a_stall_is_no_overload() {
    for (asleep, lost) in [(true, false), (true, true), (false, false), (false, true)] {
        let mut plant = Plant::new(Compression::Fast, SHORT, 200.0);
        plant.offer(0.2, 5.0);
        // Stopped for a second: it comes back to a full ring, and empties it.
        plant.now += Duration::from_secs(1);
        plant.waiting = plant.ring_calls;
        plant.lost = lost;
        plant.look(if asleep { 1.0 } else { 0.0 });
        plant.offer(0.2, 5.0);
        assert_eq!(plant.steps, [Step::Nothing], "{asleep} {lost}");
    }
}

#[test]
fn some_calls_pass_whatever_the_load() {
    let costs = Costs {
        parse: 0.5,
        ..SHORT
    };
    let mut plant = Plant::new(Compression::Fast, costs, 200.0);
    let outcome = plant.offer(50.0, 20.0);
    assert!(outcome.written > 0.01, "{outcome:?}");
    let policy = plant.overload.shed_policy();
    assert_eq!(policy.truncated, ShedPolicy::CALLS);
    assert_eq!(policy.shed, ShedPolicy::CALLS - ShedPolicy::CALLS / 64);
    plant.offer(0.2, 5.0);
    assert_eq!(plant.overload.shed_policy(), ShedPolicy::default());
}

#[test]
fn things_are_given_up_in_order_and_come_back_in_order() {
    let mut plant = Plant::new(Compression::Fast, ALONE, 2000.0);
    plant.offer(3.0, 10.0);
    plant.offer(0.2, 10.0);
    assert_eq!(plant.steps.first(), plant.steps.last());
    let highest = plant.steps.iter().position(|step| *step == Step::Calls);
    let (up, down) = plant.steps.split_at(highest.unwrap());
    assert_eq!(up, [Step::Nothing, Step::Compression, Step::Bodies]);
    assert!(down.is_sorted_by(|a, b| a > b), "{down:?}");
}

#[test]
fn where_the_uploader_is_the_bottleneck_bundles_are_compressed() {
    let mut plant = Plant::new(Compression::Fast, ALONE, 200.0);
    plant.queue = 0.1;
    plant.offer(1.3, 5.0);
    assert_eq!(plant.overload.compression(), Compression::Fast);
    assert_eq!(plant.overload.step(), Step::Calls);
    // It is given up once there is room, and taken up again when the queue grows.
    for (queue, plain) in [(0.05, true), (0.2, true), (0.3, false), (0.0, false)] {
        plant.queue = queue;
        plant.offer(1.3, 2.0);
        assert_eq!(plant.overload.is_plain(), plain, "{queue}");
    }
}
