//! Statistics, computed from the columns of the blocks: exact for every filter on columns, late calls included.
//!
//! For a time whose calls were deleted by the retention the counts by the minute answer instead, where the filter is one on what
//! they are counted by; see `minutes`.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use rusqlite::Connection;

use super::super::block::{Block, Head, NONE, Number, Text};
use super::super::gate::Gate;
use super::super::heads::Heads;
use super::super::judge::{Senders, Verdict, Verdicts, judge, search, senders};
use super::super::minutes;
use super::coverage::coverage;
use crate::call::{Group, Measures, Point, Range, Stats, StatsQuery, Top, TopQuery};
use crate::fields::Field;
use crate::filter::Filter;
use crate::histogram::{Histogram, SLOTS, slot};
use crate::limits::{
    COUNT_THREADS, GROUPS_COUNTED_MAX, GROUPS_MAX, SEARCH_TIME_MAX, SERIES_POINTS_MAX,
};

/// Sums that are fast to add to.
struct Tally {
    measures: Measures,
    took: Box<[u64; SLOTS]>,
    first_byte: Box<[u64; SLOTS]>,
    sizes: Box<[u64; SLOTS]>,
}

impl Tally {
    fn new() -> Self {
        Self {
            measures: Measures::default(),
            took: Box::new([0; SLOTS]),
            first_byte: Box::new([0; SLOTS]),
            sizes: Box::new([0; SLOTS]),
        }
    }

    fn merge(&mut self, other: &Self) {
        self.measures.merge(&other.measures);
        for (slots, more) in [
            (&mut self.took, &other.took),
            (&mut self.first_byte, &other.first_byte),
            (&mut self.sizes, &other.sizes),
        ] {
            add(slots, more);
        }
    }

    fn measures(mut self) -> Measures {
        self.measures.took.merge(&Histogram::of_slots(&self.took));
        self.measures
            .first_byte
            .merge(&Histogram::of_slots(&self.first_byte));
        self.measures.sizes.merge(&Histogram::of_slots(&self.sizes));
        self.measures
    }
}

fn add(slots: &mut [u64; SLOTS], more: &[u64; SLOTS]) {
    for (slot, more) in slots.iter_mut().zip(more) {
        *slot += more;
    }
}

/// Groups by the value that their calls have in common. The first one has what is counted with no other.
struct Groups {
    tallies: Vec<Tally>,
    names: Vec<String>,
    known: HashMap<String, usize>,
    numbers: HashMap<i64, usize>,
}

impl Groups {
    fn new() -> Self {
        Self {
            tallies: vec![Tally::new()],
            names: vec![String::new()],
            known: HashMap::new(),
            numbers: HashMap::new(),
        }
    }

    fn of(&mut self, name: &str) -> usize {
        if let Some(&group) = self.known.get(name) {
            return group;
        }
        if self.known.len() >= GROUPS_COUNTED_MAX {
            return 0;
        }
        let group = self.tallies.len();
        self.tallies.push(Tally::new());
        self.names.push(name.to_owned());
        self.known.insert(name.to_owned(), group);
        group
    }

    fn merge(&mut self, other: &Self) {
        for (index, (name, tally)) in other.names.iter().zip(&other.tallies).enumerate() {
            let group = match index {
                0 => 0,
                _ => self.of(name),
            };
            self.tallies[group].merge(tally);
        }
    }

    fn of_number(&mut self, number: i64) -> usize {
        if let Some(&group) = self.numbers.get(&number) {
            return group;
        }
        let name = if number == NONE {
            String::new()
        } else {
            number.to_string()
        };
        let group = self.of(&name);
        if group > 0 {
            self.numbers.insert(number, group);
        }
        group
    }
}

/// A series whose beginning, end and step are known.
struct Series {
    start_ms: i64,
    step_ms: i64,
    classes: Vec<[u64; 6]>,
    took: Vec<[u64; SLOTS]>,
    /// The point that was used last, and its time: most calls are near those before.
    last: usize,
    last_ms: std::ops::Range<i64>,
}

impl Series {
    fn new(range: Range, step_ms: i64) -> Self {
        let from = range.from_ms.unwrap_or_default();
        let to = range.to_ms.unwrap_or(from).max(from);
        let least = (to - from) / SERIES_POINTS_MAX + 1;
        let step_ms = step_ms.max(least).max(1);
        Self {
            start_ms: from,
            step_ms,
            classes: Vec::new(),
            took: Vec::new(),
            last: 0,
            last_ms: 0..0,
        }
    }

    fn point(&mut self, time_ms: i64) -> usize {
        if self.last_ms.contains(&time_ms) {
            return self.last;
        }
        let point = time_ms.saturating_sub(self.start_ms) / self.step_ms;
        let point = point.clamp(0, SERIES_POINTS_MAX).unsigned_abs() as usize;
        if point >= self.classes.len() {
            self.classes.resize(point + 1, [0; 6]);
            self.took.resize(point + 1, [0; SLOTS]);
        }
        let from = self
            .start_ms
            .saturating_add(self.step_ms.saturating_mul(point as i64));
        self.last = point;
        self.last_ms = from..from.saturating_add(self.step_ms);
        point
    }

    fn merge(&mut self, other: &Self) {
        let missing = other.classes.len().saturating_sub(self.classes.len());
        self.classes.extend((0..missing).map(|_| [0; 6]));
        self.took.extend((0..missing).map(|_| [0; SLOTS]));
        for (classes, more) in self.classes.iter_mut().zip(&other.classes) {
            for (class, more) in classes.iter_mut().zip(more) {
                *class += more;
            }
        }
        for (took, more) in self.took.iter_mut().zip(&other.took) {
            add(took, more);
        }
    }

    fn points(self) -> Vec<Point> {
        let points = self.classes.into_iter().zip(self.took);
        points
            .map(|(classes, took)| Point {
                classes,
                took: Histogram::of_slots(&took),
            })
            .collect()
    }
}

/// What is counted of the blocks.
trait Count: Send {
    /// Counts calls of a block. Whatever can fail comes before anything is counted.
    fn count(
        &mut self,
        block: &Block<'_>,
        senders: &Senders,
        rows: &mut dyn Iterator<Item = usize>,
    ) -> anyhow::Result<()>;
}

/// The blocks of a range, for as long as there is time.
struct Walk<'a> {
    connection: &'a Connection,
    /// For another thread.
    helper: &'a mut Connection,
    gate: &'a Gate,
    heads: &'a Heads,
    filter: &'a Filter,
    range: Range,
}

impl Walk<'_> {
    /// Passes the matching calls of each block on, those that arrived last first; the part of the calls that was examined. It
    /// pauses for a checkpoint, and goes on with the calls that arrived before those that it has seen, in whatever blocks they
    /// are then.
    ///
    /// Two threads take one block after the other. The other connection may see a later state of the database: a block that is
    /// there no more is left to this one, and one that is there is the same, since blocks never change.
    fn each<C: Count>(&mut self, counts: &mut [C; COUNT_THREADS]) -> anyhow::Result<f64> {
        let start = Instant::now();
        let mut below = u64::MAX;
        let mut examined = 0;
        let [own, other] = counts;
        loop {
            let gate = self.gate;
            let _inside = gate.enter();
            let snapshot = self.connection.unchecked_transaction()?;
            let senders = senders(&snapshot)?;
            let mut heads = self.heads.of(&snapshot, self.range)?;
            heads.retain(|head| head.first < below);
            heads.sort_unstable_by_key(|head| Reverse(head.first));
            let left: usize = heads.iter().map(|head| head.rows).sum();
            let all = examined + left;
            let is_late = || start.elapsed() > SEARCH_TIME_MAX;
            // Once one thread has stopped no other takes a block, so that those that are done are the first ones.
            let taken = Mutex::new(0);
            let take = || {
                let mut taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
                let stops = is_late() || (*taken > 0 && gate.is_closing());
                let index = *taken;
                if stops || index >= heads.len() {
                    return None;
                }
                *taken += 1;
                Some(index)
            };
            let job = Job {
                filter: self.filter,
                range: self.range,
                senders: &senders,
                below,
            };
            let helper = &mut *self.helper;
            let failed = Mutex::new(Vec::new());
            std::thread::scope(|scope| {
                let help = || {
                    let Ok(snapshot) = helper.transaction() else {
                        return;
                    };
                    while let Some(index) = take() {
                        if job.count(&snapshot, &heads[index], other).is_err() {
                            let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                            failed.push(index);
                        }
                    }
                };
                if heads.len() > 1 {
                    // Without a further thread this one does it all.
                    drop(std::thread::Builder::new().spawn_scoped(scope, help));
                }
                while let Some(index) = take() {
                    job.count(&snapshot, &heads[index], own)?;
                }
                anyhow::Ok(())
            })?;
            for index in failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
                job.count(&snapshot, &heads[index], own)?;
            }
            let done = taken.into_inner().unwrap_or_else(PoisonError::into_inner);
            examined += heads[..done].iter().map(|head| head.rows).sum::<usize>();
            if done == heads.len() {
                return Ok(1.0);
            }
            if is_late() {
                return Ok(examined as f64 / all as f64);
            }
            below = heads[..done].last().map_or(below, |head| head.first);
        }
    }
}

/// What is the same for all blocks of a walk.
struct Job<'a> {
    filter: &'a Filter,
    range: Range,
    senders: &'a Senders,
    /// Only calls with a smaller number.
    below: u64,
}

impl Job<'_> {
    fn count(
        &self,
        connection: &Connection,
        head: &Head,
        count: &mut impl Count,
    ) -> anyhow::Result<()> {
        let block = &Block::new(connection, head);
        let mut verdicts = judge(block, self.senders, self.filter.expression())?;
        if verdicts.is_no() {
            return Ok(());
        }
        let is_whole =
            self.range.covers(head.oldest_ms(), head.newest_ms()) && head.last < self.below;
        if is_whole && verdicts == Verdicts::All(Verdict::Yes) {
            return count.count(block, self.senders, &mut (0..head.rows));
        }
        let times = block.numbers(Number::Time)?;
        let arrivals = block.numbers(Number::Arrival)?;
        let is_inside = |row: usize| {
            is_whole
                || (times
                    .get(row)
                    .is_some_and(|&time| self.range.contains(time))
                    && head.arrival(&arrivals, row) < self.below)
        };
        let of = |verdicts: &Verdicts, wanted| -> Vec<usize> {
            let rows = (0..head.rows).filter(|&row| verdicts.of(row) == wanted);
            rows.filter(|&row| is_inside(row)).collect()
        };
        let unknown = of(&verdicts, Verdict::Unknown);
        if !unknown.is_empty() {
            let matching = search(connection, block, self.senders, self.filter, &unknown)?;
            let mut each: Vec<_> = (0..head.rows).map(|row| verdicts.of(row)).collect();
            for row in unknown {
                each[row] = Verdict::No;
            }
            for row in matching {
                each[row] = Verdict::Yes;
            }
            verdicts = Verdicts::Each(each);
        }
        let rows = of(&verdicts, Verdict::Yes);
        if rows.is_empty() {
            return Ok(());
        }
        count.count(block, self.senders, &mut rows.into_iter())
    }
}

/// For each call of a block the group that it belongs to.
fn groups_of(
    block: &Block<'_>,
    field: Option<Field>,
    senders: &Senders,
    groups: &mut Groups,
) -> anyhow::Result<Option<Vec<usize>>> {
    let Some(field) = field else { return Ok(None) };
    if let Some(number) = Number::of(field) {
        let numbers = block.numbers(number)?;
        let mut last = (NONE, None);
        let of = |&number: &i64| match last {
            (known, Some(group)) if known == number => group,
            _ => {
                let group = groups.of_number(number);
                last = (number, Some(group));
                group
            }
        };
        return Ok(Some(numbers.iter().map(of).collect()));
    }
    if let Some(text) = Text::of(field) {
        let texts = block.texts(text)?;
        let words: Vec<usize> = texts.words().map(|text| groups.of(text)).collect();
        let of = |&code: &u32| words.get(code as usize).copied().unwrap_or_default();
        return Ok(Some(texts.codes.iter().map(of).collect()));
    }
    if field == Field::Sender {
        let numbers = block.numbers(Number::Sender)?;
        let of = |id: &i64| groups.of(senders.get(id).map_or("", String::as_str));
        return Ok(Some(numbers.iter().map(of).collect()));
    }
    let mut of_row = Vec::with_capacity(block.rows());
    block.each_url(|url| of_row.push(groups.of(url)))?;
    Ok(Some(of_row))
}

/// What statistics count.
struct Tallies {
    by: Option<Field>,
    series: Series,
    groups: Groups,
}

impl Count for Tallies {
    fn count(
        &mut self,
        block: &Block<'_>,
        senders: &Senders,
        rows: &mut dyn Iterator<Item = usize>,
    ) -> anyhow::Result<()> {
        let Self { by, series, groups } = self;
        let numbers = |number| block.numbers(number);
        let (times, statuses) = (numbers(Number::Time)?, numbers(Number::Status)?);
        let (tooks, firsts) = (numbers(Number::Took)?, numbers(Number::FirstByte)?);
        let (requests, responses) = (
            numbers(Number::RequestBytes)?,
            numbers(Number::ResponseBytes)?,
        );
        let of_group = groups_of(block, *by, senders, groups)?;
        let has_first = !block.head.extent(Number::FirstByte).is_empty();
        for row in rows {
            let class = Measures::class(statuses[row]);
            let point = series.point(times[row]);
            series.classes[point][class] += 1;
            let group = of_group.as_ref().map_or(0, |groups| groups[row]);
            let tally = &mut groups.tallies[group];
            tally.measures.calls += 1;
            tally.measures.classes[class] += 1;
            let took = tooks[row];
            if took != NONE {
                let slot = slot(took);
                tally.took[slot] += 1;
                series.took[point][slot] += 1;
            }
            if has_first && firsts[row] != NONE {
                tally.first_byte[slot(firsts[row])] += 1;
            }
            if requests[row] != NONE {
                tally.measures.request_bytes += requests[row].unsigned_abs();
            }
            if responses[row] != NONE {
                tally.measures.response_bytes += responses[row].unsigned_abs();
                tally.sizes[slot(responses[row])] += 1;
            }
        }
        Ok(())
    }
}

pub(super) fn stats(
    connection: &Connection,
    helper: &mut Connection,
    (gate, heads): (&Gate, &Heads),
    query: &StatsQuery,
) -> anyhow::Result<Stats> {
    let (mut coverage, range, counted) = {
        let _inside = gate.enter();
        let snapshot = connection.unchecked_transaction()?;
        let coverage = coverage(&snapshot, heads, query.range)?;
        let range = bounded(&snapshot, query.range)?;
        let is_expired = minutes::expired_to(&snapshot)?
            .is_some_and(|expired| range.from_ms.is_none_or(|from| from <= expired));
        let counted = if is_expired {
            minutes::count(&snapshot, &query.filter, range, query.by)?
        } else {
            None
        };
        (coverage, range, counted)
    };
    let tallies = || Tallies {
        by: query.by,
        series: Series::new(range, query.step_ms),
        groups: Groups::new(),
    };
    let mut both = [tallies(), tallies()];
    if counted.is_none() {
        let mut walk = Walk {
            connection,
            helper,
            gate,
            heads,
            filter: &query.filter,
            range,
        };
        coverage.progress = walk.each(&mut both)?;
        if coverage.progress < 1.0 {
            coverage.partial = Some("the time for one query ran out".into());
        }
    }
    let [
        Tallies {
            mut series,
            mut groups,
            ..
        },
        other,
    ] = both;
    series.merge(&other.series);
    groups.merge(&other.groups);
    for minute in counted.unwrap_or_default() {
        let point = series.point(minute.time_ms);
        let group = match query.by {
            Some(_) => groups.of(&minute.value),
            None => 0,
        };
        for (class, calls) in minute.measures.classes.iter().enumerate() {
            series.classes[point][class] += calls;
        }
        minute.measures.took.add_to_slots(&mut series.took[point]);
        groups.tallies[group].measures.merge(&minute.measures);
    }
    let (start_ms, step_ms) = (series.start_ms, series.step_ms);
    let mut total = Measures::default();
    let mut all = Vec::new();
    for (value, tally) in groups.names.into_iter().zip(groups.tallies) {
        let measures = tally.measures();
        total.merge(&measures);
        all.push(Group { value, measures });
    }
    // The first one has what belongs to no group.
    let mut other = all.swap_remove(0).measures;
    all.sort_by(|a, b| {
        let order = b.measures.calls.cmp(&a.measures.calls);
        order.then_with(|| a.value.cmp(&b.value))
    });
    all.retain(|group| group.measures.calls > 0);
    for group in all.drain(query.groups_max.min(GROUPS_MAX).min(all.len())..) {
        other.merge(&group.measures);
    }
    if query.by.is_none() {
        other = Measures::default();
    }
    Ok(Stats {
        step_ms,
        start_ms,
        series: series.points(),
        total,
        groups: all,
        other,
        coverage,
    })
}

/// The range with the oldest and the newest call for a bound that is missing.
fn bounded(connection: &Connection, range: Range) -> anyhow::Result<Range> {
    let (oldest, newest): (Option<i64>, Option<i64>) = connection
        .prepare_cached("SELECT min(oldest_ms), max(newest_ms) FROM blocks")?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(Range {
        from_ms: range.from_ms.or(oldest),
        to_ms: range
            .to_ms
            .or(newest.map(|newest| newest.saturating_add(1))),
    })
}

/// How many calls have a value.
struct Values {
    field: Field,
    groups: Groups,
    counts: Vec<u64>,
}

impl Count for Values {
    fn count(
        &mut self,
        block: &Block<'_>,
        senders: &Senders,
        rows: &mut dyn Iterator<Item = usize>,
    ) -> anyhow::Result<()> {
        let of_row = groups_of(block, Some(self.field), senders, &mut self.groups)?;
        self.counts.resize(self.groups.names.len(), 0);
        if let Some(of_row) = of_row {
            for row in rows {
                self.counts[of_row[row]] += 1;
            }
        }
        Ok(())
    }
}

pub(super) fn top(
    connection: &Connection,
    helper: &mut Connection,
    (gate, heads): (&Gate, &Heads),
    query: &TopQuery,
) -> anyhow::Result<Top> {
    let mut coverage = {
        let _inside = gate.enter();
        let snapshot = connection.unchecked_transaction()?;
        coverage(&snapshot, heads, query.range)?
    };
    let values = || Values {
        field: query.field,
        groups: Groups::new(),
        counts: Vec::new(),
    };
    let mut both = [values(), values()];
    let mut walk = Walk {
        connection,
        helper,
        gate,
        heads,
        filter: &query.filter,
        range: query.range,
    };
    coverage.progress = walk.each(&mut both)?;
    let [
        Values {
            mut groups,
            mut counts,
            ..
        },
        other,
    ] = both;
    for (index, (name, calls)) in other.groups.names.iter().zip(&other.counts).enumerate() {
        let group = match index {
            0 => 0,
            _ => groups.of(name),
        };
        counts.resize(groups.names.len(), 0);
        counts[group] += calls;
    }
    if coverage.progress < 1.0 {
        coverage.partial = Some("the time for one query ran out".into());
    }
    counts.resize(groups.names.len(), 0);
    let mut other = counts[0];
    let mut values: Vec<(String, u64)> = groups.names.into_iter().zip(counts).skip(1).collect();
    values.retain(|(_, calls)| *calls > 0);
    values.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let limit = query.limit.min(GROUPS_MAX).min(values.len());
    other += values.drain(limit..).map(|(_, calls)| calls).sum::<u64>();
    Ok(Top {
        values,
        other,
        coverage,
    })
}
