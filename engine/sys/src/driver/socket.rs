//! A TCP socket, or another stream socket, that is shared by its owner and the operations in flight on it.
#![expect(unsafe_code, reason = "std makes no socket without connecting it")]

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::rc::Rc;

use super::address;
use super::ready_set::ReadySet;

/// A TCP socket. Closed when the last clone is dropped and no operation on it is in flight.
#[derive(Clone, Debug)]
pub struct Socket(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    stream: TcpStream,
    /// Where it was entered; it is taken out before it is closed.
    ready: Option<Rc<ReadySet>>,
}

impl Socket {
    /// For io_uring, which waits itself. A non-blocking socket would make its operations end with EAGAIN.
    pub(super) fn blocking(to: SocketAddr) -> io::Result<Self> {
        Ok(Self(Rc::new(Inner {
            stream: open(to, 0)?,
            ready: None,
        })))
    }

    /// For io_uring: a blocking socket that is connected. Only what holds for a stream socket of any family is done with it.
    pub(super) fn adopted(socket: OwnedFd) -> Self {
        Self(Rc::new(Inner {
            stream: TcpStream::from(socket),
            ready: None,
        }))
    }

    /// For epoll: entered in `ready`.
    pub(super) fn registered(to: SocketAddr, ready: &Rc<ReadySet>) -> io::Result<Self> {
        Self::registered_stream(open(to, libc::SOCK_NONBLOCK)?, ready)
    }

    /// The same of a non-blocking socket that is connected.
    pub(super) fn registered_stream(stream: TcpStream, ready: &Rc<ReadySet>) -> io::Result<Self> {
        ready.add_stream(stream.as_fd())?;
        Ok(Self(Rc::new(Inner {
            stream,
            ready: Some(ready.clone()),
        })))
    }

    /// The address of our end, once connected.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.stream.local_addr()
    }

    /// The address of the other end, once connected.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.0.stream.peer_addr()
    }

    /// Sends the end of our stream to the peer.
    pub fn shutdown(&self) -> io::Result<()> {
        self.0.stream.shutdown(std::net::Shutdown::Write)
    }

    /// Sends as many of `bytes` as there is room for, without waiting for more.
    pub(super) fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        // SAFETY: the pointer and the length are those of `bytes`, which outlives the call.
        let sent = unsafe {
            libc::send(
                self.fd(),
                bytes.as_ptr().cast(),
                bytes.len(),
                libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
            )
        };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }

    /// Its owner and the operations in flight on it.
    #[cfg(test)]
    pub(super) fn owners(&self) -> usize {
        Rc::strong_count(&self.0)
    }

    pub(super) fn stream(&self) -> &TcpStream {
        &self.0.stream
    }

    pub(super) fn fd(&self) -> RawFd {
        self.0.stream.as_raw_fd()
    }

    /// Starts to connect; on a non-blocking socket that ends with EINPROGRESS.
    pub(super) fn connect(&self, to: SocketAddr) -> io::Result<()> {
        let address = address::encode(to);
        // SAFETY: the pointer and the length are those of `address`, which outlives the call.
        let done = unsafe {
            libc::connect(
                self.fd(),
                address.as_ptr().cast::<libc::sockaddr>(),
                address.len() as libc::socklen_t,
            )
        };
        if done < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.stream.as_fd()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(ready) = &self.ready {
            // Closing it would take it out in any case, unless another process has the socket, too.
            let _ = ready.remove(self.stream.as_fd());
        }
    }
}

fn open(to: SocketAddr, flags: i32) -> io::Result<TcpStream> {
    // SAFETY: takes no pointers.
    let fd = unsafe {
        libc::socket(
            address::family(to),
            libc::SOCK_STREAM | libc::SOCK_CLOEXEC | flags,
            0,
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so `fd` is open and nobody else owns it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let stream = TcpStream::from(fd);
    // Whole posts are handed over; waiting for more would only delay their last segment.
    stream.set_nodelay(true)?;
    Ok(stream)
}
