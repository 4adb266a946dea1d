//! Bundles in, groups of them out: one synchronous INSERT for what waits for a shard.
//!
//! A group is sent again as the same bytes under the same token until it is stored or its time is over, which is shorter than the
//! time that a sniffer waits for its answer. Then its bundles are answered with 503, and come again with the same key. What keeps
//! a bundle from being stored twice:
//!
//! - this process remembers what it has stored, and two posts of a bundle at the same time are one;
//! - the server recognises a group that comes again by its token, or, an old one on a cluster, by its bytes;
//! - where it may be there already, since its sender or this process tries again, the server is queried first;
//! - calls with the same identity become one when parts are merged, and lists leave out what is there twice.
//!
//! A dead shard keeps back its own groups only.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::Hasher as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use siphasher::sip::SipHasher13;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::binary::Reader;
use super::client::{Client, Error};
use super::committed;
use super::dialect::Dialect;
use super::row::{COLUMNS, Identity, base36, put};
use super::schema::Names;
use super::sql::within;
use super::tail::{Bundled, Tail};
use crate::backend::{Failure, Health, Stored};
use crate::bundle::Bundle;
use crate::clock::unix_ms;
use crate::endpoint::Endpoints;
use crate::limits::{
    CLICKHOUSE_BUNDLES_KNOWN_MAX, CLICKHOUSE_GROUP_BYTES_MAX, CLICKHOUSE_GROUP_PACE_MAX,
    CLICKHOUSE_GROUP_PACE_MIN, CLICKHOUSE_GROUP_ROWS_MAX, CLICKHOUSE_GROUP_TIME_MAX,
    CLICKHOUSE_INSERT_TIME_MAX, CLICKHOUSE_QUEUE_BYTES_MAX, CLICKHOUSE_RETRY_PAUSE_MAX,
    CLICKHOUSE_RETRY_PAUSE_MIN, POST_WAIT,
};

/// Parts of a table are being made faster than they can be merged.
const TOO_MANY_PARTS: i32 = 252;

/// How far back a bundle is looked for whose calls have no time of their own.
const REPEATED_MS: i64 = 3_600_000;

/// Calls of a bundle as rows.
struct Rows {
    of: Bundled,
    bytes: Vec<u8>,
    is_repeated: bool,
    is_imported: bool,
}

struct Job {
    rows: Rows,
    answer: oneshot::Sender<Result<Stored, Failure>>,
    _room: OwnedSemaphorePermit,
}

/// A handle to the tasks that insert, one for each shard.
#[derive(Clone, Debug)]
pub(super) struct Writer(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    queues: Mutex<Option<Vec<mpsc::UnboundedSender<Job>>>>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    room: Arc<Semaphore>,
    known: Known,
    /// By weight: the shard of each remainder.
    shards: Vec<usize>,
    endpoints: Arc<Mutex<Endpoints>>,
    health: watch::Receiver<Health>,
    repeated: AtomicU64,
}

impl Writer {
    /// `shards` has the weight of each shard.
    pub(super) fn start(
        client: &Client,
        dialect: Dialect,
        names: &Names,
        shards: &[u32],
        endpoints: Endpoints,
        tail: &Tail,
    ) -> Self {
        let (health_sender, health) = watch::channel(Health::Up);
        let mut queues = Vec::new();
        let mut tasks = Vec::new();
        for _ in 0..shards.len().max(1) {
            let (queue, jobs) = mpsc::unbounded_channel();
            let inserting = Inserting {
                client: client.clone(),
                dialect,
                names: names.clone(),
                tail: tail.clone(),
                health: health_sender.clone(),
                jobs,
                pace: CLICKHOUSE_GROUP_PACE_MIN,
            };
            queues.push(queue);
            tasks.push(tokio::spawn(inserting.run()));
        }
        let weights = shards.iter().enumerate();
        let mut of_remainder: Vec<_> = weights
            .flat_map(|(shard, &weight)| std::iter::repeat_n(shard, weight as usize))
            .collect();
        if of_remainder.is_empty() {
            of_remainder.push(0);
        }
        Self(Arc::new(Shared {
            queues: Mutex::new(Some(queues)),
            tasks: Mutex::new(tasks),
            room: Arc::new(Semaphore::new(CLICKHOUSE_QUEUE_BYTES_MAX)),
            known: Known::default(),
            shards: of_remainder,
            endpoints: Arc::new(Mutex::new(endpoints)),
            health,
            repeated: AtomicU64::new(0),
        }))
    }

    pub(super) fn health(&self) -> watch::Receiver<Health> {
        self.0.health.clone()
    }

    /// Bundles that were there already, since this process started.
    pub(super) fn repeated(&self) -> u64 {
        self.0.repeated.load(Ordering::Relaxed)
    }

    /// Stores a bundle and returns once the server has it.
    pub(super) async fn insert(&self, bundle: Bundle) -> Result<Stored, Failure> {
        let shared = &self.0;
        let number = number(&bundle)?;
        let stored = match bundle.key {
            None => self.store(number, bundle).await?,
            Some(_) => loop {
                match shared.known.begin(number) {
                    Begun::Stored => break Stored::Repeated,
                    Begun::Running(mut ending) => drop(ending.changed().await),
                    Begun::New(running) => {
                        let stored = self.store(number, bundle).await?;
                        running.end_stored();
                        break stored;
                    }
                }
            },
        };
        if stored == Stored::Repeated {
            shared.repeated.fetch_add(1, Ordering::Relaxed);
        }
        Ok(stored)
    }

    async fn store(&self, number: u64, bundle: Bundle) -> Result<Stored, Failure> {
        let shared = &self.0;
        // A row has its line and some columns.
        let bytes = (bundle.bytes() + bundle.calls() * 512).min(CLICKHOUSE_QUEUE_BYTES_MAX);
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let taking = Arc::clone(&shared.room).acquire_many_owned(bytes);
        let room = timeout(POST_WAIT, taking)
            .await
            .map_err(|_| unavailable("the store is busy: ClickHouse is slower than what comes"))?
            .map_err(|error| unavailable(error.to_string()))?;
        let endpoints = Arc::clone(&shared.endpoints);
        let encoding = tokio::task::spawn_blocking(move || encode(number, &bundle, &endpoints));
        let rows = encoding
            .await
            .map_err(|error| unavailable(error.to_string()))?;
        let (answer, answered) = oneshot::channel();
        let remainder = usize::try_from(number % shared.shards.len() as u64).unwrap_or_default();
        let job = Job {
            rows,
            answer,
            _room: room,
        };
        {
            let queues = lock(&shared.queues);
            let Some(queues) = &*queues else {
                return Err(closed());
            };
            let shard = shared.shards.get(remainder).copied().unwrap_or_default();
            let Some(queue) = queues.get(shard) else {
                return Err(closed());
            };
            queue.send(job).map_err(|_| closed())?;
        }
        answered.await.map_err(|_| closed())?
    }

    /// Stores what waits, and nothing more.
    pub(super) async fn close(&self) -> anyhow::Result<()> {
        drop(lock(&self.0.queues).take());
        let tasks: Vec<_> = lock(&self.0.tasks).drain(..).collect();
        for task in tasks {
            task.await?;
        }
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unavailable(text: impl Into<String>) -> Failure {
    Failure::Unavailable(text.into())
}

fn closed() -> Failure {
    unavailable("the store is stopping")
}

/// The number of a bundle: the same in every store, or another one each time where the sender gave no key.
fn number(bundle: &Bundle) -> Result<u64, Failure> {
    let Some(key) = &bundle.key else {
        return getrandom::u64().map_err(|error| unavailable(error.to_string()));
    };
    let mut hasher = SipHasher13::new();
    hasher.write(key.as_bytes());
    hasher.write(&[0xff]);
    hasher.write(&bundle.crc32.to_le_bytes());
    hasher.write(&(bundle.bytes() as u64).to_le_bytes());
    Ok(hasher.finish())
}

fn encode(number: u64, bundle: &Bundle, endpoints: &Mutex<Endpoints>) -> Rows {
    let received_ms = unix_ms();
    let sender = bundle.sender.to_string();
    let mut bytes = Vec::with_capacity(bundle.bytes() + bundle.calls() * 384);
    let (mut first_ms, mut last_ms) = (i64::MAX, i64::MIN);
    for (line_no, (line, mut columns)) in (0..).zip(bundle.lines()) {
        columns.place_in_time(received_ms, bundle.is_imported);
        columns.endpoint = lock(endpoints).of(&columns.path);
        columns.sender.clone_from(&sender);
        let at = Identity {
            time_ms: columns.time_ms,
            bundle: number,
            line_no,
        };
        put(&mut bytes, at, &columns, line, bundle.bad_lines);
        first_ms = first_ms.min(at.time_ms);
        last_ms = last_ms.max(at.time_ms);
    }
    Rows {
        of: Bundled {
            bundle: number,
            calls: bundle.calls() as u64,
            first_ms,
            last_ms,
        },
        bytes,
        // An import may have been interrupted and made again, by another process.
        is_repeated: bundle.is_repeated || bundle.is_imported,
        is_imported: bundle.is_imported,
    }
}

/// Bundles that are stored, or being stored.
#[derive(Clone, Debug, Default)]
struct Known(Arc<Mutex<Keys>>);

#[derive(Debug, Default)]
struct Keys {
    stored: HashSet<u64>,
    order: VecDeque<u64>,
    running: HashMap<u64, watch::Receiver<()>>,
}

enum Begun {
    Stored,
    Running(watch::Receiver<()>),
    New(Running),
}

/// A bundle that is being stored; once this is dropped another post of it may try.
struct Running {
    number: u64,
    known: Known,
    _ending: watch::Sender<()>,
}

impl Known {
    fn begin(&self, number: u64) -> Begun {
        let mut keys = lock(&self.0);
        if keys.stored.contains(&number) {
            return Begun::Stored;
        }
        if let Some(ending) = keys.running.get(&number) {
            return Begun::Running(ending.clone());
        }
        let (ending, receiver) = watch::channel(());
        keys.running.insert(number, receiver);
        Begun::New(Running {
            number,
            known: self.clone(),
            _ending: ending,
        })
    }
}

impl Running {
    fn end_stored(self) {
        let mut keys = lock(&self.known.0);
        if keys.stored.insert(self.number) {
            keys.order.push_back(self.number);
        }
        if keys.order.len() > CLICKHOUSE_BUNDLES_KNOWN_MAX
            && let Some(oldest) = keys.order.pop_front()
        {
            keys.stored.remove(&oldest);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        lock(&self.known.0).running.remove(&self.number);
    }
}

/// The task of a shard.
struct Inserting {
    client: Client,
    dialect: Dialect,
    names: Names,
    tail: Tail,
    health: watch::Sender<Health>,
    jobs: mpsc::UnboundedReceiver<Job>,
    /// Least time between the beginnings of two statements.
    pace: Duration,
}

impl Inserting {
    async fn run(mut self) {
        let mut next = Instant::now();
        while let Some(first) = self.jobs.recv().await {
            sleep_until(next).await;
            next = Instant::now() + self.pace;
            let (mut rows, mut bytes) = (first.rows.of.calls, first.rows.bytes.len());
            let mut group = vec![first];
            while rows < CLICKHOUSE_GROUP_ROWS_MAX
                && bytes < CLICKHOUSE_GROUP_BYTES_MAX
                && let Ok(job) = self.jobs.try_recv()
            {
                rows += job.rows.of.calls;
                bytes += job.rows.bytes.len();
                group.push(job);
            }
            self.store(group).await;
        }
    }

    async fn store(&mut self, group: Vec<Job>) {
        let end = Instant::now() + CLICKHOUSE_GROUP_TIME_MAX;
        let (repeated, mut new): (Vec<_>, Vec<_>) =
            group.into_iter().partition(|job| job.rows.is_repeated);
        let mut pause = CLICKHOUSE_RETRY_PAUSE_MIN;
        let mut unsure = repeated;
        loop {
            let attempt = match self.leave_out(&mut unsure, &mut new).await {
                Ok(()) => self.insert(&mut new, &mut unsure).await,
                Err(error) => Err(error),
            };
            let Err(error) = attempt else {
                self.pace = (self.pace / 2).max(CLICKHOUSE_GROUP_PACE_MIN);
                self.report(Health::Up);
                return;
            };
            if matches!(error, Error::Server(TOO_MANY_PARTS, _)) {
                self.pace = (self.pace * 2).min(CLICKHOUSE_GROUP_PACE_MAX);
            }
            self.report(Health::Down(error.to_string()));
            if !error.is_passing() || Instant::now() + pause >= end {
                for job in new.into_iter().chain(unsure) {
                    let _ = job.answer.send(Err(unavailable(error.to_string())));
                }
                return;
            }
            sleep(pause).await;
            pause = (pause * 2).min(CLICKHOUSE_RETRY_PAUSE_MAX);
        }
    }

    fn report(&self, health: Health) {
        self.health.send_if_modified(|now| {
            let is_changed = *now != health;
            *now = health;
            is_changed
        });
    }

    /// Answers bundles that may be there and are, and moves those that are not to the new ones.
    async fn leave_out(&self, unsure: &mut Vec<Job>, new: &mut Vec<Job>) -> Result<(), Error> {
        if unsure.is_empty() {
            return Ok(());
        }
        let there = self.there(unsure).await?;
        for job in unsure.drain(..) {
            let of = job.rows.of;
            if there
                .get(&of.bundle)
                .is_some_and(|calls| *calls >= of.calls)
            {
                self.tail.push([of]);
                // One of this process is new, though the answer to its statement was lost.
                let stored = if job.rows.is_repeated {
                    Stored::Repeated
                } else {
                    Stored::New
                };
                let _ = job.answer.send(Ok(stored));
            } else {
                new.push(job);
            }
        }
        // The same bytes again, whatever was left out before: the token is that of the bundles.
        new.sort_by_key(|job| job.rows.of.bundle);
        Ok(())
    }

    /// Which bundles the server has for good, with their calls.
    async fn there(&self, unsure: &[Job]) -> Result<HashMap<u64, u64>, Error> {
        let bundles: Vec<_> = unsure
            .iter()
            .map(|job| job.rows.of.bundle.to_string())
            .collect();
        let first = unsure
            .iter()
            .map(|job| job.rows.of.first_ms)
            .min()
            .unwrap_or_default();
        let last = unsure
            .iter()
            .map(|job| job.rows.of.last_ms)
            .max()
            .unwrap_or_default();
        let settings = &[("max_execution_time", "8"), ("max_query_size", "4194304")];
        let time = CLICKHOUSE_INSERT_TIME_MAX;
        let are_committed = committed::condition(&self.client, &self.names, settings, time).await?;
        let sql = format!(
            "SELECT bundle, uniqExact(line_no) FROM calls PREWHERE {} WHERE bundle IN ({}) AND {are_committed} GROUP BY bundle FORMAT RowBinary",
            within(
                Some(first.saturating_sub(REPEATED_MS)),
                Some(last.saturating_add(1))
            ),
            bundles.join(", ")
        );
        let answer = self.client.read(sql, settings, time).await?;
        let mut reader = Reader(&answer);
        let mut there = HashMap::new();
        while reader.has_more() {
            let row = reader.u64().and_then(|bundle| Ok((bundle, reader.u64()?)));
            let (bundle, calls) = row.map_err(|error| Error::Lost(error.to_string()))?;
            there.insert(bundle, calls);
        }
        Ok(there)
    }

    /// One statement. Where it may have been carried out the bundles are unsure from then on.
    async fn insert(&self, new: &mut Vec<Job>, unsure: &mut Vec<Job>) -> Result<(), Error> {
        if new.is_empty() {
            return Ok(());
        }
        let names: Vec<_> = COLUMNS.iter().map(|column| column.name).collect();
        let sql = format!("INSERT INTO calls ({}) FORMAT RowBinary", names.join(", "));
        let bytes = new.iter().map(|job| job.rows.bytes.len()).sum();
        let mut body = Vec::with_capacity(bytes);
        let mut hasher = SipHasher13::new();
        for job in &*new {
            body.extend_from_slice(&job.rows.bytes);
            hasher.write(&job.rows.of.bundle.to_le_bytes());
        }
        let token = base36(hasher.finish());
        let time = CLICKHOUSE_INSERT_TIME_MAX.as_secs().to_string();
        let mut settings = vec![("max_execution_time", time.as_str())];
        if self.names.cluster.is_some() {
            settings.push(("insert_distributed_sync", "1"));
        }
        if self.dialect.has_tokens() {
            settings.push(("insert_deduplication_token", &token));
            settings.push(("deduplicate_blocks_in_dependent_materialized_views", "1"));
            if new.iter().any(|job| job.rows.is_imported) {
                settings.push(("max_partitions_per_insert_block", "0"));
            }
        }
        match self
            .client
            .write(
                Some(&sql),
                Bytes::from(body),
                &settings,
                CLICKHOUSE_INSERT_TIME_MAX,
            )
            .await
        {
            Ok(_) => {
                self.tail.push(new.iter().map(|job| job.rows.of));
                for job in new.drain(..) {
                    let _ = job.answer.send(Ok(Stored::New));
                }
                Ok(())
            }
            Err(error) => {
                if error.is_ambiguous() {
                    unsure.append(new);
                }
                Err(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sender::Sender;

    fn bundle(key: Option<&str>, text: &'static str) -> Bundle {
        Bundle::split(text.into(), key.map(Into::into), Sender::Local).expect("few lines")
    }

    #[test]
    fn a_bundle_has_the_same_number_in_every_store() {
        let text = "[[\"a\",\"b\"]]\n";
        let of = |key, text| number(&bundle(key, text)).expect("a number");
        assert_eq!(of(Some("k"), text), 7_835_574_525_309_052_800);
        assert_ne!(of(Some("k"), text), of(Some("l"), text));
        assert_ne!(of(Some("k"), text), of(Some("k"), "[[\"a\",\"c\"]]\n"));
        assert_ne!(of(None, text), of(None, text));
    }

    #[test]
    fn a_bundle_is_stored_by_one_post_at_a_time() {
        let known = Known::default();
        let Begun::New(running) = known.begin(1) else {
            panic!("it is new");
        };
        assert!(matches!(known.begin(1), Begun::Running(_)));
        drop(running);
        let Begun::New(running) = known.begin(1) else {
            panic!("it was not stored");
        };
        running.end_stored();
        assert!(matches!(known.begin(1), Begun::Stored));
    }
}
