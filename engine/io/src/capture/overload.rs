//! Load shedding: what a shard that cannot keep up leaves out.
//!
//! Without it a full ring drops packets, which damages calls that nobody can name. So a shard gives up, one after the
//! other, what is missed least: first compression (bandwidth), then the ends of bodies, then whole calls; of bodies and
//! calls no larger a share than it must. Everything is counted, and restored when the load falls.
//!
//! The share is computed from measurements. The blocks that arrived since the last decision, and those that were read while
//! the shard was awake, give the factor by which it is too slow: its pressure. Once something is left out, the share of
//! whole bodies, then that of written calls, is divided by a root of the pressure every `DECIDE_EVERY`. The pressure counts
//! the blocks in the ring as work to be done within `CATCH_UP`, so the ring is nearly empty in the end: blocks that were
//! just written are still in a cache, and are read a fifth faster than those of a ring that is filled to one half. This is
//! a proportional and integral controller whose gains do not depend on the size of the ring. A share is divided as if it
//! caused all of the work, which is never too much, so nothing overshoots. The controller starts only when a ring keeps
//! filling: the ring itself absorbs bursts and stalls.
//!
//! A trial shows whether giving up compression helps (`compression_trial`). Rings and clock are arguments.

mod compression_trial;
mod load;

use std::time::{Duration, Instant};

use engine_core::bundle::Compression;
use engine_core::message::ShedPolicy;

pub use self::load::Load;

use self::compression_trial::CompressionSwitch;
use self::load::{Assessment, RING_LOW, Work};

/// Time between two decisions: some blocks are read meanwhile, so that the effect of the last one shows.
const DECIDE_EVERY: Duration = Duration::from_millis(10);

/// Share of a ring's blocks that wait to be read, from which on something must be given up if the share grows.
const RING_HIGH: f32 = 0.25;

/// A ring that will be full within this time counts as high.
const FULL_SOON: Duration = Duration::from_millis(100);

/// The share from which on, if it grows, several things are given up at once.
const RING_URGENT: f32 = 0.5;

/// The same applies if the ring will be full within this time.
const FULL_AT_ONCE: Duration = Duration::from_millis(50);

/// Consecutive decisions that must find the ring filling before anything is given up: after a stall, one does.
const FILLING_MIN: u8 = 2;

/// Time in which the blocks that wait are to be read. Long compared with [`DECIDE_EVERY`], so that the shares settle.
const CATCH_UP: Duration = Duration::from_millis(250);

/// The blocks that wait count as at most this share of the arrivals: an almost full ring is emptied slowly.
const CATCH_UP_SHARE: f32 = 0.5;

/// Time over which arrivals are averaged.
const ARRIVALS_OVER: Duration = Duration::from_millis(30);

/// Least share of calls that is written: some always are, so that there is a sample of the traffic.
const WRITTEN_MIN: f32 = 1.0 / 64.0;

/// Least share of whole bodies other than none.
const WHOLE_MIN: f32 = 1.0 / 64.0;

/// Power of the pressure by which a share is divided: small compared with 1 - [`FADE`](load::FADE), so that it does not
/// oscillate.
const GAIN: f32 = 0.25;

/// Share at which growth pauses.
const NEARLY_ALL: f32 = 0.99;

/// Consecutive decisions that must find a share there before it grows to 1.
const NEARLY_MIN: u8 = 20;

/// Largest growth of a share in one decision. Excess is taken back in the next one, and the ring has space for it.
const GROWTH_MAX: f32 = 1.25;

/// Time that a step is shown after its end, so that the status does not flicker.
const SHOWN: Duration = Duration::from_secs(3);

/// What a shard leaves out; each step includes those before it, except compression where that would not help.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Nothing.
    #[default]
    Nothing,
    /// Compression.
    Compression,
    /// The ends of bodies.
    Bodies,
    /// Calls.
    Calls,
}

/// The controller of one shard.
#[derive(Debug)]
pub struct Overload {
    compression: CompressionSwitch,
    /// Share of calls whose bodies are kept whole.
    whole: f32,
    /// Share of calls that are written.
    written: f32,
    decided_at: Instant,
    /// Rings read since then, time slept, and whether frames were dropped.
    read: f32,
    slept: Duration,
    lost: bool,
    ring_then: f32,
    waiting_then: f32,
    /// Arrivals, in rings per second.
    arrivals: f32,
    /// Recent work; the older, the less it counts.
    recent: Work,
    /// Consecutive decisions that found the ring filling.
    filling: u8,
    /// Consecutive decisions that found nearly nothing left out.
    nearly: u8,
    shown: Step,
    shown_at: Instant,
    changes: u64,
}

impl Overload {
    /// Nothing is left out.
    pub fn new(compression: Compression, now: Instant) -> Self {
        Self {
            compression: CompressionSwitch::new(compression),
            whole: 1.0,
            written: 1.0,
            decided_at: now,
            read: 0.0,
            slept: Duration::ZERO,
            lost: false,
            ring_then: 0.0,
            waiting_then: 0.0,
            arrivals: 0.0,
            recent: Work::default(),
            filling: 0,
            nearly: 0,
            shown: Step::Nothing,
            shown_at: now,
            changes: 0,
        }
    }

    /// Takes a measurement; returns whether the decision on what is left out has changed.
    pub fn update(&mut self, load: Load, now: Instant) -> bool {
        self.lost |= load.lost;
        self.read += load.read;
        self.slept += load.slept;
        if now.saturating_duration_since(self.decided_at) < DECIDE_EVERY {
            return false;
        }
        let before = (self.shed_policy(), self.is_plain());
        let assessment = self.assess(&load, now);
        self.decide(&assessment, now);
        self.show(now);
        before != (self.shed_policy(), self.is_plain())
    }

    /// Evaluates the time since the last decision.
    fn assess(&mut self, load: &Load, now: Instant) -> Assessment {
        let time = now.saturating_duration_since(self.decided_at);
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
        (self.decided_at, self.ring_then, self.waiting_then) = (now, ring, load.waiting);

        let catch_up = (ring / CATCH_UP.as_secs_f32()).min(self.arrivals * CATCH_UP_SHARE);
        let wanted = self.arrivals + catch_up;
        // If nothing was read, only one thing is known: an empty ring means no pressure.
        let pressure_of = |work: Work| match work.cost() {
            Some(cost) => wanted * cost,
            None if ring <= RING_LOW => 0.0,
            None => 1.0,
        };
        let (pressure, pressure_now) = (pressure_of(self.recent), pressure_of(work));
        let presses = pressure > 1.0 && pressure_now > 1.0;
        Assessment {
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

    fn decide(&mut self, assessment: &Assessment, now: Instant) {
        self.filling = if assessment.is_filling {
            self.filling.saturating_add(1)
        } else {
            0
        };
        self.compression.note(assessment, now);
        if self.compression.continue_trial(assessment, now) {
            return;
        }
        if self.gives_up() {
            if !self.compression.prepare_trial(assessment, self.recent, now) {
                self.steer(assessment);
            }
        } else if self.filling >= FILLING_MIN {
            self.compression.give_up(assessment, now);
            if assessment.is_urgent || !self.compression.is_recent() {
                self.steer(assessment);
            }
        } else {
            self.compression
                .resume_when_idle(assessment, self.ring_then);
        }
    }

    /// Leaves out more, or less, by the pressure.
    fn steer(&mut self, assessment: &Assessment) {
        self.compression.note_change();
        let factor = if assessment.is_urgent {
            assessment.pressure_now.recip().max(0.25)
        } else {
            let root = assessment.pressure.powf(GAIN);
            root.clamp(GROWTH_MAX.recip(), GROWTH_MAX).recip()
        };
        if factor >= 1.0 {
            // The last hundredth is restored only after it was all that is missing for a while: at the limit it would come and
            // go.
            let most = if self.nearly >= NEARLY_MIN {
                1.0
            } else {
                NEARLY_ALL
            };
            let share = if self.written < 1.0 {
                self.written
            } else {
                self.whole
            };
            self.nearly = if share < NEARLY_ALL {
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
        self.whole = if assessment.is_urgent || self.whole * factor < WHOLE_MIN {
            0.0
        } else {
            self.whole * factor
        };
        if assessment.is_urgent || !has_bodies {
            self.written = (self.written * factor).max(WRITTEN_MIN);
        }
    }

    /// Updates the step that is shown: at once when more is left out, later when less.
    fn show(&mut self, now: Instant) {
        let step = if self.written < 1.0 {
            Step::Calls
        } else if self.whole < 1.0 {
            Step::Bodies
        } else if self.is_plain() {
            Step::Compression
        } else {
            Step::Nothing
        };
        if step < self.shown && now.saturating_duration_since(self.shown_at) < SHOWN {
            return;
        }
        self.changes += u64::from(step != self.shown);
        (self.shown, self.shown_at) = (step, now);
    }

    /// The last step that the shard leaves out now, or left out a moment ago.
    pub fn step(&self) -> Step {
        self.shown
    }

    /// How often the step has changed.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Whether bundles are to be compressed when there is time for it.
    pub fn compresses(&self) -> bool {
        self.compression.compresses()
    }

    /// Whether compression is given up now.
    pub fn is_plain(&self) -> bool {
        self.compression.is_plain()
    }

    /// How the next bundle is compressed.
    pub fn compression(&self) -> Compression {
        self.compression.compression()
    }

    fn gives_up(&self) -> bool {
        self.written < 1.0 || self.whole < 1.0
    }

    /// What exchanges that start from now on lose.
    pub fn shed_policy(&self) -> ShedPolicy {
        // A share is at most 1, so this fits.
        let without = |share: f32| ((1.0 - share) * f32::from(ShedPolicy::CALLS)).round() as u16;
        ShedPolicy {
            truncated: without(self.whole),
            shed: without(self.written),
            ..ShedPolicy::default()
        }
    }

    /// Percentage of calls that are shed now.
    pub fn shed_percent(&self) -> f32 {
        (1.0 - self.written) * 100.0
    }
}

#[cfg(test)]
mod tests;
