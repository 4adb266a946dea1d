//! The ledger of calls: where every call went, from the counters of shards and sinks.

use std::collections::BTreeMap;

use crate::counters::{OutletCounters, RuleSetCounters, Stages};
use crate::sink::stats::Snapshot;
use crate::status::{Calls, DROP_REASONS};

/// What became of the calls for one sink: under its rule set, in the shards on their way to it, and at the sink. Each bucket is
/// read where it is counted; what they leave over is unaccounted.
pub fn calls(rule_set: &RuleSetCounters, shards: &OutletCounters, sink: &Snapshot) -> Calls {
    let message = &rule_set.message;
    let counters = &sink.counters;
    // In the order of the reasons.
    let dropped: [u64; DROP_REASONS.len()] = [
        counters.calls_dropped_refused,
        counters.calls_dropped_too_large,
        counters.calls_dropped_queue_full + shards.calls_shed_queue_full,
        message.calls_shed,
        message.calls_shed_overload,
        counters.calls_dropped_shutdown,
        counters.calls_dropped_spool_full,
        counters.calls_dropped_spool_age,
        counters.calls_dropped_spool_damaged,
        counters.calls_dropped_discarded,
        counters.calls_dropped_closed,
    ];
    Calls {
        seen: message.calls_seen,
        stream_parts: rule_set.stream_parts,
        recovered: sink.counters.calls_recovered,
        sent: sink.counters.calls_sent,
        stopped: message.calls_stopped + shards.calls_withheld,
        sampled: message.calls_sampled,
        dropped: DROP_REASONS
            .into_iter()
            .zip(dropped)
            .map(|(reason, count)| (reason.to_owned(), count))
            .collect(),
        spooled: sink.counters.calls_spooled,
        in_flight: shards.calls_waiting + sink.calls_in_flight,
        unaccounted: 0,
    }
    .balanced()
}

/// Half calls by reason.
pub fn unpaired(stages: &Stages) -> BTreeMap<String, u64> {
    let reasons = stages.http.unpaired();
    reasons
        .map(|(reason, count)| (reason.to_owned(), count))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::stats::Counters;

    #[test]
    fn every_call_is_in_one_bucket_and_what_is_in_none_is_reported() {
        let mut rule_set = RuleSetCounters::default();
        rule_set.message.calls_seen = 100;
        rule_set.message.calls_stopped = 10;
        rule_set.message.calls_sampled = 5;
        rule_set.message.calls_shed = 1;
        rule_set.message.calls_shed_overload = 9;
        let shards = OutletCounters {
            calls_withheld: 2,
            calls_shed_queue_full: 3,
            calls_waiting: 4,
            ..OutletCounters::default()
        };
        let sink = Snapshot {
            counters: Counters {
                calls_sent: 50,
                calls_dropped_refused: 5,
                calls_dropped_too_large: 1,
                calls_dropped_queue_full: 7,
                calls_dropped_shutdown: 8,
                calls_dropped_spool_full: 11,
                calls_dropped_spool_age: 12,
                calls_dropped_spool_damaged: 13,
                calls_dropped_discarded: 14,
                calls_dropped_closed: 0,
                calls_recovered: 60,
                calls_spooled: 10,
                ..Counters::default()
            },
            calls_in_flight: 3,
            ..Snapshot::default()
        };
        let calls = calls(&rule_set, &shards, &sink);
        assert_eq!(
            (calls.seen, calls.sent, calls.stopped, calls.sampled),
            (100, 50, 12, 5)
        );
        assert_eq!(
            (calls.dropped_total(), calls.in_flight, calls.unaccounted),
            (84, 7, -8)
        );
        assert_eq!((calls.recovered, calls.spooled), (60, 10));
        assert_eq!(calls.dropped["spool_damaged"], 13);
        assert_eq!(calls.dropped["overload"], 9);
        assert_eq!(calls.dropped["queue_full"], 10);
    }
}
