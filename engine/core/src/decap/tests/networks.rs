//! Here belongs whose traffic is read, and which network it belongs to.

use super::*;

fn in_geneve(inner: &[u8]) -> Vec<u8> {
    over_ethernet(&outer(17, &udp(6081, &geneve(9, 0x6558, inner))))
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
        encaps: EncapSet::NONE,
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
fn tunnels_from_other_hosts_are_skipped() {
    let mirrored = vxlan_frame(7, &inner_frame());
    let from = |sources: &str| Config {
        mirrors: MirrorSources::parse(sources).unwrap(),
        ..Config::default()
    };
    let source = "172.16.0.1";
    check(from(source), &mirrored, Ok(Encap::Vxlan));
    check(from("172.16.0.0/12"), &mirrored, Ok(Encap::Vxlan));
    for frame in [
        mirrored.clone(),
        in_geneve(&inner_frame()),
        over_ethernet(&outer(4, &ipv4(6, &tcp(PAYLOAD)))),
    ] {
        check(from("198.51.100.0/24"), &frame, Err(Skip::MirrorUnwanted));
    }
    // What is in no tunnel is no business of the list, and neither is a tunnel within one.
    check(from("198.51.100.0/24"), &inner_frame(), Ok(Encap::Plain));
    let nested = vxlan_frame(7, &vxlan_frame(8, &inner_frame()));
    check(from(source), &nested, Ok(Encap::Vxlan));

    // A stranger's network is not among those that were seen.
    let mut decap = Decap::new(from("198.51.100.0/24"));
    let _ = decap.frame(&frame(&mirrored));
    assert_eq!(decap.counters().skipped_mirror_unwanted, 1);
    assert!(decap.vnis_seen().is_empty());
}

#[test]
fn only_the_chosen_encapsulations_are_removed() {
    let geneve_only = Config {
        encaps: EncapSet::NONE.with(Encap::Geneve),
        ..Config::default()
    };
    check(
        geneve_only.clone(),
        &in_geneve(&inner_frame()),
        Ok(Encap::Geneve),
    );
    check(
        geneve_only.clone(),
        &vxlan_frame(7, &inner_frame()),
        Err(Skip::Encapsulated),
    );
    // The kernel's filter asks for no other port.
    assert_eq!(geneve_only.udp_ports(), geneve_only.geneve_ports);
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
fn networks_differ_by_what_both_directions_share() {
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
