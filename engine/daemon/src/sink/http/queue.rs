//! Bundles that wait for the collector: bounded in number and bytes, and what is given up is always the oldest.
//!
//! A bundle under way stays in the queue until it is settled, so stopping or losing a connection loses none.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;
use engine_core::bundle::{Bundle, Encoding};

/// A bundle between its shard and the collector.
#[derive(Debug)]
pub(super) struct Job {
    /// In the order of arrival; names the job.
    pub(super) number: u64,
    /// Which outbox it came from, and its buffer goes back to.
    pub(super) shard: usize,
    pub(super) body: Bytes,
    pub(super) encoding: Encoding,
    pub(super) calls: u64,
    pub(super) id: u128,
    /// When it came.
    pub(super) came: Instant,
    /// Posts so far.
    pub(super) tries: u32,
    not_before: Option<Instant>,
    under_way: bool,
}

/// The queue.
#[derive(Debug)]
pub(super) struct Queue {
    jobs: VecDeque<Job>,
    bundles_max: usize,
    bytes_max: usize,
    bytes: usize,
    calls: u64,
    next: u64,
}

impl Queue {
    pub(super) fn new(bundles_max: usize, bytes_max: usize) -> Self {
        Self {
            jobs: VecDeque::new(),
            bundles_max: bundles_max.max(1),
            bytes_max,
            bytes: 0,
            calls: 0,
            next: 0,
        }
    }

    pub(super) fn push(&mut self, shard: usize, bundle: Bundle, now: Instant) {
        self.bytes += bundle.body.len();
        self.calls += u64::from(bundle.calls);
        self.jobs.push_back(Job {
            number: self.next,
            shard,
            body: Bytes::from(bundle.body),
            encoding: bundle.encoding,
            calls: u64::from(bundle.calls),
            id: bundle.id,
            came: now,
            tries: 0,
            not_before: None,
            under_way: false,
        });
        self.next += 1;
    }

    /// The oldest bundle that is not under way, while there is more than the bounds allow. The newest always stays.
    pub(super) fn take_excess(&mut self) -> Option<Job> {
        if self.jobs.len() <= self.bundles_max && self.bytes <= self.bytes_max {
            return None;
        }
        let newest = self.next.checked_sub(1)?;
        let waiting = self
            .jobs
            .iter()
            .filter(|job| !job.under_way && job.number != newest);
        let oldest = waiting.map(|job| job.number).min()?;
        self.remove(oldest)
    }

    /// Starts the next post that may start now; it stays here, marked.
    pub(super) fn start(&mut self, now: Instant) -> Option<&mut Job> {
        let job = self
            .jobs
            .iter_mut()
            .find(|job| !job.under_way && job.not_before.is_none_or(|at| at <= now))?;
        job.under_way = true;
        job.tries += 1;
        Some(job)
    }

    /// When the first waiting bundle may be posted; `None` if none waits.
    pub(super) fn next_start(&self, now: Instant) -> Option<Instant> {
        self.jobs
            .iter()
            .filter(|job| !job.under_way)
            .map(|job| job.not_before.unwrap_or(now))
            .min()
    }

    /// A post has failed: the bundle waits again, behind the others if it is itself to blame.
    pub(super) fn put_back(&mut self, number: u64, not_before: Instant, behind: bool) {
        let Some(index) = self.jobs.iter().position(|job| job.number == number) else {
            return;
        };
        if let Some(job) = self.jobs.get_mut(index) {
            job.under_way = false;
            job.not_before = Some(not_before);
        }
        if behind && let Some(job) = self.jobs.remove(index) {
            self.jobs.push_back(job);
        }
    }

    /// Every post has ended without an answer, and every bundle may be posted at once.
    pub(super) fn restart(&mut self) {
        for job in &mut self.jobs {
            job.under_way = false;
            job.not_before = None;
        }
    }

    /// No bundle waits any longer.
    pub(super) fn hurry(&mut self) {
        for job in &mut self.jobs {
            job.not_before = None;
        }
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<Job> {
        let index = self.jobs.iter().position(|job| job.number == number)?;
        let job = self.jobs.remove(index)?;
        self.bytes -= job.body.len();
        self.calls -= job.calls;
        Some(job)
    }

    pub(super) fn pop(&mut self) -> Option<Job> {
        let number = self.jobs.front()?.number;
        self.remove(number)
    }

    /// Posts of this bundle so far.
    pub(super) fn tries(&self, number: u64) -> u32 {
        self.jobs
            .iter()
            .find(|job| job.number == number)
            .map_or(0, |job| job.tries)
    }

    pub(super) fn under_way(&self) -> usize {
        self.jobs.iter().filter(|job| job.under_way).count()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// How full it is, 0 to 1: by number or by bytes, whichever has less room.
    pub(super) fn fill(&self) -> f32 {
        let bundles = self.jobs.len() as f32 / self.bundles_max as f32;
        let bytes = self.bytes as f32 / self.bytes_max.max(1) as f32;
        bundles.max(bytes).min(1.0)
    }

    pub(super) fn bundles(&self) -> u64 {
        self.jobs.len() as u64
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes as u64
    }

    pub(super) fn calls(&self) -> u64 {
        self.calls
    }

    /// When the oldest came.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.jobs.iter().map(|job| job.came).min()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn queue(bundles_max: usize, bytes_max: usize, bodies: &[usize]) -> Queue {
        let mut queue = Queue::new(bundles_max, bytes_max);
        for &length in bodies {
            let body = vec![0; length];
            queue.push(
                0,
                Bundle {
                    body,
                    encoding: Encoding::Plain,
                    calls: 1,
                    line_bytes: 0,
                    id: 0,
                    ..Bundle::default()
                },
                Instant::now(),
            );
        }
        queue
    }

    /// Pushes bodies of these lengths, starts `under_way` of them, and gives up exactly `given_up`.
    #[track_caller]
    fn check(bounds: (usize, usize), bodies: &[usize], under_way: usize, given_up: &[u64]) {
        let mut queue = queue(bounds.0, bounds.1, bodies);
        for _ in 0..under_way {
            assert!(queue.start(Instant::now()).is_some());
        }
        let mut seen = Vec::new();
        while let Some(job) = queue.take_excess() {
            seen.push(job.number);
        }
        assert_eq!(seen, given_up);
        assert_eq!(queue.bundles() as usize, bodies.len() - given_up.len());
        assert_eq!(queue.calls(), queue.bundles());
        let fill = queue.fill();
        assert!((0.0..=1.0).contains(&fill) && (fill > 0.0) == (queue.bundles() > 0));
    }

    #[test]
    fn the_oldest_is_given_up() {
        check((3, 1000), &[1, 1, 1], 0, &[]);
        check((3, 1000), &[1, 1, 1, 1, 1], 0, &[0, 1]);
        check((3, 1000), &[1, 1, 1, 1, 1], 1, &[1, 2]);
        check((9, 100), &[60, 60, 60], 0, &[0, 1]);
        check((9, 100), &[500], 0, &[]);
        check((1, 100), &[1, 1], 1, &[]);
        check((0, 0), &[1, 1], 0, &[0]);
    }

    #[test]
    fn a_bad_bundle_goes_behind_and_stays_the_oldest() {
        let mut queue = queue(2, 1000, &[1, 2, 3]);
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let first = queue.start(now).unwrap().number;
        queue.put_back(first, later, true);
        assert_eq!(queue.next_start(now), Some(now));
        assert_eq!(queue.start(now).unwrap().number, 1);
        assert_eq!(queue.start(now).unwrap().number, 2);
        assert!(queue.start(now).is_none());
        assert_eq!(queue.next_start(now), Some(later));
        assert_eq!(queue.under_way(), 2);
        assert_eq!(queue.take_excess().map(|job| job.number), Some(0));
        queue.restart();
        assert_eq!(queue.under_way(), 0);
        assert_eq!(queue.pop().map(|job| job.tries), Some(1));
    }

    #[test]
    fn an_unreachable_collector_keeps_the_order() {
        let mut queue = queue(9, 1000, &[1, 2]);
        let now = Instant::now();
        queue.start(now);
        queue.put_back(0, now, false);
        assert_eq!(
            queue.start(now).map(|job| (job.number, job.tries)),
            Some((0, 2))
        );
    }
}
