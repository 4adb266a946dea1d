//! The threads of a capture, shards and sinks: started, given orders, and ended in the order of the data.

use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use engine_core::bundle::{Bundler, Compression};
use engine_core::decap::SelfTraffic;
use engine_core::rules::RuleSet;
use engine_core::uploads::Identity;
use engine_sys::cpu;
use engine_sys::packet::Steering;
use signal_hook::consts::{SIGINT, SIGTERM};

use super::context::{Context, bug};
use super::events::{Event, SpoolOrder};
use crate::capture::hotplug::{Change, Interfaces};
use crate::capture::interfaces::Choice;
use crate::capture::kept::KeptPackets;
use crate::capture::orders::Orders;
use crate::capture::rings::Opened;
use crate::capture::shard::{Notify, OfRuleSet, Parts, Shard};
use crate::capture::source::Source;
use crate::capture::split_flows::{Detector, NewFlows};
use crate::config::Capture;
use crate::counters::Published;
use crate::diagnostic::{Console, Diagnostic};
use crate::limits;
use crate::metrics::Endpoint;
use crate::pipeline::{RulesShare, bundler, pipeline_config};
use crate::random;
use crate::report::posted_ledger;
use crate::report::reporter::{Reloads, Reporter};
use crate::report::rule_matches::RuleMatches;
use crate::report::summary::{reads, scope, start_summary};
use crate::sandbox::{Confinement, Files, Plan};
use crate::sink::spool::Account;
use crate::sink::stats::{Counters, Snapshot};
use crate::sink::{RunningSinks, Sinks, Spooled};
use crate::status::{Killed, State};

/// Time that the sinks have after the shards have ended, however little they left of the flush timeout.
const FLUSH_MIN: Duration = Duration::from_millis(500);

/// How often it is looked at while the threads stop whether they have.
const STOP_CHECK_EVERY: Duration = Duration::from_millis(10);

/// The threads while they run.
pub(super) struct Threads {
    pub(super) reporter: Arc<Reporter>,
    shards: Vec<JoinHandle<()>>,
    orders: Vec<Orders>,
    sinks: RunningSinks,
    flush_timeout: Duration,
}

/// What remains after the end.
pub(super) struct Ended {
    pub(super) reporter: Arc<Reporter>,
    pub(super) panicked: bool,
}

/// What the threads are started with.
pub(super) struct Setup<'a> {
    pub(super) config: Capture,
    /// The memory of its rules.
    pub(super) rules_share: RulesShare,
    pub(super) choice: &'a Choice,
    /// The rings on each interface.
    pub(super) opened: Vec<Opened>,
    /// Frames that are not read.
    pub(super) self_traffic: &'a SelfTraffic,
    /// Who marks the uploads.
    pub(super) identity: &'a Arc<Identity>,
    pub(super) sinks: Sinks,
    /// To the watching thread.
    pub(super) events: Sender<Event>,
    pub(super) metrics: &'a Endpoint,
    pub(super) killed: Killed,
    pub(super) console: Console,
}

impl Threads {
    pub(super) fn start(setup: Setup<'_>) -> Result<Self, Diagnostic> {
        let config = &setup.config;
        let count = config.settings.shards;
        let bundling: Vec<Bundling> = (0..config.rule_sets.len())
            .map(|number| Bundling::of(&setup.sinks, number))
            .collect();
        let started = (setup.sinks).start(count, config.rule_sets.len(), setup.console);
        let (outlets, sinks) = started.map_err(|error| bug("cannot start a sink", &error))?;
        let steering = steering(&setup.opened);
        let rings = setup.opened.iter().flat_map(|opened| &opened.sources);
        let ring_bytes = rings.map(|source| source.ring.bytes() as u64).sum();
        let published: Vec<Arc<Published>> = (0..count).map(|_| Arc::default()).collect();
        let rules: Vec<RuleMatches> = (config.rule_sets.iter())
            .map(|rules| {
                let has_schemas = config.settings.protobuf_descriptors.is_some();
                RuleMatches::new(rules, count, &Default::default()).with_schemas(has_schemas)
            })
            .collect();
        let split_flows = (count > 1).then(|| (Arc::<NewFlows>::default(), random::seed()));
        let events = setup.events;
        // After the end of the watching thread nobody needs a notice.
        let notify: Notify = Arc::new(move |notice| drop(events.send(Event::Shard(notice))));
        let cores = cpu::allowed();
        let mut shards = Vec::new();
        let mut orders = Vec::new();
        let sources = by_shard(setup.opened, count);
        let configured = || {
            let mut of_shard = pipeline_config(
                &config.settings,
                &config.host,
                &setup.choice.kernel_vxlan_ports,
                count,
                setup.rules_share,
            );
            of_shard.decap.self_traffic = setup.self_traffic.clone();
            of_shard
        };
        let keep_packets = config.settings.keep_packets;
        let kept = keep_packets.map(|bytes| KeptPackets::new(bytes, count, &configured()));
        let (kept, mut keepers) = kept.unzip();
        for (index, (sources, outlets)) in sources.into_iter().zip(outlets).enumerate() {
            let order = Orders::new().map_err(|error| bug("cannot make an eventfd", &error))?;
            let mut pipeline_config = configured();
            pipeline_config.message.uploads.identity = Some(Arc::clone(setup.identity));
            pipeline_config.flow.new_flows_seed = split_flows.as_ref().map(|(_, seed)| *seed);
            pipeline_config.message.sample_seed = random::seed();
            let rule_sets = outlets.into_iter().zip(&bundling).zip(&rules);
            let rule_sets = rule_sets.map(|((outlets, bundling), rules)| OfRuleSet {
                outlets,
                compression: bundling.compression,
                rule_cells: rules.cells()[index].clone(),
            });
            let parts = Parts {
                sources,
                pipeline: pipeline_config,
                rules: bundlers(config, &bundling),
                rule_sets: rule_sets.collect(),
                published: Arc::clone(&published[index]),
                split_flows: split_flows.as_ref().map(|(table, _)| Detector {
                    table: Arc::clone(table),
                    shard: index,
                }),
                keeper: keepers.as_mut().and_then(Iterator::next),
                orders: order.clone(),
                notify: Arc::clone(&notify),
            };
            let core = (count > 1)
                .then(|| cores.get(index % cores.len().max(1)).copied())
                .flatten();
            shards.push(
                Shard::spawn(parts, index, core, config.settings.flush_timeout)
                    .map_err(|error| bug("cannot start a shard", &error))?,
            );
            orders.push(order);
        }
        let choice = setup.choice;
        let names = choice.interfaces.iter();
        let names = names.map(|interface| interface.name.clone());
        let reporter = Arc::new(Reporter {
            state: Mutex::new(State::Running),
            scope: scope(config, choice),
            started: Instant::now(),
            interfaces: Mutex::new(Interfaces {
                captured: names.collect(),
                problems: Vec::new(),
            }),
            packets_before: engine_sys::interfaces::packets().unwrap_or_default(),
            reads: reads(config),
            ring_bytes,
            steering,
            memory_limit_bytes: config.settings.memory_bytes as u64,
            rules: Mutex::new(rules),
            sentence: start_summary(config, choice, steering, &sinks.description()),
            sinks: sinks.monitors(),
            published,
            confinement: OnceLock::new(),
            began: SystemTime::now(),
            metrics: metrics_url(setup.metrics),
            needs_output: config.settings.ready_needs_output,
            reloads: Reloads::default(),
            killed: setup.killed,
            kept,
        });
        sinks.post_ledgers(posted_ledger::source(&reporter, &config.host));
        for Spooled { sink, view, .. } in sinks.spools() {
            view.account(account(Arc::clone(&reporter), sink));
        }
        Ok(Self {
            reporter,
            shards,
            orders,
            sinks,
            flush_timeout: config.settings.flush_timeout,
        })
    }

    /// Confines the system calls of all threads. `files` is the confinement of files from before there were threads.
    pub(super) fn confine(&self, mut plan: Plan, files: Option<Files>) -> &Confinement {
        self.sinks.plan_calls(&mut plan);
        self.reporter.confinement.get_or_init(|| match files {
            Some(files) => Confinement::after(files, &plan),
            None => Confinement::Unwanted,
        })
    }

    /// Passes a change of the interfaces on to the shards and to the status.
    pub(super) fn follow(&self, change: Change) {
        for opened in change.rings {
            for (order, source) in self.orders.iter().zip(opened.sources) {
                order.add_source(source);
            }
        }
        if let Some(shared) = change.shared {
            for order in &self.orders {
                order.set_interfaces(shared.clone());
            }
        }
        if let Some(interfaces) = change.interfaces {
            *self.reporter.interfaces() = interfaces;
        }
    }

    /// Reads the rules and the certificates again. What of them has an error changes nothing, and neither holds up the other.
    pub(super) fn reload(&self, context: Context<'_>) -> Result<String, Diagnostic> {
        let certificates = self.sinks.reload();
        match &certificates {
            Ok(read) => read.iter().for_each(|text| context.console.info(text)),
            Err(problem) => {
                context.console.report(problem);
                context.console.info("the old certificates stay in use");
            }
        }
        let rules = self.reload_rules(context)?;
        let mut texts = certificates?;
        texts.push(rules);
        Ok(texts.join("\n"))
    }

    /// Reads the rules again and gives them to all shards. Open exchanges keep what the old rules accepted; rules with an
    /// error change nothing.
    fn reload_rules(&self, context: Context<'_>) -> Result<String, Diagnostic> {
        let rule_sets = (context.reload)().inspect_err(|problem| {
            self.reporter.reloads.failed.fetch_add(1, Ordering::Relaxed);
            context.console.report(problem);
            context.console.info("the old rules stay in use");
        })?;
        let counters = self.reporter.rule_sets();
        let has_schemas = self.reporter.rules().iter().any(|rules| rules.has_schemas);
        let watches = rule_sets.iter().zip(&counters);
        let watches: Vec<RuleMatches> = watches
            .map(|(rules, counters)| {
                RuleMatches::new(rules, self.orders.len(), counters).with_schemas(has_schemas)
            })
            .collect();
        for (shard, order) in self.orders.iter().enumerate() {
            let new = rule_sets.iter().zip(&watches);
            let new =
                new.map(|(rules, watch)| (Arc::clone(&rules.set), watch.cells()[shard].clone()));
            order.set_rules(new.collect());
        }
        *self.reporter.rules() = watches;
        for Spooled { rule_set, view, .. } in self.sinks.spools() {
            if let Some(rules) = rule_sets.get(rule_set) {
                view.set_rules(rules.set.fingerprint());
            }
        }
        self.reporter
            .reloads
            .succeeded
            .fetch_add(1, Ordering::Relaxed);
        let late = if self.wait_for_rules() {
            ""
        } else {
            " (busy capture threads take them in their next round)"
        };
        let names: Vec<&str> = rule_sets.iter().map(|rules| rules.name.as_str()).collect();
        let text = format!("rules read again: {}{late}", names.join("; "));
        context.console.info(&text);
        Ok(text)
    }

    /// Passes an order on to the spools; each carries it out in its own thread.
    pub(super) fn order_spools(&self, order: SpoolOrder) -> String {
        for Spooled { view, .. } in self.sinks.spools() {
            match order {
                SpoolOrder::Drain => view.release(),
                SpoolOrder::Discard { all } => view.discard(all),
            }
        }
        match order {
            SpoolOrder::Drain => "what was held in the spool is being delivered",
            SpoolOrder::Discard { all: true } => "what waits on disk alone is given up",
            SpoolOrder::Discard { all: false } => "what was held in the spool is given up",
        }
        .to_owned()
    }

    /// Waits until all shards use the new rules, so that the answer is true for exchanges that start after it; false if one
    /// did not in time.
    fn wait_for_rules(&self) -> bool {
        let since = Instant::now();
        loop {
            if self.orders.iter().all(Orders::has_taken_rules) {
                return true;
            }
            if since.elapsed() > limits::SHARD_BEAT_MAX {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Ends everything in the order of the data: rings, pipelines, bundles, sinks. A second signal ends the waiting; of a supervised
    /// capture that is SIGINT, since the end of its supervisor may cause two of the other.
    pub(super) fn stop(self, events: &Receiver<Event>, is_supervised: bool) -> Ended {
        let may_hurry = |signal| signal == SIGINT || signal == SIGTERM && !is_supervised;
        self.reporter.set_state(State::Stopping);
        let deadline = Instant::now() + self.flush_timeout;
        for order in &self.orders {
            order.stop();
        }
        let mut is_hurried = false;
        while !self.shards.iter().all(JoinHandle::is_finished) {
            if has_second_signal(events, may_hurry) {
                is_hurried = true;
                for order in &self.orders {
                    order.hurry();
                }
            }
        }
        let panicked = self
            .shards
            .into_iter()
            .map(|shard| shard.join().is_err())
            .fold(false, |any, panicked| any | panicked);
        let mut sinks = self.sinks;
        let now = Instant::now();
        sinks.begin_stop(if is_hurried {
            now
        } else {
            deadline.max(now + FLUSH_MIN)
        });
        while !sinks.have_ended() {
            if has_second_signal(events, may_hurry) {
                sinks.begin_stop(Instant::now());
            }
        }
        sinks.wait();
        self.reporter.set_state(State::Stopped);
        Ended {
            reporter: self.reporter,
            panicked,
        }
    }
}

/// Waits a moment for an event; whether it is a signal that ends the waiting. Whoever waits for an answer gets that of the end.
fn has_second_signal(events: &Receiver<Event>, may_hurry: impl Fn(i32) -> bool) -> bool {
    match events.recv_timeout(STOP_CHECK_EVERY) {
        Ok(Event::Signal(signal)) => may_hurry(signal),
        Ok(_) | Err(RecvTimeoutError::Timeout) => false,
        Err(RecvTimeoutError::Disconnected) => {
            std::thread::sleep(STOP_CHECK_EVERY);
            false
        }
    }
}

/// How the lines of a rule set are bundled.
#[derive(Clone, Copy)]
struct Bundling {
    compression: Compression,
    keeps_lines: bool,
}

impl Bundling {
    fn of(sinks: &Sinks, rule_set: usize) -> Self {
        Self {
            compression: sinks.compression(rule_set),
            keeps_lines: sinks.need_lines(rule_set),
        }
    }
}

/// The calls of this process for a sink, with the counters of that sink as they are in its spool.
fn account(reporter: Arc<Reporter>, sink: usize) -> Account {
    Arc::new(move |counters: &Counters| {
        let snapshot = Snapshot {
            counters: *counters,
            ..Snapshot::default()
        };
        reporter.calls_of(sink, snapshot)
    })
}

/// The rule sets of one shard, each with what bundles its lines.
fn bundlers(config: &Capture, bundling: &[Bundling]) -> Vec<(Arc<RuleSet>, Bundler)> {
    let sets = config.rule_sets.iter().zip(bundling);
    let sets = sets.map(|(rules, bundling)| {
        let Bundling {
            compression,
            keeps_lines,
        } = *bundling;
        let bundler = bundler(&config.settings, compression, keeps_lines);
        (Arc::clone(&rules.set), bundler)
    });
    sets.collect()
}

/// The rings of each shard, one on every interface.
fn by_shard(opened: Vec<Opened>, shards: usize) -> Vec<Vec<Source>> {
    let mut by_shard: Vec<Vec<Source>> = (0..shards).map(|_| Vec::new()).collect();
    for opened in opened {
        for (sources, source) in by_shard.iter_mut().zip(opened.sources) {
            sources.push(source);
        }
    }
    by_shard
}

/// Where metrics are served, empty if they are off, or why they are not.
fn metrics_url(metrics: &Endpoint) -> Result<String, Diagnostic> {
    if let Endpoint::Taken(problem) = metrics {
        return Err(problem.clone());
    }
    let address = metrics.address();
    Ok(address.map_or_else(String::new, |at| format!("http://{at}/metrics")))
}

/// The weakest of all interfaces' steerings.
fn steering(opened: &[Opened]) -> Steering {
    let weakest = opened
        .iter()
        .map(|opened| opened.steering)
        .find(|steering| *steering == Steering::OuterHash);
    weakest
        .or_else(|| opened.first().map(|opened| opened.steering))
        .unwrap_or(Steering::Single)
}
