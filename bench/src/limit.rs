//! The bare ring: the same traffic into a packet ring whose reader only counts, which is the upper limit of any sniffer on
//! this machine.
//!
//! It measures the frames sent, received and dropped, and the CPU time of both sides for each frame.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use engine_sys::event::EventFd;
use engine_sys::packet::{RingOptions, RxRing, Waiter};

use crate::lab::{Lab, TAP, pin, thread_cpu_seconds};
use crate::load::{FIRST_NUMBER, Load, Shape};
use crate::pacer::{Sent, send_paced};
use crate::results::Limit;
use crate::tx::{PacketSender, SenderKind};

/// The part of each frame that the reader reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Touch {
    /// The first 64 bytes.
    Headers,
    /// Every byte.
    All,
}

/// How to measure.
#[derive(Clone, Debug)]
pub struct Method {
    /// Length of the traffic.
    pub seconds: f64,
    /// Calls a second; 0 is as fast as possible.
    pub rate: f64,
    /// How frames are sent.
    pub sender: SenderKind,
    /// CPU of the sender.
    pub sender_cpu: Option<usize>,
    /// CPU of the reader.
    pub receiver_cpu: Option<usize>,
    /// Blocks of 1 MiB in the ring.
    pub ring_blocks: usize,
    /// The part of each frame that is read.
    pub touch: Touch,
}

#[derive(Default)]
struct Received {
    frames: u64,
    dropped: u64,
    cpu_seconds: f64,
    /// Keeps the compiler from removing the reads.
    sum: u64,
}

/// Sends traffic of `shape` into a bare ring.
pub fn measure(shape: &Shape, wire: &str, method: &Method, repetition: u32) -> Result<Limit> {
    let lab = Lab::new()?;
    let stop = AtomicBool::new(false);
    let event = EventFd::new()?;
    let ring = lab.tap.inside(|| {
        let options = RingOptions {
            blocks: method.ring_blocks,
            ..RingOptions::default()
        };
        RxRing::open(TAP, &options)
    });
    let ring = ring.map_err(|error| anyhow::anyhow!("cannot open a ring: {error}"))?;
    std::thread::scope(|scope| {
        let receiver = scope.spawn(|| receive(ring, method, &stop, &event));
        let sent = lab.sending(method.sender, method.sender_cpu, |sender| {
            send(sender, shape, method)
        });
        stop.store(true, Ordering::Release);
        event.set();
        let received = receiver
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        let (sent, calls) = sent?;
        std::hint::black_box(received.sum);
        Ok(Limit {
            repetition,
            sender: method.sender,
            wire: wire.to_owned(),
            body_bytes: shape.body_bytes,
            touch: format!("{:?}", method.touch).to_lowercase(),
            rate_asked: method.rate,
            seconds: sent.seconds,
            calls_offered: calls,
            calls_per_second: calls as f64 / sent.seconds,
            frames: sent.frames,
            frames_per_second: sent.frames as f64 / sent.seconds,
            gbit_per_second: sent.bytes as f64 * 8e-9 / sent.seconds,
            received: received.frames,
            dropped: received.dropped,
            receiver_nanos_per_frame: received.cpu_seconds * 1e9 / received.frames.max(1) as f64,
            sender_nanos_per_frame: sent.cpu_seconds * 1e9 / sent.frames.max(1) as f64,
        })
    })
}

/// The progress line of a measurement.
pub fn line(row: &Limit) -> String {
    format!(
        "bare ring {:<5} {:>5} B by {}, reads {:<7} {:>8.0} calls/s {:>8.0} frames/s {:>6.2} Gbit/s, {} dropped, \
         receiver {:.0} ns and sender {:.0} ns a frame",
        row.wire,
        row.body_bytes,
        row.sender.name(),
        row.touch,
        row.calls_per_second,
        row.frames_per_second,
        row.gbit_per_second,
        row.dropped,
        row.receiver_nanos_per_frame,
        row.sender_nanos_per_frame
    )
}

fn send(mut sender: PacketSender, shape: &Shape, method: &Method) -> Result<(Sent, u64)> {
    // Without a rate the number of calls is not known in advance; the traffic ends after its time instead.
    let calls = if method.rate > 0.0 {
        (method.rate * method.seconds) as u64
    } else {
        8 * FIRST_NUMBER
    };
    let mut load = Load::new(shape.clone(), FIRST_NUMBER, calls);
    let rate = (method.rate > 0.0).then_some(method.rate * load.frames_per_call_overall());
    let length = Duration::from_secs_f64(method.seconds * if rate.is_some() { 2.0 } else { 1.0 });
    let start = std::time::Instant::now();
    let (mut frames, mut is_over) = (0_u32, false);
    let sent = send_paced(&mut sender, rate, |out| {
        // The clock is read only for every 64th frame, since that costs as much as a frame.
        frames = frames.wrapping_add(1);
        is_over |= frames.is_multiple_of(64) && start.elapsed() > length;
        !is_over && load.next_frame(out)
    })?;
    Ok((sent, load.calls_started()))
}

fn receive(
    mut ring: RxRing,
    method: &Method,
    stop: &AtomicBool,
    event: &EventFd,
) -> Result<Received> {
    if let Some(cpu) = method.receiver_cpu {
        pin(cpu)?;
    }
    let mut received = Received::default();
    let mut waiter = Waiter::new();
    let before = thread_cpu_seconds();
    loop {
        // Frames that are in the ring when the traffic ends are still read: the kernel retires its open block within 10 ms.
        let is_last = stop.load(Ordering::Acquire);
        if is_last {
            std::thread::sleep(Duration::from_millis(60));
        } else {
            waiter
                .wait([&ring], event, Duration::from_millis(100))
                .context("waiting for the ring")?;
        }
        while let Some(block) = ring.next_block() {
            for frame in block.frames() {
                received.frames += 1;
                let read = match method.touch {
                    Touch::Headers => frame.bytes.get(..64).unwrap_or(frame.bytes),
                    Touch::All => frame.bytes,
                };
                received.sum = received.sum.wrapping_add(sum(read));
            }
        }
        if is_last {
            break;
        }
    }
    received.cpu_seconds = thread_cpu_seconds() - before;
    received.dropped = ring.statistics()?.drops;
    Ok(received)
}

fn sum(bytes: &[u8]) -> u64 {
    let words = bytes.as_chunks::<8>().0;
    words
        .iter()
        .fold(0, |sum, word| sum.wrapping_add(u64::from_ne_bytes(*word)))
}
