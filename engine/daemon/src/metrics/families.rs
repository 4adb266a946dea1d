//! The names of metrics: a table for counters whose names dashboards and alerts rely on; all others are exported under their
//! own names. Every counter is in exactly one metric, so a new counter is exported without a change here.

use std::borrow::Cow;

use engine_core::http::Protocol;
use engine_core::ledger::Kind;
use engine_core::pipeline::Held;

use crate::counters::{Cell, Stages};

/// A metric and the cells of a shard that it shows.
pub(super) struct Series {
    pub(super) name: String,
    pub(super) help: Cow<'static, str>,
    /// Whether the cells are thousandths of what is shown.
    pub(super) is_ratio: bool,
    /// Index of the cell, and the label that distinguishes it from the others.
    pub(super) cells: Vec<(usize, Option<(&'static str, String)>)>,
}

/// A name for some counters; a counter `x_*` stands for all whose names start with `x_`.
struct Named {
    name: &'static str,
    help: &'static str,
    label: &'static str,
    counters: Counters,
}

/// The counters that a name stands for.
enum Counters {
    /// Stage, counter and value of the label; for `*` the value is the rest of the name.
    Listed(&'static [(&'static str, &'static str, &'static str)]),
    /// The flows of each protocol that is not read, by [`Protocol::unread_as`].
    UnreadFlows,
}

const fn one(
    name: &'static str,
    help: &'static str,
    counter: &'static [(&'static str, &'static str, &'static str)],
) -> Named {
    Named {
        name,
        help,
        label: "",
        counters: Counters::Listed(counter),
    }
}

const fn by(
    name: &'static str,
    label: &'static str,
    help: &'static str,
    counters: &'static [(&'static str, &'static str, &'static str)],
) -> Named {
    Named {
        name,
        help,
        label,
        counters: Counters::Listed(counters),
    }
}

/// A gauge of the stage `held` that is bytes of memory.
pub(super) struct Pool {
    /// The value of the label `pool`.
    pub(super) label: &'static str,
    name: &'static str,
    pub(super) bytes: fn(&Held) -> u64,
}

/// The pools that are counters; those of rings and queue are not.
pub(super) const POOLS: [Pool; 4] = [
    Pool {
        label: "out_of_order",
        name: "payload_bytes",
        bytes: |held| held.payload_bytes,
    },
    Pool {
        label: "heads",
        name: "head_bytes",
        bytes: |held| held.head_bytes,
    },
    Pool {
        label: "open_calls",
        name: "exchange_bytes",
        bytes: |held| held.exchange_bytes,
    },
    Pool {
        label: "rules",
        name: "rules_bytes",
        bytes: |held| held.rules_bytes,
    },
];

impl Pool {
    fn shows(&self, cell: &Cell) -> bool {
        (cell.stage, cell.name) == ("held", self.name)
    }
}

const NAMED: &[Named] = &[
    one(
        "sniffer_capture_packets_total",
        "Frames read.",
        &[("shard", "frames_read", "")],
    ),
    one(
        "sniffer_capture_bytes_total",
        "Bytes of these frames.",
        &[("shard", "frames_read_bytes", "")],
    ),
    by(
        "sniffer_capture_ignored_packets_total",
        "reason",
        "Frames not read because they are self traffic (uploads, page, metrics); the kernel leaves most of them out.",
        &[("decap", "skipped_self_traffic", "own")],
    ),
    one(
        "sniffer_capture_ring_packets_total",
        "Frames that the kernel put into the rings, and those for which it found no space.",
        &[("shard", "ring_frames", "")],
    ),
    by(
        "sniffer_capture_dropped_packets_total",
        "reason",
        "Frames lost before they were read.",
        &[("shard", "ring_dropped_full", "ring_full")],
    ),
    one(
        "sniffer_capture_ring_freezes_total",
        "Times that a ring had no free block.",
        &[("shard", "ring_freezes", "")],
    ),
    one(
        "sniffer_capture_ring_used_ratio",
        "Used part of the fullest ring of the shard, 0 to 1: the most within a second.",
        &[("shard", "ring_used_permille", "")],
    ),
    one(
        "sniffer_shard_busy_ratio",
        "Part of its time that the shard works, 0 to 1: of the last seconds, earlier ones with less weight.",
        &[("shard", "busy_permille", "")],
    ),
    one(
        "sniffer_capture_rings_open",
        "Rings open; 0: nothing is captured.",
        &[("shard", "rings_open", "")],
    ),
    one(
        "sniffer_capture_truncated_packets_total",
        "Segments whose payload was cut by a mirror or a snap length.",
        &[("decap", "segments_cut", "")],
    ),
    one(
        "sniffer_capture_truncated_bytes_total",
        "Payload bytes that they lack.",
        &[("decap", "payload_bytes_cut", "")],
    ),
    by(
        "sniffer_decap_packets_total",
        "encap",
        "Headers of tunnels removed.",
        &[("decap", "undone_*", "")],
    ),
    by(
        "sniffer_decap_skipped_packets_total",
        "reason",
        "Frames without a TCP segment for us.",
        &[("decap", "skipped_*", "")],
    ),
    by(
        "sniffer_ip_fragments_total",
        "result",
        "IP fragments by what became of them.",
        &[
            ("decap", "fragments_joined", "joined"),
            ("decap", "fragments_duplicate", "duplicate"),
            ("decap", "fragments_refused", "refused"),
            ("decap", "fragments_expired", "expired"),
            ("decap", "fragments_evicted", "evicted"),
        ],
    ),
    by(
        "sniffer_uploads_skipped_total",
        "of",
        "Requests skipped with their answers because they are uploads of sniffers, this one or others.",
        &[
            ("message", "uploads_own", "this"),
            ("message", "uploads_other", "other"),
        ],
    ),
    one("sniffer_tcp_flows", "Flows open.", &[("held", "flows", "")]),
    one(
        "sniffer_tcp_flows_opened_total",
        "Flows seen.",
        &[("flow", "flow_opened", "")],
    ),
    one(
        "sniffer_tcp_midstream_flows_total",
        "Flows with payload whose beginning was not captured.",
        &[("flow", "flow_opened_midstream", "")],
    ),
    by(
        "sniffer_tcp_flows_ended_total",
        "reason",
        "Flows ended.",
        &[("flow", "flow_ended_*", "")],
    ),
    one(
        "sniffer_tcp_gap_bytes_total",
        "Bytes that were sent and not captured in time; payload bytes with the fate late are a part of them.",
        &[("flow", "flow_gap_bytes", "")],
    ),
    by(
        "sniffer_tcp_payload_bytes_total",
        "fate",
        "Payload bytes by what became of them.",
        &[
            ("flow", "flow_delivered_bytes", "delivered"),
            ("flow", "flow_duplicate_bytes", "duplicate"),
            ("flow", "flow_overlapped_bytes", "overlapped"),
            ("flow", "flow_skipped_bytes", "skipped"),
            ("flow", "flow_discarded_before_start_bytes", "before_start"),
            ("flow", "flow_discarded_late_bytes", "late"),
            ("flow", "flow_discarded_after_fin_bytes", "after_fin"),
            ("flow", "flow_discarded_after_end_bytes", "after_end"),
            (
                "flow",
                "flow_discarded_out_of_window_bytes",
                "out_of_window",
            ),
            ("flow", "flow_discarded_reset_bytes", "reset"),
        ],
    ),
    one(
        "sniffer_tcp_reordered_segments_total",
        "Segments that came before bytes that precede them.",
        &[("flow", "flow_segments_out_of_order", "")],
    ),
    one(
        "sniffer_tcp_retransmitted_segments_total",
        "Segments that brought no new byte: retransmitted, or captured twice.",
        &[("flow", "flow_segments_duplicate", "")],
    ),
    by(
        "sniffer_tcp_copies_total",
        "fate",
        "Connections captured more than once: the copy was removed, kept (another network), or folded into the first.",
        &[
            ("flow", "flow_copies", "removed"),
            ("flow", "flow_copies_kept", "kept"),
            ("flow", "flow_copies_folded", "folded"),
        ],
    ),
    by(
        "sniffer_half_calls_total",
        "reason",
        "Requests without response, and responses without request.",
        &[("http", "half_*", "")],
    ),
    by(
        "sniffer_http_parse_errors_total",
        "reason",
        "Heads and bodies that could not be read as they were meant.",
        &[
            ("http", "heads_malformed", "head_malformed"),
            ("http", "heads_oversized", "head_oversized"),
            ("http", "heads_shed", "head_shed"),
            ("http", "heads_cut", "head_cut"),
            ("http", "header_lines_odd", "header_line"),
            ("http", "framing_conflicts", "framing_conflict"),
            ("http", "bodies_broken", "body_broken"),
            ("http", "bodies_cut", "body_cut"),
        ],
    ),
    by(
        "sniffer_body_cut_total",
        "reason",
        "Bodies cut or left out.",
        &[
            ("message", "bodies_limited", "limit"),
            ("message", "bodies_expanded", "coding"),
            ("message", "bodies_shed", "memory"),
            ("message", "bodies_truncated", "overload"),
            ("message", "bodies_undecodable", "decode"),
            ("message", "bodies_withheld", "gap"),
            ("message", "bodies_unreadable", "rule"),
        ],
    ),
    Named {
        name: "sniffer_streams_unread_total",
        help: "Connections that are not read, or not to their end.",
        label: "looks_like",
        counters: Counters::UnreadFlows,
    },
    by(
        "sniffer_rules_calls_total",
        "result",
        "Calls by the decision of the rules.",
        &[
            ("message", "lines_written", "kept"),
            ("message", "calls_stopped", "stopped"),
            ("message", "calls_sampled", "sampled_out"),
        ],
    ),
    one(
        "sniffer_rules_doubts_total",
        "Answers of patterns that were not known when the work of a call was done; the values were hidden.",
        &[("message", "rules_doubts", "")],
    ),
    by(
        "sniffer_unaccounted",
        "level",
        "What is in no bucket of the ledger: anything but 0 is a bug.",
        &[("unaccounted", "*", "")],
    ),
];

/// All metrics: those of the table first.
pub(super) fn all() -> Vec<Series> {
    let mut named: Vec<Series> = NAMED
        .iter()
        .map(|named| Series {
            name: named.name.to_owned(),
            help: named.help.into(),
            is_ratio: named.name.ends_with("_ratio"),
            cells: Vec::new(),
        })
        .collect();
    let mut own = Vec::new();
    for (index, cell) in Stages::cells().enumerate() {
        let place = NAMED
            .iter()
            .zip(&mut named)
            .find_map(|(named, series)| Some((series, named.place(&cell)?)));
        match place {
            Some((series, label)) => series.cells.push((index, label)),
            None if POOLS.iter().any(|pool| pool.shows(&cell)) => {}
            None => own.push(Series {
                name: own_name(&cell),
                help: cell.help.into(),
                is_ratio: false,
                cells: vec![(index, None)],
            }),
        }
    }
    named.append(&mut own);
    named
}

impl Named {
    /// The label of a cell, if it is one of these.
    fn place(&self, cell: &Cell) -> Option<Option<(&'static str, String)>> {
        let text = match self.counters {
            Counters::Listed(counters) => counters.iter().find_map(|(stage, name, text)| {
                if *stage != cell.stage {
                    return None;
                }
                match name.strip_suffix('*') {
                    Some(start) => cell.name.strip_prefix(start),
                    None => (*name == cell.name).then_some(*text),
                }
            })?,
            Counters::UnreadFlows if cell.stage == "http" => {
                let mut protocols = Protocol::ALL.into_iter();
                protocols
                    .find(|protocol| protocol.counter() == Some(cell.name))?
                    .unread_as()?
            }
            Counters::UnreadFlows => return None,
        };
        Some((!self.label.is_empty()).then(|| (self.label, text.to_owned())))
    }
}

/// `sniffer_STAGE_COUNTER_total`, and `sniffer_STAGE_GAUGE`.
fn own_name(cell: &Cell) -> String {
    let stage = cell.stage;
    let name = cell.name.strip_prefix(stage).unwrap_or(cell.name);
    let name = name.trim_start_matches('_');
    match cell.kind {
        Kind::Gauge => format!("sniffer_{stage}_{name}"),
        Kind::Counter => format!("sniffer_{stage}_{name}_total"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_counter_is_in_one_metric() {
        let all = all();
        let mut shown: Vec<usize> = all
            .iter()
            .flat_map(|series| series.cells.iter().map(|(index, _)| *index))
            .collect();
        shown.sort_unstable();
        let cells = Stages::cells().enumerate();
        let pools = cells.filter(|(_, cell)| POOLS.iter().any(|pool| pool.shows(cell)));
        shown.extend(pools.map(|(index, _)| index));
        shown.sort_unstable();
        assert_eq!(shown, (0..Stages::cells().count()).collect::<Vec<_>>());
    }

    #[test]
    fn names_are_unique_and_the_table_has_no_dead_row() {
        let all = all();
        let names: BTreeSet<&str> = all.iter().map(|series| series.name.as_str()).collect();
        assert_eq!(names.len(), all.len());
        for series in &all {
            assert!(!series.cells.is_empty(), "{} shows nothing", series.name);
            let labels: BTreeSet<_> = series.cells.iter().map(|(_, label)| label).collect();
            assert_eq!(labels.len(), series.cells.len(), "{}", series.name);
        }
        for named in NAMED {
            let Counters::Listed(counters) = named.counters else {
                continue;
            };
            for (stage, name, _) in counters {
                let start = name.trim_end_matches('*');
                let is_there = |cell: Cell| cell.stage == *stage && cell.name.starts_with(start);
                assert!(Stages::cells().any(is_there), "no counter {stage}.{name}");
            }
        }
    }

    #[test]
    fn unread_connections_have_the_names_of_the_table_of_protocols() {
        let all = all();
        let unread = |series: &&Series| series.name == "sniffer_streams_unread_total";
        let labels = &all.iter().find(unread).unwrap().cells;
        let labels: BTreeSet<_> = labels
            .iter()
            .filter_map(|(_, label)| label.as_ref())
            .collect();
        for text in ["tls", "other", "unwanted_port", "tunnel", "overflowed"] {
            assert!(labels.contains(&("looks_like", text.to_owned())), "{text}");
        }
        assert!(
            all.iter()
                .any(|series| series.name == "sniffer_http_flows_http_total")
        );
    }

    #[test]
    fn own_names_have_stage_and_kind() {
        for (stage, name, expected) in [
            ("flow", "flow_gaps", "sniffer_flow_gaps_total"),
            ("http", "requests", "sniffer_http_requests_total"),
            ("held", "exchanges", "sniffer_held_exchanges"),
            ("shard", "calls_held", "sniffer_shard_calls_held"),
        ] {
            let found = Stages::cells().find(|cell| (cell.stage, cell.name) == (stage, name));
            assert_eq!(found.as_ref().map(own_name).as_deref(), Some(expected));
        }
    }
}
