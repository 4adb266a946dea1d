//! `bench packets`: the cost of a packet that carries no call, and whether any packet is lost.
//!
//! First the bare ring is measured, then the sniffer with rules that keep headers only, at a share of the rate of the bare
//! ring. The packets have the number, lengths and connections of those of calls, but contain what looks like TLS records.

use std::net::TcpListener;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Args;

use crate::cell::{self, Cell, Method};
use crate::collect::Collector;
use crate::lab::Lab;
use crate::limit::{self, Touch};
use crate::load::{FIRST_NUMBER, Load, Shape};
use crate::pacer::send_paced;
use crate::program::{Ledger, Program, RunningProgram, sniffer_beside};
use crate::report::Spread;
use crate::results::{Conditions, Packets, Purpose, Results};
use crate::trial;
use crate::tx::SenderKind;

/// Options of `bench packets`.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Encapsulations of the traffic: plain, vxlan
    #[arg(long, value_delimiter = ',', default_value = "plain,vxlan")]
    wire: Vec<String>,
    /// Response body sizes in bytes of the calls whose packets are imitated
    #[arg(long, value_delimiter = ',', default_value = "200")]
    body: Vec<usize>,
    /// How frames are sent
    #[arg(long, value_delimiter = ',', default_value = "messages,live")]
    sender: Vec<SenderKind>,
    /// Rate of the sniffer as a share of that of the bare ring
    #[arg(long, default_value_t = 0.8)]
    share: f64,
    /// Seconds of measured traffic
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// Repetitions of each measurement
    #[arg(long, default_value_t = 3)]
    repetitions: u32,
    /// CPU of the sender
    #[arg(long, default_value_t = 0)]
    sender_cpu: usize,
    /// CPU of the reader of the bare ring, and of the sniffer
    #[arg(long, default_value_t = 1)]
    engine_cpu: usize,
    /// Ring size of the sniffer, as for its --ring-size
    #[arg(long, default_value = "64M")]
    ring: String,
    /// Path of sniffer [default: in the folder of this program]
    #[arg(long)]
    sniffer: Option<PathBuf>,
    /// Folder of the results
    #[arg(long, default_value = "bench/results/latest")]
    results: PathBuf,
}

/// Measures all combinations.
pub fn run(options: &Options) -> Result<()> {
    let path = options.sniffer.clone();
    let program = Program::Sniffer(path.map_or_else(sniffer_beside, Ok)?);
    let mut limits = Results::create(&options.results, "limit")?;
    let mut results = Results::create(&options.results, "packets")?;
    eprintln!("rows go to {}", results.path().display());
    for &sender in &options.sender {
        for wire in &options.wire {
            for &body_bytes in &options.body {
                let shape = Shape {
                    body_bytes,
                    wire: cell::wire(wire)?,
                    opaque: true,
                    ..Shape::default()
                };
                let bare = measure_bare_ring(options, &shape, wire, sender, &mut limits)?;
                for repetition in 1..=options.repetitions {
                    let conditions = Conditions::now();
                    let rate = bare * options.share;
                    let row = measure(options, &program, &shape, wire, sender, rate, repetition)?;
                    results.append(&conditions, &row)?;
                    eprintln!("{}", line(&row));
                }
            }
        }
    }
    Ok(())
}

/// Frames a second that a bare ring receives when frames are sent as fast as possible; the median of the repetitions.
fn measure_bare_ring(
    options: &Options,
    shape: &Shape,
    wire: &str,
    sender: SenderKind,
    results: &mut Results,
) -> Result<f64> {
    let mut rates = Vec::new();
    for repetition in 1..=options.repetitions {
        let method = limit::Method {
            seconds: options.seconds,
            rate: 0.0,
            sender,
            sender_cpu: Some(options.sender_cpu),
            receiver_cpu: Some(options.engine_cpu),
            ring_blocks: 256,
            touch: Touch::Headers,
        };
        let conditions = Conditions::now();
        let row = limit::measure(shape, wire, &method, repetition)?;
        results.append(&conditions, &row)?;
        eprintln!("{}", limit::line(&row));
        rates.push((row.received as f64 / row.seconds).min(row.frames_per_second));
    }
    Ok(Spread::of(rates).median)
}

fn measure(
    options: &Options,
    program: &Program,
    shape: &Shape,
    wire: &str,
    kind: SenderKind,
    frames_asked: f64,
    repetition: u32,
) -> Result<Packets> {
    let lab = Lab::new()?;
    let listen = || Collector::count_only(TcpListener::bind("127.0.0.1:7701")?);
    let collector = lab.tap.inside(listen)?;
    let cell = Cell {
        traffic: "opaque".into(),
        shape: shape.clone(),
        flows_per_minute: None,
        wire: wire.to_owned(),
        compression: true,
        rules: "headers".into(),
        rules_text: cell::rules("headers", true)?,
    };
    let method = Method {
        sender: kind,
        seconds: options.seconds,
        warm_up: 0.5,
        sender_cpu: Some(options.sender_cpu),
        engine_cpus: Some(options.engine_cpu.to_string()),
        collector_cpu: None,
        nice: 0,
        ring: options.ring.clone(),
        arguments: Vec::new(),
        post_buffer: None,
    };
    let mut running = RunningProgram::start(&lab, program, &cell, &method, &collector.url())?;
    let per_call = Load::new(shape.clone(), FIRST_NUMBER, 1).frames_per_call_overall();
    let calls = |seconds: f64| (frames_asked * seconds / per_call).ceil() as u64;
    let (warm_up, offered) = (calls(method.warm_up), calls(method.seconds));
    let mut load = Load::new(shape.clone(), FIRST_NUMBER, warm_up + offered + 1);
    let mut send = |calls| {
        load.pause_after(calls);
        lab.sending(kind, method.sender_cpu, |mut sender| {
            send_paced(&mut sender, Some(frames_asked), |out| load.next_frame(out))
        })
    };
    send(warm_up)?;
    let before = settled_ledger(&running)?;
    let usage_before = running.usage()?;
    let sent = send(warm_up + offered)?;
    let after = settled_ledger(&running)?;
    let usage = running.usage()?;
    running.stop();
    let frames = sent.frames.max(1) as f64;
    let cpu_seconds = usage.cpu_seconds - usage_before.cpu_seconds;
    // The ticks may exceed the clock a little.
    let user_seconds = (usage.user_seconds - usage_before.user_seconds).min(cpu_seconds);
    Ok(Packets {
        purpose: Purpose::Given,
        repetition,
        sender: kind,
        wire: wire.to_owned(),
        body_bytes: shape.body_bytes,
        frames_asked,
        frames: sent.frames,
        seconds: sent.seconds,
        frames_per_second: frames / sent.seconds,
        gbit_per_second: sent.bytes as f64 * 8e-9 / sent.seconds,
        received: after.frames - before.frames,
        dropped: after.ring_dropped - before.ring_dropped,
        cpu_nanos_per_frame: cpu_seconds * 1e9 / frames,
        user_nanos_per_frame: user_seconds * 1e9 / frames,
        sender_nanos_per_frame: sent.cpu_seconds * 1e9 / frames,
        memory_beside_ring_bytes: usage.resident_peak_bytes.saturating_sub(after.ring_bytes),
    })
}

/// The ledger once it does not change any more.
fn settled_ledger(running: &RunningProgram<'_>) -> Result<Ledger> {
    let read = || running.ledger()?.context("only sniffer counts packets");
    let deadline = Instant::now() + trial::DRAIN_MAX;
    let mut ledger = read()?;
    loop {
        // Longer than the kernel keeps a block of the ring before it retires it.
        thread::sleep(Duration::from_millis(100));
        let now = read()?;
        if now == ledger || Instant::now() > deadline {
            return Ok(now);
        }
        ledger = now;
    }
}

fn line(row: &Packets) -> String {
    format!(
        "{:<8} {:<5} {:>5} B {:>9.0} frames/s {:>6.2} Gbit/s, {} of {} read, {} dropped, {:.0} ns a frame, {:.0} of them in user space",
        row.sender.name(),
        row.wire,
        row.body_bytes,
        row.frames_per_second,
        row.gbit_per_second,
        row.received,
        row.frames,
        row.dropped,
        row.cpu_nanos_per_frame,
        row.user_nanos_per_frame,
    )
}
