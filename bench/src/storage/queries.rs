//! The queries of the page, each with the time that it may take.

use std::time::Duration;

use anyhow::{Context as _, Result};
use store::backend::Backend;
use store::call::{Query, Range, StatsQuery, TopQuery};
use store::fields::Field;
use store::filter::Filter;
use tokio::runtime::Runtime;

use super::lines::{ABSENT, RARE};
use super::options::DAY_MS;
use super::report::Report;

/// Time of a list with a filter on columns, and of statistics.
const COLUMNS_MAX: Duration = Duration::from_millis(200);

/// Time of the newest calls, and of a list of the last hour with a filter on columns.
const NEWEST_MAX: Duration = Duration::from_millis(100);

/// Milliseconds of an hour.
const HOUR_MS: i64 = 3_600_000;

/// Time of a search in texts.
const TEXTS_MAX: Duration = Duration::from_secs(1);

/// Filters on numbers, times and columns of few values: those that match about half, some, one in a million, and nothing.
const ON_COLUMNS: [&str; 16] = [
    "",
    "status >= 500",
    "took > 200",
    "not took > 200",
    "status == 418",
    "status == 299",
    "took > 10min",
    "time < 2001-01-01",
    "host == \"svc-7.example.test\"",
    "host == \"nowhere\"",
    "method == POST and status == 500 and took > 390",
    "host == \"svc-7.example.test\" and status == 418",
    "method in (PUT, PATCH) and vni == 102 and took < 3",
    "not status == 200 and not status in (201, 404, 500, 418)",
    "response_bytes > 1MB or client_port == 1",
    "fact.none > 5",
];

/// Filters that look at texts of which each call has another.
const ON_TEXTS: [&str; 5] = [
    "path ~ \"items/777777\"",
    "path ~ \"items/x\"",
    "path ~ \"^/v1/area[0-9]+/items/77777[0-9]$\"",
    "host ~ \"svc-9\"",
    "url ~ \"nowhere\"",
];

/// All of them.
pub(super) fn all(runtime: &Runtime, store: &impl Backend, report: &mut Report<'_>) -> Result<()> {
    let newest = runtime.block_on(store.list(page("")?))?;
    let newest = newest.calls.first().context("calls")?;
    let day = Range {
        from_ms: Some(newest.time_ms - DAY_MS as i64),
        to_ms: Some(newest.time_ms + 1),
    };
    for (filters, most) in [(&ON_COLUMNS[..], COLUMNS_MAX), (&ON_TEXTS[..], TEXTS_MAX)] {
        for text in filters {
            let query = page(text)?;
            report.row(&format!("list `{text}`"), most, || {
                let page = runtime.block_on(store.list(query.clone()))?;
                let calls = page.calls.len();
                Ok(format!("{calls} calls{}", late(page.timed_out)))
            })?;
        }
    }
    for text in ON_COLUMNS {
        let mut query = page(text)?;
        query.range.from_ms = Some(newest.time_ms - HOUR_MS);
        report.row(
            &format!("list of the last hour, `{text}`"),
            NEWEST_MAX,
            || {
                let page = runtime.block_on(store.list(query.clone()))?;
                let calls = page.calls.len();
                Ok(format!("{calls} calls{}", late(page.timed_out)))
            },
        )?;
    }
    let mut half = page("")?;
    half.range.to_ms = Some(newest.time_ms - (DAY_MS / 2) as i64);
    report.row("list, from the middle of the day", COLUMNS_MAX, || {
        let page = runtime.block_on(store.list(half.clone()))?;
        Ok(format!("{} calls", page.calls.len()))
    })?;
    words(runtime, store, report, newest.time_ms)?;
    statistics(runtime, store, report, day)?;
    report.row("one call with its line", COLUMNS_MAX, || {
        let call = runtime.block_on(store.call(newest.id.clone()))?;
        Ok(format!("{} B", call.context("the call")?.line.len()))
    })
}

fn page(text: &str) -> Result<Query> {
    Ok(Query {
        filter: Filter::parse(text).map_err(|error| anyhow::anyhow!("{text}: {error}"))?,
        limit: 200,
        ..Query::default()
    })
}

fn late(timed_out: bool) -> &'static str {
    if timed_out { ", timed out" } else { "" }
}

/// Words in the newest million calls, in as many answers as that takes.
fn words(
    runtime: &Runtime,
    store: &impl Backend,
    report: &mut Report<'_>,
    newest_ms: i64,
) -> Result<()> {
    let totals = runtime.block_on(store.totals())?;
    let million = (DAY_MS as f64 * (1e6 / totals.calls as f64).min(1.0)) as i64;
    // The last one is as an id is: letters and digits of which each line has many.
    for word in [RARE, ABSENT, "quoka", "0123456789abcdef"] {
        let query = Query {
            range: Range {
                from_ms: Some(newest_ms - million),
                to_ms: None,
            },
            ..page(word)?
        };
        report.row(
            &format!("word `{word}` in the newest million"),
            TEXTS_MAX,
            || {
                let (mut found, mut answers) = (0, 0);
                let mut query = query.clone();
                loop {
                    let page = runtime.block_on(store.list(query.clone()))?;
                    found += page.calls.len();
                    answers += 1;
                    match page.next {
                        Some(next) => query.before = Some(next),
                        None => return Ok(format!("{found} calls in {answers} answers")),
                    }
                }
            },
        )?;
    }
    Ok(())
}

fn statistics(
    runtime: &Runtime,
    store: &impl Backend,
    report: &mut Report<'_>,
    day: Range,
) -> Result<()> {
    for (text, by, most) in [
        ("", None, COLUMNS_MAX),
        ("", Some(Field::Host), COLUMNS_MAX),
        ("", Some(Field::Endpoint), COLUMNS_MAX),
        ("", Some(Field::Method), COLUMNS_MAX),
        ("", Some(Field::Status), COLUMNS_MAX),
        (
            "host == \"svc-7.example.test\"",
            Some(Field::Endpoint),
            COLUMNS_MAX,
        ),
        ("method == POST", Some(Field::Host), COLUMNS_MAX),
        ("status >= 500", Some(Field::Endpoint), COLUMNS_MAX),
        ("endpoint == \"/v1/area7/items/*\"", None, COLUMNS_MAX),
        ("took > 200 and vni == 101", Some(Field::Status), TEXTS_MAX),
        ("path ~ \"items/7\"", None, TEXTS_MAX),
        (RARE, None, TEXTS_MAX * 2),
    ] {
        let query = StatsQuery {
            filter: Filter::parse(text).map_err(|error| anyhow::anyhow!("{text}: {error}"))?,
            range: day,
            step_ms: 60_000,
            by,
            groups_max: 50,
        };
        let by = by.map_or("", Field::name);
        let name = format!("statistics of the day, `{text}` by {by}");
        report.row(&name, most, || {
            let stats = runtime.block_on(store.stats(query.clone()))?;
            let (calls, groups) = (stats.total.calls, stats.groups.len());
            let partial = late(stats.coverage.partial.is_some());
            Ok(format!("{calls} calls, {groups} groups{partial}"))
        })?;
    }
    for field in [Field::Host, Field::Endpoint, Field::Client] {
        let query = TopQuery {
            filter: Filter::default(),
            range: day,
            field,
            limit: 10,
        };
        let name = format!("top values of {} of the day", field.name());
        report.row(&name, COLUMNS_MAX, || {
            let top = runtime.block_on(store.top(query.clone()))?;
            Ok(format!("{} values", top.values.len()))
        })?;
    }
    Ok(())
}
