//! The capture thread: it reads the blocks of its rings, feeds its pipeline, and passes bundles on.
//!
//! It shares nothing: counters are published by plain stores once a block, bundles go through a queue without locks. A
//! block is returned to the kernel before the next one is taken. Nothing is logged per packet and, once buffers have grown,
//! nothing is allocated.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use engine_core::bundle::{Bundler, Compression, Encoding};
use engine_core::decap::Frame;
use engine_core::message::{Durations, LineWriter};
use engine_core::pipeline::{self, CapturePipeline};
use engine_core::rules::RuleSet;
use engine_core::time::Timestamp;
use engine_core::uploads::SenderTable;
use engine_sys::cpu;
use engine_sys::packet::{Trouble, Waiter};

use super::busy::BusyGauge;
use super::kept::Keeper;
use super::orders::Orders;
use super::overload::{Load, Overload, Step};
use super::source::{Source, link};
use super::split_flows::Detector;
use crate::clock::now;
use crate::counters::{
    OutletCounters, Published, RuleCells, RuleSetCounters, ShardCounters, Stages, Tables,
};
use crate::limits::SINKS_MAX;
use crate::sink::outlet::Outlets;

/// What a shard reports to the thread that watches it.
#[derive(Debug)]
pub enum Notice {
    /// The kernel reported a problem of an interface.
    Trouble {
        /// The name of the interface.
        interface: String,
        /// The problem.
        trouble: Trouble,
    },
    /// The thread ends: after a stop, or because it panicked.
    Ended,
}

/// Receives notices; it may drop them.
pub type Notify = Arc<dyn Fn(Notice) + Send + Sync>;

/// Longest sleep: idle flows and old bundles are handled at least this often.
const TICK: Duration = Duration::from_millis(100);

/// How far the pipeline's clock is behind the wall clock: frames may be in a block that the kernel has not retired (10 ms),
/// or wait until this thread is woken, and no time-out may end before the frame that would have prevented it is read.
const CLOCK_BEHIND: Duration = Duration::from_millis(100);

/// Blocks read from one ring before the next ring.
const BLOCKS_A_TURN: usize = 16;

/// How often the kernel's drop counters are read.
const STATISTICS_EVERY: Duration = Duration::from_secs(1);

/// How often they are read while blocks carry the mark that frames were dropped; reading clears the mark.
const LOSSES_EVERY: Duration = Duration::from_millis(50);

/// How long the rings must be silent after the stop: the kernel retires its open block within 10 ms.
const DRAIN: Duration = Duration::from_millis(60);

/// What the rings counted that are closed by now.
#[derive(Default)]
struct ClosedRings {
    seen: u64,
    dropped: u64,
    freezes: u64,
}

/// What a shard has for each rule set, beside the pipeline's line writer and bundler for it.
pub struct OfRuleSet {
    /// The sinks that get its bundles.
    pub outlets: Outlets,
    /// How bundles are compressed when there is time for it.
    pub compression: Compression,
    /// Where the matches of each of its rules are published.
    pub rule_cells: RuleCells,
}

/// The state of one capture thread.
pub struct Shard {
    sources: Vec<Source>,
    closed: ClosedRings,
    pipeline: CapturePipeline,
    rule_sets: Vec<OfRuleSet>,
    counters: ShardCounters,
    /// By the number of the sink.
    sinks: [OutletCounters; SINKS_MAX],
    sinks_used: usize,
    /// The rule sets behind the first.
    further: Vec<RuleSetCounters>,
    published: Arc<Published>,
    orders: Orders,
    notify: Notify,
    statistics_at: Instant,
    overload: Overload,
    /// A block carried the mark that frames were dropped since the counters were read.
    is_losing: bool,
    /// What was measured since the controller last decided.
    load: Load,
    /// How busy the thread was.
    gauge: BusyGauge,
    /// Compares new flows with those of other shards; none if there are no others.
    split_flows: Option<Detector>,
    /// Keeps frames for files of packets; none if nobody may have any.
    keeper: Option<Keeper>,
}

/// What a shard is made of.
pub struct Parts {
    /// One ring on each interface, or one on all.
    pub sources: Vec<Source>,
    /// How everything from frames to bundles is done. The pipeline is made by the thread that has it.
    pub pipeline: pipeline::Config,
    /// The rule sets, each with what bundles its lines.
    pub rules: Vec<(Arc<RuleSet>, Bundler)>,
    /// The same rule sets, in the same order.
    pub rule_sets: Vec<OfRuleSet>,
    /// Where counters are published.
    pub published: Arc<Published>,
    /// Compares new flows with those of other shards; none if there are no others.
    pub split_flows: Option<Detector>,
    /// Keeps frames for files of packets; none if nobody may have any.
    pub keeper: Option<Keeper>,
    /// From the thread that watches.
    pub orders: Orders,
    /// To the thread that watches.
    pub notify: Notify,
}

impl Shard {
    /// A shard that does not run yet.
    fn new(parts: Parts) -> Self {
        // The trial of whether giving up compression helps is made for the first that compresses.
        let kinds = parts.rule_sets.iter().map(|set| set.compression);
        let mut kinds = kinds.filter(|kind| *kind != Compression::Off);
        let compression = kinds.next().unwrap_or(Compression::Off);
        let numbers = parts.rule_sets.iter();
        let numbers = numbers.flat_map(|set| set.outlets.counters().map(|(number, _)| number));
        Self {
            sinks_used: numbers
                .max()
                .map_or(0, |number| (number + 1).min(SINKS_MAX)),
            sinks: [OutletCounters::default(); SINKS_MAX],
            further: vec![RuleSetCounters::default(); parts.rule_sets.len().saturating_sub(1)],
            sources: parts.sources,
            closed: ClosedRings::default(),
            pipeline: CapturePipeline::new(&parts.pipeline, parts.rules),
            rule_sets: parts.rule_sets,
            counters: ShardCounters::default(),
            published: parts.published,
            orders: parts.orders,
            notify: parts.notify,
            statistics_at: Instant::now(),
            overload: Overload::new(compression, Instant::now()),
            is_losing: false,
            load: Load::default(),
            gauge: BusyGauge::new(Instant::now()),
            split_flows: parts.split_flows,
            keeper: parts.keeper,
        }
    }

    /// Starts the thread, which reads until it is stopped. Its end, expected or not, is a notice.
    pub fn spawn(
        parts: Parts,
        index: usize,
        core: Option<usize>,
        flush_timeout: Duration,
    ) -> io::Result<JoinHandle<()>> {
        std::thread::Builder::new()
            .name(format!("shard-{index}"))
            .spawn(move || {
                if let Some(core) = core {
                    // If the core is no longer ours, the kernel chooses one.
                    cpu::pin(core);
                }
                let exit_guard = ExitGuard(Arc::clone(&parts.notify));
                let mut shard = Self::new(parts);
                shard.read_until_stopped();
                shard.drain(flush_timeout);
                shard.finish(flush_timeout);
                drop(exit_guard);
            })
    }

    fn read_until_stopped(&mut self) {
        let mut waiter = Waiter::new();
        self.take_statistics();
        while !self.orders.is_stopped() {
            let rings = self
                .sources
                .iter()
                .filter(|source| !source.is_gone)
                .map(|source| &source.ring);
            let asleep = Instant::now();
            let woken = waiter.wait(rings, &self.orders.event, TICK);
            let slept = asleep.elapsed();
            self.load.slept += slept;
            self.gauge.sleep(slept);
            match woken {
                Ok(woken) if woken.trouble => self.report_trouble(),
                Ok(_) => {}
                // Only memory pressure makes poll(2) fail here; it must not become a busy loop.
                Err(_) => std::thread::sleep(TICK),
            }
            self.read_rings();
            self.close_gone();
            self.take_sources();
            self.take_interfaces();
            let new_rules = self.orders.take_rules().unwrap_or_default();
            for (number, (rules, cells)) in new_rules.into_iter().enumerate() {
                self.pipeline.set_rules(number, rules);
                if let Some(set) = self.rule_sets.get_mut(number) {
                    set.rule_cells = cells;
                }
            }
            self.pipeline.tick(now().before(CLOCK_BEHIND));
            self.hand_over();
        }
    }

    /// Reads all blocks that are ready, a bounded number of each ring in turn.
    fn read_rings(&mut self) {
        loop {
            let mut blocks = 0;
            for index in 0..self.sources.len() {
                for _ in 0..BLOCKS_A_TURN {
                    // To look at the rings costs little compared with a block, whose cost depends on the rules.
                    self.adapt_to_load();
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
            // Under full load there is always one more block; orders do not wait for the last.
            if self.orders.is_stopped() || !self.orders.has_taken_rules() {
                return;
            }
        }
    }

    /// Reads the next block of one ring; false if none is ready. After a stop it reads only frames from before it.
    fn read_block(&mut self, index: usize, stop: Option<Timestamp>) -> bool {
        let Some(source) = self.sources.get_mut(index) else {
            return false;
        };
        if source.is_drained {
            return false;
        }
        let share = source.share(1);
        let link_of_all = source.link;
        let Some(block) = source.ring.next_block() else {
            return false;
        };
        self.load.read += share;
        self.is_losing |= block.losing();
        for frame in block.frames() {
            let frame = Frame {
                time: Timestamp::from_parts(u64::from(frame.seconds), frame.nanos),
                link: link_of_all.unwrap_or_else(|| link(frame.is_ethernet())),
                bytes: frame.bytes,
                wire_len: frame.wire_len,
                vlan: frame.vlan_tci,
            };
            if stop.is_some_and(|stop| frame.time > stop) {
                source.is_drained = true;
                break;
            }
            self.counters.frames_read += 1;
            self.counters.frames_read_bytes += frame.bytes.len() as u64;
            if let Some(keeper) = &mut self.keeper {
                keeper.keep(&frame);
            }
            self.pipeline.feed(&frame);
        }
        true
    }

    /// Passes the load to the controller, and its decision to the pipeline.
    fn adapt_to_load(&mut self) {
        let share = |source: &Source| source.share(source.ring.blocks_ready());
        let shares = self.sources.iter().map(share);
        let load = Load {
            ring: shares.clone().fold(0.0, f32::max),
            waiting: shares.sum(),
            queue: self
                .rule_sets
                .iter()
                .map(|set| set.outlets.fill())
                .fold(0.0, f32::max),
            ..std::mem::take(&mut self.load)
        };
        self.gauge.see_ring(load.ring);
        if !self.overload.update(load, Instant::now()) {
            return;
        }
        self.pipeline.set_shed_policy(self.overload.shed_policy());
        let is_plain = self.overload.is_plain();
        for (bundler, set) in self.pipeline.bundlers().zip(&self.rule_sets) {
            let given_up = is_plain.then_some(Compression::Off);
            bundler.set_compression(given_up.unwrap_or(set.compression));
        }
    }

    /// Passes closed bundles to the sinks, takes empty buffers back, and publishes the counters.
    fn hand_over(&mut self) {
        for (bundler, set) in self.pipeline.bundlers().zip(&mut self.rule_sets) {
            bundler.close_if_old(now());
            let compresses = !matches!(set.compression, Compression::Off | Compression::Level(0));
            while let Some(bundle) = bundler.pop() {
                // Only overload makes a plain bundle where bundles are to be compressed.
                let is_overload = compresses && bundle.encoding == Encoding::Plain;
                self.counters.bundles_plain_overload += u64::from(is_overload);
                set.outlets.push(bundle);
            }
            set.outlets.send();
            while let Some(bundle) = set.outlets.take_empty() {
                bundler.recycle(bundle);
            }
        }
        if let Some(detector) = &self.split_flows {
            let new_flows = self.pipeline.take_new_flows();
            self.counters.flows_other_shard += detector.count_split(new_flows);
        }
        if let Some(keeper) = &self.keeper {
            keeper.answer();
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
        if let Some(now) = self.gauge.read(self.statistics_at) {
            self.counters.busy_permille = now.busy_permille;
            self.counters.ring_used_permille = now.ring_permille;
        }
        self.is_losing = false;
        let dropped_before = self.counters.ring_dropped_full;
        for source in &mut self.sources {
            // A ring whose interface is gone still has its counts; if reading fails, the last ones stay.
            if let Ok(statistics) = source.ring.statistics() {
                (source.seen, source.dropped, source.freezes) =
                    (statistics.packets, statistics.drops, statistics.freezes);
            }
        }
        let sum = |closed: u64, count: fn(&Source) -> u64| {
            closed + self.sources.iter().map(count).sum::<u64>()
        };
        // Not every ring is notified when its interface goes.
        let is_open = |source: &&Source| !source.is_gone && source.ring.interface_index() >= 0;
        self.counters.rings_open = self.sources.iter().filter(is_open).count() as u64;
        self.counters.ring_frames = sum(self.closed.seen, |source| source.seen);
        self.counters.ring_dropped_full = sum(self.closed.dropped, |source| source.dropped);
        self.counters.ring_freezes = sum(self.closed.freezes, |source| source.freezes);
        self.load.lost |= self.counters.ring_dropped_full > dropped_before;
    }

    fn publish(&mut self) {
        let mut sum = OutletCounters::default();
        for (bundler, set) in self.pipeline.bundlers().zip(&self.rule_sets) {
            let held = bundler.held_calls();
            for (number, mut counters) in set.outlets.counters() {
                sum.add(&counters);
                counters.calls_waiting += held;
                if let Some(sink) = self.sinks.get_mut(number) {
                    *sink = counters;
                }
            }
        }
        let [first, ..] = self.sinks;
        self.counters.calls_held = first.calls_waiting;
        self.counters.calls_pushed = sum.calls_pushed;
        self.counters.bundles_pushed = sum.bundles_pushed;
        self.counters.calls_shed_queue_full = sum.calls_shed_queue_full;
        self.counters.calls_withheld = sum.calls_withheld;
        let overload = &self.overload;
        self.counters.overload_plain = u64::from(overload.is_plain());
        self.counters.overload_thin = u64::from(overload.step() >= Step::Bodies);
        self.counters.overload_shed = u64::from(overload.step() >= Step::Calls);
        self.counters.overload_shed_percent = overload.shed_percent().ceil() as u64;
        self.counters.overload_changes = overload.changes();
        let ledger = self.pipeline.ledger();
        let mut stages = Stages::new(&ledger, &self.counters);
        let further = self.pipeline.writers().iter().skip(1);
        for (place, writer) in self.further.iter_mut().zip(further) {
            *place = RuleSetCounters {
                message: *writer.counters(),
                stream_parts: writer.stream_parts(),
            };
            stages
                .unaccounted
                .add(&ledger.unaccounted_of(&place.message));
        }
        let no_senders = SenderTable::default();
        let measures = self.pipeline.writers().first().map(LineWriter::measures);
        let tables = Tables {
            ports: self.pipeline.ports_seen(),
            unwanted: self.pipeline.ports_unwanted(),
            vnis: self.pipeline.vnis_seen(),
            senders: self.pipeline.upload_senders().unwrap_or(&no_senders),
            copies: self.pipeline.copies_seen(),
            sinks: self.sinks.get(..self.sinks_used).unwrap_or_default(),
            further: &self.further,
            durations: measures.map_or_else(Durations::default, |measures| *measures.durations()),
            networks: measures.map_or(&[], |measures| measures.networks().rows()),
        };
        self.published.store(&stages, tables);
        for (writer, set) in self.pipeline.writers().iter().zip(&self.rule_sets) {
            set.rule_cells.store(writer.rule_matches());
        }
    }

    fn report_trouble(&mut self) {
        for source in &mut self.sources {
            let Some(trouble) = source.ring.trouble() else {
                continue;
            };
            source.is_gone |= trouble == Trouble::InterfaceGone;
            if source.reports_trouble {
                let interface = source.name.clone();
                (self.notify)(Notice::Trouble { interface, trouble });
            }
        }
    }

    /// Adds rings on new interfaces, and marks those whose interface is gone: the kernel does not notify the ring of an
    /// interface that was down when it was deleted.
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

    /// Lets the frames of other interfaces into the rings that interfaces share.
    fn take_interfaces(&mut self) {
        let Some(interfaces) = self.orders.take_interfaces() else {
            return;
        };
        for source in self.sources.iter_mut().filter(|source| source.is_shared()) {
            let set = source.ring.set_filter(&interfaces.program);
            for name in &interfaces.promiscuous {
                // An interface that is gone again has no frames.
                let _ = source.ring.set_promiscuous(name);
            }
            if let Err(error) = set {
                (self.notify)(Notice::Trouble {
                    interface: source.name.clone(),
                    trouble: Trouble::Other(error.raw_os_error().unwrap_or(0)),
                });
            }
        }
    }

    /// Closes the rings of interfaces that are gone, once they are read; what they counted stays.
    fn close_gone(&mut self) {
        if !self.sources.iter().any(|source| source.is_gone) {
            return;
        }
        self.take_statistics();
        for gone in self.sources.extract_if(.., |source| source.is_gone) {
            self.closed.seen += gone.seen;
            self.closed.dropped += gone.dropped;
            self.closed.freezes += gone.freezes;
        }
    }

    /// Reads what the kernel holds from before the stop. The filters are locked, so frames keep arriving: a frame that is
    /// later than the stop shows that its ring has no earlier ones.
    fn drain(&mut self, flush_timeout: Duration) {
        let stop = now();
        let deadline = Instant::now() + flush_timeout;
        let mut quiet_since = Instant::now();
        while Instant::now() < deadline
            && quiet_since.elapsed() < DRAIN
            && !self.orders.is_hurried()
        {
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

    /// Completes or gives up what is open, and passes everything on.
    fn finish(&mut self, timeout: Duration) {
        self.pipeline.finish(now());
        for bundler in self.pipeline.bundlers() {
            bundler.close();
        }
        let deadline = Instant::now() + timeout;
        loop {
            self.hand_over();
            if self.rule_sets.iter().all(|set| set.outlets.is_empty()) {
                break;
            }
            if Instant::now() > deadline || self.orders.is_hurried() {
                for set in &mut self.rule_sets {
                    set.outlets.shed_all();
                }
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
