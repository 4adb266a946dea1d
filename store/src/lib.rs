//! The embedded call store: a Resurface-compatible capture URL, SQLite, and a web page.
//!
//! In: NDJSON bundles by `POST /message` (message contract, sections 1 and 2). Out: rows in
//! `calls.sqlite` that any SQLite tool can read, and a page with a live list on the loopback address. A bundle is answered
//! with 204 after its commit, never before.
//!
//! ```text
//! POST /message → content → bundle → sqlite::writer ───┐ one thread, one transaction for all that wait
//!                                                      ├─ calls.sqlite (write-ahead log)
//! browser ← page, api, stream ← sqlite::reader ────────┘ read-only connections
//! ```
//!
//! The store runs as a process of its own, without any capability: a page or a query can never harm capture. Every bound is in
//! [`limits`]. It prints nothing; what there is to say is in [`Ready`], in the error, and under `/api/v1/status`.

#![forbid(unsafe_code)]

mod api;
mod backend;
mod bind;
mod bundle;
mod capture;
mod content;
mod filter;
mod guard;
pub mod limits;
mod line;
mod page;
mod serve;
mod stream;

use std::future::Future;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use rusqlite::Connection;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

pub use backend::sqlite::FILE_NAME;
pub use bind::{BindError, Holder, Role};

use backend::sqlite::reader::Readers;
use backend::sqlite::writer::Writer;
use guard::Guard;

/// What the store is told at its start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where `POST /message` is served. `[::]` takes IPv4 too, and means `0.0.0.0` where the host has no IPv6.
    pub capture: SocketAddr,
    /// Where the page is served. On anything but a loopback address it asks for the token of [`Ready`].
    pub page: SocketAddr,
    /// Folder of the database, made with mode 0700 when it is missing.
    pub data: PathBuf,
    /// How much is kept.
    pub retention: Retention,
    /// Bytes of one POST, before and after inflating; 413 past it.
    pub post_bytes_max: usize,
}

impl Config {
    /// The defaults with the database in `data`: capture URL on port 7701 of all addresses, page on `127.0.0.1:7700`.
    pub fn new(data: impl Into<PathBuf>) -> Self {
        Self {
            capture: (Ipv6Addr::UNSPECIFIED, 7701).into(),
            page: (Ipv4Addr::LOCALHOST, 7700).into(),
            data: data.into(),
            retention: Retention::default(),
            post_bytes_max: limits::POST_BYTES_MAX,
        }
    }
}

/// How much is kept; past either bound the oldest calls are deleted and counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Calls.
    pub calls_max: u64,
    /// Bytes of the database in use, at least [`limits::DATABASE_BYTES_MIN`].
    pub database_bytes_max: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            calls_max: limits::CALLS_MAX,
            database_bytes_max: limits::DATABASE_BYTES_MAX,
        }
    }
}

/// The store is open: both ports are bound, the database is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// Address of the capture listener.
    pub capture: SocketAddr,
    /// Address of the page listener.
    pub page: SocketAddr,
    /// What the page asks for, once, as `?token=`; `None` on a loopback address.
    pub token: Option<String>,
}

impl Ready {
    /// What to post to on this host, such as `http://localhost:7701/message`.
    pub fn capture_url(&self) -> String {
        format!("http://{}/message", authority(self.capture))
    }

    /// What to open in a browser, with the token if one is needed.
    pub fn page_url(&self) -> String {
        let query = self
            .token
            .as_ref()
            .map_or_else(String::new, |token| format!("?token={token}"));
        format!("http://{}/{query}", authority(self.page))
    }
}

fn authority(address: SocketAddr) -> String {
    let ip = address.ip();
    if ip.is_unspecified() || ip.is_loopback() {
        format!("localhost:{}", address.port())
    } else {
        address.to_string()
    }
}

/// Runs the store until SIGTERM or SIGINT.
///
/// # Errors
/// As [`run_until`].
pub fn run(config: Config) -> anyhow::Result<()> {
    run_until(config, |_| {}, termination())
}

/// Runs the store until `stop` is ready, then commits what was accepted and closes the database.
///
/// `on_ready` is called once, before the first request is served.
///
/// # Errors
/// A [`BindError`] (to be found with `downcast_ref`) when a port cannot be had; otherwise what is wrong with the data folder.
pub fn run_until(
    config: Config,
    on_ready: impl FnOnce(&Ready),
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    Opened::new(config)?.run_until(on_ready, stop)
}

/// Ports and database are ours; nothing is served and no thread started yet.
#[derive(Debug)]
pub struct Opened {
    config: Config,
    capture: TcpListener,
    page: TcpListener,
    connection: Connection,
}

impl Opened {
    /// Takes the ports and opens the database.
    ///
    /// # Errors
    /// As [`run_until`].
    pub fn new(config: Config) -> anyhow::Result<Self> {
        // The ports first: a second store on the same host must find out before it touches the first one's file.
        let capture = bind::listen(Role::Capture, config.capture)?;
        let page = bind::listen(Role::Page, config.page)?;
        let connection = backend::sqlite::open_writer(&config.data)?;
        Ok(Self {
            config,
            capture,
            page,
            connection,
        })
    }

    /// As [`run_until`]. At `on_ready` all threads run but those that wait for work.
    ///
    /// # Errors
    /// The threads cannot be started, or one of them panicked.
    pub fn run_until(
        self,
        on_ready: impl FnOnce(&Ready),
        stop: impl Future<Output = ()>,
    ) -> anyhow::Result<()> {
        runtime()?.block_on(serve(self, on_ready, stop))
    }
}

fn runtime() -> anyhow::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(limits::POSTS_AT_ONCE + limits::READERS)
        .thread_name("store")
        .enable_all()
        .build()
        .context("starting the store's threads")
}

/// Ready at the first SIGTERM or SIGINT. Must be awaited inside [`run_until`].
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

async fn serve(
    opened: Opened,
    on_ready: impl FnOnce(&Ready),
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let Opened {
        config,
        capture,
        page,
        connection,
    } = opened;
    let (writer, writing) = Writer::start(connection, config.retention)?;
    let (stopping, stopped) = watch::channel(false);

    let guard = Guard::new(page.local_addr()?)?;
    let ready = Ready {
        capture: capture.local_addr()?,
        page: page.local_addr()?,
        token: guard.token(),
    };
    let inlet = capture::Inlet::new(writer.clone(), config.post_bytes_max);
    let api = api::Api::new(
        Readers::new(config.data),
        writer,
        inlet.clone(),
        config.retention,
        ready.capture_url(),
        stopped.clone(),
    );
    on_ready(&ready);

    let capturing = tokio::spawn(serve::serve(
        capture,
        capture::router(inlet),
        stopped.clone(),
    ));
    let paging = tokio::spawn(serve::serve(page, page::router(api, guard), stopped));
    stop.await;
    stopping.send_replace(true);
    // Both give up their connections after `STOP_WAIT`, and with them the last handles to the writer.
    let served = tokio::join!(capturing, paging);
    tokio::task::spawn_blocking(move || writing.join())
        .await?
        .map_err(|_| anyhow::anyhow!("the writing thread panicked"))?;
    served.0?;
    served.1?;
    Ok(())
}

/// Unix time in milliseconds.
fn unix_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
