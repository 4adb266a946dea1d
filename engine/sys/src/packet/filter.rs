//! Classic BPF for a packet socket: runs in the kernel before a frame is copied into the ring.
//!
//! Offsets are those of the socket filter (link-layer header first); `SKF_NET_OFF` addressing works there and in a
//! fanout program. Source: Linux `Documentation/networking/filter.rst`.

use afpacket::sync::FilterProgram;
use libc::{
    BPF_ABS, BPF_IMM, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, SKF_AD_OFF, SKF_AD_PKTTYPE,
};

/// Most instructions that the kernel takes in one program (`BPF_MAXINSNS`).
pub const FILTER_INSTRUCTIONS_MAX: usize = 4096;

/// One classic BPF instruction (`struct sock_filter`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// Operation and addressing mode.
    pub code: u16,
    /// Instructions to skip when a comparison holds.
    pub jump_true: u8,
    /// Instructions to skip when it does not.
    pub jump_false: u8,
    /// Operand.
    pub k: u32,
}

impl Instruction {
    /// `RET k`: keep `k` bytes of the frame; 0 drops it.
    pub const fn ret(k: u32) -> Self {
        Self {
            code: (BPF_RET | BPF_K) as u16,
            jump_true: 0,
            jump_false: 0,
            k,
        }
    }

    /// An instruction that does not jump.
    pub const fn plain(code: u32, k: u32) -> Self {
        Self {
            code: code as u16,
            jump_true: 0,
            jump_false: 0,
            k,
        }
    }

    /// A conditional jump.
    pub const fn jump(code: u32, k: u32, jump_true: u8, jump_false: u8) -> Self {
        Self {
            code: code as u16,
            jump_true,
            jump_false,
            k,
        }
    }
}

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
