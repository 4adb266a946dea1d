//! Canaries: numbered calls that show whether what a sniffer should capture arrives. Here are their paths and the server that
//! answers them, `sniffer canary serve`; `sniffer check --canary` makes them and counts them in a store.
//!
//! The server answers these paths alone, always with the same octets. It keeps nothing and reads no file.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use crate::config::command_line::CanaryServeFlags;
use crate::diagnostic::{Code, Diagnostic, Exit, system_words};
use crate::invocation::Invocation;
use crate::limits::{CANARY_CLIENTS_MAX, CANARY_HEAD_BYTES_MAX, CANARY_WAIT};

/// How all their paths begin.
const PREFIX: &str = "/sniffer-canary/";

/// The part of the path that all canaries of a run have.
pub fn folder(run: u64) -> String {
    format!("{PREFIX}{run:016x}/")
}

/// The number in a path of this run.
pub fn number(path: &str, run: u64) -> Option<u64> {
    path.strip_prefix(&folder(run))?.parse().ok()
}

/// `sniffer canary serve`: answers until it is stopped.
pub fn serve(flags: &CanaryServeFlags, invocation: &Invocation) -> Result<Exit, Diagnostic> {
    let address = flags.listen;
    let listener = TcpListener::bind(address).map_err(|error| {
        let what = format!("cannot listen on {address}: {}", system_words(&error));
        Diagnostic::new(Code::E002, what).fix("--listen ADDRESS:PORT    another one")
    })?;
    let address = listener.local_addr().unwrap_or(address);
    invocation.console.info(format_args!(
        "answers canaries on {address}; at the source: sniffer check --canary 100 --to http://HOST:{}",
        address.port()
    ));
    accept(&listener);
    Ok(Exit::Done)
}

/// Each connection has a thread; past the bound a new one is closed at once.
fn accept(listener: &TcpListener) {
    let places = Arc::new(());
    for client in listener.incoming().flatten() {
        let place = Arc::clone(&places);
        if Arc::strong_count(&places) > CANARY_CLIENTS_MAX + 1 {
            continue;
        }
        // If no thread can be started, the connection is closed.
        let _ = std::thread::Builder::new()
            .name("canary".into())
            .spawn(move || {
                let _ = answer(&client);
                drop(place);
            });
    }
}

fn answer(client: &TcpStream) -> std::io::Result<()> {
    client.set_read_timeout(Some(CANARY_WAIT))?;
    client.set_write_timeout(Some(CANARY_WAIT))?;
    client.set_nodelay(true)?;
    let mut reader = BufReader::new(client);
    loop {
        let mut head = String::new();
        let mut bounded = reader.by_ref().take(CANARY_HEAD_BYTES_MAX);
        while !head.ends_with("\r\n\r\n") {
            if bounded.read_line(&mut head)? == 0 {
                return Ok(());
            }
        }
        let path = head.split(' ').nth(1).unwrap_or_default();
        let (status, body) = if head.starts_with("GET ") && path.starts_with(PREFIX) {
            ("200 OK", "canary\n")
        } else {
            ("404 Not Found", "only canaries are answered here\n")
        };
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        (&mut &*client).write_all(answer.as_bytes())?;
    }
}

/// A connection that makes canaries, one after the other.
#[derive(Debug)]
pub struct Caller {
    server: SocketAddr,
    host: String,
    connection: Option<BufReader<TcpStream>>,
}

impl Caller {
    /// To this server, under the name that it is called by.
    pub fn new(server: SocketAddr, host: &str) -> Self {
        Self {
            server,
            host: host.to_owned(),
            connection: None,
        }
    }

    /// Makes one call and reads its answer. After an error the next call has a new connection.
    ///
    /// # Errors
    ///
    /// There is no connection, no answer in time, or another one than that of `sniffer canary serve`.
    pub fn call(&mut self, run: u64, number: u64) -> std::io::Result<()> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let socket = TcpStream::connect_timeout(&self.server, CANARY_WAIT)?;
                socket.set_read_timeout(Some(CANARY_WAIT))?;
                socket.set_write_timeout(Some(CANARY_WAIT))?;
                socket.set_nodelay(true)?;
                BufReader::new(socket)
            }
        };
        let request = format!(
            "GET {}{number} HTTP/1.1\r\nHost: {}\r\nUser-Agent: sniffer-canary\r\n\r\n",
            folder(run),
            self.host
        );
        connection.get_mut().write_all(request.as_bytes())?;
        let mut answer = String::new();
        let mut bounded = connection.by_ref().take(CANARY_HEAD_BYTES_MAX);
        while !answer.ends_with("\r\n\r\ncanary\n") {
            if bounded.read_line(&mut answer)? == 0 {
                return Err(std::io::Error::other("its answer is not that of a canary"));
            }
        }
        self.connection = Some(connection);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_the_number_of_its_run() {
        let path = format!("{}17", folder(7));
        assert_eq!(path, "/sniffer-canary/0000000000000007/17");
        assert_eq!(number(&path, 7), Some(17));
        assert_eq!(number(&path, 8), None);
        assert_eq!(number("/sniffer-canary/0000000000000007/", 7), None);
        assert_eq!(number("/sniffer-canary/0000000000000007/1/2", 7), None);
    }

    #[test]
    fn canaries_are_answered_and_nothing_else() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap();
        std::thread::spawn(move || accept(&listener));
        let mut caller = Caller::new(server, "peer.example");
        for number in 0..3 {
            caller.call(1, number).unwrap();
        }
        let mut other = TcpStream::connect(server).unwrap();
        other
            .write_all(b"GET /etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n")
            .unwrap();
        let mut answer = [0; 12];
        other.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 404");
        // A head without end is given up.
        let mut endless = TcpStream::connect(server).unwrap();
        let _ = endless.write_all(&[b'a'; 3 * CANARY_HEAD_BYTES_MAX as usize]);
        let mut nothing = Vec::new();
        let _ = endless.read_to_end(&mut nothing);
        assert!(nothing.is_empty());
    }
}
