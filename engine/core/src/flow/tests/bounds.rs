//! Many flows, few resources: what is given up is counted, and other flows stay whole.

use super::*;

fn endpoint(host: u32, port: u16) -> Endpoint {
    let mut addr = [0; 16];
    addr[12..].copy_from_slice(&host.to_be_bytes());
    Endpoint { addr, port }
}

fn segment(host: u32, micros: u64, flags: u8, seq: u32, payload: &[u8]) -> Segment<'_> {
    Segment {
        time: Timestamp::from_parts(1_000_000, 0).after(Duration::from_micros(micros)),
        network: Network::default(),
        src: endpoint(host, 40_000),
        dst: endpoint(u32::MAX, 80),
        seq,
        ack: 1,
        flags: Flags(flags),
        payload,
        payload_wire_len: payload.len() as u32,
    }
}

fn table(flows_max: usize, buffered_bytes_max: usize) -> (Table<Recorder>, Tape) {
    let config = Config {
        flows_max,
        buffered_bytes_max,
        ..Config::default()
    };
    (Table::new(config), Tape::default())
}

fn delivered(tape: &Tape, record: usize) -> Vec<u8> {
    let events = tape.records[record].events.iter();
    events
        .flat_map(|event| {
            if let Event::Data(_, _, bytes) = event {
                bytes.as_slice()
            } else {
                b"~"
            }
        })
        .copied()
        .collect()
}

#[test]
fn half_open_connections_go_before_flows_with_payload() {
    let (mut table, mut tape) = table(1000, 1 << 20);
    table.segment(&segment(0, 0, Flags::SYN, 0, b""), &mut tape);
    table.segment(&segment(0, 10, Flags::ACK, 1, b"GET "), &mut tape);
    for host in 1..100_000_u32 {
        table.segment(
            &segment(host, 10 + u64::from(host), Flags::SYN, 7, b""),
            &mut tape,
        );
    }
    table.segment(&segment(0, 200_000, Flags::ACK, 5, b"/"), &mut tape);
    assert_balanced(&table);
    assert_eq!(table.flows_open(), 1000);
    assert_eq!(
        (tape.records.len(), delivered(&tape, 0)),
        (1, b"GET /".to_vec())
    );
    assert_eq!(table.counters().flow_ended_evicted, 99_000);
}

#[test]
fn flows_of_one_packet_go_before_connections_of_two_sides() {
    let (mut table, mut tape) = table(1000, 1 << 20);
    table.segment(&segment(0, 0, Flags::ACK, 1, b"GET "), &mut tape);
    let asked = segment(0, 10, Flags::ACK, 1, b"HTTP");
    let answer = Segment {
        src: asked.dst,
        dst: asked.src,
        ack: 5,
        ..asked
    };
    table.segment(&answer, &mut tape);
    for host in 1..100_000_u32 {
        let time = 10 + u64::from(host);
        table.segment(&segment(host, time, Flags::ACK, 7, b"x"), &mut tape);
    }
    assert_eq!(tape.records[0].end, None, "the idle connection stays");
    table.segment(&segment(0, 200_000, Flags::ACK, 5, b"/"), &mut tape);
    assert_balanced(&table);
    assert_eq!(table.flows_open(), 1000);
    assert_eq!(table.counters().flow_ended_evicted, 99_000);
}

#[test]
fn the_flow_idle_longest_is_evicted() {
    let (mut table, mut tape) = table(10, 1 << 20);
    for host in 0..10 {
        table.segment(
            &segment(host, u64::from(host), Flags::SYN, 0, b"x"),
            &mut tape,
        );
    }
    // Host 0 goes on a moment later: too soon to be moved to the end of its list, in time to be spared.
    table.segment(&segment(0, 30_000, Flags::ACK, 2, b"y"), &mut tape);
    table.segment(&segment(10, 40_000, Flags::SYN, 0, b"x"), &mut tape);
    assert_balanced(&table);
    let ended: Vec<_> = tape.records.iter().map(|record| record.end).collect();
    assert_eq!(
        (ended[0], ended[1], ended[2]),
        (None, Some(FlowEnd::Evicted), None)
    );
}

#[test]
fn a_hole_is_given_up_at_the_bound_of_its_direction() {
    let (mut table, mut tape) = table(10, usize::MAX);
    table.segment(&segment(0, 0, Flags::SYN, 0, b""), &mut tape);
    let bytes = [b'x'; 1000];
    let mut most = 0;
    for n in 0..3000_u32 {
        let seq = 2 + n * 1000;
        table.segment(
            &segment(0, u64::from(n), Flags::ACK, seq, &bytes),
            &mut tape,
        );
        most = most.max(table.buffered_bytes());
        assert_balanced(&table);
    }
    assert!(
        most <= limits::DIRECTION_BUFFERED_BYTES_MAX as u64,
        "{most}"
    );
    assert_eq!(table.buffered_bytes(), 0);
    assert_eq!(
        (
            table.counters().flow_gap_bytes,
            table.counters().flow_holes_over_bounds
        ),
        (1, 1)
    );
    assert_eq!(table.counters().flow_delivered_bytes, 3_000_000);
}

#[test]
fn one_byte_segments_out_of_order_are_bounded_by_number() {
    let (mut table, mut tape) = table(10, usize::MAX);
    table.segment(&segment(0, 0, Flags::SYN, 0, b""), &mut tape);
    for n in 0..3000_u32 {
        table.segment(
            &segment(0, u64::from(n), Flags::ACK, 3 + n * 2, b"x"),
            &mut tape,
        );
        assert!(table.buffered_bytes() <= limits::DIRECTION_BUFFERED_SEGMENTS_MAX as u64 + 1);
    }
    table.finish(Timestamp::ZERO, &mut tape);
    assert_balanced(&table);
    assert_eq!(table.counters().flow_delivered_bytes, 3000);
}

#[test]
fn a_flow_with_a_short_hole_does_not_pay_for_those_that_never_fill_theirs() {
    let (mut table, mut tape) = table(10_000, 1 << 20);
    for host in 1..5000 {
        table.segment(
            &segment(host, u64::from(host), Flags::SYN, 0, b""),
            &mut tape,
        );
        table.segment(
            &segment(host, u64::from(host), Flags::ACK, 9, &[b'x'; 700]),
            &mut tape,
        );
        assert_balanced(&table);
    }
    table.segment(&segment(0, 6000, Flags::SYN, 0, b""), &mut tape);
    let good = tape.records.len();
    table.segment(&segment(0, 6001, Flags::ACK, 4, b"def"), &mut tape);
    for host in 5000..5100 {
        table.segment(&segment(host, 6002, Flags::SYN, 0, b""), &mut tape);
        table.segment(&segment(host, 6002, Flags::ACK, 9, &[b'x'; 700]), &mut tape);
    }
    table.segment(&segment(0, 6003, Flags::ACK, 1, b"abc"), &mut tape);
    assert_eq!(delivered(&tape, good), b"abcdef");
    assert!(table.buffered_bytes() <= 1 << 20);
    assert!(table.counters().flow_holes_over_bounds > 4000);
}
