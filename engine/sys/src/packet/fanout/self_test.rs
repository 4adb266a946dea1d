//! Does this kernel steer as we think it does? Tried out on `lo`, before anything is captured.
//!
//! Some mirrored flows, both directions with outer ports that differ, are sent over `lo` to a link-layer address that
//! nobody has: the host drops them at once, only packet sockets see them. They must arrive on more than one ring, both
//! directions of each on the same. At most [`FLOWS`] times two frames of some hundred bytes, and [`PATIENCE`].

use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::IpAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::{Group, GroupOptions, Steering, open_group};
use crate::packet::expression::{Ends, Expression};
use crate::packet::filter::FrameFilter;
use crate::packet::frames::{ethernet, ip, tcp, udp, vxlan};
use crate::packet::ring::RingOptions;
use crate::packet::wire::{PROTOCOL_TCP, PROTOCOL_UDP};

/// The network of the frames, which others that capture `lo` see: the last number but one. It is not reported as one that is mirrored.
pub const SELF_TEST_VNI: u32 = 0xff_fffe;

/// Flows that are sent, each in both directions.
const FLOWS: u8 = 32;

/// Rings that share them.
const RINGS: usize = 4;

/// How long frames may take.
const PATIENCE: Duration = Duration::from_millis(300);

/// Bytes before the inner source address: outer Ethernet, IPv4, UDP, VXLAN, inner Ethernet, and 12 of inner IPv4.
const INNER_SOURCE: usize = 14 + 20 + 8 + 8 + 14 + 12;

/// What came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SelfTest {
    /// Both directions of every flow that arrived were on one ring, and more than one ring was used.
    Passed,
    /// They were not.
    Failed {
        /// Flows that arrived in both directions.
        flows: u32,
        /// Of these, flows whose directions were on different rings.
        apart: u32,
        /// Rings that got a frame.
        rings: u32,
    },
    /// There was nothing to test or no way to: no VXLAN port, no program in this kernel, `lo` is down, or too few frames
    /// arrived in time.
    NotRun,
}

/// Tries the steering of `options` out.
pub fn self_test(options: &GroupOptions) -> SelfTest {
    let Some(&port) = options.vxlan_ports.first() else {
        return SelfTest::NotRun;
    };
    let outer = outer_ends();
    let [source, destination] = outer;
    let only_ours = FrameFilter {
        expression: Some(Expression::And(
            Box::new(Expression::Address(Ends::Either, source, None)),
            Box::new(Expression::Address(Ends::Either, destination, None)),
        )),
        ..FrameFilter::default()
    };
    let Ok(filter) = only_ours.program() else {
        return SelfTest::NotRun;
    };
    let ring = RingOptions {
        block_bytes: 1 << 14,
        blocks: 4,
        retire: Duration::from_millis(1),
        promiscuous: false,
        drop_outgoing: true,
    };
    let options = GroupOptions {
        rings: RINGS,
        filter,
        ..options.clone()
    };
    match open_group("lo", &ring, &options) {
        Ok(group) if group.steering == Steering::InnerFlow => try_out(group, port, outer),
        _ => SelfTest::NotRun,
    }
}

/// Ends of the outer packets: addresses for benchmarks (RFC 2544, 198.18.0.0/15), which no network has. They are drawn anew
/// for each trial, since several sniffers may be started at the same time, and each sees what the others send.
fn outer_ends() -> [IpAddr; 2] {
    let [a, b, c, d, ..] = RandomState::new().build_hasher().finish().to_ne_bytes();
    [[198, 18, a, b], [198, 19, c, d]].map(IpAddr::from)
}

fn try_out(mut group: Group, port: u16, outer: [IpAddr; 2]) -> SelfTest {
    for flow in 0..FLOWS {
        for direction in [0, 1] {
            let frame = mirrored(flow, direction, port, outer);
            if group
                .rings
                .iter_mut()
                .next()
                .is_none_or(|ring| ring.send(&frame).is_err())
            {
                return SelfTest::NotRun;
            }
        }
    }
    let mut rings = [[None; 2]; FLOWS as usize];
    let mut missing = usize::from(FLOWS) * 2;
    let until = Instant::now() + PATIENCE;
    while missing > 0 && Instant::now() < until {
        for (index, ring) in group.rings.iter_mut().enumerate() {
            while let Some(block) = ring.next_block() {
                for frame in block.frames() {
                    let Some((flow, direction)) = flow_of(frame.bytes) else {
                        continue;
                    };
                    missing -= usize::from(rings[flow][direction].is_none());
                    rings[flow][direction] = Some(index);
                }
            }
        }
        sleep(Duration::from_millis(1));
    }
    verdict(&rings)
}

fn verdict(rings: &[[Option<usize>; 2]]) -> SelfTest {
    let whole: Vec<(usize, usize)> = rings
        .iter()
        .filter_map(|&[there, back]| there.zip(back))
        .collect();
    let apart = whole.iter().filter(|(there, back)| there != back).count() as u32;
    let mut used: Vec<usize> = whole.iter().map(|&(there, _)| there).collect();
    used.sort_unstable();
    used.dedup();
    let flows = whole.len() as u32;
    let have_all_arrived = flows == u32::from(FLOWS);
    match (apart, used.len()) {
        (0, 2..) => SelfTest::Passed,
        // A busy host delivers frames late or drops them. That shows nothing about the steering.
        (0, _) if !have_all_arrived => SelfTest::NotRun,
        (_, rings) => SelfTest::Failed {
            flows,
            apart,
            rings: rings as u32,
        },
    }
}

/// One direction of a flow, as a mirror sends it.
fn mirrored(flow: u8, direction: u8, port: u16, outer: [IpAddr; 2]) -> Vec<u8> {
    let client = (IpAddr::from([198, 51, 100, flow]), 40_000 + u16::from(flow));
    let server = (IpAddr::from([203, 0, 113, 1]), 80);
    let (source, destination) = match direction {
        0 => (client, server),
        _ => (server, client),
    };
    let segment = tcp(source.1, destination.1);
    let inner = ip(source.0, destination.0, PROTOCOL_TCP as u8, &segment);
    let mut inner = vxlan(&ethernet(0x0800, &inner));
    let [_, vni @ ..] = SELF_TEST_VNI.to_be_bytes();
    if let Some(of_header) = inner.get_mut(4..7) {
        of_header.copy_from_slice(&vni);
    }
    let outer_port = 50_000 + u16::from(flow) * 37 + u16::from(direction) * 4111;
    let datagram = udp(outer_port, port, &inner);
    let [from, to] = outer;
    ethernet(0x0800, &ip(from, to, PROTOCOL_UDP as u8, &datagram))
}

/// Flow and direction of what [`mirrored`] made.
fn flow_of(frame: &[u8]) -> Option<(usize, usize)> {
    let (source, rest) = frame.get(INNER_SOURCE..)?.split_first_chunk::<4>()?;
    let destination = rest.first_chunk::<4>()?;
    let (flow, direction) = match (source, destination) {
        ([198, 51, 100, flow], _) => (*flow, 0),
        (_, [198, 51, 100, flow]) => (*flow, 1),
        _ => return None,
    };
    (flow < FLOWS).then_some((flow.into(), direction))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Needs CAP_NET_RAW; `tests/run quick` leaves it out.
    #[test]
    fn the_kernel_steers_as_expected() {
        let options = GroupOptions {
            vxlan_ports: vec![4789],
            geneve_ports: vec![6081],
            ..GroupOptions::default()
        };
        assert_eq!(self_test(&options), SelfTest::Passed);
    }

    /// As several sniffers on one machine do, started together.
    #[test]
    fn trials_at_the_same_time_do_not_disturb_each_other() {
        let options = GroupOptions {
            vxlan_ports: vec![4789],
            geneve_ports: vec![6081],
            ..GroupOptions::default()
        };
        let verdicts: Vec<SelfTest> = std::thread::scope(|scope| {
            let trials: Vec<_> = (0..5)
                .map(|_| scope.spawn(|| self_test(&options)))
                .collect();
            trials
                .into_iter()
                .map(|trial| trial.join().unwrap())
                .collect()
        });
        assert_eq!(verdicts, [SelfTest::Passed; 5]);
    }

    #[test]
    fn flows_that_part_are_noticed() {
        let apart = [[Some(0), Some(1)], [Some(1), Some(1)], [None, Some(0)]];
        let expected = SelfTest::Failed {
            flows: 2,
            apart: 1,
            rings: 2,
        };
        assert_eq!(verdict(&apart), expected);
        let on_one = [[Some(0), Some(0)]; FLOWS as usize];
        assert!(matches!(
            verdict(&on_one),
            SelfTest::Failed { rings: 1, .. }
        ));
    }
    /// A busy host drops or delays frames of the trial: that is no fault of the steering.
    #[test]
    fn frames_that_are_late_show_nothing() {
        assert_eq!(verdict(&[[None; 2]; FLOWS as usize]), SelfTest::NotRun);
        let mut few = [[None; 2]; FLOWS as usize];
        few[3] = [Some(2), Some(2)];
        few[4] = [Some(1), None];
        assert_eq!(verdict(&few), SelfTest::NotRun);
        let mut most = [[Some(0), Some(0)]; FLOWS as usize];
        most[7] = [Some(3), Some(3)];
        most[9] = [None, Some(3)];
        assert_eq!(verdict(&most), SelfTest::Passed);
    }
}
