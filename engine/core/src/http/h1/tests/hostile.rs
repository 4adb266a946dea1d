//! Random conversations with losses, damaged bytes and floods.

use super::flow::*;
use super::random::*;
use super::recorder::{Draft, Recorder};
use crate::flow::{Acked, ByteInfo, Consumer, Direction, FlowEnd};
use crate::http::*;
use crate::limits;
use crate::time::Timestamp;

/// Replaces random pieces by losses.
fn lossy(events: &[Event], chance: usize, random: &mut Random) -> Vec<Event> {
    let mut out = Vec::new();
    for event in events {
        let (C(bytes) | S(bytes)) = event else {
            out.push(event.clone());
            continue;
        };
        let client = matches!(event, C(_));
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (piece, after) = rest.split_at((1 + random.below(120)).min(rest.len()));
            rest = after;
            let lost = piece.len() as u64;
            out.push(match (random.one_in(chance), client) {
                (true, true) => LostC(lost),
                (true, false) => LostS(lost),
                (false, true) => C(piece.to_vec()),
                (false, false) => S(piece.to_vec()),
            });
        }
    }
    out
}

/// The number between `before` and the first character that is no digit.
fn number_after(line: &str, before: &str) -> Option<u64> {
    let digits = &line[line.find(before)? + before.len()..];
    digits[..digits.find(|c: char| !c.is_ascii_digit())?]
        .parse()
        .ok()
}

#[test]
fn losses_never_make_a_wrong_pair_or_a_whole_call_of_a_damaged_one() {
    let heavy = check_losses(0..3000, 6);
    assert!(
        heavy > 25,
        "a sixth of all pieces lost: {heavy} % of the calls are whole"
    );
    let light = check_losses(3000..4000, 60);
    assert!(
        light > 80,
        "a sixtieth of all pieces lost: {light} % of the calls are whole"
    );
}

/// Loses one piece in `chance`; the share of calls that were delivered whole, in percent.
#[track_caller]
fn check_losses(seeds: std::ops::Range<u64>, chance: usize) -> u64 {
    let (mut done, mut halves, mut whole, mut sent) = (0, 0, 0, 0);
    for seed in seeds {
        let mut random = Random::new(seed);
        let conversation = Conversation::new(&mut random);
        let expected = expected_lines(&conversation);
        let events = conversation.events(&mut random);
        let events = lossy(&events, chance, &mut random);
        let (lines, counters) = run(&events, usize::MAX, FlowEnd::Fin, "", false);
        let without_index = |line: &str| line.split_once(' ').unwrap().1.to_owned();
        let truth: Vec<String> = expected.iter().map(|line| without_index(line)).collect();
        for line in &lines {
            if !line.ends_with(" done") {
                halves += 1;
                continue;
            }
            done += 1;
            let pair = (number_after(line, " /call/"), number_after(line, "[X-Id="));
            if let (Some(request), Some(response)) = pair {
                assert_eq!(request, response, "seed {seed}: {line}\n{events:?}");
            }
            // Marked, or as the endpoints sent it; a head that lost its first fields is a risk that is not taken.
            let marked = line.contains("~ =>") || line.contains("~ done");
            let whole_line = truth.contains(&without_index(line));
            assert!(
                marked || whole_line,
                "seed {seed}: {line}\n{expected:#?}\n{events:?}"
            );
            whole += u64::from(whole_line);
        }
        sent += expected.len() as u64;
        assert_eq!(counters.exchanges_opened, lines.len() as u64);
    }
    println!("{sent} sent, {done} delivered as calls, {whole} of them whole, {halves} halves");
    whole * 100 / sent
}

#[test]
fn a_client_that_does_not_pipeline_is_never_given_up() {
    for seed in 0..1500 {
        let mut random = Random::new(seed);
        let mut conversation = Conversation::new(&mut random);
        conversation.pipelines = false;
        let events = lossy(&conversation.events(&mut random), 12, &mut random);
        let (_, counters) = run(&events, usize::MAX, FlowEnd::Fin, "", false);
        assert_eq!(counters.pairings_given_up, 0, "seed {seed}\n{events:?}");
    }
}

/// Flips, drops, doubles, swaps and cuts bytes of valid conversations.
fn mutated(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=random.below(4) {
        if bytes.is_empty() {
            return bytes;
        }
        let at = random.below(bytes.len());
        let to = (at + random.below(40)).min(bytes.len());
        match random.below(6) {
            0 => bytes[at] = random.below(256) as u8,
            1 => drop(bytes.drain(at..to)),
            2 => {
                let again = bytes[at..to].to_vec();
                bytes.splice(at..at, again);
            }
            3 => bytes.truncate(at),
            4 => {
                let odd = random.pick(&[
                    "\0",
                    "\r",
                    "\n",
                    "\n\n",
                    ":",
                    " ",
                    "ffffffffffffffff\r\n",
                    "HTTP/1.1 200\r\n",
                    "GET / HTTP/1.1\r\n",
                    "Content-Length: -1\r\n",
                ]);
                bytes.splice(at..at, odd.bytes());
            }
            _ => bytes[at..to].reverse(),
        }
    }
    bytes
}

#[test]
fn hostile_bytes_break_no_promise() {
    for seed in 0..2500 {
        let mut random = Random::new(seed);
        let conversation = Conversation::new(&mut random);
        let events: Vec<Event> = conversation
            .events(&mut random)
            .iter()
            .map(|event| match event {
                C(bytes) if random.one_in(3) => C(mutated(bytes, &mut random)),
                S(bytes) if random.one_in(3) => S(mutated(bytes, &mut random)),
                other => other.clone(),
            })
            .collect();
        let events = if random.one_in(2) {
            lossy(&events, 20, &mut random)
        } else {
            events
        };
        let step = 1 + random.below(200);
        let ends = [
            FlowEnd::Fin,
            FlowEnd::Reset,
            FlowEnd::Idle,
            FlowEnd::Evicted,
            FlowEnd::Reused,
            FlowEnd::Shutdown,
        ];
        let mut flow = Flow::new(
            random.pick(&["", "80", "1-65535"]),
            random.one_in(3),
            random.one_in(4),
        );
        for event in &events {
            flow.feed(event, step);
            flow.balanced();
        }
        flow.end(ends[random.below(ends.len())]);
    }
}

#[test]
fn hostile_bytes_read_the_same_however_they_are_cut() {
    for seed in 0..800 {
        let mut random = Random::new(seed);
        let conversation = Conversation::new(&mut random);
        let events: Vec<Event> = conversation
            .events(&mut random)
            .iter()
            .map(|event| match event {
                C(bytes) if random.one_in(4) => C(mutated(bytes, &mut random)),
                S(bytes) if random.one_in(4) => S(mutated(bytes, &mut random)),
                other => other.clone(),
            })
            .collect();
        // How malformed heads are counted may depend on the cut; what is delivered may not.
        let delivered = |step| {
            let (lines, counters) = run(&events, step, FlowEnd::Fin, "", false);
            (
                lines,
                counters.requests,
                counters.responses,
                counters.responses_interim,
                counters.bodies_cut,
            )
        };
        let whole = delivered(usize::MAX);
        for step in [1, 2, 7, 1 + random.below(100)] {
            assert_eq!(
                delivered(step),
                whole,
                "seed {seed} in pieces of {step}\n{events:?}"
            );
        }
    }
}

/// Feeds `piece` until `total` bytes; the most that was held, and the counters.
fn flood(first: &str, piece: &[u8], total: usize) -> (usize, Counters) {
    let mut flow = Flow::new("", false, false);
    flow.feed(&c(first), usize::MAX);
    let mut most = 0;
    for _ in 0..total / piece.len() {
        let place = flow.place(true, piece.len() as u64);
        flow.connection
            .as_mut()
            .unwrap()
            .data(place, piece, &mut flow.http);
        most = most.max(flow.http.buffered_bytes());
    }
    let counters = flow.http.counters;
    flow.end(FlowEnd::Idle);
    (most, counters)
}

#[test]
fn endless_input_is_bounded_and_takes_linear_time() {
    const TOTAL: usize = 2 << 20;
    let start = std::time::Instant::now();
    let head = "GET / HTTP/1.1\r\n";
    let (most, counters) = flood(head, b"a: b\r\n", TOTAL);
    assert!(
        most <= limits::HEAD_BYTES_MAX + 6 && counters.heads_oversized == 1,
        "endless headers: {most} bytes"
    );
    let (most, counters) = flood(head, b"x", TOTAL);
    assert!(
        most <= limits::HEAD_BYTES_MAX + 1 && counters.heads_oversized == 1,
        "an endless header: {most} bytes"
    );
    let (most, counters) = flood("GET /", b"a", TOTAL);
    assert!(
        most <= limits::HEAD_BYTES_MAX + 1 && counters.heads_oversized == 1,
        "an endless target: {most} bytes"
    );
    let (most, _) = flood("GET / HTTP/1.1\r\n\r\n", b"GET /", TOTAL);
    assert!(
        most <= limits::HEAD_BYTES_MAX + 5,
        "an endless line of starts: {most} bytes"
    );
    let chunked = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (most, counters) = flood(chunked, b"1\r\na\r\n", TOTAL);
    assert_eq!(
        (most, counters.bodies_broken),
        (0, 0),
        "endless chunks of one byte"
    );
    let (most, counters) = flood(chunked, b"0", TOTAL);
    assert!(
        most <= limits::RESYNC_LINE_BYTES_MAX.next_power_of_two() && counters.bodies_broken == 1,
        "an endless size: {most} bytes"
    );
    let (most, _) = flood("POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n", b"\0", TOTAL);
    assert!(
        most <= limits::RESYNC_LINE_BYTES_MAX.next_power_of_two(),
        "zeros: {most} bytes"
    );
    let (most, _) = flood("", b"\r\n", TOTAL);
    assert_eq!(most, 0, "empty lines");
    assert!(start.elapsed().as_secs() < 60, "took {:?}", start.elapsed());
}

#[test]
fn the_shard_bounds_what_all_flows_hold() {
    let mut http = Http::new(Config::default(), Recorder::default());
    let piece = [b"GET / HTTP/1.1\r\nA: ".to_vec(), vec![b'x'; 200 * 1024]].concat();
    let mut connections = Vec::new();
    for _ in 0..HEADS_BUFFERED_BYTES_MAX / piece.len() + 9 {
        let mut connection: Connection<Draft> = Connection::open(&start(false), &mut http);
        let place = ByteInfo {
            direction: Direction::Originator,
            time: Timestamp::ZERO,
            offset: 0,
            acked: Acked::UNKNOWN,
        };
        connection.data(place, &piece, &mut http);
        assert!(http.buffered_bytes() <= HEADS_BUFFERED_BYTES_MAX);
        connections.push(connection);
    }
    assert!(http.counters.heads_shed >= 9);
    connections
        .into_iter()
        .for_each(|connection| connection.close(FlowEnd::Idle, &mut http));
    assert_eq!(http.buffered_bytes(), 0);
}
