//! A store on free ports of the loopback, and a plain HTTP/1.1 client over a socket.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;
use store::{Config, Ready};
use tempfile::TempDir;
use tokio::sync::oneshot;

/// No answer of the store takes longer, on a busy machine either.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A running store; stops when dropped.
pub(crate) struct Running {
    pub(crate) ready: Ready,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    pub(crate) folder: TempDir,
}

impl Running {
    pub(crate) fn start() -> Self {
        Self::start_with(|_| {})
    }

    pub(crate) fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let mut config = free_ports(folder.path());
        change(&mut config);
        let (stop, stopped) = oneshot::channel();
        let (sender, receiver) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let on_ready = |ready: &Ready| sender.send(ready.clone()).expect("the test waits");
            let stopped = async { drop(stopped.await) };
            store::run_until(config, on_ready, stopped).expect("runs");
        });
        let ready = receiver.recv_timeout(PATIENCE).expect("ready");
        Self {
            ready,
            stop: Some(stop),
            thread: Some(thread),
            folder,
        }
    }

    /// One that was started in another way.
    pub(crate) fn of(
        ready: Ready,
        stop: oneshot::Sender<()>,
        thread: JoinHandle<()>,
        folder: TempDir,
    ) -> Self {
        Self {
            ready,
            stop: Some(stop),
            thread: Some(thread),
            folder,
        }
    }

    /// Stops the store and waits until its database is closed.
    pub(crate) fn stop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().expect("ends well");
        }
    }

    /// Posts a bundle as the reference loggers do, without compression.
    pub(crate) fn post(&self, body: &[u8]) -> Answer {
        self.post_with("Content-Type: application/ndjson; charset=UTF-8\r\n", body)
    }

    pub(crate) fn post_with(&self, headers: &str, body: &[u8]) -> Answer {
        request(self.ready.capture, "POST", "/message", headers, body)
    }

    /// Gets a path of the page as a program with its token does.
    pub(crate) fn get(&self, path: &str) -> Answer {
        request(self.ready.page, "GET", path, &self.authorization(), b"")
    }

    /// The header that opens the page; nothing where no token is required.
    pub(crate) fn authorization(&self) -> String {
        let token = self.ready.token.as_ref();
        token.map_or_else(String::new, |token| {
            format!("Authorization: Bearer {}\r\n", token.reveal())
        })
    }

    pub(crate) fn json(&self, path: &str) -> Value {
        let answer = self.get(path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

pub(crate) fn free_ports(folder: &std::path::Path) -> Config {
    let mut config = Config::new(folder);
    config.capture = "127.0.0.1:0".parse().expect("address");
    config.page = "127.0.0.1:0".parse().expect("address");
    config
}

/// A whole answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map_or("", |(_, value)| value)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    /// The body, which may come in chunks.
    pub(crate) fn decoded(&self) -> Vec<u8> {
        if self.header("transfer-encoding") != "chunked" {
            return self.body.clone();
        }
        let (mut body, mut rest) = (Vec::new(), self.body.as_slice());
        loop {
            let end = rest.iter().position(|byte| *byte == b'\r').expect("a size");
            let size = std::str::from_utf8(&rest[..end]).expect("digits");
            let size = usize::from_str_radix(size, 16).expect("a size");
            if size == 0 {
                return body;
            }
            rest = &rest[end + 2..];
            body.extend_from_slice(&rest[..size]);
            rest = &rest[size + 2..];
        }
    }
}

/// One request on a connection of its own. `headers` may name another `Host`.
pub(crate) fn request(
    to: SocketAddr,
    method: &str,
    path: &str,
    headers: &str,
    body: &[u8],
) -> Answer {
    let host = if headers.contains("Host:") {
        String::new()
    } else {
        format!("Host: {to}\r\n")
    };
    let head = format!(
        "{method} {path} HTTP/1.1\r\n{host}{headers}Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let mut stream = connect(to);
    stream.write_all(head.as_bytes()).expect("sends");
    // A store that refuses after the head may close before the whole body was sent; only its answer counts.
    drop(stream.write_all(body));
    let mut reader = BufReader::new(stream);
    let (status, headers) = read_head(&mut reader);
    let mut answer = Answer {
        status,
        headers,
        body: Vec::new(),
    };
    match answer.header("content-length").parse() {
        Ok(length) => {
            answer.body.resize(length, 0);
            reader.read_exact(&mut answer.body).expect("a whole body");
        }
        Err(_) => drop(reader.read_to_end(&mut answer.body)),
    }
    answer
}

pub(crate) fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).expect("connects");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    stream.set_write_timeout(Some(PATIENCE)).expect("a socket");
    stream
}

pub(crate) fn read_head(reader: &mut impl BufRead) -> (u16, Vec<(String, String)>) {
    let mut line = String::new();
    reader.read_line(&mut line).expect("a status line");
    let status = line
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .expect("a status");
    let mut headers = Vec::new();
    loop {
        line.clear();
        reader.read_line(&mut line).expect("a header");
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            return (status, headers);
        };
        headers.push((name.to_ascii_lowercase(), value.to_owned()));
    }
}

/// A line with these details, as a logger writes it, and its newline.
pub(crate) fn line(details: &[(&str, &str)]) -> String {
    format!("{}\n", serde_json::to_string(details).expect("JSON"))
}
