//! A small assembler of classic BPF, the language of socket filters and of packet fanout.
//!
//! A conditional jump reaches 255 instructions; a longer one uses an unconditional jump that is inserted after it. Jumps
//! go forward only, as the kernel requires, so every program ends. Refuses a backward jump, a label that was not placed,
//! and more than [`INSTRUCTIONS_MAX`] instructions; the kernel checks the rest.
//! Source: Linux v6.12, `Documentation/networking/filter.rst`, `net/core/filter.c` (`bpf_check_classic`).

#[cfg(test)]
pub(super) mod interpreter;

use std::fmt;

use libc::{
    BPF_ABS, BPF_ALU, BPF_IMM, BPF_IND, BPF_JA, BPF_JMP, BPF_K, BPF_LD, BPF_LDX, BPF_MEM, BPF_MISC,
    BPF_RET, BPF_ST, BPF_STX, BPF_TAX, BPF_TXA, BPF_X, SKF_AD_OFF,
};

/// Most instructions that the kernel takes in one program (`BPF_MAXINSNS`).
pub const INSTRUCTIONS_MAX: usize = 4096;

/// Longest conditional jump, in instructions that are skipped.
const REACH: usize = u8::MAX as usize;

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
    /// `RET k`. A filter keeps `k` bytes of the frame and drops it if `k` is 0; for a fanout program `k` is the result.
    pub const fn ret(k: u32) -> Self {
        Self::plain(BPF_RET | BPF_K, k)
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

/// Why a program could not be put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AssembleError {
    /// More than [`INSTRUCTIONS_MAX`] instructions.
    TooLong,
    /// A jump backwards or to a label that was not placed: a bug in the code that emitted the program.
    BadJump,
}

impl fmt::Display for AssembleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "more than {INSTRUCTIONS_MAX} BPF instructions"),
            Self::BadJump => f.write_str("a BPF jump without a target"),
        }
    }
}

impl std::error::Error for AssembleError {}

/// A place in a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Label(usize);

/// Where a program continues after a comparison.
#[derive(Clone, Copy, Debug)]
pub(super) enum Then {
    /// At the next operation.
    Next,
    /// At a label.
    To(Label),
}

/// Widths of a load from the frame.
pub(super) use libc::{BPF_B as BYTE, BPF_H as HALF_WORD, BPF_W as WORD};

enum Item {
    Plain(Instruction),
    Branch(Branch),
    Jump(Label),
}

/// A comparison, and where the program continues if it holds and if it does not.
#[derive(Clone, Copy)]
struct Branch {
    code: u32,
    k: u32,
    targets: [Then; 2],
}

/// A program under construction.
#[derive(Default)]
pub(super) struct Assembler {
    items: Vec<Item>,
    /// For each label, the index of the item that it precedes.
    places: Vec<Option<usize>>,
}

impl Assembler {
    /// A label that is not placed yet.
    pub(super) fn label(&mut self) -> Label {
        self.places.push(None);
        Label(self.places.len() - 1)
    }

    /// Places `label` here.
    pub(super) fn place(&mut self, label: Label) {
        self.places[label.0] = Some(self.items.len());
    }

    fn plain(&mut self, code: u32, k: u32) {
        self.items.push(Item::Plain(Instruction::plain(code, k)));
    }

    /// `A = frame[k..]`, in network order. `k` may be relative to `SKF_NET_OFF`.
    pub(super) fn load(&mut self, width: u32, k: u32) {
        self.plain(BPF_LD | width | BPF_ABS, k);
    }

    /// `A = frame[X + k..]`.
    pub(super) fn load_at_x(&mut self, width: u32, k: u32) {
        self.plain(BPF_LD | width | BPF_IND, k);
    }

    /// `A` = metadata of the frame; one of `SKF_AD_*`.
    pub(super) fn load_ancillary(&mut self, which: i32) {
        self.load(WORD, (SKF_AD_OFF + which) as u32);
    }

    /// `A = k`.
    pub(super) fn load_constant(&mut self, k: u32) {
        self.plain(BPF_LD | BPF_IMM, k);
    }

    /// `X = k`.
    pub(super) fn load_x_constant(&mut self, k: u32) {
        self.plain(BPF_LDX | BPF_IMM, k);
    }

    /// `A = M[cell]`.
    pub(super) fn recall(&mut self, cell: u32) {
        self.plain(BPF_LD | BPF_MEM, cell);
    }

    /// `X = M[cell]`.
    pub(super) fn recall_x(&mut self, cell: u32) {
        self.plain(BPF_LDX | BPF_MEM, cell);
    }

    /// `M[cell] = A`.
    pub(super) fn store(&mut self, cell: u32) {
        self.plain(BPF_ST, cell);
    }

    /// `M[cell] = X`.
    pub(super) fn store_x(&mut self, cell: u32) {
        self.plain(BPF_STX, cell);
    }

    /// `A = A op k`.
    pub(super) fn alu(&mut self, op: u32, k: u32) {
        self.plain(BPF_ALU | op | BPF_K, k);
    }

    /// `A = A op X`.
    pub(super) fn alu_x(&mut self, op: u32) {
        self.plain(BPF_ALU | op | BPF_X, 0);
    }

    /// `X = A`.
    pub(super) fn a_to_x(&mut self) {
        self.plain(BPF_MISC | BPF_TAX, 0);
    }

    /// `A = X`.
    pub(super) fn x_to_a(&mut self) {
        self.plain(BPF_MISC | BPF_TXA, 0);
    }

    /// Ends the program with `k`.
    pub(super) fn ret(&mut self, k: u32) {
        self.items.push(Item::Plain(Instruction::ret(k)));
    }

    /// Ends the program with `A`.
    pub(super) fn ret_a(&mut self) {
        self.plain(BPF_RET | libc::BPF_A, 0);
    }

    /// Compares `A` with `k`: `BPF_JEQ`, `BPF_JGT`, `BPF_JGE` (unsigned) or `BPF_JSET`.
    pub(super) fn branch(&mut self, comparison: u32, k: u32, yes: Then, no: Then) {
        self.items.push(Item::Branch(Branch {
            code: BPF_JMP | comparison | BPF_K,
            k,
            targets: [yes, no],
        }));
    }

    /// Continues at `label` if `A` equals `k`.
    pub(super) fn if_equal(&mut self, k: u32, label: Label) {
        self.branch(libc::BPF_JEQ, k, Then::To(label), Then::Next);
    }

    /// Continues at `label` if `A` does not equal `k`.
    pub(super) fn unless_equal(&mut self, k: u32, label: Label) {
        self.branch(libc::BPF_JEQ, k, Then::Next, Then::To(label));
    }

    /// Continues at `label`.
    pub(super) fn jump(&mut self, label: Label) {
        self.items.push(Item::Jump(label));
    }

    /// The program.
    pub(super) fn finish(self) -> Result<Vec<Instruction>, AssembleError> {
        let starts = self.starts()?;
        if starts.last().is_some_and(|&end| end > INSTRUCTIONS_MAX) {
            return Err(AssembleError::TooLong);
        }
        let mut program = Vec::with_capacity(starts.last().copied().unwrap_or(0));
        for (index, item) in self.items.iter().enumerate() {
            match *item {
                Item::Plain(instruction) => program.push(instruction),
                Item::Jump(label) => {
                    let distance = self.distance(&starts, starts[index] + 1, label)?;
                    program.push(Instruction::plain(BPF_JMP | BPF_JA, distance as u32));
                }
                Item::Branch(branch) => self.emit_branch(&mut program, &starts, index, branch)?,
            }
        }
        Ok(program)
    }

    fn emit_branch(
        &self,
        program: &mut Vec<Instruction>,
        starts: &[usize],
        index: usize,
        branch: Branch,
    ) -> Result<(), AssembleError> {
        let Branch { code, k, targets } = branch;
        let start = starts[index];
        let mut behind = start + 1;
        let mut jumps = [0; 2];
        let mut far = Vec::new();
        for (jump, then) in jumps.iter_mut().zip(targets) {
            let near = match then {
                Then::Next => starts[index + 1] - (start + 1),
                Then::To(label) => self.distance(starts, start + 1, label)?,
            };
            // A target out of reach is jumped to from behind this instruction; `starts` has reserved the space.
            *jump = if let (true, Then::To(label)) = (near > REACH, then) {
                let over = behind - (start + 1);
                behind += 1;
                far.push(self.distance(starts, behind, label)?);
                over as u8
            } else {
                near as u8
            };
        }
        let [jump_true, jump_false] = jumps;
        program.push(Instruction {
            code: code as u16,
            jump_true,
            jump_false,
            k,
        });
        let far = far.into_iter();
        program.extend(far.map(|distance| Instruction::plain(BPF_JMP | BPF_JA, distance as u32)));
        Ok(())
    }

    /// The start of each item, and the end. Branches grow until all targets are in reach; none shrinks, so this ends.
    fn starts(&self) -> Result<Vec<usize>, AssembleError> {
        let mut lengths = vec![1; self.items.len()];
        loop {
            let mut starts = vec![0];
            starts.extend(lengths.iter().scan(0, |end, length| {
                *end += length;
                Some(*end)
            }));
            let mut has_grown = false;
            for (index, item) in self.items.iter().enumerate() {
                let Item::Branch(Branch { targets, .. }) = item else {
                    continue;
                };
                let mut needed = 1;
                for then in targets {
                    if let Then::To(label) = then
                        && self.distance(&starts, starts[index] + 1, *label)? > REACH
                    {
                        needed += 1;
                    }
                }
                if needed > lengths[index] {
                    lengths[index] = needed;
                    has_grown = true;
                }
            }
            if !has_grown {
                return Ok(starts);
            }
        }
    }

    /// Instructions between `from` and `label`.
    fn distance(
        &self,
        starts: &[usize],
        from: usize,
        label: Label,
    ) -> Result<usize, AssembleError> {
        self.places[label.0]
            .and_then(|item| starts.get(item)?.checked_sub(from))
            .ok_or(AssembleError::BadJump)
    }
}

#[cfg(test)]
mod tests {
    use super::interpreter::{Packet, run};
    use super::*;

    /// `A` is 7; returns 1 across `distance` instructions if that is expected, else 2.
    #[track_caller]
    fn check(distance: usize, expected: u32, length: usize) {
        let mut program = Assembler::default();
        let (yes, no) = (program.label(), program.label());
        program.load_constant(7);
        program.branch(libc::BPF_JEQ, expected, Then::To(yes), Then::To(no));
        for _ in 0..distance {
            program.ret(3);
        }
        program.place(yes);
        program.ret(1);
        program.place(no);
        program.ret(2);
        let program = program.finish().unwrap();
        assert_eq!(program.len(), length);
        let result = run(&program, &Packet::default());
        assert_eq!(result, if expected == 7 { 1 } else { 2 });
    }

    #[test]
    fn far_jumps_take_a_step_and_near_ones_do_not() {
        for a in [7, 8] {
            check(0, a, 4);
            check(254, a, 258);
            // The second target is out of reach, and the jump to it moves the first one out of reach.
            check(255, a, 255 + 4 + 2);
            check(256, a, 256 + 4 + 2);
            check(3000, a, 3000 + 4 + 2);
        }
    }

    #[test]
    fn what_the_kernel_would_refuse_is_refused() {
        fn backward(program: &mut Assembler) {
            let label = program.label();
            program.place(label);
            program.jump(label);
        }
        fn nowhere(program: &mut Assembler) {
            let label = program.label();
            program.if_equal(1, label);
        }
        fn long(program: &mut Assembler) {
            for _ in 0..=INSTRUCTIONS_MAX {
                program.ret(0);
            }
        }
        type Write = fn(&mut Assembler);
        let cases: [(Write, AssembleError); 3] = [
            (backward, AssembleError::BadJump),
            (nowhere, AssembleError::BadJump),
            (long, AssembleError::TooLong),
        ];
        for (write, expected) in cases {
            let mut program = Assembler::default();
            write(&mut program);
            assert_eq!(program.finish(), Err(expected));
        }
    }
}
