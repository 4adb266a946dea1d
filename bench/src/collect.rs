//! The collector: a server for the capture URL that accepts bundles as Resurface does, and checks every line of them.
//!
//! It accepts POSTs of NDJSON, plain or with `Content-Encoding: deflated` (zlib), answers 204, and keeps [`Counts`] and,
//! if wanted, the rows. A bundle that arrives again with the same `Idempotency-Key` is answered with 204 and not counted
//! twice. To show how a sender behaves when a collector fails, it refuses, stalls, resets or lies on command
//! ([`Behaviour`]). Lines are checked as they arrive or, with a [`PostBuffer`], when [`Collector::check_stored`] is
//! called; the checks are the same. Bundles are bounded, rows are not: they stay in memory, as tests and benches need.

mod arrival;
mod check;
mod post_buffer;
mod row;

use std::collections::HashSet;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, anyhow, ensure};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::unistd::gettid;
use serde::Serialize;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};

use crate::lab;
pub use arrival::{Arrival, Latencies};
use check::{BUNDLE_BYTES_MAX, Bundle, Head};
pub use post_buffer::PostBuffer;
use post_buffer::{Contents, Served, StoredPost};
pub use row::{Row, value};

/// How the collector treats a POST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// Keeps its lines and answers 204.
    Accept,
    /// Answers with this status and keeps nothing.
    Refuse(u16),
    /// Does not answer until the behaviour changes, then drops the connection.
    Stall,
    /// Drops the connection; new connections are reset.
    Reset,
    /// Keeps its lines and answers 503 nevertheless, so that the sender must send it again with the same key.
    Lie,
}

impl Behaviour {
    /// Parses `accept`, `stall`, `reset`, `lie`, or a status to refuse with.
    pub fn parse(word: &str) -> Result<Self> {
        Ok(match word {
            "accept" => Self::Accept,
            "stall" => Self::Stall,
            "reset" => Self::Reset,
            "lie" => Self::Lie,
            status => Self::Refuse(
                status
                    .parse()
                    .context("expected accept, stall, reset, lie or a status")?,
            ),
        })
    }
}

/// Counts of what has arrived so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// POSTs that were read, whatever the answer.
    pub posts: u64,
    /// POSTs whose lines were kept.
    pub accepted: u64,
    /// POSTs with the key of a POST that was kept before.
    pub repeated: u64,
    /// POSTs that were refused, stalled, reset or answered with a lie on command.
    pub faults: u64,
    /// POSTs that break `docs/contract.md` 2: wrong path, method, type or coding, or a line that is no array of pairs.
    pub broken: u64,
    /// Lines that were kept.
    pub lines: u64,
    /// Lines with a call number (`X-Call-Number`) that another line had before.
    pub duplicates: u64,
    /// Bytes of bodies as received.
    pub wire_bytes: u64,
    /// Bytes of lines after inflating.
    pub line_bytes: u64,
    /// Lines whose response belongs to another request: `X-Answered-Number` differs from `X-Call-Number`, or the
    /// number in the URL from either.
    pub mismatched: u64,
    /// Lines of [`crate::load`] whose response body lacks its end and is otherwise, where the sent body is known, a
    /// prefix of it.
    pub truncated: u64,
    /// Lines whose response body is neither what was sent nor a prefix of it.
    pub torn: u64,
    /// StoredPost POSTs that were not compressed.
    pub plain: u64,
    /// POSTs that were checked only after they had been answered.
    pub checked_after: u64,
    /// POSTs that were refused because the [`PostBuffer`] was full.
    pub buffer_full: u64,
}

#[derive(Default)]
struct State {
    rows: Vec<Row>,
    counts: Counts,
    keys: HashSet<String>,
    numbers: HashSet<u64>,
    names: HashSet<String>,
    errors: Vec<String>,
    arrivals: Vec<Arrival>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    behaviour: watch::Sender<Behaviour>,
    keep_rows: bool,
    /// Where POSTs wait for [`Collector::check_stored`]; without it they are checked at once.
    post_buffer: Option<PostBuffer>,
    /// Response bodies as they were sent, by call number; empty if they are not known.
    bodies: Vec<String>,
    /// Thread id of the collector, 0 before it has started.
    thread_id: AtomicI32,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of the lock panics")
    }
}

/// A collector on a thread of its own, which ends when this is dropped.
pub struct Collector {
    shared: Arc<Shared>,
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Collector {
    /// Listens on `address`; port 0 stands for any free port.
    pub fn bind(address: SocketAddr) -> Result<Self> {
        Self::serve(
            TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?,
        )
    }

    /// Serves a listener that was opened elsewhere, for example in another network namespace.
    pub fn serve(listener: TcpListener) -> Result<Self> {
        Self::start(listener, true, None, Vec::new())
    }

    /// Like [`Self::serve`], but counts rows without keeping them.
    pub fn count_only(listener: TcpListener) -> Result<Self> {
        Self::start(listener, false, None, Vec::new())
    }

    /// Like [`Self::count_only`], and compares response bodies byte by byte with `bodies`, which are those of
    /// [`crate::load::bodies`], or none where rules change bodies.
    pub fn check_at_once(listener: TcpListener, bodies: Vec<String>) -> Result<Self> {
        Self::start(listener, false, None, bodies)
    }

    /// Like [`Self::check_at_once`], but stores POSTs and checks them only in [`Self::check_stored`], so that checks take
    /// no CPU from the program that is measured.
    pub fn check_later(
        listener: TcpListener,
        post_buffer: PostBuffer,
        bodies: Vec<String>,
    ) -> Result<Self> {
        post_buffer.contents().clear();
        Self::start(listener, false, Some(post_buffer), bodies)
    }

    fn start(
        listener: TcpListener,
        keep_rows: bool,
        post_buffer: Option<PostBuffer>,
        bodies: Vec<String>,
    ) -> Result<Self> {
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            behaviour: watch::Sender::new(Behaviour::Accept),
            keep_rows,
            post_buffer,
            bodies,
            thread_id: AtomicI32::new(0),
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (stop, stopped) = oneshot::channel();
        let inner = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("collector".into())
            .spawn(move || {
                inner.thread_id.store(gettid().as_raw(), Ordering::Relaxed);
                runtime.block_on(async {
                    tokio::select! {
                        _ = stopped => {}
                        ended = listen(listener, inner) => drop(ended),
                    }
                });
                // Open connections are closed with the runtime.
            })?;
        Ok(Self {
            shared,
            address,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The capture URL to configure.
    pub fn url(&self) -> String {
        format!("http://{}/message", self.address)
    }

    /// Changes how POSTs are treated from now on.
    pub fn set_behaviour(&self, behaviour: Behaviour) {
        self.shared.behaviour.send_replace(behaviour);
    }

    /// A copy of all rows kept so far.
    pub fn rows(&self) -> Vec<Row> {
        self.shared.state().rows.clone()
    }

    /// Counts so far.
    pub fn counts(&self) -> Counts {
        self.shared.state().counts
    }

    /// Checks all stored POSTs, on as many threads as there are CPUs.
    pub fn check_stored(&self) {
        let Some(buffer) = &self.shared.post_buffer else {
            return;
        };
        let mut contents = buffer.contents();
        let read = check_all(&contents, &self.shared.bodies);
        for ((head, bundle), post) in read.into_iter().zip(contents.posts()) {
            let (_, body) = contents.bytes(post);
            self.shared.count(&head, bundle, body.len());
        }
        let mut state = self.shared.state();
        state.counts.checked_after += contents.posts().len() as u64;
        state.counts.buffer_full += contents.clear();
    }

    /// Checks what is stored, and returns and resets all counts. Keys and call numbers stay known.
    pub fn take_counts(&self) -> (Counts, Vec<Arrival>) {
        self.check_stored();
        let mut state = self.shared.state();
        let counts = std::mem::take(&mut state.counts);
        (counts, std::mem::take(&mut state.arrivals))
    }

    /// CPU time of the thread that receives POSTs and checks those that are not stored.
    pub fn cpu_seconds(&self) -> f64 {
        let thread = self.shared.thread_id.load(Ordering::Relaxed);
        lab::schedstat_seconds(format!("/proc/self/task/{thread}/schedstat").as_ref())
    }

    /// Why POSTs were counted as broken.
    pub fn errors(&self) -> Vec<String> {
        self.shared.state().errors.clone()
    }

    /// Waits until `enough` holds, for `patience` at most; returns whether it holds.
    pub fn wait(&self, patience: Duration, mut enough: impl FnMut(&Counts) -> bool) -> bool {
        let deadline = Instant::now() + patience;
        let mut state = self.shared.state();
        while !enough(&state.counts) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.expect("no holder of the lock panics").0;
        }
        true
    }

    /// Waits until `lines` lines have been kept.
    pub fn wait_for_lines(&self, lines: u64, patience: Duration) -> bool {
        self.wait(patience, |counts| counts.lines >= lines)
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has already been printed.
            let _ = thread.join();
        }
    }
}

async fn listen(listener: TcpListener, shared: Arc<Shared>) -> Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        if *shared.behaviour.borrow() == Behaviour::Reset {
            stream.set_zero_linger()?;
            continue;
        }
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            // A peer may close the connection at any time; the POSTs that it completed were counted.
            let _ = serve(stream, shared).await;
        });
    }
}

/// Stores POSTs in the buffer if there is one, and leaves everything else to hyper.
async fn serve(mut stream: TcpStream, shared: Arc<Shared>) -> Result<()> {
    let mut start = Vec::new();
    if let Some(buffer) = &shared.post_buffer {
        let may_store = || *shared.behaviour.borrow() == Behaviour::Accept;
        let arrived = || {
            shared.state().counts.posts += 1;
            shared.changed.notify_all();
        };
        match post_buffer::serve(stream, buffer, may_store, arrived).await? {
            Served::Closed => return Ok(()),
            Served::Unsupported(left, read) => (stream, start) = (left, read),
        }
    }
    let (read_half, write_half) = stream.into_split();
    let stream = tokio::io::join(io::Cursor::new(start).chain(read_half), write_half);
    let service = service_fn(move |request| answer(request, Arc::clone(&shared)));
    let mut connection = hyper::server::conn::http1::Builder::new();
    connection.timer(TokioTimer::new());
    connection
        .serve_connection(TokioIo::new(stream), service)
        .await?;
    Ok(())
}

async fn answer(request: Request<Incoming>, shared: Arc<Shared>) -> Result<Response<Empty<Bytes>>> {
    let behaviour = *shared.behaviour.borrow();
    let (head, body) = request.into_parts();
    let body = Limited::new(body, BUNDLE_BYTES_MAX)
        .collect()
        .await
        .map_err(|error| anyhow!(error))?
        .to_bytes();
    shared.state().counts.posts += 1;
    shared.changed.notify_all();
    let status = match behaviour {
        Behaviour::Accept => shared.check(&head, &body),
        Behaviour::Lie => {
            shared.check(&head, &body);
            503
        }
        Behaviour::Refuse(status) => status,
        Behaviour::Stall => {
            let mut changes = shared.behaviour.subscribe();
            let _ = changes.wait_for(|now| *now != Behaviour::Stall).await;
            0
        }
        Behaviour::Reset => 0,
    };
    if behaviour != Behaviour::Accept {
        shared.state().counts.faults += 1;
    }
    shared.changed.notify_all();
    ensure!(status != 0, "dropping the connection on command");
    Ok(Response::builder()
        .status(StatusCode::from_u16(status)?)
        .body(Empty::new())?)
}

/// Checks all stored POSTs, and returns the results in the order of the POSTs.
fn check_all(contents: &Contents, bodies: &[String]) -> Vec<(Head, Result<Bundle>)> {
    let read = |post: &StoredPost| {
        let (head, body) = contents.bytes(post);
        match Head::read(head) {
            Ok(head) => {
                let bundle = check::read(&head, body, post.arrived, bodies, false);
                (head, bundle)
            }
            Err(error) => (Head::default(), Err(error)),
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let share = contents.posts().len().div_ceil(threads).max(1);
    thread::scope(|scope| {
        let shares = contents.posts().chunks(share);
        let readers: Vec<_> = shares
            .map(|posts| scope.spawn(move || posts.iter().map(read).collect::<Vec<_>>()))
            .collect();
        readers
            .into_iter()
            .flat_map(|reader| {
                (reader.join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
            .collect()
    })
}

impl Shared {
    /// Checks a POST at once, and returns the status to answer with.
    fn check(&self, head: &hyper::http::request::Parts, body: &[u8]) -> u16 {
        let head = Head::of(head);
        let now = SystemTime::now();
        let bundle = check::read(&head, body, now, &self.bodies, self.keep_rows);
        self.count(&head, bundle, body.len())
    }

    /// Counts the lines of one bundle, and returns the status to answer with.
    fn count(&self, head: &Head, bundle: Result<Bundle>, body_bytes: usize) -> u16 {
        let mut guard = self.state();
        let state = &mut *guard;
        let bundle = match bundle {
            Ok(bundle) => bundle,
            Err(error) => {
                state.counts.broken += 1;
                state.errors.push(format!("{error:#}"));
                return 400;
            }
        };
        if let Some(key) = &head.key
            && !state.keys.insert(key.clone())
        {
            state.counts.repeated += 1;
            return 204;
        }
        let counts = &mut state.counts;
        counts.accepted += 1;
        counts.plain += u64::from(bundle.is_plain);
        counts.wire_bytes += body_bytes as u64;
        counts.lines += bundle.lines;
        counts.line_bytes += bundle.line_bytes;
        counts.mismatched += bundle.mismatched;
        counts.truncated += bundle.truncated;
        counts.torn += bundle.torn;
        for arrival in &bundle.arrivals {
            counts.duplicates += u64::from(!state.numbers.insert(arrival.number));
        }
        for name in bundle.names {
            counts.duplicates += u64::from(!state.names.insert(name));
        }
        state.arrivals.extend(bundle.arrivals);
        state.rows.extend(bundle.rows);
        204
    }
}

#[cfg(test)]
mod tests;
