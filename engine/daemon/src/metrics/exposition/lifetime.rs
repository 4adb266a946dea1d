//! The totals of all processes that have used a spool.

use super::{Sinks, Text};
use crate::sink::stats::Snapshot;
use crate::status::{self, Calls};

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
