//! What a confined process can no longer do, tried from inside, and what it still can. Here belongs what the kernel enforces.
//!
//! The attempts run in this test binary, started anew (`attempts`): it confines itself with the program's own plan and attempts
//! one forbidden thing. The rest is the whole program with its ordinary use of names, TLS, files and signals.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::{env, fs, thread};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use tests::capture::{Capture, find};
use tests::network::{Lab, Namespace};
use tests::nginx::{Nginx, curl};
use tests::process::{PATIENCE, Running, eventually, run};
use tests::program::{repository, sniffer};
use tests::scene::Scene;
use tests::store;

use crate::all_in_one::AllInOne;
use attempts::{End, Ground};

mod attempts;

#[track_caller]
fn check(role: &str, tries: &[(&str, End)]) {
    let ground = Ground::new().unwrap();
    // Each that ends the process has one of its own.
    let (last, others): (Vec<_>, Vec<_>) =
        (tries.iter()).partition(|(_, expected)| *expected == End::Killed);
    let together = (!others.is_empty()).then_some(others);
    let apart = last.into_iter().map(|attempt| vec![attempt]);
    for tries in apart.chain(together) {
        let whats: Vec<&str> = tries.iter().map(|(what, _)| *what).collect();
        let ends = ground.attempt(role, &whats).unwrap();
        let found: Vec<_> = whats.into_iter().zip(ends).collect();
        let expected: Vec<_> = tries;
        let differ = found
            .iter()
            .zip(&expected)
            .filter(|(found, expected)| found != expected);
        let differ: Vec<_> = differ.map(|(found, _)| found).collect();
        assert!(
            differ.is_empty() && found.len() == expected.len(),
            "{role}: {differ:?}"
        );
    }
}

const EPERM: End = End::Failed(libc::EPERM);
const EACCES: End = End::Failed(libc::EACCES);

/// No role ever makes these calls, so an attempt ends the process.
const HOSTILE: [(&str, End); 17] = [
    ("take a descriptor of another", End::Killed),
    ("read the memory of another", End::Killed),
    ("write the memory of another", End::Killed),
    ("keys", End::Killed),
    ("user faults", End::Killed),
    ("a file by its handle", End::Killed),
    ("another namespace", End::Killed),
    ("start a program by its descriptor", End::Killed),
    ("performance counters", End::Killed),
    ("a program in memory", EPERM),
    ("execve", End::Killed),
    ("ptrace", End::Killed),
    ("mount", End::Killed),
    ("unshare", End::Killed),
    ("bpf", End::Killed),
    ("setuid", End::Killed),
    ("load a module", End::Killed),
];

#[test]
fn capture_can_reach_its_destination_and_its_rules_and_no_more() {
    check("capture", &HOSTILE);
    check(
        "capture",
        &[
            ("connect to the destination", End::Worked),
            ("connect to the destination by the ring", End::Worked),
            ("a TCP socket", End::Worked),
            ("write to a connection", End::Worked),
            ("a thread", End::Worked),
            ("signal ourselves", End::Worked),
            // A delegate reads the rules again.
            ("read what is ours", EACCES),
            ("read a new file of that folder", EACCES),
            ("read the files of names", EACCES),
            ("write its own memory as a file", EACCES),
            ("read the environment of another", EACCES),
            ("connect elsewhere by the ring", EACCES),
            ("send to elsewhere, which connects", EPERM),
            ("the same with other flags", EPERM),
            ("the same with a message", EPERM),
            ("the same with several messages", EPERM),
            ("a connect that waits for a send", EPERM),
            ("another kind of socket in this one", EPERM),
            ("a socket that listens", EPERM),
            ("a socket of MPTCP", EPERM),
            ("a socket of SCTP", EPERM),
            ("a socket of SMC", EPERM),
            ("a socket of a hypervisor", EPERM),
            ("a raw socket", EPERM),
            ("a ping socket", EPERM),
            ("a datagram", EPERM),
            ("a datagram with flags", EPERM),
            ("a socket of the kernel's keys", EPERM),
            ("another program's socket", EPERM),
            ("another program's datagram socket", EPERM),
            ("a pair of sockets", EPERM),
            ("pass a descriptor on", EPERM),
            ("take a descriptor", EPERM),
            ("register with the ring", EPERM),
            ("send a frame", EPERM),
            ("write a frame", EPERM),
            ("write a frame in parts", EPERM),
            ("another number for a packet socket", EPERM),
            ("a number of choice for it", EPERM),
            ("another number by fcntl", EPERM),
            ("splice into it", EPERM),
            ("send a file into it", EPERM),
            ("a descriptor of a process", EPERM),
            ("a signal by it", EPERM),
            ("a signal with a value", EPERM),
            ("shared memory", EPERM),
            ("a message queue", EPERM),
            ("watch files", EPERM),
            ("a link to another file", EPERM),
            ("write what is ours", EACCES),
            ("make a file of ours", EACCES),
            ("read another file", EACCES),
            ("read shadow", EACCES),
            ("write in /tmp", EACCES),
            ("connect elsewhere", EACCES),
            ("listen", EACCES),
            ("signal another", EPERM),
            ("a packet socket", EPERM),
            ("an audit socket", EPERM),
            ("an io_uring", EPERM),
            ("type into a terminal", EPERM),
            ("raise a limit", EPERM),
            ("a child", EPERM),
            ("a program", EPERM),
            // The folder of the control socket has other files as well.
            ("remove a name of ours", EACCES),
        ],
    );
}

/// It makes pairs of sockets and passes one of each to its supervisor, over its standard input and no other descriptor; and it
/// connects to nothing.
#[test]
fn the_capture_of_an_all_in_one_passes_connections_and_makes_none() {
    check(
        "capture of an all-in-one",
        &[
            ("a pair of sockets", End::Worked),
            ("a pair of other sockets", EPERM),
            // The standard input of this test is no socket; the filter lets the call pass.
            (
                "pass a descriptor to the supervisor",
                End::Failed(libc::ENOTSOCK),
            ),
            ("the same, which connects", EPERM),
            ("pass a descriptor on", EPERM),
            ("take a descriptor", EPERM),
            ("the same with a message", EPERM),
            ("another program's socket", EPERM),
            ("connect to the destination", EACCES),
            ("connect elsewhere", EACCES),
            ("listen", EACCES),
        ],
    );
}

#[test]
fn the_store_has_its_folder_and_no_new_socket() {
    check("store", &HOSTILE);
    check(
        "store",
        &[
            ("read what is ours", End::Worked),
            ("write what is ours", End::Worked),
            ("make a file of ours", End::Worked),
            ("remove a name of ours", End::Worked),
            ("a thread", End::Worked),
            ("read another file", EACCES),
            ("read shadow", EACCES),
            ("write in /tmp", EACCES),
            ("write to a connection", End::Worked),
            ("connect to the destination", EPERM),
            ("listen", EPERM),
            ("a packet socket", EPERM),
            ("an io_uring", EPERM),
            ("connect elsewhere by the ring", EPERM),
            ("a child", EPERM),
            ("a datagram", EPERM),
            ("a pair of sockets", EPERM),
            ("another program's socket", EPERM),
            ("pass a descriptor on", EPERM),
            ("take a descriptor", EPERM),
            ("a link to another file", EPERM),
            ("shared memory", EPERM),
        ],
    );
}

#[test]
fn the_process_that_looks_up_names_has_datagrams_and_dns() {
    check("resolver", &HOSTILE);
    check(
        "resolver",
        &[
            ("read the files of names", End::Worked),
            ("a datagram", End::Worked),
            ("a datagram with flags", End::Worked),
            ("a TCP socket", End::Worked),
            ("read what is ours", EACCES),
            ("read shadow", EACCES),
            ("write in /tmp", EACCES),
            ("connect to the destination", EACCES),
            ("connect elsewhere", EACCES),
            ("send to elsewhere, which connects", EPERM),
            ("the same with a message", EPERM),
            ("the same with several messages", EPERM),
            ("a socket of MPTCP", EPERM),
            ("a raw socket", EPERM),
            ("a packet socket", EPERM),
            ("another program's socket", EPERM),
            ("another program's datagram socket", EPERM),
            ("pass a descriptor on", EPERM),
            ("an io_uring", EPERM),
            ("a child", EPERM),
            ("a program", EPERM),
        ],
    );
}

#[test]
fn the_process_that_connects_to_a_unix_socket_can_do_nothing_else() {
    check("connector", &HOSTILE);
    check(
        "connector",
        &[
            ("another program's socket", End::Worked),
            ("pass a descriptor on", EPERM),
            ("take a descriptor", EPERM),
            ("another program's datagram socket", EPERM),
            ("a pair of sockets", EPERM),
            ("a TCP socket", EPERM),
            ("a datagram", EPERM),
            ("a packet socket", EPERM),
            ("listen", EPERM),
            ("read what is ours", EACCES),
            ("read another file", EACCES),
            ("write in /tmp", EACCES),
            ("an io_uring", EPERM),
            ("a child", EPERM),
        ],
    );
}

#[test]
fn the_process_that_reads_the_rules_has_their_folder_and_no_network() {
    check("rules", &HOSTILE);
    check(
        "rules",
        &[
            ("read what is ours", End::Worked),
            ("read a new file of that folder", End::Worked),
            ("read another file", EACCES),
            ("write what is ours", EACCES),
            ("a TCP socket", EPERM),
            ("a datagram", EPERM),
            ("another program's socket", EPERM),
            ("pass a descriptor on", EPERM),
            ("a child", EPERM),
        ],
    );
}

#[test]
fn a_reader_has_its_files_and_no_network() {
    check("reader", &HOSTILE);
    check(
        "reader",
        &[
            ("read what is ours", End::Worked),
            ("read a new file of that folder", EACCES),
            ("write what is ours", EACCES),
            ("read another file", EACCES),
            ("read shadow", EACCES),
            ("write in /tmp", EACCES),
            ("connect to the destination", EPERM),
            ("listen", EPERM),
            ("an io_uring", EPERM),
            ("a child", EPERM),
            ("remove a name of ours", EPERM),
        ],
    );
}

/// Every thread of a process, as the kernel lists them.
fn check_threads(pid: i64, capabilities: &str) -> Result<usize> {
    let mut count = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let status = fs::read_to_string(thread?.path().join("status"))?;
        let value = |label: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(label));
            line.map(str::trim).unwrap_or_default().to_owned()
        };
        for (label, expected) in [
            ("Seccomp:", "2"),
            ("NoNewPrivs:", "1"),
            ("CapEff:", capabilities),
            ("CapPrm:", capabilities),
            ("CapInh:", capabilities),
            ("CapAmb:", capabilities),
            ("CapBnd:", capabilities),
        ] {
            ensure!(value(label) == expected, "{label} {status}");
        }
        count += 1;
    }
    Ok(count)
}

const NO_CAPABILITY: &str = "0000000000000000";

/// A name server that answers any name with 127.0.0.1, in a namespace that uses it.
struct Names {
    _config: ResolverConfig,
    queries: Arc<AtomicU64>,
}

/// What `ip netns exec` mounts over `/etc`, deleted when dropped.
struct ResolverConfig(std::path::PathBuf);

impl Drop for ResolverConfig {
    fn drop(&mut self) {
        // Nothing is left to do about a folder that cannot be deleted.
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Names {
    fn serve(namespace: &Namespace) -> Result<Self> {
        let folder = Path::new("/etc/netns").join(namespace.name());
        fs::create_dir_all(&folder)?;
        let config = ResolverConfig(folder);
        fs::write(config.0.join("resolv.conf"), "nameserver 127.0.0.1\n")?;
        fs::write(config.0.join("nsswitch.conf"), "hosts: files dns\n")?;
        let socket = namespace.inside(|| UdpSocket::bind("127.0.0.1:53"))?;
        socket.set_read_timeout(Some(PATIENCE * 3))?;
        let queries = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&queries);
        thread::spawn(move || {
            let mut query = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut query) {
                let answer = answer(&query[..length]);
                count.fetch_add(1, Ordering::Relaxed);
                let _ = socket.send_to(&answer, from);
            }
        });
        Ok(Self {
            _config: config,
            queries,
        })
    }
}

/// RFC 1035 section 4: the question back, and for an A question one address.
fn answer(query: &[u8]) -> Vec<u8> {
    let end = 12 + query[12..].iter().position(|byte| *byte == 0).unwrap_or(0) + 5;
    let is_address = query.get(end - 4..end - 2) == Some(&[0, 1]);
    let mut answer = query[..end].to_vec();
    answer[2..4].copy_from_slice(&[0x81, 0x80]);
    answer[6..12].copy_from_slice(&[0, u8::from(is_address), 0, 0, 0, 0]);
    if is_address {
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 127, 0, 0, 1]);
    }
    answer
}

/// Under the sandbox names are resolved, a late destination is reached, rules are reloaded, and the end is orderly.
#[test]
fn a_confined_capture_does_all_that_it_has_to() -> Result<()> {
    let lab = Lab::new()?;
    let _nginx = Nginx::start(&lab.server)?;
    let names = Names::serve(&lab.server)?;
    let folder = tempfile::tempdir()?;
    let rules = folder.path().join("rules.txt");
    fs::write(&rules, "include debug\n")?;
    let place = lab.server.inside(|| TcpListener::bind("127.0.0.1:0"))?;
    let address = place.local_addr()?;
    drop(place);
    let url = format!("http://lake.test:{}/message", address.port());
    let rules_url = format!("file://{}", rules.display());
    let settings = [
        ("NET_DEVICE", "s0"),
        ("SNIFFER_SHARDS", "2"),
        ("USAGE_LOGGERS_RULES", rules_url.as_str()),
    ];
    let capture = Capture::start(&lab.server, &url, &settings)?;
    curl(&lab.client, &["http://10.77.0.1/hello"])?;
    thread::sleep(Duration::from_secs(2));
    let before = names.queries.load(Ordering::Relaxed);
    let late = lab.server.inside(|| TcpListener::bind(address))?;
    let collector = bench::collect::Collector::serve(late)?;
    ensure!(
        collector.wait_for_lines(1, PATIENCE),
        "{:?}",
        collector.counts()
    );
    assert!(
        names.queries.load(Ordering::Relaxed) > before,
        "asked again"
    );

    let status = capture.status()?;
    let shown = status["capture"]["sandbox"].as_str().unwrap_or_default();
    assert!(
        shown.starts_with("landlock ABI ") && shown.ends_with("seccomp on, 0 capabilities"),
        "{shown}"
    );
    let pid = find(&status, "pid").context("a pid")?;
    assert!(
        check_threads(pid, NO_CAPABILITY)? >= 6,
        "shards, uploader, resolver, ..."
    );
    let delegates = delegates(pid)?;
    let kinds: Vec<&str> = delegates.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(kinds, ["name", "rules"]);
    for (kind, delegate) in &delegates {
        check_threads(*delegate, NO_CAPABILITY)?;
        // A lookup that is under way has a socket of its own, for as long as it takes.
        eventually(PATIENCE, || {
            let sockets = sockets(*delegate)?;
            ensure!(sockets.is_empty(), "{kind} has {sockets:?}");
            Ok(())
        })?;
    }

    // As editors do it: a new file under the old name.
    let new = folder.path().join("new.txt");
    fs::write(&new, "include debug\n/response_body/ remove\n")?;
    fs::rename(&new, &rules)?;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), Signal::SIGHUP)?;
    eventually(PATIENCE, || {
        let status = capture.status()?;
        ensure!(
            status["capture"]["rules"]
                .as_str()
                .unwrap_or_default()
                .contains("more")
        );
        Ok(())
    })?;
    curl(&lab.client, &["http://10.77.0.1/hello"])?;
    ensure!(collector.wait_for_lines(2, PATIENCE));
    let bodies = collector.rows();
    let body = |row| bench::collect::value(row, "response_body");
    let kept = bodies.iter().filter(|row| body(row).is_some()).count();
    assert_eq!(kept, 1, "one call before the new rules, one after");

    // Without its delegates it goes on with what they found before.
    for (_, delegate) in delegates {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(delegate as i32), Signal::SIGKILL)?;
    }
    drop(collector);
    let again = eventually(PATIENCE, || {
        Ok(lab.server.inside(|| TcpListener::bind(address))?)
    })?;
    let collector = bench::collect::Collector::serve(again)?;
    curl(&lab.client, &["http://10.77.0.1/hello"])?;
    ensure!(collector.wait_for_lines(1, PATIENCE * 2));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), Signal::SIGHUP)?;
    curl(&lab.client, &["http://10.77.0.1/hello"])?;
    ensure!(collector.wait_for_lines(2, PATIENCE));
    let log = capture.stop()?;
    let failed = "the process that reads it has ended; restart the sniffer";
    assert!(
        log.contains(failed) && log.contains("the old rules stay in use"),
        "{log}"
    );
    Ok(())
}

/// The sockets that a process has open.
fn sockets(pid: i64) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for descriptor in fs::read_dir(format!("/proc/{pid}/fd"))? {
        let file = fs::read_link(descriptor?.path()).unwrap_or_default();
        found.push(file.to_string_lossy().into_owned());
    }
    found.retain(|file| file.starts_with("socket:"));
    Ok(found)
}

/// The delegates of a capture, by what they do.
fn delegates(capture: i64) -> Result<Vec<(String, i64)>> {
    let mut found = Vec::new();
    for process in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = process
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        // One that has ended meanwhile has none.
        let status = fs::read_to_string(process.path().join("status")).unwrap_or_default();
        let words = fs::read_to_string(process.path().join("cmdline")).unwrap_or_default();
        let words: Vec<&str> = words.split('\0').collect();
        if status.contains(&format!("\nPPid:\t{capture}\n")) && words.get(1) == Some(&"delegate") {
            found.push((words[2].to_owned(), pid));
        }
    }
    found.sort();
    Ok(found)
}

/// A capture URL behind TLS, as far as it is needed here: lines of bundles that arrived.
struct TlsCollector {
    lines: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    address: SocketAddr,
}

impl TlsCollector {
    fn serve(listener: TcpListener, folder: &Path) -> Result<Self> {
        let made = rcgen::generate_simple_self_signed(["lake.test".to_owned()])?;
        fs::write(folder.join("ca.pem"), made.cert.pem())?;
        let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der());
        let key = key.map_err(anyhow::Error::msg)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)?;
        let config = Arc::new(config);
        let collector = Self {
            lines: Arc::default(),
            stop: Arc::default(),
            address: listener.local_addr()?,
        };
        let (lines, stop) = (Arc::clone(&collector.lines), Arc::clone(&collector.stop));
        thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let (lines, config) = (Arc::clone(&lines), Arc::clone(&config));
                thread::spawn(move || converse(socket, config, &lines));
            }
        });
        Ok(collector)
    }
}

impl Drop for TlsCollector {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn converse(socket: TcpStream, config: Arc<rustls::ServerConfig>, lines: &AtomicU64) -> Result<()> {
    let connection = rustls::ServerConnection::new(config)?;
    let stream = Mutex::new(rustls::StreamOwned::new(connection, socket));
    let mut reader = BufReader::new(stream.into_inner().expect("nobody panicked with it"));
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let line = line.trim().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let count = body.iter().filter(|byte| **byte == b'\n').count();
        lines.fetch_add(count as u64, Ordering::Relaxed);
        reader
            .get_mut()
            .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")?;
    }
}

#[test]
fn a_confined_capture_delivers_over_tls() -> Result<()> {
    let lab = Lab::new()?;
    let _nginx = Nginx::start(&lab.server)?;
    let _names = Names::serve(&lab.server)?;
    let folder = tempfile::tempdir()?;
    let listener = lab.server.inside(|| TcpListener::bind("127.0.0.1:0"))?;
    let collector = TlsCollector::serve(listener, folder.path())?;
    let authority = folder.path().join("ca.pem").display().to_string();
    let settings = [
        ("NET_DEVICE", "s0"),
        ("SNIFFER_COMPRESSION", "off"),
        ("SSL_CERT_FILE", authority.as_str()),
    ];
    let url = format!("https://lake.test:{}/message", collector.address.port());
    let capture = Capture::start(&lab.server, &url, &settings)?;
    for _ in 0..3 {
        curl(&lab.client, &["http://10.77.0.1/hello"])?;
    }
    eventually(PATIENCE, || {
        let status = capture.status()?;
        let sent = status["capture"]["calls"]["sent"].as_u64();
        ensure!(sent == Some(3), "{status}");
        Ok(())
    })?;
    assert!(collector.lines.load(Ordering::Relaxed) >= 3);
    capture.stop()?;
    Ok(())
}

/// As in a container, whose filter refuses io_uring, landlock and related calls with this error.
fn in_a_container<T: Send>(
    refused: &[libc::c_long],
    error: i32,
    work: impl FnOnce() -> T + Send,
) -> T {
    let refuse = SeccompAction::Errno(error.unsigned_abs());
    under(refused, SeccompAction::Allow, refuse, work)
}

/// With a filter of system calls: `matched` for these, `otherwise` for all others.
fn under<T: Send>(
    calls: &[libc::c_long],
    otherwise: SeccompAction,
    matched: SeccompAction,
    work: impl FnOnce() -> T + Send,
) -> T {
    let rules = calls.iter().map(|&call| (call, Vec::new())).collect();
    let architecture = env::consts::ARCH
        .try_into()
        .expect("an architecture of ours");
    let filter = SeccompFilter::new(rules, otherwise, matched, architecture).unwrap();
    let program: BpfProgram = filter.try_into().unwrap();
    thread::scope(|scope| {
        let inside = move || {
            seccompiler::apply_filter(&program).unwrap();
            work()
        };
        scope.spawn(inside).join().unwrap()
    })
}

/// With the uploader on epoll, and on a kernel without landlock and seccomp: reported, never fatal.
#[test]
fn what_the_kernel_lacks_is_reported_and_not_fatal() -> Result<()> {
    let uring = libc::SYS_io_uring_setup;
    let old = [uring, libc::SYS_landlock_create_ruleset, libc::SYS_seccomp];
    for (refused, shown) in [
        (&[uring][..], "seccomp on, 0 capabilities"),
        (&old, "landlock off (not in this kernel), seccomp off ("),
    ] {
        let scene = Scene::new()?;
        let settings = [("NET_DEVICE", "s0")];
        let start = || scene.capture(&settings);
        let capture = in_a_container(refused, libc::EPERM, start)?;
        scene.get("/hello")?;
        scene.wait_for_lines(1)?;
        let status = capture.status()?;
        let transport = status["capture"]["output"]["transport"].as_str();
        assert_eq!(transport, Some("epoll (io_uring blocked)"));
        let sandbox = status["capture"]["sandbox"].as_str().unwrap_or_default();
        assert!(sandbox.contains(shown), "{sandbox}");
        capture.stop()?;
    }
    Ok(())
}

/// The calls that a profile of a container refuses, and with which error, in the format of Docker and of the OCI's tools.
fn profile(file: &str) -> Result<(Vec<libc::c_long>, i32)> {
    let text = fs::read_to_string(repository().join("tests/profiles").join(file))?;
    let profile: serde_json::Value = serde_json::from_str(&text)?;
    ensure!(profile["defaultAction"] == "SCMP_ACT_ALLOW", "{profile}");
    let rule = &profile["syscalls"][0];
    ensure!(rule["action"] == "SCMP_ACT_ERRNO", "{profile}");
    let names = rule["names"].as_array().context("no names")?;
    let number = |name: &serde_json::Value| match name.as_str() {
        Some("io_uring_setup") => Ok(libc::SYS_io_uring_setup),
        Some("io_uring_enter") => Ok(libc::SYS_io_uring_enter),
        Some("io_uring_register") => Ok(libc::SYS_io_uring_register),
        _ => anyhow::bail!("no number for {name}"),
    };
    let numbers: Result<Vec<_>> = names.iter().map(number).collect();
    let error = rule["errnoRet"].as_i64().context("no errnoRet")?;
    Ok((numbers?, i32::try_from(error)?))
}

/// The numbers of the calls that the profile in `deploy` allows, as far as this machine has them, and the error for all others.
fn allowed() -> Result<(Vec<libc::c_long>, i32)> {
    let text = fs::read_to_string(repository().join("deploy/seccomp.json"))?;
    let profile: serde_json::Value = serde_json::from_str(&text)?;
    ensure!(profile["defaultAction"] == "SCMP_ACT_ERRNO", "{profile}");
    let rules = profile["syscalls"].as_array().context("no rules")?;
    let [rule] = &rules[..] else {
        anyhow::bail!("{profile}");
    };
    ensure!(rule["action"] == "SCMP_ACT_ALLOW" && rule["args"].is_null());
    let names = rule["names"].as_array().context("no names")?;
    let names: Vec<&str> = names.iter().filter_map(serde_json::Value::as_str).collect();
    for hostile in [
        "io_uring_setup",
        "ptrace",
        "mount",
        "unshare",
        "setns",
        "bpf",
        "keyctl",
    ] {
        ensure!(!names.contains(&hostile), "{hostile} is allowed");
    }
    let include = "#include <sys/syscall.h>";
    let line = format!("echo '{include}' | cc -E -dM -");
    let headers = run(Command::new("sh").args(["-c", &line])).context("apt-get install gcc")?;
    let number = |name: &&str| {
        let start = format!("#define __NR_{name} ");
        let line = headers.lines().find_map(|line| line.strip_prefix(&start));
        line.and_then(|number| number.trim().parse().ok())
    };
    let numbers: Vec<libc::c_long> = names.iter().filter_map(number).collect();
    ensure!(numbers.len() > 100, "{} calls have a number", numbers.len());
    let error = profile["defaultErrnoRet"].as_i64().context("no error")?;
    Ok((numbers, i32::try_from(error)?))
}

/// Under the profile that comes with the images, everything works but io_uring, confined as elsewhere.
#[test]
fn the_profile_of_the_images_allows_what_the_program_needs() -> Result<()> {
    let (mut calls, error) = allowed()?;
    // What it takes to start a program in a namespace of the test.
    calls.extend([libc::SYS_setns, libc::SYS_unshare, libc::SYS_mount]);
    calls.push(libc::SYS_umount2);
    let refuse = SeccompAction::Errno(error.unsigned_abs());
    let lab = Lab::new()?;
    let _nginx = Nginx::start(&lab.server)?;
    let start = || AllInOne::start(&lab.server, &["--on"]);
    let all = under(&calls, refuse, SeccompAction::Allow, start)?;
    let capture = eventually(PATIENCE, || {
        let ended = all.control(&["status", "--json"])?;
        let status: serde_json::Value = serde_json::from_str(&ended.stdout)?;
        let sandbox = status["capture"]["sandbox"].as_str().unwrap_or_default();
        ensure!(sandbox.contains("seccomp on"), "{sandbox}");
        Ok(status["capture"].clone())
    })?;
    curl(&lab.client, &["http://10.77.0.1/hello"])?;
    eventually(PATIENCE, || {
        ensure!(all.stored()? == 1, "not stored");
        Ok(())
    })?;
    let transport = capture["output"]["transport"].as_str();
    ensure!(transport.is_some_and(|name| name.starts_with("epoll")));
    Ok(())
}

/// Under a container's profile for which the kernel has no io_uring, the uploader takes the next step down.
#[test]
fn a_profile_that_refuses_io_uring_costs_nothing_but_that() -> Result<()> {
    let (refused, error) = profile("no-io-uring.json")?;
    let scene = Scene::new()?;
    let settings = [("NET_DEVICE", "s0")];
    let capture = in_a_container(&refused, error, || scene.capture(&settings))?;
    for _ in 0..3 {
        scene.get("/hello")?;
    }
    scene.wait_for_lines(3)?;
    let status = capture.status()?;
    let transport = status["capture"]["output"]["transport"].as_str();
    assert_eq!(
        transport,
        Some("epoll (io_uring: Function not implemented (os error 38))")
    );
    assert!(capture.stop()?.contains("W050"), "and it is reported");
    Ok(())
}

#[test]
fn it_can_be_switched_off_and_says_so() -> Result<()> {
    let scene = Scene::without_nginx()?;
    let settings = [("NET_DEVICE", "s0"), ("SNIFFER_NO_SANDBOX", "true")];
    let capture = scene.capture(&settings)?;
    let status = capture.status()?;
    let shown = status["capture"]["sandbox"].as_str();
    assert_eq!(shown, Some("off (--no-sandbox)"));
    let pid = find(&status, "pid").context("a pid")?;
    let kernel = fs::read_to_string(format!("/proc/{pid}/status"))?;
    assert!(kernel.contains("Seccomp:\t0\n"), "{kernel}");
    assert!(capture.stop()?.contains("sandbox: off (--no-sandbox)"));
    let mut read = sniffer(&["read", "--no-sandbox", "/dev/null"]);
    let ended = Running::start(&mut read)?.end(PATIENCE)?;
    assert!(ended.stderr.contains("sandbox: off"), "{}", ended.stderr);
    Ok(())
}

/// The supervisor starts programs; the processes that read packets and calls cannot.
#[test]
fn both_children_of_the_all_in_one_are_confined() -> Result<()> {
    let lab = Lab::new()?;
    let _nginx = Nginx::start(&lab.server)?;
    let all = AllInOne::start(&lab.server, &["--on"])?;
    let status = || -> Result<serde_json::Value> {
        let ended = all.control(&["status", "--json"])?;
        let status: serde_json::Value = serde_json::from_str(&ended.stdout)?;
        ensure!(status["state"] == "RUNNING", "{status}");
        Ok(status)
    };
    let status = eventually(PATIENCE, status)?;
    curl(&lab.client, &["http://10.77.0.1/hello"])?;
    eventually(PATIENCE, || {
        ensure!(all.stored()? == 1, "not stored");
        Ok(())
    })?;
    let pid = |value: &serde_json::Value| value["pid"].as_i64().context("a pid");
    let store = pid(&status["store"])?;
    check_threads(store, NO_CAPABILITY)?;
    check_threads(pid(&status)?, NO_CAPABILITY)?;
    // Without huge pages, of which the kernel would make whole ones where memory was given back.
    let of_store = fs::read_to_string(format!("/proc/{store}/status"))?;
    ensure!(of_store.contains("THP_enabled:\t0"), "{of_store}");
    Ok(())
}

/// The user, the group and the further groups of a process.
fn users(pid: u32) -> Result<[String; 3]> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    Ok(["Uid:", "Gid:", "Groups:"].map(|label| {
        let line = status.lines().find_map(|line| line.strip_prefix(label));
        line.unwrap_or_default().trim().replace('\t', " ")
    }))
}

/// A store that root starts is the owner of its folder, also where an earlier version left files of root in it.
#[test]
fn the_store_runs_as_the_owner_of_its_folder_and_without_a_capability() -> Result<()> {
    let namespace = Namespace::new("store")?;
    let home = tempfile::tempdir()?;
    // Others may pass through it.
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755))?;
    let data = home.path().join("data");
    let start = || -> Result<Running> {
        let mut command = sniffer(&["store", "--store", "127.0.0.1:7701", "--data"]);
        command.arg(&data);
        let mut store = Running::start(&mut namespace.enter(&command))?;
        store.wait_for_log("store ready", PATIENCE)?;
        Ok(store)
    };
    let post = |url: &str| {
        let line = format!(r#"[["request_method","GET"],["request_url","{url}"]]"#);
        let answer = store::post(&namespace, &line)?;
        ensure!(answer.status == 204, "{answer:?}");
        Ok(())
    };
    let files = || -> Result<Vec<u32>> {
        let files = fs::read_dir(&data)?.map(|file| Ok(file?.metadata()?.uid()));
        files.collect()
    };

    let store = start()?;
    assert_eq!(
        users(store.pid())?[0],
        "0 0 0 0",
        "the folder above is root's"
    );
    check_threads(store.pid().into(), NO_CAPABILITY)?;
    post("http://one.example/")?;
    store.terminate(PATIENCE)?;
    assert!(files()?.iter().all(|owner| *owner == 0));

    // Another user's folder, with files of root.
    std::os::unix::fs::chown(&data, Some(4242), Some(4343))?;
    let store = start()?;
    let other = ["4242 4242 4242 4242", "4343 4343 4343 4343", ""].map(str::to_owned);
    assert_eq!(users(store.pid())?, other);
    check_threads(store.pid().into(), NO_CAPABILITY)?;
    post("http://two.example/")?;
    let log = store.terminate(PATIENCE)?.stderr;
    assert!(!log.contains("sandbox"), "nothing is missing: {log}");
    assert!(files()?.iter().all(|owner| *owner == 4242));
    let database = ::store::backend::sqlite::query::open(&data)?;
    let calls: i64 = database.query_row("SELECT count(*) FROM calls", [], |row| row.get(0))?;
    assert_eq!(calls, 2);
    drop(database);

    // And back.
    std::os::unix::fs::chown(&data, Some(0), Some(0))?;
    let store = start()?;
    assert_eq!(users(store.pid())?[0], "0 0 0 0");
    post("http://three.example/")?;
    store.terminate(PATIENCE)?;
    assert!(files()?.iter().all(|owner| *owner == 0));
    Ok(())
}
