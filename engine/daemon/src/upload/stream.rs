//! A TCP connection over the driver, as hyper reads and writes it: plain, or encrypted by rustls.
//!
//! The driver owns a buffer while the kernel works on it, hyper lends its own only for the time of a poll; so bytes are
//! copied once, into a buffer that goes to the driver when it is full enough or hyper flushes.

use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use engine_sys::driver::{OpId, Socket};
use hyper::rt::{Read, ReadBufCursor, Write};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use super::reactor::Reactor;

/// Bytes that are sent without waiting for a flush.
const SEND_AT: usize = 64 * 1024;

/// Bytes that may wait to be sent; then the writer waits.
const SEND_MAX: usize = 256 * 1024;

/// Bytes received at a time: answers are small.
const RECEIVE: usize = 16 * 1024;

/// Connects to `to`.
pub(super) async fn connect(reactor: &Rc<Reactor>, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = reactor.socket(to)?;
    let connecting = InFlight {
        id: Some(reactor.connect(&socket, to)),
        reactor: reactor.clone(),
    };
    let connected =
        std::future::poll_fn(move |cx| connecting.reactor.clone().poll_in(&connecting, cx)).await;
    connected?;
    Ok(TcpStream {
        socket,
        filling: Vec::new(),
        spare: Vec::new(),
        sent: 0,
        sending: InFlight {
            id: None,
            reactor: reactor.clone(),
        },
        receiving: InFlight {
            id: None,
            reactor: reactor.clone(),
        },
        received: vec![0; RECEIVE],
        read: 0..0,
        ended: false,
    })
}

/// An operation that is abandoned when this is dropped.
struct InFlight {
    id: Option<OpId>,
    reactor: Rc<Reactor>,
}

impl Reactor {
    fn poll_in(&self, flight: &InFlight, cx: &Context<'_>) -> Poll<io::Result<usize>> {
        match flight.id {
            Some(id) => self.poll(id, cx).map(|completion| completion.result),
            None => Poll::Ready(Ok(0)),
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.reactor.abandon(id);
        }
    }
}

/// A connected TCP socket.
pub(super) struct TcpStream {
    socket: Socket,
    /// Written, not yet given to the driver.
    filling: Vec<u8>,
    /// Empty, for its memory.
    spare: Vec<u8>,
    /// How much of the buffer that the driver has was sent before.
    sent: usize,
    sending: InFlight,
    receiving: InFlight,
    /// Empty while the driver has it.
    received: Vec<u8>,
    /// What of `received` was not read yet.
    read: std::ops::Range<usize>,
    ended: bool,
}

impl TcpStream {
    /// Takes as many of `bytes` as fit.
    fn take(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(SEND_MAX.saturating_sub(self.filling.len()));
        self.filling.extend_from_slice(&bytes[..taken]);
        taken
    }

    /// Goes on sending; ready when nothing is on its way. `all`: also what is too little to be worth a send.
    fn poll_send(&mut self, cx: &Context<'_>, all: bool) -> Poll<io::Result<()>> {
        loop {
            if let Some(id) = self.sending.id {
                let completion = ready!(self.sending.reactor.poll(id, cx));
                self.sending.id = None;
                let mut buffer = completion.buffer;
                self.sent += completion.result?;
                if self.sent < buffer.len() {
                    self.sending.id =
                        Some(self.sending.reactor.send(&self.socket, buffer, self.sent));
                    continue;
                }
                buffer.clear();
                self.spare = buffer;
            }
            if self.filling.is_empty() || (!all && self.filling.len() < SEND_AT) {
                return Poll::Ready(Ok(()));
            }
            let buffer = std::mem::replace(&mut self.filling, std::mem::take(&mut self.spare));
            self.sent = 0;
            self.sending.id = Some(self.sending.reactor.send(&self.socket, buffer, 0));
        }
    }

    fn poll_write(&mut self, cx: &Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Err(error)) = self.poll_send(cx, false) {
            return Poll::Ready(Err(error));
        }
        match self.take(bytes) {
            0 if !bytes.is_empty() => Poll::Pending,
            taken => {
                if let Poll::Ready(Err(error)) = self.poll_send(cx, false) {
                    return Poll::Ready(Err(error));
                }
                Poll::Ready(Ok(taken))
            }
        }
    }

    /// Received bytes that were not consumed; none at the end of the stream.
    fn poll_fill(&mut self, cx: &Context<'_>) -> Poll<io::Result<&[u8]>> {
        while self.read.is_empty() && !self.ended {
            let id = *self.receiving.id.get_or_insert_with(|| {
                self.receiving
                    .reactor
                    .recv(&self.socket, std::mem::take(&mut self.received))
            });
            let completion = ready!(self.receiving.reactor.poll(id, cx));
            self.receiving.id = None;
            self.received = completion.buffer;
            self.read = 0..completion.result?;
            self.ended = self.read.is_empty();
        }
        Poll::Ready(Ok(self.received.get(self.read.clone()).unwrap_or_default()))
    }

    fn consume(&mut self, count: usize) {
        self.read.start = (self.read.start + count).min(self.read.end);
    }
}

/// An encrypted connection.
pub(super) struct TlsStream {
    tcp: TcpStream,
    tls: ClientConnection,
    decrypted: Vec<u8>,
}

impl TlsStream {
    /// Encrypts `tcp`, once the handshake is done.
    pub(super) async fn handshake(
        tcp: TcpStream,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> io::Result<Self> {
        let tls = ClientConnection::new(config, name).map_err(io::Error::other)?;
        let mut stream = Self {
            tcp,
            tls,
            decrypted: vec![0; RECEIVE],
        };
        std::future::poll_fn(|cx| {
            loop {
                // What is left to say is said also when the other end has just refused us.
                ready!(stream.poll_flush(cx))?;
                if !stream.tls.is_handshaking() {
                    return Poll::Ready(Ok::<_, io::Error>(()));
                }
                ready!(stream.poll_receive(cx))?;
            }
        })
        .await?;
        Ok(stream)
    }

    /// Takes one piece of what was received through decryption.
    fn poll_receive(&mut self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        let mut bytes = ready!(self.tcp.poll_fill(cx))?;
        let ended = bytes.is_empty();
        let taken = self.tls.read_tls(&mut bytes)?;
        self.tcp.consume(taken);
        if let Err(error) = self.tls.process_new_packets() {
            // The alert that tells the other end; if it cannot be sent now, it is not worth waiting for.
            let _ = self.poll_flush(cx);
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
        }
        if ended && self.tls.is_handshaking() {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        Poll::Ready(Ok(()))
    }

    /// Encrypted bytes into the connection's buffer, as far as they fit; says whether all did.
    fn pump(&mut self) -> io::Result<bool> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut SendBuffer(&mut self.tcp)) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn poll_flush(&mut self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let all = self.pump()?;
            ready!(self.tcp.poll_send(cx, true))?;
            if all {
                return Poll::Ready(Ok(()));
            }
        }
    }

    fn poll_write(&mut self, cx: &Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            self.pump()?;
            let sending = self.tcp.poll_send(cx, false)?;
            let taken = self.tls.writer().write(bytes)?;
            if taken > 0 || bytes.is_empty() {
                self.pump()?;
                return match self.tcp.poll_send(cx, false) {
                    Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                    _ => Poll::Ready(Ok(taken)),
                };
            }
            // Encryption is full. If nothing is on its way, the connection has room again and the loop goes on.
            ready!(sending);
        }
    }

    fn poll_read(
        &mut self,
        cx: &Context<'_>,
        into: &mut ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let most = into.remaining().min(self.decrypted.len());
        loop {
            match self.tls.reader().read(&mut self.decrypted[..most]) {
                Ok(count) => {
                    into.put_slice(&self.decrypted[..count]);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
            ready!(self.poll_receive(cx))?;
            if let Poll::Ready(Err(error)) = self.poll_flush(cx) {
                return Poll::Ready(Err(error));
            }
        }
    }
}

/// Writes into the connection's buffer, as far as it has room.
struct SendBuffer<'stream>(&'stream mut TcpStream);

impl io::Write for SendBuffer<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.take(bytes) {
            0 if !bytes.is_empty() => Err(io::ErrorKind::WouldBlock.into()),
            taken => Ok(taken),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A connection to the collector.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream>),
}

impl Read for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut into: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => {
                let bytes = ready!(tcp.poll_fill(cx))?;
                let count = bytes.len().min(into.remaining());
                into.put_slice(&bytes[..count]);
                tcp.consume(count);
                Poll::Ready(Ok(()))
            }
            Self::Tls(tls) => tls.poll_read(cx, &mut into),
        }
    }
}

impl Write for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => tcp.poll_write(cx, bytes),
            Self::Tls(tls) => tls.poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => tcp.poll_send(cx, true),
            Self::Tls(tls) => tls.poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let tcp = match self.get_mut() {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => {
                tls.tls.send_close_notify();
                ready!(tls.poll_flush(cx))?;
                &mut tls.tcp
            }
        };
        ready!(tcp.poll_send(cx, true))?;
        // The other end may have gone already.
        let _ = tcp.socket.shutdown();
        Poll::Ready(Ok(()))
    }
}
