//! The budget of work of one call: how many bytes its rules may look at.
//!
//! No clock is read, so a call costs the same wherever it is read and the same rules always decide the same. The unit is a
//! byte that a compiled automaton reads, about a nanosecond; whatever else takes time is counted in it: an instruction of a
//! backtracking search as [`INSTRUCTION`] bytes, the step of a path as [`PATH_STEP`]. Values that a prefilter rules out
//! cost nothing, since each is read at most once for each rule.

use crate::limits::{WORK_BYTES_FREE, WORK_BYTES_MAX, WORK_BYTES_PER_BYTE};

/// Bytes that an instruction of a backtracking search stands for.
pub(super) const INSTRUCTION: usize = 4;

/// Bytes that the comparison of one member of a body with one step of a path stands for.
pub(super) const PATH_STEP: usize = 4;

/// What is left of the budget of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Budget {
    left: u64,
    granted: u64,
}

/// The budget is spent: the answer is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spent;

impl Default for Budget {
    fn default() -> Self {
        Self {
            left: WORK_BYTES_FREE,
            granted: WORK_BYTES_FREE,
        }
    }
}

impl Budget {
    /// A budget that begins with `bytes`.
    pub(super) fn only(bytes: u64) -> Self {
        Self {
            left: bytes,
            granted: bytes,
        }
    }

    /// At most what `other` has left.
    pub(super) fn at_most(mut self, other: Self) -> Self {
        self.left = self.left.min(other.left);
        self
    }

    /// Whether nothing is left.
    pub(super) fn is_spent(self) -> bool {
        self.left == 0
    }

    /// Adds what `patterns` ordinary patterns may need for a value of `bytes` bytes.
    #[inline]
    pub(super) fn grant(&mut self, bytes: usize, patterns: usize) {
        let bytes = (bytes as u64).saturating_mul(patterns as u64);
        let wanted = WORK_BYTES_PER_BYTE.saturating_mul(bytes);
        let more = wanted.min(WORK_BYTES_MAX.saturating_sub(self.granted));
        self.granted += more;
        self.left += more;
    }

    /// Takes `bytes` from what is left. Once that is not enough, nothing is left for the rest of the call.
    #[inline]
    pub(super) fn spend(&mut self, bytes: usize) -> Result<(), Spent> {
        match self.left.checked_sub(bytes as u64) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => {
                *self = Self {
                    left: 0,
                    granted: WORK_BYTES_MAX,
                };
                Err(Spent)
            }
        }
    }

    /// What is left, in bytes.
    pub(super) fn left(&self) -> usize {
        usize::try_from(self.left).unwrap_or(usize::MAX)
    }

    /// What has been spent, in bytes.
    pub(super) fn spent(&self) -> u64 {
        self.granted - self.left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spent_stays_spent() {
        let mut budget = Budget::default();
        budget.grant(1000, 1);
        assert_eq!(budget.spend(64_000), Ok(()));
        assert_eq!(budget.left() as u64, WORK_BYTES_FREE);
        assert_eq!(budget.spent(), 64_000);
        assert_eq!(budget.spend(WORK_BYTES_FREE as usize + 1), Err(Spent));
        budget.grant(1000, 1);
        assert_eq!((budget.left(), budget.spend(1)), (0, Err(Spent)));
        let mut budget = Budget::default();
        (0..1000).for_each(|_| budget.grant(1 << 20, 1));
        assert_eq!(budget.left() as u64, WORK_BYTES_MAX);
    }
}
