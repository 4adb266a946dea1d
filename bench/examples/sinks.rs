//! Passes the bundles of steady traffic on to sinks with the same rules, as a shard does: `sinks SINKS WIRE BODY_BYTES CALLS [PROTOCOL]`.
//! `bench/instructions` counts its instructions.

use anyhow::{Context as _, Result};
use bench::load::{EPOCH, Load};
use bench::stages::{capture, from_command_line};
use engine_core::bundle::Compression;
use engine_core::decap::{Frame, LinkType};
use engine_core::pipeline::CapturePipeline;
use engine_core::time::Timestamp;
use sniffer::sink::outbox::{Inboxes, outboxes};
use sniffer::sink::outlet::{Outlet, Outlets};

fn main() -> Result<()> {
    let (sinks, mut load) = from_command_line()?;
    deliver(&mut load, sinks.parse().context("SINKS")?)
}

/// Passes bundles on to so many sinks, as a shard does, and back from them. Their threads do nothing else here.
fn deliver(load: &mut Load, sinks: usize) -> Result<()> {
    let mut pipeline = capture(Compression::Fast, 1)?;
    let (mut outlets, mut inboxes) = (Vec::new(), Vec::new());
    for number in 0..sinks {
        let (outbox, of_sink) = outboxes(1)?;
        let outbox = outbox.into_iter();
        outlets.extend(outbox.map(|outbox| (number, Outlet::Outbox(outbox))));
        inboxes.push(of_sink);
    }
    let mut outlets = Outlets::new(outlets);
    let (mut frame, mut frames, mut bytes) = (Vec::new(), 0, 0);
    while load.next_frame(&mut frame) {
        pipeline.feed(&Frame {
            time: Timestamp::from_nanos(EPOCH + frames * 1000),
            link: LinkType::Ethernet,
            bytes: &frame,
            wire_len: frame.len() as u32,
            vlan: None,
        });
        bytes += hand_over(&mut pipeline, &mut outlets, &mut inboxes);
        frame.clear();
        frames += 1;
    }
    println!("{frames} frames, {bytes} done");
    Ok(())
}

/// Bytes of the bundles that were closed, summed over the sinks.
fn hand_over(
    pipeline: &mut CapturePipeline,
    outlets: &mut Outlets,
    inboxes: &mut [Inboxes],
) -> usize {
    let mut bytes = 0;
    for bundler in pipeline.bundlers() {
        while let Some(bundle) = bundler.pop() {
            outlets.push(bundle);
            outlets.send();
            for inbox in inboxes.iter_mut().flat_map(|sink| &mut sink.inboxes) {
                while let Some(lease) = inbox.take() {
                    bytes += lease.bundle().body.len();
                    inbox.give_back(lease);
                }
            }
            outlets.send();
            while let Some(bundle) = outlets.take_empty() {
                bundler.recycle(bundle);
            }
        }
    }
    bytes
}
