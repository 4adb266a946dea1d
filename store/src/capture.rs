//! The capture URL: `POST /message` and `GET /saturated` (message contract, section 2).
//!
//! | answer | means |
//! | --- | --- |
//! | 204 | committed; bad lines among good ones are counted, not refused |
//! | 400 | the body is broken, or none of its lines is a message, or the key is too long |
//! | 403, 415 | a browser, see below |
//! | 404, 405 | another path or method |
//! | 408, 413 | too slow, too large (before or after inflating) |
//! | 503 | the store is busy or cannot write; send the same bundle with the same key again |
//!
//! The port is open to the network, so that loggers on other hosts can post. A web page must not be able to: every browser
//! marks a post across origins with `Origin`, which is refused, and without a question in advance (which gets 405 here) it can
//! send only types that a form can send, which are refused too. No logger sends either.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::backend::sqlite::writer::{Refused, Writer};
use crate::bundle::Bundle;
use crate::content;
use crate::limits::{BODY_WAIT, KEY_BYTES_MAX, POSTS_AT_ONCE, TURN_WAIT};

/// What every POST needs.
#[derive(Clone)]
pub(crate) struct Inlet {
    writer: Writer,
    turns: Arc<Semaphore>,
    refused: Arc<AtomicU64>,
    post_bytes_max: usize,
}

impl Inlet {
    pub(crate) fn new(writer: Writer, post_bytes_max: usize) -> Self {
        Self {
            writer,
            turns: Arc::new(Semaphore::new(POSTS_AT_ONCE)),
            refused: Arc::default(),
            post_bytes_max,
        }
    }

    /// No further POST would be read now.
    pub(crate) fn is_saturated(&self) -> bool {
        self.turns.available_permits() == 0
    }

    /// POSTs answered with anything but 204 since the start.
    pub(crate) fn posts_refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

/// A status and a sentence for whoever reads the sender's log.
type Refusal = (StatusCode, String);

/// Routes of the capture listener.
pub(crate) fn router(inlet: Inlet) -> Router {
    Router::new()
        .route("/message", post(message).fallback(not_allowed))
        .route("/saturated", get(saturated))
        .fallback(|| async { (StatusCode::NOT_FOUND, "the capture URL ends in /message\n") })
        .with_state(inlet)
}

async fn not_allowed() -> impl IntoResponse {
    (
        StatusCode::METHOD_NOT_ALLOWED,
        [(header::ALLOW, "POST")],
        "the capture URL takes POST\n",
    )
}

async fn saturated(State(inlet): State<Inlet>) -> String {
    format!("{}\n", inlet.is_saturated())
}

async fn message(State(inlet): State<Inlet>, headers: HeaderMap, body: Body) -> Response {
    match take(&inlet, &headers, body).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err((status, text)) => {
            inlet.refused.fetch_add(1, Ordering::Relaxed);
            let mut response = (status, format!("{text}\n")).into_response();
            if status == StatusCode::SERVICE_UNAVAILABLE {
                response
                    .headers_mut()
                    .insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
            }
            response
        }
    }
}

async fn take(inlet: &Inlet, headers: &HeaderMap, body: Body) -> Result<(), Refusal> {
    check_sender(headers)?;
    let key = key(headers)?;
    let coding = text(headers, "content-encoding")
        .unwrap_or_default()
        .to_owned();
    let too_large = || {
        let text = format!(
            "more than {} bytes (plain or inflated); send smaller bundles",
            inlet.post_bytes_max
        );
        (StatusCode::PAYLOAD_TOO_LARGE, text)
    };
    let announced = text(headers, "content-length").and_then(|length| length.parse::<u64>().ok());
    if announced.is_some_and(|bytes| {
        usize::try_from(bytes).map_or(true, |bytes| bytes > inlet.post_bytes_max)
    }) {
        return Err(too_large());
    }
    let busy = |_| unavailable("the store is busy; send it again".into());
    let _turn = timeout(TURN_WAIT, inlet.turns.acquire())
        .await
        .map_err(busy)?;
    let body = read(body, inlet.post_bytes_max)
        .await?
        .ok_or_else(too_large)?;

    let bytes_max = inlet.post_bytes_max;
    let decoding = tokio::task::spawn_blocking(move || {
        content::decode(&coding, body, bytes_max)
            .map(|text| Bundle::split(text, key))
            .map_err(|error| (error, coding))
    });
    let decoded = decoding
        .await
        .map_err(|error| unavailable(error.to_string()))?;
    let bundle = decoded.map_err(|(error, coding)| match error {
        content::Error::Unknown => bad(format!(
            "Content-Encoding {coding:?} is not known; deflated (zlib), gzip or none"
        )),
        content::Error::Broken => bad(format!("the body is not whole {coding:?} data")),
        content::Error::TooLarge => too_large(),
    })?;
    if bundle.calls() == 0 {
        return Err(bad(format!(
            "none of the {} lines is a JSON array of [key, value] pairs",
            bundle.bad_lines
        )));
    }
    let stored = inlet.writer.store(bundle).await;
    stored.map(drop).map_err(|Refused(text)| unavailable(text))
}

/// The whole body; `None` when it is too large.
async fn read(body: Body, bytes_max: usize) -> Result<Option<Bytes>, Refusal> {
    let slow = |_| {
        (
            StatusCode::REQUEST_TIMEOUT,
            format!("no whole body within {} s", BODY_WAIT.as_secs()),
        )
    };
    match timeout(BODY_WAIT, axum::body::to_bytes(body, bytes_max))
        .await
        .map_err(slow)?
    {
        Ok(body) => Ok(Some(body)),
        Err(error) if is_length_limit(&error) => Ok(None),
        Err(error) => Err(bad(format!("the body did not arrive: {error}"))),
    }
}

fn is_length_limit(error: &axum::Error) -> bool {
    let source = std::error::Error::source(error);
    source.is_some_and(<dyn std::error::Error>::is::<http_body_util::LengthLimitError>)
}

fn check_sender(headers: &HeaderMap) -> Result<(), Refusal> {
    if headers.contains_key(header::ORIGIN) {
        return Err((StatusCode::FORBIDDEN, "web pages may not post here".into()));
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
                "Content-Type {other:?} is not taken; application/ndjson or application/json"
            );
            Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, text))
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
        _ => Err(bad(format!(
            "Idempotency-Key: at most {KEY_BYTES_MAX} ASCII characters"
        ))),
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn bad(text: String) -> Refusal {
    (StatusCode::BAD_REQUEST, text)
}

fn unavailable(text: String) -> Refusal {
    (StatusCode::SERVICE_UNAVAILABLE, text)
}
