//! Frames of every shape, built here, walked, cut at every byte, and mutated.

use super::*;
use crate::limits::{DECAP_DEPTH_MAX, FRAGMENT_WAIT_SECONDS};

const CLIENT: [u8; 4] = [10, 0, 0, 1];
const SERVER: [u8; 4] = [10, 0, 0, 2];
const OUTER: ([u8; 4], [u8; 4]) = ([172, 16, 0, 1], [172, 16, 0, 2]);
const PAYLOAD: &[u8] = b"GET / HTTP/1.1\r\n\r\n";

fn be16(number: usize) -> [u8; 2] {
    u16::try_from(number).unwrap().to_be_bytes()
}

fn tcp(payload: &[u8]) -> Vec<u8> {
    let options = [1_u8; 4];
    let header = [
        &be16(40000)[..],
        &be16(80),
        &[0, 0, 0, 7, 0, 0, 0, 9, 0x60, 0x18, 1, 0, 0, 0, 0, 0],
        &options,
    ];
    [header.concat(), payload.to_vec()].concat()
}

fn udp(port: usize, payload: &[u8]) -> Vec<u8> {
    [
        &be16(50000)[..],
        &be16(port),
        &be16(8 + payload.len()),
        &[0, 0],
        payload,
    ]
    .concat()
}

fn ipv4_fields(
    protocol: u8,
    (src, dst): ([u8; 4], [u8; 4]),
    total_len: usize,
    fragment: u16,
) -> Vec<u8> {
    let head = [
        &[0x45, 0][..],
        &be16(total_len),
        &[0, 1],
        &fragment.to_be_bytes(),
        &[64, protocol, 0, 0],
    ];
    [head.concat(), src.to_vec(), dst.to_vec()].concat()
}

fn ipv4_between(protocol: u8, addrs: ([u8; 4], [u8; 4]), payload: &[u8]) -> Vec<u8> {
    [
        ipv4_fields(protocol, addrs, 20 + payload.len(), 0),
        payload.to_vec(),
    ]
    .concat()
}

fn ipv4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    ipv4_between(protocol, (CLIENT, SERVER), payload)
}

fn outer(protocol: u8, payload: &[u8]) -> Vec<u8> {
    ipv4_between(protocol, OUTER, payload)
}

fn ipv6_fields(next: u8, payload_len: usize) -> Vec<u8> {
    let mut header = vec![0x60, 0, 0, 0];
    header.extend(be16(payload_len));
    header.extend([next, 64]);
    header.extend([0xfd; 15]);
    header.push(1);
    header.extend([0xfd; 15]);
    header.push(2);
    header
}

fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
    [ipv6_fields(next, payload.len()), payload.to_vec()].concat()
}

fn ethernet(ether_type: u16, payload: &[u8]) -> Vec<u8> {
    [&[2; 12][..], &ether_type.to_be_bytes(), payload].concat()
}

fn inner_frame() -> Vec<u8> {
    ethernet(0x0800, &ipv4(6, &tcp(PAYLOAD)))
}

fn vxlan(vni: u32, inner: &[u8]) -> Vec<u8> {
    let [_, v2, v1, v0] = vni.to_be_bytes();
    [&[8, 0, 0, 0, v2, v1, v0, 0][..], inner].concat()
}

fn geneve(vni: u32, protocol: u16, inner: &[u8]) -> Vec<u8> {
    let [_, v2, v1, v0] = vni.to_be_bytes();
    let [p1, p0] = protocol.to_be_bytes();
    [&[1, 0, p1, p0, v2, v1, v0, 0, 1, 2, 3, 0][..], inner].concat()
}

fn gre(key: Option<u32>, protocol: u16, inner: &[u8]) -> Vec<u8> {
    let flags = if key.is_some() { 0x20 } else { 0 };
    let [p1, p0] = protocol.to_be_bytes();
    let key: Vec<u8> = key.iter().flat_map(|key| key.to_be_bytes()).collect();
    [&[flags, 0, p1, p0][..], &key, inner].concat()
}

fn frame(bytes: &[u8]) -> Frame<'_> {
    let wire_len = bytes.len() as u32;
    Frame {
        time: Timestamp::ZERO,
        link: LinkType::Ethernet,
        bytes,
        wire_len,
        vlan: None,
    }
}

fn over_ethernet(ip: &[u8]) -> Vec<u8> {
    ethernet(if ip[0] >> 4 == 4 { 0x0800 } else { 0x86dd }, ip)
}

fn vxlan_frame(vni: u32, inner: &[u8]) -> Vec<u8> {
    over_ethernet(&outer(17, &udp(4789, &vxlan(vni, inner))))
}

/// A frame by name, and the encapsulation and identifier that its segment should have.
type Shape = (&'static str, LinkType, Vec<u8>, Encap, Option<u32>);

/// Every way in that there is.
fn all_shapes() -> Vec<Shape> {
    let frame = inner_frame();
    let packet = ipv4(6, &tcp(PAYLOAD));
    let packet6 = ipv6(6, &tcp(PAYLOAD));
    let eth = |bytes: Vec<u8>| (LinkType::Ethernet, bytes);
    let tunnel = |port, payload: Vec<u8>| eth(over_ethernet(&outer(17, &udp(port, &payload))));
    let proto = |protocol, payload: Vec<u8>| eth(over_ethernet(&outer(protocol, &payload)));
    let mpls = [&[0, 1, 0, 9, 0, 2, 1, 9][..], &packet].concat();
    let ppp = [&[0, 0x21][..], &packet].concat();
    let pppoe = [&[0x11, 0, 0, 1][..], &be16(ppp.len()), &ppp].concat();
    let dest_options = ipv6(60, &[&[6, 0, 1, 4, 0, 0, 0, 0][..], &tcp(PAYLOAD)].concat());
    let erspan2 = [
        &[0x10, 0, 0, 0, 0, 0, 0, 1, 0x10, 5, 0, 6, 0, 0, 0, 0][..],
        &frame,
    ]
    .concat();
    let erspan2 = [&[0x10, 0, 0x88, 0xbe][..], &erspan2[4..]].concat();
    let erspan3 = [
        &[
            0x10, 0, 0x22, 0xeb, 0, 0, 0, 1, 0x20, 5, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0,
        ][..],
        &frame,
    ]
    .concat();
    let nsh = [
        &[0x0c, 0, 0, 4, 0, 0, 9, 0, 0, 2, 2, 3, 0, 0, 1, 255][..],
        &frame,
    ]
    .concat();
    let sll = [&[0; 14][..], &[8, 0], &packet].concat();
    let sll2 = [&[8, 0][..], &[0; 18], &packet].concat();
    let snap_len = (8 + packet.len()) as u16;
    let snap = ethernet(
        snap_len,
        &[&[0xaa, 0xaa, 3, 0, 0, 0, 8, 0][..], &packet].concat(),
    );
    let both = geneve(0, 0x0800, &outer(17, &udp(4789, &vxlan(77, &frame))));
    let llc = [&[0xaa, 0xaa, 3, 0, 0, 0, 8, 0][..], &packet].concat();
    let fddi = [&[0; 13][..], &llc].concat();
    let ipoib = [&[0; 40][..], &[8, 0, 0, 0], &packet].concat();
    let wifi = [&[0x88, 1][..], &[0; 24], &llc].concat();
    let radiotap = [&[0, 0, 8, 0, 0, 0, 0, 0][..], &wifi].concat();
    let backbone = [&[0, 0, 1, 2][..], &frame].concat();
    let isl = [&[1, 0, 0x0c, 0, 0][..], &[0; 21], &frame].concat();
    let shapes = [
        ("fddi", (LinkType::Fddi, fddi), Encap::Plain, None),
        ("ipoib", (LinkType::Ipoib, ipoib), Encap::Plain, None),
        ("wifi", (LinkType::Wifi, wifi), Encap::Plain, None),
        (
            "radiotap",
            (LinkType::Radiotap, radiotap),
            Encap::Plain,
            None,
        ),
        (
            "802.1ah",
            eth(ethernet(0x88e7, &backbone)),
            Encap::Other,
            Some(0x102),
        ),
        ("ethernet", eth(frame.clone()), Encap::Plain, None),
        ("snap", eth(snap), Encap::Plain, None),
        (
            "vlan",
            eth(ethernet(0x8100, &[&[0, 5, 8, 0][..], &packet].concat())),
            Encap::Plain,
            None,
        ),
        (
            "qinq",
            eth(ethernet(
                0x88a8,
                &[&[0, 5, 0x81, 0, 0, 6, 8, 0][..], &packet].concat(),
            )),
            Encap::Plain,
            None,
        ),
        (
            "9100",
            eth(ethernet(
                0x9100,
                &[&[0, 5, 0x81, 0, 0, 6, 8, 0][..], &packet].concat(),
            )),
            Encap::Plain,
            None,
        ),
        (
            "vn-tag",
            eth(ethernet(
                0x8926,
                &[&[0, 0, 0, 0, 8, 0][..], &packet].concat(),
            )),
            Encap::Plain,
            None,
        ),
        (
            "9200, 9100",
            eth(ethernet(
                0x9200,
                &[&[0, 5, 0x91, 0, 0, 6, 8, 0][..], &packet].concat(),
            )),
            Encap::Plain,
            None,
        ),
        (
            "hsr",
            eth(ethernet(
                0x892f,
                &[&[0, 0, 0, 0, 8, 0][..], &packet].concat(),
            )),
            Encap::Plain,
            None,
        ),
        (
            "cisco metadata",
            eth(ethernet(
                0x8909,
                &[&[1, 1, 0, 1, 0, 5, 8, 0][..], &packet].concat(),
            )),
            Encap::Plain,
            None,
        ),
        (
            "macsec without encryption",
            eth(ethernet(
                0x88e5,
                &[&[0, 0, 0, 0, 0, 1, 8, 0][..], &packet].concat(),
            )),
            Encap::Plain,
            None,
        ),
        (
            "trill",
            eth(ethernet(
                0x22f3,
                &[&[0, 1, 0, 1, 0, 2][..], &frame].concat(),
            )),
            Encap::Plain,
            None,
        ),
        ("isl", eth(isl), Encap::Plain, None),
        ("mpls", eth(ethernet(0x8847, &mpls)), Encap::Plain, None),
        ("pppoe", eth(ethernet(0x8864, &pppoe)), Encap::Plain, None),
        ("ipv6", eth(over_ethernet(&packet6)), Encap::Plain, None),
        (
            "ipv6 options",
            eth(over_ethernet(&dest_options)),
            Encap::Plain,
            None,
        ),
        ("raw", (LinkType::RawIp, packet.clone()), Encap::Plain, None),
        (
            "null",
            (LinkType::Null, [&[2, 0, 0, 0][..], &packet].concat()),
            Encap::Plain,
            None,
        ),
        (
            "loop",
            (LinkType::Null, [&[0, 0, 0, 24][..], &packet6].concat()),
            Encap::Plain,
            None,
        ),
        ("sll", (LinkType::LinuxSll, sll), Encap::Plain, None),
        ("sll2", (LinkType::LinuxSll2, sll2), Encap::Plain, None),
        ("ppp", (LinkType::Ppp, ppp.clone()), Encap::Plain, None),
        ("pppoe link", (LinkType::Pppoe, pppoe), Encap::Plain, None),
        (
            "vxlan",
            tunnel(4789, vxlan(123, &frame)),
            Encap::Vxlan,
            Some(123),
        ),
        (
            "vxlan v6",
            eth(over_ethernet(&ipv6(17, &udp(4789, &vxlan(123, &frame))))),
            Encap::Vxlan,
            Some(123),
        ),
        ("vxlan-gpe nsh", tunnel(4790, nsh), Encap::Vxlan, Some(9)),
        (
            "geneve",
            tunnel(6081, geneve(5, 0x6558, &frame)),
            Encap::Geneve,
            Some(5),
        ),
        (
            "geneve around vxlan",
            tunnel(6081, both),
            Encap::Vxlan,
            Some(77),
        ),
        (
            "gre",
            proto(47, gre(None, 0x0800, &packet)),
            Encap::Gre,
            None,
        ),
        (
            "gre key",
            proto(47, gre(Some(7), 0x6558, &frame)),
            Encap::Gre,
            Some(7),
        ),
        (
            "nvgre",
            proto(47, gre(Some(0x0012_3499), 0x6558, &frame)),
            Encap::Gre,
            Some(0x0012_3400),
        ),
        (
            "gre in udp",
            tunnel(4754, gre(None, 0x86dd, &packet6)),
            Encap::Gre,
            None,
        ),
        (
            "erspan 1",
            proto(47, gre(None, 0x88be, &frame)),
            Encap::Erspan,
            None,
        ),
        ("erspan 2", proto(47, erspan2), Encap::Erspan, Some(6)),
        ("erspan 3", proto(47, erspan3), Encap::Erspan, Some(6)),
        (
            "wccp",
            proto(47, gre(None, 0x883e, &[&[0; 4][..], &packet].concat())),
            Encap::Gre,
            None,
        ),
        ("ip in ip", proto(4, packet.clone()), Encap::IpIp, None),
        ("6in4", proto(41, packet6.clone()), Encap::IpIp, None),
        (
            "4in6",
            eth(over_ethernet(&ipv6(4, &packet))),
            Encap::IpIp,
            None,
        ),
        (
            "etherip",
            proto(97, [&[0x30, 0][..], &frame].concat()),
            Encap::Other,
            None,
        ),
        ("mpls in udp", tunnel(6635, mpls), Encap::Other, None),
        (
            "gtp",
            tunnel(2152, [&[0x30, 255, 0, 0, 0, 0, 0, 1][..], &packet].concat()),
            Encap::Other,
            None,
        ),
        ("teredo", tunnel(3544, packet6.clone()), Encap::Other, None),
        (
            "l2tp",
            tunnel(1701, [&[0, 2, 0, 1, 0, 1][..], &ppp].concat()),
            Encap::Other,
            None,
        ),
    ];
    shapes
        .into_iter()
        .map(|(name, (link, bytes), encap, vni)| (name, link, bytes, encap, vni))
        .collect()
}

#[track_caller]
fn check(config: Config, bytes: &[u8], expected: Result<Encap, Skip>) {
    let mut decap = Decap::new(config);
    let got = decap.frame(&frame(bytes)).map(|segment| {
        assert_eq!(
            (segment.payload, segment.payload_wire_len),
            (PAYLOAD, PAYLOAD.len() as u32)
        );
        segment.network.encap
    });
    assert_eq!(got, expected);
    assert_eq!(decap.counters().unaccounted(), 0);
}

#[test]
fn every_shape_leads_to_the_same_segment() {
    for (name, link, bytes, encap, vni) in all_shapes() {
        let mut decap = Decap::new(Config::default());
        let got = decap.frame(&Frame {
            link,
            ..frame(&bytes)
        });
        let segment = got.unwrap_or_else(|skip| panic!("{name}: {skip:?}"));
        assert_eq!(
            (segment.payload, segment.payload_wire_len),
            (PAYLOAD, PAYLOAD.len() as u32),
            "{name}"
        );
        assert_eq!(
            (segment.src.port, segment.dst.port, segment.seq, segment.ack),
            (40000, 80, 7, 9),
            "{name}"
        );
        assert_eq!(
            (segment.network.encap, segment.network.vni),
            (encap, vni),
            "{name}"
        );
        assert_eq!(segment.network.id == 0, vni.is_none(), "{name}");
        let client = if segment.src.addr[0] == 0xfd { 0xfd } else { 0 };
        assert_eq!(
            (
                segment.src.addr[0],
                segment.src.addr[15],
                segment.dst.addr[15]
            ),
            (client, 1, 2),
            "{name}"
        );
        if client == 0 {
            assert_eq!(
                segment.src.addr,
                [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1],
                "{name}"
            );
        }
        assert_eq!(
            (decap.counters().segments, decap.counters().unaccounted()),
            (1, 0),
            "{name}"
        );
    }
}

/// A frame cut at any byte either still tells its segment, with the right number of missing bytes, or is skipped.
#[test]
fn a_cut_frame_says_what_is_missing() {
    for (name, link, bytes, ..) in all_shapes() {
        let mut decap = Decap::new(Config::default());
        let header_end = bytes.len() - PAYLOAD.len();
        for cut in 0..bytes.len() {
            let got = decap
                .frame(&Frame {
                    link,
                    ..frame(&bytes[..cut])
                })
                .map(|segment| {
                    assert_eq!(
                        segment.payload_wire_len as usize,
                        PAYLOAD.len(),
                        "{name} cut at {cut}"
                    );
                    assert!(PAYLOAD.starts_with(segment.payload), "{name} cut at {cut}");
                    segment.payload.len()
                });
            // Ports, sequence number and flags are there as soon as the fixed part of the TCP header is.
            match cut.checked_sub(header_end) {
                Some(left) => assert_eq!(got, Ok(left), "{name} cut at {cut}"),
                None if cut + 4 >= header_end => assert_eq!(got, Ok(0), "{name} cut at {cut}"),
                None => assert!(got.is_err(), "{name} cut at {cut}"),
            }
        }
        assert_eq!(decap.counters().unaccounted(), 0);
    }
}

#[test]
fn padding_is_not_payload() {
    for (name, link, mut bytes, ..) in all_shapes() {
        bytes.extend([0; 30]);
        let mut decap = Decap::new(Config::default());
        let segment = decap
            .frame(&Frame {
                link,
                ..frame(&bytes)
            })
            .unwrap();
        assert_eq!(
            (segment.payload, segment.payload_wire_len),
            (PAYLOAD, PAYLOAD.len() as u32),
            "{name}"
        );
    }
}

#[test]
fn padding_that_ip_counts_but_pppoe_does_not_is_not_payload() {
    let mut packet = ipv4(6, &tcp(PAYLOAD));
    let counted = packet.len() + 6;
    packet[2..4].copy_from_slice(&be16(counted));
    let ppp = [&[0, 0x21][..], &packet].concat();
    let bytes = [&[0x11, 0, 0, 1][..], &be16(ppp.len()), &ppp, &[0; 6]].concat();
    check(
        Config::default(),
        &ethernet(0x8864, &bytes),
        Ok(Encap::Plain),
    );
}

#[test]
fn uncut_packets_are_as_long_as_their_frame() {
    let mut tso = inner_frame();
    tso[16..18].copy_from_slice(&[0, 0]);
    check(Config::default(), &tso, Ok(Encap::Plain));
    check(Config::default(), &vxlan_frame(1, &tso), Ok(Encap::Vxlan));
    let gso6 = over_ethernet(&[ipv6_fields(6, 0), tcp(PAYLOAD)].concat());
    check(Config::default(), &gso6, Ok(Encap::Plain));
    // BIG TCP: 100 000 bytes by the jumbo option, and padding after them.
    let data = vec![b'x'; 100_000];
    let jumbo_len = (8 + 24 + data.len()) as u32;
    let option = [&[6, 0, 0xc2, 4][..], &jumbo_len.to_be_bytes()].concat();
    let big = over_ethernet(&[ipv6_fields(0, 0), option, tcp(&data), vec![0; 8]].concat());
    let mut decap = Decap::new(Config::default());
    let segment = decap.frame(&frame(&big)).unwrap();
    assert_eq!(
        (segment.payload.len(), segment.payload_wire_len),
        (data.len(), data.len() as u32)
    );
}

#[test]
fn absurd_lengths_make_no_hole() {
    let option = [&[6, 0, 0xc2, 4][..], &u32::MAX.to_be_bytes()].concat();
    let jumbo = over_ethernet(&[ipv6_fields(0, 0), option, tcp(PAYLOAD)].concat());
    check(
        Config::default(),
        &jumbo,
        Err(Skip::Malformed(Layer::Transport)),
    );
    let mut tso = inner_frame();
    tso[16..18].copy_from_slice(&[0, 0]);
    let mut decap = Decap::new(Config::default());
    let got = decap
        .frame(&Frame {
            wire_len: u32::MAX,
            ..frame(&tso)
        })
        .map(|_| ());
    assert_eq!(got, Err(Skip::Malformed(Layer::Transport)));
}

#[test]
fn what_is_no_segment_is_named() {
    let default = Config::default;
    check(default(), &ethernet(0x0806, &[0; 28]), Err(Skip::NotIp));
    check(
        default(),
        &over_ethernet(&ipv4(17, &udp(53, b"dns"))),
        Err(Skip::NotTcp),
    );
    check(
        default(),
        &over_ethernet(&ipv4(1, b"ping")),
        Err(Skip::NotTcp),
    );
    check(
        default(),
        &ethernet(0x0800, &[0x95; 40]),
        Err(Skip::Malformed(Layer::Ip)),
    );
    check(
        default(),
        &ethernet(0x0800, &[0x45; 10]),
        Err(Skip::Truncated(Layer::Ip)),
    );
    check(default(), &[1, 2, 3], Err(Skip::Truncated(Layer::Link)));
    check(
        default(),
        &over_ethernet(&outer(17, &udp(4789, &[8, 0, 0]))),
        Err(Skip::Truncated(Layer::Tunnel)),
    );
    let mut no_flag = vxlan(1, &inner_frame());
    no_flag[0] = 0;
    check(
        default(),
        &over_ethernet(&outer(17, &udp(4789, &no_flag))),
        Err(Skip::NoVni),
    );
    let mut short_total = inner_frame();
    short_total[16..18].copy_from_slice(&[0, 19]);
    check(default(), &short_total, Err(Skip::Malformed(Layer::Ip)));
    let mut decap = Decap::new(default());
    let other = Frame {
        link: LinkType::Other(147),
        ..frame(&[])
    };
    assert_eq!(decap.frame(&other).map(|_| ()), Err(Skip::LinkType));
}

#[test]
fn settings_choose() {
    let with = |vnis: &str| Config {
        vnis: VniFilter::parse(vnis).unwrap(),
        ..Config::default()
    };
    let mirrored = vxlan_frame(123, &inner_frame());
    check(with("123"), &mirrored, Ok(Encap::Vxlan));
    check(with("-123"), &mirrored, Err(Skip::VniUnwanted));
    check(with("5"), &mirrored, Err(Skip::VniUnwanted));
    check(with("5"), &inner_frame(), Ok(Encap::Plain));
    // The mirror's VNI decides, not that of an overlay inside, and not that of the load balancer around it.
    check(
        with("123"),
        &vxlan_frame(123, &vxlan_frame(1, &inner_frame())),
        Ok(Encap::Vxlan),
    );
    check(
        with("1"),
        &vxlan_frame(123, &vxlan_frame(1, &inner_frame())),
        Err(Skip::VniUnwanted),
    );
    let in_geneve = |inner: &[u8]| over_ethernet(&outer(17, &udp(6081, &geneve(9, 0x6558, inner))));
    check(with("123"), &in_geneve(&mirrored), Ok(Encap::Vxlan));
    check(with("9"), &in_geneve(&inner_frame()), Ok(Encap::Geneve));
    check(
        with("123"),
        &in_geneve(&inner_frame()),
        Err(Skip::VniUnwanted),
    );

    let only = Config {
        only_tunnelled: true,
        ..Config::default()
    };
    check(only.clone(), &inner_frame(), Err(Skip::NotTunnelled));
    check(only, &mirrored, Ok(Encap::Vxlan));
    let closed = Config {
        decapsulate: false,
        ..Config::default()
    };
    check(closed.clone(), &mirrored, Err(Skip::Encapsulated));
    check(
        closed.clone(),
        &over_ethernet(&outer(4, &ipv4(6, &tcp(PAYLOAD)))),
        Err(Skip::Encapsulated),
    );
    check(closed, &inner_frame(), Ok(Encap::Plain));
    let ports = Config {
        vxlan_ports: vec![8472],
        ..Config::default()
    };
    check(ports.clone(), &mirrored, Err(Skip::NotTcp));
    let linux = over_ethernet(&outer(17, &udp(8472, &vxlan(1, &inner_frame()))));
    check(ports, &linux, Ok(Encap::Vxlan));
}

#[test]
fn networks_seen_are_counted() {
    let mut decap = Decap::new(Config {
        vnis: VniFilter::parse("-2").unwrap(),
        ..Config::default()
    });
    for vni in [1, 2, 2, 1, 1] {
        let _ = decap.frame(&frame(&vxlan_frame(vni, &inner_frame())));
    }
    let seen: Vec<_> = decap
        .vnis_seen()
        .iter()
        .map(|seen| (seen.vni, seen.frames, seen.wanted))
        .collect();
    assert_eq!(seen, [(1, 3, true), (2, 2, false)]);
    assert_eq!(decap.counters().skipped_vni_unwanted, 2);
}

#[track_caller]
fn network_of(bytes: &[u8]) -> u64 {
    Decap::new(Config::default())
        .frame(&frame(bytes))
        .unwrap()
        .network
        .id
}

#[test]
fn networks_are_told_apart_by_what_both_directions_share() {
    let inner = inner_frame();
    let packet = ipv4(6, &tcp(PAYLOAD));
    let one = network_of(&vxlan_frame(1, &inner));
    assert_ne!(one, network_of(&vxlan_frame(2, &inner)));
    // Other outer senders, ports and tags: the same network.
    let elsewhere = ipv4_between(
        17,
        (OUTER.1, [172, 16, 9, 9]),
        &udp(4789, &vxlan(1, &inner)),
    );
    let tagged = [&[0, 7, 8, 0][..], &elsewhere].concat();
    assert_eq!(one, network_of(&ethernet(0x8100, &tagged)));
    // The order of identifiers counts, and so does their kind.
    let nested = |a, b| network_of(&vxlan_frame(a, &vxlan_frame(b, &inner)));
    assert_ne!(nested(1, 2), nested(2, 1));
    assert_ne!(nested(1, 1), one);
    assert_ne!(
        one,
        network_of(&over_ethernet(&outer(
            17,
            &udp(6081, &geneve(1, 0x6558, &inner))
        )))
    );
    // A tunnel without identifier is no network: answers may come back outside of it.
    assert_eq!(
        0,
        network_of(&over_ethernet(&outer(47, &gre(None, 0x0800, &packet))))
    );
    // NVGRE's low byte is a flow's own; a small key is a link's number; one bit is a mirror's mark of the direction.
    let keyed = |key| network_of(&over_ethernet(&outer(47, &gre(Some(key), 0x6558, &inner))));
    assert_eq!(keyed(0x0012_3401), keyed(0x0012_3402));
    assert_ne!(keyed(1), keyed(2));
    assert_eq!(keyed(0), keyed(0x0200_0000));
}

#[test]
fn nesting_is_bounded() {
    let mut bytes = inner_frame();
    for _ in 0..DECAP_DEPTH_MAX {
        bytes = vxlan_frame(1, &bytes);
    }
    check(Config::default(), &bytes, Ok(Encap::Vxlan));
    check(
        Config::default(),
        &vxlan_frame(1, &bytes),
        Err(Skip::TooDeep),
    );
    let tags = [&[0x81, 0, 0, 1].repeat(5000)[..], &[8, 0]].concat();
    check(
        Config::default(),
        &[&[2; 12][..], &tags].concat(),
        Err(Skip::TooDeep),
    );
}

#[test]
fn an_acknowledgement_of_zero_is_none() {
    let mut decap = Decap::new(Config::default());
    for (ack, flags, expected) in [(9, 0x18, true), (0, 0x18, false), (0, 0x12, true)] {
        let mut segment = tcp(PAYLOAD);
        segment[11] = ack;
        segment[13] = flags;
        let bytes = over_ethernet(&ipv4(6, &segment));
        let flags = decap.frame(&frame(&bytes)).unwrap().flags;
        assert_eq!(flags.has(Flags::ACK), expected);
    }
}

#[test]
fn routing_headers_lead_to_the_last_stop() {
    let routing = [&[6, 2, 4, 1, 0, 0, 0, 0][..], &[0xee; 16], &tcp(PAYLOAD)].concat();
    let bytes = over_ethernet(&ipv6(43, &routing));
    let mut decap = Decap::new(Config::default());
    assert_eq!(decap.frame(&frame(&bytes)).unwrap().dst.addr, [0xee; 16]);
    let mut packet = ipv4(
        6,
        &[&[131, 7, 4, 9, 9, 9, 9, 0][..], &tcp(PAYLOAD)].concat(),
    );
    packet[0] = 0x47;
    let bytes = over_ethernet(&packet);
    let segment = decap.frame(&frame(&bytes)).unwrap();
    assert_eq!(segment.dst.addr[12..], [9; 4]);
    assert_eq!(segment.payload, PAYLOAD);
}

/// Cuts an IP payload into fragments of at most `size` bytes.
fn fragments_v4(
    protocol: u8,
    addrs: ([u8; 4], [u8; 4]),
    payload: &[u8],
    size: usize,
) -> Vec<Vec<u8>> {
    let count = payload.len().div_ceil(size);
    let parts = payload.chunks(size).enumerate();
    let fragment = |(at, part): (usize, &[u8])| {
        let more = if at + 1 < count { 0x2000 } else { 0 };
        let field = more | (at * size / 8) as u16;
        [
            ipv4_fields(protocol, addrs, 20 + part.len(), field),
            part.to_vec(),
        ]
        .concat()
    };
    parts.map(fragment).collect()
}

fn fragments_v6(next: u8, payload: &[u8], size: usize) -> Vec<Vec<u8>> {
    let count = payload.len().div_ceil(size);
    let parts = payload.chunks(size).enumerate();
    let fragment = |(at, part): (usize, &[u8])| {
        let more = u16::from(at + 1 < count);
        let [f1, f0] = ((at * size) as u16 | more).to_be_bytes();
        ipv6(44, &[&[next, 0, f1, f0, 0, 0, 0, 9][..], part].concat())
    };
    parts.map(fragment).collect()
}

/// Walks frames; all but one are held, and the one that completes gives the segment.
#[track_caller]
fn check_fragments(frames: &[Vec<u8>], expected: Encap) {
    let mut decap = Decap::new(Config::default());
    for (at, bytes) in frames.iter().enumerate() {
        let got = decap
            .frame(&frame(bytes))
            .map(|segment| (segment.payload.to_vec(), segment.network.encap));
        let last = at + 1 == frames.len();
        let wanted = if last {
            Ok((PAYLOAD.to_vec(), expected))
        } else {
            Err(Skip::FragmentHeld)
        };
        assert_eq!(got, wanted, "frame {at} of {}", frames.len());
    }
    assert_eq!(decap.counters().unaccounted(), 0);
    assert_eq!(decap.fragments_waiting(), 0);
}

#[test]
fn fragments_come_together() {
    let whole = |ips: Vec<Vec<u8>>| ips.iter().map(|ip| over_ethernet(ip)).collect::<Vec<_>>();
    let segment = tcp(PAYLOAD);
    check_fragments(
        &whole(fragments_v4(6, (CLIENT, SERVER), &segment, 16)),
        Encap::Plain,
    );
    check_fragments(&whole(fragments_v6(6, &segment, 8)), Encap::Plain);
    let mut backwards = whole(fragments_v4(6, (CLIENT, SERVER), &segment, 8));
    backwards.reverse();
    check_fragments(&backwards, Encap::Plain);
    // Outside: the VXLAN datagram is in pieces.
    let datagram = udp(4789, &vxlan(1, &inner_frame()));
    check_fragments(&whole(fragments_v4(17, OUTER, &datagram, 40)), Encap::Vxlan);
    check_fragments(&whole(fragments_v6(17, &datagram, 24)), Encap::Vxlan);
    // Inside, and both.
    let inside: Vec<_> = fragments_v6(6, &segment, 16)
        .iter()
        .map(|ip| vxlan_frame(1, &over_ethernet(ip)))
        .collect();
    check_fragments(&inside, Encap::Vxlan);
    let both = inside
        .iter()
        .flat_map(|bytes| fragments_v4(17, OUTER, &bytes[34..], 48));
    let both: Vec<_> = both.map(|ip| over_ethernet(&ip)).collect();
    // All outer datagrams here share an identification, so each must be whole before the next begins: they are.
    check_fragments(&both, Encap::Vxlan);
}

#[test]
fn an_atomic_fragment_is_whole() {
    let atomic = ipv6(44, &[&[6, 0, 0, 0, 0, 0, 0, 1][..], &tcp(PAYLOAD)].concat());
    check(Config::default(), &over_ethernet(&atomic), Ok(Encap::Plain));
}

#[test]
fn fragments_of_other_protocols_are_not_held() {
    let icmp = fragments_v4(1, (CLIENT, SERVER), &[0; 64], 32);
    check(
        Config::default(),
        &over_ethernet(&icmp[0]),
        Err(Skip::NotTcp),
    );
}

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

/// Whatever comes, nothing panics, every frame ends in one box, and so does every fragment.
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

/// What reads a plain frame in one go finds the segment that the walk finds and counts it the same, or leaves the frame
/// to it.
#[test]
fn a_plain_frame_is_read_as_the_walk_reads_it() {
    let zero_len = |fields: Vec<u8>| over_ethernet(&[fields, tcp(PAYLOAD)].concat());
    let datagram = udp(4789, &vxlan(7, &inner_frame()));
    let seeds = [
        inner_frame(),
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
    let only = |only_tunnelled, decapsulate| Config {
        vnis: VniFilter::parse("-9").unwrap(),
        only_tunnelled,
        decapsulate,
        ..Config::default()
    };
    let mut random = Random(0x91a1);
    for config in [only(false, true), only(true, true), only(false, false)] {
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
