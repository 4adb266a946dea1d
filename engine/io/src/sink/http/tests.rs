//! The uploader against a real server on loopback, over io_uring and over epoll.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use engine_core::bundle::{Bundle, Encoding};
use engine_sys::driver::Choice;
use hyper::header::{HeaderName, HeaderValue};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::uploader::Config;
use super::*;
use crate::capture_url::CaptureUrl;
use crate::config::Proxies;
use crate::sink::outbox::Outbox;
use crate::sink::shared::Pool;
use crate::sink::stats::Detail;

mod failover;
mod failures;
mod ledgers;
mod posts;
mod spooled;
mod stopping;
mod tls;
mod ways;

/// One request as the server got it.
#[derive(Clone, Debug)]
struct Received {
    /// From 0, in the order in which requests were read.
    number: usize,
    connection: usize,
    start: String,
    headers: HashMap<String, String>,
    body: Vec<u8>,
}

impl Received {
    fn key(&self) -> &str {
        &self.headers["idempotency-key"]
    }
}

/// What the server does with a request.
enum Answer {
    /// This status line and these headers; the connection stays open.
    Status(&'static str),
    /// As many bytes of body.
    Long(usize),
    /// The answer, and then the connection is closed without a word.
    AndClose(&'static str),
    /// The answer, of which the promised body never comes.
    HeadOnly(&'static str),
    /// The connection is closed without an answer.
    Close,
    /// This, again and again.
    Forever(&'static str),
    /// No answer, until the server is dropped.
    Stall,
    /// 204, when another request waits here too.
    Together(Arc<Barrier>),
}

/// A collector that follows a script.
struct Server {
    address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
    closing: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

type Script = Arc<dyn Fn(&Received) -> Answer + Send + Sync>;

impl Server {
    fn start(script: impl Fn(&Received) -> Answer + Send + Sync + 'static) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap(), None, script)
    }

    fn on(
        listener: TcpListener,
        tls: Option<Arc<ServerConfig>>,
        script: impl Fn(&Received) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().unwrap();
        let received = Arc::new(Mutex::new(Vec::new()));
        let closing = Arc::new(AtomicBool::new(false));
        let thread = {
            let (received, closing) = (received.clone(), closing.clone());
            let script: Script = Arc::new(script);
            thread::spawn(move || accept(&listener, tls.as_ref(), &script, &received, &closing))
        };
        Self {
            address,
            received,
            closing,
            thread: Some(thread),
        }
    }

    fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn accept(
    listener: &TcpListener,
    tls: Option<&Arc<ServerConfig>>,
    script: &Script,
    received: &Arc<Mutex<Vec<Received>>>,
    closing: &Arc<AtomicBool>,
) {
    thread::scope(|scope| {
        for connection in 0.. {
            let (stream, _) = listener.accept().unwrap();
            if closing.load(Ordering::Relaxed) {
                return;
            }
            scope.spawn(move || {
                stream
                    .set_read_timeout(Some(Duration::from_millis(50)))
                    .unwrap();
                stream.set_nodelay(true).unwrap();
                let patient = Patient { stream, closing };
                // A client that goes away in the middle ends only its own connection.
                let _ = match tls {
                    None => serve(patient, connection, script, received, closing),
                    Some(config) => {
                        let tls = ServerConnection::new(config.clone()).unwrap();
                        serve(
                            StreamOwned::new(tls, patient),
                            connection,
                            script,
                            received,
                            closing,
                        )
                    }
                };
            });
        }
    });
}

/// A stream whose reads end when the server closes.
struct Patient<'server> {
    stream: TcpStream,
    closing: &'server AtomicBool,
}

impl Read for Patient<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.stream.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.closing.load(Ordering::Relaxed) {
                        return Ok(0);
                    }
                }
                result => return result,
            }
        }
    }
}

impl Write for Patient<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.stream.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

fn serve(
    stream: impl Read + Write,
    connection: usize,
    script: &Script,
    received: &Mutex<Vec<Received>>,
    closing: &AtomicBool,
) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some(mut request) = read_request(&mut stream, connection)? {
        let answer = {
            let mut received = received.lock().unwrap();
            request.number = received.len();
            received.push(request.clone());
            script(&request)
        };
        let stream = stream.get_mut();
        match answer {
            Answer::Status(line) => write!(stream, "HTTP/1.1 {line}\r\nContent-Length: 0\r\n\r\n")?,
            Answer::AndClose(line) => {
                write!(stream, "HTTP/1.1 {line}\r\n\r\n")?;
                return stream.flush();
            }
            Answer::Long(length) => {
                write!(
                    stream,
                    "HTTP/1.1 400 Bad Request\r\nContent-Length: {length}\r\n\r\n"
                )?;
                stream.write_all(&vec![b'x'; length])?;
            }
            Answer::Close => return Ok(()),
            // Until the client has gone.
            Answer::Forever(part) => loop {
                stream.write_all(part.repeat(100).as_bytes())?;
            },
            Answer::Together(barrier) => {
                barrier.wait();
                stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n")?;
            }
            Answer::HeadOnly(_) | Answer::Stall => {
                if let Answer::HeadOnly(line) = answer {
                    write!(stream, "HTTP/1.1 {line}\r\nContent-Length: 9\r\n\r\n")?;
                    stream.flush()?;
                }
                while !closing.load(Ordering::Relaxed) {
                    thread::sleep(Duration::from_millis(5));
                }
                return Ok(());
            }
        }
        stream.flush()?;
    }
    Ok(())
}

fn read_request(stream: &mut impl BufRead, connection: usize) -> io::Result<Option<Received>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let start = lines.remove(0);
    let headers: HashMap<_, _> = lines
        .iter()
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let mut body = vec![0; headers["content-length"].parse().unwrap()];
    stream.read_exact(&mut body)?;
    Ok(Some(Received {
        number: 0,
        connection,
        start,
        headers,
        body,
    }))
}

/// An uploader with one shard.
struct Bed {
    uploader: Option<Uploader>,
    monitor: Counts,
    outbox: Outbox,
    pool: Pool,
    /// Calls in all bundles that were pushed.
    pushed: u64,
    events: Arc<Mutex<Vec<Event>>>,
}

impl Bed {
    fn new(driver: Choice, url: &str, change: impl FnOnce(&mut Config)) -> Self {
        Self::with_spool(driver, url, None, change)
    }

    fn with_spool(
        driver: Choice,
        url: &str,
        spool: Option<spool::Opened>,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let urls = CaptureUrls::parse(url).unwrap();
        let routes = urls.into_iter().map(|url| Route::new(url, None));
        let mut config = Config::new(routes.collect());
        config.driver = driver;
        config.seed = 42;
        change(&mut config);
        let (mut outboxes, inboxes) = outboxes(1).unwrap();
        let events = Arc::new(Mutex::new(Vec::new()));
        let uploader = {
            let events = events.clone();
            Uploader::start(config, spool, inboxes, move |event| {
                events.lock().unwrap().push(event.clone());
            })
        };
        let uploader = uploader.unwrap();
        Self {
            monitor: Counts {
                name: "default".to_owned(),
                place: url.to_owned(),
                stats: uploader.stats(),
                answers: uploader.answers(),
                spool: uploader.spool(),
            },
            uploader: Some(uploader),
            outbox: outboxes.remove(0),
            pool: Pool::default(),
            pushed: 0,
            events,
        }
    }

    fn push(&mut self, id: u128, body: &[u8], calls: u32) {
        self.push_bundle(Bundle {
            body: body.to_vec(),
            encoding: Encoding::Deflated,
            calls,
            line_bytes: body.len() as u64,
            id,
            ..Bundle::default()
        });
    }

    fn push_bundle(&mut self, bundle: Bundle) {
        self.pushed += u64::from(bundle.calls);
        for lease in self.pool.share(bundle, 1) {
            self.outbox.push(lease);
        }
        let start = Instant::now();
        self.outbox.send(&mut self.pool);
        while !self.outbox.is_empty() {
            assert!(start.elapsed() < PATIENCE, "the outbox stays full");
            thread::yield_now();
            self.outbox.send(&mut self.pool);
        }
    }

    fn snapshot(&self) -> Snapshot {
        let snapshot = self.monitor.snapshot();
        assert_eq!(snapshot.calls_pushed, self.pushed);
        let counters = &snapshot.counters;
        assert_eq!(
            snapshot.calls_pushed + counters.calls_recovered,
            counters.calls_sent
                + counters.calls_dropped()
                + counters.calls_spooled
                + snapshot.calls_in_flight
        );
        snapshot
    }

    #[track_caller]
    fn wait(&self, what: &str, enough: impl Fn(&Snapshot) -> bool) -> Snapshot {
        let start = Instant::now();
        loop {
            let snapshot = self.snapshot();
            if enough(&snapshot) {
                return snapshot;
            }
            assert!(start.elapsed() < PATIENCE, "{what}: {snapshot:?}");
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn stop(&mut self, deadline: Duration) -> Snapshot {
        let mut uploader = self.uploader.take().unwrap();
        uploader.begin_stop(Instant::now() + deadline);
        uploader.wait();
        let report = self.snapshot();
        assert_eq!(report.calls_in_flight, 0, "{report:?}");
        assert_eq!(
            (
                report.counters.calls_queued,
                report.counters.bundles_queued,
                report.counters.bytes_queued
            ),
            (0, 0, 0)
        );
        report
    }

    fn codes(&self) -> Vec<&'static str> {
        self.events
            .lock()
            .unwrap()
            .iter()
            .map(|event| event.code().name())
            .collect()
    }
}

/// What only HTTP has.
fn detail(snapshot: &Snapshot) -> Detail {
    snapshot.detail.clone().unwrap()
}

/// Connections that were made.
fn connects(snapshot: &Snapshot) -> u64 {
    metric(snapshot, "sniffer_output_connects_total")
}

/// The first sample of a metric.
fn metric(snapshot: &Snapshot, name: &str) -> u64 {
    let metrics = detail(snapshot).metrics;
    let metric = metrics.iter().find(|metric| metric.name == name);
    metric.unwrap().samples[0].1
}

fn both(test: impl Fn(Choice)) {
    for driver in [Choice::Uring, Choice::Epoll] {
        test(driver);
    }
}

fn ok(_: &Received) -> Answer {
    Answer::Status("204 No Content")
}

fn url(server: &Server) -> String {
    format!("http://{}/message", server.address)
}

const PATIENCE: Duration = Duration::from_secs(60);
