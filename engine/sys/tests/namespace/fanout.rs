//! Groups of rings and their filters, in the kernel, on a virtual cable: frames written by hand are sent at one end or
//! both, and each must come out of the ring it should.

use std::collections::HashMap;
use std::io::Write;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use afpacket::sync::RawPacketStream;
use engine_sys::event::EventFd;
use engine_sys::packet::{
    Expression, FrameFilter, Group, GroupOptions, OpenError, Reserve, RingOptions, Steering,
    Trouble, Waiter, open_group,
};
use engine_sys::{interfaces, process};

use super::frames::{ethernet, ip, tcp, udp, vxlan};
use super::{Namespace, pair, small};

/// Flows of one test, in two directions each.
const FLOWS: u16 = 300;

const RINGS: usize = 4;

/// One direction of a flow as it goes over the cable. It ends in a mark that identifies it, behind the packet's own
/// length, where no header is.
type Wrap = fn(packet: &[u8], outer_port: u16) -> Vec<u8>;

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn over_ethernet(packet: &[u8]) -> Vec<u8> {
    ethernet(if packet[0] >> 4 == 4 { 0x0800 } else { 0x86dd }, packet)
}

fn in_udp(ends: [&str; 2], ports: [u16; 2], payload: &[u8]) -> Vec<u8> {
    let datagram = udp(ports[0], ports[1], payload);
    ip(address(ends[0]), address(ends[1]), 17, &datagram)
}

const V4: [&str; 2] = ["198.51.100.1", "198.51.100.2"];
const V6: [&str; 2] = ["2001:db8::1", "2001:db8::2"];

fn plain(packet: &[u8], _: u16) -> Vec<u8> {
    over_ethernet(packet)
}

fn tagged(tags: &[u16], packet: &[u8]) -> Vec<u8> {
    let mut frame = over_ethernet(packet);
    for tag in tags {
        let [high, low] = tag.to_be_bytes();
        frame.splice(12..12, [high, low, 0, 42]);
    }
    frame
}

fn one_tag(packet: &[u8], _: u16) -> Vec<u8> {
    tagged(&[0x8100], packet)
}

fn two_tags(packet: &[u8], _: u16) -> Vec<u8> {
    tagged(&[0x8100, 0x88a8], packet)
}

fn in_vxlan(packet: &[u8], port: u16) -> Vec<u8> {
    over_ethernet(&in_udp(V4, [port, 4789], &vxlan(&over_ethernet(packet))))
}

fn in_vxlan_over_ipv6(packet: &[u8], port: u16) -> Vec<u8> {
    over_ethernet(&in_udp(V6, [port, 4789], &vxlan(&two_tags(packet, 0))))
}

fn in_vxlan_with_tag(packet: &[u8], port: u16) -> Vec<u8> {
    tagged(
        &[0x8100],
        &in_udp(V4, [port, 4789], &vxlan(&over_ethernet(packet))),
    )
}

fn in_geneve_and_vxlan(packet: &[u8], port: u16) -> Vec<u8> {
    let inner = in_udp(V4, [port, 4789], &vxlan(&over_ethernet(packet)));
    let header = [&[2, 0, 0x08, 0x00, 0, 0, 1, 0][..], &[0; 8], &inner].concat();
    over_ethernet(&in_udp(V6, [port, 6081], &header))
}

fn flow(number: u16, is_v6: bool) -> [Vec<u8>; 2] {
    let host = 1 + number % 20;
    let (client, server) = if is_v6 {
        (address(&format!("fd00::{host:x}")), address("fd00:1::80"))
    } else {
        (address(&format!("10.7.0.{host}")), address("10.8.0.1"))
    };
    let port = 32_768 + number;
    [
        ip(client, server, 6, &tcp(port, 80)),
        ip(server, client, 6, &tcp(80, port)),
    ]
}

fn marked(mut frame: Vec<u8>, number: u16, direction: u8) -> Vec<u8> {
    frame.resize(frame.len().max(60), 0);
    let [high, low] = number.to_be_bytes();
    frame.extend_from_slice(&[0xfa, 0x40, 0x07, high, low, direction]);
    frame
}

fn mark(frame: &[u8]) -> Option<(u16, u8)> {
    match frame.last_chunk()? {
        [0xfa, 0x40, 0x07, high, low, direction] => {
            Some((u16::from_be_bytes([*high, *low]), *direction))
        }
        _ => None,
    }
}

fn send_all(namespace: &Namespace, interface: &str, frames: &[Vec<u8>]) {
    namespace.run(|| {
        let mut sender = RawPacketStream::new().unwrap();
        sender.bind(interface).unwrap();
        for frame in frames {
            sender.write_all(frame).unwrap();
        }
    });
}

/// Which frames came out of which rings, how often: until `enough` came, then for a little longer.
fn collect(group: &mut Group, enough: usize) -> HashMap<(u16, u8), Vec<usize>> {
    let (mut waiter, event) = (Waiter::new(), EventFd::new().unwrap());
    let mut seen: HashMap<_, Vec<usize>> = HashMap::new();
    let mut until = Instant::now() + Duration::from_secs(3);
    let mut is_enough = false;
    while Instant::now() < until {
        waiter
            .wait(&group.rings, &event, Duration::from_millis(20))
            .unwrap();
        for (index, ring) in group.rings.iter_mut().enumerate() {
            while let Some(block) = ring.next_block() {
                for mark in block.frames().filter_map(|frame| mark(frame.bytes)) {
                    seen.entry(mark).or_default().push(index);
                }
            }
        }
        if seen.values().map(Vec::len).sum::<usize>() >= enough && !is_enough {
            is_enough = true;
            until = Instant::now() + Duration::from_millis(60);
        }
    }
    seen
}

fn open(namespace: &Namespace, ring: &RingOptions, options: &GroupOptions) -> Group {
    namespace
        .run(|| open_group("v1", ring, options))
        .expect("the interface is up")
}

fn four() -> GroupOptions {
    GroupOptions {
        rings: RINGS,
        vxlan_ports: vec![4789],
        geneve_ports: vec![6081],
        ..GroupOptions::default()
    }
}

/// Sends all flows, each direction from the end that `from` names, and counts those that stay together.
fn together(
    from: [bool; 2],
    ring: &RingOptions,
    options: &GroupOptions,
    is_v6: bool,
    wrap: Wrap,
) -> usize {
    let (near, far) = pair();
    let mut group = open(&far, ring, options);
    let frames = |direction: usize| -> Vec<Vec<u8>> {
        (0..FLOWS)
            .map(|number| {
                // A mirror derives the outer port from the packet, so the directions have unrelated ones.
                let port = 1024 + number.wrapping_mul(7919 + 4201 * direction as u16) % 60_000;
                let packet = &flow(number, is_v6)[direction];
                marked(wrap(packet, port), number, direction as u8)
            })
            .collect()
    };
    for (direction, is_received) in from.into_iter().enumerate() {
        let (namespace, interface) = if is_received {
            (&near, "v0")
        } else {
            (&far, "v1")
        };
        send_all(namespace, interface, &frames(direction));
    }
    let seen = collect(&mut group, usize::from(FLOWS) * 2);
    assert_eq!(seen.len(), usize::from(FLOWS) * 2, "every frame was seen");
    assert!(
        seen.values().all(|rings| rings.len() == 1),
        "no frame was seen twice"
    );
    for index in 0..options.rings {
        let count = seen.values().filter(|rings| rings[0] == index).count();
        assert!(count > 0, "ring {index} of {} has nothing", options.rings);
    }
    (0..FLOWS)
        .filter(|&number| seen[&(number, 0)] == seen[&(number, 1)])
        .count()
}

#[track_caller]
fn check(name: &str, is_v6: bool, wrap: Wrap) {
    let together = together([true; 2], &small(), &four(), is_v6, wrap);
    assert_eq!(together, usize::from(FLOWS), "{name}");
}

#[test]
fn both_directions_of_mirrored_flows_come_to_one_ring() {
    check("VXLAN", false, in_vxlan);
    check(
        "VXLAN over IPv6, two tags inside",
        false,
        in_vxlan_over_ipv6,
    );
    check("VXLAN, IPv6 inside", true, in_vxlan);
    check("VXLAN behind a tag", false, in_vxlan_with_tag);
    check("VXLAN in GENEVE", true, in_geneve_and_vxlan);
}

#[test]
fn both_directions_of_plain_flows_come_to_one_ring() {
    check("plain", false, plain);
    check("plain IPv6", true, plain);
    check("one tag", false, one_tag);
    check("two tags", false, two_tags);
}

#[test]
fn what_a_host_sends_comes_where_the_answer_comes() {
    let both = [true, false];
    let wraps: [Wrap; 3] = [plain, one_tag, in_vxlan];
    for wrap in wraps {
        let together = together(both, &small(), &four(), false, wrap);
        assert_eq!(together, usize::from(FLOWS));
    }
}

#[test]
fn the_kernels_own_hash_keeps_plain_flows_together_and_parts_mirrored_ones() {
    let outer = GroupOptions {
        only_outer: true,
        ..four()
    };
    let plain = together([true; 2], &small(), &outer, false, plain);
    let mirrored = together([true; 2], &small(), &outer, false, in_vxlan);
    eprintln!(
        "outer hash, {RINGS} rings: {plain} of {FLOWS} plain flows together, {mirrored} in VXLAN"
    );
    assert_eq!(plain, usize::from(FLOWS));
    assert!(mirrored < usize::from(FLOWS) / 2, "{mirrored}");
}

#[test]
fn the_group_says_how_it_steers() {
    let (_near, far) = pair();
    let open = |options: GroupOptions| open(&far, &small(), &options).steering;
    assert_eq!(open(four()), Steering::InnerFlow);
    assert_eq!(open(GroupOptions::default()), Steering::Single);
    let outer = GroupOptions {
        only_outer: true,
        ..four()
    };
    assert_eq!(open(outer), Steering::OuterHash);
    let error = far
        .run(|| open_group("nope", &small(), &four()))
        .err()
        .expect("there is no such interface");
    assert_eq!(error, OpenError::NoSuchInterface);
}

#[test]
fn groups_do_not_meet() {
    let (near, far) = pair();
    let mut groups = [(); 2].map(|()| open(&far, &small(), &four()));
    let [there, back] = flow(1, false);
    let frames = [there, back].map(|packet| marked(over_ethernet(&packet), 1, 0));
    send_all(&near, "v0", &frames);
    for group in &mut groups {
        assert_eq!(collect(group, 2)[&(1, 0)].len(), 2, "each has all frames");
    }
}

#[test]
fn sent_frames_are_left_out_of_a_group() {
    let (near, far) = pair();
    let options = RingOptions {
        drop_outgoing: true,
        ..small()
    };
    let mut group = open(&far, &options, &four());
    let frame = |direction| marked(over_ethernet(&flow(1, false)[0]), 1, direction);
    send_all(&far, "v1", &vec![frame(1); 50]);
    send_all(&near, "v0", &vec![frame(0); 50]);
    let seen = collect(&mut group, 50);
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[&(1, 0)].len(), 50);
    // The kernel did not even offer them to the rings.
    let packets: u64 = (group.rings.iter_mut())
        .map(|ring| ring.statistics().unwrap().packets)
        .sum();
    assert!(packets < 100, "{packets}");
}

#[test]
fn flows_stay_together_after_the_interface_was_down() {
    let (near, far) = pair();
    let mut group = open(&far, &small(), &four());
    far.ip("link set v1 down");
    far.ip("link set v1 up");
    assert!(group.rings.iter().all(|ring| ring.trouble().is_some()));
    let frames: Vec<_> = (0..FLOWS)
        .flat_map(|number| {
            let [there, back] = flow(number, false);
            [
                marked(in_vxlan(&there, 5000 + number), number, 0),
                marked(in_vxlan(&back, 9000 + 3 * number), number, 1),
            ]
        })
        .collect();
    // The cable's other end needs a moment to see the carrier again.
    std::thread::sleep(Duration::from_millis(200));
    send_all(&near, "v0", &frames);
    let seen = collect(&mut group, frames.len());
    for number in 0..FLOWS {
        assert_eq!(seen[&(number, 0)], seen[&(number, 1)]);
    }
}

#[test]
fn a_filter_in_the_kernel_keeps_what_is_wanted_and_cannot_be_replaced() {
    let (near, far) = pair();
    let filter = FrameFilter {
        tcp_ports: Some(vec![(80, 80), (8000, 8100)]),
        udp_ports: Some(vec![4789]),
        without: vec![
            "10.0.0.9:80".parse().unwrap(),
            "[fd00::9]:80".parse().unwrap(),
        ],
        expression: Some(Expression::parse("not src net 10.66.0.0/16 or ip6").unwrap()),
        ..FrameFilter::default()
    };
    let options = GroupOptions {
        rings: 2,
        filter: filter.program().unwrap(),
        lock_filter: true,
        ..four()
    };
    let mut group = open(&far, &small(), &options);
    let segment = |source: &str, destination: &str, port| {
        ip(address(source), address(destination), 6, &tcp(4000, port))
    };
    let many_tags = |packet: &[u8]| tagged(&[0x8100, 0x8100, 0x88a8], packet);
    let frames = [
        (over_ethernet(&segment("10.0.0.1", "10.0.0.2", 80)), true),
        (over_ethernet(&segment("10.0.0.1", "10.0.0.2", 443)), false),
        (one_tag(&segment("10.0.0.1", "10.0.0.2", 8100), 0), true),
        (one_tag(&segment("10.0.0.1", "10.0.0.2", 8101), 0), false),
        (two_tags(&segment("fd00::1", "fd00::2", 8050), 0), true),
        (two_tags(&segment("fd00::1", "fd00::2", 22), 0), false),
        (many_tags(&segment("fd00::1", "fd00::2", 80)), true),
        (over_ethernet(&segment("10.0.0.1", "10.0.0.9", 80)), false),
        (over_ethernet(&segment("fd00::1", "fd00::9", 80)), false),
        (over_ethernet(&segment("10.66.0.1", "10.0.0.2", 80)), false),
        (in_vxlan(&segment("10.0.0.1", "10.0.0.9", 80), 1), true),
        (over_ethernet(&in_udp(V4, [80, 53], b"")), false),
    ];
    let sent: Vec<_> = frames
        .iter()
        .enumerate()
        .map(|(index, (frame, _))| marked(frame.clone(), index as u16, 0))
        .collect();
    send_all(&near, "v0", &sent);
    let seen = collect(&mut group, frames.iter().filter(|(_, kept)| *kept).count());
    for (index, (frame, kept)) in frames.iter().enumerate() {
        let was_kept = seen.contains_key(&(index as u16, 0));
        assert_eq!(was_kept, *kept, "{index}: {frame:02x?}");
    }
    for ring in &mut group.rings {
        let error = ring.set_filter(&options.filter).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EPERM));
    }
}

#[test]
fn fragments_are_joined_where_that_is_asked_for() {
    let (near, far) = pair();
    let options = GroupOptions {
        defragment: true,
        ..four()
    };
    let mut group = open(&far, &small(), &options);
    let mut payload = vec![7; 4000];
    payload.extend_from_slice(&[0xfa, 0x40, 0x07, 0, 5, 0]);
    near.run(|| super::send("10.9.0.2:9", &payload, 20));
    // All datagrams of one flow, whole, on one ring; the answers quote less than their ends.
    let seen = collect(&mut group, 20);
    let rings = &seen[&(5, 0)];
    assert_eq!(rings.len(), 20);
    assert!(rings.iter().all(|ring| ring == &rings[0]), "{rings:?}");
    let packets: u64 = (group.rings.iter_mut())
        .map(|ring| ring.statistics().unwrap().packets)
        .sum();
    assert!(packets < 40, "{packets} frames, three fragments each");
}

#[test]
fn an_interface_that_returns_is_captured_with_a_reserve() {
    let (near, far) = pair();
    let changes = far.run(|| interfaces::Changes::new().unwrap());
    let mut reserve = far.run(|| Reserve::new(2 * RINGS));
    assert_eq!(reserve.left(), 2 * RINGS);
    assert!(!changes.any());
    let group = open(&far, &small(), &four());
    far.ip("link del v1");
    assert!(changes.any());
    assert_eq!(group.rings[0].trouble(), Some(Trouble::InterfaceGone));
    drop(group);
    near.ip(&format!(
        "link add v0 type veth peer name v1 netns {}",
        far.0
    ));
    near.ip("link set v0 up");
    far.ip("link set v1 up");
    assert!(changes.any());
    // As in a process that has given up its capability.
    let mut group = far.run(|| {
        process::drop_capabilities().unwrap();
        assert!(open_group("v1", &small(), &four()).is_err());
        reserve.open_group("v1", &small(), &four()).unwrap()
    });
    assert_eq!(
        (group.steering, reserve.left()),
        (Steering::InnerFlow, RINGS)
    );
    let [there, back] = flow(1, false);
    let frames = [
        marked(in_vxlan(&there, 1), 1, 0),
        marked(in_vxlan(&back, 2), 1, 1),
    ];
    send_all(&near, "v0", &frames);
    let seen = collect(&mut group, 2);
    assert_eq!(seen[&(1, 0)], seen[&(1, 1)]);
}
