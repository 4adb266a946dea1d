//! The pauses before a child that died is started again.

use std::time::{Duration, Instant};

/// First and longest pause before a child that died is started again.
const RESTART_PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));

/// A child that ran for this long counts as healthy: its next pause is the first one again.
const HEALTHY_AFTER: Duration = Duration::from_secs(60);

/// When a child that died is started again. The pause grows, so that a child that cannot start costs no core.
#[derive(Debug, Default)]
pub(super) struct Restart {
    due: Option<Instant>,
    pause: Duration,
    /// How often it was.
    pub(super) count: u64,
}

impl Restart {
    /// It ended by itself after this long.
    pub(super) fn after(&mut self, ran: Duration) {
        if ran >= HEALTHY_AFTER {
            self.pause = Duration::ZERO;
        }
        self.count += 1;
        self.later();
    }

    /// It could not be started.
    pub(super) fn later(&mut self) {
        self.pause = (self.pause * 2).clamp(RESTART_PAUSE.0, RESTART_PAUSE.1);
        self.due = Some(Instant::now() + self.pause);
    }

    /// Whether it may be started.
    pub(super) fn is_due(&self) -> bool {
        self.due.is_none_or(|due| Instant::now() >= due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_until_a_child_was_healthy() {
        let mut restart = Restart::default();
        assert!(restart.is_due());
        let mut pauses = Vec::new();
        for ran in [1, 1, 1, 61, 1] {
            restart.after(Duration::from_secs(ran));
            pauses.push(restart.pause.as_millis());
        }
        assert_eq!(pauses, [250, 500, 1000, 250, 500]);
        assert!(!restart.is_due());
        for _ in 0..20 {
            restart.later();
        }
        assert_eq!((restart.pause, restart.count), (RESTART_PAUSE.1, 5));
    }
}
