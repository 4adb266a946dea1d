//! The measurements that the controller decides by: how full the rings are, and what the work costs.

use std::time::Duration;

/// Share of a ring's blocks up to which it counts as empty.
pub(super) const RING_LOW: f32 = 0.125;

/// Weight that older work keeps with each decision: the effect of one or two time slices that other processes get vanishes.
pub(super) const FADE: f32 = 0.7;

/// Share of the time that a shard is awake, from which on it counts as saturated. A shard that sleeps for part of the time
/// has the processor to itself, and a block costs less than under load.
const SATURATED: f32 = 0.9;

/// The load of a shard, measured since the last call of [`Overload::update`](super::Overload::update).
#[derive(Clone, Copy, Debug, Default)]
pub struct Load {
    /// Share of blocks that wait to be read in the fullest ring, 0 to 1.
    pub ring: f32,
    /// Blocks that wait to be read in all rings, as a multiple of one ring.
    pub waiting: f32,
    /// Blocks read, as a multiple of one ring.
    pub read: f32,
    /// The kernel dropped frames.
    pub lost: bool,
    /// How full the upload queue is, 0 to 1.
    pub queue: f32,
    /// Time slept.
    pub slept: Duration,
}

/// A span of time, how much of it the shard was awake, and what it read meanwhile, as a multiple of one ring.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Work {
    pub(super) time: Duration,
    pub(super) awake: Duration,
    pub(super) read: f32,
}

impl Work {
    pub(super) fn add(&mut self, other: Self) {
        self.time += other.time;
        self.awake += other.awake;
        self.read += other.read;
    }

    pub(super) fn fade(&mut self) {
        self.time = self.time.mul_f32(FADE);
        self.awake = self.awake.mul_f32(FADE);
        self.read *= FADE;
    }

    /// Whether the shard hardly slept.
    pub(super) fn is_saturated(self) -> bool {
        self.awake >= self.time.mul_f32(SATURATED)
    }

    /// Seconds per ring; nothing if nothing was read.
    pub(super) fn cost(self) -> Option<f32> {
        (self.read > 0.0).then(|| self.awake.as_secs_f32() / self.read)
    }
}

/// What one decision is based on.
pub(super) struct Assessment {
    pub(super) work: Work,
    pub(super) queue: f32,
    /// By which factor the shard is too slow, from recent work, and from the last span alone.
    pub(super) pressure: f32,
    pub(super) pressure_now: f32,
    pub(super) is_filling: bool,
    pub(super) is_urgent: bool,
}
