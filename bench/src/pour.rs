//! Frames at a controlled rate, in batches: what [`crate::load`] or a capture file gives, onto an interface.
//!
//! Bound: a rate that the sender cannot keep is not made up for by a burst; [`Poured`] has what was really sent.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::lab::thread_cpu_seconds;
use crate::tx::{Batch, PacketSender};

/// How long the sender sleeps when it is ahead.
const TICK: Duration = Duration::from_micros(200);
/// Further behind than this the schedule moves instead.
const LAG_MAX: Duration = Duration::from_millis(20);
/// Tries of a frame that the interface has no room for.
const TRIES_MAX: u32 = 10_000;

/// What was sent.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Poured {
    /// Frames that the interface took.
    pub frames: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// From the first to the last.
    pub seconds: f64,
    /// CPU of the sending thread, which also pays for the kernel's way to the tap and the copy into the ring.
    pub cpu_seconds: f64,
    /// Times that the interface had no room.
    pub refused: u64,
}

/// Sends what `next` appends, a frame a call, until it returns false; `rate` in frames a second, none: flat out.
pub fn pour(
    sender: &mut PacketSender,
    rate: Option<f64>,
    mut next: impl FnMut(&mut Vec<u8>) -> bool,
) -> Result<Poured> {
    let mut poured = Poured::default();
    let mut batch = Batch::default();
    let cpu_before = thread_cpu_seconds();
    let start = Instant::now();
    let mut schedule = Schedule {
        start,
        sent: 0,
        rate,
        batch_max: sender.batch_max(),
    };
    loop {
        let room = schedule.room();
        if room == 0 {
            thread::sleep(TICK);
            continue;
        }
        batch.clear();
        while batch.len() < room && batch.add(&mut next) {}
        if batch.is_empty() {
            break;
        }
        send_all(sender, &batch, &mut poured)?;
        schedule.sent += batch.len() as u64;
    }
    poured.seconds = start.elapsed().as_secs_f64();
    poured.cpu_seconds = thread_cpu_seconds() - cpu_before;
    Ok(poured)
}

struct Schedule {
    start: Instant,
    sent: u64,
    rate: Option<f64>,
    batch_max: usize,
}

impl Schedule {
    /// Frames that may go now, at most a batch.
    fn room(&mut self) -> usize {
        let Some(rate) = self.rate else {
            return self.batch_max;
        };
        let due = self.start.elapsed().as_secs_f64() * rate;
        let behind = due - self.sent as f64;
        let lag_max = (LAG_MAX.as_secs_f64() * rate).max(self.batch_max as f64);
        if behind > lag_max {
            self.start += Duration::from_secs_f64((behind - lag_max) / rate);
        }
        (behind.max(0.0) as usize).min(self.batch_max)
    }
}

fn send_all(sender: &mut PacketSender, batch: &Batch, poured: &mut Poured) -> Result<()> {
    let (mut first, mut tries) = (0, 0);
    while first < batch.len() {
        match sender.send(batch, first) {
            Ok(sent) => {
                first += sent;
                tries = 0;
            }
            Err(error) if is_full(&error) && tries < TRIES_MAX => {
                poured.refused += 1;
                tries += 1;
                thread::yield_now();
            }
            Err(error) => {
                let length = batch.frames(first).next().map_or(0, <[u8]>::len);
                return Err(error)
                    .with_context(|| format!("a frame of {length} bytes was refused"));
            }
        }
    }
    poured.frames += batch.len() as u64;
    poured.bytes += batch.frames(0).map(|frame| frame.len() as u64).sum::<u64>();
    Ok(())
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOBUFS | libc::EAGAIN | libc::EINTR)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_moves_instead_of_bursting() {
        let start = Instant::now().checked_sub(Duration::from_secs(5)).unwrap();
        let mut schedule = Schedule {
            start,
            sent: 0,
            rate: Some(1_000_000.0),
            batch_max: 64,
        };
        assert_eq!(schedule.room(), 64);
        let behind = schedule.start.elapsed().as_secs_f64();
        assert!(behind < 0.5, "still {behind} s behind");
    }
}
