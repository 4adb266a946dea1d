//! Live capture in network namespaces: real nginx, real curl, real interfaces, mirrors made by the kernel. Here belongs
//! what only a running kernel shows.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bench::collect::{Behaviour, Collector, Row, value};
use bench::seed::Seed;
use bench::traffic::{Accidents, Conversation, Shape, Wire, frames};
use serde_json::Value;
use tests::capture::{Capture, find};
use tests::network::{Lab, Namespace};
use tests::nginx::{LARGE_BYTES, Nginx, curl, large, page};
use tests::process::{PATIENCE, Running, eventually};
use tests::scene::Scene;
use tests::store;
use tests::truth;

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

/// What the other tests rely on: if this fails, the kernel lacks something.
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
    let scene = Scene::new()?;
    let capture = scene.capture(&[("NET_DEVICE", "s0"), ("APP_PORTS", "80")])?;
    let mut expected = call_of_each_shape(&scene.lab.client, "10.77.0.1")?;
    expected.extend(call_of_each_shape(&scene.lab.client, "[fd77::1]")?);
    scene.wait_for_lines(expected.len() as u64)?;
    // The answer comes once everything is delivered; nothing is said to run after it, even before the process is gone.
    let off = capture.control(&["off"])?;
    assert!(off.stdout.contains("sniffer: stopped\n"), "{off:?}");
    let status = capture.control(&["status"])?;
    assert_eq!(status.code()?, 3, "{status:?}");
    let ended = capture.terminate()?;
    assert_eq!(ended.code()?, 0, "{}", ended.stderr);
    check_calls(&expected, &scene.collector.rows());
    Ok(())
}

/// No device and no port named: every interface that is up, HTTP is detected, and self traffic is left out.
#[test]
fn all_interfaces_and_any_port() -> Result<()> {
    let scene = Scene::new()?;
    let capture = scene.capture(&[])?;
    scene.get("/hello")?;
    curl(&scene.lab.server, &["http://127.0.0.1/moved"])?;
    scene.wait_for_lines(2)?;
    // A second flush interval: a capture of our own POST would come now.
    std::thread::sleep(Duration::from_millis(2500));
    capture.stop()?;
    let rows = scene.collector.rows();
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
    in_tunnels: bool,
    prepare: impl FnOnce(&Lab) -> Result<()>,
) -> Result<()> {
    let scene = Scene::mirrored(outer)?;
    prepare(&scene.lab)?;
    let mut capture = scene.capture(settings)?;
    let mut expected = call_of_each_shape(&scene.lab.client, "10.77.0.1")?;
    expected.extend(call_of_each_shape(&scene.lab.client, "[fd77::1]")?);
    scene.wait_for_lines(expected.len() as u64)?;
    if in_tunnels {
        capture.wait_for_log("first packets of VNI 77")?;
    }
    capture.stop()?;
    check_calls(&expected, &scene.collector.rows());
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
    check_mirror("10.78.0.2", &settings, true, |_| Ok(()))
}

#[test]
fn mirror_decapsulated_by_us_over_ipv6() -> Result<()> {
    check_mirror(
        "fd78::2",
        &[("SNIFFER_ENGINE", "mirror"), ("VPC_MIRROR_DEVICE", "a0")],
        true,
        |_| Ok(()),
    )
}

#[test]
fn mirror_decapsulated_by_the_kernel() -> Result<()> {
    check_mirror(
        "10.78.0.2",
        &[("VPC_MIRROR_DEVICE", "vx0"), ("APP_PORT", "80")],
        false,
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
    let scene = Scene::mirrored("10.78.0.2")?;
    for (vnis, lines) in [("-77", 0), ("78", 0), ("-78", 1)] {
        let before = scene.collector.counts().lines;
        let settings = [
            ("SNIFFER_ENGINE", "vxlan"),
            ("NET_DEVICE", "a0"),
            ("SNIFFER_MIRROR_VNIS", vnis),
        ];
        let capture = scene.capture(&settings)?;
        scene.get("/hello")?;
        capture.stop()?;
        assert_eq!(
            scene.collector.counts().lines - before,
            lines,
            "SNIFFER_MIRROR_VNIS={vnis}"
        );
    }
    Ok(())
}

/// Kernels may lack VLAN links, so tagged frames are sent as they are; the receiving side takes the outer
/// tag out of the frame, as with a real trunk.
#[test]
fn tagged_frames() -> Result<()> {
    for vlans in [vec![], vec![5], vec![100, 5]] {
        for ipv6 in [false, true] {
            let scene = Scene::without_nginx()?;
            let capture = scene.capture(&[("NET_DEVICE", "s0")])?;
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
            scene.send(&frames, 5_000)?;
            let exchanges: Vec<_> = talks.iter().flat_map(|(talk, _)| &talk.exchanges).collect();
            let arrived = scene.wait_for_lines(exchanges.len() as u64);
            arrived.with_context(|| format!("{vlans:?}, IPv6 {ipv6}"))?;
            capture.stop()?;
            truth::check_all(exchanges, &scene.collector.rows())
                .with_context(|| format!("{vlans:?}, IPv6 {ipv6}"))?;
        }
    }
    Ok(())
}

#[test]
fn a_stop_flushes_what_was_just_captured() -> Result<()> {
    let scene = Scene::new()?;
    let capture = scene.capture(&[("NET_DEVICE", "s0"), ("APP_PORTS", "80")])?;
    for _ in 0..5 {
        scene.get("/hello")?;
    }
    let log = capture.stop()?;
    assert_eq!(scene.collector.counts().lines, 5, "{log}");
    assert!(
        log.contains("5 calls seen") && log.contains("5 sent"),
        "{log}"
    );
    Ok(())
}

/// The collector refuses, resets, stalls or answers wrongly for a while; afterwards every call has arrived, once.
#[test]
fn a_destination_that_recovers_gets_everything() -> Result<()> {
    for behaviour in [
        Behaviour::Refuse(503),
        Behaviour::Refuse(429),
        Behaviour::Reset,
        Behaviour::Lie,
    ] {
        let scene = Scene::new()?;
        scene.collector.set_behaviour(behaviour);
        let capture = scene.capture(&[("NET_DEVICE", "s0"), ("APP_PORTS", "80")])?;
        for _ in 0..20 {
            scene.get("/hello")?;
        }
        std::thread::sleep(Duration::from_secs(2));
        scene.collector.set_behaviour(Behaviour::Accept);
        let arrived = scene.wait_for_lines(20);
        arrived.with_context(|| format!("{behaviour:?}"))?;
        capture.stop().with_context(|| format!("{behaviour:?}"))?;
        let counts = scene.collector.counts();
        assert_eq!((counts.lines, counts.broken), (20, 0), "{behaviour:?}");
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
    capture.wait_for_log("W042")?;
    let address: SocketAddr = "127.0.0.1:7701".parse()?;
    let collector = Collector::serve(lab.server.inside(|| TcpListener::bind(address))?)?;
    ensure!(
        collector.wait_for_lines(20, PATIENCE),
        "{:?}",
        collector.counts()
    );
    capture.stop()?;
    assert_eq!(collector.counts().lines, 20);
    Ok(())
}

/// A destination that never answers: the program ends in bounded time, reports an incomplete delivery, and counts it.
#[test]
fn a_destination_that_never_recovers_is_reported() -> Result<()> {
    let scene = Scene::new()?;
    scene.collector.set_behaviour(Behaviour::Refuse(503));
    let settings = [
        ("NET_DEVICE", "s0"),
        ("APP_PORTS", "80"),
        ("SNIFFER_FLUSH_TIMEOUT", "1s"),
    ];
    let capture = scene.capture(&settings)?;
    scene.get("/hello")?;
    ensure!(
        scene.collector.wait(PATIENCE, |counts| counts.faults > 0),
        "no POST came"
    );
    let ended = capture.terminate()?;
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
    let store = Running::start(&mut lab.server.enter(&store::command(data.path())))?;
    let answers = || {
        lab.server
            .inside(|| tests::http::request("127.0.0.1:7700", "GET", "/", &[], b""))
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
    let database = ::store::backend::sqlite::query::open(data)?;
    let mut query = database.prepare("SELECT line FROM calls ORDER BY CAST(id AS INTEGER)")?;
    let lines = query
        .query_map([], |row| row.get(0))?
        .collect::<Result<Vec<String>, _>>()?;
    Ok(lines)
}
