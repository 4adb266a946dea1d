//! Statements by HTTP: one request for each, over connections that are kept.
//!
//! What is needed of a client is the same bytes again under the same token, a deadline for each attempt, and the code of the
//! server's error; so it is hyper itself with a list of idle connections. Each request has the user and the password in headers
//! of its own. An address that fails rests while there is another. What a server answers is bounded.

use std::fmt;
use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::address::Address;
use crate::limits::{
    CLICKHOUSE_ANSWER_BYTES_MAX, CLICKHOUSE_CONNECT_WAIT, CLICKHOUSE_CONNECTIONS_IDLE_MAX,
    CLICKHOUSE_ERROR_CHARS_MAX, CLICKHOUSE_IDLE_MAX, CLICKHOUSE_REST,
};

/// A password, which is shown nowhere.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// Of a text without line breaks around it.
    pub fn new(text: &str) -> Self {
        Self(text.trim_end_matches(['\r', '\n']).to_owned())
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// Why a statement was not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Error {
    /// The server answered with an error: its code and its text.
    Server(i32, String),
    /// No address took the request: nothing was carried out.
    Unreachable(String),
    /// The connection failed, or the time ran out, behind the request: it may have been carried out.
    Lost(String),
    /// The answer is longer than it may be.
    TooLarge,
}

impl Error {
    /// Whether the statement may have been carried out, or parts of it.
    pub(super) fn is_ambiguous(&self) -> bool {
        match self {
            Self::Lost(_) => true,
            // Time-outs and failures behind a part of the work.
            Self::Server(code, _) => {
                matches!(code, 159 | 209 | 210 | 225 | 241 | 279 | 319 | 999)
            }
            Self::Unreachable(_) | Self::TooLarge => false,
        }
    }

    /// Whether the same statement may succeed later.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Lost(_) | Self::Unreachable(_) => true,
            Self::Server(code, _) => {
                matches!(
                    code,
                    159 | 164
                        | 202
                        | 209
                        | 210
                        | 225
                        | 236
                        | 241
                        | 242
                        | 243
                        | 252
                        | 279
                        | 319
                        | 999
                )
            }
            Self::TooLarge => false,
        }
    }

    /// Whether a shard has no replica that answers.
    pub(super) fn is_of_missing_shard(&self) -> bool {
        matches!(self, Self::Server(279, _))
    }

    /// Whether the time for a statement ran out.
    pub(super) fn is_time_out(&self) -> bool {
        matches!(self, Self::Server(159, _) | Self::Lost(_))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(code, text) => write!(f, "ClickHouse answers with error {code}: {text}"),
            Self::Unreachable(text) => write!(f, "ClickHouse cannot be reached: {text}"),
            Self::Lost(text) => write!(f, "ClickHouse has not answered: {text}"),
            Self::TooLarge => f.write_str("the answer of ClickHouse is too long"),
        }
    }
}

impl std::error::Error for Error {}

impl From<Error> for crate::backend::Failure {
    fn from(error: Error) -> Self {
        Self::Unavailable(error.to_string())
    }
}

/// Settings of one statement.
pub(super) type Settings<'a> = &'a [(&'a str, &'a str)];

/// A pool of connections to all addresses. Clones are handles to the same one.
#[derive(Clone, Debug)]
pub(super) struct Client(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    servers: Vec<Server>,
    next: AtomicUsize,
    tls: Option<Tls>,
    user: HeaderValue,
    password: HeaderValue,
    /// What every request has behind its own parameters.
    parameters: String,
    /// The mark by which a sniffer that sees a statement recognises that it is no call (`docs/contract.md`, section 2.1).
    marker: HeaderValue,
}

/// The configuration of TLS, whose fields have no name for people.
struct Tls(TlsConnector);

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

#[derive(Debug)]
struct Server {
    host: String,
    authority: HeaderValue,
    addresses: Vec<SocketAddr>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    idle: Vec<(SendRequest<Full<Bytes>>, Instant)>,
    rests_until: Option<Instant>,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "State({} idle)", self.idle.len())
    }
}

impl Client {
    /// Looks the names up; connects nowhere.
    ///
    /// # Errors
    /// No name has an address, the file of certificates cannot be used, or the password cannot be sent.
    pub(super) fn new(
        address: &Address,
        password: &Password,
        in_database: bool,
    ) -> anyhow::Result<Self> {
        let mut servers = Vec::new();
        let mut failed = None;
        for (host, port) in &address.hosts {
            let found = std::net::ToSocketAddrs::to_socket_addrs(&(host.as_str(), *port));
            match found {
                Ok(found) => servers.push(Server {
                    host: host.clone(),
                    authority: HeaderValue::try_from(match host.contains(':') {
                        true => format!("[{host}]:{port}"),
                        false => format!("{host}:{port}"),
                    })?,
                    addresses: found.collect(),
                    state: Mutex::default(),
                }),
                Err(error) => failed = Some((host, error)),
            }
        }
        if let (true, Some((host, error))) = (servers.is_empty(), failed) {
            return Err(error).with_context(|| format!("looking {host} up"));
        }
        let mut parameters = match in_database {
            true => format!("&database={}", encoded(&address.database)),
            false => String::new(),
        };
        for (name, value) in &address.settings {
            let _ = write!(parameters, "&{}={}", encoded(name), encoded(value));
        }
        let mut secret = HeaderValue::from_bytes(password.0.as_bytes()).context("the password")?;
        secret.set_sensitive(true);
        let tls = match address.is_encrypted {
            true => Some(Tls(TlsConnector::from(Arc::new(tls(address)?)))),
            false => None,
        };
        Ok(Self(Arc::new(Shared {
            servers,
            next: AtomicUsize::new(0),
            tls,
            user: HeaderValue::try_from(&address.user)?,
            password: secret,
            parameters,
            marker: HeaderValue::try_from(format!(
                "v1; instance={:016x}; sender=store",
                getrandom::u64()?
            ))?,
        })))
    }

    /// All addresses that it may connect to.
    pub(super) fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.0
            .servers
            .iter()
            .flat_map(|server| server.addresses.iter().copied())
    }

    /// The answer to a statement that changes nothing, which is sent to another address where one cannot be reached.
    pub(super) async fn read(
        &self,
        sql: String,
        settings: Settings<'_>,
        time: Duration,
    ) -> Result<Bytes, Error> {
        let body = Bytes::from(sql);
        let mut last = Error::Unreachable("it has no address".into());
        for server in self.in_turn() {
            match self
                .attempt(server, None, body.clone(), settings, time)
                .await
            {
                Err(error @ (Error::Unreachable(_) | Error::Lost(_))) => last = error,
                // A replica may have what another one lacks; but every one has the same bounds.
                answer => return answer,
            }
        }
        Err(last)
    }

    /// Sends a statement once, to an address that answers: before the body, or as the body.
    pub(super) async fn write(
        &self,
        sql: Option<&str>,
        body: Bytes,
        settings: Settings<'_>,
        time: Duration,
    ) -> Result<Bytes, Error> {
        let mut last = Error::Unreachable("it has no address".into());
        for server in self.in_turn() {
            match self
                .attempt(server, sql, body.clone(), settings, time)
                .await
            {
                Err(error @ Error::Unreachable(_)) => last = error,
                answer => return answer,
            }
        }
        Err(last)
    }

    /// The servers from the next one on; those that rest come last.
    fn in_turn(&self) -> Vec<&Server> {
        let servers = &self.0.servers;
        let start = self.0.next.fetch_add(1, Ordering::Relaxed) % servers.len().max(1);
        let (before, from) = servers.split_at(start);
        let now = Instant::now();
        let (mut awake, resting): (Vec<_>, Vec<_>) = from
            .iter()
            .chain(before)
            .partition(|server| server.state().rests_until.is_none_or(|until| until <= now));
        awake.extend(resting);
        awake
    }

    async fn attempt(
        &self,
        server: &Server,
        sql: Option<&str>,
        body: Bytes,
        settings: Settings<'_>,
        time: Duration,
    ) -> Result<Bytes, Error> {
        let end = tokio::time::Instant::now() + time;
        let request = self
            .request(server, sql, body, settings)
            .map_err(|error| Error::Unreachable(error.to_string()))?;
        let mut sender = match server.idle() {
            Some(sender) => sender,
            None => match self.connect(server).await {
                Ok(sender) => sender,
                Err(error) => {
                    server.state().rests_until = Some(Instant::now() + CLICKHOUSE_REST);
                    let authority = String::from_utf8_lossy(server.authority.as_bytes());
                    return Err(Error::Unreachable(format!("{authority}: {error}")));
                }
            },
        };
        let answering = async {
            let response = match sender.try_send_request(request).await {
                Ok(response) => response,
                // The server has closed a connection that was idle: the request was not sent.
                Err(mut error) => match error.take_message() {
                    Some(request) => {
                        let connected = self.connect(server).await;
                        sender =
                            connected.map_err(|error| Error::Unreachable(error.to_string()))?;
                        sender.send_request(request).await.map_err(lost)?
                    }
                    None => return Err(lost(error.into_error())),
                },
            };
            read(response).await
        };
        let answered = tokio::time::timeout_at(end, answering).await;
        match answered {
            Ok(Ok(answer)) => {
                server.keep(sender);
                answer
            }
            Ok(Err(Error::TooLarge)) => Err(Error::TooLarge),
            Ok(Err(error)) => {
                server.state().rests_until = Some(Instant::now() + CLICKHOUSE_REST);
                Err(error)
            }
            // The connection is closed, so that the server can end the statement.
            Err(_) => Err(Error::Lost(format!("not within {} s", time.as_secs_f32()))),
        }
    }

    fn request(
        &self,
        server: &Server,
        sql: Option<&str>,
        body: Bytes,
        settings: Settings<'_>,
    ) -> hyper::http::Result<Request<Full<Bytes>>> {
        let mut target = "/?wait_end_of_query=1".to_owned();
        for (name, value) in settings {
            let _ = write!(target, "&{name}={}", encoded(value));
        }
        target += &self.0.parameters;
        if let Some(sql) = sql {
            let _ = write!(target, "&query={}", encoded(sql));
        }
        Request::builder()
            .method(Method::POST)
            .uri(target)
            .header(HOST, &server.authority)
            .header(
                USER_AGENT,
                concat!("sniffer-store/", env!("CARGO_PKG_VERSION")),
            )
            .header(CONTENT_TYPE, "application/octet-stream")
            .header(HeaderName::from_static("x-clickhouse-user"), &self.0.user)
            .header(
                HeaderName::from_static("x-clickhouse-key"),
                &self.0.password,
            )
            .header(
                HeaderName::from_static("sniffer-upload-marker"),
                &self.0.marker,
            )
            .body(Full::new(body))
    }

    async fn connect(&self, server: &Server) -> io::Result<SendRequest<Full<Bytes>>> {
        let connecting = async {
            let stream = TcpStream::connect(&*server.addresses).await?;
            stream.set_nodelay(true)?;
            match &self.0.tls {
                None => ready(stream).await,
                Some(tls) => {
                    let name =
                        ServerName::try_from(server.host.clone()).map_err(io::Error::other)?;
                    ready(tls.0.connect(name, stream).await?).await
                }
            }
        };
        let late = |_| io::Error::from(io::ErrorKind::TimedOut);
        tokio::time::timeout(CLICKHOUSE_CONNECT_WAIT, connecting)
            .await
            .map_err(late)?
    }
}

/// A connection that requests can be sent over; a task of its own moves its bytes.
async fn ready<S>(stream: S) -> io::Result<SendRequest<Full<Bytes>>>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    drop(tokio::spawn(connection));
    Ok(sender)
}

fn lost(error: hyper::Error) -> Error {
    let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
    Error::Lost(format!("{error}{}", cause.unwrap_or_default()))
}

impl Server {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn idle(&self) -> Option<SendRequest<Full<Bytes>>> {
        let mut state = self.state();
        while let Some((sender, since)) = state.idle.pop() {
            if sender.is_ready() && since.elapsed() < CLICKHOUSE_IDLE_MAX {
                return Some(sender);
            }
        }
        None
    }

    fn keep(&self, sender: SendRequest<Full<Bytes>>) {
        let mut state = self.state();
        state.rests_until = None;
        if state.idle.len() < CLICKHOUSE_CONNECTIONS_IDLE_MAX {
            state.idle.push((sender, Instant::now()));
        }
    }
}

/// The body of an answer, or the error that it is. The outer error is one of the connection, which is of no further use.
async fn read(response: Response<hyper::body::Incoming>) -> Result<Result<Bytes, Error>, Error> {
    let status = response.status();
    let code = response.headers().get("x-clickhouse-exception-code");
    let code = code.and_then(|code| code.to_str().ok()?.parse::<i32>().ok());
    let mut body = response.into_body();
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(lost)?.into_data() else {
            continue;
        };
        if whole.len() + data.len() > CLICKHOUSE_ANSWER_BYTES_MAX {
            return Err(Error::TooLarge);
        }
        whole.extend_from_slice(&data);
    }
    if status == StatusCode::OK && code.is_none() {
        return Ok(Ok(whole.freeze()));
    }
    let text = String::from_utf8_lossy(&whole);
    let code = code.or_else(|| code_in(&text)).unwrap_or(match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => 516,
        _ => 0,
    });
    // A proxy whose server is away.
    if code == 0 && status.is_server_error() {
        return Ok(Err(Error::Lost(format!("HTTP {status}"))));
    }
    Ok(Err(Error::Server(code, shortened(&text))))
}

/// The number in `Code: 252, e.displayText() = ...` or `Code: 252. DB::Exception: ...`.
fn code_in(text: &str) -> Option<i32> {
    let (_, rest) = text.split_once("Code: ")?;
    let end = rest.find(|c: char| !c.is_ascii_digit())?;
    rest.get(..end)?.parse().ok()
}

/// The beginning of a text of the server without what has an effect on a terminal.
fn shortened(text: &str) -> String {
    let text = text.split("DB::Exception:").last().unwrap_or(text).trim();
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(CLICKHOUSE_ERROR_CHARS_MAX)
        .collect()
}

/// As a value in a URL.
pub(super) fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

fn tls(address: &Address) -> anyhow::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    match &address.ca {
        Some(path) => {
            let text = std::fs::read(path).with_context(|| path.display().to_string())?;
            for certificate in CertificateDer::pem_slice_iter(&text) {
                let certificate = certificate.with_context(|| path.display().to_string())?;
                roots
                    .add(certificate)
                    .with_context(|| path.display().to_string())?;
            }
            anyhow::ensure!(!roots.is_empty(), "{} has no certificate", path.display());
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
            anyhow::ensure!(
                !roots.is_empty(),
                "the system has no certificates; name a file by ca="
            );
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_the_code_of_the_server() {
        assert_eq!(
            code_in("Code: 252, e.displayText() = DB::Exception: Too"),
            Some(252)
        );
        assert_eq!(code_in("Code: 60. DB::Exception: Table"), Some(60));
        assert_eq!(code_in("Bad gateway"), None);
        assert_eq!(
            shortened("Code: 1, e.displayText() = DB::Exception: a\u{1b}b\n"),
            "a b"
        );
        assert!(Error::Server(252, String::new()).is_passing());
        assert!(!Error::Server(516, String::new()).is_passing());
        assert_eq!(encoded("a b&ü'"), "a%20b%26%C3%BC%27");
        assert_eq!(format!("{:?}", Password::new("x\n")), "(secret)");
    }
}
