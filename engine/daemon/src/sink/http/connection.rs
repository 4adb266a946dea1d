//! One connection to the collector: made when there is something to post, kept until either end closes it.

use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use engine_core::bundle::Encoding;
use engine_core::uploads::{self, Identity, Upload};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Request, Response, body::Incoming};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use crate::capture_url::CaptureUrl;
use crate::clock;
use crate::supervised;

use super::dispatcher::{Dispatcher, Next, Post};
use super::reactor::{Reactor, Sleep};
use super::resolve::Resolver;
use super::retry::{Failure, Outcome};
use super::stream::{self, Allowance, BorrowedBody, Stream, TlsStream};
use super::tls;
use crate::limits;

/// What all connections have in common.
pub(super) struct Endpoint {
    pub(super) url: CaptureUrl,
    pub(super) over_supervisor: bool,
    pub(super) headers: HeaderMap,
    pub(super) identity: Option<Arc<Identity>>,
    pub(super) tls: Option<Arc<ClientConfig>>,
    pub(super) connect_max: Duration,
    pub(super) answer_max: Duration,
    pub(super) silence_max: Duration,
    pub(super) dispatcher: Rc<Dispatcher>,
    pub(super) reactor: Rc<Reactor>,
    pub(super) resolver: Rc<Resolver>,
}

/// Names this sniffer, as the loggers name themselves: version of the contract and program.
const USER_AGENT: HeaderValue = HeaderValue::from_static("Resurface/3.3.2 (sniffer)");

const NDJSON: HeaderValue = HeaderValue::from_static("application/ndjson; charset=UTF-8");

/// The word of the contract; the standard's would be `deflate`.
const DEFLATED: HeaderValue = HeaderValue::from_static("deflated");

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// How often the bundle was posted before, as far as that is known.
const IDEMPOTENCY_RETRY: HeaderName = HeaderName::from_static("idempotency-retry");

/// By which a sniffer that sees the post knows that it is no call.
const UPLOAD_MARKER: HeaderName = HeaderName::from_static(uploads::NAME);

/// What hyper needs of a stream.
pub(super) trait Io: hyper::rt::Read + hyper::rt::Write + Unpin {}

impl<S: hyper::rt::Read + hyper::rt::Write + Unpin> Io for S {}

/// An open connection, as hyper drives it.
struct Open {
    sender: SendRequest<Full<Bytes>>,
    /// Moves the bytes; none when the connection has ended.
    driver: Option<http1::Connection<Stream, Full<Bytes>>>,
    /// The body that is being posted.
    borrowed: BorrowedBody,
    /// What the collector may still send.
    allowance: Allowance,
    /// At least one post was answered on it.
    used: bool,
}

/// Posts bundles until the uploader stops.
pub(super) async fn run(endpoint: Rc<Endpoint>) {
    let mut open = None;
    while let Some(post) = next(&endpoint, &mut open).await {
        let outcome = deliver(&endpoint, &mut open, &post).await;
        endpoint.dispatcher.settle(post, &outcome, Instant::now());
    }
}

/// The next bundle to post. Meanwhile the idle connection is watched, so that its end is noticed.
async fn next(endpoint: &Endpoint, open: &mut Option<Open>) -> Option<Post> {
    let mut timer = None::<Sleep>;
    std::future::poll_fn(move |cx| {
        if let Some(connection) = open {
            poll_driver(&mut connection.driver, cx);
            if connection.driver.is_none() {
                *open = None;
            }
        }
        loop {
            let now = Instant::now();
            match endpoint.dispatcher.next(now, cx) {
                Next::Post(post) => return Poll::Ready(Some(post)),
                Next::End => return Poll::Ready(None),
                Next::Wait(None) => {
                    timer.take();
                    return Poll::Pending;
                }
                Next::Wait(Some(at)) => {
                    let mut sleep = endpoint.reactor.sleep_until(at);
                    if Pin::new(&mut sleep).poll(cx).is_pending() {
                        timer.replace(sleep);
                        return Poll::Pending;
                    }
                }
            }
        }
    })
    .await
}

/// Posts one bundle over the open connection or a new one.
async fn deliver(endpoint: &Endpoint, open: &mut Option<Open>, post: &Post) -> Outcome {
    let connection = match open.take() {
        Some(connection) => connection,
        None => match connect(endpoint).await {
            Ok(connection) => connection,
            Err(failure) => return Outcome::Failed(failure),
        },
    };
    let allowance = connection.allowance.clone();
    allowance.renew();
    let outcome = post_over(endpoint, open, post, connection).await;
    if allowance.is_used_up() {
        endpoint.dispatcher.answer_does_not_end();
    }
    outcome
}

/// Posts one bundle over `connection`, which is open afterwards if it can be used again.
async fn post_over(
    endpoint: &Endpoint,
    open: &mut Option<Open>,
    post: &Post,
    mut connection: Open,
) -> Outcome {
    let used = connection.used;
    connection.borrowed.set(post.body.clone());
    let answered = with_driver(
        &mut connection.driver,
        connection.sender.send_request(request(endpoint, post)),
    );
    let Some(answer) = await_answer(endpoint, answered).await else {
        return Outcome::Failed(Failure::TimedOut("waiting for the answer"));
    };
    match answer {
        Ok(response) => {
            let outcome = outcome_of(response.status().as_u16(), response.headers());
            // Whatever becomes of the connection: the collector has answered for the bundle.
            let settling = settle(&mut connection.driver, &mut connection.sender, response);
            if let Some(true) = endpoint
                .reactor
                .within(limits::UPLOAD_REUSE_MAX, settling)
                .await
            {
                connection.used = true;
                connection.borrowed.set(Bytes::new());
                *open = Some(connection);
            }
            outcome
        }
        // A kept connection may end just as it is used again; the collector need not have seen the post.
        Err(error) if used && is_closed(&error) => Outcome::Failed(Failure::Stale),
        Err(error) => Outcome::Failed(Failure::Lost(causes(&error))),
    }
}

/// The answer, if it comes in time; that it does not come soon is reported.
async fn await_answer<T>(endpoint: &Endpoint, answered: impl Future<Output = T>) -> Option<T> {
    let mut answered = pin!(answered);
    let soon = endpoint.silence_max.min(endpoint.answer_max);
    if let Some(answer) = endpoint.reactor.within(soon, answered.as_mut()).await {
        return Some(answer);
    }
    let rest = endpoint.answer_max - soon;
    if rest.is_zero() {
        return None;
    }
    endpoint
        .dispatcher
        .is_silent(soon, endpoint.answer_max, Instant::now());
    endpoint.reactor.within(rest, answered).await
}

/// What an answer means.
pub(super) fn outcome_of(status: u16, headers: &HeaderMap) -> Outcome {
    let location = headers
        .get(header::LOCATION)
        .and_then(|value| value.to_str().ok());
    match location {
        // Without the query, which may hold a token.
        Some(location) if (300..400).contains(&status) => {
            let place = location.split('?').next().unwrap_or_default();
            let harmless = place.chars().filter(|letter| !letter.is_control());
            Outcome::Moved(status, harmless.take(200).collect())
        }
        _ => Outcome::Status(status, retry_after(headers)),
    }
}

/// Reads the rest of an answer; whether the connection can be used again.
pub(super) async fn settle<S: Io>(
    driver: &mut Option<http1::Connection<S, Full<Bytes>>>,
    sender: &mut SendRequest<Full<Bytes>>,
    response: Response<Incoming>,
) -> bool {
    with_driver(driver, drain(response)).await && with_driver(driver, sender.ready()).await.is_ok()
}

/// Polls the connection along with what happens on it.
pub(super) async fn with_driver<S: Io, T>(
    driver: &mut Option<http1::Connection<S, Full<Bytes>>>,
    future: impl Future<Output = T>,
) -> T {
    let mut future = pin!(future);
    std::future::poll_fn(move |cx: &mut Context<'_>| {
        poll_driver(driver, cx);
        future.as_mut().poll(cx)
    })
    .await
}

/// Moves bytes. A connection that has ended is dropped, which passes its cause on to whatever waits for an answer on it.
fn poll_driver<S: Io>(
    driver: &mut Option<http1::Connection<S, Full<Bytes>>>,
    cx: &mut Context<'_>,
) {
    if let Some(connection) = driver
        && Pin::new(connection).poll(cx).is_ready()
    {
        *driver = None;
    }
}

/// Reads and discards the answer's body; whether it was read to its end.
async fn drain(response: Response<Incoming>) -> bool {
    let mut body = response.into_body();
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return false };
        bytes += frame.data_ref().map_or(0, Bytes::len);
        if bytes > limits::UPLOAD_ANSWER_BYTES_MAX {
            return false;
        }
    }
    true
}

fn request(endpoint: &Endpoint, post: &Post) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(post.body.clone()));
    *request.method_mut() = hyper::Method::POST;
    // Checked when the URL was parsed.
    *request.uri_mut() = endpoint.url.path_and_query().parse().unwrap_or_default();
    let headers = request.headers_mut();
    headers.extend(endpoint.headers.clone());
    if post.encoding == Encoding::Deflated {
        headers.insert(header::CONTENT_ENCODING, DEFLATED);
    }
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(post.body.len()));
    let key = format!("{:032x}", post.key);
    if let Some(identity) = &endpoint.identity {
        let marker = identity.mark(&Upload {
            time: clock::now(),
            length: post.body.len() as u64,
            key: key.as_bytes(),
            beginning: &post.body,
        });
        if let Ok(marker) = HeaderValue::from_str(&marker) {
            headers.insert(UPLOAD_MARKER, marker);
        }
    }
    if let Ok(key) = HeaderValue::from_str(&key) {
        headers.insert(IDEMPOTENCY_KEY, key);
    }
    if post.repeats > 0 {
        headers.insert(IDEMPOTENCY_RETRY, HeaderValue::from(post.repeats));
    }
    request
}

/// Headers that are the same in every request. `more` come first and cannot replace the sniffer's own.
pub(super) fn headers(url: &CaptureUrl, more: &[(HeaderName, HeaderValue)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in more {
        headers.append(name, value.clone());
    }
    if let Some(authorization) = url.authorization() {
        let value = authorization.clone();
        headers.entry(header::AUTHORIZATION).or_insert(value);
    }
    if let Some(host) = url.host_header() {
        headers.insert(header::HOST, host);
    }
    headers.insert(header::CONTENT_TYPE, NDJSON);
    headers.entry(header::USER_AGENT).or_insert(USER_AGENT);
    headers
}

/// The wait that the collector requests (`Retry-After`), if it is given in seconds.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers
        .get(header::RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()?;
    Some(Duration::from_secs(seconds))
}

/// Tries the collector's addresses in turn; the last failure is returned.
async fn connect(endpoint: &Endpoint) -> Result<Open, Failure> {
    if endpoint.over_supervisor {
        let connected = supervised::connect_to_store();
        let stream = connected.and_then(|socket| stream::adopt(&endpoint.reactor, socket.into()));
        let stream = stream.map_err(|error| Failure::Connect(refusal(&error)))?;
        return open(endpoint, Stream::Plain(stream)).await;
    }
    let resolved = endpoint
        .reactor
        .within(
            endpoint.connect_max,
            endpoint.resolver.resolve(&endpoint.url),
        )
        .await;
    let addresses = resolved
        .ok_or(Failure::TimedOut("looking up its address"))?
        .map_err(|error| Failure::Resolve(error.to_string()))?;
    let mut failure = Failure::Resolve("none found".to_owned());
    for to in addresses {
        let connected = endpoint
            .reactor
            .within(endpoint.connect_max, connect_to(endpoint, to))
            .await;
        match connected.unwrap_or(Err(Failure::TimedOut("connecting"))) {
            Ok(stream) => return open(endpoint, stream).await,
            Err(failed) => failure = failed,
        }
    }
    Err(failure)
}

async fn open(endpoint: &Endpoint, stream: Stream) -> Result<Open, Failure> {
    endpoint.dispatcher.connected();
    let borrowed = stream.borrowed_body();
    let allowance = stream.allowance();
    let (sender, driver) = http1::handshake(stream)
        .await
        .map_err(|error| Failure::Lost(causes(&error)))?;
    Ok(Open {
        sender,
        driver: Some(driver),
        borrowed,
        allowance,
        used: false,
    })
}

async fn connect_to(endpoint: &Endpoint, to: SocketAddr) -> Result<Stream, Failure> {
    let tcp = stream::connect(&endpoint.reactor, to)
        .await
        .map_err(|error| Failure::Connect(refusal(&error)))?;
    let Some(config) = &endpoint.tls else {
        return Ok(Stream::Plain(tcp));
    };
    let name = ServerName::try_from(endpoint.url.host().to_owned())
        .map_err(|error| Failure::Tls(error.to_string()))?;
    let tls = TlsStream::handshake(tcp, config.clone(), name).await;
    tls.map(|tls| Stream::Tls(Box::new(tls)))
        .map_err(|error| Failure::Tls(tls::words(&error)))
}

/// A failed connect, in the words of a message.
fn refusal(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "refused".to_owned(),
        _ => format!("cannot be reached: {error}"),
    }
}

/// Whether the other end has closed the connection, rather than sent something wrong.
fn is_closed(error: &hyper::Error) -> bool {
    let broken = std::error::Error::source(error)
        .and_then(|cause| cause.downcast_ref::<io::Error>())
        .is_some_and(|cause| {
            matches!(
                cause.kind(),
                io::ErrorKind::ConnectionReset
                    | io::ErrorKind::BrokenPipe
                    | io::ErrorKind::UnexpectedEof
            )
        });
    broken || error.is_incomplete_message() || error.is_closed() || error.is_canceled()
}

/// An error with its causes: hyper's own text names only the outermost.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
