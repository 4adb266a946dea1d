//! The server of `GET :7702/metrics`, `/livez` and `/readyz`: a small HTTP/1 server on a thread of its own.
//!
//! Anybody who reaches the port may read them, so they contain only numbers, the program's own words and line numbers of the
//! rules: no address, no name, no pattern, nothing of a call. `GET` and `HEAD` alone, one request a connection, each
//! within [`limits::METRICS_REQUEST_MAX`]; `metrics/clients.rs` has who is served when more come than there is place for. No data path
//! waits for any of this: it reads what the shards publish.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use store::places::Places;

use crate::config;
use crate::diagnostic::{Code, Diagnostic, system_words};
#[cfg(doc)]
use crate::limits;

mod clients;
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
        let listener = self.listener;
        let serving = move || {
            let places = Arc::new(Places::new(clients::ROOM));
            let counted = Arc::clone(&places);
            let answer = move |page| {
                let mut answer = answer(page);
                if page == Page::Metrics {
                    exposition::clients(&mut answer.text, counted.closed(), counted.refused());
                }
                answer
            };
            clients::serve(&listener, &places, move |request| respond(request, &answer))
        };
        std::thread::Builder::new()
            .name("metrics".into())
            .spawn(serving)
            .map(drop)
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

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;
    use std::time::Duration;

    use super::*;
    use crate::limits;

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

    /// Many more clients that stall than there are places: in the head, in a body that nobody reads, and before the answer is taken.
    #[test]
    fn clients_that_stall_keep_nobody_out() {
        let at = start();
        let mut stalled = Vec::new();
        for sent in [
            "",
            "GET /livez HT",
            "POST /livez HTTP/1.1\r\nContent-Length: 9\r\n\r\n",
        ] {
            for _ in 0..limits::METRICS_CONNECTIONS_MAX {
                let mut client = TcpStream::connect(at).unwrap();
                // An earlier one may have been closed for it, and so may this one.
                let _ = client.write_all(sent.as_bytes());
                stalled.push(client);
            }
            check(
                at,
                "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n",
                "200",
                &["Live"],
            );
        }
        let text = ask(at, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
        let count = |outcome: &str| -> u64 {
            let name = format!("sniffer_metrics_clients_total{{outcome=\"{outcome}\"}} ");
            let line = text.lines().find_map(|line| line.strip_prefix(&name));
            line.expect("a metric").parse().expect("a count")
        };
        assert!(count("closed") > 0 && count("refused") == 0, "{text}");
    }

    /// A large answer to a client that takes it slowly is sent in parts, and others are answered in between.
    #[test]
    fn a_slow_reader_gets_the_whole_answer() {
        let wanted = config::Metrics {
            address: "127.0.0.1:0".parse().unwrap(),
            is_named: true,
        };
        let Endpoint::At(server) = Endpoint::open(Some(&wanted)).unwrap() else {
            panic!("port 0 is never taken");
        };
        let at = server.address;
        let answer = |page| Answer {
            is_well: true,
            text: if page == Page::Ready {
                "x".repeat(20 << 20)
            } else {
                String::new()
            },
        };
        server.serve(answer).unwrap();
        let mut slow = TcpStream::connect(at).unwrap();
        slow.write_all(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
            .unwrap();
        check(at, "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n", "200", &[]);
        let mut text = Vec::new();
        slow.read_to_end(&mut text).unwrap();
        assert!(text.len() > 20 << 20, "{}", text.len());
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
