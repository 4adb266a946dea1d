//! Sinks: the places that bundles are delivered to, and the one seam between them and the rest of the program.
//!
//! ```text
//!            ┌ bundler ─ Outlets ─┬─ Outbox ──▶ thread of a sink: backlog, delivery
//! a shard ───┤                    └─ Outbox ──▶ thread of another sink
//!            └ … one for each distinct rule set
//! ```
//!
//! A shard has an [`Outlets`] for each rule set: it pushes closed bundles, takes emptied ones back, and reads one level
//! for its overload control. Sinks with the same rules share each bundle ([`shared`]); its memory comes back when the last
//! has released it. Each sink has its own bound, backlog, counters and column of the ledger, so a slow one costs its own calls
//! and holds up neither a shard nor another sink.
//!
//! The process sees [`Sinks`] before the start and [`RunningSinks`] after it: end points that are left out of the capture,
//! the plan of the sandbox, threads, counters, a sentence for people, a probe for `sniffer check`, a stop within a
//! deadline. [`config::Destination`](Destination) is the only list of kinds, and [`Sinks::of`] the only place that turns
//! one into a sink. A new kind is a folder beside these files that implements [`kind`], a variant there,
//! and an arm in [`Sinks::of`]; "Further sinks" in ARCHITECTURE.md has what is fixed for those that are to follow.

pub mod backlog;
pub mod column;
pub mod discard;
pub mod folder;
pub mod http;
pub mod kind;
pub mod outbox;
pub mod outlet;
pub mod parker;
pub mod part;
pub mod shared;
pub mod spool;
pub mod stats;
pub mod stdout;
mod sync;
#[cfg(test)]
mod tests;
pub mod writing;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use engine_core::bundle::Compression;
use engine_core::uploads::Identity;

use self::discard::Discard;
use self::folder::Folder;
use self::http::Http;
use self::kind::{LedgerSource, Monitor, Probe, Running, Sink};
use self::outlet::{Outlet, Outlets};
use self::spool::{Bounds, View};
use self::stdout::Stdout;
use crate::capture_url::CaptureUrls;
use crate::config::{Capture, DEFAULT, Destination, Proxies, SinkConfig};
use crate::diagnostic::{Console, Diagnostic};
use crate::limits::SPOOL_BYTES_MIN;
use crate::pipeline::backlog_memory;
use crate::random;
use crate::sandbox::Plan;

/// A sink, and the number of the rule set whose lines it gets.
struct Placed<T: ?Sized> {
    rule_set: usize,
    sink: Box<T>,
}

/// All sinks, as the settings describe them.
pub struct Sinks(Vec<Placed<dyn Sink>>);

impl Sinks {
    /// The sinks of a capture, which mark their uploads as those of `identity`.
    pub fn of(config: &Capture, identity: &Arc<Identity>) -> Self {
        let sinks = config.sinks.iter().map(|sink| Placed {
            rule_set: sink.rule_set,
            sink: of_kind(config, sink, identity),
        });
        Self(sinks.collect())
    }

    fn each(&self) -> impl Iterator<Item = &dyn Sink> {
        self.0.iter().map(|placed| &*placed.sink)
    }

    fn of_rule_set(&self, rule_set: usize) -> impl Iterator<Item = &dyn Sink> {
        let placed = self.0.iter();
        let placed = placed.filter(move |placed| placed.rule_set == rule_set);
        placed.map(|placed| &*placed.sink)
    }

    /// How bundles of a rule set are compressed: as for the first of its sinks that needs it.
    pub fn compression(&self, rule_set: usize) -> Compression {
        let mut kinds = self.of_rule_set(rule_set).map(Sink::compression);
        kinds
            .find(|kind| !matches!(kind, Compression::Off | Compression::Level(0)))
            .unwrap_or(Compression::Off)
    }

    /// Whether a compressed bundle of a rule set must keep its lines, for one of its sinks.
    pub fn need_lines(&self, rule_set: usize) -> bool {
        self.of_rule_set(rule_set).any(Sink::needs_lines)
    }

    /// Where they connect to, as far as that is known now.
    pub fn endpoints(&self) -> Vec<SocketAddr> {
        self.each().flat_map(Sink::endpoints).collect()
    }

    /// Reads what the sandbox will hide, and starts the processes that it will not let them start.
    ///
    /// # Errors
    ///
    /// A process cannot be started.
    pub fn prepare(&mut self) -> Result<(), Diagnostic> {
        self.0
            .iter_mut()
            .try_for_each(|placed| placed.sink.prepare())
    }

    /// Adds the ports and files that they need while they run.
    pub fn plan(&self, plan: &mut Plan) {
        for sink in self.each() {
            sink.plan(plan);
        }
    }

    /// Tries which of them could deliver, without sending any call.
    pub fn probes(&self) -> Vec<Probe> {
        self.each().flat_map(Sink::probes).collect()
    }

    /// Starts their threads, and gives what each shard sees of them, for each of so many rule sets.
    ///
    /// # Errors
    ///
    /// What the kernel refuses, or a file that cannot be read.
    pub fn start(
        self,
        shards: usize,
        rule_sets: usize,
        console: Console,
    ) -> io::Result<(Vec<Vec<Outlets>>, RunningSinks)> {
        let places = || (0..rule_sets).map(|_| Vec::new()).collect();
        let mut by_shard: Vec<Vec<Vec<(usize, Outlet)>>> = (0..shards).map(|_| places()).collect();
        let mut running = Vec::new();
        for (number, Placed { rule_set, sink }) in self.0.into_iter().enumerate() {
            let started = sink.start(shards, console)?;
            for (sets, outlet) in by_shard.iter_mut().zip(started.outlets) {
                if let Some(outlets) = sets.get_mut(rule_set) {
                    outlets.push((number, outlet));
                }
            }
            running.push(Placed {
                rule_set,
                sink: started.running,
            });
        }
        let outlets = by_shard.into_iter();
        let outlets = outlets.map(|sets| sets.into_iter().map(Outlets::new).collect());
        Ok((outlets.collect(), RunningSinks(running)))
    }
}

/// The only place that knows all kinds.
fn of_kind(config: &Capture, sink: &SinkConfig, identity: &Arc<Identity>) -> Box<dyn Sink> {
    let name = sink.name.clone();
    let (bundles, bytes) = bounds(config);
    match &sink.destination {
        Destination::Url(urls) => {
            let urls = urls.clone();
            Box::new(http(name, urls, &config.proxies, config, sink, identity))
        }
        Destination::Store(url) => {
            let (url, direct) = (url.clone().into(), Proxies::default());
            let posts_ledger = config.settings.post_ledger != Some(false);
            let http = http(name, url, &direct, config, sink, identity);
            Box::new(http.over_supervisor().posting_ledgers(posts_ledger))
        }
        Destination::Folder(url) => Box::new(Folder::new(name, url.clone(), bundles, bytes)),
        Destination::Stdout => Box::new(Stdout::new(name, bundles, bytes)),
        Destination::Nowhere(reason) => Box::new(Discard::new(name, reason.clone())),
    }
}

/// Bundles and bytes of the backlog of each sink. Each has its share, whatever the others use of theirs; a bundle that several
/// hold counts in each.
fn bounds(config: &Capture) -> (usize, usize) {
    let settings = &config.settings;
    let bytes = backlog_memory(settings) / config.sinks.len().max(1);
    (settings.bundles_kept_max, bytes)
}

/// The sink of capture URLs.
fn http(
    name: String,
    urls: CaptureUrls,
    proxies: &Proxies,
    config: &Capture,
    sink: &SinkConfig,
    identity: &Arc<Identity>,
) -> Http {
    let (bundles, bytes) = bounds(config);
    Http::new(name, urls, proxies)
        .compressed(sink.compression)
        .bounded(bundles, bytes)
        .with_credentials(&sink.credentials)
        .bundling(config.settings.bundle_bytes)
        .confined(!config.settings.no_sandbox)
        .spooled(spool_config(config, sink))
        .dropping_refused(config.settings.drop_refused)
        .posting_ledgers(config.settings.post_ledger == Some(true))
        .marked(Arc::clone(identity))
        .seeded(random::seed())
}

/// What the folder of the spool of a named sink begins with, so that no name is that of a file of the spool around it.
const SPOOL_OF_SINK: &str = "sink-";

/// The spool of a sink that posts; none for the store of this all-in-one, which keeps the calls itself. That of the capture
/// URL is in the folder that was named, and that of another sink in a folder below. They share the bound.
pub fn spool_config(config: &Capture, sink: &SinkConfig) -> Option<spool::Config> {
    let settings = &config.settings;
    let has_one = |sink: &&SinkConfig| {
        matches!(
            sink.destination,
            Destination::Url(_) | Destination::Nowhere(_)
        )
    };
    let sharing = config.sinks.iter().filter(has_one).count();
    let folder = settings.spool.folder().ok().flatten();
    let folder = folder.filter(|_| has_one(&sink))?;
    Some(spool::Config {
        folder: match sink.name.as_str() {
            DEFAULT => folder,
            name => folder.join(format!("{SPOOL_OF_SINK}{name}")),
        },
        bounds: Bounds {
            bytes: (settings.spool_bytes / sharing.max(1)).max(SPOOL_BYTES_MIN) as u64,
            age: settings.spool_age,
        },
        bytes_per_second: settings.spool_rate as u64,
        rules: config.rules_of(sink)?.set.fingerprint(),
    })
}

/// The spool of a running sink.
pub struct Spooled {
    /// The number of the sink.
    pub sink: usize,
    /// The number of its rule set.
    pub rule_set: usize,
    /// The spool.
    pub view: View,
}

/// All sinks while they run.
pub struct RunningSinks(Vec<Placed<dyn Running>>);

impl RunningSinks {
    /// What reads the counters of each, and the number of its rule set.
    pub fn monitors(&self) -> Vec<(usize, Arc<dyn Monitor>)> {
        let placed = self.0.iter();
        placed
            .map(|placed| (placed.rule_set, placed.sink.monitor()))
            .collect()
    }

    /// What they do, for the sentence at the start.
    pub fn description(&self) -> String {
        let placed = self.0.iter();
        let each: Vec<String> = placed.map(|placed| placed.sink.description()).collect();
        each.join(" and ")
    }

    /// Adds the system calls that they make, as far as that depends on this kernel.
    pub fn plan_calls(&self, plan: &mut Plan) {
        for placed in &self.0 {
            placed.sink.plan_calls(plan);
        }
    }

    /// Lets those that were set up for it post their ledgers, each that which is made for its number.
    pub fn post_ledgers(&self, source_of: impl Fn(usize) -> LedgerSource) {
        for (number, placed) in self.0.iter().enumerate() {
            placed.sink.post_ledgers(source_of(number));
        }
    }

    /// Reads certificates and keys again, of each of them; what was read.
    ///
    /// # Errors
    ///
    /// What could not be read or used, of the first of them where that is so. The others have theirs all the same.
    pub fn reload(&self) -> Result<Vec<String>, Diagnostic> {
        let each: Vec<_> = self.0.iter().map(|placed| placed.sink.reload()).collect();
        let read: Result<Vec<_>, _> = each.into_iter().collect();
        read.map(|read| read.into_iter().flatten().collect())
    }

    /// The spools of those that have one.
    pub fn spools(&self) -> Vec<Spooled> {
        let placed = self.0.iter().enumerate();
        let spools = placed.filter_map(|(sink, placed)| {
            Some(Spooled {
                sink,
                rule_set: placed.rule_set,
                view: placed.sink.spool()?,
            })
        });
        spools.collect()
    }

    /// Delivers what they have, all at the same time, until `deadline` at the latest. Nothing may be pushed any longer.
    pub fn stop(mut self, deadline: Instant) {
        self.begin_stop(deadline);
        self.wait();
    }

    /// The same without waiting for their ends. A second call may set an earlier deadline.
    pub fn begin_stop(&mut self, deadline: Instant) {
        for placed in &mut self.0 {
            placed.sink.begin_stop(deadline);
        }
    }

    /// Whether all of them have ended.
    pub fn have_ended(&self) -> bool {
        self.0.iter().all(|placed| placed.sink.has_ended())
    }

    /// Returns when they have.
    pub fn wait(self) {
        for placed in self.0 {
            placed.sink.wait();
        }
    }
}
