//! `GET /api/v1/stats` and `/api/v1/top`: what the calls of a range have in common.
//!
//! Quantiles come from counts in buckets and are off by [`histogram::ERROR`] of their value at most.

use axum::extract::rejection::QueryRejection;
use axum::extract::{self, State};
use serde::{Deserialize, Serialize};

use crate::api::{Answer, Api, ApiError, fresh};
use crate::backend::Backend;
use crate::call::{Coverage, Group, Measures, Point, StatsQuery, TopQuery};
use crate::clock::unix_ms;
use crate::fields::Field;
use crate::filter::Filter;
use crate::histogram::{self, Histogram};
use crate::limits::{GROUPS_DEFAULT, GROUPS_MAX, SERIES_POINTS_DEFAULT, SERIES_RANGE_DEFAULT};
use crate::parameters::{Count, Step, Time, range};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Parameters {
    filter: String,
    from: Option<Time>,
    to: Option<Time>,
    step: Option<Step>,
    by: Option<Name>,
    limit: Option<Count<GROUPS_MAX>>,
}

/// A field by its name.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
struct Name(Field);

impl TryFrom<String> for Name {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let unknown = || format!("there is no field {text:?}");
        Field::find(&text).map(Self).ok_or_else(unknown)
    }
}

/// The answer of `stats`.
#[derive(Debug, Serialize)]
pub(crate) struct Answered {
    step_ms: i64,
    start_ms: i64,
    series: Vec<PointShown>,
    total: MeasuresShown,
    /// The field that the groups are of.
    by: Option<&'static str>,
    groups: Vec<GroupShown>,
    other: MeasuresShown,
    /// How far a quantile may be off, as a part of its value.
    quantile_error: f64,
    coverage: Coverage,
}

#[derive(Debug, Serialize)]
struct PointShown {
    time_ms: i64,
    calls: u64,
    /// Calls without a status, 1xx, 2xx and so on.
    classes: [u64; 6],
    took: Quantiles,
}

#[derive(Debug, Serialize)]
struct GroupShown {
    value: String,
    #[serde(flatten)]
    measures: MeasuresShown,
}

#[derive(Debug, Serialize)]
struct MeasuresShown {
    calls: u64,
    classes: [u64; 6],
    request_bytes: u64,
    response_bytes: u64,
    took: Quantiles,
    first_byte: Quantiles,
    response_size: Quantiles,
}

/// Values below which these parts of all calls are; null without any.
#[derive(Debug, Serialize)]
struct Quantiles {
    p50: Option<f64>,
    p90: Option<f64>,
    p95: Option<f64>,
    p99: Option<f64>,
    max: Option<f64>,
}

impl From<&Histogram> for Quantiles {
    fn from(counts: &Histogram) -> Self {
        Self {
            p50: counts.quantile(0.5),
            p90: counts.quantile(0.9),
            p95: counts.quantile(0.95),
            p99: counts.quantile(0.99),
            max: counts.quantile(1.0),
        }
    }
}

impl From<&Measures> for MeasuresShown {
    fn from(measures: &Measures) -> Self {
        Self {
            calls: measures.calls,
            classes: measures.classes,
            request_bytes: measures.request_bytes,
            response_bytes: measures.response_bytes,
            took: (&measures.took).into(),
            first_byte: (&measures.first_byte).into(),
            response_size: (&measures.sizes).into(),
        }
    }
}

impl From<&Group> for GroupShown {
    fn from(group: &Group) -> Self {
        Self {
            value: group.value.clone(),
            measures: (&group.measures).into(),
        }
    }
}

fn shown(index: usize, start_ms: i64, step_ms: i64, point: &Point) -> PointShown {
    let index = i64::try_from(index).unwrap_or(i64::MAX);
    PointShown {
        time_ms: start_ms.saturating_add(index.saturating_mul(step_ms)),
        calls: point.classes.iter().sum(),
        classes: point.classes,
        took: (&point.took).into(),
    }
}

/// `stats?filter=&from=&to=&step=&by=&limit=`
pub(crate) async fn stats(
    State(api): State<Api>,
    query: Result<extract::Query<Parameters>, QueryRejection>,
) -> Answer<Answered> {
    let extract::Query(parameters) = query?;
    let mut range = range(parameters.from, parameters.to);
    // A series has a beginning.
    let to_ms = range.to_ms.unwrap_or_else(unix_ms);
    let from_ms = *range.from_ms.get_or_insert_with(|| {
        to_ms.saturating_sub(i64::try_from(SERIES_RANGE_DEFAULT.as_millis()).unwrap_or(i64::MAX))
    });
    let length = to_ms.saturating_sub(from_ms).max(1);
    let step_ms = parameters
        .step
        .map_or(length / SERIES_POINTS_DEFAULT, |step| step.0)
        .max(1);
    let by = parameters.by.map(|name| name.0);
    let stats = api
        .backend
        .stats(StatsQuery {
            filter: Filter::parse(&parameters.filter)?,
            range,
            step_ms,
            by,
            groups_max: parameters.limit.map_or(GROUPS_DEFAULT, Count::get),
        })
        .await?;
    let series = stats.series.iter().enumerate();
    fresh(Answered {
        step_ms: stats.step_ms,
        start_ms: stats.start_ms,
        series: series
            .map(|(index, point)| shown(index, stats.start_ms, stats.step_ms, point))
            .collect(),
        total: (&stats.total).into(),
        by: by.map(Field::name),
        groups: stats.groups.iter().map(GroupShown::from).collect(),
        other: (&stats.other).into(),
        quantile_error: histogram::ERROR,
        coverage: stats.coverage,
    })
}

/// The answer of `top`.
#[derive(Debug, Serialize)]
pub(crate) struct Values {
    field: &'static str,
    values: Vec<ValueShown>,
    other: u64,
    coverage: Coverage,
}

#[derive(Debug, Serialize)]
struct ValueShown {
    value: String,
    calls: u64,
}

/// `top?by=&filter=&from=&to=&limit=`
pub(crate) async fn top(
    State(api): State<Api>,
    query: Result<extract::Query<Parameters>, QueryRejection>,
) -> Answer<Values> {
    let extract::Query(parameters) = query?;
    let Some(Name(field)) = parameters.by else {
        return Err(ApiError::Parameter(
            "by: the name of a field is missing".into(),
        ));
    };
    let top = api
        .backend
        .top(TopQuery {
            filter: Filter::parse(&parameters.filter)?,
            range: range(parameters.from, parameters.to),
            field,
            limit: parameters.limit.map_or(GROUPS_DEFAULT, Count::get),
        })
        .await?;
    fresh(Values {
        field: field.name(),
        values: top
            .values
            .into_iter()
            .map(|(value, calls)| ValueShown { value, calls })
            .collect(),
        other: top.other,
        coverage: top.coverage,
    })
}
