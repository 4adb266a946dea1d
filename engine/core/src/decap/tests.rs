//! Decapsulation as a whole, on frames that are built here, header by header.

mod fragments;
mod lengths;
mod mutations;
mod networks;
mod self_traffic;
mod shapes;

use super::*;
use crate::time::Timestamp;

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
