//! Which calls of a block match a filter, as far as its columns decide that, and the search in the lines of the others.
//!
//! A comparison of numbers looks at the least and the largest of the block first, one of texts at each text of the block's
//! dictionary once, and a word at the grams of the block's lines. What the columns do not have, such as words, headers and bodies, is looked for in the lines: in a whole chunk
//! of them first, then in those lines that are left. The tree itself decides in the end.

use std::collections::HashMap;
use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use rusqlite::Connection;

use super::block::{Block, MARK_FACTS_CUT, NONE, Number, Text, Texts};
use super::chunk::{Packed, Unpacker, unpacker};
use super::room::SEARCHES;
use crate::fields::Field;
use crate::filter::names::{ANNOTATION, Source};
use crate::filter::tree::{Comparison, Constant, Order, Test};
use crate::filter::{Expression, Filter, Value};
use crate::limits::{SEARCH_BATCH_BYTES, SEARCH_THREADS};
use crate::line::{self, APART, Columns};

/// Whether a call matches; in this order `and` is the least of two, and `or` the largest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Verdict {
    No,
    /// The line decides.
    Unknown,
    Yes,
}

impl Verdict {
    fn of(matches: bool) -> Self {
        if matches { Self::Yes } else { Self::No }
    }

    fn not(self) -> Self {
        match self {
            Self::No => Self::Yes,
            Self::Unknown => Self::Unknown,
            Self::Yes => Self::No,
        }
    }
}

/// The verdicts on all calls of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdicts {
    All(Verdict),
    Each(Vec<Verdict>),
}

impl Verdicts {
    pub(super) fn of(&self, row: usize) -> Verdict {
        match self {
            Self::All(verdict) => *verdict,
            Self::Each(verdicts) => verdicts.get(row).copied().unwrap_or(Verdict::No),
        }
    }

    pub(super) fn is_no(&self) -> bool {
        match self {
            Self::All(verdict) => *verdict == Verdict::No,
            Self::Each(verdicts) => verdicts.iter().all(|&verdict| verdict == Verdict::No),
        }
    }

    fn join(self, other: Self, choose: fn(Verdict, Verdict) -> Verdict) -> Self {
        match (self, other) {
            (Self::All(a), Self::All(b)) => Self::All(choose(a, b)),
            (Self::All(a), Self::Each(mut each)) | (Self::Each(mut each), Self::All(a)) => {
                each.iter_mut().for_each(|b| *b = choose(a, *b));
                Self::Each(each)
            }
            (Self::Each(mut a), Self::Each(b)) => {
                a.iter_mut().zip(b).for_each(|(a, b)| *a = choose(*a, b));
                Self::Each(a)
            }
        }
    }
}

/// Names of senders by their row.
pub(super) type Senders = HashMap<i64, String>;

pub(super) fn senders(connection: &Connection) -> rusqlite::Result<Senders> {
    let mut select = connection.prepare_cached("SELECT id, name FROM senders")?;
    select
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}

/// What the columns of a block say about its calls.
pub(super) fn judge(
    block: &Block<'_>,
    senders: &Senders,
    expression: &Expression,
) -> anyhow::Result<Verdicts> {
    Ok(match expression {
        Expression::And(parts) => {
            let mut verdicts = Verdicts::All(Verdict::Yes);
            // Those that the head of the block decides come first.
            if parts.iter().any(|part| is_excluded(block, part)) {
                return Ok(Verdicts::All(Verdict::No));
            }
            for part in parts {
                verdicts = verdicts.join(judge(block, senders, part)?, Verdict::min);
                if verdicts.is_no() {
                    return Ok(Verdicts::All(Verdict::No));
                }
            }
            verdicts
        }
        Expression::Or(parts) => {
            let mut verdicts = Verdicts::All(Verdict::No);
            for part in parts {
                verdicts = verdicts.join(judge(block, senders, part)?, Verdict::max);
            }
            verdicts
        }
        Expression::Not(part) => match judge(block, senders, part)? {
            Verdicts::All(verdict) => Verdicts::All(verdict.not()),
            Verdicts::Each(mut verdicts) => {
                verdicts
                    .iter_mut()
                    .for_each(|verdict| *verdict = verdict.not());
                Verdicts::Each(verdicts)
            }
        },
        Expression::Word(word) => Verdicts::All(if block.may_contain(word)? {
            Verdict::Unknown
        } else {
            Verdict::No
        }),
        Expression::Compare(comparison) => compare(block, senders, comparison)?,
    })
}

/// Whether the head alone shows that no call matches.
fn is_excluded(block: &Block<'_>, expression: &Expression) -> bool {
    match expression {
        Expression::Compare(Comparison {
            source: Source::Field(field),
            test,
        }) => Number::of(*field).is_some_and(|number| {
            let extent = block.head.extent(number);
            extent.is_empty() || !may_pass(test, extent.least as f64, extent.most as f64)
        }),
        Expression::And(parts) => parts.iter().any(|part| is_excluded(block, part)),
        Expression::Or(parts) => {
            !parts.is_empty() && parts.iter().all(|part| is_excluded(block, part))
        }
        _ => false,
    }
}

/// Whether some number from `least` to `most` may pass.
fn may_pass(test: &Test, least: f64, most: f64) -> bool {
    match test {
        Test::In(constants) => constants.iter().any(|constant| match constant {
            Constant::Number(number) => (least..=most).contains(number),
            Constant::Text(_) => true,
        }),
        Test::Ordered(order, right) => match order {
            Order::Less | Order::AtMost => order.holds(least, *right),
            Order::Greater | Order::AtLeast => order.holds(most, *right),
        },
        Test::Found(_) => true,
    }
}

fn compare(
    block: &Block<'_>,
    senders: &Senders,
    Comparison { source, test }: &Comparison,
) -> anyhow::Result<Verdicts> {
    let field = match source {
        Source::Field(field) => *field,
        Source::Detail(name) => {
            return match name.strip_prefix(ANNOTATION) {
                Some(annotation) => compare_fact(block, annotation, test),
                None => Ok(Verdicts::All(Verdict::Unknown)),
            };
        }
    };
    if let Some(number) = Number::of(field) {
        return compare_numbers(block, number, test);
    }
    if let Some(text) = Text::of(field) {
        return Ok(compare_texts(&*block.texts(text)?, test));
    }
    if field == Field::Sender {
        let numbers = block.numbers(Number::Sender)?;
        let passes = |name: &String| Verdict::of(test.passes(&Value::of_column(name)));
        let known: HashMap<i64, Verdict> = senders
            .iter()
            .map(|(&id, name)| (id, passes(name)))
            .collect();
        let verdict = |id| known.get(id).copied().unwrap_or(Verdict::No);
        return Ok(Verdicts::Each(numbers.iter().map(verdict).collect()));
    }
    let mut verdicts = Vec::with_capacity(block.rows());
    block.each_url(|url| verdicts.push(verdict_on_text(url, test)))?;
    Ok(Verdicts::Each(verdicts))
}

fn compare_numbers(block: &Block<'_>, number: Number, test: &Test) -> anyhow::Result<Verdicts> {
    let extent = block.head.extent(number);
    let passes =
        |number: i64| Verdict::of(number != NONE && test.passes(&Value::Number(number as f64)));
    if extent.is_empty() || !may_pass(test, extent.least as f64, extent.most as f64) {
        return Ok(Verdicts::All(Verdict::No));
    }
    if !extent.has_none && extent.least == extent.most {
        return Ok(Verdicts::All(passes(extent.least)));
    }
    let numbers = block.numbers(number)?;
    // As [`Test::passes`], with the decision on the test made once.
    Ok(match test {
        Test::Ordered(Order::Less, right) => each(&numbers, |n| n < *right),
        Test::Ordered(Order::AtMost, right) => each(&numbers, |n| n <= *right),
        Test::Ordered(Order::Greater, right) => each(&numbers, |n| n > *right),
        Test::Ordered(Order::AtLeast, right) => each(&numbers, |n| n >= *right),
        Test::In(constants) => {
            let numbers_of = constants.iter().filter_map(|constant| match constant {
                Constant::Number(number) => Some(*number),
                Constant::Text(_) => None,
            });
            let wanted: Vec<f64> = numbers_of.collect();
            each(&numbers, |n| wanted.contains(&n))
        }
        Test::Found(_) => Verdicts::All(Verdict::No),
    })
}

fn each(numbers: &[i64], passes: impl Fn(f64) -> bool) -> Verdicts {
    let verdict = |&n: &i64| Verdict::of(n != NONE && passes(n as f64));
    Verdicts::Each(numbers.iter().map(verdict).collect())
}

/// A text that was cut when it was put into its column is decided by the line.
fn verdict_on_text(text: &str, test: &Test) -> Verdict {
    match Value::of_column(text) {
        Value::Unknown => Verdict::Unknown,
        value => Verdict::of(test.passes(&value)),
    }
}

fn compare_texts(texts: &Texts, test: &Test) -> Verdicts {
    // A text that is nowhere in all of them is in none, unless one was cut.
    if let Test::Found(pattern) = test
        && pattern.literal().is_some()
        && !pattern.is_found_in(texts.all_words())
        && !texts.words().any(line::is_cut)
    {
        return Verdicts::All(Verdict::No);
    }
    let words: Vec<Verdict> = texts
        .words()
        .map(|text| verdict_on_text(text, test))
        .collect();
    match words.as_slice() {
        [] => Verdicts::All(Verdict::No),
        [first, rest @ ..] if rest.iter().all(|verdict| verdict == first) => Verdicts::All(*first),
        _ => {
            let of = |&code: &u32| words.get(code as usize).copied().unwrap_or(Verdict::No);
            Verdicts::Each(texts.codes.iter().map(of).collect())
        }
    }
}

fn compare_fact(block: &Block<'_>, name: &str, test: &Test) -> anyhow::Result<Verdicts> {
    if APART.contains(&name) {
        return Ok(Verdicts::All(Verdict::Unknown));
    }
    let verdicts = match block.fact(name)? {
        Some(texts) => compare_texts(&texts, test),
        None => Verdicts::All(Verdict::No),
    };
    let marks = block.head.extent(Number::Marks);
    if marks.most & MARK_FACTS_CUT == 0 && marks.most < MARK_FACTS_CUT << 1 {
        return Ok(verdicts);
    }
    let marks = block.numbers(Number::Marks)?;
    let each = (0..block.rows()).map(|row| {
        let is_cut = marks
            .get(row)
            .is_some_and(|mark| mark & MARK_FACTS_CUT != 0);
        if is_cut {
            Verdict::Unknown
        } else {
            verdicts.of(row)
        }
    });
    Ok(Verdicts::Each(each.collect()))
}

/// Those of some calls of a block that match by their lines too. Rows and their numbers are in ascending order.
pub(super) fn search(
    connection: &Connection,
    block: &Block<'_>,
    senders: &Senders,
    filter: &Filter,
    rows: &[usize],
) -> anyhow::Result<Vec<usize>> {
    let arrivals = block.numbers(Number::Arrival)?;
    let arrivals: Vec<u64> = rows
        .iter()
        .map(|&row| block.head.arrival(&arrivals, row))
        .collect();
    let (Some(&first), Some(&last)) = (arrivals.first(), arrivals.last()) else {
        return Ok(Vec::new());
    };
    let mut matching = Vec::new();
    let mut bytes = 0;
    let mut examine = |places: &[u64], bytes: usize| -> anyhow::Result<()> {
        let _room = SEARCHES.take(bytes);
        let mut batch = Vec::with_capacity(places.len());
        for &first in places {
            batch.extend(Packed::of(connection, first)?);
        }
        for (at, line) in candidates(&batch, &arrivals, filter.expression())? {
            let row = rows[at];
            if filter.matches_known(&columns(block, senders, row)?, &line) {
                matching.push(row);
            }
        }
        Ok(())
    };
    let mut places = Vec::new();
    for (first, end, of_chunk) in Packed::places(connection, first, last)? {
        let next = arrivals.partition_point(|&arrival| arrival < first);
        if arrivals.get(next).is_none_or(|&arrival| arrival >= end) {
            continue;
        }
        if bytes + of_chunk > SEARCH_BATCH_BYTES && !places.is_empty() {
            examine(&std::mem::take(&mut places), bytes)?;
            bytes = 0;
        }
        places.push(first);
        bytes += of_chunk;
    }
    examine(&places, bytes)?;
    Ok(matching)
}

/// All columns of a call.
pub(super) fn columns(block: &Block<'_>, senders: &Senders, row: usize) -> anyhow::Result<Columns> {
    let mut columns = block.columns(row)?;
    if let Some(sender) = block.number(Number::Sender, row)? {
        columns.sender = senders.get(&sender).cloned().unwrap_or_default();
    }
    Ok(columns)
}

/// The lines that may match, with their places in `arrivals`, in order. Several threads unpack the chunks.
fn candidates(
    chunks: &[Packed],
    arrivals: &[u64],
    expression: &Expression,
) -> anyhow::Result<Vec<(usize, String)>> {
    let next = AtomicUsize::new(0);
    let found = Mutex::new(Ok(Vec::new()));
    let work = || {
        let mut unpacker = unpacker();
        loop {
            let Some(chunk) = chunks.get(next.fetch_add(1, Ordering::Relaxed)) else {
                return;
            };
            let lines = match &mut unpacker {
                Ok(unpacker) => candidates_of(chunk, unpacker, arrivals, expression),
                Err(error) => Err((*error).into()),
            };
            let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
            match (&mut *found, lines) {
                (Ok(found), Ok(lines)) => found.extend(lines),
                (found @ Ok(_), Err(error)) => *found = Err(error),
                (Err(_), _) => return,
            }
        }
    };
    let threads = SEARCH_THREADS.min(processors()).min(chunks.len());
    let work = &work;
    std::thread::scope(|scope| {
        for _ in 1..threads {
            // Without a further thread this one does it all.
            drop(std::thread::Builder::new().spawn_scoped(scope, work));
        }
        work();
    });
    let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner)?;
    found.sort_unstable_by_key(|(at, _)| *at);
    Ok(found)
}

/// Processors of this machine that the process may use: more threads would only take them from others.
fn processors() -> usize {
    static PROCESSORS: OnceLock<usize> = OnceLock::new();
    *PROCESSORS.get_or_init(|| std::thread::available_parallelism().map_or(1, NonZero::get))
}

fn candidates_of(
    chunk: &Packed,
    unpacker: &mut Unpacker,
    arrivals: &[u64],
    expression: &Expression,
) -> anyhow::Result<Vec<(usize, String)>> {
    let plain = chunk.unpack_with(unpacker)?;
    if !may_match(expression, &plain.text) {
        return Ok(Vec::new());
    }
    let start = arrivals.partition_point(|&arrival| arrival < chunk.first);
    let end = arrivals.partition_point(|&arrival| arrival < chunk.end());
    let lines = (start..end).filter_map(|at| {
        let line = plain.line(arrivals[at])?;
        may_match(expression, line).then(|| (at, line.to_owned()))
    });
    Ok(lines.collect())
}

/// Whether some line of a text may match; only words are looked at.
fn may_match(expression: &Expression, text: &str) -> bool {
    match expression {
        Expression::And(parts) => parts.iter().all(|part| may_match(part, text)),
        Expression::Or(parts) => parts.iter().any(|part| may_match(part, text)),
        Expression::Not(_) | Expression::Compare(_) => true,
        Expression::Word(word) => word.may_occur_in(text),
    }
}
