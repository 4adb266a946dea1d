//! Every packet captured twice, the second time later, in the same network or in another one, with losses in both.

use super::*;
use crate::decap::{Encap, Network};

/// splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end.max(1)
    }
}

/// Where the second copy of each packet is captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Second {
    SameNetwork,
    OtherNetwork { fold: bool },
}

/// Numbers and bytes of one conversation.
struct Talk {
    port: u16,
    isns: [u32; 2],
    shots: Vec<Shot>,
    sent: [Vec<u8>; 2],
}

impl Talk {
    fn shot(&mut self, clock: u64, from_client: bool, flags: u8, bytes: Vec<u8>) {
        let side = usize::from(!from_client);
        let next = |talk: &Self, side: usize| {
            let fin = talk
                .shots
                .iter()
                .any(|shot| usize::from(!shot.from_client) == side && shot.flags & Flags::FIN != 0);
            let len = talk.sent[side].len() as u32 + 1 + u32::from(fin);
            talk.isns[side].wrapping_add(len)
        };
        let is_syn = flags & Flags::SYN != 0;
        let shot = Shot {
            micros: clock,
            from_client,
            flags,
            seq: if is_syn {
                self.isns[side]
            } else {
                next(self, side)
            },
            ack: if flags & Flags::ACK == 0 {
                0
            } else {
                next(self, 1 - side)
            },
            bytes: bytes.clone(),
            cut: 0,
        };
        self.shots.push(shot);
        self.sent[side].extend(bytes);
    }

    fn new(random: &mut Random, port: u16, start: u64) -> Self {
        let mut talk = Self {
            port,
            isns: [0, 1].map(|_| 1 + random.below(u64::from(u32::MAX)) as u32),
            shots: Vec::new(),
            sent: [Vec::new(), Vec::new()],
        };
        let mut clock = start;
        let mut step = |random: &mut Random| {
            clock += 50 + random.below(3000);
            clock
        };
        talk.shot(step(random), true, Flags::SYN, Vec::new());
        talk.shot(step(random), false, Flags::SYN | Flags::ACK, Vec::new());
        talk.shot(step(random), true, Flags::ACK, Vec::new());
        for _ in 0..1 + random.below(6) {
            for from_client in [true, false] {
                for _ in 0..1 + random.below(4) {
                    let bytes = (0..1 + random.below(60))
                        .map(|_| random.below(256) as u8)
                        .collect();
                    talk.shot(step(random), from_client, Flags::ACK, bytes);
                }
                talk.shot(step(random), !from_client, Flags::ACK, Vec::new());
            }
        }
        talk.shot(step(random), true, Flags::ACK | Flags::FIN, Vec::new());
        talk.shot(step(random), false, Flags::ACK | Flags::FIN, Vec::new());
        talk.shot(step(random), true, Flags::ACK, Vec::new());
        talk
    }
}

/// Conversations one after the other, each packet captured at once and after `delay`. No packet is lost twice, and none
/// of the first conversation at all: it shows how late copies are.
fn check(seed: u64, second: Second, delay_micros: u64, one_in: u64) -> Counters {
    let mut random = Random(seed);
    let other = Network {
        id: 99,
        vni: Some(7),
        encap: Encap::Vxlan,
    };
    let talks: Vec<Talk> = (0..6)
        .map(|number| Talk::new(&mut random, 2000 + number, u64::from(number) * 700_000))
        .collect();
    let mut captured: Vec<(u64, usize, Shot, Network)> = Vec::new();
    for (number, talk) in talks.iter().enumerate() {
        for shot in &talk.shots {
            let is_lossy = number > 0 && one_in > 0 && random.below(one_in) == 0;
            let lost = is_lossy.then(|| random.below(2));
            let copies = [(0, Network::default()), (delay_micros, other)];
            for (copy, (delay, network)) in (0..).zip(copies) {
                let network = if second == Second::SameNetwork {
                    Network::default()
                } else {
                    network
                };
                if lost != Some(copy) {
                    let shot = Shot {
                        micros: shot.micros + delay,
                        ..shot.clone()
                    };
                    captured.push((shot.micros, number, shot, network));
                }
            }
        }
    }
    captured.sort_by_key(|(micros, ..)| *micros);
    let fold_copies = second == Second::OtherNetwork { fold: true };
    let config = Config {
        fold_copies,
        ..Config::default()
    };
    let (mut table, mut tape) = (Table::<Recorder>::new(config), Tape::default());
    for (_, number, shot, network) in &captured {
        let mut segment = shot.segment();
        segment.network = *network;
        let client = if shot.from_client {
            &mut segment.src
        } else {
            &mut segment.dst
        };
        client.port = talks[*number].port;
        table.segment(&segment, &mut tape);
        assert_balanced(&table);
    }
    let counters = *table.counters();
    let end = Timestamp::from_parts(1_000_000, 0).after(Duration::from_secs(30));
    table.tick(end, &mut tape);
    table.finish(end, &mut tape);
    assert_balanced(&table);
    let shown = format!("seed {seed}, {second:?}, {delay_micros} µs: {counters:?}");
    let twice = second == Second::OtherNetwork { fold: false };
    let copies = if twice { 2 } else { 1 };
    assert_eq!(tape.records.len(), copies * talks.len(), "{shown}");
    for talk in &talks {
        let records = tape.records.iter().filter(|record| {
            [record.start.originator.port, record.start.responder.port].contains(&talk.port)
        });
        let records: Vec<_> = records.collect();
        assert_eq!(records.len(), copies, "{shown}");
        for record in records {
            let mut received: [Vec<u8>; 2] = Default::default();
            for event in &record.events {
                match event {
                    Event::Data(direction, _, bytes) => {
                        let side = usize::from(
                            (*direction == Direction::Originator)
                                != (record.start.originator.port == talk.port),
                        );
                        received[side].extend(bytes);
                    }
                    Event::Gap(..) => assert!(twice, "a copy fills each hole: {shown}"),
                    Event::Finished(..) => {}
                }
            }
            assert!(twice || received == talk.sent, "{shown}");
        }
    }
    let places = table.copies_seen().rows();
    let connections: u64 = places.iter().map(|row| row.connections).sum();
    if second == Second::SameNetwork {
        assert!(places.is_empty());
    } else {
        let named = [(Encap::Plain, None), (Encap::Vxlan, Some(7))];
        let named = named.map(|(encap, vni)| Place { encap, vni });
        assert_eq!((places.len(), places[0].places), (1, named), "{shown}");
        assert_eq!(
            connections,
            counters.flow_copies_kept + counters.flow_copies_folded
        );
    }
    counters
}

const SEEDS: u64 = 60;

#[test]
fn late_copies_in_the_same_network_are_removed_and_fill_holes() {
    for seed in 0..SEEDS {
        let delay = Random(seed).below(500_000);
        let counters = check(seed, Second::SameNetwork, delay, 0);
        assert_eq!(counters.flow_copies, 6, "seed {seed}");
        check(seed, Second::SameNetwork, delay, 8);
    }
}

#[test]
fn copies_in_another_network_are_counted_and_read_twice() {
    for seed in 0..SEEDS {
        let second = Second::OtherNetwork { fold: false };
        let delay = Random(seed).below(500_000);
        let counters = check(seed, second, delay, 0);
        assert_eq!(
            (counters.flow_copies_kept, counters.flow_copies),
            (6, 0),
            "seed {seed}"
        );
    }
}

#[test]
fn copies_in_another_network_are_folded_and_fill_holes() {
    for seed in 0..SEEDS {
        let second = Second::OtherNetwork { fold: true };
        let delay = Random(seed).below(500_000);
        let counters = check(seed, second, delay, 0);
        assert_eq!(
            (counters.flow_copies_folded, counters.flow_opened),
            (6, 6),
            "seed {seed}"
        );
        check(seed, second, delay, 8);
    }
}

/// Segments of a client's port, in networks: `(network, from_client, flags, seq, ack)`, a millisecond apart.
fn flows(fold_copies: bool, segments: &[(u64, bool, u8, u32, u32)]) -> (usize, Counters) {
    let config = Config {
        fold_copies,
        ..Config::default()
    };
    let (mut table, mut tape) = (Table::<Recorder>::new(config), Tape::default());
    for (number, (network, from_client, flags, seq, ack)) in segments.iter().enumerate() {
        let has_bytes = flags & Flags::SYN == 0;
        let shot = Shot {
            micros: 1000 * number as u64,
            from_client: *from_client,
            flags: *flags,
            seq: *seq,
            ack: *ack,
            bytes: vec![b'x'; usize::from(has_bytes) * 10],
            cut: 0,
        };
        let mut segment = shot.segment();
        segment.network.id = *network;
        table.segment(&segment, &mut tape);
        assert_balanced(&table);
    }
    table.finish(Timestamp::from_parts(1_000_100, 0), &mut tape);
    assert_balanced(&table);
    (tape.records.len(), *table.counters())
}

#[test]
fn equal_addresses_with_other_numbers_are_other_connections() {
    let (syn, answer, data) = (Flags::SYN, Flags::SYN | Flags::ACK, Flags::ACK);
    let open = |network, isns: [u32; 2]| {
        [
            (network, true, syn, isns[0], 0),
            (network, false, answer, isns[1], isns[0] + 1),
            (network, true, data, isns[0] + 1, isns[1] + 1),
        ]
    };
    for fold in [false, true] {
        let (records, counters) = flows(
            fold,
            &[open(1, [5_000, 900]), open(2, [90_000_000, 80_000_000])].concat(),
        );
        assert_eq!((records, counters.flow_copies_kept), (2, 0));
        // One side alone is no proof.
        let (records, _) = flows(
            fold,
            &[open(1, [5_000, 900]), open(2, [5_000, 80_000_000])].concat(),
        );
        assert_eq!(records, 2, "fold {fold}");
        // Without the start of either, both numbers show it.
        let (records, counters) = flows(
            fold,
            &[
                (1, true, data, 100, 7_000),
                (2, true, data, 100, 7_000),
                (1, false, data, 7_000, 110),
                (2, false, data, 7_000, 110),
            ],
        );
        assert_eq!(records, if fold { 1 } else { 2 });
        assert_eq!(counters.flow_copies_kept + counters.flow_copies_folded, 1);
    }
}

#[test]
fn a_port_used_again_within_the_linger_time_is_a_new_connection() {
    let (syn, answer, data) = (Flags::SYN, Flags::SYN | Flags::ACK, Flags::ACK);
    let reset = Flags::RST;
    let one = |isn: u32, other: u32| {
        [
            (0, true, syn, isn, 0),
            (0, false, answer, other, isn + 1),
            (0, true, data, isn + 1, other + 1),
            (0, true, reset, isn + 11, 0),
        ]
    };
    let pause = [(0, false, data, 901, 5_011); 30];
    let again = |isn, other| [&one(5_000, 900)[..], &pause, &one(isn, other)].concat();
    assert_eq!(flows(false, &again(5_000, 900)).0, 1, "a copy");
    assert_eq!(flows(false, &again(7_000, 900)).0, 2);
    // Another answer shows that the same number is chance, or a tool's habit.
    assert_eq!(flows(false, &again(5_000, 70_000)).0, 2);
}
