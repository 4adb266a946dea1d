//! How long calls took, and what became of the calls of each network: counts for metrics, which hold nothing of a call.
//!
//! Each writer measures the calls that it had memory for, whatever its rules decide afterwards. A network has a row; those
//! past [`VNIS_SEEN_MAX`] share the last one.

use crate::limits::VNIS_SEEN_MAX;

/// Buckets of [`Durations`]: one for each edge, and one past the last edge.
pub const DURATION_BUCKETS: usize = 21;

/// The exponent of the first edge: calls of up to 2^17 ns (0.13 ms).
const FIRST_EXPONENT: u32 = 17;

/// Times from the first byte of a request to the first byte of its response, in buckets whose edges are powers of two of a
/// nanosecond: to find the bucket of a time takes no division and no search.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Durations {
    counts: [u64; DURATION_BUCKETS],
    nanos: u64,
}

impl Durations {
    /// Cells of one, in the order of [`Self::cells`].
    pub const CELLS: usize = DURATION_BUCKETS + 1;

    /// The upper edges of the buckets in nanoseconds, but for the last bucket, which has none.
    pub fn edges() -> impl Iterator<Item = u64> {
        (FIRST_EXPONENT..)
            .take(DURATION_BUCKETS - 1)
            .map(|exponent| 1 << exponent)
    }

    /// How many times are in each bucket.
    pub fn counts(&self) -> &[u64; DURATION_BUCKETS] {
        &self.counts
    }

    /// The sum of all times in nanoseconds.
    pub fn nanos(&self) -> u64 {
        self.nanos
    }

    #[inline]
    fn record(&mut self, nanos: u64) {
        // The smallest exponent whose power is not less.
        let exponent = u64::BITS - nanos.saturating_sub(1).leading_zeros();
        let bucket = exponent.saturating_sub(FIRST_EXPONENT) as usize;
        if let Some(count) = self.counts.get_mut(bucket.min(DURATION_BUCKETS - 1)) {
            *count += 1;
        }
        self.nanos = self.nanos.saturating_add(nanos);
    }

    /// Adds those of another shard.
    pub fn add(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
        self.nanos = self.nanos.saturating_add(other.nanos);
    }

    /// The values.
    pub fn cells(&self) -> impl Iterator<Item = u64> + use<> {
        self.counts.into_iter().chain(std::iter::once(self.nanos))
    }

    /// Takes the next values, as [`Self::cells`] gave them; where there are fewer, the rest is 0.
    pub fn from_cells(cells: &mut impl Iterator<Item = u64>) -> Self {
        let mut durations = Self::default();
        for (count, cell) in durations.counts.iter_mut().zip(&mut *cells) {
            *count = cell;
        }
        durations.nanos = cells.next().unwrap_or(0);
        durations
    }
}

/// Rows of a [`NetworkTable`]: one for each network that is counted alone, and one for all others.
pub const NETWORKS_MAX: usize = VNIS_SEEN_MAX + 1;

/// What became of the calls of one network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetworkCalls {
    /// The number of the network; none in the row of all others.
    pub vni: Option<u32>,
    /// Calls with a request and a response.
    pub calls: u64,
    /// Of these, calls with a status of 500 or more.
    pub failed: u64,
    /// Requests without response, and responses without request.
    pub half: u64,
    /// The times of `calls`.
    pub durations: Durations,
}

impl NetworkCalls {
    /// Cells of one.
    pub const CELLS: usize = 4 + Durations::CELLS;

    /// The values; the row of all others has a number that no network has.
    pub fn cells(&self) -> impl Iterator<Item = u64> + use<> {
        let vni = self.vni.map_or(u64::MAX, u64::from);
        let counts = [vni, self.calls, self.failed, self.half];
        counts.into_iter().chain(self.durations.cells())
    }

    /// A row of the values that [`Self::cells`] gave.
    pub fn from_cells(cells: [u64; Self::CELLS]) -> Self {
        let [vni, calls, failed, half, times @ ..] = cells;
        Self {
            vni: u32::try_from(vni).ok(),
            calls,
            failed,
            half,
            durations: Durations::from_cells(&mut times.into_iter()),
        }
    }

    fn add(&mut self, other: &Self) {
        self.calls += other.calls;
        self.failed += other.failed;
        self.half += other.half;
        self.durations.add(&other.durations);
    }

    /// Whether something was counted in it.
    pub fn is_used(&self) -> bool {
        self.calls + self.half > 0
    }
}

/// The calls of each network, in the order in which the networks appeared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkTable {
    rows: Vec<NetworkCalls>,
    /// Index of the row counted last: calls of one network often follow each other.
    last: usize,
}

impl NetworkTable {
    /// The rows.
    pub fn rows(&self) -> &[NetworkCalls] {
        &self.rows
    }

    /// Adds a row of another shard.
    pub fn add(&mut self, row: &NetworkCalls) {
        if let Some(known) = self.row(row.vni) {
            known.add(row);
        }
    }

    /// The row of a network, or that of all others when the table is full.
    #[inline]
    fn row(&mut self, vni: Option<u32>) -> Option<&mut NetworkCalls> {
        if self.rows.get(self.last).is_none_or(|row| row.vni != vni) {
            self.last = self.find(vni);
        }
        self.rows.get_mut(self.last)
    }

    #[cold]
    fn find(&mut self, vni: Option<u32>) -> usize {
        if let Some(at) = self.rows.iter().position(|row| row.vni == vni) {
            return at;
        }
        let named = self.rows.iter().filter(|row| row.vni.is_some()).count();
        if vni.is_some() && named >= VNIS_SEEN_MAX {
            return self.find(None);
        }
        self.rows.push(NetworkCalls {
            vni,
            ..NetworkCalls::default()
        });
        self.rows.len() - 1
    }
}

/// What one writer has measured.
#[derive(Clone, Debug, Default)]
pub struct Measures {
    durations: Durations,
    networks: NetworkTable,
}

impl Measures {
    /// How long calls took.
    pub fn durations(&self) -> &Durations {
        &self.durations
    }

    /// The calls of each network.
    pub fn networks(&self) -> &NetworkTable {
        &self.networks
    }

    /// Counts a call; one that is half has no time.
    #[inline]
    pub(super) fn record(&mut self, vni: Option<u32>, status: u16, nanos: Option<u64>) {
        if let Some(nanos) = nanos {
            self.durations.record(nanos);
        }
        if vni.is_some()
            && let Some(row) = self.networks.row(vni)
        {
            match nanos {
                Some(nanos) => {
                    row.calls += 1;
                    row.failed += u64::from(status >= 500);
                    row.durations.record(nanos);
                }
                None => row.half += 1,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_in_the_first_bucket_whose_edge_it_does_not_pass() {
        let edges: Vec<u64> = Durations::edges().collect();
        assert_eq!(edges.len(), DURATION_BUCKETS - 1);
        assert_eq!((edges[0], *edges.last().unwrap()), (1 << 17, 1 << 36));
        let times = edges.iter().flat_map(|edge| [edge - 1, *edge, edge + 1]);
        for nanos in times.chain([0, 1, u64::MAX]) {
            let mut durations = Durations::default();
            durations.record(nanos);
            let found = edges.iter().position(|edge| nanos <= *edge);
            let expected = found.unwrap_or(DURATION_BUCKETS - 1);
            assert_eq!(durations.counts()[expected], 1, "{nanos}");
            assert_eq!(durations.nanos(), nanos);
        }
    }

    #[test]
    fn cells_make_the_counts_again() {
        let mut durations = Durations::default();
        for nanos in [7, 1 << 20, u64::MAX >> 1] {
            durations.record(nanos);
        }
        let mut cells = durations.cells();
        assert_eq!(Durations::from_cells(&mut cells), durations);
        assert_eq!(durations.cells().count(), Durations::CELLS);
        let mut sum = durations;
        sum.add(&durations);
        assert_eq!(sum.counts().iter().sum::<u64>(), 6);
        for vni in [Some(0), Some(9), None] {
            let row = NetworkCalls {
                vni,
                calls: 1,
                failed: 2,
                half: 3,
                durations,
            };
            let cells: Vec<u64> = row.cells().collect();
            assert_eq!(NetworkCalls::from_cells(cells.try_into().unwrap()), row);
        }
    }

    #[test]
    fn networks_past_the_bound_share_a_row() {
        let mut measures = Measures::default();
        measures.record(None, 200, Some(1));
        assert!(measures.networks().rows().is_empty());
        for _ in 0..2 {
            for vni in 0..VNIS_SEEN_MAX as u32 + 10 {
                measures.record(Some(vni), 503, Some(5));
                measures.record(Some(vni), 0, None);
            }
        }
        let rows = measures.networks().rows();
        assert_eq!(rows.len(), NETWORKS_MAX);
        let others = rows.last().unwrap();
        assert_eq!((others.vni, others.calls, others.half), (None, 20, 20));
        let first = rows.first().unwrap();
        assert_eq!((first.failed, first.durations.nanos()), (2, 10));
        assert_eq!(first.durations.counts()[0], 2);
        let mut sum = NetworkTable::default();
        rows.iter().chain(rows).for_each(|row| sum.add(row));
        assert_eq!(sum.rows().len(), NETWORKS_MAX);
        assert_eq!(sum.rows()[0].calls, 4);
    }
}
