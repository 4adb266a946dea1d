//! `GET /api/v1/losses?from=&to=&step=&by=cause|appliance|vni`: calls that are missing, over the time.
//!
//! They are counted by the minute in which the ledgers of sniffers reported them, or in which the retention deleted them.

use axum::extract::rejection::QueryRejection;
use axum::extract::{self, State};
use serde::{Deserialize, Serialize};

use crate::api::{Answer, Api, fresh};
use crate::backend::Backend;
use crate::call::{LossesBy, LossesQuery, Range};
use crate::clock::{MINUTE_MS, unix_ms};
use crate::limits::{GROUPS_MAX, SERIES_POINTS_DEFAULT, SERIES_POINTS_MAX, SERIES_RANGE_DEFAULT};
use crate::parameters::{Step, Time, range};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Parameters {
    from: Option<Time>,
    to: Option<Time>,
    step: Option<Step>,
    by: LossesBy,
}

/// The answer.
#[derive(Debug, Serialize)]
pub(crate) struct Answered {
    /// Milliseconds of one point, a number of minutes.
    step_ms: i64,
    /// Time at which the first point begins.
    start_ms: i64,
    by: LossesBy,
    /// The largest first.
    series: Vec<Series>,
}

/// The calls that have a cause, an appliance or a network in common.
#[derive(Debug, Default, Serialize)]
struct Series {
    /// Empty for calls of which it is not known.
    value: String,
    calls: u64,
    /// By point; points without a loss at the end are left out.
    points: Vec<u64>,
}

pub(crate) async fn losses(
    State(api): State<Api>,
    query: Result<extract::Query<Parameters>, QueryRejection>,
) -> Answer<Answered> {
    let extract::Query(parameters) = query?;
    let range = range(parameters.from, parameters.to);
    let to_ms = range.to_ms.unwrap_or_else(unix_ms);
    let from_ms = range.from_ms.unwrap_or_else(|| {
        to_ms.saturating_sub(i64::try_from(SERIES_RANGE_DEFAULT.as_millis()).unwrap_or(i64::MAX))
    });
    let step_ms = step(
        to_ms.saturating_sub(from_ms),
        parameters.step.map(|step| step.0),
    );
    let start_ms = from_ms.div_euclid(step_ms).saturating_mul(step_ms);
    let by = parameters.by;
    let query = LossesQuery {
        range: Range {
            from_ms: Some(start_ms),
            to_ms: Some(to_ms),
        },
        step_ms,
        by,
    };
    let mut series = Vec::<Series>::new();
    for row in api.backend.losses(query).await? {
        // Rows of a value follow each other.
        if series.last().is_none_or(|last| last.value != row.value) {
            series.push(Series {
                value: row.value,
                ..Series::default()
            });
        }
        let index = (row.time_ms - start_ms).div_euclid(step_ms);
        let (Some(last), Ok(index)) = (series.last_mut(), usize::try_from(index)) else {
            continue;
        };
        last.calls += row.calls;
        if last.points.len() <= index {
            last.points.resize(index + 1, 0);
        }
        if let Some(point) = last.points.get_mut(index) {
            *point += row.calls;
        }
    }
    series.sort_by_key(|series| std::cmp::Reverse(series.calls));
    series.truncate(GROUPS_MAX);
    fresh(Answered {
        step_ms,
        start_ms,
        by,
        series,
    })
}

/// A number of whole minutes of which the range has no more than a series may have.
fn step(length_ms: i64, wanted_ms: Option<i64>) -> i64 {
    let length_ms = length_ms.max(1);
    let step_ms = wanted_ms
        .unwrap_or(length_ms / SERIES_POINTS_DEFAULT)
        .max(length_ms / SERIES_POINTS_MAX + 1);
    step_ms
        .div_euclid(MINUTE_MS)
        .saturating_add(i64::from(step_ms.rem_euclid(MINUTE_MS) > 0))
        .clamp(1, i64::MAX / MINUTE_MS)
        .saturating_mul(MINUTE_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_a_number_of_minutes() {
        let hour = 60 * MINUTE_MS;
        assert_eq!(step(hour, None), MINUTE_MS);
        assert_eq!(step(hour, Some(1)), MINUTE_MS);
        assert_eq!(step(hour, Some(61_000)), 2 * MINUTE_MS);
        assert_eq!(step(24 * hour, None), 12 * MINUTE_MS);
        let length = i64::MAX;
        assert!(length / step(length, None) <= SERIES_POINTS_MAX);
        assert_eq!(step(-5, None), MINUTE_MS);
    }
}
