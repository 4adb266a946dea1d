//! The store by itself: ingest, disk, lists, filters, words and statistics of a SQLite backend, and how long a bundle of the
//! capture waits while others post and old calls are deleted.
//!
//! The lines are seeded (`lines`) and spread over the last day. Making them is no part of the time; splitting, checking and storing
//! a bundle is, of which two are on their way at a time, as from a sniffer. A page is open meanwhile: another task reads the newest
//! calls and what has arrived ten times a second.
//!
//! Each row has the processor time of the whole process beside the time on the clock: on a busy machine only that can be compared.

mod lines;
mod options;
mod post;
mod queries;
mod report;
mod waits;

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use store::backend::any::{AnyBackend, Location};
use store::backend::clickhouse::{Address, Password, Target};
use store::backend::{Backend, Retention};
use store::call::Query;
use store::filter::Filter;
use store::limits::CHUNK_BYTES;
use store::sender::Sender;
use tokio::runtime::Runtime;

use lines::Lines;
use options::DAY_MS;
pub use options::Options;
use post::post;
use report::{Report, cpu, cpu_of_threads, missed};

/// Bundles that are made before they are stored.
const ROUND: usize = 64;

/// Name of the store's writing thread: all bundles wait for it.
const WRITER: &str = "store-writer";

/// What the store has to reach.
const INGEST_MIN: f64 = 25_000.0;
const DISK_MAX: f64 = 0.45;

/// Bytes of a call in a ClickHouse, a quarter of what SQLite's first schema took.
const BACKEND_CALL_BYTES_MAX: f64 = 540.0;

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
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let opened = location(options, folder)?.open()?;
    let store = {
        let _inside = runtime.enter();
        opened.start(retention)?
    };
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as u64;
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("Load of the machine before: {}\n", load.trim());
    if runtime.block_on(store.totals())?.calls == 0 {
        ingest(&runtime, &store, options, now_ms - DAY_MS)?;
    }
    let mut report = Report::new(options, folder);
    queries::all(&runtime, &store, &mut report)?;
    report.end();
    let calls = runtime.block_on(store.totals())?.calls;
    runtime.block_on(store.close())?;
    if options.waits > 0 && options.backend.is_none() {
        waits::measure(&runtime, folder, options, calls)?;
    }
    Ok(())
}

fn ingest(runtime: &Runtime, store: &AnyBackend, options: &Options, start_ms: u64) -> Result<()> {
    let mut lines = Lines::new(options, start_ms);
    let sample = lines.bundle(8_000).context("calls")?;
    println!("{}", compression(&sample)?);
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
    let (mut taken, mut busy) = (Duration::ZERO, Duration::ZERO);
    let of_writer = cpu_of_threads(WRITER);
    let (mut stored, mut bytes) = (0, 0);
    let mut longest = Duration::ZERO;
    loop {
        let mut round = Vec::new();
        while round.len() < ROUND
            && let Some(text) = lines.bundle(options.bundle)
        {
            bytes += text.len();
            round.push(text);
        }
        if round.is_empty() {
            break;
        }
        let (start, before) = (Instant::now(), cpu());
        let (calls, wait) = runtime.block_on(post_all(store, options, round))?;
        taken += start.elapsed();
        busy += cpu() - before;
        stored += calls;
        longest = longest.max(wait);
    }
    is_over.store(true, Ordering::Relaxed);
    runtime.block_on(page)??;
    let a_call = |time: Duration| time.as_secs_f64() * 1e6 / stored as f64;
    let of_writer = a_call(cpu_of_threads(WRITER) - of_writer);
    let rate = stored as f64 / taken.as_secs_f64();
    println!("| what | is | must be | |\n| --- | --- | --- | --- |");
    println!(
        "| ingest | {rate:.0} calls/s{} | {INGEST_MIN:.0} | {stored} calls, processor time {:.1} µs a call, of it {of_writer:.1} µs of the writing thread, longest wait of a bundle {longest:.1?} |",
        missed(rate < INGEST_MIN),
        a_call(busy)
    );
    let totals = runtime.block_on(store.totals())?;
    let part = totals.database_bytes as f64 / bytes as f64;
    let of_call = totals.database_bytes as f64 / stored as f64;
    let (is_missed, most) = match &options.backend {
        None => (part > DISK_MAX, DISK_MAX.to_string()),
        Some(_) => (
            of_call > BACKEND_CALL_BYTES_MAX,
            format!("{BACKEND_CALL_BYTES_MAX} B a call"),
        ),
    };
    println!(
        "| disk | {part:.3} of the line{} | {most} | {of_call:.0} B a call, {:.0} B of line |\n",
        missed(is_missed),
        bytes as f64 / stored as f64
    );
    Ok(())
}

/// Where the calls are stored. The tables of a ClickHouse are made.
fn location(options: &Options, folder: &Path) -> Result<Location> {
    let Some(address) = &options.backend else {
        return Ok(Location::Sqlite(folder.to_owned()));
    };
    let target = Target {
        address: Address::parse(address)?,
        password: Password::new(&std::env::var("SNIFFER_STORE_PASSWORD").unwrap_or_default()),
        reader_password: Password::default(),
    };
    target.migrate()?;
    Ok(Location::ClickHouse(target))
}

/// Some bundles at a time; the number of calls, and the longest wait of a bundle.
async fn post_all(
    store: &AnyBackend,
    options: &Options,
    bundles: Vec<String>,
) -> Result<(usize, Duration)> {
    let waiting = Arc::new(std::sync::Mutex::new(bundles.into_iter()));
    let posters = (0..options.posts).map(|_| {
        let (store, waiting) = (store.clone(), Arc::clone(&waiting));
        tokio::spawn(async move {
            let (mut calls, mut longest) = (0, Duration::ZERO);
            loop {
                let next = waiting.lock().ok().and_then(|mut waiting| waiting.next());
                let Some(text) = next else {
                    return anyhow::Ok((calls, longest));
                };
                let start = Instant::now();
                calls += post(&store, text, Sender::Capture).await?;
                longest = longest.max(start.elapsed());
            }
        })
    });
    let (mut calls, mut longest) = (0, Duration::ZERO);
    for poster in posters.collect::<Vec<_>>() {
        let (more, wait) = poster.await??;
        calls += more;
        longest = longest.max(wait);
    }
    Ok((calls, longest))
}

/// What compression makes of some lines.
fn compression(sample: &str) -> Result<String> {
    let lines = sample.lines().count();
    let each: usize = sample
        .lines()
        .map(|line| zstd::bulk::compress(line.as_bytes(), 3).map_or(0, |line| line.len()))
        .sum();
    let bytes = sample.len() as f64;
    let mut text = format!(
        "A line: {:.0} B, `zstd -3` of each alone {:.3} of it.\n\n| lines together, level | packed at (processor time) | unpacked at | part of the lines |\n| --- | --- | --- | --- |\n",
        bytes / lines as f64,
        each as f64 / bytes
    );
    for (chunk, level) in [
        (CHUNK_BYTES / 4, 3),
        (CHUNK_BYTES / 2, 3),
        (CHUNK_BYTES, 1),
        (CHUNK_BYTES, 2),
        (CHUNK_BYTES, 3),
        (CHUNK_BYTES, 5),
        (CHUNK_BYTES * 2, 3),
    ] {
        let chunks: Vec<&[u8]> = sample.as_bytes().chunks(chunk).collect();
        let mut packer = zstd::bulk::Compressor::new(level)?;
        let start = cpu();
        let packed = chunks.iter().map(|chunk| packer.compress(chunk));
        let packed = packed.collect::<std::io::Result<Vec<_>>>()?;
        let packing = cpu() - start;
        let mut unpacker = zstd::bulk::Decompressor::new()?;
        let start = cpu();
        for packed in &packed {
            unpacker.decompress(packed, chunk)?;
        }
        let unpacking = cpu() - start;
        let megabytes = bytes / 1e6;
        let packed: usize = packed.iter().map(Vec::len).sum();
        writeln!(
            text,
            "| {} KiB, {level} | {:.0} MB/s | {:.0} MB/s | {:.3} |",
            chunk >> 10,
            megabytes / packing.as_secs_f64(),
            megabytes / unpacking.as_secs_f64(),
            packed as f64 / bytes,
        )?;
    }
    Ok(text)
}
