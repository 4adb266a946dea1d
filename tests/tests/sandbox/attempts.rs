//! The attempts: a process that confines itself as one of the program's own, and then tries one thing after the other.
#![expect(
    unsafe_code,
    reason = "forbidden system calls have no safe interface, which is as it should be"
)]

use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd as _, FromRawFd as _, IntoRawFd as _, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::{env, fs, thread};

use anyhow::Result;
use engine_sys::driver::{Choice, Driver};
use engine_sys::event::EventFd;
use sniffer::config::settings::row;
use sniffer::config::{self, environment};
use sniffer::random;
use sniffer::sandbox::{Confinement, Plan};
use sniffer::sink::Sinks;
use tempfile::TempDir;
use tests::process::PATIENCE;

/// Of `<linux/socket.h>`; the C library has no name for it.
const AF_SMC: i32 = 43;

/// The plan, the attempt, and the folder and ports that both name.
const TRY: &str = "SANDBOX_TRY";

/// Before the number of an attempt's end.
const ENDED: &str = "SANDBOX_ENDED ";

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Worked,
    Failed(i32),
    Killed,
}

/// What the attempts under one plan have in common: a folder with a file that may be read, and two listeners.
pub(super) struct Ground {
    folder: TempDir,
    allowed: TcpListener,
    other: TcpListener,
    _unix: UnixListener,
    _datagrams: UnixDatagram,
}

impl Ground {
    pub(super) fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        fs::create_dir(folder.path().join("ours"))?;
        fs::write(folder.path().join("ours/file"), "include debug\n")?;
        fs::write(folder.path().join("secret"), "secret")?;
        Ok(Self {
            allowed: TcpListener::bind("127.0.0.1:0")?,
            other: TcpListener::bind("127.0.0.1:0")?,
            _unix: UnixListener::bind(folder.path().join("unix"))?,
            _datagrams: UnixDatagram::bind(folder.path().join("datagrams"))?,
            folder,
        })
    }

    /// Does `whats`, one after the other, in a process that has confined itself as `role`, and gives how each ended. One
    /// that ends the process is the last.
    pub(super) fn attempt(&self, role: &str, whats: &[&str]) -> Result<Vec<End>> {
        let ports = [&self.allowed, &self.other].map(TcpListener::local_addr);
        let [allowed, other] = ports.map(|address| address.map(|address| address.port()));
        let words = [
            role.to_owned(),
            whats.join(";"),
            self.folder.path().display().to_string(),
            allowed?.to_string(),
            other?.to_string(),
        ];
        let output = Command::new(env::current_exe()?)
            .args([
                "--exact",
                "sandbox::attempts::one_try",
                "--ignored",
                "--nocapture",
            ])
            .env(TRY, words.join("|"))
            .output()?;
        let failure = || format!("{role} {whats:?}: {output:?}");
        let text = String::from_utf8_lossy(&output.stdout);
        let ends = text.lines().filter_map(|line| line.strip_prefix(ENDED));
        let mut ends: Vec<End> = ends
            .map(|number| match number.parse() {
                Ok(0) => Ok(End::Worked),
                Ok(code) => Ok(End::Failed(code)),
                Err(_) => Err(anyhow::anyhow!(failure())),
            })
            .collect::<Result<_>>()?;
        if output.status.signal() == Some(libc::SIGSYS) {
            ends.push(End::Killed);
        } else if output.status.code() != Some(0) || ends.len() != whats.len() {
            anyhow::bail!(failure());
        }
        Ok(ends)
    }
}

/// Not a test: [`Ground::attempt`] starts it. Prints 0 for each attempt, or the number of the error.
#[test]
#[ignore = "started by the tests of this module"]
fn one_try() {
    let Ok(words) = env::var(TRY) else { return };
    let words: Vec<&str> = words.split('|').collect();
    let &[role, whats, folder, allowed, other] = words.as_slice() else {
        panic!("{words:?}")
    };
    let folder = Path::new(folder);
    let file = folder.join("ours/file");
    let plan = match role {
        "capture" | "capture of an all-in-one" => {
            let is_embedded = role != "capture";
            let url = format!("https://127.0.0.1:{allowed}/message");
            let rules = format!("file://{}", file.display());
            let pairs = [("USAGE_LOGGERS_URL", &url), ("USAGE_LOGGERS_RULES", &rules)];
            let pairs = pairs.map(|(name, value)| (name.into(), value.into()));
            let (mut values, _) = environment::values(pairs.into_iter(), false).unwrap();
            values.set(row::no_send(), "false");
            let config = config::capture(&values, is_embedded).unwrap();
            let mut plan = Plan::capture(&folder.join("ours/control"));
            // As with a ring that was made before.
            plan.uses_uring = true;
            let identity = random::identity(&config.host).unwrap();
            Sinks::of(&config, &identity).plan(&mut plan);
            plan
        }
        "store" => Plan::store(&folder.join("ours"), false),
        "reader" => Plan::reader(std::slice::from_ref(&file), false),
        "resolver" => Plan::resolver(),
        "connector" => Plan::connector(),
        "rules" => Plan::files(std::slice::from_ref(&file)),
        _ => panic!("{role}"),
    };
    let mut before = Before::open();
    let confinement = Confinement::of(&plan);
    let shown = confinement.to_string();
    assert!(
        shown.contains("landlock ABI") && shown.contains("seccomp on"),
        "{shown}"
    );
    for what in whats.split(';') {
        let done = attempt(what, folder, allowed, other, &mut before);
        // 100 is for what is no error of the kernel.
        let number = done.map_or_else(|error| error.raw_os_error().unwrap_or(100), |()| 0);
        println!("\n{ENDED}{number}");
    }
    std::process::exit(0);
}

/// What a process has from before it was confined.
struct Before {
    driver: Driver,
    packet: OwnedFd,
    stream: TcpStream,
    unix: UnixStream,
    _listener: TcpListener,
}

impl Before {
    fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let event = Arc::new(EventFd::new().unwrap());
        let packet = call(
            libc::SYS_socket,
            [libc::AF_PACKET.into(), libc::SOCK_RAW.into(), 0, 0, 0, 0],
        );
        let packet = packet.expect("the tests run as root") as i32;
        Self {
            driver: Driver::open(Choice::Uring, event).unwrap(),
            // SAFETY: the call succeeded, and nobody else has the descriptor.
            packet: unsafe { OwnedFd::from_raw_fd(packet) },
            stream: TcpStream::connect(listener.local_addr().unwrap()).unwrap(),
            unix: UnixStream::pair().unwrap().0,
            _listener: listener,
        }
    }
}

/// Connects by the ring.
fn connect_by_ring(driver: &mut Driver, port: u16) -> io::Result<()> {
    let to = SocketAddr::from(([127, 0, 0, 1], port));
    let socket = driver.socket(to)?;
    driver.connect(&socket, to);
    let mut completed = Vec::new();
    while completed.is_empty() {
        driver.wait(Some(PATIENCE), &mut completed)?;
    }
    completed.remove(0).result.map(drop)
}

/// Sends a byte to a port of this machine, with these flags, over a new socket.
fn send(kind: i32, protocol: i32, flags: i32, port: u16) -> io::Result<()> {
    let socket = socket(libc::AF_INET, kind, protocol)?;
    let address = address(port);
    let byte = b"x";
    call(
        libc::SYS_sendto,
        [
            socket.as_raw_fd().into(),
            byte.as_ptr() as i64,
            1,
            flags.into(),
            &raw const address as i64,
            size_of_val(&address) as i64,
        ],
    )
    .map(drop)
}

fn address(port: u16) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr {
            s_addr: u32::from_ne_bytes([127, 0, 0, 1]),
        },
        sin_zero: [0; 8],
    }
}

/// The same by sendmsg(2), which could also pass a descriptor on.
fn send_message(fd: i32, flags: i32, port: Option<u16>) -> io::Result<()> {
    let mut address = address(port.unwrap_or_default());
    let mut byte = *b"x";
    let mut part = libc::iovec {
        iov_base: (&raw mut byte).cast(),
        iov_len: 1,
    };
    // SAFETY: zeroes are a valid message without a name, parts and control data.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    if port.is_some() {
        message.msg_name = (&raw mut address).cast();
        message.msg_namelen = size_of_val(&address) as u32;
    }
    let message = &raw const message as i64;
    call(
        libc::SYS_sendmsg,
        [fd.into(), message, flags.into(), 0, 0, 0],
    )
    .map(drop)
}

fn socket(family: i32, kind: i32, protocol: i32) -> io::Result<OwnedFd> {
    let arguments = [family.into(), kind.into(), protocol.into(), 0, 0, 0];
    let fd = call(libc::SYS_socket, arguments)?;
    // SAFETY: the call succeeded, and nobody else has the descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Sets an option of a new TCP socket.
fn set(level: i32, option: i32, value: &[u8]) -> io::Result<()> {
    let socket = socket(libc::AF_INET, libc::SOCK_STREAM, 0)?;
    let arguments = [
        socket.as_raw_fd().into(),
        level.into(),
        option.into(),
        value.as_ptr() as i64,
        value.len() as i64,
        0,
    ];
    call(libc::SYS_setsockopt, arguments).map(drop)
}

fn attempt(
    what: &str,
    folder: &Path,
    allowed: &str,
    other: &str,
    before: &mut Before,
) -> io::Result<()> {
    let raw = |number, [a, b, c, d]: [i64; 4]| call(number, [a, b, c, d, 0, 0]).map(drop);
    let [allowed, other] = [allowed, other].map(|port| port.parse::<u16>().unwrap());
    let connect = |port: u16| TcpStream::connect(("127.0.0.1", port)).map(drop);
    let packet = before.packet.as_raw_fd();
    let (stream, datagrams) = (libc::SOCK_STREAM, libc::SOCK_DGRAM);
    let nowhere = std::ptr::null::<u8>() as i64;
    let frame = [0_u8; 60];
    match what {
        "a TCP socket" => socket(
            libc::AF_INET6,
            stream | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK,
            libc::IPPROTO_TCP,
        )
        .map(drop),
        "send to elsewhere, which connects" => send(stream, 0, libc::MSG_FASTOPEN, other),
        "the same with other flags" => {
            let flags = libc::MSG_FASTOPEN | libc::MSG_NOSIGNAL | libc::MSG_MORE;
            send(stream, libc::IPPROTO_TCP, flags, other)
        }
        "the same with a message" => {
            let socket = socket(libc::AF_INET, stream, 0)?;
            send_message(socket.as_raw_fd(), libc::MSG_FASTOPEN, Some(other))
        }
        "the same with several messages" => {
            let socket = socket(libc::AF_INET, stream, 0)?.into_raw_fd();
            let flags = libc::MSG_FASTOPEN.into();
            raw(libc::SYS_sendmmsg, [socket.into(), nowhere, 0, flags])
        }
        "a connect that waits for a send" => set(
            libc::SOL_TCP,
            libc::TCP_FASTOPEN_CONNECT,
            &1_i32.to_ne_bytes(),
        ),
        "another kind of socket in this one" => set(libc::SOL_TCP, libc::TCP_ULP, b"smc"),
        "a socket that listens" => {
            let socket = socket(libc::AF_INET, stream, 0)?;
            raw(libc::SYS_listen, [socket.as_raw_fd().into(), 1, 0, 0])
        }
        "a socket of MPTCP" => socket(libc::AF_INET, stream, libc::IPPROTO_MPTCP).map(drop),
        "a socket of SCTP" => socket(libc::AF_INET, stream, libc::IPPROTO_SCTP).map(drop),
        "a socket of SMC" => socket(AF_SMC, stream, 0).map(drop),
        "a socket of a hypervisor" => socket(libc::AF_VSOCK, stream, 0).map(drop),
        "a raw socket" => socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP).map(drop),
        "a ping socket" => socket(libc::AF_INET, datagrams, libc::IPPROTO_ICMP).map(drop),
        "a datagram" => send(datagrams, 0, 0, other),
        "a datagram with flags" => send(datagrams | libc::SOCK_CLOEXEC, libc::IPPROTO_UDP, 0, 53),
        "a socket of the kernel's keys" => socket(libc::AF_ALG, 5, 0).map(drop),
        "another program's socket" => UnixStream::connect(folder.join("unix")).map(drop),
        "another program's datagram socket" => UnixDatagram::unbound()?
            .send_to(b"x", folder.join("datagrams"))
            .map(drop),
        "a pair of sockets" => UnixStream::pair().map(drop),
        "a pair of other sockets" => UnixDatagram::pair().map(drop),
        "pass a descriptor to the supervisor" => send_message(0, 0, None),
        "the same, which connects" => send_message(0, libc::MSG_FASTOPEN, None),
        "pass a descriptor on" => send_message(before.unix.as_raw_fd(), 0, None),
        "take a descriptor" => raw(
            libc::SYS_recvmsg,
            [before.unix.as_raw_fd().into(), nowhere, 0, 0],
        ),
        "connect elsewhere by the ring" => connect_by_ring(&mut before.driver, other),
        "connect to the destination by the ring" => connect_by_ring(&mut before.driver, allowed),
        "register with the ring" => raw(libc::SYS_io_uring_register, [-1, 0, 0, 0]),
        "send a frame" => raw(
            libc::SYS_sendto,
            [packet.into(), frame.as_ptr() as i64, 60, 0],
        ),
        "write a frame" => raw(
            libc::SYS_write,
            [packet.into(), frame.as_ptr() as i64, 60, 0],
        ),
        "write a frame in parts" => raw(libc::SYS_writev, [packet.into(), nowhere, 0, 0]),
        "write to a connection" => before.stream.write(b"x").map(drop),
        "another number for a packet socket" => raw(libc::SYS_dup, [packet.into(), 0, 0, 0]),
        "a number of choice for it" => raw(libc::SYS_dup3, [packet.into(), 99, 0, 0]),
        "another number by fcntl" => {
            let command = libc::F_DUPFD_CLOEXEC.into();
            raw(libc::SYS_fcntl, [packet.into(), command, 99, 0])
        }
        "splice into it" => raw(libc::SYS_splice, [0, 0, packet.into(), 0]),
        "send a file into it" => raw(libc::SYS_sendfile, [packet.into(), 0, 0, 1]),
        "a descriptor of a process" => raw(libc::SYS_pidfd_open, [1, 0, 0, 0]),
        "a signal by it" => raw(libc::SYS_pidfd_send_signal, [0, 0, 0, 0]),
        "a signal with a value" => raw(libc::SYS_rt_sigqueueinfo, [1, 0, 0, 0]),
        "take a descriptor of another" => raw(libc::SYS_pidfd_getfd, [0, 0, 0, 0]),
        "read the memory of another" => raw(libc::SYS_process_vm_readv, [1, 0, 0, 0]),
        "write the memory of another" => raw(libc::SYS_process_vm_writev, [1, 0, 0, 0]),
        "keys" => raw(libc::SYS_keyctl, [0, 0, 0, 0]),
        "user faults" => raw(libc::SYS_userfaultfd, [0, 0, 0, 0]),
        "a file by its handle" => raw(libc::SYS_open_by_handle_at, [0, 0, 0, 0]),
        "another namespace" => raw(libc::SYS_setns, [0, 0, 0, 0]),
        "a program in memory" => raw(libc::SYS_memfd_create, [c"x".as_ptr() as i64, 0, 0, 0]),
        "start a program by its descriptor" => raw(libc::SYS_execveat, [0, 0, 0, 0]),
        "shared memory" => raw(libc::SYS_shmget, [0, 4096, 0o1600, 0]),
        "a message queue" => raw(libc::SYS_mq_open, [c"/x".as_ptr() as i64, 0, 0, 0]),
        "watch files" => raw(libc::SYS_inotify_init1, [0, 0, 0, 0]),
        "performance counters" => raw(libc::SYS_perf_event_open, [0, 0, 0, 0]),
        "write its own memory as a file" => fs::File::options()
            .write(true)
            .open("/proc/self/mem")
            .map(drop),
        "read the environment of another" => fs::read("/proc/1/environ").map(drop),
        "a link to another file" => {
            std::os::unix::fs::symlink("/etc/shadow", folder.join("ours/link"))
        }
        "read the files of names" => fs::read("/etc/hosts").map(drop),
        "read what is ours" => fs::read(folder.join("ours/file")).map(drop),
        "read a new file of that folder" => fs::read_dir(folder.join("ours")).map(drop),
        "write what is ours" => fs::write(folder.join("ours/file"), "x"),
        "make a file of ours" => fs::write(folder.join("ours/new"), "x"),
        "remove a name of ours" => fs::remove_file(folder.join("ours/file")),
        "read another file" => fs::read(folder.join("secret")).map(drop),
        "read shadow" => fs::read("/etc/shadow").map(drop),
        "write in /tmp" => fs::write(format!("/tmp/sandbox-{}", std::process::id()), "x"),
        "connect to the destination" => connect(allowed),
        "connect elsewhere" => connect(other),
        "listen" => TcpListener::bind("127.0.0.1:0").map(drop),
        "a thread" => thread::Builder::new()
            .spawn(|| ())
            .map(|thread| thread.join().unwrap()),
        "signal ourselves" => raw(libc::SYS_kill, [std::process::id().into(), 0, 0, 0]),
        "signal another" => raw(libc::SYS_kill, [1, 0, 0, 0]),
        "a packet socket" => raw(libc::SYS_socket, [libc::AF_PACKET as i64, 3, 0, 0]),
        "an audit socket" => raw(libc::SYS_socket, [libc::AF_NETLINK as i64, 3, 9, 0]),
        "an io_uring" => raw(libc::SYS_io_uring_setup, [1, 0, 0, 0]),
        "type into a terminal" => raw(libc::SYS_ioctl, [0, libc::TIOCSTI as i64, 0, 0]),
        "raise a limit" => raw(libc::SYS_prlimit64, [0, 7, 1, 0]),
        "a child" => raw(libc::SYS_clone, [libc::SIGCHLD.into(), 0, 0, 0]),
        "a program" => Command::new("/bin/true").status().map(drop),
        "execve" => raw(libc::SYS_execve, [0, 0, 0, 0]),
        "ptrace" => raw(libc::SYS_ptrace, [libc::PTRACE_TRACEME.into(), 0, 0, 0]),
        "mount" => raw(libc::SYS_mount, [0, 0, 0, 0]),
        "unshare" => raw(libc::SYS_unshare, [libc::CLONE_NEWUSER.into(), 0, 0, 0]),
        "bpf" => raw(libc::SYS_bpf, [0, 0, 0, 0]),
        "setuid" => raw(libc::SYS_setuid, [0, 0, 0, 0]),
        "load a module" => raw(libc::SYS_finit_module, [0, 0, 0, 0]),
        _ => panic!("{what}"),
    }
}

fn call(number: libc::c_long, [a, b, c, d, e, f]: [i64; 6]) -> io::Result<i64> {
    // SAFETY: pointers among the arguments are null, or point to what outlives the call and is only read. None of the calls
    // takes memory or descriptors of this process away.
    match unsafe { libc::syscall(number, a, b, c, d, e, f) } {
        -1 => Err(io::Error::last_os_error()),
        value => Ok(value),
    }
}
