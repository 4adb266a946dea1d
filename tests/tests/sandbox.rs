//! What a confined process can no longer do, tried from inside, and what it still can. Here belongs what the kernel enforces.
//!
//! The attempts run in this test binary, started anew: it confines itself with the program's own plan and then attempts
//! one forbidden thing. The rest is the whole program with its ordinary use of names, TLS, files and signals.
#![expect(
    unsafe_code,
    reason = "forbidden system calls have no safe interface, which is as it should be"
)]

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::{env, fs, thread};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use sniffer::config::settings::row;
use sniffer::config::{self, environment};
use sniffer::random;
use sniffer::sandbox::{Confinement, Plan};
use sniffer::sink::Sinks;
use tempfile::TempDir;
use tests::capture::{Capture, find};
use tests::network::{Lab, Namespace};
use tests::nginx::{Nginx, curl};
use tests::process::{PATIENCE, Running, eventually};
use tests::program::sniffer;
use tests::scene::Scene;

use crate::all_in_one::AllInOne;

/// The plan, the attempt, and the folder and ports that both name.
const TRY: &str = "SANDBOX_TRY";

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Worked,
    Failed(i32),
    Killed,
}

/// What the attempts under one plan have in common: a folder with a file that may be read, and two listeners.
struct Ground {
    folder: TempDir,
    allowed: TcpListener,
    other: TcpListener,
}

impl Ground {
    fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        fs::create_dir(folder.path().join("ours"))?;
        fs::write(folder.path().join("ours/file"), "include debug\n")?;
        fs::write(folder.path().join("secret"), "secret")?;
        Ok(Self {
            folder,
            allowed: TcpListener::bind("127.0.0.1:0")?,
            other: TcpListener::bind("127.0.0.1:0")?,
        })
    }

    /// Does `what` in a process that has confined itself as `role`.
    fn attempt(&self, role: &str, what: &str) -> Result<End> {
        let ports = [&self.allowed, &self.other].map(TcpListener::local_addr);
        let [allowed, other] = ports.map(|address| address.map(|address| address.port()));
        let words = [
            role.to_owned(),
            what.to_owned(),
            self.folder.path().display().to_string(),
            allowed?.to_string(),
            other?.to_string(),
        ];
        let output = Command::new(env::current_exe()?)
            .args(["--exact", "sandbox::one_try", "--ignored", "--nocapture"])
            .env(TRY, words.join("|"))
            .output()?;
        let failure = || format!("{role} {what}: {output:?}");
        match (output.status.code(), output.status.signal()) {
            (Some(0), _) => Ok(End::Worked),
            (Some(code @ 1..=99), _) => Ok(End::Failed(code)),
            (None, Some(libc::SIGSYS)) => Ok(End::Killed),
            _ => anyhow::bail!(failure()),
        }
    }
}

/// Not a test: [`Ground::attempt`] starts it. Ends with 0, or with the number of the error.
#[test]
#[ignore = "started by the tests of this module"]
fn one_try() {
    let Ok(words) = env::var(TRY) else { return };
    let words: Vec<&str> = words.split('|').collect();
    let &[role, what, folder, allowed, other] = words.as_slice() else {
        panic!("{words:?}")
    };
    let folder = Path::new(folder);
    let file = folder.join("ours/file");
    let plan = match role {
        "capture" => {
            let url = format!("http://127.0.0.1:{allowed}/message");
            let rules = format!("file://{}", file.display());
            let pairs = [("USAGE_LOGGERS_URL", &url), ("USAGE_LOGGERS_RULES", &rules)];
            let pairs = pairs.map(|(name, value)| (name.into(), value.into()));
            let (mut values, _) = environment::values(pairs.into_iter(), false).unwrap();
            values.set(row::no_send(), "false");
            let config = config::capture(&values, true).unwrap();
            let mut plan = Plan::capture(Some(&file), &folder.join("ours/control"));
            let identity = random::identity(&config.host).unwrap();
            Sinks::of(&config, &identity).plan(&mut plan);
            plan
        }
        "store" => Plan::store(&folder.join("ours")),
        "reader" => Plan::reader(std::slice::from_ref(&file), false),
        _ => panic!("{role}"),
    };
    let before = TcpListener::bind("127.0.0.1:0").unwrap();
    let confinement = Confinement::of(&plan);
    let shown = confinement.to_string();
    assert!(
        shown.contains("landlock ABI") && shown.contains("seccomp on"),
        "{shown}"
    );
    let done = attempt(what, folder, allowed, other);
    drop(before);
    // The kernel's error, as far as it fits into an exit code; 100 and above are not errors that are expected here.
    std::process::exit(match done {
        Ok(()) => 0,
        Err(error) => error.raw_os_error().unwrap_or(100),
    });
}

fn attempt(what: &str, folder: &Path, allowed: &str, other: &str) -> io::Result<()> {
    let call = |number, arguments| raw(number, arguments);
    let connect = |port: &str| TcpStream::connect(("127.0.0.1", port.parse().unwrap())).map(drop);
    match what {
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
        "signal ourselves" => call(libc::SYS_kill, [std::process::id().into(), 0, 0, 0]),
        "signal another" => call(libc::SYS_kill, [1, 0, 0, 0]),
        "a packet socket" => call(libc::SYS_socket, [libc::AF_PACKET as i64, 3, 0, 0]),
        "an audit socket" => call(libc::SYS_socket, [libc::AF_NETLINK as i64, 3, 9, 0]),
        "an io_uring" => call(libc::SYS_io_uring_setup, [1, 0, 0, 0]),
        "type into a terminal" => call(libc::SYS_ioctl, [0, libc::TIOCSTI as i64, 0, 0]),
        "raise a limit" => call(libc::SYS_prlimit64, [0, 7, 1, 0]),
        "a child" => call(libc::SYS_clone, [libc::SIGCHLD.into(), 0, 0, 0]),
        "a program" => Command::new("/bin/true").status().map(drop),
        "execve" => call(libc::SYS_execve, [0, 0, 0, 0]),
        "ptrace" => call(libc::SYS_ptrace, [libc::PTRACE_TRACEME.into(), 0, 0, 0]),
        "mount" => call(libc::SYS_mount, [0, 0, 0, 0]),
        "unshare" => call(libc::SYS_unshare, [libc::CLONE_NEWUSER.into(), 0, 0, 0]),
        "bpf" => call(libc::SYS_bpf, [0, 0, 0, 0]),
        "setuid" => call(libc::SYS_setuid, [0, 0, 0, 0]),
        "load a module" => call(libc::SYS_finit_module, [0, 0, 0, 0]),
        _ => panic!("{what}"),
    }
}

fn raw(number: libc::c_long, [a, b, c, d]: [i64; 4]) -> io::Result<()> {
    // SAFETY: pointers among the arguments are null. None of the calls takes memory or descriptors of this process away.
    match unsafe { libc::syscall(number, a, b, c, d) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[track_caller]
fn check(role: &str, tries: &[(&str, End)]) {
    let ground = Ground::new().unwrap();
    for (what, expected) in tries {
        assert_eq!(
            ground.attempt(role, what).unwrap(),
            *expected,
            "{role}: {what}"
        );
    }
}

const EPERM: End = End::Failed(libc::EPERM);
const EACCES: End = End::Failed(libc::EACCES);

/// No role ever makes these calls, so an attempt ends the process.
const HOSTILE: [(&str, End); 7] = [
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
            ("read what is ours", End::Worked),
            ("read a new file of that folder", End::Worked),
            ("connect to the destination", End::Worked),
            ("a thread", End::Worked),
            ("signal ourselves", End::Worked),
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
            // The control socket is there; its name is removed at the end.
            ("remove a name of ours", End::Worked),
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
            ("connect to the destination", EPERM),
            ("listen", EPERM),
            ("a packet socket", EPERM),
            ("an io_uring", EPERM),
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
    let log = capture.stop()?;
    assert!(log.contains("sandbox: landlock ABI"), "{log}");
    Ok(())
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

/// As in a container, whose filter refuses io_uring, landlock and related calls.
fn in_a_container<T: Send>(refused: &[libc::c_long], work: impl FnOnce() -> T + Send) -> T {
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
    let rules = refused.iter().map(|&call| (call, Vec::new())).collect();
    let (otherwise, matched) = (
        SeccompAction::Allow,
        SeccompAction::Errno(libc::EPERM.unsigned_abs()),
    );
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
        let capture = in_a_container(refused, start)?;
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
    // The store keeps CAP_DAC_OVERRIDE, to write a folder of another user.
    check_threads(pid(&status["store"])?, "0000000000000002")?;
    check_threads(pid(&status)?, NO_CAPABILITY)?;
    Ok(())
}
