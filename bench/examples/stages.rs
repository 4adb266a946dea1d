//! Runs one stage over steady traffic and prints how much work it did: `stages STAGE WIRE BODY_BYTES CALLS [PROTOCOL]`.
//! `bench/instructions` counts its instructions.

use anyhow::{Context as _, Result};
use bench::load::{FIRST_NUMBER, Load, Protocol, Shape};
use bench::{cell, stages::Stage};

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().collect();
    let [_, stage, wire, body_bytes, calls, protocol @ ..] = words.as_slice() else {
        anyhow::bail!("stages STAGE WIRE BODY_BYTES CALLS [PROTOCOL]");
    };
    let protocol = protocol
        .first()
        .map_or(Ok(Protocol::Http1), |text| text.parse());
    let shape = Shape {
        body_bytes: body_bytes.parse().context("BODY_BYTES")?,
        wire: cell::wire(wire)?,
        connections: 64,
        protocol: protocol.map_err(anyhow::Error::msg)?,
        ..Shape::default()
    };
    let mut load = Load::new(shape, FIRST_NUMBER, calls.parse().context("CALLS")?);
    let mut stage = Stage::new(stage)?;
    let mut frame = Vec::new();
    let mut frames = 0;
    while load.next_frame(&mut frame) {
        stage.feed(frames, &frame);
        frame.clear();
        frames += 1;
    }
    println!("{frames} frames, {} done", stage.done());
    Ok(())
}
