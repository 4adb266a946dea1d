//! The server of `GET :7702/metrics`, `/livez` and `/readyz`: a small HTTP/1 server on threads of its own.
//!
//! Anybody who reaches the port may read them, so they contain only numbers, the program's own words and line numbers of the
//! rules: no address, no name, no pattern, nothing of a call. `GET` and `HEAD` alone, one request a connection, each
//! within [`limits::METRICS_REQUEST_MAX`]; more than [`limits::METRICS_CONNECTIONS_MAX`] at a time wait in the kernel's
//! queue. No data path waits for any of this: it reads what the shards publish.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};

use crate::config;
use crate::diagnostic::{Code, Diagnostic, system_words};
use crate::limits;

pub mod exposition;
mod families;

/// What is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// All counters, for Prometheus.
    Metrics,
    /// Whether the capture threads run.
    Live,
    /// Whether calls are captured (and, if the settings require it, delivered).
    Ready,
}

impl Page {
    fn of(path: &str) -> Option<Self> {
        match path {
            "/metrics" => Some(Self::Metrics),
            "/livez" => Some(Self::Live),
            // Load balancers use this path by default.
            "/readyz" | "/healthz" => Some(Self::Ready),
            _ => None,
        }
    }
}

/// The answer to a [`Page`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// False is status 503.
    pub is_well: bool,
    /// The body: the text format of [`exposition`], or JSON.
    pub text: String,
}

/// The listening port, opened before anything is captured.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
}

/// The result of opening the port.
#[derive(Debug)]
pub enum Endpoint {
    /// Metrics are switched off.
    Off,
    /// Metrics are served.
    At(Server),
    /// Another program has the default port: capture continues without metrics.
    Taken(Diagnostic),
}

impl Endpoint {
    /// Opens the port.
    ///
    /// # Errors
    ///
    /// An address that the settings name cannot be used.
    pub fn open(wanted: Option<&config::Metrics>) -> Result<Self, Diagnostic> {
        let Some(wanted) = wanted else {
            return Ok(Self::Off);
        };
        let opened = TcpListener::bind(wanted.address).and_then(|listener| {
            let address = listener.local_addr()?;
            Ok(Server { listener, address })
        });
        let problem = |code, error: &io::Error| {
            let what = format!("no metrics on {}: {}", wanted.address, system_words(error));
            Diagnostic::new(code, what)
                .fix("SNIFFER_METRICS=127.0.0.1:7712    another port; SNIFFER_METRICS=off    none")
        };
        match opened {
            Ok(server) => Ok(Self::At(server)),
            Err(error) if wanted.is_named => Err(problem(Code::E105, &error)),
            Err(error) => Ok(Self::Taken(problem(Code::W104, &error))),
        }
    }

    /// The address of the server.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::At(server) => Some(server.address),
            Self::Off | Self::Taken(_) => None,
        }
    }
}

impl Server {
    /// Serves until the process ends.
    ///
    /// # Errors
    ///
    /// The kernel gives no thread.
    pub fn serve(self, answer: impl Fn(Page) -> Answer + Send + Sync + 'static) -> io::Result<()> {
        let listener = Arc::new(self.listener);
        let answer = Arc::new(answer);
        for _ in 0..limits::METRICS_CONNECTIONS_MAX {
            let (listener, answer) = (Arc::clone(&listener), Arc::clone(&answer));
            std::thread::Builder::new()
                .name("metrics".into())
                .spawn(move || {
                    loop {
                        match listener.accept() {
                            Ok((client, _)) => serve_request(client, &*answer),
                            // Out of descriptors or memory: other parts of the process will free some.
                            Err(_) => std::thread::sleep(limits::METRICS_ACCEPT_PAUSE),
                        }
                    }
                })?;
        }
        Ok(())
    }
}

/// Serves one request. Errors of the client end its connection.
fn serve_request(client: TcpStream, answer: &dyn Fn(Page) -> Answer) {
    let socket = Socket {
        tcp: client,
        until: Instant::now() + limits::METRICS_REQUEST_MAX,
    };
    let service = service_fn(|request: Request<Incoming>| {
        std::future::ready(Ok::<_, std::convert::Infallible>(respond(&request, answer)))
    });
    let connection = http1::Builder::new()
        .keep_alive(false)
        // Otherwise hyper reads while it answers, to see whether the client is still there; reads of this socket block.
        .half_close(true)
        .max_buf_size(limits::METRICS_HEAD_BYTES_MAX)
        .serve_connection(socket, service);
    let mut connection = pin!(connection);
    // No waker is needed: reads and writes of the socket block, so a pending connection can be polled again at once.
    for _ in 0..limits::METRICS_POLLS_MAX {
        if connection
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
            .is_ready()
        {
            return;
        }
    }
}

fn respond(request: &Request<Incoming>, answer: &dyn Fn(Page) -> Answer) -> Response<Full<Bytes>> {
    const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
    const JSON: HeaderValue = HeaderValue::from_static("application/json");
    const EXPOSITION: HeaderValue =
        HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    let page = Page::of(request.uri().path());
    let is_reading = matches!(*request.method(), Method::GET | Method::HEAD);
    let (status, kind, text) = match page {
        None => (
            StatusCode::NOT_FOUND,
            TEXT,
            "/metrics /livez /readyz\n".to_owned(),
        ),
        Some(_) if !is_reading => (
            StatusCode::METHOD_NOT_ALLOWED,
            TEXT,
            "GET or HEAD\n".to_owned(),
        ),
        Some(page) => {
            let Answer { is_well, text } = answer(page);
            let status = if is_well {
                StatusCode::OK
            } else {
                StatusCode::SERVICE_UNAVAILABLE
            };
            let kind = if page == Page::Metrics {
                EXPOSITION
            } else {
                JSON
            };
            (status, kind, text)
        }
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, kind);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    response
}

/// A connection whose reads and writes block, all together no longer than until a certain time.
struct Socket {
    tcp: TcpStream,
    until: Instant,
}

impl Socket {
    fn left(&self) -> io::Result<std::time::Duration> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            Err(io::ErrorKind::TimedOut.into())
        } else {
            Ok(left)
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
        let read = self.left().and_then(|left| {
            self.tcp.set_read_timeout(Some(left))?;
            (&self.tcp).read(&mut bytes[..room])
        });
        Poll::Ready(read.map(|count| to.put_slice(&bytes[..count])))
    }
}

impl Write for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(self.left().and_then(|left| {
            self.tcp.set_write_timeout(Some(left))?;
            (&self.tcp).write(bytes)
        }))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.tcp.shutdown(Shutdown::Write))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn start() -> SocketAddr {
        let wanted = config::Metrics {
            address: "127.0.0.1:0".parse().unwrap(),
            is_named: true,
        };
        let Endpoint::At(server) = Endpoint::open(Some(&wanted)).unwrap() else {
            panic!("port 0 is never taken");
        };
        let address = server.address;
        let answer = |page| Answer {
            is_well: page != Page::Ready,
            text: format!("{page:?}"),
        };
        server.serve(answer).unwrap();
        address
    }

    fn ask(address: SocketAddr, request: &str) -> String {
        let mut socket = TcpStream::connect(address).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        socket.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        // A refused client may find the connection reset behind its answer.
        let _ = socket.read_to_string(&mut text);
        text
    }

    #[track_caller]
    fn check(address: SocketAddr, request: &str, status: &str, words: &[&str]) {
        let text = ask(address, request);
        assert!(
            text.get(8..)
                .is_some_and(|rest| rest.starts_with(&format!(" {status} "))),
            "{request:?}: {text}"
        );
        for word in words {
            assert!(text.contains(word), "no {word:?} in {text}");
        }
    }

    #[test]
    fn answers_what_it_has_and_refuses_the_rest() {
        let at = start();
        check(
            at,
            "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n",
            "200",
            &["version=0.0.4", "connection: close", "\r\n\r\nMetrics"],
        );
        check(at, "GET /metrics?a=b HTTP/1.0\r\n\r\n", "200", &["Metrics"]);
        check(
            at,
            "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n",
            "200",
            &["application/json", "Live"],
        );
        for path in ["/readyz", "/healthz"] {
            check(
                at,
                &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"),
                "503",
                &["Ready"],
            );
        }
        let head = ask(at, "HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(
            head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"),
            "{head}"
        );
        check(
            at,
            "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
            "405",
            &["allow: GET, HEAD"],
        );
        check(
            at,
            "GET /etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
            "404",
            &["/metrics"],
        );
        check(at, "nonsense\r\n\r\n", "400", &[]);
        let long = format!(
            "GET /metrics HTTP/1.1\r\nx: {}\r\n\r\n",
            "x".repeat(limits::METRICS_HEAD_BYTES_MAX)
        );
        check(at, &long, "431", &[]);
    }

    /// As many silent clients as there are threads: each is let go in time, and then others are answered.
    #[test]
    fn silent_clients_are_let_go() {
        let at = start();
        let silent: Vec<_> = (0..limits::METRICS_CONNECTIONS_MAX)
            .map(|_| TcpStream::connect(at).unwrap())
            .collect();
        check(
            at,
            "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n",
            "200",
            &["Live"],
        );
        drop(silent);
    }

    #[test]
    fn a_taken_port_ends_only_who_named_it() {
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut wanted = config::Metrics {
            address: other.local_addr().unwrap(),
            is_named: false,
        };
        let Endpoint::Taken(problem) = Endpoint::open(Some(&wanted)).unwrap() else {
            panic!("the port is taken");
        };
        assert_eq!(problem.code, Code::W104);
        wanted.is_named = true;
        assert_eq!(Endpoint::open(Some(&wanted)).unwrap_err().code, Code::E105);
        assert!(matches!(Endpoint::open(None), Ok(Endpoint::Off)));
    }
}
