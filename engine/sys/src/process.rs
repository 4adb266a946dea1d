//! This process as the kernel sees it: its capabilities, its parent and children, its pages.
#![expect(
    unsafe_code,
    reason = "prctl(2), sysconf(3) and waitid(2) have no safe interface in std"
)]

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, RawFd};

use caps::errors::CapsError;
use caps::{CapSet, Capability};
use libc::c_ulong;

/// Descriptors that a process may usually have.
const DESCRIPTORS_USUAL: RawFd = 1024;

/// Whether the calling thread has CAP_NET_RAW in effect.
pub fn may_capture() -> bool {
    caps::has_cap(None, CapSet::Effective, Capability::CAP_NET_RAW).unwrap_or(false)
}

/// Puts CAP_NET_RAW into effect where the calling thread may. A file whose capability has no effective bit leaves that to the
/// program; in exchange it can be executed where the bounding set lacks the capability (execve(2), EPERM).
pub fn raise_capability() {
    let permitted = caps::has_cap(None, CapSet::Permitted, Capability::CAP_NET_RAW);
    if !may_capture() && permitted.unwrap_or(false) {
        // If it fails, opening a socket does, and that is reported.
        let _ = caps::raise(None, CapSet::Effective, Capability::CAP_NET_RAW);
    }
}

/// Gives up every capability of the calling thread, for good.
///
/// Threads started later inherit this; those that run already do not. The bounding set is emptied where the thread
/// may do that (CAP_SETPCAP); where it may not, an executed file could only regain what its own file capabilities grant.
pub fn drop_capabilities() -> Result<(), CapsError> {
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP)? {
        caps::clear(None, CapSet::Bounding)?;
    }
    // Kernels before 4.3 have no ambient set.
    if caps::runtime::ambient_set_supported().is_ok() {
        caps::clear(None, CapSet::Ambient)?;
    }
    caps::clear(None, CapSet::Inheritable)?;
    caps::clear(None, CapSet::Effective)?;
    caps::clear(None, CapSet::Permitted)
}

/// Has the kernel send `signal` to this process when the thread that started it ends.
///
/// Does nothing if the parent ended before; compare [`std::os::unix::process::parent_id`] afterwards.
pub fn die_with_parent(signal: i32) -> io::Result<()> {
    // SAFETY: PR_SET_PDEATHSIG takes an integer and touches no memory.
    prctl_done(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal as c_ulong, 0, 0, 0) })
}

/// No program that this thread executes gains privileges, for good.
pub fn no_new_privileges() -> io::Result<()> {
    let on: c_ulong = 1;
    let unused: c_ulong = 0;
    // SAFETY: PR_SET_NO_NEW_PRIVS takes integers and touches no memory.
    prctl_done(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, on, unused, unused, unused) })
}

/// Whether [`no_new_privileges`] holds: file capabilities are ignored then.
pub fn has_no_new_privileges() -> bool {
    let unused: c_ulong = 0;
    // SAFETY: PR_GET_NO_NEW_PRIVS takes integers and touches no memory.
    unsafe { libc::prctl(libc::PR_GET_NO_NEW_PRIVS, unused, unused, unused, unused) == 1 }
}

/// The descriptors of this process that are packet sockets.
pub fn packet_sockets() -> Vec<RawFd> {
    let open: Vec<RawFd> = match std::fs::read_dir("/proc/self/fd") {
        Ok(entries) => entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect(),
        // Without proc(5) all numbers are tried that a process usually may have.
        Err(_) => (0..DESCRIPTORS_USUAL).collect(),
    };
    open.into_iter()
        .filter(|&fd| domain(fd) == Some(libc::AF_PACKET))
        .collect()
}

/// The family of a socket, none of what is none.
fn domain(fd: RawFd) -> Option<i32> {
    let mut domain: libc::c_int = 0;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: `domain` and `length` outlive the call, and `length` is the size of `domain`. A number that is no open socket
    // is an error.
    let done = unsafe {
        libc::getsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_DOMAIN,
            (&raw mut domain).cast(),
            &raw mut length,
        )
    };
    (done == 0).then_some(domain)
}

/// The number of the process that connected this Unix socket (`SO_PEERCRED`, unix(7)), as this process sees it: 0 if it is of a
/// PID namespace that is not below this one's. None for what is no such socket.
///
/// Not by rustix, whose type for it has no value for 0.
pub fn peer(socket: BorrowedFd<'_>) -> Option<u32> {
    let mut peer = libc::ucred {
        pid: 0,
        uid: 0,
        gid: 0,
    };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: `peer` and `length` outlive the call, and `length` is the size of `peer`.
    let done = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &raw mut length,
        )
    };
    (done == 0).then(|| u32::try_from(peer.pid).ok()).flatten()
}

/// Becomes this user and this group, without further groups, in every sense and for good; keeps the permitted
/// capabilities, none of them in effect.
///
/// # Errors
///
/// The thread lacks CAP_SETUID or CAP_SETGID, or the user may have no more processes.
pub fn become_user(user: u32, group: u32) -> io::Result<()> {
    let (on, unused): (c_ulong, c_ulong) = (1, 0);
    // SAFETY: PR_SET_KEEPCAPS takes integers and touches no memory.
    prctl_done(unsafe { libc::prctl(libc::PR_SET_KEEPCAPS, on, unused, unused, unused) })?;
    // SAFETY: a list of no groups has no pointer.
    let mut done = unsafe { libc::setgroups(0, std::ptr::null()) } == 0;
    // SAFETY: takes integers and touches no memory.
    done = done && unsafe { libc::setresgid(group, group, group) } == 0;
    // SAFETY: takes integers and touches no memory.
    done = done && unsafe { libc::setresuid(user, user, user) } == 0;
    if done {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Whether this is the first process of its container, which the kernel makes the parent of every process there whose own
/// parent has ended: of a health check that was given up, for example.
pub fn is_first() -> bool {
    std::process::id() == 1
}

/// Has the kernel remove children as they end, for good; nobody learns how they ended.
///
/// # Errors
///
/// The kernel refuses it, which it has no reason to.
pub fn forget_children() -> io::Result<()> {
    // SAFETY: SIG_IGN is no function that could be called.
    if unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) } == libc::SIG_ERR {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Removes children that have ended, up to the first of these, which somebody waits for.
pub fn forget_other_children(waited_for: &[u32]) {
    loop {
        let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        // SAFETY: all octets may be zero in what is a struct of integers.
        let mut found: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: `found` outlives the call.
        if unsafe { libc::waitid(libc::P_ALL, 0, &raw mut found, flags) } != 0 {
            return;
        }
        // SAFETY: waitid has filled in the fields of a child, or left zeros where none has ended.
        let child = unsafe { found.si_pid() };
        if child == 0
            || waited_for
                .iter()
                .any(|&pid| i64::from(pid) == i64::from(child))
        {
            return;
        }
        // SAFETY: without a place for the status nothing is written.
        unsafe { libc::waitpid(child, std::ptr::null_mut(), libc::WNOHANG) };
    }
}

/// Bytes of a page on this machine: 4 KiB mostly, 16 or 64 KiB on some ARM kernels.
pub fn page_bytes() -> usize {
    // SAFETY: takes an integer and touches no memory.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(bytes)
        .ok()
        .filter(|bytes| bytes.is_power_of_two())
        .unwrap_or(1 << 16)
}

fn prctl_done(result: i32) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsFd as _, AsRawFd as _};

    use super::*;
    use crate::packet::{OpenError, RingOptions, RxRing};

    #[test]
    fn without_capabilities_no_ring_opens_and_the_error_says_why() {
        std::thread::spawn(|| {
            drop_capabilities().unwrap();
            assert!(!may_capture());
            assert_eq!(
                RxRing::open("lo", &RingOptions::default()).err(),
                Some(OpenError::NoCapability)
            );
        })
        .join()
        .unwrap();
    }

    #[test]
    fn only_packet_sockets_are_found() {
        let other = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let ring = RxRing::open("lo", &RingOptions::default());
        let found = packet_sockets();
        assert!(!found.contains(&other.as_raw_fd()));
        // Without the capability there is none.
        if let Ok(ring) = ring {
            let descriptor = ring.as_fd().as_raw_fd();
            assert!(found.contains(&descriptor), "{found:?}");
            // No other file gets it when the ring is closed: the lowest that is free is given.
            assert!(descriptor >= 512, "{descriptor}");
        }
    }

    #[test]
    fn no_new_privileges_holds_for_the_thread() {
        std::thread::spawn(|| {
            no_new_privileges().unwrap();
            assert!(has_no_new_privileges());
        })
        .join()
        .unwrap();
    }
}
