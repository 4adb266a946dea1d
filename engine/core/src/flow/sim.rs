//! Conversations with known bytes over a capture that loses, reorders, repeats, re-cuts and truncates: what the
//! consumer was told must be what was said, and the ledger must balance after every segment.

use super::*;
use crate::decap::{Flags, Segment};
use crate::time::Timestamp;

/// What the consumer of one flow was told.
#[derive(Debug)]
struct Story {
    start: FlowStart,
    /// In the order of the calls.
    events: Vec<Event>,
    end: Option<FlowEnd>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Event {
    Data(Direction, u64, Vec<u8>),
    Gap(Direction, u64, u64),
    Finished(Direction, u64),
}

/// What all flows of a test share.
#[derive(Default)]
struct Tape {
    stories: Vec<Story>,
    ignored: Vec<Direction>,
}

/// Writes down what it is told; holds the number of its story.
struct Recorder {
    story: usize,
    ignored: Vec<Direction>,
}

impl Recorder {
    fn note(&self, tape: &mut Tape, event: Event) {
        tape.stories[self.story].events.push(event);
    }
}

impl Consumer<Tape> for Recorder {
    fn open(start: &FlowStart, tape: &mut Tape) -> Self {
        tape.stories.push(Story {
            start: *start,
            events: Vec::new(),
            end: None,
        });
        Self {
            story: tape.stories.len() - 1,
            ignored: tape.ignored.clone(),
        }
    }

    fn data(&mut self, place: Place, bytes: &[u8], tape: &mut Tape) {
        assert!(!bytes.is_empty());
        self.note(
            tape,
            Event::Data(place.direction, place.offset, bytes.to_vec()),
        );
    }

    fn gap(&mut self, place: Place, len: u64, tape: &mut Tape) {
        assert!(len > 0);
        self.note(tape, Event::Gap(place.direction, place.offset, len));
    }

    fn finished(&mut self, place: Place, tape: &mut Tape) {
        self.note(tape, Event::Finished(place.direction, place.offset));
    }

    fn close(self, end: FlowEnd, tape: &mut Tape) {
        assert_eq!(
            tape.stories[self.story].end.replace(end),
            None,
            "closed once"
        );
    }

    fn ignores(&self, direction: Direction) -> bool {
        self.ignored.contains(&direction)
    }
}

#[track_caller]
fn assert_balanced(table: &Table<Recorder>) {
    let c = table.counters();
    let out = c.flow_delivered_bytes
        + c.flow_duplicate_bytes
        + c.flow_overlapped_bytes
        + c.flow_skipped_bytes
        + c.flow_discarded_late_bytes
        + c.flow_discarded_after_fin_bytes
        + c.flow_discarded_after_end_bytes
        + c.flow_discarded_out_of_window_bytes
        + c.flow_discarded_reset_bytes;
    assert_eq!(c.flow_payload_bytes, out + table.buffered_bytes(), "{c:?}");
    let ended = c.flow_ended_fin
        + c.flow_ended_reset
        + c.flow_ended_idle
        + c.flow_ended_evicted
        + c.flow_ended_reused
        + c.flow_ended_shutdown;
    assert_eq!(c.flow_opened, ended + table.flows_open() as u64, "{c:?}");
}

const CLIENT: Endpoint = Endpoint {
    addr: [10; 16],
    port: 40000,
};
const SERVER: Endpoint = Endpoint {
    addr: [9; 16],
    port: 80,
};

/// One captured segment of a test.
#[derive(Clone, Debug)]
struct Shot {
    micros: u64,
    from_client: bool,
    flags: u8,
    seq: u32,
    ack: u32,
    bytes: Vec<u8>,
    /// Bytes cut off by the mirror.
    cut: u32,
}

impl Shot {
    fn segment(&self) -> Segment<'_> {
        let (src, dst) = if self.from_client {
            (CLIENT, SERVER)
        } else {
            (SERVER, CLIENT)
        };
        Segment {
            time: Timestamp::from_parts(1_000_000, 0).after(Duration::from_micros(self.micros)),
            network: Network::default(),
            src,
            dst,
            seq: self.seq,
            ack: self.ack,
            flags: Flags(self.flags),
            payload: &self.bytes,
            payload_wire_len: u32::try_from(self.bytes.len()).unwrap() + self.cut,
        }
    }
}

mod scripts {
    //! One accident at a time, told as a script.
    //!
    //! A line is `MICROS > FLAGS SEQ ACK TEXT` (`<` from the server); flags are letters of `SAFR`, `.` for ACK alone, `P` for none;
    //! numbers are relative to the initial numbers, so data begins at 1; `~N` at the end means N bytes were cut off.

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

    fn tell(tape: &Tape) -> String {
        let mut told = Vec::new();
        for story in &tape.stories {
            let arrow = |direction: &Direction| {
                let originator_is_client = story.start.originator == CLIENT;
                if (*direction == Direction::Originator) == originator_is_client {
                    '>'
                } else {
                    '<'
                }
            };
            told.extend(story.events.iter().map(|event| match event {
                Event::Data(direction, _, bytes) => {
                    format!("{}{}", arrow(direction), String::from_utf8_lossy(bytes))
                }
                Event::Gap(direction, _, len) => format!("{}({len})", arrow(direction)),
                Event::Finished(direction, _) => format!("{}.", arrow(direction)),
            }));
            told.push(
                story
                    .end
                    .map_or("open".to_owned(), |end| format!("{end:?}")),
            );
        }
        told.join(" ")
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

    /// What the consumer was told by the end of the capture.
    #[track_caller]
    fn check(script: &str, expected: &str) {
        let (_, tape) = play(script, true);
        assert_eq!(tell(&tape), expected);
    }

    /// What the consumer was told when the script ends, before the capture ends.
    #[track_caller]
    fn check_live(script: &str, expected: &str) {
        let (_, tape) = play(script, false);
        assert_eq!(tell(&tape), expected);
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
    fn a_proven_loss_is_a_gap_when_the_grace_is_over_not_after_minutes() {
        check_shaken_live(
            "30 > . 1 1 ask\n40 < . 4 4 wer\n50 > . 4 7\ntick 20049",
            ">ask open",
        );
        check_shaken_live(
            "30 > . 1 1 ask\n40 < . 4 4 wer\n50 > . 4 7\ntick 20050",
            ">ask <(3) <wer open",
        );
        // The late bytes are counted, not told.
        let (table, tape) = play(
            &format!("{SHAKE}30 > . 1 1 ask\n40 < . 4 4 wer\n50 > . 4 7\n30000 < . 1 4 ans"),
            false,
        );
        assert_eq!(tell(&tape), ">ask <(3) <wer open");
        assert_eq!(table.counters().flow_discarded_late_bytes, 3);
    }

    #[test]
    fn the_grace_ends_after_so_many_segments_even_if_the_clock_stands() {
        let mut script = format!("{SHAKE}30 > . 1 1 ask\n40 < . 4 4 wer\n");
        for _ in 0..limits::REORDER_SEGMENTS_MAX {
            script += "50 > . 4 7\n";
        }
        check_live(&script, ">ask open");
        script += "50 > . 4 7\n";
        check_live(&script, ">ask <(3) <wer open");
    }

    #[test]
    fn a_hole_that_nobody_acknowledged_waits_for_the_retransmission() {
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
    fn a_half_that_jumps_farther_than_any_window_goes_on_there() {
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
    fn a_response_captured_before_its_request_is_told_after_it() {
        check_shaken("40 < . 1 4 answer\n50 > . 1 1 ask", ">ask <answer Shutdown");
        // Its FIN waits too.
        check_shaken(
            "40 < FA 1 4 answer\n50 > . 1 1 ask\n60 > FA 4 8",
            ">ask <answer <. >. Fin",
        );
        // If the request never comes it was lost, and its length is known.
        check_shaken_live("40 < . 1 4 answer\ntick 20040", ">(3) <answer open");
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
    fn a_midstream_beginning_in_the_wrong_order_comes_out_right() {
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
        // The first proof of unseen bytes waits its grace; then the half is known to be blind and nothing waits.
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
    fn known_bytes_are_told_once() {
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

    #[test]
    fn data_behind_the_fin_is_discarded() {
        let script = format!("{SHAKE}30 > FA 1 1 ask\n40 > . 4 1 more\n45 > . 1 1 askmore\n");
        let (table, tape) = play(&script, true);
        assert_eq!(tell(&tape), ">ask >. Shutdown");
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
        // In a living connection the SYN must be confirmed, here by its answer.
        check(&format!("{first}{again}"), ">ask Reused >two Shutdown");
        check(
            &format!(
                "{first}1000 > S 100000 0\n1020 > . 100001 100901 two\n1030 < . 100901 100004 ok"
            ),
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
        // The same number again, but later than any copy of the packet.
        check(
            &format!("{first}40 > R 4 1\n900000 > S 0 0\n900010 < SA 0 1\n900020 > . 1 1 two"),
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
    fn a_whole_conversation_captured_twice_is_told_once() {
        let whole = "0 > S 0 0\n1 < SA 0 1\n2 > . 1 1\n3 > . 1 1 ask\n4 < FA 1 4 ans\n5 > FA 4 5\n6 < . 5 5\n";
        let (table, tape) = play(&format!("{whole}{whole}"), true);
        assert_eq!(tell(&tape), ">ask <ans <. >. Fin");
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
        assert_eq!(tell(&tape), ">ask <ok Shutdown");
        assert_eq!(tape.stories[0].start.originator, CLIENT);
        assert_eq!(tape.stories[0].start.originator_seq, CLIENT_ISN);
        assert!(!tape.stories[0].start.midstream);
        let (_, tape) = play("0 < . 1 1\n1 < SA 0 1\n2 > S 0 0\n3 > . 1 1 ask", true);
        assert_eq!(tape.stories[0].start.originator, CLIENT);
        assert_eq!(tape.stories[0].start.originator_seq, CLIENT_ISN);
        assert!(!tape.stories[0].start.midstream);
        // Data before the SYN's answer.
        check(
            "0 > S 0 0\n1 < . 4 4 wer\n2 < SA 0 1\n3 < . 1 4 ans\n4 > . 1 1 ask",
            ">ask <ans <wer Shutdown",
        );
    }

    #[test]
    fn flows_without_payload_have_no_consumer() {
        let (table, tape) = play("0 > S 0 0\n1 < RA 0 1", false);
        assert_eq!((tell(&tape).as_str(), table.flows_open()), ("", 0));
        let (table, tape) = play(
            &format!("{SHAKE}30 > FA 1 1\n40 < FA 1 2\n50 > . 2 2"),
            false,
        );
        assert_eq!((tell(&tape).as_str(), table.flows_open()), ("", 0));
        assert_eq!(table.counters().flow_ended_fin, 1);
        let (table, tape) = play("0 > S 0 0\ntick 61000000\ntick 61200000", false);
        assert_eq!((tell(&tape).as_str(), table.flows_open()), ("", 0));
        // Unless bytes are known to be missing.
        check(
            &format!("{SHAKE}30 < . 1 101\n40 > FA 101 1"),
            ">(100) >. Shutdown",
        );
    }

    #[test]
    fn silence_ends_a_flow() {
        check_shaken_live("30 > . 1 1 ask\ntick 500000000", ">ask open");
        check_shaken_live("30 > . 1 1 ask\ntick 601000000", ">ask Idle");
        check_shaken_live(
            "30 > . 1 1 ask\n400000000 < . 1 4 ok\ntick 900000000",
            ">ask <ok open",
        );
    }

    #[test]
    fn a_clock_set_back_breaks_nothing() {
        let script = "900000000 > . 1 1 ask\n1 < . 4 4 wer\n2 > . 4 7\ntick 30000";
        check_live(script, ">ask <(3) <wer open");
        check_live(&format!("{script}\ntick 700000000"), ">ask <(3) <wer Idle");
    }

    #[test]
    fn an_ignored_direction_is_skipped() {
        let (mut table, mut tape) = (Table::<Recorder>::new(Config::default()), Tape::default());
        tape.ignored.push(Direction::Responder);
        for line in
            format!("{SHAKE}30 > . 1 1 ask\n40 < . 5 4 wer\n50 > . 4 7 more\n60 < . 1 4 ans")
                .lines()
        {
            table.segment(&shot(line).segment(), &mut tape);
            assert_balanced(&table);
        }
        assert_eq!(tell(&tape), ">ask >more open");
        assert_eq!(
            (table.counters().flow_skipped_bytes, table.buffered_bytes()),
            (6, 0)
        );
    }
}

mod conversations {
    //! Two endpoints with known bytes, a lossy network between them, and a lossy capture beside it.

    use super::*;

    /// splitmix64.
    struct Random(u64);

    impl Random {
        fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = self.0;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        }

        fn below(&mut self, end: u64) -> u64 {
            self.next() % end.max(1)
        }

        fn one_in(&mut self, times: u64) -> bool {
            times > 0 && self.below(times) == 0
        }
    }

    /// How bad the world is for one seed: `0` means never, `n` means one in `n`.
    #[derive(Debug)]
    struct World {
        segment_bytes: u64,
        network_loss: u64,
        resent: u64,
        capture_loss: u64,
        copies: u64,
        /// Most that the capture delays a segment, below the grace.
        jitter_micros: u64,
        /// Frames carry the time at which they were sent, not the one at which they were captured.
        stamped_early: bool,
        snap: Option<usize>,
        /// Shots missing at the beginning.
        midstream: usize,
        /// Only this side was captured.
        only: Option<bool>,
        isn: [u32; 2],
    }

    impl World {
        fn new(random: &mut Random) -> Self {
            let mut pick = |values: &[u64]| values[random.below(values.len() as u64) as usize];
            let segment_bytes = pick(&[1460, 1460, 536, 9_000, 100, 7]);
            let (network_loss, resent) = (pick(&[0, 0, 10, 40]), pick(&[0, 0, 10, 40]));
            let (capture_loss, copies) = (pick(&[0, 0, 10, 60]), pick(&[0, 0, 1, 10]));
            let jitter_micros = pick(&[0, 0, 300, 3_000, 15_000]);
            let stamped_early = pick(&[0, 1]) == 1;
            let snap = [None, None, None, Some(300), Some(0)][pick(&[0, 1, 2, 3, 4]) as usize];
            let midstream = pick(&[0, 0, 0, 3, 4, 5, 9, 20]) as usize;
            let only =
                [None, None, None, Some(true), Some(false)][pick(&[0, 0, 1, 2, 3, 4]) as usize];
            let isn = [0, 1].map(|_| match random.below(3) {
                0 => 0,
                1 => u32::MAX - random.below(20_000) as u32,
                _ => random.next() as u32,
            });
            Self {
                segment_bytes,
                network_loss,
                resent,
                capture_loss,
                copies,
                jitter_micros,
                stamped_early,
                snap,
                midstream,
                only,
                isn,
            }
        }
    }

    /// The byte that a side says at an offset.
    fn said(from_client: bool, offset: u64) -> u8 {
        let mut random = Random(offset / 8 * 2 + u64::from(from_client));
        random.next().to_le_bytes()[(offset % 8) as usize]
    }

    /// A conversation: who says how much, in turns.
    struct Script {
        shots: Vec<Shot>,
        /// For each turn: who speaks, and both sides' ends before it.
        turns: Vec<(bool, [u64; 2])>,
        ends: [u64; 2],
        clock: u64,
        isn: [u32; 2],
        /// What each side has received in order.
        received: [u64; 2],
    }

    impl Script {
        fn side(from_client: bool) -> usize {
            usize::from(!from_client)
        }

        fn seq(&self, side: usize, offset: u64) -> u32 {
            self.isn[side].wrapping_add(1).wrapping_add(offset as u32)
        }

        fn shot(&mut self, random: &mut Random, from_client: bool, flags: u8, from: u64, to: u64) {
            self.clock += 100 + random.below(100);
            let own = Self::side(from_client);
            let seq = self.seq(own, from);
            self.shots.push(Shot {
                micros: self.clock,
                from_client,
                flags,
                seq: if flags & Flags::SYN != 0 {
                    self.isn[own]
                } else {
                    seq
                },
                ack: self.seq(1 - own, self.received[own]),
                bytes: (from..to).map(|offset| said(from_client, offset)).collect(),
                cut: 0,
            });
        }

        fn acknowledge(&mut self, random: &mut Random, from_client: bool) {
            let end = self.ends[Self::side(from_client)];
            self.shot(random, from_client, Flags::ACK, end, end);
        }

        /// One side says `len` bytes; the network loses some segments once, they are sent again later.
        fn turn(&mut self, random: &mut Random, world: &World, from_client: bool, len: u64) {
            let (own, start) = (Self::side(from_client), self.ends[Self::side(from_client)]);
            self.turns.push((from_client, self.ends));
            let end = start + len;
            let mut lost = Vec::new();
            let mut at = start;
            while at < end {
                let to = (at + 1 + random.below(world.segment_bytes)).min(end);
                self.ends[own] = to;
                if random.one_in(world.network_loss) {
                    lost.push((at, to));
                } else {
                    self.shot(random, from_client, Flags::ACK, at, to);
                    if lost.is_empty() {
                        self.received[1 - own] = to;
                    }
                }
                if random.one_in(world.resent) {
                    let from = start + random.below(to - start);
                    self.shot(
                        random,
                        from_client,
                        Flags::ACK,
                        from,
                        to.min(from + world.segment_bytes),
                    );
                    if lost.is_empty() {
                        self.received[1 - own] = to;
                    }
                    // What was resent was not lost.
                    let reached = to.min(from + world.segment_bytes);
                    lost.retain(|(a, b)| *a < from || *b > reached);
                }
                if random.one_in(3) {
                    self.acknowledge(random, !from_client);
                }
                at = to;
            }
            for (from, to) in lost {
                self.clock += 200_000 + random.below(1_000_000);
                self.shot(random, from_client, Flags::ACK, from, to);
            }
            self.received[1 - own] = end;
            if random.one_in(2) {
                self.acknowledge(random, !from_client);
            }
            self.clock += random.below(40_000);
        }

        fn write(random: &mut Random, world: &World) -> Self {
            let mut script = Self {
                shots: Vec::new(),
                turns: Vec::new(),
                ends: [0; 2],
                clock: 0,
                isn: world.isn,
                received: [0; 2],
            };
            script.shot(random, true, Flags::SYN, 0, 0);
            script.shot(random, false, Flags::SYN | Flags::ACK, 0, 0);
            script.shot(random, true, Flags::ACK, 0, 0);
            let most = world.segment_bytes * 6;
            for turn in 0..2 + random.below(8) {
                let len = 1 + random.below(most);
                script.turn(random, world, turn % 2 == 0, len);
            }
            for from_client in [true, false] {
                let (own, end) = (
                    Self::side(from_client),
                    script.ends[Self::side(from_client)],
                );
                script.shot(random, from_client, Flags::FIN | Flags::ACK, end, end);
                script.received[1 - own] = end + 1;
            }
            script.shot(
                random,
                true,
                Flags::ACK,
                script.ends[0] + 1,
                script.ends[0] + 1,
            );
            script
        }
    }

    /// What the capture makes of the script.
    fn capture(random: &mut Random, world: &World, script: &Script) -> Vec<Shot> {
        let mut captured = Vec::new();
        for shot in script.shots.iter().skip(world.midstream) {
            let copies = 1 + u64::from(random.one_in(world.copies));
            for _ in 0..copies {
                if world.only.is_some_and(|only| only != shot.from_client)
                    || random.one_in(world.capture_loss)
                {
                    continue;
                }
                let mut shot = shot.clone();
                if let Some(snap) = world.snap.filter(|snap| *snap < shot.bytes.len()) {
                    shot.cut = (shot.bytes.len() - snap) as u32;
                    shot.bytes.truncate(snap);
                }
                let at = shot.micros + random.below(world.jitter_micros + 1);
                if !world.stamped_early {
                    shot.micros = at;
                }
                captured.push((at, shot));
            }
        }
        captured.sort_by_key(|(at, _)| *at);
        captured.into_iter().map(|(_, shot)| shot).collect()
    }

    /// One half as the consumer was told it: a byte, or `None` in a gap.
    #[derive(Default)]
    struct Told {
        bytes: Vec<Option<u8>>,
    }

    /// Offset in the conversation of offset 0 of the story, by the bytes told.
    fn base(told: &Told, from_client: bool, end: u64) -> Option<u64> {
        let len = told.bytes.len() as u64;
        (0..=(end + 1).saturating_sub(len)).find(|base| {
            (*base..)
                .zip(&told.bytes)
                .all(|(offset, byte)| byte.is_none_or(|byte| byte == said(from_client, offset)))
        })
    }

    fn run(seed: u64) -> Counters {
        let mut random = Random(seed);
        let world = World::new(&mut random);
        let script = Script::write(&mut random, &world);
        let captured = capture(&mut random, &world, &script);

        let (mut table, mut tape) = (Table::<Recorder>::new(Config::default()), Tape::default());
        for shot in &captured {
            table.segment(&shot.segment(), &mut tape);
            assert_balanced(&table);
        }
        table.finish(
            captured
                .last()
                .map_or(Timestamp::ZERO, |shot| shot.segment().time),
            &mut tape,
        );
        assert_balanced(&table);
        assert_eq!(table.buffered_bytes(), 0);
        let shown = || format!("seed {seed}: {world:?}\n{:?}", table.counters());

        // All bytes of the conversation that any captured segment carries, and those that some copy of was cut.
        let mut present = [0, 1].map(|side| vec![false; script.ends[side] as usize]);
        let mut cut = present.clone();
        for shot in &captured {
            let side = Script::side(shot.from_client);
            let start = shot.seq.wrapping_sub(script.seq(side, 0)) as usize;
            for offset in 0..shot.bytes.len() {
                present[side][start + offset] = true;
            }
            for offset in shot.bytes.len()..shot.bytes.len() + shot.cut as usize {
                cut[side][start + offset] = true;
            }
        }

        // At a midstream beginning one byte before the first is taken for a keep-alive probe.
        if world.midstream > 0 && captured.iter().any(|shot| shot.bytes.len() == 1) {
            return *table.counters();
        }
        if tape.stories.is_empty() {
            let any = present.iter().flatten().any(|present| *present);
            assert!(!any, "{}", shown());
            return *table.counters();
        }
        assert_eq!(tape.stories.len(), 1, "{}", shown());
        let story = &tape.stories[0];
        let client = if story.start.originator == CLIENT {
            Direction::Originator
        } else {
            Direction::Responder
        };

        // Offsets go on without a break, and bytes are those said.
        let mut told = [Told::default(), Told::default()];
        for event in &story.events {
            let (Event::Data(direction, offset, _)
            | Event::Gap(direction, offset, _)
            | Event::Finished(direction, offset)) = event;
            let told = &mut told[usize::from(*direction != client)].bytes;
            assert_eq!(*offset, told.len() as u64, "{}", shown());
            match event {
                Event::Data(_, _, bytes) => told.extend(bytes.iter().map(|byte| Some(*byte))),
                Event::Gap(_, _, len) => told.extend((0..*len).map(|_| None)),
                Event::Finished(..) => {}
            }
        }
        let whole = !story.start.midstream;
        let bases = [true, false].map(|from_client| {
            let side = Script::side(from_client);
            if whole {
                for (offset, byte) in (0..).zip(&told[side].bytes) {
                    assert!(
                        byte.is_none_or(|byte| byte == said(from_client, offset)),
                        "{}",
                        shown()
                    );
                }
                return 0;
            }
            base(&told[side], from_client, script.ends[side])
                .unwrap_or_else(|| panic!("bytes differ: {}", shown()))
        });

        // Everything captured was told, and a gap is where nothing was captured.
        for side in [0, 1] {
            if !whole && told[side].bytes.iter().flatten().count() < 6 {
                continue;
            }
            let (base, told) = (bases[side] as usize, &told[side].bytes);
            for (offset, byte) in (base..).zip(told) {
                // With the tail the FIN was lost too: the acknowledgement counts it, and nobody can know.
                let lost = present[side].get(offset) != Some(&true) || cut[side][offset];
                assert!(
                    offset <= script.ends[side] as usize,
                    "side {side} is too long: {}",
                    shown()
                );
                assert!(
                    byte.is_some() || lost,
                    "side {side} offset {offset} is told as lost: {}",
                    shown()
                );
            }
            let after = present[side]
                .iter()
                .skip(base + told.len())
                .any(|present| *present);
            assert!(!after, "side {side}: the end is missing: {}", shown());
            if whole {
                assert!(
                    table.counters().flow_discarded_late_bytes == 0 || world.snap.is_some(),
                    "{}",
                    shown()
                );
            }
        }

        // Bytes too few to tell where they belong prove nothing.
        let placed = |told: &Told| told.bytes.iter().flatten().count() >= 6;
        // Nor does anything prove a loss in the only half captured, while the other's bytes are known from it.
        // With its beginning out of order, nothing says where the other begins.
        let unprovable =
            world.only.is_some() && (world.capture_loss > 0 || world.jitter_micros > 0);
        if unprovable || (!whole && !told.iter().all(placed)) {
            return *table.counters();
        }

        // A single lost byte at the end of a turn is taken for a FIN that was lost.
        let lossy = world.only.is_some() || world.capture_loss > 0 || world.midstream > 0;
        let slack = u64::from(lossy);

        // No turn is told before the one that it answers.
        let mut at = bases;
        for event in &story.events {
            let (direction, len, lost) = match event {
                Event::Data(direction, _, bytes) => (direction, bytes.len() as u64, false),
                // Two turns lost one after the other leave nothing that tells their order.
                Event::Gap(direction, _, len) => (direction, *len, true),
                Event::Finished(..) => continue,
            };
            let side = usize::from(*direction != client);
            at[side] += len;
            let answered = script.turns.iter().rev().find(|(from_client, ends)| {
                Script::side(*from_client) == side && ends[side] < at[side]
            });
            assert!(
                lost || answered.is_none_or(|(_, ends)| at[1 - side] + slack >= ends[1 - side]),
                "side {side} is told up to {at:?} before {answered:?}: {}",
                shown()
            );
        }

        // A clean world is told without copies or loss.
        let orderly =
            world.jitter_micros == 0 && world.network_loss == 0 && world.capture_loss == 0;
        if orderly && whole && world.only.is_none() && world.snap.is_none() && world.midstream == 0
        {
            assert_eq!(table.counters().flow_copied_bytes, 0, "{}", shown());
            assert_eq!(table.counters().flow_gap_bytes, 0, "{}", shown());
            assert_eq!(story.end, Some(FlowEnd::Fin), "{}", shown());
            assert_eq!(
                told.map(|told| told.bytes.len() as u64),
                script.ends,
                "{}",
                shown()
            );
        }
        *table.counters()
    }

    #[test]
    fn what_was_told_is_what_was_said() {
        let mut sum = Counters::default();
        let seeds = std::env::var("FLOW_SEEDS").map_or(2_000, |seeds| seeds.parse().unwrap());
        for seed in 0..seeds {
            sum.add(&run(seed));
        }
        // The worlds were bad enough to mean something.
        for (name, value) in [
            ("copied", sum.flow_copied_bytes),
            ("gaps", sum.flow_gap_bytes),
            ("truncated", sum.flow_truncated_bytes),
            ("held", sum.flow_segments_held),
            ("out of order", sum.flow_segments_out_of_order),
            ("overlapping", sum.flow_segments_overlapping),
            ("midstream", sum.flow_opened_midstream),
        ] {
            assert!(value > 100, "{name}: {value}");
        }
    }
}

mod bounds {
    //! Many flows, few resources: what is given up is counted, and good flows beside it stay whole.

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

    fn told(tape: &Tape, story: usize) -> Vec<u8> {
        let events = tape.stories[story].events.iter();
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
        assert_eq!((tape.stories.len(), told(&tape, 0)), (1, b"GET /".to_vec()));
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
        assert_eq!(tape.stories[0].end, None, "the silent connection lives");
        table.segment(&segment(0, 200_000, Flags::ACK, 5, b"/"), &mut tape);
        assert_balanced(&table);
        assert_eq!(table.flows_open(), 1000);
        assert_eq!(table.counters().flow_ended_evicted, 99_000);
    }

    #[test]
    fn the_flow_silent_longest_is_evicted() {
        let (mut table, mut tape) = table(10, 1 << 20);
        for host in 0..10 {
            table.segment(
                &segment(host, u64::from(host), Flags::SYN, 0, b"x"),
                &mut tape,
            );
        }
        // Host 0 goes on a moment later: too soon to be put at the end of its line, in time to be spared.
        table.segment(&segment(0, 30_000, Flags::ACK, 2, b"y"), &mut tape);
        table.segment(&segment(10, 40_000, Flags::SYN, 0, b"x"), &mut tape);
        assert_balanced(&table);
        let ended: Vec<_> = tape.stories.iter().map(|story| story.end).collect();
        assert_eq!(
            (ended[0], ended[1], ended[2]),
            (None, Some(FlowEnd::Evicted), None)
        );
    }

    #[test]
    fn a_hole_gives_up_at_the_bound_of_its_half() {
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
        let good = tape.stories.len();
        table.segment(&segment(0, 6001, Flags::ACK, 4, b"def"), &mut tape);
        for host in 5000..5100 {
            table.segment(&segment(host, 6002, Flags::SYN, 0, b""), &mut tape);
            table.segment(&segment(host, 6002, Flags::ACK, 9, &[b'x'; 700]), &mut tape);
        }
        table.segment(&segment(0, 6003, Flags::ACK, 1, b"abc"), &mut tape);
        assert_eq!(told(&tape, good), b"abcdef");
        assert!(table.buffered_bytes() <= 1 << 20);
        assert!(table.counters().flow_holes_over_bounds > 4000);
    }
}
