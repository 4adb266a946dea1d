//! Confinement of system calls by seccomp(2), for all threads at once.
//!
//! Three filters are installed, of which the strictest result counts (seccomp(2), "if multiple filters exist"):
//!
//! 1. The calls that the process needs are allowed, some of them with certain arguments only. Any other call fails with
//!    EPERM and the process goes on: a newer C library tries a new call first and, when it fails, uses the old one.
//! 2. The calls that no part of this program and no library under it ever makes (run a program, trace, mount, load a
//!    module, change the user) end the process: only an attacker who has taken it over makes them, and should not get a
//!    second attempt.
//! 3. clone3(2) fails with ENOSYS, since its flags are in memory where a filter cannot read them. The C library then uses
//!    clone(2), which is allowed for threads of this process only: no child, no namespace.
//!
//! The list of calls is what strace(1) shows of the integration tests, with those that another C library may use instead.
//! The kernel keeps a bitmap of calls that are allowed with any arguments (Linux 5.11), so those cost almost nothing.
//!
//! Landlock confines the connecting of plain TCP sockets and no other way to another program, so the rest is refused here:
//!
//! - Sockets are made by family, type and protocol. UDP is left to the process that looks up names, Unix sockets to the one that connects to that
//!   of a capture URL and passes the connections over a socket that it shares with the capture. The capture
//!   of an all-in-one makes pairs of them, which reach nothing that has a name, and passes one of each to its supervisor: over
//!   standard input alone, and the supervisor passes on only what is such a socket.
//! - No send may connect (TCP Fast Open), which landlock does not see, and no option turns a TCP socket into another kind.
//! - Nothing is sent from a packet socket, which would put any frame on the wire. The descriptors of those sockets are known
//!   when the filter is made, and no descriptor can be given another number or passed to another process but the supervisor.
//! - io_uring bypasses seccomp, since its operations are no system calls. The ring that exists may be used, which takes
//!   only operations that send nothing and make no descriptor (`engine_sys::driver`), and no other ring may be made.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::os::fd::RawFd;

use engine_sys::process::packet_sockets;
use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

use super::plan::{Plan, Role};

/// Whether system calls are filtered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Calls {
    /// Filtered.
    On,
    /// Not filtered, and why.
    Off(String),
}

impl fmt::Display for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::On => f.write_str("seccomp on"),
            Self::Off(why) => write!(f, "seccomp off ({why})"),
        }
    }
}

impl Plan {
    /// Takes every system call that this role does not need from all threads of this process, for good.
    pub fn confine_calls(&self) -> Calls {
        let installed = self.programs().and_then(|programs| {
            let install = |program| {
                seccompiler::apply_filter_all_threads(program).map_err(|error| error.to_string())
            };
            programs.iter().try_for_each(|program| install(program))
        });
        match installed {
            Ok(()) => Calls::On,
            Err(why) => Calls::Off(why),
        }
    }

    /// The filter of allowed calls last, since it refuses seccomp(2) itself.
    fn programs(&self) -> Result<[BpfProgram; 3], String> {
        let always = |calls: &[c_long]| calls.iter().map(|&call| (call, Vec::new())).collect();
        Ok([
            program(
                always(HOSTILE),
                SeccompAction::Allow,
                SeccompAction::KillProcess,
            )?,
            program(
                always(&[libc::SYS_clone3]),
                SeccompAction::Allow,
                SeccompAction::Errno(libc::ENOSYS.unsigned_abs()),
            )?,
            program(
                self.allowed()?,
                SeccompAction::Errno(libc::EPERM.unsigned_abs()),
                SeccompAction::Allow,
            )?,
        ])
    }

    fn allowed(&self) -> Result<Rules, String> {
        let sets: &[&[c_long]] = match self.role {
            Role::Capture => &[EVERY_ROLE, SOCKETS_IN_USE, NEW_SOCKETS, REMOVING],
            Role::Resolver => &[EVERY_ROLE, SOCKETS_IN_USE, NEW_SOCKETS, NAMES],
            Role::Connector => &[EVERY_ROLE, CONNECTING],
            Role::Store => &[EVERY_ROLE, SOCKETS_IN_USE, WRITING, REMOVING],
            Role::Reader => &[EVERY_ROLE],
        };
        let further: &[&[c_long]] = match self.role {
            Role::Capture if !self.write.is_empty() => &[SPOOLING],
            Role::Store if !self.connect.is_empty() => &[CONNECTING],
            _ => &[],
        };
        let mut rules: Rules = (sets.iter().chain(further))
            .flat_map(|calls| calls.iter().map(|&call| (call, Vec::new())))
            .collect();
        if self.uses_uring {
            rules.insert(libc::SYS_io_uring_enter, Vec::new());
        }
        // The filter that answers ENOSYS handles it.
        rules.insert(libc::SYS_clone3, Vec::new());
        let thread = libc::CLONE_THREAD as u64;
        rules.insert(
            libc::SYS_clone,
            vec![rule([condition(
                0,
                SeccompCmpOp::MaskedEq(thread),
                thread,
            )?])?],
        );
        // Limits may be read, not set.
        rules.insert(
            libc::SYS_prlimit64,
            vec![rule([condition(2, SeccompCmpOp::Eq, 0)?])?],
        );
        let ourselves = u64::from(std::process::id());
        for call in [libc::SYS_kill, libc::SYS_tgkill] {
            rules.insert(call, one_of(0, [ourselves])?);
        }
        rules.insert(libc::SYS_prctl, one_of(0, PRCTLS.map(u64::from))?);
        rules.insert(libc::SYS_ioctl, one_of(1, IOCTLS)?);
        let mut commands = one_of(1, FCNTLS.map(|command| command as u64))?;
        if self.role != Role::Capture {
            commands.extend(one_of(1, MORE_FCNTLS.map(|command| command as u64))?);
        }
        rules.insert(libc::SYS_fcntl, commands);
        match self.role {
            Role::Reader => return Ok(rules),
            Role::Connector => {
                rules.insert(libc::SYS_socket, vec![of_unix_streams()?]);
                rules.insert(libc::SYS_sendmsg, vec![over_standard_input()?]);
                return Ok(rules);
            }
            Role::Capture | Role::Resolver | Role::Store => {}
        }
        self.sockets(&mut rules)?;
        Ok(rules)
    }

    /// The calls on sockets, by their arguments.
    fn sockets(&self, rules: &mut Rules) -> Result<(), String> {
        let kinds: &[(i32, &[i32])] = match self.role {
            Role::Capture => &[(libc::SOCK_STREAM, &[0, libc::IPPROTO_TCP])],
            Role::Resolver => &[
                (libc::SOCK_STREAM, &[0, libc::IPPROTO_TCP]),
                (libc::SOCK_DGRAM, &[0, libc::IPPROTO_UDP]),
            ],
            Role::Store if !self.connect.is_empty() => {
                &[(libc::SOCK_STREAM, &[0, libc::IPPROTO_TCP])]
            }
            Role::Store | Role::Reader | Role::Connector => &[],
        };
        let mut made = Vec::new();
        for family in [libc::AF_INET, libc::AF_INET6] {
            for &(kind, protocols) in kinds {
                for &protocol in protocols {
                    made.push(rule([
                        condition(0, SeccompCmpOp::Eq, family as u64)?,
                        condition(1, SeccompCmpOp::MaskedEq(KIND_OF_SOCKET), kind as u64)?,
                        condition(2, SeccompCmpOp::Eq, protocol as u64)?,
                    ])?);
                }
            }
        }
        if !made.is_empty() {
            if self.role != Role::Store {
                // The list of interfaces and of our own addresses; no other netlink family is allowed.
                made.push(rule([
                    condition(0, SeccompCmpOp::Eq, libc::AF_NETLINK as u64)?,
                    condition(2, SeccompCmpOp::Eq, libc::NETLINK_ROUTE as u64)?,
                ])?);
            }
            rules.insert(libc::SYS_socket, made);
        }

        let connects = || condition(3, SeccompCmpOp::MaskedEq(FAST_OPEN), 0);
        let senders = match self.role {
            Role::Capture => others_than(&packet_sockets()),
            _ => vec![0..=u32::MAX],
        };
        let mut sending = Vec::new();
        let mut writing = Vec::new();
        for range in &senders {
            let [first, last] = within(range)?;
            sending.push(rule([first, last, connects()?])?);
            writing.push(rule(within(range)?)?);
        }
        rules.insert(libc::SYS_sendto, sending);
        if self.role == Role::Capture {
            rules.insert(libc::SYS_write, writing.clone());
            rules.insert(libc::SYS_writev, writing);
        }
        if self.role == Role::Resolver {
            rules.insert(libc::SYS_sendmmsg, vec![rule([connects()?])?]);
        }

        let mut options = one_of(1, [libc::SOL_SOCKET as u64])?;
        let more: &[i32] = match self.role {
            // Of rings, and of the sockets that become one later.
            Role::Capture => &[libc::SOL_PACKET, libc::SOL_NETLINK],
            // Errors of datagrams.
            Role::Resolver => &[libc::SOL_IP, libc::SOL_IPV6, libc::SOL_NETLINK],
            Role::Store | Role::Reader | Role::Connector => &[],
        };
        options.extend(one_of(1, more.iter().map(|&level| level as u64))?);
        options.push(rule([
            condition(1, SeccompCmpOp::Eq, libc::SOL_TCP as u64)?,
            condition(2, SeccompCmpOp::Eq, libc::TCP_NODELAY as u64)?,
        ])?);
        rules.insert(libc::SYS_setsockopt, options);

        if self.makes_socket_pairs {
            rules.insert(libc::SYS_socketpair, vec![of_unix_streams()?]);
            rules.insert(libc::SYS_sendmsg, vec![over_standard_input()?]);
        }
        if !self.connections_over.is_empty() {
            let over = self
                .connections_over
                .iter()
                .map(|fd| u64::from(fd.unsigned_abs()));
            rules.insert(libc::SYS_recvmsg, one_of(0, over)?);
        }
        if self.takes_connections {
            rules.insert(libc::SYS_recvmsg, one_of(0, [SUPERVISOR])?);
        }
        Ok(())
    }
}

/// That a socket, or a pair, is of Unix streams.
fn of_unix_streams() -> Result<SeccompRule, String> {
    let stream = libc::SOCK_STREAM as u64;
    rule([
        condition(0, SeccompCmpOp::Eq, libc::AF_UNIX as u64)?,
        condition(1, SeccompCmpOp::MaskedEq(KIND_OF_SOCKET), stream)?,
    ])
}

/// That a message goes over standard input, and does not connect.
fn over_standard_input() -> Result<SeccompRule, String> {
    rule([
        condition(0, SeccompCmpOp::Eq, SUPERVISOR)?,
        condition(2, SeccompCmpOp::MaskedEq(FAST_OPEN), 0)?,
    ])
}

/// That the first argument, a descriptor, is in this range.
fn within(range: &RangeInclusive<u32>) -> Result<[SeccompCondition; 2], String> {
    Ok([
        condition(0, SeccompCmpOp::Ge, u64::from(*range.start()))?,
        condition(0, SeccompCmpOp::Le, u64::from(*range.end()))?,
    ])
}

/// All descriptors but these, as ranges.
fn others_than(descriptors: &[RawFd]) -> Vec<RangeInclusive<u32>> {
    let mut left_out: Vec<u32> = descriptors.iter().map(|fd| fd.unsigned_abs()).collect();
    left_out.sort_unstable();
    let mut others = Vec::new();
    let mut next = 0;
    for descriptor in left_out {
        if descriptor > next {
            others.push(next..=descriptor - 1);
        }
        next = descriptor.saturating_add(1);
    }
    others.push(next..=u32::MAX);
    others
}

type Rules = BTreeMap<c_long, Vec<SeccompRule>>;

fn program(
    rules: Rules,
    otherwise: SeccompAction,
    matched: SeccompAction,
) -> Result<BpfProgram, String> {
    let architecture = std::env::consts::ARCH
        .try_into()
        .map_err(|error: seccompiler::BackendError| error.to_string())?;
    SeccompFilter::new(rules, otherwise, matched, architecture)
        .and_then(TryInto::try_into)
        .map_err(|error| error.to_string())
}

fn rule(conditions: impl Into<Vec<SeccompCondition>>) -> Result<SeccompRule, String> {
    SeccompRule::new(conditions.into()).map_err(|error| error.to_string())
}

/// All arguments that are compared are 32 bits wide in the kernel, which ignores the upper half as well.
fn condition(argument: u8, operator: SeccompCmpOp, value: u64) -> Result<SeccompCondition, String> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)
        .map_err(|error| error.to_string())
}

fn one_of(argument: u8, values: impl IntoIterator<Item = u64>) -> Result<Vec<SeccompRule>, String> {
    values
        .into_iter()
        .map(|value| rule([condition(argument, SeccompCmpOp::Eq, value)?]))
        .collect()
}

/// The bits of a socket's type without the flags that may come with it: close-on-exec and non-blocking.
const KIND_OF_SOCKET: u64 = !(libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK) as u32 as u64;

/// Standard input, at whose other end the supervisor is, or the capture of a delegate.
const SUPERVISOR: u64 = 0;

/// The flag of a send that connects as well.
const FAST_OPEN: u64 = libc::MSG_FASTOPEN as u64;

/// Flags of descriptors, and flags of files. None makes another descriptor of the same file.
const FCNTLS: [i32; 4] = [libc::F_GETFD, libc::F_SETFD, libc::F_GETFL, libc::F_SETFL];

/// Locks of files, and copies of descriptors, in a process without a packet socket.
const MORE_FCNTLS: [i32; 7] = [
    libc::F_DUPFD_CLOEXEC,
    libc::F_GETLK,
    libc::F_SETLK,
    libc::F_SETLKW,
    libc::F_OFD_GETLK,
    libc::F_OFD_SETLK,
    libc::F_OFD_SETLKW,
];

/// Names of threads and, by mimalloc, of mappings; the signal at the supervisor's end; and two that only read.
const PRCTLS: [u32; 6] = [
    libc::PR_SET_NAME as u32,
    libc::PR_GET_NAME as u32,
    libc::PR_SET_VMA as u32,
    libc::PR_SET_PDEATHSIG as u32,
    libc::PR_CAPBSET_READ as u32,
    libc::PR_GET_NO_NEW_PRIVS as u32,
];

/// Whether a descriptor is a terminal and how wide, non-blocking mode, close-on-exec, the bytes that can be read, and the
/// index of an interface. The request that types into a terminal (TIOCSTI) is not among them.
#[allow(clippy::unnecessary_cast, reason = "some C libraries have them signed")]
const IOCTLS: [u64; 6] = [
    libc::TCGETS as u64,
    libc::TIOCGWINSZ as u64,
    libc::FIONBIO as u64,
    libc::FIOCLEX as u64,
    libc::FIONREAD as u64,
    libc::SIOCGIFINDEX as u64,
];

/// Memory, threads, time, waiting, open files, and opening files (landlock restricts which).
const EVERY_ROLE: &[c_long] = &[
    libc::SYS_brk,
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_close,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_futex,
    libc::SYS_getcpu,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_gettid,
    libc::SYS_gettimeofday,
    libc::SYS_getuid,
    libc::SYS_lseek,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_nanosleep,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_ppoll,
    libc::SYS_pread64,
    libc::SYS_read,
    libc::SYS_readlinkat,
    libc::SYS_readv,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_sigaltstack,
    libc::SYS_statx,
    libc::SYS_sysinfo,
    libc::SYS_uname,
    libc::SYS_write,
    libc::SYS_writev,
    // musl raises signals with it. It can address a thread of any process; landlock restricts it to this one.
    #[cfg(target_env = "musl")]
    libc::SYS_tkill,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_access,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lstat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_stat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_time,
];

/// Use of existing sockets. Messages with control data, which may pass descriptors on (SCM_RIGHTS), are neither sent nor
/// received.
const SOCKETS_IN_USE: &[c_long] = &[
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_recvfrom,
    libc::SYS_shutdown,
];

/// Use of new sockets, together with `socket`; `bind` is for packet sockets of the reserve and for rtnetlink.
const NEW_SOCKETS: &[c_long] = &[libc::SYS_bind, libc::SYS_connect];

/// Connecting to a Unix socket, or of a store to its database.
const CONNECTING: &[c_long] = &[libc::SYS_connect];

/// What the C library's resolver does besides. Its process has no Unix socket, over which a descriptor could come or go.
const NAMES: &[c_long] = &[libc::SYS_recvmsg, libc::SYS_recvmmsg];

/// Removal of the control socket, or of a file of the database.
const REMOVING: &[c_long] = &[
    libc::SYS_unlinkat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
];

/// Writing a database in its folder.
const WRITING: &[c_long] = &[
    libc::SYS_fallocate,
    libc::SYS_fchmod,
    libc::SYS_fchown,
    libc::SYS_fdatasync,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
];

/// Writing the spool in its folder. None of these writes to a packet socket, which has no position.
const SPOOLING: &[c_long] = &[
    libc::SYS_fchmod,
    libc::SYS_fdatasync,
    libc::SYS_ftruncate,
    libc::SYS_pwrite64,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rename,
];

/// Calls that end the process.
const HOSTILE: &[c_long] = &[
    // Other programs, other processes.
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_pidfd_getfd,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    // Other namespaces and file systems.
    libc::SYS_chroot,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_pivot_root,
    libc::SYS_setns,
    libc::SYS_umount2,
    libc::SYS_unshare,
    // The kernel itself.
    libc::SYS_add_key,
    libc::SYS_bpf,
    libc::SYS_delete_module,
    libc::SYS_finit_module,
    libc::SYS_init_module,
    #[cfg(not(all(target_env = "musl", target_arch = "aarch64")))]
    libc::SYS_kexec_file_load,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_perf_event_open,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_userfaultfd,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_modify_ldt,
    // Another user.
    libc::SYS_setfsgid,
    libc::SYS_setfsuid,
    libc::SYS_setgid,
    libc::SYS_setgroups,
    libc::SYS_setregid,
    libc::SYS_setresgid,
    libc::SYS_setresuid,
    libc::SYS_setreuid,
    libc::SYS_setuid,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_fork,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_vfork,
];

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn every_role_has_a_filter_and_nothing_hostile_is_allowed() {
        let store = Plan::store(&PathBuf::from("/nowhere"), true);
        for role in [
            Role::Capture,
            Role::Resolver,
            Role::Connector,
            Role::Store,
            Role::Reader,
        ] {
            let plan = Plan {
                role,
                uses_uring: true,
                ..store.clone()
            };
            assert!(plan.programs().is_ok(), "{role:?}");
            let allowed = plan.allowed().unwrap();
            assert!(HOSTILE.iter().all(|call| !allowed.contains_key(call)));
            assert!(!allowed.contains_key(&libc::SYS_io_uring_setup));
            let opens_sockets = allowed.contains_key(&libc::SYS_socket);
            let may = matches!(role, Role::Capture | Role::Resolver | Role::Connector);
            assert_eq!(opens_sockets, may, "{role:?}");
        }
        let mut with_backend = store;
        with_backend.connect_to(8123);
        let allowed = with_backend.allowed().unwrap();
        assert!(
            allowed.contains_key(&libc::SYS_socket) && allowed.contains_key(&libc::SYS_connect)
        );
        assert!(!allowed.contains_key(&libc::SYS_bind));
    }

    #[test]
    fn ranges_leave_descriptors_out() {
        assert_eq!(others_than(&[]), [0..=u32::MAX]);
        assert_eq!(others_than(&[0, 1]), [2..=u32::MAX]);
        assert_eq!(others_than(&[7, 5, 6, 9]), [0..=4, 8..=8, 10..=u32::MAX]);
    }

    #[test]
    fn packet_sockets_with_others_between_them_fit_into_a_filter() {
        // Those that are opened in a row make one range, so hundreds of them do.
        let apart: Vec<RawFd> = (0..40).map(|index| index * 2 + 1).collect();
        let ranges = others_than(&apart);
        assert_eq!(ranges.len(), 41);
        let rules: Vec<SeccompRule> = ranges
            .iter()
            .map(|range| rule(within(range).unwrap()).unwrap())
            .collect();
        let rules =
            [libc::SYS_sendto, libc::SYS_write, libc::SYS_writev].map(|call| (call, rules.clone()));
        let made = program(rules.into(), SeccompAction::Errno(1), SeccompAction::Allow);
        assert!(made.unwrap().len() < 2048, "half of what the kernel takes");
    }
}
