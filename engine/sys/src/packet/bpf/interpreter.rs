//! An interpreter of classic BPF, slow and obvious: tests run the programs of the assembler, the filter and the steering
//! on it.
//!
//! A load beyond the frame ends the program with 0, as in the kernel (`bpf_check_classic` guarantees the rest). Negative
//! addresses follow `bpf_internal_load_pointer_neg_helper`. Source: Linux v6.12, `net/core/filter.c`, `kernel/bpf/core.c`.

use libc::{
    BPF_ABS, BPF_ADD, BPF_ALU, BPF_AND, BPF_B, BPF_H, BPF_IMM, BPF_IND, BPF_JA, BPF_JEQ, BPF_JGE,
    BPF_JGT, BPF_JMP, BPF_JSET, BPF_LD, BPF_LDX, BPF_LSH, BPF_MEM, BPF_MISC, BPF_MUL, BPF_OR,
    BPF_RET, BPF_RSH, BPF_ST, BPF_STX, BPF_SUB, BPF_TAX, BPF_W, BPF_X, BPF_XOR, SKF_AD_IFINDEX,
    SKF_AD_OFF, SKF_AD_PKTTYPE, SKF_AD_PROTOCOL, SKF_NET_OFF,
};

use super::Instruction;

/// A frame as the kernel holds it when a program runs.
#[derive(Clone, Debug, Default)]
pub(in crate::packet) struct Packet {
    /// All bytes, link-layer header first.
    pub(in crate::packet) bytes: Vec<u8>,
    /// The byte that address 0 stands for: 0 in a socket filter, the length of the link-layer header in fanout of a received frame.
    pub(in crate::packet) data: usize,
    /// The offset of the network header, `skb_network_offset` in the kernel.
    pub(in crate::packet) network: usize,
    /// `skb->protocol`.
    pub(in crate::packet) protocol: u16,
    /// `skb->pkt_type`.
    pub(in crate::packet) kind: u8,
    /// Index of `skb->dev`.
    pub(in crate::packet) interface: u32,
}

impl Packet {
    fn load(&self, address: u32, bytes: usize) -> Option<u32> {
        let signed = address as i32;
        let start = match signed {
            0.. => self.data.checked_add(address as usize)?,
            _ if signed == SKF_AD_OFF + SKF_AD_PKTTYPE => return Some(self.kind.into()),
            _ if signed == SKF_AD_OFF + SKF_AD_IFINDEX => return Some(self.interface),
            _ if signed == SKF_AD_OFF + SKF_AD_PROTOCOL => return Some(self.protocol.into()),
            SKF_NET_OFF.. => self.network + (signed - SKF_NET_OFF) as usize,
            _ => return None,
        };
        let bytes = self.bytes.get(start..start.checked_add(bytes)?)?;
        Some(
            bytes
                .iter()
                .fold(0, |word, byte| word << 8 | u32::from(*byte)),
        )
    }
}

/// The result of `program` for `packet`. Panics on what the kernel would not have loaded.
pub(in crate::packet) fn run(program: &[Instruction], packet: &Packet) -> u32 {
    let (mut a, mut x, mut memory) = (0_u32, 0_u32, [None; 16]);
    let mut at = 0;
    loop {
        let &Instruction {
            code,
            jump_true,
            jump_false,
            k,
        } = program.get(at).expect("the program runs past its end");
        let code = u32::from(code);
        at += 1;
        let width = match code & 0x18 {
            BPF_W => 4,
            BPF_H => 2,
            BPF_B => 1,
            _ => 0,
        };
        let cell = k as usize;
        match code & 0x07 {
            BPF_LD => {
                let loaded = match code & 0xe0 {
                    BPF_IMM => Some(k),
                    BPF_MEM => Some(memory[cell].expect("an unwritten cell is read")),
                    BPF_ABS => packet.load(k, width),
                    BPF_IND => packet.load(x.wrapping_add(k), width),
                    mode => panic!("load mode {mode:#x}"),
                };
                let Some(loaded) = loaded else { return 0 };
                a = loaded;
            }
            BPF_LDX => {
                x = match code & 0xe0 {
                    BPF_IMM => k,
                    BPF_MEM => memory[cell].expect("an unwritten cell is read"),
                    mode => panic!("load mode {mode:#x}"),
                }
            }
            BPF_ST => memory[cell] = Some(a),
            BPF_STX => memory[cell] = Some(x),
            BPF_ALU => {
                let operand = if code & BPF_X == 0 { k } else { x };
                a = match code & 0xf0 {
                    BPF_ADD => a.wrapping_add(operand),
                    BPF_SUB => a.wrapping_sub(operand),
                    BPF_MUL => a.wrapping_mul(operand),
                    BPF_OR => a | operand,
                    BPF_AND => a & operand,
                    BPF_XOR => a ^ operand,
                    BPF_LSH => a << operand,
                    BPF_RSH => a >> operand,
                    op => panic!("operation {op:#x}"),
                }
            }
            BPF_JMP => {
                assert_eq!(code & BPF_X, 0, "comparisons with X are not written");
                let holds = match code & 0xf0 {
                    BPF_JA => {
                        at += k as usize;
                        continue;
                    }
                    BPF_JEQ => a == k,
                    BPF_JGT => a > k,
                    BPF_JGE => a >= k,
                    BPF_JSET => a & k != 0,
                    comparison => panic!("comparison {comparison:#x}"),
                };
                at += usize::from(if holds { jump_true } else { jump_false });
            }
            BPF_RET => return if code & libc::BPF_A == 0 { k } else { a },
            BPF_MISC if code & 0xf8 == BPF_TAX => x = a,
            BPF_MISC => a = x,
            _ => unreachable!("three bits"),
        }
    }
}
