//! Where every call went: counters of shards and uploader in, boxes that add up out.

use std::collections::BTreeMap;

use crate::counters::Stages;
use crate::sink::http as upload;
use crate::status::Calls;

/// Each box from where it is counted; what they leave over is unaccounted.
pub fn calls(stages: &Stages, uploads: Option<&upload::Snapshot>) -> Calls {
    let none = upload::Snapshot::default();
    let uploads = uploads.unwrap_or(&none);
    let message = |name| stages.get("message", name);
    let shard = |name| stages.get("shard", name);
    let dropped = [
        ("refused", uploads.calls_dropped_refused),
        (
            "queue_full",
            uploads.calls_dropped_queue_full + shard("calls_shed_queue_full"),
        ),
        ("memory", message("calls_shed")),
        ("overload", message("calls_shed_overload")),
        ("shutdown", uploads.calls_dropped_shutdown),
    ];
    Calls {
        seen: message("calls_seen"),
        sent: uploads.calls_sent,
        stopped: message("calls_stopped") + shard("calls_withheld"),
        sampled: message("calls_sampled"),
        dropped: dropped
            .into_iter()
            .map(|(reason, count)| (reason.to_owned(), count))
            .collect(),
        in_flight: shard("calls_held") + uploads.calls_in_flight,
        unaccounted: 0,
    }
    .balanced()
}

/// Half calls by what is missing and by reason.
pub fn halves(stages: &Stages) -> BTreeMap<String, u64> {
    let cells = stages.0.get("http").into_iter().flatten();
    cells
        .filter_map(|(name, count)| Some((name.strip_prefix("half_")?.to_owned(), *count)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counters::Published;

    fn stages(counters: &[(&str, &str, u64)]) -> Stages {
        // From the counters that there are, so that one that was renamed fails here.
        let mut stages = Stages::sum([&Published::default()]);
        for (stage, name, count) in counters {
            let cell = stages
                .0
                .get_mut(*stage)
                .and_then(|cells| cells.get_mut(*name));
            *cell.unwrap_or_else(|| panic!("no counter {stage}.{name}")) = *count;
        }
        stages
    }

    #[test]
    fn every_call_is_in_one_box_and_what_is_in_none_is_said() {
        let stages = stages(&[
            ("message", "calls_seen", 100),
            ("message", "calls_stopped", 10),
            ("message", "calls_sampled", 5),
            ("message", "calls_shed", 1),
            ("message", "calls_shed_overload", 9),
            ("shard", "calls_withheld", 2),
            ("shard", "calls_shed_queue_full", 3),
            ("shard", "calls_held", 4),
        ]);
        let uploads = upload::Snapshot {
            calls_sent: 50,
            calls_dropped_refused: 6,
            calls_dropped_queue_full: 7,
            calls_dropped_shutdown: 8,
            calls_in_flight: 3,
            ..upload::Snapshot::default()
        };
        let calls = calls(&stages, Some(&uploads));
        assert_eq!(
            (calls.seen, calls.sent, calls.stopped, calls.sampled),
            (100, 50, 12, 5)
        );
        assert_eq!(
            (calls.dropped_total(), calls.in_flight, calls.unaccounted),
            (34, 7, -8)
        );
        assert_eq!(calls.dropped["overload"], 9);
        assert_eq!(calls.dropped["queue_full"], 10);
    }

    #[test]
    fn the_counters_that_are_read_by_name_exist() {
        let counters = [
            ("decap", "undone_vxlan", 0),
            ("decap", "undone_geneve", 0),
            ("decap", "skipped_vni_unwanted", 0),
            ("http", "flows_http", 0),
            ("http", "flows_tls", 0),
            ("http", "flows_http2", 0),
            ("http", "flows_unwanted", 0),
            ("http", "half_timeout", 9),
            ("shard", "frames_read", 0),
            ("shard", "frames_read_bytes", 0),
            ("shard", "frames_ignored_own_upload", 0),
            ("shard", "ring_dropped_full", 0),
            ("shard", "flows_other_shard", 0),
            ("shard", "bundles_plain_overload", 0),
            ("shard", "overload_plain", 0),
            ("shard", "overload_thin", 0),
            ("shard", "overload_shed", 0),
            ("shard", "overload_shed_percent", 0),
            ("message", "bodies_thinned", 0),
        ];
        assert_eq!(halves(&stages(&counters))["timeout"], 9);
    }
}
