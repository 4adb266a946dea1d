//! Sends the frames of a capture file on a real interface, through a packet socket.
//!
//! Only for interfaces that a test made itself. Bounded by the number of frames and the given rate.

use std::io::Write as _;
use std::thread;
use std::time::{Duration, Instant};

use afpacket::sync::RawPacketStream;
use anyhow::{Context, Result};

use crate::traffic::Frame;

/// Sends `frames` in order, `per_second` at most, and returns how many were sent. Needs CAP_NET_RAW.
pub fn send(interface: &str, frames: &[Frame], per_second: u32) -> Result<usize> {
    let mut socket =
        RawPacketStream::new().context("cannot open a packet socket (CAP_NET_RAW?)")?;
    socket
        .bind(interface)
        .with_context(|| format!("cannot bind to {interface}"))?;
    let start = Instant::now();
    for (index, frame) in frames.iter().enumerate() {
        let due = Duration::from_secs(1).mul_f64(index as f64 / f64::from(per_second.max(1)));
        thread::sleep(due.saturating_sub(start.elapsed()));
        let context = || {
            format!(
                "frame {index} of {} bytes was refused by {interface}",
                frame.bytes.len()
            )
        };
        socket.write_all(&frame.bytes).with_context(context)?;
    }
    Ok(frames.len())
}
