//! One measurement: a sniffer in a namespace of its own, steady traffic at one rate, a collector that checks every line.
//!
//! Order: start, warm up, drain, then the measured traffic, drain, read the counters, stop. CPU and the ledger are
//! differences between the two drains, so neither start nor warm-up is in them; the peak of memory is the process' own.
//! Bounds: the traffic by its calls, each drain by [`DRAIN_MAX`].

use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Result, ensure};

use crate::cell::{Cell, Method};
use crate::collect::{Collector, Latencies};
use crate::lab::{Lab, micros_since_epoch, pin};
use crate::load::{self, FIRST_NUMBER, Load};
use crate::pour::{Poured, pour};
use crate::results::{Purpose, Trial};
use crate::subject::{Ledger, Program, Subject};
use crate::tx::Way;

/// Longest wait for the last POST.
pub const DRAIN_MAX: Duration = Duration::from_secs(30);
/// Longest wait for a sniffer that was strained by the warm-up.
const REST_MAX: Duration = Duration::from_secs(5);
/// No POST for so long from a program whose ledger we cannot read: the drain is over. More than the age at which
/// sniffers close a bundle.
const QUIET: Duration = Duration::from_millis(1500);
/// The same where the ledger says that nothing is on its way: longer than a block waits in a ring.
const QUIET_BALANCED: Duration = Duration::from_millis(150);

/// What bodies say at the collector; nothing where rules may have changed them.
fn bodies(cell: &Cell) -> Vec<String> {
    match cell.rules.as_str() {
        "debug" => load::bodies(&cell.shape),
        _ => Vec::new(),
    }
}

/// Bytes of POSTs that so many calls will hardly exceed: some are uncompressed when compression is given up.
fn posts_bytes(cell: &Cell, calls: u64) -> usize {
    let line = 1500 + cell.shape.body_bytes * 5 / 4;
    let all = calls as usize * line;
    if cell.compression { all / 2 } else { all }
}

/// Connections that hold the calls of 20 ms, 512 at most.
fn connections(rate: f64) -> usize {
    ((rate * 0.02) as usize).clamp(1, 512)
}

/// The cell's traffic as it is at one rate.
fn at_rate(cell: &Cell, rate: f64) -> load::Shape {
    let mut shape = cell.shape.clone();
    if shape.connections == 0 {
        shape.connections = if rate > 0.0 { connections(rate) } else { 512 };
    }
    if let Some(flows) = cell.flows_per_minute {
        // Rounded down: rather a few more new connections than asked for than fewer.
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
        match &method.shelf {
            Some(shelf) => Collector::keeping(listener, shelf.clone(), bodies(cell)),
            None => Collector::checking(listener, bodies(cell)),
        }
    })?;
    let shape = at_rate(cell, rate);
    let mut subject = Subject::start(&lab, program, cell, method, &collector.url())?;

    let known_rate = if rate > 0.0 { rate } else { 20_000.0 };
    let calls = |seconds: f64| (known_rate * seconds).ceil() as u64;
    let (warm_up, offered) = (calls(method.warm_up), calls(method.seconds));
    if let Some(shelf) = &method.shelf {
        let bytes = posts_bytes(cell, warm_up.max(offered));
        ensure!(
            shelf.make_ready(bytes),
            "some {} MB of POSTs, and the collector keeps {} MB: a larger --keep-mb, or 0 to check them as they come",
            bytes >> 20,
            shelf.bytes_max() >> 20
        );
    }
    // One load for both: connections of the warm-up stay open, so that there are as many as wanted all the time.
    let mut load = Load::new(shape.clone(), FIRST_NUMBER, warm_up + offered + 1);
    load.hold_after(warm_up);
    send(&lab, &mut load, method, rate, warm_up)?;
    drain(&collector, &subject)?;
    rest(&subject)?;
    collector.take();
    let ledger_before = subject.ledger()?;
    let usage_before = subject.usage()?;
    let collector_before = collector.cpu_seconds();
    let (arrived_before, tap_dropped_before) = lab.arrived()?;

    load.hold_after(warm_up + offered);
    let (sent, sent_at) = send(&lab, &mut load, method, rate, offered)?;
    let drain_seconds = drain(&collector, &subject)?;
    let usage = subject.usage()?;
    let collector_cpu_seconds = collector.cpu_seconds() - collector_before;
    let ledger = subject.ledger()?;
    let (arrived, tap_dropped) = lab.arrived()?;
    subject.stop();
    let (tally, arrivals) = collector.take();
    if let Some(complaint) = collector.complaints().first() {
        eprintln!("broken bundle: {complaint}");
    }
    // What was refused was never checked, and the sniffer was measured while it tried again.
    ensure!(
        tally.no_room == 0,
        "the collector had no room for {} POSTs: a larger --keep-mb",
        tally.no_room
    );

    let latencies = Latencies::new(&arrivals, FIRST_NUMBER + warm_up, &sent_at);
    let delivered = tally.lines - tally.duplicates.min(tally.lines);
    let cpu_seconds = usage.cpu_seconds - usage_before.cpu_seconds;
    let change = |of: fn(&Ledger) -> u64| {
        let (now, before) = (ledger.as_ref()?, ledger_before.as_ref()?);
        Some(of(now).saturating_sub(of(before)))
    };
    let of_threads = |name: &str| {
        let seconds = usage.of_threads(name) - usage_before.of_threads(name);
        ledger.is_some().then_some(seconds)
    };
    let thinned = change(|ledger| ledger.bodies_thinned);
    let cut_by_choice = tally.cut.min(thinned.unwrap_or(0));
    // Live frames are on no cable.
    let on_cable = |frames: u64| (method.sender != Way::Live).then_some(frames);
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
        duplicates: tally.duplicates,
        mismatched: tally.mismatched,
        torn: tally.torn + tally.cut - cut_by_choice,
        thinned: cut_by_choice,
        broken_posts: tally.broken,
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
        line_bytes: tally.line_bytes,
        post_bytes: tally.wire_bytes,
        posts: tally.accepted,
        posts_plain: tally.plain,
        posts_checked_after: Some(tally.checked_after),
        tap_frames: on_cable(arrived - arrived_before),
        tap_dropped: on_cable(tap_dropped - tap_dropped_before),
        ring_dropped: change(|ledger| ledger.ring_dropped),
        calls_seen: change(|ledger| ledger.seen),
        calls_sent: change(|ledger| ledger.sent),
        calls_stopped: change(|ledger| ledger.stopped),
        calls_dropped: change(|ledger| ledger.dropped),
        bodies_thinned: thinned,
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

/// Sends the next `calls` calls towards the tap, up to the load's pause, and says when the last packet of each response
/// went.
fn send(
    lab: &Lab,
    load: &mut Load,
    method: &Method,
    rate: f64,
    calls: u64,
) -> Result<(Poured, Vec<u64>)> {
    let frames_rate = (rate > 0.0).then_some(rate * load.frames_per_call_in_all());
    let first = FIRST_NUMBER + load.calls_begun();
    let mut sent_at = vec![0; calls as usize];
    let poured = lab.sending(method.sender, method.sender_cpu, |mut sender| {
        pour(&mut sender, frames_rate, |out| {
            let is_made = load.next_frame(out);
            if let Some(number) = load.answered() {
                sent_at[(number - first) as usize] = micros_since_epoch(SystemTime::now());
            }
            is_made
        })
    })?;
    Ok((poured, sent_at))
}

/// Waits for the last POST, and returns how long after the call it came.
fn drain(collector: &Collector, subject: &Subject<'_>) -> Result<f64> {
    let start = Instant::now();
    let mut posts = collector.tally().posts;
    let mut ledger = subject.ledger()?;
    let (mut posted, mut changed) = (start, start);
    while start.elapsed() < DRAIN_MAX {
        thread::sleep(Duration::from_millis(100));
        let now = collector.tally().posts;
        if now != posts {
            (posts, posted, changed) = (now, Instant::now(), Instant::now());
        }
        let Some(before) = &ledger else {
            if changed.elapsed() > QUIET {
                break;
            }
            continue;
        };
        let account = subject.ledger()?;
        if account.as_ref() != Some(before) {
            (ledger, changed) = (account, Instant::now());
        } else if before.in_flight == 0 && changed.elapsed() > QUIET_BALANCED {
            break;
        }
    }
    Ok(posted.duration_since(start).as_secs_f64())
}

/// Waits until the sniffer gives nothing up any more: what it could not keep up with in the warm-up, when connections are
/// opened all at once, is no part of what is measured.
fn rest(subject: &Subject<'_>) -> Result<()> {
    let start = Instant::now();
    while start.elapsed() < REST_MAX && subject.ledger()?.is_some_and(|ledger| ledger.is_strained) {
        thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}
