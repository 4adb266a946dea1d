//! What a decision of the controller is based on: how full the rings are, and what the work costs.

use std::time::Duration;

/// Share of a ring's blocks up to which it is as good as empty.
pub(super) const RING_LOW: f32 = 0.125;

/// What is left of older work with each decision: a slice of the processor or two that others get do not show.
pub(super) const FADE: f32 = 0.7;

/// Share of the time that a shard is awake, from which on it has no rest. Half asleep it has the processor to itself, and a
/// block costs less than under load.
const SATURATED: f32 = 0.9;

/// What a shard knows of its load.
#[derive(Clone, Copy, Debug, Default)]
pub struct Load {
    /// Share of blocks that wait for us in the fullest ring, 0 to 1.
    pub ring: f32,
    /// Blocks that wait for us in all rings, in rings.
    pub waiting: f32,
    /// Blocks read since the last look, in rings.
    pub read: f32,
    /// The kernel dropped frames since the last look.
    pub lost: bool,
    /// How full the upload queue is, 0 to 1.
    pub queue: f32,
    /// Time slept since the last look.
    pub slept: Duration,
}

/// Some time, how much of it the shard was awake, and what it read meanwhile, in rings.
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

/// What one decision goes by.
pub(super) struct Weight {
    pub(super) work: Work,
    pub(super) queue: f32,
    /// How many times too slow the shard is, from what was read of late, and from the last alone.
    pub(super) pressure: f32,
    pub(super) pressure_now: f32,
    pub(super) is_filling: bool,
    pub(super) is_urgent: bool,
}
