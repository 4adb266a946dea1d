//! The collectors of a sink, in the order of their URLs: which of them takes the next bundle, and how each of them is.
//!
//! The first that is not left alone takes it. So all bundles go to the first URL while it takes them; while it does not, they go to
//! the next, and one bundle at a time tries the first again after its back-off. A bundle that one of them did not take goes to
//! another at once, with its idempotency key, but rests once each of them has had its turn. What a collector refuses for good is
//! refused: the URLs lead to the same store.

use std::time::{Duration, Instant};

use super::refusal::Refusal;
use super::retry::{Action, Outcome, Retry, Start};
use crate::sink::stats::UrlState;

/// One collector.
#[derive(Debug)]
pub(super) struct Collector {
    /// As messages name it.
    name: String,
    /// What all its refusals have in common.
    refusal: Refusal,
    retry: Retry,
    /// Posts to it that have started.
    under_way: usize,
    /// Whether it took the last bundle; none before the first.
    up: Option<bool>,
    /// Why it did not.
    error: String,
    /// A line was too large for it, and no bundle was accepted since.
    found_too_large: bool,
}

impl Collector {
    pub(super) fn new(name: String, refusal: Refusal, retry: Retry) -> Self {
        Self {
            name,
            refusal,
            retry,
            under_way: 0,
            up: None,
            error: String::new(),
            found_too_large: false,
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// What an outcome is, if it is an answer that refuses.
    pub(super) fn refusal(&self, outcome: &Outcome) -> Option<Refusal> {
        Refusal::of(outcome, &self.refusal)
    }

    /// Posts that failed since the last that did not.
    pub(super) fn failures(&self) -> u32 {
        self.retry.failures()
    }

    /// Until it is tried again.
    pub(super) fn next_try(&self, now: Instant) -> Duration {
        let at = self.retry.not_before();
        at.map_or(Duration::ZERO, |at| at.saturating_duration_since(now))
    }

    /// It took a bundle; whether it took the one before, if there was one.
    pub(super) fn accepted(&mut self) -> Option<bool> {
        self.found_too_large = false;
        self.error.clear();
        self.up.replace(true)
    }

    /// It took none, and why.
    pub(super) fn failed(&mut self, error: String) {
        self.error = error;
        self.up = Some(false);
    }

    /// A line was too large; whether nothing that it took lies between this one and the last.
    pub(super) fn found_too_large(&mut self) -> bool {
        std::mem::replace(&mut self.found_too_large, true)
    }
}

/// All of a sink, at least one.
#[derive(Debug)]
pub(super) struct Collectors(Vec<Collector>);

impl Collectors {
    pub(super) fn new(collectors: Vec<Collector>) -> Self {
        Self(collectors)
    }

    pub(super) fn get(&self, index: usize) -> Option<&Collector> {
        self.0.get(index)
    }

    pub(super) fn get_mut(&mut self, index: usize) -> Option<&mut Collector> {
        self.0.get_mut(index)
    }

    /// Whether another post may start, and to which of them.
    pub(super) fn may_start(&self, now: Instant) -> (usize, Start) {
        let mut found = (0, Start::AfterOther);
        for (index, collector) in self.0.iter().enumerate() {
            match (collector.retry.may_start(collector.under_way, now), found.1) {
                (Start::Now, _) => return (index, Start::Now),
                (Start::At(at), Start::AfterOther) => found = (index, Start::At(at)),
                (Start::At(at), Start::At(before)) if at < before => {
                    found = (index, Start::At(at));
                }
                (Start::At(_) | Start::AfterOther, _) => {}
            }
        }
        found
    }

    /// A post to one of them starts.
    pub(super) fn start(&mut self, index: usize) {
        if let Some(collector) = self.0.get_mut(index) {
            collector.under_way += 1;
        }
    }

    /// Decides about a bundle after its `tries`-th post (from 1), which went to this one.
    pub(super) fn next(
        &mut self,
        index: usize,
        outcome: &Outcome,
        tries: u32,
        now: Instant,
    ) -> Action {
        let Some(collector) = self.0.get_mut(index) else {
            return Action::Again(now);
        };
        collector.under_way = collector.under_way.saturating_sub(1);
        let action = collector.retry.next(outcome, tries, now);
        let had_all_their_turn = (tries as usize).is_multiple_of(self.0.len());
        match action {
            Action::Again(_) if !had_all_their_turn && self.instead(now).is_some() => {
                Action::Again(now)
            }
            action => action,
        }
    }

    /// The one that takes bundles now.
    pub(super) fn instead(&self, now: Instant) -> Option<&Collector> {
        let (index, start) = self.may_start(now);
        self.0.get(index).filter(|_| start == Start::Now)
    }

    /// Whether none of them took its last bundle. One that was not tried yet is about to be.
    pub(super) fn are_down(&self) -> bool {
        self.0.iter().all(|collector| collector.up == Some(false))
    }

    /// From now on they are tried often: there is little time left.
    pub(super) fn shorten_waits(&mut self, now: Instant) {
        for collector in &mut self.0 {
            collector.retry.shorten_waits(now);
        }
    }

    /// All are tried at once: something was corrected.
    pub(super) fn end_waits(&mut self, now: Instant) {
        for collector in &mut self.0 {
            collector.retry.end_wait(now);
        }
    }

    /// The posts that had started have ended without an outcome.
    pub(super) fn restart(&mut self) {
        for collector in &mut self.0 {
            collector.under_way = 0;
        }
    }

    /// How each of them is, for status and metrics; nothing where there is only one.
    pub(super) fn places(&self) -> Vec<UrlState> {
        let several = if self.0.len() > 1 {
            self.0.as_slice()
        } else {
            &[]
        };
        several
            .iter()
            .map(|collector| UrlState {
                url: collector.refusal.url.clone(),
                up: collector.up,
                error: collector.error.clone(),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits;
    use crate::sink::http::retry::Failure;

    fn collectors(count: u64) -> Collectors {
        let one = |index| {
            let refusal = Refusal {
                url: format!("http://c{index}:80/message"),
                status: 0,
                location: None,
                has_credentials: false,
                bytes: 0,
                bundle_bytes: 0,
            };
            Collector::new(
                format!("c{index}:80"),
                refusal,
                Retry::new(index + 1, false),
            )
        };
        Collectors::new((0..count).map(one).collect())
    }

    fn refused() -> Outcome {
        Outcome::Failed(Failure::Connect("refused".to_owned()))
    }

    const TAKEN: Outcome = Outcome::Status(204, None);

    /// Starts a post and ends it; which one it went to, and what becomes of the bundle.
    #[track_caller]
    fn post(all: &mut Collectors, outcome: &Outcome, tries: u32, now: Instant) -> (usize, Action) {
        let (index, start) = all.may_start(now);
        assert_eq!(start, Start::Now);
        all.start(index);
        (index, all.next(index, outcome, tries, now))
    }

    #[test]
    fn the_first_is_used_until_it_fails_and_again_once_it_takes_bundles() {
        let mut all = collectors(2);
        let now = Instant::now();
        assert_eq!(post(&mut all, &TAKEN, 1, now), (0, Action::Done));
        // The bundle goes to the other one at once.
        assert_eq!(post(&mut all, &refused(), 1, now), (0, Action::Again(now)));
        assert_eq!(post(&mut all, &TAKEN, 2, now), (1, Action::Done));
        assert_eq!(all.instead(now).unwrap().name(), "c1:80");
        // After its back-off one bundle tries the first, and meanwhile all others go to the second.
        let later = now + limits::UPLOAD_BACK_OFF_MIN;
        assert_eq!(all.may_start(later), (0, Start::Now));
        all.start(0);
        assert_eq!(all.may_start(later), (1, Start::Now));
        assert_eq!(all.next(0, &TAKEN, 1, later), Action::Done);
        assert_eq!(all.may_start(later), (0, Start::Now));
    }

    #[test]
    fn a_bundle_rests_once_each_has_had_its_turn() {
        let mut all = collectors(3);
        let now = Instant::now();
        for (tries, index) in [(1, 0), (2, 1)] {
            let again = (index, Action::Again(now));
            assert_eq!(post(&mut all, &refused(), tries, now), again);
        }
        let (index, action) = post(&mut all, &refused(), 3, now);
        assert!(
            matches!(action, Action::Again(at) if at > now),
            "{action:?}"
        );
        assert_eq!(index, 2);
        // The next is tried when the first of the back-offs is over.
        let (first, Start::At(at)) = all.may_start(now) else {
            panic!("all are left alone")
        };
        assert_eq!(all.may_start(at), (first, Start::Now));
        // One that is refused everywhere for its own sake does not go round without a rest.
        let mut all = collectors(2);
        let busy = Outcome::Status(500, None);
        post(&mut all, &busy, 1, now);
        let (_, action) = post(&mut all, &busy, 2, now);
        assert!(
            matches!(action, Action::Again(at) if at > now),
            "{action:?}"
        );
    }

    #[test]
    fn what_is_refused_for_good_goes_nowhere_else() {
        let mut all = collectors(2);
        let now = Instant::now();
        let bad = Outcome::Status(400, None);
        assert_eq!(post(&mut all, &bad, 1, now), (0, Action::Refuse));
        // What somebody has to correct is no reason to keep bundles from the other one.
        let unknown = Outcome::Status(401, None);
        assert_eq!(post(&mut all, &unknown, 1, now), (0, Action::Again(now)));
        assert_eq!(all.may_start(now), (1, Start::Now));
    }

    #[test]
    fn the_sink_is_down_when_none_takes_bundles() {
        let mut all = collectors(2);
        assert!(all.places().iter().all(|place| place.up.is_none()));
        all.get_mut(0).unwrap().failed("refused".to_owned());
        assert!(!all.are_down(), "the second was not tried yet");
        assert_eq!(all.get_mut(1).unwrap().accepted(), None);
        assert!(!all.are_down());
        let places = all.places();
        assert_eq!(
            (
                places[0].url.as_str(),
                places[0].up,
                places[0].error.as_str()
            ),
            ("http://c0:80/message", Some(false), "refused")
        );
        assert_eq!((places[1].up, places[1].error.as_str()), (Some(true), ""));
        all.get_mut(1).unwrap().failed("refused".to_owned());
        assert!(all.are_down());
        assert_eq!(all.get_mut(0).unwrap().accepted(), Some(false));
        assert!(!all.are_down());
        assert!(collectors(1).places().is_empty());
    }

    #[test]
    fn a_correction_ends_all_waits() {
        let mut all = collectors(2);
        let now = Instant::now();
        for tries in 1..9 {
            for index in 0..2 {
                all.start(index);
                all.next(index, &Outcome::Status(403, None), tries, now);
            }
        }
        assert!(matches!(all.may_start(now), (_, Start::At(_))));
        all.end_waits(now);
        assert_eq!(all.may_start(now), (0, Start::Now));
        // Still one at a time.
        all.start(0);
        all.start(1);
        assert_eq!(all.may_start(now).1, Start::AfterOther);
        all.restart();
        assert_eq!(all.may_start(now), (0, Start::Now));
    }
}
