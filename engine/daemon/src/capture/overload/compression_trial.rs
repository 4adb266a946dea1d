//! What a shard that cannot keep up spent and waited for in, whether its bundles are compressed out.
//!
//! Giving up compression makes uploads several times larger, and where the collector or the kernel's TCP takes its time from
//! the same processors, that can cost more than it saves. So it is judged once the shares have settled: time per block with
//! it and without, all else held. Where it saves too little, or the upload queue grows, bundles are compressed again, and
//! that is remembered for `JUDGED_FOR`.

use std::time::{Duration, Instant};

use engine_core::bundle::Compression;

use super::load::{RING_LOW, Weight, Work};

/// Time awake after compression was given up, in which that is to show before anything else is.
const PLAIN_SHOWS: Duration = Duration::from_millis(20);

/// Time awake that is compared, with compression and without.
const TRIAL: Duration = Duration::from_millis(100);

/// The least of it that says anything, where the ring leaves no time for more.
const TRIAL_MIN: Duration = Duration::from_millis(40);

/// Pressures between which the shares have settled.
const SETTLED: std::ops::Range<f32> = 0.7..1.4;

/// Share of time per block that is left without compression, at most, for the bandwidth to be worth it.
const PLAIN_SHARE_MAX: f32 = 0.85;

/// The same before it is known.
const PLAIN_SHARE_USUAL: f32 = 0.6;

/// How long it is known.
const JUDGED_FOR: Duration = Duration::from_secs(60);

/// Time before another trial, after one that had to be cut short.
const TRIAL_AGAIN: Duration = Duration::from_secs(2);

/// Share of the upload queue from which on bundles are compressed whatever the ring says.
const QUEUE_HIGH: f32 = 0.25;

/// Decisions in a row that must find it so: the uploader may just wait for a processor.
const CROWDED_MIN: u8 = 4;

/// Share of the upload queue up to which they need not be.
const QUEUE_LOW: f32 = 0.0625;

/// Time over which a shard must have been awake less than [`CALM_AWAKE`], before it compresses again.
const CALM: Duration = Duration::from_secs(1);

/// Share of that time that it would be awake while it compresses.
const CALM_AWAKE: f32 = 0.85;

/// A comparison of a shard with compression and without.
#[derive(Clone, Copy, Debug)]
struct Trial {
    /// What a ring cost before.
    before: f32,
    /// The work since. The first decision's is left out, for the bundle in the making.
    since: Option<Work>,
}

/// Whether a shard goes without compression.
#[derive(Debug)]
pub(super) struct Plain {
    /// What bundles are compressed with when there is time for it.
    compression: Compression,
    /// Bundles that would be compressed are not.
    is_plain: bool,
    /// What a ring costs then, as a share of what it does with compression.
    share: f32,
    /// Until when there is no other trial.
    judged_until: Option<Instant>,
    trial: Option<Trial>,
    /// Decisions in a row that found the upload queue high.
    crowded: u8,
    /// Work without sleep since the last change of anything.
    steady: Work,
    /// Of a shard without compression.
    calm: Work,
}

impl Plain {
    /// A shard that compresses.
    pub(super) fn new(compression: Compression) -> Self {
        Self {
            compression,
            is_plain: false,
            share: PLAIN_SHARE_USUAL,
            judged_until: None,
            trial: None,
            crowded: 0,
            steady: Work::default(),
            calm: Work::default(),
        }
    }

    /// Whether there is compression to give up.
    pub(super) fn compresses(&self) -> bool {
        !matches!(self.compression, Compression::Off | Compression::Level(0))
    }

    /// Whether bundles that would be compressed are not.
    pub(super) fn is_plain(&self) -> bool {
        self.is_plain
    }

    /// How the next bundle is compressed.
    pub(super) fn compression(&self) -> Compression {
        if self.is_plain {
            Compression::Off
        } else {
            self.compression
        }
    }

    /// Takes in what one decision goes by, and compresses again where plain bundles pile up.
    pub(super) fn note(&mut self, weight: &Weight, now: Instant) {
        if weight.work.is_saturated() {
            self.steady.add(weight.work);
        }
        self.crowded = if weight.queue > QUEUE_HIGH {
            self.crowded.saturating_add(1)
        } else {
            0
        };
        if self.is_plain && self.crowded >= CROWDED_MIN {
            self.judge(false, now + JUDGED_FOR);
        }
    }

    /// Gives up compression where the ring fills, unless a trial has shown of late that it does not help.
    pub(super) fn begin(&mut self, weight: &Weight, now: Instant) {
        let may_be_plain = self.may_change(now) && !self.is_plain && weight.queue <= QUEUE_LOW;
        if may_be_plain {
            self.set_plain(true);
            self.share = PLAIN_SHARE_USUAL;
        }
    }

    /// Whether it was given up a moment ago, so that it is to show before anything else is.
    pub(super) fn is_to_show(&self) -> bool {
        self.is_plain && self.steady.awake < PLAIN_SHOWS
    }

    /// Something else changes: what was spent before says nothing of what is spent from now on.
    pub(super) fn unsettle(&mut self) {
        self.steady = Work::default();
    }

    fn may_change(&self, now: Instant) -> bool {
        self.compresses() && self.judged_until.is_none_or(|until| until <= now)
    }

    fn set_plain(&mut self, is_plain: bool) {
        self.is_plain = is_plain;
        (self.steady, self.calm) = (Work::default(), Work::default());
    }

    /// Ends a trial.
    fn judge(&mut self, is_plain: bool, until: Instant) {
        self.set_plain(is_plain);
        (self.trial, self.judged_until) = (None, Some(until));
    }

    /// Whether all is held to compare the shard with compression and without; then a trial begins as soon as there is
    /// something to compare it with.
    pub(super) fn is_to_try(&mut self, weight: &Weight, recent: Work, now: Instant) -> bool {
        let is_time = self.may_change(now)
            && (self.is_plain || weight.queue <= QUEUE_LOW)
            && SETTLED.contains(&weight.pressure)
            && recent.is_saturated()
            && !weight.is_urgent;
        if is_time
            && self.steady.awake >= TRIAL
            && let Some(before) = self.steady.cost()
        {
            let since = None;
            self.trial = Some(Trial { before, since });
            self.set_plain(!self.is_plain);
        }
        is_time
    }

    /// Goes on with a trial; whether there is one, and all else is held.
    pub(super) fn is_trying(&mut self, weight: &Weight, now: Instant) -> bool {
        let Some(trial) = &mut self.trial else {
            return false;
        };
        let Some(work) = &mut trial.since else {
            trial.since = Some(Work::default());
            return true;
        };
        work.add(weight.work);
        if work.awake < TRIAL && !weight.is_urgent && weight.work.read > 0.0 {
            return true;
        }
        let (before, work) = (trial.before, *work);
        match work.cost() {
            Some(cost) if work.awake >= TRIAL_MIN => {
                let share = if self.is_plain {
                    cost / before
                } else {
                    before / cost
                };
                self.share = share;
                let holds = if work.awake < TRIAL {
                    TRIAL_AGAIN
                } else {
                    JUDGED_FOR
                };
                self.judge(share <= PLAIN_SHARE_MAX, now + holds);
            }
            _ => self.judge(!self.is_plain, now + TRIAL_AGAIN),
        }
        !weight.is_urgent
    }

    /// Compresses again once there has been time for it; `ring`: how full the fullest is.
    pub(super) fn wait_for_calm(&mut self, weight: &Weight, ring: f32) {
        if !self.is_plain || ring > RING_LOW {
            self.calm = Work::default();
            return;
        }
        self.calm.add(weight.work);
        if self.calm.time < CALM {
            return;
        }
        let Work { time, awake, .. } = std::mem::take(&mut self.calm);
        if awake.as_secs_f32() <= time.as_secs_f32() * self.share * CALM_AWAKE {
            self.set_plain(false);
        }
    }
}
