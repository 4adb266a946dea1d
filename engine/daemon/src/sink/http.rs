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

pub mod answer;
mod answers;
mod certificate;
mod connection;
mod dispatcher;
mod events;
mod probe;
mod reactor;
mod resolve;
mod retry;
mod stream;
#[cfg(test)]
mod tests;
mod tls;
mod uploader;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use engine_core::bundle::Compression;
use engine_core::uploads::Identity;
use engine_sys::driver::Kind;
use hyper::header::{HeaderName, HeaderValue};

pub use self::tls::Roots;

use self::answers::Answers;
use self::events::Event;
use self::uploader::{Config, Uploader};
use super::kind::{Monitor, Probe, Running, Sink, Started};
use super::outbox::outboxes;
use super::outlet::Outlet;
use super::spool::{self, View};
use super::stats::{Snapshot, Stats};
use crate::capture_url::CaptureUrl;
use crate::delegate::Delegate;
use crate::diagnostic::{Code, Console, Diagnostic};
use crate::sandbox::Plan;

/// A capture URL, and how to post to it.
pub struct Http {
    name: String,
    config: Config,
    compression: Compression,
    is_confined: bool,
    spool: Option<spool::Config>,
    opened: Option<spool::Opened>,
}

impl Http {
    /// The sink `name`, which posts to `url` with the usual values.
    pub fn new(name: String, url: CaptureUrl) -> Self {
        Self {
            name,
            config: Config::new(url),
            compression: Compression::default(),
            is_confined: true,
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
    pub fn over_supervisor(mut self, wanted: bool) -> Self {
        self.config.over_supervisor = wanted;
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

    /// Trusts these authorities.
    pub fn trusting(mut self, roots: Roots) -> Self {
        self.config.roots = roots;
        self
    }

    /// Marks each post as an upload of this process.
    pub fn marked(mut self, identity: Arc<Identity>) -> Self {
        self.config.identity = Some(identity);
        self
    }

    /// Adds these headers to each post.
    pub fn with_headers(mut self, headers: Vec<(HeaderName, HeaderValue)>) -> Self {
        self.config.headers = headers;
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

    /// The addresses of the host. A name that does not resolve now is tried again by the uploader; until then nothing of
    /// it is on the wire but look-ups.
    fn endpoints(&self) -> Vec<SocketAddr> {
        if self.config.over_supervisor {
            return Vec::new();
        }
        resolve::addresses_now(&self.config.url, self.config.delegate.as_ref()).unwrap_or_default()
    }

    fn prepare(&mut self) -> Result<(), Diagnostic> {
        if let Some(config) = self.spool.clone() {
            let folder = config.folder.clone();
            let opened = spool::open(config);
            self.opened = Some(opened.map_err(|why| why.diagnostic(&folder))?);
        }
        let url = &self.config.url;
        if !self.config.over_supervisor && resolve::needs_delegate(url) {
            let delegate = Delegate::for_name(url.host(), url.port(), self.is_confined);
            let delegate = delegate.map_err(|error| {
                let what = format!(
                    "cannot start the process that looks up {}: {error}",
                    url.host()
                );
                Diagnostic::new(Code::E199, what)
            })?;
            self.config.delegate = Some(Arc::new(Mutex::new(delegate)));
        }
        if url.is_https() && self.config.roots == Roots::System {
            self.config.roots = Roots::of_system();
        }
        Ok(())
    }

    fn plan(&self, plan: &mut Plan) {
        if let Some(opened) = &self.opened {
            plan.write_in(opened.folder());
        }
        if self.config.over_supervisor {
            plan.makes_socket_pairs = true;
            return;
        }
        plan.connect_to(self.config.url.port());
    }

    fn probe(&self) -> Option<Probe> {
        Some(probe::probe(&self.config))
    }

    fn start(self: Box<Self>, shards: usize, console: Console) -> io::Result<Started> {
        let (outboxes, inboxes) = outboxes(shards)?;
        let place = self.config.url.to_string();
        let report = move |event: &Event| match event {
            // That the collector is up again is a sentence, not a warning.
            Event::Up { .. } => console.info(event),
            _ => console.report(&Diagnostic::new(event.code(), event.to_string())),
        };
        let uploader = Uploader::start(self.config, self.opened, inboxes, report)?;
        let monitor = Counts {
            name: self.name,
            place,
            stats: uploader.stats(),
            answers: uploader.answers(),
            spool: uploader.spool(),
        };
        Ok(Started {
            outlets: outboxes.into_iter().map(Outlet::Outbox).collect(),
            running: Box::new(Posting {
                uploader,
                compression: self.compression,
                monitor: Arc::new(monitor),
            }),
        })
    }
}

/// The sink while it runs.
struct Posting {
    uploader: Uploader,
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

    fn spool(&self) -> Option<View> {
        self.uploader.spool()
    }

    fn begin_stop(&mut self, deadline: Instant) {
        self.uploader.begin_stop(deadline);
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
