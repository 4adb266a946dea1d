//! How long bundles of the store's own capture wait while others post as much as they can, old calls are deleted for what comes,
//! and the log is emptied.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use store::backend::sqlite::{Opened, Sqlite};
use store::backend::{Backend, Retention};
use store::sender::Sender;
use tokio::runtime::Runtime;

use super::lines::Lines;
use super::options::{DAY_MS, Options};
use super::post::post;
use super::report::missed;

/// What a bundle of the capture may wait.
const WAIT_MAX: Duration = Duration::from_millis(100);

/// Calls in a bundle of the others: 4 MiB.
const OTHERS_BUNDLE: u64 = 2_000;

/// Time between two bundles of the capture.
const PACE: Duration = Duration::from_millis(50);

/// Opens the store with the calls that it has as its bound, posts, and prints a row.
pub(super) fn measure(
    runtime: &Runtime,
    folder: &Path,
    options: &Options,
    calls: u64,
) -> Result<()> {
    let retention = Retention {
        calls_max: calls,
        database_bytes_max: u64::MAX >> 1,
        ..Retention::default()
    };
    let store = Opened::new(folder)?.start(retention)?;
    let start_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as u64 - DAY_MS;
    let mut lines = Lines::new(options, start_ms);
    let text = lines.bundle(options.bundle).context("calls")?;
    // Half of the time without the others, so that a busy machine can be distinguished from a busy store.
    let time = Duration::from_secs(options.waits) / 2;
    report("alone", options, &post_for(time, runtime, &store, &text)?);
    let is_over = Arc::new(AtomicBool::new(false));
    let others: Vec<_> = (0..2u8)
        .map(|number| {
            let mut lines = Lines::new(options, start_ms);
            let bundles: Vec<String> = (0..8).filter_map(|_| lines.bundle(OTHERS_BUNDLE)).collect();
            let (store, is_over) = (store.clone(), Arc::clone(&is_over));
            let sender = Sender::of(IpAddr::V4(Ipv4Addr::new(10, 9, 9, number)));
            runtime.spawn(async move {
                let mut posted = 0;
                for text in bundles.iter().cycle() {
                    if is_over.load(Ordering::Relaxed) {
                        break;
                    }
                    posted += post(&store, text.clone(), sender).await?;
                }
                anyhow::Ok(posted)
            })
        })
        .collect();
    let start = Instant::now();
    let waits = post_for(time, runtime, &store, &text)?;
    is_over.store(true, Ordering::Relaxed);
    let mut posted = 0;
    for other in others {
        posted += runtime.block_on(other)??;
    }
    report("beside others", options, &waits);
    println!(
        "The others stored {:.0} calls/s, and {} calls were deleted.",
        posted as f64 / start.elapsed().as_secs_f64(),
        runtime.block_on(store.totals())?.calls_expired
    );
    runtime.block_on(store.close())
}

/// Posts a bundle of the capture again and again; how long each waited, the shortest first.
fn post_for(
    time: Duration,
    runtime: &Runtime,
    store: &Sqlite,
    text: &str,
) -> Result<Vec<Duration>> {
    let mut waits = Vec::new();
    let start = Instant::now();
    while waits.is_empty() || start.elapsed() < time {
        let text = text.to_owned();
        let before = Instant::now();
        runtime.block_on(post(store, text, Sender::Capture))?;
        waits.push(before.elapsed());
        std::thread::sleep(PACE);
    }
    waits.sort_unstable();
    Ok(waits)
}

fn report(name: &str, options: &Options, waits: &[Duration]) {
    let at = |part: f64| waits[((waits.len() - 1) as f64 * part).round() as usize];
    println!(
        "\nA bundle of the capture, of {} calls, {name}: waited {:.1?} at p50, {:.1?} at p99, {:.1?}{} at most (must be \
         {WAIT_MAX:?}), of {} bundles.",
        options.bundle,
        at(0.5),
        at(0.99),
        at(1.0),
        missed(at(1.0) > WAIT_MAX),
        waits.len(),
    );
}
