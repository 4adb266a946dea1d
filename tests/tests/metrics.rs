//! The metrics port, and the ledger of a capture compared with that of its recording. Here
//! belongs what a monitoring system and an auditor rely on.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use bench::seed::Seed;
use bench::traffic::{Accidents, Conversation, Frame, Shape, Vxlan, Wire, frames, write_pcap};
use serde_json::Value;
use tests::http::{Answer, request};
use tests::network::Namespace;
use tests::nginx::curl;
use tests::process::{PATIENCE, Running, eventually};
use tests::program::{sniffer, sniffer_ends};
use tests::recorder::Recorder;
use tests::scene::Scene;

use crate::live_read;

pub(crate) const PORT: &str = "127.0.0.1:7702";

pub(crate) fn get(namespace: &Namespace, path: &str) -> Result<Answer> {
    namespace.inside(|| request(PORT, "GET", path, &[], b""))
}

/// The samples of a page, by name and labels in the order of their names.
pub(crate) type Samples = BTreeMap<(String, Vec<(String, String)>), f64>;

/// Reads the text format (version 0.0.4) as strictly as a scraper may: a name and a label have letters of theirs, each
/// metric has one HELP and one TYPE before its samples, which stand together, none twice; a counter ends in `_total`.
pub(crate) fn parse(page: &str) -> Result<Samples> {
    let is_name = |text: &str| {
        let mut letters = text.chars();
        letters
            .next()
            .is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
            && letters.all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
    };
    ensure!(page.ends_with('\n'), "the last line has no end");
    let mut samples = Samples::new();
    let mut seen: Vec<String> = Vec::new();
    let (mut helped, mut typed) = (String::new(), (String::new(), String::new()));
    for line in page.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, text) = help
                .split_once(' ')
                .with_context(|| format!("no help: {line}"))?;
            ensure!(is_name(name) && !text.trim().is_empty(), "no help: {line}");
            ensure!(
                !seen.contains(&name.to_owned()),
                "{name} stands at two places"
            );
            seen.push(name.to_owned());
            helped = name.to_owned();
            continue;
        }
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind
                .split_once(' ')
                .with_context(|| format!("no type: {line}"))?;
            ensure!(name == helped, "{name} has no help before its type");
            ensure!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            ensure!((kind == "counter") == name.ends_with("_total"), "{line}");
            typed = (name.to_owned(), kind.to_owned());
            continue;
        }
        let (series, value) = line
            .rsplit_once(' ')
            .with_context(|| format!("no sample: {line}"))?;
        let value: f64 = value
            .parse()
            .with_context(|| format!("no number: {line}"))?;
        ensure!(value.is_finite(), "{line}");
        let (name, mut rest) = match series.split_once('{') {
            Some((name, labels)) => (
                name,
                labels.strip_suffix('}').with_context(|| line.to_owned())?,
            ),
            None => (series, ""),
        };
        ensure!(is_name(name), "{line}");
        let parts = ["_bucket", "_sum", "_count"];
        let base = match typed.1.as_str() {
            "histogram" => parts.iter().find_map(|part| name.strip_suffix(part)),
            _ => Some(name),
        };
        ensure!(
            base == Some(typed.0.as_str()),
            "{line} stands under {typed:?}"
        );
        ensure!(typed.1 != "counter" || value >= 0.0, "{line}");
        let mut labels = Vec::new();
        while !rest.is_empty() {
            let (label, behind) = rest.split_once("=\"").with_context(|| line.to_owned())?;
            ensure!(is_name(label), "{line}");
            let mut text = String::new();
            let mut letters = behind.char_indices();
            let end = loop {
                match letters.next().with_context(|| format!("no end: {line}"))? {
                    (at, '"') => break at + 1,
                    (_, '\\') => match letters.next() {
                        Some((_, 'n')) => text.push('\n'),
                        Some((_, letter @ ('"' | '\\'))) => text.push(letter),
                        _ => bail!("no escape: {line}"),
                    },
                    (_, letter) => text.push(letter),
                }
            };
            labels.push((label.to_owned(), text));
            rest = &behind[end..];
            rest = match rest.strip_prefix(',') {
                Some(more) => more,
                None if rest.is_empty() => rest,
                None => bail!("{line}"),
            };
        }
        labels.sort();
        ensure!(
            labels.windows(2).all(|pair| pair[0].0 != pair[1].0),
            "{line}"
        );
        let before = samples.insert((name.to_owned(), labels), value);
        ensure!(before.is_none(), "twice: {line}");
    }
    Ok(samples)
}

/// The sum of a metric over all of its series that have this label (any, if its name is empty).
pub(crate) fn sum(samples: &Samples, name: &str, label: (&str, &str)) -> f64 {
    let has = |labels: &[(String, String)]| {
        label.0.is_empty()
            || labels
                .iter()
                .any(|(name, text)| (name.as_str(), text.as_str()) == label)
    };
    let found: Vec<f64> = samples
        .iter()
        .filter(|((other, labels), _)| other == name && has(labels))
        .map(|(_, value)| *value)
        .collect();
    assert!(!found.is_empty(), "no {name} {label:?}");
    found.iter().sum()
}

const ANY: (&str, &str) = ("", "");

/// Checks the page with Prometheus' own tool.
fn check_with_promtool(page: &str) -> Result<()> {
    let mut tool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("apt-get install prometheus")?;
    tool.stdin
        .take()
        .context("piped")?
        .write_all(page.as_bytes())?;
    let ended = tool.wait_with_output()?;
    ensure!(ended.status.success(), "{ended:?}");
    Ok(())
}

/// A scrape of a running capture: strictly in form, equal to the status, balanced, and without any text from the traffic.
#[test]
fn a_scrape_is_well_formed_agrees_with_the_status_and_has_no_detail() -> Result<()> {
    const RULES: &str =
        "include debug\n/request_header:x-secret/ remove\n/request_url/ stop_if /.*nowhere.*/";
    let scene = Scene::new()?;
    let settings = [
        ("NET_DEVICE", "s0"),
        ("APP_PORTS", "80"),
        ("SNIFFER_SHARDS", "2"),
        ("USAGE_LOGGERS_RULES", RULES),
    ];
    let capture = scene.capture(&settings)?;
    let before = parse(&String::from_utf8(
        get(&scene.lab.server, "/metrics")?.body,
    )?)?;
    assert_eq!(sum(&before, "sniffer_calls_seen_total", ANY), 0.0);
    for path in ["/hello?q=canary-param", "/created", "/nowhere"] {
        let url = format!("http://10.77.0.1{path}");
        curl(&scene.lab.client, &["-H", "X-Secret: canary-header", &url])?;
    }
    scene.wait_for_lines(2)?;
    let (page, status) = eventually(PATIENCE, || {
        let answer = get(&scene.lab.server, "/metrics")?;
        ensure!(
            answer.status == 200 && answer.head.contains("text/plain; version=0.0.4"),
            "{}",
            answer.head
        );
        let page = String::from_utf8(answer.body)?;
        let now = parse(&page)?;
        let ended = sum(&now, "sniffer_tcp_flows_ended_total", ("reason", "fin"));
        let sent = sum(&now, "sniffer_calls_sent_total", ANY);
        ensure!(
            (ended, sent) == (3.0, 2.0),
            "{ended} connections over, {sent} calls sent"
        );
        Ok((page, capture.status()?))
    })?;
    check_with_promtool(&page)?;
    let now = parse(&page)?;
    for ((name, labels), value) in &before {
        if name.ends_with("_total") {
            let later = now.get(&(name.clone(), labels.clone()));
            ensure!(
                later.is_some_and(|later| later >= value),
                "{name} {labels:?} fell"
            );
        }
    }
    let calls = &status["capture"]["calls"];
    for (name, key) in [
        ("sniffer_calls_seen_total", "seen"),
        ("sniffer_calls_sent_total", "sent"),
        ("sniffer_calls_stopped_total", "stopped"),
        ("sniffer_calls_sampled_out_total", "sampled"),
        ("sniffer_calls_in_flight", "in_flight"),
        ("sniffer_calls_unaccounted", "unaccounted"),
    ] {
        assert_eq!(Some(sum(&now, name, ANY)), calls[key].as_f64(), "{name}");
    }
    assert_eq!(
        (calls["seen"].as_u64(), calls["stopped"].as_u64()),
        (Some(3), Some(1))
    );
    let stages = &status["capture"]["stages"];
    for (name, stage, counter) in [
        ("sniffer_message_calls_seen_total", "message", "calls_seen"),
        ("sniffer_tcp_flows_opened_total", "flow", "flow_opened"),
        (
            "sniffer_flow_payload_bytes_total",
            "flow",
            "flow_payload_bytes",
        ),
        ("sniffer_http_requests_total", "http", "requests"),
    ] {
        assert_eq!(
            Some(sum(&now, name, ANY)),
            stages[stage][counter].as_f64(),
            "{name}"
        );
        for shard in ["0", "1"] {
            sum(&now, name, ("shard", shard));
        }
    }
    // Frames come at any time, so each scrape is checked by itself.
    let frames = sum(&now, "sniffer_decap_frames_total", ANY);
    let buckets = sum(&now, "sniffer_decap_segments_total", ANY)
        + sum(&now, "sniffer_decap_skipped_packets_total", ANY)
        + sum(&now, "sniffer_decap_held_fragments_total", ANY);
    assert_eq!(frames, buckets);
    let bytes = sum(&now, "sniffer_flow_payload_bytes_total", ANY);
    let fates = sum(&now, "sniffer_tcp_payload_bytes_total", ANY);
    assert_eq!(
        bytes,
        fates + sum(&now, "sniffer_memory_bytes", ("pool", "out_of_order"))
    );
    assert_eq!(sum(&now, "sniffer_unaccounted", ANY), 0.0);
    // A stopped call has no details left to remove.
    assert_eq!(
        sum(&now, "sniffer_rule_hits_total", ("verb", "remove")),
        2.0
    );
    assert_eq!(
        sum(&now, "sniffer_rule_hits_total", ("verb", "stop_if")),
        1.0
    );
    assert_eq!(sum(&now, "sniffer_rule_hits_total", ("line", "2")), 2.0);
    assert_eq!(sum(&now, "sniffer_capture_rings_open", ANY), 2.0);
    assert_eq!(
        sum(&now, "sniffer_output_delivery_seconds_count", ANY),
        sum(&now, "sniffer_output_requests_total", ("code", "2xx"))
    );
    assert!(sum(&now, "process_resident_memory_bytes", ANY) > 1e6);
    for word in [
        "canary",
        "10.77.0",
        "nowhere",
        "hello",
        "x-secret",
        "debug",
        "127.0.0.1",
        "http:",
    ] {
        assert!(!page.contains(word), "{word}: {page}");
    }
    capture.stop()?;
    Ok(())
}

/// Scrapes are not reported as calls, over loopback and over the wire, on an interface that is captured.
#[test]
fn scrapes_are_not_captured() -> Result<()> {
    let scene = Scene::new()?;
    let capture = scene.capture(&[("SNIFFER_METRICS", ":7702")])?;
    for _ in 0..5 {
        for (from, to) in [
            (&scene.lab.server, "127.0.0.1"),
            (&scene.lab.server, "[::1]"),
            (&scene.lab.client, "10.77.0.1"),
            (&scene.lab.client, "[fd77::1]"),
        ] {
            let page = curl(from, &[&format!("http://{to}:7702/metrics")])?;
            ensure!(page.contains("sniffer_up 1"), "{to}: {page}");
        }
    }
    scene.get("/hello")?;
    scene.wait_for_lines(1)?;
    let status = capture.status()?;
    assert_eq!(status["capture"]["calls"]["seen"], 1, "{status}");
    assert_eq!(status["capture"]["metrics"], "http://[::]:7702/metrics");
    capture.stop()?;
    assert_eq!(scene.collector.counts().lines, 1);
    Ok(())
}

/// If the default port is taken, there are no metrics; if a port that the user named is taken, the program ends.
#[test]
fn a_taken_port_is_reported() -> Result<()> {
    let scene = Scene::new()?;
    let _stranger = scene.lab.server.inside(|| TcpListener::bind(PORT))?;
    let capture = scene.capture(&[("NET_DEVICE", "s0")])?;
    scene.get("/hello")?;
    scene.wait_for_lines(1)?;
    let status = capture.status()?;
    assert_eq!(status["warnings"][0]["code"], "W104", "{status}");
    let log = capture.stop()?;
    ensure!(
        log.matches("W104").count() == 1 && log.contains("SNIFFER_METRICS=off"),
        "{log}"
    );
    let folder = tempfile::tempdir()?;
    let control = folder.path().join("control");
    let mut named = sniffer(&["run", "-i", "s0", "--metrics", PORT, "--control"]);
    named.arg(&control);
    named.env("USAGE_LOGGERS_URL", scene.collector.url());
    named.env("USAGE_LOGGERS_RULES", "include debug");
    let ended = Running::start(&mut scene.lab.server.enter(&named))?.end(PATIENCE)?;
    ensure!(
        ended.code()? == 2 && ended.stderr.contains("E105") && !control.exists(),
        "{ended:?}"
    );
    Ok(())
}

/// Alive and ready as long as there is an interface; not ready once it is gone, and still alive.
#[test]
fn readiness_follows_the_interface() -> Result<()> {
    let scene = Scene::without_nginx()?;
    let capture = scene.capture(&[("NET_DEVICE", "s0")])?;
    for path in ["/livez", "/readyz", "/healthz"] {
        eventually(PATIENCE, || {
            let answer = get(&scene.lab.server, path)?;
            ensure!(answer.status == 200, "{path}: {answer:?}");
            Ok(())
        })?;
    }
    scene.lab.server.ip("link delete s0")?;
    let unready = eventually(PATIENCE, || {
        let answer = get(&scene.lab.server, "/readyz")?;
        ensure!(answer.status == 503, "{answer:?}");
        Ok(String::from_utf8(answer.body)?)
    })?;
    assert_eq!(
        unready,
        "{\"ready\":false,\"reasons\":[\"no interface is open\"]}\n"
    );
    assert_eq!(get(&scene.lab.server, "/livez")?.status, 200);
    capture.stop()?;
    Ok(())
}

/// Conversations on a network that loses, reorders, repeats and resegments, in VXLAN and plain.
pub(crate) fn rough_traffic(seed: u64, lose_per_mille: u32) -> Vec<Frame> {
    let mut seed = Seed::new(seed);
    let shape = Shape {
        pipelining: false,
        body_bytes_max: 20_000,
        ..Shape::default()
    };
    let tunnelled = Wire {
        vxlan: Some(Vxlan::new(7)),
        ..Wire::default()
    };
    let talks: Vec<_> = (0..40)
        .map(|number| {
            let talk = Conversation {
                mss: 1300,
                ..Conversation::seeded(&mut seed, &shape)
            };
            let wire = if number % 2 == 0 {
                Wire::default()
            } else {
                tunnelled.clone()
            };
            (talk, wire)
        })
        .collect();
    let accidents = Accidents {
        lose_per_mille,
        ..Accidents::harmless()
    };
    frames(&talks, &accidents, &mut seed)
}

/// The counters of a stage whose name starts with a prefix.
fn counted(stages: &Value, stage: &str, start: &str) -> u64 {
    let cells = stages[stage].as_object().expect("a stage");
    let found: Vec<u64> = cells
        .iter()
        .filter(|(name, _)| name.starts_with(start))
        .map(|(_, count)| count.as_u64().expect("a count"))
        .collect();
    assert!(!found.is_empty(), "no {stage}.{start}*");
    found.iter().sum()
}

/// Every level of a ledger, summed here from its buckets.
#[track_caller]
fn check_ledger(status: &Value) {
    let stages = &status["capture"]["stages"];
    let decap = |start| counted(stages, "decap", start);
    let flow = |start| counted(stages, "flow", start);
    let held = |start| counted(stages, "held", start);
    let one = |stage: &str, name: &str| stages[stage][name].as_u64().expect("a counter");
    assert_eq!(one("shard", "frames_read"), one("decap", "frames"));
    assert_eq!(
        one("decap", "frames"),
        one("decap", "segments") + decap("skipped_") + one("decap", "held_fragments"),
        "frames"
    );
    assert_eq!(
        one("decap", "segments"),
        one("flow", "flow_segments"),
        "segments"
    );
    let settled = one("flow", "flow_delivered_bytes")
        + one("flow", "flow_duplicate_bytes")
        + one("flow", "flow_overlapped_bytes")
        + one("flow", "flow_skipped_bytes")
        + flow("flow_discarded_");
    assert_eq!(
        one("decap", "payload_bytes"),
        settled + held("payload_bytes"),
        "payload bytes"
    );
    assert_eq!(
        one("flow", "flow_opened"),
        flow("flow_ended_") + held("flows"),
        "flows"
    );
    assert_eq!(
        one("http", "exchanges_opened"),
        one("http", "exchanges_finished")
            + counted(stages, "http", "half_")
            + one("held", "exchanges"),
        "exchanges"
    );
    assert_eq!(counted(stages, "unaccounted", ""), 0, "{stages}");
    let calls = &status["capture"]["calls"];
    let call = |name: &str| calls[name].as_u64().expect("a count");
    let dropped: u64 = calls["dropped"]
        .as_object()
        .expect("reasons")
        .values()
        .map(|count| count.as_u64().expect("a count"))
        .sum();
    let buckets = call("sent") + call("stopped") + call("sampled") + dropped + call("in_flight");
    assert_eq!(
        (call("seen"), calls["unaccounted"].as_i64()),
        (buckets, Some(0)),
        "{calls}"
    );
    assert_eq!(call("seen"), one("message", "calls_seen"));
}

const LEDGER_RULES: &str =
    "include debug\n/request_header:user-agent/ remove\n/request_method/ stop_if /DELETE/";

/// `read --ledger` with its lines: both in one stream, or the ledger in a file.
#[test]
fn the_ledger_of_a_reading_balances_at_every_level() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (packets, file) = (folder.path().join("x.pcap"), folder.path().join("ledger"));
    write_pcap(
        &mut fs::File::create(&packets)?,
        &rough_traffic(7, 30),
        usize::MAX,
    )?;
    let (packets, path) = (packets.display().to_string(), file.display().to_string());
    let read = |ledger: &str| {
        sniffer_ends(
            &[
                "read",
                &packets,
                "--json",
                "--half-calls",
                "--rules",
                LEDGER_RULES,
                "--ledger",
                ledger,
            ],
            &[],
        )
    };
    let apart = read(&path)?;
    assert_eq!(apart.code()?, 0, "{}", apart.stderr);
    let text = fs::read_to_string(&file)?;
    let status: Value = serde_json::from_str(&text)?;
    check_ledger(&status);
    let lines = apart.stdout.lines().count() as u64;
    assert_eq!(status["capture"]["calls"]["sent"].as_u64(), Some(lines));
    assert!(lines > 40, "{lines} calls");
    let halves = counted(&status["capture"]["stages"], "http", "half_");
    assert!(
        halves > 0 && status["capture"]["calls"]["stopped"].as_u64() > Some(0),
        "{text}"
    );
    assert!(counted(&status["capture"]["stages"], "flow", "flow_gap_bytes") > 0);
    let hits = &status["capture"]["rule_hits"];
    assert!(
        hits.as_array().is_some_and(|hits| hits.iter().any(|rule| {
            rule["line"] == 2 && rule["verb"] == "remove" && rule["hits"].as_u64() > Some(0)
        })),
        "{hits}"
    );
    let together = read("-")?;
    assert_eq!(together.stdout, apart.stdout + &text);
    let refused = read("/nowhere/ledger")?;
    ensure!(
        refused.code()? == 2 && refused.stderr.contains("E121"),
        "{refused:?}"
    );
    Ok(())
}

/// The same packets live and from a file: every counter is the same but for those named here, with their reasons.
///
/// The recording is made at the same time as the capture and has the kernel's times. The times at which frames were meant
/// to be sent would not do: on a busy machine they are sent later, and then other waits expire.
#[test]
fn a_capture_and_its_recording_have_the_same_ledger() -> Result<()> {
    /// Frames that any interface has, neighbour discovery for example, while only one of the two captures; flows that
    /// linger live and end with the file.
    const EXPLAINED: [(&str, &str); 6] = [
        ("decap", "frames"),
        ("decap", "skipped_not_ip"),
        ("decap", "skipped_not_tcp"),
        ("shard", "frames_read"),
        ("shard", "frames_read_bytes"),
        ("flow", "flow_ended_shutdown"),
    ];
    /// What a file does not have: a ring, an outbox, an end while flows linger.
    const LIVE: [&str; 3] = ["shard", "held", "unaccounted"];
    let scene = Scene::without_nginx()?;
    let made = rough_traffic(11, 3);
    let rules = [("USAGE_LOGGERS_RULES", LEDGER_RULES)];
    let mut settings = rules.to_vec();
    settings.extend([("NET_DEVICE", "s0"), ("SNIFFER_SHARDS", "1")]);
    let folder = tempfile::tempdir()?;
    let packets = folder.path().join("x.pcap");
    let capture = scene.capture(&settings)?;
    let recorder = Recorder::start(&scene.lab.server, "s0", &packets)?;
    let sent = scene.send(&made, 4_000)?;
    let live = eventually(PATIENCE, || {
        let live = capture.status()?;
        let stages = &live["capture"]["stages"];
        let noise = counted(stages, "decap", "skipped_not_");
        let frames = stages["decap"]["frames"].as_u64().context("frames")?;
        ensure!(
            frames - noise == sent as u64,
            "{frames} - {noise} of {sent}"
        );
        ensure!(
            stages["held"]["payload_bytes"] == 0 && stages["held"]["exchanges"] == 0,
            "{stages}"
        );
        ensure!(live["capture"]["calls"]["in_flight"] == 0, "{stages}");
        Ok(live)
    })?;
    check_ledger(&live);
    recorder.stop(made.last().context("frames were made")?)?;
    capture.stop()?;

    let (lines, read) = live_read::read(&packets, &rules)?;
    check_ledger(&read);
    let (live, read) = (&live["capture"], &read["capture"]);
    let mut differences = Vec::new();
    for (stage, cells) in live["stages"].as_object().context("stages")? {
        for (name, count) in cells.as_object().context("counters")? {
            let is_explained = EXPLAINED.contains(&(stage.as_str(), name.as_str()));
            let other = &read["stages"][stage][name];
            if count != other && !is_explained && !LIVE.contains(&stage.as_str()) {
                differences.push(format!("{stage}.{name}: live {count}, read {other}"));
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    assert_eq!(
        live["stages"]["held"]["flows"],
        read["stages"]["flow"]["flow_ended_shutdown"]
    );
    // A file has no destination, and so no reasons of one.
    for key in [
        "seen",
        "sent",
        "stopped",
        "sampled",
        "in_flight",
        "unaccounted",
    ] {
        assert_eq!(live["calls"][key], read["calls"][key], "{key}");
    }
    for key in ["halves", "rule_hits"] {
        assert_eq!(live[key], read[key], "{key}");
    }
    assert_eq!(lines.lines().count() as u64, scene.collector.counts().lines);
    Ok(())
}

/// An all-in-one that delivers to another store: requests to its own page and metrics are not reported there.
#[test]
fn an_all_in_one_does_not_capture_its_own_ports_whatever_the_destination() -> Result<()> {
    let scene = Scene::new()?;
    let folder = tempfile::tempdir()?;
    let mut command = sniffer(&["all-in-one", "--on"]);
    for (flag, name) in [("--data", "data"), ("--control", "control")] {
        command.arg(flag).arg(folder.path().join(name));
    }
    command.env("USAGE_LOGGERS_URL", scene.collector.url());
    command.env("USAGE_LOGGERS_RULES", "include debug");
    let process = Running::start(&mut scene.lab.server.enter(&command))?;
    let ready = || -> Result<()> {
        let answer = get(&scene.lab.server, "/readyz")?;
        ensure!(answer.status == 200, "{answer:?}");
        Ok(())
    };
    eventually(PATIENCE, ready).with_context(|| process.stderr())?;
    for port in [7700, 7702] {
        for _ in 0..3 {
            curl(&scene.lab.server, &[&format!("http://127.0.0.1:{port}/")])?;
        }
    }
    curl(&scene.lab.server, &["http://127.0.0.1/hello"])?;
    scene.wait_for_lines(1)?;
    let ended = process.terminate(PATIENCE)?;
    assert_eq!(ended.code()?, 0, "{}", ended.stderr);
    assert_eq!(
        scene.collector.counts().lines,
        1,
        "{:?}",
        scene.collector.rows()
    );
    Ok(())
}
