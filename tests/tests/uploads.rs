//! Uploads that are seen on the wire: behind proxies, at addresses that were not known at the start, in a mirror, and by
//! other sniffers. Each of these fed on itself, or on another, when only addresses said what an upload is.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bench::collect::{Collector, value};
use serde_json::Value;
use tests::capture::Capture;
use tests::haproxy::Haproxy;
use tests::http::request;
use tests::network::{Namespace, cable};
use tests::nginx::{Nginx, curl};
use tests::process::{PATIENCE, Running, eventually};
use tests::program::sniffer;

/// Several times the age at which a bundle is closed: what feeds on itself has grown by then.
const LOOP_TIME: Duration = Duration::from_secs(6);

/// A collector in a namespace, at an address of it.
fn collector(namespace: &Namespace, address: &str) -> Result<Collector> {
    let address = address.to_owned();
    Collector::serve(namespace.inside(move || TcpListener::bind(address))?)
}

/// Passes connections to `port` of the loopback on to `to`, byte by byte, until the test ends.
fn tcp_proxy(namespace: &Namespace, port: u16, to: &str) -> Result<()> {
    let to = to.to_owned();
    // A thread is in the namespace of the one that starts it.
    namespace.inside(move || -> Result<()> {
        let listener = TcpListener::bind(("127.0.0.1", port))?;
        thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(&to)) else {
                    return;
                };
                for (from, into) in [(&client, &server), (&server, &client)] {
                    let (Ok(from), Ok(into)) = (from.try_clone(), into.try_clone()) else {
                        return;
                    };
                    thread::spawn(move || pump(from, into));
                }
            }
        });
        Ok(())
    })
}

fn pump(mut from: TcpStream, mut into: TcpStream) {
    // Whichever end goes first, the other is closed behind it.
    let _ = io::copy(&mut from, &mut into);
    let _ = into.shutdown(Shutdown::Write);
}

/// Waits for the lines of the client, and then long enough for a loop to show; only these may have come.
#[track_caller]
fn check_lines(collector: &Collector, expected: &[&str]) -> Result<()> {
    let count = expected.len() as u64;
    ensure!(
        collector.wait_for_lines(count, PATIENCE),
        "{:?}",
        collector.counts()
    );
    thread::sleep(LOOP_TIME);
    check_lines_now(collector, expected);
    Ok(())
}

#[track_caller]
fn check_lines_now(collector: &Collector, expected: &[&str]) {
    let rows = collector.rows();
    let urls = rows.iter().filter_map(|row| value(row, "request_url"));
    let mut urls: Vec<_> = urls.collect();
    urls.sort_unstable();
    assert_eq!(urls, expected);
}

fn uploads(capture: &Capture<'_>) -> Result<Value> {
    Ok(capture.status()?["capture"]["uploads"].clone())
}

const ON_LOOPBACK: [(&str, &str); 3] = [
    ("NET_DEVICE", "lo"),
    ("SNIFFER_METRICS", "off"),
    ("SNIFFER_SHARDS", "1"),
];

/// The second leg of an upload, behind a proxy of bytes and behind one of requests.
#[test]
fn behind_a_proxy_on_this_machine() -> Result<()> {
    for proxied_by_nginx in [false, true] {
        let namespace = Namespace::new("loop")?;
        let collector = collector(&namespace, "127.0.0.1:7711")?;
        let _nginx = if proxied_by_nginx {
            Nginx::proxying(&namespace, 7701, "127.0.0.1:7711")?
        } else {
            tcp_proxy(&namespace, 7701, "127.0.0.1:7711")?;
            Nginx::start(&namespace)?
        };
        for compression in ["off", "on"] {
            let before = collector.counts().lines;
            let settings = [&ON_LOOPBACK[..], &[("SNIFFER_COMPRESSION", compression)]].concat();
            let capture = Capture::start(&namespace, "http://127.0.0.1:7701/message", &settings)?;
            for _ in 0..3 {
                curl(&namespace, &["http://127.0.0.1/hello"])?;
            }
            ensure!(
                collector.wait_for_lines(before + 3, PATIENCE),
                "nothing arrived"
            );
            thread::sleep(LOOP_TIME);
            assert_eq!(collector.counts().lines - before, 3, "{}", capture.log());
            let uploads = uploads(&capture)?;
            assert!(uploads["own"].as_u64() >= Some(1), "{uploads}");
            assert_eq!(uploads["other"], 0, "{uploads}");
            let text = capture.control(&["status"])?.stdout;
            assert!(
                text.contains(" uploads  skipped ") && text.contains(" of this sniffer"),
                "{text}"
            );
            let log = capture.stop()?;
            assert!(log.contains("Uploads of sniffers: skipped"), "{log}");
        }
    }
    Ok(())
}

/// A proxy that sends uploads and the requests of others over the same connection: each request after a skipped upload is
/// a call, in whatever order they come.
#[test]
fn among_the_requests_of_others_on_one_connection() -> Result<()> {
    let namespace = Namespace::new("shared")?;
    let collector = collector(&namespace, "127.0.0.1:7711")?;
    let _haproxy = Haproxy::proxying(&namespace, 7701, "127.0.0.1:7711")?;
    let url = "http://127.0.0.1:7701/message";
    let capture = Capture::start(&namespace, url, &ON_LOOPBACK)?;
    let mut expected = Vec::new();
    for round in 0..4 {
        // The way to the proxy is left out as that to the capture URL, so each request is seen once.
        let request = format!("http://127.0.0.1:7701/others/{round}");
        curl(&namespace, &["-o", "/dev/null", &request])?;
        expected.push(request);
        ensure!(
            collector.wait_for_lines(expected.len() as u64, PATIENCE),
            "{:?}",
            collector.counts()
        );
    }
    let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
    check_lines(&collector, &expected)?;
    let uploads = uploads(&capture)?;
    assert!(uploads["own"].as_u64() >= Some(4), "{uploads}");
    Ok(())
}

/// The hosts file of a namespace.
struct Hosts(PathBuf);

impl Hosts {
    fn new(namespace: &Namespace, lines: &str) -> Result<Self> {
        let folder = PathBuf::from("/etc/netns").join(namespace.name());
        fs::create_dir_all(&folder)?;
        let hosts = Self(folder);
        fs::write(hosts.0.join("nsswitch.conf"), "hosts: files\n")?;
        hosts.write(lines)?;
        Ok(hosts)
    }

    /// In place, as the file is mounted over the one of the machine.
    fn write(&self, lines: &str) -> Result<()> {
        fs::write(
            self.0.join("hosts"),
            format!("127.0.0.1 localhost\n{lines}"),
        )?;
        Ok(())
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        // Nothing is left to do about a folder that cannot be deleted.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The name of the capture URL resolves only after the start, and then moves.
#[test]
fn at_an_address_that_was_not_known_at_the_start() -> Result<()> {
    let near = Namespace::new("near")?;
    let far = Namespace::new("far")?;
    cable(&near, "n0", &far, "f0", 1500)?;
    near.ip("address add 10.77.0.1/24 dev n0")?;
    for last in [2, 3] {
        far.ip(&format!("address add 10.77.0.{last}/24 dev f0"))?;
    }
    let _nginx = Nginx::start(&far)?;
    let first = collector(&far, "10.77.0.2:7701")?;
    let second = collector(&far, "10.77.0.3:7701")?;
    let hosts = Hosts::new(&near, "")?;
    let settings = [("NET_DEVICE", "n0"), ("SNIFFER_METRICS", "off")];
    let capture = Capture::start(&near, "http://lake.test:7701/message", &settings)?;
    curl(&near, &["http://10.77.0.2/hello"])?;
    hosts.write("10.77.0.2 lake.test\n")?;
    check_lines(&first, &["http://10.77.0.2/hello"])?;
    hosts.write("10.77.0.3 lake.test\n")?;
    // The connections that are open stay where they are: this address is gone.
    far.ip("address delete 10.77.0.2/24 dev f0")?;
    far.ip("address add 10.77.0.3/24 dev f0")
        .or_else(|_| far.ip("address show"))?;
    curl(&near, &["http://10.77.0.3/moved"])?;
    ensure!(
        second.wait_for_lines(1, Duration::from_secs(60)),
        "{}",
        capture.log()
    );
    thread::sleep(LOOP_TIME);
    check_lines_now(&second, &["http://10.77.0.3/moved"]);
    assert!(uploads(&capture)?["own"].as_u64() >= Some(1));
    capture.stop()?;
    Ok(())
}

/// The collector's own interface is mirrored, so that each upload comes back in VXLAN.
#[test]
fn in_the_mirror_of_the_collectors_interface() -> Result<()> {
    let near = Namespace::new("near")?;
    let far = Namespace::new("far")?;
    cable(&near, "n0", &far, "f0", 9000)?;
    near.ip("address add 10.77.0.1/24 dev n0")?;
    far.ip("address add 10.77.0.2/24 dev f0")?;
    far.ip("link add mirror0 type vxlan id 77 local 10.77.0.2 remote 10.77.0.1 dstport 4789 dev f0 nolearning")?;
    far.ip("link set mirror0 up")?;
    far.tc("qdisc add dev f0 clsact")?;
    for port in [7701, 80] {
        for (direction, end) in [("ingress", "dport"), ("egress", "sport")] {
            far.tc(&format!(
                "filter add dev f0 {direction} protocol ip u32 match ip protocol 6 0xff match ip {end} {port} 0xffff \
                 action mirred egress mirror dev mirror0"
            ))?;
        }
    }
    let _nginx = Nginx::start(&far)?;
    let collector = collector(&far, "10.77.0.2:7701")?;
    let settings = [
        ("NET_DEVICE", "n0"),
        ("SNIFFER_ENGINE", "vxlan"),
        ("SNIFFER_METRICS", "off"),
    ];
    let capture = Capture::start(&near, "http://10.77.0.2:7701/message", &settings)?;
    for path in ["hello", "moved"] {
        curl(&near, &[&format!("http://10.77.0.2/{path}")])?;
    }
    check_lines(
        &collector,
        &["http://10.77.0.2/hello", "http://10.77.0.2/moved"],
    )?;
    capture.stop()?;
    Ok(())
}

/// Three sniffers on one machine, each with a collector of its own: each delivers the client's calls and no upload.
#[test]
fn of_other_sniffers() -> Result<()> {
    let namespace = Namespace::new("three")?;
    let _nginx = Nginx::start(&namespace)?;
    let ports = [7711, 7721, 7731];
    let collectors = ports.map(|port| collector(&namespace, &format!("127.0.0.1:{port}")));
    let collectors = collectors.into_iter().collect::<Result<Vec<_>>>()?;
    let mut captures = Vec::new();
    for (number, collector) in collectors.iter().enumerate() {
        let name = format!("sniffer-{number}");
        let compression = if number == 0 { "on" } else { "off" };
        let settings = [
            &ON_LOOPBACK[..],
            &[("DYNO", &name), ("SNIFFER_COMPRESSION", compression)],
        ];
        captures.push(Capture::start(
            &namespace,
            &collector.url(),
            &settings.concat(),
        )?);
    }
    curl(&namespace, &["http://127.0.0.1/hello"])?;
    for collector in &collectors {
        check_lines(collector, &["http://127.0.0.1/hello"])?;
    }
    captures[1].wait_for_log("skipping the uploads of another sniffer, sniffer-2")?;
    let uploads = uploads(&captures[1])?;
    for sender in ["sniffer-0", "sniffer-2"] {
        assert_eq!(uploads["senders"][sender], 1, "{uploads}");
    }
    for capture in captures {
        capture.stop()?;
    }
    Ok(())
}

/// With the setting they are calls, and this sniffer's own still are none.
#[test]
fn of_other_sniffers_are_calls_on_request() -> Result<()> {
    let namespace = Namespace::new("shown")?;
    let _nginx = Nginx::start(&namespace)?;
    let quiet = collector(&namespace, "127.0.0.1:7711")?;
    let shown = collector(&namespace, "127.0.0.1:7721")?;
    let watching = [&ON_LOOPBACK[..], &[("SNIFFER_INCLUDE_UPLOADS", "true")]].concat();
    let first = Capture::start(&namespace, &quiet.url(), &ON_LOOPBACK)?;
    let second = Capture::start(&namespace, &shown.url(), &watching)?;
    curl(&namespace, &["http://127.0.0.1/hello"])?;
    check_lines(&quiet, &["http://127.0.0.1/hello"])?;
    check_lines(
        &shown,
        &["http://127.0.0.1/hello", "http://127.0.0.1:7711/message"],
    )?;
    first.stop()?;
    second.stop()?;
    Ok(())
}

/// A marker alone hides nothing: neither a made one, nor one that was copied from an upload.
#[test]
fn nobody_hides_behind_a_marker() -> Result<()> {
    let namespace = Namespace::new("hide")?;
    let _nginx = Nginx::start(&namespace)?;
    let collector = collector(&namespace, "127.0.0.1:7711")?;
    let (copies, seen) = std::sync::mpsc::channel();
    // Between the sniffer and its collector sits somebody who reads the heads of uploads.
    namespace.inside(move || -> Result<()> {
        let listener = TcpListener::bind("127.0.0.1:7701")?;
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let copies = copies.clone();
                thread::spawn(move || copy_head(client, &copies));
            }
        });
        Ok(())
    })?;
    let mut capture = Capture::start(&namespace, "http://127.0.0.1:7701/message", &ON_LOOPBACK)?;
    curl(&namespace, &["http://127.0.0.1/hello"])?;
    let head: String = seen.recv_timeout(PATIENCE).context("no upload came")?;
    let field = |name: &str| -> Result<String> {
        let line = head
            .lines()
            .find(|line| line.to_ascii_lowercase().starts_with(name));
        let value = line
            .and_then(|line| line.split_once(": "))
            .context("no such field")?
            .1;
        Ok(value.to_owned())
    };
    let (own, key) = (field("sniffer-upload-marker")?, field("idempotency-key")?);
    let length: usize = field("content-length")?.parse()?;
    let foreign = "v1; instance=a1; sender=me";
    let post = |path: &str, marker: &str, body: &[u8]| {
        let headers = [
            ("Content-Type", "application/ndjson"),
            ("Sniffer-Upload-Marker", marker),
            ("Idempotency-Key", &key),
        ];
        let path = path.to_owned();
        let marker_and_key = headers.map(|(name, value)| (name, value.to_owned()));
        let body = body.to_vec();
        namespace.inside(move || {
            let headers: Vec<_> = marker_and_key
                .iter()
                .map(|(n, v)| (*n, v.as_str()))
                .collect();
            request("127.0.0.1:80", "POST", &path, &headers, &body).map(drop)
        })
    };
    post("/copied", &own, &vec![b'x'; length])?;
    post("/short", &own, b"{}")?;
    post("/made", foreign, b"{\"secret\":1}\n")?;
    let line = b"[[\"request_method\",\"GET\"],[\"request_url\",\"http://a/\"]]\n";
    post("/upload", foreign, line)?;
    check_lines(
        &collector,
        &[
            "http://127.0.0.1/hello",
            "http://127.0.0.1:80/copied",
            "http://127.0.0.1:80/made",
            "http://127.0.0.1:80/short",
        ],
    )?;
    let uploads = uploads(&capture)?;
    assert_eq!(uploads["markers_refused"], 3, "{uploads}");
    assert_eq!(uploads["senders"]["me"], 1, "{uploads}");
    capture.wait_for_log("W077")?;
    capture.stop()?;
    Ok(())
}

/// Passes a connection on to the collector, and a copy of its first head to the test.
fn copy_head(mut client: TcpStream, copies: &std::sync::mpsc::Sender<String>) -> Option<()> {
    let mut server = TcpStream::connect("127.0.0.1:7711").ok()?;
    let mut bytes = vec![0; 64 * 1024];
    let count = client.read(&mut bytes).ok()?;
    // The test may have ended.
    let _ = copies.send(String::from_utf8_lossy(&bytes[..count]).into_owned());
    server.write_all(&bytes[..count]).ok()?;
    let (from, into) = (server.try_clone().ok()?, client.try_clone().ok()?);
    thread::spawn(move || pump(from, into));
    pump(client, server);
    Some(())
}

/// An all-in-one that delivers through a proxy in front of another store.
#[test]
fn of_an_all_in_one_behind_a_proxy() -> Result<()> {
    let namespace = Namespace::new("all")?;
    let collector = collector(&namespace, "127.0.0.1:7711")?;
    let _nginx = Nginx::proxying(&namespace, 7791, "127.0.0.1:7711")?;
    let data = tempfile::tempdir()?;
    let control = data.path().join("control").display().to_string();
    let mut command = sniffer(&["all-in-one", "--on", "--control", &control, "-i", "lo"]);
    command.args(["--metrics", "off", "--url", "http://127.0.0.1:7791/message"]);
    command
        .args(["--rules", "include debug", "--data"])
        .arg(data.path());
    let program = Running::start(&mut namespace.enter(&command))?;
    let started = || -> Result<()> {
        let status = sniffer(&["status", "--control", &control]);
        let ended = Running::start(&mut namespace.enter(&status))?.end(PATIENCE)?;
        ensure!(ended.stdout.contains("RUNNING"), "{}", ended.stdout);
        Ok(())
    };
    eventually(PATIENCE, started).with_context(|| program.stderr())?;
    curl(&namespace, &["http://127.0.0.1/hello"])?;
    check_lines(&collector, &["http://127.0.0.1/hello"])?;
    let ended = program.terminate(PATIENCE)?;
    assert_eq!(ended.code()?, 0, "{}", ended.stderr);
    Ok(())
}
