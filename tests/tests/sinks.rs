//! Several sinks of a running sniffer: rules of their own, one that is slow or away beside one that is well, files under load, a
//! full disk, a pipe, and the ledger of each.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use bench::collect::{Behaviour, Collector};
use serde_json::Value;
use tempfile::TempDir;
use tests::capture::Capture;
use tests::disk::Disk;
use tests::network::Namespace;
use tests::nginx::{Nginx, curl};
use tests::process::{PATIENCE, eventually};

const RULES: &str = "include debug\nallow_http_url";

/// A namespace with a server, collectors on ports of their own, and a folder.
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

    fn collector(&self, port: u16) -> Result<Collector> {
        let listen = || TcpListener::bind(("127.0.0.1", port));
        Collector::serve(self.namespace.inside(listen)?)
    }

    fn folder(&self) -> String {
        self.folder.path().join("calls").display().to_string()
    }

    /// One whose standard output another program reads.
    fn capture_piped(&self, sinks: &str, reader: &str) -> Result<Capture<'_>> {
        let settings = [
            ("NET_DEVICE", "lo"),
            ("APP_PORTS", "80"),
            ("USAGE_LOGGERS_RULES", RULES),
            ("SNIFFER_SINKS", sinks),
        ];
        Capture::start_piped(&self.namespace, &url(7711), &settings, Some(reader))
    }

    fn capture(&self, sinks: &str, more: &[(&str, &str)]) -> Result<Capture<'_>> {
        let mut settings = vec![
            ("NET_DEVICE", "lo"),
            ("APP_PORTS", "80"),
            ("USAGE_LOGGERS_RULES", RULES),
            ("SNIFFER_SINKS", sinks),
        ];
        settings.extend(more);
        Capture::start(&self.namespace, &url(7711), &settings)
    }

    /// This many calls, which carry the canary in a header.
    fn call(&self, times: usize) -> Result<()> {
        let mut arguments = vec!["-H", "X-Card: canary-4711"];
        arguments.extend(vec!["http://127.0.0.1/hello"; times]);
        curl(&self.namespace, &arguments).map(drop)
    }
}

fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}/message")
}

fn sink<'a>(status: &'a Value, name: &str) -> Result<&'a Value> {
    let mut sinks = status["capture"]["sinks"]
        .as_array()
        .context("sinks")?
        .iter();
    sinks
        .find(|sink| sink["name"] == name)
        .with_context(|| format!("no sink {name}: {status}"))
}

/// Waits until a sink's column of the ledger has this number in each of these buckets.
fn wait_for(capture: &Capture<'_>, name: &str, buckets: &[(&str, u64)]) -> Result<Value> {
    eventually(PATIENCE, || {
        let status = capture.status()?;
        let calls = &sink(&status, name)?["calls"];
        for (bucket, count) in buckets {
            let found = if calls[bucket].is_null() {
                &calls["dropped"][bucket]
            } else {
                &calls[bucket]
            };
            ensure!(found == count, "{name} {bucket} {count}: {calls}");
        }
        Ok(status)
    })
}

/// For each sink every call is in one bucket, in status and metrics alike.
fn check_ledgers(place: &Place, capture: &Capture<'_>, names: &[&str]) -> Result<()> {
    let status = capture.status()?;
    let page = curl(&place.namespace, &["http://127.0.0.1:7702/metrics"])?;
    let metric = |metric: &str, name: &str| -> Result<i64> {
        let label = format!("sink=\"{name}\"");
        let lines = page
            .lines()
            .filter(|line| line.starts_with(&format!("{metric}{{")) && line.contains(&label));
        let values = lines.map(|line| line.rsplit(' ').next().unwrap_or_default().parse::<i64>());
        let values: Vec<i64> = values.collect::<Result<_, _>>()?;
        ensure!(!values.is_empty(), "no {metric} of {name}: {page}");
        Ok(values.iter().sum())
    };
    let listed: Vec<&str> = (status["capture"]["sinks"]
        .as_array()
        .context("sinks")?
        .iter())
    .filter_map(|sink| sink["name"].as_str())
    .collect();
    assert_eq!(listed, names);
    for name in names {
        let calls = &sink(&status, name)?["calls"];
        let count = |bucket: &str| calls[bucket].as_i64().unwrap_or(0);
        let dropped = calls["dropped"].as_object().context("dropped")?.values();
        let dropped: i64 = dropped.filter_map(Value::as_i64).sum();
        let came = count("seen") + count("stream_parts") + count("recovered");
        let went = count("sent") + count("stopped") + count("sampled") + count("spooled");
        ensure!(
            came == went + dropped + count("in_flight"),
            "{name}: {calls}"
        );
        assert_eq!(calls["unaccounted"], 0, "{name}");

        let came = metric("sniffer_calls_seen_total", name)?;
        let went = metric("sniffer_calls_sent_total", name)?
            + metric("sniffer_calls_stopped_total", name)?
            + metric("sniffer_calls_sampled_out_total", name)?
            + metric("sniffer_calls_dropped_total", name)?
            + metric("sniffer_calls_in_flight", name)?;
        ensure!(came == went, "{name}: {came} came, {went} went");
        assert_eq!(metric("sniffer_calls_unaccounted", name)?, 0, "{name}");
    }
    Ok(())
}

/// The lines of all complete files, and whether some file still grows. Each is an array of pairs.
fn lines(folder: &str) -> Result<(Vec<String>, bool)> {
    let (mut lines, mut grows) = (Vec::new(), false);
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder)? {
        paths.push(entry?.path());
    }
    paths.sort();
    for path in paths {
        let name = path.display().to_string();
        grows |= name.ends_with(".part");
        let bytes = match path.extension().and_then(|end| end.to_str()) {
            Some("ndjson") => fs::read(&path)?,
            Some("zst") => zstd::decode_all(fs::File::open(&path)?)?,
            _ => continue,
        };
        let text = String::from_utf8(bytes)?;
        ensure!(text.ends_with('\n'), "{name} ends within a line");
        for line in text.lines() {
            let _: Vec<(String, String)> =
                serde_json::from_str(line).with_context(|| format!("{name}: {line}"))?;
            lines.push(line.to_owned());
        }
    }
    Ok((lines, grows))
}

#[test]
fn what_the_rules_of_one_sink_hide_never_reaches_it() -> Result<()> {
    let place = Place::new("rulesets")?;
    let (all, strict, few) = (
        place.collector(7711)?,
        place.collector(7712)?,
        place.collector(7713)?,
    );
    let folder = place.folder();
    let sinks = format!(
        "strict={} few={} files=file://{folder}?rotate=1h",
        url(7712),
        url(7713)
    );
    let hides =
        "include debug\nallow_http_url\n/request_header:x-card/ replace /canary-[0-9]+/, /hidden/";
    let stops = "include debug\nallow_http_url\n/request_url/ stop_if_found /large/";
    let capture = place.capture(
        &sinks,
        &[
            ("SNIFFER_SINK_STRICT_RULES", hides),
            ("SNIFFER_SINK_FILES_RULES", hides),
            ("SNIFFER_SINK_FEW_RULES", stops),
        ],
    )?;
    place.call(20)?;
    curl(
        &place.namespace,
        &["-o", "/dev/null", "http://127.0.0.1/large"],
    )?;
    wait_for(
        &capture,
        "default",
        &[("seen", 21), ("sent", 21), ("stopped", 0)],
    )?;
    wait_for(
        &capture,
        "strict",
        &[("seen", 21), ("sent", 21), ("stopped", 0)],
    )?;
    wait_for(&capture, "files", &[("seen", 21), ("sent", 21)])?;
    let status = wait_for(
        &capture,
        "few",
        &[("seen", 21), ("sent", 20), ("stopped", 1)],
    )?;
    let hits = |name: &str| -> Result<u64> {
        let hits = sink(&status, name)?["rule_hits"]
            .as_array()
            .context("rules")?
            .iter();
        Ok(hits.filter_map(|rule| rule["hits"].as_u64()).sum())
    };
    assert_eq!(
        (hits("default")?, hits("strict")?, hits("few")?),
        (0, 20, 1)
    );
    check_ledgers(&place, &capture, &["default", "strict", "few", "files"])?;
    let shown = capture.control(&["status"])?.stdout;
    for part in ["strict: 21 calls", "few: 21", "file://"] {
        ensure!(
            shown.contains(part.trim_end_matches(" calls")),
            "{part}: {shown}"
        );
    }
    let log = capture.stop()?;
    ensure!(log.contains("to few: 21 calls seen, 20 sent"), "{log}");

    let texts = |collector: &Collector| format!("{:?}", collector.rows());
    let (all, strict, few) = (texts(&all), texts(&strict), texts(&few));
    assert_eq!(all.matches("canary-4711").count(), 20);
    assert_eq!(few.matches("canary-4711").count(), 20);
    assert_eq!(few.matches("/large").count(), 0);
    assert_eq!(
        (
            strict.matches("canary").count(),
            strict.matches("hidden").count()
        ),
        (0, 20)
    );
    let (lines, grows) = lines(&folder)?;
    assert_eq!((lines.len(), grows), (21, false));
    let text = lines.concat();
    assert_eq!(
        (
            text.matches("canary").count(),
            text.matches("hidden").count()
        ),
        (0, 20)
    );
    Ok(())
}

#[test]
fn a_sink_that_is_away_or_stalls_costs_its_own_calls_alone() -> Result<()> {
    let place = Place::new("slow")?;
    let healthy = place.collector(7711)?;
    let stalled = place.collector(7712)?;
    stalled.set_behaviour(Behaviour::Stall);
    let sinks = format!("stalled={} away={}", url(7712), url(7713));
    let small = [
        ("USAGE_LOGGERS_BUNDLE_QUEUE_SIZE", "3"),
        ("SNIFFER_FLUSH_TIMEOUT", "300ms"),
    ];
    let capture = place.capture(&sinks, &small)?;
    // Each round is a bundle or two: three wait.
    for seen in (1..=8).map(|round| 20 * round) {
        place.call(20)?;
        // The healthy one has all, while the others hold what they can and have given up the rest.
        wait_for(
            &capture,
            "default",
            &[("seen", seen), ("sent", seen), ("queue_full", 0)],
        )?;
    }
    ensure!(
        healthy.wait_for_lines(160, PATIENCE),
        "{:?}",
        healthy.counts()
    );
    let status = eventually(PATIENCE, || {
        let status = capture.status()?;
        for name in ["stalled", "away"] {
            let calls = &sink(&status, name)?["calls"];
            ensure!(calls["seen"] == 160 && calls["sent"] == 0, "{calls}");
            let full = calls["dropped"]["queue_full"].as_u64();
            ensure!(full > Some(0) && calls["unaccounted"] == 0, "{calls}");
        }
        Ok(status)
    })?;
    assert_eq!(sink(&status, "away")?["output"]["up"], false);
    assert_eq!(sink(&status, "default")?["output"]["up"], true);
    check_ledgers(&place, &capture, &["default", "stalled", "away"])?;

    // One that takes bundles again gets the newest.
    stalled.set_behaviour(Behaviour::Accept);
    place.call(5)?;
    eventually(PATIENCE, || {
        let status = capture.status()?;
        let calls = &sink(&status, "stalled")?["calls"];
        ensure!(calls["sent"].as_u64() >= Some(5), "{calls}");
        Ok(())
    })?;
    let ended = capture.terminate()?;
    assert_eq!(ended.code()?, 8, "{}", ended.stderr);
    Ok(())
}

/// The first of three URLs is away, the second comes and goes. Everything reaches one of them once, and `default` is not concerned.
#[test]
fn a_named_sink_uses_its_next_url_and_returns_to_the_first() -> Result<()> {
    let place = Place::new("failover")?;
    let default = place.collector(7711)?;
    let (second, third) = (place.collector(7713)?, place.collector(7714)?);
    let sinks = [7712, 7713, 7714].map(|port| format!("near={}", url(port)));
    let spool = place.folder.path().join("spool").display().to_string();
    let mut capture = place.capture(&sinks.join(" "), &[("SNIFFER_SPOOL", &spool)])?;
    place.call(4)?;
    wait_for(&capture, "default", &[("seen", 4), ("sent", 4)])?;
    wait_for(&capture, "near", &[("seen", 4), ("sent", 4)])?;
    ensure!(second.wait_for_lines(4, PATIENCE), "{}", capture.log());

    second.set_behaviour(Behaviour::Refuse(503));
    place.call(3)?;
    ensure!(third.wait_for_lines(3, PATIENCE), "{}", capture.log());
    capture.wait_for_log("sending to 127.0.0.1:7714")?;
    let status = wait_for(&capture, "near", &[("seen", 7), ("sent", 7)])?;
    let output = &sink(&status, "near")?["output"];
    assert_eq!(output["up"], true, "{output}");
    let shown: Vec<_> = (output["urls"].as_array().context("urls")?.iter())
        .map(|one| (one["url"].as_str().unwrap_or_default(), &one["up"]))
        .collect();
    let (up, down) = (Value::from(true), Value::from(false));
    let expected = [7712, 7713, 7714].map(url);
    let ups = [&down, &down, &up];
    assert_eq!(
        shown,
        expected
            .iter()
            .map(|url| &**url)
            .zip(ups)
            .collect::<Vec<_>>()
    );
    let other = &sink(&status, "default")?["output"];
    assert_eq!(other["up"], true, "{other}");
    let text = capture.control(&["status"])?.stdout;
    ensure!(text.contains("DOWN: answered 503"), "{text}");

    // All are away: calls wait for it, on disk, and default has them.
    third.set_behaviour(Behaviour::Refuse(503));
    place.call(5)?;
    wait_for(&capture, "default", &[("seen", 12), ("sent", 12)])?;
    eventually(PATIENCE, || {
        let status = capture.status()?;
        let near = sink(&status, "near")?;
        ensure!(near["output"]["up"] == false, "{near}");
        ensure!(near["output"]["spool"]["calls"] == 5, "{near}");
        Ok(())
    })?;
    check_ledgers(&place, &capture, &["default", "near"])?;

    // The first of them comes, and has what waited and what follows.
    let first = place.collector(7712)?;
    ensure!(first.wait_for_lines(5, 2 * PATIENCE), "{}", capture.log());
    place.call(2)?;
    wait_for(
        &capture,
        "near",
        &[("seen", 14), ("sent", 14), ("in_flight", 0)],
    )?;
    check_ledgers(&place, &capture, &["default", "near"])?;
    capture.stop()?;
    let lines = [&default, &first, &second, &third].map(|collector| collector.counts().lines);
    assert_eq!(lines, [14, 7, 4, 3]);
    Ok(())
}

#[test]
fn files_rotate_under_load_and_have_every_call_once() -> Result<()> {
    for compression in ["off", "zstd"] {
        let place = Place::new(&format!("files{compression}"))?;
        let _collector = place.collector(7711)?;
        let folder = place.folder();
        let sinks =
            format!("files=file://{folder}?rotate=64K,1h,100&keep=1G&compression={compression}");
        let capture = place.capture(&sinks, &[("USAGE_LOGGERS_BUNDLE_SIZE", "8K")])?;
        // Never more at once than the queue has room for, however long the disk takes.
        for calls in [200, 400, 600, 800, 1000] {
            place.call(200)?;
            wait_for(&capture, "files", &[("seen", calls), ("sent", calls)])?;
        }
        let status = capture.status()?;
        let sandbox = status["capture"]["sandbox"].as_str().unwrap_or_default();
        ensure!(sandbox.contains("seccomp on"), "{sandbox}");
        check_ledgers(&place, &capture, &["default", "files"])?;
        capture.stop()?;
        let (lines, grows) = lines(&folder)?;
        assert_eq!((lines.len(), grows), (1000, false));
        let distinct: BTreeSet<&String> = lines.iter().collect();
        ensure!(distinct.len() > 1, "{distinct:?}");
        let files = fs::read_dir(&folder)?.count() - 1;
        ensure!((5..=20).contains(&files), "{files} files");
    }
    Ok(())
}

#[test]
fn a_full_disk_is_counted_and_holds_up_no_other_sink() -> Result<()> {
    let place = Place::new("fulldisk")?;
    let _collector = place.collector(7711)?;
    let folder = place.folder();
    fs::create_dir(&folder)?;
    let _disk = Disk::mount(Path::new(&folder), "192k")?;
    let sinks = format!("files=file://{folder}?rotate=64K");
    let small = [("USAGE_LOGGERS_BUNDLE_QUEUE_SIZE", "3")];
    let mut capture = place.capture(&sinks, &small)?;
    let mut calls = 0;
    let full = |status: &Value| -> Result<u64> {
        let dropped = &sink(status, "files")?["calls"]["dropped"]["queue_full"];
        dropped.as_u64().context("queue_full")
    };
    loop {
        place.call(60)?;
        calls += 60;
        let status = wait_for(&capture, "default", &[("seen", calls), ("sent", calls)])?;
        if full(&status)? > 0 {
            break;
        }
        ensure!(calls < 6000, "{status}");
    }
    capture.wait_for_log("W057")?;
    let status = capture.status()?;
    assert_eq!(sink(&status, "files")?["output"]["up"], false);
    ensure!(status["warnings"].to_string().contains("W057"), "{status}");
    check_ledgers(&place, &capture, &["default", "files"])?;

    // Once there is room, it is used again, and no file has a part of a line.
    let before = lines(&folder)?.0.len();
    let mut removed = 0;
    for entry in fs::read_dir(&folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "ndjson") {
            removed += fs::read_to_string(&path)?.lines().count();
            fs::remove_file(path)?;
        }
    }
    ensure!(removed > 0 && removed == before, "{removed} of {before}");
    place.call(5)?;
    capture.wait_for_log("writing again")?;
    let status = eventually(PATIENCE, || {
        let status = capture.status()?;
        let calls = &sink(&status, "files")?["calls"];
        ensure!(calls["in_flight"] == 0, "{calls}");
        Ok(status)
    })?;
    let sent = sink(&status, "files")?["calls"]["sent"]
        .as_u64()
        .context("sent")?;
    check_ledgers(&place, &capture, &["default", "files"])?;
    capture.stop_with(8)?;
    let (lines, grows) = lines(&folder)?;
    assert_eq!((lines.len() + removed, grows), (sent as usize, false));
    Ok(())
}

#[test]
fn standard_output_has_the_lines_and_a_closed_pipe_ends_that_sink_alone() -> Result<()> {
    let place = Place::new("pipe")?;
    let collector = place.collector(7711)?;
    let capture = place.capture("out=stdout:", &[])?;
    place.call(30)?;
    wait_for(&capture, "out", &[("seen", 30), ("sent", 30)])?;
    check_ledgers(&place, &capture, &["default", "out"])?;
    let ended = capture.terminate()?;
    assert_eq!(ended.code()?, 0, "{}", ended.stderr);
    assert_eq!(ended.stdout.lines().count(), 30, "{}", ended.stdout);
    for line in ended.stdout.lines() {
        let _: Vec<(String, String)> = serde_json::from_str(line)?;
    }

    let mut capture = place.capture_piped("out=stdout:", "head -n 3")?;
    place.call(10)?;
    wait_for(&capture, "default", &[("sent", 10)])?;
    // The pipe is found closed by the first write after its reader has ended.
    let mut calls = 10;
    eventually(PATIENCE, || {
        place.call(5)?;
        calls += 5;
        let status = capture.status()?;
        let dropped = &sink(&status, "out")?["calls"]["dropped"]["closed"];
        ensure!(dropped.as_u64() > Some(0), "{status}");
        Ok(())
    })?;
    capture.wait_for_log("W058")?;
    wait_for(&capture, "default", &[("sent", calls)])?;
    check_ledgers(&place, &capture, &["default", "out"])?;
    ensure!(
        collector.wait_for_lines(30 + calls, PATIENCE),
        "{:?}",
        collector.counts()
    );
    Ok(())
}

#[test]
fn a_reload_reads_the_file_of_each_sink() -> Result<()> {
    let place = Place::new("reloads")?;
    let (_all, other) = (place.collector(7711)?, place.collector(7712)?);
    let path = place.folder.path().join("rules.txt");
    fs::write(&path, RULES)?;
    let rules = format!("file://{}", path.display());
    let sinks = format!("other={}", url(7712));
    let capture = place.capture(&sinks, &[("SNIFFER_SINK_OTHER_RULES", rules.as_str())])?;
    place.call(3)?;
    wait_for(&capture, "other", &[("sent", 3)])?;
    fs::write(
        &path,
        "include debug\nallow_http_url\n/request_url/ stop_if_found /hello/",
    )?;
    let reload = capture.control(&["rules", "reload"])?;
    assert_eq!(reload.code()?, 0, "{reload:?}");
    place.call(4)?;
    wait_for(
        &capture,
        "other",
        &[("seen", 7), ("sent", 3), ("stopped", 4)],
    )?;
    wait_for(
        &capture,
        "default",
        &[("seen", 7), ("sent", 7), ("stopped", 0)],
    )?;
    check_ledgers(&place, &capture, &["default", "other"])?;
    assert_eq!(other.counts().lines, 3);
    capture.stop()?;
    Ok(())
}
