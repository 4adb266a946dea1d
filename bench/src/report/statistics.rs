//! Medians, and the heads of tables.

use std::fmt::Write as _;

use anyhow::Result;

use crate::results::Trial;

/// Appends the head of a table.
pub(super) fn table(page: &mut String, names: &[&str]) -> Result<()> {
    writeln!(page, "| {} |", names.join(" | "))?;
    writeln!(page, "|{}", " --- |".repeat(names.len()))?;
    Ok(())
}

/// The median and the range of some numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The number in the middle, or the mean of the two in the middle.
    pub median: f64,
    /// The lowest.
    pub low: f64,
    /// The highest.
    pub high: f64,
}

impl Spread {
    /// The spread of `numbers`; all zero without numbers.
    pub fn of(numbers: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = numbers.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (Some(&low), Some(&high)) = (sorted.first(), sorted.last()) else {
            return Self {
                median: 0.0,
                low: 0.0,
                high: 0.0,
            };
        };
        let median = f64::midpoint(sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
        Self { median, low, high }
    }

    /// `median (low–high)`, or one number if they are all the same.
    pub fn text(self, digits: usize) -> String {
        let number = |value: f64| format!("{value:.digits$}");
        let [median, low, high] = [self.median, self.low, self.high].map(number);
        if low == high {
            median
        } else {
            format!("{median} ({low}–{high})")
        }
    }
}

/// Whether more than half of the repetitions were lossless.
pub(super) fn is_lossless(rows: &[&Trial]) -> bool {
    2 * lossless(rows) > rows.len()
}

pub(super) fn lossless(rows: &[&Trial]) -> usize {
    rows.iter().filter(|row| row.is_lossless(LOSSLESS)).count()
}

/// The share of calls that other programs must deliver to count as lossless.
pub(super) const LOSSLESS: f64 = 0.999;

/// The median of one quantity over some rows.
pub(super) fn median(rows: &[&Trial], value: impl Fn(&Trial) -> f64) -> f64 {
    Spread::of(rows.iter().map(|row| value(row))).median
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        let odd = Spread::of([3.0, 1.0, 2.0]);
        assert_eq!((odd.median, odd.low, odd.high), (2.0, 1.0, 3.0));
        assert_eq!(Spread::of([4.0, 1.0]).median, 2.5);
        assert_eq!(Spread::of([4.0, 1.0]).text(1), "2.5 (1.0–4.0)");
        assert_eq!(Spread::of([7.0, 7.0]).text(0), "7");
        assert_eq!(Spread::of([]).median, 0.0);
    }
}
