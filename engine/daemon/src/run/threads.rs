//! The other threads while they run: shards and uploader, started, given orders, and ended in the order of the data.

use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use engine_core::pipeline::Pipeline;
use engine_sys::cpu;
use engine_sys::packet::Steering;

use super::context::{Context, bug};
use super::events::Event;
use crate::capture::interfaces::Choice;
use crate::capture::orders::Orders;
use crate::capture::rings::Opened;
use crate::capture::self_traffic::OwnUpload;
use crate::capture::shard::{Notify, Shard};
use crate::capture::source::Source;
use crate::capture::split_flows::{Crossings, Witness};
use crate::config::Capture;
use crate::counters::{Published, Stages};
use crate::diagnostic::{Console, Diagnostic};
use crate::limits;
use crate::metrics::Endpoint;
use crate::pipeline::{bundler, pipeline_config};
use crate::random;
use crate::report::rule_matches::RuleWatch;
use crate::report::snapshot::{Reloads, View};
use crate::report::summary::{reads, sentence, setting};
use crate::sandbox::{Confinement, Files, Plan};
use crate::sink::{RunningSinks, Sinks};

/// The sinks have this long after the shards have ended, whatever they left of the flush timeout.
const FLUSH_MIN: Duration = Duration::from_millis(500);

/// The other threads, while they run.
pub(super) struct Threads {
    pub(super) view: Arc<View>,
    shards: Vec<JoinHandle<()>>,
    orders: Vec<Orders>,
    sinks: RunningSinks,
    flush_timeout: Duration,
}

/// What is left after the end.
pub(super) struct Ended {
    pub(super) view: Arc<View>,
    pub(super) panicked: bool,
}

impl Threads {
    pub(super) fn start(
        config: Capture,
        choice: &Choice,
        opened: Vec<Opened>,
        (own, sinks): (&OwnUpload, Sinks),
        events: Sender<Event>,
        metrics: &Endpoint,
        console: Console,
    ) -> Result<Self, Diagnostic> {
        let count = config.settings.shards;
        let compression = sinks.compression();
        let started = sinks.start(count, console);
        let (outlets, sinks) = started.map_err(|error| bug("cannot start a sink", &error))?;
        let steering = steering(&opened);
        let rings = opened.iter().flat_map(|opened| &opened.sources);
        let ring_bytes = rings.map(|source| source.ring.bytes() as u64).sum();
        let published: Vec<Arc<Published>> = (0..count).map(|_| Arc::default()).collect();
        let rules = RuleWatch::new(&config.rules, count, &Stages::default());
        let cores = cpu::allowed();
        let crossings = (count > 1).then(|| (Arc::<Crossings>::default(), random::seed()));
        // After the end of the watching thread nobody needs a notice.
        let notify: Notify = Arc::new(move |notice| drop(events.send(Event::Shard(notice))));
        let mut shards = Vec::new();
        let mut orders = Vec::new();
        for (index, (sources, outlets)) in
            by_shard(opened, count).into_iter().zip(outlets).enumerate()
        {
            let order = Orders::new().map_err(|error| bug("cannot make an eventfd", &error))?;
            let mut pipeline = pipeline_config(
                &config.settings,
                &config.host,
                &choice.kernel_vxlan_ports,
                count,
            );
            pipeline.flow.hash_seed = random::seed();
            pipeline.message.sample_seed = random::seed();
            pipeline.flow.new_flows_seed = crossings.as_ref().map(|(_, seed)| *seed);
            let witness = crossings.as_ref().map(|(crossings, _)| Witness {
                crossings: Arc::clone(crossings),
                shard: index,
            });
            // A clone has matching caches of its own, so that shards take no lock of each other's.
            let set = Arc::new((*config.rules.set).clone());
            let pipeline = Pipeline::new(&pipeline, set, bundler(&config.settings, compression));
            let shard = Shard::new(
                sources,
                pipeline,
                (outlets, compression),
                own.clone(),
                (
                    Arc::clone(&published[index]),
                    rules.cells()[index].clone(),
                    witness,
                ),
                order.clone(),
                Arc::clone(&notify),
            );
            let core = (count > 1)
                .then(|| cores.get(index % cores.len().max(1)).copied())
                .flatten();
            shards.push(
                shard
                    .spawn(index, core, config.settings.flush_timeout)
                    .map_err(|error| bug("cannot start a shard", &error))?,
            );
            orders.push(order);
        }
        let names = choice.interfaces.iter();
        let names = names.map(|interface| interface.name.clone());
        let view = Arc::new(View {
            setting: setting(&config, choice),
            started: Instant::now(),
            interfaces: names.collect(),
            reads: reads(&config),
            ring_bytes,
            steering,
            memory_limit_bytes: config.settings.memory_bytes as u64,
            rules: Mutex::new(rules),
            sentence: sentence(&config, choice, (count, steering), &sinks.description()),
            sinks: sinks.monitors(),
            published,
            confinement: OnceLock::new(),
            began: SystemTime::now(),
            metrics: metrics_url(metrics),
            needs_output: config.settings.ready_needs_output,
            reloads: Reloads::default(),
        });
        Ok(Self {
            view,
            shards,
            orders,
            sinks,
            flush_timeout: config.settings.flush_timeout,
        })
    }

    /// Confines the system calls of all threads, which are there by now; `files` were when there was one.
    pub(super) fn confine(&self, mut plan: Plan, files: Option<Files>) -> &Confinement {
        self.sinks.plan_calls(&mut plan);
        self.view.confinement.get_or_init(|| match files {
            Some(files) => Confinement::after(files, &plan),
            None => Confinement::Unwanted,
        })
    }

    /// Gives each shard its ring on an interface that came.
    pub(super) fn add(&self, opened: Opened) {
        for (order, source) in self.orders.iter().zip(opened.sources) {
            order.add_source(source);
        }
    }

    /// Gives all shards the rules as they are now. Calls that are open keep what the old ones let through; rules with an
    /// error change nothing.
    pub(super) fn reload(&self, context: Context<'_>) -> Result<String, Diagnostic> {
        let rules = (context.reload)().inspect_err(|problem| {
            self.view.reloads.bad.fetch_add(1, Ordering::Relaxed);
            context.console.report(problem);
            context.console.info("the old rules stay");
        })?;
        let watch = RuleWatch::new(&rules, self.orders.len(), &self.view.stages());
        for (order, cells) in self.orders.iter().zip(watch.cells()) {
            order.set_rules(Arc::new((*rules.set).clone()), cells.clone());
        }
        *self.view.rules() = watch;
        self.view.reloads.good.fetch_add(1, Ordering::Relaxed);
        let late = match self.wait_for_rules() {
            true => "",
            false => " (capture threads that are busy take them with their next turn)",
        };
        let said = format!("rules read again: {}{late}", rules.name);
        context.console.info(&said);
        Ok(said)
    }

    /// Whether all shards judge by the new rules: whoever is told so may rely on it for what begins from now on.
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

    /// Ends everything in the order of the data: rings, pipelines, bundles, uploader.
    pub(super) fn stop(self) -> Ended {
        let deadline = Instant::now() + self.flush_timeout;
        for order in &self.orders {
            order.stop();
        }
        let panicked = self
            .shards
            .into_iter()
            .map(|shard| shard.join().is_err())
            .fold(false, |any, panicked| any | panicked);
        self.sinks.stop(deadline.max(Instant::now() + FLUSH_MIN));
        Ended {
            view: self.view,
            panicked,
        }
    }
}

/// For each shard its ring on every interface.
fn by_shard(opened: Vec<Opened>, shards: usize) -> Vec<Vec<Source>> {
    let mut by_shard: Vec<Vec<Source>> = (0..shards).map(|_| Vec::new()).collect();
    for opened in opened {
        for (sources, source) in by_shard.iter_mut().zip(opened.sources) {
            sources.push(source);
        }
    }
    by_shard
}

/// Where metrics are served, empty if nowhere, or why they are not.
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
