//! Completion-style network I/O for one thread: operations go in with their buffers, completions come out with them.
//!
//! Two implementations with one behaviour: io_uring, and non-blocking sockets with epoll where the kernel or its
//! operator refuses io_uring (Docker's default seccomp profile, `kernel.io_uring_disabled`).
//!
//! **Invariant:** an operation owns its buffer and keeps its socket open until its completion was taken, cancelled or
//! not; so the kernel never writes to memory that was freed, also not while the driver is dropped.

mod address;
mod buffer;
mod epoll;
mod operation;
mod ready_set;
mod socket;
mod uring;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

pub use buffer::Buffer;
pub use operation::{Completion, OpId};
pub use socket::Socket;

use self::epoll::Epoll;
use self::operation::{InFlight, Operation};
use self::uring::Uring;
use crate::event::EventFd;

/// Which implementation is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// io_uring, or epoll where that is refused.
    #[default]
    Auto,
    /// io_uring or an error.
    Uring,
    /// epoll.
    Epoll,
}

/// Which implementation is at work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// io_uring.
    Uring,
    /// epoll, with the error number with which io_uring was refused, if it was tried.
    Epoll {
        /// EPERM: seccomp or `kernel.io_uring_disabled`. ENOSYS: a kernel without it, or seccomp. EOPNOTSUPP: a kernel
        /// older than 5.11.
        refused: Option<i32>,
    },
}

/// As status and metrics name it.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Uring => f.write_str("io_uring"),
            Self::Epoll { refused: None } => f.write_str("epoll"),
            Self::Epoll {
                refused: Some(libc::EPERM | libc::EACCES),
            } => f.write_str("epoll (io_uring blocked)"),
            Self::Epoll {
                refused: Some(errno),
            } => write!(
                f,
                "epoll (io_uring: {})",
                io::Error::from_raw_os_error(errno)
            ),
        }
    }
}

/// Drives the operations of one thread.
pub struct Driver {
    implementation: Implementation,
    kind: Kind,
    next: u64,
}

enum Implementation {
    // Boxed: it is much the larger of the two.
    Uring(Box<Uring>),
    Epoll(Epoll),
}

impl Driver {
    /// Sets up a driver whose waits `event` ends. io_uring is tried by really making a ring.
    pub fn open(choice: Choice, event: Arc<EventFd>) -> io::Result<Self> {
        let (implementation, kind) = match choice {
            Choice::Epoll => (
                Implementation::Epoll(Epoll::open(event)?),
                Kind::Epoll { refused: None },
            ),
            Choice::Uring => (
                Implementation::Uring(Box::new(Uring::open(event)?)),
                Kind::Uring,
            ),
            Choice::Auto => match Uring::open(event.clone()) {
                Ok(uring) => (Implementation::Uring(Box::new(uring)), Kind::Uring),
                Err(error) => {
                    let refused = error.raw_os_error();
                    (
                        Implementation::Epoll(Epoll::open(event)?),
                        Kind::Epoll { refused },
                    )
                }
            },
        };
        Ok(Self {
            implementation,
            kind,
            next: 0,
        })
    }

    /// Which implementation is at work.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// A TCP socket, not connected, for addresses of the family of `to`.
    pub fn socket(&self, to: SocketAddr) -> io::Result<Socket> {
        match &self.implementation {
            Implementation::Uring(_) => Socket::blocking(to),
            Implementation::Epoll(epoll) => epoll.socket(to),
        }
    }

    /// A stream socket that is connected already, of any family.
    pub fn adopt(&self, socket: OwnedFd) -> io::Result<Socket> {
        match &self.implementation {
            Implementation::Uring(_) => Ok(Socket::adopted(socket)),
            Implementation::Epoll(epoll) => epoll.adopt(socket),
        }
    }

    /// Connects `socket` to `to`.
    pub fn connect(&mut self, socket: &Socket, to: SocketAddr) -> OpId {
        self.start(socket, Operation::Connect(to), Buffer::default())
    }

    /// Sends bytes of `buffer` from offset `from` on; as many as the socket takes, at least one.
    pub fn send(&mut self, socket: &Socket, buffer: impl Into<Buffer>, from: usize) -> OpId {
        let buffer = buffer.into();
        let from = from.min(buffer.len());
        self.start(socket, Operation::Send(from), buffer)
    }

    /// Receives into `buffer`, up to its length; 0 bytes are the end of the stream.
    pub fn recv(&mut self, socket: &Socket, buffer: Vec<u8>) -> OpId {
        self.start(socket, Operation::Recv, buffer.into())
    }

    /// Cancels an operation. Its completion arrives all the same.
    pub fn cancel(&mut self, id: OpId) {
        match &mut self.implementation {
            Implementation::Uring(uring) => uring.cancel(id),
            Implementation::Epoll(epoll) => epoll.cancel(id),
        }
    }

    /// Waits until an operation has completed, the event is set, or `timeout` is over; then adds all completions there
    /// are to `completed`. Returns whether the event was set; it is then reset.
    pub fn wait(
        &mut self,
        timeout: Option<Duration>,
        completed: &mut Vec<Completion>,
    ) -> io::Result<bool> {
        match &mut self.implementation {
            Implementation::Uring(uring) => uring.wait(timeout, completed),
            Implementation::Epoll(epoll) => epoll.wait(timeout, completed),
        }
    }

    fn start(&mut self, socket: &Socket, operation: Operation, buffer: Buffer) -> OpId {
        let id = OpId(self.next);
        self.next += 1;
        let work = InFlight {
            socket: socket.clone(),
            operation,
            buffer,
        };
        match &mut self.implementation {
            Implementation::Uring(uring) => uring.start(id, work),
            Implementation::Epoll(epoll) => epoll.start(id, work),
        }
        id
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_kind_is_named_with_what_is_in_the_way() {
        let epoll = |refused| Kind::Epoll { refused };
        assert_eq!(Kind::Uring.to_string(), "io_uring");
        assert_eq!(epoll(None).to_string(), "epoll");
        let blocked = epoll(Some(libc::EPERM)).to_string();
        assert_eq!(blocked, "epoll (io_uring blocked)");
        let absent = epoll(Some(libc::ENOSYS)).to_string();
        assert!(absent.starts_with("epoll (io_uring: "), "{absent}");
    }

    /// Runs `test` with both implementations.
    fn both(test: impl Fn(Driver)) {
        for choice in [Choice::Uring, Choice::Epoll] {
            test(
                Driver::open(choice, Arc::new(EventFd::new().unwrap()))
                    .expect("this kernel has io_uring"),
            );
        }
    }

    /// Waits for exactly the completion of `id`.
    #[track_caller]
    fn finish(driver: &mut Driver, id: OpId) -> Completion {
        let mut completed = Vec::new();
        let start = Instant::now();
        while completed.is_empty() && start.elapsed() < Duration::from_secs(60) {
            driver
                .wait(Some(Duration::from_millis(100)), &mut completed)
                .unwrap();
        }
        assert_eq!(
            completed
                .iter()
                .map(|completion| completion.id)
                .collect::<Vec<_>>(),
            [id]
        );
        completed.remove(0)
    }

    fn connected(driver: &mut Driver) -> (Socket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        let socket = driver.socket(to).unwrap();
        let id = driver.connect(&socket, to);
        assert_eq!(finish(driver, id).result.unwrap(), 0);
        (socket, listener.accept().unwrap().0)
    }

    #[test]
    fn sends_and_receives_over_both_families() {
        both(|mut driver| {
            for local in ["127.0.0.1:0", "[::1]:0"] {
                let listener = TcpListener::bind(local).unwrap();
                let to = listener.local_addr().unwrap();
                let socket = driver.socket(to).unwrap();
                let id = driver.connect(&socket, to);
                finish(&mut driver, id).result.unwrap();
                let (mut peer, _) = listener.accept().unwrap();

                let id = driver.send(&socket, b"..hello".to_vec(), 2);
                let completion = finish(&mut driver, id);
                assert_eq!(
                    (completion.result.unwrap(), &completion.buffer[..]),
                    (5, &b"..hello"[..])
                );
                let mut got = [0; 5];
                peer.read_exact(&mut got).unwrap();
                assert_eq!(&got, b"hello");

                let id = driver.recv(&socket, vec![0; 16]);
                peer.write_all(b"answer").unwrap();
                let completion = finish(&mut driver, id);
                assert_eq!(
                    (completion.result.unwrap(), &completion.buffer[..6]),
                    (6, &b"answer"[..])
                );
                drop(peer);
                let id = driver.recv(&socket, completion.buffer.into_memory());
                assert_eq!(
                    finish(&mut driver, id).result.unwrap(),
                    0,
                    "end of the stream"
                );
            }
        });
    }

    #[test]
    fn an_adopted_socket_sends_and_receives() {
        use std::os::unix::net::UnixStream;
        both(|mut driver| {
            let (ours, mut peer) = UnixStream::pair().unwrap();
            let socket = driver.adopt(ours.into()).unwrap();
            let id = driver.recv(&socket, vec![0; 16]);
            assert!(
                !driver
                    .wait(Some(Duration::from_millis(10)), &mut Vec::new())
                    .unwrap()
            );
            peer.write_all(b"answer").unwrap();
            let completion = finish(&mut driver, id);
            assert_eq!(completion.result.unwrap(), 6);
            let id = driver.send(&socket, b"hello".to_vec(), 0);
            assert_eq!(finish(&mut driver, id).result.unwrap(), 5);
            let mut got = [0; 5];
            peer.read_exact(&mut got).unwrap();
            assert_eq!(&got, b"hello");
            // A peer that is gone is an error, and no signal.
            drop(peer);
            let id = driver.send(&socket, b"hello".to_vec(), 0);
            let error = finish(&mut driver, id).result.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        });
    }

    #[test]
    fn a_full_socket_takes_the_rest_later() {
        both(|mut driver| {
            let (socket, mut peer) = connected(&mut driver);
            let total = 32 << 20;
            let reader = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(50));
                let mut bytes = Vec::new();
                peer.read_to_end(&mut bytes).unwrap();
                bytes
            });
            let expected: Vec<u8> = (0..total).map(|index: u32| (index >> 8) as u8).collect();
            let mut buffer = Buffer::from(expected.clone());
            let mut sent = 0;
            while sent < buffer.len() {
                let id = driver.send(&socket, buffer, sent);
                let completion = finish(&mut driver, id);
                sent += completion.result.unwrap();
                buffer = completion.buffer;
            }
            drop(socket);
            assert!(reader.join().unwrap() == expected);
        });
    }

    #[test]
    fn a_refused_connection_says_so() {
        both(|mut driver| {
            let to = TcpListener::bind("127.0.0.1:0")
                .unwrap()
                .local_addr()
                .unwrap();
            let socket = driver.socket(to).unwrap();
            let id = driver.connect(&socket, to);
            assert_eq!(
                finish(&mut driver, id).result.unwrap_err().kind(),
                io::ErrorKind::ConnectionRefused
            );
        });
    }

    #[test]
    fn a_cancelled_operation_gives_its_buffer_back() {
        both(|mut driver| {
            let (socket, _peer) = connected(&mut driver);
            let id = driver.recv(&socket, vec![7; 16]);
            assert!(
                !driver
                    .wait(Some(Duration::from_millis(10)), &mut Vec::new())
                    .unwrap()
            );
            driver.cancel(id);
            let completion = finish(&mut driver, id);
            assert_eq!(
                completion.result.unwrap_err().raw_os_error(),
                Some(libc::ECANCELED)
            );
            assert_eq!(&completion.buffer[..], [7; 16]);
            driver.cancel(id);
            let mut none = Vec::new();
            driver
                .wait(Some(Duration::from_millis(10)), &mut none)
                .unwrap();
            assert!(none.is_empty(), "an operation completes once");
        });
    }

    #[test]
    fn the_event_and_the_time_end_a_wait() {
        for choice in [Choice::Uring, Choice::Epoll] {
            let event = Arc::new(EventFd::new().unwrap());
            let mut driver = Driver::open(choice, event.clone()).unwrap();
            let mut none = Vec::new();
            for _ in 0..3 {
                event.set();
                assert!(
                    driver
                        .wait(Some(Duration::from_secs(5)), &mut none)
                        .unwrap()
                );
                let start = Instant::now();
                assert!(
                    !driver
                        .wait(Some(Duration::from_millis(20)), &mut none)
                        .unwrap()
                );
                assert!(
                    start.elapsed() >= Duration::from_millis(19)
                        && start.elapsed() < Duration::from_secs(60)
                );
            }
            let other = event.clone();
            let thread = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(20));
                other.set();
            });
            assert!(driver.wait(None, &mut none).unwrap());
            thread.join().unwrap();
        }
    }

    #[test]
    fn many_operations_at_once_and_a_drop_in_flight() {
        both(|mut driver| {
            let pairs: Vec<_> = (0..100).map(|_| connected(&mut driver)).collect();
            let mut ids: Vec<_> = pairs
                .iter()
                .map(|(socket, _)| driver.recv(socket, vec![0; 4096]))
                .collect();
            for (_, peer) in &pairs {
                (&mut &*peer).write_all(b"x").unwrap();
            }
            let mut completed = Vec::new();
            while completed.len() < pairs.len() {
                driver
                    .wait(Some(Duration::from_secs(5)), &mut completed)
                    .unwrap();
            }
            let mut ended: Vec<_> = completed.iter().map(|completion| completion.id).collect();
            ended.sort_unstable();
            ids.sort_unstable();
            assert_eq!(ended, ids);

            for (socket, _) in &pairs {
                driver.recv(socket, vec![0; 4096]);
            }
            driver.wait(Some(Duration::ZERO), &mut Vec::new()).unwrap();
            let start = Instant::now();
            drop(driver);
            assert!(
                start.elapsed() < Duration::from_secs(2),
                "nothing in flight had to be given up"
            );
        });
    }
}
