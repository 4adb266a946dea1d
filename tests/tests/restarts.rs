//! The end of a sniffer and the start of the next one on the same spool: stops, kills, another program file. Each call is in the
//! store once, and the totals balance over all of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tests::faults::{Fault, FaultServer};
use tests::http::request;
use tests::network::Namespace;
use tests::nginx::Nginx;
use tests::process::{Ended, PATIENCE, Running, eventually};
use tests::program::{sniffer, sniffer_path};
use tests::store::{STORE_PORT, Store};

const PORT: u16 = 7711;

const METRICS: &str = "127.0.0.1:7702";

/// Namespace, server of calls, server of faults, folder.
struct Place {
    namespace: Namespace,
    _nginx: Nginx,
    faults: FaultServer,
    folder: TempDir,
}

impl Place {
    fn new(label: &str) -> Result<Self> {
        let namespace = Namespace::new(label)?;
        Ok(Self {
            _nginx: Nginx::start(&namespace)?,
            faults: FaultServer::start(&namespace, PORT, STORE_PORT)?,
            namespace,
            folder: tempfile::tempdir()?,
        })
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// `sniffer WORDS` by this program file, with the control socket and the spool of this place.
    fn command(&self, program: &Path, words: &[&str], settings: &[(&str, &str)]) -> Command {
        let known = sniffer(words);
        let mut command = Command::new(program);
        command.args(known.get_args());
        for (name, value) in known.get_envs() {
            if value.is_none() {
                command.env_remove(name);
            }
        }
        command.envs([
            ("SNIFFER_CONTROL", self.path("control").as_str()),
            ("SNIFFER_SPOOL", &self.path("spool")),
            ("SNIFFER_METRICS", METRICS),
            ("SNIFFER_FLUSH_TIMEOUT", "300ms"),
            ("NET_DEVICE", "lo"),
            ("APP_PORTS", "80"),
            (
                "USAGE_LOGGERS_URL",
                &format!("http://127.0.0.1:{PORT}/message"),
            ),
            ("USAGE_LOGGERS_RULES", "include debug\nallow_http_url"),
        ]);
        command.envs(settings.iter().copied());
        command
    }

    /// Starts a capture, as soon as the one before it has left the control socket and the spool.
    fn capture(&self, program: &Path, settings: &[(&str, &str)]) -> Result<Running> {
        let command = self.command(program, &["run"], settings);
        eventually(PATIENCE, || {
            let mut process = Running::start(&mut self.namespace.enter(&command))?;
            process.wait_for_log("capturing", PATIENCE)?;
            Ok(process)
        })
    }

    fn status(&self) -> Result<Value> {
        let command = self.command(&sniffer_path(), &["status", "--json"], &[]);
        let ended = Running::start(&mut self.namespace.enter(&command))?.end(PATIENCE)?;
        ensure!(ended.code()? == 0, "{ended:?}");
        Ok(serde_json::from_str(&ended.stdout)?)
    }

    /// Waits for this number at a place in `capture` of the status, and returns that.
    fn wait_for(&self, pointer: &str, expected: u64) -> Result<Value> {
        eventually(PATIENCE, || {
            let status = self.status()?;
            let capture = &status["capture"];
            let found = capture.pointer(pointer).and_then(Value::as_u64);
            ensure!(found == Some(expected), "{pointer} {expected}: {status}");
            ensure!(capture["calls"]["unaccounted"] == 0, "{status}");
            ensure!(
                capture["output"]["spool"]["lifetime"]["unaccounted"] == 0,
                "{status}"
            );
            Ok(capture.clone())
        })
    }

    /// Makes calls with these numbers; returns when each had its answer.
    fn call(&self, numbers: std::ops::Range<u64>) -> Result<Vec<Instant>> {
        self.namespace.inside(|| {
            numbers
                .map(|number| {
                    let number = number.to_string();
                    let headers = [("X-Call-Number", number.as_str())];
                    request("127.0.0.1:80", "GET", "/hello", &headers, b"")?;
                    Ok(Instant::now())
                })
                .collect()
        })
    }

    /// A bucket of the totals on the page of metrics.
    fn bucket(&self, name: &str) -> Result<u64> {
        self.total(&format!("bucket=\"{name}\""))
    }

    /// The totals with these labels.
    fn total(&self, labels: &str) -> Result<u64> {
        let page = self
            .namespace
            .inside(|| request(METRICS, "GET", "/metrics", &[], b""))?;
        let page = String::from_utf8(page.body)?;
        let start = format!("sniffer_lifetime_calls{{{labels}}} ");
        let value = page.lines().find_map(|line| line.strip_prefix(&start));
        Ok(value
            .with_context(|| format!("no {labels}: {page}"))?
            .parse()?)
    }
}

fn kill(process: Running) -> Result<Ended> {
    process.signal(Signal::SIGKILL)?;
    process.end(PATIENCE)
}

fn stored(store: &mut Store<'_>) -> Result<u64> {
    store.stop()?;
    store.calls()
}

/// Another program file takes the place of the running one, with bundles under way and on disk.
#[test]
fn an_upgrade_in_place_loses_no_bundle_and_stores_none_twice() -> Result<()> {
    let place = Place::new("upgrade")?;
    let mut store = Store::start(&place.namespace)?;
    let new = place.folder.path().join("sniffer");
    fs::copy(sniffer_path(), &new)?;
    let mut program: PathBuf = sniffer_path();
    let mut made = 0;
    // The store has them, and the sniffer does not get to know it; then nothing is answered; then nothing comes through.
    for fault in [
        Fault::Lie,
        Fault::ResetInAnswer,
        Fault::Stall,
        Fault::Reset,
        Fault::None,
    ] {
        place.faults.set(fault);
        let old = place.capture(&program, &[])?;
        place.call(made..made + 20)?;
        made += 20;
        place.wait_for("/output/spool/lifetime/seen", made)?;
        old.signal(Signal::SIGTERM)?;
        let ended = old.end(PATIENCE)?;
        ensure!(ended.code()? == 0, "{ended:?}");
        program.clone_from(&new);
    }
    let last = place.capture(&program, &[])?;
    let capture = place.wait_for("/output/spool/lifetime/sent", made)?;
    let lifetime = &capture["output"]["spool"]["lifetime"];
    assert_eq!(lifetime["processes"], 6, "{lifetime}");
    assert_eq!(
        (&lifetime["killed"], &lifetime["recovered"]),
        (&0.into(), &0.into())
    );
    last.terminate(PATIENCE)?;
    assert_eq!(stored(&mut store)?, made);
    Ok(())
}

/// The totals over kills, in status and metrics: what is on disk comes back, and what was in flight is counted as killed.
#[test]
fn totals_balance_over_kills() -> Result<()> {
    let place = Place::new("totals")?;
    place.faults.set(Fault::Reset);
    for round in 1..=3 {
        let process = place.capture(&sniffer_path(), &[])?;
        place.call(0..10)?;
        place.wait_for("/output/spool/calls", 10 * round)?;
        kill(process)?;
    }
    let process = place.capture(&sniffer_path(), &[])?;
    place.wait_for("/output/spool/lifetime/processes", 4)?;
    for name in ["sent", "killed", "dropped"] {
        assert_eq!(place.bucket(name)?, 0, "{name}");
    }
    // A kill may have come before the last were counted as seen.
    assert_eq!(place.bucket("seen")? + place.bucket("recovered")?, 30);
    assert_eq!(place.bucket("spooled")? + place.bucket("in_flight")?, 30);
    let mut store = Store::start(&place.namespace)?;
    place.faults.set(Fault::None);
    place.wait_for("/output/spool/lifetime/sent", 30)?;
    assert_eq!(place.bucket("sent")?, 30);
    process.terminate(PATIENCE)?;
    assert_eq!(stored(&mut store)?, 30);
    Ok(())
}

/// Each sink has a spool and totals of its own, from what became of the calls under its own rules.
#[test]
fn each_sink_has_totals_of_its_own() -> Result<()> {
    let place = Place::new("each")?;
    place.faults.set(Fault::Reset);
    let near = format!("near=http://127.0.0.1:{PORT}/message");
    let rules = "include debug\nallow_http_url\n/request_header:x-call-number/ stop_if /[5-9]/";
    let settings = [
        ("SNIFFER_SINKS", near.as_str()),
        ("SNIFFER_SINK_NEAR_RULES", rules),
    ];
    let first = place.capture(&sniffer_path(), &settings)?;
    place.call(0..10)?;
    place.wait_for("/sinks/0/output/spool/calls", 10)?;
    place.wait_for("/sinks/1/output/spool/calls", 5)?;
    first.signal(Signal::SIGTERM)?;
    first.end(PATIENCE)?;
    let second = place.capture(&sniffer_path(), &settings)?;
    place.call(4..6)?;
    place.wait_for("/sinks/0/output/spool/calls", 12)?;
    place.wait_for("/sinks/1/output/spool/calls", 6)?;
    let capture = place.wait_for("/sinks/1/output/spool/lifetime/stopped", 6)?;
    for (sink, stopped) in [("default", 0), ("near", 6)] {
        let mut sinks = capture["sinks"].as_array().into_iter().flatten();
        let found = sinks.find(|found| found["name"] == sink);
        let lifetime = &found.context("no sink")?["output"]["spool"]["lifetime"];
        let number = |name: &str| lifetime[name].as_u64();
        assert_eq!(number("seen"), Some(12), "{sink}: {lifetime}");
        for (name, expected) in [
            ("processes", 2),
            ("stopped", stopped),
            ("killed", 0),
            ("recovered", 0),
        ] {
            assert_eq!(number(name), Some(expected), "{sink} {name}: {lifetime}");
        }
        assert_eq!(lifetime["unaccounted"], 0, "{sink}: {lifetime}");
        let labels = format!("sink=\"{sink}\",bucket=\"stopped\"");
        assert_eq!(place.total(&labels)?, stopped);
    }
    kill(second)?;
    Ok(())
}

/// Calls are made one after the other until the process is killed: what is missing are the last ones, made within the age of a
/// bundle and the way to the disk. How long that is is printed; the bound here is for a busy machine.
#[test]
fn a_kill_costs_only_the_last_calls() -> Result<()> {
    let place = Place::new("last")?;
    place.faults.set(Fault::Stall);
    // With one shard, bundles are closed one after the other.
    let process = place.capture(&sniffer_path(), &[("SNIFFER_SHARDS", "1")])?;
    let mut times = Vec::new();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(8) {
        let next = times.len() as u64;
        times.extend(place.call(next..next + 1)?);
        thread::sleep(Duration::from_millis(10));
    }
    let end = Instant::now();
    kill(process)?;
    let made = times.len() as u64;
    let mut store = Store::start(&place.namespace)?;
    place.faults.set(Fault::None);
    let process = place.capture(&sniffer_path(), &[])?;
    let status = eventually(PATIENCE, || {
        let status = place.status()?;
        let calls = &status["capture"]["calls"];
        ensure!(calls["spooled"] == 0 && calls["in_flight"] == 0, "{status}");
        Ok(status)
    })?;
    let lifetime = &status["capture"]["output"]["spool"]["lifetime"];
    process.terminate(PATIENCE)?;
    let kept = stored(&mut store)?;
    let age = (times.get(kept as usize)).map_or(Duration::ZERO, |lost| end.duration_since(*lost));
    println!("{kept} of {made} calls kept, the first lost was {age:?} old; {lifetime}");
    ensure!(age < Duration::from_secs(6), "{kept} of {made}: {age:?}");
    let number = |name: &str| lifetime[name].as_u64().unwrap_or_default();
    assert_eq!(lifetime["unaccounted"], 0);
    assert_eq!(number("sent"), kept);
    // What the process had seen and nobody has is killed; the rest of what is missing it had not seen.
    ensure!(number("killed") <= made - kept, "{lifetime}");
    Ok(())
}

/// The collector does not answer and there is an hour to wait: a second signal ends that, and nothing is lost for it.
#[test]
fn a_second_signal_ends_the_waiting() -> Result<()> {
    let place = Place::new("second")?;
    place.faults.set(Fault::Stall);
    let hour = ("SNIFFER_FLUSH_TIMEOUT", "3600s");
    for (spool, code, words) in [
        ("spool", 0, "0 dropped, 20 in the spool"),
        ("", 8, "20 dropped (shutdown 20)"),
    ] {
        let folder = match spool {
            "" => "off".to_owned(),
            name => place.path(name),
        };
        let process = place.capture(&sniffer_path(), &[hour, ("SNIFFER_SPOOL", &folder)])?;
        place.call(0..20)?;
        eventually(PATIENCE, || {
            let status = place.status()?;
            ensure!(status["capture"]["calls"]["seen"] == 20, "{status}");
            Ok(())
        })?;
        process.signal(Signal::SIGTERM)?;
        eventually(PATIENCE, || {
            let status = place.status()?;
            ensure!(status["state"] == "STOPPING", "{status}");
            Ok(())
        })?;
        process.signal(Signal::SIGTERM)?;
        let ended = process.end(PATIENCE)?;
        ensure!(ended.stderr.contains(words), "{ended:?}");
        assert_eq!(ended.code()?, code, "{ended:?}");
    }
    Ok(())
}
