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
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::*;

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
    /// No answer, until the server is dropped.
    Stall,
    /// 204, when another request waits here too.
    Together(Arc<Barrier>),
}

/// A collector that does as it is told.
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
    outbox: Outbox,
    /// Calls in all bundles that were handed over.
    handed: u64,
    events: Arc<Mutex<Vec<Event>>>,
}

impl Bed {
    fn new(driver: Choice, url: &str, change: impl FnOnce(&mut UploadConfig)) -> Self {
        let mut config = UploadConfig::new(CaptureUrl::parse(url).unwrap());
        config.driver = driver;
        config.seed = 42;
        change(&mut config);
        let (mut outboxes, inboxes) = outboxes(1).unwrap();
        let events = Arc::new(Mutex::new(Vec::new()));
        let uploader = {
            let events = events.clone();
            Uploader::start(config, inboxes, move |event| {
                events.lock().unwrap().push(event.clone());
            })
        };
        Self {
            uploader: Some(uploader.unwrap()),
            outbox: outboxes.remove(0),
            handed: 0,
            events,
        }
    }

    fn push(&mut self, id: u128, body: &[u8], calls: u32) {
        let length = body.len() as u64;
        let encoding = Encoding::Deflated;
        let mut bundle = Bundle {
            body: body.to_vec(),
            encoding,
            calls,
            line_bytes: length,
            id,
            ..Bundle::default()
        };
        self.handed += u64::from(calls);
        let start = Instant::now();
        while let Err(back) = self.outbox.push(bundle) {
            assert!(
                start.elapsed() < Duration::from_secs(5),
                "the outbox stays full"
            );
            bundle = back;
            thread::yield_now();
        }
    }

    fn snapshot(&self) -> Snapshot {
        let snapshot = self.uploader.as_ref().unwrap().stats().snapshot();
        assert_eq!(snapshot.calls_handed, self.handed);
        assert_eq!(
            snapshot.calls_handed,
            snapshot.calls_sent + snapshot.calls_dropped() + snapshot.calls_in_flight
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
            assert!(
                start.elapsed() < Duration::from_secs(10),
                "{what}: {snapshot:?}"
            );
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn stop(&mut self, deadline: Duration) -> Snapshot {
        let report = self.uploader.take().unwrap().stop(deadline);
        assert_eq!(report.calls_handed, self.handed);
        assert_eq!(report.calls_in_flight, 0, "{report:?}");
        assert_eq!(
            report.calls_handed,
            report.calls_sent + report.calls_dropped()
        );
        assert_eq!(
            (
                report.calls_queued,
                report.bundles_queued,
                report.bytes_queued
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
            .map(Event::code)
            .collect()
    }
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

const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn a_bundle_is_posted_as_the_contract_says() {
    both(|driver| {
        let server = Server::start(ok);
        let mut bed = Bed::new(driver, &url(&server), |config| {
            config.headers.push((
                HeaderName::from_static("authorization"),
                HeaderValue::from_static("Bearer x"),
            ));
        });
        bed.push(0xabc, b"zlib bytes", 3);
        let snapshot = bed.wait("sent", |snapshot| snapshot.calls_sent == 3);
        assert_eq!(
            (snapshot.last_status, snapshot.down, snapshot.posts),
            (204, false, 1)
        );
        assert!(snapshot.last_success.is_some());
        assert_eq!(
            snapshot.driver,
            if driver == Choice::Uring {
                "io_uring"
            } else {
                "epoll"
            }
        );
        let received = server.received();
        let [request] = &received[..] else {
            panic!("{received:?}")
        };
        assert_eq!(
            (request.start.as_str(), &request.body[..]),
            ("POST /message HTTP/1.1", &b"zlib bytes"[..])
        );
        let mut headers: Vec<_> = request
            .headers
            .iter()
            .map(|(name, value)| (&name[..], &value[..]))
            .collect();
        headers.sort_unstable();
        assert_eq!(
            headers,
            [
                ("authorization", "Bearer x"),
                ("content-encoding", "deflated"),
                ("content-length", "10"),
                ("content-type", "application/ndjson; charset=UTF-8"),
                ("host", &server.address.to_string()[..]),
                ("idempotency-key", "00000000000000000000000000000abc"),
                ("user-agent", "Resurface/3.3.2 (sniffer)"),
            ]
        );
        let start = Instant::now();
        let mut empty = None;
        while empty.is_none() && start.elapsed() < PATIENCE {
            empty = bed.outbox.take_empty();
        }
        let empty = empty.expect("the buffer comes back");
        assert!(empty.is_empty() && empty.capacity() >= 10);
        assert_eq!(bed.stop(PATIENCE).calls_sent, 3);
        assert_eq!(bed.codes(), [""; 0]);
    });
}

#[test]
fn plain_lines_have_no_content_encoding() {
    let server = Server::start(ok);
    let mut bed = Bed::new(Choice::Auto, &url(&server), |_| {});
    bed.handed += 1;
    let body = b"[]\n".to_vec();
    bed.outbox
        .push(Bundle {
            body,
            encoding: Encoding::Plain,
            calls: 1,
            line_bytes: 3,
            id: 1,
            ..Bundle::default()
        })
        .unwrap();
    bed.stop(PATIENCE);
    assert!(
        !server.received()[0]
            .headers
            .contains_key("content-encoding")
    );
}

#[test]
fn connections_are_kept() {
    both(|driver| {
        let server = Server::start(ok);
        let mut bed = Bed::new(driver, &url(&server), |_| {});
        for id in 0..50 {
            bed.push(id, b"x", 1);
            bed.wait("sent", |snapshot| snapshot.calls_in_flight == 0);
        }
        let report = bed.stop(PATIENCE);
        assert_eq!(
            (report.calls_sent, report.posts, report.retries),
            (50, 50, 0)
        );
        assert!(report.connects <= 2, "{report:?}");
        assert_eq!(server.received().len(), 50);
    });
}

#[test]
fn several_posts_are_under_way() {
    both(|driver| {
        let barrier = Arc::new(Barrier::new(2));
        let server = Server::start(move |_| Answer::Together(barrier.clone()));
        let mut bed = Bed::new(driver, &url(&server), |_| {});
        let body = vec![7; 300_000];
        for id in 0..40 {
            bed.push(id, &body, 1);
        }
        // None is answered before the next has arrived.
        let report = bed.stop(PATIENCE);
        assert_eq!((report.calls_sent, report.connects), (40, 2));
    });
}

#[test]
fn what_was_handed_over_before_the_stop_is_delivered() {
    let server = Server::start(ok);
    for round in 0..200 {
        let mut bed = Bed::new(Choice::Auto, &url(&server), |_| {});
        for id in 0..round % 4 {
            bed.push(id, b"x", 1);
        }
        assert_eq!(bed.stop(PATIENCE).calls_dropped(), 0);
    }
}

#[test]
fn whatever_the_collector_does_the_sums_hold() {
    both(|driver| {
        let server = Server::start(|request| match (request.number * 7919) % 31 {
            0 => Answer::Status("503 Service Unavailable"),
            1 => Answer::Close,
            2 | 3 => Answer::Status("400 Bad Request"),
            4..10 => Answer::AndClose("204 No Content"),
            _ => ok(request),
        });
        let mut bed = Bed::new(driver, &url(&server), |_| {});
        for id in 0..120 {
            bed.push(
                id,
                &vec![id as u8; (id as usize * 997) % 50_000],
                id as u32 + 1,
            );
        }
        let report = bed.stop(PATIENCE);
        assert!(
            report.calls_dropped_refused > 0 && report.retries > 0,
            "{report:?}"
        );
        assert_eq!(report.calls_dropped(), report.calls_dropped_refused);
        for request in server.received() {
            let id = u128::from_str_radix(request.key(), 16).unwrap();
            assert!(
                request.body.len() == (id as usize * 997) % 50_000
                    && request.body.iter().all(|&b| b == id as u8)
            );
        }
    });
}

#[test]
fn an_unwell_collector_gets_the_same_bundle_again() {
    both(|driver| {
        for status in [
            "503 Service Unavailable",
            "500 Oops",
            "429 Too Many Requests",
            "408 Request Timeout",
        ] {
            let server = Server::start(move |request| {
                Answer::Status(if request.number == 0 {
                    status
                } else {
                    "204 No Content"
                })
            });
            let mut bed = Bed::new(driver, &url(&server), |_| {});
            bed.push(77, b"again", 5);
            let snapshot = bed.wait("sent", |snapshot| snapshot.calls_sent == 5);
            assert_eq!(
                (snapshot.down, snapshot.posts, snapshot.retries),
                (false, 2, 1)
            );
            let received = server.received();
            assert_eq!(received.len(), 2);
            assert_eq!(received[0].key(), received[1].key());
            assert_eq!(received[0].body, received[1].body);
            assert_eq!(
                received[0].connection, received[1].connection,
                "kept across the error"
            );
            bed.stop(PATIENCE);
            assert_eq!(bed.codes(), ["W045", "W042"]);
        }
    });
}

#[test]
fn one_bad_bundle_does_not_hold_up_the_rest() {
    let server = Server::start(|request| {
        Answer::Status(if request.body == b"bad" {
            "500 Oops"
        } else {
            "204 No Content"
        })
    });
    let mut bed = Bed::new(Choice::Auto, &url(&server), |_| {});
    bed.push(0, b"bad", 1);
    for id in 1..10 {
        bed.push(id, b"good", 1);
    }
    let snapshot = bed.wait("the good ones", |snapshot| snapshot.calls_sent == 9);
    assert_eq!(snapshot.calls_in_flight, 1);
    let report = bed.stop(Duration::from_millis(100));
    assert_eq!((report.calls_sent, report.calls_dropped_shutdown), (9, 1));
}

#[test]
fn nobody_listens_and_then_somebody_does() {
    both(|driver| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let mut bed = Bed::new(driver, &format!("http://{address}/message"), |_| {});
        bed.push(1, b"kept", 2);
        let snapshot = bed.wait("down", |snapshot| snapshot.down);
        assert_eq!(
            (snapshot.calls_in_flight, snapshot.last_error.as_str()),
            (2, "refused")
        );
        let server = Server::on(TcpListener::bind(address).unwrap(), None, ok);
        let snapshot = bed.wait("sent", |snapshot| snapshot.calls_sent == 2);
        assert!(!snapshot.down && snapshot.retries > 0);
        assert_eq!(server.received().len(), 1);
        bed.stop(PATIENCE);
        assert_eq!(bed.codes(), ["W042", "W042"]);
        let events = bed.events.lock().unwrap();
        assert!(
            events[0]
                .to_string()
                .contains("refused (1 try); keeping up to 128 bundles"),
            "{}",
            events[0]
        );
        assert!(
            events[1].to_string().contains("takes calls again"),
            "{}",
            events[1]
        );
    });
}

#[test]
fn a_refused_bundle_is_counted_and_not_sent_again() {
    both(|driver| {
        for (line, code) in [
            ("400 Bad Request", "W044"),
            ("403 Forbidden", "W043"),
            ("413 Content Too Large", "W045"),
            ("200 OK", "W044"),
            ("302 Found", "W044"),
        ] {
            let server = Server::start(move |request| {
                Answer::Status(if request.number == 0 {
                    line
                } else {
                    "204 No Content"
                })
            });
            let mut bed = Bed::new(driver, &url(&server), |_| {});
            bed.push(1, b"refused", 4);
            let snapshot = bed.wait("refused", |snapshot| snapshot.calls_dropped_refused == 4);
            assert_eq!((snapshot.down, snapshot.posts), (false, 1));
            bed.push(2, b"taken", 1);
            let report = bed.stop(PATIENCE);
            assert_eq!(
                (
                    report.calls_sent,
                    report.calls_dropped_refused,
                    report.retries
                ),
                (1, 4, 0)
            );
            assert_eq!(bed.codes(), [code], "{line}");
        }
    });
}

#[test]
fn a_long_answer_is_not_read_to_its_end() {
    let server = Server::start(|request| {
        if request.number == 0 {
            Answer::Long(10 << 20)
        } else {
            ok(request)
        }
    });
    let mut bed = Bed::new(Choice::Auto, &url(&server), |config| config.connections = 1);
    bed.push(1, b"first", 1);
    bed.push(2, b"second", 1);
    let report = bed.stop(PATIENCE);
    assert_eq!(
        (
            report.calls_sent,
            report.calls_dropped_refused,
            report.connects
        ),
        (1, 1, 2)
    );
}

#[test]
fn an_answer_whose_body_stalls_counts_all_the_same() {
    let server = Server::start(|request| {
        if request.number == 0 {
            Answer::HeadOnly("400 Bad Request")
        } else {
            ok(request)
        }
    });
    let mut bed = Bed::new(Choice::Auto, &url(&server), |config| config.connections = 1);
    bed.push(1, b"first", 1);
    bed.push(2, b"second", 1);
    let report = bed.stop(PATIENCE);
    assert_eq!((report.calls_sent, report.calls_dropped_refused), (1, 1));
    assert_eq!((report.connects, report.retries), (2, 0));
}

#[test]
fn a_stalled_collector_is_given_up_and_tried_again() {
    both(|driver| {
        let server = Server::start(|request| {
            if request.number == 0 {
                Answer::Stall
            } else {
                ok(request)
            }
        });
        let mut bed = Bed::new(driver, &url(&server), |config| {
            config.answer_max = Duration::from_millis(100);
        });
        bed.push(9, b"slow", 1);
        let snapshot = bed.wait("sent", |snapshot| snapshot.calls_sent == 1);
        assert_eq!((snapshot.retries, snapshot.connects), (1, 2));
        assert_eq!(snapshot.last_error, "timed out waiting for the answer");
        let received = server.received();
        assert_eq!(received[0].key(), received[1].key());
        bed.stop(PATIENCE);
    });
}

#[test]
fn an_address_that_does_not_answer_times_out() {
    both(|driver| {
        // A full backlog: the kernel lets further connections wait.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut waiting = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(20)) {
            waiting.push(stream);
            assert!(waiting.len() < 10_000);
        }
        let mut bed = Bed::new(driver, &format!("http://{address}/"), |config| {
            config.connect_max = Duration::from_millis(50);
        });
        bed.push(1, b"x", 1);
        let snapshot = bed.wait("down", |snapshot| snapshot.down);
        assert_eq!(snapshot.last_error, "timed out connecting");
        let report = bed.stop(Duration::from_millis(50));
        assert_eq!(report.calls_dropped_shutdown, 1);
    });
}

#[test]
fn a_connection_that_was_closed_while_idle_is_no_failure() {
    both(|driver| {
        for answer in ["204 No Content", "204 No Content\r\nConnection: close"] {
            let server = Server::start(move |_| Answer::AndClose(answer));
            let mut bed = Bed::new(driver, &url(&server), |config| config.connections = 1);
            for id in 0..20 {
                bed.push(id, b"x", 1);
                bed.wait("sent", |snapshot| snapshot.calls_in_flight == 0);
            }
            let report = bed.stop(PATIENCE);
            assert_eq!((report.calls_sent, report.connects), (20, 20));
            assert_eq!(bed.codes(), [""; 0], "nothing worth a message");
        }
    });
}

#[test]
fn a_connection_that_breaks_is_tried_again() {
    both(|driver| {
        let server = Server::start(|request| {
            if request.number == 0 {
                Answer::Close
            } else {
                ok(request)
            }
        });
        let mut bed = Bed::new(driver, &url(&server), |_| {});
        bed.push(1, b"x", 1);
        let report = bed.stop(PATIENCE);
        assert_eq!((report.calls_sent, report.retries), (1, 1));
        assert!(
            report.last_error.starts_with("broke the connection"),
            "{}",
            report.last_error
        );
    });
}

#[test]
fn a_huge_bundle_arrives_whole() {
    both(|driver| {
        let server = Server::start(ok);
        let mut bed = Bed::new(driver, &url(&server), |_| {});
        let body: Vec<u8> = (0..5_u32 << 20)
            .map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        bed.push(1, &body, 1000);
        assert_eq!(bed.stop(PATIENCE).calls_sent, 1000);
        assert!(server.received()[0].body == body);
    });
}

#[test]
fn a_full_queue_gives_up_the_oldest() {
    both(|driver| {
        let up = Arc::new(AtomicBool::new(false));
        let switch = up.clone();
        let server = Server::start(move |request| {
            if switch.load(Ordering::Relaxed) {
                ok(request)
            } else {
                Answer::Status("503 Service Unavailable")
            }
        });
        let mut bed = Bed::new(driver, &url(&server), |config| config.queue_bundles = 3);
        bed.push(0, b"x", 1);
        bed.wait("down", |snapshot| snapshot.down);
        for id in 1..10 {
            bed.push(id, b"x", 1 << id);
        }
        let snapshot = bed.wait("given up", |snapshot| {
            snapshot.calls_queued == snapshot.calls_in_flight
        });
        assert_eq!(
            snapshot.calls_dropped_queue_full,
            (1 << 7) - 1,
            "bundles 0 to 6"
        );
        assert_eq!((snapshot.bundles_queued, snapshot.bytes_queued), (3, 3));
        up.store(true, Ordering::Relaxed);
        let report = bed.stop(PATIENCE);
        assert_eq!(
            (report.calls_sent, report.calls_dropped()),
            ((7 << 7), (1 << 7) - 1)
        );
    });
}

#[test]
fn stopping_delivers_what_is_left() {
    both(|driver| {
        let server = Server::start(ok);
        let mut bed = Bed::new(driver, &url(&server), |_| {});
        for id in 0..100 {
            bed.push(id, b"the rest", 10);
        }
        let report = bed.stop(PATIENCE);
        assert_eq!((report.calls_sent, report.calls_dropped()), (1000, 0));
        let mut keys: Vec<_> = server
            .received()
            .iter()
            .map(|request| request.key().to_owned())
            .collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), 100, "each once");
    });
}

#[test]
fn stopping_ends_at_its_deadline() {
    both(|driver| {
        let server = Server::start(|_| Answer::Stall);
        let mut bed = Bed::new(driver, &url(&server), |_| {});
        for id in 0..10 {
            bed.push(id, b"x", 1);
        }
        bed.wait("under way", |snapshot| snapshot.posts == 2);
        let start = Instant::now();
        let report = bed.stop(Duration::from_millis(200));
        assert!(
            start.elapsed() >= Duration::from_millis(200)
                && start.elapsed() < Duration::from_secs(2)
        );
        assert_eq!((report.calls_sent, report.calls_dropped_shutdown), (0, 10));
        drop(server);
    });
}

#[test]
fn a_restarting_collector_gets_the_rest_while_we_stop() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let mut bed = Bed::new(Choice::Auto, &format!("http://{address}/message"), |_| {});
    bed.push(1, b"x", 1);
    bed.wait("down", |snapshot| snapshot.down);
    let back = thread::spawn(move || {
        thread::sleep(Duration::from_millis(300));
        Server::on(TcpListener::bind(address).unwrap(), None, ok)
    });
    let report = bed.stop(PATIENCE);
    assert_eq!((report.calls_sent, report.calls_dropped()), (1, 0));
    drop(back.join().unwrap());
}

#[test]
fn a_host_name_is_looked_up_and_its_addresses_are_tried() {
    both(|driver| {
        // `localhost` is ::1 and 127.0.0.1 on most systems; the server listens on the latter alone.
        let server = Server::start(ok);
        let mut bed = Bed::new(
            driver,
            &format!("http://localhost:{}/message", server.address.port()),
            |_| {},
        );
        bed.push(1, b"x", 1);
        assert_eq!(bed.stop(PATIENCE).calls_sent, 1);
        assert_eq!(
            server.received()[0].headers["host"],
            format!("localhost:{}", server.address.port())
        );

        let mut bed = Bed::new(driver, "http://no-such-host.invalid/", |_| {});
        bed.push(1, b"x", 1);
        let snapshot = bed.wait("down", |snapshot| snapshot.down);
        assert!(
            snapshot.last_error.starts_with("has no address")
                || snapshot.last_error.starts_with("timed out")
        );
        assert_eq!(bed.stop(Duration::ZERO).calls_dropped_shutdown, 1);
    });
}

#[test]
fn an_ipv6_collector_is_reached() {
    both(|driver| {
        let server = Server::on(TcpListener::bind("[::1]:0").unwrap(), None, ok);
        let mut bed = Bed::new(driver, &url(&server), |_| {});
        bed.push(1, b"x", 1);
        assert_eq!(bed.stop(PATIENCE).calls_sent, 1);
    });
}

/// A server's configuration, and the authority that vouches for it as PEM.
fn certificate(name: &str) -> (Arc<ServerConfig>, Vec<u8>) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    (Arc::new(config), made.cert.pem().into_bytes())
}

#[test]
fn https_is_encrypted_and_verified() {
    both(|driver| {
        let (config, pem) = certificate("localhost");
        let server = Server::on(TcpListener::bind("127.0.0.1:0").unwrap(), Some(config), ok);
        let url = format!("https://localhost:{}/message", server.address.port());
        let mut bed = Bed::new(driver, &url, |config| {
            config.roots = Roots::Pem(pem.clone());
        });
        let body: Vec<u8> = (0..3_u32 << 20)
            .map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        bed.push(1, &body, 1);
        for id in 2..12 {
            bed.push(id, b"small", 1);
        }
        let report = bed.stop(PATIENCE);
        assert_eq!(report.calls_sent, 11, "{report:?}");
        assert!(report.connects <= 2, "kept");
        let received = server.received();
        assert!(received.iter().any(|request| request.body == body));

        // The same server, seen with other eyes: not vouched for, and under another name.
        let other = format!("https://127.0.0.1:{}/message", server.address.port());
        for (url, roots) in [(&url, Roots::System), (&other, Roots::Pem(pem.clone()))] {
            let mut bed = Bed::new(driver, url, |config| config.roots = roots);
            bed.push(1, b"secret", 1);
            let snapshot = bed.wait("down", |snapshot| snapshot.down);
            assert!(
                snapshot.last_error.contains("certificate"),
                "{}",
                snapshot.last_error
            );
            assert_eq!(bed.stop(Duration::ZERO).calls_dropped_shutdown, 1);
            assert_eq!(bed.codes(), ["W046"]);
        }
        assert_eq!(server.received().len(), 11);
    });
}

#[test]
fn a_plain_server_behind_https_is_a_tls_error() {
    let server = Server::start(ok);
    let mut bed = Bed::new(
        Choice::Auto,
        &format!("https://{}/", server.address),
        |config| {
            config.connect_max = Duration::from_millis(300);
        },
    );
    bed.push(1, b"x", 1);
    bed.wait("down", |snapshot| snapshot.down);
    assert_eq!(bed.stop(Duration::ZERO).calls_dropped_shutdown, 1);
}
