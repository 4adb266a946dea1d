//! The clients of a listener, one request a connection, on one thread that waits for none of them alone.
//!
//! Every read and write is non-blocking; the thread waits until any client, or the listener, is ready. So a client that
//! stalls costs its place and no thread, and it gives that place to the next client when none is free ([`Places`]): peers
//! that open connections and send half a head keep nobody else out, and never take the places of this host.

use std::cell::Cell;
use std::convert::Infallible;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use store::places::{Place, Places, Room};
use store::sender::Sender;

use crate::limits;

/// The places of the metrics port.
pub(super) const ROOM: Room = Room {
    connections: limits::METRICS_CONNECTIONS_MAX,
    local: limits::METRICS_CONNECTIONS_LOCAL,
    sender: limits::METRICS_CONNECTIONS_SENDER_MAX,
};

/// Serves until the process ends.
///
/// # Errors
///
/// The listener cannot be made non-blocking.
pub(super) fn serve(
    listener: &TcpListener,
    places: &Arc<Places>,
    respond: impl Fn(&Request<Incoming>) -> Response<Full<Bytes>> + 'static,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let respond = Rc::new(respond);
    let mut clients = Vec::<Client>::new();
    loop {
        let is_waiting = wait(listener, &clients);
        if is_waiting && !accept(listener, places, &respond, &mut clients) {
            // Out of descriptors or memory: other parts of the process will free some.
            std::thread::sleep(limits::METRICS_ACCEPT_PAUSE);
        }
        let now = Instant::now();
        clients.retain_mut(|client| client.goes_on(now));
    }
}

/// Waits for a client, for the listener, or until the time of a client is over; whether somebody may wait to be accepted.
fn wait(listener: &TcpListener, clients: &[Client]) -> bool {
    let now = Instant::now();
    let first = clients.iter().map(|client| client.until).min();
    let timeout = first.map(|until| {
        // Rounded up, so that the time is over when the wait is.
        let left = until.saturating_duration_since(now) + Duration::from_millis(1);
        Timespec {
            tv_sec: left.as_secs().cast_signed(),
            tv_nsec: left.subsec_nanos().into(),
        }
    });
    let mut ready: Vec<_> = clients
        .iter()
        .map(|client| PollFd::new(&*client.tcp, client.blocked.get().flags()))
        .collect();
    ready.push(PollFd::new(listener, PollFlags::IN));
    match poll(&mut ready, timeout.as_ref()) {
        Ok(_) => ready
            .last()
            .is_some_and(|listener| !listener.revents().is_empty()),
        // A signal; nothing else is possible with descriptors that are open.
        Err(_) => false,
    }
}

/// Accepts those that wait, some of them: the others are accepted after the present ones had their turn. False when the
/// kernel has no more descriptors.
fn accept<R>(
    listener: &TcpListener,
    places: &Arc<Places>,
    respond: &Rc<R>,
    clients: &mut Vec<Client>,
) -> bool
where
    R: Fn(&Request<Incoming>) -> Response<Full<Bytes>> + 'static,
{
    for _ in 0..limits::METRICS_ACCEPTS_MAX {
        match listener.accept() {
            Ok((tcp, peer)) => {
                // Without a place the connection is closed by dropping it.
                if let Some(place) = places.take(Sender::of(peer.ip()))
                    && tcp.set_nonblocking(true).is_ok()
                {
                    clients.push(Client::new(tcp, place, Rc::clone(respond)));
                }
            }
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock => return true,
                // The client has gone again.
                ErrorKind::ConnectionAborted | ErrorKind::Interrupted => {}
                _ => return false,
            },
        }
    }
    true
}

/// One client.
struct Client {
    connection: Pin<Box<dyn Future<Output = ()>>>,
    tcp: Rc<TcpStream>,
    blocked: Rc<Cell<Blocked>>,
    place: Place,
    until: Instant,
}

impl Client {
    fn new<R>(tcp: TcpStream, place: Place, respond: Rc<R>) -> Self
    where
        R: Fn(&Request<Incoming>) -> Response<Full<Bytes>> + 'static,
    {
        let tcp = Rc::new(tcp);
        let blocked = Rc::<Cell<Blocked>>::default();
        let socket = Socket {
            tcp: Rc::clone(&tcp),
            blocked: Rc::clone(&blocked),
        };
        let service = service_fn(move |request: Request<Incoming>| {
            std::future::ready(Ok::<_, Infallible>(respond(&request)))
        });
        let connection = http1::Builder::new()
            .keep_alive(false)
            // Otherwise hyper reads while it answers, to see whether the client is still there.
            .half_close(true)
            .max_buf_size(limits::METRICS_HEAD_BYTES_MAX)
            .serve_connection(socket, service);
        Self {
            // Errors of the client end its connection.
            connection: Box::pin(async { drop(connection.await) }),
            tcp,
            blocked,
            place,
            until: Instant::now() + limits::METRICS_REQUEST_MAX,
        }
    }

    /// Does what can be done without waiting; false when nothing is left to do, or another needs the place.
    fn goes_on(&mut self, now: Instant) -> bool {
        if self.place.connection().is_closed() || now >= self.until {
            return false;
        }
        // No waker is needed: what waits for nothing but its turn is polled again at once.
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..limits::METRICS_POLLS_MAX {
            self.blocked.take();
            if self.connection.as_mut().poll(&mut context).is_ready() {
                return false;
            }
            if self.blocked.get() != Blocked::default() {
                return true;
            }
        }
        false
    }
}

/// What a socket was not ready for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Blocked {
    read: bool,
    write: bool,
}

impl Blocked {
    fn flags(self) -> PollFlags {
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::IN, self.read);
        flags.set(PollFlags::OUT, self.write);
        flags
    }
}

/// A non-blocking connection.
struct Socket {
    tcp: Rc<TcpStream>,
    blocked: Rc<Cell<Blocked>>,
}

impl Socket {
    /// The result, or a note of what the socket has to become ready for.
    fn result<T>(
        &self,
        done: io::Result<T>,
        note: impl FnOnce(&mut Blocked),
    ) -> Poll<io::Result<T>> {
        match done {
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) =>
            {
                let mut blocked = self.blocked.get();
                note(&mut blocked);
                self.blocked.set(blocked);
                Poll::Pending
            }
            done => Poll::Ready(done),
        }
    }
}

impl Read for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut to: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let mut bytes = [0; 4096];
        let room = to.remaining().min(bytes.len());
        let read = (&*self.tcp).read(&mut bytes[..room]);
        let read = std::task::ready!(self.result(read, |blocked| blocked.read = true));
        Poll::Ready(read.map(|count| to.put_slice(&bytes[..count])))
    }
}

impl Write for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = (&*self.tcp).write(bytes);
        self.result(written, |blocked| blocked.write = true)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.tcp.shutdown(Shutdown::Write))
    }
}
