//! Here belong IP fragments outside of tunnels, inside of them, and both.

use super::*;

/// Cuts an IP payload into fragments of at most `size` bytes.
pub(super) fn fragments_v4(
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

pub(super) fn fragments_v6(next: u8, payload: &[u8], size: usize) -> Vec<Vec<u8>> {
    let count = payload.len().div_ceil(size);
    let parts = payload.chunks(size).enumerate();
    let fragment = |(at, part): (usize, &[u8])| {
        let more = u16::from(at + 1 < count);
        let [f1, f0] = ((at * size) as u16 | more).to_be_bytes();
        ipv6(44, &[&[next, 0, f1, f0, 0, 0, 0, 9][..], part].concat())
    };
    parts.map(fragment).collect()
}

/// All frames but the last are held, and the last one completes the segment.
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
    // All outer datagrams here share an identification, so each must be whole before the next one starts: they are.
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
