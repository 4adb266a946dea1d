//! Frames onto an interface as fast as one core can: a packet socket that bypasses the queueing discipline, and
//! `sendmmsg`, one system call for many frames.
//!
//! Source: packet(7), sendmmsg(2). Bounds: [`BATCH_MAX`] frames a call. It receives nothing (protocol 0), keeps no
//! queue of its own, and does not look at what it sends. Only for interfaces that a bench or a test made itself.
#![expect(
    unsafe_code,
    reason = "sendmmsg and PACKET_QDISC_BYPASS have no safe wrapper among the dependencies"
)]

use std::ffi::CString;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::ptr;

/// Frames handed to the kernel at once, at most.
pub const BATCH_MAX: usize = 64;

/// A packet socket that only sends.
#[derive(Debug)]
pub struct PacketSender {
    fd: OwnedFd,
}

impl PacketSender {
    /// Opens it on `interface` of the calling thread's network namespace. Needs CAP_NET_RAW.
    pub fn open(interface: &str) -> io::Result<Self> {
        let index = interface_index(interface)?;
        // SAFETY: no pointers; protocol 0 keeps the kernel from queueing received frames to it.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        let fd = check(fd)?;
        // SAFETY: `fd` was opened above and nobody else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let on: libc::c_int = 1;
        // SAFETY: `on` outlives the call, and the length is its own.
        let set = unsafe {
            libc::setsockopt(
                fd.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_QDISC_BYPASS,
                (&raw const on).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        };
        check(set)?;
        let address = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: 0,
            sll_ifindex: index,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        // SAFETY: `address` outlives the call, and the length is its own.
        let bound = unsafe {
            libc::bind(
                fd.as_raw_fd(),
                (&raw const address).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        check(bound)?;
        Ok(Self { fd })
    }

    /// Sends the first [`BATCH_MAX`] of `frames` in order, and returns how many the interface took; at least one, or
    /// an error for the first.
    pub fn send(&self, frames: &[&[u8]]) -> io::Result<usize> {
        let mut parts = [libc::iovec {
            iov_base: ptr::null_mut(),
            iov_len: 0,
        }; BATCH_MAX];
        let count = frames.len().min(BATCH_MAX);
        for (part, frame) in parts.iter_mut().zip(frames) {
            // The kernel only reads what is sent; the field is mutable because receiving uses the same structure.
            part.iov_base = frame.as_ptr().cast_mut().cast();
            part.iov_len = frame.len();
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
        // SAFETY: `count` messages are initialised; each points to one entry of `parts`, which points to a frame that
        // the caller lends; all of them outlive the call, and the kernel keeps no pointer after it.
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

fn interface_index(name: &str) -> io::Result<i32> {
    let name = CString::new(name)?;
    // SAFETY: `name` ends with a NUL and outlives the call.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index as i32),
    }
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_that_is_not_there_is_an_error() {
        assert!(PacketSender::open("nosuchinterface").is_err());
    }
}
