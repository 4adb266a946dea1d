//! Live capture in network namespaces: real nginx, real curl, real interfaces, mirrors made by the kernel. Here belongs
//! what only a running kernel shows.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bench::collect::{Behaviour, Collector, Row, value};
use bench::seed::Seed;
use bench::send::send;
use bench::traffic::{Accidents, Conversation, Shape, Wire, frames};
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tests::network::{Lab, Namespace};
use tests::nginx::{LARGE_BYTES, Nginx, curl, large, page};
use tests::process::{Running, eventually, run};
use tests::program::sniffer;
use tests::truth;

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn collector(namespace: &Namespace) -> Result<Collector> {
    Collector::serve(namespace.inside(|| TcpListener::bind("127.0.0.1:0"))?)
}

/// `sniffer run` in a namespace, with its own control socket.
pub(crate) struct Capture<'a> {
    namespace: &'a Namespace,
    process: Running,
    control: String,
    _folder: TempDir,
}

impl<'a> Capture<'a> {
    pub(crate) fn start(
        namespace: &'a Namespace,
        url: &str,
        settings: &[(&str, &str)],
    ) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let control = folder.path().join("control").display().to_string();
        let mut command = sniffer(&["run", "--control", &control]);
        command.envs([
            ("USAGE_LOGGERS_URL", url),
            ("USAGE_LOGGERS_RULES", "include debug"),
        ]);
        command.envs(settings.iter().copied());
        let mut process = Running::start(&mut namespace.enter(&command))?;
        process.says("capturing", PATIENCE)?;
        Ok(Self {
            namespace,
            process,
            control,
            _folder: folder,
        })
    }

    pub(crate) fn status(&self) -> Result<Value> {
        let command = sniffer(&["status", "--json", "--control", &self.control]);
        let text = run(&mut self.namespace.enter(&command))?;
        serde_json::from_str(&text).with_context(|| format!("no JSON: {text}"))
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// What it has said so far.
    pub(crate) fn said(&self) -> String {
        self.process.stderr()
    }

    /// Nothing may be unaccounted for while it runs; then it must flush and end with 0.
    pub(crate) fn stop(self) -> Result<String> {
        self.stop_with(0)
    }

    /// The same with another exit code: 8 when calls were dropped.
    pub(crate) fn stop_with(self, code: i32) -> Result<String> {
        let status = self.status()?;
        ensure!(find(&status, "unaccounted") == Some(0), "{status}");
        let ended = self.process.terminate(PATIENCE)?;
        ensure!(ended.code()? == code, "{}", ended.stderr);
        Ok(ended.stderr)
    }
}

/// The first number under `key`, at any depth.
pub(crate) fn find(tree: &Value, key: &str) -> Option<i64> {
    match tree {
        Value::Object(members) => {
            let here = members.get(key).and_then(Value::as_i64);
            here.or_else(|| members.values().find_map(|member| find(member, key)))
        }
        Value::Array(members) => members.iter().find_map(|member| find(member, key)),
        _ => None,
    }
}

/// What must be reported of a call.
struct Call {
    method: &'static str,
    url: String,
    status: &'static str,
    /// Not compared if there is none here.
    body: Option<String>,
}

fn call_of_each_shape(client: &Namespace, host: &str) -> Result<Vec<Call>> {
    let at = |path: &str| format!("http://{host}{path}");
    let posted = format!("{{\"text\":\"{}\"}}", "posted ".repeat(3000));
    curl(client, &[&at("/hello?a=1&b=x%20y")])?;
    curl(client, &["--json", &posted, &at("/created")])?;
    curl(client, &["-I", &at("/hello")])?;
    curl(client, &["-X", "DELETE", &at("/empty")])?;
    curl(client, &["--compressed", &at("/page.html")])?;
    curl(client, &[&at("/large.bin"), &at("/moved"), &at("/nowhere")])?;
    let call = |method, path: &str, status, body| Call {
        method,
        url: at(path),
        status,
        body,
    };
    Ok(vec![
        call(
            "GET",
            "/hello",
            "200",
            Some("hello from nginx\n".to_owned()),
        ),
        call(
            "POST",
            "/created",
            "201",
            Some("{\"created\":true}".to_owned()),
        ),
        call("HEAD", "/hello", "200", None),
        call("DELETE", "/empty", "204", None),
        call("GET", "/page.html", "200", Some(page())),
        call("GET", "/large.bin", "200", Some(large())),
        call("GET", "/moved", "301", None),
        call("GET", "/nowhere", "404", None),
    ])
}

#[track_caller]
fn check_calls(expected: &[Call], rows: &[Row]) {
    let seen: Vec<_> = rows
        .iter()
        .map(|row| (value(row, "request_method"), value(row, "request_url")))
        .collect();
    assert_eq!(rows.len(), expected.len(), "{seen:?}");
    for Call {
        method,
        url,
        status,
        body,
    } in expected
    {
        let same = |row: &&Row| {
            value(row, "request_method") == Some(method)
                && value(row, "request_url") == Some(url.as_str())
        };
        let row = rows
            .iter()
            .find(same)
            .unwrap_or_else(|| panic!("no {method} {url} in {seen:?}"));
        assert_eq!(value(row, "response_code"), Some(*status), "{method} {url}");
        if let Some(body) = body {
            let reported = value(row, "response_body").unwrap_or_default();
            assert!(
                reported == body,
                "{method} {url}: {} bytes instead of {}",
                reported.len(),
                body.len()
            );
        }
    }
}

/// The ground the other tests stand on: if this fails, the kernel lacks something, not we.
#[test]
fn the_lab_itself_works() -> Result<()> {
    for outer in ["10.78.0.2", "fd78::2"] {
        let lab = Lab::new()?;
        let _nginx = Nginx::start(&lab.server)?;
        lab.mirror(77, outer)?;
        let received = || -> Result<i64> {
            let links: Value =
                serde_json::from_str(&lab.appliance.ip("-json -statistics link show a0")?)?;
            find(&links[0]["stats64"]["rx"], "bytes").context("a0 counts its bytes")
        };
        let before = received()?;
        call_of_each_shape(&lab.client, "10.77.0.1")?;
        call_of_each_shape(&lab.client, "[fd77::1]")?;
        let mirrored = received()? - before;
        assert!(
            mirrored > 2 * LARGE_BYTES as i64,
            "{mirrored} bytes arrived at {outer}"
        );
    }
    Ok(())
}

#[test]
fn plain_interface() -> Result<()> {
    let lab = Lab::new()?;
    let _nginx = Nginx::start(&lab.server)?;
    let collector = collector(&lab.server)?;
    let capture = Capture::start(
        &lab.server,
        &collector.url(),
        &[("NET_DEVICE", "s0"), ("APP_PORTS", "80")],
    )?;
    let mut expected = call_of_each_shape(&lab.client, "10.77.0.1")?;
    expected.extend(call_of_each_shape(&lab.client, "[fd77::1]")?);
    ensure!(
        collector.wait_for_lines(expected.len() as u64, PATIENCE),
        "{:?}",
        collector.tally()
    );
    capture.stop()?;
    check_calls(&expected, &collector.rows());
    Ok(())
}

/// No device and no port named: every interface that is up, HTTP found by looking, and our own deliveries left out.
#[test]
fn all_interfaces_and_any_port() -> Result<()> {
    let lab = Lab::new()?;
    let _nginx = Nginx::start(&lab.server)?;
    let collector = collector(&lab.server)?;
    let capture = Capture::start(&lab.server, &collector.url(), &[])?;
    curl(&lab.client, &["http://10.77.0.1/hello"])?;
    curl(&lab.server, &["http://127.0.0.1/moved"])?;
    ensure!(
        collector.wait_for_lines(2, PATIENCE),
        "{:?}",
        collector.tally()
    );
    // A second flush interval: a capture of our own POST would come now.
    std::thread::sleep(Duration::from_millis(2500));
    capture.stop()?;
    let rows = collector.rows();
    let mut urls: Vec<_> = rows
        .iter()
        .filter_map(|row| value(row, "request_url"))
        .collect();
    urls.sort_unstable();
    assert_eq!(urls, ["http://10.77.0.1/hello", "http://127.0.0.1/moved"]);
    Ok(())
}

fn check_mirror(
    outer: &str,
    settings: &[(&str, &str)],
    prepare: impl FnOnce(&Lab) -> Result<()>,
) -> Result<()> {
    let lab = Lab::new()?;
    let _nginx = Nginx::start(&lab.server)?;
    lab.mirror(77, outer)?;
    prepare(&lab)?;
    let collector = collector(&lab.appliance)?;
    let capture = Capture::start(&lab.appliance, &collector.url(), settings)?;
    let mut expected = call_of_each_shape(&lab.client, "10.77.0.1")?;
    expected.extend(call_of_each_shape(&lab.client, "[fd77::1]")?);
    ensure!(
        collector.wait_for_lines(expected.len() as u64, PATIENCE),
        "{:?}",
        collector.tally()
    );
    capture.stop()?;
    check_calls(&expected, &collector.rows());
    Ok(())
}

#[test]
fn mirror_decapsulated_by_us_over_ipv4() -> Result<()> {
    let settings = [
        ("SNIFFER_ENGINE", "vxlan"),
        ("NET_DEVICE", "a0"),
        ("SNIFFER_MIRROR_VNIS", "77"),
        ("APP_PORTS", "80"),
    ];
    check_mirror("10.78.0.2", &settings, |_| Ok(()))
}

#[test]
fn mirror_decapsulated_by_us_over_ipv6() -> Result<()> {
    check_mirror(
        "fd78::2",
        &[("SNIFFER_ENGINE", "mirror"), ("VPC_MIRROR_DEVICE", "a0")],
        |_| Ok(()),
    )
}

#[test]
fn mirror_decapsulated_by_the_kernel() -> Result<()> {
    check_mirror(
        "10.78.0.2",
        &[("VPC_MIRROR_DEVICE", "vx0"), ("APP_PORT", "80")],
        |lab| {
            lab.appliance
                .ip("link add vx0 type vxlan id 77 dstport 4789 dev a0")?;
            lab.appliance.ip("link set vx0 up")?;
            Ok(())
        },
    )
}

#[test]
fn denied_networks_are_not_read() -> Result<()> {
    let lab = Lab::new()?;
    let _nginx = Nginx::start(&lab.server)?;
    lab.mirror(77, "10.78.0.2")?;
    let collector = collector(&lab.appliance)?;
    for (vnis, lines) in [("-77", 0), ("78", 0), ("-78", 1)] {
        let before = collector.tally().lines;
        let settings = [
            ("SNIFFER_ENGINE", "vxlan"),
            ("NET_DEVICE", "a0"),
            ("SNIFFER_MIRROR_VNIS", vnis),
        ];
        let capture = Capture::start(&lab.appliance, &collector.url(), &settings)?;
        curl(&lab.client, &["http://10.77.0.1/hello"])?;
        capture.stop()?;
        assert_eq!(
            collector.tally().lines - before,
            lines,
            "SNIFFER_MIRROR_VNIS={vnis}"
        );
    }
    Ok(())
}

/// This kernel has no VLAN links of its own, so tagged frames are sent as they are; the receiving side takes the outer
/// tag out of the frame, as with a real trunk.
#[test]
fn tagged_frames() -> Result<()> {
    for vlans in [vec![], vec![5], vec![100, 5]] {
        for ipv6 in [false, true] {
            let lab = Lab::new()?;
            let collector = collector(&lab.server)?;
            let capture = Capture::start(&lab.server, &collector.url(), &[("NET_DEVICE", "s0")])?;
            let mut seed = Seed::new(5);
            let shape = Shape {
                ipv6,
                ..Shape::default()
            };
            let wire = Wire {
                vlans: vlans.clone(),
                ..Wire::default()
            };
            let talks: Vec<_> = (0..5)
                .map(|_| Conversation {
                    mss: 1428,
                    ..Conversation::seeded(&mut seed, &shape)
                })
                .map(|talk| (talk, wire.clone()))
                .collect();
            let frames = frames(&talks, &Accidents::none(), &mut seed);
            lab.client.inside(|| send("c0", &frames, 5_000))?;
            let exchanges: Vec<_> = talks.iter().flat_map(|(talk, _)| &talk.exchanges).collect();
            ensure!(
                collector.wait_for_lines(exchanges.len() as u64, PATIENCE),
                "{vlans:?}, IPv6 {ipv6}: {} of {} lines",
                collector.tally().lines,
                exchanges.len()
            );
            capture.stop()?;
            truth::check_all(exchanges, &collector.rows())
                .with_context(|| format!("{vlans:?}, IPv6 {ipv6}"))?;
        }
    }
    Ok(())
}

#[test]
fn a_stop_flushes_what_was_just_captured() -> Result<()> {
    let lab = Lab::new()?;
    let _nginx = Nginx::start(&lab.server)?;
    let collector = collector(&lab.server)?;
    let capture = Capture::start(
        &lab.server,
        &collector.url(),
        &[("NET_DEVICE", "s0"), ("APP_PORTS", "80")],
    )?;
    for _ in 0..5 {
        curl(&lab.client, &["http://10.77.0.1/hello"])?;
    }
    let said = capture.stop()?;
    assert_eq!(collector.tally().lines, 5, "{said}");
    assert!(
        said.contains("5 calls seen") && said.contains("5 sent"),
        "{said}"
    );
    Ok(())
}

/// The collector refuses, resets, stalls or lies for a while; afterwards every call has arrived, once.
#[test]
fn a_destination_that_recovers_gets_everything() -> Result<()> {
    for behaviour in [
        Behaviour::Refuse(503),
        Behaviour::Refuse(429),
        Behaviour::Reset,
        Behaviour::Lie,
    ] {
        let lab = Lab::new()?;
        let _nginx = Nginx::start(&lab.server)?;
        let collector = collector(&lab.server)?;
        collector.behave(behaviour);
        let capture = Capture::start(
            &lab.server,
            &collector.url(),
            &[("NET_DEVICE", "s0"), ("APP_PORTS", "80")],
        )?;
        for _ in 0..20 {
            curl(&lab.client, &["http://10.77.0.1/hello"])?;
        }
        std::thread::sleep(Duration::from_secs(2));
        collector.behave(Behaviour::Accept);
        ensure!(
            collector.wait_for_lines(20, PATIENCE),
            "{behaviour:?}: {:?}",
            collector.tally()
        );
        capture.stop().with_context(|| format!("{behaviour:?}"))?;
        assert_eq!(
            (collector.tally().lines, collector.tally().broken),
            (20, 0),
            "{behaviour:?}"
        );
    }
    Ok(())
}

#[test]
fn a_destination_that_comes_late_gets_everything() -> Result<()> {
    let lab = Lab::new()?;
    let _nginx = Nginx::start(&lab.server)?;
    let url = "http://127.0.0.1:7701/message";
    let mut capture = Capture::start(
        &lab.server,
        url,
        &[("NET_DEVICE", "s0"), ("APP_PORTS", "80")],
    )?;
    for _ in 0..20 {
        curl(&lab.client, &["http://10.77.0.1/hello"])?;
    }
    capture.process.says("W042", PATIENCE)?;
    let address: SocketAddr = "127.0.0.1:7701".parse()?;
    let collector = Collector::serve(lab.server.inside(|| TcpListener::bind(address))?)?;
    ensure!(
        collector.wait_for_lines(20, PATIENCE),
        "{:?}",
        collector.tally()
    );
    capture.stop()?;
    assert_eq!(collector.tally().lines, 20);
    Ok(())
}

/// A destination that never answers: the end is bounded in time, says that it is incomplete, and counts.
#[test]
fn a_destination_that_never_recovers_is_told() -> Result<()> {
    let lab = Lab::new()?;
    let _nginx = Nginx::start(&lab.server)?;
    let collector = collector(&lab.server)?;
    collector.behave(Behaviour::Refuse(503));
    let settings = [
        ("NET_DEVICE", "s0"),
        ("APP_PORTS", "80"),
        ("SNIFFER_FLUSH_TIMEOUT", "1s"),
    ];
    let capture = Capture::start(&lab.server, &collector.url(), &settings)?;
    curl(&lab.client, &["http://10.77.0.1/hello"])?;
    ensure!(
        collector.wait(PATIENCE, |tally| tally.mistreated > 0),
        "no POST came"
    );
    let ended = capture.process.terminate(PATIENCE)?;
    assert_eq!(ended.code()?, 8, "{}", ended.stderr);
    assert!(
        ended.stderr.contains("1 call seen") && ended.stderr.contains("0 sent"),
        "{}",
        ended.stderr
    );
    Ok(())
}

/// From the wire to a row of the embedded store, read back by SQL.
#[test]
fn calls_reach_the_embedded_store() -> Result<()> {
    let lab = Lab::new()?;
    let _nginx = Nginx::start(&lab.server)?;
    let data = tempfile::tempdir()?;
    let mut command = sniffer(&[
        "store",
        "--store",
        "127.0.0.1:7701",
        "--ui",
        "127.0.0.1:7700",
        "--data",
    ]);
    command.arg(data.path());
    let store = Running::start(&mut lab.server.enter(&command))?;
    let answers = || {
        lab.server
            .inside(|| tests::http::ask("127.0.0.1:7700", "GET", "/", &[], b""))
    };
    eventually(PATIENCE, answers).with_context(|| store.stderr())?;
    let settings = [("NET_DEVICE", "s0"), ("APP_PORTS", "80")];
    let capture = Capture::start(&lab.server, "http://127.0.0.1:7701/message", &settings)?;
    let expected = call_of_each_shape(&lab.client, "10.77.0.1")?;
    capture.stop()?;
    let lines = stored_lines(data.path())?;
    check_calls(&expected, &truth::rows(&lines.join("\n"))?);
    let ended = store.terminate(PATIENCE)?;
    assert_eq!(ended.code()?, 0, "{}", ended.stderr);
    Ok(())
}

fn stored_lines(data: &std::path::Path) -> Result<Vec<String>> {
    let database = rusqlite::Connection::open(data.join("calls.sqlite"))?;
    let mut query = database.prepare("SELECT line FROM calls ORDER BY id")?;
    let lines = query
        .query_map([], |row| row.get(0))?
        .collect::<Result<Vec<String>, _>>()?;
    Ok(lines)
}
