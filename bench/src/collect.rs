//! The other end of the capture URL: takes bundles as Resurface does, and checks every line of them.
//!
//! In: POSTs of NDJSON, plain or `Content-Encoding: deflated` (zlib). Out: 204, the rows, and a [`Tally`]. A bundle that
//! comes again with the same `Idempotency-Key` is answered 204 and not kept twice. It can refuse, stall,
//! reset or lie, since a sender is worth what it does then. Lines are checked as they come, or, with a [`Shelf`], when
//! [`Collector::settle`] is called: the checks are the same. Bundles are bounded; rows are kept in memory: it is made for
//! tests and benches.

mod arrival;
mod check;
mod row;
mod shelf;

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
pub use arrival::Arrival;
use arrival::BUNDLE_BYTES_MAX;
use check::{Bundle, Head};
pub use row::{Row, value};
pub use shelf::Shelf;
use shelf::{Kept, Places, Served};

/// What the collector does with a POST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// Keeps it and answers 204.
    Accept,
    /// Answers with this status and keeps nothing.
    Refuse(u16),
    /// Answers nothing as long as this lasts, then drops the connection.
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
    /// POSTs that break `docs/contract.md` 2: wrong path, method, type or coding, or a line that is no array of pairs.
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
    /// Lines of [`crate::load`] whose response body lacks its end, and is a beginning of the right one where that is
    /// known.
    pub cut: u64,
    /// Lines whose response body is not what was sent, nor a beginning of it.
    pub torn: u64,
    /// Kept POSTs that were not compressed.
    pub plain: u64,
    /// POSTs that were checked after they had been answered.
    pub checked_after: u64,
    /// POSTs that found no room on the shelf.
    pub no_room: u64,
}

#[derive(Default)]
struct State {
    rows: Vec<Row>,
    tally: Tally,
    keys: HashSet<String>,
    numbers: HashSet<u64>,
    names: HashSet<String>,
    complaints: Vec<String>,
    arrivals: Vec<Arrival>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    behaviour: watch::Sender<Behaviour>,
    keep_rows: bool,
    /// Where POSTs wait for [`Collector::settle`]; none: they are checked at once.
    shelf: Option<Shelf>,
    /// Response bodies as they are sent, by call number; none if that is not known.
    bodies: Vec<String>,
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
        Self::start(listener, true, None, Vec::new())
    }

    /// As [`Self::serve`], but counts rows without keeping them.
    pub fn count_only(listener: TcpListener) -> Result<Self> {
        Self::start(listener, false, None, Vec::new())
    }

    /// As [`Self::count_only`], and compares response bodies with `bodies`, as [`Self::keeping`].
    pub fn checking(listener: TcpListener, bodies: Vec<String>) -> Result<Self> {
        Self::start(listener, false, None, bodies)
    }

    /// As [`Self::count_only`], but answers at once and checks what is on the `shelf` only in [`Self::settle`], so that
    /// checking takes no CPU from what is measured. `bodies` are those of [`crate::load::bodies`] where rules leave them
    /// as they are, so that they can be compared byte by byte.
    pub fn keeping(listener: TcpListener, shelf: Shelf, bodies: Vec<String>) -> Result<Self> {
        shelf.places().clear();
        Self::start(listener, false, Some(shelf), bodies)
    }

    fn start(
        listener: TcpListener,
        keep_rows: bool,
        shelf: Option<Shelf>,
        bodies: Vec<String>,
    ) -> Result<Self> {
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            behaviour: watch::Sender::new(Behaviour::Accept),
            keep_rows,
            shelf,
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

    /// Checks everything on the shelf, on as many threads as there are CPUs.
    pub fn settle(&self) {
        let Some(shelf) = &self.shared.shelf else {
            return;
        };
        let mut places = shelf.places();
        let read = read_all(&places, &self.shared.bodies);
        for ((head, bundle), post) in read.into_iter().zip(places.posts()) {
            let (_, body) = places.bytes(post);
            self.shared.count(&head, bundle, body.len());
        }
        let mut state = self.shared.state();
        state.tally.checked_after += places.posts().len() as u64;
        state.tally.no_room += places.clear();
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
        lab::schedstat_seconds(format!("/proc/self/task/{thread}/schedstat").as_ref())
    }

    /// Why POSTs were counted as broken.
    pub fn complaints(&self) -> Vec<String> {
        self.shared.state().complaints.clone()
    }

    /// Waits until `enough` holds, `patience` at most; returns whether it does.
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
            // A peer that goes away in the middle is its own business; what it had sent was counted.
            let _ = serve(stream, shared).await;
        });
    }
}

/// Puts POSTs on the shelf if there is one; everything else is hyper's.
async fn serve(mut stream: TcpStream, shared: Arc<Shared>) -> Result<()> {
    let mut start = Vec::new();
    if let Some(shelf) = &shared.shelf {
        let is_ours = || *shared.behaviour.borrow() == Behaviour::Accept;
        let arrived = || {
            shared.state().tally.posts += 1;
            shared.changed.notify_all();
        };
        match shelf::serve(stream, shelf, is_ours, arrived).await? {
            Served::Over => return Ok(()),
            Served::NotOurs(left, read) => (stream, start) = (left, read),
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
    shared.state().tally.posts += 1;
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
        shared.state().tally.mistreated += 1;
    }
    shared.changed.notify_all();
    ensure!(status != 0, "dropping the connection on command");
    Ok(Response::builder()
        .status(StatusCode::from_u16(status)?)
        .body(Empty::new())?)
}

/// Reads all POSTs of a shelf; what comes out is in their order.
fn read_all(places: &Places, bodies: &[String]) -> Vec<(Head, Result<Bundle>)> {
    let read = |post: &Kept| {
        let (head, body) = places.bytes(post);
        match Head::read(head) {
            Ok(head) => {
                let bundle = check::read(&head, body, post.arrived, bodies, false);
                (head, bundle)
            }
            Err(error) => (Head::default(), Err(error)),
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let share = places.posts().len().div_ceil(threads).max(1);
    thread::scope(|scope| {
        let shares = places.posts().chunks(share);
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
    /// Looks at a POST now, and says with which status it is answered.
    fn check(&self, head: &hyper::http::request::Parts, body: &[u8]) -> u16 {
        let head = Head::of(head);
        let now = SystemTime::now();
        let bundle = check::read(&head, body, now, &self.bodies, self.keep_rows);
        self.count(&head, bundle, body.len())
    }

    /// Keeps the lines of one bundle, and says with which status it is answered.
    fn count(&self, head: &Head, bundle: Result<Bundle>, body_bytes: usize) -> u16 {
        let mut guard = self.state();
        let state = &mut *guard;
        let bundle = match bundle {
            Ok(bundle) => bundle,
            Err(error) => {
                state.tally.broken += 1;
                state.complaints.push(format!("{error:#}"));
                return 400;
            }
        };
        if let Some(key) = &head.key
            && !state.keys.insert(key.clone())
        {
            state.tally.repeated += 1;
            return 204;
        }
        let tally = &mut state.tally;
        tally.accepted += 1;
        tally.plain += u64::from(bundle.is_plain);
        tally.wire_bytes += body_bytes as u64;
        tally.lines += bundle.lines;
        tally.line_bytes += bundle.line_bytes;
        tally.mismatched += bundle.mismatched;
        tally.cut += bundle.cut;
        tally.torn += bundle.torn;
        for arrival in &bundle.arrivals {
            tally.duplicates += u64::from(!state.numbers.insert(arrival.number));
        }
        for name in bundle.names {
            tally.duplicates += u64::from(!state.names.insert(name));
        }
        state.arrivals.extend(bundle.arrivals);
        state.rows.extend(bundle.rows);
        204
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::net::{Ipv4Addr, TcpStream};

    use flate2::Compression;
    use flate2::write::ZlibEncoder;

    use super::*;
    use crate::load::{BODY_END, FIRST_NUMBER};

    /// Sends one POST by hand and returns the status line's code, or 0 when the connection was dropped.
    fn post(collector: &Collector, headers: &str, body: &[u8]) -> u16 {
        kept_alive(collector, &format!("Connection: close\r\n{headers}"), body)
    }

    /// The same on a connection that may stay, as senders have it.
    fn kept_alive(collector: &Collector, headers: &str, body: &[u8]) -> u16 {
        let mut stream = TcpStream::connect(collector.address()).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        let head = format!(
            "POST /message HTTP/1.1\r\nHost: x\r\nContent-Type: application/ndjson; \
             charset=UTF-8\r\nContent-Length: {}\r\n{headers}\r\n",
            body.len()
        );
        let _ = stream.write_all(&[head.as_bytes(), body].concat());
        let mut answer = String::new();
        let _ = BufReader::new(stream).read_line(&mut answer);
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

    /// The same POSTs, checked at once and afterwards, are counted alike but for the answer to broken ones.
    #[test]
    fn nothing_that_is_kept_goes_unchecked() {
        let line = |number: u64, answered: u64, body: &str| {
            format!(
                "[[\"request_url\",\"http://x/n{number}\"],[\"request_header:x-call-number\",\"{number}\"],\
                 [\"response_header:x-answered-number\",\"{answered}\"],[\"response_body\",{body:?}]]\n"
            )
        };
        let whole = format!("{{\"a\":1,{BODY_END}");
        let bodies: Vec<String> = [&whole, "other"].map(ToString::to_string).into();
        let first = FIRST_NUMBER;
        let posts = [
            (
                "",
                line(first, first, &whole) + &line(first + 2, first + 2, "{\"a\""),
            ),
            (
                "",
                line(first + 4, first + 5, &whole) + &line(first, first, &whole),
            ),
            ("", line(first + 6, first + 6, "{\"b\"")),
            ("Idempotency-Key: k\r\n", line(first + 8, first + 8, &whole)),
            ("Idempotency-Key: k\r\n", line(first + 8, first + 8, &whole)),
            (
                "Content-Encoding: gzip\r\n",
                line(first + 10, first + 10, &whole),
            ),
            ("", "[[\"a\"]]\n".to_owned()),
        ];
        let send = |shelf: Option<Shelf>| {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let is_kept = shelf.is_some();
            let collector = Collector::start(listener, false, shelf, bodies.clone()).unwrap();
            for (headers, body) in &posts {
                let status = kept_alive(&collector, headers, body.as_bytes());
                assert!(status == 204 || !is_kept, "{status} for {body}");
            }
            let (tally, arrivals) = collector.take();
            assert_eq!(collector.complaints().len(), 2);
            assert_eq!(tally.checked_after, if is_kept { 7 } else { 0 });
            let numbers: Vec<u64> = arrivals.iter().map(|arrival| arrival.number).collect();
            let tally = Tally {
                checked_after: 0,
                ..tally
            };
            (tally, numbers)
        };
        let at_once = send(None);
        let expected = Tally {
            posts: 7,
            accepted: 4,
            repeated: 1,
            broken: 2,
            lines: 6,
            duplicates: 1,
            mismatched: 1,
            cut: 1,
            torn: 1,
            plain: 4,
            ..at_once.0
        };
        assert_eq!(at_once.0, expected);
        assert_eq!(send(Some(Shelf::new(64 << 20))), at_once);
    }

    #[test]
    fn a_full_shelf_refuses_and_counts() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let collector = Collector::keeping(listener, Shelf::new(0), Vec::new()).unwrap();
        assert_eq!(kept_alive(&collector, "", b"[[\"a\",\"b\"]]\n"), 507);
        let (tally, _) = collector.take();
        assert_eq!((tally.posts, tally.no_room, tally.lines), (1, 1, 0));
    }

    #[test]
    fn a_shelf_misbehaves_on_command_too() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let collector = Collector::keeping(listener, Shelf::new(64 << 20), Vec::new()).unwrap();
        let line = b"[[\"request_header:x-call-number\",\"1\"]]\n";
        collector.behave(Behaviour::Lie);
        assert_eq!(kept_alive(&collector, "", line), 503);
        collector.behave(Behaviour::Refuse(401));
        assert_eq!(kept_alive(&collector, "", line), 401);
        collector.behave(Behaviour::Accept);
        assert_eq!(kept_alive(&collector, "", line), 204);
        collector.settle();
        let tally = collector.tally();
        assert_eq!((tally.lines, tally.duplicates, tally.mistreated), (2, 1, 2));
    }

    #[test]
    fn a_stall_ends_with_the_behaviour() {
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
