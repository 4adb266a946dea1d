//! A server between a sender and a capture URL, whose answers fail in the ways that networks and servers have.

use std::io::{self, ErrorKind, Read, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};

use crate::network::Namespace;

/// Time between two looks of a thread that waits.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is passed on, and so is the answer.
    None,
    /// It is read and answered with this status, and with a wait of one second.
    Refuse(u16),
    /// It is read and not answered as long as this lasts.
    Stall,
    /// It is read some hundred bytes at a time, and then passed on.
    SlowReading,
    /// It is passed on, and the connection is reset within the answer.
    ResetInAnswer,
    /// It is passed on, and answered with 503 all the same.
    Lie,
    /// The connection is reset before it is read.
    Reset,
}

/// The server, on a thread of its own and one for each connection; it ends when this is dropped.
pub struct FaultServer {
    shared: Arc<Shared>,
}

struct Shared {
    fault: Mutex<Fault>,
    changed: Condvar,
    is_over: Mutex<bool>,
}

impl FaultServer {
    /// Listens on `listener`, and passes requests on to port `to` of the loopback of `namespace`.
    pub fn start(namespace: &Namespace, port: u16, to: u16) -> io::Result<Self> {
        let listener = namespace.inside(|| TcpListener::bind(("127.0.0.1", port)))?;
        listener.set_nonblocking(true)?;
        let shared = Arc::new(Shared {
            fault: Mutex::new(Fault::None),
            changed: Condvar::new(),
            is_over: Mutex::new(false),
        });
        let inner = Arc::clone(&shared);
        // A thread in the namespace makes its connections there.
        namespace.inside(|| {
            thread::Builder::new()
                .name("fault-server".into())
                .spawn(move || accept(&listener, to, &inner))
        })?;
        Ok(Self { shared })
    }

    /// What happens to requests from now on.
    pub fn set(&self, fault: Fault) {
        *locked(&self.shared.fault) = fault;
        self.shared.changed.notify_all();
    }
}

impl Drop for FaultServer {
    fn drop(&mut self) {
        *locked(&self.shared.is_over) = true;
        self.set(Fault::Reset);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no holder of the lock panics")
}

impl Shared {
    fn fault(&self) -> Fault {
        *locked(&self.fault)
    }

    fn is_over(&self) -> bool {
        *locked(&self.is_over)
    }

    /// Returns when the fault is another one.
    fn outlast(&self, fault: Fault) {
        let now = locked(&self.fault);
        drop(self.changed.wait_while(now, |now| *now == fault));
    }
}

fn accept(listener: &TcpListener, to: u16, shared: &Arc<Shared>) {
    while !shared.is_over() {
        let Ok((stream, _)) = listener.accept() else {
            thread::sleep(LOOK_EVERY);
            continue;
        };
        let shared = Arc::clone(shared);
        thread::spawn(move || {
            // Either side may end the connection at any time, which is what this is for.
            let _ = serve(&stream, to, &shared);
        });
    }
}

fn serve(client: &TcpStream, to: u16, shared: &Shared) -> io::Result<()> {
    client.set_nonblocking(false)?;
    client.set_read_timeout(Some(LOOK_EVERY))?;
    loop {
        if shared.fault() == Fault::Reset {
            return reset(client);
        }
        let Some(request) = read_message(client, shared, true)? else {
            return Ok(());
        };
        let fault = shared.fault();
        match fault {
            Fault::Reset => return reset(client),
            Fault::Refuse(status) => answer(client, status)?,
            Fault::Stall => {
                shared.outlast(fault);
                return Ok(());
            }
            Fault::None | Fault::SlowReading | Fault::ResetInAnswer | Fault::Lie => {
                let passed = pass_on(&request, to, shared)?;
                match fault {
                    Fault::Lie => answer(client, 503)?,
                    Fault::ResetInAnswer => {
                        let mut client = client;
                        client.write_all(passed.get(..12).unwrap_or(&passed))?;
                        return reset(client);
                    }
                    _ => {
                        let mut client = client;
                        client.write_all(&passed)?;
                    }
                }
            }
        }
    }
}

/// The answer of the server behind, over a connection of its own: a kept one may be to a server that was killed.
fn pass_on(request: &[u8], to: u16, shared: &Shared) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(("127.0.0.1", to))?;
    stream.set_read_timeout(Some(LOOK_EVERY))?;
    stream.write_all(request)?;
    let answer = read_message(&stream, shared, false)?;
    answer.ok_or_else(|| ErrorKind::UnexpectedEof.into())
}

fn answer(mut client: &TcpStream, status: u16) -> io::Result<()> {
    let head =
        format!("HTTP/1.1 {status} On command\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n");
    client.write_all(head.as_bytes())
}

/// With a linger of 0 the close that follows is a reset.
fn reset(client: &TcpStream) -> io::Result<()> {
    let now = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    setsockopt(client, sockopt::Linger, &now).map_err(io::Error::from)
}

/// One request or answer with a length or without a body; none where the peer closes the connection before it.
fn read_message(
    mut stream: &TcpStream,
    shared: &Shared,
    may_be_slow: bool,
) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 64 * 1024];
    loop {
        if let Some(length) = message_length(&bytes)
            && bytes.len() >= length
        {
            return Ok(Some(bytes));
        }
        let fault = shared.fault();
        let most = match fault {
            Fault::SlowReading if may_be_slow => {
                thread::sleep(LOOK_EVERY);
                700
            }
            _ => chunk.len(),
        };
        match stream.read(&mut chunk[..most]) {
            Ok(0) if bytes.is_empty() => return Ok(None),
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(read) => bytes.extend_from_slice(&chunk[..read]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if shared.is_over() {
                    return Ok(None);
                }
                if fault == Fault::Reset && may_be_slow {
                    return Ok(None);
                }
            }
            Err(error) => return Err(error),
        }
    }
}

/// Octets of the message that begins here, once its head is there.
fn message_length(bytes: &[u8]) -> Option<usize> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(bytes.get(..end)?);
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let is_length = name.eq_ignore_ascii_case("content-length");
        is_length.then(|| value.trim().parse::<usize>().ok())?
    });
    Some(end + length.unwrap_or(0))
}
