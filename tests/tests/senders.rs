//! The bench's ways to send frames, onto a real interface. Here belongs what a measurement relies on.

use anyhow::{Result, ensure};
use bench::limit::{Method, Touch, measure};
use bench::load::Shape;
use bench::tx::SenderKind;

/// Measures in a namespace of its own, which needs root.
#[test]
fn what_is_sent_at_a_low_rate_is_received() -> Result<()> {
    for sender in [SenderKind::Messages, SenderKind::Ring, SenderKind::Live] {
        let method = Method {
            seconds: 0.3,
            rate: 500.0,
            sender,
            sender_cpu: None,
            receiver_cpu: None,
            ring_blocks: 8,
            touch: Touch::All,
        };
        let shape = Shape {
            connections: 5,
            ..Shape::default()
        };
        let row = measure(&shape, "plain", &method, 1)?;
        ensure!((row.calls_offered, row.dropped) == (150, 0), "{sender:?}");
        ensure!(row.frames > 4 * 150, "{row:?}");
        ensure!(row.received == row.frames, "{sender:?}");
    }
    Ok(())
}
