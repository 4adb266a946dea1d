//! The thread that posts: started, stopped within a deadline, and moved to epoll where io_uring fails.

use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use engine_core::limits::BUNDLE_BYTES;
use engine_core::uploads::Identity;
use engine_sys::driver::{Choice, Driver, Kind};
use hyper::header::{HeaderName, HeaderValue};

use super::answers::Answers;
use super::collectors::{Collector, Collectors};
use super::connection::{self, Endpoint};
use super::dispatcher::{Dispatcher, Observer};
use super::events::Event;
use super::ledger::Ledgers;
use super::reactor::{Reactor, Tasks};
use super::refusal::Refusal;
use super::retry::Retry;
use super::route::Route;
use super::tls::{self, Trust};
use crate::limits;
use crate::sink::backlog::Backlog;
use crate::sink::kind::LedgerSource;
use crate::sink::outbox::Inboxes;
use crate::sink::parker::Parker;
use crate::sink::spool::{self, Spool, View};
use crate::sink::stats::{Recorder, Stats};

/// How and where to post.
#[derive(Clone, Debug)]
pub(super) struct Config {
    /// Where to and by which way, in the order in which that is tried; at least one.
    pub(super) routes: Vec<Route>,
    /// Connections, and so posts at the same time; at least one.
    pub(super) connections: usize,
    /// Bundles that are kept at most, those in delivery included.
    pub(super) backlog_bundles: usize,
    /// Bytes of their bodies that are kept at most.
    pub(super) backlog_bytes: usize,
    /// Time to look up the host, and to connect to one address.
    pub(super) connect_max: Duration,
    /// Time from the start of a post to the head of its answer.
    pub(super) answer_max: Duration,
    /// More headers for every request, an `Authorization` for example.
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    /// Who this process is; no marker without.
    pub(super) identity: Option<Arc<Identity>>,
    /// Which authorities may have signed the collector's certificate, and our own.
    pub(super) trust: Trust,
    /// The name that the collector's certificate must be for, instead of the URL's host.
    pub(super) server_name: Option<String>,
    /// Bytes of lines in one bundle, by the settings.
    pub(super) bundle_bytes: usize,
    /// Time from the start of a post after which a missing answer is reported.
    pub(super) silence_max: Duration,
    /// Which of the kernel's interfaces to use.
    pub(super) driver: Choice,
    /// Bundles are given up at an answer that somebody has to correct.
    pub(super) drops_refused: bool,
    /// Time between two posts of the ledger; none are posted without.
    pub(super) ledger_every: Option<Duration>,
    /// Random: spreads the retries of several sniffers over time.
    pub(super) seed: u64,
}

impl Config {
    /// Whether posts have a header that may name a user or a token.
    pub(super) fn has_credentials(&self) -> bool {
        let has_user = |route: &Route| route.url.authorization().is_some();
        !self.headers.is_empty() || self.routes.iter().any(has_user)
    }

    /// The URLs as status and log show them.
    pub(super) fn place(&self) -> String {
        let urls = self.routes.iter().map(|route| route.url.to_string());
        urls.collect::<Vec<_>>().join(" ")
    }

    /// Whether one of them is encrypted.
    pub(super) fn is_encrypted(&self) -> bool {
        self.routes.iter().any(|route| route.url.is_https())
    }

    /// What all refusals of one of them have in common.
    pub(super) fn refusal(&self, route: &Route) -> Refusal {
        Refusal {
            url: route.url.to_string(),
            status: 0,
            location: None,
            has_credentials: self.has_credentials(),
            bytes: 0,
            bundle_bytes: self.bundle_bytes,
        }
    }

    fn collectors(&self) -> Collectors {
        let collectors = self.routes.iter().zip(0_u64..).map(|(route, index)| {
            let seed = self.seed.wrapping_add(index);
            let retry = Retry::new(seed, self.drops_refused);
            Collector::new(route.name(), self.refusal(route), retry)
        });
        Collectors::new(collectors.collect())
    }

    /// The usual values.
    pub(super) fn new(routes: Vec<Route>) -> Self {
        Self {
            routes,
            connections: limits::UPLOAD_CONNECTIONS,
            backlog_bundles: limits::UPLOAD_BUNDLES_MAX,
            backlog_bytes: limits::UPLOAD_BYTES_MAX,
            connect_max: limits::UPLOAD_CONNECT_MAX,
            answer_max: limits::UPLOAD_ANSWER_MAX,
            headers: Vec::new(),
            identity: None,
            trust: Trust::default(),
            server_name: None,
            bundle_bytes: BUNDLE_BYTES,
            silence_max: limits::UPLOAD_SILENCE_MAX,
            driver: Choice::Auto,
            drops_refused: false,
            ledger_every: None,
            seed: 0,
        }
    }
}

/// The thread that posts. Dropping it gives up what was not delivered, counted like the end of [`Self::wait`].
pub(super) struct Uploader {
    stats: Arc<Stats>,
    answers: Arc<Answers>,
    spool: Option<View>,
    tls: Option<tls::Current>,
    control: Arc<Control>,
    thread: Option<JoinHandle<()>>,
}

/// What other threads set while it runs.
struct Control {
    /// When to stop at the latest.
    stop: Mutex<Option<Instant>>,
    /// Certificates were read again since this was looked at.
    has_other_certificates: AtomicBool,
    /// Writes the ledger, once there is somebody who can.
    ledger: Arc<OnceLock<LedgerSource>>,
    parker: Arc<Parker>,
}

impl Control {
    fn stop_at(&self) -> Option<Instant> {
        *self.stop.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Uploader {
    /// Starts the thread, and that of its spool. It calls `report` for events that belong into the log; that must return
    /// soon.
    ///
    /// # Errors
    ///
    /// The certificates cannot be read, or the kernel gives no thread, or neither io_uring nor epoll.
    pub(super) fn start(
        config: Config,
        spool: Option<spool::Opened>,
        inboxes: Inboxes,
        report: impl Fn(&Event) + Send + 'static,
    ) -> io::Result<Self> {
        let is_encrypted = config.is_encrypted();
        let tls = is_encrypted.then(|| tls::Current::new(&config.trust));
        let tls = tls.transpose()?;
        let stats = Arc::new(Stats::new(inboxes.columns.clone()));
        let answers = Arc::<Answers>::default();
        let control = Arc::new(Control {
            stop: Mutex::new(None),
            has_other_certificates: AtomicBool::new(false),
            ledger: Arc::default(),
            parker: inboxes.parker.clone(),
        });
        let spool = spool.map(|opened| opened.start(inboxes.parker.clone()));
        let spool = spool.transpose()?;
        let view = spool.as_ref().map(Spool::view);
        let (started, starting) = channel();
        let observer = Observer::new(
            Recorder::new(stats.clone()),
            answers.clone(),
            Box::new(report),
        );
        let thread = {
            let (control, tls) = (control.clone(), tls.clone());
            thread::Builder::new()
                .name("uploader".to_owned())
                .spawn(move || {
                    Thread {
                        config,
                        tls,
                        control,
                    }
                    .run(inboxes, spool, observer, &started);
                })?
        };
        wait_for(&starting)?;
        Ok(Self {
            stats,
            answers,
            spool: view,
            tls,
            control,
            thread: Some(thread),
        })
    }

    /// The counters that every sink has.
    pub(super) fn stats(&self) -> Arc<Stats> {
        self.stats.clone()
    }

    /// Those of HTTP.
    pub(super) fn answers(&self) -> Arc<Answers> {
        self.answers.clone()
    }

    /// The spool, where there is one.
    pub(super) fn spool(&self) -> Option<View> {
        self.spool.clone()
    }

    /// Changes the certificates for all connections from now on, and tries at once what waits. What cannot be used changes nothing.
    ///
    /// # Errors
    ///
    /// What is wrong with them.
    pub(super) fn trust(&self, trust: &Trust) -> io::Result<()> {
        if let Some(tls) = &self.tls {
            tls.replace(trust)?;
            self.control
                .has_other_certificates
                .store(true, Ordering::Release);
            self.control.parker.unpark();
        }
        Ok(())
    }

    /// Posts what `source` writes, where the configuration has how often. Only the first one counts.
    pub(super) fn post_ledgers(&self, source: LedgerSource) {
        let _ = self.control.ledger.set(source);
    }

    /// Delivers what was pushed, until `deadline` at the latest; the rest is left to the spool, or given up and counted as
    /// `shutdown` where there is none. Nothing may be pushed any longer.
    pub(super) fn begin_stop(&mut self, deadline: Instant) {
        *self
            .control
            .stop
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(deadline);
        self.control.parker.unpark();
    }

    /// Whether the thread has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Returns when the thread has ended.
    pub(super) fn wait(mut self) {
        self.join();
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            // A panic there was reported by its own thread.
            let _ = thread.join();
        }
    }
}

impl Drop for Uploader {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.begin_stop(Instant::now());
            self.join();
        }
    }
}

fn wait_for(starting: &Receiver<io::Result<()>>) -> io::Result<()> {
    starting
        .recv()
        .unwrap_or_else(|_| Err(io::Error::other("the uploader ended while it started")))
}

/// What the thread owns from its start.
struct Thread {
    config: Config,
    tls: Option<tls::Current>,
    control: Arc<Control>,
}

impl Thread {
    fn run(
        self,
        inboxes: Inboxes,
        spool: Option<Spool>,
        observer: Observer,
        started: &Sender<io::Result<()>>,
    ) {
        // Opened here: a ring belongs to the thread that uses it.
        let driver = match Driver::open(self.config.driver, inboxes.parker.event()) {
            Ok(driver) => driver,
            Err(error) => {
                let _ = started.send(Err(error));
                return;
            }
        };
        let Inboxes {
            inboxes, parker, ..
        } = inboxes;
        observer.opened(driver.kind());
        let dispatcher = Dispatcher::new(
            self.config.collectors(),
            Backlog::new(self.config.backlog_bundles, self.config.backlog_bytes),
            spool,
            inboxes,
            observer,
        );
        if let Kind::Epoll {
            refused: Some(errno),
        } = driver.kind()
        {
            dispatcher.report(&Event::Fallback { errno }, Instant::now());
        }
        let _ = started.send(Ok(()));

        let mut ended = self.deliver(&dispatcher, driver);
        if let Err(error) = &ended {
            dispatcher.report(
                &Event::DriverFailed {
                    error: error.to_string(),
                },
                Instant::now(),
            );
            dispatcher.restart();
            if let Ok(driver) = Driver::open(Choice::Epoll, parker.event()) {
                // If that fails too, everything is given up, and counted, below.
                ended = self.deliver(&dispatcher, driver);
            }
        }
        dispatcher.close();
        if let Ok((endpoint, Some(ledgers))) = ended {
            self.post_last(&endpoint, &ledgers);
        }
    }

    /// Posts the ledger as it is in the end, to a collector that took what was posted before.
    fn post_last(&self, endpoint: &Rc<Endpoint>, ledgers: &Rc<Ledgers>) {
        let deadline = Instant::now() + limits::LEDGER_WAIT;
        let parker = &self.control.parker;
        let mut tasks = Tasks::new();
        let (endpoint, ledgers) = (endpoint.clone(), ledgers.clone());
        let reactor = endpoint.reactor.clone();
        tasks.spawn(parker, async move { ledgers.post(&endpoint).await });
        while Instant::now() < deadline {
            let ran = tasks.run();
            if tasks.is_empty() {
                return;
            }
            if ran {
                continue;
            }
            parker.prepare();
            let is_idle = !tasks.any_woken();
            let turned = is_idle.then(|| reactor.turn(Some(deadline)));
            parker.awake();
            if let Some(Err(_)) = turned {
                return;
            }
        }
    }

    /// Runs the connections until everything is delivered after a stop, or its deadline is over.
    fn deliver(
        &self,
        dispatcher: &Rc<Dispatcher>,
        driver: Driver,
    ) -> io::Result<(Rc<Endpoint>, Option<Rc<Ledgers>>)> {
        let parker = &self.control.parker;
        let reactor = Reactor::new(driver);
        let endpoint = Rc::new(Endpoint {
            collectors: self
                .config
                .routes
                .iter()
                .map(|route| connection::Collector::new(route, &self.config.headers))
                .collect(),
            identity: self.config.identity.clone(),
            tls: self.tls.clone(),
            server_name: self.config.server_name.clone(),
            connect_max: self.config.connect_max,
            answer_max: self.config.answer_max,
            silence_max: self.config.silence_max,
            dispatcher: dispatcher.clone(),
            reactor: reactor.clone(),
        });
        let mut tasks = Tasks::new();
        for _ in 0..self.config.connections.max(1) {
            tasks.spawn(parker, connection::run(endpoint.clone()));
        }
        let ledgers = self.config.ledger_every.map(|every| {
            let ledgers = Rc::new(Ledgers::new(self.control.ledger.clone()));
            tasks.spawn(parker, ledgers.clone().run(endpoint.clone(), every));
            ledgers
        });

        let mut stop_at = None;
        loop {
            let was_stopping = stop_at.is_some();
            // A second one is earlier.
            stop_at = self.control.stop_at();
            if stop_at.is_some() && !was_stopping {
                dispatcher.stop(Instant::now());
            }
            let other_certificates = &self.control.has_other_certificates;
            if other_certificates.swap(false, Ordering::Acquire) {
                dispatcher.try_again(Instant::now());
            }
            // After `stop` was read: what was pushed before it is in the backlog when the connections see it.
            dispatcher.collect();
            let ran = tasks.run();
            if tasks.is_empty() || stop_at.is_some_and(|at| at <= Instant::now()) {
                return Ok((endpoint, ledgers));
            }
            if ran {
                continue;
            }
            parker.prepare();
            let has_order =
                self.control.stop_at() != stop_at || other_certificates.load(Ordering::Relaxed);
            if !dispatcher.has_new() && !tasks.any_woken() && !has_order {
                reactor.turn(stop_at)?;
            }
            parker.awake();
        }
    }
}
