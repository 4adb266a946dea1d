//! The spool of a running sniffer: outages, kills, other rules, full disks, and what a person does with it.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use bench::collect::{Behaviour, Collector};
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tests::capture::Capture;
use tests::disk::Disk;
use tests::network::Namespace;
use tests::nginx::{Nginx, curl};
use tests::process::{Ended, PATIENCE, Running, eventually, run};
use tests::program::sniffer;

const URL: &str = "http://127.0.0.1:7711/message";

/// A namespace with a server, and a folder for a spool.
struct Place {
    namespace: Namespace,
    _nginx: Nginx,
    folder: TempDir,
}

impl Place {
    fn new(label: &str) -> Result<Self> {
        let namespace = Namespace::new(label)?;
        Ok(Self {
            _nginx: Nginx::start(&namespace)?,
            namespace,
            folder: tempfile::tempdir()?,
        })
    }

    fn spool(&self) -> String {
        self.folder.path().join("spool").display().to_string()
    }

    fn collector(&self) -> Result<Collector> {
        Collector::serve(
            self.namespace
                .inside(|| TcpListener::bind("127.0.0.1:7711"))?,
        )
    }

    fn capture(&self, rules: &str) -> Result<Capture<'_>> {
        let spool = self.spool();
        let settings = [
            ("NET_DEVICE", "lo"),
            ("APP_PORTS", "80"),
            ("SNIFFER_SPOOL", &spool),
            ("SNIFFER_FLUSH_TIMEOUT", "200ms"),
            ("USAGE_LOGGERS_RULES", rules),
        ];
        Capture::start(&self.namespace, URL, &settings)
    }

    fn call(&self, times: usize) -> Result<()> {
        curl(&self.namespace, &vec!["http://127.0.0.1/hello"; times]).map(drop)
    }

    /// `sniffer spool` without a running sniffer.
    fn start(&self, words: &[&str]) -> Result<Running> {
        let mut command = sniffer(words);
        let control = self.folder.path().join("nobody").display().to_string();
        command.envs([
            ("SNIFFER_SPOOL", self.spool().as_str()),
            ("SNIFFER_CONTROL", &control),
            ("USAGE_LOGGERS_URL", URL),
            ("USAGE_LOGGERS_RULES", RULES),
        ]);
        Running::start(&mut self.namespace.enter(&command))
    }

    fn command(&self, words: &[&str]) -> Result<Ended> {
        self.start(words)?.end(PATIENCE)
    }
}

const RULES: &str = "include debug\nallow_http_url";
const OTHER_RULES: &str = "include debug\nallow_http_url\n/request_header:accept/ remove";

/// Waits until the status has this number at `calls.KEY`.
fn wait_for(capture: &Capture<'_>, key: &str, count: u64) -> Result<Value> {
    eventually(PATIENCE, || {
        let status = capture.status()?;
        ensure!(status["capture"]["calls"][key] == count, "{key}: {status}");
        Ok(status)
    })
}

/// Waits until this number of calls is on disk and not delivered.
fn wait_for_disk(capture: &Capture<'_>, calls: u64) -> Result<Value> {
    eventually(PATIENCE, || {
        let status = capture.status()?;
        ensure!(
            status["capture"]["output"]["spool"]["calls"] == calls,
            "{status}"
        );
        Ok(status)
    })
}

fn segments(folder: &str) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().into_string().ok().context("a name")?;
        if name != "lock" && name != "ledger" {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

#[test]
fn a_kill_while_the_collector_is_away_loses_no_call() -> Result<()> {
    let place = Place::new("killed")?;
    let capture = place.capture(RULES)?;
    place.call(20)?;
    let status = wait_for_disk(&capture, 20)?;
    let sandbox = status["capture"]["sandbox"].as_str().unwrap_or_default();
    ensure!(sandbox.contains("seccomp on"), "{sandbox}");
    let pid = status["pid"].to_string();

    // Another process is refused, with the number of the first.
    let other = place.folder.path().join("other").display().to_string();
    let spool = place.spool();
    let mut second = sniffer(&["run", "-i", "lo", "--control", &other, "--metrics", "off"]);
    second.args(["--spool", &spool, "--url", URL, "--rules", RULES]);
    let second = Running::start(&mut place.namespace.enter(&second))?.end(PATIENCE)?;
    ensure!(
        second.code()? == 2 && second.stderr.contains("E055"),
        "{second:?}"
    );
    ensure!(second.stderr.contains(&format!("pid {pid}")), "{second:?}");

    // Others may read it meanwhile, with and without this program.
    let text = capture.control(&[
        "spool", "export", "--spool", &spool, "--url", URL, "--rules", RULES,
    ])?;
    ensure!(
        text.code()? == 0 && text.stdout.lines().count() == 20,
        "{text:?}"
    );
    let read = Running::start(&mut sniffer(&["read", &spool, "--json"]))?.end(PATIENCE)?;
    assert_eq!(read.stdout, text.stdout);
    let table = Running::start(&mut sniffer(&["read", &spool, "-o", "table"]))?.end(PATIENCE)?;
    ensure!(
        table
            .stdout
            .lines()
            .filter(|line| line.contains("/hello"))
            .count()
            == 20,
        "{table:?}"
    );
    let members = Path::new(&spool).join("0000000001.zz");
    let perl = "-MIO::Uncompress::Inflate=inflate";
    let inflated = run(Command::new("perl")
        .args([perl, "-e", "inflate $ARGV[0] => '-', MultiStream => 1"])
        .arg(&members))?;
    assert_eq!(inflated, text.stdout, "an ordinary tool reads the same");
    let shown = place.command(&["spool", "status", "--json"])?;
    let shown: Value = serde_json::from_str(&shown.stdout)?;
    assert_eq!(shown["pid"].to_string(), pid);
    assert_eq!(shown["sink"], "default");
    assert_eq!(shown["segments"][0]["calls"], 20);

    capture.signal(Signal::SIGKILL)?;
    drop(capture);
    let collector = place.collector()?;
    let capture = place.capture(RULES)?;
    ensure!(collector.wait_for_lines(20, PATIENCE), "{}", capture.log());
    place.call(5)?;
    let status = wait_for(&capture, "sent", 25)?;
    let calls = &status["capture"]["calls"];
    assert_eq!(
        (&calls["recovered"], &calls["seen"]),
        (&20.into(), &5.into())
    );
    let counts = collector.counts();
    assert_eq!((counts.lines, counts.repeated, counts.broken), (25, 0, 0));
    capture.stop()?;
    assert_eq!(segments(&spool)?, Vec::<String>::new());
    Ok(())
}

#[test]
fn what_is_left_at_a_stop_is_delivered_by_drain() -> Result<()> {
    let place = Place::new("drained")?;
    let capture = place.capture(RULES)?;
    place.call(7)?;
    wait_for_disk(&capture, 7)?;
    let log = capture.stop()?;
    ensure!(
        log.contains("7 in the spool") && log.contains("0 dropped"),
        "{log}"
    );
    let collector = place.collector()?;
    collector.set_behaviour(Behaviour::Lie);
    let drain = place.start(&["spool", "drain"])?;
    // It goes on as long as the collector answers with errors.
    ensure!(
        collector.wait(PATIENCE, |counts| counts.faults > 0),
        "no POST"
    );
    collector.set_behaviour(Behaviour::Accept);
    let drain = drain.end(PATIENCE)?;
    ensure!(
        drain.code()? == 0 && drain.stdout.starts_with("7 calls delivered"),
        "{drain:?}"
    );
    let counts = collector.counts();
    assert_eq!((counts.lines, counts.broken), (7, 0), "{counts:?}");
    ensure!(counts.repeated >= 1, "under the same key: {counts:?}");
    assert_eq!(segments(&place.spool())?, Vec::<String>::new());
    Ok(())
}

#[test]
fn what_was_captured_under_other_rules_waits_for_a_person() -> Result<()> {
    let place = Place::new("held")?;
    let capture = place.capture(RULES)?;
    place.call(3)?;
    wait_for_disk(&capture, 3)?;
    capture.stop()?;
    let collector = place.collector()?;
    let mut capture = place.capture(OTHER_RULES)?;
    capture.wait_for_log("W052")?;
    place.call(2)?;
    let status = wait_for(&capture, "sent", 2)?;
    assert_eq!(status["capture"]["output"]["spool"]["held_calls"], 3);
    assert_eq!(status["capture"]["calls"]["spooled"], 3);
    ensure!(capture.control(&["status"])?.stdout.contains("3 held"));
    let settings = ["--url", URL, "--rules", OTHER_RULES];
    let order = capture.control(&[&["spool", "drain"][..], &settings].concat())?;
    ensure!(order.code()? == 0, "{order:?}");
    wait_for(&capture, "sent", 5)?;
    assert_eq!(collector.counts().lines, 5);
    drop(collector);
    place.call(4)?;
    wait_for_disk(&capture, 4)?;
    capture.stop()?;

    // The same where no sniffer runs: those rules are others than the ones of the command.
    let kept = place.command(&["spool", "status"])?;
    ensure!(
        kept.stdout.contains("4 calls") && kept.stdout.contains("held"),
        "{kept:?}"
    );
    let discarded = place.command(&["spool", "discard"])?;
    assert_eq!(discarded.stdout, "4 calls discarded\n");
    assert_eq!(segments(&place.spool())?, Vec::<String>::new());
    Ok(())
}

#[test]
fn a_full_disk_costs_nothing_that_memory_can_hold() -> Result<()> {
    let place = Place::new("full")?;
    let spool = place.spool();
    fs::create_dir(&spool)?;
    let _disk = Disk::mount(Path::new(&spool), "64k")?;
    let mut capture = place.capture(RULES)?;
    let mut calls = 0;
    while !capture.log().contains("W051") {
        place.call(200)?;
        calls += 200;
        ensure!(calls < 40_000, "{}", capture.log());
        eventually(PATIENCE, || {
            let status = capture.status()?;
            ensure!(status["capture"]["calls"]["seen"] == calls, "{status}");
            Ok(())
        })?;
    }
    let status = capture.status()?;
    let shown = &status["capture"]["output"]["spool"];
    ensure!(shown["failed_writes"].as_u64() > Some(0), "{status}");
    assert_eq!(status["capture"]["calls"]["unaccounted"], 0);
    let collector = place.collector()?;
    ensure!(
        collector.wait_for_lines(calls, PATIENCE),
        "{}",
        capture.log()
    );
    let status = wait_for(&capture, "sent", calls)?;
    let dropped = &status["capture"]["calls"]["dropped"];
    ensure!(
        dropped
            .as_object()
            .is_some_and(|all| all.values().all(|count| count == 0)),
        "{dropped}"
    );
    // Once there is room, it is used again.
    place.call(1)?;
    eventually(PATIENCE, || {
        let status = capture.status()?;
        ensure!(
            status["capture"]["output"]["spool"]["trouble"] == "",
            "{status}"
        );
        Ok(())
    })?;
    capture.wait_for_log("takes calls again")?;
    capture.stop()?;
    Ok(())
}
