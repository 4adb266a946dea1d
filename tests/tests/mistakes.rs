//! Mistakes and faults of the surroundings that a user meets: what is reported, and what to do about it.

use std::fs;
use std::net::TcpListener;

use anyhow::{Result, ensure};
use bench::collect::Behaviour;
use tests::disk::Disk;
use tests::network::Namespace;
use tests::process::{Ended, PATIENCE, Running};
use tests::program::sniffer;
use tests::scene::Scene;
use tests::store;

#[track_caller]
fn check(ended: &Ended, code: i32, words: &[&str]) {
    assert_eq!(ended.code().unwrap(), code, "{ended:?}");
    for word in words {
        assert!(ended.stderr.contains(word), "no {word:?} in: {ended:?}");
    }
}

#[test]
fn a_store_that_cannot_start_names_what_is_in_its_way() -> Result<()> {
    let namespace = Namespace::new("taken")?;
    let folder = tempfile::tempdir()?;
    let start = |data: &str| -> Result<Ended> {
        Running::start(&mut namespace.enter(&store::command(&folder.path().join(data))))?
            .end(PATIENCE)
    };
    fs::write(folder.path().join("file"), "")?;
    let ended = start("file")?;
    check(
        &ended,
        2,
        &[
            "E101",
            "it is a file, not a folder",
            "--data DIR    another folder (now",
        ],
    );

    fs::create_dir(folder.path().join("text"))?;
    let text = "text that is longer than the head of a database\n".repeat(9);
    fs::write(folder.path().join("text/calls.sqlite"), &text)?;
    let ended = start("text")?;
    check(
        &ended,
        2,
        &["E101", "the file is not a database; move it away"],
    );
    assert!(!ended.stderr.contains("may write to"), "{ended:?}");
    assert_eq!(
        fs::read_to_string(folder.path().join("text/calls.sqlite"))?,
        text
    );

    // By a program that is no store, whose name and process id help to find it.
    let _stranger = namespace.inside(|| TcpListener::bind("127.0.0.1:7701"))?;
    let ended = start("data")?;
    let pid = format!(
        "7701 (capture URL) is taken by pid {} (",
        std::process::id()
    );
    check(&ended, 2, &["E101", &pid, "SNIFFER_STORE=:7711"]);
    Ok(())
}

#[test]
fn a_full_disk_is_reported_and_more_room_ends_it() -> Result<()> {
    let namespace = Namespace::new("full")?;
    let folder = tempfile::tempdir()?;
    let disk = Disk::mount(folder.path(), "2m")?;
    let mut store = Running::start(&mut namespace.enter(&store::command(folder.path())))?;
    store.wait_for_log("store ready", PATIENCE)?;
    let body = "x".repeat(100_000);
    let line = format!(
        r#"[["request_method","GET"],["request_url","http://a/"],["response_body","{body}"]]"#
    );
    let post = || Ok(store::post(&namespace, &line)?.status);
    let answers: Vec<u16> = (0..40).map(|_| post()).collect::<Result<_>>()?;
    ensure!(
        answers.first() == Some(&204) && answers.contains(&503),
        "{answers:?}"
    );
    store.wait_for_log("W103", PATIENCE)?;
    store.wait_for_log("--keep-bytes 500M keeps less", PATIENCE)?;
    disk.resize("64m")?;
    tests::process::eventually(PATIENCE, || {
        ensure!(post()? == 204, "still full");
        Ok(())
    })?;
    store.wait_for_log("the store can store calls again", PATIENCE)?;
    store.terminate(PATIENCE)?;
    Ok(())
}

#[test]
fn calls_that_a_full_queue_drops_are_reported_with_what_to_do() -> Result<()> {
    let scene = Scene::new()?;
    scene.collector.set_behaviour(Behaviour::Stall);
    let settings = [
        ("NET_DEVICE", "s0"),
        ("USAGE_LOGGERS_BUNDLE_SIZE", "1K"),
        ("USAGE_LOGGERS_BUNDLE_QUEUE_SIZE", "1"),
    ];
    let mut capture = scene.capture(&settings)?;
    for _ in 0..40 {
        scene.get("/hello")?;
    }
    capture.wait_for_log("W047")?;
    let status = capture.status()?.to_string();
    ensure!(
        status.contains("W047") && status.contains("because the queue was full"),
        "{status}"
    );
    scene.collector.set_behaviour(Behaviour::Accept);
    capture.stop_with(8)?;
    Ok(())
}

#[test]
fn a_network_of_its_own_is_reported() -> Result<()> {
    let namespace = Namespace::new("own")?;
    let folder = tempfile::tempdir()?;
    let mut command = sniffer(&["run", "--no-send", "--control"]);
    command.arg(folder.path().join("control"));
    let mut capture = Running::start(&mut namespace.enter(&command))?;
    capture.wait_for_log("W022", PATIENCE)?;
    capture.wait_for_log("docker run --network host", PATIENCE)?;
    capture.terminate(PATIENCE)?;
    Ok(())
}

/// The demo's calls pass over `lo`, which this capture does not read.
#[test]
fn a_demo_whose_calls_nobody_records_fails() -> Result<()> {
    let scene = Scene::without_nginx()?;
    let capture = scene.capture(&[("NET_DEVICE", "s0")])?;
    let ended = capture.control(&["demo"])?;
    check(
        &ended,
        3,
        &[
            "E112",
            "0 of 19 calls were seen by the sniffer",
            "it has to read lo",
            "reads any port",
        ],
    );
    capture.stop()?;
    Ok(())
}

/// In a container the demo has the settings of the capture, and makes its calls to a port that this reads.
#[test]
fn a_demo_calls_a_port_that_is_read() -> Result<()> {
    let scene = Scene::without_nginx()?;
    let ports = [("APP_PORTS", "8123,8200-8300")];
    let capture = scene.capture(&[("NET_DEVICE", "lo"), ports[0]])?;
    let ended = capture.control_with(&["demo"], &ports)?;
    check(
        &ended,
        0,
        &[
            "calls go to 127.0.0.1:8123 on lo",
            "19 calls were seen by the sniffer",
        ],
    );
    capture.stop()?;
    Ok(())
}
