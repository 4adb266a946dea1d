//! The filter in the kernel: which frames are copied into a ring at all, as a classic BPF program.
//!
//! The program dissects tags and the outer IP header, but no tunnels: a tunnel's packets are kept whole, by their UDP
//! port. **It keeps every frame that it cannot decide on**, since the engine decides again: fragments, IPv6 extension
//! headers, more than two tags, protocols that may be a tunnel. It never tests a field that is not there: a frame that
//! ends before a field of its own header is dropped by the kernel, and has nothing to reassemble.
//!
//! A socket filter reads sent and received frames alike from the link-layer header on, so all offsets are from there;
//! a tag that the kernel removed from the frame is not among its bytes.
//! Source: Linux v6.12, `Documentation/networking/filter.rst`, `net/packet/af_packet.c` (`tpacket_rcv`).

use std::net::{IpAddr, SocketAddr};

use afpacket::sync::FilterProgram;
use libc::{
    BPF_ABS, BPF_AND, BPF_IMM, BPF_JEQ, BPF_JGE, BPF_JGT, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_W,
    SKF_AD_IFINDEX, SKF_AD_OFF, SKF_AD_PKTTYPE,
};

use super::bpf::{AssembleError, Assembler, BYTE, HALF_WORD, Instruction, Label, Then, WORD};
use super::dissect::{Dissector, FIRST_FREE_CELL, Ip, PROTOCOL};
use super::expression::{Ends, Expression};
use super::wire::PROTOCOL_TCP;

/// Nothing passes.
pub(super) const DROP_ALL: &[Instruction] = &[Instruction::ret(0)];

/// Everything passes, uncut.
pub(super) const PASS_ALL: &[Instruction] = &[Instruction::ret(u32::MAX)];

/// Drops what this host sends. The accumulator is zero afterwards, as at the start of a program.
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

/// The whole program in the form that the crate of the socket accepts.
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

/// Which frames of an interface are kept. The default keeps all of an Ethernet interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FrameFilter {
    /// The interface's frames start with the IP header.
    pub bare_ip: bool,
    /// TCP with one of these ports at either end (inclusive ranges), or all TCP.
    pub tcp_ports: Option<Vec<(u16, u16)>>,
    /// Of other TCP, the segments that start or end a connection: connections on other ports remain visible, at the cost of
    /// a few small frames each.
    pub handshakes: bool,
    /// UDP with one of these ports at either end: the tunnels. Or all UDP.
    pub udp_ports: Option<Vec<u16>>,
    /// No TCP from or to these endpoints: self traffic.
    pub without: Vec<SocketAddr>,
    /// A further condition.
    pub expression: Option<Expression>,
}

/// Scratch cells, all written before the first is read.
const NETWORK: u32 = FIRST_FREE_CELL;
const VERSION: u32 = FIRST_FREE_CELL + 1;
const PORTS: u32 = FIRST_FREE_CELL + 2;
const SOURCE_PORT: u32 = FIRST_FREE_CELL + 3;
const DESTINATION_PORT: u32 = FIRST_FREE_CELL + 4;
const TRANSPORT: u32 = FIRST_FREE_CELL + 5;

/// FIN, SYN and RST, in byte 13 of a TCP header (RFC 9293 §3.1).
const FLAGS_AT: u32 = 13;
const START_OR_END: u32 = 0x07;

/// Values of [`PORTS`]: the packet has none, they were read, or they are somewhere that was not dissected.
const PORTS_NONE: u32 = 0;
const PORTS_READ: u32 = 1;
const PORTS_UNKNOWN: u32 = 2;

/// Bytes of a link-layer header of Ethernet.
const ETHERNET_BYTES: u32 = 14;

/// IPv6 next headers that TCP or UDP may follow: hop-by-hop, routing, fragment, authentication, destination.
const EXTENSION_HEADERS: [u32; 5] = [0, 43, 44, 51, 60];

/// One of the interfaces that a ring on all interfaces takes frames of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its index.
    pub index: u32,
    /// Its frames start with the IP header.
    pub bare_ip: bool,
    /// Without the frames that this host sends, as [`RingOptions::drop_outgoing`](super::RingOptions::drop_outgoing).
    pub drop_outgoing: bool,
}

/// Members that are compared one by one; a longer list is divided first, so that a frame costs few comparisons.
const MEMBERS_COMPARED: usize = 4;

impl FrameFilter {
    /// The program for the ring of one interface.
    pub fn program(&self) -> Result<Vec<Instruction>, AssembleError> {
        self.assemble(|emitter, next| emitter.dissect(self.bare_ip, next))
    }

    /// The program for a ring on all interfaces: it takes the frames of `members` and of no other interface.
    pub fn program_for(&self, members: &[Member]) -> Result<Vec<Instruction>, AssembleError> {
        self.assemble(|emitter, next| emitter.members(members, next))
    }

    /// `dissect` fills the scratch cells and continues at its label.
    fn assemble(
        &self,
        dissect: impl FnOnce(&mut FilterEmitter<'_>, Label),
    ) -> Result<Vec<Instruction>, AssembleError> {
        let mut program = Assembler::default();
        let [keep, drop, own, wanted, expression] = std::array::from_fn(|_| program.label());
        let mut emitter = FilterEmitter {
            headers: Dissector::new(&mut program, 0),
            keep,
            drop,
        };
        dissect(&mut emitter, own);
        emitter.program().place(own);
        emitter.without(&self.without, wanted);
        emitter.program().place(wanted);
        emitter.protocols(self, expression);
        emitter.program().place(expression);
        match &self.expression {
            Some(expression) => emitter.expression(expression, keep, drop),
            None => emitter.program().jump(keep),
        }
        program.place(keep);
        program.ret(u32::MAX);
        program.place(drop);
        program.ret(0);
        program.finish()
    }
}

/// Emits a filter. After [`Self::dissect`] the scratch cells hold what the tests need; `X` is free.
struct FilterEmitter<'p> {
    headers: Dissector<'p>,
    keep: Label,
    drop: Label,
}

/// One end of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Source,
    Destination,
}

impl FilterEmitter<'_> {
    fn program(&mut self) -> &mut Assembler {
        self.headers.program
    }

    /// Drops frames of other interfaces than `members`, fills the scratch cells for the others, then continues at `next`.
    fn members(&mut self, members: &[Member], next: Label) {
        let mut sorted = members.to_vec();
        sorted.sort_unstable_by_key(|member| member.index);
        let [received, bare_received, ethernet, bare] =
            std::array::from_fn(|_| self.program().label());
        self.program().load_ancillary(SKF_AD_IFINDEX);
        self.among(
            &sorted,
            &|member| match (member.drop_outgoing, member.bare_ip) {
                (true, false) => received,
                (true, true) => bare_received,
                (false, false) => ethernet,
                (false, true) => bare,
            },
        );
        let drop = self.drop;
        for (label, then) in [(received, ethernet), (bare_received, bare)] {
            self.program().place(label);
            self.program().load_ancillary(SKF_AD_PKTTYPE);
            self.program()
                .if_equal(u32::from(libc::PACKET_OUTGOING), drop);
            self.program().jump(then);
        }
        for (label, bare_ip) in [(ethernet, false), (bare, true)] {
            self.program().place(label);
            self.dissect(bare_ip, next);
        }
    }

    /// Continues at the label of the member whose index is in `A`, or drops the frame.
    fn among(&mut self, members: &[Member], label: &impl Fn(&Member) -> Label) {
        let (below, from) = members.split_at(members.len() / 2);
        match from.first() {
            Some(middle) if members.len() > MEMBERS_COMPARED => {
                let upper = self.program().label();
                self.program()
                    .branch(BPF_JGE, middle.index, Then::To(upper), Then::Next);
                self.among(below, label);
                self.program().place(upper);
                self.among(from, label);
            }
            _ => {
                for member in members {
                    self.program().if_equal(member.index, label(member));
                }
                let drop = self.drop;
                self.program().jump(drop);
            }
        }
    }

    /// Fills the scratch cells, then continues at `next`.
    fn dissect(&mut self, bare_ip: bool, next: Label) {
        let ip = Ip::new(self.program());
        let [transport, ports, unknown] = std::array::from_fn(|_| self.program().label());
        self.program().load_constant(0);
        for cell in [
            NETWORK,
            VERSION,
            PROTOCOL,
            PORTS,
            SOURCE_PORT,
            DESTINATION_PORT,
            TRANSPORT,
        ] {
            self.program().store(cell);
        }
        if bare_ip {
            self.program().load_x_constant(0);
            self.headers.version(ip);
            self.program().jump(next);
        } else {
            self.program().load_x_constant(ETHERNET_BYTES);
            self.program().load(HALF_WORD, 12);
            self.headers.tags(ip, next);
        }

        self.program().place(ip.v4);
        self.program().store_x(NETWORK);
        self.set(VERSION, 4);
        self.headers.ipv4(unknown);
        self.program().jump(transport);

        self.program().place(ip.v6);
        self.program().store_x(NETWORK);
        self.set(VERSION, 6);
        self.headers.ipv6();
        self.program().recall(PROTOCOL);
        for header in EXTENSION_HEADERS {
            self.program().if_equal(header, unknown);
        }

        self.program().place(transport);
        self.headers.transport(ports, next);
        self.program().place(ports);
        self.program().store_x(TRANSPORT);
        self.set(PORTS, PORTS_READ);
        self.headers.load(HALF_WORD, 0);
        self.program().store(SOURCE_PORT);
        self.headers.load(HALF_WORD, 2);
        self.program().store(DESTINATION_PORT);
        self.program().jump(next);

        self.program().place(unknown);
        self.set(PORTS, PORTS_UNKNOWN);
        self.program().jump(next);
    }

    /// Drops TCP from and to `ends`, then continues at `next`.
    fn without(&mut self, ends: &[SocketAddr], next: Label) {
        if ends.is_empty() {
            return self.program().jump(next);
        }
        self.program().recall(PORTS);
        self.program().unless_equal(PORTS_READ, next);
        self.program().recall(PROTOCOL);
        self.program().unless_equal(PROTOCOL_TCP, next);
        let mut ports: Vec<u16> = ends.iter().map(SocketAddr::port).collect();
        ports.sort_unstable();
        ports.dedup();
        for port in ports {
            for side in [End::Source, End::Destination] {
                let other_port = self.program().label();
                self.program().recall(port_cell(side));
                self.program().unless_equal(port.into(), other_port);
                for end in ends.iter().filter(|end| end.port() == port) {
                    let other = self.program().label();
                    self.address(end.ip().to_canonical(), None, side, self.drop, other);
                    self.program().place(other);
                }
                self.program().place(other_port);
            }
        }
        self.program().jump(next);
    }

    /// Drops TCP and UDP of other ports than the configured ones; the rest continues at `next`.
    fn protocols(&mut self, filter: &FrameFilter, next: Label) {
        let [tcp, udp] = std::array::from_fn(|_| self.program().label());
        self.program().recall(PORTS);
        self.program().unless_equal(PORTS_READ, next);
        self.program().recall(PROTOCOL);
        self.program().if_equal(PROTOCOL_TCP, tcp);
        self.program().place(udp);
        let udp_ports = filter
            .udp_ports
            .as_ref()
            .map(|ports| ports.iter().map(|&port| (port, port)).collect::<Vec<_>>());
        self.either_port(udp_ports.as_deref(), next);
        self.headers.program.jump(self.drop);
        self.program().place(tcp);
        self.either_port(filter.tcp_ports.as_deref(), next);
        if filter.handshakes {
            self.program().recall_x(TRANSPORT);
            self.program().load_at_x(BYTE, FLAGS_AT);
            self.program()
                .branch(BPF_JSET, START_OR_END, Then::To(next), Then::Next);
        }
        self.headers.program.jump(self.drop);
    }

    /// Continues at `next` if one of the ports is in a range; falls through otherwise.
    fn either_port(&mut self, ranges: Option<&[(u16, u16)]>, next: Label) {
        let Some(ranges) = ranges else {
            return self.program().jump(next);
        };
        for side in [End::Source, End::Destination] {
            self.program().recall(port_cell(side));
            for &(first, last) in ranges {
                self.in_range(first, last, next);
            }
        }
    }

    /// Continues at `yes` if `A` is in the range; falls through otherwise.
    fn in_range(&mut self, first: u16, last: u16, yes: Label) {
        if first == last {
            return self.program().if_equal(first.into(), yes);
        }
        let no = self.program().label();
        self.program()
            .branch(BPF_JGE, first.into(), Then::Next, Then::To(no));
        self.program()
            .branch(BPF_JGT, last.into(), Then::Next, Then::To(yes));
        self.program().place(no);
    }

    /// `M[cell] = value`.
    fn set(&mut self, cell: u32, value: u32) {
        self.program().load_constant(value);
        self.program().store(cell);
    }

    /// Whether the packet's IP version is `version`.
    fn version(&mut self, version: u32, yes: Label, no: Label) {
        self.program().recall(VERSION);
        self.program().if_equal(version, yes);
        self.program().jump(no);
    }

    /// Whether the packet's protocol is `protocol`; after extension headers that is unknown and the frame is kept.
    fn protocol(&mut self, protocol: u32, yes: Label, no: Label) {
        let known = self.program().label();
        self.program().recall(PROTOCOL);
        self.program().if_equal(protocol, yes);
        self.program().recall(VERSION);
        self.program().unless_equal(6, known);
        self.program().recall(PORTS);
        self.headers.program.if_equal(PORTS_UNKNOWN, self.keep);
        self.program().place(known);
        self.program().jump(no);
    }

    /// Whether the port at `end` is in the range; a frame whose ports were not read is kept.
    fn port(&mut self, first: u16, last: u16, end: End, yes: Label, no: Label) {
        self.program().recall(PORTS);
        self.headers.program.if_equal(PORTS_UNKNOWN, self.keep);
        self.program().if_equal(PORTS_NONE, no);
        self.program().recall(port_cell(end));
        self.in_range(first, last, yes);
        self.program().jump(no);
    }

    /// Whether the address at `end` is `address`, in its first `prefix` bits if there is one.
    fn address(&mut self, address: IpAddr, prefix: Option<u8>, end: End, yes: Label, no: Label) {
        let (version, octets, source, destination) = match address {
            IpAddr::V4(address) => (4, address.octets().to_vec(), 12, 16),
            IpAddr::V6(address) => (6, address.octets().to_vec(), 8, 24),
        };
        let at = match end {
            End::Source => source,
            End::Destination => destination,
        };
        let mut bits = prefix.map_or(octets.len() as u32 * 8, u32::from);
        self.program().recall(VERSION);
        self.program().unless_equal(version, no);
        self.program().recall_x(NETWORK);
        for (index, word) in octets.chunks_exact(4).enumerate() {
            let word = word
                .iter()
                .fold(0, |word, byte| word << 8 | u32::from(*byte));
            let here = bits.min(32);
            bits -= here;
            let Some(mask) = u32::MAX.checked_shl(32 - here) else {
                break;
            };
            self.program().load_at_x(WORD, at + 4 * index as u32);
            if mask != u32::MAX {
                self.program().alu(BPF_AND, mask);
            }
            self.program().unless_equal(word & mask, no);
        }
        self.program().jump(yes);
    }

    /// Tests an expression: continues at `yes` if it holds, else at `no`.
    fn expression(&mut self, expression: &Expression, yes: Label, no: Label) {
        match expression {
            Expression::And(left, right) => {
                let second = self.program().label();
                self.expression(left, second, no);
                self.program().place(second);
                self.expression(right, yes, no);
            }
            Expression::Or(left, right) => {
                let second = self.program().label();
                self.expression(left, yes, second);
                self.program().place(second);
                self.expression(right, yes, no);
            }
            Expression::Not(inner) => self.expression(inner, no, yes),
            Expression::Version(version) => self.version((*version).into(), yes, no),
            Expression::Protocol(protocol) => self.protocol((*protocol).into(), yes, no),
            Expression::Address(ends, address, prefix) => {
                self.at_ends(*ends, yes, no, |emitter, end, yes, no| {
                    emitter.address(*address, *prefix, end, yes, no);
                });
            }
            Expression::Ports(ends, first, last) => {
                self.at_ends(*ends, yes, no, |emitter, end, yes, no| {
                    emitter.port(*first, *last, end, yes, no);
                });
            }
        }
    }

    /// Makes a test at one end, or at both until one passes.
    fn at_ends(
        &mut self,
        ends: Ends,
        yes: Label,
        no: Label,
        test: impl Fn(&mut Self, End, Label, Label),
    ) {
        match ends {
            Ends::Source => test(self, End::Source, yes, no),
            Ends::Destination => test(self, End::Destination, yes, no),
            Ends::Either => {
                let second = self.program().label();
                test(self, End::Source, yes, second);
                self.program().place(second);
                test(self, End::Destination, yes, no);
            }
        }
    }
}

fn port_cell(end: End) -> u32 {
    match end {
        End::Source => SOURCE_PORT,
        End::Destination => DESTINATION_PORT,
    }
}

#[cfg(test)]
mod tests;
