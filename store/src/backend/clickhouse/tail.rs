//! The order in which calls arrive, as far as this process sees it: what it stored itself at once, what other stores stored by a
//! query once a second while somebody waits for it.
//!
//! A place is a number in this order with the name of the process: that of another one is answered with "fetch the list again". Only
//! bundles are remembered, not calls, so many that a reader may be [`STREAM_BEHIND_MAX`] calls behind.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::binary::{Malformed, Reader};
use super::client::Client;
use super::row::{base36, number36};
use super::sql::within;
use crate::call::Arrival;
use crate::clock::unix_ms;
use crate::limits::{
    CLICKHOUSE_POLL_WAIT, CLICKHOUSE_TAIL_BEHIND, CLICKHOUSE_TAIL_BUNDLES_MAX, STREAM_BEHIND_MAX,
};

/// A bundle that has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bundled {
    pub(super) bundle: u64,
    pub(super) calls: u64,
    pub(super) first_ms: i64,
    pub(super) last_ms: i64,
}

/// Digits of the name of a process.
const NAME_DIGITS: usize = 13;

#[derive(Debug)]
struct State {
    last: u64,
    /// The newest bundles, with the number behind the last call of each.
    bundles: VecDeque<(u64, Bundled)>,
    known: HashSet<u64>,
    known_order: VecDeque<u64>,
}

/// Clones are handles to the same one.
#[derive(Clone, Debug)]
pub(super) struct Tail(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    name: String,
    state: Mutex<State>,
    newest: watch::Sender<Arrival>,
}

/// What has arrived behind a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Behind {
    pub(super) newest: Arrival,
    /// Calls; none where the place is of another process.
    pub(super) count: Option<u64>,
    /// All bundles in their order; none where they are not remembered.
    pub(super) bundles: Option<Vec<Bundled>>,
}

impl Tail {
    /// For a process with this random number.
    pub(super) fn new(random: u64) -> Self {
        let name = format!("{:0>NAME_DIGITS$}", base36(random));
        let newest = watch::Sender::new(place(&name, 0));
        Self(Arc::new(Shared {
            name,
            state: Mutex::new(State {
                last: 0,
                bundles: VecDeque::new(),
                known: HashSet::new(),
                known_order: VecDeque::new(),
            }),
            newest,
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn newest(&self) -> Arrival {
        self.0.newest.borrow().clone()
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Arrival> {
        self.0.newest.subscribe()
    }

    /// Whether some process may have written a place.
    pub(super) fn recognises(place: &Arrival) -> bool {
        parse(place.as_str()).is_some()
    }

    /// Adds bundles that are new.
    pub(super) fn push(&self, arrived: impl IntoIterator<Item = Bundled>) {
        let mut state = self.state();
        let before = state.last;
        for bundled in arrived {
            if !state.known.insert(bundled.bundle) {
                continue;
            }
            state.known_order.push_back(bundled.bundle);
            if state.known_order.len() > CLICKHOUSE_TAIL_BUNDLES_MAX
                && let Some(oldest) = state.known_order.pop_front()
            {
                state.known.remove(&oldest);
            }
            state.last += bundled.calls;
            let last = state.last;
            state.bundles.push_back((last, bundled));
            while let Some((end, _)) = state.bundles.front()
                && last - end > STREAM_BEHIND_MAX
            {
                state.bundles.pop_front();
            }
        }
        if state.last != before {
            self.0.newest.send_replace(place(&self.0.name, state.last));
        }
    }

    /// What has arrived behind a place; none where the text is no place.
    pub(super) fn behind(&self, after: &Arrival) -> Option<Behind> {
        let (name, number) = parse(after.as_str())?;
        let state = self.state();
        let mut behind = Behind {
            newest: place(&self.0.name, state.last),
            count: None,
            bundles: None,
        };
        if name != self.0.name {
            return Some(behind);
        }
        behind.count = state.last.checked_sub(number);
        let first = state.bundles.front();
        let oldest = first.map_or(state.last, |(end, bundled)| end - bundled.calls);
        if behind.count.is_some_and(|count| count <= STREAM_BEHIND_MAX) && oldest <= number {
            let new = state.bundles.iter().filter(|(end, _)| *end > number);
            behind.bundles = Some(new.map(|(_, bundled)| *bundled).collect());
        }
        Some(behind)
    }

    /// Looks for what other stores have stored, while there are more receivers than the store's own. Ends when the store is closed.
    pub(super) async fn poll(self, client: Client, mut closed: watch::Receiver<bool>) {
        let mut last_ms = unix_ms();
        loop {
            tokio::select! {
                () = tokio::time::sleep(CLICKHOUSE_POLL_WAIT) => {}
                _ = closed.wait_for(|is_closed| *is_closed) => return,
            }
            let now_ms = unix_ms();
            if self.0.newest.receiver_count() == 0 {
                last_ms = now_ms;
                continue;
            }
            let behind_ms = i64::try_from(CLICKHOUSE_TAIL_BEHIND.as_millis()).unwrap_or_default();
            if let Ok(found) = arrived(&client, last_ms - behind_ms).await {
                self.push(found);
                last_ms = now_ms;
            }
        }
    }
}

/// Bundles that a store received behind a time, of about now.
async fn arrived(client: &Client, after_ms: i64) -> Result<Vec<Bundled>, crate::backend::Failure> {
    const HOUR_MS: i64 = 3_600_000;
    let sql = format!(
        "SELECT bundle, count(), min(time), max(time), min(received) FROM calls PREWHERE {} WHERE received > {after_ms}
         GROUP BY bundle ORDER BY min(received), bundle LIMIT {STREAM_BEHIND_MAX} FORMAT RowBinary",
        within(Some(after_ms.saturating_sub(HOUR_MS)), None)
    );
    let settings = [
        ("skip_unavailable_shards", "1"),
        ("max_execution_time", "5"),
    ];
    let answer = client.read(sql, &settings, Duration::from_secs(5)).await?;
    Ok(read(&answer)?)
}

fn read(answer: &[u8]) -> Result<Vec<Bundled>, Malformed> {
    let mut reader = Reader(answer);
    let mut found = Vec::new();
    while reader.has_more() {
        found.push(Bundled {
            bundle: reader.u64()?,
            calls: reader.u64()?,
            first_ms: reader.i64()?,
            last_ms: reader.i64()?,
        });
        reader.i64()?;
    }
    Ok(found)
}

fn place(name: &str, number: u64) -> Arrival {
    let text = format!("{name}-{}", base36(number));
    // Its letters, digits and hyphen are those of places.
    Arrival::try_from(text).unwrap_or_else(|_| 0.into())
}

fn parse(text: &str) -> Option<(&str, u64)> {
    let (name, number) = text.split_once('-')?;
    let is_name =
        name.len() == NAME_DIGITS && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_name.then_some(())?;
    Some((name, number36(number)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundled(bundle: u64, calls: u64) -> Bundled {
        Bundled {
            bundle,
            calls,
            first_ms: 0,
            last_ms: 0,
        }
    }

    #[test]
    fn places_are_behind_what_was_there() {
        let tail = Tail::new(7);
        let start = tail.newest();
        assert!(Tail::recognises(&start));
        tail.push([bundled(1, 3), bundled(2, 1)]);
        let middle = tail.newest();
        tail.push([bundled(2, 1)]);
        assert_eq!(tail.newest(), middle, "a bundle that was there is not new");
        tail.push([bundled(3, 2)]);
        let all = tail.behind(&start).expect("a place");
        assert_eq!(all.count, Some(6));
        assert_eq!(all.bundles.map(|all| all.len()), Some(3));
        let new = tail.behind(&middle).expect("a place");
        assert_eq!(new.bundles, Some(vec![bundled(3, 2)]));
        let other = Tail::new(8).behind(&start).expect("a place");
        assert_eq!((other.count, other.bundles), (None, None));
    }

    #[test]
    fn a_reader_that_is_too_far_behind_gets_a_number() {
        let tail = Tail::new(7);
        let start = tail.newest();
        tail.push([bundled(1, STREAM_BEHIND_MAX + 1)]);
        let behind = tail.behind(&start).expect("a place");
        assert_eq!(behind.count, Some(STREAM_BEHIND_MAX + 1));
        assert_eq!(behind.bundles, None);
        for bundle in 2..5000 {
            tail.push([bundled(bundle, 2)]);
        }
        assert!(tail.state().bundles.len() <= 501);
    }
}
