//! This process as the kernel sees it: its capabilities, its parent, its pages.
#![expect(
    unsafe_code,
    reason = "prctl(2) and sysconf(3) have no safe interface in std"
)]

use std::io;

use caps::errors::CapsError;
use caps::{CapSet, Capability};
use libc::c_ulong;

/// Whether the calling thread has CAP_NET_RAW in effect.
pub fn may_capture() -> bool {
    caps::has_cap(None, CapSet::Effective, Capability::CAP_NET_RAW).unwrap_or(false)
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
    fn no_new_privileges_holds_for_the_thread() {
        std::thread::spawn(|| {
            no_new_privileges().unwrap();
            assert!(has_no_new_privileges());
        })
        .join()
        .unwrap();
    }
}
