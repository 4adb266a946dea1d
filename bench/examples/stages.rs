//! Runs one stage over steady traffic and prints how much work it did: `stages STAGE WIRE BODY_BYTES CALLS [PROTOCOL]`.
//! `bench/instructions` counts its instructions.

use anyhow::Result;
use bench::stages::{Stage, from_command_line};

fn main() -> Result<()> {
    let (stage, mut load) = from_command_line()?;
    let mut stage = Stage::new(&stage)?;
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
