//! The pacer: sends the frames of [`crate::load`] or of a capture file at a controlled rate, in batches.
//!
//! A sender that falls behind does not catch up with a burst of more than `LAG_MAX`; [`Sent`] has what was really sent.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::lab::thread_cpu_seconds;
use crate::tx::{Batch, PacketSender};

/// The sleep of a sender that is ahead of its schedule.
const TICK: Duration = Duration::from_micros(200);
/// A sender that is further behind has its schedule moved.
const LAG_MAX: Duration = Duration::from_millis(20);
/// The most tries to send a frame while the queue of the interface is full.
const TRIES_MAX: u32 = 10_000;

/// What was sent.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Sent {
    /// Frames that the interface took.
    pub frames: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Time from the start to the last frame.
    pub seconds: f64,
    /// CPU time of the sending thread, which includes the kernel's path to the tap and the copy into the ring.
    pub cpu_seconds: f64,
    /// How often the queue of the interface was full.
    pub refused: u64,
}

/// Sends the frames that `next` appends, one for each call, until it returns false. `rate` is in frames a second; without
/// it frames are sent as fast as possible.
pub fn send_paced(
    sender: &mut PacketSender,
    rate: Option<f64>,
    mut next: impl FnMut(&mut Vec<u8>) -> bool,
) -> Result<Sent> {
    let mut sent = Sent::default();
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
        let due = schedule.frames_due();
        if due == 0 {
            thread::sleep(TICK);
            continue;
        }
        batch.clear();
        while batch.len() < due && batch.add(&mut next) {}
        if batch.is_empty() {
            break;
        }
        send_all(sender, &batch, &mut sent)?;
        schedule.sent += batch.len() as u64;
    }
    sent.seconds = start.elapsed().as_secs_f64();
    sent.cpu_seconds = thread_cpu_seconds() - cpu_before;
    Ok(sent)
}

struct Schedule {
    start: Instant,
    sent: u64,
    rate: Option<f64>,
    batch_max: usize,
}

impl Schedule {
    /// Frames to send now, a batch at most.
    fn frames_due(&mut self) -> usize {
        let Some(rate) = self.rate else {
            return self.batch_max;
        };
        let scheduled = self.start.elapsed().as_secs_f64() * rate;
        let behind = scheduled - self.sent as f64;
        let lag_max = (LAG_MAX.as_secs_f64() * rate).max(self.batch_max as f64);
        if behind > lag_max {
            self.start += Duration::from_secs_f64((behind - lag_max) / rate);
        }
        (behind.max(0.0) as usize).min(self.batch_max)
    }
}

fn send_all(sender: &mut PacketSender, batch: &Batch, total: &mut Sent) -> Result<()> {
    let (mut first, mut tries) = (0, 0);
    while first < batch.len() {
        match sender.send(batch, first) {
            Ok(sent) => {
                first += sent;
                tries = 0;
            }
            Err(error) if is_full(&error) && tries < TRIES_MAX => {
                total.refused += 1;
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
    total.frames += batch.len() as u64;
    total.bytes += batch.frames(0).map(|frame| frame.len() as u64).sum::<u64>();
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
        assert_eq!(schedule.frames_due(), 64);
        let behind = schedule.start.elapsed().as_secs_f64();
        assert!(behind < 0.5, "still {behind} s behind");
    }
}
