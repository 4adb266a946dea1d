//! A shard that cannot keep up: how full its rings are in, what it goes without out, in a fixed order.
//!
//! Left alone, a full ring drops packets, which tears calls apart that nobody can name. So a shard gives up, one after the
//! other, what is missed least: first compression (bandwidth), then the ends of bodies, then whole calls, of bodies and calls
//! no larger a share than it must. Everything is counted, and taken back when the load falls.
//!
//! What it must give up is measured, not guessed. What came in since the last look and what was read while the shard was
//! awake say how many times too slow it is: its pressure. Where something is given up already, the share of bodies left
//! whole, then that of calls, is divided by a root of the pressure every `WEIGH_EVERY`. The pressure counts what waits in
//! the ring as to be read within `CATCH_UP`, so the ring is nearly empty in the end: blocks that were just written are still
//! in a cache, and read a fifth faster than those of a ring half full. It is a proportional and integral controller whose
//! gains do not depend on the size of the ring. A share is divided as if all work hung on it, which at least is never too
//! much, so nothing overshoots. It begins only with a ring that goes on filling: a burst, or a stall, is what the ring is for.
//!
//! Whether giving up compression helps is found out by trial (`compression_trial`). It knows no ring and no clock: it is told
//! both.

mod compression_trial;
mod load;

use std::time::{Duration, Instant};

use engine_core::bundle::Compression;
use engine_core::message::ShedPolicy;

pub use self::load::Load;

use self::compression_trial::Plain;
use self::load::{RING_LOW, Weight, Work};

/// Time between two decisions: some blocks are read meanwhile, so that the effect of the last one shows.
const WEIGH_EVERY: Duration = Duration::from_millis(10);

/// Share of a ring's blocks that wait for us, from which on something must be given up, if it grows.
const RING_HIGH: f32 = 0.25;

/// A ring that will be full within this time counts as high.
const FULL_SOON: Duration = Duration::from_millis(100);

/// The share from which on there is no time for one thing after the other, if it grows.
const RING_URGENT: f32 = 0.5;

/// Nor is there if the ring will be full within this time.
const FULL_AT_ONCE: Duration = Duration::from_millis(50);

/// Decisions in a row that must find the ring filling, before the first thing is given up: after a stall one does.
const FILLING_MIN: u8 = 2;

/// Time in which what waits is to be read. Long against [`WEIGH_EVERY`], so that the shares settle.
const CATCH_UP: Duration = Duration::from_millis(250);

/// What waits counts as no more than this share of what comes in: an almost full ring needs time, not haste.
const CATCH_UP_SHARE: f32 = 0.5;

/// Time over which what comes in is averaged.
const ARRIVALS_OVER: Duration = Duration::from_millis(30);

/// Least share of calls that is written: some always pass, so that it is seen what there is.
const WRITTEN_MIN: f32 = 1.0 / 64.0;

/// Share of bodies from which on thinning begins to end.
const WHOLE_MIN: f32 = 1.0 / 64.0;

/// Power of the pressure by which a share is divided: small against 1 - [`FADE`], so that it does not swing.
const GAIN: f32 = 0.25;

/// What a share grows to at first.
const LAST: f32 = 0.99;

/// Decisions in a row that must find a share there, before it grows to the whole.
const NEARLY_MIN: u8 = 20;

/// Largest growth of a share in one decision. Too much of it is taken back in the next one, and the ring has room for that.
const GROWTH_MAX: f32 = 1.25;

/// A step is shown so long after its end, so that what comes and goes does not flicker.
const SHOWN: Duration = Duration::from_secs(3);

/// What a shard goes without; each step includes those before it, but compression where it would not help.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Nothing.
    #[default]
    Whole,
    /// Compression.
    Plain,
    /// The ends of bodies.
    Thin,
    /// Calls.
    Shed,
}

/// Decides for one shard.
#[derive(Debug)]
pub struct Overload {
    plain: Plain,
    /// Share of calls whose bodies are left whole.
    whole: f32,
    /// Share of calls that are written.
    written: f32,
    weighed: Instant,
    /// Rings read since then, time slept, and whether frames were dropped.
    read: f32,
    slept: Duration,
    lost: bool,
    ring_then: f32,
    waiting_then: f32,
    /// Rings that come in per second.
    arrivals: f32,
    /// What was done of late; the older, the less it counts.
    recent: Work,
    /// Decisions in a row that found the ring filling.
    filling: u8,
    /// Decisions in a row that found nearly nothing given up.
    nearly: u8,
    shown: Step,
    shown_at: Instant,
    changes: u64,
}

impl Overload {
    /// A shard that goes without nothing.
    pub fn new(compression: Compression, now: Instant) -> Self {
        Self {
            plain: Plain::new(compression),
            whole: 1.0,
            written: 1.0,
            weighed: now,
            read: 0.0,
            slept: Duration::ZERO,
            lost: false,
            ring_then: 0.0,
            waiting_then: 0.0,
            arrivals: 0.0,
            recent: Work::default(),
            filling: 0,
            nearly: 0,
            shown: Step::Whole,
            shown_at: now,
            changes: 0,
        }
    }

    /// Takes in how things are; whether that changes what is gone without.
    pub fn look(&mut self, load: Load, now: Instant) -> bool {
        self.lost |= load.lost;
        self.read += load.read;
        self.slept += load.slept;
        if now.saturating_duration_since(self.weighed) < WEIGH_EVERY {
            return false;
        }
        let before = (self.shed_policy(), self.is_plain());
        let weight = self.weigh(&load, now);
        self.decide(&weight, now);
        self.show(now);
        before != (self.shed_policy(), self.is_plain())
    }

    /// How the time since the last decision went.
    fn weigh(&mut self, load: &Load, now: Instant) -> Weight {
        let time = now.saturating_duration_since(self.weighed);
        let awake = time.saturating_sub(std::mem::take(&mut self.slept));
        let work = Work {
            time,
            awake,
            read: std::mem::take(&mut self.read),
        };
        self.recent.fade();
        self.recent.add(work);
        let ring = if std::mem::take(&mut self.lost) {
            1.0
        } else {
            load.ring
        };
        let came = (work.read + load.waiting - self.waiting_then).max(0.0) / time.as_secs_f32();
        let news = time.as_secs_f32() / (time + ARRIVALS_OVER).as_secs_f32();
        self.arrivals += (came - self.arrivals) * news;
        let growth = (ring - self.ring_then) / time.as_secs_f32();
        let grows = ring > 0.0 && growth >= 0.0;
        let full_within = |time: Duration| growth * time.as_secs_f32() >= 1.0 - ring;
        (self.weighed, self.ring_then, self.waiting_then) = (now, ring, load.waiting);

        let catch_up = (ring / CATCH_UP.as_secs_f32()).min(self.arrivals * CATCH_UP_SHARE);
        let wanted = self.arrivals + catch_up;
        // Nothing was read, so nothing is known, but that an empty ring presses nobody.
        let pressure_of = |work: Work| match work.cost() {
            Some(cost) => wanted * cost,
            None if ring <= RING_LOW => 0.0,
            None => 1.0,
        };
        let (pressure, pressure_now) = (pressure_of(self.recent), pressure_of(work));
        let presses = pressure > 1.0 && pressure_now > 1.0;
        Weight {
            work,
            queue: load.queue,
            pressure,
            pressure_now,
            is_filling: presses && grows && (ring >= RING_HIGH || full_within(FULL_SOON)),
            is_urgent: presses
                && grows
                && (ring >= RING_URGENT || !self.gives_up() && full_within(FULL_AT_ONCE)),
        }
    }

    fn decide(&mut self, weight: &Weight, now: Instant) {
        self.filling = if weight.is_filling {
            self.filling.saturating_add(1)
        } else {
            0
        };
        self.plain.note(weight, now);
        if self.plain.is_trying(weight, now) {
            return;
        }
        if self.gives_up() {
            if !self.plain.is_to_try(weight, self.recent, now) {
                self.steer(weight);
            }
        } else if self.filling >= FILLING_MIN {
            self.plain.begin(weight, now);
            if weight.is_urgent || !self.plain.is_to_show() {
                self.steer(weight);
            }
        } else {
            self.plain.wait_for_calm(weight, self.ring_then);
        }
    }

    /// Gives up as much more as there is pressure, or less.
    fn steer(&mut self, weight: &Weight) {
        self.plain.unsettle();
        let factor = if weight.is_urgent {
            weight.pressure_now.recip().max(0.25)
        } else {
            let root = weight.pressure.powf(GAIN);
            root.clamp(GROWTH_MAX.recip(), GROWTH_MAX).recip()
        };
        if factor >= 1.0 {
            // The last bit is given back when it was all that is missing for a while: at the very limit it would come and go.
            let most = if self.nearly >= NEARLY_MIN { 1.0 } else { LAST };
            let share = if self.written < 1.0 {
                self.written
            } else {
                self.whole
            };
            self.nearly = if share < LAST {
                0
            } else {
                self.nearly.saturating_add(1)
            };
            if self.written < 1.0 {
                self.written = (self.written * factor).min(most);
            } else {
                self.whole = (self.whole.max(WHOLE_MIN) * factor).min(most);
            }
            return;
        }
        self.nearly = 0;
        let has_bodies = self.whole > 0.0;
        self.whole = if weight.is_urgent || self.whole * factor < WHOLE_MIN {
            0.0
        } else {
            self.whole * factor
        };
        if weight.is_urgent || !has_bodies {
            self.written = (self.written * factor).max(WRITTEN_MIN);
        }
    }

    /// The step as it is shown: at once when more is given up, later when less.
    fn show(&mut self, now: Instant) {
        let step = if self.written < 1.0 {
            Step::Shed
        } else if self.whole < 1.0 {
            Step::Thin
        } else if self.is_plain() {
            Step::Plain
        } else {
            Step::Whole
        };
        if step < self.shown && now.saturating_duration_since(self.shown_at) < SHOWN {
            return;
        }
        self.changes += u64::from(step != self.shown);
        (self.shown, self.shown_at) = (step, now);
    }

    /// The last thing that the shard goes without now, or went without a moment ago.
    pub fn step(&self) -> Step {
        self.shown
    }

    /// How often that has changed.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Whether there is compression to give up.
    pub fn compresses(&self) -> bool {
        self.plain.compresses()
    }

    /// Whether bundles that would be compressed are not.
    pub fn is_plain(&self) -> bool {
        self.plain.is_plain()
    }

    /// How the next bundle is compressed.
    pub fn compression(&self) -> Compression {
        self.plain.compression()
    }

    fn gives_up(&self) -> bool {
        self.written < 1.0 || self.whole < 1.0
    }

    /// What calls that begin go without.
    pub fn shed_policy(&self) -> ShedPolicy {
        // The largest share is that of all calls: this fits.
        let without = |share: f32| ((1.0 - share) * f32::from(ShedPolicy::CALLS)).round() as u16;
        ShedPolicy {
            truncated: without(self.whole),
            shed: without(self.written),
            ..ShedPolicy::default()
        }
    }

    /// Per cent of the calls that are shed now.
    pub fn shed_percent(&self) -> f32 {
        (1.0 - self.written) * 100.0
    }
}

#[cfg(test)]
mod tests;
