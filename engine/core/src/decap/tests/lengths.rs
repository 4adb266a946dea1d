//! Here belong lengths: padding, packets that no card has cut yet, and absurd claims.

use super::shapes::all_shapes;
use super::*;

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
