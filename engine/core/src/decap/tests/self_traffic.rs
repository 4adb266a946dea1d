//! Here belongs self traffic: which frames are the sniffer's own, and that no others are.

use super::*;

/// The TCP segment of 10.0.0.1:40000 to 10.0.0.2:80, or with these ports.
fn segment(ports: [u16; 2]) -> Vec<u8> {
    let mut segment = tcp(PAYLOAD);
    for (at, port) in [0, 2].into_iter().zip(ports) {
        segment[at..at + 2].copy_from_slice(&port.to_be_bytes());
    }
    segment
}

#[track_caller]
fn check_link(link: LinkType, bytes: &[u8], expected: bool) {
    let config = Config {
        self_traffic: SelfTraffic::new([
            "10.0.0.2:7701".parse().unwrap(),
            "[2001:db8::9]:7701".parse().unwrap(),
        ]),
        ..Config::default()
    };
    let mut decap = Decap::new(config.clone());
    let mut is_self = |bytes| {
        let frame = Frame {
            link,
            ..frame(bytes)
        };
        matches!(decap.frame(&frame), Err(Skip::SelfTraffic))
    };
    assert_eq!(is_self(bytes), expected);
    for cut in 0..bytes.len() {
        assert!(!is_self(&bytes[..cut]) || expected, "cut at {cut}");
    }
    let counters = decap.counters();
    assert_eq!(counters.skipped_self_traffic > 0, expected);
    assert_eq!(counters.unaccounted(), 0);
    // On a mirror appliance, too, self traffic is counted as that.
    let mut mirror = Decap::new(Config {
        only_tunnelled: true,
        ..config
    });
    let skip = mirror.frame(&Frame {
        link,
        ..frame(bytes)
    });
    assert_eq!(matches!(skip, Err(Skip::SelfTraffic)), expected);
}

#[track_caller]
fn check(ether_type: u16, packet: &[u8], expected: bool) {
    check_link(LinkType::RawIp, packet, expected);
    check_link(LinkType::Ethernet, &ethernet(ether_type, packet), expected);
    let mut tagged = ethernet(ether_type, packet);
    for _ in 0..3 {
        tagged.splice(12..12, [0x81, 0, 0, 5]);
        check_link(LinkType::Ethernet, &tagged, expected);
    }
}

#[test]
fn both_directions_are_self_traffic_and_nothing_else() {
    let other = [10, 0, 0, 8];
    for (ends, ports, expected) in [
        ((CLIENT, SERVER), [50_000, 7701], true),
        ((SERVER, CLIENT), [7701, 50_000], true),
        ((CLIENT, SERVER), [50_000, 80], false),
        ((CLIENT, other), [50_000, 7701], false),
        ((SERVER, CLIENT), [50_000, 7701], false),
    ] {
        check(0x0800, &ipv4_between(6, ends, &segment(ports)), expected);
        let mut options = ipv4_between(6, ends, &[&[1; 8][..], &segment(ports)].concat());
        options[0] = 0x47;
        check(0x0800, &options, expected);
    }
}

#[test]
fn ipv6_too() {
    let packet = |protocol| {
        let mut packet = ipv6(protocol, &segment([50_000, 7701]));
        let own: std::net::Ipv6Addr = "2001:db8::9".parse().unwrap();
        packet[24..40].copy_from_slice(&own.octets());
        packet
    };
    check(0x86dd, &packet(6), true);
    check(0x86dd, &packet(17), false);
}

/// What a mirror sends of another host is not ours, even if that has our address.
#[test]
fn tunnelled_segments_are_not_self_traffic() {
    let packet = ipv4_between(6, (CLIENT, SERVER), &segment([50_000, 7701]));
    let inner = over_ethernet(&packet);
    check_link(LinkType::Ethernet, &vxlan_frame(1, &inner), false);
    let ip_in_ip = over_ethernet(&outer(4, &packet));
    check_link(LinkType::Ethernet, &ip_in_ip, false);
}
