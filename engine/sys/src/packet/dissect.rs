//! The dissection that the programs in the kernel share: tags, IPv4 and IPv6, down to the transport header.
//!
//! `X` is the start of the current header throughout. Each part is emitted where a program needs it, since a program
//! without backward jumps has no subroutines; what a program does with a header in between is its own.
//! Source: IEEE 802.1Q, RFC 791 §3.1, RFC 8200 §3.

use libc::{BPF_ADD, BPF_AND, BPF_JSET, BPF_LSH, BPF_RSH};

use super::bpf::{Assembler, BYTE, HALF_WORD, Label, Then};
use super::wire::{FRAGMENT_BITS, IPV4, IPV6, IPV6_HEADER_BYTES, PROTOCOL_TCP, PROTOCOL_UDP, TAGS};

/// Tags that are skipped in one link-layer header.
pub(super) const TAGS_MAX: usize = 2;

/// Scratch cell: the IP protocol, written by [`Dissector::ipv4`] and [`Dissector::ipv6`].
pub(super) const PROTOCOL: u32 = 0;

/// Scratch cell: valid within one operation.
pub(super) const SCRATCH: u32 = 1;

/// The first scratch cell that a program has to itself.
pub(super) const FIRST_FREE_CELL: u32 = 2;

/// Where a program continues with an IP header at `X`.
#[derive(Clone, Copy)]
pub(super) struct Ip {
    pub(super) v4: Label,
    pub(super) v6: Label,
}

impl Ip {
    pub(super) fn new(program: &mut Assembler) -> Self {
        Self {
            v4: program.label(),
            v6: program.label(),
        }
    }
}

/// Emits parts of a dissection.
pub(super) struct Dissector<'p> {
    pub(super) program: &'p mut Assembler,
    /// Added to the address of every load: 0, or the kernel's offset for the network header.
    base: u32,
}

impl<'p> Dissector<'p> {
    pub(super) fn new(program: &'p mut Assembler, base: u32) -> Self {
        Self { program, base }
    }

    /// `A` = the field `k` bytes after the start of the current header.
    pub(super) fn load(&mut self, width: u32, k: u32) {
        self.program.load_at_x(width, self.base.wrapping_add(k));
    }

    /// Moves `X` forward by `bytes`; `A` stays.
    pub(super) fn advance(&mut self, bytes: u32) {
        self.program.store(SCRATCH);
        self.program.x_to_a();
        self.program.alu(BPF_ADD, bytes);
        self.program.a_to_x();
        self.program.recall(SCRATCH);
    }

    /// Continues at `ip` if the EtherType in `A` is one of IP.
    pub(super) fn ether_type(&mut self, ip: Ip) {
        self.program.if_equal(IPV4, ip.v4);
        self.program.if_equal(IPV6, ip.v6);
    }

    /// Continues at `ip` if the current header starts with a version of IP.
    pub(super) fn version(&mut self, ip: Ip) {
        self.load(BYTE, 0);
        self.program.alu(BPF_RSH, 4);
        self.program.if_equal(4, ip.v4);
        self.program.if_equal(6, ip.v6);
    }

    /// Continues at `tagged` if the EtherType in `A` is that of a tag.
    pub(super) fn if_tagged(&mut self, tagged: Label) {
        for tag in TAGS {
            self.program.if_equal(tag, tagged);
        }
    }

    /// Skips a tag: its EtherType is then in `A`. Continues at `ip` if that is one of IP.
    pub(super) fn skip_tag(&mut self, ip: Ip) {
        self.load(HALF_WORD, 2);
        self.advance(4);
        self.ether_type(ip);
    }

    /// With `X` after an Ethernet header whose EtherType is in `A`: continues at `ip` behind any tags, at `other` if
    /// something else follows.
    pub(super) fn tags(&mut self, ip: Ip, other: Label) {
        self.ether_type(ip);
        for _ in 0..TAGS_MAX {
            let tagged = self.program.label();
            self.if_tagged(tagged);
            self.program.jump(other);
            self.program.place(tagged);
            self.skip_tag(ip);
        }
        self.program.jump(other);
    }

    /// An IPv4 header: its protocol is stored. Continues at `fragment` with `X` unchanged if it is one of a fragment,
    /// otherwise falls through with `X` at the transport header.
    pub(super) fn ipv4(&mut self, fragment: Label) {
        self.load(BYTE, 9);
        self.program.store(PROTOCOL);
        self.load(HALF_WORD, 6);
        self.program
            .branch(BPF_JSET, FRAGMENT_BITS, Then::To(fragment), Then::Next);
        self.load(BYTE, 0);
        self.program.alu(BPF_AND, 0x0f);
        self.program.alu(BPF_LSH, 2);
        self.program.alu_x(BPF_ADD);
        self.program.a_to_x();
    }

    /// An IPv6 header: its next header is stored, and `X` is behind it.
    pub(super) fn ipv6(&mut self) {
        self.load(BYTE, 6);
        self.program.store(PROTOCOL);
        self.program.x_to_a();
        self.program.alu(BPF_ADD, IPV6_HEADER_BYTES);
        self.program.a_to_x();
    }

    /// Continues at `tcp`, or at `other` if the protocol is neither TCP nor UDP; falls through for UDP.
    pub(super) fn transport(&mut self, tcp: Label, other: Label) {
        self.program.recall(PROTOCOL);
        self.program.if_equal(PROTOCOL_TCP, tcp);
        self.program.unless_equal(PROTOCOL_UDP, other);
    }
}
