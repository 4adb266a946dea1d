//! Delivery: bundles from the shards in, POST requests to the capture URL out, on one thread.
//!
//! ```text
//! shard 0  Outbox ──rtrb──┐                      ┌─ connection 0 ─ hyper ─ [rustls] ─┐
//! shard 1  Outbox ──rtrb──┼─ queue (bounded) ────┤                                   ├─ driver: io_uring or epoll
//! …        eventfd, only when the uploader sleeps └─ connection 1 ─ …                 ┘
//! ```
//!
//! At least once: a bundle leaves the queue when it was acknowledged (204), refused for good, or given up and counted.
//! So at any time `handed = sent + dropped(reason) + in flight`, in calls. The contract: `POST`, NDJSON, zlib named
//! `deflated`, 204; connection failures, time-outs, 408, 429 and 5xx are tried again, with the same idempotency key.
//!
//! It does not compress, which would make one thread the bottleneck, and writes nothing to disk.

mod connection;
mod dispatcher;
mod event;
mod outbox;
mod queue;
mod reactor;
mod resolve;
mod retry;
mod stats;
mod stream;
#[cfg(test)]
mod tests;
mod tls;

use std::io;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use engine_sys::driver::{Choice, Driver, Kind};
use hyper::header::{HeaderName, HeaderValue};
use rustls::ClientConfig;

use crate::capture_url::CaptureUrl;
use crate::limits;

pub(crate) use self::event::driver_name;
pub use self::event::{Event, IO_URING};
pub use self::outbox::{Inboxes, Outbox, outboxes};
pub use self::retry::{Failure, Outcome};
pub use self::stats::{DropReason, Snapshot, Stats, Times};
pub use self::tls::Roots;

use self::connection::Endpoint;
use self::dispatcher::Dispatcher;
use self::outbox::Parker;
use self::reactor::{Reactor, Tasks};
use self::resolve::Resolver;

/// How and where to deliver.
#[derive(Clone, Debug)]
pub struct UploadConfig {
    /// Where to.
    pub url: CaptureUrl,
    /// Connections, and so posts at the same time; at least one.
    pub connections: usize,
    /// Bundles that are kept at most, those under way included.
    pub queue_bundles: usize,
    /// Bytes of their bodies that are kept at most.
    pub queue_bytes: usize,
    /// Time to look up the host, and to connect to one address.
    pub connect_max: Duration,
    /// Time from the start of a post to the head of its answer.
    pub answer_max: Duration,
    /// More headers for every request, an `Authorization` for example.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Who vouches for the collector's certificate.
    pub roots: Roots,
    /// How the kernel is asked.
    pub driver: Choice,
    /// The core to stay on.
    pub core: Option<usize>,
    /// Random: spreads the retries of several sniffers over time.
    pub seed: u64,
}

impl UploadConfig {
    /// The usual values.
    pub fn new(url: CaptureUrl) -> Self {
        Self {
            url,
            connections: limits::UPLOAD_CONNECTIONS,
            queue_bundles: limits::UPLOAD_BUNDLES_MAX,
            queue_bytes: limits::UPLOAD_BYTES_MAX,
            connect_max: limits::UPLOAD_CONNECT_MAX,
            answer_max: limits::UPLOAD_ANSWER_MAX,
            headers: Vec::new(),
            roots: Roots::System,
            driver: Choice::Auto,
            core: None,
            seed: 0,
        }
    }
}

/// The thread that delivers. Dropping it gives up what was not delivered, counted like the end of [`Self::stop`].
pub struct Uploader {
    stats: Arc<Stats>,
    control: Arc<Control>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread is told while it runs.
struct Control {
    /// When to stop at the latest.
    stop: Mutex<Option<Instant>>,
    parker: Arc<Parker>,
}

impl Control {
    fn stop_at(&self) -> Option<Instant> {
        *self.stop.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Uploader {
    /// Starts the thread. `say` is called on it for what a person should know; it must return soon.
    ///
    /// # Errors
    ///
    /// The certificates cannot be read, or the kernel gives no thread, or neither io_uring nor epoll.
    pub fn start(
        config: UploadConfig,
        inboxes: Inboxes,
        say: impl Fn(&Event) + Send + 'static,
    ) -> io::Result<Self> {
        let tls = config
            .url
            .is_https()
            .then(|| tls::client_config(&config.roots))
            .transpose()?;
        let stats = Arc::new(Stats::new(inboxes.handed.clone()));
        let control = Arc::new(Control {
            stop: Mutex::new(None),
            parker: inboxes.parker.clone(),
        });
        let (started, starting) = channel();
        let thread = {
            let (stats, control) = (stats.clone(), control.clone());
            thread::Builder::new()
                .name("uploader".to_owned())
                .spawn(move || {
                    Thread {
                        config,
                        tls,
                        stats,
                        control,
                    }
                    .run(inboxes, Box::new(say), &started);
                })?
        };
        wait_for(&starting)?;
        Ok(Self {
            stats,
            control,
            thread: Some(thread),
        })
    }

    /// The counters, for status and metrics.
    pub fn stats(&self) -> Arc<Stats> {
        self.stats.clone()
    }

    /// Delivers what was handed over, for at most `deadline`; the rest is given up, counted as `shutdown`. Nothing may
    /// be handed over any longer.
    pub fn stop(mut self, deadline: Duration) -> Snapshot {
        self.end(deadline);
        self.stats.snapshot()
    }

    fn end(&mut self, deadline: Duration) {
        let Some(thread) = self.thread.take() else {
            return;
        };
        *self
            .control
            .stop
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + deadline);
        self.control.parker.unpark();
        // A panic there was reported by its own thread.
        let _ = thread.join();
    }
}

impl Drop for Uploader {
    fn drop(&mut self) {
        self.end(Duration::ZERO);
    }
}

fn wait_for(starting: &Receiver<io::Result<()>>) -> io::Result<()> {
    starting
        .recv()
        .unwrap_or_else(|_| Err(io::Error::other("the uploader ended while it started")))
}

/// What the thread owns from its start.
struct Thread {
    config: UploadConfig,
    tls: Option<Arc<ClientConfig>>,
    stats: Arc<Stats>,
    control: Arc<Control>,
}

impl Thread {
    fn run(
        self,
        inboxes: Inboxes,
        say: Box<dyn Fn(&Event) + Send>,
        started: &Sender<io::Result<()>>,
    ) {
        if let Some(core) = self.config.core {
            engine_sys::cpu::pin(core);
        }
        // Opened here: a ring belongs to the thread that uses it.
        let driver = match Driver::open(self.config.driver, inboxes.parker.event()) {
            Ok(driver) => driver,
            Err(error) => {
                let _ = started.send(Err(error));
                return;
            }
        };
        let bounds = (self.config.queue_bundles, self.config.queue_bytes);
        let Inboxes {
            inboxes, parker, ..
        } = inboxes;
        let dispatcher = Dispatcher::new(
            self.config.url.clone(),
            bounds,
            self.config.seed,
            inboxes,
            self.stats.clone(),
            say,
        );
        self.stats.set_driver(driver_name(driver.kind()));
        if let Kind::Epoll {
            refused: Some(errno),
        } = driver.kind()
        {
            dispatcher.say(&Event::Fallback { errno }, Instant::now());
        }
        let _ = started.send(Ok(()));

        if let Err(error) = self.deliver(&dispatcher, driver) {
            dispatcher.say(
                &Event::DriverFailed {
                    error: error.to_string(),
                },
                Instant::now(),
            );
            dispatcher.restart();
            if let Ok(driver) = Driver::open(Choice::Epoll, parker.event()) {
                // If that fails too, everything is given up, and counted, below.
                let _ = self.deliver(&dispatcher, driver);
            }
        }
        dispatcher.close();
    }

    /// Runs the connections until everything is delivered after a stop, or its deadline is over.
    fn deliver(&self, dispatcher: &Rc<Dispatcher>, driver: Driver) -> io::Result<()> {
        let parker = &self.control.parker;
        let reactor = Reactor::new(driver);
        let endpoint = Rc::new(Endpoint {
            url: self.config.url.clone(),
            headers: connection::headers(&self.config.url, &self.config.headers),
            tls: self.tls.clone(),
            connect_max: self.config.connect_max,
            answer_max: self.config.answer_max,
            dispatcher: dispatcher.clone(),
            reactor: reactor.clone(),
            resolver: Rc::new(Resolver::default()),
        });
        let mut tasks = Tasks::new();
        for _ in 0..self.config.connections.max(1) {
            tasks.spawn(parker, connection::run(endpoint.clone()));
        }

        let mut stop_at = None;
        loop {
            if stop_at.is_none() {
                stop_at = self.control.stop_at();
                if stop_at.is_some() {
                    dispatcher.stop(Instant::now());
                }
            }
            // After the look at `stop`: what was handed over before it is in the queue when the connections learn of it.
            dispatcher.collect();
            let ran = tasks.run();
            if tasks.is_empty() || stop_at.is_some_and(|at| at <= Instant::now()) {
                return Ok(());
            }
            if ran {
                continue;
            }
            parker.prepare();
            let stopping = stop_at.is_none() && self.control.stop_at().is_some();
            if !dispatcher.has_mail() && !tasks.any_woken() && !stopping {
                reactor.turn(stop_at)?;
            }
            parker.awake();
        }
    }
}
