//! `sniffer check`: a connection, encrypted where the URL is https, and the post of an empty bundle, which has no call.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use rustls::{ClientConnection, StreamOwned};

use super::connection::{headers, outcome_of, server_name};
use super::events::code_of_failure;
use super::refusal::Refusal;
use super::retry::{Failure, Meaning, Outcome, Retry};
use super::route::{Route, Way};
use super::tls;
use super::tunnel::Head;
use super::uploader::Config;
use crate::diagnostic::{Code, system_words};
use crate::sink::kind::Probe;

/// Time to try each address of the name.
const CONNECT_MAX: Duration = Duration::from_secs(3);

/// Time for each step of the rest.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Bytes of the answer that are read.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

const TOPIC: &str = "capture URL";
const WAITS: &str = "calls would wait, and be dropped when no more can be kept";
const REFUSES: &str = "calls would be refused, and so lost";
const KEEPS: &str =
    "calls would be kept until this is corrected, and dropped when no more can be kept";
const COUNTS: &str = "calls would count as delivered";

/// What a capture with these settings would meet at one of its URLs.
pub(super) fn probe(config: &Config, route: &Route) -> Probe {
    let url = &route.url;
    let failed = |code: Code, text: String, why: &'static str, fix: &str| Probe {
        topic: TOPIC,
        text: format!("{text} [{code}]"),
        problem: Some((why, fix.to_owned())),
    };
    let tried = try_it(config, route).and_then(|answer| match tls::refusal_in(&answer.0) {
        Some(why) => Err(Failure::Tls(why)),
        None => Ok((answer.outcome(), answer.is_of_tls())),
    });
    let (outcome, is_of_tls) = match tried {
        Ok((Some(outcome), is_of_tls)) => (outcome, is_of_tls),
        Ok((None, _)) => {
            let no_http = Failure::Lost("its answer is not HTTP/1".to_owned());
            (Outcome::Failed(no_http), false)
        }
        Err(failure) => (Outcome::Failed(failure), false),
    };
    let place = route.name();
    match &outcome {
        Outcome::Status(204, _) => Probe {
            topic: TOPIC,
            text: format!("{url} answered an empty bundle with 204"),
            problem: None,
        },
        Outcome::Failed(failure) => {
            let fix = match failure {
                Failure::Tls(_) => "sniffer help W046",
                Failure::Proxy(..) => "--proxy URL, or --proxy off where none is needed",
                _ => {
                    "the address as seen from here? a firewall? in a container, localhost is the container"
                }
            };
            failed(
                code_of_failure(&outcome),
                format!("{place} {failure}"),
                WAITS,
                fix,
            )
        }
        answered if Retry::meaning(answered) == Meaning::Passing => failed(
            Code::W045,
            format!("{url} {answered}"),
            WAITS,
            "sniffer help W045",
        ),
        // Some collectors take no bundle without a line.
        Outcome::Status(status @ (400 | 422), _) if !is_of_tls => Probe {
            topic: TOPIC,
            text: format!(
                "{url} answered an empty bundle with {status}, which one that takes calls may do"
            ),
            problem: None,
        },
        refused => {
            let of_post = config.refusal(route);
            let why = match Retry::meaning(refused) {
                Meaning::Taken => COUNTS,
                Meaning::Mendable if !config.drops_refused => KEEPS,
                _ => REFUSES,
            };
            match Refusal::of(refused, &of_post) {
                Some(refusal) => {
                    let code = refusal.code();
                    failed(
                        code,
                        refusal.to_string(),
                        why,
                        &format!("sniffer help {code}"),
                    )
                }
                None => failed(
                    Code::W044,
                    format!("{url} {refused}"),
                    why,
                    "sniffer help W044",
                ),
            }
        }
    }
}

/// A stream of any kind.
trait Stream: Read + Write {}

impl<S: Read + Write> Stream for S {}

fn try_it(config: &Config, route: &Route) -> Result<Answer, Failure> {
    let Some(hop) = route.hop() else {
        let socket = route.url.socket().unwrap_or("".as_ref());
        let stream = UnixStream::connect(socket).map_err(|error| {
            Failure::Connect(format!("cannot be reached: {}", system_words(&error)))
        })?;
        let timeouts = [
            stream.set_read_timeout(Some(ANSWER_MAX)),
            stream.set_write_timeout(Some(ANSWER_MAX)),
        ];
        return post(config, route, Box::new(stream), timeouts);
    };
    let addresses = (hop.host(), hop.port())
        .to_socket_addrs()
        .map_err(|error| Failure::Resolve(system_words(&error)))?;
    let mut failure = Failure::Resolve("none found".to_owned());
    for address in addresses {
        match TcpStream::connect_timeout(&address, CONNECT_MAX) {
            Ok(stream) => {
                let timeouts = [
                    stream.set_read_timeout(Some(ANSWER_MAX)),
                    stream.set_write_timeout(Some(ANSWER_MAX)),
                ];
                return post(config, route, Box::new(stream), timeouts);
            }
            Err(error) => {
                let why = format!("cannot be reached: {}", system_words(&error));
                failure = match &route.way {
                    Way::Proxy(_) => Failure::Proxy(0, why),
                    _ => Failure::Connect(why),
                };
            }
        }
    }
    Err(failure)
}

fn post(
    config: &Config,
    route: &Route,
    mut stream: Box<dyn Stream>,
    timeouts: [io::Result<()>; 2],
) -> Result<Answer, Failure> {
    for set in timeouts {
        set.map_err(|error| Failure::Lost(system_words(&error)))?;
    }
    if route.tunnel().is_some() {
        tunnel(route, &mut stream)?;
    }
    if !route.url.is_https() {
        return exchange(config, route, stream);
    }
    let unusable = |error: String| Failure::Tls(error);
    let tls = tls::client_config(&config.trust).map_err(|error| unusable(error.to_string()))?;
    let name = server_name(route, config.server_name.as_deref())?;
    let connection =
        ClientConnection::new(tls, name).map_err(|error| unusable(error.to_string()))?;
    let mut stream = StreamOwned::new(connection, stream);
    while stream.conn.is_handshaking() {
        let done = stream.conn.complete_io(&mut stream.sock);
        done.map_err(|error| match is_timeout(&error) {
            true => Failure::TimedOut("in the TLS handshake"),
            false => Failure::Tls(tls::words(&error)),
        })?;
    }
    exchange(config, route, stream)
}

/// Opens a tunnel through the proxy.
fn tunnel(route: &Route, stream: &mut impl Stream) -> Result<(), Failure> {
    let lost = |error: io::Error| Failure::Proxy(0, system_words(&error));
    let sent = stream.write_all(&route.tunnel_request());
    sent.and_then(|()| stream.flush()).map_err(lost)?;
    let mut head = Head::default();
    let mut byte = [0];
    // A byte at a time: what follows the head belongs to the tunnel.
    loop {
        match stream.read(&mut byte) {
            Ok(1) if !head.take(&byte).1 => {}
            Ok(_) => return head.opens(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(lost(error)),
        }
    }
}

fn exchange(
    config: &Config,
    route: &Route,
    mut stream: impl Read + Write,
) -> Result<Answer, Failure> {
    let lost = |error: &io::Error| {
        if is_timeout(error) {
            Failure::TimedOut("waiting for the answer")
        } else {
            Failure::Lost(system_words(error))
        }
    };
    let mut request = format!("POST {} HTTP/1.1\r\n", route.target()).into_bytes();
    for (name, value) in &headers(route, &config.headers) {
        request.extend_from_slice(name.as_str().as_bytes());
        request.extend_from_slice(b": ");
        request.extend_from_slice(value.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"content-length: 0\r\nconnection: close\r\n\r\n");
    let sent = stream.write_all(&request).and_then(|()| stream.flush());
    sent.map_err(|error| lost(&error))?;
    let mut answer = Answer(Vec::new());
    let mut piece = [0; 4096];
    while !answer.is_enough() {
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => answer.0.extend_from_slice(&piece[..count]),
            // A socket with a time limit does not go on by itself after a signal.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if answer.0.is_empty() => {
                return Err(match tls::late_refusal(&error) {
                    Some(why) => Failure::Tls(why),
                    None => lost(&error),
                });
            }
            Err(_) => break,
        }
    }
    if answer.0.is_empty() {
        return Err(Failure::Lost("closed without an answer".to_owned()));
    }
    Ok(answer)
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

/// The beginning of an answer.
struct Answer(Vec<u8>);

impl Answer {
    /// The head is enough, since the connection may stay open behind it; of a 400 the body says more.
    fn is_enough(&self) -> bool {
        let has_head = self.0.windows(4).any(|end| end == b"\r\n\r\n");
        let is_bad_request = self.0.starts_with(b"HTTP/1.1 400");
        self.0.len() >= ANSWER_BYTES_MAX || (has_head && (!is_bad_request || self.is_of_tls()))
    }

    /// Whether it is what a server answers to a plain request on a port that is encrypted: nginx and Go name HTTPS, Apache
    /// SSL.
    fn is_of_tls(&self) -> bool {
        let mut parts = self.0.windows(5);
        self.0.starts_with(b"HTTP/1.") && parts.any(|part| part == b"HTTPS" || part == b" SSL-")
    }

    fn outcome(&self) -> Option<Outcome> {
        let text = String::from_utf8_lossy(&self.0);
        let mut lines = text.lines();
        let mut start = lines.next()?.split(' ');
        let is_http = start.next()?.starts_with("HTTP/1.");
        let status = start.next()?.parse().ok().filter(|_| is_http)?;
        let mut fields = HeaderMap::new();
        for line in lines.take_while(|line| !line.is_empty()) {
            let Some((name, value)) = line.split_once(':') else {
                continue;
            };
            let name = HeaderName::from_bytes(name.as_bytes());
            if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(value.trim()))
                && matches!(name, header::LOCATION | header::RETRY_AFTER)
            {
                fields.insert(name, value);
            }
        }
        Some(outcome_of(status, &fields))
    }
}
