//! A TCP connection over the driver, as hyper reads and writes it: plain, or encrypted by rustls.
//!
//! The driver owns a buffer while the kernel works on it, and hyper's own is valid only during a poll; so bytes are
//! copied once, into a buffer that goes to the driver when it is full enough or hyper flushes. A bundle is not: who posts
//! it hands it to the stream as well ([`BorrowedBody`]), which recognises hyper's bytes as a part of it and sends that part.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice, Read as _, Write as _};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use engine_sys::driver::{Buffer, OpId, Socket};
use hyper::rt::{Read, ReadBufCursor, Write};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use super::reactor::Reactor;
use crate::limits;

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
    Ok(TcpStream::new(reactor, socket))
}

/// A stream socket that is connected already.
pub(super) fn adopt(reactor: &Rc<Reactor>, socket: OwnedFd) -> io::Result<TcpStream> {
    Ok(TcpStream::new(reactor, reactor.adopt(socket)?))
}

impl TcpStream {
    fn new(reactor: &Rc<Reactor>, socket: Socket) -> Self {
        Self {
            socket,
            allowance: Allowance::default(),
            filling: Vec::new(),
            body: Bytes::new(),
            borrowed: BorrowedBody::default(),
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
        }
    }
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

/// Bytes that are to be written and outlive the poll: they need not be copied to be sent.
#[derive(Clone, Default)]
pub(super) struct BorrowedBody(Rc<RefCell<Bytes>>);

impl BorrowedBody {
    /// From now on these, none before.
    pub(super) fn set(&self, bytes: Bytes) {
        self.0.replace(bytes);
    }

    /// A handle on `bytes`, if they are part of the body: recognised by their address.
    fn part(&self, bytes: &[u8]) -> Option<Bytes> {
        let body = self.0.borrow();
        let start = bytes.as_ptr().addr().checked_sub(body.as_ptr().addr())?;
        let end = start.checked_add(bytes.len())?;
        (end <= body.len()).then(|| body.slice(start..end))
    }
}

/// Bytes that the other end may still send. A collector could send interim answers without end, and a processor would be
/// busy with them; there is no end to them that hyper would look for.
#[derive(Clone)]
pub(super) struct Allowance(Rc<Cell<usize>>);

impl Default for Allowance {
    fn default() -> Self {
        Self(Rc::new(Cell::new(limits::UPLOAD_RECEIVED_BYTES_MAX)))
    }
}

impl Allowance {
    /// As many as for a whole answer, from now on.
    pub(super) fn renew(&self) {
        self.0.set(limits::UPLOAD_RECEIVED_BYTES_MAX);
    }

    /// Whether the other end has sent more.
    pub(super) fn is_used_up(&self) -> bool {
        self.0.get() == 0
    }

    fn take(&self, bytes: usize) -> io::Result<()> {
        let left = self.0.get().saturating_sub(bytes);
        self.0.set(left);
        if left == 0 {
            return Err(io::Error::other("its answer does not end"));
        }
        Ok(())
    }
}

/// A connected socket, of TCP or passed over the supervisor.
pub(super) struct TcpStream {
    socket: Socket,
    allowance: Allowance,
    /// Written, not yet given to the driver.
    filling: Vec<u8>,
    /// Part of the borrowed body, to be sent after `filling`.
    body: Bytes,
    borrowed: BorrowedBody,
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
    /// Takes as many of `bytes` as fit. After a part of the borrowed body nothing does.
    fn take(&mut self, bytes: &[u8]) -> usize {
        if !self.body.is_empty() {
            return 0;
        }
        if bytes.len() >= SEND_AT
            && let Some(part) = self.borrowed.part(bytes)
        {
            self.body = part;
            return bytes.len();
        }
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
                self.sent += completion.result?;
                if self.sent < completion.buffer.len() {
                    self.send(completion.buffer);
                    continue;
                }
                if let Buffer::Own(mut memory) = completion.buffer {
                    memory.clear();
                    self.spare = memory;
                }
            }
            let Some(buffer) = self.next(all) else {
                return Poll::Ready(Ok(()));
            };
            self.sent = 0;
            self.send(buffer);
        }
    }

    /// What is to be sent next.
    fn next(&mut self, all: bool) -> Option<Buffer> {
        if self.filling.is_empty() && !self.body.is_empty() {
            return Some(std::mem::take(&mut self.body).into());
        }
        let is_worth_it = all || self.filling.len() >= SEND_AT || !self.body.is_empty();
        (is_worth_it && !self.filling.is_empty())
            .then(|| std::mem::replace(&mut self.filling, std::mem::take(&mut self.spare)).into())
    }

    fn send(&mut self, buffer: Buffer) {
        self.sending.id = Some(self.sending.reactor.send(&self.socket, buffer, self.sent));
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
            self.received = completion.buffer.into_memory();
            self.read = 0..completion.result?;
            self.ended = self.read.is_empty();
            self.allowance.take(self.read.len())?;
        }
        Poll::Ready(Ok(self.received.get(self.read.clone()).unwrap_or_default()))
    }

    /// Sends `request` and gives what is received to `take`, until that has enough. It returns how much it took.
    pub(super) async fn exchange(
        mut self,
        request: &[u8],
        mut take: impl FnMut(&[u8]) -> (usize, bool),
    ) -> io::Result<Self> {
        self.filling.extend_from_slice(request);
        std::future::poll_fn(|cx| {
            ready!(self.poll_send(cx, true))?;
            loop {
                let bytes = ready!(self.poll_fill(cx))?;
                if bytes.is_empty() {
                    return Poll::Ready(Err(io::Error::from(io::ErrorKind::UnexpectedEof)));
                }
                let (taken, is_enough) = take(bytes);
                self.consume(taken);
                if is_enough {
                    return Poll::Ready(Ok(()));
                }
            }
        })
        .await?;
        Ok(self)
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
                // What is left to send is sent also when the other end has just refused the handshake.
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
            // The alert for the other end; if it cannot be sent now, it is not worth waiting for.
            let _ = self.poll_flush(cx);
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
        }
        if ended && self.tls.is_handshaking() {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        Poll::Ready(Ok(()))
    }

    /// Encrypted bytes into the connection's buffer, as far as they fit; whether all did.
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

impl Stream {
    /// What bounds the answers on it.
    pub(super) fn allowance(&self) -> Allowance {
        match self {
            Self::Plain(tcp) => tcp.allowance.clone(),
            Self::Tls(tls) => tls.tcp.allowance.clone(),
        }
    }

    /// Where the body of a post is set. What is encrypted is copied all the same.
    pub(super) fn borrowed_body(&self) -> BorrowedBody {
        match self {
            Self::Plain(tcp) => tcp.borrowed.clone(),
            Self::Tls(_) => BorrowedBody::default(),
        }
    }
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

    /// The first of `slices` only. If vectored writes were not offered, hyper would put a head and its body into one buffer
    /// and copy both.
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let first = slices.iter().find(|slice| !slice.is_empty());
        self.poll_write(cx, first.map_or(&[], |slice| slice))
    }

    fn is_write_vectored(&self) -> bool {
        matches!(self, Self::Plain(_))
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

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    use std::net::TcpListener;
    use std::pin::pin;
    use std::task::Waker;
    use std::time::{Duration, Instant};

    use engine_sys::driver::{Choice, Driver};
    use engine_sys::event::EventFd;
    use http_body_util::Full;
    use hyper::client::conn::http1;

    use super::*;

    fn finish<T>(reactor: &Rc<Reactor>, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let mut cx = Context::from_waker(Waker::noop());
            if let Poll::Ready(value) = future.as_mut().poll(&mut cx) {
                return value;
            }
            assert!(Instant::now() < deadline);
            let soon = Instant::now() + Duration::from_millis(10);
            reactor.turn(Some(soon)).unwrap();
        }
    }

    /// Takes one request with a length, and answers it.
    fn serve(listener: &TcpListener) -> Vec<u8> {
        let mut stream = BufReader::new(listener.accept().unwrap().0);
        let mut length = 0;
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).unwrap();
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.trim().parse().unwrap();
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).unwrap();
        let answer = b"HTTP/1.1 204 No Content\r\n\r\n";
        stream.get_mut().write_all(answer).unwrap();
        body
    }

    /// Posts `body` and gives back the stream.
    async fn post(reactor: &Rc<Reactor>, to: SocketAddr, body: &Bytes, borrow: bool) -> Stream {
        let stream = Stream::Plain(connect(reactor, to).await.unwrap());
        if borrow {
            stream.borrowed_body().set(body.clone());
        }
        let (mut sender, mut driver) = http1::handshake(stream).await.unwrap();
        let request = hyper::Request::new(Full::new(body.clone()));
        let mut answer = pin!(sender.send_request(request));
        let status = std::future::poll_fn(|cx| {
            assert!(Pin::new(&mut driver).poll(cx).is_pending());
            answer.as_mut().poll(cx)
        });
        assert_eq!(status.await.unwrap().status(), 204);
        driver.into_parts().io
    }

    #[test]
    fn a_borrowed_body_is_not_copied() {
        for choice in [Choice::Uring, Choice::Epoll] {
            for borrow in [true, false] {
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                let to = listener.local_addr().unwrap();
                let server = std::thread::spawn(move || serve(&listener));
                let driver = Driver::open(choice, Arc::new(EventFd::new().unwrap())).unwrap();
                let reactor = Reactor::new(driver);
                // More than a socket takes at once.
                let body: Vec<u8> = (0..8_000_000_u32).map(|at| (at >> 8) as u8).collect();
                let body = Bytes::from(body);
                let Stream::Plain(tcp) = finish(&reactor, post(&reactor, to, &body, borrow)) else {
                    unreachable!("it was plain");
                };
                assert!(server.join().unwrap() == body);
                let copied = tcp.filling.capacity() + tcp.spare.capacity();
                assert_eq!(copied < SEND_AT, borrow, "{copied} bytes");
            }
        }
    }

    #[test]
    fn a_part_is_known_by_its_place() {
        let borrowed = BorrowedBody::default();
        let whole = Bytes::from(vec![1; 100]);
        assert_eq!(borrowed.part(&whole[10..20]), None);
        borrowed.set(whole.clone());
        assert_eq!(borrowed.part(&whole[10..20]).as_deref(), Some(&[1; 10][..]));
        assert_eq!(borrowed.part(&whole), Some(whole.clone()));
        assert_eq!(borrowed.part(&[1; 100]), None);
    }
}
