//! A sender that uses one system call for many frames: `sendmmsg` on a packet socket.
//!
//! Source: packet(7), sendmmsg(2). Bound: [`BATCH_MAX`] frames a call; frames of any size that the interface takes.
#![expect(
    unsafe_code,
    reason = "sendmmsg has no safe wrapper among the dependencies"
)]

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::ptr;

use super::batch::Batch;
use super::socket::{check, sending_socket};

/// The most frames of one system call.
pub const BATCH_MAX: usize = 64;

/// The sender, with its socket.
#[derive(Debug)]
pub struct Messages {
    fd: OwnedFd,
}

impl Messages {
    /// A sender that is bound to the interface with this number.
    pub(super) fn open(interface: i32) -> io::Result<Self> {
        let fd = sending_socket(interface, |_| Ok(()))?;
        Ok(Self { fd })
    }

    pub(super) fn send(&self, batch: &Batch, first: usize) -> io::Result<usize> {
        let mut parts = [libc::iovec {
            iov_base: ptr::null_mut(),
            iov_len: 0,
        }; BATCH_MAX];
        let mut count = 0;
        for (part, frame) in parts.iter_mut().zip(batch.frames(first)) {
            // The kernel only reads what is sent; the field is mutable because receiving uses the same structure.
            part.iov_base = frame.as_ptr().cast_mut().cast();
            part.iov_len = frame.len();
            count += 1;
        }
        let mut messages: [libc::mmsghdr; BATCH_MAX] = std::array::from_fn(|index| libc::mmsghdr {
            msg_hdr: libc::msghdr {
                msg_name: ptr::null_mut(),
                msg_namelen: 0,
                msg_iov: &raw mut parts[index],
                msg_iovlen: 1,
                msg_control: ptr::null_mut(),
                msg_controllen: 0,
                msg_flags: 0,
            },
            msg_len: 0,
        });
        // SAFETY: `count` messages are initialised; each points to one entry of `parts`, which points to a frame of
        // `batch`; all of them outlive the call, and the kernel keeps no pointer after it.
        let sent = unsafe {
            libc::sendmmsg(
                self.fd.as_raw_fd(),
                messages.as_mut_ptr(),
                count as libc::c_uint,
                0,
            )
        };
        check(sent).map(|sent| sent as usize)
    }
}
