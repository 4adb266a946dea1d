//! The packet socket under a ring. The crate `afpacket` filters, drains and closes it; it has no ring, so the ring's options
//! are set on its descriptor here.
//!
//! What `afpacket` 0.2.3 leaves open is closed by this type: it is never cloned (its `Clone` closes the descriptor
//! twice), it is not bound by it (it looks the name up on another socket, which a confined process cannot make), close-on-exec
//! is set, and a filter that drops everything stands from the first moment.
#![expect(unsafe_code, reason = "socket options have no safe interface in std")]

use std::fmt;
use std::io::{self, Write};
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

use afpacket::sync::RawPacketStream;
use libc::{
    c_char, c_int, c_void, ifreq, packet_mreq, sock_filter, sock_fprog, sockaddr_ll, socklen_t,
    tpacket_req3, tpacket_stats_v3,
};

use super::bpf::{INSTRUCTIONS_MAX, Instruction};
use super::filter;
use crate::process;

/// Why no ring could be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// Refused, and this process lacks CAP_NET_RAW.
    NoCapability,
    /// Refused although this process has CAP_NET_RAW: seccomp, a security module, or another user namespace's network.
    Forbidden,
    /// There is no interface of that name.
    NoSuchInterface,
    /// The interface is administratively down.
    InterfaceDown,
    /// The kernel has not enough memory for the ring.
    NoMemory,
    /// Anything else.
    Other {
        /// What was being done.
        step: &'static str,
        /// The kernel's error number; 0 if it gave none.
        errno: i32,
    },
}

impl OpenError {
    pub(super) fn from(step: &'static str, error: &io::Error) -> Self {
        match error.raw_os_error().unwrap_or(0) {
            libc::EPERM | libc::EACCES if process::may_capture() => Self::Forbidden,
            libc::EPERM | libc::EACCES => Self::NoCapability,
            libc::ENODEV | libc::ENXIO => Self::NoSuchInterface,
            libc::ENETDOWN => Self::InterfaceDown,
            libc::ENOMEM | libc::ENOBUFS => Self::NoMemory,
            errno => Self::Other { step, errno },
        }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NoCapability => {
                f.write_str("may not open a packet socket: this process lacks CAP_NET_RAW")
            }
            Self::Forbidden => f.write_str("packet socket refused although CAP_NET_RAW is present"),
            Self::NoSuchInterface => f.write_str("no such interface"),
            Self::InterfaceDown => f.write_str("the interface is down"),
            Self::NoMemory => f.write_str("not enough memory for the ring"),
            Self::Other { step, errno } => {
                write!(f, "{step}: {}", io::Error::from_raw_os_error(errno))
            }
        }
    }
}

impl std::error::Error for OpenError {}

/// What happened to the interface under a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It went down. The same ring delivers again once it is up.
    InterfaceDown,
    /// It was deleted. The ring will never deliver again: open a new one when the name returns.
    InterfaceGone,
    /// Another error of the socket, by number.
    Other(i32),
}

/// Index that the kernel gives a socket whose interface was deleted (`packet_notifier`, `net/packet/af_packet.c`).
const IFINDEX_GONE: i32 = -1;

/// Numbers of packet sockets start here, above those of all other files of this process: the kernel gives the lowest that
/// is free. Half of what a process usually may have.
const DESCRIPTOR_MIN: RawFd = 512;

/// A packet socket that drops everything until [`Self::set_filter`].
pub(super) struct Socket(RawPacketStream);

impl Socket {
    pub(super) fn open() -> Result<Self, OpenError> {
        let fd = make(libc::ETH_P_ALL as u16)?;
        // If there are so many that no high number is left, one in use is better than none.
        let fd = raised(&fd).unwrap_or(fd);
        Self::of(fd)
    }

    /// A socket that is bound to nothing: without a protocol the kernel gives it no frame at all, so that it costs
    /// nothing until it is used.
    pub(super) fn unbound() -> Result<Self, OpenError> {
        let fd = make(0)?;
        Self::of(raised(&fd).map_err(|error| OpenError::from("opening a packet socket", &error))?)
    }

    /// Lets nothing in.
    fn of(fd: OwnedFd) -> Result<Self, OpenError> {
        // SAFETY: the descriptor is open, and nobody else owns it.
        let mut socket = Self(unsafe { RawPacketStream::from_raw_fd(fd.into_raw_fd()) });
        socket
            .0
            .set_bpf_filter(filter::assemble(false, filter::DROP_ALL))
            .map_err(|error| OpenError::from("attaching a filter", &error))?;
        // What came between opening and the filter, from whatever interface.
        socket.0.drain();
        Ok(socket)
    }

    /// Makes the socket a TPACKET_V3 receive ring of this shape.
    pub(super) fn make_ring(&self, request: &tpacket_req3) -> Result<(), OpenError> {
        let version = libc::tpacket_versions::TPACKET_V3 as c_int;
        self.set(libc::PACKET_VERSION, &version)
            .map_err(|error| OpenError::from("asking for TPACKET_V3", &error))?;
        self.set(libc::PACKET_RX_RING, request)
            .map_err(|error| OpenError::from("making the ring", &error))
    }

    /// Receives from `interface` alone.
    pub(super) fn bind(&mut self, interface: &str) -> Result<(), OpenError> {
        let step = "binding to the interface";
        let index = self.index(interface)?;
        // SAFETY: all bytes zero are a valid value of this structure of numbers.
        let mut address: sockaddr_ll = unsafe { mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
        address.sll_ifindex = index;
        // SAFETY: the descriptor is open, and the address is as long as its length says.
        let bound = unsafe {
            libc::bind(
                self.0.as_raw_fd(),
                (&raw const address).cast(),
                size_of::<sockaddr_ll>() as socklen_t,
            )
        };
        if bound != 0 {
            return Err(OpenError::from(step, &io::Error::last_os_error()));
        }
        // The kernel binds to an interface that is down and only leaves an error in the socket.
        match self.take_error() {
            0 => Ok(()),
            errno => Err(OpenError::from(step, &io::Error::from_raw_os_error(errno))),
        }
    }

    pub(super) fn set_promiscuous(&mut self, interface: &str) -> Result<(), OpenError> {
        // SAFETY: all bytes zero are a valid value of this structure of numbers.
        let mut membership: packet_mreq = unsafe { mem::zeroed() };
        membership.mr_ifindex = self.index(interface)?;
        membership.mr_type = libc::PACKET_MR_PROMISC as u16;
        self.set(libc::PACKET_ADD_MEMBERSHIP, &membership)
            .map_err(|error| OpenError::from("entering promiscuous mode", &error))
    }

    /// The index of an interface. This socket itself is used to look it up: a confined process may not open another one, as
    /// if_nametoindex(3) does.
    fn index(&self, interface: &str) -> Result<c_int, OpenError> {
        if interface.is_empty() || interface.len() >= libc::IFNAMSIZ || interface.contains('\0') {
            return Err(OpenError::NoSuchInterface);
        }
        // SAFETY: all bytes zero are a valid value of this structure.
        let mut request: ifreq = unsafe { mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes()) {
            *to = from as c_char;
        }
        // SAFETY: the descriptor is open, and the request holds a name that ends with a zero byte.
        let found =
            unsafe { libc::ioctl(self.0.as_raw_fd(), libc::SIOCGIFINDEX, &raw mut request) };
        if found != 0 {
            return Err(OpenError::from(
                "finding the interface",
                &io::Error::last_os_error(),
            ));
        }
        // SAFETY: the kernel has written the index.
        Ok(unsafe { request.ifr_ifru.ifru_ifindex })
    }

    /// Replaces the filter, in one step, by `program`, preceded by a check that drops what this host sends.
    pub(super) fn set_filter(
        &mut self,
        drop_outgoing: bool,
        program: &[Instruction],
    ) -> io::Result<()> {
        let program = filter::assemble(drop_outgoing, program);
        if program.is_empty() || program.len() > INSTRUCTIONS_MAX {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.0.set_bpf_filter(program)
    }

    /// From now on neither the filter nor a fanout program can be replaced, by whoever has this socket.
    pub(super) fn lock_filter(&self) -> io::Result<()> {
        let on: c_int = 1;
        self.set_at(libc::SOL_SOCKET, libc::SO_LOCK_FILTER, &on)
    }

    /// Joins or forms a fanout group; the bits of `group` are those of `PACKET_FANOUT`.
    pub(super) fn join_fanout(&self, group: u32) -> io::Result<()> {
        self.set(libc::PACKET_FANOUT, &(group as c_int))
    }

    /// The value of `PACKET_FANOUT`: the group's number in the low 16 bits, its mode and flags in the high ones; 0 without a
    /// group.
    pub(super) fn fanout(&self) -> io::Result<u32> {
        let mut group: c_int = 0;
        let mut length = size_of::<c_int>() as socklen_t;
        // SAFETY: `group` and `length` outlive the call, and `length` is the size of `group`.
        let done = unsafe {
            libc::getsockopt(
                self.0.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_FANOUT,
                (&raw mut group).cast::<c_void>(),
                &raw mut length,
            )
        };
        if done < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(group as u32)
        }
    }

    /// Gives the group of this socket its program.
    pub(super) fn set_fanout_program(&self, program: &[Instruction]) -> io::Result<()> {
        if program.is_empty() || program.len() > INSTRUCTIONS_MAX {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut program: Vec<sock_filter> = program
            .iter()
            .map(|instruction| sock_filter {
                code: instruction.code,
                jt: instruction.jump_true,
                jf: instruction.jump_false,
                k: instruction.k,
            })
            .collect();
        let described = sock_fprog {
            len: program.len() as u16,
            filter: program.as_mut_ptr(),
        };
        // SAFETY: `described` outlives the call and the length is its size; it points to `program`, which has `len`
        // instructions, outlives the call too, and is only read.
        let done = unsafe {
            libc::setsockopt(
                self.0.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_FANOUT_DATA,
                (&raw const described).cast::<c_void>(),
                size_of::<sock_fprog>() as socklen_t,
            )
        };
        if done < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }

    /// Sends a frame, link-layer header included, over the bound interface.
    pub(super) fn send(&mut self, frame: &[u8]) -> io::Result<()> {
        self.0.write(frame).map(drop)
    }

    /// Counts since the last call: the kernel resets them when they are read.
    pub(super) fn take_statistics(&self) -> io::Result<tpacket_stats_v3> {
        let mut statistics = MaybeUninit::<tpacket_stats_v3>::zeroed();
        let mut length = size_of::<tpacket_stats_v3>() as socklen_t;
        // SAFETY: `statistics` and `length` outlive the call, and `length` is the size of `statistics`.
        let done = unsafe {
            libc::getsockopt(
                self.0.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                statistics.as_mut_ptr().cast::<c_void>(),
                &raw mut length,
            )
        };
        if done < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: zeroes are a valid value of this structure of integers, and the kernel wrote at most its size.
        Ok(unsafe { statistics.assume_init() })
    }

    /// Takes the pending error out of the socket; returns what it means for the ring.
    pub(super) fn trouble(&self) -> Option<Trouble> {
        let errno = self.take_error();
        if self.interface_index() == IFINDEX_GONE {
            return Some(Trouble::InterfaceGone);
        }
        match errno {
            0 => None,
            libc::ENETDOWN => Some(Trouble::InterfaceDown),
            errno => Some(Trouble::Other(errno)),
        }
    }

    fn take_error(&self) -> c_int {
        let mut errno: c_int = 0;
        let mut length = size_of::<c_int>() as socklen_t;
        // SAFETY: `errno` and `length` outlive the call, and `length` is the size of `errno`.
        unsafe {
            libc::getsockopt(
                self.0.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_ERROR,
                (&raw mut errno).cast::<c_void>(),
                &raw mut length,
            )
        };
        errno
    }

    /// Index of the bound interface; 0 if the kernel does not report it.
    pub(super) fn interface_index(&self) -> i32 {
        let mut address = MaybeUninit::<sockaddr_ll>::zeroed();
        let mut length = size_of::<sockaddr_ll>() as socklen_t;
        // SAFETY: `address` and `length` outlive the call, and `length` is the size of `address`.
        unsafe {
            libc::getsockname(
                self.0.as_raw_fd(),
                address.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        // SAFETY: zeroes are a valid value of this structure of integers, and the kernel wrote at most its size.
        let address = unsafe { address.assume_init() };
        address.sll_ifindex
    }

    /// Sets a packet option whose value is plain data without pointers.
    fn set<T: PlainOption>(&self, option: c_int, value: &T) -> io::Result<()> {
        self.set_at(libc::SOL_PACKET, option, value)
    }

    fn set_at<T: PlainOption>(&self, level: c_int, option: c_int, value: &T) -> io::Result<()> {
        // SAFETY: `value` outlives the call, the length is its size, and `PlainOption` holds no pointer.
        let done = unsafe {
            libc::setsockopt(
                self.0.as_raw_fd(),
                level,
                option,
                (&raw const *value).cast::<c_void>(),
                size_of::<T>() as socklen_t,
            )
        };
        if done < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }
}

/// A packet socket for frames of this protocol, as the host writes its number.
fn make(protocol: u16) -> Result<OwnedFd, OpenError> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // SAFETY: takes integers and touches no memory.
    let fd = unsafe { libc::socket(libc::AF_PACKET, kind, protocol.to_be().into()) };
    if fd < 0 {
        let error = io::Error::last_os_error();
        return Err(OpenError::from("opening a packet socket", &error));
    }
    // SAFETY: the call succeeded, so `fd` is open and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The same socket under a high number, which no other file gets once this one is closed: a filter of system calls may refuse
/// to send from it by its number.
fn raised(fd: &OwnedFd) -> io::Result<OwnedFd> {
    // SAFETY: the descriptor is open; F_DUPFD_CLOEXEC takes an integer.
    let high = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, DESCRIPTOR_MIN) };
    if high < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so `high` is open and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(high) })
}

/// Values the kernel may read as they are: integers only, no padding, no pointer.
trait PlainOption: Copy {}
impl PlainOption for c_int {}
impl PlainOption for tpacket_req3 {}
impl PlainOption for packet_mreq {}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the stream owns its descriptor and closes it only when dropped, which `self` outlives.
        unsafe { BorrowedFd::borrow_raw(self.0.as_raw_fd()) }
    }
}
