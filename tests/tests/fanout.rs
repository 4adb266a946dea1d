//! Several shards and the kernel's filter, in the whole program. Here belongs what needs a fanout group, a filter of the
//! user's, or interfaces that come and go.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::capture::find;
use tests::network::cable;
use tests::nginx::curl;
use tests::process::{PATIENCE, eventually};
use tests::scene::Scene;

/// Calls of one test, each on its own connection.
const CALLS: u64 = 60;

fn text<'a>(status: &'a Value, key: &str) -> Option<&'a str> {
    status["capture"][key].as_str()
}

/// The kernel's own mirror gives each direction the outer port of its own flow hash, so requests and responses meet
/// only if the inner flow is what steers them.
#[test]
fn both_directions_of_every_mirrored_call_come_to_one_shard() -> Result<()> {
    let scene = Scene::mirrored("10.78.0.2")?;
    let settings = [
        ("SNIFFER_ENGINE", "vxlan"),
        ("NET_DEVICE", "a0"),
        ("SNIFFER_SHARDS", "4"),
    ];
    let capture = scene.capture(&settings)?;
    for _ in 0..CALLS {
        scene.get("/hello")?;
    }
    scene.wait_for_lines(CALLS)?;
    let status = capture.status()?;
    assert_eq!(text(&status, "steering"), Some("inner-flow steering"));
    assert_eq!(find(&status, "shards"), Some(4));
    assert_eq!(find(&status, "flows_apart"), Some(0), "{status}");
    let halves = status["capture"]["halves"].as_object();
    let mut halves = halves.context("reasons")?.values();
    ensure!(
        halves.len() > 0 && halves.all(|count| count == 0),
        "{status}"
    );
    capture.stop()?;
    Ok(())
}

/// With more tunnel ports than a program in the kernel has room for, outer ports steer: directions are split, and the log reports it.
#[test]
fn flows_whose_directions_come_to_different_shards_are_counted() -> Result<()> {
    let scene = Scene::mirrored("10.78.0.2")?;
    let ports: Vec<String> = (4789..8889).map(|port: u16| port.to_string()).collect();
    let settings = [
        ("SNIFFER_ENGINE", "vxlan"),
        ("NET_DEVICE", "a0"),
        ("SNIFFER_SHARDS", "4"),
        ("SNIFFER_MIRROR_VXLANPORT", &ports.join(",")),
    ];
    let capture = scene.capture(&settings)?;
    for _ in 0..CALLS {
        scene.get("/hello")?;
    }
    // Three of four flows are split by chance.
    let status = eventually(PATIENCE, || {
        let status = capture.status()?;
        let apart = find(&status, "flows_apart").unwrap_or(0);
        ensure!(apart >= CALLS as i64 / 4, "{apart} of {CALLS}: {status}");
        Ok(status)
    })?;
    assert_eq!(text(&status, "steering"), Some("outer-hash steering"));
    let apart = find(&status, "flows_apart").unwrap_or(0);
    assert!(apart <= CALLS as i64, "{status}");
    assert!(
        status
            .to_string()
            .contains("reached different capture threads"),
        "{status}"
    );
    eventually(PATIENCE, || {
        let log = capture.log();
        ensure!(log.contains("W073") && log.contains("--shards 1"), "{log}");
        Ok(())
    })?;
    capture.stop()?;
    Ok(())
}

#[test]
fn a_filter_of_the_users_own() -> Result<()> {
    let scene = Scene::new()?;
    let settings = [("NET_DEVICE", "s0"), ("SNIFFER_BPF", "ip6 and tcp port 80")];
    let capture = scene.capture(&settings)?;
    scene.get("/hello")?;
    curl(&scene.lab.client, &["http://[fd77::1]/hello"])?;
    scene.wait_for_lines(1)?;
    capture.stop()?;
    let rows = scene.collector.rows();
    let urls: Vec<_> = rows
        .iter()
        .filter_map(|row| bench::collect::value(row, "request_url"))
        .collect();
    assert_eq!(urls, ["http://[fd77::1]/hello"]);
    Ok(())
}

/// The capability to open packet sockets is gone by the time the interface is back.
#[test]
fn an_interface_that_vanishes_is_captured_again_when_it_returns() -> Result<()> {
    let scene = Scene::new()?;
    let settings = [("NET_DEVICE", "s0"), ("SNIFFER_SHARDS", "2")];
    let capture = scene.capture(&settings)?;
    scene.get("/hello")?;
    scene.wait_for_lines(1)?;

    let warned = |words: &str| {
        eventually(PATIENCE, || {
            let status = capture.status()?;
            let warnings = status["warnings"].to_string();
            ensure!(
                warnings.contains("W021") && warnings.contains(words),
                "{status}"
            );
            Ok(())
        })
    };
    let is_well = || {
        eventually(PATIENCE, || {
            let status = capture.status()?;
            ensure!(!status.to_string().contains("W021"), "{status}");
            ensure!(
                status["capture"]["interfaces"].to_string().contains("s0"),
                "{status}"
            );
            Ok(())
        })
    };
    scene.lab.server.ip("link set s0 down")?;
    warned("s0 went down; capturing on it again once it is up")?;
    scene.lab.server.ip("link set s0 up")?;
    is_well()?;
    // IPv4 addresses stay; the neighbours resolve each other again.
    scene.get("/hello")?;
    scene.wait_for_lines(2).context("down and up")?;

    for round in 0..2 {
        scene.lab.server.ip("link delete s0")?;
        warned("s0 is gone; capturing on it again once it is back")?;
        cable(&scene.lab.client, "c0", &scene.lab.server, "s0", 1500)?;
        scene.lab.client.ip("address add 10.77.0.2/24 dev c0")?;
        scene.lab.server.ip("address add 10.77.0.1/24 dev s0")?;
        eventually(PATIENCE, || {
            scene.get("/hello")?;
            ensure!(
                scene.collector.counts().lines >= 3 + round,
                "not captured yet"
            );
            Ok(())
        })?;
        is_well()?;
    }
    let log = capture.stop()?;
    assert!(log.contains("capturing on s0 now"), "{log}");
    Ok(())
}

/// The memory of a shard's ring does not depend on the number of interfaces, and one that appears later is read in it as well.
#[test]
fn many_interfaces_share_one_ring() -> Result<()> {
    const OTHERS: usize = 100;
    let scene = Scene::new()?;
    for number in 0..OTHERS {
        scene
            .lab
            .server
            .ip(&format!("link add d{number} type veth peer name p{number}"))?;
        scene.lab.server.ip(&format!("link set d{number} up"))?;
    }
    let settings = [("SNIFFER_SHARDS", "2"), ("SNIFFER_PCAP_BUFFER_SIZE", "8M")];
    let capture = scene.capture(&settings)?;
    scene.get("/hello")?;
    scene.wait_for_lines(1)?;
    let status = capture.status()?;
    let names = status["capture"]["interfaces"].as_array();
    assert!(names.is_some_and(|names| names.len() > OTHERS), "{status}");
    assert_eq!(find(&status["capture"], "ring_bytes"), Some(2 * (8 << 20)));

    scene.lab.server.ip("link delete s0")?;
    std::thread::sleep(Duration::from_millis(300));
    cable(&scene.lab.client, "c0", &scene.lab.server, "s0", 1500)?;
    scene.lab.client.ip("address add 10.77.0.2/24 dev c0")?;
    scene.lab.server.ip("address add 10.77.0.1/24 dev s0")?;
    eventually(PATIENCE, || {
        scene.get("/hello")?;
        ensure!(scene.collector.counts().lines >= 2, "not captured yet");
        Ok(())
    })?;
    // A bridge shows the packets of its ports: the port is no longer read apart.
    scene.lab.server.ip("link add br0 type bridge")?;
    scene.lab.server.ip("link set br0 up")?;
    scene.lab.server.ip("link set d0 master br0")?;
    eventually(PATIENCE, || {
        let status = capture.status()?;
        let names = status["capture"]["interfaces"].to_string();
        ensure!(
            names.contains("br0") && !names.contains("\"d0\""),
            "{names}"
        );
        Ok(())
    })?;
    capture.stop()?;
    Ok(())
}

/// How often the threads of a process have gone to sleep, all together.
fn sleeps(pid: u32) -> Result<u64> {
    let mut sum = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let status = fs::read_to_string(task?.path().join("status"))?;
        let count = (status.lines())
            .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))
            .context("the kernel counts context switches")?;
        sum += count.trim().parse::<u64>()?;
    }
    Ok(sum)
}

/// Idle threads sleep; what their wake-ups cost depends on the machine, how many there are does not.
#[test]
fn an_idle_capture_wakes_up_seldom() -> Result<()> {
    const SHARDS: u64 = 4;
    const SECONDS: u64 = 5;
    // Each shard looks at idle flows and old bundles ten times a second, and the other threads do alike.
    const WAKE_UPS_A_SECOND_MAX: u64 = 15;
    let scene = Scene::without_nginx()?;
    let capture = scene.capture(&[("SNIFFER_SHARDS", &SHARDS.to_string())])?;
    let pid = u32::try_from(find(&capture.status()?, "pid").context("a pid")?)?;
    std::thread::sleep(Duration::from_secs(1));
    let before = sleeps(pid)?;
    std::thread::sleep(Duration::from_secs(SECONDS));
    let wake_ups = sleeps(pid)? - before;
    eprintln!("idle with {SHARDS} shards: {wake_ups} wake-ups in {SECONDS} s");
    assert!(
        wake_ups <= SHARDS * SECONDS * WAKE_UPS_A_SECOND_MAX,
        "{wake_ups}"
    );
    capture.stop()?;
    Ok(())
}
