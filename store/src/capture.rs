//! The capture URL: `POST /message` and `GET /saturated` (`docs/contract.md`, section 2), and `POST /ledger` for sniffers
//! ([`crate::ledger`]), which has the same answers.
//!
//! | answer | meaning |
//! | --- | --- |
//! | 204 | committed; bad lines among good ones are counted, not refused |
//! | 400 | the body is broken, or none of its lines is a message, or the key is too long; the body of the answer has the reason |
//! | 401 | without the token that the store requires, where it requires one |
//! | 403, 415 | sent by a browser, see below; 403 also for an import from another host without a token |
//! | 404, 405 | another path or method |
//! | 408, 413 | too slow; too large (before or after decompression) or too many lines |
//! | 503 | the store is busy or cannot write; send the same bundle with the same key again |
//!
//! A POST takes a share of what is bounded only for what it has sent: a body takes the bytes that have arrived, and waits for
//! its turn, to be decompressed and stored, when it is there.
//!
//! The port is open to the network, so that loggers on other hosts can post. Web pages must not be able to: every browser
//! marks a post across origins with `Origin`, which is refused. Without a preflight request, which is answered with 405, it can
//! only send the types of forms, which are refused too. No logger sends either.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::{AcquireError, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

use crate::answer;
use crate::backend::any::AnyBackend;
use crate::backend::{Backend, Failure};
use crate::bundle::Bundle;
use crate::content;
use crate::guard::bearer;
use crate::ledger::Ledger;
use crate::limits::{
    BODIES_CAPTURE_BYTES, BODIES_LOCAL_BYTES, BODIES_NETWORK_BYTES, BODIES_SENDER_BYTES,
    BODY_GRACE, BODY_RATE_MIN, BODY_WAIT, DECODED_MAX, DECODED_OTHERS_MAX, KEY_BYTES_MAX,
    LEDGER_BYTES_MAX, POST_LINES_MAX, POST_WAIT, TEXTS_CAPTURE_BYTES, TEXTS_LOCAL_BYTES,
    TEXTS_NETWORK_BYTES, TEXTS_SENDER_BYTES,
};
use crate::places::Connection;
use crate::sender::Sender;
use crate::shares::{Amounts, Held, QueuedLines, Shares, UNIT_BYTES};
use crate::token::Secret;

/// The state of the capture URL.
#[derive(Clone)]
pub(crate) struct CaptureHandler {
    backend: AnyBackend,
    bodies: Arc<Shares>,
    texts: Arc<Shares>,
    /// Bodies that are decompressed and split at a time: of the capture, and of others.
    decoded: [Arc<Semaphore>; 2],
    queued: Arc<QueuedLines>,
    refused: Arc<AtomicU64>,
    post_bytes_max: usize,
    token: Option<Secret>,
}

impl CaptureHandler {
    pub(crate) fn new(backend: AnyBackend, post_bytes_max: usize, token: Option<Secret>) -> Self {
        Self {
            backend,
            bodies: Arc::new(Shares::new(Amounts {
                capture: BODIES_CAPTURE_BYTES.max(post_bytes_max),
                local: BODIES_LOCAL_BYTES.max(post_bytes_max),
                network: BODIES_NETWORK_BYTES.max(post_bytes_max),
                sender: BODIES_SENDER_BYTES.max(post_bytes_max),
            })),
            texts: Arc::new(Shares::new(Amounts {
                capture: TEXTS_CAPTURE_BYTES.max(post_bytes_max),
                local: TEXTS_LOCAL_BYTES.max(post_bytes_max),
                network: TEXTS_NETWORK_BYTES.max(post_bytes_max),
                sender: TEXTS_SENDER_BYTES.max(post_bytes_max),
            })),
            decoded: [DECODED_MAX, DECODED_OTHERS_MAX].map(|most| Arc::new(Semaphore::new(most))),
            queued: Arc::new(QueuedLines::new(POST_LINES_MAX)),
            refused: Arc::default(),
            post_bytes_max,
            token,
        }
    }

    /// Whether the next POST, however large, would have to wait.
    pub(crate) fn is_saturated(&self) -> bool {
        self.texts.is_short_of(self.post_bytes_max)
    }

    /// Refuses who does not have the token. The capture of the same all-in-one needs none: nobody else has its connections.
    fn admit(&self, sender: Sender, headers: &HeaderMap) -> Result<(), Refusal> {
        let Some(token) = &self.token else {
            return Ok(());
        };
        if sender == Sender::Capture || bearer(headers).is_some_and(|given| token.is(given)) {
            return Ok(());
        }
        Err(Refusal::new(StatusCode::UNAUTHORIZED, NEEDED))
    }

    /// Whether the times of the calls count however long ago they are. Who may only add calls cannot date them back: that takes
    /// the token, or a process on this host.
    fn is_import(&self, sender: Sender, headers: &HeaderMap) -> Result<bool, Refusal> {
        let is_import = headers.contains_key(IMPORT);
        if is_import && self.token.is_none() && !sender.is_of_this_host() {
            let text = "an import comes from the host of the store, or to a store with a token (SNIFFER_STORE_TOKEN)";
            return Err(Refusal::new(StatusCode::FORBIDDEN, text));
        }
        Ok(is_import)
    }

    /// The answer to a POST. A refusal is counted.
    fn answer(&self, received: Result<(), Refusal>) -> Response {
        match received {
            Ok(()) => StatusCode::NO_CONTENT.into_response(),
            Err(refusal) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                refusal.into_response()
            }
        }
    }

    /// POSTs answered with anything but 204 since the start.
    pub(crate) fn posts_refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

/// The header of a bundle that was moved from another store.
pub const IMPORT: &str = "sniffer-import";

/// What a POST without the token is answered.
const NEEDED: &str = "this store takes POSTs with its token alone: send `Authorization: Bearer TOKEN`, as a sniffer does \
                      with --header 'Authorization: Bearer TOKEN'";

/// Why a POST is not answered with 204: a status, and a sentence for the log of the sender.
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    text: String,
}

impl Refusal {
    fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self {
            status,
            text: text.into(),
        }
    }

    /// The body or a header is at fault.
    fn bad(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }

    fn too_large(bytes_max: usize) -> Self {
        let text =
            format!("more than {bytes_max} bytes (plain or decompressed); send smaller bundles");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, text)
    }

    fn unavailable(text: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, text)
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::new(answer::status(&failure), failure.to_string())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, format!("{}\n", self.text)).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, scheme);
        }
        answer::with_retry_after(response)
    }
}

/// Routes of the capture listener.
pub(crate) fn router(handler: CaptureHandler) -> Router {
    Router::new()
        .route("/message", post(message).fallback(not_allowed))
        .route("/saturated", get(saturated))
        .route("/ledger", post(ledger).fallback(not_allowed))
        .fallback(|| async { (StatusCode::NOT_FOUND, "the capture URL ends in /message\n") })
        .with_state(handler)
}

async fn not_allowed() -> impl IntoResponse {
    (
        StatusCode::METHOD_NOT_ALLOWED,
        [(header::ALLOW, "POST")],
        "the capture URL takes POST\n",
    )
}

async fn saturated(State(handler): State<CaptureHandler>) -> String {
    format!("{}\n", handler.is_saturated())
}

async fn message(
    State(handler): State<CaptureHandler>,
    Extension(connection): Extension<Arc<Connection>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    handler.answer(receive(&handler, &connection, &headers, body).await)
}

async fn ledger(
    State(handler): State<CaptureHandler>,
    Extension(connection): Extension<Arc<Connection>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    handler.answer(receive_ledger(&handler, &connection, &headers, body).await)
}

async fn receive_ledger(
    handler: &CaptureHandler,
    connection: &Connection,
    headers: &HeaderMap,
    body: Body,
) -> Result<(), Refusal> {
    check_sender(headers)?;
    handler.admit(connection.sender(), headers)?;
    connection.waits();
    let body = timeout(BODY_GRACE, to_bytes(body, LEDGER_BYTES_MAX))
        .await
        .map_err(|_| too_slow(0))?
        .map_err(|_| Refusal::too_large(LEDGER_BYTES_MAX))?;
    connection.answers();
    let ledger = Ledger::read(&body).map_err(Refusal::bad)?;
    handler
        .backend
        .record_ledger(connection.sender(), ledger)
        .await?;
    Ok(())
}

async fn receive(
    handler: &CaptureHandler,
    connection: &Connection,
    headers: &HeaderMap,
    body: Body,
) -> Result<(), Refusal> {
    check_sender(headers)?;
    handler.admit(connection.sender(), headers)?;
    let is_imported = handler.is_import(connection.sender(), headers)?;
    let key = key(headers)?;
    let coding = text(headers, "content-encoding")
        .unwrap_or_default()
        .to_owned();
    let bytes_max = handler.post_bytes_max;
    let announced = announced_bytes(headers);
    if announced.is_some_and(|bytes| bytes > bytes_max) {
        return Err(Refusal::too_large(bytes_max));
    }
    let sender = connection.sender();
    let (body, body_bytes) = read(handler, connection, body, announced).await?;
    connection.answers();
    // Only a body that is there waits for its turn. Until it is decompressed it counts as the most that it can become.
    let most = content::decoded_bytes_max(&coding, body.len()).min(bytes_max);
    let mut text_bytes = turn(handler.texts.take(sender, most)).await?;
    let [of_capture, of_others] = &handler.decoded;
    let decoded = match sender {
        Sender::Capture => of_capture,
        _ => of_others,
    };
    let permit = turn(Arc::clone(decoded).acquire_owned()).await?;
    let decoding = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        decode(&coding, body, bytes_max, key, sender)
    });
    let mut bundle = decoding
        .await
        .map_err(|error| Refusal::unavailable(error.to_string()))??;
    bundle.is_repeated = headers.contains_key("idempotency-retry");
    // What is left of the body is the text.
    drop(body_bytes);
    bundle.is_imported = is_imported;
    text_bytes.shrink_to(bundle.bytes());
    let _lines = turn(handler.queued.take(sender, bundle.calls())).await?;
    handler.backend.insert(bundle).await?;
    Ok(())
}

/// Waits for something shared, for [`POST_WAIT`] at most.
async fn turn<T>(taking: impl Future<Output = Result<T, AcquireError>>) -> Result<T, Refusal> {
    timeout(POST_WAIT, taking)
        .await
        .map_err(|_| Refusal::unavailable("the store is busy; send it again"))?
        .map_err(|error| Refusal::unavailable(error.to_string()))
}

/// `Content-Length`; a number that does not fit is larger than any bound.
fn announced_bytes(headers: &HeaderMap) -> Option<usize> {
    let bytes: u64 = text(headers, "content-length")?.parse().ok()?;
    Some(usize::try_from(bytes).unwrap_or(usize::MAX))
}

fn decode(
    coding: &str,
    body: Bytes,
    bytes_max: usize,
    key: Option<String>,
    sender: Sender,
) -> Result<Bundle, Refusal> {
    let text = content::decode(coding, body, bytes_max).map_err(|error| match error {
        content::Error::Unknown => Refusal::bad(format!(
            "Content-Encoding {coding:?} is not supported; deflated (zlib), gzip or none"
        )),
        content::Error::Broken => Refusal::bad(format!("the body is not whole {coding:?} data")),
        content::Error::TooLarge => Refusal::too_large(bytes_max),
    })?;
    let bundle = Bundle::split(text, key, sender)
        .map_err(|error| Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, error.to_string()))?;
    if bundle.calls() == 0 {
        let reason = bundle.reason.map_or_else(String::new, |reason| {
            format!("; of the first one: {reason}")
        });
        return Err(Refusal::bad(format!(
            "none of the {} lines is a JSON array of [key, value] pairs{reason}",
            bundle.bad_lines
        )));
    }
    Ok(bundle)
}

/// The whole body, and the hold on its bytes. A peer that stalls, or sends less than [`BODY_RATE_MIN`], is given up.
async fn read(
    handler: &CaptureHandler,
    connection: &Connection,
    body: Body,
    announced: Option<usize>,
) -> Result<(Bytes, Held), Refusal> {
    let bytes_max = handler.post_bytes_max;
    let mut held = Held::default();
    let mut whole = Vec::new();
    let mut frames = body.into_data_stream();
    let start = Instant::now();
    loop {
        connection.waits();
        let allowed = BODY_GRACE + seconds(whole.len(), BODY_RATE_MIN);
        let deadline = start + allowed.min(BODY_WAIT);
        let frame = timeout_at(deadline, frames.next())
            .await
            .map_err(|_| too_slow(whole.len()))?;
        let Some(frame) = frame else {
            return Ok((whole.into(), held));
        };
        let bytes =
            frame.map_err(|error| Refusal::bad(format!("the body did not arrive: {error}")))?;
        if whole.len() + bytes.len() > bytes_max {
            return Err(Refusal::too_large(bytes_max));
        }
        let needed = whole.len() + bytes.len();
        if needed > whole.capacity() {
            // Room for as much again as has come, but for no more than will come.
            let most = announced.unwrap_or(bytes_max).max(needed);
            let room = (2 * whole.capacity()).clamp(needed, most);
            let room = room.next_multiple_of(UNIT_BYTES);
            let more = (handler.bodies).try_take(connection.sender(), room - whole.capacity());
            held.merge(more.ok_or_else(|| {
                Refusal::unavailable("too many bodies are on their way; send it again")
            })?);
            whole.reserve_exact(room - whole.len());
        }
        whole.extend_from_slice(&bytes);
    }
}

fn too_slow(bytes: usize) -> Refusal {
    let text = format!(
        "the body is too slow: {bytes} bytes so far; it needs {} kB a second after {} s, and to be whole within {} s",
        BODY_RATE_MIN >> 10,
        BODY_GRACE.as_secs(),
        BODY_WAIT.as_secs()
    );
    Refusal::new(StatusCode::REQUEST_TIMEOUT, text)
}

/// Time that bytes take at a rate per second.
fn seconds(bytes: usize, rate: usize) -> Duration {
    Duration::from_millis((bytes * 1000 / rate) as u64)
}

fn check_sender(headers: &HeaderMap) -> Result<(), Refusal> {
    if headers.contains_key(header::ORIGIN) {
        return Err(Refusal::new(
            StatusCode::FORBIDDEN,
            "web pages may not post here",
        ));
    }
    let content_type = text(headers, "content-type").unwrap_or_default();
    let media_type = content_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    match media_type.as_str() {
        "application/ndjson" | "application/x-ndjson" | "application/json" => Ok(()),
        other => {
            let text = format!(
                "Content-Type {other:?} is not accepted; application/ndjson or application/json"
            );
            Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, text))
        }
    }
}

fn key(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let Some(value) = headers.get("idempotency-key") else {
        return Ok(None);
    };
    match value.to_str() {
        Ok("") => Ok(None),
        Ok(key) if key.len() <= KEY_BYTES_MAX => Ok(Some(key.to_owned())),
        _ => Err(Refusal::bad(format!(
            "Idempotency-Key: at most {KEY_BYTES_MAX} ASCII characters"
        ))),
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
