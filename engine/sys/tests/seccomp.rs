//! Where io_uring is refused, as by Docker's default seccomp profile, the driver falls back and reports why.
#![allow(unsafe_code, reason = "a thread gets a seccomp filter with prctl(2)")]

use std::sync::Arc;
use std::time::Duration;

use engine_sys::driver::{Choice, Driver, Kind};
use engine_sys::event::EventFd;
use engine_sys::process;

/// From now on io_uring_setup(2) fails with `errno` on this thread.
fn refuse_io_uring(errno: i32) {
    process::no_new_privileges().unwrap();
    let statement = |code: u32, k: u32| libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf: 0,
        k,
    };
    let mut program = [
        // The number of the system call stands first in `struct seccomp_data`.
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0),
        libc::sock_filter {
            code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
            jt: 0,
            jf: 1,
            k: libc::SYS_io_uring_setup as u32,
        },
        statement(
            libc::BPF_RET | libc::BPF_K,
            libc::SECCOMP_RET_ERRNO | errno as u32,
        ),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: `program` and what it points to outlive the call, which copies them.
    let done = unsafe {
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER as libc::c_ulong,
            &raw const program,
        )
    };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
}

#[track_caller]
fn check(errno: i32) {
    let tried = std::thread::spawn(move || {
        refuse_io_uring(errno);
        let event = Arc::new(EventFd::new().unwrap());
        assert!(Driver::open(Choice::Uring, event.clone()).is_err());
        let mut driver = Driver::open(Choice::Auto, event.clone()).unwrap();
        assert_eq!(
            driver.kind(),
            Kind::Epoll {
                refused: Some(errno)
            }
        );
        event.set();
        assert!(
            driver
                .wait(Some(Duration::from_secs(5)), &mut Vec::new())
                .unwrap(),
            "it works"
        );
    });
    tried.join().unwrap();
}

#[test]
fn a_refused_io_uring_is_replaced_by_epoll() {
    check(libc::EPERM);
    check(libc::ENOSYS);
}
