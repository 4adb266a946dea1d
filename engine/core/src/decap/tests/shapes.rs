//! Here belongs every encapsulation: frames of each shape lead to the same segment, whole and cut at every byte.

use super::*;
use crate::limits::DECAP_DEPTH_MAX;

/// Every way in that there is.
pub(super) fn all_shapes() -> Vec<Shape> {
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

/// A frame cut at any byte either still has its segment, with the right number of missing bytes, or is skipped.
#[test]
fn a_cut_frame_lacks_a_known_number_of_bytes() {
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
fn quic_is_named_with_its_bytes_and_its_client() {
    let mut decap = Decap::new(Config::default());
    let mut read = |payload: &[u8]| {
        let packet = over_ethernet(&ipv4(17, &udp(443, payload)));
        decap.frame(&frame(&packet)).unwrap_err()
    };
    let initial = read(b"\xc3\0\0\0\x01\x08initial");
    let Skip::Quic(quic) = initial else {
        panic!("{initial:?}");
    };
    assert_eq!((quic.bytes, quic.opens.is_some()), (13, true));
    assert_eq!(read(b"\xd0\x6b\x33\x43\xcf\x08repeats"), initial);
    let further = Skip::Quic(Quic {
        opens: None,
        ..quic
    });
    for packet in [
        &b"\x41some thirteen"[..],
        b"\xe3\0\0\0\x01\x08a shakes",
        b"\xc3\0\0\0\0\x08version",
    ] {
        assert_eq!(read(&packet[..13]), further);
    }
    assert_eq!(read(b"\x16\xfe\xfd\0"), Skip::NotTcp, "DTLS");
    assert_eq!(decap.counters().skipped_quic, 5);
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
