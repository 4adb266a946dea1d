//! A trial: a sniffer in a network namespace of its own, steady traffic at one rate, and a collector that checks every
//! line.
//!
//! The steps are start, warm-up, drain, measured traffic, drain, reading the counters, stop. CPU time and ledger counts
//! are differences between the two drains, so they include neither the start nor the warm-up; peak memory is that of the
//! whole life of the process. Bounds: the number of calls, and [`DRAIN_MAX`] for each drain.

use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Result, ensure};

use crate::cell::{Cell, Method};
use crate::collect::{Collector, Latencies};
use crate::lab::{Lab, micros_since_epoch, pin};
use crate::load::{self, FIRST_NUMBER, Load};
use crate::pacer::{Sent, send_paced};
use crate::program::{Ledger, Program, RunningProgram};
use crate::results::{Purpose, Trial};
use crate::tx::SenderKind;

/// The longest wait for the last POST.
pub const DRAIN_MAX: Duration = Duration::from_secs(30);
/// The longest wait for a sniffer that sheds load because of the warm-up.
const RECOVERY_MAX: Duration = Duration::from_secs(5);
/// A drain ends after this time without a POST if the program has no ledger that we can read. It is longer than the age
/// at which sniffers close a bundle.
const QUIET: Duration = Duration::from_millis(1500);
/// The same if the ledger shows that nothing is in flight; longer than a block waits in a ring.
const QUIET_BALANCED: Duration = Duration::from_millis(150);

/// Response bodies as the collector should receive them; none where rules may change them.
fn bodies(cell: &Cell) -> Vec<String> {
    match cell.rules.as_str() {
        "debug" => load::bodies(&cell.shape),
        _ => Vec::new(),
    }
}

/// Bytes of POSTs that `calls` calls will hardly exceed, since some bundles are uncompressed when load is shed.
fn posts_bytes(cell: &Cell, calls: u64) -> usize {
    let line = 1500 + cell.shape.body_bytes * 5 / 4;
    let all = calls as usize * line;
    if cell.compression { all / 2 } else { all }
}

/// As many connections as there are calls in 20 ms, 512 at most.
fn connections(rate: f64) -> usize {
    ((rate * 0.02) as usize).clamp(1, 512)
}

/// The shape of the cell's traffic at one rate.
fn at_rate(cell: &Cell, rate: f64) -> load::Shape {
    let mut shape = cell.shape.clone();
    if shape.connections == 0 {
        shape.connections = if rate > 0.0 { connections(rate) } else { 512 };
    }
    if let Some(flows) = cell.flows_per_minute {
        // Rounded down, so that there are rather too many new connections than too few.
        shape.calls_per_connection = ((rate * 60.0 / flows) as u64).max(1);
    }
    shape
}

/// Measures `program` in `cell` at `rate` calls a second; `rate` 0 is as fast as the sender can.
pub fn measure(
    program: &Program,
    cell: &Cell,
    method: &Method,
    rate: f64,
    purpose: Purpose,
    repetition: u32,
) -> Result<Trial> {
    let lab = Lab::new()?;
    let collector = lab.tap.inside(|| -> Result<Collector> {
        if let Some(cpu) = method.collector_cpu {
            pin(cpu)?;
        }
        let listener = TcpListener::bind("127.0.0.1:7701")?;
        match &method.post_buffer {
            Some(post_buffer) => {
                Collector::check_later(listener, post_buffer.clone(), bodies(cell))
            }
            None => Collector::check_at_once(listener, bodies(cell)),
        }
    })?;
    let shape = at_rate(cell, rate);
    let mut running = RunningProgram::start(&lab, program, cell, method, &collector.url())?;

    let known_rate = if rate > 0.0 { rate } else { 20_000.0 };
    let calls = |seconds: f64| (known_rate * seconds).ceil() as u64;
    let (warm_up, offered) = (calls(method.warm_up), calls(method.seconds));
    if let Some(post_buffer) = &method.post_buffer {
        let bytes = posts_bytes(cell, warm_up.max(offered));
        ensure!(
            post_buffer.allocate(bytes),
            "about {} MB of POSTs are expected and the collector keeps {} MB: set a larger --keep-mb, or 0 to check POSTs \
             as they arrive",
            bytes >> 20,
            post_buffer.bytes_max() >> 20
        );
    }
    // Warm-up and measurement share one load: its connections stay open, so that their number never changes.
    let mut load = Load::new(shape.clone(), FIRST_NUMBER, warm_up + offered + 1);
    load.pause_after(warm_up);
    send(&lab, &mut load, method, rate, warm_up)?;
    drain(&collector, &running)?;
    wait_until_recovered(&running)?;
    collector.take_counts();
    let ledger_before = running.ledger()?;
    let usage_before = running.usage()?;
    let collector_before = collector.cpu_seconds();
    let tap_before = lab.tap_counters()?;

    load.pause_after(warm_up + offered);
    let (sent, sent_at) = send(&lab, &mut load, method, rate, offered)?;
    let drain_seconds = drain(&collector, &running)?;
    let usage = running.usage()?;
    let collector_cpu_seconds = collector.cpu_seconds() - collector_before;
    let ledger = running.ledger()?;
    let tap = lab.tap_counters()?;
    running.stop();
    let (counts, arrivals) = collector.take_counts();
    if let Some(error) = collector.errors().first() {
        eprintln!("broken bundle: {error}");
    }
    // Refused POSTs were never checked, and the sniffer was measured while it retried.
    ensure!(
        counts.buffer_full == 0,
        "the collector refused {} POSTs because its memory was full: set a larger --keep-mb",
        counts.buffer_full
    );

    let latencies = Latencies::new(&arrivals, FIRST_NUMBER + warm_up, &sent_at);
    let delivered = counts.lines - counts.duplicates.min(counts.lines);
    let cpu_seconds = usage.cpu_seconds - usage_before.cpu_seconds;
    let change = |of: fn(&Ledger) -> u64| {
        let (now, before) = (ledger.as_ref()?, ledger_before.as_ref()?);
        Some(of(now).saturating_sub(of(before)))
    };
    let of_threads = |name: &str| {
        let seconds = usage.of_threads(name) - usage_before.of_threads(name);
        ledger.is_some().then_some(seconds)
    };
    let bodies_truncated = change(|ledger| ledger.bodies_truncated);
    // More truncated lines than the ledger counts are defects.
    let truncated = counts.truncated.min(bodies_truncated.unwrap_or(0));
    // Live frames do not cross the cable.
    let on_cable = |frames: u64| (method.sender != SenderKind::Live).then_some(frames);
    Ok(Trial {
        program: program.name().to_owned(),
        purpose,
        repetition,
        traffic: cell.traffic.clone(),
        sender: method.sender,
        wire: cell.wire.clone(),
        body_bytes: shape.body_bytes,
        compression: if cell.compression { "on" } else { "off" }.into(),
        rules: cell.rules.clone(),
        connections: shape.connections,
        calls_per_connection: shape.calls_per_connection,
        rate_asked: rate,
        calls_offered: offered,
        seconds: sent.seconds,
        calls_per_second: offered as f64 / sent.seconds,
        frames: sent.frames,
        frames_per_second: sent.frames as f64 / sent.seconds,
        gbit_per_second: sent.bytes as f64 * 8e-9 / sent.seconds,
        calls_delivered: delivered,
        delivered_share: delivered as f64 / offered as f64,
        duplicates: counts.duplicates,
        mismatched: counts.mismatched,
        torn: counts.torn + counts.truncated - truncated,
        truncated,
        broken_posts: counts.broken,
        cpu_seconds,
        cpu_micros_per_call: cpu_seconds * 1e6 / delivered.max(1) as f64,
        shard_cpu_seconds: of_threads("shard-"),
        uploader_cpu_seconds: of_threads("uploader"),
        user_seconds: usage.user_seconds - usage_before.user_seconds,
        collector_cpu_seconds,
        sender_cpu_seconds: sent.cpu_seconds,
        resident_peak_bytes: usage.resident_peak_bytes,
        ring_bytes: ledger.as_ref().map_or(0, |ledger| ledger.ring_bytes),
        memory_limit_bytes: ledger
            .as_ref()
            .map_or(0, |ledger| ledger.memory_limit_bytes),
        latency_p50_millis: latencies.millis(500),
        latency_p99_millis: latencies.millis(990),
        latency_p999_millis: latencies.millis(999),
        drain_seconds,
        line_bytes: counts.line_bytes,
        post_bytes: counts.wire_bytes,
        posts: counts.accepted,
        posts_plain: counts.plain,
        posts_checked_after: Some(counts.checked_after),
        tap_frames: on_cable(tap.frames - tap_before.frames),
        tap_dropped: on_cable(tap.dropped - tap_before.dropped),
        ring_dropped: change(|ledger| ledger.ring_dropped),
        calls_seen: change(|ledger| ledger.seen),
        calls_sent: change(|ledger| ledger.sent),
        calls_stopped: change(|ledger| ledger.stopped),
        calls_dropped: change(|ledger| ledger.dropped),
        bodies_truncated,
        bundles_plain: change(|ledger| ledger.bundles_plain),
        calls_shed: change(|ledger| ledger.shed),
        calls_in_flight: ledger.as_ref().map(|ledger| ledger.in_flight),
        unaccounted: ledger.as_ref().map(|ledger| ledger.unaccounted),
        halves: change(|ledger| ledger.halves),
        shards: ledger.as_ref().map(|ledger| ledger.shards),
        steering: ledger
            .as_ref()
            .map_or_else(String::new, |ledger| ledger.steering.clone()),
        dropped_reasons: ledger.map_or_else(String::new, |ledger| ledger.reasons),
    })
}

/// Sends the next `calls` calls towards the tap, until the load pauses. Also returns when the last packet of each
/// response was sent, in microseconds since 1970.
fn send(
    lab: &Lab,
    load: &mut Load,
    method: &Method,
    rate: f64,
    calls: u64,
) -> Result<(Sent, Vec<u64>)> {
    let frames_rate = (rate > 0.0).then_some(rate * load.frames_per_call_overall());
    let first = FIRST_NUMBER + load.calls_started();
    let mut sent_at = vec![0; calls as usize];
    let sent = lab.sending(method.sender, method.sender_cpu, |mut sender| {
        send_paced(&mut sender, frames_rate, |out| {
            let is_made = load.next_frame(out);
            if let Some(number) = load.completed_call() {
                sent_at[(number - first) as usize] = micros_since_epoch(SystemTime::now());
            }
            is_made
        })
    })?;
    Ok((sent, sent_at))
}

/// Waits for the last POST, and returns how many seconds after the start of the wait it arrived.
fn drain(collector: &Collector, running: &RunningProgram<'_>) -> Result<f64> {
    let start = Instant::now();
    let mut posts = collector.counts().posts;
    let mut ledger = running.ledger()?;
    let (mut posted, mut changed) = (start, start);
    while start.elapsed() < DRAIN_MAX {
        thread::sleep(Duration::from_millis(100));
        let now = collector.counts().posts;
        if now != posts {
            (posts, posted, changed) = (now, Instant::now(), Instant::now());
        }
        let Some(before) = &ledger else {
            if changed.elapsed() > QUIET {
                break;
            }
            continue;
        };
        let current = running.ledger()?;
        if current.as_ref() != Some(before) {
            (ledger, changed) = (current, Instant::now());
        } else if before.in_flight == 0 && changed.elapsed() > QUIET_BALANCED {
            break;
        }
    }
    Ok(posted.duration_since(start).as_secs_f64())
}

/// Waits until the sniffer sheds no load any more. In the warm-up all connections are opened at once, and what the
/// sniffer sheds because of that is not part of the measurement.
fn wait_until_recovered(running: &RunningProgram<'_>) -> Result<()> {
    let start = Instant::now();
    while start.elapsed() < RECOVERY_MAX
        && running.ledger()?.is_some_and(|ledger| ledger.is_shedding)
    {
        thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}
