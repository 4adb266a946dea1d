//! The jobs of the writing thread: bundles of the store's own capture wait apart from everything else.
//!
//! The two take turns, so that a bundle of the capture waits for one transaction of others at most, however many of them wait,
//! and others are not kept waiting for ever by a capture that is busy. A job of others that is too large for one turn goes on in
//! their next one.

use std::fmt;

use anyhow::Context as _;
use tokio::runtime::{Builder, Runtime};
use tokio::select;
use tokio::sync::mpsc;

/// The receiving side.
pub(super) struct Queue<T> {
    capture: mpsc::Receiver<T>,
    others: mpsc::Receiver<T>,
    /// A job of others that goes on in their next turn.
    unfinished: Option<T>,
    /// Whose turn it is when both have a job.
    capture_is_next: bool,
    runtime: Runtime,
}

/// The sending side.
pub(super) struct Jobs<T> {
    capture: mpsc::Sender<T>,
    others: mpsc::Sender<T>,
}

impl<T> fmt::Debug for Jobs<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jobs").finish_non_exhaustive()
    }
}

impl<T> Clone for Jobs<T> {
    fn clone(&self) -> Self {
        Self {
            capture: self.capture.clone(),
            others: self.others.clone(),
        }
    }
}

/// A queue for `jobs_max` jobs of either side.
pub(super) fn queue<T>(jobs_max: usize) -> anyhow::Result<(Jobs<T>, Queue<T>)> {
    let (capture, from_capture) = mpsc::channel(jobs_max);
    let (others, from_others) = mpsc::channel(jobs_max);
    let queue = Queue {
        capture: from_capture,
        others: from_others,
        unfinished: None,
        capture_is_next: true,
        runtime: Builder::new_current_thread()
            .build()
            .context("queue of the writer")?,
    };
    Ok((Jobs { capture, others }, queue))
}

impl<T> Jobs<T> {
    /// Adds a job, once there is room; false when the thread has ended.
    pub(super) async fn send(&self, is_of_capture: bool, job: T) -> bool {
        let jobs = if is_of_capture {
            &self.capture
        } else {
            &self.others
        };
        jobs.send(job).await.is_ok()
    }
}

impl<T> Queue<T> {
    /// Waits for the next job; none once nobody can send any.
    pub(super) fn next(&mut self) -> Option<T> {
        if let Some(unfinished) = self.unfinished.take() {
            if self.capture_is_next
                && let Some(job) = self.more(true)
            {
                self.unfinished = Some(unfinished);
                self.capture_is_next = false;
                return Some(job);
            }
            self.capture_is_next = true;
            return Some(unfinished);
        }
        let Self {
            capture,
            others,
            capture_is_next,
            runtime,
            ..
        } = self;
        let (job, is_of_capture) = runtime.block_on(async {
            if *capture_is_next {
                select! {
                    biased;
                    Some(job) = capture.recv() => (Some(job), true),
                    Some(job) = others.recv() => (Some(job), false),
                    else => (None, false),
                }
            } else {
                select! {
                    biased;
                    Some(job) = others.recv() => (Some(job), false),
                    Some(job) = capture.recv() => (Some(job), true),
                    else => (None, false),
                }
            }
        });
        *capture_is_next = !is_of_capture;
        job
    }

    /// Lets a job of others go on in their next turn, before those that wait.
    pub(super) fn go_on_later(&mut self, unfinished: T) {
        self.unfinished = Some(unfinished);
    }

    /// The next job of the same side, if it waits.
    pub(super) fn more(&mut self, is_of_capture: bool) -> Option<T> {
        let jobs = if is_of_capture {
            &mut self.capture
        } else {
            &mut self.others
        };
        jobs.try_recv().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_capture_waits_for_one_turn_of_others_at_most() {
        let (jobs, mut queue) = queue(8).expect("a runtime");
        let send = |is_of_capture, job| {
            let sent = futures_util::FutureExt::now_or_never(jobs.send(is_of_capture, job));
            assert_eq!(sent, Some(true), "there is room");
        };
        for job in 1..=4 {
            send(false, job);
        }
        for job in 10..=12 {
            send(true, job);
        }
        assert_eq!(queue.next(), Some(10));
        assert_eq!(queue.next(), Some(1));
        assert_eq!(queue.more(false), Some(2));
        assert_eq!(queue.next(), Some(11));
        assert_eq!(queue.more(true), Some(12));
        assert_eq!(queue.more(true), None);
        assert_eq!(queue.next(), Some(3));
        queue.go_on_later(3);
        assert_eq!(queue.next(), Some(3), "nothing of the capture waits");
        queue.go_on_later(3);
        send(true, 14);
        send(true, 15);
        assert_eq!(queue.next(), Some(14));
        assert_eq!(queue.next(), Some(3));
        assert_eq!(queue.next(), Some(15));
        assert_eq!(queue.next(), Some(4));
        send(true, 13);
        drop(jobs);
        assert_eq!(queue.next(), Some(13));
        assert_eq!(queue.next(), None);
    }
}
