//! `POST /api/v1/delete`: deletes the calls that match a filter in a range of time, such as those of one person or one host.
//!
//! It takes two requests. The first, `{"filter": "...", "from": ..., "to": ...}`, deletes nothing: it answers how many calls match,
//! and a `confirm` that belongs to this filter and range. The second is the first with that `confirm` in it, deletes, and answers
//! how many calls it deleted. `confirm` is good until the store is started again.
//!
//! Calls are deleted in short rounds between those of the writer, for [`DELETE_TIME_MAX`] at most: past it the answer has `next`, with
//! which the second request is sent again.

use std::hash::{BuildHasher, RandomState};

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::api::{Answer, Api, ApiError, fresh};
use crate::backend::Backend;
use crate::call::{Arrival, Coverage, DeleteQuery, Query, Range};
use crate::filter::Filter;
use crate::limits::{DELETE_TIME_MAX, LIST_CALLS_MAX};
use crate::parameters::{Time, range};

/// Which calls, and whether that is meant.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Request {
    filter: String,
    from: Option<Time>,
    to: Option<Time>,
    confirm: Option<String>,
    next: Option<Arrival>,
}

/// The answer to either request.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Answered {
    /// To the first.
    Counted {
        matching: u64,
        confirm: String,
        coverage: Coverage,
    },
    /// To the second.
    Deleted { deleted: u64, next: Option<Arrival> },
}

/// What belongs to a filter and a range in this process, and to no others.
fn confirmation(state: &RandomState, filter: &str, range: Range) -> String {
    let hash = state.hash_one((filter, range.from_ms, range.to_ms));
    format!("{hash:016x}")
}

/// The calls that match and are there: statistics also count calls that were deleted. Past half of the time for a deletion it is
/// the number so far, and the coverage states so.
async fn count(api: &Api, filter: Filter, range: Range) -> Result<(u64, Coverage), ApiError> {
    let end = Instant::now() + DELETE_TIME_MAX / 2;
    let mut list = Query {
        filter,
        before: None,
        after: None,
        range,
        limit: LIST_CALLS_MAX,
    };
    let mut calls = 0;
    let mut coverage: Option<Coverage> = None;
    loop {
        let page = api.backend.list(list.clone()).await?;
        calls += page.calls.len() as u64;
        let coverage = coverage.get_or_insert(page.coverage);
        let is_late = Instant::now() >= end;
        if page.next.is_none() || is_late {
            coverage.partial = page
                .next
                .map(|_| format!("there are more than {calls}, counting them takes too long"));
            return Ok((calls, coverage.clone()));
        }
        list.before = page.next;
    }
}

pub(crate) async fn delete(
    State(api): State<Api>,
    request: Result<Json<Request>, JsonRejection>,
) -> Answer<Answered> {
    let Json(request) = request?;
    let filter = Filter::parse(&request.filter)?;
    let range = range(request.from, request.to);
    if filter.is_empty() && range == Range::default() {
        let text = "a filter without words and comparisons matches every call; give a range of time as well";
        return Err(ApiError::Parameter(text.into()));
    }
    // A range that is relative to the present is another one in the second request: that has to repeat what the first answered.
    let confirm = confirmation(&api.confirmations, &request.filter, range);
    match request.confirm {
        None => {
            let (matching, coverage) = count(&api, filter, range).await?;
            fresh(Answered::Counted {
                matching,
                confirm,
                coverage,
            })
        }
        Some(given) if given == confirm => {
            let end = Instant::now() + DELETE_TIME_MAX;
            let (mut deleted, mut after) = (0, request.next);
            loop {
                let query = DeleteQuery {
                    filter: filter.clone(),
                    range,
                    after,
                };
                let round = api.backend.delete(query).await?;
                deleted += round.calls;
                after = round.next;
                if after.is_none() || Instant::now() >= end {
                    let next = after;
                    return fresh(Answered::Deleted { deleted, next });
                }
            }
        }
        Some(_) => Err(ApiError::Parameter(
            "confirm: it belongs to another filter or range, or the store was started again".into(),
        )),
    }
}
