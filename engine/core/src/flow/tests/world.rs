//! Simulated conversations: two ends with known bytes, a lossy network between them, and a lossy capture of it.

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
    /// Shots missing at the start.
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
        let only = [None, None, None, Some(true), Some(false)][pick(&[0, 0, 1, 2, 3, 4]) as usize];
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

/// The byte that a side sends at an offset.
fn sent(from_client: bool, offset: u64) -> u8 {
    let mut random = Random(offset / 8 * 2 + u64::from(from_client));
    random.next().to_le_bytes()[(offset % 8) as usize]
}

/// A conversation: which side sends how much, in turns.
struct Script {
    shots: Vec<Shot>,
    /// For each turn: which side sends, and both sides' ends before it.
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
            bytes: (from..to).map(|offset| sent(from_client, offset)).collect(),
            cut: 0,
        });
    }

    fn acknowledge(&mut self, random: &mut Random, from_client: bool) {
        let end = self.ends[Self::side(from_client)];
        self.shot(random, from_client, Flags::ACK, end, end);
    }

    /// One side sends `len` bytes; the network loses some segments once, they are sent again later.
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

/// One direction as the consumer received it: a byte, or `None` in a gap.
#[derive(Default)]
struct Received {
    bytes: Vec<Option<u8>>,
}

/// Offset in the conversation of offset 0 of the record, by the bytes received.
fn base(received: &Received, from_client: bool, end: u64) -> Option<u64> {
    let len = received.bytes.len() as u64;
    (0..=(end + 1).saturating_sub(len)).find(|base| {
        (*base..)
            .zip(&received.bytes)
            .all(|(offset, byte)| byte.is_none_or(|byte| byte == sent(from_client, offset)))
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

    // At a midstream start one byte before the first is taken for a keep-alive probe.
    if world.midstream > 0 && captured.iter().any(|shot| shot.bytes.len() == 1) {
        return *table.counters();
    }
    if tape.records.is_empty() {
        let any = present.iter().flatten().any(|present| *present);
        assert!(!any, "{}", shown());
        return *table.counters();
    }
    assert_eq!(tape.records.len(), 1, "{}", shown());
    let record = &tape.records[0];
    let client = if record.start.originator == CLIENT {
        Direction::Originator
    } else {
        Direction::Responder
    };

    // Offsets continue without a break, and bytes are those sent.
    let mut received = [Received::default(), Received::default()];
    for event in &record.events {
        let (Event::Data(direction, offset, _)
        | Event::Gap(direction, offset, _)
        | Event::Finished(direction, offset)) = event;
        let received = &mut received[usize::from(*direction != client)].bytes;
        assert_eq!(*offset, received.len() as u64, "{}", shown());
        match event {
            Event::Data(_, _, bytes) => received.extend(bytes.iter().map(|byte| Some(*byte))),
            Event::Gap(_, _, len) => received.extend((0..*len).map(|_| None)),
            Event::Finished(..) => {}
        }
    }
    let whole = !record.start.midstream;
    let bases = [true, false].map(|from_client| {
        let side = Script::side(from_client);
        if whole {
            for (offset, byte) in (0..).zip(&received[side].bytes) {
                assert!(
                    byte.is_none_or(|byte| byte == sent(from_client, offset)),
                    "{}",
                    shown()
                );
            }
            return 0;
        }
        base(&received[side], from_client, script.ends[side])
            .unwrap_or_else(|| panic!("bytes differ: {}", shown()))
    });

    // Everything captured was delivered, and a gap is where nothing was captured.
    for side in [0, 1] {
        if !whole && received[side].bytes.iter().flatten().count() < 6 {
            continue;
        }
        let (base, received) = (bases[side] as usize, &received[side].bytes);
        for (offset, byte) in (base..).zip(received) {
            // With the tail the FIN was missed too: the acknowledgement counts it like a byte.
            let missing = present[side].get(offset) != Some(&true) || cut[side][offset];
            assert!(
                offset <= script.ends[side] as usize,
                "side {side} is too long: {}",
                shown()
            );
            assert!(
                byte.is_some() || missing,
                "side {side} offset {offset} is in a gap: {}",
                shown()
            );
        }
        let after = present[side]
            .iter()
            .skip(base + received.len())
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

    // Bytes too few to show where they belong prove nothing.
    let placed = |received: &Received| received.bytes.iter().flatten().count() >= 6;
    // Nor does anything prove a gap in the only direction captured, while the other's bytes are known from it.
    // With its start out of order, nothing shows where the other starts.
    let unprovable = world.only.is_some() && (world.capture_loss > 0 || world.jitter_micros > 0);
    if unprovable || (!whole && !received.iter().all(placed)) {
        return *table.counters();
    }

    // A single missing byte at the end of a turn is taken for a FIN that was not captured.
    let lossy = world.only.is_some() || world.capture_loss > 0 || world.midstream > 0;
    let slack = u64::from(lossy);

    // No turn is delivered before the one that it answers.
    let mut at = bases;
    for event in &record.events {
        let (direction, len, missing) = match event {
            Event::Data(direction, _, bytes) => (direction, bytes.len() as u64, false),
            // Two missing turns, one after the other, leave nothing that shows their order.
            Event::Gap(direction, _, len) => (direction, *len, true),
            Event::Finished(..) => continue,
        };
        let side = usize::from(*direction != client);
        at[side] += len;
        let answered = script.turns.iter().rev().find(|(from_client, ends)| {
            Script::side(*from_client) == side && ends[side] < at[side]
        });
        assert!(
            missing || answered.is_none_or(|(_, ends)| at[1 - side] + slack >= ends[1 - side]),
            "side {side} is delivered up to {at:?} before {answered:?}: {}",
            shown()
        );
    }

    // A clean world is delivered without copies or gaps.
    let orderly = world.jitter_micros == 0 && world.network_loss == 0 && world.capture_loss == 0;
    if orderly && whole && world.only.is_none() && world.snap.is_none() && world.midstream == 0 {
        assert_eq!(table.counters().flow_copied_bytes, 0, "{}", shown());
        assert_eq!(table.counters().flow_gap_bytes, 0, "{}", shown());
        assert_eq!(record.end, Some(FlowEnd::Fin), "{}", shown());
        assert_eq!(
            received.map(|received| received.bytes.len() as u64),
            script.ends,
            "{}",
            shown()
        );
    }
    *table.counters()
}

#[test]
fn what_was_delivered_is_what_was_sent() {
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
