//! The filter in the kernel: which frames are copied into a ring at all.
//!
//! Settings in, a classic BPF program out. The program undoes tags and the outer IP header, no tunnels: a tunnel's
//! packets are kept whole, by their UDP port. **When in doubt it keeps the frame**, since the engine decides again:
//! fragments, IPv6 extension headers, more than two tags, protocols that may be a tunnel. It never tests what it did
//! not find: a frame that ends before a field of its own header is dropped by the kernel, as there is nothing to
//! reassemble in it.
//!
//! A socket filter sees sent and received frames alike from the link-layer header on, so all offsets are from there,
//! and a tag that the kernel took out of the frame is not in the way.
//! Source: Linux `Documentation/networking/filter.rst`, `net/packet/af_packet.c` (`tpacket_rcv`).

use std::net::{IpAddr, SocketAddr};

use afpacket::sync::FilterProgram;
use libc::{
    BPF_ABS, BPF_ADD, BPF_AND, BPF_IMM, BPF_JEQ, BPF_JGE, BPF_JGT, BPF_JMP, BPF_JSET, BPF_K,
    BPF_LD, BPF_LSH, BPF_RSH, BPF_W, SKF_AD_OFF, SKF_AD_PKTTYPE,
};

use super::bpf::{AssembleError, Assembler, BYTE, HALF, Instruction, Label, Then, WORD};
use super::expression::Expression;
use super::wire::{FRAGMENT_BITS, IPV4, IPV6, PROTOCOL_TCP, PROTOCOL_UDP, TAGS};

/// Nothing passes.
pub(super) const DROP_ALL: &[Instruction] = &[Instruction::ret(0)];

/// Everything passes, uncut.
pub(super) const PASS_ALL: &[Instruction] = &[Instruction::ret(u32::MAX)];

/// Drops what this host sends; the accumulator is zero afterwards, as the program that follows expects.
const DROP_OUTGOING: &[Instruction] = &[
    Instruction::plain(
        BPF_LD | BPF_W | BPF_ABS,
        (SKF_AD_OFF + SKF_AD_PKTTYPE) as u32,
    ),
    Instruction::jump(
        BPF_JMP | BPF_JEQ | BPF_K,
        libc::PACKET_OUTGOING as u32,
        0,
        1,
    ),
    Instruction::ret(0),
    Instruction::plain(BPF_LD | BPF_IMM, 0),
];

/// The whole program in the form that the socket's owner takes.
pub(super) fn assemble(drop_outgoing: bool, program: &[Instruction]) -> FilterProgram {
    let prologue = if drop_outgoing { DROP_OUTGOING } else { &[] };
    prologue
        .iter()
        .chain(program)
        .map(
            |&Instruction {
                 code,
                 jump_true,
                 jump_false,
                 k,
             }| (code, jump_true, jump_false, k),
        )
        .collect()
}

/// Which frames of an interface are wanted. The default wants all of an Ethernet interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FrameFilter {
    /// The interface's frames start with the IP header.
    pub bare_ip: bool,
    /// TCP with one of these ports at either end (inclusive ranges), or all TCP.
    pub tcp_ports: Option<Vec<(u16, u16)>>,
    /// Of other TCP the segments that begin or end a connection: that there are connections on other ports stays to be
    /// seen, at the cost of a few small frames of each.
    pub handshakes: bool,
    /// UDP with one of these ports at either end: the tunnels. Or all UDP.
    pub udp_ports: Option<Vec<u16>>,
    /// No TCP from or to these end points: our own upload.
    pub without: Vec<SocketAddr>,
    /// And this must hold, too.
    pub expression: Option<Expression>,
}

/// Scratch cells, all written before the first is read.
const NETWORK: u32 = 0;
const VERSION: u32 = 1;
const PROTOCOL: u32 = 2;
const PORTS: u32 = 3;
const SOURCE_PORT: u32 = 4;
const DESTINATION_PORT: u32 = 5;
const TRANSPORT: u32 = 6;
const SCRATCH: u32 = 7;

/// FIN, SYN and RST, in byte 13 of a TCP header (RFC 9293 §3.1).
const FLAGS_AT: u32 = 13;
const BEGIN_OR_END: u32 = 0x07;

/// What [`PORTS`] says: there are none, they were read, or they are somewhere that was not looked at.
const PORTS_NONE: u32 = 0;
const PORTS_READ: u32 = 1;
const PORTS_UNKNOWN: u32 = 2;

/// Tags that are passed over.
const TAGS_MAX: usize = 2;

/// Bytes of a link-layer header of Ethernet.
const ETHERNET_BYTES: u32 = 14;

/// IPv6 next headers behind which TCP or UDP may follow: hop-by-hop, routing, fragment, authentication, destination.
const EXTENSION_HEADERS: [u32; 5] = [0, 43, 44, 51, 60];

impl FrameFilter {
    /// The program for the kernel.
    pub fn program(&self) -> Result<Vec<Instruction>, AssembleError> {
        let mut program = Assembler::default();
        let [keep, drop, own, wanted, expression] = std::array::from_fn(|_| program.label());
        let mut writer = Writer {
            program,
            keep,
            drop,
        };
        writer.dissect(self.bare_ip, own);
        writer.program.place(own);
        writer.without(&self.without, wanted);
        writer.program.place(wanted);
        writer.protocols(self, expression);
        writer.program.place(expression);
        match &self.expression {
            Some(expression) => writer.expression(expression, keep, drop),
            None => writer.program.jump(keep),
        }
        let Writer { mut program, .. } = writer;
        program.place(keep);
        program.ret(u32::MAX);
        program.place(drop);
        program.ret(0);
        program.finish()
    }
}

/// Writes a filter; `X` is where the network header starts, from [`Writer::dissect`] on wherever it says so.
pub(super) struct Writer {
    pub(super) program: Assembler,
    keep: Label,
    drop: Label,
}

/// Which end of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Source,
    Destination,
}

impl Writer {
    /// Fills the scratch cells, then goes to `next`.
    fn dissect(&mut self, bare_ip: bool, next: Label) {
        let [ipv4, ipv6, ports] = std::array::from_fn(|_| self.program.label());
        self.program.load_constant(0);
        for cell in [
            NETWORK,
            VERSION,
            PROTOCOL,
            PORTS,
            SOURCE_PORT,
            DESTINATION_PORT,
            TRANSPORT,
        ] {
            self.program.store(cell);
        }
        if bare_ip {
            self.program.load_x_constant(0);
            self.program.load(BYTE, 0);
            self.program.alu(BPF_RSH, 4);
            self.program.if_equal(4, ipv4);
            self.program.if_equal(6, ipv6);
        } else {
            self.ethernet(ipv4, ipv6);
        }
        self.program.jump(next);

        self.program.place(ipv4);
        self.ipv4(ports, next);
        self.program.place(ipv6);
        self.ipv6(ports, next);

        // X is where the transport header starts.
        self.program.place(ports);
        self.program.store_x(TRANSPORT);
        self.set(PORTS, PORTS_READ);
        self.program.load_at_x(HALF, 0);
        self.program.store(SOURCE_PORT);
        self.program.load_at_x(HALF, 2);
        self.program.store(DESTINATION_PORT);
        self.program.jump(next);
    }

    /// A link-layer header with its tags; falls through when it is not IP that follows.
    fn ethernet(&mut self, ipv4: Label, ipv6: Label) {
        let other = self.program.label();
        self.program.load_x_constant(ETHERNET_BYTES);
        self.program.load(HALF, 12);
        for level in 0..=TAGS_MAX {
            self.program.if_equal(IPV4, ipv4);
            self.program.if_equal(IPV6, ipv6);
            if level == TAGS_MAX {
                break;
            }
            let tagged = self.program.label();
            for tag in TAGS {
                self.program.if_equal(tag, tagged);
            }
            self.program.jump(other);
            self.program.place(tagged);
            self.program.load_at_x(HALF, 2);
            self.program.store(SCRATCH);
            self.program.x_to_a();
            self.program.alu(BPF_ADD, 4);
            self.program.a_to_x();
            self.program.recall(SCRATCH);
        }
        self.program.place(other);
    }

    fn ipv4(&mut self, ports: Label, next: Label) {
        let [whole, has_ports] = std::array::from_fn(|_| self.program.label());
        self.program.store_x(NETWORK);
        self.set(VERSION, 4);
        self.program.load_at_x(BYTE, 9);
        self.program.store(PROTOCOL);
        self.program.load_at_x(HALF, 6);
        let (fragment, not) = (Then::Next, Then::To(whole));
        self.program.branch(BPF_JSET, FRAGMENT_BITS, fragment, not);
        self.set(PORTS, PORTS_UNKNOWN);
        self.program.jump(next);

        self.program.place(whole);
        self.program.recall(PROTOCOL);
        self.program.if_equal(PROTOCOL_TCP, has_ports);
        self.program.unless_equal(PROTOCOL_UDP, next);
        self.program.place(has_ports);
        self.program.load_at_x(BYTE, 0);
        self.program.alu(BPF_AND, 0x0f);
        self.program.alu(BPF_LSH, 2);
        self.program.alu_x(BPF_ADD);
        self.program.a_to_x();
        self.program.jump(ports);
    }

    fn ipv6(&mut self, ports: Label, next: Label) {
        let [extended, has_ports] = std::array::from_fn(|_| self.program.label());
        self.program.store_x(NETWORK);
        self.set(VERSION, 6);
        self.program.load_at_x(BYTE, 6);
        self.program.store(PROTOCOL);
        for header in EXTENSION_HEADERS {
            self.program.if_equal(header, extended);
        }
        self.program.if_equal(PROTOCOL_TCP, has_ports);
        self.program.unless_equal(PROTOCOL_UDP, next);
        self.program.place(has_ports);
        self.program.x_to_a();
        self.program.alu(BPF_ADD, 40);
        self.program.a_to_x();
        self.program.jump(ports);
        self.program.place(extended);
        self.set(PORTS, PORTS_UNKNOWN);
        self.program.jump(next);
    }

    /// Drops TCP from and to `ends`, then goes to `next`.
    fn without(&mut self, ends: &[SocketAddr], next: Label) {
        if ends.is_empty() {
            return self.program.jump(next);
        }
        self.program.recall(PORTS);
        self.program.unless_equal(PORTS_READ, next);
        self.program.recall(PROTOCOL);
        self.program.unless_equal(PROTOCOL_TCP, next);
        let mut ports: Vec<u16> = ends.iter().map(SocketAddr::port).collect();
        ports.sort_unstable();
        ports.dedup();
        for port in ports {
            for side in [End::Source, End::Destination] {
                let other_port = self.program.label();
                self.program.recall(port_cell(side));
                self.program.unless_equal(port.into(), other_port);
                for end in ends.iter().filter(|end| end.port() == port) {
                    let other = self.program.label();
                    self.address(end.ip().to_canonical(), None, side, self.drop, other);
                    self.program.place(other);
                }
                self.program.place(other_port);
            }
        }
        self.program.jump(next);
    }

    /// Drops TCP and UDP of unwanted ports; the rest goes to `next`.
    fn protocols(&mut self, filter: &FrameFilter, next: Label) {
        let [tcp, udp] = std::array::from_fn(|_| self.program.label());
        self.program.recall(PORTS);
        self.program.unless_equal(PORTS_READ, next);
        self.program.recall(PROTOCOL);
        self.program.if_equal(PROTOCOL_TCP, tcp);
        self.program.place(udp);
        let udp_ports = filter
            .udp_ports
            .as_ref()
            .map(|ports| ports.iter().map(|&port| (port, port)).collect::<Vec<_>>());
        self.either_port(udp_ports.as_deref(), next);
        self.program.jump(self.drop);
        self.program.place(tcp);
        self.either_port(filter.tcp_ports.as_deref(), next);
        if filter.handshakes {
            self.program.recall_x(TRANSPORT);
            self.program.load_at_x(BYTE, FLAGS_AT);
            self.program
                .branch(BPF_JSET, BEGIN_OR_END, Then::To(next), Then::Next);
        }
        self.program.jump(self.drop);
    }

    /// Goes to `next` if one of the ports is wanted, else on.
    fn either_port(&mut self, ranges: Option<&[(u16, u16)]>, next: Label) {
        let Some(ranges) = ranges else {
            return self.program.jump(next);
        };
        for side in [End::Source, End::Destination] {
            self.program.recall(port_cell(side));
            for &range in ranges {
                self.in_range(range, next);
            }
        }
    }

    /// Goes to `yes` if `A` is in the range, else on.
    fn in_range(&mut self, (first, last): (u16, u16), yes: Label) {
        if first == last {
            return self.program.if_equal(first.into(), yes);
        }
        let no = self.program.label();
        self.program
            .branch(BPF_JGE, first.into(), Then::Next, Then::To(no));
        self.program
            .branch(BPF_JGT, last.into(), Then::Next, Then::To(yes));
        self.program.place(no);
    }

    /// `M[cell] = value`.
    fn set(&mut self, cell: u32, value: u32) {
        self.program.load_constant(value);
        self.program.store(cell);
    }

    /// Whether the packet's IP version is `version`.
    pub(super) fn version(&mut self, version: u32, yes: Label, no: Label) {
        self.program.recall(VERSION);
        self.program.if_equal(version, yes);
        self.program.jump(no);
    }

    /// Whether the packet's protocol is `protocol`; behind extension headers that is unknown and the frame is kept.
    pub(super) fn protocol(&mut self, protocol: u32, yes: Label, no: Label) {
        let known = self.program.label();
        self.program.recall(PROTOCOL);
        self.program.if_equal(protocol, yes);
        self.program.recall(VERSION);
        self.program.unless_equal(6, known);
        self.program.recall(PORTS);
        self.program.if_equal(PORTS_UNKNOWN, self.keep);
        self.program.place(known);
        self.program.jump(no);
    }

    /// Whether the port at `end` is in `range`; where ports were not read the frame is kept.
    pub(super) fn port(&mut self, range: (u16, u16), end: End, yes: Label, no: Label) {
        self.program.recall(PORTS);
        self.program.if_equal(PORTS_UNKNOWN, self.keep);
        self.program.if_equal(PORTS_NONE, no);
        self.program.recall(port_cell(end));
        self.in_range(range, yes);
        self.program.jump(no);
    }

    /// Whether the address at `end` is `address`, in its first `prefix` bits if there is one.
    pub(super) fn address(
        &mut self,
        address: IpAddr,
        prefix: Option<u8>,
        end: End,
        yes: Label,
        no: Label,
    ) {
        let (version, octets, source, destination) = match address {
            IpAddr::V4(address) => (4, address.octets().to_vec(), 12, 16),
            IpAddr::V6(address) => (6, address.octets().to_vec(), 8, 24),
        };
        let at = match end {
            End::Source => source,
            End::Destination => destination,
        };
        let mut bits = prefix.map_or(octets.len() as u32 * 8, u32::from);
        self.program.recall(VERSION);
        self.program.unless_equal(version, no);
        self.program.recall_x(NETWORK);
        for (index, word) in octets.chunks_exact(4).enumerate() {
            let word = word
                .iter()
                .fold(0, |word, byte| word << 8 | u32::from(*byte));
            let here = bits.min(32);
            bits -= here;
            let Some(mask) = u32::MAX.checked_shl(32 - here) else {
                break;
            };
            self.program.load_at_x(WORD, at + 4 * index as u32);
            if mask != u32::MAX {
                self.program.alu(BPF_AND, mask);
            }
            self.program.unless_equal(word & mask, no);
        }
        self.program.jump(yes);
    }

    fn expression(&mut self, expression: &Expression, yes: Label, no: Label) {
        expression.write(self, yes, no);
    }
}

fn port_cell(end: End) -> u32 {
    match end {
        End::Source => SOURCE_PORT,
        End::Destination => DESTINATION_PORT,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::packet::bpf::interpreter::{Packet, run};
    use crate::packet::frames::{ethernet, ip, tcp, udp};

    /// A packet between two ends, bare, as text such as `tcp 10.0.0.1 4000 10.0.0.2 80`.
    pub(in crate::packet) fn packet(text: &str) -> Vec<u8> {
        let words: Vec<&str> = text.split(' ').collect();
        let &[protocol, source, source_port, destination, destination_port] = words.as_slice()
        else {
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
    pub(in crate::packet) fn check(filter: &FrameFilter, packet: &[u8], expected: bool) {
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
    fn our_own_upload_is_left_out_and_nothing_else() {
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
}
