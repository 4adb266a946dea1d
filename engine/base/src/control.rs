//! The control socket, over which `sniffer on`, `off`, `status` and `rules reload` reach the running program.
//!
//! A connection carries one request and one response, each a line of JSON. A client costs a thread, so only
//! [`CONTROL_CLIENTS_MAX`] are answered at a time; a request has to arrive, and its answer to be taken, within
//! [`CONTROL_REQUEST_MAX`] each, or within [`CONTROL_SILENCE_MAX`] when others wait. The socket has mode 0600 from the moment it
//! appears under its name. A socket on which nothing answers is replaced; one on which a sniffer answers is left alone.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::parent_id;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError, Weak};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::config::user;
use crate::diagnostic::{Code, Diagnostic, Exit, system_words};
use crate::limits::{
    CONTROL_CLIENTS_MAX, CONTROL_CLIENTS_PER_PROCESS_MAX, CONTROL_FILE_WAIT,
    CONTROL_LAST_ANSWERS_MAX, CONTROL_REQUEST_BYTES_MAX, CONTROL_REQUEST_MAX,
    CONTROL_RESPONSE_BYTES_MAX, CONTROL_SILENCE_MAX, PACKETS_FILE_BYTES_MAX,
};
use crate::status::Status;

/// What a client requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "lowercase")]
pub enum Request {
    /// Start capturing.
    On,
    /// Deliver, then stop capturing.
    Off,
    /// Report the status.
    Status,
    /// The metrics, as the metrics port serves them.
    Metrics,
    /// Read the rules file again.
    Reload,
    /// The link that opens the page.
    Page,
    /// Deliver what is held in the spool.
    Drain,
    /// Give up what is held in the spool, or everything in it.
    Discard {
        /// Everything.
        all: bool,
    },
    /// A capture file of packets that are kept, behind the response.
    Packets(WantedPackets),
}

/// Packets of a range of time, of one connection or of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantedPackets {
    /// The beginning of the range, inclusive, in milliseconds since 1970.
    pub from_millis: u64,
    /// Its end, exclusive.
    pub until_millis: u64,
    /// The connection.
    pub connection: Option<WantedConnection>,
}

/// A connection by its inner end points.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantedConnection {
    /// One end.
    pub client: SocketAddr,
    /// The other one.
    pub server: SocketAddr,
    /// The innermost number of its network; none where that does not matter.
    pub vni: Option<u32>,
}

/// The response to a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// Exit code of the client.
    pub exit: u8,
    /// What the client prints.
    pub text: String,
    /// The status, when it was requested.
    pub status: Option<Status>,
    /// Bytes of the file that follows the line of the response; 0 without one.
    #[serde(default)]
    pub bytes: u64,
    /// The file.
    #[serde(skip)]
    pub file: Vec<u8>,
}

impl Response {
    /// A response without a status.
    pub fn new(exit: Exit, text: impl Into<String>) -> Self {
        Self {
            exit: exit as u8,
            text: text.into(),
            ..Self::default()
        }
    }

    /// A response with a file.
    pub fn with_file(file: Vec<u8>) -> Self {
        Self {
            bytes: file.len() as u64,
            file,
            ..Self::default()
        }
    }

    /// Writes the line of the response, and the file behind it.
    ///
    /// # Errors
    ///
    /// The other end does not take it.
    pub fn write(&self, mut to: impl Write) -> std::io::Result<()> {
        let mut line = serde_json::to_vec(self)?;
        line.push(b'\n');
        to.write_all(&line)?;
        to.write_all(&self.file)
    }

    fn read(from: impl Read) -> std::io::Result<Self> {
        let mut from = BufReader::new(from);
        let mut line = String::new();
        (&mut from)
            .take(CONTROL_RESPONSE_BYTES_MAX)
            .read_line(&mut line)?;
        let mut response: Self = serde_json::from_str(&line)?;
        let bytes = usize::try_from(response.bytes).unwrap_or(usize::MAX);
        if bytes > PACKETS_FILE_BYTES_MAX {
            return Err(ErrorKind::InvalidData.into());
        }
        response.file.resize(bytes, 0);
        from.read_exact(&mut response.file)?;
        Ok(response)
    }
}

/// The socket, bound to its name.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
}

impl Server {
    /// Binds the socket to `path` and creates its folder (mode 0700) if it is missing.
    pub fn bind(path: &Path) -> Result<Self, Diagnostic> {
        let failed = |error: std::io::Error| {
            Diagnostic::new(
                Code::E110,
                format!(
                    "cannot make the control socket {}: {}",
                    path.display(),
                    system_words(&error)
                ),
            )
            .fix("--control PATH in a folder that this user may write to")
        };
        if UnixStream::connect(path).is_ok() {
            return Err(Diagnostic::new(
                Code::E111,
                format!("another sniffer answers on {}", path.display()),
            )
            .fix("sniffer status    shows it\n--control PATH    to run a second one"));
        }
        if let Some(folder) = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
        {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)
                .map_err(failed)?;
        }
        is_private(path)?;
        // It is bound under another name, made private and then renamed, so that nobody can connect before it is
        // private, and a stale socket of that name is replaced in the same step.
        let mut unborn = path.as_os_str().to_owned();
        unborn.push(format!(".{}", std::process::id()));
        let unborn = PathBuf::from(unborn);
        let _ = std::fs::remove_file(&unborn);
        let listener = UnixListener::bind(&unborn).map_err(failed)?;
        std::fs::set_permissions(&unborn, std::fs::Permissions::from_mode(0o600))
            .map_err(failed)?;
        std::fs::rename(&unborn, path).map_err(failed)?;
        Ok(Self {
            listener,
            path: path.to_owned(),
        })
    }

    /// Starts to answer, each client on its own thread, so that a status never waits for an `off`. While there are as many as may
    /// be, those that send no request or take no answer are closed, and the next ones wait in the kernel's queue. A file of packets
    /// is made for one client at a time, from its request until it has taken it; others are refused at once.
    ///
    /// A process has [`CONTROL_CLIENTS_PER_PROCESS_MAX`] of these places, the parent of this one all of them; what it connects
    /// beyond is closed at once, so that one which connects without end does not fill the kernel's queue either.
    pub fn serve(
        self,
        answer: impl Fn(Request) -> Response + Send + Sync + 'static,
    ) -> std::io::Result<Serving> {
        self.serve_shares(answer, CONTROL_CLIENTS_PER_PROCESS_MAX)
    }

    fn serve_shares(
        self,
        answer: impl Fn(Request) -> Response + Send + Sync + 'static,
        share: usize,
    ) -> std::io::Result<Serving> {
        let Self { listener, path } = self;
        let answer = Arc::new(answer);
        let (leave, left) = std::sync::mpsc::channel();
        let unanswered = Arc::<Unanswered>::default();
        let for_clients = Arc::clone(&unanswered);
        let file = Arc::<Mutex<()>>::default();
        std::thread::Builder::new()
            .name("control".into())
            .spawn(move || {
                let mut clients = Vec::new();
                for stream in listener.incoming() {
                    let Ok(stream) = stream else {
                        std::thread::sleep(Duration::from_millis(100));
                        continue;
                    };
                    let client = Arc::new(Client::new(stream));
                    clients.retain(|client: &Weak<Client>| client.strong_count() > 0);
                    if client.process.is_some() && clients_of(client.process, &clients) >= share {
                        continue;
                    }
                    clients.push(Arc::downgrade(&client));
                    let answer = Arc::clone(&answer);
                    let unanswered = Arc::clone(&for_clients);
                    let file = Arc::clone(&file);
                    let place = Place(leave.clone());
                    // If no thread can be started, the connection is closed, and its place is left.
                    let _ = std::thread::Builder::new()
                        .name("control-client".into())
                        .spawn(move || {
                            let _ = converse(&client, &unanswered, &file, &*answer);
                            drop(client);
                            drop(place);
                        });
                    wait_for_place(&mut clients, &left);
                }
            })?;
        Ok(Serving { path, unanswered })
    }
}

/// How many of the clients a process is.
fn clients_of(process: Option<u32>, clients: &[Weak<Client>]) -> usize {
    let there = clients.iter().filter_map(Weak::upgrade);
    there.filter(|client| client.process == process).count()
}

/// Forgets the clients that are gone. While there are as many as may be, closes those that have been waited for long, and waits.
fn wait_for_place(clients: &mut Vec<Weak<Client>>, left: &std::sync::mpsc::Receiver<()>) {
    loop {
        left.try_iter().for_each(drop);
        clients.retain(|client| client.strong_count() > 0);
        if clients.len() < CONTROL_CLIENTS_MAX {
            return;
        }
        let there = clients.iter().filter_map(Weak::upgrade);
        for client in there.filter(|client| client.is_late()) {
            let _ = client.stream.shutdown(Shutdown::Both);
        }
        let _ = left.recv_timeout(CONTROL_SILENCE_MAX);
    }
}

/// A client, from when it was accepted.
#[derive(Debug)]
struct Client {
    stream: UnixStream,
    /// Who connected it; none for the parent of this process.
    process: Option<u32>,
    /// Since when it has to send its request or to take its answer; none while the answer is made.
    awaited: Mutex<Option<Instant>>,
}

impl Client {
    fn new(stream: UnixStream) -> Self {
        let process = engine_sys::process::peer(stream.as_fd());
        Self {
            stream,
            process: process.filter(|process| *process != parent_id()),
            awaited: Mutex::new(Some(Instant::now())),
        }
    }

    fn awaited(&self) -> MutexGuard<'_, Option<Instant>> {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_late(&self) -> bool {
        self.awaited()
            .is_some_and(|since| since.elapsed() >= CONTROL_SILENCE_MAX)
    }
}

/// The place of a client that is answered.
struct Place(std::sync::mpsc::Sender<()>);

impl Drop for Place {
    fn drop(&mut self) {
        // The server may have ended.
        let _ = self.0.send(());
    }
}

/// Refuses a folder in which another user could replace the socket by another one: one of theirs, or one that all may write to
/// and that has no sticky bit.
fn is_private(path: &Path) -> Result<(), Diagnostic> {
    use std::os::unix::fs::MetadataExt;
    const ALL_MAY_WRITE: u32 = 0o002;
    const STICKY: u32 = 0o1000;
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let Ok(found) = std::fs::metadata(folder) else {
        return Ok(());
    };
    let reason = if found.uid() != 0 && Some(found.uid()) != user() {
        "belongs to another user"
    } else if found.mode() & (ALL_MAY_WRITE | STICKY) == ALL_MAY_WRITE {
        "may be written to by all users"
    } else {
        return Ok(());
    };
    Err(Diagnostic::new(
        Code::E110,
        format!("the control socket's folder {} {reason}", folder.display()),
    )
    .fix("--control PATH in a folder of your own"))
}

/// A server that answers. Dropping it removes the socket's name and waits, up to [`CONTROL_LAST_ANSWERS_MAX`], until the requests
/// that were read are answered.
#[derive(Debug)]
pub struct Serving {
    path: PathBuf,
    unanswered: Arc<Unanswered>,
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
        self.unanswered.wait(CONTROL_LAST_ANSWERS_MAX);
    }
}

/// How many requests were read whose answers are not written yet.
#[derive(Debug, Default)]
struct Unanswered {
    count: Mutex<usize>,
    fewer: Condvar,
}

impl Unanswered {
    fn one(&self) -> Answering<'_> {
        *self.count() += 1;
        Answering(self)
    }

    fn wait(&self, timeout: Duration) {
        let many = |count: &mut usize| *count > 0;
        // A client that takes no answer does not keep the program.
        drop(self.fewer.wait_timeout_while(self.count(), timeout, many));
    }

    fn count(&self) -> MutexGuard<'_, usize> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request from when it was read until its answer is written.
struct Answering<'a>(&'a Unanswered);

impl Drop for Answering<'_> {
    fn drop(&mut self) {
        *self.0.count() -= 1;
        self.0.fewer.notify_all();
    }
}

fn converse(
    client: &Client,
    unanswered: &Unanswered,
    file: &Mutex<()>,
    answer: &dyn Fn(Request) -> Response,
) -> std::io::Result<()> {
    let stream = &client.stream;
    let request = read_request(Until {
        stream,
        end: Instant::now() + CONTROL_REQUEST_MAX,
    });
    client.awaited().take();
    let _answering = unanswered.one();
    let wants_file = matches!(request, Some(Request::Packets(_)));
    let turn = wants_file.then(|| turn_of(file)).flatten();
    let response = match request {
        Some(_) if wants_file && turn.is_none() => Response::new(Exit::Incomplete, OTHER_FILE),
        Some(request) => answer(request),
        None => Response::new(Exit::Usage, "Network sniffer: Invalid option."),
    };
    let now = Instant::now();
    client.awaited().replace(now);
    let mut answering = Until {
        stream,
        end: now + CONTROL_REQUEST_MAX,
    };
    response.write(&mut answering)
}

/// The turn to make a file, if it is free within [`CONTROL_FILE_WAIT`]: a client may request the next file as soon as it has one.
fn turn_of(file: &Mutex<()>) -> Option<MutexGuard<'_, ()>> {
    let end = Instant::now() + CONTROL_FILE_WAIT;
    loop {
        match file.try_lock() {
            Ok(turn) => return Some(turn),
            Err(TryLockError::Poisoned(turn)) => return Some(turn.into_inner()),
            Err(TryLockError::WouldBlock) if Instant::now() >= end => return None,
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}

/// The answer to whoever requests a file while another client takes one.
const OTHER_FILE: &str =
    "another file of packets is being made or taken; try again in some seconds";

/// The request that a client sends: its first line, of which no more is read than one may have. None where it is none.
pub fn read_request(from: impl Read) -> Option<Request> {
    let mut line = String::new();
    let mut from = BufReader::new(from.take(CONTROL_REQUEST_BYTES_MAX));
    from.read_line(&mut line).ok()?;
    serde_json::from_str(&line).ok()
}

/// A stream that is read or written until a time, however little comes or is taken at once.
struct Until<'a> {
    stream: &'a UnixStream,
    end: Instant,
}

impl Until<'_> {
    fn left(&self) -> std::io::Result<Duration> {
        let left = self.end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        Ok(left)
    }
}

impl Read for Until<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.stream.set_read_timeout(Some(self.left()?))?;
        self.stream.read(buffer)
    }
}

impl Write for Until<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        // The kernel divides what is long, and waits so long for each part.
        const PART: usize = 16 * 1024;
        self.stream.set_write_timeout(Some(self.left()?))?;
        self.stream.write(bytes.get(..PART).unwrap_or(bytes))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.stream.flush()
    }
}

/// Why there is no response.
#[derive(Debug)]
pub enum Unreachable {
    /// No socket, or nothing answers on it: no sniffer runs.
    NotRunning,
    /// There is a socket, and the request failed.
    Error(Diagnostic),
}

/// Sends a request to the program that listens on `path`.
pub fn send(path: &Path, request: Request, timeout: Duration) -> Result<Response, Unreachable> {
    let mut socket = UnixStream::connect(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => Unreachable::NotRunning,
        _ => unreachable_socket(path, &error),
    })?;
    exchange(&mut socket, request, timeout).map_err(|error| unreachable_socket(path, &error))
}

fn exchange(
    socket: &mut UnixStream,
    request: Request,
    timeout: Duration,
) -> std::io::Result<Response> {
    socket.set_read_timeout(Some(timeout))?;
    socket.set_write_timeout(Some(timeout))?;
    let mut line = serde_json::to_vec(&request)?;
    line.push(b'\n');
    socket.write_all(&line)?;
    Response::read(socket)
}

fn unreachable_socket(path: &Path, error: &std::io::Error) -> Unreachable {
    let problem = Diagnostic::new(
        Code::E110,
        format!(
            "cannot reach the sniffer on {}: {}",
            path.display(),
            system_words(error)
        ),
    );
    Unreachable::Error(problem.fix(match error.kind() {
        ErrorKind::PermissionDenied => "run this as the user that runs the sniffer",
        _ => "try again; if it stays so, restart the sniffer",
    }))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::status::State;

    #[test]
    fn so_many_clients_are_answered_at_a_time_and_the_others_later() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control");
        // Answered now, most at a time, and whether the answers may go.
        let state = Arc::new((Mutex::new((0, 0, false)), Condvar::new()));
        let seen = state.clone();
        let ask_all = move |_| {
            let (lock, changed) = &*seen;
            let mut now = lock.lock().unwrap();
            now.0 += 1;
            now.1 = now.0.max(now.1);
            changed.notify_all();
            let mut now = changed.wait_while(now, |now| !now.2).unwrap();
            now.0 -= 1;
            Response::new(Exit::Done, "")
        };
        let server = Server::bind(&path).unwrap();
        let serving = server.serve_shares(ask_all, usize::MAX);
        let ask = || send(&path, Request::Status, SOON).is_ok();
        std::thread::scope(|scope| {
            let clients: Vec<_> = (0..CONTROL_CLIENTS_MAX + 5)
                .map(|_| scope.spawn(ask))
                .collect();
            let (lock, changed) = &*state;
            let full = changed.wait_while(lock.lock().unwrap(), |now| now.0 < CONTROL_CLIENTS_MAX);
            full.unwrap().2 = true;
            changed.notify_all();
            assert!(clients.into_iter().all(|client| client.join().unwrap()));
        });
        assert_eq!(state.0.lock().unwrap().1, CONTROL_CLIENTS_MAX);
        drop(serving);
    }

    #[test]
    fn clients_that_send_or_take_nothing_keep_nobody_from_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control");
        let server = Server::bind(&path).unwrap();
        let serving = server.serve_shares(answer, usize::MAX).unwrap();
        let connect = |sends: &[u8]| {
            let mut stream = UnixStream::connect(&path).unwrap();
            stream.write_all(sends).unwrap();
            stream
        };
        // More than the socket holds.
        let packets = Request::Packets(WantedPackets {
            from_millis: 0,
            until_millis: 4 << 20,
            connection: None,
        });
        let mut whole = serde_json::to_vec(&packets).unwrap();
        whole.push(b'\n');
        for sent in [&b""[..], b"{\"comm", &whole] {
            let stuck: Vec<_> = (0..3 * CONTROL_CLIENTS_MAX)
                .map(|_| connect(sent))
                .collect();
            // Less than three times the time that the first of them would have.
            let answered = send(&path, Request::On, 2 * CONTROL_REQUEST_MAX);
            assert_eq!(answered.unwrap().text, "sniffer: started");
            drop(stuck);
        }
        drop(serving);
    }

    #[test]
    fn a_process_has_no_more_than_its_share() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control");
        let serving = Server::bind(&path).unwrap().serve(answer).unwrap();
        let connect = || UnixStream::connect(&path).unwrap();
        let mut held: Vec<_> = (0..CONTROL_CLIENTS_PER_PROCESS_MAX)
            .map(|_| connect())
            .collect();
        // The next one is closed; the others are not.
        assert_eq!(connect().read(&mut [0]).unwrap_or(0), 0);
        for client in &mut held {
            client.write_all(b"{\"command\":\"on\"}\n").unwrap();
            let mut line = String::new();
            BufReader::new(client).read_line(&mut line).unwrap();
            assert!(line.contains("started"), "{line}");
        }
        drop(held);
        let again = (0..600).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            send(&path, Request::On, SOON).is_ok()
        });
        assert!(again);
        drop(serving);
    }

    #[test]
    fn one_file_of_packets_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control");
        let serving = Server::bind(&path).unwrap().serve(answer).unwrap();
        let packets = Request::Packets(WantedPackets {
            from_millis: 0,
            until_millis: 4 << 20,
            connection: None,
        });
        let mut line = serde_json::to_vec(&packets).unwrap();
        line.push(b'\n');
        // It takes the first byte, so the file is made, and more than the socket holds is left.
        let mut first = UnixStream::connect(&path).unwrap();
        first.write_all(&line).unwrap();
        first.read_exact(&mut [0]).unwrap();
        let second = send(&path, packets, SOON).unwrap();
        assert_eq!((second.text.as_str(), second.file.len()), (OTHER_FILE, 0));
        assert_eq!(
            send(&path, Request::On, SOON).unwrap().text,
            "sniffer: started"
        );
        drop(first);
        let third = (0..600).map(|_| {
            std::thread::sleep(Duration::from_millis(10));
            send(&path, packets, SOON).unwrap().file.len()
        });
        assert!(third.into_iter().any(|bytes| bytes == 4 << 20));
        drop(serving);
    }

    #[test]
    fn the_end_waits_for_the_answers_to_what_was_read() {
        let unanswered = Unanswered::default();
        let written = Mutex::new(false);
        let answering = unanswered.one();
        unanswered.wait(Duration::ZERO);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                *written.lock().unwrap() = true;
                drop(answering);
            });
            unanswered.wait(Duration::from_secs(600));
            assert!(*written.lock().unwrap());
        });
        assert_eq!(*unanswered.count(), 0);
    }

    #[test]
    fn a_request_is_one_short_line() {
        let read = |text: &str| read_request(text.as_bytes());
        assert_eq!(read("{\"command\":\"on\"}\n{"), Some(Request::On));
        assert_eq!(read("{\"command\":\"status\"}"), Some(Request::Status));
        assert_eq!(read("on\n"), None);
        let long = format!("{}{{\"command\":\"on\"}}", " ".repeat(5000));
        assert_eq!(read(&long), None);
    }

    const SOON: Duration = Duration::from_secs(60);

    fn answer(request: Request) -> Response {
        match request {
            Request::On => Response::new(Exit::Done, "sniffer: started"),
            Request::Off
            | Request::Metrics
            | Request::Reload
            | Request::Page
            | Request::Drain
            | Request::Discard { .. } => Response::new(Exit::Done, "sniffer: stopped"),
            Request::Packets(wanted) => {
                Response::with_file(vec![b'x'; wanted.until_millis as usize])
            }
            Request::Status => Response {
                status: Some(Status {
                    state: State::Running,
                    pid: 7,
                    ..Status::default()
                }),
                ..Response::default()
            },
        }
    }

    #[test]
    fn asks_and_answers_over_a_private_socket() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/control.sock");
        assert!(matches!(
            send(&path, Request::Status, SOON),
            Err(Unreachable::NotRunning)
        ));
        let serving = Server::bind(&path).unwrap().serve(answer).unwrap();
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(
            std::fs::metadata(path.parent().unwrap())
                .unwrap()
                .permissions()
                .mode()
                & 0o777,
            0o700
        );
        assert_eq!(
            send(&path, Request::On, SOON).unwrap().text,
            "sniffer: started"
        );
        assert_eq!(
            send(&path, Request::Status, SOON)
                .unwrap()
                .status
                .unwrap()
                .pid,
            7
        );
        drop(serving);
        assert!(!path.exists());
    }

    /// However slowly a client takes its answer, its place is left in time.
    #[test]
    fn an_answer_that_is_taken_slowly_ends() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let is_over = AtomicBool::new(false);
        let written = std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut stream = &theirs;
                while !is_over.load(Ordering::Relaxed) && stream.read(&mut [0; 16]).is_ok() {
                    std::thread::sleep(Duration::from_millis(5));
                }
            });
            let mut until = Until {
                stream: &ours,
                end: Instant::now() + Duration::from_millis(100),
            };
            let written = until.write_all(&vec![b'x'; 64 << 20]);
            is_over.store(true, Ordering::Relaxed);
            // The reader does not wait for more.
            ours.shutdown(Shutdown::Both).unwrap();
            written
        });
        let error = written.unwrap_err();
        let kinds = [ErrorKind::TimedOut, ErrorKind::WouldBlock];
        assert!(kinds.contains(&error.kind()), "{error}");
    }

    #[test]
    fn a_file_follows_its_response() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let serving = Server::bind(&path).unwrap().serve(answer).unwrap();
        let ask = |bytes: usize| {
            let wanted = WantedPackets {
                from_millis: 0,
                until_millis: bytes as u64,
                connection: Some(WantedConnection {
                    client: "10.0.0.1:4000".parse().unwrap(),
                    server: "[::1]:80".parse().unwrap(),
                    vni: Some(7),
                }),
            };
            send(&path, Request::Packets(wanted), SOON).map(|response| response.file.len())
        };
        for bytes in [0, 1, 300_000, PACKETS_FILE_BYTES_MAX] {
            assert_eq!(ask(bytes).unwrap(), bytes);
        }
        assert!(matches!(
            ask(PACKETS_FILE_BYTES_MAX + 1),
            Err(Unreachable::Error(_))
        ));
        drop(serving);
    }

    #[test]
    fn a_folder_in_which_others_could_replace_it_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let bind = |mode: u32| {
            let mode = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(folder.path(), mode).unwrap();
            Server::bind(&path).map_err(|problem| (problem.code, problem.what))
        };
        assert!(bind(0o700).is_ok() && bind(0o1777).is_ok());
        let (code, what) = bind(0o777).unwrap_err();
        assert!(
            code == Code::E110 && what.ends_with("may be written to by all users"),
            "{what}"
        );
    }

    #[test]
    fn replaces_a_stale_socket_and_respects_a_live_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "a listener that ends leaves its name");
        assert!(matches!(
            send(&path, Request::Status, SOON),
            Err(Unreachable::NotRunning)
        ));
        let _serving = Server::bind(&path).unwrap().serve(answer).unwrap();
        assert_eq!(Server::bind(&path).unwrap_err().code, Code::E111);
        assert_eq!(
            send(&path, Request::Off, SOON).unwrap().text,
            "sniffer: stopped"
        );
    }

    #[test]
    fn nonsense_is_answered_with_the_predecessors_words() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let _serving = Server::bind(&path).unwrap().serve(answer).unwrap();
        for nonsense in ["hello\n", "{\"command\":\"explode\"}\n", "\n"] {
            let mut socket = UnixStream::connect(&path).unwrap();
            socket.write_all(nonsense.as_bytes()).unwrap();
            let mut text = String::new();
            socket.read_to_string(&mut text).unwrap();
            let response: Response = serde_json::from_str(&text).unwrap();
            assert_eq!(
                (response.exit, response.text.as_str()),
                (2, "Network sniffer: Invalid option.")
            );
        }
    }
}
