//! `GET /api/v1/stream?filter=&after=`: new calls as server-sent events.
//!
//! | event | data | meaning |
//! | --- | --- | --- |
//! | `calls` | `{"calls": [...]}`, newest first | calls that arrived since the event before |
//! | `lagged` | `{"newest": PLACE, "arrived": COUNT}` | too many arrived to list them, or too much is on its way to all readers; fetch the list again |
//!
//! The event id is the place behind the newest call that was examined, so a browser that reconnects (`Last-Event-ID`) continues
//! where it was; `after` is the place to start at otherwise, and without either the stream starts behind the newest call.
//! `arrived` counts calls whether they match or not, and is null when the count is unknown. Nothing is queued for a reader:
//! each one reads from the backend at its own pace, at most ten times a second, and one that falls behind skips.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Extension;
use axum::extract::rejection::QueryRejection;
use axum::extract::{self, State};
use axum::http::HeaderMap;
use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::{StreamExt as _, stream};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep_until};

use crate::api::{Api, ApiError};
use crate::backend::any::AnyBackend;
use crate::backend::{Backend, Failure};
use crate::call::{Arrival, Summary};
use crate::filter::Filter;
use crate::limits::{STREAM_HEARTBEAT, STREAM_PACE, STREAMS_MAX};
use crate::places::Connection;
use crate::serve::stop_requested;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct StreamQuery {
    filter: String,
    after: Option<Arrival>,
}

pub(crate) async fn stream(
    State(api): State<Api>,
    Extension(connection): Extension<Arc<Connection>>,
    query: Result<extract::Query<StreamQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, ApiError> {
    let extract::Query(query) = query?;
    let filter = Filter::parse(&query.filter)?;
    if let Some(after) = &query.after
        && !api.backend.recognises(after)
    {
        let text = format!("{after} is not a place in the stream of this store");
        return Err(Failure::Invalid(text).into());
    }
    let permit = api
        .streams
        .clone()
        .try_acquire_owned()
        .map_err(|_| ApiError::Busy(format!("{STREAMS_MAX} pages are open already")))?;
    connection.streams();
    let arrivals = api.backend.arrivals();
    let at = last_event(&headers)
        .filter(|place| api.backend.recognises(place))
        .or(query.after)
        .unwrap_or_else(|| arrivals.borrow().clone());
    let subscription = Subscription {
        at,
        filter,
        arrivals,
        stopped: api.stopped,
        backend: api.backend,
        next: Instant::now(),
        room: api.events,
        turns: api.turns,
        taken: None,
        _permit: permit,
    };
    let events = stream::unfold(subscription, |mut subscription| async {
        let event = subscription.next().await?;
        Some((Ok::<_, Infallible>(event), subscription))
    });
    // Firefox regards a stream as open once its first bytes have come.
    let first = stream::iter([Ok(Event::default().comment(""))]);
    let events = first.chain(events);
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(STREAM_HEARTBEAT)))
}

fn last_event(headers: &HeaderMap) -> Option<Arrival> {
    let id = headers.get("last-event-id")?.to_str().ok()?;
    Arrival::try_from(id.to_owned()).ok()
}

/// The data of an event.
#[derive(Serialize)]
struct Calls {
    calls: Vec<Summary>,
}

/// One reader of the stream.
struct Subscription {
    /// Behind the newest call that the reader has.
    at: Arrival,
    filter: Filter,
    arrivals: watch::Receiver<Arrival>,
    stopped: watch::Receiver<bool>,
    backend: AnyBackend,
    /// When the next event may be sent.
    next: Instant,
    /// KiB of the events of all readers that are not taken yet, and of those the part of this one's last event.
    room: Arc<Semaphore>,
    taken: Option<OwnedSemaphorePermit>,
    /// Readers whose next event is made.
    turns: Arc<Semaphore>,
    _permit: OwnedSemaphorePermit,
}

impl Subscription {
    /// The next event; `None` ends the stream.
    async fn next(&mut self) -> Option<Event> {
        // The reader has taken the one before.
        self.taken = None;
        loop {
            tokio::select! {
                // Any other place will do: one ahead of the newest call is of another database.
                moved = self.arrivals.wait_for(|newest| *newest != self.at) => drop(moved.ok()?),
                () = stop_requested(&mut self.stopped) => return None,
            }
            sleep_until(self.next).await;
            self.next = Instant::now() + STREAM_PACE;
            // The calls of few readers are in memory before they are text.
            let turn = Arc::clone(&self.turns).acquire_owned().await.ok()?;
            let query = self.backend.arrived(self.at.clone(), self.filter.clone());
            // The page shows the reason of a failure from the status, and the browser opens the stream again.
            let arrived = query.await.ok()?;
            self.at = arrived.newest;
            if arrived.calls.as_ref().is_some_and(Vec::is_empty) {
                continue;
            }
            if let Some(calls) = arrived.calls {
                let data = serde_json::to_string(&Calls { calls }).unwrap_or_default();
                drop(turn);
                let length = u32::try_from(data.len().div_ceil(1 << 10)).unwrap_or(u32::MAX);
                if let Ok(taken) = Arc::clone(&self.room).try_acquire_many_owned(length) {
                    self.taken = Some(taken);
                    return Some(event("calls", &self.at, &data));
                }
            }
            let data = json!({ "newest": self.at, "arrived": arrived.count });
            return Some(event("lagged", &self.at, &data.to_string()));
        }
    }
}

/// `data` is compact JSON, which has no newline.
fn event(name: &str, id: &Arrival, data: &str) -> Event {
    Event::default().event(name).id(id.as_str()).data(data)
}
