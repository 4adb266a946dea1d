//! A shard that cannot keep up: how full its rings are in, what it goes without out, in a fixed order.
//!
//! Left alone, a full ring drops packets, which tears calls apart that nobody can name. So a shard gives up, one step
//! after the other, what costs most and is missed least: first compression (bandwidth), then the ends of long bodies, then
//! whole calls, an eighth more with each step up to seven of eight. Everything is counted, and each step is taken back when
//! the load falls.
//!
//! The load is the share of the fullest ring's blocks that wait for us, since that is what overflows. A ring that is more
//! than half full and not getting emptier, or that has dropped, asks for a step up, at most one each `WEIGH_EVERY`. A ring
//! that stays nearly empty for `CALM_MIN` gives one back. Where the load lies between two steps, the lower one is tried
//! again and again: each try that fails doubles the wait up to `CALM_MAX`, unless the shard sleeps most of the time, which
//! says that there is room. Compression is given up only while the uploader takes what it gets: if that is where things
//! pile up, larger bundles make it worse.
//!
//! It knows no ring and no clock: it is told both.

use std::time::{Duration, Instant};

use engine_core::bundle::Compression;
use engine_core::limits::THIN_BODY_BYTES;
use engine_core::message::Thrift;

use crate::status;

/// Time between two decisions: some blocks are read meanwhile, so that the effect of the last step shows. Nine steps take
/// less than the 130 ms in which 250 MB/s fill a ring of 32 MiB.
const WEIGH_EVERY: Duration = Duration::from_millis(10);

/// Share of a ring's blocks that wait for us, from which on something must be given up.
const RING_HIGH: f32 = 0.5;

/// The share up to which the shard keeps up. Far below, so that a burst is no reason to change anything.
const RING_LOW: f32 = 0.125;

/// How long the ring must stay below that before a step is taken back.
const CALM_MIN: Duration = Duration::from_secs(1);

/// The longest such time, after steps that were taken back too early.
const CALM_MAX: Duration = Duration::from_secs(60);

/// A step up so soon after one down says that the one down was too early.
const PROBATION: Duration = Duration::from_secs(10);

/// Share of the time that a shard sleeps, from which on a step down needs no longer wait: a third of the work that it could
/// do, and no step makes it three times as much.
const SLEEP_HIGH: f32 = 2.0 / 3.0;

/// Share of the upload queue from which on bundles are compressed whatever the ring says.
const QUEUE_HIGH: f32 = 0.25;

/// Share of the upload queue up to which they need not be.
const QUEUE_LOW: f32 = 0.0625;

/// Of eight calls, how many are shed at most: some always pass, so that it is seen what there is.
const SHED_EIGHTHS_MAX: u8 = 7;

/// What a shard goes without; each step includes those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Nothing.
    #[default]
    Whole,
    /// Compression.
    Plain,
    /// The ends of bodies.
    Thin,
    /// So many of eight calls.
    Shed(u8),
}

impl Step {
    fn up(self, compresses: bool) -> Self {
        match self {
            Self::Whole if compresses => Self::Plain,
            Self::Whole | Self::Plain => Self::Thin,
            Self::Thin => Self::Shed(1),
            Self::Shed(eighths) => Self::Shed((eighths + 1).min(SHED_EIGHTHS_MAX)),
        }
    }

    fn down(self, compresses: bool) -> Self {
        match self {
            Self::Shed(0 | 1) => Self::Thin,
            Self::Shed(eighths) => Self::Shed(eighths - 1),
            Self::Thin if compresses => Self::Plain,
            Self::Thin | Self::Plain | Self::Whole => Self::Whole,
        }
    }
}

/// What a shard knows of its load.
#[derive(Clone, Copy, Debug, Default)]
pub struct Load {
    /// Share of blocks that wait for us in the fullest ring, 0 to 1.
    pub ring: f32,
    /// The kernel dropped frames since the last look.
    pub lost: bool,
    /// How full the upload queue is, 0 to 1.
    pub queue: f32,
    /// Time slept since the last look.
    pub slept: Duration,
}

/// Decides for one shard.
#[derive(Debug)]
pub struct Overload {
    /// What bundles are compressed with when there is time for it.
    compression: Compression,
    step: Step,
    /// Whether compression is really given up: the upload queue lets it.
    is_plain: bool,
    weighed: Instant,
    ring_then: f32,
    lost: bool,
    changed: Option<Instant>,
    went_down: bool,
    calm_since: Option<Instant>,
    calm_needed: Duration,
    /// Since when the shard slept for so long; of the last [`CALM_MIN`] alone, so that it shows at once when load falls.
    window_since: Instant,
    slept: Duration,
}

impl Overload {
    /// A shard that goes without nothing.
    pub fn new(compression: Compression, now: Instant) -> Self {
        Self {
            compression,
            step: Step::Whole,
            is_plain: false,
            weighed: now,
            ring_then: 0.0,
            lost: false,
            changed: None,
            went_down: false,
            calm_since: None,
            calm_needed: CALM_MIN,
            window_since: now,
            slept: Duration::ZERO,
        }
    }

    /// Takes in how things are; whether that changes what is gone without.
    pub fn look(&mut self, load: Load, now: Instant) -> bool {
        self.lost |= load.lost;
        self.slept += load.slept;
        let before = (self.step, self.is_plain);
        if now.saturating_duration_since(self.weighed) >= WEIGH_EVERY {
            self.weigh(load.ring, now);
        }
        self.is_plain = self.compresses()
            && self.step >= Step::Plain
            && load.queue <= if self.is_plain { QUEUE_HIGH } else { QUEUE_LOW };
        before != (self.step, self.is_plain)
    }

    fn weigh(&mut self, ring: f32, now: Instant) {
        self.weighed = now;
        let is_filling = ring >= RING_HIGH && ring >= std::mem::replace(&mut self.ring_then, ring);
        let lost = std::mem::take(&mut self.lost);
        if ring > RING_LOW || lost {
            self.calm_since = None;
        }
        if is_filling || lost {
            self.go_up(now);
        } else if ring <= RING_LOW && self.step > Step::Whole {
            self.wait_for_calm(now);
        }
    }

    fn go_up(&mut self, now: Instant) {
        let next = self.step.up(self.compresses());
        if next == self.step {
            return;
        }
        if self.went_down && self.changed_lately(now) {
            self.calm_needed = (self.calm_needed * 2).min(CALM_MAX);
        }
        self.went_down = false;
        (self.step, self.changed) = (next, Some(now));
    }

    fn wait_for_calm(&mut self, now: Instant) {
        let Some(since) = self.calm_since else {
            self.calm_since = Some(now);
            (self.window_since, self.slept) = (now, Duration::ZERO);
            return;
        };
        let window = now.saturating_duration_since(self.window_since);
        if window < CALM_MIN {
            return;
        }
        let has_room = self.slept.as_secs_f32() >= window.as_secs_f32() * SLEEP_HIGH;
        (self.window_since, self.slept) = (now, Duration::ZERO);
        if now.saturating_duration_since(since) < self.calm_needed && !has_room {
            return;
        }
        // A lower step proves itself by lasting: at the very limit each step down looks calm for a moment.
        if self.went_down && !self.changed_lately(now) {
            self.calm_needed = (self.calm_needed / 2).max(CALM_MIN);
        }
        self.went_down = true;
        self.step = self.step.down(self.compresses());
        (self.changed, self.calm_since) = (Some(now), None);
    }

    fn changed_lately(&self, now: Instant) -> bool {
        self.changed
            .is_some_and(|at| now.saturating_duration_since(at) < PROBATION)
    }

    /// Whether there is compression to give up.
    pub fn compresses(&self) -> bool {
        !matches!(self.compression, Compression::Off | Compression::Level(0))
    }

    /// What the shard goes without now.
    pub fn step(&self) -> Step {
        self.step
    }

    /// Whether bundles that would be compressed are not.
    pub fn is_plain(&self) -> bool {
        self.is_plain
    }

    /// How the next bundle is compressed.
    pub fn compression(&self) -> Compression {
        if self.is_plain {
            Compression::Off
        } else {
            self.compression
        }
    }

    /// What calls that begin go without.
    pub fn thrift(&self) -> Thrift {
        let usual = Thrift::default();
        Thrift {
            body_bytes_max: if self.step >= Step::Thin {
                THIN_BODY_BYTES
            } else {
                usual.body_bytes_max
            },
            shed_eighths: self.shed_eighths(),
        }
    }

    /// Of eight calls, how many are shed now.
    pub fn shed_eighths(&self) -> u8 {
        match self.step {
            Step::Shed(eighths) => eighths,
            _ => 0,
        }
    }
}

/// At most one line in so much time, so that a load which comes and goes does not fill the log.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// What there is to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// More is given up than was said last.
    Begins,
    /// Nothing is given up any longer.
    Ends,
}

/// What was said last of what all shards give up.
#[derive(Debug, Default)]
pub struct Announced {
    step: status::Step,
    /// What was given up until then: more of it means that something began and ended between two looks.
    counted: u64,
    at: Option<Instant>,
}

impl Announced {
    /// What is to be said now.
    pub fn change(&mut self, overload: &status::Overload, now: Instant) -> Option<Change> {
        if (self.at).is_some_and(|at| now.duration_since(at) < SAY_EVERY) {
            return None;
        }
        let counted = overload.bundles_plain + overload.bodies_thinned + overload.calls_shed;
        let change = if overload.step > self.step {
            Change::Begins
        } else if overload.step == status::Step::None
            && (self.step > overload.step || counted > self.counted)
        {
            Change::Ends
        } else {
            return None;
        };
        *self = Self {
            step: overload.step,
            counted,
            at: Some(now),
        };
        Some(change)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A shard with a ring of one unit, which one second of work at full speed reads tenfold.
    struct Shard {
        overload: Overload,
        now: Instant,
        start: Instant,
        ring: f32,
        queue: f32,
        steps: Vec<Step>,
    }

    /// Units of the ring that a second of work reads when nothing is gone without.
    const SPEED: f32 = 10.0;

    /// Work for a call, of that for a whole one: deflate is half of it, long bodies a fifth, parsing a tenth.
    fn work(overload: &Overload) -> f32 {
        let written = match (overload.step() >= Step::Thin, overload.is_plain()) {
            (true, true) => 0.3,
            (true, false) => 0.8,
            (false, true) => 0.5,
            (false, false) => 1.0,
        };
        0.1 + (written - 0.1) * (1.0 - f32::from(overload.shed_eighths()) / 8.0)
    }

    impl Shard {
        fn new(compression: Compression) -> Self {
            let now = Instant::now();
            Self {
                overload: Overload::new(compression, now),
                now,
                start: now,
                ring: 0.0,
                queue: 0.0,
                steps: vec![Step::Whole],
            }
        }

        /// Offers `load` times what it can do when nothing is gone without, for `seconds`, in steps of a millisecond.
        fn offer(&mut self, load: f32, seconds: f32) {
            const STEP: f32 = 0.001;
            for _ in 0..(seconds / STEP) as u32 {
                self.now += Duration::from_secs_f32(STEP);
                let able = SPEED * STEP / work(&self.overload);
                let waiting = self.ring + SPEED * load * STEP;
                let done = waiting.min(able);
                let lost = waiting - done > 1.0;
                self.ring = (waiting - done).min(1.0);
                let load = Load {
                    ring: self.ring,
                    lost,
                    queue: self.queue,
                    slept: Duration::from_secs_f32(STEP * (1.0 - done / able)),
                };
                self.overload.look(load, self.now);
                if self.steps.last() != Some(&self.overload.step()) {
                    self.steps.push(self.overload.step());
                }
            }
        }

        fn highest(&self) -> Step {
            self.steps.iter().copied().max().unwrap_or_default()
        }

        /// Each step is a neighbour of the one before it.
        #[track_caller]
        fn check_order(&self, compresses: bool) {
            for pair in self.steps.windows(2) {
                let [from, to] = pair else { continue };
                let is_neighbour = *to == from.up(compresses) || *to == from.down(compresses);
                assert!(is_neighbour, "{from:?} to {to:?} in {:?}", self.steps);
            }
        }
    }

    #[track_caller]
    fn check(load: f32, compression: Compression, expected: Step) {
        let mut shard = Shard::new(compression);
        shard.offer(0.2, 5.0);
        shard.offer(load, 120.0);
        // At the limit it may go one step too far for a moment.
        let highest = shard.highest();
        assert!(
            highest == expected || highest == expected.up(true),
            "{load}: {:?}",
            shard.steps
        );
        let under_load = shard.steps.len();
        assert!(under_load <= 40, "{load} flaps: {:?}", shard.steps);
        shard.offer(0.2, 12.0);
        assert_eq!(shard.overload.step(), Step::Whole, "{:?}", shard.steps);
        assert!(!shard.overload.is_plain());
        assert_eq!(shard.overload.compression(), compression);
        shard.check_order(compression != Compression::Off);
        let seconds = shard.now.duration_since(shard.start).as_secs();
        eprintln!(
            "load {load}: {:?} at most, {under_load} steps in {seconds} s",
            shard.highest()
        );
    }

    #[test]
    fn gives_up_in_order_as_much_as_it_must_and_takes_it_up_again() {
        use Compression::{Fast, Level, Off};
        check(0.9, Fast, Step::Whole);
        check(1.5, Fast, Step::Plain);
        check(3.0, Level(6), Step::Thin);
        check(4.0, Fast, Step::Shed(3));
        check(7.0, Fast, Step::Shed(7));
        check(1.1, Off, Step::Thin);
        check(2.0, Off, Step::Shed(4));
    }

    #[test]
    fn a_stall_is_no_overload() {
        let mut shard = Shard::new(Compression::Fast);
        shard.offer(0.2, 5.0);
        // Stopped for a moment: it comes back to a full ring that has dropped, and empties it.
        shard.ring = 1.0;
        shard.overload.look(
            Load {
                ring: 1.0,
                lost: true,
                ..Load::default()
            },
            shard.now,
        );
        shard.offer(0.2, 5.0);
        assert!(shard.highest() <= Step::Plain, "{:?}", shard.steps);
        assert_eq!(shard.overload.step(), Step::Whole);
    }

    #[test]
    fn what_is_past_every_step_stays_at_the_last() {
        let mut shard = Shard::new(Compression::Fast);
        shard.offer(50.0, 60.0);
        assert_eq!(shard.overload.step(), Step::Shed(SHED_EIGHTHS_MAX));
        assert!(shard.steps.len() <= 12, "{:?}", shard.steps);
        shard.check_order(true);
        let thrift = shard.overload.thrift();
        assert_eq!((thrift.body_bytes_max, thrift.shed_eighths), (4096, 7));
    }

    #[test]
    fn where_the_uploader_is_the_bottleneck_compression_stays() {
        let mut shard = Shard::new(Compression::Fast);
        shard.queue = 0.5;
        shard.offer(1.15, 5.0);
        assert_eq!(shard.overload.compression(), Compression::Fast);
        assert!(shard.highest() >= Step::Thin, "{:?}", shard.steps);
        // It is given up once there is room, and taken up again when the queue grows.
        for (queue, plain) in [(0.1, false), (0.05, true), (0.2, true), (0.3, false)] {
            shard.queue = queue;
            shard.offer(4.0, 0.1);
            assert_eq!(shard.overload.is_plain(), plain, "{queue}");
        }
    }

    #[test]
    fn begins_and_ends_are_said_once_and_seldom() {
        use status::Step::{BodiesThinned, CallsShed, CompressionOff, None as Nothing};
        let start = Instant::now();
        let mut announced = Announced::default();
        let looks = [
            (0, Nothing, 0, None),
            (1, CompressionOff, 0, Some(Change::Begins)),
            (2, CallsShed, 5, None),
            (12, CallsShed, 90, Some(Change::Begins)),
            (23, BodiesThinned, 99, None),
            (24, Nothing, 99, Some(Change::Ends)),
            (25, CompressionOff, 99, None),
            (40, Nothing, 100, Some(Change::Ends)),
            (60, Nothing, 100, None),
        ];
        for (second, step, calls_shed, expected) in looks {
            let overload = status::Overload {
                step,
                calls_shed,
                ..status::Overload::default()
            };
            let now = start + Duration::from_secs(second);
            assert_eq!(announced.change(&overload, now), expected, "{second}");
        }
    }
}
