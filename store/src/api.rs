//! The API under the page, stable within `v1`: JSON, read only.
//!
//! - `GET /api/v1/calls?filter=&before=&after=&limit=`: [`Page`](crate::backend::sqlite::reader::Page), newest first
//! - `GET /api/v1/calls/{id}`: one call with its details and its line
//! - `GET /api/v1/status`: [`Status`]
//! - `GET /api/v1/stream?filter=&after=`: server-sent events, see [`crate::stream`]
//!
//! An error is `{"error": "a sentence"}`.

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tokio::sync::{Semaphore, watch};

use crate::Retention;
use crate::backend::sqlite::reader::{self, Readers, Totals};
use crate::backend::sqlite::writer::Writer;
use crate::capture::Inlet;
use crate::filter::{Filter, TooLong};
use crate::limits::{FILTER_BYTES_MAX, LIST_CALLS_DEFAULT, LIST_CALLS_MAX, STREAMS_MAX};

/// What the routes need.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) readers: Readers,
    pub(crate) writer: Writer,
    pub(crate) streams: Arc<Semaphore>,
    pub(crate) stopped: watch::Receiver<bool>,
    inlet: Inlet,
    retention: Retention,
    capture_url: String,
    started_ms: i64,
}

impl Api {
    pub(crate) fn new(
        readers: Readers,
        writer: Writer,
        inlet: Inlet,
        retention: Retention,
        capture_url: String,
        stopped: watch::Receiver<bool>,
    ) -> Self {
        let streams = Arc::new(Semaphore::new(STREAMS_MAX));
        Self {
            readers,
            writer,
            streams,
            stopped,
            inlet,
            retention,
            capture_url,
            started_ms: crate::unix_ms(),
        }
    }
}

/// What can go wrong in a request to the API.
#[derive(Debug)]
pub(crate) enum ApiError {
    /// A parameter is not what it should be.
    Parameter(String),
    /// The filter is too long.
    Filter,
    /// No call has this id (any more).
    NoCall,
    /// Too many streams are open.
    Streams,
    /// The database did not answer.
    Database(anyhow::Error),
}

impl From<TooLong> for ApiError {
    fn from(_: TooLong) -> Self {
        Self::Filter
    }
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> Self {
        Self::Parameter(rejection.body_text())
    }
}

impl From<PathRejection> for ApiError {
    fn from(rejection: PathRejection) -> Self {
        Self::Parameter(rejection.body_text())
    }
}

impl From<anyhow::Error> for ApiError {
    fn from(error: anyhow::Error) -> Self {
        Self::Database(error)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, text) = match self {
            Self::Parameter(text) => (StatusCode::BAD_REQUEST, text),
            Self::Filter => (
                StatusCode::BAD_REQUEST,
                format!("a filter has at most {FILTER_BYTES_MAX} bytes"),
            ),
            Self::NoCall => (
                StatusCode::NOT_FOUND,
                "no such call; older calls make room for newer ones".into(),
            ),
            Self::Streams => (
                StatusCode::SERVICE_UNAVAILABLE,
                format!("{STREAMS_MAX} pages are open already"),
            ),
            Self::Database(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}")),
        };
        (status, Json(serde_json::json!({ "error": text }))).into_response()
    }
}

type Answer<T> = Result<([(header::HeaderName, &'static str); 1], Json<T>), ApiError>;

fn answer<T>(value: T) -> Answer<T> {
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(value)))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ListQuery {
    filter: String,
    before: Option<i64>,
    after: Option<i64>,
    limit: Option<usize>,
}

pub(crate) async fn calls(
    State(api): State<Api>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Answer<reader::Page> {
    let Query(query) = query?;
    let query = reader::Query {
        filter: Filter::parse(&query.filter)?,
        before: query.before,
        after: query.after,
        limit: query
            .limit
            .unwrap_or(LIST_CALLS_DEFAULT)
            .clamp(1, LIST_CALLS_MAX),
    };
    answer(api.readers.list(query).await?)
}

pub(crate) async fn call(
    State(api): State<Api>,
    id: Result<Path<i64>, PathRejection>,
) -> Answer<reader::Call> {
    let Path(id) = id?;
    answer(api.readers.call(id).await?.ok_or(ApiError::NoCall)?)
}

/// Health and totals.
#[derive(Debug, Serialize)]
pub(crate) struct Status {
    #[serde(flatten)]
    totals: Totals,
    /// Id of the newest call ever stored.
    newest: i64,
    calls_max: u64,
    database_bytes_max: u64,
    /// POSTs answered with anything but 204, since the start of this process.
    posts_refused: u64,
    saturated: bool,
    /// Why the last transaction failed; null when it did not.
    write_error: Option<String>,
    /// What to post to on this host.
    capture_url: String,
    started_ms: i64,
    version: &'static str,
}

pub(crate) async fn status(State(api): State<Api>) -> Answer<Status> {
    answer(Status {
        totals: api.readers.totals().await?,
        newest: *api.writer.newest().borrow(),
        calls_max: api.retention.calls_max,
        database_bytes_max: api.retention.database_bytes_max,
        posts_refused: api.inlet.posts_refused(),
        saturated: api.inlet.is_saturated(),
        write_error: api.writer.failure(),
        capture_url: api.capture_url,
        started_ms: api.started_ms,
        version: env!("CARGO_PKG_VERSION"),
    })
}
