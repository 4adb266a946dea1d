//! The thread that owns rings, a pipeline and its end of the sinks: blocks in, bundles out.
//!
//! It shares nothing: counters leave by plain stores once a block, bundles by a queue without locks. A block goes back
//! to the kernel before the next is taken. Nothing is logged and, once buffers have grown, nothing allocated per packet.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use engine_core::bundle::{Bundler, Compression, Encoding};
use engine_core::decap::Frame;
use engine_core::pipeline::Pipeline;
use engine_core::time::Timestamp;
use engine_sys::cpu;
use engine_sys::packet::{Trouble, Waiter};

use super::orders::Orders;
use super::overload::{Load, Overload, Step};
use super::self_traffic::OwnUpload;
use super::source::Source;
use super::split_flows::Witness;
use crate::clock::now;
use crate::counters::{Published, RuleCells, ShardCounters, Stages};
use crate::sink::outlet::Outlets;

/// What a shard reports to the thread that watches it.
#[derive(Debug)]
pub enum Notice {
    /// An interface has a problem.
    Trouble {
        /// Its name.
        interface: String,
        /// Which.
        trouble: Trouble,
    },
    /// The thread ends: after a stop, or because it panicked.
    Ended,
}

/// Where notices go; whether anybody still takes them is of no interest to a shard.
pub type Notify = Arc<dyn Fn(Notice) + Send + Sync>;

/// Longest sleep: idle flows and old bundles are looked after at least this often.
const TICK: Duration = Duration::from_millis(100);

/// How far the clock that ends waits runs behind the wall: frames may lie in a block that the kernel has not retired (10 ms),
/// or wait for this thread to be woken, and none of them may come too late for what it would have settled.
const CLOCK_BEHIND: Duration = Duration::from_millis(100);

/// Blocks read from one ring before the others have their turn.
const BLOCKS_A_TURN: usize = 16;

/// How often the kernel's drop counters are read.
const STATISTICS_EVERY: Duration = Duration::from_secs(1);

/// How often they are read while blocks say that frames were dropped; reading takes the mark away.
const LOSSES_EVERY: Duration = Duration::from_millis(50);

/// How long rings must be silent after the stop: the kernel retires its open block within 10 ms.
const DRAIN: Duration = Duration::from_millis(60);

/// What rings counted that are closed by now.
#[derive(Default)]
struct Gone {
    seen: u64,
    dropped: u64,
    freezes: u64,
}

/// Rings, pipeline and sinks of one thread.
pub struct Shard {
    sources: Vec<Source>,
    gone: Gone,
    pipeline: Pipeline<Bundler>,
    /// The sinks of the rule set that the pipeline's bundler collects for.
    outlets: Outlets,
    own: OwnUpload,
    counters: ShardCounters,
    published: Arc<Published>,
    hits: RuleCells,
    orders: Orders,
    notify: Notify,
    statistics_at: Instant,
    overload: Overload,
    /// A block said that frames were dropped since the counters were read.
    is_losing: bool,
    /// What was not yet told to [`Self::overload`].
    load: Load,
    /// Where openings of flows are compared with other shards; none for a single one.
    witness: Option<Witness>,
}

impl Shard {
    /// A shard that does not run yet.
    pub fn new(
        sources: Vec<Source>,
        pipeline: Pipeline<Bundler>,
        (outlets, compression): (Outlets, Compression),
        own: OwnUpload,
        (published, hits, witness): (Arc<Published>, RuleCells, Option<Witness>),
        orders: Orders,
        notify: Notify,
    ) -> Self {
        Self {
            sources,
            gone: Gone::default(),
            pipeline,
            outlets,
            own,
            counters: ShardCounters::default(),
            published,
            hits,
            orders,
            notify,
            statistics_at: Instant::now(),
            overload: Overload::new(compression, Instant::now()),
            is_losing: false,
            load: Load::default(),
            witness,
        }
    }

    /// Runs until told to stop, or until it breaks; then it says so.
    pub fn spawn(
        mut self,
        index: usize,
        core: Option<usize>,
        flush_timeout: Duration,
    ) -> io::Result<JoinHandle<()>> {
        std::thread::Builder::new()
            .name(format!("shard-{index}"))
            .spawn(move || {
                if let Some(core) = core {
                    // A core that was taken from our mask meanwhile leaves the shard where the kernel puts it.
                    cpu::pin(core);
                }
                let exit_guard = ExitGuard(Arc::clone(&self.notify));
                self.read_until_told();
                self.drain(flush_timeout);
                self.finish(flush_timeout);
                drop(exit_guard);
            })
    }

    fn read_until_told(&mut self) {
        let mut waiter = Waiter::new();
        self.take_statistics();
        while !self.orders.is_stop() {
            let rings = self
                .sources
                .iter()
                .filter(|source| !source.is_gone)
                .map(|source| &source.ring);
            let asleep = Instant::now();
            let woken = waiter.wait(rings, &self.orders.event, TICK);
            self.load.slept += asleep.elapsed();
            match woken {
                Ok(woken) if woken.trouble => self.look_for_trouble(),
                Ok(_) => {}
                // Nothing but memory pressure makes poll(2) fail here; it must not become a busy loop.
                Err(_) => std::thread::sleep(TICK),
            }
            self.read_rings();
            self.forget_gone();
            self.take_sources();
            if let Some((rules, hits)) = self.orders.take_rules() {
                self.pipeline.set_rules(rules);
                self.hits = hits;
            }
            self.pipeline.tick(now().before(CLOCK_BEHIND));
            self.hand_over();
        }
    }

    /// All blocks that are there, a bounded number of one ring in turn.
    fn read_rings(&mut self) {
        loop {
            let mut blocks = 0;
            for index in 0..self.sources.len() {
                for _ in 0..BLOCKS_A_TURN {
                    // Asking how full rings are costs nothing beside a block, which may cost whatever rules ask for.
                    self.look_at_load();
                    if !self.read_block(index, None) {
                        break;
                    }
                    blocks += 1;
                }
            }
            if blocks == 0 {
                return;
            }
            self.hand_over();
            // Under full load there is always a block more; orders do not wait for the last.
            if self.orders.is_stop() || !self.orders.has_taken_rules() {
                return;
            }
        }
    }

    /// Reads the next block of one ring, and whether there was one; after a stop only what came before it.
    fn read_block(&mut self, index: usize, stop: Option<Timestamp>) -> bool {
        let Some(source) = self.sources.get_mut(index) else {
            return false;
        };
        if source.is_drained {
            return false;
        }
        let share = source.share(1);
        let Some(block) = source.ring.next_block() else {
            return false;
        };
        self.load.read += share;
        self.is_losing |= block.losing();
        for frame in block.frames() {
            let frame = Frame {
                time: Timestamp::from_parts(u64::from(frame.seconds), frame.nanos),
                link: source.link,
                bytes: frame.bytes,
                wire_len: frame.wire_len,
                vlan: frame.vlan_tci,
            };
            if stop.is_some_and(|stop| frame.time > stop) {
                source.is_drained = true;
                break;
            }
            if self.own.has(&frame) {
                self.counters.frames_ignored_own_upload += 1;
                continue;
            }
            self.counters.frames_read += 1;
            self.counters.frames_read_bytes += frame.bytes.len() as u64;
            self.pipeline.feed(&frame);
        }
        true
    }

    /// Gives up what must be given up to keep up, and takes it up again.
    fn look_at_load(&mut self) {
        let share = |source: &Source| source.share(source.ring.blocks_ready());
        let shares = self.sources.iter().map(share);
        let load = Load {
            ring: shares.clone().fold(0.0, f32::max),
            waiting: shares.sum(),
            queue: self.outlets.fill(),
            ..std::mem::take(&mut self.load)
        };
        if !self.overload.look(load, Instant::now()) {
            return;
        }
        self.pipeline.set_shed_policy(self.overload.shed_policy());
        let compression = self.overload.compression();
        self.pipeline.output().set_compression(compression);
    }

    /// Closed bundles to the sinks, empty buffers back, counters out.
    fn hand_over(&mut self) {
        let bundler = self.pipeline.output();
        bundler.close_if_old(now());
        while let Some(bundle) = bundler.pop() {
            // Nothing else makes a plain bundle where bundles are to be compressed.
            let is_overload = bundle.encoding == Encoding::Plain && self.overload.compresses();
            self.counters.bundles_plain_overload += u64::from(is_overload);
            self.outlets.push(bundle);
        }
        self.outlets.send();
        while let Some(bundle) = self.outlets.take_empty() {
            bundler.recycle(bundle);
        }
        if let Some(witness) = &self.witness {
            let new_flows = self.pipeline.take_new_flows();
            self.counters.flows_other_shard += witness.count(new_flows);
        }
        self.read_statistics();
        self.publish();
    }

    fn read_statistics(&mut self) {
        let every = if self.is_losing {
            LOSSES_EVERY
        } else {
            STATISTICS_EVERY
        };
        if self.statistics_at.elapsed() >= every {
            self.take_statistics();
        }
    }

    fn take_statistics(&mut self) {
        self.statistics_at = Instant::now();
        self.is_losing = false;
        let dropped_before = self.counters.ring_dropped_full;
        for source in &mut self.sources {
            // A ring whose interface is gone still has its counts; a failed read keeps the last ones.
            if let Ok(statistics) = source.ring.statistics() {
                (source.seen, source.dropped, source.freezes) =
                    (statistics.packets, statistics.drops, statistics.freezes);
            }
        }
        let sum = |gone: u64, count: fn(&Source) -> u64| {
            gone + self.sources.iter().map(count).sum::<u64>()
        };
        // One whose interface is gone may not have been told.
        let is_open = |source: &&Source| !source.is_gone && source.ring.interface_index() >= 0;
        self.counters.rings_open = self.sources.iter().filter(is_open).count() as u64;
        self.counters.ring_frames = sum(self.gone.seen, |source| source.seen);
        self.counters.ring_dropped_full = sum(self.gone.dropped, |source| source.dropped);
        self.counters.ring_freezes = sum(self.gone.freezes, |source| source.freezes);
        self.load.lost |= self.counters.ring_dropped_full > dropped_before;
    }

    fn publish(&mut self) {
        let sinks = self.outlets.counters();
        self.counters.calls_held = self.pipeline.output().held_calls() + sinks.calls_waiting;
        self.counters.calls_pushed = sinks.calls_pushed;
        self.counters.bundles_pushed = sinks.bundles_pushed;
        self.counters.calls_shed_queue_full = sinks.calls_shed_queue_full;
        self.counters.calls_withheld = sinks.calls_withheld;
        let overload = &self.overload;
        self.counters.overload_plain = u64::from(overload.is_plain());
        self.counters.overload_thin = u64::from(overload.step() >= Step::Thin);
        self.counters.overload_shed = u64::from(overload.step() >= Step::Shed);
        self.counters.overload_shed_percent = overload.shed_percent().ceil() as u64;
        self.counters.overload_changes = overload.changes();
        let stages = Stages::new(&self.pipeline.ledger(), &self.counters);
        self.published.store(&stages, self.pipeline.ports_seen());
        self.hits.store(self.pipeline.rule_matches());
    }

    fn look_for_trouble(&mut self) {
        for source in &mut self.sources {
            let Some(trouble) = source.ring.trouble() else {
                continue;
            };
            source.is_gone |= trouble == Trouble::InterfaceGone;
            if source.tells {
                let interface = source.name.clone();
                (self.notify)(Notice::Trouble { interface, trouble });
            }
        }
    }

    /// Rings on interfaces that came. One that had gone down before it was deleted has not told its ring.
    fn take_sources(&mut self) {
        let mut sources = self.orders.take_sources();
        if sources.is_empty() {
            return;
        }
        for source in &mut self.sources {
            source.is_gone |= source.ring.interface_index() < 0;
        }
        self.sources.append(&mut sources);
    }

    /// Closes the rings of interfaces that went away, once they are read; what they counted stays.
    fn forget_gone(&mut self) {
        if !self.sources.iter().any(|source| source.is_gone) {
            return;
        }
        self.take_statistics();
        for gone in self.sources.extract_if(.., |source| source.is_gone) {
            self.gone.seen += gone.seen;
            self.gone.dropped += gone.dropped;
            self.gone.freezes += gone.freezes;
        }
    }

    /// Reads what the kernel holds from before the stop. The filters are locked, so frames go on coming: one that is
    /// later than the stop says that its ring has no earlier ones.
    fn drain(&mut self, flush_timeout: Duration) {
        let stop = now();
        let deadline = Instant::now() + flush_timeout;
        let mut quiet_since = Instant::now();
        while Instant::now() < deadline && quiet_since.elapsed() < DRAIN {
            let mut blocks = 0;
            for index in 0..self.sources.len() {
                blocks += (0..BLOCKS_A_TURN)
                    .take_while(|_| self.read_block(index, Some(stop)))
                    .count();
            }
            self.hand_over();
            if self.sources.iter().all(|source| source.is_drained) {
                break;
            }
            if blocks > 0 {
                quiet_since = Instant::now();
            } else {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        self.take_statistics();
    }

    /// Completes or gives up what is open, and hands everything over.
    fn finish(&mut self, timeout: Duration) {
        self.pipeline.finish(now());
        self.pipeline.output().close();
        let deadline = Instant::now() + timeout;
        loop {
            self.hand_over();
            if self.outlets.is_empty() {
                break;
            }
            if Instant::now() > deadline {
                self.outlets.shed_all();
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.publish();
    }
}

/// Reports the end of the thread, also when it panics.
struct ExitGuard(Notify);

impl Drop for ExitGuard {
    fn drop(&mut self) {
        (self.0)(Notice::Ended);
    }
}
