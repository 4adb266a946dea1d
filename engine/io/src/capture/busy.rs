//! How busy a shard was: which part of its time its thread worked, and how full its rings became.

use std::time::{Duration, Instant};

/// Time between two values; the kernel's counters are read more often while frames are dropped.
const EVERY: Duration = Duration::from_millis(900);

/// Part that a new value has in the mean: it follows a change within some ten seconds, and a burst of one does not show as
/// load that lasts.
const WEIGHT: f32 = 0.2;

/// Collects until it is read.
#[derive(Debug)]
pub(super) struct BusyGauge {
    since: Instant,
    slept: Duration,
    ring: f32,
    mean: Option<f32>,
}

/// What was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) busy_permille: u64,
    pub(super) ring_permille: u64,
}

impl BusyGauge {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            since: now,
            slept: Duration::ZERO,
            ring: 0.0,
            mean: None,
        }
    }

    pub(super) fn sleep(&mut self, time: Duration) {
        self.slept += time;
    }

    /// The part of the fullest ring that is in use, 0 to 1.
    pub(super) fn see_ring(&mut self, part: f32) {
        self.ring = self.ring.max(part);
    }

    /// The values of the time since it was read before; none if that was just now.
    pub(super) fn read(&mut self, now: Instant) -> Option<Reading> {
        let time = now.saturating_duration_since(self.since);
        if time < EVERY {
            return None;
        }
        let busy = 1.0 - (self.slept.as_secs_f32() / time.as_secs_f32()).min(1.0);
        let before = self.mean.unwrap_or(busy);
        let mean = before + (busy - before) * WEIGHT;
        let ring = self.ring;
        *self = Self::new(now);
        self.mean = Some(mean);
        let permille = |part: f32| (part * 1000.0).round() as u64;
        Some(Reading {
            busy_permille: permille(mean),
            ring_permille: permille(ring.min(1.0)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_what_lasts() {
        let mut now = Instant::now();
        let mut gauge = BusyGauge::new(now);
        let mut second = |slept_millis: u64, ring: f32| {
            now += Duration::from_secs(1);
            gauge.sleep(Duration::from_millis(slept_millis));
            gauge.see_ring(ring);
            gauge.see_ring(ring / 2.0);
            let reading = gauge.read(now).unwrap();
            assert_eq!(gauge.read(now + EVERY / 2), None);
            (reading.busy_permille, reading.ring_permille)
        };
        assert_eq!(second(900, 0.25), (100, 250));
        assert_eq!(second(0, 0.0), (280, 0));
        assert_eq!(second(1000, 2.0), (224, 1000));
        for _ in 0..20 {
            second(0, 0.0);
        }
        assert!(second(0, 0.0).0 > 980);
        // A sleep that began before the reading may be longer than the time since.
        assert!(second(5000, 0.0).0 < 900);
    }
}
