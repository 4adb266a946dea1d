//! Sinks: the places that bundles are delivered to, and the one seam between them and the rest of the program.
//!
//! ```text
//!            ┌ bundler ─ Outlets ─┬─ Outbox ──▶ thread of a sink: backlog, delivery
//! a shard ───┤                    └─ Outbox ──▶ thread of another sink
//!            └ … one for each distinct rule set; today there is one
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
//! and an arm in [`Sinks::of`].

pub mod backlog;
pub mod column;
pub mod discard;
pub mod http;
pub mod kind;
pub mod outbox;
pub mod outlet;
pub mod parker;
pub mod part;
pub mod shared;
pub mod spool;
pub mod stats;
mod sync;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use engine_core::bundle::Compression;
use engine_core::uploads::Identity;

use self::discard::Discard;
use self::http::Http;
use self::kind::{Monitor, Probe, Running, Sink};
use self::outlet::{Outlet, Outlets};
use self::spool::{Bounds, View};
use crate::capture_url::CaptureUrls;
use crate::config::{Capture, Destination, Proxies};
use crate::diagnostic::{Console, Diagnostic};
use crate::pipeline::backlog_memory;
use crate::random;
use crate::sandbox::Plan;

/// The name of the sink that the capture URL is.
const DEFAULT: &str = "default";

/// All sinks, as the settings describe them.
pub struct Sinks(Vec<Box<dyn Sink>>);

impl Sinks {
    /// The sinks of a capture, which mark their uploads as those of `identity`.
    pub fn of(config: &Capture, identity: &Arc<Identity>) -> Self {
        let name = DEFAULT.to_owned();
        let sink: Box<dyn Sink> = match &config.destination {
            Destination::Url(urls) => {
                let urls = urls.clone();
                Box::new(http(name, urls, &config.proxies, config, identity))
            }
            Destination::Store(url) => {
                let direct = Proxies::default();
                let http = http(name, url.clone().into(), &direct, config, identity);
                Box::new(http.over_supervisor())
            }
            Destination::Nowhere(reason) => Box::new(Discard::new(name, reason.clone())),
        };
        Self(vec![sink])
    }

    /// How bundles are compressed: as for the first of the sinks that needs it.
    pub fn compression(&self) -> Compression {
        let mut kinds = self.0.iter().map(|sink| sink.compression());
        kinds
            .find(|kind| !matches!(kind, Compression::Off | Compression::Level(0)))
            .unwrap_or(Compression::Off)
    }

    /// Whether a compressed bundle must keep its lines, for one of the sinks.
    pub fn need_lines(&self) -> bool {
        self.0.iter().any(|sink| sink.needs_lines())
    }

    /// Where they connect to, as far as that is known now.
    pub fn endpoints(&self) -> Vec<SocketAddr> {
        self.0.iter().flat_map(|sink| sink.endpoints()).collect()
    }

    /// Reads what the sandbox will hide, and starts the processes that it will not let them start.
    ///
    /// # Errors
    ///
    /// A process cannot be started.
    pub fn prepare(&mut self) -> Result<(), Diagnostic> {
        self.0.iter_mut().try_for_each(|sink| sink.prepare())
    }

    /// Adds the ports and files that they need while they run.
    pub fn plan(&self, plan: &mut Plan) {
        for sink in &self.0 {
            sink.plan(plan);
        }
    }

    /// Tries which of them could deliver, without sending any call.
    pub fn probes(&self) -> Vec<Probe> {
        self.0.iter().flat_map(|sink| sink.probes()).collect()
    }

    /// Starts their threads, and gives what each shard sees of them.
    ///
    /// # Errors
    ///
    /// What the kernel refuses, or a file that cannot be read.
    pub fn start(
        self,
        shards: usize,
        console: Console,
    ) -> io::Result<(Vec<Outlets>, RunningSinks)> {
        let mut by_shard: Vec<Vec<Outlet>> = (0..shards).map(|_| Vec::new()).collect();
        let mut running = Vec::new();
        for sink in self.0 {
            let started = sink.start(shards, console)?;
            for (outlets, outlet) in by_shard.iter_mut().zip(started.outlets) {
                outlets.push(outlet);
            }
            running.push(started.running);
        }
        let outlets = by_shard.into_iter().map(Outlets::new).collect();
        Ok((outlets, RunningSinks(running)))
    }
}

/// The sink of capture URLs.
fn http(
    name: String,
    urls: CaptureUrls,
    proxies: &Proxies,
    config: &Capture,
    identity: &Arc<Identity>,
) -> Http {
    Http::new(name, urls, proxies)
        .compressed(config.compression)
        .bounded(
            config.settings.bundles_kept_max,
            backlog_memory(&config.settings),
        )
        .with_credentials(&config.credentials)
        .bundling(config.settings.bundle_bytes)
        .confined(!config.settings.no_sandbox)
        .spooled(spool_config(config))
        .dropping_refused(config.settings.drop_refused)
        .marked(Arc::clone(identity))
        .seeded(random::seed())
}

/// The spool of the capture URL; none for the store of this all-in-one, which keeps the calls itself.
pub fn spool_config(config: &Capture) -> Option<spool::Config> {
    let settings = &config.settings;
    let is_ours = matches!(config.destination, Destination::Store(_));
    let folder = settings.spool.folder().ok().flatten();
    let folder = folder.filter(|_| !is_ours)?;
    Some(spool::Config {
        folder,
        bounds: Bounds {
            bytes: settings.spool_bytes as u64,
            age: settings.spool_age,
        },
        bytes_per_second: settings.spool_rate as u64,
        rules: config.rules.set.fingerprint(),
    })
}

/// All sinks while they run.
pub struct RunningSinks(Vec<Box<dyn Running>>);

impl RunningSinks {
    /// What reads the counters of each.
    pub fn monitors(&self) -> Vec<Arc<dyn Monitor>> {
        self.0.iter().map(|sink| sink.monitor()).collect()
    }

    /// What they do, for the sentence at the start.
    pub fn description(&self) -> String {
        let each: Vec<String> = self.0.iter().map(|sink| sink.description()).collect();
        each.join(" and ")
    }

    /// Adds the system calls that they make, as far as that depends on this kernel.
    pub fn plan_calls(&self, plan: &mut Plan) {
        for sink in &self.0 {
            sink.plan_calls(plan);
        }
    }

    /// Reads certificates and keys again, of each of them; what was read.
    ///
    /// # Errors
    ///
    /// What could not be read or used, of the first of them where that is so. The others have theirs all the same.
    pub fn reload(&self) -> Result<Vec<String>, Diagnostic> {
        let each: Vec<_> = self.0.iter().map(|sink| sink.reload()).collect();
        let read: Result<Vec<_>, _> = each.into_iter().collect();
        read.map(|read| read.into_iter().flatten().collect())
    }

    /// Their spools.
    pub fn spools(&self) -> Vec<View> {
        self.0.iter().filter_map(|sink| sink.spool()).collect()
    }

    /// Delivers what they have, all at the same time, until `deadline` at the latest. Nothing may be pushed any longer.
    pub fn stop(mut self, deadline: Instant) {
        self.begin_stop(deadline);
        self.wait();
    }

    /// The same without waiting for their ends. A second call may set an earlier deadline.
    pub fn begin_stop(&mut self, deadline: Instant) {
        for sink in &mut self.0 {
            sink.begin_stop(deadline);
        }
    }

    /// Whether all of them have ended.
    pub fn have_ended(&self) -> bool {
        self.0.iter().all(|sink| sink.has_ended())
    }

    /// Returns when they have.
    pub fn wait(self) {
        for sink in self.0 {
            sink.wait();
        }
    }
}
