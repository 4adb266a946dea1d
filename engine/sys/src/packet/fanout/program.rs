//! The program that chooses a ring: a hash of the innermost flow that is the same in both directions.
//!
//! A mirror wraps the two directions of a flow in outer headers with unrelated ports, so the kernel's own hash of the
//! outer flow separates them. This one looks through tags, VXLAN and GENEVE (also VXLAN in GENEVE) and adds what the
//! directions exchange: source plus destination address, source plus destination port.
//!
//! Fragments leave the ports out, since only the first one has them. Protocols without ports (GRE, IP in IP) are hashed
//! by their addresses, which keeps both directions of their contents together. Anything but IP, and anything too short
//! to be read, goes to ring 0.
//!
//! **Addresses.** When the kernel runs a fanout program on a received frame, byte 0 is the network header; on a sent one
//! it is the link-layer header, and the network header is found relative to `SKF_NET_OFF`. Received frames are not read
//! that way: before Linux 6.16 it reaches only the linear part of a frame, and drivers that leave the rest in pages (ENA
//! before 5.18) would send every mirrored frame to ring 0. So the program exists twice.
//!
//! Source: Linux v6.12, `net/packet/af_packet.c` (`packet_rcv_fanout`, `fanout_demux_bpf`), `net/core/filter.c`.

use libc::{
    BPF_ADD, BPF_AND, BPF_LSH, BPF_MUL, BPF_RSH, BPF_XOR, SKF_AD_PKTTYPE, SKF_AD_PROTOCOL,
    SKF_NET_OFF,
};

use crate::packet::bpf::{AssembleError, Assembler, BYTE, HALF_WORD, Instruction, Label, WORD};
use crate::packet::dissect::{Dissector, FIRST_FREE_CELL, Ip, PROTOCOL, SCRATCH, TAGS_MAX};
use crate::packet::wire::TRANSPARENT_ETHERNET;

/// Nested packets that are dissected: the outer one, one in GENEVE or VXLAN, and one in VXLAN in GENEVE.
const LEVELS: usize = 3;

/// Odd constants that spread addresses and ports over the word (2^32 divided by the golden ratio, and a prime).
const SPREAD_ADDRESSES: u32 = 0x9e37_79b1;
const SPREAD_PORTS: u32 = 0x85eb_ca6b;

/// Scratch cells.
const HASH: u32 = FIRST_FREE_CELL;
const NETWORK: u32 = FIRST_FREE_CELL + 1;

/// The program for these UDP ports of VXLAN and GENEVE; the kernel takes its result modulo the number of rings.
pub(super) fn inner_flow(
    vxlan_ports: &[u16],
    geneve_ports: &[u16],
) -> Result<Vec<Instruction>, AssembleError> {
    let mut program = Assembler::default();
    let sent = program.label();
    program.load_ancillary(SKF_AD_PKTTYPE);
    program.if_equal(libc::PACKET_OUTGOING.into(), sent);
    HashEmitter::new(&mut program, 0, vxlan_ports, geneve_ports).emit();
    program.place(sent);
    HashEmitter::new(&mut program, SKF_NET_OFF as u32, vxlan_ports, geneve_ports).emit();
    program.finish()
}

/// Emits the program once, for one meaning of address 0. In all of it `X` is the start of the current header, relative
/// to the outer network header.
struct HashEmitter<'a> {
    headers: Dissector<'a>,
    vxlan_ports: &'a [u16],
    geneve_ports: &'a [u16],
    /// Returns the hash in [`HASH`].
    done: Label,
    /// Returns 0.
    unknown: Label,
}

/// Where the parts of one level start.
#[derive(Clone, Copy)]
struct Level {
    ethernet: Label,
    ip: Ip,
}

impl<'a> HashEmitter<'a> {
    fn new(
        program: &'a mut Assembler,
        base: u32,
        vxlan_ports: &'a [u16],
        geneve_ports: &'a [u16],
    ) -> Self {
        let (done, unknown) = (program.label(), program.label());
        Self {
            headers: Dissector::new(program, base),
            vxlan_ports,
            geneve_ports,
            done,
            unknown,
        }
    }

    fn program(&mut self) -> &mut Assembler {
        self.headers.program
    }

    fn emit(mut self) {
        let levels: Vec<Level> = (0..LEVELS).map(|_| self.level()).collect();
        for (depth, &level) in levels.iter().enumerate() {
            if depth == 0 {
                self.outer_link(level);
            } else {
                self.inner_link(level);
            }
            self.packet(level, levels.get(depth + 1).copied());
        }
        self.end();
    }

    fn level(&mut self) -> Level {
        let program = self.program();
        Level {
            ethernet: program.label(),
            ip: Ip::new(program),
        }
    }

    /// The kernel has removed the link-layer header and the first tag from a received frame. Any other tags are at the
    /// network header; except that a sender may have put the network header behind them. An EtherType where a tag has one
    /// distinguishes the two.
    fn outer_link(&mut self, level: Level) {
        let unknown = self.unknown;
        let (tagged, behind_tags) = (self.program().label(), self.program().label());
        self.program().place(level.ethernet);
        self.program().load_x_constant(0);
        self.program().load_ancillary(SKF_AD_PROTOCOL);
        self.headers.ether_type(level.ip);
        self.headers.if_tagged(tagged);
        self.program().jump(unknown);

        self.program().place(tagged);
        for _ in 0..TAGS_MAX {
            self.headers.skip_tag(level.ip);
            let another = self.program().label();
            self.headers.if_tagged(another);
            self.program().jump(behind_tags);
            self.program().place(another);
        }
        self.program().jump(unknown);

        self.program().place(behind_tags);
        self.program().load_x_constant(0);
        self.headers.version(level.ip);
        self.program().jump(unknown);
    }

    /// An Ethernet header with all its tags.
    fn inner_link(&mut self, level: Level) {
        self.program().place(level.ethernet);
        self.headers.load(HALF_WORD, 12);
        self.headers.advance(14);
        self.headers.tags(level.ip, self.unknown);
    }

    /// An IP packet and its contents; `inner` is where the contents of a tunnel continue.
    fn packet(&mut self, level: Level, inner: Option<Level>) {
        let transport = self.program().label();
        self.program().place(level.ip.v4);
        self.program().store_x(NETWORK);
        self.headers.load(WORD, 12);
        self.program().store(SCRATCH);
        self.headers.load(WORD, 16);
        self.program().recall_x(SCRATCH);
        self.program().alu_x(BPF_ADD);
        self.program().alu(BPF_MUL, SPREAD_ADDRESSES);
        self.program().store(HASH);
        self.program().recall_x(NETWORK);
        self.headers.ipv4(self.done);
        self.program().jump(transport);

        self.program().place(level.ip.v6);
        self.program().store_x(NETWORK);
        self.program().load_constant(0);
        self.program().store(HASH);
        for word in 0..8 {
            self.headers.load(WORD, 8 + 4 * word);
            self.program().recall_x(HASH);
            self.program().alu_x(BPF_ADD);
            self.program().store(HASH);
            self.program().recall_x(NETWORK);
        }
        self.program().recall(HASH);
        self.program().alu(BPF_MUL, SPREAD_ADDRESSES);
        self.program().store(HASH);
        self.headers.ipv6();

        self.program().place(transport);
        self.transport(inner);
    }

    fn transport(&mut self, inner: Option<Level>) {
        let ports = self.program().label();
        self.headers.transport(ports, self.done);
        if let Some(inner) = inner {
            let (vxlan, geneve) = (self.program().label(), self.program().label());
            self.headers.load(HALF_WORD, 2);
            for &port in self.vxlan_ports {
                self.headers.program.if_equal(port.into(), vxlan);
            }
            for &port in self.geneve_ports {
                self.headers.program.if_equal(port.into(), geneve);
            }
            self.program().jump(ports);
            self.program().place(vxlan);
            // UDP and VXLAN, 8 bytes each.
            self.headers.advance(16);
            self.program().jump(inner.ethernet);
            self.program().place(geneve);
            self.geneve(inner);
        }
        self.program().place(ports);
        self.ports();
    }

    /// UDP, then GENEVE: 8 bytes and its options, whose length in words is in the low six bits of the first.
    fn geneve(&mut self, inner: Level) {
        let done = self.done;
        self.headers.load(HALF_WORD, 10);
        self.program().store(PROTOCOL);
        self.headers.load(BYTE, 8);
        self.program().alu(BPF_AND, 0x3f);
        self.program().alu(BPF_LSH, 2);
        self.program().alu(BPF_ADD, 16);
        self.program().alu_x(BPF_ADD);
        self.program().a_to_x();
        self.program().recall(PROTOCOL);
        self.program()
            .if_equal(TRANSPARENT_ETHERNET, inner.ethernet);
        self.headers.ether_type(inner.ip);
        self.program().jump(done);
    }

    /// Adds the ports at `X` to the hash.
    fn ports(&mut self) {
        let done = self.done;
        self.headers.load(HALF_WORD, 0);
        self.program().store(SCRATCH);
        self.headers.load(HALF_WORD, 2);
        self.program().recall_x(SCRATCH);
        self.program().alu_x(BPF_ADD);
        self.program().alu(BPF_MUL, SPREAD_PORTS);
        self.program().recall_x(HASH);
        self.program().alu_x(BPF_ADD);
        self.program().store(HASH);
        self.program().jump(done);
    }

    /// The remainder of a division by a small number depends on the low bits, so the high ones are mixed in.
    fn end(self) {
        let Self {
            headers,
            done,
            unknown,
            ..
        } = self;
        let program = headers.program;
        program.place(done);
        program.recall(HASH);
        program.alu(BPF_RSH, 16);
        program.recall_x(HASH);
        program.alu_x(BPF_XOR);
        program.alu(BPF_MUL, SPREAD_ADDRESSES);
        program.alu(BPF_RSH, 8);
        program.ret_a();
        program.place(unknown);
        program.ret(0);
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::packet::bpf::interpreter::{Packet, run};
    use crate::packet::frames::{ethernet, ip, tcp, udp, vxlan};
    use crate::packet::wire::TAGS;

    const VXLAN: [u16; 2] = [4789, 8472];
    const GENEVE: [u16; 1] = [6081];

    /// Received, the first tag taken out by the kernel if there is one.
    fn received(mut frame: Vec<u8>) -> Packet {
        if TAGS.contains(&u32::from(u16::from_be_bytes([frame[12], frame[13]]))) {
            frame.drain(12..16);
        }
        Packet {
            data: 14,
            network: 14,
            protocol: u16::from_be_bytes([frame[12], frame[13]]),
            kind: 3,
            bytes: frame,
            interface: 1,
        }
    }

    /// Sent by this host: the data starts at the link-layer header, and the network header is where the sender puts it.
    fn sent(frame: Vec<u8>, network: usize) -> Packet {
        Packet {
            data: 0,
            network,
            protocol: u16::from_be_bytes([frame[12], frame[13]]),
            kind: libc::PACKET_OUTGOING,
            bytes: frame,
            interface: 1,
        }
    }

    fn hash(packet: &Packet) -> u32 {
        run(&inner_flow(&VXLAN, &GENEVE).unwrap(), packet)
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn ether_type(packet: &[u8]) -> u16 {
        if packet[0] >> 4 == 4 { 0x0800 } else { 0x86dd }
    }

    fn over_ethernet(packet: &[u8]) -> Vec<u8> {
        ethernet(ether_type(packet), packet)
    }

    fn tagged(tags: &[u16], packet: &[u8]) -> Vec<u8> {
        let mut frame = over_ethernet(packet);
        for tag in tags.iter().rev() {
            let [high, low] = tag.to_be_bytes();
            frame.splice(12..12, [high, low, 0x60, 5]);
        }
        frame
    }

    fn geneve(words: u8, protocol: u16, inner: &[u8]) -> Vec<u8> {
        let [high, low] = protocol.to_be_bytes();
        let mut header = vec![words, 0, high, low, 0, 0, 9, 0];
        header.extend(vec![0xaa; usize::from(words) * 4]);
        [&header, inner].concat()
    }

    /// IPv4 with options in the place of a header without.
    fn with_options(packet: &[u8]) -> Vec<u8> {
        let mut packet = packet.to_vec();
        packet[0] = 0x47;
        packet.splice(20..20, [1; 8]);
        packet
    }

    /// One flow's two directions, v4 and v6.
    fn directions(ends: [(&str, u16); 2]) -> [Vec<u8>; 2] {
        let [a, b] = ends;
        [(a, b), (b, a)].map(|(from, to)| ip(address(from.0), address(to.0), 6, &tcp(from.1, to.1)))
    }

    /// Every way in which a mirror, a switch or a host may wrap a packet; `port` is the outer source port.
    fn wrappings(packet: &[u8], port: u16) -> Vec<(&'static str, Packet)> {
        let plain = over_ethernet(packet);
        let v4 = [address("10.0.0.1"), address("10.0.0.2")];
        let v6 = [address("fd00::1"), address("fd00::2")];
        let in_udp = |[from, to]: [IpAddr; 2], to_port: u16, payload: &[u8]| {
            ip(from, to, 17, &udp(port, to_port, payload))
        };
        let in_vxlan = |ends, frame: &[u8]| in_udp(ends, 4789, &vxlan(frame));
        let double = tagged(&[0x88a8, 0x8100], packet);
        let mut all = vec![
            ("plain", received(plain.clone())),
            ("tag", received(tagged(&[0x8100], packet))),
            ("two tags", received(double.clone())),
            (
                "three tags",
                received(tagged(&[0x88a8, 0x8100, 0x8100], packet)),
            ),
            ("sent", sent(plain.clone(), 14)),
            ("sent with tag", sent(tagged(&[0x8100], packet), 18)),
            ("sent with tag to come", sent(tagged(&[0x8100], packet), 14)),
        ];
        for (name, ends) in [("v4", v4), ("v6", v6)] {
            let outer = in_vxlan(ends, &plain);
            let on_8472 = in_udp(ends, 8472, &vxlan(&plain));
            let in_geneve = |words, protocol, inner: &[u8]| {
                over_ethernet(&in_udp(ends, 6081, &geneve(words, protocol, inner)))
            };
            let frames = [
                over_ethernet(&outer),
                over_ethernet(&on_8472),
                tagged(&[0x8100, 0x8100], &outer),
                over_ethernet(&in_vxlan(ends, &tagged(&[0x8100], packet))),
                over_ethernet(&in_vxlan(ends, &double)),
                in_geneve(0, 0x6558, &plain),
                in_geneve(5, 0x6558, &double),
                in_geneve(63, ether_type(packet), packet),
                in_geneve(3, 0x0800, &in_vxlan(v4, &plain)),
                in_geneve(3, 0x86dd, &in_vxlan(v6, &plain)),
                in_geneve(0, 0x6558, &over_ethernet(&in_vxlan(v4, &double))),
            ];
            for frame in frames {
                all.push((name, sent(frame.clone(), 14)));
                all.push((name, received(frame)));
            }
            if name == "v4" {
                all.push((
                    "outer options",
                    received(over_ethernet(&with_options(&outer))),
                ));
            }
        }
        // A tag that was sent and whose network header is behind it was put right above.
        all.retain(|(name, packet)| *name != "v4" && *name != "v6" || !is_sent_with_tag(packet));
        all
    }

    fn is_sent_with_tag(packet: &Packet) -> bool {
        packet.kind == libc::PACKET_OUTGOING && TAGS.contains(&packet.protocol.into())
    }

    #[track_caller]
    fn check(ends: [(&str, u16); 2]) {
        let [there, back] = directions(ends);
        let expected = hash(&received(over_ethernet(&there)));
        assert_ne!(expected, 0);
        let wrapped = wrappings(&there, 1024).into_iter();
        for (name, packet) in wrapped.chain(wrappings(&back, 60_000)) {
            assert_eq!(hash(&packet), expected, "{name}: {packet:02x?}");
        }
    }

    #[test]
    fn both_directions_hash_alike_in_any_wrapping() {
        check([("192.168.1.20", 40_001), ("10.1.2.3", 80)]);
        check([("2001:db8::20", 40_001), ("2001:db8:7::3", 8080)]);
        check([("1.2.3.4", 80), ("1.2.3.4", 80)]);
    }

    #[test]
    fn options_of_the_inner_header_do_not_matter() {
        let [there, _] = directions([("192.168.1.20", 40_001), ("10.1.2.3", 80)]);
        let inner = over_ethernet(&with_options(&there));
        let outer = ip(
            address("10.0.0.1"),
            address("10.0.0.2"),
            17,
            &udp(1, 4789, &vxlan(&inner)),
        );
        let expected = hash(&received(over_ethernet(&there)));
        assert_eq!(hash(&received(over_ethernet(&outer))), expected);
    }

    #[test]
    fn all_fragments_of_a_packet_go_together() {
        let [there, back] = directions([("192.168.1.20", 40_001), ("10.1.2.3", 80)]);
        let fragment = |packet: &[u8], flags: u16| {
            let mut packet = packet.to_vec();
            packet[6..8].copy_from_slice(&flags.to_be_bytes());
            let outer = vxlan(&over_ethernet(&packet));
            let outer = ip(
                address("10.0.0.1"),
                address("10.0.0.2"),
                17,
                &udp(1, 4789, &outer),
            );
            [
                hash(&received(over_ethernet(&packet))),
                hash(&received(over_ethernet(&outer))),
            ]
        };
        let first = fragment(&there, 0x2000);
        assert_eq!(first[0], first[1]);
        for other in [fragment(&there, 0x2010), fragment(&back, 0x0020)] {
            assert_eq!(other, first);
        }
        let whole = hash(&received(over_ethernet(&there)));
        assert_eq!(fragment(&there, 0x4000), [whole, whole]);
    }

    #[test]
    fn flows_spread_over_any_number_of_rings() {
        let program = inner_flow(&VXLAN, &GENEVE).unwrap();
        for rings in [2, 3, 4, 7, 8, 16] {
            let mut on = vec![0_u32; rings];
            let flows = 2000;
            for flow in 0..flows {
                // Neighbouring addresses and ports in steps of two, as hosts choose them.
                let client = format!("10.0.{}.{}", flow % 7, 1 + flow % 50);
                let ends = [
                    (client.as_str(), 32_768 + flow as u16 * 2),
                    ("10.9.0.1", 80),
                ];
                let [there, _] = directions(ends);
                let ring = run(&program, &received(over_ethernet(&there)));
                on[ring as usize % rings] += 1;
            }
            let fair = flows / rings as u32;
            assert!(
                on.iter().all(|&count| count > fair / 2 && count < fair * 2),
                "{on:?}"
            );
        }
    }

    #[test]
    fn what_is_cut_or_foreign_goes_to_the_first_ring() {
        let [there, _] = directions([("192.168.1.20", 40_001), ("10.1.2.3", 80)]);
        let outer = vxlan(&over_ethernet(&there));
        let outer = ip(
            address("10.0.0.1"),
            address("10.0.0.2"),
            17,
            &udp(1, 4789, &outer),
        );
        let whole = received(over_ethernet(&outer));
        // Behind the ports of the inner segment nothing is read.
        let needed = 14 + 20 + 8 + 8 + 14 + 20 + 4;
        for length in 14..whole.bytes.len() {
            let cut = Packet {
                bytes: whole.bytes[..length].to_vec(),
                ..whole.clone()
            };
            let expected = if length < needed { 0 } else { hash(&whole) };
            assert_eq!(hash(&cut), expected, "cut at {length}");
        }
        assert_eq!(hash(&received(ethernet(0x0806, &[0; 28]))), 0);
        assert_eq!(hash(&received(ethernet(0x8864, &[0; 40]))), 0);
    }

    #[test]
    fn the_program_is_short() {
        let length = inner_flow(&[4789], &[6081]).unwrap().len();
        assert!(length < 1000, "{length}");
    }
}
