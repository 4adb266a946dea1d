//! Here belong random changes to frames of every shape: nothing panics, the ledger balances, and the reader of the
//! usual frame agrees with the walk.

use super::fragments::{fragments_v4, fragments_v6};
use super::shapes::all_shapes;
use super::*;
use crate::limits::FRAGMENT_WAIT_SECONDS;

/// A small seeded generator (xorshift64*).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

/// Whatever the bytes, nothing panics, every frame ends in one bucket, and so does every fragment.
#[test]
fn mutated_frames_balance() {
    const LINKS: [LinkType; 12] = [
        LinkType::Radiotap,
        LinkType::Wifi,
        LinkType::Fddi,
        LinkType::Ipoib,
        LinkType::Ethernet,
        LinkType::RawIp,
        LinkType::LinuxSll,
        LinkType::LinuxSll2,
        LinkType::Null,
        LinkType::Ppp,
        LinkType::Pppoe,
        LinkType::Nflog,
    ];
    let mut seeds: Vec<(LinkType, Vec<u8>)> = all_shapes()
        .into_iter()
        .map(|(_, link, bytes, ..)| (link, bytes))
        .collect();
    let datagram = udp(4789, &vxlan(1, &inner_frame()));
    let pieces = fragments_v4(17, OUTER, &datagram, 40)
        .into_iter()
        .chain(fragments_v6(6, &tcp(PAYLOAD), 16));
    seeds.extend(pieces.map(|ip| (LinkType::Ethernet, over_ethernet(&ip))));

    let mut random = Random(0x5eed);
    let mut decap = Decap::new(Config {
        vnis: VniFilter::parse("-9").unwrap(),
        ..Config::default()
    });
    let rounds: u64 = 200_000;
    for round in 0..rounds {
        let (link, mut bytes) = seeds[random.below(seeds.len())].clone();
        for _ in 0..random.below(4) {
            let at = random.below(bytes.len());
            bytes[at] = random.next() as u8;
        }
        if random.below(4) == 0 {
            bytes.truncate(random.below(bytes.len()));
        }
        let link = if random.below(16) == 0 {
            LINKS[random.below(LINKS.len())]
        } else {
            link
        };
        let time = Timestamp::from_parts(round / 1000 * FRAGMENT_WAIT_SECONDS / 4, 0);
        let wire_len = if random.below(8) == 0 {
            random.next() as u32
        } else {
            bytes.len() as u32
        };
        let segment = decap.frame(&Frame {
            time,
            link,
            bytes: &bytes,
            wire_len,
            vlan: None,
        });
        if let Ok(segment) = segment {
            assert!(segment.payload.len() <= segment.payload_wire_len as usize);
        }
    }
    let c = decap.counters();
    assert_eq!((c.frames, c.unaccounted()), (rounds, 0));
    assert_eq!(
        c.fragments,
        c.fragments_stored + c.fragments_duplicate + c.fragments_refused
    );
    let ended = c.fragments_joined + c.fragments_expired + c.fragments_evicted;
    assert_eq!(c.fragments_stored, ended + decap.fragments_waiting());
    assert!(
        c.segments > rounds / 4 && c.datagrams_joined > 0 && c.fragments_expired > 0,
        "{c:?}"
    );
}

/// The reader of plain frames finds the segment that the walk finds and counts it the same, or leaves the frame to the
/// walk.
#[test]
fn a_plain_frame_is_read_as_the_walk_reads_it() {
    let zero_len = |fields: Vec<u8>| over_ethernet(&[fields, tcp(PAYLOAD)].concat());
    let datagram = udp(4789, &vxlan(7, &inner_frame()));
    let seeds = [
        inner_frame(),
        over_ethernet(&ipv4_between(6, (CLIENT, [10, 0, 0, 9]), &tcp(PAYLOAD))),
        over_ethernet(&ipv6(6, &tcp(PAYLOAD))),
        [inner_frame(), vec![0; 9]].concat(),
        zero_len(ipv4_fields(6, OUTER, 0, 0)),
        zero_len(ipv6_fields(6, 0)),
        over_ethernet(&outer(17, &udp(53, PAYLOAD))),
        vxlan_frame(7, &inner_frame()),
        vxlan_frame(9, &inner_frame()),
        vxlan_frame(8, &over_ethernet(&ipv6(6, &tcp(PAYLOAD)))),
        over_ethernet(&ipv6(17, &datagram)),
        over_ethernet(&outer(17, &udp(4790, &vxlan(7, &inner_frame())))),
    ];
    let only = |only_tunnelled, encaps, mirrors| Config {
        vnis: VniFilter::parse("-9").unwrap(),
        only_tunnelled,
        encaps,
        mirrors: MirrorSources::parse(mirrors).unwrap(),
        self_traffic: SelfTraffic::new(["10.0.0.9:80".parse().unwrap()]),
        ..Config::default()
    };
    let mut random = Random(0x91a1);
    for config in [
        only(false, EncapSet::ALL, ""),
        only(true, EncapSet::ALL, "172.16.0.0/28"),
        only(false, EncapSet::NONE, ""),
    ] {
        let mut fast = Decap::new(config.clone());
        let mut slow = Decap::new(config.clone());
        let mut plain = 0;
        for _ in 0..100_000 {
            let mut bytes = seeds[random.below(seeds.len())].clone();
            // Where a fast reader may go wrong: in the headers, by a bit.
            for _ in 0..random.below(4) {
                let at = random.below(bytes.len().min(126));
                bytes[at] ^= 1 << random.below(8);
            }
            if random.below(4) == 0 {
                bytes.truncate(random.below(bytes.len()));
            }
            let frame = frame(&bytes);
            plain += u32::from(plain::read(&frame, &config).is_some());
            let walked = format!("{:?}", slow.walk(&frame));
            assert_eq!(format!("{:?}", fast.frame(&frame)), walked, "{bytes:?}");
        }
        assert!((10_000..60_000).contains(&plain), "{plain}");
        let values = |decap: &Decap| decap.counters().values().collect::<Vec<_>>();
        assert_eq!(values(&fast), values(&slow));
        assert_eq!(fast.vnis_seen(), slow.vnis_seen());
    }
    for link in [LinkType::RawIp, LinkType::LinuxSll] {
        let bytes = inner_frame();
        let frame = Frame {
            link,
            ..frame(&bytes)
        };
        assert!(plain::read(&frame, &Config::default()).is_none());
    }
}
