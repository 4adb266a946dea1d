//! The gaps that were declared in one direction: bytes that still arrive for one of them are late, others are copies.

use std::ops::Range;

use crate::limits::GAPS_KEPT_MAX;

/// The gaps declared last, in order and apart from each other. Allocates nothing before the first one.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    open: Vec<Range<u64>>,
    /// Bytes before this offset may lie in gaps that are no longer kept.
    forgotten: u64,
}

impl Gaps {
    /// Whether no byte is missing, nor may be.
    pub(super) fn are_none(&self) -> bool {
        self.open.is_empty() && self.forgotten == 0
    }

    /// Adds a gap, which lies behind all others.
    pub(super) fn declare(&mut self, gap: Range<u64>) {
        debug_assert!(self.open.last().is_none_or(|last| last.end <= gap.start));
        if self.open.len() >= GAPS_KEPT_MAX {
            self.forgotten = self.open.remove(0).end;
        }
        self.open.push(gap);
    }

    /// Takes bytes that arrived out of the gaps. Returns how many of them were in one, or may have been: the others were
    /// delivered before.
    pub(super) fn fill(&mut self, bytes: Range<u64>) -> u64 {
        let mut late = self.forgotten.min(bytes.end).saturating_sub(bytes.start);
        let mut index = 0;
        while let Some(gap) = self.open.get_mut(index) {
            let (start, end) = (gap.start.max(bytes.start), gap.end.min(bytes.end));
            if start >= end {
                index += 1;
                continue;
            }
            late += end - start;
            let behind = end..gap.end;
            gap.end = start;
            let is_empty = gap.start == gap.end;
            match (is_empty, behind.is_empty()) {
                (true, true) => {
                    self.open.remove(index);
                    continue;
                }
                (true, false) => *gap = behind,
                (false, true) => {}
                // With one gap more than are kept, the rest of this one counts as filled.
                (false, false) if self.open.len() < GAPS_KEPT_MAX => {
                    self.open.insert(index + 1, behind);
                }
                (false, false) => {}
            }
            index += 1;
        }
        late
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_is_late_once() {
        let mut gaps = Gaps::default();
        assert_eq!(gaps.fill(0..100), 0);
        gaps.declare(10..20);
        gaps.declare(30..40);
        assert_eq!(gaps.fill(0..10), 0);
        assert_eq!(gaps.fill(15..35), 10);
        assert_eq!(gaps.fill(15..35), 0);
        assert_eq!(gaps.fill(10..12), 2);
        assert_eq!(gaps.fill(0..100), 3 + 5);
        assert!(gaps.open.is_empty());
    }

    #[test]
    fn a_gap_filled_in_its_middle_is_two() {
        let mut gaps = Gaps::default();
        gaps.declare(10..20);
        assert_eq!(gaps.fill(14..16), 2);
        assert_eq!(gaps.open, [10..14, 16..20]);
        assert_eq!(gaps.fill(0..100), 8);
    }

    #[test]
    fn bytes_in_forgotten_gaps_are_no_copies() {
        let mut gaps = Gaps::default();
        for number in 0..=GAPS_KEPT_MAX as u64 {
            gaps.declare(number * 10..number * 10 + 5);
        }
        assert_eq!(gaps.open.len(), GAPS_KEPT_MAX);
        assert_eq!(gaps.fill(0..5), 5);
        assert_eq!(gaps.fill(5..10), 0);
        assert_eq!(gaps.fill(10..20), 5);
    }
}
