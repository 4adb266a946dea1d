//! The embedded call store: a Resurface-compatible capture URL, a database, and a web page.
//!
//! Bundles of NDJSON lines come by `POST /message` (`docs/contract.md`, sections 1 and 2); the page with its live list is
//! served on the loopback address, to who has its token. A bundle is answered with 204 after its commit, never before.
//!
//! ```text
//! POST /message → capture → content → bundle ─┐
//!                                             ├─ backend (trait Backend): calls.sqlite
//! browser ← page ← api, stream ───────────────┘
//! ```
//!
//! What keeps the calls lies behind one seam, [`backend::Backend`]. The store runs as a process of its own, without any
//! capability: a page or a query can never harm capture. Every bound is in [`limits`]. It prints nothing: what there is to
//! report is in [`Ready`], in the error, and under `/api/v1/status`.

#![forbid(unsafe_code)]

mod answer;
mod api;
pub mod backend;
mod bind;
pub mod bundle;
pub mod call;
mod capture;
mod clock;
mod config;
pub mod content;
pub mod date;
mod deletion;
pub mod endpoint;
pub mod engine;
mod expiry;
mod export;
pub mod fields;
pub mod filter;
pub mod folder;
mod guard;
pub mod histogram;
pub mod ledger;
pub mod limits;
pub mod line;
mod losses;
mod metrics;
mod packets;
mod page;
mod parameters;
pub mod passed;
pub mod percent;
pub mod places;
pub mod rules;
pub mod sender;
mod serve;
mod shares;
mod sql;
mod statistics;
mod stream;
pub mod token;
pub mod transfer;
mod trial;

use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use anyhow::Context;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

pub use backend::any::Location;
pub use backend::{Health, Retention};
pub use bind::{BindError, Holder, Role};
pub use capture::IMPORT;
pub use config::Config;

use backend::{Backend, any};
use engine::Linking;
use guard::Guard;
use limits::{CONNECTIONS, PASSED_MAX};
use passed::Passed;
use places::{Places, Room};
use rules::{Rules, SharedRules};
use token::Secret;

/// The store is open: both ports are bound, the database is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// Address of the capture listener.
    pub capture: SocketAddr,
    /// Address of the page listener.
    pub page: SocketAddr,
    /// What the page requires; `None` where that is switched off.
    pub token: Option<Secret>,
}

impl Ready {
    /// The capture URL for senders on this host, such as `http://localhost:7701/message`.
    pub fn capture_url(&self) -> String {
        format!("http://{}/message", token::authority(self.capture))
    }

    /// The URL of the page, which opens it only in a browser that has the token.
    pub fn page_url(&self) -> String {
        token::link(self.page, None)
    }

    /// The URL that opens the page in any browser. It has the token.
    pub fn page_link(&self) -> String {
        token::link(self.page, self.token.as_ref())
    }
}

/// Runs the store until SIGTERM or SIGINT.
///
/// # Errors
/// As [`run_until`].
pub fn run(config: Config) -> anyhow::Result<()> {
    run_until(config, |_| {}, termination())
}

/// Runs the store until `stop` completes, then commits what was accepted and closes the database.
///
/// `on_ready` is called once, before the first request is served.
///
/// # Errors
/// A [`BindError`] (use `downcast_ref`) when a port cannot be bound; otherwise what is wrong with the database.
pub fn run_until(
    config: Config,
    on_ready: impl FnOnce(&Ready),
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    Opened::new(config)?.run_until(on_ready, |_| {}, stop)
}

/// A store whose ports are bound and whose database is open. Nothing is served and no thread is started yet.
#[derive(Debug)]
pub struct Opened {
    config: Config,
    capture: TcpListener,
    page: TcpListener,
    database: any::Opened,
    token: Option<Secret>,
    passed: Option<Passed>,
    linking: Linking,
    rules: SharedRules,
}

impl Opened {
    /// Binds the ports, opens the database, and reads or makes the token of the page.
    ///
    /// # Errors
    /// As [`run_until`].
    pub fn new(config: Config) -> anyhow::Result<Self> {
        // The ports first: a second store on the same host must fail before it touches the file of the first one.
        let capture = bind::listen(Role::Capture, config.capture)?;
        let page = bind::listen(Role::Page, config.page)?;
        let database = config.location.open()?;
        // Only the store that has the lock of the database makes a token.
        let token = config.token.open()?;
        Ok(Self {
            config,
            capture,
            page,
            database,
            token,
            passed: None,
            linking: Linking::default(),
            rules: None,
        })
    }

    /// The addresses of a database that is not in a file, to which the store connects.
    pub fn backend_addresses(&self) -> Vec<SocketAddr> {
        self.database.addresses()
    }

    /// Serves the capture URL also over the connections that are passed.
    #[must_use]
    pub fn with_passed(mut self, passed: Passed) -> Self {
        self.passed = Some(passed);
        self
    }

    /// The page shows the capture whose supervisor is at the other end of the link, and may switch it.
    #[must_use]
    pub fn with_link(mut self, linking: Linking) -> Self {
        self.linking = linking;
        self
    }

    /// The page may try rules of this language on stored calls.
    #[must_use]
    pub fn with_rules(mut self, rules: Arc<dyn Rules>) -> Self {
        self.rules = Some(rules);
        self
    }

    /// As [`run_until`]. When `on_ready` is called, all threads run except for those that are started on demand. `on_health` is
    /// called whenever the store stops or starts again to store bundles.
    ///
    /// # Errors
    /// The threads cannot be started, or one of them panicked.
    pub fn run_until(
        self,
        on_ready: impl FnOnce(&Ready),
        on_health: impl FnMut(&Health) + Send + 'static,
        stop: impl Future<Output = ()>,
    ) -> anyhow::Result<()> {
        runtime()?.block_on(serve(self, on_ready, on_health, stop))
    }
}

fn runtime() -> anyhow::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(limits::THREADS_MAX)
        .thread_name("store")
        .enable_all()
        .build()
        .context("starting the store's threads")
}

/// Completes at the first SIGTERM or SIGINT. Must be awaited inside [`run_until`].
pub async fn termination() {
    let (Ok(mut term), Ok(mut int)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        // Without a handler the default action ends the process, which is as safe as any other death.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}

/// Calls `on_health` with every change from storing to failing or back. Failures that follow each other are one change.
async fn report_changes(
    mut health: watch::Receiver<Health>,
    mut on_health: impl FnMut(&Health) + Send,
) {
    let mut was_up = true;
    while health.changed().await.is_ok() {
        let now = health.borrow_and_update().clone();
        let is_up = now == Health::Up;
        if is_up != was_up {
            on_health(&now);
        }
        was_up = is_up;
    }
}

async fn serve(
    opened: Opened,
    on_ready: impl FnOnce(&Ready),
    on_health: impl FnMut(&Health) + Send + 'static,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let Opened {
        config,
        capture,
        page,
        database,
        token,
        passed,
        linking,
        rules,
    } = opened;
    let backend = database.start(config.retention)?;
    let (stopping, stopped) = watch::channel(false);

    let ready = Ready {
        capture: capture.local_addr()?,
        page: page.local_addr()?,
        token,
    };
    let guard = Guard::new(ready.page, ready.token.clone());
    let handler = capture::CaptureHandler::new(
        backend.clone(),
        config.post_bytes_max,
        config.post_token.clone(),
    );
    let places = |room| Arc::new(Places::new(room));
    let [capture_places, page_places] = [CONNECTIONS, CONNECTIONS].map(places);
    let passed_places = places(Room {
        connections: PASSED_MAX,
        local: 0,
        sender: 0,
    });
    let api = api::Api::new(
        backend.clone(),
        handler.clone(),
        [&capture_places, &page_places, &passed_places].map(Arc::clone),
        config.retention,
        ready.capture_url(),
        stopped.clone(),
        linking,
        rules,
        ready.page.ip().is_loopback() && ready.token.is_some(),
    );
    let [capture, page] = [capture, page].map(tokio::net::TcpListener::from_std);
    let (capture, page) = (capture?, page?);
    on_ready(&ready);

    let router = capture::router(handler);
    let passing = passed.map(|passed| {
        let router = router.clone();
        tokio::spawn(serve::serve(passed, router, passed_places, stopped.clone()))
    });
    let capturing = tokio::spawn(serve::serve(
        capture,
        router,
        capture_places,
        stopped.clone(),
    ));
    let paging = tokio::spawn(serve::serve(
        page,
        page::router(api, guard),
        page_places,
        stopped.clone(),
    ));
    let expiring = tokio::spawn(expiry::run(backend.clone(), stopped));
    // Ends with the writing thread.
    drop(tokio::spawn(report_changes(backend.health(), on_health)));
    stop.await;
    stopping.send_replace(true);
    // The listeners give up their connections after `STOP_WAIT`; all bundles that they accepted have reached the backend by then.
    let ended = tokio::join!(capturing, paging, expiring);
    if let Some(passing) = passing {
        passing.await?;
    }
    backend.close().await?;
    ended.0?;
    ended.1?;
    ended.2?;
    Ok(())
}
