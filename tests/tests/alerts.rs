//! The dashboard and the alert rules: every metric and label that they use is in a scrape, each alert fires when its cause is there
//! and is silent without it, and the causes are made, but for that of a bug.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bench::collect::Behaviour;
use serde_json::Value;
use tests::disk::Disk;
use tests::http::request;
use tests::network::Namespace;
use tests::nginx::curl;
use tests::process::{PATIENCE, Running, eventually, run};
use tests::program::{repository, sniffer_ends};
use tests::scene::Scene;
use tests::store;

use crate::metrics::{Samples, get, parse, rough_traffic, sum};

mod prometheus;

const RULES: &str = "deploy/prometheus/sniffer.yml";

/// An alert, series with which it fires after a quarter of an hour, and series with which it does not.
type Case = (
    &'static str,
    &'static [(&'static str, &'static str)],
    &'static [(&'static str, &'static str)],
);

/// One case for each alert at least; a value goes on for half an hour. `1+60x30` grows by one a second.
const CASES: [Case; 20] = [
    ("SnifferDown", &[("up", "1x2 0x28")], &[("up", "1x30")]),
    (
        "SnifferUnaccounted",
        &[
            ("sniffer_calls_unaccounted", "0x2 -3x28"),
            ("sniffer_unaccounted{level=\"frames\"}", "0x30"),
        ],
        &[
            ("sniffer_calls_unaccounted", "0x30"),
            ("sniffer_unaccounted{level=\"frames\"}", "0x30"),
        ],
    ),
    (
        "SnifferUnaccounted",
        &[
            ("sniffer_calls_unaccounted", "0x30"),
            ("sniffer_unaccounted{level=\"frames\"}", "0x2 1x28"),
        ],
        // A bundle between two counters, for a moment.
        &[
            ("sniffer_calls_unaccounted", "0x13 2 0x16"),
            ("sniffer_unaccounted{level=\"frames\"}", "0x30"),
        ],
    ),
    (
        "SnifferCallsDropped",
        &[(
            "sniffer_calls_dropped_total{reason=\"queue_full\"}",
            "0x13 5x17",
        )],
        &[("sniffer_calls_dropped_total{reason=\"queue_full\"}", "5x30")],
    ),
    (
        "SnifferPacketsDropped",
        &[(
            "sniffer_capture_dropped_packets_total{shard=\"0\",reason=\"ring_full\"}",
            "0+60x30",
        )],
        &[(
            "sniffer_capture_dropped_packets_total{shard=\"0\",reason=\"ring_full\"}",
            "7x30",
        )],
    ),
    (
        "SnifferIncomplete",
        &[("sniffer_capture_complete_ratio", "0.98x30")],
        &[("sniffer_capture_complete_ratio", "0.995x30")],
    ),
    (
        "SnifferPacketsLostBefore",
        &[
            ("sniffer_tcp_gap_bytes_total{shard=\"0\"}", "0+200x30"),
            (
                "sniffer_tcp_payload_bytes_total{shard=\"0\",fate=\"delivered\"}",
                "0+10000x30",
            ),
        ],
        &[
            ("sniffer_tcp_gap_bytes_total{shard=\"0\"}", "0+20x30"),
            (
                "sniffer_tcp_payload_bytes_total{shard=\"0\",fate=\"delivered\"}",
                "0+10000x30",
            ),
        ],
    ),
    (
        "SnifferHalfCalls",
        &[
            (
                "sniffer_half_calls_total{shard=\"0\",reason=\"gap\"}",
                "0+10x30",
            ),
            ("sniffer_call_duration_seconds_count", "0+100x30"),
        ],
        &[
            (
                "sniffer_half_calls_total{shard=\"0\",reason=\"gap\"}",
                "0+4x30",
            ),
            ("sniffer_call_duration_seconds_count", "0+100x30"),
        ],
    ),
    (
        "SnifferHalfCalls",
        // Not one whole call.
        &[
            (
                "sniffer_half_calls_total{shard=\"0\",reason=\"timeout\"}",
                "0+10x30",
            ),
            ("sniffer_call_duration_seconds_count", "0x30"),
        ],
        // No calls at all.
        &[
            (
                "sniffer_half_calls_total{shard=\"0\",reason=\"timeout\"}",
                "3x30",
            ),
            ("sniffer_call_duration_seconds_count", "9x30"),
        ],
    ),
    (
        "SnifferOutputDown",
        &[("sniffer_output_up", "1x5 0x25")],
        &[("sniffer_output_up", "1x13 0 1x16")],
    ),
    (
        "SnifferOutputSlow",
        &[("sniffer_output_oldest_seconds", "0+60x30")],
        &[("sniffer_output_oldest_seconds", "2x30")],
    ),
    (
        "SnifferSpoolFailing",
        &[("sniffer_spool_failing", "0x5 1x25")],
        &[("sniffer_spool_failing", "0x30")],
    ),
    (
        "SnifferMemory",
        &[
            ("sniffer_body_cut_total{reason=\"memory\"}", "0x2 1+60x28"),
            ("sniffer_half_calls_total{reason=\"evicted\"}", "0x30"),
        ],
        &[
            ("sniffer_body_cut_total{reason=\"memory\"}", "5x30"),
            ("sniffer_body_cut_total{reason=\"limit\"}", "0+60x30"),
            ("sniffer_half_calls_total{reason=\"evicted\"}", "0x30"),
        ],
    ),
    (
        "SnifferShardBusy",
        &[
            ("sniffer_shard_busy_ratio{shard=\"0\"}", "0.99x30"),
            ("sniffer_shard_busy_ratio{shard=\"1\"}", "0.1x30"),
        ],
        &[
            ("sniffer_shard_busy_ratio{shard=\"0\"}", "0.6x30"),
            ("sniffer_shard_busy_ratio{shard=\"1\"}", "0.1x30"),
        ],
    ),
    (
        "SnifferNoPackets",
        &[
            ("sniffer_capture_packets_total{shard=\"0\"}", "8x30"),
            ("sniffer_capture_on", "1x30"),
        ],
        &[
            ("sniffer_capture_packets_total{shard=\"0\"}", "8+1x30"),
            ("sniffer_capture_on", "1x30"),
        ],
    ),
    (
        "SnifferNoPackets",
        &[
            ("sniffer_capture_packets_total{shard=\"0\"}", "0x30"),
            ("sniffer_capture_on", "1x30"),
        ],
        // It is off, which another alert reports.
        &[
            ("sniffer_capture_packets_total{shard=\"0\"}", "8x30"),
            ("sniffer_capture_on", "0x30"),
        ],
    ),
    (
        "SnifferNotCapturing",
        &[("sniffer_capture_on", "1x5 0x25")],
        &[("sniffer_capture_on", "1x30")],
    ),
    (
        "SnifferMaskWithoutMatch",
        &[
            (
                "sniffer_rule_hits_total{rule=\"1\",line=\"2\",verb=\"remove_if\"}",
                "0x30",
            ),
            (
                "sniffer_rule_hits_total{rule=\"2\",line=\"3\",verb=\"stop_if\"}",
                "0x30",
            ),
            ("sniffer_message_calls_seen_total{shard=\"0\"}", "0+1000x30"),
        ],
        &[
            (
                "sniffer_rule_hits_total{rule=\"1\",line=\"2\",verb=\"remove_if\"}",
                "0+1x30",
            ),
            (
                "sniffer_rule_hits_total{rule=\"2\",line=\"3\",verb=\"stop_if\"}",
                "0x30",
            ),
            ("sniffer_message_calls_seen_total{shard=\"0\"}", "0+1000x30"),
        ],
    ),
    (
        "SnifferWarning",
        &[("sniffer_warning{code=\"W064\"}", "1x60")],
        &[("sniffer_warning{code=\"W064\"}", "1x13 _x30")],
    ),
    (
        "SnifferStoreFailing",
        &[("sniffer_store_up", "1x5 0x25")],
        &[("sniffer_store_up", "1x30")],
    ),
];

/// The minute at which a case is looked at; that of the warning needs more than half an hour.
const MINUTE: u32 = 14;
const MINUTE_OF_WARNING: u32 = 32;

/// Whether an alert fires at a minute.
struct Expected {
    minute: u32,
    alert: &'static str,
    fires: bool,
}

/// Has promtool evaluate the alert rules over series, each with its values at each minute.
fn test_rules<'a>(
    series: impl IntoIterator<Item = (&'a str, &'a str)>,
    expected: &[Expected],
) -> Result<()> {
    let mut text = format!(
        "rule_files: ['{}']\nevaluation_interval: 1m\ntests:\n- interval: 1m\n  input_series:\n",
        repository().join(RULES).display()
    );
    for (name, values) in series {
        let (name, labels) = match name.split_once('{') {
            Some((name, labels)) => (name, format!("{},", labels.trim_end_matches('}'))),
            None => (name, String::new()),
        };
        let series = format!("{name}{{{labels}job=\"sniffer\",instance=\"a:7702\"}}");
        writeln!(text, "  - series: '{series}'\n    values: '{values}'")?;
    }
    text += "  promql_expr_test:\n";
    for Expected {
        minute,
        alert,
        fires,
    } in expected
    {
        let query =
            format!("count(ALERTS{{alertname=\"{alert}\",alertstate=\"firing\"}}) > bool 0");
        let samples = if *fires {
            "[{labels: '{}', value: 1}]"
        } else {
            "[]"
        };
        writeln!(
            text,
            "  - expr: '{query}'\n    eval_time: {minute}m\n    exp_samples: {samples}"
        )?;
    }
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("test.yml");
    fs::write(&file, &text)?;
    let mut promtool = Command::new("promtool");
    promtool.args(["test", "rules"]).arg(&file);
    run(&mut promtool).map(drop).with_context(|| text)
}

#[test]
fn the_rules_are_valid_and_each_alert_fires_and_is_silent() -> Result<()> {
    let mut promtool = Command::new("promtool");
    promtool
        .args(["check", "rules"])
        .arg(repository().join(RULES));
    run(&mut promtool)?;
    let text = fs::read_to_string(repository().join(RULES))?;
    let names = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "));
    let alerts: BTreeSet<&str> = names.collect();
    let tested: BTreeSet<&str> = CASES.iter().map(|(alert, ..)| *alert).collect();
    assert_eq!(alerts, tested, "each alert has a case");
    for (alert, firing, silent) in CASES {
        let minute = if alert == "SnifferWarning" {
            MINUTE_OF_WARNING
        } else {
            MINUTE
        };
        for (series, fires) in [(firing, true), (silent, false)] {
            let expected = Expected {
                minute,
                alert,
                fires,
            };
            let checked = test_rules(series.iter().copied(), &[expected]);
            checked.with_context(|| format!("{alert}, fires: {fires}"))?;
        }
    }
    Ok(())
}

/// What a query uses: metrics, and labels.
#[derive(Default)]
struct Used {
    metrics: BTreeSet<String>,
    labels: BTreeSet<String>,
}

impl Used {
    fn read(&mut self, query: &str) {
        let is_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        let names = query.split(|letter| !is_name(letter));
        let names =
            names.filter(|name| name.starts_with("sniffer_") || name.starts_with("process_"));
        self.metrics.extend(names.map(str::to_owned));
        for list in query.split("by (").skip(1) {
            let labels = list.split(')').next().unwrap_or_default().split(',');
            self.labels
                .extend(labels.map(|label| label.trim().to_owned()));
        }
        for matchers in query.split('{').skip(1) {
            let matchers = matchers.split('}').next().unwrap_or_default();
            for label in matchers
                .split(',')
                .filter_map(|matcher| matcher.split(['=', '!']).next())
            {
                self.labels.insert(label.trim().to_owned());
            }
        }
    }
}

/// The queries of the alert rules, one a text, and those of the dashboard.
fn queries() -> Result<Vec<String>> {
    let text = fs::read_to_string(repository().join(RULES))?;
    let mut queries = Vec::new();
    for rule in text.split("- alert:").skip(1) {
        let query = rule
            .split("expr:")
            .nth(1)
            .context("a rule has an expression")?;
        let query = query
            .split(" for:")
            .next()
            .and_then(|query| query.split(" labels:").next());
        queries.push(query.unwrap_or_default().to_owned());
    }
    let dashboard = sniffer_ends(&["dashboard"], &[])?.stdout;
    let dashboard: Value = serde_json::from_str(&dashboard)?;
    for panel in dashboard["panels"].as_array().context("panels")? {
        let targets = panel["targets"].as_array().context("targets")?;
        ensure!(!targets.is_empty(), "{}", panel["title"]);
        for target in targets {
            queries.push(target["expr"].as_str().context("a query")?.to_owned());
        }
    }
    Ok(queries)
}

/// A capture of mirrored traffic with a spool, and a store: together they serve every metric that the dashboard and the alerts use.
#[test]
fn every_name_in_dashboard_and_alerts_is_in_a_scrape() -> Result<()> {
    let scene = Scene::mirrored("10.78.0.2")?;
    let folder = tempfile::tempdir()?;
    let spool = folder.path().join("spool").display().to_string();
    let settings = [
        ("NET_DEVICE", "a0"),
        ("SNIFFER_ENGINE", "vxlan"),
        ("SNIFFER_SPOOL", spool.as_str()),
        (
            "USAGE_LOGGERS_RULES",
            "include debug\n/request_header:x/ remove",
        ),
    ];
    let capture = scene.capture(&settings)?;
    for _ in 0..3 {
        scene.get("/hello")?;
    }
    scene.get("/nowhere")?;
    scene.wait_for_lines(4)?;
    let appliance = &scene.lab.appliance;
    let mut command = store::command(&folder.path().join("data"));
    command.env("SNIFFER_UI_TOKEN", "off");
    let mut store = Running::start(&mut appliance.enter(&command))?;
    store.wait_for_log("store ready", PATIENCE)?;
    let line = "[[\"request_method\",\"GET\"],[\"request_url\",\"http://a/\"]]\n";
    let posted = store::post(appliance, line)?;
    ensure!(posted.status == 204, "{posted:?}");
    let of_store = appliance.inside(|| request("127.0.0.1:7700", "GET", "/metrics", &[], b""))?;
    let of_store = String::from_utf8(of_store.body)?;

    let page = eventually(PATIENCE, || {
        let page = String::from_utf8(get(appliance, "/metrics")?.body)?;
        let now = parse(&page)?;
        let calls = sum(&now, "sniffer_vni_calls_total", ("vni", "77"));
        ensure!(calls == 4.0, "{calls} calls");
        // The gauges of a shard are of the second before.
        ensure!(
            sum(&now, "sniffer_shard_busy_ratio", ("shard", "0")) > 0.0,
            "{page}"
        );
        Ok(page)
    })?;
    let samples: Samples = parse(&page)?;
    let one = |name: &str, label: (&str, &str)| sum(&samples, name, label);
    assert_eq!(one("sniffer_capture_on", ("", "")), 1.0);
    assert_eq!(one("sniffer_call_duration_seconds_count", ("", "")), 4.0);
    assert_eq!(
        one("sniffer_call_duration_seconds_bucket", ("le", "+Inf")),
        4.0
    );
    assert!(one("sniffer_call_duration_seconds_sum", ("", "")) > 0.0);
    assert!(one("sniffer_vni_packets_total", ("vni", "77")) >= 40.0);
    assert_eq!(one("sniffer_vni_failed_calls_total", ("vni", "77")), 0.0);
    assert_eq!(one("sniffer_vni_half_calls_total", ("vni", "77")), 0.0);
    assert!(one("sniffer_vni_call_seconds_total", ("vni", "77")) > 0.0);
    assert_eq!(one("sniffer_port_connections_total", ("port", "80")), 4.0);
    assert!((0.0..=1.0).contains(&one("sniffer_capture_ring_used_ratio", ("shard", "0"))));
    assert_eq!(
        sum(&parse(&of_store)?, "sniffer_store_calls", ("", "")),
        1.0
    );

    let mut used = Used::default();
    queries()?.iter().for_each(|query| used.read(query));
    assert!(
        used.metrics.len() > 40 && used.labels.len() > 10,
        "they were not read"
    );
    let pages = [page, of_store].concat();
    let kinds: BTreeMap<&str, &str> = (pages.lines())
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .collect();
    let is_there = |name: &str| {
        let histogram = ["_bucket", "_count", "_sum"]
            .iter()
            .find_map(|end| name.strip_suffix(end));
        kinds.contains_key(name)
            || histogram.is_some_and(|base| kinds.get(base) == Some(&"histogram"))
    };
    let missing: Vec<_> = used.metrics.iter().filter(|name| !is_there(name)).collect();
    assert!(missing.is_empty(), "no such metrics: {missing:?}");
    // Those that Prometheus itself adds, and one of metrics that this capture has no sample of.
    let added = ["instance", "job", "code"];
    let is_label = |label: &str| {
        added.contains(&label)
            || pages.contains(&format!("{{{label}=\""))
            || pages.contains(&format!(",{label}=\""))
    };
    let missing: Vec<_> = used
        .labels
        .iter()
        .filter(|label| !is_label(label))
        .collect();
    assert!(missing.is_empty(), "no such labels: {missing:?}");
    store.terminate(PATIENCE)?;
    capture.stop()?;
    Ok(())
}

/// Scrapes of a capture in which causes of alerts were made, one after the other, each scrape repeated for twenty minutes.
#[test]
fn causes_that_are_made_fire_their_alerts() -> Result<()> {
    const CALLS: u32 = 1100;
    let scene = Scene::new()?;
    let settings = [
        ("NET_DEVICE", "s0"),
        (
            "USAGE_LOGGERS_RULES",
            "include debug\n/request_header:x-nothing/ remove",
        ),
        ("USAGE_LOGGERS_BUNDLE_SIZE", "1K"),
        ("USAGE_LOGGERS_BUNDLE_QUEUE_SIZE", "1"),
    ];
    let capture = scene.capture(&settings)?;
    let server = &scene.lab.server;
    let scrape = |is_due: &dyn Fn(&Samples) -> bool| {
        eventually(PATIENCE, || {
            let page = String::from_utf8(get(server, "/metrics")?.body)?;
            let now = parse(&page)?;
            ensure!(is_due(&now), "not yet: {page}");
            Ok(now)
        })
    };
    // The gauges of the rings are of the first second's end.
    let before = scrape(&|now| sum(now, "sniffer_capture_on", ("", "")) == 1.0)?;
    // Slowly enough for a queue of one bundle.
    for first in (0..CALLS).step_by(100) {
        let url = format!("http://10.77.0.1/hello?[{first}-{}]", first + 99);
        curl(&scene.lab.client, &["-o", "/dev/null", &url])?;
    }
    let calm = scrape(&|now| {
        sum(now, "sniffer_message_calls_seen_total", ("", "")) == f64::from(CALLS)
            && sum(now, "sniffer_calls_in_flight", ("", "")) == 0.0
    })?;
    scene.collector.set_behaviour(Behaviour::Refuse(403));
    for _ in 0..5 {
        curl(
            &scene.lab.client,
            &["-o", "/dev/null", "http://10.77.0.1/hello?[0-19]"],
        )?;
    }
    let dropped = sum(&calm, "sniffer_calls_dropped_total", ("", ""));
    let refused = scrape(&|now| {
        sum(now, "sniffer_output_up", ("", "")) == 0.0
            && sum(now, "sniffer_calls_dropped_total", ("", "")) > dropped
    })?;
    server.ip("link delete s0")?;
    let gone = scrape(&|now| sum(now, "sniffer_capture_on", ("", "")) == 0.0)?;

    let mut expected = vec![
        // While nothing passes, no packets are reported; while some do, they are not.
        at(19, "SnifferNoPackets", true),
        at(23, "SnifferNoPackets", false),
        at(19, "SnifferMaskWithoutMatch", false),
        at(35, "SnifferMaskWithoutMatch", true),
        at(39, "SnifferOutputDown", false),
        at(44, "SnifferOutputDown", true),
        at(39, "SnifferCallsDropped", false),
        at(42, "SnifferCallsDropped", true),
        at(55, "SnifferNotCapturing", false),
        at(63, "SnifferNotCapturing", true),
    ];
    for minute in [19, 39, 59, 79] {
        for alert in [
            "SnifferUnaccounted",
            "SnifferIncomplete",
            "SnifferMemory",
            "SnifferSpoolFailing",
        ] {
            expected.push(at(minute, alert, false));
        }
    }
    test_moments(&[before, calm, refused, gone], &expected)?;
    capture.terminate()?;
    Ok(())
}

fn at(minute: u32, alert: &'static str, fires: bool) -> Expected {
    Expected {
        minute,
        alert,
        fires,
    }
}

/// Has the rules evaluated over scrapes, one after the other, each repeated for twenty minutes.
fn test_moments(moments: &[Samples], expected: &[Expected]) -> Result<()> {
    let names: BTreeSet<_> = moments.iter().flat_map(|moment| moment.keys()).collect();
    let series = names.into_iter().map(|name| {
        let values = moments.iter().map(|moment| match moment.get(name) {
            Some(value) => format!("{value}x19"),
            None => "_x19".to_owned(),
        });
        let values: Vec<String> = values.collect();
        let labels = name.1.iter();
        let labels: Vec<_> = labels
            .map(|(label, text)| format!("{label}=\"{text}\""))
            .collect();
        let name = match labels.is_empty() {
            true => name.0.clone(),
            false => format!("{}{{{}}}", name.0, labels.join(",")),
        };
        (name, values.join(" "))
    });
    let series: Vec<(String, String)> = series.collect();
    let series = series
        .iter()
        .map(|(name, values)| (name.as_str(), values.as_str()));
    test_rules(series, expected)
}

/// Scrapes until one is due.
fn scrape_until(namespace: &Namespace, is_due: impl Fn(&Samples) -> bool) -> Result<Samples> {
    eventually(2 * PATIENCE, || {
        let page = String::from_utf8(get(namespace, "/metrics")?.body)?;
        let now = parse(&page)?;
        ensure!(is_due(&now), "not yet: {page}");
        Ok(now)
    })
}

/// Whether a warning is in a scrape, which has none that is not in force.
fn warns(now: &Samples, code: &str) -> bool {
    let labels = vec![("code".to_owned(), code.to_owned())];
    now.contains_key(&("sniffer_warning".to_owned(), labels))
}

/// A mirror that loses packets: bytes that never came, calls of which one side is known, and a warning that stays.
#[test]
fn lost_packets_fire_their_alerts() -> Result<()> {
    let scene = Scene::without_nginx()?;
    let capture = scene.capture(&[("NET_DEVICE", "s0")])?;
    let server = &scene.lab.server;
    let seen = |now: &Samples| sum(now, "sniffer_message_calls_seen_total", ("", ""));
    let whole = scene.send(&rough_traffic(3, 0), 5_000)?;
    ensure!(whole > 1000, "{whole} frames");
    let calm = scrape_until(server, |now| {
        seen(now) > 40.0 && sum(now, "sniffer_calls_in_flight", ("", "")) == 0.0
    })?;
    let complete = calm.get(&("sniffer_capture_complete_ratio".to_owned(), Vec::new()));
    ensure!(complete >= Some(&0.999), "{complete:?}");
    scene.send(&rough_traffic(4, 80), 5_000)?;
    let lossy = scrape_until(server, |now| {
        sum(now, "sniffer_half_calls_total", ("", "")) > 20.0 && warns(now, "W071")
    })?;
    let alerts = [
        "SnifferIncomplete",
        "SnifferPacketsLostBefore",
        "SnifferHalfCalls",
    ];
    let mut expected = vec![
        at(19, "SnifferWarning", false),
        at(55, "SnifferWarning", true),
    ];
    for alert in alerts {
        expected.push(at(19, alert, false));
    }
    expected.push(at(27, "SnifferPacketsLostBefore", true));
    expected.push(at(27, "SnifferHalfCalls", true));
    expected.push(at(35, "SnifferIncomplete", true));
    test_moments(&[calm, lossy.clone(), lossy], &expected)?;
    capture.stop()?;
    Ok(())
}

/// A spool whose disk is full.
#[test]
fn a_full_disk_fires_its_alert() -> Result<()> {
    let scene = Scene::new()?;
    let server = &scene.lab.server;
    let folder = tempfile::tempdir()?;
    let disk = Disk::mount(folder.path(), "64k")?;
    let spool = folder.path().join("spool").display().to_string();
    let settings = [("NET_DEVICE", "s0"), ("SNIFFER_SPOOL", &spool)];
    let capture = scene.capture(&settings)?;
    let calm = scrape_until(server, |now| {
        now.contains_key(&("sniffer_output_up".to_owned(), Vec::new())) || !now.is_empty()
    })?;
    scene.collector.set_behaviour(Behaviour::Refuse(503));
    for _ in 0..10 {
        scene.get("/large.bin")?;
    }
    let failing = scrape_until(server, |now| {
        sum(now, "sniffer_spool_failing", ("", "")) == 1.0
    })?;
    let expected = [
        at(19, "SnifferSpoolFailing", false),
        at(23, "SnifferSpoolFailing", true),
    ];
    test_moments(&[calm, failing], &expected)?;
    capture.terminate()?;
    drop(disk);
    Ok(())
}

/// A store whose disk is full.
#[test]
fn a_store_without_room_fires_its_alert() -> Result<()> {
    let namespace = Namespace::new("nowhere")?;
    let folder = tempfile::tempdir()?;
    let disk = Disk::mount(folder.path(), "2m")?;
    let mut command = store::command(folder.path());
    command.env("SNIFFER_UI_TOKEN", "off");
    let mut store = Running::start(&mut namespace.enter(&command))?;
    store.wait_for_log("store ready", PATIENCE)?;
    let scrape = |up: f64| {
        eventually(PATIENCE, || {
            let page =
                namespace.inside(|| request("127.0.0.1:7700", "GET", "/metrics", &[], b""))?;
            let now = parse(&String::from_utf8(page.body)?)?;
            ensure!(sum(&now, "sniffer_store_up", ("", "")) == up, "{now:?}");
            Ok(now)
        })
    };
    let before = scrape(1.0)?;
    let body = "x".repeat(100_000);
    let line = format!(
        r#"[["request_method","GET"],["request_url","http://a/"],["response_body","{body}"]]"#
    );
    eventually(PATIENCE, || {
        let posted = store::post(&namespace, &line)?;
        ensure!(posted.status == 503, "there is room still");
        Ok(())
    })?;
    let full = scrape(0.0)?;
    let expected = [
        at(19, "SnifferStoreFailing", false),
        at(22, "SnifferStoreFailing", true),
    ];
    test_moments(&[before, full], &expected)?;
    store.terminate(PATIENCE)?;
    drop(disk);
    Ok(())
}

/// Two capture threads, of which one has the only connection, and rules that need long for each of its calls. There are always some
/// calls that it has not read yet, and never so many that bodies are cut.
#[test]
fn a_thread_that_does_all_the_work_fires_its_alert() -> Result<()> {
    const AHEAD: f64 = 24.0;
    let scene = Scene::new()?;
    let rules = "include debug\n/request_body/ remove_if /.*(?=(a*)*b).*/";
    let settings = [
        ("NET_DEVICE", "s0"),
        ("SNIFFER_SHARDS", "2"),
        ("USAGE_LOGGERS_RULES", rules),
    ];
    let capture = scene.capture(&settings)?;
    let server = &scene.lab.server;
    let scrape = || parse(&String::from_utf8(get(server, "/metrics")?.body)?);
    let before = scrape()?;
    let lab = &scene.lab;
    let mut connection = lab.client.inside(|| TcpStream::connect("10.77.0.1:80"))?;
    let body = "a".repeat(200_000);
    let call = format!(
        "POST /hello HTTP/1.1\r\nHost: shop\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut answers = BufReader::new(connection.try_clone()?);
    let deadline = Instant::now() + 3 * PATIENCE;
    let mut sent = 0.0;
    let hot = loop {
        let now = scrape()?;
        if warns(&now, "W074") {
            break now;
        }
        ensure!(Instant::now() < deadline, "no W074: {now:?}");
        if sent > sum(&now, "sniffer_message_calls_seen_total", ("", "")) + AHEAD {
            std::thread::sleep(Duration::from_millis(5));
            continue;
        }
        connection.write_all(call.as_bytes())?;
        let mut line = String::new();
        while !line.contains("hello from nginx") {
            line.clear();
            ensure!(answers.read_line(&mut line)? > 0, "nginx has closed it");
        }
        sent += 1.0;
    };
    let expected = [
        at(19, "SnifferShardBusy", false),
        at(26, "SnifferShardBusy", true),
    ];
    test_moments(&[before, hot], &expected)?;
    capture.terminate()?;
    Ok(())
}

/// What the command prints is what the repository has, and it replaces no file.
#[test]
fn the_dashboard_is_printed_and_written() -> Result<()> {
    let file = |path: &str| fs::read_to_string(repository().join(path));
    let printed = sniffer_ends(&["dashboard"], &[])?;
    assert_eq!(printed.stdout, file("deploy/grafana/sniffer.json")?);
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("alerts.yml").display().to_string();
    let words = ["dashboard", "--alerts", "-o", &path];
    assert_eq!(sniffer_ends(&words, &[])?.code()?, 0);
    assert_eq!(fs::read_to_string(&path)?, file(RULES)?);
    let ended = sniffer_ends(&words, &[])?;
    ensure!(
        ended.code()? == 2 && ended.stderr.contains("E121"),
        "{ended:?}"
    );
    Ok(())
}
