//! What the sinks that deliver have done, what their spools hold, and the totals of all processes that have used these.

use std::fmt::Display;
use std::time::{Duration, SystemTime};

use super::text::{Text, seconds};
use crate::sink::spool;
use crate::sink::stats::{Snapshot, Times};
use crate::status::{self, Calls};

/// What the sinks that deliver have done. A label names the sink where there are several.
pub(super) fn output(page: &mut Text, sinks: &[Snapshot]) {
    let sinks = Sinks {
        is_one: sinks.len() == 1,
        all: sinks.iter().filter(|sink| sink.detail.is_some()).collect(),
    };
    if sinks.all.is_empty() {
        return;
    }
    of_their_kinds(page, &sinks);
    for (name, help, count) in [
        (
            "sniffer_output_bundles_sent_total",
            "Bundles that the destination acknowledged.",
            (|sink| sink.counters.bundles_sent) as fn(&Snapshot) -> u64,
        ),
        (
            "sniffer_output_sent_bytes_total",
            "Bytes of their bodies as sent.",
            |sink| sink.counters.bytes_sent,
        ),
        (
            "sniffer_output_up",
            "Whether the last try succeeded, or none was made yet.",
            |sink| u64::from(!sink.down),
        ),
        (
            "sniffer_output_queue_bundles",
            "Bundles that wait for delivery or are on their way.",
            |sink| sink.counters.bundles_queued,
        ),
        ("sniffer_output_queue_calls", "Calls in them.", |sink| {
            sink.counters.calls_queued
        }),
        (
            "sniffer_output_queue_bytes",
            "Bytes of their bodies.",
            |sink| sink.counters.bytes_queued,
        ),
    ] {
        sinks.each(page, name, help, |sink| Some(count(sink)));
    }
    sinks.each(
        page,
        "sniffer_output_oldest_seconds",
        "How long the oldest of them has waited.",
        |sink| Some(oldest(sink).as_secs_f64()),
    );
    sinks.each(
        page,
        "sniffer_output_last_success_timestamp_seconds",
        "When a bundle was last acknowledged, in seconds since 1970.",
        |sink| sink.last_success.map(seconds),
    );
    delivery(page, &sinks);
    spool(page, &sinks);
}

/// Name and help of a metric, and its value.
type SpoolRow = (&'static str, &'static str, fn(&spool::Snapshot) -> u64);

/// What is on disk, of the sinks that have a spool.
fn spool(page: &mut Text, sinks: &Sinks<'_>) {
    let rows: [SpoolRow; 10] = [
        (
            "sniffer_spool_bytes",
            "Bytes of the files of the spool.",
            |spool| spool.totals.bytes,
        ),
        (
            "sniffer_spool_segments",
            "Spool segments, of two files each.",
            |spool| spool.totals.segments,
        ),
        (
            "sniffer_spool_calls",
            "Calls in the spool that are not delivered, those that are in memory as well included.",
            |spool| spool.totals.calls,
        ),
        (
            "sniffer_spool_held_calls",
            "Of these, calls that are held because the rules have changed.",
            |spool| spool.totals.held_calls,
        ),
        (
            "sniffer_spool_written_bytes_total",
            "Bytes written.",
            |spool| spool.written_bytes,
        ),
        (
            "sniffer_spool_failed_writes_total",
            "Writes that failed.",
            |spool| spool.failed_writes,
        ),
        (
            "sniffer_spool_syncs_total",
            "Times that written bundles were synced to the disk.",
            |spool| spool.syncs,
        ),
        (
            "sniffer_spool_failing",
            "1 while bundles cannot be written, and are kept in memory only.",
            |spool| u64::from(!spool.trouble.is_empty()),
        ),
        (
            "sniffer_spool_damaged_calls_total",
            "Calls of earlier processes that cannot be read.",
            |spool| spool.damage.calls,
        ),
        (
            "sniffer_spool_unknown_calls_total",
            "Calls of earlier processes without a record: whether they were delivered is unknown.",
            |spool| spool.damage.unknown,
        ),
    ];
    if sinks.all.iter().any(|sink| sink.spool.is_some()) {
        for (name, help, count) in rows {
            sinks.each(page, name, help, |sink| sink.spool.as_ref().map(count));
        }
    }
}

/// The ledger of all processes that have used a spool, for each sink that has one: `seen + stream_parts + recovered` of its buckets
/// are the sum of the others.
pub(super) fn lifetime(page: &mut Text, sinks: &[Snapshot], calls: &[(String, Calls)]) {
    const CALLS: &str = "sniffer_lifetime_calls";
    let spooled: Vec<(&Snapshot, &Calls)> = (sinks.iter().zip(calls))
        .filter(|(sink, _)| sink.spool.is_some())
        .map(|(sink, (_, calls))| (sink, calls))
        .collect();
    let sinks = Sinks {
        all: spooled.iter().map(|(sink, _)| *sink).collect(),
        is_one: sinks.len() == 1,
    };
    sinks.each(
        page,
        "sniffer_lifetime_processes",
        "Processes that have used the spool, this one included.",
        |sink| sink.spool.as_ref().map(|spool| spool.before.processes),
    );
    if !sinks.all.is_empty() {
        page.metric(
            CALLS,
            "Calls of all processes that have used the spool, by what became of them.",
        );
    }
    for (sink, calls) in spooled {
        let Some(spool) = &sink.spool else { continue };
        let status::Lifetime { killed, calls, .. } = spool.before.status(calls);
        let dropped = calls.dropped_total();
        for (bucket, count) in [
            ("seen", calls.seen),
            ("stream_parts", calls.stream_parts),
            ("recovered", calls.recovered),
            ("sent", calls.sent),
            ("stopped", calls.stopped),
            ("sampled_out", calls.sampled),
            ("dropped", dropped),
            ("killed", killed),
            ("spooled", calls.spooled),
            ("in_flight", calls.in_flight),
        ] {
            let mut labels = sinks.labels(sink);
            labels.push(("bucket", &bucket));
            page.sample(CALLS, &labels, count);
        }
    }
}

/// The metrics that only one kind of sink has.
fn of_their_kinds(page: &mut Text, sinks: &Sinks<'_>) {
    let all = || (sinks.all.iter()).flat_map(|sink| Some((*sink, sink.detail.as_ref()?)));
    let mut done = Vec::new();
    for metric in all().flat_map(|(_, detail)| &detail.metrics) {
        if done.contains(&metric.name) {
            continue;
        }
        done.push(metric.name);
        page.metric(metric.name, metric.help);
        for (sink, detail) in all() {
            let same = detail
                .metrics
                .iter()
                .filter(|other| other.name == metric.name);
            for (text, count) in same.flat_map(|metric| &metric.samples) {
                let mut labels = sinks.labels(sink);
                if !metric.label.is_empty() {
                    labels.push((metric.label, text));
                }
                page.sample(metric.name, &labels, count);
            }
        }
    }
}

/// Those that a part of the page is about.
struct Sinks<'a> {
    all: Vec<&'a Snapshot>,
    /// There is no other sink, whether it delivers or not.
    is_one: bool,
}

impl Sinks<'_> {
    fn labels<'s>(&self, sink: &'s Snapshot) -> Vec<(&'s str, &'s dyn Display)> {
        match self.is_one {
            true => Vec::new(),
            false => vec![("sink", &sink.name)],
        }
    }

    /// A metric of one sample for each sink that has a value.
    fn each<T: Display>(
        &self,
        page: &mut Text,
        name: &str,
        help: &str,
        value: impl Fn(&Snapshot) -> Option<T>,
    ) {
        let values: Vec<_> = (self.all.iter())
            .filter_map(|sink| Some((*sink, value(sink)?)))
            .collect();
        if !values.is_empty() {
            page.metric(name, help);
        }
        for (sink, value) in values {
            page.sample(name, &self.labels(sink), value);
        }
    }
}

/// The age of the oldest bundle that waits.
fn oldest(sink: &Snapshot) -> Duration {
    let age = sink
        .oldest
        .and_then(|since| SystemTime::now().duration_since(since).ok());
    age.unwrap_or_default()
}

fn delivery(page: &mut Text, sinks: &Sinks<'_>) {
    const NAME: &str = "sniffer_output_delivery_seconds";
    page.head(
        NAME,
        "histogram",
        "From a closed bundle in the uploader's hands to its acknowledgement, all tries together.",
    );
    for sink in &sinks.all {
        let times = &sink.delivery;
        let bucket = format!("{NAME}_bucket");
        let mut sum = 0;
        for (edge, count) in Times::EDGES.iter().zip(times.counts) {
            sum += count;
            let mut labels = sinks.labels(sink);
            labels.push(("le", edge));
            page.sample(&bucket, &labels, sum);
        }
        let all: u64 = times.counts.iter().sum();
        let labels = sinks.labels(sink);
        let last = [&labels[..], &[("le", &"+Inf")]].concat();
        page.sample(&bucket, &last, all);
        page.sample(&format!("{NAME}_sum"), &labels, times.total.as_secs_f64());
        page.sample(&format!("{NAME}_count"), &labels, all);
    }
}
