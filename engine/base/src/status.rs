//! The status of `sniffer status`: types whose JSON form, with stable keys, is the interface for programs. The form for
//! people is in `text`.
//!
//! It contains nothing of a captured message: only counts, settings and the program's own words.

use std::collections::BTreeMap;

use engine_core::flow::{CopyTable, Place};
use engine_core::http::{PortFlows, PortTable, Protocol};
use engine_core::uploads::SenderTable;
use serde::{Deserialize, Serialize};

use crate::counters::Stages;
use crate::diagnostic::Diagnostic;

mod lifetime;
mod text;

pub use text::{NOWHERE, PORTS_SHOWN};

/// Version of the JSON form; a key that changes its meaning or goes away makes a new one.
pub const SCHEMA: u32 = 2;

/// The reasons why calls are dropped.
pub const DROP_REASONS: [&str; 11] = [
    "refused",
    "too_large",
    "queue_full",
    "memory",
    "overload",
    "shutdown",
    "spool_full",
    "spool_age",
    "spool_damaged",
    "discarded",
    "closed",
];

/// Whether packets are captured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum State {
    /// Not capturing.
    #[default]
    Stopped,
    /// Capturing.
    Running,
    /// Stopping; what was captured is being delivered.
    Stopping,
}

/// Where every call went: `seen + stream_parts + recovered = sent + stopped + sampled + dropped + spooled + in_flight + unaccounted`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calls {
    /// Calls that were complete (and half calls, with `--half-calls`).
    pub seen: u64,
    /// Lines of streams that are written in parts, without the last line of each, which is that of the call.
    #[serde(default)]
    pub stream_parts: u64,
    /// Left in the spool by earlier processes.
    #[serde(default)]
    pub recovered: u64,
    /// Acknowledged by the destination.
    pub sent: u64,
    /// Not sent because of a rule, or because the settings send nothing.
    pub stopped: u64,
    /// Not sent because of the rule `sample`.
    pub sampled: u64,
    /// Lost, by reason.
    pub dropped: BTreeMap<String, u64>,
    /// On disk alone, to be delivered later, by this process or the next.
    #[serde(default)]
    pub spooled: u64,
    /// On their way: counted where they are, not by subtraction.
    pub in_flight: u64,
    /// What the others do not explain. Anything but 0 is a bug of the sniffer.
    pub unaccounted: i64,
}

impl Calls {
    /// Sets `unaccounted` to what the other buckets leave over.
    #[must_use]
    pub fn balanced(mut self) -> Self {
        let buckets = self.sent
            + self.stopped
            + self.sampled
            + self.dropped_total()
            + self.spooled
            + self.in_flight;
        let came = self.seen + self.stream_parts + self.recovered;
        self.unaccounted = came.cast_signed().wrapping_sub(buckets.cast_signed());
        self
    }

    /// Calls lost for any reason.
    pub fn dropped_total(&self) -> u64 {
        self.dropped.values().sum()
    }
}

/// Frames at the rings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packets {
    /// Handed to the pipeline.
    pub received: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Not read: self traffic, or the second copy of a loopback packet.
    pub ignored: u64,
    /// Dropped by the kernel because a ring was full.
    pub dropped: u64,
}

/// How much of the connections was captured: bytes in order, and those that the peer acknowledged and that never came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Completeness {
    /// Payload bytes that were delivered or not needed.
    pub captured_bytes: u64,
    /// Payload bytes that were sent and never captured, or were cut by a mirror or a snap length.
    pub missing_bytes: u64,
}

impl Completeness {
    /// From the counters of all shards.
    pub fn of(stages: &Stages) -> Self {
        let flow = &stages.flow;
        Self {
            captured_bytes: flow.flow_delivered_bytes + flow.flow_skipped_bytes,
            missing_bytes: flow.missing_bytes(),
        }
    }

    /// The captured part, from 0 to 1; nothing before the first byte.
    pub fn ratio(&self) -> Option<f64> {
        let sum = self.captured_bytes + self.missing_bytes;
        (sum > 0).then(|| self.captured_bytes as f64 / sum as f64)
    }
}

/// Delivery.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// The capture URL, or why there is none.
    pub url: String,
    /// Whether the last try succeeded; none before the first.
    pub up: Option<bool>,
    /// Status code of the last answer, 0 before the first.
    pub last_code: u16,
    /// Milliseconds since the last success.
    pub last_success_millis: Option<u64>,
    /// Why the last try failed.
    pub last_error: Option<String>,
    /// The code that explains it: `W043`.
    #[serde(default)]
    pub last_error_code: Option<String>,
    /// POSTs that were answered with success.
    pub posts: u64,
    /// Tries after the first.
    pub retries: u64,
    /// Calls waiting for delivery.
    pub queue_calls: u64,
    /// Bytes of bodies waiting for delivery.
    pub queue_bytes: u64,
    /// `io_uring`, or `epoll` with the reason why not `io_uring`.
    pub transport: String,
    /// Each of several capture URLs, in the order in which they are tried.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<UrlState>,
    /// What is kept on disk.
    #[serde(default)]
    pub spool: Option<Spool>,
}

/// One of several capture URLs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UrlState {
    /// The URL.
    pub url: String,
    /// Whether it took the last bundle that was sent to it; none before the first.
    pub up: Option<bool>,
    /// Why it did not.
    pub error: Option<String>,
}

/// The ledger of all processes that have used a spool, the present one included:
/// `seen + stream_parts + recovered = sent + stopped + sampled + dropped + killed + spooled + in_flight + unaccounted`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lifetime {
    /// When the first of them began, in milliseconds since 1970.
    pub began_millis: u64,
    /// How many they are.
    pub processes: u64,
    /// Calls that were in flight when one of them was killed: lost, but for those that were delivered after its last note.
    pub killed: u64,
    /// The rest of the ledger; `recovered` are those that were in the spool although no process has counted them.
    #[serde(flatten)]
    pub calls: Calls,
}

/// One of the places that calls are delivered to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sink {
    /// Its name in the settings.
    pub name: String,
    /// Its rules in one line.
    pub rules: String,
    /// What each of them has done, by line.
    pub rule_hits: Vec<RuleHits>,
    /// Its column of the ledger.
    pub calls: Calls,
    /// Delivery.
    pub output: Output,
}

/// The spool of a destination.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spool {
    /// Its folder.
    pub folder: String,
    /// Bytes of its files.
    pub bytes: u64,
    /// Spool segments.
    pub segments: u64,
    /// Bundles that are not delivered, whether they are in memory as well or not.
    pub bundles: u64,
    /// Calls in them.
    pub calls: u64,
    /// Of these, calls that were captured under other rules, and are held.
    pub held_calls: u64,
    /// The spool segments that they are in.
    pub held_segments: u64,
    /// Why bundles cannot be written now; empty while they can.
    pub trouble: String,
    /// Bytes that were written.
    pub written_bytes: u64,
    /// Writes that failed.
    pub failed_writes: u64,
    /// Times that written bundles were synced to the disk.
    pub syncs: u64,
    /// All processes that have used it.
    #[serde(default)]
    pub lifetime: Lifetime,
    /// Calls of earlier processes that are damaged.
    pub damaged_calls: u64,
    /// Calls of earlier processes without a record: whether they were delivered is unknown.
    pub unknown_calls: u64,
    /// Spool segments that a later version of this program wrote: they stay as they are.
    #[serde(default)]
    pub later_segments: u64,
}

/// What is left out while a shard cannot keep up; each step includes those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Nothing.
    #[default]
    None,
    /// Compression.
    CompressionOff,
    /// The ends of bodies.
    BodiesTruncated,
    /// A share of the calls.
    CallsShed,
}

/// What is left out because shards cannot keep up, now and since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overload {
    /// The highest step of all shards.
    pub step: Step,
    /// Shards at that step.
    pub shards: u64,
    /// Percentage of the calls of these shards that are not written: the mean, rounded up.
    pub shed_percent: u64,
    /// Bundles that were sent without compression although it is on.
    pub bundles_plain: u64,
    /// Bodies that were truncated.
    pub bodies_truncated: u64,
    /// Calls that were not written; also in the ledger, as dropped.
    pub calls_shed: u64,
}

impl Overload {
    /// From the counters of all shards.
    pub fn of(stages: &Stages) -> Self {
        let Stages { shard, message, .. } = stages;
        let steps = [
            (Step::CallsShed, shard.overload_shed),
            (Step::BodiesTruncated, shard.overload_thin),
            (Step::CompressionOff, shard.overload_plain),
        ];
        let worst = steps.into_iter().find(|(_, shards)| *shards > 0);
        let (step, shards) = worst.unwrap_or_default();
        Self {
            step,
            shards,
            shed_percent: shard
                .overload_shed_percent
                .div_ceil(shard.overload_shed.max(1)),
            bundles_plain: shard.bundles_plain_overload,
            bodies_truncated: message.bodies_truncated,
            calls_shed: message.calls_shed_overload,
        }
    }

    /// Whether nothing was ever left out.
    fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// Requests that are uploads of sniffers: they are skipped with their answers, and are no calls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uploads {
    /// Of this sniffer.
    pub own: u64,
    /// Of all others.
    pub other: u64,
    /// Of these, by the name of the sniffer; not all where there are many.
    pub senders: BTreeMap<String, u64>,
    /// Requests with the marker of an upload that are none, or whose marker is forged: they are calls.
    pub markers_refused: u64,
}

impl Uploads {
    /// From the counters of all shards.
    pub fn of(stages: &Stages, senders: &SenderTable) -> Self {
        let rows = senders.rows().iter();
        Self {
            own: stages.message.uploads_own,
            other: stages.message.uploads_other,
            senders: rows
                .map(|row| (row.sender.as_str().to_owned(), row.uploads))
                .collect(),
            markers_refused: stages.message.upload_markers_refused,
        }
    }
}

/// One capture, from start to stop.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capture {
    /// Names of the interfaces.
    pub interfaces: Vec<String>,
    /// What is read on them: `any port`, `VXLAN 4789, all VNIs`.
    pub reads: String,
    /// Capture threads.
    pub shards: usize,
    /// Bytes of all rings.
    pub ring_bytes: u64,
    /// How a flow finds its shard: `one ring`, `inner-flow steering` or `outer-hash steering`.
    #[serde(default)]
    pub steering: String,
    /// Split flows, as far as noticed: their calls are half calls.
    #[serde(default)]
    pub flows_apart: u64,
    /// The summary that was logged at the start.
    pub sentence: String,
    /// The ledger of calls.
    pub calls: Calls,
    /// Half calls by reason, whether delivered or not.
    pub halves: BTreeMap<String, u64>,
    /// Connections by the server's port and their protocol, those with most connections that are not read first.
    #[serde(default)]
    pub ports: Vec<Port>,
    /// Skipped uploads of sniffers.
    #[serde(default)]
    pub uploads: Uploads,
    /// Pairs of networks in which the same connections were captured.
    #[serde(default)]
    pub copies: Vec<Copies>,
    /// The ledger of frames at the rings.
    pub packets: Packets,
    /// How much of what was sent was captured.
    #[serde(default)]
    pub completeness: Completeness,
    /// Delivery.
    pub output: Output,
    /// Each sink with its column of the ledger; `calls` and `output` are those of the first.
    #[serde(default)]
    pub sinks: Vec<Sink>,
    /// What is left out because shards cannot keep up.
    #[serde(default)]
    pub overload: Overload,
    /// The rules in one line.
    pub rules: String,
    /// What each rule has done since these rules are in use, by line.
    #[serde(default)]
    pub rule_hits: Vec<RuleHits>,
    /// Resident memory of the capture process in bytes.
    pub memory_bytes: u64,
    /// The memory limit in bytes: for flows, open calls and bundles. Code, stacks and rings are not part of it.
    pub memory_limit_bytes: u64,
    /// What the process can still do: `landlock ABI 7, seccomp on, 0 capabilities`; empty while it starts.
    #[serde(default)]
    pub sandbox: String,
    /// Where metrics are served; empty when they are not.
    #[serde(default)]
    pub metrics: String,
    /// Bytes of memory for packets that are kept as they are, for files of them; 0 if none are.
    #[serde(default)]
    pub kept_packets_bytes: u64,
    /// Every counter of every stage.
    pub stages: BTreeMap<String, BTreeMap<String, u64>>,
}

impl Capture {
    /// Each sink; a status that names none has one.
    pub fn each_sink(&self) -> Vec<Sink> {
        if !self.sinks.is_empty() {
            return self.sinks.clone();
        }
        vec![Sink {
            name: "default".to_owned(),
            rules: self.rules.clone(),
            rule_hits: self.rule_hits.clone(),
            calls: self.calls.clone(),
            output: self.output.clone(),
        }]
    }
}

/// The connections to one server port, by protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// Its number.
    pub port: u16,
    /// Connections by the name of their protocol ([`Protocol::column`]).
    #[serde(flatten)]
    pub connections: BTreeMap<String, u64>,
}

impl Port {
    /// One row of a table.
    pub fn new(row: &PortFlows) -> Self {
        let named = row.by_protocol();
        let named = named.filter_map(|(protocol, flows)| Some((protocol.column()?.into(), flows)));
        Self {
            port: row.port,
            connections: named.collect(),
        }
    }

    /// The rows of a table, those with most connections that are not read first.
    pub fn all(table: &PortTable) -> Vec<Self> {
        let mut ports: Vec<Self> = table.rows().iter().map(Self::new).collect();
        ports.sort_by_key(|port| (std::cmp::Reverse(port.unread()), port.port));
        ports
    }

    /// Its connections of this protocol.
    pub fn count(&self, protocol: Protocol) -> u64 {
        let column = protocol
            .column()
            .and_then(|name| self.connections.get(name));
        column.copied().unwrap_or(0)
    }

    /// Its connections that are not read.
    fn unread(&self) -> u64 {
        unread_protocols()
            .map(|protocol| self.count(protocol))
            .sum()
    }
}

/// Two networks in which the same connections were captured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copies {
    /// What the networks are called: `plain`, `vxlan 7`.
    pub networks: [String; 2],
    /// Connections that were captured in both.
    pub connections: u64,
}

impl Copies {
    /// The rows of a table.
    pub fn all(table: &CopyTable) -> Vec<Self> {
        let name = |place: Place| match (place.encap.label().unwrap_or("plain"), place.vni) {
            (encap, None) => encap.to_owned(),
            (encap, Some(vni)) => format!("{encap} {vni}"),
        };
        let rows = table.rows().iter();
        rows.map(|row| Self {
            networks: row.places.map(name),
            connections: row.connections,
        })
        .collect()
    }
}

/// The protocols that are recognised by their first bytes, and not read.
pub fn unread_protocols() -> impl Iterator<Item = Protocol> {
    let columns = Protocol::COLUMNS.into_iter();
    columns.filter(|protocol| !protocol.is_read())
}

/// One rule and how often it matched.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleHits {
    /// Line of the rules; for a rule of a predefined set the line of its `include`.
    pub line: u64,
    /// As it was written.
    pub rule: String,
    /// What it does: `remove_if`, `stop`, ...
    #[serde(default)]
    pub verb: String,
    /// Details, or values inside them, that it stopped, removed or changed; for `stop_unless` rules those that matched.
    pub hits: u64,
}

/// The embedded store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Store {
    /// Its capture URL.
    pub url: String,
    /// Its page; empty when the store is another program.
    pub page: String,
    /// Its process, 0 when it is not running.
    pub pid: u32,
    /// The other program that has the port, when the store is not ours.
    #[serde(default)]
    pub other: String,
    /// How often it was restarted.
    pub restarts: u64,
}

/// A warning that still holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// `W070`.
    pub code: String,
    /// One sentence.
    pub text: String,
}

impl Warning {
    /// The code of a problem and what it is.
    pub fn new(problem: &Diagnostic) -> Self {
        Self {
            code: problem.code.to_string(),
            text: problem.what.clone(),
        }
    }
}

/// How the last capture ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopped {
    /// `user`, `signal`, `exit code 6`; empty when nothing was ever captured.
    pub by: String,
    /// How long ago.
    pub seconds: u64,
    /// Why the capture ended by itself or did not start, with the code of the message; empty when it was stopped.
    #[serde(default)]
    pub reason: String,
}

/// The calls in flight of a capture under a supervisor, a line on its standard output whenever the number has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InFlight {
    /// The calls.
    pub in_flight: u64,
}

/// Captures that ended without a final report, such as by SIGKILL, since the supervisor started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Killed {
    /// How many.
    pub captures: u64,
    /// Calls that they had in flight when they last published that: lost, but for those that were delivered after it.
    pub calls: u64,
}

/// The whole answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Whether packets are captured.
    pub state: State,
    /// Process that captures, 0 when stopped.
    pub pid: u32,
    /// Seconds since it started.
    pub uptime_seconds: u64,
    /// Version of the program that answers.
    pub version: String,
    /// The capture, or the last one.
    pub capture: Option<Capture>,
    /// How the last capture ended.
    pub stopped: Option<Stopped>,
    /// Captures that were killed.
    #[serde(default)]
    pub killed: Killed,
    /// The embedded store, in the all-in-one.
    pub store: Option<Store>,
    /// Warnings that still hold.
    pub warnings: Vec<Warning>,
}

/// Nothing runs.
pub fn empty() -> Status {
    Status {
        schema: SCHEMA,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..Status::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A row with these connections, and none of the other protocols.
    fn port(port: u16, connections: &[(Protocol, u64)]) -> Port {
        let of = |column| {
            connections
                .iter()
                .filter(move |(known, _)| *known == column)
        };
        let flows = Protocol::COLUMNS.map(|column| of(column).map(|(_, flows)| flows).sum());
        Port::new(&PortFlows { port, flows })
    }

    pub(super) fn running() -> Status {
        let calls = Calls {
            seen: 18_204,
            sent: 18_119,
            stopped: 61,
            in_flight: 24,
            ..Calls::default()
        }
        .balanced();
        Status {
            schema: SCHEMA,
            state: State::Running,
            pid: 18,
            killed: Killed::default(),
            uptime_seconds: 761,
            version: "0.1.0".into(),
            capture: Some(Capture {
                interfaces: vec!["ens5".into()],
                reads: "VXLAN 4789, all VNIs".into(),
                shards: 1,
                ring_bytes: 16 << 20,
                steering: "one ring".into(),
                flows_apart: 0,
                sentence: String::new(),
                calls,
                halves: BTreeMap::from([("gap".into(), 11), ("evicted".into(), 0)]),
                ports: vec![
                    port(443, &[(Protocol::Tls, 120)]),
                    port(22, &[(Protocol::Quic, 1), (Protocol::Other, 2)]),
                    port(80, &[(Protocol::Http1, 9)]),
                ],
                uploads: Uploads {
                    own: 3,
                    other: 45,
                    senders: BTreeMap::from([("web-3".into(), 40)]),
                    markers_refused: 1,
                },
                copies: Vec::new(),
                packets: Packets {
                    received: 4_100_000,
                    bytes: 2_050_000_000,
                    ignored: 3,
                    dropped: 0,
                },
                completeness: Completeness {
                    captured_bytes: 1_999_800_000,
                    missing_bytes: 200_000,
                },
                output: Output {
                    url: "https://lake.example/message".into(),
                    up: Some(true),
                    last_code: 204,
                    last_success_millis: Some(400),
                    queue_calls: 24,
                    queue_bytes: 38_000,
                    transport: "epoll".into(),
                    ..Output::default()
                },
                sinks: Vec::new(),
                overload: Overload::default(),
                rules: "include default + 1 more".into(),
                rule_hits: [(1, 18_204), (1, 90_000), (2, 0)]
                    .map(|(line, hits)| RuleHits {
                        line,
                        hits,
                        ..RuleHits::default()
                    })
                    .into(),
                metrics: "http://127.0.0.1:7702/metrics".into(),
                memory_bytes: 61 << 20,
                memory_limit_bytes: 512 << 20,
                kept_packets_bytes: 0,
                sandbox: "landlock ABI 7, seccomp on, 0 capabilities".into(),
                stages: BTreeMap::new(),
            }),
            stopped: None,
            store: Some(Store {
                url: "http://localhost:7701/message".into(),
                page: "http://localhost:7700".into(),
                pid: 17,
                other: String::new(),
                restarts: 0,
            }),
            warnings: vec![Warning {
                code: "W050".into(),
                text: "io_uring is not available".into(),
            }],
        }
    }

    #[test]
    fn json_comes_back_as_it_was_and_has_stable_words() {
        let status = running();
        let json = serde_json::to_string(&status).unwrap();
        assert!(
            json.starts_with("{\"schema\":2,\"state\":\"RUNNING\",\"pid\":18,"),
            "{json}"
        );
        assert_eq!(serde_json::from_str::<Status>(&json).unwrap(), status);
    }
}
