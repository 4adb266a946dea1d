//! What was delivered of flows that have ended, so that payload that is captured after the end is counted as what it is.
//!
//! Of most flows everything was captured from the start: whatever comes again is a duplicate, and nothing is kept. The others
//! are kept for as long as they stay in the table, at most [`ENDED_FLOWS_KEPT_MAX`] of them; of those beyond, repeated bytes
//! count as duplicates.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::flow::assembler::{Assembler, BaseSource};
use crate::flow::direction::{Direction, PerDirection};
use crate::flow::gap_list::Gaps;
use crate::limits::ENDED_FLOWS_KEPT_MAX;

/// One direction of a flow that has ended.
#[derive(Debug)]
struct Ended {
    /// The offset that would have come next; none where no byte of the direction was captured or acknowledged.
    next: Option<u64>,
    gaps: Gaps,
}

impl Ended {
    fn of(assembler: &mut Assembler) -> Self {
        let is_known = assembler.base.source != BaseSource::Unknown;
        Self {
            next: is_known.then_some(assembler.next),
            gaps: std::mem::take(&mut assembler.gaps),
        }
    }
}

/// Payload bytes that were captured after the end, by what was delivered before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Repeated {
    /// Before the first byte of the direction.
    pub(super) before_start: u64,
    /// In a gap.
    pub(super) late: u64,
    /// Delivered.
    pub(super) duplicate: u64,
    /// Behind everything.
    pub(super) after_end: u64,
}

/// Flows that have ended and of which not every byte was delivered, by index.
#[derive(Default)]
pub(super) struct EndedFlows(BTreeMap<u32, PerDirection<Ended>>);

impl EndedFlows {
    /// Keeps what is needed of a flow that ends.
    pub(super) fn keep(&mut self, index: u32, assemblers: &mut PerDirection<Assembler>) {
        let is_whole = |one: &Assembler| one.base.source == BaseSource::Syn && one.gaps.are_none();
        if assemblers.both().into_iter().all(is_whole) || self.0.len() >= ENDED_FLOWS_KEPT_MAX {
            return;
        }
        let [originator, responder] = assemblers.both_mut().map(Ended::of);
        let ended = PerDirection {
            originator,
            responder,
        };
        self.0.insert(index, ended);
    }

    /// The flow leaves the table, or goes on.
    pub(super) fn forget(&mut self, index: u32) {
        if !self.0.is_empty() {
            self.0.remove(&index);
        }
    }

    /// What `len` bytes of a flow that has ended are, the first of which lies `ahead` of the byte that would have come next.
    pub(super) fn sort(
        &mut self,
        index: u32,
        direction: Direction,
        ahead: i64,
        len: u64,
    ) -> Repeated {
        let known = len.min(ahead.min(0).unsigned_abs());
        let kept = self.0.get_mut(&index).map(|flow| &mut flow[direction]);
        let Some(Ended { next, gaps }) = kept else {
            return Repeated {
                duplicate: known,
                after_end: len - known,
                ..Repeated::default()
            };
        };
        let Some(next) = *next else {
            return Repeated {
                after_end: len,
                ..Repeated::default()
            };
        };
        let back = ahead.min(0).unsigned_abs();
        let before_start = known.min(back.saturating_sub(next));
        let start = next.saturating_sub(back);
        let bytes: Range<u64> = start..start + (known - before_start);
        let late = gaps.fill(bytes.clone());
        Repeated {
            before_start,
            late,
            duplicate: bytes.end - bytes.start - late,
            after_end: len - known,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::assembler::Base;

    fn ended(source: BaseSource) -> EndedFlows {
        let assembler = |next, gap: Option<Range<u64>>| {
            let mut assembler = Assembler::new(Base { seq: 7, source });
            assembler.next = next;
            if let Some(gap) = gap {
                assembler.gaps.declare(gap);
            }
            assembler
        };
        let mut flows = EndedFlows::default();
        let mut assemblers = PerDirection {
            originator: assembler(100, Some(20..30)),
            responder: assembler(0, None),
        };
        flows.keep(3, &mut assemblers);
        flows
    }

    #[track_caller]
    fn check(ahead: i64, len: u64, expected: [u64; 4]) {
        let found = ended(BaseSource::Syn).sort(3, Direction::Originator, ahead, len);
        let Repeated {
            before_start,
            late,
            duplicate,
            after_end,
        } = found;
        assert_eq!([before_start, late, duplicate, after_end], expected);
    }

    #[test]
    fn each_byte_is_one_thing() {
        check(-100, 10, [0, 0, 10, 0]);
        check(-85, 10, [0, 5, 5, 0]);
        check(-10, 15, [0, 0, 10, 5]);
        check(0, 4, [0, 0, 0, 4]);
        check(9, 4, [0, 0, 0, 4]);
        check(-105, 10, [5, 0, 5, 0]);
        check(-200, 10, [10, 0, 0, 0]);
        check(-200, 400, [100, 10, 90, 200]);
    }

    #[test]
    fn a_byte_of_a_gap_is_late_once() {
        let mut flows = ended(BaseSource::Syn);
        assert_eq!(flows.sort(3, Direction::Originator, -80, 10).late, 10);
        assert_eq!(flows.sort(3, Direction::Originator, -80, 10).duplicate, 10);
        flows.forget(3);
        assert_eq!(flows.sort(3, Direction::Originator, -80, 10).duplicate, 10);
    }

    #[test]
    fn what_was_never_seen_was_not_delivered() {
        let mut flows = ended(BaseSource::Unknown);
        assert_eq!(flows.sort(3, Direction::Responder, -5, 10).after_end, 10);
    }

    #[test]
    fn whole_flows_take_nothing_and_others_are_bounded() {
        let whole = || {
            Assembler::new(Base {
                seq: 7,
                source: BaseSource::Syn,
            })
        };
        let mut flows = EndedFlows::default();
        let mut assemblers = PerDirection {
            originator: whole(),
            responder: whole(),
        };
        flows.keep(0, &mut assemblers);
        assert!(flows.0.is_empty());
        for index in 0..ENDED_FLOWS_KEPT_MAX as u32 + 5 {
            assemblers.originator.gaps.declare(0..1);
            flows.keep(index, &mut assemblers);
            assemblers.originator = whole();
        }
        assert_eq!(flows.0.len(), ENDED_FLOWS_KEPT_MAX);
    }
}
