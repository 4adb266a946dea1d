//! Filters on frames, by the interpreter: what is kept and what is dropped.

use super::*;
use crate::packet::bpf::interpreter::{Packet, run};
use crate::packet::frames::{ethernet, ip, tcp, udp};

/// A packet between two ends, bare, as text such as `tcp 10.0.0.1 4000 10.0.0.2 80`.
fn packet(text: &str) -> Vec<u8> {
    let words: Vec<&str> = text.split(' ').collect();
    let &[protocol, source, source_port, destination, destination_port] = words.as_slice() else {
        panic!("{text}");
    };
    let ports = (
        source_port.parse().unwrap(),
        destination_port.parse().unwrap(),
    );
    let (protocol, payload) = match protocol {
        "tcp" => (6, tcp(ports.0, ports.1)),
        "udp" => (17, udp(ports.0, ports.1, b"payload")),
        "gre" => (47, vec![0; 8]),
        "icmp" => (1, vec![0; 8]),
        // Behind a fragment header, in IPv6.
        "fragment" => (44, tcp(ports.0, ports.1)),
        _ => panic!("{text}"),
    };
    let ends = (source.parse().unwrap(), destination.parse().unwrap());
    ip(ends.0, ends.1, protocol, &payload)
}

fn link(tags: &[u16], packet: &[u8]) -> Vec<u8> {
    let kind = if packet[0] >> 4 == 4 { 0x0800 } else { 0x86dd };
    let mut frame = ethernet(kind, packet);
    for tag in tags.iter().rev() {
        let [high, low] = tag.to_be_bytes();
        frame.splice(12..12, [high, low, 0, 5]);
    }
    frame
}

fn is_kept(program: &[Instruction], bytes: Vec<u8>) -> bool {
    let packet = Packet {
        bytes,
        ..Packet::default()
    };
    match run(program, &packet) {
        0 => false,
        u32::MAX => true,
        cut => panic!("cut to {cut}"),
    }
}

/// Whether the filter keeps the packet, with any number of tags and with no link-layer header at all.
#[track_caller]
fn check(filter: &FrameFilter, packet: &[u8], expected: bool) {
    let program = filter.program().unwrap();
    for tags in [&[][..], &[0x8100], &[0x88a8, 0x8100], &[0x9100, 0x8100]] {
        let kept = is_kept(&program, link(tags, packet));
        assert_eq!(kept, expected, "{tags:x?} {packet:02x?}");
    }
    let three = link(&[0x8100, 0x8100, 0x8100], packet);
    if filter.expression.is_none() {
        assert!(
            is_kept(&program, three),
            "more tags than are looked through"
        );
    }
    let bare = FrameFilter {
        bare_ip: true,
        ..filter.clone()
    };
    assert_eq!(is_kept(&bare.program().unwrap(), packet.to_vec()), expected);
}

/// Interfaces with odd indexes, by their remainder of division by four: 1 is bare, 3 sends frames that are dropped.
#[test]
fn a_ring_on_all_interfaces_takes_the_frames_of_its_members() {
    for count in [0, 1, 2, 5, 40, 300] {
        let members: Vec<Member> = (0..count)
            .rev()
            .map(|number| Member {
                index: 2 * number + 1,
                bare_ip: number % 2 == 0,
                drop_outgoing: number % 2 == 1,
            })
            .collect();
        let program = ports().program_for(&members).unwrap();
        assert!(program.len() < 2000, "{}", program.len());
        let wanted = packet("tcp 10.0.0.1 4000 10.0.0.2 80");
        let other = packet("tcp 10.0.0.1 4000 10.0.0.2 81");
        for interface in 0..2 * count + 3 {
            let is_member = interface % 2 == 1 && interface < 2 * count;
            let is_bare = interface % 4 == 1;
            for (bytes, is_wanted) in [(&wanted, true), (&other, false)] {
                let bytes = if is_bare {
                    bytes.clone()
                } else {
                    link(&[], bytes)
                };
                for kind in [0, libc::PACKET_OUTGOING] {
                    let packet = Packet {
                        bytes: bytes.clone(),
                        kind,
                        interface,
                        ..Packet::default()
                    };
                    let is_dropped = interface % 4 == 3 && kind == libc::PACKET_OUTGOING;
                    assert_eq!(
                        run(&program, &packet) != 0,
                        is_member && is_wanted && !is_dropped,
                        "{interface} of {count}, packet type {kind}"
                    );
                }
            }
        }
    }
}

fn ports() -> FrameFilter {
    FrameFilter {
        tcp_ports: Some(vec![(80, 80), (8000, 8100)]),
        udp_ports: Some(vec![4789, 6081]),
        ..FrameFilter::default()
    }
}

#[test]
fn ports_are_looked_for_at_both_ends() {
    for (text, expected) in [
        ("tcp 10.0.0.1 4000 10.0.0.2 80", true),
        ("tcp 10.0.0.2 80 10.0.0.1 4000", true),
        ("tcp 10.0.0.1 4000 10.0.0.2 8000", true),
        ("tcp 10.0.0.1 8100 10.0.0.2 4000", true),
        ("tcp 10.0.0.1 8101 10.0.0.2 7999", false),
        ("tcp 10.0.0.1 81 10.0.0.2 79", false),
        ("tcp 10.0.0.1 4789 10.0.0.2 6081", false),
        ("udp 10.0.0.1 50000 10.0.0.2 4789", true),
        ("udp 10.0.0.1 50000 10.0.0.2 6081", true),
        ("udp 10.0.0.1 50000 10.0.0.2 53", false),
        ("udp 10.0.0.1 80 10.0.0.2 8000", false),
        ("gre 10.0.0.1 0 10.0.0.2 0", true),
        ("icmp 10.0.0.1 0 10.0.0.2 0", true),
        ("tcp fd00::1 4000 fd00::2 80", true),
        ("tcp fd00::1 8050 fd00::2 4000", true),
        ("tcp fd00::1 4000 fd00::2 443", false),
        ("udp fd00::1 50000 fd00::2 4789", true),
        ("udp fd00::1 443 fd00::2 443", false),
        ("fragment fd00::1 1 fd00::2 2", true),
    ] {
        check(&ports(), &packet(text), expected);
    }
}

#[test]
fn options_move_the_ports_and_fragments_are_kept() {
    let mut unwanted = packet("tcp 10.0.0.1 4000 10.0.0.2 443");
    let mut wanted = packet("tcp 10.0.0.1 4000 10.0.0.2 80");
    for packet in [&mut unwanted, &mut wanted] {
        packet[0] = 0x4f;
        packet.splice(20..20, [1; 40]);
    }
    check(&ports(), &unwanted, false);
    check(&ports(), &wanted, true);
    for fragment in [0x2000_u16, 0x2001, 0x0001, 0x1fff] {
        unwanted[6..8].copy_from_slice(&fragment.to_be_bytes());
        check(&ports(), &unwanted, true);
    }
    unwanted[6..8].copy_from_slice(&0x4000_u16.to_be_bytes());
    check(&ports(), &unwanted, false);
}

#[test]
fn a_mirror_takes_tunnels_alone() {
    let mirror = FrameFilter {
        tcp_ports: Some(Vec::new()),
        ..ports()
    };
    check(&mirror, &packet("tcp 10.0.0.1 80 10.0.0.2 80"), false);
    check(&mirror, &packet("udp 10.0.0.1 1 10.0.0.2 4789"), true);
    check(&mirror, &packet("gre 10.0.0.1 0 10.0.0.2 0"), true);
}

#[test]
fn of_other_connections_begin_and_end_are_kept() {
    let filter = FrameFilter {
        handshakes: true,
        ..ports()
    };
    for (flags, expected) in [
        (0x02, true),
        (0x12, true),
        (0x11, true),
        (0x04, true),
        (0x18, false),
    ] {
        for source in ["10.0.0.1 4000 10.0.0.2", "fd00::1 4000 fd00::2"] {
            let mut segment = packet(&format!("tcp {source} 443"));
            let length = segment.len();
            segment[length - 20 + 13] = flags;
            check(&filter, &segment, expected);
            check(&ports(), &segment, false);
        }
    }
    check(&filter, &packet("udp 10.0.0.1 4000 10.0.0.2 53"), false);
    check(&filter, &packet("tcp 10.0.0.1 4000 10.0.0.2 80"), true);
}

#[test]
fn self_traffic_is_left_out_and_nothing_else() {
    let filter = FrameFilter {
        without: vec![
            "10.0.0.9:7701".parse().unwrap(),
            "[fd00::9]:7701".parse().unwrap(),
            "[::ffff:10.0.0.8]:7702".parse().unwrap(),
        ],
        ..FrameFilter::default()
    };
    for (text, expected) in [
        ("tcp 10.0.0.1 4000 10.0.0.9 7701", false),
        ("tcp 10.0.0.9 7701 10.0.0.1 4000", false),
        ("tcp 10.0.0.1 4000 10.0.0.8 7702", false),
        ("tcp fd00::1 4000 fd00::9 7701", false),
        ("tcp fd00::9 7701 fd00::1 4000", false),
        ("tcp 10.0.0.9 4000 10.0.0.1 7701", true),
        ("tcp 10.0.0.1 4000 10.0.0.9 7702", true),
        ("tcp 10.0.0.1 4000 10.0.0.8 7701", true),
        ("udp 10.0.0.1 4000 10.0.0.9 7701", true),
        ("tcp fd00::1 4000 fd00::8 7701", true),
    ] {
        check(&filter, &packet(text), expected);
    }
}

#[test]
fn what_is_not_ip_is_kept() {
    let program = ports().program().unwrap();
    for kind in [0x0806, 0x8847, 0x8864] {
        assert!(is_kept(&program, ethernet(kind, &[0; 46])));
    }
}

#[track_caller]
fn check_expression(expression: &str, packets: &[(&str, bool)]) {
    let filter = FrameFilter {
        expression: Some(Expression::parse(expression).unwrap()),
        ..FrameFilter::default()
    };
    for (text, expected) in packets {
        check(&filter, &packet(text), *expected);
    }
}

const WEB: &str = "tcp 10.1.2.3 4000 10.0.0.2 80";
const BACK: &str = "tcp 10.0.0.2 80 10.1.2.3 4000";
const DNS: &str = "udp 10.1.2.3 4000 10.0.0.53 53";
const WEB6: &str = "tcp 2001:db8::1 4000 2001:db8:1::2 80";
const PING: &str = "icmp 10.1.2.3 0 10.0.0.2 0";
const FRAGMENT6: &str = "fragment 2001:db8::1 0 2001:db8:1::2 0";

#[test]
fn expressions_of_one_test() {
    check_expression(
        "tcp",
        &[(WEB, true), (DNS, false), (WEB6, true), (PING, false)],
    );
    check_expression("udp", &[(WEB, false), (DNS, true), (FRAGMENT6, true)]);
    check_expression("ip", &[(WEB, true), (WEB6, false)]);
    check_expression("ip6", &[(WEB, false), (WEB6, true)]);
    check_expression("icmp", &[(PING, true), (WEB, false)]);
    check_expression(
        "port 80",
        &[
            (WEB, true),
            (BACK, true),
            (DNS, false),
            (WEB6, true),
            (PING, false),
            (FRAGMENT6, true),
        ],
    );
    check_expression("src port 80", &[(WEB, false), (BACK, true)]);
    check_expression("dst port 80", &[(WEB, true), (BACK, false)]);
    check_expression("udp port 80", &[(WEB, false), (DNS, false)]);
    check_expression("portrange 70-90", &[(WEB, true), (DNS, false)]);
    check_expression("dst portrange 90-70", &[(WEB, true), (BACK, false)]);
    check_expression(
        "host 10.0.0.2",
        &[
            (WEB, true),
            (BACK, true),
            (DNS, false),
            (WEB6, false),
            (PING, true),
        ],
    );
    check_expression("10.0.0.2", &[(WEB, true), (DNS, false)]);
    check_expression("src 10.0.0.2", &[(WEB, false), (BACK, true)]);
    check_expression("dst host 2001:db8:1::2", &[(WEB6, true), (WEB, false)]);
    check_expression(
        "net 10.0.0.0/24",
        &[(WEB, true), (DNS, true), (WEB6, false)],
    );
    check_expression("src net 10.0.0.0/24", &[(WEB, false), (BACK, true)]);
    check_expression("src net 10.1.0.0/15", &[(WEB, true), (BACK, true)]);
    check_expression("src net 10.2.0.0/15", &[(WEB, false), (BACK, false)]);
    check_expression("net 0.0.0.0/0", &[(WEB, true), (WEB6, false)]);
    check_expression("src net 2001:db8::/48", &[(WEB6, true), (WEB, false)]);
    check_expression("src net 2001:db8:1::/48", &[(WEB6, false)]);
    check_expression("ip6 host 2001:db8::1", &[(WEB6, true)]);
}

#[test]
fn expressions_combine() {
    check_expression("tcp and port 80", &[(WEB, true), (DNS, false)]);
    check_expression("port 80 or 53", &[(WEB, true), (DNS, true), (PING, false)]);
    check_expression("not port 53", &[(WEB, true), (DNS, false), (PING, true)]);
    check_expression(
        "!(udp || icmp) && !ip6",
        &[(WEB, true), (DNS, false), (PING, false), (WEB6, false)],
    );
    // Left to right: (udp or tcp) and port 80.
    check_expression("udp or tcp and port 80", &[(WEB, true), (DNS, false)]);
    check_expression("udp or (tcp and port 443)", &[(WEB, false), (DNS, true)]);
    check_expression(
        "tcp dst port 80 and not src net 10.0.0.0/8",
        &[(WEB, false), (WEB6, true), (BACK, false)],
    );
}
