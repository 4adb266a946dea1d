//! Counts of numbers in fixed base-2 exponential buckets, which can be added whatever they are of.
//!
//! The buckets are those of OpenTelemetry's exponential histogram at [`SCALE`]: bucket `i` counts the numbers above
//! `2^(i / 2^SCALE)` up to `2^((i + 1) / 2^SCALE)`, zero apart. The scale never changes, so that buckets of any two histograms are
//! the same, and a quantile is off by [`ERROR`] of its value at most.

use serde::Serialize;

/// Four buckets for each doubling.
pub const SCALE: i32 = 2;

/// How far a quantile may be off: half of a bucket's width, as a part of the value.
pub const ERROR: f64 = 0.095;

/// Buckets of positive 63-bit numbers; the first one counts 1 alone.
const BUCKETS: usize = 64 << SCALE;

/// Counts of numbers that are not negative.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Histogram {
    /// Numbers of 0.
    pub zero: u64,
    /// The index of the first of [`counts`](Self::counts); -1 is the bucket that ends at 1.
    pub offset: i32,
    /// Counts of neighbouring buckets.
    pub counts: Vec<u64>,
}

impl Histogram {
    /// Adds a number; one below 0 counts as 0.
    pub fn add(&mut self, number: i64) {
        match u64::try_from(number) {
            Ok(number) if number > 0 => *self.bucket(index(number)) += 1,
            _ => self.zero += 1,
        }
    }

    /// Adds the numbers of another one.
    pub fn merge(&mut self, other: &Self) {
        self.zero += other.zero;
        if let (Some(first), Some(last)) = (other.range().next(), other.range().last()) {
            self.bucket(first);
            self.bucket(last);
            for (index, count) in other.range().zip(&other.counts) {
                *self.bucket(index) += count;
            }
        }
    }

    /// How many numbers were added.
    pub fn count(&self) -> u64 {
        self.zero + self.counts.iter().sum::<u64>()
    }

    /// The number below which this part of all numbers lies, in the middle of its bucket; none without numbers.
    pub fn quantile(&self, part: f64) -> Option<f64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = (part.clamp(0.0, 1.0) * count as f64).ceil().max(1.0) as u64;
        let mut sum = self.zero;
        if rank <= sum {
            return Some(0.0);
        }
        for (index, bucket) in self.range().zip(&self.counts) {
            sum += bucket;
            if rank <= sum {
                return Some(middle(index));
            }
        }
        self.range().last().map(middle)
    }

    fn range(&self) -> impl Iterator<Item = i32> + use<> {
        let offset = self.offset;
        (offset..).take(self.counts.len())
    }

    /// The count of a bucket, which is there from now on.
    fn bucket(&mut self, index: i32) -> &mut u64 {
        if self.counts.is_empty() {
            self.offset = index;
        }
        if index < self.offset {
            let missing = index.abs_diff(self.offset) as usize;
            self.counts.splice(0..0, std::iter::repeat_n(0, missing));
            self.offset = index;
        }
        let at = index.abs_diff(self.offset) as usize;
        if at >= self.counts.len() {
            self.counts.resize(at + 1, 0);
        }
        &mut self.counts[at]
    }

    /// One of dense counts, whose places are those of [`slot`].
    pub(crate) fn of_slots(slots: &[u64; SLOTS]) -> Self {
        let mut histogram = Self {
            zero: slots[0],
            ..Self::default()
        };
        for (index, &count) in (-1..).zip(&slots[1..]) {
            if count > 0 {
                *histogram.bucket(index) += count;
            }
        }
        histogram
    }

    /// Adds numbers whose place is that of [`slot`].
    pub(crate) fn add_to_slot(&mut self, slot: usize, count: u64) {
        match i32::try_from(slot) {
            Ok(0) => self.zero += count,
            Ok(slot) if count > 0 && (slot.unsigned_abs() as usize) < SLOTS => {
                *self.bucket(slot - 2) += count;
            }
            _ => {}
        }
    }

    /// Adds its numbers to dense counts.
    pub(crate) fn add_to_slots(&self, slots: &mut [u64; SLOTS]) {
        slots[0] += self.zero;
        for (index, count) in self.range().zip(&self.counts) {
            if let Some(slot) = slots.get_mut((index + 2).unsigned_abs() as usize) {
                *slot += count;
            }
        }
    }

    /// In bytes: numbers of seven bits with a mark for one that goes on.
    pub fn encode(&self, bytes: &mut Vec<u8>) {
        put(bytes, self.zero);
        put(bytes, self.counts.len() as u64);
        if !self.counts.is_empty() {
            // The first index is -1.
            put(bytes, u64::from((self.offset + 1).unsigned_abs()));
            for &count in &self.counts {
                put(bytes, count);
            }
        }
    }

    /// Reads what [`encode`](Self::encode) has written, and moves on behind it. What it did not write gives some histogram.
    pub fn decode(bytes: &mut &[u8]) -> Self {
        let zero = take(bytes);
        let buckets = usize::try_from(take(bytes)).unwrap_or(0).min(BUCKETS);
        let offset = if buckets > 0 {
            let first = i32::try_from(take(bytes)).unwrap_or(0);
            first.clamp(0, BUCKETS as i32) - 1
        } else {
            0
        };
        let counts = (0..buckets).map(|_| take(bytes)).collect();
        Self {
            zero,
            offset,
            counts,
        }
    }
}

/// Places of dense counts: zero, and all buckets.
pub(crate) const SLOTS: usize = BUCKETS + 2;

/// The place of a number in dense counts.
pub(crate) fn slot(number: i64) -> usize {
    match u64::try_from(number) {
        Ok(number) if number > 0 => (index(number) + 2).unsigned_abs() as usize,
        _ => 0,
    }
}

/// Writes a number of variable length.
pub(crate) fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// Reads a number of variable length; 0 where there is none.
pub(crate) fn take(bytes: &mut &[u8]) -> u64 {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let Some((&byte, rest)) = bytes.split_first() else {
            return number;
        };
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    number
}

/// The bucket of a positive number: `ceil(log2(number) * 2^SCALE) - 1`.
fn index(number: u64) -> i32 {
    let power = number.ilog2();
    // The upper bounds of the buckets from a power of 2 on, as parts of 2^32: 1, 2^(1/4), 2^(2/4), 2^(3/4).
    const BOUNDS: [u64; 4] = [1 << 32, 5_107_605_667, 6_074_000_999, 7_223_245_205];
    let highest = number << (63 - power);
    // What is cut off makes a number of no bound.
    let mantissa = (highest >> 31) + u64::from(highest & ((1 << 31) - 1) != 0);
    let above = BOUNDS.map(|bound| i32::from(mantissa > bound));
    (power << SCALE) as i32 - 1 + above.iter().sum::<i32>()
}

/// The middle of a bucket, by its ratio.
fn middle(index: i32) -> f64 {
    if index < 0 {
        return 1.0;
    }
    ((f64::from(index) + 0.5) / f64::from(1 << SCALE)).exp2()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_those_of_the_scale() {
        for number in (1..5000).chain([65_535, 65_536, 65_537, 1 << 40, (1 << 40) + 1]) {
            let exact = ((number as f64).log2() * f64::from(1 << SCALE)).ceil() as i32 - 1;
            assert_eq!(index(number), exact, "{number}");
        }
        assert!(index(u64::MAX) < BUCKETS as i32);
    }

    #[test]
    fn quantiles_are_within_the_error_and_sums_are_those_of_all_numbers() {
        let numbers: Vec<i64> = (0..4000).map(|n| (n * 7919) % 4001).collect();
        let [mut all, mut even, mut odd] = [(); 3].map(|()| Histogram::default());
        for &number in &numbers {
            all.add(number);
            if number % 2 == 0 {
                even.add(number);
            } else {
                odd.add(number);
            }
        }
        even.merge(&odd);
        assert_eq!(even, all);
        assert_eq!(all.count(), 4000);
        let mut sorted = numbers;
        sorted.sort_unstable();
        for part in [0.01, 0.5, 0.9, 0.99, 1.0] {
            let exact = sorted[(part * 4000.0) as usize - 1] as f64;
            let quantile = all.quantile(part).expect("numbers");
            assert!(
                (quantile / exact - 1.0).abs() <= ERROR,
                "{part}: {quantile} {exact}"
            );
        }
        assert_eq!(Histogram::default().quantile(0.5), None);
    }

    #[test]
    fn what_is_encoded_comes_back() {
        let mut histogram = Histogram::default();
        let mut bytes = Vec::new();
        for number in [-3, 0, 1, 2, 17, 1 << 33, i64::MAX] {
            histogram.encode(&mut bytes);
            histogram.add(number);
        }
        histogram.encode(&mut bytes);
        let mut rest = &bytes[..];
        for count in 0..8 {
            assert_eq!(Histogram::decode(&mut rest).count(), count);
        }
        assert!(rest.is_empty());
        let mut garbage = &[0xff; 40][..];
        Histogram::decode(&mut garbage);
        assert_eq!(Histogram::decode(&mut &b""[..]), Histogram::default());
    }
}
