//! `GET /api/v1/stream?filter=&after=`: new calls as server-sent events.
//!
//! | event | data | means |
//! | --- | --- | --- |
//! | `calls` | `{"calls": [...]}`, newest first | calls that arrived since the event before |
//! | `lagged` | `{"newest": ID}` | too many arrived to list them; fetch the list again |
//!
//! The event id is the newest call looked at, so a browser that reconnects (`Last-Event-ID`) goes on where it was; `after`
//! says where to begin otherwise, and without either the stream begins at the newest call. Nothing is queued for a reader: each one
//! reads the rows from the database at its own pace, at most ten times a second, and one that falls behind skips.

use std::convert::Infallible;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::stream;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, sleep_until};

use crate::api::{Api, ApiError};
use crate::backend::sqlite::reader::{self, Readers};
use crate::filter::Filter;
use crate::limits::{STREAM_BEHIND_MAX, STREAM_HEARTBEAT, STREAM_PACE};
use crate::serve::told;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct StreamQuery {
    filter: String,
    after: Option<i64>,
}

pub(crate) async fn stream(
    State(api): State<Api>,
    query: Result<Query<StreamQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, ApiError> {
    let Query(query) = query?;
    let filter = Filter::parse(&query.filter)?;
    let place = api
        .streams
        .clone()
        .try_acquire_owned()
        .map_err(|_| ApiError::Streams)?;
    let newest = api.writer.newest();
    let last_event = headers
        .get("last-event-id")
        .and_then(|id| id.to_str().ok()?.parse().ok());
    let at = last_event
        .or(query.after)
        .unwrap_or_else(|| *newest.borrow());
    let cursor = Cursor {
        at,
        filter,
        newest,
        stopped: api.stopped,
        readers: api.readers,
        next: Instant::now(),
        _place: place,
    };
    let events = stream::unfold(cursor, |mut cursor| async {
        let event = cursor.next().await?;
        Some((Ok::<_, Infallible>(event), cursor))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(STREAM_HEARTBEAT)))
}

/// One reader's place in the calls.
struct Cursor {
    /// Newest id it knows of.
    at: i64,
    filter: Filter,
    newest: watch::Receiver<i64>,
    stopped: watch::Receiver<bool>,
    readers: Readers,
    /// When it may be told again.
    next: Instant,
    _place: OwnedSemaphorePermit,
}

impl Cursor {
    /// The next event; `None` ends the stream.
    async fn next(&mut self) -> Option<Event> {
        loop {
            let at = self.at;
            tokio::select! {
                // Also when it is ahead: then this is another database than the one it knows.
                moved = self.newest.wait_for(|newest| *newest != at) => drop(moved.ok()?),
                () = told(&mut self.stopped) => return None,
            }
            sleep_until(self.next).await;
            self.next = Instant::now() + STREAM_PACE;
            let newest = *self.newest.borrow();
            let behind = newest - self.at;
            self.at = newest;
            if !(0..=STREAM_BEHIND_MAX).contains(&behind) {
                return Some(lagged(newest));
            }
            let query = reader::Query {
                filter: self.filter.clone(),
                before: Some(newest.saturating_add(1)),
                after: Some(at),
                limit: usize::try_from(behind).ok()?,
            };
            match self.readers.list(query).await {
                Ok(page) if page.next.is_some() => return Some(lagged(newest)),
                Ok(page) if page.calls.is_empty() => {}
                Ok(page) => return Some(event("calls", newest, &json!({ "calls": page.calls }))),
                // The page says so when it asks for the status; the browser tries the stream again.
                Err(_) => return None,
            }
        }
    }
}

fn lagged(newest: i64) -> Event {
    event("lagged", newest, &json!({ "newest": newest }))
}

fn event(name: &str, id: i64, data: &serde_json::Value) -> Event {
    // Compact JSON has no newline, which an event could not carry.
    Event::default()
        .event(name)
        .id(id.to_string())
        .data(data.to_string())
}
