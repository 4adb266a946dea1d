//! The sink that posts bundles to a capture URL, on one thread.
//!
//! ```text
//! shard 0  Outbox ──rtrb──┐                         ┌─ connection 0 ─ hyper ─ [rustls] ─┐
//! shard 1  Outbox ──rtrb──┼─ backlog (bounded) ─────┤                                   ├─ driver: io_uring or epoll
//! …        eventfd, only when the uploader sleeps   └─ connection 1 ─ …                 ┘
//! ```
//!
//! At least once: a bundle leaves the backlog when it was acknowledged (204), refused for good, or given up and counted.
//! So at any time `pushed + recovered = sent + dropped(reason) + spooled + in flight`, in calls. The contract: `POST`, NDJSON, zlib named
//! `deflated`, 204; connection failures, time-outs, 408, 425, 429 and 5xx are tried again, with the same idempotency
//! key, and so are, after long pauses, 401, 403, 404, 405 and 407, which people can correct.
//!
//! It does not compress, which would make one thread the bottleneck, and leaves the disk to the thread of the
//! [spool].

mod addresses;
pub mod answer;
mod answers;
mod certificate;
mod collectors;
mod connection;
mod dispatcher;
mod events;
mod ledger;
mod probe;
mod reactor;
mod refusal;
mod resolve;
mod retry;
mod route;
mod stream;
#[cfg(test)]
mod tests;
mod throttle;
mod tls;
mod tunnel;
mod uploader;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use engine_core::bundle::Compression;
use engine_core::uploads::Identity;
use engine_sys::driver::{Choice, Kind};

pub use self::tls::{Roots, Trust};

use self::answers::Answers;
use self::events::Event;
use self::route::{Route, Way};
use self::uploader::{Config, Uploader};
use super::kind::{LedgerSource, Monitor, Probe, Running, Sink, Started};
use super::outbox::outboxes;
use super::outlet::Outlet;
use super::spool::{self, View};
use super::stats::{Snapshot, Stats};
use crate::capture_url::CaptureUrls;
use crate::config::{Credentials, Pems, Proxies, TlsFiles};
use crate::delegate::Delegate;
use crate::diagnostic::{Code, Console, Diagnostic};
use crate::limits;
use crate::sandbox::Plan;

/// Capture URLs, and how to post to them.
pub struct Http {
    name: String,
    config: Config,
    compression: Compression,
    is_confined: bool,
    files: TlsFiles,
    /// Reads them again.
    reader: Option<Delegate>,
    spool: Option<spool::Config>,
    opened: Option<spool::Opened>,
}

impl Http {
    /// The sink `name`, which posts to the first of `urls` that takes bundles, each through the proxy that leads to it, with the
    /// usual values.
    pub fn new(name: String, urls: CaptureUrls, proxies: &Proxies) -> Self {
        let routes = urls.into_iter().map(|url| {
            let proxy = proxies.of(&url);
            Route::new(url, proxy)
        });
        Self {
            name,
            config: Config::new(routes.collect()),
            compression: Compression::default(),
            is_confined: true,
            files: TlsFiles::default(),
            reader: None,
            spool: None,
            opened: None,
        }
    }

    /// Keeps what is not delivered on disk.
    pub fn spooled(mut self, spool: Option<spool::Config>) -> Self {
        self.spool = spool;
        self
    }

    /// Whether the process that looks up the name of the host confines itself.
    pub fn confined(mut self, is_confined: bool) -> Self {
        self.is_confined = is_confined;
        self
    }

    /// Over connections that the supervisor passes to its store, instead of those to an address.
    pub fn over_supervisor(mut self) -> Self {
        for route in &mut self.config.routes {
            route.way = Way::Supervisor;
        }
        self
    }

    /// For bundles that are compressed like this.
    pub fn compressed(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// Keeps at most this many bundles, and this many bytes of them or the usual number, whichever is less.
    pub fn bounded(mut self, bundles: usize, bytes: usize) -> Self {
        self.config.backlog_bundles = bundles;
        self.config.backlog_bytes = self.config.backlog_bytes.min(bytes);
        self
    }

    /// With these headers, certificates and key.
    pub fn with_credentials(mut self, credentials: &Credentials) -> Self {
        self.config.headers.clone_from(&credentials.headers);
        self.config.server_name.clone_from(&credentials.server_name);
        self.config.trust = trust(&credentials.pems, Roots::System);
        self.files = credentials.files.clone();
        self
    }

    /// Marks each post as an upload of this process.
    pub fn marked(mut self, identity: Arc<Identity>) -> Self {
        self.config.identity = Some(identity);
        self
    }

    /// For bundles of this number of bytes, uncompressed.
    pub fn bundling(mut self, bytes: usize) -> Self {
        self.config.bundle_bytes = bytes;
        self
    }

    /// Gives up bundles at an answer that somebody has to correct, instead of keeping them.
    pub fn dropping_refused(mut self, wanted: bool) -> Self {
        self.config.drops_refused = wanted;
        self
    }

    /// Posts the ledger to `/ledger` beside the capture URL, which only stores of ours take.
    pub fn posting_ledgers(mut self, wanted: bool) -> Self {
        self.config.ledger_every = wanted.then_some(limits::LEDGER_EVERY);
        self
    }

    /// By this of the kernel's interfaces.
    pub fn driven_by(mut self, driver: Choice) -> Self {
        self.config.driver = driver;
        self
    }

    /// Spreads the retries of several sniffers over time.
    pub fn seeded(mut self, seed: u64) -> Self {
        self.config.seed = seed;
        self
    }
}

impl Sink for Http {
    fn compression(&self) -> Compression {
        self.compression
    }

    /// The addresses of the hosts, or of the proxies that lead there. A name that does not resolve now is tried again by the
    /// uploader; until then nothing of it is on the wire but look-ups.
    fn endpoints(&self) -> Vec<SocketAddr> {
        self.config
            .routes
            .iter()
            .flat_map(Route::endpoints)
            .collect()
    }

    fn prepare(&mut self) -> Result<(), Diagnostic> {
        if let Some(config) = self.spool.clone() {
            let folder = config.folder.clone();
            let opened = spool::open(config);
            self.opened = Some(opened.map_err(|why| why.diagnostic(&folder))?);
        }
        for route in &mut self.config.routes {
            route.prepare(self.is_confined)?;
        }
        if self.config.is_encrypted() {
            if self.config.trust.roots == Roots::System {
                self.config.trust.roots = Roots::of_system();
            }
            let usable = tls::client_config(&self.config.trust);
            usable.map_err(|error| Diagnostic::new(Code::E002, error.to_string()))?;
            let files = self.files.list();
            if !files.is_empty() {
                let reader = Delegate::for_files(&files, self.is_confined);
                self.reader = Some(reader.map_err(|error| {
                    let what = format!("cannot start the process that reads certificates: {error}");
                    Diagnostic::new(Code::E199, what)
                })?);
            }
        }
        Ok(())
    }

    fn plan(&self, plan: &mut Plan) {
        if let Some(opened) = &self.opened {
            plan.write_in(opened.folder());
        }
        for route in &self.config.routes {
            route.plan(plan);
        }
    }

    fn probes(&self) -> Vec<Probe> {
        let routes = self.config.routes.iter();
        routes
            .map(|route| probe::probe(&self.config, route))
            .collect()
    }

    fn start(self: Box<Self>, shards: usize, console: Console) -> io::Result<Started> {
        let (outboxes, inboxes) = outboxes(shards)?;
        let place = self.config.place();
        let sink = *self;
        let certificates = sink.reader.map(|reader| Certificates {
            files: sink.files,
            reader: Mutex::new(reader),
            trust: sink.config.trust.clone(),
        });
        let report = move |event: &Event| match event {
            // That the collector is up again, or shows no ledgers, is a sentence, not a warning.
            Event::Up { .. } | Event::NoLedgers { .. } => console.info(event),
            _ => console.report(&Diagnostic::new(event.code(), event.to_string())),
        };
        let uploader = Uploader::start(sink.config, sink.opened, inboxes, report)?;
        let monitor = Counts {
            name: sink.name,
            place,
            stats: uploader.stats(),
            answers: uploader.answers(),
            spool: uploader.spool(),
        };
        Ok(Started {
            outlets: outboxes.into_iter().map(Outlet::Outbox).collect(),
            running: Box::new(Posting {
                uploader,
                certificates,
                compression: sink.compression,
                monitor: Arc::new(monitor),
            }),
        })
    }
}

/// What the texts of the files mean, with these roots where there are none.
fn trust(pems: &Pems, roots: Roots) -> Trust {
    Trust {
        roots: pems.ca.clone().map_or(roots, Roots::Pem),
        identity: pems.certificate.clone().zip(pems.key.clone()),
    }
}

/// Certificates and a key that can be read again.
struct Certificates {
    files: TlsFiles,
    reader: Mutex<Delegate>,
    /// As it was at the start.
    trust: Trust,
}

impl Certificates {
    /// As the files are now.
    fn read(&self) -> Result<Trust, Diagnostic> {
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let contents = reader.files().map_err(|error| {
            let why = match Delegate::has_ended(&error) {
                true => "the process that reads them has ended; restart the sniffer".to_owned(),
                false => error.to_string(),
            };
            Diagnostic::new(
                Code::E057,
                format!("certificates cannot be read again: {why}"),
            )
        })?;
        let pems = self
            .files
            .pems(contents)
            .map_err(|problem| unusable(&problem.what))?;
        Ok(trust(&pems, self.trust.roots.clone()))
    }
}

/// What is wrong with certificates that were read again.
fn unusable(why: &str) -> Diagnostic {
    Diagnostic::new(
        Code::E057,
        format!("certificates were read again and cannot be used: {why}"),
    )
}

/// The sink while it runs.
struct Posting {
    uploader: Uploader,
    certificates: Option<Certificates>,
    compression: Compression,
    monitor: Arc<Counts>,
}

impl Running for Posting {
    fn monitor(&self) -> Arc<dyn Monitor> {
        self.monitor.clone()
    }

    fn description(&self) -> String {
        let deflate = match self.compression {
            Compression::Off | Compression::Level(0) => "off".to_owned(),
            Compression::Fast => "on".to_owned(),
            Compression::Level(level) => format!("level {level}"),
        };
        let url = &self.monitor.place;
        let driver = self.monitor.answers.driver();
        let spool = self.uploader.spool().map_or_else(String::new, |spool| {
            format!(", spool {}", spool.snapshot().folder)
        });
        format!("sending to {url} (deflate {deflate}, uploader {driver}{spool})")
    }

    fn plan_calls(&self, plan: &mut Plan) {
        plan.uses_uring |= self.monitor.answers.kind() == Some(Kind::Uring);
    }

    fn post_ledgers(&self, source: LedgerSource) {
        self.uploader.post_ledgers(source);
    }

    fn spool(&self) -> Option<View> {
        self.uploader.spool()
    }

    fn reload(&self) -> Result<Option<String>, Diagnostic> {
        let Some(certificates) = &self.certificates else {
            return Ok(None);
        };
        let trusted = self.uploader.trust(&certificates.read()?);
        trusted.map_err(|error| unusable(&error.to_string()))?;
        let files = certificates.files.list();
        let files: Vec<String> = files
            .iter()
            .map(|file| file.display().to_string())
            .collect();
        Ok(Some(format!(
            "certificates read again: {}",
            files.join(", ")
        )))
    }

    fn begin_stop(&mut self, deadline: Instant) {
        self.uploader.begin_stop(deadline);
    }

    fn has_ended(&self) -> bool {
        self.uploader.has_ended()
    }

    fn wait(self: Box<Self>) {
        self.uploader.wait();
    }
}

/// What the uploader and the shards counted.
struct Counts {
    name: String,
    place: String,
    stats: Arc<Stats>,
    answers: Arc<Answers>,
    spool: Option<View>,
}

impl Monitor for Counts {
    fn snapshot(&self) -> Snapshot {
        let mut snapshot = self.stats.snapshot(&self.name, &self.place);
        snapshot.detail = Some(self.answers.detail(&snapshot.counters));
        snapshot.spool = self.spool.as_ref().map(View::snapshot);
        snapshot
    }
}
