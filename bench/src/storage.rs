//! The store by itself: ingest, disk, lists, filters, words and statistics of a SQLite backend.
//!
//! The lines are seeded: 36 hosts, some 200 endpoints, random ids and words, so that `zstd -3` alone leaves about half of a line. The
//! calls are spread over the last day. Making them is not part of the time; splitting, checking and storing a bundle is. A page is
//! open meanwhile: another task reads the newest calls and what has arrived ten times a second.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use clap::Args;
use store::backend::sqlite::{Opened, Sqlite};
use store::backend::{Backend, Retention};
use store::bundle::Bundle;
use store::call::{Query, Range, StatsQuery, TopQuery};
use store::fields::Field;
use store::filter::Filter;
use store::limits::CHUNK_BYTES;
use store::sender::Sender;

use crate::seed::Seed;

/// What to measure.
#[derive(Args)]
pub struct Options {
    /// Calls to store
    #[arg(long, default_value_t = 5_000_000)]
    calls: u64,
    /// Calls in a bundle
    #[arg(long, default_value_t = 2_500)]
    bundle: u64,
    /// Bytes of a line, about
    #[arg(long, default_value_t = 2_000)]
    line: usize,
    /// Repetitions of each query
    #[arg(long, default_value_t = 20)]
    repetitions: usize,
    /// Data folder; one that has calls is read as it is. Without it a new one is made and deleted
    #[arg(long)]
    data: Option<PathBuf>,
    /// Seed of the lines
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

const DAY_MS: u64 = 24 * 3600 * 1000;

/// A word that one line in a million has, and one that none has.
const RARE: &str = "zyzzyva";
const ABSENT: &str = "quokkaless";

/// Lines of one bundle after the other.
struct Lines {
    seed: Seed,
    words: Vec<String>,
    number: u64,
    calls: u64,
    line_bytes: usize,
    start_ms: u64,
}

impl Lines {
    fn new(options: &Options, start_ms: u64) -> Self {
        let mut seed = Seed::new(options.seed);
        let mut letters = Seed::new(7);
        let words = (0..20_000).map(|_| {
            let length = letters.within(3..=10);
            (0..length)
                .map(|_| char::from(*letters.pick(b"etaoinshrdlucmfwypvbgkjq")))
                .collect()
        });
        Self {
            words: words.collect(),
            seed: seed.fork(),
            number: 0,
            calls: options.calls,
            line_bytes: options.line,
            start_ms,
        }
    }

    fn bundle(&mut self, calls: u64) -> Option<String> {
        let end = (self.number + calls).min(self.calls);
        let mut text = String::new();
        while self.number < end {
            self.line(&mut text);
            self.number += 1;
        }
        (!text.is_empty()).then_some(text)
    }

    fn hex(&mut self, digits: usize) -> String {
        let mut hex = String::new();
        while hex.len() < digits {
            hex.push_str(&format!("{:016x}", self.seed.next_u64()));
        }
        hex.truncate(digits);
        hex
    }

    fn line(&mut self, text: &mut String) {
        let n = self.number;
        let start = text.len();
        let seed = &mut self.seed;
        let host = seed.within(0..=35);
        let endpoint = (host * 7 + seed.within(0..=5)) % 220;
        let method = *seed.pick(&["GET", "GET", "GET", "POST", "PUT"]);
        let status = match seed.within(0..=999) {
            0..=19 => 500,
            20..=69 => 404,
            70..=149 => 201,
            _ => 200,
        };
        // One in a million, and the first of them early.
        let is_rare = n % 1_000_000 == 500;
        let status = if is_rare { 418 } else { status };
        let took = seed.within(1..=400);
        let first = seed.within(1..=took);
        let client = seed.within(1..=250);
        let id = seed.within(1..=9_999_999);
        let connection = seed.next_u64();
        let now = self.start_ms
            + (u128::from(n) * u128::from(DAY_MS) / u128::from(self.calls.max(1))) as u64;
        let (token, trace, agent) = (self.hex(40), self.hex(32), self.hex(16));
        text.push_str(&format!(
            r#"[["request_method","{method}"],["request_url","http://svc-{host}.example.test/v1/area{endpoint}/items/{id}"],["response_code","{status}"],["request_header:user-agent","client/{agent}"],["request_header:authorization","Bearer {token}"],["request_header:x-request-id","{trace}"],["request_header:accept","application/json"],["response_header:content-type","application/json; charset=utf-8"],["response_header:server","gateway"],["response_body","{{"#,
        ));
        let mut member = 0;
        while text.len() - start + 420 < self.line_bytes {
            let key = self.hex(16);
            text.push_str(&format!(r#"\"f{member}\":\"{key} "#));
            for _ in 0..6 {
                let word = self.seed.within(0..=self.words.len() - 1);
                text.push_str(&self.words[word]);
                text.push(' ');
            }
            text.push_str(r#"\","#);
            member += 1;
        }
        if is_rare {
            text.push_str(&format!(r#"\"rare\":\"{RARE}\","#));
        }
        let exchange = self.hex(32);
        text.push_str(&format!(
            r#"\"end\":{n}}}"],["now","{now}"],["interval","{took}"],["custom_field:exchange_id","{exchange}"],["custom_field:connection_id","{connection:016x}"],["custom_field:client_address","10.0.0.{client}"],["custom_field:client_port","{}"],["custom_field:server_address","10.1.0.{host}"],["custom_field:server_port","8080"],["custom_field:request_ended","{now}000000"],["custom_field:response_started","{}000000"],["custom_field:http_version","1.1"],["custom_field:vni","{}"],["host","node-{}"]]"#,
            40_000 + client,
            now + first as u64,
            100 + host % 4,
            host % 3,
        ));
        text.push('\n');
    }
}

/// Measures, and prints a table.
///
/// # Errors
/// The store cannot be opened, or does not answer.
pub fn run(options: &Options) -> Result<()> {
    let made = tempfile::tempdir().context("a folder")?;
    let folder = options.data.as_deref().unwrap_or(made.path());
    let retention = Retention {
        calls_max: u64::MAX >> 1,
        database_bytes_max: u64::MAX >> 1,
        ..Retention::default()
    };
    let store = Opened::new(folder)?.start(retention)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as u64;
    let start_ms = now_ms - DAY_MS;
    println!("| what | p50 | p95 | |\n| --- | --- | --- | --- |");
    if runtime.block_on(store.totals())?.calls == 0 {
        ingest(&runtime, &store, options, start_ms)?;
    }
    queries(&runtime, &store, options)?;
    runtime.block_on(store.close())
}

fn ingest(
    runtime: &tokio::runtime::Runtime,
    store: &Sqlite,
    options: &Options,
    start_ms: u64,
) -> Result<()> {
    let mut lines = Lines::new(options, start_ms);
    let sample = lines.bundle(2_000).context("calls")?;
    let each: usize = sample
        .lines()
        .map(|line| zstd::bulk::compress(line.as_bytes(), 3).map_or(0, |line| line.len()))
        .sum();
    let together = zstd::bulk::compress(sample.as_bytes(), 3)?.len();
    let bytes = sample.len() as f64;
    println!(
        "| a line | {:.0} B | | zstd -3 of each line {:.3}, of all together {:.3} |",
        bytes / 2_000.0,
        each as f64 / bytes,
        together as f64 / bytes
    );
    for level in [1, 3, 6, 9] {
        compression(&sample, level)?;
    }
    let mut lines = Lines::new(options, start_ms);
    let is_over = Arc::new(AtomicBool::new(false));
    let page = {
        let (store, is_over) = (store.clone(), Arc::clone(&is_over));
        runtime.spawn(async move {
            let mut at = store.arrivals().borrow().clone();
            while !is_over.load(Ordering::Relaxed) {
                let query = Query {
                    limit: 200,
                    ..Query::default()
                };
                store.list(query).await.map_err(anyhow::Error::from)?;
                at = store.arrived(at, Filter::default()).await?.newest;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            anyhow::Ok(())
        })
    };
    let (mut taken, mut stored, mut bytes) = (Duration::ZERO, 0, 0);
    let mut longest = Duration::ZERO;
    while let Some(text) = lines.bundle(options.bundle) {
        bytes += text.len();
        let start = Instant::now();
        let bundle = Bundle::split(text.into(), None, Sender::Capture)?;
        stored += bundle.calls();
        runtime.block_on(store.insert(bundle))?;
        taken += start.elapsed();
        longest = longest.max(start.elapsed());
    }
    is_over.store(true, Ordering::Relaxed);
    runtime.block_on(page)??;
    println!(
        "| ingest | {:.0} calls/s | | {stored} calls, longest wait of a bundle {longest:.1?} |",
        stored as f64 / taken.as_secs_f64()
    );
    let totals = runtime.block_on(store.totals())?;
    println!(
        "| disk | {:.0} B a call | | {:.3} of the line |",
        totals.database_bytes as f64 / stored as f64,
        totals.database_bytes as f64 / bytes as f64
    );
    Ok(())
}

/// A row for a level of compression, of lines as the store puts them together.
fn compression(sample: &str, level: i32) -> Result<()> {
    let chunks: Vec<&[u8]> = sample.as_bytes().chunks(CHUNK_BYTES).collect();
    let start = Instant::now();
    let mut packed = Vec::new();
    for chunk in &chunks {
        packed.push(zstd::bulk::compress(chunk, level)?);
    }
    let packing = start.elapsed();
    let start = Instant::now();
    for chunk in &packed {
        zstd::bulk::decompress(chunk, CHUNK_BYTES)?;
    }
    let unpacking = start.elapsed();
    let megabytes = sample.len() as f64 / 1e6;
    let bytes: usize = packed.iter().map(Vec::len).sum();
    println!(
        "| chunks of lines, level {level} | {:.0} MB/s | | {:.3} of the lines, unpacked at {:.0} MB/s |",
        megabytes / packing.as_secs_f64(),
        bytes as f64 / sample.len() as f64,
        megabytes / unpacking.as_secs_f64()
    );
    Ok(())
}

fn queries(runtime: &tokio::runtime::Runtime, store: &Sqlite, options: &Options) -> Result<()> {
    let page = |text: &str| -> Result<Query> {
        Ok(Query {
            filter: Filter::parse(text).map_err(|error| anyhow::anyhow!("{text}: {error}"))?,
            limit: 200,
            ..Query::default()
        })
    };
    let newest = runtime.block_on(store.list(page("")?))?;
    let newest_ms = newest.calls.first().context("calls")?.time_ms;
    let filters = [
        "",
        "status >= 500",
        "took > 200",
        "status == 418",
        "status == 299",
        "took > 10min",
        "host == \"svc-7.example.test\"",
        "host == \"nowhere\"",
        "method == POST and status == 500 and took > 390",
        "host == \"svc-7.example.test\" and status == 418",
        "method in (PUT, PATCH) and vni == 102 and took < 3",
        "not status == 200 and not status in (201, 404, 500, 418)",
        "fact.none > 5",
        "path ~ \"items/777777\"",
        "path ~ \"items/x\"",
        "host ~ \"svc-9\"",
    ];
    for text in filters {
        let query = page(text)?;
        report(options, &format!("list `{text}`"), || {
            let page = runtime.block_on(store.list(query.clone()))?;
            Ok(format!(
                "{} calls, timed out: {}",
                page.calls.len(),
                page.timed_out
            ))
        })?;
    }
    let mut half = page("")?;
    half.range.to_ms = Some(newest_ms - (DAY_MS / 2) as i64);
    report(options, "list, from the middle of the day", || {
        Ok(format!(
            "{} calls",
            runtime.block_on(store.list(half.clone()))?.calls.len()
        ))
    })?;
    // The newest million, as much time as it takes.
    let totals = runtime.block_on(store.totals())?;
    let million = (DAY_MS as f64 * (1e6 / totals.calls as f64).min(1.0)) as i64;
    for word in [RARE, ABSENT, "0123456789abcdef"] {
        let query = Query {
            range: Range {
                from_ms: Some(newest_ms - million),
                to_ms: None,
            },
            ..page(word)?
        };
        report(
            options,
            &format!("word `{word}` in the newest million"),
            || {
                let (mut found, mut rounds) = (0, 0);
                let mut query = query.clone();
                loop {
                    let page = runtime.block_on(store.list(query.clone()))?;
                    found += page.calls.len();
                    rounds += 1;
                    match page.next {
                        Some(next) => query.before = Some(next),
                        None => return Ok(format!("{found} calls in {rounds} answers")),
                    }
                }
            },
        )?;
    }
    let day = Range {
        from_ms: Some(newest_ms - DAY_MS as i64),
        to_ms: Some(newest_ms + 1),
    };
    for (text, by) in [
        ("", None),
        ("", Some(Field::Endpoint)),
        ("host == \"svc-7.example.test\"", Some(Field::Endpoint)),
        ("method == POST", Some(Field::Host)),
        ("status >= 500", Some(Field::Endpoint)),
        ("endpoint == \"/v1/area7/items/*\"", None),
        ("took > 200 and vni == 101", Some(Field::Status)),
        ("zyzzyva", None),
    ] {
        let query = StatsQuery {
            filter: Filter::parse(text).map_err(|error| anyhow::anyhow!("{text}: {error}"))?,
            range: day,
            step_ms: 60_000,
            by,
            groups_max: 50,
        };
        let name = format!("statistics of the day, `{text}` by {by:?}");
        report(options, &name, || {
            let stats = runtime.block_on(store.stats(query.clone()))?;
            Ok(format!(
                "{} calls, {} groups, partial: {}",
                stats.total.calls,
                stats.groups.len(),
                stats.coverage.partial.is_some()
            ))
        })?;
    }
    let query = TopQuery {
        filter: Filter::default(),
        range: day,
        field: Field::Host,
        limit: 10,
    };
    report(options, "top hosts of the day", || {
        let top = runtime.block_on(store.top(query.clone()))?;
        Ok(format!("{} values", top.values.len()))
    })?;
    let some = newest.calls.first().context("calls")?.id.clone();
    report(options, "one call with its line", || {
        let call = runtime.block_on(store.call(some.clone()))?;
        Ok(format!("{} B", call.context("the call")?.line.len()))
    })
}

/// A row of the table. The first repetition is not counted: it is in the last column.
fn report(options: &Options, name: &str, mut query: impl FnMut() -> Result<String>) -> Result<()> {
    let mut times = Vec::new();
    let start = Instant::now();
    let mut answer = query()?;
    let first = start.elapsed();
    let mut budget = Duration::from_secs(20).saturating_sub(first);
    for _ in 0..options.repetitions {
        let start = Instant::now();
        answer = query()?;
        times.push(start.elapsed());
        budget = budget.saturating_sub(start.elapsed());
        if budget.is_zero() {
            break;
        }
    }
    times.sort_unstable();
    let at = |part: f64| times[((times.len() - 1) as f64 * part).round() as usize];
    println!(
        "| {name} | {:.1?} | {:.1?} | {answer}; first {first:.1?} |",
        at(0.5),
        at(0.95)
    );
    Ok(())
}
