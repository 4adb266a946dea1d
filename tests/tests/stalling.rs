//! Strangers that stall: with every port of an all-in-one full of half-sent heads and bodies, honest clients are answered, and what
//! is captured is stored. Here belongs what one peer could do to the others.

use std::collections::VecDeque;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, setsockopt, socket, sockopt,
};
use tests::http::request;
use tests::network::{Lab, Namespace};
use tests::nginx::{Nginx, curl};
use tests::process::{PATIENCE, eventually};

use crate::all_in_one::AllInOne;

/// Page, capture URL, metrics.
const PORTS: [u16; 3] = [7700, 7701, 7702];

/// What is sent, and nothing behind it.
const HALVES: [&str; 4] = [
    "",
    "GET /livez HTTP/1.1\r\nX: ",
    "POST /message HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n[",
    "POST /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nx",
];

/// Connections that one stranger holds open; for each further one it gives up its oldest.
const HELD: usize = 400;

/// Between two connections of a stranger.
const PAUSE: Duration = Duration::from_millis(1);

const LINE: &[u8] = b"[[\"request_method\",\"GET\"],[\"request_url\",\"http://honest/\"]]\n";

#[test]
fn connections_that_stall_on_every_port_keep_nobody_out() -> Result<()> {
    raise_limit()?;
    let lab = Lab::new()?;
    let _nginx = Nginx::start(&lab.server)?;
    let ports = "--on --ui 0.0.0.0:7700 --store 0.0.0.0:7701 --metrics 0.0.0.0:7702";
    let arguments: Vec<&str> = ports.split(' ').collect();
    let all = AllInOne::start(&lab.server, &arguments)?;
    all.wait_for_running()?;
    let link = all.page_link()?;
    let (_, token) = link.split_once("?token=").context("a link with a token")?;
    let authorization = format!("Bearer {token}");

    // Strangers on the network first, with several addresses, then on this host.
    let strangers: Vec<Ipv4Addr> = (0..6)
        .map(|number| [10, 77, 0, 100 + number].into())
        .collect();
    for address in &strangers {
        lab.client.ip(&format!("address add {address}/24 dev c0"))?;
    }
    let here = Ipv4Addr::LOCALHOST;
    let mut stored = 0;
    for (namespace, from, to) in [
        (
            &lab.client,
            strangers.as_slice(),
            Ipv4Addr::new(10, 77, 0, 1),
        ),
        (&lab.server, &[here, here], here),
    ] {
        let attack = Attack::default();
        thread::scope(|scope| -> Result<()> {
            for &address in from {
                let attack = &attack;
                scope.spawn(move || namespace.inside(|| attack.stall(address, to)));
            }
            let _control = stalled_control(&all);
            let judged = (0..3).try_for_each(|_| -> Result<()> {
                attack.wait_for_more()?;
                check_honest(&lab.server, "127.0.0.1", &authorization).context("on the host")?;
                check_honest(&lab.client, "10.77.0.1", &authorization).context("on the network")?;
                curl(&lab.client, &["http://10.77.0.1/hello"])?;
                stored += 1;
                eventually(PATIENCE, || {
                    let calls = all.stored_with("http://10.77.0.1/hello")?;
                    ensure!(
                        calls == stored,
                        "{calls} of {stored} captured calls are stored"
                    );
                    Ok(())
                })?;
                let status = all.control(&["status"])?;
                ensure!(status.stdout.contains("RUNNING"), "{status:?}");
                Ok(())
            });
            attack.over.store(true, Ordering::Relaxed);
            judged
        })?;
    }
    // What was captured came over no port.
    let headers = [("Authorization", authorization.as_str())];
    let status = lab
        .server
        .inside(|| request("127.0.0.1:7700", "GET", "/api/v1/status", &headers, b""))?;
    let status: serde_json::Value = serde_json::from_slice(&status.body)?;
    let senders = status["senders"].as_array().context("a list")?;
    let of_capture = senders.iter().find(|sender| sender["sender"] == "capture");
    assert_eq!(of_capture.context("a sender")?["calls"], stored);
    let metrics = lab
        .server
        .inside(|| request("127.0.0.1:7702", "GET", "/metrics", &[], b""))?;
    let metrics = String::from_utf8(metrics.body)?;
    let closed = metrics
        .lines()
        .find_map(|line| line.strip_prefix("sniffer_metrics_clients_total{outcome=\"closed\"} "));
    ensure!(
        closed.context("a metric")?.parse::<u64>()? > 0,
        "the port was never full"
    );
    Ok(())
}

/// Every port answers a client that sends a whole request.
fn check_honest(from: &Namespace, host: &str, authorization: &str) -> Result<()> {
    let ask = |port: u16, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]| {
        let address = format!("{host}:{port}");
        from.inside(|| request(&address, method, path, headers, body))
            .with_context(|| format!("{method} {address}{path}"))
    };
    let live = ask(7702, "GET", "/livez", &[], b"")?;
    ensure!(live.status == 200, "{live:?}");
    let ndjson = [("Content-Type", "application/ndjson")];
    let posted = ask(7701, "POST", "/message", &ndjson, LINE)?;
    ensure!(posted.status == 204, "{posted:?}");
    let page = ask(
        7700,
        "GET",
        "/api/v1/status",
        &[("Authorization", authorization)],
        b"",
    )?;
    ensure!(page.status == 200, "{page:?}");
    Ok(())
}

/// Clients of the control socket that send nothing. Only processes of the same user can be such clients, and a client costs a
/// thread, so these are few.
fn stalled_control(all: &AllInOne<'_>) -> Vec<UnixStream> {
    let connections = (0..8).filter_map(|_| UnixStream::connect(all.control_socket()).ok());
    connections.collect()
}

#[derive(Default)]
struct Attack {
    over: AtomicBool,
    opened: AtomicU64,
}

impl Attack {
    /// Opens connections without end, and holds on to the newest.
    fn stall(&self, from: Ipv4Addr, to: Ipv4Addr) {
        let mut held = VecDeque::new();
        let kinds = PORTS
            .iter()
            .flat_map(|&port| HALVES.map(|half| (port, half)));
        for (port, half) in kinds.cycle() {
            if self.over.load(Ordering::Relaxed) {
                return;
            }
            let connected = connect_from(from, SocketAddrV4::new(to, port));
            if let Ok(mut connection) = connected {
                // It may be closed already, for the next one.
                let _ = connection.write_all(half.as_bytes());
                held.push_back(connection);
                self.opened.fetch_add(1, Ordering::Relaxed);
            }
            if held.len() > HELD {
                held.pop_front();
            }
            // Places run out, not the processors of this machine.
            thread::sleep(PAUSE);
        }
    }

    /// Waits until the strangers could have filled every port once more.
    fn wait_for_more(&self) -> Result<()> {
        let before = self.opened.load(Ordering::Relaxed);
        eventually(PATIENCE, || {
            let opened = self.opened.load(Ordering::Relaxed) - before;
            ensure!(opened > 2000, "{opened} connections");
            Ok(())
        })
    }
}

/// A connection from one of several addresses; given up after a second.
fn connect_from(from: Ipv4Addr, to: SocketAddrV4) -> Result<TcpStream> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Inet, SockType::Stream, flags, None)?;
    let second = nix::sys::time::TimeVal::new(1, 0);
    // It bounds connecting, too (socket(7)).
    setsockopt(&socket, sockopt::SendTimeout, &second)?;
    use std::os::fd::AsRawFd as _;
    let from = SockaddrIn::from(SocketAddrV4::new(from, 0));
    bind(socket.as_raw_fd(), &from)?;
    connect(socket.as_raw_fd(), &SockaddrIn::from(to))?;
    Ok(TcpStream::from(socket))
}

/// All the connections are descriptors of this process.
fn raise_limit() -> Result<()> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, most.min(65_536), most)?)
}
