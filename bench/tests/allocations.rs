//! In steady state the engine allocates nothing: not for a packet, nor for a call, nor for a connection that opens or ends.
//!
//! This is a binary of its own, since counting needs an allocator of its own. In steady state the number of connections,
//! the names of headers and the sizes of buffers have occurred before; their growth is bounded elsewhere. Packet time
//! advances fast enough that ended flows are removed as new ones open. Bodies have no content coding, since the decoder of
//! Brotli allocates.

use bench::load::{FIRST_NUMBER, Load, Shape, mirrored};
use bench::stages::Stage;
use bench::traffic::Wire;

/// Calls before anything is counted.
const WARM_UP: u64 = 6_000;

/// Calls that are counted.
const CALLS: u64 = 3_000;

/// Time between frames in microseconds: more connections end in the warm-up than the table keeps at a time.
const FRAME_MICROS: u64 = 500;

/// The stage with compressed bundles, and rule sets with and without rules for bodies.
const STAGES: [&str; 4] = ["deflate", "standard", "strict", "realistic"];

#[track_caller]
fn check(calls_per_connection: u64, body_bytes: usize, wire: Wire) {
    check_protocol("http1", calls_per_connection, body_bytes, wire);
}

#[track_caller]
fn check_protocol(protocol: &str, calls_per_connection: u64, body_bytes: usize, wire: Wire) {
    let protocol_of = protocol.parse().expect("a protocol");
    // As many calls at a time, whatever the number of streams is: of more the writer frees the buffers.
    let connections = if protocol.ends_with("-10") { 20 } else { 200 };
    for name in STAGES {
        let shape = Shape {
            connections,
            calls_per_connection,
            body_bytes,
            wire: wire.clone(),
            protocol: protocol_of,
            ..Shape::default()
        };
        let mut load = Load::new(shape, FIRST_NUMBER, WARM_UP + CALLS);
        let mut stage = Stage::new(name).expect("a stage");
        let (mut frame, mut index, mut frames, mut found) = (Vec::new(), 0, 0, 0);
        while load.next_frame(&mut frame) {
            let counted = allocation_counter::measure(|| stage.feed(index, &frame));
            if load.calls_started() > WARM_UP {
                frames += 1;
                found += counted.count_total;
            }
            frame.clear();
            index += FRAME_MICROS;
        }
        assert!(stage.done() > WARM_UP + CALLS, "nothing was done");
        assert!(frames > CALLS / 4);
        assert_eq!(
            found, 0,
            "{name}, {protocol}: allocations in {frames} frames"
        );
    }
}

#[test]
fn connections_that_stay() {
    check(1_000_000, 200, Wire::default());
    check(1_000_000, 2000, mirrored(7));
}

#[test]
fn connections_that_come_and_go() {
    check(10, 2000, Wire::default());
    check(1, 200, Wire::default());
}

#[test]
fn streams_of_connections_that_stay() {
    check_protocol("h2c", 1_000_000, 200, Wire::default());
    check_protocol("h2c-10", 1_000_000, 2000, mirrored(7));
    check_protocol("h2c-literal", 1_000_000, 200, Wire::default());
}

#[test]
fn streams_of_connections_that_come_and_go() {
    check_protocol("h2c", 10, 2000, Wire::default());
    check_protocol("h2c-10", 20, 200, Wire::default());
}

#[test]
fn what_allocates_is_counted() {
    let counted = allocation_counter::measure(|| drop(std::hint::black_box(vec![1])));
    assert_eq!(counted.count_total, 1);
}
