//! One connection to the collector: made when there is something to post, kept until either end closes it.

use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use engine_core::bundle::Encoding;
use engine_core::uploads::{self, Identity, Upload};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Request, Response, Uri, body::Incoming};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use crate::clock;
use crate::supervised;

use super::dispatcher::{Dispatcher, Next, Post};
use super::reactor::{Reactor, Sleep};
use super::resolve::{Found, Resolver};
use super::retry::{Failure, Outcome};
use super::route::{Route, Way};
use super::stream::{self, Allowance, BorrowedBody, Stream, TcpStream, TlsStream};
use super::tls;
use super::tunnel::Head;
use crate::limits;

/// What all connections have in common.
pub(super) struct Endpoint {
    /// In the order of the dispatcher's.
    pub(super) collectors: Vec<Collector>,
    pub(super) identity: Option<Arc<Identity>>,
    /// Where a URL is https.
    pub(super) tls: Option<tls::Current>,
    /// The name that certificates must be for, instead of the URL's host.
    pub(super) server_name: Option<String>,
    pub(super) connect_max: Duration,
    pub(super) answer_max: Duration,
    pub(super) silence_max: Duration,
    pub(super) dispatcher: Rc<Dispatcher>,
    pub(super) reactor: Rc<Reactor>,
}

/// What all connections to one collector have in common.
pub(super) struct Collector {
    route: Route,
    resolver: Resolver,
    /// The target of every bundle.
    target: Uri,
    /// That of a ledger.
    ledger_target: Uri,
    headers: HeaderMap,
}

impl Collector {
    pub(super) fn new(route: &Route, more: &[(HeaderName, HeaderValue)]) -> Self {
        Self {
            resolver: Resolver::new(route.clone()),
            target: route.target(),
            ledger_target: route.ledger_target(),
            headers: headers(route, more),
            route: route.clone(),
        }
    }
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
    /// The index of the collector that it leads to.
    collector: usize,
    /// What it was encrypted by.
    tls: Option<Arc<ClientConfig>>,
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
    let fits = |connection: &Open| {
        // Where certificates were read again, connections of before are not used any longer.
        let tls = connection.tls.as_ref().zip(endpoint.tls.as_ref());
        let is_current = tls.is_none_or(|(old, current)| Arc::ptr_eq(old, &current.get()));
        connection.collector == post.collector && is_current
    };
    let connection = match open.take().filter(fits) {
        Some(connection) => connection,
        None => match connect(endpoint, post.collector).await {
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
    let Some(answer) = await_answer(endpoint, post.collector, answered).await else {
        return Outcome::Failed(Failure::TimedOut("waiting for the answer"));
    };
    match answer {
        Ok(response) => {
            let outcome = outcome_of(response.status().as_u16(), response.headers());
            // Whatever becomes of the connection: the collector has answered for the bundle.
            let mut beginning = Vec::new();
            let settling = settle(
                &mut connection.driver,
                &mut connection.sender,
                response,
                &mut beginning,
            );
            let settled = endpoint
                .reactor
                .within(limits::UPLOAD_REUSE_MAX, settling)
                .await;
            if let Some(true) = settled {
                connection.used = true;
                connection.borrowed.set(Bytes::new());
                *open = Some(connection);
            }
            match (&outcome, tls::refusal_in(&beginning)) {
                (Outcome::Status(400, _), Some(why)) => Outcome::Failed(Failure::Tls(why)),
                _ => outcome,
            }
        }
        // A kept connection may end just as it is used again; the collector need not have seen the post.
        Err(error) if used && is_closed(&error) => Outcome::Failed(Failure::Stale),
        Err(error) => Outcome::Failed(match tls::late_refusal(&error) {
            Some(why) => Failure::Tls(why),
            None => Failure::Lost(causes(&error)),
        }),
    }
}

/// Posts a ledger, over a connection of its own: those that are open belong to bundles.
pub(super) async fn post_ledger(endpoint: &Endpoint, collector: usize, body: Bytes) -> Outcome {
    let mut connection = match connect(endpoint, collector).await {
        Ok(connection) => connection,
        Err(failure) => return Outcome::Failed(failure),
    };
    connection.allowance.renew();
    connection.borrowed.set(body.clone());
    let request = ledger_request(endpoint, collector, body);
    let sending = connection.sender.send_request(request);
    match with_driver(&mut connection.driver, sending).await {
        Ok(response) => outcome_of(response.status().as_u16(), response.headers()),
        Err(error) => Outcome::Failed(Failure::Lost(causes(&error))),
    }
}

/// The answer, if it comes in time; that it does not come soon is reported.
async fn await_answer<T>(
    endpoint: &Endpoint,
    collector: usize,
    answered: impl Future<Output = T>,
) -> Option<T> {
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
        .is_silent(collector, soon, endpoint.answer_max, Instant::now());
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

/// Reads the rest of an answer, and keeps its beginning; whether the connection can be used again.
pub(super) async fn settle<S: Io>(
    driver: &mut Option<http1::Connection<S, Full<Bytes>>>,
    sender: &mut SendRequest<Full<Bytes>>,
    response: Response<Incoming>,
    beginning: &mut Vec<u8>,
) -> bool {
    with_driver(driver, drain(response, beginning)).await
        && with_driver(driver, sender.ready()).await.is_ok()
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

/// Reads and discards the answer's body but its beginning; whether it was read to its end.
async fn drain(response: Response<Incoming>, beginning: &mut Vec<u8>) -> bool {
    let mut body = response.into_body();
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return false };
        let data = frame.data_ref().map_or(&[][..], |data| data);
        let room = limits::UPLOAD_ANSWER_BYTES_KEPT.saturating_sub(beginning.len());
        beginning.extend_from_slice(data.get(..room).unwrap_or(data));
        bytes += data.len();
        if bytes > limits::UPLOAD_ANSWER_BYTES_MAX {
            return false;
        }
    }
    true
}

fn request(endpoint: &Endpoint, post: &Post) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(post.body.clone()));
    *request.method_mut() = hyper::Method::POST;
    if let Some(collector) = endpoint.collectors.get(post.collector) {
        *request.uri_mut() = collector.target.clone();
        *request.headers_mut() = collector.headers.clone();
    }
    let headers = request.headers_mut();
    if post.encoding == Encoding::Deflated {
        headers.insert(header::CONTENT_ENCODING, DEFLATED);
    }
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(post.body.len()));
    let key = format!("{:032x}", post.key);
    mark(endpoint, headers, &key, &post.body);
    if let Ok(key) = HeaderValue::from_str(&key) {
        headers.insert(IDEMPOTENCY_KEY, key);
    }
    if post.repeats > 0 {
        headers.insert(IDEMPOTENCY_RETRY, HeaderValue::from(post.repeats));
    }
    request
}

/// A ledger has no key: it may come twice.
fn ledger_request(endpoint: &Endpoint, collector: usize, body: Bytes) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(body.clone()));
    *request.method_mut() = hyper::Method::POST;
    if let Some(collector) = endpoint.collectors.get(collector) {
        *request.uri_mut() = collector.ledger_target.clone();
        *request.headers_mut() = collector.headers.clone();
    }
    let headers = request.headers_mut();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    mark(endpoint, headers, "", &body);
    request
}

/// Marks a request as an upload of this process.
fn mark(endpoint: &Endpoint, headers: &mut HeaderMap, key: &str, body: &[u8]) {
    let Some(identity) = &endpoint.identity else {
        return;
    };
    let marker = identity.mark(&Upload {
        time: clock::now(),
        length: body.len() as u64,
        key: key.as_bytes(),
        beginning: body,
    });
    if let Ok(marker) = HeaderValue::from_str(&marker) {
        headers.insert(UPLOAD_MARKER, marker);
    }
}

/// Headers that are the same in every request. `more` come first and cannot replace the sniffer's own.
pub(super) fn headers(route: &Route, more: &[(HeaderName, HeaderValue)]) -> HeaderMap {
    let url = &route.url;
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
    route.add_headers(&mut headers);
    headers
}

/// The wait that the collector requests (`Retry-After`, RFC 9110 section 10.2.3), in seconds or until a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    match text.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => {
            let date = httpdate::parse_http_date(text).ok()?;
            // By the clock of the answer, if it has one: ours may be wrong.
            let of_answer = headers
                .get(header::DATE)
                .and_then(|date| date.to_str().ok());
            let of_answer = of_answer.and_then(|date| httpdate::parse_http_date(date).ok());
            let now = of_answer.unwrap_or_else(SystemTime::now);
            Some(date.duration_since(now).unwrap_or_default())
        }
    }
}

/// Connects to a collector, by the way that leads to it.
async fn connect(endpoint: &Endpoint, index: usize) -> Result<Open, Failure> {
    let Some(collector) = endpoint.collectors.get(index) else {
        return Err(Failure::Connect("there is no such collector".to_owned()));
    };
    if collector.route.way == Way::Supervisor {
        let connected = supervised::connect_to_store();
        let stream = connected.and_then(|socket| stream::adopt(&endpoint.reactor, socket.into()));
        let stream = stream.map_err(|error| Failure::Connect(refusal(&error)))?;
        return open(endpoint, index, None, Stream::Plain(stream)).await;
    }
    let found = endpoint
        .reactor
        .within(endpoint.connect_max, collector.resolver.find())
        .await;
    let phase = match &collector.route.way {
        Way::Socket => "connecting",
        _ => "looking up its address",
    };
    let addresses = match found.ok_or(Failure::TimedOut(phase))? {
        Ok(Found::Addresses(addresses)) => addresses,
        Ok(Found::Connected(socket)) => {
            let stream = stream::adopt(&endpoint.reactor, socket);
            let stream = stream.map_err(|error| Failure::Connect(refusal(&error)))?;
            return open(endpoint, index, None, Stream::Plain(stream)).await;
        }
        Err(error) if collector.route.way == Way::Socket => {
            return Err(Failure::Connect(refusal(&error)));
        }
        Err(error) => return Err(Failure::Resolve(error.to_string())),
    };
    let tls = endpoint
        .tls
        .as_ref()
        .filter(|_| collector.route.url.is_https());
    let tls = tls.map(tls::Current::get);
    let mut failure = Failure::Resolve("none found".to_owned());
    for to in addresses {
        let connecting = connect_to(endpoint, &collector.route, tls.clone(), to);
        let connected = endpoint
            .reactor
            .within(endpoint.connect_max, connecting)
            .await;
        match connected.unwrap_or(Err(Failure::TimedOut("connecting"))) {
            Ok(stream) => return open(endpoint, index, tls, stream).await,
            Err(failed) => failure = failed,
        }
    }
    // A proxy that is not there is another fault than a collector that is not.
    Err(match (failure, &collector.route.way) {
        (Failure::Resolve(why), Way::Proxy(_)) => {
            Failure::Proxy(0, format!("its name has no address: {why}"))
        }
        (Failure::Connect(why), Way::Proxy(_)) => Failure::Proxy(0, why),
        (failure, _) => failure,
    })
}

async fn open(
    endpoint: &Endpoint,
    collector: usize,
    tls: Option<Arc<ClientConfig>>,
    stream: Stream,
) -> Result<Open, Failure> {
    endpoint.dispatcher.connected();
    let borrowed = stream.borrowed_body();
    let allowance = stream.allowance();
    let (sender, driver) = http1::handshake(stream)
        .await
        .map_err(|error| Failure::Lost(causes(&error)))?;
    Ok(Open {
        collector,
        tls,
        sender,
        driver: Some(driver),
        borrowed,
        allowance,
        used: false,
    })
}

async fn connect_to(
    endpoint: &Endpoint,
    route: &Route,
    tls: Option<Arc<ClientConfig>>,
    to: SocketAddr,
) -> Result<Stream, Failure> {
    let mut tcp = stream::connect(&endpoint.reactor, to)
        .await
        .map_err(|error| Failure::Connect(refusal(&error)))?;
    if route.tunnel().is_some() {
        tcp = tunnel(tcp, route).await?;
    }
    let Some(config) = tls else {
        return Ok(Stream::Plain(tcp));
    };
    let name = server_name(route, endpoint.server_name.as_deref())?;
    let tls = TlsStream::handshake(tcp, config, name).await;
    tls.map(|tls| Stream::Tls(Box::new(tls)))
        .map_err(|error| Failure::Tls(tls::words(&error)))
}

/// The name that the certificate must be for.
pub(super) fn server_name(
    route: &Route,
    set: Option<&str>,
) -> Result<ServerName<'static>, Failure> {
    let name = set.unwrap_or(route.url.host()).to_owned();
    ServerName::try_from(name).map_err(|error| Failure::Tls(error.to_string()))
}

/// A connection to the collector through the proxy at the other end of this one.
async fn tunnel(tcp: TcpStream, route: &Route) -> Result<TcpStream, Failure> {
    let lost = |error: io::Error| Failure::Proxy(0, error.to_string());
    let mut head = Head::default();
    let tcp = tcp
        .exchange(&route.tunnel_request(), |bytes| head.take(bytes))
        .await
        .map_err(lost)?;
    head.opens().map(|()| tcp)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(fields: &[(&str, &str)], expected: Option<u64>) {
        let fields = fields.iter().map(|(name, value)| {
            let name: HeaderName = name.parse().unwrap();
            (name, value.parse().unwrap())
        });
        let wait = retry_after(&fields.collect());
        assert_eq!(wait, expected.map(Duration::from_secs));
    }

    #[test]
    fn a_wait_is_seconds_or_a_date() {
        check(&[], None);
        check(&[("retry-after", " 120 ")], Some(120));
        check(&[("retry-after", "soon")], None);
        check(&[("retry-after", "-1")], None);
        let date = ("retry-after", "Fri, 31 Dec 1999 23:59:59 GMT");
        check(&[date], Some(0));
        let now = ("date", "Fri, 31 Dec 1999 23:59:00 GMT");
        check(&[date, now], Some(59));
        check(&[date, ("date", "Sat, 01 Jan 2000 00:00:00 GMT")], Some(0));
        let later = httpdate::fmt_http_date(SystemTime::now() + Duration::from_hours(1));
        let fields = [(header::RETRY_AFTER, later.parse().unwrap())];
        let wait = retry_after(&fields.into_iter().collect()).unwrap();
        assert!(wait > Duration::from_secs(3000) && wait <= Duration::from_hours(1));
    }
}
