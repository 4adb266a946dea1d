//! The other end of the capture URL: takes bundles as Resurface does, and checks every line of them.
//!
//! In: POSTs of NDJSON, plain or `Content-Encoding: deflated` (zlib). Out: 204, the rows, and a [`Tally`]. A bundle that
//! comes again with the same `Idempotency-Key` is answered 204 and not kept twice. It can be told to refuse, stall,
//! reset or lie, since a sender is worth what it does then. Bundles are bounded; rows are kept in memory: it is made
//! for tests and benches.

use std::collections::HashSet;
use std::io::Read as _;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use flate2::read::ZlibDecoder;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::unistd::gettid;
use serde::Serialize;
use tokio::sync::{oneshot, watch};

use crate::lab;
use crate::load::BODY_END;

/// One line: details in the order in which they came.
pub type Row = Vec<(String, String)>;

/// The first value of `key` in `row`.
pub fn value<'a>(row: &'a Row, key: &str) -> Option<&'a str> {
    row.iter()
        .find(|(name, _)| name == key)
        .map(|(_, value)| value.as_str())
}

/// Bytes of a bundle before and after inflating, at most; a larger one is answered 413.
const BUNDLE_BYTES_MAX: usize = 256 << 20;

/// What the collector does with a POST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// Keeps it and answers 204.
    Accept,
    /// Answers with this status and keeps nothing.
    Refuse(u16),
    /// Answers nothing for as long as it is told so, then drops the connection.
    Stall,
    /// Drops the connection, new ones with a reset.
    Reset,
    /// Keeps it and answers 503: the sender must try again with the same key.
    Lie,
}

impl Behaviour {
    /// `accept`, `stall`, `reset`, `lie`, or a status to refuse with.
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

/// What has happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// POSTs that were read, whatever became of them.
    pub posts: u64,
    /// POSTs whose lines were kept.
    pub accepted: u64,
    /// POSTs with a key that was kept before.
    pub repeated: u64,
    /// POSTs that were refused, stalled, reset or lied to on command.
    pub mistreated: u64,
    /// POSTs that break the contract: wrong path, method, type or coding, or a line that is no array of pairs.
    pub broken: u64,
    /// Lines kept.
    pub lines: u64,
    /// Lines whose call number (`X-Call-Number`) was seen before.
    pub duplicates: u64,
    /// Bytes of bodies as received.
    pub wire_bytes: u64,
    /// Bytes of lines after inflating.
    pub line_bytes: u64,
    /// Lines whose response belongs to another request: `X-Answered-Number` differs from `X-Call-Number`, or the
    /// number in the URL from either.
    pub mismatched: u64,
    /// Lines of [`crate::load`] whose response body lacks its end.
    pub torn: u64,
}

#[derive(Default)]
struct State {
    rows: Vec<Row>,
    tally: Tally,
    keys: HashSet<String>,
    numbers: HashSet<String>,
    complaints: Vec<String>,
    postponed: Vec<Post>,
    postponed_bytes: usize,
    arrivals: Vec<Arrival>,
}

/// When the POST with a call came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Number of the call.
    pub number: u64,
    /// Since 1970.
    pub micros: u64,
}

/// A POST that was answered before it was looked at.
struct Post {
    head: hyper::http::request::Parts,
    body: Bytes,
    arrived: SystemTime,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    behaviour: watch::Sender<Behaviour>,
    keep_rows: bool,
    /// Bytes of bodies that may wait for [`Collector::settle`].
    postpone_bytes_max: usize,
    /// Of the thread that serves, 0 before it runs.
    thread_id: AtomicI32,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of the lock panics")
    }
}

/// A collector on a thread of its own; it ends when dropped.
pub struct Collector {
    shared: Arc<Shared>,
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Collector {
    /// Listens on `address` (port 0: any free one).
    pub fn bind(address: SocketAddr) -> Result<Self> {
        Self::serve(
            TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?,
        )
    }

    /// Serves a listener made elsewhere, for example in another network namespace.
    pub fn serve(listener: TcpListener) -> Result<Self> {
        Self::start(listener, true, 0)
    }

    /// As [`Self::serve`], but counts rows without keeping them.
    pub fn count_only(listener: TcpListener) -> Result<Self> {
        Self::start(listener, false, 0)
    }

    /// As [`Self::count_only`], but answers at once and looks at bodies only in [`Self::settle`], so that checking
    /// takes no CPU from what is measured. Beyond `bytes_max` of them it looks at once again.
    pub fn postponing(listener: TcpListener, bytes_max: usize) -> Result<Self> {
        Self::start(listener, false, bytes_max)
    }

    fn start(listener: TcpListener, keep_rows: bool, postpone_bytes_max: usize) -> Result<Self> {
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            behaviour: watch::Sender::new(Behaviour::Accept),
            keep_rows,
            postpone_bytes_max,
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

    /// From now on.
    pub fn behave(&self, behaviour: Behaviour) {
        self.shared.behaviour.send_replace(behaviour);
    }

    /// A copy of all rows kept so far.
    pub fn rows(&self) -> Vec<Row> {
        self.shared.state().rows.clone()
    }

    /// Counts so far.
    pub fn tally(&self) -> Tally {
        self.shared.state().tally
    }

    /// Looks at everything that was postponed.
    pub fn settle(&self) {
        let posts = {
            let mut state = self.shared.state();
            state.postponed_bytes = 0;
            std::mem::take(&mut state.postponed)
        };
        for post in posts {
            keep(&post.head, &post.body, post.arrived, &self.shared);
        }
    }

    /// Settles, and takes what was counted: the next count begins at zero. Keys and call numbers stay known.
    pub fn take(&self) -> (Tally, Vec<Arrival>) {
        self.settle();
        let mut state = self.shared.state();
        let tally = std::mem::take(&mut state.tally);
        (tally, std::mem::take(&mut state.arrivals))
    }

    /// CPU of the thread that takes POSTs and, but for those that wait, checks them.
    pub fn cpu_seconds(&self) -> f64 {
        let thread = self.shared.thread_id.load(Ordering::Relaxed);
        lab::schedstat_seconds(&format!("/proc/self/task/{thread}/schedstat"))
    }

    /// Why POSTs were counted as broken.
    pub fn complaints(&self) -> Vec<String> {
        self.shared.state().complaints.clone()
    }

    /// Waits until `enough` holds, `patience` at most; tells whether it does.
    pub fn wait(&self, patience: Duration, mut enough: impl FnMut(&Tally) -> bool) -> bool {
        let deadline = Instant::now() + patience;
        let mut state = self.shared.state();
        while !enough(&state.tally) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.expect("no holder of the lock panics").0;
        }
        true
    }

    /// Waits for so many lines.
    pub fn wait_for_lines(&self, lines: u64, patience: Duration) -> bool {
        self.wait(patience, |tally| tally.lines >= lines)
    }
}

/// Times from the last packet of a response to the POST with its call.
#[derive(Clone, Debug, Default)]
pub struct Latencies {
    micros: Vec<u64>,
}

impl Latencies {
    /// `sent` are times since 1970 in microseconds, those of the calls from number `first` on.
    pub fn new(arrivals: &[Arrival], first: u64, sent: &[u64]) -> Self {
        let waits = arrivals.iter().filter_map(|arrival| {
            let index = usize::try_from(arrival.number.checked_sub(first)?).ok()?;
            Some(arrival.micros.saturating_sub(*sent.get(index)?))
        });
        let mut micros: Vec<u64> = waits.collect();
        micros.sort_unstable();
        Self { micros }
    }

    /// Milliseconds below which `per_mille` of 1000 calls stay; none without calls.
    pub fn millis(&self, per_mille: usize) -> Option<f64> {
        let last = self.micros.len().checked_sub(1)?;
        let place = (self.micros.len() * per_mille / 1000).min(last);
        // A tenth of a millisecond is as fine as a batch of the sender allows.
        self.micros
            .get(place)
            .map(|&micros| (micros as f64 / 100.0).round() / 10.0)
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic in there has already been printed.
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
            let service = service_fn(move |request| answer(request, Arc::clone(&shared)));
            let mut connection = hyper::server::conn::http1::Builder::new();
            connection.timer(TokioTimer::new());
            // A peer that goes away in the middle is its own business; what it had sent was counted.
            let _ = connection
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(request: Request<Incoming>, shared: Arc<Shared>) -> Result<Response<Empty<Bytes>>> {
    let behaviour = *shared.behaviour.borrow();
    let (head, body) = request.into_parts();
    let body = Limited::new(body, BUNDLE_BYTES_MAX)
        .collect()
        .await
        .map_err(|error| anyhow!(error))?
        .to_bytes();
    shared.state().tally.posts += 1;
    shared.changed.notify_all();
    let status = match behaviour {
        Behaviour::Accept => keep_or_postpone(head, body, &shared),
        Behaviour::Lie => {
            keep(&head, &body, SystemTime::now(), &shared);
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
        shared.state().tally.mistreated += 1;
    }
    shared.changed.notify_all();
    ensure!(status != 0, "dropping the connection on command");
    Ok(Response::builder()
        .status(StatusCode::from_u16(status)?)
        .body(Empty::new())?)
}

/// Answers 204 at once where it may be looked at later.
fn keep_or_postpone(head: hyper::http::request::Parts, body: Bytes, shared: &Shared) -> u16 {
    let arrived = SystemTime::now();
    {
        let mut state = shared.state();
        if state.postponed_bytes + body.len() <= shared.postpone_bytes_max {
            state.postponed_bytes += body.len();
            state.postponed.push(Post {
                head,
                body,
                arrived,
            });
            return 204;
        }
    }
    keep(&head, &body, arrived, shared)
}

/// Keeps the lines of one bundle, and says with which status it is answered.
fn keep(
    head: &hyper::http::request::Parts,
    body: &[u8],
    arrived: SystemTime,
    shared: &Shared,
) -> u16 {
    let bundle = match read(head, body, arrived, shared.keep_rows) {
        Ok(bundle) => bundle,
        Err(error) => {
            let mut state = shared.state();
            state.tally.broken += 1;
            state.complaints.push(format!("{error:#}"));
            return 400;
        }
    };
    let key = head
        .headers
        .get("idempotency-key")
        .map(|key| String::from_utf8_lossy(key.as_bytes()).into_owned());
    let mut guard = shared.state();
    let state = &mut *guard;
    if let Some(key) = key
        && !state.keys.insert(key)
    {
        state.tally.repeated += 1;
        return 204;
    }
    let tally = &mut state.tally;
    tally.accepted += 1;
    tally.wire_bytes += body.len() as u64;
    tally.lines += bundle.lines;
    tally.line_bytes += bundle.line_bytes;
    tally.mismatched += bundle.mismatched;
    tally.torn += bundle.torn;
    for number in bundle.numbers {
        if !state.numbers.insert(number) {
            tally.duplicates += 1;
        }
    }
    state.arrivals.extend(bundle.arrivals);
    state.rows.extend(bundle.rows);
    204
}

/// What the lines of one bundle say.
#[derive(Default)]
struct BundleRead {
    lines: u64,
    line_bytes: u64,
    mismatched: u64,
    torn: u64,
    numbers: Vec<String>,
    arrivals: Vec<Arrival>,
    rows: Vec<Row>,
}

impl BundleRead {
    fn look_at(&mut self, row: &[(&str, &str)], arrived_micros: u64) {
        let value = |key: &str| {
            let found = row.iter().find(|(name, _)| *name == key);
            found.map(|(_, value)| *value)
        };
        let url_number = value("request_url").and_then(number_in_url);
        let sent = value("request_header:x-call-number");
        let answered = value("response_header:x-answered-number");
        let known = [sent, url_number, answered];
        let mut numbers = known.into_iter().flatten();
        if let Some(number) = numbers.next() {
            self.mismatched += u64::from(numbers.any(|other| other != number));
            // An answered number alone says nothing about which request the line is of.
            if sent.or(url_number).is_some() {
                self.numbers.push(number.to_owned());
                self.arrivals
                    .extend(number.parse().ok().map(|number| Arrival {
                        number,
                        micros: arrived_micros,
                    }));
            }
        }
        if url_number.is_some()
            && let Some(body) = value("response_body")
        {
            self.torn += u64::from(!body.ends_with(BODY_END));
        }
    }
}

/// The number in a URL of [`crate::load`]: `.../n1234567890`, before any query.
fn number_in_url(url: &str) -> Option<&str> {
    let path = url.split(['?', ';']).next()?;
    let number = path.rsplit_once("/n")?.1;
    (number.len() == 10 && number.bytes().all(|byte| byte.is_ascii_digit())).then_some(number)
}

/// Reads all lines of a bundle, or says how it breaks the contract.
fn read(
    head: &hyper::http::request::Parts,
    body: &[u8],
    arrived: SystemTime,
    keep_rows: bool,
) -> Result<BundleRead> {
    ensure!(head.method == Method::POST, "method {}", head.method);
    ensure!(head.uri.path() == "/message", "path {}", head.uri.path());
    let header = |name| {
        head.headers
            .get(name)
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    let content_type = header(CONTENT_TYPE).context("no Content-Type")?;
    ensure!(
        content_type == "application/ndjson; charset=UTF-8",
        "Content-Type {content_type}"
    );
    let mut lines = match header(CONTENT_ENCODING).as_deref() {
        None | Some("identity") => body.to_vec(),
        Some("deflated") => inflate(body)?,
        Some(other) => bail!("Content-Encoding {other}"),
    };
    let arrived_micros = lab::micros_since_epoch(arrived);
    let mut bundle = BundleRead::default();
    // simd-json parses in place, so each line is split off as its own mutable slice.
    for line in lines
        .split_mut(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
    {
        let start = String::from_utf8_lossy(&line[..line.len().min(200)]).into_owned();
        bundle.lines += 1;
        bundle.line_bytes += line.len() as u64;
        let row = simd_json::from_slice::<Vec<(&str, &str)>>(line)
            .with_context(|| format!("not an array of pairs: {start}"))?;
        bundle.look_at(&row, arrived_micros);
        if keep_rows {
            let owned = row
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value.to_owned()));
            bundle.rows.push(owned.collect());
        }
    }
    ensure!(bundle.lines > 0, "a bundle without a line");
    Ok(bundle)
}

fn inflate(body: &[u8]) -> Result<Vec<u8>> {
    let mut lines = Vec::new();
    let read = ZlibDecoder::new(body)
        .take(BUNDLE_BYTES_MAX as u64)
        .read_to_end(&mut lines);
    ensure!(
        read.context("not zlib")? < BUNDLE_BYTES_MAX,
        "inflates to more than {BUNDLE_BYTES_MAX} bytes"
    );
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::{Ipv4Addr, TcpStream};

    use flate2::Compression;
    use flate2::write::ZlibEncoder;

    use super::*;

    /// Sends one POST by hand and returns the status line's code, or 0 when the connection was dropped.
    fn post(collector: &Collector, headers: &str, body: &[u8]) -> u16 {
        let mut stream = TcpStream::connect(collector.address()).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        let head = format!(
            "POST /message HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/ndjson; \
             charset=UTF-8\r\nContent-Length: {}\r\n{headers}\r\n",
            body.len()
        );
        let _ = stream.write_all(&[head.as_bytes(), body].concat());
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8(answer).unwrap();
        answer
            .split(' ')
            .nth(1)
            .map_or(0, |status| status.parse().unwrap())
    }

    fn collector() -> Collector {
        Collector::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap()
    }

    #[test]
    fn lines_are_kept_once_and_counted() {
        let collector = collector();
        let lines = b"[[\"request_header:x-call-number\",\"1\"],[\"a\",\"\\u20ac\"]]\n[[\"request_header:x-call-number\",\"1\"]]";
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(lines).unwrap();
        let body = encoder.finish().unwrap();
        let headers = "Content-Encoding: deflated\r\nIdempotency-Key: k\r\n";
        assert_eq!(post(&collector, headers, &body), 204);
        assert_eq!(post(&collector, headers, &body), 204);
        let tally = collector.tally();
        assert_eq!((tally.posts, tally.accepted, tally.repeated), (2, 1, 1));
        assert_eq!((tally.lines, tally.duplicates), (2, 1));
        assert_eq!(value(&collector.rows()[0], "a"), Some("€"));
    }

    #[test]
    fn what_breaks_the_contract_is_refused() {
        let collector = collector();
        for body in [
            &b"{\"a\":1}\n"[..],
            b"[[\"a\"]]\n",
            b"[[\"a\",\"b\"]",
            b"\n",
        ] {
            assert_eq!(
                post(&collector, "", body),
                400,
                "{}",
                String::from_utf8_lossy(body)
            );
        }
        assert_eq!(
            post(
                &collector,
                "Content-Encoding: deflated\r\n",
                b"[[\"a\",\"b\"]]\n"
            ),
            400
        );
        assert_eq!(
            post(
                &collector,
                "Content-Encoding: gzip\r\n",
                b"[[\"a\",\"b\"]]\n"
            ),
            400
        );
        assert_eq!((collector.tally().broken, collector.tally().lines), (6, 0));
        assert_eq!(collector.complaints().len(), 6);
    }

    #[test]
    fn it_misbehaves_on_command() {
        let collector = collector();
        let line = b"[[\"a\",\"b\"]]\n";
        for (behaviour, status, lines) in [
            (Behaviour::Refuse(503), 503, 0),
            (Behaviour::Reset, 0, 0),
            (Behaviour::Lie, 503, 1),
            (Behaviour::Accept, 204, 2),
        ] {
            collector.behave(behaviour);
            assert_eq!(post(&collector, "", line), status, "{behaviour:?}");
            assert_eq!(collector.tally().lines, lines, "{behaviour:?}");
        }
    }

    #[test]
    fn a_stall_ends_when_it_is_told_to() {
        let collector = collector();
        collector.behave(Behaviour::Stall);
        thread::scope(|scope| {
            let poster = scope.spawn(|| post(&collector, "", b"[[\"a\",\"b\"]]\n"));
            assert!(collector.wait(Duration::from_secs(5), |tally| tally.posts == 1));
            collector.behave(Behaviour::Accept);
            assert_eq!(poster.join().unwrap(), 0);
        });
        assert_eq!(collector.tally().mistreated, 1);
    }
}
