//! The counters of one moment in Prometheus' text format, version 0.0.4.
//!
//! Each counter of each stage is one series a shard, under a name of `families` or under its own; the
//! doc comment of the counter is its help. Labels are reasons, numbers and the program's own words.

mod sinks;
mod text;
mod traffic;

use std::fmt::Display;
use std::time::SystemTime;

use engine_core::decap::VniSeen;
use engine_core::message::{self, Durations, NetworkTable};
use engine_core::uploads::SenderTable;

use self::sinks::{lifetime, output};
use self::text::{Text, seconds};
use super::families::{self, Pool, Series};
use crate::counters::Stages;
use crate::process::Process;
use crate::sink::stats::Snapshot;
use crate::status::{Calls, Completeness, Killed, Port, RuleHits};

/// The stage whose counters each rule set has for itself.
const LINES_STAGE: &str = "message";

/// What is shown, read at one moment.
#[derive(Clone, Debug, Default)]
pub struct Moment {
    /// When the capture started.
    pub started: Option<SystemTime>,
    /// Packets are captured: it was not stopped, and a ring is open.
    pub is_on: bool,
    /// The counters of each shard.
    pub shards: Vec<Stages>,
    /// Of each shard: what became of lines under each rule set behind the first.
    pub further: Vec<Vec<message::Counters>>,
    /// Skipped uploads of other sniffers.
    pub senders: SenderTable,
    /// The networks in tunnels.
    pub vnis: Vec<VniSeen>,
    /// The calls of these.
    pub networks: NetworkTable,
    /// How long calls took.
    pub durations: Durations,
    /// Connections by the server's port and their protocol.
    pub ports: Vec<Port>,
    /// The ledger of calls of each sink, by its name.
    pub calls: Vec<(String, Calls)>,
    /// The counters of each sink.
    pub sinks: Vec<Snapshot>,
    /// Of each rule set, under the name of its first sink, each rule's matches in the order of their lines.
    pub rules: Vec<(String, Vec<RuleHits>)>,
    /// Reloads of the rules that succeeded, and that failed.
    pub reloads: (u64, u64),
    /// Captures of the same supervisor that were killed before.
    pub killed: Killed,
    /// Bytes of all rings.
    pub ring_bytes: u64,
    /// The memory limit in bytes.
    pub memory_limit_bytes: u64,
    /// Codes of the warnings that hold, each once.
    pub warnings: Vec<String>,
    /// Memory, threads and CPU time of this process.
    pub process: Process,
}

/// The whole page.
pub fn page(moment: &Moment) -> String {
    let mut page = Text::default();
    program(&mut page, moment);
    faults(&mut page, moment);
    calls(&mut page, &moment.calls, moment.killed);
    uploads(&mut page, moment);
    rules(&mut page, moment);
    output(&mut page, &moment.sinks);
    lifetime(&mut page, &moment.sinks, &moment.calls);
    memory(&mut page, moment);
    traffic::networks(&mut page, &moment.vnis, &moment.networks);
    traffic::ports(&mut page, &moment.ports);
    traffic::durations(&mut page, &moment.durations);
    stages(&mut page, moment);
    process(&mut page, &moment.process);
    page.0
}

/// Adds the clients of the metrics port that were given up.
pub(super) fn clients(text: &mut String, closed: u64, refused: u64) {
    const NAME: &str = "sniffer_metrics_clients_total";
    let mut page = Text(std::mem::take(text));
    page.metric(
        NAME,
        "Clients of this port that were given up: closed for the next one while they stalled, or refused without a place",
    );
    for (outcome, count) in [("closed", closed), ("refused", refused)] {
        page.sample(NAME, &[("outcome", &outcome)], count);
    }
    *text = page.0;
}

fn program(page: &mut Text, moment: &Moment) {
    let uploader = (moment.sinks.iter())
        .find_map(|sink| sink.detail.as_ref())
        .map_or("none", |detail| detail.transport.as_str());
    // Without the reason in brackets.
    let uploader = uploader.split(' ').next().unwrap_or(uploader);
    page.metric(
        "sniffer_build_info",
        "Version and ways of doing I/O; always 1.",
    );
    page.sample(
        "sniffer_build_info",
        &[
            ("version", &env!("CARGO_PKG_VERSION")),
            ("engine", &"af_packet_v3"),
            ("uploader", &uploader),
        ],
        1,
    );
    page.single("sniffer_up", "The capture process runs.", 1);
    page.single(
        "sniffer_capture_on",
        "1 while packets are captured; 0 while no interface is open, or the capture is being stopped.",
        u64::from(moment.is_on),
    );
    if let Some(started) = moment.started {
        page.single(
            "sniffer_start_time_seconds",
            "When the capture started, in seconds since 1970.",
            seconds(started),
        );
    }
}

/// How much was captured, and what is wrong.
fn faults(page: &mut Text, moment: &Moment) {
    let completeness = Completeness::of(&moment.shards.iter().collect());
    if let Some(ratio) = completeness.ratio() {
        page.single(
            "sniffer_capture_complete_ratio",
            "Captured part of the payload bytes that were captured or acknowledged, 0 to 1.",
            ratio,
        );
    }
    page.metric(
        "sniffer_warning",
        "1 for each warning that holds, by its code; `sniffer help CODE` explains it.",
    );
    for code in &moment.warnings {
        page.sample("sniffer_warning", &[("code", code)], 1);
    }
}

/// Name and help of a metric, and its value in the ledger.
type CallsRow = (&'static str, &'static str, fn(&Calls) -> i64);

/// The ledger: `seen + recovered = sent + stopped + sampled_out + dropped + spooled + in_flight + unaccounted`. A label names
/// the sink where there are several, and the equation holds for each.
fn calls(page: &mut Text, sinks: &[(String, Calls)], killed: Killed) {
    let rows: [CallsRow; 8] = [
        (
            "sniffer_calls_recovered_total",
            "Calls that earlier processes left in the spool.",
            |calls| calls.recovered.cast_signed(),
        ),
        (
            "sniffer_calls_sent_total",
            "Calls that the destination acknowledged.",
            |calls| calls.sent.cast_signed(),
        ),
        (
            "sniffer_calls_stopped_total",
            "Calls kept back by a rule, or because nothing is to be sent.",
            |calls| calls.stopped.cast_signed(),
        ),
        (
            "sniffer_calls_sampled_out_total",
            "Calls kept back by the sample rule.",
            |calls| calls.sampled.cast_signed(),
        ),
        (
            "sniffer_calls_stream_parts_total",
            "Lines of streams that are written in parts, without the last line of each.",
            |calls| calls.stream_parts.cast_signed(),
        ),
        (
            "sniffer_calls_spooled",
            "Calls on disk alone, to be delivered later.",
            |calls| calls.spooled.cast_signed(),
        ),
        (
            "sniffer_calls_in_flight",
            "Calls on their way, counted where they are.",
            |calls| calls.in_flight.cast_signed(),
        ),
        (
            "sniffer_calls_unaccounted",
            "Calls in no bucket of the ledger: anything but 0 is a bug.",
            |calls| calls.unaccounted,
        ),
    ];
    let label = |name| of_sink(sinks.len(), name);
    const SEEN: &str = "sniffer_calls_seen_total";
    page.metric(SEEN, "Calls that ended.");
    for (name, calls) in sinks {
        let mut labels: Vec<(&str, &dyn Display)> = vec![("proto", &"http1")];
        labels.extend(label(name));
        page.sample(SEEN, &labels, calls.seen);
    }
    for (metric, help, count) in rows {
        page.metric(metric, help);
        for (name, calls) in sinks {
            let labels: Vec<_> = label(name).collect();
            page.sample(metric, &labels, count(calls));
        }
    }
    const DROPPED: &str = "sniffer_calls_dropped_total";
    page.metric(DROPPED, "Calls lost, by reason.");
    for (name, calls) in sinks {
        for (reason, count) in &calls.dropped {
            let mut labels: Vec<(&str, &dyn Display)> = vec![("reason", reason)];
            labels.extend(label(name));
            page.sample(DROPPED, &labels, count);
        }
    }
    page.single(
        "sniffer_killed_captures_total",
        "Captures of the same all-in-one before this one that ended without a final report, such as by SIGKILL.",
        killed.captures,
    );
    page.single(
        "sniffer_killed_calls_total",
        "Calls that these had in flight when they last published that: lost, but for those delivered after it.",
        killed.calls,
    );
}

/// The label that names a sink; none where it is the only one.
fn of_sink<N: Display>(
    sinks: usize,
    name: &N,
) -> impl Iterator<Item = (&'static str, &dyn Display)> {
    let name: &dyn Display = name;
    (sinks > 1).then_some(("sink", name)).into_iter()
}

/// The sniffers whose uploads were skipped; `name` is the only label whose text comes from the traffic, and has only
/// letters, digits, dots, hyphens and underscores.
fn uploads(page: &mut Text, moment: &Moment) {
    const NAME: &str = "sniffer_upload_senders_total";
    page.metric(
        NAME,
        "Skipped uploads of other sniffers, by the name of the sniffer.",
    );
    for row in moment.senders.rows() {
        page.sample(NAME, &[("name", &row.sender.as_str())], row.uploads);
    }
}

/// A rule is identified by its number among the rules in use, its line and its verb; its text is private.
fn rules(page: &mut Text, moment: &Moment) {
    const HITS: &str = "sniffer_rule_hits_total";
    page.metric(
        HITS,
        "Details that the rule stopped, removed or changed, since these rules are in use.",
    );
    for (name, rules) in &moment.rules {
        for (number, rule) in rules.iter().enumerate() {
            let number = number + 1;
            let mut labels: Vec<(&str, &dyn Display)> = vec![
                ("rule", &number),
                ("line", &rule.line),
                ("verb", &rule.verb),
            ];
            labels.extend(of_sink(moment.rules.len(), name));
            page.sample(HITS, &labels, rule.hits);
        }
    }
    const RELOADS: &str = "sniffer_rules_reload_total";
    page.metric(RELOADS, "Times that the rules were read again.");
    page.sample(RELOADS, &[("result", &"ok")], moment.reloads.0);
    page.sample(RELOADS, &[("result", &"failed")], moment.reloads.1);
}

fn memory(page: &mut Text, moment: &Moment) {
    const NAME: &str = "sniffer_memory_bytes";
    page.metric(
        NAME,
        "Memory by what it is for. Rings do not count towards the limit.",
    );
    page.sample(NAME, &[("pool", &"ring")], moment.ring_bytes);
    for Pool { label, bytes, .. } in families::POOLS {
        let bytes: u64 = moment.shards.iter().map(|shard| bytes(&shard.held)).sum();
        page.sample(NAME, &[("pool", &label)], bytes);
    }
    let queue = moment.sinks.iter().map(|sink| sink.counters.bytes_queued);
    page.sample(NAME, &[("pool", &"queue")], queue.sum::<u64>());
    page.single(
        "sniffer_memory_limit_bytes",
        "The memory limit: for flows, open calls and bundles.",
        moment.memory_limit_bytes,
    );
}

/// Every cell of every shard, once. Those of the stage that writes lines come once for each rule set, under the name of its first sink.
fn stages(page: &mut Text, moment: &Moment) {
    let no_further = Vec::new();
    let shards = moment.shards.iter().enumerate();
    // Of each shard: the values with the lines of each rule set.
    let shards: Vec<Vec<Vec<u64>>> = shards
        .map(|(shard, stages)| {
            let further = moment.further.get(shard).unwrap_or(&no_further).iter();
            let sets = std::iter::once(&stages.message).chain(further);
            sets.map(|&message| Stages { message, ..*stages }.values().collect())
                .collect()
        })
        .collect();
    let of_lines: Vec<bool> = Stages::cells()
        .map(|cell| cell.stage == LINES_STAGE)
        .collect();
    for series in families::all() {
        let Series {
            name,
            help,
            is_ratio,
            cells,
        } = series;
        page.metric(&name, &help);
        for (shard, sets) in shards.iter().enumerate() {
            for (index, label) in &cells {
                let is_of_lines = of_lines.get(*index) == Some(&true);
                let shown = if is_of_lines { sets.len() } else { 1 };
                for (number, values) in sets.iter().take(shown).enumerate() {
                    let value = values.get(*index).copied().unwrap_or(0);
                    let mut labels: Vec<(&str, &dyn Display)> = vec![("shard", &shard)];
                    if let Some((label, text)) = label {
                        labels.push((label, text));
                    }
                    if let Some((sink, _)) = moment.rules.get(number).filter(|_| is_of_lines) {
                        labels.extend(of_sink(sets.len(), sink));
                    }
                    if is_ratio {
                        page.sample(&name, &labels, value as f64 / 1000.0);
                    } else {
                        page.sample(&name, &labels, value);
                    }
                }
            }
        }
    }
}

/// The names are those of Prometheus' own client libraries.
fn process(page: &mut Text, process: &Process) {
    for (name, help, value) in [
        (
            "process_resident_memory_bytes",
            "Resident memory, rings included.",
            process.resident_bytes,
        ),
        (
            "process_anonymous_memory_bytes",
            "Resident memory that belongs to no file and no ring.",
            process.anonymous_bytes,
        ),
        ("process_threads", "Threads.", process.threads),
        ("process_open_fds", "Open descriptors.", process.descriptors),
    ] {
        if let Some(value) = value {
            page.single(name, help, value);
        }
    }
    if let Some(spent) = process.cpu {
        page.single(
            "process_cpu_seconds_total",
            "CPU time, of user and system.",
            spent.as_secs_f64(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::stats::{Detail, Metric, Times};

    #[test]
    fn labels_and_help_are_escaped() {
        let mut page = Text::default();
        page.metric("a_total", " One\\two\nthree.");
        page.sample("a_total", &[("x", &"a\"b\\c\nd"), ("y", &1)], 7);
        page.single("b", "B.", -1);
        assert_eq!(
            page.0,
            "# HELP a_total One\\\\two three.\n# TYPE a_total counter\na_total{x=\"a\\\"b\\\\c\\nd\",y=\"1\"} 7\n\
             # HELP b B.\n# TYPE b gauge\nb -1\n"
        );
    }

    fn sink(name: &str) -> Snapshot {
        let mut delivery = Times::default();
        delivery.counts[0] = 2;
        delivery.counts[3] = 1;
        *delivery.counts.last_mut().unwrap() = 4;
        Snapshot {
            name: name.to_owned(),
            delivery,
            detail: Some(Detail {
                metrics: vec![Metric {
                    name: "sniffer_output_requests_total",
                    help: "Requests.",
                    label: "code",
                    samples: vec![("none", 0), ("2xx", 3)],
                }],
                ..Detail::default()
            }),
            ..Snapshot::default()
        }
    }

    #[track_caller]
    fn check_output(sinks: &[Snapshot], lines: &[&str]) {
        let mut page = Text::default();
        output(&mut page, sinks);
        for line in lines {
            assert!(page.0.contains(&format!("{line}\n")), "{line}: {}", page.0);
        }
        let heads = page.0.lines().filter(|line| line.starts_with("# TYPE"));
        let names: Vec<&str> = heads.collect();
        assert_eq!(
            names.len(),
            if sinks.is_empty() { 0 } else { 9 },
            "{names:?}"
        );
    }

    #[test]
    fn a_histogram_adds_up() {
        check_output(
            &[sink("default")],
            &[
                "sniffer_output_delivery_seconds_bucket{le=\"0.01\"} 2",
                "sniffer_output_delivery_seconds_bucket{le=\"0.1\"} 3",
                "sniffer_output_delivery_seconds_bucket{le=\"60\"} 3",
                "sniffer_output_delivery_seconds_bucket{le=\"+Inf\"} 7",
                "sniffer_output_delivery_seconds_count 7",
            ],
        );
    }

    #[test]
    fn several_sinks_differ_by_a_label() {
        check_output(&[], &[]);
        check_output(
            &[sink("default")],
            &[
                "sniffer_output_requests_total{code=\"2xx\"} 3",
                "sniffer_output_up 1",
            ],
        );
        check_output(
            &[sink("default"), Snapshot::default(), sink("archive")],
            &[
                "sniffer_output_requests_total{sink=\"default\",code=\"2xx\"} 3",
                "sniffer_output_requests_total{sink=\"archive\",code=\"none\"} 0",
                "sniffer_output_up{sink=\"archive\"} 1",
                "sniffer_output_delivery_seconds_bucket{sink=\"archive\",le=\"+Inf\"} 7",
                "sniffer_output_delivery_seconds_sum{sink=\"default\"} 0",
            ],
        );
    }

    /// Two shards with two rule sets: lines of each, and everything before them once.
    #[test]
    fn each_rule_set_has_the_counters_of_its_lines() {
        let lines = |lines_written| message::Counters {
            lines_written,
            ..message::Counters::default()
        };
        let mut moment = Moment {
            shards: [3, 4]
                .map(|count| Stages {
                    message: lines(count),
                    ..Stages::default()
                })
                .into(),
            rules: vec![("default".to_owned(), Vec::new())],
            ..Moment::default()
        };
        let found = |moment: &Moment, metric: &str| {
            let text = page(moment);
            let samples = text.lines().filter(|line| line.starts_with(metric));
            samples.map(ToOwned::to_owned).collect::<Vec<_>>()
        };
        let kept = "sniffer_rules_calls_total{shard=\"1\",result=\"kept\"";
        assert_eq!(found(&moment, kept), [format!("{kept}}} 4")]);
        moment.further = vec![vec![lines(1)], vec![lines(2)]];
        moment.rules.push(("near".to_owned(), Vec::new()));
        let expected = [
            format!("{kept},sink=\"default\"}} 4"),
            format!("{kept},sink=\"near\"}} 2"),
        ];
        assert_eq!(found(&moment, kept), expected);
        let requests = "sniffer_http_requests_total{shard=\"1\"";
        assert_eq!(found(&moment, requests), [format!("{requests}}} 0")]);
    }

    #[test]
    fn a_rule_is_shown_by_place_and_verb_alone() {
        let rule = RuleHits {
            line: 4,
            verb: "remove_if".into(),
            rule: "/secret/ remove_if /4111/".into(),
            hits: 9,
        };
        let text = page(&Moment {
            rules: vec![("default".to_owned(), vec![rule])],
            shards: vec![Stages::default()],
            ..Moment::default()
        });
        assert!(
            text.contains("sniffer_rule_hits_total{rule=\"1\",line=\"4\",verb=\"remove_if\"} 9\n"),
            "{text}"
        );
        assert!(!text.contains("secret") && !text.contains("4111"));
    }
}
