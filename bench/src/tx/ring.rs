//! A sender with a ring of frames that the kernel sends from: PACKET_TX_RING, TPACKET_V2.
//!
//! Source: the kernel's Documentation/networking/packet_mmap.rst and `tpacket_snd` in net/packet/af_packet.c. We fill a
//! slot and mark it to be sent; it is free again when the far end has released the packet. Bounds: [`SLOTS`] frames of
//! [`FRAME_BYTES_MAX`]; a longer one is refused.
#![expect(
    unsafe_code,
    reason = "the ring is memory that the kernel shares, and mmap and send have no safe wrapper among the dependencies"
)]

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use super::batch::Batch;
use super::socket::{check, sending_socket, set_packet_option};

/// Frames that are marked before the kernel is called to send them.
pub const BATCH_MAX: usize = 64;
/// Frames in the ring.
pub const SLOTS: usize = 4096;
/// Size of a slot; a power of two, so that slots never cross a block.
const SLOT_BYTES: usize = 2048;
const BLOCK_BYTES: usize = 1 << 20;
const RING_BYTES: usize = SLOTS * SLOT_BYTES;
/// `TPACKET_ALIGN(sizeof(struct tpacket2_hdr))`: where the kernel looks for the frame.
const DATA_OFFSET: usize = 32;
/// The longest frame.
pub const FRAME_BYTES_MAX: usize = SLOT_BYTES - DATA_OFFSET;
/// Offsets within `struct tpacket2_hdr`.
const STATUS_OFFSET: usize = 0;
const LENGTH_OFFSET: usize = 4;
/// The most waits for a slot before it is an error.
const WAITS_MAX: u32 = 100_000;

const _: () = assert!(BLOCK_BYTES.is_multiple_of(SLOT_BYTES));
const _: () = assert!(RING_BYTES.is_multiple_of(BLOCK_BYTES));

/// The sender, with its ring.
#[derive(Debug)]
pub struct TxRing {
    /// [`RING_BYTES`], mapped until dropped.
    memory: NonNull<u8>,
    next: usize,
    fd: OwnedFd,
}

// SAFETY: the mapping is this value's own, whichever thread has it.
unsafe impl Send for TxRing {}

impl TxRing {
    /// A sender that is bound to the interface with this number.
    pub(super) fn open(interface: i32) -> io::Result<Self> {
        let fd = sending_socket(interface, |fd| {
            let version = libc::tpacket_versions::TPACKET_V2 as libc::c_int;
            set_packet_option(fd, libc::PACKET_VERSION, &version)?;
            let request = libc::tpacket_req {
                tp_block_size: BLOCK_BYTES as u32,
                tp_block_nr: (RING_BYTES / BLOCK_BYTES) as u32,
                tp_frame_size: SLOT_BYTES as u32,
                tp_frame_nr: SLOTS as u32,
            };
            set_packet_option(fd, libc::PACKET_TX_RING, &request)
        })?;
        // SAFETY: a new mapping of a socket whose ring has exactly this size.
        let memory = unsafe {
            libc::mmap(
                ptr::null_mut(),
                RING_BYTES,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                0,
            )
        };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let memory = NonNull::new(memory.cast()).ok_or_else(io::Error::last_os_error)?;
        Ok(Self {
            memory,
            next: 0,
            fd,
        })
    }

    pub(super) fn send(&mut self, batch: &Batch, first: usize) -> io::Result<usize> {
        let mut count = 0;
        for frame in batch.frames(first).take(BATCH_MAX) {
            if frame.len() > FRAME_BYTES_MAX {
                return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
            }
            self.wait_for(self.next)?;
            self.fill(self.next, frame);
            self.next = (self.next + 1) % SLOTS;
            count += 1;
        }
        let last = (self.next + SLOTS - 1) % SLOTS;
        for _ in 0..WAITS_MAX {
            self.kick()?;
            if self.status(last).load(Ordering::Acquire) != libc::TP_STATUS_SEND_REQUEST {
                return Ok(count);
            }
            thread::yield_now();
        }
        Err(io::Error::from_raw_os_error(libc::ETIMEDOUT))
    }

    /// Waits until the kernel has released the slot.
    fn wait_for(&self, slot: usize) -> io::Result<()> {
        for _ in 0..WAITS_MAX {
            match self.status(slot).load(Ordering::Acquire) {
                libc::TP_STATUS_AVAILABLE => return Ok(()),
                libc::TP_STATUS_WRONG_FORMAT => {
                    return Err(io::Error::from_raw_os_error(libc::EINVAL));
                }
                _ => thread::yield_now(),
            }
        }
        Err(io::Error::from_raw_os_error(libc::ETIMEDOUT))
    }

    fn fill(&mut self, slot: usize, frame: &[u8]) {
        // SAFETY: within the mapping.
        let place = unsafe { self.memory.as_ptr().add(slot * SLOT_BYTES) };
        // SAFETY: the slot lies within the mapping, and its status shows that the kernel does not use it.
        let bytes = unsafe { std::slice::from_raw_parts_mut(place, SLOT_BYTES) };
        bytes[LENGTH_OFFSET..LENGTH_OFFSET + 4]
            .copy_from_slice(&(frame.len() as u32).to_ne_bytes());
        bytes[DATA_OFFSET..DATA_OFFSET + frame.len()].copy_from_slice(frame);
        // Release: the frame is complete before the kernel sees the mark.
        self.status(slot)
            .store(libc::TP_STATUS_SEND_REQUEST, Ordering::Release);
    }

    fn status(&self, slot: usize) -> &AtomicU32 {
        let at = slot * SLOT_BYTES + STATUS_OFFSET;
        // SAFETY: within the mapping.
        let place = unsafe { self.memory.as_ptr().add(at) };
        // SAFETY: aligned to four, mapped as long as `self` lives, and never read or written otherwise.
        unsafe { AtomicU32::from_ptr(place.cast()) }
    }

    /// Makes the kernel send the marked frames. A full queue is not an error: the marks stay.
    fn kick(&self) -> io::Result<()> {
        // SAFETY: no buffer is handed over.
        let sent = unsafe { libc::send(self.fd.as_raw_fd(), ptr::null(), 0, libc::MSG_DONTWAIT) };
        match check(sent as libc::c_int) {
            Err(error)
                if !matches!(
                    error.raw_os_error(),
                    Some(libc::EAGAIN | libc::ENOBUFS | libc::EINTR)
                ) =>
            {
                Err(error)
            }
            _ => Ok(()),
        }
    }
}

impl Drop for TxRing {
    fn drop(&mut self) {
        // SAFETY: mapped by `open` with this length, and no reference to it is left.
        unsafe { libc::munmap(self.memory.as_ptr().cast(), RING_BYTES) };
    }
}
