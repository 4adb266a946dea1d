//! Statistics: by SQL where the filter is exact there, else from the calls that a scan finds.
//!
//! Past an hour, and for a time whose calls were deleted, the counts by the minute answer, if the filter and the groups are of what
//! they are counted by and they are far fewer than the calls; the first and the last minute count whole then. All histograms have the
//! buckets of [`crate::histogram`]: each call has the places of its numbers in columns, and SQL counts these.

use std::collections::HashMap;
use std::time::Instant;

use super::binary::Reader as Binary;
use super::changes::{DELETED, EXPIRED};
use super::client::Error;
use super::reader::{DAY_MS, Day, Partial, Reader};
use super::row::taken;
use super::scan::{Scan, is_late};
use super::sql::{Condition, Values, expression, literal, patterns, within};
use super::sums::{Kind, Place, Sum, Sums, Table, by_place, key};
use crate::backend::Failure;
use crate::call::{Coverage, Group, Measures, Point, Range, Stats, StatsQuery, Top, TopQuery};
use crate::clock::unix_ms;
use crate::fields::Field;
use crate::filter::Filter;
use crate::filter::names::Source;
use crate::histogram::{Histogram, SLOTS};
use crate::limits::{
    CLICKHOUSE_BATCH_ROWS, CLICKHOUSE_QUERY_TIME_MAX, GROUPS_COUNTED_MAX, GROUPS_MAX,
    SERIES_POINTS_MAX,
};
use crate::line::{Columns, is_cut};

/// A range that is longer is answered from the counts by the minute, where these have what is needed.
const EXACT_MS: i64 = 3_600_000;

/// So many calls are summed up as fast as one count of a minute, which has three histograms.
const CALLS_PER_COUNT: u64 = 4;

/// Whether calls are counted by a field.
fn is_counted(field: Field) -> bool {
    matches!(
        field,
        Field::Host
            | Field::Endpoint
            | Field::Operation
            | Field::Method
            | Field::Appliance
            | Field::Status
            | Field::Vni
    )
}

/// The value of a group as a text, which is empty for none.
fn value_of(field: Field) -> String {
    let value = format!("any({})", expression(field));
    if field.kind().is_number() {
        return format!("if({value} = -1, '', toString(if({value} < -1, {value} + 1, {value})))");
    }
    format!("toString({value})")
}

fn text_of(field: Field, call: &Columns) -> String {
    match field.kind().is_number() {
        true => call
            .number(field)
            .map_or_else(String::new, |number| number.to_string()),
        false => call.text(field).to_owned(),
    }
}

fn without(all: &Histogram, part: &Histogram) -> Histogram {
    let (mut slots, mut taken) = ([0; SLOTS], [0; SLOTS]);
    all.add_to_slots(&mut slots);
    part.add_to_slots(&mut taken);
    for (slot, taken) in slots.iter_mut().zip(taken) {
        *slot = slot.saturating_sub(taken);
    }
    Histogram::of_slots(&slots)
}

/// What is in none of the groups.
fn rest(total: &Measures, groups: &[Group]) -> Measures {
    let mut shown = Measures::default();
    for group in groups {
        shown.merge(&group.measures);
    }
    let mut classes = total.classes;
    for (class, shown) in classes.iter_mut().zip(shown.classes) {
        *class = class.saturating_sub(shown);
    }
    Measures {
        calls: total.calls.saturating_sub(shown.calls),
        classes,
        request_bytes: total.request_bytes.saturating_sub(shown.request_bytes),
        response_bytes: total.response_bytes.saturating_sub(shown.response_bytes),
        took: without(&total.took, &shown.took),
        first_byte: without(&total.first_byte, &shown.first_byte),
        sizes: without(&total.sizes, &shown.sizes),
    }
}

fn add(measures: &mut Measures, call: &Columns) {
    measures.calls += 1;
    measures.classes[call.status.map_or(0, Measures::class)] += 1;
    measures.request_bytes += call.request_bytes.unwrap_or_default().max(0).unsigned_abs();
    measures.response_bytes += call
        .response_bytes
        .unwrap_or_default()
        .max(0)
        .unsigned_abs();
    for (histogram, number) in [
        (&mut measures.took, call.interval_ms),
        (&mut measures.first_byte, call.first_byte_ms),
        (&mut measures.sizes, call.response_bytes),
    ] {
        if let Some(number) = number {
            histogram.add(number);
        }
    }
}

/// Groups of calls.
#[derive(Debug, Default)]
struct Groups {
    /// Those with the most calls, the largest first.
    largest: Vec<Group>,
    /// The sum of all of them, where all were read.
    all: Option<Measures>,
}

/// Groups by their value, the largest first.
fn sort(groups: &mut [Group]) {
    groups.sort_by(|a, b| {
        let order = b.measures.calls.cmp(&a.measures.calls);
        order.then_with(|| a.value.cmp(&b.value))
    });
}

fn point_at(series: &mut Vec<Point>, index: i64) -> &mut Point {
    let index = index.clamp(0, SERIES_POINTS_MAX).unsigned_abs() as usize;
    if index >= series.len() {
        series.resize(index + 1, Point::default());
    }
    &mut series[index]
}

impl Reader {
    pub(super) async fn stats(&self, query: StatsQuery) -> Result<Stats, Failure> {
        let mut partial = Partial::default();
        let days = self.days(&mut partial).await?;
        let mut coverage = self.coverage(query.range, &days, &mut partial).await?;
        let range = bounded(query.range, coverage.held_from_ms, &days);
        let (from, to) = (
            range.from_ms.unwrap_or_default(),
            range.to_ms.unwrap_or_default(),
        );
        let least = (to.saturating_sub(from)).max(0) / SERIES_POINTS_MAX + 1;
        let mut stats = Stats {
            step_ms: query.step_ms.max(least).max(1),
            start_ms: from,
            ..Stats::default()
        };
        let condition = self.condition(&query.filter, &mut partial).await?;
        if condition.is_exact {
            let of = self.source(&query, range, &coverage, &mut partial).await?;
            let sums = Sums {
                of,
                range,
                condition: condition.sql,
            };
            self.sum(&sums, &query, &mut stats, &mut partial).await?;
        } else {
            coverage.progress = self
                .walk(&query, range, days, &mut stats, &mut partial)
                .await?;
        }
        coverage.partial = partial.0;
        stats.coverage = coverage;
        Ok(stats)
    }

    /// A condition that is exact where the values of fields suffice for that, as far as calls are counted by them.
    async fn condition(
        &self,
        filter: &Filter,
        partial: &mut Partial,
    ) -> Result<Condition, Failure> {
        let mut values = Values::new();
        for field in patterns(filter.expression()) {
            if !is_counted(field) || field.kind().is_number() || values.contains_key(&field) {
                continue;
            }
            let sql = format!(
                "SELECT DISTINCT {} FROM minutes LIMIT {} FORMAT RowBinary",
                field.name(),
                GROUPS_COUNTED_MAX + 1
            );
            let answer = self.ask(&sql, CLICKHOUSE_QUERY_TIME_MAX, partial).await?;
            let mut reader = Binary(&answer);
            let mut found = Vec::new();
            while reader.has_more() {
                found.push(reader.text()?);
            }
            if found.len() <= GROUPS_COUNTED_MAX && !found.iter().any(|text| is_cut(text)) {
                values.insert(field, found);
            }
        }
        Ok(Condition::with(filter, &values))
    }

    async fn source(
        &self,
        query: &StatsQuery,
        range: Range,
        coverage: &Coverage,
        partial: &mut Partial,
    ) -> Result<Table, Failure> {
        let is_other = |source: &Source| match source {
            Source::Field(field) => !is_counted(*field),
            Source::Detail(_) => true,
        };
        let (from, to) = (
            range.from_ms.unwrap_or_default(),
            range.to_ms.unwrap_or_default(),
        );
        let is_other = query
            .filter
            .expression()
            .any_comparison(&|comparison| is_other(&comparison.source));
        if is_other || !query.by.is_none_or(is_counted) {
            return Ok(Table::Calls);
        }
        if coverage.held_from_ms.is_none_or(|held| to <= held) {
            return Ok(Table::Minutes);
        }
        let (first, last) = range.minutes();
        let of_range = format!("minute >= {first} AND minute <= {last}");
        let sql = format!(
            "SELECT what, number FROM (
                 SELECT '#counts' AS what, count() AS number FROM minutes WHERE {of_range}
                 UNION ALL SELECT '#gone' AS what, sum(calls) AS number FROM losses WHERE {of_range} AND cause IN ({}, {})
             ) FORMAT RowBinary",
            literal(DELETED),
            literal(EXPIRED)
        );
        let answer = self.ask(&sql, CLICKHOUSE_QUERY_TIME_MAX, partial).await?;
        let mut reader = Binary(&answer);
        let (mut counts, mut gone) = (0, 0);
        while reader.has_more() {
            match reader.text()?.as_str() {
                "#counts" => counts = reader.u64()?,
                _ => gone = reader.u64()?,
            }
        }
        let is_long = to.saturating_sub(from) > EXACT_MS;
        let are_few = counts.saturating_mul(CALLS_PER_COUNT) < coverage.kept;
        Ok(match gone > 0 || (is_long && are_few) {
            true => Table::Minutes,
            false => Table::Calls,
        })
    }

    async fn sum(
        &self,
        sums: &Sums,
        query: &StatsQuery,
        stats: &mut Stats,
        partial: &mut Partial,
    ) -> Result<(), Failure> {
        let point = Place::Point {
            start_ms: stats.start_ms,
            step_ms: stats.step_ms,
        };
        let rest_of_total = (Kind::FirstByteAndSize, Place::All);
        // Where all groups are read, they make up the rest of the total.
        let series = match query.by {
            Some(by) if is_counted(by) => sums.sql(&[(Kind::ClassAndTook, point)]),
            _ => sums.sql(&[(Kind::ClassAndTook, point), rest_of_total]),
        };
        let mut other = Partial::default();
        let (series, groups) = tokio::join!(
            self.ask(&series, CLICKHOUSE_QUERY_TIME_MAX, partial),
            async {
                match query.by {
                    Some(by) => self.groups(sums, by, query.groups_max, &mut other).await,
                    None => Ok(Groups::default()),
                }
            }
        );
        partial.0 = partial.0.take().or(other.0);
        for sum in Sum::read_all(&series?)? {
            sum.add_to(&mut stats.total);
            let [class, took] = sum.class_and_took();
            if class.is_none() && took.is_none() {
                continue;
            }
            let index = i64::try_from(sum.place).unwrap_or(i64::MAX);
            let point = point_at(&mut stats.series, index);
            if let Some(class) = class.and_then(|class| point.classes.get_mut(class)) {
                *class += sum.calls();
            }
            if let Some(took) = took {
                point.took.add_to_slot(took, sum.calls());
            }
        }
        let groups = groups?;
        match (query.by, groups.all) {
            (Some(by), Some(all)) if is_counted(by) => {
                stats.total.first_byte = all.first_byte;
                stats.total.sizes = all.sizes;
            }
            (Some(by), None) if is_counted(by) => {
                let sql = sums.sql(&[rest_of_total]);
                let answer = self.ask(&sql, CLICKHOUSE_QUERY_TIME_MAX, partial).await?;
                for sum in Sum::read_all(&answer)? {
                    sum.add_to(&mut stats.total);
                }
            }
            _ => {}
        }
        stats.groups = groups.largest;
        if query.by.is_some() {
            stats.other = rest(&stats.total, &stats.groups);
        }
        Ok(())
    }

    /// The groups with the most calls. Of a field that can have many values, which these are is found out before.
    async fn groups(
        &self,
        sums: &Sums,
        by: Field,
        groups_max: usize,
        partial: &mut Partial,
    ) -> Result<Groups, Failure> {
        let groups_max = groups_max.min(GROUPS_MAX);
        let wanted = [
            (Kind::ClassAndTook, Place::Value(by)),
            (Kind::FirstByteAndSize, Place::Value(by)),
        ];
        let all = match is_counted(by) {
            true => {
                let sql = sums.sql(&wanted);
                self.ask(&sql, CLICKHOUSE_QUERY_TIME_MAX, partial).await
            }
            false => Err(Error::TooLarge),
        };
        let are_all = all.is_ok();
        let answer = match all {
            Err(Error::TooLarge) => {
                let sql = sums.largest(by, groups_max);
                let answer = self.ask(&sql, CLICKHOUSE_QUERY_TIME_MAX, partial).await?;
                let mut reader = Binary(&answer);
                let mut keys = Vec::new();
                while reader.has_more() {
                    keys.push(reader.u64()?);
                }
                let sql = sums.only(by, &keys).sql(&wanted);
                self.ask(&sql, CLICKHOUSE_QUERY_TIME_MAX, partial).await?
            }
            answer => answer?,
        };
        let groups = by_place(&Sum::read_all(&answer)?).into_iter();
        let mut groups: Vec<_> = groups
            .map(|(place, (text, measures))| Group {
                value: match by.kind().is_number() {
                    true => taken(place.cast_signed())
                        .map_or_else(String::new, |number| number.to_string()),
                    false => text,
                },
                measures,
            })
            .collect();
        let all = are_all.then(|| {
            let mut all = Measures::default();
            for group in &groups {
                all.merge(&group.measures);
            }
            all
        });
        sort(&mut groups);
        groups.truncate(groups_max);
        Ok(Groups {
            largest: groups,
            all,
        })
    }

    /// Counts the calls that a scan finds; the part of the time that it has examined.
    async fn walk(
        &self,
        query: &StatsQuery,
        range: Range,
        days: Vec<Day>,
        stats: &mut Stats,
        partial: &mut Partial,
    ) -> Result<f64, Failure> {
        let start = Instant::now();
        let mut groups: HashMap<String, Measures> = HashMap::new();
        let mut scan = Scan::new(query.filter.clone(), range, (None, None), days);
        while !scan.is_done() && !is_late(start) {
            for row in scan.next(self, CLICKHOUSE_BATCH_ROWS, partial).await? {
                let call = &row.columns;
                let index = call.time_ms.saturating_sub(stats.start_ms) / stats.step_ms;
                let point = point_at(&mut stats.series, index);
                point.classes[call.status.map_or(0, Measures::class)] += 1;
                if let Some(took) = call.interval_ms {
                    point.took.add(took);
                }
                add(&mut stats.total, call);
                if let Some(by) = query.by {
                    let value = text_of(by, call);
                    if groups.contains_key(&value) || groups.len() < GROUPS_COUNTED_MAX {
                        add(groups.entry(value).or_default(), call);
                    }
                }
            }
        }
        let groups = groups.into_iter();
        stats.groups = groups
            .map(|(value, measures)| Group { value, measures })
            .collect();
        sort(&mut stats.groups);
        stats.groups.truncate(query.groups_max.min(GROUPS_MAX));
        if query.by.is_some() {
            stats.other = rest(&stats.total, &stats.groups);
        }
        if !scan.is_done() {
            partial
                .0
                .get_or_insert("the time for one query ran out".into());
        }
        Ok(scan.progress())
    }

    pub(super) async fn top(&self, query: TopQuery) -> Result<Top, Failure> {
        let mut partial = Partial::default();
        let days = self.days(&mut partial).await?;
        let mut coverage = self.coverage(query.range, &days, &mut partial).await?;
        let condition = self.condition(&query.filter, &mut partial).await?;
        let limit = query.limit.min(GROUPS_MAX);
        let mut all = 0;
        let mut values = Vec::new();
        if condition.is_exact {
            let from = format!(
                "FROM calls PREWHERE {} WHERE {}",
                within(query.range.from_ms, query.range.to_ms),
                condition.sql
            );
            let value = value_of(query.field);
            let counted = format!(
                "SELECT {value} AS shown, count() AS n {from} GROUP BY {} ORDER BY n DESC, shown LIMIT {limit} FORMAT RowBinary",
                key(query.field)
            );
            let total = format!("SELECT count() {from} FORMAT RowBinary");
            let mut other = Partial::default();
            let (counted, total) = tokio::join!(
                self.ask(&counted, CLICKHOUSE_QUERY_TIME_MAX, &mut partial),
                self.ask(&total, CLICKHOUSE_QUERY_TIME_MAX, &mut other),
            );
            partial.0 = partial.0.take().or(other.0);
            let (counted, total) = (counted?, total?);
            all = Binary(&total).u64()?;
            let mut reader = Binary(&counted);
            while reader.has_more() {
                values.push((reader.text()?, reader.u64()?));
            }
        } else {
            let start = Instant::now();
            let mut counts: HashMap<String, u64> = HashMap::new();
            let mut scan = Scan::new(query.filter, query.range, (None, None), days);
            while !scan.is_done() && !is_late(start) {
                for row in scan.next(self, CLICKHOUSE_BATCH_ROWS, &mut partial).await? {
                    all += 1;
                    let value = text_of(query.field, &row.columns);
                    if counts.contains_key(&value) || counts.len() < GROUPS_COUNTED_MAX {
                        *counts.entry(value).or_default() += 1;
                    }
                }
            }
            values = counts.into_iter().collect();
            values.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
            values.truncate(limit);
            coverage.progress = scan.progress();
            if !scan.is_done() {
                partial
                    .0
                    .get_or_insert("the time for one query ran out".into());
            }
        }
        coverage.partial = partial.0;
        let shown: u64 = values.iter().map(|(_, calls)| calls).sum();
        Ok(Top {
            values,
            other: all.saturating_sub(shown),
            coverage,
        })
    }
}

/// A range with both ends.
fn bounded(range: Range, held_from_ms: Option<i64>, days: &[Day]) -> Range {
    let end = || {
        let newest = days
            .last()
            .map_or(0, |day| (day.number + 1).saturating_mul(DAY_MS));
        newest
            .min(unix_ms().saturating_add(1))
            .max(held_from_ms.unwrap_or(0))
    };
    let to = range.to_ms.unwrap_or_else(end);
    Range {
        from_ms: Some(
            range
                .from_ms
                .unwrap_or_else(|| held_from_ms.unwrap_or(to).min(to))
                .max(0),
        ),
        to_ms: Some(to),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_no_group_is_the_difference() {
        let call = |took| Columns {
            interval_ms: Some(took),
            status: Some(200),
            ..Columns::default()
        };
        let (mut total, mut group, mut other) = (
            Measures::default(),
            Measures::default(),
            Measures::default(),
        );
        for took in [0, 1, 17, 900] {
            add(&mut total, &call(took));
            add(if took > 10 { &mut group } else { &mut other }, &call(took));
        }
        let group = Group {
            value: "x".into(),
            measures: group,
        };
        assert_eq!(rest(&total, &[group]), other);
    }
}
