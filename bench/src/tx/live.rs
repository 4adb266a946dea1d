//! XDP live frames: packets that the kernel makes and feeds into the receive path of an interface, without a sending stack.
//!
//! Source: the kernel's Documentation/bpf/bpf_prog_run.rst ("Running XDP programs in live frame mode"), bpf(2), and
//! `bpf_test_run_xdp_live` in net/bpf/test_run.c, Linux 5.18. The kernel runs the program on the same template each time;
//! ours replaces it by the next frame of a map that is shared with the kernel, so that whole conversations can be sent:
//!
//! ```text
//! map: array of slots   0: how many frames were made      1..: u32 length, frame
//! program, once a frame: n = slot[0]++; slot = slot[1 + n % SLOTS]; adjust the tail to its length; copy; XDP_PASS
//! ```
//!
//! The kernel patches its own code for a program that runs more than once, and waits for all CPUs before and after,
//! about 25 ms a call, unless the program is attached to an interface (`attach_unused`): 0.02 against 1.5 million frames a
//! second.
//!
//! Bounds: [`SLOTS`] frames of [`FRAME_BYTES_MAX`] a call; a longer frame is refused. The frames are seen only by taps and
//! not in the counters of the interface, since they do not cross a cable.
#![expect(
    unsafe_code,
    reason = "bpf(2) and the shared map have no safe wrapper among the dependencies"
)]

use std::fs::File;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::ptr::{self, NonNull};
use std::thread;

use nix::sched::{CloneFlags, unshare};

use super::batch::Batch;
use super::socket::check;

/// The most frames of a call: enough that the call itself (some microseconds, for a pool of pages) is negligible.
pub const BATCH_MAX: usize = 512;
/// Frames in the map; a power of two, since the program masks.
pub const SLOTS: usize = 512;
const SLOT_BYTES: usize = 2048;
/// Offset of the frame in a slot, after its length.
const DATA_OFFSET: usize = 4;
/// The longest frame.
pub const FRAME_BYTES_MAX: usize = SLOT_BYTES - DATA_OFFSET;
const FRAME_BYTES_MIN: usize = 14;
const MAP_BYTES: usize = (1 + SLOTS) * SLOT_BYTES;
/// Frames that the kernel makes before it passes them on; its default, and the budget of one NAPI poll.
const KERNEL_BATCH: u32 = 64;
/// Length of the template that every frame starts as.
const TEMPLATE_BYTES: usize = 64;

const _: () = assert!(SLOTS.is_power_of_two() && BATCH_MAX <= SLOTS);

/// Numbers of include/uapi/linux/bpf.h.
mod kernel {
    pub(super) const MAP_CREATE: u32 = 0;
    pub(super) const PROG_LOAD: u32 = 5;
    pub(super) const PROG_TEST_RUN: u32 = 10;
    pub(super) const LINK_CREATE: u32 = 28;
    pub(super) const MAP_TYPE_ARRAY: u32 = 2;
    pub(super) const F_MMAPABLE: u32 = 1 << 10;
    pub(super) const PROG_TYPE_XDP: u32 = 6;
    pub(super) const F_TEST_XDP_LIVE_FRAMES: u32 = 1 << 1;
    pub(super) const ATTACH_XDP: u32 = 37;
    /// XDP_FLAGS_SKB_MODE of include/uapi/linux/if_link.h: any interface can do it.
    pub(super) const SKB_MODE: u32 = 1 << 1;
    pub(super) const PSEUDO_MAP_FD: u8 = 1;
    pub(super) const XDP_ABORTED: i32 = 0;
    pub(super) const XDP_PASS: i32 = 2;
    pub(super) const FUNC_MAP_LOOKUP_ELEM: i32 = 1;
    pub(super) const FUNC_XDP_ADJUST_TAIL: i32 = 65;
    pub(super) const FUNC_XDP_STORE_BYTES: i32 = 190;
}

/// `union bpf_attr` for MAP_CREATE.
#[repr(C)]
#[derive(Default)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
}

/// The same for PROG_LOAD.
#[repr(C)]
#[derive(Default)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
}

/// The same for PROG_TEST_RUN.
#[repr(C)]
#[derive(Default)]
struct TestRun {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    /// The kernel requires that the rest of the union is zero.
    padding: u32,
}

/// The same for LINK_CREATE.
#[repr(C)]
#[derive(Default)]
struct LinkCreate {
    prog_fd: u32,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
}

/// `struct xdp_md`.
#[repr(C)]
#[derive(Default)]
struct Context {
    data: u32,
    data_end: u32,
    data_meta: u32,
    ingress_ifindex: u32,
    rx_queue_index: u32,
    egress_ifindex: u32,
}

/// `struct bpf_insn`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct Instruction {
    code: u8,
    /// Source register in the upper four bits, destination in the lower four.
    registers: u8,
    offset: i16,
    immediate: i32,
}

const fn instruction(
    code: u8,
    destination: u8,
    source: u8,
    offset: i16,
    immediate: i32,
) -> Instruction {
    Instruction {
        code,
        registers: source << 4 | destination,
        offset,
        immediate,
    }
}

/// `destination = source`.
const fn mov(destination: u8, source: u8) -> Instruction {
    instruction(0xbf, destination, source, 0, 0)
}

/// `destination = number`.
const fn set(destination: u8, number: i32) -> Instruction {
    instruction(0xb7, destination, 0, 0, number)
}

/// `destination += number`.
const fn add(destination: u8, number: i32) -> Instruction {
    instruction(0x07, destination, 0, 0, number)
}

/// `destination -= source`.
const fn subtract(destination: u8, source: u8) -> Instruction {
    instruction(0x1f, destination, source, 0, 0)
}

/// `destination &= number`.
const fn mask(destination: u8, number: i32) -> Instruction {
    instruction(0x57, destination, 0, 0, number)
}

/// `destination = *(u32 *)(source + offset)`.
const fn load(destination: u8, source: u8, offset: i16) -> Instruction {
    instruction(0x61, destination, source, offset, 0)
}

/// `*(u32 *)(destination + offset) = source`.
const fn store(destination: u8, offset: i16, source: u8) -> Instruction {
    instruction(0x63, destination, source, offset, 0)
}

const fn call(function: i32) -> Instruction {
    instruction(0x85, 0, 0, 0, function)
}

const EXIT: Instruction = instruction(0x95, 0, 0, 0, 0);

/// The program that the module document describes, for the map `map`.
fn program(map: i32) -> Vec<Instruction> {
    // r0: results; r1 to r5: arguments; r6: context; r7: number, then length; r8: slot; r10: end of the stack.
    let lookup = [
        mov(2, 10),
        add(2, -4),
        instruction(0x18, 1, kernel::PSEUDO_MAP_FD, 0, map),
        instruction(0, 0, 0, 0, 0),
        call(kernel::FUNC_MAP_LOOKUP_ELEM),
    ];
    let mut program = vec![mov(6, 1), set(1, 0), store(10, -4, 1)];
    program.extend(lookup);
    // Jumps to the end are filled in below.
    let is_null = instruction(0x15, 0, 0, 0, 0);
    program.extend([is_null, load(7, 0, 0), mov(1, 7), add(1, 1), store(0, 0, 1)]);
    program.extend([mask(7, SLOTS as i32 - 1), add(7, 1), store(10, -4, 7)]);
    program.extend(lookup);
    program.extend([is_null, mov(8, 0), load(7, 8, 0)]);
    let is_below = instruction(0xa5, 7, 0, 0, FRAME_BYTES_MIN as i32);
    let is_above = instruction(0x25, 7, 0, 0, FRAME_BYTES_MAX as i32);
    program.extend([is_below, is_above]);
    // The frame is as long as the template; its end moves by the difference to the length of ours.
    program.extend([load(3, 6, 4), load(1, 6, 0), subtract(3, 1), mov(2, 7)]);
    program.extend([
        subtract(2, 3),
        mov(1, 6),
        call(kernel::FUNC_XDP_ADJUST_TAIL),
    ]);
    let is_not_zero = instruction(0x55, 0, 0, 0, 0);
    program.extend([is_not_zero, mov(1, 6), set(2, 0), mov(3, 8)]);
    program.extend([add(3, DATA_OFFSET as i32), mov(4, 7)]);
    program.extend([call(kernel::FUNC_XDP_STORE_BYTES), is_not_zero]);
    program.extend([set(0, kernel::XDP_PASS), EXIT]);
    let end = program.len();
    program.extend([set(0, kernel::XDP_ABORTED), EXIT]);
    for (index, instruction) in program.iter_mut().enumerate() {
        if matches!(instruction.code, 0x15 | 0x25 | 0x55 | 0xa5) {
            instruction.offset = (end - index - 1) as i16;
        }
    }
    program
}

/// The program and its map.
#[derive(Debug)]
pub struct LiveFrames {
    interface: u32,
    /// [`MAP_BYTES`], mapped until dropped.
    memory: NonNull<u8>,
    program: OwnedFd,
    _attachment: Attachment,
}

// SAFETY: the mapping is this value's own, whichever thread has it.
unsafe impl Send for LiveFrames {}

impl LiveFrames {
    /// A sender whose frames arrive at the interface with this number.
    pub(super) fn open(interface: i32) -> io::Result<Self> {
        let mut create = MapCreate {
            map_type: kernel::MAP_TYPE_ARRAY,
            key_size: 4,
            value_size: SLOT_BYTES as u32,
            max_entries: 1 + SLOTS as u32,
            map_flags: kernel::F_MMAPABLE,
        };
        let map = owned(bpf(kernel::MAP_CREATE, &mut create)?);
        let program = program(map.as_raw_fd());
        let mut load = ProgLoad {
            prog_type: kernel::PROG_TYPE_XDP,
            insn_cnt: program.len() as u32,
            insns: program.as_ptr().expose_provenance() as u64,
            license: c"Apache-2.0".as_ptr().expose_provenance() as u64,
            ..ProgLoad::default()
        };
        let program = owned(bpf(kernel::PROG_LOAD, &mut load)?);
        // SAFETY: a new mapping of a map that has this size, rounded up to whole pages.
        let memory = unsafe {
            libc::mmap(
                ptr::null_mut(),
                MAP_BYTES,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                map.as_raw_fd(),
                0,
            )
        };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let attachment = attach_unused(&program)?;
        // The program keeps the map, and so does the mapping.
        Ok(Self {
            interface: interface as u32,
            memory: NonNull::new(memory.cast()).ok_or_else(io::Error::last_os_error)?,
            program,
            _attachment: attachment,
        })
    }

    pub(super) fn send(&mut self, batch: &Batch, first: usize) -> io::Result<usize> {
        let mut count = 0;
        let memory = self.memory();
        let (head, slots) = memory.split_at_mut(SLOT_BYTES);
        for (slot, frame) in slots.chunks_exact_mut(SLOT_BYTES).zip(batch.frames(first)) {
            if !(FRAME_BYTES_MIN..=FRAME_BYTES_MAX).contains(&frame.len()) {
                return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
            }
            slot[..DATA_OFFSET].copy_from_slice(&(frame.len() as u32).to_ne_bytes());
            slot[DATA_OFFSET..DATA_OFFSET + frame.len()].copy_from_slice(frame);
            count += 1;
        }
        head[..4].fill(0);
        let ran = self.run(count);
        let made = u32::from_ne_bytes(*self.memory().first_chunk().unwrap_or(&[0; 4])) as usize;
        // A signal may end a run early: the program has counted how far it came.
        match ran {
            Err(error) if made == 0 => Err(error),
            _ => Ok(made.min(count)),
        }
    }

    fn run(&self, frames: usize) -> io::Result<()> {
        let template = [0_u8; TEMPLATE_BYTES];
        let context = Context {
            data_end: TEMPLATE_BYTES as u32,
            ingress_ifindex: self.interface,
            ..Context::default()
        };
        let mut run = TestRun {
            prog_fd: self.program.as_raw_fd() as u32,
            data_size_in: TEMPLATE_BYTES as u32,
            data_in: template.as_ptr().expose_provenance() as u64,
            repeat: frames as u32,
            ctx_size_in: size_of::<Context>() as u32,
            ctx_in: (&raw const context).expose_provenance() as u64,
            flags: kernel::F_TEST_XDP_LIVE_FRAMES,
            batch_size: KERNEL_BATCH.min(frames as u32),
            ..TestRun::default()
        };
        bpf(kernel::PROG_TEST_RUN, &mut run).map(drop)
    }

    fn memory(&mut self) -> &mut [u8] {
        // SAFETY: mapped as long as `self` lives; the kernel reads and writes it only during `run`, which this
        // borrow excludes.
        unsafe { std::slice::from_raw_parts_mut(self.memory.as_ptr(), MAP_BYTES) }
    }
}

impl Drop for LiveFrames {
    fn drop(&mut self) {
        // SAFETY: mapped by `open` with this length, and no reference to it is left.
        unsafe { libc::munmap(self.memory.as_ptr().cast(), MAP_BYTES) };
    }
}

/// Keeps a program attached to an interface at which it never runs.
#[derive(Debug)]
struct Attachment {
    _link: OwnedFd,
    /// A link ends with its interface, an interface with its namespace.
    _namespace: File,
}

/// Attaches `program` to the loopback interface of a new network namespace, which is down.
fn attach_unused(program: &OwnedFd) -> io::Result<Attachment> {
    const LOOPBACK: u32 = 1;
    thread::scope(|scope| {
        let attach = || {
            unshare(CloneFlags::CLONE_NEWNET)?;
            let namespace = File::open("/proc/thread-self/ns/net")?;
            let mut create = LinkCreate {
                prog_fd: program.as_raw_fd() as u32,
                target_ifindex: LOOPBACK,
                attach_type: kernel::ATTACH_XDP,
                flags: kernel::SKB_MODE,
            };
            Ok(Attachment {
                _link: owned(bpf(kernel::LINK_CREATE, &mut create)?),
                _namespace: namespace,
            })
        };
        let thread = scope.spawn(attach);
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn bpf<T>(command: u32, attributes: &mut T) -> io::Result<libc::c_int> {
    // SAFETY: `attributes` has the layout that the kernel expects of `command`, its length is given, and what it
    // points to outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            ptr::from_mut(attributes),
            size_of::<T>() as libc::c_uint,
        )
    };
    check(result as libc::c_int)
}

fn owned(fd: libc::c_int) -> OwnedFd {
    // SAFETY: called only with a descriptor that the kernel has just made for us.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_jump_goes_to_the_end() {
        let program = program(3);
        let end = program.len() - 2;
        let jumps = program
            .iter()
            .enumerate()
            .filter(|(_, instruction)| matches!(instruction.code, 0x15 | 0x25 | 0x55 | 0xa5));
        let targets: Vec<usize> = jumps
            .map(|(index, jump)| (index as i64 + 1 + i64::from(jump.offset)) as usize)
            .collect();
        assert_eq!(targets, [end; 6]);
    }

    #[test]
    fn structures_are_as_the_kernel_has_them() {
        assert_eq!(size_of::<Instruction>(), 8);
        assert_eq!(size_of::<Context>(), 24);
        assert_eq!(std::mem::offset_of!(TestRun, ctx_in), 48);
        assert_eq!(std::mem::offset_of!(TestRun, batch_size), 72);
        assert_eq!(std::mem::offset_of!(ProgLoad, log_buf), 32);
    }
}
