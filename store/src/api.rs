//! The API beneath the page, stable within `v1`: JSON. All of it reads, but for deletion and the switch of the capture.
//!
//! - `GET /api/v1/calls?filter=&before=&after=&from=&to=&limit=`: [`Page`], newest first
//! - `GET /api/v1/calls/{id}`: one call with its details and its line; `.../har` and `.../curl` as a file
//! - `GET /api/v1/stats`, `/api/v1/top`: see [`crate::statistics`]
//! - `GET /api/v1/losses`: see [`crate::losses`]
//! - `GET /api/v1/export`: see [`crate::export`]
//! - `GET /api/v1/packets?from=&to=`, `GET /api/v1/calls/{id}/pcap`: see [`crate::packets`]
//! - `GET /api/v1/appliances`: [`Fleet`]
//! - `GET /api/v1/status`: [`Status`]
//! - `GET /api/v1/stream?filter=&after=`: server-sent events, see [`crate::stream`]
//! - `POST /api/v1/query`: see [`crate::sql`]
//! - `POST /api/v1/delete`: see [`crate::deletion`]
//! - `POST /api/v1/rules/test`: see [`crate::trial`]
//! - `GET /api/v1/capture`, `POST /api/v1/capture` `{"on": true}`: [`CaptureShown`], and a switch; see [`crate::engine`]
//! - `GET /api/v1/openapi.json`: all of this for programs
//!
//! Answers about several calls have a `coverage`: what they are based on, and what is missing.
//!
//! `id`, `before`, `after`, `next` and `newest` are opaque texts: take them from one answer, put them into the next request.
//! `before` and `after` of the list are ids of calls; `after` of the stream is a `newest`.
//!
//! An error is `{"error": "a sentence"}`, with `position`, `end` (in bytes) and `guess` where it is about a filter, with `line`,
//! `column` (in characters) and `source` where it is about rules. 503 is the store's own
//! trouble and carries `Retry-After`.

use std::hash::RandomState;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{self, Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, watch};

use crate::answer;
use crate::backend::any::AnyBackend;
use crate::backend::{Backend, Failure, Health, Retention};
use crate::call::{Arrival, Call, CallId, NotAnId, Page, Query, Totals};
use crate::capture::CaptureHandler;
use crate::clock::unix_ms;
use crate::engine::{Engine, Linking};
use crate::filter::{self, Filter};
use crate::ledger::Fleet;
use crate::limits::{
    EXPORTS_MAX, LIST_CALLS_DEFAULT, LIST_CALLS_MAX, STREAM_TURNS, STREAMS_BYTES_MAX, STREAMS_MAX,
};
use crate::parameters::{Count, Time, range};
use crate::places::Places;
use crate::rules::{RulesError, SharedRules};

/// The state of the routes.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) backend: AnyBackend,
    pub(crate) streams: Arc<Semaphore>,
    /// KiB of events that their readers have not taken.
    pub(crate) events: Arc<Semaphore>,
    /// Readers of streams whose next event is made.
    pub(crate) turns: Arc<Semaphore>,
    pub(crate) exports: Arc<Semaphore>,
    pub(crate) queries: Arc<Semaphore>,
    /// Makes the confirmations of deletions, which are good in this process.
    pub(crate) confirmations: RandomState,
    pub(crate) stopped: watch::Receiver<bool>,
    pub(crate) engine: Engine,
    pub(crate) rules: SharedRules,
    /// Nobody but the owner of the page reaches it.
    pub(crate) shows_packets: bool,
    capture: CaptureHandler,
    places: [Arc<Places>; 3],
    retention: Retention,
    capture_url: String,
    started_ms: i64,
}

impl Api {
    #[expect(
        clippy::too_many_arguments,
        reason = "each is named where it is passed"
    )]
    pub(crate) fn new(
        backend: AnyBackend,
        capture: CaptureHandler,
        places: [Arc<Places>; 3],
        retention: Retention,
        capture_url: String,
        stopped: watch::Receiver<bool>,
        linking: Linking,
        rules: SharedRules,
        shows_packets: bool,
    ) -> Self {
        Self {
            backend,
            streams: Arc::new(Semaphore::new(STREAMS_MAX)),
            events: Arc::new(Semaphore::new(STREAMS_BYTES_MAX >> 10)),
            turns: Arc::new(Semaphore::new(STREAM_TURNS)),
            exports: Arc::new(Semaphore::new(EXPORTS_MAX)),
            queries: Arc::new(Semaphore::new(1)),
            confirmations: RandomState::new(),
            stopped,
            engine: Engine::new(linking),
            rules,
            shows_packets,
            capture,
            places,
            retention,
            capture_url,
            started_ms: unix_ms(),
        }
    }
}

/// Why a request to the API fails.
#[derive(Debug)]
pub(crate) enum ApiError {
    /// A parameter is malformed.
    Parameter(String),
    /// The filter is malformed.
    Filter(filter::Error),
    /// Rules are malformed.
    Rules(RulesError),
    /// No call has this id, or not any more.
    NoCall(CallId),
    /// What was asked for is not there.
    NotThere(String),
    /// This page does not give it to anybody.
    Refused(String),
    /// As many of these requests are answered as may be at a time.
    Busy(String),
    /// The backend did not answer.
    Backend(Failure),
}

impl From<filter::Error> for ApiError {
    fn from(error: filter::Error) -> Self {
        Self::Filter(error)
    }
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> Self {
        Self::Parameter(reason(&rejection).unwrap_or_else(|| rejection.body_text()))
    }
}

impl From<JsonRejection> for ApiError {
    fn from(rejection: JsonRejection) -> Self {
        Self::Parameter(reason(&rejection).unwrap_or_else(|| rejection.body_text()))
    }
}

impl From<PathRejection> for ApiError {
    fn from(rejection: PathRejection) -> Self {
        match rejection.status() {
            // The only parameter in a path is the id of a call.
            StatusCode::BAD_REQUEST => Self::Parameter(NotAnId.to_string()),
            _ => Self::Parameter(rejection.body_text()),
        }
    }
}

/// The name of a parameter and what is wrong with it, without the words of the framework around it.
fn reason(rejection: &dyn std::error::Error) -> Option<String> {
    rejection.source().map(ToString::to_string)
}

impl From<Failure> for ApiError {
    fn from(failure: Failure) -> Self {
        Self::Backend(failure)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, body) = match self {
            Self::Parameter(text) => (StatusCode::BAD_REQUEST, json!({ "error": text })),
            Self::Filter(error) => (
                StatusCode::BAD_REQUEST,
                json!({
                    "error": error.to_string(),
                    "position": error.position,
                    "end": error.end,
                    "guess": error.guess(),
                }),
            ),
            Self::Rules(error) => (
                StatusCode::BAD_REQUEST,
                json!({
                    "error": error.message,
                    "line": error.line,
                    "column": error.column,
                    "source": error.source,
                }),
            ),
            Self::NoCall(id) => (
                StatusCode::NOT_FOUND,
                json!({ "error": format!("call {id} is not stored (the oldest calls are deleted when the store is full)") }),
            ),
            Self::NotThere(text) => (StatusCode::NOT_FOUND, json!({ "error": text })),
            Self::Refused(text) => (StatusCode::FORBIDDEN, json!({ "error": text })),
            Self::Busy(text) => (StatusCode::SERVICE_UNAVAILABLE, json!({ "error": text })),
            Self::Backend(failure) => (
                answer::status(&failure),
                json!({ "error": failure.to_string() }),
            ),
        };
        answer::with_retry_after((status, Json(body)).into_response())
    }
}

/// JSON that no cache may keep.
pub(crate) type Answer<T> = Result<([(header::HeaderName, &'static str); 1], Json<T>), ApiError>;

pub(crate) fn fresh<T>(value: T) -> Answer<T> {
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(value)))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ListQuery {
    filter: String,
    before: Option<CallId>,
    after: Option<CallId>,
    from: Option<Time>,
    to: Option<Time>,
    limit: Option<Count<LIST_CALLS_MAX>>,
}

pub(crate) async fn calls(
    State(api): State<Api>,
    query: Result<extract::Query<ListQuery>, QueryRejection>,
) -> Answer<Page> {
    let extract::Query(query) = query?;
    let query = Query {
        filter: Filter::parse(&query.filter)?,
        range: range(query.from, query.to),
        before: query.before,
        after: query.after,
        limit: query.limit.map_or(LIST_CALLS_DEFAULT, Count::get),
    };
    fresh(api.backend.list(query).await?)
}

pub(crate) async fn call(
    State(api): State<Api>,
    id: Result<Path<CallId>, PathRejection>,
) -> Answer<Call> {
    fresh(find(&api, id).await?)
}

pub(crate) async fn find(
    api: &Api,
    id: Result<Path<CallId>, PathRejection>,
) -> Result<Call, ApiError> {
    let Path(id) = id?;
    let call = api.backend.call(id.clone()).await?;
    call.ok_or(ApiError::NoCall(id))
}

/// Health and totals.
#[derive(Debug, Serialize)]
pub(crate) struct Status {
    #[serde(flatten)]
    pub(crate) totals: Totals,
    /// The place behind the newest call ever stored.
    newest: Arrival,
    pub(crate) calls_max: u64,
    pub(crate) database_bytes_max: u64,
    /// Seconds for which a call is kept; null without a bound.
    age_max_seconds: Option<u64>,
    /// POSTs answered with anything but 204, since the start of this process.
    pub(crate) posts_refused: u64,
    /// Connections to either port that found no place, since the start of this process.
    pub(crate) connections_refused: u64,
    /// Connections to either port that waited for their peer and were closed because another one needed the place.
    pub(crate) connections_closed: u64,
    saturated: bool,
    /// Why bundles cannot be stored; null when they can.
    pub(crate) write_error: Option<String>,
    /// The capture URL for senders on this host.
    capture_url: String,
    pub(crate) started_ms: i64,
    version: &'static str,
}

impl Status {
    /// As it is now.
    pub(crate) async fn of(api: &Api) -> Result<Self, ApiError> {
        Ok(Self {
            totals: api.backend.totals().await?,
            newest: api.backend.arrivals().borrow().clone(),
            calls_max: api.retention.calls_max,
            database_bytes_max: api.retention.database_bytes_max,
            age_max_seconds: api.retention.age_max.map(|age| age.as_secs()),
            posts_refused: api.capture.posts_refused(),
            connections_refused: api.places.iter().map(|places| places.refused()).sum(),
            connections_closed: api.places.iter().map(|places| places.closed()).sum(),
            saturated: api.capture.is_saturated(),
            write_error: match &*api.backend.health().borrow() {
                Health::Up => None,
                Health::Down(reason) => Some(reason.clone()),
            },
            capture_url: api.capture_url.clone(),
            started_ms: api.started_ms,
            version: env!("CARGO_PKG_VERSION"),
        })
    }
}

pub(crate) async fn status(State(api): State<Api>) -> Answer<Status> {
    fresh(Status::of(&api).await?)
}

/// The ledgers of the sniffers that post here.
pub(crate) async fn appliances(State(api): State<Api>) -> Answer<Fleet> {
    fresh(Fleet::of(api.backend.ledgers().await?))
}

/// The capture that belongs to the store.
#[derive(Debug, Serialize)]
pub(crate) struct CaptureShown {
    /// As `sniffer status --json` prints it; null where no capture belongs to the store.
    status: Value,
}

pub(crate) async fn capture_status(State(api): State<Api>) -> Answer<CaptureShown> {
    fresh(CaptureShown {
        status: api.engine.status().await?,
    })
}

/// Turns it on or off.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Switch {
    on: bool,
}

/// The request was passed on; what became of the capture is in its next status.
#[derive(Debug, Serialize)]
pub(crate) struct Switched {
    accepted: bool,
}

pub(crate) async fn switch_capture(
    State(api): State<Api>,
    request: Result<Json<Switch>, JsonRejection>,
) -> Answer<Switched> {
    let Json(Switch { on }) = request?;
    if !api.engine.switch(on).await? {
        let text = "no capture belongs to this store; `sniffer on` and `off` are for an all-in-one";
        return Err(ApiError::Parameter(text.into()));
    }
    fresh(Switched { accepted: true })
}
