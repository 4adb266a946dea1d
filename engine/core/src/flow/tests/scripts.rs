//! One accident at a time, as a script of packets.
//!
//! A line is `MICROS > FLAGS SEQ ACK TEXT` (`<` from the server); flags are letters of `SAFR`, `.` for ACK alone, `P` for none;
//! numbers are relative to the initial numbers, so data starts at 1; `~N` at the end means N bytes were cut off.

use super::*;

const CLIENT_ISN: u32 = u32::MAX - 20;
const SERVER_ISN: u32 = 70_000;

fn shot(line: &str) -> Shot {
    let mut words = line.split_whitespace();
    let micros = words.next().unwrap().parse().unwrap();
    let from_client = words.next().unwrap() == ">";
    let flags = words.next().unwrap().chars().fold(0, |flags, letter| {
        flags
            | match letter {
                'S' => Flags::SYN,
                'A' | '.' => Flags::ACK,
                'F' => Flags::FIN,
                'R' => Flags::RST,
                'P' => 0,
                _ => panic!("{letter}"),
            }
    });
    let (own, other) = if from_client {
        (CLIENT_ISN, SERVER_ISN)
    } else {
        (SERVER_ISN, CLIENT_ISN)
    };
    let number = |text: Option<&str>| text.unwrap().parse::<i64>().unwrap() as u32;
    let (seq, ack) = (number(words.next()), number(words.next()));
    let text = words.next().unwrap_or_default();
    let (text, cut) = text.split_once('~').unwrap_or((text, "0"));
    Shot {
        micros,
        from_client,
        flags,
        seq: own.wrapping_add(seq),
        ack: other.wrapping_add(ack),
        bytes: text.as_bytes().to_vec(),
        cut: cut.parse().unwrap(),
    }
}

/// All records: `>` from the client, `<` from the server, `(N)` a gap, `.` a FIN, and how the flow ended.
fn show(tape: &Tape) -> String {
    let mut shown = Vec::new();
    for record in &tape.records {
        let arrow = |direction: &Direction| {
            let originator_is_client = record.start.originator == CLIENT;
            if (*direction == Direction::Originator) == originator_is_client {
                '>'
            } else {
                '<'
            }
        };
        shown.extend(record.events.iter().map(|event| match event {
            Event::Data(direction, _, bytes) => {
                format!("{}{}", arrow(direction), String::from_utf8_lossy(bytes))
            }
            Event::Gap(direction, _, len) => format!("{}({len})", arrow(direction)),
            Event::Finished(direction, _) => format!("{}.", arrow(direction)),
        }));
        shown.push(
            record
                .end
                .map_or("open".to_owned(), |end| format!("{end:?}")),
        );
    }
    shown.join(" ")
}

fn play(script: &str, finish: bool) -> (Table<Recorder>, Tape) {
    let (mut table, mut tape) = (Table::new(Config::default()), Tape::default());
    let mut last = Timestamp::ZERO;
    for line in script
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
    {
        if let Some(micros) = line.strip_prefix("tick ") {
            let now = Duration::from_micros(micros.parse().unwrap());
            table.tick(Timestamp::from_parts(1_000_000, 0).after(now), &mut tape);
        } else {
            let shot = shot(line);
            last = shot.segment().time;
            table.segment(&shot.segment(), &mut tape);
        }
        assert_balanced(&table);
    }
    if finish {
        table.finish(last, &mut tape);
        assert_balanced(&table);
        assert_eq!((table.buffered_bytes(), table.flows_open()), (0, 0));
    }
    (table, tape)
}

/// What the consumer received by the end of the capture.
#[track_caller]
fn check(script: &str, expected: &str) {
    let (_, tape) = play(script, true);
    assert_eq!(show(&tape), expected);
}

/// What the consumer received when the script ends, before the capture ends.
#[track_caller]
fn check_live(script: &str, expected: &str) {
    let (_, tape) = play(script, false);
    assert_eq!(show(&tape), expected);
}

const SHAKE: &str = "0 > S 0 0\n10 < SA 0 1\n20 > . 1 1\n";

#[track_caller]
fn check_shaken(script: &str, expected: &str) {
    check(&format!("{SHAKE}{script}"), expected);
}

#[track_caller]
fn check_shaken_live(script: &str, expected: &str) {
    check_live(&format!("{SHAKE}{script}"), expected);
}

#[test]
fn a_plain_conversation() {
    check_shaken(
        "30 > . 1 1 ask
         40 < . 1 4 answer
         50 > . 4 7
         60 > FA 4 7
         70 < FA 7 5
         80 > . 5 8",
        ">ask <answer >. <. Fin",
    );
}

#[test]
fn a_reordered_segment_is_used_within_the_grace_although_it_was_acknowledged() {
    check_shaken_live(
        "30 > . 1 1 ask
         40 < . 4 4 wer
         50 > . 4 7
         15000 < . 1 4 ans",
        ">ask <ans <wer open",
    );
}

#[test]
fn in_a_quiet_flow_the_grace_is_longer() {
    let missing = "30 > . 1 1 ask\n40 < . 4 4 wer\n50 > . 4 7\n";
    check_shaken_live(
        &format!("{missing}73000 < . 1 4 ans"),
        ">ask <ans <wer open",
    );
    // So many segments show that it does not come, before the time and after it.
    let more = |from: u32, count: u32| {
        let lines = (0..count).map(|number| format!("{} > . 4 7\n", from + number));
        lines.collect::<String>()
    };
    let few = limits::REORDER_SEGMENTS_MIN - 2;
    check_shaken_live(
        &format!("{missing}{}tick 20060", more(60, few - 1)),
        ">ask open",
    );
    check_shaken_live(
        &format!("{missing}{}tick 20100", more(60, few + 1)),
        ">ask <(3) <wer open",
    );
    check_shaken_live(&format!("{missing}{}", more(30_000, few)), ">ask open");
    check_shaken_live(
        &format!("{missing}{}", more(30_000, few + 1)),
        ">ask <(3) <wer open",
    );
}

#[test]
fn a_proven_loss_is_a_gap_when_the_grace_is_over_not_after_minutes() {
    check_shaken_live(
        "30 > . 1 1 ask\n40 < . 4 4 wer\n50 > . 4 7\ntick 200049",
        ">ask open",
    );
    check_shaken_live(
        "30 > . 1 1 ask\n40 < . 4 4 wer\n50 > . 4 7\ntick 200050",
        ">ask <(3) <wer open",
    );
    // The late bytes are counted, not delivered.
    let (table, tape) = play(
        &format!("{SHAKE}30 > . 1 1 ask\n40 < . 4 4 wer\n50 > . 4 7\n210000 < . 1 4 ans"),
        false,
    );
    assert_eq!(show(&tape), ">ask <(3) <wer open");
    assert_eq!(table.counters().flow_discarded_late_bytes, 3);
}

/// What arrives for an earlier gap than the last one is late as well, once; what comes again is a duplicate.
#[test]
fn late_bytes_of_every_gap_are_late_and_no_duplicates() {
    let gaps = "30 > . 1 1 ask\n40 < . 4 4 wer\n50 > . 4 7\n60 < . 10 4 wer\n70 > . 4 13\n";
    let late = "tick 210000\ntick 420000\n420010 < . 1 4 ans\n420020 < . 7 4 abc\n";
    let (table, _) = play(&format!("{SHAKE}{gaps}{late}"), false);
    let counters = table.counters();
    assert_eq!(counters.flow_gap_bytes, 6);
    assert_eq!(counters.flow_discarded_late_bytes, 6);
    assert_eq!(
        (counters.missing_bytes(), counters.flow_duplicate_bytes),
        (0, 0)
    );
    let (table, _) = play(
        &format!("{SHAKE}{gaps}{late}430000 < . 1 4 ans\n430010 < . 7 4 abc\n"),
        false,
    );
    let counters = table.counters();
    assert_eq!(counters.flow_discarded_late_bytes, 6);
    assert_eq!(
        (counters.missing_bytes(), counters.flow_duplicate_bytes),
        (0, 6)
    );
}

/// After the end of the connection a byte is what it was before: missing and late, delivered and a duplicate, or behind the end.
#[test]
fn what_is_captured_after_the_end_is_counted_as_what_it_is() {
    let end = "30 > . 1 1 ask\n40 < . 4 4 wer\n50 > FA 4 7\n60 < FA 7 5\n70 > . 5 8\n";
    for (late, expected) in [
        // The gap is filled in two parts, then comes again; one byte lies behind the FIN.
        ("< . 1 4 an", [2, 0, 0, 0]),
        ("< . 2 4 nswe", [2, 2, 0, 0]),
        ("< . 1 4 answer", [3, 3, 0, 0]),
        ("< . 4 4 wer?", [0, 3, 1, 0]),
        ("> . 1 1 ask", [0, 3, 0, 0]),
        ("> . 4 1 ask", [0, 0, 3, 0]),
    ] {
        let script = format!("{SHAKE}{end}tick 900000\n910000 {late}\n");
        let (table, tape) = play(&script, false);
        assert_eq!(show(&tape), ">ask <(3) <wer >. <. Fin", "{late}");
        let c = table.counters();
        let found = [
            c.flow_discarded_late_bytes,
            c.flow_duplicate_bytes,
            c.flow_discarded_after_end_bytes,
            c.flow_discarded_before_start_bytes,
        ];
        assert_eq!(found, expected, "{late}");
        assert_eq!(c.missing_bytes(), 3 - expected[0], "{late}");
    }
    // The same again is a duplicate, and what lies before the first byte of a late start was never delivered.
    let (table, _) = play(
        &format!("{SHAKE}{end}tick 900000\n910000 < . 1 4 ans\n910010 < . 1 4 ans\n"),
        false,
    );
    let c = table.counters();
    assert_eq!(
        (c.flow_discarded_late_bytes, c.flow_duplicate_bytes),
        (3, 3)
    );
    let midstream = "0 > . 100 1 ask\n30000 < . 1 103 wer\n30010 > FA 103 4\n30020 < FA 4 104\n";
    let (table, _) = play(&format!("{midstream}60000 > . 98 1 xxask\n"), false);
    let c = table.counters();
    assert_eq!(
        (c.flow_discarded_before_start_bytes, c.flow_duplicate_bytes),
        (2, 3)
    );
}

/// What comes again of an evicted flow is known; new bytes continue it.
#[test]
fn an_evicted_flow_goes_on_with_new_bytes_only() {
    let (mut table, mut tape) = play("0 > . 100 1 ask\n30000 < . 1 103 answer\n", false);
    assert!(table.evict_idle(&mut tape));
    for line in [
        "40000 < . 1 103 answer",
        "40010 > . 100 1 ask",
        "40020 > . 103 7",
        "40030 > . 103 7 more",
    ] {
        table.segment(&shot(line).segment(), &mut tape);
    }
    assert_eq!(table.counters().flow_duplicate_bytes, 9);
    table.finish(Timestamp::ZERO, &mut tape);
    assert_eq!(show(&tape), ">ask <answer Evicted >more Shutdown");
}

/// Bytes from before the first one that was seen were never delivered, so they are no duplicates.
#[test]
fn bytes_before_the_start_are_no_duplicates() {
    let (table, tape) = play(
        "0 > . 100 1 ask\n30000 > . 103 1 more\n60000 > . 90 1 before\n",
        false,
    );
    assert_eq!(show(&tape), ">ask >more open");
    assert_eq!(table.counters().flow_discarded_before_start_bytes, 6);
    assert_eq!(table.counters().flow_duplicate_bytes, 0);
}

#[test]
fn the_grace_ends_after_a_number_of_segments_even_if_the_clock_stands() {
    let mut script = format!("{SHAKE}30 > . 1 1 ask\n40 < . 4 4 wer\n");
    for _ in 0..limits::REORDER_SEGMENTS_MAX {
        script += "50 > . 4 7\n";
    }
    check_live(&script, ">ask open");
    script += "50 > . 4 7\n";
    check_live(&script, ">ask <(3) <wer open");
}

#[test]
fn a_hole_without_acknowledgement_waits_for_the_retransmission() {
    check_shaken_live("40 < . 4 1 wer\n3000000 < . 1 1 ans", "<ans <wer open");
    check_shaken_live("40 < . 4 1 wer\ntick 9000000", "open");
    check_shaken_live("40 < . 4 1 wer\ntick 10000040", "<(3) <wer open");
}

#[test]
fn a_forged_segment_far_ahead_makes_no_gap() {
    let forged = "30 > . 1 1 ask\n31 > . 5000000 1 forged\n32 < . 1 4 ok\n";
    check_shaken(
        &format!("{forged}11000000 > . 4 3 more"),
        ">ask <ok >more Shutdown",
    );
    check_shaken(
        "30 > . 1 1 ask\n31 > . 500000000 1 forged\n32 > . 4 1 more",
        ">ask >more Shutdown",
    );
}

#[test]
fn a_direction_that_jumps_farther_than_any_window_continues_there() {
    check_shaken(
        "30 > . 1 1 ask
         40 > . 1000000001 1 a
         50 > . 1000000002 1 b
         60 > . 1000000003 1 c
         70 > . 1000000004 1 d
         80 > . 1000000005 1 e",
        ">ask >(1000000000) >d >e Shutdown",
    );
}

#[test]
fn a_response_captured_before_its_request_is_delivered_after_it() {
    check_shaken("40 < . 1 4 answer\n50 > . 1 1 ask", ">ask <answer Shutdown");
    // Its FIN waits too.
    check_shaken(
        "40 < FA 1 4 answer\n50 > . 1 1 ask\n60 > FA 4 8",
        ">ask <answer <. >. Fin",
    );
    // If the request does not arrive it was missed, and its length is known.
    check_shaken_live("40 < . 1 4 answer\ntick 200040", ">(3) <answer open");
    // The FIN and SYN numbers are not data.
    check_shaken(
        "30 > FA 1 1 ask\n40 < . 1 5 answer",
        ">ask >. <answer Shutdown",
    );
    check_shaken(
        "30 > . 1 1 ask\n35 < . 1 5 answer\n40 > FA 4 1",
        ">ask >. <answer Shutdown",
    );
}

#[test]
fn a_midstream_start_in_the_wrong_order_is_put_right() {
    check(
        "0 < . 1 4 answer\n10 > . 1 1 ask\n20 > . 4 7 more",
        ">ask <answer >more Shutdown",
    );
    check(
        "0 < . 4 4 wer\n10 < . 1 4 ans\n20 > . 4 7 more",
        "<ans <wer >more Shutdown",
    );
    check_live("0 > . 1 1 ask", "open");
    check_live("0 > . 1 1 ask\ntick 20000", ">ask open");
    check_live("0 > . 1 1 ask\n10 < . 1 4", "open");
    let late = "0 > . 4 1\n10 < . 1 4 answer\n20 > . 1 1 ask";
    check_live(late, "open");
    check_live(
        &format!("{late}\n20001 > . 4 7 more"),
        ">ask <answer >more open",
    );
}

#[test]
fn without_acknowledgements_the_order_of_capture_holds() {
    let script =
        "0 > A 1 0 ask\n1 < A 1 0 ans\n2 > A 4 0 more\n3 < A 4 0 wer".replace(" A ", " P ");
    check(&script, ">ask <ans >more <wer Shutdown");
}

#[test]
fn one_sided_traffic_is_not_held_up() {
    // The first acknowledgement of unseen bytes starts a grace; then the direction is uncaptured and nothing waits.
    let midstream = "0 > . 1 1 ask\n30000 > . 4 1001 ask\n";
    let begun = "0 > S 0 0\n20 > . 1 1\n30 > . 1 1 ask\n30000 > . 4 1001 ask\n";
    for requests in [midstream, begun] {
        check_live(requests, ">ask open");
        check_live(&format!("{requests}tick 50000"), ">ask <(1000) >ask open");
        check_live(
            &format!("{requests}tick 50000\n60000 > . 7 2001 ask"),
            ">ask <(1000) >ask <(1000) >ask open",
        );
    }
}

#[test]
fn known_bytes_are_delivered_once() {
    // The same segment, other boundaries, other content: the first bytes win.
    check_shaken(
        "30 > . 1 1 ask\n40 > . 1 1 ask\n50 > . 2 1 XXme",
        ">ask >me Shutdown",
    );
    check_shaken("30 > . 3 1 kme\n40 > . 1 1 aXXXXX", ">aX >kme >X Shutdown");
    // Keep-alive probes with and without a byte.
    check_shaken(
        "30 > . 1 1 ask\n40 > . 3 1 X\n50 > . 3 1\n60 > . 4 1 more",
        ">ask >more Shutdown",
    );
    let (table, _) = play(
        &format!("{SHAKE}30 > . 1 1 ask\n40 > . 1 1 ask\n50 > . 2 1 skme"),
        true,
    );
    let counters = table.counters();
    assert_eq!(
        (
            counters.flow_segments_duplicate,
            counters.flow_duplicate_bytes
        ),
        (1, 3)
    );
    assert_eq!(
        (
            counters.flow_segments_overlapping,
            counters.flow_overlapped_bytes
        ),
        (1, 2)
    );
    assert_eq!(counters.flow_copied_bytes, 0);
}

#[test]
fn a_zero_window_probe_is_data_once() {
    check_shaken(
        "30 > . 1 1 a\n40 < . 1 1\n50 > . 1 1 ask\n60 < . 1 4",
        ">a >sk Shutdown",
    );
}

#[test]
fn cut_off_bytes_are_a_gap_at_once() {
    check_shaken_live("30 > . 1 1 ask~5\n40 > . 9 1 more", ">ask >(5) >more open");
    check_shaken_live(
        "30 > . 9 1 more~2\n40 > . 1 1 ask~5",
        ">ask >(5) >more >(2) open",
    );
    check_shaken_live("30 > . 1 1 ~5\n40 > . 6 1 more", ">(5) >more open");
}

#[test]
fn data_on_the_syn_counts_from_behind_it() {
    check(
        "0 > S 0 0 ask\n10 < SA 0 4\n20 < . 1 4 answer",
        ">ask <answer Shutdown",
    );
    // Not accepted by the server: sent again.
    check(
        "0 > S 0 0 ask\n10 < SA 0 1\n20 > . 1 1 ask\n30 < . 1 4 ok",
        ">ask <ok Shutdown",
    );
}

#[test]
fn resets_end_the_flow_only_in_the_window() {
    check_shaken(
        "30 > . 1 1 ask\n40 < . 1 4 ans\n50 < RA 4 4",
        ">ask <ans Reset",
    );
    check_shaken(
        "30 > . 1 1 ask\n40 < R 4000000 4\n50 < . 1 4 ans",
        ">ask <ans Shutdown",
    );
    // Near but not exact, and its sender goes on.
    check_shaken(
        "30 > . 1 1 ask\n40 < R 1000 4\n50 < . 1 4 ans\ntick 9000000",
        ">ask <ans Shutdown",
    );
    check_shaken("30 > . 1 1 ask\n40 < R 1000 4\ntick 9000000", ">ask Reset");
    // Bytes before it may still come.
    check_shaken(
        "30 > . 1 1 ask\n40 < . 3 4 s\n41 < RA 4 4\n50 < . 1 4 an",
        ">ask <an <s Reset",
    );
    check_shaken(
        "30 > . 1 1 ask\n40 < . 3 4 s\n41 < RA 4 4\ntick 30000",
        ">ask <(2) <s Reset",
    );
}

/// What the peer of a reset does not accept ends nothing: the connection goes on as one joined midstream.
#[test]
fn what_follows_an_ignored_reset_is_read() {
    let before = format!("{SHAKE}30 > . 1 1 ask\n40 < . 1 4 ans\n");
    for (reset, ignored) in [
        ("50 > RA 4 4", 1),
        ("50 < RA 4 4", 0),
        ("50 < R 2 4\ntick 9000000", 0),
    ] {
        let script = format!("{before}{reset}\n9000060 > . 4 4 more\n9000070 < . 4 8 wer\n");
        let (table, tape) = play(&script, true);
        assert_eq!(tape.records.len(), 2, "{reset}");
        assert_eq!(table.counters().flow_resets_ignored, ignored, "{reset}");
        assert_eq!(table.counters().flow_delivered_bytes, 13, "{reset}");
        assert!(tape.records[1].start.midstream);
    }
    // What a server had in flight when the client reset the connection is nobody's.
    let script = format!("{before}50 > RA 4 4\n60 < . 4 4 wer\n");
    let (table, tape) = play(&script, true);
    assert_eq!(show(&tape), ">ask <ans Reset");
    assert_eq!(table.counters().flow_discarded_after_end_bytes, 3);
}

#[test]
fn data_behind_the_fin_is_discarded() {
    let script = format!("{SHAKE}30 > FA 1 1 ask\n40 > . 4 1 more\n45 > . 1 1 askmore\n");
    let (table, tape) = play(&script, true);
    assert_eq!(show(&tape), ">ask >. Shutdown");
    assert_eq!(table.counters().flow_discarded_after_fin_bytes, 8);
}

#[test]
fn an_unseen_tail_is_a_gap() {
    check_shaken(
        "30 > . 1 1 ask\n40 < . 1 4 ans\n50 > . 4 9",
        ">ask <ans <(5) Shutdown",
    );
    check_shaken("30 > . 1 1 ask\n40 < FA 9 4", ">ask <(8) <. Shutdown");
    // One byte more than was seen is a FIN that was not captured.
    check_shaken(
        "30 > . 1 1 ask\n40 < . 1 4 ans\n50 > . 4 5\n60 > FA 4 5",
        ">ask <ans >. Shutdown",
    );
    check_shaken(
        "30 > . 1 1 ask\n40 < . 1 4 ans\n50 > . 4 5\n60000 < . 5 4 more",
        ">ask <ans <(1) <more Shutdown",
    );
}

#[test]
fn a_port_used_again_is_a_new_flow() {
    let first = format!("{SHAKE}30 > . 1 1 ask\n");
    let again = "1000 > S 5000 0\n1010 < SA 900 5001\n1020 > . 5001 901 two";
    // In an open connection the SYN must be confirmed, here by its answer.
    check(&format!("{first}{again}"), ">ask Reused >two Shutdown");
    check(
        &format!("{first}1000 > S 100000 0\n1020 > . 100001 100901 two\n1030 < . 100901 100004 ok"),
        ">ask Reused >two <ok Shutdown",
    );
    check(
        &format!("{first}40 > FA 4 1\n{again}"),
        ">ask >. Reused >two Shutdown",
    );
    check(
        &format!("{first}40 > R 4 1\n{again}"),
        ">ask Reset >two Shutdown",
    );
    // The same numbers of both sides again are a copy of the packets, however late.
    check(
        &format!("{first}40 > R 4 1\n900000 > S 0 0\n900010 < SA 0 1\n900020 > . 1 1 ask"),
        ">ask Reset",
    );
    // The same number of one side is not.
    check(
        &format!("{first}40 > R 4 1\n900000 > S 0 0\n900010 < SA 7000 1\n900020 > . 1 7001 two"),
        ">ask Reset >two Shutdown",
    );
    // A retransmitted SYN is not one.
    check(
        &format!("{first}1000 > S 0 0\n1001 < SA 0 1\n1002 > . 4 1 more"),
        ">ask >more Shutdown",
    );
    // Nor is a forged one that nothing follows.
    check(
        &format!("{first}1000 > S 5000 0\n1002 > . 4 1 more"),
        ">ask >more Shutdown",
    );
}

#[test]
fn a_whole_conversation_captured_twice_is_delivered_once() {
    let whole =
        "0 > S 0 0\n1 < SA 0 1\n2 > . 1 1\n3 > . 1 1 ask\n4 < FA 1 4 ans\n5 > FA 4 5\n6 < . 5 5\n";
    let (table, tape) = play(&format!("{whole}{whole}"), true);
    assert_eq!(show(&tape), ">ask <ans <. >. Fin");
    assert_eq!(table.counters().flow_duplicate_bytes, 6);
    let twice: String = whole
        .lines()
        .flat_map(|line| [line, "\n", line, "\n"])
        .collect();
    check(&twice, ">ask <ans <. >. Fin");
}

#[test]
fn both_may_open_at_once_and_an_answer_may_be_captured_first() {
    check(
        "0 > S 0 0\n1 < S 0 0\n2 > SA 0 1\n3 < SA 0 1\n4 > . 1 1 ask",
        ">ask Shutdown",
    );
    let (_, tape) = play("0 < SA 0 1\n1 > S 0 0\n2 > . 1 1 ask\n3 < . 1 4 ok", true);
    assert_eq!(show(&tape), ">ask <ok Shutdown");
    assert_eq!(tape.records[0].start.originator, CLIENT);
    assert_eq!(tape.records[0].start.originator_seq, CLIENT_ISN);
    assert!(!tape.records[0].start.midstream);
    let (_, tape) = play("0 < . 1 1\n1 < SA 0 1\n2 > S 0 0\n3 > . 1 1 ask", true);
    assert_eq!(tape.records[0].start.originator, CLIENT);
    assert_eq!(tape.records[0].start.originator_seq, CLIENT_ISN);
    assert!(!tape.records[0].start.midstream);
    // Data before the SYN's answer.
    check(
        "0 > S 0 0\n1 < . 4 4 wer\n2 < SA 0 1\n3 < . 1 4 ans\n4 > . 1 1 ask",
        ">ask <ans <wer Shutdown",
    );
}

#[test]
fn flows_without_payload_have_no_consumer() {
    let (table, tape) = play("0 > S 0 0\n1 < RA 0 1", false);
    assert_eq!((show(&tape).as_str(), table.flows_open()), ("", 0));
    let (table, tape) = play(
        &format!("{SHAKE}30 > FA 1 1\n40 < FA 1 2\n50 > . 2 2"),
        false,
    );
    assert_eq!((show(&tape).as_str(), table.flows_open()), ("", 0));
    assert_eq!(table.counters().flow_ended_fin, 1);
    let (table, tape) = play("0 > S 0 0\ntick 61000000\ntick 61200000", false);
    assert_eq!((show(&tape).as_str(), table.flows_open()), ("", 0));
    // Unless bytes are known to be missing.
    check(
        &format!("{SHAKE}30 < . 1 101\n40 > FA 101 1"),
        ">(100) >. Shutdown",
    );
}

#[test]
fn an_idle_flow_ends() {
    check_shaken_live("30 > . 1 1 ask\ntick 500000000", ">ask open");
    check_shaken_live("30 > . 1 1 ask\ntick 601000000", ">ask Idle");
    check_shaken_live(
        "30 > . 1 1 ask\n400000000 < . 1 4 ok\ntick 900000000",
        ">ask <ok open",
    );
}

#[test]
fn a_clock_set_back_breaks_nothing() {
    let script = "900000000 > . 1 1 ask\n1 < . 4 4 wer\n2 > . 4 7\ntick 210000";
    check_live(script, ">ask <(3) <wer open");
    check_live(&format!("{script}\ntick 700000000"), ">ask <(3) <wer Idle");
}

#[test]
fn an_ignored_direction_is_skipped() {
    let (mut table, mut tape) = (Table::<Recorder>::new(Config::default()), Tape::default());
    tape.ignored.push(Direction::Responder);
    for line in
        format!("{SHAKE}30 > . 1 1 ask\n40 < . 5 4 wer\n50 > . 4 7 more\n60 < . 1 4 ans").lines()
    {
        table.segment(&shot(line).segment(), &mut tape);
        assert_balanced(&table);
    }
    assert_eq!(show(&tape), ">ask >more open");
    assert_eq!(
        (table.counters().flow_skipped_bytes, table.buffered_bytes()),
        (6, 0)
    );
}
