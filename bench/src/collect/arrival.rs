//! When calls arrived, and how long after the traffic.

/// When the POST with a call arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Number of the call.
    pub number: u64,
    /// Microseconds since 1970.
    pub micros: u64,
}

/// Times from the last packet of a response to the POST with its call.
#[derive(Clone, Debug, Default)]
pub struct Latencies {
    micros: Vec<u64>,
}

impl Latencies {
    /// `sent` has the times at which the calls from number `first` on were sent, in microseconds since 1970.
    pub fn new(arrivals: &[Arrival], first: u64, sent: &[u64]) -> Self {
        let waits = arrivals.iter().filter_map(|arrival| {
            let index = usize::try_from(arrival.number.checked_sub(first)?).ok()?;
            Some(arrival.micros.saturating_sub(*sent.get(index)?))
        });
        let mut micros: Vec<u64> = waits.collect();
        micros.sort_unstable();
        Self { micros }
    }

    /// Milliseconds that `per_mille` of 1000 calls do not exceed; none without calls.
    pub fn millis(&self, per_mille: usize) -> Option<f64> {
        let last = self.micros.len().checked_sub(1)?;
        let index = (self.micros.len() * per_mille / 1000).min(last);
        // The sender's batches make anything finer than a tenth of a millisecond meaningless.
        self.micros
            .get(index)
            .map(|&micros| (micros as f64 / 100.0).round() / 10.0)
    }
}
