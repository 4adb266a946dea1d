//! A TPACKET_V3 receive ring: blocks that belong either to the kernel or to us.
//!
//! **Invariant:** at most one block is ours. [`RxRing::next_block`] borrows the ring until the block is dropped, and
//! dropping gives it back; so the kernel never meets a block that we hold while others are free, where it would stop
//! and drop everything.
#![expect(unsafe_code, reason = "memory shared with the kernel")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use libc::{TP_STATUS_KERNEL, TP_STATUS_LOSING, TP_STATUS_USER, tpacket_req3};

use super::block::{AFTER_STATUS, Frames, STATUS_OFFSET};
use super::bpf::Instruction;
use super::filter;
use super::socket::{OpenError, Socket, Trouble};
use crate::process;

/// TPACKET_V3 packs frames without gaps and uses this only to check that it divides a block.
const FRAME_BYTES: usize = 2048;

/// Shape and behaviour of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingOptions {
    /// Bytes of one block; rounded up to whole pages of this machine. A frame is at most 48 bytes shorter, so 256 KiB
    /// holds whatever receive offload merges (64 KiB).
    pub block_bytes: usize,
    /// Blocks in the ring, at least two.
    pub blocks: usize,
    /// A block with at least one frame comes to us after this time even if it is not full. Whole milliseconds, at
    /// least one.
    pub retire: Duration,
    /// Frames to other hosts' link addresses, too.
    pub promiscuous: bool,
    /// Without the frames that this host sends; on `lo`, where each frame passes twice, that leaves each once.
    pub drop_outgoing: bool,
}

impl Default for RingOptions {
    fn default() -> Self {
        Self {
            block_bytes: 1 << 20,
            blocks: 32,
            retire: Duration::from_millis(10),
            promiscuous: false,
            drop_outgoing: false,
        }
    }
}

/// What the kernel counted for one ring since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Frames that passed the filter, dropped ones included.
    pub packets: u64,
    /// Frames dropped because no block was free.
    pub drops: u64,
    /// Times the ring had no free block. Once for a stall of any length: alarm on `drops`, not on this.
    pub freezes: u64,
}

/// A receive ring of one interface, or of all that its filter lets in.
pub struct RxRing {
    // Fields drop in this order: the memory is unmapped before the socket that backs it is closed.
    mapping: Mapping,
    socket: Socket,
    next: usize,
    drop_outgoing: bool,
    totals: Statistics,
}

impl RxRing {
    /// Opens a ring on `interface`. No frame of another interface, and none from before this call, is ever seen.
    pub fn open(interface: &str, options: &RingOptions) -> Result<Self, OpenError> {
        let mut ring = Self::closed(Socket::open()?, Some(interface), options)?;
        ring.set_filter(filter::PASS_ALL)
            .map_err(|error| OpenError::from("attaching a filter", &error))?;
        Ok(ring)
    }

    /// A ring that takes nothing until it has a filter; then it takes frames of `interface`, or of all interfaces.
    pub(super) fn closed(
        mut socket: Socket,
        interface: Option<&str>,
        options: &RingOptions,
    ) -> Result<Self, OpenError> {
        let request = request(options)?;
        socket.make_ring(&request)?;
        let mapping = Mapping::new(
            &socket,
            request.tp_block_size as usize,
            request.tp_block_nr as usize,
        )
        .map_err(|error| OpenError::from("mapping the ring", &error))?;
        if let Some(interface) = interface {
            socket.bind(interface)?;
            if options.promiscuous {
                socket.set_promiscuous(interface)?;
            }
        }
        Ok(Self {
            mapping,
            socket,
            next: 0,
            drop_outgoing: options.drop_outgoing,
            totals: Statistics::default(),
        })
    }

    /// The next block the kernel has finished, if there is one. The ring can do nothing else until it is dropped.
    #[inline]
    pub fn next_block(&mut self) -> Option<Block<'_>> {
        let status = self.mapping.status(self.next);
        // Acquire: the kernel's writes to the block happen before our reads of it.
        let bits = status.load(Ordering::Acquire);
        if bits & TP_STATUS_USER == 0 {
            return None;
        }
        let index = self.next;
        self.next = (index + 1) % self.mapping.blocks;
        Some(Block {
            bytes: self.mapping.after_status(index),
            status,
            losing: bits & TP_STATUS_LOSING != 0,
        })
    }

    /// Blocks that the kernel has finished and that wait for us, of all [`Self::blocks`]. The kernel finishes them in the
    /// order in which we take them, so a search by halves finds the last one.
    pub fn blocks_ready(&self) -> usize {
        let blocks = self.mapping.blocks;
        let is_ready = |distance: usize| {
            let status = self.mapping.status((self.next + distance) % blocks);
            status.load(Ordering::Relaxed) & TP_STATUS_USER != 0
        };
        let (mut ready, mut end) = (0, blocks);
        while ready < end {
            let middle = ready.midpoint(end);
            if is_ready(middle) {
                ready = middle + 1;
            } else {
                end = middle;
            }
        }
        ready
    }

    /// Blocks in the ring.
    pub fn blocks(&self) -> usize {
        self.mapping.blocks
    }

    /// Replaces the in-kernel filter; the check of [`RingOptions::drop_outgoing`] stays in front of it. An empty
    /// program, one that the kernel finds wrong, or one that is too long is refused, and the old one stays.
    pub fn set_filter(&mut self, program: &[Instruction]) -> io::Result<()> {
        if program.is_empty() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.socket.set_filter(self.drop_outgoing, program)
    }

    /// Takes frames to other hosts' link addresses on this interface, too.
    pub fn set_promiscuous(&mut self, interface: &str) -> Result<(), OpenError> {
        self.socket.set_promiscuous(interface)
    }

    /// The filter is the last one: nobody can replace it, with whatever capability.
    pub fn lock_filter(&mut self) -> io::Result<()> {
        self.socket.lock_filter()
    }

    pub(super) fn socket(&self) -> &Socket {
        &self.socket
    }

    pub(super) fn send(&mut self, frame: &[u8]) -> io::Result<()> {
        self.socket.send(frame)
    }

    /// Counts since the ring was opened. The kernel resets its own on every read, so nobody else may read them.
    pub fn statistics(&mut self) -> io::Result<Statistics> {
        let new = self.socket.take_statistics()?;
        self.totals.packets += u64::from(new.tp_packets);
        self.totals.drops += u64::from(new.tp_drops);
        self.totals.freezes += u64::from(new.tp_freeze_q_cnt);
        Ok(self.totals)
    }

    /// What happened to the interface since the last call. To be called after [`super::Waiter`] reported trouble.
    pub fn trouble(&self) -> Option<Trouble> {
        self.socket.trouble()
    }

    /// Index of the interface this ring is bound to; -1 after it was deleted, 0 of a ring on all interfaces.
    pub fn interface_index(&self) -> i32 {
        self.socket.interface_index()
    }

    /// Bytes of kernel memory this ring takes. They are not charged to the memory cgroup.
    pub fn bytes(&self) -> usize {
        self.mapping.length()
    }
}

impl AsFd for RxRing {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The request to the kernel for `options`.
fn request(options: &RingOptions) -> Result<tpacket_req3, OpenError> {
    let invalid = OpenError::Other {
        step: "choosing the ring's size",
        errno: libc::EINVAL,
    };
    let block = options
        .block_bytes
        .max(1)
        .checked_next_multiple_of(process::page_bytes())
        .ok_or(invalid)?;
    let blocks = options.blocks.max(2);
    let frames = blocks.checked_mul(block / FRAME_BYTES).ok_or(invalid)?;
    let retire = options.retire.as_millis().clamp(1, 1000);
    Ok(tpacket_req3 {
        tp_block_size: u32::try_from(block).map_err(|_| invalid)?,
        tp_block_nr: u32::try_from(blocks).map_err(|_| invalid)?,
        tp_frame_size: FRAME_BYTES as u32,
        tp_frame_nr: u32::try_from(frames).map_err(|_| invalid)?,
        tp_retire_blk_tov: retire as u32,
        tp_sizeof_priv: 0,
        tp_feature_req_word: 0,
    })
}

/// One block of the ring: ours to read until dropped.
pub struct Block<'ring> {
    bytes: &'ring [u8],
    status: &'ring AtomicU32,
    losing: bool,
}

impl Block<'_> {
    /// The frames in it.
    #[inline]
    pub fn frames(&self) -> Frames<'_> {
        Frames::new(self.bytes)
    }

    /// Frames were dropped since the statistics were last read.
    pub fn losing(&self) -> bool {
        self.losing
    }
}

impl Drop for Block<'_> {
    fn drop(&mut self) {
        // Release: our reads of the frames happen before the kernel may overwrite them.
        self.status.store(TP_STATUS_KERNEL, Ordering::Release);
    }
}

/// The ring's memory, shared with the kernel.
struct Mapping {
    /// Start of `blocks * block_bytes` mapped bytes, aligned to a page.
    base: NonNull<u8>,
    block_bytes: usize,
    blocks: usize,
}

// SAFETY: the mapping belongs to the process, not to a thread, and `Mapping` is its only owner.
unsafe impl Send for Mapping {}

impl Mapping {
    fn new(socket: &Socket, block_bytes: usize, blocks: usize) -> io::Result<Self> {
        let length = block_bytes
            .checked_mul(blocks)
            .ok_or(io::ErrorKind::OutOfMemory)?;
        // No MAP_LOCKED: the pages are the kernel's own and never swapped, it would only bring RLIMIT_MEMLOCK errors.
        // SAFETY: the kernel chooses the place, so no mapping of ours is replaced; the arguments are checked by it.
        let base = unsafe {
            libc::mmap(
                ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_POPULATE,
                socket.as_fd().as_raw_fd(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast::<u8>()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self {
            base,
            block_bytes,
            blocks,
        })
    }

    fn length(&self) -> usize {
        self.block_bytes * self.blocks
    }

    /// Start of block `index`.
    fn block(&self, index: usize) -> NonNull<u8> {
        assert!(index < self.blocks);
        // SAFETY: `index < blocks`, so the offset lies within the mapping.
        unsafe { self.base.add(index * self.block_bytes) }
    }

    /// The word by which block `index` is handed to and fro.
    fn status(&self, index: usize) -> &AtomicU32 {
        // SAFETY: a block is a whole number of pages, far longer than this offset.
        let status = unsafe { self.block(index).add(STATUS_OFFSET) };
        // SAFETY: mapped while `self` lives; aligned, being 8 bytes into a page; kernel and program access it only
        // with whole-word loads and stores, and `after_status` leaves it out.
        unsafe { AtomicU32::from_ptr(status.as_ptr().cast::<u32>()) }
    }

    /// What follows the status word in block `index`. Only for a block whose status shows that it is ours: the kernel
    /// does not write to it until the status is given back, which [`Block`] does when this borrow ends.
    fn after_status(&self, index: usize) -> &[u8] {
        // SAFETY: a block is a whole number of pages, far longer than this offset.
        let start = unsafe { self.block(index).add(AFTER_STATUS) };
        // SAFETY: the rest of the block is mapped and initialised by the kernel (zeroed pages), lives as long as
        // `self`, and nobody writes to it while the block is ours (see above).
        unsafe { slice::from_raw_parts(start.as_ptr(), self.block_bytes - AFTER_STATUS) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `base` and the length are those of the mapping made in `new`; every borrow of it has ended.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.length()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(options: RingOptions, expected: Option<(u32, u32, u32)>) {
        let request = request(&options).ok();
        assert_eq!(
            request.map(|r| (r.tp_block_size, r.tp_block_nr, r.tp_retire_blk_tov)),
            expected
        );
        if let Some(request) = request {
            assert_eq!(
                request.tp_frame_nr,
                request.tp_block_size / request.tp_frame_size * request.tp_block_nr
            );
        }
    }

    #[test]
    fn sizes_are_what_the_kernel_takes() {
        let page = process::page_bytes() as u32;
        let options = RingOptions::default();
        check(options, Some((1 << 20, 32, 10)));
        check(
            RingOptions {
                block_bytes: 1,
                blocks: 0,
                retire: Duration::ZERO,
                ..options
            },
            Some((page, 2, 1)),
        );
        check(
            RingOptions {
                block_bytes: (1 << 20) + 1,
                ..options
            },
            Some(((1 << 20) + page, 32, 10)),
        );
        check(
            RingOptions {
                block_bytes: usize::MAX,
                ..options
            },
            None,
        );
        check(
            RingOptions {
                blocks: usize::MAX,
                ..options
            },
            None,
        );
    }
}
