//! The decision whether bundles are compressed while a shard cannot keep up.
//!
//! Without compression uploads are several times larger; where the collector, or the kernel's TCP, uses the same
//! processors, that can cost more than it saves. So once the shares have settled a trial compares the time per block with
//! compression and without, while everything else is kept as it is. If giving it up saves too little, or the upload queue
//! grows, bundles are compressed again, and the result holds for `RESULT_HOLDS`.

use std::time::{Duration, Instant};

use engine_core::bundle::Compression;

use super::load::{Assessment, RING_LOW, Work};

/// Time awake after compression was given up, before anything else is: its effect is to be seen first.
const PLAIN_SHOWS: Duration = Duration::from_millis(20);

/// Time awake that is compared, with compression and without.
const TRIAL: Duration = Duration::from_millis(100);

/// The least of it that is a result, where the ring leaves no time for more.
const TRIAL_MIN: Duration = Duration::from_millis(40);

/// Pressures between which the shares have settled.
const SETTLED: std::ops::Range<f32> = 0.7..1.4;

/// Largest share of the time per block that may remain without compression for the bandwidth to be worth it.
const PLAIN_SHARE_MAX: f32 = 0.85;

/// The share that is assumed before a trial.
const PLAIN_SHARE_USUAL: f32 = 0.6;

/// How long the result of a trial holds.
const RESULT_HOLDS: Duration = Duration::from_secs(60);

/// The same for a trial that had to be cut short.
const TRIAL_AGAIN: Duration = Duration::from_secs(2);

/// Share of the upload queue from which on bundles are compressed, however full the ring is.
const QUEUE_HIGH: f32 = 0.25;

/// Consecutive decisions that must find it so: the uploader may only be waiting for a processor.
const CROWDED_MIN: u8 = 4;

/// Share of the upload queue up to which compression may be given up.
const QUEUE_LOW: f32 = 0.0625;

/// Time over which a shard must have been awake less than [`IDLE_AWAKE_MAX`] before it compresses again.
const IDLE: Duration = Duration::from_secs(1);

/// Largest share of that time that it would be awake if it compressed.
const IDLE_AWAKE_MAX: f32 = 0.85;

/// A comparison of the work with compression and without.
#[derive(Clone, Copy, Debug)]
struct Trial {
    /// Cost of a ring before.
    before: f32,
    /// The work since then, without that of the first decision, in which a bundle was still open.
    since: Option<Work>,
}

/// Whether a shard compresses its bundles now.
#[derive(Debug)]
pub(super) struct CompressionSwitch {
    /// What bundles are compressed with when there is time for it.
    compression: Compression,
    /// Compression is given up.
    is_plain: bool,
    /// Cost of a ring then, as a share of the cost with compression.
    share: f32,
    /// No other trial before this time.
    result_until: Option<Instant>,
    trial: Option<Trial>,
    /// Consecutive decisions that found the upload queue high.
    crowded: u8,
    /// Work without sleep since the last change of any share.
    steady: Work,
    /// Work while the ring is empty and compression is given up.
    idle: Work,
}

impl CompressionSwitch {
    /// A shard that compresses.
    pub(super) fn new(compression: Compression) -> Self {
        Self {
            compression,
            is_plain: false,
            share: PLAIN_SHARE_USUAL,
            result_until: None,
            trial: None,
            crowded: 0,
            steady: Work::default(),
            idle: Work::default(),
        }
    }

    /// Whether bundles are to be compressed when there is time for it.
    pub(super) fn compresses(&self) -> bool {
        !matches!(self.compression, Compression::Off | Compression::Level(0))
    }

    /// Whether compression is given up now.
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

    /// Takes the basis of one decision, and resumes compression when uncompressed bundles pile up.
    pub(super) fn note(&mut self, assessment: &Assessment, now: Instant) {
        if assessment.work.is_saturated() {
            self.steady.add(assessment.work);
        }
        self.crowded = if assessment.queue > QUEUE_HIGH {
            self.crowded.saturating_add(1)
        } else {
            0
        };
        if self.is_plain && self.crowded >= CROWDED_MIN {
            self.decide(false, now + RESULT_HOLDS);
        }
    }

    /// Gives up compression because the ring fills, unless a recent trial has shown that this does not help.
    pub(super) fn give_up(&mut self, assessment: &Assessment, now: Instant) {
        let may_be_plain = self.may_change(now) && !self.is_plain && assessment.queue <= QUEUE_LOW;
        if may_be_plain {
            self.set_plain(true);
            self.share = PLAIN_SHARE_USUAL;
        }
    }

    /// Whether compression was given up so recently that the effect is not known.
    pub(super) fn is_recent(&self) -> bool {
        self.is_plain && self.steady.awake < PLAIN_SHOWS
    }

    /// Notes that a share changes: the cost from before cannot be compared with that from now on.
    pub(super) fn note_change(&mut self) {
        self.steady = Work::default();
    }

    fn may_change(&self, now: Instant) -> bool {
        self.compresses() && self.result_until.is_none_or(|until| until <= now)
    }

    fn set_plain(&mut self, is_plain: bool) {
        self.is_plain = is_plain;
        (self.steady, self.idle) = (Work::default(), Work::default());
    }

    /// Ends a trial with its result.
    fn decide(&mut self, is_plain: bool, until: Instant) {
        self.set_plain(is_plain);
        (self.trial, self.result_until) = (None, Some(until));
    }

    /// Whether the shares are kept as they are for a trial; it starts as soon as the cost before is known.
    pub(super) fn prepare_trial(
        &mut self,
        assessment: &Assessment,
        recent: Work,
        now: Instant,
    ) -> bool {
        let is_time = self.may_change(now)
            && (self.is_plain || assessment.queue <= QUEUE_LOW)
            && SETTLED.contains(&assessment.pressure)
            && recent.is_saturated()
            && !assessment.is_urgent;
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

    /// Continues a trial; returns whether there is one, so that the shares are kept as they are.
    pub(super) fn continue_trial(&mut self, assessment: &Assessment, now: Instant) -> bool {
        let Some(trial) = &mut self.trial else {
            return false;
        };
        let Some(work) = &mut trial.since else {
            trial.since = Some(Work::default());
            return true;
        };
        work.add(assessment.work);
        if work.awake < TRIAL && !assessment.is_urgent && assessment.work.read > 0.0 {
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
                    RESULT_HOLDS
                };
                self.decide(share <= PLAIN_SHARE_MAX, now + holds);
            }
            _ => self.decide(!self.is_plain, now + TRIAL_AGAIN),
        }
        !assessment.is_urgent
    }

    /// Resumes compression once there is time for it; `ring` is how full the fullest ring is.
    pub(super) fn resume_when_idle(&mut self, assessment: &Assessment, ring: f32) {
        if !self.is_plain || ring > RING_LOW {
            self.idle = Work::default();
            return;
        }
        self.idle.add(assessment.work);
        if self.idle.time < IDLE {
            return;
        }
        let Work { time, awake, .. } = std::mem::take(&mut self.idle);
        if awake.as_secs_f32() <= time.as_secs_f32() * self.share * IDLE_AWAKE_MAX {
            self.set_plain(false);
        }
    }
}
