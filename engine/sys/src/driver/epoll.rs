//! The same operations over non-blocking sockets: tried at once, and again when epoll reports the socket ready.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::operation::{Completion, InFlight, OpId, Operation};
use super::ready_set::{Events, ReadySet};
use super::socket::Socket;
use crate::event::EventFd;

pub(super) struct Epoll {
    ready: Rc<ReadySet>,
    events: Events,
    event: Arc<EventFd>,
    flight: BTreeMap<OpId, Waiting>,
    /// Operations that were cancelled.
    cancelled: Vec<Completion>,
}

struct Waiting {
    work: InFlight,
    /// The socket was not ready for it; epoll reports when it is.
    blocked: bool,
    /// A connect that is under way: its socket becomes writable when it has ended.
    begun: bool,
}

impl Epoll {
    pub(super) fn open(event: Arc<EventFd>) -> io::Result<Self> {
        let ready = Rc::new(ReadySet::new()?);
        ready.add_event(event.as_fd())?;
        Ok(Self {
            ready,
            events: Events::new(),
            event,
            flight: BTreeMap::new(),
            cancelled: Vec::new(),
        })
    }

    pub(super) fn socket(&self, to: std::net::SocketAddr) -> io::Result<Socket> {
        Socket::registered(to, &self.ready)
    }

    pub(super) fn adopt(&self, socket: OwnedFd) -> io::Result<Socket> {
        let stream = TcpStream::from(socket);
        stream.set_nonblocking(true)?;
        Socket::registered_stream(stream, &self.ready)
    }

    pub(super) fn start(&mut self, id: OpId, work: InFlight) {
        self.flight.insert(
            id,
            Waiting {
                work,
                blocked: false,
                begun: false,
            },
        );
    }

    pub(super) fn cancel(&mut self, id: OpId) {
        if let Some(waiting) = self.flight.remove(&id) {
            let result = Err(io::Error::from_raw_os_error(libc::ECANCELED));
            self.cancelled.push(Completion {
                id,
                result,
                buffer: waiting.work.buffer,
            });
        }
    }

    pub(super) fn wait(
        &mut self,
        timeout: Option<Duration>,
        completed: &mut Vec<Completion>,
    ) -> io::Result<bool> {
        completed.append(&mut self.cancelled);
        self.attempt(completed);
        let timeout = if completed.is_empty() {
            timeout
        } else {
            Some(Duration::ZERO)
        };
        self.ready.wait(&mut self.events, timeout)?;
        let woken = self.dispatch();
        self.attempt(completed);
        Ok(woken)
    }

    /// Tries every operation that is not waiting for its socket.
    fn attempt(&mut self, completed: &mut Vec<Completion>) {
        for (id, mut waiting) in std::mem::take(&mut self.flight) {
            let tried = if waiting.blocked {
                None
            } else {
                waiting.attempt()
            };
            match tried {
                Some(result) => completed.push(Completion {
                    id,
                    result,
                    buffer: waiting.work.buffer,
                }),
                None => {
                    waiting.blocked = true;
                    self.flight.insert(id, waiting);
                }
            }
        }
    }

    /// Marks the operations that can continue; returns whether the event was set.
    fn dispatch(&mut self) -> bool {
        let mut woken = false;
        let own = self.event.as_fd().as_raw_fd();
        for ready in self.events.iter() {
            if ready.fd == own {
                woken |= self.event.reset();
                continue;
            }
            for waiting in self.flight.values_mut() {
                let goes_on = match waiting.work.operation {
                    Operation::Recv => ready.readable,
                    Operation::Connect(_) | Operation::Send(_) => ready.writable,
                };
                if goes_on && waiting.work.socket.fd() == ready.fd {
                    waiting.blocked = false;
                }
            }
        }
        woken
    }
}

impl Waiting {
    /// Does the operation; `None` when the socket is not ready for it.
    fn attempt(&mut self) -> Option<io::Result<usize>> {
        let socket = &self.work.socket;
        let result = match self.work.operation {
            Operation::Connect(to) if !self.begun => {
                self.begun = true;
                socket.connect(to).map(|()| 0)
            }
            Operation::Connect(_) => match socket.stream().take_error() {
                Ok(None) => socket.peer_addr().map(|_| 0),
                Ok(Some(error)) | Err(error) => Err(error),
            },
            Operation::Send(from) => {
                uninterrupted(|| socket.stream().write(&self.work.buffer[from..]))
            }
            Operation::Recv => uninterrupted(|| socket.stream().read(self.work.buffer.own())),
        };
        match result {
            Err(error) if self.not_yet(&error) => None,
            result => Some(result),
        }
    }

    fn not_yet(&self, error: &io::Error) -> bool {
        let connecting = matches!(self.work.operation, Operation::Connect(_));
        match error.raw_os_error() {
            Some(libc::EAGAIN) => true,
            // Under way, interrupted included (connect(2)), or not yet at its end: there is no peer.
            Some(libc::EINPROGRESS | libc::EINTR | libc::ENOTCONN) => connecting,
            _ => false,
        }
    }
}

/// Repeats an operation that was interrupted: its socket may be ready and is not reported again.
fn uninterrupted(mut operation: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match operation() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

impl Drop for Epoll {
    fn drop(&mut self) {
        // It was added in `open`, and others may hold it. Sockets take themselves out.
        let _ = self.ready.remove(self.event.as_fd());
    }
}
